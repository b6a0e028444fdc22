/*
 * checkkernels: every op of every instruction set of this machine against the
 * scalar reference, bit for bit, on random, adversarial and tail shapes; and
 * the reference against plain double arithmetic.  `checkkernels matmul`, `ops`
 * or `attention` runs one group, `--list` only says what would be compared,
 * `--bench [words]` prints each against the machine's own peaks instead.
 *
 * A machine without AVX2 has only the reference: the comparisons are then
 * empty, and the program says so.
 */

#include <sys/mman.h>
#include <unistd.h>

#include "tests/kernels/check.h"

#define ALLOC_MAX 256

const struct axk_ops *check_isas[CHECK_ISAS_MAX];
const struct axk_ops *check_reference;
int check_tiny;

const uint32_t check_formats[] = {
    AXK_F32,  AXK_F16,  AXK_BF16, AXK_Q4_0,   AXK_Q4_1,   AXK_Q5_0,
    AXK_Q5_1, AXK_Q8_0, AXK_Q2_K, AXK_Q3_K,   AXK_Q4_K,   AXK_Q5_K,
    AXK_Q6_K, AXK_MXFP4, AXK_IQ4_NL, AXK_IQ4_XS,
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
        switch (kind) {
        case 0:
            x[i] = check_uniform();
            break;
        case 1:
            x[i] = nasty[check_random() % N_ELEMS(nasty)];
            break;
        default:
            x[i] = i / 32 % 2 == 0 ? 1.0f : -1.0f;
            break;
        }
    }
}


void
check_scale_offsets(uint32_t format, int *d, int *m)
{
    *d = 0;
    *m = -1;
    switch (format) {
    case AXK_Q4_1:
    case AXK_Q5_1:
    case AXK_Q4_K:
    case AXK_Q5_K:
        *m = 2;
        break;
    case AXK_Q2_K:
        *d = 80;
        *m = 82;
        break;
    case AXK_Q3_K:
        *d = 108;
        break;
    case AXK_Q6_K:
        *d = 208;
        break;
    default:
        break;
    }
}


/* An f16 scale; for BF16 and MXFP4 the number means something else, and is
 * made by the caller. */
static void
put_scale(int kind, uint8_t *dst)
{
    static const uint16_t nasty[] = { 0x0000, 0x8000, 0x0001, 0x83ff,
                                      0x0400, 0x7bff, 0xfbff, 0x3c00 };
    uint16_t h = kind == 1   ? nasty[check_random() % N_ELEMS(nasty)]
                 : kind == 0 ? axk_f32_to_f16(check_uniform() * 0.02f)
                             : 0x3c00;

    memcpy(dst, &h, 2);
}


static void
fill_block(uint32_t format, int kind, uint8_t *dst)
{
    static const uint8_t edge[] = { 0x80, 0x7f, 0xff, 0x00, 0x81 };
    const struct axk_format_traits *f = axk_format_traits(format);
    uint8_t same = edge[check_random() % N_ELEMS(edge)];
    int d;
    int m;

    for (uint32_t i = 0; i < f->block_bytes; i++) {
        dst[i] = kind == 0   ? (uint8_t)check_random()
                 : kind == 1 ? edge[check_random() % N_ELEMS(edge)]
                             : same;
    }
    if (format == AXK_F32 || format == AXK_BF16) {
        float x;
        check_fill(&x, 1, kind);
        memcpy(dst, (const uint8_t *)&x + 4 - f->block_bytes, f->block_bytes);
        return;
    }
    if (format == AXK_MXFP4) {
        static const uint8_t powers[] = { 0, 1, 2, 120, 128, 254 };
        dst[0] = kind == 1 ? powers[check_random() % N_ELEMS(powers)]
                           : (uint8_t)(116 + check_random() % 8);
        return;
    }
    check_scale_offsets(format, &d, &m);
    put_scale(kind, dst + d);
    if (m >= 0) {
        put_scale(kind, dst + m);
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


uint32_t
check_k(uint32_t format, uint32_t k)
{
    uint32_t elems = axk_format_traits(format)->block_elems;

    return (k + elems - 1) / elems * elems;
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


#if defined(__x86_64__)

void axk_matmul_avxvnni_evex(const struct axk_matmul *a, uint32_t row0,
                             uint32_t row1);
void axk_matmul_amx_emulated(const struct axk_matmul *a, uint32_t row0,
                             uint32_t row1);
void axk_matmul_amx_bf16_emulated(const struct axk_matmul *a, uint32_t row0,
                                  uint32_t row1);

/* The avxvnni table with its matmuls in AVX-512's encoding; NULL on a CPU
 * without that. */
static const struct axk_ops *
avxvnni_twin(void)
{
    static struct axk_ops twin;
    const struct axk_ops *avx2 = axk_ops_named("avx2");

    if (avx2 == NULL || axk_ops_named("avx512") == NULL) {
        return NULL;
    }
    twin = *avx2;
    twin.isa = "avxvnni, as EVEX";
    twin.matmul = axk_matmul_avxvnni_evex;
    return &twin;
}


/* The amx table over tile operations in C; NULL without AVX-512. */
static const struct axk_ops *
amx_twin(void)
{
    static struct axk_ops twin;
    const struct axk_ops *avx512 = axk_ops_named("avx512");

    if (avx512 == NULL) {
        return NULL;
    }
    twin = *avx512;
    twin.isa = "amx, emulated";
    twin.matmul = axk_matmul_amx_emulated;
    return &twin;
}


/* The same for amx-bf16; NULL without AVX-512 BF16. */
static const struct axk_ops *
amx_bf16_twin(void)
{
    static struct axk_ops twin;
    const struct axk_ops *avx512_bf16 = axk_ops_named("avx512-bf16");

    if (avx512_bf16 == NULL) {
        return NULL;
    }
    twin = *avx512_bf16;
    twin.isa = "amx-bf16, emulated";
    twin.numerics = "bf16-tile";
    twin.matmul = axk_matmul_amx_bf16_emulated;
    return &twin;
}

#else

static const struct axk_ops *
avxvnni_twin(void)
{
    return NULL;
}


static const struct axk_ops *
amx_twin(void)
{
    return NULL;
}


static const struct axk_ops *
amx_bf16_twin(void)
{
    return NULL;
}

#endif


const struct axk_ops *
check_reference_of(const struct axk_ops *ops)
{
    if (ops->numerics == NULL) {
        return check_reference;
    }
    return axk_ops_named(strcmp(ops->numerics, "bf16-dot") == 0
                             ? "scalar-bf16"
                             : "scalar-bf16-tile");
}


static void
find_isas(void)
{
    static const char *const names[] = { "avx2", "avxvnni", "avx512", "avx512-bf16",
                                         "amx", "amx-bf16", "neon",
                                         "neon-i8mm" };
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
    if (avxvnni_twin() != NULL) {
        check_isas[n++] = avxvnni_twin();
        printf(" and avxvnni as EVEX");
    }
    if (amx_twin() != NULL) {
        check_isas[n++] = amx_twin();
        printf(" and amx over emulated tiles");
    }
    if (amx_bf16_twin() != NULL) {
        check_isas[n++] = amx_bf16_twin();
        printf(" and amx-bf16 over them");
    }
    printf("%s\n", n == 0 ? " only the scalar reference" : "");
}


int
main(int argc, char **argv)
{
    const char *only = argc > 1 ? argv[1] : "";
    int failed = 0;

    axk_thread_init();
    check_tiny = getenv("AXION_TINY_ONLY") != NULL;
    find_isas();

    if (strcmp(only, "--list") == 0) {
        return 0;
    }
    if (strcmp(only, "--bench") == 0) {
        return bench_run(argc > 2 ? argv[2] : "");
    }
    if (strstr("matmul", only) != NULL) {
        failed += _cmocka_run_group_tests("matmul", check_matmul_tests,
                                          check_matmul_count, NULL, NULL);
    }
    if (strstr("ops", only) != NULL) {
        failed += _cmocka_run_group_tests("ops", check_ops_tests,
                                          check_ops_count, NULL, NULL);
    }
    if (strstr("attention", only) != NULL) {
        failed += _cmocka_run_group_tests("attention", check_attention_tests,
                                          check_attention_count, NULL, NULL);
    }
    return failed;
}
