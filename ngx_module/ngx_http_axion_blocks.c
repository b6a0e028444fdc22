/*
 * The block of an upstream:
 *
 *   axion_upstream NAME { engine unix:PATH; ... fallback A B; affinity off;
 *                         remote NAME ...; }
 *
 * (a path that is a pattern: _join.c)
 *
 * An upstream may be named before it is defined, as with upstream {}; what
 * is still undefined when http {} ends is an error (_conf.c).  Engines with
 * the same path are one engine, whichever upstreams they are listed in: one
 * channel per worker.
 */


#include "ngx_module/ngx_http_axion_remote.h"


#include <sys/un.h>


#define NGX_HTTP_AXION_AFFINITY  4096


static char *ngx_http_axion_upstream_line(ngx_conf_t *cf,
    ngx_command_t *dummy, void *conf);
static char *ngx_http_axion_upstream_engine(ngx_conf_t *cf,
    ngx_http_axion_upstream_t *upstream);
static char *ngx_http_axion_upstream_fallback(ngx_conf_t *cf,
    ngx_http_axion_upstream_t *upstream);
static char *ngx_http_axion_upstream_affinity(ngx_conf_t *cf,
    ngx_http_axion_upstream_t *upstream);
static ngx_http_axion_engine_t *ngx_http_axion_find_engine(ngx_conf_t *cf,
    ngx_str_t *name);


char *
ngx_http_axion_parse_block(ngx_conf_t *cf,
    char *(*handler)(ngx_conf_t *cf, ngx_command_t *dummy, void *conf),
    void *conf)
{
    char        *rv;
    ngx_conf_t   save;

    save = *cf;
    cf->handler = handler;
    cf->handler_conf = conf;

    rv = ngx_conf_parse(cf, NULL);

    *cf = save;

    return rv;
}


ngx_http_axion_upstream_t *
ngx_http_axion_find_upstream(ngx_conf_t *cf, ngx_str_t *name)
{
    ngx_uint_t                    i;
    ngx_http_axion_upstream_t    *upstream, **up;
    ngx_http_axion_main_conf_t   *amcf;

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_axion_module);

    up = amcf->upstreams.elts;

    for (i = 0; i < amcf->upstreams.nelts; i++) {
        if (up[i]->name.len == name->len
            && ngx_strncmp(up[i]->name.data, name->data, name->len) == 0)
        {
            return up[i];
        }
    }

    upstream = ngx_pcalloc(cf->pool, sizeof(ngx_http_axion_upstream_t));
    if (upstream == NULL) {
        return NULL;
    }

    if (ngx_array_init(&upstream->engines, cf->pool, 2,
                       sizeof(ngx_http_axion_engine_t *))
        != NGX_OK
        || ngx_array_init(&upstream->fallbacks, cf->pool, 1,
                          sizeof(ngx_http_axion_fallback_t))
           != NGX_OK
        || ngx_array_init(&upstream->remotes, cf->pool, 1,
                          sizeof(ngx_http_axion_remote_t *))
           != NGX_OK)
    {
        return NULL;
    }

    upstream->affinity = NGX_HTTP_AXION_AFFINITY;

    upstream->name = *name;
    upstream->file_name = cf->conf_file->file.name.data;
    upstream->line = cf->conf_file->line;

    up = ngx_array_push(&amcf->upstreams);
    if (up == NULL) {
        return NULL;
    }

    *up = upstream;
    amcf->used = 1;

    return upstream;
}


char *
ngx_http_axion_upstream(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char                       *rv;
    ngx_str_t                  *value;
    ngx_http_axion_upstream_t  *upstream;

    value = cf->args->elts;

    if (!axion_tenant_name_valid((char *) value[1].data, value[1].len)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid name \"%V\": 1 to %d of A-Z a-z 0-9 _ . -",
                           &value[1], (int) AXION_TENANT_NAME_MAX);
        return NGX_CONF_ERROR;
    }

    upstream = ngx_http_axion_find_upstream(cf, &value[1]);
    if (upstream == NULL) {
        return NGX_CONF_ERROR;
    }

    if (upstream->defined) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate axion_upstream \"%V\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    upstream->defined = 1;

    rv = ngx_http_axion_parse_block(cf, ngx_http_axion_upstream_line,
                                    upstream);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    upstream->n_listed = upstream->engines.nelts;

    if (upstream->engines.nelts == 0 && upstream->n_patterns == 0
        && upstream->remotes.nelts == 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no engine and no remote in axion_upstream \"%V\"",
                           &upstream->name);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_axion_upstream_line(ngx_conf_t *cf, ngx_command_t *dummy, void *conf)
{
    ngx_http_axion_upstream_t  *upstream = conf;

    ngx_str_t  *value;

    value = cf->args->elts;

    if (ngx_strcmp(value[0].data, "include") == 0) {
        return (cf->args->nelts == 2)
                   ? ngx_conf_include(cf, dummy, conf)
                   : "invalid number of parameters of \"include\"";
    }

    if (ngx_strcmp(value[0].data, "engine") == 0) {
        return ngx_http_axion_upstream_engine(cf, upstream);
    }

    if (ngx_strcmp(value[0].data, "fallback") == 0) {
        return ngx_http_axion_upstream_fallback(cf, upstream);
    }

    if (ngx_strcmp(value[0].data, "affinity") == 0) {
        return ngx_http_axion_upstream_affinity(cf, upstream);
    }

    if (ngx_strcmp(value[0].data, "remote") == 0) {
        return ngx_http_axion_upstream_remote(cf, upstream);
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "unknown parameter \"%V\" in axion_upstream \"%V\"",
                       &value[0], &upstream->name);

    return NGX_CONF_ERROR;
}


static char *
ngx_http_axion_upstream_engine(ngx_conf_t *cf,
    ngx_http_axion_upstream_t *upstream)
{
    ngx_str_t                 *value;
    ngx_uint_t                 i, pattern;
    struct sockaddr_un         sun;
    ngx_http_axion_engine_t   *engine, **e;

    value = cf->args->elts;

    pattern = cf->args->nelts > 1 && ngx_http_axion_is_pattern(&value[1]);

    if (cf->args->nelts != 2 && !(pattern && cf->args->nelts == 3)) {
        return "invalid number of parameters of \"engine\"";
    }

    if (value[1].len < 7 || ngx_strncmp(value[1].data, "unix:/", 6) != 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid engine \"%V\", it must be unix: and an "
                           "absolute path", &value[1]);
        return NGX_CONF_ERROR;
    }

    if (value[1].len - 5 >= sizeof(sun.sun_path)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "too long path in engine \"%V\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    if (pattern) {
        return ngx_http_axion_add_pattern(cf, upstream);
    }

    engine = ngx_http_axion_find_engine(cf, &value[1]);
    if (engine == NULL) {
        return NGX_CONF_ERROR;
    }

    e = upstream->engines.elts;

    for (i = 0; i < upstream->engines.nelts; i++) {
        if (e[i] == engine) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate engine \"%V\"", &value[1]);
            return NGX_CONF_ERROR;
        }
    }

    e = ngx_array_push(&upstream->engines);
    if (e == NULL) {
        return NGX_CONF_ERROR;
    }

    *e = engine;

    return NGX_CONF_OK;
}


static char *
ngx_http_axion_upstream_fallback(ngx_conf_t *cf,
    ngx_http_axion_upstream_t *upstream)
{
    ngx_str_t                  *value;
    ngx_uint_t                  i, j, n;
    ngx_http_axion_fallback_t  *fallback;

    value = cf->args->elts;
    n = cf->args->nelts - 1;

    if (n < 2 || n > NGX_HTTP_AXION_FALLBACKS_MAX) {
        return "invalid number of parameters of \"fallback\"";
    }

    fallback = upstream->fallbacks.elts;

    for (i = 0; i < upstream->fallbacks.nelts; i++) {
        if (fallback[i].models[0].bytes == value[1].len
            && ngx_strncmp(fallback[i].models[0].data, value[1].data,
                           value[1].len)
               == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate fallback of \"%V\"", &value[1]);
            return NGX_CONF_ERROR;
        }
    }

    fallback = ngx_array_push(&upstream->fallbacks);
    if (fallback == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 0; i < n; i++) {

        for (j = 0; j <= i; j++) {

            if (value[i + 1].len == 0
                || value[i + 1].len > AXION_MODEL_BYTES_MAX
                || (j < i && value[i + 1].len == value[j + 1].len
                    && ngx_strcmp(value[i + 1].data, value[j + 1].data) == 0))
            {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "invalid model \"%V\" in \"fallback\"",
                                   &value[i + 1]);
                return NGX_CONF_ERROR;
            }
        }

        fallback->models[i] = ngx_http_axion_text(&value[i + 1]);
    }

    fallback->n_models = n;

    return NGX_CONF_OK;
}


static char *
ngx_http_axion_upstream_affinity(ngx_conf_t *cf,
    ngx_http_axion_upstream_t *upstream)
{
    ssize_t     bytes;
    ngx_str_t  *value;

    value = cf->args->elts;

    if (cf->args->nelts != 2) {
        return "invalid number of parameters of \"affinity\"";
    }

    if (upstream->affinity_set) {
        return "duplicate \"affinity\"";
    }

    upstream->affinity_set = 1;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        upstream->affinity = 0;
        return NGX_CONF_OK;
    }

    bytes = ngx_parse_size(&value[1]);

    if (bytes < (ssize_t) AXION_PREFIX_BYTES_MIN
        || bytes > (ssize_t) AXION_PREFIX_BYTES_MAX)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid affinity \"%V\", it must be off or %d to "
                           "%d bytes", &value[1],
                           (int) AXION_PREFIX_BYTES_MIN,
                           (int) AXION_PREFIX_BYTES_MAX);
        return NGX_CONF_ERROR;
    }

    upstream->affinity = bytes;

    return NGX_CONF_OK;
}


static ngx_http_axion_engine_t *
ngx_http_axion_find_engine(ngx_conf_t *cf, ngx_str_t *name)
{
    ngx_uint_t                    i;
    ngx_http_axion_engine_t      *engine, **e;
    ngx_http_axion_main_conf_t   *amcf;

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_axion_module);

    e = amcf->engines.elts;

    for (i = 0; i < amcf->engines.nelts; i++) {
        if (e[i]->name.len == name->len
            && ngx_strncmp(e[i]->name.data, name->data, name->len) == 0)
        {
            return e[i];
        }
    }

    if (amcf->engines.nelts == NGX_HTTP_AXION_ENGINES_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "more than %d engines",
                           (int) NGX_HTTP_AXION_ENGINES_MAX);
        return NULL;
    }

    engine = ngx_pcalloc(cf->pool, sizeof(ngx_http_axion_engine_t));
    if (engine == NULL) {
        return NULL;
    }

    engine->name = *name;
    engine->number = axion_tenant_number((char *) name->data, name->len);
    ngx_http_axion_engine_init(amcf, engine);

    e = ngx_array_push(&amcf->engines);
    if (e == NULL) {
        return NULL;
    }

    *e = engine;

    return engine;
}
