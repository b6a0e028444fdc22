# tests/grammar: grammars, the automaton, masks.
GRAMMAR_LIBS := $(BUILD)/libaxion_grammar.a $(BUILD)/libaxion_text.a \
                $(BUILD)/libaxion_model.a $(BUILD)/libaxion_shm.a

GRAMMAR_TESTS := $(patsubst %,$(BUILD)/tests/grammar/test_%,gbnf automaton \
                   masks)
UNIT_TESTS += $(GRAMMAR_TESTS)

$(GRAMMAR_TESTS): %: %.o $(BUILD)/tests/grammar/naive.o $(GRAMMAR_LIBS)
$(GRAMMAR_TESTS): LDLIBS = $(TEXT_LDLIBS) -lcmocka

FUZZ_GBNF := $(BUILD)/tests/grammar/fuzz_gbnf
FUZZERS += $(FUZZ_GBNF)

$(FUZZ_GBNF): %: %.o $(GRAMMAR_LIBS)
$(FUZZ_GBNF): LDLIBS = $(TEXT_LDLIBS)
