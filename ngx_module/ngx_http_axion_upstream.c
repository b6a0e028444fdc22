/*
 * One engine as one worker sees it: a channel (shm/client.h) whose socket
 * sits in nginx's event loop.
 *
 *   DOWN        nothing; the timer brings the next attempt, with back-off
 *   CONNECTING  HELLO is sent; the timer bounds the handshake
 *   UP          requests are submitted and events drained; the timer looks
 *               at the heartbeat while work is pending
 *
 * A stopped or hung engine sends no end of file: when the board's heartbeat
 * stands still for `axion_timeout stall=` while streams wait, the channel is
 * closed like that of a dead one.  Only time in which this worker looked
 * regularly counts, so that a worker that was stopped itself blames nobody.
 *
 * The client owns the descriptor; nginx's connection only watches it.  The
 * timer is cancelable: it never keeps an exiting worker alive.
 */


#include "ngx_module/ngx_http_axion_limits.h"


#define NGX_HTTP_AXION_BACKOFF_MIN  50
#define NGX_HTTP_AXION_BACKOFF_MAX  2000
#define NGX_HTTP_AXION_HANDSHAKE    5000
#define NGX_HTTP_AXION_WATCH_MAX    1000
#define NGX_HTTP_AXION_DRAIN_MAX    256
#define NGX_HTTP_AXION_DRAIN_BYTES  65536
#define NGX_HTTP_AXION_CREDIT       16


static ngx_int_t ngx_http_axion_engine_attach(
    ngx_http_axion_engine_t *engine);
static void ngx_http_axion_engine_up(ngx_http_axion_engine_t *engine);
static void ngx_http_axion_engine_down(ngx_http_axion_engine_t *engine,
    int error, const char *why);
static int ngx_http_axion_engine_read_board(ngx_http_axion_engine_t *engine);
static void ngx_http_axion_engine_timer(ngx_event_t *ev);
static void ngx_http_axion_engine_wake(ngx_event_t *ev);
static void ngx_http_axion_engine_look(ngx_http_axion_engine_t *engine);
static ngx_msec_t ngx_http_axion_engine_interval(ngx_msec_t stall);
static ngx_msec_t ngx_http_axion_engine_patience(
    ngx_http_axion_engine_t *engine);
static void ngx_http_axion_engine_read(ngx_event_t *rev);
static void ngx_http_axion_engine_write(ngx_event_t *wev);
static int ngx_http_axion_engine_drain(ngx_http_axion_engine_t *engine,
    ngx_uint_t *more);


void
ngx_http_axion_engine_init(ngx_http_axion_main_conf_t *amcf,
    ngx_http_axion_engine_t *engine)
{
    engine->main = amcf;
    engine->backoff = NGX_HTTP_AXION_BACKOFF_MIN;
    engine->error = AXION_ERR_ENGINE_UNAVAILABLE;

    engine->timer.handler = ngx_http_axion_engine_timer;
    engine->timer.data = engine;
    engine->timer.cancelable = 1;

    engine->wake.handler = ngx_http_axion_engine_wake;
    engine->wake.data = engine;

    ngx_queue_init(&engine->streams);
    ngx_queue_init(&engine->starving);
}


void
ngx_http_axion_engine_connect(ngx_http_axion_engine_t *engine)
{
    int                          rc;
    u_char                       name[AXION_NAME_BYTES];
    struct axion_client_options  options;

    if (engine->link != NGX_HTTP_AXION_DOWN) {
        return;
    }

    if (engine->timer.timer_set) {
        ngx_del_timer(&engine->timer);
    }

    engine->timer.log = ngx_cycle->log;
    engine->wake.log = ngx_cycle->log;

    (void) ngx_snprintf(name, sizeof(name), "nginx worker %P%Z", ngx_pid);

    ngx_memzero(&options, sizeof(struct axion_client_options));
    options.path = (char *) engine->name.data + sizeof("unix:") - 1;
    options.name = (char *) name;
    options.streams = NGX_HTTP_AXION_STREAMS;
    options.credit = NGX_HTTP_AXION_CREDIT;
    options.lazy = 1;

    if (engine->main->balances != NULL) {
        options.gateway = axion_balances_gateway(engine->main->balances);
    }

    rc = axion_client_open(&engine->client, &options);

    if (rc != AXION_OK) {
        engine->client = NULL;
        ngx_http_axion_engine_down(engine, rc, "");
        return;
    }

    engine->link = NGX_HTTP_AXION_CONNECTING;

    if (ngx_http_axion_engine_attach(engine) != NGX_OK) {
        ngx_http_axion_engine_down(engine, AXION_ERR_SYSTEM,
                                   "no connection is free");
        return;
    }

    ngx_add_timer(&engine->timer, NGX_HTTP_AXION_HANDSHAKE);
}


static ngx_int_t
ngx_http_axion_engine_attach(ngx_http_axion_engine_t *engine)
{
    ngx_connection_t  *c;

    c = ngx_get_connection(axion_client_fd(engine->client), ngx_cycle->log);
    if (c == NULL) {
        return NGX_ERROR;
    }

    c->data = engine;
    c->number = ngx_atomic_fetch_add(ngx_connection_counter, 1);
    c->log = ngx_cycle->log;
    c->read->log = c->log;
    c->read->handler = ngx_http_axion_engine_read;
    c->write->log = c->log;
    c->write->handler = ngx_http_axion_engine_write;

    /* a doorbell may be left in the socket on purpose: level-triggered */

    if (ngx_add_event(c->read, NGX_READ_EVENT, NGX_LEVEL_EVENT) != NGX_OK) {
        c->shared = 1;
        ngx_close_connection(c);
        return NGX_ERROR;
    }

    engine->connection = c;

    return NGX_OK;
}


void
ngx_http_axion_engine_close(ngx_http_axion_engine_t *engine)
{
    ngx_connection_t  *c;

    c = engine->connection;

    if (c != NULL) {
        engine->connection = NULL;

        if (c->read->active) {
            (void) ngx_del_event(c->read, NGX_READ_EVENT, 0);
        }

        /* "shared" leaves the descriptor to its owner */

        c->shared = 1;
        ngx_close_connection(c);
    }

    ngx_http_axion_lease_lost(engine);

    axion_client_close(engine->client);
    engine->client = NULL;
    engine->link = NGX_HTTP_AXION_DOWN;
    engine->broken = 0;

    if (engine->timer.timer_set) {
        ngx_del_timer(&engine->timer);
    }

    if (engine->wake.posted) {
        ngx_delete_posted_event(&engine->wake);
    }
}


/* A channel that did not come about; the next attempt is later. */
static void
ngx_http_axion_engine_down(ngx_http_axion_engine_t *engine, int error,
    const char *why)
{
    ngx_uint_t  level;

    /* once per outage: a stopped engine is not worth a line per second */

    level = engine->reported ? NGX_LOG_INFO : NGX_LOG_ERR;
    engine->reported = 1;

    ngx_log_error(level, ngx_cycle->log,
                  error == AXION_ERR_SYSTEM ? ngx_errno : 0,
                  "axion: engine \"%V\" is not available: %s%s%s",
                  &engine->name, axion_error_info(error)->text,
                  why[0] ? ": " : "", why);

    (void) ngx_atomic_fetch_add(&engine->stats->connect_failures, 1);

    ngx_http_axion_engine_close(engine);
    ngx_http_axion_engine_retry(engine, error);
}


void
ngx_http_axion_engine_retry(ngx_http_axion_engine_t *engine, int error)
{
    engine->error = error;

    if (ngx_exiting && ngx_queue_empty(&engine->main->waiting)) {
        return;
    }

    ngx_add_timer(&engine->timer,
                  engine->backoff + ngx_random() % (engine->backoff / 4));

    engine->backoff = ngx_min(engine->backoff * 2,
                              NGX_HTTP_AXION_BACKOFF_MAX);
}


static void
ngx_http_axion_engine_up(ngx_http_axion_engine_t *engine)
{
    engine->link = NGX_HTTP_AXION_UP;
    engine->up_ns = axion_limit_now().ns;
    engine->journal_ns = 0;
    engine->backoff = NGX_HTTP_AXION_BACKOFF_MIN;
    engine->error = AXION_ERR_ENGINE_UNAVAILABLE;
    engine->reported = 0;

    if (engine->timer.timer_set) {
        ngx_del_timer(&engine->timer);
    }

    (void) ngx_atomic_fetch_add(&engine->stats->connects, 1);

    ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                  "axion: connected to engine \"%V\"", &engine->name);

    if (!engine->seen) {
        ngx_http_axion_look_later(engine->main);
    }

    ngx_http_axion_dispatch_waiting(engine);
}


/* Of a ready engine at most once in a tick of the clock: a copy is as dear as
 * the rest of a request's routing. */
static int
ngx_http_axion_engine_read_board(ngx_http_axion_engine_t *engine)
{
    int                 rc;
    struct axion_board  board;

    if (engine->seen && engine->board_read == ngx_current_msec
        && engine->board.state == AXION_ENGINE_READY)
    {
        return AXION_OK;
    }

    rc = axion_client_board(engine->client, &board);

    if (rc == AXION_OK) {
        if (board.state == AXION_ENGINE_READY
            && (!engine->seen || engine->board.state != board.state))
        {
            engine->came_ready = 1;
        }

        engine->board = board;
        engine->board_read = ngx_current_msec;
        engine->seen = 1;
    }

    return rc;
}


/*
 * Brings engine->board up to date.  NGX_OK: the engine is up and the board
 * is valid; NGX_DECLINED: it is away (engine->board is its last, if `seen`).
 * A board that is none breaks the protocol: the channel is given up, but in
 * a turn of its own, since callers walk through engines and requests.
 */
ngx_int_t
ngx_http_axion_engine_board(ngx_http_axion_engine_t *engine)
{
    if (engine->link != NGX_HTTP_AXION_UP) {

        if (engine->link == NGX_HTTP_AXION_DOWN && !engine->timer.timer_set) {
            ngx_http_axion_engine_connect(engine);
        }

        return NGX_DECLINED;
    }

    if (!engine->broken
        && ngx_http_axion_engine_read_board(engine) == AXION_ERR_PROTOCOL)
    {
        engine->broken = 1;
        ngx_post_event(engine->connection->read, &ngx_posted_events);
    }

    return (engine->seen && !engine->broken) ? NGX_OK : NGX_DECLINED;
}


static void
ngx_http_axion_engine_timer(ngx_event_t *ev)
{
    ngx_http_axion_engine_t  *engine = ev->data;

    switch (engine->link) {

    case NGX_HTTP_AXION_DOWN:
        ngx_http_axion_engine_connect(engine);
        return;

    case NGX_HTTP_AXION_CONNECTING:
        ngx_http_axion_engine_down(engine, AXION_ERR_ENGINE_STALLED,
                                   "no answer to the handshake");
        return;

    default: /* NGX_HTTP_AXION_UP */
        ngx_http_axion_engine_look(engine);
        return;
    }
}


/* Once a turn of the loop, behind everything that it has submitted. */
static void
ngx_http_axion_engine_wake(ngx_event_t *ev)
{
    ngx_http_axion_engine_t *engine = ev->data;

    axion_client_wake(engine->client);
}


/* Called with every submit: from now on progress is expected. */
void
ngx_http_axion_engine_watch(ngx_http_axion_engine_t *engine, ngx_msec_t stall)
{
    ngx_post_event(&engine->wake, &ngx_posted_events);

    if (engine->timer.timer_set) {
        return;
    }

    engine->silent = 0;
    engine->watched = ngx_current_msec;
    engine->heartbeat = engine->board.heartbeat;

    ngx_add_timer(&engine->timer, ngx_http_axion_engine_interval(stall));
}


/* Several looks within a stall=, so that one late turn of ours is no stall. */
static ngx_msec_t
ngx_http_axion_engine_interval(ngx_msec_t stall)
{
    if (stall == 0) {
        return NGX_HTTP_AXION_WATCH_MAX;
    }

    return ngx_min(stall / 4 + 1, NGX_HTTP_AXION_WATCH_MAX);
}


/* The shortest stall= of the streams that wait for events; 0: none does. */
static ngx_msec_t
ngx_http_axion_engine_patience(ngx_http_axion_engine_t *engine)
{
    ngx_msec_t             patience;
    ngx_queue_t           *q;
    ngx_http_axion_ctx_t  *ctx;

    patience = 0;

    for (q = ngx_queue_head(&engine->streams);
         q != ngx_queue_sentinel(&engine->streams);
         q = ngx_queue_next(q))
    {
        ctx = ngx_queue_data(q, ngx_http_axion_ctx_t, link);

        if (!ctx->paused
            && (patience == 0 || ctx->conf->stall_timeout < patience))
        {
            patience = ctx->conf->stall_timeout;
        }
    }

    return patience;
}


static void
ngx_http_axion_engine_look(ngx_http_axion_engine_t *engine)
{
    ngx_msec_t  interval, patience;

    if (ngx_queue_empty(&engine->streams)) {
        return;
    }

    patience = ngx_http_axion_engine_patience(engine);
    interval = ngx_http_axion_engine_interval(patience);

    (void) ngx_http_axion_engine_board(engine);

    if (engine->board.heartbeat != engine->heartbeat || patience == 0) {
        engine->heartbeat = engine->board.heartbeat;
        engine->silent = 0;

    } else {
        engine->silent += ngx_min(ngx_current_msec - engine->watched,
                                  2 * interval);
    }

    engine->watched = ngx_current_msec;

    if (patience != 0 && engine->silent >= patience) {
        (void) ngx_atomic_fetch_add(&engine->stats->stalls, 1);
        ngx_http_axion_engine_lost(engine, AXION_ERR_ENGINE_STALLED);
        return;
    }

    ngx_add_timer(&engine->timer, interval);
}


static void
ngx_http_axion_engine_write(ngx_event_t *wev)
{
    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, wev->log, 0,
                   "axion: unexpected write event");
}


static void
ngx_http_axion_engine_read(ngx_event_t *rev)
{
    int                       rc, drained;
    ngx_uint_t                more;
    ngx_connection_t         *c;
    ngx_http_axion_engine_t  *engine;

    c = rev->data;
    engine = c->data;

    if (engine->broken) {
        (void) ngx_atomic_fetch_add(&engine->stats->protocol_errors, 1);
        ngx_http_axion_engine_lost(engine, AXION_ERR_PROTOCOL);
        return;
    }

    rc = axion_client_service(engine->client);

    if (rc == AXION_AGAIN) {
        return;
    }

    if (engine->link == NGX_HTTP_AXION_CONNECTING) {

        if (rc != AXION_OK) {
            ngx_http_axion_engine_down(engine, rc,
                                       axion_client_why(engine->client));
            return;
        }

        if (ngx_http_axion_engine_read_board(engine) == AXION_ERR_PROTOCOL) {
            (void) ngx_atomic_fetch_add(&engine->stats->protocol_errors, 1);
            ngx_http_axion_engine_down(engine, AXION_ERR_PROTOCOL,
                                       "load board");
            return;
        }

        ngx_http_axion_engine_up(engine);
    }

    ngx_http_axion_lease_journal(engine);

    /* what a dying engine still said counts: DONE may be among it */

    drained = ngx_http_axion_engine_drain(engine, &more);

    if (drained != AXION_OK) {
        (void) ngx_atomic_fetch_add(&engine->stats->protocol_errors, 1);
        ngx_http_axion_engine_lost(engine, drained);
        return;
    }

    if (more) {
        ngx_post_event(rev, &ngx_posted_next_events);
        return;
    }

    if (rc != AXION_OK) {
        ngx_http_axion_engine_lost(engine, rc);
        return;
    }

    ngx_http_axion_dispatch_starving(engine);
}


/*
 * Takes events off the ring, up to a bound per turn of the loop, and writes
 * once per request that had any.  AXION_OK or PROTOCOL.  Text is bounded too:
 * a reader is only seen to be behind when it is written to, and what comes
 * before that counts on top of its `axion_buffer`.
 */
static int
ngx_http_axion_engine_drain(ngx_http_axion_engine_t *engine, ngx_uint_t *more)
{
    int                 rc;
    size_t              bytes;
    ngx_uint_t          n;
    struct axion_event  event;

    *more = 0;
    bytes = 0;

    for (n = 0; /* void */ ; n++) {

        if (n == NGX_HTTP_AXION_DRAIN_MAX
            || bytes >= NGX_HTTP_AXION_DRAIN_BYTES)
        {
            *more = 1;
            rc = AXION_OK;
            break;
        }

        rc = axion_client_peek(engine->client, &event);

        if (rc == AXION_AGAIN) {
            if (axion_client_arm(engine->client)) {
                continue;
            }

            rc = AXION_OK;
            break;
        }

        if (rc != AXION_OK) {
            break;
        }

        if (event.op == AXION_CQ_TOKENS) {
            bytes += event.tokens.text_bytes;
        }

        if (event.user != NULL) {
            ngx_http_axion_event(event.user, &event);

        } else {
            ngx_http_axion_lease_late(engine, &event);
        }

        axion_client_advance(engine->client);
    }

    if (n != 0) {
        engine->silent = 0;
    }

    ngx_http_axion_flush_dirty(engine->main);

    return rc;
}
