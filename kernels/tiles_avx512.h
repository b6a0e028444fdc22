/*
 * The inner tiles of matmul_avx512.c: one panel of 32 rows (two zmm whose
 * lanes are rows) times up to 4 tokens.  8 integer and 8 f32 accumulators
 * stay in registers, and there is no horizontal add anywhere.  Each function
 * is inlined with a literal format and number of tokens, so every `if` on
 * them is gone in the object.  scalar_matmul.c has the definition, codes.h
 * the layout.
 *
 * Measured rules kept here: weights are read strictly upwards, the k loops
 * stay rolled.  A tile of four tokens computes for as long as its panel takes
 * to come from memory, and tiles after the first do not read memory at all,
 * which also ends what the core had begun to fetch by itself: so full tiles
 * fetch the next panel into L2, a whole panel ahead (a distance within the
 * panel made K-quants slower); one or two tokens one line in four, a page
 * ahead.  The zero point of the stored codes costs next to nothing, since the
 * integer sums start at minus its share.
 */

#ifndef AXK_TILES_AVX512_H
#define AXK_TILES_AVX512_H

#include <immintrin.h>

#include "kernels/axk.h"
#include "kernels/internal.h"
#include "kernels/codes.h"

typedef __m512i sums[2][AXK_TILE];


/* 16 numbers of f16, or of bf16 where the format has them. */
INLINE __m512
load_16_halves(const uint32_t format, const uint8_t *p)
{
    __m256i h = _mm256_loadu_si256((const __m256i *)p);

    if (format == AXK_BF16 || format == AXK_MXFP4) {
        return _mm512_castsi512_ps(
            _mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
    }
    return _mm512_cvtph_ps(h);
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


/* x | (y & m) */
INLINE __m512i
or_masked(__m512i x, __m512i y, __m512i m)
{
    return _mm512_ternarylogic_epi32(x, y, m, 0xf8);
}


INLINE void
dot_4(__m512i w0, __m512i w1, const uint32_t *a, const int n, sums sum)
{
    for (int t = 0; t < n; t++) {
        __m512i x = word(a + t);

        sum[0][t] = _mm512_dpbusd_epi32(sum[0][t], w0, x);
        sum[1][t] = _mm512_dpbusd_epi32(sum[1][t], w1, x);
    }
}


/* The table of a format whose codes are indexes, as unsigned bytes. */
INLINE __m512i
table_of(const uint32_t format)
{
    const int8_t *table = format == AXK_MXFP4 ? axk_table_mxfp4 : axk_table_iq4;
    __m512i values =
        _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)table));

    return _mm512_add_epi8(values,
                           _mm512_set1_epi8(format == AXK_MXFP4 ? 16 : -128));
}


/* What reading nibbles needs beside them: a table, and what is left of the
 * high bits, as the format has them. */
struct nibbles {
    __m512i table;
    __m512i high[2];
};

/* The codes of one k-step of nibbles, 8 k of two row vectors: lo first, hi
 * four k later. */
struct codes {
    __m512i lo[2];
    __m512i hi[2];
};


/* high: the 128 bytes of high bits of the steps to come. */
INLINE struct nibbles
start_nibbles(const uint32_t format, const uint8_t *high)
{
    struct nibbles s = {{0}, {{0}, {0}}};

    if (has_table(format)) {
        s.table = table_of(format);
    }
    if (high_bits(format)) {
        s.high[0] = _mm512_loadu_si512(high);
        s.high[1] = _mm512_loadu_si512(high + 64);
    }
    return s;
}


INLINE struct codes
read_nibbles(const uint32_t format, const uint8_t *w, struct nibbles *s)
{
    const __m512i mask = _mm512_set1_epi8(15);
    const __m512i high_mask =
        _mm512_set1_epi8(high_bits(format) == 2 ? 0x30 : 0x10);
    const int up = high_bits(format) == 2 ? 2 : 3;
    struct codes c;

    for (int i = 0; i < 2; i++) {
        __m512i q = _mm512_loadu_si512(w + 64 * i);

        c.lo[i] = _mm512_and_si512(q, mask);
        c.hi[i] = _mm512_and_si512(_mm512_srli_epi16(q, 4), mask);
        if (high_bits(format)) {
            __m512i h = s->high[i];

            c.lo[i] = or_masked(c.lo[i], _mm512_slli_epi16(h, 4), high_mask);
            c.hi[i] = or_masked(c.hi[i], _mm512_slli_epi16(h, up), high_mask);
            s->high[i] = _mm512_srli_epi16(h, 2 * high_bits(format));
        }
        if (has_table(format)) {
            c.lo[i] = _mm512_shuffle_epi8(s->table, c.lo[i]);
            c.hi[i] = _mm512_shuffle_epi8(s->table, c.hi[i]);
        }
    }
    return c;
}


/* k-steps of nibbles. */
INLINE void
dot_nibbles(const uint32_t format, const uint8_t *w, const uint8_t *high,
            const int n_steps, const uint32_t *a, const int n, sums sum)
{
    struct nibbles s = start_nibbles(format, high);

#pragma GCC unroll 1
    for (int i = 0; i < n_steps; i++) {
        struct codes c = read_nibbles(format, w, &s);

        dot_4(c.lo[0], c.lo[1], a, n, sum);
        dot_4(c.hi[0], c.hi[1], a + n, n, sum);
        w += 128;
        a += 2 * n;
    }
}


/* Steps of whole bytes, 4 k each; n_steps is even.  Of a full tile two at a
 * time: a step alone is too short for its loop. */
INLINE void
dot_bytes(const uint8_t *w, const int n_steps, const uint32_t *a, const int n,
          sums sum)
{
#pragma GCC unroll 1
    for (int i = 0; n == AXK_TILE && i < n_steps; i += 2) {
        dot_4(_mm512_loadu_si512(w), _mm512_loadu_si512(w + 64), a, n, sum);
        dot_4(_mm512_loadu_si512(w + 128), _mm512_loadu_si512(w + 192), a + n,
              n, sum);
        w += 256;
        a += 2 * n;
    }
#pragma GCC unroll 1
    for (int i = 0; n != AXK_TILE && i < n_steps; i++) {
        dot_4(_mm512_loadu_si512(w), _mm512_loadu_si512(w + 64), a, n, sum);
        w += 128;
        a += n;
    }
}


/* 16 k of two bits each; h, for Q3_K: their high bits, from bit 0 on.  One
 * load serves all four steps, so this loop is unrolled: the shifts are then
 * literal and do not wait for each other. */
INLINE void
dot_two_bits(const uint32_t format, const uint8_t *w, __m512i h0, __m512i h1,
             const uint32_t *a, const int n, sums sum)
{
    const __m512i mask = _mm512_set1_epi8(3);
    const __m512i high_mask = _mm512_set1_epi8(4);
    __m512i w0 = _mm512_loadu_si512(w);
    __m512i w1 = _mm512_loadu_si512(w + 64);

    h0 = _mm512_slli_epi16(h0, 2);
    h1 = _mm512_slli_epi16(h1, 2);
#pragma GCC unroll 4
    for (unsigned int i = 0; i < 4; i++) {
        __m512i q0 = _mm512_and_si512(_mm512_srli_epi16(w0, 2 * i), mask);
        __m512i q1 = _mm512_and_si512(_mm512_srli_epi16(w1, 2 * i), mask);

        if (format == AXK_Q3_K) {
            q0 = or_masked(q0, _mm512_srli_epi16(h0, i), high_mask);
            q1 = or_masked(q1, _mm512_srli_epi16(h1, i), high_mask);
        }
        dot_4(q0, q1, a + i * (unsigned int)n, n, sum);
    }
}


/* The same of Q3_K for one token or two, where taking the weights apart is what
 * takes the time: its high bits come from tables, for two steps at once, and
 * the mask of a step ends both.  h: the part's high bits in the low halves of
 * its bytes. */
INLINE void
dot_three_bits(const uint8_t *w, __m512i h0, __m512i h1, const uint32_t *a,
               const int n, sums sum)
{
    const __m512i low = _mm512_set1_epi8(15);
    const __m512i two_bits = _mm512_set1_epi8(0x33);
    /* bits 0 and 2, or 1 and 3, of the index as 4 and 64 */
    const __m512i even = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, 4, 0, 4, 64, 68, 64, 68, 0, 4, 0, 4, 64, 68, 64, 68));
    const __m512i odd = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, 0, 4, 4, 0, 0, 4, 4, 64, 64, 68, 68, 64, 64, 68, 68));
    __m512i w0 = _mm512_loadu_si512(w);
    __m512i w1 = _mm512_loadu_si512(w + 64);

    h0 = _mm512_and_si512(h0, low);
    h1 = _mm512_and_si512(h1, low);
    __m512i e0 = or_masked(_mm512_shuffle_epi8(even, h0), w0, two_bits);
    __m512i e1 = or_masked(_mm512_shuffle_epi8(even, h1), w1, two_bits);
    __m512i o0 = or_masked(_mm512_shuffle_epi8(odd, h0),
                           _mm512_srli_epi16(w0, 2), two_bits);
    __m512i o1 = or_masked(_mm512_shuffle_epi8(odd, h1),
                           _mm512_srli_epi16(w1, 2), two_bits);

    dot_4(_mm512_and_si512(e0, low), _mm512_and_si512(e1, low), a, n, sum);
    dot_4(_mm512_and_si512(o0, low), _mm512_and_si512(o1, low), a + n, n, sum);
    dot_4(_mm512_and_si512(_mm512_srli_epi16(e0, 4), low),
          _mm512_and_si512(_mm512_srli_epi16(e1, 4), low), a + 2 * n, n, sum);
    dot_4(_mm512_and_si512(_mm512_srli_epi16(o0, 4), low),
          _mm512_and_si512(_mm512_srli_epi16(o1, 4), low), a + 3 * n, n, sum);
}


INLINE void
start_block_32(const uint32_t format, const uint32_t *record, const int n,
               sums sum)
{
    for (int t = 0; t < n; t++) {
        __m512i x = _mm512_setzero_si512();

        if (format == AXK_Q4_0) {
            x = word(record + AXK_ACT_SUM8 * n + t);
        } else if (format == AXK_Q5_0 || format == AXK_MXFP4) {
            x = word(record + AXK_ACT_SUM8 * n + t);
            x = _mm512_add_epi32(x, x);
        } else if (format == AXK_Q8_0 || format == AXK_IQ4_NL) {
            x = word(record + AXK_ACT_SUM128 * n + t);
        }
        sum[0][t] = x;
        sum[1][t] = x;
    }
}


/* acc += sum * (d * d_a) */
INLINE void
add_scaled(sums sum, __m512 d0, __m512 d1, const uint32_t *d_a, const int n,
           __m512 acc[2][AXK_TILE])
{
    for (int t = 0; t < n; t++) {
        __m512 d = word_f32(d_a + t);

        acc[0][t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[0][t]),
                                    _mm512_mul_ps(d0, d), acc[0][t]);
        acc[1][t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[1][t]),
                                    _mm512_mul_ps(d1, d), acc[1][t]);
    }
}


/* acc += w * x: floats, or minima by the sums of activations. */
INLINE void
add_weighted(__m512 w0, __m512 w1, const uint32_t *act, const int n,
             __m512 acc[2][AXK_TILE])
{
    for (int t = 0; t < n; t++) {
        __m512 x = word_f32(act + t);

        acc[0][t] = _mm512_fmadd_ps(w0, x, acc[0][t]);
        acc[1][t] = _mm512_fmadd_ps(w1, x, acc[1][t]);
    }
}


/* Lines of the panel that comes next, brought into L2 while a tile is computed:
 * so many with each block of 32, or line of a block of 256.  One or two
 * tokens have no time for so much: fetch_sparsely(). */
struct fetch {
    const char *at;
    uint32_t lines;
    bool sparse;
};


INLINE void
fetch_lines(struct fetch *f)
{
    for (uint32_t i = 0; i < f->lines; i++) {
        _mm_prefetch(f->at, _MM_HINT_T1);
        f->at += 64;
    }
}


/* One token and two are bound by memory.  A core that reads one stream falls
 * behind at every page's end unless a line now and then is asked for ahead;
 * more of them are slower than none. */
#define SPARSE_TOKENS 2
#define SPARSE_BYTES  256
#define SPARSE_AHEAD  4096


INLINE void
fetch_sparsely(const uint32_t format, const struct fetch *f, const uint8_t *w,
               const int n)
{
    if (n > SPARSE_TOKENS || !f->sparse) {
        return;
    }
    for (uint32_t i = 0; i < panel_block_bytes(format); i += SPARSE_BYTES) {
        _mm_prefetch((const char *)w + SPARSE_AHEAD + i, _MM_HINT_T1);
    }
}


/* All blocks of 32 of a panel times the n tokens of a tile. */
INLINE void
tile_blocks_32(const uint32_t format, const uint8_t *w, const uint32_t *act,
               uint32_t n_blocks, const int n, struct fetch fetch,
               __m512 acc[2][AXK_TILE])
{
    for (uint32_t b = 0; b < n_blocks; b++) {
        sums sum;

        fetch_lines(&fetch);
        fetch_sparsely(format, &fetch, w, n);
        __m512 d0 = load_16_halves(format, w);
        __m512 d1 = load_16_halves(format, w + 32);
        __m512 m0 = _mm512_setzero_ps();
        __m512 m1 = m0;
        const uint8_t *steps = w + steps_offset(format);

        if (has_min(format)) {
            m0 = load_16_halves(format, w + 64);
            m1 = load_16_halves(format, w + 96);
        }
        start_block_32(format, act, n, sum);
        if (format == AXK_Q8_0) {
            dot_bytes(steps, 8, act, n, sum);
        } else {
            dot_nibbles(format, steps, steps - 128, 4, act, n, sum);
        }
        add_scaled(sum, d0, d1, act + AXK_ACT_D * n, n, acc);
        if (has_min(format)) {
            add_weighted(m0, m1, act + AXK_ACT_S * n, n, acc);
        }
        w += panel_block_bytes(format);
        act += AXK_ACT_WORDS * n;
    }
}


/* ---- blocks of 256 ---- */

/* minus: the rows of - sums of 16 that belong to this part. */
INLINE void
start_part(const uint32_t format, const uint32_t *minus, const int n, sums sum)
{
    for (int t = 0; t < n; t++) {
        __m512i x = _mm512_setzero_si512();

        if (format == AXK_Q3_K) {
            x = _mm512_slli_epi32(word(minus + t), 2);
        } else if (format == AXK_Q6_K) {
            x = _mm512_slli_epi32(word(minus + t), 5);
        } else if (format == AXK_IQ4_XS) {
            x = _mm512_add_epi32(word(minus + t), word(minus + n + t));
            x = _mm512_slli_epi32(x, 7);
        }
        sum[0][t] = x;
        sum[1][t] = x;
    }
}


INLINE __m512i
sub_scales(const uint32_t format, const uint8_t *p)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)p);

    return has_signed_scales(format) ? _mm512_cvtepi8_epi32(bytes)
                                     : _mm512_cvtepu8_epi32(bytes);
}


/* total += sum * sub-scale */
INLINE void
add_part(sums sum, __m512i s0, __m512i s1, const int n, sums total)
{
    for (int t = 0; t < n; t++) {
        total[0][t] =
            _mm512_add_epi32(total[0][t], _mm512_mullo_epi32(sum[0][t], s0));
        total[1][t] =
            _mm512_add_epi32(total[1][t], _mm512_mullo_epi32(sum[1][t], s1));
    }
}


/* One line: two parts, each its dot times its scale into total. */
INLINE void
add_line(const uint32_t format, const uint8_t *line, const uint8_t *scales,
         const uint32_t *a, const uint32_t *minus, const int n, sums total)
{
    __m512i h0 = _mm512_setzero_si512();
    __m512i h1 = h0;

    if (format == AXK_Q3_K) {
        h0 = _mm512_loadu_si512(line);
        h1 = _mm512_loadu_si512(line + 64);
    }
#pragma GCC unroll 1
    for (uint32_t part = 0; part < 2; part++) {
        const uint8_t *p = line + line_head(format) + part * part_bytes(format);
        __m512i s0 = sub_scales(format, scales + 32 * part);
        __m512i s1 = sub_scales(format, scales + 32 * part + 16);
        sums sum;

        start_part(format, minus, n, sum);
        if (is_two_bit(format)) {
            if (format == AXK_Q3_K && n <= 2) {
                dot_three_bits(p, h0, h1, a, n, sum);
            } else {
                dot_two_bits(format, p, h0, h1, a, n, sum);
            }
            h0 = _mm512_srli_epi16(h0, 4);
            h1 = _mm512_srli_epi16(h1, 4);
        } else {
            dot_nibbles(format, high_bits(format) ? p + 128 : p, p,
                        (int)part_elems(format) / 8, a, n, sum);
        }
        add_part(sum, s0, s1, n, total);
        a += part_elems(format) / 4 * (uint32_t)n;
        minus += part_elems(format) / 16 * (uint32_t)n;
    }
}


/* acc -= (sum over parts of min * sum of activations) * (dmin * d_a); tail
 * points at dmin. */
INLINE void
subtract_minima(const uint32_t format, const uint8_t *tail,
                const uint32_t *record, const int n, __m512 acc[2][AXK_TILE])
{
    const uint32_t *pairs =
        record +
        (part_elems(format) == 16 ? AXK_ACT_K_PAIRS16 : AXK_ACT_K_PAIRS32) * n;
    __m512 d0 = load_16_halves(format, tail);
    __m512 d1 = load_16_halves(format, tail + 32);
    uint8_t minima[SCALES_MAX] __attribute__((aligned(64)));
    sums sum;

    expand_minima(format, tail, minima);
    for (int t = 0; t < n; t++) {
        sum[0][t] = _mm512_setzero_si512();
        sum[1][t] = sum[0][t];
    }
#pragma GCC unroll 1
    for (uint32_t i = 0; i < n_lines(format); i++) {
        const uint8_t *m = minima + 64 * i;
        __m512i m0 =
            _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)m));
        __m512i m1 =
            _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(m + 32)));

        for (int t = 0; t < n; t++) {
            __m512i x = word(pairs + t);

            sum[0][t] = _mm512_dpwssd_epi32(sum[0][t], m0, x);
            sum[1][t] = _mm512_dpwssd_epi32(sum[1][t], m1, x);
        }
        pairs += n;
    }
    for (int t = 0; t < n; t++) {
        __m512 d = word_f32(record + AXK_ACT_K_D * n + t);

        acc[0][t] = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(sum[0][t]),
                                     _mm512_mul_ps(d0, d), acc[0][t]);
        acc[1][t] = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(sum[1][t]),
                                     _mm512_mul_ps(d1, d), acc[1][t]);
    }
}


/* All blocks of 256 of a panel times the n tokens of a tile. */
INLINE void
tile_blocks_256(const uint32_t format, const uint8_t *w, const uint32_t *act,
                uint32_t n_blocks, const int n, struct fetch fetch,
                __m512 acc[2][AXK_TILE])
{
    const uint32_t line_k = 2 * part_elems(format);
    uint8_t scales[SCALES_MAX] __attribute__((aligned(64)));

    for (uint32_t b = 0; b < n_blocks; b++) {
        const uint32_t *a = act;
        const uint32_t *minus = act + AXK_ACT_K_SUMS * n;
        sums total;

        fetch_sparsely(format, &fetch, w, n);
        expand_scales(format, w, scales);
        w += scales_bytes(format);
        for (int t = 0; t < n; t++) {
            total[0][t] = _mm512_setzero_si512();
            total[1][t] = total[0][t];
        }
#pragma GCC unroll 1
        for (uint32_t i = 0; i < n_lines(format); i++) {
            fetch_lines(&fetch);
            add_line(format, w, line_scales(format, scales, i, w), a, minus, n,
                     total);
            w += line_bytes(format);
            a += line_k / 4 * (uint32_t)n;
            minus += line_k / 16 * (uint32_t)n;
        }
        add_scaled(total, load_16_halves(format, w),
                   load_16_halves(format, w + 32), act + AXK_ACT_K_D * n, n,
                   acc);
        w += 64;
        if (has_min(format)) {
            subtract_minima(format, w, act, n, acc);
            w += 64 + scales_bytes(format);
        }
        act += AXK_ACT_K_WORDS * n;
    }
}


/* ---- results ---- */

/* Results of a tile of tokens that wait while more k are made ready. */
#define SOFAR_FLOATS (AXK_TILE * AXK_PANEL_ROWS)


/* What the k before gave; zero where there were none. */
INLINE void
load_sofar(const float *sofar, bool none, const int n, __m512 acc[2][AXK_TILE])
{
    for (int t = 0; t < n; t++) {
        acc[0][t] = _mm512_setzero_ps();
        acc[1][t] = _mm512_setzero_ps();
        if (!none) {
            acc[0][t] = _mm512_loadu_ps(sofar + 32 * t);
            acc[1][t] = _mm512_loadu_ps(sofar + 32 * t + 16);
        }
    }
}


INLINE void
store_sofar(float *sofar, const int n, __m512 acc[2][AXK_TILE])
{
    for (int t = 0; t < n; t++) {
        _mm512_storeu_ps(sofar + 32 * t, acc[0][t]);
        _mm512_storeu_ps(sofar + 32 * t + 16, acc[1][t]);
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

#endif
