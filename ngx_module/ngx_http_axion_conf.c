/*
 * Configuration: creation, inheritance and the simple directives; blocks
 * are in _blocks.c and _tenants.c.  Everything of a location is inherited
 * from its server and from http{} where it does not say otherwise; tenants as
 * a whole (a level that defines one defines all of them), timeouts one by one.
 * axion_pass, axion_metrics and axion_status belong to their location alone,
 * as nginx's other handlers do.
 *
 * A value that cannot work stops nginx -t with file, line and reason.
 */


#include "ngx_module/ngx_http_axion_limits.h"


static ngx_int_t ngx_http_axion_check_identity(ngx_conf_t *cf,
    ngx_http_axion_loc_conf_t *conf);
static char *ngx_http_axion_set_handler(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_http_axion_loc_conf_t *alcf, ngx_http_handler_pt handler);
static char *ngx_http_axion_timeout_value(ngx_conf_t *cf, ngx_str_t *arg,
    ngx_http_axion_loc_conf_t *alcf);


#define NGX_HTTP_AXION_BUFFER_MIN  (4 * 1024)
#define NGX_HTTP_AXION_BUFFER_MAX  (64 * 1024 * 1024)


void *
ngx_http_axion_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_axion_main_conf_t  *amcf;

    amcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_axion_main_conf_t));
    if (amcf == NULL) {
        return NULL;
    }

    if (ngx_array_init(&amcf->upstreams, cf->pool, 4,
                       sizeof(ngx_http_axion_upstream_t *))
        != NGX_OK
        || ngx_array_init(&amcf->engines, cf->pool, 4,
                          sizeof(ngx_http_axion_engine_t *))
           != NGX_OK
        || ngx_array_init(&amcf->patterns, cf->pool, 2,
                          sizeof(ngx_http_axion_pattern_t *))
           != NGX_OK
        || ngx_array_init(&amcf->tenants_files, cf->pool, 2,
                          sizeof(ngx_http_axion_tenants_file_t *))
           != NGX_OK
        || ngx_array_init(&amcf->jwts, cf->pool, 2,
                          sizeof(ngx_http_axion_jwt_t *))
           != NGX_OK
        || ngx_array_init(&amcf->tenants, cf->pool, 4,
                          sizeof(struct axion_tenant *))
           != NGX_OK
        || ngx_array_init(&amcf->prices, cf->pool, 4,
                          sizeof(ngx_http_axion_price_t))
           != NGX_OK)
    {
        return NULL;
    }

    amcf->cycle = cf->cycle;

    ngx_queue_init(&amcf->waiting);
    ngx_queue_init(&amcf->dirty);
    ngx_queue_init(&amcf->chosen.jobs);
    ngx_queue_init(&amcf->tokens.jobs);

    return amcf;
}


char *
ngx_http_axion_init_main_conf(ngx_conf_t *cf, void *conf)
{
    ngx_http_axion_main_conf_t  *amcf = conf;

    ngx_uint_t                   i;
    ngx_http_axion_upstream_t  **upstream;

    upstream = amcf->upstreams.elts;

    for (i = 0; i < amcf->upstreams.nelts; i++) {

        if (!upstream[i]->defined) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "axion_upstream \"%V\" is not defined in %s:%ui",
                          &upstream[i]->name, upstream[i]->file_name,
                          upstream[i]->line);
            return NGX_CONF_ERROR;
        }
    }

    return ngx_http_axion_init_tenants_files(cf, amcf);
}


void *
ngx_http_axion_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_axion_loc_conf_t  *alcf;

    alcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_axion_loc_conf_t));
    if (alcf == NULL) {
        return NULL;
    }

    alcf->level = NGX_CONF_UNSET_PTR;
    alcf->jwts = NGX_CONF_UNSET_PTR;
    alcf->trusted = NGX_CONF_UNSET_PTR;
    alcf->tenant_from = NGX_CONF_UNSET_PTR;
    alcf->connect_timeout = NGX_CONF_UNSET_MSEC;
    alcf->accept_timeout = NGX_CONF_UNSET_MSEC;
    alcf->stall_timeout = NGX_CONF_UNSET_MSEC;
    alcf->idle_timeout = NGX_CONF_UNSET_MSEC;
    alcf->first_timeout = NGX_CONF_UNSET_MSEC;
    alcf->keepalive_ping = NGX_CONF_UNSET_MSEC;
    alcf->buffer = NGX_CONF_UNSET_SIZE;
    alcf->limit_dry_run = NGX_CONF_UNSET;

    return alcf;
}


char *
ngx_http_axion_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_axion_loc_conf_t  *prev = parent;
    ngx_http_axion_loc_conf_t  *conf = child;

    ngx_http_core_loc_conf_t    *clcf;
    ngx_http_axion_main_conf_t  *amcf;

    ngx_conf_merge_ptr_value(conf->level, prev->level, NULL);
    ngx_conf_merge_ptr_value(conf->jwts, prev->jwts, NULL);
    ngx_conf_merge_ptr_value(conf->trusted, prev->trusted, NULL);
    ngx_conf_merge_ptr_value(conf->tenant_from, prev->tenant_from, NULL);

    if (conf->level != NULL
        && ngx_http_axion_build_level(cf, conf->level) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    ngx_conf_merge_msec_value(conf->connect_timeout, prev->connect_timeout,
                              5000);
    ngx_conf_merge_msec_value(conf->accept_timeout, prev->accept_timeout,
                              10000);
    ngx_conf_merge_msec_value(conf->stall_timeout, prev->stall_timeout,
                              30000);
    ngx_conf_merge_msec_value(conf->idle_timeout, prev->idle_timeout, 60000);
    ngx_conf_merge_msec_value(conf->first_timeout, prev->first_timeout, 0);
    ngx_conf_merge_msec_value(conf->keepalive_ping, prev->keepalive_ping,
                              15000);
    ngx_conf_merge_size_value(conf->buffer, prev->buffer, 64 * 1024);
    ngx_conf_merge_value(conf->limit_dry_run, prev->limit_dry_run, 0);

    /* if{} and limit_except{} are parts of their location */

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if ((clcf->noname || clcf->lmt_excpt) && clcf->handler == NULL
        && prev->handler != NULL)
    {
        conf->upstream = prev->upstream;
        conf->status = prev->status;
        conf->vllm_compat = prev->vllm_compat;
        conf->file_name = prev->file_name;
        conf->line = prev->line;
        conf->handler = prev->handler;
        clcf->handler = prev->handler;
    }

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_axion_module);

    if (conf->level != NULL) {
        amcf->has_tenants = 1;
    }

    if (ngx_http_axion_check_identity(cf, conf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    if (conf->upstream != NULL && conf->level == NULL && amcf->open++ == 0) {
        ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                      "axion_pass without any axion_tenant in %s:%ui: "
                      "whoever reaches the location may use the upstream",
                      conf->file_name, conf->line);
    }

    return NGX_CONF_OK;
}


/* Of a location under axion_pass: what would let in nobody, or everybody. */
static ngx_int_t
ngx_http_axion_check_identity(ngx_conf_t *cf, ngx_http_axion_loc_conf_t *conf)
{
    ngx_uint_t             i;
    struct axion_tenant  **tenant;

    if (conf->upstream == NULL) {
        return NGX_OK;
    }

    if (conf->level == NULL) {

        if (conf->jwts == NULL && conf->trusted == NULL
            && conf->tenant_from == NULL)
        {
            return NGX_OK;
        }

        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "axion_jwt, axion_tenant_from and axion_trust_headers "
                      "need tenants (axion_tenant, axion_tenants) in %s:%ui",
                      conf->file_name, conf->line);
        return NGX_ERROR;
    }

    if (conf->jwts != NULL || conf->trusted != NULL
        || conf->tenant_from != NULL)
    {
        return NGX_OK;
    }

    tenant = conf->level->list.elts;

    for (i = 0; i < conf->level->list.nelts; i++) {

        if (tenant[i]->n_keys == 0) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "no key in axion_tenant \"%s\" in %*s:%uD, and "
                          "nothing else names tenants in %s:%ui",
                          tenant[i]->name.data, (size_t) tenant[i]->file.bytes,
                          tenant[i]->file.data, tenant[i]->line,
                          conf->file_name, conf->line);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static char *
ngx_http_axion_set_handler(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_http_axion_loc_conf_t *alcf, ngx_http_handler_pt handler)
{
    ngx_http_core_loc_conf_t    *clcf;
    ngx_http_axion_main_conf_t  *amcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (alcf->handler != NULL) {
        return (alcf->handler == handler)
                   ? "is duplicate"
                   : "conflicts with another axion handler of the location";
    }

    alcf->handler = handler;
    clcf->handler = handler;

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_axion_module);
    amcf->used = 1;

    return NGX_CONF_OK;
}


char *
ngx_http_axion_pass(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_axion_loc_conf_t  *alcf = conf;

    char       *rv;
    ngx_str_t  *value;

    rv = ngx_http_axion_set_handler(cf, cmd, alcf, ngx_http_axion_handler);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    value = cf->args->elts;

    alcf->upstream = ngx_http_axion_find_upstream(cf, &value[1]);
    if (alcf->upstream == NULL) {
        return NGX_CONF_ERROR;
    }

    alcf->upstream->used = 1;
    alcf->file_name = cf->conf_file->file.name.data;
    alcf->line = cf->conf_file->line;

    return NGX_CONF_OK;
}


char *
ngx_http_axion_metrics(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_axion_loc_conf_t  *alcf = conf;

    char       *rv;
    ngx_str_t  *value;

    rv = ngx_http_axion_set_handler(cf, cmd, alcf,
                                    ngx_http_axion_metrics_handler);
    if (rv != NGX_CONF_OK || cf->args->nelts == 1) {
        return rv;
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "vllm_compat") != 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "unknown parameter \"%V\", it may be "
                           "\"vllm_compat\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    alcf->vllm_compat = 1;

    return NGX_CONF_OK;
}


char *
ngx_http_axion_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_axion_loc_conf_t  *alcf = conf;

    char       *rv;
    ngx_str_t  *value;

    rv = ngx_http_axion_set_handler(cf, cmd, alcf,
                                    ngx_http_axion_status_handler);
    if (rv != NGX_CONF_OK || cf->args->nelts == 1) {
        return rv;
    }

    value = cf->args->elts;

    alcf->status = ngx_http_axion_find_upstream(cf, &value[1]);
    if (alcf->status == NULL) {
        return NGX_CONF_ERROR;
    }

    alcf->status->used = 1;

    return NGX_CONF_OK;
}


char *
ngx_http_axion_timeout(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_axion_loc_conf_t  *alcf = conf;

    char        *rv;
    ngx_str_t   *value;
    ngx_uint_t   i;

    if (alcf->timeout_set) {
        return "is duplicate";
    }

    alcf->timeout_set = 1;

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {
        rv = ngx_http_axion_timeout_value(cf, &value[i], alcf);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_axion_timeout_value(ngx_conf_t *cf, ngx_str_t *arg,
    ngx_http_axion_loc_conf_t *alcf)
{
    ngx_str_t    time;
    ngx_int_t    msec;
    ngx_uint_t   i;
    ngx_msec_t  *field;

    static const struct {
        ngx_str_t   name;
        size_t      offset;
    } names[] = {
        { ngx_string("connect="),
          offsetof(ngx_http_axion_loc_conf_t, connect_timeout) },
        { ngx_string("accept="),
          offsetof(ngx_http_axion_loc_conf_t, accept_timeout) },
        { ngx_string("stall="),
          offsetof(ngx_http_axion_loc_conf_t, stall_timeout) },
        { ngx_string("idle="),
          offsetof(ngx_http_axion_loc_conf_t, idle_timeout) },
        { ngx_string("first="),
          offsetof(ngx_http_axion_loc_conf_t, first_timeout) },
    };

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {

        if (arg->len < names[i].name.len
            || ngx_strncmp(arg->data, names[i].name.data, names[i].name.len)
               != 0)
        {
            continue;
        }

        field = (ngx_msec_t *) ((u_char *) alcf + names[i].offset);

        if (*field != NGX_CONF_UNSET_MSEC) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate parameter \"%V\"", arg);
            return NGX_CONF_ERROR;
        }

        time.data = arg->data + names[i].name.len;
        time.len = arg->len - names[i].name.len;

        msec = ngx_parse_time(&time, 0);

        if (msec == NGX_ERROR || msec == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid time in parameter \"%V\"", arg);
            return NGX_CONF_ERROR;
        }

        *field = msec;

        return NGX_CONF_OK;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "unknown parameter \"%V\"", arg);

    return NGX_CONF_ERROR;
}


char *
ngx_http_axion_limit_state(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_axion_main_conf_t  *amcf = conf;

    ngx_str_t  *value;

    if (amcf->limit_state.len != 0) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (value[1].len == 0) {
        return "needs the path of a file";
    }

    amcf->limit_state = value[1];

    return (ngx_conf_full_name(cf->cycle, &amcf->limit_state, 0) == NGX_OK)
               ? NGX_CONF_OK : NGX_CONF_ERROR;
}


char *
ngx_http_axion_keepalive_ping(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_axion_loc_conf_t  *alcf = conf;

    ngx_int_t   msec;
    ngx_str_t  *value;

    if (alcf->keepalive_ping != NGX_CONF_UNSET_MSEC) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        alcf->keepalive_ping = 0;
        return NGX_CONF_OK;
    }

    msec = ngx_parse_time(&value[1], 0);

    if (msec == NGX_ERROR || msec == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\", it must be a time or "
                           "\"off\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    alcf->keepalive_ping = msec;

    return NGX_CONF_OK;
}


char *
ngx_http_axion_buffer(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_axion_loc_conf_t  *alcf = conf;

    ssize_t     size;
    ngx_str_t  *value;

    if (alcf->buffer != NGX_CONF_UNSET_SIZE) {
        return "is duplicate";
    }

    value = cf->args->elts;

    size = ngx_parse_size(&value[1]);

    if (size < NGX_HTTP_AXION_BUFFER_MIN || size > NGX_HTTP_AXION_BUFFER_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid size \"%V\", it must be between 4k and "
                           "64m", &value[1]);
        return NGX_CONF_ERROR;
    }

    alcf->buffer = size;

    return NGX_CONF_OK;
}
