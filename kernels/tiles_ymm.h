/*
 * The inner tiles of matmul_ymm.inc.h, on the same packed bytes as AVX-512 and
 * with the same results.  Lanes are rows, eight to a ymm; with 16 registers
 * a tile is 8 rows times four tokens, 16 times two or 32 times one (float
 * formats 16 times four, since a chain of fma needs seven others beside it).
 * Each function is inlined with a literal format and tile shape.
 *
 * vpmaddubsw adds pairs of products in 16 bits, saturating, so sums are
 * widened to 32 bits before they could: after so many k-steps that
 * 2 * largest code * 127 for each of their two or one products still fits
 * 32767 (steps_in_16_bits).  Codes that reach 128 and more, and the
 * table of IQ4, take the sign trick instead: |w| times the activation with
 * w's sign (2 * 128 * 127 = 32512), widened every time.
 *
 * With AVX-VNNI vpdpbusd adds four products in 32 bits, which nothing here
 * overflows: codes are unsigned bytes throughout, as in tiles_avx512.h.
 */

#ifndef AXK_TILES_YMM_H
#define AXK_TILES_YMM_H

#include <immintrin.h>

#include "kernels/axk.h"
#include "kernels/internal.h"
#include "kernels/codes.h"

#define ROWS_MAX   4 /* ymm of rows in a tile */
#define TOKENS_MAX AXK_TILE

/* The tokens of a tile and the part of a panel: literals but for first and
 * codes. */
struct shape {
    uint32_t n;           /* tokens, 1 .. 4 */
    uint32_t first;       /* first ymm of rows in the panel, 0 .. 3 */
    uint32_t rows;        /* ymm of rows */
    bool is_decoded;      /* rows is 1, and the block's codes are at: */
    const uint8_t *codes; /* what decode() wrote, for this row vector */
};

typedef __m256i sums[ROWS_MAX][TOKENS_MAX];
typedef __m256 results[ROWS_MAX][TOKENS_MAX];


INLINE __m256
load_8_halves(const uint32_t format, const uint8_t *p)
{
    __m128i h = _mm_loadu_si128((const __m128i *)p);

    if (format == AXK_BF16 || format == AXK_MXFP4) {
        return _mm256_castsi256_ps(
            _mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
    }
    return _mm256_cvtph_ps(h);
}


INLINE __m256i
load_32_bytes(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}


/* The same, once: gcc 12 else loads anew for each use. */
INLINE __m256i
load_codes(const uint8_t *p)
{
    __m256i x = load_32_bytes(p);

    __asm__("" : "+x"(x));
    return x;
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


INLINE void
clear(const struct shape s, sums sum)
{
    for (uint32_t r = 0; r < s.rows; r++) {
        for (uint32_t t = 0; t < s.n; t++) {
            sum[r][t] = _mm256_setzero_si256();
        }
    }
}


/* sum += the 16-bit pairs, widened. */
INLINE void
widen(const struct shape s, sums pairs, sums sum)
{
    for (uint32_t r = 0; r < s.rows; r++) {
        for (uint32_t t = 0; t < s.n; t++) {
            sum[r][t] = _mm256_add_epi32(
                sum[r][t],
                _mm256_madd_epi16(pairs[r][t], _mm256_set1_epi16(1)));
        }
    }
}


/* sum += x, 16 bits; in a tile of one row vector and several tokens in place
 * and in this order: of such sums gcc 12 computes all terms first, into memory,
 * or copies every register.  Larger tiles are better off with its choice. */
INLINE void
add_words(const struct shape s, __m256i *sum, __m256i x)
{
    if (s.rows == 1) {
        __asm__("vpaddw %1, %0, %0" : "+x"(*sum) : "x"(x));
    } else {
        *sum = _mm256_add_epi16(*sum, x);
    }
}


/* The same with 32 bits. */
INLINE void
add_dwords(const struct shape s, __m256i *sum, __m256i x)
{
    if (s.rows == 1) {
        __asm__("vpaddd %1, %0, %0" : "+x"(*sum) : "x"(x));
    } else {
        *sum = _mm256_add_epi32(*sum, x);
    }
}


#if AXK_YMM_VNNI
/* Row vector r: codes times the activations of all tokens, 4 k, into 32 bits.
 */
INLINE void
dot_codes(const struct shape s, uint32_t r, __m256i codes, const uint32_t *a,
          sums sum)
{
    for (uint32_t t = 0; t < s.n; t++) {
        sum[r][t] = _mm256_dpbusd_epi32(sum[r][t], codes, word(a + t));
    }
}
#else
/* Row vector r: codes times the activations of all tokens, 4 k. */
INLINE void
dot_codes(const struct shape s, uint32_t r, __m256i codes, const uint32_t *a,
          sums pairs)
{
    for (uint32_t t = 0; t < s.n; t++) {
        add_words(s, &pairs[r][t], _mm256_maddubs_epi16(codes, word(a + t)));
    }
}


#endif


/* The same for signed weights, added to 32-bit sums. */
INLINE void
dot_signed(const struct shape s, uint32_t r, __m256i w, const uint32_t *a,
           sums sum)
{
    __m256i magnitude = _mm256_abs_epi8(w);

    for (uint32_t t = 0; t < s.n; t++) {
        __m256i x = _mm256_sign_epi8(word(a + t), w);
        __m256i pairs = _mm256_maddubs_epi16(magnitude, x);

        sum[r][t] = _mm256_add_epi32(
            sum[r][t], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
}


/* Weights from a table whose values span all of int8. */
INLINE bool
has_signed_table(const uint32_t format)
{
    return !AXK_YMM_VNNI && (format == AXK_IQ4_NL || format == AXK_IQ4_XS);
}


/* k-steps of nibbles (two dots each) that fit 16 bits. */
INLINE int
steps_in_16_bits(const uint32_t format)
{
    if (AXK_YMM_VNNI) {
        return 2;
    }
    if (format == AXK_MXFP4) {
        return 2; /* 4 * 2 * 28 * 127 = 28448 */
    }
    switch (high_bits(format)) {
    case 0:
        return 4; /* 8 * 2 * 15 * 127 = 30480 */
    case 1:
        return 2; /* 4 * 2 * 31 * 127 = 31496 */
    default:
        return 1; /* 2 * 2 * 63 * 127 = 32004 */
    }
}


/* Bytes of a block's codes for 8 rows, as decode() writes them. */
INLINE uint32_t
decoded_bytes(const uint32_t format)
{
    return 8 * block_elems(format);
}


/* The codes of one k-step of nibbles as unsigned bytes, or the values of a
 * table: lo first, hi four k later.  h: what is left of the high bits. */
INLINE void
read_step(const uint32_t format, const uint8_t *w, __m256i table, __m256i *h,
          __m256i *lo, __m256i *hi)
{
    const __m256i mask = _mm256_set1_epi8(15);
    const __m256i high_mask =
        _mm256_set1_epi8(high_bits(format) == 2 ? 0x30 : 0x10);
    const int up = high_bits(format) == 2 ? 2 : 3;
    __m256i q = load_32_bytes(w);

    *lo = _mm256_and_si256(q, mask);
    *hi = _mm256_and_si256(_mm256_srli_epi16(q, 4), mask);
    if (has_table(format)) {
        *lo = _mm256_shuffle_epi8(table, *lo);
        *hi = _mm256_shuffle_epi8(table, *hi);
    }
    if (high_bits(format)) {
        *lo = _mm256_or_si256(
            *lo, _mm256_and_si256(_mm256_slli_epi16(*h, 4), high_mask));
        *hi = _mm256_or_si256(
            *hi, _mm256_and_si256(_mm256_slli_epi16(*h, up), high_mask));
        *h = _mm256_srli_epi16(*h, 2 * high_bits(format));
    }
}


INLINE __m256i
table_of(const uint32_t format)
{
    const int8_t *values =
        format == AXK_MXFP4 ? axk_table_mxfp4 : axk_table_iq4;
    __m256i table =
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)values));

    /* made unsigned where the sums' start expects it */
    if (format == AXK_MXFP4) {
        return _mm256_add_epi8(table, _mm256_set1_epi8(16));
    }
    return AXK_YMM_VNNI ? _mm256_add_epi8(table, _mm256_set1_epi8(-128))
                        : table;
}


/*
 * k-steps of nibbles for all row vectors, a run of steps_in_16_bits at a
 * time.  w and high point at the shape's first row vector.  sum gets the
 * 32-bit sums.
 */
INLINE void
dot_nibbles(const uint32_t format, const struct shape s, const uint8_t *w,
            const uint8_t *high, const int n_steps, const uint32_t *a, sums sum)
{
    const int run = steps_in_16_bits(format);
    __m256i table = _mm256_setzero_si256();
    __m256i h[ROWS_MAX];
    __m256i lo;
    __m256i hi;

    if (has_table(format)) {
        table = table_of(format);
    }
    for (uint32_t r = 0; r < s.rows; r++) {
        h[r] = table;
        if (high_bits(format) && !s.is_decoded) {
            h[r] = load_32_bytes(high + 32 * r);
        }
    }
#pragma GCC unroll 1
    for (int i = 0; i < n_steps; i += run) {
        sums pairs;

        if (!AXK_YMM_VNNI) {
            clear(s, pairs);
        }
#pragma GCC unroll 1
        for (int j = 0; j < run; j++) {
            for (uint32_t r = 0; r < s.rows; r++) {
                if (s.is_decoded) {
                    lo = load_codes(w);
                    hi = load_codes(w + 32);
                } else {
                    read_step(format, w + 32 * r, table, &h[r], &lo, &hi);
                }
                if (has_signed_table(format)) {
                    dot_signed(s, r, lo, a, sum);
                    dot_signed(s, r, hi, a + s.n, sum);
                } else {
                    dot_codes(s, r, lo, a, AXK_YMM_VNNI ? sum : pairs);
                    dot_codes(s, r, hi, a + s.n, AXK_YMM_VNNI ? sum : pairs);
                }
            }
            w += s.is_decoded ? 64 : 128;
            a += 2 * s.n;
        }
        if (!AXK_YMM_VNNI && !has_signed_table(format)) {
            widen(s, pairs, sum);
        }
    }
}


/* The 32 k of a Q8_0 block. */
INLINE void
dot_bytes(const struct shape s, const uint8_t *w, const uint32_t *a, sums sum)
{
#pragma GCC unroll 1
    for (int i = 0; i < 8; i++) {
        for (uint32_t r = 0; r < s.rows; r++) {
            __m256i q = load_32_bytes(w + 32 * r);

            if (AXK_YMM_VNNI) {
                dot_codes(s, r, q, a, sum);
            } else {
                q = _mm256_xor_si256(q, _mm256_set1_epi8(-128));
                dot_signed(s, r, q, a, sum);
            }
        }
        w += 128;
        a += s.n;
    }
}


#include "kernels/two_bits_ymm.h"


/* acc += sum * (d * d_a); d at the panel's first row. */
INLINE void
add_scaled(const uint32_t format, const struct shape s, sums sum,
           const uint8_t *d, const uint32_t *d_a, results acc)
{
    for (uint32_t r = 0; r < s.rows; r++) {
        __m256 dw = load_8_halves(format, d + 16 * (s.first + r));

        for (uint32_t t = 0; t < s.n; t++) {
            acc[r][t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[r][t]),
                                        _mm256_mul_ps(dw, word_f32(d_a + t)),
                                        acc[r][t]);
        }
    }
}


/* The integer sums of a block of 32 start at minus the zero point's share. */
INLINE void
start_block_32(const uint32_t format, const struct shape s,
               const uint32_t *record, sums sum)
{
    for (uint32_t t = 0; t < s.n; t++) {
        __m256i x = _mm256_setzero_si256();

        if (format == AXK_Q4_0 || format == AXK_Q5_0 || format == AXK_MXFP4) {
            x = word(record + AXK_ACT_SUM8 * s.n + t);
        }
        if (format == AXK_Q5_0 || format == AXK_MXFP4) {
            x = _mm256_add_epi32(x, x);
        }
        if (AXK_YMM_VNNI && (format == AXK_Q8_0 || format == AXK_IQ4_NL)) {
            x = word(record + AXK_ACT_SUM128 * s.n + t);
        }
        for (uint32_t r = 0; r < s.rows; r++) {
            sum[r][t] = x;
        }
    }
}


/*
 * The share of this pass in fetching `bytes` at p into L1, which a later pass
 * over all rows reads: s.rows of 4 parts.  A few lines at a time between the
 * arithmetic: the same lines all at once fill the miss buffers, and everything
 * waited for memory (4 tokens then took the time of memory plus that of the
 * arithmetic).  A pass over all rows reads memory in its order and needs none.
 */
INLINE void
fetch_share(const struct shape s, const uint8_t *p, const uint32_t bytes)
{
    const uint32_t part = (bytes + 255) / 256 * 64;

    if (s.rows == ROWS_MAX || s.is_decoded) {
        return;
    }
    for (uint32_t i = 0; i < s.rows * part; i += 64) {
        _mm_prefetch((const char *)p + s.first * part + i, _MM_HINT_T0);
    }
}


/* All blocks of 32 of a panel, for the rows of the shape; as many bytes are
 * fetched from ahead on. */
INLINE void
tile_blocks_32(const uint32_t format, struct shape s, const uint8_t *w,
               const uint8_t *ahead, const uint32_t *act, uint32_t n_blocks,
               results acc)
{
    for (uint32_t b = 0; b < n_blocks; b++) {
        const uint8_t *steps = w + steps_offset(format) + 32 * s.first;
        sums sum;

        fetch_share(s, ahead, (uint32_t)panel_block_bytes(format));
        ahead += panel_block_bytes(format);
        start_block_32(format, s, act, sum);
        if (format == AXK_Q8_0) {
            dot_bytes(s, steps, act, sum);
        } else {
            dot_nibbles(format, s, s.is_decoded ? s.codes : steps, steps - 128,
                        4, act, sum);
        }
        s.codes += s.is_decoded ? decoded_bytes(format) : 0;
        add_scaled(format, s, sum, w, act + AXK_ACT_D * s.n, acc);
        for (uint32_t r = 0; r < s.rows && has_min(format); r++) {
            __m256 m = load_8_halves(format, w + 64 + 16 * (s.first + r));

            for (uint32_t t = 0; t < s.n; t++) {
                acc[r][t] = _mm256_fmadd_ps(
                    m, word_f32(act + AXK_ACT_S * s.n + t), acc[r][t]);
            }
        }
        w += panel_block_bytes(format);
        act += AXK_ACT_WORDS * s.n;
    }
}


/* ---- blocks of 256 ---- */

INLINE void
start_part(const uint32_t format, const struct shape s, const uint32_t *minus,
           sums sum)
{
    for (uint32_t t = 0; t < s.n; t++) {
        __m256i x = _mm256_setzero_si256();

        if (format == AXK_Q3_K) {
            x = _mm256_slli_epi32(word(minus + t), 2);
        } else if (format == AXK_Q6_K) {
            x = _mm256_slli_epi32(word(minus + t), 5);
        } else if (AXK_YMM_VNNI && format == AXK_IQ4_XS) {
            x = _mm256_add_epi32(word(minus + t), word(minus + s.n + t));
            x = _mm256_slli_epi32(x, 7);
        }
        for (uint32_t r = 0; r < s.rows; r++) {
            sum[r][t] = x;
        }
    }
}


/* One part: its dot times its scale into total; scales: the line's. */
INLINE void
add_part(const uint32_t format, const struct shape s, const uint8_t *line,
         const uint8_t *scales, uint32_t part, const uint32_t *a,
         const uint32_t *minus, sums total)
{
    const uint8_t *p =
        line + line_head(format) + part * part_bytes(format) + 32 * s.first;
    const uint8_t *steps = high_bits(format) ? p + 128 : p;
    sums sum;

    if (s.is_decoded) {
        steps = s.codes + part * 8 * part_elems(format);
    }
    start_part(format, s, minus, sum);
    if (is_two_bit(format)) {
        dot_two_bits(format, s, p, line + 32 * s.first, part, a, sum);
    } else {
        dot_nibbles(format, s, steps, p, (int)part_elems(format) / 8, a, sum);
    }
    for (uint32_t r = 0; r < s.rows; r++) {
        __m128i bytes = _mm_loadl_epi64(
            (const __m128i *)(scales + 32 * part + 8 * (s.first + r)));
        __m256i scale = has_signed_scales(format) ? _mm256_cvtepi8_epi32(bytes)
                                                  : _mm256_cvtepu8_epi32(bytes);

        for (uint32_t t = 0; t < s.n; t++) {
            total[r][t] = _mm256_add_epi32(
                total[r][t], _mm256_mullo_epi32(sum[r][t], scale));
        }
    }
}


/* ---- blocks of 256 in parts of 16, without VNNI: the multiplication that
 * widens the 16-bit sums of a part is the one by its scale ---- */

INLINE bool
is_widened_by_scale(const uint32_t format)
{
    return !AXK_YMM_VNNI && is_k_format(format) && part_elems(format) == 16;
}


/* total += pairs * scale, row vector r. */
INLINE void
add_pairs(const struct shape s, uint32_t r, sums pairs, __m256i scale,
          sums total)
{
    for (uint32_t t = 0; t < s.n; t++) {
        add_dwords(s, &total[r][t], _mm256_madd_epi16(pairs[r][t], scale));
    }
}


/* One part of Q6_K; p: its high bits, or its codes where they are decoded. */
INLINE void
add_part_q6_k(const struct shape s, const uint8_t *p, const uint8_t *scales,
              const uint32_t *a, sums total)
{
    __m256i h[ROWS_MAX];
    __m256i scale[ROWS_MAX];

    for (uint32_t r = 0; r < s.rows; r++) {
        h[r] = load_32_bytes(p + 32 * r);
        scale[r] = scale_pairs(scales + 8 * r);
    }
    p += s.is_decoded ? 0 : 128;
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        for (uint32_t r = 0; r < s.rows; r++) {
            __m256i lo;
            __m256i hi;
            sums pairs;

            if (s.is_decoded) {
                lo = load_codes(p);
                hi = load_codes(p + 32);
            } else {
                read_step(AXK_Q6_K, p + 32 * r, h[r], &h[r], &lo, &hi);
            }
            for (uint32_t t = 0; t < s.n; t++) {
                pairs[r][t] = _mm256_maddubs_epi16(lo, word(a + t));
            }
            dot_codes(s, r, hi, a + s.n, pairs);
            add_pairs(s, r, pairs, scale[r], total);
        }
        p += s.is_decoded ? 64 : 128;
        a += 2 * s.n;
    }
}


/* What the codes of a line are too large by, 32 (Q6_K) or 4 (Q3_K): total -=
 * that * scale * sum of activations, of both parts.  sums: in pairs of 16 bits,
 * 2032 at most. */
INLINE void
take_zero_points(const uint32_t format, const struct shape s,
                 const uint8_t *scales, const uint32_t *pairs, sums total)
{
    for (uint32_t r = 0; r < s.rows; r++) {
        __m128i first = _mm_loadl_epi64((const __m128i *)(scales + 8 * r));
        __m128i second =
            _mm_loadl_epi64((const __m128i *)(scales + 32 + 8 * r));
        __m256i scale = _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(first, second));

        scale = _mm256_slli_epi16(scale, format == AXK_Q6_K ? 5 : 2);
        for (uint32_t t = 0; t < s.n; t++) {
            total[r][t] = _mm256_sub_epi32(
                total[r][t], _mm256_madd_epi16(scale, word(pairs + t)));
        }
    }
}


/* Both parts of a line; scales: the line's; pairs, minus: the sums of
 * activations. */
INLINE void
add_line_16(const uint32_t format, const struct shape s, const uint8_t *line,
            const uint8_t *scales, const uint32_t *a, const uint32_t *pairs,
            const uint32_t *minus, sums total)
{
    scales += 8 * s.first;
    if (format != AXK_Q2_K && !is_once(format, s)) {
        take_zero_points(format, s, scales, pairs, total);
    }
    for (uint32_t part = 0; part < 2; part++) {
        const uint8_t *p =
            line + line_head(format) + part * part_bytes(format) + 32 * s.first;
        sums sum;

        if (format == AXK_Q6_K) {
            if (s.is_decoded) {
                p = s.codes + part * 128;
            }
            add_part_q6_k(s, p, scales + 32 * part, a, total);
        } else if (is_once(format, s)) {
            add_part_once(format, p, line, part, scales + 32 * part, a,
                          minus + part, total);
        } else {
            if (s.is_decoded) {
                dot_decoded(s, s.codes + part * 128, a, sum);
            } else {
                dot_two_bits(format, s, p, line + 32 * s.first, part, a, sum);
            }
            for (uint32_t r = 0; r < s.rows; r++) {
                add_pairs(s, r, sum, scale_pairs(scales + 32 * part + 8 * r),
                          total);
            }
        }
        a += 4 * s.n;
    }
}


/* acc -= (sum over parts of min * sum of activations) * (dmin * d_a); tail
 * points at dmin. */
INLINE void
subtract_minima(const uint32_t format, const struct shape s,
                const uint8_t *tail, const uint8_t *minima,
                const uint32_t *record, results acc)
{
    const uint32_t *pairs =
        record +
        (part_elems(format) == 16 ? AXK_ACT_K_PAIRS16 : AXK_ACT_K_PAIRS32) *
            s.n;
    sums sum;

    clear(s, sum);
#pragma GCC unroll 1
    for (uint32_t i = 0; i < n_lines(format); i++) {
        const uint8_t *p = minima + 64 * i + 16 * s.first;

        for (uint32_t r = 0; r < s.rows; r++) {
            __m256i m = _mm256_cvtepu8_epi16(
                _mm_loadu_si128((const __m128i *)(p + 16 * r)));

            for (uint32_t t = 0; t < s.n; t++) {
                sum[r][t] = _mm256_add_epi32(
                    sum[r][t], _mm256_madd_epi16(m, word(pairs + i * s.n + t)));
            }
        }
    }
    for (uint32_t r = 0; r < s.rows; r++) {
        __m256 d = load_8_halves(format, tail + 16 * (s.first + r));

        for (uint32_t t = 0; t < s.n; t++) {
            __m256 x = word_f32(record + AXK_ACT_K_D * s.n + t);

            acc[r][t] = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(sum[r][t]),
                                         _mm256_mul_ps(d, x), acc[r][t]);
        }
    }
}


/* Scales and minima of a block in bytes. */
struct expanded {
    uint8_t scales[SCALES_MAX] __attribute__((aligned(64)));
    uint8_t minima[SCALES_MAX] __attribute__((aligned(64)));
};


/* All lines of a block; as many bytes are fetched from ahead on. */
INLINE void
add_lines_16(const uint32_t format, struct shape s, const uint8_t *w,
             const uint8_t *ahead, const uint32_t *act,
             const struct expanded *e, sums total)
{
    const uint32_t share =
        (uint32_t)panel_block_bytes(format) / n_lines(format);
    const uint32_t *pairs = act + AXK_ACT_K_PAIRS16 * s.n;
    const uint32_t *minus = act + AXK_ACT_K_SUMS * s.n;

#pragma GCC unroll 1
    for (uint32_t i = 0; i < n_lines(format); i++) {
        const uint8_t *line = lines_of(format, w) + i * line_bytes(format);

        fetch_share(s, ahead + i * share, share);
        add_line_16(format, s, line, line_scales(format, e->scales, i, line),
                    act, pairs, minus, total);
        s.codes += s.is_decoded ? 2 * 128 : 0;
        act += 8 * s.n;
        pairs += s.n;
        minus += 2 * s.n;
    }
}


/* The same, part by part. */
INLINE void
add_parts(const uint32_t format, struct shape s, const uint8_t *w,
          const uint8_t *ahead, const uint32_t *act, const struct expanded *e,
          sums total)
{
    const uint32_t n_parts = 2 * n_lines(format);
    const uint32_t share = (uint32_t)panel_block_bytes(format) / n_parts;
    const uint32_t *minus = act + AXK_ACT_K_SUMS * s.n;

#pragma GCC unroll 1
    for (uint32_t part = 0; part < n_parts; part++) {
        const uint8_t *line =
            lines_of(format, w) + part / 2 * line_bytes(format);

        fetch_share(s, ahead + part * share, share);
        add_part(format, s, line,
                 line_scales(format, e->scales, part / 2, line), part % 2, act,
                 minus, total);
        if (part % 2 == 1 && s.is_decoded) {
            s.codes += 16 * part_elems(format);
        }
        act += part_elems(format) / 4 * s.n;
        minus += part_elems(format) / 16 * s.n;
    }
}


/* The pass over a block that has its first rows expands its scales, for those
 * that follow too: where there are several, n_blocks is 1. */
INLINE void
tile_blocks_256(const uint32_t format, struct shape s, const uint8_t *w,
                const uint8_t *ahead, const uint32_t *act, uint32_t n_blocks,
                struct expanded *e, results acc)
{
    for (uint32_t b = 0; b < n_blocks; b++) {
        const uint8_t *tail = tail_of(format, w);
        sums total;

        if (s.first == 0) {
            expand_scales(format, w, e->scales);
        }
        if (s.first == 0 && has_min(format)) {
            expand_minima(format, tail + 64, e->minima);
        }
        clear(s, total);
        if (is_widened_by_scale(format)) {
            add_lines_16(format, s, w, ahead, act, e, total);
        } else {
            add_parts(format, s, w, ahead, act, e, total);
        }
        add_scaled(format, s, total, tail, act + AXK_ACT_K_D * s.n, acc);
        if (has_min(format)) {
            subtract_minima(format, s, tail + 64, e->minima, act, acc);
        }
        w += panel_block_bytes(format);
        ahead += panel_block_bytes(format);
        s.codes += s.is_decoded ? decoded_bytes(format) : 0;
        act += AXK_ACT_K_WORDS * s.n;
    }
}


INLINE void
tile_floats(const uint32_t format, const struct shape s, const uint8_t *w,
            const uint8_t *ahead, const uint32_t *act, uint32_t k, results acc)
{
    for (uint32_t i = 0; i < k; i++) {
        fetch_share(s, ahead, (uint32_t)panel_block_bytes(format));
        ahead += panel_block_bytes(format);
        for (uint32_t r = 0; r < s.rows; r++) {
            uint32_t vector = s.first + r;
            __m256 x = format == AXK_F32
                           ? _mm256_loadu_ps((const float *)w + 8 * vector)
                           : load_8_halves(format, w + 16 * vector);

            for (uint32_t t = 0; t < s.n; t++) {
                acc[r][t] = _mm256_fmadd_ps(x, word_f32(act + t), acc[r][t]);
            }
        }
        w += panel_block_bytes(format);
        act += s.n;
    }
}

#endif
