/*
 * Answers that are sent whole: JSON bodies, metrics, refusals.  A refusal is
 * a struct axion_failure: status, body and Retry-After all come from it, and
 * it is counted and logged once.
 *
 * What these functions return goes to ngx_http_finalize_request(), which
 * also waits for a client that reads slowly.
 */


#include "ngx_module/ngx_http_axion_limits.h"


#define NGX_HTTP_AXION_FAILURE_MAX  (64 * 1024)


ngx_int_t
ngx_http_axion_add_header(ngx_http_request_t *r, const char *name,
    const char *value, size_t len)
{
    u_char           *p;
    ngx_table_elt_t  *h;

    p = ngx_pnalloc(r->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(p, value, len);

    h->hash = 1;
    h->key.len = ngx_strlen(name);
    h->key.data = (u_char *) name;
    h->value.len = len;
    h->value.data = p;
    ngx_http_axion_single_header(h);

    return NGX_OK;
}


/*
 * The same unless the location's add_header or expires has set it already:
 * for the header filter, which comes after nginx's own.
 */
ngx_int_t
ngx_http_axion_default_header(ngx_http_request_t *r, const char *name,
    const char *value, size_t len)
{
    size_t            n;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    n = ngx_strlen(name);
    part = &r->headers_out.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].hash != 0 && h[i].key.len == n
            && ngx_strncasecmp(h[i].key.data, (u_char *) name, n) == 0)
        {
            return NGX_OK;
        }
    }

    return ngx_http_axion_add_header(r, name, value, len);
}


ngx_int_t
ngx_http_axion_send(ngx_http_request_t *r, ngx_uint_t status,
    const char *type, const struct axion_out *out)
{
    ngx_buf_t             *b;
    ngx_int_t              rc;
    ngx_chain_t            chain;
    ngx_http_axion_ctx_t  *ctx;

    if (axion_out_status(out) != AXION_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx = ngx_http_axion_get_ctx(r);
    b = ngx_calloc_buf(r->pool);

    if (ctx == NULL || b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->own = 1;

    r->headers_out.status = status;
    r->headers_out.content_length_n = out->bytes;
    r->headers_out.content_type.len = ngx_strlen(type);
    r->headers_out.content_type.data = (u_char *) type;
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    b->start = (u_char *) out->data;
    b->pos = b->start;
    b->last = b->start + out->bytes;
    b->end = b->last;
    b->memory = (out->bytes != 0);
    b->last_buf = 1;
    b->last_in_chain = 1;

    chain.buf = b;
    chain.next = NULL;

    return ngx_http_output_filter(r, &chain);
}


/*
 * Counts ctx->failure and logs it; `where` goes behind its name.  What a
 * message quotes of a request stays out of the log, and what an engine wrote
 * brings no controls.
 */
void
ngx_http_axion_note_failure(ngx_http_axion_ctx_t *ctx, const char *where)
{
    u_char                 message[AXION_MESSAGE_BYTES];
    size_t                 n;
    ngx_uint_t             i;
    struct axion_failure  *failure;

    failure = &ctx->failure;
    n = axion_error_log_bytes(failure->error, failure->message);

    for (i = 0; i < AXION_MESSAGE_BYTES - 1 && i < n; i++) {
        message[i] = (u_char) failure->message[i];

        if (message[i] < 0x20 || message[i] == 0x7f) {
            message[i] = '?';
        }
    }

    message[i] = '\0';

    ngx_http_axion_count_error(ctx->main, failure->error);

    ngx_log_error(ngx_http_axion_log_level(failure->error),
                  ctx->request->connection->log, 0, "axion: %s%s%s%s",
                  axion_error_info(failure->error)->name, where,
                  i != 0 ? ": " : "", message);
}


/* Sends ctx->failure as the whole response. */
ngx_int_t
ngx_http_axion_send_failure(ngx_http_axion_ctx_t *ctx)
{
    struct axion_out       out;
    ngx_http_request_t    *r;
    struct axion_failure  *failure;

    r = ctx->request;
    failure = &ctx->failure;

    ngx_http_axion_note_failure(ctx, "");

    if (ngx_http_axion_retry_headers(ctx) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    axion_out_grow(&out, &ctx->memory, 512, NGX_HTTP_AXION_FAILURE_MAX);
    axion_failure_body(&out, failure);

    return ngx_http_axion_send(r, axion_failure_status(failure),
                               "application/json", &out);
}


/* For refusals that come before or instead of asking an engine. */
ngx_int_t
ngx_http_axion_refuse(ngx_http_axion_ctx_t *ctx, int error,
    const char *message)
{
    axion_failure_set(&ctx->failure, error, NULL, message ? "%s" : NULL,
                      message);

    return ngx_http_axion_send_failure(ctx);
}
