/*
 * The block pool's insides, shared by kv.c (blocks and sequences) and cache.c
 * (names, eviction, quotas).
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


struct ax_kv {
    struct ax_kv_shape shape;
    size_t layer_bytes; /* one block of one layer */
    size_t block_bytes; /* one block of all layers */
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
};


/* Only one sequence holds it, and it may write there. */
static inline bool
kv_owns(const struct ax_kv *kv, uint32_t block)
{
    return kv->blocks[block].refs == 1 && kv->blocks[block].n_tokens == 0;
}


int cache_open(struct ax_kv *kv);
void cache_close(struct ax_kv *kv);

/* A block of refs 1 without a name: a free one, else the cached one that is
 * missed least.  There must be one. */
uint32_t kv_take_block(struct ax_kv *kv);

/* refs became 0: true when the cache keeps it. */
bool cache_keep(struct ax_kv *kv, uint32_t block);
/* A cached block is held again. */
void cache_unkeep(struct ax_kv *kv, uint32_t block);
/* Gives up the cached block that is missed least; there is one. */
uint32_t cache_evict(struct ax_kv *kv);

#endif /* AX_KV_INTERNAL_H */
