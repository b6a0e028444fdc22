/*
 * The paged KV cache: a fixed pool of blocks of 32 tokens, all layers of a
 * token in the same block, with reference counts.
 *
 * Owns one reservation of memory (huge pages where the kernel grants them)
 * made at open and the list of free blocks; nothing is allocated after that.
 * A sequence is the caller's record: its block table points into an array of
 * the caller's, sized once for the longest sequence it may become.
 *
 * One thread at a time: the engine's thread 0 between steps.  The compute
 * threads only read block tables and write into blocks during a step.
 *
 * A block is written only by a sequence that alone holds it, and never once
 * it has a name (cache.h).  Reserving room behind a length that ends inside
 * a shared or named block copies that block first, so shared prefixes need no
 * other care.
 */
#ifndef AX_KV_H
#define AX_KV_H

#include <stddef.h>
#include <stdint.h>

#include "engine/error.h"
#include "kernels/axk.h"


#define AX_KV_BLOCK_TOKENS AXK_KV_TOKENS
#define AX_KV_BLOCKS_MAX   (1u << 26)
#define AX_KV_NO_BLOCK     UINT32_MAX


/* What one token takes. */
struct ax_kv_shape {
    uint32_t n_layer;
    uint32_t n_head_kv;
    uint32_t head_dim;
    enum axk_kv_type type; /* how it is stored; 0: f16 */
};


struct ax_kv_sequence {
    uint32_t n_tokens;   /* positions 0 .. n_tokens - 1 have room */
    uint32_t n_blocks;   /* used entries of blocks */
    uint32_t blocks_max; /* room of blocks, set by the caller */
    uint32_t *blocks;    /* the block table, the caller's memory */
    uint32_t n_named;    /* the first blocks, that have names (cache.h) */
};


struct ax_kv;


/*
 * As many whole blocks as fit into bytes, at least one.
 * AXION_ERR_BAD_OPTION, AXION_ERR_NO_MEMORY.
 */
int ax_kv_open(struct ax_kv **out, const struct ax_kv_shape *shape,
               uint64_t bytes, struct ax_error *err);
void ax_kv_close(struct ax_kv *kv); /* NULL is fine */

uint32_t ax_kv_blocks_total(const struct ax_kv *kv);
/* Held by sequences; all others are free, the cached ones included. */
uint32_t ax_kv_blocks_used(const struct ax_kv *kv);
uint32_t ax_kv_blocks_free(const struct ax_kv *kv);
uint64_t ax_kv_block_bytes(const struct ax_kv *kv); /* all layers */
struct ax_kv_shape ax_kv_shape(const struct ax_kv *kv);

static inline uint32_t
ax_kv_blocks_for(uint32_t n_tokens)
{
    return n_tokens / AX_KV_BLOCK_TOKENS + (n_tokens % AX_KV_BLOCK_TOKENS != 0);
}

/*
 * Gives seq room for positions 0 .. n_tokens - 1 (never shrinks it).
 * AXION_OK, or AXION_ERR_KV_EXHAUSTED (too few free blocks, or more than
 * blocks_max): then nothing was taken.
 */
int ax_kv_reserve(struct ax_kv *kv, struct ax_kv_sequence *seq,
                  uint32_t n_tokens);

/* Shortens seq to n_tokens; blocks wholly behind the end go back. */
void ax_kv_truncate(struct ax_kv *kv, struct ax_kv_sequence *seq,
                    uint32_t n_tokens);

/* Gives everything back; seq is empty and may be used again. */
void ax_kv_release(struct ax_kv *kv, struct ax_kv_sequence *seq);

/*
 * One more or one less holder of a block that is in use; the last unref frees
 * it.  A sequence that takes over another's full blocks refs each of them and
 * enters them into its own table.
 */
void ax_kv_block_ref(struct ax_kv *kv, uint32_t block);
void ax_kv_block_unref(struct ax_kv *kv, uint32_t block);
uint32_t ax_kv_block_refs(const struct ax_kv *kv, uint32_t block);

/*
 * For the executor: block b of a layer lies at ax_kv_layer() + b *
 * ax_kv_block_bytes(), in the layout of axk_kv_block_bytes().
 */
void *ax_kv_layer(const struct ax_kv *kv, uint32_t layer);

#endif /* AX_KV_H */
