/*
 * Threads meet in the executor on a whole tiny model: logits have the same
 * bits with 1, 2, 3 and 5 threads, for prompts, for mixed steps, and for
 * decodes so few and so deep that threads share one query's keys.  Under TSan
 * this shows that the stages of a step are ordered.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "tests/golden/runner.h"


#define DEEP     600u    /* ten attention tiles */
#define CHUNK    120u
#define DECODES  6u
#define ROWS     4u


static struct ax_step_token
token(uint32_t sequence, uint32_t position, uint32_t row)
{
    return (struct ax_step_token) {
        .token = (int32_t) (3 + (position * 11 + sequence) % 256),
        .position = position,
        .sequence = sequence,
        .logits_row = row,
    };
}


static void
keep(float **out, const struct runner *r, uint32_t rows)
{
    memcpy(*out, r->logits, rows * r->n_vocab * sizeof(float));
    *out += rows * r->n_vocab;
}


/* A deep prompt in chunks, lone decodes, then decodes beside a new prompt. */
static uint32_t
scenario(struct runner *r, float *out)
{
    struct ax_step_token t[CHUNK + 1];
    float *start = out;

    for (uint32_t at = 0; at < DEEP; at += CHUNK) {
        for (uint32_t i = 0; i < CHUNK; i++) {
            t[i] = token(0, at + i, i + 1 == CHUNK ? 0 : AX_NO_LOGITS);
        }
        runner_reserve(r, 0, at + CHUNK);
        runner_step(r, t, CHUNK, 1);
        keep(&out, r, 1);
    }
    for (uint32_t i = 0; i < DECODES; i++) {
        t[0] = token(0, DEEP + i, 0);
        runner_reserve(r, 0, DEEP + i + 1);
        runner_step(r, t, 1, 1);
        keep(&out, r, 1);
    }
    t[0] = token(0, DEEP + DECODES, 1);
    for (uint32_t i = 0; i < 37; i++) {
        t[i + 1] = token(1, i, i == 36 ? 0 : AX_NO_LOGITS);
    }
    runner_reserve(r, 0, DEEP + DECODES + 1);
    runner_reserve(r, 1, 37);
    runner_step(r, t, 38, 2);
    keep(&out, r, 2);
    return (uint32_t) (out - start);
}


static void
compare(const char *variant)
{
    struct runner r;
    uint32_t rows = DEEP / CHUNK + DECODES + 2;
    float *expected = NULL, *found = NULL;

    for (uint32_t threads = 1; threads <= 5; threads += threads < 3 ? 1 : 2) {
        runner_open(&r, runner_tiny_path(variant), NULL, threads, ROWS);
        if (expected == NULL) {
            expected = calloc(rows * r.n_vocab, sizeof(float));
            found = calloc(rows * r.n_vocab, sizeof(float));
            assert_non_null(expected);
            assert_non_null(found);
        }
        uint32_t n = scenario(&r, threads == 1 ? expected : found);
        assert_int_equal(n, rows * r.n_vocab);
        if (threads > 1) {
            assert_memory_equal(expected, found, n * sizeof(float));
        }
        runner_close(&r);
    }
    free(expected);
    free(found);
}


static void
quantized_models_answer_alike_with_any_threads(void **state)
{
    (void) state;
    compare("q4_1");
    compare("q4_0-deep");
}


static void
float_models_answer_alike_with_any_threads(void **state)
{
    (void) state;
    compare("f16-rope");
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantized_models_answer_alike_with_any_threads),
        cmocka_unit_test(float_models_answer_alike_with_any_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
