/*
 * Writing quantized K and V into their places (kv_q8.h).  One definition for
 * all instruction sets: it moves bytes, the arithmetic was quantize's.
 */

#include "kernels/kv_q8.h"


static void
put_scale(uint8_t *group, uint32_t slot, const uint32_t *record)
{
    uint16_t d = axk_f32_to_f16(float_of(record[AXK_ACT_D]));

    memcpy(group + 2 * slot, &d, 2);
}


void
axk_kv_q8_put(uint8_t *head, uint32_t slot, uint32_t n_groups,
              const uint32_t *k, const uint32_t *v)
{
    for (uint32_t g = 0; g < n_groups; g++) {
        const uint32_t *kr = k + (size_t)g * AXK_ACT_WORDS;
        const int8_t *vr = (const int8_t *)(v + (size_t)g * AXK_ACT_WORDS);
        uint8_t *kg = head + (size_t)g * AXK_KV_Q8_GROUP_BYTES;
        uint8_t *vg = kg + (size_t)n_groups * AXK_KV_Q8_GROUP_BYTES;
        uint8_t *pairs = vg + 64 + slot / 2 * 64 + slot % 2;

        put_scale(kg, slot, kr);
        put_scale(vg, slot, v + (size_t)g * AXK_ACT_WORDS);
        for (uint32_t i = 0; i < 8; i++) {
            uint32_t codes = kr[i] ^ 0x80808080u; /* q + 128 */
            memcpy(kg + 64 + 128 * i + 4 * slot, &codes, 4);
        }
        for (uint32_t e = 0; e < AXK_QK; e++) {
            pairs[2 * e] = (uint8_t)vr[e];
        }
    }
}
