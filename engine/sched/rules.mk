# engine/sched: the pure scheduler.

$(BUILD)/libaxion_sched.a: \
    $(patsubst %.c,$(BUILD)/%.o,$(wildcard engine/sched/*.c))
