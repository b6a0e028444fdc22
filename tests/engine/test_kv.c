/*
 * The KV block pool never gives a block out twice, takes nothing when it
 * cannot give all, keeps shared blocks for their other holders, and never
 * lets a sequence write into a block that another one holds.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/kv/kv.h"


#define BLOCKS 16u

static const struct ax_kv_shape shape = {
    .n_layer = 2,
    .n_head_kv = 3,
    .head_dim = 32,
    .type = AXK_KV_F16,
};


static struct ax_kv *
open_pool(uint32_t blocks)
{
    struct ax_kv *kv;
    size_t bytes = axk_kv_block_bytes(AXK_KV_F16, 3, 32) * 2 * blocks;

    assert_int_equal(ax_kv_open(&kv, &shape, bytes + 100, NULL), AXION_OK);
    assert_int_equal(ax_kv_blocks_total(kv), blocks);
    assert_int_equal(ax_kv_blocks_free(kv), blocks);
    return kv;
}


struct sequence {
    struct ax_kv_sequence s;
    uint32_t blocks[BLOCKS];
};


static void
begin(struct sequence *q)
{
    memset(q, 0, sizeof(*q));
    q->s.blocks = q->blocks;
    q->s.blocks_max = BLOCKS;
}


static void
blocks_are_never_given_twice(void **state)
{
    struct ax_kv *kv = open_pool(BLOCKS);
    struct sequence a, b;
    uint32_t seen = 0;

    (void)state;
    begin(&a);
    begin(&b);
    for (uint32_t n = 1; n <= 8 * AX_KV_BLOCK_TOKENS; n++) {
        assert_int_equal(ax_kv_reserve(kv, &a.s, n), AXION_OK);
        assert_int_equal(ax_kv_reserve(kv, &b.s, n), AXION_OK);
        assert_int_equal(a.s.n_blocks, ax_kv_blocks_for(n));
    }
    for (uint32_t i = 0; i < 8; i++) {
        assert_false(seen & 1u << a.blocks[i]);
        seen |= 1u << a.blocks[i];
        assert_false(seen & 1u << b.blocks[i]);
        seen |= 1u << b.blocks[i];
    }
    assert_int_equal(ax_kv_blocks_used(kv), 16);
    ax_kv_release(kv, &a.s);
    ax_kv_release(kv, &b.s);
    assert_int_equal(ax_kv_blocks_used(kv), 0);
    ax_kv_close(kv);
}


static void
an_exhausted_pool_takes_nothing(void **state)
{
    struct ax_kv *kv = open_pool(4);
    struct sequence a, b;

    (void)state;
    begin(&a);
    begin(&b);
    assert_int_equal(ax_kv_reserve(kv, &a.s, 3 * AX_KV_BLOCK_TOKENS), AXION_OK);
    assert_int_equal(ax_kv_reserve(kv, &b.s, AX_KV_BLOCK_TOKENS + 1),
                     AXION_ERR_KV_EXHAUSTED);
    assert_int_equal(b.s.n_tokens, 0);
    assert_int_equal(b.s.n_blocks, 0);
    assert_int_equal(ax_kv_blocks_free(kv), 1);
    /* Nor beyond the sequence's own table. */
    a.s.blocks_max = 3;
    assert_int_equal(ax_kv_reserve(kv, &a.s, 3 * AX_KV_BLOCK_TOKENS + 1),
                     AXION_ERR_KV_EXHAUSTED);
    assert_int_equal(ax_kv_reserve(kv, &b.s, AX_KV_BLOCK_TOKENS), AXION_OK);
    assert_int_equal(ax_kv_blocks_free(kv), 0);
    ax_kv_release(kv, &a.s);
    ax_kv_release(kv, &b.s);
    ax_kv_close(kv);
}


static void
truncation_gives_whole_blocks_back(void **state)
{
    struct ax_kv *kv = open_pool(BLOCKS);
    struct sequence a;

    (void)state;
    begin(&a);
    assert_int_equal(ax_kv_reserve(kv, &a.s, 100), AXION_OK);
    ax_kv_truncate(kv, &a.s, 200);
    assert_int_equal(a.s.n_tokens, 100);
    ax_kv_truncate(kv, &a.s, 65);
    assert_int_equal(a.s.n_blocks, 3);
    ax_kv_truncate(kv, &a.s, 64);
    assert_int_equal(a.s.n_blocks, 2);
    assert_int_equal(ax_kv_blocks_used(kv), 2);
    ax_kv_truncate(kv, &a.s, 0);
    assert_int_equal(ax_kv_blocks_used(kv), 0);
    ax_kv_close(kv);
}


/* b takes over the first n_tokens of a. */
static void
share(struct ax_kv *kv, const struct sequence *a, struct sequence *b,
      uint32_t n_tokens)
{
    b->s.n_tokens = n_tokens;
    b->s.n_blocks = ax_kv_blocks_for(n_tokens);
    for (uint32_t i = 0; i < b->s.n_blocks; i++) {
        b->blocks[i] = a->blocks[i];
        ax_kv_block_ref(kv, b->blocks[i]);
    }
}


static void
shared_blocks_live_until_the_last_holder(void **state)
{
    struct ax_kv *kv = open_pool(BLOCKS);
    struct sequence a, b;

    (void)state;
    begin(&a);
    begin(&b);
    assert_int_equal(ax_kv_reserve(kv, &a.s, 64), AXION_OK);
    share(kv, &a, &b, 64);
    assert_int_equal(ax_kv_block_refs(kv, a.blocks[1]), 2);
    assert_int_equal(ax_kv_blocks_used(kv), 2);
    ax_kv_release(kv, &a.s);
    assert_int_equal(ax_kv_blocks_used(kv), 2);
    assert_int_equal(ax_kv_block_refs(kv, b.blocks[1]), 1);
    ax_kv_release(kv, &b.s);
    assert_int_equal(ax_kv_blocks_used(kv), 0);
    ax_kv_close(kv);
}


static void
growing_inside_a_shared_block_copies_it(void **state)
{
    struct ax_kv *kv = open_pool(BLOCKS);
    struct sequence a, b;
    size_t stride = ax_kv_block_bytes(kv);

    (void)state;
    begin(&a);
    begin(&b);
    assert_int_equal(ax_kv_reserve(kv, &a.s, 40), AXION_OK);
    char *base = ax_kv_layer(kv, 0);
    memset(base + a.blocks[1] * stride, 0x5a, stride);
    share(kv, &a, &b, 40);
    assert_int_equal(ax_kv_reserve(kv, &b.s, 41), AXION_OK);
    assert_int_equal(b.blocks[0], a.blocks[0]);
    assert_int_not_equal(b.blocks[1], a.blocks[1]);
    assert_int_equal(ax_kv_block_refs(kv, a.blocks[1]), 1);
    assert_memory_equal(base + a.blocks[1] * stride,
                        base + b.blocks[1] * stride, stride);
    /* At a block's end there is nothing to copy. */
    ax_kv_truncate(kv, &b.s, 32);
    assert_int_equal(ax_kv_reserve(kv, &b.s, 33), AXION_OK);
    assert_int_equal(ax_kv_block_refs(kv, a.blocks[0]), 2);
    ax_kv_release(kv, &a.s);
    ax_kv_release(kv, &b.s);
    assert_int_equal(ax_kv_blocks_used(kv), 0);
    ax_kv_close(kv);
}


static void
a_copy_without_room_takes_nothing(void **state)
{
    struct ax_kv *kv = open_pool(2);
    struct sequence a, b;

    (void)state;
    begin(&a);
    begin(&b);
    assert_int_equal(ax_kv_reserve(kv, &a.s, 40), AXION_OK);
    share(kv, &a, &b, 40);
    assert_int_equal(ax_kv_reserve(kv, &b.s, 41), AXION_ERR_KV_EXHAUSTED);
    assert_int_equal(b.s.n_tokens, 40);
    assert_int_equal(ax_kv_block_refs(kv, a.blocks[1]), 2);
    ax_kv_release(kv, &a.s);
    ax_kv_release(kv, &b.s);
    ax_kv_close(kv);
}


static void
sizes_out_of_range_are_refused(void **state)
{
    struct ax_kv *kv;
    struct ax_error err = {0};
    struct ax_kv_shape bad = {.n_head_kv = 1, .head_dim = 64};

    (void)state;
    assert_int_equal(ax_kv_open(&kv, &shape, 100, &err), AXION_ERR_BAD_OPTION);
    assert_int_equal(ax_kv_open(&kv, &shape, UINT64_MAX, &err),
                     AXION_ERR_BAD_OPTION);
    assert_int_equal(ax_kv_open(&kv, &bad, 1 << 20, &err),
                     AXION_ERR_BAD_OPTION);
    assert_null(kv);
    ax_kv_close(NULL);
}


/* Bytes of the pool's first `bytes` that are in memory. */
static size_t
bytes_in_memory(const struct ax_kv *kv, size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), n = 0;
    unsigned char *there = calloc(bytes / page, 1);

    assert_non_null(there);
    assert_int_equal(mincore(ax_kv_layer(kv, 0), bytes, there), 0);
    for (size_t i = 0; i < bytes / page; i++) {
        n += (there[i] & 1) * page;
    }
    free(there);
    return n;
}


static void
pages_come_ahead_and_contents_stay(void **state)
{
    enum { MIB = 1 << 20 };
    size_t block = axk_kv_block_bytes(AXK_KV_F16, 3, 32) * 2;
    struct ax_kv *kv = open_pool(16 * MIB / block);
    uint32_t rounds = 0;

    (void)state;
    char *bytes = ax_kv_layer(kv, 0);
    bytes[3 * MIB] = 42;
    while (ax_kv_populate(kv, 6 * MIB)) {
        rounds++;
    }
    assert_int_equal(bytes[3 * MIB], 42);
    if (rounds > 0) { /* Linux 5.14 and later */
        assert_int_equal(rounds, 2);
        assert_int_equal(bytes_in_memory(kv, 6 * MIB), 6 * MIB);
    }
    assert_false(ax_kv_populate(kv, 6 * MIB));
    while (ax_kv_populate(kv, UINT64_MAX)) {
        rounds++; /* ends at the pool's end */
    }
    assert_false(ax_kv_populate(kv, UINT64_MAX));
    ax_kv_close(kv);
}


/* A random history keeps the count of used blocks and all tables disjoint. */
static void
random_histories_lose_no_block(void **state)
{
    struct ax_kv *kv = open_pool(64);
    struct sequence q[8];
    uint32_t seed = 12345;

    (void)state;
    for (uint32_t i = 0; i < 8; i++) {
        begin(&q[i]);
    }
    for (uint32_t round = 0; round < 20000; round++) {
        seed = seed * 1664525u + 1013904223u;
        struct sequence *s = &q[seed >> 29];
        uint32_t n = (seed >> 8) % (BLOCKS * AX_KV_BLOCK_TOKENS);
        if (n > s->s.n_tokens) {
            (void)ax_kv_reserve(kv, &s->s, n);
        } else {
            ax_kv_truncate(kv, &s->s, n);
        }
        uint32_t held = 0;
        for (uint32_t i = 0; i < 8; i++) {
            held += q[i].s.n_blocks;
        }
        assert_int_equal(ax_kv_blocks_used(kv), held);
    }
    for (uint32_t i = 0; i < 8; i++) {
        for (uint32_t b = 0; b < q[i].s.n_blocks; b++) {
            assert_int_equal(ax_kv_block_refs(kv, q[i].blocks[b]), 1);
        }
        ax_kv_release(kv, &q[i].s);
    }
    assert_int_equal(ax_kv_blocks_used(kv), 0);
    ax_kv_close(kv);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_never_given_twice),
        cmocka_unit_test(an_exhausted_pool_takes_nothing),
        cmocka_unit_test(truncation_gives_whole_blocks_back),
        cmocka_unit_test(shared_blocks_live_until_the_last_holder),
        cmocka_unit_test(growing_inside_a_shared_block_copies_it),
        cmocka_unit_test(a_copy_without_room_takes_nothing),
        cmocka_unit_test(sizes_out_of_range_are_refused),
        cmocka_unit_test(pages_come_ahead_and_contents_stay),
        cmocka_unit_test(random_histories_lose_no_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
