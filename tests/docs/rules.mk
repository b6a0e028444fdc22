# tests/docs: test_docs.py runs with the style tests; the manual's examples
# need what `make all` builds.
E2E_TESTS += tests/docs/test_examples.py
