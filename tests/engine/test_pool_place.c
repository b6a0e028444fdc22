/*
 * Shows that a pinned thread has exactly one of the CPUs that were allowed, a
 * different one for each, that the caller gets its own back, and that what
 * cannot be had is refused by the option's name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
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


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pinned_threads),
        cmocka_unit_test(test_more_threads_than_cpus),
        cmocka_unit_test(test_realtime),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
