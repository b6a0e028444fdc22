/*
 * Shows that the echo engine does what its README says, over a real channel:
 * texts, counts, faults, cancel, pause, lease, death.  Each test starts its
 * own engine and waits for events with poll(); nothing sleeps.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "shm/client.h"
#include "shm/errors.h"
#include "shm/request.h"

struct echo_test {
    pid_t pid;
    char folder[64];
    char path[96];
    struct axion_client *client;
};

struct answer {
    char text[65536];
    size_t bytes;
    uint32_t n_tokens;
    uint32_t n_events;
    int accepted;
    int lease_low;
    int ended; /* the last op, or the error of a lost channel */
    struct axion_cq_accepted accept;
    struct axion_cq_done done;
    int error;
    uint32_t retry_after_ms;
};


static const char *
build_folder(void)
{
    const char *build = getenv("AXION_BUILD");

    return build != NULL ? build : "build";
}


/* The engine's stderr is read until the line that says it listens. */
static void
wait_for_line(int fd, const char *wanted)
{
    char line[4096];
    size_t n = 0;

    while (n < sizeof(line) - 1 && read(fd, line + n, 1) == 1) {
        line[++n] = '\0';
        if (line[n - 1] != '\n')
            continue;
        if (strstr(line, wanted) != NULL)
            return;
        n = 0;
    }
    fail_msg("the echo engine never said: %s", wanted);
}


static void
engine_start(struct echo_test *t, const char *option, const char *value)
{
    char program[4096], spec[128];
    int fds[2];

    strcpy(t->folder, "/tmp/axion-echo-XXXXXX");
    assert_non_null(mkdtemp(t->folder));
    snprintf(t->path, sizeof(t->path), "%s/sock", t->folder);
    snprintf(spec, sizeof(spec), "unix:%s", t->path);
    snprintf(program, sizeof(program), "%s/axion-echo", build_folder());
    assert_int_equal(pipe(fds), 0);
    t->pid = fork();
    assert_true(t->pid >= 0);
    if (t->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed test leaves nothing */
        dup2(fds[1], 2);
        close(fds[0]);
        execl(program, program, "--listen", spec, option, value, NULL);
        _exit(127);
    }
    close(fds[1]);
    wait_for_line(fds[0], "listening");
    /* Kept open: the engine's next line must not end it by SIGPIPE. */
}


static int
client_wait(struct axion_client *client)
{
    struct pollfd p = {axion_client_fd(client), POLLIN, 0};

    while (poll(&p, 1, -1) < 0)
        assert_int_equal(errno, EINTR);
    return axion_client_service(client);
}


static void
start(struct echo_test *t, const char *option, const char *value)
{
    struct axion_client_options options = {.name = "test", .streams = 16};
    int error;

    engine_start(t, option, value);
    options.path = t->path;
    assert_int_equal(axion_client_open(&t->client, &options), AXION_OK);
    while ((error = client_wait(t->client)) == AXION_AGAIN)
        ;
    assert_int_equal(error, AXION_OK);
}


static int
stop(struct echo_test *t, int signal)
{
    int status;

    axion_client_close(t->client);
    if (signal != 0)
        kill(t->pid, signal);
    assert_int_equal(waitpid(t->pid, &status, 0), t->pid);
    unlink(t->path);
    rmdir(t->folder);
    return status;
}


static void *
heap_grow(void *context, void *data, size_t old, size_t bytes)
{
    (void) context;
    (void) old;
    return realloc(data, bytes);
}


static axion_stream_id
ask_with_regex(struct echo_test *t, const char *text, const char *regex,
               uint32_t max_tokens, uint64_t lease, const char *model,
               struct answer *a)
{
    struct axion_request_writer w = {.bytes_max = 1u << 20,
                                     .grow = heap_grow};
    struct axion_request_head head = {
        .kind = AXION_REQUEST_CHAT,
        .flags = AXION_REQUEST_STREAM,
        .temperature = 1,
        .top_p = 1,
        .repetition_penalty = 1,
        .max_tokens = max_tokens,
    };
    axion_stream_id id;

    memset(a, 0, sizeof(*a));
    assert_int_equal(axion_request_begin(&w, &head), AXION_OK);
    axion_request_add(&w, AXION_SECTION_MODEL, model, strlen(model));
    axion_request_add(&w, AXION_SECTION_ROLE, "user", 4);
    axion_request_add(&w, AXION_SECTION_TEXT, text, strlen(text));
    if (regex != NULL)
        axion_request_add_grammar(&w, AXION_GRAMMAR_REGEX, regex,
                                  strlen(regex));
    assert_int_equal(axion_request_end(&w), AXION_OK);
    assert_int_equal(axion_client_submit(t->client, w.data, w.bytes, lease,
                                         a, &id),
                     AXION_OK);
    free(w.data);
    return id;
}


static axion_stream_id
ask(struct echo_test *t, const char *text, uint32_t max_tokens,
    uint64_t lease, const char *model, struct answer *a)
{
    return ask_with_regex(t, text, NULL, max_tokens, lease, model, a);
}


static void
take_event(const struct axion_event *e)
{
    struct answer *a = e->user;

    assert_non_null(a);
    a->n_events++;
    switch (e->op) {
    case AXION_CQ_ACCEPTED:
        a->accepted = 1;
        a->accept = e->accepted;
        return;
    case AXION_CQ_TOKENS:
        assert_int_equal(e->tokens.position, a->n_tokens);
        assert_true(a->bytes + e->tokens.text_bytes <= sizeof(a->text));
        memcpy(a->text + a->bytes, e->tokens.text, e->tokens.text_bytes);
        a->bytes += e->tokens.text_bytes;
        a->n_tokens += e->tokens.n_tokens;
        return;
    case AXION_CQ_LEASE_LOW:
        a->lease_low = 1;
        return;
    case AXION_CQ_DONE:
        a->done = e->done;
        a->ended = AXION_CQ_DONE;
        return;
    case AXION_CQ_ERROR:
        a->error = e->error.error;
        a->retry_after_ms = e->error.retry_after_ms;
        a->ended = AXION_CQ_ERROR;
        return;
    default:
        return;
    }
}


static void
drain(struct echo_test *t)
{
    struct axion_event event;

    do {
        while (axion_client_peek(t->client, &event) == AXION_OK) {
            take_event(&event);
            axion_client_advance(t->client);
        }
    } while (axion_client_arm(t->client) == 1);
}


/* Waits until *flag is set or the engine is lost. */
static void
wait_until(struct echo_test *t, struct answer *a, const int *flag)
{
    for (;;) {
        int error;

        drain(t);
        if (*flag || a->ended)
            return;
        error = client_wait(t->client);
        if (error != AXION_OK) {
            drain(t);
            a->ended = a->ended ? a->ended : -error;
            return;
        }
    }
}


static void
wait_for_end(struct echo_test *t, struct answer *a)
{
    wait_until(t, a, &a->ended);
}


static void
test_grammar_is_shown_or_refused(void **state)
{
    struct echo_test t;
    struct answer a;

    (void) state;
    start(&t, "--model", "m");
    ask_with_regex(&t, "!grammar", "[a-z]+x", 0, AXION_LEASE_UNLIMITED, "m",
                   &a);
    wait_for_end(&t, &a);
    assert_int_equal(a.ended, AXION_CQ_DONE);
    assert_int_equal(a.bytes, strlen("regex:[a-z]+x"));
    assert_memory_equal(a.text, "regex:[a-z]+x", a.bytes);
    ask_with_regex(&t, "hello", "[a-z]+x", 0, AXION_LEASE_UNLIMITED, "m", &a);
    wait_for_end(&t, &a);
    assert_int_equal(a.error, AXION_ERR_UNSUPPORTED_FIELD);
    ask(&t, "!grammar", 0, AXION_LEASE_UNLIMITED, "m", &a);
    wait_for_end(&t, &a);
    assert_memory_equal(a.text, "none:", 5);
    stop(&t, SIGTERM);
}


static void
test_text_and_counts(void **state)
{
    static struct answer a;
    struct echo_test t;

    (void) state;
    start(&t, "--model", "m");
    ask(&t, "hello w\xc3\xb6rld", 0, AXION_LEASE_UNLIMITED, "m", &a);
    wait_for_end(&t, &a);
    assert_true(a.accepted);
    assert_int_equal(a.accept.prompt_tokens, 4);
    assert_int_equal(a.bytes, 12);
    assert_memory_equal(a.text, "hello w\xc3\xb6rld", 12);
    assert_int_equal(a.done.reason, AXION_FINISH_STOP);
    assert_int_equal(a.done.completion_tokens, a.n_tokens);
    assert_int_equal(a.n_tokens, 4);
    assert_int_equal(WEXITSTATUS(stop(&t, SIGTERM)), 0);
}


static void
test_limits(void **state)
{
    static struct answer a;
    struct echo_test t;

    (void) state;
    start(&t, "--context", "1000");
    ask(&t, "abcd !tokens=10", 3, AXION_LEASE_UNLIMITED, "echo", &a);
    wait_for_end(&t, &a);
    assert_int_equal(a.n_tokens, 3);
    assert_int_equal(a.done.reason, AXION_FINISH_LENGTH);
    ask(&t, "!tokens=5000 abcd", 0, AXION_LEASE_UNLIMITED, "echo", &a);
    wait_for_end(&t, &a);
    assert_int_equal(a.n_tokens + a.accept.prompt_tokens, 1000);
    assert_int_equal(a.done.reason, AXION_FINISH_LENGTH);
    ask(&t, "!tokens=12 !bytes=4096 abcd", 0, AXION_LEASE_UNLIMITED, "echo",
        &a);
    wait_for_end(&t, &a);
    assert_int_equal(a.bytes, 12 * 4096);
    stop(&t, SIGTERM);
}


static void
test_refusals(void **state)
{
    static struct answer a;
    struct echo_test t;

    (void) state;
    start(&t, "--context", "8");
    ask(&t, "x", 0, AXION_LEASE_UNLIMITED, "other", &a);
    wait_for_end(&t, &a);
    assert_int_equal(a.error, AXION_ERR_MODEL_NOT_FOUND);
    ask(&t, "a text that is longer than the context", 0,
        AXION_LEASE_UNLIMITED, "echo", &a);
    wait_for_end(&t, &a);
    assert_int_equal(a.error, AXION_ERR_CONTEXT_LENGTH);
    ask(&t, "!error=503 x", 0, AXION_LEASE_UNLIMITED, "echo", &a);
    wait_for_end(&t, &a);
    assert_int_equal(a.error, AXION_ERR_QUEUE_FULL);
    assert_false(a.accepted);
    ask(&t, "!error_after=2 !tokens=9", 0, 100, "echo", &a);
    wait_for_end(&t, &a);
    assert_int_equal(a.error, AXION_ERR_INTERNAL);
    assert_int_equal(a.n_tokens, 2);
    stop(&t, SIGTERM);
}


static void
test_cancel_of_a_stalled_stream(void **state)
{
    static struct answer a;
    struct echo_test t;
    axion_stream_id id;

    (void) state;
    start(&t, "--model", "echo");
    id = ask(&t, "!stall_after=0 x", 0, AXION_LEASE_UNLIMITED, "echo", &a);
    wait_until(&t, &a, &a.accepted);
    assert_int_equal(a.ended, 0);
    axion_client_cancel(t.client, id);
    wait_for_end(&t, &a);
    assert_int_equal(a.done.reason, AXION_FINISH_CANCELLED);
    assert_int_equal(axion_client_streams(t.client), 0);
    stop(&t, SIGTERM);
}


/* Paused, the stream gives nothing while another one runs to its end. */
static void
test_pause_and_resume(void **state)
{
    static struct answer a, b;
    struct echo_test t;
    axion_stream_id id;
    uint32_t n_paused;

    (void) state;
    start(&t, "--model", "echo");
    id = ask(&t, "!tokens=5000 !delay_ms=1 abcd", 0, AXION_LEASE_UNLIMITED,
             "echo", &a);
    wait_until(&t, &a, &a.accepted);
    axion_client_pause(t.client, id);
    ask(&t, "x", 0, AXION_LEASE_UNLIMITED, "echo", &b);
    wait_for_end(&t, &b);
    n_paused = a.n_tokens;
    ask(&t, "!tokens=20 !delay_ms=2 x", 0, AXION_LEASE_UNLIMITED, "echo",
        &b);
    wait_for_end(&t, &b);
    assert_int_equal(a.n_tokens, n_paused);
    axion_client_resume(t.client, id);
    while (a.n_tokens == n_paused) {
        assert_int_equal(client_wait(t.client), AXION_OK);
        drain(&t);
    }
    axion_client_cancel(t.client, id);
    wait_for_end(&t, &a);
    stop(&t, SIGTERM);
}


static void
test_lease(void **state)
{
    static struct answer a;
    struct echo_test t;
    axion_stream_id id;

    (void) state;
    start(&t, "--model", "echo");
    ask(&t, "a prompt of some tokens", 0, 3, "echo", &a);
    wait_for_end(&t, &a);
    assert_int_equal(a.error, AXION_ERR_LEASE_TOO_SMALL);
    id = ask(&t, "!tokens=50 x", 0, 10, "echo", &a); /* 3 of the prompt */
    wait_until(&t, &a, &a.lease_low);
    axion_client_topup(t.client, id, 20);
    a.lease_low = 0;
    wait_until(&t, &a, &a.lease_low);
    axion_client_topup(t.client, id, 0);
    wait_for_end(&t, &a);
    assert_int_equal(a.done.reason, AXION_FINISH_LEASE);
    assert_int_equal(a.done.prompt_tokens + a.n_tokens, 30);
    stop(&t, SIGTERM);
}


static void
test_death_is_end_of_file(void **state)
{
    static struct answer a;
    struct echo_test t;
    int status;

    (void) state;
    start(&t, "--model", "echo");
    ask(&t, "!die_after=5 !tokens=100 !delay_ms=1 x", 0,
        AXION_LEASE_UNLIMITED, "echo", &a);
    wait_for_end(&t, &a);
    assert_int_equal(a.ended, -AXION_ERR_ENGINE_LOST);
    assert_true(a.n_tokens <= 5);
    status = stop(&t, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}


static void
test_board(void **state)
{
    struct axion_board board;
    struct echo_test t;
    int error;

    (void) state;
    start(&t, "--model", "smollm2");
    while ((error = axion_client_board(t.client, &board)) == AXION_AGAIN)
        ;
    assert_int_equal(error, AXION_OK);
    assert_int_equal(board.state, AXION_ENGINE_READY);
    assert_int_equal(board.engine_pid, t.pid);
    assert_string_equal(board.models[0].id, "smollm2");
    stop(&t, SIGTERM);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_and_counts),
        cmocka_unit_test(test_grammar_is_shown_or_refused),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_cancel_of_a_stalled_stream),
        cmocka_unit_test(test_pause_and_resume),
        cmocka_unit_test(test_lease),
        cmocka_unit_test(test_death_is_end_of_file),
        cmocka_unit_test(test_board),
    };

    return cmocka_run_group_tests_name("echo engine", tests, NULL, NULL);
}
