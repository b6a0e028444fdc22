/*
 * Connections: one axion_channel each.
 *
 * A connection dies in two strokes: at the first its requests are freed, its
 * descriptor is unwatched and it is marked dead; at the end of the loop's
 * turn, when no tag of that turn can point to it any more, it is closed.
 *
 * Who may open the socket may still be broken or hostile: a connection has
 * five seconds to say HELLO, and when many say nothing the oldest of them
 * makes room.  A client that says it at once is never in that queue.
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
        if (error != AXION_ERR_NO_MEMORY && error != AXION_ERR_SYSTEM) {
            s->board.channels_lost_protocol++; /* the peer's fault, not ours */
        }
        ax_log(s->log, AXION_LOG_error,
               "channel of \"%s\" (pid %d, uid %u) ended: %s: %s",
               axion_channel_name(c->channel),
               (int)axion_channel_pid(c->channel),
               (unsigned)axion_channel_uid(c->channel),
               axion_error_info(error)->name, axion_channel_why(c->channel));
    }
    s->n_conns--;
    s->n_greeting -= !c->greeted;
    ax_loop_unwatch(s->loop, axion_channel_fd(c->channel));
    ax_server_journal_conn(s, c);
    axion_channel_each(c->channel, free_stream, s);
}


/* Refusals cost their sender nothing: they share a line each ten seconds. */
static void
note_refusal(struct ax_server *s, const char *why)
{
    uint64_t now = ax_server_now_us();
    s->n_refusals++;
    if (s->refusals_logged_us != 0 &&
        now - s->refusals_logged_us < REFUSALS_LOG_US) {
        return;
    }
    ax_log(s->log, AXION_LOG_warn, "connection refused: %s (%u of late)", why,
           s->n_refusals);
    s->refusals_logged_us = now;
    s->n_refusals = 0;
}


static void
on_channel(struct ax_server *s, struct source *source)
{
    struct conn *c = (struct conn *)source;
    if (c->dead) {
        return;
    }
    uint32_t unsettled = axion_channel_unsettled(c->channel);
    int rc = axion_channel_service(c->channel);
    if (unsettled > 0 && axion_channel_unsettled(c->channel) == 0) {
        ax_journal_settle(s->journal, c);
        s->journal_due = true;
    }
    if (rc == AXION_OK && !c->greeted) {
        c->greeted = true;
        s->n_greeting--;
        s->journal_due = true;
        ax_log(s->log, AXION_LOG_info, "channel of %s (pid %d, uid %u) opened",
               axion_channel_name(c->channel),
               (int)axion_channel_pid(c->channel),
               (unsigned)axion_channel_uid(c->channel));
    } else if (rc != AXION_OK && rc != AXION_AGAIN) {
        kill_conn(s, c, rc);
    }
}


/* Closes those without HELLO that are older than `before`, and the oldest in
 * any case if `make_room`. */
static void
close_silent(struct ax_server *s, uint64_t before, bool make_room)
{
    struct conn *oldest = NULL;
    for (struct conn *c = s->conns; c != NULL; c = c->next) {
        if (c->dead || c->greeted) {
            continue;
        }
        oldest = c; /* the list has the newest first */
        if (c->opened_us < before) {
            note_refusal(s, "no HELLO in time");
            kill_conn(s, c, AXION_ERR_ENGINE_LOST);
            make_room = false;
        }
    }
    if (make_room && oldest != NULL) {
        note_refusal(s, "too many without HELLO");
        kill_conn(s, oldest, AXION_ERR_ENGINE_LOST);
    }
}


static void
adopt(struct ax_server *s, int fd)
{
    struct axion_channel_options options = {
        .allow_uids = s->options.allow_uid.n > 0 ? s->allow_uids : NULL,
        .n_allow_uids = s->options.allow_uid.n,
        .stream_buffer_bytes = STREAM_BUFFER_BYTES,
        .board = s->board_writer,
    };
    if (s->n_conns - s->n_greeting >= CONNS_MAX) {
        note_refusal(s, "all channels are taken");
        close(fd);
        return;
    }
    if (s->n_greeting >= GREETING_MAX) {
        close_silent(s, 0, true);
    }
    struct axion_channel *channel;
    int rc = axion_channel_open(&channel, fd, &options);
    if (rc != AXION_OK) {
        note_refusal(s, axion_error_info(rc)->text);
        return;
    }
    struct conn *c = calloc(1, sizeof(*c));
    if (c == NULL || ax_loop_watch(s->loop, fd, c) != AXION_OK) {
        note_refusal(s, "no memory");
        axion_channel_close(channel);
        free(c);
        return;
    }
    c->source.ready = on_channel;
    c->channel = channel;
    c->opened_us = ax_server_now_us();
    c->next = s->conns;
    s->conns = c;
    s->n_conns++;
    s->n_greeting++;
    on_channel(s, &c->source); /* HELLO is there already, as a rule */
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


/* Whoever is accepted before its HELLO is there would wait for the loop. */
void
ax_server_let_in(struct ax_server *s)
{
    if (s->listen_fd >= 0) {
        ax_server_on_listen(s, &s->listen_source);
    }
    for (struct conn *c = s->n_greeting > 0 ? s->conns : NULL; c != NULL;
         c = c->next) {
        if (!c->greeted) {
            on_channel(s, &c->source);
        }
    }
}


void
ax_server_tend_conns(struct ax_server *s)
{
    uint64_t now = ax_server_now_us();
    if (s->accept_held && s->listen_fd >= 0 && now >= s->accept_retry_us) {
        ax_server_on_listen(s, &s->listen_source);
    }
    if (s->n_greeting > 0 && now > GREETING_US) {
        close_silent(s, now - GREETING_US, false);
    }
    ax_server_deliver(s);
}


int64_t
ax_server_conns_due_us(const struct ax_server *s)
{
    uint64_t now, due = UINT64_MAX;
    if (s->journal_due) {
        return 0; /* a channel died behind this turn's look at them */
    }
    if (!s->accept_held && s->n_greeting == 0 && s->journal_retry_us == 0) {
        return -1;
    }
    now = ax_server_now_us();
    if (s->journal_retry_us != 0) {
        due = s->journal_retry_us;
    }
    if (s->accept_held && s->accept_retry_us < due) {
        due = s->accept_retry_us;
    }
    for (const struct conn *c = s->n_greeting > 0 ? s->conns : NULL; c != NULL;
         c = c->next) {
        if (!c->dead && !c->greeted && c->opened_us + GREETING_US < due) {
            due = c->opened_us + GREETING_US;
        }
    }
    return due > now ? (int64_t)(due - now) + 1 : 0;
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
    }
}


void
ax_server_close_conns(struct ax_server *s)
{
    for (struct conn *c = s->conns; c != NULL; c = c->next) {
        if (!c->dead) {
            c->dead = true;
            s->n_conns--;
            s->n_greeting -= !c->greeted;
            ax_loop_unwatch(s->loop, axion_channel_fd(c->channel));
        }
    }
    ax_server_bury_conns(s);
}
