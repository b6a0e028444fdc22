/*
 * The two products of attention over KV stored as q8_0, on integers
 * (scalar_attention.c has the definition, kv_q8.h the layout).  Included by
 * vec_attention.inc.h, whose chunks and tiles these work on.
 *
 * Scores are the Q8_0 matmul with the keys of a block as rows of the matrix.
 * Values: for each group of 32 elements the softmax terms are scaled to
 * 15 bits, and a multiply-add of 16-bit pairs sums two tokens at once.
 */

/* Rows and vectors of one micro-kernel: what the registers hold. */
#define Q8_ROWS    (V16_BATCH == 4 ? 6u : 3u)
#define Q8_VECTORS (V16_BATCH == 4 ? 2u : 1u)


/* The chunk's queries as records, as many rows at a time as one call of the
 * quantizer takes. */
static void
quantize_queries(struct chunk *c, const float *const *rows)
{
    uint32_t n = kv_groups(c->a->head_dim);
    uint32_t batch = 16 / n;
    float x[16 * AXK_QK];
    uint32_t records[16 * AXK_ACT_WORDS];

    for (uint32_t r0 = 0; r0 < c->n_rows; r0 += batch) {
        uint32_t now = c->n_rows - r0 < batch ? c->n_rows - r0 : batch;

        for (uint32_t r = 0; r < now; r++) {
            float *to = x + (size_t)r * n * AXK_QK;

            memcpy(to, rows[r0 + r], c->a->head_dim * sizeof(float));
            memset(to + c->a->head_dim, 0,
                   (n * AXK_QK - c->a->head_dim) * sizeof(float));
        }
        vec_quantize_blocks(x, n * now, records);
        for (uint32_t r = 0; r < now; r++) {
            const uint32_t *from = records + (size_t)r * n * AXK_ACT_WORDS;

            for (uint32_t i = 0; i < n * AXK_ACT_WORDS; i++) {
                c->q.q8[i * ROWS_MAX + r0 + r] = from[i];
            }
        }
    }
}


/*
 * Rows of queries times 16 n_vectors keys of one block; keys points at the
 * block's first group, vector at the first of its two vectors of keys.
 * ahead: bytes to the same place in the next tile.
 */
INLINE void
score_q8_rows(const uint32_t rows, const uint32_t n_vectors,
              const uint8_t *keys, const uint32_t vector, const uint32_t *q,
              uint32_t n_groups, float scale, float *p, ptrdiff_t ahead)
{
    v16 acc[6][2];

    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t v = 0; v < n_vectors; v++) {
            acc[r][v] = v16_set1(0);
        }
    }
    for (uint32_t g = 0; g < n_groups; g++) {
        const uint8_t *steps = keys + 64 + 64 * vector;
        const uint32_t *words = q;
        v16i sum[6][2];

        __builtin_prefetch(keys + ahead, 0, 2);
        for (uint32_t r = 0; r < rows; r++) {
            for (uint32_t v = 0; v < n_vectors; v++) {
                sum[r][v] = v16i_dot_start(q[AXK_ACT_SUM128 * ROWS_MAX + r]);
            }
        }
#pragma GCC unroll 1
        for (uint32_t i = 0; i < 8; i++) {
            v16i codes[2];

            for (uint32_t v = 0; v < n_vectors; v++) {
                codes[v] = v16i_load(steps + 64 * v);
                __builtin_prefetch(steps + 64 * v + ahead, 0, 2);
            }
            for (uint32_t r = 0; r < rows; r++) {
                v16i x = v16i_set1((int32_t)words[r]);

                for (uint32_t v = 0; v < n_vectors; v++) {
                    sum[r][v] = v16i_dot_codes(sum[r][v], codes[v], x);
                }
            }
            steps += 128;
            words += ROWS_MAX;
        }
        for (uint32_t v = 0; v < n_vectors; v++) {
            v16 d = v16_load_f16((const uint16_t *)keys + 16 * (vector + v));

            for (uint32_t r = 0; r < rows; r++) {
                v16 dq = v16_set1(float_of(q[AXK_ACT_D * ROWS_MAX + r]));
                acc[r][v] =
                    v16_fma(v16i_to_f32(sum[r][v]), v16_mul(d, dq), acc[r][v]);
            }
        }
        keys += AXK_KV_Q8_GROUP_BYTES;
        q += AXK_ACT_WORDS * ROWS_MAX;
    }
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t v = 0; v < n_vectors; v++) {
            v16_store(p + r * AXK_ATTN_KEYS + 16 * v,
                      v16_mul(acc[r][v], v16_set1(scale)));
        }
    }
}


static void
score_q8_block(uint32_t rows, const uint8_t *keys, const uint32_t *q,
               uint32_t n_groups, float scale, float *p, ptrdiff_t ahead)
{
    for (uint32_t v = 0; v < 2; v += Q8_VECTORS) {
        switch (rows) {
        case 1:
            score_q8_rows(1, Q8_VECTORS, keys, v, q, n_groups, scale,
                          p + 16 * v, ahead);
            break;
        case 2:
            score_q8_rows(2, Q8_VECTORS, keys, v, q, n_groups, scale,
                          p + 16 * v, ahead);
            break;
        case 3:
            score_q8_rows(3, Q8_VECTORS, keys, v, q, n_groups, scale,
                          p + 16 * v, ahead);
            break;
#if V16_BATCH == 4
        case 4:
            score_q8_rows(4, Q8_VECTORS, keys, v, q, n_groups, scale,
                          p + 16 * v, ahead);
            break;
        case 5:
            score_q8_rows(5, Q8_VECTORS, keys, v, q, n_groups, scale,
                          p + 16 * v, ahead);
            break;
        default:
            score_q8_rows(6, Q8_VECTORS, keys, v, q, n_groups, scale,
                          p + 16 * v, ahead);
            break;
#endif
        }
    }
}


/* Scores of rows [r0, r0 + rows) of c. */
static void
score_keys_q8(const struct chunk *c, uint32_t r0, uint32_t rows, struct tile *t)
{
    uint32_t n_groups = kv_groups(c->a->head_dim);

    const uint32_t begin = t->lo[0] / AXK_KV_TOKENS;
    const uint32_t end = t->hi[rows - 1] > AXK_KV_TOKENS ? 2 : 1;

    for (uint32_t half = begin; half < end; half++) {
        const uint8_t *keys = kv_q8_keys(c->a, t->blocks[half], c->kv_head, 0);

        for (uint32_t r = 0; r < rows; r += Q8_ROWS) {
            score_q8_block(rows - r < Q8_ROWS ? rows - r : Q8_ROWS, keys,
                           c->q.q8 + r0 + r, n_groups, c->a->scale,
                           t->p[r] + AXK_KV_TOKENS * half, t->ahead[half]);
        }
    }
}


#define Q8_TERMS_MAX (AXK_HEAD_DIM_MAX / AXK_QK * BLOCK_MAX)

/* The terms of a tile as integers: rows of the first group, of the second. */
struct q8_terms {
    float w[Q8_TERMS_MAX][AXK_ATTN_KEYS] __attribute__((aligned(64)));
    int16_t u[Q8_TERMS_MAX][AXK_ATTN_KEYS] __attribute__((aligned(64)));
    float top[Q8_TERMS_MAX]; /* the largest w */
    float inverse[Q8_TERMS_MAX];
    float unit[Q8_TERMS_MAX];
};


/* Terms p of a row times the scales of a group, into w; returns the bits of
 * the largest.  Scales are not negative, but may be NaN. */
INLINE float
scaled_terms(const float *p, const v16 *scales, float *w)
{
    v16i top = v16i_set1(0);

    for (uint32_t v = 0; v < 4; v++) {
        v16 x = v16_mul_positive(v16_load(p + 16 * v), scales[v]);

        top = v16i_max_u32(top, v16i_of_f32(x));
        v16_store(w + 16 * v, x);
    }
    return float_of(v16i_largest_u32(top));
}


/* All terms of a started tile times the scales of their values. */
INLINE void
scale_terms(const struct chunk *c, uint32_t rows, const struct tile *t,
            uint32_t n_groups, struct q8_terms *out)
{
    for (uint32_t g = 0; g < n_groups; g++) {
        v16 scales[4];

        for (uint32_t half = 0; half < 2; half++) {
            const uint8_t *values =
                kv_q8_values(c->a, t->blocks[half], c->kv_head, g);

            for (uint32_t v = 0; v < 2; v++) {
                scales[2 * half + v] =
                    v16_load_f16((const uint16_t *)values + 16 * v);
            }
        }
        for (uint32_t r = 0; r < rows; r++) {
            out->top[g * rows + r] =
                scaled_terms(t->p[r], scales, out->w[g * rows + r]);
        }
    }
}


/* Those as 15-bit integers with a unit for each group and row.  Step by step
 * over all of them: one alone waits for its largest and two divisions. */
INLINE void
integer_terms(uint32_t n, struct q8_terms *t)
{
    for (uint32_t i = 0; i < n; i += 16) {
        v16 x = v16_load(t->top + i);
        v16 small = v16_set1(AXK_D_MIN);

        v16_store(t->inverse + i,
                  v16_select_lt(x, small, v16_set1(0),
                                v16_div(v16_set1(AXK_KV_Q8_TERM_MAX), x)));
        v16_store(t->unit + i,
                  v16_select_lt(x, small, v16_set1(0),
                                v16_div(x, v16_set1(AXK_KV_Q8_TERM_MAX))));
    }
    for (uint32_t i = 0; i < n; i++) {
        if (bits_of(t->top[i]) >= 0x7f800000) {
            memset(t->u[i], 0, sizeof(t->u[i]));
            t->unit[i] = float_of(0x7fc00000);
            continue;
        }
        for (uint32_t v = 0; v < 64; v += 16) {
            v16_store_round_i16(t->u[i] + v, v16_mul(v16_load(t->w[i] + v),
                                                     v16_set1(t->inverse[i])));
        }
    }
}


/* Rows of integer terms times a group of values: what weigh_q8_rows() works
 * on. */
struct q8_sums {
    const int16_t (*u)[AXK_ATTN_KEYS];
    const float *unit;
    const uint8_t *values[2]; /* of the tile's two blocks */
    const ptrdiff_t *ahead;
    uint32_t pair[2]; /* of slots: the first one, and behind the last one */
    uint32_t columns; /* that exist from this group's first one on */
    struct target to;
};


/* Rows from r0 on times 16 n_vectors elements from the vector on. */
INLINE void
weigh_q8_rows(const uint32_t rows, const uint32_t n_vectors,
              const struct q8_sums *s, uint32_t r0, uint32_t vector)
{
    const int16_t(*u)[AXK_ATTN_KEYS] = s->u + r0;
    v16i sum[6][2];

    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t v = 0; v < n_vectors; v++) {
            sum[r][v] = v16i_set1(0);
        }
    }
    for (uint32_t j = s->pair[0]; j < s->pair[1]; j++) {
        const uint8_t *line =
            s->values[j / 16] + 64 + j % 16 * 64 + 32 * vector;
        v16i two[2];

        __builtin_prefetch(line + s->ahead[j / 16], 0, 2);
        for (uint32_t v = 0; v < n_vectors; v++) {
            two[v] = v16i_load_i8_pairs(line + 32 * v);
        }
        for (uint32_t r = 0; r < rows; r++) {
            int32_t word;

            memcpy(&word, &u[r][2 * j], 4);
            for (uint32_t v = 0; v < n_vectors; v++) {
                sum[r][v] = v16i_dot_pairs(sum[r][v], two[v], v16i_set1(word));
            }
        }
    }
    for (uint32_t v = 0; v < n_vectors; v++) {
        float *o = s->to.o + r0 * s->to.stride + 16 * (vector + v);

        if (16 * (vector + v) >= s->columns) {
            break;
        }
        for (uint32_t r = 0; r < rows; r++) {
            v16 x = v16_mul(v16i_to_f32(sum[r][v]), v16_set1(s->unit[r0 + r]));

            if (s->to.old_part != NULL) {
                v16 old = v16_mul(v16_load(o + r * s->to.stride),
                                  v16_set1(s->to.old_part[r0 + r]));
                x = v16_fma(x, v16_set1(s->to.new_part[r0 + r]), old);
            }
            v16_store(o + r * s->to.stride, x);
        }
    }
}


static void
weigh_q8_group(uint32_t rows, const struct q8_sums *s, uint32_t r0)
{
    for (uint32_t v = 0; v < 2; v += Q8_VECTORS) {
        switch (rows) {
        case 1:
            weigh_q8_rows(1, Q8_VECTORS, s, r0, v);
            break;
        case 2:
            weigh_q8_rows(2, Q8_VECTORS, s, r0, v);
            break;
        case 3:
            weigh_q8_rows(3, Q8_VECTORS, s, r0, v);
            break;
#if V16_BATCH == 4
        case 4:
            weigh_q8_rows(4, Q8_VECTORS, s, r0, v);
            break;
        case 5:
            weigh_q8_rows(5, Q8_VECTORS, s, r0, v);
            break;
        default:
            weigh_q8_rows(6, Q8_VECTORS, s, r0, v);
            break;
#endif
        }
    }
}


/* The terms of rows [0, rows) of t times its values; terms of keys that a row
 * does not see are zero. */
static void
weigh_values_q8(const struct chunk *c, uint32_t rows, const struct tile *t,
                const struct target *to)
{
    uint32_t padded = round_up_16(c->a->head_dim);

    uint32_t n_groups = kv_groups(c->a->head_dim);
    struct q8_terms terms;

    scale_terms(c, rows, t, n_groups, &terms);
    integer_terms(n_groups * rows, &terms);
    for (uint32_t g = 0; g < n_groups; g++) {
        struct q8_sums s = {
            .u = (const int16_t(*)[AXK_ATTN_KEYS])terms.u + g * rows,
            .unit = terms.unit + g * rows,
            .ahead = t->ahead,
            .pair = {t->lo[0] / 2, (t->hi[rows - 1] + 1) / 2},
            .columns = padded - g * AXK_QK,
            .to = *to,
        };

        s.to.o += g * AXK_QK;
        for (uint32_t half = 0; half < 2; half++) {
            s.values[half] = kv_q8_values(c->a, t->blocks[half], c->kv_head, g);
        }
        for (uint32_t r = 0; r < rows; r += Q8_ROWS) {
            weigh_q8_group(rows - r < Q8_ROWS ? rows - r : Q8_ROWS, &s, r);
        }
    }
}
