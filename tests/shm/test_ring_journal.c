/* The journal of DONE on the ring: which streams of a dead client are owed to
 * its gateway, records that arrive whole, settle in order and come again when
 * nobody settled them, and peers that break the rules of it. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "tests/shm/pair.h"

#define GATEWAY 0x1234u

static const struct axion_client_options with_gateway = {
    .streams = 8, .name = "pair", .gateway = GATEWAY};


struct unpassed {
    uint32_t n;
    struct axion_journal_record records[8];
};


static void
keep(void *context, const struct axion_journal_record *record)
{
    struct unpassed *unpassed = context;

    assert_true(unpassed->n < 8);
    unpassed->records[unpassed->n++] = *record;
}


static axion_stream_id
submit(struct pair *pair, uint64_t lease_id)
{
    const struct axion_cq_accepted accepted = {.prompt_tokens = 7};
    struct axion_command command;
    axion_stream_id id;

    assert_int_equal(axion_client_submit_leased(pair->client, "x", 1, 100,
                                                lease_id, NULL, &id),
                     AXION_OK);
    assert_int_equal(axion_channel_next(pair->channel, &command), AXION_OK);
    assert_int_equal(command.lease_id, lease_id);
    axion_channel_accepted(pair->channel, id, &accepted);
    return id;
}


static void
say(struct pair *pair, axion_stream_id id, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(axion_channel_tokens(pair->channel, id, &i, 1, "a", 1,
                                              NULL, 0),
                         AXION_OK);
    }
}


/* Takes everything that is in the ring. */
static void
drain(struct pair *pair)
{
    struct axion_event event;

    while (axion_client_peek(pair->client, &event) == AXION_OK) {
        axion_client_advance(pair->client);
    }
}


static void
test_what_was_not_passed_is_owed(void **state)
{
    struct unpassed unpassed = {0};
    struct axion_cq_done done = {.reason = AXION_FINISH_STOP,
                                 .prompt_tokens = 7,
                                 .completion_tokens = 3};
    struct pair pair;

    (void)state;
    pair_open(&pair, &with_gateway, NULL);
    assert_int_equal(axion_channel_gateway(pair.channel), GATEWAY);

    axion_stream_id passed = submit(&pair, 1);
    say(&pair, passed, 3);
    axion_channel_done(pair.channel, passed, &done);
    assert_int_equal(axion_channel_flush(pair.channel), 0);
    drain(&pair);

    axion_stream_id in_ring = submit(&pair, 2);
    say(&pair, in_ring, 3);
    axion_channel_done(pair.channel, in_ring, &done);
    assert_int_equal(axion_channel_flush(pair.channel), 0);

    axion_stream_id failed = submit(&pair, 3);
    say(&pair, failed, 2);
    axion_channel_error(pair.channel, failed, AXION_ERR_NUMERICAL, 0, "x");
    assert_int_equal(axion_channel_flush(pair.channel), 0);

    axion_stream_id unsent = submit(&pair, 4);
    say(&pair, unsent, 1);
    assert_int_equal(axion_channel_flush(pair.channel), 0);
    say(&pair, unsent, 2); /* said, never put on the CQ: not charged */
    axion_channel_done(pair.channel, unsent, &done);

    (void)submit(&pair, 5); /* open: the owner's */
    axion_stream_id nobody = submit(&pair, 0);
    axion_channel_done(pair.channel, nobody, &done);

    axion_stream_id untaken;
    assert_int_equal(axion_client_submit_leased(pair.client, "x", 1, 100, 6,
                                                NULL, &untaken),
                     AXION_OK);

    axion_channel_each_unpassed(pair.channel, keep, &unpassed);
    assert_int_equal(unpassed.n, 4);
    for (uint32_t i = 0; i < unpassed.n; i++) {
        const struct axion_journal_record *r = &unpassed.records[i];
        assert_int_equal(r->done.prompt_tokens, r->lease_id == 6 ? 0 : 7);
        switch (r->lease_id) {
        case 6:
            assert_int_equal(r->done.reason, AXION_FINISH_CANCELLED);
            assert_int_equal(r->done.completion_tokens, 0);
            break;
        case 2:
            assert_int_equal(r->error, AXION_OK);
            assert_int_equal(r->done.completion_tokens, 3);
            break;
        case 3:
            assert_int_equal(r->error, AXION_ERR_NUMERICAL);
            assert_int_equal(r->done.completion_tokens, 2);
            break;
        default:
            assert_int_equal(r->lease_id, 4);
            assert_int_equal(r->error, AXION_OK);
            assert_int_equal(r->done.completion_tokens, 1);
        }
    }
    pair_close(&pair);
}


static void
send_records(struct pair *pair, uint64_t first, uint32_t n, int complete)
{
    struct axion_journal_record records[AXION_JOURNAL_RECORDS_MAX] = {0};

    for (uint32_t i = 0; i < n; i++) {
        records[i].lease_id = first + i;
        records[i].done.completion_tokens = i;
    }
    assert_int_equal(
        axion_channel_journal(pair->channel, records, n, complete), AXION_OK);
}


static void
test_records_arrive_and_settle(void **state)
{
    struct axion_journal_record record;
    struct pair pair;

    (void)state;
    pair_open(&pair, &with_gateway, NULL);
    send_records(&pair, 100, AXION_JOURNAL_RECORDS_MAX, 0);
    axion_channel_ring(pair.channel); /* doorbells around it */
    assert_int_equal(axion_channel_unsettled(pair.channel),
                     AXION_JOURNAL_RECORDS_MAX);
    assert_int_equal(axion_client_service(pair.client), AXION_OK);
    for (uint32_t i = 0; i < AXION_JOURNAL_RECORDS_MAX; i++) {
        assert_int_equal(axion_client_journal(pair.client, &record), AXION_OK);
        assert_int_equal(axion_client_journal(pair.client, &record), AXION_OK);
        assert_int_equal(record.lease_id, 100 + i);
        assert_int_equal(record.done.completion_tokens, i);
        axion_client_journal_settled(pair.client);
    }
    assert_int_equal(axion_client_journal(pair.client, &record), AXION_AGAIN);
    assert_int_equal(axion_client_journal_complete(pair.client), 0);
    assert_int_equal(axion_channel_service(pair.channel), AXION_OK);
    assert_int_equal(axion_channel_unsettled(pair.channel), 0);

    send_records(&pair, 200, 1, 1);
    assert_int_equal(axion_client_service(pair.client), AXION_OK);
    assert_int_equal(axion_client_journal_complete(pair.client), 0);
    axion_client_journal_settled(pair.client);
    assert_int_equal(axion_client_journal_complete(pair.client), 1);
    pair_close(&pair);
}


static void
test_complete_without_records(void **state)
{
    struct axion_journal_record record;
    struct pair pair;

    (void)state;
    pair_open(&pair, &with_gateway, NULL);
    send_records(&pair, 0, 0, 1);
    assert_int_equal(axion_channel_unsettled(pair.channel), 0);
    assert_int_equal(axion_client_service(pair.client), AXION_OK);
    assert_int_equal(axion_client_journal(pair.client, &record), AXION_AGAIN);
    assert_int_equal(axion_client_journal_complete(pair.client), 1);
    pair_close(&pair);
}


/* SETTLED finds the socket full of doorbells: a later service() sends it. */
static void
test_settled_waits_for_a_full_socket(void **state)
{
    struct pair pair;

    (void)state;
    pair_open(&pair, &with_gateway, NULL);
    send_records(&pair, 1, 1, 0);
    assert_int_equal(axion_client_service(pair.client), AXION_OK);
    while (send(axion_client_fd(pair.client), "", 1, MSG_DONTWAIT) == 1) {
    }
    axion_client_journal_settled(pair.client);
    assert_int_equal(axion_channel_service(pair.channel), AXION_OK);
    assert_int_equal(axion_channel_unsettled(pair.channel), 1);
    assert_int_equal(axion_client_service(pair.client), AXION_OK);
    assert_int_equal(axion_channel_service(pair.channel), AXION_OK);
    assert_int_equal(axion_channel_unsettled(pair.channel), 0);
    pair_close(&pair);
}


/* ---- hostile ends ---- */

static void
engine_says(const struct axion_client_options *options, const void *data,
            size_t bytes, const char *why)
{
    struct axion_journal_record record;
    struct pair pair;

    pair_open(&pair, options, NULL);
    assert_int_equal(send(axion_channel_fd(pair.channel), data, bytes, 0),
                     bytes);
    assert_int_equal(axion_client_service(pair.client), AXION_ERR_PROTOCOL);
    assert_string_equal(axion_client_why(pair.client), why);
    assert_int_equal(axion_client_journal(pair.client, &record), AXION_AGAIN);
    pair_close(&pair);
}


static void
test_hostile_engine(void **state)
{
    static const struct axion_client_options no_gateway = {.streams = 8};
    struct axion_journal journal = {
        .head = {AXION_WIRE_MAGIC, AXION_WIRE_VERSION, AXION_MSG_JOURNAL},
        .n_records = 1,
    };
    size_t one = AXION_JOURNAL_HEAD_BYTES + sizeof(journal.records[0]);
    struct pair pair;

    (void)state;
    engine_says(&no_gateway, &journal, one, "message that is no doorbell");
    engine_says(&with_gateway, &journal, one - 1,
                "JOURNAL of the wrong length");
    engine_says(&with_gateway, &journal, AXION_JOURNAL_HEAD_BYTES - 1,
                "message that is no doorbell");
    journal.n_records = UINT32_MAX;
    engine_says(&with_gateway, &journal, sizeof(journal),
                "JOURNAL of the wrong length");
    journal.n_records = 0;
    engine_says(&with_gateway, &journal, AXION_JOURNAL_HEAD_BYTES,
                "JOURNAL without records");
    journal.n_records = 1;
    journal.head.type = AXION_MSG_WELCOME;
    engine_says(&with_gateway, &journal, one, "message that is no doorbell");

    pair_open(&pair, &with_gateway, NULL);
    journal.head.type = AXION_MSG_JOURNAL;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(send(axion_channel_fd(pair.channel), &journal, one, 0),
                         one);
    }
    assert_int_equal(axion_client_service(pair.client), AXION_ERR_PROTOCOL);
    assert_string_equal(axion_client_why(pair.client),
                        "JOURNAL before the last one was settled");
    pair_close(&pair);
}


static void
client_says(const struct axion_settled *settled, size_t bytes, const char *why)
{
    struct pair pair;

    pair_open(&pair, &with_gateway, NULL);
    send_records(&pair, 1, 2, 0);
    assert_int_equal(send(axion_client_fd(pair.client), settled, bytes, 0),
                     bytes);
    assert_int_equal(axion_channel_service(pair.channel), AXION_ERR_PROTOCOL);
    assert_string_equal(axion_channel_why(pair.channel), why);
    assert_int_equal(axion_channel_unsettled(pair.channel), 2);
    pair_close(&pair);
}


static void
test_hostile_client(void **state)
{
    struct axion_settled settled = {
        .head = {AXION_WIRE_MAGIC, AXION_WIRE_VERSION, AXION_MSG_SETTLED},
        .n_records = 2,
    };

    (void)state;
    client_says(&settled, sizeof(settled) - 1, "message that is no doorbell");
    settled.n_records = 3;
    client_says(&settled, sizeof(settled), "SETTLED for what was not sent");
    settled.n_records = 0;
    client_says(&settled, sizeof(settled), "SETTLED for what was not sent");
    settled.n_records = 2;
    settled.head.type = AXION_MSG_HELLO;
    client_says(&settled, sizeof(settled), "message that is no doorbell");
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_not_passed_is_owed),
        cmocka_unit_test(test_records_arrive_and_settle),
        cmocka_unit_test(test_complete_without_records),
        cmocka_unit_test(test_settled_waits_for_a_full_socket),
        cmocka_unit_test(test_hostile_engine),
        cmocka_unit_test(test_hostile_client),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
