/*
 * Attention over sixteen lanes, shared by the vector instruction sets like
 * vec_ops.inc.h.  scalar_attention.c has the definition.
 *
 * Work is a chunk of rows: consecutive queries times the query heads of one
 * KV head, query-major, so that each K and V line is read once for all of
 * them.  For every tile of 64 keys, ascending, and every block of up to 6
 * rows:  scores = rows x K (lanes are keys), softmax terms, and terms x V
 * (lanes are elements), whose sums go from the registers into the rows'
 * running result.  Both products are one micro-kernel: c[row][column] += sum
 * over k of a[row][k] * b[k][column] with b in 16 bits, every c its own chain
 * of fma, so the tiling shows in no bit.
 *
 * Queries of one block of rows see different keys only at the causal edge
 * and the window's edge.  There the keys that all rows see go together, and
 * the few others row by row, in ascending order.
 */

#define ROWS_MAX  24            /* rows in a chunk */
#define BLOCK_MAX AXK_ATTN_ROWS /* rows in one micro-kernel */

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

/* A tile and a block of rows, all of which see some of it. */
struct tile {
    uint32_t lo[BLOCK_MAX]; /* the slots [lo, hi) that a row sees; rows are */
    uint32_t hi[BLOCK_MAX]; /* in the order of their positions */
    uint32_t blocks[2];     /* in the block table; one that nobody sees is
                             * replaced by the other: it may not exist */
    ptrdiff_t ahead[2];     /* bytes from each to the next tile's */
    float m[16];
    float l[16];
    float top[BLOCK_MAX][16] __attribute__((aligned(64)));
    float p[BLOCK_MAX][AXK_ATTN_KEYS] __attribute__((aligned(64)));
    float o[BLOCK_MAX][ROW_FLOATS] __attribute__((aligned(64)));
};

/* Where the sums over a tile's values go: into running results, as
 * o = sum * new_part + o * old_part, or alone where there are no factors. */
struct target {
    float *o;
    size_t stride;
    const float *old_part; /* [rows], or NULL */
    const float *new_part;
};


/* 16 elements as K and V are stored. */
INLINE v16
load_halves(const enum axk_kv_type type, const uint16_t *p)
{
    return type == AXK_KV_BF16 ? v16_load_bf16(p) : v16_load_f16(p);
}


/* Where a product fetches ahead while it goes: for each pair of vectors of b
 * from some place on, so many bytes further at every k. */
struct fetch {
    const char *from[2];
    size_t step;
};


/* acc[r][v] += a[r][k] * b[v][k * b_stride] for k < n. */
INLINE void
multiply(const enum axk_kv_type type, const uint32_t rows,
         const uint32_t n_vectors, const float *a, const size_t a_stride,
         const uint16_t *const *b, size_t b_stride, uint32_t n,
         v16 (*acc)[V16_BATCH], const struct fetch *fetch)
{
    const uint16_t *p[V16_BATCH];
    const char *next[2] = {fetch->from[0], fetch->from[1]};

    for (uint32_t v = 0; v < n_vectors; v++) {
        p[v] = b[v];
    }
    for (uint32_t k = 0; k < n; k++) {
        v16 column[V16_BATCH];

        for (uint32_t v = 0; v < n_vectors; v++) {
            column[v] = load_halves(type, p[v]);
            p[v] += b_stride;
            if (v % 2 == 0) {
                __builtin_prefetch(next[v / 2], 0, 2);
                next[v / 2] += fetch->step;
            }
        }
#pragma GCC unroll 6
        for (uint32_t r = 0; r < rows; r++) {
            v16_fma_row(acc[r], &a[r * a_stride + k], column, n_vectors);
        }
    }
}


/* Scores of rows of queries against the keys of n_vectors runs, two of which
 * are what one block has. */
INLINE void
score_rows(const enum axk_kv_type type, const uint32_t rows,
           const uint32_t n_vectors, const float *q,
           const uint16_t *const *keys, uint32_t n, float scale, float *p,
           const ptrdiff_t *ahead)
{
    v16 acc[BLOCK_MAX][V16_BATCH];
    const size_t together = V16_BATCH == 1 ? KV_RUN : AXK_KV_TOKENS;
    struct fetch fetch = {.step = together * sizeof(uint16_t)};

    for (uint32_t v = 0; v < n_vectors; v += 2) {
        fetch.from[v / 2] = (const char *)keys[v] + ahead[v / 2];
    }
#pragma GCC unroll 6
    for (uint32_t r = 0; r < rows; r++) {
#pragma GCC unroll 4
        for (uint32_t v = 0; v < n_vectors; v++) {
            acc[r][v] = v16_set1(0);
        }
    }
    multiply(type, rows, n_vectors, q, ROW_FLOATS, keys, KV_RUN, n, acc,
             &fetch);
#pragma GCC unroll 6
    for (uint32_t r = 0; r < rows; r++) {
#pragma GCC unroll 4
        for (uint32_t v = 0; v < n_vectors; v++) {
            v16_store(p + r * AXK_ATTN_KEYS + 16 * v,
                      v16_mul(acc[r][v], v16_set1(scale)));
        }
    }
}


INLINE void
score_vectors(const enum axk_kv_type type, const uint32_t n_vectors,
              uint32_t rows, const float *q, const uint16_t *const *keys,
              uint32_t n, float scale, float *p, const ptrdiff_t *ahead)
{
    switch (rows) {
    case 1:
        score_rows(type, 1, n_vectors, q, keys, n, scale, p, ahead);
        break;
    case 2:
        score_rows(type, 2, n_vectors, q, keys, n, scale, p, ahead);
        break;
    case 3:
        score_rows(type, 3, n_vectors, q, keys, n, scale, p, ahead);
        break;
    case 4:
        score_rows(type, 4, n_vectors, q, keys, n, scale, p, ahead);
        break;
    case 5:
        score_rows(type, 5, n_vectors, q, keys, n, scale, p, ahead);
        break;
    default:
        score_rows(type, 6, n_vectors, q, keys, n, scale, p, ahead);
        break;
    }
}


/* Values of a tile: slots [lo, hi) of two blocks from some element on. */
struct values {
    enum axk_kv_type type;
    const uint16_t *block[2];
    const ptrdiff_t *ahead;
    uint32_t padded;
    uint32_t lo;
    uint32_t hi;
};


/* What rows see of one block; twice and not a loop, which would keep acc in
 * memory. */
INLINE void
weigh_half(const enum axk_kv_type type, const uint32_t rows,
           const uint32_t n_vectors, const float *p, const struct values *s,
           const uint32_t half, uint32_t column, v16 (*acc)[V16_BATCH])
{
    struct fetch fetch = {.step = s->padded * sizeof(uint16_t)};
    const uint32_t begin = AXK_KV_TOKENS * half;
    const uint32_t end = begin + AXK_KV_TOKENS;
    uint32_t lo = s->lo > begin ? s->lo : begin;
    uint32_t hi = s->hi < end ? s->hi : end;
    const uint16_t *b[V16_BATCH];

    for (uint32_t v = 0; v < n_vectors; v++) {
        b[v] =
            s->block[half] + (size_t)(lo - begin) * s->padded + column + 16 * v;
        if (v % 2 == 0) {
            fetch.from[v / 2] = (const char *)b[v] + s->ahead[half];
        }
    }
    multiply(type, rows, n_vectors, p + lo, AXK_ATTN_KEYS, b, s->padded,
             lo < hi ? hi - lo : 0, acc, &fetch);
}


/* Rows of terms times 16 n_vectors elements; on top of what the target has
 * where add says so. */
INLINE void
weigh_rows(const enum axk_kv_type type, const uint32_t rows,
           const uint32_t n_vectors, const float *p, const struct values *s,
           const struct target *to, uint32_t column, bool add)
{
    v16 acc[BLOCK_MAX][V16_BATCH];
    float *o = to->o + column;

    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t v = 0; v < n_vectors; v++) {
            acc[r][v] = v16_set1(0);
        }
    }
    if (add) {
        for (uint32_t r = 0; r < rows; r++) {
            for (uint32_t v = 0; v < n_vectors; v++) {
                acc[r][v] = v16_load(o + r * to->stride + 16 * v);
            }
        }
    }
    weigh_half(type, rows, n_vectors, p, s, 0, column, acc);
    weigh_half(type, rows, n_vectors, p, s, 1, column, acc);
    if (to->old_part != NULL) {
        for (uint32_t r = 0; r < rows; r++) {
            v16 x = v16_set1(to->old_part[r]);
            v16 y = v16_set1(to->new_part[r]);

            for (uint32_t v = 0; v < n_vectors; v++) {
                v16 old = v16_load(o + r * to->stride + 16 * v);
                acc[r][v] = v16_fma(acc[r][v], y, v16_mul(old, x));
            }
        }
    }
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t v = 0; v < n_vectors; v++) {
            v16_store(o + r * to->stride + 16 * v, acc[r][v]);
        }
    }
}


INLINE void
weigh_vectors(const enum axk_kv_type type, const uint32_t n_vectors,
              uint32_t rows, const float *p, const struct values *s,
              const struct target *to, uint32_t column, bool add)
{
    switch (rows) {
    case 1:
        weigh_rows(type, 1, n_vectors, p, s, to, column, add);
        break;
    case 2:
        weigh_rows(type, 2, n_vectors, p, s, to, column, add);
        break;
    case 3:
        weigh_rows(type, 3, n_vectors, p, s, to, column, add);
        break;
    case 4:
        weigh_rows(type, 4, n_vectors, p, s, to, column, add);
        break;
    case 5:
        weigh_rows(type, 5, n_vectors, p, s, to, column, add);
        break;
    default:
        weigh_rows(type, 6, n_vectors, p, s, to, column, add);
        break;
    }
}


INLINE void
weigh_columns(const enum axk_kv_type type, uint32_t rows, const float *p,
              const struct values *s, const struct target *to, bool add)
{
    uint32_t i = 0;

    for (; i + 16 * V16_BATCH <= s->padded; i += 16 * V16_BATCH) {
        weigh_vectors(type, V16_BATCH, rows, p, s, to, i, add);
    }
    for (; i < s->padded; i += 16) {
        weigh_vectors(type, 1, rows, p, s, to, i, add);
    }
}


static void
weigh_values(uint32_t rows, const float *p, const struct values *s,
             const struct target *to, bool add)
{
    if (s->type == AXK_KV_BF16) {
        weigh_columns(AXK_KV_BF16, rows, p, s, to, add);
    } else {
        weigh_columns(AXK_KV_F16, rows, p, s, to, add);
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


/* The 16 scores from slot v on, those outside of [lo, hi) minus infinity. */
INLINE v16
mask_scores(v16 s, uint32_t v, uint32_t lo, uint32_t hi)
{
    static const float lanes[16] = {0, 1, 2,  3,  4,  5,  6,  7,
                                    8, 9, 10, 11, 12, 13, 14, 15};
    v16 slot = v16_add(v16_load(lanes), v16_set1((float)v));
    v16 nothing = v16_set1(-float_of(0x7f800000));

    s = v16_select_lt(slot, v16_set1((float)hi), s, nothing);
    return v16_select_lt(slot, v16_set1((float)lo), nothing, s);
}


/*
 * Rows of scores to terms: cap, mask, maximum, exp, sum.  Step by step over
 * all rows, not row by row: each step is a chain that waits for itself, and so
 * those of several rows run at once.  Slots outside of [begin, end), which no
 * row sees and which have no scores, become zeros.
 */
INLINE void
terms_of_slots(const struct axk_attention *a, uint32_t rows, struct tile *t,
               const bool all, uint32_t begin, uint32_t end)
{
    for (uint32_t r = 0; r < rows; r++) {
        v16 top = v16_set1(-float_of(0x7f800000));

        for (uint32_t v = begin; v < end; v += 16) {
            v16 s = v16_load(t->p[r] + v);

            if (!all || a->softcap != 0) {
                s = a->softcap != 0 ? vec_softcap_of(s, a->softcap) : s;
                s = all ? s : mask_scores(s, v, t->lo[r], t->hi[r]);
                v16_store(t->p[r] + v, s);
            }
            top = v16_max(top, s);
        }
        v16_store(t->top[r], top);
    }
    for (uint32_t r = 0; r < rows; r++) {
        t->m[r] = v16_largest(v16_load(t->top[r]));
    }
    for (uint32_t r = 0; r < rows; r++) {
        v16 terms[4];

        for (uint32_t v = 0; v < 4; v++) {
            bool some = all || (16 * v >= begin && 16 * v < end);
            v16 s = v16_load(t->p[r] + 16 * v);

            terms[v] = some ? vec_exp_negative(v16_sub(s, v16_set1(t->m[r])))
                            : v16_set1(0);
            v16_store(t->p[r] + 16 * v, terms[v]);
        }
        t->l[r] = v16_fold(
            v16_add(v16_add(terms[0], terms[1]), v16_add(terms[2], terms[3])));
    }
}


static void
softmax_terms(const struct axk_attention *a, uint32_t rows, struct tile *t)
{
    if (t->lo[rows - 1] == 0 && t->hi[0] == AXK_ATTN_KEYS) {
        terms_of_slots(a, rows, t, true, 0, AXK_ATTN_KEYS);
    } else {
        terms_of_slots(a, rows, t, false, t->lo[0] & ~15u,
                       round_up_16(t->hi[rows - 1]));
    }
}


/*
 * Bytes from block i to what is read two blocks on: of the next tile, or, at
 * the end, of what the thread reads next.  The products fetch it into L2 as
 * they go (a decode from memory took twice as long without; fetching into L1
 * instead gained nothing: its miss buffers are few).
 */
INLINE ptrdiff_t
distance(const struct chunk *c, uint32_t i)
{
    const void *here = kv_head_of(c->a, i, c->kv_head);
    const void *there = c->a->next[i % 2];

    if (i + 2 <= c->pos[c->n_rows - 1] / AXK_KV_TOKENS) {
        there = kv_head_of(c->a, i + 2, c->kv_head);
    }
    return there == NULL ? 0 : (intptr_t)there - (intptr_t)here;
}


#include "kernels/vec_attention_q8.inc.h"


INLINE void
score_columns(const enum axk_kv_type type, const struct chunk *c, uint32_t r0,
              uint32_t rows, struct tile *t)
{
    uint32_t first = t->lo[0];
    uint32_t end = t->hi[rows - 1];
    const uint16_t *b[4];

    for (int v = 0; v < 4; v++) {
        const uint16_t *keys = kv_head_of(c->a, t->blocks[v / 2], c->kv_head);

        b[v] = keys + kv_key_halves(v % 2 * KV_RUN, c->a->head_dim);
    }
#if V16_BATCH == 4
    if (first >= AXK_KV_TOKENS || end <= AXK_KV_TOKENS) {
        uint32_t v = first >= AXK_KV_TOKENS ? 2 : 0;

        score_vectors(type, 2, rows, c->q.f32[r0], b + v, c->a->head_dim,
                      c->a->scale, t->p[0] + 16 * v, t->ahead + v / 2);
        return;
    }
    first = 0;
#endif
    for (uint32_t v = first / 16; 16 * v < end; v += V16_BATCH) {
        score_vectors(type, V16_BATCH, rows, c->q.f32[r0], b + v,
                      c->a->head_dim, c->a->scale, t->p[0] + 16 * v,
                      t->ahead + v / 2);
    }
}


static void
score_keys_halves(const struct chunk *c, uint32_t r0, uint32_t rows,
                  struct tile *t)
{
    if (c->a->kv_type == AXK_KV_BF16) {
        score_columns(AXK_KV_BF16, c, r0, rows, t);
    } else {
        score_columns(AXK_KV_F16, c, r0, rows, t);
    }
}


/* Rows from r on that see as much as it: a query's heads. */
INLINE uint32_t
rows_alike(const struct tile *t, uint32_t r, uint32_t rows)
{
    uint32_t n = 1;

    while (r + n < rows && t->lo[r + n] == t->lo[r] &&
           t->hi[r + n] == t->hi[r]) {
        n++;
    }
    return n;
}


/* Rows of which some see keys that others do not, into t: the keys that all
 * rows see together, others query by query, each row's ascending. */
static void
weigh_edge(struct tile *t, uint32_t rows, struct values *s)
{
    const struct target here = {.o = t->o[0], .stride = ROW_FLOATS};
    uint32_t all_lo = t->lo[rows - 1];
    uint32_t all_hi = t->hi[0];
    bool some = all_lo < all_hi;
    bool before = !some || t->lo[0] < all_lo;
    uint32_t n;

    for (uint32_t r = 0; before && r < rows; r += n) {
        const struct target row = {.o = t->o[r], .stride = ROW_FLOATS};

        n = rows_alike(t, r, rows);
        s->lo = t->lo[r];
        s->hi = some ? all_lo : t->hi[r];
        weigh_values(n, t->p[r], s, &row, false);
    }
    if (!some) {
        return;
    }
    s->lo = all_lo;
    s->hi = all_hi;
    weigh_values(rows, t->p[0], s, &here, before);
    for (uint32_t r = 0; r < rows; r += n) {
        const struct target row = {.o = t->o[r], .stride = ROW_FLOATS};

        n = rows_alike(t, r, rows);
        if (t->hi[r] > all_hi) {
            s->lo = all_hi;
            s->hi = t->hi[r];
            weigh_values(n, t->p[r], s, &row, true);
        }
    }
}


/* The rows' sums of t to where they go. */
static void
deliver(const struct tile *t, uint32_t rows, uint32_t padded,
        const struct target *to)
{
    for (uint32_t r = 0; r < rows; r++) {
        float *o = to->o + r * to->stride;

        for (uint32_t i = 0; i < padded; i += 16) {
            v16 x = v16_load(t->o[r] + i);

            if (to->old_part != NULL) {
                v16 old = v16_mul(v16_load(o + i), v16_set1(to->old_part[r]));
                x = v16_fma(x, v16_set1(to->new_part[r]), old);
            }
            v16_store(o + i, x);
        }
    }
}


static void
weigh_rows_halves(const struct chunk *c, uint32_t rows, struct tile *t,
                  const struct target *to)
{
    struct values s = {
        .type = c->a->kv_type,
        .ahead = t->ahead,
        .padded = round_up_16(c->a->head_dim),
        .lo = t->lo[0],
        .hi = t->hi[0],
    };

    for (int half = 0; half < 2; half++) {
        s.block[half] =
            (const uint16_t *)kv_head_of(c->a, t->blocks[half], c->kv_head) +
            (size_t)c->a->head_dim * AXK_KV_TOKENS;
    }
    if (t->lo[0] == t->lo[rows - 1] && t->hi[0] == t->hi[rows - 1]) {
        weigh_values(rows, t->p[0], &s, to, false);
        return;
    }
    weigh_edge(t, rows, &s);
    deliver(t, rows, s.padded, to);
}


/* Softmax terms, m and l of rows [r0, r0 + rows), all of which see the tile. */
static void
start_tile(const struct chunk *c, uint32_t tile, uint32_t r0, uint32_t rows,
           struct tile *t)
{
    uint32_t base = tile * AXK_ATTN_KEYS;
    uint32_t i = base / AXK_KV_TOKENS;

    for (uint32_t r = 0; r < rows; r++) {
        visible(c->a, c->pos[r0 + r], base, &t->lo[r], &t->hi[r]);
    }
    t->blocks[0] = t->lo[0] < AXK_KV_TOKENS ? i : i + 1;
    t->blocks[1] = t->hi[rows - 1] > AXK_KV_TOKENS ? i + 1 : i;
    t->ahead[0] = distance(c, t->blocks[0]);
    t->ahead[1] = distance(c, t->blocks[1]);
    if (c->a->kv_type == AXK_KV_Q8_0) {
        score_keys_q8(c, r0, rows, t);
    } else {
        score_keys_halves(c, r0, rows, t);
    }
    softmax_terms(c->a, rows, t);
}


/* The terms of a started tile times its values. */
static void
finish_tile(const struct chunk *c, uint32_t rows, struct tile *t,
            const struct target *to)
{
    if (c->a->kv_type == AXK_KV_Q8_0) {
        weigh_values_q8(c, rows, t, to);
    } else {
        weigh_rows_halves(c, rows, t, to);
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
    const float *rows[ROWS_MAX];

    c->n_rows = n_q * n_g;
    for (uint32_t r = 0; r < c->n_rows; r++) {
        uint32_t token = q + r / n_g;
        size_t column =
            (size_t)(c->kv_head * group + g + r % n_g) * a->head_dim;

        c->pos[r] = a->pos0 + token;
        c->out[r] = a->out + token * a->out_stride + column;
        c->m[r] = -float_of(0x7f800000);
        c->l[r] = 0;
        rows[r] = a->q + token * a->q_stride + column;
        memset(c->o[r], 0, round_up_16(a->head_dim) * sizeof(float));
    }
    if (a->kv_type == AXK_KV_Q8_0) {
        quantize_queries(c, rows);
        return;
    }
    for (uint32_t r = 0; r < c->n_rows; r++) {
        memcpy(c->q.f32[r], rows[r], a->head_dim * sizeof(float));
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


/* The values of what comes next that the last tile, with its fewer slots, did
 * not reach. */
static void
fetch_values_left(const struct chunk *c)
{
    const size_t keys = sizeof(uint16_t) * c->a->head_dim * AXK_KV_TOKENS;
    const size_t slot = sizeof(uint16_t) * round_up_16(c->a->head_dim);
    const uint32_t n = c->pos[c->n_rows - 1] + 1;
    const char *next = c->a->next[(n - 1) / AXK_KV_TOKENS % 2];

    if (next == NULL || n % AXK_KV_TOKENS == 0 ||
        c->a->kv_type == AXK_KV_Q8_0) {
        return;
    }
    for (size_t i = n % AXK_KV_TOKENS * slot; i < AXK_KV_TOKENS * slot;
         i += 64) {
        __builtin_prefetch(next + keys + i, 0, 2);
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

            float old_part[16];
            float new_part[16];
            const struct target to = {.o = c->o[r0],
                                      .stride = ROW_FLOATS,
                                      .old_part = old_part,
                                      .new_part = new_part};

            start_tile(c, tile, r0, rows, &t);
            merge_sums(c->m + r0, c->l + r0, t.m, t.l, rows, old_part,
                       new_part);
            finish_tile(c, rows, &t, &to);
            r0 += rows;
        }
    }
    fetch_values_left(c);
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
    size_t row = ((a->pos0 + q) / AXK_ATTN_KEYS + 1) * record_floats;
    struct chunk c;
    struct tile t;

    c.a = a;
    c.kv_head = kv_head;
    for (uint32_t g = 0; g < group; g += BLOCK_MAX) {
        uint32_t n_g = group - g < BLOCK_MAX ? group - g : BLOCK_MAX;
        float *first = partials + ((size_t)kv_head * group + g) * row;

        start_chunk(&c, q, 1, g, n_g);
        for (uint32_t i = tile0; i < tile1; i++) {
            float *record = first + i * record_floats;
            const struct target to = {.o = record + 16, .stride = row};

            start_tile(&c, i, 0, n_g, &t);
            finish_tile(&c, n_g, &t, &to);
            for (uint32_t r = 0; r < n_g; r++) {
                record[r * row] = t.m[r];
                record[r * row + 1] = t.l[r];
            }
        }
    }
}


/* The factors of up to 16 tiles of one head in order, and m, l behind them. */
static void
merge_factors(const float *records, size_t record_floats, uint32_t n, float *m,
              float *l, float *old_part, float *new_part)
{
    float before[16] = {0};
    float now[16] = {0};
    float top[16] = {0};
    v16 sum = v16_set1(*l);

    for (uint32_t i = 0; i < n; i++) {
        before[i] = *m;
        now[i] = records[i * record_floats];
        *m = now[i] > *m ? now[i] : *m;
        top[i] = *m;
    }
    v16_store(old_part, vec_exp(v16_sub(v16_load(before), v16_load(top))));
    v16_store(new_part, vec_exp(v16_sub(v16_load(now), v16_load(top))));
    for (uint32_t i = 0; i < n; i++) {
        sum =
            v16_fma(v16_set1(records[i * record_floats + 1]),
                    v16_set1(new_part[i]), v16_mul(sum, v16_set1(old_part[i])));
    }
    v16_store(before, sum);
    *l = before[0];
}


/* 16 n_vectors elements of n tiles into o. */
INLINE void
merge_vectors(const uint32_t n_vectors, const float *records,
              size_t record_floats, uint32_t n, const float *old_part,
              const float *new_part, float *o)
{
    v16 acc[V16_BATCH];

    for (uint32_t v = 0; v < n_vectors; v++) {
        acc[v] = v16_load(o + 16 * v);
    }
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t v = 0; v < n_vectors; v++) {
            acc[v] = v16_fma(v16_load(records + i * record_floats + 16 * v),
                             v16_set1(new_part[i]),
                             v16_mul(acc[v], v16_set1(old_part[i])));
        }
    }
    for (uint32_t v = 0; v < n_vectors; v++) {
        v16_store(o + 16 * v, acc[v]);
    }
}


/* All tiles of a head; 16 at a time, so that their exponentials are not a
 * chain. */
static void
merge_head(const float *records, size_t record_floats, uint32_t n,
           uint32_t padded, float *l, float *o)
{
    float m = -float_of(0x7f800000);

    *l = 0;
    memset(o, 0, padded * sizeof(float));
    for (uint32_t i = 0; i < n; i += 16) {
        float old_part[16];
        float new_part[16];
        uint32_t now = n - i < 16 ? n - i : 16;
        const float *from = records + i * record_floats;
        uint32_t j = 0;

        merge_factors(from, record_floats, now, &m, l, old_part, new_part);
        for (; j + 16 * V16_BATCH <= padded; j += 16 * V16_BATCH) {
            merge_vectors(V16_BATCH, from + 16 + j, record_floats, now,
                          old_part, new_part, o + j);
        }
        for (; j < padded; j += 16) {
            merge_vectors(1, from + 16 + j, record_floats, now, old_part,
                          new_part, o + j);
        }
    }
}


static void
vec_attention_merge(const struct axk_attention *a, uint32_t kv_head, uint32_t q,
                    const float *partials)
{
    uint32_t group = a->n_head / a->n_head_kv;
    size_t record_floats = axk_attention_partial_floats(a->head_dim);
    uint32_t n_tiles = (a->pos0 + q) / AXK_ATTN_KEYS + 1;
    uint32_t first;
    uint32_t end;

    axk_attention_tiles(a, q, &first, &end);
    for (uint32_t g = 0; g < group; g++) {
        size_t head = (size_t)kv_head * group + g;
        float o[AXK_HEAD_DIM_MAX];
        float l;

        merge_head(partials + (head * n_tiles + first) * record_floats,
                   record_floats, end - first, round_up_16(a->head_dim), &l, o);
        divide_row(a->out + q * a->out_stride + head * a->head_dim, o, l,
                   a->head_dim);
    }
}


/* What a table has from the shared files: all but .isa and .matmul. */
#define VEC_OPS                                                                \
    .quantize = vec_quantize, .quantize_part = vec_quantize_part,              \
    .rmsnorm = vec_rmsnorm, .rope = vec_rope, .silu_mul = vec_silu_mul,        \
    .gelu_mul = vec_gelu_mul, .add = vec_add, .scale = vec_scale,              \
    .softcap = vec_softcap, .kv_write = vec_kv_write,                          \
    .attention = vec_attention, .attention_partial = vec_attention_partial,    \
    .attention_merge = vec_attention_merge, .argmax = vec_argmax,              \
    .logsumexp = vec_logsumexp, .exp_sub = vec_exp_sub
