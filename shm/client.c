/*
 * The client's end: life of a channel, handshake, events (client.h).
 *
 * Everything from the engine is foreign: an event is copied out of the ring
 * once, with its payload, then checked, and only the copy is handed on; the
 * copy stays until advance(), so that looking twice shows the same.  The
 * checks are the protocol's own rules, spans and lengths that agree, a slot
 * that is open with this generation, ACCEPTED before TOKENS, positions
 * without a gap, text that is UTF-8.  An engine built on channel.h cannot
 * break one, so whoever does is not trusted any further: the channel is
 * broken, every later call says so, and the owner closes it.
 *
 * Two ways to end differ: after end of file (LOST) what the engine had
 * published is still delivered, since an engine may finish a stream and exit;
 * after a broken protocol nothing is.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "shm/client_private.h"
#include "shm/request.h"

#define STREAMS_DEFAULT     1024u
#define CREDIT_DEFAULT      4u
#define ARENA_BYTES_DEFAULT (16u << 20)
#define BOARD_BYTES_MAX     (1u << 20)
#define BOARD_TRIES         64


/* ---- open and close ---- */

static uint32_t
power_of_two_from(uint64_t n)
{
    uint64_t power = 1;

    while (power < n && power < 1u << 31) {
        power *= 2;
    }
    return (uint32_t) power;
}


static void
choose_geometry(struct axion_geometry *g,
                const struct axion_client_options *options)
{
    g->streams = options->streams != 0 ? options->streams : STREAMS_DEFAULT;
    g->credit = options->credit != 0 ? options->credit : CREDIT_DEFAULT;
    g->arena_bytes = options->arena_bytes != 0 ? options->arena_bytes
                                               : ARENA_BYTES_DEFAULT;

    uint64_t sq = (uint64_t) g->streams * 2;
    uint64_t cq = (uint64_t) g->streams * g->credit;
    sq = sq < 64 ? 64 : sq;
    sq = sq > AXION_SQ_ENTRIES_MAX ? AXION_SQ_ENTRIES_MAX : sq;
    cq = cq < AXION_CQ_ENTRIES_MIN ? AXION_CQ_ENTRIES_MIN : cq;
    g->sq_entries =
        options->sq_entries != 0 ? options->sq_entries : power_of_two_from(sq);
    g->cq_entries =
        options->cq_entries != 0 ? options->cq_entries : power_of_two_from(cq);
}


static int
send_hello(struct axion_client *client, int memfd, const char *name)
{
    const struct axion_geometry *g = &client->geometry;
    struct axion_hello hello = {
        .head = {AXION_WIRE_MAGIC, AXION_WIRE_VERSION, AXION_MSG_HELLO},
        .sq_entries = g->sq_entries,
        .cq_entries = g->cq_entries,
        .arena_bytes = g->arena_bytes,
        .streams = g->streams,
        .credit = g->credit,
    };

    snprintf(hello.name, sizeof(hello.name), "%s", name != NULL ? name : "");
    int rc = axion_message_send(client->fd, &hello, sizeof(hello), memfd);
    if (rc == AXION_ERR_SYSTEM && (errno == EPIPE || errno == ECONNRESET)) {
        /* Refused before HELLO: the reason waits in our queue. */
        return AXION_OK;
    }
    return rc;
}


static void
start_slots(struct axion_client *client)
{
    uint32_t streams = client->geometry.streams;

    for (uint32_t i = 0; i < streams; i++) {
        client->slots[i].next = i + 1 < streams ? i + 1 : AXION_SLOT_NONE;
        client->slots[i].generation = AXION_GENERATION_START;
    }
    client->free_slot = 0;
    client->pending_first = AXION_SLOT_NONE;
    client->pending_last = AXION_SLOT_NONE;
}


static void
start_indexes(struct axion_client *client)
{
    struct axion_region *region = client->map.region;
    uint32_t start = AXION_INDEX_START;

    client->sq_tail = client->sq_published = client->sq_head_seen = start;
    client->cq_head = client->cq_published = client->cq_tail_seen = start;
    axion_index_publish(&region->sq_tail, start);
    axion_index_publish(&region->sq_head, start);
    axion_index_publish(&region->cq_tail, start);
    axion_index_publish(&region->cq_head, start);
}


int
axion_client_open_fd(struct axion_client **out, int fd,
                     const struct axion_client_options *options)
{
    int rc = AXION_ERR_NO_MEMORY;
    int memfd = -1;
    struct axion_client *client = calloc(1, sizeof(*client));

    *out = NULL;
    if (client == NULL) {
        close(fd);
        return AXION_ERR_NO_MEMORY;
    }
    client->fd = fd;
    client->state = AXION_CLIENT_HANDSHAKE;
    choose_geometry(&client->geometry, options);
    if (axion_geometry_fault(&client->geometry, AXION_STREAMS_MAX) != NULL) {
        rc = AXION_ERR_BAD_OPTION;
        goto failed;
    }
    client->slots = calloc(client->geometry.streams, sizeof(*client->slots));
    client->sq_arena_bytes = calloc(client->geometry.sq_entries,
                                    sizeof(*client->sq_arena_bytes));
    if (client->slots == NULL || client->sq_arena_bytes == NULL) {
        goto failed;
    }
    rc = axion_region_create(&client->map, &memfd, &client->geometry);
    if (rc != AXION_OK) {
        goto failed;
    }
    start_slots(client);
    start_indexes(client);
    rc = send_hello(client, memfd, options->name);
    if (rc != AXION_OK) {
        goto failed;
    }
    close(memfd);
    *out = client;
    return AXION_OK;

failed:;
    int kept = errno;
    if (memfd >= 0) {
        close(memfd);
    }
    axion_client_close(client);
    errno = kept;
    return rc;
}


int
axion_client_open(struct axion_client **out,
                  const struct axion_client_options *options)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    *out = NULL;
    if (options->path == NULL || options->path[0] == 0 ||
        strlen(options->path) >= sizeof(address.sun_path)) {
        return AXION_ERR_BAD_OPTION;
    }
    strcpy(address.sun_path, options->path);

    int fd =
        socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return AXION_ERR_SYSTEM;
    }
    if (connect(fd, (struct sockaddr *) &address, sizeof(address)) != 0) {
        int kept = errno;
        close(fd);
        errno = kept;
        return kept == ENOENT || kept == ECONNREFUSED || kept == EAGAIN
                   ? AXION_ERR_ENGINE_UNAVAILABLE
                   : AXION_ERR_SYSTEM;
    }
    return axion_client_open_fd(out, fd, options);
}


void
axion_client_close(struct axion_client *client)
{
    if (client == NULL) {
        return;
    }
    if (client->board != NULL) {
        munmap((void *) client->board, client->board_bytes);
    }
    axion_region_unmap(&client->map);
    close(client->fd);
    free(client->sq_arena_bytes);
    free(client->slots);
    free(client);
}


int
axion_client_fd(const struct axion_client *client)
{
    return client->fd;
}


const char *
axion_client_why(const struct axion_client *client)
{
    return client->why;
}


uint32_t
axion_client_streams(const struct axion_client *client)
{
    return client->n_open;
}


size_t
axion_client_payload_max(const struct axion_client *client)
{
    uint32_t arena_bytes = client->geometry.arena_bytes;

    if (client->state == AXION_CLIENT_HANDSHAKE ||
        client->payload_bytes_max > arena_bytes) {
        return arena_bytes;
    }
    return client->payload_bytes_max;
}


int
axion_client_break(struct axion_client *client, int error, const char *why)
{
    if (client->state != AXION_CLIENT_BROKEN) {
        client->state = AXION_CLIENT_BROKEN;
        client->error = error;
        client->has_event = 0;
        snprintf(client->why, sizeof(client->why), "%s", why);
    }
    return client->error;
}


/* ---- handshake ---- */

static int
take_welcome(struct axion_client *client, const void *data, size_t bytes,
             int fd)
{
    struct axion_welcome welcome;

    if (bytes != sizeof(welcome)) {
        return axion_client_break(client, AXION_ERR_PROTOCOL,
                                  "WELCOME of the wrong length");
    }
    memcpy(&welcome, data, sizeof(welcome));
    if ((welcome.board_bytes != 0) != (fd >= 0)) {
        return axion_client_break(client, AXION_ERR_PROTOCOL,
                                  "WELCOME without its load board");
    }
    if (fd >= 0) {
        if (welcome.board_bytes < sizeof(struct axion_board) ||
            welcome.board_bytes > BOARD_BYTES_MAX) {
            return axion_client_break(client, AXION_ERR_PROTOCOL,
                                      "size of the load board");
        }
        const char *fault = axion_memfd_fault(fd, welcome.board_bytes);
        if (fault != NULL) {
            return axion_client_break(client, AXION_ERR_PROTOCOL, fault);
        }
        void *board = mmap(NULL, welcome.board_bytes, PROT_READ, MAP_SHARED,
                           fd, 0);
        if (board == MAP_FAILED) {
            return axion_client_break(client, AXION_ERR_NO_MEMORY,
                                      "the load board cannot be mapped");
        }
        client->board = board;
        client->board_bytes = welcome.board_bytes;
    }
    client->payload_bytes_max = welcome.payload_bytes_max;
    client->state = AXION_CLIENT_CONNECTED;
    return AXION_OK;
}


static int
take_refused(struct axion_client *client, const void *data, size_t bytes)
{
    struct axion_refused refused;
    char text[sizeof(refused.text)];

    if (bytes != sizeof(refused)) {
        return axion_client_break(client, AXION_ERR_PROTOCOL,
                                  "REFUSED of the wrong length");
    }
    memcpy(&refused, data, sizeof(refused));
    axion_printable(text, sizeof(text), refused.text, sizeof(refused.text));
    /* An unknown number becomes INTERNAL: never AXION_OK or AXION_AGAIN. */
    int error = axion_error_info((int) refused.error)->number;
    return axion_client_break(client, error, text);
}


static int
take_answer(struct axion_client *client)
{
    const char *why = "";
    struct axion_message head;
    _Alignas(8) char data[256];
    size_t bytes;
    int fd;

    int rc = axion_message_take(client->fd, data, sizeof(data), &bytes, &fd,
                                &why);
    if (rc == AXION_AGAIN) {
        return rc;
    }
    if (rc != AXION_OK) {
        return axion_client_break(
            client, rc,
            rc == AXION_ERR_ENGINE_LOST ? "closed in the handshake" : why);
    }

    memset(&head, 0, sizeof(head));
    memcpy(&head, data, bytes < sizeof(head) ? bytes : sizeof(head));
    if (bytes < sizeof(head) || head.magic != AXION_WIRE_MAGIC) {
        rc = axion_client_break(client, AXION_ERR_PROTOCOL,
                                "answer that is no message of ours");
    } else if (head.type == AXION_MSG_REFUSED) {
        rc = take_refused(client, data, bytes);
    } else if (head.version != AXION_WIRE_VERSION) {
        rc = axion_client_break(client, AXION_ERR_VERSION_MISMATCH,
                                "answer of another version");
    } else if (head.type == AXION_MSG_WELCOME) {
        rc = take_welcome(client, data, bytes, fd);
    } else {
        rc = axion_client_break(client, AXION_ERR_PROTOCOL,
                                "unexpected message in the handshake");
    }
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}


int
axion_client_service(struct axion_client *client)
{
    const char *why = "";

    if (client->state >= AXION_CLIENT_LOST) {
        return client->error;
    }
    if (client->state == AXION_CLIENT_HANDSHAKE) {
        int rc = take_answer(client);
        if (rc != AXION_OK) {
            return rc;
        }
    }
    int rc = axion_doorbells_take(client->fd, &why);
    if (rc == AXION_ERR_ENGINE_LOST) {
        client->state = AXION_CLIENT_LOST;
        client->error = rc;
        return rc;
    }
    return rc == AXION_OK ? rc : axion_client_break(client, rc, why);
}


/* ---- events ---- */

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
    uint64_t bytes = (uint64_t) t->n_tokens * sizeof(uint32_t) +
                     t->text_bytes + t->ext_bytes;

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
    event->tokens.ids = (const uint32_t *) client->payload;
    event->tokens.text =
        (const char *) client->payload + t->n_tokens * sizeof(uint32_t);
    event->tokens.text_bytes = t->text_bytes;
    event->tokens.ext = (const uint8_t *) event->tokens.text + t->text_bytes;
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
    event->error.error = axion_error_info((int) e->error)->number;
    event->error.retry_after_ms = e->retry_after_ms;
    event->error.text = (const char *) client->payload;
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
    event->id = (uint64_t) cqe->generation << 32 | cqe->stream;
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
    client->event_records = 1 + (uint32_t) cqe.span;
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
        client->free_slot = (uint32_t) (slot - client->slots);
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


/* ---- load board ---- */

int
axion_client_board(const struct axion_client *client, struct axion_board *copy)
{
    if (client->board == NULL) {
        return AXION_ERR_ENGINE_UNAVAILABLE;
    }
    for (int i = 0; i < BOARD_TRIES; i++) {
        if (axion_board_read(client->board, copy)) {
            break;
        }
        if (i + 1 == BOARD_TRIES) {
            return AXION_AGAIN;
        }
    }
    if (copy->magic != AXION_WIRE_MAGIC ||
        copy->version != AXION_WIRE_VERSION) {
        return AXION_ERR_PROTOCOL;
    }
    if (copy->n_models > AXION_MODELS_MAX) {
        copy->n_models = AXION_MODELS_MAX;
    }
    for (uint32_t i = 0; i < AXION_MODELS_MAX; i++) {
        copy->models[i].id[AXION_NAME_BYTES - 1] = 0;
    }
    return AXION_OK;
}
