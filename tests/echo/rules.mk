# The echo engine: what nginx's tests and the proxy benchmark run against.

AXION_ECHO := $(BUILD)/axion-echo
TEST_TOOLS += $(AXION_ECHO)

$(AXION_ECHO): $(patsubst %,$(BUILD)/tests/echo/%.o,axion_echo echo_answer \
                 echo_stream echo_ring echo_journal echo_http) \
               $(BUILD)/engine/server/journal.o \
               $(BUILD)/libaxion_api.a $(BUILD)/libaxion_shm.a
$(AXION_ECHO): LDLIBS = $(API_LIBS) -lm

TEST_ECHO_ENGINE := $(BUILD)/tests/echo/test_echo_engine
UNIT_TESTS += $(TEST_ECHO_ENGINE)

$(TEST_ECHO_ENGINE): %: %.o $(BUILD)/libaxion_shm.a | $(AXION_ECHO)
$(TEST_ECHO_ENGINE): LDLIBS = -lcmocka -lm
