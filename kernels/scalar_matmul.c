/*
 * The reference matmul.  One row, one token at a time:
 *
 *   blocks of 32: the integer dot of a block is exact; then, blocks in
 *     ascending order, acc = fma(dot, d_w * d_a, acc), and for formats with
 *     a minimum acc = fma(m_w, s_a, acc) after it.
 *   blocks of 256: the sum over the parts of sub-scale times dot, and of
 *     sub-minimum times sum of activations, are exact integers; then
 *     acc = fma(sum, d_w * d_a, acc), acc = fma(-min_sum, dmin_w * d_a, acc).
 *   float formats: acc = fma(w[k], x[k], acc) for ascending k, one chain.
 *
 * The sum of a row knows nothing of the other rows and tokens of the call.
 */

#include "kernels/axk.h"
#include "kernels/internal.h"
#include "kernels/codes.h"


/* Activation j of a record, for token t of n (act points at the token). */
static int
activation(const uint32_t *record, uint32_t n, uint32_t j)
{
    int8_t a[4];

    memcpy(a, &record[j / 4 * n], 4);
    return a[j % 4];
}


/* Row r of a panel times token t of a tile of n tokens. */
static float
dot_blocks_32(uint32_t format, const uint8_t *panel, uint32_t r, uint32_t k,
              const uint32_t *act, uint32_t n, uint32_t t)
{
    float acc = 0;

    for (uint32_t b = 0; b < k / AXK_QK; b++) {
        const uint8_t *block = panel + b * panel_block_bytes(format);
        const uint32_t *record = act + (size_t)b * AXK_ACT_WORDS * n + t;
        int32_t dot = 0;

        for (uint32_t j = 0; j < AXK_QK; j++) {
            dot += integer_of(format, block, r, j) * activation(record, n, j);
        }
        float d = half_at(format, block, r) * float_of(record[AXK_ACT_D * n]);
        acc = fma_exact((float)dot, d, acc);
        if (has_min(format)) {
            acc = fma_exact(half_at(format, block + 64, r),
                            float_of(record[AXK_ACT_S * n]), acc);
        }
    }
    return acc;
}


static float
dot_blocks_256(uint32_t format, const uint8_t *panel, uint32_t r, uint32_t k,
               const uint32_t *act, uint32_t n, uint32_t t)
{
    uint32_t elems = part_elems(format);
    float acc = 0;

    for (uint32_t b = 0; b < k / AXK_QK_K; b++) {
        const uint8_t *block = panel + b * panel_block_bytes(format);
        const uint8_t *tail = tail_of(format, block);
        const uint32_t *record = act + (size_t)b * AXK_ACT_K_WORDS * n + t;
        float d_a = float_of(record[AXK_ACT_K_D * n]);
        int32_t sum = 0;
        int32_t min_sum = 0;

        for (uint32_t part = 0; part < AXK_QK_K / elems; part++) {
            int32_t dot = 0;
            int32_t a_sum = 0;

            for (uint32_t j = part * elems; j < (part + 1) * elems; j++) {
                int a = activation(record, n, j);
                dot += integer_of(format, block, r, j) * a;
                a_sum += a;
            }
            sum += sub_scale_of(format, block, r, part) * dot;
            if (has_min(format)) {
                min_sum += sub_min_of(format, block, r, part) * a_sum;
            }
        }
        acc = fma_exact((float)sum, half_at(format, tail, r) * d_a, acc);
        if (has_min(format)) {
            acc = fma_exact(-(float)min_sum,
                            half_at(format, tail + 64, r) * d_a, acc);
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

        if (format == AXK_F32) {
            memcpy(&w, values + 4 * r, 4);
        } else {
            w = half_at(format, values, r);
        }
        acc = fma_exact(w, float_of(act[(size_t)i * n + t]), acc);
    }
    return acc;
}


static float
dot(uint32_t format, const uint8_t *panel, uint32_t r, uint32_t k,
    const uint32_t *act, uint32_t n, uint32_t t)
{
    if (is_float_format(format)) {
        return dot_floats(format, panel, r, k, act, n, t);
    }
    if (is_k_format(format)) {
        return dot_blocks_256(format, panel, r, k, act, n, t);
    }
    return dot_blocks_32(format, panel, r, k, act, n, t);
}


void
axk_matmul_scalar(const struct axk_matmul *a, uint32_t row0, uint32_t row1)
{
    const struct axk_format_traits *f = axk_format_traits(a->format);
    size_t panel_bytes = (a->k / f->block_elems) * panel_block_bytes(a->format);

    for (uint32_t row = row0; row < row1; row++) {
        const uint8_t *panel =
            (const uint8_t *)a->w + row / AXK_PANEL_ROWS * panel_bytes;

        for (uint32_t m = 0; m < a->n_tokens; m++) {
            uint32_t tile = m / AXK_TILE;
            const uint32_t *act =
                (const uint32_t *)a->act + tile * act_tile_words(f->act, a->k);
            float *y = &a->y[m * a->y_stride + row];
            float sum = dot(a->format, panel, row % AXK_PANEL_ROWS, a->k, act,
                            tile_tokens(a->n_tokens, tile), m % AXK_TILE);

            if (a->bias != NULL) {
                sum = sum + a->bias[row];
            }
            *y = a->accumulate ? *y + sum : sum;
        }
    }
}
