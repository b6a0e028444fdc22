/* A client that writes whatever it may write, into the region and onto the
 * socket: directed at every check of the engine's end, then at random, then
 * while the engine reads.  The channel breaks with a reason or goes on, and
 * nothing else happens (ASan and UBSan watch). */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "shm/channel_private.h"
#include "tests/shm/pair.h"

#define ROUNDS  400
#define ACTIONS 300


static struct axion_sqe
good_submit(void)
{
    return (struct axion_sqe){
        .op = AXION_SQ_SUBMIT, .generation = 1, .payload_bytes = 10};
}


/* The channel says why, keeps saying it, and sleeps after it was heard. */
static void
expect_broken(struct axion_channel *channel, const char *why)
{
    struct axion_command command;

    assert_int_equal(axion_channel_next(channel, &command), AXION_ERR_PROTOCOL);
    assert_string_equal(axion_channel_why(channel), why);
    assert_int_equal(axion_channel_next(channel, &command), AXION_ERR_PROTOCOL);
    assert_int_equal(axion_channel_flush(channel), AXION_ERR_PROTOCOL);
    assert_int_equal(axion_channel_service(channel), AXION_ERR_PROTOCOL);
    assert_int_equal(axion_channel_arm(channel), 0);
}


static void
record_breaks(const struct axion_sqe *sqe, const char *why)
{
    struct axion_channel *channel;
    struct raw raw;

    raw_client_open(&raw, &channel);
    raw_sqe(&raw, sqe);
    expect_broken(channel, why);
    axion_channel_close(channel);
    raw_close(&raw);
}


static void
test_records(void **state)
{
    static const uint8_t ops[] = {0, 6, 7, 128, 255};
    static const uint32_t slots[] = {8, 9, 1u << 31, UINT32_MAX};
    struct axion_sqe sqe;

    (void)state;
    for (size_t i = 0; i < sizeof(ops); i++) {
        sqe = good_submit();
        sqe.op = ops[i];
        record_breaks(&sqe, "unknown command");
    }
    for (int op = AXION_SQ_SUBMIT; op <= AXION_SQ_TOPUP; op++) {
        for (size_t i = 0; i < 4; i++) {
            sqe = good_submit();
            sqe.op = (uint8_t)op;
            sqe.stream = slots[i];
            record_breaks(&sqe, "command for a slot that does not exist");
        }
    }
    sqe = good_submit();
    sqe.flags = 1;
    record_breaks(&sqe, "command with unknown flags");
    sqe = good_submit();
    sqe.generation = 0;
    record_breaks(&sqe, "SUBMIT with a generation out of order");
}


static void
test_payload_bounds(void **state)
{
    struct {
        uint32_t offset;
        uint32_t bytes;
    } const outside[] = {
        {0, 65537},
        {64, 65536},
        {65536, 1},
        {65472, 65},
        {0, UINT32_MAX},
        {UINT32_MAX - 63, 64},
        {UINT32_MAX - 63, UINT32_MAX},
        {1u << 31, 1u << 31},
    };
    struct axion_sqe sqe = good_submit();

    (void)state;
    for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
        sqe.payload_offset = outside[i].offset;
        sqe.payload_bytes = outside[i].bytes;
        record_breaks(&sqe, "SUBMIT whose payload is out of bounds");
    }
    sqe = good_submit();
    for (uint32_t offset = 1; offset < 64; offset++) {
        sqe.payload_offset = offset;
        record_breaks(&sqe, "SUBMIT whose payload is not aligned");
    }
}


static void
test_indexes(void **state)
{
    static const uint32_t tails[] = {17, 18, 1000, 1u << 31, UINT32_MAX};
    static const uint32_t heads[] = {3, 100, 1u << 31, UINT32_MAX};
    struct axion_command command;
    struct axion_channel *channel;
    struct raw raw;

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        raw_client_open(&raw, &channel);
        axion_index_publish(&raw.map.region->sq_tail, tails[i]);
        assert_int_equal(axion_channel_arm(channel), 1);
        expect_broken(channel, "sq_tail outside the ring");
        axion_channel_close(channel);
        raw_close(&raw);
    }
    for (size_t i = 0; i < 4; i++) {
        const struct axion_cq_done done = {.reason = AXION_FINISH_STOP};
        struct axion_sqe sqe = good_submit();

        raw_client_open(&raw, &channel);
        raw_sqe(&raw, &sqe);
        assert_int_equal(axion_channel_next(channel, &command), AXION_OK);
        axion_channel_done(channel, command.id, &done);
        axion_channel_flush(channel);
        axion_index_publish(&raw.map.region->cq_head, heads[i]);
        sqe.generation = 2;
        raw_sqe(&raw, &sqe);
        expect_broken(channel, "cq_head outside the records in flight");
        axion_channel_close(channel);
        raw_close(&raw);
    }
}


/* cq_head forward, then back: credit may not come twice. */
static void
test_cq_head_moves_back(void **state)
{
    const struct axion_cq_accepted accepted = {0};
    const uint32_t token = 1;
    struct axion_command command;
    struct axion_channel *channel;
    struct axion_sqe sqe = good_submit();
    char text[200];
    struct raw raw;

    (void)state;
    memset(text, 'x', sizeof(text));
    raw_client_open(&raw, &channel);
    raw_sqe(&raw, &sqe);
    assert_int_equal(axion_channel_next(channel, &command), AXION_OK);
    axion_channel_accepted(channel, command.id, &accepted);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(axion_channel_tokens(channel, command.id, &token, 1,
                                              text, sizeof(text), NULL, 0),
                         AXION_OK);
    }
    assert_int_equal(axion_channel_flush(channel), 1);
    axion_index_publish(&raw.map.region->cq_head, 2);
    assert_int_equal(axion_channel_flush(channel), 1);
    axion_index_publish(&raw.map.region->cq_head, 1);
    assert_int_equal(axion_channel_flush(channel), AXION_ERR_PROTOCOL);
    expect_broken(channel, "cq_head outside the records in flight");
    axion_channel_close(channel);
    raw_close(&raw);
}


static void
test_submit_on_a_slot_in_use(void **state)
{
    const struct axion_cq_done done = {.reason = AXION_FINISH_STOP};
    struct axion_command command;
    struct axion_channel *channel;
    struct axion_sqe sqe = good_submit();
    struct raw raw;

    (void)state;
    for (int step = 0; step < 3; step++) {
        raw_client_open(&raw, &channel);
        sqe.generation = 1;
        raw_sqe(&raw, &sqe);
        assert_int_equal(axion_channel_next(channel, &command), AXION_OK);
        if (step > 0) {
            axion_channel_done(channel, command.id, &done);
        }
        if (step > 1) {
            axion_channel_flush(channel);
        }
        sqe.generation = 2;
        raw_sqe(&raw, &sqe);
        expect_broken(channel,
                      step > 1
                          ? "SUBMIT on a slot whose last event was not taken"
                          : "SUBMIT on a slot that is in use");
        axion_channel_close(channel);
        raw_close(&raw);
    }
}


static void
test_generations_must_follow(void **state)
{
    static const uint32_t wrong[] = {5, 7, 4, 0, UINT32_MAX};
    const struct axion_cq_done done = {.reason = AXION_FINISH_STOP};
    struct axion_command command;
    struct axion_channel *channel;
    struct raw raw;

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        struct axion_sqe sqe = good_submit();

        raw_client_open(&raw, &channel);
        sqe.generation = 5;
        raw_sqe(&raw, &sqe);
        assert_int_equal(axion_channel_next(channel, &command), AXION_OK);
        axion_channel_done(channel, command.id, &done);
        axion_channel_flush(channel);
        axion_index_publish(&raw.map.region->cq_head, 1);
        sqe.generation = wrong[i];
        raw_sqe(&raw, &sqe);
        expect_broken(channel, "SUBMIT with a generation out of order");
        axion_channel_close(channel);
        raw_close(&raw);
    }
}


/* Records for streams that are not open cost one ring of them per call. */
static void
test_stale_records_without_end(void **state)
{
    struct axion_command command;
    struct axion_channel *channel;
    struct raw raw;

    (void)state;
    raw_client_open(&raw, &channel);
    for (int round = 0; round < 100; round++) {
        struct axion_sqe sqe = {.op = (uint8_t)(2 + round % 4),
                                .stream = (uint32_t)round % 8,
                                .generation = (uint32_t)round};

        for (int i = 0; i < 16; i++) {
            raw_sqe(&raw, &sqe);
        }
        assert_int_equal(axion_channel_next(channel, &command), AXION_AGAIN);
        assert_int_equal(axion_index_load(&raw.map.region->sq_head), raw.index);
    }
    axion_channel_close(channel);
    raw_close(&raw);
}


/* The copy that a command carries stays as it was taken. */
static void
test_payload_changed_after_it_was_taken(void **state)
{
    struct axion_command command;
    struct axion_channel *channel;
    struct axion_sqe sqe = good_submit();
    struct raw raw;

    (void)state;
    raw_client_open(&raw, &channel);
    memset(raw.map.arena, 'a', 10);
    raw_sqe(&raw, &sqe);
    assert_int_equal(axion_channel_next(channel, &command), AXION_OK);
    memset(raw.map.arena, 'b', 10);
    memset(raw.map.sq, 0xff, 64);
    assert_int_equal(command.payload_bytes, 10);
    assert_memory_equal(command.payload, "aaaaaaaaaa", 10);
    axion_channel_close(channel);
    raw_close(&raw);
}


static void
test_flood_of_doorbells(void **state)
{
    struct axion_channel *channel;
    struct raw raw;
    int sent = 0;

    (void)state;
    raw_client_open(&raw, &channel);
    while (send(raw.fd, "", 1, MSG_DONTWAIT) == 1) {
        sent++;
    }
    print_message("the socket took %d doorbells\n", sent);
    assert_int_equal(axion_channel_service(channel), AXION_OK);
    assert_int_equal(axion_channel_service(channel), AXION_OK);
    axion_channel_close(channel);
    raw_close(&raw);
}


/* ---- at random ---- */

static void
scribble(struct raw *raw, uint64_t *random)
{
    struct axion_index *const indexes[] = {
        &raw->map.region->sq_tail, &raw->map.region->sq_head,
        &raw->map.region->cq_tail, &raw->map.region->cq_head};
    uint64_t dice = next_random(random);
    struct axion_sqe sqe;

    switch (dice % 16) {
    case 0:
        axion_index_publish(indexes[(dice >> 8) % 4], (uint32_t)(dice >> 32));
        axion_need_wakeup_set(&raw->map.region->sq_need_wakeup, dice);
        axion_need_wakeup_set(&raw->map.region->cq_need_wakeup, dice);
        break;
    case 1:
        axion_index_publish(indexes[(dice >> 8) % 4],
                            raw->index + (uint32_t)(dice >> 40) % 32 - 16);
        break;
    case 2:
        memset((uint8_t *)raw->map.cq + (dice >> 8) % 4096, (int)dice, 64);
        break;
    case 3: /* an honest client's part: it has read all */
        axion_index_publish(&raw->map.region->cq_head,
                            axion_index_load(&raw->map.region->cq_tail));
        break;
    case 4:
        send(raw->fd, "xy", dice >> 63 ? 1 : 2, MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
    default:
        memset(&sqe, 0, sizeof(sqe));
        sqe.op = (uint8_t)((dice >> 8) % 64 == 0 ? dice >> 16
                                                 : 1 + (dice >> 16) % 5);
        sqe.stream = (uint32_t)((dice >> 24) % 9);
        sqe.stream -= sqe.stream == 8 && (dice >> 32) % 8 != 0;
        sqe.generation = 1 + (uint32_t)((dice >> 40) % 3);
        sqe.payload_bytes =
            (uint32_t)next_random(random) >> ((dice >> 48) % 32);
        sqe.payload_offset =
            ((uint32_t)next_random(random) >> ((dice >> 56) % 32)) & ~63u;
        sqe.lease_tokens = next_random(random);
        raw_sqe(raw, &sqe);
    }
}


static void
speak(void *context, axion_stream_id id, void *user)
{
    struct {
        struct axion_channel *channel;
        uint64_t random;
    } *c = context;
    const struct axion_cq_accepted accepted = {0};
    const struct axion_cq_done done = {.reason = AXION_FINISH_CANCELLED};
    const uint32_t tokens[3] = {1, 2, 3};
    static const char text[100] = {'t'};
    uint64_t dice = next_random(&c->random);

    (void)user;
    if (dice % 8 == 0) {
        axion_channel_done(c->channel, id, &done);
    } else if (dice % 8 == 1) {
        axion_channel_error(c->channel, id, AXION_ERR_INTERNAL, 0, "why not");
    } else {
        axion_channel_accepted(c->channel, id, &accepted);
        axion_channel_tokens(c->channel, id, tokens, dice % 4, text,
                             (uint32_t)(dice >> 8) % 100, NULL, 0);
    }
}


/* What an engine does in a turn; 0 when the channel is broken. */
static int
engine_turn(struct axion_channel *channel, uint64_t *random)
{
    struct {
        struct axion_channel *channel;
        uint64_t random;
    } context = {channel, next_random(random)};
    struct axion_command command;
    uint64_t sum = 0;
    int rc;

    for (int i = 0; i < 100; i++) {
        rc = axion_channel_next(channel, &command);
        if (rc != AXION_OK) {
            break;
        }
        for (size_t k = 0; k < command.payload_bytes; k++) {
            sum += ((const uint8_t *)command.payload)[k];
        }
    }
    __asm__ volatile("" : : "r"(sum));
    axion_channel_each(channel, speak, &context);
    axion_channel_flush(channel);
    axion_channel_arm(channel);
    rc = axion_channel_service(channel);
    assert_true(rc == AXION_OK || rc == AXION_ERR_PROTOCOL);
    return rc == AXION_OK;
}


static void
test_random_writes(void **state)
{
    uint64_t random = test_seed();
    int broken = 0;
    long turns = 0;

    (void)state;
    int fds = open_fds();
    for (int round = 0; round < ROUNDS; round++) {
        struct axion_channel *channel;
        struct raw raw;

        raw_client_open(&raw, &channel);
        for (int i = 0; i < ACTIONS; i++) {
            scribble(&raw, &random);
            if (next_random(&random) % 4 == 0) {
                turns++;
                if (!engine_turn(channel, &random)) {
                    assert_string_not_equal(axion_channel_why(channel), "");
                    broken++;
                    break;
                }
            }
        }
        axion_channel_close(channel);
        raw_close(&raw);
    }
    assert_int_equal(open_fds(), fds);
    assert_int_equal(ring_maps(), 0);
    assert_true(broken > ROUNDS / 2);
    print_message("%d of %d channels broken, in %ld turns\n", broken, ROUNDS,
                  turns);
}


/* ---- an honest client that lies now and then ---- */

struct liar {
    struct raw raw;
    uint32_t cq_head;
    uint32_t generations[8];
    uint8_t open[8];
};


/* Reads its events as a client should; slots of DONE and ERROR are free. */
static void
read_events(struct liar *liar)
{
    struct axion_index *head = &liar->raw.map.region->cq_head;
    uint32_t tail = axion_index_load(&liar->raw.map.region->cq_tail);

    /* Its own lies may have made the records senseless. */
    while ((int32_t)(tail - liar->cq_head) > 0) {
        const struct axion_cqe *cqe = &liar->raw.map.cq[liar->cq_head & 63];

        if (cqe->op == AXION_CQ_DONE || cqe->op == AXION_CQ_ERROR) {
            liar->open[cqe->stream % 8] = 0;
        }
        liar->cq_head += 1u + cqe->span;
    }
    axion_index_publish(head, liar->cq_head);
}


static void
act_honestly(struct liar *liar, uint64_t *random)
{
    uint64_t dice = next_random(random);
    uint32_t slot = dice % 8;
    struct axion_sqe sqe = {.stream = slot};

    if (dice % 3 == 0) {
        read_events(liar);
    }
    if (liar->raw.index - axion_index_load(&liar->raw.map.region->sq_head) >=
        liar->raw.geometry.sq_entries) {
        return;
    }
    if (!liar->open[slot]) {
        liar->open[slot] = 1;
        liar->generations[slot]++;
        sqe.op = AXION_SQ_SUBMIT;
        sqe.payload_offset = 64 * (uint32_t)((dice >> 8) % 512);
        sqe.payload_bytes = (uint32_t)(dice >> 20) % 32768;
    } else {
        sqe.op = (uint8_t)(2 + (dice >> 8) % 4);
    }
    sqe.generation = liar->generations[slot];
    raw_sqe(&liar->raw, &sqe);
}


/* So the lies meet channels that have lived: full of streams, with output
 * that waits and slots used many times. */
static void
test_lies_now_and_then(void **state)
{
    uint64_t random = test_seed() + 2;
    int broken = 0;
    long turns = 0;

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t one_in = 16u << round % 8;
        struct axion_channel *channel;
        struct liar liar = {0};

        raw_client_open(&liar.raw, &channel);
        for (int i = 0; i < 3 * ACTIONS; i++) {
            if (next_random(&random) % one_in == 0) {
                scribble(&liar.raw, &random);
            } else {
                act_honestly(&liar, &random);
            }
            if (next_random(&random) % 4 == 0) {
                turns++;
                if (!engine_turn(channel, &random)) {
                    broken++;
                    break;
                }
            }
        }
        axion_channel_close(channel);
        raw_close(&liar.raw);
    }
    print_message("%d of %d channels broken, in %ld turns\n", broken, ROUNDS,
                  turns);
    assert_in_range(broken, ROUNDS / 8, ROUNDS);
    assert_true(turns > 10 * ROUNDS);
}


/* An honest client is never called a liar. */
static void
test_honest_raw_client(void **state)
{
    uint64_t random = test_seed() + 3;
    struct axion_channel *channel;
    struct liar liar = {0};

    (void)state;
    raw_client_open(&liar.raw, &channel);
    for (int i = 0; i < 100 * ACTIONS; i++) {
        act_honestly(&liar, &random);
        if (next_random(&random) % 4 == 0) {
            assert_true(engine_turn(channel, &random));
        }
    }
    axion_channel_close(channel);
    raw_close(&liar.raw);
}


/* ---- while the engine reads ---- */

struct racer {
    struct raw *raw;
    int stop;
};


static void *
race(void *context)
{
    struct racer *racer = context;
    uint64_t random = test_seed();
    struct raw *raw = racer->raw;

    while (!__atomic_load_n(&racer->stop, __ATOMIC_RELAXED)) {
        uint64_t dice = next_random(&random);
        uint32_t *word =
            (uint32_t *)raw->map.sq + dice % (raw->map.bytes / 4 - 1024);

        if (dice >> 60 == 0) {
            scribble(raw, &random);
        } else {
            __atomic_store_n(word, (uint32_t)(dice >> 30) & 0x00ff0707,
                             __ATOMIC_RELAXED);
        }
    }
    return NULL;
}


static void
test_writes_while_the_engine_reads(void **state)
{
    uint64_t random = test_seed() + 1;

    (void)state;
    for (int round = 0; round < ROUNDS / 4; round++) {
        struct axion_channel *channel;
        struct racer racer = {0};
        struct raw raw;
        pthread_t thread;

        raw_client_open(&raw, &channel);
        racer.raw = &raw;
        assert_int_equal(pthread_create(&thread, NULL, race, &racer), 0);
        for (int i = 0; i < ACTIONS; i++) {
            if (!engine_turn(channel, &random)) {
                break;
            }
        }
        __atomic_store_n(&racer.stop, 1, __ATOMIC_RELAXED);
        pthread_join(thread, NULL);
        axion_channel_close(channel);
        raw_close(&raw);
    }
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records),
        cmocka_unit_test(test_payload_bounds),
        cmocka_unit_test(test_indexes),
        cmocka_unit_test(test_cq_head_moves_back),
        cmocka_unit_test(test_submit_on_a_slot_in_use),
        cmocka_unit_test(test_generations_must_follow),
        cmocka_unit_test(test_stale_records_without_end),
        cmocka_unit_test(test_payload_changed_after_it_was_taken),
        cmocka_unit_test(test_flood_of_doorbells),
        cmocka_unit_test(test_random_writes),
        cmocka_unit_test(test_honest_raw_client),
        cmocka_unit_test(test_lies_now_and_then),
        cmocka_unit_test(test_writes_while_the_engine_reads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
