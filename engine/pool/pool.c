/*
 * The compute threads; pool.h has the idea, range.h the word that holds a
 * thread's range, this is how it is kept safe.
 *
 * `published` names the running job: its number and the epoch of its first
 * phase in one word, so that a thread always has both of the same job.  A
 * thread may be late by any time, even into the next job, while thread 0
 * writes that job's tables.  Therefore:
 *  - thread 0 closes every range word (gives it an epoch that no unit of an
 *    older phase can have) before it writes the tables, and publishes after;
 *  - the tables and the job's functions are atomics: a late thread may read
 *    those of a new job, but then its swap meets a closed word and fails, or it
 *    no longer holds its piece, which it asks after reading them;
 *  - units are counted when they are committed, which takes the successful
 *    swap of a word that says they are held.
 * A phase is over when the threads' counts, growing for ever, add up to its
 * target; each is on a line of its own that only its thread writes.
 *
 * Pairs: range.h; `finished` (release by who finishes units, acquire by who
 * waits) publishes their results; `published` (release by thread 0, acquire
 * by the others) the job.  finished/published against sleepers is the
 * store-load pattern: a full fence or sequential consistency on both sides.
 *
 * `crew`, how many threads the job has, is one of its tables.  A thread beyond
 * it sleeps on that word itself, so that no wake-up of the others reaches it.
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

#include "engine/pool/apart.h"
#include "engine/pool/range.h"
#include "kernels/axk.h"


/*
 * ThreadSanitizer.  Where pieces may be computed twice, what compute() reads
 * can change under a late thread whose result is then dropped: that is no
 * race.  It does not model fences; those here only order a store before a load
 * (sleepers) or such reads before ax_pool_holds(), no data hangs on them.
 */
#if defined(__SANITIZE_THREAD__)
#pragma GCC diagnostic ignored "-Wtsan"
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
#define TSAN_IGNORE_BEGIN() AnnotateIgnoreReadsBegin(__FILE__, __LINE__)
#define TSAN_IGNORE_END()   AnnotateIgnoreReadsEnd(__FILE__, __LINE__)
#else
#define TSAN_IGNORE_BEGIN() ((void)0)
#define TSAN_IGNORE_END()   ((void)0)
#endif

/* Rounds of waiting: pauses first, then yields (pauses where they give the CPU
 * to none of ours), then sleep. */
#define SPIN_ROUNDS       512u
#define YIELD_ROUNDS_WORK 256u
#define YIELD_ROUNDS_IDLE 1024u
#define YIELD_PAUSES      16u

/*
 * Between looks for something to steal while spinning, and before the first:
 * threads with equal shares end within that, and a look takes the cache line
 * that the other is about to write from it.
 */
#define STEAL_EVERY 32u
#define STEAL_FIRST 8u

/* Yields between looks at whose CPU this is. */
#define APART_EVERY 8u

/* A piece is not computed again before it was held for this long. */
#define PATIENCE_NS 5000u

/* Sleep within a job; a wake-up that comes late costs no more. */
#define NAP_NS 1000000

#define STOPPED UINT64_MAX


typedef void (*ax_pool_work)(void *, const struct ax_pool_piece *);
typedef bool (*ax_pool_compute)(void *, const struct ax_pool_piece *);
typedef void (*ax_pool_commit)(void *, const struct ax_pool_piece *);


struct worker {
    _Alignas(64) _Atomic uint64_t range;
    _Alignas(64) _Atomic uint64_t finished; /* units, over all jobs */
    _Atomic int32_t cpu;                    /* where it was last seen, or -1 */
    struct ax_apart apart;
    struct ax_pool *pool;
    pthread_t thread;
    uint32_t index;
};


struct ax_pool {
    uint32_t n_threads;
    uint32_t n_started; /* threads to join, 0 included */
    uint32_t phases_max;
    struct worker *workers;
    _Atomic uint32_t *units;     /* [phases_max] */
    _Atomic uint32_t *piece_max; /* [phases_max] */
    _Atomic uint64_t *targets;   /* sum of `finished` after each phase */
    _Atomic uint32_t n_phases;
    _Atomic(void *) context; /* of the job, as the three that follow */
    _Atomic(ax_pool_work) work;
    _Atomic(ax_pool_compute) compute;
    _Atomic(ax_pool_commit) commit;
    _Atomic uint32_t crew; /* a table, and the futex word of who is beyond */
    uint32_t job_number;
    uint32_t next_epoch;
    _Atomic bool fixed;      /* no thread moves any more */
    _Atomic uint32_t movers; /* threads that do, now */

    _Alignas(64) _Atomic uint64_t published;
    _Atomic uint32_t wake;     /* futex word */
    _Atomic uint32_t sleepers; /* some may sleep, since the last wake-up */
};


/* A thread's view of the phase it is in. */
struct phase {
    uint32_t index;
    uint32_t epoch;
    uint32_t units;     /* or AX_POOL_GATE */
    uint32_t piece_max; /* 0: in place */
    uint32_t crew;
    uint64_t target;
    uint64_t job; /* as published */
    uint64_t start_ns;
};


/* The held piece that a waiting thread looks at. */
struct watch {
    uint32_t victim;
    uint64_t held;
    uint64_t until_ns;
};


static inline void
pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}


static uint64_t
clock_ns(clockid_t clock)
{
    struct timespec ts;

    return clock_gettime(clock, &ts) == 0
               ? (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec
               : 0;
}


pthread_t
ax_pool_thread(const struct ax_pool *pool, uint32_t t)
{
    assert(t > 0 && t < pool->n_started);
    return pool->workers[t].thread;
}


uint32_t
ax_pool_phases_max(const struct ax_pool *pool)
{
    return pool->phases_max;
}


uint64_t
ax_pool_cpu_ns(const struct ax_pool *pool)
{
    uint64_t ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);

    for (uint32_t t = 1; t < pool->n_started; t++) {
        clockid_t clock;
        if (pthread_getcpuclockid(pool->workers[t].thread, &clock) == 0) {
            ns += clock_ns(clock);
        }
    }
    return ns;
}


uint64_t
ax_pool_clock_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
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


static struct ax_range_share
share_of(uint32_t t, const struct phase *p)
{
    return (struct ax_range_share){
        .epoch = p->epoch,
        .begin = (uint32_t)((uint64_t)p->units * t / p->crew),
        .end = (uint32_t)((uint64_t)p->units * (t + 1) / p->crew),
    };
}


/* Something of another thread's becomes t's own range. */
static bool
steal(struct ax_pool *pool, uint32_t t, const struct phase *p)
{
    for (uint32_t i = 1; i < p->crew; i++) {
        uint32_t victim = (t + i) % p->crew;
        struct ax_range_share share = share_of(victim, p);
        struct ax_range stolen;
        if (ax_range_steal(&pool->workers[victim].range, &share, &stolen)) {
            /* Nobody swaps a word without free units or a piece. */
            atomic_store_explicit(&pool->workers[t].range,
                                  ax_range_pack(p->epoch, stolen),
                                  memory_order_release);
            return true;
        }
    }
    return false;
}


static void
futex_wake_all(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}


/* After what sleepers wait for and a full fence. */
static void
wake_sleepers(struct ax_pool *pool)
{
    if (atomic_load(&pool->sleepers) && atomic_exchange(&pool->sleepers, 0)) {
        atomic_fetch_add(&pool->wake, 1);
        futex_wake_all(&pool->wake);
    }
}


static uint64_t
finished(const struct ax_pool *pool)
{
    uint64_t sum = 0;

    for (uint32_t t = 0; t < pool->n_threads; t++) {
        sum += atomic_load(&pool->workers[t].finished);
    }
    return sum;
}


/* Only thread t writes its count. */
static inline void
finish_units(struct ax_pool *pool, uint32_t t, uint32_t n)
{
    _Atomic uint64_t *count = &pool->workers[t].finished;
    uint64_t old = atomic_load_explicit(count, memory_order_relaxed);

    atomic_store_explicit(count, old + n, memory_order_release);
}


static inline bool
phase_over(const struct ax_pool *pool, const struct phase *p)
{
    return finished(pool) >= p->target ||
           atomic_load(&pool->published) != p->job;
}


/* The line is one that others poll: written when it changes. */
static int
note_cpu(struct ax_pool *pool, uint32_t t)
{
    _Atomic int32_t *noted = &pool->workers[t].cpu;
    int cpu = ax_apart_cpu();

    if (atomic_load_explicit(noted, memory_order_relaxed) != cpu) {
        atomic_store_explicit(noted, cpu, memory_order_relaxed);
    }
    return cpu;
}


/* Whether one of the job's threads was last seen on this CPU. */
static bool
shares_cpu(struct ax_pool *pool, uint32_t t)
{
    uint32_t crew = atomic_load_explicit(&pool->crew, memory_order_relaxed);
    int cpu = note_cpu(pool, t);

    for (uint32_t i = 0; i < crew; i++) {
        if (i != t && atomic_load_explicit(&pool->workers[i].cpu,
                                           memory_order_relaxed) == cpu) {
            return true;
        }
    }
    return false;
}


/*
 * One round of waiting; the phase (or the idle time, target never) may end.
 * Yielding is for a thread of ours on the same CPU: beside anybody else's busy
 * one Linux 6.18 takes a turn of some ms for it, and who waits for 20 us now
 * and then is left with 2 % of the CPU.
 */
static void
wait_round(struct ax_pool *pool, uint32_t t, uint32_t round, uint32_t yields,
           const struct phase *p, const struct timespec *nap)
{
    if (round < SPIN_ROUNDS) {
        pause_cpu();
        return;
    }
    if (round < SPIN_ROUNDS + yields) {
        if (shares_cpu(pool, t)) {
            sched_yield();
        } else {
            for (uint32_t i = 0; i < YIELD_PAUSES; i++) {
                pause_cpu();
            }
        }
        return;
    }
    atomic_store(&pool->sleepers, 1);
    uint32_t seen = atomic_load(&pool->wake);
    if (!phase_over(pool, p)) {
        syscall(SYS_futex, &pool->wake, FUTEX_WAIT_PRIVATE, seen, nap, NULL, 0);
    }
}


bool
ax_pool_holds(const struct ax_pool_piece *piece)
{
    /* Reads before this stay before; pairs with the swap that lets go, which
     * comes before whatever changes what was read. */
    atomic_thread_fence(memory_order_acquire);
    return ax_range_holder(atomic_load_explicit(
               piece->range, memory_order_relaxed)) == piece->held;
}


/* Computes in private; true if the piece was still there to be committed. */
static bool
compute_and_commit(struct ax_pool *pool, const struct ax_pool_piece *piece,
                   _Atomic uint64_t *range)
{
    /* Of this job if the piece is still held behind it. */
    ax_pool_compute compute =
        atomic_load_explicit(&pool->compute, memory_order_acquire);
    ax_pool_commit commit =
        atomic_load_explicit(&pool->commit, memory_order_acquire);
    void *context = atomic_load_explicit(&pool->context, memory_order_acquire);

    TSAN_IGNORE_BEGIN();
    bool computed = ax_pool_holds(piece) && compute(context, piece);
    TSAN_IGNORE_END();
    if (!computed || !ax_range_let_go(range, piece->held)) {
        return false;
    }
    commit(context, piece);
    finish_units(pool, piece->thread, piece->end - piece->begin);
    return true;
}


/* Nobody else can do it, so the phase and its job stand still for us. */
static void
work_in_place(struct ax_pool *pool, const struct ax_pool_piece *piece)
{
    ax_pool_work work = atomic_load_explicit(&pool->work, memory_order_acquire);

    work(atomic_load_explicit(&pool->context, memory_order_acquire), piece);
}


/* Thread 0 of a crew of one has nobody to share with, and all units are one
 * piece.  No other thread comes here: late, it may read the crew of a later
 * job, and would not ask whether units are still to be had. */
static void
work_alone(struct ax_pool *pool, const struct phase *p)
{
    struct ax_pool_piece piece = {
        .phase = p->index,
        .end = p->units,
        .range = &pool->workers[0].range,
    };

    if (p->units > 0) {
        work_in_place(pool, &piece);
        finish_units(pool, 0, p->units);
    }
}


/* The thread's range to its end. */
static void
work_range(struct ax_pool *pool, uint32_t t, const struct phase *p)
{
    _Atomic uint64_t *range = &pool->workers[t].range;
    struct ax_range_share share = share_of(t, p);
    uint32_t max = p->piece_max == 0 ? UINT32_MAX : p->piece_max;
    struct ax_range r;
    uint64_t held;

    /* A thread may be so late that epochs have come round: not in this job. */
    while (atomic_load(&pool->published) == p->job &&
           ax_range_take(range, &share, max, &r, &held)) {
        struct ax_pool_piece piece = {
            .phase = p->index,
            .begin = r.held,
            .end = r.next,
            .thread = t,
            .range = range,
            .held = held,
        };
        if (p->piece_max != 0) {
            compute_and_commit(pool, &piece, range);
        } else {
            work_in_place(pool, &piece);
            finish_units(pool, t, r.next - r.held);
        }
    }
}


/* How long a piece of n units may take, by the phase so far. */
static uint64_t
patience_ns(const struct ax_pool *pool, const struct phase *p, uint32_t n,
            uint64_t now)
{
    uint64_t left = p->target - finished(pool);
    uint64_t done = left < p->units ? p->units - left : 0;

    if (done == 0) {
        return 4 * PATIENCE_NS;
    }
    uint64_t ns = (now - p->start_ns) * p->crew * n / done;
    return ns > PATIENCE_NS ? ns : PATIENCE_NS;
}


/* A piece that some other thread holds in this phase. */
static bool
find_held(const struct ax_pool *pool, uint32_t t, const struct phase *p,
          struct ax_pool_piece *piece, uint32_t *victim)
{
    for (uint32_t i = 1; i < p->crew; i++) {
        *victim = (t + i) % p->crew;
        _Atomic uint64_t *range = &pool->workers[*victim].range;
        uint64_t word = atomic_load_explicit(range, memory_order_acquire);
        struct ax_range r = ax_range_unpack(word);
        if (ax_range_distance(word, p->epoch) == 0 && r.held < r.next) {
            *piece = (struct ax_pool_piece){
                .phase = p->index,
                .begin = r.held,
                .end = r.next,
                .thread = t,
                .range = range,
                .held = ax_range_holder(word),
            };
            return true;
        }
    }
    return false;
}


/* Computes again what another thread holds for too long. */
static bool
take_back(struct ax_pool *pool, uint32_t t, const struct phase *p,
          struct watch *watch)
{
    struct ax_pool_piece piece;
    uint32_t victim;

    if (!find_held(pool, t, p, &piece, &victim)) {
        return false;
    }
    uint64_t now = ax_pool_clock_ns();
    if (victim != watch->victim || piece.held != watch->held) {
        *watch = (struct watch){
            .victim = victim,
            .held = piece.held,
            .until_ns =
                now + patience_ns(pool, p, piece.end - piece.begin, now),
        };
        return false;
    }
    if (now < watch->until_ns) {
        return false;
    }
    return compute_and_commit(pool, &piece, &pool->workers[victim].range);
}


/* More work after the own range, from whoever has some. */
static bool
find_work(struct ax_pool *pool, uint32_t t, const struct phase *p,
          struct watch *watch)
{
    if (p->units == AX_POOL_GATE) {
        return false;
    }
    if (steal(pool, t, p)) {
        work_range(pool, t, p);
        return true;
    }
    return p->piece_max != 0 && take_back(pool, t, p, watch);
}


/* A waiting thread that has been on the CPU of one before it for a while
 * leaves it (apart.h). */
static void
go_apart(struct ax_pool *pool, uint32_t t, const struct phase *p)
{
    struct ax_apart *apart = &pool->workers[t].apart;
    int cpu = note_cpu(pool, t);
    bool shared = false;
    cpu_set_t taken;

    CPU_ZERO(&taken);
    for (uint32_t i = 0; i < p->crew; i++) {
        int other =
            atomic_load_explicit(&pool->workers[i].cpu, memory_order_relaxed);
        if (i != t && other >= 0 && other < CPU_SETSIZE) {
            CPU_SET(other, &taken);
            shared |= i < t && other == cpu;
        }
    }
    if (!shared) {
        apart->since_ns = 0;
    } else if (ax_apart_ready(apart, ax_pool_clock_ns())) {
        /* Pairs with ax_pool_fix(): it sees us, or we see it. */
        atomic_fetch_add(&pool->movers, 1);
        if (!atomic_load(&pool->fixed) && ax_apart_leave(&taken)) {
            (void)note_cpu(pool, t);
        }
        atomic_fetch_sub(&pool->movers, 1);
    }
}


void
ax_pool_fix(struct ax_pool *pool)
{
    atomic_store(&pool->fixed, true);
    while (atomic_load(&pool->movers) != 0) {
        sched_yield();
    }
}


/* Works until the phase is over or, for a late thread, the job is. */
static void
run_phase(struct ax_pool *pool, uint32_t t, struct phase *p)
{
    static const struct timespec nap = {0, NAP_NS};
    struct watch watch = {.victim = UINT32_MAX};

    (void)note_cpu(pool, t);
    if (p->units != AX_POOL_GATE) {
        p->start_ns = p->piece_max != 0 ? ax_pool_clock_ns() : 0;
        if (t == 0 && p->crew == 1 && p->piece_max == 0) {
            work_alone(pool, p);
        } else {
            work_range(pool, t, p);
        }
    }
    for (uint32_t round = 0; !phase_over(pool, p); round++) {
        if (round % STEAL_EVERY == STEAL_FIRST &&
            find_work(pool, t, p, &watch)) {
            round = 0;
            continue;
        }
        if (t > 0 && round >= SPIN_ROUNDS && round % APART_EVERY == 0) {
            go_apart(pool, t, p);
        }
        /* Thread 0 wakes who waits at a gate, at the next job if it has
         * ended this one. */
        wait_round(pool, t, round, YIELD_ROUNDS_WORK, p,
                   p->units == AX_POOL_GATE ? NULL : &nap);
    }
    /* Pairs with the one of a sleeper: it sees our count, or we see it.  Not
     * ahead of the wait, where it would wait for the count to be out first:
     * nobody has reason to wake before the phase is over. */
    atomic_thread_fence(memory_order_seq_cst);
    wake_sleepers(pool);
}


static struct phase
phase_of(const struct ax_pool *pool, uint32_t i, uint64_t job)
{
    return (struct phase){
        .index = i,
        .epoch = ((uint32_t)job + i) & AX_RANGE_EPOCH_MASK,
        .units = atomic_load_explicit(&pool->units[i], memory_order_acquire),
        .piece_max =
            atomic_load_explicit(&pool->piece_max[i], memory_order_acquire),
        .crew = atomic_load_explicit(&pool->crew, memory_order_acquire),
        .target = atomic_load_explicit(&pool->targets[i], memory_order_acquire),
        .job = job,
    };
}


static void
worker_job(struct ax_pool *pool, uint32_t t, uint64_t job)
{
    for (uint32_t i = 0;
         i < atomic_load_explicit(&pool->n_phases, memory_order_acquire) &&
         atomic_load(&pool->published) == job;
         i++) {
        struct phase p = phase_of(pool, i, job);
        run_phase(pool, t, &p);
    }
}


/*
 * A thread that the job does without sleeps until the crew changes; false if
 * it takes part.  The crew may be that of a later job already: then there is
 * nothing left of this one to take.
 */
static bool
park(struct ax_pool *pool, uint32_t t)
{
    uint32_t crew = atomic_load(&pool->crew);

    if (t < crew) {
        return false;
    }
    syscall(SYS_futex, &pool->crew, FUTEX_WAIT_PRIVATE, crew, NULL, NULL, 0);
    return true;
}


static void *
worker_main(void *arg)
{
    struct worker *w = arg;
    struct ax_pool *pool = w->pool;
    uint64_t last = 0;

    axk_thread_init();
    for (;;) {
        /* Counts never reach this target: only a new job ends the wait. */
        struct phase idle = {.target = UINT64_MAX, .job = last};
        uint64_t job;
        uint32_t round = 0;
        while ((job = atomic_load(&pool->published)) == last) {
            wait_round(pool, w->index, round, YIELD_ROUNDS_IDLE, &idle, NULL);
            round++;
        }
        if (job == STOPPED) {
            return NULL;
        }
        last = job;
        if (!park(pool, w->index)) {
            worker_job(pool, w->index, job);
        }
    }
}


/* After the words are closed: who reads the new crew finds nothing to take. */
static void
set_crew(struct ax_pool *pool, uint32_t crew)
{
    if (atomic_exchange(&pool->crew, crew) < crew) {
        futex_wake_all(&pool->crew);
    }
}


/* Closes the words, writes the tables, publishes; returns the job's word. */
static uint64_t
publish(struct ax_pool *pool, const struct ax_pool_job *job)
{
    uint32_t epoch = pool->next_epoch, all = pool->n_threads;
    uint64_t target = finished(pool);

    assert(job->n_phases <= pool->phases_max && job->n_threads <= all);
    for (uint32_t t = 0; t < pool->n_threads; t++) {
        atomic_store_explicit(&pool->workers[t].range,
                              ax_range_pack(epoch - 1, (struct ax_range){0}),
                              memory_order_release);
    }
    for (uint32_t i = 0; i < job->n_phases; i++) {
        uint32_t units = job->units[i];
        assert(units <= AX_POOL_UNITS_MAX || units == AX_POOL_GATE);
        target += units == AX_POOL_GATE ? 1 : units;
        uint32_t max = job->piece_max != NULL ? job->piece_max[i] : 0;
        atomic_store_explicit(&pool->units[i], units, memory_order_release);
        atomic_store_explicit(&pool->piece_max[i], max, memory_order_release);
        atomic_store_explicit(&pool->targets[i], target, memory_order_release);
    }
    set_crew(pool, job->n_threads != 0 ? job->n_threads : all);
    atomic_store_explicit(&pool->n_phases, job->n_phases, memory_order_release);
    atomic_store_explicit(&pool->context, job->context, memory_order_release);
    atomic_store_explicit(&pool->work, job->work, memory_order_release);
    atomic_store_explicit(&pool->compute, job->compute, memory_order_release);
    atomic_store_explicit(&pool->commit, job->commit, memory_order_release);
    pool->job_number++;
    pool->next_epoch = (epoch + job->n_phases + 1) & AX_RANGE_EPOCH_MASK;
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
        finish_units(pool, 0, 1);
        atomic_thread_fence(memory_order_seq_cst);
        wake_sleepers(pool);
    }
    return rc;
}


int
ax_pool_run(struct ax_pool *pool, const struct ax_pool_job *job)
{
    axk_thread_init();
    uint64_t word = publish(pool, job);

    for (uint32_t i = 0; i < job->n_phases; i++) {
        if (job->units[i] == AX_POOL_GATE) {
            int rc = pass_gate(pool, job, i);
            if (rc != 0) {
                return rc;
            }
        } else {
            struct phase p = phase_of(pool, i, word);
            run_phase(pool, 0, &p);
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
        phases_max > AX_RANGE_EPOCH_MASK / 4) {
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
    atomic_store(&pool->crew, n_threads);
    pool->phases_max = phases_max;
    pool->n_started = 1;
    pool->next_epoch = 1;
    pool->workers = aligned_alloc(64, n_threads * sizeof(*pool->workers));
    pool->units = calloc(phases_max, sizeof(*pool->units));
    pool->targets = calloc(phases_max, sizeof(*pool->targets));
    pool->piece_max = calloc(phases_max, sizeof(*pool->piece_max));
    if (pool->workers == NULL || pool->units == NULL || pool->targets == NULL ||
        pool->piece_max == NULL) {
        ax_pool_stop(pool);
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    memset(pool->workers, 0, n_threads * sizeof(*pool->workers));
    for (uint32_t t = 0; t < n_threads; t++) {
        pool->workers[t].pool = pool;
        pool->workers[t].index = t;
        atomic_store(&pool->workers[t].cpu, -1);
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
    set_crew(pool, pool->n_threads);
    wake_sleepers(pool);
    for (uint32_t t = 1; t < pool->n_started; t++) {
        pthread_join(pool->workers[t].thread, NULL);
    }
    free(pool->targets);
    free(pool->piece_max);
    free(pool->units);
    free(pool->workers);
    free(pool);
}


uint32_t
ax_pool_threads(const struct ax_pool *pool)
{
    return pool->n_threads;
}


uint32_t
ax_pool_crew(const struct ax_pool *pool)
{
    return atomic_load_explicit(&pool->crew, memory_order_relaxed);
}


uint64_t
ax_pool_units(const struct ax_pool *pool, uint32_t t)
{
    assert(t < pool->n_threads);
    return atomic_load_explicit(&pool->workers[t].finished,
                                memory_order_relaxed);
}
