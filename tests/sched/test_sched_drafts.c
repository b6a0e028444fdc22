/*
 * Shows how drafts lengthen a decode: never beyond the batch, the lease, the
 * answer's end or the KV that is free, charged only as far as they held, and
 * rolled back to exactly where an undrafted run stands.  Beside prompts they
 * stay within the step's target: streams that draft all they can make a prompt
 * a third later at most, and one stream goes on drafting beside a steady flow
 * of prompts.
 */
#include <math.h>
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
static uint64_t base_us = 100, token_us; /* what steps take */
static uint64_t target_us;               /* of the next one that is opened */


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
                                       .tpot_us = target_us,
                                       .kv = fake_kv_of(&kv)};
    assert_int_equal(ax_sched_open(&sched, &o), AXION_OK);
}


static int
close_sched(void **state)
{
    (void)state;
    ax_sched_close(sched);
    sched = NULL;
    base_us = 100;
    token_us = target_us = 0;
    return 0;
}


static uint64_t
us_of(const struct ax_sched_step *step)
{
    return base_us + token_us * step->n_tokens;
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
    ax_sched_stepped(sched, us_of(step), true);
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


/* ---- beside prompts ---- */

/* Three that decode alone take 10.6 ms: there is room for 53 tokens. */
#define TARGET_US 21200u
#define TOKEN_US  200u
#define STEP_US   10000u
#define LONG      1000u /* tokens of the prompt that comes */
#define LONG_AT   3u


static void
open_with_costs(double key_query_us)
{
    struct ax_sched_cost costs[8];
    open_sched(1000, 256);
    base_us = STEP_US;
    token_us = TOKEN_US;
    for (uint32_t i = 0; i < 8; i++) {
        costs[i] = (struct ax_sched_cost){1u << i, STEP_US + (TOKEN_US << i)};
    }
    assert_int_equal(ax_sched_set_costs(sched, costs, 8), AXION_OK);
    assert_int_equal(ax_sched_set_key_costs(sched, 0, key_query_us), AXION_OK);
}


static void
arrive(uint32_t slot, uint32_t prompt_tokens)
{
    const struct ax_sched_request r = {.tenant = 1,
                                       .priority = 1,
                                       .prompt_tokens = prompt_tokens,
                                       .max_tokens = 1,
                                       .lease_tokens = AXION_LEASE_UNLIMITED};
    struct ax_sched_arrival arrival;
    assert_int_equal(ax_sched_arrive(sched, slot, &r, now, &arrival), AXION_OK);
}


static void
want(double us)
{
    for (uint32_t i = 0; i < 32; i++) { /* a mean of the last ones */
        ax_sched_want_drafts(sched, us);
    }
}


/* What decodes wait for at most, where nobody says. */
static void
test_a_step_with_a_prompt_is_less_than_twice_as_long(void **state)
{
    (void)state;
    open_with_costs(0);
    for (uint32_t i = 0; i < 3; i++) {
        start(i, 100, AXION_LEASE_UNLIMITED);
    }
    uint64_t alone_us = STEP_US + 3 * TOKEN_US;
    arrive(LONG_AT, LONG);
    want(1e6);
    const struct ax_sched_step *step = ax_sched_next(sched, now);
    (void)ax_sched_extend(sched, 0, 64);
    assert_true(us_of(step) <= 2 * alone_us);
    assert_true(us_of(step) > alone_us * 3 / 2);
    ax_sched_stepped(sched, us_of(step), true);
}


static void
test_drafts_take_what_a_prompt_leaves(void **state)
{
    (void)state;
    target_us = TARGET_US;
    open_with_costs(0);
    for (uint32_t i = 0; i < 3; i++) {
        start(i, 100, AXION_LEASE_UNLIMITED);
    }
    const struct ax_sched_step *step = ax_sched_next(sched, now);
    assert_true(ax_sched_draft_room_us(sched) == HUGE_VAL); /* no prompt */
    ax_sched_stepped(sched, us_of(step), false);

    arrive(LONG_AT, LONG);
    step = ax_sched_next(sched, now);
    assert_int_equal(step->n_tokens, 3 + 52); /* ends with a block of 4 */
    assert_in_range(ax_sched_draft_room_us(sched), 199, 201);
    assert_int_equal(ax_sched_extend(sched, 0, 5), 1);
    assert_int_equal(ax_sched_extend(sched, 1, 5), 0);
    assert_true(ax_sched_draft_room_us(sched) < 1);
    ax_sched_stepped(sched, us_of(step), false);

    want(1e6); /* a quarter of 53 is left to them */
    step = ax_sched_next(sched, now);
    assert_int_equal(step->n_tokens, 3 + 36);
    assert_int_equal(ax_sched_extend(sched, 0, 2), 2);
    assert_int_equal(ax_sched_extend(sched, 1, 20), 15);
    assert_int_equal(ax_sched_extend(sched, 2, 9), 0);
    assert_int_equal(step->n_tokens, 3 + 53);
    ax_sched_stepped(sched, us_of(step), false);

    want(0); /* and given back */
    step = ax_sched_next(sched, now);
    assert_int_equal(step->n_tokens, 3 + 52);
    ax_sched_stepped(sched, us_of(step), false);
}


struct took {
    double us;
    uint32_t drafts, steps;
};


/* A prompt beside streams of which each could have so many drafts a step. */
static struct took
wait_of_prompt(uint32_t streams, uint32_t drafts, double key_query_us)
{
    struct took took = {0};
    target_us = TARGET_US;
    open_with_costs(key_query_us);
    for (uint32_t i = 0; i < streams; i++) {
        start(i, 200, AXION_LEASE_UNLIMITED);
    }
    want(drafts * streams * (double)TOKEN_US);
    arrive(LONG_AT, LONG);
    for (bool over = false; !over; took.steps++) {
        const struct ax_sched_step *step = ax_sched_next(sched, now);
        uint32_t n = step->n_entries;
        double us = STEP_US;
        for (uint32_t i = 0; i < n && drafts > 0; i++) {
            if (step->entries[i].slot != LONG_AT) {
                took.drafts += ax_sched_extend(sched, i, drafts);
            }
        }
        ax_sched_want_drafts(sched, drafts * streams * (double)TOKEN_US);
        for (uint32_t i = 0; i < n; i++) {
            const struct ax_sched_entry *e = &step->entries[i];
            us += TOKEN_US * e->n_tokens +
                  key_query_us * e->position * (e->n_tokens - 1);
        }
        assert_true(us <= TARGET_US + 1);
        over = ax_sched_tokens(sched, LONG_AT) > LONG;
        uint32_t slots[4], samples = 0;
        for (uint32_t i = 0; i < n; i++) {
            if (step->entries[i].samples) {
                slots[samples++] = step->entries[i].slot;
            }
        }
        ax_sched_stepped(sched, (uint64_t)us, true);
        took.us += us;
        for (uint32_t i = 0; i < samples; i++) {
            bool last = ax_sched_sampled(sched, slots[i]) != 0;
            over = over || slots[i] == LONG_AT;
            if (last) {
                ax_sched_finish(sched, slots[i], now);
            }
        }
    }
    for (uint32_t i = 0; i < streams; i++) {
        ax_sched_finish(sched, i, now);
    }
    assert_int_equal(kv.used, 0);
    ax_sched_close(sched);
    sched = NULL;
    return took;
}


static void
test_a_prompt_waits_a_third_longer_at_most(void **state)
{
    static const double keys_us[] = {0, 0.1, 0.3};
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        struct took alone = wait_of_prompt(3, 0, keys_us[i]);
        for (uint32_t drafts = 1; drafts <= 64; drafts *= 2) {
            struct took beside = wait_of_prompt(3, drafts, keys_us[i]);
            /* A chunk ends with a block; the last step may be one more. */
            assert_true(beside.us <= 1.45 * alone.us + 22000);
            assert_true(beside.drafts >= 3 * beside.steps);
        }
    }
}


/* Every step has as much of a prompt as there is room, and four drafts. */
static void
test_one_stream_keeps_its_drafts_beside_prompts(void **state)
{
    (void)state;
    target_us = TARGET_US;
    open_with_costs(0);
    start(0, 200, AXION_LEASE_UNLIMITED);
    want(4 * TOKEN_US);
    arrive(LONG_AT, LONG);
    for (uint32_t i = 0; i < 20; i++) {
        const struct ax_sched_step *step = ax_sched_next(sched, now);
        assert_int_equal(step->n_entries, 2);
        assert_int_equal(ax_sched_extend(sched, 0, 4), 4);
        ax_sched_want_drafts(sched, 4 * TOKEN_US);
        assert_true(us_of(step) <= TARGET_US);
        assert_true(step->n_tokens >= 1 + 4 + 44);
        ax_sched_stepped(sched, us_of(step), true);
        assert_int_equal(ax_sched_sampled(sched, 0), 0);
    }
    ax_sched_finish(sched, 0, now);
    ax_sched_finish(sched, LONG_AT, now);
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
        cmocka_unit_test_teardown(
            test_a_step_with_a_prompt_is_less_than_twice_as_long, close_sched),
        cmocka_unit_test_teardown(test_drafts_take_what_a_prompt_leaves,
                                  close_sched),
        cmocka_unit_test_teardown(test_a_prompt_waits_a_third_longer_at_most,
                                  close_sched),
        cmocka_unit_test_teardown(
            test_one_stream_keeps_its_drafts_beside_prompts, close_sched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
