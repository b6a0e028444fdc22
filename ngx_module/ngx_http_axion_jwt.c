/*
 * axion_jwt: tokens of an issuer as keys.  What may verify and what a claim
 * means is api/jwt.c's; here are the directive, the JWK set's file (watched
 * by each worker, so that an issuer's new keys count without a reload), and a
 * cache, so that the requests of one token cost one verification.
 *
 * A question of the cache names the directive and the generation of its keys:
 * a key that has left the set lets nobody in any more, whatever the cache has.
 * An answer ends with its token, after five minutes at most.
 *
 * A signature is checked on the event loop.  On one core of a Zen 4 it takes
 * 11 us (HS256), 53 us (RSA of 2048 bits, EdDSA), 131 us (ES256), 0.8 ms
 * (ES512) and 1.2 ms (ES384, for which OpenSSL has no code of its own); at
 * most four are tried for a token, one where it names its key.
 */


#include "ngx_module/ngx_http_axion_module.h"


static char *ngx_http_axion_jwt_parameter(ngx_conf_t *cf, ngx_str_t *arg,
    ngx_http_axion_jwt_t *jwt);
static char *ngx_http_axion_jwt_algorithms(ngx_conf_t *cf, ngx_str_t *list,
    ngx_http_axion_jwt_t *jwt);
static ngx_int_t ngx_http_axion_read_jwks(ngx_http_axion_jwt_t *jwt,
    ngx_log_t *log);
static void ngx_http_axion_close_jwks(void *data);
static void ngx_http_axion_jwks_timer(ngx_event_t *ev);
static const struct axion_jwt_claims *ngx_http_axion_claims(
    ngx_http_axion_ctx_t *ctx, ngx_http_axion_jwt_t *jwt,
    const struct axion_text *token);
static void ngx_http_axion_take_claims(ngx_http_axion_ctx_t *ctx,
    const struct axion_jwt_claims *claims);


#define NGX_HTTP_AXION_JWT_INTERVAL  (10 * 1000)
#define NGX_HTTP_AXION_JWT_LEEWAY    60
#define NGX_HTTP_AXION_JWT_LEEWAY_MAX  3600
#define NGX_HTTP_AXION_JWT_CACHED    512
#define NGX_HTTP_AXION_JWT_TTL       (5 * 60 * 1000)
#define NGX_HTTP_AXION_JWT_MAX       8


/* ---- configuration ---- */


char *
ngx_http_axion_jwt(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_axion_loc_conf_t  *alcf = conf;

    char                         *rv;
    ngx_str_t                    *value;
    ngx_uint_t                    i;
    ngx_http_axion_jwt_t         *jwt, **j;
    ngx_http_axion_main_conf_t   *amcf;

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "off") == 0) {

        if (alcf->jwts != NGX_CONF_UNSET_PTR) {
            return "is duplicate";
        }

        alcf->jwts = NULL;
        return NGX_CONF_OK;
    }

    if (alcf->jwts == NULL) {
        return "is \"off\" here";
    }

    jwt = ngx_pcalloc(cf->pool, sizeof(ngx_http_axion_jwt_t));
    if (jwt == NULL
        || ngx_array_init(&jwt->issuers, cf->pool, 1,
                          sizeof(struct axion_text))
           != NGX_OK
        || ngx_array_init(&jwt->audiences, cf->pool, 1,
                          sizeof(struct axion_text))
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    jwt->watch.interval = NGX_HTTP_AXION_JWT_INTERVAL;
    jwt->rules.leeway_s = NGX_HTTP_AXION_JWT_LEEWAY;

    for (i = 1; i < cf->args->nelts; i++) {
        rv = ngx_http_axion_jwt_parameter(cf, &value[i], jwt);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    if (jwt->watch.name.len == 0) {
        return "needs jwks=PATH";
    }

    if (jwt->rules.tenant.data == NULL) {
        return "needs tenant=CLAIM";
    }

    if (jwt->rules.algorithms == 0) {
        jwt->rules.algorithms = AXION_JWT_ALGORITHMS_ALL;
    }

    jwt->rules.issuers = jwt->issuers.elts;
    jwt->rules.n_issuers = jwt->issuers.nelts;
    jwt->rules.audiences = jwt->audiences.elts;
    jwt->rules.n_audiences = jwt->audiences.nelts;

    if (jwt->rules.n_issuers == 0 || jwt->rules.n_audiences == 0) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "axion_jwt without %s: tokens that the same keys "
                           "sign for others are let in",
                           jwt->rules.n_audiences ? "issuer=" : "audience=");
    }

    if (ngx_conf_full_name(cf->cycle, &jwt->watch.name, 1) != NGX_OK
        || ngx_http_axion_read_jwks(jwt, cf->log) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (alcf->jwts == NGX_CONF_UNSET_PTR) {
        alcf->jwts = ngx_array_create(cf->pool, 1,
                                      sizeof(ngx_http_axion_jwt_t *));
        if (alcf->jwts == NULL) {
            alcf->jwts = NGX_CONF_UNSET_PTR;
            return NGX_CONF_ERROR;
        }
    }

    if (alcf->jwts->nelts == NGX_HTTP_AXION_JWT_MAX) {
        return "is there more than 8 times in one level";
    }

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_axion_module);

    j = ngx_array_push(alcf->jwts);
    if (j == NULL) {
        return NGX_CONF_ERROR;
    }

    *j = jwt;

    j = ngx_array_push(&amcf->jwts);
    if (j == NULL) {
        return NGX_CONF_ERROR;
    }

    *j = jwt;

    return NGX_CONF_OK;
}


static ngx_uint_t
ngx_http_axion_named(ngx_str_t *arg, const char *name, ngx_str_t *value)
{
    size_t  n;

    n = ngx_strlen(name);

    if (arg->len <= n || ngx_strncmp(arg->data, name, n) != 0) {
        return 0;
    }

    value->data = arg->data + n;
    value->len = arg->len - n;

    return 1;
}


static char *
ngx_http_axion_jwt_parameter(ngx_conf_t *cf, ngx_str_t *arg,
    ngx_http_axion_jwt_t *jwt)
{
    time_t              leeway;
    ngx_str_t           value;
    struct axion_text  *text;

    text = NULL;

    if (ngx_http_axion_named(arg, "jwks=", &value)) {
        jwt->watch.name = value;
        return NGX_CONF_OK;
    }

    if (ngx_http_axion_named(arg, "interval=", &value)) {
        return ngx_http_axion_watch_interval(cf, arg, &jwt->watch.interval);
    }

    if (ngx_http_axion_named(arg, "algorithms=", &value)) {
        return ngx_http_axion_jwt_algorithms(cf, &value, jwt);
    }

    if (ngx_http_axion_named(arg, "leeway=", &value)) {

        leeway = ngx_parse_time(&value, 1);

        if (leeway == (time_t) NGX_ERROR
            || leeway > NGX_HTTP_AXION_JWT_LEEWAY_MAX)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid \"%V\", it must be between 0 and 1h",
                               arg);
            return NGX_CONF_ERROR;
        }

        jwt->rules.leeway_s = leeway;
        return NGX_CONF_OK;
    }

    if (ngx_http_axion_named(arg, "issuer=", &value)) {
        text = ngx_array_push(&jwt->issuers);

    } else if (ngx_http_axion_named(arg, "audience=", &value)) {
        text = ngx_array_push(&jwt->audiences);

    } else if (ngx_http_axion_named(arg, "tenant=", &value)) {
        text = &jwt->rules.tenant;

    } else if (ngx_http_axion_named(arg, "models=", &value)) {
        text = &jwt->rules.models;

    } else if (ngx_http_axion_named(arg, "priority=", &value)) {
        text = &jwt->rules.priority;

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "unknown parameter \"%V\"",
                           arg);
        return NGX_CONF_ERROR;
    }

    if (text == NULL) {
        return NGX_CONF_ERROR;
    }

    *text = ngx_http_axion_text(&value);

    return NGX_CONF_OK;
}


/* "RS256,ES256" */
static char *
ngx_http_axion_jwt_algorithms(ngx_conf_t *cf, ngx_str_t *list,
    ngx_http_axion_jwt_t *jwt)
{
    u_char    *p, *last, *comma;
    uint32_t   bit;

    last = list->data + list->len;

    for (p = list->data; p <= last; p = comma + 1) {

        comma = ngx_strlchr(p, last, ',');
        if (comma == NULL) {
            comma = last;
        }

        bit = axion_jwt_algorithm((char *) p, comma - p);

        if (bit == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "unknown algorithm \"%*s\", there are HS256, "
                               "RS256, PS256, ES256 and the like, and EdDSA",
                               (size_t) (comma - p), p);
            return NGX_CONF_ERROR;
        }

        jwt->rules.algorithms |= bit;
    }

    return NGX_CONF_OK;
}


/* ---- keys ---- */


static ngx_int_t
ngx_http_axion_read_jwks(ngx_http_axion_jwt_t *jwt, ngx_log_t *log)
{
    int                      error;
    char                    *text, why[AXION_TENANT_WHY_BYTES];
    size_t                   bytes, skipped;
    ngx_err_t                err;
    ngx_uint_t               kept;
    ngx_pool_cleanup_t      *cln;
    ngx_http_axion_look_t    look;
    struct axion_jwt_keys   *keys;

    kept = (jwt->keys != NULL);
    look = jwt->watch.seen;

    if (!kept) {

        /* the set of now, whichever it is, goes with the configuration */

        cln = ngx_pool_cleanup_add(jwt->issuers.pool, 0);
        if (cln == NULL) {
            return NGX_ERROR;
        }

        cln->handler = ngx_http_axion_close_jwks;
        cln->data = jwt;
    }

    text = ngx_http_axion_read_watched(&jwt->watch, AXION_JWT_SET_BYTES_MAX,
                                       &look, &bytes, &err);

    if (text == NULL) {
        (void) ngx_http_axion_refuse_watched(&jwt->watch, &look, err, NULL, 0,
                                             kept, log);
        return NGX_ERROR;
    }

    error = axion_jwt_keys_open(&keys, text, bytes, &skipped, why,
                                sizeof(why));

    ngx_explicit_memzero(text, bytes);
    ngx_free(text);

    if (error != AXION_OK) {
        err = (error == AXION_ERR_NO_MEMORY) ? NGX_ENOMEM : 0;

        (void) ngx_http_axion_refuse_watched(&jwt->watch, &look, err, why, 0,
                                             kept, log);
        return NGX_ERROR;
    }

    if (kept || skipped != 0) {
        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "axion: \"%V\" has %uz keys that verify, %uz are left "
                      "out", &jwt->watch.name, axion_jwt_keys_count(keys),
                      skipped);
    }

    axion_jwt_keys_close(jwt->keys);

    jwt->keys = keys;
    jwt->generation++;
    jwt->watch.read = look;
    jwt->watch.err = 0;

    return NGX_OK;
}


static void
ngx_http_axion_close_jwks(void *data)
{
    ngx_http_axion_jwt_t *jwt = data;

    axion_jwt_keys_close(jwt->keys);
}


/* In a worker. */
ngx_int_t
ngx_http_axion_open_jwts(ngx_http_axion_main_conf_t *amcf, ngx_pool_t *pool,
    ngx_log_t *log)
{
    ngx_uint_t              i;
    struct axion_memory     memory;
    ngx_http_axion_jwt_t  **jwt;

    jwt = amcf->jwts.elts;

    for (i = 0; i < amcf->jwts.nelts; i++) {

        if (ngx_http_axion_start_watch(&jwt[i]->watch,
                                       ngx_http_axion_jwks_timer, jwt[i], log))
        {
            (void) ngx_http_axion_read_jwks(jwt[i], log);
        }
    }

    if (amcf->jwts.nelts == 0) {
        return NGX_OK;
    }

    memory = ngx_http_axion_memory(pool);

    return (axion_cache_open(&amcf->tokens, &memory,
                             NGX_HTTP_AXION_JWT_CACHED,
                             sizeof(struct axion_jwt_claims))
            == AXION_OK)
               ? NGX_OK : NGX_ERROR;
}


static void
ngx_http_axion_jwks_timer(ngx_event_t *ev)
{
    ngx_http_axion_jwt_t *jwt = ev->data;

    ngx_add_timer(ev, jwt->watch.interval / 2);

    if (ngx_http_axion_look_again(&jwt->watch, ev->log) == NGX_OK) {
        (void) ngx_http_axion_read_jwks(jwt, ev->log);
    }
}


/* ---- requests ---- */


/* Identity by a token.  NGX_DECLINED: what was sent is none. */
ngx_int_t
ngx_http_axion_by_token(ngx_http_axion_ctx_t *ctx,
    const struct axion_text *token)
{
    ngx_uint_t                      i;
    ngx_http_axion_jwt_t          **jwt;
    const struct axion_jwt_claims  *claims;

    if (ctx->conf->jwts == NULL
        || !axion_jwt_looks_like(token->data, token->bytes))
    {
        return NGX_DECLINED;
    }

    ctx->token = 1;
    jwt = ctx->conf->jwts->elts;

    for (i = 0; i < ctx->conf->jwts->nelts; i++) {

        claims = ngx_http_axion_claims(ctx, jwt[i], token);

        if (claims != NULL) {
            ngx_http_axion_take_claims(ctx, claims);
            break;
        }
    }

    if (ctx->stranger != NULL) {
        ngx_log_error(NGX_LOG_INFO, ctx->request->connection->log, 0,
                      "axion: %s", ctx->stranger);
    }

    return NGX_OK;
}


/* NULL: ctx->stranger says why. */
static const struct axion_jwt_claims *
ngx_http_axion_claims(ngx_http_axion_ctx_t *ctx, ngx_http_axion_jwt_t *jwt,
    const struct axion_text *token)
{
    int                         rc;
    uint64_t                    left_ms;
    const char                 *why;
    struct axion_text           texts[3];
    struct axion_cache         *cache;
    struct axion_jwt_claims     claims, *known;
    struct axion_cache_digest   digest;

    cache = &ctx->main->tokens;

    texts[0].data = (char *) &jwt;
    texts[0].bytes = sizeof(jwt);
    texts[1].data = (char *) &jwt->generation;
    texts[1].bytes = sizeof(jwt->generation);
    texts[2] = *token;

    axion_cache_ask(cache, texts, 3, &digest);

    known = axion_cache_find(cache, &digest, ngx_current_msec);

    if (known != NULL && known->expires_s > (uint64_t) ngx_time()) {
        return known;
    }

    rc = axion_jwt_verify(&claims, jwt->keys, &jwt->rules, token->data,
                          token->bytes, ngx_time(), &why);

    if (rc != AXION_OK) {
        ctx->stranger = why;
        ctx->broken = (rc == AXION_ERR_NO_MEMORY);
        return NULL;
    }

    left_ms = (claims.expires_s - ngx_time()) * 1000;

    known = axion_cache_put(cache, &digest, ngx_current_msec
                            + ngx_min(left_ms, NGX_HTTP_AXION_JWT_TTL));
    *known = claims;

    return known;
}


static void
ngx_http_axion_take_claims(ngx_http_axion_ctx_t *ctx,
    const struct axion_jwt_claims *claims)
{
    char                       *text;
    ngx_uint_t                  i;
    uint32_t                    at;
    struct axion_text          *models;
    const struct axion_tenant  *tenant;

    ctx->stranger = NULL;

    tenant = ngx_http_axion_find_tenant(ctx, claims->tenant,
                                        ngx_strlen(claims->tenant));
    if (tenant == NULL) {
        ctx->stranger = "the token's tenant is not known here";
        return;
    }

    /* a list of none leaves nothing to be used: an empty glob fits no name */

    models = ngx_palloc(ctx->request->pool, (claims->n_models + 1)
                                            * sizeof(struct axion_text));
    text = axion_memory_copy(&ctx->memory, claims->models,
                             sizeof(claims->models));

    if (models == NULL || text == NULL) {
        ctx->broken = 1;
        return;
    }

    for (i = 0, at = 0; i < claims->n_models; i++) {
        models[i].data = text + at;
        models[i].bytes = claims->model_end[i] - at;
        at = claims->model_end[i];
    }

    models[i].data = text;
    models[i].bytes = 0;

    ctx->via = "jwt";
    ctx->who = axion_identity_of(tenant, NULL);

    if (claims->has_models) {
        ctx->who.models = models;
        ctx->who.n_models = claims->n_models ? claims->n_models : 1;
    }

    if (claims->has_priority) {
        ctx->who.priority = claims->priority;
    }
}
