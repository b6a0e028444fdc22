/*
 * Shows the control law as a function: what steps cost and what was accepted
 * goes in, lengths come out; none where drafts cannot pay (large batch,
 * unlikely text, a machine whose tokens all cost the same), long ones where
 * they can, and the best quotient among all.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "engine/spec/bigram.h"
#include "engine/spec/control.h"


/* ---- what steps cost ---- */

static struct ax_cost
cost_of(float first, float slope)
{
    struct ax_cost cost;
    ax_cost_init(&cost);
    for (uint32_t n = 1; n <= 256; n *= 2) {
        ax_cost_add(&cost, n, first + slope * (float)(n - 1));
    }
    return cost;
}


static void
test_cost_between_and_beyond_points(void **state)
{
    struct ax_cost cost;
    (void)state;
    ax_cost_init(&cost);
    assert_true(ax_cost_of(&cost, 5) == 0);
    ax_cost_add(&cost, 4, 400);
    assert_true(ax_cost_of(&cost, 2) == 400);
    assert_true(ax_cost_of(&cost, 8) == 800); /* one point: in proportion */
    ax_cost_add(&cost, 1, 100);
    ax_cost_add(&cost, 8, 600);
    assert_true(ax_cost_of(&cost, 1) == 100);
    assert_true(ax_cost_of(&cost, 2) == 200);
    assert_true(ax_cost_of(&cost, 6) == 500);
    assert_true(ax_cost_of(&cost, 10) == 700);
    ax_cost_add(&cost, 8, 300); /* noise: never below fewer tokens */
    assert_true(ax_cost_of(&cost, 8) == 400);
    assert_true(ax_cost_of(&cost, 100) == 400);
    ax_cost_add(&cost, 0, 1);
    ax_cost_add(&cost, 16, -1);
    assert_int_equal(cost.n_points, 3);
    for (uint32_t n = 100; n < 200; n++) {
        ax_cost_add(&cost, n, 1000);
    }
    assert_int_equal(cost.n_points, AX_COST_POINTS_MAX);
}


/* Not by the last bit either, where a steep part ends in a level one: who
 * adds a token never gets time back, and the scheduler asserts it. */
static void
test_cost_never_falls(void **state)
{
    uint32_t random = 1;
    (void)state;
    for (int i = 0; i < 100000; i++) {
        struct ax_cost cost;
        ax_cost_init(&cost);
        random = random * 1664525u + 1013904223u;
        float low = 100 + (float)(random >> 8) / 16384;
        random = random * 1664525u + 1013904223u;
        float high = low * (2 + (float)(random >> 8) / 4194304);
        ax_cost_add(&cost, 16, low);
        ax_cost_add(&cost, 32, high);
        ax_cost_add(&cost, 64, high);
        assert_true(ax_cost_of(&cost, 33) >= ax_cost_of(&cost, 32));
    }
}


/* A neighbour doubles everything: the curve stays, the scale moves. */
static void
test_slow_machine_moves_the_scale(void **state)
{
    struct ax_cost cost = cost_of(1000, 100);
    (void)state;
    for (int i = 0; i < 400; i++) {
        uint32_t n = i % 2 == 0 ? 1 : 8;
        ax_cost_learn(&cost, n, 0, 2 * (1000 + 100 * (float)(n - 1)));
    }
    assert_true(cost.scale > 1.9f && cost.scale < 2.1f);
    float ratio = ax_cost_of(&cost, 8) / ax_cost_of(&cost, 1);
    assert_true(ratio > 1.65f && ratio < 1.75f);
}


/* A point that was measured wrongly comes right by comparison. */
static void
test_wrong_point_is_learned(void **state)
{
    struct ax_cost cost = cost_of(1000, 100);
    (void)state;
    ax_cost_add(&cost, 8, 17000); /* ten times too much */
    for (int i = 0; i < 1000; i++) {
        uint32_t n = i % 4 == 0 ? 8 : 1;
        ax_cost_learn(&cost, n, 0, 1000 + 100 * (float)(n - 1));
    }
    float ratio = ax_cost_of(&cost, 8) / ax_cost_of(&cost, 1);
    assert_true(ratio > 1.6f && ratio < 1.8f);
}


static void
test_keys_count_per_query(void **state)
{
    struct ax_cost cost = cost_of(1000, 100);
    (void)state;
    cost.key_us = 2;
    cost.key_query_us = 0.5f;
    assert_true(ax_cost_of_keys(&cost, 0, 100) == 0);
    assert_true(ax_cost_of_keys(&cost, 1, 100) == 200);
    assert_true(ax_cost_of_keys(&cost, 3, 100) == 300);
}


/* ---- acceptance ---- */

static void
test_rates_follow_each_class(void **state)
{
    struct ax_spec_rates rates;
    float chance[4];
    (void)state;
    assert_int_equal(ax_spec_class(1), 0);
    assert_int_equal(ax_spec_class(5), 3);
    assert_int_equal(ax_spec_class(6), 4);
    assert_int_equal(ax_spec_class(1000), AX_SPEC_CLASSES - 1);
    ax_spec_rates_init(&rates);
    for (int i = 0; i < 200; i++) {
        ax_spec_rates_learn(&rates, 1, false);
        ax_spec_rates_learn(&rates, 2, true);
    }
    assert_true(rates.rate[0] < 0.01f && rates.rate[1] > 0.99f);
    ax_spec_survival(&rates, 2, 4, chance);
    assert_true(chance[0] > 0.99f);
    for (int j = 1; j < 4; j++) {
        assert_true(chance[j] < chance[j - 1]);
    }
}


/* ---- the law ---- */

#define ITEMS 32u

static float survive[ITEMS][AX_SPEC_DRAFT_MAX];
static struct ax_spec_item items[ITEMS];


static void
set_items(uint32_t n, float rate)
{
    for (uint32_t i = 0; i < n; i++) {
        float all = 1;
        for (uint32_t j = 0; j < AX_SPEC_DRAFT_MAX; j++) {
            survive[i][j] = all *= rate;
        }
        items[i] = (struct ax_spec_item){
            .survive = survive[i], .n = AX_SPEC_DRAFT_MAX, .positions = 100};
    }
}


static uint32_t
choose(const struct ax_cost *cost, uint32_t n_tokens, uint32_t n_entries,
       uint32_t drafts_max, uint32_t n_items)
{
    const struct ax_spec_step step = {.n_tokens = n_tokens,
                                      .n_decodes = n_entries,
                                      .drafts_max = drafts_max,
                                      .room_us = HUGE_VALF};
    uint32_t all = 0;
    ax_spec_choose(cost, &step, items, n_items);
    for (uint32_t i = 0; i < n_items; i++) {
        all += items[i].k;
    }
    assert_true(all <= drafts_max);
    return all;
}


static void
test_cheap_tokens_and_likely_text_draft_long(void **state)
{
    struct ax_cost cost = cost_of(1000, 20);
    (void)state;
    set_items(1, 0.98f);
    assert_in_range(choose(&cost, 1, 1, 32, 1), 20, 32);
    set_items(1, 0.5f);
    assert_in_range(choose(&cost, 1, 1, 32, 1), 3, 8);
    set_items(1, 0.98f);
    assert_int_equal(choose(&cost, 1, 1, 5, 1), 5);
    items[0].n = 3;
    assert_int_equal(choose(&cost, 1, 1, 32, 1), 3);
}


static void
test_nothing_where_it_cannot_pay(void **state)
{
    struct ax_cost flat = cost_of(1000, 1000), cheap = cost_of(1000, 20), none;
    (void)state;
    set_items(1, 0.95f);
    assert_int_equal(choose(&flat, 1, 1, 32, 1), 0); /* each costs a step */
    set_items(1, 0.03f);
    assert_int_equal(choose(&cheap, 1, 1, 32, 1), 0);
    ax_cost_init(&none);
    set_items(1, 0.99f);
    assert_int_equal(choose(&none, 1, 1, 32, 1), 0); /* costs unknown */
}


/* A machine that is bound by memory up to 16 tokens, then by arithmetic. */
static void
test_large_batch_ends_it(void **state)
{
    struct ax_cost cost;
    (void)state;
    ax_cost_init(&cost);
    ax_cost_add(&cost, 1, 1000);
    ax_cost_add(&cost, 16, 1300);
    ax_cost_add(&cost, 256, 16300);
    set_items(ITEMS, 0.7f);
    assert_true(choose(&cost, 1, 1, 32, 1) > 2);
    assert_in_range(choose(&cost, 4, 4, 32, 4), 4, 12); /* up to the bend */
    assert_int_equal(choose(&cost, 64, 64, 32, ITEMS), 0);
}


/* As measured on two cores of Zen 4: behind 8 tokens each costs nearly its
 * share of the step.  Texts that repeat themselves are drafted where few
 * decode, and not where the sums of many small doubtful gains are large. */
static void
test_small_gains_of_many_are_no_gain(void **state)
{
    static const struct ax_cost_point zen4[] = {
        {1, 2363}, {2, 2657}, {4, 2789}, {8, 4639}, {16, 8816}, {32, 17235}};
    struct ax_cost cost;
    (void)state;
    ax_cost_init(&cost);
    for (uint32_t i = 0; i < sizeof(zen4) / sizeof(zen4[0]); i++) {
        ax_cost_add(&cost, zen4[i].tokens, zen4[i].us);
    }
    cost.key_us = 0.75f;
    cost.key_query_us = 0.4f;
    for (uint32_t n = 1; n <= 32; n *= 2) {
        struct ax_spec_step step = {.n_tokens = n,
                                    .n_decodes = n,
                                    .drafts_max = 256,
                                    .other_us = 75 * (float)n,
                                    .room_us = HUGE_VALF};
        uint32_t drafts = 0;
        set_items(n, 0.995f);
        (void)ax_spec_choose(&cost, &step, items, n);
        for (uint32_t i = 0; i < n; i++) {
            drafts += items[i].k;
        }
        if (n <= 4) {
            assert_true(drafts >= 4);
        } else if (n >= 16) {
            assert_int_equal(drafts, 0);
        }
    }
}


/* The likelier sequence gets more, and no other hand-out is better. */
static void
test_best_quotient_of_all(void **state)
{
    struct ax_cost cost = cost_of(1000, 90);
    (void)state;
    set_items(2, 0.9f);
    for (uint32_t j = 0; j < AX_SPEC_DRAFT_MAX; j++) {
        survive[1][j] *= j == 0 ? 0.5f : 0.3f;
    }
    (void)choose(&cost, 2, 2, 32, 2);
    uint32_t k0 = items[0].k, k1 = items[1].k;
    uint32_t best0 = 0, best1 = 0;
    double best = 0;
    assert_true(k0 > k1);
    for (uint32_t a = 0; a <= 32; a++) {
        for (uint32_t b = 0; a + b <= 32; b++) {
            double tokens = 2;
            for (uint32_t j = 0; j < a; j++) {
                tokens += (double)survive[0][j];
            }
            for (uint32_t j = 0; j < b; j++) {
                tokens += (double)survive[1][j];
            }
            double bare = (double)ax_cost_of(&cost, 2);
            double more = (double)ax_cost_of(&cost, 2 + a + b) - bare;
            double rate = tokens / (bare + (double)AX_SPEC_DOUBT * more);
            if (rate > best) {
                best = rate;
                best0 = a;
                best1 = b;
            }
        }
    }
    assert_int_equal(k0, best0);
    assert_int_equal(k1, best1);
}


/* A draft model's rounds are paid by the longest sequence alone. */
static void
test_rounds_shorten_drafts(void **state)
{
    struct ax_cost cost = cost_of(1000, 20);
    struct ax_spec_step step = {
        .n_tokens = 1, .n_decodes = 1, .drafts_max = 32, .room_us = HUGE_VALF};
    (void)state;
    set_items(1, 0.8f);
    ax_spec_choose(&cost, &step, items, 1);
    uint32_t free_rounds = items[0].k;
    step.round_us = 300;
    ax_spec_choose(&cost, &step, items, 1);
    assert_true(items[0].k > 0 && items[0].k < free_rounds);
    step.round_us = 900;
    ax_spec_choose(&cost, &step, items, 1);
    assert_int_equal(items[0].k, 0);
}


/* Drawing a token costs as well; two threads draw the second for nothing. */
static void
test_draws_shorten_drafts(void **state)
{
    struct ax_cost cost = cost_of(1000, 100);
    struct ax_spec_step step = {.n_tokens = 1,
                                .n_decodes = 1,
                                .drafts_max = 32,
                                .n_rows = 1,
                                .n_drawn = 2,
                                .room_us = HUGE_VALF};
    (void)state;
    set_items(1, 0.5f);
    ax_spec_choose(&cost, &step, items, 1);
    assert_int_equal(items[0].k, 2);
    ax_cost_learn_draws(&cost, 1, 1000);
    ax_spec_choose(&cost, &step, items, 1);
    assert_int_equal(items[0].k, 1);
    step.n_drawn = 1;
    ax_spec_choose(&cost, &step, items, 1);
    assert_int_equal(items[0].k, 0);
}


/* ---- beside prompts ---- */

/* Bound by memory up to 16 tokens, then by arithmetic: 1000, 1300, 101 each. */
static struct ax_cost
bent_cost(void)
{
    struct ax_cost cost;
    ax_cost_init(&cost);
    ax_cost_add(&cost, 1, 1000);
    ax_cost_add(&cost, 16, 1300);
    ax_cost_add(&cost, 256, 25540);
    return cost;
}


/* Behind a chunk that has filled the bend a draft costs what a token does
 * there; a prompt's own tokens are not held against it. */
static void
test_a_chunk_makes_drafts_dearer_and_ends_none(void **state)
{
    struct ax_cost cost = bent_cost();
    (void)state;
    set_items(1, 0.7f);
    uint32_t alone = choose(&cost, 1, 1, 32, 1);
    uint32_t beside = choose(&cost, 100, 1, 32, 1);
    assert_true(beside >= 2 && beside < alone);
    set_items(1, 0.08f);
    assert_true(choose(&cost, 1, 1, 32, 1) > 0);
    assert_int_equal(choose(&cost, 100, 1, 32, 1), 0);
}


static void
test_no_more_than_there_is_room_for(void **state)
{
    struct ax_cost cost = bent_cost();
    struct ax_spec_step step = {
        .n_tokens = 60, .n_decodes = 2, .drafts_max = 32, .room_us = HUGE_VALF};
    (void)state;
    cost.key_query_us = 0.1f;
    set_items(2, 0.95f);
    float wanted = ax_spec_choose(&cost, &step, items, 2);
    uint32_t any = items[0].k + items[1].k;
    assert_true(any > 5);
    /* 101 for a token there, 10 for its 100 positions */
    assert_true(fabsf(wanted - 111 * (float)any) < 1);
    step.room_us = 4.5f * 111;
    assert_true(ax_spec_choose(&cost, &step, items, 2) == wanted);
    assert_int_equal(items[0].k, 2); /* the likeliest, and fairly */
    assert_int_equal(items[1].k, 2);
    assert_true(ax_spec_added_us(&cost, &step, items, 2) <= step.room_us);
    step.room_us = 0;
    assert_true(ax_spec_choose(&cost, &step, items, 2) == wanted);
    assert_int_equal(items[0].k + items[1].k, 0);
    step.room_us = HUGE_VALF;
    step.round_us = 40; /* a draft model's rounds are time, too */
    wanted = ax_spec_choose(&cost, &step, items, 2);
    any = items[0].k + items[1].k;
    float rounds = (float)(items[0].k > items[1].k ? items[0].k : items[1].k);
    assert_true(fabsf(wanted - 111 * (float)any - 40 * rounds) < 1);
}


static void
test_draws_are_learned(void **state)
{
    struct ax_cost cost = cost_of(1000, 100);
    (void)state;
    cost.scale = 2; /* all takes twice as long as measured */
    ax_cost_learn_draws(&cost, 0, 100);
    assert_true(cost.draw_us == 0);
    for (uint32_t i = 0; i < 200; i++) {
        uint32_t rounds = 1 + i % 3;
        ax_cost_learn_draws(&cost, rounds, 100 * (float)rounds);
    }
    assert_true(cost.draw_us > 45 && cost.draw_us < 55);
    ax_cost_learn_draws(&cost, 1, 1e6f); /* a preempted thread */
    assert_true(cost.draw_us < 60);
}


/* ---- AX Engine's proposer ---- */

static void
test_bigram_gate(void **state)
{
    static struct ax_bigram b;
    int32_t out[AX_BIGRAM_DRAFTS];
    (void)state;
    ax_bigram_reset(&b);
    assert_int_equal(ax_bigram_propose(&b, out, 4), 0);
    for (int32_t i = 0; i < 30; i++) {
        ax_bigram_add(&b, i % 5);
    }
    assert_int_equal(ax_bigram_propose(&b, out, 9), AX_BIGRAM_DRAFTS);
    for (int32_t j = 0; j < 4; j++) {
        assert_int_equal(out[j], j);
    }
    int misses = 0;
    while (ax_bigram_open(&b)) {
        ax_bigram_learn(&b, false);
        misses++;
    }
    assert_int_equal(misses, 7); /* 0.9^7 < 0.5 */
    ax_bigram_learn(&b, true);
    assert_true(ax_bigram_open(&b));
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cost_between_and_beyond_points),
        cmocka_unit_test(test_cost_never_falls),
        cmocka_unit_test(test_slow_machine_moves_the_scale),
        cmocka_unit_test(test_wrong_point_is_learned),
        cmocka_unit_test(test_keys_count_per_query),
        cmocka_unit_test(test_rates_follow_each_class),
        cmocka_unit_test(test_cheap_tokens_and_likely_text_draft_long),
        cmocka_unit_test(test_nothing_where_it_cannot_pay),
        cmocka_unit_test(test_large_batch_ends_it),
        cmocka_unit_test(test_small_gains_of_many_are_no_gain),
        cmocka_unit_test(test_best_quotient_of_all),
        cmocka_unit_test(test_rounds_shorten_drafts),
        cmocka_unit_test(test_draws_shorten_drafts),
        cmocka_unit_test(test_a_chunk_makes_drafts_dearer_and_ends_none),
        cmocka_unit_test(test_no_more_than_there_is_room_for),
        cmocka_unit_test(test_draws_are_learned),
        cmocka_unit_test(test_bigram_gate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
