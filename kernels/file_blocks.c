/*
 * The quantized blocks of the ggml file format, read as facts.  All numbers
 * are little endian.  Element j of a block of 32 with nibbles: j < 16 in the
 * low nibble of byte j, the others in the high nibble of byte j - 16.
 *
 *   Q4_0 d qs[16]        w = (q - 8) d     Q4_1 d m qs[16]        w = q d + m
 *   Q5_0 d qh[4] qs[16]  w = (q - 16) d    Q5_1 d m qh[4] qs[16]  w = q d + m
 *   Q8_0 d qs[32]        w = q d           IQ4_NL d qs[16]  w = table[q] d
 *   MXFP4 e qs[16]       w = table[q] 2^(e - 128), the table doubled
 *
 * Blocks of 256; sc, mn: 6-bit scales and minima of 8 parts of 32, packed in
 * 12 bytes; the others have 16 parts of 16:
 *   Q4_K d dmin packed[12] qs[128]         w = d sc q - dmin mn
 *   Q5_K d dmin packed[12] qh[32] qs[128]  the same, q of 5 bits
 *   Q6_K ql[128] qh[64] sc[16] d           w = d sc (q - 32), sc signed
 *   Q2_K scales[16] qs[64] d dmin          w = d (s & 15) q - dmin (s >> 4)
 *   Q3_K hmask[32] qs[64] packed[12] d     w = d (sc - 32) (q - 4)
 *   IQ4_XS d scales_h[2] scales_l[4] qs[128], parts of 32
 *                                          w = d (sc - 32) table[q]
 */

#include "kernels/axk.h"
#include "kernels/internal.h"
#include "kernels/file_blocks.h"

const int8_t axk_table_iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                  1,    13,   25,  38,  53,  69,  89,  113};

const int8_t axk_table_mxfp4[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                    0, -1, -2, -3, -4, -6, -8, -12};


static uint16_t
load_u16(const uint8_t *p)
{
    uint16_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}


static void
read_nibbles(const uint8_t *src, uint8_t *q)
{
    for (int j = 0; j < 16; j++) {
        q[j] = src[j] & 15;
        q[j + 16] = src[j] >> 4;
    }
}


static void
add_fifth_bits(const uint8_t *src, uint8_t *q)
{
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 8; j++) {
            q[8 * i + j] |= (uint8_t)((src[i] >> j & 1) << 4);
        }
    }
}


/* The power of two of an MXFP4 block, halved as its table is doubled, as a
 * bf16: 2^(e - 128); the two smallest are denormal. */
static uint16_t
power_of_mxfp4(uint8_t e)
{
    if (e == 255) {
        return 0x7fc0;
    }
    return e < 2 ? (uint16_t)(0x20 << e) : (uint16_t)((e - 1) << 7);
}


static void
read_block_32(uint32_t format, const uint8_t *src, struct file_block *b)
{
    if (format == AXK_MXFP4) {
        b->d = power_of_mxfp4(src[0]);
        read_nibbles(src + 1, b->code);
        return;
    }
    b->d = load_u16(src);
    src += 2;
    if (format == AXK_Q8_0) {
        for (int j = 0; j < AXK_QK; j++) {
            b->code[j] = src[j] ^ 0x80;
        }
        return;
    }
    if (has_min(format)) {
        b->m = load_u16(src);
        src += 2;
    }
    if (high_bits(format)) {
        read_nibbles(src + 4, b->code);
        add_fifth_bits(src, b->code);
    } else {
        read_nibbles(src, b->code);
    }
}


/* The 12 bytes of Q4_K and Q5_K. */
static void
read_packed_scales(const uint8_t *p, struct file_block *b)
{
    for (int j = 0; j < 4; j++) {
        b->scale[j] = p[j] & 63;
        b->min[j] = p[j + 4] & 63;
        b->scale[j + 4] = (uint8_t)((p[j + 8] & 15) | p[j] >> 6 << 4);
        b->min[j + 4] = (uint8_t)(p[j + 8] >> 4 | p[j + 4] >> 6 << 4);
    }
}


/* qs of Q4_K and Q5_K: 64 elements to 32 bytes, the low nibbles first. */
static void
read_k_nibbles(const uint8_t *qs, uint8_t *q)
{
    for (int i = 0; i < 4; i++, qs += 32, q += 64) {
        for (int j = 0; j < 32; j++) {
            q[j] = qs[j] & 15;
            q[j + 32] = qs[j] >> 4;
        }
    }
}


static void
read_q4_k(const uint8_t *src, struct file_block *b)
{
    b->d = load_u16(src);
    b->m = load_u16(src + 2);
    read_packed_scales(src + 4, b);
    read_k_nibbles(src + 16, b->code);
}


static void
read_q5_k(const uint8_t *src, struct file_block *b)
{
    b->d = load_u16(src);
    b->m = load_u16(src + 2);
    read_packed_scales(src + 4, b);
    read_k_nibbles(src + 48, b->code);
    for (int i = 0; i < 8; i++) {
        for (int j = 0; j < 32; j++) {
            b->code[32 * i + j] |= (uint8_t)((src[16 + j] >> i & 1) << 4);
        }
    }
}


static void
read_q6_k(const uint8_t *src, struct file_block *b)
{
    for (int i = 0; i < 8; i++) {
        int quarter = i % 4;
        const uint8_t *low = src + i / 4 * 64 + quarter % 2 * 32;
        const uint8_t *high = src + 128 + i / 4 * 32;

        for (int j = 0; j < 32; j++) {
            b->code[32 * i + j] = (uint8_t)((low[j] >> quarter / 2 * 4 & 15) |
                                            (high[j] >> 2 * quarter & 3) << 4);
        }
    }
    memcpy(b->scale, src + 192, 16);
    b->d = load_u16(src + 208);
}


/* Two bits of Q2_K and Q3_K: four elements, 32 apart, to a byte. */
static void
read_two_bits(const uint8_t *qs, uint8_t *q)
{
    for (int i = 0; i < 8; i++) {
        for (int j = 0; j < 32; j++) {
            q[32 * i + j] = qs[i / 4 * 32 + j] >> i % 4 * 2 & 3;
        }
    }
}


static void
read_q2_k(const uint8_t *src, struct file_block *b)
{
    for (int j = 0; j < 16; j++) {
        b->scale[j] = src[j] & 15;
        b->min[j] = src[j] >> 4;
    }
    read_two_bits(src + 16, b->code);
    b->d = load_u16(src + 80);
    b->m = load_u16(src + 82);
}


static void
read_q3_k(const uint8_t *src, struct file_block *b)
{
    const uint8_t *packed = src + 96;

    read_two_bits(src + 32, b->code);
    for (int i = 0; i < 8; i++) {
        for (int j = 0; j < 32; j++) {
            b->code[32 * i + j] |= (uint8_t)((src[j] >> i & 1) << 2);
        }
    }
    for (int j = 0; j < 16; j++) {
        int low = packed[j % 8] >> j / 8 * 4 & 15;
        int high = packed[8 + j % 4] >> j / 4 * 2 & 3;

        b->scale[j] = (uint8_t)((low | high << 4) - 32);
    }
    b->d = load_u16(src + 108);
}


static void
read_iq4_xs(const uint8_t *src, struct file_block *b)
{
    uint32_t scales_h = load_u16(src + 2);

    b->d = load_u16(src);
    for (int j = 0; j < 8; j++) {
        int low = src[4 + j / 2] >> j % 2 * 4 & 15;
        int high = (int)(scales_h >> 2 * j & 3);

        b->scale[j] = (uint8_t)((low | high << 4) - 32);
        read_nibbles(src + 8 + 16 * j, b->code + 32 * j);
    }
}


bool
axk_read_block(uint32_t format, const uint8_t *src, struct file_block *b)
{
    uint16_t nonfinite = format == AXK_MXFP4 ? 0x7f80 : 0x7c00;

    b->m = 0;
    switch (format) {
    case AXK_Q2_K:
        read_q2_k(src, b);
        break;
    case AXK_Q3_K:
        read_q3_k(src, b);
        break;
    case AXK_Q4_K:
        read_q4_k(src, b);
        break;
    case AXK_Q5_K:
        read_q5_k(src, b);
        break;
    case AXK_Q6_K:
        read_q6_k(src, b);
        break;
    case AXK_IQ4_XS:
        read_iq4_xs(src, b);
        break;
    default:
        read_block_32(format, src, b);
        break;
    }
    return (b->d & nonfinite) != nonfinite && (b->m & nonfinite) != nonfinite;
}
