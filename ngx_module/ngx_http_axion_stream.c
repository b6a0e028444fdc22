/*
 * Events of the ring → the client.  An event is taken over while the ring is
 * drained (text is rendered into output buffers at once, the rest is noted
 * in the context); what goes out goes out afterwards, one call of the output
 * filter per request and drain, however many tokens came.
 *
 * The response's header waits for ACCEPTED or ERROR, so that a refusal has
 * its own status.  Whatever fails later is told as an event, and the stream
 * ends cleanly.  An answer that is not streamed grows, already escaped, in
 * ctx->answer and is never paused: max_tokens bounds it.
 */


#include "ngx_module/ngx_http_axion_remote.h"


/* Message and parameter with every byte escaped, and the frame around. */
#define NGX_HTTP_AXION_FAILURE_BYTES                                          \
    ((AXION_MESSAGE_BYTES + AXION_PARAM_BYTES) * AXION_JSON_ESCAPE_MAX + 512)


static void ngx_http_axion_event_accepted(ngx_http_axion_ctx_t *ctx,
    const struct axion_cq_accepted *accepted);
static void ngx_http_axion_event_tokens(ngx_http_axion_ctx_t *ctx,
    const struct axion_event *event);
static void ngx_http_axion_event_end(ngx_http_axion_ctx_t *ctx);
static ngx_uint_t ngx_http_axion_event_retry(ngx_http_axion_ctx_t *ctx,
    int error);
static void ngx_http_axion_mark_dirty(ngx_http_axion_ctx_t *ctx);
static void ngx_http_axion_progress(ngx_http_axion_ctx_t *ctx);
static void ngx_http_axion_end_stream(ngx_http_axion_ctx_t *ctx);
static void ngx_http_axion_note_cut(ngx_http_axion_ctx_t *ctx,
    struct axion_failure *cut);
static void ngx_http_axion_send_answer(ngx_http_axion_ctx_t *ctx);
static void ngx_http_axion_fail_stream(ngx_http_axion_ctx_t *ctx);


void
ngx_http_axion_event(ngx_http_axion_ctx_t *ctx,
    const struct axion_event *event)
{
    switch (event->op) {

    case AXION_CQ_ACCEPTED:
        ngx_http_axion_event_accepted(ctx, &event->accepted);
        return;

    case AXION_CQ_PROGRESS:
        return;

    case AXION_CQ_TOKENS:
        ngx_http_axion_event_tokens(ctx, event);
        return;

    case AXION_CQ_LEASE_LOW:
        ngx_http_axion_lease_low(ctx, event->lease_low.wanted_tokens);
        return;

    case AXION_CQ_DONE:
        ctx->usage = event->done;
        ctx->accepted = 1;
        ctx->finished = 1;
        ngx_http_axion_lease_end(ctx);
        ngx_http_axion_observe_done(ctx);
        ngx_http_axion_event_end(ctx);
        return;

    case AXION_CQ_ERROR:
        if (ngx_http_axion_spill(ctx, event->error.error)) {
            ngx_http_axion_unlink(ctx);
            ngx_http_axion_mark_dirty(ctx);
            return;
        }

        if (ngx_http_axion_event_retry(ctx, event->error.error)) {
            return;
        }

        if (ngx_http_axion_lease_too_small(ctx, event)) {
            ngx_http_axion_unlink(ctx);
            ngx_http_axion_mark_dirty(ctx);
            return;
        }

        ngx_http_axion_lease_end(ctx);

        axion_failure_event(&ctx->failure, event->error.error,
                            event->error.retry_after_ms, event->error.text,
                            event->error.text_bytes);
        ngx_http_axion_event_end(ctx);
        return;
    }
}


static void
ngx_http_axion_event_accepted(ngx_http_axion_ctx_t *ctx,
    const struct axion_cq_accepted *accepted)
{
    ctx->usage.prompt_tokens = accepted->prompt_tokens;
    ctx->usage.cached_tokens = accepted->cached_tokens;
    ctx->accepted = 1;
    ngx_http_axion_observe_accepted(ctx);
    ngx_http_axion_lease_accepted(ctx);

    if (ctx->state == NGX_HTTP_AXION_SUBMITTED) {
        ctx->state = NGX_HTTP_AXION_ACCEPTED;
    }

    /* it will not be sent again: the payload is of no more use */

    if (ctx->scratch != NULL) {
        ngx_destroy_pool(ctx->scratch);
        ctx->scratch = NULL;
    }

    ngx_http_axion_mark_dirty(ctx);
}


static void
ngx_http_axion_event_tokens(ngx_http_axion_ctx_t *ctx,
    const struct axion_event *event)
{
    if (ctx->state == NGX_HTTP_AXION_SUBMITTED) {
        ctx->state = NGX_HTTP_AXION_ACCEPTED;
    }

    ngx_http_axion_note_tokens(ctx, event->tokens.n_tokens);

    if (event->tokens.text_bytes != 0) {
        ngx_http_axion_text_out(ctx, event->tokens.text,
                                event->tokens.text_bytes);
    }

    ngx_http_axion_mark_dirty(ctx);
}


static void
ngx_http_axion_event_end(ngx_http_axion_ctx_t *ctx)
{
    ctx->state = NGX_HTTP_AXION_ENDED;
    ctx->stream = 0;

    ngx_http_axion_unlink(ctx);
    ngx_http_axion_mark_dirty(ctx);
}


/*
 * An engine that loads or drains will be ready, or another one is: the
 * request waits for that as if the board had said so, which lags a little.
 */
static ngx_uint_t
ngx_http_axion_event_retry(ngx_http_axion_ctx_t *ctx, int error)
{
    if (ctx->state != NGX_HTTP_AXION_SUBMITTED
        || (error != AXION_ERR_ENGINE_LOADING
            && error != AXION_ERR_ENGINE_DRAINING))
    {
        return 0;
    }

    ctx->state = NGX_HTTP_AXION_READING;
    ctx->stream = 0;
    ctx->tries--;
    ctx->retry = 1;
    ctx->waits_for = error;

    ngx_http_axion_unlink(ctx);
    ngx_http_axion_mark_dirty(ctx);

    return 1;
}


static void
ngx_http_axion_mark_dirty(ngx_http_axion_ctx_t *ctx)
{
    if (!ctx->queued) {
        ngx_queue_insert_tail(&ctx->main->dirty, &ctx->dirty);
        ctx->queued = 1;
    }
}


void
ngx_http_axion_flush_dirty(ngx_http_axion_main_conf_t *amcf)
{
    ngx_queue_t           *q;
    ngx_connection_t      *c;
    ngx_http_axion_ctx_t  *ctx;

    while (!ngx_queue_empty(&amcf->dirty)) {

        q = ngx_queue_head(&amcf->dirty);
        ctx = ngx_queue_data(q, ngx_http_axion_ctx_t, dirty);

        ngx_queue_remove(q);
        ctx->queued = 0;

        c = ctx->request->connection;
        ngx_http_set_log_request(c->log, ctx->request);

        ngx_http_axion_progress(ctx);
        ngx_http_run_posted_requests(c);
    }
}


static void
ngx_http_axion_progress(ngx_http_axion_ctx_t *ctx)
{
    if (ctx->spilled && ctx->state == NGX_HTTP_AXION_READING) {
        ngx_http_axion_dispatch(ctx);
        return;
    }

    if (ctx->retry) {
        ctx->retry = 0;
        ngx_http_axion_wait(ctx, ctx->waits_for, 1);
        return;
    }

    if (ctx->regrow) {
        ctx->regrow = 0;
        ngx_http_axion_limits_regrow(ctx);
        return;
    }

    if (ctx->failure.error != AXION_OK) {
        ngx_http_axion_fail(ctx);
        return;
    }

    if (!ctx->parsed.stream) {

        if (ctx->finished) {
            ngx_http_axion_send_answer(ctx);
        }

        return;
    }

    if (!ctx->header_sent && ngx_http_axion_stream_header(ctx) != NGX_OK) {
        ngx_http_axion_finalize(ctx, NGX_ERROR);
        return;
    }

    if (ctx->finished) {
        ngx_http_axion_end_stream(ctx);
        return;
    }

    if (ngx_http_axion_begin(ctx) != NGX_OK
        || ngx_http_axion_flush(ctx, 0) == NGX_ERROR)
    {
        ngx_http_axion_finalize(ctx, NGX_ERROR);
    }
}


static void
ngx_http_axion_end_stream(ngx_http_axion_ctx_t *ctx)
{
    ngx_buf_t             *b;
    struct axion_out       out;
    struct axion_failure   cut;

    b = NULL;
    ngx_http_axion_note_cut(ctx, &cut);

    if (ngx_http_axion_begin(ctx) == NGX_OK) {
        b = ngx_http_axion_room(ctx,
                                axion_response_bytes_max(&ctx->response, 0));
    }

    if (b == NULL) {
        ngx_http_axion_finalize(ctx, NGX_ERROR);
        return;
    }

    axion_out_fixed(&out, b->last, b->end - b->last);
    axion_response_end(&ctx->response, &out, &ctx->usage);
    b->last += out.bytes;

    ngx_http_axion_finalize(ctx, ngx_http_axion_flush(ctx, 1));
}


/* A stream that ends at its tenant's last token says so. */
static void
ngx_http_axion_note_cut(ngx_http_axion_ctx_t *ctx, struct axion_failure *cut)
{
    if (ctx->cut != AXION_LIMIT_NONE) {
        ngx_http_axion_limits_explain(ctx, cut);
        ctx->response.incomplete = cut;
    }
}


static void
ngx_http_axion_send_answer(ngx_http_axion_ctx_t *ctx)
{
    struct axion_failure  cut;

    ngx_http_axion_note_cut(ctx, &cut);
    (void) ngx_http_axion_begin(ctx);

    axion_response_end(&ctx->response, &ctx->answer, &ctx->usage);

    if (axion_out_status(&ctx->answer) != AXION_OK) {
        axion_failure_set(&ctx->failure, AXION_ERR_NO_MEMORY, NULL,
                          "the answer is too long to be sent unstreamed");
        ngx_http_axion_fail(ctx);
        return;
    }

    ngx_http_axion_finalize(ctx, ngx_http_axion_send(ctx->request,
                                                     NGX_HTTP_OK,
                                                     "application/json",
                                                     &ctx->answer));
}


/*
 * Ends the request with ctx->failure, in the form that is still possible.
 * Neither ctx nor its request may be touched afterwards.
 */
void
ngx_http_axion_fail(ngx_http_axion_ctx_t *ctx)
{
    if (ctx->header_sent) {
        ngx_http_axion_fail_stream(ctx);
        return;
    }

    ngx_http_axion_finalize(ctx, ngx_http_axion_send_failure(ctx));
}


static void
ngx_http_axion_fail_stream(ngx_http_axion_ctx_t *ctx)
{
    ngx_buf_t         *b;
    struct axion_out   out;

    ngx_http_axion_note_failure(ctx, " in a stream");

    b = ngx_http_axion_room(ctx, NGX_HTTP_AXION_FAILURE_BYTES);

    if (b == NULL) {
        ngx_http_axion_finalize(ctx, NGX_ERROR);
        return;
    }

    axion_out_fixed(&out, b->last, b->end - b->last);
    axion_failure_sse(&out, &ctx->failure);
    b->last += out.bytes;

    ngx_http_axion_finalize(ctx, ngx_http_axion_flush(ctx, 1));
}


/* The end of our part; nginx sends what the client has not taken yet. */
void
ngx_http_axion_finalize(ngx_http_axion_ctx_t *ctx, ngx_int_t rc)
{
    ngx_http_request_t  *r;

    r = ctx->request;

    ngx_http_axion_detach(ctx);

    if (r->header_sent && rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        rc = NGX_ERROR;
    }

    ngx_http_finalize_request(r, rc);
}
