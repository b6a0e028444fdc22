/*
 * Matmul of many tokens: the codes of a panel are decoded to bytes once, into
 * a buffer that stays in L2, and every tile of tokens reads those.  The inner
 * loop is then the same two loads and eight dots for all formats, and the
 * work of taking high bits or tables apart is shared by all tokens.
 *
 * For Q2_K and Q3_K the decoded byte is the weight times its sub-scale (0 to
 * 45; -124 to 128, stored plus 124), so the parts need no multiplication of
 * their own: the integer sum of a block of 256 is one chain of dots.
 *
 * The sums are the exact integers of tiles_avx512.h and the f32 steps are its
 * functions, so the results have the same bits.
 */

#ifndef AXK_DECODED_AVX512_H
#define AXK_DECODED_AVX512_H

#include "kernels/tiles_avx512.h"

/* k in the buffer (32 bytes each: it stays in L1), and tokens whose results
 * wait while the next k are decoded: 64 KiB of stack each. */
#define DECODED_K      512
#define DECODED_TOKENS 512


INLINE uint8_t *
decode_nibbles(const uint32_t format, const uint8_t *w, const uint8_t *high,
               const int n_steps, uint8_t *out)
{
    struct nibbles s = start_nibbles(format, high);

    for (int i = 0; i < n_steps; i++) {
        struct codes c = read_nibbles(format, w, &s);

        for (int v = 0; v < 2; v++) {
            _mm512_storeu_si512(out + 64 * v, c.lo[v]);
            _mm512_storeu_si512(out + 128 + 64 * v, c.hi[v]);
        }
        w += 128;
        out += 256;
    }
    return out;
}


/* 16 sub-scales, each in the 4 bytes of its row. */
INLINE __m512i
scale_bytes(const uint8_t *p)
{
    const __m512i spread =
        _mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0x00000000);

    return _mm512_shuffle_epi8(
        _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)), spread);
}


/* x + y where bit (0..7) of a byte of bits is set */
INLINE __m512i
add_where(__m512i x, __m512i y, __m512i bits, unsigned int bit)
{
    __mmask64 set =
        _mm512_test_epi8_mask(bits, _mm512_set1_epi8((char)(1 << bit)));

    return _mm512_mask_add_epi8(x, set, x, y);
}


/* One part of Q2_K or Q3_K: 16 k, weight times scale. */
INLINE uint8_t *
decode_scaled(const uint32_t format, const uint8_t *w, const uint8_t *scales,
              const uint8_t *high, uint32_t part, uint8_t *out)
{
    for (uint32_t v = 0; v < 2; v++) {
        __m512i q = _mm512_loadu_si512(w + 64 * v);
        __m512i h = q;
        __m512i s = scale_bytes(scales + 16 * v);
        __m512i s2 = _mm512_add_epi8(s, s);
        __m512i s4 = _mm512_add_epi8(s2, s2);
        __m512i base = _mm512_setzero_si512();

        if (format == AXK_Q3_K) {
            base = _mm512_sub_epi8(_mm512_set1_epi8(124), s4);
            h = _mm512_loadu_si512(high + 64 * v);
        }
#pragma GCC unroll 4
        for (uint32_t i = 0; i < 4; i++) {
            __m512i x = add_where(base, s, q, 2 * i);

            x = add_where(x, s2, q, 2 * i + 1);
            if (format == AXK_Q3_K && part == 0) {
                x = add_where(x, s4, h, i);
            } else if (format == AXK_Q3_K) {
                x = add_where(x, s4, h, 4 + i);
            }
            _mm512_storeu_si512(out + 128 * i + 64 * v, x);
        }
    }
    return out + 512;
}


INLINE uint8_t *
decode_block_256(const uint32_t format, const uint8_t *w, uint8_t *out)
{
    uint8_t scales[SCALES_MAX] __attribute__((aligned(64)));

    if (is_two_bit(format)) {
        expand_scales(format, w, scales);
    }
    w += scales_bytes(format);
    for (uint32_t i = 0; i < n_lines(format); i++) {
        const uint8_t *p = w + line_head(format);

        for (uint32_t part = 0; part < 2; part++) {
            if (is_two_bit(format)) {
                out = decode_scaled(format, p, scales + 64 * i + 32 * part, w,
                                    part, out);
            } else {
                out = decode_nibbles(format, high_bits(format) ? p + 128 : p, p,
                                     (int)part_elems(format) / 8, out);
            }
            p += part_bytes(format);
        }
        w += line_bytes(format);
    }
    return out;
}


INLINE void
decode(const uint32_t format, const uint8_t *w, uint32_t n_blocks, uint8_t *out)
{
    /* The lines of the next call come into L2 while these are used. */
    const char *next = (const char *)w + n_blocks * panel_block_bytes(format);

    for (uint32_t b = 0; b < n_blocks; b++) {
        for (size_t i = 0; i < panel_block_bytes(format); i += 64) {
            _mm_prefetch(next + i, _MM_HINT_T1);
        }
        next += panel_block_bytes(format);
        if (is_k_format(format)) {
            out = decode_block_256(format, w, out);
        } else {
            const uint8_t *steps = w + steps_offset(format);
            out = decode_nibbles(format, steps, steps - 128, 4, out);
        }
        w += panel_block_bytes(format);
    }
}


INLINE void
decoded_blocks_32(const uint32_t format, const uint8_t *w, const uint8_t *codes,
                  const uint32_t *act, uint32_t n_blocks, const int n,
                  __m512 acc[2][AXK_TILE])
{
    for (uint32_t b = 0; b < n_blocks; b++) {
        sums sum;

        start_block_32(format, act, n, sum);
        dot_bytes(codes, 8, act, n, sum);
        add_scaled(sum, load_16_halves(format, w),
                   load_16_halves(format, w + 32), act + AXK_ACT_D * n, n, acc);
        if (has_min(format)) {
            add_weighted(load_16_halves(format, w + 64),
                         load_16_halves(format, w + 96), act + AXK_ACT_S * n, n,
                         acc);
        }
        w += panel_block_bytes(format);
        codes += 8 * 128;
        act += AXK_ACT_WORDS * n;
    }
}


/* The sum of a block of 256 before its first product: minus the share of what
 * was added to the bytes of Q3_K.  Unsigned: a thread that is late (pool.h)
 * may meet other bytes here, and what it makes of them is dropped. */
INLINE void
start_block_256(const uint32_t format, const uint32_t *act, const int n,
                sums total)
{
    for (int t = 0; t < n; t++) {
        uint32_t start = 0;

        for (int i = 0; i < 16 && format == AXK_Q3_K; i++) {
            start += act[(AXK_ACT_K_SUMS + i) * n + t];
        }
        total[0][t] = _mm512_set1_epi32((int32_t)(124u * start));
        total[1][t] = total[0][t];
    }
}


/* The parts of a block, each its dot times its scale. */
INLINE void
dot_parts(const uint32_t format, const uint8_t *w, const uint8_t *codes,
          const uint32_t *act, const int n, sums total)
{
    const uint32_t *minus = act + AXK_ACT_K_SUMS * n;
    const uint32_t n_steps = part_elems(format) / 4;
    uint8_t expanded[SCALES_MAX] __attribute__((aligned(64)));

    expand_scales(format, w, expanded);
#ifndef AXION_SANITIZED /* instrumented, gcc 12 has no loop left here */
#pragma GCC unroll 1
#endif
    for (uint32_t part = 0; part < AXK_QK_K / part_elems(format); part++) {
        const uint8_t *scales =
            part % 2 * 32 + line_scales(format, expanded, part / 2,
                                        w + part / 2 * line_bytes(format));
        sums sum;

        start_part(format, minus, n, sum);
        dot_bytes(codes, (int)n_steps, act, n, sum);
        add_part(sum, sub_scales(format, scales),
                 sub_scales(format, scales + 16), n, total);
        codes += 128 * n_steps;
        act += n_steps * (uint32_t)n;
        minus += part_elems(format) / 16 * (uint32_t)n;
    }
}


INLINE void
decoded_blocks_256(const uint32_t format, const uint8_t *w,
                   const uint8_t *codes, const uint32_t *act, uint32_t n_blocks,
                   const int n, __m512 acc[2][AXK_TILE])
{
    for (uint32_t b = 0; b < n_blocks; b++) {
        const uint8_t *tail = tail_of(format, w);
        sums total;

        start_block_256(format, act, n, total);
        if (is_two_bit(format)) {
            dot_bytes(codes, 64, act, n, total);
        } else {
            dot_parts(format, w, codes, act, n, total);
        }
        add_scaled(total, load_16_halves(format, tail),
                   load_16_halves(format, tail + 32), act + AXK_ACT_K_D * n, n,
                   acc);
        if (has_min(format)) {
            subtract_minima(format, tail + 64, act, n, acc);
        }
        w += panel_block_bytes(format);
        codes += 64 * 128;
        act += AXK_ACT_K_WORDS * n;
    }
}

#endif
