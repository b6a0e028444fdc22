# Calls that fail, limits that are reached (faults.h).

FAULT_CALLS := malloc calloc realloc aligned_alloc strdup strndup mmap \
               memfd_create ftruncate open pread recvmsg sendmsg send socket \
               accept4 eventfd signalfd epoll_create1 epoll_ctl pthread_create
FAULT_FLAG  := -Wl,--wrap=
FAULT_WRAP  := $(addprefix $(FAULT_FLAG),$(FAULT_CALLS))
FAULT_OBJS  := $(BUILD)/tests/faults/faults.o $(BUILD)/tests/faults/wrappers.o

# axiond with wrappers.  Archives, so that their calls are wrapped as well.
AXIOND_FAULTS := $(BUILD)/tests/faults/axiond-faults
TEST_TOOLS += $(AXIOND_FAULTS)

$(AXIOND_FAULTS): $(BUILD)/engine/axiond.o $(FAULT_OBJS) \
    $(BUILD)/libaxion_server.a $(BUILD)/libaxion_spec.a \
    $(BUILD)/libaxion_sched.a \
    $(BUILD)/libaxion_sample.a $(BUILD)/libaxion_model.a \
    $(BUILD)/libaxion_text.a $(BUILD)/libaxion_kernels.a \
    $(BUILD)/libaxion_shm.a
$(AXIOND_FAULTS): LDLIBS = $(FAULT_WRAP) -l:liburing.a -l:libpcre2-8.a \
                           -l:libutf8proc.a -lsodium -lm

# For programs that are not linked here: nginx with the module in it.
FAULT_PRELOAD := $(BUILD)/tests/faults/preload.so
TEST_TOOLS += $(FAULT_PRELOAD)

$(FAULT_PRELOAD): $(BUILD)/tests/faults/preload.o
$(FAULT_PRELOAD): LDFLAGS += -shared

FAULT_SERVER_TESTS := $(BUILD)/tests/faults/test_faults_axiond \
                      $(BUILD)/tests/faults/test_exhaustion
UNIT_TESTS += $(FAULT_SERVER_TESTS)

$(FAULT_SERVER_TESTS): %: %.o $(BUILD)/tests/faults/faults.o \
    $(BUILD)/tests/server/harness.o $(BUILD)/libaxion_tiny.a \
    $(BUILD)/libaxion_shm.a | $(BUILD)/axiond $(AXIOND_FAULTS)
$(FAULT_SERVER_TESTS): LDLIBS = -lcmocka

FAULT_LIBRARY_TEST := $(BUILD)/tests/faults/test_faults_libraries
UNIT_TESTS += $(FAULT_LIBRARY_TEST)

$(FAULT_LIBRARY_TEST): %: %.o $(FAULT_OBJS) $(BUILD)/tests/shm/pair.o \
    $(BUILD)/tests/text/small_vocab.o $(BUILD)/libaxion_api.a \
    $(BUILD)/libaxion_text.a $(BUILD)/libaxion_shm.a
$(FAULT_LIBRARY_TEST): LDLIBS = $(FAULT_WRAP) -l:libjansson.a \
    -l:libpcre2-8.a -l:libutf8proc.a -lsodium -lcmocka -lm
