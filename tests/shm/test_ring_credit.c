/* Credit: a stream never has more records in the ring than its credit, the
 * last event always finds its place, what waits is joined and comes whole,
 * in order and never cut inside a character; also with a client that sleeps
 * through everything. */
#include <stdlib.h>
#include <string.h>
#include "shm/channel_private.h"
#include "shm/request.h"
#include "tests/shm/pair.h"

#define STREAMS 8


static void
open_credit(struct pair *pair, uint32_t credit)
{
    const struct axion_client_options options = {.streams = STREAMS,
                                                 .credit = credit};

    pair_open(pair, &options, NULL);
}


static void
say(struct pair *pair, axion_stream_id id, uint32_t token, const char *text)
{
    assert_int_equal(axion_channel_tokens(pair->channel, id, &token, 1, text,
                                          (uint32_t)strlen(text), NULL, 0),
                     AXION_OK);
}


static uint32_t
in_ring(const struct pair *pair, axion_stream_id id)
{
    return pair->channel->streams[(uint32_t)id].in_ring;
}


/* All that a client has heard of one stream. */
struct heard {
    char text[65536];
    size_t text_bytes;
    uint32_t n_tokens;
    uint32_t n_events;
    uint32_t next_token; /* tokens must come as 0, 1, 2 ... */
    enum axion_cq_op last;
};


static void
hear(struct pair *pair, struct heard *heard)
{
    struct axion_event event;

    while (axion_client_peek(pair->client, &event) == AXION_OK) {
        heard->last = event.op;
        heard->n_events++;
        if (event.op == AXION_CQ_TOKENS) {
            assert_int_equal(event.tokens.position, heard->n_tokens);
            for (uint32_t i = 0; i < event.tokens.n_tokens; i++) {
                assert_int_equal(event.tokens.ids[i], heard->next_token++);
            }
            heard->n_tokens += event.tokens.n_tokens;
            assert_true(heard->text_bytes + event.tokens.text_bytes <
                        sizeof(heard->text));
            memcpy(heard->text + heard->text_bytes, event.tokens.text,
                   event.tokens.text_bytes);
            heard->text_bytes += event.tokens.text_bytes;
        }
        axion_client_advance(pair->client);
    }
}


static void
test_credit_bounds_records_in_the_ring(void **state)
{
    struct pair pair;

    (void)state;
    for (uint32_t credit = AXION_CREDIT_MIN; credit <= AXION_CREDIT_MAX;
         credit++) {
        struct heard heard = {0};
        char expected[8000];
        size_t bytes = 0;

        open_credit(&pair, credit);
        axion_stream_id id = pair_submit(&pair, "x");
        for (uint32_t i = 0; i < 500; i++) {
            const char *text = i % 3 ? "\xe2\x82\xac" : "ab\xf0\x9f\x98\x80";
            say(&pair, id, i, text);
            memcpy(expected + bytes, text, strlen(text));
            bytes += strlen(text);
            axion_channel_flush(pair.channel);
            assert_true(in_ring(&pair, id) <= credit - 1);
        }
        pair_done(&pair, id);
        while (axion_channel_streams(pair.channel) > 0) {
            axion_channel_flush(pair.channel);
            assert_true(in_ring(&pair, id) <= credit);
            hear(&pair, &heard);
        }
        assert_int_equal(axion_channel_flush(pair.channel), 0);
        assert_int_equal(heard.last, AXION_CQ_DONE);
        assert_int_equal(heard.n_tokens, 500);
        assert_int_equal(heard.text_bytes, bytes);
        assert_memory_equal(heard.text, expected, bytes);
        pair_close(&pair);
    }
}


/* The engine keeps text back that may begin a stop string; what writable()
 * promised for a token must hold for the rest of its text at the stream's
 * end, in a call of its own. */
static void
test_held_text_has_its_room_at_the_end(void **state)
{
    enum { TOKEN_BYTES = 40, ENDS = 64 };
    struct axion_channel_options channel = {.stream_buffer_bytes = 1024};
    static const char text[TOKEN_BYTES] =
        "held text held text held text held tex";

    (void)state;
    for (uint32_t fill = 0; fill < ENDS; fill++) {
        struct axion_client_options client = {.streams = STREAMS, .credit = 2};
        struct heard heard = {0};
        struct pair pair;
        uint32_t token = 0;

        pair_open(&pair, &client, &channel);
        axion_stream_id id = pair_submit(&pair, "x");
        /* Every residue of the room that is left at last. */
        assert_int_equal(axion_channel_tokens(pair.channel, id, &token, 1, text,
                                              fill % TOKEN_BYTES, NULL, 0),
                         AXION_OK);
        token++;
        while (axion_channel_writable(pair.channel, id, TOKEN_BYTES)) {
            uint32_t now = token % 7;

            assert_int_equal(axion_channel_tokens(pair.channel, id, &token, 1,
                                                  text, now, NULL, 0),
                             AXION_OK);
            token++;
            if (!axion_channel_writable(pair.channel, id, TOKEN_BYTES - now)) {
                assert_int_equal(axion_channel_tokens(pair.channel, id, NULL, 0,
                                                      text, TOKEN_BYTES - now,
                                                      NULL, 0),
                                 AXION_OK);
            }
        }
        pair_done(&pair, id);
        while (axion_channel_streams(pair.channel) > 0) {
            axion_channel_flush(pair.channel);
            hear(&pair, &heard);
        }
        assert_int_equal(heard.last, AXION_CQ_DONE);
        assert_int_equal(heard.n_tokens, token);
        pair_close(&pair);
    }
}


/* Load makes events larger, not more. */
static void
test_what_waits_is_joined(void **state)
{
    struct heard heard = {0};
    struct pair pair;

    (void)state;
    open_credit(&pair, 16);
    axion_stream_id id = pair_submit(&pair, "x");
    for (uint32_t i = 0; i < 90; i++) {
        say(&pair, id, i, "word ");
    }
    axion_channel_flush(pair.channel);
    hear(&pair, &heard);
    assert_int_equal(heard.n_events, 2); /* ACCEPTED and one TOKENS */
    axion_channel_flush(pair.channel);
    hear(&pair, &heard);
    assert_int_equal(heard.n_events, 2);
    assert_int_equal(heard.n_tokens, 90);
    assert_int_equal(heard.text_bytes, 450);
    pair_close(&pair);
}


static void
test_one_tail_store_per_flush(void **state)
{
    axion_stream_id ids[STREAMS];
    struct axion_event event;
    struct pair pair;

    (void)state;
    open_credit(&pair, 4);
    uint32_t before = axion_index_load(&pair.channel->map.region->cq_tail);
    for (int i = 0; i < STREAMS; i++) {
        ids[i] = pair_submit(&pair, "x");
        say(&pair, ids[i], 0, "0123456789012345678901234567890123456789");
        assert_int_equal(axion_client_peek(pair.client, &event), AXION_AGAIN);
    }
    assert_int_equal(axion_index_load(&pair.channel->map.region->cq_tail),
                     before);
    axion_channel_flush(pair.channel);
    assert_int_equal(axion_index_load(&pair.channel->map.region->cq_tail),
                     before + STREAMS * 3);
    pair_close(&pair);
}


/* Every stream ends although no client looks: DONE never waits for credit,
 * and the ring cannot overflow. */
static void
test_final_event_needs_nobody(void **state)
{
    struct pair pair;

    (void)state;
    for (uint32_t credit = AXION_CREDIT_MIN; credit <= 8; credit++) {
        open_credit(&pair, credit);
        for (int i = 0; i < STREAMS; i++) {
            axion_stream_id id = pair_submit(&pair, "x");

            axion_channel_flush(pair.channel);
            if (i % 2) {
                pair_done(&pair, id);
            } else {
                axion_channel_error(pair.channel, id, AXION_ERR_QUEUE_FULL,
                                    1000,
                                    "the queue is full, the detail of "
                                    "which is longer than one record takes");
            }
            assert_int_equal(axion_channel_flush(pair.channel), 0);
        }
        assert_int_equal(axion_channel_streams(pair.channel), 0);
        pair_close(&pair);
    }
}


static void
test_stream_buffer_full(void **state)
{
    const struct axion_client_options client = {.streams = 2, .credit = 2};
    const struct axion_channel_options channel = {.stream_buffer_bytes = 512};
    struct heard heard = {0};
    struct pair pair;
    uint32_t token = 0;

    (void)state;
    pair_open(&pair, &client, &channel);
    axion_stream_id id = pair_submit(&pair, "x");
    assert_int_equal(axion_channel_flush(pair.channel), 0);
    for (int round = 0; round < 200; round++) {
        while (axion_channel_writable(pair.channel, id, 5)) {
            say(&pair, id, token++, "12345");
        }
        uint32_t extra = 9;
        assert_int_equal(axion_channel_tokens(pair.channel, id, &extra, 1,
                                              "12345678901234", 14, NULL, 0),
                         AXION_ERR_PAYLOAD_TOO_LARGE);
        assert_int_equal(axion_channel_flush(pair.channel), 1);
        hear(&pair, &heard);
    }
    pair_done(&pair, id);
    assert_int_equal(axion_channel_writable(pair.channel, id, 1), 0);
    while (axion_channel_flush(pair.channel) == 1) {
        hear(&pair, &heard);
    }
    hear(&pair, &heard);
    assert_int_equal(heard.last, AXION_CQ_DONE);
    assert_int_equal(heard.n_tokens, token);
    assert_int_equal(heard.text_bytes, token * 5);
    pair_close(&pair);
}


static void
test_text_larger_than_the_credit(void **state)
{
    static char text[8001];
    struct heard heard = {0};
    struct pair pair;
    const uint32_t token = 0;

    (void)state;
    for (int i = 0; i < 2000; i++) {
        memcpy(text + 4 * i, "\xf0\x9f\x98\x80", 4);
    }
    open_credit(&pair, 4);
    axion_stream_id id = pair_submit(&pair, "x");
    assert_int_equal(
        axion_channel_tokens(pair.channel, id, &token, 1, text, 8000, NULL, 0),
        AXION_OK);
    pair_done(&pair, id);
    while (axion_channel_flush(pair.channel) == 1) {
        hear(&pair, &heard);
    }
    hear(&pair, &heard);
    assert_int_equal(heard.n_tokens, 1);
    assert_int_equal(heard.text_bytes, 8000);
    assert_memory_equal(heard.text, text, 8000);
    pair_close(&pair);
}


static void
test_states_that_wait_are_the_latest(void **state)
{
    struct axion_cq_progress progress = {.prompt_tokens = 100};
    struct axion_cq_lease_low low = {0};
    struct axion_event event;
    struct pair pair;

    (void)state;
    open_credit(&pair, 2);
    axion_stream_id id = pair_submit(&pair, "x");
    axion_channel_flush(pair.channel); /* ACCEPTED takes the credit */
    for (uint32_t i = 1; i <= 50; i++) {
        progress.prompt_done = i;
        low.left_tokens = 100 - i;
        axion_channel_progress(pair.channel, id, &progress);
        axion_channel_lease_low(pair.channel, id, &low);
        assert_int_equal(axion_channel_flush(pair.channel), 1);
    }
    assert_int_equal(pair_event(&pair).op, AXION_CQ_ACCEPTED);
    assert_int_equal(axion_client_peek(pair.client, &event), AXION_AGAIN);
    axion_channel_flush(pair.channel);
    event = pair_event(&pair);
    assert_int_equal(event.op, AXION_CQ_PROGRESS);
    assert_int_equal(event.progress.prompt_done, 50);
    assert_int_equal(axion_client_peek(pair.client, &event), AXION_AGAIN);
    assert_int_equal(axion_channel_flush(pair.channel), 0);
    event = pair_event(&pair);
    assert_int_equal(event.op, AXION_CQ_LEASE_LOW);
    assert_int_equal(event.lease_low.left_tokens, 50);
    pair_close(&pair);
}


static void
test_extensions(void **state)
{
    uint8_t ext[200];
    const uint32_t ids[2] = {7, 8};
    struct pair pair;

    (void)state;
    for (size_t i = 0; i < sizeof(ext); i++) {
        ext[i] = (uint8_t)i;
    }
    open_credit(&pair, 4); /* one event: at most 32 + 64 * 2 bytes */
    axion_stream_id id = pair_submit(&pair, "x");
    axion_channel_flush(pair.channel);
    pair_event(&pair);
    assert_int_equal(
        axion_channel_tokens(pair.channel, id, ids, 2, "ab", 2, ext, 153),
        AXION_ERR_PAYLOAD_TOO_LARGE);
    assert_int_equal(
        axion_channel_tokens(pair.channel, id, ids, 2, "ab", 2, ext, 152),
        AXION_OK);
    axion_channel_flush(pair.channel);
    struct axion_event event;
    assert_int_equal(axion_client_peek(pair.client, &event), AXION_AGAIN);
    axion_channel_flush(pair.channel);
    event = pair_event(&pair);
    assert_int_equal(event.tokens.n_tokens, 2);
    assert_int_equal(event.tokens.ids[1], 8);
    assert_int_equal(event.tokens.ext_bytes, 152);
    assert_memory_equal(event.tokens.ext, ext, 152);
    pair_close(&pair);
}


static void
test_error_detail_is_cut_to_credit(void **state)
{
    const struct axion_event *event;
    struct axion_event copy;
    struct pair pair;
    char detail[400];

    (void)state;
    for (int i = 0; i < 133; i++) {
        memcpy(detail + 3 * i, "\xe2\x82\xac", 4);
    }
    for (uint32_t credit = 2; credit <= 8; credit++) {
        open_credit(&pair, credit);
        axion_stream_id id = pair_submit(&pair, "x");
        axion_channel_error(pair.channel, id, AXION_ERR_DEADLINE, 70, detail);
        axion_channel_flush(pair.channel);
        pair_event(&pair);
        copy = pair_event(&pair);
        event = &copy;
        uint32_t room = 32 + 64 * (credit - 2);
        room = room < AXION_DETAIL_BYTES ? room : AXION_DETAIL_BYTES;
        assert_int_equal(event->op, AXION_CQ_ERROR);
        assert_int_equal(event->error.error, AXION_ERR_DEADLINE);
        assert_int_equal(event->error.retry_after_ms, 70);
        assert_int_equal(event->error.text_bytes, room / 3 * 3);
        assert_memory_equal(event->error.text, detail, event->error.text_bytes);
        pair_close(&pair);
    }
}


static void
test_broken_text_is_not_queued(void **state)
{
    const uint32_t token = 0;
    struct pair pair;

    (void)state;
    open_credit(&pair, 4);
    axion_stream_id id = pair_submit(&pair, "x");
    assert_int_equal(axion_channel_tokens(pair.channel, id, &token, 1,
                                          "\xf0\x9f", 2, NULL, 0),
                     AXION_ERR_INVALID_VALUE);
    assert_int_equal(
        axion_channel_tokens(pair.channel, id, NULL, 0, NULL, 0, NULL, 0),
        AXION_OK);
    axion_channel_error(pair.channel, id, AXION_ERR_INTERNAL, 0, "\xff");
    axion_channel_flush(pair.channel);
    assert_int_equal(pair_event(&pair).op, AXION_CQ_ACCEPTED);
    struct axion_event event = pair_event(&pair);
    assert_int_equal(event.op, AXION_CQ_ERROR);
    assert_int_equal(event.error.text_bytes, 0);
    pair_close(&pair);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_credit_bounds_records_in_the_ring),
        cmocka_unit_test(test_held_text_has_its_room_at_the_end),
        cmocka_unit_test(test_what_waits_is_joined),
        cmocka_unit_test(test_one_tail_store_per_flush),
        cmocka_unit_test(test_final_event_needs_nobody),
        cmocka_unit_test(test_stream_buffer_full),
        cmocka_unit_test(test_text_larger_than_the_credit),
        cmocka_unit_test(test_states_that_wait_are_the_latest),
        cmocka_unit_test(test_extensions),
        cmocka_unit_test(test_error_detail_is_cut_to_credit),
        cmocka_unit_test(test_broken_text_is_not_queued),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
