/*
 * K and V as q8_0 in a KV block, for the kernel files.  32 elements of the 32
 * tokens of a block are a group of 1088 bytes; a KV head is its groups of K,
 * then its groups of V.
 *
 *   K: [32 x f16 d][8 k-steps]  the packed block of a Q8_0 matrix whose rows
 *      are the keys: a k-step is 128 bytes, 4 elements of each key, stored
 *      as q + 128.  Lanes are keys.
 *   V: [32 x f16 d][16 pairs of tokens][32 elements][2 tokens] int8.  Lanes
 *      are elements; the two tokens of a pair are summed by one multiply-add
 *      of 16-bit pairs.
 *
 * Codes and scales are those of quantize's Q8 records (ggml's q8_0): d is
 * the largest magnitude / 127, rounded to f16 for use, NaN where an element
 * is not finite.
 */

#ifndef AXK_KV_Q8_H
#define AXK_KV_Q8_H

#include "kernels/internal.h"

/* Puts groups [group0, group1) of one token's K or V of one KV head, which has
 * n_groups of each, into its slot: records of blocks of 32 quantized for one
 * token. */
void axk_kv_q8_put_keys(uint8_t *head, uint32_t slot, uint32_t group0,
                        uint32_t group1, const uint32_t *records);
void axk_kv_q8_put_values(uint8_t *head, uint32_t slot, uint32_t n_groups,
                          uint32_t group0, uint32_t group1,
                          const uint32_t *records);


static inline const uint8_t *
kv_q8_keys(const struct axk_attention *a, uint32_t i, uint32_t kv_head,
           uint32_t group)
{
    return (const uint8_t *)kv_head_of(a, i, kv_head) +
           (size_t)group * AXK_KV_Q8_GROUP_BYTES;
}


static inline const uint8_t *
kv_q8_values(const struct axk_attention *a, uint32_t i, uint32_t kv_head,
             uint32_t group)
{
    return kv_q8_keys(a, i, kv_head, kv_groups(a->head_dim) + group);
}


/* n elements followed by zeros up to a whole group; x itself if it is. */
static inline const float *
whole_groups(const float *x, uint32_t n, float *buffer)
{
    if (n % AXK_QK == 0) {
        return x;
    }
    memcpy(buffer, x, n * sizeof(*x));
    memset(buffer + n, 0, (kv_groups(n) * AXK_QK - n) * sizeof(*x));
    return buffer;
}

#endif
