/* Wake-ups, one race at a time: one side publishes in the very moment when
 * the other goes to sleep, with all small offsets between them.  Whoever was
 * told to sleep must have a doorbell.  Without the fences this fails at
 * once on x86; the model in wakeup.pml says why.  Besides: how many
 * doorbells are rung, and for whom. */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include "shm/channel_private.h"
#include "shm/client_private.h"
#include "tests/shm/pair.h"

#define RACES    60000
#define RACES_S  60 /* then no more: both need the cores for each */
#define LEAD_MAX 100000


/* Doorbells that wait in a side's socket; they are taken off. */
static int
doorbells(int fd)
{
    char byte;
    int n = 0;

    while (recv(fd, &byte, 1, MSG_DONTWAIT) == 1) {
        n++;
    }
    return n;
}


static void
test_awake_peers_are_not_rung(void **state)
{
    struct axion_event event;
    struct pair pair;

    (void)state;
    pair_open(&pair, NULL, NULL);
    for (int i = 0; i < 10; i++) {
        axion_stream_id id = pair_submit(&pair, "x");
        axion_client_pause(pair.client, id);
        pair_done(&pair, id);
        axion_channel_flush(pair.channel);
        pair_event(&pair);
        pair_event(&pair);
    }
    assert_int_equal(axion_client_peek(pair.client, &event), AXION_AGAIN);
    assert_int_equal(doorbells(axion_client_fd(pair.client)), 0);
    assert_int_equal(doorbells(axion_channel_fd(pair.channel)), 0);
    pair_close(&pair);
}


static void
test_one_doorbell_per_sleep(void **state)
{
    struct axion_command command;
    struct pair pair;

    (void)state;
    pair_open(&pair, NULL, NULL);
    axion_stream_id id = pair_submit(&pair, "x");
    axion_channel_flush(pair.channel);
    pair_event(&pair);
    for (int i = 0; i < 10; i++) {
        const struct axion_cq_progress progress = {0};

        assert_int_equal(axion_channel_next(pair.channel, &command),
                         AXION_AGAIN);
        assert_int_equal(axion_client_arm(pair.client), 0);
        assert_int_equal(axion_channel_arm(pair.channel), 0);
        for (int k = 0; k < 3; k++) {
            axion_channel_progress(pair.channel, id, &progress);
            axion_channel_flush(pair.channel);
            axion_client_topup(pair.client, id, 1);
        }
        assert_int_equal(doorbells(axion_client_fd(pair.client)), 1);
        assert_int_equal(doorbells(axion_channel_fd(pair.channel)), 1);
        assert_int_equal(axion_client_arm(pair.client), 1);
        assert_int_equal(axion_channel_arm(pair.channel), 1);
        for (int k = 0; k < 3; k++) {
            assert_int_equal(axion_channel_next(pair.channel, &command),
                             AXION_OK);
            pair_event(&pair);
        }
    }
    pair_close(&pair);
}


/* The client waits for room in the SQ, the engine for credit: both are woken
 * for that, and only when they asked for it. */
/* A lazy client's submissions are there at once and ring once, when it says
 * so; its other commands do not wait for that. */
static void
test_a_lazy_client_rings_when_it_is_told(void **state)
{
    const struct axion_client_options options = {
        .streams = 8, .credit = 4, .lazy = 1};
    struct axion_command command;
    struct pair pair;
    axion_stream_id id;

    (void)state;
    pair_open(&pair, &options, NULL);
    for (int turn = 0; turn < 2; turn++) {
        while (axion_channel_next(pair.channel, &command) == AXION_OK) {
        }
        assert_int_equal(axion_channel_arm(pair.channel), 0);
        for (int k = 0; k < 3; k++)
            assert_int_equal(
                axion_client_submit(pair.client, "x", 1, 9, NULL, &id),
                AXION_OK);
        assert_int_equal(doorbells(axion_channel_fd(pair.channel)), 0);
        if (turn == 0)
            axion_client_wake(pair.client);
        else
            axion_client_cancel(pair.client, id);
        assert_int_equal(doorbells(axion_channel_fd(pair.channel)), 1);
        axion_client_wake(pair.client);
        assert_int_equal(doorbells(axion_channel_fd(pair.channel)), 0);
        for (int k = 0; k < 3 + turn; k++)
            assert_int_equal(axion_channel_next(pair.channel, &command),
                             AXION_OK);
    }
    pair_close(&pair);
}


static void
test_doorbells_for_space(void **state)
{
    const struct axion_client_options options = {
        .streams = 8, .credit = 2, .sq_entries = 16};
    struct axion_command command;
    struct axion_event event;
    struct pair pair;
    const uint32_t token = 0;

    (void)state;
    pair_open(&pair, &options, NULL);
    axion_stream_id id = pair_submit(&pair, "x");
    axion_stream_id other = pair_submit(&pair, "y");
    for (int i = 0; i < 16; i++) {
        axion_client_topup(pair.client, id, 1);
    }
    axion_client_cancel(pair.client, other);
    assert_int_equal(axion_client_arm(pair.client), 0);
    for (int i = 0; i < 16; i++) {
        assert_int_equal(axion_channel_next(pair.channel, &command), AXION_OK);
    }
    assert_int_equal(axion_channel_next(pair.channel, &command), AXION_AGAIN);
    assert_int_equal(doorbells(axion_client_fd(pair.client)), 1);
    axion_client_arm(pair.client);
    assert_int_equal(axion_channel_next(pair.channel, &command), AXION_OK);
    assert_int_equal(command.op, AXION_SQ_CANCEL);
    assert_int_equal(axion_channel_next(pair.channel, &command), AXION_AGAIN);
    assert_int_equal(doorbells(axion_client_fd(pair.client)), 0);

    axion_channel_tokens(pair.channel, id, &token, 1,
                         "more than fits one record of 32 bytes", 37, NULL, 0);
    assert_int_equal(axion_channel_flush(pair.channel), 1);
    assert_int_equal(axion_channel_arm(pair.channel), 0);
    int sleeps = 0;
    while (axion_channel_streams(pair.channel) == 2 && sleeps < 10) {
        while (axion_client_peek(pair.client, &event) == AXION_OK) {
            axion_client_advance(pair.client);
        }
        int rung = doorbells(axion_channel_fd(pair.channel));
        if (rung == 0) {
            break; /* all is out */
        }
        assert_int_equal(rung, 1);
        sleeps++;
        while (axion_channel_next(pair.channel, &command) == AXION_OK ||
               axion_channel_arm(pair.channel) != 0) {
        }
    }
    assert_in_range(sleeps, 2, 4);
    assert_int_equal(axion_channel_flush(pair.channel), 0);
    pair_close(&pair);
}


/* ---- the race ---- */

struct duel {
    struct pair pair;
    axion_stream_id id;
    int engine_sleeps; /* the engine goes to sleep, the client publishes */
    uint32_t gate;
    int slept;
    int lead; /* turns that the sleeper is let go before the publisher */
    int last; /* this race; said before both meet for it */
};


/* Both threads leave at once; a short spin, then way for others: there may
 * be one core only. */
static void
meet(struct duel *duel, uint32_t n)
{
    __atomic_add_fetch(&duel->gate, 1, __ATOMIC_ACQ_REL);
    for (int i = 0;
         (int32_t)(__atomic_load_n(&duel->gate, __ATOMIC_ACQUIRE) - n) < 0;
         i++) {
        if (i > 1000) {
            sched_yield();
        }
    }
}


static void
linger(int turns)
{
    for (int i = 0; i < turns; i++) {
        __asm__ volatile("");
    }
}


static void *
be_sleeper(void *context)
{
    struct duel *duel = context;
    uint64_t random = test_seed();
    uint32_t gate = 0;

    for (int last = 0; !last;) {
        meet(duel, gate += 2);
        last = duel->last;
        linger((int)(next_random(&random) % 32) - duel->lead);
        duel->slept = duel->engine_sleeps
                          ? axion_channel_arm(duel->pair.channel) == 0
                          : axion_client_arm(duel->pair.client) == 0;
        meet(duel, gate += 2);
    }
    return NULL;
}


static void
publish(struct duel *duel)
{
    const struct axion_cq_progress progress = {0};

    if (duel->engine_sleeps) {
        axion_client_topup(duel->pair.client, duel->id, 1);
    } else {
        axion_channel_progress(duel->pair.channel, duel->id, &progress);
        axion_channel_flush(duel->pair.channel);
    }
}


/* The record arrives in any case; a sleeper must have been rung. */
static int
settle(struct duel *duel)
{
    struct axion_command command;
    struct axion_event event;
    int fd = duel->engine_sleeps ? axion_channel_fd(duel->pair.channel)
                                 : axion_client_fd(duel->pair.client);
    int rung = doorbells(fd);

    if (duel->engine_sleeps) {
        assert_int_equal(axion_channel_next(duel->pair.channel, &command),
                         AXION_OK);
    } else {
        assert_int_equal(axion_client_peek(duel->pair.client, &event),
                         AXION_OK);
        axion_client_advance(duel->pair.client);
        axion_client_peek(duel->pair.client, &event);
    }
    return duel->slept && rung == 0;
}


/* Moves towards the point where either may come first: by larger and larger
 * steps while the same side does, by single turns around it. */
static int
aim(struct duel *duel, int step)
{
    int towards = duel->slept ? -1 : 1;

    if ((step > 0) != (towards > 0)) {
        step = towards;
    } else if (step > -LEAD_MAX / 16 && step < LEAD_MAX / 16) {
        step += (step + 3 * towards) / 4;
    }
    duel->lead += step;
    if (duel->lead > LEAD_MAX || duel->lead < -LEAD_MAX) {
        duel->lead = 0;
    }
    return step;
}


static void
fight(int engine_sleeps)
{
    struct duel duel = {.engine_sleeps = engine_sleeps};
    pthread_t thread;
    uint64_t random = test_seed() + 1;
    uint32_t gate = 0;
    int slept = 0;
    int lost = 0;
    int step = 1;

    pair_open(&duel.pair, NULL, NULL);
    duel.id = pair_submit(&duel.pair, "x");
    axion_channel_flush(duel.pair.channel);
    pair_event(&duel.pair);
    assert_int_equal(pthread_create(&thread, NULL, be_sleeper, &duel), 0);
    time_t end = time(NULL) + RACES_S;
    int n = 0;
    while (!duel.last) {
        duel.last = ++n == RACES || time(NULL) >= end;
        meet(&duel, gate += 2);
        linger((int)(next_random(&random) % 32) + duel.lead);
        publish(&duel);
        meet(&duel, gate += 2);
        slept += duel.slept;
        lost += settle(&duel);
        step = aim(&duel, step);
    }
    pthread_join(thread, NULL);
    pair_close(&duel.pair);
    print_message("%d races, slept %d times\n", n, slept);
    assert_int_equal(lost, 0);
}


static void
test_client_sleeps_as_the_engine_publishes(void **state)
{
    (void)state;
    fight(0);
}


static void
test_engine_sleeps_as_the_client_publishes(void **state)
{
    (void)state;
    fight(1);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_awake_peers_are_not_rung),
        cmocka_unit_test(test_one_doorbell_per_sleep),
        cmocka_unit_test(test_a_lazy_client_rings_when_it_is_told),
        cmocka_unit_test(test_doorbells_for_space),
        cmocka_unit_test(test_client_sleeps_as_the_engine_publishes),
        cmocka_unit_test(test_engine_sleeps_as_the_client_publishes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
