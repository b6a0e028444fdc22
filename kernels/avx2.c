/*
 * The tables of the avx2 and avxvnni instruction sets.  The shared vector files
 * become avx2 code here: this object is compiled for that instruction set and
 * entered only through the table, which select.c hands out on CPUs that
 * have it.  The matmuls are written for it alone, in matmul_avx2.c.
 */

#include "kernels/axk.h"
#include "kernels/internal.h"
#include "kernels/codes.h"
#include "kernels/kv_q8.h"
#include "kernels/simd_avx2.h"

#include "kernels/vec_ops.inc.h"
#include "kernels/vec_attention.inc.h"


const struct axk_ops axk_ops_avx2 = {
    .isa = "avx2",
    .quantize = vec_quantize,
    .matmul = axk_matmul_avx2,
    .rmsnorm = vec_rmsnorm,
    .rope = vec_rope,
    .silu_mul = vec_silu_mul,
    .gelu_mul = vec_gelu_mul,
    .add = vec_add,
    .scale = vec_scale,
    .softcap = vec_softcap,
    .kv_write = vec_kv_write,
    .attention = vec_attention,
    .attention_partial = vec_attention_partial,
    .attention_merge = vec_attention_merge,
    .argmax = vec_argmax,
    .logsumexp = vec_logsumexp,
    .exp_sub = vec_exp_sub,
};

/* The same but for the matmuls. */
const struct axk_ops axk_ops_avxvnni = {
    .isa = "avxvnni",
    .quantize = vec_quantize,
    .matmul = axk_matmul_avxvnni,
    .rmsnorm = vec_rmsnorm,
    .rope = vec_rope,
    .silu_mul = vec_silu_mul,
    .gelu_mul = vec_gelu_mul,
    .add = vec_add,
    .scale = vec_scale,
    .softcap = vec_softcap,
    .kv_write = vec_kv_write,
    .attention = vec_attention,
    .attention_partial = vec_attention_partial,
    .attention_merge = vec_attention_merge,
    .argmax = vec_argmax,
    .logsumexp = vec_logsumexp,
    .exp_sub = vec_exp_sub,
};
