# tests/ops: axiond as operators run it: service manager, units, man pages,
# `make install`, the Debian package.
E2E_TESTS += $(sort $(wildcard tests/ops/test_*.py tests/ops/test_*.sh))

UNIT_TESTS += $(BUILD)/tests/ops/test_manager_values
$(BUILD)/tests/ops/test_manager_values: \
    $(BUILD)/tests/ops/test_manager_values.o \
    $(BUILD)/engine/server/notify.o $(BUILD)/engine/server/passed_socket.o \
    $(BUILD)/engine/error.o
$(BUILD)/tests/ops/test_manager_values: LDLIBS = -lcmocka
