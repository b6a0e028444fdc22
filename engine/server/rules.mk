# engine/server and axiond.

SERVER_OBJS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard engine/server/*.c))

# With the room of grammars, which nothing else is linked with.
$(BUILD)/libaxion_server.a: $(SERVER_OBJS) $(GRAMMAR_OBJS)

# Everything that a program with an engine inside links, in this order.
# Expanded late: the other rooms' lists may come after this file.
SERVER_LIBS = $(BUILD)/libaxion_server.a $(BUILD)/libaxion_spec.a \
              $(BUILD)/libaxion_sched.a \
              $(BUILD)/libaxion_sample.a $(BUILD)/libaxion_text.a \
              $(BUILD)/libaxion_model.a $(BUILD)/libaxion_kernels.a \
              $(BUILD)/libaxion_shm.a
SERVER_LDLIBS = -luring -lsodium $(TEXT_LDLIBS) -lm

PROGRAMS += $(BUILD)/axiond

$(BUILD)/axiond: $(BUILD)/engine/axiond.o $(BUILD)/libaxion_server.a \
    $(BUILD)/libaxion_spec.a $(BUILD)/libaxion_sched.a \
    $(BUILD)/libaxion_sample.a \
    $(BUILD)/libaxion_model.a $(BUILD)/libaxion_text.a \
    $(BUILD)/libaxion_kernels.a $(BUILD)/libaxion_shm.a
$(BUILD)/axiond: LDLIBS = $(SERVER_LDLIBS)
