/*
 * Matmuls for AVX2 with AVX-VNNI (256 bits, without AVX-512): the shared file
 * with the 32-bit dots of vpdpbusd.
 */

#define AXK_YMM_VNNI 1
#include "kernels/matmul_ymm.inc.h"


void
axk_matmul_avxvnni(const struct axk_matmul *a, uint32_t row0, uint32_t row1)
{
    matmul_panels(a, row0, row1);
}
