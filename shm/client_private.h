/*
 * The client's state, shared by client.c (life, handshake, board),
 * client_sq.c (submissions, commands, the arena) and client_cq.c (events).
 * Private to shm/.
 */
#ifndef AXION_SHM_CLIENT_PRIVATE_H
#define AXION_SHM_CLIENT_PRIVATE_H

#include "shm/client.h"
#include "shm/ring.h"

#define AXION_SLOT_NONE UINT32_MAX

enum axion_client_state {
    AXION_CLIENT_HANDSHAKE = 1,
    AXION_CLIENT_CONNECTED,
    AXION_CLIENT_LOST,   /* end of file: what was published may be drained */
    AXION_CLIENT_BROKEN, /* the peer broke the protocol or refused */
};

/* A stream's slot.  Commands are not queued but kept as what the engine
 * should know and does not yet; a slot with such a difference is linked. */
struct axion_client_slot {
    void *user;
    uint64_t topup_tokens;
    uint32_t generation;
    uint32_t next;     /* in the free list or in the pending list */
    uint32_t position; /* token ids received */
    uint8_t open;
    uint8_t linked; /* in the pending list, possibly with nothing to say */
    uint8_t accepted;
    uint8_t cancel;
    uint8_t cancel_sent;
    uint8_t topup_refused;
    uint8_t paused;
    uint8_t paused_sent;
};

struct axion_client {
    int fd;
    enum axion_client_state state;
    int error;          /* of LOST and BROKEN */
    int error_reported; /* peek() has returned it */
    struct axion_geometry geometry;
    struct axion_mapping map;
    const struct axion_board *board;
    size_t board_bytes;
    uint32_t payload_bytes_max;

    /* SQ: ours is the tail */
    uint32_t sq_tail;
    uint32_t sq_published;
    uint32_t sq_head_seen;
    uint64_t sq_rung;
    uint8_t lazy;
    uint8_t wake_due;    /* records are published, nobody was woken yet */
    uint64_t arena_head; /* free-running bytes; both 0 when it is empty */
    uint64_t arena_tail;
    uint32_t *sq_arena_bytes; /* [sq_entries] what each record holds */

    /* CQ: ours is the head */
    uint32_t cq_head;
    uint32_t cq_published;
    uint32_t cq_tail_seen;
    uint64_t ticket;
    int armed;

    struct axion_client_slot *slots; /* [streams] */
    uint32_t free_slot;              /* last freed first: warm memory */
    uint32_t pending_first;
    uint32_t pending_last;
    uint32_t n_open;

    /* The JOURNAL that is being settled; n_records 0: none. */
    uint32_t gateway;
    uint32_t journal_at; /* the record that axion_client_journal() gives */
    int journal_complete;
    int settled_due; /* SETTLED found the socket full */
    struct axion_journal journal;

    int has_event;
    uint32_t event_records;
    uint32_t event_slot;
    struct axion_event event;
    _Alignas(8) uint8_t payload[AXION_TOKENS_INLINE +
                                (AXION_CREDIT_MAX - 1) * AXION_RECORD_BYTES];
    char why[128];
};

/* Ends the channel for good; returns `error`. */
int axion_client_break(struct axion_client *client, int error, const char *why);

/* A message that is no doorbell, after the handshake.  AXION_OK, PROTOCOL. */
int axion_client_take_journal(struct axion_client *client, const void *data,
                              size_t bytes);
/* Tries again what settled_due says. */
void axion_client_send_settled(struct axion_client *client);

/* Takes what sq_head has passed off our books.  0 when the peer's index lies
 * outside what we published: the channel is broken then. */
int axion_client_sq_reclaim(struct axion_client *client);

/* Sends what is pending while the SQ has room. */
void axion_client_sq_drain(struct axion_client *client);

/* Tells the engine how far we have read: its credit returns. */
void axion_client_cq_publish(struct axion_client *client);

#endif
