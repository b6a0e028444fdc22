# tests/grammar: grammars, the automaton, masks.
GRAMMAR_LIBS := $(BUILD)/libaxion_grammar.a $(BUILD)/libaxion_text.a \
                $(BUILD)/libaxion_model.a $(BUILD)/libaxion_shm.a

GRAMMAR_TESTS := $(patsubst %,$(BUILD)/tests/grammar/test_%,gbnf automaton \
                   masks schema_work)
UNIT_TESTS += $(GRAMMAR_TESTS)

$(GRAMMAR_TESTS): %: %.o $(BUILD)/tests/grammar/naive.o $(GRAMMAR_LIBS)
$(GRAMMAR_TESTS): LDLIBS = $(TEXT_LDLIBS) -lcmocka

GRAMMAR_FUZZERS := $(patsubst %,$(BUILD)/tests/grammar/fuzz_%,gbnf source)
FUZZERS += $(GRAMMAR_FUZZERS)

$(GRAMMAR_FUZZERS): %: %.o $(GRAMMAR_LIBS)
$(GRAMMAR_FUZZERS): LDLIBS = $(TEXT_LDLIBS)

# What a source says, for scripts.
GRAMMAR_TEXTS := $(BUILD)/tests/grammar/grammar_texts
TEST_TOOLS += $(GRAMMAR_TEXTS)

$(GRAMMAR_TEXTS): %: %.o $(GRAMMAR_LIBS)
$(GRAMMAR_TEXTS): LDLIBS = $(TEXT_LDLIBS)

E2E_TESTS += tests/grammar/test_schema_texts.py
