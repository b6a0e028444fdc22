/*
 * Two tiles of tokens, up to 8, in one pass over a panel: for the formats whose
 * sums are one per row and token while their blocks last, so that 16 of them
 * stay in registers.  Those are the float formats, and Q2_K and Q3_K where the
 * byte that is multiplied is the weight times its sub-scale (decoded_avx512.h:
 * 0 to 45; -124 to 128, stored plus 124).  Taking weights apart then costs once
 * for 8 tokens what it cost for 4, and parts need no multiplication.
 *
 * The integers are those of tiles_avx512.h and the f32 steps are its functions,
 * so the results have the same bits.
 */

#ifndef AXK_SCALED_AVX512_H
#define AXK_SCALED_AVX512_H

#include "kernels/tiles_avx512.h"
#include "kernels/decoded_avx512.h"

/* Bytes between what is read and what is fetched.  Of 5 tokens and more the
 * arithmetic hides nothing by itself: it fills the window in which a core looks
 * ahead.  Up to 4 the plain order of addresses is faster. */
#define FLOATS_AHEAD 4096
#define SCALED_AHEAD 2048

/* 16 rows of a part: the products of a row's scale by code, and what the high
 * bit adds (Q3_K). */
struct products {
    __m512i table;
    __m512i high;
};


/* Byte q of each row's four: q times the scale; Q3_K: q - 4 times, plus 124.
 * No byte leaves 0..255, so one multiplication of 32 bits makes all four. */
INLINE struct products
products_of(const uint32_t format, const uint8_t *scales)
{
    struct products x = {{0}, {0}};

    if (format == AXK_Q2_K) {
        x.table = _mm512_mullo_epi32(sub_scales(format, scales),
                                     _mm512_set1_epi32(0x03020100));
        return x;
    }
    const __m512i times =
        _mm512_set1_epi32(-4 - 3 * 256 - 2 * 65536 - 16777216);
    x.table =
        _mm512_add_epi32(_mm512_mullo_epi32(sub_scales(format, scales), times),
                         _mm512_set1_epi8(124));
    x.high = scale_bytes(scales);
    x.high = _mm512_add_epi8(x.high, x.high);
    x.high = _mm512_add_epi8(x.high, x.high);
    return x;
}


/* Step i of a part: 16 rows, 4 k; bit: where h has their high bits. */
INLINE __m512i
scaled_step(const uint32_t format, struct products p, __m512i q, __m512i h,
            const unsigned int i, const unsigned int bit)
{
    const __m512i mask = _mm512_set1_epi8(3);
    const __m512i row =
        _mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0);
    /* (q >> 2 i & 3) | the row's place in its four */
    __m512i at =
        _mm512_ternarylogic_epi32(_mm512_srli_epi16(q, 2 * i), mask, row, 0xea);
    __m512i x = _mm512_shuffle_epi8(p.table, at);

    return format == AXK_Q3_K ? add_where(x, p.high, h, bit) : x;
}


/* The two parts of a line times the tokens of both tiles. */
INLINE void
dot_scaled_line(const uint32_t format, const uint8_t *line,
                const uint8_t *scales, const uint32_t *a0, const uint32_t *a1,
                const int n0, const int n1, sums sum0, sums sum1)
{
    __m512i h0 = _mm512_setzero_si512();
    __m512i h1 = h0;

    if (format == AXK_Q3_K) {
        h0 = _mm512_loadu_si512(line);
        h1 = _mm512_loadu_si512(line + 64);
    }
    for (uint32_t i = 0; i < line_bytes(format); i += 64) {
        _mm_prefetch((const char *)line + SCALED_AHEAD + i, _MM_HINT_T0);
    }
#pragma GCC unroll 2
    for (unsigned int part = 0; part < 2; part++) {
        const uint8_t *p = line + line_head(format) + part * part_bytes(format);
        struct products p0 = products_of(format, scales + 32 * part);
        struct products p1 = products_of(format, scales + 32 * part + 16);
        __m512i q0 = _mm512_loadu_si512(p);
        __m512i q1 = _mm512_loadu_si512(p + 64);

#pragma GCC unroll 4
        for (unsigned int i = 0; i < 4; i++) {
            __m512i w0 = scaled_step(format, p0, q0, h0, i, 4 * part + i);
            __m512i w1 = scaled_step(format, p1, q1, h1, i, 4 * part + i);
            unsigned int step = 4 * part + i;

            dot_4(w0, w1, a0 + step * (unsigned int)n0, n0, sum0);
            dot_4(w0, w1, a1 + step * (unsigned int)n1, n1, sum1);
        }
    }
}


/* All blocks of a panel of Q2_K or Q3_K. */
INLINE void
tiles_scaled(const uint32_t format, const uint8_t *w, const uint32_t *act0,
             const uint32_t *act1, uint32_t n_blocks, const int n0,
             const int n1, __m512 acc0[2][AXK_TILE], __m512 acc1[2][AXK_TILE])
{
    uint8_t scales[SCALES_MAX] __attribute__((aligned(64)));

    for (uint32_t b = 0; b < n_blocks; b++) {
        const uint8_t *tail = tail_of(format, w);
        sums sum0;
        sums sum1;

        expand_scales(format, w, scales);
        start_block_256(format, act0, n0, sum0);
        start_block_256(format, act1, n1, sum1);
#pragma GCC unroll 1
        for (uint32_t i = 0; i < n_lines(format); i++) {
            dot_scaled_line(format,
                            lines_of(format, w) + i * line_bytes(format),
                            scales + 64 * i, act0 + 8 * i * (uint32_t)n0,
                            act1 + 8 * i * (uint32_t)n1, n0, n1, sum0, sum1);
        }
        __m512 d0 = load_16_halves(format, tail);
        __m512 d1 = load_16_halves(format, tail + 32);

        add_scaled(sum0, d0, d1, act0 + AXK_ACT_K_D * n0, n0, acc0);
        add_scaled(sum1, d0, d1, act1 + AXK_ACT_K_D * n1, n1, acc1);
        if (has_min(format)) {
            subtract_minima(format, tail + 64, act0, n0, acc0);
        }
        if (has_min(format) && n1 > 0) {
            subtract_minima(format, tail + 64, act1, n1, acc1);
        }
        w += panel_block_bytes(format);
        act0 += AXK_ACT_K_WORDS * n0;
        act1 += AXK_ACT_K_WORDS * n1;
    }
}


INLINE void
tiles_floats(const uint32_t format, const uint8_t *w, const uint32_t *act0,
             const uint32_t *act1, uint32_t k, const int n0, const int n1,
             __m512 acc0[2][AXK_TILE], __m512 acc1[2][AXK_TILE])
{
    for (uint32_t i = 0; i < k; i++) {
        const size_t bytes = panel_block_bytes(format);
        __m512 w0;
        __m512 w1;

        for (size_t j = 0; j < bytes && n1 > 0; j += 64) {
            _mm_prefetch((const char *)w + FLOATS_AHEAD + j, _MM_HINT_T0);
        }
        if (format == AXK_F32) {
            w0 = _mm512_loadu_ps(w);
            w1 = _mm512_loadu_ps(w + 64);
        } else {
            w0 = load_16_halves(format, w);
            w1 = load_16_halves(format, w + 32);
        }
        add_weighted(w0, w1, act0, n0, acc0);
        add_weighted(w0, w1, act1, n1, acc1);
        w += bytes;
        act0 += n0;
        act1 += n1;
    }
}

#endif
