/*
 * The engine's end of the journal of DONE (wire.h): what a dead client did
 * not take, and sending it to a client of the same gateway (channel.h).
 *
 * A stream's DONE or ERROR stays in its slot until the client has passed it
 * and submits again, so nothing has to be written down while all is well: the
 * slots are read once, when the channel has ended.  The client's last word on
 * what it passed is cq_head, which may lag behind what it has read.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include "shm/channel_private.h"


uint32_t
axion_channel_gateway(const struct axion_channel *channel)
{
    return channel->gateway;
}


uint32_t
axion_channel_unsettled(const struct axion_channel *channel)
{
    return channel->journal_sent;
}


uint32_t
axion_channel_sent_tokens(const struct axion_channel *channel,
                          axion_stream_id id)
{
    const struct axion_channel_stream *stream = axion_channel_find(channel, id);

    return stream != NULL ? stream->position : 0;
}


static struct axion_journal_record
record_of(const struct axion_channel_stream *stream)
{
    struct axion_journal_record record = {.lease_id = stream->lease_id};

    if (stream->final_op == AXION_CQ_DONE) {
        record.done = stream->done;
    } else {
        record.error = stream->error;
        if (stream->was_accepted) {
            record.done.prompt_tokens = stream->accepted.prompt_tokens;
            record.done.cached_tokens = stream->accepted.cached_tokens;
        }
    }
    record.done.completion_tokens = stream->position;
    return record;
}


/* SUBMITs that we never took: nothing was spent on them.  What cannot be one
 * that we would have taken is left out. */
static void
each_untaken(struct axion_channel *channel,
             void (*visit)(void *context,
                           const struct axion_journal_record *record),
             void *context)
{
    const struct axion_geometry *g = &channel->geometry;
    uint32_t tail = axion_index_load(&channel->map.region->sq_tail);

    if (tail - channel->sq_head > g->sq_entries) {
        return;
    }
    for (uint32_t i = channel->sq_head; i != tail; i++) {
        struct axion_sqe sqe;

        axion_copy_out(&sqe, &channel->map.sq[i & (g->sq_entries - 1)],
                       sizeof(sqe));
        if (sqe.op == AXION_SQ_SUBMIT && sqe.flags == 0 &&
            sqe.stream < g->streams && sqe.lease_id != 0) {
            struct axion_journal_record record = {
                .lease_id = sqe.lease_id,
                .done = {.reason = AXION_FINISH_CANCELLED},
            };
            visit(context, &record);
        }
    }
}


void
axion_channel_each_unpassed(
    struct axion_channel *channel,
    void (*visit)(void *context, const struct axion_journal_record *record),
    void *context)
{
    uint32_t streams = channel->streams != NULL ? channel->geometry.streams : 0;

    /* A head that lies tells nothing: then all in the ring counts as not
     * passed. */
    if (streams > 0) {
        (void)axion_channel_cq_reclaim(channel);
        each_untaken(channel, visit, context);
    }
    for (uint32_t i = 0; i < streams; i++) {
        const struct axion_channel_stream *stream = &channel->streams[i];
        int unpassed =
            stream->state == AXION_STREAM_CLOSING ||
            (stream->state == AXION_STREAM_FREE && stream->in_ring > 0);

        if (unpassed && stream->lease_id != 0) {
            struct axion_journal_record record = record_of(stream);
            visit(context, &record);
        }
    }
}


int
axion_channel_journal(struct axion_channel *channel,
                      const struct axion_journal_record *records,
                      uint32_t n_records, int complete)
{
    struct axion_journal journal = {
        .head = {AXION_WIRE_MAGIC, AXION_WIRE_VERSION, AXION_MSG_JOURNAL},
        .n_records = n_records,
        .flags = complete ? AXION_JOURNAL_COMPLETE : 0,
    };
    size_t bytes = AXION_JOURNAL_HEAD_BYTES + n_records * sizeof(*records);
    ssize_t n;

    assert(channel->gateway != 0 && channel->journal_sent == 0 &&
           n_records <= AXION_JOURNAL_RECORDS_MAX &&
           (n_records > 0 || complete));
    if (channel->state != AXION_CHANNEL_CONNECTED) {
        return AXION_AGAIN;
    }
    if (n_records > 0) {
        memcpy(journal.records, records, n_records * sizeof(*records));
    }
    do {
        n = send(channel->fd, &journal, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return AXION_AGAIN; /* full, or gone: service() will say so */
    }
    channel->journal_sent = n_records;
    return AXION_OK;
}


int
axion_channel_take_settled(struct axion_channel *channel, const void *data,
                           size_t bytes)
{
    struct axion_settled settled;

    if (bytes != sizeof(settled)) {
        return axion_channel_break(channel, AXION_ERR_PROTOCOL,
                                   "message that is no doorbell");
    }
    memcpy(&settled, data, sizeof(settled));
    if (settled.head.magic != AXION_WIRE_MAGIC ||
        settled.head.version != AXION_WIRE_VERSION ||
        settled.head.type != AXION_MSG_SETTLED) {
        return axion_channel_break(channel, AXION_ERR_PROTOCOL,
                                   "message that is no doorbell");
    }
    if (settled.n_records == 0 || settled.n_records != channel->journal_sent) {
        return axion_channel_break(channel, AXION_ERR_PROTOCOL,
                                   "SETTLED for what was not sent");
    }
    channel->journal_sent = 0;
    return AXION_OK;
}
