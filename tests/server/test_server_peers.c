/*
 * Shows that a client that is killed, stopped or hostile harms nobody: its
 * sequences are freed, its channel ends with one log line, and the others'
 * answers are what they would have been.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "shm/client_private.h"
#include "tests/server/harness.h"

static struct engine engine;
static struct axion_client *client;
static struct stream reference, beside;
static struct request_options request;


static void
start(void)
{
    engine_start(&engine, "q4_0",
                 (const char *[]){"--log-level", "info", NULL});
    client = client_open(&engine, "good");
    request_init(&request, "steady", 300);
    run_alone(client, &request, &reference);
}


static void
stop(void)
{
    axion_client_close(client);
    engine_stop(&engine);
}


/* A child with a channel of its own starts n streams, says so and waits to
 * be killed. */
static pid_t
start_victim(uint32_t n)
{
    int fds[2];
    char byte;
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct stream *streams = calloc(n, sizeof(*streams));
        struct axion_client *c = client_open(&engine, "victim");
        struct request_options o;
        request_init(&o, "victim", 900);
        for (uint32_t i = 0; i < n; i++) {
            submit(c, &o, &streams[i]);
        }
        wait_tokens(c, &streams[0], 1);
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
    return pid;
}


static void
expect_nothing_left(uint64_t channels)
{
    struct axion_board board;
    static struct stream s;
    request_init(&request, "steady", 300);
    run_alone(client, &request, &s); /* a turn of the loop at least */
    expect_same(&reference, &s);
    read_board(client, &board);
    assert_int_equal(board.running + board.waiting + board.parked, 0);
    assert_int_equal(board.kv_blocks_used, 0);
    assert_int_equal(board.channels_open, channels);
}


static void
test_killed_client_frees_its_sequences(void **state)
{
    (void)state;
    start();
    pid_t pid = start_victim(20);
    submit(client, &request, &beside);
    wait_tokens(client, &beside, 5);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    wait_ended(client, &beside);
    expect_same(&reference, &beside);
    engine_wait_log(&engine, "channel of victim");
    engine_wait_log(&engine, "closed");
    expect_nothing_left(1);
    stop();
}


static void
test_stopped_client_does_not_slow_others(void **state)
{
    (void)state;
    start();
    pid_t pid = start_victim(4);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    for (int i = 0; i < 5; i++) {
        run_alone(client, &request, &beside);
        expect_same(&reference, &beside);
    }
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    engine_wait_log(&engine, "channel of victim");
    engine_wait_log(&engine, "closed");
    expect_nothing_left(1);
    stop();
}


static int
raw_connection(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, engine.socket);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)),
                     0);
    return fd;
}


/* Reads until the engine has closed. */
static void
expect_closed(int fd)
{
    char data[512];
    struct pollfd p = {.fd = fd, .events = POLLIN};
    ssize_t n;
    do {
        assert_int_equal(poll(&p, 1, -1), 1);
        n = recv(fd, data, sizeof(data), MSG_DONTWAIT);
    } while (n > 0 || (n < 0 && errno == EAGAIN));
    close(fd);
}


static void
test_hostile_clients_die_alone(void **state)
{
    struct axion_board board;
    char garbage[400];
    (void)state;
    start();
    submit(client, &request, &beside);
    for (size_t i = 0; i < sizeof(garbage); i++) {
        garbage[i] = (char)(i * 131 + 7);
    }
    int fd = raw_connection();
    assert_true(send(fd, garbage, sizeof(garbage), MSG_NOSIGNAL) > 0);
    expect_closed(fd);
    engine_wait_log(&engine, "[error]");
    fd = raw_connection(); /* a doorbell before HELLO */
    assert_true(send(fd, "x", 1, MSG_NOSIGNAL) > 0);
    expect_closed(fd);
    engine_wait_log(&engine, "[error]");
    close(raw_connection()); /* gone without a word */
    wait_ended(client, &beside);
    expect_same(&reference, &beside);
    expect_nothing_left(1);
    read_board(client, &board);
    assert_int_equal(board.channels_lost_protocol, 2);
    stop();
}


/* Who says nothing makes room for who does, and is not kept. */
static void
test_silent_connections_lock_nobody_out(void **state)
{
    enum { N = 300, KEPT = 32 };
    static int fds[N];
    struct request_options o;
    (void)state;
    start();
    for (int i = 0; i < N; i++) {
        fds[i] = raw_connection();
    }
    for (int i = 0; i < N - KEPT; i++) {
        expect_closed(fds[i]); /* the last: all are accepted */
    }
    struct axion_client *late = client_open(&engine, "late");
    request_init(&o, "steady", 300);
    run_alone(late, &o, &beside);
    expect_same(&reference, &beside);
    for (int i = N - KEPT; i < N; i++) {
        expect_closed(fds[i]); /* their time is over */
    }
    engine_wait_log(&engine, "without HELLO");
    run_alone(late, &o, &beside);
    axion_client_close(late);
    engine_wait_log(&engine, "channel of late");
    expect_nothing_left(1);
    stop();
}


/* Writes that only a broken client makes, into a region with streams that
 * are being computed. */
static void
break_tail(struct axion_client *c)
{
    struct axion_index *tail = &c->map.region->sq_tail;
    axion_index_publish(tail, axion_index_load(tail) + 1000000);
}


static void
break_command(struct axion_client *c)
{
    struct axion_index *tail = &c->map.region->sq_tail;
    uint32_t at = axion_index_load(tail);
    struct axion_sqe bad = {.op = 99};
    memcpy(&c->map.sq[at & (c->geometry.sq_entries - 1)], &bad, sizeof(bad));
    axion_index_publish(tail, at + 1);
}


static void
break_head(struct axion_client *c)
{
    struct axion_index *head = &c->map.region->cq_head;
    axion_index_publish(head, axion_index_load(head) + 1000000);
}


static void
test_broken_rings_end_their_channel_alone(void **state)
{
    static void (*const breaks[])(struct axion_client *) = {
        break_tail, break_command, break_head};
    enum { N = 10 };
    static struct stream streams[N];
    struct request_options o;
    struct axion_board board;
    (void)state;
    start();
    for (size_t i = 0; i < sizeof(breaks) / sizeof(breaks[0]); i++) {
        struct axion_client *bad = client_open(&engine, "bad");
        request_init(&o, "bad", 900);
        for (uint32_t k = 0; k < N; k++) {
            submit(bad, &o, &streams[k]);
        }
        submit(client, &request, &beside);
        wait_tokens(bad, &streams[0], 2);
        breaks[i](bad);
        engine_wait_log(&engine, "channel of \"bad\"");
        expect_closed(dup(axion_client_fd(bad)));
        axion_client_close(bad);
        wait_ended(client, &beside);
        expect_same(&reference, &beside);
    }
    expect_nothing_left(1);
    read_board(client, &board);
    assert_int_equal(board.channels_lost_protocol, 3);
    stop();
}


static void
test_payload_of_garbage_is_refused(void **state)
{
    static struct stream s;
    char garbage[256];
    (void)state;
    start();
    for (uint32_t turn = 0; turn < 64; turn++) {
        for (size_t i = 0; i < sizeof(garbage); i++) {
            garbage[i] = (char)(i * (turn * 2 + 1) + turn);
        }
        memset(&s, 0, sizeof(s));
        assert_int_equal(
            axion_client_submit(client, garbage, 1 + turn * 3, 1000, &s, &s.id),
            AXION_OK);
        wait_ended(client, &s);
        assert_int_equal(s.error, AXION_ERR_INVALID_REQUEST);
        assert_true(strlen(s.detail) > 0);
    }
    expect_nothing_left(1);
    stop();
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_client_frees_its_sequences),
        cmocka_unit_test(test_stopped_client_does_not_slow_others),
        cmocka_unit_test(test_hostile_clients_die_alone),
        cmocka_unit_test(test_silent_connections_lock_nobody_out),
        cmocka_unit_test(test_broken_rings_end_their_channel_alone),
        cmocka_unit_test(test_payload_of_garbage_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
