/*
 * checkkernels --bench [filter]: each kernel beside what this machine can do,
 * measured in the same run: operations per second of the unit that limits it
 * (int8 dot for quantized formats, f32 fma for the rest) and bytes per second
 * of a plain read.  With 1 and 2 threads; each thread walks its own
 * contiguous rows, as the engine's do.  Medians of several runs; the machine
 * is shared, so a single figure proves little.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

#include "tests/kernels/check.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define RUNS_MAX    31
#define THREADS_MAX 2

struct job {
    void (*fn)(void *arg, int thread, int n_threads);
    void *arg;
    int n_threads;
    int runs;
    double seconds[RUNS_MAX];
    atomic_int arrived;
};

static const struct axk_ops *ops;
static const char *filter_text;
static int n_threads_max = THREADS_MAX;
static double peak_int8[THREADS_MAX + 1];
static double peak_f32[THREADS_MAX + 1];
static double peak_read[THREADS_MAX + 1];


/* One thread is timed by its own CPU time, which others on the machine
 * disturb least; two by the clock. */
static double
now(int n_threads)
{
    struct timespec t;

    clock_gettime(n_threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC,
                  &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}


/* All threads wait here until the count-th round is complete. */
static void
meet(struct job *job, int round)
{
    atomic_fetch_add(&job->arrived, 1);
    while (atomic_load(&job->arrived) < round * job->n_threads) {
    }
}


static void
work(struct job *job, int thread)
{
    axk_thread_init();
    for (int run = 0; run < job->runs; run++) {
        meet(job, 2 * run + 1);
        double start = now(job->n_threads);
        job->fn(job->arg, thread, job->n_threads);
        meet(job, 2 * run + 2);
        if (thread == 0) {
            job->seconds[run] = now(job->n_threads) - start;
        }
    }
}


static void *
second_thread(void *arg)
{
    work(arg, 1);
    return NULL;
}


static int
by_value(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}


/* Median seconds of one run. */
static double
measure(void (*fn)(void *, int, int), void *arg, int n_threads, int runs)
{
    struct job job = { fn, arg, n_threads, runs, { 0 }, 0 };
    pthread_t other;

    if (n_threads > 1
        && pthread_create(&other, NULL, second_thread, &job) != 0)
    {
        abort();
    }
    work(&job, 0);
    if (n_threads > 1) {
        pthread_join(other, NULL);
    }
    qsort(job.seconds, (size_t)runs, sizeof(double), by_value);
    return job.seconds[runs / 2];
}


/* Large, huge-paged where the kernel grants it, never freed: the program
 * ends after the bench. */
static void *
big_alloc(size_t bytes)
{
    char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED) {
        abort();
    }
    madvise(p, bytes, MADV_HUGEPAGE);
    memset(p, 1, bytes);
    return p;
}


/* ---- the machine's own peaks ---- */

#define PEAK_LOOPS 1000000

#if defined(__x86_64__)

__attribute__((target("avx512f,avx512vnni"))) static void
int8_loop(void *arg, int thread, int n_threads)
{
    __m512i acc[16];
    __m512i x = _mm512_set1_epi32(0x01010101 * (thread + n_threads));

    for (int i = 0; i < 16; i++) {
        acc[i] = _mm512_setzero_si512();
    }
    for (int n = 0; n < PEAK_LOOPS; n++) {
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            acc[i] = _mm512_dpbusd_epi32(acc[i], x, x);
        }
    }
    for (int i = 1; i < 16; i++) {
        acc[0] = _mm512_add_epi32(acc[0], acc[i]);
    }
    ((volatile int *)arg)[16 * thread] = _mm512_reduce_add_epi32(acc[0]);
}


__attribute__((target("avx2,fma"))) static void
f32_loop(void *arg, int thread, int n_threads)
{
    __m256 acc[12];
    __m256 x = _mm256_set1_ps(1e-3f * (float)(thread + n_threads));

    for (int i = 0; i < 12; i++) {
        acc[i] = x;
    }
    for (int n = 0; n < PEAK_LOOPS; n++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++) {
            acc[i] = _mm256_fmadd_ps(acc[i], x, x);
        }
    }
    for (int i = 1; i < 12; i++) {
        acc[0] = _mm256_add_ps(acc[0], acc[i]);
    }
    ((volatile float *)arg)[16 * thread] = _mm256_cvtss_f32(acc[0]);
}


#define READ_BYTES ((size_t)256 << 20)

__attribute__((target("avx2"))) static void
read_loop(void *arg, int thread, int n_threads)
{
    const char *p = arg;
    size_t share = READ_BYTES / (size_t)n_threads;
    __m256i acc[4];

    p += share * (size_t)thread;
    for (int i = 0; i < 4; i++) {
        acc[i] = _mm256_setzero_si256();
    }
    for (size_t i = 0; i < share; i += 128) {
        for (int j = 0; j < 4; j++) {
            const void *line = p + i + 32 * j;
            acc[j] = _mm256_or_si256(acc[j], _mm256_load_si256(line));
        }
    }
    acc[0] = _mm256_or_si256(_mm256_or_si256(acc[0], acc[1]),
                             _mm256_or_si256(acc[2], acc[3]));
    if (_mm256_extract_epi32(acc[0], 0) == 42) {
        printf("\n");
    }
}


static void
measure_peaks(void)
{
    static int sink[64];
    void *memory = big_alloc(READ_BYTES);

    for (int t = 1; t <= n_threads_max; t++) {
        if (__builtin_cpu_supports("avx512vnni")) {
            peak_int8[t] = t * 2.0 * 64 * 16 * PEAK_LOOPS
                           / measure(int8_loop, sink, t, 5);
        }
        if (__builtin_cpu_supports("fma")) {
            peak_f32[t] = t * 2.0 * 8 * 12 * PEAK_LOOPS
                          / measure(f32_loop, sink, t, 5);
            peak_read[t] = READ_BYTES / measure(read_loop, memory, t, 7);
        }
        printf("%s%d thread%s: int8 %.0f Gop/s, f32 %.0f GFLOP/s, read %.1f "
               "GB/s", t > 1 ? "; " : "peaks, ",
               t, t > 1 ? "s" : "", peak_int8[t] * 1e-9, peak_f32[t] * 1e-9,
               peak_read[t] * 1e-9);
    }
    printf("\n");
    munmap(memory, READ_BYTES);
}

#else

static void
measure_peaks(void)
{
    printf("no peak loops for this machine: shares are not shown\n");
}

#endif


static double
share(double rate, double peak)
{
    return peak > 0 ? 100 * rate / peak : 0;
}


/* ---- matmul ---- */

/* Larger than the caches: what one token reads comes from memory. */
#define MATRIX_BYTES ((size_t)96 << 20)
#define MATRIX_K     2048

struct matmul_bench {
    struct axk_matmul a;
    size_t packed_bytes;
    float *x;
};


static void
matmul_job(void *arg, int thread, int n_threads)
{
    const struct axk_matmul *a = arg;
    uint32_t n_panels = a->n_rows / AXK_PANEL_ROWS;
    uint32_t first = n_panels * (uint32_t)thread / (uint32_t)n_threads;
    uint32_t end = n_panels * (uint32_t)(thread + 1) / (uint32_t)n_threads;

    ops->matmul(a, first * AXK_PANEL_ROWS, end * AXK_PANEL_ROWS);
}


/* A matrix of n x k (one random panel, repeated) and m rows of activations. */
static void
make_matmul(struct matmul_bench *b, uint32_t format, uint32_t n, uint32_t k,
            uint32_t m)
{
    enum axk_status status;
    enum axk_act kind = axk_format_traits(format)->act;
    size_t file_bytes = axk_file_bytes(format, AXK_PANEL_ROWS, k);
    size_t panel = axk_packed_bytes(format, AXK_PANEL_ROWS, k, &status);
    uint8_t *src = big_alloc(file_bytes);

    b->packed_bytes = axk_packed_bytes(format, n, k, &status);
    char *w = big_alloc(b->packed_bytes);
    b->x = big_alloc((size_t)m * k * 4);
    check_fill_weights(format, AXK_PANEL_ROWS, k, 0, src);
    axk_pack_rows(format, src, AXK_PANEL_ROWS, k, 0, AXK_PANEL_ROWS, w, NULL);
    for (size_t i = panel; i < b->packed_bytes; i += panel) {
        memcpy(w + i, w, panel);
    }
    check_fill(b->x, (size_t)m * k, 0);
    b->a = (struct axk_matmul){.format = format,
                               .n_rows = n,
                               .k = k,
                               .w = w,
                               .act = big_alloc(axk_act_bytes(kind, m, k)),
                               .y = big_alloc((size_t)m * n * 4),
                               .y_stride = n};
    munmap(src, file_bytes);
}


static void
free_matmul(struct matmul_bench *b, uint32_t m)
{
    enum axk_act kind = axk_format_traits(b->a.format)->act;

    munmap((void *)b->a.w, b->packed_bytes);
    munmap((void *)b->a.act, axk_act_bytes(kind, m, b->a.k));
    munmap(b->a.y, (size_t)m * b->a.n_rows * 4);
    munmap(b->x, (size_t)m * b->a.k * 4);
}


/* One row of the table: m tokens; base: seconds of one token, per count of
 * threads, 0 where this is that row. */
static void
bench_tokens(struct matmul_bench *b, uint32_t m, double *base)
{
    const struct axk_format_traits *f = axk_format_traits(b->a.format);
    bool is_float = f->act == AXK_ACT_F32;
    double work = 2.0 * b->a.n_rows * b->a.k * m;

    b->a.n_tokens = m;
    ops->quantize(f->act, b->x, b->a.k, m, b->a.k, 0, axk_act_tiles(m),
                  (void *)b->a.act);
    printf("%-7s %6u x %4u | %3u |", f->name, b->a.n_rows, b->a.k, m);
    for (int t = 1; t <= n_threads_max; t++) {
        double s = measure(matmul_job, &b->a, t, 7);
        double peak = is_float ? peak_f32[t] : peak_int8[t];

        if (base[t] == 0) {
            base[t] = s;
        }
        printf(" %6.2f ms %5.2f %7.1f Gop/s %5.1f %% %5.1f GB/s %5.1f %% |",
               s * 1e3, s / base[t], work / s * 1e-9, share(work / s, peak),
               (double)b->packed_bytes / s * 1e-9,
               share((double)b->packed_bytes / s, peak_read[t]));
    }
    printf("\n");
}


static void
bench_matmul(uint32_t format)
{
    static const uint32_t tokens[] = {1, 2, 3, 4, 6, 8, 16, 32};
    double base[THREADS_MAX + 1] = {0};
    enum axk_status status;
    size_t panel =
        axk_packed_bytes(format, AXK_PANEL_ROWS, MATRIX_K, &status);
    uint32_t n_panels = (uint32_t)(MATRIX_BYTES / panel) & ~1u;
    struct matmul_bench b;

    measure_peaks();
    make_matmul(&b, format, n_panels * AXK_PANEL_ROWS, MATRIX_K, 32);
    for (size_t i = 0; i < N_ELEMS(tokens); i++) {
        bench_tokens(&b, tokens[i], base);
    }
    free_matmul(&b, 32);
    make_matmul(&b, format, 2048, MATRIX_K, 512);
    memset(base, 0, sizeof(base));
    bench_tokens(&b, 512, base);
    free_matmul(&b, 512);
}


/* ---- attention ---- */

static void
attention_job(void *arg, int thread, int n_threads)
{
    const struct axk_attention *a = arg;
    uint32_t n = a->n_head_kv;

    if (a->n_q >= 2) {
        uint32_t q0 = a->n_q * (uint32_t)thread / (uint32_t)n_threads;
        uint32_t q1 = a->n_q * (uint32_t)(thread + 1) / (uint32_t)n_threads;
        ops->attention(a, 0, n, q0, q1);
        return;
    }
    ops->attention(a, n * (uint32_t)thread / (uint32_t)n_threads,
                   n * (uint32_t)(thread + 1) / (uint32_t)n_threads, 0, 1);
}


static void
bench_attention(enum axk_kv_type type, uint32_t n_head, uint32_t n_head_kv, uint32_t head_dim,
                uint32_t depth, uint32_t n_q)
{
    /* many sequences, so that a decode does not find its KV in a cache */
    uint32_t n_sequences = n_q > 1 ? 1 : 64;
    uint32_t n_blocks = (depth + n_q + AXK_KV_TOKENS - 1) / AXK_KV_TOKENS;
    size_t block = axk_kv_block_bytes(type, n_head_kv, head_dim);
    size_t width = (size_t)n_head * head_dim;
    uint32_t *table = big_alloc(n_blocks * sizeof(*table));
    float *q = big_alloc(n_q * width * 4);
    uint8_t *kv = big_alloc(block * n_blocks * n_sequences);
    struct axk_attention a = { .q = q, .q_stride = width,
                               .out = big_alloc(n_q * width * 4),
                               .out_stride = width, .n_q = n_q, .pos0 = depth,
                               .n_head = n_head, .n_head_kv = n_head_kv,
                               .head_dim = head_dim,
                               .kv_type = type, .kv_base = kv,
                               .kv_block_stride = block, .block_table = table,
                               .scale = 0.125f };
    double keys = 0;

    check_fill(q, n_q * width, 0);
    for (uint32_t i = 0; i < n_blocks; i++) {
        table[i] = i;
    }
    for (uint32_t i = 0; i < n_q; i++) {
        keys += depth + i + 1;
    }
    printf("attention %-4s %2u/%u x %3u depth %4u n_q %3u:",
           axk_kv_type_name(type), n_head, n_head_kv,
           head_dim, depth, n_q);
    for (int t = 1; t <= n_threads_max; t++) {
        double seconds[RUNS_MAX];

        for (int run = 0; run < RUNS_MAX; run++) {
            a.kv_base = kv + block * n_blocks * ((uint32_t)run % n_sequences);
            seconds[run] = measure(attention_job, &a, t, 1);
        }
        qsort(seconds, RUNS_MAX, sizeof(double), by_value);
        double s = seconds[RUNS_MAX / 2];
        double flops = 4.0 * keys * (double)width / s;
        double bytes = (double)block * n_blocks / s;

        if (n_q > 1) {
            printf("  %8.1f us %6.1f GFLOP/s %5.1f %%", s * 1e6, flops * 1e-9,
                   share(flops, peak_f32[t]));
        } else {
            printf("  %8.1f us %6.1f GB/s %5.1f %%", s * 1e6, bytes * 1e-9,
                   share(bytes, peak_read[t]));
        }
    }
    printf("\n");
    munmap(kv, block * n_blocks * n_sequences);
}


/* ---- the small ops, one thread ---- */

static void
bench_small_ops(void)
{
    enum { N = 1536, ROWS = 32 }; /* in L2, as they are in a step */
    float *x = big_alloc(3 * ROWS * N * sizeof(float));
    float *y = x + (size_t)ROWS * N;
    float *z = y + (size_t)ROWS * N;
    void *act = big_alloc(axk_act_bytes(AXK_ACT_Q8, ROWS, N));
    double best[4] = { 1, 1, 1, 1 };

    check_fill(x, 2 * (size_t)ROWS * N, 0);
    for (int run = 0; run < 99; run++) {
        double t[5];

        t[0] = now(1);
        ops->quantize(AXK_ACT_Q8, x, N, ROWS, N, 0, axk_act_tiles(ROWS), act);
        t[1] = now(1);
        ops->rmsnorm(z, N, x, N, ROWS, N, y, 1e-5f);
        t[2] = now(1);
        ops->silu_mul(z, N, x, N, y, N, ROWS, N);
        t[3] = now(1);
        ops->add(z, x, y, (size_t)ROWS * N);
        t[4] = now(1);
        for (int i = 0; i < 4; i++) {
            best[i] = t[i + 1] - t[i] < best[i] ? t[i + 1] - t[i] : best[i];
        }
    }
    printf("ns per element, %d x %d, 1 thread: quantize %.3f rmsnorm %.3f "
           "silu_mul %.3f add %.3f\n",
           ROWS, N, best[0] * 1e9 / ROWS / N, best[1] * 1e9 / ROWS / N,
           best[2] * 1e9 / ROWS / N, best[3] * 1e9 / ROWS / N);
}


/* filter_text names what is wanted, in words; empty: all. */
static bool
wanted(const char *what)
{
    const char *p = filter_text;
    size_t n = strlen(what);

    if (*p == '\0') {
        return true;
    }
    while ((p = strstr(p, what)) != NULL) {
        if ((p == filter_text || p[-1] == ' ') && (p[n] == 0 || p[n] == ' ')) {
            return true;
        }
        p += n;
    }
    return false;
}


int
bench_run(const char *filter)
{
    const char *isa = getenv("AXION_ISA");
    const char *threads = getenv("AXION_BENCH_THREADS");
    char why[80];

    filter_text = filter;
    if (threads != NULL && strcmp(threads, "1") == 0) {
        n_threads_max = 1; /* two spin in vain on a machine that is busy */
    }
    ops = axk_select(isa, why, sizeof(why));
    for (int i = 0; isa != NULL && check_isas[i] != NULL; i++) {
        if (strcmp(check_isas[i]->isa, isa) == 0) { /* a test's twin too */
            ops = check_isas[i];
            snprintf(why, sizeof(why), "%s", isa);
        }
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("instruction set: %s; each column 1, then 2 threads\n", why);
    if (ops == NULL) {
        return 1;
    }
    for (size_t f = 0; f < check_n_formats; f++) {
        if (wanted(axk_format_traits(check_formats[f])->name)
            || wanted("matmul"))
        {
            bench_matmul(check_formats[f]);
        }
    }
    if (wanted("attention")) {
        measure_peaks();
    }
    if (wanted("attention")) {
        for (uint32_t i = 0; i < AXK_KV_TYPE_END; i++) {
            enum axk_kv_type type = (enum axk_kv_type)i;

            bench_attention(type, 9, 3, 64, 2047, 1);
            bench_attention(type, 16, 8, 128, 2047, 1);
            bench_attention(type, 9, 3, 64, 0, 512);
            bench_attention(type, 16, 8, 128, 0, 512);
            bench_attention(type, 16, 8, 128, 2048, 128);
        }
    }
    if (wanted("small")) {
        bench_small_ops();
    }
    return 0;
}
