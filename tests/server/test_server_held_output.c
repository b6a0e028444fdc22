/*
 * Shows that nothing is lost of a stream that ends while its client reads
 * nothing: its buffer is full, text is held back for a stop string, and then
 * its lease is refused.  The client has the least credit there is.
 */
#include <string.h>
#include "tests/server/harness.h"

/* 12 bytes of the stream's buffer (16 KiB) and its text for each token: full
 * well before the end. */
#define ANSWER_TOKENS 1800u
#define STOP_BYTES    120u

static const struct tiny_options model = {.format = TINY_Q4_0, .n_ctx = 4096};
static struct engine engine;
static struct axion_client *client;


/* A stop string that the answer ends within: its last bytes, from a
 * character's start on, and what it never says. */
static void
end_of(const struct stream *s, char *text, size_t text_bytes)
{
    uint32_t from = s->text_bytes - STOP_BYTES;

    while (((unsigned char)s->text[from] & 0xc0) == 0x80) {
        from++;
    }
    uint32_t n = s->text_bytes - from;
    assert_true(n + 2 <= text_bytes);
    memcpy(text, s->text + from, n);
    assert_null(memchr(text, '\0', n));
    text[n] = '\x01';
    text[n + 1] = '\0';
}


/* Waits for the board to say so; each look takes a turn of the engine. */
static void
wait_parked(uint32_t n)
{
    struct axion_board board;
    do {
        read_board(client, &board);
    } while (board.parked != n || board.running != 0);
}


/* How many tokens are made until a reader that reads nothing is waited for. */
static uint32_t
tokens_until_held(const struct request_options *o)
{
    struct axion_client *lazy = client_open_credit(&engine, "lazy", 2);
    static struct stream s;
    struct axion_board before, after;

    read_board(client, &before);
    submit(lazy, o, &s);
    wait_parked(1);
    read_board(client, &after);
    axion_client_close(lazy);
    wait_parked(0);
    return (uint32_t)(after.completion_tokens_total -
                      before.completion_tokens_total);
}


/* The lease ends at its n-th token, the client reads after that. */
static void
end_at(const struct request_options *o, const struct stream *whole, uint32_t n)
{
    struct axion_client *lazy = client_open_credit(&engine, "lazy", 2);
    static struct stream s, expected;
    struct request_options leased = *o, alone = *o;
    char stop_text[2 * STOP_BYTES];

    alone.head.max_tokens = n;
    run_alone(client, &alone, &expected);
    assert_memory_equal(expected.tokens, whole->tokens, n * sizeof(uint32_t));
    end_of(&expected, stop_text, sizeof(stop_text));
    leased.stop = stop_text;
    leased.lease = whole->done.prompt_tokens + n;
    submit(lazy, &leased, &s);
    wait_parked(1);
    axion_client_topup(lazy, s.id, 0);
    run_alone(client, &alone, &expected); /* the engine has seen that */
    wait_ended(lazy, &s);
    assert_int_equal(s.error, AXION_OK);
    assert_int_equal(s.done.reason, AXION_FINISH_LEASE);
    assert_int_equal(s.n_tokens, n);
    assert_memory_equal(s.tokens, expected.tokens, n * sizeof(uint32_t));
    assert_int_equal(s.text_bytes, expected.text_bytes);
    assert_memory_equal(s.text, expected.text, expected.text_bytes);
    axion_client_close(lazy);
}


static void
test_lease_ends_while_output_is_held(void **state)
{
    static struct stream whole;
    struct request_options o;
    (void)state;
    engine_start_options(&engine, &model, (const char *[]){NULL});
    client = client_open(&engine, "test_server_held_output");
    request_init(&o, "Held", ANSWER_TOKENS);
    run_alone(client, &o, &whole);
    assert_int_equal(whole.n_tokens, ANSWER_TOKENS);
    uint32_t held = tokens_until_held(&o);
    assert_in_range(held, 300, ANSWER_TOKENS - 1);
    /* Just before, with, and behind the token that fills the buffer. */
    for (uint32_t n = held - 1; n <= held + 1; n++) {
        end_at(&o, &whole, n);
    }
    axion_client_close(client);
    engine_stop(&engine);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lease_ends_while_output_is_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
