/*
 * Shows that packing, activation quantization and matmul give the reference's
 * bits on every instruction set, whatever the number of tokens, the split of
 * rows and the data, and that the reference is ggml's arithmetic.
 */

#include <math.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "tests/kernels/check.h"

/* One matrix, packed, with its source. */
struct matrix {
    uint32_t format;
    uint32_t n;
    uint32_t k;
    uint8_t *src;
    void *packed;
};


/* One block of a format as an independent program reads it. */
struct golden {
    uint32_t format;
    uint8_t block[256];
    float values[256];
};

#include "tests/kernels/format_goldens.inc.h"


static enum axk_act
act_of(uint32_t format)
{
    return axk_format_traits(format)->act;
}


static void
make_matrix(struct matrix *w, uint32_t format, uint32_t n, uint32_t k,
            int kind)
{
    enum axk_status status;

    k = check_k(format, k);
    w->format = format;
    w->n = n;
    w->k = k;
    w->src = check_alloc(axk_file_bytes(format, n, k)); /* unaligned mostly */
    check_fill_weights(format, n, k, kind, w->src);
    size_t bytes = axk_packed_bytes(format, n, k, &status);
    assert_int_equal(status, AXK_OK);
    w->packed = check_alloc(bytes);
    assert_int_equal(
        axk_pack_rows(format, w->src, n, k, 0, n, w->packed, NULL), AXK_OK);
}


static void *
quantized(const struct axk_ops *ops, enum axk_act kind, const float *x,
          uint32_t n_tokens, uint32_t k)
{
    void *act = check_alloc(axk_act_bytes(kind, n_tokens, k));

    ops->quantize(kind, x, k, n_tokens, k, 0, axk_act_tiles(n_tokens), act);
    return act;
}


static void
run(const struct axk_ops *ops, const struct matrix *w, const void *act,
    uint32_t n_tokens, const float *bias, bool accumulate, float *y)
{
    struct axk_matmul a = { .format = w->format,
                            .n_rows = w->n,
                            .k = w->k,
                            .n_tokens = n_tokens,
                            .w = w->packed,
                            .act = act,
                            .y = y,
                            .y_stride = w->n,
                            .bias = bias,
                            .accumulate = accumulate };

    ops->matmul(&a, 0, w->n);
}


/* All ISAs against the reference for one matrix and number of tokens. */
static void
compare(const struct matrix *w, uint32_t n_tokens, int kind)
{
    enum axk_act act_kind = act_of(w->format);
    size_t act_bytes = (size_t)n_tokens * w->k * 4;
    size_t n_out = (size_t)n_tokens * w->n;
    float *x = check_alloc((size_t)n_tokens * w->k * 4);
    float *bias = check_alloc(w->n * 4);
    float *expected = check_alloc(n_out * 4);
    float *y = check_alloc(n_out * 4);

    check_fill(x, (size_t)n_tokens * w->k, kind);
    check_fill(bias, w->n, 0);
    if (act_kind == AXK_ACT_Q8) {
        act_bytes = (size_t)n_tokens * (w->k / 32) * 48;
    } else if (act_kind == AXK_ACT_Q8_K) {
        act_bytes = (size_t)n_tokens * (w->k / 256) * 93 * 4;
    }
    void *act = quantized(check_reference, act_kind, x, n_tokens, w->k);

    for (int variant = 0; variant < 4; variant++) {
        const float *b = variant % 2 == 1 ? bias : NULL;
        bool accumulate = variant >= 2;

        for (int i = 0; check_isas[i] != NULL; i++) {
            if (i == 0
                || (w->format == AXK_BF16
                    && check_reference_of(check_isas[i])
                           != check_reference_of(check_isas[i - 1])))
            {
                memset(expected, 0x3f, n_out * 4);
                run(check_reference_of(check_isas[i]), w, act, n_tokens, b,
                    accumulate, expected);
            }
            void *own = quantized(check_isas[i], act_kind, x, n_tokens, w->k);

            assert_memory_equal(own, act, act_bytes);
            memset(y, 0x3f, n_out * 4);
            run(check_isas[i], w, own, n_tokens, b, accumulate, y);
            check_same(axk_format_traits(w->format)->name, check_isas[i]->isa,
                       expected, y, n_out);
        }
    }
}


static void
test_matmul_equals_reference(void **state)
{
    static const struct {
        uint32_t n;
        uint32_t k;
    } shapes[] = { { 32, 32 }, { 1, 32 }, { 31, 64 }, { 33, 96 },
                   { 47, 32 }, { 80, 576 }, { 96, 256 } };
    /* 18 and 51: enough tiles that codes are decoded first */
    static const uint32_t tokens[] = { 1, 2, 3, 4, 5, 7, 8, 13, 18, 51 };

    for (size_t f = 0; f < check_n_formats; f++) {
        for (size_t s = 0; s < N_ELEMS(shapes); s++) {
            for (int kind = 0; kind < 3; kind++) {
                struct matrix w;

                if (s > 0 && check_k(check_formats[f], 32) > 32
                    && shapes[s].k < 100 && shapes[s].n != 33)
                {
                    continue; /* would repeat a shape of one block */
                }
                if (check_tiny && shapes[s].k > 100) {
                    continue;
                }
                make_matrix(&w, check_formats[f], shapes[s].n, shapes[s].k,
                            kind);
                for (size_t t = 0; t < N_ELEMS(tokens); t++) {
                    if (tokens[t] > 20 && shapes[s].k < 100) {
                        continue;
                    }
                    compare(&w, tokens[t], kind);
                    if (t % 4 == 3) {
                        check_free_all(state);
                        make_matrix(&w, check_formats[f], shapes[s].n,
                                    shapes[s].k, kind);
                    }
                }
                check_free_all(state);
            }
        }
    }
}


/* 5 to 12 tokens, the last tile alone or with the one before: formats that
 * take two tiles in one pass, where they are too few to be decoded first. */
static void
test_matmul_of_two_tiles(void **state)
{
    static const uint32_t formats[] = { AXK_F32, AXK_F16, AXK_BF16, AXK_Q2_K,
                                        AXK_Q3_K };

    for (size_t f = 0; f < N_ELEMS(formats); f++) {
        for (uint32_t m = 5; m <= 12; m++) {
            struct matrix w;
            int kind = (int)(m % 3);

            make_matrix(&w, formats[f], 33, check_tiny ? 256 : 512, kind);
            compare(&w, m, kind);
            check_free_all(state);
        }
    }
}


/* As many as are decoded for at once, and more: the tokens are then done in
 * several goes.  Rows and k end within a panel and within what is decoded. */
static void
test_matmul_of_many_tokens(void **state)
{
    static const uint32_t formats[] = { AXK_Q5_0, AXK_Q8_0, AXK_Q3_K,
                                        AXK_Q6_K };
    static const uint32_t tokens[] = { 66, 69, 64, 262, 519 };
    size_t n_tokens = check_tiny ? 3 : N_ELEMS(tokens);

    for (size_t f = 0; f < N_ELEMS(formats); f++) {
        for (size_t t = 0; t < n_tokens; t++) {
            struct matrix w;
            int kind = (int)(t % 3);

            make_matrix(&w, formats[f], 33, check_k(formats[f], 288), kind);
            compare(&w, tokens[t], kind);
            check_free_all(state);
        }
    }
}


/* Float formats take any k. */
static void
test_matmul_float_odd_k(void **state)
{
    static const uint32_t formats[] = { AXK_F32, AXK_F16, AXK_BF16 };
    /* 301: more than the BF16 kernels take at a time */
    static const uint32_t ks[] = { 1, 2, 4, 7, 10, 16, 19, 31, 33, 64, 301 };

    for (size_t j = 0; j < N_ELEMS(ks); j++) {
        for (size_t i = 0; i < N_ELEMS(formats); i++) {
            struct matrix w;

            make_matrix(&w, formats[i], 37, ks[j], 0);
            compare(&w, 1, 0);
            compare(&w, 6, 0);
            compare(&w, 7, 1);
            check_free_all(state);
            make_matrix(&w, formats[i], 65, ks[j], 1);
            compare(&w, 35, 1);
            check_free_all(state);
        }
    }
}


/* The reference against doubles, so that all are not wrong together. */
static void
reference_is_the_dot_product(const struct axk_ops *ops, void **state)
{
    enum { N = 35, K = 512, M = 5 };

    for (size_t f = 0; f < check_n_formats; f++) {
        struct matrix w;
        float *x = check_alloc(M * K * 4);
        float *y = check_alloc(M * N * 4);
        float row[K];

        make_matrix(&w, check_formats[f], N, K, 0);
        check_fill(x, M * K, 0);
        void *act = quantized(ops, act_of(w.format), x, M, K);
        run(ops, &w, act, M, NULL, false, y);

        for (uint32_t n = 0; n < N; n++) {
            axk_unpack_row(w.format, w.packed, N, K, n, row);
            for (uint32_t m = 0; m < M; m++) {
                double sum = 0;
                double size = 0;

                for (uint32_t i = 0; i < K; i++) {
                    double p = (double)row[i] * (double)x[m * K + i];
                    sum += p;
                    size += fabs(p);
                }
                /* int8 and BF16 activations: half a step, averaged out */
                bool is_float = act_of(w.format) == AXK_ACT_F32
                                && (w.format != AXK_BF16
                                    || ops->numerics == NULL);
                double bound = (is_float ? 1e-6 : 5e-3) * size;
                assert_true(fabs(sum - (double)y[m * N + n]) <= bound);
            }
        }
        check_free_all(state);
    }
}


static void
test_reference_is_the_dot_product(void **state)
{
    reference_is_the_dot_product(check_reference, state);
    reference_is_the_dot_product(axk_ops_named("scalar-bf16"), state);
    reference_is_the_dot_product(axk_ops_named("scalar-bf16-tile"), state);
}


/* q8_0 and q8_1 as the format's own formulas give them. */
static void
test_quantize_is_q8(void **state)
{
    enum { K = 32 * 40 };
    float *x = check_alloc(K * 4);

    (void)state;
    check_fill(x, K, 0);
    const uint32_t *record = quantized(check_reference, AXK_ACT_Q8, x, 1, K);

    for (int b = 0; b < K / 32; b++, record += 12) {
        float amax = 0;
        int sum = 0;
        int8_t q[32];
        float word[4];

        for (int j = 0; j < 32; j++) {
            amax = fmaxf(amax, fabsf(x[32 * b + j]));
        }
        float d = amax / 127.0f;
        memcpy(q, record, 32);
        for (int j = 0; j < 32; j++) {
            assert_int_equal(q[j], (int)roundf(x[32 * b + j] * (1.0f / d)));
            sum += q[j];
        }
        memcpy(word, record + 8, 16);
        assert_true(word[0] == axk_f16_to_f32(axk_f32_to_f16(d)));
        assert_int_equal((int32_t)record[9], -8 * sum);
        assert_int_equal((int32_t)record[10], -128 * sum);
        assert_true(word[3]
                    == axk_f16_to_f32(axk_f32_to_f16(d * (float)sum)));
    }
}


/* Halves go away from zero in q8_0 and to the even neighbour in q8_K. */
static void
test_quantize_rounds_halves_as_defined(void **state)
{
    enum { K = 256 };
    const struct axk_ops *all[CHECK_ISAS_MAX + 1] = { check_reference };
    float x[K];

    (void)state;
    memcpy(all + 1, check_isas, sizeof(check_isas));
    for (int j = 0; j < K; j++) {
        x[j] = j % 32 == 0 ? 127.0f : (float)(j % 126) - 62.5f;
    }
    for (int i = 0; all[i] != NULL; i++) {
        const uint32_t *q8 = quantized(all[i], AXK_ACT_Q8, x, 1, K);
        const uint32_t *q8_k = quantized(all[i], AXK_ACT_Q8_K, x, 1, K);

        for (int j = 0; j < K; j++) {
            const int8_t *a = (const int8_t *)(q8 + j / 32 * 12);
            const int8_t *b = (const int8_t *)q8_k;

            assert_int_equal(a[j % 32], (int)roundf(x[j]));
            assert_int_equal(b[j], (int)nearbyintf(x[j]));
        }
    }
}


/* Records of m tokens; one NaN is as good as another. */
static void
same_records(const uint32_t *got, const uint32_t *want, uint32_t m, uint32_t k)
{
    for (uint32_t tile = 0; tile < m; tile += AXK_TILE) {
        uint32_t n = m - tile < AXK_TILE ? m - tile : AXK_TILE;

        for (uint32_t i = 0; i < k / 32 * 12 * n; i++, got++, want++) {
            uint32_t row = i / n % 12;
            float a, b;

            memcpy(&a, got, 4);
            memcpy(&b, want, 4);
            if ((row == 8 || row == 11) && isnan(a) && isnan(b)) {
                continue;
            }
            assert_int_equal(*got, *want);
        }
    }
}


/* Columns of random widths, the last ones first. */
static void
quantize_in_parts(const struct axk_ops *ops, const float *x, size_t stride,
                  uint32_t m, uint32_t k, void *act)
{
    memset(act, 0xee, axk_act_bytes(AXK_ACT_Q8, m, k));
    for (uint32_t k1 = k, k0; k1 > 0; k1 = k0) {
        k0 = check_random() % (k1 / 32) * 32;
        ops->quantize_part(x + k0, stride, m, k, k0, k1, act);
    }
}


/* Blocks that are zero, tiny, huge or not finite beside ordinary ones, in any
 * place of tiles of any number of tokens, rows with a gap between them. */
static void
test_quantize_of_odd_blocks_in_tiles(void **state)
{
    enum { M = 9, BLOCKS = 11, STRIDE = 32 * BLOCKS + 16 };
    static const float odd[] = { 0, -0.0f, 1e-44f, 3e-32f, 3e38f,
                                 INFINITY, -INFINITY, NAN };
    float *x = check_alloc(sizeof(float) * M * STRIDE);
    size_t bytes_max = axk_act_bytes(AXK_ACT_Q8, M, 32 * BLOCKS);
    uint32_t *want = check_alloc(bytes_max), *got = check_alloc(bytes_max);

    (void)state;
    for (uint32_t i = 0; i < 400; i++) {
        uint32_t m = 1 + check_random() % M;
        uint32_t k = 32 * (1 + check_random() % BLOCKS);

        check_fill(x, M * STRIDE, 0);
        for (uint32_t n = 0; n < 6; n++) {
            float *block = x + check_random() % m * STRIDE
                             + check_random() % (k / 32) * 32;
            float value = odd[check_random() % 8];
            bool whole = check_random() % 2 == 0;
            uint32_t at = check_random() % 32;

            for (uint32_t j = whole ? 0 : at; j < (whole ? 32 : at + 1); j++) {
                block[j] = value;
            }
        }
        size_t bytes = axk_act_bytes(AXK_ACT_Q8, m, k);

        check_reference->quantize(AXK_ACT_Q8, x, STRIDE, m, k, 0,
                                  axk_act_tiles(m), want);
        quantize_in_parts(check_reference, x, STRIDE, m, k, got);
        same_records(got, want, m, k);
        for (int isa = 0; check_isas[isa] != NULL; isa++) {
            memset(got, 0xee, bytes);
            check_isas[isa]->quantize(AXK_ACT_Q8, x, STRIDE, m, k, 0,
                                      axk_act_tiles(m), got);
            same_records(got, want, m, k);
            quantize_in_parts(check_isas[isa], x, STRIDE, m, k, got);
            same_records(got, want, m, k);
        }
    }
}


/* axk_thread_init undoes what a library may have set. */
static void
test_thread_init_keeps_denormals(void **state)
{
    volatile float small = 1e-30f;

    (void)state;
#if defined(__x86_64__)
    _mm_setcsr(0xffc0); /* flush to zero, denormals are zero, round to 0 */
#endif
    axk_thread_init();
    assert_true(small * 1e-10f > 0);
    assert_true(1.0f + small == 1.0f && 1.0f - small == 1.0f);
}


/* A token's result is the same alone and among 512, for every row split. */
static void
test_matmul_batch_and_split_invariant(void **state)
{
    const uint32_t n = 96;
    const uint32_t many = check_tiny ? 55 : 523; /* two groups, a tail of 3 */

    for (size_t f = 0; f < check_n_formats; f++) {
        const uint32_t k = check_k(check_formats[f], 640);

        for (int i = 0; check_isas[i] != NULL; i++) {
            const struct axk_ops *ops = check_isas[i];
            enum axk_act kind = act_of(check_formats[f]);
            struct matrix w;

            make_matrix(&w, check_formats[f], n, k, 0);
            float *x = check_alloc((size_t)many * k * 4);
            float *all = check_alloc((size_t)many * n * 4);
            float *one = check_alloc((size_t)many * n * 4);
            check_fill(x, (size_t)many * k, 0);
            void *act = check_alloc(axk_act_bytes(kind, many, k));
            /* in two pieces, as two threads would */
            ops->quantize(kind, x, k, many, k, 3, axk_act_tiles(many), act);
            ops->quantize(kind, x, k, many, k, 0, 3, act);
            run(ops, &w, act, many, NULL, false, all);

            void *single = check_alloc(axk_act_bytes(kind, 1, k));
            for (uint32_t m = 0; m < many; m++) {
                struct axk_matmul a = { .format = w.format,
                                        .n_rows = n,
                                        .k = k,
                                        .n_tokens = 1,
                                        .w = w.packed,
                                        .act = single,
                                        .y = one + (size_t)m * n,
                                        .y_stride = n };

                ops->quantize(kind, x + (size_t)m * k, k, 1, k, 0, 1, single);
                for (uint32_t row = 0; row < n; row += 32) {
                    ops->matmul(&a, row, row + 32);
                }
            }
            check_same("batch invariance", ops->isa, all, one,
                       (size_t)many * n);
            check_free_all(state);
        }
    }
}


/* Nothing is written outside the asked rows and tokens, and rows of x and y
 * may lie apart: all formats; 3 tokens, and as many as tiles of 16 and
 * decoded panels are for. */
static void
writes_only_its_rows(uint32_t format, uint32_t m_all)
{
    enum { N = 70, GAP = 5 };
    const uint32_t k = check_k(format, 32);
    const uint32_t stride = N + GAP;
    enum axk_act kind = act_of(format);
    struct matrix w;
    float *x = check_alloc(m_all * (k + GAP) * 4);
    float *y = check_alloc(m_all * stride * 4);
    float *expected = check_alloc(m_all * stride * 4);

    make_matrix(&w, format, N, k, 0);
    check_fill(x, m_all * (k + GAP), 0);
    for (int i = 0; check_isas[i] != NULL; i++) {
        void *act = check_alloc(axk_act_bytes(kind, m_all, k));
        struct axk_matmul a = { .format = format,
                                .n_rows = N,
                                .k = k,
                                .n_tokens = m_all,
                                .w = w.packed,
                                .act = act,
                                .y = expected,
                                .y_stride = stride };

        for (uint32_t j = 0; j < m_all * stride; j++) {
            y[j] = 1234.5f;
            expected[j] = 1234.5f;
        }
        check_reference->quantize(kind, x, k + GAP, m_all, k, 0,
                                  axk_act_tiles(m_all), act);
        check_reference_of(check_isas[i])->matmul(&a, 64, N);
        check_isas[i]->quantize(kind, x, k + GAP, m_all, k, 0,
                                axk_act_tiles(m_all), act);
        a.y = y;
        check_isas[i]->matmul(&a, 64, N);
        check_same("only its rows", check_isas[i]->isa, expected, y,
                   m_all * stride);
        for (uint32_t j = 0; j < m_all * stride; j++) {
            bool own = j % stride >= 64 && j % stride < N;
            assert_true((y[j] == 1234.5f) == !own);
        }
    }
}


static void
test_matmul_writes_only_its_rows(void **state)
{
    for (size_t f = 0; f < check_n_formats; f++) {
        writes_only_its_rows(check_formats[f], 3);
        check_free_all(state);
        writes_only_its_rows(check_formats[f], 51);
        check_free_all(state);
    }
}


/* NaN and infinity in one token's activations stay in that token, alone in
 * its tile or among those of a tile of 16 and of a decoded panel. */
static void
nonfinite_activation_stays(uint32_t format, uint32_t m_all, float bad)
{
    enum { N = 32, K = 256 };
    const uint32_t at = m_all / 3;
    struct matrix w;
    float *x = check_alloc(m_all * K * 4);
    float *y = check_alloc(m_all * N * 4);

    make_matrix(&w, format, N, K, 0);
    check_fill(x, m_all * K, 0);
    x[at * K + 40] = bad;
    for (int i = 0; check_isas[i] != NULL; i++) {
        run(check_isas[i], &w,
            quantized(check_isas[i], act_of(format), x, m_all, K), m_all, NULL,
            false, y);
        for (uint32_t j = 0; j < m_all * N; j++) {
            assert_true(isfinite(y[j]) == (j / N != at));
        }
    }
}


static void
test_nonfinite_activation_stays_in_its_token(void **state)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY };

    for (size_t f = 0; f < check_n_formats; f++) {
        for (size_t b = 0; b < N_ELEMS(bad); b++) {
            nonfinite_activation_stays(check_formats[f], 6, bad[b]);
            check_free_all(state);
            nonfinite_activation_stays(check_formats[f], 52, bad[b]);
            check_free_all(state);
        }
    }
}


/* ... because its scale is NaN, on every instruction set. */
static void
test_nonfinite_activation_quantizes_to_nan(void **state)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY };
    enum { K = 256 };
    const struct axk_ops *all[CHECK_ISAS_MAX + 1] = { check_reference };
    float x[K];

    (void)state;
    memcpy(all + 1, check_isas, sizeof(check_isas));
    for (int i = 0; all[i] != NULL; i++) {
        for (int b = 0; b < 3; b++) {
            float d[2];

            check_fill(x, K, 0);
            x[40] = bad[b];
            const float *q8 = quantized(all[i], AXK_ACT_Q8, x, 1, K);
            memcpy(d, &q8[8], 4);
            assert_true(isfinite(d[0])); /* block 0 is clean */
            memcpy(d, &q8[12 + 8], 4);
            const float *q8_k = quantized(all[i], AXK_ACT_Q8_K, x, 1, K);
            memcpy(d + 1, &q8_k[92], 4);
            assert_true(isnan(d[0]) && isnan(d[1]));
        }
    }
}


/* Golden blocks in a corner of a matrix, among random ones. */
static void
test_blocks_read_as_gguf_py_reads_them(void **state)
{
    enum { N = 45, ROW = 41 };

    for (size_t g = 0; g < N_ELEMS(goldens); g++) {
        const struct axk_format_traits *t =
            axk_format_traits(goldens[g].format);
        uint32_t k = 3 * t->block_elems;
        struct matrix w;
        float row[3 * 256];

        make_matrix(&w, goldens[g].format, N, k, 0);
        memcpy(w.src + (ROW * 3 + 1) * (size_t)t->block_bytes,
               goldens[g].block, t->block_bytes);
        assert_int_equal(
            axk_pack_rows(w.format, w.src, N, k, 0, N, w.packed, NULL),
            AXK_OK);
        axk_unpack_row(w.format, w.packed, N, k, ROW, row);
        check_same("golden", t->name, goldens[g].values,
                   row + t->block_elems, t->block_elems);
        check_free_all(state);
    }
}


static void
test_float_rows_unpack_unchanged(void **state)
{
    enum { N = 40, K = 19 };
    static const uint32_t formats[] = { AXK_F32, AXK_F16, AXK_BF16 };
    float row[K];

    for (size_t f = 0; f < N_ELEMS(formats); f++) {
        uint32_t bytes = axk_format_traits(formats[f])->block_bytes;
        struct matrix w;

        make_matrix(&w, formats[f], N, K, 0);
        for (uint32_t i = 0; i < N * K; i++) {
            float x = 0;
            uint16_t h;

            memcpy(&h, w.src + i * bytes, 2);
            if (formats[f] == AXK_F16) {
                x = axk_f16_to_f32(h);
            } else { /* the high bytes of a float */
                memcpy((uint8_t *)&x + 4 - bytes, w.src + i * bytes, bytes);
            }
            axk_unpack_row(w.format, w.packed, N, K, i / K, row);
            assert_true(row[i % K] == x);
        }
        check_free_all(state);
    }
}


static void
test_pack_in_pieces(void **state)
{
    enum { N = 75, K = 64 };
    struct matrix w;
    enum axk_status status;
    size_t bytes = axk_packed_bytes(AXK_Q4_1, N, K, &status);
    uint8_t *pieces = check_alloc(bytes);

    (void)state;
    make_matrix(&w, AXK_Q4_1, N, K, 0);
    assert_int_equal(
        axk_pack_rows(AXK_Q4_1, w.src, N, K, 64, N, pieces, NULL), AXK_OK);
    assert_int_equal(
        axk_pack_rows(AXK_Q4_1, w.src, N, K, 0, 64, pieces, NULL), AXK_OK);
    assert_memory_equal(pieces, w.packed, bytes);
    assert_int_equal(
        axk_pack_rows(AXK_Q4_1, w.src, N, K, 16, N, pieces, NULL),
        AXK_BAD_ARGUMENT);
    assert_int_equal(
        axk_pack_rows(AXK_Q4_1, w.src, N, K, 0, 33, pieces, NULL),
        AXK_BAD_ARGUMENT);
}


/* Writes a NaN or an infinity into scale number which of a block; false if
 * the block has no such scale. */
static bool
spoil(uint32_t format, uint16_t half, int which, uint8_t *block)
{
    int d;
    int m;

    if (format == AXK_MXFP4) {
        block[0] = 255;
        return which == 0;
    }
    if (format == AXK_F32 || format == AXK_BF16) {
        half = (uint16_t)((half & 0x8000) | 0x7f80 | (half & 0x3ff) >> 3);
        memcpy(block + axk_format_traits(format)->block_bytes - 2, &half, 2);
        return which == 0;
    }
    check_scale_offsets(format, &d, &m);
    if (which == 1 && m < 0) {
        return false;
    }
    memcpy(block + (which == 0 ? d : m), &half, 2);
    return true;
}


static void
test_pack_names_nonfinite_weights(void **state)
{
    static const uint16_t bad[] = { 0x7c00, 0xfc00, 0x7e00, 0xffff };
    enum { N = 40, K = 512, ROW = 37 };

    for (size_t f = 0; f < check_n_formats; f++) {
        const struct axk_format_traits *t =
            axk_format_traits(check_formats[f]);
        size_t row_bytes = K / t->block_elems * t->block_bytes;

        for (size_t b = 0; b < 2 * N_ELEMS(bad); b++) {
            struct matrix w;
            uint32_t bad_row = 0;

            make_matrix(&w, check_formats[f], N, K, 0);
            if (spoil(w.format, bad[b / 2], b % 2,
                      w.src + (ROW + 1) * row_bytes - t->block_bytes))
            {
                assert_int_equal(axk_pack_rows(w.format, w.src, N, K, 0, N,
                                               w.packed, &bad_row),
                                 AXK_NONFINITE_WEIGHT);
                assert_int_equal(bad_row, ROW);
            }
            check_free_all(state);
        }
    }
}


static void
test_shapes_and_formats_are_refused(void **state)
{
    enum axk_status status;

    (void)state;
    assert_int_equal(axk_packed_bytes(AXK_Q4_0, 32, 33, &status), 0);
    assert_int_equal(status, AXK_BAD_SHAPE);
    assert_int_equal(axk_packed_bytes(AXK_Q4_0, 0, 32, &status), 0);
    assert_int_equal(status, AXK_BAD_SHAPE);
    assert_int_equal(axk_packed_bytes(AXK_F32, 32, 0, &status), 0);
    assert_int_equal(status, AXK_BAD_SHAPE);
    assert_int_equal(axk_packed_bytes(AXK_F32, UINT32_MAX, UINT32_MAX, &status),
                     0);
    assert_int_equal(status, AXK_BAD_SHAPE);
    assert_int_equal(axk_packed_bytes(4, 32, 32, &status), 0);
    assert_int_equal(status, AXK_UNSUPPORTED_FORMAT);
    assert_int_equal(axk_packed_bytes(UINT32_MAX, 32, 32, &status), 0);
    assert_int_equal(status, AXK_UNSUPPORTED_FORMAT);
    assert_int_equal(axk_packed_bytes(AXK_IQ2_XXS, 32, 256, &status), 0);
    assert_int_equal(status, AXK_UNSUPPORTED_FORMAT);
    assert_string_equal(axk_format_traits(AXK_IQ2_XXS)->name, "IQ2_XXS");
    assert_null(axk_format_traits(5)->name);
    assert_int_equal(axk_act_bytes(AXK_ACT_Q8, 1, 33), 0);
    assert_int_equal(axk_act_bytes(AXK_ACT_NONE, 1, 32), 0);
    assert_int_equal(axk_file_bytes(AXK_Q8_0, 3, 64), 3 * 68);
}


static void
test_selection_obeys_the_cap(void **state)
{
    char why[80];
    const struct axk_ops *ops = axk_select("scalar", why, sizeof(why));

    (void)state;
    assert_string_equal(axk_isa_name(ops), "scalar");
    assert_string_equal(why, "scalar, capped at scalar");
    assert_null(axk_select("sse9", why, sizeof(why)));
    assert_string_equal(why, "unknown instruction set \"sse9\"");
    ops = axk_select("scalar-bf16", why, sizeof(why)); /* named: given */
    assert_string_equal(ops->numerics, "bf16-dot");
    assert_non_null(strstr(why, "; numerics bf16-dot for BF16 weights"));
    ops = axk_select("scalar-bf16-tile", why, sizeof(why));
    assert_string_equal(ops->numerics, "bf16-tile");
    assert_null(axk_select("auto", NULL, 0)->numerics);
#if defined(__x86_64__)
    assert_null(axk_select("avx2", NULL, 0)->numerics);
#endif
    assert_non_null(axk_select(NULL, NULL, 0));
    assert_ptr_equal(axk_select("auto", NULL, 0), axk_select(NULL, NULL, 0));
    for (int i = 0; check_isas[i] != NULL; i++) {
        if (axk_ops_named(check_isas[i]->isa) != NULL) { /* no test's twin */
            assert_ptr_equal(axk_select(check_isas[i]->isa, NULL, 0),
                             check_isas[i]);
        }
    }
}


#define TEST(name) cmocka_unit_test_teardown(name, check_free_all)

const struct CMUnitTest check_matmul_tests[] = {
    TEST(test_matmul_equals_reference),
    TEST(test_matmul_of_two_tiles),
    TEST(test_matmul_of_many_tokens),
    TEST(test_matmul_float_odd_k),
    TEST(test_reference_is_the_dot_product),
    TEST(test_quantize_is_q8),
    TEST(test_quantize_rounds_halves_as_defined),
    TEST(test_quantize_of_odd_blocks_in_tiles),
    TEST(test_thread_init_keeps_denormals),
    TEST(test_matmul_batch_and_split_invariant),
    TEST(test_matmul_writes_only_its_rows),
    TEST(test_nonfinite_activation_stays_in_its_token),
    TEST(test_nonfinite_activation_quantizes_to_nan),
    TEST(test_blocks_read_as_gguf_py_reads_them),
    TEST(test_float_rows_unpack_unchanged),
    TEST(test_pack_in_pieces),
    TEST(test_pack_names_nonfinite_weights),
    TEST(test_shapes_and_formats_are_refused),
    TEST(test_selection_obeys_the_cap),
};
const size_t check_matmul_count = N_ELEMS(check_matmul_tests);
