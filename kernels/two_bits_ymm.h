/*
 * Q2_K and Q3_K over ymm: parts of 16 k whose weights have two bits, and a
 * third elsewhere.  Taking them apart takes longer than their dots, so there
 * are three ways: for any tile; from bytes that decoded_ymm.h has made for many
 * tokens; and for one token.
 *
 * Included by tiles_ymm.h, which has the shapes and the rest of a block.
 */

#ifndef AXK_TWO_BITS_YMM_H
#define AXK_TWO_BITS_YMM_H


/* 16 k of two bits each; part, for Q3_K: which half of the high bits.  sum:
 * with VNNI they are added to it, else it becomes their 16-bit sums. */
INLINE void
dot_two_bits(const uint32_t format, const struct shape s, const uint8_t *w,
             const uint8_t *high, uint32_t part, const uint32_t *a, sums sum)
{
    const __m256i mask = _mm256_set1_epi8(3);
    const __m128i half = _mm_cvtsi32_si128((int)(4 * part));

    if (!AXK_YMM_VNNI) {
        clear(s, sum); /* 4 * 2 * 7 * 127 fits */
    }
    for (uint32_t r = 0; r < s.rows; r++) {
        __m256i q = load_32_bytes(w + 32 * r);
        __m256i h = mask;

        if (format == AXK_Q3_K) {
            h = _mm256_srl_epi16(load_32_bytes(high + 32 * r), half);
        }
#pragma GCC unroll 1
        for (uint32_t i = 0; i < 4; i++) {
            __m256i codes = _mm256_and_si256(q, mask);

            if (format == AXK_Q3_K) {
                codes = _mm256_or_si256(
                    codes, _mm256_and_si256(_mm256_slli_epi16(h, 2),
                                            _mm256_set1_epi8(4)));
                h = _mm256_srli_epi16(h, 1);
            }
            dot_codes(s, r, codes, a + i * s.n, sum);
            q = _mm256_srli_epi16(q, 2);
        }
    }
}


/* 16 k of a row vector that are decoded: sum becomes their 16-bit sums. */
INLINE void
dot_decoded(const struct shape s, const uint8_t *codes, const uint32_t *a,
            sums sum)
{
    __m256i first = load_codes(codes);

    for (uint32_t t = 0; t < s.n; t++) {
        sum[0][t] = _mm256_maddubs_epi16(first, word(a + t));
    }
#pragma GCC unroll 3
    for (uint32_t i = 1; i < 4; i++) {
        dot_codes(s, 0, load_codes(codes + 32 * i), a + i * s.n, sum);
    }
}


/* 8 sub-scales of one part, each as two 16-bit numbers; none is above 127. */
INLINE __m256i
scale_pairs(const uint8_t *p)
{
    const __m256i twice = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13));

    return _mm256_shuffle_epi8(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)), twice);
}


/* One token, all rows in one pass: add_part_once() is for that. */
INLINE bool
is_once(const uint32_t format, const struct shape s)
{
    return is_two_bit(format) && s.n == 1 && s.rows == ROWS_MAX;
}


/*
 * One part of two bits for one token, where taking the weights apart is what
 * takes the time: shifts are literal, an activation is read for two row vectors
 * at once, which is what fits the registers, and Q3_K's zero point is where
 * the sums start.  minus: - the sum of activations; 4 times that is 8128 at
 * most, and with the products (4 * 2 * 7 * 127) fits the first of each row's
 * two 16-bit sums.  scales: the part's.
 */
INLINE void
add_part_once(const uint32_t format, const uint8_t *w, const uint8_t *high,
              uint32_t part, const uint8_t *scales, const uint32_t *a,
              const uint32_t *minus, sums total)
{
    const __m256i start = _mm256_and_si256(_mm256_slli_epi32(word(minus), 2),
                                           _mm256_set1_epi32(0xffff));

    for (uint32_t r0 = 0; r0 < ROWS_MAX; r0 += 2) {
        __m256i q[2];
        __m256i h[2];
        __m256i pairs[2];

        for (uint32_t r = 0; r < 2; r++) {
            q[r] = load_32_bytes(w + 32 * (r0 + r));
            h[r] = q[r];
            pairs[r] = _mm256_setzero_si256();
            if (format == AXK_Q3_K) {
                h[r] = load_32_bytes(high + 32 * (r0 + r));
                h[r] = part == 0 ? _mm256_slli_epi16(h[r], 2)
                                 : _mm256_srli_epi16(h[r], 2);
                pairs[r] = start;
            }
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            __m256i x = word(a + i);

            for (uint32_t r = 0; r < 2; r++) {
                __m256i codes = _mm256_and_si256(_mm256_srli_epi16(q[r], 2 * i),
                                                 _mm256_set1_epi8(3));

                if (format == AXK_Q3_K) {
                    codes = _mm256_or_si256(
                        codes, _mm256_and_si256(_mm256_srli_epi16(h[r], i),
                                                _mm256_set1_epi8(4)));
                }
                pairs[r] =
                    _mm256_add_epi16(pairs[r], _mm256_maddubs_epi16(codes, x));
            }
        }
        for (uint32_t r = 0; r < 2; r++) {
            total[r0 + r][0] = _mm256_add_epi32(
                total[r0 + r][0],
                _mm256_madd_epi16(pairs[r],
                                  scale_pairs(scales + 8 * (r0 + r))));
        }
    }
}

#endif
