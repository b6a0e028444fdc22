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
axk_kv_q8_put_keys(uint8_t *head, uint32_t slot, uint32_t group0,
                   uint32_t group1, const uint32_t *records)
{
    for (uint32_t g = group0; g < group1; g++, records += AXK_ACT_WORDS) {
        uint8_t *group = head + (size_t)g * AXK_KV_Q8_GROUP_BYTES;

        put_scale(group, slot, records);
        for (uint32_t i = 0; i < 8; i++) {
            uint32_t codes = records[i] ^ 0x80808080u; /* q + 128 */
            memcpy(group + 64 + 128 * i + 4 * slot, &codes, 4);
        }
    }
}


void
axk_kv_q8_put_values(uint8_t *head, uint32_t slot, uint32_t n_groups,
                     uint32_t group0, uint32_t group1, const uint32_t *records)
{
    for (uint32_t g = group0; g < group1; g++, records += AXK_ACT_WORDS) {
        uint8_t *group = head + (size_t)(n_groups + g) * AXK_KV_Q8_GROUP_BYTES;
        uint8_t *pairs = group + 64 + slot / 2 * 64 + slot % 2;
        const int8_t *codes = (const int8_t *)records;

        put_scale(group, slot, records);
        for (uint32_t e = 0; e < AXK_QK; e++) {
            pairs[2 * e] = (uint8_t)codes[e];
        }
    }
}
