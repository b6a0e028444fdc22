/*
 * Shows that a copy is found again behind every kind of edit, at the next
 * token or the one after it; and what the proposers and the control law make
 * of texts together, by a table of costs: twice as fast and more where text is
 * copied with edits, not one draft's loss on random tokens.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "engine/spec/copy.h"
#include "engine/spec/spec.h"

#define PROMPT 600u
#define N      2000u

static int32_t text[N + AX_SPEC_DRAFT_MAX];
static uint32_t n_text;


static uint32_t
draw(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}


static void
add(int32_t token)
{
    assert_true(n_text < N);
    text[n_text++] = token;
}


/* ---- the place ---- */

/* A prompt of tokens that are all different, and ten of them again. */
static struct ax_copy
begin_copy(void)
{
    struct ax_copy copy;
    n_text = 0;
    for (int32_t i = 0; i < 100; i++) {
        add(i);
    }
    ax_copy_reset(&copy);
    for (int32_t i = 0; i < 10; i++) {
        add(i);
        ax_copy_add(&copy, text, n_text);
        ax_copy_anchor(&copy, (uint32_t)i + 1, (uint32_t)i + 1);
    }
    return copy;
}


static int32_t
say(struct ax_copy *copy, int32_t token)
{
    int32_t next = -1;
    add(token);
    ax_copy_add(copy, text, n_text);
    (void)ax_copy_propose(copy, text, n_text, &next, 1);
    return next;
}


static void
test_replaced_inserted_removed(void **state)
{
    struct ax_copy copy = begin_copy();
    (void)state;
    assert_int_equal(say(&copy, 10), 11);
    assert_int_equal(say(&copy, 500), 12); /* in place of 11 */
    assert_int_equal(say(&copy, 12), 13);
    copy = begin_copy();
    assert_int_equal(say(&copy, 500), 11);
    assert_int_equal(say(&copy, 501), 12); /* it may be two in place of two, */
    assert_int_equal(say(&copy, 10), 11);  /* but was an insertion */
    copy = begin_copy();
    assert_int_equal(say(&copy, 14), 15); /* 10 to 13 were left out */
    assert_int_equal(say(&copy, 15), 16);
}


/* Of two places the one that matches longer, of equal ones the nearer. */
static void
test_ambiguous_token_is_corrected(void **state)
{
    struct ax_copy copy = begin_copy();
    (void)state;
    text[12] = text[18] = 700;
    assert_int_equal(say(&copy, 600), 11);
    assert_int_equal(say(&copy, 700), 13);
    assert_int_equal(say(&copy, 19), 20); /* it was the farther one */
}


static void
test_short_match_is_no_copy_and_long_edit_ends_it(void **state)
{
    struct ax_copy copy;
    int32_t out;
    (void)state;
    ax_copy_reset(&copy);
    ax_copy_anchor(&copy, 3, 2);
    assert_int_equal(ax_copy_propose(&copy, text, 10, &out, 1), 0);
    copy = begin_copy();
    for (int32_t i = 0; i < 100 && copy.active; i++) {
        (void)say(&copy, 1000 + i);
    }
    assert_false(copy.active);
}


/* The place is the text's end: a loop goes on with its own proposal. */
static void
test_loop_goes_on(void **state)
{
    struct ax_copy copy;
    int32_t out[7];
    (void)state;
    n_text = 0;
    for (int32_t i = 0; i < 30; i++) {
        add(i % 3);
    }
    ax_copy_reset(&copy);
    ax_copy_anchor(&copy, 27, 27);
    assert_int_equal(ax_copy_propose(&copy, text, n_text, out, 7), 7);
    for (int32_t j = 0; j < 7; j++) {
        assert_int_equal(out[j], j % 3);
    }
}


/* ---- with the law ---- */

/* us of a step, in the shape that small models have on two cores. */
static struct ax_cost
table(void)
{
    static const float points[][2] = {{1, 2300}, {2, 2600},   {4, 3800},
                                      {8, 6100}, {16, 10600}, {32, 19800}};
    struct ax_cost cost;
    ax_cost_init(&cost);
    for (unsigned i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        ax_cost_add(&cost, (uint32_t)points[i][0], points[i][1]);
    }
    return cost;
}


/* One step at text[0 .. *at), which text[] has the answer to. */
static float
play_step(struct ax_spec *spec, const struct ax_cost *cost, uint32_t *at)
{
    static int32_t known[N + AX_SPEC_DRAFT_MAX];
    const struct ax_spec_step step = {
        .n_tokens = 1,
        .n_decodes = 1,
        .drafts_max = AX_SPEC_DRAFT_MAX,
        .room_us = HUGE_VALF,
    };
    uint32_t held = 0, k;
    memcpy(known, text, *at * sizeof(int32_t));
    ax_spec_begin_step(spec);
    (void)ax_spec_propose(spec, 0, known, PROMPT, *at, n_text - *at - 1);
    ax_spec_choose_step(spec, cost, &step);
    k = ax_spec_chosen(spec, 0);
    while (held < k && known[*at + held] == text[*at + held]) {
        held++;
    }
    for (uint32_t j = 0; j <= held; j++) {
        ax_spec_sampled(spec, 0, text[*at + j]);
    }
    *at += held + 1;
    return ax_cost_of(cost, 1 + k);
}


/* How much faster text[PROMPT ..] comes, by the table, than without drafts. */
static double
gain(void)
{
    const struct ax_spec_options options = {.kind = AX_SPEC_SUFFIX,
                                            .slots = 1,
                                            .sequences = 1,
                                            .ctx = N,
                                            .draft_max = 16};
    struct ax_cost cost = table();
    struct ax_spec *spec;
    struct ax_error err;
    double us = 0;
    uint32_t at = PROMPT + 1;
    assert_int_equal(ax_spec_open(&spec, &options, &err), 0);
    while (at < n_text) {
        us += (double)play_step(spec, &cost, &at);
    }
    ax_spec_close(spec);
    return (n_text - PROMPT - 1) * (double)ax_cost_of(&cost, 1) / us;
}


/* Words that come often, as in code. */
static void
make_prompt(uint32_t *seed)
{
    n_text = 0;
    while (n_text < PROMPT) {
        uint32_t word = draw(seed) % 400;
        add((int32_t)(word < 300 ? word % 30 : word));
    }
}


/* About one edit in 30 tokens: one replaced, three inserted, two removed. */
static void
copy_with_edits(uint32_t *seed)
{
    for (uint32_t i = 0; i < PROMPT; i++) {
        uint32_t edit = draw(seed) % 90;
        if (edit == 0) {
            add(5000);
        } else if (edit == 1) {
            add(5001 + (int32_t)(draw(seed) % 50));
            add((int32_t)(draw(seed) % 30));
            add(text[i]);
        } else if (edit == 2) {
            i++;
        } else {
            add(text[i]);
        }
    }
}


static void
test_edits_are_twice_as_fast(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 5; seed++) {
        uint32_t drawn = seed;
        make_prompt(&drawn);
        copy_with_edits(&drawn);
        double faster = gain();
        print_message("seed %u: %.2f\n", seed, faster);
        assert_true(faster > 2.0);
    }
}


static void
test_random_tokens_cost_nothing(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 5; seed++) {
        uint32_t drawn = seed;
        make_prompt(&drawn);
        while (n_text < N) {
            add((int32_t)(draw(&drawn) % 30)); /* every one was seen before */
        }
        double faster = gain();
        print_message("seed %u: %.3f\n", seed, faster);
        assert_true(faster > 0.98);
    }
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replaced_inserted_removed),
        cmocka_unit_test(test_ambiguous_token_is_corrected),
        cmocka_unit_test(test_short_match_is_no_copy_and_long_edit_ends_it),
        cmocka_unit_test(test_loop_goes_on),
        cmocka_unit_test(test_edits_are_twice_as_fast),
        cmocka_unit_test(test_random_tokens_cost_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
