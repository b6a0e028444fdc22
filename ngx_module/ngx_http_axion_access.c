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


static ngx_int_t ngx_http_axion_hold(ngx_http_axion_ctx_t *ctx);
static void ngx_http_axion_by_key(ngx_http_axion_ctx_t *ctx);
static ngx_int_t ngx_http_axion_busy(ngx_http_request_t *r);
static ngx_int_t ngx_http_axion_check(ngx_http_request_t *r);
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
    ngx_uint_t  n;

    return ngx_http_axion_count_header(r, lowcase, &n);
}


/* The first one, and how many there are. */
struct axion_text
ngx_http_axion_count_header(ngx_http_request_t *r, const char *lowcase,
    ngx_uint_t *n)
{
    size_t              len;
    ngx_uint_t          i;
    ngx_list_part_t    *part;
    ngx_table_elt_t    *h;
    struct axion_text   text;

    text.data = NULL;
    text.bytes = 0;
    *n = 0;

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
            && ngx_strncmp(h[i].lowcase_key, lowcase, len) == 0
            && (*n)++ == 0)
        {
            text = ngx_http_axion_text(&h[i].value);
        }
    }
}


struct axion_identity *
ngx_http_axion_identify(ngx_http_request_t *r)
{
    ngx_http_axion_ctx_t       *ctx;
    ngx_http_axion_loc_conf_t  *alcf;

    alcf = ngx_http_get_module_loc_conf(r, ngx_http_axion_module);

    if (alcf->level == NULL) {
        return NULL;
    }

    ctx = ngx_http_axion_get_ctx(r);
    if (ctx == NULL) {
        return NULL;
    }

    if (!ctx->tenant_known || ctx->conf != alcf) {

        ctx->conf = alcf;
        ctx->tenant_known = 1;
        ctx->stranger = NULL;
        ctx->via = NULL;
        ctx->token = 0;
        ctx->broken = 0;
        ctx->unverified = 0;
        ngx_memzero(&ctx->who, sizeof(struct axion_identity));

        if (ngx_http_axion_hold(ctx) != NGX_OK) {
            ctx->broken = 1;
            return NULL;
        }

        if (ngx_http_axion_by_others(ctx) == NGX_DECLINED) {
            ngx_http_axion_by_key(ctx);
        }

        ngx_http_axion_heed_peer(ctx);
    }

    return (ctx->who.tenant != NULL) ? &ctx->who : NULL;
}


/* The tenants file's generation of now, for as long as the request lives. */
static ngx_int_t
ngx_http_axion_hold(ngx_http_axion_ctx_t *ctx)
{
    ngx_http_axion_tenants_file_t  *file;

    file = ctx->conf->level->file;
    ctx->held = NULL;

    if (file != NULL) {
        ctx->held = ngx_http_axion_hold_tenants(ctx->request, file);
        return (ctx->held != NULL) ? NGX_OK : NGX_ERROR;
    }

    return NGX_OK;
}


/* Tenants of the level, wherever they are written down. */
const struct axion_tenant *
ngx_http_axion_find_tenant(ngx_http_axion_ctx_t *ctx, const char *name,
    size_t bytes)
{
    const struct axion_tenant  *tenant;

    tenant = axion_tenants_find_name(&ctx->conf->level->blocks, name, bytes);

    if (tenant == NULL && ctx->held != NULL) {
        tenant = axion_tenants_find_name(&ctx->held->set, name, bytes);
    }

    return tenant;
}


static void
ngx_http_axion_by_key(ngx_http_axion_ctx_t *ctx)
{
    struct axion_text      authorization, x_api_key, key;
    struct axion_match     match;
    struct axion_key_hash  hash;

    authorization = ngx_http_axion_find_header(ctx->request, "authorization");
    x_api_key = ngx_http_axion_find_header(ctx->request, "x-api-key");

    if (axion_key_from_headers(&authorization, &x_api_key, &key) != AXION_OK) {
        return;
    }

    axion_key_hash(&hash, key.data, key.bytes);

    match = axion_tenants_find_key(&ctx->conf->level->blocks, &hash);

    if (match.tenant == NULL && ctx->held != NULL) {
        match = axion_tenants_find_key(&ctx->held->set, &hash);
    }

    if (match.tenant != NULL) {
        ngx_http_axion_let_in(ctx, match.tenant, match.key);

    } else if (ngx_http_axion_by_token(ctx, &key) == NGX_DECLINED) {
        ngx_http_axion_by_chosen_key(ctx, &key);
    }
}


/* The key is the tenant's; that it is still good is seen here. */
void
ngx_http_axion_let_in(ngx_http_axion_ctx_t *ctx,
    const struct axion_tenant *tenant, const struct axion_key *key)
{
    ctx->stranger = axion_key_fault(key, ngx_time());

    if (ctx->stranger == NULL) {
        ctx->via = (key->argon2id.data != NULL) ? "argon2id" : "key";
        ctx->who = axion_identity_of(tenant, key);
    }
}


/* Before limit_req and limit_conn, which may count by $axion_tenant. */
ngx_int_t
ngx_http_axion_preaccess_handler(ngx_http_request_t *r)
{
    ngx_int_t                   rc;
    ngx_http_axion_ctx_t       *ctx;
    ngx_http_axion_loc_conf_t  *alcf;

    alcf = ngx_http_get_module_loc_conf(r, ngx_http_axion_module);

    if (alcf->upstream == NULL || alcf->level == NULL || r != r->main) {
        return NGX_DECLINED;
    }

    ctx = ngx_http_axion_get_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_axion_wait_for_key(ctx);

    return (rc == NGX_HTTP_SERVICE_UNAVAILABLE) ? ngx_http_axion_busy(r) : rc;
}


/* Who asks could not be found out now. */
static ngx_int_t
ngx_http_axion_busy(ngx_http_request_t *r)
{
    if (ngx_http_axion_add_header(r, "Retry-After", "1", 1) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_HTTP_SERVICE_UNAVAILABLE;
}


/*
 * The first of the ACCESS phase's handlers, so that no auth_request is asked
 * for a request without a key; or the last one, where a variable may name the
 * tenant that auth_request has set.
 */
ngx_int_t
ngx_http_axion_access_handler(ngx_http_request_t *r)
{
    ngx_http_axion_loc_conf_t  *alcf;

    alcf = ngx_http_get_module_loc_conf(r, ngx_http_axion_module);

    if (alcf->upstream == NULL || alcf->level == NULL
        || alcf->tenant_from != NULL)
    {
        return NGX_DECLINED;
    }

    return ngx_http_axion_check(r);
}


ngx_int_t
ngx_http_axion_late_access_handler(ngx_http_request_t *r)
{
    ngx_http_axion_ctx_t       *ctx;
    ngx_http_axion_loc_conf_t  *alcf;

    alcf = ngx_http_get_module_loc_conf(r, ngx_http_axion_module);

    if (alcf->upstream == NULL || alcf->level == NULL
        || alcf->tenant_from == NULL)
    {
        return NGX_DECLINED;
    }

    ctx = ngx_http_axion_get_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->tenant_known = 0;
    ctx->decided = 1;

    return ngx_http_axion_check(r);
}


static ngx_int_t
ngx_http_axion_check(ngx_http_request_t *r)
{
    ngx_http_axion_ctx_t   *ctx;
    struct axion_identity  *who;

    who = ngx_http_axion_identify(r);
    ctx = ngx_http_get_module_ctx(r, ngx_http_axion_module);

    if (ctx == NULL || ctx->broken) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (who == NULL) {

        /* others took its place in the cache while auth_request was asked */

        return ctx->unverified ? ngx_http_axion_busy(r)
                               : ngx_http_axion_challenge(r);
    }

    return who->tenant->disabled ? NGX_HTTP_FORBIDDEN : NGX_OK;
}


static ngx_int_t
ngx_http_axion_challenge(ngx_http_request_t *r)
{
    ngx_table_elt_t       *h;
    ngx_http_axion_ctx_t  *ctx;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    h->hash = 1;
    ngx_str_set(&h->key, "WWW-Authenticate");
    ngx_str_set(&h->value, "Bearer");

    ctx = ngx_http_get_module_ctx(r, ngx_http_axion_module);

    if (ctx != NULL && ctx->token) {
        ngx_str_set(&h->value, "Bearer error=\"invalid_token\"");
    }

    ngx_http_axion_single_header(h);

    r->headers_out.www_authenticate = h;

    return NGX_HTTP_UNAUTHORIZED;
}
