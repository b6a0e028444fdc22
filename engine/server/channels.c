/*
 * Connections: one axion_channel each.
 *
 * A connection dies in two strokes: at the first its requests are freed, its
 * descriptor is unwatched and it is marked dead; at the end of the loop's
 * turn, when no tag of that turn can point to it any more, it is closed.
 */
#include "engine/server/server_private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>


static void
free_stream(void *context, axion_stream_id id, void *user)
{
    struct ax_server *s = context;
    struct request *r = user;
    (void)id;
    if (r != NULL) {
        ax_server_cancel(s, r);
    }
}


/* One log line says why; a plain end of file is no fault. */
static void
kill_conn(struct ax_server *s, struct conn *c, int error)
{
    if (c->dead) {
        return;
    }
    c->dead = true;
    if (error == AXION_ERR_ENGINE_LOST) {
        ax_log(s->log, AXION_LOG_info, "channel of %s (pid %d) closed",
               axion_channel_name(c->channel),
               (int)axion_channel_pid(c->channel));
    } else {
        s->board.channels_lost_protocol++;
        ax_log(s->log, AXION_LOG_error,
               "channel of \"%s\" (pid %d, uid %u) ended: %s: %s",
               axion_channel_name(c->channel),
               (int)axion_channel_pid(c->channel),
               (unsigned)axion_channel_uid(c->channel),
               axion_error_info(error)->name, axion_channel_why(c->channel));
    }
    ax_loop_unwatch(s->loop, axion_channel_fd(c->channel));
    axion_channel_each(c->channel, free_stream, s);
}


static void
on_channel(struct ax_server *s, struct source *source)
{
    struct conn *c = (struct conn *)source;
    if (c->dead) {
        return;
    }
    int rc = axion_channel_service(c->channel);
    if (rc == AXION_OK && !c->greeted) {
        c->greeted = true;
        ax_log(s->log, AXION_LOG_info, "channel of %s (pid %d, uid %u) opened",
               axion_channel_name(c->channel),
               (int)axion_channel_pid(c->channel),
               (unsigned)axion_channel_uid(c->channel));
    } else if (rc != AXION_OK && rc != AXION_AGAIN) {
        kill_conn(s, c, rc);
    }
}


static void
adopt(struct ax_server *s, int fd)
{
    struct axion_channel_options options = {
        .allow_uids = s->options.allow_uid.n > 0 ? s->allow_uids : NULL,
        .n_allow_uids = s->options.allow_uid.n,
        .board = s->board_writer,
    };
    if (s->n_conns >= CONNS_MAX) {
        ax_log(s->log, AXION_LOG_warn,
               "connection refused: %u channels are open", s->n_conns);
        close(fd);
        return;
    }
    struct axion_channel *channel;
    int rc = axion_channel_open(&channel, fd, &options);
    if (rc != AXION_OK) {
        ax_log(s->log, AXION_LOG_warn, "connection refused: %s",
               axion_error_info(rc)->text);
        return;
    }
    struct conn *c = calloc(1, sizeof(*c));
    if (c == NULL || ax_loop_watch(s->loop, fd, c) != AXION_OK) {
        ax_log(s->log, AXION_LOG_error, "connection refused: no memory");
        axion_channel_close(channel);
        free(c);
        return;
    }
    c->source.ready = on_channel;
    c->channel = channel;
    c->next = s->conns;
    s->conns = c;
    s->n_conns++;
}


/* The connection stays in the backlog, and no event tells of it a second
 * time: the loop asks again until there is room.  One line says so. */
static void
hold_accept(struct ax_server *s, int error)
{
    if (!s->accept_held) {
        ax_log(s->log, AXION_LOG_error, "accept: %s; new connections wait",
               strerror(error));
    }
    s->accept_held = true;
    s->accept_retry_us = ax_server_now_us() + ACCEPT_RETRY_US;
}


void
ax_server_on_listen(struct ax_server *s, struct source *source)
{
    (void)source;
    for (;;) {
        int fd =
            accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            adopt(s, fd);
        } else if (errno == EAGAIN) {
            break;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            hold_accept(s, errno);
            return;
        }
    }
    if (s->accept_held) {
        s->accept_held = false;
        ax_log(s->log, AXION_LOG_notice, "connections are accepted again");
    }
}


void
ax_server_accept_again(struct ax_server *s)
{
    if (s->accept_held && s->listen_fd >= 0 &&
        ax_server_now_us() >= s->accept_retry_us) {
        ax_server_on_listen(s, &s->listen_source);
    }
}


/* ---- commands ---- */

static void
obey(struct ax_server *s, struct conn *c, const struct axion_command *command)
{
    if (command->op == AXION_SQ_SUBMIT) {
        ax_server_submit(s, c, command);
        return;
    }
    struct request *r = axion_channel_user(c->channel, command->id);
    assert(r != NULL && r->conn == c);
    switch (command->op) {
    case AXION_SQ_CANCEL:
        ax_server_cancel(s, r);
        break;
    case AXION_SQ_PAUSE:
        ax_server_pause(s, r, true);
        break;
    case AXION_SQ_RESUME:
        ax_server_pause(s, r, false);
        break;
    default:
        ax_server_topup(s, r, command->lease_tokens);
    }
}


/* Also at layer boundaries: nothing here touches KV of the running step. */
void
ax_server_take_commands(struct ax_server *s)
{
    for (struct conn *c = s->conns; c != NULL; c = c->next) {
        for (uint32_t i = 0; !c->dead && i < COMMANDS_PER_TURN; i++) {
            struct axion_command command;
            int rc = axion_channel_next(c->channel, &command);
            if (rc == AXION_AGAIN) {
                break;
            }
            if (rc != AXION_OK) {
                kill_conn(s, c, rc);
                break;
            }
            obey(s, c, &command);
        }
    }
}


void
ax_server_flush(struct ax_server *s)
{
    for (struct conn *c = s->conns; c != NULL; c = c->next) {
        if (!c->dead) {
            int rc = axion_channel_flush(c->channel);
            if (rc > 1) {
                kill_conn(s, c, rc);
            }
        }
    }
}


void
ax_server_announce(struct ax_server *s)
{
    ax_server_publish(s);
    for (struct conn *c = s->conns; c != NULL; c = c->next) {
        if (!c->dead) {
            axion_channel_ring(c->channel);
        }
    }
}


bool
ax_server_arm(struct ax_server *s)
{
    bool sleep = true;
    for (struct conn *c = s->conns; c != NULL; c = c->next) {
        if (!c->dead && axion_channel_arm(c->channel) != 0) {
            sleep = false;
        }
    }
    return sleep;
}


void
ax_server_bury_conns(struct ax_server *s)
{
    for (struct conn **at = &s->conns; *at != NULL;) {
        struct conn *c = *at;
        if (!c->dead) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        axion_channel_close(c->channel);
        free(c);
        s->n_conns--;
    }
}


void
ax_server_close_conns(struct ax_server *s)
{
    for (struct conn *c = s->conns; c != NULL; c = c->next) {
        if (!c->dead) {
            c->dead = true;
            ax_loop_unwatch(s->loop, axion_channel_fd(c->channel));
        }
    }
    ax_server_bury_conns(s);
}
