/*
 * The block of a tenant, and the set of those of a level:
 *
 *   axion_tenant NAME { key sha256:HEX; priority P; models GLOB ...; }
 *
 * What a line means is api/tenant_params.c's to say, for nginx.conf and for
 * tenants files alike; here nginx's words become texts and a reason becomes
 * an error with file and line.  Sets are built while configurations are
 * merged, when a level's tenants are complete.
 */


#include "ngx_module/ngx_http_axion_module.h"


static char *ngx_http_axion_tenant_line(ngx_conf_t *cf,
    ngx_command_t *dummy, void *conf);


/* What this level itself says of tenants; NULL: out of memory. */
ngx_http_axion_level_t *
ngx_http_axion_level(ngx_conf_t *cf, ngx_http_axion_loc_conf_t *alcf)
{
    ngx_http_axion_level_t  *level;

    if (alcf->level != NGX_CONF_UNSET_PTR) {
        return alcf->level;
    }

    level = ngx_pcalloc(cf->pool, sizeof(ngx_http_axion_level_t));
    if (level == NULL) {
        return NULL;
    }

    if (ngx_array_init(&level->list, cf->pool, 4,
                       sizeof(struct axion_tenant *))
        != NGX_OK)
    {
        return NULL;
    }

    alcf->level = level;

    return level;
}


char *
ngx_http_axion_tenant(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_axion_loc_conf_t  *alcf = conf;

    char                        *rv;
    ngx_str_t                   *value;
    struct axion_text            name;
    struct axion_memory          memory;
    struct axion_tenant        **t;
    ngx_http_axion_level_t      *level;
    struct axion_tenant_draft    draft;
    ngx_http_axion_main_conf_t  *amcf;

    value = cf->args->elts;
    name = ngx_http_axion_text(&value[1]);
    memory = ngx_http_axion_memory(cf->pool);

    if (axion_tenant_begin(&draft, &memory, &name) != AXION_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s", draft.why);
        return NGX_CONF_ERROR;
    }

    draft.tenant->file = ngx_http_axion_text(&cf->conf_file->file.name);
    draft.tenant->line = cf->conf_file->line;

    rv = ngx_http_axion_parse_block(cf, ngx_http_axion_tenant_line, &draft);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    if (axion_tenant_end(&draft) != AXION_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s", draft.why);
        return NGX_CONF_ERROR;
    }

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_axion_module);

    if (draft.n_chosen != 0) {
        rv = ngx_http_axion_chosen_pool(cf, amcf);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    level = ngx_http_axion_level(cf, alcf);
    if (level == NULL) {
        return NGX_CONF_ERROR;
    }

    t = ngx_array_push(&level->list);
    if (t == NULL) {
        return NGX_CONF_ERROR;
    }

    *t = draft.tenant;

    t = ngx_array_push(&amcf->tenants);
    if (t == NULL) {
        return NGX_CONF_ERROR;
    }

    *t = draft.tenant;

    return NGX_CONF_OK;
}


static char *
ngx_http_axion_tenant_line(ngx_conf_t *cf, ngx_command_t *dummy, void *conf)
{
    struct axion_tenant_draft  *draft = conf;

    ngx_str_t          *value;
    ngx_uint_t          i;
    struct axion_text  *words;

    value = cf->args->elts;

    if (ngx_strcmp(value[0].data, "include") == 0) {
        return (cf->args->nelts == 2)
                   ? ngx_conf_include(cf, dummy, conf)
                   : "invalid number of parameters of \"include\"";
    }

    words = ngx_palloc(cf->temp_pool,
                       cf->args->nelts * sizeof(struct axion_text));
    if (words == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 0; i < cf->args->nelts; i++) {
        words[i] = ngx_http_axion_text(&value[i]);
    }

    if (axion_tenant_set(draft, words, cf->args->nelts) != AXION_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s", draft->why);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* Once per level, when all of its lines are read. */
ngx_int_t
ngx_http_axion_build_level(ngx_conf_t *cf, ngx_http_axion_level_t *level)
{
    char                        why[AXION_TENANT_WHY_BYTES];
    struct axion_memory         memory;
    const struct axion_tenant  *at;

    if (level->built) {
        return NGX_OK;
    }

    level->built = 1;
    memory = ngx_http_axion_memory(cf->pool);

    if (axion_tenants_build(&level->blocks, level->list.elts,
                            level->list.nelts, &memory, &at, why, sizeof(why))
        != AXION_OK)
    {
        if (at == NULL) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0, "%s", why);

        } else {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0, "%s in %*s:%uD", why,
                          (size_t) at->file.bytes, at->file.data, at->line);
        }

        return NGX_ERROR;
    }

    return NGX_OK;
}
