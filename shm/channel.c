/*
 * The engine's end: life of a channel and its handshake (channel.h).
 *
 * A connection is accepted by the owner's event loop and handed over; from
 * then on this file owns the socket.  The peer's uid is asked of the kernel
 * before a byte is read.  HELLO is the only message that we ever accept,
 * once; what follows are doorbells.  All memory of the channel is reserved at
 * HELLO, in proportion to the numbers that passed the bounds: the streams'
 * buffers and the payload are address space until they are used.
 *
 * A peer that is refused gets a REFUSED with the reason, as far as its
 * socket takes it; a channel that broke stays broken until the owner closes
 * it, and every call on it is safe until then.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "shm/channel_private.h"

#define PAYLOAD_BYTES_DEFAULT (8u << 20)
#define BUFFER_BYTES_DEFAULT  (16u << 10)
#define BUFFER_BYTES_MIN      512u


/* ---- open and close ---- */

static int
is_allowed(const struct axion_channel *channel)
{
    const struct axion_channel_options *options = &channel->options;

    if (options->allow_uids == NULL) {
        return 1;
    }
    for (size_t i = 0; i < options->n_allow_uids; i++) {
        if (options->allow_uids[i] == channel->uid) {
            return 1;
        }
    }
    return 0;
}


/* Best effort: a peer that does not read loses only the reason. */
static void
send_refused(struct axion_channel *channel, int error, const char *text)
{
    struct axion_refused refused = {
        .head = {AXION_WIRE_MAGIC, AXION_WIRE_VERSION, AXION_MSG_REFUSED},
        .error = (uint32_t)error,
    };

    snprintf(refused.text, sizeof(refused.text), "%s", text);
    (void)axion_message_send(channel->fd, &refused, sizeof(refused), -1);
}


static void
choose_options(struct axion_channel_options *to,
               const struct axion_channel_options *from)
{
    *to = *from;
    if (to->streams_max == 0) {
        to->streams_max = AXION_STREAMS_MAX;
    }
    if (to->payload_bytes_max == 0) {
        to->payload_bytes_max = PAYLOAD_BYTES_DEFAULT;
    }
    if (to->stream_buffer_bytes == 0) {
        to->stream_buffer_bytes = BUFFER_BYTES_DEFAULT;
    }
    assert(to->stream_buffer_bytes >= BUFFER_BYTES_MIN);
}


int
axion_channel_open(struct axion_channel **out, int fd,
                   const struct axion_channel_options *options)
{
    struct ucred peer;
    socklen_t peer_bytes = sizeof(peer);
    int rc = AXION_ERR_SYSTEM;
    struct axion_channel *channel = calloc(1, sizeof(*channel));

    *out = NULL;
    if (channel == NULL) {
        close(fd);
        return AXION_ERR_NO_MEMORY;
    }
    channel->fd = fd;
    channel->state = AXION_CHANNEL_HANDSHAKE;
    channel->ready_first = AXION_STREAM_NONE;
    channel->ready_last = AXION_STREAM_NONE;
    choose_options(&channel->options, options);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_bytes) != 0) {
        goto failed;
    }
    channel->pid = peer.pid;
    channel->uid = peer.uid;
    if (!is_allowed(channel)) {
        send_refused(channel, AXION_ERR_PEER_REFUSED,
                     axion_error_info(AXION_ERR_PEER_REFUSED)->text);
        rc = AXION_ERR_PEER_REFUSED;
        goto failed;
    }
    *out = channel;
    return AXION_OK;

failed:;
    int kept = errno;
    axion_channel_close(channel);
    errno = kept;
    return rc;
}


static size_t
buffers_bytes(const struct axion_channel *channel)
{
    return (size_t)channel->geometry.streams *
           channel->options.stream_buffer_bytes;
}


void
axion_channel_close(struct axion_channel *channel)
{
    if (channel == NULL) {
        return;
    }
    axion_region_unmap(&channel->map);
    if (channel->payload != NULL) {
        munmap(channel->payload, channel->payload_bytes_max);
    }
    if (channel->buffers != NULL) {
        munmap(channel->buffers, buffers_bytes(channel));
    }
    close(channel->fd);
    free(channel->cq_owner);
    free(channel->streams);
    free(channel);
}


int
axion_channel_break(struct axion_channel *channel, int error, const char *why)
{
    if (channel->state != AXION_CHANNEL_BROKEN) {
        channel->state = AXION_CHANNEL_BROKEN;
        channel->error = error;
        if (why != channel->why) {
            snprintf(channel->why, sizeof(channel->why), "%s", why);
        }
    }
    return channel->error;
}


/* ---- handshake ---- */

static void *
reserve(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}


static int
reserve_memory(struct axion_channel *channel)
{
    const struct axion_geometry *g = &channel->geometry;
    uint32_t payload_max = channel->options.payload_bytes_max;

    channel->payload_bytes_max =
        payload_max < g->arena_bytes ? payload_max : g->arena_bytes;
    channel->streams = calloc(g->streams, sizeof(*channel->streams));
    channel->cq_owner = calloc(g->cq_entries, sizeof(*channel->cq_owner));
    channel->payload = reserve(channel->payload_bytes_max);
    channel->buffers = reserve(buffers_bytes(channel));
    return channel->streams != NULL && channel->cq_owner != NULL &&
           channel->payload != NULL && channel->buffers != NULL;
}


/* The client chose where its indexes start; both rings must be empty. */
static int
start_indexes(struct axion_channel *channel)
{
    const struct axion_region *region = channel->map.region;

    channel->sq_head = axion_index_load(&region->sq_head);
    channel->sq_tail_seen = channel->sq_head;
    channel->cq_tail = axion_index_load(&region->cq_tail);
    channel->cq_published = channel->cq_tail;
    channel->cq_head_seen = channel->cq_tail;
    return axion_index_load(&region->sq_tail) == channel->sq_head &&
           axion_index_load(&region->cq_head) == channel->cq_tail;
}


static int
refuse(struct axion_channel *channel, int error, const char *why)
{
    send_refused(channel, error, why);
    return axion_channel_break(channel, error, why);
}


static int
adopt_hello(struct axion_channel *channel, const struct axion_hello *hello,
            int memfd)
{
    struct axion_geometry *g = &channel->geometry;
    const char *why = "";
    char text[128];

    *g = (struct axion_geometry){
        .sq_entries = hello->sq_entries,
        .cq_entries = hello->cq_entries,
        .arena_bytes = hello->arena_bytes,
        .streams = hello->streams,
        .credit = hello->credit,
    };
    channel->gateway = hello->gateway;
    axion_printable(channel->name, sizeof(channel->name), hello->name,
                    sizeof(hello->name));
    const char *fault = axion_geometry_fault(g, channel->options.streams_max);
    if (fault != NULL) {
        snprintf(text, sizeof(text), "HELLO out of bounds: %s", fault);
        memset(g, 0, sizeof(*g));
        return refuse(channel, AXION_ERR_CHANNEL_LIMITS, text);
    }
    int rc = axion_region_adopt(&channel->map, memfd, g, &why);
    if (rc == AXION_ERR_NO_MEMORY) {
        return refuse(channel, rc, "no memory for the region");
    }
    if (rc != AXION_OK) {
        return refuse(channel, rc, why);
    }
    if (!reserve_memory(channel)) {
        return refuse(channel, AXION_ERR_NO_MEMORY,
                      "no memory for the channel");
    }
    if (!start_indexes(channel)) {
        return refuse(channel, AXION_ERR_PROTOCOL,
                      "HELLO with rings that are not empty");
    }
    return AXION_OK;
}


static int
send_welcome(struct axion_channel *channel)
{
    struct axion_board_writer *board = channel->options.board;
    struct axion_welcome welcome = {
        .head = {AXION_WIRE_MAGIC, AXION_WIRE_VERSION, AXION_MSG_WELCOME},
        .board_bytes = board != NULL ? AXION_BOARD_BYTES_FULL : 0,
        .payload_bytes_max = channel->payload_bytes_max,
    };

    int rc = axion_message_send(channel->fd, &welcome, sizeof(welcome),
                                board != NULL ? axion_board_fd(board) : -1);
    if (rc != AXION_OK) {
        return axion_channel_break(channel, AXION_ERR_ENGINE_LOST,
                                   "WELCOME could not be sent");
    }
    channel->state = AXION_CHANNEL_CONNECTED;
    return AXION_OK;
}


static int
check_hello(struct axion_channel *channel, const void *data, size_t bytes,
            int memfd)
{
    struct axion_hello hello;

    memset(&hello, 0, sizeof(hello));
    memcpy(&hello, data, bytes < sizeof(hello) ? bytes : sizeof(hello));
    if (bytes < sizeof(hello.head) || hello.head.magic != AXION_WIRE_MAGIC ||
        hello.head.type != AXION_MSG_HELLO) {
        return refuse(channel, AXION_ERR_PROTOCOL, "first message is no HELLO");
    }
    if (hello.head.version != AXION_WIRE_VERSION) {
        return refuse(channel, AXION_ERR_VERSION_MISMATCH,
                      axion_error_info(AXION_ERR_VERSION_MISMATCH)->text);
    }
    if (bytes != sizeof(hello)) {
        return refuse(channel, AXION_ERR_PROTOCOL, "HELLO of the wrong length");
    }
    if (memfd < 0) {
        return refuse(channel, AXION_ERR_PROTOCOL, "HELLO without a memfd");
    }
    int rc = adopt_hello(channel, &hello, memfd);
    return rc == AXION_OK ? send_welcome(channel) : rc;
}


static int
take_hello(struct axion_channel *channel)
{
    const char *why = "";
    _Alignas(8) char data[256];
    size_t bytes;
    int memfd;

    int rc = axion_message_take(channel->fd, data, sizeof(data), &bytes, &memfd,
                                &why);
    if (rc == AXION_AGAIN) {
        return rc;
    }
    if (rc == AXION_ERR_ENGINE_LOST) {
        return axion_channel_break(channel, rc, "closed in the handshake");
    }
    if (rc != AXION_OK) {
        return refuse(channel, rc, why);
    }
    rc = check_hello(channel, data, bytes, memfd);
    if (memfd >= 0) {
        close(memfd);
    }
    return rc;
}


static int
take_messages(struct axion_channel *channel)
{
    const char *why = "end of file";
    struct axion_settled message;
    size_t bytes;
    int rc;

    do {
        rc = axion_doorbells_take(channel->fd, &message, sizeof(message),
                                  &bytes, &why);
        if (rc != AXION_OK) {
            return axion_channel_break(channel, rc, why);
        }
        if (bytes > 0) {
            rc = axion_channel_take_settled(channel, &message, bytes);
        }
    } while (rc == AXION_OK && bytes > 0);
    return rc;
}


int
axion_channel_service(struct axion_channel *channel)
{
    int rc = AXION_OK;

    if (channel->state == AXION_CHANNEL_HANDSHAKE) {
        rc = take_hello(channel);
    }
    if (rc == AXION_OK && channel->state == AXION_CHANNEL_CONNECTED) {
        rc = take_messages(channel);
    }
    if (channel->state == AXION_CHANNEL_BROKEN) {
        channel->error_reported = 1;
        return channel->error;
    }
    return rc;
}


/* ---- what the owner asks ---- */

struct axion_channel_stream *
axion_channel_find(const struct axion_channel *channel, axion_stream_id id)
{
    uint32_t index = (uint32_t)id;

    if (channel->streams == NULL || index >= channel->geometry.streams) {
        return NULL;
    }
    struct axion_channel_stream *stream = &channel->streams[index];
    return stream->state == AXION_STREAM_OPEN && stream->generation == id >> 32
               ? stream
               : NULL;
}


void
axion_channel_set_user(struct axion_channel *channel, axion_stream_id id,
                       void *user)
{
    struct axion_channel_stream *stream = axion_channel_find(channel, id);

    assert(stream != NULL);
    stream->user = user;
}


void *
axion_channel_user(const struct axion_channel *channel, axion_stream_id id)
{
    const struct axion_channel_stream *stream = axion_channel_find(channel, id);

    return stream != NULL ? stream->user : NULL;
}


void
axion_channel_each(struct axion_channel *channel,
                   void (*visit)(void *context, axion_stream_id id, void *user),
                   void *context)
{
    uint32_t streams = channel->streams != NULL ? channel->geometry.streams : 0;

    for (uint32_t i = 0; i < streams; i++) {
        struct axion_channel_stream *stream = &channel->streams[i];

        if (stream->state == AXION_STREAM_OPEN) {
            visit(context, (uint64_t)stream->generation << 32 | i,
                  stream->user);
        }
    }
}


int
axion_channel_fd(const struct axion_channel *channel)
{
    return channel->fd;
}


const char *
axion_channel_why(const struct axion_channel *channel)
{
    return channel->why;
}


const char *
axion_channel_name(const struct axion_channel *channel)
{
    return channel->name;
}


pid_t
axion_channel_pid(const struct axion_channel *channel)
{
    return channel->pid;
}


uid_t
axion_channel_uid(const struct axion_channel *channel)
{
    return channel->uid;
}


uint32_t
axion_channel_streams(const struct axion_channel *channel)
{
    return channel->n_live;
}


void
axion_channel_ring(const struct axion_channel *channel)
{
    if (channel->state == AXION_CHANNEL_CONNECTED) {
        /* A full queue holds doorbells enough. */
        (void)send(channel->fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
}
