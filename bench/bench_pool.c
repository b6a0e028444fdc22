/*
 * What it costs that compute threads meet: phases of equal work on a pool
 * (engine/pool/pool.h), beside the same work without one.
 *
 *   barrier, in place   phases of one unit for each thread, as stages of rows
 *   barrier, private    the same computed apart and committed, as matmuls
 *   gate, barrier       every other phase a gate, as layer boundaries are
 *   job                 jobs of one phase, back to back: starting a step
 *
 * A unit is a chain of multiplications of some microseconds, so that threads
 * do meet and not take each other's units.  A figure is ns per phase or job
 * of a run of some 300 us, less what the chain takes alone at best.
 * Printed are the lowest of ROUNDS (environment, default 101), which is what
 * it costs undisturbed, the median, and the highest.  Threads: 1, 2, ... up to
 * THREADS (environment, all CPUs), each on a CPU of its own.
 */
#include <stdio.h>
#include <stdlib.h>

#include "engine/pool/place.h"
#include "engine/pool/pool.h"

#define ROUNDS_MAX 1001
#define PHASES     200u
#define CHAIN      2000u

enum kind { IN_PLACE, PRIVATE, GATES, JOBS_OF_ONE, N_KINDS };

static const char *const names[N_KINDS] = {
    [IN_PLACE] = "barrier, in place",
    [PRIVATE] = "barrier, private",
    [GATES] = "gate, barrier",
    [JOBS_OF_ONE] = "job",
};

static uint32_t units[PHASES];
static uint32_t piece_max[PHASES];


static void
chain(void)
{
    uint64_t x = 1;

    for (uint32_t i = 0; i < CHAIN; i++) {
        x *= 0x9e3779b97f4a7c15u;
        __asm__ volatile("" : "+r"(x));
    }
}


static void
work(void *context, const struct ax_pool_piece *piece)
{
    (void)context;
    for (uint32_t i = piece->begin; i < piece->end; i++) {
        chain();
    }
}


static bool
compute(void *context, const struct ax_pool_piece *piece)
{
    work(context, piece);
    return ax_pool_holds(piece);
}


static void
commit(void *context, const struct ax_pool_piece *piece)
{
    (void)context;
    (void)piece;
}


static int
gate(void *context, uint32_t phase)
{
    (void)context;
    (void)phase;
    return 0;
}


static double
alone_ns(void)
{
    uint64_t start = ax_pool_clock_ns();

    for (uint32_t i = 0; i < PHASES; i++) {
        chain();
    }
    return (double)(ax_pool_clock_ns() - start) / PHASES;
}


/* ns per phase with work, or per job. */
static double
measure(struct ax_pool *pool, enum kind kind)
{
    uint32_t jobs = kind == JOBS_OF_ONE ? PHASES : 1;
    uint32_t working = kind == GATES ? PHASES / 2 : PHASES;
    struct ax_pool_job job = {
        .n_phases = kind == JOBS_OF_ONE ? 1 : PHASES,
        .units = units,
        .piece_max = piece_max,
        .work = work,
        .compute = compute,
        .commit = commit,
        .gate = gate,
    };

    for (uint32_t i = 0; i < PHASES; i++) {
        bool is_gate = kind == GATES && i % 2 == 1;
        units[i] = is_gate ? AX_POOL_GATE : ax_pool_threads(pool);
        piece_max[i] = kind == PRIVATE;
    }
    uint64_t start = ax_pool_clock_ns();
    for (uint32_t i = 0; i < jobs; i++) {
        ax_pool_run(pool, &job);
    }
    return (double)(ax_pool_clock_ns() - start) / working;
}


static int
by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}


static void
bench_threads(uint32_t n_threads, uint32_t rounds)
{
    static double samples[N_KINDS][ROUNDS_MAX];
    struct ax_error err;
    struct ax_pool *pool;
    struct ax_placement placement;

    ax_placement_init(&placement, n_threads <= ax_pool_cpus(), 0);
    if (ax_pool_start(&pool, n_threads, PHASES, &err) != 0 ||
        ax_pool_place(pool, &placement, &err) != 0) {
        fprintf(stderr, "bench_pool: %s\n", err.text);
        exit(1);
    }
    double alone = alone_ns();
    for (uint32_t round = 0; round < rounds; round++) {
        double now = alone_ns();
        alone = now < alone ? now : alone;
        for (int kind = 0; kind < N_KINDS; kind++) {
            samples[kind][round] = measure(pool, (enum kind)kind);
        }
    }
    ax_placement_end(&placement);
    ax_pool_stop(pool);
    for (int kind = 0; kind < N_KINDS; kind++) {
        qsort(samples[kind], rounds, sizeof(double), by_value);
        printf("%2u threads  %-18s %8.0f ns  (median %.0f, highest %.0f)\n",
               n_threads, names[kind], samples[kind][0] - alone,
               samples[kind][rounds / 2] - alone,
               samples[kind][rounds - 1] - alone);
    }
}


int
main(void)
{
    const char *text = getenv("ROUNDS");
    const char *threads = getenv("THREADS");
    int rounds = text != NULL ? atoi(text) : 101;
    int n = threads != NULL ? atoi(threads) : (int)ax_pool_cpus();

    if (rounds < 1 || rounds > ROUNDS_MAX || n < 1 ||
        n > (int)AX_POOL_THREADS_MAX) {
        fprintf(stderr, "bench_pool: ROUNDS is 1 to %d, THREADS 1 to %u\n",
                ROUNDS_MAX, AX_POOL_THREADS_MAX);
        return 1;
    }
    printf("%d rounds, lowest (median, highest), %u CPUs\n", rounds,
           ax_pool_cpus());
    for (int t = 1; t <= n; t++) {
        bench_threads((uint32_t)t, (uint32_t)rounds);
    }
    return 0;
}
