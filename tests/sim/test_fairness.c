/*
 * Shows what tenants get of each other on a virtual clock: those that always
 * want more get parts by their weights, within the bound of virtual token
 * counters; one that comes back is owed nothing; a flood of long prompts,
 * another's or one's own, does not keep a short one waiting, however long it
 * has been queued; decodes do not
 * wait longer for a long prompt than they are promised.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "tests/sched/fake_kv.h"

#define SLOTS    192u
#define TENANTS  3u
#define LAYER_US 2000u /* until a step that is dropped has ended */

static struct fake_kv kv;
static struct ax_sched *sched;
static uint64_t now, chance;
static uint64_t ageing_us = 1u << 30;
static struct {
    bool live;
    uint64_t tenant, arrived, first;
} slots[SLOTS];
static uint64_t step_us_max;    /* of steps with a decode in them */
static uint32_t bare, bare_max; /* steps in a row without a decode */
static double stretch_max;      /* of one, over its decodes alone */
static double key_us, key_query_us;
static uint64_t next_at = UINT64_MAX; /* somebody asks for 100 tokens then */
static uint32_t next_slot;


static uint32_t
any(uint32_t below)
{
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return (uint32_t)((chance >> 11) % below);
}


static uint64_t slow = 1; /* so many times */

/* A step of SmolLM2's order on two cores. */
static uint64_t
cost_us(uint32_t n_tokens)
{
    return slow * (5000 + 700ull * n_tokens);
}


static void
open_sched(uint32_t blocks, uint32_t running, uint64_t tpot_us)
{
    kv = (struct fake_kv){.total = blocks, .block_tokens = 32};
    struct ax_sched_options o = {.slots_max = SLOTS,
                                 .running_max = running,
                                 .batch_tokens_max = 256,
                                 .kv_blocks_total = blocks,
                                 .kv_block_tokens = 32,
                                 .queue_max = SLOTS,
                                 .queue_tokens_max = 1u << 30,
                                 .ageing_us = ageing_us,
                                 .tpot_us = tpot_us,
                                 .kv = fake_kv_of(&kv)};
    struct ax_sched_cost costs[9];
    assert_int_equal(ax_sched_open(&sched, &o), AXION_OK);
    for (uint32_t i = 0; i < 9; i++) {
        costs[i] = (struct ax_sched_cost){1u << i, (uint32_t)cost_us(1u << i)};
    }
    assert_int_equal(ax_sched_set_costs(sched, costs, 9), AXION_OK);
    assert_int_equal(ax_sched_set_key_costs(sched, key_us, key_query_us),
                     AXION_OK);
    memset(slots, 0, sizeof(slots));
    now = 1;
    step_us_max = 0;
}


static uint32_t
ask(uint64_t tenant, uint32_t weight, uint32_t prompt, uint32_t answer)
{
    struct ax_sched_arrival arrival;
    struct ax_sched_request r = {.tenant = tenant,
                                 .weight = weight,
                                 .priority = 1,
                                 .prompt_tokens = prompt,
                                 .max_tokens = answer,
                                 .lease_tokens = AXION_LEASE_UNLIMITED};
    uint32_t slot = 0;
    while (slots[slot].live) {
        slot++;
        assert_true(slot < SLOTS);
    }
    assert_int_equal(ax_sched_arrive(sched, slot, &r, now, &arrival), AXION_OK);
    slots[slot].live = true;
    slots[slot].tenant = tenant;
    slots[slot].arrived = now;
    slots[slot].first = 0;
    return slot;
}


static double
keys_of(const struct ax_sched_entry *e)
{
    return (key_us + key_query_us * (e->n_tokens - 1)) * e->position;
}


/* The time of a step; how it compares with that of its decodes alone. */
static uint64_t
time_of(const struct ax_sched_step *step)
{
    double us = (double)cost_us(step->n_tokens), keys = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < step->n_entries; i++) {
        const struct ax_sched_entry *e = &step->entries[i];
        bool decodes = slots[e->slot].first != 0;
        us += keys_of(e);
        keys += decodes ? keys_of(e) : 0;
        n += decodes;
    }
    bare = n > 0 ? 0 : bare + 1;
    bare_max = bare > bare_max ? bare : bare_max;
    if (n > 0) {
        double stretch = us / ((double)cost_us(n) + keys);
        stretch_max = stretch > stretch_max ? stretch : stretch_max;
        step_us_max = us > (double)step_us_max ? (uint64_t)us : step_us_max;
    }
    return (uint64_t)us;
}


static void
forget_events(void)
{
    struct ax_sched_event event;
    while (ax_sched_event(sched, &event) == AXION_OK) {
    }
}


/* Somebody asks in the middle of a step; true: it was dropped. */
static bool
come_in(uint64_t started)
{
    now = next_at > started ? next_at : started;
    next_at = UINT64_MAX;
    next_slot = ask(1, 1, 100, 1);
    if (ax_sched_abandoned(sched)) {
        now += LAYER_US;
        ax_sched_stepped(sched, now - started, false);
        forget_events();
        return true;
    }
    return false;
}


static void
run_step(void)
{
    struct ax_sched_entry entries[SLOTS];
    const struct ax_sched_step *step = ax_sched_next(sched, now);
    uint32_t n = step->n_entries;
    assert_true(n > 0);
    memcpy(entries, step->entries, n * sizeof(*entries));
    uint64_t us = time_of(step), end = now + us;
    if (next_at < end && come_in(now)) {
        return;
    }
    now = end;
    ax_sched_stepped(sched, us, true);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t slot = entries[i].slot;
        if (!entries[i].samples) {
            continue;
        }
        slots[slot].first = slots[slot].first ? slots[slot].first : now;
        if (ax_sched_sampled(sched, slot) != 0) {
            ax_sched_finish(sched, slot, now);
            slots[slot].live = false;
        }
    }
    forget_events();
}


static uint32_t
live_of(uint64_t tenant)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < SLOTS; i++) {
        n += slots[i].live && slots[i].tenant == tenant;
    }
    return n;
}


/* Sheng et al., lemma 4.3: counters of tenants that wait differ by no more
 * than max(w_p L_input, w_q M), M the tokens that KV can hold, here w_p 1 and
 * w_q 2; what two are served between two moments (theorem 4.4) therefore by no
 * more than twice that. */
static void
counters_stay_within_the_bound(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        uint64_t gap_max = 0;
        chance = seed * 0x9e3779b97f4a7c15u;
        open_sched(128, 12, 0);
        for (uint32_t step = 0; step < 3000; step++) {
            for (uint64_t t = 1; t <= TENANTS; t++) {
                while (live_of(t) < 24) { /* more than there are places */
                    ask(t, (uint32_t)t, 1 + any(t == 1 ? 600 : 100),
                        1 + any(40));
                }
            }
            run_step();
            uint64_t low = UINT64_MAX, high = 0;
            for (uint64_t t = 1; t <= TENANTS; t++) {
                uint64_t served = ax_sched_served(sched, t);
                low = served < low ? served : low;
                high = served > high ? served : high;
            }
            gap_max = high - low > gap_max ? high - low : gap_max;
        }
        uint64_t bound = 2 * 128 * 32 * AX_SCHED_SERVED_TOKEN;
        assert_true(gap_max <= bound);
        /* Everyone got much more than the gap may be. */
        assert_true(ax_sched_served(sched, 1) > 2 * gap_max);
        ax_sched_close(sched);
    }
}


static void
who_comes_back_is_owed_nothing(void **state)
{
    (void)state;
    chance = 7;
    open_sched(1000, 8, 0);
    ask(1, 1, 10, 1);
    for (uint32_t i = 0; i < 300; i++) {
        while (live_of(2) < 12) {
            ask(2, 1, 50, 20);
        }
        run_step();
    }
    ask(1, 1, 10, 1);
    uint64_t a = ax_sched_served(sched, 1), b = ax_sched_served(sched, 2);
    assert_true(a >= b);
    ax_sched_close(sched);
}


/* Nor who was busy with one long answer and asked for little beside it. */
static void
who_asks_again_beside_an_answer_is_owed_nothing(void **state)
{
    (void)state;
    open_sched(1000, 8, 0);
    ask(1, 1, 10, 4000);
    for (uint32_t i = 0; i < 600; i++) {
        while (live_of(2) < 12) {
            ask(2, 1, 50, 20);
        }
        run_step();
    }
    uint64_t a = ax_sched_served(sched, 1), b = ax_sched_served(sched, 2);
    assert_true(2 * a < b);
    ask(1, 1, 100, 1);
    run_step();
    assert_true(ax_sched_served(sched, 1) >= b);
    ax_sched_close(sched);
}


static uint64_t
wait_of_short(uint32_t flood, uint64_t flooder)
{
    open_sched(4000, 64, 0);
    for (uint32_t i = 0; i < flood; i++) {
        ask(flooder, 1, 8000, 20);
    }
    for (uint32_t i = 0; flood > 0 && i < 20; i++) {
        run_step();
    }
    uint32_t slot = ask(1, 1, 200, 4);
    uint64_t began = now;
    while (slots[slot].first == 0) {
        run_step();
    }
    uint64_t waited = slots[slot].first - began;
    ax_sched_close(sched);
    return waited;
}


static void
a_short_prompt_passes_long_ones(void **state)
{
    (void)state;
    uint64_t alone = wait_of_short(0, 1);
    /* The step that runs, then its own; never the 45 s of eight long ones. */
    assert_true(wait_of_short(8, 2) <= 3 * alone);
    assert_true(wait_of_short(8, 1) <= 3 * alone);
    assert_true(wait_of_short(60, 2) <= 3 * alone);
    printf("a prompt of 200 tokens: %llu us alone, %llu behind its own flood, "
           "%llu behind another's\n",
           (unsigned long long)alone, (unsigned long long)wait_of_short(8, 1),
           (unsigned long long)wait_of_short(60, 2));
}


/* Short ones without end: the long one still comes, within its stretch. */
static void
a_long_prompt_is_not_starved_by_short_ones(void **state)
{
    (void)state;
    chance = 3;
    open_sched(4000, 64, 0);
    uint32_t slot = ask(1, 1, 4000, 1);
    while (slots[slot].first == 0) {
        while (live_of(1) < 40) {
            ask(1, 1, 300, 1);
        }
        run_step();
    }
    uint64_t own = 4000 / 256 * cost_us(256);
    assert_true(slots[slot].first - slots[slot].arrived < 12 * own);
    ax_sched_close(sched);
}


/* Each of a flood waits longer than classes take to age; who asks beside it
 * is served as if they had come just now. */
static void
a_flood_does_not_age_above_others(void **state)
{
    (void)state;
    ageing_us = 1000000;
    open_sched(4000, 64, 0);
    for (uint32_t i = 0; i < 20; i++) {
        uint64_t until = now + 700000;
        while (now < until) {
            while (live_of(2) < 60) {
                ask(2, 1, 400, 64);
            }
            run_step();
        }
        uint32_t slot = ask(1, 1, 100, 1);
        while (slots[slot].first == 0) {
            run_step();
        }
        assert_true(slots[slot].first - slots[slot].arrived < 3 * cost_us(100));
    }
    ageing_us = 1u << 30;
    ax_sched_close(sched);
}


/* Arrives in the middle of a step; true: the step was dropped for it. */
static bool
arrive_in_step(uint64_t tenant, double part, uint32_t *slot)
{
    const struct ax_sched_step *step = ax_sched_next(sched, now);
    uint64_t us = (uint64_t)(part * (double)cost_us(step->n_tokens));
    now += us;
    *slot = ask(tenant, 1, 100, 1);
    bool dropped = ax_sched_abandoned(sched);
    if (!dropped) { /* for the bookkeeping of run_step() it was none */
        now += cost_us(step->n_tokens) - us;
    }
    ax_sched_stepped(sched, us, false);
    forget_events();
    return dropped;
}


static void
flood(uint32_t prompt, uint64_t for_us)
{
    uint64_t until = now + for_us;
    while (now < until) {
        while (live_of(2) < 60) {
            ask(2, 1, prompt, 64);
        }
        run_step();
    }
}


/* What is behind a backlog is dropped for another tenant's first request,
 * which has the next step for itself; not twice in a row, not near its end,
 * not for the one with the backlog, and not without end. */
static void
a_backlogs_step_gives_way(void **state)
{
    uint32_t slot, second;
    (void)state;
    open_sched(4000, 64, 0);
    flood(400, 2000000);
    assert_true(arrive_in_step(1, 0.3, &slot));
    uint64_t began = now;
    while (slots[slot].first == 0) {
        run_step();
    }
    assert_true(now - began < 2 * cost_us(100)); /* alone with decodes */
    flood(400, 2000000);
    assert_true(arrive_in_step(1, 0.3, &slot));
    assert_false(arrive_in_step(3, 0.3, &second)); /* one was just dropped */
    flood(400, 2000000);
    assert_false(arrive_in_step(2, 0.3, &slot));
    assert_false(arrive_in_step(1, 0.95, &slot));
    flood(400, 2000000);
    /* Steps that stay long while others ask. */
    uint32_t n = 0;
    ax_sched_close(sched);
    open_sched(4000, 64, 60000);
    flood(400, 1000000);
    for (uint64_t i = 0, start = now; now < start + 4000000; i++) {
        n += arrive_in_step(10 + i, 0.5, &slot);
        flood(400, 100000);
    }
    printf("%u steps dropped for 4 s of arrivals\n", n);
    assert_in_range(n, 3, 25);
    ax_sched_close(sched);
}


/* Decodes of somebody without a backlog are in the step: it goes on. */
static void
a_step_with_others_in_it_does_not(void **state)
{
    uint32_t slot;
    (void)state;
    open_sched(4000, 64, 0);
    ask(5, 1, 20, 1000);
    flood(400, 2000000);
    assert_false(arrive_in_step(1, 0.3, &slot));
    ax_sched_close(sched);
}


/* One prompt each is nobody's backlog, beside somebody's flood as well. */
static void
prompts_of_many_tenants_share_a_step(void **state)
{
    uint32_t light[8];
    (void)state;
    for (int flooded = 0; flooded <= 1; flooded++) {
        open_sched(4000, 64, 0);
        if (flooded) {
            flood(400, 2000000);
        }
        for (uint32_t i = 0; i < 8; i++) {
            light[i] = ask(10 + i, 1, 8, 4);
        }
        run_step();
        for (uint32_t i = 0; i < 8; i++) {
            assert_true(slots[light[i]].first != 0);
        }
        ax_sched_close(sched);
    }
}


static void
a_full_house_of_one_tenant_has_a_place_for_another(void **state)
{
    (void)state;
    open_sched(4000, 16, 0);
    for (uint32_t i = 0; i < 40; i++) {
        ask(2, 1, 400, 400);
    }
    for (uint32_t i = 0; i < 30; i++) {
        run_step();
    }
    for (uint32_t i = 0; i < 20; i++) { /* again and again */
        uint32_t slot = ask(1, 1, 20, 4);
        uint64_t began = now;
        while (slots[slot].first == 0) {
            run_step();
        }
        assert_true(slots[slot].first - began <= 3 * cost_us(40));
        while (slots[slot].live) {
            run_step();
        }
        for (uint32_t k = 0; k < 4; k++) {
            run_step();
        }
    }
    ax_sched_close(sched);
}


static void
decodes_wait_no_longer_than_promised(void **state)
{
    static const uint64_t targets[] = {0, 25000, 60000};
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        open_sched(4000, 64, targets[i]);
        for (uint32_t k = 0; k < 16; k++) {
            ask(1, 1, 4, 500);
        }
        run_step();
        run_step();
        step_us_max = 0;
        uint32_t slot = ask(2, 1, 2000, 1);
        while (slots[slot].first == 0) {
            run_step();
        }
        uint64_t promised = targets[i] ? targets[i] : 2 * cost_us(16);
        assert_true(step_us_max <= (promised < 30000 && !targets[i] ? 30000
                                    : promised > cost_us(32)        ? promised
                                                             : cost_us(32)));
        assert_true(step_us_max > promised / 2); /* and it is used */
        ax_sched_close(sched);
    }
}


/* Deep in a prompt its keys cost more than its matrices: what 16 decodes wait
 * for it stays twice their own step, at every depth. */
static void
depth_makes_chunks_shorter(void **state)
{
    (void)state;
    key_us = 0.4;
    key_query_us = 0.4;
    open_sched(4000, 64, 0);
    for (uint32_t k = 0; k < 16; k++) {
        ask(1, 1, 4, 2000);
    }
    for (uint32_t i = 0; i < 10; i++) {
        run_step();
    }
    uint64_t before = step_us_max;
    uint32_t slot = ask(2, 1, 4000, 1);
    stretch_max = 0;
    while (slots[slot].first == 0) {
        run_step();
    }
    printf("16 decodes: a step takes %llu us, %.2f times as long beside a "
           "prompt of 4000\n",
           (unsigned long long)before, stretch_max);
    assert_true(stretch_max <= 2);
    assert_true(stretch_max > 1.5); /* and it is used */
    key_us = key_query_us = 0;
    ax_sched_close(sched);
}


static int
ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}


/* TTFT of one who asks for 100 tokens four times a second, alone or beside
 * 64 clients of one tenant with prompts of 400 and answers of 64 tokens. */
static void
ttft_of_light(bool flooded, uint64_t machine, bool known, uint64_t ttft[100])
{
    chance = 11;
    slow = known ? machine : 1;
    open_sched(4000, 32, 0);
    slow = machine;
    uint32_t n_flood = flooded ? 64 : 0;
    uint64_t until = now + 3000000;
    for (uint32_t n = 0; n < 100; n++) {
        next_at = until + any(20000);
        next_slot = SLOTS;
        while (next_slot == SLOTS || slots[next_slot].first == 0) {
            while (live_of(2) < n_flood) {
                ask(2, 1, 400, 64);
            }
            if (n_flood == 0 && next_slot == SLOTS) {
                now = next_at;
                next_at = UINT64_MAX;
                next_slot = ask(1, 1, 100, 1);
            }
            run_step();
        }
        ttft[n] = now - slots[next_slot].arrived;
        until = now + 250000 * machine; /* or it is no light one */
    }
    next_at = UINT64_MAX;
    qsort(ttft, 100, sizeof(*ttft), ascending);
    ax_sched_close(sched);
}


/* On machines of two speeds; and where it is much slower than it was when
 * steps were timed. */
static void
a_flood_makes_nobody_wait_half_as_long_again(void **state)
{
    uint64_t alone[100], beside[100];
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        uint64_t machine = i == 0 ? 1 : 6;
        ttft_of_light(false, machine, i < 2, alone);
        ttft_of_light(true, machine, i < 2, beside);
        slow = 1;
        printf("TTFT of 100 tokens: alone p50 %llu p99 %llu us, "
               "beside 64 floods p50 %llu p99 %llu\n",
               (unsigned long long)alone[49], (unsigned long long)alone[98],
               (unsigned long long)beside[49], (unsigned long long)beside[98]);
        assert_true(2 * beside[98] <= 3 * alone[98]);
    }
}


/* Short prompts of others in every step: a flood's answers go on in every
 * second one. */
static void
light_prompts_do_not_stop_a_floods_answers(void **state)
{
    (void)state;
    open_sched(4000, 64, 0);
    flood(400, 2000000);
    bare_max = bare = 0;
    for (uint32_t i = 0; i < 60; i++) {
        ask(100 + i, 1, 20, 1);
        run_step();
    }
    assert_int_equal(bare_max, 1);
    ax_sched_close(sched);
}


/* Nor its prompts: others' that come faster than steps end leave it what they
 * do not take themselves. */
static void
light_prompts_do_not_stop_a_floods_prompts(void **state)
{
    uint64_t came = 0, tenant = 100;
    (void)state;
    open_sched(4000, 64, 0);
    flood(400, 2000000);
    uint64_t before = ax_sched_served(sched, 2);
    for (uint64_t began = now; now - began < 10000000;) {
        while (live_of(2) < 60) {
            ask(2, 1, 400, 64);
        }
        for (; came < (now - began) / 5000; came++) {
            ask(tenant++, 1, 4, 1); /* alone they take three parts in five */
        }
        run_step();
    }
    uint64_t beside = ax_sched_served(sched, 2) - before;
    before = ax_sched_served(sched, 2);
    flood(400, 10000000);
    uint64_t alone = ax_sched_served(sched, 2) - before;
    printf("a flood gets %llu tokens in 10 s beside 200 short prompts a "
           "second, %llu alone\n",
           (unsigned long long)(beside / AX_SCHED_SERVED_TOKEN),
           (unsigned long long)(alone / AX_SCHED_SERVED_TOKEN));
    assert_true(5 * beside >= alone);
    ax_sched_close(sched);
}


/* Until 40 that came at once have their first token: of one tenant each, or
 * of one. */
static uint64_t
crowd_us(bool tenants)
{
    uint32_t left = 1;
    open_sched(4000, 64, 0);
    for (uint32_t i = 0; i < 40; i++) {
        ask(tenants ? 100 + i : 100, 1, 200, 64);
    }
    while (left > 0) {
        run_step();
        left = 0;
        for (uint32_t i = 0; i < 40; i++) {
            left += slots[i].first == 0;
        }
    }
    uint64_t us = now - slots[0].arrived;
    ax_sched_close(sched);
    return us;
}


static void
a_crowd_of_tenants_waits_no_longer_than_one_tenants(void **state)
{
    (void)state;
    uint64_t one = crowd_us(false), many = crowd_us(true);
    printf("first tokens of 40 prompts: %llu us of one tenant, %llu of 40\n",
           (unsigned long long)one, (unsigned long long)many);
    assert_true(10 * many <= 11 * one);
}


/* What a refusal would say: how long one more would have waited. */
static void
the_predicted_wait_is_near_the_real_one(void **state)
{
    static const uint32_t answers[] = {1, 60};
    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        open_sched(4000, 8, 0);
        for (uint32_t n = 0; n < 300; n++) {
            while (live_of(1) < 60) {
                ask(1, 1, 200, answers[i]);
            }
            run_step();
        }
        double predicted = 1e3 * ax_sched_retry_after_ms(sched, 200);
        uint32_t slot = ask(1, 1, 200, answers[i]);
        while (slots[slot].first == 0) {
            run_step();
        }
        double real = (double)(slots[slot].first - slots[slot].arrived);
        printf("answers of %u: %.1f s predicted, %.1f waited\n", answers[i],
               predicted / 1e6, real / 1e6);
        assert_true(predicted > real / 2 && predicted < real * 2);
        ax_sched_close(sched);
    }
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counters_stay_within_the_bound),
        cmocka_unit_test(who_comes_back_is_owed_nothing),
        cmocka_unit_test(who_asks_again_beside_an_answer_is_owed_nothing),
        cmocka_unit_test(a_short_prompt_passes_long_ones),
        cmocka_unit_test(a_long_prompt_is_not_starved_by_short_ones),
        cmocka_unit_test(a_flood_does_not_age_above_others),
        cmocka_unit_test(a_backlogs_step_gives_way),
        cmocka_unit_test(a_step_with_others_in_it_does_not),
        cmocka_unit_test(prompts_of_many_tenants_share_a_step),
        cmocka_unit_test(a_full_house_of_one_tenant_has_a_place_for_another),
        cmocka_unit_test(decodes_wait_no_longer_than_promised),
        cmocka_unit_test(depth_makes_chunks_shorter),
        cmocka_unit_test(light_prompts_do_not_stop_a_floods_answers),
        cmocka_unit_test(light_prompts_do_not_stop_a_floods_prompts),
        cmocka_unit_test(a_crowd_of_tenants_waits_no_longer_than_one_tenants),
        cmocka_unit_test(the_predicted_wait_is_near_the_real_one),
        cmocka_unit_test(a_flood_makes_nobody_wait_half_as_long_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
