/*
 * Formats as facts: names, block sizes, which have kernels, and how f16 reads
 * and writes.  Called by the loader before it allocates anything, so shapes
 * from a hostile file come through here: every product is bounded.
 *
 * The numbers are those of the ggml file format (GGUF's tensor types).  A
 * format without kernels keeps its name and sizes, so that an error can name
 * it.
 */

#include "kernels/axk.h"
#include "kernels/internal.h"
#include "kernels/codes.h"


static const struct axk_format_traits traits[AXK_FORMAT_END] = {
    [AXK_F32] = {"F32", 1, 4, AXK_ACT_F32},
    [AXK_F16] = {"F16", 1, 2, AXK_ACT_F32},
    [AXK_Q4_0] = {"Q4_0", 32, 18, AXK_ACT_Q8},
    [AXK_Q4_1] = {"Q4_1", 32, 20, AXK_ACT_Q8},
    [AXK_Q5_0] = {"Q5_0", 32, 22, AXK_ACT_Q8},
    [AXK_Q5_1] = {"Q5_1", 32, 24, AXK_ACT_Q8},
    [AXK_Q8_0] = {"Q8_0", 32, 34, AXK_ACT_Q8},
    [AXK_Q2_K] = {"Q2_K", 256, 84, AXK_ACT_Q8_K},
    [AXK_Q3_K] = {"Q3_K", 256, 110, AXK_ACT_Q8_K},
    [AXK_Q4_K] = {"Q4_K", 256, 144, AXK_ACT_Q8_K},
    [AXK_Q5_K] = {"Q5_K", 256, 176, AXK_ACT_Q8_K},
    [AXK_Q6_K] = {"Q6_K", 256, 210, AXK_ACT_Q8_K},
    [AXK_IQ2_XXS] = {"IQ2_XXS", 256, 66, AXK_ACT_NONE},
    [AXK_IQ2_XS] = {"IQ2_XS", 256, 74, AXK_ACT_NONE},
    [AXK_IQ3_XXS] = {"IQ3_XXS", 256, 98, AXK_ACT_NONE},
    [AXK_IQ1_S] = {"IQ1_S", 256, 50, AXK_ACT_NONE},
    [AXK_IQ3_S] = {"IQ3_S", 256, 110, AXK_ACT_NONE},
    [AXK_IQ2_S] = {"IQ2_S", 256, 82, AXK_ACT_NONE},
    [AXK_IQ1_M] = {"IQ1_M", 256, 56, AXK_ACT_NONE},
    [AXK_TQ1_0] = {"TQ1_0", 256, 54, AXK_ACT_NONE},
    [AXK_TQ2_0] = {"TQ2_0", 256, 66, AXK_ACT_NONE},
    [AXK_IQ4_NL] = {"IQ4_NL", 32, 18, AXK_ACT_Q8},
    [AXK_IQ4_XS] = {"IQ4_XS", 256, 136, AXK_ACT_Q8_K},
    [AXK_BF16] = {"BF16", 1, 2, AXK_ACT_F32},
    [AXK_MXFP4] = {"MXFP4", 32, 17, AXK_ACT_Q8},
};

static const struct axk_format_traits no_format = {NULL, 0, 0, AXK_ACT_NONE};


const char *
axk_status_name(enum axk_status status)
{
    switch (status) {
    case AXK_OK:
        return "ok";
    case AXK_UNSUPPORTED_FORMAT:
        return "unsupported weight format";
    case AXK_BAD_SHAPE:
        return "bad shape";
    case AXK_NONFINITE_WEIGHT:
        return "NaN or infinity in the weights";
    case AXK_BAD_ARGUMENT:
        return "bad argument";
    }
    return "unknown status";
}


const struct axk_format_traits *
axk_format_traits(uint32_t format)
{
    if (format >= AXK_FORMAT_END) {
        return &no_format;
    }
    return &traits[format];
}


static enum axk_status
check_shape(uint32_t format, uint32_t n_rows, uint32_t k)
{
    const struct axk_format_traits *f = axk_format_traits(format);

    if (f->name == NULL) {
        return AXK_UNSUPPORTED_FORMAT;
    }
    if (n_rows == 0 || n_rows > AXK_DIM_MAX || k == 0 || k > AXK_DIM_MAX ||
        k % f->block_elems != 0) {
        return AXK_BAD_SHAPE;
    }
    return AXK_OK;
}


size_t
axk_file_bytes(uint32_t format, uint32_t n_rows, uint32_t k)
{
    const struct axk_format_traits *f = axk_format_traits(format);

    if (check_shape(format, n_rows, k) != AXK_OK) {
        return 0;
    }
    return (size_t)(k / f->block_elems) * f->block_bytes * n_rows;
}


size_t
axk_packed_bytes(uint32_t format, uint32_t n_rows, uint32_t k,
                 enum axk_status *status)
{
    const struct axk_format_traits *f = axk_format_traits(format);

    *status = check_shape(format, n_rows, k);
    if (*status == AXK_OK && f->act == AXK_ACT_NONE) {
        *status = AXK_UNSUPPORTED_FORMAT;
    }
    if (*status != AXK_OK) {
        return 0;
    }
    size_t n_panels = ((size_t)n_rows + AXK_PANEL_ROWS - 1) / AXK_PANEL_ROWS;
    return n_panels * (k / f->block_elems) * panel_block_bytes(format);
}


size_t
axk_act_bytes(enum axk_act kind, uint32_t n_tokens, uint32_t k)
{
    uint32_t block = kind == AXK_ACT_Q8     ? AXK_QK
                     : kind == AXK_ACT_Q8_K ? AXK_QK_K
                                            : 1;

    if (kind == AXK_ACT_NONE || kind > AXK_ACT_Q8_K || n_tokens == 0 ||
        n_tokens > AXK_DIM_MAX || k == 0 || k > AXK_DIM_MAX || k % block != 0) {
        return 0;
    }
    size_t n = axk_act_tiles(n_tokens) * act_tile_words(kind, k) * 4;
    return (n + AXK_ALIGN - 1) / AXK_ALIGN * AXK_ALIGN;
}


size_t
axk_kv_block_bytes(enum axk_kv_type type, uint32_t n_head_kv, uint32_t head_dim)
{
    if (type >= AXK_KV_TYPE_END || n_head_kv == 0 || n_head_kv > 4096 ||
        head_dim == 0 || head_dim > AXK_HEAD_DIM_MAX) {
        return 0;
    }
    return n_head_kv * kv_head_bytes(type, head_dim);
}


static const char *const kv_type_names[] = {
    [AXK_KV_F16] = "f16",
    [AXK_KV_Q8_0] = "q8_0",
    [AXK_KV_BF16] = "bf16",
};


const char *
axk_kv_type_name(uint32_t type)
{
    return type < AXK_KV_TYPE_END ? kv_type_names[type] : NULL;
}


uint32_t
axk_kv_type_of(const char *name)
{
    uint32_t type = 0;

    while (type < AXK_KV_TYPE_END && strcmp(kv_type_names[type], name) != 0) {
        type++;
    }
    return type;
}


float
axk_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t exponent = (h >> 10) & 31;
    uint32_t mantissa = h & 0x3ff;

    if (exponent == 31) {
        uint32_t quiet = mantissa != 0 ? 0x400000 : 0;
        return float_of(sign | 0x7f800000 | mantissa << 13 | quiet);
    }
    if (exponent == 0) {
        float magnitude = (float)mantissa * 0x1p-24f;
        return float_of(sign | bits_of(magnitude));
    }
    return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
}


uint16_t
axk_f32_to_f16(float f)
{
    uint32_t u = bits_of(f);
    uint16_t sign = (uint16_t)(u >> 16 & 0x8000);

    u &= 0x7fffffff;
    if (u > 0x7f800000) {
        return (uint16_t)(sign | 0x7e00 | (u >> 13 & 0x3ff));
    }
    if (u >= 0x477ff000) { /* rounds to 65536 or more */
        return sign | 0x7c00;
    }
    if (u < 0x38800000) {
        /* A denormal f16: adding 0.5 leaves the rounded multiple of 2^-24
         * in the lowest bits of the sum. */
        return (uint16_t)(sign | (bits_of(float_of(u) + 0.5f) - 0x3f000000));
    }
    u += 0xfff + (u >> 13 & 1);
    return (uint16_t)(sign | (u - 0x38000000) >> 13);
}


float
axk_bf16_to_f32(uint16_t h)
{
    return float_of((uint32_t)h << 16);
}


uint16_t
axk_f32_to_bf16(float f)
{
    uint32_t u = bits_of(f);

    if ((u & 0x7fffffff) > 0x7f800000) {
        return (uint16_t)(u >> 16 | 0x40); /* a NaN stays one */
    }
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
