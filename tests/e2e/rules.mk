# End-to-end tests: Python files, run by tools/run-tests.sh.
E2E_TESTS += $(sort $(wildcard tests/e2e/test_*.py))
