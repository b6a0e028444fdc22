# Programs that measure; `make bench` runs BENCHES without arguments, and the
# scripts of tools/bench.sh besides.
BENCH_MODEL := $(BUILD)/bench/bench-model
HTTP_ECHO   := $(BUILD)/bench/http-echo
BENCHES     += $(BENCH_MODEL)
TEST_TOOLS  += $(HTTP_ECHO)

$(BENCH_MODEL): $(BUILD)/bench/bench_model.o $(MODEL_LIBS)
$(BENCH_MODEL): LDLIBS = -lm

$(HTTP_ECHO): $(BUILD)/bench/http_echo.o
