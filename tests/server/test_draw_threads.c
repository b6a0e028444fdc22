/*
 * Shows that rows drawn on many threads are the rows drawn one by one, bit
 * for bit, whatever the number of rows and threads; a row that fails fails
 * alone; a thread that comes late, when the logits are the next step's, does no
 * harm.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include "engine/server/draw.h"

#define N_VOCAB 4099u
#define ROWS    67u
#define TOKENS  40u

/* Large enough for a row to take as long as a step of a tiny model. */
#define LATE_VOCAB 49157u
#define LATE_ROWS  67u

static float logits[ROWS][N_VOCAB];
static int32_t tokens[ROWS][TOKENS];
static struct ax_sampling sampling[ROWS];
static const struct ax_sampling_bias bias[] = {{3, 5.0f}, {17, -100.0f}};


static uint64_t
next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1du;
}


/* Every stage of the sampler is used by some row. */
static int
make_rows(void **state)
{
    uint64_t random = 88172645463325252u;
    (void)state;
    for (uint32_t i = 0; i < ROWS; i++) {
        for (uint32_t v = 0; v < N_VOCAB; v++) {
            logits[i][v] = (float)(next_random(&random) >> 40) / 2097152.0f;
        }
        for (uint32_t t = 0; t < TOKENS; t++) {
            tokens[i][t] = (int32_t)(next_random(&random) % N_VOCAB);
        }
        ax_sampling_defaults(&sampling[i]);
        sampling[i].temperature = i % 3 == 0 ? 0 : 0.8f;
        sampling[i].top_k = i % 4 == 1 ? 40 : 0;
        sampling[i].top_p = i % 5 == 2 ? 0.9f : 1;
        sampling[i].min_p = i % 6 == 1 ? 0.1f : 0;
        sampling[i].repetition_penalty = i % 7 == 3 ? 1.3f : 1;
        sampling[i].frequency_penalty = i % 8 == 5 ? 0.4f : 0;
        sampling[i].seed = i;
        if (i % 9 == 4) {
            sampling[i].bias = bias;
            sampling[i].n_bias = 2;
        }
    }
    logits[11][5] = (float)strtod("nan", NULL); /* one row fails alone */
    return 0;
}


static void
fill(struct ax_draw *draws)
{
    for (uint32_t i = 0; i < ROWS; i++) {
        draws[i] = (struct ax_draw){
            .sampling = &sampling[i],
            .history = {tokens[i], TOKENS / 2, TOKENS},
            .logits = logits[i],
            .token = -1,
            .error = -1,
        };
    }
}


static void
test_rows_equal_each_alone(void **state)
{
    static struct ax_draw alone[ROWS], together[ROWS];
    struct ax_sampler *sampler;
    struct ax_error err;
    (void)state;
    const struct axk_ops *ops = axk_select("auto", NULL, 0);
    assert_non_null(ops);
    axk_thread_init();
    assert_int_equal(ax_sampler_open(&sampler, N_VOCAB, ops), 0);
    fill(alone);
    for (uint32_t i = 0; i < ROWS; i++) {
        alone[i].error =
            ax_sample(sampler, alone[i].sampling, &alone[i].history,
                      alone[i].logits, &alone[i].token);
    }
    assert_int_equal(alone[11].error, AXION_ERR_NUMERICAL);
    assert_int_equal(alone[12].error, AXION_OK);
    for (uint32_t threads = 1; threads <= 5; threads++) {
        struct ax_pool *pool;
        struct ax_drawer *drawer;
        assert_int_equal(ax_pool_start(&pool, threads, 1, &err), 0);
        assert_int_equal(ax_drawer_open(&drawer, pool, 50, N_VOCAB, ops), 0);
        for (uint32_t n = 0; n <= ROWS; n += n < 6 ? 1 : 13) {
            fill(together);
            ax_drawer_run(drawer, together, n);
            for (uint32_t i = 0; i < n; i++) {
                assert_int_equal(together[i].error, alone[i].error);
                if (alone[i].error == AXION_OK) {
                    assert_int_equal(together[i].token, alone[i].token);
                }
            }
            for (uint32_t i = n; i < ROWS; i++) {
                assert_int_equal(together[i].error, -1);
            }
        }
        ax_pool_stop(pool);
        ax_drawer_close(drawer);
    }
    ax_sampler_close(sampler);
}


/* More threads than CPUs, and logits that are others each time, of other
 * sizes: who was put aside within a row goes on when they have changed. */
static void
test_late_threads_do_no_harm(void **state)
{
    static float rows[LATE_ROWS][LATE_VOCAB];
    struct ax_sampling top = {
        .temperature = 1, .top_k = 40, .top_p = 0.5f, .repetition_penalty = 1};
    struct ax_draw draws[LATE_ROWS];
    struct ax_pool *pool;
    struct ax_drawer *drawer;
    struct ax_error err;
    (void)state;
    const struct axk_ops *ops = axk_select("auto", NULL, 0);
    assert_int_equal(ax_pool_start(&pool, 16, 1, &err), 0);
    assert_int_equal(ax_drawer_open(&drawer, pool, LATE_ROWS, LATE_VOCAB, ops),
                     0);
    for (uint32_t turn = 0; turn < 150; turn++) {
        float size = turn % 2 == 0 ? 30.0f : -30.0f;
        for (uint32_t i = 0; i < LATE_ROWS; i++) {
            for (uint32_t v = 0; v < LATE_VOCAB; v++) {
                rows[i][v] = size + (float)((v * 7919 + turn) % 97) / 8;
            }
            draws[i] = (struct ax_draw){.sampling = &top,
                                        .history = {NULL, 0, turn},
                                        .logits = rows[i],
                                        .token = -1,
                                        .error = -1};
        }
        ax_drawer_run(drawer, draws, LATE_ROWS);
        for (uint32_t i = 0; i < LATE_ROWS; i++) {
            assert_int_equal(draws[i].error, AXION_OK);
            assert_int_equal(draws[i].token, draws[0].token);
        }
    }
    ax_pool_stop(pool);
    ax_drawer_close(drawer);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_equal_each_alone),
        cmocka_unit_test(test_late_threads_do_no_harm),
    };
    return cmocka_run_group_tests(tests, make_rows, NULL);
}
