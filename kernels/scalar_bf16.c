/*
 * The references of two classes of numerics for BF16 weights times activations
 * rounded to BF16.  Classes of their own, since rounding activations changes
 * results: only tables that say so (axk_ops.numerics) have them, and nobody
 * gets one who did not name it.
 *
 * Common to both: an activation is rounded to nearest even, denormals to zero;
 * denormal operands and results are zeros of their sign; what is missing behind
 * the last k is zero.
 *
 * "bf16-dot", as the instruction VDPBF16PS sums.  For every two k, ascending,
 * of which the odd one comes first:
 *   acc = fma(w[k + 1], x[k + 1], acc), acc = fma(w[k], x[k], acc)
 * That is what the instruction's page in Intel's Instruction Set Extensions
 * Programming Reference defines, with the sum and product as one rounding:
 * found so on Zen 4 over 12 million random operands of all exponents, and held
 * there by checkkernels.
 *
 * "bf16-tile", as the instruction TDPBF16PS sums tiles of 32 k, after its page
 * in Intel's Software Developer's Manual, volume 2.  For every 32 k, ascending:
 *   e = fma(w[k], x[k], e) over the even k, from zero; o the same over the odd
 *   acc = acc + (e + o)
 * No machine of ours has it.
 */

#include <math.h>

#include "kernels/axk.h"
#include "kernels/internal.h"
#include "kernels/codes.h"

#define TILE_K    32
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


/* Sums as such; a denormal one is exact, so tiny is tiny either way. */
static float
add_flushed(float a, float b)
{
    return zero_if_denormal(a + b);
}


/* acc and one product; zero operands from k on. */
static float
add_product(const uint8_t *panel, uint32_t r, uint32_t k, const uint32_t *act,
            uint32_t n, uint32_t t, uint32_t i, float acc)
{
    float w = 0;
    float x = 0;

    if (i < k) {
        w = half_at(AXK_BF16, panel + (size_t)i * 64, r);
        x = round_to_bf16(float_of(act[(size_t)i * n + t]));
    }
    return fma_flushed(zero_if_denormal(w), x, acc);
}


/* Row r of a panel times token t of a tile of n tokens. */
typedef float row_dot(const uint8_t *panel, uint32_t r, uint32_t k,
                      const uint32_t *act, uint32_t n, uint32_t t);


static float
dot_pairs(const uint8_t *panel, uint32_t r, uint32_t k, const uint32_t *act,
          uint32_t n, uint32_t t)
{
    float acc = 0;

    for (uint32_t i = 0; i < k; i += 2) {
        acc = add_product(panel, r, k, act, n, t, i + 1, acc);
        acc = add_product(panel, r, k, act, n, t, i, acc);
    }
    return acc;
}


static float
dot_tiles(const uint8_t *panel, uint32_t r, uint32_t k, const uint32_t *act,
          uint32_t n, uint32_t t)
{
    float acc = 0;

    for (uint32_t i = 0; i < k; i += TILE_K) {
        float even = 0;
        float odd = 0;

        for (uint32_t j = i; j < i + TILE_K; j += 2) {
            even = add_product(panel, r, k, act, n, t, j, even);
            odd = add_product(panel, r, k, act, n, t, j + 1, odd);
        }
        acc = add_flushed(acc, add_flushed(even, odd));
    }
    return acc;
}


static void
matmul_bf16(const struct axk_matmul *a, uint32_t row0, uint32_t row1,
            row_dot *dot)
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
            float sum = dot(panel, row % AXK_PANEL_ROWS, a->k, act,
                            tile_tokens(a->n_tokens, tile), m % AXK_TILE);

            if (a->bias != NULL) {
                sum = sum + a->bias[row];
            }
            *y = a->accumulate ? *y + sum : sum;
        }
    }
}


void
axk_matmul_scalar_bf16(const struct axk_matmul *a, uint32_t row0, uint32_t row1)
{
    matmul_bf16(a, row0, row1, dot_pairs);
}


void
axk_matmul_scalar_bf16_tile(const struct axk_matmul *a, uint32_t row0,
                            uint32_t row1)
{
    matmul_bf16(a, row0, row1, dot_tiles);
}
