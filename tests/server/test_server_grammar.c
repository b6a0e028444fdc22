/*
 * Shows that an answer keeps to its request's grammar: whatever is drawn, the
 * text is one of the grammar's, and ends where it ends; alone and in a crowd
 * in which masks go to the helper the bytes are the same; what cannot be kept
 * to is refused or ended by name; requests that end while a mask is computed
 * for them leave nothing behind.
 */
#include <stdlib.h>
#include <string.h>
#include "tests/server/harness.h"
#include "tests/tiny/tiny_model.h"

#define MANY 48

static struct engine engine;
static struct axion_client *client;
static struct stream streams[MANY], alone[MANY];
static const char *const none[] = {NULL};


static void
start(const char *const *args)
{
    engine_start(&engine, "q4_0", args);
    client = client_open(&engine, "test_server_grammar");
}


static void
stop(void)
{
    stop_idle(&engine, client);
}


static struct request_options
request_of(const char *gbnf, uint32_t seed)
{
    struct request_options o;
    request_init(&o, "Say something", 200);
    o.head.seed = seed;
    o.head.temperature = 1.5f;
    o.grammar_kind = AXION_GRAMMAR_GBNF;
    o.grammar = gbnf;
    return o;
}


/* {"a":[1,22],"b":"x"}, read by hand. */
static bool
is_record(const char *text, uint32_t n)
{
    uint32_t i = 0;
    const char *head = "{\"a\":[";
    if (n < 6 || memcmp(text, head, 6) != 0) {
        return false;
    }
    for (i = 6; i < n && strchr("0123456789,", text[i]) != NULL; i++) {
        if (text[i] == ',' && (text[i - 1] == ',' || text[i - 1] == '[')) {
            return false;
        }
    }
    if (n - i < 8 || text[i - 1] == ',' ||
        memcmp(text + i, "],\"b\":\"", 7) != 0) {
        return false;
    }
    for (i += 7; i < n && text[i] != '"'; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == '\\') {
            return false;
        }
    }
    return n - i == 2 && text[i + 1] == '}';
}


static const char record[] =
    "root ::= \"{\\\"a\\\":[\" (num (\",\" num){0,5})? \"],\\\"b\\\":\\\"\" "
    "[^\"\\\\\\x00-\\x1f]{0,20} \"\\\"}\"\nnum ::= [0-9]{1,4}\n";


static void
texts_are_the_grammars(void **state)
{
    (void)state;
    start(none);
    for (uint32_t i = 0; i < 40; i++) {
        struct request_options o = request_of(record, i);
        if (i % 2 == 0) {
            o.head.flags &= ~(uint32_t)AXION_REQUEST_IGNORE_EOS;
        }
        run_alone(client, &o, &streams[0]);
        if (!is_record(streams[0].text, streams[0].text_bytes)) {
            fail_msg("%.*s", (int)streams[0].text_bytes, streams[0].text);
        }
        assert_int_equal(streams[0].done.reason, AXION_FINISH_STOP);
    }
    stop();
}


/* Masks of 48 different sequences are more than a step's work on thread 0. */
static void
a_crowd_changes_nothing(void **state)
{
    static const char *const ways[][8] = {
        {"--speculate", "off", "--threads", "1", NULL},
        {"--speculate", "suffix", "--threads", "2", NULL},
        {"--speculate", "bigram", "--threads", "2", NULL},
    };
    static const char *const grammars[] = {
        record, "root ::= ([^\\x00-\\x1f]{1,30} \"!\"){9}",
        "root ::= [a-z ]{150,}"};
    (void)state;
    for (int way = 0; way < 3; way++) {
        start(ways[way]);
        for (uint32_t i = 0; way == 0 && i < MANY; i++) {
            struct request_options o = request_of(grammars[i % 3], i);
            o.head.max_tokens = 60;
            run_alone(client, &o, &alone[i]);
        }
        for (uint32_t i = 0; i < MANY; i++) {
            struct request_options o = request_of(grammars[i % 3], i);
            o.head.max_tokens = 60;
            o.head.tenant = i % 2;
            submit(client, &o, &streams[i]);
        }
        for (uint32_t i = 0; i < MANY; i++) {
            wait_ended(client, &streams[i]);
            expect_same(&alone[i], &streams[i]);
            assert_int_equal(alone[i].done.reason, streams[i].done.reason);
        }
        stop();
    }
}


/* What clients write in other languages arrives as a grammar, too. */
static void
every_kind_of_source(void **state)
{
    static const struct {
        uint32_t kind;
        const char *source, *begins, *ends;
    } kinds[] = {
        {AXION_GRAMMAR_CHOICE, "[\"left\",\"left\"]", "left", "left"},
        {AXION_GRAMMAR_REGEX, "x[0-9]{3}y", "x", "y"},
        {AXION_GRAMMAR_JSON_SCHEMA,
         "{\"type\":\"object\",\"properties\":{\"n\":{\"type\":"
         "\"boolean\"}},\"required\":[\"n\"],"
         "\"additionalProperties\":false}",
         "{", "}"},
        {AXION_GRAMMAR_JSON_SCHEMA, "{\"enum\":[\"red\",7]}", "", ""},
    };
    (void)state;
    start(none);
    for (uint32_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        struct request_options o = request_of(kinds[i].source, i);
        const struct stream *s = &streams[0];
        size_t head = strlen(kinds[i].begins), tail = strlen(kinds[i].ends);
        o.grammar_kind = kinds[i].kind;
        run_alone(client, &o, &streams[0]);
        assert_int_equal(s->done.reason, AXION_FINISH_STOP);
        assert_true(s->text_bytes > 0 && s->text_bytes >= head &&
                    s->text_bytes >= tail);
        assert_memory_equal(s->text, kinds[i].begins, head);
        assert_memory_equal(s->text + s->text_bytes - tail, kinds[i].ends,
                            tail);
    }
    stop();
}


static void
expect_end(struct request_options *o, int error, unsigned reason,
           const char *says)
{
    struct stream *s = &streams[0];
    submit(client, o, s);
    wait_ended(client, s);
    assert_int_equal(s->error, error);
    if (error == AXION_OK) {
        assert_int_equal(s->done.reason, reason);
    } else if (says != NULL && strstr(s->detail, says) == NULL) {
        fail_msg("%s", s->detail);
    }
}


static void
ends_and_refusals(void **state)
{
    struct axion_logit_bias ban = {TINY_TOKEN_BYTES + 'a', -100};
    struct request_options o;
    (void)state;
    start(none);
    o = request_of("root ::= \"a", 1);
    expect_end(&o, AXION_ERR_GRAMMAR_INVALID, 0, "line 1, column 12");
    o = request_of("root ::= root \"a\" | \"b\"", 1);
    expect_end(&o, AXION_ERR_GRAMMAR_INVALID, 0, "begins with itself");
    o = request_of("root ::= \"a\"{300000}", 1);
    expect_end(&o, AXION_ERR_GRAMMAR_LIMIT, 0, "too long");
    o = request_of("root ::= (\"a\"?){5000}", 1);
    expect_end(&o, AXION_ERR_GRAMMAR_LIMIT, 0, "too many ways");
    o = request_of("root ::= \"a\" root \"b\" | \"a\" root \"c\" | \"d\"", 1);
    o.biases = &(struct axion_logit_bias){TINY_TOKEN_BYTES + 'd', -100};
    o.n_biases = 1;
    expect_end(&o, AXION_ERR_GRAMMAR_LIMIT, 0, "too many ways");
    o = request_of("root ::= \"xa\" | \"ya\"", 1);
    o.biases = &ban;
    o.n_biases = 1;
    expect_end(&o, AXION_ERR_GRAMMAR_DEAD_END, 0, "logit_bias bans every");
    o = request_of("root ::= \"\"", 1);
    expect_end(&o, AXION_OK, AXION_FINISH_STOP, NULL);
    assert_int_equal(streams[0].n_tokens, 0);
    o = request_of("root ::= [a-c]{2}", 1);
    expect_end(&o, AXION_OK, AXION_FINISH_STOP, NULL);
    assert_int_equal(streams[0].text_bytes, 2);
    o = request_of("root ::= [a-c]*", 1);
    o.head.max_tokens = 9;
    expect_end(&o, AXION_OK, AXION_FINISH_LENGTH, NULL);
    assert_int_equal(streams[0].n_tokens, 9);
    o = request_of("root ::= [a-c]{40}", 1);
    o.stop = "b";
    expect_end(&o, AXION_OK, AXION_FINISH_STOP, NULL);
    assert_true(streams[0].text_bytes < 40);
    stop();
}


/* More grammars than are kept; each answer is its own grammar's. */
static void
many_grammars(void **state)
{
    static char texts[100][32];
    struct axion_board board;
    (void)state;
    start((const char *[]){"--grammar-memory", "32m", NULL});
    for (uint32_t i = 0; i < 100; i++) {
        snprintf(texts[i], sizeof(texts[i]), "root ::= \"<%u>\"", i % 70);
        struct request_options o = request_of(texts[i], i);
        char expected[16];
        int n = snprintf(expected, sizeof(expected), "<%u>", i % 70);
        o.head.tenant = i % 5;
        run_alone(client, &o, &streams[0]);
        assert_int_equal(streams[0].text_bytes, n);
        assert_memory_equal(streams[0].text, expected, (size_t)n);
    }
    read_board(client, &board);
    assert_int_equal(
        board.grammar_hits_total + board.grammar_compiles_total, 100);
    assert_true(board.grammars_kept > 0 && board.grammars_kept < 70);
    assert_true(board.grammar_bytes <= 32u << 20);
    assert_true(board.grammar_masks_total >= board.grammar_compiles_total);
    assert_true(board.grammar_mask_us_total > 0);
    stop();
}


/* As many as the memory has room for are in use, and wait for their leases:
 * the others are told to come again, and may when those are gone. */
static void
too_many_at_once(void **state)
{
    static char texts[MANY][40];
    uint32_t n_refused = 0;
    (void)state;
    start((const char *[]){"--grammar-memory", "32m", NULL});
    for (uint32_t i = 0; i < MANY; i++) {
        snprintf(texts[i], sizeof(texts[i]), "root ::= \"%u\" [a-z]{100,}", i);
        struct request_options o = request_of(texts[i], i);
        o.lease = 20;
        submit(client, &o, &streams[i]);
    }
    for (uint32_t i = 0; i < MANY; i++) {
        struct stream *s = &streams[i];
        while (!s->ended && s->lease_lows == 0) {
            wait_some(client);
        }
        n_refused += s->ended;
        if (s->ended) {
            assert_int_equal(s->error, AXION_ERR_QUEUE_FULL);
            assert_true(s->retry_after_ms > 0);
        }
    }
    assert_true(n_refused > 0 && n_refused < MANY);
    for (uint32_t i = 0; i < MANY; i++) {
        if (!streams[i].ended) {
            axion_client_topup(client, streams[i].id, 0);
            wait_ended(client, &streams[i]);
        }
    }
    struct request_options o = request_of(texts[MANY - 1], 1);
    run_alone(client, &o, &streams[0]);
    stop();
}


/* Cancels come while masks are with the helper, queued or in a step. */
static void
cancelled_in_a_crowd(void **state)
{
    uint32_t seed = 5;
    (void)state;
    start(none);
    for (int round = 0; round < 6; round++) {
        for (uint32_t i = 0; i < MANY; i++) {
            struct request_options o = request_of(
                "root ::= ([^\\x00-\\x1f]{1,300} \"!\"){9}", i + seed);
            submit(client, &o, &streams[i]);
        }
        for (uint32_t i = 0; i < MANY; i++) {
            seed = seed * 1664525u + 1013904223u;
            wait_tokens(client, &streams[i], seed >> 28);
            if (!streams[i].ended) {
                axion_client_cancel(client, streams[i].id);
            }
        }
        for (uint32_t i = 0; i < MANY; i++) {
            wait_ended(client, &streams[i]);
            assert_int_equal(streams[i].error, AXION_OK);
        }
    }
    /* Who is cancelled within a step is gone when a later one has ended. */
    struct request_options last = request_of("root ::= [a-z]{3}", 1);
    run_alone(client, &last, &streams[0]);
    stop();
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_the_grammars),
        cmocka_unit_test(a_crowd_changes_nothing),
        cmocka_unit_test(every_kind_of_source),
        cmocka_unit_test(ends_and_refusals),
        cmocka_unit_test(many_grammars),
        cmocka_unit_test(too_many_at_once),
        cmocka_unit_test(cancelled_in_a_crowd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
