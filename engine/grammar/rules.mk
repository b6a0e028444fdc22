# engine/grammar: what an answer may say next.

GRAMMAR_OBJS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard engine/grammar/*.c))

$(BUILD)/libaxion_grammar.a: $(GRAMMAR_OBJS)
