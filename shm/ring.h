/*
 * What both ends of a channel share: indexes, fences, the doorbell, the
 * region and its geometry, handshake datagrams.  Private to shm/.
 *
 * Every atomic access of the ring is one of the calls below, and each names
 * the access on the other side that it pairs with:
 *
 *   axion_index_publish    store-release: records, payloads and copies made
 *                          before it are seen by whoever loads the index ...
 *   axion_index_load       ... with this load-acquire
 *   axion_full_fence       store-load barrier.  Sleeper: store need_wakeup,
 *                          fence, load index.  Waker: store index, fence,
 *                          load need_wakeup.  With both fences at least one
 *                          side sees the other's store; without either, both
 *                          loads may be served before the stores leave the
 *                          store buffers, and a wake-up is lost
 *                          (tests/shm/wakeup.pml)
 *   axion_need_wakeup_set, axion_need_wakeup_get
 *                          relaxed: ordered by the fences
 *
 * need_wakeup is 0 while its owner is awake.  Asleep it is a ticket, new at
 * every sleep, whose low bits say what to wake for; the waker remembers the
 * ticket that it has rung for, so that a peer which is slow to get up is
 * rung once, not once per flush.
 */
#ifndef AXION_SHM_RING_H
#define AXION_SHM_RING_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "shm/wire.h"

/* Where fresh indexes and generations start: just below the wrap, so that
 * every process takes it soon and nobody's code survives that cannot. */
#define AXION_INDEX_START      (0u - 256u)
#define AXION_GENERATION_START (0u - 4u)


static inline uint32_t
axion_index_load(const struct axion_index *index)
{
    return __atomic_load_n(&index->value, __ATOMIC_ACQUIRE);
}


static inline void
axion_index_publish(struct axion_index *index, uint32_t value)
{
    __atomic_store_n(&index->value, value, __ATOMIC_RELEASE);
}


static inline uint64_t
axion_need_wakeup_get(const struct axion_wakeup *need)
{
    return __atomic_load_n(&need->ticket, __ATOMIC_RELAXED);
}


static inline void
axion_need_wakeup_set(struct axion_wakeup *need, uint64_t ticket)
{
    __atomic_store_n(&need->ticket, ticket, __ATOMIC_RELAXED);
}


/* TSan does not model fences and gcc warns about it; the ring's happens-before
 * edges are in the indexes' acquire and release, the fence only adds the
 * store-load order that a wake-up needs. */
static inline void
axion_full_fence(void)
{
#if defined(__SANITIZE_THREAD__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"
#endif
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#if defined(__SANITIZE_THREAD__)
#pragma GCC diagnostic pop
#endif
}


/* Copies out of shared memory, once: what follows works on the copy, since the
 * compiler may not fetch again what the peer may have changed meanwhile. */
static inline void
axion_copy_out(void *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
    __asm__ volatile("" : : "r"(to) : "memory");
}


/* The generation after this one; 0 is never one, so that a stream's id is
 * never 0. */
static inline uint32_t
axion_generation_next(uint32_t generation)
{
    return generation + 1 == 0 ? 1 : generation + 1;
}


/* Records that follow the first one of an event with `bytes` of payload. */
static inline uint32_t
axion_span(uint32_t bytes, uint32_t inline_bytes)
{
    if (bytes <= inline_bytes) {
        return 0;
    }
    /* In this form no foreign `bytes` can wrap it to a short span. */
    return (bytes - inline_bytes - 1) / AXION_RECORD_BYTES + 1;
}


/* ---- going to sleep and waking ---- */

/* The next ticket, with `bits` of AXION_WAKE_*. */
static inline uint64_t
axion_ticket(uint64_t *last, uint32_t bits)
{
    *last += AXION_WAKE_TICKET;
    return *last | bits;
}


/* Rings `fd` when the peer sleeps, waits for one of `bits` and was not rung
 * for this sleep yet.  Contains the full fence, so the store that the peer
 * sleeps for must come before the call. */
void axion_wake(int fd, const struct axion_wakeup *need, uint32_t bits,
                uint64_t *rung);

/*
 * Takes pending doorbells off a connected socket, up to the first message of
 * more than one byte, which goes to message[0 .. room) with its length in
 * *got; *got 0: nothing else is there.  room is at least 2.  AXION_OK;
 * ENGINE_LOST at end of file; PROTOCOL for a message that is longer than
 * room, or for more doorbells than a sleeping peer can be owed.
 */
int axion_doorbells_take(int fd, void *message, size_t room, size_t *got,
                         const char **why);

/* ---- geometry and region ---- */

struct axion_geometry {
    uint32_t sq_entries;
    uint32_t cq_entries;
    uint32_t arena_bytes;
    uint32_t streams;
    uint32_t credit;
};

struct axion_mapping {
    struct axion_region *region;
    struct axion_sqe *sq;
    struct axion_cqe *cq;
    uint8_t *arena;
    size_t bytes;
};

/* NULL, or what is out of bounds. */
const char *axion_geometry_fault(const struct axion_geometry *g,
                                 uint32_t streams_max);
size_t axion_region_bytes(const struct axion_geometry *g);

/* Makes, sizes, seals and maps a region; *fd is the memfd.  Nothing is left
 * behind on NO_MEMORY and SYSTEM (errno kept). */
int axion_region_create(struct axion_mapping *map, int *fd,
                        const struct axion_geometry *g);

/* Maps a peer's memfd: regular tmpfs file, sealed against shrink and grow,
 * at least of the geometry's size.  CHANNEL_LIMITS with *why, or NO_MEMORY. */
int axion_region_adopt(struct axion_mapping *map, int fd,
                       const struct axion_geometry *g, const char **why);
void axion_region_unmap(struct axion_mapping *map);

/* NULL, or why a peer's memfd of at least `bytes` is not safe to map: what
 * can be cut short under a mapping is a SIGBUS. */
const char *axion_memfd_fault(int fd, size_t bytes);

/* One try at a consistent copy of a board that is being written: 0 when the
 * writer was seen at work. */
int axion_board_read(const struct axion_board *board, struct axion_board *copy);
/* Likewise, with copy->n in bounds; costs behind the n-th are left alone. */
int axion_costs_read(const struct axion_costs *costs, struct axion_costs *copy);

/* ---- handshake datagrams ---- */

/* Sends one datagram, with a descriptor when fd >= 0.  AXION_OK or SYSTEM. */
int axion_message_send(int socket, const void *data, size_t bytes, int fd);

/*
 * Takes one datagram of at most `bytes`.  *got is its length, *fd the one
 * descriptor that came with it or -1; further descriptors are closed.
 * AXION_OK; AXION_AGAIN; ENGINE_LOST at end of file; PROTOCOL with *why when
 * it is longer or brings more than one descriptor.
 */
int axion_message_take(int socket, void *data, size_t bytes, size_t *got,
                       int *fd, const char **why);

/* Copies at most to_bytes - 1 bytes up to the first NUL, with everything but
 * printable ASCII replaced: a peer's words are meant for a log. */
void axion_printable(char *to, size_t to_bytes, const char *from,
                     size_t from_bytes);

#endif
