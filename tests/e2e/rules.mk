# End-to-end tests, run by tools/run-tests.sh.
E2E_TESTS += $(sort $(wildcard tests/e2e/test_*.py))
