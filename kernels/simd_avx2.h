/*
 * Sixteen f32 lanes as two ymm, for the shared vector files (vec_*.inc.h).
 * The same names as simd_avx512.h, which says what each must do.
 */

#ifndef AXK_SIMD_AVX2_H
#define AXK_SIMD_AVX2_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

/* 6 rows of one v16 are 12 of the 16 ymm. */
#define V16_BATCH 1

typedef struct {
    __m256 lo, hi;
} v16;

typedef struct {
    __m256i lo, hi;
} v16i;


INLINE v16
v16_load(const float *p)
{
    return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}


INLINE v16
v16_load_n(const float *p, uint32_t n)
{
    float lanes[16] = {0};

    memcpy(lanes, p, n * sizeof(float));
    return v16_load(lanes);
}


INLINE void
v16_store(float *p, v16 x)
{
    _mm256_storeu_ps(p, x.lo);
    _mm256_storeu_ps(p + 8, x.hi);
}


INLINE void
v16_store_n(float *p, v16 x, uint32_t n)
{
    float lanes[16];

    v16_store(lanes, x);
    memcpy(p, lanes, n * sizeof(float));
}


INLINE v16
v16_first_n(v16 x, uint32_t n)
{
    float lanes[16];

    v16_store(lanes, x);
    return v16_load_n(lanes, n);
}


INLINE v16
v16_load_f16(const uint16_t *p)
{
    return (v16){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                 _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)))};
}


INLINE void
v16_store_f16(uint16_t *p, v16 x)
{
    _mm_storeu_si128((__m128i *)p,
                     _mm256_cvtps_ph(x.lo, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)(p + 8),
                     _mm256_cvtps_ph(x.hi, _MM_FROUND_TO_NEAREST_INT));
}


INLINE __m256
load_bf16_8(const uint16_t *p)
{
    __m256i x = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));

    return _mm256_castsi256_ps(_mm256_slli_epi32(x, 16));
}


INLINE v16
v16_load_bf16(const uint16_t *p)
{
    return (v16){load_bf16_8(p), load_bf16_8(p + 8)};
}


INLINE __m256i
round_bf16_8(__m256 x)
{
    __m256i u = _mm256_castps_si256(x);
    __m256i upper = _mm256_srli_epi32(u, 16);
    __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
    __m256i rounded = _mm256_srli_epi32(
        _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))),
        16);
    __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));

    return _mm256_blendv_epi8(rounded, quiet, nan);
}


INLINE void
v16_store_bf16(uint16_t *p, v16 x)
{
    __m256i words = _mm256_packus_epi32(round_bf16_8(x.lo), round_bf16_8(x.hi));

    _mm256_storeu_si256((__m256i *)p, _mm256_permute4x64_epi64(words, 0xd8));
}


INLINE v16
v16_set1(float x)
{
    return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}


INLINE v16
v16_add(v16 a, v16 b)
{
    return (v16){_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}


INLINE v16
v16_sub(v16 a, v16 b)
{
    return (v16){_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}


INLINE v16
v16_mul(v16 a, v16 b)
{
    return (v16){_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}


INLINE v16
v16_div(v16 a, v16 b)
{
    return (v16){_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}


INLINE v16
v16_fma(v16 a, v16 b, v16 c)
{
    return (v16){_mm256_fmadd_ps(a.lo, b.lo, c.lo),
                 _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}


/* acc[v] += *a * b[v] for v < n */
INLINE void
v16_fma_row(v16 *acc, const float *a, const v16 *b, const uint32_t n)
{
    v16 x = v16_set1(*a);

    for (uint32_t v = 0; v < n; v++) {
        acc[v] = v16_fma(x, b[v], acc[v]);
    }
}


INLINE v16
v16_max(v16 a, v16 b)
{
    return (v16){_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}


INLINE v16
v16_select_lt(v16 a, v16 b, v16 yes, v16 no)
{
    return (v16){
        _mm256_blendv_ps(no.lo, yes.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
        _mm256_blendv_ps(no.hi, yes.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))};
}


INLINE v16i
v16i_select_lt(v16 a, v16 b, v16i yes, v16i no)
{
    v16 y = {_mm256_castsi256_ps(yes.lo), _mm256_castsi256_ps(yes.hi)};
    v16 n = {_mm256_castsi256_ps(no.lo), _mm256_castsi256_ps(no.hi)};
    v16 x = v16_select_lt(a, b, y, n);

    return (v16i){_mm256_castps_si256(x.lo), _mm256_castps_si256(x.hi)};
}


INLINE v16
v16_dup_even(v16 x)
{
    return (v16){_mm256_moveldup_ps(x.lo), _mm256_moveldup_ps(x.hi)};
}


INLINE v16
v16_dup_odd(v16 x)
{
    return (v16){_mm256_movehdup_ps(x.lo), _mm256_movehdup_ps(x.hi)};
}


INLINE float
v16_fold(v16 x)
{
    __m256 a = _mm256_add_ps(x.lo, x.hi);
    __m128 b =
        _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    b = _mm_add_ss(b, _mm_movehdup_ps(b));
    return _mm_cvtss_f32(b);
}


INLINE float
v16_largest(v16 x)
{
    __m256 a = _mm256_max_ps(x.lo, x.hi);
    __m128 b =
        _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    b = _mm_max_ss(b, _mm_movehdup_ps(b));
    return _mm_cvtss_f32(b);
}


INLINE v16i
v16i_set1(int32_t x)
{
    return (v16i){_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}


INLINE v16i
v16i_load(const void *p)
{
    const __m256i *q = p;

    return (v16i){_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
}


INLINE void
v16i_store(void *p, v16i x)
{
    __m256i *q = p;

    _mm256_storeu_si256(q, x.lo);
    _mm256_storeu_si256(q + 1, x.hi);
}


INLINE v16i
v16i_add(v16i a, v16i b)
{
    return (v16i){_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)};
}


INLINE __m256
power_of_two_8(__m256 t)
{
    return _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_slli_epi32(_mm256_castps_si256(t), 23),
                         _mm256_set1_epi32(0x3f800000)));
}


INLINE v16
v16_power_of_two(v16 t)
{
    return (v16){power_of_two_8(t.lo), power_of_two_8(t.hi)};
}


INLINE v16i
v16i_magnitude(v16 x)
{
    __m256i mask = _mm256_set1_epi32(0x7fffffff);

    return (v16i){_mm256_and_si256(_mm256_castps_si256(x.lo), mask),
                  _mm256_and_si256(_mm256_castps_si256(x.hi), mask)};
}


INLINE v16i
v16i_max_u32(v16i a, v16i b)
{
    return (v16i){_mm256_max_epu32(a.lo, b.lo), _mm256_max_epu32(a.hi, b.hi)};
}


INLINE uint32_t
v16i_largest_u32(v16i x)
{
    __m256i a = _mm256_max_epu32(x.lo, x.hi);
    __m128i b = _mm_max_epu32(_mm256_castsi256_si128(a),
                              _mm256_extracti128_si256(a, 1));

    b = _mm_max_epu32(b, _mm_shuffle_epi32(b, 0x4e));
    b = _mm_max_epu32(b, _mm_shuffle_epi32(b, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(b);
}


INLINE int32_t
v16i_sum(v16i x)
{
    __m256i a = _mm256_add_epi32(x.lo, x.hi);
    __m128i b = _mm_add_epi32(_mm256_castsi256_si128(a),
                              _mm256_extracti128_si256(a, 1));

    b = _mm_add_epi32(b, _mm_shuffle_epi32(b, 0x4e));
    b = _mm_add_epi32(b, _mm_shuffle_epi32(b, 0xb1));
    return _mm_cvtsi128_si32(b);
}


INLINE __m256i
round_8(__m256 x, float below)
{
    __m256 sign =
        _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(INT32_MIN)));
    __m256 half = _mm256_or_ps(sign, _mm256_set1_ps(below));

    return _mm256_cvttps_epi32(_mm256_add_ps(x, half));
}


INLINE v16i
v16_round(v16 x, float below)
{
    return (v16i){round_8(x.lo, below), round_8(x.hi, below)};
}


INLINE __m256i
round_even_8(__m256 x)
{
    __m256 t = _mm256_add_ps(x, _mm256_set1_ps(AXK_ROUND_MAGIC));

    return _mm256_sub_epi32(_mm256_castps_si256(t),
                            _mm256_set1_epi32(AXK_ROUND_MAGIC_BITS));
}


INLINE v16i
v16_round_even(v16 x)
{
    return (v16i){round_even_8(x.lo), round_even_8(x.hi)};
}


INLINE void
v16i_store_i8(int8_t *p, v16i x)
{
    __m256i words = _mm256_packs_epi32(x.lo, x.hi);

    words = _mm256_permute4x64_epi64(words, 0xd8);
    _mm_storeu_si128((__m128i *)p,
                     _mm_packs_epi16(_mm256_castsi256_si128(words),
                                     _mm256_extracti128_si256(words, 1)));
}


INLINE v16
v16i_as_f32(v16i x)
{
    return (v16){_mm256_castsi256_ps(x.lo), _mm256_castsi256_ps(x.hi)};
}


INLINE v16i
v16i_mul_i32(v16i a, v16i b)
{
    return (v16i){_mm256_mullo_epi32(a.lo, b.lo),
                  _mm256_mullo_epi32(a.hi, b.hi)};
}


INLINE v16i
v16i_fold_max_u32(v16i *x)
{
    uint32_t lanes[16];

    for (int i = 0; i < 16; i++) {
        lanes[i] = v16i_largest_u32(x[i]);
    }
    return v16i_load(lanes);
}


INLINE v16i
v16i_fold_sum(v16i *x)
{
    int32_t lanes[16];

    for (int i = 0; i < 16; i++) {
        lanes[i] = v16i_sum(x[i]);
    }
    return v16i_load(lanes);
}


INLINE v16i
v16i_pack_i32(v16i a, v16i b)
{
    return (v16i){_mm256_packs_epi32(a.lo, b.lo),
                  _mm256_packs_epi32(a.hi, b.hi)};
}


INLINE v16i
v16i_pack_i16(v16i a, v16i b)
{
    return (v16i){_mm256_packs_epi16(a.lo, b.lo),
                  _mm256_packs_epi16(a.hi, b.hi)};
}


INLINE __m256i
even_of_four_8(__m256i a, __m256i b)
{
    return _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(a),
                                                 _mm256_castsi256_ps(b), 0x88));
}


INLINE __m256i
odd_of_four_8(__m256i a, __m256i b)
{
    return _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(a),
                                                 _mm256_castsi256_ps(b), 0xdd));
}


INLINE v16i
v16i_even_of_four(v16i a, v16i b)
{
    return (v16i){even_of_four_8(a.lo, b.lo), even_of_four_8(a.hi, b.hi)};
}


INLINE v16i
v16i_odd_of_four(v16i a, v16i b)
{
    return (v16i){odd_of_four_8(a.lo, b.lo), odd_of_four_8(a.hi, b.hi)};
}


INLINE __m256i
max_in_four_8(__m256i a, __m256i b, __m256i c, __m256i d)
{
    __m256i ab = _mm256_max_epu32(_mm256_unpacklo_epi32(a, b),
                                  _mm256_unpackhi_epi32(a, b));
    __m256i cd = _mm256_max_epu32(_mm256_unpacklo_epi32(c, d),
                                  _mm256_unpackhi_epi32(c, d));

    return _mm256_max_epu32(_mm256_unpacklo_epi64(ab, cd),
                            _mm256_unpackhi_epi64(ab, cd));
}


INLINE v16i
v16i_max_in_four(const v16i *x)
{
    return (v16i){max_in_four_8(x[0].lo, x[1].lo, x[2].lo, x[3].lo),
                  max_in_four_8(x[0].hi, x[1].hi, x[2].hi, x[3].hi)};
}


INLINE __m256i
max_of_quarters_8(v16i a, v16i b)
{
    __m256i x = _mm256_max_epu32(a.lo, a.hi);
    __m256i y = _mm256_max_epu32(b.lo, b.hi);

    return _mm256_max_epu32(_mm256_permute2x128_si256(x, y, 0x20),
                            _mm256_permute2x128_si256(x, y, 0x31));
}


INLINE v16i
v16i_max_of_quarters(const v16i *x)
{
    return (v16i){max_of_quarters_8(x[0], x[1]), max_of_quarters_8(x[2], x[3])};
}


INLINE __m256i
sum_of_quarters_8(v16i a, v16i b)
{
    __m256i x = _mm256_add_epi32(a.lo, a.hi);
    __m256i y = _mm256_add_epi32(b.lo, b.hi);

    return _mm256_add_epi32(_mm256_permute2x128_si256(x, y, 0x20),
                            _mm256_permute2x128_si256(x, y, 0x31));
}


INLINE v16i
v16i_sum_of_quarters(const v16i *x)
{
    return (v16i){sum_of_quarters_8(x[0], x[1]), sum_of_quarters_8(x[2], x[3])};
}


INLINE __m256i
sum_bytes_8(__m256i x)
{
    return _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), x),
                             _mm256_set1_epi16(1));
}


INLINE v16i
v16i_sum_bytes(v16i x)
{
    return (v16i){sum_bytes_8(x.lo), sum_bytes_8(x.hi)};
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
    return (v16){_mm256_cvtepi32_ps(x.lo), _mm256_cvtepi32_ps(x.hi)};
}


/* The codes lose their offset in v16i_dot_codes. */
INLINE v16i
v16i_dot_start(uint32_t minus)
{
    (void)minus;
    return (v16i){_mm256_setzero_si256(), _mm256_setzero_si256()};
}


/* |w| times the activation with w's sign: 2 * 127 * 127 fits 16 bits. */
INLINE __m256i
dot_codes_8(__m256i acc, __m256i codes, __m256i x)
{
    __m256i w = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
    __m256i pairs =
        _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));

    return _mm256_add_epi32(acc,
                            _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}


INLINE v16i
v16i_dot_codes(v16i acc, v16i codes, v16i x)
{
    return (v16i){dot_codes_8(acc.lo, codes.lo, x.lo),
                  dot_codes_8(acc.hi, codes.hi, x.hi)};
}


INLINE v16i
v16i_load_i8_pairs(const uint8_t *p)
{
    return (v16i){
        _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p)),
        _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(p + 16)))};
}


INLINE v16i
v16i_dot_pairs(v16i acc, v16i a, v16i b)
{
    return (v16i){_mm256_add_epi32(acc.lo, _mm256_madd_epi16(a.lo, b.lo)),
                  _mm256_add_epi32(acc.hi, _mm256_madd_epi16(a.hi, b.hi))};
}


/* All bits, or none where a is not positive. */
INLINE v16
v16_mul_positive(v16 a, v16 b)
{
    __m256 zero = _mm256_setzero_ps();

    return (v16){_mm256_and_ps(_mm256_cmp_ps(zero, a.lo, _CMP_LT_OQ),
                               _mm256_mul_ps(a.lo, b.lo)),
                 _mm256_and_ps(_mm256_cmp_ps(zero, a.hi, _CMP_LT_OQ),
                               _mm256_mul_ps(a.hi, b.hi))};
}


INLINE v16i
v16i_of_f32(v16 x)
{
    return (v16i){_mm256_castps_si256(x.lo), _mm256_castps_si256(x.hi)};
}


INLINE void
v16_store_round_i16(int16_t *p, v16 x)
{
    v16i n = v16_round_even(x);
    __m256i words = _mm256_packs_epi32(n.lo, n.hi);

    _mm256_storeu_si256((__m256i *)p, _mm256_permute4x64_epi64(words, 0xd8));
}

#endif
