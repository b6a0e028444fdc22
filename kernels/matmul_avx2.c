/*
 * Matmuls for AVX2 with FMA and F16C: walks panels and tiles of tokens, and
 * ends a tile with bias, residual and store.  The arithmetic is in
 * tiles_avx2.h; each function axk_panel_FORMAT_avx2 is one copy of it with
 * that format as a literal.
 */

#include <assert.h>

#include "kernels/tiles_avx2.h"


/* Eight rows from row on, of which left exist (0 or less: none). */
INLINE void
store_rows(const struct axk_matmul *a, uint32_t row, uint32_t m, __m256 x)
{
    float *y = a->y + m * a->y_stride + row;
    float lanes[8] = {0};
    uint32_t n = row < a->n_rows ? a->n_rows - row : 0;

    if (n >= 8) {
        if (a->bias != NULL) {
            x = _mm256_add_ps(x, _mm256_loadu_ps(a->bias + row));
        }
        if (a->accumulate) {
            x = _mm256_add_ps(_mm256_loadu_ps(y), x);
        }
        _mm256_storeu_ps(y, x);
        return;
    }
    _mm256_storeu_ps(lanes, x);
    for (uint32_t i = 0; i < n; i++) {
        float sum = lanes[i];

        if (a->bias != NULL) {
            sum = sum + a->bias[row + i];
        }
        y[i] = a->accumulate ? y[i] + sum : sum;
    }
}


/* All tokens of a tile and the rows of one shape. */
INLINE void
run_tile(const uint32_t format, const struct axk_matmul *a, uint32_t row,
         const uint8_t *panel, uint32_t tile, const struct shape s)
{
    const enum axk_act kind = is_float_format(format) ? AXK_ACT_F32
                              : is_k_format(format)   ? AXK_ACT_Q8_K
                                                      : AXK_ACT_Q8;
    const uint32_t *act =
        (const uint32_t *)a->act + tile * act_tile_words(kind, a->k);
    results acc;

    for (uint32_t r = 0; r < s.rows; r++) {
        for (uint32_t t = 0; t < s.n; t++) {
            acc[r][t] = _mm256_setzero_ps();
        }
    }
    if (kind == AXK_ACT_F32) {
        tile_floats(format, s, panel, act, a->k, acc);
    } else if (kind == AXK_ACT_Q8_K) {
        tile_blocks_256(format, s, panel, act, a->k / AXK_QK_K, acc);
    } else {
        tile_blocks_32(format, s, panel, act, a->k / AXK_QK, acc);
    }
    for (uint32_t r = 0; r < s.rows; r++) {
        for (uint32_t t = 0; t < s.n; t++) {
            store_rows(a, row + 8 * (s.first + r), tile * AXK_TILE + t,
                       acc[r][t]);
        }
    }
}


/* Tile shapes, as measured: what spills least and reads a line least often. */
INLINE void
run_tokens(const uint32_t format, const struct axk_matmul *a, uint32_t row,
           const uint8_t *panel, uint32_t tile, const uint32_t n)
{
    const uint32_t rows = n == 1                              ? 4
                          : n == 2 || is_float_format(format) ? 2
                                                              : 1;

    for (uint32_t first = 0; first < 4; first += rows) {
        run_tile(format, a, row, panel, tile, (struct shape){n, first, rows});
    }
}


INLINE void
run_panel(const uint32_t format, const struct axk_matmul *a, uint32_t row,
          const uint8_t *panel)
{
    uint32_t n_full = a->n_tokens / AXK_TILE;

    for (uint32_t tile = 0; tile < n_full; tile++) {
        run_tokens(format, a, row, panel, tile, AXK_TILE);
    }
    switch (a->n_tokens % AXK_TILE) {
    case 1:
        run_tokens(format, a, row, panel, n_full, 1);
        break;
    case 2:
        run_tokens(format, a, row, panel, n_full, 2);
        break;
    case 3:
        run_tokens(format, a, row, panel, n_full, 3);
        break;
    default:
        break;
    }
}


static void
axk_panel_f32_avx2(const struct axk_matmul *a, uint32_t row,
                   const uint8_t *panel)
{
    run_panel(AXK_F32, a, row, panel);
}


static void
axk_panel_f16_avx2(const struct axk_matmul *a, uint32_t row,
                   const uint8_t *panel)
{
    run_panel(AXK_F16, a, row, panel);
}


static void
axk_panel_bf16_avx2(const struct axk_matmul *a, uint32_t row,
                    const uint8_t *panel)
{
    run_panel(AXK_BF16, a, row, panel);
}


static void
axk_panel_q4_0_avx2(const struct axk_matmul *a, uint32_t row,
                    const uint8_t *panel)
{
    run_panel(AXK_Q4_0, a, row, panel);
}


static void
axk_panel_q4_1_avx2(const struct axk_matmul *a, uint32_t row,
                    const uint8_t *panel)
{
    run_panel(AXK_Q4_1, a, row, panel);
}


static void
axk_panel_q5_0_avx2(const struct axk_matmul *a, uint32_t row,
                    const uint8_t *panel)
{
    run_panel(AXK_Q5_0, a, row, panel);
}


static void
axk_panel_q5_1_avx2(const struct axk_matmul *a, uint32_t row,
                    const uint8_t *panel)
{
    run_panel(AXK_Q5_1, a, row, panel);
}


static void
axk_panel_q8_0_avx2(const struct axk_matmul *a, uint32_t row,
                    const uint8_t *panel)
{
    run_panel(AXK_Q8_0, a, row, panel);
}


static void
axk_panel_q2_k_avx2(const struct axk_matmul *a, uint32_t row,
                    const uint8_t *panel)
{
    run_panel(AXK_Q2_K, a, row, panel);
}


static void
axk_panel_q3_k_avx2(const struct axk_matmul *a, uint32_t row,
                    const uint8_t *panel)
{
    run_panel(AXK_Q3_K, a, row, panel);
}


static void
axk_panel_q4_k_avx2(const struct axk_matmul *a, uint32_t row,
                    const uint8_t *panel)
{
    run_panel(AXK_Q4_K, a, row, panel);
}


static void
axk_panel_q5_k_avx2(const struct axk_matmul *a, uint32_t row,
                    const uint8_t *panel)
{
    run_panel(AXK_Q5_K, a, row, panel);
}


static void
axk_panel_q6_k_avx2(const struct axk_matmul *a, uint32_t row,
                    const uint8_t *panel)
{
    run_panel(AXK_Q6_K, a, row, panel);
}


static void
axk_panel_iq4_nl_avx2(const struct axk_matmul *a, uint32_t row,
                      const uint8_t *panel)
{
    run_panel(AXK_IQ4_NL, a, row, panel);
}


static void
axk_panel_iq4_xs_avx2(const struct axk_matmul *a, uint32_t row,
                      const uint8_t *panel)
{
    run_panel(AXK_IQ4_XS, a, row, panel);
}


static void
axk_panel_mxfp4_avx2(const struct axk_matmul *a, uint32_t row,
                     const uint8_t *panel)
{
    run_panel(AXK_MXFP4, a, row, panel);
}


static const struct {
    uint32_t format;
    void (*panel)(const struct axk_matmul *a, uint32_t row,
                  const uint8_t *panel);
} panels[] = {
    {AXK_F32, axk_panel_f32_avx2},       {AXK_F16, axk_panel_f16_avx2},
    {AXK_BF16, axk_panel_bf16_avx2},     {AXK_Q4_0, axk_panel_q4_0_avx2},
    {AXK_Q4_1, axk_panel_q4_1_avx2},     {AXK_Q5_0, axk_panel_q5_0_avx2},
    {AXK_Q5_1, axk_panel_q5_1_avx2},     {AXK_Q8_0, axk_panel_q8_0_avx2},
    {AXK_Q2_K, axk_panel_q2_k_avx2},     {AXK_Q3_K, axk_panel_q3_k_avx2},
    {AXK_Q4_K, axk_panel_q4_k_avx2},     {AXK_Q5_K, axk_panel_q5_k_avx2},
    {AXK_Q6_K, axk_panel_q6_k_avx2},     {AXK_IQ4_NL, axk_panel_iq4_nl_avx2},
    {AXK_IQ4_XS, axk_panel_iq4_xs_avx2}, {AXK_MXFP4, axk_panel_mxfp4_avx2},
};


void
axk_matmul_avx2(const struct axk_matmul *a, uint32_t row0, uint32_t row1)
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
