/*
 * The prefix cache finds what it was given and nothing else: realms share no
 * block, a name without its tokens is no hit, a taken over block is never
 * written, what is wanted again outlives what came once, one owner cannot
 * flood another one out, and no block is lost on the way.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "engine/kv/names.h"

#define BLOCKS     64u
#define TOKENS_MAX (BLOCKS * AX_KV_BLOCK_TOKENS)

static const struct ax_kv_shape shape = {
    .n_layer = 2, .n_head_kv = 1, .head_dim = 32, .type = AXK_KV_F16};
static struct ax_kv *kv;
static struct ax_kv_key key;

struct user {
    struct ax_kv_sequence s;
    struct ax_kv_chain chain;
    struct ax_kv_name names[BLOCKS];
    uint32_t blocks[BLOCKS];
    int32_t tokens[TOKENS_MAX];
    uint32_t n_tokens, n_cached;
};


static int
open_pool(void **state)
{
    (void)state;
    size_t bytes = axk_kv_block_bytes(AXK_KV_F16, 1, 32) * 2 * BLOCKS;
    assert_int_equal(ax_kv_open(&kv, &shape, bytes, NULL), AXION_OK);
    assert_int_equal(ax_kv_blocks_total(kv), BLOCKS);
    assert_int_equal(ax_kv_key_draw(&key), AXION_OK);
    return 0;
}


static int
close_pool(void **state)
{
    (void)state;
    ax_kv_check(kv);
    assert_int_equal(ax_kv_blocks_used(kv), 0);
    ax_kv_close(kv);
    return 0;
}


/* A prompt of n tokens that all follow from text. */
static void
ask(struct user *u, uint64_t tenant, int32_t text, uint32_t n)
{
    uint8_t salt[16] = {0};
    memset(u, 0, sizeof(*u));
    memcpy(salt, &tenant, sizeof(tenant));
    u->s.blocks = u->blocks;
    u->s.blocks_max = BLOCKS;
    u->chain.names = u->names;
    u->n_tokens = n;
    for (uint32_t i = 0; i < n; i++) {
        u->tokens[i] = text * 100000 + (int32_t)i;
    }
    ax_kv_chain_begin(&u->chain, &key, salt, tenant, 0);
}


/* What a block's first byte says: whose computation it was. */
static char *
content(uint32_t block)
{
    return (char *)ax_kv_layer(kv, 0) + block * ax_kv_block_bytes(kv);
}


/* Attach, reserve, compute. */
static void
compute(struct user *u)
{
    ax_kv_chain_extend(&u->chain, u->tokens, u->n_tokens);
    u->n_cached =
        ax_kv_attach(kv, &u->s, &u->chain, u->tokens, 0, u->n_tokens - 1);
    assert_int_equal(ax_kv_reserve(kv, &u->s, u->n_tokens), AXION_OK);
    for (uint32_t p = u->n_cached; p < u->n_tokens; p++) {
        int32_t *slot = (int32_t *)content(u->blocks[p / AX_KV_BLOCK_TOKENS]);
        slot[p % AX_KV_BLOCK_TOKENS] = u->tokens[p];
    }
    for (uint32_t p = 0; p < u->n_tokens; p++) {
        int32_t *slot = (int32_t *)content(u->blocks[p / AX_KV_BLOCK_TOKENS]);
        assert_int_equal(slot[p % AX_KV_BLOCK_TOKENS], u->tokens[p]);
    }
    ax_kv_publish(kv, &u->s, &u->chain, u->tokens, u->n_tokens);
    ax_kv_check(kv);
}


static void
end(struct user *u)
{
    ax_kv_retire(kv, &u->s, &u->chain, u->tokens, u->n_tokens);
    ax_kv_check(kv);
}


static void
once(uint64_t tenant, int32_t text, uint32_t n)
{
    struct user u;
    ask(&u, tenant, text, n);
    compute(&u);
    end(&u);
}


static uint32_t
cached(uint64_t tenant, int32_t text, uint32_t n)
{
    struct user u;
    ask(&u, tenant, text, n);
    compute(&u);
    end(&u);
    return u.n_cached;
}


static void
a_prompt_that_comes_again_is_computed_but_for_its_last_token(void **state)
{
    (void)state;
    for (uint32_t n = 5; n < 200; n += 13) {
        once(1, (int32_t)n, n);
        assert_int_equal(cached(1, (int32_t)n, n), n - 1);
    }
    assert_true(ax_kv_blocks_cached(kv) > 0);
}


static void
a_longer_prompt_finds_the_shorter_one(void **state)
{
    struct user u;
    (void)state;
    once(1, 7, 100);
    ask(&u, 1, 7, 300);
    ax_kv_chain_extend(&u.chain, u.tokens, u.n_tokens);
    assert_int_equal(ax_kv_known(kv, &u.chain, u.tokens, 299), 96);
    compute(&u);
    assert_int_equal(u.n_cached, 100);
    end(&u);
}


static void
realms_share_nothing(void **state)
{
    (void)state;
    once(1, 7, 110);
    assert_int_equal(cached(2, 7, 110), 0);
    assert_int_equal(cached(1, 7, 110), 109);
    assert_int_equal(cached(2, 7, 110), 109);
}


static void
a_declared_prefix_is_everyones(void **state)
{
    struct user u;
    (void)state;
    ask(&u, 1, 7, 100);
    u.chain.n_shared = 2;
    compute(&u);
    end(&u);
    ask(&u, 2, 7, 100);
    u.chain.n_shared = 2;
    compute(&u);
    assert_int_equal(u.n_cached, 64);
    end(&u);
    /* What does not claim it does not find it. */
    assert_int_equal(cached(3, 7, 100), 0);
}


/* b's names made those of a. */
static void
expect_no_hit_by_name(struct user *a, struct user *b)
{
    ax_kv_chain_extend(&b->chain, b->tokens, b->n_tokens);
    memcpy(b->names, a->names, sizeof(b->names));
    assert_int_equal(ax_kv_known(kv, &b->chain, b->tokens, 63), 0);
    compute(b);
    assert_int_equal(b->n_cached, 0);
    end(a);
    end(b);
}


/* Names that an attacker has made equal, were it possible. */
static void
equal_names_of_other_tokens_are_no_hit(void **state)
{
    struct user a, b;
    (void)state;
    ask(&a, 1, 7, 64);
    compute(&a);
    ask(&b, 1, 8, 64);
    expect_no_hit_by_name(&a, &b);
}


static void
names_depend_on_the_key(void **state)
{
    struct user a;
    struct ax_kv_name first;
    (void)state;
    ask(&a, 1, 7, 32);
    ax_kv_chain_extend(&a.chain, a.tokens, 32);
    first = a.names[0];
    assert_int_equal(ax_kv_key_draw(&key), AXION_OK);
    ask(&a, 1, 7, 32);
    ax_kv_chain_extend(&a.chain, a.tokens, 32);
    assert_true(first.word[0] != a.names[0].word[0]);
}


/* The same tokens of one tenant, or of a declared prefix: what they became in
 * another KV type or class of numerics is not theirs, whole or in part. */
static void
kv_of_another_kind_is_no_hit(void **state)
{
    static const struct {
        enum axk_kv_type type;
        const char *numerics;
    } kinds[] = {{AXK_KV_F16, NULL},        {AXK_KV_BF16, NULL},
                 {AXK_KV_Q8_0, NULL},       {AXK_KV_F16, "bf16-dot"},
                 {AXK_KV_F16, "bf16-tile"}, {AXK_KV_BF16, "bf16-dot"}};
    (void)state;
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
            for (uint32_t n_shared = 0; n_shared < 2; n_shared++) {
                struct user u;
                ax_kv_key_name_kind(&key, kinds[i].type, kinds[i].numerics);
                ask(&u, 1, 7 + (int32_t)n_shared, 48);
                u.chain.n_shared = n_shared;
                compute(&u);
                assert_int_equal(u.n_cached, round == 0 ? 0 : 47);
                end(&u);
            }
        }
    }
}


/* Names given by another kind's computation, as a lost tier or a colliding
 * hash would: the realm is compared. */
static void
equal_names_of_another_kind_are_no_hit(void **state)
{
    struct user a, b;
    (void)state;
    ax_kv_key_name_kind(&key, AXK_KV_F16, NULL);
    ask(&a, 1, 7, 64);
    compute(&a);
    ax_kv_key_name_kind(&key, AXK_KV_F16, "bf16-dot");
    ask(&b, 1, 7, 64);
    expect_no_hit_by_name(&a, &b);
}


/* Two that compute the same at the same time end with one copy. */
static void
what_two_computed_is_kept_once(void **state)
{
    struct user a, b;
    (void)state;
    ask(&a, 1, 7, 128);
    ask(&b, 1, 7, 128);
    ax_kv_chain_extend(&a.chain, a.tokens, 128);
    ax_kv_chain_extend(&b.chain, b.tokens, 128);
    assert_int_equal(ax_kv_reserve(kv, &a.s, 128), AXION_OK);
    assert_int_equal(ax_kv_reserve(kv, &b.s, 128), AXION_OK);
    assert_int_equal(ax_kv_blocks_used(kv), 8);
    ax_kv_publish(kv, &a.s, &a.chain, a.tokens, 64);
    /* b is one chunk behind and need not compute what is there. */
    assert_int_equal(ax_kv_attach(kv, &b.s, &b.chain, b.tokens, 0, 127), 64);
    assert_int_equal(ax_kv_blocks_used(kv), 6);
    ax_kv_publish(kv, &a.s, &a.chain, a.tokens, 128);
    ax_kv_publish(kv, &b.s, &b.chain, b.tokens, 128);
    assert_int_equal(ax_kv_blocks_used(kv), 4);
    assert_memory_equal(a.blocks, b.blocks, 4 * sizeof(a.blocks[0]));
    end(&a);
    assert_int_equal(ax_kv_alone(kv, &b.s), 4);
    end(&b);
    assert_int_equal(ax_kv_blocks_cached(kv), 4);
}


static void
cached_blocks_are_free_blocks(void **state)
{
    struct user a;
    (void)state;
    for (int32_t text = 1; text <= 4; text++) {
        once(1, text, TOKENS_MAX / 4);
    }
    assert_int_equal(ax_kv_blocks_cached(kv), BLOCKS);
    assert_int_equal(ax_kv_blocks_free(kv), BLOCKS);
    ask(&a, 1, 9, TOKENS_MAX);
    compute(&a);
    assert_int_equal(ax_kv_blocks_cached(kv), 0);
    end(&a);
}


static void
what_came_twice_outlives_what_came_once(void **state)
{
    (void)state;
    once(1, 1, 4 * AX_KV_BLOCK_TOKENS);
    once(1, 1, 4 * AX_KV_BLOCK_TOKENS + 1);
    for (int32_t text = 100; text < 200; text++) {
        once(1, text, 4 * AX_KV_BLOCK_TOKENS);
    }
    assert_int_equal(cached(1, 1, 4 * AX_KV_BLOCK_TOKENS + 1),
                     4 * AX_KV_BLOCK_TOKENS);
    /* Only the newest of the others are left. */
    assert_int_equal(cached(1, 110, 4 * AX_KV_BLOCK_TOKENS), 0);
}


/* Seen, lost, and seen again: the second time it stays. */
static void
names_are_remembered_beyond_their_blocks(void **state)
{
    (void)state;
    once(1, 1, 2 * AX_KV_BLOCK_TOKENS);
    for (int32_t text = 100; text < 140; text++) {
        once(1, text, 2 * AX_KV_BLOCK_TOKENS);
    }
    assert_int_equal(cached(1, 1, 2 * AX_KV_BLOCK_TOKENS + 1), 0);
    for (int32_t text = 200; text < 240; text++) {
        once(1, text, 2 * AX_KV_BLOCK_TOKENS);
    }
    assert_int_equal(cached(1, 1, 2 * AX_KV_BLOCK_TOKENS + 1),
                     2 * AX_KV_BLOCK_TOKENS);
}


static void
a_flood_takes_no_more_than_is_its_share(void **state)
{
    (void)state;
    for (int32_t text = 1; text <= 5; text++) {
        once(1, text, 4 * AX_KV_BLOCK_TOKENS);
    }
    /* As many blocks as there are, and twice: what is idle may be borrowed. */
    for (int32_t text = 100; text < 132; text++) {
        once(2, text, 4 * AX_KV_BLOCK_TOKENS);
    }
    assert_int_equal(ax_kv_blocks_of(kv, 1), 20);
    assert_int_equal(ax_kv_blocks_of(kv, 2), BLOCKS - 20);
    for (int32_t text = 1; text <= 5; text++) {
        assert_int_equal(cached(1, text, 4 * AX_KV_BLOCK_TOKENS),
                         4 * AX_KV_BLOCK_TOKENS - 1);
    }
}


static void
who_has_left_loses_first(void **state)
{
    (void)state;
    once(1, 1, 4 * AX_KV_BLOCK_TOKENS);
    for (int32_t text = 100; text < 200; text++) {
        once(2, text, 4 * AX_KV_BLOCK_TOKENS);
    }
    assert_int_equal(ax_kv_blocks_of(kv, 1), 0);
}


static void
declared_prefixes_go_last(void **state)
{
    struct user u;
    (void)state;
    ask(&u, 1, 7, 4 * AX_KV_BLOCK_TOKENS);
    u.chain.n_shared = 4;
    compute(&u);
    end(&u);
    for (int32_t text = 100; text < 400; text++) {
        once(2, text, 4 * AX_KV_BLOCK_TOKENS);
    }
    ask(&u, 3, 7, 4 * AX_KV_BLOCK_TOKENS + 1);
    u.chain.n_shared = 4;
    compute(&u);
    assert_int_equal(u.n_cached, 4 * AX_KV_BLOCK_TOKENS);
    end(&u);
}


static void
many_owners_lose_no_block(void **state)
{
    (void)state;
    for (uint64_t tenant = 1; tenant < 5000; tenant++) {
        once(tenant, (int32_t)(tenant % 7), 40);
    }
}


int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, open_pool, close_pool)
    const struct CMUnitTest tests[] = {
        TEST(a_prompt_that_comes_again_is_computed_but_for_its_last_token),
        TEST(a_longer_prompt_finds_the_shorter_one),
        TEST(realms_share_nothing),
        TEST(a_declared_prefix_is_everyones),
        TEST(equal_names_of_other_tokens_are_no_hit),
        TEST(names_depend_on_the_key),
        TEST(kv_of_another_kind_is_no_hit),
        TEST(equal_names_of_another_kind_are_no_hit),
        TEST(what_two_computed_is_kept_once),
        TEST(cached_blocks_are_free_blocks),
        TEST(what_came_twice_outlives_what_came_once),
        TEST(names_are_remembered_beyond_their_blocks),
        TEST(a_flood_takes_no_more_than_is_its_share),
        TEST(who_has_left_loses_first),
        TEST(declared_prefixes_go_last),
        TEST(many_owners_lose_no_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
