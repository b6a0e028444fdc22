/*
 * From ggml's row-major blocks to 32-row panels, and one row back.
 *
 * The loader calls axk_pack_rows for disjoint panel ranges from several
 * threads; the source is the mapped file and may be unaligned.  A panel that
 * has fewer than 32 rows is filled up with zeros, so that kernels never read
 * outside and never branch on it.  Scales and float weights are checked
 * here, once: a NaN or an infinity is a named error at load, not a value
 * that spreads at the first token.
 *
 * file_blocks.c reads the file's blocks; internal.h and codes.h describe the
 * panels.
 */

#include "kernels/axk.h"
#include "kernels/internal.h"
#include "kernels/codes.h"
#include "kernels/file_blocks.h"


/* Four codes at once, one to a byte. */
INLINE uint32_t
load_4(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}


/* Two weights to a byte, four bytes to a row: n weights from q on. */
INLINE void
put_nibbles(const uint8_t *q, uint32_t n, uint8_t *dst)
{
    for (uint32_t i = 0; i < n / 8; i++) {
        uint32_t v = (load_4(q + 8 * i) & 0x0f0f0f0f) |
                     (load_4(q + 8 * i + 4) & 0x0f0f0f0f) << 4;

        memcpy(dst + 128 * i, &v, sizeof(v));
    }
}


/* bits [low, low + width) of n codes, `width` apart from bit `at` on; a part
 * that does not start at bit 0 joins the one that does. */
INLINE void
put_bits(const uint8_t *q, uint32_t n, uint32_t low, uint32_t width,
         uint32_t at, uint8_t *dst)
{
    uint32_t v = at == 0 ? 0 : load_4(dst);
    const uint32_t mask = ((1u << width) - 1) * 0x01010101;

    for (uint32_t i = 0; i < n / 4; i++) {
        v |= (load_4(q + 4 * i) >> low & mask) << (at + width * i);
    }
    memcpy(dst, &v, sizeof(v));
}


INLINE void
put_block_32(uint32_t format, const struct file_block *b, uint32_t r,
             uint8_t *dst)
{
    uint8_t *steps = dst + steps_offset(format) + 4 * r;

    memcpy(dst + 2 * r, &b->d, 2);
    if (has_min(format)) {
        memcpy(dst + 64 + 2 * r, &b->m, 2);
    }
    if (format == AXK_Q8_0) {
        for (int i = 0; i < 8; i++) {
            memcpy(steps + 128 * i, b->code + 4 * i, 4);
        }
        return;
    }
    if (high_bits(format)) {
        put_bits(b->code, 32, 4, 1, 0, steps - 128);
    }
    put_nibbles(b->code, 32, steps);
}


INLINE void
put_part(uint32_t format, const uint8_t *q, uint32_t part, uint32_t r,
         uint8_t *block)
{
    uint32_t n = part_elems(format);
    uint8_t *line =
        block + scales_bytes(format) + part / 2 * line_bytes(format);
    uint8_t *p =
        line + line_head(format) + part % 2 * part_bytes(format) + 4 * r;

    if (is_two_bit(format)) {
        put_bits(q, n, 0, 2, 0, p);
        if (format == AXK_Q3_K) {
            put_bits(q, n, 2, 1, part % 2 * 4, line + 4 * r);
        }
        return;
    }
    if (high_bits(format)) {
        put_bits(q, n, 4, (uint32_t)high_bits(format), 0, p);
        p += 128;
    }
    put_nibbles(q, n, p);
}


/* Scale or minimum v as byte i of a line; lines come in ascending order, and
 * the first one in a byte clears it. */
INLINE void
put_packed(uint32_t format, uint32_t v, uint32_t line, uint32_t i,
           uint8_t *packed)
{
    uint8_t *low = packed + line / 2 * 64 + i;
    uint8_t *upper = packed + n_lines(format) * 32 + line / 4 * 64 + i;

    *low = (uint8_t)(line % 2 == 0 ? v & 15 : *low | (v & 15) << 4);
    if (format != AXK_Q2_K) {
        v = (v >> 4 & 3) << line % 4 * 2;
        *upper = (uint8_t)(line % 4 == 0 ? v : *upper | v);
    }
}


INLINE void
put_block_256(uint32_t format, const struct file_block *b, uint32_t r,
              uint8_t *dst)
{
    uint8_t *tail =
        dst + scales_bytes(format) + n_lines(format) * line_bytes(format);

    for (uint32_t part = 0; part < 2 * n_lines(format); part++) {
        uint32_t line = part / 2;
        uint32_t i = part % 2 * 32 + r;

        if (format == AXK_Q6_K) {
            dst[line * line_bytes(format) + i] = b->scale[part];
        } else {
            put_packed(format, b->scale[part], line, i, dst);
        }
        put_part(format, b->code + part * part_elems(format), part, r, dst);
        if (has_min(format)) {
            put_packed(format, b->min[part], line, 2 * r + part % 2,
                       tail + 128);
        }
    }
    memcpy(tail + 2 * r, &b->d, 2);
    if (has_min(format)) {
        memcpy(tail + 64 + 2 * r, &b->m, 2);
    }
}


INLINE void
put_block(uint32_t format, const struct file_block *b, uint32_t r, uint8_t *dst)
{
    if (is_k_format(format)) {
        put_block_256(format, b, r, dst);
    } else {
        put_block_32(format, b, r, dst);
    }
}


/* Inlined with each format as a literal, or a large model takes long. */
INLINE enum axk_status
pack_panel_blocks(const uint32_t format, const uint8_t *src, size_t row_bytes,
                  uint32_t n_valid, uint32_t k, uint8_t *dst, uint32_t *bad)
{
    static const struct file_block zero;
    const struct axk_format_traits *f = axk_format_traits(format);
    size_t block_bytes = panel_block_bytes(format);
    struct file_block b;

    for (uint32_t i = 0; i < k / f->block_elems; i++) {
        for (uint32_t r = 0; r < n_valid; r++) {
            if (!axk_read_block(
                    format, src + r * row_bytes + (size_t)i * f->block_bytes,
                    &b)) {
                *bad = r;
                return AXK_NONFINITE_WEIGHT;
            }
            put_block(format, &b, r, dst);
        }
        for (uint32_t r = n_valid; r < AXK_PANEL_ROWS; r++) {
            put_block(format, &zero, r, dst);
        }
        dst += block_bytes;
    }
    return AXK_OK;
}


/* F16 and BF16; nonfinite: the exponent bits. */
static enum axk_status
pack_panel_halves(uint16_t nonfinite, const uint8_t *src, size_t row_bytes,
                  uint32_t n_valid, uint32_t k, uint16_t *dst, uint32_t *bad)
{
    for (uint32_t r = 0; r < AXK_PANEL_ROWS; r++) {
        for (uint32_t i = 0; i < k; i++) {
            uint16_t h = 0;
            if (r < n_valid) {
                memcpy(&h, src + r * row_bytes + (size_t)i * 2, 2);
            }
            if ((h & nonfinite) == nonfinite) {
                *bad = r;
                return AXK_NONFINITE_WEIGHT;
            }
            dst[(size_t)i * AXK_PANEL_ROWS + r] = h;
        }
    }
    return AXK_OK;
}


static enum axk_status
pack_panel_f32(const uint8_t *src, size_t row_bytes, uint32_t n_valid,
               uint32_t k, uint32_t *dst, uint32_t *bad)
{
    for (uint32_t r = 0; r < AXK_PANEL_ROWS; r++) {
        for (uint32_t i = 0; i < k; i++) {
            uint32_t u = 0;
            if (r < n_valid) {
                memcpy(&u, src + r * row_bytes + (size_t)i * 4, 4);
            }
            if ((u & 0x7f800000) == 0x7f800000) {
                *bad = r;
                return AXK_NONFINITE_WEIGHT;
            }
            dst[(size_t)i * AXK_PANEL_ROWS + r] = u;
        }
    }
    return AXK_OK;
}


static enum axk_status
pack_panel(uint32_t format, const uint8_t *src, size_t row_bytes,
           uint32_t n_valid, uint32_t k, uint8_t *dst, uint32_t *bad)
{
    switch (format) {
    case AXK_F32:
        return pack_panel_f32(src, row_bytes, n_valid, k, (uint32_t *)dst, bad);
    case AXK_F16:
        return pack_panel_halves(0x7c00, src, row_bytes, n_valid, k,
                                 (uint16_t *)dst, bad);
    case AXK_BF16:
        return pack_panel_halves(0x7f80, src, row_bytes, n_valid, k,
                                 (uint16_t *)dst, bad);
    case AXK_Q4_0:
        return pack_panel_blocks(AXK_Q4_0, src, row_bytes, n_valid, k, dst,
                                 bad);
    case AXK_Q4_1:
        return pack_panel_blocks(AXK_Q4_1, src, row_bytes, n_valid, k, dst,
                                 bad);
    case AXK_Q5_0:
        return pack_panel_blocks(AXK_Q5_0, src, row_bytes, n_valid, k, dst,
                                 bad);
    case AXK_Q5_1:
        return pack_panel_blocks(AXK_Q5_1, src, row_bytes, n_valid, k, dst,
                                 bad);
    case AXK_Q8_0:
        return pack_panel_blocks(AXK_Q8_0, src, row_bytes, n_valid, k, dst,
                                 bad);
    case AXK_Q2_K:
        return pack_panel_blocks(AXK_Q2_K, src, row_bytes, n_valid, k, dst,
                                 bad);
    case AXK_Q3_K:
        return pack_panel_blocks(AXK_Q3_K, src, row_bytes, n_valid, k, dst,
                                 bad);
    case AXK_Q4_K:
        return pack_panel_blocks(AXK_Q4_K, src, row_bytes, n_valid, k, dst,
                                 bad);
    case AXK_Q5_K:
        return pack_panel_blocks(AXK_Q5_K, src, row_bytes, n_valid, k, dst,
                                 bad);
    case AXK_Q6_K:
        return pack_panel_blocks(AXK_Q6_K, src, row_bytes, n_valid, k, dst,
                                 bad);
    case AXK_IQ4_NL:
        return pack_panel_blocks(AXK_IQ4_NL, src, row_bytes, n_valid, k, dst,
                                 bad);
    case AXK_IQ4_XS:
        return pack_panel_blocks(AXK_IQ4_XS, src, row_bytes, n_valid, k, dst,
                                 bad);
    case AXK_MXFP4:
        return pack_panel_blocks(AXK_MXFP4, src, row_bytes, n_valid, k, dst,
                                 bad);
    default:
        return AXK_UNSUPPORTED_FORMAT;
    }
}


enum axk_status
axk_pack_rows(uint32_t format, const void *src, uint32_t n_rows, uint32_t k,
              uint32_t row0, uint32_t row1, void *dst, uint32_t *bad_row)
{
    enum axk_status status;
    size_t packed = axk_packed_bytes(format, n_rows, k, &status);

    if (packed == 0) {
        return status;
    }
    if (row0 % AXK_PANEL_ROWS != 0 || row0 > row1 || row1 > n_rows ||
        (row1 % AXK_PANEL_ROWS != 0 && row1 != n_rows) ||
        (uintptr_t)dst % AXK_ALIGN != 0) {
        return AXK_BAD_ARGUMENT;
    }

    const struct axk_format_traits *f = axk_format_traits(format);
    size_t row_bytes = (size_t)(k / f->block_elems) * f->block_bytes;
    size_t panel_bytes = (k / f->block_elems) * panel_block_bytes(format);

    for (uint32_t row = row0; row < row1; row += AXK_PANEL_ROWS) {
        uint32_t n_valid = n_rows - row;
        uint32_t bad = 0;

        if (n_valid > AXK_PANEL_ROWS) {
            n_valid = AXK_PANEL_ROWS;
        }
        status = pack_panel(
            format, (const uint8_t *)src + row * row_bytes, row_bytes, n_valid,
            k, (uint8_t *)dst + row / AXK_PANEL_ROWS * panel_bytes, &bad);
        if (status != AXK_OK) {
            if (bad_row != NULL) {
                *bad_row = row + bad;
            }
            return status;
        }
    }
    return AXK_OK;
}


/* w = integer * d, or integer * d + m */
static void
unpack_block_32(uint32_t format, const uint8_t *block, uint32_t r, float *out)
{
    float d = half_at(format, block, r);
    float m = has_min(format) ? half_at(format, block + 64, r) : 0;

    for (uint32_t j = 0; j < AXK_QK; j++) {
        float w = (float)integer_of(format, block, r, j) * d;

        out[j] = has_min(format) ? w + m : w;
    }
}


/* w = (d * scale) * integer - dmin * min */
static void
unpack_block_256(uint32_t format, const uint8_t *block, uint32_t r, float *out)
{
    const uint8_t *tail = tail_of(format, block);
    float d = half_at(format, tail, r);
    float dmin = has_min(format) ? half_at(format, tail + 64, r) : 0;
    uint32_t n = part_elems(format);

    for (uint32_t j = 0; j < AXK_QK_K; j++) {
        float scale = d * (float)sub_scale_of(format, block, r, j / n);
        float w = scale * (float)integer_of(format, block, r, j);

        if (has_min(format)) {
            w = w - dmin * (float)sub_min_of(format, block, r, j / n);
        }
        out[j] = w;
    }
}


void
axk_unpack_row(uint32_t format, const void *packed, uint32_t n_rows, uint32_t k,
               uint32_t row, float *out)
{
    const struct axk_format_traits *f = axk_format_traits(format);
    size_t block_bytes = panel_block_bytes(format);
    size_t panel_bytes = (k / f->block_elems) * block_bytes;
    uint32_t r = row % AXK_PANEL_ROWS;
    const uint8_t *src =
        (const uint8_t *)packed + row / AXK_PANEL_ROWS * panel_bytes;

    if (row >= n_rows) {
        memset(out, 0, k * sizeof(*out));
        return;
    }
    for (uint32_t i = 0; i < k / f->block_elems; i++) {
        float *dst = out + (size_t)i * f->block_elems;

        if (format == AXK_F32) {
            memcpy(dst, src + 4 * r, 4);
        } else if (is_float_format(format)) {
            *dst = half_at(format, src, r);
        } else if (is_k_format(format)) {
            unpack_block_256(format, src, r, dst);
        } else {
            unpack_block_32(format, src, r, dst);
        }
        src += block_bytes;
    }
}
