/*
 * Matmuls for AMX int8, with the numerics of every other instruction set.
 *
 * Tiles multiply 16 tokens by 16 rows of a panel.  The bytes that
 * decoded_avx512.h makes of a panel (4 k of a row side by side, rows in lanes)
 * are a tile's second operand as they lie; Q8_0 is it in the panel itself.
 * Activations are turned to rows of k per token first, for 512 k at a time.
 *
 * Block scales end an integer sum every 16 or 32 k (256 for the two-bit
 * formats, whose decoded bytes have their scales in them), so a product is one
 * instruction on a quarter or half of its k, stored, and scaled by AVX-512 in
 * the reference's order: exact integers, then the f32 steps of tiles_avx512.h.
 * That bounds what AMX can give here; coarser numerics of its own would be
 * another class of results.
 *
 * Fewer than TOKENS_MIN tokens, or as many left after groups of 16, and the
 * float formats go to AVX-512.  Tiles are configured at the start of a call
 * and released at its end; select.c asked for the permission.
 *
 * Never run on a machine with AMX: taken only when asked for by name.
 */

#include "kernels/tiles_avx512.h"
#include "kernels/decoded_avx512.h"
#include "kernels/amx_tiles.h"

#define GROUP      16  /* tokens in a tile */
#define TOKENS_MIN 8   /* worth a tile that is not full */
#define UNIT_K     256 /* products that wait for their scales */

/* Tiles by number: activations, both halves of a panel, their sums. */
#define TILE_A    0
#define TILE_W0   1
#define TILE_W1   2
#define TILE_SUM0 3
#define TILE_SUM1 4

/* Sums of one step: both halves of a panel, [token][row] i32. */
struct step_sums {
    int32_t half[2][GROUP * 16];
};

/* Codes of a chunk of a panel: where, and bytes from step to step. */
struct codes_at {
    const uint8_t *p;
    size_t stride;
};


/* k of one tile operation. */
INLINE uint32_t
step_k(const uint32_t format)
{
    if (is_two_bit(format)) {
        return 64;
    }
    return is_k_format(format) ? part_elems(format) : AXK_QK;
}


/* Operations whose sums are one integer sum. */
INLINE uint32_t
steps_in_sum(const uint32_t format)
{
    return is_two_bit(format) ? AXK_QK_K / 64 : 1;
}


static void
configure(uint32_t format)
{
    struct tile_config c = {.palette = 1};

    c.row_bytes[TILE_A] = (uint16_t)step_k(format);
    c.rows[TILE_A] = GROUP;
    for (int i = TILE_W0; i <= TILE_W1; i++) {
        c.row_bytes[i] = 64;
        c.rows[i] = (uint8_t)(step_k(format) / 4);
    }
    for (int i = TILE_SUM0; i <= TILE_SUM1; i++) {
        c.row_bytes[i] = 64;
        c.rows[i] = GROUP;
    }
    tile_configure(&c);
}


/* Four tokens of one step, [k / 4][4] words, to four rows of k bytes. */
INLINE void
turn_four(const uint32_t k, const uint32_t *words, uint8_t *dst)
{
    if (k == 16) {
        const __m512i turn = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6,
                                               10, 14, 3, 7, 11, 15);

        _mm512_storeu_si512(
            dst, _mm512_permutexvar_epi32(turn, _mm512_loadu_si512(words)));
        return;
    }
    const __m512i first = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 1, 5,
                                            9, 13, 17, 21, 25, 29);
    const __m512i second =
        _mm512_add_epi32(first, _mm512_set1_epi32(2)); /* tokens 2 and 3 */

    for (uint32_t i = 0; i < k / 32; i++) {
        __m512i x = _mm512_loadu_si512(words + 32 * i);
        __m512i y = _mm512_loadu_si512(words + 32 * i + 16);
        __m512i tokens[2] = {_mm512_permutex2var_epi32(x, first, y),
                             _mm512_permutex2var_epi32(x, second, y)};

        for (uint32_t j = 0; j < 2; j++) {
            uint8_t *row = dst + 2 * j * k + 32 * i;

            _mm256_storeu_si256((__m256i *)row,
                                _mm512_castsi512_si256(tokens[j]));
            _mm256_storeu_si256((__m256i *)(row + k),
                                _mm512_extracti64x4_epi64(tokens[j], 1));
        }
    }
}


/* The n tokens of an activation tile, blocks [b0, b0 + n_blocks), to their
 * rows in out: [step][16 tokens][step_k] bytes; q: which rows, in fours. */
INLINE void
turn_tile(const uint32_t format, const struct axk_matmul *a, uint32_t tile,
          uint32_t b0, uint32_t n_blocks, uint32_t q, uint8_t *out)
{
    const uint32_t k = step_k(format);
    const uint32_t n = tile_tokens(a->n_tokens, tile);
    const uint32_t *act = (const uint32_t *)a->act +
                          tile * act_tile_words(act_kind(format), a->k) +
                          (size_t)b0 * record_words(format) * n;

    out += q * 4 * k;
    for (uint32_t b = 0; b < n_blocks; b++) {
        for (uint32_t i = 0; i < block_elems(format); i += k) {
            const uint32_t *words = act + i / 4 * n;

            if (n == AXK_TILE) {
                turn_four(k, words, out);
            }
            for (uint32_t t = 0; t < n && n < AXK_TILE; t++) {
                for (uint32_t j = 0; j < k / 4; j++) {
                    memcpy(out + t * k + 4 * j, words + j * n + t, 4);
                }
            }
            out += GROUP * k;
        }
        act += record_words(format) * n;
    }
}


/* All sums of a unit: 16 tokens at a times 32 rows of codes. */
INLINE void
multiply(const uint32_t format, const uint8_t *a, struct codes_at codes,
         uint32_t n_sums, struct step_sums *out)
{
    const uint32_t k = step_k(format);

    for (uint32_t i = 0; i < n_sums; i++) {
        tile_zero(TILE_SUM0);
        tile_zero(TILE_SUM1);
        for (uint32_t j = 0; j < steps_in_sum(format); j++) {
            tile_load(TILE_A, a, k);
            tile_load(TILE_W0, codes.p, 128);
            tile_load(TILE_W1, codes.p + 64, 128);
            tile_dot_bytes(TILE_SUM0, TILE_A, TILE_W0);
            tile_dot_bytes(TILE_SUM1, TILE_A, TILE_W1);
            a += GROUP * k;
            codes.p += codes.stride;
        }
        tile_store(TILE_SUM0, out[i].half[0], 64);
        tile_store(TILE_SUM1, out[i].half[1], 64);
    }
}


/* sum += what the tiles have for the n tokens from first on. */
INLINE void
add_products(const struct step_sums *c, uint32_t first, const int n, sums sum)
{
    for (int h = 0; h < 2; h++) {
        for (int t = 0; t < n; t++) {
            sum[h][t] = _mm512_add_epi32(
                sum[h][t],
                _mm512_loadu_si512(c->half[h] + 16 * (first + (uint32_t)t)));
        }
    }
}


/* Blocks of 32: w has their scales. */
INLINE void
scale_blocks_32(const uint32_t format, const uint8_t *w, const uint32_t *act,
                const struct step_sums *c, uint32_t n_blocks, uint32_t first,
                const int n, __m512 acc[2][AXK_TILE])
{
    for (uint32_t b = 0; b < n_blocks; b++) {
        sums sum;

        start_block_32(format, act, n, sum);
        add_products(c + b, first, n, sum);
        add_scaled(sum, load_16_halves(format, w),
                   load_16_halves(format, w + 32), act + AXK_ACT_D * n, n, acc);
        if (has_min(format)) {
            add_weighted(load_16_halves(format, w + 64),
                         load_16_halves(format, w + 96), act + AXK_ACT_S * n, n,
                         acc);
        }
        w += panel_block_bytes(format);
        act += AXK_ACT_WORDS * n;
    }
}


/* One block of 256. */
INLINE void
scale_block_256(const uint32_t format, const uint8_t *w, const uint32_t *act,
                const struct step_sums *c, uint32_t first, const int n,
                __m512 acc[2][AXK_TILE])
{
    const uint8_t *tail = tail_of(format, w);
    const uint32_t *minus = act + AXK_ACT_K_SUMS * n;
    uint8_t expanded[SCALES_MAX] __attribute__((aligned(64)));
    sums total;

    start_block_256(format, act, n, total);
    if (is_two_bit(format)) {
        add_products(c, first, n, total);
    } else {
        expand_scales(format, w, expanded);
#pragma GCC unroll 1
        for (uint32_t part = 0; part < 2 * n_lines(format); part++) {
            const uint8_t *scales =
                part % 2 * 32 + line_scales(format, expanded, part / 2,
                                            w + part / 2 * line_bytes(format));
            sums sum;

            start_part(format, minus, n, sum);
            add_products(c + part, first, n, sum);
            add_part(sum, sub_scales(format, scales),
                     sub_scales(format, scales + 16), n, total);
            minus += part_elems(format) / 16 * (uint32_t)n;
        }
    }
    add_scaled(total, load_16_halves(format, tail),
               load_16_halves(format, tail + 32), act + AXK_ACT_K_D * n, n,
               acc);
    if (has_min(format)) {
        subtract_minima(format, tail + 64, act, n, acc);
    }
}


/* The blocks [b0, b0 + n_blocks) of a unit for the n tokens of a tile: scaled,
 * added to what came before, and kept in sofar or, after the last, stored. */
INLINE void
scale_tile(const uint32_t format, const struct axk_matmul *a, uint32_t row,
           const uint8_t *panel, const struct step_sums *c, uint32_t b0,
           uint32_t n_blocks, uint32_t tile, const int n, float *sofar)
{
    const uint8_t *w = panel + b0 * panel_block_bytes(format);
    const uint32_t *act = (const uint32_t *)a->act +
                          tile * act_tile_words(act_kind(format), a->k) +
                          (size_t)b0 * record_words(format) * (uint32_t)n;
    uint32_t first = tile * AXK_TILE % GROUP;
    __m512 acc[2][AXK_TILE];

    load_sofar(sofar, b0 == 0, n, acc);
    if (is_k_format(format)) {
        scale_block_256(format, w, act, c, first, n, acc);
    } else {
        scale_blocks_32(format, w, act, c, n_blocks, first, n, acc);
    }
    if ((b0 + n_blocks) * block_elems(format) == a->k) {
        store_tile(a, row, tile * AXK_TILE, n, acc);
    } else {
        store_sofar(sofar, n, acc);
    }
}


/* Tiles [tile0, tile1) of one group of tokens times a chunk of a panel. */
INLINE void
run_group(const uint32_t format, const struct axk_matmul *a, uint32_t row,
          const uint8_t *panel, struct codes_at codes, uint32_t b0,
          uint32_t n_blocks, uint32_t tile0, uint32_t tile1, float *sofar)
{
    const uint32_t unit = UNIT_K / block_elems(format);
    const uint32_t unit_steps = UNIT_K / step_k(format);
    uint8_t turned[DECODED_K * GROUP] __attribute__((aligned(64)));
    struct step_sums c[UNIT_K / 16] __attribute__((aligned(64)));

    if (tile1 * AXK_TILE > a->n_tokens || tile1 - tile0 < GROUP / AXK_TILE) {
        memset(turned, 0, sizeof(turned)); /* rows without a token */
    }
    for (uint32_t tile = tile0; tile < tile1; tile++) {
        turn_tile(format, a, tile, b0, n_blocks, tile - tile0, turned);
    }
    for (uint32_t i = 0; i < n_blocks; i += unit) {
        uint32_t n = n_blocks - i < unit ? n_blocks - i : unit;
        uint32_t step = i / unit * unit_steps;
        struct codes_at at = {codes.p + step * codes.stride, codes.stride};

        multiply(
            format, turned + (size_t)step * GROUP * step_k(format), at,
            n * block_elems(format) / step_k(format) / steps_in_sum(format), c);
        for (uint32_t tile = tile0; tile < tile1; tile++) {
            float *acc = sofar + (tile - tile0) * SOFAR_FLOATS;

            switch (tile_tokens(a->n_tokens, tile)) {
            case 1:
                scale_tile(format, a, row, panel, c, b0 + i, n, tile, 1, acc);
                break;
            case 2:
                scale_tile(format, a, row, panel, c, b0 + i, n, tile, 2, acc);
                break;
            case 3:
                scale_tile(format, a, row, panel, c, b0 + i, n, tile, 3, acc);
                break;
            default:
                scale_tile(format, a, row, panel, c, b0 + i, n, tile, 4, acc);
                break;
            }
        }
    }
}


/* Tiles [tile0, tile1), at most DECODED_TOKENS tokens: a chunk of the panel is
 * decoded once for all of them. */
INLINE void
run_tokens(const uint32_t format, const struct axk_matmul *a, uint32_t row,
           const uint8_t *panel, uint32_t tile0, uint32_t tile1)
{
    const uint32_t chunk = DECODED_K / block_elems(format);
    const uint32_t group = GROUP / AXK_TILE;
    uint32_t n_blocks = a->k / block_elems(format);
    uint8_t bytes[DECODED_K * AXK_PANEL_ROWS] __attribute__((aligned(64)));
    float sofar[DECODED_TOKENS / AXK_TILE * SOFAR_FLOATS]
        __attribute__((aligned(64)));

    for (uint32_t b = 0; b < n_blocks; b += chunk) {
        uint32_t n = n_blocks - b < chunk ? n_blocks - b : chunk;
        const uint8_t *w = panel + b * panel_block_bytes(format);
        struct codes_at codes = {bytes, 32 * step_k(format)};

        if (format == AXK_Q8_0) {
            codes = (struct codes_at){w + steps_offset(format),
                                      panel_block_bytes(format)};
        } else {
            decode(format, w, n, bytes);
        }
        for (uint32_t tile = tile0; tile < tile1; tile += group) {
            uint32_t end = tile1 - tile < group ? tile1 : tile + group;

            run_group(format, a, row, panel, codes, b, n, tile, end,
                      sofar + (tile - tile0) * SOFAR_FLOATS);
        }
    }
}


/* Float formats are compiled, and not called. */
INLINE void
run_panel(const uint32_t format, const struct axk_matmul *a, uint32_t row,
          const uint8_t *panel)
{
    const uint32_t step = DECODED_TOKENS / AXK_TILE;
    uint32_t n_tiles = axk_act_tiles(a->n_tokens);

    for (uint32_t tile = 0; tile < n_tiles; tile += step) {
        uint32_t end = n_tiles - tile < step ? n_tiles : tile + step;

        run_tokens(format, a, row, panel, tile, end);
    }
}


#include "kernels/panels.inc.h"


/* The tokens of a from n on. */
static struct axk_matmul
from_token(const struct axk_matmul *a, uint32_t n)
{
    const struct axk_format_traits *f = axk_format_traits(a->format);
    struct axk_matmul rest = *a;

    rest.n_tokens = a->n_tokens - n;
    rest.act =
        (const uint32_t *)a->act + n / AXK_TILE * act_tile_words(f->act, a->k);
    rest.y = a->y + n * a->y_stride;
    return rest;
}


void
axk_matmul_amx(const struct axk_matmul *a, uint32_t row0, uint32_t row1)
{
    uint32_t left = a->n_tokens % GROUP;
    uint32_t n = left < TOKENS_MIN ? a->n_tokens - left : a->n_tokens;
    struct axk_matmul tiles = *a;

    if (is_float_format(a->format)) {
        n = 0;
    }
    if (n > 0) {
        configure(a->format);
        tiles.n_tokens = n;
        matmul_panels(&tiles, row0, row1);
        tile_release();
    }
    if (n < a->n_tokens) {
        struct axk_matmul rest = from_token(a, n);

        axk_matmul_avx512(&rest, row0, row1);
    }
}
