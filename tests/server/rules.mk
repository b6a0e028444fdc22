# tests/server: a real axiond on tiny models, spoken to over the ring.

SERVER_TESTS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/server/test_*.c))
UNIT_TESTS += $(SERVER_TESTS)

$(SERVER_TESTS): %: %.o $(BUILD)/tests/server/harness.o \
    $(BUILD)/libaxion_tiny.a $(BUILD)/libaxion_server.a \
    $(BUILD)/libaxion_model.a $(BUILD)/libaxion_shm.a | $(BUILD)/axiond
$(SERVER_TESTS): LDLIBS = -luring -lcmocka -lm
