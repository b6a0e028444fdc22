/*
 * The block pool's insides, shared by groups.c (which layers share a block),
 * kv.c (blocks), sequence.c (sequences, windows), cache.c (names, eviction,
 * quotas) and prefix.c (attach, publish).
 *
 * A block is in one of three states:
 *
 *   free     refs 0, no name, on the stack of free blocks
 *   held     refs > 0, with a name or without
 *   cached   refs 0, with a name, in its owner's list of one segment
 */
#ifndef AX_KV_INTERNAL_H
#define AX_KV_INTERNAL_H

#include <stdbool.h>

#include "engine/kv/cache.h"
#include "engine/pool/arena.h"


#define NONE UINT32_MAX


/* Where an unreferenced block waits: once seen, or seen again. */
enum segment {
    PROBATION = 0,
    PROTECTED = 1,
};


struct block {
    struct ax_kv_name name;   /* valid while named */
    struct ax_kv_name parent; /* of the block before it in its chain */
    struct ax_kv_realm realm; /* whose it is; compared on a hit */
    uint32_t refs;
    uint32_t group;                          /* of layers, unless free */
    uint32_t owner;                          /* index, while named */
    uint32_t n_tokens;                       /* 0: no name */
    uint32_t next_of_name;                   /* chains of the two hash tables */
    uint32_t next_of_parent, prev_of_parent; /* prev: NONE, the first */
    uint32_t prev, next;                     /* in a segment, while cached */
    bool again;                              /* attached since it was named */
    enum segment segment;
};


struct list {
    uint32_t first, last, n; /* first: used last */
};


struct owner {
    uint64_t id;
    uint64_t used_at;  /* kv->taken when it last held a block */
    uint32_t n_blocks; /* named by it, held or cached */
    bool known;
    struct list segments[2];
};


struct kv_window {
    uint32_t tokens;
    uint32_t n_layers;
    uint32_t group0, n_groups;
    uint32_t held_max; /* blocks of each group that a sequence holds */
};


struct kv_layout {
    uint32_t layers_max; /* of a group */
    uint32_t n_groups;
    uint32_t n_full; /* the first groups: full attention */
    uint32_t n_full_layers;
    uint32_t n_windows;
    uint32_t back_tokens;
    struct kv_window windows[AX_KV_WINDOWS_MAX];
    size_t layer_bytes; /* of a layer in a block */
    size_t block_bytes;
};


struct kv_place {
    uint32_t group, index; /* in its block */
};


struct ax_kv {
    struct ax_kv_shape shape;
    struct kv_layout layout;
    struct kv_place *places; /* [n_layer] */
    uint32_t n_full_held;    /* blocks of full groups, refs > 0 */
    uint32_t promised;       /* to sequences, for windows; see sequence.c */
    uint32_t n_blocks;
    uint32_t n_free;   /* on the stack */
    uint32_t n_cached; /* in segments */
    uint32_t *free;    /* [n_blocks], a stack */
    struct block *blocks;
    int32_t *tokens; /* [n_blocks][AX_KV_BLOCK_TOKENS] of named blocks */
    uint32_t *by_name, *by_parent; /* [n_buckets], first block or NONE */
    uint32_t n_buckets;            /* a power of two */
    uint8_t *seen;                 /* [2][..], how often names came */
    uint32_t n_seen;               /* since they were halved */
    struct owner *owners;          /* [OWNERS] */
    uint64_t taken;                /* blocks given out, a clock for owners */
    struct ax_kv_cache_counts counts;
    struct ax_arena memory;
    size_t populated; /* bytes of it, from its start */
};


/* Only one sequence holds it, and it may write there. */
static inline bool
kv_owns(const struct ax_kv *kv, uint32_t block)
{
    return kv->blocks[block].refs == 1 && kv->blocks[block].n_tokens == 0;
}


/* Block i of a group's table. */
static inline uint32_t *
kv_entry(const struct ax_kv_sequence *seq, uint32_t group, uint32_t i)
{
    return &seq->blocks[(size_t)group * seq->blocks_max + i];
}


/* ---- groups.c ---- */

int kv_check_shape(const struct ax_kv_shape *shape, struct ax_error *err);
/* AXION_ERR_BAD_OPTION: too many windows or groups. */
int kv_lay_out(struct kv_layout *l, const struct ax_kv_shape *shape,
               struct ax_error *err);
void kv_place_layers(const struct kv_layout *l, const struct ax_kv_shape *shape,
                     struct kv_place *places);
/* The first block that a position sees through a window. */
uint32_t kv_first_seen(const struct kv_window *window, uint32_t position);
/* Blocks of a new sequence. */
uint64_t kv_needed(const struct kv_layout *l, uint32_t n_tokens);

/* ---- sequence.c ---- */

/* What windows come to at most while seq has n_blocks in its tables. */
uint32_t kv_promise(const struct ax_kv *kv, const struct ax_kv_sequence *seq,
                    uint32_t n_blocks);
/* After any change: the promise follows. */
void kv_settle(struct ax_kv *kv, struct ax_kv_sequence *seq);
/* A window gives back its blocks before `first`, and begins there. */
void kv_leave_behind(struct ax_kv *kv, struct ax_kv_sequence *seq, uint32_t w,
                     uint32_t first);

/* ---- kv.c ---- */

/* A block of refs 1 without a name: a free one, else the cached one that is
 * missed least.  There must be one. */
uint32_t kv_take_block(struct ax_kv *kv, uint32_t group);
/* refs of a block went from 0 to 1, or back. */
void kv_count_held(struct ax_kv *kv, uint32_t block, bool held);

/* ---- cache.c ---- */

int cache_open(struct ax_kv *kv);
void cache_close(struct ax_kv *kv);

/* refs became 0: true when the cache keeps it. */
bool cache_keep(struct ax_kv *kv, uint32_t block);
/* A cached block is held again. */
void cache_unkeep(struct ax_kv *kv, uint32_t block);
/* The group's block with place i in the chain of tokens, or NONE. */
uint32_t cache_find(const struct ax_kv *kv, const struct ax_kv_chain *chain,
                    uint32_t i, const int32_t *tokens, uint32_t group);
/* The group's block in this place whose tokens have the longest common
 * beginning with tokens[0 .. n); *common says how long.  NONE: nothing. */
uint32_t cache_find_beginning(const struct ax_kv *kv,
                              const struct ax_kv_chain *chain, uint32_t i,
                              const int32_t *tokens, uint32_t n, uint32_t group,
                              uint32_t *common);
/* A held block without a name gets that of place i, for tokens[0 .. n). */
void cache_give_name(struct ax_kv *kv, uint32_t block,
                     const struct ax_kv_chain *chain, uint32_t i,
                     const int32_t *tokens, uint32_t n_tokens);
/* A name was wanted once more. */
void cache_note_seen(struct ax_kv *kv, const struct ax_kv_name *name);
/* A held block with a name has none any more. */
void cache_forget(struct ax_kv *kv, uint32_t block);
/* Gives up the cached block that is missed least; there is one. */
uint32_t cache_evict(struct ax_kv *kv);

#endif /* AX_KV_INTERNAL_H */
