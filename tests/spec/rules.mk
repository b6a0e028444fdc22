# tests/spec: speculation, its parts alone and in a whole engine.

SPEC_PART_TESTS := $(patsubst %,$(BUILD)/tests/spec/test_spec_%,suffix copy control)
SPEC_ENGINE_TESTS := $(BUILD)/tests/spec/test_spec_exact \
                     $(BUILD)/tests/spec/test_spec_draft_window
UNIT_TESTS += $(SPEC_PART_TESTS) $(SPEC_ENGINE_TESTS)

$(SPEC_PART_TESTS): %: %.o $(BUILD)/libaxion_spec.a $(BUILD)/libaxion_model.a \
    $(BUILD)/libaxion_shm.a
$(SPEC_PART_TESTS): LDLIBS = -lcmocka

$(SPEC_ENGINE_TESTS): %: %.o $(BUILD)/tests/server/harness.o \
    $(BUILD)/libaxion_tiny.a $(BUILD)/libaxion_server.a \
    $(BUILD)/libaxion_spec.a $(BUILD)/libaxion_sched.a \
    $(BUILD)/libaxion_sample.a $(BUILD)/libaxion_model.a \
    $(BUILD)/libaxion_text.a $(BUILD)/libaxion_kernels.a \
    $(BUILD)/libaxion_shm.a | $(BUILD)/axiond
$(SPEC_ENGINE_TESTS): LDLIBS = -luring $(TEXT_LDLIBS) -lsodium -lcmocka
