/*
 * The request's body in one piece.  A short one already lies in one buffer;
 * one that came in pieces or that nginx wrote to a temporary file is copied
 * together into a pool of the caller's, which gives it back after parsing.
 */


#include "ngx_module/ngx_http_axion_module.h"


/* NGX_OK, NGX_DECLINED: longer than anything we parse, NGX_ERROR. */
ngx_int_t
ngx_http_axion_body(ngx_http_request_t *r, ngx_pool_t *pool, ngx_str_t *body)
{
    off_t         size;
    u_char       *p;
    ssize_t       n;
    ngx_buf_t    *b;
    ngx_chain_t  *in, *cl;

    ngx_str_null(body);

    if (r->request_body == NULL || r->request_body->bufs == NULL) {
        return NGX_OK;
    }

    in = r->request_body->bufs;
    size = 0;

    for (cl = in; cl; cl = cl->next) {
        size += ngx_buf_size(cl->buf);
    }

    if (size > NGX_HTTP_AXION_BODY_MAX) {
        return NGX_DECLINED;
    }

    if (in->next == NULL && !in->buf->in_file) {
        body->data = in->buf->pos;
        body->len = (size_t) size;
        return NGX_OK;
    }

    p = ngx_palloc(pool, (size_t) size + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    body->data = p;

    for (cl = in; cl; cl = cl->next) {
        b = cl->buf;

        if (!b->in_file) {
            p = ngx_cpymem(p, b->pos, b->last - b->pos);
            continue;
        }

        n = ngx_read_file(b->file, p, (size_t) (b->file_last - b->file_pos),
                          b->file_pos);

        if (n != b->file_last - b->file_pos) {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "axion: temporary file of the body was cut short");
            return NGX_ERROR;
        }

        p += n;
    }

    body->len = p - body->data;

    return NGX_OK;
}
