# Programs that measure; `make bench` runs BENCHES without arguments, and the
# scripts of tools/bench.sh besides.
BENCH_MODEL := $(BUILD)/bench/bench-model
BENCHES     += $(BENCH_MODEL)

# MODEL_LIBS comes later than this file.
$(BENCH_MODEL): $(BUILD)/bench/bench_model.o $(BUILD)/libaxion_model.a \
                $(BUILD)/libaxion_kernels.a $(BUILD)/libaxion_shm.a
$(BENCH_MODEL): LDLIBS = -lm
