/*
 * The reference matmul.  One row, one token at a time:
 *
 *   blocks of 32: the integer dot of a block is exact; then, blocks in
 *     ascending order, acc = fma(dot, d_w * d_a, acc), and for formats with
 *     a minimum acc = fma(m_w, s_a, acc) after it.
 *   float formats: acc = fma(w[k], x[k], acc) for ascending k, one chain.
 *
 * d_w and d_a are f16 values, so their product is exact in f32.  The sum of a
 * row therefore knows nothing of the other rows and tokens of the call.
 */

#include "kernels/axk.h"
#include "kernels/internal.h"


/* Weight j of row r in a packed block, without the format's zero point. */
static int
weight_of(uint32_t format, const uint8_t *block, uint32_t r, uint32_t j)
{
    const uint8_t *steps = block + (format == AXK_Q4_1 ? 128 : 64);

    if (format == AXK_Q8_0) {
        return steps[128 * (j / 4) + 4 * r + j % 4] - 128;
    }
    int byte = steps[128 * (j / 8) + 4 * r + j % 4];
    int q = j % 8 < 4 ? byte & 15 : byte >> 4;
    return format == AXK_Q4_0 ? q - 8 : q;
}


static float
f16_at(const uint8_t *block, uint32_t index)
{
    uint16_t h;

    memcpy(&h, block + 2 * index, 2);
    return axk_f16_to_f32(h);
}


/* Row r of a panel times token t of a tile of n tokens. */
static float
dot_blocks(uint32_t format, const uint8_t *panel, uint32_t r, uint32_t k,
           const uint32_t *act, uint32_t n, uint32_t t)
{
    float acc = 0;

    for (uint32_t b = 0; b < k / AXK_QK; b++) {
        const uint8_t *block = panel + b * panel_block_bytes(format);
        const uint32_t *record = act + (size_t)b * AXK_ACT_WORDS * n + t;
        int32_t dot = 0;

        for (uint32_t j = 0; j < AXK_QK; j++) {
            int8_t a[4];
            memcpy(a, &record[j / 4 * n], 4);
            dot += weight_of(format, block, r, j) * a[j % 4];
        }
        float d = f16_at(block, r) * float_of(record[AXK_ACT_D * n]);
        acc = fma_exact((float)dot, d, acc);
        if (format == AXK_Q4_1) {
            acc = fma_exact(f16_at(block, 32 + r),
                            float_of(record[AXK_ACT_S * n]), acc);
        }
    }
    return acc;
}


static float
dot_floats(uint32_t format, const uint8_t *panel, uint32_t r, uint32_t k,
           const uint32_t *act, uint32_t n, uint32_t t)
{
    float acc = 0;

    for (uint32_t i = 0; i < k; i++) {
        const uint8_t *values = panel + i * panel_block_bytes(format);
        float w;

        if (format == AXK_F16) {
            w = f16_at(values, r);
        } else {
            memcpy(&w, values + 4 * r, 4);
        }
        acc = fma_exact(w, float_of(act[(size_t)i * n + t]), acc);
    }
    return acc;
}


void
axk_matmul_scalar(const struct axk_matmul *a, uint32_t row0, uint32_t row1)
{
    const struct axk_format_traits *f = axk_format_traits(a->format);
    size_t panel_bytes =
        (a->k / f->block_elems) * panel_block_bytes(a->format);

    for (uint32_t row = row0; row < row1; row++) {
        const uint8_t *panel = (const uint8_t *)a->w
                               + row / AXK_PANEL_ROWS * panel_bytes;
        uint32_t r = row % AXK_PANEL_ROWS;

        for (uint32_t m = 0; m < a->n_tokens; m++) {
            uint32_t tile = m / AXK_TILE;
            uint32_t n = tile_tokens(a->n_tokens, tile);
            const uint32_t *act = (const uint32_t *)a->act
                                  + tile * act_tile_words(f->act, a->k);
            float *y = &a->y[m * a->y_stride + row];
            float sum;

            if (f->act == AXK_ACT_F32) {
                sum = dot_floats(a->format, panel, r, a->k, act, n,
                                 m % AXK_TILE);
            } else {
                sum = dot_blocks(a->format, panel, r, a->k, act, n,
                                 m % AXK_TILE);
            }
            if (a->bias != NULL) {
                sum = sum + a->bias[row];
            }
            *y = a->accumulate ? *y + sum : sum;
        }
    }
}
