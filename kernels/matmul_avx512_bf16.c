/*
 * Matmuls of BF16 weights with AVX512_BF16's dot: the class "bf16-dot" of
 * scalar_bf16.c, twice the rate of f32.  Everything else is avx512's.
 *
 * The instruction wants two k side by side, the panel has them one above the
 * other: weights are paired in registers on the way, for two tiles of tokens,
 * and written nowhere.  Activations are rounded and paired as they are needed,
 * for every panel again: a twentieth of the work, and the activation buffer
 * stays the one that all float formats share.
 */

#include "kernels/bf16_pairs.h"

#define CHUNK_K 256 /* of activations at a time, 2 KiB of a tile */

/* Bytes that are fetched ahead, two lines a step: else the time of memory and
 * that of the arithmetic add up from 4 tokens on. */
#define AHEAD 4096


/* acc += two k (one line of a panel each) times the pairs p of n tokens. */
INLINE void
dot_lines(__m512i even, __m512i odd, const uint32_t *p, const int n,
          __m512 acc[2][AXK_TILE])
{
    __m512i w[2];

    pair_lines(even, odd, w);
    for (int t = 0; t < n; t++) {
        __m512bh v = (__m512bh)word(p + t);

        acc[0][t] = _mm512_dpbf16_ps(acc[0][t], (__m512bh)w[0], v);
        acc[1][t] = _mm512_dpbf16_ps(acc[1][t], (__m512bh)w[1], v);
    }
}


/* A panel times the n0 tokens of a tile and the n1 of the one behind it. */
INLINE void
run_tiles(const struct axk_matmul *a, uint32_t row, const uint8_t *w,
          uint32_t tile, const int n0, const int n1)
{
    const size_t words = act_tile_words(AXK_ACT_F32, a->k);
    const float *x0 = (const float *)a->act + tile * words;
    const float *x1 = n1 > 0 ? x0 + words : NULL;
    uint32_t pairs[2][CHUNK_K / 2 * AXK_TILE + 16] __attribute__((aligned(64)));
    __m512 acc0[2][AXK_TILE];
    __m512 acc1[2][AXK_TILE];

    load_sofar(NULL, true, n0, acc0);
    load_sofar(NULL, true, n1, acc1);
    for (uint32_t i = 0; i < a->k; i += CHUNK_K) {
        uint32_t k = a->k - i < CHUNK_K ? a->k - i : CHUNK_K;
        const uint32_t *p0 = pairs[0];
        const uint32_t *p1 = pairs[1];

        pair_activations(x0 + (size_t)i * (uint32_t)n0, k, (uint32_t)n0,
                         pairs[0]);
        if (n1 > 0) {
            pair_activations(x1 + (size_t)i * (uint32_t)n1, k, (uint32_t)n1,
                             pairs[1]);
        }
        for (uint32_t j = 0; j < k; j += 2) {
            __m512i even = _mm512_loadu_si512(w);
            __m512i odd = _mm512_setzero_si512();

            _mm_prefetch((const char *)w + AHEAD, _MM_HINT_T0);
            _mm_prefetch((const char *)w + AHEAD + 64, _MM_HINT_T0);
            if (j + 1 < k) {
                odd = _mm512_loadu_si512(w + 64);
            }
            dot_lines(even, odd, p0, n0, acc0);
            dot_lines(even, odd, p1, n1, acc1);
            w += 128;
            p0 += n0;
            p1 += n1;
        }
    }
    store_tile(a, row, tile * AXK_TILE, n0, acc0);
    store_tile(a, row, (tile + 1) * AXK_TILE, n1, acc1);
}


static void
run_panel(const struct axk_matmul *a, uint32_t row, const uint8_t *panel)
{
    uint32_t n_tiles = axk_act_tiles(a->n_tokens);

    for (uint32_t tile = 0; tile < n_tiles; tile += 2) {
        uint32_t left = a->n_tokens - tile * AXK_TILE;

        switch (left) {
        case 1:
            run_tiles(a, row, panel, tile, 1, 0);
            break;
        case 2:
            run_tiles(a, row, panel, tile, 2, 0);
            break;
        case 3:
            run_tiles(a, row, panel, tile, 3, 0);
            break;
        case 4:
            run_tiles(a, row, panel, tile, 4, 0);
            break;
        case 5:
            run_tiles(a, row, panel, tile, 4, 1);
            break;
        case 6:
            run_tiles(a, row, panel, tile, 4, 2);
            break;
        case 7:
            run_tiles(a, row, panel, tile, 4, 3);
            break;
        default:
            run_tiles(a, row, panel, tile, 4, 4);
            break;
        }
    }
}


void
axk_matmul_avx512_bf16(const struct axk_matmul *a, uint32_t row0, uint32_t row1)
{
    size_t panel_bytes = a->k * panel_block_bytes(AXK_BF16);
    const uint8_t *panel =
        (const uint8_t *)a->w + row0 / AXK_PANEL_ROWS * panel_bytes;

    if (a->format != AXK_BF16) {
        axk_matmul_avx512(a, row0, row1);
        return;
    }
    for (uint32_t row = row0; row < row1; row += AXK_PANEL_ROWS) {
        run_panel(a, row, panel);
        panel += panel_bytes;
    }
}
