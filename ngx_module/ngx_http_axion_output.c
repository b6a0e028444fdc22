/*
 * The chains of one streamed answer.
 *
 *   filled   rendered, not given to nginx yet
 *   busy     given to nginx, not taken by the client yet
 *   free     taken; its buffers are filled again
 *
 * While the client takes everything, each drain's text goes out at once.
 * When it does not, text collects in `filled`, in full buffers, until the
 * socket is writable again; beyond `axion_buffer` the engine is asked to
 * PAUSE the stream, at half of it to RESUME.  So a stream of any length runs
 * in constant memory, and a slow reader costs its bound and no more.
 */


#include "ngx_module/ngx_http_axion_remote.h"


static size_t ngx_http_axion_piece(ngx_http_axion_ctx_t *ctx,
    const char *text, size_t bytes);
static ngx_int_t ngx_http_axion_delta(ngx_http_axion_ctx_t *ctx,
    const char *text, size_t n);
static size_t ngx_http_axion_unsent(ngx_http_axion_ctx_t *ctx);
static void ngx_http_axion_pressure(ngx_http_axion_ctx_t *ctx);
static ngx_int_t ngx_http_axion_expect_write(ngx_http_axion_ctx_t *ctx);
static void ngx_http_axion_too_slow(ngx_http_axion_ctx_t *ctx);


/* A buffer at the end of `filled` with room for `bytes`; the caller moves
 * its `last`.  NULL: no memory. */
ngx_buf_t *
ngx_http_axion_room(ngx_http_axion_ctx_t *ctx, size_t bytes)
{
    size_t        size;
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    if (ctx->filled != NULL
        && (size_t) (ctx->tail->end - ctx->tail->last) >= bytes)
    {
        return ctx->tail;
    }

    cl = ngx_chain_get_free_buf(ctx->request->pool, &ctx->free);
    if (cl == NULL) {
        return NULL;
    }

    b = cl->buf;
    size = NGX_HTTP_AXION_CHUNK_BYTES;

    /* by doubling: what a remote's events outgrow stays in the pool */

    while (size < bytes) {
        size *= 2;
    }

    if ((size_t) (b->end - b->start) < size) {
        b->start = ngx_palloc(ctx->request->pool, size);
        if (b->start == NULL) {
            return NULL;
        }

        b->end = b->start + size;
        b->tag = (ngx_buf_tag_t) &ngx_http_axion_module;
    }

    b->pos = b->start;
    b->last = b->start;
    b->temporary = 1;
    b->flush = 0;
    b->last_buf = 0;
    b->last_in_chain = 0;

    cl->next = NULL;
    *ctx->last = cl;
    ctx->last = &cl->next;
    ctx->tail = b;

    return b;
}


/* The first chunk of a stream, or the answer's opening; once. */
ngx_int_t
ngx_http_axion_begin(ngx_http_axion_ctx_t *ctx)
{
    ngx_buf_t         *b;
    struct axion_out   out;

    if (ctx->begun) {
        return NGX_OK;
    }

    if (!ctx->parsed.stream) {
        ctx->begun = 1;
        axion_out_grow(&ctx->answer, &ctx->memory, 1024,
                       NGX_HTTP_AXION_ANSWER_MAX);
        axion_response_begin(&ctx->response, &ctx->answer);
        return NGX_OK;
    }

    b = ngx_http_axion_room(ctx, axion_response_bytes_max(&ctx->response, 0));
    if (b == NULL) {
        return NGX_ERROR;
    }

    ctx->begun = 1;

    axion_out_fixed(&out, b->last, b->end - b->last);
    axion_response_begin(&ctx->response, &out);
    b->last += out.bytes;

    return NGX_OK;
}


/* How much of the text fits into one buffer, cut between characters. */
static size_t
ngx_http_axion_piece(ngx_http_axion_ctx_t *ctx, const char *text,
    size_t bytes)
{
    size_t  fixed, max, n;

    fixed = axion_response_bytes_max(&ctx->response, 0);

    max = (fixed < NGX_HTTP_AXION_CHUNK_BYTES / 2)
              ? (NGX_HTTP_AXION_CHUNK_BYTES - fixed) / AXION_JSON_ESCAPE_MAX
              : NGX_HTTP_AXION_CHUNK_BYTES / 2 / AXION_JSON_ESCAPE_MAX;

    if (bytes <= max) {
        return bytes;
    }

    for (n = max; n > max - 4; n--) {
        if (((u_char) text[n] & 0xc0) != 0x80) {
            return n;
        }
    }

    return max;
}


/*
 * One event.  It is tried in what the last buffer has left first: room for
 * the worst case, every byte escaped, would leave most buffers half empty,
 * and a slow reader's memory is counted in buffers.
 */
static ngx_int_t
ngx_http_axion_delta(ngx_http_axion_ctx_t *ctx, const char *text, size_t n)
{
    ngx_buf_t         *b;
    struct axion_out   out;

    if (ctx->filled != NULL) {
        b = ctx->tail;

        axion_out_fixed(&out, b->last, b->end - b->last);
        axion_response_text(&ctx->response, &out, text, n);

        if (axion_out_status(&out) == AXION_OK) {
            b->last += out.bytes;
            return NGX_OK;
        }
    }

    b = ngx_http_axion_room(ctx, axion_response_bytes_max(&ctx->response, n));
    if (b == NULL) {
        return NGX_ERROR;
    }

    axion_out_fixed(&out, b->last, b->end - b->last);
    axion_response_text(&ctx->response, &out, text, n);
    b->last += out.bytes;

    return NGX_OK;
}


void
ngx_http_axion_text_out(ngx_http_axion_ctx_t *ctx, const char *text,
    size_t bytes)
{
    size_t  n;

    /* what failed ends after this drain; until then more text may come */

    if (ctx->failure.error != AXION_OK) {
        return;
    }

    if (ngx_http_axion_begin(ctx) != NGX_OK) {
        axion_failure_set(&ctx->failure, AXION_ERR_NO_MEMORY, NULL, NULL);
        return;
    }

    if (!ctx->parsed.stream) {
        axion_response_text(&ctx->response, &ctx->answer, text, bytes);

        if (axion_out_status(&ctx->answer) != AXION_OK) {
            axion_failure_set(&ctx->failure, AXION_ERR_NO_MEMORY, NULL,
                              "the answer is too long to be sent unstreamed");
        }

        return;
    }

    while (bytes != 0) {

        n = ngx_http_axion_piece(ctx, text, bytes);

        if (ngx_http_axion_delta(ctx, text, n) != NGX_OK) {
            axion_failure_set(&ctx->failure, AXION_ERR_NO_MEMORY, NULL, NULL);
            return;
        }

        text += n;
        bytes -= n;
    }
}


ngx_int_t
ngx_http_axion_stream_header(ngx_http_axion_ctx_t *ctx)
{
    ngx_int_t                  rc;
    ngx_connection_t          *c;
    ngx_http_request_t        *r;
    ngx_http_core_loc_conf_t  *clcf;

    r = ctx->request;
    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    c = r->connection;

#if (NGX_HTTP_V2)
    if (r->stream) {
        c = r->stream->connection->connection;
    }
#endif

    if (clcf->tcp_nodelay && ngx_tcp_nodelay(c) != NGX_OK) {
        return NGX_ERROR;
    }

    r->headers_out.status = NGX_HTTP_OK;
    ngx_str_set(&r->headers_out.content_type, "text/event-stream");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;
    ngx_http_clear_content_length(r);

    ctx->own = 1;
    ctx->header_sent = 1;
    ctx->written = ngx_current_msec;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_axion_set_timer(ctx);

    return NGX_OK;
}


/*
 * Gives nginx what is filled, unless the client is behind already.  With
 * `last` everything goes, and the result is for ngx_http_finalize_request();
 * else NGX_OK or NGX_ERROR.
 */
ngx_int_t
ngx_http_axion_flush(ngx_http_axion_ctx_t *ctx, ngx_uint_t last)
{
    ngx_int_t            rc;
    ngx_chain_t         *out;
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = ctx->request;
    c = r->connection;

    if (ctx->filled == NULL) {
        return NGX_OK;
    }

    if (ctx->busy != NULL && !last) {
        ngx_http_axion_pressure(ctx);
        return NGX_OK;
    }

    /* a completion begins with no chunk: then only the header is flushed */

    ctx->tail->temporary = (ctx->tail->last != ctx->tail->pos);
    ctx->tail->flush = 1;
    ctx->tail->last_buf = last;
    ctx->tail->last_in_chain = last;

    out = ctx->filled;
    ctx->filled = NULL;
    ctx->last = &ctx->filled;
    ctx->written = ngx_current_msec;

    rc = ngx_http_output_filter(r, out);

    if (last || rc == NGX_ERROR) {
        return rc;
    }

    ngx_chain_update_chains(r->pool, &ctx->free, &ctx->busy, &out,
                            (ngx_buf_tag_t) &ngx_http_axion_module);

    ngx_http_axion_pressure(ctx);

    if (r->buffered || c->buffered) {
        return ngx_http_axion_expect_write(ctx);
    }

    ctx->behind = 0;
    ngx_http_axion_write_timer(ctx);

    return NGX_OK;
}


static size_t
ngx_http_axion_unsent(ngx_http_axion_ctx_t *ctx)
{
    size_t        bytes;
    ngx_chain_t  *cl;

    bytes = 0;

    for (cl = ctx->busy; cl; cl = cl->next) {
        bytes += ngx_buf_size(cl->buf);
    }

    for (cl = ctx->filled; cl; cl = cl->next) {
        bytes += ngx_buf_size(cl->buf);
    }

    return bytes;
}


static void
ngx_http_axion_pressure(ngx_http_axion_ctx_t *ctx)
{
    size_t      unsent;
    ngx_uint_t  pause;

    if (ctx->engine == NULL && ctx->call == NULL) {
        return;
    }

    unsent = ngx_http_axion_unsent(ctx);

    if (!ctx->paused && unsent > ctx->conf->buffer) {
        pause = 1;

    } else if (ctx->paused && unsent <= ctx->conf->buffer / 2) {
        pause = 0;

    } else {
        return;
    }

    ctx->paused = pause;

    if (pause) {
        (void) ngx_atomic_fetch_add(&ctx->main->zone->stats.pauses, 1);
    }

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "axion: %s with %uz bytes unsent",
                   pause ? "paused" : "resumed", unsent);

    if (ctx->call != NULL) {
        ngx_http_axion_call_hold(ctx, pause);

    } else if (pause) {
        axion_client_pause(ctx->engine->client, ctx->stream);

    } else {
        axion_client_resume(ctx->engine->client, ctx->stream);
    }
}


static ngx_int_t
ngx_http_axion_expect_write(ngx_http_axion_ctx_t *ctx)
{
    ngx_event_t               *wev;
    ngx_http_core_loc_conf_t  *clcf;

    wev = ctx->request->connection->write;
    clcf = ngx_http_get_module_loc_conf(ctx->request, ngx_http_core_module);

    if (ctx->behind == 0) {
        ctx->behind = ngx_current_msec + ctx->conf->idle_timeout;
        ngx_http_axion_write_timer(ctx);
    }

    return ngx_handle_write_event(wev, clcf->send_lowat);
}


/* What the timer of the client's connection is to be, whatever nginx's
 * upstream code has made of it. */
void
ngx_http_axion_write_timer(ngx_http_axion_ctx_t *ctx)
{
    ngx_event_t     *wev;
    ngx_msec_int_t   left;

    wev = ctx->request->connection->write;

    if (wev->delayed) {
        return;
    }

    if (wev->timer_set) {
        ngx_del_timer(wev);
    }

    if (ctx->behind != 0) {
        left = (ngx_msec_int_t) (ctx->behind - ngx_current_msec);
        ngx_add_timer(wev, (ngx_msec_t) ngx_max(left, 1));
    }
}


void
ngx_http_axion_write_handler(ngx_http_request_t *r)
{
    ngx_int_t              rc;
    ngx_chain_t           *out;
    ngx_event_t           *wev;
    ngx_http_axion_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_axion_module);
    wev = r->connection->write;

    if (wev->timedout) {
        ngx_http_axion_too_slow(ctx);
        return;
    }

    if (!r->buffered && !r->connection->buffered) {
        return;
    }

    rc = ngx_http_output_filter(r, NULL);

    if (rc == NGX_ERROR) {
        ngx_http_axion_finalize(ctx, NGX_ERROR);
        return;
    }

    /* the client took something: it has its whole time again */

    ctx->behind = 0;
    ngx_http_axion_write_timer(ctx);

    out = NULL;
    ngx_chain_update_chains(r->pool, &ctx->free, &ctx->busy, &out,
                            (ngx_buf_tag_t) &ngx_http_axion_module);

    if (ngx_http_axion_flush(ctx, 0) == NGX_ERROR) {
        ngx_http_axion_finalize(ctx, NGX_ERROR);
        return;
    }

    ngx_http_axion_pressure(ctx);

    if ((r->buffered || r->connection->buffered)
        && ngx_http_axion_expect_write(ctx) != NGX_OK)
    {
        ngx_http_axion_finalize(ctx, NGX_ERROR);
    }
}


static void
ngx_http_axion_too_slow(ngx_http_axion_ctx_t *ctx)
{
    axion_failure_set(&ctx->failure, AXION_ERR_CLIENT_TOO_SLOW, NULL,
                      "%zu bytes unsent", ngx_http_axion_unsent(ctx));
    ngx_http_axion_note_failure(ctx, "");

    ctx->request->connection->timedout = 1;

    ngx_http_axion_finalize(ctx, NGX_ERROR);
}
