/*
 * Names, segments and owners of KV blocks; see cache.h for the rules.
 *
 * Two hash tables find named blocks, by name (full ones) and by parent (all
 * of them, for common beginnings).  Both chain blocks through their records;
 * names are random, so their low bits are the bucket.  Owners sit in a small
 * open table; who finds no place there shares one with others, which costs
 * fairness between those and nothing else.
 */
#include "engine/kv/internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>


#define BLOCK_BYTES (AX_KV_BLOCK_TOKENS * sizeof(int32_t))

#define OWNERS       1024u /* a power of two */
#define OWNER_SHARED 0u    /* of declared prefixes */
#define OWNER_REST   1u    /* of who found no place */
#define OWNER_FIRST  2u
#define OWNER_PROBES 16u

/* Children of one block that are compared for a common beginning. */
#define CHILDREN_MAX 32u

/* An owner that took nothing while the whole pool was given out this many
 * times has left. */
#define AWAY_ROUNDS 4u

#define SEEN_MAX    15u
#define SEEN_AGAIN  2u /* often enough for the protected segment */
#define SEEN_ROUNDS 4u /* counts are halved after so many times all blocks */


/* Of one row: enough that few names share a count. */
static size_t
seen_buckets(const struct ax_kv *kv)
{
    return 8 * (size_t)kv->n_buckets;
}


/* ---- open, close ---- */

int
cache_open(struct ax_kv *kv)
{
    kv->n_buckets = 64;
    while (kv->n_buckets < 2 * kv->n_blocks) {
        kv->n_buckets *= 2;
    }
    kv->tokens = calloc(kv->n_blocks, BLOCK_BYTES);
    kv->by_name = malloc(kv->n_buckets * sizeof(*kv->by_name));
    kv->by_parent = malloc(kv->n_buckets * sizeof(*kv->by_parent));
    kv->seen = calloc(2, seen_buckets(kv));
    kv->owners = calloc(OWNERS, sizeof(*kv->owners));
    if (kv->tokens == NULL || kv->by_name == NULL || kv->by_parent == NULL ||
        kv->seen == NULL || kv->owners == NULL) {
        return AXION_ERR_NO_MEMORY;
    }
    memset(kv->by_name, 0xff, kv->n_buckets * sizeof(*kv->by_name));
    memset(kv->by_parent, 0xff, kv->n_buckets * sizeof(*kv->by_parent));
    for (uint32_t i = 0; i < OWNERS; i++) {
        struct owner *o = &kv->owners[i];
        o->segments[0] = o->segments[1] = (struct list){NONE, NONE, 0};
    }
    return AXION_OK;
}


void
cache_close(struct ax_kv *kv)
{
    free(kv->owners);
    free(kv->seen);
    free(kv->by_parent);
    free(kv->by_name);
    free(kv->tokens);
}


/* ---- small comparisons ---- */

static bool
same_name(const struct ax_kv_name *a, const struct ax_kv_name *b)
{
    return a->word[0] == b->word[0] && a->word[1] == b->word[1];
}


static bool
same_realm(const struct ax_kv_realm *a, const struct ax_kv_realm *b)
{
    return a->word[0] == b->word[0] && a->word[1] == b->word[1] &&
           a->shared == b->shared && a->kind == b->kind;
}


static int32_t *
tokens_of(const struct ax_kv *kv, uint32_t block)
{
    return kv->tokens + (size_t)block * AX_KV_BLOCK_TOKENS;
}


/* ---- how often a name came ---- */

static uint8_t *
seen_at(const struct ax_kv *kv, const struct ax_kv_name *name, unsigned row)
{
    uint64_t n = seen_buckets(kv);
    return &kv->seen[row * n + (name->word[row] >> 8 & (n - 1))];
}


static uint32_t
seen(const struct ax_kv *kv, const struct ax_kv_name *name)
{
    uint8_t a = *seen_at(kv, name, 0), b = *seen_at(kv, name, 1);
    return a < b ? a : b;
}


void
cache_note_seen(struct ax_kv *kv, const struct ax_kv_name *name)
{
    for (unsigned row = 0; row < 2; row++) {
        uint8_t *count = seen_at(kv, name, row);
        *count = (uint8_t)(*count + (*count < SEEN_MAX));
    }
    if (++kv->n_seen >= (uint64_t)SEEN_ROUNDS * kv->n_blocks) {
        for (size_t i = 0; i < 2 * seen_buckets(kv); i++) {
            kv->seen[i] /= 2;
        }
        kv->n_seen = 0;
    }
}


/* ---- owners ---- */

static uint32_t
owner_probe(uint64_t id, uint32_t i)
{
    uint64_t mixed = (id ^ id >> 29) * 0x9e3779b97f4a7c15u;
    uint32_t at = (uint32_t)(mixed >> 40) + i;
    return OWNER_FIRST + at % (OWNERS - OWNER_FIRST);
}


/* NONE: it has no place of its own. */
static uint32_t
owner_find(const struct ax_kv *kv, uint64_t id)
{
    for (uint32_t i = 0; i < OWNER_PROBES; i++) {
        uint32_t at = owner_probe(id, i);
        if (kv->owners[at].known && kv->owners[at].id == id) {
            return at;
        }
    }
    return NONE;
}


static uint32_t
owner_join(struct ax_kv *kv, uint64_t id)
{
    uint32_t at = owner_find(kv, id);
    for (uint32_t i = 0; at == NONE && i < OWNER_PROBES; i++) {
        uint32_t place = owner_probe(id, i);
        if (kv->owners[place].n_blocks == 0) {
            at = place;
            kv->owners[at].known = true;
            kv->owners[at].id = id;
        }
    }
    at = at == NONE ? OWNER_REST : at;
    kv->owners[at].used_at = kv->taken;
    return at;
}


static uint32_t
owner_of(struct ax_kv *kv, const struct ax_kv_chain *chain, uint32_t i)
{
    return i < chain->n_shared ? OWNER_SHARED : owner_join(kv, chain->owner);
}


/* ---- segments ---- */

static void
segment_remove(struct ax_kv *kv, uint32_t b)
{
    struct block *block = &kv->blocks[b];
    struct list *l = &kv->owners[block->owner].segments[block->segment];
    assert(l->n > 0);
    if (block->prev == NONE) {
        l->first = block->next;
    } else {
        kv->blocks[block->prev].next = block->next;
    }
    if (block->next == NONE) {
        l->last = block->prev;
    } else {
        kv->blocks[block->next].prev = block->prev;
    }
    l->n--;
}


static void
segment_push(struct ax_kv *kv, uint32_t b, enum segment segment)
{
    struct block *block = &kv->blocks[b];
    struct list *l = &kv->owners[block->owner].segments[segment];
    block->segment = segment;
    block->prev = NONE;
    block->next = l->first;
    if (l->first == NONE) {
        l->last = b;
    } else {
        kv->blocks[l->first].prev = b;
    }
    l->first = b;
    l->n++;
}


/* Four of five cached blocks may be protected; who was not wanted for the
 * longest time goes back to probation. */
static void
bound_protected(struct ax_kv *kv, struct owner *o)
{
    struct list *l = o->segments;
    while (l[PROTECTED].n > 4 * (l[PROBATION].n + 1)) {
        uint32_t b = l[PROTECTED].last;
        segment_remove(kv, b);
        segment_push(kv, b, PROBATION);
    }
}


bool
cache_keep(struct ax_kv *kv, uint32_t b)
{
    struct block *block = &kv->blocks[b];
    if (block->n_tokens == 0) {
        return false;
    }
    bool again = block->again || (block->n_tokens == AX_KV_BLOCK_TOKENS &&
                                  seen(kv, &block->name) >= SEEN_AGAIN);
    segment_push(kv, b, again ? PROTECTED : PROBATION);
    kv->n_cached++;
    bound_protected(kv, &kv->owners[block->owner]);
    return true;
}


void
cache_unkeep(struct ax_kv *kv, uint32_t b)
{
    assert(kv->blocks[b].refs == 0 && kv->blocks[b].n_tokens > 0);
    segment_remove(kv, b);
    kv->n_cached--;
    kv->blocks[b].refs = 1;
    kv_count_held(kv, b, true);
    kv->taken++;
}


/* ---- the tables ---- */

static uint32_t
bucket_of(const struct ax_kv *kv, const struct ax_kv_name *name, uint32_t group)
{
    return ((uint32_t)name->word[0] + group * 0x9e3779b9u) &
           (kv->n_buckets - 1);
}


/* First blocks of all realms have the same parent: the realm spreads them. */
static uint32_t
parent_bucket(const struct ax_kv *kv, const struct ax_kv_name *parent,
              const struct ax_kv_realm *realm, uint32_t group)
{
    uint64_t whose = realm->word[0] ^ realm->word[1] >> 3 ^ realm->shared;
    uint64_t mixed = parent->word[0] ^ (whose + group) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(mixed >> 24) & (kv->n_buckets - 1);
}


static void
unlink_name(struct ax_kv *kv, uint32_t b)
{
    struct block *block = &kv->blocks[b];
    if (block->n_tokens == AX_KV_BLOCK_TOKENS) {
        uint32_t *at = &kv->by_name[bucket_of(kv, &block->name, block->group)];
        while (*at != b) {
            at = &kv->blocks[*at].next_of_name;
        }
        *at = block->next_of_name;
    }
    /* All first blocks of a tenant are in one chain: it may be long. */
    if (block->prev_of_parent != NONE) {
        kv->blocks[block->prev_of_parent].next_of_parent =
            block->next_of_parent;
    } else {
        uint32_t bucket =
            parent_bucket(kv, &block->parent, &block->realm, block->group);
        assert(kv->by_parent[bucket] == b);
        kv->by_parent[bucket] = block->next_of_parent;
    }
    if (block->next_of_parent != NONE) {
        kv->blocks[block->next_of_parent].prev_of_parent =
            block->prev_of_parent;
    }
}


void
cache_give_name(struct ax_kv *kv, uint32_t b, const struct ax_kv_chain *chain,
                uint32_t i, const int32_t *tokens, uint32_t n_tokens)
{
    struct block *block = &kv->blocks[b];
    assert(block->refs > 0 && block->n_tokens == 0 && n_tokens > 0);
    block->parent = ax_kv_parent(chain, i);
    block->realm = ax_kv_realm_of(chain, i);
    block->n_tokens = n_tokens;
    block->again = false;
    block->owner = owner_of(kv, chain, i);
    kv->owners[block->owner].n_blocks++;
    memcpy(tokens_of(kv, b), tokens, n_tokens * sizeof(*tokens));
    if (n_tokens == AX_KV_BLOCK_TOKENS) {
        block->name = chain->names[i];
        uint32_t *first =
            &kv->by_name[bucket_of(kv, &block->name, block->group)];
        block->next_of_name = *first;
        *first = b;
        if (block->group == 0) {
            cache_note_seen(kv, &block->name);
        }
    }
    uint32_t *first = &kv->by_parent[parent_bucket(
        kv, &block->parent, &block->realm, block->group)];
    block->next_of_parent = *first;
    block->prev_of_parent = NONE;
    if (*first != NONE) {
        kv->blocks[*first].prev_of_parent = b;
    }
    *first = b;
}


uint32_t
cache_find(const struct ax_kv *kv, const struct ax_kv_chain *chain, uint32_t i,
           const int32_t *tokens, uint32_t group)
{
    const struct ax_kv_name *name = &chain->names[i];
    struct ax_kv_name parent = ax_kv_parent(chain, i);
    struct ax_kv_realm realm = ax_kv_realm_of(chain, i);
    const int32_t *text = tokens + (size_t)i * AX_KV_BLOCK_TOKENS;
    assert(i < chain->n);
    for (uint32_t b = kv->by_name[bucket_of(kv, name, group)]; b != NONE;
         b = kv->blocks[b].next_of_name) {
        const struct block *block = &kv->blocks[b];
        if (block->group == group && same_name(&block->name, name) &&
            same_name(&block->parent, &parent) &&
            same_realm(&block->realm, &realm) &&
            memcmp(tokens_of(kv, b), text, BLOCK_BYTES) == 0) {
            return b;
        }
    }
    return NONE;
}


uint32_t
cache_find_beginning(const struct ax_kv *kv, const struct ax_kv_chain *chain,
                     uint32_t i, const int32_t *tokens, uint32_t n,
                     uint32_t group, uint32_t *common)
{
    struct ax_kv_name parent = ax_kv_parent(chain, i);
    struct ax_kv_realm realm = ax_kv_realm_of(chain, i);
    uint32_t best = NONE, looked = 0;
    *common = 0;
    for (uint32_t b = kv->by_parent[parent_bucket(kv, &parent, &realm, group)];
         b != NONE && looked < CHILDREN_MAX && *common < n;
         b = kv->blocks[b].next_of_parent, looked++) {
        const struct block *block = &kv->blocks[b];
        if (block->group != group || !same_name(&block->parent, &parent) ||
            !same_realm(&block->realm, &realm)) {
            continue;
        }
        const int32_t *have = tokens_of(kv, b);
        uint32_t max = block->n_tokens < n ? block->n_tokens : n, k = 0;
        while (k < max && have[k] == tokens[k]) {
            k++;
        }
        if (k > *common) {
            best = b;
            *common = k;
        }
    }
    return best;
}


void
cache_forget(struct ax_kv *kv, uint32_t b)
{
    struct block *block = &kv->blocks[b];
    assert(block->refs > 0 && block->n_tokens > 0);
    unlink_name(kv, b);
    block->n_tokens = 0;
    kv->owners[block->owner].n_blocks--;
}


/* ---- eviction ---- */

static bool
away(const struct ax_kv *kv, const struct owner *o)
{
    return kv->taken - o->used_at > (uint64_t)AWAY_ROUNDS * kv->n_blocks;
}


static bool
yields_before(const struct ax_kv *kv, uint32_t a, uint32_t b)
{
    const struct owner *x = &kv->owners[a], *y = &kv->owners[b];
    if ((a == OWNER_SHARED) != (b == OWNER_SHARED)) {
        return b == OWNER_SHARED;
    }
    if (away(kv, x) != away(kv, y)) {
        return away(kv, x);
    }
    return x->n_blocks > y->n_blocks;
}


uint32_t
cache_evict(struct ax_kv *kv)
{
    uint32_t who = NONE;
    for (uint32_t i = 0; i < OWNERS; i++) {
        const struct owner *o = &kv->owners[i];
        if (o->segments[PROBATION].n + o->segments[PROTECTED].n > 0 &&
            (who == NONE || yields_before(kv, i, who))) {
            who = i;
        }
    }
    assert(who != NONE && kv->n_cached > 0);
    struct owner *o = &kv->owners[who];
    uint32_t b = o->segments[PROBATION].n > 0 ? o->segments[PROBATION].last
                                              : o->segments[PROTECTED].last;
    segment_remove(kv, b);
    unlink_name(kv, b);
    kv->blocks[b].n_tokens = 0;
    o->n_blocks--;
    kv->n_cached--;
    kv->counts.evicted_blocks++;
    return b;
}


/* ---- figures ---- */

uint32_t
ax_kv_blocks_cached(const struct ax_kv *kv)
{
    return kv->n_cached;
}


uint32_t
ax_kv_blocks_of(const struct ax_kv *kv, uint64_t owner)
{
    uint32_t at = owner_find(kv, owner);
    return at != NONE ? kv->owners[at].n_blocks : 0;
}


struct ax_kv_cache_counts
ax_kv_cache_counts(const struct ax_kv *kv)
{
    return kv->counts;
}


/* ---- the tables against each other ---- */

static uint32_t
check_segment(const struct ax_kv *kv, uint32_t owner, enum segment segment)
{
    const struct list *l = &kv->owners[owner].segments[segment];
    uint32_t n = 0, prev = NONE;
    for (uint32_t b = l->first; b != NONE; b = kv->blocks[b].next) {
        const struct block *block = &kv->blocks[b];
        assert(block->refs == 0 && block->n_tokens > 0);
        assert(block->owner == owner && block->segment == segment);
        assert(block->prev == prev);
        prev = b;
        n++;
    }
    assert(n == l->n && prev == l->last);
    return n;
}


static uint32_t
count_chain(const struct ax_kv *kv, uint32_t first, bool names)
{
    uint32_t n = 0;
    for (uint32_t b = first; b != NONE;
         b = names ? kv->blocks[b].next_of_name
                   : kv->blocks[b].next_of_parent) {
        assert(kv->blocks[b].n_tokens > 0);
        n++;
    }
    return n;
}


void
ax_kv_check(const struct ax_kv *kv)
{
    uint32_t named = 0, full = 0, cached = 0, owned = 0, chained = 0,
             parented = 0, idle = 0, held = 0;
    for (uint32_t b = 0; b < kv->n_blocks; b++) {
        named += kv->blocks[b].n_tokens > 0;
        full += kv->blocks[b].n_tokens == AX_KV_BLOCK_TOKENS;
        idle += kv->blocks[b].refs == 0;
        held +=
            kv->blocks[b].refs > 0 && kv->blocks[b].group < kv->layout.n_full;
    }
    assert(held == kv->n_full_held);
    assert(ax_kv_blocks_free(kv) <= kv->n_free + kv->n_cached);
    for (uint32_t i = 0; i < OWNERS; i++) {
        cached += check_segment(kv, i, PROBATION);
        cached += check_segment(kv, i, PROTECTED);
        owned += kv->owners[i].n_blocks;
    }
    for (uint32_t i = 0; i < kv->n_buckets; i++) {
        chained += count_chain(kv, kv->by_name[i], true);
        parented += count_chain(kv, kv->by_parent[i], false);
    }
    assert(cached == kv->n_cached && owned == named);
    assert(chained == full && parented == named);
    assert(idle == kv->n_free + kv->n_cached);
    for (uint32_t i = 0; i < kv->n_free; i++) {
        const struct block *block = &kv->blocks[kv->free[i]];
        assert(block->refs == 0 && block->n_tokens == 0);
    }
}
