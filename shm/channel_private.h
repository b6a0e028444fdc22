/*
 * The engine's end of one channel, shared by channel.c (life, handshake),
 * channel_sq.c (commands) and channel_cq.c (events, credit).  Private to
 * shm/.
 */
#ifndef AXION_SHM_CHANNEL_PRIVATE_H
#define AXION_SHM_CHANNEL_PRIVATE_H

#include "shm/channel.h"
#include "shm/ring.h"
#include "shm/text_queue.h"

#define AXION_STREAM_NONE  UINT32_MAX
#define AXION_DETAIL_BYTES 160u /* of an ERROR, kept until it is sent */
#define AXION_EVENT_BYTES_MAX                                                  \
    (AXION_TOKENS_INLINE + (AXION_CREDIT_MAX - 1) * AXION_RECORD_BYTES)

enum axion_channel_state {
    AXION_CHANNEL_HANDSHAKE = 1,
    AXION_CHANNEL_CONNECTED,
    AXION_CHANNEL_BROKEN, /* end of file, broken protocol, refused */
};

/*
 * FREE → OPEN (SUBMIT) → CLOSING (done() or error() called, not sent) → FREE
 * A FREE stream may still have records in the ring; its slot is the client's
 * to use again only when all were passed.
 */
enum axion_stream_state {
    AXION_STREAM_FREE = 0,
    AXION_STREAM_OPEN,
    AXION_STREAM_CLOSING,
};

enum axion_output {
    AXION_OUT_ACCEPTED = 1u << 0,
    AXION_OUT_PROGRESS = 1u << 1,
    AXION_OUT_LEASE_LOW = 1u << 2,
    AXION_OUT_FINAL = 1u << 3,
};

struct axion_channel_stream {
    void *user;
    uint64_t lease_id;
    uint32_t generation; /* 0: never used */
    uint32_t in_ring;    /* records that the client has not passed */
    uint32_t next;       /* in the ready list */
    uint32_t position;   /* token ids sent */
    uint8_t state;
    uint8_t outputs; /* of enum axion_output, to be sent */
    uint8_t final_op;
    uint8_t was_accepted;
    uint8_t ready;   /* in the ready list */
    uint8_t waiting; /* has output and no credit; never also ready */
    struct axion_text_queue queue;
    struct axion_cq_accepted accepted;
    struct axion_cq_progress progress;
    struct axion_cq_lease_low lease_low;
    struct axion_cq_done done;
    uint32_t error;
    uint32_t retry_after_ms;
    uint32_t refused_tokens; /* of a prompt whose lease was too small */
    uint32_t detail_bytes;
    char detail[AXION_DETAIL_BYTES];
};

struct axion_channel {
    int fd;
    enum axion_channel_state state;
    int error;          /* of BROKEN */
    int error_reported; /* next() or service() has returned it */
    struct axion_channel_options options;
    struct axion_geometry geometry;
    struct axion_mapping map;
    uint32_t payload_bytes_max;
    uint8_t *payload; /* the last SUBMIT's, copied out of the arena */

    /* SQ: ours is the head */
    uint32_t sq_head;
    uint32_t sq_tail_seen;
    uint64_t ticket;
    int sq_moved; /* head moved since the client was last looked at */
    int armed;

    /* CQ: ours is the tail */
    uint32_t cq_tail;
    uint32_t cq_published;
    uint32_t cq_head_seen;
    uint64_t cq_rung;
    uint32_t *cq_owner; /* [cq_entries] stream of each record in the ring */

    struct axion_channel_stream *streams; /* [streams] */
    uint8_t *buffers;                     /* [streams, stream_buffer_bytes] */
    uint32_t n_live;                      /* OPEN or CLOSING */
    uint32_t n_waiting;
    uint32_t ready_first;
    uint32_t ready_last;

    uint32_t gateway;
    uint32_t journal_sent; /* records in the JOURNAL that is not settled */

    pid_t pid;
    uid_t uid;
    char name[AXION_NAME_BYTES];
    char why[128];
    uint8_t event[AXION_EVENT_BYTES_MAX];
};

/* Ends the channel for good; returns `error`. */
int axion_channel_break(struct axion_channel *channel, int error,
                        const char *why);

/* The stream of an id, NULL unless it is OPEN with this generation. */
struct axion_channel_stream *
axion_channel_find(const struct axion_channel *channel, axion_stream_id id);

/* A message that is no doorbell, after the handshake.  AXION_OK, PROTOCOL. */
int axion_channel_take_settled(struct axion_channel *channel, const void *data,
                               size_t bytes);

/* Gives back the credit of what cq_head has passed.  AXION_OK or PROTOCOL. */
int axion_channel_cq_reclaim(struct axion_channel *channel);

#endif
