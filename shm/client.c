/*
 * The client's end: life of a channel, handshake, load board (client.h).
 *
 * All memory is taken at open: the slots, a word per SQ record, the region.
 * The handshake is one message each way; whatever else comes then, or after
 * it in place of a doorbell, breaks the channel.  A REFUSED is told with the
 * engine's own words, made printable.
 *
 * Two ways to end differ: after end of file (LOST) what the engine had
 * published is still delivered, since an engine may finish a stream and exit;
 * after a broken protocol nothing is, and every call says so until close.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "shm/client_private.h"

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
    return (uint32_t)power;
}


static void
choose_geometry(struct axion_geometry *g,
                const struct axion_client_options *options)
{
    g->streams = options->streams != 0 ? options->streams : STREAMS_DEFAULT;
    g->credit = options->credit != 0 ? options->credit : CREDIT_DEFAULT;
    g->arena_bytes =
        options->arena_bytes != 0 ? options->arena_bytes : ARENA_BYTES_DEFAULT;

    uint64_t sq = (uint64_t)g->streams * 2;
    uint64_t cq = (uint64_t)g->streams * g->credit;
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
        .gateway = client->gateway,
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
    client->gateway = options->gateway;
    client->lazy = options->lazy != 0;
    choose_geometry(&client->geometry, options);
    if (axion_geometry_fault(&client->geometry, AXION_STREAMS_MAX) != NULL) {
        rc = AXION_ERR_BAD_OPTION;
        goto failed;
    }
    client->slots = calloc(client->geometry.streams, sizeof(*client->slots));
    client->sq_arena_bytes =
        calloc(client->geometry.sq_entries, sizeof(*client->sq_arena_bytes));
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

    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return AXION_ERR_SYSTEM;
    }
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
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
        munmap((void *)client->board, client->board_bytes);
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
        if (welcome.board_bytes < AXION_BOARD_BYTES_MIN ||
            welcome.board_bytes > BOARD_BYTES_MAX) {
            return axion_client_break(client, AXION_ERR_PROTOCOL,
                                      "size of the load board");
        }
        const char *fault = axion_memfd_fault(fd, welcome.board_bytes);
        if (fault != NULL) {
            return axion_client_break(client, AXION_ERR_PROTOCOL, fault);
        }
        void *board =
            mmap(NULL, welcome.board_bytes, PROT_READ, MAP_SHARED, fd, 0);
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
    int error = axion_error_info((int)refused.error)->number;
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

    int rc =
        axion_message_take(client->fd, data, sizeof(data), &bytes, &fd, &why);
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


static int
take_messages(struct axion_client *client)
{
    const char *why = "";
    struct axion_journal message;
    size_t bytes;
    int rc;

    do {
        rc = axion_doorbells_take(client->fd, &message, sizeof(message), &bytes,
                                  &why);
        if (rc == AXION_OK && bytes > 0) {
            rc = axion_client_take_journal(client, &message, bytes);
        } else if (rc == AXION_ERR_ENGINE_LOST) {
            client->state = AXION_CLIENT_LOST;
            client->error = rc;
        } else if (rc != AXION_OK) {
            rc = axion_client_break(client, rc, why);
        }
    } while (rc == AXION_OK && bytes > 0);
    return rc;
}


int
axion_client_service(struct axion_client *client)
{
    if (client->state >= AXION_CLIENT_LOST) {
        return client->error;
    }
    if (client->state == AXION_CLIENT_HANDSHAKE) {
        int rc = take_answer(client);
        if (rc != AXION_OK) {
            return rc;
        }
    }
    axion_client_send_settled(client);
    return take_messages(client);
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


/* Only what can be named: an op's index is a peer's word. */
static void
keep_named_costs(struct axion_costs *copy)
{
    uint32_t n = 0;

    if (copy->n_ops > AXION_COST_OPS_MAX) {
        copy->n_ops = AXION_COST_OPS_MAX;
    }
    for (uint32_t i = 0; i < copy->n_ops; i++) {
        copy->ops[i][AXION_COST_OP_BYTES - 1] = 0;
    }
    for (uint32_t i = 0; i < copy->n; i++) {
        if (copy->costs[i].op < copy->n_ops) {
            copy->costs[n++] = copy->costs[i];
        }
    }
    copy->n = n;
}


int
axion_client_costs(const struct axion_client *client, struct axion_costs *copy)
{
    copy->n = 0;
    copy->n_ops = 0;
    if (client->board_bytes < AXION_BOARD_BYTES_FULL) {
        return AXION_OK;
    }
    const struct axion_costs *costs =
        (const void *)((const char *)client->board + AXION_COSTS_OFFSET);
    for (int i = 0; i < BOARD_TRIES; i++) {
        if (axion_costs_read(costs, copy)) {
            keep_named_costs(copy);
            return AXION_OK;
        }
    }
    copy->n = 0;
    return AXION_AGAIN;
}
