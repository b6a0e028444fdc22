/*
 * Matmuls for AVX-512 with VNNI: walks panels and tiles of tokens.  The
 * arithmetic is in tiles_avx512.h.
 */

#include "kernels/tiles_avx512.h"
#include "kernels/decoded_avx512.h"
#include "kernels/scaled_avx512.h"


/* What a full tile fetches of the panel that follows: all of them together
 * the whole of it, in order.  Up to three tokens, and four of Q8_0, do not:
 * they are bound by memory alone. */
INLINE struct fetch
fetch_of(const uint32_t format, const struct axk_matmul *a,
         const uint8_t *panel, uint32_t tile)
{
    const uint32_t lines = (uint32_t)(panel_block_bytes(format) + 63) / 64;
    const uint32_t steps = is_k_format(format) ? n_lines(format) : 1;
    const uint32_t full = a->n_tokens / AXK_TILE;
    const size_t n_blocks = a->k / block_elems(format);
    const size_t bytes = n_blocks * panel_block_bytes(format);
    struct fetch f = {
        .at = (const char *)panel + bytes,
        .sparse = a->n_tokens <= SPARSE_TOKENS,
    };

    if (tile < full && (format != AXK_Q8_0 || a->n_tokens > AXK_TILE)) {
        uint32_t share = (lines + full * steps - 1) / (full * steps);
        size_t start = tile * n_blocks * steps * share * 64;

        f.at += start;
        f.lines = start < bytes ? share : 0;
    }
    return f;
}


INLINE void
run_tile(const uint32_t format, const struct axk_matmul *a, uint32_t row,
         const uint8_t *panel, uint32_t tile, const int n)
{
    const enum axk_act kind = act_kind(format);
    const uint32_t *act =
        (const uint32_t *)a->act + tile * act_tile_words(kind, a->k);
    __m512 acc[2][AXK_TILE];
    struct fetch f = fetch_of(format, a, panel, tile);

    load_sofar(NULL, true, n, acc);
    if (kind == AXK_ACT_F32) {
        tiles_floats(format, panel, act, act, a->k, n, 0, acc, acc);
    } else if (kind == AXK_ACT_Q8_K) {
        tile_blocks_256(format, panel, act, a->k / AXK_QK_K, n, f, acc);
    } else {
        tile_blocks_32(format, panel, act, a->k / AXK_QK, n, f, acc);
    }
    store_tile(a, row, tile * AXK_TILE, n, acc);
}


/* Blocks [b0, b0 + n_blocks) of a panel whose codes are decoded, for the
 * tokens of a tile; sofar: their results, between the first blocks and the
 * last. */
INLINE void
run_decoded_tile(const uint32_t format, const struct axk_matmul *a,
                 uint32_t row, const uint8_t *w, const uint8_t *codes,
                 uint32_t b0, uint32_t n_blocks, uint32_t tile, const int n,
                 float *sofar)
{
    const enum axk_act kind = act_kind(format);
    const uint32_t elems = block_elems(format);
    const uint32_t words = record_words(format);
    const uint32_t *act = (const uint32_t *)a->act +
                          tile * act_tile_words(kind, a->k) +
                          (size_t)b0 * words * (uint32_t)n;
    __m512 acc[2][AXK_TILE];

    load_sofar(sofar, b0 == 0, n, acc);
    if (kind == AXK_ACT_Q8_K) {
        decoded_blocks_256(format, w, codes, act, n_blocks, n, acc);
    } else {
        decoded_blocks_32(format, w, codes, act, n_blocks, n, acc);
    }
    if ((b0 + n_blocks) * elems == a->k) {
        store_tile(a, row, tile * AXK_TILE, n, acc);
    } else {
        store_sofar(sofar, n, acc);
    }
}


/* Tiles [tile0, tile1) of a panel, the codes decoded once for all of them. */
INLINE void
run_decoded(const uint32_t format, const struct axk_matmul *a, uint32_t row,
            const uint8_t *panel, uint32_t tile0, uint32_t tile1)
{
    const uint32_t elems = block_elems(format);
    const uint32_t chunk = DECODED_K / elems;
    uint32_t n_blocks = a->k / elems;
    uint8_t codes[DECODED_K * AXK_PANEL_ROWS] __attribute__((aligned(64)));
    float sofar[DECODED_TOKENS / AXK_TILE][SOFAR_FLOATS]
        __attribute__((aligned(64)));

    for (uint32_t b = 0; b < n_blocks; b += chunk) {
        uint32_t n = n_blocks - b < chunk ? n_blocks - b : chunk;
        const uint8_t *w = panel + b * panel_block_bytes(format);

        decode(format, w, n, codes);
        for (uint32_t tile = tile0; tile < tile1; tile++) {
            float *acc = sofar[tile - tile0];

            switch (tile_tokens(a->n_tokens, tile)) {
            case 1:
                run_decoded_tile(format, a, row, w, codes, b, n, tile, 1, acc);
                break;
            case 2:
                run_decoded_tile(format, a, row, w, codes, b, n, tile, 2, acc);
                break;
            case 3:
                run_decoded_tile(format, a, row, w, codes, b, n, tile, 3, acc);
                break;
            default:
                run_decoded_tile(format, a, row, w, codes, b, n, tile, 4, acc);
                break;
            }
        }
    }
}


/* Tiles from which decoding first is faster, as measured; 0: never, since
 * the plain loops are at their ceiling already. */
INLINE uint32_t
decoded_from(const uint32_t format)
{
    if (is_two_bit(format)) {
        return 4;
    }
    return high_bits(format) ? 12 : 0;
}


/* Two tiles of tokens at a time. */
INLINE bool
has_pairs(const uint32_t format)
{
    return is_float_format(format) || is_two_bit(format);
}


INLINE void
run_pair(const uint32_t format, const struct axk_matmul *a, uint32_t row,
         const uint8_t *panel, uint32_t tile, const int n0, const int n1)
{
    const enum axk_act kind = act_kind(format);
    const size_t words = act_tile_words(kind, a->k);
    const uint32_t *act0 = (const uint32_t *)a->act + tile * words;
    const uint32_t *act1 = n1 > 0 ? act0 + words : act0;
    __m512 acc0[2][AXK_TILE];
    __m512 acc1[2][AXK_TILE];

    load_sofar(NULL, true, n0, acc0);
    load_sofar(NULL, true, n1, acc1);
    if (kind == AXK_ACT_F32) {
        tiles_floats(format, panel, act0, act1, a->k, n0, n1, acc0, acc1);
    } else {
        tiles_scaled(format, panel, act0, act1, a->k / AXK_QK_K, n0, n1, acc0,
                     acc1);
    }
    store_tile(a, row, tile * AXK_TILE, n0, acc0);
    store_tile(a, row, (tile + 1) * AXK_TILE, n1, acc1);
}


/* The pair from tile on; left: tokens from there to the end, 5 and more. */
INLINE void
run_pair_of(const uint32_t format, const struct axk_matmul *a, uint32_t row,
            const uint8_t *panel, uint32_t tile, uint32_t left)
{
    switch (left) {
    case 5:
        run_pair(format, a, row, panel, tile, 4, 1);
        break;
    case 6:
        run_pair(format, a, row, panel, tile, 4, 2);
        break;
    case 7:
        run_pair(format, a, row, panel, tile, 4, 3);
        break;
    default:
        run_pair(format, a, row, panel, tile, 4, 4);
        break;
    }
}


INLINE void
run_panel(const uint32_t format, const struct axk_matmul *a, uint32_t row,
          const uint8_t *panel)
{
    uint32_t n_tiles = axk_act_tiles(a->n_tokens);
    uint32_t step = DECODED_TOKENS / AXK_TILE;
    uint32_t tile = 0;

    if (decoded_from(format) != 0 && n_tiles >= decoded_from(format)) {
        for (; tile < n_tiles; tile += step) {
            uint32_t end = n_tiles - tile < step ? n_tiles : tile + step;
            run_decoded(format, a, row, panel, tile, end);
        }
        return;
    }
    for (; has_pairs(format) && tile + 1 < n_tiles; tile += 2) {
        run_pair_of(format, a, row, panel, tile, a->n_tokens - tile * AXK_TILE);
    }
    for (; tile < n_tiles; tile++) {
        switch (tile_tokens(a->n_tokens, tile)) {
        case 1:
            run_tile(format, a, row, panel, tile, 1);
            break;
        case 2:
            run_tile(format, a, row, panel, tile, 2);
            break;
        case 3:
            run_tile(format, a, row, panel, tile, 3);
            break;
        default:
            run_tile(format, a, row, panel, tile, AXK_TILE);
            break;
        }
    }
}


#include "kernels/panels.inc.h"


void
axk_matmul_avx512(const struct axk_matmul *a, uint32_t row0, uint32_t row1)
{
    matmul_panels(a, row0, row1);
}
