/* Both ends at every bound: SQ, arena, slots, credit, stream buffer and CQ
 * full; indexes and generations over their wrap; NO_STREAM_SLOT loses
 * nothing; commands are never lost and keep their meaning. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "shm/client_private.h"
#include "tests/shm/pair.h"


static int
submit(struct pair *pair, const void *payload, size_t bytes,
       axion_stream_id *id)
{
    return axion_client_submit(pair->client, payload, bytes, 1, NULL, id);
}


static void
expect_command(struct pair *pair, enum axion_sq_op op, axion_stream_id id,
               uint64_t tokens)
{
    struct axion_command command;

    assert_int_equal(axion_channel_next(pair->channel, &command), AXION_OK);
    assert_int_equal(command.op, op);
    assert_int_equal(command.id, id);
    assert_int_equal(command.lease_tokens, tokens);
}


static void
expect_no_command(struct pair *pair)
{
    struct axion_command command;

    assert_int_equal(axion_channel_next(pair->channel, &command), AXION_AGAIN);
}


static void
test_all_slots_busy(void **state)
{
    axion_stream_id ids[8];
    axion_stream_id extra;
    struct pair pair;

    (void)state;
    pair_open(&pair, NULL, NULL);
    for (int i = 0; i < 8; i++) {
        ids[i] = pair_submit(&pair, "x");
    }
    assert_int_equal(axion_client_streams(pair.client), 8);
    assert_int_equal(submit(&pair, "x", 1, &extra), AXION_ERR_NO_STREAM_SLOT);
    pair_done(&pair, ids[3]);
    assert_int_equal(axion_channel_flush(pair.channel), 0);

    /* Not before the client has passed the DONE. */
    assert_int_equal(submit(&pair, "x", 1, &extra), AXION_ERR_NO_STREAM_SLOT);
    for (int i = 0; i < 9; i++) {
        pair_event(&pair);
    }
    extra = pair_submit(&pair, "x");
    assert_int_equal((uint32_t)extra, (uint32_t)ids[3]);
    assert_int_not_equal(extra >> 32, ids[3] >> 32);
    pair_close(&pair);
}


/* Fills the SQ with submissions that the engine does not take. */
static void
test_sq_full_loses_nothing(void **state)
{
    const struct axion_client_options options = {.streams = 64,
                                                 .sq_entries = 16};
    struct axion_command command;
    axion_stream_id ids[64];
    struct pair pair;
    char payload[32];
    int n = 0;
    int taken = 0;

    (void)state;
    pair_open(&pair, &options, NULL);
    for (int round = 0; round < 100; round++) {
        while (n - taken < 64) {
            snprintf(payload, sizeof(payload), "payload %d", n);
            int rc = submit(&pair, payload, strlen(payload), &ids[n % 64]);
            if (rc == AXION_ERR_NO_STREAM_SLOT) {
                break;
            }
            assert_int_equal(rc, AXION_OK);
            n++;
        }
        assert_int_equal(n - taken, 16);
        for (int i = 0; i <= round % 16; i++) {
            snprintf(payload, sizeof(payload), "payload %d", taken);
            assert_int_equal(axion_channel_next(pair.channel, &command),
                             AXION_OK);
            assert_int_equal(command.id, ids[taken % 64]);
            assert_int_equal(command.payload_bytes, strlen(payload));
            assert_memory_equal(command.payload, payload,
                                command.payload_bytes);
            pair_done(&pair, command.id);
            taken++;
        }
        axion_channel_flush(pair.channel);
        struct axion_event event;
        while (axion_client_peek(pair.client, &event) == AXION_OK) {
            axion_client_advance(pair.client);
        }
    }
    pair_close(&pair);
}


/* Payloads of all sizes through an arena that holds two of the largest. */
static void
test_arena_full_and_wrapped(void **state)
{
    const struct axion_client_options options = {
        .streams = 64, .arena_bytes = AXION_ARENA_BYTES_MIN};
    static uint8_t payload[AXION_ARENA_BYTES_MIN + 1];
    uint64_t random = test_seed();
    struct axion_command command;
    axion_stream_id id;
    struct pair pair;
    uint32_t sizes[64];
    unsigned head = 0;
    unsigned tail = 0;
    int full = 0;

    (void)state;
    pair_open(&pair, &options, NULL);
    for (int i = 0; i < 20000; i++) {
        uint32_t bytes = next_random(&random) % (AXION_ARENA_BYTES_MIN / 2);
        if (i % 3 == 0) {
            bytes %= 200;
        }
        memset(payload, (int)(head & 0xff), bytes);
        int rc = submit(&pair, payload, bytes, &id);
        if (rc == AXION_OK) {
            sizes[head++ % 64] = bytes;
            continue;
        }
        assert_int_equal(rc, AXION_ERR_NO_STREAM_SLOT);
        full++;
        do {
            assert_int_equal(axion_channel_next(pair.channel, &command),
                             AXION_OK);
            assert_int_equal(command.payload_bytes, sizes[tail % 64]);
            for (uint32_t k = 0; k < command.payload_bytes; k++) {
                assert_true(((const uint8_t *)command.payload)[k] ==
                            (tail & 0xff));
            }
            tail++;
            pair_done(&pair, command.id);
            axion_channel_flush(pair.channel);
            pair_event(&pair);
        } while (tail != head && next_random(&random) % 4 != 0);
    }
    assert_true(full > 1000);
    pair_close(&pair);
}


static void
test_largest_payload(void **state)
{
    const struct axion_client_options client = {
        .streams = 4, .arena_bytes = AXION_ARENA_BYTES_MIN};
    const struct axion_channel_options small = {.payload_bytes_max = 1000};
    static uint8_t payload[AXION_ARENA_BYTES_MIN + 1];
    axion_stream_id id;
    struct pair pair;

    (void)state;
    pair_open(&pair, &client, NULL);
    assert_int_equal(axion_client_payload_max(pair.client),
                     AXION_ARENA_BYTES_MIN);
    for (int i = 0; i < 10; i++) {
        /* Something small first, so that the arena starts in its middle. */
        axion_stream_id little = pair_submit(&pair, "little");
        assert_int_equal(submit(&pair, payload, AXION_ARENA_BYTES_MIN, &id),
                         AXION_OK);
        expect_command(&pair, AXION_SQ_SUBMIT, id, 1);
        pair_done(&pair, little);
        pair_done(&pair, id);
        axion_channel_flush(pair.channel);
        for (int k = 0; k < 3; k++) {
            pair_event(&pair);
        }
    }
    assert_int_equal(submit(&pair, payload, AXION_ARENA_BYTES_MIN + 1, &id),
                     AXION_ERR_PAYLOAD_TOO_LARGE);
    assert_int_equal(submit(&pair, NULL, 0, &id), AXION_OK);
    pair_close(&pair);

    pair_open(&pair, &client, &small);
    assert_int_equal(axion_client_payload_max(pair.client), 1000);
    assert_int_equal(submit(&pair, payload, 1001, &id),
                     AXION_ERR_PAYLOAD_TOO_LARGE);
    assert_int_equal(submit(&pair, payload, 1000, &id), AXION_OK);
    pair_close(&pair);
}


/* ---- commands ---- */

/* Leaves `room` free records in an SQ of 16. */
static void
fill_sq(struct pair *pair, axion_stream_id filler, int room)
{
    for (int i = 0; i < 16 - room; i++) {
        axion_client_topup(pair->client, filler, 1);
    }
}


static void
take_fillers(struct pair *pair, axion_stream_id filler, int n)
{
    for (int i = 0; i < n; i++) {
        expect_command(pair, AXION_SQ_TOPUP, filler, 1);
    }
}


static void
test_commands_wait_for_room(void **state)
{
    const struct axion_client_options options = {.streams = 8,
                                                 .sq_entries = 16};
    axion_stream_id a;
    axion_stream_id b;
    axion_stream_id c;
    axion_stream_id d;
    axion_stream_id filler;
    struct pair pair;

    (void)state;
    pair_open(&pair, &options, NULL);
    filler = pair_submit(&pair, "filler");
    a = pair_submit(&pair, "a");
    b = pair_submit(&pair, "b");
    c = pair_submit(&pair, "c");
    fill_sq(&pair, filler, 0);

    axion_client_pause(pair.client, a);
    axion_client_topup(pair.client, b, 5);
    axion_client_topup(pair.client, b, 7);
    axion_client_pause(pair.client, b);
    axion_client_pause(pair.client, c);
    axion_client_resume(pair.client, c); /* annuls the pause */
    axion_client_topup(pair.client, c, 9);
    axion_client_cancel(pair.client, c); /* outlives the top-up */
    axion_client_topup(pair.client, a, 0);
    /* Commands go first: a submission may not overtake them. */
    assert_int_equal(submit(&pair, "d", 1, &d), AXION_ERR_NO_STREAM_SLOT);

    take_fillers(&pair, filler, 2);
    assert_int_equal(axion_client_arm(pair.client), 0);
    take_fillers(&pair, filler, 14);
    expect_command(&pair, AXION_SQ_TOPUP, a, 0);
    expect_command(&pair, AXION_SQ_PAUSE, a, 0);
    expect_no_command(&pair);
    assert_int_equal(submit(&pair, "d", 1, &d), AXION_OK);
    expect_command(&pair, AXION_SQ_TOPUP, b, 12);
    expect_command(&pair, AXION_SQ_PAUSE, b, 0);
    expect_command(&pair, AXION_SQ_CANCEL, c, 0);
    expect_command(&pair, AXION_SQ_SUBMIT, d, 1);
    expect_no_command(&pair);

    /* Nothing to say twice, nothing after a CANCEL. */
    axion_client_pause(pair.client, a);
    axion_client_cancel(pair.client, c);
    axion_client_pause(pair.client, c);
    axion_client_topup(pair.client, c, 1);
    expect_no_command(&pair);
    pair_close(&pair);
}


static void
test_topups_saturate_and_refusals_keep_order(void **state)
{
    const struct axion_client_options options = {.streams = 8,
                                                 .sq_entries = 16};
    axion_stream_id a;
    axion_stream_id filler;
    struct pair pair;

    (void)state;
    pair_open(&pair, &options, NULL);
    filler = pair_submit(&pair, "filler");
    a = pair_submit(&pair, "a");
    fill_sq(&pair, filler, 0);
    axion_client_topup(pair.client, a, UINT64_MAX - 1);
    axion_client_topup(pair.client, a, 5);
    axion_client_topup(pair.client, a, 0);
    take_fillers(&pair, filler, 16);
    axion_client_arm(pair.client);
    expect_command(&pair, AXION_SQ_TOPUP, a, UINT64_MAX);
    expect_command(&pair, AXION_SQ_TOPUP, a, 0);

    fill_sq(&pair, filler, 0);
    axion_client_topup(pair.client, a, 0);
    axion_client_topup(pair.client, a, 3); /* after all: not refused */
    take_fillers(&pair, filler, 16);
    axion_client_arm(pair.client);
    expect_command(&pair, AXION_SQ_TOPUP, a, 3);
    expect_no_command(&pair);
    pair_close(&pair);
}


/* A slot is freed and used again while its old commands still wait. */
static void
test_pending_command_of_a_finished_stream(void **state)
{
    const struct axion_client_options options = {.streams = 2,
                                                 .sq_entries = 16};
    axion_stream_id a;
    axion_stream_id again;
    axion_stream_id filler;
    struct pair pair;

    (void)state;
    pair_open(&pair, &options, NULL);
    filler = pair_submit(&pair, "filler");
    a = pair_submit(&pair, "a");
    fill_sq(&pair, filler, 0);
    axion_client_cancel(pair.client, a);
    pair_done(&pair, a);
    axion_channel_flush(pair.channel);
    for (int i = 0; i < 3; i++) {
        pair_event(&pair);
    }
    assert_int_equal(axion_client_streams(pair.client), 1);
    take_fillers(&pair, filler, 16);
    again = pair_submit(&pair, "again");
    assert_int_equal((uint32_t)again, (uint32_t)a);
    expect_no_command(&pair);

    /* Stale ids touch nobody. */
    axion_client_cancel(pair.client, a);
    axion_client_pause(pair.client, a);
    axion_client_topup(pair.client, a, 4);
    axion_client_cancel(pair.client, 0);
    axion_client_cancel(pair.client, UINT64_MAX);
    axion_client_forget(pair.client, UINT64_MAX);
    expect_no_command(&pair);
    pair_close(&pair);
}


/* A CANCEL that crosses DONE on its way is dropped by the engine. */
static void
test_command_crosses_done(void **state)
{
    axion_stream_id id;
    struct pair pair;

    (void)state;
    pair_open(&pair, NULL, NULL);
    id = pair_submit(&pair, "x");
    axion_client_cancel(pair.client, id);
    pair_done(&pair, id);
    assert_null(axion_channel_user(pair.channel, id));
    expect_no_command(&pair);
    axion_channel_flush(pair.channel);
    assert_int_equal(pair_event(&pair).op, AXION_CQ_ACCEPTED);
    assert_int_equal(pair_event(&pair).op, AXION_CQ_DONE);
    assert_int_equal(axion_client_streams(pair.client), 0);
    assert_int_equal(axion_channel_streams(pair.channel), 0);
    pair_close(&pair);
}


/* ---- wrap-around ---- */

/* Both rings start 256 below the wrap of their indexes and every generation 4
 * below its own; this goes far over both and looks at each id. */
static void
test_indexes_and_generations_wrap(void **state)
{
    const struct axion_client_options options = {
        .streams = 3, .sq_entries = 16, .cq_entries = 64};
    struct pair pair;
    uint32_t last[3] = {0};

    (void)state;
    pair_open(&pair, &options, NULL);
    assert_true(pair.client->sq_tail > UINT32_MAX - 300);
    assert_true(pair.client->cq_head > UINT32_MAX - 300);
    for (int i = 0; i < 3000; i++) {
        axion_stream_id id = pair_submit(&pair, "x");
        uint32_t slot = (uint32_t)id;
        uint32_t generation = (uint32_t)(id >> 32);

        assert_true(slot < 3);
        assert_int_not_equal(generation, 0);
        if (last[slot] != 0) {
            assert_int_equal(generation, axion_generation_next(last[slot]));
        }
        last[slot] = generation;
        pair_done(&pair, id);
        axion_channel_flush(pair.channel);
        assert_int_equal(pair_event(&pair).op, AXION_CQ_ACCEPTED);
        struct axion_event event = pair_event(&pair);
        assert_int_equal(event.op, AXION_CQ_DONE);
        assert_int_equal(event.id, id);
    }
    assert_true(pair.client->sq_tail < 10000);
    assert_true(pair.client->cq_head < 10000);
    pair_close(&pair);
}


/* ---- life of events ---- */

static void
test_user_follows_the_stream(void **state)
{
    struct axion_event event;
    struct axion_command command;
    axion_stream_id id;
    struct pair pair;
    int context;

    (void)state;
    pair_open(&pair, NULL, NULL);
    assert_int_equal(axion_client_submit(pair.client, "x", 1, 1, &context, &id),
                     AXION_OK);
    assert_int_equal(axion_channel_next(pair.channel, &command), AXION_OK);
    axion_channel_set_user(pair.channel, id, &pair);
    assert_ptr_equal(axion_channel_user(pair.channel, id), &pair);
    pair_done(&pair, id);
    axion_channel_flush(pair.channel);
    assert_int_equal(axion_client_peek(pair.client, &event), AXION_OK);
    assert_ptr_equal(event.user, &context);
    axion_client_forget(pair.client, id);
    assert_int_equal(axion_client_peek(pair.client, &event), AXION_OK);
    assert_null(event.user);
    axion_client_advance(pair.client);
    assert_int_equal(axion_client_peek(pair.client, &event), AXION_AGAIN);
    pair_close(&pair);
}


static void
count_open(void *context, axion_stream_id id, void *user)
{
    struct {
        axion_stream_id id;
        int n;
    } *seen = context;

    assert_non_null(user);
    seen->id = id;
    seen->n++;
}


static void
test_each_visits_open_streams(void **state)
{
    struct {
        axion_stream_id id;
        int n;
    } seen = {0};
    struct pair pair;

    (void)state;
    pair_open(&pair, NULL, NULL);
    axion_stream_id a = pair_submit(&pair, "a");
    axion_stream_id b = pair_submit(&pair, "b");
    axion_channel_set_user(pair.channel, a, &a);
    axion_channel_set_user(pair.channel, b, &b);
    pair_done(&pair, a);
    axion_channel_each(pair.channel, count_open, &seen);
    assert_int_equal(seen.n, 1);
    assert_int_equal(seen.id, b);
    /* a is done but not published: it still counts. */
    assert_int_equal(axion_channel_streams(pair.channel), 2);
    axion_channel_flush(pair.channel);
    assert_int_equal(axion_channel_streams(pair.channel), 1);
    pair_close(&pair);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_slots_busy),
        cmocka_unit_test(test_sq_full_loses_nothing),
        cmocka_unit_test(test_arena_full_and_wrapped),
        cmocka_unit_test(test_largest_payload),
        cmocka_unit_test(test_commands_wait_for_room),
        cmocka_unit_test(test_topups_saturate_and_refusals_keep_order),
        cmocka_unit_test(test_pending_command_of_a_finished_stream),
        cmocka_unit_test(test_command_crosses_done),
        cmocka_unit_test(test_indexes_and_generations_wrap),
        cmocka_unit_test(test_user_follows_the_stream),
        cmocka_unit_test(test_each_visits_open_streams),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
