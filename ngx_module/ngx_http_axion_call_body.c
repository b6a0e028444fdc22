/*
 * The body of a remote's response.  The input filter takes it out of its
 * transfer coding and reads it as events or collects it; what the client gets
 * of it is rendered at once into the output chains of its request, and goes
 * out in the call's event, once per turn of the loop.
 *
 * A response is whole when its last event or its JSON is; only then, or where
 * the client has read some of it, is the request's fate decided.  Behind
 * `[DONE]` the transfer coding's own end is waited for a moment, so that the
 * connection can be kept: the client has everything by then.
 */


#include "ngx_module/ngx_http_axion_remote.h"


#define NGX_HTTP_AXION_CALL_TURN   (64 * 1024)
#define NGX_HTTP_AXION_CALL_AFTER  1000


static ngx_int_t ngx_http_axion_call_chunks(ngx_http_axion_call_t *call,
    u_char *p, size_t bytes);
static void ngx_http_axion_call_take(ngx_http_axion_call_t *call, u_char *p,
    size_t bytes);
static int ngx_http_axion_call_sse(void *context, const char *data,
    size_t bytes);
static int ngx_http_axion_call_chunk(ngx_http_axion_call_t *call,
    const char *data, size_t bytes);
static ngx_int_t ngx_http_axion_call_render(ngx_http_axion_call_t *call,
    const struct axion_remote_chunk *chunk, ngx_buf_t *b);
static void ngx_http_axion_call_pieces(ngx_http_axion_call_t *call,
    uint32_t n);
static void ngx_http_axion_call_note_cut(ngx_http_axion_call_t *call);
static void ngx_http_axion_call_whole(ngx_http_axion_call_t *call);
static void ngx_http_axion_call_usage(ngx_http_axion_call_t *call);
static void ngx_http_axion_call_progress(ngx_http_axion_call_t *call);
static void ngx_http_axion_call_accepted(ngx_http_axion_call_t *call);
static void ngx_http_axion_call_closed(ngx_http_axion_call_t *call);
static void ngx_http_axion_call_finish(ngx_http_axion_call_t *call);
static void ngx_http_axion_call_failed(ngx_http_axion_call_t *call);
static void ngx_http_axion_call_log(ngx_http_axion_call_t *call);
static int ngx_http_axion_call_error(ngx_http_axion_call_t *call);
static void ngx_http_axion_call_judge(ngx_http_axion_call_t *call);


/* The head is read, and is the one that counts. */
ngx_int_t
ngx_http_axion_call_filter_init(void *data)
{
    ngx_http_axion_call_t  *call = data;

    ngx_http_axion_ctx_t  *ctx;
    ngx_http_upstream_t   *u;

    u = call->sr->upstream;
    ctx = call->ctx;

    u->length = call->is_chunked ? 3 : call->length;  /* 3: "0" LF LF */

    if (call->status.code == NGX_HTTP_NO_CONTENT
        || call->status.code == NGX_HTTP_NOT_MODIFIED)
    {
        u->length = 0;
    }

    ngx_post_event(&call->event, &ngx_posted_events);

    if (call->status.code != NGX_HTTP_OK) {
        axion_out_grow(&call->body, &call->memory, 1024,
                       NGX_HTTP_AXION_FAULT_MAX);
        return NGX_OK;
    }

    if (call->type != (ctx->parsed.stream ? NGX_HTTP_AXION_TYPE_EVENTS
                                          : NGX_HTTP_AXION_TYPE_JSON))
    {
        ngx_log_error(NGX_LOG_ERR, ctx->request->connection->log, 0,
                      "axion: remote \"%V\" sent another content type than "
                      "was asked for", &call->remote->label);
        call->fault = AXION_ERR_REMOTE_PROTOCOL;
        call->over = 1;
        u->length = 0;
        return NGX_OK;
    }

    call->headed = 1;
    ngx_http_axion_call_accepted(call);

    if (ctx->parsed.stream) {
        axion_sse_open(&call->sse, &call->memory, NGX_HTTP_AXION_EVENT_MAX);

    } else {
        axion_out_grow(&call->body, &call->memory, 4096,
                       NGX_HTTP_AXION_ANSWER_MAX);
    }

    return NGX_OK;
}


/* `bytes` more lie behind u->buffer.last, which stays where it is: all of
 * them are taken. */
ngx_int_t
ngx_http_axion_call_filter(void *data, ssize_t bytes)
{
    ngx_http_axion_call_t  *call = data;

    u_char               *p;
    ngx_http_upstream_t  *u;

    u = call->sr->upstream;
    p = u->buffer.last;

    call->turn += bytes;

    if (call->turn > NGX_HTTP_AXION_CALL_TURN) {

        /* others' turn: nginx stops reading, the event goes on with it */

        call->more = 1;
        u->peer.connection->read->ready = 0;
    }

    ngx_post_event(&call->event, &ngx_posted_events);

    if (u->length == 0) {
        u->keepalive = 0;
        return NGX_OK;
    }

    if (call->is_chunked) {
        return ngx_http_axion_call_chunks(call, p, bytes);
    }

    if (u->length == -1) {
        ngx_http_axion_call_take(call, p, bytes);
        return NGX_OK;
    }

    /* kept is what has nothing left to say, and has said no more than that */

    u->keepalive = (bytes == u->length && !call->close);
    bytes = ngx_min(bytes, u->length);
    u->length -= bytes;

    ngx_http_axion_call_take(call, p, bytes);

    return NGX_OK;
}


static ngx_int_t
ngx_http_axion_call_chunks(ngx_http_axion_call_t *call, u_char *p,
    size_t bytes)
{
    size_t                n;
    ngx_int_t             rc;
    ngx_buf_t             b;
    ngx_http_upstream_t  *u;

    u = call->sr->upstream;

    ngx_memzero(&b, sizeof(ngx_buf_t));
    b.pos = p;
    b.last = p + bytes;

    for ( ;; ) {

        rc = ngx_http_parse_chunked(call->sr, &b, &call->chunked);

        switch (rc) {

        case NGX_OK:
            n = (size_t) ngx_min((off_t) (b.last - b.pos),
                                 call->chunked.size);
            ngx_http_axion_call_take(call, b.pos, n);
            b.pos += n;
            call->chunked.size -= n;
            continue;

        case NGX_DONE:
            u->keepalive = (b.pos == b.last && !call->close);
            u->length = 0;
            return NGX_OK;

        case NGX_AGAIN:
            u->length = call->chunked.length;
            return NGX_OK;

        default:
            ngx_log_error(NGX_LOG_ERR, call->sr->connection->log, 0,
                          "axion: remote \"%V\" sent an invalid chunked body",
                          &call->remote->label);

            if (!call->done) {
                call->fault = AXION_ERR_REMOTE_PROTOCOL;
            }

            call->over = 1;
            u->keepalive = 0;
            u->length = 0;
            return NGX_OK;
        }
    }
}


static void
ngx_http_axion_call_take(ngx_http_axion_call_t *call, u_char *p,
    size_t bytes)
{
    int  error;

    if (call->over || call->done) {
        return;
    }

    if (!call->headed) {

        /* of an error the beginning will do */

        if (bytes > call->body.bytes_max - call->body.bytes) {
            bytes = call->body.bytes_max - call->body.bytes;
            call->over = 1;
        }

        axion_out_bytes(&call->body, p, bytes);
        return;
    }

    if (call->ctx->parsed.stream) {
        error = axion_sse_feed(&call->sse, (char *) p, bytes,
                               ngx_http_axion_call_sse, call);

    } else {
        axion_out_bytes(&call->body, p, bytes);
        error = axion_out_status(&call->body);
    }

    if (error == AXION_OK || call->done) {
        return;
    }

    if (error == AXION_ERR_PAYLOAD_TOO_LARGE) {
        ngx_log_error(NGX_LOG_ERR, call->sr->connection->log, 0,
                      "axion: remote \"%V\" sent too long an event or answer",
                      &call->remote->label);
        error = AXION_ERR_REMOTE_PROTOCOL;
    }

    call->fault = error;
    call->over = 1;
    call->sr->upstream->length = 0;
    call->sr->upstream->keepalive = 0;
}


static int
ngx_http_axion_call_sse(void *context, const char *data, size_t bytes)
{
    ngx_http_axion_call_t  *call = context;

    int                    error;
    ngx_buf_t             *b;
    struct axion_out       out;
    ngx_http_axion_ctx_t  *ctx;

    static const char  last[] = "[DONE]";

    if (call->done) {
        return AXION_OK;
    }

    if (bytes != sizeof(last) - 1 || ngx_memcmp(data, last, bytes) != 0) {
        error = ngx_http_axion_call_chunk(call, data, bytes);

        if (error == AXION_ERR_REMOTE_PROTOCOL) {
            ngx_log_error(NGX_LOG_ERR, call->sr->connection->log, 0,
                          "axion: remote \"%V\" sent an event that is no "
                          "chunk", &call->remote->label);
        }

        return error;
    }

    ctx = call->ctx;
    ngx_http_axion_call_usage(call);

    b = ngx_http_axion_room(ctx, axion_remote_bytes_max(&ctx->response, 0));
    if (b == NULL) {
        return AXION_ERR_NO_MEMORY;
    }

    axion_out_fixed(&out, b->last, b->end - b->last);
    axion_remote_end(&out, &ctx->response, &call->answer, &ctx->usage);
    b->last += out.bytes;

    call->done = 1;
    call->answered = 1;
    call->conf.read_timeout = NGX_HTTP_AXION_CALL_AFTER;

    return AXION_OK;
}


static int
ngx_http_axion_call_chunk(ngx_http_axion_call_t *call, const char *data,
    size_t bytes)
{
    int                         error;
    ngx_buf_t                  *b;
    ngx_http_axion_ctx_t       *ctx;
    struct axion_remote_chunk   chunk;

    ctx = call->ctx;

    error = axion_remote_read(&call->answer, &chunk, data, bytes);
    if (error != AXION_OK) {
        return error;
    }

    ngx_http_axion_call_pieces(call, chunk.n_pieces);

    if (chunk.ended) {
        ngx_http_axion_call_note_cut(call);
    }

    /* in what the last buffer has left first, see ngx_http_axion_delta() */

    if (ctx->filled != NULL
        && ngx_http_axion_call_render(call, &chunk, ctx->tail) == NGX_OK)
    {
        return AXION_OK;
    }

    b = ngx_http_axion_room(ctx, axion_remote_bytes_max(&ctx->response,
                                                        bytes));

    if (b == NULL || ngx_http_axion_call_render(call, &chunk, b) != NGX_OK) {
        return AXION_ERR_NO_MEMORY;
    }

    return AXION_OK;
}


/* NGX_DECLINED: the buffer has no room for all of it, and has none of it. */
static ngx_int_t
ngx_http_axion_call_render(ngx_http_axion_call_t *call,
    const struct axion_remote_chunk *chunk, ngx_buf_t *b)
{
    struct axion_out  out;

    axion_out_fixed(&out, b->last, b->end - b->last);
    axion_remote_write(&out, &call->ctx->response, chunk, &call->answer);

    if (axion_out_status(&out) != AXION_OK) {
        return NGX_DECLINED;
    }

    b->last += out.bytes;
    call->answered |= (out.bytes != 0);

    return NGX_OK;
}


/* Times and the lease's count go by pieces until usage is told. */
static void
ngx_http_axion_call_pieces(ngx_http_axion_call_t *call, uint32_t n)
{
    if (n != 0) {
        ngx_http_axion_note_tokens(call->ctx, n);
    }
}


/* Was it the tenant's limit that gave the answer its length? */
static void
ngx_http_axion_call_note_cut(ngx_http_axion_call_t *call)
{
    ngx_http_axion_ctx_t  *ctx;

    ctx = call->ctx;

    if (!call->reserved.cut || call->answer.reason != AXION_FINISH_LENGTH) {
        return;
    }

    call->answer.reason = AXION_FINISH_LEASE;
    ctx->cut = ctx->verdict.kind;

    if (ctx->cut != AXION_LIMIT_NONE) {
        ngx_http_axion_limits_explain(ctx, &call->cut);
        ctx->response.incomplete = &call->cut;
    }
}


/* An answer that was not streamed. */
static void
ngx_http_axion_call_whole(ngx_http_axion_call_t *call)
{
    int                         error;
    ngx_http_axion_ctx_t       *ctx;
    struct axion_remote_chunk   chunk;

    ctx = call->ctx;

    error = axion_remote_read(&call->answer, &chunk, call->body.data,
                              call->body.bytes);

    if (error != AXION_OK) {
        if (error == AXION_ERR_REMOTE_PROTOCOL) {
            ngx_log_error(NGX_LOG_ERR, call->sr->connection->log, 0,
                          "axion: remote \"%V\" sent an answer that is none",
                          &call->remote->label);
        }

        call->fault = error;
        return;
    }

    ngx_http_axion_call_pieces(call, chunk.n_pieces);
    ngx_http_axion_call_note_cut(call);
    ngx_http_axion_call_usage(call);

    axion_out_grow(&ctx->answer, &ctx->memory,
                   axion_remote_bytes_max(&ctx->response, call->body.bytes),
                   2 * NGX_HTTP_AXION_ANSWER_MAX);
    axion_remote_write(&ctx->answer, &ctx->response, &chunk, &call->answer);

    call->done = 1;
    call->answered = 1;
}


/* What the request has used: as the remote says, else as it was seen.  It is
 * accounted for before its last event goes out: the client may leave with
 * that, while the end of the transfer coding is waited for. */
static void
ngx_http_axion_call_usage(ngx_http_axion_call_t *call)
{
    uint64_t                     now;
    ngx_http_axion_ctx_t        *ctx;
    struct axion_remote_answer  *answer;

    ctx = call->ctx;
    answer = &call->answer;

    if (!answer->has_usage) {
        answer->prompt_tokens = call->reserved.prompt_tokens;
        answer->completion_tokens = ctx->tokens;

        ngx_log_error(NGX_LOG_WARN, ctx->request->connection->log, 0,
                      "axion: remote \"%V\" told no usage: %uD+%uD tokens "
                      "are an estimate", &call->remote->label,
                      answer->prompt_tokens, answer->completion_tokens);
    }

    axion_remote_settle(answer);
    ngx_http_axion_call_judge(call);

    now = ngx_http_axion_now_us();

    ctx->usage.prompt_tokens = answer->prompt_tokens;
    ctx->usage.cached_tokens = answer->cached_tokens;
    ctx->usage.completion_tokens = answer->completion_tokens;
    ctx->usage.reason = answer->ended ? answer->reason : AXION_FINISH_STOP;
    ctx->usage.prefill_us = (uint32_t)
                            ((ctx->first_us ? ctx->first_us : now)
                             - call->started_us);
    ctx->usage.decode_us = ctx->first_us
                               ? (uint32_t) (ctx->last_us - ctx->first_us)
                               : 0;

    ctx->finished = 1;
    ctx->state = NGX_HTTP_AXION_ENDED;

    if (ctx->model != NULL) {
        (void) ngx_atomic_fetch_add(&ctx->model->prompt_tokens,
                                    ctx->usage.prompt_tokens);
    }

    ngx_http_axion_lease_end(ctx);
    ngx_http_axion_observe_done(ctx);
}


/* Counted each time, told by each worker once. */
static ngx_uint_t
ngx_http_axion_call_first(ngx_http_axion_remote_t *remote,
    ngx_atomic_t *counter, ngx_uint_t what)
{
    (void) ngx_atomic_fetch_add(counter, 1);

    if (remote->told & what) {
        return 0;
    }

    remote->told |= what;

    return 1;
}


static void
ngx_http_axion_call_corrected(ngx_http_axion_call_t *call, const char *how)
{
    struct axion_remote_answer  *answer;

    answer = &call->answer;

    ngx_log_error(NGX_LOG_ERR, call->ctx->request->connection->log, 0,
                  "axion: remote \"%V\" told %uD+%uD tokens, %s have used: "
                  "%uD+%uD are charged", &call->remote->label,
                  answer->told[0], answer->told[1], how,
                  answer->prompt_tokens, answer->completion_tokens);
}


/* Usage that cannot be, or that a bound should have prevented, is no secret. */
static void
ngx_http_axion_call_judge(ngx_http_axion_call_t *call)
{
    ngx_http_axion_ctx_t           *ctx;
    ngx_http_axion_remote_t        *remote;
    struct axion_remote_answer     *answer;
    ngx_http_axion_remote_stats_t  *stats;

    ctx = call->ctx;
    remote = call->remote;
    stats = remote->stats;
    answer = &call->answer;

    if (answer->bounded
        && ngx_http_axion_call_first(remote, &stats->bounded,
                                     NGX_HTTP_AXION_TOLD_BOUNDED))
    {
        ngx_http_axion_call_corrected(call, "more than the request can");
    }

    if (answer->raised
        && ngx_http_axion_call_first(remote, &stats->raised,
                                     NGX_HTTP_AXION_TOLD_RAISED))
    {
        ngx_http_axion_call_corrected(call, "less than the request must");
    }

    if (ctx->who.max_context != 0
        && (uint64_t) answer->prompt_tokens
           + answer->completion_tokens / ctx->parsed.n_answers
           > ctx->who.max_context
        && ngx_http_axion_call_first(remote, &stats->passed,
                                     NGX_HTTP_AXION_TOLD_PASSED))
    {
        ngx_log_error(NGX_LOG_WARN, ctx->request->connection->log, 0,
                      "axion: %uD+%uD tokens at remote \"%V\" are beyond "
                      "max_context %uD: the estimate of the prompt was "
                      "too low", answer->prompt_tokens,
                      answer->completion_tokens, &remote->label,
                      ctx->who.max_context);
    }
}


/* From here on the remote works for this request, and it is charged. */
static void
ngx_http_axion_call_accepted(ngx_http_axion_call_t *call)
{
    ngx_http_axion_ctx_t  *ctx;

    ctx = call->ctx;

    if (ctx->accepted) {
        return;
    }

    /* the prompt is counted by model when its number is known */

    ctx->usage.prompt_tokens = 0;
    ngx_http_axion_observe_accepted(ctx);

    ctx->usage.prompt_tokens = call->reserved.prompt_tokens;
    ctx->accepted = 1;
    ctx->state = NGX_HTTP_AXION_ACCEPTED;
}


/* Whatever there is to do for the client, outside of nginx's upstream code. */
void
ngx_http_axion_call_event(ngx_event_t *ev)
{
    ngx_connection_t       *c;
    ngx_http_axion_call_t  *call;

    call = ev->data;
    c = call->ctx->request->connection;

    ngx_http_set_log_request(c->log, call->ctx->request);

    ngx_http_axion_call_progress(call);
    ngx_http_run_posted_requests(c);
}


static void
ngx_http_axion_call_progress(ngx_http_axion_call_t *call)
{
    ngx_event_t           *rev;
    ngx_http_axion_ctx_t  *ctx;

    ctx = call->ctx;
    call->turn = 0;

    ngx_http_axion_write_timer(ctx);

    if (ctx->failure.error != AXION_OK) {
        ngx_http_axion_fail(ctx);
        return;
    }

    if (call->ended && !call->done && call->headed
        && call->fault == AXION_OK)
    {
        ngx_http_axion_call_closed(call);
    }

    /* of an error's body there is enough when it is `over` */

    if (call->fault != AXION_OK || (call->ended && !call->done)
        || (call->over && !call->headed))
    {
        ngx_http_axion_call_failed(call);
        return;
    }

    if (call->answered && ctx->scratch != NULL) {
        ngx_destroy_pool(ctx->scratch);
        ctx->scratch = NULL;
    }

    if (call->answered && ctx->parsed.stream) {

        if (!ctx->header_sent && ngx_http_axion_stream_header(ctx) != NGX_OK) {
            ngx_http_axion_finalize(ctx, NGX_ERROR);
            return;
        }

        call->sent = 1;

        if (!call->ended && ngx_http_axion_flush(ctx, 0) == NGX_ERROR) {
            ngx_http_axion_finalize(ctx, NGX_ERROR);
            return;
        }
    }

    if (call->ended) {
        ngx_http_axion_call_finish(call);
        return;
    }

    if (call->more) {
        call->more = 0;

        if (call->sr->upstream->peer.connection != NULL) {
            rev = call->sr->upstream->peer.connection->read;
            rev->ready = 1;
            ngx_post_event(rev, &ngx_posted_next_events);
        }
    }
}


/* The connection has no more to say: is there an answer all the same? */
static void
ngx_http_axion_call_closed(ngx_http_axion_call_t *call)
{
    static const char  last[] = "[DONE]";

    if (call->ctx->parsed.stream) {

        /* whole but for its last line */

        if (call->answer.ended) {
            call->fault = ngx_http_axion_call_sse(call, last,
                                                  sizeof(last) - 1);
        }

        return;
    }

    if (call->rc == NGX_OK) {
        ngx_http_axion_call_whole(call);
    }
}


static void
ngx_http_axion_call_finish(ngx_http_axion_call_t *call)
{
    ngx_int_t              rc;
    ngx_http_request_t    *r;
    ngx_http_axion_ctx_t  *ctx;

    ctx = call->ctx;
    r = ctx->request;

    if (ctx->parsed.stream) {
        rc = (ctx->filled != NULL) ? ngx_http_axion_flush(ctx, 1)
                                   : ngx_http_send_special(r, NGX_HTTP_LAST);
    } else {
        rc = ngx_http_axion_send(r, NGX_HTTP_OK, "application/json",
                                 &ctx->answer);
    }

    ngx_http_axion_finalize(ctx, rc);
}


/* Before the client has read anything somebody else may do better. */
static void
ngx_http_axion_call_failed(ngx_http_axion_call_t *call)
{
    int                    error;
    ngx_uint_t             sent;
    struct axion_failure   failure;
    ngx_http_axion_ctx_t  *ctx;

    ctx = call->ctx;
    sent = call->sent;
    error = ngx_http_axion_call_error(call);

    (void) ngx_atomic_fetch_add(&call->remote->stats->failures, 1);

    /* what a server says of itself is for the log, what it says of the
     * request is for the client */

    if (error == AXION_ERR_REMOTE_REJECTED
        || error == AXION_ERR_CONTEXT_LENGTH
        || error == AXION_ERR_MODEL_NOT_FOUND)
    {
        axion_failure_set(&failure, error, call->answer.param,
                          call->answer.message[0] ? "%s" : NULL,
                          call->answer.message);

    } else {
        axion_failure_set(&failure, error, NULL, NULL);

        ngx_http_axion_call_log(call);
    }

    failure.retry_after_ms = call->retry_after_ms;

    ngx_http_axion_call_stop(ctx);

    if (!sent) {
        ngx_http_axion_remote_failed(ctx, &failure);
        return;
    }

    ngx_http_axion_lease_end(ctx);
    ctx->failure = failure;
    ngx_http_axion_fail(ctx);
}


/* What a server says may be a client's words again, and has any character. */
static void
ngx_http_axion_call_log(ngx_http_axion_call_t *call)
{
    u_char  *p;

    for (p = (u_char *) call->answer.message; *p != '\0'; p++) {
        if (*p < 0x20 || *p == 0x7f) {
            *p = '?';
        }
    }

    if (call->answer.message[0] != '\0') {
        ngx_log_error(NGX_LOG_ERR, call->ctx->request->connection->log, 0,
                      "axion: remote \"%V\" says with status %ui: %s",
                      &call->remote->label, call->status.code,
                      call->answer.message);
    }
}


static int
ngx_http_axion_call_error(ngx_http_axion_call_t *call)
{
    ngx_uint_t  status;

    if (call->fault != AXION_OK) {
        return call->fault;
    }

    status = call->status.code;

    if (call->rc == NGX_HTTP_GATEWAY_TIME_OUT) {
        return AXION_ERR_GATEWAY_TIMEOUT;
    }

    if (call->headed) {
        return AXION_ERR_REMOTE_FAILED;   /* it broke off */
    }

    if (call->rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return (call->rc == NGX_HTTP_INTERNAL_SERVER_ERROR)
                   ? AXION_ERR_INTERNAL : AXION_ERR_REMOTE_UNAVAILABLE;
    }

    axion_remote_read_error(&call->answer, call->body.data, call->body.bytes);

    switch (status) {

    case NGX_HTTP_BAD_REQUEST:
    case NGX_HTTP_REQUEST_ENTITY_TOO_LARGE:
    case 422:
        return call->answer.too_long ? AXION_ERR_CONTEXT_LENGTH
                                     : AXION_ERR_REMOTE_REJECTED;

    case NGX_HTTP_UNAUTHORIZED:
    case NGX_HTTP_FORBIDDEN:
        return AXION_ERR_REMOTE_REFUSED;

    case NGX_HTTP_NOT_FOUND:
        return AXION_ERR_MODEL_NOT_FOUND;

    case NGX_HTTP_TOO_MANY_REQUESTS:
        return AXION_ERR_REMOTE_BUSY;

    case NGX_HTTP_SERVICE_UNAVAILABLE:
        return AXION_ERR_REMOTE_BUSY;

    case NGX_HTTP_GATEWAY_TIME_OUT:
        return AXION_ERR_GATEWAY_TIMEOUT;

    default:
        return AXION_ERR_REMOTE_FAILED;
    }
}
