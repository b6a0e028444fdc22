/*
 * The quantized formats inside a packed panel: which pieces a block has,
 * where they lie, and how to read one weight (the scalar reference and
 * axk_unpack_row do; the vector kernels use the same facts as constants).
 * pack.c writes what this file reads.
 *
 * A weight is an integer times scales.  Its code is what the file stores
 * (nibble, nibble and high bits, two bits and high bit, or byte + 128); the
 * integer is code - zero, or a table's value.
 *
 * Blocks of 32 k:
 *   [32 x d][32 x f16 m: Q4_1, Q5_1][128 high bits: Q5_0, Q5_1][k-steps]
 *   d is f16; for MXFP4, whose scale is a power of two, bf16.
 *
 * Blocks of 256 k, in parts of 32 (Q4_K, Q5_K, IQ4_XS) or 16 k that have a
 * scale each; two parts make a line:
 *   the scales of all lines, but Q6_K's
 *   per line: [32 x scale of part 0][32 x scale of part 1] bytes: Q6_K,
 *     [128 high bits of both parts: Q3_K], then the two parts:
 *     Q4_K, IQ4_XS [4 k-steps]   Q5_K [128 high bits][4 k-steps]
 *     Q6_K [128 high bits][2 k-steps]   Q2_K, Q3_K [128: two bits]
 *   after the lines: [32 x f16 d], and with minima (Q2_K, Q4_K, Q5_K)
 *     [32 x f16 dmin] and the minima of all lines.
 *
 * Scales and minima of 4 bits (Q2_K) or 6 take no more than in the file, since
 * a decode is bound by the bytes it reads.  A line has 64 of each: scales as
 * [32 rows of part 0][32 rows of part 1], minima as [32 x (part 0, part 1)].
 *   per two lines: [64: low four bits of the first | of the second << 4]
 *   6 bits, per four lines: [64: the upper two bits of each, from bit 0 on]
 * Signed scales are in two's complement.  Kernels expand them to bytes first.
 *
 * High bits: byte c of a row's 4 has, for the weights c, 4 + c, 8 + c, ..,
 * their bits in ascending order (two bits each for Q6_K; for Q3_K the low
 * four bits are part 0, the high four part 1).  Two bits: the same, in pairs.
 */

#ifndef AXK_CODES_H
#define AXK_CODES_H

#include "kernels/internal.h"

#define AXK_QK_K 256

/* Expanded scales, or minima, of a block: 64 bytes a line, 8 lines at most. */
#define SCALES_MAX 512

static inline bool
has_min(uint32_t format)
{
    return format == AXK_Q4_1 || format == AXK_Q5_1 || format == AXK_Q2_K ||
           format == AXK_Q4_K || format == AXK_Q5_K;
}


/* Bits of a code above those of its nibble (of its two bits for Q3_K). */
static inline int
high_bits(uint32_t format)
{
    switch (format) {
    case AXK_Q5_0:
    case AXK_Q5_1:
    case AXK_Q5_K:
    case AXK_Q3_K:
        return 1;
    case AXK_Q6_K:
        return 2;
    default:
        return 0;
    }
}


/* Two bits to a weight instead of a nibble. */
static inline bool
is_two_bit(uint32_t format)
{
    return format == AXK_Q2_K || format == AXK_Q3_K;
}


static inline bool
has_table(uint32_t format)
{
    return format == AXK_IQ4_NL || format == AXK_IQ4_XS || format == AXK_MXFP4;
}


/* Sub-scales are signed bytes (else unsigned). */
static inline bool
has_signed_scales(uint32_t format)
{
    return format == AXK_Q3_K || format == AXK_Q6_K || format == AXK_IQ4_XS;
}


static inline bool
is_float_format(uint32_t format)
{
    return format == AXK_F32 || format == AXK_F16 || format == AXK_BF16;
}


static inline bool
is_k_format(uint32_t format)
{
    switch (format) {
    case AXK_Q2_K:
    case AXK_Q3_K:
    case AXK_Q4_K:
    case AXK_Q5_K:
    case AXK_Q6_K:
    case AXK_IQ4_XS:
        return true;
    default:
        return false;
    }
}


/* The activations that a format is multiplied with. */
INLINE enum axk_act
act_kind(uint32_t format)
{
    return is_float_format(format) ? AXK_ACT_F32
           : is_k_format(format)   ? AXK_ACT_Q8_K
                                   : AXK_ACT_Q8;
}


/* Words of an activation record and weights in a block. */
INLINE uint32_t
record_words(uint32_t format)
{
    return is_float_format(format) ? 1
           : is_k_format(format)   ? AXK_ACT_K_WORDS
                                   : AXK_ACT_WORDS;
}


INLINE uint32_t
block_elems(uint32_t format)
{
    return is_float_format(format) ? 1
           : is_k_format(format)   ? AXK_QK_K
                                   : AXK_QK;
}


/* Blocks of 32: bytes before the k-steps. */
static inline uint32_t
steps_offset(uint32_t format)
{
    return 64 + (has_min(format) ? 64u : 0) + (high_bits(format) ? 128u : 0);
}


/* Blocks of 256: weights in a part, lines, bytes of a part and of a line. */
static inline uint32_t
part_elems(uint32_t format)
{
    return format == AXK_Q4_K || format == AXK_Q5_K || format == AXK_IQ4_XS
               ? 32
               : 16;
}


static inline uint32_t
n_lines(uint32_t format)
{
    return AXK_QK_K / 2 / part_elems(format);
}


static inline uint32_t
part_bytes(uint32_t format)
{
    if (is_two_bit(format)) {
        return 128;
    }
    return part_elems(format) * 16 + (high_bits(format) ? 128u : 0);
}


/* Bytes of all sub-scales, and of all minima, where they are packed. */
static inline uint32_t
scales_bytes(uint32_t format)
{
    if (format == AXK_Q6_K) {
        return 0;
    }
    return n_lines(format) * (format == AXK_Q2_K ? 32 : 48);
}


/* Bytes of a line before its first part. */
static inline uint32_t
line_head(uint32_t format)
{
    return format == AXK_Q6_K ? 64 : format == AXK_Q3_K ? 128 : 0;
}


static inline uint32_t
line_bytes(uint32_t format)
{
    return line_head(format) + 2 * part_bytes(format);
}


/* Where a block's lines start, and what follows them: d. */
INLINE const uint8_t *
lines_of(uint32_t format, const uint8_t *block)
{
    return block + scales_bytes(format);
}


INLINE const uint8_t *
tail_of(uint32_t format, const uint8_t *block)
{
    return lines_of(format, block) + n_lines(format) * line_bytes(format);
}


/* Bytes of one block (one k for the float formats) of a 32-row panel. */
static inline size_t
panel_block_bytes(uint32_t format)
{
    switch (format) {
    case AXK_F32:
        return 32 * 4;
    case AXK_F16:
    case AXK_BF16:
        return 32 * 2;
    case AXK_Q8_0:
        return 64 + 8 * 128;
    default:
        break;
    }
    if (is_k_format(format)) {
        return scales_bytes(format) + n_lines(format) * line_bytes(format) +
               (has_min(format) ? 128 + scales_bytes(format) : 64u);
    }
    return steps_offset(format) + 4 * 128;
}


/* ---- packed scales and minima ---- */

/* 64 bytes as the compiler's widest vectors; shifted in words of 64 bits. */
typedef uint64_t bytes_64
    __attribute__((vector_size(64), aligned(1), may_alias));
typedef uint8_t each_byte_64 __attribute__((vector_size(64)));


/* Those of all lines at packed, to 64 bytes a line. */
INLINE void
expand_packed(const uint32_t format, const bool is_signed,
              const uint8_t *packed, uint8_t *out)
{
    const bytes_64 *low = (const bytes_64 *)packed;
    const bytes_64 *upper = low + n_lines(format) / 2;

#pragma GCC unroll 8
    for (uint32_t line = 0; line < n_lines(format); line++) {
        bytes_64 x = low[line / 2] >> line % 2 * 4 & 0x0f0f0f0f0f0f0f0f;

        if (format != AXK_Q2_K) {
            bytes_64 up = upper[line / 4];

            up = line % 4 == 3 ? up >> 2 : up << (4 - line % 4 * 2);
            x |= up & 0x3030303030303030;
        }
        if (is_signed) {
            x = (bytes_64)((each_byte_64)(x ^ 0x2020202020202020) - 0x20);
        }
        ((bytes_64 *)out)[line] = x;
    }
}


INLINE void
expand_scales(const uint32_t format, const uint8_t *block, uint8_t *out)
{
    if (scales_bytes(format) != 0) {
        expand_packed(format, has_signed_scales(format), block, out);
    }
}


/* tail: at dmin. */
INLINE void
expand_minima(const uint32_t format, const uint8_t *tail, uint8_t *out)
{
    expand_packed(format, false, tail + 64, out);
}


/* The 64 scales of a line, from a block that is expanded. */
INLINE const uint8_t *
line_scales(const uint32_t format, const uint8_t *expanded, uint32_t line,
            const uint8_t *at)
{
    return scales_bytes(format) != 0 ? expanded + 64 * line : at;
}


/* Byte i of a line. */
static inline uint32_t
packed_at(uint32_t format, const uint8_t *packed, uint32_t line, uint32_t i)
{
    uint32_t v = packed[line / 2 * 64 + i] >> line % 2 * 4 & 15;

    if (format != AXK_Q2_K) {
        v |= (packed[n_lines(format) * 32 + line / 4 * 64 + i] >> line % 4 * 2 &
              3u)
             << 4;
    }
    return v;
}


/* ---- one weight at a time ---- */

/* Sixteen values of IQ4_NL and IQ4_XS, and of MXFP4 (e2m1, doubled). */
extern const int8_t axk_table_iq4[16];
extern const int8_t axk_table_mxfp4[16];


static inline int
nibble_at(const uint8_t *steps, uint32_t r, uint32_t j)
{
    int byte = steps[128 * (j / 8) + 4 * r + j % 4];

    return j % 8 < 4 ? byte & 15 : byte >> 4;
}


/* bits of weight j, n bits wide, from row r's 4 bytes at p. */
static inline int
bits_at(const uint8_t *p, uint32_t r, uint32_t j, uint32_t n)
{
    return p[4 * r + j % 4] >> n * (j / 4) & ((1 << n) - 1);
}


static inline const uint8_t *
part_at(uint32_t format, const uint8_t *block, uint32_t part)
{
    return lines_of(format, block) + part / 2 * line_bytes(format) +
           line_head(format) + part % 2 * part_bytes(format);
}


static inline int
code_of_k(uint32_t format, const uint8_t *block, uint32_t r, uint32_t j)
{
    uint32_t part = j / part_elems(format);
    const uint8_t *p = part_at(format, block, part);

    j %= part_elems(format);
    switch (format) {
    case AXK_Q2_K:
        return bits_at(p, r, j, 2);
    case AXK_Q3_K:
        return bits_at(p, r, j, 2) |
               bits_at(lines_of(format, block) + part / 2 * line_bytes(format),
                       r, j + part % 2 * 16, 1)
                   << 2;
    case AXK_Q5_K:
        return nibble_at(p + 128, r, j) | bits_at(p, r, j, 1) << 4;
    case AXK_Q6_K:
        return nibble_at(p + 128, r, j) | bits_at(p, r, j, 2) << 4;
    default:
        return nibble_at(p, r, j);
    }
}


static inline int
code_of(uint32_t format, const uint8_t *block, uint32_t r, uint32_t j)
{
    const uint8_t *steps = block + steps_offset(format);

    if (is_k_format(format)) {
        return code_of_k(format, block, r, j);
    }
    if (format == AXK_Q8_0) {
        return steps[128 * (j / 4) + 4 * r + j % 4];
    }
    int code = nibble_at(steps, r, j);
    if (high_bits(format)) {
        code |= bits_at(steps - 128, r, j, 1) << 4;
    }
    return code;
}


/* The integer that weight j of row r is a multiple of its scales by. */
static inline int
integer_of(uint32_t format, const uint8_t *block, uint32_t r, uint32_t j)
{
    int code = code_of(format, block, r, j);

    switch (format) {
    case AXK_Q3_K:
        return code - 4;
    case AXK_Q4_0:
        return code - 8;
    case AXK_Q5_0:
        return code - 16;
    case AXK_Q6_K:
        return code - 32;
    case AXK_Q8_0:
        return code - 128;
    case AXK_IQ4_NL:
    case AXK_IQ4_XS:
        return axk_table_iq4[code];
    case AXK_MXFP4:
        return axk_table_mxfp4[code];
    default:
        return code;
    }
}


static inline int
sub_scale_of(uint32_t format, const uint8_t *block, uint32_t r, uint32_t part)
{
    uint32_t i = part % 2 * 32 + r;

    if (format == AXK_Q6_K) {
        return (int8_t)block[part / 2 * line_bytes(format) + i];
    }
    int s = (int)packed_at(format, block, part / 2, i);
    return has_signed_scales(format) ? (s ^ 32) - 32 : s;
}


static inline int
sub_min_of(uint32_t format, const uint8_t *block, uint32_t r, uint32_t part)
{
    return (int)packed_at(format, tail_of(format, block) + 128, part / 2,
                          2 * r + part % 2);
}


/* The f16 (or bf16) number of row r at p. */
static inline float
half_at(uint32_t format, const uint8_t *p, uint32_t r)
{
    uint16_t h;

    memcpy(&h, p + 2 * r, 2);
    if (format == AXK_MXFP4 || format == AXK_BF16) {
        return float_of((uint32_t)h << 16);
    }
    return axk_f16_to_f32(h);
}

#endif
