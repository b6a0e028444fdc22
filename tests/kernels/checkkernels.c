/*
 * checkkernels: every op of every instruction set of this machine against the
 * scalar reference, bit for bit, on random, adversarial and tail shapes; and
 * the reference against plain double arithmetic.  `checkkernels --bench
 * [filter]` prints each against the machine's own peaks instead.
 *
 * A machine without AVX2 has only the reference: the comparisons are then
 * empty, and the program says so.
 */

#include <sys/mman.h>
#include <unistd.h>

#include "tests/kernels/check.h"

#define ALLOC_MAX 256

const struct axk_ops *check_isas[4];
const struct axk_ops *check_reference;
int check_tiny;

const uint32_t check_formats[] = {
    AXK_F32, AXK_F16, AXK_Q4_0, AXK_Q4_1, AXK_Q8_0,
};
const size_t check_n_formats = N_ELEMS(check_formats);

static struct {
    void *base;
    size_t bytes;
} allocs[ALLOC_MAX];
static size_t n_allocs;

static uint64_t random_state = 0x243f6a8885a308d3u;


void *
check_alloc(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t body = (bytes + page - 1) / page * page;
    char *base = mmap(NULL, body + page, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_true(base != MAP_FAILED && n_allocs < ALLOC_MAX);
    assert_int_equal(mprotect(base + body, page, PROT_NONE), 0);
    memset(base, 0xa5, body);
    allocs[n_allocs].base = base;
    allocs[n_allocs].bytes = body + page;
    n_allocs++;
    return base + body - bytes;
}


int
check_free_all(void **state)
{
    (void)state;
    while (n_allocs > 0) {
        n_allocs--;
        munmap(allocs[n_allocs].base, allocs[n_allocs].bytes);
    }
    return 0;
}


uint64_t
check_random(void)
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}


float
check_uniform(void)
{
    return (float)(int32_t)check_random() * 0x1p-31f;
}


void
check_fill(float *x, size_t n, int kind)
{
    static const float nasty[] = { 0.0f,   -0.0f,  1e-42f, -3e-41f, 1e-38f,
                                   1.0f,   -1.0f,  127.0f, -127.5f, 0.5f,
                                   -2.5f,  65504,  -7e4f,  1e20f,   -1e20f,
                                   1e-20f, 3e-30f, 88.5f,  -87.4f,  1e-8f };

    for (size_t i = 0; i < n; i++) {
        x[i] = kind == 0 ? check_uniform()
                         : nasty[check_random() % N_ELEMS(nasty)];
    }
}


static uint16_t
random_scale(int kind)
{
    static const uint16_t nasty[] = { 0x0000, 0x8000, 0x0001, 0x83ff,
                                      0x0400, 0x7bff, 0xfbff, 0x3c00 };

    if (kind != 0) {
        return nasty[check_random() % N_ELEMS(nasty)];
    }
    return axk_f32_to_f16(check_uniform() * 0.02f);
}


static void
fill_block(uint32_t format, int kind, uint8_t *dst)
{
    const struct axk_format_traits *f = axk_format_traits(format);
    uint16_t d = random_scale(kind);

    for (uint32_t i = 0; i < f->block_bytes; i++) {
        dst[i] = (uint8_t)check_random();
        if (kind != 0) { /* all largest, all smallest: -128, 127, 15, 0 */
            static const uint8_t edge[] = { 0x80, 0x7f, 0xff, 0x00, 0x81 };
            dst[i] = edge[check_random() % N_ELEMS(edge)];
        }
    }
    if (format == AXK_F32) {
        float x;
        check_fill(&x, 1, kind);
        memcpy(dst, &x, 4);
        return;
    }
    memcpy(dst, &d, 2);
    if (format == AXK_Q4_1) {
        d = random_scale(kind);
        memcpy(dst + 2, &d, 2);
    }
}


void
check_fill_weights(uint32_t format, uint32_t n_rows, uint32_t k, int kind,
                   uint8_t *dst)
{
    const struct axk_format_traits *f = axk_format_traits(format);
    size_t n_blocks = (size_t)n_rows * (k / f->block_elems);

    for (size_t i = 0; i < n_blocks; i++) {
        fill_block(format, kind, dst + i * f->block_bytes);
    }
}


double
check_weight(uint32_t format, const uint8_t *src, uint32_t k, uint32_t row,
             uint32_t i)
{
    const struct axk_format_traits *f = axk_format_traits(format);
    const uint8_t *b =
        src
        + ((size_t)row * (k / f->block_elems) + i / f->block_elems)
              * f->block_bytes;
    uint32_t j = i % f->block_elems;
    uint16_t h[2] = { 0 };
    float x;

    memcpy(h, b, f->block_bytes < 4 ? 2 : 4);
    double d = axk_f16_to_f32(h[0]);
    double m = axk_f16_to_f32(h[1]);

    switch (format) {
    case AXK_F32:
        memcpy(&x, b, 4);
        return x;
    case AXK_F16:
        return d;
    case AXK_Q4_0:
        return d * ((b[2 + j % 16] >> 4 * (j / 16) & 15) - 8);
    case AXK_Q4_1:
        return d * (b[4 + j % 16] >> 4 * (j / 16) & 15) + m;
    default:
        return d * (int8_t)b[2 + j];
    }
}


void
check_same(const char *what, const char *isa, const float *a, const float *b,
           size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        uint32_t v;

        memcpy(&u, &a[i], 4);
        memcpy(&v, &b[i], 4);
        if (u != v && !(a[i] != a[i] && b[i] != b[i])) {
            fail_msg("%s, %s: element %zu is %a, reference %a", what, isa, i,
                     (double)b[i], (double)a[i]);
        }
    }
}


static void
find_isas(void)
{
    static const char *const names[] = { "avx2", "avx512" };
    size_t n = 0;

    check_reference = axk_ops_named("scalar");
    printf("instruction sets:");
    for (size_t i = 0; i < N_ELEMS(names); i++) {
        const struct axk_ops *ops = axk_ops_named(names[i]);

        if (ops != NULL) {
            check_isas[n++] = ops;
            printf(" %s", names[i]);
        }
    }
    printf("%s\n", n == 0 ? " only the scalar reference" : "");
}


int
main(int argc, char **argv)
{
    axk_thread_init();
    check_tiny = getenv("AXION_TINY_ONLY") != NULL;
    find_isas();

    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        return bench_run(argc > 2 ? argv[2] : "");
    }
    return _cmocka_run_group_tests("matmul", check_matmul_tests,
                                   check_matmul_count, NULL, NULL)
           + _cmocka_run_group_tests("ops", check_ops_tests, check_ops_count,
                                     NULL, NULL)
           + _cmocka_run_group_tests("attention", check_attention_tests,
                                     check_attention_count, NULL, NULL);
}
