/*
 * Matmuls over ymm: walks panels and tiles of tokens, and ends a tile with
 * bias, residual and store.  matmul_avx2.c and matmul_avxvnni.c include it,
 * with AXK_YMM_VNNI 0 or 1: which integer dots tiles_ymm.h uses.
 */

#include "kernels/tiles_ymm.h"


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


/* Bytes of a panel between two looks at memory: they stay in L1 while all row
 * vectors are done. */
#define CHUNK_BYTES 4096


/* Blocks of a panel for the rows of one shape, added to acc. */
INLINE void
run_blocks(const uint32_t format, const uint8_t *w, const uint8_t *ahead,
           const uint32_t *act, uint32_t n_blocks, const struct shape s,
           struct expanded *e, results acc)
{
    if (is_float_format(format)) {
        tile_floats(format, s, w, ahead, act, n_blocks, acc);
    } else if (is_k_format(format)) {
        tile_blocks_256(format, s, w, ahead, act, n_blocks, e, acc);
    } else {
        tile_blocks_32(format, s, w, ahead, act, n_blocks, acc);
    }
}


/* The same, with the results so far in memory: [4][n] ymm. */
INLINE void
run_chunk(const uint32_t format, const uint8_t *w, const uint8_t *ahead,
          const uint32_t *act, uint32_t n_blocks, const struct shape s,
          struct expanded *e, float *sofar)
{
    float *p = sofar + 8 * s.first * s.n;
    results acc;

    for (uint32_t r = 0; r < s.rows; r++) {
        for (uint32_t t = 0; t < s.n; t++) {
            acc[r][t] = _mm256_loadu_ps(p + 8 * (r * s.n + t));
        }
    }
    run_blocks(format, w, ahead, act, n_blocks, s, e, acc);
    for (uint32_t r = 0; r < s.rows; r++) {
        for (uint32_t t = 0; t < s.n; t++) {
            _mm256_storeu_ps(p + 8 * (r * s.n + t), acc[r][t]);
        }
    }
}


/* Ymm of rows in a tile of n tokens, as measured: one pass over memory in its
 * order while that spills little, else what spills least. */
INLINE uint32_t
shape_rows(const uint32_t format, const uint32_t n)
{
    if (n == 1 || (n == 2 && !(is_two_bit(format) && !AXK_YMM_VNNI)) ||
        (n == 3 && format == AXK_Q8_0)) {
        return 4;
    }
    return is_float_format(format) || AXK_YMM_VNNI ? 2 : 1;
}


/* The results of a tile of n tokens, where run_chunk() left them. */
INLINE void
store_sofar(const struct axk_matmul *a, uint32_t row, uint32_t tile,
            const uint32_t n, const float *sofar)
{
    for (uint32_t r = 0; r < 4; r++) {
        for (uint32_t t = 0; t < n; t++) {
            store_rows(a, row + 8 * r, tile * AXK_TILE + t,
                       _mm256_load_ps(sofar + 8 * (r * n + t)));
        }
    }
}


/*
 * A panel times the n tokens of a tile.  Where the row vectors take several
 * passes, those go over a piece of the panel at a time, whose lines were
 * fetched while the piece before was worked on (fetch_share): passes over every
 * other line straight from memory took four times as long.
 */
INLINE void
run_tokens(const uint32_t format, const struct axk_matmul *a, uint32_t row,
           const uint8_t *panel, uint32_t tile, const uint32_t n)
{
    const uint32_t rows = shape_rows(format, n);
    const size_t block_bytes = panel_block_bytes(format);
    const uint32_t step =
        is_k_format(format) ? 1 : (uint32_t)(CHUNK_BYTES / block_bytes);
    const uint32_t *act = (const uint32_t *)a->act +
                          tile * act_tile_words(act_kind(format), a->k);
    uint32_t n_blocks = a->k / block_elems(format);
    float sofar[4 * AXK_TILE * 8] __attribute__((aligned(64))) = {0};
    struct expanded e;

    for (uint32_t b = 0; b < n_blocks && rows < 4; b += step) {
        uint32_t chunk = n_blocks - b < step ? n_blocks - b : step;
        const uint8_t *w = panel + b * block_bytes;

        for (uint32_t first = 0; first < 4; first += rows) {
            run_chunk(format, w, w + step * block_bytes, act, chunk,
                      (struct shape){n, first, rows, false, w}, &e, sofar);
        }
        act += (size_t)chunk * record_words(format) * n;
    }
    if (rows == 4) {
        run_chunk(format, panel, panel, act, n_blocks,
                  (struct shape){n, 0, 4, false, panel}, &e, sofar);
    }
    store_sofar(a, row, tile, n, sofar);
}


#include "kernels/decoded_ymm.h"


INLINE void
run_panel(const uint32_t format, const struct axk_matmul *a, uint32_t row,
          const uint8_t *panel)
{
    uint32_t n_full = a->n_tokens / AXK_TILE;

    if (is_decoded_from(format, n_full)) {
        run_decoded(format, a, row, panel, n_full);
    } else {
        for (uint32_t tile = 0; tile < n_full; tile++) {
            run_tokens(format, a, row, panel, tile, AXK_TILE);
        }
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


#include "kernels/panels.inc.h"
