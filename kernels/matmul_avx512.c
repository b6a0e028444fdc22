/*
 * Matmuls for AVX-512 with VNNI.  A tile is 32 rows (two zmm whose lanes are
 * rows) times up to 4 tokens: 8 integer and 8 f32 accumulators, all in
 * registers, and no horizontal add anywhere.  scalar_matmul.c has the
 * definition, internal.h the layout.
 *
 * Measured rules kept here: weights are read strictly upwards, the k loop
 * stays rolled, nothing is prefetched by software.  The offset of stored
 * weights (8 for Q4_0, 128 for Q8_0) costs nothing, since the integer sums
 * start at minus its share.
 */

#include <immintrin.h>

#include "kernels/axk.h"
#include "kernels/internal.h"

#define INLINE static inline __attribute__((always_inline))


INLINE __m512
load_16_f16(const uint8_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}


INLINE __m512i
word(const uint32_t *p)
{
    return _mm512_set1_epi32((int32_t)*p);
}


INLINE __m512
word_f32(const uint32_t *p)
{
    return _mm512_castsi512_ps(word(p));
}


/* 128 bytes of nibbles, 8 k: low nibbles first. */
INLINE void
step_4bit(const uint8_t *w, const uint32_t *a, const int n,
          __m512i sum[2][AXK_TILE])
{
    const __m512i mask = _mm512_set1_epi8(15);
    __m512i w0 = _mm512_loadu_si512(w);
    __m512i w1 = _mm512_loadu_si512(w + 64);
    __m512i lo0 = _mm512_and_si512(w0, mask);
    __m512i lo1 = _mm512_and_si512(w1, mask);
    __m512i hi0 = _mm512_and_si512(_mm512_srli_epi16(w0, 4), mask);
    __m512i hi1 = _mm512_and_si512(_mm512_srli_epi16(w1, 4), mask);

    for (int t = 0; t < n; t++) {
        __m512i x = word(a + t);

        sum[0][t] = _mm512_dpbusd_epi32(sum[0][t], lo0, x);
        sum[1][t] = _mm512_dpbusd_epi32(sum[1][t], lo1, x);
    }
    for (int t = 0; t < n; t++) {
        __m512i x = word(a + n + t);

        sum[0][t] = _mm512_dpbusd_epi32(sum[0][t], hi0, x);
        sum[1][t] = _mm512_dpbusd_epi32(sum[1][t], hi1, x);
    }
}


/* 128 bytes, 4 k. */
INLINE void
step_8bit(const uint8_t *w, const uint32_t *a, const int n,
          __m512i sum[2][AXK_TILE])
{
    __m512i w0 = _mm512_loadu_si512(w);
    __m512i w1 = _mm512_loadu_si512(w + 64);

    for (int t = 0; t < n; t++) {
        __m512i x = word(a + t);

        sum[0][t] = _mm512_dpbusd_epi32(sum[0][t], w0, x);
        sum[1][t] = _mm512_dpbusd_epi32(sum[1][t], w1, x);
    }
}


INLINE void
start_sums(const uint32_t format, const uint32_t *record, const int n,
           __m512i sum[2][AXK_TILE])
{
    for (int t = 0; t < n; t++) {
        __m512i x = _mm512_setzero_si512();

        if (format == AXK_Q4_0) {
            x = word(record + AXK_ACT_SUM8 * n + t);
        } else if (format == AXK_Q8_0) {
            x = word(record + AXK_ACT_SUM128 * n + t);
        }
        sum[0][t] = x;
        sum[1][t] = x;
    }
}


/* All blocks of a panel times the n tokens of a tile. */
INLINE void
tile_blocks(const uint32_t format, const uint8_t *w, const uint32_t *act,
            uint32_t n_blocks, const int n, __m512 acc[2][AXK_TILE])
{
    for (uint32_t b = 0; b < n_blocks; b++) {
        __m512i sum[2][AXK_TILE];
        __m512 d0 = load_16_f16(w);
        __m512 d1 = load_16_f16(w + 32);
        __m512 m0 = _mm512_setzero_ps();
        __m512 m1 = m0;

        w += 64;
        if (format == AXK_Q4_1) {
            m0 = load_16_f16(w);
            m1 = load_16_f16(w + 32);
            w += 64;
        }
        start_sums(format, act, n, sum);
        if (format == AXK_Q8_0) {
#pragma GCC unroll 1
            for (int i = 0; i < 8; i++) {
                step_8bit(w, act + i * n, n, sum);
                w += 128;
            }
        } else {
#pragma GCC unroll 1
            for (int i = 0; i < 4; i++) {
                step_4bit(w, act + 2 * i * n, n, sum);
                w += 128;
            }
        }
        for (int t = 0; t < n; t++) {
            __m512 d = word_f32(act + AXK_ACT_D * n + t);

            acc[0][t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[0][t]),
                                        _mm512_mul_ps(d0, d), acc[0][t]);
            acc[1][t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[1][t]),
                                        _mm512_mul_ps(d1, d), acc[1][t]);
        }
        if (format == AXK_Q4_1) {
            for (int t = 0; t < n; t++) {
                __m512 s = word_f32(act + AXK_ACT_S * n + t);

                acc[0][t] = _mm512_fmadd_ps(m0, s, acc[0][t]);
                acc[1][t] = _mm512_fmadd_ps(m1, s, acc[1][t]);
            }
        }
        act += AXK_ACT_WORDS * n;
    }
}


INLINE void
tile_floats(const uint32_t format, const uint8_t *w, const uint32_t *act,
            uint32_t k, const int n, __m512 acc[2][AXK_TILE])
{
    for (uint32_t i = 0; i < k; i++) {
        __m512 w0;
        __m512 w1;

        if (format == AXK_F16) {
            w0 = load_16_f16(w);
            w1 = load_16_f16(w + 32);
            w += 64;
        } else {
            w0 = _mm512_loadu_ps(w);
            w1 = _mm512_loadu_ps(w + 64);
            w += 128;
        }
        for (int t = 0; t < n; t++) {
            __m512 x = word_f32(act + t);

            acc[0][t] = _mm512_fmadd_ps(w0, x, acc[0][t]);
            acc[1][t] = _mm512_fmadd_ps(w1, x, acc[1][t]);
        }
        act += n;
    }
}


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
    const bool floats = format == AXK_F32 || format == AXK_F16;
    const enum axk_act kind = floats ? AXK_ACT_F32 : AXK_ACT_Q8;
    const uint32_t *act =
        (const uint32_t *)a->act + tile * act_tile_words(kind, a->k);
    __m512 acc[2][AXK_TILE];

    for (int t = 0; t < n; t++) {
        acc[0][t] = _mm512_setzero_ps();
        acc[1][t] = _mm512_setzero_ps();
    }
    if (floats) {
        tile_floats(format, panel, act, a->k, n, acc);
    } else {
        tile_blocks(format, panel, act, a->k / AXK_QK, n, acc);
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
axk_panel_q8_0_avx512(const struct axk_matmul *a, uint32_t row,
                      const uint8_t *panel)
{
    run_panel(AXK_Q8_0, a, row, panel);
}


void
axk_matmul_avx512(const struct axk_matmul *a, uint32_t row0, uint32_t row1)
{
    const struct axk_format_traits *f = axk_format_traits(a->format);
    size_t panel_bytes =
        (a->k / f->block_elems) * panel_block_bytes(a->format);
    const uint8_t *panel =
        (const uint8_t *)a->w + row0 / AXK_PANEL_ROWS * panel_bytes;

    for (uint32_t row = row0; row < row1; row += AXK_PANEL_ROWS) {
        switch (a->format) {
        case AXK_F32:
            axk_panel_f32_avx512(a, row, panel);
            break;
        case AXK_F16:
            axk_panel_f16_avx512(a, row, panel);
            break;
        case AXK_Q4_0:
            axk_panel_q4_0_avx512(a, row, panel);
            break;
        case AXK_Q4_1:
            axk_panel_q4_1_avx512(a, row, panel);
            break;
        case AXK_Q8_0:
            axk_panel_q8_0_avx512(a, row, panel);
            break;
        }
        panel += panel_bytes;
    }
}
