/*
 * Shows the scheduler's rules one by one: what goes into a step and in which
 * order, what is refused, what a hold, a cancel, a lease and a lack of KV do.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "tests/sched/fake_kv.h"

static struct fake_kv kv;
static struct ax_sched *sched;
static uint64_t now = 1000;
static uint32_t seen[64]; /* events since the last look, bits per slot */


static struct ax_sched_options
options_of(uint32_t blocks, uint32_t running, uint32_t batch)
{
    kv = (struct fake_kv){.total = blocks, .block_tokens = 4};
    return (struct ax_sched_options){.slots_max = 64,
                                     .running_max = running,
                                     .batch_tokens_max = batch,
                                     .kv_blocks_total = blocks,
                                     .kv_block_tokens = 4,
                                     .queue_max = 32,
                                     .queue_tokens_max = 1000,
                                     .kv = fake_kv_of(&kv)};
}


static void
open_sched(uint32_t blocks, uint32_t running, uint32_t batch)
{
    struct ax_sched_options o = options_of(blocks, running, batch);
    assert_int_equal(ax_sched_open(&sched, &o), AXION_OK);
}


static int
close_sched(void **state)
{
    (void)state;
    ax_sched_close(sched);
    sched = NULL;
    memset(seen, 0, sizeof(seen));
    return 0;
}


static struct ax_sched_request
request_of(uint32_t prompt, uint32_t max)
{
    return (struct ax_sched_request){.tenant = 1,
                                     .priority = 1,
                                     .prompt_tokens = prompt,
                                     .max_tokens = max,
                                     .lease_tokens = AXION_LEASE_UNLIMITED};
}


static int
arrive(uint32_t slot, const struct ax_sched_request *r)
{
    struct ax_sched_arrival a;
    return ax_sched_arrive(sched, slot, r, now, &a);
}


static void
arrive_ok(uint32_t slot, uint32_t prompt, uint32_t max)
{
    struct ax_sched_request r = request_of(prompt, max);
    assert_int_equal(arrive(slot, &r), AXION_OK);
}


static const struct ax_sched_entry *
entry_of(const struct ax_sched_step *step, uint32_t slot)
{
    for (uint32_t i = 0; i < step->n_entries; i++) {
        if (step->entries[i].slot == slot) {
            return &step->entries[i];
        }
    }
    return NULL;
}


static void
take_events(void)
{
    struct ax_sched_event e;
    while (ax_sched_event(sched, &e) == AXION_OK) {
        seen[e.slot] |= 1u << e.kind;
    }
}


static bool
saw(enum ax_sched_event_kind kind, uint32_t slot)
{
    take_events();
    bool yes = (seen[slot] >> kind & 1) != 0;
    seen[slot] = 0;
    return yes;
}


/* One whole step: everything that samples gets its token; ends are ended. */
static uint32_t
run_step(void)
{
    const struct ax_sched_step *step = ax_sched_next(sched, now);
    struct ax_sched_entry copy[64];
    uint32_t n = step->n_entries;
    if (n == 0) {
        return 0;
    }
    take_events();
    memcpy(copy, step->entries, n * sizeof(copy[0]));
    now += 1000;
    ax_sched_stepped(sched, 1000, true);
    for (uint32_t i = 0; i < n; i++) {
        if (copy[i].samples && ax_sched_sampled(sched, copy[i].slot) != 0) {
            ax_sched_finish(sched, copy[i].slot, now);
        }
    }
    return n;
}


static void
test_contradicting_options_are_refused(void **state)
{
    (void)state;
    struct ax_sched_options o = options_of(10, 8, 4);
    struct ax_sched *s;
    assert_int_equal(ax_sched_open(&s, &o), AXION_ERR_BAD_OPTION);
    assert_null(s);
    ax_sched_close(NULL);
}


static void
test_long_prompt_goes_in_chunks_beside_decodes(void **state)
{
    (void)state;
    open_sched(100, 4, 16);
    arrive_ok(0, 5, 10);
    assert_int_equal(run_step(), 1);
    arrive_ok(1, 40, 10);
    const struct ax_sched_step *step = ax_sched_next(sched, now);
    assert_int_equal(step->n_entries, 2);
    assert_int_equal(step->entries[0].slot, 0); /* the decode is first */
    assert_int_equal(step->entries[0].n_tokens, 1);
    assert_int_equal(step->entries[0].position, 5);
    /* 15 are left, and a chunk ends with a block of 4 */
    assert_int_equal(step->entries[1].n_tokens, 12);
    assert_false(step->entries[1].samples);
    assert_int_equal(step->n_tokens, 13);
    assert_int_equal(step->n_samples, 1);
    ax_sched_stepped(sched, 1000, true);
    assert_int_equal(ax_sched_sampled(sched, 0), 0);
    step = ax_sched_next(sched, now);
    assert_int_equal(entry_of(step, 1)->position, 12);
    assert_int_equal(entry_of(step, 1)->n_tokens, 12);
    ax_sched_stepped(sched, 1000, true);
    assert_int_equal(ax_sched_sampled(sched, 0), 0);
    step = ax_sched_next(sched, now);
    assert_int_equal(entry_of(step, 1)->n_tokens, 12);
    ax_sched_stepped(sched, 1000, true);
    assert_int_equal(ax_sched_sampled(sched, 0), 0);
    step = ax_sched_next(sched, now);
    assert_int_equal(entry_of(step, 1)->n_tokens, 4);
    assert_true(entry_of(step, 1)->samples);
    ax_sched_stepped(sched, 1000, true);
}


/* Where the rest of a block is much of the room, no step is wasted on it. */
static void
test_small_chunks_are_whole(void **state)
{
    (void)state;
    open_sched(100, 4, 7);
    arrive_ok(0, 5, 10);
    assert_int_equal(run_step(), 1);
    arrive_ok(1, 40, 10);
    for (uint32_t i = 0; i < 4; i++) {
        const struct ax_sched_step *step = ax_sched_next(sched, now);
        assert_int_equal(entry_of(step, 1)->position, 6 * i);
        assert_int_equal(entry_of(step, 1)->n_tokens, 6);
        ax_sched_stepped(sched, 1000, true);
        assert_int_equal(ax_sched_sampled(sched, 0), 0);
    }
}


/* ---- one beginning ---- */

#define BLOCK 16u
#define ALIKE 4u
#define TEXT  160u

static uint32_t whole; /* positions in blocks that the cache knows */


static uint32_t
known_whole(void *context, uint32_t slot, uint32_t n_max)
{
    (void)context;
    (void)slot;
    return whole < n_max / BLOCK * BLOCK ? whole : n_max / BLOCK * BLOCK;
}


static uint32_t
attach_whole(void *context, uint32_t slot, uint32_t n_computed, uint32_t n_max)
{
    uint32_t n = known_whole(context, slot, n_max);
    assert_int_equal(n_computed % BLOCK, 0);
    return n > n_computed ? n : n_computed;
}


static uint64_t
name_of_block(void *context, uint32_t slot, uint32_t position)
{
    (void)context;
    (void)slot;
    return 1 + position / BLOCK;
}


static uint32_t
held_alone(void *context, uint32_t slot)
{
    (void)context;
    return kv.held[slot];
}


/* One step of prompts that are alike; how many tokens it computes. */
static uint32_t
step_alike(void)
{
    const struct ax_sched_step *step = ax_sched_next(sched, now);
    uint32_t slots[ALIKE], n = 0, samples = 0;
    for (uint32_t i = 0; i < step->n_entries; i++) {
        const struct ax_sched_entry *e = &step->entries[i];
        uint32_t end = (e->position + e->n_tokens) / BLOCK * BLOCK;
        n += e->n_tokens;
        whole = end > whole ? end : whole;
        slots[samples] = e->slot;
        samples += e->samples;
    }
    if (n > 0) {
        now += 1000;
        ax_sched_stepped(sched, 1000, true);
    }
    for (uint32_t i = 0; i < samples; i++) {
        assert_int_equal(ax_sched_sampled(sched, slots[i]),
                         AXION_FINISH_LENGTH);
        ax_sched_finish(sched, slots[i], now);
    }
    return n;
}


/* Chunks that end within a block: who stands there takes over what others
 * computed since, and nobody computes a block beside another. */
static void
test_chunks_within_blocks_find_what_is_known(void **state)
{
    (void)state;
    for (uint32_t batch = 4; batch <= 64; batch++) {
        uint32_t computed = 0, n;
        struct ax_sched_options o = options_of(100, ALIKE, batch);
        o.kv_block_tokens = kv.block_tokens = BLOCK;
        o.kv.known = known_whole;
        o.kv.attach = attach_whole;
        o.kv.name = name_of_block;
        o.kv.alone = held_alone;
        whole = 0;
        assert_int_equal(ax_sched_open(&sched, &o), AXION_OK);
        for (uint32_t i = 0; i < ALIKE; i++) {
            arrive_ok(i, TEXT, 1);
        }
        while ((n = step_alike()) > 0) {
            computed += n;
        }
        /* The last block is everyone's own, and each may have begun one. */
        assert_true(computed <= TEXT + 2 * (ALIKE - 1) * BLOCK);
        assert_int_equal(kv.used, 0);
        ax_sched_close(sched);
        sched = NULL;
    }
}


static void
test_ends_at_max_tokens_and_gives_kv_back(void **state)
{
    (void)state;
    open_sched(100, 4, 16);
    arrive_ok(3, 7, 3);
    assert_int_equal(run_step(), 1);
    assert_int_equal(run_step(), 1);
    assert_int_equal(run_step(), 1);
    assert_int_equal(run_step(), 0);
    assert_int_equal(kv.used, 0);
    assert_false(ax_sched_runnable(sched));
}


static void
test_refusals(void **state)
{
    (void)state;
    open_sched(4, 4, 16);
    struct ax_sched_request r = request_of(0, 5);
    assert_int_equal(arrive(0, &r), AXION_ERR_INVALID_REQUEST);
    r = request_of(4, UINT32_MAX);
    assert_int_equal(arrive(0, &r), AXION_ERR_INVALID_REQUEST);
    r = request_of(10, 8); /* 17 positions, 16 there */
    assert_int_equal(arrive(0, &r), AXION_ERR_KV_EXHAUSTED);
    r = request_of(10, 7);
    r.lease_tokens = 10;
    assert_int_equal(arrive(0, &r), AXION_ERR_LEASE_TOO_SMALL);
    r.lease_tokens = 11;
    assert_int_equal(arrive(0, &r), AXION_OK);
}


static void
test_queue_is_bounded_in_requests_and_tokens(void **state)
{
    (void)state;
    open_sched(1000, 1, 16);
    struct ax_sched_request r = request_of(600, 5);
    struct ax_sched_arrival a;
    assert_int_equal(ax_sched_arrive(sched, 0, &r, now, &a), AXION_OK);
    assert_int_equal(ax_sched_arrive(sched, 1, &r, now, &a),
                     AXION_ERR_QUEUE_FULL);
    assert_true(a.retry_after_ms > 0);
    for (uint32_t i = 1; i < 32; i++) {
        arrive_ok(i, 2, 5);
    }
    r = request_of(2, 5);
    assert_int_equal(arrive(40, &r), AXION_ERR_QUEUE_FULL);
}


static void
test_priority_then_arrival_then_age(void **state)
{
    (void)state;
    open_sched(1000, 1, 16);
    arrive_ok(0, 2, 2);
    assert_int_equal(run_step(), 1); /* slot 0 has the only place */
    struct ax_sched_request low = request_of(2, 1);
    low.priority = 0;
    assert_int_equal(arrive(1, &low), AXION_OK);
    arrive_ok(2, 2, 1);
    struct ax_sched_request high = request_of(2, 1);
    high.priority = 2;
    assert_int_equal(arrive(3, &high), AXION_OK);
    assert_int_equal(run_step(), 1); /* slot 0 ends */
    run_step();
    assert_true(saw(AX_SCHED_STARTED, 3));
    now += 30000000; /* three classes of age for both that wait */
    assert_int_equal(arrive(3, &high), AXION_OK);
    run_step();
    assert_true(saw(AX_SCHED_STARTED, 1));
    run_step();
    assert_true(saw(AX_SCHED_STARTED, 2));
    run_step();
    assert_true(saw(AX_SCHED_STARTED, 3));
}


static void
test_tenants_share_by_tokens_served(void **state)
{
    (void)state;
    open_sched(1000, 1, 64);
    struct ax_sched_request a = request_of(20, 1), b = request_of(5, 1);
    b.tenant = 2;
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(arrive(i, &a), AXION_OK);
    }
    for (uint32_t i = 4; i < 8; i++) {
        assert_int_equal(arrive(i, &b), AXION_OK);
    }
    run_step();
    assert_true(saw(AX_SCHED_STARTED, 4)); /* both at zero: the short one */
    run_step();
    assert_true(saw(AX_SCHED_STARTED, 0)); /* 0 to 7 */
    for (uint32_t i = 5; i < 8; i++) {
        run_step(); /* 22 to 7, 14 and 21 */
        assert_true(saw(AX_SCHED_STARTED, i));
    }
    run_step();
    assert_true(saw(AX_SCHED_STARTED, 1));
}


static void
test_hold_keeps_kv_and_place(void **state)
{
    (void)state;
    open_sched(100, 4, 16);
    arrive_ok(0, 5, 10);
    run_step();
    uint32_t used = kv.used;
    ax_sched_hold(sched, 0, AX_HOLD_PAUSE);
    ax_sched_hold(sched, 0, AX_HOLD_OUTPUT);
    assert_false(ax_sched_runnable(sched));
    assert_int_equal(run_step(), 0);
    assert_int_equal(kv.used, used);
    struct ax_sched_counts c;
    ax_sched_counts(sched, &c);
    assert_int_equal(c.parked, 1);
    assert_int_equal(c.running, 0);
    ax_sched_unhold(sched, 0, AX_HOLD_PAUSE);
    assert_int_equal(run_step(), 0);
    ax_sched_unhold(sched, 0, AX_HOLD_OUTPUT);
    assert_int_equal(run_step(), 1);
}


static void
test_cancel_acts_within_one_step_in_every_state(void **state)
{
    (void)state;
    open_sched(100, 1, 16);
    arrive_ok(0, 40, 10);
    arrive_ok(1, 4, 10);
    assert_int_equal(ax_sched_cancel(sched, 1), AXION_OK); /* waiting */
    const struct ax_sched_step *step = ax_sched_next(sched, now);
    assert_int_equal(step->n_entries, 1);
    assert_false(ax_sched_abandoned(sched));
    assert_int_equal(ax_sched_cancel(sched, 0), AXION_AGAIN); /* prefill */
    assert_true(ax_sched_abandoned(sched));
    ax_sched_stepped(sched, 0, false);
    assert_true(saw(AX_SCHED_CANCELLED, 0));
    assert_int_equal(kv.used, 0);
    arrive_ok(0, 4, 10);
    run_step();
    assert_int_equal(ax_sched_cancel(sched, 0), AXION_OK); /* decode */
    assert_int_equal(kv.used, 0);
    arrive_ok(0, 4, 10);
    run_step();
    ax_sched_hold(sched, 0, AX_HOLD_PAUSE);
    assert_int_equal(ax_sched_cancel(sched, 0), AXION_OK); /* parked */
    assert_int_equal(kv.used, 0);
    assert_false(ax_sched_runnable(sched));
}


static void
test_an_aborted_step_is_computed_again(void **state)
{
    (void)state;
    open_sched(100, 4, 16);
    arrive_ok(0, 20, 10);
    assert_int_equal(ax_sched_next(sched, now)->n_tokens, 16);
    ax_sched_stepped(sched, 1000, false);
    const struct ax_sched_step *step = ax_sched_next(sched, now);
    assert_int_equal(step->entries[0].position, 0);
    assert_int_equal(step->n_tokens, 16);
    ax_sched_stepped(sched, 1000, true);
}


static void
test_lease_asks_in_time_parks_and_ends(void **state)
{
    (void)state;
    open_sched(100, 4, 64);
    struct ax_sched_request r = request_of(10, 100);
    r.lease_tokens = 12;
    assert_int_equal(arrive(0, &r), AXION_OK);
    assert_int_equal(ax_sched_next(sched, now)->n_tokens, 10);
    struct ax_sched_event e;
    assert_int_equal(ax_sched_event(sched, &e), AXION_OK);
    assert_int_equal(e.kind, AX_SCHED_STARTED);
    assert_int_equal(ax_sched_event(sched, &e), AXION_OK);
    assert_int_equal(e.kind, AX_SCHED_LEASE_LOW);
    assert_int_equal(e.spent, 10);
    assert_int_equal(e.left, 2);
    assert_int_equal(e.wanted, 98);
    ax_sched_stepped(sched, 1000, true);
    assert_int_equal(ax_sched_sampled(sched, 0), 0);
    assert_int_equal(run_step(), 1);
    assert_int_equal(run_step(), 0); /* 12 are spent: parked */
    ax_sched_topup(sched, 0, 2);
    assert_int_equal(run_step(), 1);
    assert_true(saw(AX_SCHED_LEASE_LOW, 0));
    assert_int_equal(run_step(), 1);
    assert_int_equal(run_step(), 0);
    ax_sched_topup(sched, 0, 0);
    assert_true(saw(AX_SCHED_LEASE_END, 0));
    assert_int_equal(ax_sched_tokens(sched, 0), 14);
    ax_sched_finish(sched, 0, now);
    assert_int_equal(kv.used, 0);
}


static void
test_lease_refused_early_ends_at_the_last_token(void **state)
{
    (void)state;
    open_sched(100, 4, 64);
    struct ax_sched_request r = request_of(10, 100);
    r.lease_tokens = 13;
    assert_int_equal(arrive(0, &r), AXION_OK);
    run_step();
    ax_sched_topup(sched, 0, 0);
    assert_int_equal(run_step(), 1);
    ax_sched_next(sched, now);
    ax_sched_stepped(sched, 10, true);
    assert_int_equal(ax_sched_sampled(sched, 0), AXION_FINISH_LEASE);
    assert_int_equal(ax_sched_tokens(sched, 0), 13);
    ax_sched_finish(sched, 0, now);
}


static void
test_deadline_refuses_and_expires(void **state)
{
    (void)state;
    open_sched(1000, 1, 100);
    arrive_ok(0, 100, 50);
    run_step(); /* 10 us a token from now on */
    arrive_ok(1, 500, 5);
    struct ax_sched_request r = request_of(100, 5);
    r.deadline_us = now + 5000; /* 600 tokens are before it: 6 ms */
    assert_int_equal(arrive(2, &r), AXION_ERR_DEADLINE);
    r.deadline_us = now + 7000;
    assert_int_equal(arrive(2, &r), AXION_OK);
    assert_int_equal(ax_sched_wakeup_us(sched), r.deadline_us);
    now += 8000;
    run_step();
    assert_true(saw(AX_SCHED_DEADLINE, 2));
}


static void
test_kv_lack_preempts_the_latest_and_recomputes(void **state)
{
    (void)state;
    open_sched(8, 2, 32); /* 32 positions */
    arrive_ok(0, 10, 20);
    arrive_ok(1, 10, 20);
    while (!saw(AX_SCHED_PREEMPTED, 1)) {
        assert_true(run_step() > 0);
    }
    assert_int_equal(ax_sched_preemptions(sched, 0), 0);
    assert_int_equal(ax_sched_preemptions(sched, 1), 1);
    uint32_t before = ax_sched_tokens(sched, 1);
    assert_true(before > 10);
    const struct ax_sched_entry *e = NULL;
    while (e == NULL) { /* until slot 0 is through */
        const struct ax_sched_step *step = ax_sched_next(sched, now);
        e = entry_of(step, 1);
        if (e != NULL) {
            assert_int_equal(e->position, 0);
            assert_int_equal(e->n_tokens, before);
        }
        struct ax_sched_entry copy = step->entries[0];
        ax_sched_stepped(sched, 100, true);
        if (ax_sched_sampled(sched, copy.slot) != 0) {
            ax_sched_finish(sched, copy.slot, now);
        }
    }
    while (run_step() > 0) {
    }
    assert_int_equal(kv.used, 0);
}


static void
test_parked_kv_is_taken_before_running_kv(void **state)
{
    (void)state;
    open_sched(8, 3, 32);
    arrive_ok(0, 8, 20);
    arrive_ok(1, 8, 10);
    run_step();
    ax_sched_hold(sched, 0, AX_HOLD_PAUSE); /* the older one */
    arrive_ok(2, 16, 4);
    bool preempted = false;
    while (run_step() > 0) {
        preempted |= saw(AX_SCHED_PREEMPTED, 0);
    }
    assert_true(preempted);
    assert_int_equal(kv.used, 0);
    ax_sched_unhold(sched, 0, AX_HOLD_PAUSE);
    while (run_step() > 0) {
    }
    assert_false(ax_sched_runnable(sched));
}


/* Its mask comes soon: who came later does not take what it has computed. */
static void
test_kv_of_who_waits_for_a_mask_is_not_taken(void **state)
{
    (void)state;
    open_sched(8, 3, 32);
    arrive_ok(0, 8, 20);
    arrive_ok(1, 8, 10);
    run_step();
    ax_sched_hold(sched, 0, AX_HOLD_GRAMMAR); /* the older one */
    arrive_ok(2, 16, 4);
    while (run_step() > 0) {
        assert_false(saw(AX_SCHED_PREEMPTED, 0));
    }
    assert_true(kv.used > 0);
    ax_sched_unhold(sched, 0, AX_HOLD_GRAMMAR);
    while (run_step() > 0) {
    }
    assert_int_equal(kv.used, 0);
    assert_false(ax_sched_runnable(sched));
}


static void
test_high_class_takes_kv_of_a_low_one(void **state)
{
    (void)state;
    open_sched(8, 3, 32);
    struct ax_sched_request low = request_of(20, 10);
    low.priority = 0;
    assert_int_equal(arrive(0, &low), AXION_OK);
    run_step();
    struct ax_sched_request high = request_of(20, 4);
    high.priority = 2;
    assert_int_equal(arrive(1, &high), AXION_OK);
    run_step();
    assert_true(saw(AX_SCHED_PREEMPTED, 0));
    while (run_step() > 0) {
    }
    assert_int_equal(kv.used, 0);
}


int
main(void)
{
#define TEST(f) cmocka_unit_test_teardown(f, close_sched)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contradicting_options_are_refused),
        TEST(test_long_prompt_goes_in_chunks_beside_decodes),
        TEST(test_small_chunks_are_whole),
        TEST(test_chunks_within_blocks_find_what_is_known),
        TEST(test_ends_at_max_tokens_and_gives_kv_back),
        TEST(test_refusals),
        TEST(test_queue_is_bounded_in_requests_and_tokens),
        TEST(test_priority_then_arrival_then_age),
        TEST(test_tenants_share_by_tokens_served),
        TEST(test_hold_keeps_kv_and_place),
        TEST(test_cancel_acts_within_one_step_in_every_state),
        TEST(test_an_aborted_step_is_computed_again),
        TEST(test_lease_asks_in_time_parks_and_ends),
        TEST(test_lease_refused_early_ends_at_the_last_token),
        TEST(test_deadline_refuses_and_expires),
        TEST(test_kv_lack_preempts_the_latest_and_recomputes),
        TEST(test_parked_kv_is_taken_before_running_kv),
        TEST(test_kv_of_who_waits_for_a_mask_is_not_taken),
        TEST(test_high_class_takes_kv_of_a_low_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
