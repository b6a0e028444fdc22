/*
 * Prefixes over the cache's tables: what is known of a text, attach, publish,
 * retire.  See cache.h for the rules.
 */
#include "engine/kv/internal.h"

#include <assert.h>


/* ---- what is known ---- */

/* The window's blocks [first, i) are all there: held by seq, or known.  Else
 * *missing is the last one that is not. */
static bool
window_known(const struct ax_kv *kv, const struct ax_kv_sequence *seq,
             const struct ax_kv_chain *chain, const int32_t *tokens,
             uint32_t start, uint32_t i, uint32_t w, uint32_t *missing)
{
    const struct kv_window *window = &kv->layout.windows[w];
    uint32_t first = kv_first_seen(window, i * AX_KV_BLOCK_TOKENS);

    for (uint32_t k = i; k-- > first;) {
        if (k < start && k >= seq->windows[w].first) {
            continue;
        }
        for (uint32_t g = 0; g < window->n_groups; g++) {
            if (cache_find(kv, chain, k, tokens, window->group0 + g) == NONE) {
                *missing = k;
                return false;
            }
        }
    }
    return true;
}


static bool
full_known(const struct ax_kv *kv, const struct ax_kv_chain *chain,
           const int32_t *tokens, uint32_t i)
{
    for (uint32_t g = 0; g < kv->layout.n_full; g++) {
        if (cache_find(kv, chain, i, tokens, g) == NONE) {
            return false;
        }
    }
    return true;
}


/*
 * How many whole blocks of tokens[0 .. n_max) a sequence with `start` of them
 * could have: of full groups all are known, of windows those that a next
 * position would see.  Where a window lacks one, the only shorter beginnings
 * that help are those that end before it.
 */
static uint32_t
known_blocks(const struct ax_kv *kv, const struct ax_kv_sequence *seq,
             const struct ax_kv_chain *chain, const int32_t *tokens,
             uint32_t start, uint32_t n_max)
{
    uint32_t most = n_max / AX_KV_BLOCK_TOKENS, i = start;

    most = most < chain->n ? most : chain->n;
    while (i < most && full_known(kv, chain, tokens, i)) {
        i++;
    }
    for (uint32_t w = 0; w < kv->layout.n_windows && i > start;) {
        uint32_t missing;
        if (window_known(kv, seq, chain, tokens, start, i, w, &missing)) {
            w++;
        } else {
            i = missing > start ? missing : start;
            w = 0;
        }
    }
    return i;
}


uint32_t
ax_kv_known(const struct ax_kv *kv, const struct ax_kv_chain *chain,
            const int32_t *tokens, uint32_t n_tokens_max)
{
    const struct ax_kv_sequence none = {0};
    return known_blocks(kv, &none, chain, tokens, 0, n_tokens_max) *
           AX_KV_BLOCK_TOKENS;
}


/* ---- attach ---- */

static void
hold(struct ax_kv *kv, uint32_t b)
{
    if (kv->blocks[b].refs == 0) {
        cache_unkeep(kv, b);
    } else {
        ax_kv_block_ref(kv, b);
    }
}


/* Entry i of the group's table becomes the known block b; replaces: it was
 * another one before. */
static void
take_over(struct ax_kv *kv, struct ax_kv_sequence *seq, uint32_t group,
          uint32_t i, uint32_t b, bool replaces)
{
    uint32_t *entry = kv_entry(seq, group, i);
    hold(kv, b);
    if (replaces) {
        ax_kv_block_unref(kv, *entry);
    }
    assert(i < seq->blocks_max);
    *entry = b;
}


/* The same for one that was asked for again. */
static void
take_known(struct ax_kv *kv, struct ax_kv_sequence *seq, uint32_t group,
           uint32_t i, uint32_t b, bool replaces)
{
    take_over(kv, seq, group, i, b, replaces);
    kv->blocks[b].again = true;
    kv->owners[kv->blocks[b].owner].used_at = kv->taken;
}


/* Takes over the full groups' block i. */
static void
take_full(struct ax_kv *kv, struct ax_kv_sequence *seq,
          const struct ax_kv_chain *chain, const int32_t *tokens, uint32_t i)
{
    for (uint32_t g = 0; g < kv->layout.n_full; g++) {
        take_known(kv, seq, g, i, cache_find(kv, chain, i, tokens, g),
                   i < seq->n_blocks);
    }
}


/* The window's blocks up to n, of those that position 32 n sees. */
static void
take_window(struct ax_kv *kv, struct ax_kv_sequence *seq,
            const struct ax_kv_chain *chain, const int32_t *tokens,
            uint32_t start, uint32_t n, uint32_t w)
{
    const struct kv_window *window = &kv->layout.windows[w];
    struct ax_kv_held *held = &seq->windows[w];

    kv_leave_behind(kv, seq, w, kv_first_seen(window, n * AX_KV_BLOCK_TOKENS));
    for (uint32_t i = held->first > start ? held->first : start; i < n; i++) {
        for (uint32_t g = 0; g < window->n_groups; g++) {
            uint32_t group = window->group0 + g;
            take_known(kv, seq, group, i,
                       cache_find(kv, chain, i, tokens, group), i < held->end);
        }
        held->end = held->end > i ? held->end : i + 1;
    }
}


/* Free blocks that it would take to have n blocks instead of `start`: cached
 * ones count as free, and windows are promised more. */
static uint32_t
attach_takes(const struct ax_kv *kv, const struct ax_kv_sequence *seq,
             const struct ax_kv_chain *chain, const int32_t *tokens,
             uint32_t start, uint32_t n)
{
    uint32_t sum = 0;
    if (kv->layout.n_windows == 0 || n <= seq->n_blocks) {
        return 0; /* no block is promised, or there is room already */
    }
    for (uint32_t i = start; i < n; i++) {
        for (uint32_t g = 0; g < kv->layout.n_full && i >= seq->n_blocks; g++) {
            sum += kv->blocks[cache_find(kv, chain, i, tokens, g)].refs == 0;
        }
    }
    uint32_t promised = kv_promise(kv, seq, n);
    return sum + (promised > seq->promised ? promised - seq->promised : 0);
}


/* Takes over what block n has in common with the tokens behind the first n
 * blocks: a copy is made before it is written. */
static uint32_t
take_beginning(struct ax_kv *kv, struct ax_kv_sequence *seq,
               const struct ax_kv_chain *chain, const int32_t *tokens,
               uint32_t n, uint32_t most)
{
    const int32_t *text = tokens + (size_t)n * AX_KV_BLOCK_TOKENS;
    uint32_t n_groups = kv->layout.n_groups, common = AX_KV_BLOCK_TOKENS, c;

    for (uint32_t g = 0; g < n_groups && common >= AX_KV_PARTIAL_MIN; g++) {
        (void)cache_find_beginning(kv, chain, n, text, most, g, &c);
        common = c < common ? c : common;
    }
    if (common < AX_KV_PARTIAL_MIN ||
        (kv->layout.n_windows > 0 && ax_kv_blocks_free(kv) < n_groups)) {
        return 0;
    }
    for (uint32_t g = 0; g < n_groups; g++) {
        take_known(kv, seq, g, n,
                   cache_find_beginning(kv, chain, n, text, most, g, &c),
                   false);
    }
    for (uint32_t w = 0; w < kv->layout.n_windows; w++) {
        assert(seq->windows[w].end == n);
        seq->windows[w].end = n + 1;
    }
    return common;
}


uint32_t
ax_kv_attach(struct ax_kv *kv, struct ax_kv_sequence *seq,
             const struct ax_kv_chain *chain, const int32_t *tokens,
             uint32_t n_computed, uint32_t n_tokens_max)
{
    uint32_t start = n_computed / AX_KV_BLOCK_TOKENS;
    assert(n_computed % AX_KV_BLOCK_TOKENS == 0 && n_computed <= seq->n_tokens);
    uint32_t n = known_blocks(kv, seq, chain, tokens, start, n_tokens_max);
    if (attach_takes(kv, seq, chain, tokens, start, n) >
        ax_kv_blocks_free(kv)) {
        return n_computed;
    }
    for (uint32_t i = start; i < n; i++) {
        take_full(kv, seq, chain, tokens, i);
        cache_note_seen(kv, &chain->names[i]);
        kv->counts.hit_blocks++;
    }
    for (uint32_t w = 0; n > start && w < kv->layout.n_windows; w++) {
        take_window(kv, seq, chain, tokens, start, n, w);
    }
    uint32_t positions = n * AX_KV_BLOCK_TOKENS;
    bool room = seq->n_tokens > positions; /* behind it, already: no copy */
    seq->n_blocks = seq->n_blocks > n ? seq->n_blocks : n;
    seq->n_named = seq->n_named > n ? seq->n_named : n;
    seq->n_tokens = room ? seq->n_tokens : positions;
    kv_settle(kv, seq);
    if (room || positions == n_tokens_max) {
        return positions;
    }
    uint32_t most = n_tokens_max - positions;
    uint32_t common =
        take_beginning(kv, seq, chain, tokens, n,
                       most < AX_KV_BLOCK_TOKENS ? most : AX_KV_BLOCK_TOKENS);
    if (common > 0) {
        seq->n_blocks = n + 1;
        seq->n_tokens = positions + common;
        kv->counts.copied_blocks++;
        kv_settle(kv, seq);
    }
    return seq->n_tokens;
}


/* ---- publish ---- */

static void
publish_block(struct ax_kv *kv, struct ax_kv_sequence *seq,
              const struct ax_kv_chain *chain, const int32_t *tokens,
              uint32_t i, uint32_t group)
{
    uint32_t mine = *kv_entry(seq, group, i);
    uint32_t known = cache_find(kv, chain, i, tokens, group);
    if (known != NONE && known != mine) {
        take_over(kv, seq, group, i, known, true);
    } else if (known == NONE && kv_owns(kv, mine)) {
        cache_give_name(kv, mine, chain, i,
                        tokens + (size_t)i * AX_KV_BLOCK_TOKENS,
                        AX_KV_BLOCK_TOKENS);
    }
}


static bool
holds(const struct ax_kv *kv, const struct ax_kv_sequence *seq, uint32_t group,
      uint32_t i)
{
    struct ax_kv_held held = ax_kv_held(kv, seq, group);
    return i >= held.first && i < held.end;
}


void
ax_kv_publish(struct ax_kv *kv, struct ax_kv_sequence *seq,
              const struct ax_kv_chain *chain, const int32_t *tokens,
              uint32_t n_computed)
{
    uint32_t n_full = n_computed / AX_KV_BLOCK_TOKENS;
    assert(n_computed <= seq->n_tokens && n_full <= chain->n);
    for (; seq->n_named < n_full; seq->n_named++) {
        for (uint32_t g = 0; g < kv->layout.n_groups; g++) {
            if (holds(kv, seq, g, seq->n_named)) {
                publish_block(kv, seq, chain, tokens, seq->n_named, g);
            }
        }
    }
}


static void
publish_end(struct ax_kv *kv, struct ax_kv_sequence *seq,
            const struct ax_kv_chain *chain, const int32_t *tokens, uint32_t i,
            uint32_t n)
{
    const int32_t *text = tokens + (size_t)i * AX_KV_BLOCK_TOKENS;
    for (uint32_t g = 0; g < kv->layout.n_groups; g++) {
        uint32_t common, b = *kv_entry(seq, g, i);
        if (!holds(kv, seq, g, i) || !kv_owns(kv, b)) {
            continue;
        }
        (void)cache_find_beginning(kv, chain, i, text, n, g, &common);
        if (common < n) {
            cache_give_name(kv, b, chain, i, text, n);
        }
    }
}


void
ax_kv_retire(struct ax_kv *kv, struct ax_kv_sequence *seq,
             const struct ax_kv_chain *chain, const int32_t *tokens,
             uint32_t n_computed)
{
    ax_kv_publish(kv, seq, chain, tokens, n_computed);
    if (n_computed % AX_KV_BLOCK_TOKENS >= AX_KV_PARTIAL_MIN) {
        publish_end(kv, seq, chain, tokens, n_computed / AX_KV_BLOCK_TOKENS,
                    n_computed % AX_KV_BLOCK_TOKENS);
    }
    ax_kv_release(kv, seq);
}


/* ---- figures ---- */

uint32_t
ax_kv_alone(const struct ax_kv *kv, const struct ax_kv_sequence *seq)
{
    uint32_t n = seq->promised;
    for (uint32_t g = 0; g < kv->layout.n_full; g++) {
        for (uint32_t i = 0; i < seq->n_blocks; i++) {
            n += kv->blocks[*kv_entry(seq, g, i)].refs == 1;
        }
    }
    return n;
}
