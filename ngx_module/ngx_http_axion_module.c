/*
 * The module as nginx sees it: its directives, where its handlers hook in,
 * and what a process does when it starts and ends.
 *
 * Master: configuration, shared zone, variables, filters.  Worker: one
 * channel to each engine that a location uses, opened when the process
 * starts so that readiness is known before the first request comes, closed
 * in exit_process (nginx aborts over sockets that are left open).  Helper
 * processes (cache manager and loader) get no channel.
 */


#include "ngx_module/ngx_http_axion_quota.h"


static ngx_int_t ngx_http_axion_preconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_axion_postconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_axion_add_handler(ngx_conf_t *cf,
    ngx_http_phases phase, ngx_http_handler_pt handler);
static ngx_int_t ngx_http_axion_add_last(ngx_conf_t *cf,
    ngx_http_phases phase, ngx_http_handler_pt handler);
static ngx_http_axion_main_conf_t *ngx_http_axion_cycle_conf(
    ngx_cycle_t *cycle);
static ngx_int_t ngx_http_axion_init_process(ngx_cycle_t *cycle);
static void ngx_http_axion_exit_process(ngx_cycle_t *cycle);


#define NGX_HTTP_AXION_ANYWHERE                                               \
    (NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF)


static ngx_command_t  ngx_http_axion_commands[] = {

    { ngx_string("axion_upstream"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_BLOCK|NGX_CONF_TAKE1,
      ngx_http_axion_upstream,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("axion_tenant"),
      NGX_HTTP_AXION_ANYWHERE|NGX_CONF_BLOCK|NGX_CONF_TAKE1,
      ngx_http_axion_tenant,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("axion_tenants"),
      NGX_HTTP_AXION_ANYWHERE|NGX_CONF_TAKE12,
      ngx_http_axion_tenants,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("axion_jwt"),
      NGX_HTTP_AXION_ANYWHERE|NGX_CONF_1MORE,
      ngx_http_axion_jwt,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("axion_tenant_from"),
      NGX_HTTP_AXION_ANYWHERE|NGX_CONF_TAKE1,
      ngx_http_axion_tenant_from,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("axion_trust_headers"),
      NGX_HTTP_AXION_ANYWHERE|NGX_CONF_1MORE,
      ngx_http_axion_trust_headers,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("axion_pass"),
      NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF|NGX_CONF_TAKE1,
      ngx_http_axion_pass,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("axion_timeout"),
      NGX_HTTP_AXION_ANYWHERE|NGX_CONF_1MORE,
      ngx_http_axion_timeout,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("axion_keepalive_ping"),
      NGX_HTTP_AXION_ANYWHERE|NGX_CONF_TAKE1,
      ngx_http_axion_keepalive_ping,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("axion_buffer"),
      NGX_HTTP_AXION_ANYWHERE|NGX_CONF_TAKE1,
      ngx_http_axion_buffer,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("axion_price"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_2MORE,
      ngx_http_axion_price,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("axion_limit_state"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_axion_limit_state,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("axion_quota"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_axion_quota,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("axion_limit_dry_run"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_axion_loc_conf_t, limit_dry_run),
      NULL },

    { ngx_string("axion_metrics"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS|NGX_CONF_TAKE1,
      ngx_http_axion_metrics,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("axion_status"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS|NGX_CONF_TAKE1,
      ngx_http_axion_status,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_axion_module_ctx = {
    ngx_http_axion_preconfiguration,       /* preconfiguration */
    ngx_http_axion_postconfiguration,      /* postconfiguration */

    ngx_http_axion_create_main_conf,       /* create main configuration */
    ngx_http_axion_init_main_conf,         /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_axion_create_loc_conf,        /* create location configuration */
    ngx_http_axion_merge_loc_conf          /* merge location configuration */
};


ngx_module_t  ngx_http_axion_module = {
    NGX_MODULE_V1,
    &ngx_http_axion_module_ctx,            /* module context */
    ngx_http_axion_commands,               /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    ngx_http_axion_init_process,           /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_axion_exit_process,           /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_int_t
ngx_http_axion_preconfiguration(ngx_conf_t *cf)
{
    if (axion_tenant_init() != AXION_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "axion: libsodium cannot be initialized");
        return NGX_ERROR;
    }

    return ngx_http_axion_add_variables(cf);
}


static ngx_int_t
ngx_http_axion_postconfiguration(ngx_conf_t *cf)
{
    ngx_http_axion_main_conf_t  *amcf;

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_axion_module);

    if (!amcf->used) {
        return NGX_OK;
    }

    if (ngx_http_axion_add_zone(cf, amcf) != NGX_OK
        || ngx_http_axion_add_handler(cf, NGX_HTTP_PREACCESS_PHASE,
                                      ngx_http_axion_preaccess_handler)
           != NGX_OK
        || ngx_http_axion_add_handler(cf, NGX_HTTP_ACCESS_PHASE,
                                      ngx_http_axion_access_handler)
           != NGX_OK
        || ngx_http_axion_add_last(cf, NGX_HTTP_ACCESS_PHASE,
                                   ngx_http_axion_late_access_handler)
           != NGX_OK
        || ngx_http_axion_add_handler(cf, NGX_HTTP_LOG_PHASE,
                                      ngx_http_axion_log_handler)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_axion_init_filters(cf);
}


static ngx_int_t
ngx_http_axion_add_handler(ngx_conf_t *cf, ngx_http_phases phase,
    ngx_http_handler_pt handler)
{
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[phase].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = handler;

    return NGX_OK;
}


/* nginx runs a phase's handlers from the end of the array to its start. */
static ngx_int_t
ngx_http_axion_add_last(ngx_conf_t *cf, ngx_http_phases phase,
    ngx_http_handler_pt handler)
{
    ngx_array_t                *handlers;
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    handlers = &cmcf->phases[phase].handlers;

    if (ngx_array_push(handlers) == NULL) {
        return NGX_ERROR;
    }

    h = handlers->elts;
    ngx_memmove(h + 1, h, (handlers->nelts - 1) * sizeof(ngx_http_handler_pt));
    h[0] = handler;

    return NGX_OK;
}


static ngx_http_axion_main_conf_t *
ngx_http_axion_cycle_conf(ngx_cycle_t *cycle)
{
    ngx_http_axion_main_conf_t  *amcf;

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NULL;
    }

    if (ngx_get_conf(cycle->conf_ctx, ngx_http_module) == NULL) {
        return NULL;
    }

    amcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_axion_module);

    return (amcf != NULL && amcf->used) ? amcf : NULL;
}


static ngx_int_t
ngx_http_axion_init_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                    i, k;
    ngx_http_axion_engine_t     **engine;
    ngx_http_axion_upstream_t   **upstream;
    ngx_http_axion_main_conf_t   *amcf;

    amcf = ngx_http_axion_cycle_conf(cycle);
    if (amcf == NULL) {
        return NGX_OK;
    }

    ngx_http_axion_zone_start(amcf);
    ngx_http_axion_limits_start(amcf);

    if (ngx_http_axion_open_chosen(amcf, cycle->pool) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_axion_watch_tenants(amcf, cycle->log);

    if (ngx_http_axion_open_jwts(amcf, cycle->pool, cycle->log) != NGX_OK) {
        return NGX_ERROR;
    }

    upstream = amcf->upstreams.elts;

    for (i = 0; i < amcf->upstreams.nelts; i++) {

        if (!upstream[i]->used) {
            continue;
        }

        engine = upstream[i]->engines.elts;

        for (k = 0; k < upstream[i]->engines.nelts; k++) {
            ngx_http_axion_engine_connect(engine[k]);
        }
    }

    ngx_http_axion_start_patterns(amcf);

    return NGX_OK;
}


static void
ngx_http_axion_exit_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                    i;
    ngx_http_axion_engine_t     **engine;
    ngx_http_axion_main_conf_t   *amcf;

    amcf = ngx_http_axion_cycle_conf(cycle);
    if (amcf == NULL) {
        return;
    }

    ngx_http_axion_quota_stop(amcf);
    ngx_http_axion_limits_stop(amcf);

    engine = amcf->engines.elts;

    for (i = 0; i < amcf->engines.nelts; i++) {
        ngx_http_axion_engine_close(engine[i]);
    }
}
