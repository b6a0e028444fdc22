/* Either side is killed (SIGKILL) or stopped (SIGSTOP) in every state of a
 * channel and its stream: the other side stays alive, blocks nowhere, learns
 * of a death by end of file, hands out every open stream, frees descriptors
 * and mappings, and its other channels go on. */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/shm/pair.h"

#define PIECES 3

enum moment {
    BEFORE_HELLO,
    HANDSHAKE,
    IDLE,
    SUBMITTED,
    MID_STREAM,
    PAUSED,
    DONE_UNSENT,
    MOMENTS,
};

static const char *const moment_names[MOMENTS] = {
    "before HELLO", "handshake", "idle",       "submitted",
    "mid-stream",   "paused",    "done unsent"};

/* One side's view of a case: it runs up to the moment and then stops. */
struct side {
    int fd;
    enum moment moment;
    struct axion_client *client;
    struct axion_channel *channel;
    axion_stream_id id;
};


static void
wait_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    while (poll(&p, 1, -1) < 0) {
    }
}


/* ---- the two roles, each up to the moment ---- */

/* Sleeps as a worker or an engine would, and services its doorbells. */
static void
client_wait(struct side *side)
{
    if (axion_client_arm(side->client) == 0) {
        wait_readable(axion_client_fd(side->client));
        if (axion_client_service(side->client) != AXION_OK) {
            abort();
        }
    }
}


static void
client_hear(struct side *side, enum axion_cq_op op, uint32_t n)
{
    struct axion_event event;

    while (n > 0) {
        int rc = axion_client_peek(side->client, &event);
        if (rc == AXION_AGAIN) {
            client_wait(side);
            continue;
        }
        if (rc != AXION_OK) {
            abort();
        }
        n -= event.op == op
                 ? (op == AXION_CQ_TOKENS ? event.tokens.n_tokens : 1)
                 : 0;
        axion_client_advance(side->client);
    }
}


static void
be_client(struct side *side)
{
    const struct axion_client_options options = {.streams = 4, .credit = 4};

    if (side->moment == BEFORE_HELLO) {
        return;
    }
    if (axion_client_open_fd(&side->client, side->fd, &options) != AXION_OK) {
        abort();
    }
    if (side->moment == HANDSHAKE) {
        return;
    }
    wait_readable(side->fd);
    if (axion_client_service(side->client) != AXION_OK) {
        abort();
    }
    if (side->moment == IDLE) {
        return;
    }
    if (axion_client_submit(side->client, "hello", 5, 1, side, &side->id) !=
        AXION_OK) {
        abort();
    }
    if (side->moment == MID_STREAM || side->moment == PAUSED) {
        client_hear(side, AXION_CQ_TOKENS, PIECES);
    }
    if (side->moment == PAUSED) {
        axion_client_pause(side->client, side->id);
    }
}


static void
engine_take(struct side *side, enum axion_sq_op op)
{
    struct axion_command command;
    int rc;

    while ((rc = axion_channel_next(side->channel, &command)) != AXION_OK) {
        if (rc != AXION_AGAIN) {
            abort();
        }
        if (axion_channel_arm(side->channel) == 0) {
            wait_readable(side->fd);
            if (axion_channel_service(side->channel) != AXION_OK) {
                abort();
            }
        }
    }
    if (command.op != op) {
        abort();
    }
    side->id = command.id;
}


/* Queues pieces of 20 bytes; a few of them fit the stream's credit, so that
 * the client hears them although nobody flushes again. */
static void
engine_speak(struct side *side, uint32_t pieces)
{
    const struct axion_cq_accepted accepted = {.prompt_tokens = 5};

    axion_channel_accepted(side->channel, side->id, &accepted);
    for (uint32_t i = 0; i < pieces; i++) {
        axion_channel_tokens(side->channel, side->id, &i, 1,
                             "text of twenty bytes", 20, NULL, 0);
    }
    axion_channel_flush(side->channel);
}


static void
be_engine(struct side *side)
{
    const struct axion_channel_options options = {0};
    const struct axion_cq_done done = {.reason = AXION_FINISH_STOP};

    if (side->moment == BEFORE_HELLO || side->moment == HANDSHAKE) {
        return;
    }
    if (axion_channel_open(&side->channel, side->fd, &options) != AXION_OK) {
        abort();
    }
    while (axion_channel_service(side->channel) == AXION_AGAIN) {
        wait_readable(side->fd);
    }
    if (side->moment == IDLE) {
        return;
    }
    engine_take(side, AXION_SQ_SUBMIT);
    if (side->moment == MID_STREAM || side->moment == PAUSED) {
        engine_speak(side, PIECES);
    }
    if (side->moment == PAUSED) {
        engine_take(side, AXION_SQ_PAUSE);
    }
    if (side->moment == DONE_UNSENT) {
        engine_speak(side, 50);
        axion_channel_done(side->channel, side->id, &done);
        axion_channel_flush(side->channel);
    }
}


/* ---- the survivor ---- */

static void
count_stream(void *context, axion_stream_id id, void *user)
{
    (void)id;
    (void)user;
    ++*(int *)context;
}


/* The engine outlives its client. */
static void
engine_survives(struct side *side, int dead)
{
    const struct axion_channel_options options = {0};
    const struct axion_cq_done done = {.reason = AXION_FINISH_STOP};
    struct axion_command command;
    int streams = 0;
    int rc;

    if (side->channel == NULL) {
        assert_int_equal(axion_channel_open(&side->channel, side->fd, &options),
                         AXION_OK);
    }
    if (dead) {
        do {
            wait_readable(side->fd);
            rc = axion_channel_service(side->channel);
        } while (rc == AXION_OK);
        assert_int_equal(rc, AXION_ERR_ENGINE_LOST);
    } else {
        rc = axion_channel_service(side->channel);
        assert_true(rc == AXION_OK ||
                    (rc == AXION_AGAIN && side->moment == BEFORE_HELLO));
    }
    axion_channel_next(side->channel, &command);
    axion_channel_each(side->channel, count_stream, &streams);
    assert_int_equal(streams,
                     side->moment >= SUBMITTED && side->moment != DONE_UNSENT);
    if (streams == 1 && !dead) {
        /* It goes on until the stream's buffer is full, and no further. */
        uint32_t pieces = 0;
        engine_speak(side, 0);
        while (axion_channel_writable(side->channel, side->id, 40)) {
            engine_speak(side, 1);
            assert_true(++pieces < 10000);
        }
        axion_channel_done(side->channel, side->id, &done);
        assert_int_equal(axion_channel_flush(side->channel), 1);
        assert_int_equal(axion_channel_streams(side->channel), 1);
        assert_int_equal(axion_channel_arm(side->channel), 0);
    }
    axion_channel_close(side->channel);
}


/* The client outlives its engine. */
static void
client_survives(struct side *side, int dead)
{
    const struct axion_client_options options = {.streams = 4};
    struct axion_event event;
    axion_stream_id id;
    int rc;

    if (side->client == NULL) {
        rc = axion_client_open_fd(&side->client, side->fd, &options);
        if (dead && rc != AXION_OK) {
            /* There was no one left to say HELLO to. */
            assert_int_equal(rc, AXION_ERR_SYSTEM);
            return;
        }
        assert_int_equal(rc, AXION_OK);
    }
    if (dead) {
        wait_readable(side->fd);
        assert_int_equal(axion_client_service(side->client),
                         AXION_ERR_ENGINE_LOST);
    } else {
        rc = axion_client_service(side->client);
        assert_int_equal(rc,
                         side->moment <= HANDSHAKE ? AXION_AGAIN : AXION_OK);
        /* Work piles up until there is no more room, and nothing blocks. */
        for (int i = 0; i < 100; i++) {
            axion_client_submit(side->client, "again", 5, 1, NULL, &id);
            axion_client_pause(side->client, side->id);
            axion_client_topup(side->client, side->id, 1);
            axion_client_resume(side->client, side->id);
        }
        axion_client_cancel(side->client, side->id);
        rc = axion_client_submit(side->client, "again", 5, 1, NULL, &id);
        assert_int_equal(rc, side->moment <= HANDSHAKE
                                 ? AXION_ERR_ENGINE_UNAVAILABLE
                                 : AXION_ERR_NO_STREAM_SLOT);
    }
    while (axion_client_peek(side->client, &event) == AXION_OK) {
        axion_client_advance(side->client);
    }
    axion_client_arm(side->client);
    axion_client_close(side->client);
}


/* ---- one case ---- */

static void
talk_once(struct pair *pair)
{
    axion_stream_id id = pair_submit(pair, "bystander");

    pair_done(pair, id);
    axion_channel_flush(pair->channel);
    assert_int_equal(pair_event(pair).op, AXION_CQ_ACCEPTED);
    assert_int_equal(pair_event(pair).op, AXION_CQ_DONE);
}


static pid_t
start_victim(struct side *side, int is_client, int fds[2], int ready[2])
{
    pid_t parent = getpid();
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid != 0) {
        return pid;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(1);
    }
    close(fds[0]);
    close(ready[0]);
    side->fd = fds[1];
    if (is_client) {
        be_client(side);
    } else {
        be_engine(side);
    }
    if (write(ready[1], "r", 1) != 1) {
        _exit(1);
    }
    for (;;) {
        pause();
    }
}


static void
run_case(enum moment moment, int victim_is_client, int signal)
{
    struct side side = {.moment = moment};
    struct pair bystander;
    int ready[2];
    int fds[2];
    int status;
    char byte;

    int fds_before = open_fds();
    int maps_before = ring_maps();
    pair_open(&bystander, NULL, NULL);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds),
                     0);
    assert_int_equal(pipe(ready), 0);
    pid_t victim = start_victim(&side, victim_is_client, fds, ready);
    close(fds[1]);
    close(ready[1]);
    side.fd = fds[0];
    if (victim_is_client) {
        be_engine(&side);
    } else {
        be_client(&side);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);

    kill(victim, signal);
    assert_int_equal(waitpid(victim, &status, WUNTRACED), victim);
    assert_true(signal == SIGKILL ? WIFSIGNALED(status) : WIFSTOPPED(status));
    if (victim_is_client) {
        engine_survives(&side, signal == SIGKILL);
    } else {
        client_survives(&side, signal == SIGKILL);
    }
    talk_once(&bystander);
    if (signal == SIGSTOP) {
        kill(victim, SIGKILL);
        assert_int_equal(waitpid(victim, &status, 0), victim);
    }
    pair_close(&bystander);
    close(ready[0]);
    assert_int_equal(open_fds(), fds_before);
    assert_int_equal(ring_maps(), maps_before);
}


static void
run_all(int victim_is_client, int signal)
{
    for (int moment = 0; moment < MOMENTS; moment++) {
        print_message("%s %s: %s\n", victim_is_client ? "client" : "engine",
                      signal == SIGKILL ? "killed" : "stopped",
                      moment_names[moment]);
        run_case(moment, victim_is_client, signal);
    }
}


static void
test_client_killed(void **state)
{
    (void)state;
    run_all(1, SIGKILL);
}


static void
test_client_stopped(void **state)
{
    (void)state;
    run_all(1, SIGSTOP);
}


static void
test_engine_killed(void **state)
{
    (void)state;
    run_all(0, SIGKILL);
}


static void
test_engine_stopped(void **state)
{
    (void)state;
    run_all(0, SIGSTOP);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_client_killed),
        cmocka_unit_test(test_client_stopped),
        cmocka_unit_test(test_engine_killed),
        cmocka_unit_test(test_engine_stopped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
