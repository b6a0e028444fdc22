/*
 * The client's way out: submissions, commands, and the arena.
 *
 * The arena is handed out in the order of the SQ and freed in the same
 * order, when sq_head passes a record: a ring of bytes beside the ring of
 * records.  A payload is contiguous; where it would wrap, the rest of the
 * arena is skipped and counted to it.  When nothing is in flight the arena
 * starts again at 0, so that a payload as large as the arena always gets in.
 *
 * Commands never fail because they are not queued: a slot keeps what the
 * engine should know (cancelled? paused? how many tokens more?), and
 * axion_client_sq_drain() sends the difference to what it has been told.
 * So a PAUSE and a RESUME that both found the SQ full annul each other,
 * top-ups add up, and a CANCEL outlives them all.  Order within a stream:
 * CANCEL, else tokens, refusal, pause; a slot's turn comes in the order in
 * which slots got something to say.
 */
#include <assert.h>
#include <string.h>
#include "shm/client_private.h"


int
axion_client_sq_reclaim(struct axion_client *client)
{
    /* Pairs with axion_index_publish(sq_head) in axion_channel_next(): the
     * engine has copied what it passed. */
    uint32_t head = axion_index_load(&client->map.region->sq_head);
    uint32_t passed = head - client->sq_head_seen;

    if (passed > client->sq_published - client->sq_head_seen) {
        axion_client_break(client, AXION_ERR_PROTOCOL,
                           "sq_head outside the records in flight");
        return 0;
    }
    while (client->sq_head_seen != head) {
        uint32_t at = client->sq_head_seen & (client->geometry.sq_entries - 1);
        client->arena_tail += client->sq_arena_bytes[at];
        client->sq_head_seen++;
    }
    assert(client->arena_tail <= client->arena_head);
    return 1;
}


static int
sq_is_full(const struct axion_client *client)
{
    return client->sq_tail - client->sq_head_seen ==
           client->geometry.sq_entries;
}


static int
sq_has_room(struct axion_client *client)
{
    if (!sq_is_full(client)) {
        return 1;
    }
    return axion_client_sq_reclaim(client) && !sq_is_full(client);
}


static void
sq_push(struct axion_client *client, const struct axion_sqe *sqe,
        uint32_t arena_bytes)
{
    uint32_t at = client->sq_tail & (client->geometry.sq_entries - 1);

    assert(!sq_is_full(client));
    client->sq_arena_bytes[at] = arena_bytes;
    client->map.sq[at] = *sqe;
    client->sq_tail++;
}


void
axion_client_wake(struct axion_client *client)
{
    if (client->wake_due) {
        client->wake_due = 0;
        axion_wake(client->fd, &client->map.region->sq_need_wakeup,
                   AXION_WAKE_RECORDS, &client->sq_rung);
    }
}


static void
sq_publish(struct axion_client *client, int lazy)
{
    if (client->sq_tail == client->sq_published) {
        return;
    }
    /* Pairs with axion_index_load(sq_tail) in axion_channel_next(). */
    axion_index_publish(&client->map.region->sq_tail, client->sq_tail);
    client->sq_published = client->sq_tail;
    client->wake_due = 1;
    if (!lazy) {
        axion_client_wake(client);
    }
}


/* ---- commands ---- */

static int
has_pending(const struct axion_client_slot *slot)
{
    if (!slot->open || slot->cancel_sent) {
        return 0;
    }
    return slot->cancel || slot->topup_tokens > 0 || slot->topup_refused ||
           slot->paused != slot->paused_sent;
}


/* The first thing that the engine does not know of the slot yet. */
static void
take_pending(struct axion_client_slot *slot, struct axion_sqe *sqe)
{
    if (slot->cancel) {
        sqe->op = AXION_SQ_CANCEL;
        slot->cancel_sent = 1;
    } else if (slot->topup_tokens > 0) {
        sqe->op = AXION_SQ_TOPUP;
        sqe->lease_tokens = slot->topup_tokens;
        slot->topup_tokens = 0;
    } else if (slot->topup_refused) {
        sqe->op = AXION_SQ_TOPUP;
        slot->topup_refused = 0;
    } else {
        sqe->op = slot->paused ? AXION_SQ_PAUSE : AXION_SQ_RESUME;
        slot->paused_sent = slot->paused;
    }
}


void
axion_client_sq_drain(struct axion_client *client)
{
    while (client->pending_first != AXION_SLOT_NONE) {
        uint32_t index = client->pending_first;
        struct axion_client_slot *slot = &client->slots[index];

        while (has_pending(slot)) {
            if (!sq_has_room(client)) {
                sq_publish(client, 0);
                return;
            }
            struct axion_sqe sqe = {.stream = index,
                                    .generation = slot->generation};
            take_pending(slot, &sqe);
            sq_push(client, &sqe, 0);
        }
        slot->linked = 0;
        client->pending_first = slot->next;
        if (client->pending_first == AXION_SLOT_NONE) {
            client->pending_last = AXION_SLOT_NONE;
        }
        if (!slot->open) {
            slot->next = client->free_slot;
            client->free_slot = index;
        }
    }
    sq_publish(client, 0);
}


static struct axion_client_slot *
find_open(struct axion_client *client, axion_stream_id id)
{
    uint32_t index = (uint32_t)id;

    if (client->state != AXION_CLIENT_CONNECTED ||
        index >= client->geometry.streams) {
        return NULL;
    }
    struct axion_client_slot *slot = &client->slots[index];
    return slot->open && slot->generation == id >> 32 ? slot : NULL;
}


static void
command(struct axion_client *client, struct axion_client_slot *slot)
{
    if (!slot->linked && has_pending(slot)) {
        uint32_t index = (uint32_t)(slot - client->slots);

        slot->linked = 1;
        slot->next = AXION_SLOT_NONE;
        if (client->pending_last == AXION_SLOT_NONE) {
            client->pending_first = index;
        } else {
            client->slots[client->pending_last].next = index;
        }
        client->pending_last = index;
    }
    axion_client_sq_drain(client);
}


void
axion_client_cancel(struct axion_client *client, axion_stream_id id)
{
    struct axion_client_slot *slot = find_open(client, id);

    if (slot != NULL) {
        slot->cancel = 1;
        command(client, slot);
    }
}


static void
set_paused(struct axion_client *client, axion_stream_id id, uint8_t paused)
{
    struct axion_client_slot *slot = find_open(client, id);

    if (slot != NULL) {
        slot->paused = paused;
        command(client, slot);
    }
}


void
axion_client_pause(struct axion_client *client, axion_stream_id id)
{
    set_paused(client, id, 1);
}


void
axion_client_resume(struct axion_client *client, axion_stream_id id)
{
    set_paused(client, id, 0);
}


void
axion_client_topup(struct axion_client *client, axion_stream_id id,
                   uint64_t tokens)
{
    struct axion_client_slot *slot = find_open(client, id);

    if (slot == NULL) {
        return;
    }
    if (tokens == 0) {
        slot->topup_refused = 1;
    } else {
        slot->topup_refused = 0;
        slot->topup_tokens = tokens > UINT64_MAX - slot->topup_tokens
                                 ? UINT64_MAX
                                 : slot->topup_tokens + tokens;
    }
    command(client, slot);
}


void
axion_client_forget(struct axion_client *client, axion_stream_id id)
{
    uint32_t index = (uint32_t)id;

    if (index < client->geometry.streams && client->slots[index].open &&
        client->slots[index].generation == id >> 32) {
        client->slots[index].user = NULL;
    }
}


/* ---- submissions ---- */

/* Finds `bytes` in a row: *skip is what is lost at the arena's end. */
static int
arena_fits(struct axion_client *client, uint32_t bytes, uint32_t *skip)
{
    uint32_t arena_bytes = client->geometry.arena_bytes;

    if (client->arena_head == client->arena_tail) {
        client->arena_head = 0;
        client->arena_tail = 0;
    }
    uint32_t offset = (uint32_t)(client->arena_head % arena_bytes);
    *skip = bytes > arena_bytes - offset ? arena_bytes - offset : 0;
    uint64_t used = client->arena_head - client->arena_tail;
    return used + *skip + bytes <= arena_bytes;
}


static int
arena_has_room(struct axion_client *client, uint32_t bytes, uint32_t *skip)
{
    if (arena_fits(client, bytes, skip)) {
        return 1;
    }
    return axion_client_sq_reclaim(client) && arena_fits(client, bytes, skip);
}


static void
open_slot(struct axion_client *client, uint32_t index, void *user)
{
    struct axion_client_slot *slot = &client->slots[index];
    uint32_t generation = axion_generation_next(slot->generation);

    client->free_slot = slot->next;
    memset(slot, 0, sizeof(*slot));
    slot->open = 1;
    slot->user = user;
    slot->generation = generation;
    client->n_open++;
}


int
axion_client_submit(struct axion_client *client, const void *payload,
                    size_t bytes, uint64_t lease_tokens, void *user,
                    axion_stream_id *id)
{
    return axion_client_submit_leased(client, payload, bytes, lease_tokens, 0,
                                      user, id);
}


int
axion_client_submit_leased(struct axion_client *client, const void *payload,
                           size_t bytes, uint64_t lease_tokens,
                           uint64_t lease_id, void *user, axion_stream_id *id)
{
    uint32_t skip;

    if (client->state == AXION_CLIENT_BROKEN) {
        return client->error;
    }
    if (client->state != AXION_CLIENT_CONNECTED) {
        return AXION_ERR_ENGINE_UNAVAILABLE;
    }
    if (bytes > axion_client_payload_max(client)) {
        return AXION_ERR_PAYLOAD_TOO_LARGE;
    }
    uint32_t aligned =
        ((uint32_t)bytes + AXION_CACHE_LINE - 1) & ~(AXION_CACHE_LINE - 1);

    axion_client_sq_drain(client);
    if (client->pending_first != AXION_SLOT_NONE ||
        client->free_slot == AXION_SLOT_NONE || !sq_has_room(client) ||
        !arena_has_room(client, aligned, &skip)) {
        return client->state == AXION_CLIENT_BROKEN ? client->error
                                                    : AXION_ERR_NO_STREAM_SLOT;
    }

    uint32_t index = client->free_slot;
    open_slot(client, index, user);
    client->arena_head += skip;
    uint32_t offset =
        (uint32_t)(client->arena_head % client->geometry.arena_bytes);
    client->arena_head += aligned;
    if (bytes > 0) {
        memcpy(client->map.arena + offset, payload, bytes);
    }

    struct axion_sqe sqe = {
        .op = AXION_SQ_SUBMIT,
        .stream = index,
        .generation = client->slots[index].generation,
        .payload_bytes = (uint32_t)bytes,
        .payload_offset = offset,
        .lease_tokens = lease_tokens,
        .lease_id = lease_id,
    };
    sq_push(client, &sqe, skip + aligned);
    /* The slot's former records must be off the engine's books before it
     * sees the slot opened again: cq_head first, sq_tail second. */
    axion_client_cq_publish(client);
    sq_publish(client, client->lazy);
    *id = (uint64_t)sqe.generation << 32 | index;
    return AXION_OK;
}
