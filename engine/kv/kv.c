/*
 * The block pool and sequences over it; see kv.h for the rules.
 *
 * Free blocks form a stack of indexes, so that a block that was just given
 * back, and may still be in a cache, is taken first.  refs is 0 exactly for
 * the blocks on the stack and those that the prefix cache keeps.  Everything
 * here is the engine's own state: what does not fit together is a bug and
 * stops at an assertion.
 */
#include "engine/kv/internal.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>


static int
check_shape(const struct ax_kv_shape *shape, struct ax_error *err)
{
    if (shape->n_layer == 0 || shape->n_layer > 65536 ||
        shape->n_head_kv == 0 || shape->n_head_kv > 65536 ||
        shape->head_dim == 0 || shape->head_dim > AXK_HEAD_DIM_MAX ||
        shape->type >= AXK_KV_TYPE_END) {
        return ax_error_set(err, AXION_ERR_BAD_OPTION,
                            "no KV cache for %u layers of %u heads of %u",
                            shape->n_layer, shape->n_head_kv, shape->head_dim);
    }
    return AXION_OK;
}


int
ax_kv_open(struct ax_kv **out, const struct ax_kv_shape *shape, uint64_t bytes,
           struct ax_error *err)
{
    struct ax_kv *kv;
    int rc = check_shape(shape, err);

    *out = NULL;
    if (rc != AXION_OK) {
        return rc;
    }
    kv = calloc(1, sizeof(*kv));
    if (kv == NULL) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    kv->shape = *shape;
    kv->layer_bytes =
        axk_kv_block_bytes(shape->type, shape->n_head_kv, shape->head_dim);
    kv->block_bytes = kv->layer_bytes * shape->n_layer;
    uint64_t n = bytes / kv->block_bytes;
    if (n == 0 || n > AX_KV_BLOCKS_MAX) {
        rc = ax_error_set(err, AXION_ERR_BAD_OPTION,
                          "%llu bytes of KV memory: one block of %u tokens "
                          "takes %zu, and %u blocks are the most",
                          (unsigned long long)bytes, AX_KV_BLOCK_TOKENS,
                          kv->block_bytes, AX_KV_BLOCKS_MAX);
        goto failed;
    }
    kv->n_blocks = (uint32_t)n;
    kv->free = calloc(kv->n_blocks, sizeof(*kv->free));
    kv->blocks = calloc(kv->n_blocks, sizeof(*kv->blocks));
    if (kv->free == NULL || kv->blocks == NULL || cache_open(kv) != AXION_OK ||
        ax_arena_open(&kv->memory, n * kv->block_bytes) != AXION_OK) {
        rc = ax_error_set(err, AXION_ERR_NO_MEMORY,
                          "no memory for %u KV blocks of %zu bytes",
                          kv->n_blocks, kv->block_bytes);
        goto failed;
    }
    for (uint32_t b = 0; b < kv->n_blocks; b++) {
        kv->free[b] = kv->n_blocks - 1 - b;
    }
    kv->n_free = kv->n_blocks;
    *out = kv;
    return AXION_OK;

failed:
    ax_kv_close(kv);
    return rc;
}


void
ax_kv_close(struct ax_kv *kv)
{
    if (kv == NULL) {
        return;
    }
    ax_arena_close(&kv->memory);
    cache_close(kv);
    free(kv->blocks);
    free(kv->free);
    free(kv);
}


uint32_t
ax_kv_blocks_total(const struct ax_kv *kv)
{
    return kv->n_blocks;
}


uint32_t
ax_kv_blocks_used(const struct ax_kv *kv)
{
    return kv->n_blocks - ax_kv_blocks_free(kv);
}


uint32_t
ax_kv_blocks_free(const struct ax_kv *kv)
{
    return kv->n_free + kv->n_cached;
}


uint64_t
ax_kv_block_bytes(const struct ax_kv *kv)
{
    return kv->block_bytes;
}


struct ax_kv_shape
ax_kv_shape(const struct ax_kv *kv)
{
    return kv->shape;
}


void *
ax_kv_layer(const struct ax_kv *kv, uint32_t layer)
{
    assert(layer < kv->shape.n_layer);
    return (char *)kv->memory.base + layer * kv->layer_bytes;
}


uint32_t
kv_take_block(struct ax_kv *kv)
{
    uint32_t b = kv->n_free > 0 ? kv->free[--kv->n_free] : cache_evict(kv);
    assert(b < kv->n_blocks && kv->blocks[b].refs == 0 &&
           kv->blocks[b].n_tokens == 0);
    kv->blocks[b].refs = 1;
    kv->taken++;
    return b;
}


void
ax_kv_block_ref(struct ax_kv *kv, uint32_t block)
{
    assert(block < kv->n_blocks && kv->blocks[block].refs > 0);
    assert(kv->blocks[block].refs < UINT32_MAX);
    kv->blocks[block].refs++;
}


void
ax_kv_block_unref(struct ax_kv *kv, uint32_t block)
{
    assert(block < kv->n_blocks && kv->blocks[block].refs > 0);
    if (--kv->blocks[block].refs == 0 && !cache_keep(kv, block)) {
        assert(kv->n_free < kv->n_blocks);
        kv->free[kv->n_free++] = block;
    }
}


uint32_t
ax_kv_block_refs(const struct ax_kv *kv, uint32_t block)
{
    assert(block < kv->n_blocks);
    return kv->blocks[block].refs;
}


static void
check_sequence(const struct ax_kv_sequence *seq)
{
    assert(seq->n_blocks <= seq->blocks_max);
    assert(seq->n_blocks == ax_kv_blocks_for(seq->n_tokens));
    assert(seq->n_named <= seq->n_blocks);
}


static void
copy_last(struct ax_kv *kv, struct ax_kv_sequence *seq)
{
    uint32_t old = seq->blocks[seq->n_blocks - 1];
    uint32_t b = kv_take_block(kv);
    char *base = kv->memory.base;
    memcpy(base + b * kv->block_bytes, base + old * kv->block_bytes,
           kv->block_bytes);
    ax_kv_block_unref(kv, old);
    seq->blocks[seq->n_blocks - 1] = b;
    if (seq->n_named == seq->n_blocks) {
        seq->n_named--;
    }
}


int
ax_kv_reserve(struct ax_kv *kv, struct ax_kv_sequence *seq, uint32_t n_tokens)
{
    check_sequence(seq);
    if (n_tokens <= seq->n_tokens) {
        return AXION_OK;
    }
    uint32_t n_blocks = ax_kv_blocks_for(n_tokens);
    /* The block that the sequence ends in will be written: own it alone. */
    bool copy = seq->n_tokens % AX_KV_BLOCK_TOKENS != 0 &&
                !kv_owns(kv, seq->blocks[seq->n_blocks - 1]);
    uint32_t missing = n_blocks - seq->n_blocks + (copy ? 1 : 0);

    if (n_blocks > seq->blocks_max || missing > ax_kv_blocks_free(kv)) {
        return AXION_ERR_KV_EXHAUSTED;
    }
    if (copy) {
        copy_last(kv, seq);
    }
    while (seq->n_blocks < n_blocks) {
        seq->blocks[seq->n_blocks++] = kv_take_block(kv);
    }
    seq->n_tokens = n_tokens;
    return AXION_OK;
}


void
ax_kv_truncate(struct ax_kv *kv, struct ax_kv_sequence *seq, uint32_t n_tokens)
{
    check_sequence(seq);
    if (n_tokens >= seq->n_tokens) {
        return;
    }
    uint32_t n_blocks = ax_kv_blocks_for(n_tokens);
    while (seq->n_blocks > n_blocks) {
        ax_kv_block_unref(kv, seq->blocks[--seq->n_blocks]);
    }
    seq->n_tokens = n_tokens;
    if (seq->n_named > seq->n_blocks) {
        seq->n_named = seq->n_blocks;
    }
}


void
ax_kv_release(struct ax_kv *kv, struct ax_kv_sequence *seq)
{
    ax_kv_truncate(kv, seq, 0);
}
