# tests/ops: axiond as operators run it: service manager, units, man pages,
# `make install`, the Debian package.
E2E_TESTS += $(sort $(wildcard tests/ops/test_*.py tests/ops/test_*.sh))
