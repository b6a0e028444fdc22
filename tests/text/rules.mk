# Tests of engine/text, the driver of golden_templates.py, and the fuzzers.
RENDER_TEMPLATE := $(BUILD)/tests/text/render-template
TEST_TOOLS += $(RENDER_TEMPLATE)

$(RENDER_TEMPLATE): LDLIBS = $(TEXT_LDLIBS) -ljansson
$(RENDER_TEMPLATE): $(BUILD)/tests/text/render_template.o \
                    $(BUILD)/tests/text/json_values.o $(TEXT_LIBS)

TEXT_TESTS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/text/test_*.c))
UNIT_TESTS += $(TEXT_TESTS)
# Beside Jinja2 itself; the real templates come from fetch_llama_models.sh.
E2E_TESTS  += tests/text/golden_templates.py tests/text/compare_random.py

$(TEXT_TESTS): LDLIBS = $(TEXT_LDLIBS) -ljansson -lsodium -lcmocka
$(TEXT_TESTS): %: %.o $(BUILD)/tests/text/json_values.o \
               $(BUILD)/tests/text/small_vocab.o $(TEXT_LIBS) $(MODEL_LIBS)

TEXT_FUZZERS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/text/fuzz_*.c))
FUZZERS += $(TEXT_FUZZERS)

$(TEXT_FUZZERS): LDLIBS = $(TEXT_LDLIBS)
$(TEXT_FUZZERS): %: %.o $(BUILD)/tests/text/small_vocab.o $(TEXT_LIBS)
