/* Shows the journal's rules without an engine: records go to their own
 * gateway and user alone, come back when their holder dies, are forgotten
 * when settled, and a full journal makes who has most of it pay. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "engine/server/journal.h"
#include "shm/errors.h"

static const struct ax_journal_address ours = {7, 33}, theirs = {7, 34},
                                       other = {8, 33};
static const int a, b; /* holders */


static bool
add(struct ax_journal *j, struct ax_journal_address address, uint64_t lease)
{
    const struct axion_journal_record record = {.lease_id = lease};
    return ax_journal_add(j, address, &record);
}


static void
test_records_go_to_their_address_alone(void **state)
{
    struct axion_journal_record out[4];
    struct ax_journal *j;
    uint32_t others;
    (void)state;
    assert_int_equal(ax_journal_open(&j, 16), AXION_OK);
    for (uint64_t i = 0; i < 3; i++) {
        assert_false(add(j, ours, 10 + i));
        assert_false(add(j, theirs, 20 + i));
        assert_false(add(j, other, 30 + i));
    }
    assert_int_equal(ax_journal_take(j, ours, &a, out, 2, &others), 2);
    assert_int_equal(others, 1);
    assert_int_equal(out[0].lease_id, 10);
    assert_int_equal(out[1].lease_id, 11);
    assert_int_equal(ax_journal_take(j, ours, &b, out, 4, &others), 1);
    assert_int_equal(others, 2);
    assert_int_equal(out[0].lease_id, 12);
    assert_int_equal(ax_journal_take(j, theirs, &b, out, 4, &others), 3);
    assert_int_equal(out[2].lease_id, 22);
    ax_journal_close(j);
}


static void
test_settled_is_forgotten_and_the_rest_comes_back(void **state)
{
    struct axion_journal_record out[4];
    struct ax_journal *j;
    uint32_t others;
    (void)state;
    assert_int_equal(ax_journal_open(&j, 16), AXION_OK);
    for (uint64_t i = 0; i < 4; i++) {
        add(j, ours, i);
    }
    assert_int_equal(ax_journal_take(j, ours, &a, out, 2, &others), 2);
    assert_int_equal(ax_journal_take(j, ours, &b, out, 2, &others), 2);
    ax_journal_settle(j, &a);
    assert_int_equal(ax_journal_records(j), 2);
    ax_journal_return(j, &b);
    assert_int_equal(ax_journal_take(j, ours, &a, out, 4, &others), 2);
    assert_int_equal(others, 0);
    assert_int_equal(out[0].lease_id, 2);
    assert_int_equal(out[1].lease_id, 3);
    ax_journal_close(j);
}


static void
test_who_floods_drops_his_own(void **state)
{
    struct axion_journal_record out[8];
    struct ax_journal *j;
    uint32_t others;
    (void)state;
    assert_int_equal(ax_journal_open(&j, 8), AXION_OK);
    add(j, theirs, 1);
    for (uint64_t i = 0; i < 100; i++) {
        struct ax_journal_address address = {(uint32_t)i + 1, 33};
        assert_int_equal(add(j, address, 100 + i), i >= 7);
    }
    assert_true(add(j, theirs, 2)); /* the flood gives way */
    assert_int_equal(ax_journal_records(j), 8);
    assert_int_equal(ax_journal_take(j, theirs, &a, out, 8, &others), 2);
    assert_int_equal(out[0].lease_id, 1);
    assert_int_equal(out[1].lease_id, 2);
    ax_journal_close(j);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records_go_to_their_address_alone),
        cmocka_unit_test(test_settled_is_forgotten_and_the_rest_comes_back),
        cmocka_unit_test(test_who_floods_drops_his_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
