/*
 * What another KV type or another class of numerics costs in divergence: a model
 * computes the prompts of a golden (tests/golden) in several ways, and the
 * distributions of the next token are compared with those of the first way.
 *
 *   bench_kl MODEL GOLDEN PROMPTS TOKENS WAY WAY...
 *
 * PROMPTS: the last so many of the golden, 0: all; TOKENS: of those only the
 * ones of at most so many, 0: any.  A WAY is ISA:KV, as --isa and --kv-type;
 * "auto:f16" is the default.  A line of JSON for every way but the first: mean,
 * standard error and largest KL(first || way) in nat, positions, how many of them
 * have the same first token, and the largest margin of one that has not.
 * bench/kl.py makes a table of it.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/golden/golden.h"
#include "tests/golden/runner.h"

#define ROWS_MAX  64
#define THREADS   2
#define ARGUMENTS 5 /* in front of the ways */

static int n_arguments;
static char **arguments;


struct score {
    uint32_t n, same;
    double sum, squares, worst, margin;
};


static void
open_way(struct runner *r, const char *path, const char *way)
{
    char isa[32];
    const char *kv = strchr(way, ':');

    assert_non_null(kv);
    assert_true((size_t)(kv - way) < sizeof(isa));
    memcpy(isa, way, (size_t)(kv - way));
    isa[kv - way] = '\0';
    runner_kv_type = axk_kv_type_of(kv + 1);
    assert_true(runner_kv_type < AXK_KV_TYPE_END);
    runner_open(r, path, isa, THREADS, ROWS_MAX);
}


/* By how much the first is ahead of the second. */
static double
margin(const float *x, uint32_t n, uint32_t first)
{
    float second = -INFINITY;

    for (uint32_t i = 0; i < n; i++) {
        second = i != first && x[i] > second ? x[i] : second;
    }
    return (double)(x[first] - second);
}


static void
add_position(struct score *s, const float *p, const float *q, uint32_t n_vocab)
{
    double kl = runner_divergence(p, q, n_vocab);
    uint32_t first = runner_argmax(p, n_vocab);

    s->n++;
    s->sum += kl;
    s->squares += kl * kl;
    s->worst = fmax(s->worst, kl);
    if (runner_argmax(q, n_vocab) == first) {
        s->same++;
    } else {
        s->margin = fmax(s->margin, margin(p, n_vocab, first));
    }
}


static void
print_score(const char *way, const struct score *s)
{
    double mean = s->sum / s->n;
    double variance = fmax(s->squares / s->n - mean * mean, 0);

    printf("{\"way\": \"%s\", \"mean\": %.4g, \"error\": %.4g, "
           "\"worst\": %.4g, \"positions\": %u, \"same\": %u, "
           "\"margin\": %.4g}\n",
           way, mean, sqrt(variance / s->n), s->worst, s->n, s->same,
           s->margin);
    fflush(stdout);
}


/* One way beside the first, prompt by prompt. */
static void
compare(struct runner *first, const struct golden *golden, const char *way)
{
    uint32_t n_prompts = (uint32_t)strtoul(arguments[3], NULL, 10);
    uint32_t tokens_max = (uint32_t)strtoul(arguments[4], NULL, 10);
    uint32_t begin = n_prompts > 0 && n_prompts < golden->n_prompts
                         ? golden->n_prompts - n_prompts
                         : 0;
    struct score score = {0};
    struct runner other;

    open_way(&other, arguments[1], way);
    for (uint32_t i = begin; i < golden->n_prompts; i++) {
        const struct golden_prompt *p = &golden->prompts[i];

        if (tokens_max > 0 && p->n_tokens > tokens_max) {
            continue;
        }
        uint32_t rows = runner_prompt(first, p, ROWS_MAX);
        assert_int_equal(runner_prompt(&other, p, ROWS_MAX), rows);
        for (uint32_t r = 0; r < rows; r++) {
            size_t at = (size_t)r * first->n_vocab;

            add_position(&score, first->logits + at, other.logits + at,
                         first->n_vocab);
        }
    }
    assert_true(score.n > 0);
    print_score(way, &score);
    runner_close(&other);
}


static void
compare_all(void **state)
{
    struct golden golden;
    struct runner first;

    (void)state;
    assert_int_equal(golden_open(&golden, arguments[2]), 0);
    open_way(&first, arguments[1], arguments[ARGUMENTS]);
    for (int i = ARGUMENTS + 1; i < n_arguments; i++) {
        compare(&first, &golden, arguments[i]);
    }
    runner_close(&first);
    golden_close(&golden);
}


int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(compare_all)};

    if (argc < ARGUMENTS + 2) {
        fprintf(stderr, "usage: bench_kl MODEL GOLDEN PROMPTS TOKENS WAY "
                        "WAY...\n");
        return 2;
    }
    n_arguments = argc;
    arguments = argv;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
