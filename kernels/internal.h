/*
 * What the kernel files share and nobody else sees: the byte layout of packed
 * weights, activation tiles and KV blocks, the constants of the common
 * definitions, and small exact helpers.
 *
 * Packed weights.  A panel is 32 rows over the whole k, blocks of k in
 * ascending order, so that a kernel reads every 64-byte line once and
 * addresses only rise (any other order measured slower, and so did software
 * prefetch but for the panel that comes next).  Inside a block the lanes of a
 * vector are rows:
 *   k-step, 4 bit : 128 bytes, 4 per row; byte c of a row holds in its low
 *                   nibble k = 8 i + c, in its high nibble k = 8 i + 4 + c
 *   k-step, 8 bit : 128 bytes, 4 per row: k = 4 i + c, stored as q + 128
 *   F32, F16, BF16: 32 values for each k
 * codes.h says how the blocks of each quantized format are put together.
 *
 * Activations, kind Q8: per tile of T tokens (4, or what is left in the last
 * tile) and per block of 32 k one record of 12 T words:
 *   [8][T] four int8 | [T] f32 d | [T] i32 -8 sum | [T] i32 -128 sum | [T] f32
 * s d and s are the f16 values of q8_1.  The products of -8 and -128 are the
 * start values of the integer sums that undo the offset of the stored
 * weights.  Kind Q8_K, per block of 256 k 93 T words: [64][T] four int8 |
 * [16][T] i32 - sum of 16 | [8][T], [4][T] the sums of 16 and of 32 as pairs
 * of i16 | [T] f32 d.  Kind F32: [k][T] f32.
 *
 * KV block of one layer, f16 or bf16: per KV head K as two runs of
 * [head_dim][16 keys] (lanes are keys), then V as [32 keys][head_dim padded to
 * 16] (lanes are elements).  A token's key is spread over as many cache lines
 * as runs of an element fill: in one run of 32 it was twice as many, all of
 * which its write must fetch.  kv_q8.h has the layout of q8_0.
 */

#ifndef AXK_INTERNAL_H
#define AXK_INTERNAL_H

#include <string.h>

#include "kernels/axk.h"

#define INLINE static inline __attribute__((always_inline))

#define AXK_QK 32 /* weights in a block of the simple formats */

/* Words of an activation record, per token of its tile. */
#define AXK_ACT_WORDS  12
#define AXK_ACT_D      8  /* row of T words with d */
#define AXK_ACT_SUM8   9  /* -8 sum */
#define AXK_ACT_SUM128 10 /* -128 sum */
#define AXK_ACT_S      11 /* d * sum, rounded to f16 */

/* The same for blocks of 256. */
#define AXK_ACT_K_WORDS   93
#define AXK_ACT_K_SUMS    64 /* 16 rows: - sum of 16 activations, i32 */
#define AXK_ACT_K_PAIRS16 80 /* 8 rows: sums of 16, pairs of i16 */
#define AXK_ACT_K_PAIRS32 88 /* 4 rows: sums of 32, pairs of i16 */
#define AXK_ACT_K_D       92 /* f32 */

/* Adding and taking it away rounds to the nearest integer, ties to even. */
#define AXK_ROUND_MAGIC      0x1.8p23f
#define AXK_ROUND_MAGIC_BITS 0x4b400000

/* exp: x = n ln2 + r, n by adding and taking away 1.5 * 2^23. */
#define AXK_EXP_MAGIC 0x1.8p23f
#define AXK_LOG2E     0x1.715476p+0f
#define AXK_LN2_HI    0x1.62e4p-1f
#define AXK_LN2_LO    0x1.7f7d1cp-20f
#define AXK_EXP_LOW   -87.33654f /* below: 0 */
#define AXK_EXP_HIGH  88.37626f  /* above: infinity */

#define AXK_EXP_C7 (1.0f / 5040.0f)
#define AXK_EXP_C6 (1.0f / 720.0f)
#define AXK_EXP_C5 (1.0f / 120.0f)
#define AXK_EXP_C4 (1.0f / 24.0f)
#define AXK_EXP_C3 (1.0f / 6.0f)

#define AXK_GELU_A 0.044715f
#define AXK_GELU_B -1.5957691216057308f /* -2 sqrt(2 / pi) */

/* The largest float below one half: x + copysign(this, x), truncated, is x
 * rounded to the nearest integer with halves away from zero. */
#define AXK_BELOW_HALF 0x1.fffffep-2f

/* A block whose d is below this is zero in f16 whatever its values are. */
#define AXK_D_MIN 0x1p-100f

#define AXK_LSE_CHUNK 1024

/* 32 f16 scales and 32 x 32 codes: 32 elements of 32 tokens. */
#define AXK_KV_Q8_GROUP_BYTES 1088

/* Softmax terms as integers: the largest of a tile becomes this. */
#define AXK_KV_Q8_TERM_MAX 32767.0f

extern const struct axk_ops axk_ops_scalar;
extern const struct axk_ops axk_ops_scalar_bf16;
extern const struct axk_ops axk_ops_scalar_bf16_tile;
#if defined(__x86_64__)
extern const struct axk_ops axk_ops_avx2;
extern const struct axk_ops axk_ops_avxvnni;
extern const struct axk_ops axk_ops_avx512;
extern const struct axk_ops axk_ops_avx512_bf16;
extern const struct axk_ops axk_ops_amx;
extern const struct axk_ops axk_ops_amx_bf16;
#elif defined(__aarch64__)
extern const struct axk_ops axk_ops_neon;
extern const struct axk_ops axk_ops_neon_i8mm;
#endif

/* One row of f32 activations into its place in a tile of n tokens. */
void axk_order_f32(const float *row, uint32_t k, uint32_t n, uint32_t *dst);

void axk_matmul_scalar(const struct axk_matmul *a, uint32_t row0,
                       uint32_t row1);
void axk_matmul_scalar_bf16(const struct axk_matmul *a, uint32_t row0,
                            uint32_t row1);
void axk_matmul_scalar_bf16_tile(const struct axk_matmul *a, uint32_t row0,
                                 uint32_t row1);
void axk_attention_scalar(const struct axk_attention *a, uint32_t kv_head0,
                          uint32_t kv_head1, uint32_t q0, uint32_t q1);
void axk_attention_partial_scalar(const struct axk_attention *a,
                                  uint32_t kv_head, uint32_t q, uint32_t tile0,
                                  uint32_t tile1, float *partials);
void axk_attention_merge_scalar(const struct axk_attention *a, uint32_t kv_head,
                                uint32_t q, const float *partials);
#if defined(__x86_64__)
void axk_matmul_avx2(const struct axk_matmul *a, uint32_t row0, uint32_t row1);
void axk_matmul_avxvnni(const struct axk_matmul *a, uint32_t row0,
                        uint32_t row1);
void axk_matmul_avx512(const struct axk_matmul *a, uint32_t row0,
                       uint32_t row1);
void axk_matmul_avx512_bf16(const struct axk_matmul *a, uint32_t row0,
                            uint32_t row1);
void axk_matmul_amx(const struct axk_matmul *a, uint32_t row0, uint32_t row1);
void axk_matmul_amx_bf16(const struct axk_matmul *a, uint32_t row0,
                         uint32_t row1);
#elif defined(__aarch64__)
void axk_matmul_neon(const struct axk_matmul *a, uint32_t row0, uint32_t row1);
void axk_matmul_neon_i8mm(const struct axk_matmul *a, uint32_t row0,
                          uint32_t row1);
#endif


static inline uint32_t
bits_of(float f)
{
    uint32_t u;

    memcpy(&u, &f, sizeof(u));
    return u;
}


static inline float
float_of(uint32_t u)
{
    float f;

    memcpy(&f, &u, sizeof(f));
    return f;
}


/*
 * a * b + c with one rounding.  The product is exact in double; the sum is
 * made odd when it was inexact, so that rounding it to float is the only
 * rounding that shows.
 */
static inline float
fma_exact(float a, float b, float c)
{
    double p = (double)a * b;
    double s = p + c;
    double t = s - p;
    double err = (p - (s - t)) + ((double)c - t);

    if (err > 0 || err < 0) {
        uint64_t u;

        memcpy(&u, &s, sizeof(u));
        if ((u & 1) == 0) {
            u = (err > 0) == (s > 0) ? u + 1 : u - 1;
            memcpy(&s, &u, sizeof(s));
        }
    }
    return (float)s;
}


static inline uint32_t
round_up_16(uint32_t n)
{
    return (n + 15) & ~15u;
}


/* Tokens in a tile of a buffer for n_tokens. */
static inline uint32_t
tile_tokens(uint32_t n_tokens, uint32_t tile)
{
    uint32_t left = n_tokens - tile * AXK_TILE;

    return left < AXK_TILE ? left : AXK_TILE;
}


/* Floats of one tile of an activation buffer whose tile is full. */
static inline size_t
act_tile_words(enum axk_act kind, uint32_t k)
{
    if (kind == AXK_ACT_Q8) {
        return (size_t)(k / AXK_QK) * AXK_ACT_WORDS * AXK_TILE;
    }
    if (kind == AXK_ACT_Q8_K) {
        return (size_t)(k / 256) * AXK_ACT_K_WORDS * AXK_TILE;
    }
    return (size_t)k * AXK_TILE;
}


/* The part of head h in elements [first, first + n) of all heads: elements
 * [lo, hi) of the head, the first of them at `from`. */
struct head_part {
    uint32_t lo;
    uint32_t hi;
    uint32_t from;
};


static inline struct head_part
head_part_of(uint32_t h, uint32_t head_dim, uint32_t first, uint32_t n)
{
    uint32_t begin = h * head_dim;
    uint32_t end = first + n - begin;
    uint32_t lo = first > begin ? first - begin : 0;

    return (struct head_part){
        .lo = lo,
        .hi = end < head_dim ? end : head_dim,
        .from = begin + lo - first,
    };
}


/* Groups of 32 elements in a head, the last one padded. */
static inline uint32_t
kv_groups(uint32_t head_dim)
{
    return (head_dim + AXK_QK - 1) / AXK_QK;
}


/* Keys of halves that lie side by side: a vector. */
#define KV_RUN 16u


/* Bytes of one KV head in a block: K then V. */
static inline size_t
kv_head_bytes(enum axk_kv_type type, uint32_t head_dim)
{
    if (type == AXK_KV_Q8_0) {
        return (size_t)2 * kv_groups(head_dim) * AXK_KV_Q8_GROUP_BYTES;
    }
    return (size_t)AXK_KV_TOKENS * 2 * (head_dim + round_up_16(head_dim));
}


/* Where a token's key begins in a head of halves: its elements follow each
 * other KV_RUN halves apart. */
static inline size_t
kv_key_halves(uint32_t slot, uint32_t head_dim)
{
    return (size_t)(slot / KV_RUN) * KV_RUN * head_dim + slot % KV_RUN;
}


/* First byte of KV head kv_head in block i of a's sequence. */
static inline const void *
kv_head_of(const struct axk_attention *a, uint32_t i, uint32_t kv_head)
{
    const char *block = (const char *)a->kv_base +
                        (size_t)a->block_table[i] * a->kv_block_stride;

    return block + kv_head * kv_head_bytes(a->kv_type, a->head_dim);
}


/* First position that the token at pos sees. */
static inline uint32_t
first_visible(const struct axk_attention *a, uint32_t pos)
{
    return a->window != 0 && pos >= a->window ? pos - a->window + 1 : 0;
}

#endif
