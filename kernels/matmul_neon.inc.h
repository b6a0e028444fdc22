/*
 * Matmuls for AArch64: floats and formats with blocks of bytes or nibbles; the
 * others (Q2_K, Q3_K) take the reference.  matmul_neon.c and matmul_neon_i8mm.c
 * include this with AXK_NEON_I8MM 0 or 1.
 *
 * The packed bytes are those of every instruction set.  A vector is 4 rows of
 * 4 k, which is what sdot multiplies with the 4 k of a token, so a tile is 8
 * rows times up to 4 tokens with no shuffle.  With i8mm and 4 tokens two
 * k-steps of 4 rows are zipped into two matrices of 2 rows x 8 k, and smmla
 * multiplies each with 2 tokens x 8 k.  Both sums are exact integers, so the
 * bits are the reference's (scalar_matmul.c).
 *
 * Weights are made signed here (a subtraction per 16 codes), so that sums
 * start at zero.
 */

#include <arm_neon.h>
#include <assert.h>

#include "kernels/axk.h"
#include "kernels/internal.h"
#include "kernels/codes.h"

#define VECTORS 2 /* of 4 rows in a tile */

typedef int32x4_t sums[VECTORS][AXK_TILE];
typedef float32x4_t results[VECTORS][AXK_TILE];

/* Signed weights of one k-step of nibbles: lo first, hi four k later. */
struct codes {
    int8x16_t lo;
    int8x16_t hi;
};


INLINE float32x4_t
load_4_halves(const uint32_t format, const uint8_t *p)
{
    uint16x4_t h = vld1_u16((const uint16_t *)p);

    if (format == AXK_MXFP4 || format == AXK_BF16) {
        return vreinterpretq_f32_u32(vshll_n_u16(h, 16));
    }
    return vcvt_f32_f16(vreinterpret_f16_u16(h));
}


/* What a format's codes are above its integers. */
INLINE int8_t
zero_of(const uint32_t format)
{
    switch (format) {
    case AXK_Q4_0:
        return 8;
    case AXK_Q5_0:
        return 16;
    case AXK_Q6_K:
        return 32;
    default:
        return 0;
    }
}


INLINE int8x16_t
signed_of(const uint32_t format, uint8x16_t code)
{
    if (has_table(format)) {
        const int8_t *table =
            format == AXK_MXFP4 ? axk_table_mxfp4 : axk_table_iq4;
        return vqtbl1q_s8(vld1q_s8(table), code);
    }
    return vsubq_s8(vreinterpretq_s8_u8(code), vdupq_n_s8(zero_of(format)));
}


/* h: what is left of the vector's high bits. */
INLINE struct codes
read_nibbles(const uint32_t format, const uint8_t *w, uint8x16_t *h)
{
    uint8x16_t q = vld1q_u8(w);
    uint8x16_t lo = vandq_u8(q, vdupq_n_u8(15));
    uint8x16_t hi = vshrq_n_u8(q, 4);

    if (high_bits(format) == 1) {
        uint8x16_t mask = vdupq_n_u8(0x10);
        lo = vorrq_u8(lo, vandq_u8(vshlq_n_u8(*h, 4), mask));
        hi = vorrq_u8(hi, vandq_u8(vshlq_n_u8(*h, 3), mask));
        *h = vshrq_n_u8(*h, 2);
    } else if (high_bits(format) == 2) {
        uint8x16_t mask = vdupq_n_u8(0x30);
        lo = vorrq_u8(lo, vandq_u8(vshlq_n_u8(*h, 4), mask));
        hi = vorrq_u8(hi, vandq_u8(vshlq_n_u8(*h, 2), mask));
        *h = vshrq_n_u8(*h, 4);
    }
    return (struct codes){signed_of(format, lo), signed_of(format, hi)};
}


INLINE void
clear(const uint32_t n, sums sum)
{
    for (uint32_t v = 0; v < VECTORS; v++) {
        for (uint32_t t = 0; t < n; t++) {
            sum[v][t] = vdupq_n_s32(0);
        }
    }
}


#if AXK_NEON_I8MM

/* While a dot of 4 tokens runs, sum[v] holds 2 x 2 matrices: [row pair of 2]
 * [token pair of 2], lanes row-major. */
INLINE void
dot_matrix(struct codes c, const uint32_t *a, int32x4_t *sum)
{
    uint32x4_t lo = vreinterpretq_u32_s8(c.lo);
    uint32x4_t hi = vreinterpretq_u32_s8(c.hi);
    uint32x4_t a_lo = vld1q_u32(a);
    uint32x4_t a_hi = vld1q_u32(a + 4);
    int8x16_t rows[2] = {vreinterpretq_s8_u32(vzip1q_u32(lo, hi)),
                         vreinterpretq_s8_u32(vzip2q_u32(lo, hi))};
    int8x16_t tokens[2] = {vreinterpretq_s8_u32(vzip1q_u32(a_lo, a_hi)),
                           vreinterpretq_s8_u32(vzip2q_u32(a_lo, a_hi))};

    for (int r = 0; r < 2; r++) {
        for (int t = 0; t < 2; t++) {
            sum[2 * r + t] = vmmlaq_s32(sum[2 * r + t], rows[r], tokens[t]);
        }
    }
}


/* From matrices to a vector of rows for each token. */
INLINE void
finish_dot(const uint32_t n, sums sum)
{
    for (uint32_t v = 0; v < VECTORS && n == 4; v++) {
        int32x4_t *s = sum[v];
        int32x4_t rows0 = vuzp1q_s32(s[0], s[2]);
        int32x4_t rows1 = vuzp2q_s32(s[0], s[2]);
        int32x4_t rows2 = vuzp1q_s32(s[1], s[3]);
        int32x4_t rows3 = vuzp2q_s32(s[1], s[3]);

        s[0] = rows0;
        s[1] = rows1;
        s[2] = rows2;
        s[3] = rows3;
    }
}

#else

INLINE void
finish_dot(const uint32_t n, sums sum)
{
    (void)n;
    (void)sum;
}

#endif


/* Two k-steps of 4 of one vector times the activations of n tokens. */
INLINE void
dot_8(struct codes c, const uint32_t *a, const uint32_t n, int32x4_t *sum)
{
#if AXK_NEON_I8MM
    if (n == 4) {
        dot_matrix(c, a, sum);
        return;
    }
#endif
    for (uint32_t t = 0; t < n; t++) {
        sum[t] =
            vdotq_s32(sum[t], c.lo, vreinterpretq_s8_u32(vdupq_n_u32(a[t])));
        sum[t] = vdotq_s32(sum[t], c.hi,
                           vreinterpretq_s8_u32(vdupq_n_u32(a[n + t])));
    }
}


/* k-steps of nibbles; w and high at the tile's first vector. */
INLINE void
dot_nibbles(const uint32_t format, const uint8_t *w, const uint8_t *high,
            const int n_steps, const uint32_t *a, const uint32_t n, sums sum)
{
    uint8x16_t h[VECTORS];

    for (uint32_t v = 0; v < VECTORS; v++) {
        h[v] = vdupq_n_u8(0);
        if (high_bits(format)) {
            h[v] = vld1q_u8(high + 16 * v);
        }
    }
    for (int i = 0; i < n_steps; i++) {
        for (uint32_t v = 0; v < VECTORS; v++) {
            dot_8(read_nibbles(format, w + 16 * v, &h[v]), a, n, sum[v]);
        }
        w += 128;
        a += 2 * n;
    }
}


/* The 32 k of a Q8_0 block. */
INLINE void
dot_bytes(const uint8_t *w, const uint32_t *a, const uint32_t n, sums sum)
{
    const uint8x16_t sign = vdupq_n_u8(0x80);

    for (int i = 0; i < 4; i++) {
        for (uint32_t v = 0; v < VECTORS; v++) {
            struct codes c = {
                vreinterpretq_s8_u8(veorq_u8(vld1q_u8(w + 16 * v), sign)),
                vreinterpretq_s8_u8(
                    veorq_u8(vld1q_u8(w + 128 + 16 * v), sign))};
            dot_8(c, a, n, sum[v]);
        }
        w += 256;
        a += 2 * n;
    }
}


INLINE float32x4_t
word_f32(const uint32_t *p)
{
    return vreinterpretq_f32_u32(vdupq_n_u32(*p));
}


/* acc += sum * (d * d_a); d at the tile's first row. */
INLINE void
add_scaled(const uint32_t format, sums sum, const uint8_t *d,
           const uint32_t *d_a, const uint32_t n, results acc)
{
    for (uint32_t v = 0; v < VECTORS; v++) {
        float32x4_t dw = load_4_halves(format, d + 8 * v);

        for (uint32_t t = 0; t < n; t++) {
            acc[v][t] = vfmaq_f32(acc[v][t], vcvtq_f32_s32(sum[v][t]),
                                  vmulq_f32(dw, word_f32(d_a + t)));
        }
    }
}


INLINE void
tile_blocks_32(const uint32_t format, const uint8_t *w, uint32_t first,
               const uint32_t *act, uint32_t n_blocks, const uint32_t n,
               results acc)
{
    for (uint32_t b = 0; b < n_blocks; b++) {
        const uint8_t *steps = w + steps_offset(format) + 16 * first;
        sums sum;

        clear(n, sum);
        if (format == AXK_Q8_0) {
            dot_bytes(steps, act, n, sum);
        } else {
            dot_nibbles(format, steps, steps - 128, 4, act, n, sum);
        }
        finish_dot(n, sum);
        add_scaled(format, sum, w + 8 * first, act + AXK_ACT_D * n, n, acc);
        for (uint32_t v = 0; v < VECTORS && has_min(format); v++) {
            float32x4_t m = load_4_halves(format, w + 64 + 8 * (first + v));

            for (uint32_t t = 0; t < n; t++) {
                acc[v][t] =
                    vfmaq_f32(acc[v][t], m, word_f32(act + AXK_ACT_S * n + t));
            }
        }
        w += panel_block_bytes(format);
        act += AXK_ACT_WORDS * n;
    }
}


/* ---- blocks of 256 ---- */

/* 4 sub-scales of one byte. */
INLINE int32x4_t
sub_scales(const uint32_t format, const uint8_t *p)
{
    uint32_t bytes;

    memcpy(&bytes, p, 4);
    uint8x8_t x = vreinterpret_u8_u32(vdup_n_u32(bytes));
    if (has_signed_scales(format)) {
        return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(x))));
    }
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(x))));
}


INLINE void
add_part(const uint32_t format, const uint8_t *line, const uint8_t *scales,
         uint32_t part, uint32_t first, const uint32_t *a, const uint32_t n,
         sums total)
{
    const uint8_t *p =
        line + line_head(format) + part * part_bytes(format) + 16 * first;
    sums sum;

    clear(n, sum);
    dot_nibbles(format, high_bits(format) ? p + 128 : p, p,
                (int)part_elems(format) / 8, a, n, sum);
    finish_dot(n, sum);
    for (uint32_t v = 0; v < VECTORS; v++) {
        int32x4_t scale =
            sub_scales(format, scales + 32 * part + 4 * (first + v));

        for (uint32_t t = 0; t < n; t++) {
            total[v][t] = vmlaq_s32(total[v][t], sum[v][t], scale);
        }
    }
}


/* acc -= (sum over parts of min * sum of activations) * (dmin * d_a). */
INLINE void
subtract_minima(const uint32_t format, const uint8_t *tail, uint32_t first,
                const uint32_t *record, const uint32_t n, results acc)
{
    const uint32_t *pairs = record + AXK_ACT_K_PAIRS32 * n;
    uint8_t minima[SCALES_MAX];
    sums sum;

    expand_minima(format, tail, minima);
    clear(n, sum);
    for (uint32_t i = 0; i < n_lines(format); i++) {
        for (uint32_t v = 0; v < VECTORS; v++) {
            int16x8_t m = vreinterpretq_s16_u16(
                vmovl_u8(vld1_u8(minima + 64 * i + 8 * (first + v))));

            for (uint32_t t = 0; t < n; t++) {
                int16x8_t x =
                    vreinterpretq_s16_u32(vdupq_n_u32(pairs[i * n + t]));
                int32x4_t low = vmull_s16(vget_low_s16(m), vget_low_s16(x));
                int32x4_t up = vmull_high_s16(m, x);

                sum[v][t] = vaddq_s32(sum[v][t], vpaddq_s32(low, up));
            }
        }
    }
    for (uint32_t v = 0; v < VECTORS; v++) {
        float32x4_t d = load_4_halves(format, tail + 8 * (first + v));

        for (uint32_t t = 0; t < n; t++) {
            float32x4_t x =
                vmulq_f32(d, word_f32(record + AXK_ACT_K_D * n + t));

            acc[v][t] = vfmsq_f32(acc[v][t], vcvtq_f32_s32(sum[v][t]), x);
        }
    }
}


INLINE void
tile_blocks_256(const uint32_t format, const uint8_t *w, uint32_t first,
                const uint32_t *act, uint32_t n_blocks, const uint32_t n,
                results acc)
{
    for (uint32_t b = 0; b < n_blocks; b++) {
        const uint8_t *tail = tail_of(format, w);
        const uint32_t *a = act;
        uint8_t scales[SCALES_MAX];
        sums total;

        expand_scales(format, w, scales);
        clear(n, total);
        for (uint32_t part = 0; part < 2 * n_lines(format); part++) {
            const uint8_t *line =
                lines_of(format, w) + part / 2 * line_bytes(format);

            add_part(format, line, line_scales(format, scales, part / 2, line),
                     part % 2, first, a, n, total);
            a += part_elems(format) / 4 * n;
        }
        add_scaled(format, total, tail + 8 * first, act + AXK_ACT_K_D * n, n,
                   acc);
        if (has_min(format)) {
            subtract_minima(format, tail + 64, first, act, n, acc);
        }
        w += panel_block_bytes(format);
        act += AXK_ACT_K_WORDS * n;
    }
}


/* ---- floats ---- */

/* Ascending k, one sum a row and token: no other order has the same bits. */
INLINE void
tile_floats(const uint32_t format, const uint8_t *w, uint32_t first,
            const uint32_t *act, uint32_t k, const uint32_t n, results acc)
{
    const float *x = (const float *)act;

    for (uint32_t i = 0; i < k; i++) {
        for (uint32_t v = 0; v < VECTORS; v++) {
            uint32_t row = 4 * (first + v);
            float32x4_t values = format == AXK_F32
                                     ? vld1q_f32((const float *)w + row)
                                     : load_4_halves(format, w + 2 * row);

            for (uint32_t t = 0; t < n; t++) {
                acc[v][t] = vfmaq_n_f32(acc[v][t], values, x[t]);
            }
        }
        w += panel_block_bytes(format);
        x += n;
    }
}


/* ---- the walk over panels ---- */

/* Bias, residual, store; only the rows that exist. */
INLINE void
store_rows(const struct axk_matmul *a, uint32_t row, uint32_t m, float32x4_t x)
{
    float lanes[4];

    vst1q_f32(lanes, x);
    for (uint32_t i = 0; i < 4 && row + i < a->n_rows; i++) {
        float *y = a->y + m * a->y_stride + row + i;
        float sum = lanes[i];

        if (a->bias != NULL) {
            sum = sum + a->bias[row + i];
        }
        *y = a->accumulate ? *y + sum : sum;
    }
}


/* A panel times the n tokens of a tile. */
INLINE void
run_tokens(const uint32_t format, const struct axk_matmul *a, uint32_t row,
           const uint8_t *panel, uint32_t tile, const uint32_t n)
{
    const enum axk_act kind = act_kind(format);
    const uint32_t *act =
        (const uint32_t *)a->act + tile * act_tile_words(kind, a->k);

    for (uint32_t first = 0; first < AXK_PANEL_ROWS / 4; first += VECTORS) {
        results acc;

        for (uint32_t v = 0; v < VECTORS; v++) {
            for (uint32_t t = 0; t < n; t++) {
                acc[v][t] = vdupq_n_f32(0);
            }
        }
        if (kind == AXK_ACT_F32) {
            tile_floats(format, panel, first, act, a->k, n, acc);
        } else if (kind == AXK_ACT_Q8_K) {
            tile_blocks_256(format, panel, first, act, a->k / AXK_QK_K, n, acc);
        } else {
            tile_blocks_32(format, panel, first, act, a->k / AXK_QK, n, acc);
        }
        for (uint32_t v = 0; v < VECTORS; v++) {
            for (uint32_t t = 0; t < n; t++) {
                store_rows(a, row + 4 * (first + v), tile * AXK_TILE + t,
                           acc[v][t]);
            }
        }
    }
}


INLINE void
run_panel(const uint32_t format, const struct axk_matmul *a, uint32_t row,
          const uint8_t *panel)
{
    for (uint32_t tile = 0; tile < axk_act_tiles(a->n_tokens); tile++) {
        switch (tile_tokens(a->n_tokens, tile)) {
        case 1:
            run_tokens(format, a, row, panel, tile, 1);
            break;
        case 2:
            run_tokens(format, a, row, panel, tile, 2);
            break;
        case 3:
            run_tokens(format, a, row, panel, tile, 3);
            break;
        default:
            run_tokens(format, a, row, panel, tile, AXK_TILE);
            break;
        }
    }
}


/* One panel; false if the format has no kernel here. */
static bool
run_format(const struct axk_matmul *a, uint32_t row, const uint8_t *panel)
{
    switch (a->format) {
    case AXK_F32:
        run_panel(AXK_F32, a, row, panel);
        return true;
    case AXK_F16:
        run_panel(AXK_F16, a, row, panel);
        return true;
    case AXK_BF16:
        run_panel(AXK_BF16, a, row, panel);
        return true;
    case AXK_Q4_0:
        run_panel(AXK_Q4_0, a, row, panel);
        return true;
    case AXK_Q4_1:
        run_panel(AXK_Q4_1, a, row, panel);
        return true;
    case AXK_Q5_0:
        run_panel(AXK_Q5_0, a, row, panel);
        return true;
    case AXK_Q5_1:
        run_panel(AXK_Q5_1, a, row, panel);
        return true;
    case AXK_Q8_0:
        run_panel(AXK_Q8_0, a, row, panel);
        return true;
    case AXK_Q4_K:
        run_panel(AXK_Q4_K, a, row, panel);
        return true;
    case AXK_Q5_K:
        run_panel(AXK_Q5_K, a, row, panel);
        return true;
    case AXK_Q6_K:
        run_panel(AXK_Q6_K, a, row, panel);
        return true;
    case AXK_IQ4_NL:
        run_panel(AXK_IQ4_NL, a, row, panel);
        return true;
    case AXK_IQ4_XS:
        run_panel(AXK_IQ4_XS, a, row, panel);
        return true;
    case AXK_MXFP4:
        run_panel(AXK_MXFP4, a, row, panel);
        return true;
    default:
        return false;
    }
}


static void
matmul_neon(const struct axk_matmul *a, uint32_t row0, uint32_t row1)
{
    const struct axk_format_traits *f = axk_format_traits(a->format);
    size_t panel_bytes = (a->k / f->block_elems) * panel_block_bytes(a->format);
    const uint8_t *w = a->w;

    for (uint32_t row = row0; row < row1; row += AXK_PANEL_ROWS) {
        if (!run_format(a, row, w + row / AXK_PANEL_ROWS * panel_bytes)) {
            axk_matmul_scalar(a, row, row1);
            return;
        }
    }
}
