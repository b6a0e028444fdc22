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


/*
 * Rows of queries times 16 n_vectors keys of one block; keys points at the
 * block's first group, vector at the first of its two vectors of keys.
 * ahead: bytes to the same place in the next tile.
 */
INLINE void
score_q8_rows(const uint32_t rows, const uint32_t n_vectors,
              const uint8_t *keys, const uint32_t vector, const uint32_t *q,
              uint32_t n_groups, float *p, ptrdiff_t ahead)
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
            v16_store(p + r * AXK_ATTN_KEYS + 16 * v, acc[r][v]);
        }
    }
}


static void
score_q8_block(uint32_t rows, const uint8_t *keys, const uint32_t *q,
               uint32_t n_groups, float *p, ptrdiff_t ahead)
{
    for (uint32_t v = 0; v < 2; v += Q8_VECTORS) {
        switch (rows) {
        case 1:
            score_q8_rows(1, Q8_VECTORS, keys, v, q, n_groups, p + 16 * v,
                          ahead);
            break;
        case 2:
            score_q8_rows(2, Q8_VECTORS, keys, v, q, n_groups, p + 16 * v,
                          ahead);
            break;
        case 3:
            score_q8_rows(3, Q8_VECTORS, keys, v, q, n_groups, p + 16 * v,
                          ahead);
            break;
#if V16_BATCH == 4
        case 4:
            score_q8_rows(4, Q8_VECTORS, keys, v, q, n_groups, p + 16 * v,
                          ahead);
            break;
        case 5:
            score_q8_rows(5, Q8_VECTORS, keys, v, q, n_groups, p + 16 * v,
                          ahead);
            break;
        default:
            score_q8_rows(6, Q8_VECTORS, keys, v, q, n_groups, p + 16 * v,
                          ahead);
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
                           c->q.q8 + r0 + r, n_groups,
                           t->p[r] + AXK_KV_TOKENS * half, t->ahead[half]);
        }
    }
}


/* Terms p of a row times the scales of a group, into w; returns the bits of
 * the largest.  scales: of the tile's two blocks. */
INLINE uint32_t
scaled_terms(const float *p, const uint16_t *const *scales, float *w)
{
    v16i top = v16i_set1(0);

    for (uint32_t v = 0; v < 4; v++) {
        v16 terms = v16_load(p + 16 * v);
        v16 x = v16_mul(terms, v16_load_f16(scales[v / 2] + v % 2 * 16));

        x = v16_select_lt(v16_set1(0), terms, x, v16_set1(0));
        top = v16i_max_u32(top, v16i_magnitude(x));
        v16_store(w + 16 * v, x);
    }
    return v16i_largest_u32(top);
}


/* Those of all rows as 15-bit integers u with a unit for each row; top: the
 * bits of a row's largest. */
INLINE void
integer_terms(uint32_t rows, const float (*w)[AXK_ATTN_KEYS],
              const uint32_t *top, int16_t (*u)[AXK_ATTN_KEYS], float *unit)
{
    float largest[16] = {0};
    float inverse[16];

    memcpy(largest, top, rows * sizeof(*top));
    v16 x = v16_load(largest);
    v16 small = v16_set1(AXK_D_MIN);

    v16_store(inverse, v16_select_lt(x, small, v16_set1(0),
                                     v16_div(v16_set1(AXK_KV_Q8_TERM_MAX), x)));
    v16_store(unit, v16_select_lt(x, small, v16_set1(0),
                                  v16_div(x, v16_set1(AXK_KV_Q8_TERM_MAX))));
    for (uint32_t r = 0; r < rows; r++) {
        if (top[r] >= 0x7f800000) {
            memset(u[r], 0, sizeof(u[r]));
            unit[r] = float_of(0x7fc00000);
            continue;
        }
        for (uint32_t v = 0; v < 64; v += 16) {
            v16i_store_i16(u[r] + v,
                           v16_round_even(v16_mul(v16_load(w[r] + v),
                                                  v16_set1(inverse[r]))));
        }
    }
}


/* Rows of integer terms times 16 n_vectors elements of a group, over the
 * pairs [pair[0], pair[1]) of the tile; values: its two blocks. */
INLINE void
weigh_q8_rows(const uint32_t rows, const uint32_t n_vectors,
              const int16_t (*u)[AXK_ATTN_KEYS], const uint8_t *const *values,
              uint32_t vector, const uint32_t *pair, const float *unit,
              float *o, const ptrdiff_t *ahead)
{
    v16i sum[6][2];

    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t v = 0; v < n_vectors; v++) {
            sum[r][v] = v16i_set1(0);
        }
    }
    for (uint32_t j = pair[0]; j < pair[1]; j++) {
        const uint8_t *line = values[j / 16] + 64 + j % 16 * 64 + 32 * vector;
        v16i two[2];

        __builtin_prefetch(line + ahead[j / 16], 0, 2);
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
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t v = 0; v < n_vectors; v++) {
            v16_store(o + r * ROW_FLOATS + 16 * v,
                      v16_mul(v16i_to_f32(sum[r][v]), v16_set1(unit[r])));
        }
    }
}


static void
weigh_q8_group(uint32_t rows, const int16_t (*u)[AXK_ATTN_KEYS],
               const uint8_t *const *values, const uint32_t *pair,
               const float *unit, float *o, const ptrdiff_t *ahead)
{
    for (uint32_t v = 0; v < 2; v += Q8_VECTORS) {
        switch (rows) {
        case 1:
            weigh_q8_rows(1, Q8_VECTORS, u, values, v, pair, unit, o + 16 * v,
                          ahead);
            break;
        case 2:
            weigh_q8_rows(2, Q8_VECTORS, u, values, v, pair, unit, o + 16 * v,
                          ahead);
            break;
        case 3:
            weigh_q8_rows(3, Q8_VECTORS, u, values, v, pair, unit, o + 16 * v,
                          ahead);
            break;
#if V16_BATCH == 4
        case 4:
            weigh_q8_rows(4, Q8_VECTORS, u, values, v, pair, unit, o + 16 * v,
                          ahead);
            break;
        case 5:
            weigh_q8_rows(5, Q8_VECTORS, u, values, v, pair, unit, o + 16 * v,
                          ahead);
            break;
        default:
            weigh_q8_rows(6, Q8_VECTORS, u, values, v, pair, unit, o + 16 * v,
                          ahead);
            break;
#endif
        }
    }
}


/* o of rows [0, rows) of t; terms of keys that a row does not see are zero. */
static void
add_values_q8(const struct chunk *c, uint32_t rows, struct tile *t)
{
    const uint32_t pair[2] = {t->lo[0] / 2, (t->hi[rows - 1] + 1) / 2};

    for (uint32_t g = 0; g < kv_groups(c->a->head_dim); g++) {
        float w[BLOCK_MAX][AXK_ATTN_KEYS] __attribute__((aligned(64)));
        int16_t u[BLOCK_MAX][AXK_ATTN_KEYS] __attribute__((aligned(64)));
        uint32_t top[BLOCK_MAX];
        float unit[16];
        const uint8_t *values[2];
        const uint16_t *scales[2];

        for (uint32_t half = 0; half < 2; half++) {
            values[half] = kv_q8_values(c->a, t->blocks[half], c->kv_head, g);
            scales[half] = (const uint16_t *)values[half];
        }
        for (uint32_t r = 0; r < rows; r++) {
            top[r] = scaled_terms(t->p[r], scales, w[r]);
        }
        integer_terms(rows, w, top, u, unit);
        for (uint32_t r = 0; r < rows; r += Q8_ROWS) {
            weigh_q8_group(rows - r < Q8_ROWS ? rows - r : Q8_ROWS, u + r,
                           values, pair, unit + r, t->o[r] + g * AXK_QK,
                           t->ahead);
        }
    }
}
