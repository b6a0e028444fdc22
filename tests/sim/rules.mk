# tests/sim: scheduler, KV pool and ring on a virtual clock.

SIM_LIBS := $(BUILD)/libaxion_sched.a $(BUILD)/libaxion_model.a \
            $(BUILD)/libaxion_kernels.a $(BUILD)/libaxion_shm.a
TEST_SIM := $(BUILD)/tests/sim/test_sim
UNIT_TESTS += $(TEST_SIM)

SIM_OBJS := $(patsubst %,$(BUILD)/tests/sim/%.o,run world engine bounds)

$(TEST_SIM): $(BUILD)/tests/sim/test_sim.o $(SIM_OBJS) $(SIM_LIBS)
$(TEST_SIM): LDLIBS = -lcmocka -lsodium -lm

TEST_FAIRNESS := $(BUILD)/tests/sim/test_fairness
UNIT_TESTS += $(TEST_FAIRNESS)

$(TEST_FAIRNESS): $(BUILD)/tests/sim/test_fairness.o \
    $(BUILD)/libaxion_sched.a
$(TEST_FAIRNESS): LDLIBS = -lcmocka

# The long mode: whatever bytes libFuzzer makes are a seed.
FUZZ_SIM := $(BUILD)/tests/sim/fuzz_sim
FUZZERS += $(FUZZ_SIM)

$(FUZZ_SIM): $(BUILD)/tests/sim/fuzz_sim.o $(SIM_OBJS) $(SIM_LIBS)
$(FUZZ_SIM): LDLIBS = -lcmocka -lsodium -lm

# Arrivals and lengths of public traces, and the goodput that comes of them.
# TRACE=azure-conv SCALE=8 TENANTS=8 make replay; all traces and one tenant.
SIM_REPLAY := $(BUILD)/tests/sim/replay
TEST_TOOLS += $(SIM_REPLAY)

$(SIM_REPLAY): $(BUILD)/tests/sim/replay.o $(SIM_LIBS)
$(SIM_REPLAY): LDLIBS = -lsodium -lm

TEST_REPLAY := $(BUILD)/tests/sim/test_replay
UNIT_TESTS += $(TEST_REPLAY)

$(TEST_REPLAY): $(BUILD)/tests/sim/test_replay.o | $(SIM_REPLAY)
$(TEST_REPLAY): LDLIBS = -lcmocka
