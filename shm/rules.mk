# shm: the ring, its handshake, wire records and error numbers.

SHM_OBJS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard shm/*.c))

$(BUILD)/libaxion_shm.a: $(SHM_OBJS)
