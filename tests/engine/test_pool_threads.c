/*
 * The compute threads do every unit of every phase exactly once and in phase
 * order, whatever the number of threads and however late one of them is; a
 * gate ends a job at once; results of a phase are visible in the next one; a
 * piece that a stopped thread holds is computed by another and committed once;
 * a job that wants fewer threads gets no others.
 * Under TSan this is the proof of the pool's ordering.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/pool/pool.h"


#define PHASES  40u
#define UNITS   64u


struct record {
    uint32_t     units[PHASES];
    /* Plain memory: a unit done twice at once is a race TSan sees. */
    uint32_t     done[PHASES][UNITS];
    uint32_t     stop_at;        /* gate that ends the job */
    uint32_t     late;           /* this thread dawdles in every unit */
    uint32_t     crew;           /* threads that take part; 0: all */
    atomic_uint  strangers;      /* pieces of threads beyond it */
    atomic_uint  out_of_order;
};


static void
work(void *context, const struct ax_pool_piece *piece)
{
    struct record *r = context;
    uint32_t phase = piece->phase;

    for (uint32_t i = piece->begin; i < piece->end; i++) {
        r->done[phase][i]++;
        /* Every unit of the phase before must be visible. */
        for (uint32_t p = phase; p-- > 0;) {
            if (r->units[p] == AX_POOL_GATE) {
                continue;
            }
            for (uint32_t u = 0; u < r->units[p]; u++) {
                if (r->done[p][u] != 1) {
                    atomic_fetch_add(&r->out_of_order, 1);
                }
            }
            break;
        }
    }
    if (r->crew != 0 && piece->thread >= r->crew) {
        atomic_fetch_add(&r->strangers, 1);
    }
    if (piece->thread == r->late) {
        sched_yield();
    }
}


static int
gate(void *context, uint32_t phase)
{
    struct record *r = context;

    return phase == r->stop_at ? 123 : 0;
}


static struct record *
new_record(uint32_t seed)
{
    struct record *r = calloc(1, sizeof(*r));

    assert_non_null(r);
    for (uint32_t p = 0; p < PHASES; p++) {
        seed = seed * 1664525u + 1013904223u;
        /* Few, none, many, one; some gates. */
        r->units[p] = seed >> 28 == 0 ? AX_POOL_GATE : (seed >> 8) % UNITS;
    }
    r->stop_at = UINT32_MAX;
    r->late = UINT32_MAX;
    return r;
}


static int
run(struct ax_pool *pool, struct record *r)
{
    struct ax_pool_job job = {
        .n_threads = r->crew,
        .n_phases = PHASES,
        .units = r->units,
        .context = r,
        .work = work,
        .gate = gate,
    };
    return ax_pool_run(pool, &job);
}


static void
check_all_done(const struct record *r, uint32_t phases)
{
    assert_int_equal(atomic_load(&r->out_of_order), 0);
    for (uint32_t p = 0; p < PHASES; p++) {
        if (r->units[p] == AX_POOL_GATE) {
            continue;
        }
        for (uint32_t u = 0; u < UNITS; u++) {
            uint32_t expected = p < phases && u < r->units[p] ? 1 : 0;
            assert_int_equal(r->done[p][u], expected);
        }
    }
}


static void
every_unit_is_done_once(void **state)
{
    (void) state;
    for (uint32_t threads = 1; threads <= 5; threads++) {
        struct ax_pool *pool;
        assert_int_equal(ax_pool_start(&pool, threads, PHASES, NULL),
                         AXION_OK);
        assert_int_equal(ax_pool_threads(pool), threads);
        for (uint32_t i = 0; i < 200; i++) {
            struct record *r = new_record(i);
            assert_int_equal(run(pool, r), 0);
            check_all_done(r, PHASES);
            free(r);
        }
        ax_pool_stop(pool);
    }
}


static void
a_late_thread_holds_nothing_up_and_harms_nothing(void **state)
{
    struct ax_pool *pool;

    (void) state;
    assert_int_equal(ax_pool_start(&pool, 3, PHASES, NULL), AXION_OK);
    for (uint32_t i = 0; i < 300; i++) {
        struct record *r = new_record(1000 + i);
        r->late = i % 3;
        assert_int_equal(run(pool, r), 0);
        check_all_done(r, PHASES);
        free(r);
    }
    ax_pool_stop(pool);
}


static void
a_gate_ends_the_job(void **state)
{
    struct ax_pool *pool;

    (void) state;
    assert_int_equal(ax_pool_start(&pool, 2, PHASES, NULL), AXION_OK);
    for (uint32_t i = 0; i < 200; i++) {
        struct record *r = new_record(2000 + i);
        uint32_t at = i % PHASES;
        r->units[at] = AX_POOL_GATE;
        r->stop_at = at;
        assert_int_equal(run(pool, r), 123);
        check_all_done(r, at);
        free(r);
        /* And the next job knows nothing of it. */
        r = new_record(3000 + i);
        assert_int_equal(run(pool, r), 0);
        check_all_done(r, PHASES);
        free(r);
    }
    ax_pool_stop(pool);
}


/* Threads of this process that the kernel does not show as sleeping. */
static uint32_t
awake(void)
{
    DIR *dir = opendir("/proc/self/task");
    struct dirent *entry;
    uint32_t n = 0;

    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        char path[300], line[256];
        snprintf(path, sizeof(path), "/proc/self/task/%s/stat",
                 entry->d_name);
        FILE *file = entry->d_name[0] != '.' ? fopen(path, "r") : NULL;
        if (file == NULL) {
            continue;
        }
        const char *paren = fgets(line, sizeof(line), file) != NULL
                                ? strrchr(line, ')') : NULL;
        n += paren != NULL && paren[2] != 'S';
        fclose(file);
    }
    closedir(dir);
    return n;
}


/* Threads come and go from job to job; the units that each has done are
 * counted, and who is not wanted does none. */
static void
a_job_may_do_with_fewer_threads(void **state)
{
    struct ax_pool *pool;
    uint64_t all = 0, counted = 0;

    (void) state;
    assert_int_equal(ax_pool_start(&pool, 4, PHASES, NULL), AXION_OK);
    assert_int_equal(ax_pool_crew(pool), 4);
    for (uint32_t i = 0; i < 600; i++) {
        struct record *r = new_record(5000 + i);
        r->crew = i * 7 / 3 % 5;
        r->late = i % 4;
        assert_int_equal(run(pool, r), 0);
        check_all_done(r, PHASES);
        assert_int_equal(atomic_load(&r->strangers), 0);
        assert_int_equal(ax_pool_crew(pool), r->crew == 0 ? 4 : r->crew);
        for (uint32_t p = 0; p < PHASES; p++) {
            all += r->units[p] == AX_POOL_GATE ? 1 : r->units[p];
        }
        free(r);
    }
    for (uint32_t t = 0; t < 4; t++) {
        counted += ax_pool_units(pool, t);
    }
    assert_int_equal(counted, all);
    ax_pool_stop(pool);
}


/* Not wanted, a thread uses no CPU however many jobs run without it. */
static void
who_is_not_wanted_sleeps_and_comes_back(void **state)
{
    struct ax_pool *pool;

    (void) state;
    assert_int_equal(ax_pool_start(&pool, 3, PHASES, NULL), AXION_OK);
    for (uint32_t i = 0; i < 20; i++) {
        struct record *r = new_record(6000 + i);
        r->crew = 1 + i % 2;
        assert_int_equal(run(pool, r), 0);
        check_all_done(r, PHASES);
        free(r);
        while (awake() > 1) {
            sched_yield();
        }
        /* Asleep through jobs of others, and back for one of all. */
        r = new_record(6100 + i);
        r->crew = 1;
        assert_int_equal(run(pool, r), 0);
        check_all_done(r, PHASES);
        assert_int_equal(atomic_load(&r->strangers), 0);
        free(r);
        r = new_record(6200 + i);
        assert_int_equal(run(pool, r), 0);
        check_all_done(r, PHASES);
        free(r);
    }
    ax_pool_stop(pool);
}


static void
end_times_rise(void **state)
{
    struct ax_pool *pool;
    uint64_t end_ns[PHASES];
    struct record *r = new_record(7);
    struct ax_pool_job job = {
        .n_phases = PHASES,
        .units = r->units,
        .context = r,
        .work = work,
        .gate = gate,
        .end_ns = end_ns,
    };

    (void) state;
    assert_int_equal(ax_pool_start(&pool, 2, PHASES, NULL), AXION_OK);
    uint64_t last = ax_pool_clock_ns();
    assert_int_equal(ax_pool_run(pool, &job), 0);
    for (uint32_t p = 0; p < PHASES; p++) {
        assert_true(end_ns[p] >= last);
        last = end_ns[p];
    }
    ax_pool_stop(pool);
    free(r);
}


/*
 * A stopped thread: one of HOLDERS threads stops in compute(), before or
 * after its work, and goes on only when the caller's job, or a later one, is
 * over.  All pieces must have been committed without it.
 */
#define JOBS 60u

struct held {
    uint32_t      units[PHASES];
    uint32_t      piece_max[PHASES];
    uint32_t      committed[PHASES][UNITS];   /* plain: TSan sees two */
    uint32_t      holder;                     /* this thread stops */
    uint32_t      at;                         /* in this phase */
    bool          before;                     /* its work, or after */
    atomic_bool   stopped;
    atomic_uint   out_of_order;
    atomic_uint   n_committed;
    atomic_bool   go_on;
    uint32_t      private[8][UNITS];          /* of a thread */
};


static bool
compute(void *context, const struct ax_pool_piece *piece)
{
    struct held *h = context;
    uint32_t *out = h->private[piece->thread];
    bool stop = piece->thread == h->holder && piece->phase >= h->at
                && !atomic_exchange(&h->stopped, true);

    while (stop && h->before && !atomic_load(&h->go_on)) {
        sched_yield();
    }
    if (!ax_pool_holds(piece)) {
        return false;
    }
    for (uint32_t i = piece->begin; i < piece->end; i++) {
        out[i - piece->begin] = piece->phase * UNITS + i;
    }
    while (stop && !atomic_load(&h->go_on)) {
        sched_yield();
    }
    return true;
}


static void
commit(void *context, const struct ax_pool_piece *piece)
{
    struct held *h = context;

    for (uint32_t i = piece->begin; i < piece->end; i++) {
        uint32_t found = h->private[piece->thread][i - piece->begin];
        if (found != piece->phase * UNITS + i) {
            atomic_fetch_add(&h->out_of_order, 1);
        }
        h->committed[piece->phase][i]++;
        atomic_fetch_add(&h->n_committed, 1);
        for (uint32_t u = 0; piece->phase > 0
                             && u < h->units[piece->phase - 1]; u++) {
            if (h->committed[piece->phase - 1][u] != 1) {
                atomic_fetch_add(&h->out_of_order, 1);
            }
        }
    }
}


static void
new_held(struct held *h, uint32_t seed, uint32_t threads)
{
    *h = (struct held) {
        .holder = seed % threads,
        .at = seed * 7 % PHASES,
        .before = seed % 2 == 0,
    };
    for (uint32_t p = 0; p < PHASES; p++) {
        h->units[p] = 1 + (seed * 13 + p * 29) % (UNITS - 1);
        h->piece_max[p] = 1 + (seed + p) % 9;
    }
}


static void
run_held(struct ax_pool *pool, struct held *h)
{
    struct ax_pool_job job = {
        .n_phases = PHASES,
        .units = h->units,
        .piece_max = h->piece_max,
        .context = h,
        .compute = compute,
        .commit = commit,
    };
    assert_int_equal(ax_pool_run(pool, &job), 0);
    assert_int_equal(atomic_load(&h->out_of_order), 0);
    for (uint32_t p = 0; p < PHASES; p++) {
        for (uint32_t u = 0; u < h->units[p]; u++) {
            assert_int_equal(h->committed[p][u], 1);
        }
    }
}


/* The caller itself is never the holder here: it has to come back. */
static void
what_a_stopped_thread_holds_is_taken_back(void **state)
{
    /* Jobs outlive the test's loop: a stopped thread may come to them late. */
    static struct held jobs[3][JOBS];

    (void) state;
    for (uint32_t threads = 2; threads <= 4; threads++) {
        struct ax_pool *pool;
        struct held *h = jobs[threads - 2];
        assert_int_equal(ax_pool_start(&pool, threads, PHASES, NULL),
                         AXION_OK);
        for (uint32_t i = 0; i < JOBS; i++) {
            new_held(&h[i], i, threads);
            h[i].holder = 1 + i % (threads - 1);
            run_held(pool, &h[i]);
            /* A job without compute(), of another caller, comes between. */
            struct record *r = new_record(i);
            assert_int_equal(run(pool, r), 0);
            check_all_done(r, PHASES);
            free(r);
            /* Let go of it now, or in the middle of the next job. */
            if (i % 3 != 0) {
                atomic_store(&h[i].go_on, true);
            }
            if (i > 0) {
                atomic_store(&h[i - 1].go_on, true);
            }
        }
        atomic_store(&h[JOBS - 1].go_on, true);
        ax_pool_stop(pool);
    }
}


/* Ends the stop of thread 0 when the others have done everything. */
static void *
let_the_caller_go(void *arg)
{
    struct held *h = arg;
    uint32_t all = 0;

    for (uint32_t p = 0; p < PHASES; p++) {
        all += h->units[p];
    }
    while (atomic_load(&h->n_committed) < all) {
        sched_yield();
    }
    atomic_store(&h->go_on, true);
    return NULL;
}


static void
the_caller_may_be_stopped_too(void **state)
{
    struct ax_pool *pool;
    struct held *h = calloc(1, sizeof(*h));

    (void) state;
    assert_non_null(h);
    assert_int_equal(ax_pool_start(&pool, 3, PHASES, NULL), AXION_OK);
    for (uint32_t i = 0; i < JOBS; i++) {
        pthread_t thread;
        new_held(h, i, 3);
        h->holder = 0;
        h->at = 0;
        assert_int_equal(pthread_create(&thread, NULL, let_the_caller_go, h),
                         0);
        run_held(pool, h);
        pthread_join(thread, NULL);
    }
    ax_pool_stop(pool);
    free(h);
}


static void
idle_threads_fall_asleep_and_wake_up(void **state)
{
    struct ax_pool *pool;

    (void) state;
    assert_int_equal(ax_pool_start(&pool, 3, PHASES, NULL), AXION_OK);
    for (uint32_t i = 0; i < 5; i++) {
        struct record *r = new_record(4000 + i);
        assert_int_equal(run(pool, r), 0);
        check_all_done(r, PHASES);
        free(r);
        /* Only this thread is left running. */
        while (awake() > 1) {
            sched_yield();
        }
    }
    ax_pool_stop(pool);
}


static void
numbers_out_of_range_are_refused(void **state)
{
    struct ax_pool *pool;
    struct ax_error err;

    (void) state;
    assert_int_equal(ax_pool_start(&pool, 0, 1, &err), AXION_ERR_BAD_OPTION);
    assert_int_equal(ax_pool_start(&pool, AX_POOL_THREADS_MAX + 1, 1, &err),
                     AXION_ERR_BAD_OPTION);
    assert_null(pool);
    ax_pool_stop(NULL);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_unit_is_done_once),
        cmocka_unit_test(a_late_thread_holds_nothing_up_and_harms_nothing),
        cmocka_unit_test(a_gate_ends_the_job),
        cmocka_unit_test(a_job_may_do_with_fewer_threads),
        cmocka_unit_test(who_is_not_wanted_sleeps_and_comes_back),
        cmocka_unit_test(end_times_rise),
        cmocka_unit_test(what_a_stopped_thread_holds_is_taken_back),
        cmocka_unit_test(the_caller_may_be_stopped_too),
        cmocka_unit_test(idle_threads_fall_asleep_and_wake_up),
        cmocka_unit_test(numbers_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
