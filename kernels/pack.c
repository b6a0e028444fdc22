/*
 * From ggml's row-major blocks to 32-row panels, and one row back.
 *
 * The loader calls axk_pack_rows for disjoint panel ranges from several
 * threads; the source is the mapped file and may be unaligned.  A panel that
 * has fewer than 32 rows is filled up with zeros (and the zero point of the
 * format), so that kernels never read outside and never branch on it.
 * Scales and float weights are checked here, once: a NaN or an infinity is a
 * named error at load, not a value that spreads at the first token.
 *
 * Sources of the block layouts: the ggml file format, as facts.  Q4_0: f16 d,
 * 16 bytes; element j < 16 is the low nibble of byte j, element j + 16 the
 * high one; w = (q - 8) d.  Q4_1: f16 d, f16 m, the same nibbles; w = q d + m.
 * Q8_0: f16 d, 32 int8; w = q d.
 */

#include "kernels/axk.h"
#include "kernels/internal.h"


/* One block of one row, decoded: what the packers of all formats share. */
struct block {
    uint16_t d;
    uint16_t m;
    uint8_t q[AXK_QK]; /* as stored in a panel: nibble, or q + 128 */
};


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
read_block(uint32_t format, const uint8_t *src, struct block *b)
{
    b->d = load_u16(src);
    b->m = 0;

    switch (format) {
    case AXK_Q4_0:
        read_nibbles(src + 2, b->q);
        break;
    case AXK_Q4_1:
        b->m = load_u16(src + 2);
        read_nibbles(src + 4, b->q);
        break;
    default: /* AXK_Q8_0 */
        for (int j = 0; j < AXK_QK; j++) {
            b->q[j] = src[2 + j] ^ 0x80;
        }
        break;
    }
}


/* What fills the rows past the end of the matrix: weights of value 0. */
static void
zero_block(uint32_t format, struct block *b)
{
    uint8_t zero = format == AXK_Q4_0 ? 8 : format == AXK_Q8_0 ? 128 : 0;

    b->d = 0;
    b->m = 0;
    memset(b->q, zero, sizeof(b->q));
}


/* Where the pieces of a panel block lie. */
static size_t
steps_offset(uint32_t format)
{
    return format == AXK_Q4_1 ? 128 : 64;
}


static void
write_block(uint32_t format, const struct block *b, uint32_t r, uint8_t *dst)
{
    memcpy(dst + 2 * r, &b->d, 2);
    if (format == AXK_Q4_1) {
        memcpy(dst + 64 + 2 * r, &b->m, 2);
    }
    dst += steps_offset(format) + 4 * r;

    if (format == AXK_Q8_0) {
        for (int i = 0; i < 8; i++) {
            memcpy(dst + 128 * i, b->q + 4 * i, 4);
        }
        return;
    }
    for (int i = 0; i < 4; i++) {
        for (int c = 0; c < 4; c++) {
            dst[128 * i + c] =
                (uint8_t)(b->q[8 * i + c] | b->q[8 * i + 4 + c] << 4);
        }
    }
}


static bool
f16_is_finite(uint16_t h)
{
    return (h & 0x7c00) != 0x7c00;
}


static enum axk_status
pack_panel_blocks(uint32_t format, const uint8_t *src, size_t row_bytes,
                  uint32_t n_valid, uint32_t k, uint8_t *dst, uint32_t *bad)
{
    const struct axk_format_traits *f = axk_format_traits(format);
    size_t block_bytes = panel_block_bytes(format);
    struct block b;

    for (uint32_t i = 0; i < k / AXK_QK; i++) {
        for (uint32_t r = 0; r < n_valid; r++) {
            read_block(format, src + r * row_bytes + (size_t)i * f->block_bytes,
                       &b);
            if (!f16_is_finite(b.d) || !f16_is_finite(b.m)) {
                *bad = r;
                return AXK_NONFINITE_WEIGHT;
            }
            write_block(format, &b, r, dst);
        }
        zero_block(format, &b);
        for (uint32_t r = n_valid; r < AXK_PANEL_ROWS; r++) {
            write_block(format, &b, r, dst);
        }
        dst += block_bytes;
    }
    return AXK_OK;
}


static enum axk_status
pack_panel_f16(const uint8_t *src, size_t row_bytes, uint32_t n_valid,
               uint32_t k, uint16_t *dst, uint32_t *bad)
{
    for (uint32_t r = 0; r < AXK_PANEL_ROWS; r++) {
        for (uint32_t i = 0; i < k; i++) {
            uint16_t h = 0;
            if (r < n_valid) {
                h = load_u16(src + r * row_bytes + (size_t)i * 2);
            }
            if (!f16_is_finite(h)) {
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
        return pack_panel_f16(src, row_bytes, n_valid, k, (uint16_t *)dst, bad);
    default:
        return pack_panel_blocks(format, src, row_bytes, n_valid, k, dst, bad);
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
    if (row0 % AXK_PANEL_ROWS != 0 || row0 > row1 || row1 > n_rows
        || (row1 % AXK_PANEL_ROWS != 0 && row1 != n_rows)
        || (uintptr_t)dst % AXK_ALIGN != 0)
    {
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
        status = pack_panel(format, (const uint8_t *)src + row * row_bytes,
                            row_bytes, n_valid, k,
                            (uint8_t *)dst + row / AXK_PANEL_ROWS * panel_bytes,
                            &bad);
        if (status != AXK_OK) {
            if (bad_row != NULL) {
                *bad_row = row + bad;
            }
            return status;
        }
    }
    return AXK_OK;
}


/* One packed block of row r of its panel to 32 floats. */
static void
unpack_block(uint32_t format, const uint8_t *src, uint32_t r, float *out)
{
    float d = axk_f16_to_f32(load_u16(src + 2 * r));
    float m = 0;

    if (format == AXK_Q4_1) {
        m = axk_f16_to_f32(load_u16(src + 64 + 2 * r));
    }
    src += steps_offset(format) + 4 * r;

    for (int j = 0; j < AXK_QK; j++) {
        if (format == AXK_Q8_0) {
            out[j] = (float)(src[128 * (j / 4) + j % 4] - 128) * d;
            continue;
        }
        int byte = src[128 * (j / 8) + j % 4];
        int q = j % 8 < 4 ? byte & 15 : byte >> 4;
        out[j] = format == AXK_Q4_0 ? (float)(q - 8) * d : (float)q * d + m;
    }
}


void
axk_unpack_row(uint32_t format, const void *packed, uint32_t n_rows,
               uint32_t k, uint32_t row, float *out)
{
    const struct axk_format_traits *f = axk_format_traits(format);
    size_t block_bytes = panel_block_bytes(format);
    size_t panel_bytes = (k / f->block_elems) * block_bytes;
    uint32_t r = row % AXK_PANEL_ROWS;
    const uint8_t *src = (const uint8_t *)packed
                         + row / AXK_PANEL_ROWS * panel_bytes;

    if (row >= n_rows) {
        memset(out, 0, k * sizeof(*out));
        return;
    }
    for (uint32_t i = 0; i < k / f->block_elems; i++) {
        switch (format) {
        case AXK_F32:
            memcpy(&out[i], src + 4 * r, 4);
            break;
        case AXK_F16:
            out[i] = axk_f16_to_f32(load_u16(src + 2 * r));
            break;
        default:
            unpack_block(format, src, r, out + (size_t)i * AXK_QK);
            break;
        }
        src += block_bytes;
    }
}
