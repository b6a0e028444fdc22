/*
 * Who asks.  Identity comes from the headers alone: $axion_tenant finds it
 * when a limit_req key, a map or a log asks first; the ACCESS phase enforces
 * it before a byte of the body is read, so that satisfy, allow and deny work
 * with it.  The answer is kept for the request's life.
 *
 * A location without tenants is as open as nginx leaves it.  With
 * `satisfy any` a request that another rule admitted may have no tenant.
 */


#include "ngx_module/ngx_http_axion_module.h"


static ngx_int_t ngx_http_axion_challenge(ngx_http_request_t *r);


ngx_http_axion_ctx_t *
ngx_http_axion_get_ctx(ngx_http_request_t *r)
{
    ngx_http_axion_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_axion_module);
    if (ctx != NULL) {
        return ctx;
    }

    ctx = ngx_pcalloc(r->pool, sizeof(ngx_http_axion_ctx_t));
    if (ctx == NULL) {
        return NULL;
    }

    ctx->request = r;
    ctx->main = ngx_http_get_module_main_conf(r, ngx_http_axion_module);
    ctx->conf = ngx_http_get_module_loc_conf(r, ngx_http_axion_module);
    ctx->endpoint = NGX_HTTP_AXION_OTHER;
    ctx->memory = ngx_http_axion_memory(r->pool);
    ctx->last = &ctx->filled;

    ngx_http_set_ctx(r, ctx, ngx_http_axion_module);

    return ctx;
}


struct axion_text
ngx_http_axion_find_header(ngx_http_request_t *r, const char *lowcase)
{
    size_t              len;
    ngx_uint_t          i;
    ngx_list_part_t    *part;
    ngx_table_elt_t    *h;
    struct axion_text   text;

    text.data = NULL;
    text.bytes = 0;

    len = ngx_strlen(lowcase);

    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                return text;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].key.len == len
            && ngx_strncmp(h[i].lowcase_key, lowcase, len) == 0)
        {
            return ngx_http_axion_text(&h[i].value);
        }
    }
}


const struct axion_tenant *
ngx_http_axion_identify(ngx_http_request_t *r)
{
    ngx_array_t                 *tenants;
    struct axion_text            authorization, x_api_key, key;
    ngx_http_axion_ctx_t        *ctx;
    struct axion_key_hash        hash;
    ngx_http_axion_loc_conf_t   *alcf;

    alcf = ngx_http_get_module_loc_conf(r, ngx_http_axion_module);
    tenants = alcf->tenants;

    if (tenants == NULL) {
        return NULL;
    }

    ctx = ngx_http_axion_get_ctx(r);
    if (ctx == NULL) {
        return NULL;
    }

    if (ctx->tenant_known && ctx->conf == alcf) {
        return ctx->tenant;
    }

    ctx->conf = alcf;
    ctx->tenant_known = 1;
    ctx->tenant = NULL;

    authorization = ngx_http_axion_find_header(r, "authorization");
    x_api_key = ngx_http_axion_find_header(r, "x-api-key");

    if (axion_key_from_headers(&authorization, &x_api_key, &key) != AXION_OK) {
        return NULL;
    }

    axion_key_hash(&hash, key.data, key.bytes);

    ctx->tenant = axion_tenant_find(tenants->elts, tenants->nelts, &hash);

    return ctx->tenant;
}


ngx_int_t
ngx_http_axion_access_handler(ngx_http_request_t *r)
{
    ngx_http_axion_loc_conf_t  *alcf;

    alcf = ngx_http_get_module_loc_conf(r, ngx_http_axion_module);

    if (alcf->upstream == NULL || alcf->tenants == NULL) {
        return NGX_DECLINED;
    }

    if (ngx_http_axion_identify(r) != NULL) {
        return NGX_OK;
    }

    return ngx_http_axion_challenge(r);
}


static ngx_int_t
ngx_http_axion_challenge(ngx_http_request_t *r)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    h->hash = 1;
    ngx_str_set(&h->key, "WWW-Authenticate");
    ngx_str_set(&h->value, "Bearer");
    ngx_http_axion_single_header(h);

    r->headers_out.www_authenticate = h;

    return NGX_HTTP_UNAUTHORIZED;
}
