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
static double peak_int8[THREADS_MAX + 1];
static double peak_f32[THREADS_MAX + 1];
static double peak_read[THREADS_MAX + 1];


static double
now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
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
        double start = now();
        job->fn(job->arg, thread, job->n_threads);
        meet(job, 2 * run + 2);
        if (thread == 0) {
            job->seconds[run] = now() - start;
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

#define PEAK_LOOPS 2000000

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


#define READ_BYTES ((size_t)512 << 20)

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

    for (int t = 1; t <= THREADS_MAX; t++) {
        if (__builtin_cpu_supports("avx512vnni")) {
            peak_int8[t] = t * 2.0 * 64 * 16 * PEAK_LOOPS
                           / measure(int8_loop, sink, t, 5);
        }
        if (__builtin_cpu_supports("fma")) {
            peak_f32[t] = t * 2.0 * 8 * 12 * PEAK_LOOPS
                          / measure(f32_loop, sink, t, 5);
            peak_read[t] = READ_BYTES / measure(read_loop, memory, t, 7);
        }
        printf("%d thread%s: int8 %.0f Gop/s, f32 %.0f GFLOP/s, read %.1f "
               "GB/s\n",
               t, t > 1 ? "s" : "", peak_int8[t] * 1e-9, peak_f32[t] * 1e-9,
               peak_read[t] * 1e-9);
    }
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

static void
matmul_job(void *arg, int thread, int n_threads)
{
    const struct axk_matmul *a = arg;
    uint32_t n_panels = a->n_rows / AXK_PANEL_ROWS;
    uint32_t first = n_panels * (uint32_t)thread / (uint32_t)n_threads;
    uint32_t end = n_panels * (uint32_t)(thread + 1) / (uint32_t)n_threads;

    ops->matmul(a, first * AXK_PANEL_ROWS, end * AXK_PANEL_ROWS);
}


static void
make_matmul(struct axk_matmul *a, uint32_t format, uint32_t n, uint32_t k,
            uint32_t m)
{
    enum axk_status status;
    enum axk_act kind = axk_format_traits(format)->act;
    size_t file_bytes = axk_file_bytes(format, 32, k);
    size_t packed_bytes = axk_packed_bytes(format, n, k, &status);
    uint8_t *src = big_alloc(file_bytes);
    float *x = big_alloc((size_t)m * k * 4);
    char *w = big_alloc(packed_bytes);
    void *act = big_alloc(axk_act_bytes(kind, m, k));

    /* one random panel, repeated */
    check_fill_weights(format, 32, k, 0, src);
    size_t panel = axk_packed_bytes(format, 32, k, &status);
    axk_pack_rows(format, src, 32, k, 0, 32, w, NULL);
    for (size_t i = panel; i < packed_bytes; i += panel) {
        memcpy(w + i, w, panel);
    }
    check_fill(x, (size_t)m * k, 0);
    ops->quantize(kind, x, k, m, k, 0, axk_act_tiles(m), act);
    *a = (struct axk_matmul){ .format = format, .n_rows = n, .k = k,
                              .n_tokens = m, .w = w, .act = act,
                              .y = big_alloc((size_t)m * n * 4),
                              .y_stride = n };
    munmap(src, file_bytes);
    munmap(x, (size_t)m * k * 4);
}


static void
free_matmul(const struct axk_matmul *a)
{
    enum axk_status status;
    enum axk_act kind = axk_format_traits(a->format)->act;

    munmap((void *)a->w,
           axk_packed_bytes(a->format, a->n_rows, a->k, &status));
    munmap((void *)a->act, axk_act_bytes(kind, a->n_tokens, a->k));
    munmap(a->y, (size_t)a->n_tokens * a->n_rows * 4);
}


static void
bench_gemm(uint32_t format, uint32_t n, uint32_t k, uint32_t m)
{
    struct axk_matmul a;
    bool is_float = axk_format_traits(format)->act == AXK_ACT_F32;
    double ops_done = 2.0 * n * k * m;

    if (k % axk_format_traits(format)->block_elems != 0) {
        return;
    }
    make_matmul(&a, format, n, k, m);
    printf("gemm %-5s n %5u k %5u m %4u:", axk_format_traits(format)->name, n,
           k, m);
    for (int t = 1; t <= THREADS_MAX; t++) {
        double rate = ops_done / measure(matmul_job, &a, t, 9);
        double peak = is_float ? peak_f32[t] : peak_int8[t];
        printf("  %7.1f Gop/s %5.1f %%", rate * 1e-9, share(rate, peak));
    }
    printf("\n");
    free_matmul(&a);
}


/* One large matrix, m tokens: time against one token and against memory. */
static void
bench_gemv(uint32_t format)
{
    static const uint32_t tokens[] = { 1, 2, 4, 8, 16, 32 };
    const uint32_t k = 4096;
    enum axk_status status;
    size_t panel = axk_packed_bytes(format, AXK_PANEL_ROWS, k, &status);
    uint32_t n = (uint32_t)(((size_t)256 << 20) / panel) * AXK_PANEL_ROWS;

    for (size_t i = 0; i < N_ELEMS(tokens); i++) {
        struct axk_matmul a;
        double bytes = (double)(n / AXK_PANEL_ROWS) * (double)panel;

        make_matmul(&a, format, n, k, tokens[i]);
        printf("gemv %-5s 256 MiB m %2u:", axk_format_traits(format)->name,
               tokens[i]);
        for (int t = 1; t <= THREADS_MAX; t++) {
            double s = measure(matmul_job, &a, t, 7);
            printf("  %6.2f ms %5.1f GB/s %5.1f %%", s * 1e3, bytes / s * 1e-9,
                   share(bytes / s, peak_read[t]));
        }
        printf("\n");
        free_matmul(&a);
    }
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
bench_attention(uint32_t n_head, uint32_t n_head_kv, uint32_t head_dim,
                uint32_t depth, uint32_t n_q)
{
    /* many sequences, so that a decode does not find its KV in a cache */
    uint32_t n_sequences = n_q > 1 ? 1 : 64;
    uint32_t n_blocks = (depth + n_q + AXK_KV_TOKENS - 1) / AXK_KV_TOKENS;
    size_t block = axk_kv_block_bytes(n_head_kv, head_dim);
    size_t width = (size_t)n_head * head_dim;
    uint32_t *table = big_alloc(n_blocks * sizeof(*table));
    float *q = big_alloc(n_q * width * 4);
    uint8_t *kv = big_alloc(block * n_blocks * n_sequences);
    struct axk_attention a = { .q = q, .q_stride = width,
                               .out = big_alloc(n_q * width * 4),
                               .out_stride = width, .n_q = n_q, .pos0 = depth,
                               .n_head = n_head, .n_head_kv = n_head_kv,
                               .head_dim = head_dim, .kv_base = kv,
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
    printf("attention %2u/%u x %3u depth %4u n_q %3u:", n_head, n_head_kv,
           head_dim, depth, n_q);
    for (int t = 1; t <= THREADS_MAX; t++) {
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
    enum { N = 1536, ROWS = 512 };
    float *x = big_alloc(3 * ROWS * N * sizeof(float));
    float *y = x + (size_t)ROWS * N;
    float *z = y + (size_t)ROWS * N;
    void *act = big_alloc(axk_act_bytes(AXK_ACT_Q8, ROWS, N));
    double best[4] = { 1, 1, 1, 1 };

    check_fill(x, 2 * (size_t)ROWS * N, 0);
    for (int run = 0; run < 9; run++) {
        double t[5];

        t[0] = now();
        ops->quantize(AXK_ACT_Q8, x, N, ROWS, N, 0, axk_act_tiles(ROWS), act);
        t[1] = now();
        ops->rmsnorm(z, N, x, N, ROWS, N, y, 1e-5f);
        t[2] = now();
        ops->silu_mul(z, N, x, N, y, N, ROWS, N);
        t[3] = now();
        ops->add(z, x, y, (size_t)ROWS * N);
        t[4] = now();
        for (int i = 0; i < 4; i++) {
            best[i] = t[i + 1] - t[i] < best[i] ? t[i + 1] - t[i] : best[i];
        }
    }
    printf("ns per element, %d x %d, 1 thread: quantize %.3f rmsnorm %.3f "
           "silu_mul %.3f add %.3f\n",
           ROWS, N, best[0] * 1e9 / ROWS / N, best[1] * 1e9 / ROWS / N,
           best[2] * 1e9 / ROWS / N, best[3] * 1e9 / ROWS / N);
}


static bool
wanted(const char *what)
{
    return strstr(what, filter_text) != NULL;
}


int
bench_run(const char *filter)
{
    static const uint32_t shapes[][2] = {
        { 2048, 2048 }, { 576, 1536 }, { 1536, 576 }, { 2048, 8192 }
    };
    const char *isa = getenv("AXION_ISA");
    char why[80];

    filter_text = filter;
    ops = axk_select(isa, why, sizeof(why));
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("instruction set: %s; each column 1, then 2 threads\n", why);
    if (ops == NULL) {
        return 1;
    }
    measure_peaks();
    for (size_t f = 0; wanted("gemm") && f < check_n_formats; f++) {
        for (size_t s = 0; s < N_ELEMS(shapes); s++) {
            bench_gemm(check_formats[f], shapes[s][0], shapes[s][1], 512);
        }
    }
    for (size_t f = 0; wanted("gemv") && f < check_n_formats; f++) {
        bench_gemv(check_formats[f]);
    }
    if (wanted("attention")) {
        bench_attention(9, 3, 64, 2047, 1);
        bench_attention(16, 8, 128, 2047, 1);
        bench_attention(9, 3, 64, 0, 512);
        bench_attention(16, 8, 128, 0, 512);
        bench_attention(16, 8, 128, 2048, 128);
    }
    if (wanted("small")) {
        bench_small_ops();
    }
    return 0;
}
