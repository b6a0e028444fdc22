/*
 * The paged KV cache: one reservation of memory in blocks of 32 tokens, with
 * reference counts.
 *
 * Layers that see as far as each other need the same positions; those of a
 * sliding window need only what it covers.  So layers are put into groups: of
 * full attention, and of each window size.  A block holds 32 positions of one
 * group's layers; all groups have as many layers (the last of a kind may have
 * some less), so all blocks have one size and any free one serves any group
 * (the layout of vLLM's hybrid KV cache manager).  A model without windows
 * has one group, and a block is all its layers.
 *
 *   full      a sequence holds a block for every 32 of its positions
 *   window    it holds those that a window reaches back to, and those that
 *             the step at hand writes.  They are taken by ax_kv_window()
 *             just before a step, which also gives back what is behind; what
 *             they will come to is promised to the sequence when it reserves
 *             room, so that a step never finds the memory gone
 *
 * Owns the memory, made at open, and the list of free blocks; nothing is
 * allocated after that.  A sequence is the caller's record: its block table
 * points into an array of the caller's, sized once for the longest sequence it
 * may become.
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
#include <stdbool.h>
#include <stdint.h>

#include "engine/error.h"
#include "kernels/axk.h"


#define AX_KV_BLOCK_TOKENS AXK_KV_TOKENS
#define AX_KV_BLOCKS_MAX   (1u << 26)
#define AX_KV_WINDOWS_MAX  8u   /* window sizes of a model */
#define AX_KV_GROUPS_MAX   512u /* of layers */
#define AX_KV_LAYERS_MAX   65536u


/* What one token takes. */
struct ax_kv_shape {
    uint32_t n_layer;
    uint32_t n_head_kv;
    uint32_t head_dim;
    enum axk_kv_type type; /* how it is stored; 0: f16 */
    /* [n_layer] positions that a layer sees, itself included, 0: all of them;
     * NULL: all layers see all.  Read by the calls that take a shape. */
    const uint32_t *windows;
    /* Positions that one step computes of a sequence at most; 0: any number,
     * then windows are promised as much as full layers have. */
    uint32_t step_tokens_max;
    /* Positions before the last step's first that truncation may go back to
     * and find its windows whole: steps that were drafts of one run. */
    uint32_t back_tokens_max;
};


/* Blocks of a window's groups that a sequence has: [first, end) of each. */
struct ax_kv_held {
    uint32_t first, end;
};


struct ax_kv_sequence {
    uint32_t n_tokens;   /* positions 0 .. n_tokens - 1 have room */
    uint32_t n_blocks;   /* 32 positions each; used entries of a table */
    uint32_t blocks_max; /* room of a table, set by the caller */
    uint32_t *blocks;    /* the tables, [groups][blocks_max], the caller's */
    uint32_t n_named;    /* the first blocks, that have names (cache.h) */
    uint32_t promised;   /* blocks of windows, held or to come */
    struct ax_kv_held windows[AX_KV_WINDOWS_MAX];
};


struct ax_kv;


/*
 * As many whole blocks as fit into bytes, at least one for every group.
 * AXION_ERR_BAD_OPTION, AXION_ERR_NO_MEMORY.
 */
int ax_kv_open(struct ax_kv **out, const struct ax_kv_shape *shape,
               uint64_t bytes, struct ax_error *err);
void ax_kv_close(struct ax_kv *kv); /* NULL is fine */

/*
 * Brings in 2 MiB more of the blocks that are given out first, up to bytes_max
 * of them, so that steps need not wait for zeroed pages.  Any time, on one
 * thread, beside any other call; false: nothing is left to do.
 */
bool ax_kv_populate(struct ax_kv *kv, uint64_t bytes_max);

uint32_t ax_kv_blocks_total(const struct ax_kv *kv);
/* Held by sequences or promised to them; all others are free, the cached ones
 * included. */
uint32_t ax_kv_blocks_used(const struct ax_kv *kv);
uint32_t ax_kv_blocks_free(const struct ax_kv *kv);
uint64_t ax_kv_block_bytes(const struct ax_kv *kv); /* one group's layers */
uint32_t ax_kv_groups(const struct ax_kv *kv);
/* As given to open, but for its windows: NULL. */
struct ax_kv_shape ax_kv_shape(const struct ax_kv *kv);

static inline uint32_t
ax_kv_blocks_for(uint32_t n_tokens)
{
    return n_tokens / AX_KV_BLOCK_TOKENS + (n_tokens % AX_KV_BLOCK_TOKENS != 0);
}

/* Blocks of all groups that a new sequence of so many tokens takes; the most
 * tokens that one sequence alone has room for. */
uint32_t ax_kv_needed(const struct ax_kv *kv, uint32_t n_tokens);
uint32_t ax_kv_tokens_max(const struct ax_kv *kv);
/* The same in bytes, before a pool is there; 0 for a shape that open would
 * refuse. */
uint64_t ax_kv_bytes_needed(const struct ax_kv_shape *shape, uint32_t n_tokens);

/* Free blocks that reserving room for n_tokens would take. */
uint32_t ax_kv_missing(const struct ax_kv *kv, const struct ax_kv_sequence *seq,
                       uint32_t n_tokens);

/*
 * Gives seq room for positions 0 .. n_tokens - 1 (never shrinks it).
 * AXION_OK, or AXION_ERR_KV_EXHAUSTED (too few free blocks, or more than
 * blocks_max): then nothing was taken.
 */
int ax_kv_reserve(struct ax_kv *kv, struct ax_kv_sequence *seq,
                  uint32_t n_tokens);

/*
 * Before positions [from, to) are computed, for which there is room: windows
 * give back what no position from `from` on sees, nor one that truncation may
 * go back to, and take blocks up to `to`.
 * The executor calls it.  AXION_OK, or AXION_ERR_INTERNAL: a window has moved
 * past `from` already, or the step is longer than the shape said.
 */
int ax_kv_window(struct ax_kv *kv, struct ax_kv_sequence *seq, uint32_t from,
                 uint32_t to);

/*
 * Shortens seq to n_tokens; blocks wholly behind the end go back.  Returns how
 * many positions it has then: n_tokens (or what it had), or 0 and everything
 * given back where a window would need blocks that it has given back already.
 * A step's drafts can always be cut off again.
 */
uint32_t ax_kv_truncate(struct ax_kv *kv, struct ax_kv_sequence *seq,
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
 * ax_kv_block_bytes(), in the layout of axk_kv_block_bytes(); its table is
 * that of the layer's group.  Entries behind a window are not for reading.
 */
void *ax_kv_layer(const struct ax_kv *kv, uint32_t layer);
uint32_t ax_kv_group(const struct ax_kv *kv, uint32_t layer);
/* The group's used entries of seq. */
struct ax_kv_held ax_kv_held(const struct ax_kv *kv,
                             const struct ax_kv_sequence *seq, uint32_t group);

#endif /* AX_KV_H */
