/*
 * Matmuls for AVX-512 with VNNI: walks panels and tiles of tokens, and ends
 * a tile with bias, residual and store.  The arithmetic is in
 * tiles_avx512.h; each function axk_panel_FORMAT_avx512 is one copy of it
 * with that format as a literal.
 */

#include <assert.h>

#include "kernels/tiles_avx512.h"


/* Bias, residual, store; only the rows that exist. */
INLINE void
store_tile(const struct axk_matmul *a, uint32_t row, uint32_t m, const int n,
           __m512 acc[2][AXK_TILE])
{
    uint32_t left = a->n_rows - row;
    uint32_t rows = left < AXK_PANEL_ROWS ? (1u << left) - 1 : UINT32_MAX;

    for (int half = 0; half < 2; half++) {
        __mmask16 mask = (__mmask16)(rows >> 16 * half);
        __m512 bias = _mm512_setzero_ps();
        uint32_t column = row + 16 * (uint32_t)half;

        if (mask == 0) {
            break;
        }
        if (a->bias != NULL) {
            bias = _mm512_maskz_loadu_ps(mask, a->bias + column);
        }
        for (int t = 0; t < n; t++) {
            float *y = a->y + (m + (uint32_t)t) * a->y_stride + column;
            __m512 x = acc[half][t];

            if (a->bias != NULL) {
                x = _mm512_add_ps(x, bias);
            }
            if (a->accumulate) {
                x = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y), x);
            }
            _mm512_mask_storeu_ps(y, mask, x);
        }
    }
}


INLINE void
run_tile(const uint32_t format, const struct axk_matmul *a, uint32_t row,
         const uint8_t *panel, uint32_t tile, const int n)
{
    const enum axk_act kind = is_float_format(format) ? AXK_ACT_F32
                              : is_k_format(format)   ? AXK_ACT_Q8_K
                                                      : AXK_ACT_Q8;
    const uint32_t *act =
        (const uint32_t *)a->act + tile * act_tile_words(kind, a->k);
    __m512 acc[2][AXK_TILE];

    for (int t = 0; t < n; t++) {
        acc[0][t] = _mm512_setzero_ps();
        acc[1][t] = _mm512_setzero_ps();
    }
    if (kind == AXK_ACT_F32) {
        tile_floats(format, panel, act, a->k, n, acc);
    } else if (kind == AXK_ACT_Q8_K) {
        tile_blocks_256(format, panel, act, a->k / AXK_QK_K, n, acc);
    } else {
        tile_blocks_32(format, panel, act, a->k / AXK_QK, n, acc);
    }
    store_tile(a, row, tile * AXK_TILE, n, acc);
}


INLINE void
run_panel(const uint32_t format, const struct axk_matmul *a, uint32_t row,
          const uint8_t *panel)
{
    uint32_t n_full = a->n_tokens / AXK_TILE;

    for (uint32_t tile = 0; tile < n_full; tile++) {
        run_tile(format, a, row, panel, tile, AXK_TILE);
    }
    switch (a->n_tokens % AXK_TILE) {
    case 1:
        run_tile(format, a, row, panel, n_full, 1);
        break;
    case 2:
        run_tile(format, a, row, panel, n_full, 2);
        break;
    case 3:
        run_tile(format, a, row, panel, n_full, 3);
        break;
    default:
        break;
    }
}


static void
axk_panel_f32_avx512(const struct axk_matmul *a, uint32_t row,
                     const uint8_t *panel)
{
    run_panel(AXK_F32, a, row, panel);
}


static void
axk_panel_f16_avx512(const struct axk_matmul *a, uint32_t row,
                     const uint8_t *panel)
{
    run_panel(AXK_F16, a, row, panel);
}


static void
axk_panel_bf16_avx512(const struct axk_matmul *a, uint32_t row,
                      const uint8_t *panel)
{
    run_panel(AXK_BF16, a, row, panel);
}


static void
axk_panel_q4_0_avx512(const struct axk_matmul *a, uint32_t row,
                      const uint8_t *panel)
{
    run_panel(AXK_Q4_0, a, row, panel);
}


static void
axk_panel_q4_1_avx512(const struct axk_matmul *a, uint32_t row,
                      const uint8_t *panel)
{
    run_panel(AXK_Q4_1, a, row, panel);
}


static void
axk_panel_q5_0_avx512(const struct axk_matmul *a, uint32_t row,
                      const uint8_t *panel)
{
    run_panel(AXK_Q5_0, a, row, panel);
}


static void
axk_panel_q5_1_avx512(const struct axk_matmul *a, uint32_t row,
                      const uint8_t *panel)
{
    run_panel(AXK_Q5_1, a, row, panel);
}


static void
axk_panel_q8_0_avx512(const struct axk_matmul *a, uint32_t row,
                      const uint8_t *panel)
{
    run_panel(AXK_Q8_0, a, row, panel);
}


static void
axk_panel_q2_k_avx512(const struct axk_matmul *a, uint32_t row,
                      const uint8_t *panel)
{
    run_panel(AXK_Q2_K, a, row, panel);
}


static void
axk_panel_q3_k_avx512(const struct axk_matmul *a, uint32_t row,
                      const uint8_t *panel)
{
    run_panel(AXK_Q3_K, a, row, panel);
}


static void
axk_panel_q4_k_avx512(const struct axk_matmul *a, uint32_t row,
                      const uint8_t *panel)
{
    run_panel(AXK_Q4_K, a, row, panel);
}


static void
axk_panel_q5_k_avx512(const struct axk_matmul *a, uint32_t row,
                      const uint8_t *panel)
{
    run_panel(AXK_Q5_K, a, row, panel);
}


static void
axk_panel_q6_k_avx512(const struct axk_matmul *a, uint32_t row,
                      const uint8_t *panel)
{
    run_panel(AXK_Q6_K, a, row, panel);
}


static void
axk_panel_iq4_nl_avx512(const struct axk_matmul *a, uint32_t row,
                        const uint8_t *panel)
{
    run_panel(AXK_IQ4_NL, a, row, panel);
}


static void
axk_panel_iq4_xs_avx512(const struct axk_matmul *a, uint32_t row,
                        const uint8_t *panel)
{
    run_panel(AXK_IQ4_XS, a, row, panel);
}


static void
axk_panel_mxfp4_avx512(const struct axk_matmul *a, uint32_t row,
                       const uint8_t *panel)
{
    run_panel(AXK_MXFP4, a, row, panel);
}


static const struct {
    uint32_t format;
    void (*panel)(const struct axk_matmul *a, uint32_t row,
                  const uint8_t *panel);
} panels[] = {
    {AXK_F32, axk_panel_f32_avx512},
    {AXK_F16, axk_panel_f16_avx512},
    {AXK_BF16, axk_panel_bf16_avx512},
    {AXK_Q4_0, axk_panel_q4_0_avx512},
    {AXK_Q4_1, axk_panel_q4_1_avx512},
    {AXK_Q5_0, axk_panel_q5_0_avx512},
    {AXK_Q5_1, axk_panel_q5_1_avx512},
    {AXK_Q8_0, axk_panel_q8_0_avx512},
    {AXK_Q2_K, axk_panel_q2_k_avx512},
    {AXK_Q3_K, axk_panel_q3_k_avx512},
    {AXK_Q4_K, axk_panel_q4_k_avx512},
    {AXK_Q5_K, axk_panel_q5_k_avx512},
    {AXK_Q6_K, axk_panel_q6_k_avx512},
    {AXK_IQ4_NL, axk_panel_iq4_nl_avx512},
    {AXK_IQ4_XS, axk_panel_iq4_xs_avx512},
    {AXK_MXFP4, axk_panel_mxfp4_avx512},
};


void
axk_matmul_avx512(const struct axk_matmul *a, uint32_t row0, uint32_t row1)
{
    const struct axk_format_traits *f = axk_format_traits(a->format);
    size_t panel_bytes = (a->k / f->block_elems) * panel_block_bytes(a->format);
    const uint8_t *panel =
        (const uint8_t *)a->w + row0 / AXK_PANEL_ROWS * panel_bytes;
    size_t i = 0;

    while (panels[i].format != a->format) {
        i++;
        assert(i < sizeof(panels) / sizeof(panels[0]));
    }
    for (uint32_t row = row0; row < row1; row += AXK_PANEL_ROWS) {
        panels[i].panel(a, row, panel);
        panel += panel_bytes;
    }
}
