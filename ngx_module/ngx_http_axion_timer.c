/*
 * The one timer of a request in flight.  It is never cancelable and never
 * missing: an exiting worker waits for timers only, so it is what lets
 * streams outlive a reload.  What it is for changes with the state:
 *
 *   waiting for a limit        it asks again, until the queue's wait is over
 *   waiting for an engine      `axion_timeout connect=` is over
 *   streamed, not accepted     after `accept=` 200 and a comment are sent
 *   streamed, silent           `axion_keepalive_ping` sends a comment
 *   else                       nothing, it only holds the worker
 */


#include "ngx_module/ngx_http_axion_limits.h"


#define NGX_HTTP_AXION_HOLD  60000


static void ngx_http_axion_timer_expired(ngx_http_axion_ctx_t *ctx);
static ngx_int_t ngx_http_axion_ping(ngx_http_axion_ctx_t *ctx);
static ngx_msec_t ngx_http_axion_until(ngx_msec_t time, ngx_msec_t wait);


void
ngx_http_axion_timer(ngx_event_t *ev)
{
    ngx_queue_t              *first;
    ngx_connection_t         *c;
    ngx_http_axion_ctx_t     *ctx;
    ngx_http_axion_engine_t  *engine;

    ctx = ev->data;
    c = ctx->request->connection;
    engine = ctx->starves_for;
    first = (engine != NULL) ? ngx_queue_head(&engine->starving) : NULL;

    ngx_http_set_log_request(c->log, ctx->request);

    ngx_http_axion_timer_expired(ctx);
    ngx_http_run_posted_requests(c);

    /* where the first got in, the next may */

    if (engine != NULL && ngx_queue_head(&engine->starving) != first) {
        ngx_http_axion_dispatch_starving(engine);
    }
}


/* The lesser of `wait` and the time until `time`, which may be past. */
static ngx_msec_t
ngx_http_axion_until(ngx_msec_t time, ngx_msec_t wait)
{
    ngx_msec_int_t  left;

    left = (ngx_msec_int_t) (time - ngx_current_msec);

    if (left < 1) {
        return 1;
    }

    return ngx_min((ngx_msec_t) left, wait);
}


void
ngx_http_axion_set_timer(ngx_http_axion_ctx_t *ctx)
{
    ngx_msec_t  wait;

    wait = NGX_HTTP_AXION_HOLD;

    if (ctx->state == NGX_HTTP_AXION_QUEUED || ctx->parked) {
        wait = ngx_http_axion_limits_until(ctx, wait);

    } else if (ctx->state == NGX_HTTP_AXION_WAITING) {
        wait = ngx_http_axion_until(ctx->deadline, wait);

        if (ctx->poll != 0) {
            wait = ngx_min(wait, ctx->poll);
        }
    }

    if (ctx->parsed.stream) {

        if (!ctx->header_sent) {
            wait = ngx_http_axion_until(ctx->arrived
                                        + ctx->conf->accept_timeout, wait);

        } else if (ctx->conf->keepalive_ping != 0) {
            wait = ngx_http_axion_until(ctx->written
                                        + ctx->conf->keepalive_ping, wait);
        }
    }

    /* nginx leaves a timer alone that differs by less than 300 ms */

    if (ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }

    ngx_add_timer(&ctx->timer, wait);
}


static void
ngx_http_axion_timer_expired(ngx_http_axion_ctx_t *ctx)
{
    ngx_msec_t                  now;
    ngx_http_axion_loc_conf_t  *alcf;

    now = ngx_current_msec;
    alcf = ctx->conf;

    if (ctx->state == NGX_HTTP_AXION_WAITING
        && (ngx_msec_int_t) (now - ctx->deadline) >= 0)
    {
        ngx_http_axion_wait_expired(ctx);
        return;
    }

    if (ctx->parsed.stream) {

        if (!ctx->header_sent) {

            if ((ngx_msec_int_t) (now - ctx->arrived - alcf->accept_timeout)
                >= 0
                && (ngx_http_axion_stream_header(ctx) != NGX_OK
                    || ngx_http_axion_ping(ctx) != NGX_OK))
            {
                ngx_http_axion_finalize(ctx, NGX_ERROR);
                return;
            }

        } else if (alcf->keepalive_ping != 0
                   && (ngx_msec_int_t) (now - ctx->written
                                        - alcf->keepalive_ping) >= 0)
        {
            if (ngx_http_axion_ping(ctx) != NGX_OK) {
                ngx_http_axion_finalize(ctx, NGX_ERROR);
                return;
            }
        }
    }

    if (ctx->state == NGX_HTTP_AXION_QUEUED) {
        ngx_http_axion_limits_retry(ctx);
        return;
    }

    if (ctx->parked && ctx->engine != NULL) {
        ngx_http_axion_lease_low(ctx, 0);
    }

    if (ctx->state == NGX_HTTP_AXION_WAITING && ctx->poll != 0) {

        /* still linked: it keeps its place if it has to wait on */

        ngx_http_axion_dispatch(ctx);
        return;
    }

    ngx_http_axion_set_timer(ctx);
}


/* Not to a client that is behind: it has bytes to read. */
static ngx_int_t
ngx_http_axion_ping(ngx_http_axion_ctx_t *ctx)
{
    ngx_buf_t         *b;
    struct axion_out   out;

    ctx->written = ngx_current_msec;

    if (ctx->busy != NULL || ctx->filled != NULL) {
        return NGX_OK;
    }

    b = ngx_http_axion_room(ctx, NGX_HTTP_AXION_CHUNK_BYTES);
    if (b == NULL) {
        return NGX_ERROR;
    }

    axion_out_fixed(&out, b->last, b->end - b->last);
    axion_response_ping(&out);
    b->last += out.bytes;

    return (ngx_http_axion_flush(ctx, 0) == NGX_ERROR) ? NGX_ERROR : NGX_OK;
}
