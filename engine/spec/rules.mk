# engine/spec: speculation.

SPEC_OBJS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard engine/spec/*.c))

$(BUILD)/libaxion_spec.a: $(SPEC_OBJS)
