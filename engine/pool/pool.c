/*
 * The compute threads; pool.h has the idea, this is how it is kept safe.
 *
 * `published` names the running job: its number and the epoch of its first
 * phase in one word, so that a thread always has both of the same job.  A
 * thread may be late by any time, even into the next job, while thread 0
 * writes that job's tables.  Therefore:
 *  - thread 0 closes every range word (gives it an epoch that no unit of an
 *    older phase can have) before it writes the tables, and publishes after;
 *  - the tables are atomics: a late thread may read new numbers, but then its
 *    swap meets a closed word and fails;
 *  - job, the only plain data, is read while units are held.
 *
 * Pairs: `range` swaps (acquire, release) hand a range on; `done` (release by
 * who finishes units, acquire by who waits) publishes their results;
 * `published` (release by thread 0, acquire by the others) the job.
 * done/published against sleepers is the store-load pattern, so those four
 * accesses are sequentially consistent.
 */
#include "engine/pool/pool.h"

#include <assert.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "kernels/axk.h"


#define EPOCH_BITS 24u
#define EPOCH_MASK ((1u << EPOCH_BITS) - 1)
#define UNIT_BITS  20u
#define UNIT_MASK  ((1u << UNIT_BITS) - 1)

/* Rounds of waiting: pauses first, then yields, then sleep. */
#define SPIN_ROUNDS       256u
#define YIELD_ROUNDS_WORK 256u
#define YIELD_ROUNDS_IDLE 1024u

/* Between looks for something to steal while spinning. */
#define STEAL_EVERY 32u

#define STOPPED UINT64_MAX


struct worker {
    _Alignas(64) _Atomic uint64_t range; /* epoch, begin, end */
    struct ax_pool *pool;
    pthread_t thread;
    uint32_t index;
};


struct ax_pool {
    uint32_t n_threads;
    uint32_t n_started; /* threads to join, 0 included */
    uint32_t phases_max;
    struct worker *workers;
    _Atomic uint32_t *units;   /* [phases_max] */
    _Atomic uint64_t *targets; /* `done` after each phase */
    _Atomic uint32_t n_phases;
    const struct ax_pool_job *job;
    uint32_t job_number;
    uint32_t next_epoch;

    _Alignas(64) _Atomic uint64_t published;
    _Atomic uint32_t wake; /* futex word */
    _Atomic uint32_t sleepers;
    _Alignas(64) _Atomic uint64_t done; /* units, over all jobs */
};


static inline uint64_t
pack(uint32_t epoch, uint32_t begin, uint32_t end)
{
    return (uint64_t)(epoch & EPOCH_MASK) << (2 * UNIT_BITS) |
           (uint64_t)begin << UNIT_BITS | end;
}


/* Epoch of a word against another epoch: negative is older. */
static inline int32_t
epoch_distance(uint64_t word, uint32_t epoch)
{
    uint32_t d = (uint32_t)(word >> (2 * UNIT_BITS)) - epoch;

    return (int32_t)(d << (32 - EPOCH_BITS));
}


static inline void
pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}


uint64_t
ax_pool_clock_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}


uint32_t
ax_pool_cpus(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0) {
        return (uint32_t)CPU_COUNT(&set);
    }
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (uint32_t)n : 1;
}


/* What thread t has not begun of a phase: its share, or its word's range. */
static bool
open_range(const struct ax_pool *pool, uint64_t word, uint32_t t,
           uint32_t epoch, uint32_t units, uint32_t *begin, uint32_t *end)
{
    int32_t distance = epoch_distance(word, epoch);

    if (distance > 0) {
        return false;
    }
    if (distance < 0) {
        *begin = (uint32_t)((uint64_t)units * t / pool->n_threads);
        *end = (uint32_t)((uint64_t)units * (t + 1) / pool->n_threads);
    } else {
        *begin = (uint32_t)(word >> UNIT_BITS) & UNIT_MASK;
        *end = (uint32_t)word & UNIT_MASK;
    }
    return *begin < *end;
}


/*
 * The next piece of the own range: a third of it, so that pieces are few but
 * the last ones small.
 */
static bool
take_own(struct ax_pool *pool, uint32_t t, uint32_t epoch, uint32_t units,
         uint32_t *begin, uint32_t *end)
{
    _Atomic uint64_t *range = &pool->workers[t].range;
    uint64_t word = atomic_load_explicit(range, memory_order_acquire);

    while (open_range(pool, word, t, epoch, units, begin, end)) {
        uint32_t n = (*end - *begin + 2) / 3;
        uint64_t rest = pack(epoch, *begin + n, *end);
        if (atomic_compare_exchange_weak_explicit(range, &word, rest,
                                                  memory_order_acq_rel,
                                                  memory_order_acquire)) {
            *end = *begin + n;
            return true;
        }
    }
    return false;
}


/* The upper half of another thread's range becomes t's own, empty, range. */
static bool
steal(struct ax_pool *pool, uint32_t t, uint32_t epoch, uint32_t units)
{
    for (uint32_t i = 1; i < pool->n_threads; i++) {
        uint32_t victim = (t + i) % pool->n_threads;
        _Atomic uint64_t *range = &pool->workers[victim].range;
        uint64_t word = atomic_load_explicit(range, memory_order_acquire);
        uint32_t begin, end;

        while (open_range(pool, word, victim, epoch, units, &begin, &end)) {
            uint32_t middle = begin + (end - begin) / 2;
            if (atomic_compare_exchange_weak_explicit(
                    range, &word, pack(epoch, begin, middle),
                    memory_order_acq_rel, memory_order_acquire)) {
                /* Nobody swaps an empty word, so a store is enough. */
                atomic_store_explicit(&pool->workers[t].range,
                                      pack(epoch, middle, end),
                                      memory_order_release);
                return true;
            }
        }
    }
    return false;
}


static void
futex_wake_all(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}


static void
wake_sleepers(struct ax_pool *pool)
{
    if (atomic_load(&pool->sleepers) != 0) {
        atomic_fetch_add(&pool->wake, 1);
        futex_wake_all(&pool->wake);
    }
}


static void
finish_units(struct ax_pool *pool, uint32_t n, uint64_t target)
{
    if (atomic_fetch_add(&pool->done, n) + n == target) {
        wake_sleepers(pool);
    }
}


static inline bool
phase_over(struct ax_pool *pool, uint64_t target, uint64_t job)
{
    return atomic_load(&pool->done) >= target ||
           atomic_load(&pool->published) != job;
}


/* One round of waiting; the phase (or the idle time, target 0) may be over. */
static void
wait_round(struct ax_pool *pool, uint32_t round, uint32_t yields,
           uint64_t target, uint64_t job)
{
    if (round < SPIN_ROUNDS) {
        pause_cpu();
        return;
    }
    if (round < SPIN_ROUNDS + yields) {
        sched_yield();
        return;
    }
    atomic_fetch_add(&pool->sleepers, 1);
    uint32_t seen = atomic_load(&pool->wake);
    if (!phase_over(pool, target, job)) {
        syscall(SYS_futex, &pool->wake, FUTEX_WAIT_PRIVATE, seen, NULL, NULL,
                0);
    }
    atomic_fetch_sub(&pool->sleepers, 1);
}


/*
 * The thread's range to its end.  The units are counted in one go: a thread
 * between two of its pieces is about to hold the next one anyway.
 */
static void
work_phase(struct ax_pool *pool, uint32_t t, uint32_t phase, uint32_t epoch,
           uint32_t units, uint64_t target)
{
    uint32_t begin, end, n = 0;

    while (take_own(pool, t, epoch, units, &begin, &end)) {
        const struct ax_pool_job *job = pool->job;
        job->work(job->context, phase, begin, end, t);
        n += end - begin;
    }
    if (n > 0) {
        finish_units(pool, n, target);
    }
}


/* Works until the phase is over or, for a late thread, the job is. */
static void
run_phase(struct ax_pool *pool, uint32_t t, uint32_t phase, uint32_t epoch,
          uint64_t job)
{
    uint32_t units =
        atomic_load_explicit(&pool->units[phase], memory_order_acquire);
    uint64_t target =
        atomic_load_explicit(&pool->targets[phase], memory_order_acquire);
    bool gate = units == AX_POOL_GATE;

    if (!gate) {
        work_phase(pool, t, phase, epoch, units, target);
    }
    for (uint32_t round = 0; !phase_over(pool, target, job); round++) {
        if (!gate && round % STEAL_EVERY == 0 && steal(pool, t, epoch, units)) {
            work_phase(pool, t, phase, epoch, units, target);
            round = 0;
            continue;
        }
        wait_round(pool, round, YIELD_ROUNDS_WORK, target, job);
    }
}


static void
worker_job(struct ax_pool *pool, uint32_t t, uint64_t job)
{
    uint32_t epoch = (uint32_t)job & EPOCH_MASK;

    for (uint32_t i = 0;
         i < atomic_load_explicit(&pool->n_phases, memory_order_acquire) &&
         atomic_load(&pool->published) == job;
         i++) {
        run_phase(pool, t, i, (epoch + i) & EPOCH_MASK, job);
    }
}


static void *
worker_main(void *arg)
{
    struct worker *w = arg;
    struct ax_pool *pool = w->pool;
    uint64_t last = 0;

    axk_thread_init();
    for (;;) {
        uint64_t job;
        uint32_t round = 0;
        while ((job = atomic_load(&pool->published)) == last) {
            /* done never reaches this target: only a new job ends the wait. */
            wait_round(pool, round, YIELD_ROUNDS_IDLE, UINT64_MAX, last);
            round++;
        }
        if (job == STOPPED) {
            return NULL;
        }
        last = job;
        worker_job(pool, w->index, job);
    }
}


/* Closes the words, writes the tables, publishes; returns the job's word. */
static uint64_t
publish(struct ax_pool *pool, const struct ax_pool_job *job)
{
    uint32_t epoch = pool->next_epoch;
    uint64_t target = atomic_load(&pool->done);

    assert(job->n_phases <= pool->phases_max);
    for (uint32_t t = 0; t < pool->n_threads; t++) {
        atomic_store_explicit(&pool->workers[t].range, pack(epoch - 1, 0, 0),
                              memory_order_release);
    }
    for (uint32_t i = 0; i < job->n_phases; i++) {
        uint32_t units = job->units[i];
        assert(units <= AX_POOL_UNITS_MAX || units == AX_POOL_GATE);
        target += units == AX_POOL_GATE ? 1 : units;
        atomic_store_explicit(&pool->units[i], units, memory_order_release);
        atomic_store_explicit(&pool->targets[i], target, memory_order_release);
    }
    atomic_store_explicit(&pool->n_phases, job->n_phases, memory_order_release);
    pool->job = job;
    pool->job_number++;
    pool->next_epoch = (epoch + job->n_phases + 1) & EPOCH_MASK;
    uint64_t word = (uint64_t)pool->job_number << 32 | epoch;
    atomic_store(&pool->published, word);
    wake_sleepers(pool);
    return word;
}


static int
pass_gate(struct ax_pool *pool, const struct ax_pool_job *job, uint32_t phase)
{
    int rc = job->gate(job->context, phase);

    if (rc == 0) {
        finish_units(
            pool, 1,
            atomic_load_explicit(&pool->targets[phase], memory_order_relaxed));
    }
    return rc;
}


int
ax_pool_run(struct ax_pool *pool, const struct ax_pool_job *job)
{
    axk_thread_init();
    uint64_t word = publish(pool, job);
    uint32_t epoch = (uint32_t)word & EPOCH_MASK;

    for (uint32_t i = 0; i < job->n_phases; i++) {
        if (job->units[i] == AX_POOL_GATE) {
            int rc = pass_gate(pool, job, i);
            if (rc != 0) {
                return rc;
            }
        } else {
            run_phase(pool, 0, i, (epoch + i) & EPOCH_MASK, word);
        }
        if (job->end_ns != NULL) {
            job->end_ns[i] = ax_pool_clock_ns();
        }
    }
    return 0;
}


static int
start_threads(struct ax_pool *pool, struct ax_error *err)
{
    sigset_t all, old;
    int rc = 0;

    /* Signals belong to the thread that runs the loop. */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    for (; pool->n_started < pool->n_threads; pool->n_started++) {
        struct worker *w = &pool->workers[pool->n_started];
        char name[16];
        rc = pthread_create(&w->thread, NULL, worker_main, w);
        if (rc != 0) {
            ax_error_set(err, AXION_ERR_SYSTEM, "compute thread %u of %u: %s",
                         pool->n_started, pool->n_threads, strerror(rc));
            break;
        }
        snprintf(name, sizeof(name), "ax-compute-%u", pool->n_started & 255);
        pthread_setname_np(w->thread, name);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc == 0 ? AXION_OK : AXION_ERR_SYSTEM;
}


int
ax_pool_start(struct ax_pool **out, uint32_t n_threads, uint32_t phases_max,
              struct ax_error *err)
{
    *out = NULL;
    if (n_threads == 0 || n_threads > AX_POOL_THREADS_MAX || phases_max == 0 ||
        phases_max > EPOCH_MASK / 4) {
        return ax_error_set(err, AXION_ERR_BAD_OPTION,
                            "%u threads; 1 to %u expected", n_threads,
                            AX_POOL_THREADS_MAX);
    }
    struct ax_pool *pool = aligned_alloc(64, sizeof(*pool));
    if (pool == NULL) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    memset(pool, 0, sizeof(*pool));
    pool->n_threads = n_threads;
    pool->phases_max = phases_max;
    pool->n_started = 1;
    pool->next_epoch = 1;
    pool->workers = aligned_alloc(64, n_threads * sizeof(*pool->workers));
    pool->units = calloc(phases_max, sizeof(*pool->units));
    pool->targets = calloc(phases_max, sizeof(*pool->targets));
    if (pool->workers == NULL || pool->units == NULL || pool->targets == NULL) {
        ax_pool_stop(pool);
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    memset(pool->workers, 0, n_threads * sizeof(*pool->workers));
    for (uint32_t t = 0; t < n_threads; t++) {
        pool->workers[t].pool = pool;
        pool->workers[t].index = t;
    }
    int rc = start_threads(pool, err);
    if (rc != AXION_OK) {
        ax_pool_stop(pool);
        return rc;
    }
    *out = pool;
    return AXION_OK;
}


void
ax_pool_stop(struct ax_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    atomic_store(&pool->published, STOPPED);
    wake_sleepers(pool);
    for (uint32_t t = 1; t < pool->n_started; t++) {
        pthread_join(pool->workers[t].thread, NULL);
    }
    free(pool->targets);
    free(pool->units);
    free(pool->workers);
    free(pool);
}


uint32_t
ax_pool_threads(const struct ax_pool *pool)
{
    return pool->n_threads;
}
