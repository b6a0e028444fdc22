/*
 * Identity that somebody else established.
 *
 *   axion_tenant_from $variable    nginx itself: a client's certificate, a
 *                                  map, what auth_request found
 *   axion_trust_headers CIDR ...   a peer, an Envoy or another nginx, that
 *                                  has authenticated the client: it may name
 *                                  the tenant, and set what the tenant may
 *
 * Headers count only where the connection comes from an address that is
 * named; from anybody else they are as if they were not there.  That is the
 * address as allow and deny see it, so realip has its say before.  A value
 * that names nobody, or that is wrong, lets nobody in: it does not fall back
 * to a key that came along.  Nor does one that is there twice: a peer that
 * adds its header behind the client's own leaves both.
 */


#include "ngx_module/ngx_http_axion_module.h"


static ngx_uint_t ngx_http_axion_trusted(ngx_http_request_t *r,
    ngx_array_t *trusted);
static void ngx_http_axion_by_name(ngx_http_axion_ctx_t *ctx,
    const char *name, size_t bytes, const char *via);
static ngx_int_t ngx_http_axion_trusted_number(ngx_http_request_t *r,
    const char *name, uint32_t *value);


/* ---- configuration ---- */


/* What a client writes itself is no identity. */
static ngx_uint_t
ngx_http_axion_clients_own(ngx_str_t *value)
{
    ngx_uint_t  i;

    static const ngx_str_t  prefixes[] = {
        ngx_string("$http_"), ngx_string("$arg_"), ngx_string("$cookie_"),
        ngx_string("${http_"), ngx_string("${arg_"), ngx_string("${cookie_")
    };

    for (i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {

        if (value->len >= prefixes[i].len
            && ngx_strncasecmp(value->data, prefixes[i].data, prefixes[i].len)
               == 0)
        {
            return 1;
        }
    }

    return 0;
}


char *
ngx_http_axion_tenant_from(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_axion_loc_conf_t  *alcf = conf;

    ngx_str_t                         *value;
    ngx_http_compile_complex_value_t   ccv;

    if (alcf->tenant_from != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        alcf->tenant_from = NULL;
        return NGX_CONF_OK;
    }

    if (value[1].data[0] != '$') {
        return "needs a variable, or \"off\"";
    }

    if (ngx_http_axion_clients_own(&value[1])) {
        return "from what any client may write: headers of peers that are "
               "trusted have axion_trust_headers";
    }

    alcf->tenant_from = ngx_pcalloc(cf->pool,
                                    sizeof(ngx_http_complex_value_t));
    if (alcf->tenant_from == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &value[1];
    ccv.complex_value = alcf->tenant_from;

    return (ngx_http_compile_complex_value(&ccv) == NGX_OK)
               ? NGX_CONF_OK : NGX_CONF_ERROR;
}


char *
ngx_http_axion_trust_headers(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_axion_loc_conf_t  *alcf = conf;

    ngx_int_t    rc;
    ngx_str_t   *value;
    ngx_uint_t   i;
    ngx_cidr_t  *cidr;

    if (alcf->trusted != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "off") == 0) {
        alcf->trusted = NULL;
        return NGX_CONF_OK;
    }

    alcf->trusted = ngx_array_create(cf->pool, cf->args->nelts - 1,
                                     sizeof(ngx_cidr_t));
    if (alcf->trusted == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 1; i < cf->args->nelts; i++) {

        cidr = ngx_array_push(alcf->trusted);
        if (cidr == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_memzero(cidr, sizeof(ngx_cidr_t));

#if (NGX_HAVE_UNIX_DOMAIN)

        if (ngx_strcmp(value[i].data, "unix:") == 0) {
            cidr->family = AF_UNIX;
            continue;
        }

#endif

        rc = ngx_ptocidr(&value[i], cidr);

        if (rc == NGX_ERROR) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid address \"%V\", it must be an address, "
                               "a CIDR range or \"unix:\"", &value[i]);
            return NGX_CONF_ERROR;
        }

        if (rc == NGX_DONE) {
            ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                               "low address bits of %V are meaningless",
                               &value[i]);
        }
    }

    return NGX_CONF_OK;
}


/* ---- requests ---- */


static ngx_uint_t
ngx_http_axion_trusted(ngx_http_request_t *r, ngx_array_t *trusted)
{
    return trusted != NULL
           && ngx_cidr_match(r->connection->sockaddr, trusted) == NGX_OK;
}


static void
ngx_http_axion_by_name(ngx_http_axion_ctx_t *ctx, const char *name,
    size_t bytes, const char *via)
{
    const struct axion_tenant  *tenant;

    tenant = ngx_http_axion_find_tenant(ctx, name, bytes);

    if (tenant == NULL) {
        ctx->stranger = "the tenant is not known here";
        return;
    }

    ctx->via = via;
    ctx->who = axion_identity_of(tenant, NULL);
}


/* NGX_DECLINED: nobody has named a tenant. */
ngx_int_t
ngx_http_axion_by_others(ngx_http_axion_ctx_t *ctx)
{
    ngx_str_t                   value;
    ngx_uint_t                  n;
    struct axion_text           name;
    ngx_http_request_t         *r;
    ngx_http_axion_loc_conf_t  *alcf;

    r = ctx->request;
    alcf = ctx->conf;

    if (ngx_http_axion_trusted(r, alcf->trusted)) {

        name = ngx_http_axion_count_header(r, "x-axion-tenant", &n);

        if (n > 1) {
            ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                          "axion: a trusted peer sent X-Axion-Tenant twice: "
                          "it must replace what clients send");

            ctx->stranger = "a header of the trusted peer is not valid";
            return NGX_OK;
        }

        if (n == 1) {
            ngx_http_axion_by_name(ctx, name.data, name.bytes, "peer");
            return NGX_OK;
        }
    }

    if (alcf->tenant_from == NULL) {
        return NGX_DECLINED;
    }

    if (ngx_http_complex_value(r, alcf->tenant_from, &value) != NGX_OK) {
        ctx->broken = 1;
        return NGX_OK;
    }

    if (value.len == 0) {
        return NGX_DECLINED;
    }

    ngx_http_axion_by_name(ctx, (char *) value.data, value.len, "variable");

    return NGX_OK;
}


/* NGX_OK: *value is set if the header is there; NGX_ERROR: it is no number of
 * tokens. */
static ngx_int_t
ngx_http_axion_trusted_number(ngx_http_request_t *r, const char *name,
    uint32_t *value)
{
    ngx_int_t          number;
    ngx_uint_t         n;
    struct axion_text  text;

    text = ngx_http_axion_count_header(r, name, &n);

    if (n == 0) {
        return NGX_OK;
    }

    number = ngx_atoi((u_char *) text.data, text.bytes);

    if (n > 1 || number <= 0 || number > NGX_MAX_INT32_VALUE) {
        return NGX_ERROR;
    }

    *value = number;

    return NGX_OK;
}


/* What a trusted peer says of a request, whoever was let in with it. */
void
ngx_http_axion_heed_peer(ngx_http_axion_ctx_t *ctx)
{
    ngx_uint_t               n;
    struct axion_text        priority;
    ngx_http_request_t      *r;
    struct axion_identity   *who;

    r = ctx->request;
    who = &ctx->who;

    if (who->tenant == NULL || !ngx_http_axion_trusted(r, ctx->conf->trusted))
    {
        return;
    }

    priority = ngx_http_axion_count_header(r, "x-axion-priority", &n);

    if ((n == 0
         || (n == 1
             && axion_priority_parse(&who->priority, priority.data,
                                     priority.bytes)
                == AXION_OK))
        && ngx_http_axion_trusted_number(r, "x-axion-max-context",
                                         &who->max_context)
           == NGX_OK
        && ngx_http_axion_trusted_number(r, "x-axion-max-output",
                                         &who->max_output)
           == NGX_OK)
    {
        return;
    }

    ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                  "axion: a trusted peer sent a priority or a bound that is "
                  "not valid");

    ngx_memzero(who, sizeof(struct axion_identity));
    ctx->stranger = "a header of the trusted peer is not valid";
}
