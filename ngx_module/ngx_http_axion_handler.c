/*
 * The content handler: which endpoint, the body, parsing, rights; then the
 * request goes to _dispatch.c and lives on events.
 *
 * Endpoints are found behind "/v1/" at the start of the URI, or behind the
 * location's prefix, with or without "v1/" there: `location /v1/`,
 * `location /` and `location /llm/` (/llm/v1/models, /llm/models) all work.
 * A location without a prefix (a regular expression, `=`, an `if`) has them
 * behind the first "/v1/".  "/v1/" anywhere else belongs to a model's id.
 *
 * Subrequests are refused: the ACCESS phase, and so the key, is the main
 * request's alone.
 */


#include "ngx_module/ngx_http_axion_limits.h"


static ngx_uint_t ngx_http_axion_strip(ngx_str_t *path, const u_char *prefix,
    size_t len);
static ngx_str_t ngx_http_axion_path(ngx_http_request_t *r);
static void ngx_http_axion_find_endpoint(ngx_http_axion_ctx_t *ctx);
static ngx_int_t ngx_http_axion_refuse_method(ngx_http_axion_ctx_t *ctx,
    const char *allow);
static ngx_uint_t ngx_http_axion_is_json(ngx_http_request_t *r);
static ngx_int_t ngx_http_axion_models_handler(ngx_http_axion_ctx_t *ctx);
static ngx_int_t ngx_http_axion_post_handler(ngx_http_axion_ctx_t *ctx);
static void ngx_http_axion_body_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_axion_parse(ngx_http_axion_ctx_t *ctx);
static ngx_int_t ngx_http_axion_keep(ngx_http_axion_ctx_t *ctx,
    struct axion_text *text);
static ngx_int_t ngx_http_axion_check_model(ngx_http_axion_ctx_t *ctx);
static ngx_int_t ngx_http_axion_open_response(ngx_http_axion_ctx_t *ctx);
static ngx_int_t ngx_http_axion_start(ngx_http_axion_ctx_t *ctx);
static void ngx_http_axion_cleanup(void *data);


/* What a request's payload may be before any engine has said its own. */
#define NGX_HTTP_AXION_PAYLOAD_MAX  (8 * 1024 * 1024)


ngx_int_t
ngx_http_axion_handler(ngx_http_request_t *r)
{
    ngx_http_axion_ctx_t  *ctx;

    if (r != r->main) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "axion: axion_pass is not for subrequests");
        return NGX_HTTP_FORBIDDEN;
    }

    ctx = ngx_http_axion_get_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->conf = ngx_http_get_module_loc_conf(r, ngx_http_axion_module);

    /* with "satisfy any" another rule's yes ends the ACCESS phase before the
     * variable that auth_request has set was looked at: the request is that
     * tenant's all the same */

    if (ctx->conf->tenant_from != NULL && !ctx->decided) {
        ctx->tenant_known = 0;
    }

    if (ngx_http_axion_identify(r) == NULL && ctx->broken) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_axion_find_endpoint(ctx);

    switch (ctx->endpoint) {

    case NGX_HTTP_AXION_CHAT:
    case NGX_HTTP_AXION_COMPLETION:
        if (r->method != NGX_HTTP_POST) {
            return ngx_http_axion_refuse_method(ctx, "POST");
        }

        return ngx_http_axion_post_handler(ctx);

    case NGX_HTTP_AXION_MODELS:
    case NGX_HTTP_AXION_MODEL:
        if (r->method != NGX_HTTP_GET && r->method != NGX_HTTP_HEAD) {
            return ngx_http_axion_refuse_method(ctx, "GET, HEAD");
        }

        return ngx_http_axion_models_handler(ctx);

    default:
        if (ngx_http_discard_request_body(r) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        return ngx_http_axion_refuse(ctx, AXION_ERR_NOT_FOUND, NULL);
    }
}


/* Takes `prefix` off the path, if it is there. */
static ngx_uint_t
ngx_http_axion_strip(ngx_str_t *path, const u_char *prefix, size_t len)
{
    if (path->len < len || ngx_strncmp(path->data, prefix, len) != 0) {
        return 0;
    }

    path->data += len;
    path->len -= len;

    return 1;
}


static ngx_str_t
ngx_http_axion_path(ngx_http_request_t *r)
{
    u_char                    *p, *last;
    ngx_str_t                  path;
    ngx_http_core_loc_conf_t  *clcf;

    static const u_char  v1[] = "/v1/";

    path = r->uri;

    if (ngx_http_axion_strip(&path, v1, 4)) {
        return path;
    }

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (clcf->exact_match || clcf->noname
#if (NGX_PCRE)
        || clcf->regex != NULL
#endif
       )
    {
        last = path.data + path.len;

        for (p = path.data; last - p >= 4; p++) {
            if (ngx_memcmp(p, v1, 4) == 0) {
                path.data = p + 4;
                path.len = last - path.data;
                return path;
            }
        }

    } else {
        (void) ngx_http_axion_strip(&path, clcf->name.data, clcf->name.len);
    }

    (void) ngx_http_axion_strip(&path, v1, 1);
    (void) ngx_http_axion_strip(&path, v1 + 1, 3);

    return path;
}


static void
ngx_http_axion_find_endpoint(ngx_http_axion_ctx_t *ctx)
{
    ngx_str_t   path;
    ngx_uint_t  i;

    static const struct {
        ngx_str_t                  path;
        ngx_http_axion_endpoint_e  endpoint;
    } endpoints[] = {
        { ngx_string("chat/completions"), NGX_HTTP_AXION_CHAT },
        { ngx_string("completions"), NGX_HTTP_AXION_COMPLETION },
        { ngx_string("models"), NGX_HTTP_AXION_MODELS },
    };

    path = ngx_http_axion_path(ctx->request);

    for (i = 0; i < sizeof(endpoints) / sizeof(endpoints[0]); i++) {

        if (path.len == endpoints[i].path.len
            && ngx_strncmp(path.data, endpoints[i].path.data, path.len) == 0)
        {
            ctx->endpoint = endpoints[i].endpoint;
            return;
        }
    }

    if (path.len > sizeof("models/") - 1
        && ngx_strncmp(path.data, "models/", sizeof("models/") - 1) == 0)
    {
        ctx->endpoint = NGX_HTTP_AXION_MODEL;
        ctx->id.data = path.data + sizeof("models/") - 1;
        ctx->id.len = path.len - (sizeof("models/") - 1);
        return;
    }

    ctx->endpoint = NGX_HTTP_AXION_OTHER;
}


static ngx_int_t
ngx_http_axion_refuse_method(ngx_http_axion_ctx_t *ctx, const char *allow)
{
    if (ngx_http_discard_request_body(ctx->request) != NGX_OK
        || ngx_http_axion_add_header(ctx->request, "Allow", allow,
                                     ngx_strlen(allow))
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_axion_refuse(ctx, AXION_ERR_METHOD_NOT_ALLOWED, NULL);
}


static ngx_int_t
ngx_http_axion_models_handler(ngx_http_axion_ctx_t *ctx)
{
    ngx_int_t  rc;

    rc = ngx_http_discard_request_body(ctx->request);
    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_http_axion_send_models(ctx);

    if (rc != NGX_AGAIN || ctx->own) {
        return rc;
    }

    /* no engine was seen yet: wait for one as any other request does */

    if (ngx_http_axion_start(ctx) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->request->main->count++;

    ngx_http_axion_dispatch(ctx);

    return NGX_DONE;
}


/* "application/json", parameters allowed, and not compressed. */
static ngx_uint_t
ngx_http_axion_is_json(ngx_http_request_t *r)
{
    ngx_str_t          *type;
    struct axion_text   encoding;

    static const ngx_str_t  json = ngx_string("application/json");

    encoding = ngx_http_axion_find_header(r, "content-encoding");

    if (encoding.data != NULL
        && !(encoding.bytes == 8
             && ngx_strncasecmp((u_char *) encoding.data,
                                (u_char *) "identity", 8) == 0))
    {
        return 0;
    }

    if (r->headers_in.content_type == NULL) {
        return 0;
    }

    type = &r->headers_in.content_type->value;

    if (type->len < json.len
        || ngx_strncasecmp(type->data, json.data, json.len) != 0)
    {
        return 0;
    }

    return type->len == json.len || type->data[json.len] == ';'
           || type->data[json.len] == ' ' || type->data[json.len] == '\t';
}


static ngx_int_t
ngx_http_axion_post_handler(ngx_http_axion_ctx_t *ctx)
{
    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = ctx->request;

    if (!ngx_http_axion_is_json(r)) {

        if (ngx_http_discard_request_body(r) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        return ngx_http_axion_refuse(ctx, AXION_ERR_UNSUPPORTED_MEDIA_TYPE,
                                     NULL);
    }

    r->request_body_in_single_buf = 1;

    rc = ngx_http_read_client_request_body(r, ngx_http_axion_body_handler);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    return NGX_DONE;
}


/* The body is here. */
static void
ngx_http_axion_body_handler(ngx_http_request_t *r)
{
    ngx_int_t              rc;
    ngx_http_axion_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_axion_module);

    if (ngx_http_axion_start(ctx) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    rc = ngx_http_axion_parse(ctx);

    if (rc == NGX_OK) {
        rc = ngx_http_axion_check_model(ctx);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_axion_open_response(ctx);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_axion_limits_admit(ctx);
    }

    if (rc == NGX_AGAIN) {
        return;
    }

    if (rc == NGX_OK) {
        ngx_http_axion_dispatch(ctx);
        return;
    }

    if (ctx->failure.error == AXION_OK) {
        axion_failure_set(&ctx->failure, AXION_ERR_NO_MEMORY, NULL, NULL);
    }

    ngx_http_axion_fail(ctx);
}


/* From here on the request can wait: a cleanup, a timer, the client's end. */
static ngx_int_t
ngx_http_axion_start(ngx_http_axion_ctx_t *ctx)
{
    ngx_http_cleanup_t  *cln;
    ngx_http_request_t  *r;

    r = ctx->request;

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_axion_cleanup;
    cln->data = ctx;

    ctx->arrived = ngx_current_msec;
    ctx->started_us = ngx_http_axion_now_us();

    ctx->timer.handler = ngx_http_axion_timer;
    ctx->timer.data = ctx;
    ctx->timer.log = r->connection->log;

    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_axion_write_handler;

    /* a client that left already: its end came with the request's bytes, and
     * makes no further event */

    if (r->connection->read->ready) {
        ngx_post_event(r->connection->read, &ngx_posted_events);
    }

    return ngx_handle_read_event(r->connection->read, 0);
}


static ngx_int_t
ngx_http_axion_parse(ngx_http_axion_ctx_t *ctx)
{
    int                          rc;
    u_char                       salt[AXION_CACHE_SALT_BYTES];
    ngx_str_t                    body;
    struct axion_memory          memory;
    struct axion_parse_options   options;

    ctx->scratch = ngx_create_pool(NGX_HTTP_AXION_CHUNK_BYTES,
                                   ctx->request->connection->log);
    if (ctx->scratch == NULL) {
        return NGX_ERROR;
    }

    switch (ngx_http_axion_body(ctx->request, ctx->scratch, &body)) {

    case NGX_OK:
        break;

    case NGX_DECLINED:
        axion_failure_set(&ctx->failure, AXION_ERR_BODY_TOO_LARGE, NULL, NULL);
        return NGX_DECLINED;

    default: /* NGX_ERROR */
        axion_failure_set(&ctx->failure, AXION_ERR_SYSTEM, NULL, NULL);
        return NGX_DECLINED;
    }

    ngx_memzero(&options, sizeof(struct axion_parse_options));

    options.payload_bytes_max = NGX_HTTP_AXION_PAYLOAD_MAX;
    options.remote = (ctx->conf->upstream->remotes.nelts != 0);
    options.priority = AXION_PRIORITY_NORMAL;

    if (ctx->who.tenant != NULL) {
        ngx_http_axion_realm(ctx, salt);

        options.tenant = ctx->who.tenant->number;
        options.cache_salt = salt;
        options.priority = ctx->who.priority;
        options.weight = ctx->who.tenant->weight;
        options.max_context = ctx->who.max_context;
        options.max_output = ctx->who.max_output;
        options.aliases = ctx->who.tenant;
    }

    memory = ngx_http_axion_memory(ctx->scratch);

    rc = axion_request_parse(&ctx->parsed,
                             (ctx->endpoint == NGX_HTTP_AXION_CHAT)
                                 ? AXION_REQUEST_CHAT
                                 : AXION_REQUEST_COMPLETION,
                             body.data, body.len, &options, &memory,
                             &ctx->failure);

    if (rc != AXION_OK) {
        ctx->parsed.stream = 0;
        ngx_memzero(&ctx->parsed.model, sizeof(struct axion_text));
        ngx_memzero(&ctx->parsed.served, sizeof(struct axion_text));
        return NGX_DECLINED;
    }

    if (ctx->parsed.remote_only) {
        ctx->refusal = ngx_palloc(ctx->request->pool,
                                  sizeof(struct axion_failure));
        if (ctx->refusal == NULL) {
            return NGX_ERROR;
        }

        *ctx->refusal = ctx->failure;
        ngx_memzero(&ctx->failure, sizeof(struct axion_failure));
    }

    /* the scratch pool goes when the engine has accepted, the names stay */

    return (ngx_http_axion_keep(ctx, &ctx->parsed.model) == NGX_OK
            && ngx_http_axion_keep(ctx, &ctx->parsed.served) == NGX_OK)
               ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_axion_keep(ngx_http_axion_ctx_t *ctx, struct axion_text *text)
{
    text->data = axion_memory_copy(&ctx->memory, text->data, text->bytes);

    return (text->data != NULL) ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_axion_check_model(ngx_http_axion_ctx_t *ctx)
{
    if (ctx->who.tenant == NULL
        || axion_identity_may_use(&ctx->who, ctx->parsed.served.data,
                                  ctx->parsed.served.bytes))
    {
        return NGX_OK;
    }

    axion_failure_set(&ctx->failure, AXION_ERR_MODEL_FORBIDDEN, "model", NULL);

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_axion_open_response(ngx_http_axion_ctx_t *ctx)
{
    struct axion_response_options  options;

    ngx_memzero(&options, sizeof(struct axion_response_options));

    options.kind = ctx->parsed.kind;
    options.stream = ctx->parsed.stream;
    options.include_usage = ctx->parsed.include_usage;
    options.created = (uint64_t) ngx_time();
    options.model = ctx->parsed.model;
    ngx_http_axion_random(options.random, sizeof(options.random));

    return (axion_response_open(&ctx->response, &options, &ctx->memory)
            == AXION_OK)
               ? NGX_OK : NGX_ERROR;
}


/* The request ends, whoever ended it: nothing may point to it any more. */
static void
ngx_http_axion_cleanup(void *data)
{
    ngx_http_axion_detach(data);
}
