# Readers of the goldens and the tests that compare the engine with them.
GOLDEN_TESTS := $(BUILD)/tests/golden/test_model_goldens \
                $(BUILD)/tests/golden/test_determinism \
                $(BUILD)/tests/golden/test_kv_types \
                $(BUILD)/tests/golden/test_random_goldens
UNIT_TESTS   += $(GOLDEN_TESTS)

$(BUILD)/libaxion_golden.a: $(BUILD)/tests/golden/golden.o \
                            $(BUILD)/tests/golden/compare.o \
                            $(BUILD)/tests/golden/runner.o

$(GOLDEN_TESTS): %: %.o $(BUILD)/libaxion_golden.a $(BUILD)/libaxion_tiny.a \
                 $(MODEL_LIBS)
$(GOLDEN_TESTS): LDLIBS = -lcmocka -lsodium -lm

# What another KV type or class of numerics costs; bench/kl.py runs it.
BENCH_KL   := $(BUILD)/bench/bench_kl
TEST_TOOLS += $(BENCH_KL)

$(BENCH_KL): $(BUILD)/bench/bench_kl.o $(BUILD)/libaxion_golden.a \
             $(BUILD)/libaxion_tiny.a $(MODEL_LIBS)
$(BENCH_KL): LDLIBS = -lcmocka -lsodium -lm

# Blocks alone, no model.
DEQUANTIZE_TEST := $(BUILD)/tests/golden/test_dequantize
UNIT_TESTS      += $(DEQUANTIZE_TEST)

$(DEQUANTIZE_TEST): $(BUILD)/tests/golden/test_dequantize.o \
                    $(BUILD)/libaxion_kernels.a
$(DEQUANTIZE_TEST): LDLIBS = -lcmocka

GEMMA_TEST := $(BUILD)/tests/golden/test_gemma_goldens
UNIT_TESTS += $(GEMMA_TEST)

$(GEMMA_TEST): $(GEMMA_TEST).o $(BUILD)/libaxion_golden.a \
               $(BUILD)/libaxion_tiny.a $(TEXT_LIBS) $(MODEL_LIBS)
$(GEMMA_TEST): LDLIBS = $(TEXT_LDLIBS) -ljansson -lsodium -lcmocka -lm

GRAMMAR_GOLDENS := $(BUILD)/tests/golden/test_grammar_goldens
UNIT_TESTS      += $(GRAMMAR_GOLDENS)

$(GRAMMAR_GOLDENS): $(GRAMMAR_GOLDENS).o $(BUILD)/libaxion_grammar.a \
                    $(BUILD)/libaxion_tiny.a $(TEXT_LIBS) $(MODEL_LIBS)
$(GRAMMAR_GOLDENS): LDLIBS = $(TEXT_LDLIBS) -ljansson -lsodium -lcmocka -lm

# The real models' weights as F32, where the models are (540 MB, 1.1 GB).
SMOLLM2     := models/SmolLM2-135M-Instruct.Q4_1.gguf
SMOLLM2_F32 := $(BUILD)/smollm2-f32.gguf
GEMMA       := models/gemma-3-270m-q4_k_m.gguf
GEMMA_F32   := $(BUILD)/gemma3-f32.gguf

$(SMOLLM2_F32): $(SMOLLM2)
$(GEMMA_F32): $(GEMMA)

$(SMOLLM2_F32) $(GEMMA_F32): tests/golden/dequantize.py
	@mkdir -p $(@D)
	$(VENV)/bin/python $< $(filter models/%,$^) $@

ifneq ($(wildcard $(SMOLLM2)),)
test-unit: $(SMOLLM2_F32)
endif

ifneq ($(wildcard $(GEMMA)),)
test-unit: $(GEMMA_F32)
endif

E2E_TESTS += tests/golden/test_random_gguf.py

# Small shapes of tools/random_gguf.py, with SmolLM2's vocabulary.
RANDOM_MODELS := $(patsubst %,$(BUILD)/random/%.gguf,tiny-llama/Q4_0 \
    tiny-llama/Q8_0 tiny-llama/Q4_K_M tiny-llama/BF16 tiny-qwen3/Q8_0)

$(RANDOM_MODELS): $(BUILD)/random/%.gguf: tools/random_gguf.py $(SMOLLM2)
	@mkdir -p $(@D)
	$(VENV)/bin/python $< $(subst /, ,$*) $@ --vocabulary $(SMOLLM2)

ifneq ($(wildcard $(SMOLLM2)),)
test-unit: $(RANDOM_MODELS)
endif
