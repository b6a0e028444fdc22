/*
 * Shows that paged attention gives the reference's bits on every instruction
 * set, for all head layouts, windows and caps; that the bits do not depend on
 * how queries are cut into calls or keys over threads, nor on what unwritten
 * slots and freed blocks hold; and that the reference is softmax attention.
 */

#include <math.h>

#include "tests/kernels/check.h"

struct shape {
    uint32_t n_head;
    uint32_t n_head_kv;
    uint32_t head_dim;
    uint32_t n_tokens; /* positions written */
    uint32_t n_q;      /* the last of them asked for */
    uint32_t window;
    float softcap;
};

static const struct shape shapes[] = {
    { 1, 1, 1, 1, 1, 0, 0 },       { 9, 3, 64, 200, 1, 0, 0 },
    { 9, 3, 64, 130, 130, 0, 0 },  { 4, 4, 16, 97, 40, 0, 0 },
    { 8, 1, 128, 150, 3, 0, 0 },   { 2, 2, 80, 70, 70, 0, 0 },
    { 32, 1, 40, 66, 5, 0, 0 },    { 6, 2, 64, 300, 90, 50, 0 },
    { 4, 2, 64, 200, 200, 64, 0 }, { 4, 2, 32, 140, 17, 1, 0 },
    { 4, 2, 256, 100, 7, 0, 50 },  { 2, 1, 512, 65, 2, 0, 0 },
    { 3, 1, 24, 128, 128, 33, 20 },
};

/* A sequence in scattered blocks, with its queries. */
struct sequence {
    struct axk_attention a;
    float *k; /* [n_tokens][n_head_kv * head_dim], before f16 */
    float *v;
    size_t n_out;
};


/* NaN in the last position's K, infinities in the V of another. */
static void
spoil(struct sequence *s, const struct shape *h)
{
    size_t kv_width = (size_t)h->n_head_kv * h->head_dim;

    s->k[h->n_tokens * kv_width - 1] = NAN;
    s->v[h->n_tokens / 2 * kv_width] = INFINITY;
    s->v[h->n_tokens / 2 * kv_width + kv_width - 1] = -INFINITY;
}


/* kind 0: ordinary; 1: extremes as queries; 2: ones of both signs; 3: extremes
 * as keys and values; 4: some of them not finite. */
#define KINDS 5

static void
make_sequence(struct sequence *s, const struct shape *h, int kind,
              enum axk_kv_type type)
{
    static const int kv_kind[KINDS] = { 0, 0, 2, 1, 0 };
    uint32_t n_blocks = (h->n_tokens + AXK_KV_TOKENS - 1) / AXK_KV_TOKENS;
    size_t kv_width = (size_t)h->n_head_kv * h->head_dim;
    size_t q_width = (size_t)h->n_head * h->head_dim;
    size_t block_bytes = axk_kv_block_bytes(type, h->n_head_kv, h->head_dim);
    uint32_t *table = check_alloc(n_blocks * sizeof(*table));
    float *q = check_alloc(h->n_q * q_width * 4);
    /* 0xa5 bytes are finite halves; NaN in unwritten slots must not show */
    uint8_t *blocks = check_alloc(block_bytes * (n_blocks + 1));
    memset(blocks, 0xff, block_bytes * (n_blocks + 1));

    s->k = check_alloc(h->n_tokens * kv_width * 4);
    s->v = check_alloc(h->n_tokens * kv_width * 4);
    check_fill(s->k, h->n_tokens * kv_width, kv_kind[kind]);
    check_fill(s->v, h->n_tokens * kv_width, kv_kind[kind]);
    check_fill(q, h->n_q * q_width, kind < 3 ? kind : 0);
    if (kind == 4) {
        spoil(s, h);
    }
    for (uint32_t i = 0; i < n_blocks; i++) {
        table[i] = n_blocks - i; /* backwards; block 0 stays unused */
    }
    for (uint32_t t = 0; t < h->n_tokens; t++) {
        check_reference->kv_write(
            type, blocks + table[t / AXK_KV_TOKENS] * block_bytes,
            t % AXK_KV_TOKENS, 0, h->n_head_kv * h->head_dim,
            s->k + t * kv_width, s->v + t * kv_width, h->head_dim);
    }
    s->a = (struct axk_attention){ .q = q,
                                   .q_stride = q_width,
                                   .out_stride = q_width,
                                   .n_q = h->n_q,
                                   .pos0 = h->n_tokens - h->n_q,
                                   .n_head = h->n_head,
                                   .n_head_kv = h->n_head_kv,
                                   .head_dim = h->head_dim,
                                   .kv_type = type,
                                   .kv_base = blocks,
                                   .kv_block_stride = block_bytes,
                                   .block_table = table,
                                   .window = h->window,
                                   .scale = 0.125f,
                                   .softcap = h->softcap };
    s->n_out = h->n_q * q_width;
}


static void
run(const struct axk_ops *ops, struct sequence *s, float *out)
{
    s->a.out = out;
    ops->attention(&s->a, 0, s->a.n_head_kv, 0, s->a.n_q);
}


static void
attention_equals_reference(void **state, enum axk_kv_type type)
{
    for (size_t i = 0; i < N_ELEMS(shapes); i++) {
        for (int kind = 0; kind < KINDS; kind++) {
            struct sequence s;

            if (check_tiny && shapes[i].n_q > 100) {
                continue;
            }
            make_sequence(&s, &shapes[i], kind, type);
            float *a = check_alloc(s.n_out * 4);
            float *b = check_alloc(s.n_out * 4);

            run(check_reference, &s, a);
            for (int j = 0; check_isas[j] != NULL; j++) {
                char what[40];
                snprintf(what, sizeof(what), "attention, shape %zu", i);
                run(check_isas[j], &s, b);
                check_same(what, check_isas[j]->isa, a, b, s.n_out);
            }
            check_free_all(state);
        }
    }
}


/* Queries one at a time, in sevens, and head by head: the same bits. */
static void
attention_chunk_invariant(void **state, enum axk_kv_type type)
{
    for (size_t i = 0; i < N_ELEMS(shapes); i++) {
        struct sequence s;

        make_sequence(&s, &shapes[i], 0, type);
        float *whole = check_alloc(s.n_out * 4);
        float *parts = check_alloc(s.n_out * 4);

        for (int j = 0; check_isas[j] != NULL; j++) {
            run(check_isas[j], &s, whole);
            for (uint32_t step = 1; step <= 7; step += 6) {
                s.a.out = parts;
                memset(parts, 0, s.n_out * 4);
                for (uint32_t q = 0; q < s.a.n_q; q += step) {
                    uint32_t end = s.a.n_q - q < step ? s.a.n_q : q + step;
                    for (uint32_t h = 0; h < s.a.n_head_kv; h++) {
                        check_isas[j]->attention(&s.a, h, h + 1, q, end);
                    }
                }
                check_same("chunks", check_isas[j]->isa, whole, parts,
                           s.n_out);
            }
        }
        check_free_all(state);
    }
}


/* Keys split over threads in any pieces: the same bits. */
static void
attention_key_split_invariant(void **state, enum axk_kv_type type)
{
    for (size_t i = 0; i < N_ELEMS(shapes); i++) {
        const struct axk_ops *all[CHECK_ISAS_MAX + 1] = { check_reference };
        struct sequence s;

        make_sequence(&s, &shapes[i], 0, type);
        float *whole = check_alloc(s.n_out * 4);
        float *parts = check_alloc(s.n_out * 4);
        uint32_t n_tiles = shapes[i].n_tokens / AXK_ATTN_KEYS + 1;
        float *partials =
            check_alloc(axk_attention_partial_floats(s.a.head_dim) * n_tiles
                        * s.a.n_head * 4);

        memcpy(all + 1, check_isas, sizeof(check_isas));
        run(check_reference, &s, whole);
        for (int j = 0; all[j] != NULL; j++) {
            s.a.out = parts;
            for (uint32_t q = 0; q < s.a.n_q; q += 9) {
                for (uint32_t h = 0; h < s.a.n_head_kv; h++) {
                    uint32_t first;
                    uint32_t end;

                    axk_attention_tiles(&s.a, q, &first, &end);
                    uint32_t middle = (first + end) / 2;
                    all[j]->attention_partial(&s.a, h, q, middle, end,
                                              partials);
                    all[j]->attention_partial(&s.a, h, q, first, middle,
                                              partials);
                    all[j]->attention_merge(&s.a, h, q, partials);
                }
                check_same("split keys", all[j]->isa,
                           whole + q * s.a.out_stride,
                           parts + q * s.a.out_stride, s.a.out_stride);
            }
        }
        check_free_all(state);
    }
}


/* Blocks wholly behind the window may be gone: their entries are not read
 * as data (here they point at a block of NaN). */
static void
attention_window_frees_blocks(void **state, enum axk_kv_type type)
{
    static const struct shape h = { 4, 2, 64, 400, 3, 70, 0 };
    struct sequence s;

    make_sequence(&s, &h, 0, type);
    float *a = check_alloc(s.n_out * 4);
    float *b = check_alloc(s.n_out * 4);
    uint32_t *table = (uint32_t *)s.a.block_table;
    uint32_t visible = (s.a.pos0 - 69) / AXK_KV_TOKENS;

    for (int j = 0; check_isas[j] != NULL; j++) {
        run(check_isas[j], &s, a);
        for (uint32_t i = 0; i < visible; i++) {
            table[i] = UINT32_MAX; /* a fault if it were followed */
        }
        run(check_isas[j], &s, b);
        check_same("window", check_isas[j]->isa, a, b, s.n_out);
        for (uint32_t i = 0; i < visible; i++) {
            table[i] = (h.n_tokens + 31) / 32 - i;
        }
    }
    check_free_all(state);
}


static double
score(const struct sequence *s, const float *q, uint32_t kv_head, uint32_t pos)
{
    const float *k =
        s->k + ((size_t)pos * s->a.n_head_kv + kv_head) * s->a.head_dim;
    double dot = 0;

    for (uint32_t i = 0; i < s->a.head_dim; i++) {
        dot += (double)q[i] * (double)k[i];
    }
    dot *= (double)s->a.scale;
    return s->a.softcap == 0
               ? dot
               : (double)s->a.softcap * tanh(dot / (double)s->a.softcap);
}


/* One output element by the textbook formula in double. */
static double
expected(const struct sequence *s, uint32_t q, uint32_t head, uint32_t i)
{
    uint32_t kv_head = head / (s->a.n_head / s->a.n_head_kv);
    uint32_t pos = s->a.pos0 + q;
    uint32_t first =
        s->a.window != 0 && pos >= s->a.window ? pos - s->a.window + 1 : 0;
    double sum = 0;
    double total = 0;

    for (uint32_t p = first; p <= pos; p++) {
        size_t row = ((size_t)p * s->a.n_head_kv + kv_head) * s->a.head_dim;
        double e = exp(score(
            s, s->a.q + q * s->a.q_stride + (size_t)head * s->a.head_dim,
            kv_head, p));
        total += e;
        sum += e * (double)s->v[row + i];
    }
    return sum / total;
}


static void
reference_is_softmax_attention(void **state, enum axk_kv_type type)
{
    for (size_t i = 0; i < N_ELEMS(shapes); i++) {
        struct sequence s;

        make_sequence(&s, &shapes[i], 0, type);
        float *out = check_alloc(s.n_out * 4);
        run(check_reference, &s, out);
        for (size_t n = 0; n < s.n_out; n += 1 + s.n_out / 200) {
            uint32_t q = (uint32_t)(n / s.a.out_stride);
            uint32_t head = (uint32_t)(n % s.a.out_stride / s.a.head_dim);
            double want = expected(&s, q, head,
                                   (uint32_t)(n % s.a.head_dim));
            /* bf16: 8 bits; q8_0: half a step in 127, in K, Q and V */
            static const double bounds[AXK_KV_TYPE_END] = {
                [AXK_KV_F16] = 2e-3,
                [AXK_KV_BF16] = 8e-3,
                [AXK_KV_Q8_0] = 1.5e-2,
            };
            double bound = bounds[type];
            assert_true(fabs(want - (double)out[n]) < bound);
        }
        check_free_all(state);
    }
}


/* A query that is not finite spoils its own head's output alone. */
static void
nonfinite_query_stays(void **state, enum axk_kv_type type, float bad)
{
    static const struct shape h = { 6, 2, 64, 100, 20, 0, 0 };
    const uint32_t at = 7 * 6 + 4; /* query 7, head 4 */
    struct sequence s;

    make_sequence(&s, &h, 0, type);
    float *q = check_alloc(s.n_out * 4);
    float *out = check_alloc(s.n_out * 4);

    memcpy(q, s.a.q, s.n_out * 4);
    q[at * h.head_dim + 11] = bad;
    s.a.q = q;
    for (int j = 0; check_isas[j] != NULL; j++) {
        run(check_isas[j], &s, out);
        for (size_t i = 0; i < s.n_out; i++) {
            assert_true(isfinite(out[i]) == (i / h.head_dim != at));
        }
    }
    check_free_all(state);
}


static void
test_nonfinite_query_stays_in_its_head(void **state)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY };

    for (uint32_t type = 0; type < AXK_KV_TYPE_END; type++) {
        for (size_t b = 0; b < N_ELEMS(bad); b++) {
            nonfinite_query_stays(state, type, bad[b]);
        }
    }
}


static void
test_attention_equals_reference(void **state)
{
    for (uint32_t type = 0; type < AXK_KV_TYPE_END; type++) {
        attention_equals_reference(state, type);
    }
}


static void
test_attention_chunk_invariant(void **state)
{
    for (uint32_t type = 0; type < AXK_KV_TYPE_END; type++) {
        attention_chunk_invariant(state, type);
    }
}


static void
test_attention_key_split_invariant(void **state)
{
    for (uint32_t type = 0; type < AXK_KV_TYPE_END; type++) {
        attention_key_split_invariant(state, type);
    }
}


/* The two blocks of a tile, as far as the query sees them. */
static void
check_ahead(const struct sequence *s, uint32_t kv_head, uint32_t q,
            uint32_t tile)
{
    const struct axk_attention *b = &s->a;
    size_t head =
        axk_kv_block_bytes(b->kv_type, b->n_head_kv, b->head_dim) /
        b->n_head_kv;
    uint32_t pos = b->pos0 + q;
    struct axk_attention a = *b;

    axk_attention_ahead(&a, b, kv_head, q, tile);
    for (uint32_t half = 0; half < 2; half++) {
        uint32_t i = 2 * tile + half;
        bool seen = i * AXK_KV_TOKENS <= pos &&
                    (b->window == 0 ||
                     (i + 1) * AXK_KV_TOKENS + b->window > pos + 1);
        const char *at = (const char *)b->kv_base +
                         b->block_table[seen ? i : 0] * b->kv_block_stride +
                         kv_head * head;

        assert_ptr_equal(a.next[half], seen ? at : NULL);
    }
}


/* Blocks that are fetched ahead, the same sequence's or none, show nowhere. */
static void
attention_fetches_ahead(void **state, enum axk_kv_type type)
{
    for (size_t i = 0; i < N_ELEMS(shapes); i++) {
        uint32_t kv_head = shapes[i].n_head_kv - 1;
        struct sequence s;

        if (shapes[i].n_q > 40) {
            continue;
        }
        make_sequence(&s, &shapes[i], 0, type);
        float *a = check_alloc(s.n_out * 4);
        float *b = check_alloc(s.n_out * 4);
        for (uint32_t q = 0; q < shapes[i].n_q; q++) {
            uint32_t first, end;
            axk_attention_tiles(&s.a, q, &first, &end);
            check_ahead(&s, kv_head, q, first);
            check_ahead(&s, kv_head, q, end - 1);
        }
        for (int j = 0; check_isas[j] != NULL; j++) {
            memset(s.a.next, 0, sizeof(s.a.next));
            run(check_isas[j], &s, a);
            for (uint32_t tile = 0; tile < 2; tile++) {
                axk_attention_ahead(&s.a, &s.a, kv_head, 0, tile);
                run(check_isas[j], &s, b);
                check_same("attention ahead", check_isas[j]->isa, a, b,
                           s.n_out);
            }
        }
        check_free_all(state);
    }
}


static void
test_attention_fetches_ahead(void **state)
{
    for (uint32_t type = 0; type < AXK_KV_TYPE_END; type++) {
        attention_fetches_ahead(state, type);
    }
}


static void
test_attention_window_frees_blocks(void **state)
{
    for (uint32_t type = 0; type < AXK_KV_TYPE_END; type++) {
        attention_window_frees_blocks(state, type);
    }
}


static void
test_reference_is_softmax_attention(void **state)
{
    for (uint32_t type = 0; type < AXK_KV_TYPE_END; type++) {
        reference_is_softmax_attention(state, type);
    }
}


#define TEST(name) cmocka_unit_test_teardown(name, check_free_all)

const struct CMUnitTest check_attention_tests[] = {
    TEST(test_attention_equals_reference),
    TEST(test_attention_chunk_invariant),
    TEST(test_attention_key_split_invariant),
    TEST(test_nonfinite_query_stays_in_its_head),
    TEST(test_attention_window_frees_blocks),
    TEST(test_attention_fetches_ahead),
    TEST(test_reference_is_softmax_attention),
};
const size_t check_attention_count = N_ELEMS(check_attention_tests);
