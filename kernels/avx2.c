/*
 * The tables of the avx2 and avxvnni instruction sets.  The shared vector files
 * become avx2 code here: this object is compiled for that instruction set and
 * entered only through the table, which select.c hands out on CPUs that
 * have it.  The matmuls are in matmul_avx2.c and matmul_avxvnni.c.
 */

#include "kernels/axk.h"
#include "kernels/internal.h"
#include "kernels/codes.h"
#include "kernels/kv_write.h"
#include "kernels/simd_avx2.h"

#include "kernels/vec_ops.inc.h"
#include "kernels/vec_attention.inc.h"


const struct axk_ops axk_ops_avx2 = {
    .isa = "avx2",
    .matmul = axk_matmul_avx2,
    VEC_OPS,
};

const struct axk_ops axk_ops_avxvnni = {
    .isa = "avxvnni",
    .matmul = axk_matmul_avxvnni,
    VEC_OPS,
};
