# tests/sample: logits to tokens.

UNIT_TESTS += $(BUILD)/tests/sample/test_sample

$(BUILD)/tests/sample/test_sample: $(BUILD)/tests/sample/test_sample.o \
    $(BUILD)/libaxion_sample.a $(BUILD)/libaxion_kernels.a
$(BUILD)/tests/sample/test_sample: LDLIBS = -lcmocka -lm
