/*
 * Both halves of a conversation that checks every byte: an engine that sends
 * each payload back in random pieces, and a client that knows what must come.
 * They run in two processes or in two threads, awake or going to sleep at
 * every chance, with pauses, top-ups and cancellations in between.
 */
#ifndef AXION_TESTS_SHM_STRESS_H
#define AXION_TESTS_SHM_STRESS_H

#include <stdint.h>
#include "shm/channel.h"
#include "shm/client.h"

#define STRESS_PAYLOAD_MAX 6000u

struct stress {
    uint32_t streams;    /* in all */
    uint32_t in_flight;  /* at once */
    uint32_t payload;    /* largest, at most STRESS_PAYLOAD_MAX */
    uint32_t idle_turns; /* empty turns before going to sleep */
    int disturb;         /* pause, top up and cancel at random */
    uint64_t seed;

    /* what was seen */
    uint64_t events;
    uint64_t text_bytes;
    uint64_t sleeps;
    uint64_t cancelled;
    const char *fault; /* NULL: everything was right */
};

/* Runs until the peer closes (engine) or all streams are done (client). */
void stress_engine(struct axion_channel *channel, struct stress *stress);
void stress_client(struct axion_client *client, struct stress *stress);

#endif
