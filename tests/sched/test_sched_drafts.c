/*
 * Shows how drafts lengthen a decode: never beyond the batch, the lease, the
 * answer's end or the KV that is free, charged only as far as they held, and
 * rolled back to exactly where an undrafted run stands.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "tests/sched/fake_kv.h"

#define PROMPT 6u

static struct fake_kv kv;
static struct ax_sched *sched;
static uint64_t now = 1000;


static void
open_sched(uint32_t blocks, uint32_t batch)
{
    kv = (struct fake_kv){.total = blocks, .block_tokens = 4};
    const struct ax_sched_options o = {.slots_max = 8,
                                       .running_max = 4,
                                       .batch_tokens_max = batch,
                                       .kv_blocks_total = blocks,
                                       .kv_block_tokens = 4,
                                       .queue_max = 8,
                                       .queue_tokens_max = 1000,
                                       .kv = fake_kv_of(&kv)};
    assert_int_equal(ax_sched_open(&sched, &o), AXION_OK);
}


static int
close_sched(void **state)
{
    (void)state;
    ax_sched_close(sched);
    sched = NULL;
    return 0;
}


/* A request whose prompt is computed and whose first token is there. */
static void
start(uint32_t slot, uint32_t max_tokens, uint64_t lease)
{
    const struct ax_sched_request r = {.tenant = 1,
                                       .priority = 1,
                                       .prompt_tokens = PROMPT,
                                       .max_tokens = max_tokens,
                                       .lease_tokens = lease};
    struct ax_sched_arrival arrival;
    struct ax_sched_event event;
    assert_int_equal(ax_sched_arrive(sched, slot, &r, now, &arrival), AXION_OK);
    const struct ax_sched_step *step = ax_sched_next(sched, now);
    bool found = false;
    for (uint32_t i = 0; i < step->n_entries; i++) {
        found = found || step->entries[i].slot == slot;
    }
    assert_true(found);
    uint32_t slots[4], n = step->n_entries;
    for (uint32_t i = 0; i < n; i++) {
        slots[i] = step->entries[i].slot;
    }
    ax_sched_stepped(sched, 100, true);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(ax_sched_sampled(sched, slots[i]), 0);
    }
    while (ax_sched_event(sched, &event) == AXION_OK) {
    }
}


static const struct ax_sched_step *
next_with(uint32_t n, uint32_t granted)
{
    const struct ax_sched_step *step = ax_sched_next(sched, now);
    uint32_t before = step->n_tokens;
    assert_int_equal(ax_sched_extend(sched, 0, n), granted);
    assert_int_equal(step->n_tokens, before + granted);
    assert_int_equal(step->n_drafts, granted);
    assert_int_equal(step->n_samples, step->n_entries + granted);
    assert_int_equal(step->entries[0].n_tokens, 1 + granted);
    assert_int_equal(step->entries[0].n_drafts, granted);
    return step;
}


static void
test_held_drafts_advance_and_others_roll_back(void **state)
{
    (void)state;
    open_sched(32, 16);
    start(0, 20, AXION_LEASE_UNLIMITED);
    uint32_t at = PROMPT + 1;
    for (uint32_t held = 0; held <= 3; held++) {
        const struct ax_sched_step *step = next_with(3, 3);
        assert_int_equal(step->entries[0].position, at - 1);
        ax_sched_stepped(sched, 100, true);
        for (uint32_t i = 0; i <= held; i++) {
            assert_int_equal(ax_sched_sampled(sched, 0), 0);
        }
        at += held + 1;
        assert_int_equal(ax_sched_tokens(sched, 0), at);
    }
    const struct ax_sched_step *step = ax_sched_next(sched, now);
    assert_int_equal(step->entries[0].position, at - 1);
    assert_int_equal(step->entries[0].n_tokens, 1);
    ax_sched_stepped(sched, 100, true);
    ax_sched_finish(sched, 0, now);
    assert_int_equal(kv.used, 0);
}


static void
test_aborted_step_leaves_nothing(void **state)
{
    (void)state;
    open_sched(32, 16);
    start(0, 20, AXION_LEASE_UNLIMITED);
    (void)next_with(5, 5);
    ax_sched_stepped(sched, 100, false);
    const struct ax_sched_step *step = ax_sched_next(sched, now);
    assert_int_equal(step->entries[0].position, PROMPT);
    assert_int_equal(step->entries[0].n_drafts, 0);
    ax_sched_stepped(sched, 100, true);
    assert_int_equal(ax_sched_sampled(sched, 0), 0);
    ax_sched_finish(sched, 0, now);
}


static void
test_bounds(void **state)
{
    (void)state;
    open_sched(32, 7);
    start(0, 20, AXION_LEASE_UNLIMITED);
    (void)next_with(100, 6); /* the batch */
    ax_sched_stepped(sched, 100, false);
    ax_sched_finish(sched, 0, now);

    start(0, 4, AXION_LEASE_UNLIMITED);
    (void)next_with(100, 2); /* one is there, one comes in any case */
    ax_sched_stepped(sched, 100, true);
    assert_int_equal(ax_sched_sampled(sched, 0), 0);
    assert_int_equal(ax_sched_sampled(sched, 0), 0);
    assert_int_equal(ax_sched_sampled(sched, 0), AXION_FINISH_LENGTH);
    ax_sched_finish(sched, 0, now);

    start(0, 20, PROMPT + 3);
    ax_sched_topup(sched, 0, 0);
    (void)next_with(100, 1); /* the lease */
    ax_sched_stepped(sched, 100, true);
    assert_int_equal(ax_sched_sampled(sched, 0), 0);
    assert_int_equal(ax_sched_sampled(sched, 0), AXION_FINISH_LEASE);
    ax_sched_finish(sched, 0, now);
    close_sched(state);

    open_sched(3, 16);
    start(0, 6, AXION_LEASE_UNLIMITED); /* 7 tokens: 2 of 3 blocks */
    uint32_t used = kv.used;
    (void)next_with(4, 4); /* 11 positions: the third block */
    assert_int_equal(kv.used, 3);
    ax_sched_stepped(sched, 100, false);
    ax_sched_finish(sched, 0, now);
    assert_in_range(used, 2, 2);
}


/* No room: no drafts, and nobody loses KV for one. */
static void
test_drafts_preempt_nobody(void **state)
{
    struct ax_sched_counts counts;
    (void)state;
    open_sched(5, 16);
    start(0, 12, AXION_LEASE_UNLIMITED);
    start(1, 12, AXION_LEASE_UNLIMITED);
    assert_int_equal(kv.used, 4);
    (void)next_with(7, 0); /* two blocks more, one is free */
    ax_sched_counts(sched, &counts);
    assert_int_equal(counts.preemptions, 0);
    ax_sched_stepped(sched, 100, false);
    ax_sched_finish(sched, 0, now);
    ax_sched_finish(sched, 1, now);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_held_drafts_advance_and_others_roll_back,
                                  close_sched),
        cmocka_unit_test_teardown(test_aborted_step_leaves_nothing,
                                  close_sched),
        cmocka_unit_test_teardown(test_bounds, close_sched),
        cmocka_unit_test_teardown(test_drafts_preempt_nobody, close_sched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
