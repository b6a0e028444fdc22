/*
 * From a parsed request to an engine that works on it.
 *
 * _route.c says which.  If the one that would serve it is away, loads, drains
 * or has no room, the request waits up to `axion_timeout connect=`; those of a
 * lost engine that were not yet accepted start over the same way, a bounded
 * number of times, so that a request that kills engines cannot kill them for
 * ever.
 *
 * A request is in one queue at most: main->waiting or engine->streams; _wait.c
 * has those who wait.
 */


#include "ngx_module/ngx_http_axion_remote.h"


static void ngx_http_axion_submit(ngx_http_axion_ctx_t *ctx,
    ngx_http_axion_engine_t *engine);
static ngx_int_t ngx_http_axion_set_deadline(ngx_http_axion_ctx_t *ctx);
static void ngx_http_axion_name_engine(ngx_http_axion_ctx_t *ctx,
    ngx_http_axion_engine_t *engine);
static void ngx_http_axion_lose(ngx_http_axion_ctx_t *ctx, int error);


/* May end the request: ctx is not to be touched afterwards. */
void
ngx_http_axion_dispatch(ngx_http_axion_ctx_t *ctx)
{
    int                       error;
    uint64_t                  tried;
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

    if (ctx->parsed.remote_only) {

        if (ngx_http_axion_overflow_only(ctx)) {
            return;
        }

        ctx->failure = *ctx->refusal;

        if (ctx->too_long) {
            ngx_http_axion_remote_too_long(ctx);
        }

        ngx_http_axion_fail(ctx);
        return;
    }

    if (ctx->spilled) {

        if (ngx_http_axion_overflow(ctx, NULL)) {
            return;
        }

        ctx->spilled = 0;
    }

    /* once more where a remote that was to take it turned out too dear: now
     * another model may stand in */

    do {
        tried = ctx->remotes_tried;
        engine = ngx_http_axion_route(ctx, &error);

        if (ngx_http_axion_overflow(ctx, engine)) {
            return;
        }

    } while (engine == NULL && tried != ctx->remotes_tried);

    if (engine != NULL) {
        ngx_http_axion_submit(ctx, engine);
        return;
    }

    if (error != AXION_ERR_MODEL_NOT_FOUND) {

        /* a handshake that comes to nothing wakes nobody, and then another
         * model may stand in */

        ngx_http_axion_wait(ctx, error, ctx->undecided);
        return;
    }

    axion_failure_set(&ctx->failure, error, "model", NULL);

    if (ctx->too_long) {
        ngx_http_axion_remote_too_long(ctx);
    }

    ngx_http_axion_fail(ctx);
}


static void
ngx_http_axion_submit(ngx_http_axion_ctx_t *ctx,
    ngx_http_axion_engine_t *engine)
{
    int  rc;

    if (ngx_http_axion_set_deadline(ctx) != NGX_OK) {
        axion_failure_set(&ctx->failure, AXION_ERR_DEADLINE, NULL, NULL);
        ngx_http_axion_fail(ctx);
        return;
    }

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

        if (ngx_http_axion_overflow(ctx, NULL)) {
            return;
        }

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
    ngx_http_axion_name_engine(ctx, engine);

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


/* The engine gets what waiting here has left of `axion_timeout first=`. */
static ngx_int_t
ngx_http_axion_set_deadline(ngx_http_axion_ctx_t *ctx)
{
    ngx_msec_int_t  left;

    if (ctx->conf->first_timeout == 0) {
        return NGX_OK;
    }

    left = (ngx_msec_int_t) (ctx->arrived + ctx->conf->first_timeout
                             - ngx_current_msec);

    if (left <= 0) {
        return NGX_DECLINED;
    }

    axion_parsed_deadline(&ctx->parsed,
                          (uint32_t) ngx_min(left, NGX_MAX_INT32_VALUE));

    return NGX_OK;
}


/* One that may leave takes its name along: the log comes later. */
static void
ngx_http_axion_name_engine(ngx_http_axion_ctx_t *ctx,
    ngx_http_axion_engine_t *engine)
{
    ctx->engine_name = engine->name;

    if (engine->joined) {
        ctx->engine_name.data = ngx_pstrdup(ctx->request->pool,
                                            &engine->name);
        if (ctx->engine_name.data == NULL) {
            ctx->engine_name.len = 0;
        }
    }
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

    ngx_http_axion_call_stop(ctx);
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
