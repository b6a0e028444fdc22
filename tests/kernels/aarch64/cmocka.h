/*
 * As much of cmocka as checkkernels uses, for the cross-compiled run under an
 * emulator (test_kernels_aarch64.py), where the library is not: an assertion
 * that fails names itself and ends the program.
 */

#ifndef AXION_TEST_CMOCKA_H
#define AXION_TEST_CMOCKA_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define fail_msg(...)                                                         \
    (printf(__VA_ARGS__), printf("\n%s:%d\n", __FILE__, __LINE__), exit(1))
#define assert_true(c) ((c) ? (void)0 : fail_msg("not true: %s", #c))
#define assert_int_equal(a, b)                                                \
    ((a) == (b) ? (void)0 : fail_msg("not equal: %s, %s", #a, #b))
#define assert_ptr_equal(a, b)    assert_int_equal(a, b)
#define assert_null(p)            assert_true((p) == NULL)
#define assert_non_null(p)        assert_true((p) != NULL)
#define assert_string_equal(a, b) assert_true(strcmp(a, b) == 0)
#define assert_memory_equal(a, b, n) assert_true(memcmp(a, b, n) == 0)

struct CMUnitTest {
    const char *name;
    void (*test)(void **state);
    int (*teardown)(void **state);
};

#define cmocka_unit_test_teardown(f, t) { #f, f, t }


static inline int
_cmocka_run_group_tests(const char *group, const struct CMUnitTest *tests,
                        size_t n, int (*setup)(void **),
                        int (*teardown)(void **))
{
    void *state = NULL;

    (void)setup;
    (void)teardown;
    for (size_t i = 0; i < n; i++) {
        printf("%s: %s\n", group, tests[i].name);
        fflush(stdout);
        tests[i].test(&state);
        tests[i].teardown(&state);
    }
    return 0;
}

#endif
