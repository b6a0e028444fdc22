/*
 * Shows that after every token the automaton knows the longest suffix that
 * occurred before and a place where it did, as a search by brute force finds
 * it, and that no text takes more states or edges than there is memory for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "engine/spec/suffix.h"

#define N 400u

static struct ax_suffix suffix;
static void *memory;
static int32_t text[N];


static void
open_suffix(uint32_t tokens)
{
    size_t bytes = ax_suffix_bytes(tokens);
    memory = aligned_alloc(64, bytes);
    assert_non_null(memory);
    memset(memory, 0, bytes);
    ax_suffix_init(&suffix, memory, tokens, 0x9e3779b97f4a7c15u);
}


static uint32_t
common_end(uint32_t a, uint32_t b)
{
    uint32_t n = 0;
    while (n <= a && text[a - n] == text[b - n]) {
        n++;
    }
    return n;
}


/* Length of the longest suffix of text[0 .. last] that ends earlier, too. */
static uint32_t
longest_match(uint32_t last)
{
    uint32_t best = 0;
    for (uint32_t end = 0; end < last; end++) {
        uint32_t n = common_end(end, last);
        best = n > best ? n : best;
    }
    return best;
}


static void
check_text(uint32_t n)
{
    int32_t out[8];
    for (uint32_t i = 0; i < n; i++) {
        ax_suffix_add(&suffix, text[i]);
        uint32_t match = longest_match(i);
        assert_int_equal(suffix.match, match);
        uint32_t got = ax_suffix_propose(&suffix, text, out, 8);
        if (match == 0) {
            assert_int_equal(got, 0);
            continue;
        }
        assert_true(suffix.match_end < i);
        assert_true(common_end(suffix.match_end, i) >= match);
        assert_int_equal(got, 8);
        for (uint32_t j = 0; j < 8; j++) {
            uint32_t from = suffix.match_end + 1 + j;
            int32_t token = from <= i ? text[from] : out[from - i - 1];
            assert_int_equal(out[j], token);
        }
    }
    assert_true(suffix.n_states <= 2 * n);
    assert_true(suffix.n_edges <= 3 * n + 1);
}


static void
check_all(void (*fill)(uint32_t seed))
{
    open_suffix(N);
    for (uint32_t seed = 1; seed <= 20; seed++) {
        fill(seed);
        ax_suffix_reset(&suffix);
        check_text(N);
        assert_true(ax_suffix_full(&suffix));
    }
    free(memory);
}


static uint32_t draws;


static uint32_t
draw(uint32_t n)
{
    draws = draws * 1664525u + 1013904223u;
    return (draws >> 8) % n;
}


static void
fill_random(uint32_t seed)
{
    draws = seed;
    for (uint32_t i = 0; i < N; i++) {
        text[i] = (int32_t)draw(2 + seed);
    }
}


/* Copies of what was before, with a change now and then. */
static void
fill_copies(uint32_t seed)
{
    draws = seed;
    for (uint32_t i = 0; i < N; i++) {
        bool copy = i > 60 && draw(12) != 0;
        text[i] = copy ? text[i - 50 - seed % 10] : (int32_t)draw(1000);
    }
}


/* The texts with the most states (abbb...) and edges (abb...bc). */
static void
fill_worst(uint32_t seed)
{
    for (uint32_t i = 0; i < N; i++) {
        text[i] = i == 0 ? 0 : 1;
    }
    if (seed % 2 == 0) {
        text[N - 1] = 2;
    }
    if (seed % 3 == 0) {
        text[0] = 1; /* all the same */
    }
}


static void
test_random_text(void **state)
{
    (void)state;
    check_all(fill_random);
}


static void
test_copied_text(void **state)
{
    (void)state;
    check_all(fill_copies);
}


static void
test_worst_text(void **state)
{
    (void)state;
    check_all(fill_worst);
}


static void
test_loop_is_continued(void **state)
{
    int32_t out[9];
    (void)state;
    open_suffix(8);
    for (uint32_t i = 0; i < 6; i++) {
        text[i] = (int32_t)(i % 3);
        ax_suffix_add(&suffix, text[i]);
    }
    assert_int_equal(suffix.match, 3);
    assert_int_equal(ax_suffix_propose(&suffix, text, out, 9), 9);
    for (int32_t j = 0; j < 9; j++) {
        assert_int_equal(out[j], j % 3);
    }
    free(memory);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_text),
        cmocka_unit_test(test_copied_text),
        cmocka_unit_test(test_worst_text),
        cmocka_unit_test(test_loop_is_continued),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
