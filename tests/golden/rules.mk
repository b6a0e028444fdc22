# Readers of the goldens and the tests that compare the engine with them.
GOLDEN_TESTS := $(BUILD)/tests/golden/test_model_goldens \
                $(BUILD)/tests/golden/test_determinism
UNIT_TESTS   += $(GOLDEN_TESTS)

$(BUILD)/libaxion_golden.a: $(BUILD)/tests/golden/golden.o \
                            $(BUILD)/tests/golden/runner.o

$(GOLDEN_TESTS): %: %.o $(BUILD)/libaxion_golden.a $(BUILD)/libaxion_tiny.a \
                 $(MODEL_LIBS)
$(GOLDEN_TESTS): LDLIBS = -lcmocka -lm

# Blocks alone, no model.
DEQUANTIZE_TEST := $(BUILD)/tests/golden/test_dequantize
UNIT_TESTS      += $(DEQUANTIZE_TEST)

$(DEQUANTIZE_TEST): $(BUILD)/tests/golden/test_dequantize.o \
                    $(BUILD)/libaxion_kernels.a
$(DEQUANTIZE_TEST): LDLIBS = -lcmocka

# The real model's weights as F32, for test_model_goldens (540 MB).
SMOLLM2     := models/SmolLM2-135M-Instruct.Q4_1.gguf
SMOLLM2_F32 := $(BUILD)/smollm2-f32.gguf

$(SMOLLM2_F32): $(SMOLLM2) tests/golden/dequantize.py
	@mkdir -p $(@D)
	$(VENV)/bin/python tests/golden/dequantize.py $< $@

ifneq ($(wildcard $(SMOLLM2)),)
test-unit: $(SMOLLM2_F32)
endif
