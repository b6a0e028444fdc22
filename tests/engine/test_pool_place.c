/*
 * Shows that a pinned thread has exactly one of the CPUs that were allowed, a
 * different one for each, that the caller gets its own back, and that what
 * cannot be had is refused by the option's name; that a thread leaves a CPU
 * that it shares for one that it may use, and keeps what it may use.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "engine/pool/apart.h"
#include "engine/pool/place.h"

static struct ax_error err;


static void
test_pinned_threads(void **state)
{
    struct ax_placement placement;
    struct ax_pool *pool;
    cpu_set_t all, now;
    (void)state;
    ax_placement_init(&placement, true, 0);
    uint32_t n = CPU_COUNT(&placement.allowed) > 1 ? 2 : 1;
    assert_int_equal(ax_pool_start(&pool, n, 1, &err), AXION_OK);
    assert_int_equal(ax_pool_place(pool, &placement, &err), AXION_OK);
    CPU_ZERO(&all);
    for (uint32_t t = 0; t < n; t++) {
        pthread_t thread = t == 0 ? pthread_self() : ax_pool_thread(pool, t);
        assert_int_equal(pthread_getaffinity_np(thread, sizeof(now), &now), 0);
        assert_int_equal(CPU_COUNT(&now), 1);
        CPU_OR(&all, &all, &now);
    }
    assert_int_equal(CPU_COUNT(&all), n);
    CPU_AND(&now, &all, &placement.allowed);
    assert_true(CPU_EQUAL(&now, &all));
    ax_pool_stop(pool);
    ax_placement_end(&placement);
    assert_int_equal(sched_getaffinity(0, sizeof(now), &now), 0);
    assert_true(CPU_EQUAL(&now, &placement.allowed));
}


static void
test_more_threads_than_cpus(void **state)
{
    struct ax_placement placement;
    struct ax_pool *pool;
    (void)state;
    ax_placement_init(&placement, true, 0);
    uint32_t n = (uint32_t)CPU_COUNT(&placement.allowed) + 1;
    if (n > AX_POOL_THREADS_MAX) {
        skip();
    }
    assert_int_equal(ax_pool_start(&pool, n, 1, &err), AXION_OK);
    assert_int_equal(ax_pool_place(pool, &placement, &err),
                     AXION_ERR_BAD_OPTION);
    assert_non_null(strstr(err.text, "--pin"));
    ax_pool_stop(pool);
}


/* Given where it is allowed, refused by name where it is not. */
static void
test_realtime(void **state)
{
    struct ax_placement placement;
    struct ax_pool *pool;
    (void)state;
    ax_placement_init(&placement, false, 1);
    assert_int_equal(ax_pool_start(&pool, 1, 1, &err), AXION_OK);
    int rc = ax_pool_place(pool, &placement, &err);
    if (rc == AXION_OK) {
        assert_int_equal(sched_getscheduler(0), SCHED_FIFO);
    } else {
        assert_int_equal(rc, AXION_ERR_SYSTEM);
        assert_non_null(strstr(err.text, "--realtime 1"));
    }
    ax_pool_stop(pool);
    ax_placement_end(&placement);
    assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
}


static void
test_a_thread_leaves_a_cpu(void **state)
{
    cpu_set_t allowed, taken, now;
    int cpu, tries = 0;
    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
    if (CPU_COUNT(&allowed) < 2 || ax_apart_cpu() < 0) {
        skip();
    }
    do {
        cpu = ax_apart_cpu();
        CPU_ZERO(&taken);
        CPU_SET(cpu, &taken);
        assert_true(ax_apart_leave(&taken));
        assert_int_equal(sched_getaffinity(0, sizeof(now), &now), 0);
        assert_true(CPU_EQUAL(&now, &allowed));
        /* The kernel may bring it back at once, but not each time. */
    } while (ax_apart_cpu() == cpu && ++tries < 1000);
    assert_true(tries < 1000);
}


static void
test_who_has_nowhere_to_go_stays(void **state)
{
    cpu_set_t allowed, one, now;
    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
    assert_false(ax_apart_leave(&allowed));
    CPU_ZERO(&one);
    for (int cpu = 0; CPU_COUNT(&one) == 0; cpu++) {
        if (CPU_ISSET(cpu, &allowed)) {
            CPU_SET(cpu, &one);
        }
    }
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    assert_false(ax_apart_leave(&one));
    assert_int_equal(sched_getaffinity(0, sizeof(now), &now), 0);
    assert_true(CPU_EQUAL(&now, &one));
    assert_int_equal(sched_setaffinity(0, sizeof(allowed), &allowed), 0);
}


/* Some ms of sharing, and moves at most so often. */
static void
test_moves_are_rare(void **state)
{
    struct ax_apart apart = {0};
    uint32_t moves = 0;
    (void)state;
    assert_false(ax_apart_ready(&apart, 1000));
    apart.since_ns = 0;
    for (uint64_t us = 5000; us < 1005000; us += 10) {
        moves += ax_apart_ready(&apart, us * 1000);
    }
    assert_in_range(moves, 30, 50);
}


static void
nothing(void *context, const struct ax_pool_piece *piece)
{
    (void)context;
    (void)piece;
}


/* Two threads that are pinned to one CPU share it as long as they are. */
static void
test_pinned_to_one_cpu(void **state)
{
    static const uint32_t units = 8;
    struct ax_pool_job job = {.n_phases = 1, .units = &units, .work = nothing};
    struct ax_pool *pool;
    cpu_set_t allowed, one, now;
    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
    CPU_ZERO(&one);
    for (int cpu = 0; CPU_COUNT(&one) == 0; cpu++) {
        if (CPU_ISSET(cpu, &allowed)) {
            CPU_SET(cpu, &one);
        }
    }
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    assert_int_equal(ax_pool_start(&pool, 2, 1, &err), AXION_OK);
    for (uint32_t i = 0; i < 2000; i++) {
        assert_int_equal(ax_pool_run(pool, &job), 0);
    }
    assert_int_equal(
        pthread_getaffinity_np(ax_pool_thread(pool, 1), sizeof(now), &now), 0);
    assert_true(CPU_EQUAL(&now, &one));
    ax_pool_stop(pool);
    assert_int_equal(sched_setaffinity(0, sizeof(allowed), &allowed), 0);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pinned_threads),
        cmocka_unit_test(test_more_threads_than_cpus),
        cmocka_unit_test(test_a_thread_leaves_a_cpu),
        cmocka_unit_test(test_who_has_nowhere_to_go_stays),
        cmocka_unit_test(test_moves_are_rare),
        cmocka_unit_test(test_pinned_to_one_cpu),
        cmocka_unit_test(test_realtime),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
