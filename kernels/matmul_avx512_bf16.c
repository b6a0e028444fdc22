/*
 * Matmuls of BF16 weights with AVX512_BF16's dot: the class "bf16-dot" of
 * scalar_bf16.c, twice the rate of f32.  Everything else is avx512's.
 *
 * 256 k of a panel at a time become pairs of k (which the instruction wants
 * side by side), for all tokens of the call; a tile's activations are rounded
 * and paired as they are needed, for every panel again: a twentieth of the
 * work, and the activation buffer stays the one that all float formats share.
 */

#include "kernels/tiles_avx512.h"

#define CHUNK_K      256 /* 16 KiB of weights, 2 KiB of activations */
#define GROUP_TOKENS 512 /* whose results wait in 64 KiB of stack */


/* Rows of k and k + 1, side by side: out [pair][32 rows] words. */
INLINE void
pair_weights(const uint8_t *w, uint32_t k, uint32_t *out)
{
    const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11,
                                         42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37,
                                         5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));

    for (uint32_t i = 0; i < k; i += 2) {
        __m512i even = _mm512_loadu_si512(w);
        __m512i odd = _mm512_setzero_si512();

        if (i + 1 < k) {
            odd = _mm512_loadu_si512(w + 64);
        }
        _mm512_store_si512(out, _mm512_permutex2var_epi16(even, low, odd));
        _mm512_store_si512(out + 16,
                           _mm512_permutex2var_epi16(even, high, odd));
        w += 128;
        out += 32;
    }
}


/* The first n of 16 floats, n of any sign; zeros behind. */
INLINE __m512
load_first(const float *x, int64_t n)
{
    if (n >= 16) {
        return _mm512_loadu_ps(x);
    }
    return _mm512_maskz_loadu_ps((__mmask16)(n > 0 ? (1u << n) - 1 : 0), x);
}


/* x [k][n tokens] f32 to [pair][n] words of two BF16; up to a vector more is
 * written. */
INLINE void
pair_activations(const float *x, uint32_t k, const uint32_t n, uint32_t *out)
{
    const uint32_t pairs = 16 / n; /* in one step */
    int64_t left = (int64_t)k * n;
    uint16_t from[32];

    for (uint32_t i = 0; i < 32; i++) {
        uint32_t word = i / 2;

        from[i] = (uint16_t)((2 * (word / n) + i % 2) * n + word % n);
    }
    const __m512i order = _mm512_loadu_si512(from);

    for (uint32_t i = 0; i < k; i += 2 * pairs) {
        __m512 low = load_first(x, left);
        __m512 high = load_first(x + 16, left - 16);
        __m512i both = (__m512i)_mm512_cvtne2ps_pbh(high, low);

        _mm512_storeu_si512(out, _mm512_permutexvar_epi16(order, both));
        x += 2 * pairs * n;
        left -= 2 * pairs * n;
        out += pairs * n;
    }
}


/* k of a panel's pairs w for the n tokens of a tile, added to sofar or, after
 * the last k, stored. */
INLINE void
run_tile(const struct axk_matmul *a, uint32_t row, const uint32_t *w,
         uint32_t k0, uint32_t k, uint32_t tile, const int n, float *sofar)
{
    const float *x = (const float *)a->act +
                     tile * act_tile_words(AXK_ACT_F32, a->k) +
                     (size_t)k0 * (uint32_t)n;
    uint32_t pairs[CHUNK_K / 2 * AXK_TILE + 16] __attribute__((aligned(64)));
    const uint32_t *p = pairs;
    __m512 acc[2][AXK_TILE];

    pair_activations(x, k, (uint32_t)n, pairs);
    load_sofar(sofar, k0 == 0, n, acc);
    for (uint32_t i = 0; i < k; i += 2) {
        __m512bh w0 = (__m512bh)_mm512_load_si512(w);
        __m512bh w1 = (__m512bh)_mm512_load_si512(w + 16);

        for (int t = 0; t < n; t++) {
            __m512bh v = (__m512bh)word(p + t);

            acc[0][t] = _mm512_dpbf16_ps(acc[0][t], w0, v);
            acc[1][t] = _mm512_dpbf16_ps(acc[1][t], w1, v);
        }
        w += 32;
        p += n;
    }
    if (k0 + k == a->k) {
        store_tile(a, row, tile * AXK_TILE, n, acc);
    } else {
        store_sofar(sofar, n, acc);
    }
}


/* Tiles [tile0, tile1) of a panel. */
static void
run_tiles(const struct axk_matmul *a, uint32_t row, const uint8_t *panel,
          uint32_t tile0, uint32_t tile1)
{
    uint32_t w[CHUNK_K / 2 * AXK_PANEL_ROWS] __attribute__((aligned(64)));
    float sofar[GROUP_TOKENS / AXK_TILE][SOFAR_FLOATS]
        __attribute__((aligned(64)));

    for (uint32_t i = 0; i < a->k; i += CHUNK_K) {
        uint32_t k = a->k - i < CHUNK_K ? a->k - i : CHUNK_K;

        pair_weights(panel + i * panel_block_bytes(AXK_BF16), k, w);
        for (uint32_t tile = tile0; tile < tile1; tile++) {
            float *acc = sofar[tile - tile0];

            switch (tile_tokens(a->n_tokens, tile)) {
            case 1:
                run_tile(a, row, w, i, k, tile, 1, acc);
                break;
            case 2:
                run_tile(a, row, w, i, k, tile, 2, acc);
                break;
            case 3:
                run_tile(a, row, w, i, k, tile, 3, acc);
                break;
            default:
                run_tile(a, row, w, i, k, tile, AXK_TILE, acc);
                break;
            }
        }
    }
}


void
axk_matmul_avx512_bf16(const struct axk_matmul *a, uint32_t row0, uint32_t row1)
{
    const uint32_t step = GROUP_TOKENS / AXK_TILE;
    size_t panel_bytes = a->k * panel_block_bytes(AXK_BF16);
    const uint8_t *panel =
        (const uint8_t *)a->w + row0 / AXK_PANEL_ROWS * panel_bytes;
    uint32_t n_tiles = axk_act_tiles(a->n_tokens);

    if (a->format != AXK_BF16) {
        axk_matmul_avx512(a, row0, row1);
        return;
    }
    for (uint32_t row = row0; row < row1; row += AXK_PANEL_ROWS) {
        for (uint32_t tile = 0; tile < n_tiles; tile += step) {
            uint32_t end = n_tiles - tile < step ? n_tiles : tile + step;

            run_tiles(a, row, panel, tile, end);
        }
        panel += panel_bytes;
    }
}
