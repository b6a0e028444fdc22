# Tests of shm/.  What runs in one process alone is a unit test; whatever has
# two ends, two processes or a hostile peer is a ring test.

SHM_TEST_LIBS := $(BUILD)/tests/shm/stress.o $(BUILD)/tests/shm/pair.o \
                 $(BUILD)/libaxion_shm.a

SHM_UNIT_TESTS := $(patsubst %,$(BUILD)/tests/shm/test_%,errors request \
                    text_queue)
SHM_RING_TESTS := $(patsubst %,$(BUILD)/tests/shm/test_ring_%,bounds credit \
                    handshake board journal listen hostile_client hostile_engine \
                    stress threads peer_killed wakeup)
UNIT_TESTS += $(SHM_UNIT_TESTS)
RING_TESTS += $(SHM_RING_TESTS)

$(SHM_UNIT_TESTS) $(SHM_RING_TESTS): %: %.o $(SHM_TEST_LIBS)
$(SHM_UNIT_TESTS) $(SHM_RING_TESTS): LDLIBS = -lcmocka

# Both ends on one mapping, for ThreadSanitizer.
$(BUILD)/tests/shm/test_ring_threads: LDFLAGS += -Wl,--wrap=mmap,--wrap=munmap

SHM_FUZZERS := $(patsubst %,$(BUILD)/tests/shm/fuzz_%,request ring_client \
                 ring_channel)
FUZZERS += $(SHM_FUZZERS)

$(SHM_FUZZERS): %: %.o $(BUILD)/libaxion_shm.a

BENCH_RING := $(BUILD)/bench/bench_ring
BENCHES    += $(BENCH_RING)

$(BENCH_RING): $(BUILD)/bench/bench_ring.o $(BUILD)/libaxion_shm.a

# A script, run where it lies.
RING_TESTS += tests/shm/test_wakeup_model.sh
