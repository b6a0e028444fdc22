/*
 * Shows that random traffic cannot break the scheduler's promises: a seeded
 * simulation of arrivals, cancels, holds, leases and too little KV checks
 * after every step that budgets are kept, that no KV leaks, that a lease is
 * never passed, that what can run does run, and at the end that everyone who
 * was let in got an answer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "tests/sched/fake_kv.h"

#define SLOTS 96u

struct client {
    bool live, paused, blocked, asked, cancelled;
    uint64_t lease;
    uint32_t prompt, max, got;
};

struct world {
    struct ax_sched *sched;
    struct ax_sched_options options;
    struct fake_kv kv;
    struct client clients[SLOTS];
    uint64_t random, now;
    uint64_t arrived, refused, ended, cancelled, expired, preempted, steps;
};


static uint32_t
any(struct world *w, uint32_t below)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return (uint32_t)((w->random >> 11) % below);
}


static uint32_t
free_slot(struct world *w)
{
    for (uint32_t i = 0; i < SLOTS; i++) {
        if (!w->clients[i].live) {
            return i;
        }
    }
    return SLOTS;
}


static void
someone_arrives(struct world *w)
{
    uint32_t slot = free_slot(w);
    if (slot == SLOTS) {
        return;
    }
    struct ax_sched_request r = {.tenant = any(w, 4),
                                 .priority = any(w, 3),
                                 .prompt_tokens =
                                     1 + any(w, any(w, 4) == 0 ? 200 : 30),
                                 .max_tokens = 1 + any(w, 40)};
    bool limited = any(w, 3) == 0;
    r.lease_tokens =
        limited ? r.prompt_tokens + any(w, 20) : AXION_LEASE_UNLIMITED;
    r.deadline_us = any(w, 8) == 0 ? w->now + 1 + any(w, 100000) : 0;
    struct ax_sched_arrival a;
    if (ax_sched_arrive(w->sched, slot, &r, w->now, &a) != AXION_OK) {
        w->refused++;
        return;
    }
    w->arrived++;
    w->clients[slot] = (struct client){.live = true,
                                       .lease = r.lease_tokens,
                                       .prompt = r.prompt_tokens,
                                       .max = r.max_tokens};
}


static void
cancel(struct world *w, uint32_t slot)
{
    struct client *c = &w->clients[slot];
    if (c->cancelled) {
        return;
    }
    c->cancelled = true;
    if (ax_sched_cancel(w->sched, slot) == AXION_OK) {
        c->live = false;
        w->cancelled++;
        assert_int_equal(w->kv.held[slot], 0);
    }
}


static void
answer_lease(struct world *w, uint32_t slot)
{
    struct client *c = &w->clients[slot];
    uint32_t more = any(w, 3) == 0 ? 0 : 1 + any(w, 10);
    c->asked = false;
    c->lease += more;
    ax_sched_topup(w->sched, slot, more);
}


/* One random act of a client; also while a step runs. */
static void
someone_acts(struct world *w)
{
    uint32_t slot = any(w, SLOTS);
    struct client *c = &w->clients[slot];
    if (!c->live || c->cancelled) {
        return;
    }
    switch (any(w, 8)) {
    case 0:
        cancel(w, slot);
        break;
    case 1:
        ax_sched_hold(w->sched, slot, AX_HOLD_PAUSE);
        c->paused = true;
        break;
    case 2:
        ax_sched_hold(w->sched, slot, AX_HOLD_OUTPUT);
        c->blocked = true;
        break;
    case 3:
    case 4:
        ax_sched_unhold(w->sched, slot, AX_HOLD_PAUSE);
        ax_sched_unhold(w->sched, slot, AX_HOLD_OUTPUT);
        c->paused = c->blocked = false;
        break;
    default:
        if (c->asked) {
            answer_lease(w, slot);
        }
    }
}


static void
take_events(struct world *w)
{
    struct ax_sched_event e;
    while (ax_sched_event(w->sched, &e) == AXION_OK) {
        struct client *c = &w->clients[e.slot];
        assert_true(c->live);
        switch (e.kind) {
        case AX_SCHED_STARTED:
            break;
        case AX_SCHED_PREEMPTED:
            w->preempted++;
            break;
        case AX_SCHED_LEASE_LOW:
            assert_int_equal(e.spent, c->prompt + c->got);
            assert_int_equal(e.left, c->lease - e.spent);
            c->asked = true;
            break;
        case AX_SCHED_LEASE_END:
            assert_int_equal(c->prompt + c->got, c->lease);
            ax_sched_finish(w->sched, e.slot, w->now);
            c->live = false;
            w->ended++;
            break;
        case AX_SCHED_DEADLINE:
            c->live = false;
            w->expired++;
            break;
        case AX_SCHED_CANCELLED:
            assert_true(c->cancelled);
            c->live = false;
            w->cancelled++;
            break;
        }
    }
}


static void
check_kv(const struct world *w)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < SLOTS; i++) {
        sum += w->kv.held[i];
        if (!w->clients[i].live) {
            assert_int_equal(w->kv.held[i], 0);
        }
    }
    assert_int_equal(sum, w->kv.used);
    assert_true(w->kv.used <= w->kv.total);
}


static void
check_step(const struct world *w, const struct ax_sched_step *step)
{
    uint32_t n_tokens = 0, n_samples = 0;
    assert_true(step->n_entries <= w->options.running_max);
    for (uint32_t i = 0; i < step->n_entries; i++) {
        const struct ax_sched_entry *e = &step->entries[i];
        const struct client *c = &w->clients[e->slot];
        assert_true(c->live && !c->cancelled && !c->paused && !c->blocked);
        assert_true(e->n_tokens > 0);
        assert_true(fake_blocks(&w->kv, e->position + e->n_tokens) <=
                    w->kv.held[e->slot]);
        assert_true(c->prompt + c->got < c->lease); /* may have one more */
        n_tokens += e->n_tokens;
        n_samples += e->samples;
    }
    assert_int_equal(n_tokens, step->n_tokens);
    assert_int_equal(n_samples, step->n_samples);
    assert_true(n_tokens <= w->options.batch_tokens_max);
}


static void
one_step(struct world *w)
{
    bool runnable = ax_sched_runnable(w->sched);
    const struct ax_sched_step *step = ax_sched_next(w->sched, w->now);
    take_events(w);
    check_step(w, step);
    if (step->n_entries == 0) {
        /* An expired deadline can have been all there was to run. */
        assert_true(!runnable || !ax_sched_runnable(w->sched));
        w->now += 1000;
        return;
    }
    struct ax_sched_entry entries[SLOTS];
    uint32_t n = step->n_entries;
    memcpy(entries, step->entries, n * sizeof(entries[0]));
    w->steps++;
    for (uint32_t i = any(w, 3); i > 0; i--) {
        someone_acts(w);
    }
    uint64_t cost = 50 * step->n_tokens + 1;
    w->now += cost;
    bool computed = !ax_sched_abandoned(w->sched) && any(w, 50) != 0;
    ax_sched_stepped(w->sched, cost, computed);
    take_events(w);
    for (uint32_t i = 0; computed && i < n; i++) {
        struct client *c = &w->clients[entries[i].slot];
        if (!entries[i].samples || !c->live || c->cancelled) {
            continue;
        }
        c->got++;
        assert_true(c->prompt + c->got <= c->lease);
        unsigned reason = ax_sched_sampled(w->sched, entries[i].slot);
        if (reason != 0) {
            assert_true(reason == AXION_FINISH_LEASE
                            ? c->prompt + c->got == c->lease
                            : c->got == c->max);
            ax_sched_finish(w->sched, entries[i].slot, w->now);
            c->live = false;
            w->ended++;
        }
    }
    check_kv(w);
}


/* Everyone lets go of the brake; then all must come to their end. */
static void
drain(struct world *w)
{
    for (uint32_t guard = 0; guard < 100000; guard++) {
        bool anyone = false;
        for (uint32_t i = 0; i < SLOTS; i++) {
            struct client *c = &w->clients[i];
            if (!c->live || c->cancelled) {
                continue;
            }
            anyone = true;
            ax_sched_unhold(w->sched, i, AX_HOLD_PAUSE);
            ax_sched_unhold(w->sched, i, AX_HOLD_OUTPUT);
            c->paused = c->blocked = false;
            if (c->asked) {
                answer_lease(w, i);
            }
        }
        take_events(w);
        if (!anyone) {
            return;
        }
        one_step(w);
    }
    fail_msg("someone starved");
}


static void
simulate(uint64_t seed, uint32_t blocks, uint32_t running, uint32_t batch)
{
    static struct world w;
    w = (struct world){.random = seed * 0x9e3779b97f4a7c15u + 1, .now = 1};
    w.kv = (struct fake_kv){.total = blocks, .block_tokens = 8};
    w.options = (struct ax_sched_options){.slots_max = SLOTS,
                                          .running_max = running,
                                          .batch_tokens_max = batch,
                                          .kv_blocks_total = blocks,
                                          .kv_block_tokens = 8,
                                          .queue_max = 64,
                                          .queue_tokens_max = 3000,
                                          .ageing_us = 50000,
                                          .lease_low_tokens = 4,
                                          .lease_ask_tokens = 16,
                                          .kv = fake_kv_of(&w.kv)};
    assert_int_equal(ax_sched_open(&w.sched, &w.options), AXION_OK);
    for (uint32_t turn = 0; turn < 4000; turn++) {
        for (uint32_t i = any(&w, 3); i > 0; i--) {
            someone_arrives(&w);
        }
        someone_acts(&w);
        take_events(&w);
        one_step(&w);
    }
    drain(&w);
    check_kv(&w);
    assert_int_equal(w.kv.used, 0);
    assert_int_equal(w.arrived, w.ended + w.cancelled + w.expired);
    assert_true(w.ended > 10);
    printf("seed %u: %u arrived, %u refused, %u ended, %u cancelled, "
           "%u expired, %u preempted, %u steps\n",
           (unsigned)seed, (unsigned)w.arrived, (unsigned)w.refused,
           (unsigned)w.ended, (unsigned)w.cancelled, (unsigned)w.expired,
           (unsigned)w.preempted, (unsigned)w.steps);
    ax_sched_close(w.sched);
}


static void
test_little_kv(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        simulate(seed, 32, 8, 64);
    }
}


static void
test_plenty_of_kv(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        simulate(seed, 2000, 16, 64);
    }
}


static void
test_one_at_a_time_in_tiny_chunks(void **state)
{
    (void)state;
    simulate(1, 40, 1, 1);
    simulate(2, 40, 2, 3);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_little_kv),
        cmocka_unit_test(test_plenty_of_kv),
        cmocka_unit_test(test_one_at_a_time_in_tiny_chunks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
