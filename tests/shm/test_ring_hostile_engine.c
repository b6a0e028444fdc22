/* An engine that writes whatever it may write: directed at every check of the
 * client's end, then at random, then while the client reads.  The channel
 * breaks with a reason or goes on; no event reaches the caller whose text,
 * ids or stream were not checked. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "shm/client_private.h"
#include "shm/request.h"
#include "tests/shm/pair.h"

#define ROUNDS  400
#define ACTIONS 300

/* A channel with one accepted stream, and a record made for it. */
struct stage {
    struct raw raw;
    struct axion_client *client;
    axion_stream_id id;
};


static struct axion_cqe
record_for(const struct stage *stage, enum axion_cq_op op)
{
    return (struct axion_cqe){.op = (uint8_t)op,
                              .stream = (uint32_t)stage->id,
                              .generation = (uint32_t)(stage->id >> 32)};
}


static void
stage_open(struct stage *stage)
{
    struct axion_event event;

    raw_engine_open(&stage->raw, &stage->client);
    assert_int_equal(
        axion_client_submit(stage->client, "hello", 5, 1, stage, &stage->id),
        AXION_OK);
    struct axion_cqe cqe = record_for(stage, AXION_CQ_ACCEPTED);
    raw_cqe(&stage->raw, &cqe);
    assert_int_equal(axion_client_peek(stage->client, &event), AXION_OK);
    assert_int_equal(event.op, AXION_CQ_ACCEPTED);
    axion_client_advance(stage->client);
}


static void
stage_close(struct stage *stage)
{
    axion_client_close(stage->client);
    raw_close(&stage->raw);
}


static void
expect_broken(struct stage *stage, const char *why)
{
    struct axion_event event;
    axion_stream_id id;

    assert_int_equal(axion_client_peek(stage->client, &event),
                     AXION_ERR_PROTOCOL);
    assert_string_equal(axion_client_why(stage->client), why);
    assert_int_equal(axion_client_peek(stage->client, &event),
                     AXION_ERR_PROTOCOL);
    assert_int_equal(axion_client_service(stage->client), AXION_ERR_PROTOCOL);
    assert_int_equal(axion_client_submit(stage->client, "x", 1, 1, NULL, &id),
                     AXION_ERR_PROTOCOL);
    assert_int_equal(axion_client_arm(stage->client), 0);
    axion_client_cancel(stage->client, stage->id);
    axion_client_topup(stage->client, stage->id, 1);
    stage_close(stage);
}


static void
test_wrong_streams(void **state)
{
    struct stage stage;
    struct axion_cqe cqe;

    (void)state;
    for (int op = AXION_CQ_ACCEPTED; op <= AXION_CQ_ERROR; op++) {
        stage_open(&stage);
        cqe = record_for(&stage, op);
        cqe.stream = op % 2 ? 8 : UINT32_MAX;
        raw_cqe(&stage.raw, &cqe);
        expect_broken(&stage, "event for a slot that does not exist");

        stage_open(&stage);
        cqe = record_for(&stage, op);
        cqe.stream = 5;
        raw_cqe(&stage.raw, &cqe);
        expect_broken(&stage, "event for a stream that is not open");

        stage_open(&stage);
        cqe = record_for(&stage, op);
        cqe.generation += op % 2 ? 1 : -1u;
        raw_cqe(&stage.raw, &cqe);
        expect_broken(&stage, "event for a stream that is not open");
    }

    /* DONE twice. */
    struct axion_event event;
    stage_open(&stage);
    cqe = record_for(&stage, AXION_CQ_DONE);
    cqe.done.reason = AXION_FINISH_STOP;
    raw_cqe(&stage.raw, &cqe);
    raw_cqe(&stage.raw, &cqe);
    assert_int_equal(axion_client_peek(stage.client, &event), AXION_OK);
    axion_client_advance(stage.client);
    expect_broken(&stage, "event for a stream that is not open");
}


static void
test_wrong_records(void **state)
{
    static const uint8_t ops[] = {0, 7, 8, 255};
    static const uint16_t spans[] = {1, 3, 4, 63, 64, UINT16_MAX};
    static const uint32_t reasons[] = {0, 5, UINT32_MAX};
    struct stage stage;
    struct axion_cqe cqe;

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        stage_open(&stage);
        cqe = record_for(&stage, ops[i]);
        raw_cqe(&stage.raw, &cqe);
        expect_broken(&stage, "unknown event");
    }
    for (int op = AXION_CQ_ACCEPTED; op <= AXION_CQ_ERROR; op++) {
        for (size_t i = 0; i < 6; i++) {
            stage_open(&stage);
            cqe = record_for(&stage, op);
            cqe.span = spans[i];
            raw_cqe(&stage.raw, &cqe);
            expect_broken(&stage,
                          "event that is longer than what was published");
        }
        stage_open(&stage);
        cqe = record_for(&stage, op);
        cqe.flags = 128;
        raw_cqe(&stage.raw, &cqe);
        expect_broken(&stage, "event with unknown flags");
    }
    for (size_t i = 0; i < 3; i++) {
        stage_open(&stage);
        cqe = record_for(&stage, AXION_CQ_DONE);
        cqe.done.reason = reasons[i];
        raw_cqe(&stage.raw, &cqe);
        expect_broken(&stage, "DONE with an unknown reason");
    }
    stage_open(&stage);
    cqe = record_for(&stage, AXION_CQ_PROGRESS);
    cqe.payload_bytes = 1;
    raw_cqe(&stage.raw, &cqe);
    expect_broken(&stage, "payload where there is none");
}


static void
tokens_break(uint16_t n_tokens, uint32_t text_bytes, uint16_t ext_bytes,
             uint32_t payload_bytes, uint16_t span, const char *why)
{
    struct stage stage;
    struct axion_cqe cqe;

    stage_open(&stage);
    cqe = record_for(&stage, AXION_CQ_TOKENS);
    cqe.tokens.n_tokens = n_tokens;
    cqe.tokens.text_bytes = text_bytes;
    cqe.tokens.ext_bytes = ext_bytes;
    cqe.payload_bytes = payload_bytes;
    cqe.span = span;
    for (int i = 0; i < 3; i++) {
        stage.raw.map.cq[(stage.raw.index + 1 + (uint32_t)i) & 63] =
            (struct axion_cqe){0};
    }
    stage.raw.map.cq[stage.raw.index & 63] = cqe;
    stage.raw.index += 1u + (span < 4 ? span : 0);
    axion_index_publish(&stage.raw.map.region->cq_tail, stage.raw.index);
    expect_broken(&stage, why);
}


static void
test_wrong_tokens(void **state)
{
    const char *disagree = "TOKENS whose lengths disagree";
    struct stage stage;
    struct axion_cqe cqe;

    (void)state;
    tokens_break(0, 0, 0, 0, 0, disagree);
    tokens_break(1, 0, 0, 0, 0, disagree);
    tokens_break(1, 0, 0, 3, 0, disagree);
    tokens_break(1, 28, 0, 33, 0, disagree);
    tokens_break(1, 29, 0, 33, 0, disagree);   /* needs one more record */
    tokens_break(1, 28, 0, 32, 1, disagree);   /* has one too many */
    tokens_break(1, 400, 0, 404, 3, disagree); /* needs more than that */
    tokens_break(UINT16_MAX, UINT32_MAX, UINT16_MAX, 31, 0, disagree);
    tokens_break(UINT16_MAX, 0, 0, 4 * UINT16_MAX, 0, disagree);
    tokens_break(0, UINT32_MAX - 3, 0, UINT32_MAX - 3, 0, disagree);
    tokens_break(1, UINT32_MAX - 3, 0, 0, 0, disagree); /* the sum wraps */

    stage_open(&stage);
    cqe = record_for(&stage, AXION_CQ_TOKENS);
    cqe.payload_bytes = cqe.tokens.text_bytes = 2;
    memcpy(cqe.tokens.payload, "\xc3\x28", 2);
    raw_cqe(&stage.raw, &cqe);
    expect_broken(&stage, "TOKENS whose text is not UTF-8");

    stage_open(&stage);
    cqe = record_for(&stage, AXION_CQ_TOKENS);
    cqe.payload_bytes = cqe.tokens.text_bytes = 2;
    cqe.tokens.position = 1;
    raw_cqe(&stage.raw, &cqe);
    expect_broken(&stage, "TOKENS out of order");

    stage_open(&stage);
    assert_int_equal(
        axion_client_submit(stage.client, "x", 1, 1, NULL, &stage.id),
        AXION_OK);
    cqe = record_for(&stage, AXION_CQ_TOKENS);
    cqe.payload_bytes = cqe.tokens.text_bytes = 2;
    raw_cqe(&stage.raw, &cqe);
    expect_broken(&stage, "TOKENS before ACCEPTED");
}


static void
test_wrong_errors(void **state)
{
    static const uint32_t numbers[] = {0, UINT32_MAX, 1, 99999};
    struct axion_event event;
    struct stage stage;
    struct axion_cqe cqe;

    (void)state;
    stage_open(&stage);
    cqe = record_for(&stage, AXION_CQ_ERROR);
    cqe.error.text_bytes = 10;
    raw_cqe(&stage.raw, &cqe);
    expect_broken(&stage, "ERROR whose lengths disagree");

    stage_open(&stage);
    cqe = record_for(&stage, AXION_CQ_ERROR);
    cqe.payload_bytes = cqe.error.text_bytes = 33;
    raw_cqe(&stage.raw, &cqe);
    expect_broken(&stage, "ERROR whose lengths disagree");

    stage_open(&stage);
    cqe = record_for(&stage, AXION_CQ_ERROR);
    cqe.payload_bytes = cqe.error.text_bytes = 3;
    memset(cqe.error.payload, 0xff, 3);
    raw_cqe(&stage.raw, &cqe);
    expect_broken(&stage, "ERROR whose text is not UTF-8");

    /* Numbers that are no error never look like success. */
    for (size_t i = 0; i < 4; i++) {
        stage_open(&stage);
        cqe = record_for(&stage, AXION_CQ_ERROR);
        cqe.error.error = numbers[i];
        raw_cqe(&stage.raw, &cqe);
        assert_int_equal(axion_client_peek(stage.client, &event), AXION_OK);
        assert_int_equal(event.error.error, AXION_ERR_INTERNAL);
        stage_close(&stage);
    }
}


static void
test_indexes(void **state)
{
    static const uint32_t away[] = {65, 1000, 1u << 31, -1u, -64u};
    struct stage stage;

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        stage_open(&stage);
        axion_index_publish(&stage.raw.map.region->cq_tail,
                            stage.raw.index + away[i]);
        assert_int_equal(axion_client_arm(stage.client), 1);
        expect_broken(&stage, "cq_tail outside the ring");
    }
    /* sq_head: looked at when the SQ or the arena seems full. */
    for (size_t i = 0; i < 5; i++) {
        axion_stream_id id;
        int rc = AXION_OK;

        stage_open(&stage);
        axion_index_publish(&stage.raw.map.region->sq_head,
                            AXION_INDEX_START + away[i]);
        for (int n = 0; n < 20 && rc == AXION_OK; n++) {
            axion_client_topup(stage.client, stage.id, 1);
            rc = axion_client_submit(stage.client, "x", 1, 1, NULL, &id);
            rc = rc == AXION_ERR_NO_STREAM_SLOT ? AXION_OK : rc;
        }
        assert_int_equal(rc, AXION_ERR_PROTOCOL);
        expect_broken(&stage, "sq_head outside the records in flight");
    }
}


/* Looking twice shows the same, whatever the engine wrote in between. */
static void
test_record_changed_after_it_was_taken(void **state)
{
    struct axion_event event;
    struct stage stage;

    (void)state;
    stage_open(&stage);
    struct axion_cqe cqe = record_for(&stage, AXION_CQ_TOKENS);
    cqe.payload_bytes = cqe.tokens.text_bytes = 5;
    memcpy(cqe.tokens.payload, "hello", 5);
    raw_cqe(&stage.raw, &cqe);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(axion_client_peek(stage.client, &event), AXION_OK);
        assert_int_equal(event.op, AXION_CQ_TOKENS);
        assert_ptr_equal(event.user, &stage);
        assert_int_equal(event.tokens.text_bytes, 5);
        assert_memory_equal(event.tokens.text, "hello", 5);
        memset(stage.raw.map.cq, 0xff, 64 * 64);
    }
    stage_close(&stage);
}


static void
test_published_events_outlive_the_engine(void **state)
{
    struct axion_event event;
    struct stage stage;
    axion_stream_id id;

    (void)state;
    stage_open(&stage);
    struct axion_cqe cqe = record_for(&stage, AXION_CQ_DONE);
    cqe.done.reason = AXION_FINISH_STOP;
    raw_cqe(&stage.raw, &cqe);
    raw_close(&stage.raw);
    assert_int_equal(axion_client_service(stage.client), AXION_ERR_ENGINE_LOST);
    assert_int_equal(axion_client_submit(stage.client, "x", 1, 1, NULL, &id),
                     AXION_ERR_ENGINE_UNAVAILABLE);
    axion_client_cancel(stage.client, stage.id);
    assert_int_equal(axion_client_peek(stage.client, &event), AXION_OK);
    assert_int_equal(event.op, AXION_CQ_DONE);
    axion_client_advance(stage.client);
    assert_int_equal(axion_client_peek(stage.client, &event), AXION_AGAIN);
    assert_int_equal(axion_client_arm(stage.client), 0);
    assert_int_equal(axion_client_service(stage.client), AXION_ERR_ENGINE_LOST);
    axion_client_close(stage.client);
}


/* ---- at random ---- */

static void
scribble(struct stage *stage, uint64_t *random)
{
    struct raw *raw = &stage->raw;
    struct axion_index *const indexes[] = {
        &raw->map.region->sq_tail, &raw->map.region->sq_head,
        &raw->map.region->cq_tail, &raw->map.region->cq_head};
    uint64_t dice = next_random(random);

    if (dice % 32 == 0) {
        axion_index_publish(indexes[(dice >> 8) % 4], (uint32_t)(dice >> 32));
        axion_need_wakeup_set(&raw->map.region->sq_need_wakeup, dice);
        axion_need_wakeup_set(&raw->map.region->cq_need_wakeup, dice);
    } else if (dice % 32 == 1) {
        axion_index_publish(indexes[(dice >> 8) % 4],
                            raw->index + (uint32_t)(dice >> 40) % 80 - 8);
    } else if (dice % 32 < 5) {
        axion_index_publish(&raw->map.region->sq_head,
                            axion_index_load(&raw->map.region->sq_tail));
    } else {
        struct axion_cqe cqe = record_for(stage, 1 + (dice >> 8) % 6);
        cqe.stream = (uint32_t)(dice >> 16) % 8;
        cqe.generation += (dice >> 20) % 64 == 0;
        cqe.done.reason = 1 + (dice >> 24) % 4;
        if (cqe.op == AXION_CQ_TOKENS) {
            cqe.span = (uint16_t)((dice >> 32) % 4);
            cqe.payload_bytes = (uint32_t)(dice >> 36) % 300;
            cqe.tokens.n_tokens = (uint16_t)((dice >> 45) % 4);
            cqe.tokens.position = 0;
            cqe.tokens.text_bytes =
                cqe.payload_bytes - 4u * cqe.tokens.n_tokens;
        }
        raw_cqe(raw, &cqe);
    }
}


/* What a worker does in a turn; 0 when the channel is broken. */
static int
client_turn(struct stage *stage, uint64_t *random)
{
    struct axion_event event;
    axion_stream_id id;
    int rc;

    for (int i = 0; i < 200; i++) {
        rc = axion_client_peek(stage->client, &event);
        if (rc != AXION_OK) {
            break;
        }
        if (event.op == AXION_CQ_TOKENS) {
            assert_true(
                axion_utf8_valid(event.tokens.text, event.tokens.text_bytes));
        }
        axion_client_advance(stage->client);
    }
    for (int i = 0; i < 4; i++) {
        char payload[500] = {0};
        size_t bytes = next_random(random) % sizeof(payload);

        if (axion_client_submit(stage->client, payload, bytes, 1, NULL, &id) ==
            AXION_OK) {
            stage->id = id;
        }
        axion_client_pause(stage->client, stage->id - (uint64_t)i);
        axion_client_topup(stage->client, stage->id, 1);
        if (next_random(random) % 8 == 0) {
            axion_client_cancel(stage->client, stage->id);
        }
    }
    axion_client_arm(stage->client);
    rc = axion_client_service(stage->client);
    assert_true(rc == AXION_OK || rc == AXION_ERR_PROTOCOL);
    return rc == AXION_OK;
}


static void
test_random_writes(void **state)
{
    uint64_t random = test_seed();
    int broken = 0;

    (void)state;
    int fds = open_fds();
    for (int round = 0; round < ROUNDS; round++) {
        struct stage stage;

        stage_open(&stage);
        for (int i = 0; i < ACTIONS; i++) {
            scribble(&stage, &random);
            if (next_random(&random) % 4 == 0 &&
                !client_turn(&stage, &random)) {
                assert_string_not_equal(axion_client_why(stage.client), "");
                broken++;
                break;
            }
        }
        stage_close(&stage);
    }
    assert_int_equal(open_fds(), fds);
    assert_int_equal(ring_maps(), 0);
    assert_true(broken > ROUNDS / 2);
    print_message("%d of %d channels broken\n", broken, ROUNDS);
}


/* ---- while the client reads ---- */

struct racer {
    struct stage own; /* of the thread: the client's side moves on */
    int stop;
};


static void *
race(void *context)
{
    struct racer *racer = context;
    struct raw *raw = &racer->own.raw;
    uint64_t random = test_seed();

    while (!__atomic_load_n(&racer->stop, __ATOMIC_RELAXED)) {
        uint64_t dice = next_random(&random);
        uint32_t *word = (uint32_t *)raw->map.cq + dice % (64 * 16);

        if (dice >> 60 == 0) {
            scribble(&racer->own, &random);
        } else {
            __atomic_store_n(word, (uint32_t)(dice >> 30) & 0x00030303,
                             __ATOMIC_RELAXED);
        }
    }
    return NULL;
}


static void
test_writes_while_the_client_reads(void **state)
{
    uint64_t random = test_seed() + 1;

    (void)state;
    for (int round = 0; round < ROUNDS / 4; round++) {
        struct stage stage;
        struct racer racer = {0};
        pthread_t thread;

        stage_open(&stage);
        racer.own = stage;
        assert_int_equal(pthread_create(&thread, NULL, race, &racer), 0);
        for (int i = 0; i < ACTIONS; i++) {
            if (!client_turn(&stage, &random)) {
                break;
            }
        }
        __atomic_store_n(&racer.stop, 1, __ATOMIC_RELAXED);
        pthread_join(thread, NULL);
        stage_close(&stage);
    }
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_streams),
        cmocka_unit_test(test_wrong_records),
        cmocka_unit_test(test_wrong_tokens),
        cmocka_unit_test(test_wrong_errors),
        cmocka_unit_test(test_indexes),
        cmocka_unit_test(test_record_changed_after_it_was_taken),
        cmocka_unit_test(test_published_events_outlive_the_engine),
        cmocka_unit_test(test_random_writes),
        cmocka_unit_test(test_writes_while_the_client_reads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
