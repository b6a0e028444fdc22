# Unit tests and the fuzzer of api/.

API_TESTS := $(patsubst %,$(BUILD)/tests/api/test_api_%,request \
               request_refused response tenant text)
UNIT_TESTS += $(API_TESTS)
API_TEST_LIBS := $(BUILD)/libaxion_api.a $(BUILD)/libaxion_shm.a

$(API_TESTS): %: %.o $(BUILD)/tests/api/harness.o $(API_TEST_LIBS)
$(API_TESTS): LDLIBS = $(API_LIBS) -lcmocka -lm

FUZZ_REQUEST_JSON := $(BUILD)/tests/api/fuzz_request_json
FUZZERS += $(FUZZ_REQUEST_JSON)

$(FUZZ_REQUEST_JSON): %: %.o $(API_TEST_LIBS)
$(FUZZ_REQUEST_JSON): LDLIBS = $(API_LIBS) -lm
