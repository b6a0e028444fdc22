/*
 * Attention over sixteen lanes, shared by the vector instruction sets like
 * vec_ops.inc.h.  scalar_attention.c has the definition.
 *
 * Work is a chunk of rows: consecutive queries times the query heads of one
 * KV head, query-major, so that each K and V line is read once for all of
 * them.  For every tile of 64 keys, ascending, and every block of up to 6
 * rows:  scores = rows x K (lanes are keys), softmax terms, partial = terms
 * x V (lanes are elements), merge into the rows' running result.  Both
 * products are one micro-kernel: c[row][column] += sum over k of a[row][k] *
 * b[k][column] with b in f16, every c its own chain of fma, so the tiling
 * shows in no bit.
 *
 * Queries of one block of rows see different keys only at the causal edge
 * and the window's edge.  There the keys that all rows see go together, and
 * the few others row by row, in ascending order.
 */

#define ROWS_MAX  24 /* rows in a chunk */
#define BLOCK_MAX 6  /* rows in one micro-kernel */

/* Fixed row strides, so that addresses are immediate; 16 more than a power of
 * two, so that rows do not share cache sets. */
#define ROW_FLOATS (AXK_HEAD_DIM_MAX + 16)

struct chunk {
    const struct axk_attention *a;
    uint32_t kv_head;
    uint32_t n_rows;
    uint32_t pos[ROWS_MAX];
    float *out[ROWS_MAX];
    float m[ROWS_MAX];
    float l[ROWS_MAX];
    union {
        float f32[ROWS_MAX][ROW_FLOATS];
        uint32_t q8[AXK_HEAD_DIM_MAX / AXK_QK * AXK_ACT_WORDS * ROWS_MAX];
    } q __attribute__((aligned(64))); /* q8: records, ROWS_MAX to a word */
    float o[ROWS_MAX][ROW_FLOATS] __attribute__((aligned(64)));
};

/* What one tile gives for a block of rows. */
struct tile {
    float m[16];
    float l[16];
    float p[BLOCK_MAX][AXK_ATTN_KEYS] __attribute__((aligned(64)));
    float o[BLOCK_MAX][ROW_FLOATS] __attribute__((aligned(64)));
};


/* c[r][0 .. 16 n_vectors) = sum over k < n of a[r][k] * b[v][k * b_stride], or
 * += where add says so; ahead: by how many bytes to fetch ahead of each pair of
 * b. */
INLINE void
multiply(const uint32_t rows, const uint32_t n_vectors, const float *a,
         const size_t a_stride, const uint16_t *const *b, size_t b_stride,
         uint32_t n, float *c, const size_t c_stride, const ptrdiff_t *ahead,
         const bool add)
{
    v16 acc[BLOCK_MAX][V16_BATCH];
    const uint16_t *p[V16_BATCH];

    for (uint32_t v = 0; v < n_vectors; v++) {
        p[v] = b[v];
        for (uint32_t r = 0; r < rows; r++) {
            acc[r][v] = add ? v16_load(c + r * c_stride + 16 * v) : v16_set1(0);
        }
    }
    for (uint32_t k = 0; k < n; k++) {
        v16 column[V16_BATCH];

        for (uint32_t v = 0; v < n_vectors; v++) {
            column[v] = v16_load_f16(p[v]);
            if (v % 2 == 0) {
                __builtin_prefetch((const char *)p[v] + ahead[v / 2], 0, 2);
            }
            p[v] += b_stride;
        }
        for (uint32_t r = 0; r < rows; r++) {
            v16 x = v16_set1(a[r * a_stride + k]);

            for (uint32_t v = 0; v < n_vectors; v++) {
                acc[r][v] = v16_fma(x, column[v], acc[r][v]);
            }
        }
    }
    for (uint32_t v = 0; v < n_vectors; v++) {
        for (uint32_t r = 0; r < rows; r++) {
            v16_store(c + r * c_stride + 16 * v, acc[r][v]);
        }
    }
}


/* Scores: a is a block of queries, c of terms. */
static void
multiply_keys(uint32_t rows, const float *a, const uint16_t *const *b,
              uint32_t n, float *c, const ptrdiff_t *ahead)
{
    const size_t sa = ROW_FLOATS;
    const size_t sc = AXK_ATTN_KEYS;
    const size_t sb = AXK_KV_TOKENS;

    switch (rows) {
    case 1:
        multiply(1, V16_BATCH, a, sa, b, sb, n, c, sc, ahead, false);
        break;
    case 2:
        multiply(2, V16_BATCH, a, sa, b, sb, n, c, sc, ahead, false);
        break;
    case 3:
        multiply(3, V16_BATCH, a, sa, b, sb, n, c, sc, ahead, false);
        break;
    case 4:
        multiply(4, V16_BATCH, a, sa, b, sb, n, c, sc, ahead, false);
        break;
    case 5:
        multiply(5, V16_BATCH, a, sa, b, sb, n, c, sc, ahead, false);
        break;
    default:
        multiply(6, V16_BATCH, a, sa, b, sb, n, c, sc, ahead, false);
        break;
    }
}


/* Weighted values: a is a block of terms, c of partial results. */
INLINE void
multiply_values_of(const uint32_t n_vectors, uint32_t rows, const float *a,
                   const uint16_t *values, size_t sb, uint32_t n, float *c,
                   const ptrdiff_t *ahead)
{
    const size_t sa = AXK_ATTN_KEYS;
    const size_t sc = ROW_FLOATS;
    const uint16_t *b[V16_BATCH];

    for (uint32_t v = 0; v < n_vectors; v++) {
        b[v] = values + 16 * v;
    }
    switch (rows) {
    case 1:
        multiply(1, n_vectors, a, sa, b, sb, n, c, sc, ahead, true);
        break;
    case 2:
        multiply(2, n_vectors, a, sa, b, sb, n, c, sc, ahead, true);
        break;
    case 3:
        multiply(3, n_vectors, a, sa, b, sb, n, c, sc, ahead, true);
        break;
    case 4:
        multiply(4, n_vectors, a, sa, b, sb, n, c, sc, ahead, true);
        break;
    case 5:
        multiply(5, n_vectors, a, sa, b, sb, n, c, sc, ahead, true);
        break;
    default:
        multiply(6, n_vectors, a, sa, b, sb, n, c, sc, ahead, true);
        break;
    }
}


static void
multiply_values(uint32_t rows, const float *a, const uint16_t *values,
                uint32_t padded, uint32_t n, float *c, ptrdiff_t next)
{
    const ptrdiff_t ahead[2] = {next, next};
    uint32_t i = 0;

    for (; i + 16 * V16_BATCH <= padded; i += 16 * V16_BATCH) {
        multiply_values_of(V16_BATCH, rows, a, values + i, padded, n, c + i,
                           ahead);
    }
    for (; i < padded; i += 16) {
        multiply_values_of(1, rows, a, values + i, padded, n, c + i, ahead);
    }
}


/* The slots [*lo, *hi) of the tile that starts at base that pos sees. */
INLINE void
visible(const struct axk_attention *a, uint32_t pos, uint32_t base,
        uint32_t *lo, uint32_t *hi)
{
    uint32_t first = first_visible(a, pos);

    *lo = first > base ? first - base : 0;
    *hi = pos - base < AXK_ATTN_KEYS ? pos - base + 1 : AXK_ATTN_KEYS;
}


/* Keys outside [lo, hi) of a row of scores get minus infinity. */
static void
mask_scores(float *p, uint32_t lo, uint32_t hi)
{
    for (uint32_t j = 0; j < lo; j++) {
        p[j] = -float_of(0x7f800000);
    }
    for (uint32_t j = hi; j < AXK_ATTN_KEYS; j++) {
        p[j] = -float_of(0x7f800000);
    }
}


/*
 * Rows of scores to terms: scale, cap, mask, maximum, exp, sum.  Step by step
 * over all rows, not row by row: each step is a chain that waits for itself,
 * and so those of several rows run at once.
 */
static void
softmax_terms(const struct axk_attention *a, const uint32_t *lo,
              const uint32_t *hi, uint32_t rows, struct tile *t)
{
    for (uint32_t r = 0; r < rows; r++) {
        float *p = t->p[r];

        for (uint32_t v = 0; v < 64; v += 16) {
            v16 s = v16_mul(v16_load(p + v), v16_set1(a->scale));

            v16_store(p + v,
                      a->softcap != 0 ? vec_softcap_of(s, a->softcap) : s);
        }
        mask_scores(p, lo[r], hi[r]);
    }
    for (uint32_t r = 0; r < rows; r++) {
        const float *p = t->p[r];

        t->m[r] =
            v16_largest(v16_max(v16_max(v16_load(p), v16_load(p + 16)),
                                v16_max(v16_load(p + 32), v16_load(p + 48))));
    }
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t v = 0; v < 64; v += 16) {
            v16 s = v16_sub(v16_load(t->p[r] + v), v16_set1(t->m[r]));

            v16_store(t->p[r] + v, vec_exp(s));
        }
    }
    for (uint32_t r = 0; r < rows; r++) {
        const float *p = t->p[r];

        t->l[r] =
            v16_fold(v16_add(v16_add(v16_load(p), v16_load(p + 16)),
                             v16_add(v16_load(p + 32), v16_load(p + 48))));
    }
}


/*
 * Bytes from block i to the same place in the next tile, which the products
 * fetch into L2 as they go (a decode from memory took twice as long without;
 * fetching into L1 instead gained nothing: its miss buffers are few).
 */
INLINE ptrdiff_t
distance(const struct chunk *c, uint32_t i)
{
    uint32_t last = c->pos[c->n_rows - 1] / AXK_KV_TOKENS;
    uint32_t next = i + 2 <= last ? i + 2 : i;

    return (ptrdiff_t)c->a->block_table[next] *
               (ptrdiff_t)c->a->kv_block_stride -
           (ptrdiff_t)c->a->block_table[i] * (ptrdiff_t)c->a->kv_block_stride;
}


#include "kernels/vec_attention_q8.inc.h"


/* Keys [lo, hi) of the tile for rows [r, r + rows) of t. */
static void
add_values_f16(const struct chunk *c, uint32_t base, uint32_t lo, uint32_t hi,
               uint32_t r, uint32_t rows, struct tile *t)
{
    const struct axk_attention *a = c->a;
    uint32_t padded = round_up_16(a->head_dim);

    while (lo < hi) {
        uint32_t in_block = lo % AXK_KV_TOKENS;
        uint32_t n = AXK_KV_TOKENS - in_block;
        const uint16_t *values =
            (const uint16_t *)kv_head_of(a, (base + lo) / AXK_KV_TOKENS,
                                         c->kv_head) +
            (size_t)a->head_dim * AXK_KV_TOKENS + (size_t)in_block * padded;

        if (n > hi - lo) {
            n = hi - lo;
        }
        multiply_values(rows, &t->p[r][lo], values, padded, n, t->o[r],
                        distance(c, (base + lo) / AXK_KV_TOKENS));
        lo += n;
    }
}


static void
score_keys_f16(const struct chunk *c, const uint32_t *i, uint32_t r0,
               uint32_t rows, struct tile *t)
{
    const struct axk_attention *a = c->a;
    const uint16_t *b[4];
    ptrdiff_t ahead[2];

    for (int v = 0; v < 4; v++) {
        const uint16_t *keys = kv_head_of(a, i[v / 2], c->kv_head);

        b[v] = keys + v % 2 * 16;
        ahead[v / 2] = distance(c, i[v / 2]);
    }
    for (int v = 0; v < 4; v += V16_BATCH) {
        multiply_keys(rows, c->q.f32[r0], b + v, a->head_dim, t->p[0] + 16 * v,
                      ahead + v / 2);
    }
}


/* o of all rows of t: the keys that all rows see together, others row by row,
 * each row's ascending. */
static void
weigh_rows_f16(const struct chunk *c, uint32_t base, const uint32_t *lo,
               const uint32_t *hi, uint32_t rows, struct tile *t)
{
    /* Rows are in the order of their positions. */
    uint32_t all_lo = lo[rows - 1];
    uint32_t all_hi = hi[0];

    for (uint32_t r = 0; r < rows; r++) {
        memset(t->o[r], 0, round_up_16(c->a->head_dim) * sizeof(float));
    }
    if (all_lo >= all_hi) {
        for (uint32_t r = 0; r < rows; r++) {
            add_values_f16(c, base, lo[r], hi[r], r, 1, t);
        }
        return;
    }
    for (uint32_t r = 0; r < rows; r++) {
        add_values_f16(c, base, lo[r], all_lo, r, 1, t);
    }
    add_values_f16(c, base, all_lo, all_hi, 0, rows, t);
    for (uint32_t r = 0; r < rows; r++) {
        add_values_f16(c, base, all_hi, hi[r], r, 1, t);
    }
}


/* The partial result of rows [r0, r0 + rows), all of which see the tile. */
static void
compute_tile(const struct chunk *c, uint32_t tile, uint32_t r0, uint32_t rows,
             struct tile *t)
{
    uint32_t base = tile * AXK_ATTN_KEYS;
    uint32_t lo[BLOCK_MAX] = {0};
    uint32_t hi[BLOCK_MAX] = {0};

    for (uint32_t r = 0; r < rows; r++) {
        visible(c->a, c->pos[r0 + r], base, &lo[r], &hi[r]);
    }
    /* Rows are in the order of their positions.  A block that no row sees may
     * not exist: its scores are masked, so any readable keys stand in. */
    uint32_t first = lo[0];
    uint32_t end = hi[rows - 1];
    uint32_t i = base / AXK_KV_TOKENS;
    uint32_t blocks[2] = {first < AXK_KV_TOKENS ? i : i + 1,
                          end > AXK_KV_TOKENS ? i + 1 : i};
    bool q8 = c->a->kv_type == AXK_KV_Q8_0;

    if (q8) {
        score_keys_q8(c, blocks, r0, rows, t);
    } else {
        score_keys_f16(c, blocks, r0, rows, t);
    }
    softmax_terms(c->a, lo, hi, rows, t);
    if (q8) {
        add_values_q8(c, blocks, first, end, rows, t);
    } else {
        weigh_rows_f16(c, base, lo, hi, rows, t);
    }
}


static void
merge_row(float *o, const float *partial, float old_part, float new_part,
          uint32_t padded)
{
    v16 x = v16_set1(old_part);
    v16 y = v16_set1(new_part);

    for (uint32_t i = 0; i < padded; i += 16) {
        v16 scaled = v16_mul(v16_load(o + i), x);
        v16_store(o + i, v16_fma(v16_load(partial + i), y, scaled));
    }
}


/* Up to 16 rows: m, l of the tile into those of the chunk, and the factors
 * for old and new o. */
static void
merge_sums(float *m, float *l, const float *tile_m, const float *tile_l,
           uint32_t rows, float *old_part, float *new_part)
{
    v16 before = v16_load_n(m, rows);
    v16 now = v16_load_n(tile_m, rows);
    v16 top = v16_max(now, before);
    v16 x = vec_exp(v16_sub(before, top));
    v16 y = vec_exp(v16_sub(now, top));
    v16 sum = v16_mul(v16_load_n(l, rows), x);

    v16_store_n(m, top, rows);
    v16_store_n(l, v16_fma(v16_load_n(tile_l, rows), y, sum), rows);
    v16_store(old_part, x);
    v16_store(new_part, y);
}


static void
merge_tile(struct chunk *c, uint32_t r0, uint32_t rows, const struct tile *t)
{
    float old_part[16];
    float new_part[16];

    merge_sums(c->m + r0, c->l + r0, t->m, t->l, rows, old_part, new_part);
    for (uint32_t r = 0; r < rows; r++) {
        merge_row(c->o[r0 + r], t->o[r], old_part[r], new_part[r],
                  round_up_16(c->a->head_dim));
    }
}


static void
divide_row(float *out, const float *o, float l, uint32_t n)
{
    for (uint32_t i = 0; i < n; i += 16) {
        uint32_t left = lanes_left(n, i);
        store_some(out + i, v16_div(load_some(o + i, left), v16_set1(l)), left);
    }
}


/* Queries [q, q + n_q) with heads [g, g + n_g) of the KV head's group. */
static void
start_chunk(struct chunk *c, uint32_t q, uint32_t n_q, uint32_t g, uint32_t n_g)
{
    const struct axk_attention *a = c->a;
    uint32_t group = a->n_head / a->n_head_kv;

    c->n_rows = n_q * n_g;
    for (uint32_t r = 0; r < c->n_rows; r++) {
        uint32_t token = q + r / n_g;
        size_t column =
            (size_t)(c->kv_head * group + g + r % n_g) * a->head_dim;

        c->pos[r] = a->pos0 + token;
        c->out[r] = a->out + token * a->out_stride + column;
        c->m[r] = -float_of(0x7f800000);
        c->l[r] = 0;
        const float *row = a->q + token * a->q_stride + column;

        if (a->kv_type == AXK_KV_Q8_0) {
            float padded[AXK_HEAD_DIM_MAX];
            uint32_t records[AXK_HEAD_DIM_MAX / AXK_QK * AXK_ACT_WORDS];
            uint32_t n = kv_groups(a->head_dim);

            vec_quantize_blocks(whole_groups(row, a->head_dim, padded), n,
                                records);
            for (uint32_t i = 0; i < n * AXK_ACT_WORDS; i++) {
                c->q.q8[i * ROWS_MAX + r] = records[i];
            }
        } else {
            memcpy(c->q.f32[r], row, a->head_dim * sizeof(float));
        }
        memset(c->o[r], 0, round_up_16(a->head_dim) * sizeof(float));
    }
}


/* Rows of the chunk that see the tile: they are neighbours. */
static void
rows_of_tile(const struct chunk *c, uint32_t tile, uint32_t *r0, uint32_t *r1)
{
    uint32_t base = tile * AXK_ATTN_KEYS;
    uint32_t last = base + AXK_ATTN_KEYS - 1;

    *r0 = 0;
    *r1 = c->n_rows;
    while (*r0 < *r1 && c->pos[*r0] < base) {
        ++*r0;
    }
    while (*r1 > *r0 && first_visible(c->a, c->pos[*r1 - 1]) > last) {
        --*r1;
    }
}


static void
run_chunk(struct chunk *c)
{
    uint32_t first = first_visible(c->a, c->pos[0]) / AXK_ATTN_KEYS;
    uint32_t end = c->pos[c->n_rows - 1] / AXK_ATTN_KEYS + 1;
    struct tile t;

    for (uint32_t tile = first; tile < end; tile++) {
        uint32_t r0;
        uint32_t r1;

        rows_of_tile(c, tile, &r0, &r1);
        uint32_t n_blocks = (r1 - r0 + BLOCK_MAX - 1) / BLOCK_MAX;

        for (; n_blocks > 0; n_blocks--) { /* equal blocks */
            uint32_t rows = (r1 - r0 + n_blocks - 1) / n_blocks;

            compute_tile(c, tile, r0, rows, &t);
            merge_tile(c, r0, rows, &t);
            r0 += rows;
        }
    }
    for (uint32_t r = 0; r < c->n_rows; r++) {
        divide_row(c->out[r], c->o[r], c->l[r], c->a->head_dim);
    }
}


static void
vec_attention(const struct axk_attention *a, uint32_t kv_head0,
              uint32_t kv_head1, uint32_t q0, uint32_t q1)
{
    uint32_t group = a->n_head / a->n_head_kv;
    uint32_t step_g = group < ROWS_MAX ? group : ROWS_MAX;
    uint32_t step_q = ROWS_MAX / step_g;
    struct chunk c;

    c.a = a;
    for (c.kv_head = kv_head0; c.kv_head < kv_head1; c.kv_head++) {
        for (uint32_t g = 0; g < group; g += step_g) {
            uint32_t n_g = group - g < step_g ? group - g : step_g;

            for (uint32_t q = q0; q < q1; q += step_q) {
                uint32_t n_q = q1 - q < step_q ? q1 - q : step_q;

                start_chunk(&c, q, n_q, g, n_g);
                run_chunk(&c);
            }
        }
    }
}


static void
vec_attention_partial(const struct axk_attention *a, uint32_t kv_head,
                      uint32_t q, uint32_t tile0, uint32_t tile1,
                      float *partials)
{
    uint32_t group = a->n_head / a->n_head_kv;
    size_t record_floats = axk_attention_partial_floats(a->head_dim);
    uint32_t n_tiles = (a->pos0 + q) / AXK_ATTN_KEYS + 1;
    struct chunk c;
    struct tile t;

    c.a = a;
    c.kv_head = kv_head;
    for (uint32_t g = 0; g < group; g += BLOCK_MAX) {
        uint32_t n_g = group - g < BLOCK_MAX ? group - g : BLOCK_MAX;

        start_chunk(&c, q, 1, g, n_g);
        for (uint32_t i = tile0; i < tile1; i++) {
            compute_tile(&c, i, 0, n_g, &t);
            for (uint32_t r = 0; r < n_g; r++) {
                size_t head = (size_t)kv_head * group + g + r;
                float *record = partials + (head * n_tiles + i) * record_floats;

                record[0] = t.m[r];
                record[1] = t.l[r];
                memcpy(record + 16, t.o[r],
                       round_up_16(a->head_dim) * sizeof(float));
            }
        }
    }
}


static void
vec_attention_merge(const struct axk_attention *a, uint32_t kv_head, uint32_t q,
                    const float *partials)
{
    uint32_t group = a->n_head / a->n_head_kv;
    uint32_t padded = round_up_16(a->head_dim);
    size_t record_floats = axk_attention_partial_floats(a->head_dim);
    uint32_t n_tiles = (a->pos0 + q) / AXK_ATTN_KEYS + 1;
    uint32_t first;
    uint32_t end;

    axk_attention_tiles(a, q, &first, &end);
    for (uint32_t g = 0; g < group; g++) {
        size_t head = (size_t)kv_head * group + g;
        float m = -float_of(0x7f800000);
        float l = 0;
        float o[AXK_HEAD_DIM_MAX];

        memset(o, 0, padded * sizeof(float));
        for (uint32_t i = first; i < end; i++) {
            const float *record =
                partials + (head * n_tiles + i) * record_floats;
            float old_part[16];
            float new_part[16];

            merge_sums(&m, &l, record, record + 1, 1, old_part, new_part);
            merge_row(o, record + 16, old_part[0], new_part[0], padded);
        }
        divide_row(a->out + q * a->out_stride + head * a->head_dim, o, l,
                   a->head_dim);
    }
}


/* What a table has from the shared files: all but .isa and .matmul. */
#define VEC_OPS                                                                \
    .quantize = vec_quantize, .rmsnorm = vec_rmsnorm, .rope = vec_rope,        \
    .silu_mul = vec_silu_mul, .gelu_mul = vec_gelu_mul, .add = vec_add,        \
    .scale = vec_scale, .softcap = vec_softcap, .kv_write = vec_kv_write,      \
    .attention = vec_attention, .attention_partial = vec_attention_partial,    \
    .attention_merge = vec_attention_merge, .argmax = vec_argmax,              \
    .logsumexp = vec_logsumexp, .exp_sub = vec_exp_sub
