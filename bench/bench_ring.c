/*
 * The ring's speed beside a unix socket's, in one run: two processes, an
 * engine and a client.
 *
 *   round trip   one record to the engine and one back (TOPUP, PROGRESS),
 *                beside 64 bytes each way over a SOCK_SEQPACKET pair.  Awake:
 *                both sides look again and again.  Asleep: both sides arm and
 *                poll() whenever there is nothing, as a worker and an idle
 *                engine do.
 *   request      SUBMIT of 64 bytes to ACCEPTED, one TOKENS, DONE.
 *   records      TOKENS of one id and 8 bytes for 64 streams as fast as the
 *                client takes them, one flush per step of 64, beside 64-byte
 *                messages one way over the socket.
 *
 * Every figure is measured ROUNDS times (environment, default 5), the kinds
 * alternating, so that a slow spell of the machine hits all of them; printed
 * are median and (lowest..highest).
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "shm/channel.h"
#include "shm/client.h"

#define ROUNDS_MAX 101
#define STREAMS    64

struct bench {
    const char *name;
    const char *unit;
    double (*run)(int asleep); /* per second */
    int asleep;
    double samples[ROUNDS_MAX];
};


static void
require(int condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "bench_ring: %s failed\n", what);
        exit(1);
    }
}


static double
seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}


static void
wait_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    while (poll(&p, 1, -1) < 0 && errno == EINTR) {
    }
}


/* Forks `peer` on one end of a socket pair; *fd is ours. */
static pid_t
start(void (*peer)(int fd, int asleep), int asleep, int *fd)
{
    int fds[2];

    require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0,
            "socketpair");
    pid_t pid = fork();
    require(pid >= 0, "fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(fds[0]);
        peer(fds[1], asleep);
        _exit(0);
    }
    close(fds[1]);
    *fd = fds[0];
    return pid;
}


static void
finish(pid_t pid)
{
    int status;

    require(waitpid(pid, &status, 0) == pid && status == 0, "the peer");
}


/* ---- the ring ---- */

static void
answer(struct axion_channel *channel, const struct axion_command *command)
{
    const struct axion_cq_accepted accepted = {.prompt_tokens = 1};
    const struct axion_cq_progress progress = {.prompt_done = 1};
    const struct axion_cq_done done = {.reason = AXION_FINISH_STOP};
    const uint32_t token = 1;

    if (command->op == AXION_SQ_TOPUP) {
        axion_channel_progress(channel, command->id, &progress);
    } else if (command->op == AXION_SQ_SUBMIT) {
        axion_channel_accepted(channel, command->id, &accepted);
        if (command->lease_tokens == 1) {
            axion_channel_tokens(channel, command->id, &token, 1, "answered", 8,
                                 NULL, 0);
            axion_channel_done(channel, command->id, &done);
        }
    } else {
        axion_channel_done(channel, command->id, &done);
    }
}


static struct axion_channel *
accept_channel(int fd)
{
    const struct axion_channel_options options = {0};
    struct axion_channel *channel;

    require(axion_channel_open(&channel, fd, &options) == AXION_OK, "open");
    while (axion_channel_service(channel) == AXION_AGAIN) {
        wait_readable(fd);
    }
    return channel;
}


/* Answers until the client is gone.  Awake it asks the socket only now and
 * then, as an engine between its steps. */
static void
ring_engine(int fd, int asleep)
{
    struct axion_channel *channel = accept_channel(fd);
    struct axion_command command;
    uint32_t turns = 0;
    int rc = AXION_OK;

    while (rc == AXION_OK) {
        while (axion_channel_next(channel, &command) == AXION_OK) {
            answer(channel, &command);
        }
        axion_channel_flush(channel);
        if (!asleep) {
            rc =
                ++turns % 4096 == 0 ? axion_channel_service(channel) : AXION_OK;
        } else if (axion_channel_arm(channel) == 0) {
            wait_readable(fd);
            rc = axion_channel_service(channel);
        }
    }
    axion_channel_close(channel);
}


static struct axion_client *
connect_client(int fd)
{
    const struct axion_client_options options = {.streams = STREAMS,
                                                 .name = "bench_ring"};
    struct axion_client *client;

    require(axion_client_open_fd(&client, fd, &options) == AXION_OK, "open");
    while (axion_client_service(client) == AXION_AGAIN) {
        wait_readable(fd);
    }
    return client;
}


/* The next event, advanced over; its op. */
static enum axion_cq_op
hear(struct axion_client *client, int asleep)
{
    struct axion_event event;
    int rc;

    while ((rc = axion_client_peek(client, &event)) != AXION_OK) {
        require(rc == AXION_AGAIN, "peek");
        if (asleep && axion_client_arm(client) == 0) {
            wait_readable(axion_client_fd(client));
            require(axion_client_service(client) == AXION_OK, "service");
        }
    }
    axion_client_advance(client);
    return event.op;
}


static double
ring_round_trips(int asleep)
{
    const int n = asleep ? 20000 : 300000;
    axion_stream_id id;
    int fd;

    pid_t pid = start(ring_engine, asleep, &fd);
    struct axion_client *client = connect_client(fd);
    require(axion_client_submit(client, "x", 1, 0, NULL, &id) == AXION_OK,
            "submit");
    require(hear(client, asleep) == AXION_CQ_ACCEPTED, "accepted");

    double begin = seconds();
    for (int i = 0; i < n; i++) {
        axion_client_topup(client, id, 1);
        require(hear(client, asleep) == AXION_CQ_PROGRESS, "progress");
    }
    double took = seconds() - begin;
    axion_client_close(client);
    finish(pid);
    return n / took;
}


static double
ring_requests(int asleep)
{
    const int n = asleep ? 20000 : 200000;
    const char payload[64] = "a request";
    axion_stream_id id;
    int fd;

    pid_t pid = start(ring_engine, asleep, &fd);
    struct axion_client *client = connect_client(fd);
    double begin = seconds();
    for (int i = 0; i < n; i++) {
        require(axion_client_submit(client, payload, sizeof(payload), 1, NULL,
                                    &id) == AXION_OK,
                "submit");
        while (hear(client, asleep) != AXION_CQ_DONE) {
        }
    }
    double took = seconds() - begin;
    axion_client_close(client);
    finish(pid);
    return n / took;
}


/* Says one token on every stream per step, while there is room. */
static void
ring_talker(int fd, int asleep)
{
    struct axion_channel *channel = accept_channel(fd);
    const struct axion_cq_accepted accepted = {.prompt_tokens = 1};
    struct axion_command command;
    axion_stream_id ids[STREAMS];
    const uint32_t token = 1;
    int n = 0;

    while (n < STREAMS) {
        if (axion_channel_next(channel, &command) == AXION_OK) {
            ids[n++] = command.id;
            axion_channel_accepted(channel, command.id, &accepted);
        }
    }
    while (axion_channel_service(channel) == AXION_OK) {
        for (int step = 0; step < 64; step++) {
            int said = 0;

            for (int i = 0; i < STREAMS; i++) {
                if (axion_channel_writable(channel, ids[i], 8)) {
                    axion_channel_tokens(channel, ids[i], &token, 1, "one word",
                                         8, NULL, 0);
                    said = 1;
                }
            }
            axion_channel_flush(channel);
            if (!said && asleep && axion_channel_arm(channel) == 0) {
                wait_readable(fd);
                break;
            }
        }
    }
    axion_channel_close(channel);
}


static double
ring_tokens(int asleep)
{
    const uint64_t n = 3000000;
    struct axion_event event;
    axion_stream_id id;
    uint64_t tokens = 0;
    int fd;

    pid_t pid = start(ring_talker, asleep, &fd);
    struct axion_client *client = connect_client(fd);
    for (int i = 0; i < STREAMS; i++) {
        require(axion_client_submit(client, "x", 1, 0, NULL, &id) == AXION_OK,
                "submit");
    }
    double begin = seconds();
    while (tokens < n) {
        int rc = axion_client_peek(client, &event);
        if (rc == AXION_OK) {
            tokens += event.op == AXION_CQ_TOKENS ? event.tokens.n_tokens : 0;
            axion_client_advance(client);
        } else if (asleep && axion_client_arm(client) == 0) {
            wait_readable(fd);
            require(axion_client_service(client) == AXION_OK, "service");
        }
    }
    double took = seconds() - begin;
    axion_client_close(client);
    finish(pid);
    return (double)tokens / took;
}


/* ---- the socket ---- */

static ssize_t
socket_read(int fd, char *data, int asleep)
{
    ssize_t n;

    do {
        n = recv(fd, data, 64, MSG_DONTWAIT);
        if (n < 0 && asleep) {
            wait_readable(fd);
        }
    } while (n < 0 && errno == EAGAIN);
    return n;
}


static void
socket_echo(int fd, int asleep)
{
    char data[64];

    while (socket_read(fd, data, asleep) == sizeof(data)) {
        require(send(fd, data, sizeof(data), MSG_NOSIGNAL) == sizeof(data),
                "send");
    }
}


static double
socket_round_trips(int asleep)
{
    const int n = 20000;
    char data[64] = {0};
    int fd;

    pid_t pid = start(socket_echo, asleep, &fd);
    double begin = seconds();
    for (int i = 0; i < n; i++) {
        require(send(fd, data, sizeof(data), 0) == sizeof(data), "send");
        require(socket_read(fd, data, asleep) == sizeof(data), "recv");
    }
    double took = seconds() - begin;
    close(fd);
    finish(pid);
    return n / took;
}


static void
socket_talker(int fd, int asleep)
{
    const char data[64] = {0};

    (void)asleep; /* send() blocks while the socket is full */
    while (send(fd, data, sizeof(data), MSG_NOSIGNAL) == sizeof(data)) {
    }
}


static double
socket_messages(int asleep)
{
    const int n = 300000;
    char data[64];
    int fd;

    pid_t pid = start(socket_talker, asleep, &fd);
    double begin = seconds();
    for (int i = 0; i < n; i++) {
        require(socket_read(fd, data, asleep) == sizeof(data), "recv");
    }
    double took = seconds() - begin;
    close(fd);
    finish(pid);
    return n / took;
}


/* ---- report ---- */

static int
compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}


static void
report(struct bench *bench, int rounds)
{
    qsort(bench->samples, (size_t)rounds, sizeof(double), compare);
    double median = bench->samples[rounds / 2];

    printf("%-28s %-7s %10.0f %-14s (%.0f..%.0f)  %8.2f us each\n", bench->name,
           bench->asleep ? "asleep" : "awake", median, bench->unit,
           bench->samples[0], bench->samples[rounds - 1], 1e6 / median);
}


int
main(void)
{
    static struct bench benches[] = {
        {.name = "ring round trip",
         .unit = "round trips/s",
         .run = ring_round_trips},
        {.name = "socket round trip",
         .unit = "round trips/s",
         .run = socket_round_trips},
        {.name = "ring round trip",
         .unit = "round trips/s",
         .run = ring_round_trips,
         .asleep = 1},
        {.name = "socket round trip",
         .unit = "round trips/s",
         .run = socket_round_trips,
         .asleep = 1},
        {.name = "ring request", .unit = "requests/s", .run = ring_requests},
        {.name = "ring request",
         .unit = "requests/s",
         .run = ring_requests,
         .asleep = 1},
        {.name = "ring tokens, 64 streams",
         .unit = "tokens/s",
         .run = ring_tokens},
        {.name = "ring tokens, 64 streams",
         .unit = "tokens/s",
         .run = ring_tokens,
         .asleep = 1},
        {.name = "socket messages, one way",
         .unit = "messages/s",
         .run = socket_messages},
        {.name = "socket messages, one way",
         .unit = "messages/s",
         .run = socket_messages,
         .asleep = 1},
    };
    const size_t n = sizeof(benches) / sizeof(benches[0]);
    const char *text = getenv("ROUNDS");
    int rounds = text != NULL ? atoi(text) : 5;

    if (rounds < 1 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "bench_ring: ROUNDS is 1 to %d\n", ROUNDS_MAX);
        return 1;
    }
    for (int round = 0; round < rounds; round++) {
        for (size_t i = 0; i < n; i++) {
            benches[i].samples[round] = benches[i].run(benches[i].asleep);
        }
    }
    printf("%d rounds, median (lowest..highest), %ld CPUs\n", rounds,
           sysconf(_SC_NPROCESSORS_ONLN));
    for (size_t i = 0; i < n; i++) {
        report(&benches[i], rounds);
    }
    return 0;
}
