# engine/tool: the program axion.

TOOL_OBJS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard engine/tool/*.c))

PROGRAMS += $(BUILD)/axion

$(BUILD)/axion: $(TOOL_OBJS) $(BUILD)/libaxion_server.a \
    $(BUILD)/libaxion_spec.a \
    $(BUILD)/libaxion_sample.a $(BUILD)/libaxion_model.a \
    $(BUILD)/libaxion_text.a $(BUILD)/libaxion_kernels.a \
    $(BUILD)/libaxion_shm.a
$(BUILD)/axion: LDLIBS = $(SERVER_LDLIBS) -lsodium
