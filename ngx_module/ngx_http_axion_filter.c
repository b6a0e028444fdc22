/*
 * A pair of filters that give a location under axion_pass one voice.
 *
 * Refusals that nginx itself makes there (413 before the body is read, 401
 * and 403 of the access phase, 429 or 503 of limit_req, a plain `return
 * 404;`) carry nginx's HTML page; OpenAI's clients want JSON with four keys.
 * The header filter sees such an answer by r->err_status, which only nginx's
 * special-response handler sets, and announces a JSON body of known length;
 * the body filter swaps it in.  Status and headers stay as they are.  An
 * error_page that leads to another location is not touched: there is no
 * axion_pass there.
 *
 * Every answer carries X-Request-Id: the client's own if it looks like one,
 * else nginx's $request_id.  Like the headers of a stream it is a default: the
 * module's place in nginx's order (`config`) is such that the header filter
 * runs right after nginx's own and sees what add_header and expires have set.
 */


#include "ngx_module/ngx_http_axion_limits.h"


static ngx_int_t ngx_http_axion_header_filter(ngx_http_request_t *r);
static ngx_int_t ngx_http_axion_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static ngx_int_t ngx_http_axion_stream_defaults(ngx_http_request_t *r);
static ngx_int_t ngx_http_axion_replace(ngx_http_request_t *r);
static int ngx_http_axion_status_error(ngx_uint_t status,
    const char **message);
static ngx_int_t ngx_http_axion_request_id(ngx_http_request_t *r);
static ngx_http_variable_value_t *ngx_http_axion_own_id(
    ngx_http_request_t *r);
static ngx_uint_t ngx_http_axion_request_id_valid(struct axion_text *id);


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;


#define NGX_HTTP_AXION_REQUEST_ID_MAX  128


ngx_int_t
ngx_http_axion_init_filters(ngx_conf_t *cf)
{
    ngx_str_t                    name = ngx_string("request_id");
    ngx_http_axion_main_conf_t  *amcf;

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_axion_module);

    amcf->request_id = ngx_http_get_variable_index(cf, &name);
    if (amcf->request_id == NGX_ERROR) {
        return NGX_ERROR;
    }

    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_axion_header_filter;

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_http_axion_body_filter;

    return NGX_OK;
}


static ngx_int_t
ngx_http_axion_header_filter(ngx_http_request_t *r)
{
    ngx_http_axion_ctx_t       *ctx;
    ngx_http_axion_loc_conf_t  *alcf;

    alcf = ngx_http_get_module_loc_conf(r, ngx_http_axion_module);

    if (alcf->upstream == NULL || r != r->main) {
        return ngx_http_next_header_filter(r);
    }

    if (ngx_http_axion_request_id(r) != NGX_OK) {
        return NGX_ERROR;
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_axion_module);

    if (ctx != NULL && ngx_http_axion_limits_headers(r, ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ctx != NULL && ctx->header_sent
        && ngx_http_axion_stream_defaults(r) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (r->err_status >= NGX_HTTP_BAD_REQUEST
        && r->headers_out.status == r->err_status
        && (ctx == NULL || !ctx->own))
    {
        if (ngx_http_axion_replace(r) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return ngx_http_next_header_filter(r);
}


/* Nothing between the worker and the client may keep or hold back events. */
static ngx_int_t
ngx_http_axion_stream_defaults(ngx_http_request_t *r)
{
    ngx_int_t  rc;

    rc = ngx_http_axion_default_header(r, "Cache-Control", "no-cache",
                                       sizeof("no-cache") - 1);

    if (rc == NGX_OK) {
        rc = ngx_http_axion_default_header(r, "X-Accel-Buffering", "no",
                                           sizeof("no") - 1);
    }

    return rc;
}


static ngx_int_t
ngx_http_axion_replace(ngx_http_request_t *r)
{
    int                    error;
    const char            *message;
    struct axion_failure   failure;
    ngx_http_axion_ctx_t  *ctx;

    ctx = ngx_http_axion_get_ctx(r);
    if (ctx == NULL) {
        return NGX_ERROR;
    }

    error = ngx_http_axion_status_error(r->err_status, &message);

    if (error == AXION_ERR_UNAUTHENTICATED) {
        message = ctx->stranger;

    } else if (error == AXION_ERR_FORBIDDEN && ctx->who.tenant != NULL
               && ctx->who.tenant->disabled)
    {
        message = "the tenant is disabled";
    }

    axion_failure_set(&failure, error, NULL, message ? "%s" : NULL, message);
    axion_out_grow(&ctx->answer, &ctx->memory, 512, 4096);
    axion_failure_body(&ctx->answer, &failure);

    if (axion_out_status(&ctx->answer) != AXION_OK) {
        return NGX_ERROR;
    }

    ngx_http_axion_count_error(ctx->main, error);

    ngx_str_set(&r->headers_out.content_type, "application/json");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;
    r->headers_out.charset.len = 0;

    ngx_http_clear_content_length(r);
    ngx_http_clear_accept_ranges(r);
    ngx_http_clear_last_modified(r);
    ngx_http_clear_etag(r);

    r->headers_out.content_length_n = ctx->answer.bytes;

    ctx->replace = 1;

    return NGX_OK;
}


/* The nearest error of the table; the status itself stays nginx's. */
static int
ngx_http_axion_status_error(ngx_uint_t status, const char **message)
{
    *message = NULL;

    switch (status) {

    case NGX_HTTP_UNAUTHORIZED:
        return AXION_ERR_UNAUTHENTICATED;

    case NGX_HTTP_FORBIDDEN:
        return AXION_ERR_FORBIDDEN;

    case NGX_HTTP_NOT_FOUND:
        return AXION_ERR_NOT_FOUND;

    case NGX_HTTP_NOT_ALLOWED:
        return AXION_ERR_METHOD_NOT_ALLOWED;

    case NGX_HTTP_REQUEST_TIME_OUT:
        return AXION_ERR_REQUEST_TIMEOUT;

    case NGX_HTTP_REQUEST_ENTITY_TOO_LARGE:
        return AXION_ERR_BODY_TOO_LARGE;

    case NGX_HTTP_UNSUPPORTED_MEDIA_TYPE:
        return AXION_ERR_UNSUPPORTED_MEDIA_TYPE;

    case NGX_HTTP_TOO_MANY_REQUESTS:
        return AXION_ERR_RATE_LIMITED;

    case NGX_HTTP_SERVICE_UNAVAILABLE:
        *message = "too many requests or connections for this server";
        return AXION_ERR_QUEUE_FULL;

    default:
        return status < NGX_HTTP_INTERNAL_SERVER_ERROR ? AXION_ERR_BAD_HTTP
                                                       : AXION_ERR_INTERNAL;
    }
}


static ngx_int_t
ngx_http_axion_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_buf_t             *b;
    ngx_chain_t           *cl, out;
    ngx_http_axion_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_axion_module);

    if (ctx == NULL || !ctx->replace || in == NULL) {
        return ngx_http_next_body_filter(r, in);
    }

    for (cl = in; cl; cl = cl->next) {
        cl->buf->pos = cl->buf->last;
        cl->buf->file_pos = cl->buf->file_last;
    }

    if (ctx->replaced) {
        return NGX_OK;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    ctx->replaced = 1;

    b->start = (u_char *) ctx->answer.data;
    b->pos = b->start;
    b->last = b->start + ctx->answer.bytes;
    b->end = b->last;
    b->memory = 1;
    b->last_buf = 1;
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_next_body_filter(r, &out);
}


static ngx_int_t
ngx_http_axion_request_id(ngx_http_request_t *r)
{
    struct axion_text           id;
    ngx_http_variable_value_t  *vv;

    id = ngx_http_axion_find_header(r, "x-request-id");

    if (!ngx_http_axion_request_id_valid(&id)) {

        vv = ngx_http_axion_own_id(r);
        if (vv == NULL) {
            return NGX_ERROR;
        }

        id.data = (char *) vv->data;
        id.bytes = vv->len;
    }

    return ngx_http_axion_default_header(r, "X-Request-Id", id.data, id.bytes);
}


/*
 * $request_id.  Where nobody has asked for it yet it is set here, as nginx
 * would (16 random bytes in hex), but from bytes that are drawn for many
 * requests at once: OpenSSL's, one by one, took a twentieth of a request.
 */
static ngx_http_variable_value_t *
ngx_http_axion_own_id(ngx_http_request_t *r)
{
    u_char                      bytes[16];
    ngx_http_variable_value_t  *vv;
    ngx_http_axion_main_conf_t *amcf;

    amcf = ngx_http_get_module_main_conf(r, ngx_http_axion_module);
    vv = &r->variables[amcf->request_id];

    if (vv->valid) {
        return vv;
    }

    vv->data = ngx_pnalloc(r->pool, 2 * sizeof(bytes));
    if (vv->data == NULL) {
        return NULL;
    }

    ngx_http_axion_random(bytes, sizeof(bytes));
    (void) ngx_hex_dump(vv->data, bytes, sizeof(bytes));

    vv->len = 2 * sizeof(bytes);
    vv->valid = 1;
    vv->no_cacheable = 0;
    vv->not_found = 0;

    return vv;
}


static ngx_uint_t
ngx_http_axion_request_id_valid(struct axion_text *id)
{
    char      ch;
    uint32_t  i;

    if (id->data == NULL || id->bytes == 0
        || id->bytes > NGX_HTTP_AXION_REQUEST_ID_MAX)
    {
        return 0;
    }

    for (i = 0; i < id->bytes; i++) {
        ch = id->data[i];

        if ((ch < '0' || ch > '9') && (ch < 'a' || ch > 'z')
            && (ch < 'A' || ch > 'Z') && ch != '-' && ch != '_' && ch != '.'
            && ch != ':')
        {
            return 0;
        }
    }

    return 1;
}
