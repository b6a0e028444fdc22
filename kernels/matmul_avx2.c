/*
 * Matmuls for AVX2 with FMA and F16C, on the same packed bytes as AVX-512 and
 * with the same results.  Lanes are rows, eight to a ymm; with 16 registers a
 * tile is 32 rows times one token, or 16 rows times two.
 *
 * vpmaddubsw adds pairs of products in 16 bits, saturating, so operands are
 * kept where it cannot saturate: nibbles are at most 15, and eight steps of a
 * block still fit (8 * 2 * 15 * 127 = 30480); bytes are brought back to
 * signed, and the sign moved to the activation (2 * 128 * 127 = 32512), each
 * step widened to 32 bits.  scalar_matmul.c has the definition.
 */

#include <immintrin.h>

#include "kernels/axk.h"
#include "kernels/internal.h"

#define INLINE static inline __attribute__((always_inline))

#define ROWS_MAX   4 /* ymm of rows in a tile */
#define TOKENS_MAX 2


INLINE __m256
load_8_f16(const uint8_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}


INLINE __m256i
load_32_bytes(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}


INLINE __m256i
word(const uint32_t *p)
{
    return _mm256_set1_epi32((int32_t)*p);
}


INLINE __m256
word_f32(const uint32_t *p)
{
    return _mm256_castsi256_ps(word(p));
}


/* The four k-steps of a block of nibbles; n is the tokens of the record. */
INLINE void
dot_4bit(const uint8_t *w, const uint32_t *a, const uint32_t n,
         const int rows, const int tokens, __m256i sum[ROWS_MAX][TOKENS_MAX])
{
    const __m256i mask = _mm256_set1_epi8(15);
    const __m256i ones = _mm256_set1_epi16(1);

    for (int r = 0; r < rows; r++) {
        for (int t = 0; t < tokens; t++) {
            sum[r][t] = _mm256_setzero_si256();
        }
    }
#pragma GCC unroll 1
    for (int i = 0; i < 4; i++) {
        for (int r = 0; r < rows; r++) {
            __m256i q = load_32_bytes(w + 32 * r);
            __m256i lo = _mm256_and_si256(q, mask);
            __m256i hi = _mm256_and_si256(_mm256_srli_epi16(q, 4), mask);

            for (int t = 0; t < tokens; t++) {
                sum[r][t] = _mm256_add_epi16(
                    sum[r][t], _mm256_maddubs_epi16(lo, word(a + t)));
                sum[r][t] = _mm256_add_epi16(
                    sum[r][t], _mm256_maddubs_epi16(hi, word(a + n + t)));
            }
        }
        w += 128;
        a += 2 * n;
    }
    for (int r = 0; r < rows; r++) {
        for (int t = 0; t < tokens; t++) {
            sum[r][t] = _mm256_madd_epi16(sum[r][t], ones);
        }
    }
}


/* The eight k-steps of a block of bytes. */
INLINE void
dot_8bit(const uint8_t *w, const uint32_t *a, const uint32_t n,
         const int rows, const int tokens, __m256i sum[ROWS_MAX][TOKENS_MAX])
{
    const __m256i offset = _mm256_set1_epi8(-128);
    const __m256i ones = _mm256_set1_epi16(1);

    for (int r = 0; r < rows; r++) {
        for (int t = 0; t < tokens; t++) {
            sum[r][t] = _mm256_setzero_si256();
        }
    }
#pragma GCC unroll 1
    for (int i = 0; i < 8; i++) {
        for (int r = 0; r < rows; r++) {
            __m256i q = _mm256_xor_si256(load_32_bytes(w + 32 * r), offset);
            __m256i magnitude = _mm256_abs_epi8(q);

            for (int t = 0; t < tokens; t++) {
                __m256i x = _mm256_sign_epi8(word(a + t), q);
                __m256i pairs = _mm256_maddubs_epi16(magnitude, x);

                sum[r][t] = _mm256_add_epi32(sum[r][t],
                                             _mm256_madd_epi16(pairs, ones));
            }
        }
        w += 128;
        a += n;
    }
}


/* w: the tile's first ymm of rows, row_vector its number in the panel; a: the
 * tile's first token in records of n tokens. */
INLINE void
tile_blocks(const uint32_t format, const uint8_t *w, const uint32_t *a,
            uint32_t n_blocks, const uint32_t n, uint32_t row_vector,
            const int rows, const int tokens,
            __m256 acc[ROWS_MAX][TOKENS_MAX])
{
    const size_t steps = format == AXK_Q4_1 ? 128 : 64;

    for (uint32_t b = 0; b < n_blocks; b++) {
        __m256i sum[ROWS_MAX][TOKENS_MAX];

        if (format == AXK_Q8_0) {
            dot_8bit(w + steps + 32 * row_vector, a, n, rows, tokens, sum);
        } else {
            dot_4bit(w + steps + 32 * row_vector, a, n, rows, tokens, sum);
        }
        for (int r = 0; r < rows; r++) {
            const uint8_t *scales = w + 16 * (row_vector + (uint32_t)r);
            __m256 d = load_8_f16(scales);

            for (int t = 0; t < tokens; t++) {
                __m256 x;

                if (format == AXK_Q4_0) {
                    sum[r][t] = _mm256_add_epi32(
                        sum[r][t], word(a + AXK_ACT_SUM8 * n + t));
                }
                x = _mm256_mul_ps(d, word_f32(a + AXK_ACT_D * n + t));
                acc[r][t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[r][t]), x,
                                            acc[r][t]);
                if (format == AXK_Q4_1) {
                    x = word_f32(a + AXK_ACT_S * n + t);
                    acc[r][t] =
                        _mm256_fmadd_ps(load_8_f16(scales + 64), x, acc[r][t]);
                }
            }
        }
        w += panel_block_bytes(format);
        a += AXK_ACT_WORDS * n;
    }
}


INLINE void
tile_floats(const uint32_t format, const uint8_t *w, const uint32_t *a,
            uint32_t k, const uint32_t n, uint32_t row_vector, const int rows,
            const int tokens, __m256 acc[ROWS_MAX][TOKENS_MAX])
{
    for (uint32_t i = 0; i < k; i++) {
        for (int r = 0; r < rows; r++) {
            uint32_t vector = row_vector + (uint32_t)r;
            __m256 x = format == AXK_F16
                           ? load_8_f16(w + 16 * vector)
                           : _mm256_loadu_ps((const float *)w + 8 * vector);

            for (int t = 0; t < tokens; t++) {
                acc[r][t] = _mm256_fmadd_ps(x, word_f32(a + t), acc[r][t]);
            }
        }
        w += panel_block_bytes(format);
        a += n;
    }
}


/* Eight rows from row on, of which left exist (0 or less: none). */
INLINE void
store_rows(const struct axk_matmul *a, uint32_t row, uint32_t m, __m256 x)
{
    float *y = a->y + m * a->y_stride + row;
    float lanes[8] = { 0 };
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


/* Rows of row_vector.. and tokens t0.. of a tile of n tokens. */
INLINE void
run_tile(const uint32_t format, const struct axk_matmul *a, uint32_t row,
         const uint8_t *panel, uint32_t tile, const uint32_t n, uint32_t t0,
         uint32_t row_vector, const int rows, const int tokens)
{
    const bool floats = format == AXK_F32 || format == AXK_F16;
    const enum axk_act kind = floats ? AXK_ACT_F32 : AXK_ACT_Q8;
    const uint32_t *act =
        (const uint32_t *)a->act + tile * act_tile_words(kind, a->k) + t0;
    __m256 acc[ROWS_MAX][TOKENS_MAX];

    for (int r = 0; r < rows; r++) {
        for (int t = 0; t < tokens; t++) {
            acc[r][t] = _mm256_setzero_ps();
        }
    }
    if (floats) {
        tile_floats(format, panel, act, a->k, n, row_vector, rows, tokens,
                    acc);
    } else {
        tile_blocks(format, panel, act, a->k / AXK_QK, n, row_vector, rows,
                    tokens, acc);
    }
    for (int r = 0; r < rows; r++) {
        for (int t = 0; t < tokens; t++) {
            store_rows(a, row + 8 * (row_vector + (uint32_t)r),
                       tile * AXK_TILE + t0 + (uint32_t)t, acc[r][t]);
        }
    }
}


INLINE void
run_tokens(const uint32_t format, const struct axk_matmul *a, uint32_t row,
           const uint8_t *panel, uint32_t tile, const uint32_t n)
{
    if (n == 1) {
        run_tile(format, a, row, panel, tile, n, 0, 0, 4, 1);
        return;
    }
    for (uint32_t row_vector = 0; row_vector < 4; row_vector += 2) {
        for (uint32_t t = 0; t + 2 <= n; t += 2) {
            run_tile(format, a, row, panel, tile, n, t, row_vector, 2, 2);
        }
        if (n % 2 != 0) {
            run_tile(format, a, row, panel, tile, n, n - 1, row_vector, 2, 1);
        }
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
axk_panel_q8_0_avx2(const struct axk_matmul *a, uint32_t row,
                    const uint8_t *panel)
{
    run_panel(AXK_Q8_0, a, row, panel);
}


void
axk_matmul_avx2(const struct axk_matmul *a, uint32_t row0, uint32_t row1)
{
    const struct axk_format_traits *f = axk_format_traits(a->format);
    size_t panel_bytes =
        (a->k / f->block_elems) * panel_block_bytes(a->format);
    const uint8_t *panel =
        (const uint8_t *)a->w + row0 / AXK_PANEL_ROWS * panel_bytes;

    for (uint32_t row = row0; row < row1; row += AXK_PANEL_ROWS) {
        switch (a->format) {
        case AXK_F32:
            axk_panel_f32_avx2(a, row, panel);
            break;
        case AXK_F16:
            axk_panel_f16_avx2(a, row, panel);
            break;
        case AXK_Q4_0:
            axk_panel_q4_0_avx2(a, row, panel);
            break;
        case AXK_Q4_1:
            axk_panel_q4_1_avx2(a, row, panel);
            break;
        case AXK_Q8_0:
            axk_panel_q8_0_avx2(a, row, panel);
            break;
        }
        panel += panel_bytes;
    }
}
