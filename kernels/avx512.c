/*
 * The tables of avx512 and, with other matmuls, avx512-bf16, amx and amx-bf16.
 * The shared vector files become avx512 code here: this object is compiled for
 * that instruction set and entered only through the table, which select.c hands
 * out on CPUs that have it.  The matmuls are written for it alone, in
 * matmul_avx512.c.
 */

#include "kernels/axk.h"
#include "kernels/internal.h"
#include "kernels/codes.h"
#include "kernels/kv_write.h"
#include "kernels/simd_avx512.h"

#include "kernels/vec_ops.inc.h"
#include "kernels/vec_attention.inc.h"


const struct axk_ops axk_ops_avx512 = {
    .isa = "avx512",
    .matmul = axk_matmul_avx512,
    VEC_OPS,
};


const struct axk_ops axk_ops_avx512_bf16 = {
    .isa = "avx512-bf16",
    .numerics = "bf16-dot",
    .matmul = axk_matmul_avx512_bf16,
    VEC_OPS,
};


const struct axk_ops axk_ops_amx = {
    .isa = "amx",
    .matmul = axk_matmul_amx,
    VEC_OPS,
};


const struct axk_ops axk_ops_amx_bf16 = {
    .isa = "amx-bf16",
    .numerics = "bf16-tile",
    .matmul = axk_matmul_amx_bf16,
    VEC_OPS,
};
