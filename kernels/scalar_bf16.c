/*
 * The reference of the class of numerics "bf16-dot": BF16 weights times
 * activations rounded to BF16, as the instruction VDPBF16PS sums them.  A class
 * of its own, since rounding activations changes results: only tables that say
 * so (axk_ops.numerics) have it, and nobody gets one who did not name it.
 *
 * An activation is rounded to nearest even, denormals to zero.  Then for every
 * two k, ascending, of which the odd one comes first:
 *   acc = fma(w[k + 1], x[k + 1], acc), acc = fma(w[k], x[k], acc)
 * where denormal operands and results are zeros of their sign.  An odd last k
 * has a zero as its partner.  That is what the instruction's page in Intel's
 * Instruction Set Extensions Programming Reference defines, with the sum and
 * product as one rounding: found so on Zen 4 over 12 million random operands of
 * all exponents, and held there by checkkernels.
 */

#include <math.h>

#include "kernels/axk.h"
#include "kernels/internal.h"
#include "kernels/codes.h"

#define FLOAT_MIN 0x1p-126

/* Below this a result rounds to less than FLOAT_MIN with 24 bits. */
#define TINY (0x1p-126 - 0x1p-151)


static float
zero_if_denormal(float x)
{
    return fabsf(x) < (float)FLOAT_MIN ? copysignf(0.0f, x) : x;
}


static float
round_to_bf16(float x)
{
    uint32_t u = bits_of(zero_if_denormal(x));

    if (x != x) {
        return x;
    }
    u += 0x7fff + (u >> 16 & 1);
    return float_of(u & 0xffff0000);
}


/* fma with denormals as zeros, in and out; flushed when tiny after rounding to
 * 24 bits of any exponent, as SSE's FTZ does. */
static float
fma_flushed(float a, float b, float c)
{
    float x = fma_exact(a, b, c);
    double sum = (double)a * b + (double)c;

    if (fabs(sum) < TINY) {
        return copysignf(0.0f, x);
    }
    return x;
}


static float
dot_pairs(const uint8_t *panel, uint32_t r, uint32_t k, const uint32_t *act,
          uint32_t n, uint32_t t)
{
    float acc = 0;

    for (uint32_t i = 0; i < k; i += 2) {
        for (uint32_t odd = 2; odd-- > 0;) {
            float w = 0;
            float x = 0;

            if (i + odd < k) {
                const uint8_t *values = panel + (size_t)(i + odd) * 64;

                w = zero_if_denormal(half_at(AXK_BF16, values, r));
                x = round_to_bf16(float_of(act[(size_t)(i + odd) * n + t]));
            }
            acc = fma_flushed(w, x, acc);
        }
    }
    return acc;
}


void
axk_matmul_scalar_bf16(const struct axk_matmul *a, uint32_t row0, uint32_t row1)
{
    size_t panel_bytes = a->k * panel_block_bytes(AXK_BF16);

    if (a->format != AXK_BF16) {
        axk_matmul_scalar(a, row0, row1);
        return;
    }
    for (uint32_t row = row0; row < row1; row++) {
        const uint8_t *panel =
            (const uint8_t *)a->w + row / AXK_PANEL_ROWS * panel_bytes;

        for (uint32_t m = 0; m < a->n_tokens; m++) {
            uint32_t tile = m / AXK_TILE;
            const uint32_t *act = (const uint32_t *)a->act +
                                  tile * act_tile_words(AXK_ACT_F32, a->k);
            float *y = &a->y[m * a->y_stride + row];
            float sum = dot_pairs(panel, row % AXK_PANEL_ROWS, a->k, act,
                                  tile_tokens(a->n_tokens, tile), m % AXK_TILE);

            if (a->bias != NULL) {
                sum = sum + a->bias[row];
            }
            *y = a->accumulate ? *y + sum : sum;
        }
    }
}
