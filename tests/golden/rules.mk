# Readers of the goldens and the tests that compare the engine with them.
GOLDEN_TESTS := $(BUILD)/tests/golden/test_model_goldens \
                $(BUILD)/tests/golden/test_determinism
# UNIT_TESTS += $(GOLDEN_TESTS)

$(BUILD)/libaxion_golden.a: $(BUILD)/tests/golden/golden.o \
                            $(BUILD)/tests/golden/runner.o

$(GOLDEN_TESTS): %: %.o $(BUILD)/libaxion_golden.a $(BUILD)/libaxion_tiny.a \
                 $(MODEL_LIBS)
$(GOLDEN_TESTS): LDLIBS = -lcmocka -lm
