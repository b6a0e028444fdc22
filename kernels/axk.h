/*
 * axk: the compute kernels of Axion.  This header is the whole contract of
 * libaxion_kernels.a; it knows tensors and cache blocks, no model, no thread,
 * no allocator.
 *
 * One table of function pointers (struct axk_ops) per instruction set: scalar
 * (the specification), avx2 (AVX2, FMA, F16C), avxvnni (the same with
 * AVX-VNNI; only when asked for by name), avx512 (F, BW, VL, VNNI) and amx
 * (avx512 with AMX int8 for many tokens; only by name).  avx512-bf16,
 * amx-bf16, scalar-bf16 and scalar-bf16-tile compute BF16 weights in numerics
 * of their own; only by name.
 * On AArch64 neon (dotprod) and neon-i8mm have the matmuls of all formats but
 * Q2_K and Q3_K, everything else as scalar; only by name too.  axk_select()
 * picks one at start.
 *
 * Three promises hold for every function below:
 *  - Batch invariance.  An output element depends on its own row, token and
 *    position, never on how many tokens, rows or threads are in the call.
 *  - One definition.  All instruction sets return the same bits as the scalar
 *    reference (a NaN is a NaN everywhere, its payload is not defined).
 *    axk_thread_init() must have run on the calling thread.
 *  - No allocation, no lock, no global state that changes after start.  Calls
 *    on disjoint output ranges may run at the same time on any threads, which
 *    need 160 KiB of stack (attention keeps a chunk of queries there).
 *
 * Life of a weight: axk_packed_bytes -> axk_pack_rows (panels in parallel)
 * -> matmul / axk_unpack_row.  Life of activations: act_bytes -> quantize
 * (tiles in parallel) -> any number of matmuls with weights whose format has
 * the same activation kind.  "Aligned" means to AXK_ALIGN bytes.
 */

#ifndef AXK_H
#define AXK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AXK_ALIGN      64 /* packed weights, activation buffers, KV blocks */
#define AXK_PANEL_ROWS 32 /* matmul work is cut at multiples of this */
#define AXK_TILE       4  /* tokens in one activation tile */
#define AXK_KV_TOKENS  32 /* tokens in one KV block */
#define AXK_ATTN_KEYS  64 /* keys in one attention tile (two KV blocks) */
#define AXK_ATTN_ROWS  6  /* queries times heads that share a read of K or V */

#define AXK_HEAD_DIM_MAX 512
#define AXK_DIM_MAX      (1u << 24) /* bound of every rows or columns count */

/* Numbers are ggml's type numbers, so a GGUF type casts after a check. */
enum axk_format {
    AXK_F32 = 0,
    AXK_F16 = 1,
    AXK_Q4_0 = 2,
    AXK_Q4_1 = 3,
    AXK_Q5_0 = 6,
    AXK_Q5_1 = 7,
    AXK_Q8_0 = 8,
    AXK_Q2_K = 10,
    AXK_Q3_K = 11,
    AXK_Q4_K = 12,
    AXK_Q5_K = 13,
    AXK_Q6_K = 14,
    AXK_IQ2_XXS = 16, /* known by name only, as all that say "no kernels" */
    AXK_IQ2_XS = 17,  /* no kernels */
    AXK_IQ3_XXS = 18, /* no kernels */
    AXK_IQ1_S = 19,   /* no kernels */
    AXK_IQ4_NL = 20,
    AXK_IQ3_S = 21, /* no kernels */
    AXK_IQ2_S = 22, /* no kernels */
    AXK_IQ4_XS = 23,
    AXK_IQ1_M = 29, /* no kernels */
    AXK_BF16 = 30,
    AXK_TQ1_0 = 34, /* no kernels */
    AXK_TQ2_0 = 35, /* no kernels */
    AXK_MXFP4 = 39,
    AXK_FORMAT_END = 40
};

/* In which form a format's matmul reads its activations. */
enum axk_act {
    AXK_ACT_NONE = 0,
    AXK_ACT_F32, /* f32, tile ordered */
    AXK_ACT_Q8,  /* blocks of 32: ggml's q8_0 and q8_1 in one record */
    AXK_ACT_Q8_K /* blocks of 256: ggml's q8_K */
};

/*
 * How K and V lie in their blocks.  F16: as half floats; attention is f32
 * arithmetic.  BF16: the same with the upper halves of floats, rounded to
 * nearest even, denormals kept: f32's range, three bits less than f16; the
 * same bits on every CPU, with or without instructions for it.  Q8_0: int8 with
 * one f16 scale for each 32 elements of a head (the last group of a head padded
 * with zeros), quantized as ggml's q8_0; attention then multiplies integers:
 * queries are quantized the same way, softmax terms to 15 bits of the largest
 * of their tile.  17/32 of the bytes of f16.
 */
enum axk_kv_type {
    AXK_KV_F16 = 0,
    AXK_KV_Q8_0 = 1,
    AXK_KV_BF16 = 2,
    AXK_KV_TYPE_END = 3
};

/* "f16", "q8_0", "bf16"; NULL: no such type. */
const char *axk_kv_type_name(uint32_t type);

/* The type of this name; AXK_KV_TYPE_END if there is none. */
uint32_t axk_kv_type_of(const char *name);

enum axk_status {
    AXK_OK = 0,
    AXK_UNSUPPORTED_FORMAT, /* known or unknown type without kernels */
    AXK_BAD_SHAPE,          /* k no multiple of the block, zero, too large */
    AXK_NONFINITE_WEIGHT,   /* NaN or Inf in a scale or a float weight */
    AXK_BAD_ARGUMENT
};

const char *axk_status_name(enum axk_status status);

struct axk_format_traits {
    const char *name;     /* "Q4_1"; NULL: no such format */
    uint32_t block_elems; /* weights in one block of a row */
    uint32_t block_bytes; /* bytes of that block in the file */
    enum axk_act act;     /* AXK_ACT_NONE: no kernels yet */
};

/* Never NULL; an unknown number gives a traits record with name NULL. */
const struct axk_format_traits *axk_format_traits(uint32_t format);

/* Bytes of n_rows x k in the file; 0 if the shape does not fit the format. */
size_t axk_file_bytes(uint32_t format, uint32_t n_rows, uint32_t k);


/* ---- packed weights (the same layout for every instruction set) ---- */

/*
 * What files with packed weights are named by: the class says who can read
 * them, the version grows with every change of any format's packed bytes
 * (tests/kernels/test_pack_layout.c notices one).
 */
#define AXK_LAYOUT_CLASS   "panels32"
#define AXK_LAYOUT_VERSION 2u

/* Bytes of the packed matrix; *status says why when it returns 0. */
size_t axk_packed_bytes(uint32_t format, uint32_t n_rows, uint32_t k,
                        enum axk_status *status);

/*
 * Packs rows [row0, row1) of a row-major ggml matrix.  src is the whole
 * matrix and may be unaligned; dst the whole packed matrix, aligned.  row0 is
 * a multiple of AXK_PANEL_ROWS, row1 too or n_rows.  Disjoint ranges may run
 * in parallel.  On AXK_NONFINITE_WEIGHT *bad_row (may be NULL) is the row.
 */
enum axk_status axk_pack_rows(uint32_t format, const void *src, uint32_t n_rows,
                              uint32_t k, uint32_t row0, uint32_t row1,
                              void *dst, uint32_t *bad_row);

/* Dequantizes one row of a packed matrix: out[k] f32 (embedding lookup). */
void axk_unpack_row(uint32_t format, const void *packed, uint32_t n_rows,
                    uint32_t k, uint32_t row, float *out);

/*
 * Sets the calling thread's MXCSR: round to nearest even, denormals kept,
 * exceptions masked.  Every thread that calls an op runs it first.
 */
void axk_thread_init(void);


/* ---- the arguments of the larger ops ---- */

/*
 * y[m][n] (+)= bias[n] + sum over k of w[n][k] * x[m][k], for all n_tokens
 * tokens m and rows n in [row0, row1).  Order of roundings: the sum first,
 * then + bias, then + the old y.
 */
struct axk_matmul {
    uint32_t format;
    uint32_t n_rows; /* of the whole matrix */
    uint32_t k;
    uint32_t n_tokens; /* as given to quantize */
    const void *w;     /* packed, aligned */
    const void *act;   /* from quantize, with the format's kind, aligned */
    float *y;          /* [n_tokens][y_stride], column n is row n of w */
    size_t y_stride;   /* floats */
    const float *bias; /* [n_rows] or NULL */
    bool accumulate;   /* add into y: the residual stream */
};

/*
 * Attention of n_q tokens at consecutive positions pos0.. of ONE sequence,
 * causal, each over its own past and itself; K and V of all of them must have
 * been written before.  Query head h reads KV head h / (n_head / n_head_kv).
 */
struct axk_attention {
    const float *q;  /* [n_q][q_stride]: heads at h * head_dim */
    size_t q_stride; /* floats */
    float *out;      /* [n_q][out_stride]: heads at h * head_dim */
    size_t out_stride;
    uint32_t n_q;
    uint32_t pos0;
    uint32_t n_head;
    uint32_t n_head_kv;
    uint32_t head_dim; /* 1 .. AXK_HEAD_DIM_MAX */
    enum axk_kv_type kv_type;
    const void *kv_base;         /* this layer's blocks, aligned */
    size_t kv_block_stride;      /* bytes, multiple of AXK_ALIGN */
    const uint32_t *block_table; /* block i holds positions 32 i .. 32 i + 31;
                                    entries wholly behind the window are not
                                    read */
    uint32_t window;             /* 0: none; else a token sees this many
                                    positions, itself included */
    float scale;
    float softcap; /* 0: none; else cap * tanh(score / cap) */
    /* A KV head in the two blocks of the tile that the thread reads next, to
     * be fetched ahead; or NULL.  See axk_attention_ahead(). */
    const void *next[2];
};

/*
 * Elements [first, first + n) of the rows [heads][head_dim] of n_tokens: the
 * step's own part of them, so that who computes some rows of Q or K can rotate
 * them.  Both ends are heads' ends, or, unless neox, even.  See axk_rope_table
 * for the table.
 */
struct axk_rope {
    float *x; /* in place; x[0] is element first */
    size_t x_stride;
    uint32_t first;
    uint32_t n;
    uint32_t head_dim;
    uint32_t n_rot;     /* even, <= head_dim; the rest of a head is untouched */
    bool neox;          /* pairs (i, i + n_rot/2) instead of (2i, 2i + 1) */
    const float *table; /* [n_tokens][n_rot], row t is for token t */
};


/* ---- the table of one instruction set ---- */

struct axk_ops {
    /* NULL: the common definition; else the class of numerics whose results
     * these are ("bf16-dot", "bf16-tile": scalar_bf16.c), equal only within */
    const char *numerics;
    const char *isa; /* "scalar", "avx2", "avxvnni", "avx512", "amx", .. */

    /*
     * Rows [AXK_TILE * tile0, AXK_TILE * tile1) of x[n_tokens][x_stride] into
     * the activation buffer.  The layout depends on n_tokens, the values of a
     * row do not.  n_tiles = axk_act_tiles(n_tokens).
     */
    void (*quantize)(enum axk_act kind, const float *x, size_t x_stride,
                     uint32_t n_tokens, uint32_t k, uint32_t tile0,
                     uint32_t tile1, void *act);

    /* Elements [k0, k1) of all rows as Q8, multiples of 32, each into its
     * place; x[0] is element k0.  k as for quantize. */
    void (*quantize_part)(const float *x, size_t x_stride, uint32_t n_tokens,
                          uint32_t k, uint32_t k0, uint32_t k1, void *act);

    /* row0, row1: multiples of AXK_PANEL_ROWS, or n_rows for row1. */
    void (*matmul)(const struct axk_matmul *a, uint32_t row0, uint32_t row1);

    /*
     * y[r][i] = x[r][i] / sqrt(mean(x[r]^2) + eps) * weight[i]; weight NULL
     * means ones.  y may be x.
     */
    void (*rmsnorm)(float *y, size_t y_stride, const float *x, size_t x_stride,
                    uint32_t n_rows, uint32_t n, const float *weight,
                    float eps);

    /* Tokens [t0, t1). */
    void (*rope)(const struct axk_rope *a, uint32_t t0, uint32_t t1);

    /* y = silu(gate) * up and y = gelu_tanh(gate) * up; y may be either. */
    void (*silu_mul)(float *y, size_t y_stride, const float *gate,
                     size_t gate_stride, const float *up, size_t up_stride,
                     uint32_t n_rows, uint32_t n);
    void (*gelu_mul)(float *y, size_t y_stride, const float *gate,
                     size_t gate_stride, const float *up, size_t up_stride,
                     uint32_t n_rows, uint32_t n);

    void (*add)(float *y, const float *a, const float *b, size_t n);
    void (*scale)(float *y, const float *x, float s, size_t n);
    /* y = cap * tanh(x / cap): the logit soft cap. */
    void (*softcap)(float *y, const float *x, float cap, size_t n);

    /*
     * K and V of one token into slot 0..31 of a block, stored as type says:
     * elements [first, first + n) of its [n_head_kv][head_dim].  k, v [n] f32;
     * either may be NULL, and is then not written.  Both ends are heads' ends
     * or multiples of 32 within a head.
     */
    void (*kv_write)(enum axk_kv_type type, void *block, uint32_t slot,
                     uint32_t first, uint32_t n, const float *k, const float *v,
                     uint32_t head_dim);

    /* Queries [q0, q1) of KV heads [kv_head0, kv_head1). */
    void (*attention)(const struct axk_attention *a, uint32_t kv_head0,
                      uint32_t kv_head1, uint32_t q0, uint32_t q1);

    /*
     * The same for one query q, its keys split over threads: each computes
     * some tiles [tile0, tile1) of one KV head, and when all tiles of
     * axk_attention_tiles() are there one merges them.  partials holds
     * n_head * n_tiles(all from 0) records of axk_attention_partial_floats();
     * the result has the bits of attention().
     */
    void (*attention_partial)(const struct axk_attention *a, uint32_t kv_head,
                              uint32_t q, uint32_t tile0, uint32_t tile1,
                              float *partials);
    void (*attention_merge)(const struct axk_attention *a, uint32_t kv_head,
                            uint32_t q, const float *partials);

    /* Lowest index of the largest value; NaN are skipped; n > 0. */
    uint32_t (*argmax)(const float *x, uint32_t n);
    /* log(sum(exp(x))); NaN if an x is or the largest is infinite; n > 0. */
    double (*logsumexp)(const float *x, uint32_t n);
    /* y = exp(x - sub); y may be x. */
    void (*exp_sub)(float *y, const float *x, float sub, size_t n);
};

/*
 * The best table that this CPU runs, at most cap ("scalar", "avx2",
 * "avxvnni", "avx512", "amx", "neon", ..; NULL or "auto": no cap).
 * why (size bytes, may be NULL) gets one line for the log, or the reason when
 * it returns NULL (unknown cap).  Asking for amx or amx-bf16 asks Linux for the
 * permission to use tiles, for the whole process.
 */
const struct axk_ops *axk_select(const char *cap, char *why, size_t size);

/* The table of exactly this name if this CPU runs it, else NULL. */
const struct axk_ops *axk_ops_named(const char *isa);

const char *axk_isa_name(const struct axk_ops *ops);


/* ---- sizes ---- */

static inline uint32_t
axk_act_tiles(uint32_t n_tokens)
{
    return n_tokens / AXK_TILE + (n_tokens % AXK_TILE != 0);
}

/* Bytes of the activation buffer; 0 if k does not fit the kind. */
size_t axk_act_bytes(enum axk_act kind, uint32_t n_tokens, uint32_t k);

/* Bytes of one KV block of one layer, a multiple of AXK_ALIGN. */
size_t axk_kv_block_bytes(enum axk_kv_type type, uint32_t n_head_kv,
                          uint32_t head_dim);

/* What kv_write is about to write: slots [slot0, slot1) of a block, elements
 * [first, first + n) of the keys or the values. */
struct axk_kv_part {
    bool values;
    uint32_t slot0;
    uint32_t slot1;
    uint32_t first;
    uint32_t n;
};

/* Asks for the cache lines of that part, and does not wait for them.  Any
 * address does no harm. */
void axk_kv_fetch(enum axk_kv_type type, const void *block,
                  const struct axk_kv_part *part, uint32_t head_dim);

/* Tiles [first, end) that query q of a reads. */
void axk_attention_tiles(const struct axk_attention *a, uint32_t q,
                         uint32_t *first, uint32_t *end);
size_t axk_attention_partial_floats(uint32_t head_dim);

/* Sets a->next to where the call for query q of b will start to read, at the
 * tile given: calls for few queries find K and V in the cache that way. */
void axk_attention_ahead(struct axk_attention *a, const struct axk_attention *b,
                         uint32_t kv_head, uint32_t q, uint32_t tile);


/* ---- tables and scalar mathematics, the same on every machine ---- */

/*
 * inv_freq[n_rot / 2]: freq_scale * base^(-2i / n_rot) / freq_factors[i]
 * (factors may be NULL: ones; llama3's scaling comes in through them).
 */
void axk_rope_inv_freq(double base, double freq_scale,
                       const float *freq_factors, uint32_t n_rot,
                       double *inv_freq);

/*
 * Table rows for n tokens: row t is cos[n_rot / 2] then sin[n_rot / 2] of
 * positions[t] * inv_freq[i], times magnitude (1 without YaRN).  A row
 * depends only on its position; make it once a step, use it in all layers.
 */
void axk_rope_table(const double *inv_freq, uint32_t n_rot, double magnitude,
                    const uint32_t *positions, uint32_t n, float *table);

double axk_exp64(double x);
double axk_log64(double x);
double axk_pow64(double x, double y);              /* x > 0 */
void axk_sincos64(double x, double *s, double *c); /* |x| < 2^24 */
float axk_exp32(float x); /* the exp of all ops above */

float axk_f16_to_f32(uint16_t h);
uint16_t axk_f32_to_f16(float f); /* nearest even */
float axk_bf16_to_f32(uint16_t h);
uint16_t axk_f32_to_bf16(float f); /* nearest even, denormals kept */

#endif
