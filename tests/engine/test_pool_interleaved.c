/*
 * The pool with a pause now and then at every load and store of its tables, so
 * that threads are late by any amount, into the tables of later jobs that have
 * other phases and other numbers of threads.  Every unit is done once all the
 * same, by a thread that takes part in its job.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>


/* Mostly none, else a yield.  The caller, for whom all wait, has them only at
 * stores, most of which are its tables: beside busy processes a yield takes
 * milliseconds. */
static void pause_at_random(bool stores);

#pragma push_macro("atomic_load_explicit")
#pragma push_macro("atomic_store_explicit")
#undef atomic_load_explicit
#define atomic_load_explicit(p, order)                                        \
    __extension__ ({                                                          \
        pause_at_random(false);                                               \
        __atomic_load_n(p, order);                                            \
    })

#undef atomic_store_explicit
#define atomic_store_explicit(p, value, order)                                \
    __extension__ ({                                                          \
        pause_at_random(true);                                                \
        __atomic_store_n(p, value, order);                                    \
    })

/* The pool itself, not the library's. */
#include "engine/pool/pool.c"

#pragma pop_macro("atomic_load_explicit")
#pragma pop_macro("atomic_store_explicit")


#define JOBS   600u
#define PHASES 6u
#define UNITS  9u


struct job {
    uint32_t    n_threads;
    uint32_t    n_phases;
    uint32_t    units[PHASES];
    uint32_t    piece_max[PHASES];
    atomic_uint done[PHASES][UNITS];
    atomic_uint strangers;   /* pieces of threads that do not take part */
    atomic_uint too_early;   /* before the phase ahead was over */
};

/* Those of all jobs, since late threads may still look at old ones. */
static struct job jobs[JOBS];


static _Thread_local bool is_caller;


static void
pause_at_random(bool stores)
{
    static _Thread_local uint32_t seed;
    static atomic_uint threads;

    if (seed == 0) {
        seed = (atomic_fetch_add(&threads, 1) + 1) * 2654435761u;
    }
    seed = seed * 1664525u + 1013904223u;
    if (seed >> 24 < 6 && (stores || !is_caller)) {
        sched_yield();
    }
}


static uint32_t
units_done(struct job *j, uint32_t phase)
{
    uint32_t n = 0;

    for (uint32_t u = 0; u < j->units[phase]; u++) {
        n += atomic_load(&j->done[phase][u]);
    }
    return n;
}


static void
work(void *context, const struct ax_pool_piece *piece)
{
    struct job *j = context;
    uint32_t phase = piece->phase;

    if (piece->thread >= j->n_threads) {
        atomic_fetch_add(&j->strangers, 1);
    }
    if (phase > 0 && units_done(j, phase - 1) != j->units[phase - 1]) {
        atomic_fetch_add(&j->too_early, 1);
    }
    for (uint32_t u = piece->begin; u < piece->end; u++) {
        atomic_fetch_add(&j->done[phase][u], 1);
    }
}


static bool
compute(void *context, const struct ax_pool_piece *piece)
{
    (void) context;
    pause_at_random(false);
    return ax_pool_holds(piece);
}


static uint32_t
draw(uint32_t n)
{
    static uint32_t seed;

    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}


static void
make_job(struct job *j, uint32_t n_threads)
{
    j->n_threads = 1 + draw(n_threads);
    j->n_phases = 1 + draw(PHASES);
    for (uint32_t p = 0; p < j->n_phases; p++) {
        j->units[p] = draw(UNITS + 1);
        /* In place as a step with one thread does all, or in pieces. */
        j->piece_max[p] = j->n_threads == 1 ? 0 : draw(3);
    }
}


static void
check_job(struct job *j)
{
    assert_int_equal(atomic_load(&j->strangers), 0);
    assert_int_equal(atomic_load(&j->too_early), 0);
    for (uint32_t p = 0; p < j->n_phases; p++) {
        for (uint32_t u = 0; u < UNITS; u++) {
            assert_int_equal(atomic_load(&j->done[p][u]), u < j->units[p]);
        }
    }
}


static void
late_threads_do_nothing_of_later_jobs(void **state)
{
    (void) state;
    is_caller = true;
    for (uint32_t threads = 2; threads <= 3; threads++) {
        struct ax_pool *pool;
        uint64_t all = 0, counted = 0;

        memset(jobs, 0, sizeof(jobs));
        assert_int_equal(ax_pool_start(&pool, threads, PHASES, NULL),
                         AXION_OK);
        for (uint32_t i = 0; i < JOBS; i++) {
            struct job *j = &jobs[i];
            make_job(j, threads);
            struct ax_pool_job job = {
                .n_threads = j->n_threads,
                .n_phases = j->n_phases,
                .units = j->units,
                .piece_max = j->piece_max,
                .context = j,
                .work = work,
                .compute = compute,
                .commit = work,
            };
            assert_int_equal(ax_pool_run(pool, &job), 0);
            check_job(j);
            for (uint32_t p = 0; p < j->n_phases; p++) {
                all += j->units[p];
            }
        }
        for (uint32_t t = 0; t < threads; t++) {
            counted += ax_pool_units(pool, t);
        }
        assert_int_equal(counted, all);
        ax_pool_stop(pool);
        for (uint32_t i = 0; i < JOBS; i++) {
            check_job(&jobs[i]);   /* nor afterwards */
        }
    }
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(late_threads_do_nothing_of_later_jobs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
