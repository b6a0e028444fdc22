# Unit tests and the fuzzer of api/.

API_TESTS := $(patsubst %,$(BUILD)/tests/api/test_api_%,request \
               request_grammar request_refused response tenant tenants_file \
               cache text limits \
               balances jwt route remote shares quota)
UNIT_TESTS += $(API_TESTS)
API_TEST_LIBS := $(BUILD)/libaxion_api.a $(BUILD)/libaxion_shm.a

$(API_TESTS): %: %.o $(BUILD)/tests/api/harness.o $(API_TEST_LIBS)
$(API_TESTS): LDLIBS = $(API_LIBS) -lcmocka -lm

API_FUZZERS := $(patsubst %,$(BUILD)/tests/api/fuzz_%,request_json tenant \
                 tenants_file jwt remote quota)
FUZZERS += $(API_FUZZERS)

$(API_FUZZERS): %: %.o $(API_TEST_LIBS)
$(API_FUZZERS): LDLIBS = $(API_LIBS) -lm
