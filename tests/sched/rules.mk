# tests/sched: the scheduler alone, no model and no clock.

UNIT_TESTS += $(BUILD)/tests/sched/test_sched \
              $(BUILD)/tests/sched/test_sched_drafts \
              $(BUILD)/tests/sched/test_sched_locality \
              $(BUILD)/tests/sched/test_sched_simulation

$(BUILD)/tests/sched/test_sched: $(BUILD)/tests/sched/test_sched.o \
    $(BUILD)/libaxion_sched.a
$(BUILD)/tests/sched/test_sched: LDLIBS = -lcmocka
$(BUILD)/tests/sched/test_sched_simulation: \
    $(BUILD)/tests/sched/test_sched_simulation.o $(BUILD)/libaxion_sched.a
$(BUILD)/tests/sched/test_sched_simulation: LDLIBS = -lcmocka

$(BUILD)/tests/sched/test_sched_drafts: \
    $(BUILD)/tests/sched/test_sched_drafts.o $(BUILD)/libaxion_sched.a
$(BUILD)/tests/sched/test_sched_drafts: LDLIBS = -lcmocka

$(BUILD)/tests/sched/test_sched_locality: \
    $(BUILD)/tests/sched/test_sched_locality.o $(BUILD)/libaxion_sched.a
$(BUILD)/tests/sched/test_sched_locality: LDLIBS = -lcmocka
