/*
 * The client's way in: events (client.h), and going to sleep.
 *
 * Everything from the engine is foreign: an event is copied out of the ring
 * once, with its payload, then checked, and only the copy is handed on; the
 * copy stays until advance(), so that looking twice shows the same.  The
 * checks are the protocol's own rules: spans and lengths that agree, a slot
 * that is open with this generation, ACCEPTED before TOKENS, positions
 * without a gap, text that is UTF-8.  An engine built on channel.h cannot
 * break one, so whoever does is not trusted any further: the channel is
 * broken, every later call says so, and the owner closes it.
 *
 * cq_head, by which the engine's credit returns, is stored when the ring has
 * run empty, before a SUBMIT, before sleep, and in a long drain now and then.
 */
#include <assert.h>
#include <string.h>
#include "shm/client_private.h"
#include "shm/request.h"


/* Copies the event's records; the payload's parts end up in a row. */
static void
copy_event(struct axion_client *client, const struct axion_cqe *first,
           uint32_t inline_bytes)
{
    uint32_t mask = client->geometry.cq_entries - 1;
    uint8_t *to = client->payload + inline_bytes;

    memcpy(client->payload, first->body + sizeof(first->body) - inline_bytes,
           inline_bytes);
    for (uint32_t i = 1; i <= first->span; i++) {
        axion_copy_out(to, &client->map.cq[(client->cq_head + i) & mask],
                       AXION_RECORD_BYTES);
        to += AXION_RECORD_BYTES;
    }
}


static const char *
tokens_fault(struct axion_client *client, const struct axion_cqe *cqe,
             struct axion_client_slot *slot, struct axion_event *event)
{
    const struct axion_cq_tokens *t = &cqe->tokens;
    uint64_t bytes =
        (uint64_t)t->n_tokens * sizeof(uint32_t) + t->text_bytes + t->ext_bytes;

    if (bytes == 0 || bytes != cqe->payload_bytes ||
        cqe->span != axion_span(cqe->payload_bytes, AXION_TOKENS_INLINE)) {
        return "TOKENS whose lengths disagree";
    }
    if (!slot->accepted) {
        return "TOKENS before ACCEPTED";
    }
    if (t->position != slot->position) {
        return "TOKENS out of order";
    }
    copy_event(client, cqe, AXION_TOKENS_INLINE);
    event->tokens.position = t->position;
    event->tokens.n_tokens = t->n_tokens;
    event->tokens.ids = (const uint32_t *)client->payload;
    event->tokens.text =
        (const char *)client->payload + t->n_tokens * sizeof(uint32_t);
    event->tokens.text_bytes = t->text_bytes;
    event->tokens.ext = (const uint8_t *)event->tokens.text + t->text_bytes;
    event->tokens.ext_bytes = t->ext_bytes;
    if (!axion_utf8_valid(event->tokens.text, t->text_bytes)) {
        return "TOKENS whose text is not UTF-8";
    }
    return NULL;
}


static const char *
error_fault(struct axion_client *client, const struct axion_cqe *cqe,
            struct axion_event *event)
{
    const struct axion_cq_error *e = &cqe->error;

    if (e->text_bytes != cqe->payload_bytes ||
        cqe->span != axion_span(cqe->payload_bytes, AXION_ERROR_INLINE)) {
        return "ERROR whose lengths disagree";
    }
    copy_event(client, cqe, AXION_ERROR_INLINE);
    event->error.error = axion_error_info((int)e->error)->number;
    event->error.retry_after_ms = e->retry_after_ms;
    event->error.prompt_tokens = e->prompt_tokens;
    event->error.text = (const char *)client->payload;
    event->error.text_bytes = e->text_bytes;
    if (!axion_utf8_valid(event->error.text, e->text_bytes)) {
        return "ERROR whose text is not UTF-8";
    }
    return NULL;
}


static const char *
done_fault(const struct axion_cqe *cqe, struct axion_event *event)
{
    if (cqe->done.reason < AXION_FINISH_STOP ||
        cqe->done.reason > AXION_FINISH_CANCELLED) {
        return "DONE with an unknown reason";
    }
    event->done = cqe->done;
    return NULL;
}


static const char *
event_fault(struct axion_client *client, const struct axion_cqe *cqe,
            struct axion_event *event)
{
    uint32_t available = client->cq_tail_seen - client->cq_head;

    if (cqe->stream >= client->geometry.streams) {
        return "event for a slot that does not exist";
    }
    struct axion_client_slot *slot = &client->slots[cqe->stream];
    if (!slot->open || slot->generation != cqe->generation) {
        return "event for a stream that is not open";
    }
    if (cqe->flags != 0) {
        return "event with unknown flags";
    }
    if (cqe->span >= client->geometry.credit || cqe->span >= available) {
        return "event that is longer than what was published";
    }
    event->op = cqe->op;
    event->id = (uint64_t)cqe->generation << 32 | cqe->stream;
    if (cqe->op == AXION_CQ_TOKENS) {
        return tokens_fault(client, cqe, slot, event);
    }
    if (cqe->op == AXION_CQ_ERROR) {
        return error_fault(client, cqe, event);
    }
    if (cqe->span != 0 || cqe->payload_bytes != 0) {
        return "payload where there is none";
    }
    switch (cqe->op) {
    case AXION_CQ_ACCEPTED:
        event->accepted = cqe->accepted;
        return NULL;
    case AXION_CQ_PROGRESS:
        event->progress = cqe->progress;
        return NULL;
    case AXION_CQ_LEASE_LOW:
        event->lease_low = cqe->lease_low;
        return NULL;
    case AXION_CQ_DONE:
        return done_fault(cqe, event);
    default:
        return "unknown event";
    }
}


static void
disarm(struct axion_client *client)
{
    if (client->armed) {
        axion_need_wakeup_set(&client->map.region->cq_need_wakeup, 0);
        client->armed = 0;
    }
}


void
axion_client_cq_publish(struct axion_client *client)
{
    if (client->cq_published == client->cq_head) {
        return;
    }
    /* Pairs with axion_index_load(cq_head) in the channel: our copies are
     * made, the records may be written again. */
    axion_index_publish(&client->map.region->cq_head, client->cq_head);
    client->cq_published = client->cq_head;
    axion_wake(client->fd, &client->map.region->sq_need_wakeup,
               AXION_WAKE_SPACE, &client->sq_rung);
}


/* Pairs with axion_index_publish(cq_tail) in axion_channel_flush(). */
static int
cq_refresh(struct axion_client *client)
{
    client->cq_tail_seen = axion_index_load(&client->map.region->cq_tail);

    uint32_t available = client->cq_tail_seen - client->cq_head;
    if (available > client->geometry.cq_entries) {
        return axion_client_break(client, AXION_ERR_PROTOCOL,
                                  "cq_tail outside the ring");
    }
    return available == 0 ? AXION_AGAIN : AXION_OK;
}


static int
load_event(struct axion_client *client)
{
    struct axion_cqe cqe;

    if (client->cq_head == client->cq_tail_seen) {
        int rc = cq_refresh(client);
        if (rc != AXION_OK) {
            return rc;
        }
    }
    uint32_t at = client->cq_head & (client->geometry.cq_entries - 1);
    axion_copy_out(&cqe, &client->map.cq[at], sizeof(cqe));

    memset(&client->event, 0, sizeof(client->event));
    const char *fault = event_fault(client, &cqe, &client->event);
    if (fault != NULL) {
        return axion_client_break(client, AXION_ERR_PROTOCOL, fault);
    }
    client->event_slot = cqe.stream;
    client->event_records = 1 + (uint32_t)cqe.span;
    client->has_event = 1;
    return AXION_OK;
}


int
axion_client_peek(struct axion_client *client, struct axion_event *event)
{
    if (client->state == AXION_CLIENT_HANDSHAKE) {
        return AXION_AGAIN;
    }
    disarm(client);
    if (!client->has_event) {
        int rc = client->state == AXION_CLIENT_BROKEN ? client->error
                                                      : load_event(client);
        if (rc == AXION_AGAIN) {
            axion_client_cq_publish(client);
            return rc;
        }
        if (rc != AXION_OK) {
            client->error_reported = 1;
            return rc;
        }
    }
    *event = client->event;
    event->user = client->slots[client->event_slot].user;
    return AXION_OK;
}


static void
close_slot(struct axion_client *client, struct axion_client_slot *slot)
{
    slot->open = 0;
    slot->user = NULL;
    client->n_open--;
    if (!slot->linked) {
        slot->next = client->free_slot;
        client->free_slot = (uint32_t)(slot - client->slots);
    }
}


void
axion_client_advance(struct axion_client *client)
{
    assert(client->has_event);
    struct axion_client_slot *slot = &client->slots[client->event_slot];

    switch (client->event.op) {
    case AXION_CQ_ACCEPTED:
        slot->accepted = 1;
        break;
    case AXION_CQ_TOKENS:
        slot->position += client->event.tokens.n_tokens;
        break;
    case AXION_CQ_DONE:
    case AXION_CQ_ERROR:
        close_slot(client, slot);
        break;
    default:
        break;
    }
    client->has_event = 0;
    client->cq_head += client->event_records;
    /* In a long drain the engine gets its credit back in between. */
    if (client->cq_head - client->cq_published >=
        client->geometry.cq_entries / 8) {
        axion_client_cq_publish(client);
    }
}


int
axion_client_arm(struct axion_client *client)
{
    struct axion_region *region = client->map.region;

    if (client->state == AXION_CLIENT_CONNECTED) {
        axion_client_sq_drain(client);
        axion_client_cq_publish(client);
    }
    if (client->state == AXION_CLIENT_BROKEN) {
        return !client->error_reported;
    }
    if (client->state == AXION_CLIENT_HANDSHAKE) {
        return 0;
    }

    int pending = client->pending_first != AXION_SLOT_NONE &&
                  client->state == AXION_CLIENT_CONNECTED;
    uint32_t bits = AXION_WAKE_RECORDS | (pending ? AXION_WAKE_SPACE : 0);
    axion_need_wakeup_set(&region->cq_need_wakeup,
                          axion_ticket(&client->ticket, bits));
    client->armed = 1;
    /* Sleeper's fence: between the ticket and the loads below.  Pairs with
     * axion_wake()'s in axion_channel_flush() and axion_channel_next(). */
    axion_full_fence();
    if (axion_index_load(&region->cq_tail) != client->cq_head ||
        (pending &&
         axion_index_load(&region->sq_head) != client->sq_head_seen)) {
        disarm(client);
        return 1;
    }
    return 0;
}
