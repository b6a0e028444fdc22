/*
 * Matmuls for AArch64 with dotprod and i8mm (smmla).
 */

#define AXK_NEON_I8MM 1
#include "kernels/matmul_neon.inc.h"


void
axk_matmul_neon_i8mm(const struct axk_matmul *a, uint32_t row0, uint32_t row1)
{
    matmul_neon(a, row0, row1);
}
