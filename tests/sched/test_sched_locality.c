/*
 * Shows that requests with one known beginning run together, across tenants'
 * turns, and that fairness bounds it: who goes first for his prefix is never
 * more than the quantum ahead, and nobody's only prompt waits for it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "tests/sched/fake_kv.h"

#define SLOTS  64u
#define PROMPT 256u

static struct fake_kv kv;
static struct ax_sched *sched;
static uint64_t now;
static uint32_t known_of[SLOTS]; /* what the cache knows of each */
static uint64_t tenant_of[SLOTS];


static uint32_t
known(void *context, uint32_t slot, uint32_t n_max)
{
    (void)context;
    return known_of[slot] < n_max ? known_of[slot] : n_max / 32 * 32;
}


static uint32_t
attach(void *context, uint32_t slot, uint32_t n_computed, uint32_t n_max)
{
    uint32_t n = known(context, slot, n_max);
    return n > n_computed ? n : n_computed;
}


static uint64_t
name(void *context, uint32_t slot, uint32_t position)
{
    (void)context;
    (void)slot;
    (void)position;
    return 0;
}


static uint32_t
alone(void *context, uint32_t slot)
{
    (void)context;
    return kv.held[slot];
}


static void
open_sched(uint32_t quantum)
{
    kv = (struct fake_kv){.total = 1000, .block_tokens = 32};
    struct ax_sched_options o = {.slots_max = SLOTS,
                                 .running_max = 1,
                                 .batch_tokens_max = 512,
                                 .kv_blocks_total = 1000,
                                 .kv_block_tokens = 32,
                                 .queue_max = SLOTS,
                                 .queue_tokens_max = 1u << 30,
                                 .prefix_quantum_tokens = quantum,
                                 .kv = fake_kv_of(&kv)};
    o.kv.known = known;
    o.kv.attach = attach;
    o.kv.name = name;
    o.kv.alone = alone;
    assert_int_equal(ax_sched_open(&sched, &o), AXION_OK);
    memset(known_of, 0, sizeof(known_of));
    memset(tenant_of, 0, sizeof(tenant_of));
    now = 1000;
}


static int
close_sched(void **state)
{
    (void)state;
    ax_sched_close(sched);
    return 0;
}


static void
ask(uint32_t slot, uint64_t tenant, uint32_t n_known)
{
    struct ax_sched_arrival arrival;
    struct ax_sched_request r = {.tenant = tenant,
                                 .priority = 1,
                                 .prompt_tokens = PROMPT,
                                 .max_tokens = 1,
                                 .cached_tokens = n_known,
                                 .lease_tokens = AXION_LEASE_UNLIMITED};
    known_of[slot] = n_known;
    tenant_of[slot] = tenant;
    assert_int_equal(ax_sched_arrive(sched, slot, &r, now, &arrival), AXION_OK);
}


/* One request from start to end; its slot. */
static uint32_t
serve_one(void)
{
    struct ax_sched_event event;
    const struct ax_sched_step *step = ax_sched_next(sched, now);
    assert_int_equal(step->n_entries, 1);
    assert_true(step->entries[0].samples);
    uint32_t slot = step->entries[0].slot;
    now += 1000;
    ax_sched_stepped(sched, 1000, true);
    assert_int_equal(ax_sched_sampled(sched, slot), AXION_FINISH_LENGTH);
    while (ax_sched_event(sched, &event) == AXION_OK) {
    }
    ax_sched_finish(sched, slot, now);
    tenant_of[slot] = 0;
    return slot;
}


/* Of eight cold ones and eight whose prefix is cached, how many of the first
 * eight served are known ones. */
static uint32_t
known_first(uint32_t quantum)
{
    uint32_t n = 0;
    open_sched(quantum);
    for (uint32_t i = 0; i < 8; i++) {
        ask(i, 1, 0);
        ask(8 + i, 2, 224);
    }
    for (uint32_t i = 0; i < 8; i++) {
        n += serve_one() >= 8;
    }
    return n;
}


static void
known_prefixes_run_together(void **state)
{
    (void)state;
    /* 224 known ones are charged 56, 32 more and an answer of 1 token 34. */
    assert_int_equal(known_first(2048), 8);
    close_sched(NULL);
    uint32_t turns = known_first(AX_SCHED_NO_QUANTUM);
    assert_in_range(turns, 4, 6);
}


static void
nobody_is_ahead_by_more_than_the_quantum(void **state)
{
    uint64_t a, b, ahead = 0;
    (void)state;
    open_sched(300);
    for (uint32_t i = 0; i < 200; i++) {
        for (uint32_t k = 0; k < 16; k++) {
            if (tenant_of[k] == 0) {
                ask(k, 1 + k / 8, k < 8 ? 0 : 224);
            }
        }
        serve_one();
        a = ax_sched_served(sched, 1);
        b = ax_sched_served(sched, 2);
        ahead = b > a && b - a > ahead ? b - a : ahead;
    }
    uint64_t one = 224 / 4 + 32 + 2;
    assert_true(ahead > 300 * AX_SCHED_SERVED_TOKEN - /* and it is used */
                            one * AX_SCHED_SERVED_TOKEN);
    assert_true(ahead <= (300 + one) * AX_SCHED_SERVED_TOKEN);
}


static void
an_only_prompt_waits_for_no_prefix(void **state)
{
    (void)state;
    open_sched(0);
    for (uint32_t i = 0; i < 8; i++) {
        ask(i, 2, 224);
    }
    ask(20, 1, 0);
    assert_int_equal(serve_one(), 20);
}


/* Who is above all classes, after so long, is served by arrival. */
static void
age_goes_before_prefixes(void **state)
{
    (void)state;
    open_sched(0);
    for (uint32_t i = 0; i < 8; i++) {
        ask(i, 1, 0);
    }
    for (uint32_t i = 8; i < 16; i++) {
        ask(i, 2, 224);
    }
    for (uint32_t i = 0; i < 16; i++) {
        now += 1000000000; /* to come above anew: each start takes age away */
        assert_int_equal(serve_one(), i);
    }
}


/* What others left in the cache since it came counts. */
static void
what_became_known_is_seen(void **state)
{
    (void)state;
    open_sched(0);
    for (uint32_t i = 0; i < 8; i++) {
        ask(i, 1, 0);
        ask(8 + i, 2, 0);
    }
    known_of[15] = 224;
    while (serve_one() != 15) {
        /* within the turns in which all waiting ones are looked up */
        assert_true(now < 1000 + 4 * 1000);
    }
}


int
main(void)
{
#define TEST(f) cmocka_unit_test_teardown(f, close_sched)
    const struct CMUnitTest tests[] = {
        TEST(known_prefixes_run_together),
        TEST(nobody_is_ahead_by_more_than_the_quantum),
        TEST(an_only_prompt_waits_for_no_prefix),
        TEST(age_goes_before_prefixes),
        TEST(what_became_known_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
