/*
 * Shows that both event loops report what becomes readable, once per change,
 * say nothing of what is no longer watched even when its descriptor's number
 * is used again, keep the time they are asked to wait, and refuse one watch
 * too many.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "engine/server/loop.h"

static struct ax_loop *loop;
static const char *kind;


static void
open_loop(void)
{
    struct ax_error err;
    if (ax_loop_open(&loop, kind, &err) != AXION_OK) {
        print_message("%s is not to be had here: %s\n", kind, err.text);
        skip();
    }
    assert_string_equal(ax_loop_name(loop), kind);
    assert_string_equal(ax_loop_note(loop), "");
}


static void
write_one(int fd)
{
    uint64_t one = 1;
    assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
}


static void
read_all(int fd)
{
    uint64_t count;
    assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
}


static uint32_t
wait_for(void **tags, int64_t timeout_us)
{
    return ax_loop_wait(loop, timeout_us, tags, 8);
}


static void
test_reports_each_change_once(void **state)
{
    int a = eventfd(0, EFD_NONBLOCK), b = eventfd(0, EFD_NONBLOCK);
    void *tags[8];
    (void)state;
    open_loop();
    assert_int_equal(ax_loop_watch(loop, a, &a), AXION_OK);
    assert_int_equal(ax_loop_watch(loop, b, &b), AXION_OK);
    assert_int_equal(wait_for(tags, 0), 0);
    for (int turn = 0; turn < 100; turn++) {
        int *fd = turn % 3 == 0 ? &b : &a;
        write_one(*fd);
        assert_int_equal(wait_for(tags, -1), 1);
        assert_ptr_equal(tags[0], fd);
        read_all(*fd);
    }
    assert_int_equal(wait_for(tags, 0), 0);
    ax_loop_close(loop);
    close(a);
    close(b);
}


static void
test_what_is_ready_before_it_is_watched_counts(void **state)
{
    int fd = eventfd(5, EFD_NONBLOCK);
    void *tags[8];
    (void)state;
    open_loop();
    assert_int_equal(ax_loop_watch(loop, fd, &fd), AXION_OK);
    assert_int_equal(wait_for(tags, -1), 1);
    ax_loop_close(loop);
    close(fd);
}


static void
test_a_peer_that_goes_is_an_event(void **state)
{
    int pair[2];
    void *tags[8];
    (void)state;
    open_loop();
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    assert_int_equal(ax_loop_watch(loop, pair[0], pair), AXION_OK);
    assert_int_equal(wait_for(tags, 0), 0);
    close(pair[1]);
    assert_int_equal(wait_for(tags, -1), 1);
    assert_ptr_equal(tags[0], pair);
    ax_loop_close(loop);
    close(pair[0]);
}


static void
test_an_old_watch_is_silent_though_its_number_comes_again(void **state)
{
    int other = eventfd(0, EFD_NONBLOCK), old_tag, new_tag;
    void *tags[8];
    (void)state;
    open_loop();
    assert_int_equal(ax_loop_watch(loop, other, &other), AXION_OK);
    for (int turn = 0; turn < 50; turn++) {
        int fd = eventfd(0, EFD_NONBLOCK);
        assert_int_equal(ax_loop_watch(loop, fd, &old_tag), AXION_OK);
        write_one(fd); /* its event may be under way already */
        ax_loop_unwatch(loop, fd);
        close(fd);
        int again = eventfd(0, EFD_NONBLOCK);
        assert_int_equal(again, fd);
        assert_int_equal(ax_loop_watch(loop, again, &new_tag), AXION_OK);
        write_one(other);
        do {
            assert_int_equal(wait_for(tags, -1), 1);
        } while (tags[0] != &other);
        read_all(other);
        write_one(again);
        assert_int_equal(wait_for(tags, -1), 1);
        assert_ptr_equal(tags[0], &new_tag);
        ax_loop_unwatch(loop, again);
        close(again);
    }
    ax_loop_close(loop);
    close(other);
}


static void
test_waits_as_long_as_it_is_told(void **state)
{
    struct timespec from, to;
    void *tags[8];
    (void)state;
    open_loop();
    clock_gettime(CLOCK_MONOTONIC, &from);
    assert_int_equal(wait_for(tags, 30000), 0);
    clock_gettime(CLOCK_MONOTONIC, &to);
    int64_t us = (to.tv_sec - from.tv_sec) * 1000000 +
                 (to.tv_nsec - from.tv_nsec) / 1000;
    assert_true(us >= 29900);
    ax_loop_close(loop);
}


static void
test_watches_are_bounded(void **state)
{
    int fd = eventfd(0, EFD_NONBLOCK), extra[AX_LOOP_WATCHES_MAX];
    uint32_t n = 0;
    (void)state;
    open_loop();
    /* Copies of one descriptor: epoll takes a descriptor once. */
    while (n < AX_LOOP_WATCHES_MAX && (extra[n] = dup(fd)) >= 0) {
        if (ax_loop_watch(loop, extra[n], &fd) != AXION_OK) {
            fail_msg("watch %u was refused", n);
        }
        n++;
    }
    if (n == AX_LOOP_WATCHES_MAX) { /* else descriptors ran out before */
        assert_int_equal(ax_loop_watch(loop, fd, &fd), AXION_ERR_NO_MEMORY);
    }
    ax_loop_close(loop);
    while (n > 0) {
        close(extra[--n]);
    }
    close(fd);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reports_each_change_once),
        cmocka_unit_test(test_what_is_ready_before_it_is_watched_counts),
        cmocka_unit_test(test_a_peer_that_goes_is_an_event),
        cmocka_unit_test(
            test_an_old_watch_is_silent_though_its_number_comes_again),
        cmocka_unit_test(test_waits_as_long_as_it_is_told),
        cmocka_unit_test(test_watches_are_bounded),
    };
    kind = "epoll";
    int failed = cmocka_run_group_tests_name("epoll", tests, NULL, NULL);
    kind = "io_uring";
    return failed + cmocka_run_group_tests_name("io_uring", tests, NULL, NULL);
}
