/*
 * Sequences over the block pool: room, windows, truncation.  See kv.h.
 *
 * What windows are promised (internal.h) makes a step's blocks certain: the
 * sum over all sequences is never less than the blocks of windows that are
 * held, shared ones counted for every holder, and free is what neither full
 * groups hold nor windows are promised.  So there is a free or cached block
 * for every block that a window may still take.
 */
#include "engine/kv/internal.h"

#include <assert.h>
#include <string.h>


static void
check_sequence(const struct ax_kv *kv, const struct ax_kv_sequence *seq)
{
    assert(seq->n_blocks <= seq->blocks_max);
    assert(seq->n_blocks == ax_kv_blocks_for(seq->n_tokens));
    assert(seq->n_named <= seq->n_blocks);
    for (uint32_t w = 0; w < kv->layout.n_windows; w++) {
        const struct ax_kv_held *held = &seq->windows[w];
        assert(held->first <= held->end && held->end <= seq->n_blocks);
        assert(held->end - held->first <= kv->layout.windows[w].held_max);
    }
}


/* ---- promises ---- */

uint32_t
kv_promise(const struct ax_kv *kv, const struct ax_kv_sequence *seq,
           uint32_t n_blocks)
{
    uint32_t sum = 0;
    for (uint32_t w = 0; w < kv->layout.n_windows; w++) {
        const struct kv_window *window = &kv->layout.windows[w];
        uint32_t n = n_blocks - seq->windows[w].first;
        sum += window->n_groups * (n < window->held_max ? n : window->held_max);
    }
    return sum;
}


void
kv_settle(struct ax_kv *kv, struct ax_kv_sequence *seq)
{
    uint32_t promised = kv_promise(kv, seq, seq->n_blocks);
    assert(kv->promised >= seq->promised);
    kv->promised += promised - seq->promised;
    seq->promised = promised;
    check_sequence(kv, seq);
}


/* ---- room ---- */

/* Blocks of full groups in which the sequence ends and may not write. */
static uint32_t
copies(const struct ax_kv *kv, const struct ax_kv_sequence *seq)
{
    uint32_t n = 0;
    if (seq->n_tokens % AX_KV_BLOCK_TOKENS == 0) {
        return 0;
    }
    for (uint32_t g = 0; g < kv->layout.n_full; g++) {
        n += !kv_owns(kv, *kv_entry(seq, g, seq->n_blocks - 1));
    }
    return n;
}


uint32_t
ax_kv_missing(const struct ax_kv *kv, const struct ax_kv_sequence *seq,
              uint32_t n_tokens)
{
    uint32_t n_blocks = ax_kv_blocks_for(n_tokens);
    if (n_tokens <= seq->n_tokens) {
        return 0;
    }
    return kv->layout.n_full * (n_blocks - seq->n_blocks) + copies(kv, seq) +
           kv_promise(kv, seq, n_blocks) - seq->promised;
}


/*
 * The block that the sequence ends in will be written: own it alone.  Where
 * no block is left for a copy, which happens to windows alone, nobody else
 * holds it (a second holder was promised one as well), and it loses its name
 * instead.
 */
static void
own_last(struct ax_kv *kv, struct ax_kv_sequence *seq, uint32_t group)
{
    uint32_t *entry = kv_entry(seq, group, seq->n_blocks - 1);
    uint32_t old = *entry;
    if (kv_owns(kv, old)) {
        return;
    }
    if (kv->n_free + kv->n_cached == 0) {
        assert(kv->blocks[old].refs == 1);
        cache_forget(kv, old);
        return;
    }
    uint32_t b = kv_take_block(kv, group);
    size_t bytes = kv->layout.block_bytes;
    char *base = kv->memory.base;
    memcpy(base + b * bytes, base + old * bytes, bytes);
    ax_kv_block_unref(kv, old);
    *entry = b;
}


static void
own_end(struct ax_kv *kv, struct ax_kv_sequence *seq)
{
    for (uint32_t g = 0; g < kv->layout.n_groups; g++) {
        struct ax_kv_held held = ax_kv_held(kv, seq, g);
        if (held.first < held.end && held.end == seq->n_blocks) {
            own_last(kv, seq, g);
        }
    }
    if (seq->n_named == seq->n_blocks) {
        seq->n_named--;
    }
}


int
ax_kv_reserve(struct ax_kv *kv, struct ax_kv_sequence *seq, uint32_t n_tokens)
{
    check_sequence(kv, seq);
    if (n_tokens <= seq->n_tokens) {
        return AXION_OK;
    }
    uint32_t n_blocks = ax_kv_blocks_for(n_tokens);
    if (n_blocks > seq->blocks_max ||
        ax_kv_missing(kv, seq, n_tokens) > ax_kv_blocks_free(kv)) {
        return AXION_ERR_KV_EXHAUSTED;
    }
    if (seq->n_tokens % AX_KV_BLOCK_TOKENS != 0) {
        own_end(kv, seq);
    }
    for (; seq->n_blocks < n_blocks; seq->n_blocks++) {
        for (uint32_t g = 0; g < kv->layout.n_full; g++) {
            *kv_entry(seq, g, seq->n_blocks) = kv_take_block(kv, g);
        }
    }
    seq->n_tokens = n_tokens;
    kv_settle(kv, seq);
    return AXION_OK;
}


/* ---- windows ---- */

static void
give_back(struct ax_kv *kv, struct ax_kv_sequence *seq, uint32_t w,
          uint32_t index)
{
    const struct kv_window *window = &kv->layout.windows[w];
    for (uint32_t g = 0; g < window->n_groups; g++) {
        ax_kv_block_unref(kv, *kv_entry(seq, window->group0 + g, index));
    }
}


void
kv_leave_behind(struct ax_kv *kv, struct ax_kv_sequence *seq, uint32_t w,
                uint32_t first)
{
    struct ax_kv_held *held = &seq->windows[w];
    while (held->first < first && held->first < held->end) {
        give_back(kv, seq, w, held->first++);
    }
    if (held->first < first) {
        held->first = held->end = first;
    }
}


/* The first block that a window keeps for a step from here on. */
static uint32_t
first_kept(const struct kv_layout *l, uint32_t w, uint32_t from)
{
    uint32_t back = from < l->back_tokens ? from : l->back_tokens;
    return kv_first_seen(&l->windows[w], from - back);
}


int
ax_kv_window(struct ax_kv *kv, struct ax_kv_sequence *seq, uint32_t from,
             uint32_t to)
{
    const struct kv_layout *l = &kv->layout;

    if (l->n_windows == 0) {
        return AXION_OK;
    }
    assert(from < to && to <= seq->n_tokens);
    for (uint32_t w = 0; w < l->n_windows; w++) {
        uint32_t held = seq->windows[w].first, kept = first_kept(l, w, from);
        kept = kept > held ? kept : held;
        if (kv_first_seen(&l->windows[w], from) < held ||
            ax_kv_blocks_for(to) - kept > l->windows[w].held_max) {
            return AXION_ERR_INTERNAL;
        }
    }
    for (uint32_t w = 0; w < l->n_windows; w++) {
        kv_leave_behind(kv, seq, w, first_kept(l, w, from));
    }
    kv_settle(kv, seq);
    for (uint32_t w = 0; w < l->n_windows; w++) {
        struct ax_kv_held *held = &seq->windows[w];
        uint32_t g0 = l->windows[w].group0;
        for (; held->end < ax_kv_blocks_for(to); held->end++) {
            for (uint32_t g = g0; g < g0 + l->windows[w].n_groups; g++) {
                *kv_entry(seq, g, held->end) = kv_take_block(kv, g);
            }
        }
    }
    check_sequence(kv, seq);
    return AXION_OK;
}


struct ax_kv_held
ax_kv_held(const struct ax_kv *kv, const struct ax_kv_sequence *seq,
           uint32_t group)
{
    const struct kv_layout *l = &kv->layout;
    uint32_t w = 0;

    assert(group < l->n_groups);
    if (group < l->n_full) {
        return (struct ax_kv_held){0, seq->n_blocks};
    }
    while (group >= l->windows[w].group0 + l->windows[w].n_groups) {
        w++;
    }
    return seq->windows[w];
}


/* ---- truncation ---- */

/* Whether position n_tokens could be computed next. */
static bool
windows_reach(const struct ax_kv *kv, const struct ax_kv_sequence *seq,
              uint32_t n_tokens)
{
    for (uint32_t w = 0; w < kv->layout.n_windows; w++) {
        if (kv_first_seen(&kv->layout.windows[w], n_tokens) <
            seq->windows[w].first) {
            return false;
        }
    }
    return true;
}


uint32_t
ax_kv_truncate(struct ax_kv *kv, struct ax_kv_sequence *seq, uint32_t n_tokens)
{
    check_sequence(kv, seq);
    if (n_tokens >= seq->n_tokens) {
        return seq->n_tokens;
    }
    if (!windows_reach(kv, seq, n_tokens)) {
        n_tokens = 0;
    }
    /* From the end on: a chain in the cache loses its end first. */
    for (uint32_t i = seq->n_blocks; i-- > ax_kv_blocks_for(n_tokens);) {
        for (uint32_t w = 0; w < kv->layout.n_windows; w++) {
            struct ax_kv_held *held = &seq->windows[w];
            if (held->end == i + 1 && held->first <= i) {
                give_back(kv, seq, w, i);
                held->end = i;
            }
        }
        for (uint32_t g = 0; g < kv->layout.n_full; g++) {
            ax_kv_block_unref(kv, *kv_entry(seq, g, i));
        }
    }
    seq->n_tokens = n_tokens;
    seq->n_blocks = ax_kv_blocks_for(n_tokens);
    if (seq->n_named > seq->n_blocks) {
        seq->n_named = seq->n_blocks;
    }
    for (uint32_t w = 0; n_tokens == 0 && w < kv->layout.n_windows; w++) {
        seq->windows[w] = (struct ax_kv_held){0, 0};
    }
    kv_settle(kv, seq);
    return n_tokens;
}


void
ax_kv_release(struct ax_kv *kv, struct ax_kv_sequence *seq)
{
    (void)ax_kv_truncate(kv, seq, 0);
}
