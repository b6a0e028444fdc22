/*
 * Requests that no engine works on yet, and what makes them try again.
 *
 *   no room        they stand in engine->starving, in the order of their
 *                  coming, and only the first tries: when events of that
 *                  engine were read, and every few milliseconds, since room
 *                  in the submission queue and the arena makes no event.  A
 *                  small request that would fit does not overtake a large one
 *   engine away    its next connection wakes the requests of the upstreams
 *                  that it belongs to, nobody else
 *   engine loads   one timer of the worker looks at the load boards
 *   refused        by an engine that loads or drains though its board does
 *                  not say so yet: a timer of its own, once
 *
 * So thousands that wait cost nothing while others stream.  All of them are
 * in main->waiting, each holds its own timer until `axion_timeout connect=`
 * or its `first=` is over, and whoever leaves a queue at its head wakes the
 * next.
 */


#include "ngx_module/ngx_http_axion_limits.h"


#define NGX_HTTP_AXION_POLL_ROOM  5
#define NGX_HTTP_AXION_LOOK       30


static void ngx_http_axion_wake_next(ngx_http_axion_engine_t *engine);
static ngx_uint_t ngx_http_axion_has_deadline(ngx_http_axion_ctx_t *ctx);
static ngx_msec_t ngx_http_axion_wait_until(ngx_http_axion_ctx_t *ctx);
static ngx_uint_t ngx_http_axion_may_use(ngx_http_axion_ctx_t *ctx,
    ngx_http_axion_engine_t *engine);
static void ngx_http_axion_retry_now(ngx_http_axion_ctx_t *ctx);
static void ngx_http_axion_look(ngx_event_t *ev);


/* Lines up for the engine's room, once; NULL: for nobody's any more. */
void
ngx_http_axion_starve(ngx_http_axion_ctx_t *ctx,
    ngx_http_axion_engine_t *engine)
{
    ngx_uint_t                first;
    ngx_http_axion_engine_t  *left;

    left = ctx->starves_for;

    if (left == engine) {
        return;
    }

    if (left != NULL) {
        first = (ngx_queue_head(&left->starving) == &ctx->room);
        ngx_queue_remove(&ctx->room);

        if (first) {
            ngx_http_axion_wake_next(left);
        }
    }

    ctx->starves_for = engine;

    if (engine != NULL) {
        ngx_queue_insert_tail(&engine->starving, &ctx->room);
    }
}


/* Who is first now tries from here on. */
static void
ngx_http_axion_wake_next(ngx_http_axion_engine_t *engine)
{
    ngx_queue_t           *q;
    ngx_http_axion_ctx_t  *ctx;

    if (ngx_queue_empty(&engine->starving)) {
        return;
    }

    q = ngx_queue_head(&engine->starving);
    ctx = ngx_queue_data(q, ngx_http_axion_ctx_t, room);

    ctx->poll = NGX_HTTP_AXION_POLL_ROOM;
    ngx_http_axion_set_timer(ctx);
}


/*
 * `waits_for` is the error that the client gets if it waits in vain; with
 * `retry` the request tries again soon of its own accord.  The time runs
 * from the first wait, until a lost engine gives it anew.  May end the
 * request.
 */
void
ngx_http_axion_wait(ngx_http_axion_ctx_t *ctx, int waits_for,
    ngx_uint_t retry)
{
    ctx->waits_for = waits_for;
    ctx->poll = retry ? NGX_HTTP_AXION_LOOK : 0;

    (void) ngx_http_axion_lease_send(ctx, NULL);

    if (waits_for != AXION_ERR_NO_STREAM_SLOT) {
        ngx_http_axion_starve(ctx, NULL);

    } else if (ngx_queue_head(&ctx->starves_for->starving) == &ctx->room) {
        ctx->poll = NGX_HTTP_AXION_POLL_ROOM;
    }

    if (waits_for == AXION_ERR_ENGINE_LOADING) {
        ngx_http_axion_look_later(ctx->main);
    }

    ctx->state = NGX_HTTP_AXION_WAITING;

    if (!ctx->waited) {
        ctx->waited = 1;
        ctx->deadline = ngx_http_axion_wait_until(ctx);

    } else if ((ngx_msec_int_t) (ngx_current_msec - ctx->deadline) >= 0) {
        ngx_http_axion_wait_expired(ctx);
        return;
    }

    if (!ctx->linked) {
        ngx_queue_insert_tail(&ctx->main->waiting, &ctx->link);
        ctx->linked = 1;
    }

    ngx_http_axion_set_timer(ctx);
}


static ngx_uint_t
ngx_http_axion_has_deadline(ngx_http_axion_ctx_t *ctx)
{
    return ctx->conf->first_timeout != 0 && ctx->parsed.payload != NULL;
}


/* Nobody waits for an engine that could not answer in time any more. */
static ngx_msec_t
ngx_http_axion_wait_until(ngx_http_axion_ctx_t *ctx)
{
    ngx_msec_t  first, until;

    first = ctx->arrived + ctx->conf->first_timeout;
    until = ngx_current_msec + ctx->conf->connect_timeout;

    return (ngx_http_axion_has_deadline(ctx)
            && (ngx_msec_int_t) (first - until) < 0)
               ? first : until;
}


void
ngx_http_axion_wait_expired(ngx_http_axion_ctx_t *ctx)
{
    int                         error;
    ngx_uint_t                  i;
    ngx_http_axion_engine_t   **engine;

    if (ngx_http_axion_has_deadline(ctx)
        && (ngx_msec_int_t) (ngx_current_msec - ctx->arrived
                             - ctx->conf->first_timeout) >= 0)
    {
        axion_failure_set(&ctx->failure, AXION_ERR_DEADLINE, NULL, NULL);
        ngx_http_axion_fail(ctx);
        return;
    }

    error = ctx->waits_for;
    engine = ctx->conf->upstream->engines.elts;

    /* why the engines are away, if that says more than that they are */

    for (i = 0; i < ctx->conf->upstream->engines.nelts; i++) {

        if (error == AXION_ERR_ENGINE_UNAVAILABLE
            && engine[i]->link != NGX_HTTP_AXION_UP
            && engine[i]->error != AXION_ERR_ENGINE_LOST)
        {
            error = engine[i]->error;
        }
    }

    axion_failure_set(&ctx->failure, error, NULL, NULL);
    ngx_http_axion_fail(ctx);
}


static ngx_uint_t
ngx_http_axion_may_use(ngx_http_axion_ctx_t *ctx,
    ngx_http_axion_engine_t *engine)
{
    ngx_uint_t                  i;
    ngx_http_axion_engine_t   **engines;
    ngx_http_axion_upstream_t  *upstream;

    upstream = ctx->conf->upstream;
    engines = upstream->engines.elts;

    for (i = 0; i < upstream->engines.nelts; i++) {
        if (engines[i] == engine) {
            return 1;
        }
    }

    return 0;
}


static void
ngx_http_axion_retry_now(ngx_http_axion_ctx_t *ctx)
{
    ngx_connection_t  *c;

    c = ctx->request->connection;
    ngx_http_set_log_request(c->log, ctx->request);

    ngx_http_axion_dispatch(ctx);
    ngx_http_run_posted_requests(c);
}


/* The engine came up, or is loaded: whoever waits and may use it tries. */
void
ngx_http_axion_dispatch_waiting(ngx_http_axion_engine_t *engine)
{
    ngx_uint_t             n;
    ngx_queue_t           *q, *waiting;
    ngx_http_axion_ctx_t  *ctx;

    engine->came_ready = 0;

    n = 0;
    waiting = &engine->main->waiting;

    for (q = ngx_queue_head(waiting);
         q != ngx_queue_sentinel(waiting);
         q = ngx_queue_next(q))
    {
        n++;
    }

    /* each once: those that go on waiting line up at the end again */

    while (n-- != 0 && !ngx_queue_empty(waiting)) {

        q = ngx_queue_head(waiting);
        ctx = ngx_queue_data(q, ngx_http_axion_ctx_t, link);

        ngx_queue_remove(q);
        ngx_queue_insert_tail(waiting, q);

        /* one that was told to come back later does so by its own timer */

        if (ctx->poll != NGX_HTTP_AXION_LOOK
            && ngx_http_axion_may_use(ctx, engine))
        {
            ngx_http_axion_retry_now(ctx);
        }
    }
}


/* The engine may have room again, or none for ever: the first tries, and the
 * next, as long as one gets away. */
void
ngx_http_axion_dispatch_starving(ngx_http_axion_engine_t *engine)
{
    ngx_queue_t  *q;

    while (!ngx_queue_empty(&engine->starving)) {

        q = ngx_queue_head(&engine->starving);

        ngx_http_axion_retry_now(ngx_queue_data(q, ngx_http_axion_ctx_t,
                                                room));

        if (ngx_queue_head(&engine->starving) == q) {
            return;
        }
    }
}


/* Somebody waits for a board to say that its engine is ready. */
void
ngx_http_axion_look_later(ngx_http_axion_main_conf_t *amcf)
{
    if (amcf->look.timer_set) {
        return;
    }

    amcf->look.handler = ngx_http_axion_look;
    amcf->look.data = amcf;
    amcf->look.log = ngx_cycle->log;
    amcf->look.cancelable = 1;

    ngx_add_timer(&amcf->look, NGX_HTTP_AXION_LOOK);
}


static void
ngx_http_axion_look(ngx_event_t *ev)
{
    ngx_uint_t                    i, more;
    ngx_http_axion_engine_t     **engine;
    ngx_http_axion_main_conf_t   *amcf;

    amcf = ev->data;
    engine = amcf->engines.elts;
    more = 0;

    for (i = 0; i < amcf->engines.nelts; i++) {

        if (engine[i]->link != NGX_HTTP_AXION_UP) {
            continue;
        }

        (void) ngx_http_axion_engine_board(engine[i]);

        /* another request may have seen it before us */

        if (engine[i]->came_ready) {
            ngx_http_axion_dispatch_waiting(engine[i]);
            continue;
        }

        if (!engine[i]->seen
            || engine[i]->board.state == AXION_ENGINE_LOADING)
        {
            more = 1;
        }
    }

    if (more && !ngx_queue_empty(&amcf->waiting)) {
        ngx_http_axion_look_later(amcf);
    }
}
