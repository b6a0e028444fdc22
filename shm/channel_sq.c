/*
 * Commands: taking records off the SQ, and going to sleep (channel.h).
 *
 * A record is copied out before it is looked at, a payload before sq_head
 * passes the record, so that neither can change under us and the client gets
 * its arena back at once.  A SUBMIT must name a slot whose former life is
 * over for both sides, with the generation that follows; other commands may
 * cross a DONE on its way and are dropped when their stream is not open.
 *
 * sq_head is stored per record.  Whether the client sleeps for room in the
 * SQ is only asked when the SQ has run empty: one fence per batch.
 */
#include <assert.h>
#include <string.h>
#include "shm/channel_private.h"


static int
has_commands(struct axion_channel *channel)
{
    if (channel->sq_head != channel->sq_tail_seen) {
        return AXION_OK;
    }
    /* Pairs with axion_index_publish(sq_tail) in the client: records and
     * payloads up to the tail are written. */
    uint32_t tail = axion_index_load(&channel->map.region->sq_tail);
    if (tail - channel->sq_head > channel->geometry.sq_entries) {
        return axion_channel_break(channel, AXION_ERR_PROTOCOL,
                                   "sq_tail outside the ring");
    }
    channel->sq_tail_seen = tail;
    return tail == channel->sq_head ? AXION_AGAIN : AXION_OK;
}


static const char *
payload_fault(struct axion_channel *channel, const struct axion_sqe *sqe)
{
    uint64_t end = (uint64_t)sqe->payload_offset + sqe->payload_bytes;

    if (sqe->payload_offset % AXION_CACHE_LINE != 0) {
        return "SUBMIT whose payload is not aligned";
    }
    if (sqe->payload_bytes > channel->payload_bytes_max ||
        end > channel->geometry.arena_bytes) {
        return "SUBMIT whose payload is out of bounds";
    }
    return NULL;
}


/* NULL and the stream is open, or what is wrong. */
static const char *
submit_fault(struct axion_channel *channel, const struct axion_sqe *sqe)
{
    struct axion_channel_stream *stream = &channel->streams[sqe->stream];

    if (stream->state != AXION_STREAM_FREE) {
        return "SUBMIT on a slot that is in use";
    }
    if (stream->in_ring > 0) {
        if (axion_channel_cq_reclaim(channel) != AXION_OK) {
            return channel->why;
        }
        if (stream->in_ring > 0) {
            return "SUBMIT on a slot whose last event was not taken";
        }
    }
    if (sqe->generation == 0 ||
        (stream->generation != 0 &&
         sqe->generation != axion_generation_next(stream->generation))) {
        return "SUBMIT with a generation out of order";
    }
    const char *fault = payload_fault(channel, sqe);
    if (fault != NULL) {
        return fault;
    }

    memset(stream, 0, sizeof(*stream));
    stream->generation = sqe->generation;
    stream->lease_id = sqe->lease_id;
    stream->state = AXION_STREAM_OPEN;
    channel->n_live++;
    axion_copy_out(channel->payload, channel->map.arena + sqe->payload_offset,
                   sqe->payload_bytes);
    return NULL;
}


/* AXION_OK: *command is filled.  AXION_AGAIN: the record was stale. */
static int
take_record(struct axion_channel *channel, const struct axion_sqe *sqe,
            struct axion_command *command)
{
    if (sqe->op < AXION_SQ_SUBMIT || sqe->op > AXION_SQ_TOPUP) {
        return axion_channel_break(channel, AXION_ERR_PROTOCOL,
                                   "unknown command");
    }
    if (sqe->flags != 0) {
        return axion_channel_break(channel, AXION_ERR_PROTOCOL,
                                   "command with unknown flags");
    }
    if (sqe->stream >= channel->geometry.streams) {
        return axion_channel_break(channel, AXION_ERR_PROTOCOL,
                                   "command for a slot that does not exist");
    }

    memset(command, 0, sizeof(*command));
    command->op = sqe->op;
    command->id = (uint64_t)sqe->generation << 32 | sqe->stream;
    command->lease_tokens = sqe->lease_tokens;
    if (sqe->op == AXION_SQ_SUBMIT) {
        const char *fault = submit_fault(channel, sqe);
        if (fault != NULL) {
            return axion_channel_break(channel, AXION_ERR_PROTOCOL, fault);
        }
        command->lease_id = sqe->lease_id;
        command->payload = channel->payload;
        command->payload_bytes = sqe->payload_bytes;
        return AXION_OK;
    }
    return axion_channel_find(channel, command->id) != NULL ? AXION_OK
                                                            : AXION_AGAIN;
}


static void
disarm(struct axion_channel *channel)
{
    if (channel->armed) {
        axion_need_wakeup_set(&channel->map.region->sq_need_wakeup, 0);
        channel->armed = 0;
    }
}


int
axion_channel_next(struct axion_channel *channel, struct axion_command *command)
{
    if (channel->state == AXION_CHANNEL_HANDSHAKE) {
        return AXION_AGAIN;
    }
    /* A peer that sends stale records without end gets one ring full of
     * attention per call. */
    for (uint32_t i = 0; channel->state == AXION_CHANNEL_CONNECTED &&
                         i < channel->geometry.sq_entries;
         i++) {
        struct axion_sqe sqe;

        disarm(channel);
        int rc = has_commands(channel);
        if (rc == AXION_AGAIN) {
            break;
        }
        if (rc == AXION_OK) {
            uint32_t at = channel->sq_head & (channel->geometry.sq_entries - 1);
            axion_copy_out(&sqe, &channel->map.sq[at], sizeof(sqe));
            rc = take_record(channel, &sqe, command);
        }
        if (channel->state == AXION_CHANNEL_BROKEN) {
            break;
        }
        channel->sq_head++;
        channel->sq_moved = 1;
        /* Pairs with axion_index_load(sq_head) in the client: the payload
         * was copied, its place may be written again. */
        axion_index_publish(&channel->map.region->sq_head, channel->sq_head);
        if (rc == AXION_OK) {
            return rc;
        }
    }

    if (channel->state == AXION_CHANNEL_BROKEN) {
        channel->error_reported = 1;
        return channel->error;
    }
    if (channel->sq_moved) {
        channel->sq_moved = 0;
        axion_wake(channel->fd, &channel->map.region->cq_need_wakeup,
                   AXION_WAKE_SPACE, &channel->cq_rung);
    }
    return AXION_AGAIN;
}


int
axion_channel_arm(struct axion_channel *channel)
{
    struct axion_region *region = channel->map.region;

    if (channel->state == AXION_CHANNEL_HANDSHAKE) {
        return 0;
    }
    uint32_t cq_tail = channel->cq_tail;
    int waiting = axion_channel_flush(channel);
    if (channel->state == AXION_CHANNEL_BROKEN) {
        return !channel->error_reported;
    }
    if (cq_tail != channel->cq_tail) {
        return 1; /* credit was used: a stream may be writable again */
    }

    uint32_t bits = AXION_WAKE_RECORDS | (waiting ? AXION_WAKE_SPACE : 0);
    axion_need_wakeup_set(&region->sq_need_wakeup,
                          axion_ticket(&channel->ticket, bits));
    channel->armed = 1;
    /* Sleeper's fence: between the ticket and the loads below.  Pairs with
     * axion_wake()'s in axion_client_submit() and axion_client_peek(). */
    axion_full_fence();
    if (axion_index_load(&region->sq_tail) != channel->sq_head ||
        (waiting &&
         axion_index_load(&region->cq_head) != channel->cq_head_seen)) {
        disarm(channel);
        return 1;
    }
    return 0;
}
