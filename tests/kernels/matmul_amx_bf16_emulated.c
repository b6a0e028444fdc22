/*
 * The amx-bf16 matmuls once more, over tile operations in C (amx_emulated.h),
 * so that CPUs with AVX-512 BF16 but no AMX run them under checkkernels.
 */

#include "tests/kernels/amx_emulated.h"

#define axk_matmul_amx      axk_matmul_amx_emulated
#define axk_matmul_amx_bf16 axk_matmul_amx_bf16_emulated
#include "kernels/matmul_amx_bf16.c"
