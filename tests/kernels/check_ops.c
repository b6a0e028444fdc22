/*
 * Shows that the small ops give the reference's bits on every instruction
 * set and touch nothing outside their rows, and that the reference's
 * mathematics (exp, log, sine, RoPE tables, f16) is right.
 */

#include <math.h>

#include "tests/kernels/check.h"

static const uint32_t sizes[] = { 1, 2, 7, 15, 16, 17, 31, 33, 64, 100, 576 };


static void
test_rmsnorm(void **state)
{
    enum { ROWS = 3 };

    for (size_t s = 0; s < N_ELEMS(sizes); s++) {
        uint32_t n = sizes[s];
        float *x = check_alloc(ROWS * n * 4);
        float *w = check_alloc(n * 4);
        float *a = check_alloc(ROWS * n * 4);
        float *b = check_alloc(ROWS * n * 4);

        for (int kind = 0; kind < 3; kind++) {
            check_fill(x, ROWS * n, kind % 2);
            check_fill(w, n, kind % 2);
            const float *weight = s % 3 == 2 ? NULL : w;

            if (kind == 2) { /* the row between stays clean */
                x[n / 2] = NAN;
                x[3 * n - 1] = INFINITY;
            }

            check_reference->rmsnorm(a, n, x, n, ROWS, n, weight, 1e-5f);
            for (int i = 0; check_isas[i] != NULL; i++) {
                check_isas[i]->rmsnorm(b, n, x, n, ROWS, n, weight, 1e-5f);
                check_same("rmsnorm", check_isas[i]->isa, a, b, ROWS * n);
            }
        }
        check_free_all(state);
    }
}


static void
test_rmsnorm_is_the_formula(void **state)
{
    enum { N = 576 };
    float x[N];
    float y[N];
    double sum = 0;

    (void)state;
    check_fill(x, N, 0);
    for (int i = 0; i < N; i++) {
        sum += (double)x[i] * (double)x[i];
    }
    check_reference->rmsnorm(y, N, x, N, 1, N, NULL, 1e-5f);
    for (int i = 0; i < N; i++) {
        double want = (double)x[i] / sqrt(sum / N + 1e-5);
        assert_true(fabs((double)y[i] - want) <= 1e-6);
    }
}


static void
test_rope(void **state)
{
    static const struct {
        uint32_t heads;
        uint32_t head_dim;
        uint32_t n_rot;
    } shapes[] = { { 1, 2, 2 },   { 3, 8, 8 },    { 2, 64, 64 },
                   { 4, 80, 80 }, { 2, 128, 32 }, { 1, 40, 36 } };
    enum { T = 3 };
    static const uint32_t positions[T] = { 0, 17, 40000 };

    for (size_t s = 0; s < N_ELEMS(shapes); s++) {
        uint32_t n_rot = shapes[s].n_rot;
        uint32_t width = shapes[s].heads * shapes[s].head_dim;
        double inv_freq[64];
        float *table = check_alloc(T * n_rot * 4);
        float *x = check_alloc(T * width * 4);
        float *a = check_alloc(T * width * 4);
        float *b = check_alloc(T * width * 4);

        axk_rope_inv_freq(10000, 1, NULL, n_rot, inv_freq);
        axk_rope_table(inv_freq, n_rot, 1, positions, T, table);
        for (int variant = 0; variant < 4; variant++) {
            struct axk_rope rope = { .x_stride = width,
                                     .n = width,
                                     .head_dim = shapes[s].head_dim,
                                     .n_rot = n_rot,
                                     .neox = variant % 2,
                                     .table = table };

            check_fill(x, T * width, variant / 2);
            memcpy(a, x, T * width * 4);
            rope.x = a;
            check_reference->rope(&rope, 0, T);
            for (int i = 0; check_isas[i] != NULL; i++) {
                memcpy(b, x, T * width * 4);
                rope.x = b;
                check_isas[i]->rope(&rope, 1, T);
                check_isas[i]->rope(&rope, 0, 1);
                check_same("rope", check_isas[i]->isa, a, b, T * width);
            }
        }
        check_free_all(state);
    }
}


/* Who computes some rows of Q rotates them: parts of 32, or heads. */
static void
test_rope_in_parts(void **state)
{
    enum { T = 2, HEADS = 3 };
    static const uint32_t dims[][2] = { { 64, 64 }, { 96, 40 }, { 40, 40 } };
    static const uint32_t positions[T] = { 17, 40000 };

    for (size_t s = 0; s < 2 * N_ELEMS(dims); s++) {
        bool neox = s % 2;
        uint32_t dim = dims[s / 2][0], n_rot = dims[s / 2][1];
        uint32_t width = HEADS * dim;
        uint32_t step = neox || dim % 32 != 0 ? dim : 32;
        double inv_freq[64];
        float *table = check_alloc(T * n_rot * 4);
        float *x = check_alloc(T * width * 4);
        float *a = check_alloc(T * width * 4);
        float *b = check_alloc(T * width * 4);

        axk_rope_inv_freq(10000, 1, NULL, n_rot, inv_freq);
        axk_rope_table(inv_freq, n_rot, 1, positions, T, table);
        check_fill(x, T * width, 0);
        memcpy(a, x, T * width * 4);
        struct axk_rope rope = { .x = a, .x_stride = width, .n = width,
                                 .head_dim = dim, .n_rot = n_rot, .neox = neox,
                                 .table = table };
        check_reference->rope(&rope, 0, T);
        for (int i = 0; check_isas[i] != NULL; i++) {
            memcpy(b, x, T * width * 4);
            for (uint32_t first = 0; first < width; first += step) {
                rope.x = b + first;
                rope.first = first;
                rope.n = step;
                check_isas[i]->rope(&rope, 0, T);
            }
            check_same("rope in parts", check_isas[i]->isa, a, b, T * width);
            memcpy(b, x, T * width * 4);
            rope.x = b + step; /* from within a head over a head's end */
            rope.first = step;
            rope.n = width - step;
            check_isas[i]->rope(&rope, 0, T);
            rope.x = b;
            rope.first = 0;
            rope.n = step;
            check_isas[i]->rope(&rope, 0, T);
            check_same("rope in parts", check_isas[i]->isa, a, b, T * width);
        }
        check_free_all(state);
    }
}


/* Rotation by pos * base^(-2i/n) in both pairings, factors dividing. */
static void
test_rope_is_the_formula(void **state)
{
    enum { D = 8 };
    static const float factors[D / 2] = { 1, 1, 2, 8 };
    uint32_t pos = 1234;
    double inv_freq[D / 2];
    float table[D];

    (void)state;
    axk_rope_inv_freq(500000, 1, factors, D, inv_freq);
    axk_rope_table(inv_freq, D, 1, &pos, 1, table);
    for (int neox = 0; neox < 2; neox++) {
        float x[D];
        float y[D];
        check_fill(x, D, 0);
        memcpy(y, x, sizeof(y));
        struct axk_rope rope = { .x = y, .x_stride = D, .n = D,
                                 .head_dim = D, .n_rot = D, .neox = neox,
                                 .table = table };
        check_reference->rope(&rope, 0, 1);
        for (int i = 0; i < D / 2; i++) {
            double angle =
                pos * pow(500000, -2.0 * i / D) / (double)factors[i];
            int p = neox ? i : 2 * i;
            int q = neox ? i + D / 2 : 2 * i + 1;
            double u = (double)x[p];
            double v = (double)x[q];

            assert_true(fabs(u * cos(angle) - v * sin(angle) - (double)y[p])
                        < 1e-6);
            assert_true(fabs(u * sin(angle) + v * cos(angle) - (double)y[q])
                        < 1e-6);
        }
    }
}


/* silu, gelu, softcap, exp_sub, add, scale over one pair of inputs. */
static void
apply(const struct axk_ops *ops, int op, float *y, const float *x,
      const float *u, uint32_t n)
{
    switch (op) {
    case 0:
        ops->silu_mul(y, n, x, n, u, n, 1, n);
        break;
    case 1:
        ops->gelu_mul(y, n, x, n, u, n, 1, n);
        break;
    case 2:
        ops->softcap(y, x, 30, n);
        break;
    case 3:
        ops->exp_sub(y, x, 0.25f, n);
        break;
    case 4:
        ops->add(y, x, u, n);
        break;
    default:
        ops->scale(y, x, 0.3f, n);
        break;
    }
}


static void
test_elementwise(void **state)
{
    static const char *const names[] = { "silu", "gelu", "softcap",
                                         "exp_sub", "add", "scale" };

    for (size_t s = 0; s < N_ELEMS(sizes); s++) {
        uint32_t n = sizes[s];
        float *x = check_alloc(n * 4);
        float *u = check_alloc(n * 4);
        float *a = check_alloc(n * 4);
        float *b = check_alloc(n * 4);

        for (int op = 0; op < 6; op++) {
            for (int kind = 0; kind < 3; kind++) {
                check_fill(x, n, kind % 2);
                check_fill(u, n, kind % 2);
                if (kind == 2) {
                    x[n / 2] = NAN;
                    x[n / 3] = INFINITY;
                    x[n - 1] = -INFINITY;
                }
                apply(check_reference, op, a, x, u, n);
                for (int i = 0; check_isas[i] != NULL; i++) {
                    apply(check_isas[i], op, b, x, u, n);
                    check_same(names[op], check_isas[i]->isa, a, b, n);
                    memcpy(b, x, n * 4); /* in place */
                    apply(check_isas[i], op, b, b, u, n);
                    check_same(names[op], check_isas[i]->isa, a, b, n);
                }
            }
        }
        check_free_all(state);
    }
}


/* Every op that takes rows, over y = x: rows apart, in place. */
static void
apply_rows(const struct axk_ops *ops, int op, float *y, size_t stride,
           const float *u, const float *table, uint32_t n_rows, uint32_t n)
{
    struct axk_rope rope = { .x = y, .x_stride = stride, .n = n,
                             .head_dim = n, .n_rot = n, .neox = op == 4,
                             .table = table };

    switch (op) {
    case 0:
        ops->silu_mul(y, stride, y, stride, u, stride, n_rows, n);
        break;
    case 1:
        ops->gelu_mul(y, stride, y, stride, u, stride, n_rows, n);
        break;
    case 2:
        ops->rmsnorm(y, stride, y, stride, n_rows, n, u, 1e-6f);
        break;
    default:
        ops->rope(&rope, 0, n_rows);
        break;
    }
}


static void
test_rows_lie_apart_and_in_place(void **state)
{
    static const char *const names[] = { "silu", "gelu", "rmsnorm", "rope",
                                         "rope, neox" };
    enum { ROWS = 3, N = 22, STRIDE = 50 };
    static const uint32_t positions[ROWS] = { 5, 6, 7 };
    double inv_freq[N / 2];
    float *x = check_alloc(ROWS * STRIDE * 4);
    float *u = check_alloc(ROWS * STRIDE * 4);
    float *a = check_alloc(ROWS * STRIDE * 4);
    float *b = check_alloc(ROWS * STRIDE * 4);
    float *table = check_alloc(ROWS * N * 4);

    (void)state;
    axk_rope_inv_freq(10000, 1, NULL, N, inv_freq);
    axk_rope_table(inv_freq, N, 1, positions, ROWS, table);
    check_fill(x, ROWS * STRIDE, 0);
    check_fill(u, ROWS * STRIDE, 0);
    for (int op = 0; op < 5; op++) {
        memcpy(a, x, ROWS * STRIDE * 4);
        apply_rows(check_reference, op, a, STRIDE, u, table, ROWS, N);
        for (uint32_t i = 0; i < ROWS * STRIDE; i++) {
            assert_true(i % STRIDE < N || a[i] == x[i]);
        }
        for (int i = 0; check_isas[i] != NULL; i++) {
            memcpy(b, x, ROWS * STRIDE * 4);
            apply_rows(check_isas[i], op, b, STRIDE, u, table, ROWS, N);
            check_same(names[op], check_isas[i]->isa, a, b, ROWS * STRIDE);
        }
    }
}


static void
test_activations_are_the_formulas(void **state)
{
    (void)state;
    for (double x = -20; x < 20; x += 0.37) {
        float g = (float)x;
        float u = 1.5f;
        float y;
        double want = (double)g / (1 + exp(-(double)g)) * 1.5;

        check_reference->silu_mul(&y, 1, &g, 1, &u, 1, 1, 1);
        assert_true(fabs((double)y - want) <= 1e-6 * (1 + fabs(want)));
        check_reference->gelu_mul(&y, 1, &g, 1, &u, 1, 1, 1);
        double t = tanh(sqrt(2 / acos(-1))
                        * ((double)g + 0.044715 * pow((double)g, 3)));
        want = 0.5 * (double)g * (1 + t) * 1.5;
        assert_true(fabs((double)y - want) <= 1e-6 * (1 + fabs(want)));
        check_reference->softcap(&y, &g, 30, 1);
        want = 30 * tanh((double)g / 30);
        assert_true(fabs((double)y - want) <= 1e-5);
    }
}


static void
test_exp_of_many_floats(void **state)
{
    enum { N = 4096 };
    float *x = check_alloc(N * 4);
    float *a = check_alloc(N * 4);
    float *b = check_alloc(N * 4);
    uint32_t step = check_tiny ? 4000037 : 40009;

    (void)state;
    for (uint64_t u = 0; u <= UINT32_MAX;) {
        size_t n = 0;
        for (; n < N && u <= UINT32_MAX; n++, u += step) {
            uint32_t bits = (uint32_t)u;
            memcpy(&x[n], &bits, 4);
        }
        check_reference->exp_sub(a, x, 0, n);
        for (size_t j = 0; j < n; j++) {
            double want = exp((double)x[j]);
            if (want > 1.2e-38 && want < 2.3e38) {
                assert_true(fabs((double)a[j] / want - 1) < 2.5e-7);
            }
            assert_true(x[j] == x[j] ? a[j] >= 0 : a[j] != a[j]);
        }
        for (int i = 0; check_isas[i] != NULL; i++) {
            check_isas[i]->exp_sub(b, x, 0, n);
            check_same("exp", check_isas[i]->isa, a, b, n);
        }
    }
}


static void
test_argmax_and_logsumexp(void **state)
{
    static const uint32_t lengths[] = { 1,   5,    16,   17,  100,
                                        999, 1024, 1025, 5000 };

    for (size_t s = 0; s < N_ELEMS(lengths); s++) {
        uint32_t n = lengths[s];
        float *x = check_alloc(n * 4);

        for (int kind = 0; kind < 8; kind++) {
            check_fill(x, n, kind == 1);
            if (kind == 2) { /* ties */
                for (uint32_t i = 0; i < n; i++) {
                    x[i] = (float)(check_random() % 3);
                }
            } else if (kind == 3) {
                x[check_random() % n] = NAN;
            } else if (kind == 4) {
                for (uint32_t i = 0; i < n; i++) {
                    x[i] = -INFINITY;
                }
            } else if (kind == 5) {
                x[n - 1] = 3;
            } else if (kind == 6) {
                x[check_random() % n] = INFINITY;
            } else if (kind == 7) {
                for (uint32_t i = 0; i < n; i++) {
                    x[i] = NAN;
                }
            }
            uint32_t top = check_reference->argmax(x, n);
            float lse = (float)check_reference->logsumexp(x, n);

            for (int i = 0; check_isas[i] != NULL; i++) {
                float other = (float)check_isas[i]->logsumexp(x, n);
                assert_int_equal(check_isas[i]->argmax(x, n), top);
                check_same("logsumexp", check_isas[i]->isa, &lse, &other, 1);
            }
            assert_true(isnan(lse) == (kind == 3 || kind == 4 || kind >= 6));
            if (kind == 0) {
                double sum = 0;
                for (uint32_t i = 0; i < n; i++) {
                    assert_true(x[i] <= x[top]);
                    sum += exp((double)x[i]);
                }
                assert_true(fabs(log(sum) - (double)lse) < 2e-6);
            }
        }
        check_free_all(state);
    }
}


static void
test_kv_write(void **state)
{
    static const struct {
        uint32_t heads;
        uint32_t head_dim;
    } shapes[] = { { 1, 1 }, { 3, 64 }, { 2, 80 }, { 2, 40 }, { 1, 512 } };

    for (size_t i = 0; i < AXK_KV_TYPE_END * N_ELEMS(shapes); i++) {
        enum axk_kv_type type = (enum axk_kv_type)(i % AXK_KV_TYPE_END);
        size_t s = i / AXK_KV_TYPE_END;
        uint32_t n = shapes[s].heads * shapes[s].head_dim;
        size_t bytes =
            axk_kv_block_bytes(type, shapes[s].heads, shapes[s].head_dim);
        float *k = check_alloc(n * 4);
        float *v = check_alloc(n * 4);
        void *a = check_alloc(bytes);
        void *b = check_alloc(bytes);

        assert_int_equal(bytes % AXK_ALIGN, 0);
        for (int j = 0; check_isas[j] != NULL; j++) {
            memset(a, 0, bytes);
            memset(b, 0, bytes);
            for (uint32_t slot = 0; slot < AXK_KV_TOKENS; slot++) {
                check_fill(k, n, slot % 2);
                check_fill(v, n, slot % 2);
                check_reference->kv_write(type, a, slot, 0, n, k, v,
                                          shapes[s].head_dim);
                check_isas[j]->kv_write(type, b, slot, 0, n, k, v,
                                        shapes[s].head_dim);
            }
            assert_memory_equal(a, b, bytes);
        }
        check_free_all(state);
    }
    assert_int_equal(axk_kv_block_bytes(AXK_KV_F16, 3, 0), 0);
    assert_int_equal(axk_kv_block_bytes(AXK_KV_F16, 0, 64), 0);
    assert_int_equal(axk_kv_block_bytes(AXK_KV_Q8_0, 1, AXK_HEAD_DIM_MAX + 1), 0);
    assert_int_equal(axk_kv_block_bytes(AXK_KV_TYPE_END, 1, 64), 0);
    assert_int_equal(axk_kv_type_of("q8_0"), AXK_KV_Q8_0);
    assert_int_equal(axk_kv_type_of("bf16"), AXK_KV_BF16);
    assert_int_equal(axk_kv_type_of("q4_9"), AXK_KV_TYPE_END);
    assert_string_equal(axk_kv_type_name(AXK_KV_F16), "f16");
}


static float
half_of(enum axk_kv_type type, uint16_t h)
{
    return type == AXK_KV_BF16 ? axk_bf16_to_f32(h) : axk_f16_to_f32(h);
}


/* Parts of 32 elements, or heads, and K apart from V: the same block. */
static void
test_kv_write_in_parts(void **state)
{
    enum { HEADS = 3, SLOT = 13 };
    static const uint32_t dims[] = { 64, 96, 40, 512 };

    for (size_t i = 0; i < AXK_KV_TYPE_END * N_ELEMS(dims); i++) {
        enum axk_kv_type type = (enum axk_kv_type)(i % AXK_KV_TYPE_END);
        uint32_t dim = dims[i / AXK_KV_TYPE_END];
        uint32_t n = HEADS * dim, step = dim % 32 == 0 ? 32 : dim;
        size_t bytes = axk_kv_block_bytes(type, HEADS, dim);
        float *k = check_alloc(n * 4);
        float *v = check_alloc(n * 4);
        void *a = check_alloc(bytes);
        void *b = check_alloc(bytes);

        check_fill(k, n, 0);
        check_fill(v, n, 0);
        memset(a, 0xaa, bytes);
        check_reference->kv_write(type, a, SLOT, 0, n, k, v, dim);
        for (int j = 0; check_isas[j] != NULL; j++) {
            const struct axk_ops *ops = check_isas[j];

            memset(b, 0xaa, bytes);
            for (uint32_t p = 0; p < n; p += step) {
                ops->kv_write(type, b, SLOT, p, step, NULL, v + p, dim);
            }
            for (uint32_t p = step; p < n; p += step) {
                ops->kv_write(type, b, SLOT, p, step, k + p, NULL, dim);
            }
            ops->kv_write(type, b, SLOT, 0, step, k, NULL, dim);
            assert_memory_equal(a, b, bytes);
            memset(b, 0xaa, bytes);
            ops->kv_write(type, b, SLOT, step, n - step, k + step, v + step,
                          dim);
            ops->kv_write(type, b, SLOT, 0, step, k, v, dim);
            assert_memory_equal(a, b, bytes);
        }
        check_free_all(state);
    }
}


/* What is not finite is NaN or infinite in its own place, or in its own block
 * of 32 for q8_0; the same on all. */
static void
test_kv_write_of_nonfinite(void **state)
{
    enum { HEADS = 2, DIM = 64, N = HEADS * DIM };
    static const float bad[] = { NAN, INFINITY, -INFINITY, 1e30f };

    for (size_t i = 0; i < AXK_KV_TYPE_END * N_ELEMS(bad); i++) {
        enum axk_kv_type type = (enum axk_kv_type)(i % AXK_KV_TYPE_END);
        size_t bytes = axk_kv_block_bytes(type, HEADS, DIM);
        float *x = check_alloc(N * 4);
        uint16_t *a = check_alloc(bytes);
        uint16_t *b = check_alloc(bytes);
        uint32_t n_bad = 0;

        check_fill(x, N, 0);
        x[40] = bad[i / AXK_KV_TYPE_END];
        for (int j = 0; check_isas[j] != NULL; j++) {
            memset(a, 0, bytes);
            memset(b, 0, bytes);
            check_reference->kv_write(type, a, 3, 0, N, x, x, DIM);
            check_isas[j]->kv_write(type, b, 3, 0, N, x, x, DIM);
            for (size_t h = 0; h < bytes / 2; h++) {
                float u = half_of(type, a[h]);
                float v = half_of(type, b[h]);

                assert_true(a[h] == b[h] || (isnan(u) && isnan(v)));
                n_bad += type != AXK_KV_Q8_0 && !isfinite(v);
            }
            /* 1e30 is finite in bf16 */
            bool shows = type == AXK_KV_F16 ||
                         (type == AXK_KV_BF16 && !isfinite(x[40]));
            assert_int_equal(n_bad, shows ? 2 * (j + 1) : 0);
        }
        check_free_all(state);
    }
}


/* Each f16 comes back; each f32 goes to the nearest, ties to even. */
static void
test_f16_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7c00; h++) {
        float x = axk_f16_to_f32((uint16_t)h);
        float next = axk_f16_to_f32((uint16_t)(h + 1));
        float middle = h == 0x7bff ? 65520.0f : (x + next) / 2;

        assert_int_equal(axk_f32_to_f16(x), h);
        assert_int_equal(axk_f32_to_f16(-x), h | 0x8000);
        assert_int_equal(axk_f32_to_f16(middle), h + (h & 1));
        assert_int_equal(axk_f32_to_f16(nextafterf(middle, 0)), h);
        assert_int_equal(axk_f32_to_f16(nextafterf(middle, INFINITY)), h + 1);
    }
    assert_true(isnan(axk_f16_to_f32(axk_f32_to_f16(NAN))));
    assert_true(isinf(axk_f16_to_f32(axk_f32_to_f16(1e30f))));
}


/* The same of bf16, over all its finite values, denormals included. */
static void
test_bf16_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7f80; h++) {
        float x = axk_bf16_to_f32((uint16_t)h);
        uint32_t bits = h << 16 | 0x8000;
        float middle;

        memcpy(&middle, &bits, sizeof(middle));
        assert_int_equal(axk_f32_to_bf16(x), h);
        assert_int_equal(axk_f32_to_bf16(-x), h | 0x8000);
        assert_int_equal(axk_f32_to_bf16(middle), h + (h & 1));
        assert_int_equal(axk_f32_to_bf16(nextafterf(middle, 0)), h);
        assert_int_equal(axk_f32_to_bf16(nextafterf(middle, INFINITY)), h + 1);
    }
    for (uint32_t i = 0; i < 23; i++) {
        uint32_t bits = 0xff800000 | 1u << i;
        float nan;

        memcpy(&nan, &bits, sizeof(nan)); /* one bit of payload, anywhere */
        assert_true(isnan(axk_bf16_to_f32(axk_f32_to_bf16(nan))));
    }
    assert_true(isinf(axk_bf16_to_f32(axk_f32_to_bf16(INFINITY))));
}


/* Floats of any bits become the same bf16 in KV on all sets: halves between
 * two, denormals, what rounds to infinity, any NaN. */
static void
test_bf16_kv_write_of_any_bits(void **state)
{
    enum { DIM = 128 };
    static const uint32_t lower[] = { 0, 1, 0x7fff, 0x8000, 0x8001, 0xffff };
    size_t bytes = axk_kv_block_bytes(AXK_KV_BF16, 1, DIM);
    uint32_t *x = check_alloc(DIM * 4);
    uint16_t *block = check_alloc(bytes);

    for (uint32_t upper = 0; upper < 0x10000; upper += DIM / 4) {
        uint32_t low = lower[upper / (DIM / 4) % N_ELEMS(lower)];

        for (uint32_t i = 0; i < DIM; i++) {
            x[i] = (upper + i / 4) << 16 |
                   (i % 4 == 0 ? low : check_random() & 0xffff);
        }
        for (int j = 0; check_isas[j] != NULL; j++) {
            check_isas[j]->kv_write(AXK_KV_BF16, block, 5, 0, DIM,
                                    (float *)x, (float *)x, DIM);
            for (uint32_t i = 0; i < DIM; i++) {
                float f;

                memcpy(&f, &x[i], sizeof(f));
                uint16_t key = block[i * 16 + 5];
                uint16_t value = block[(AXK_KV_TOKENS + 5) * DIM + i];
                assert_true(isnan(f) ? isnan(axk_bf16_to_f32(key))
                                     : key == axk_f32_to_bf16(f));
                assert_int_equal(key, value);
            }
        }
    }
    check_free_all(state);
}


static void
test_own_mathematics(void **state)
{
    double s;
    double c;

    (void)state;
    for (double x = -700; x < 700; x += 0.777) {
        assert_true(fabs(axk_exp64(x) / exp(x) - 1) < 1e-14);
    }
    for (double x = 1e-300; x < 1e300; x *= 7.3) {
        assert_true(fabs(axk_log64(x) - log(x)) <= 1e-14 * (1 + fabs(log(x))));
    }
    for (double x = 0.5; x < 2; x += 0.00137) {
        assert_true(fabs(axk_log64(x) - log(x)) <= 1e-15);
    }
    assert_true(axk_log64(0) == -INFINITY);
    assert_true(isnan(axk_log64(-1)));
    assert_true(axk_exp64(-1000) == 0 && axk_exp64(1000) == INFINITY);
    assert_true(fabs(axk_pow64(500000, -0.25) / pow(500000, -0.25) - 1)
                < 1e-14);
    for (double x = 0; x < 1.5e6; x += 17.0331 + x * 1e-4) {
        axk_sincos64(x, &s, &c);
        assert_true(fabs(s - sin(x)) < 1e-13 && fabs(c - cos(x)) < 1e-13);
        axk_sincos64(-x, &s, &c);
        assert_true(fabs(s + sin(x)) < 1e-13 && fabs(c - cos(x)) < 1e-13);
    }
}


#define TEST(name) cmocka_unit_test_teardown(name, check_free_all)

const struct CMUnitTest check_ops_tests[] = {
    TEST(test_rmsnorm),
    TEST(test_rmsnorm_is_the_formula),
    TEST(test_rope),
    TEST(test_rope_in_parts),
    TEST(test_rope_is_the_formula),
    TEST(test_elementwise),
    TEST(test_rows_lie_apart_and_in_place),
    TEST(test_activations_are_the_formulas),
    TEST(test_exp_of_many_floats),
    TEST(test_argmax_and_logsumexp),
    TEST(test_kv_write),
    TEST(test_kv_write_in_parts),
    TEST(test_kv_write_of_nonfinite),
    TEST(test_f16_rounds_to_nearest_even),
    TEST(test_bf16_rounds_to_nearest_even),
    TEST(test_bf16_kv_write_of_any_bits),
    TEST(test_own_mathematics),
};
const size_t check_ops_count = N_ELEMS(check_ops_tests);
