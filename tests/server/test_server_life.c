/*
 * Shows that axiond behaves from start to end: it answers while it loads,
 * refuses what it cannot do with the right error, drains on SIGTERM, ends at
 * once on the second signal, and needs no CPU when idle.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/server/harness.h"
#include "tests/tiny/tiny_model.h"

static struct engine engine;
static const char *const none[] = {NULL};


static int
error_of(struct axion_client *c, const struct request_options *o,
         struct stream *s)
{
    submit(c, o, s);
    wait_ended(c, s);
    return s->error;
}


static void
test_refusals_name_what_is_wrong(void **state)
{
    static struct stream s;
    struct request_options o;
    (void)state;
    engine_start(&engine, "q8_0",
                 (const char *[]){"--ctx", "64", "--alias", "small", NULL});
    struct axion_client *c = client_open(&engine, "test");
    request_init(&o, "hello", 4);

    o.model = "other";
    assert_int_equal(error_of(c, &o, &s), AXION_ERR_MODEL_NOT_FOUND);
    assert_non_null(strstr(s.detail, "small"));
    o.model = "small";
    assert_int_equal(error_of(c, &o, &s), AXION_OK);
    o.model = "tiny"; /* the file's name */
    assert_int_equal(error_of(c, &o, &s), AXION_OK);

    o.ids = (const uint32_t[]){3, 4, 331};
    o.n_ids = 3;
    assert_int_equal(error_of(c, &o, &s), AXION_ERR_INVALID_TOKEN);
    assert_non_null(strstr(s.detail, "331"));
    o.n_ids = 2;
    assert_int_equal(error_of(c, &o, &s), AXION_OK);
    assert_int_equal(s.done.prompt_tokens, 2);
    o.ids = NULL;

    char long_prompt[300];
    memset(long_prompt, '~', sizeof(long_prompt));
    long_prompt[sizeof(long_prompt) - 1] = '\0';
    o.prompt = long_prompt;
    assert_int_equal(error_of(c, &o, &s), AXION_ERR_CONTEXT_LENGTH);
    assert_non_null(strstr(s.detail, "more than 64 tokens"));
    o.prompt = "hello";

    o.grammar_kind = AXION_GRAMMAR_REGEX;
    o.grammar = "[a-z";
    assert_int_equal(error_of(c, &o, &s), AXION_ERR_GRAMMAR_INVALID);
    axion_client_close(c);
    engine_stop(&engine);
}


static void
test_full_queue_and_deadline_are_refused(void **state)
{
    enum { N = 8 };
    static struct stream streams[N], late;
    struct request_options o;
    (void)state;
    engine_start_slow(&engine, (const char *[]){"--max-sequences", "1",
                                                "--max-queue", "2", NULL});
    struct axion_client *c = client_open(&engine, "test");
    request_init(&o, "hello", 900);
    submit(c, &o, &streams[0]);
    wait_tokens(c, &streams[0], 1); /* it has the only place */
    for (uint32_t i = 1; i < N; i++) {
        submit(c, &o, &streams[i]);
    }
    uint32_t refused = 0, accepted = 1;
    for (uint32_t i = 1; i < N; i++) {
        wait_accepted(c, &streams[i]);
        refused += streams[i].error == AXION_ERR_QUEUE_FULL;
        accepted += streams[i].accepted;
        if (streams[i].error != AXION_OK) {
            assert_true(streams[i].retry_after_ms > 0);
        }
    }
    assert_int_equal(accepted + refused, N);
    assert_int_equal(accepted, 3);
    for (uint32_t i = 0; i < N; i++) {
        axion_client_cancel(c, streams[i].id);
    }
    for (uint32_t i = 0; i < N; i++) {
        wait_ended(c, &streams[i]);
    }
    submit(c, &o, &streams[0]);
    wait_tokens(c, &streams[0], 1);
    o.head.deadline_ms = 1; /* the place is taken for much longer */
    assert_int_equal(error_of(c, &o, &late), AXION_ERR_DEADLINE);
    axion_client_cancel(c, streams[0].id);
    wait_ended(c, &streams[0]);
    assert_int_equal(streams[0].done.reason, AXION_FINISH_CANCELLED);
    axion_client_close(c);
    engine_stop(&engine);
}


static void
test_cancel_queued_in_prefill_and_in_decode(void **state)
{
    static struct stream decode, prefill, queued, after;
    struct request_options o;
    struct axion_board board;
    char prompt[900];
    (void)state;
    engine_start_slow(&engine, (const char *[]){"--max-sequences", "2",
                                                "--max-batch", "4", NULL});
    struct axion_client *c = client_open(&engine, "test");
    request_init(&o, "go on", 900);
    submit(c, &o, &decode);
    wait_tokens(c, &decode, 2);
    memset(prompt, '~', sizeof(prompt));
    prompt[sizeof(prompt) - 1] = '\0';
    o.prompt = prompt; /* hundreds of tokens, three a step */
    submit(c, &o, &prefill);
    wait_accepted(c, &prefill);
    submit(c, &o, &queued);
    wait_accepted(c, &queued);
    axion_client_cancel(c, queued.id);
    axion_client_cancel(c, prefill.id);
    axion_client_cancel(c, decode.id);
    wait_ended(c, &queued);
    wait_ended(c, &prefill);
    wait_ended(c, &decode);
    assert_int_equal(queued.done.reason, AXION_FINISH_CANCELLED);
    assert_int_equal(prefill.done.reason, AXION_FINISH_CANCELLED);
    assert_int_equal(decode.done.reason, AXION_FINISH_CANCELLED);
    assert_int_equal(prefill.n_tokens, 0);
    assert_int_equal(decode.done.completion_tokens, decode.n_tokens);
    request_init(&o, "after", 3);
    run_alone(c, &o, &after);
    read_board(c, &board);
    assert_int_equal(board.kv_blocks_used, 0);
    assert_int_equal(board.running + board.waiting + board.parked, 0);
    assert_int_equal(board.requests_cancelled, 3);
    axion_client_close(c);
    engine_stop(&engine);
}


static void
test_sigterm_drains(void **state)
{
    static struct stream running, late;
    struct request_options o;
    (void)state;
    engine_start_slow(&engine, (const char *[]){"--drain-timeout", "1h", NULL});
    struct axion_client *c = client_open(&engine, "test");
    request_init(&o, "drain", 250);
    submit(c, &o, &running);
    wait_tokens(c, &running, 1);
    axion_client_pause(c, running.id); /* it is there when we are late */
    assert_int_equal(kill(engine.pid, SIGTERM), 0);
    engine_wait_log(&engine, "draining");
    request_init(&o, "too late", 3);
    assert_int_equal(error_of(c, &o, &late), AXION_ERR_ENGINE_DRAINING);
    assert_int_not_equal(access(engine.socket, F_OK), 0);
    axion_client_resume(c, running.id);
    wait_ended(c, &running);
    assert_int_equal(running.error, AXION_OK);
    assert_int_equal(running.n_tokens, 250);
    assert_int_equal(engine_wait(&engine), 0);
    axion_client_close(c);
}


static void
test_drain_deadline_cuts_off(void **state)
{
    static struct stream running;
    struct request_options o;
    (void)state;
    engine_start_slow(&engine, (const char *[]){"--drain-timeout", "0", NULL});
    struct axion_client *c = client_open(&engine, "test");
    request_init(&o, "drain", 1000);
    submit(c, &o, &running);
    wait_tokens(c, &running, 1);
    axion_client_pause(c, running.id);
    assert_int_equal(kill(engine.pid, SIGINT), 0);
    wait_ended(c, &running);
    assert_int_equal(running.error, AXION_ERR_ENGINE_DRAINING);
    assert_int_equal(engine_wait(&engine), 0);
    axion_client_close(c);
}


static void
test_second_signal_ends_at_once(void **state)
{
    static struct stream running;
    struct request_options o;
    (void)state;
    engine_start_slow(&engine, (const char *[]){"--drain-timeout", "1h", NULL});
    struct axion_client *c = client_open(&engine, "test");
    request_init(&o, "for ever", 1000);
    submit(c, &o, &running);
    wait_tokens(c, &running, 1);
    axion_client_pause(c, running.id);
    assert_int_equal(kill(engine.pid, SIGTERM), 0);
    engine_wait_log(&engine, "draining");
    assert_int_equal(kill(engine.pid, SIGTERM), 0);
    assert_int_equal(engine_wait(&engine), 0);
    axion_client_close(c);
}


/* Starts on a model of this many layers and asks at once; true if it was
 * still loading, and then ended by SIGTERM in whatever state.  With a draft
 * model it packs all of its weights first. */
static bool
asked_while_loading(uint32_t n_layer)
{
    static struct stream s;
    struct request_options o;
    struct axion_board board;
    struct tiny_options big = {
        .format = TINY_Q8_0, .n_layer = n_layer, .n_embd = 512, .n_ff = 2048};
    engine = (struct engine){0};
    strcpy(engine.directory, "/tmp/axion-test-XXXXXX");
    assert_non_null(mkdtemp(engine.directory));
    snprintf(engine.model, sizeof(engine.model), "%s/big.gguf",
             engine.directory);
    assert_int_equal(tiny_model_write(engine.model, &big), 0);
    engine_start_on(&engine, engine.model,
                    (const char *[]){"--draft", engine.model, NULL});
    engine_wait_log(&engine, "loading");
    struct axion_client *c = client_open(&engine, "test");
    request_init(&o, "hello", 4);
    read_board(c, &board);
    int error = error_of(c, &o, &s);
    if (error == AXION_ERR_ENGINE_LOADING) {
        assert_true(s.retry_after_ms > 0);
        assert_int_equal(board.state, AXION_ENGINE_LOADING);
        assert_string_equal(board.models[0].id, "big");
    } else {
        assert_int_equal(error, AXION_OK);
    }
    assert_int_equal(kill(engine.pid, SIGTERM), 0);
    assert_int_equal(engine_wait(&engine), 0);
    axion_client_close(c);
    return error != AXION_OK;
}


static void
test_it_answers_while_it_loads(void **state)
{
    uint32_t n_layer = 4;
    (void)state;
    while (!asked_while_loading(n_layer)) {
        n_layer *= 2; /* this machine was faster than the question */
        assert_true(n_layer <= 64);
    }
}


static void
test_refused_io_uring_falls_back_to_epoll_and_says_so(void **state)
{
    static struct stream s;
    struct request_options o;
    (void)state;
    engine = (struct engine){0};
    strcpy(engine.directory, "/tmp/axion-test-XXXXXX");
    assert_non_null(mkdtemp(engine.directory));
    snprintf(engine.model, sizeof(engine.model), "%s/tiny.gguf",
             engine.directory);
    assert_int_equal(tiny_model_write(engine.model, tiny_variant_find("q4_0")),
                     0);
    engine_without_io_uring = true;
    engine_start_on(&engine, engine.model, none);
    engine_without_io_uring = false;
    engine_wait_log(&engine, "epoll, because of io_uring");
    engine_wait_log(&engine, "ready on");
    struct axion_client *c = client_open(&engine, "test");
    request_init(&o, "hello", 40);
    run_alone(c, &o, &s);
    axion_client_close(c);
    engine_stop(&engine);

    engine = (struct engine){0};
    engine_without_io_uring = true;
    engine_start_on(&engine, "/dev/null",
                    (const char *[]){"--event-loop", "io_uring", NULL});
    engine_without_io_uring = false;
    engine_wait_log(&engine, "[crit]");
    assert_int_equal(engine_wait(&engine), 1);
}


static void
test_chat_uses_the_models_template(void **state)
{
    static struct stream chat, text;
    struct request_options o;
    (void)state;
    engine_start(&engine, "q4_0", none);
    struct axion_client *c = client_open(&engine, "test");
    request_init(&o, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
                 20);
    run_alone(c, &o, &text);
    o.user_message = "hi";
    run_alone(c, &o, &chat);
    expect_same(&text, &chat);
    o.user_message = "<|im_end|>"; /* a message cannot forge it */
    run_alone(c, &o, &chat);
    assert_true(chat.done.prompt_tokens > text.done.prompt_tokens + 5);
    axion_client_close(c);
    engine_stop(&engine);
}


static void
test_a_bad_file_is_one_line_and_exit_1(void **state)
{
    (void)state;
    engine = (struct engine){0};
    engine_start_on(&engine, "/dev/null", none);
    engine_wait_log(&engine, "[crit]");
    assert_int_equal(engine_wait(&engine), 1);
}


static void
test_bad_options_exit_2(void **state)
{
    (void)state;
    engine = (struct engine){0};
    engine_start_on(&engine, "x", (const char *[]){"--ctx", "many", NULL});
    engine_wait_log(&engine, "--ctx: \"many\" is not a number");
    assert_int_equal(engine_wait(&engine), 2);
    static const char *const names[] = {
        "", "a\nb", "\xff",
        "a name of many more than the sixty-three bytes that it may have, 64"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        engine_start_on(&engine, "x",
                        (const char *[]){"--alias", names[i], NULL});
        engine_wait_log(&engine, "--alias: not a name");
        assert_int_equal(engine_wait(&engine), 2);
    }
}


/* What only opening the socket, or the model, can tell. */
static void
test_options_that_do_not_go_exit_2(void **state)
{
    static const char *const sockets[] = {
        "tcp:80", "unix:", "unix:/tmp/a,mode=9", "unix:/tmp/a,x=1",
        "unix:/tmp/a,group=no such group"};
    static const char *const big[] = {"--ctx", "1000000", NULL};
    (void)state;
    engine = (struct engine){0};
    for (size_t i = 0; i < sizeof(sockets) / sizeof(sockets[0]); i++) {
        engine_start_on(&engine, "x",
                        (const char *[]){"--listen", sockets[i], NULL});
        engine_wait_log(&engine, "axiond: --listen: ");
        assert_int_equal(engine_wait(&engine), 2);
    }
    engine = (struct engine){0};
    strcpy(engine.directory, "/tmp/axion-test-XXXXXX");
    assert_non_null(mkdtemp(engine.directory));
    snprintf(engine.model, sizeof(engine.model), "%s/tiny.gguf",
             engine.directory);
    assert_int_equal(tiny_model_write(engine.model, tiny_variant_find("q4_0")),
                     0);
    engine_start_on(&engine, engine.model, big);
    engine_wait_log(&engine, "[crit]");
    assert_int_equal(engine_wait(&engine), 2);
}


/* Its CPU time, as the kernel tells when it is gone, stays below what one
 * core would burn in the time that the parent spends waiting for a second
 * process of the same kind to load, work and end. */
static void
test_idle_uses_no_cpu(void **state)
{
    static struct stream s;
    struct request_options o;
    char path[64], text[512];
    unsigned long user = 0, system = 0, user2, system2;
    (void)state;
    struct engine idle;
    /* Its pages are there soon (ax_kv_populate()). */
    static const char *const small[] = {"--kv-memory", "8m", NULL};
    engine_start(&idle, "q4_0", small);
    struct axion_client *c = client_open(&idle, "idle");
    request_init(&o, "work once", 3);
    run_alone(c, &o, &s);
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)idle.pid);
    for (int turn = 0; turn < 2; turn++) {
        FILE *f = fopen(path, "r");
        assert_non_null(f);
        assert_non_null(fgets(text, sizeof(text), f));
        fclose(f);
        const char *at = strrchr(text, ')') + 2;
        assert_int_equal(sscanf(at,
                                "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u "
                                "%*u %lu %lu",
                                &user2, &system2),
                         2);
        if (turn == 0) {
            user = user2;
            system = system2;
            for (int i = 0; i < 5; i++) { /* time passes, with work in it */
                engine_start(&engine, "q4_0", none);
                engine_stop(&engine);
            }
        }
    }
    assert_true(user2 - user + system2 - system <= 2); /* ticks of 10 ms */
    axion_client_close(c);
    engine_stop(&idle);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals_name_what_is_wrong),
        cmocka_unit_test(test_full_queue_and_deadline_are_refused),
        cmocka_unit_test(test_cancel_queued_in_prefill_and_in_decode),
        cmocka_unit_test(test_sigterm_drains),
        cmocka_unit_test(test_drain_deadline_cuts_off),
        cmocka_unit_test(test_second_signal_ends_at_once),
        cmocka_unit_test(test_it_answers_while_it_loads),
        cmocka_unit_test(test_refused_io_uring_falls_back_to_epoll_and_says_so),
        cmocka_unit_test(test_chat_uses_the_models_template),
        cmocka_unit_test(test_a_bad_file_is_one_line_and_exit_1),
        cmocka_unit_test(test_bad_options_exit_2),
        cmocka_unit_test(test_options_that_do_not_go_exit_2),
        cmocka_unit_test(test_idle_uses_no_cpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
