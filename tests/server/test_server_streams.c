/*
 * Shows that answers over the ring are whole and the same in all company:
 * alone, among 64 streams, paused, held back by a slow reader, preempted; and
 * that usage, stop strings, seeds and leases are exact.  Every test runs with
 * io_uring and with epoll.
 */
#include <string.h>
#include "tests/server/harness.h"

static struct engine engine;
static struct axion_client *client;
static const char *event_loop;


static void
start(const char *const *more)
{
    const char *args[24] = {"--event-loop", event_loop, "--max-batch", "32"};
    size_t n = 4;
    while (more != NULL && *more != NULL) {
        args[n++] = *more++;
    }
    engine_start(&engine, "q4_0", args);
    client = client_open(&engine, "test_server_streams");
}


static void
stop(void)
{
    struct axion_board board;
    read_board(client, &board);
    assert_int_equal(board.running, 0);
    assert_int_equal(board.waiting, 0);
    assert_int_equal(board.parked, 0);
    assert_int_equal(board.kv_blocks_used, 0);
    assert_int_equal(board.channels_lost_protocol, 0);
    axion_client_close(client);
    client = NULL;
    engine_stop(&engine);
}


static void
test_usage_and_limits(void **state)
{
    static struct stream s, again;
    struct request_options o;
    (void)state;
    start(NULL);
    request_init(&o, "The quick brown fox", 20);
    run_alone(client, &o, &s);
    assert_int_equal(s.done.reason, AXION_FINISH_LENGTH);
    assert_int_equal(s.n_tokens, 20);
    assert_true(s.acceptance.prompt_tokens > 3);
    assert_int_equal(s.done.prompt_tokens, s.acceptance.prompt_tokens);
    assert_int_equal(s.acceptance.context_tokens, 1024);
    assert_true(s.text_bytes > 0);
    run_alone(client, &o, &again);
    expect_same(&s, &again);

    o.head.max_tokens = 0; /* to the context's end */
    run_alone(client, &o, &s);
    assert_int_equal(s.done.reason, AXION_FINISH_LENGTH);
    assert_int_equal(s.n_tokens + s.done.prompt_tokens, 1024);

    struct axion_board board;
    read_board(client, &board);
    assert_int_equal(board.state, AXION_ENGINE_READY);
    assert_int_equal(board.requests_total, 3);
    assert_int_equal(board.requests_done, 3);
    assert_int_equal(board.completion_tokens_total, 40 + s.n_tokens);
    assert_int_equal(board.prompt_tokens_total, 3 * s.done.prompt_tokens);
    assert_string_equal(board.models[0].id, "tiny");
    stop();
}


#define MANY 64

static void
vary(struct request_options *o, uint32_t i)
{
    static const char *const prompts[] = {
        "One", "The quick brown fox jumps over the lazy dog",
        "def main():\n    return 0\n", "\xc3\xa9t\xc3\xa9 \xe2\x82\xac 12",
        "A much longer prompt that needs more than a single chunk of 32 "
        "tokens, because the tiny vocabulary has hardly any merges and so "
        "every byte is nearly a token of its own; it goes on and on."};
    request_init(o, prompts[i % 5], 8 + i % 23);
    o->head.seed = i;
    o->head.temperature = i % 3 == 0 ? 0 : 0.9f;
    o->head.top_k = i % 4 == 1 ? 20 : 0;
    o->head.top_p = i % 4 == 2 ? 0.8f : 1;
    o->head.repetition_penalty = i % 7 == 3 ? 1.2f : 1;
}


static void
test_64_streams_equal_each_alone(void **state)
{
    static struct stream alone[MANY], together[MANY];
    (void)state;
    start((const char *[]){"--threads", "2", NULL});
    for (uint32_t i = 0; i < MANY; i++) {
        struct request_options o;
        vary(&o, i);
        run_alone(client, &o, &alone[i]);
    }
    for (uint32_t i = 0; i < MANY; i++) {
        struct request_options o;
        vary(&o, i);
        submit(client, &o, &together[i]);
    }
    for (uint32_t i = 0; i < MANY; i++) {
        wait_ended(client, &together[i]);
        expect_same(&alone[i], &together[i]);
    }
    stop();
}


static void
run_many(const char *const *args, struct stream *streams, uint32_t n)
{
    start(args);
    for (uint32_t i = 0; i < n; i++) {
        struct request_options o;
        vary(&o, i);
        submit(client, &o, &streams[i]);
    }
    for (uint32_t i = 0; i < n; i++) {
        wait_ended(client, &streams[i]);
    }
    stop();
}


static void
test_threads_and_chunks_change_nothing(void **state)
{
    enum { N = 16 };
    static struct stream plain[N], other[N];
    (void)state;
    run_many((const char *[]){"--threads", "1", "--max-batch", "512", NULL},
             plain, N);
    run_many((const char *[]){"--threads", "2", "--max-batch", "16", NULL},
             other, N);
    for (uint32_t i = 0; i < N; i++) {
        expect_same(&plain[i], &other[i]);
    }
    run_many((const char *[]){"--max-sequences", "3", "--max-batch", "7",
                              "--kv-memory", "1m", NULL},
             other, N);
    for (uint32_t i = 0; i < N; i++) {
        expect_same(&plain[i], &other[i]);
    }
}


static void
test_preempted_streams_equal_each_alone(void **state)
{
    enum { N = 8 };
    static struct stream alone[N], together[N];
    struct axion_board board;
    (void)state;
    start((const char *[]){"--kv-memory", "1m", NULL});
    for (uint32_t i = 0; i < N; i++) {
        struct request_options o;
        vary(&o, i);
        o.head.max_tokens = 500;
        run_alone(client, &o, &alone[i]);
    }
    for (uint32_t i = 0; i < N; i++) {
        struct request_options o;
        vary(&o, i);
        o.head.max_tokens = 500;
        submit_short(client, &o, &alone[i], &together[i]);
    }
    for (uint32_t i = 0; i < N; i++) {
        go_on(client, &alone[i], &together[i]);
    }
    read_board(client, &board);
    assert_true(board.preemptions_total > 0);
    stop();
}


static void
test_paused_stream_goes_on_unchanged(void **state)
{
    static struct stream alone, paused, other;
    struct request_options o;
    struct axion_board board;
    (void)state;
    engine_start_slow(&engine, (const char *[]){"--event-loop", event_loop,
                                                "--threads", "2", NULL});
    client = client_open(&engine, "test_server_streams");
    request_init(&o, "Once upon a time", 200);
    run_alone(client, &o, &alone);
    submit(client, &o, &paused);
    wait_tokens(client, &paused, 5);
    axion_client_pause(client, paused.id);
    request_init(&o, "Another", 30); /* proves that steps go on meanwhile */
    run_alone(client, &o, &other);
    pump(client);
    uint32_t seen = paused.n_tokens;
    run_alone(client, &o, &other);
    assert_int_equal(paused.n_tokens, seen);
    assert_false(paused.ended);
    read_board(client, &board);
    assert_int_equal(board.parked, 1);
    axion_client_resume(client, paused.id);
    wait_ended(client, &paused);
    expect_same(&alone, &paused);
    stop();
}


static void
test_slow_reader_holds_only_itself(void **state)
{
    static struct stream alone, slow, other;
    struct request_options o, small;
    (void)state;
    start(NULL);
    request_init(&o, "Tell me", 1000);
    run_alone(client, &o, &alone);
    struct axion_client *lazy = client_open(&engine, "lazy");
    submit(lazy, &o, &slow);
    request_init(&small, "Hello", 600);
    for (int i = 0; i < 4; i++) { /* the lazy one reads nothing meanwhile */
        run_alone(client, &small, &other);
    }
    wait_ended(lazy, &slow);
    expect_same(&alone, &slow);
    axion_client_close(lazy);
    stop();
}


/* The first two ASCII bytes in a row from byte 8 on. */
static void
pick_stop(const struct stream *s, char stop_text[3])
{
    for (uint32_t i = 8; i + 1 < s->text_bytes; i++) {
        if (s->text[i] > 0 && s->text[i + 1] > 0) {
            memcpy(stop_text, s->text + i, 2);
            stop_text[2] = '\0';
            return;
        }
    }
    fail_msg("no ASCII in the answer");
}


static void
test_stop_string_ends_before_it(void **state)
{
    static struct stream whole, cut;
    struct request_options o;
    char stop_text[3];
    (void)state;
    start(NULL);
    request_init(&o, "Stop here", 60);
    run_alone(client, &o, &whole);
    pick_stop(&whole, stop_text);
    const char *at = memmem(whole.text, whole.text_bytes, stop_text, 2);
    assert_non_null(at);
    o.stop = stop_text;
    run_alone(client, &o, &cut);
    assert_int_equal(cut.done.reason, AXION_FINISH_STOP);
    assert_int_equal(cut.text_bytes, at - whole.text);
    assert_memory_equal(cut.text, whole.text, cut.text_bytes);
    stop();
}


static void
test_seeds(void **state)
{
    static struct stream a, b, c;
    struct request_options o;
    (void)state;
    start(NULL);
    request_init(&o, "Random", 50);
    o.head.temperature = 1;
    o.head.seed = 5;
    run_alone(client, &o, &a);
    run_alone(client, &o, &b);
    expect_same(&a, &b);
    o.head.seed = 6;
    run_alone(client, &o, &c);
    assert_memory_not_equal(a.tokens, c.tokens, sizeof(uint32_t) * 50);
    o.head.flags &= ~(uint32_t)AXION_REQUEST_SEED; /* drawn by the engine */
    run_alone(client, &o, &a);
    run_alone(client, &o, &b);
    assert_memory_not_equal(a.tokens, b.tokens, sizeof(uint32_t) * 50);
    stop();
}


static void
test_lease_is_asked_for_topped_up_and_ended(void **state)
{
    static struct stream s, whole;
    struct request_options o;
    (void)state;
    start(NULL);
    request_init(&o, "Lease", 200);
    run_alone(client, &o, &whole);
    uint32_t prompt = whole.done.prompt_tokens;
    o.lease = prompt + 50;
    submit(client, &o, &s);
    while (s.lease_lows == 0) {
        wait_some(client);
    }
    assert_int_equal(s.lease_low.spent_tokens + s.lease_low.left_tokens,
                     o.lease);
    assert_true(s.lease_low.wanted_tokens > 0);
    axion_client_topup(client, s.id, 40);
    while (s.lease_lows < 2) {
        wait_some(client);
    }
    wait_tokens(client, &s, 90); /* parked at the last token */
    axion_client_topup(client, s.id, 0);
    wait_ended(client, &s);
    assert_int_equal(s.done.reason, AXION_FINISH_LEASE);
    assert_int_equal(s.n_tokens, 90);
    assert_memory_equal(s.tokens, whole.tokens, 90 * sizeof(uint32_t));

    o.lease = prompt;
    submit(client, &o, &s);
    wait_ended(client, &s);
    assert_int_equal(s.error, AXION_ERR_LEASE_TOO_SMALL);
    stop();
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_usage_and_limits),
        cmocka_unit_test(test_64_streams_equal_each_alone),
        cmocka_unit_test(test_threads_and_chunks_change_nothing),
        cmocka_unit_test(test_preempted_streams_equal_each_alone),
        cmocka_unit_test(test_paused_stream_goes_on_unchanged),
        cmocka_unit_test(test_slow_reader_holds_only_itself),
        cmocka_unit_test(test_stop_string_ends_before_it),
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_lease_is_asked_for_topped_up_and_ended),
    };
    event_loop = "auto";
    int failed =
        cmocka_run_group_tests_name("io_uring if there", tests, NULL, NULL);
    event_loop = "epoll";
    return failed + cmocka_run_group_tests_name("epoll", tests, NULL, NULL);
}
