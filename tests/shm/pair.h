/*
 * Both ends of a channel in one process, over a socketpair; raw ends that
 * speak the wire format without the library's manners; and counts of what a
 * process holds, to see that everything was freed.
 */
#ifndef AXION_TESTS_SHM_PAIR_H
#define AXION_TESTS_SHM_PAIR_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "shm/channel.h"
#include "shm/client.h"
#include "shm/ring.h"

struct pair {
    struct axion_client *client;
    struct axion_channel *channel;
};

/* Opens both ends and completes the handshake; NULL options are defaults
 * fit for tests (8 streams, credit 4). */
void pair_open(struct pair *pair, const struct axion_client_options *client,
               const struct axion_channel_options *channel);
void pair_close(struct pair *pair);

/* A SUBMIT that must succeed, taken by the engine and ACCEPTED, unseen by the
 * client. */
axion_stream_id pair_submit(struct pair *pair, const char *payload);

/* The next event, which must be there and is advanced over. */
struct axion_event pair_event(struct pair *pair);

void pair_done(struct pair *pair, axion_stream_id id);

/* ---- a peer without manners ---- */

struct raw {
    int fd;
    struct axion_geometry geometry;
    struct axion_mapping map;
    uint32_t index; /* of the next record that we write */
};

extern const struct axion_geometry raw_geometry; /* small, valid */

/* A raw client connected to a real channel, after WELCOME. */
void raw_client_open(struct raw *raw, struct axion_channel **channel);
/* A raw engine connected to a real client, after WELCOME. */
void raw_engine_open(struct raw *raw, struct axion_client **client);
void raw_close(struct raw *raw);
/* Write one record and publish it; the region's other words stay. */
void raw_sqe(struct raw *raw, const struct axion_sqe *sqe);
void raw_cqe(struct raw *raw, const struct axion_cqe *cqe);

/* ---- what the process holds ---- */

int open_fds(void);
int ring_maps(void); /* mappings of regions and load boards */

/* xorshift64*: the same numbers on every machine. */
uint64_t next_random(uint64_t *state);
uint64_t test_seed(void); /* AXION_SEED or a fixed one */

#endif
