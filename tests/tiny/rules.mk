# Tiny random models, as a library for tests and as a program for scripts.
TINY_MODEL := $(BUILD)/tests/tiny/tiny-model
TEST_TOOLS += $(TINY_MODEL)

$(BUILD)/libaxion_tiny.a: $(BUILD)/tests/tiny/tiny_model.o \
                          $(BUILD)/tests/tiny/tiny_blocks.o \
                          $(BUILD)/tests/tiny/tiny_vocab.o

$(TINY_MODEL): $(BUILD)/tests/tiny/main.o $(BUILD)/libaxion_tiny.a
