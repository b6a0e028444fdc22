/*
 * The scalar reference: the specification of every op but matmul and
 * attention, which have files of their own (scalar_matmul.c,
 * scalar_attention.c).  Written to be read; the vector files must return the
 * same bits, and checkkernels compares with ==.
 *
 * Sums over a row run in 16 lanes, lane i taking the elements i, i + 16, ...
 * in ascending order, and the lanes are then folded in halves: 16 to 8 to 4
 * to 2 to 1.  That is one zmm, or two ymm, or an array here.
 */

#include "kernels/axk.h"
#include "kernels/internal.h"
#include "kernels/codes.h"
#include "kernels/kv_write.h"


/* lanes[i] += lanes[i + 8], then + 4, + 2, + 1. */
static float
fold_lanes(float *lanes)
{
    for (int half = 8; half >= 1; half /= 2) {
        for (int i = 0; i < half; i++) {
            lanes[i] = lanes[i] + lanes[i + half];
        }
    }
    return lanes[0];
}


/* ggml's q8_0 and q8_1 of 32 values, as words of an activation record. */
static void
quantize_block(const float *x, uint32_t stride, uint32_t *record)
{
    uint32_t largest = 0;
    int8_t q[AXK_QK] = {0};
    int32_t sum = 0;

    for (int j = 0; j < AXK_QK; j++) {
        uint32_t magnitude = bits_of(x[j]) & 0x7fffffff;
        largest = magnitude > largest ? magnitude : largest;
    }
    float d = float_of(largest) / 127.0f;

    if (largest >= 0x7f800000) {
        d = float_of(0x7fc00000); /* NaN or Inf in, NaN out */
    } else if (d >= AXK_D_MIN) {
        float inverse = 1.0f / d;
        for (int j = 0; j < AXK_QK; j++) {
            float v = x[j] * inverse;
            q[j] = (int8_t)(v + (v < 0 ? -AXK_BELOW_HALF : AXK_BELOW_HALF));
            sum += q[j];
        }
    }
    for (int i = 0; i < 8; i++) {
        memcpy(&record[i * stride], q + 4 * i, 4);
    }
    float s = d * (float)sum;
    record[AXK_ACT_D * stride] = bits_of(axk_f16_to_f32(axk_f32_to_f16(d)));
    record[AXK_ACT_SUM8 * stride] = (uint32_t)(-8 * sum);
    record[AXK_ACT_SUM128 * stride] = (uint32_t)(-128 * sum);
    record[AXK_ACT_S * stride] = bits_of(axk_f16_to_f32(axk_f32_to_f16(s)));
}


/* ggml's q8_K of 256 values; the sign of its d, which ggml takes from the
 * largest value, cancels out and is positive here. */
static void
quantize_block_k(const float *x, uint32_t stride, uint32_t *record)
{
    uint32_t largest = 0;
    int8_t q[AXK_QK_K] = {0};
    int16_t sums[16] = {0};
    int16_t sums32[8];
    float d = 0;

    for (int j = 0; j < AXK_QK_K; j++) {
        uint32_t magnitude = bits_of(x[j]) & 0x7fffffff;
        largest = magnitude > largest ? magnitude : largest;
    }
    if (largest >= 0x7f800000) {
        d = float_of(0x7fc00000);
    } else if (float_of(largest) >= AXK_D_MIN) {
        float inverse = 127.0f / float_of(largest);
        for (int j = 0; j < AXK_QK_K; j++) {
            float v = x[j] * inverse + AXK_ROUND_MAGIC;
            q[j] = (int8_t)(bits_of(v) - AXK_ROUND_MAGIC_BITS);
            sums[j / 16] = (int16_t)(sums[j / 16] + q[j]);
        }
        d = 1.0f / inverse;
    }
    for (int i = 0; i < 64; i++) {
        memcpy(&record[i * stride], q + 4 * i, 4);
    }
    for (int i = 0; i < 16; i++) {
        record[(AXK_ACT_K_SUMS + i) * stride] = (uint32_t)-sums[i];
    }
    for (int i = 0; i < 8; i++) {
        memcpy(&record[(AXK_ACT_K_PAIRS16 + i) * stride], sums + 2 * i, 4);
        sums32[i] = (int16_t)(sums[2 * i] + sums[2 * i + 1]);
    }
    for (int i = 0; i < 4; i++) {
        memcpy(&record[(AXK_ACT_K_PAIRS32 + i) * stride], sums32 + 2 * i, 4);
    }
    record[AXK_ACT_K_D * stride] = bits_of(d);
}


void
axk_order_f32(const float *row, uint32_t k, uint32_t n, uint32_t *dst)
{
    for (uint32_t i = 0; i < k; i++) {
        dst[(size_t)i * n] = bits_of(row[i]);
    }
}


static void
axk_quantize_scalar(enum axk_act kind, const float *x, size_t x_stride,
                    uint32_t n_tokens, uint32_t k, uint32_t tile0,
                    uint32_t tile1, void *act)
{
    for (uint32_t tile = tile0; tile < tile1; tile++) {
        uint32_t n = tile_tokens(n_tokens, tile);
        uint32_t *dst = (uint32_t *)act + tile * act_tile_words(kind, k);

        for (uint32_t t = 0; t < n; t++) {
            const float *row = x + ((size_t)tile * AXK_TILE + t) * x_stride;

            if (kind == AXK_ACT_F32) {
                axk_order_f32(row, k, n, dst + t);
                continue;
            }
            for (uint32_t b = 0; kind == AXK_ACT_Q8_K && b < k / AXK_QK_K;
                 b++) {
                quantize_block_k(row + (size_t)b * AXK_QK_K, n,
                                 dst + (size_t)b * AXK_ACT_K_WORDS * n + t);
            }
            for (uint32_t b = 0; kind == AXK_ACT_Q8 && b < k / AXK_QK; b++) {
                quantize_block(row + (size_t)b * AXK_QK, n,
                               dst + (size_t)b * AXK_ACT_WORDS * n + t);
            }
        }
    }
}


static void
axk_quantize_part_scalar(const float *x, size_t x_stride, uint32_t n_tokens,
                         uint32_t k, uint32_t k0, uint32_t k1, void *act)
{
    for (uint32_t t = 0; t < n_tokens; t++) {
        uint32_t n = tile_tokens(n_tokens, t / AXK_TILE);
        uint32_t *dst = (uint32_t *)act +
                        t / AXK_TILE * act_tile_words(AXK_ACT_Q8, k) +
                        t % AXK_TILE;

        for (uint32_t i = k0; i < k1; i += AXK_QK) {
            quantize_block(x + t * x_stride + (i - k0), n,
                           dst + (size_t)(i / AXK_QK) * AXK_ACT_WORDS * n);
        }
    }
}


static void
axk_rmsnorm_scalar(float *y, size_t y_stride, const float *x, size_t x_stride,
                   uint32_t n_rows, uint32_t n, const float *weight, float eps)
{
    for (uint32_t r = 0; r < n_rows; r++) {
        const float *row = x + r * x_stride;
        float *out = y + r * y_stride;
        float lanes[16] = {0};

        for (uint32_t i = 0; i < n; i++) {
            lanes[i % 16] = fma_exact(row[i], row[i], lanes[i % 16]);
        }
        float mean = fold_lanes(lanes) / (float)n;
        float factor = 1.0f / __builtin_sqrtf(mean + eps);

        for (uint32_t i = 0; i < n; i++) {
            out[i] = row[i] * factor;
            if (weight != NULL) {
                out[i] = out[i] * weight[i];
            }
        }
    }
}


static void
axk_rope_scalar(const struct axk_rope *a, uint32_t t0, uint32_t t1)
{
    uint32_t half = a->n_rot / 2;

    for (uint32_t t = t0; t < t1; t++) {
        const float *c = a->table + (size_t)t * a->n_rot;
        const float *s = c + half;

        for (uint32_t h = a->first / a->head_dim;
             h * a->head_dim < a->first + a->n; h++) {
            struct head_part part =
                head_part_of(h, a->head_dim, a->first, a->n);
            float *x = a->x + t * a->x_stride + part.from;

            for (uint32_t i = 0; i < half; i++) {
                uint32_t first = a->neox ? i : 2 * i;

                if (first < part.lo || first >= part.hi) {
                    continue;
                }
                float *p = x + first - part.lo;
                float *q = p + (a->neox ? half : 1);
                float u = *p;
                float v = *q;

                *p = fma_exact(u, c[i], -(v * s[i]));
                *q = fma_exact(u, s[i], v * c[i]);
            }
        }
    }
}


static void
axk_silu_mul_scalar(float *y, size_t y_stride, const float *gate,
                    size_t gate_stride, const float *up, size_t up_stride,
                    uint32_t n_rows, uint32_t n)
{
    for (uint32_t r = 0; r < n_rows; r++) {
        for (uint32_t i = 0; i < n; i++) {
            float g = gate[r * gate_stride + i];

            y[r * y_stride + i] =
                g / (1.0f + axk_exp32(-g)) * up[r * up_stride + i];
        }
    }
}


/* 0.5 g (1 + tanh(u)) = g / (1 + exp(-2u)), u = sqrt(2/pi) (g + A g^3). */
static void
axk_gelu_mul_scalar(float *y, size_t y_stride, const float *gate,
                    size_t gate_stride, const float *up, size_t up_stride,
                    uint32_t n_rows, uint32_t n)
{
    for (uint32_t r = 0; r < n_rows; r++) {
        for (uint32_t i = 0; i < n; i++) {
            float g = gate[r * gate_stride + i];
            float poly = fma_exact(g * g, AXK_GELU_A, 1.0f);
            float minus_2u = poly * g * AXK_GELU_B;

            y[r * y_stride + i] =
                g / (1.0f + axk_exp32(minus_2u)) * up[r * up_stride + i];
        }
    }
}


static void
axk_add_scalar(float *y, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = a[i] + b[i];
    }
}


static void
axk_scale_scalar(float *y, const float *x, float s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = x[i] * s;
    }
}


/* tanh(u) = 1 - 2 / (exp(2u) + 1) */
static void
axk_softcap_scalar(float *y, const float *x, float cap, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float e = axk_exp32(2.0f * (x[i] / cap));

        y[i] = cap * (1.0f - 2.0f / (e + 1.0f));
    }
}


static void
quantize_groups(const float *x, uint32_t n_groups, uint32_t *records)
{
    axk_quantize_scalar(AXK_ACT_Q8, x, 0, 1, n_groups * AXK_QK, 0, 1, records);
}


static void
write_halves(enum axk_kv_type type, uint16_t *head, uint32_t slot, uint32_t lo,
             uint32_t hi, const float *k, const float *v, uint32_t head_dim)
{
    uint16_t (*narrow)(float) =
        type == AXK_KV_BF16 ? axk_f32_to_bf16 : axk_f32_to_f16;
    uint32_t padded = round_up_16(head_dim);
    uint16_t *values =
        head + (size_t)head_dim * AXK_KV_TOKENS + (size_t)slot * padded;

    for (uint32_t i = lo; i < hi && k != NULL; i++) {
        head[kv_key_halves(slot, head_dim) + i * KV_RUN] = narrow(k[i - lo]);
    }
    for (uint32_t i = lo; i < hi && v != NULL; i++) {
        values[i] = narrow(v[i - lo]);
    }
    for (uint32_t i = head_dim; hi == head_dim && i < padded && v != NULL;
         i++) {
        values[i] = 0;
    }
}


static void
axk_kv_write_scalar(enum axk_kv_type type, void *block, uint32_t slot,
                    uint32_t first, uint32_t n, const float *k, const float *v,
                    uint32_t head_dim)
{
    kv_write_heads(quantize_groups, write_halves, type, block, slot, first, n,
                   k, v, head_dim);
}


static uint32_t
axk_argmax_scalar(const float *x, uint32_t n)
{
    float best = -float_of(0x7f800000);
    uint32_t index = 0;

    for (uint32_t i = 0; i < n; i++) {
        if (x[i] > best) {
            best = x[i];
            index = i;
        }
    }
    return index;
}


/* Chunks of AXK_LSE_CHUNK in 16 f32 lanes, the chunks' sums in double. */
static double
axk_logsumexp_scalar(const float *x, uint32_t n)
{
    float largest = x[axk_argmax_scalar(x, n)];
    double total = 0;

    for (uint32_t i0 = 0; i0 < n; i0 += AXK_LSE_CHUNK) {
        uint32_t i1 = n - i0 < AXK_LSE_CHUNK ? n : i0 + AXK_LSE_CHUNK;
        float lanes[16] = {0};

        for (uint32_t i = i0; i < i1; i++) {
            lanes[i % 16] = lanes[i % 16] + axk_exp32(x[i] - largest);
        }
        total += (double)fold_lanes(lanes);
    }
    return axk_log64(total) + (double)largest;
}


static void
axk_exp_sub_scalar(float *y, const float *x, float sub, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = axk_exp32(x[i] - sub);
    }
}


/* All of a table but .isa and .matmul. */
#define SCALAR_OPS                                                             \
    .quantize = axk_quantize_scalar,                                           \
    .quantize_part = axk_quantize_part_scalar, .rmsnorm = axk_rmsnorm_scalar,  \
    .rope = axk_rope_scalar, .silu_mul = axk_silu_mul_scalar,                  \
    .gelu_mul = axk_gelu_mul_scalar, .add = axk_add_scalar,                    \
    .scale = axk_scale_scalar, .softcap = axk_softcap_scalar,                  \
    .kv_write = axk_kv_write_scalar, .attention = axk_attention_scalar,        \
    .attention_partial = axk_attention_partial_scalar,                         \
    .attention_merge = axk_attention_merge_scalar,                             \
    .argmax = axk_argmax_scalar, .logsumexp = axk_logsumexp_scalar,            \
    .exp_sub = axk_exp_sub_scalar


const struct axk_ops axk_ops_scalar = {
    .isa = "scalar",
    .matmul = axk_matmul_scalar,
    SCALAR_OPS,
};

const struct axk_ops axk_ops_scalar_bf16 = {
    .isa = "scalar-bf16",
    .numerics = "bf16-dot",
    .matmul = axk_matmul_scalar_bf16,
    SCALAR_OPS,
};

const struct axk_ops axk_ops_scalar_bf16_tile = {
    .isa = "scalar-bf16-tile",
    .numerics = "bf16-tile",
    .matmul = axk_matmul_scalar_bf16_tile,
    SCALAR_OPS,
};

#if defined(__aarch64__)

/* Only the matmuls are written for NEON. */
const struct axk_ops axk_ops_neon = {
    .isa = "neon",
    .matmul = axk_matmul_neon,
    SCALAR_OPS,
};

const struct axk_ops axk_ops_neon_i8mm = {
    .isa = "neon-i8mm",
    .matmul = axk_matmul_neon_i8mm,
    SCALAR_OPS,
};

#endif
