/*
 * The avxvnni matmuls once more, in AVX-512's encoding of the same
 * instructions (rules.mk has the flags), so that CPUs with one but not the
 * other run them under checkkernels.
 */

#define axk_matmul_avxvnni axk_matmul_avxvnni_evex
#include "kernels/matmul_avxvnni.c"
