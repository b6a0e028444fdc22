/*
 * Scales are chosen by the largest value a block can hold.  Random sub-scales
 * of the K formats make heavy tails, which 8-bit activations answer with more
 * noise; their scales are set so that logits keep a deviation of 1.5 to 2 and
 * that noise stays under the bound that the goldens are compared with.  Minima
 * are such that the mean over random levels and sub-scales is zero.
 */

#include "tests/tiny/tiny_blocks.h"

#include <assert.h>
#include <string.h>


uint16_t
tiny_half(float f)
{
    uint32_t bits, mantissa, kept, rest, half;
    int32_t exponent, shift;
    uint16_t sign;

    memcpy(&bits, &f, sizeof(bits));
    sign = (uint16_t)(bits >> 16 & 0x8000);
    exponent = (int32_t)(bits >> 23 & 0xff) - 127;
    assert(exponent < 15);
    if (exponent < -25) {
        return sign;
    }
    mantissa = (bits & 0x7fffff) | 0x800000;
    shift = exponent < -14 ? 13 + (-14 - exponent) : 13;
    kept = mantissa >> shift;
    rest = mantissa & (((uint32_t)1 << shift) - 1);
    half = (uint32_t)1 << (shift - 1);
    kept += rest > half || (rest == half && (kept & 1));
    if (exponent >= -14) {
        kept += (uint32_t)(exponent + 14) << 10;
    }
    return (uint16_t)(sign | kept);
}


static void
set_half(uint8_t *at, float value)
{
    uint16_t half = tiny_half(value);

    at[0] = (uint8_t)half;
    at[1] = (uint8_t)(half >> 8);
}


/* d * (q - 8) */
static void
finish_q4_0(uint8_t *block, float scale, uint64_t r)
{
    (void)r;
    set_half(block, scale / 8);
}


/* d * q + m, m near -7.5 d */
static void
finish_q4_1(uint8_t *block, float scale, uint64_t r)
{
    set_half(block, scale / 8);
    set_half(block + 2, -scale * (float)(224 + (r & 63)) / 256);
}


/* d * (q - 16) */
static void
finish_q5_0(uint8_t *block, float scale, uint64_t r)
{
    (void)r;
    set_half(block, scale / 16);
}


static void
finish_q5_1(uint8_t *block, float scale, uint64_t r)
{
    set_half(block, scale / 16);
    set_half(block + 2, -scale * (float)(224 + (r & 63)) / 256);
}


/* ggml's quantizer gives -127..127 */
static void
finish_q8_0(uint8_t *block, float scale, uint64_t r)
{
    int i;

    (void)r;
    set_half(block, scale / 128);
    for (i = 2; i < 34; i++) {
        block[i] = block[i] == 0x80 ? 0x81 : block[i];
    }
}


/* d * sc * q - dmin * m: sc, m 0..15, q 0..3 */
static void
finish_q2_k(uint8_t *block, float scale, uint64_t r)
{
    (void)r;
    set_half(block + 80, scale / 22);
    set_half(block + 82, scale / 22 * 1.5f);
}


/* d * (sc - 32) * (q - 4): sc 0..63, q 0..7 */
static void
finish_q3_k(uint8_t *block, float scale, uint64_t r)
{
    (void)r;
    set_half(block + 108, scale / 110);
}


/* d * sc * q - dmin * m: sc, m 0..63, q 0..15 */
static void
finish_q4_k(uint8_t *block, float scale, uint64_t r)
{
    (void)r;
    set_half(block, scale / 420);
    set_half(block + 2, scale / 420 * 7.5f);
}


static void
finish_q5_k(uint8_t *block, float scale, uint64_t r)
{
    (void)r;
    set_half(block, scale / 840);
    set_half(block + 2, scale / 840 * 15.5f);
}


/* d * sc * (q - 32): sc -128..127 */
static void
finish_q6_k(uint8_t *block, float scale, uint64_t r)
{
    (void)r;
    set_half(block + 208, scale / 3400);
}


/* d * table[q], -127..113 */
static void
finish_iq4_nl(uint8_t *block, float scale, uint64_t r)
{
    (void)r;
    set_half(block, scale / 128);
}


/* d * (ls - 32) * table[q] */
static void
finish_iq4_xs(uint8_t *block, float scale, uint64_t r)
{
    (void)r;
    set_half(block, scale / 3000);
}


/* 2^(e - 128) * {0, 1, 2, 3, 4, 6, 8, 12}: e from the scale's own exponent */
static void
finish_mxfp4(uint8_t *block, float scale, uint64_t r)
{
    float eighth = scale / 8;
    uint32_t bits;

    memcpy(&bits, &eighth, sizeof(bits));
    block[0] = (uint8_t)((bits >> 23) + (r & 1));
}


const struct tiny_block_format tiny_block_formats[TINY_FORMATS] = {
    [TINY_F32] = {"f32", 0, 1, 4, 0, NULL},
    [TINY_F16] = {"f16", 1, 1, 2, 0, NULL},
    [TINY_BF16] = {"bf16", 30, 1, 2, 0, NULL},
    [TINY_Q4_0] = {"q4_0", 2, 32, 18, 2, finish_q4_0},
    [TINY_Q4_1] = {"q4_1", 3, 32, 20, 4, finish_q4_1},
    [TINY_Q5_0] = {"q5_0", 6, 32, 22, 2, finish_q5_0},
    [TINY_Q5_1] = {"q5_1", 7, 32, 24, 4, finish_q5_1},
    [TINY_Q8_0] = {"q8_0", 8, 32, 34, 2, finish_q8_0},
    [TINY_Q2_K] = {"q2_k", 10, 256, 84, 0, finish_q2_k},
    [TINY_Q3_K] = {"q3_k", 11, 256, 110, 0, finish_q3_k},
    [TINY_Q4_K] = {"q4_k", 12, 256, 144, 4, finish_q4_k},
    [TINY_Q5_K] = {"q5_k", 13, 256, 176, 4, finish_q5_k},
    [TINY_Q6_K] = {"q6_k", 14, 256, 210, 0, finish_q6_k},
    [TINY_IQ4_NL] = {"iq4_nl", 20, 32, 18, 2, finish_iq4_nl},
    [TINY_IQ4_XS] = {"iq4_xs", 23, 256, 136, 2, finish_iq4_xs},
    [TINY_MXFP4] = {"mxfp4", 39, 32, 17, 1, finish_mxfp4},
};
