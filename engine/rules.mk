# engine: from file to logits in libaxion_model.a; the other rooms bring rules
# of their own (engine/*/*.mk).

MODEL_SRCS := engine/error.c $(wildcard engine/gguf/*.c engine/kv/*.c \
                engine/pool/*.c engine/model/*.c engine/exec/*.c)
MODEL_OBJS := $(MODEL_SRCS:%.c=$(BUILD)/%.o)

$(BUILD)/libaxion_model.a: $(MODEL_OBJS)

# A program that runs models links these, in this order.
MODEL_LIBS := $(BUILD)/libaxion_model.a $(BUILD)/libaxion_kernels.a \
              $(BUILD)/libaxion_shm.a

include $(sort $(wildcard engine/*/*.mk))
