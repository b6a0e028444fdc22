# Programs that measure; `make bench` runs BENCHES without arguments, and the
# scripts of tools/bench.sh besides.
BENCH_MODEL := $(BUILD)/bench/bench-model
BENCHES     += $(BENCH_MODEL)

$(BENCH_MODEL): $(BUILD)/bench/bench_model.o $(MODEL_LIBS)
$(BENCH_MODEL): LDLIBS = -lm
