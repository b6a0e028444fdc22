/*
 * Layers with a sliding window hold what the window covers and no more,
 * whatever the length; what is promised to a sequence is there when a step
 * wants it, cached prefixes are found by the last window's blocks alone, and
 * another sequence in the memory given back changes no logit.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "engine/kv/names.h"
#include "tests/golden/runner.h"

#define WINDOW  512u
#define CHUNK   256u
#define LONG    8192u
#define GROUPS  6u
#define TABLE   (LONG / AX_KV_BLOCK_TOKENS)
#define TENANTS 3u

/* Blocks of a window's group: what 511 + 256 positions can touch. */
#define HELD 25u

struct user {
    struct ax_kv_sequence s;
    struct ax_kv_chain chain;
    struct ax_kv_name names[TABLE];
    uint32_t blocks[GROUPS * TABLE];
    int32_t tokens[LONG];
};

static struct user users[TENANTS];
static struct ax_kv_key key;
static uint32_t windows[128];


/* Gemma 3's pattern: every sixth layer sees everything. */
static struct ax_kv_shape
gemma(uint32_t n_layer)
{
    for (uint32_t i = 0; i < n_layer; i++) {
        windows[i] = i % 6 == 5 ? 0 : WINDOW;
    }
    return (struct ax_kv_shape){.n_layer = n_layer,
                                .n_head_kv = 1,
                                .head_dim = 32,
                                .windows = windows,
                                .step_tokens_max = CHUNK};
}


static struct ax_kv *
open_pool(uint32_t blocks)
{
    struct ax_kv_shape shape = gemma(18);
    struct ax_kv *kv;
    size_t block = 3 * axk_kv_block_bytes(AXK_KV_F16, 1, 32);

    assert_int_equal(ax_kv_open(&kv, &shape, block * blocks, NULL), AXION_OK);
    assert_int_equal(ax_kv_groups(kv), GROUPS);
    assert_int_equal(ax_kv_block_bytes(kv), block);
    for (uint32_t i = 0; i < TENANTS; i++) {
        struct user *u = &users[i];
        uint8_t salt[16] = {(uint8_t)(1 + i)};
        u->s = (struct ax_kv_sequence){.blocks = u->blocks,
                                       .blocks_max = TABLE};
        u->chain.names = u->names;
        ax_kv_chain_begin(&u->chain, &key, salt, i, 0);
        for (uint32_t p = 0; p < LONG; p++) {
            u->tokens[p] = (int32_t)p;
        }
    }
    return kv;
}


static uint32_t
held(const struct ax_kv *kv, const struct user *u)
{
    uint32_t n = 0;
    for (uint32_t g = 0; g < ax_kv_groups(kv); g++) {
        struct ax_kv_held h = ax_kv_held(kv, &u->s, g);
        n += h.end - h.first;
    }
    return n;
}


/* Positions [from, to) in chunks, named as they are computed. */
static void
compute(struct ax_kv *kv, struct user *u, uint32_t from, uint32_t to)
{
    for (uint32_t n; from < to; from += n) {
        n = to - from < CHUNK ? to - from : CHUNK;
        assert_int_equal(ax_kv_window(kv, &u->s, from, from + n), AXION_OK);
        ax_kv_chain_extend(&u->chain, u->tokens, from + n);
        ax_kv_publish(kv, &u->s, &u->chain, u->tokens, from + n);
        assert_true(held(kv, u) <= ax_kv_blocks_used(kv));
    }
}


static void
kinds_of_layers_are_put_into_groups_of_a_size(void **state)
{
    static const struct {
        uint32_t n_layer, groups;
    } models[] = {{18, 6}, {26, 7}, {34, 7}, {48, 6}, {62, 13}, {5, 1}};
    (void)state;
    for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
        struct ax_kv_shape shape = gemma(models[i].n_layer);
        struct ax_kv *kv;
        uint32_t layers[AX_KV_GROUPS_MAX] = {0};
        size_t layer = axk_kv_block_bytes(AXK_KV_F16, 1, 32);
        assert_int_equal(ax_kv_open(&kv, &shape, 1 << 22, NULL), AXION_OK);
        assert_int_equal(ax_kv_groups(kv), models[i].groups);
        for (uint32_t l = 0; l < shape.n_layer; l++) {
            uint32_t g = ax_kv_group(kv, l);
            size_t at = (size_t)((char *)ax_kv_layer(kv, l) -
                                 (char *)ax_kv_layer(kv, 0));
            assert_int_equal(at, layers[g]++ * layer);
            assert_true(layers[g] * layer <= ax_kv_block_bytes(kv));
            for (uint32_t k = 0; k < l; k++) {
                assert_true(ax_kv_group(kv, k) != g ||
                            windows[k] == windows[l]);
            }
        }
        ax_kv_close(kv);
    }
    windows[0] = 0;
}


static void
a_long_sequence_holds_its_last_window(void **state)
{
    struct ax_kv *kv = open_pool(1000);
    struct ax_kv_shape shape = gemma(18);
    struct user *u = &users[0];
    (void)state;
    assert_int_equal(ax_kv_needed(kv, LONG), TABLE + 5 * HELD);
    assert_int_equal(ax_kv_needed(kv, 100), 6 * 4);
    assert_int_equal(ax_kv_bytes_needed(&shape, LONG),
                     (TABLE + 5 * HELD) * ax_kv_block_bytes(kv));
    assert_int_equal(ax_kv_reserve(kv, &u->s, LONG - 1), AXION_OK);
    assert_int_equal(ax_kv_blocks_used(kv), TABLE + 5 * HELD);
    compute(kv, u, 0, LONG - 1);
    assert_true(held(kv, u) <= TABLE + 5 * HELD);
    /* From now on it is a decode. */
    compute(kv, u, LONG - 2, LONG - 1);
    assert_int_equal(ax_kv_blocks_used(kv), TABLE + 5 * 17);
    assert_int_equal(held(kv, u), TABLE + 5 * 17);
    assert_int_equal(ax_kv_alone(kv, &u->s), TABLE + 5 * 17);
    ax_kv_release(kv, &u->s);
    assert_int_equal(ax_kv_blocks_used(kv), 0);
    ax_kv_check(kv);
    ax_kv_close(kv);
}


/* Reserved by all to the last block: then every step finds its memory, also
 * beside what the cache keeps of those who came before. */
static void
what_was_promised_is_there(void **state)
{
    enum { N = 2048 };
    struct ax_kv *kv = open_pool(TENANTS * (N / 32 + 5 * HELD));
    (void)state;
    assert_int_equal(ax_kv_tokens_max(kv) / 32,
                     TENANTS * (N / 32 + 5 * HELD) - 5 * HELD);
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < TENANTS; i++) {
            struct user *u = &users[i];
            for (uint32_t p = 0; p < N; p++) {
                u->tokens[p] = (int32_t)(round * N + p);
            }
            u->chain.n = 0;
            assert_int_equal(ax_kv_missing(kv, &u->s, N), N / 32 + 5 * HELD);
            assert_int_equal(ax_kv_reserve(kv, &u->s, N), AXION_OK);
        }
        assert_int_equal(ax_kv_blocks_free(kv), 0);
        for (uint32_t p = 0; p < N; p += CHUNK) {
            for (uint32_t i = 0; i < TENANTS; i++) {
                compute(kv, &users[i], p, p + CHUNK);
                ax_kv_check(kv);
            }
        }
        for (uint32_t i = 0; i < TENANTS; i++) {
            ax_kv_retire(kv, &users[i].s, &users[i].chain, users[i].tokens, N);
        }
        assert_int_equal(ax_kv_blocks_used(kv), 0);
        assert_true(ax_kv_blocks_cached(kv) > 0);
    }
    ax_kv_close(kv);
}


static void
a_prefix_is_found_by_its_last_window(void **state)
{
    struct ax_kv *kv = open_pool(2000);
    struct user *u = &users[0];
    (void)state;
    assert_int_equal(ax_kv_reserve(kv, &u->s, 3000), AXION_OK);
    compute(kv, u, 0, 3000);
    ax_kv_retire(kv, &u->s, &u->chain, u->tokens, 3000);
    assert_int_equal(ax_kv_blocks_used(kv), 0);
    ax_kv_chain_extend(&u->chain, u->tokens, LONG);
    assert_int_equal(ax_kv_known(kv, &u->chain, u->tokens, LONG - 1), 2976);
    assert_int_equal(
        ax_kv_attach(kv, &u->s, &u->chain, u->tokens, 0, LONG - 1), 3000);
    /* 93 full blocks and one in part; of the window the last 16 and this. */
    assert_int_equal(held(kv, u), 94 + 5 * 17);
    assert_int_equal(ax_kv_reserve(kv, &u->s, 4000), AXION_OK);
    compute(kv, u, 3000, 4000);
    /* Another's are not its own. */
    ax_kv_chain_extend(&users[1].chain, users[1].tokens, 4000);
    assert_int_equal(
        ax_kv_known(kv, &users[1].chain, users[1].tokens, 3999), 0);
    ax_kv_release(kv, &u->s);
    ax_kv_check(kv);
    ax_kv_close(kv);
}


/* The window's blocks at the end are gone, those further ahead are not. */
static void
a_window_with_a_hole_is_no_hit(void **state)
{
    struct ax_kv *kv = open_pool(2000);
    struct user *u = &users[0], *v = &users[1];
    (void)state;
    v->chain.realm = u->chain.realm;
    assert_int_equal(ax_kv_reserve(kv, &u->s, 2048), AXION_OK);
    for (uint32_t p = 0; p < 2048; p += CHUNK) {
        assert_int_equal(ax_kv_window(kv, &u->s, p, p + CHUNK), AXION_OK);
        ax_kv_chain_extend(&u->chain, u->tokens, p + CHUNK);
        if (p + CHUNK <= 1024) {
            ax_kv_publish(kv, &u->s, &u->chain, u->tokens, p + CHUNK);
        }
    }
    /* Named late: the full groups' all, of windows what is held at the end. */
    ax_kv_publish(kv, &u->s, &u->chain, u->tokens, 2048);
    ax_kv_chain_extend(&v->chain, v->tokens, 2048);
    assert_int_equal(ax_kv_known(kv, &v->chain, v->tokens, 2047), 2016);
    assert_int_equal(ax_kv_known(kv, &v->chain, v->tokens, 1500), 1024);
    assert_int_equal(ax_kv_attach(kv, &v->s, &v->chain, v->tokens, 0, 1500),
                     1024);
    ax_kv_release(kv, &u->s);
    ax_kv_release(kv, &v->s);
    ax_kv_check(kv);
    ax_kv_close(kv);
}


static void
truncation_behind_the_window_begins_anew(void **state)
{
    struct ax_kv *kv = open_pool(1000);
    struct user *u = &users[0];
    (void)state;
    assert_int_equal(ax_kv_reserve(kv, &u->s, 2000), AXION_OK);
    compute(kv, u, 0, 2000);
    assert_int_equal(ax_kv_reserve(kv, &u->s, 2016), AXION_OK);
    assert_int_equal(ax_kv_window(kv, &u->s, 2000, 2016), AXION_OK);
    /* A step's drafts always can be cut off. */
    assert_int_equal(ax_kv_truncate(kv, &u->s, 2001), 2001);
    assert_int_equal(ax_kv_window(kv, &u->s, 2000, 2001), AXION_OK);
    /* Step back behind what the window has given up: nothing is left. */
    assert_int_equal(ax_kv_window(kv, &u->s, 1000, 1001), AXION_ERR_INTERNAL);
    assert_int_equal(ax_kv_truncate(kv, &u->s, 1000), 0);
    assert_int_equal(ax_kv_blocks_used(kv), 0);
    assert_int_equal(ax_kv_reserve(kv, &u->s, 1000), AXION_OK);
    /* A step longer than any that was promised. */
    assert_int_equal(ax_kv_window(kv, &u->s, 0, 32 * HELD + 1),
                     AXION_ERR_INTERNAL);
    compute(kv, u, 0, 500);
    /* Within the first window nothing was given up. */
    assert_int_equal(ax_kv_truncate(kv, &u->s, 100), 100);
    ax_kv_release(kv, &u->s);
    ax_kv_check(kv);
    ax_kv_close(kv);
}


/* ---- with a model ---- */

/* The logits of n greedy tokens of sequence `who` after its prompt, another
 * sequence computed in between where beside is set. */
static void
generate(struct runner *r, uint32_t who, bool beside, uint32_t n, float *out)
{
    enum { PROMPT = 300, STEP = 50 };
    uint32_t end = PROMPT + n, other = 0, token = 0;
    struct ax_step_token step[STEP + 1];

    for (uint32_t p = 0, m; p < end; p += m) {
        m = p < PROMPT ? STEP : 1;
        runner_reserve(r, who, p + m);
        for (uint32_t i = 0; i < m; i++) {
            step[i] = (struct ax_step_token){
                .token = p < PROMPT ? (int32_t)((p + i) % 50) : (int32_t)token,
                .position = p + i,
                .sequence = who,
                .logits_row = i + 1 == m ? 0 : AX_NO_LOGITS};
        }
        if (beside) {
            runner_reserve(r, who + 1, other + 1);
            step[m] = (struct ax_step_token){.token = (int32_t)(other % 31),
                                             .position = other,
                                             .sequence = who + 1,
                                             .logits_row = AX_NO_LOGITS};
            other++;
        }
        runner_step(r, step, m + beside, 1);
        token = runner_argmax(r->logits, r->n_vocab);
        if (p >= PROMPT) {
            memcpy(out + (size_t)(p - PROMPT) * r->n_vocab, r->logits,
                   r->n_vocab * sizeof(float));
        }
    }
}


static void
memory_given_back_changes_no_logit(void **state)
{
    enum { ANSWER = 80 };
    struct runner r;
    (void)state;
    runner_open(&r, runner_tiny_path("f16-gemma3"), NULL, 2, 1);
    size_t n = (size_t)ANSWER * r.n_vocab;
    float *alone = malloc(n * sizeof(float));
    float *beside = malloc(n * sizeof(float));
    assert_non_null(alone);
    assert_non_null(beside);
    generate(&r, 0, false, ANSWER, alone);
    /* One layer of seven sees all 380 positions, the others 40. */
    struct ax_kv_held full = ax_kv_held(r.kv, &r.sequences[0].kv, 0);
    assert_int_equal(full.end - full.first, 12);
    for (uint32_t g = 1; g < ax_kv_groups(r.kv); g++) {
        struct ax_kv_held h = ax_kv_held(r.kv, &r.sequences[0].kv, g);
        assert_true(h.end - h.first <= 3);
    }
    runner_reset(&r);
    generate(&r, 3, true, ANSWER, beside);
    assert_memory_equal(alone, beside, n * sizeof(float));
    free(alone);
    free(beside);
    runner_close(&r);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds_of_layers_are_put_into_groups_of_a_size),
        cmocka_unit_test(a_long_sequence_holds_its_last_window),
        cmocka_unit_test(what_was_promised_is_there),
        cmocka_unit_test(a_prefix_is_found_by_its_last_window),
        cmocka_unit_test(a_window_with_a_hole_is_no_hit),
        cmocka_unit_test(truncation_behind_the_window_begins_anew),
        cmocka_unit_test(memory_given_back_changes_no_logit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
