/*
 * The block pool; see kv.h for the rules.
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

/* A huge page: some 0.2 ms. */
#define POPULATE_BYTES ((size_t)2 << 20)


int
ax_kv_open(struct ax_kv **out, const struct ax_kv_shape *shape, uint64_t bytes,
           struct ax_error *err)
{
    struct kv_layout layout;
    struct ax_kv *kv;
    int rc = kv_check_shape(shape, err);

    *out = NULL;
    if (rc != AXION_OK || (rc = kv_lay_out(&layout, shape, err)) != AXION_OK) {
        return rc;
    }
    kv = calloc(1, sizeof(*kv));
    if (kv == NULL) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    kv->shape = *shape;
    kv->shape.windows = NULL; /* the caller's */
    kv->layout = layout;
    uint64_t n = bytes / layout.block_bytes;
    if (n < layout.n_groups || n > AX_KV_BLOCKS_MAX) {
        rc = ax_error_set(err, AXION_ERR_BAD_OPTION,
                          "%llu bytes of KV memory: %u tokens take %zu, and "
                          "%u blocks of %zu are the most",
                          (unsigned long long)bytes, AX_KV_BLOCK_TOKENS,
                          layout.block_bytes * layout.n_groups,
                          AX_KV_BLOCKS_MAX, layout.block_bytes);
        goto failed;
    }
    kv->n_blocks = (uint32_t)n;
    kv->free = calloc(kv->n_blocks, sizeof(*kv->free));
    kv->blocks = calloc(kv->n_blocks, sizeof(*kv->blocks));
    kv->places = calloc(shape->n_layer, sizeof(*kv->places));
    if (kv->free == NULL || kv->blocks == NULL || kv->places == NULL ||
        cache_open(kv) != AXION_OK ||
        ax_arena_open(&kv->memory, n * layout.block_bytes) != AXION_OK) {
        rc = ax_error_set(err, AXION_ERR_NO_MEMORY,
                          "no memory for %u KV blocks of %zu bytes",
                          kv->n_blocks, layout.block_bytes);
        goto failed;
    }
    kv_place_layers(&layout, shape, kv->places);
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
    free(kv->places);
    free(kv->blocks);
    free(kv->free);
    free(kv);
}


bool
ax_kv_populate(struct ax_kv *kv, uint64_t bytes_max)
{
    size_t end =
        bytes_max < kv->memory.bytes ? (size_t)bytes_max : kv->memory.bytes;
    if (kv->populated >= end) {
        return false;
    }
    if (!ax_arena_populate(&kv->memory, kv->populated, POPULATE_BYTES)) {
        kv->populated = SIZE_MAX; /* pages come with their first use */
        return false;
    }
    kv->populated += POPULATE_BYTES;
    return kv->populated < end;
}


uint32_t
ax_kv_blocks_total(const struct ax_kv *kv)
{
    return kv->n_blocks;
}


uint32_t
ax_kv_blocks_used(const struct ax_kv *kv)
{
    return kv->n_full_held + kv->promised;
}


uint32_t
ax_kv_blocks_free(const struct ax_kv *kv)
{
    assert(ax_kv_blocks_used(kv) <= kv->n_blocks);
    return kv->n_blocks - ax_kv_blocks_used(kv);
}


uint64_t
ax_kv_block_bytes(const struct ax_kv *kv)
{
    return kv->layout.block_bytes;
}


uint32_t
ax_kv_groups(const struct ax_kv *kv)
{
    return kv->layout.n_groups;
}


uint32_t
ax_kv_needed(const struct ax_kv *kv, uint32_t n_tokens)
{
    uint64_t n = kv_needed(&kv->layout, n_tokens);
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}


uint32_t
ax_kv_tokens_max(const struct ax_kv *kv)
{
    uint32_t low = 0, high = UINT32_MAX / AX_KV_BLOCK_TOKENS;
    while (low < high) { /* the most blocks in a table that fit */
        uint32_t middle = low + (high - low + 1) / 2;
        if (kv_needed(&kv->layout, middle * AX_KV_BLOCK_TOKENS) <=
            kv->n_blocks) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low * AX_KV_BLOCK_TOKENS;
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
    return (char *)kv->memory.base +
           kv->places[layer].index * kv->layout.layer_bytes;
}


uint32_t
ax_kv_group(const struct ax_kv *kv, uint32_t layer)
{
    assert(layer < kv->shape.n_layer);
    return kv->places[layer].group;
}


void
kv_count_held(struct ax_kv *kv, uint32_t block, bool held)
{
    if (kv->blocks[block].group < kv->layout.n_full) {
        assert(held || kv->n_full_held > 0);
        kv->n_full_held += held ? 1 : -1u;
    }
}


uint32_t
kv_take_block(struct ax_kv *kv, uint32_t group)
{
    uint32_t b = kv->n_free > 0 ? kv->free[--kv->n_free] : cache_evict(kv);
    assert(b < kv->n_blocks && kv->blocks[b].refs == 0 &&
           kv->blocks[b].n_tokens == 0);
    kv->blocks[b].refs = 1;
    kv->blocks[b].group = group;
    kv_count_held(kv, b, true);
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
    if (--kv->blocks[block].refs > 0) {
        return;
    }
    kv_count_held(kv, block, false);
    if (!cache_keep(kv, block)) {
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
