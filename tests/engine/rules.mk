# Unit tests of gguf, kv, pool, model and exec, and the GGUF fuzzer.

ENGINE_TESTS := $(patsubst %,$(BUILD)/tests/engine/test_%,gguf_hostile \
                  kv kv_cache kv_windows model_refused pack_file \
                  load_faults packing pool_threads pool_interleaved \
                  pool_place crew \
                  program exec exec_threads)
UNIT_TESTS += $(ENGINE_TESTS)

$(ENGINE_TESTS): %: %.o $(BUILD)/tests/engine/bytes.o \
                 $(BUILD)/libaxion_golden.a $(BUILD)/libaxion_tiny.a \
                 $(MODEL_LIBS)
$(ENGINE_TESTS): LDLIBS = -lcmocka -lsodium -lm

ENGINE_WRAP := -Wl,--wrap=
$(BUILD)/tests/engine/test_load_faults: LDLIBS += $(addprefix $(ENGINE_WRAP),\
    malloc calloc realloc aligned_alloc strdup strndup mmap pread \
    pthread_create)

$(BUILD)/tests/engine/test_packing: LDLIBS += \
    $(ENGINE_WRAP)pread $(ENGINE_WRAP)posix_fadvise

# A thread can be stopped where it asks whether it still holds its piece, and
# steps can have another number of threads than they would.
$(BUILD)/tests/engine/test_exec_threads: LDLIBS += $(ENGINE_WRAP)ax_pool_holds \
    $(ENGINE_WRAP)ax_crew_threads

FUZZ_GGUF := $(BUILD)/tests/engine/fuzz_gguf
FUZZERS += $(FUZZ_GGUF)

$(FUZZ_GGUF): %: %.o $(MODEL_LIBS)
$(FUZZ_GGUF): LDLIBS = -lsodium -lm

FUZZ_PACK := $(BUILD)/tests/engine/fuzz_pack
FUZZERS += $(FUZZ_PACK)

$(FUZZ_PACK): %: %.o $(MODEL_LIBS)
$(FUZZ_PACK): LDLIBS = -lsodium -lm

BENCH_POOL := $(BUILD)/bench/bench_pool
BENCHES    += $(BENCH_POOL)

$(BENCH_POOL): $(BUILD)/bench/bench_pool.o $(MODEL_LIBS)
$(BENCH_POOL): LDLIBS = -lsodium -lm
