/*
 * Streams over the ring: the listening socket, one source per channel, and
 * the sink that hands a stream's events to its channel.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "shm/channel.h"
#include "shm/errors.h"
#include "tests/echo/echo.h"

struct echo_channel {
    struct echo_source source; /* first: the loop hands this out */
    struct echo_channel *next;
    struct axion_channel *channel;
    int connected;
    int told; /* the journal is complete */
    int broken; /* an error to close for, once nobody walks the list */
};

static struct echo_source listener = {.fd = -1};
static char listener_path[PATH_MAX];
static struct echo_channel *channels;


/* ---- the sink ---- */

static struct axion_channel *
channel_of(const struct echo_stream *s)
{
    return ((struct echo_channel *) s->owner)->channel;
}


static void
ring_accepted(struct echo_stream *s, const struct axion_cq_accepted *accepted)
{
    axion_channel_accepted(channel_of(s), s->id, accepted);
}


static void
ring_progress(struct echo_stream *s, const struct axion_cq_progress *progress)
{
    axion_channel_progress(channel_of(s), s->id, progress);
}


static int
ring_writable(struct echo_stream *s, uint32_t bytes)
{
    return axion_channel_writable(channel_of(s), s->id, bytes);
}


static void
ring_token(struct echo_stream *s, const struct echo_token *token)
{
    int error = axion_channel_tokens(channel_of(s), s->id, &token->id, 1,
                                     token->text, token->bytes, NULL, 0);

    if (error != AXION_OK)
        abort(); /* writable() said yes and the text is the request's own */
}


static void
ring_lease_low(struct echo_stream *s, const struct axion_cq_lease_low *low)
{
    axion_channel_lease_low(channel_of(s), s->id, low);
}


static void
ring_done(struct echo_stream *s, const struct axion_cq_done *done)
{
    axion_channel_done(channel_of(s), s->id, done);
}


static void
ring_error(struct echo_stream *s, int error, uint32_t retry_after_ms,
           const char *detail)
{
    if (error == AXION_ERR_LEASE_TOO_SMALL)
        axion_channel_lease_too_small(channel_of(s), s->id,
                                      s->answer.prompt_tokens);
    else
        axion_channel_error(channel_of(s), s->id, error, retry_after_ms,
                            detail);
}


static const struct echo_sink ring_sink = {
    ring_accepted, ring_progress, ring_writable, ring_token,
    ring_lease_low, ring_done,    ring_error,
};


/* ---- channels ---- */

static void
close_dead_stream(void *context, axion_stream_id id, void *user)
{
    (void) context;
    (void) id;
    if (user != NULL)
        echo_stream_close(user);
}


static void
channel_close(struct echo_channel *c, const char *why)
{
    struct echo_channel **at = &channels;

    echo_log("channel closed pid=%d streams=%u why=%s",
             (int) axion_channel_pid(c->channel),
             axion_channel_streams(c->channel), why);
    echo_journal_bury(c->channel);
    axion_channel_each(c->channel, close_dead_stream, NULL);
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    echo_unwatch(&c->source);
    axion_channel_close(c->channel);
    free(c);
    echo.board.channels_open--;
    echo.board_dirty = 1;
}


static void
take_submit(struct echo_channel *c, const struct axion_command *command)
{
    struct axion_request_view view;
    struct echo_stream *s;
    char why[128];

    if (axion_request_decode(&view, command->payload, command->payload_bytes,
                             why, sizeof(why)) != AXION_OK) {
        echo_log("payload refused: %s", why);
        axion_channel_error(c->channel, command->id, AXION_ERR_PROTOCOL, 0,
                            why);
        return;
    }
    echo_stream_open(&ring_sink, c, command->id, command->lease_tokens,
                     command->lease_id, &view, &s);
    if (s != NULL)
        axion_channel_set_user(c->channel, command->id, s);
}


static void
take_command(struct echo_channel *c, const struct axion_command *command)
{
    struct echo_stream *s;

    if (command->op == AXION_SQ_SUBMIT) {
        take_submit(c, command);
        return;
    }
    s = axion_channel_user(c->channel, command->id);
    if (s == NULL)
        return;
    switch (command->op) {
    case AXION_SQ_CANCEL:
        echo_stream_cancel(s);
        break;
    case AXION_SQ_PAUSE:
        echo_stream_pause(s, 1);
        break;
    case AXION_SQ_RESUME:
        echo_stream_pause(s, 0);
        break;
    case AXION_SQ_TOPUP:
        echo_stream_topup(s, command->lease_tokens);
        break;
    default:
        break;
    }
}


/* AXION_OK, or the error to close the channel for. */
static int
channel_drain(struct echo_channel *c)
{
    struct axion_command command;
    int error;

    while ((error = axion_channel_next(c->channel, &command)) == AXION_OK)
        take_command(c, &command);
    return error == AXION_AGAIN ? AXION_OK : error;
}


static void
channel_ready(struct echo_source *source, uint32_t events)
{
    struct echo_channel *c = (struct echo_channel *) source;
    uint32_t unsettled = axion_channel_unsettled(c->channel);
    int error = axion_channel_service(c->channel);

    (void) events;
    if (unsettled > 0 && axion_channel_unsettled(c->channel) == 0)
        echo_journal_settled(c->channel);
    if (error == AXION_AGAIN)
        return;
    if (error == AXION_OK && !c->connected) {
        c->connected = 1;
        echo_log("channel open pid=%d uid=%u name=%s",
                 (int) axion_channel_pid(c->channel),
                 (unsigned) axion_channel_uid(c->channel),
                 axion_channel_name(c->channel));
        echo_journal_due();
    }
    if (error == AXION_OK)
        error = channel_drain(c);
    if (error == AXION_OK)
        return;
    if (error == AXION_ERR_PROTOCOL)
        echo.board.channels_lost_protocol++;
    channel_close(c, error == AXION_ERR_ENGINE_LOST
                         ? "peer closed"
                         : axion_channel_why(c->channel));
}


int
echo_ring_flush(int sleep)
{
    struct echo_channel *c, *next;
    int more = 0;

    if (echo_journal_is_due()) {
        for (c = channels; c != NULL; c = c->next) {
            if (c->connected)
                echo_journal_deliver(c->channel, &c->told);
        }
    }
    for (c = channels; c != NULL; c = next) {
        next = c->next;
        if (!c->connected)
            continue;
        c->broken = axion_channel_flush(c->channel) == AXION_ERR_PROTOCOL;
        if (!c->broken && sleep && axion_channel_arm(c->channel) == 1)
            more = 1;
        /* Who does not sleep is not woken: it has to look by itself. */
        if (!c->broken && (more || !sleep))
            c->broken = channel_drain(c) != AXION_OK;
        if (c->broken) {
            echo.board.channels_lost_protocol++;
            channel_close(c, axion_channel_why(c->channel));
        }
    }
    return more;
}


/* ---- the listening socket ---- */

static void
listener_ready(struct echo_source *source, uint32_t events)
{
    struct axion_channel_options options = {
        .stream_buffer_bytes = echo.options.stream_buffer_bytes,
        .allow_uids = echo.options.has_allow_uid ? &echo.options.allow_uid
                                                 : NULL,
        .n_allow_uids = echo.options.has_allow_uid ? 1 : 0,
        .board = echo.board_writer,
    };
    struct echo_channel *c;
    int fd, error;

    (void) events;
    fd = accept4(source->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    c = calloc(1, sizeof(*c));
    if (c == NULL)
        abort();
    error = axion_channel_open(&c->channel, fd, &options);
    if (error != AXION_OK) {
        echo_log("channel refused: %s", axion_error_info(error)->name);
        free(c);
        return;
    }
    c->source.fd = axion_channel_fd(c->channel);
    c->source.ready = channel_ready;
    c->next = channels;
    channels = c;
    echo.board.channels_open++;
    echo.board_dirty = 1;
    if (echo_watch(&c->source, EPOLLIN) != 0)
        channel_close(c, "epoll");
}


int
echo_ring_open(void)
{
    char why[256];

    if (echo.options.listen == NULL)
        return 0;
    if (axion_listen(echo.options.listen, &listener.fd, listener_path,
                     sizeof(listener_path), why, sizeof(why)) != AXION_OK) {
        echo_log("listen: %s", why);
        return -1;
    }
    listener.ready = listener_ready;
    if (echo_watch(&listener, EPOLLIN) != 0)
        return -1;
    echo_log("listening %s", listener_path);
    return 0;
}


void
echo_ring_close(void)
{
    while (channels != NULL)
        channel_close(channels, "shutting down");
    if (listener.fd >= 0) {
        echo_unwatch(&listener);
        close(listener.fd);
        unlink(listener_path);
    }
}
