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
 * holds does not matter.
 */

#include "kernels/axk.h"
#include "kernels/internal.h"

#define MINUS_INFINITY (-float_of(0x7f800000))

/* The running result of one query head. */
struct state {
    float m;
    float l;
    float o[AXK_HEAD_DIM_MAX];
};


static float
score(const struct axk_attention *a, const float *q, const uint16_t *keys,
      uint32_t slot)
{
    float dot = 0;

    for (uint32_t i = 0; i < a->head_dim; i++) {
        float k = axk_f16_to_f32(keys[(size_t)i * AXK_KV_TOKENS + slot]);
        dot = fma_exact(q[i], k, dot);
    }
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


static void
tile_of_head(const struct axk_attention *a, const float *q, uint32_t kv_head,
             uint32_t pos, uint32_t tile, struct state *out)
{
    uint32_t base = tile * AXK_ATTN_KEYS;
    uint32_t first = first_visible(a, pos);
    uint32_t lo = first > base ? first - base : 0;
    uint32_t hi = pos - base < AXK_ATTN_KEYS ? pos - base + 1 : AXK_ATTN_KEYS;
    float p[AXK_ATTN_KEYS] = {0};

    out->m = MINUS_INFINITY;
    for (uint32_t j = lo; j < hi; j++) {
        const uint16_t *keys =
            kv_head_of(a, (base + j) / AXK_KV_TOKENS, kv_head);

        p[j] = score(a, q, keys, j % AXK_KV_TOKENS);
        out->m = p[j] > out->m ? p[j] : out->m;
    }
    memset(out->o, 0, a->head_dim * sizeof(float));

    for (uint32_t j = lo; j < hi; j++) {
        const uint16_t *values =
            kv_head_of(a, (base + j) / AXK_KV_TOKENS, kv_head) +
            (size_t)a->head_dim * AXK_KV_TOKENS +
            (size_t)(j % AXK_KV_TOKENS) * round_up_16(a->head_dim);

        p[j] = axk_exp32(p[j] - out->m);
        for (uint32_t i = 0; i < a->head_dim; i++) {
            out->o[i] = fma_exact(p[j], axk_f16_to_f32(values[i]), out->o[i]);
        }
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
    struct state whole;
    struct state tile;

    for (uint32_t head = kv_head0 * group; head < kv_head1 * group; head++) {
        for (uint32_t q = q0; q < q1; q++) {
            uint32_t first;
            uint32_t end;

            axk_attention_tiles(a, q, &first, &end);
            start(&whole, a->head_dim);
            for (uint32_t i = first; i < end; i++) {
                tile_of_head(
                    a, a->q + q * a->q_stride + (size_t)head * a->head_dim,
                    head / group, a->pos0 + q, i, &tile);
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
    struct state tile;

    for (uint32_t g = 0; g < group; g++) {
        uint32_t head = kv_head * group + g;

        for (uint32_t i = tile0; i < tile1; i++) {
            float *record =
                partials + ((size_t)head * n_tiles + i) * record_floats;

            tile_of_head(a, a->q + q * a->q_stride + (size_t)head * a->head_dim,
                         kv_head, a->pos0 + q, i, &tile);
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
