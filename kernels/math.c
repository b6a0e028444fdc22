/*
 * Elementary functions with plain double arithmetic: the same bits on every
 * machine, compiler and C library.  They make the RoPE tables and serve the
 * sampler; none is on the path of a single weight.  Accuracy is a few units
 * in the last place of a double, far beyond what f32 tables can show.
 *
 * Methods are the textbook ones: exp by reduction to |r| <= ln2/2 and a
 * Taylor sum, log by atanh's series around a mantissa near 1, sine and cosine
 * by a three-part pi/2 (Cody and Waite) and Taylor sums on |r| <= pi/4.
 */

#include "kernels/axk.h"
#include "kernels/internal.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#define LN2_HI 0x1.62e42feep-1
#define LN2_LO 0x1.a39ef35793c76p-33

/* pi/2 in three parts; the first two have 33 bits, so that n * part is exact
 * for |n| < 2^20. */
#define PIO2_1 0x1.921fb544p+0
#define PIO2_2 0x1.0b4611a6p-34
#define PIO2_3 0x1.3198a2e037073p-69

#define ROUND_MAGIC 0x1.8p52


static uint64_t
bits_of_double(double d)
{
    uint64_t u;

    memcpy(&u, &d, sizeof(u));
    return u;
}


static double
double_of(uint64_t u)
{
    double d;

    memcpy(&d, &u, sizeof(d));
    return d;
}


void
axk_thread_init(void)
{
#if defined(__x86_64__)
    /* All exceptions masked, nearest even, no flush to zero. */
    _mm_setcsr(0x1f80);
#endif
}


double
axk_exp64(double x)
{
    if (x != x) {
        return x;
    }
    if (x > 709.0) {
        return double_of(0x7ff0000000000000u);
    }
    if (x < -708.0) {
        return 0;
    }
    double n = (x * 0x1.71547652b82fep+0 + ROUND_MAGIC) - ROUND_MAGIC;
    double r = (x - n * LN2_HI) - n * LN2_LO;
    double sum = 1;

    for (int i = 16; i >= 1; i--) {
        sum = 1 + sum * r / i;
    }
    return sum * double_of((uint64_t)((int64_t)n + 1023) << 52);
}


double
axk_log64(double x)
{
    if (!(x > 0)) {
        return x == 0 ? -double_of(0x7ff0000000000000u)
                      : double_of(0x7ff8000000000000u);
    }
    if (bits_of_double(x) == 0x7ff0000000000000u) {
        return x;
    }
    int e = 0;
    if (x < 0x1p-1022) {
        x *= 0x1p54;
        e = -54;
    }
    uint64_t u = bits_of_double(x);
    e += (int)(u >> 52) - 1023;
    double m = double_of((u & 0xfffffffffffffu) | 0x3ff0000000000000u);

    if (m > 0x1.6a09e667f3bcdp+0) { /* keep m within sqrt(1/2) .. sqrt(2) */
        m *= 0.5;
        e++;
    }
    double s = (m - 1) / (m + 1);
    double s2 = s * s;
    double sum = 0;

    for (int i = 25; i >= 3; i -= 2) {
        sum = (sum + 1.0 / i) * s2;
    }
    return e * LN2_HI + (2 * s + (2 * s * sum + e * LN2_LO));
}


double
axk_pow64(double x, double y)
{
    return axk_exp64(y * axk_log64(x));
}


void
axk_sincos64(double x, double *s, double *c)
{
    double n = (x * 0x1.45f306dc9c883p-1 + ROUND_MAGIC) - ROUND_MAGIC;
    double r = ((x - n * PIO2_1) - n * PIO2_2) - n * PIO2_3;
    double r2 = r * r;
    double sum_s = 1;
    double sum_c = 1;

    for (int i = 18; i >= 2; i -= 2) {
        sum_s = 1 - sum_s * r2 / (i * (i + 1));
        sum_c = 1 - sum_c * r2 / (i * (i - 1));
    }
    sum_s *= r;

    switch ((int64_t)n & 3) {
    case 0:
        *s = sum_s;
        *c = sum_c;
        break;
    case 1:
        *s = sum_c;
        *c = -sum_s;
        break;
    case 2:
        *s = -sum_s;
        *c = -sum_c;
        break;
    default:
        *s = -sum_c;
        *c = sum_s;
        break;
    }
}


float
axk_exp32(float x)
{
    float t = fma_exact(x, AXK_LOG2E, AXK_EXP_MAGIC);
    float n = t - AXK_EXP_MAGIC;
    float r = fma_exact(n, -AXK_LN2_LO, fma_exact(n, -AXK_LN2_HI, x));
    float p = AXK_EXP_C7;

    p = fma_exact(p, r, AXK_EXP_C6);
    p = fma_exact(p, r, AXK_EXP_C5);
    p = fma_exact(p, r, AXK_EXP_C4);
    p = fma_exact(p, r, AXK_EXP_C3);
    p = fma_exact(p, r, 0.5f);
    p = fma_exact(p, r, 1.0f);
    p = fma_exact(p, r, 1.0f);
    p *= float_of((bits_of(t) << 23) + 0x3f800000);
    if (x < AXK_EXP_LOW) {
        return 0;
    }
    return x > AXK_EXP_HIGH ? float_of(0x7f800000) : p;
}


void
axk_rope_inv_freq(double base, double freq_scale, const float *freq_factors,
                  uint32_t n_rot, double *inv_freq)
{
    for (uint32_t i = 0; i < n_rot / 2; i++) {
        double f = freq_scale * axk_pow64(base, -2.0 * i / n_rot);

        inv_freq[i] = freq_factors != NULL ? f / freq_factors[i] : f;
    }
}


void
axk_rope_table(const double *inv_freq, uint32_t n_rot, double magnitude,
               const uint32_t *positions, uint32_t n, float *table)
{
    uint32_t half = n_rot / 2;

    for (uint32_t t = 0; t < n; t++) {
        float *row = table + (size_t)t * n_rot;

        for (uint32_t i = 0; i < half; i++) {
            double s;
            double c;

            axk_sincos64(positions[t] * inv_freq[i], &s, &c);
            row[i] = (float)(c * magnitude);
            row[half + i] = (float)(s * magnitude);
        }
    }
}
