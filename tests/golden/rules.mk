# Readers of the goldens and the tests that compare the engine with them.
$(BUILD)/libaxion_golden.a: $(BUILD)/tests/golden/golden.o
