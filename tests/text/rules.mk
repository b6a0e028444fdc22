# Tests of engine/text, the driver of golden_templates.py, and the fuzzers.
RENDER_TEMPLATE := $(BUILD)/tests/text/render-template
TEST_TOOLS += $(RENDER_TEMPLATE)

$(RENDER_TEMPLATE): LDLIBS = $(TEXT_LDLIBS) -ljansson
$(RENDER_TEMPLATE): $(BUILD)/tests/text/render_template.o \
                    $(BUILD)/tests/text/json_values.o $(TEXT_LIBS)
