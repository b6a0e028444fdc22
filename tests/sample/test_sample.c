/*
 * Shows that sampled tokens follow the exact distributions of every filter,
 * that a draw depends on (seed, position) alone, and that ties, bans, NaN and
 * the edges of every parameter do what sample.h says.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "engine/sample/random.h"
#include "engine/sample/sample.h"

#define SMALL 12u
#define LARGE 49152u

static const struct axk_ops *ops;
static struct ax_sampler *small, *large;
static const struct ax_sample_history none = {0};


static int
open_samplers(void **state)
{
    (void)state;
    axk_thread_init();
    ops = axk_select(NULL, NULL, 0);
    assert_non_null(ops);
    assert_int_equal(ax_sampler_open(&small, SMALL, ops), AXION_OK);
    assert_int_equal(ax_sampler_open(&large, LARGE, ops), AXION_OK);
    return 0;
}


static int
close_samplers(void **state)
{
    (void)state;
    ax_sampler_close(small);
    ax_sampler_close(large);
    ax_sampler_close(NULL);
    return 0;
}


static struct ax_sampling
defaults(void)
{
    struct ax_sampling p;
    ax_sampling_defaults(&p);
    return p;
}


static int32_t
sample(struct ax_sampler *s, const struct ax_sampling *p,
       const struct ax_sample_history *h, const float *x)
{
    int32_t token = -1;
    assert_int_equal(ax_sample(s, p, h, x, &token), AXION_OK);
    return token;
}


static void
test_philox_known_answers(void **state)
{
    (void)state;
    /* kat_vectors of Random123: philox4x32, 10 rounds */
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } kat[] = {
        {{0, 0, 0, 0},
         {0, 0},
         {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u},
         {~0u, ~0u},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof(kat) / sizeof(kat[0]); i++) {
        uint32_t out[4];
        ax_philox(kat[i].counter, kat[i].key, out);
        assert_memory_equal(out, kat[i].out, sizeof(out));
    }
}


/* Pearson's statistic of n draws at positions 0.. against p[SMALL]; bound is
 * far out in the tail for 11 degrees of freedom, and the seed is fixed. */
static void
expect_distribution(const struct ax_sampling *p, const float *x,
                    const double *expected)
{
    enum { DRAWS = 20000 };
    uint32_t counts[SMALL] = {0};
    int32_t tokens[1] = {0};
    for (uint32_t i = 0; i < DRAWS; i++) {
        struct ax_sampling q = *p;
        q.seed = i; /* position 0 of as many requests */
        struct ax_sample_history h = {tokens, 0, 0};
        counts[sample(small, &q, &h, x)]++;
    }
    double chi = 0;
    for (uint32_t i = 0; i < SMALL; i++) {
        double want = expected[i] * DRAWS;
        if (want == 0) {
            assert_int_equal(counts[i], 0);
        } else {
            chi += (counts[i] - want) * (counts[i] - want) / want;
        }
    }
    assert_true(chi < 40);
}


static const float logits[SMALL] = {0.5f,  2.0f, -1.0f, 1.5f,  3.0f,  0.0f,
                                    -2.0f, 2.5f, 1.0f,  -0.5f, 0.25f, 1.75f};


/* exp(x / T) of those with keep[i], normalized, by libm and plainly. */
static void
softmax(double *out, double temperature, const bool *keep)
{
    double sum = 0;
    for (uint32_t i = 0; i < SMALL; i++) {
        out[i] =
            keep == NULL || keep[i] ? exp((double)logits[i] / temperature) : 0;
        sum += out[i];
    }
    for (uint32_t i = 0; i < SMALL; i++) {
        out[i] /= sum;
    }
}


/* The n best: the rank of i is the number of larger logits. */
static void
keep_best(bool *keep, uint32_t n)
{
    for (uint32_t i = 0; i < SMALL; i++) {
        uint32_t rank = 0;
        for (uint32_t j = 0; j < SMALL; j++) {
            rank += logits[j] > logits[i];
        }
        keep[i] = rank < n;
    }
}


static uint32_t
nucleus(double top_p)
{
    double p[SMALL], sum = 0;
    bool keep[SMALL];
    softmax(p, 1, NULL);
    for (uint32_t n = 1; n < SMALL; n++) {
        keep_best(keep, n);
        sum = 0;
        for (uint32_t i = 0; i < SMALL; i++) {
            sum += keep[i] ? p[i] : 0;
        }
        if (sum >= top_p) {
            return n;
        }
    }
    return SMALL;
}


static void
test_plain_and_tempered_distributions(void **state)
{
    (void)state;
    double want[SMALL];
    struct ax_sampling p = defaults();
    softmax(want, 1, NULL);
    expect_distribution(&p, logits, want);
    p.temperature = 0.5f;
    softmax(want, 0.5, NULL);
    expect_distribution(&p, logits, want);
    p.temperature = 2.5f;
    softmax(want, 2.5, NULL);
    expect_distribution(&p, logits, want);
}


static void
test_top_k_distribution(void **state)
{
    (void)state;
    double want[SMALL];
    bool keep[SMALL];
    for (uint32_t k = 1; k <= SMALL; k += 4) {
        struct ax_sampling p = defaults();
        p.top_k = k;
        keep_best(keep, k);
        softmax(want, 1, keep);
        expect_distribution(&p, logits, want);
    }
}


static void
test_top_p_distribution(void **state)
{
    (void)state;
    static const float cuts[] = {0.01f, 0.3f, 0.5f, 0.8f, 0.95f, 0.999f};
    double want[SMALL];
    bool keep[SMALL];
    for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
        struct ax_sampling p = defaults();
        p.top_p = cuts[i];
        p.temperature = 0.75f; /* after the cut */
        keep_best(keep, nucleus((double)cuts[i]));
        softmax(want, 0.75, keep);
        expect_distribution(&p, logits, want);
    }
}


static void
test_min_p_distribution(void **state)
{
    (void)state;
    double want[SMALL];
    bool keep[SMALL];
    struct ax_sampling p = defaults();
    p.min_p = 0.2f; /* 3 + log(0.2) = 1.39: five reach it */
    keep_best(keep, 5);
    softmax(want, 1, keep);
    expect_distribution(&p, logits, want);
    p.min_p = 1;
    keep_best(keep, 1);
    softmax(want, 1, keep);
    expect_distribution(&p, logits, want);
}


static void
test_greedy_takes_the_lowest_id_of_a_tie(void **state)
{
    (void)state;
    float x[SMALL];
    memcpy(x, logits, sizeof(x));
    struct ax_sampling p = defaults();
    p.temperature = 0;
    assert_int_equal(sample(small, &p, &none, x), 4);
    x[9] = 3.0f;
    x[2] = 3.0f;
    assert_int_equal(sample(small, &p, &none, x), 2);
    for (uint32_t i = 0; i < SMALL; i++) {
        x[i] = -7;
    }
    assert_int_equal(sample(small, &p, &none, x), 0);
    p.temperature = 1;
    p.top_k = 3; /* of equal ones the lowest ids */
    for (uint32_t seed = 0; seed < 200; seed++) {
        p.seed = seed;
        assert_true(sample(small, &p, &none, x) < 3);
    }
}


static void
test_tiny_temperature_is_greedy_and_finite(void **state)
{
    (void)state;
    struct ax_sampling p = defaults();
    p.temperature = 1e-30f;
    assert_int_equal(sample(small, &p, &none, logits), 4);
    p.top_p = 1e-6f;
    assert_int_equal(sample(small, &p, &none, logits), 4);
}


static void
test_not_a_number_is_an_error_of_this_request(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    struct ax_sampling p = defaults();
    int32_t token;
    for (size_t i = 0; i < 3; i++) {
        float x[SMALL];
        memcpy(x, logits, sizeof(x));
        x[SMALL - 1] = bad[i];
        assert_int_equal(ax_sample(small, &p, &none, x, &token),
                         AXION_ERR_NUMERICAL);
    }
    assert_int_equal(ax_sample(small, &p, &none, logits, &token), AXION_OK);
}


static void
test_logit_bias_adds_bans_and_refuses_to_ban_all(void **state)
{
    (void)state;
    struct ax_sampling_bias bias[SMALL] = {{4, -100}, {5, 50}};
    struct ax_sampling p = defaults();
    int32_t token;
    p.temperature = 0;
    p.bias = bias;
    p.n_bias = 1;
    assert_int_equal(sample(small, &p, &none, logits), 7);
    p.n_bias = 2;
    assert_int_equal(sample(small, &p, &none, logits), 5);
    for (uint32_t i = 0; i < SMALL; i++) {
        bias[i] = (struct ax_sampling_bias){i, -100};
    }
    p.n_bias = SMALL;
    assert_int_equal(ax_sample(small, &p, &none, logits, &token),
                     AXION_ERR_INVALID_VALUE);
    p.temperature = 1;
    assert_int_equal(ax_sample(small, &p, &none, logits, &token),
                     AXION_ERR_INVALID_VALUE);
    p.n_bias = SMALL - 1; /* one left */
    for (uint32_t seed = 0; seed < 50; seed++) {
        p.seed = seed;
        p.top_k = seed % 3;
        p.top_p = seed % 2 ? 0.9f : 1;
        assert_int_equal(sample(small, &p, &none, logits), SMALL - 1);
    }
}


static void
test_penalties(void **state)
{
    (void)state;
    /* prompt 4 4 2, answer 7 7 3 */
    static const int32_t tokens[] = {4, 4, 2, 7, 7, 3};
    const struct ax_sample_history h = {tokens, 3, 6};
    struct ax_sampling p = defaults();
    p.temperature = 0;
    p.presence_penalty = 0.3f; /* the prompt's tokens are spared */
    assert_int_equal(sample(small, &p, &h, logits), 4);
    p.presence_penalty = 0;
    p.repetition_penalty = 2; /* 4: 1.5, 7: 1.25, 3: 0.75, 1 stays 2.0 */
    assert_int_equal(sample(small, &p, &h, logits), 1);
    float x[SMALL];
    memcpy(x, logits, sizeof(x));
    for (uint32_t i = 0; i < SMALL; i++) {
        x[i] -= 3.5f; /* all negative: multiplied, once per distinct token */
    }
    /* 4: -1.0, 7: -2.0, 1: -1.5 */
    assert_int_equal(sample(small, &p, &h, x), 4);
    p.repetition_penalty = 1;
    p.frequency_penalty = 0.3f; /* 7 loses 0.6: 1.9; 3 loses 0.3 */
    p.presence_penalty = 0.2f;  /* 7: 1.7 */
    struct ax_sampling_bias ban = {4, -100};
    p.bias = &ban;
    p.n_bias = 1;
    assert_int_equal(sample(small, &p, &h, logits), 1);
    assert_int_equal(sample(small, &p, &none, logits), 7); /* no trace */
}


static void
test_draws_depend_on_seed_and_position_alone(void **state)
{
    (void)state;
    static const int32_t tokens[64] = {0};
    struct ax_sampling p = defaults();
    int32_t first[64];
    p.seed = 42;
    uint32_t changes = 0;
    for (uint32_t i = 0; i < 64; i++) {
        struct ax_sample_history h = {tokens, 0, i};
        first[i] = sample(small, &p, &h, logits);
        changes += i > 0 && first[i] != first[i - 1];
    }
    assert_true(changes > 20);
    for (uint32_t i = 64; i-- > 0;) { /* backwards, others in between */
        struct ax_sample_history h = {tokens, i, i};
        struct ax_sampling other = p;
        other.seed = 7;
        other.top_k = 5;
        other.repetition_penalty = 1.5f;
        sample(small, &other, &h, logits);
        assert_int_equal(sample(small, &p, &h, logits), first[i]);
    }
}


static int
descending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}


/* On a whole vocabulary: everything drawn lies inside the set that a sort
 * finds, and its border is reached. */
static void
test_selection_on_a_large_vocabulary(void **state)
{
    (void)state;
    float *x = malloc(LARGE * sizeof(*x));
    float *sorted = malloc(LARGE * sizeof(*sorted));
    for (int flat = 0; flat < 2; flat++) {
        for (uint32_t i = 0; i < LARGE; i++) {
            double u = ax_random_unit(99, i);
            x[i] = (float)(flat ? u * 0.01 : log(u + 1e-9) * -2);
        }
        memcpy(sorted, x, LARGE * sizeof(*x));
        qsort(sorted, LARGE, sizeof(*sorted), descending);
        double mass = 0, sum = 0;
        for (uint32_t i = 0; i < LARGE; i++) {
            mass += exp((double)sorted[i] - (double)sorted[0]);
        }
        uint32_t n = 0;
        while (sum < 0.9 * mass) {
            sum += exp((double)sorted[n++] - (double)sorted[0]);
        }
        struct ax_sampling p = defaults();
        static const uint32_t ks[] = {1, 40, 700, 20000};
        for (uint32_t seed = 0; seed < 100; seed++) {
            p.seed = seed;
            p.top_k = ks[seed % 4];
            p.top_p = 1;
            assert_true(x[sample(large, &p, &none, x)] >= sorted[p.top_k - 1]);
            p.top_k = 0;
            p.top_p = 0.9f;
            assert_true(x[sample(large, &p, &none, x)] >= sorted[n + 1]);
            p.top_p = 1;
            p.min_p = 0.5f;
            assert_true(x[sample(large, &p, &none, x)] >=
                        sorted[0] + logf(0.5f) - 1e-4f);
            p.min_p = 0;
        }
    }
    free(x);
    free(sorted);
}


static void
test_filters_that_keep_all_change_nothing(void **state)
{
    (void)state;
    struct ax_sampling p = defaults(), q = defaults();
    q.top_k = SMALL - 1; /* through the filter's path */
    q.bias = &(struct ax_sampling_bias){6, -100};
    q.n_bias = 1;
    p.bias = q.bias;
    p.n_bias = 1;
    for (uint32_t seed = 0; seed < 500; seed++) {
        p.seed = q.seed = seed;
        assert_int_equal(sample(small, &p, &none, logits),
                         sample(small, &q, &none, logits));
    }
}


static void
test_parameters_out_of_range_are_named(void **state)
{
    (void)state;
    const char *field = NULL;
    struct ax_sampling p = defaults();
    assert_int_equal(ax_sampling_check(&p, SMALL, NULL), AXION_OK);
    p.temperature = NAN;
    assert_int_equal(ax_sampling_check(&p, SMALL, &field),
                     AXION_ERR_INVALID_VALUE);
    assert_string_equal(field, "temperature");
    p = defaults();
    p.top_p = 0;
    assert_int_equal(ax_sampling_check(&p, SMALL, &field),
                     AXION_ERR_INVALID_VALUE);
    assert_string_equal(field, "top_p");
    p = defaults();
    p.bias = &(struct ax_sampling_bias){SMALL, 1};
    p.n_bias = 1;
    assert_int_equal(ax_sampling_check(&p, SMALL, &field),
                     AXION_ERR_INVALID_TOKEN);
}


static void
test_one_token_vocabulary(void **state)
{
    (void)state;
    struct ax_sampler *one;
    float x = -3;
    assert_int_equal(ax_sampler_open(&one, 1, ops), AXION_OK);
    struct ax_sampling p = defaults();
    p.top_k = 40;
    p.top_p = 0.5f;
    p.min_p = 0.1f;
    assert_int_equal(sample(one, &p, &none, &x), 0);
    ax_sampler_close(one);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_known_answers),
        cmocka_unit_test(test_plain_and_tempered_distributions),
        cmocka_unit_test(test_top_k_distribution),
        cmocka_unit_test(test_top_p_distribution),
        cmocka_unit_test(test_min_p_distribution),
        cmocka_unit_test(test_greedy_takes_the_lowest_id_of_a_tie),
        cmocka_unit_test(test_tiny_temperature_is_greedy_and_finite),
        cmocka_unit_test(test_not_a_number_is_an_error_of_this_request),
        cmocka_unit_test(test_logit_bias_adds_bans_and_refuses_to_ban_all),
        cmocka_unit_test(test_penalties),
        cmocka_unit_test(test_draws_depend_on_seed_and_position_alone),
        cmocka_unit_test(test_selection_on_a_large_vocabulary),
        cmocka_unit_test(test_filters_that_keep_all_change_nothing),
        cmocka_unit_test(test_parameters_out_of_range_are_named),
        cmocka_unit_test(test_one_token_vocabulary),
    };
    return cmocka_run_group_tests(tests, open_samplers, close_samplers);
}
