/*
 * Shows that the cache of what was verified stays within its room, forgets in
 * time, and never answers another question.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "api/cache.h"
#include "tests/api/harness.h"

static struct test_memory memory;
static struct axion_cache cache;


static struct axion_cache_digest
ask(const char *a, const char *b)
{
    struct axion_text texts[] = {{a, (uint32_t) strlen(a)},
                                 {b, (uint32_t) strlen(b)}};
    struct axion_cache_digest digest;

    axion_cache_ask(&cache, texts, 2, &digest);
    return digest;
}


static void
put(const char *a, const char *b, uint64_t until_ms, uint64_t value)
{
    struct axion_cache_digest digest = ask(a, b);

    memcpy(axion_cache_put(&cache, &digest, until_ms), &value, sizeof(value));
}


/* 0: it is not known. */
static uint64_t
find(const char *a, const char *b, uint64_t now_ms)
{
    struct axion_cache_digest digest = ask(a, b);
    const void *place = axion_cache_find(&cache, &digest, now_ms);
    uint64_t value = 0;

    if (place != NULL)
        memcpy(&value, place, sizeof(value));
    return value;
}


static int
start(void **state)
{
    (void) state;
    test_memory_init(&memory);
    return axion_cache_open(&cache, &memory.memory, 64, sizeof(uint64_t));
}


static int
stop(void **state)
{
    (void) state;
    test_memory_free(&memory);
    return 0;
}


static void
test_questions_are_told_apart(void **state)
{
    (void) state;
    put("a", "bc", 100, 1);
    put("ab", "c", 100, 2);
    assert_int_equal(find("a", "bc", 99), 1);
    assert_int_equal(find("ab", "c", 99), 2);
    assert_int_equal(find("abc", "", 99), 0);
    put("a", "bc", 100, 3); /* in the same place */
    assert_int_equal(find("a", "bc", 99), 3);
}


static void
test_answers_end(void **state)
{
    (void) state;
    put("a", "b", 100, 1);
    assert_int_equal(find("a", "b", 99), 1);
    assert_int_equal(find("a", "b", 100), 0);
    put("a", "b", 300, 2);
    assert_int_equal(find("a", "b", 200), 2);
    axion_cache_clear(&cache);
    assert_int_equal(find("a", "b", 200), 0);
}


/* Far more than there is room for: the last one is always there, and those
 * that are still there have their own values. */
static void
test_bounded(void **state)
{
    size_t blocks = memory.n_blocks, here = 0;
    char name[16];
    uint64_t i;

    (void) state;
    for (i = 1; i <= 10000; i++) {
        snprintf(name, sizeof(name), "%u", (unsigned) i);
        put(name, "", 1000 + i, i);
        assert_int_equal(find(name, "", 0), i);
    }
    for (i = 1; i <= 10000; i++) {
        uint64_t value;

        snprintf(name, sizeof(name), "%u", (unsigned) i);
        value = find(name, "", 0);
        assert_true(value == 0 || value == i);
        here += value != 0;
    }
    assert_in_range(here, 1, 64);
    assert_int_equal(memory.n_blocks, blocks);
}


static void
test_no_memory(void **state)
{
    struct test_memory none;
    struct axion_cache other;

    (void) state;
    test_memory_init(&none);
    none.fail_at = 1;
    assert_int_equal(axion_cache_open(&other, &none.memory, 64, 8),
                     AXION_ERR_NO_MEMORY);
    test_memory_free(&none);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_questions_are_told_apart, start,
                                        stop),
        cmocka_unit_test_setup_teardown(test_answers_end, start, stop),
        cmocka_unit_test_setup_teardown(test_bounded, start, stop),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests_name("api cache", tests, NULL, NULL);
}
