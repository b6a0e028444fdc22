/*
 * The two blocks of the configuration:
 *
 *   axion_upstream NAME { engine unix:PATH; ... }
 *   axion_tenant NAME { key sha256:HEX; priority P; models GLOB ...; }
 *
 * An upstream may be named before it is defined, as with upstream {}; what
 * is still undefined when http {} ends is an error (_conf.c).  Engines with
 * the same path are one engine, whichever upstreams they are listed in: one
 * channel per worker.
 *
 * What is designed but not enforced yet is refused by its name, so that
 * nobody relies on a limit that is not there.
 */


#include "ngx_module/ngx_http_axion_module.h"


#include <sys/un.h>


/* A tenant while its block is read. */
typedef struct {
    struct axion_tenant         *tenant;
    ngx_array_t                  keys;      /* struct axion_key_hash */
    ngx_array_t                  models;    /* struct axion_text */
    ngx_http_axion_loc_conf_t   *alcf;
    unsigned                     priority_set:1;
} ngx_http_axion_tenant_block_t;


static char *ngx_http_axion_parse_block(ngx_conf_t *cf,
    char *(*handler)(ngx_conf_t *cf, ngx_command_t *dummy, void *conf),
    void *conf);
static char *ngx_http_axion_upstream_line(ngx_conf_t *cf,
    ngx_command_t *dummy, void *conf);
static char *ngx_http_axion_upstream_engine(ngx_conf_t *cf,
    ngx_http_axion_upstream_t *upstream);
static ngx_http_axion_engine_t *ngx_http_axion_find_engine(ngx_conf_t *cf,
    ngx_str_t *name);
static char *ngx_http_axion_tenant_line(ngx_conf_t *cf,
    ngx_command_t *dummy, void *conf);
static char *ngx_http_axion_tenant_key(ngx_conf_t *cf,
    ngx_http_axion_tenant_block_t *block);
static char *ngx_http_axion_tenant_priority(ngx_conf_t *cf,
    ngx_http_axion_tenant_block_t *block);
static char *ngx_http_axion_tenant_models(ngx_conf_t *cf,
    ngx_http_axion_tenant_block_t *block);
static char *ngx_http_axion_add_tenant(ngx_conf_t *cf,
    ngx_http_axion_tenant_block_t *block);
static ngx_uint_t ngx_http_axion_known(ngx_str_t *name,
    const char *const *names);


static char *
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


static ngx_uint_t
ngx_http_axion_known(ngx_str_t *name, const char *const *names)
{
    for ( /* void */ ; *names != NULL; names++) {
        if (ngx_strcmp(name->data, *names) == 0) {
            return 1;
        }
    }

    return 0;
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
        != NGX_OK)
    {
        return NULL;
    }

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

    if (upstream->engines.nelts == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no engine in axion_upstream \"%V\"",
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

    if (ngx_strcmp(value[0].data, "remote") == 0) {
        return "\"remote\" is not supported yet";
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
    ngx_uint_t                 i;
    struct sockaddr_un         sun;
    ngx_http_axion_engine_t   *engine, **e;

    value = cf->args->elts;

    if (cf->args->nelts != 2) {
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
    ngx_http_axion_engine_init(amcf, engine);

    e = ngx_array_push(&amcf->engines);
    if (e == NULL) {
        return NULL;
    }

    *e = engine;

    return engine;
}


char *
ngx_http_axion_tenant(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_axion_loc_conf_t  *alcf = conf;

    char                           *rv;
    ngx_str_t                      *value;
    struct axion_tenant            *tenant;
    ngx_http_axion_tenant_block_t   block;

    value = cf->args->elts;

    if (!axion_tenant_name_valid((char *) value[1].data, value[1].len)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid name \"%V\": 1 to %d of A-Z a-z 0-9 _ . -",
                           &value[1], (int) AXION_TENANT_NAME_MAX);
        return NGX_CONF_ERROR;
    }

    tenant = ngx_pcalloc(cf->pool, sizeof(struct axion_tenant));
    if (tenant == NULL) {
        return NGX_CONF_ERROR;
    }

    tenant->name = ngx_http_axion_text(&value[1]);
    tenant->number = axion_tenant_number(tenant->name.data,
                                         tenant->name.bytes);
    tenant->priority = AXION_PRIORITY_NORMAL;

    ngx_memzero(&block, sizeof(ngx_http_axion_tenant_block_t));

    block.tenant = tenant;
    block.alcf = alcf;

    if (ngx_array_init(&block.keys, cf->pool, 2,
                       sizeof(struct axion_key_hash))
        != NGX_OK
        || ngx_array_init(&block.models, cf->pool, 2,
                          sizeof(struct axion_text))
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    rv = ngx_http_axion_parse_block(cf, ngx_http_axion_tenant_line, &block);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    return ngx_http_axion_add_tenant(cf, &block);
}


static char *
ngx_http_axion_tenant_line(ngx_conf_t *cf, ngx_command_t *dummy, void *conf)
{
    ngx_http_axion_tenant_block_t  *block = conf;

    ngx_str_t  *value;

    static const char *const  later[] = {
        "requests", "tokens", "prompt_tokens", "completion_tokens", "budget",
        "concurrency", "queue", "max_context", "max_output", "cache", "alias",
        NULL
    };

    value = cf->args->elts;

    if (ngx_strcmp(value[0].data, "include") == 0) {
        return (cf->args->nelts == 2)
                   ? ngx_conf_include(cf, dummy, conf)
                   : "invalid number of parameters of \"include\"";
    }

    if (ngx_strcmp(value[0].data, "key") == 0) {
        return ngx_http_axion_tenant_key(cf, block);
    }

    if (ngx_strcmp(value[0].data, "priority") == 0) {
        return ngx_http_axion_tenant_priority(cf, block);
    }

    if (ngx_strcmp(value[0].data, "models") == 0) {
        return ngx_http_axion_tenant_models(cf, block);
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       ngx_http_axion_known(&value[0], later)
                           ? "\"%V\" of axion_tenant is not enforced yet"
                           : "unknown parameter \"%V\" in axion_tenant",
                       &value[0]);

    return NGX_CONF_ERROR;
}


static char *
ngx_http_axion_tenant_key(ngx_conf_t *cf,
    ngx_http_axion_tenant_block_t *block)
{
    char                    why[128];
    ngx_str_t              *value;
    struct axion_key_hash  *hash;

    value = cf->args->elts;

    if (cf->args->nelts != 2) {
        return "invalid number of parameters of \"key\"";
    }

    hash = ngx_array_push(&block->keys);
    if (hash == NULL) {
        return NGX_CONF_ERROR;
    }

    /* the value itself is not repeated: it may be a key in plain text */

    if (axion_key_spec_parse(hash, (char *) value[1].data, value[1].len, why,
                             sizeof(why))
        != AXION_OK)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid key: %s", why);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_axion_tenant_priority(ngx_conf_t *cf,
    ngx_http_axion_tenant_block_t *block)
{
    ngx_str_t  *value;

    value = cf->args->elts;

    if (cf->args->nelts != 2) {
        return "invalid number of parameters of \"priority\"";
    }

    if (block->priority_set) {
        return "\"priority\" is duplicate";
    }

    block->priority_set = 1;

    if (axion_priority_parse(&block->tenant->priority,
                             (char *) value[1].data, value[1].len)
        != AXION_OK)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid priority \"%V\", it must be low, normal "
                           "or high", &value[1]);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_axion_tenant_models(ngx_conf_t *cf,
    ngx_http_axion_tenant_block_t *block)
{
    ngx_str_t          *value;
    ngx_uint_t          i;
    struct axion_text  *glob;

    value = cf->args->elts;

    if (cf->args->nelts < 2) {
        return "invalid number of parameters of \"models\"";
    }

    for (i = 1; i < cf->args->nelts; i++) {

        if (value[i].len == 0) {
            return "empty pattern in \"models\"";
        }

        glob = ngx_array_push(&block->models);
        if (glob == NULL) {
            return NGX_CONF_ERROR;
        }

        *glob = ngx_http_axion_text(&value[i]);
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_axion_add_tenant(ngx_conf_t *cf,
    ngx_http_axion_tenant_block_t *block)
{
    ngx_uint_t                     i, k;
    struct axion_tenant           *tenant, **t;
    struct axion_key_hash         *keys;
    const struct axion_tenant     *other;
    ngx_http_axion_loc_conf_t     *alcf;
    ngx_http_axion_main_conf_t    *amcf;

    tenant = block->tenant;
    alcf = block->alcf;

    if (block->keys.nelts == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no key in axion_tenant \"%*s\"",
                           (size_t) tenant->name.bytes, tenant->name.data);
        return NGX_CONF_ERROR;
    }

    tenant->keys = block->keys.elts;
    tenant->n_keys = block->keys.nelts;
    tenant->models = block->models.elts;
    tenant->n_models = block->models.nelts;

    if (alcf->tenants == NGX_CONF_UNSET_PTR) {
        alcf->tenants = ngx_array_create(cf->pool, 4,
                                         sizeof(struct axion_tenant *));
        if (alcf->tenants == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    t = alcf->tenants->elts;

    for (i = 0; i < alcf->tenants->nelts; i++) {

        if (t[i]->name.bytes == tenant->name.bytes
            && ngx_strncmp(t[i]->name.data, tenant->name.data,
                           tenant->name.bytes) == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate axion_tenant \"%*s\"",
                               (size_t) tenant->name.bytes,
                               tenant->name.data);
            return NGX_CONF_ERROR;
        }
    }

    keys = tenant->keys;

    for (k = 0; k < tenant->n_keys; k++) {

        other = axion_tenant_find((const struct axion_tenant *const *) t,
                                  alcf->tenants->nelts, &keys[k]);
        if (other != NULL) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "a key of axion_tenant \"%*s\" is one of "
                               "\"%*s\" too",
                               (size_t) tenant->name.bytes, tenant->name.data,
                               (size_t) other->name.bytes, other->name.data);
            return NGX_CONF_ERROR;
        }
    }

    t = ngx_array_push(alcf->tenants);
    if (t == NULL) {
        return NGX_CONF_ERROR;
    }

    *t = tenant;

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_axion_module);

    t = ngx_array_push(&amcf->tenants);
    if (t == NULL) {
        return NGX_CONF_ERROR;
    }

    *t = tenant;

    return NGX_CONF_OK;
}
