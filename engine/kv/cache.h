/*
 * The prefix cache: what a KV block holds has a name, and blocks that nobody
 * holds any more are kept under it until their memory is wanted.
 *
 * A name is a keyed hash (names.h) of the names before it, a realm and the
 * block's tokens.  A realm is a tenant's cache salt, or what the operator has
 * declared shared, and the kind of the KV: its type and the class of numerics
 * that computed it, which make other bytes of the same tokens.  Realms never
 * share a block, so no tenant can learn from its waiting times what another one
 * asked (vLLM's RFC 16016).  The hash only finds: realm, parent and tokens are
 * compared as well (CVE-2025-25183).
 *
 *   attach    a sequence takes over the longest known prefix: whole blocks by
 *             reference; of the block after them the common tokens, which
 *             ax_kv_reserve() copies before they are written behind
 *   publish   computed full blocks of a sequence get their names; one that is
 *             known already is replaced by the known one and given back
 *   retire    the same for a sequence that ends, its last partial block
 *             included
 *
 * Groups of layers (kv.h) have blocks of their own under the same name.  A
 * prefix is known when full attention's blocks are there from the beginning,
 * and of each window those that the next position sees.
 *
 * A cached block counts as free: reserve takes it when the free ones are out.
 * Which one goes: blocks of owners that have been away for long, then of the
 * owner with the most blocks, so that everyone may borrow what is idle and
 * nobody is flooded out of an equal share.  Within an owner, first what was
 * seen once, oldest first, then what was seen again (segmented LRU; names are
 * remembered beyond their blocks in a small sketch, as TinyLFU does, since
 * three of four blocks are used once).  Declared prefixes go last.  A chain
 * loses its end first.
 *
 * An evicted block is gone.  A tier in memory or on disk would take it in
 * cache_evict(), where name, parent, realm and tokens are still known, and
 * give it back in attach; since names are keyed per process, a tier that
 * outlives one has to keep the key, and to draw another for another model.
 *
 * Same thread rule as kv.h.
 */
#ifndef AX_KV_CACHE_H
#define AX_KV_CACHE_H

#include "engine/kv/kv.h"


/* A common beginning shorter than this is cheaper computed than copied. */
#define AX_KV_PARTIAL_MIN 4u


struct ax_kv_key; /* names.h */


struct ax_kv_name {
    uint64_t word[2];
};


struct ax_kv_realm {
    uint64_t word[2];
    uint64_t shared; /* 1: declared by the operator, words 0 */
    uint64_t kind;   /* of bytes that the same tokens become; names.h */
};


/* The names of a sequence's full blocks, and whose they are. */
struct ax_kv_chain {
    struct ax_kv_name *names; /* the caller's memory, blocks_max of them */
    uint32_t n;               /* known so far */
    uint32_t n_shared;        /* the first blocks: declared shared */
    struct ax_kv_realm realm; /* of the others */
    uint64_t owner;           /* who pays with its quota */
    const struct ax_kv_key *key;
};


/* The name before block i, zeros before the first. */
static inline struct ax_kv_name
ax_kv_parent(const struct ax_kv_chain *chain, uint32_t i)
{
    return i > 0 ? chain->names[i - 1] : (struct ax_kv_name){{0, 0}};
}


static inline struct ax_kv_realm
ax_kv_realm_of(const struct ax_kv_chain *chain, uint32_t i)
{
    return i < chain->n_shared
               ? (struct ax_kv_realm){.shared = 1, .kind = chain->realm.kind}
               : chain->realm;
}


struct ax_kv_cache_counts {
    uint64_t hit_blocks;    /* taken over whole */
    uint64_t copied_blocks; /* taken over in part */
    uint64_t evicted_blocks;
};


/*
 * Extends a sequence whose first n_computed positions are computed by what is
 * known of tokens[0 .. n_tokens_max).  n_computed must be a multiple of
 * AX_KV_BLOCK_TOKENS; names must reach as far as full blocks do.  Blocks that
 * the sequence had reserved for these positions are given back.  Returns how
 * many positions are computed now.  The caller asks for less than it has
 * tokens: the last one must be computed for its logits.
 */
uint32_t ax_kv_attach(struct ax_kv *kv, struct ax_kv_sequence *seq,
                      const struct ax_kv_chain *chain, const int32_t *tokens,
                      uint32_t n_computed, uint32_t n_tokens_max);

/* How many of the first positions attach would find, whole blocks only. */
uint32_t ax_kv_known(const struct ax_kv *kv, const struct ax_kv_chain *chain,
                     const int32_t *tokens, uint32_t n_tokens_max);

/* Names the full blocks among the first n_computed positions. */
void ax_kv_publish(struct ax_kv *kv, struct ax_kv_sequence *seq,
                   const struct ax_kv_chain *chain, const int32_t *tokens,
                   uint32_t n_computed);

/* Publishes, partial block included, and releases the sequence. */
void ax_kv_retire(struct ax_kv *kv, struct ax_kv_sequence *seq,
                  const struct ax_kv_chain *chain, const int32_t *tokens,
                  uint32_t n_computed);

/* What releasing it would free: blocks that nobody else holds, and what its
 * windows are promised. */
uint32_t ax_kv_alone(const struct ax_kv *kv, const struct ax_kv_sequence *seq);

/* Cached blocks, which count as free as well. */
uint32_t ax_kv_blocks_cached(const struct ax_kv *kv);
/* Blocks with this owner's name, held or cached. */
uint32_t ax_kv_blocks_of(const struct ax_kv *kv, uint64_t owner);
struct ax_kv_cache_counts ax_kv_cache_counts(const struct ax_kv *kv);

/* Stops at an assertion if the tables contradict each other; for tests. */
void ax_kv_check(const struct ax_kv *kv);

#endif /* AX_KV_CACHE_H */
