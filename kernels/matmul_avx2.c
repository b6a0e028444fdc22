/*
 * Matmuls for AVX2 with FMA and F16C: the shared file with 16-bit dots.
 */

#define AXK_YMM_VNNI 0
#include "kernels/matmul_ymm.inc.h"


void
axk_matmul_avx2(const struct axk_matmul *a, uint32_t row0, uint32_t row1)
{
    matmul_panels(a, row0, row1);
}
