/*
 * Events: queued per stream, joined, let out by credit (channel.h).
 *
 * Nothing is written to the ring before the flush.  Until then a stream holds
 * at most one ACCEPTED, one PROGRESS, one LEASE_LOW, one DONE or ERROR, and
 * its tokens in a text_queue; so everything that happened between two flushes
 * is one TOKENS event, and a client that reads slowly gets larger events,
 * not more.
 *
 * Credit.  cq_owner says whose each record in the ring is; when cq_head
 * passes it, the stream's in_ring goes down.  All but DONE and ERROR must
 * leave one record of credit for them, so the last event never waits for
 * credit, only for the text before it.  The ring itself cannot overflow:
 * the sum of in_ring is at most streams * credit <= cq_entries.
 *
 * Lists.  A stream with something to send is in the ready list or `waiting`
 * (it was blocked; some of its records are in the ring, and the return of
 * one makes it ready again).  So a flush costs what it sends, however many
 * streams wait.
 */
#include <assert.h>
#include <string.h>
#include "shm/channel_private.h"
#include "shm/request.h"
#include "shm/utf8.h"


static uint8_t *
buffer_of(const struct axion_channel *channel,
          const struct axion_channel_stream *stream)
{
    size_t index = (size_t)(stream - channel->streams);

    return channel->buffers + index * channel->options.stream_buffer_bytes;
}


static int
has_output(const struct axion_channel_stream *stream)
{
    return stream->outputs != 0 || !axion_text_queue_empty(&stream->queue);
}


static void
make_ready(struct axion_channel *channel, struct axion_channel_stream *stream)
{
    uint32_t index = (uint32_t)(stream - channel->streams);

    if (stream->ready || stream->waiting) {
        return;
    }
    stream->ready = 1;
    stream->next = AXION_STREAM_NONE;
    if (channel->ready_last == AXION_STREAM_NONE) {
        channel->ready_first = index;
    } else {
        channel->streams[channel->ready_last].next = index;
    }
    channel->ready_last = index;
}


static struct axion_channel_stream *
pop_ready(struct axion_channel *channel)
{
    if (channel->ready_first == AXION_STREAM_NONE) {
        return NULL;
    }
    struct axion_channel_stream *stream =
        &channel->streams[channel->ready_first];
    channel->ready_first = stream->next;
    if (channel->ready_first == AXION_STREAM_NONE) {
        channel->ready_last = AXION_STREAM_NONE;
    }
    stream->ready = 0;
    return stream;
}


/* ---- what the engine says ---- */

static struct axion_channel_stream *
must_find(struct axion_channel *channel, axion_stream_id id)
{
    struct axion_channel_stream *stream = axion_channel_find(channel, id);

    assert(stream != NULL);
    make_ready(channel, stream);
    return stream;
}


void
axion_channel_accepted(struct axion_channel *channel, axion_stream_id id,
                       const struct axion_cq_accepted *accepted)
{
    struct axion_channel_stream *stream = must_find(channel, id);

    stream->accepted = *accepted;
    stream->was_accepted = 1;
    stream->outputs |= AXION_OUT_ACCEPTED;
}


void
axion_channel_progress(struct axion_channel *channel, axion_stream_id id,
                       const struct axion_cq_progress *progress)
{
    struct axion_channel_stream *stream = must_find(channel, id);

    stream->progress = *progress;
    stream->outputs |= AXION_OUT_PROGRESS;
}


void
axion_channel_lease_low(struct axion_channel *channel, axion_stream_id id,
                        const struct axion_cq_lease_low *low)
{
    struct axion_channel_stream *stream = must_find(channel, id);

    stream->lease_low = *low;
    stream->outputs |= AXION_OUT_LEASE_LOW;
}


/* The largest payload that a stream's TOKENS event can ever have. */
static uint32_t
tokens_bytes_max(const struct axion_channel *channel)
{
    return AXION_TOKENS_INLINE +
           (channel->geometry.credit - 2) * AXION_RECORD_BYTES;
}


int
axion_channel_tokens(struct axion_channel *channel, axion_stream_id id,
                     const uint32_t *ids, uint32_t n_tokens, const char *text,
                     uint32_t text_bytes, const uint8_t *ext,
                     uint32_t ext_bytes)
{
    struct axion_channel_stream *stream = must_find(channel, id);
    uint32_t capacity = channel->options.stream_buffer_bytes;

    assert(stream->was_accepted);
    if (n_tokens == 0 && text_bytes == 0 && ext_bytes == 0) {
        return AXION_OK;
    }
    if (!axion_utf8_valid(text, text_bytes)) {
        return AXION_ERR_INVALID_VALUE;
    }
    if (!axion_text_queue_fits(&stream->queue, capacity, n_tokens, text_bytes,
                               ext_bytes) ||
        (ext_bytes > 0 && (uint64_t)n_tokens * sizeof(*ids) + ext_bytes >
                              tokens_bytes_max(channel))) {
        return AXION_ERR_PAYLOAD_TOO_LARGE;
    }
    axion_text_queue_push(&stream->queue, buffer_of(channel, stream), capacity,
                          ids, n_tokens, text, text_bytes, ext, ext_bytes);
    return AXION_OK;
}


int
axion_channel_writable(const struct axion_channel *channel, axion_stream_id id,
                       uint32_t bytes)
{
    const struct axion_channel_stream *stream = axion_channel_find(channel, id);

    /* The second call is one more segment. */
    return stream != NULL &&
           axion_text_queue_fits(&stream->queue,
                                 channel->options.stream_buffer_bytes, 1,
                                 (uint64_t)bytes + AXION_SEGMENT_HEAD, 0);
}


static void
close_stream(struct axion_channel *channel, struct axion_channel_stream *stream,
             enum axion_cq_op op)
{
    make_ready(channel, stream);
    stream->state = AXION_STREAM_CLOSING;
    stream->user = NULL;
    stream->final_op = (uint8_t)op;
    stream->outputs |= AXION_OUT_FINAL;
}


void
axion_channel_done(struct axion_channel *channel, axion_stream_id id,
                   const struct axion_cq_done *done)
{
    struct axion_channel_stream *stream = must_find(channel, id);

    assert(done->reason >= AXION_FINISH_STOP &&
           done->reason <= AXION_FINISH_CANCELLED);
    stream->done = *done;
    close_stream(channel, stream, AXION_CQ_DONE);
}


void
axion_channel_error(struct axion_channel *channel, axion_stream_id id,
                    int error, uint32_t retry_after_ms, const char *detail)
{
    struct axion_channel_stream *stream = must_find(channel, id);
    size_t bytes = detail != NULL ? strlen(detail) : 0;

    assert(axion_error_info(error)->number == error);
    if (!axion_utf8_valid(detail, bytes)) {
        bytes = 0;
    }
    stream->error = (uint32_t)error;
    stream->retry_after_ms = retry_after_ms;
    stream->detail_bytes =
        (uint32_t)axion_utf8_cut(detail, bytes, sizeof(stream->detail));
    if (stream->detail_bytes > 0) {
        memcpy(stream->detail, detail, stream->detail_bytes);
    }
    close_stream(channel, stream, AXION_CQ_ERROR);
}


void
axion_channel_lease_too_small(struct axion_channel *channel, axion_stream_id id,
                              uint32_t prompt_tokens)
{
    must_find(channel, id)->refused_tokens = prompt_tokens;
    axion_channel_error(channel, id, AXION_ERR_LEASE_TOO_SMALL, 0, NULL);
}


/* ---- what goes into the ring ---- */

int
axion_channel_cq_reclaim(struct axion_channel *channel)
{
    /* Pairs with axion_index_publish(cq_head) in the client: it has copied
     * what it passed. */
    uint32_t head = axion_index_load(&channel->map.region->cq_head);
    uint32_t passed = head - channel->cq_head_seen;

    if (passed > channel->cq_published - channel->cq_head_seen) {
        return axion_channel_break(channel, AXION_ERR_PROTOCOL,
                                   "cq_head outside the records in flight");
    }
    for (; channel->cq_head_seen != head; channel->cq_head_seen++) {
        uint32_t at =
            channel->cq_head_seen & (channel->geometry.cq_entries - 1);
        struct axion_channel_stream *stream =
            &channel->streams[channel->cq_owner[at]];

        assert(stream->in_ring > 0);
        stream->in_ring--;
        if (stream->waiting) {
            stream->waiting = 0;
            channel->n_waiting--;
            make_ready(channel, stream);
        }
    }
    return AXION_OK;
}


static void
put_record(struct axion_channel *channel, struct axion_channel_stream *stream,
           const void *record)
{
    uint32_t at = channel->cq_tail & (channel->geometry.cq_entries - 1);

    assert(channel->cq_tail - channel->cq_head_seen <
           channel->geometry.cq_entries);
    assert(stream->in_ring < channel->geometry.credit);
    memcpy(&channel->map.cq[at], record, AXION_RECORD_BYTES);
    channel->cq_owner[at] = (uint32_t)(stream - channel->streams);
    channel->cq_tail++;
    stream->in_ring++;
}


/* Writes an event whose payload starts in the last `inline_bytes` of its
 * first record and goes on in the records behind it. */
static void
put_event(struct axion_channel *channel, struct axion_channel_stream *stream,
          struct axion_cqe *cqe, const uint8_t *payload, uint32_t bytes,
          uint32_t inline_bytes)
{
    uint32_t first = bytes < inline_bytes ? bytes : inline_bytes;
    uint32_t span = axion_span(bytes, inline_bytes);

    cqe->stream = (uint32_t)(stream - channel->streams);
    cqe->generation = stream->generation;
    cqe->span = (uint16_t)span;
    cqe->payload_bytes = bytes;
    if (first > 0) {
        memcpy(cqe->body + sizeof(cqe->body) - inline_bytes, payload, first);
    }
    put_record(channel, stream, cqe);
    for (uint32_t at = first; at < bytes; at += AXION_RECORD_BYTES) {
        uint8_t record[AXION_RECORD_BYTES] = {0};
        uint32_t left = bytes - at;

        memcpy(record, payload + at,
               left < sizeof(record) ? left : sizeof(record));
        put_record(channel, stream, record);
    }
}


/* Records that an event other than the last may take now. */
static uint32_t
records_free(const struct axion_channel *channel,
             const struct axion_channel_stream *stream)
{
    return channel->geometry.credit - 1 - stream->in_ring;
}


/* Sends an event of one record, when it is queued and has credit. */
static int
put_plain(struct axion_channel *channel, struct axion_channel_stream *stream,
          enum axion_output output, enum axion_cq_op op, const void *body,
          size_t body_bytes)
{
    struct axion_cqe cqe = {.op = (uint8_t)op};

    if ((stream->outputs & output) == 0) {
        return 1;
    }
    if (records_free(channel, stream) == 0) {
        return 0;
    }
    memcpy(cqe.body, body, body_bytes);
    put_event(channel, stream, &cqe, NULL, 0, 0);
    stream->outputs &= (uint8_t)~output;
    return 1;
}


static int
put_tokens(struct axion_channel *channel, struct axion_channel_stream *stream)
{
    while (!axion_text_queue_empty(&stream->queue)) {
        uint32_t records = records_free(channel, stream);
        struct axion_cqe cqe = {.op = AXION_CQ_TOKENS};
        struct axion_text_part part;

        if (records == 0) {
            return 0;
        }
        axion_text_queue_take(&stream->queue, buffer_of(channel, stream),
                              AXION_TOKENS_INLINE +
                                  (records - 1) * AXION_RECORD_BYTES,
                              channel->event, &part);
        if (part.bytes == 0) {
            return 0;
        }
        cqe.tokens.position = stream->position;
        cqe.tokens.n_tokens = (uint16_t)part.n_ids;
        cqe.tokens.ext_bytes = (uint16_t)part.ext_bytes;
        cqe.tokens.text_bytes = part.text_bytes;
        put_event(channel, stream, &cqe, channel->event, part.bytes,
                  AXION_TOKENS_INLINE);
        stream->position += part.n_ids;
    }
    return 1;
}


/* DONE and ERROR have their record kept for them; an ERROR's detail is cut to
 * what credit is left. */
static void
put_final(struct axion_channel *channel, struct axion_channel_stream *stream)
{
    struct axion_cqe cqe = {.op = stream->final_op};

    if (stream->final_op == AXION_CQ_DONE) {
        cqe.done = stream->done;
        put_event(channel, stream, &cqe, NULL, 0, 0);
    } else {
        uint32_t records = channel->geometry.credit - stream->in_ring;
        uint32_t bytes = (uint32_t)axion_utf8_cut(
            stream->detail, stream->detail_bytes,
            AXION_ERROR_INLINE + (records - 1) * AXION_RECORD_BYTES);

        cqe.error.error = stream->error;
        cqe.error.retry_after_ms = stream->retry_after_ms;
        cqe.error.prompt_tokens = stream->refused_tokens;
        cqe.error.text_bytes = bytes;
        put_event(channel, stream, &cqe, (const uint8_t *)stream->detail, bytes,
                  AXION_ERROR_INLINE);
    }
    stream->outputs = 0;
    stream->state = AXION_STREAM_FREE;
    channel->n_live--;
}


/* Sends what a stream's credit allows, in the order of its life. */
static void
send_stream(struct axion_channel *channel, struct axion_channel_stream *stream)
{
    int all =
        put_plain(channel, stream, AXION_OUT_ACCEPTED, AXION_CQ_ACCEPTED,
                  &stream->accepted, sizeof(stream->accepted)) &&
        put_plain(channel, stream, AXION_OUT_PROGRESS, AXION_CQ_PROGRESS,
                  &stream->progress, sizeof(stream->progress)) &&
        put_tokens(channel, stream) &&
        put_plain(channel, stream, AXION_OUT_LEASE_LOW, AXION_CQ_LEASE_LOW,
                  &stream->lease_low, sizeof(stream->lease_low));

    if (all && (stream->outputs & AXION_OUT_FINAL) != 0) {
        put_final(channel, stream);
    }
    if (has_output(stream)) {
        assert(stream->in_ring > 0);
        stream->waiting = 1;
        channel->n_waiting++;
    }
}


static void
publish(struct axion_channel *channel)
{
    if (channel->cq_tail == channel->cq_published) {
        return;
    }
    /* Pairs with axion_index_load(cq_tail) in the client: all records of all
     * events are written. */
    axion_index_publish(&channel->map.region->cq_tail, channel->cq_tail);
    channel->cq_published = channel->cq_tail;
    axion_wake(channel->fd, &channel->map.region->cq_need_wakeup,
               AXION_WAKE_RECORDS, &channel->cq_rung);
}


int
axion_channel_flush(struct axion_channel *channel)
{
    struct axion_channel_stream *stream;
    int reclaimed = 0;

    if (channel->state == AXION_CHANNEL_HANDSHAKE) {
        return 0;
    }
    for (;;) {
        if (channel->state == AXION_CHANNEL_BROKEN) {
            return channel->error;
        }
        while ((stream = pop_ready(channel)) != NULL) {
            send_stream(channel, stream);
        }
        /* Credit is looked up only where it lacks, and once. */
        if (channel->n_waiting == 0 || reclaimed) {
            break;
        }
        reclaimed = 1;
        axion_channel_cq_reclaim(channel);
    }
    publish(channel);
    return channel->n_waiting > 0;
}
