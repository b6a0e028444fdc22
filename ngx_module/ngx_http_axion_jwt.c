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
 * A signature takes 11 us on one core of a Zen 4 (HS256), 53 us (RSA of 2048
 * bits, EdDSA), 131 us (ES256), 0.8 ms (ES512) and 1.2 ms (ES384, for which
 * OpenSSL has no code of its own); at most four are tried for a token, one
 * where it names its key.  Above AXION_JWT_SLOW_US it is checked in a thread
 * (_verify.c), one token at a time, so that a flood of them takes one core at
 * most; 127 more wait, 32 of one client address.  An nginx without threads
 * checks all of them on the event loop.
 */


#include "ngx_module/ngx_http_axion_verify.h"


#include <sodium.h>


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
static const struct axion_jwt_claims *ngx_http_axion_keep_claims(
    ngx_http_axion_known_t *known, const struct axion_cache_digest *question,
    const struct axion_jwt_claims *claims);
static void ngx_http_axion_take_claims(ngx_http_axion_ctx_t *ctx,
    const struct axion_jwt_claims *claims);


#define NGX_HTTP_AXION_JWT_INTERVAL  (10 * 1000)
#define NGX_HTTP_AXION_JWT_LEEWAY    60
#define NGX_HTTP_AXION_JWT_LEEWAY_MAX  3600
#define NGX_HTTP_AXION_JWT_CACHED    512
#define NGX_HTTP_AXION_JWT_TTL       (5 * 60 * 1000)
#define NGX_HTTP_AXION_JWT_MAX       8


/* What is known of a token. */
typedef struct {
    struct axion_jwt_claims      claims;
    const char                  *why;        /* refused; NULL: it is good */
} ngx_http_axion_verdict_t;


#if (NGX_THREADS)


#define NGX_HTTP_AXION_JWT_JOBS      128
#define NGX_HTTP_AXION_JWT_ADDRESS   32
#define NGX_HTTP_AXION_JWT_TRIES     (NGX_HTTP_AXION_JWT_MAX + 2)

/* Requests that waited for it must find it; one that is not valid yet may be
 * so in a moment. */
#define NGX_HTTP_AXION_JWT_TTL_WRONG (5 * 1000)


/* The thread's while a job runs. */
typedef struct {
    ngx_http_axion_verdict_t     verdict;
    struct axion_jwt_keys       *keys;       /* held */
    const struct axion_jwt_rules *rules;
    struct axion_text            token;
    uint64_t                     now_s;
    int                          rc;
} ngx_http_axion_check_t;


static ngx_int_t ngx_http_axion_fill_check(ngx_http_axion_job_t *job,
    ngx_http_axion_ctx_t *ctx);
static void ngx_http_axion_run_check(void *data);
static ngx_int_t ngx_http_axion_keep_check(ngx_http_axion_job_t *job);
static void ngx_http_axion_release_check(ngx_http_axion_job_t *job);


static const ngx_http_axion_verifier_t  ngx_http_axion_token_verifier = {
    offsetof(ngx_http_axion_main_conf_t, tokens),
    1,
    NGX_HTTP_AXION_JWT_JOBS,
    NGX_HTTP_AXION_JWT_ADDRESS,
    NGX_HTTP_AXION_JWT_TRIES,
    "no memory to verify a token",
    ngx_http_axion_fill_check,
    ngx_http_axion_run_check,
    ngx_http_axion_keep_check,
    ngx_http_axion_release_check
};

#endif


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

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_axion_module);

#if (NGX_THREADS)
    rv = ngx_http_axion_verify_pool(cf, amcf);
    if (rv != NGX_CONF_OK) {
        return rv;
    }
#endif

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

    return (axion_cache_open(&amcf->tokens.cache, &memory,
                             NGX_HTTP_AXION_JWT_CACHED,
                             sizeof(ngx_http_axion_verdict_t))
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

        if (ctx->unverified) {
            ctx->stranger = NULL;
            break;
        }
    }

    if (ctx->stranger != NULL) {
        ngx_log_error(NGX_LOG_INFO, ctx->request->connection->log, 0,
                      "axion: %s", ctx->stranger);
    }

    return NGX_OK;
}


/* NULL: ctx->stranger says why, or ctx->unverified that a job finds out. */
static const struct axion_jwt_claims *
ngx_http_axion_claims(ngx_http_axion_ctx_t *ctx, ngx_http_axion_jwt_t *jwt,
    const struct axion_text *token)
{
    int                         rc;
    const char                 *why;
    struct axion_text           texts[3];
    struct axion_jwt_claims     claims;
    ngx_http_axion_known_t     *known;
    ngx_http_axion_verdict_t   *verdict;
    struct axion_cache_digest   digest;

    known = &ctx->main->tokens;

    texts[0].data = (char *) &jwt;
    texts[0].bytes = sizeof(jwt);
    texts[1].data = (char *) &jwt->generation;
    texts[1].bytes = sizeof(jwt->generation);
    texts[2] = *token;

    axion_cache_ask(&known->cache, texts, 3, &digest);

    verdict = axion_cache_find(&known->cache, &digest, ngx_current_msec);

    if (verdict != NULL && verdict->why != NULL) {
        ctx->stranger = verdict->why;
        return NULL;
    }

    if (verdict != NULL
        && verdict->claims.expires_s > (uint64_t) ngx_time())
    {
        return &verdict->claims;
    }

#if (NGX_THREADS)

    if (axion_jwt_slow(jwt->keys, &jwt->rules, token->data, token->bytes)) {
        ctx->unverified = 1;
        ctx->verifier = &ngx_http_axion_token_verifier;
        ctx->jwt = jwt;
        ctx->secret = *token;
        ctx->question = digest;
        return NULL;
    }

#endif

    rc = axion_jwt_verify(&claims, jwt->keys, &jwt->rules, token->data,
                          token->bytes, ngx_time(), &why);

    if (rc != AXION_OK) {
        ctx->stranger = why;
        ctx->broken = (rc == AXION_ERR_NO_MEMORY);
        return NULL;
    }

    return ngx_http_axion_keep_claims(known, &digest, &claims);
}


/* Of a token that has not expired. */
static const struct axion_jwt_claims *
ngx_http_axion_keep_claims(ngx_http_axion_known_t *known,
    const struct axion_cache_digest *question,
    const struct axion_jwt_claims *claims)
{
    uint64_t                   left_ms;
    ngx_http_axion_verdict_t  *verdict;

    left_ms = (claims->expires_s - ngx_time()) * 1000;

    verdict = axion_cache_put(&known->cache, question, ngx_current_msec
                              + ngx_min(left_ms, NGX_HTTP_AXION_JWT_TTL));
    verdict->claims = *claims;
    verdict->why = NULL;

    return &verdict->claims;
}


#if (NGX_THREADS)

static ngx_int_t
ngx_http_axion_fill_check(ngx_http_axion_job_t *job,
    ngx_http_axion_ctx_t *ctx)
{
    struct axion_memory      memory;
    ngx_http_axion_check_t  *check;

    memory = ngx_http_axion_memory(job->pool);

    check = ngx_pcalloc(job->pool, sizeof(ngx_http_axion_check_t));
    if (check == NULL) {
        return NGX_ERROR;
    }

    check->token = ctx->secret;
    check->token.data = axion_memory_copy(&memory, ctx->secret.data,
                                          ctx->secret.bytes);
    if (check->token.data == NULL) {
        return NGX_ERROR;
    }

    check->rules = &ctx->jwt->rules;
    check->now_s = ngx_time();
    check->keys = ctx->jwt->keys;
    axion_jwt_keys_hold(check->keys);

    job->data = check;

    return NGX_OK;
}


/* In a thread. */
static void
ngx_http_axion_run_check(void *data)
{
    ngx_http_axion_check_t *check = data;

    check->rc = axion_jwt_verify(&check->verdict.claims, check->keys,
                                 check->rules, check->token.data,
                                 check->token.bytes, check->now_s,
                                 &check->verdict.why);
}


static ngx_int_t
ngx_http_axion_keep_check(ngx_http_axion_job_t *job)
{
    ngx_http_axion_check_t    *check;
    ngx_http_axion_verdict_t  *verdict;

    check = job->data;

    if (check->rc == AXION_ERR_NO_MEMORY) {
        return NGX_ERROR;
    }

    if (check->rc == AXION_OK) {

        /* one that has expired since is asked again, and refused */

        if (check->verdict.claims.expires_s > (uint64_t) ngx_time()) {
            (void) ngx_http_axion_keep_claims(job->known, &job->question,
                                              &check->verdict.claims);
        }

        return NGX_OK;
    }

    verdict = axion_cache_put(&job->known->cache, &job->question,
                              ngx_current_msec + NGX_HTTP_AXION_JWT_TTL_WRONG);
    *verdict = check->verdict;

    return NGX_OK;
}


static void
ngx_http_axion_release_check(ngx_http_axion_job_t *job)
{
    ngx_http_axion_check_t  *check;

    check = job->data;
    sodium_memzero((char *) check->token.data, check->token.bytes);
    axion_jwt_keys_close(check->keys);
}

#endif


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
