/*
 * From a parsed request to an engine that works on it.
 *
 * Engines of the upstream that are connected and serve the model are
 * compared by their load boards; the least loaded gets the request, equals
 * take turns.  If the one that would serve it is away, loads, drains or has
 * no room, the request waits up to `axion_timeout connect=`; those of a lost
 * engine that were not yet accepted start over the same way, a bounded number
 * of times, so that a request that kills engines cannot kill them for ever.
 *
 * A request is in one queue at most: main->waiting or engine->streams; _wait.c
 * has those who wait.
 */


#include "ngx_module/ngx_http_axion_limits.h"
#include "ngx_module/ngx_http_axion_zone.h"


static ngx_http_axion_engine_t *ngx_http_axion_choose(
    ngx_http_axion_ctx_t *ctx, int *error);
static int ngx_http_axion_fitness(ngx_http_axion_engine_t *engine,
    const struct axion_text *model);
static uint64_t ngx_http_axion_load(ngx_http_axion_engine_t *engine);
static void ngx_http_axion_submit(ngx_http_axion_ctx_t *ctx,
    ngx_http_axion_engine_t *engine);
static void ngx_http_axion_lose(ngx_http_axion_ctx_t *ctx, int error);


/* May end the request: ctx is not to be touched afterwards. */
void
ngx_http_axion_dispatch(ngx_http_axion_ctx_t *ctx)
{
    int                       error;
    ngx_int_t                 rc;
    ngx_http_axion_engine_t  *engine;

    (void) ngx_atomic_fetch_add(&ctx->main->zone->stats.dispatches, 1);

    if (ctx->endpoint == NGX_HTTP_AXION_MODELS
        || ctx->endpoint == NGX_HTTP_AXION_MODEL)
    {
        rc = ngx_http_axion_send_models(ctx);

        if (rc == NGX_AGAIN && !ctx->own) {
            ngx_http_axion_wait(ctx, AXION_ERR_ENGINE_UNAVAILABLE, 0);
            return;
        }

        ctx->state = NGX_HTTP_AXION_ENDED;
        ngx_http_axion_finalize(ctx, rc);
        return;
    }

    engine = ngx_http_axion_choose(ctx, &error);

    if (engine != NULL) {
        ngx_http_axion_submit(ctx, engine);
        return;
    }

    if (error != AXION_ERR_MODEL_NOT_FOUND) {
        ngx_http_axion_wait(ctx, error, 0);
        return;
    }

    axion_failure_set(&ctx->failure, error, "model", NULL);
    ngx_http_axion_fail(ctx);
}


/* NULL with *error: MODEL_NOT_FOUND, or what to wait for. */
static ngx_http_axion_engine_t *
ngx_http_axion_choose(ngx_http_axion_ctx_t *ctx, int *error)
{
    uint64_t                     load, best_load;
    ngx_uint_t                   i, n;
    struct axion_text           *model;
    ngx_http_axion_engine_t     *engine, *best, **engines;
    ngx_http_axion_upstream_t   *upstream;

    upstream = ctx->conf->upstream;
    engines = upstream->engines.elts;
    n = upstream->engines.nelts;

    model = &ctx->parsed.served;
    best = NULL;
    best_load = 0;
    *error = AXION_ERR_MODEL_NOT_FOUND;

    upstream->turn++;

    for (i = 0; i < n; i++) {
        engine = engines[(upstream->turn + i) % n];

        switch (ngx_http_axion_fitness(engine, model)) {

        case AXION_OK:
            load = ngx_http_axion_load(engine);

            if (best == NULL || load < best_load) {
                best = engine;
                best_load = load;
            }

            break;

        case AXION_ERR_MODEL_NOT_FOUND:
            break;

        case AXION_ERR_ENGINE_LOADING:
            *error = AXION_ERR_ENGINE_LOADING;
            break;

        default:
            if (*error == AXION_ERR_MODEL_NOT_FOUND) {
                *error = AXION_ERR_ENGINE_UNAVAILABLE;
            }

            break;
        }
    }

    return best;
}


/* AXION_OK, MODEL_NOT_FOUND, or why the engine may serve the model later. */
static int
ngx_http_axion_fitness(ngx_http_axion_engine_t *engine,
    const struct axion_text *model)
{
    ngx_int_t                        rc;
    const struct axion_board_model  *found;

    rc = ngx_http_axion_engine_board(engine);

    if (!engine->seen) {
        return AXION_ERR_ENGINE_UNAVAILABLE;
    }

    if (rc == NGX_OK && engine->board.state == AXION_ENGINE_LOADING) {
        return AXION_ERR_ENGINE_LOADING;
    }

    found = axion_board_find_model(&engine->board, model->data, model->bytes);

    if (found == NULL) {
        return AXION_ERR_MODEL_NOT_FOUND;
    }

    if (rc != NGX_OK) {
        return AXION_ERR_ENGINE_UNAVAILABLE;
    }

    return (engine->board.state == AXION_ENGINE_READY)
               ? AXION_OK : AXION_ERR_ENGINE_DRAINING;
}


/* The board lags by a step: what this worker sent itself counts at least. */
static uint64_t
ngx_http_axion_load(ngx_http_axion_engine_t *engine)
{
    uint64_t  load, own;

    load = (uint64_t) engine->board.running + engine->board.waiting;
    own = axion_client_streams(engine->client);

    if (own > load) {
        load = own;
    }

    return load;
}


static void
ngx_http_axion_submit(ngx_http_axion_ctx_t *ctx,
    ngx_http_axion_engine_t *engine)
{
    int  rc;

    ngx_http_axion_starve(ctx, engine);

    if (ngx_queue_head(&engine->starving) != &ctx->room) {
        rc = AXION_ERR_NO_STREAM_SLOT;

    } else {
        rc = axion_client_submit_leased(engine->client, ctx->parsed.payload,
                                        ctx->parsed.payload_bytes,
                                        ngx_http_axion_lease_send(ctx, engine),
                                        ctx->lease.id, ctx, &ctx->stream);
    }

    if (rc == AXION_ERR_NO_STREAM_SLOT || rc == AXION_ERR_ENGINE_UNAVAILABLE) {
        ngx_http_axion_wait(ctx, AXION_ERR_NO_STREAM_SLOT, 0);
        return;
    }

    if (rc != AXION_OK) {
        axion_failure_set(&ctx->failure, rc, NULL, NULL);
        ngx_http_axion_fail(ctx);
        return;
    }

    ngx_http_axion_unlink(ctx);
    ngx_http_axion_starve(ctx, NULL);

    if (ctx->tries++ != 0) {
        (void) ngx_atomic_fetch_add(&ctx->main->zone->stats.retries, 1);
    }

    ctx->state = NGX_HTTP_AXION_SUBMITTED;
    ctx->engine = engine;
    ctx->engine_name = engine->name;

    ngx_queue_insert_tail(&engine->streams, &ctx->link);
    ctx->linked = 1;

    ngx_http_axion_count_stream(ctx, 1);
    ctx->active = 1;

    ngx_http_axion_engine_watch(engine, ctx->conf->stall_timeout);
    ngx_http_axion_set_timer(ctx);

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "axion: submitted to \"%V\" as %uL", &engine->name,
                   ctx->stream);
}


/* Takes the request out of whatever queue it is in. */
void
ngx_http_axion_unlink(ngx_http_axion_ctx_t *ctx)
{
    if (ctx->linked) {
        ngx_queue_remove(&ctx->link);
        ctx->linked = 0;
    }

    if (ctx->active) {
        ngx_http_axion_count_stream(ctx, -1);
        ctx->active = 0;
    }

    ctx->engine = NULL;
}


/*
 * The request needs no engine any more: out of every queue and timer.  If
 * nothing failed and nothing ended, it is the client who left.
 */
void
ngx_http_axion_detach(ngx_http_axion_ctx_t *ctx)
{
    if (ctx->failure.error == AXION_OK
        && (ctx->state == NGX_HTTP_AXION_QUEUED
            || ctx->state == NGX_HTTP_AXION_WAITING
            || ctx->state == NGX_HTTP_AXION_SUBMITTED
            || ctx->state == NGX_HTTP_AXION_ACCEPTED))
    {
        (void) ngx_atomic_fetch_add(&ctx->main->zone->stats.cancels, 1);

        ngx_log_debug1(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                       "axion: client is gone, cancel %uL", ctx->stream);
    }

    ngx_http_axion_lease_detach(ctx);

    if (ctx->engine != NULL) {
        axion_client_cancel(ctx->engine->client, ctx->stream);
        axion_client_forget(ctx->engine->client, ctx->stream);
    }

    ngx_http_axion_unlink(ctx);
    ngx_http_axion_starve(ctx, NULL);
    ctx->state = NGX_HTTP_AXION_ENDED;

    if (ctx->queued) {
        ngx_queue_remove(&ctx->dirty);
        ctx->queued = 0;
    }

    if (ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }

    if (ctx->scratch != NULL) {
        ngx_destroy_pool(ctx->scratch);
        ctx->scratch = NULL;
    }
}


/* The channel is closed; its requests start over or end. */
void
ngx_http_axion_engine_lost(ngx_http_axion_engine_t *engine, int error)
{
    ngx_uint_t             level;
    const char            *what;
    ngx_queue_t           *q;
    ngx_connection_t      *c;
    ngx_http_axion_ctx_t  *ctx;

    level = NGX_LOG_ERR;
    what = axion_error_info(error)->text;

    if (error == AXION_ERR_ENGINE_LOST && ngx_queue_empty(&engine->streams)) {
        level = NGX_LOG_NOTICE;
        what = "it closed the idle channel";
    }

    ngx_log_error(level, ngx_cycle->log, 0,
                  "axion: lost engine \"%V\": %s%s%s", &engine->name, what,
                  axion_client_why(engine->client)[0] ? ": " : "",
                  axion_client_why(engine->client));

    engine->reported = 1;
    (void) ngx_atomic_fetch_add(&engine->stats->losses, 1);

    ngx_http_axion_engine_close(engine);

    /* before the requests: those that wait need the next attempt */

    ngx_http_axion_engine_retry(engine, error);

    while (!ngx_queue_empty(&engine->streams)) {

        q = ngx_queue_head(&engine->streams);
        ctx = ngx_queue_data(q, ngx_http_axion_ctx_t, link);

        ngx_http_axion_unlink(ctx);
        ctx->stream = 0;

        c = ctx->request->connection;
        ngx_http_set_log_request(c->log, ctx->request);

        ngx_http_axion_lose(ctx, error);
        ngx_http_run_posted_requests(c);
    }

    /* there is no room to be had any more: each looks elsewhere, once */

    ngx_http_axion_dispatch_starving(engine);
}


static void
ngx_http_axion_lose(ngx_http_axion_ctx_t *ctx, int error)
{
    if (ctx->state == NGX_HTTP_AXION_SUBMITTED
        && ctx->tries < NGX_HTTP_AXION_TRIES_MAX)
    {
        /* another engine may be there, else it waits */

        ctx->state = NGX_HTTP_AXION_READING;
        ctx->waited = 0;
        ngx_http_axion_dispatch(ctx);
        return;
    }

    axion_failure_set(&ctx->failure, error, NULL, NULL);
    ngx_http_axion_fail(ctx);
}
