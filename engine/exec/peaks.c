/*
 * The machine's peaks: memory read in order by all threads, each its own
 * part, and loops of independent dot products (VNNI) and fma in registers.
 * The best of some rounds counts, since other processes can only disturb.
 *
 * What a step could do at most at the time is another question where many
 * share a memory: its rate changes by half within seconds.  That is what
 * reading a model's own weights beside its steps tells.
 */
#include "engine/exec/peaks.h"

#include <string.h>

#include "engine/exec/internal.h"
#include "engine/pool/arena.h"
#include "engine/pool/pool.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif


#define READ_BYTES ((size_t)192 << 20) /* more than last-level caches hold */
#define ROUNDS     4u
#define LOOPS      200000u


struct probe {
    const uint64_t *memory;
    const struct ax_plan *plan; /* whose matrices are read */
    uint32_t n_threads;
    double sink[AX_POOL_THREADS_MAX]; /* so that nothing is optimized away */
};


/* Two loads in a cycle are enough for any memory; a scalar loop is not. */
#if defined(__x86_64__)

__attribute__((target("avx2"))) static uint64_t
read_words(const uint64_t *at, size_t words)
{
    __m256i acc[8];
    uint64_t lane[4];

    for (uint32_t j = 0; j < 8; j++) {
        acc[j] = _mm256_setzero_si256();
    }
    for (size_t i = 0; i < words; i += 32) {
#pragma GCC unroll 8
        for (uint32_t j = 0; j < 8; j++) {
            const void *p = at + i + 4 * j;
            acc[j] = _mm256_or_si256(acc[j], _mm256_loadu_si256(p));
        }
    }
    for (uint32_t j = 1; j < 8; j++) {
        acc[0] = _mm256_or_si256(acc[0], acc[j]);
    }
    memcpy(lane, &acc[0], sizeof(lane));
    return lane[0] | lane[1] | lane[2] | lane[3];
}

#endif


static uint64_t
read_words_plain(const uint64_t *at, size_t words)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < words; i++) {
        sum |= at[i];
    }
    return sum;
}


/* Part u of n of so many bytes, but for what is no multiple of 256. */
static double
read_share(const void *memory, size_t bytes, uint32_t u, uint32_t n)
{
    size_t words = bytes / sizeof(uint64_t) / n & ~(size_t)31;
    uint64_t (*read)(const uint64_t *, size_t) = read_words_plain;

#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
        read = read_words;
    }
#endif
    return (double)read((const uint64_t *)memory + u * words, words);
}


static void
read_part(void *context, const struct ax_pool_piece *piece)
{
    struct probe *p = context;

    for (uint32_t u = piece->begin; u < piece->end; u++) {
        p->sink[u] += read_share(p->memory, READ_BYTES, u, p->n_threads);
    }
}


#if defined(__x86_64__)

__attribute__((target("avx512f,avx512vnni"))) static void
int8_part(void *context, const struct ax_pool_piece *piece)
{
    struct probe *p = context;
    __m512i x = _mm512_set1_epi32(0x01010101);
    __m512i acc[16];

    for (uint32_t i = 0; i < 16; i++) {
        acc[i] = x;
    }
    for (uint32_t n = 0; n < LOOPS * (piece->end - piece->begin); n++) {
#pragma GCC unroll 16
        for (uint32_t i = 0; i < 16; i++) {
            acc[i] = _mm512_dpbusd_epi32(acc[i], x, x);
        }
    }
    for (uint32_t i = 1; i < 16; i++) {
        acc[0] = _mm512_xor_si512(acc[0], acc[i]);
    }
    p->sink[piece->begin] += _mm512_reduce_add_epi32(acc[0]);
}


__attribute__((target("avx2,fma"))) static void
f32_part(void *context, const struct ax_pool_piece *piece)
{
    struct probe *p = context;
    __m256 x = _mm256_set1_ps(1e-3f);
    __m256 acc[12];

    for (uint32_t i = 0; i < 12; i++) {
        acc[i] = x;
    }
    for (uint32_t n = 0; n < LOOPS * (piece->end - piece->begin); n++) {
#pragma GCC unroll 12
        for (uint32_t i = 0; i < 12; i++) {
            acc[i] = _mm256_fmadd_ps(acc[i], x, x);
        }
    }
    for (uint32_t i = 1; i < 12; i++) {
        acc[0] = _mm256_add_ps(acc[0], acc[i]);
    }
    p->sink[piece->begin] += (double)_mm256_cvtss_f32(acc[0]);
}

#endif


/* Seconds of the best round of one unit per thread. */
static double
measure(struct ax_pool *pool, struct probe *p,
        void (*work)(void *context, const struct ax_pool_piece *piece))
{
    struct ax_pool_job job = {
        .n_phases = 1,
        .units = &p->n_threads,
        .context = p,
        .work = work,
    };
    uint64_t best = UINT64_MAX;

    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint64_t start = ax_pool_clock_ns();
        ax_pool_run(pool, &job);
        uint64_t ns = ax_pool_clock_ns() - start;
        best = ns < best ? ns : best;
    }
    return (double)(best > 0 ? best : 1) * 1e-9;
}


static void
measure_all(struct ax_pool *pool, struct probe *p, struct ax_peaks *out)
{
    out->read_bytes = (double)READ_BYTES / measure(pool, p, read_part);
#if defined(__x86_64__)
    double loops = (double)LOOPS * p->n_threads;
    if (__builtin_cpu_supports("avx512vnni")) {
        out->int8_ops = loops * 16 * 64 * 2 / measure(pool, p, int8_part);
    }
    if (__builtin_cpu_supports("fma") && __builtin_cpu_supports("avx2")) {
        out->f32_ops = loops * 12 * 8 * 2 / measure(pool, p, f32_part);
    }
#endif
}


int
ax_peaks_measure(uint32_t n_threads, struct ax_peaks *out, struct ax_error *err)
{
    struct probe p = {.n_threads = n_threads};
    struct ax_arena arena;
    struct ax_pool *pool;

    *out = (struct ax_peaks){0};
    int rc = ax_pool_start(&pool, n_threads, 1, err);
    if (rc != AXION_OK) {
        return rc;
    }
    if (ax_arena_open(&arena, READ_BYTES) != AXION_OK) {
        ax_pool_stop(pool);
        return ax_error_set(err, AXION_ERR_NO_MEMORY,
                            "no memory to measure its bandwidth");
    }
    void *memory = ax_arena_take(&arena, READ_BYTES);
    memset(memory, 1, READ_BYTES);
    p.memory = memory;
    measure_all(pool, &p, out);
    ax_arena_close(&arena);
    ax_pool_stop(pool);
    return AXION_OK;
}


static void
weights_part(void *context, const struct ax_pool_piece *piece)
{
    struct probe *p = context;

    for (uint32_t u = piece->begin; u < piece->end; u++) {
        for (uint32_t i = 0; i < p->plan->n_matrices; i++) {
            const struct ax_plan_matrix *m = &p->plan->matrices[i];
            p->sink[u] +=
                read_share(m->packed, ax_plan_matrix_bytes(m), u, p->n_threads);
        }
    }
}


void
ax_peaks_weights(struct ax_exec *e, uint64_t *bytes, uint64_t *ns)
{
    struct probe p = {
        .plan = e->plan,
        .n_threads = ax_pool_threads(e->pool),
    };
    struct ax_pool_job job = {
        .n_phases = 1,
        .units = &p.n_threads,
        .context = &p,
        .work = weights_part,
    };

    uint64_t start = ax_pool_clock_ns();
    (void)ax_pool_run(e->pool, &job);
    *ns += ax_pool_clock_ns() - start;
    for (uint32_t i = 0; i < e->plan->n_matrices; i++) {
        *bytes += ax_plan_matrix_bytes(&e->plan->matrices[i]);
    }
}
