/*
 * What a stream has said and its credit does not let out yet: token ids, text
 * and extensions, joined into as few events as there is room for.  One queue
 * per open stream, in memory that the channel reserved at the handshake.
 * Private to shm/.
 */
#ifndef AXION_SHM_TEXT_QUEUE_H
#define AXION_SHM_TEXT_QUEUE_H

#include <stdint.h>

#define AXION_SEGMENT_HEAD 8u

struct axion_text_queue {
    uint32_t read;      /* offset of the first segment */
    uint32_t write;     /* where the next one goes */
    uint32_t ids_sent;  /* of the first segment */
    uint32_t text_sent; /* of the first segment */
    uint32_t ext_sent;  /* of the first segment: 0 or 1 */
};

/* One TOKENS event's worth. */
struct axion_text_part {
    uint32_t n_ids;
    uint32_t text_bytes;
    uint32_t ext_bytes;
    uint32_t bytes; /* of the payload: ids, text, extensions in a row */
};

/* 1 when a segment of n ids, text and extensions has room. */
int axion_text_queue_fits(const struct axion_text_queue *q, uint32_t capacity,
                          uint64_t n_ids, uint64_t text_bytes,
                          uint64_t ext_bytes);

/* Appends one segment; the caller has asked fits(). */
void axion_text_queue_push(struct axion_text_queue *q, uint8_t *data,
                           uint32_t capacity, const uint32_t *ids,
                           uint32_t n_ids, const char *text,
                           uint32_t text_bytes, const uint8_t *ext,
                           uint32_t ext_bytes);

/*
 * Moves as much as `room` bytes take into payload.  An id never comes later
 * than the first byte of its text; where room ends inside a text it is cut
 * between UTF-8 sequences and the rest follows with the next part, without
 * ids.  A segment's extensions go whole, together with its ids.  part->bytes
 * is 0 when not even that fits.
 */
void axion_text_queue_take(struct axion_text_queue *q, const uint8_t *data,
                           uint32_t room, uint8_t *payload,
                           struct axion_text_part *part);

static inline int
axion_text_queue_empty(const struct axion_text_queue *q)
{
    return q->read == q->write;
}

#endif
