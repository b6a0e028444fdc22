/*
 * The compute threads do every unit of every phase exactly once and in phase
 * order, whatever the number of threads and however late one of them is; a
 * gate ends a job at once; results of a phase are visible in the next one.
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
    atomic_uint  out_of_order;
};


static void
work(void *context, uint32_t phase, uint32_t begin, uint32_t end,
     uint32_t thread)
{
    struct record *r = context;

    for (uint32_t i = begin; i < end; i++) {
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
    if (thread == r->late) {
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
        cmocka_unit_test(end_times_rise),
        cmocka_unit_test(idle_threads_fall_asleep_and_wake_up),
        cmocka_unit_test(numbers_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
