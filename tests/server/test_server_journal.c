/*
 * Shows that no token is spent unseen when a gateway's worker is killed: the
 * engine tells the next worker of the same gateway, or another living one,
 * what each leased stream had spent, once, and says when that is all.
 */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/server/harness.h"

#define GATEWAY 0xabcdu

static struct engine engine;
static struct request_options request;


static void
wait_fd(struct axion_client *c)
{
    struct pollfd p = {.fd = axion_client_fd(c), .events = POLLIN};
    while (poll(&p, 1, -1) < 0) {
    }
}


static struct axion_client *
open_worker(uint32_t gateway, const char *name)
{
    struct axion_client_options o = {.path = engine.socket,
                                     .name = name,
                                     .streams = 128,
                                     .gateway = gateway};
    struct axion_client *c;
    int rc;
    assert_int_equal(axion_client_open(&c, &o), AXION_OK);
    while ((rc = axion_client_service(c)) == AXION_AGAIN) {
        wait_fd(c);
    }
    assert_int_equal(rc, AXION_OK);
    return c;
}


/* Takes one record, or waits for COMPLETE: false. */
static bool
next_record(struct axion_client *c, struct axion_journal_record *record)
{
    while (axion_client_journal(c, record) == AXION_AGAIN) {
        if (axion_client_journal_complete(c)) {
            return false;
        }
        wait_fd(c);
        assert_int_equal(axion_client_service(c), AXION_OK);
    }
    axion_client_journal_settled(c);
    return true;
}


/* A worker that starts n streams with leases first, first + 1, ..., reads
 * until the first has three tokens, and is killed. */
static void
kill_worker(uint32_t gateway, uint32_t n, uint64_t first)
{
    int fds[2];
    char byte;
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct stream *streams = calloc(n, sizeof(*streams));
        struct axion_client *c = open_worker(gateway, "victim");
        for (uint32_t i = 0; i < n; i++) {
            submit_leased(c, &request, first + i, &streams[i]);
        }
        wait_tokens(c, &streams[0], 3);
        if (write(fds[1], "x", 1) != 1) {
            _exit(1);
        }
        for (;;) {
            pause();
        }
    }
    close(fds[1]);
    assert_int_equal(read(fds[0], &byte, 1), 1);
    close(fds[0]);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}


static void
expect_records(struct axion_client *c, uint32_t n, uint64_t first)
{
    struct axion_journal_record record;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < n; i++) {
        assert_true(next_record(c, &record));
        assert_in_range(record.lease_id, first, first + n - 1);
        assert_int_equal(seen >> (record.lease_id - first) & 1, 0);
        seen |= 1ull << (record.lease_id - first);
        assert_int_equal(record.error, AXION_OK);
        /* Killed before its text was looked at: nothing was spent. */
        assert_true(record.done.prompt_tokens == 4 ||
                    (record.done.prompt_tokens == 0 &&
                     record.done.completion_tokens == 0));
        if (record.lease_id == first) {
            assert_int_equal(record.done.prompt_tokens, 4);
            assert_in_range(record.done.completion_tokens, 3, 900);
        }
    }
}


static void
start(void)
{
    static const uint32_t ids[] = {3, 4, 5, 6};
    engine_start(&engine, "q4_0",
                 (const char *[]){"--log-level", "info", NULL});
    request_init(&request, NULL, 900);
    request.ids = ids;
    request.n_ids = 4;
    request.head.flags |= AXION_REQUEST_IGNORE_EOS;
}


static void
test_next_worker_is_told(void **state)
{
    struct axion_journal_record record;
    (void)state;
    start();
    kill_worker(GATEWAY, 20, 1000);
    engine_wait_log(&engine, "channel of victim");

    struct axion_client *stranger = open_worker(GATEWAY + 1, "stranger");
    assert_false(next_record(stranger, &record));
    struct axion_client *next = open_worker(GATEWAY, "next");
    expect_records(next, 20, 1000);
    assert_false(next_record(next, &record));
    axion_client_close(next);

    struct axion_client *third = open_worker(GATEWAY, "third");
    assert_false(next_record(third, &record)); /* settled is settled */
    axion_client_close(third);
    axion_client_close(stranger);
    engine_stop(&engine);
}


static void
test_living_worker_is_told_at_once(void **state)
{
    struct axion_journal_record record;
    (void)state;
    start();
    struct axion_client *living = open_worker(GATEWAY, "living");
    assert_false(next_record(living, &record));
    kill_worker(GATEWAY, 3, 50);
    for (uint32_t n = 0; n < 3;) {
        wait_fd(living);
        assert_int_equal(axion_client_service(living), AXION_OK);
        while (axion_client_journal(living, &record) == AXION_OK) {
            axion_client_journal_settled(living);
            n++;
        }
    }
    axion_client_close(living);
    engine_stop(&engine);
}


/* Told, and killed before it had settled: the next one is told again. */
static void
test_unsettled_comes_again(void **state)
{
    struct axion_journal_record record;
    (void)state;
    start();
    kill_worker(GATEWAY, 2, 70);
    engine_wait_log(&engine, "channel of victim");
    struct axion_client *c = open_worker(GATEWAY, "careless");
    while (axion_client_journal(c, &record) == AXION_AGAIN) {
        wait_fd(c);
        assert_int_equal(axion_client_service(c), AXION_OK);
    }
    axion_client_close(c);
    engine_wait_log(&engine, "channel of careless");
    c = open_worker(GATEWAY, "careful");
    expect_records(c, 2, 70);
    assert_false(next_record(c, &record));
    axion_client_close(c);
    engine_stop(&engine);
}


/* A DONE that the worker had read and passed is not told again. */
static void
test_passed_is_not_journaled(void **state)
{
    static struct stream s;
    struct axion_journal_record record;
    (void)state;
    start();
    struct axion_client *c = open_worker(GATEWAY, "whole");
    request.head.max_tokens = 5;
    submit_leased(c, &request, 90, &s);
    wait_ended(c, &s);
    assert_int_equal(s.done.completion_tokens, 5);
    axion_client_close(c);
    c = open_worker(GATEWAY, "after");
    assert_false(next_record(c, &record));
    axion_client_close(c);
    engine_stop(&engine);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_next_worker_is_told),
        cmocka_unit_test(test_living_worker_is_told_at_once),
        cmocka_unit_test(test_unsettled_comes_again),
        cmocka_unit_test(test_passed_is_not_journaled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
