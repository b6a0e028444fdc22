/*
 * The amx matmuls once more, over tile operations in C (amx_emulated.h), so
 * that CPUs with AVX-512 but no AMX run them under checkkernels.
 */

#include "tests/kernels/amx_emulated.h"

#define axk_matmul_amx axk_matmul_amx_emulated
#include "kernels/matmul_amx.c"
