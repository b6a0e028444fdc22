/*
 * The reference attention.  Keys are cut into tiles of 64 at absolute
 * positions.  Each tile gives, on its own,
 *
 *   s_j = scale * (chain of fma over the head's elements, ascending)
 *   m_t = max s_j,  p_j = exp(s_j - m_t),  l_t = sum p_j (16 lanes: j, j+16,
 *         j+32, j+48 as (a + b) + (c + d), then folded)
 *   o_t = chain of fma over the visible keys, ascending, of p_j * v_j
 *
 * and the tiles are merged in ascending order:
 *
 *   m' = max(m, m_t)   l = fma(l_t, exp(m_t - m'), l * exp(m - m'))
 *   the same for o;    out = o / l
 *
 * A tile knows nothing of the others, so the result does not depend on who
 * computed which tile, nor on the number of queries in a call.  Keys that a
 * query does not see are not read into it at all: what an unwritten slot
 * holds does not matter.  KV as bf16 differs from f16 in nothing but how a
 * stored half becomes a float.
 *
 * With KV as q8_0 the two sums are integer dots.  The query is quantized to
 * Q8 records, and
 *
 *   s_j = scale * (acc = fma(dot of 32, d_k * d_q, acc), groups ascending)
 *
 * For the values, each group of 32 elements takes the terms times its own
 * scales, w_j = p_j * d_v[j] (0 where p_j is 0), as integers of 15 bits:
 *
 *   top = max w_j,  u_j = round_even(w_j * (32767 / top)),
 *   o_t = (float)(sum u_j * v_j) * (top / 32767)
 *
 * with all u and the factor zero where top < 2^-100, the factor NaN where top
 * is not finite.  64 * 32767 * 127 fits 32 bits.
 */

#include "kernels/axk.h"
#include "kernels/internal.h"
#include "kernels/codes.h"
#include "kernels/kv_q8.h"

#define MINUS_INFINITY (-float_of(0x7f800000))

/* The running result of one query head. */
struct state {
    float m;
    float l;
    float o[AXK_HEAD_DIM_MAX];
};

/* One query head, as the type of the cache wants it. */
struct query {
    const float *f32;
    uint32_t q8[AXK_HEAD_DIM_MAX / AXK_QK * AXK_ACT_WORDS];
};


static void
start_query(const struct axk_attention *a, const float *q, struct query *out)
{
    float padded[AXK_HEAD_DIM_MAX];

    out->f32 = q;
    if (a->kv_type == AXK_KV_Q8_0) {
        axk_ops_scalar.quantize(AXK_ACT_Q8,
                                whole_groups(q, a->head_dim, padded), 0, 1,
                                kv_groups(a->head_dim) * AXK_QK, 0, 1, out->q8);
    }
}


/* A stored element of f16 or bf16. */
static float
widen(const struct axk_attention *a, uint16_t h)
{
    return a->kv_type == AXK_KV_BF16 ? axk_bf16_to_f32(h) : axk_f16_to_f32(h);
}


static float
dot_halves(const struct axk_attention *a, const float *q, uint32_t kv_head,
           uint32_t pos)
{
    const uint16_t *key =
        (const uint16_t *)kv_head_of(a, pos / AXK_KV_TOKENS, kv_head) +
        kv_key_halves(pos % AXK_KV_TOKENS, a->head_dim);
    float dot = 0;

    for (uint32_t i = 0; i < a->head_dim; i++) {
        dot = fma_exact(q[i], widen(a, key[i * KV_RUN]), dot);
    }
    return dot;
}


static float
dot_q8(const struct axk_attention *a, const uint32_t *records, uint32_t kv_head,
       uint32_t pos)
{
    uint32_t slot = pos % AXK_KV_TOKENS;
    float acc = 0;

    for (uint32_t g = 0; g < kv_groups(a->head_dim); g++) {
        const uint8_t *keys = kv_q8_keys(a, pos / AXK_KV_TOKENS, kv_head, g);
        const uint32_t *record = records + (size_t)g * AXK_ACT_WORDS;
        const int8_t *q = (const int8_t *)record;
        int32_t dot = 0;

        for (uint32_t j = 0; j < AXK_QK; j++) {
            dot += integer_of(AXK_Q8_0, keys, slot, j) * q[j];
        }
        float d = half_at(AXK_Q8_0, keys, slot) * float_of(record[AXK_ACT_D]);
        acc = fma_exact((float)dot, d, acc);
    }
    return acc;
}


static float
score(const struct axk_attention *a, const struct query *q, uint32_t kv_head,
      uint32_t pos)
{
    float dot = a->kv_type == AXK_KV_Q8_0 ? dot_q8(a, q->q8, kv_head, pos)
                                          : dot_halves(a, q->f32, kv_head, pos);
    float s = dot * a->scale;

    if (a->softcap != 0) {
        float e = axk_exp32(2.0f * (s / a->softcap));
        s = a->softcap * (1.0f - 2.0f / (e + 1.0f));
    }
    return s;
}


/* The sum of 64 terms in the order above. */
static float
sum_tile(const float *p)
{
    float lanes[16];

    for (int i = 0; i < 16; i++) {
        lanes[i] = (p[i] + p[i + 16]) + (p[i + 32] + p[i + 48]);
    }
    for (int half = 8; half >= 1; half /= 2) {
        for (int i = 0; i < half; i++) {
            lanes[i] = lanes[i] + lanes[i + half];
        }
    }
    return lanes[0];
}


/* o += the terms [lo, hi) of the tile times their values. */
static void
weigh_halves(const struct axk_attention *a, uint32_t kv_head, uint32_t base,
             const float *p, uint32_t lo, uint32_t hi, float *o)
{
    for (uint32_t j = lo; j < hi; j++) {
        const uint16_t *values =
            (const uint16_t *)kv_head_of(a, (base + j) / AXK_KV_TOKENS,
                                         kv_head) +
            (size_t)a->head_dim * AXK_KV_TOKENS +
            (size_t)(j % AXK_KV_TOKENS) * round_up_16(a->head_dim);

        for (uint32_t i = 0; i < a->head_dim; i++) {
            o[i] = fma_exact(p[j], widen(a, values[i]), o[i]);
        }
    }
}


/* Terms times the scales of one group as integers; returns their unit. */
static float
integer_terms(const struct axk_attention *a, uint32_t kv_head, uint32_t base,
              const float *p, uint32_t lo, uint32_t hi, uint32_t group,
              int32_t *u)
{
    float w[AXK_ATTN_KEYS];
    uint32_t top = 0;

    for (uint32_t j = lo; j < hi; j++) {
        const uint8_t *values =
            kv_q8_values(a, (base + j) / AXK_KV_TOKENS, kv_head, group);

        w[j] =
            p[j] > 0 ? p[j] * half_at(AXK_Q8_0, values, j % AXK_KV_TOKENS) : 0;
        uint32_t magnitude = bits_of(w[j]) & 0x7fffffff;
        top = magnitude > top ? magnitude : top;
        u[j] = 0;
    }
    if (top >= 0x7f800000) {
        return float_of(0x7fc00000);
    }
    if (float_of(top) < AXK_D_MIN) {
        return 0;
    }
    float inverse = AXK_KV_Q8_TERM_MAX / float_of(top);

    for (uint32_t j = lo; j < hi; j++) {
        float t = w[j] * inverse + AXK_ROUND_MAGIC;
        u[j] = (int32_t)(bits_of(t) - AXK_ROUND_MAGIC_BITS);
    }
    return float_of(top) / AXK_KV_Q8_TERM_MAX;
}


static void
weigh_q8(const struct axk_attention *a, uint32_t kv_head, uint32_t base,
         const float *p, uint32_t lo, uint32_t hi, float *o)
{
    for (uint32_t g = 0; g < kv_groups(a->head_dim); g++) {
        int32_t u[AXK_ATTN_KEYS];
        float unit = integer_terms(a, kv_head, base, p, lo, hi, g, u);

        for (uint32_t e = 0; e < AXK_QK && g * AXK_QK + e < a->head_dim; e++) {
            int32_t sum = 0;

            for (uint32_t j = lo; j < hi; j++) {
                const int8_t *values = (const int8_t *)kv_q8_values(
                    a, (base + j) / AXK_KV_TOKENS, kv_head, g);
                uint32_t slot = j % AXK_KV_TOKENS;

                sum += u[j] * values[64 + slot / 2 * 64 + 2 * e + slot % 2];
            }
            o[g * AXK_QK + e] = (float)sum * unit;
        }
    }
}


static void
tile_of_head(const struct axk_attention *a, const struct query *q,
             uint32_t kv_head, uint32_t pos, uint32_t tile, struct state *out)
{
    uint32_t base = tile * AXK_ATTN_KEYS;
    uint32_t first = first_visible(a, pos);
    uint32_t lo = first > base ? first - base : 0;
    uint32_t hi = pos - base < AXK_ATTN_KEYS ? pos - base + 1 : AXK_ATTN_KEYS;
    float p[AXK_ATTN_KEYS] = {0};

    out->m = MINUS_INFINITY;
    for (uint32_t j = lo; j < hi; j++) {
        p[j] = score(a, q, kv_head, base + j);
        out->m = p[j] > out->m ? p[j] : out->m;
    }
    for (uint32_t j = lo; j < hi; j++) {
        p[j] = axk_exp32(p[j] - out->m);
    }
    memset(out->o, 0, a->head_dim * sizeof(float));
    if (a->kv_type == AXK_KV_Q8_0) {
        weigh_q8(a, kv_head, base, p, lo, hi, out->o);
    } else {
        weigh_halves(a, kv_head, base, p, lo, hi, out->o);
    }
    out->l = sum_tile(p);
}


static void
merge_tile(struct state *s, float m, float l, const float *o, uint32_t n)
{
    float m_new = m > s->m ? m : s->m;
    float old_part = axk_exp32(s->m - m_new);
    float new_part = axk_exp32(m - m_new);

    s->m = m_new;
    s->l = fma_exact(l, new_part, s->l * old_part);
    for (uint32_t i = 0; i < n; i++) {
        s->o[i] = fma_exact(o[i], new_part, s->o[i] * old_part);
    }
}


static void
start(struct state *s, uint32_t n)
{
    s->m = MINUS_INFINITY;
    s->l = 0;
    memset(s->o, 0, n * sizeof(float));
}


static void
finish(const struct axk_attention *a, uint32_t q, uint32_t head,
       const struct state *s)
{
    float *out = a->out + q * a->out_stride + (size_t)head * a->head_dim;

    for (uint32_t i = 0; i < a->head_dim; i++) {
        out[i] = s->o[i] / s->l;
    }
}


void
axk_attention_tiles(const struct axk_attention *a, uint32_t q, uint32_t *first,
                    uint32_t *end)
{
    uint32_t pos = a->pos0 + q;

    *first = first_visible(a, pos) / AXK_ATTN_KEYS;
    *end = pos / AXK_ATTN_KEYS + 1;
}


void
axk_attention_ahead(struct axk_attention *a, const struct axk_attention *b,
                    uint32_t kv_head, uint32_t q, uint32_t tile)
{
    uint32_t pos = b->pos0 + q;
    uint32_t first = first_visible(b, pos) / AXK_KV_TOKENS;
    uint32_t last = pos / AXK_KV_TOKENS;

    for (uint32_t half = 0; half < 2; half++) {
        uint32_t i = tile * (AXK_ATTN_KEYS / AXK_KV_TOKENS) + half;
        bool some = i >= first && i <= last;
        a->next[half] = some ? kv_head_of(b, i, kv_head) : NULL;
    }
}


/* A record: m, l, 14 unused words (so that o is aligned), o. */
size_t
axk_attention_partial_floats(uint32_t head_dim)
{
    return 16 + round_up_16(head_dim);
}


void
axk_attention_scalar(const struct axk_attention *a, uint32_t kv_head0,
                     uint32_t kv_head1, uint32_t q0, uint32_t q1)
{
    uint32_t group = a->n_head / a->n_head_kv;
    struct query query;
    struct state whole;
    struct state tile;

    for (uint32_t head = kv_head0 * group; head < kv_head1 * group; head++) {
        for (uint32_t q = q0; q < q1; q++) {
            uint32_t first;
            uint32_t end;

            axk_attention_tiles(a, q, &first, &end);
            start(&whole, a->head_dim);
            start_query(a, a->q + q * a->q_stride + (size_t)head * a->head_dim,
                        &query);
            for (uint32_t i = first; i < end; i++) {
                tile_of_head(a, &query, head / group, a->pos0 + q, i, &tile);
                merge_tile(&whole, tile.m, tile.l, tile.o, a->head_dim);
            }
            finish(a, q, head, &whole);
        }
    }
}


void
axk_attention_partial_scalar(const struct axk_attention *a, uint32_t kv_head,
                             uint32_t q, uint32_t tile0, uint32_t tile1,
                             float *partials)
{
    uint32_t group = a->n_head / a->n_head_kv;
    size_t record_floats = axk_attention_partial_floats(a->head_dim);
    uint32_t n_tiles = (a->pos0 + q) / AXK_ATTN_KEYS + 1;
    struct query query;
    struct state tile;

    for (uint32_t g = 0; g < group; g++) {
        uint32_t head = kv_head * group + g;

        start_query(a, a->q + q * a->q_stride + (size_t)head * a->head_dim,
                    &query);
        for (uint32_t i = tile0; i < tile1; i++) {
            float *record =
                partials + ((size_t)head * n_tiles + i) * record_floats;

            tile_of_head(a, &query, kv_head, a->pos0 + q, i, &tile);
            record[0] = tile.m;
            record[1] = tile.l;
            memcpy(record + 16, tile.o, a->head_dim * sizeof(float));
        }
    }
}


void
axk_attention_merge_scalar(const struct axk_attention *a, uint32_t kv_head,
                           uint32_t q, const float *partials)
{
    uint32_t group = a->n_head / a->n_head_kv;
    size_t record_floats = axk_attention_partial_floats(a->head_dim);
    uint32_t n_tiles = (a->pos0 + q) / AXK_ATTN_KEYS + 1;
    uint32_t first;
    uint32_t end;
    struct state whole;

    axk_attention_tiles(a, q, &first, &end);
    for (uint32_t g = 0; g < group; g++) {
        uint32_t head = kv_head * group + g;

        start(&whole, a->head_dim);
        for (uint32_t i = first; i < end; i++) {
            const float *record =
                partials + ((size_t)head * n_tiles + i) * record_floats;
            merge_tile(&whole, record[0], record[1], record + 16, a->head_dim);
        }
        finish(a, q, head, &whole);
    }
}
