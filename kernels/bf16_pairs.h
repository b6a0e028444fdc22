/*
 * BF16 operands as the dots of AVX512_BF16 and AMX want them: two k side by
 * side in a word.  Weights come from a panel ([k][32 rows]), activations from a
 * tile of tokens ([k][n tokens] f32), rounded to nearest even with denormals as
 * zeros.  scalar_bf16.c has the definitions.
 */

#ifndef AXK_BF16_PAIRS_H
#define AXK_BF16_PAIRS_H

#include "kernels/tiles_avx512.h"


/* A word of k and k + 1 for each of 32 rows: w has k, then k + 1. */
INLINE void
pair_lines(__m512i even, __m512i odd, __m512i pairs[2])
{
    const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11,
                                         42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37,
                                         5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));

    pairs[0] = _mm512_permutex2var_epi16(even, low, odd);
    pairs[1] = _mm512_permutex2var_epi16(even, high, odd);
}


/* k rows of a panel: out [pair][32 rows] words. */
INLINE void
pair_weights(const uint8_t *w, uint32_t k, uint32_t *out)
{
    for (uint32_t i = 0; i < k; i += 2) {
        __m512i odd = _mm512_setzero_si512();
        __m512i pairs[2];

        if (i + 1 < k) {
            odd = _mm512_loadu_si512(w + 64);
        }
        pair_lines(_mm512_loadu_si512(w), odd, pairs);
        _mm512_store_si512(out, pairs[0]);
        _mm512_store_si512(out + 16, pairs[1]);
        w += 128;
        out += 32;
    }
}


/* The first n of 16 floats, n of any sign; zeros behind. */
INLINE __m512
load_first(const float *x, int64_t n)
{
    if (n >= 16) {
        return _mm512_loadu_ps(x);
    }
    return _mm512_maskz_loadu_ps((__mmask16)(n > 0 ? (1u << n) - 1 : 0), x);
}


/* x [k][n tokens] f32 to [pair][n] words of two BF16; up to a vector more is
 * written. */
INLINE void
pair_activations(const float *x, uint32_t k, const uint32_t n, uint32_t *out)
{
    const uint32_t pairs = 16 / n; /* in one step */
    int64_t left = (int64_t)k * n;
    uint16_t from[32];

    for (uint32_t i = 0; i < 32; i++) {
        uint32_t word = i / 2;

        from[i] = (uint16_t)((2 * (word / n) + i % 2) * n + word % n);
    }
    const __m512i order = _mm512_loadu_si512(from);

    for (uint32_t i = 0; i < k; i += 2 * pairs) {
        __m512 low = load_first(x, left);
        __m512 high = load_first(x + 16, left - 16);
        __m512i both = (__m512i)_mm512_cvtne2ps_pbh(high, low);

        _mm512_storeu_si512(out, _mm512_permutexvar_epi16(order, both));
        x += 2 * pairs * n;
        left -= 2 * pairs * n;
        out += pairs * n;
    }
}

#endif
