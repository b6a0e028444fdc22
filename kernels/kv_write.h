/*
 * A token's K and V into its slot of a KV block, head by head, for the kernel
 * files: what does not depend on the instruction set.  Each brings how it
 * rounds.
 */

#ifndef AXK_KV_WRITE_H
#define AXK_KV_WRITE_H

#include "kernels/kv_q8.h"

/* n_groups of 32 elements to Q8 records of one token. */
typedef void kv_quantize(const float *x, uint32_t n_groups, uint32_t *records);

/* Elements [lo, hi) of a head as f16 or bf16; V is padded with zeros behind
 * the head's end. */
typedef void kv_write_halves(enum axk_kv_type type, uint16_t *head,
                             uint32_t slot, uint32_t lo, uint32_t hi,
                             const float *k, const float *v, uint32_t head_dim);


/* The same as q8_0; they begin and end with groups. */
INLINE void
kv_write_q8(kv_quantize *quantize, uint8_t *head, uint32_t slot, uint32_t lo,
            uint32_t hi, const float *k, const float *v, uint32_t head_dim)
{
    uint32_t records[AXK_HEAD_DIM_MAX / AXK_QK * AXK_ACT_WORDS];
    float padded[AXK_HEAD_DIM_MAX];
    uint32_t group0 = lo / AXK_QK;
    uint32_t n = kv_groups(hi - lo);

    if (k != NULL) {
        quantize(whole_groups(k, hi - lo, padded), n, records);
        axk_kv_q8_put_keys(head, slot, group0, group0 + n, records);
    }
    if (v != NULL) {
        quantize(whole_groups(v, hi - lo, padded), n, records);
        axk_kv_q8_put_values(head, slot, kv_groups(head_dim), group0,
                             group0 + n, records);
    }
}


/* axk.h's kv_write. */
INLINE void
kv_write_heads(kv_quantize *quantize, kv_write_halves *halves,
               enum axk_kv_type type, void *block, uint32_t slot,
               uint32_t first, uint32_t n, const float *k, const float *v,
               uint32_t head_dim)
{
    for (uint32_t h = first / head_dim; h * head_dim < first + n; h++) {
        struct head_part part = head_part_of(h, head_dim, first, n);
        const float *key = k == NULL ? NULL : k + part.from;
        const float *value = v == NULL ? NULL : v + part.from;
        char *head = (char *)block + h * kv_head_bytes(type, head_dim);

        if (type == AXK_KV_Q8_0) {
            kv_write_q8(quantize, (uint8_t *)head, slot, part.lo, part.hi, key,
                        value, head_dim);
        } else {
            halves(type, (uint16_t *)(void *)head, slot, part.lo, part.hi, key,
                   value, head_dim);
        }
    }
}

#endif
