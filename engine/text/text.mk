# Text: tokenizer, chat templates, output stage.  Knows no model and no ring.
TEXT_SRCS := $(wildcard engine/text/*.c)
TEXT_OBJS := $(TEXT_SRCS:%.c=$(BUILD)/%.o)

$(BUILD)/libaxion_text.a: $(TEXT_OBJS)

# A program with text links these, in this order.
TEXT_LIBS   := $(BUILD)/libaxion_text.a
TEXT_LDLIBS := -lpcre2-8 -lutf8proc -lm
