/*
 * One request to one remote, as a background subrequest with nginx's upstream
 * machinery below it.
 *
 *   call()    makes the subrequest; nginx runs it as a posted request
 *   run       hands it to ngx_http_upstream_init()
 *   create    renders the head and the body that the remote gets
 *   status,   read the response's head; statuses that another server of the
 *   header    upstream {} may better are nginx's to retry
 *   (_call_body.c reads the body)
 *   post      the subrequest is over, one way or the other
 *   stop()    the client's request needs it no more: the connection is closed,
 *             or kept if the response was read to its end
 *
 * Contracts of nginx 1.22 that this leans on.  A background subrequest never
 * becomes the connection's active request, and its end is one decrement of the
 * main request's count.  With subrequest_in_memory what nginx's upstream code
 * sends (flushes, the end) is swallowed by the postpone filter.  Calling the
 * upstream's cleanup handler ends the subrequest with NGX_DONE, without the
 * post handler.  A cached connection that fails before its response begins is
 * tried again on another one, for a POST only with FT_NON_IDEMPOTENT.
 */


#include "ngx_module/ngx_http_axion_remote.h"


static void ngx_http_axion_call_run(ngx_http_request_t *sr);
static void ngx_http_axion_call_reset(ngx_http_axion_call_t *call);
static ngx_int_t ngx_http_axion_call_create(ngx_http_request_t *sr);
static ngx_int_t ngx_http_axion_call_body(ngx_http_axion_call_t *call,
    struct axion_out *out);
static ngx_int_t ngx_http_axion_call_head(ngx_http_axion_call_t *call,
    size_t body_bytes, ngx_str_t *head);
static ngx_int_t ngx_http_axion_call_reinit(ngx_http_request_t *sr);
static ngx_int_t ngx_http_axion_call_status(ngx_http_request_t *sr);
static ngx_int_t ngx_http_axion_call_header(ngx_http_request_t *sr);
static void ngx_http_axion_call_line(ngx_http_axion_call_t *call,
    ngx_str_t *name, ngx_str_t *value);
static ngx_int_t ngx_http_axion_call_headed(ngx_http_axion_call_t *call);
static void ngx_http_axion_call_abort(ngx_http_request_t *sr);
static void ngx_http_axion_call_finalize(ngx_http_request_t *sr,
    ngx_int_t rc);
static ngx_int_t ngx_http_axion_call_post(ngx_http_request_t *sr, void *data,
    ngx_int_t rc);
static void ngx_http_axion_call_held(ngx_http_request_t *sr,
    ngx_http_upstream_t *u);


/* NGX_ERROR: nothing was begun. */
ngx_int_t
ngx_http_axion_call(ngx_http_axion_ctx_t *ctx,
    ngx_http_axion_remote_t *remote,
    const ngx_http_axion_reserved_t *reserved)
{
    ngx_str_t               uri;
    ngx_http_request_t     *r, *sr;
    ngx_http_axion_call_t  *call;

    r = ctx->request;

    call = ngx_pcalloc(r->pool, sizeof(ngx_http_axion_call_t));
    if (call == NULL) {
        return NGX_ERROR;
    }

    call->ctx = ctx;
    call->remote = remote;
    call->memory = ngx_http_axion_memory(r->pool);
    call->reserved = *reserved;
    call->started_us = ngx_http_axion_now_us();

    call->conf = remote->conf;
    call->conf.connect_timeout = ctx->conf->connect_timeout;

    call->post.handler = ngx_http_axion_call_post;
    call->post.data = call;

    call->event.handler = ngx_http_axion_call_event;
    call->event.data = call;
    call->event.log = r->connection->log;

    uri = r->uri;

    if (ngx_http_subrequest(r, &uri, NULL, &sr, &call->post,
                            NGX_HTTP_SUBREQUEST_IN_MEMORY
                            |NGX_HTTP_SUBREQUEST_BACKGROUND)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    /* no phases: what a location would do was done for the client's request */

    sr->write_event_handler = ngx_http_axion_call_run;
    sr->loc_conf = r->loc_conf;
    sr->method = NGX_HTTP_POST;
    sr->request_body = NULL;
    sr->upstream_states = r->upstream_states;

    call->sr = sr;
    ctx->call = call;
    remote->in_flight++;

    (void) ngx_atomic_fetch_add(&remote->stats->requests, 1);

    return NGX_OK;
}


static void
ngx_http_axion_call_run(ngx_http_request_t *sr)
{
    ngx_http_upstream_t    *u;
    ngx_http_axion_call_t  *call;

    call = sr->post_subrequest->data;
    sr->write_event_handler = ngx_http_request_empty_handler;

    if (call->ctx == NULL) {
        ngx_http_finalize_request(sr, NGX_DONE);
        return;
    }

    if (ngx_http_upstream_create(sr) != NGX_OK) {
        ngx_http_finalize_request(sr, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    u = sr->upstream;

    u->conf = &call->conf;
    u->output.tag = (ngx_buf_tag_t) &ngx_http_axion_module;
    u->uri = call->remote->prefix;

#if (NGX_HTTP_SSL)
    u->ssl = call->remote->tls;
#endif

    if (call->remote->tls) {
        ngx_str_set(&u->schema, "https://");

    } else {
        ngx_str_set(&u->schema, "http://");
    }

    u->create_request = ngx_http_axion_call_create;
    u->reinit_request = ngx_http_axion_call_reinit;
    u->process_header = ngx_http_axion_call_status;
    u->abort_request = ngx_http_axion_call_abort;
    u->finalize_request = ngx_http_axion_call_finalize;

    u->input_filter_init = ngx_http_axion_call_filter_init;
    u->input_filter = ngx_http_axion_call_filter;
    u->input_filter_ctx = call;

    ngx_http_axion_call_reset(call);

    ngx_http_upstream_init(sr);
}


/* Before the first response, and before each that stands in for one. */
static void
ngx_http_axion_call_reset(ngx_http_axion_call_t *call)
{
    ngx_memzero(&call->status, sizeof(ngx_http_status_t));
    ngx_memzero(&call->chunked, sizeof(ngx_http_chunked_t));

    call->type = NGX_HTTP_AXION_TYPE_OTHER;
    call->length = -1;
    call->is_chunked = 0;
    call->close = 0;
    call->bad_head = 0;
    call->retry_after_ms = 0;
}


static ngx_int_t
ngx_http_axion_call_create(ngx_http_request_t *sr)
{
    ngx_buf_t              *b;
    ngx_str_t               head;
    ngx_chain_t            *cl, *body;
    struct axion_out        out;
    ngx_http_axion_call_t  *call;

    call = sr->post_subrequest->data;

    if (ngx_http_axion_call_body(call, &out) != NGX_OK
        || ngx_http_axion_call_head(call, out.bytes, &head) != NGX_OK)
    {
        return NGX_ERROR;
    }

    cl = ngx_alloc_chain_link(sr->pool);
    body = ngx_alloc_chain_link(sr->pool);

    if (cl == NULL || body == NULL) {
        return NGX_ERROR;
    }

    /* ngx_http_upstream_reinit() rewinds `pos` to `start` */

    b = ngx_calloc_buf(sr->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->start = head.data;
    b->pos = b->start;
    b->last = b->start + head.len;
    b->end = b->last;
    b->memory = 1;

    cl->buf = b;
    cl->next = body;

    b = ngx_calloc_buf(sr->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->start = (u_char *) out.data;
    b->pos = b->start;
    b->last = b->start + out.bytes;
    b->end = b->last;
    b->memory = 1;
    b->flush = 1;    /* TLS would keep it back */

    body->buf = b;
    body->next = NULL;

    sr->upstream->request_bufs = cl;

    return NGX_OK;
}


static ngx_int_t
ngx_http_axion_call_body(ngx_http_axion_call_t *call, struct axion_out *out)
{
    int                        echoed;
    ngx_str_t                  body;
    ngx_http_axion_ctx_t      *ctx;
    struct axion_remote_wish   wish;

    ctx = call->ctx;

    if (ngx_http_axion_body(ctx->request, ctx->request->pool, &body)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    wish.model = (call->remote->model.len != 0)
                     ? ngx_http_axion_text(&call->remote->model)
                     : ctx->parsed.served;
    wish.max_tokens = call->reserved.max_tokens;
    wish.stream = ctx->parsed.stream;

    axion_out_grow(out, &call->memory, body.len + 512,
                   body.len + AXION_MODEL_BYTES_MAX * AXION_JSON_ESCAPE_MAX
                   + 4096);
    axion_remote_request(out, body.data, body.len, &wish);

    axion_remote_bound(&call->answer, body.len, call->reserved.max_tokens,
                       call->remote->context, &ctx->parsed);

    call->answer.prompt_min = axion_floor_prompt(body.data, body.len,
                                                 &ctx->parsed, &echoed);
    call->answer.echoed = echoed;
    call->answer.believed = call->remote->believed;

    return (axion_out_status(out) == AXION_OK) ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_axion_call_head(ngx_http_axion_call_t *call, size_t body_bytes,
    ngx_str_t *head)
{
    u_char                   *p;
    size_t                    i, len;
    ngx_str_t                 key, path;
    ngx_http_request_t       *r;
    ngx_http_axion_remote_t  *remote;

    static const ngx_str_t  chat = ngx_string("/chat/completions");
    static const ngx_str_t  text = ngx_string("/completions");

    r = call->ctx->request;
    remote = call->remote;
    path = (call->ctx->endpoint == NGX_HTTP_AXION_CHAT) ? chat : text;

    ngx_str_null(&key);

    if (remote->key != NULL
        && ngx_http_complex_value(r, remote->key, &key) != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (i = 0; i < key.len; i++) {
        if (key.data[i] <= 0x20 || key.data[i] >= 0x7f) {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "axion: the key of remote \"%V\" has characters "
                          "that no key has", &remote->label);
            return NGX_ERROR;
        }
    }

    len = sizeof("POST  HTTP/1.1" CRLF "Host: " CRLF
                 "Content-Type: application/json" CRLF
                 "Content-Length: " CRLF "Accept: text/event-stream" CRLF
                 "Accept-Encoding: identity" CRLF
                 "Authorization: Bearer " CRLF CRLF) - 1
          + remote->prefix.len + path.len + remote->host.len + key.len
          + NGX_SIZE_T_LEN;

    head->data = ngx_pnalloc(r->pool, len);
    if (head->data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(head->data,
                    "POST %V%V HTTP/1.1" CRLF "Host: %V" CRLF
                    "Content-Type: application/json" CRLF
                    "Content-Length: %uz" CRLF "Accept: %s" CRLF
                    "Accept-Encoding: identity" CRLF,
                    &remote->prefix, &path, &remote->host, body_bytes,
                    call->ctx->parsed.stream ? "text/event-stream"
                                             : "application/json");

    if (key.len != 0) {
        p = ngx_sprintf(p, "Authorization: Bearer %V" CRLF, &key);
    }

    *p++ = CR;
    *p++ = LF;

    head->len = p - head->data;

    return NGX_OK;
}


static ngx_int_t
ngx_http_axion_call_reinit(ngx_http_request_t *sr)
{
    ngx_http_axion_call_reset(sr->post_subrequest->data);

    sr->upstream->process_header = ngx_http_axion_call_status;
    sr->state = 0;

    return NGX_OK;
}


static ngx_int_t
ngx_http_axion_call_status(ngx_http_request_t *sr)
{
    ngx_int_t               rc;
    ngx_http_upstream_t    *u;
    ngx_http_axion_call_t  *call;

    u = sr->upstream;
    call = sr->post_subrequest->data;

    rc = ngx_http_parse_status_line(sr, &u->buffer, &call->status);

    if (rc == NGX_AGAIN) {
        return NGX_AGAIN;
    }

    if (rc == NGX_ERROR || call->status.code < 200) {
        ngx_log_error(NGX_LOG_ERR, sr->connection->log, 0,
                      "axion: remote \"%V\" sent no valid HTTP/1 status",
                      &call->remote->label);
        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }

    if (u->state != NULL && u->state->status == 0) {
        u->state->status = call->status.code;
    }

    u->headers_in.status_n = call->status.code;

    if (call->status.http_version < NGX_HTTP_VERSION_11) {
        call->close = 1;
    }

    u->process_header = ngx_http_axion_call_header;

    return ngx_http_axion_call_header(sr);
}


/* The lines are read here and go nowhere else: no cookie, no X-Accel-* and no
 * date of a remote reaches the client or nginx. */
static ngx_int_t
ngx_http_axion_call_header(ngx_http_request_t *sr)
{
    ngx_int_t               rc;
    ngx_str_t               name, value;
    ngx_http_axion_call_t  *call;

    call = sr->post_subrequest->data;

    for ( ;; ) {

        rc = ngx_http_parse_header_line(sr, &sr->upstream->buffer, 1);

        if (rc == NGX_OK) {
            name.data = sr->header_name_start;
            name.len = sr->header_name_end - sr->header_name_start;
            value.data = sr->header_start;
            value.len = sr->header_end - sr->header_start;

            ngx_http_axion_call_line(call, &name, &value);
            continue;
        }

        if (rc == NGX_HTTP_PARSE_HEADER_DONE) {
            return ngx_http_axion_call_headed(call);
        }

        if (rc == NGX_AGAIN) {
            return NGX_AGAIN;
        }

        ngx_log_error(NGX_LOG_ERR, sr->connection->log, 0,
                      "axion: remote \"%V\" sent an invalid header",
                      &call->remote->label);

        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }
}


static ngx_uint_t
ngx_http_axion_call_begins(ngx_str_t *value, const char *text)
{
    size_t  n;

    n = ngx_strlen(text);

    return value->len >= n
           && ngx_strncasecmp(value->data, (u_char *) text, n) == 0
           && (value->len == n || value->data[n] == ';'
               || value->data[n] == ' ' || value->data[n] == '\t');
}


static void
ngx_http_axion_call_line(ngx_http_axion_call_t *call, ngx_str_t *name,
    ngx_str_t *value)
{
    off_t       length;
    ngx_int_t   n;
    ngx_uint_t  i;

    static const ngx_str_t  names[] = {
        ngx_string("Content-Type"), ngx_string("Content-Length"),
        ngx_string("Transfer-Encoding"), ngx_string("Connection"),
        ngx_string("Content-Encoding"), ngx_string("Retry-After"),
        ngx_string("retry-after-ms")
    };

    for (i = 0; i < sizeof(names) / sizeof(ngx_str_t); i++) {
        if (name->len == names[i].len
            && ngx_strncasecmp(name->data, names[i].data, name->len) == 0)
        {
            break;
        }
    }

    switch (i) {

    case 0:
        if (ngx_http_axion_call_begins(value, "text/event-stream")) {
            call->type = NGX_HTTP_AXION_TYPE_EVENTS;

        } else if (ngx_http_axion_call_begins(value, "application/json")) {
            call->type = NGX_HTTP_AXION_TYPE_JSON;
        }

        return;

    case 1:
        length = ngx_atoof(value->data, value->len);

        if (length == NGX_ERROR
            || (call->length != -1 && call->length != length))
        {
            call->bad_head = 1;
            return;
        }

        call->length = length;
        return;

    case 2:
        if (call->is_chunked || value->len != 7
            || ngx_strncasecmp(value->data, (u_char *) "chunked", 7) != 0)
        {
            call->bad_head = 1;
            return;
        }

        call->is_chunked = 1;
        return;

    case 3:
        if (ngx_strlcasestrn(value->data, value->data + value->len,
                             (u_char *) "close", 5 - 1)
            != NULL)
        {
            call->close = 1;
        }

        return;

    case 4:
        if (value->len != 8
            || ngx_strncasecmp(value->data, (u_char *) "identity", 8) != 0)
        {
            call->bad_head = 1;
        }

        return;

    case 5:
    case 6:
        n = ngx_atoi(value->data, value->len);

        if (n != NGX_ERROR && n <= 24 * 3600 * 1000
            && (i == 6 || (n <= 24 * 3600 && call->retry_after_ms == 0)))
        {
            call->retry_after_ms = (uint32_t) (i == 6 ? n : n * 1000);
        }

        return;

    default:
        return;
    }
}


static ngx_int_t
ngx_http_axion_call_headed(ngx_http_axion_call_t *call)
{
    ngx_http_upstream_t  *u;

    u = call->sr->upstream;

    /* both together are how requests are smuggled */

    if (call->bad_head || (call->is_chunked && call->length != -1)) {
        ngx_log_error(NGX_LOG_ERR, call->sr->connection->log, 0,
                      "axion: remote \"%V\" sent a body in an encoding that "
                      "was not asked for, or of no one length",
                      &call->remote->label);
        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }

    /* for what nginx would send on: nothing (see the file's head) */

    u->headers_in.content_length_n = 0;

    return NGX_OK;
}


static void
ngx_http_axion_call_abort(ngx_http_request_t *sr)
{
    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, sr->connection->log, 0,
                   "axion: abort call of a remote");
}


static void
ngx_http_axion_call_finalize(ngx_http_request_t *sr, ngx_int_t rc)
{
    ngx_http_axion_call_t  *call;

    /* behind a header nginx tells the post handler of success, always */

    call = sr->post_subrequest->data;
    call->rc = rc;
}


static ngx_int_t
ngx_http_axion_call_post(ngx_http_request_t *sr, void *data, ngx_int_t rc)
{
    ngx_http_axion_call_t  *call = data;

    call->ended = 1;

    if (rc != NGX_OK) {
        call->rc = rc;
    }

    if (call->ctx != NULL) {
        ngx_post_event(&call->event, &ngx_posted_events);
    }

    /* whatever it was, the client's request decides what comes of it */

    return NGX_OK;
}


/* The request needs its call no more. */
void
ngx_http_axion_call_stop(ngx_http_axion_ctx_t *ctx)
{
    ngx_http_upstream_t    *u;
    ngx_http_axion_call_t  *call;

    call = ctx->call;

    if (call == NULL) {
        return;
    }

    ctx->call = NULL;
    call->ctx = NULL;
    call->remote->in_flight--;

    ctx->request->upstream_states = call->sr->upstream_states;

    if (call->event.posted) {
        ngx_delete_posted_event(&call->event);
    }

    u = call->sr->upstream;

    if (!call->ended && u != NULL && u->cleanup != NULL) {
        (*u->cleanup)(call->sr);
    }
}


/* The client is behind: nothing more is read until it is not. */
void
ngx_http_axion_call_hold(ngx_http_axion_ctx_t *ctx, ngx_uint_t hold)
{
    ngx_connection_t       *c;
    ngx_http_upstream_t    *u;
    ngx_http_axion_call_t  *call;

    call = ctx->call;
    u = call->sr->upstream;

    if (call->held == hold || call->ended || call->over || u == NULL
        || u->peer.connection == NULL)
    {
        return;
    }

    call->held = hold;
    c = u->peer.connection;

    if (hold) {
        call->reader = u->read_event_handler;
        u->read_event_handler = ngx_http_axion_call_held;

        if (c->read->timer_set) {
            ngx_del_timer(c->read);
        }

        return;
    }

    u->read_event_handler = call->reader;
    c->read->ready = 1;
    ngx_post_event(c->read, &ngx_posted_events);
}


static void
ngx_http_axion_call_held(ngx_http_request_t *sr, ngx_http_upstream_t *u)
{
    ngx_connection_t  *c;

    c = u->peer.connection;
    c->read->timedout = 0;

    /* with a level-triggered event method the event would come for ever */

    if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        c->read->error = 1;
    }
}
