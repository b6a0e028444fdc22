/*
 * Sixteen f32 lanes as one zmm, for the shared vector files (vec_*.inc.h).
 * simd_avx2.h has the same names as two ymm.  Every function is one exact
 * IEEE operation a lane, or a fixed order of them, so the shared files give
 * the same bits over both.
 */

#ifndef AXK_SIMD_AVX512_H
#define AXK_SIMD_AVX512_H

#include <immintrin.h>
#include <stdint.h>

/* Vectors of columns in one attention micro-kernel: accumulators of 6 rows
 * must fit the registers (32 zmm). */
#define V16_BATCH 4

typedef __m512 v16;
typedef __m512i v16i;


INLINE v16
v16_load(const float *p)
{
    return _mm512_loadu_ps(p);
}


/* The first n < 16 lanes, the rest zero. */
INLINE v16
v16_load_n(const float *p, uint32_t n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}


INLINE void
v16_store(float *p, v16 x)
{
    _mm512_storeu_ps(p, x);
}


INLINE void
v16_store_n(float *p, v16 x, uint32_t n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), x);
}


/* x with the lanes from n on set to zero. */
INLINE v16
v16_first_n(v16 x, uint32_t n)
{
    return _mm512_maskz_mov_ps((__mmask16)((1u << n) - 1), x);
}


INLINE v16
v16_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}


INLINE void
v16_store_f16(uint16_t *p, v16 x)
{
    _mm256_storeu_si256((__m256i *)p,
                        _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}


INLINE v16
v16_load_bf16(const uint16_t *p)
{
    __m512i x = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));

    return _mm512_castsi512_ps(_mm512_slli_epi32(x, 16));
}


/* Rounded to nearest even by integers: VCVTNEPS2BF16 takes denormals as zeros,
 * and not every CPU has it. */
INLINE void
v16_store_bf16(uint16_t *p, v16 x)
{
    __m512i u = _mm512_castps_si512(x);
    __m512i upper = _mm512_srli_epi32(u, 16);
    __m512i odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
    __m512i rounded = _mm512_srli_epi32(
        _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))),
        16);
    __m512i quiet = _mm512_or_si512(upper, _mm512_set1_epi32(0x40));
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);

    _mm256_storeu_si256(
        (__m256i *)p,
        _mm512_cvtepi32_epi16(_mm512_mask_blend_epi32(nan, rounded, quiet)));
}


INLINE v16
v16_set1(float x)
{
    return _mm512_set1_ps(x);
}


INLINE v16
v16_add(v16 a, v16 b)
{
    return _mm512_add_ps(a, b);
}


INLINE v16
v16_sub(v16 a, v16 b)
{
    return _mm512_sub_ps(a, b);
}


INLINE v16
v16_mul(v16 a, v16 b)
{
    return _mm512_mul_ps(a, b);
}


INLINE v16
v16_div(v16 a, v16 b)
{
    return _mm512_div_ps(a, b);
}


/* a * b + c */
INLINE v16
v16_fma(v16 a, v16 b, v16 c)
{
    return _mm512_fmadd_ps(a, b, c);
}


/*
 * acc[v] += *a * b[v] for v < n.  The broadcast is part of the instruction: as
 * one of its own, which is what gcc makes of intrinsics, it takes a tenth of
 * the time of 3 rows of 4 vectors on Zen 4.
 */
INLINE void
v16_fma_row(v16 *acc, const float *a, const v16 *b, const uint32_t n)
{
#pragma GCC unroll 4
    for (uint32_t v = 0; v < n; v++) {
        v16 x = acc[v];

        __asm__("vfmadd231ps %2%{1to16%}, %1, %0"
                : "+v"(x)
                : "v"(b[v]), "m"(*a));
        acc[v] = x;
    }
}


INLINE v16
v16_max(v16 a, v16 b)
{
    return _mm512_max_ps(a, b);
}


/* a < b ? yes : no */
INLINE v16
v16_select_lt(v16 a, v16 b, v16 yes, v16 no)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}


/* a < b ? yes : no, of integers */
INLINE v16i
v16i_select_lt(v16 a, v16 b, v16i yes, v16i no)
{
    return _mm512_mask_blend_epi32(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no,
                                   yes);
}


INLINE v16
v16_dup_even(v16 x)
{
    return _mm512_moveldup_ps(x);
}


INLINE v16
v16_dup_odd(v16 x)
{
    return _mm512_movehdup_ps(x);
}


/* Lanes folded in halves: 16 to 8 to 4 to 2 to 1. */
INLINE float
v16_fold(v16 x)
{
    __m256 a =
        _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 b =
        _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    b = _mm_add_ss(b, _mm_movehdup_ps(b));
    return _mm_cvtss_f32(b);
}


INLINE float
v16_largest(v16 x)
{
    return _mm512_reduce_max_ps(x);
}


INLINE v16i
v16i_set1(int32_t x)
{
    return _mm512_set1_epi32(x);
}


INLINE v16i
v16i_load(const void *p)
{
    return _mm512_loadu_si512(p);
}


INLINE void
v16i_store(void *p, v16i x)
{
    _mm512_storeu_si512(p, x);
}


INLINE v16i
v16i_add(v16i a, v16i b)
{
    return _mm512_add_epi32(a, b);
}


/* 2^n as a float, for the n in the low bits of t = n + 1.5 * 2^23. */
INLINE v16
v16_power_of_two(v16 t)
{
    return _mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_slli_epi32(_mm512_castps_si512(t), 23),
                         _mm512_set1_epi32(0x3f800000)));
}


/* The bits of |x|. */
INLINE v16i
v16i_magnitude(v16 x)
{
    return _mm512_and_si512(_mm512_castps_si512(x),
                            _mm512_set1_epi32(0x7fffffff));
}


INLINE v16i
v16i_max_u32(v16i a, v16i b)
{
    return _mm512_max_epu32(a, b);
}


INLINE uint32_t
v16i_largest_u32(v16i x)
{
    return _mm512_reduce_max_epu32(x);
}


INLINE int32_t
v16i_sum(v16i x)
{
    return _mm512_reduce_add_epi32(x);
}


/* Nearest integer, halves away from zero; |x| < 2^22; below is the largest
 * float below one half. */
INLINE v16i
v16_round(v16 x, float below)
{
    __m512i sign =
        _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(INT32_MIN));
    __m512i half =
        _mm512_or_si512(sign, _mm512_castps_si512(_mm512_set1_ps(below)));

    return _mm512_cvttps_epi32(_mm512_add_ps(x, _mm512_castsi512_ps(half)));
}


/* Nearest integer, ties to even; |x| < 2^22. */
INLINE v16i
v16_round_even(v16 x)
{
    __m512 t = _mm512_add_ps(x, _mm512_set1_ps(AXK_ROUND_MAGIC));

    return _mm512_sub_epi32(_mm512_castps_si512(t),
                            _mm512_set1_epi32(AXK_ROUND_MAGIC_BITS));
}


/* 16 values of -128..127 as bytes. */
INLINE void
v16i_store_i8(int8_t *p, v16i x)
{
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(x));
}


/* The bits as floats. */
INLINE v16
v16i_as_f32(v16i x)
{
    return _mm512_castsi512_ps(x);
}


INLINE v16i
v16i_mul_i32(v16i a, v16i b)
{
    return _mm512_mullo_epi32(a, b);
}


/* Even and odd lanes of a, then of b. */
INLINE v16i
even_lanes(v16i a, v16i b)
{
    const __m512i index = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18,
                                            20, 22, 24, 26, 28, 30);

    return _mm512_permutex2var_epi32(a, index, b);
}


INLINE v16i
odd_lanes(v16i a, v16i b)
{
    const __m512i index = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19,
                                            21, 23, 25, 27, 29, 31);

    return _mm512_permutex2var_epi32(a, index, b);
}


/* Lane i: the largest lane of x[i], of 16. */
INLINE v16i
v16i_fold_max_u32(v16i *x)
{
    for (int n = 8; n > 0; n /= 2) {
        for (int i = 0; i < n; i++) {
            x[i] = _mm512_max_epu32(even_lanes(x[2 * i], x[2 * i + 1]),
                                    odd_lanes(x[2 * i], x[2 * i + 1]));
        }
    }
    return x[0];
}


/* Lane i: the sum of the lanes of x[i], of 16. */
INLINE v16i
v16i_fold_sum(v16i *x)
{
    for (int n = 8; n > 0; n /= 2) {
        for (int i = 0; i < n; i++) {
            x[i] = _mm512_add_epi32(even_lanes(x[2 * i], x[2 * i + 1]),
                                    odd_lanes(x[2 * i], x[2 * i + 1]));
        }
    }
    return x[0];
}


/* Lanes of a, then of b, as half as wide, within each 128 bits. */
INLINE v16i
v16i_pack_i32(v16i a, v16i b)
{
    return _mm512_packs_epi32(a, b);
}


INLINE v16i
v16i_pack_i16(v16i a, v16i b)
{
    return _mm512_packs_epi16(a, b);
}


/* Even, or odd, lanes of a, then of b, within each 128 bits. */
INLINE v16i
v16i_even_of_four(v16i a, v16i b)
{
    return _mm512_castps_si512(_mm512_shuffle_ps(_mm512_castsi512_ps(a),
                                                 _mm512_castsi512_ps(b), 0x88));
}


INLINE v16i
v16i_odd_of_four(v16i a, v16i b)
{
    return _mm512_castps_si512(_mm512_shuffle_ps(_mm512_castsi512_ps(a),
                                                 _mm512_castsi512_ps(b), 0xdd));
}


/* Lane i of each 128 bits: the largest of those of x[i], of four. */
INLINE v16i
v16i_max_in_four(const v16i *x)
{
    v16i a = _mm512_max_epu32(_mm512_unpacklo_epi32(x[0], x[1]),
                              _mm512_unpackhi_epi32(x[0], x[1]));
    v16i b = _mm512_max_epu32(_mm512_unpacklo_epi32(x[2], x[3]),
                              _mm512_unpackhi_epi32(x[2], x[3]));

    return _mm512_max_epu32(_mm512_unpacklo_epi64(a, b),
                            _mm512_unpackhi_epi64(a, b));
}


/* The first and third 128 bits of a, then of b; the second and fourth. */
INLINE v16i
even_quarters(v16i a, v16i b)
{
    return _mm512_shuffle_i32x4(a, b, 0x88);
}


INLINE v16i
odd_quarters(v16i a, v16i b)
{
    return _mm512_shuffle_i32x4(a, b, 0xdd);
}


/* 128 bits i: the largest of the four 128 bits of x[i], lane by lane. */
INLINE v16i
v16i_max_of_quarters(const v16i *x)
{
    v16i a =
        _mm512_max_epu32(even_quarters(x[0], x[1]), odd_quarters(x[0], x[1]));
    v16i b =
        _mm512_max_epu32(even_quarters(x[2], x[3]), odd_quarters(x[2], x[3]));

    return _mm512_max_epu32(even_quarters(a, b), odd_quarters(a, b));
}


/* The same of their sums. */
INLINE v16i
v16i_sum_of_quarters(const v16i *x)
{
    v16i a =
        _mm512_add_epi32(even_quarters(x[0], x[1]), odd_quarters(x[0], x[1]));
    v16i b =
        _mm512_add_epi32(even_quarters(x[2], x[3]), odd_quarters(x[2], x[3]));

    return _mm512_add_epi32(even_quarters(a, b), odd_quarters(a, b));
}


/* Lane by lane the sum of four signed bytes. */
INLINE v16i
v16i_sum_bytes(v16i x)
{
    return _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), x);
}


/* Four words of each of four rows, turned: row i of dst has word i of all. */
INLINE void
transpose_4x4(const uint32_t *src, size_t stride, uint32_t *dst,
              size_t dst_stride)
{
    __m128i a = _mm_loadu_si128((const __m128i *)src);
    __m128i b = _mm_loadu_si128((const __m128i *)(src + stride));
    __m128i c = _mm_loadu_si128((const __m128i *)(src + 2 * stride));
    __m128i d = _mm_loadu_si128((const __m128i *)(src + 3 * stride));
    __m128i ab = _mm_unpacklo_epi32(a, b);
    __m128i cd = _mm_unpacklo_epi32(c, d);

    _mm_storeu_si128((__m128i *)dst, _mm_unpacklo_epi64(ab, cd));
    _mm_storeu_si128((__m128i *)(dst + dst_stride), _mm_unpackhi_epi64(ab, cd));
    ab = _mm_unpackhi_epi32(a, b);
    cd = _mm_unpackhi_epi32(c, d);
    _mm_storeu_si128((__m128i *)(dst + 2 * dst_stride),
                     _mm_unpacklo_epi64(ab, cd));
    _mm_storeu_si128((__m128i *)(dst + 3 * dst_stride),
                     _mm_unpackhi_epi64(ab, cd));
}


/* ---- integer dots, for KV as q8_0 ---- */

INLINE v16
v16i_to_f32(v16i x)
{
    return _mm512_cvtepi32_ps(x);
}


/* What the sums of v16i_dot_codes start at; minus: -128 times the sum of all
 * activations. */
INLINE v16i
v16i_dot_start(uint32_t minus)
{
    return _mm512_set1_epi32((int32_t)minus);
}


/*
 * acc + 4 products a lane: codes are weights + 128, x signed bytes.  This and
 * v16i_dot_pairs() as assembly: gcc copies the sums from one register to
 * another and back in every turn of a loop.
 */
INLINE v16i
v16i_dot_codes(v16i acc, v16i codes, v16i x)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(codes), "v"(x));
    return acc;
}


/* 32 bytes as 16 pairs of 16-bit integers. */
INLINE v16i
v16i_load_i8_pairs(const uint8_t *p)
{
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p));
}


/* acc + 2 products a lane, of 16-bit integers. */
INLINE v16i
v16i_dot_pairs(v16i acc, v16i a, v16i b)
{
    __asm__("vpdpwssd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
    return acc;
}


/* 0 < a ? a * b : 0 */
INLINE v16
v16_mul_positive(v16 a, v16 b)
{
    __mmask16 positive = _mm512_cmp_ps_mask(_mm512_setzero_ps(), a, _CMP_LT_OQ);

    return _mm512_maskz_mul_ps(positive, a, b);
}


INLINE v16i
v16i_of_f32(v16 x)
{
    return _mm512_castps_si512(x);
}


/* 16 values of 0..32767 rounded to 16-bit integers, ties to even: the magic
 * number's own low 16 bits are zero. */
INLINE void
v16_store_round_i16(int16_t *p, v16 x)
{
    __m512 t = _mm512_add_ps(x, _mm512_set1_ps(AXK_ROUND_MAGIC));

    _mm256_storeu_si256((__m256i *)p,
                        _mm512_cvtepi32_epi16(_mm512_castps_si512(t)));
}

#endif
