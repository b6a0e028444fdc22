/* The error table: numbers ascend (the look-up needs it), are found, and
 * every entry has all that HTTP, OpenAI's clients and the log want of it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "shm/errors.h"


static void
test_numbers_ascend_and_are_found(void **state)
{
    const struct axion_error_info *info;
    int last = 0;

    (void)state;
    for (unsigned i = 0; (info = axion_error_at(i)) != NULL; i++) {
        assert_true(info->number > last);
        last = info->number;
        assert_ptr_equal(axion_error_info(info->number), info);
    }
    assert_true(last > 0);
}


static void
test_entries_are_whole(void **state)
{
    const struct axion_error_info *info;

    (void)state;
    for (unsigned i = 0; (info = axion_error_at(i)) != NULL; i++) {
        assert_in_range(info->status, 400, 599);
        assert_true(strlen(info->type) > 0);
        assert_true(strlen(info->code) > 0);
        assert_true(strlen(info->text) > 0);
        assert_in_range(info->retry, 0, 1);
        assert_in_range(info->level, AXION_LOG_info, AXION_LOG_crit);
        for (unsigned j = 0; j < i; j++) {
            assert_string_not_equal(axion_error_at(j)->name, info->name);
        }
    }
}


static void
test_unknown_numbers_are_internal(void **state)
{
    static const int unknown[] = {AXION_AGAIN, AXION_OK, 1,
                                  99,          1 << 30,  INT32_MIN};

    (void)state;
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        assert_int_equal(axion_error_info(unknown[i])->number,
                         AXION_ERR_INTERNAL);
    }
    assert_null(axion_error_at(100000));
}


static size_t
logged(int error, const char *message)
{
    return axion_error_log_bytes(error, message);
}


static void
test_quotes_of_a_request_are_not_for_logs(void **state)
{
    (void)state;
    assert_int_equal(logged(AXION_ERR_INVALID_JSON, "byte 7: near 'my text'"),
                     13);
    assert_int_equal(logged(AXION_ERR_MODEL_NOT_FOUND, "model \"my text\""), 6);
    assert_int_equal(logged(AXION_ERR_INVALID_VALUE, "top_p is too large"), 18);
    assert_int_equal(logged(AXION_ERR_TEMPLATE_FAILED, "my text"), 0);
    assert_int_equal(logged(AXION_ERR_INTERNAL, "what \"it\" is"), 12);
    assert_int_equal(logged(AXION_ERR_QUEUE_FULL, ""), 0);
}


static void
test_pinned_numbers(void **state)
{
    (void)state;
    assert_int_equal(AXION_ERR_INVALID_REQUEST, 100);
    assert_int_equal(AXION_ERR_UNAUTHENTICATED, 200);
    assert_int_equal(AXION_ERR_RATE_LIMITED, 400);
    assert_int_equal(AXION_ERR_QUEUE_FULL, 503);
    assert_int_equal(AXION_ERR_INTERNAL, 600);
    assert_int_equal(AXION_ERR_PROTOCOL, 700);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_ascend_and_are_found),
        cmocka_unit_test(test_entries_are_whole),
        cmocka_unit_test(test_unknown_numbers_are_internal),
        cmocka_unit_test(test_quotes_of_a_request_are_not_for_logs),
        cmocka_unit_test(test_pinned_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
