/*
 * The joining of tokens that wait for credit (text_queue.h).
 *
 * The queue is a row of segments, one per call of axion_channel_tokens():
 *
 *   {u16 n_ids, u16 ext_bytes, u32 text_bytes} ids text ext
 *
 * from `read` to `write`; when the end is reached the rest moves to the
 * front, and an emptied queue starts there again.  Taking is two passes over
 * the segments: plan() decides how much of each goes, take() copies ids,
 * texts and extensions to their places.  The first segment may have gone in
 * part; how far is in the queue's counters, not in the bytes.
 */
#include <assert.h>
#include <string.h>
#include "shm/text_queue.h"
#include "shm/utf8.h"

struct segment {
    uint32_t n_ids;
    uint32_t text_bytes;
    uint32_t ext_bytes;
    const uint8_t *ids;
    const char *text;
    const uint8_t *ext;
    uint32_t bytes; /* with its head */
};

/* What of one segment goes into this part. */
struct share {
    uint32_t n_ids;
    uint32_t text_bytes;
    uint32_t ext_bytes;
    int whole;
};


static void
read_segment(const uint8_t *data, uint32_t at, struct segment *s)
{
    uint16_t counts[2];

    memcpy(counts, data + at, sizeof(counts));
    memcpy(&s->text_bytes, data + at + sizeof(counts), sizeof(uint32_t));
    s->n_ids = counts[0];
    s->ext_bytes = counts[1];
    s->ids = data + at + AXION_SEGMENT_HEAD;
    s->text = (const char *)s->ids + s->n_ids * sizeof(uint32_t);
    s->ext = (const uint8_t *)s->text + s->text_bytes;
    s->bytes = AXION_SEGMENT_HEAD + s->n_ids * (uint32_t)sizeof(uint32_t) +
               s->text_bytes + s->ext_bytes;
}


/* Takes what went out before off the first segment. */
static void
skip_sent(const struct axion_text_queue *q, struct segment *s)
{
    s->n_ids -= q->ids_sent;
    s->ids += q->ids_sent * sizeof(uint32_t);
    s->text_bytes -= q->text_sent;
    s->text += q->text_sent;
    s->ext_bytes = q->ext_sent ? 0 : s->ext_bytes;
}


int
axion_text_queue_fits(const struct axion_text_queue *q, uint32_t capacity,
                      uint64_t n_ids, uint64_t text_bytes, uint64_t ext_bytes)
{
    uint64_t bytes =
        AXION_SEGMENT_HEAD + n_ids * sizeof(uint32_t) + text_bytes + ext_bytes;

    return n_ids <= UINT16_MAX && ext_bytes <= UINT16_MAX &&
           bytes <= capacity - (q->write - q->read);
}


void
axion_text_queue_push(struct axion_text_queue *q, uint8_t *data,
                      uint32_t capacity, const uint32_t *ids, uint32_t n_ids,
                      const char *text, uint32_t text_bytes, const uint8_t *ext,
                      uint32_t ext_bytes)
{
    uint16_t counts[2] = {(uint16_t)n_ids, (uint16_t)ext_bytes};
    uint32_t ids_bytes = n_ids * (uint32_t)sizeof(uint32_t);
    uint32_t bytes = AXION_SEGMENT_HEAD + ids_bytes + text_bytes + ext_bytes;

    assert(axion_text_queue_fits(q, capacity, n_ids, text_bytes, ext_bytes));
    if (bytes > capacity - q->write) {
        memmove(data, data + q->read, q->write - q->read);
        q->write -= q->read;
        q->read = 0;
    }
    uint8_t *p = data + q->write;
    memcpy(p, counts, sizeof(counts));
    memcpy(p + sizeof(counts), &text_bytes, sizeof(text_bytes));
    p += AXION_SEGMENT_HEAD;
    if (n_ids > 0) {
        memcpy(p, ids, ids_bytes);
    }
    if (text_bytes > 0) {
        memcpy(p + ids_bytes, text, text_bytes);
    }
    if (ext_bytes > 0) {
        memcpy(p + ids_bytes + text_bytes, ext, ext_bytes);
    }
    q->write += bytes;
}


/* How much of a segment goes into `room` bytes. */
static struct share
share_of(const struct segment *s, uint32_t room)
{
    struct share share = {0};
    uint32_t ids_room = room / (uint32_t)sizeof(uint32_t);

    if (s->ext_bytes > 0 && s->n_ids * sizeof(uint32_t) + s->ext_bytes > room) {
        return share;
    }
    share.n_ids = s->n_ids < ids_room ? s->n_ids : ids_room;
    share.ext_bytes = s->ext_bytes;
    room -= share.n_ids * (uint32_t)sizeof(uint32_t) + share.ext_bytes;
    if (share.n_ids < s->n_ids) {
        return share;
    }
    share.text_bytes = (uint32_t)axion_utf8_cut(s->text, s->text_bytes, room);
    share.whole = share.text_bytes == s->text_bytes;
    return share;
}


static void
plan(const struct axion_text_queue *q, const uint8_t *data, uint32_t room,
     struct axion_text_part *part)
{
    memset(part, 0, sizeof(*part));
    for (uint32_t at = q->read; at < q->write;) {
        struct segment s;

        read_segment(data, at, &s);
        uint32_t next = at + s.bytes;
        if (at == q->read) {
            skip_sent(q, &s);
        }
        struct share share = share_of(&s, room - part->bytes);
        part->n_ids += share.n_ids;
        part->text_bytes += share.text_bytes;
        part->ext_bytes += share.ext_bytes;
        part->bytes = part->n_ids * (uint32_t)sizeof(uint32_t) +
                      part->text_bytes + part->ext_bytes;
        if (!share.whole) {
            break;
        }
        at = next;
    }
}


static void
consume(struct axion_text_queue *q, const struct share *share,
        uint32_t segment_bytes)
{
    if (share->whole) {
        q->read += segment_bytes;
        q->ids_sent = 0;
        q->text_sent = 0;
        q->ext_sent = 0;
    } else {
        q->ids_sent += share->n_ids;
        q->text_sent += share->text_bytes;
        q->ext_sent |= share->ext_bytes > 0;
    }
}


void
axion_text_queue_take(struct axion_text_queue *q, const uint8_t *data,
                      uint32_t room, uint8_t *payload,
                      struct axion_text_part *part)
{
    uint32_t taken = 0;

    plan(q, data, room, part);
    uint8_t *ids = payload;
    uint8_t *text = ids + part->n_ids * sizeof(uint32_t);
    uint8_t *ext = text + part->text_bytes;

    while (!axion_text_queue_empty(q)) {
        struct segment s;

        read_segment(data, q->read, &s);
        uint32_t segment_bytes = s.bytes;
        skip_sent(q, &s);
        struct share share = share_of(&s, room - taken);
        uint32_t ids_bytes = share.n_ids * (uint32_t)sizeof(uint32_t);

        memcpy(ids, s.ids, ids_bytes);
        memcpy(text, s.text, share.text_bytes);
        memcpy(ext, s.ext, share.ext_bytes);
        ids += ids_bytes;
        text += share.text_bytes;
        ext += share.ext_bytes;
        taken += ids_bytes + share.text_bytes + share.ext_bytes;
        consume(q, &share, segment_bytes);
        if (!share.whole) {
            break;
        }
    }
    assert(taken == part->bytes);
    if (axion_text_queue_empty(q)) {
        q->read = 0;
        q->write = 0;
    }
}
