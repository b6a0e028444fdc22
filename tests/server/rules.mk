# tests/server: a real axiond on tiny models, spoken to over the ring.

SERVER_TESTS := $(patsubst %.c,$(BUILD)/%, \
                  $(wildcard tests/server/test_server_*.c))
SERVER_PART_TESTS := $(BUILD)/tests/server/test_options \
                     $(BUILD)/tests/server/test_loop \
                     $(BUILD)/tests/server/test_helper \
                     $(BUILD)/tests/server/test_journal
UNIT_TESTS += $(SERVER_TESTS) $(SERVER_PART_TESTS)
E2E_TESTS  += tests/server/test_tool.sh

# The programs that they start need not be linked into them.
$(SERVER_TESTS): %: %.o $(BUILD)/tests/server/harness.o \
    $(BUILD)/libaxion_tiny.a $(BUILD)/libaxion_shm.a | $(BUILD)/axiond
$(SERVER_TESTS): LDLIBS = -lcmocka

# The server inside, so that it can be counted what it calls, or held back.
SERVER_INSIDE_TESTS := $(BUILD)/tests/server/test_token_path \
                       $(BUILD)/tests/server/test_first_token \
                       $(BUILD)/tests/server/test_prefault
UNIT_TESTS += $(SERVER_INSIDE_TESTS)

$(SERVER_INSIDE_TESTS): %: %.o $(BUILD)/tests/server/harness.o \
    $(BUILD)/libaxion_tiny.a $(BUILD)/libaxion_server.a \
    $(BUILD)/libaxion_spec.a $(BUILD)/libaxion_sched.a \
    $(BUILD)/libaxion_sample.a $(BUILD)/libaxion_model.a \
    $(BUILD)/libaxion_text.a $(BUILD)/libaxion_kernels.a \
    $(BUILD)/libaxion_shm.a | $(BUILD)/axiond
$(SERVER_INSIDE_TESTS): LDLIBS = $(SERVER_LDLIBS) -lcmocka
$(BUILD)/tests/server/test_token_path: LDLIBS += -Wl,--wrap=pthread_mutex_lock
$(BUILD)/tests/server/test_first_token: LDLIBS += \
    -Wl,--wrap=ax_engine_calibrate
$(BUILD)/tests/server/test_prefault: LDLIBS += -Wl,--wrap=ax_kv_populate

$(SERVER_PART_TESTS): %: %.o $(BUILD)/libaxion_server.a \
    $(BUILD)/libaxion_model.a $(BUILD)/libaxion_shm.a
$(SERVER_PART_TESTS): LDLIBS = -luring -lcmocka

DRAW_TEST := $(BUILD)/tests/server/test_draw_threads
UNIT_TESTS += $(DRAW_TEST)

$(DRAW_TEST): %: %.o $(BUILD)/libaxion_server.a $(BUILD)/libaxion_sample.a \
    $(BUILD)/libaxion_model.a $(BUILD)/libaxion_kernels.a \
    $(BUILD)/libaxion_shm.a
$(DRAW_TEST): LDLIBS = -lcmocka -lsodium -lm

GRAMMARS_TEST := $(BUILD)/tests/server/test_grammars
UNIT_TESTS += $(GRAMMARS_TEST)

$(GRAMMARS_TEST): %: %.o $(BUILD)/libaxion_server.a \
    $(BUILD)/libaxion_grammar.a $(BUILD)/libaxion_text.a \
    $(BUILD)/libaxion_model.a $(BUILD)/libaxion_shm.a
$(GRAMMARS_TEST): LDLIBS = $(TEXT_LDLIBS) -lcmocka

# --listen's parser without a socket: see the fuzzer.
FUZZ_OPTIONS := $(BUILD)/tests/server/fuzz_options
FUZZERS += $(FUZZ_OPTIONS)

$(FUZZ_OPTIONS): %: %.o $(BUILD)/libaxion_server.a \
    $(BUILD)/libaxion_model.a $(BUILD)/libaxion_shm.a
$(FUZZ_OPTIONS): LDLIBS = -Wl,--wrap=socket -luring

FUZZ_MODEL := $(BUILD)/tests/server/fuzz_model
FUZZERS += $(FUZZ_MODEL)

$(FUZZ_MODEL): %: %.o $(BUILD)/libaxion_server.a \
    $(BUILD)/libaxion_spec.a $(BUILD)/libaxion_sched.a \
    $(BUILD)/libaxion_sample.a \
    $(BUILD)/libaxion_model.a $(BUILD)/libaxion_text.a \
    $(BUILD)/libaxion_kernels.a $(BUILD)/libaxion_shm.a
$(FUZZ_MODEL): LDLIBS = -luring -lsodium $(TEXT_LDLIBS)
