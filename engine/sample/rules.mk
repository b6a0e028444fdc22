# engine/sample: logits to tokens.  Sums must not be fused, and the checks of
# whole rows want vector loops.

SAMPLE_OBJS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard engine/sample/*.c))
$(SAMPLE_OBJS): CFLAGS_EXTRA = -O3 -ffp-contract=off

$(BUILD)/libaxion_sample.a: $(SAMPLE_OBJS)
