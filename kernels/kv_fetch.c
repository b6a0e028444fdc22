/*
 * Asking for the cache lines of a KV block ahead of the write into it.
 *
 * A token's key lies across its block, two elements in each line (runs of
 * [dim][16 keys] of halves), so that a step of many sequences writes four bytes
 * into each of thousands of lines, and all of them come from memory.  Stores
 * wait for their lines one after the other; a request does not, and who
 * computes the keys knows the places before he begins.
 */

#include "kernels/internal.h"


/* Into the second level: what a piece writes is more than the first holds. */
static void
fetch(const char *p, size_t bytes)
{
    const char *end = p + bytes;

    for (p -= (uintptr_t)p % AXK_ALIGN; p < end; p += AXK_ALIGN) {
        __builtin_prefetch(p, 0, 2);
    }
}


/* Elements [lo, hi) of f16 or bf16. */
static void
fetch_halves(const char *head, const struct axk_kv_part *part, uint32_t lo,
             uint32_t hi, uint32_t head_dim)
{
    const size_t row = 2 * KV_RUN; /* of a run's tokens, one element */
    const size_t value = 2 * (size_t)round_up_16(head_dim);

    if (!part->values) {
        uint32_t end = (part->slot1 + KV_RUN - 1) / KV_RUN;
        for (uint32_t run = part->slot0 / KV_RUN; run < end; run++) {
            fetch(head + (run * head_dim + lo) * row, (hi - lo) * row);
        }
        return;
    }
    head += 2 * (size_t)head_dim * AXK_KV_TOKENS;
    for (uint32_t slot = part->slot0; slot < part->slot1; slot++) {
        fetch(head + slot * value + 2 * lo, 2 * (size_t)(hi - lo));
    }
}


/* The same of q8_0: scales of all tokens, then k-steps or pairs of tokens. */
static void
fetch_q8(const char *head, const struct axk_kv_part *part, uint32_t lo,
         uint32_t hi, uint32_t head_dim)
{
    uint32_t group0 = part->values ? kv_groups(head_dim) : 0;
    uint32_t n_slots = part->slot1 - part->slot0;

    for (uint32_t g = lo / AXK_QK; g < kv_groups(hi); g++) {
        const char *group = head + (group0 + g) * AXK_KV_Q8_GROUP_BYTES;

        fetch(group, 1);
        if (part->values) {
            fetch(group + 64 + part->slot0 / 2 * 64, n_slots * 32u);
            continue;
        }
        for (uint32_t i = 0; i < 8; i++) {
            fetch(group + 64 + 128 * i + 4 * part->slot0, 4 * (size_t)n_slots);
        }
    }
}


void
axk_kv_fetch(enum axk_kv_type type, const void *block,
             const struct axk_kv_part *part, uint32_t head_dim)
{
    uint32_t end = part->first + part->n;

    /* A late thread may have read the slots of two steps. */
    if (part->slot0 >= part->slot1) {
        return;
    }
    for (uint32_t h = part->first / head_dim; h * head_dim < end; h++) {
        struct head_part p = head_part_of(h, head_dim, part->first, part->n);
        const char *head =
            (const char *)block + h * kv_head_bytes(type, head_dim);

        if (type == AXK_KV_Q8_0) {
            fetch_q8(head, part, p.lo, p.hi, head_dim);
        } else {
            fetch_halves(head, part, p.lo, p.hi, head_dim);
        }
    }
}
