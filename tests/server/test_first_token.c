/*
 * Requests behind the packing: an engine says READY and takes requests while
 * weights are still being packed; tokens come when their layers are there, and
 * are those of a loaded engine.  Waiting requests can be cancelled, signals are
 * heard, and a weight that is NaN ends the engine as it would have before READY:
 * by name, with status 1, and no token out.  Steps that are timed make room for
 * who comes first.
 *
 * Packing is held back through the server's own hook for it, in a child with
 * the server inside, by a number of layers that the test raises.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "engine/gguf/gguf.h"
#include "engine/server/server_private.h"
#include "tests/server/in_child.h"

#define LAYERS 4u

/* Shared with the child. */
struct shared {
    _Atomic uint32_t allowed; /* layers that may be packed */
    _Atomic uint32_t refused; /* times that a layer was not */
    atomic_bool timing;       /* to be held on to, once */
    atomic_bool times;        /* it is */
};

static struct shared *shared;
static struct engine engine;
static const char *notify;
static uint32_t threads = 2;
static uint64_t kv_memory, drain_timeout_ms; /* 0: the default */


/* ---- the child ---- */

static bool
may_pack(void *context, uint32_t layer)
{
    struct shared *s = context;
    bool may = layer < atomic_load(&s->allowed);
    atomic_fetch_add(&s->refused, !may);
    return may;
}


static void
serve(void)
{
    char listen[128];
    struct ax_server_options options;
    struct ax_server *server;
    bool timed = true; /* if loaded: the scheduler knows what steps cost */
    in_child_options(&options, listen, &engine);
    options.notify = notify;
    options.threads = threads;
    options.kv_memory = kv_memory != 0 ? kv_memory : options.kv_memory;
    options.drain_timeout_ms =
        drain_timeout_ms != 0 ? drain_timeout_ms : options.drain_timeout_ms;
    options.pace = (struct ax_server_pace){may_pack, shared};
    int rc = in_child_open(&server, &options);
    if (rc == AXION_OK) {
        rc = ax_server_run(server);
        timed = server->load != LOAD_DONE || server->sched == NULL ||
                ax_sched_step_us(server->sched, 1) > 0;
        (void)ax_server_close(server);
    }
    _exit(rc != AXION_OK ? 1 : timed ? 0 : 3);
}


/* The first scale of the tensor becomes NaN. */
static void
poison(const char *tensor)
{
    struct ax_error err;
    struct ax_gguf *g;
    const uint16_t nan = 0x7e00;
    assert_int_equal(ax_gguf_open(&g, engine.model, &err), AXION_OK);
    const struct ax_gguf_tensor *t = ax_gguf_tensor(g, tensor);
    assert_non_null(t);
    FILE *file = fopen(engine.model, "r+");
    assert_non_null(file);
    assert_int_equal(fseek(file, (long)t->offset, SEEK_SET), 0);
    assert_int_equal(fwrite(&nan, sizeof(nan), 1, file), 1);
    assert_int_equal(fclose(file), 0);
    ax_gguf_close(g);
}


/* Ready, with so many layers that may be packed. */
static void
start(uint32_t allowed, const char *poisoned)
{
    static const struct tiny_options model = {.format = TINY_Q8_0,
                                              .n_layer = LAYERS};
    engine = (struct engine){0};
    strcpy(engine.directory, "/tmp/axion-test-XXXXXX");
    assert_non_null(mkdtemp(engine.directory));
    snprintf(engine.model, sizeof(engine.model), "%s/tiny.gguf",
             engine.directory);
    assert_int_equal(tiny_model_write(engine.model, &model), 0);
    if (poisoned != NULL) {
        poison(poisoned);
    }
    atomic_store(&shared->allowed, allowed);
    atomic_store(&shared->refused, 0);
    engine_in_child = serve;
    engine_start_on(&engine, engine.model, (const char *[]){NULL});
    engine_in_child = NULL;
    engine_wait_log(&engine, "ready on");
}


static void
allow_all(void)
{
    atomic_store(&shared->allowed, UINT32_MAX);
}


/* ---- the client ---- */

static void
ask(struct axion_client *c, struct stream *s)
{
    struct request_options o;
    request_init(&o, "it was a dark and stormy night", 12);
    submit(c, &o, s);
}


/* The step of the only request has begun and waits: the board goes on, which
 * in a step it does only while it waits, and no token comes. */
static void
wait_waiting(struct axion_client *c, const struct stream *s)
{
    struct axion_board board;
    wait_accepted(c, s);
    do {
        read_board(c, &board);
    } while (board.running != 1);
    uint64_t from = board.heartbeat;
    uint32_t refused = atomic_load(&shared->refused);
    while (board.heartbeat < from + 2 ||
           atomic_load(&shared->refused) < refused + 2) {
        read_board(c, &board);
        (void)pump(c);
    }
    assert_int_equal(board.state, AXION_ENGINE_READY);
    assert_int_equal(board.running, 1);
    assert_int_equal(board.completion_tokens_total, 0);
    assert_true(board.load_permille < 1000);
    assert_int_equal(board.load_us, 0);
    assert_false(s->ended);
    assert_int_equal(s->n_tokens, 0);
}


/* ---- the service manager ---- */

static int
open_manager(char path[64])
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    snprintf(path, 64, "/tmp/axion-test-manager-%d", (int)getpid());
    strcpy(address.sun_path, path);
    (void)unlink(path);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address,
                          sizeof(address)), 0);
    return fd;
}


/* Whether it has been told so; waits for the next word if asked to. */
static bool
told_ready(int fd, bool wait)
{
    char text[512];
    for (;;) {
        ssize_t n =
            recv(fd, text, sizeof(text) - 1, wait ? 0 : MSG_DONTWAIT);
        if (n < 0) {
            assert_int_equal(errno, EAGAIN);
            return false;
        }
        text[n] = '\0';
        if (strstr(text, "READY=1") != NULL) {
            return true;
        }
    }
}


/* ---- the tests ---- */

static void
tokens_come_when_their_layers_are_there(void **state)
{
    static struct stream behind, loaded;
    struct axion_board board;
    char path[64];
    (void)state;
    for (threads = 1; threads <= 2; threads++) {
        int manager = open_manager(path);
        notify = path;
        start(1, NULL);
        struct axion_client *c = client_open(&engine, "test");
        ask(c, &behind);
        wait_waiting(c, &behind);
        atomic_store(&shared->allowed, 3);
        wait_waiting(c, &behind);
        assert_false(told_ready(manager, false));
        allow_all();
        wait_ended(c, &behind);
        assert_int_equal(behind.error, AXION_OK);
        assert_int_equal(behind.n_tokens, 12);
        assert_true(told_ready(manager, true));
        engine_wait_log(&engine, " MB of weights packed in ");

        ask(c, &loaded);
        wait_ended(c, &loaded);
        expect_same(&behind, &loaded);
        read_board(c, &board);
        assert_int_equal(board.load_permille, 1000);
        assert_true(board.load_us > 0);
        axion_client_close(c);
        engine_stop(&engine);
        close(manager);
        unlink(path);
        notify = NULL;
    }
    threads = 2;
}


/* With memory for one context steps are timed when the request has ended. */
static void
steps_are_timed_when_there_is_room(void **state)
{
    static struct stream s;
    (void)state;
    kv_memory = 1u << 20;
    start(2, NULL);
    struct axion_client *c = client_open(&engine, "test");
    ask(c, &s);
    wait_waiting(c, &s);
    allow_all();
    wait_ended(c, &s);
    assert_int_equal(s.n_tokens, 12);
    engine_wait_log(&engine, " MB of weights packed in ");
    axion_client_close(c);
    engine_stop(&engine);
    kv_memory = 0;
}


/* What is timed meanwhile goes on until something else is to be done. */
int __real_ax_engine_calibrate(struct ax_engine *e,
                               const struct ax_calibrate_options *options,
                               struct ax_error *err);
int __wrap_ax_engine_calibrate(struct ax_engine *e,
                               const struct ax_calibrate_options *options,
                               struct ax_error *err);

int
__wrap_ax_engine_calibrate(struct ax_engine *e,
                           const struct ax_calibrate_options *options,
                           struct ax_error *err)
{
    int rc = AXION_OK;
    if (options->at_layer == NULL || !atomic_exchange(&shared->timing, false)) {
        return __real_ax_engine_calibrate(e, options, err);
    }
    atomic_store(&shared->times, true);
    for (uint32_t layer = 0; rc == AXION_OK; layer = (layer + 1) % LAYERS) {
        rc = options->at_layer(options->context, layer);
    }
    return rc;
}


/* An idle engine times steps; who comes then is not kept waiting for that, be
 * it a client that was there, or one that connects. */
static void
a_first_request_puts_timing_off(void **state)
{
    static struct stream s;
    (void)state;
    for (int connected = 0; connected < 2; connected++) {
        struct axion_client *c = NULL;
        atomic_store(&shared->times, false);
        atomic_store(&shared->timing, true);
        start(connected, NULL); /* layers that may be packed */
        if (connected) {
            c = client_open(&engine, "test");
        }
        allow_all();
        while (!atomic_load(&shared->times)) {
            sched_yield();
        }
        if (!connected) {
            c = client_open(&engine, "test");
        }
        ask(c, &s);
        wait_ended(c, &s);
        assert_int_equal(s.error, AXION_OK);
        assert_int_equal(s.n_tokens, 12);
        engine_wait_log(&engine, " MB of weights packed in "); /* and timed */
        axion_client_close(c);
        engine_stop(&engine);
    }

    atomic_store(&shared->times, false); /* signals end it, too */
    atomic_store(&shared->timing, true);
    start(UINT32_MAX, NULL);
    while (!atomic_load(&shared->times)) {
        sched_yield();
    }
    engine_stop(&engine);
}


static void
who_waits_can_be_cancelled(void **state)
{
    static struct stream s, after;
    (void)state;
    start(2, NULL);
    struct axion_client *c = client_open(&engine, "test");
    ask(c, &s);
    wait_waiting(c, &s);
    axion_client_cancel(c, s.id);
    wait_ended(c, &s); /* packing is still held */
    assert_int_equal(s.done.reason, AXION_FINISH_CANCELLED);
    assert_int_equal(s.n_tokens, 0);
    ask(c, &after);
    wait_waiting(c, &after);
    axion_client_close(client_open(&engine, "another comes in"));
    allow_all();
    wait_ended(c, &after);
    assert_int_equal(after.error, AXION_OK);
    assert_int_equal(after.n_tokens, 12);
    axion_client_close(c);
    engine_stop(&engine);
}


static void
signals_are_heard(void **state)
{
    static struct stream s;
    (void)state;
    start(0, NULL);
    engine_stop(&engine); /* nobody waits: at once */

    start(2, NULL); /* what waits is answered */
    struct axion_client *c = client_open(&engine, "test");
    ask(c, &s);
    wait_waiting(c, &s);
    assert_int_equal(kill(engine.pid, SIGTERM), 0);
    engine_wait_log(&engine, "draining: 1 requests");
    allow_all();
    wait_ended(c, &s);
    assert_int_equal(s.error, AXION_OK);
    assert_int_equal(s.n_tokens, 12);
    assert_int_equal(engine_wait(&engine), 0);
    axion_client_close(c);

    drain_timeout_ms = 1; /* a drain ends in time, packed or not */
    start(2, NULL);
    c = client_open(&engine, "test");
    ask(c, &s);
    wait_waiting(c, &s);
    assert_int_equal(kill(engine.pid, SIGTERM), 0);
    wait_ended(c, &s);
    assert_int_equal(s.error, AXION_ERR_ENGINE_DRAINING);
    assert_int_equal(s.n_tokens, 0);
    assert_int_equal(engine_wait(&engine), 0);
    axion_client_close(c);
    drain_timeout_ms = 0;

    start(2, NULL); /* a second one cuts it off */
    c = client_open(&engine, "test");
    ask(c, &s);
    wait_waiting(c, &s);
    assert_int_equal(kill(engine.pid, SIGTERM), 0);
    engine_wait_log(&engine, "draining: 1 requests");
    assert_int_equal(kill(engine.pid, SIGTERM), 0);
    assert_int_equal(engine_wait(&engine), 0);
    axion_client_close(c);
}


static void
a_kill_in_the_middle_leaves_nothing(void **state)
{
    static struct stream s;
    (void)state;
    start(2, NULL);
    struct axion_client *c = client_open(&engine, "test");
    ask(c, &s);
    wait_waiting(c, &s);
    assert_int_equal(kill(engine.pid, SIGKILL), 0);
    assert_int_equal(engine_wait(&engine), 128 + SIGKILL);
    axion_client_close(c);
}


static void
a_nan_ends_it_by_name_and_no_token_is_out(void **state)
{
    static struct stream s;
    (void)state;
    start(3, "blk.3.ffn_up.weight");
    struct axion_client *c = client_open(&engine, "test");
    ask(c, &s);
    wait_waiting(c, &s);
    allow_all();
    wait_ended(c, &s);
    assert_int_equal(s.error, AXION_ERR_ENGINE_UNAVAILABLE);
    assert_int_equal(s.n_tokens, 0);
    engine_wait_log(&engine, "tensor blk.3.ffn_up.weight: row 0 has a weight "
                             "that is NaN");
    assert_int_equal(engine_wait(&engine), 1);
    axion_client_close(c);
}


/* And the manager never hears that it is ready. */
static void
a_nan_ends_it_without_requests(void **state)
{
    char path[64];
    (void)state;
    int manager = open_manager(path);
    notify = path;
    start(0, "blk.0.attn_v.weight");
    allow_all();
    engine_wait_log(&engine, "cannot load the model: ");
    assert_int_equal(engine_wait(&engine), 1);
    assert_false(told_ready(manager, false));
    close(manager);
    unlink(path);
    notify = NULL;
}


/* As on a machine where one step takes all the time that there is for it. */
static void
timing_without_time_knows_what_one_token_costs(void **state)
{
    static const struct tiny_options model = {.format = TINY_Q8_0};
    char path[64];
    const struct ax_engine_options options = {.path = path,
                                              .alias = "tiny",
                                              .threads = 1,
                                              .kv_bytes = 1u << 20,
                                              .batch_tokens = 64,
                                              .sequences = 4,
                                              .calibrate_us = 1};
    struct ax_engine *e;
    struct ax_error err;
    (void)state;
    snprintf(path, sizeof(path), "/tmp/axion-timing-%d.gguf", (int)getpid());
    assert_int_equal(tiny_model_write(options.path, &model), 0);
    assert_int_equal(ax_engine_open(&e, &options, &err), AXION_OK);
    assert_true(ax_cost_of(&e->cost, 1) > 0);
    ax_engine_close(e);
    unlink(options.path);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_come_when_their_layers_are_there),
        cmocka_unit_test(steps_are_timed_when_there_is_room),
        cmocka_unit_test(a_first_request_puts_timing_off),
        cmocka_unit_test(who_waits_can_be_cancelled),
        cmocka_unit_test(signals_are_heard),
        cmocka_unit_test(a_kill_in_the_middle_leaves_nothing),
        cmocka_unit_test(a_nan_ends_it_by_name_and_no_token_is_out),
        cmocka_unit_test(a_nan_ends_it_without_requests),
        cmocka_unit_test(timing_without_time_knows_what_one_token_costs),
    };
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
