/*
 * The directives of limits, the file of balances, and a process's part in it.
 *
 * The master opens the file while it makes the zone, before it forks, and
 * keeps it over reloads as long as its path stays the same: the mapping goes
 * with the last configuration that has it.  After a binary upgrade the new
 * master opens the same file beside the old one's.  Without
 * axion_limit_state it lies beside the pid file, which is this nginx's alone.
 *
 * A worker joins when it starts and parts when it ends; whatever it left
 * then, or when it was killed, the others bury.
 */


#include "ngx_module/ngx_http_axion_quota.h"


#define NGX_HTTP_AXION_BURY       2000
#define NGX_HTTP_AXION_BURY_SOON  20


struct ngx_http_axion_shared_s {
    struct axion_balances  *balances;
    ngx_uint_t              users;
};


static ngx_int_t ngx_http_axion_limits_share(
    ngx_http_axion_main_conf_t *amcf, ngx_http_axion_shared_t *shared);
static void ngx_http_axion_limits_release(void *data);
static ngx_int_t ngx_http_axion_limits_path(ngx_http_axion_main_conf_t *amcf);
static void ngx_http_axion_limits_timer(ngx_event_t *ev);
static ngx_int_t ngx_http_axion_limits_use(ngx_http_axion_main_conf_t *amcf,
    ngx_http_axion_main_conf_t *old, ngx_log_t *log);


char *
ngx_http_axion_price(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_axion_main_conf_t  *amcf = conf;

    char                     why[160];
    ngx_str_t               *value;
    ngx_uint_t               i;
    struct axion_text        word;
    ngx_http_axion_price_t  *price;

    if (amcf->prices.nelts == NGX_HTTP_AXION_PRICES_MAX) {
        return "is one of too many";
    }

    value = cf->args->elts;

    price = ngx_array_push(&amcf->prices);
    if (price == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(price, sizeof(ngx_http_axion_price_t));
    price->model = ngx_http_axion_text(&value[1]);
    price->price.cached = AXION_NEVER;

    for (i = 2; i < cf->args->nelts; i++) {
        word = ngx_http_axion_text(&value[i]);

        if (axion_price_set(&price->price, &word, why, sizeof(why))
            != AXION_OK)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s", why);
            return NGX_CONF_ERROR;
        }
    }

    if (price->price.cached == AXION_NEVER) {
        price->price.cached = price->price.prompt;
    }

    /* the prompt's price is reserved before anybody knows what is cached */

    if (price->price.cached > price->price.prompt) {
        return "has a cached price above the prompt's";
    }

    return NGX_CONF_OK;
}


/* The first that matches. */
const struct axion_price *
ngx_http_axion_find_price(ngx_http_axion_main_conf_t *amcf,
    const struct axion_text *model)
{
    ngx_uint_t               i;
    ngx_http_axion_price_t  *price;

    static const struct axion_price  nothing;

    price = amcf->prices.elts;

    for (i = 0; i < amcf->prices.nelts; i++) {
        if (axion_glob_match(&price[i].model, model->data, model->bytes)) {
            return &price[i].price;
        }
    }

    return &nothing;
}


static ngx_int_t
ngx_http_axion_limits_path(ngx_http_axion_main_conf_t *amcf)
{
    u_char           *p;
    ngx_core_conf_t  *ccf;

    static const ngx_str_t  suffix = ngx_string(".axion-limits");

    if (amcf->limit_state.len != 0) {
        return NGX_OK;
    }

    ccf = (ngx_core_conf_t *) ngx_get_conf(amcf->cycle->conf_ctx,
                                           ngx_core_module);

    p = ngx_pnalloc(amcf->cycle->pool, ccf->pid.len + suffix.len + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    amcf->limit_state.data = p;
    amcf->limit_state.len = ngx_sprintf(p, "%V%V%Z", &ccf->pid, &suffix) - p
                            - 1;

    return NGX_OK;
}


static void
ngx_http_axion_limits_release(void *data)
{
    ngx_http_axion_shared_t  *shared = data;

    if (--shared->users == 0) {
        axion_balances_close(shared->balances);
        ngx_free(shared);
    }
}


static ngx_int_t
ngx_http_axion_limits_share(ngx_http_axion_main_conf_t *amcf,
    ngx_http_axion_shared_t *shared)
{
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(amcf->cycle->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_axion_limits_release;
    cln->data = shared;

    shared->users++;
    amcf->shared = shared;
    amcf->balances = shared->balances;

    return NGX_OK;
}


ngx_int_t
ngx_http_axion_limits_open(ngx_http_axion_main_conf_t *amcf,
    ngx_http_axion_main_conf_t *old, ngx_log_t *log)
{
    if (ngx_test_config || !amcf->has_tenants) {
        return NGX_OK;
    }

    if (ngx_http_axion_limits_path(amcf) != NGX_OK
        || ngx_http_axion_limits_use(amcf, old, log) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_axion_limits_reserve(amcf,
                                  ngx_http_axion_count_file_tenants(amcf),
                                  log);

    return NGX_OK;
}


/* Places for `n` tenants of files beside those of nginx.conf.  In any thread.
 * Without them the requests of tenants that are new may be refused. */
void
ngx_http_axion_limits_reserve(ngx_http_axion_main_conf_t *amcf, size_t n,
    ngx_log_t *log)
{
    if (amcf->balances != NULL
        && axion_balances_reserve(amcf->balances, n + amcf->tenants.nelts)
           != AXION_OK)
    {
        ngx_log_error(NGX_LOG_CRIT, log, 0,
                      "axion: no room for the balances of %uz tenants in "
                      "\"%V\"", n + amcf->tenants.nelts, &amcf->limit_state);
    }
}


static ngx_int_t
ngx_http_axion_limits_use(ngx_http_axion_main_conf_t *amcf,
    ngx_http_axion_main_conf_t *old, ngx_log_t *log)
{
    int                       rc;
    char                      why[160];
    unsigned                  repaired;
    struct axion_balances    *balances;
    ngx_http_axion_shared_t  *shared;

    if (old != NULL && old->shared != NULL
        && ngx_strcmp(axion_balances_path(old->shared->balances),
                      amcf->limit_state.data)
           == 0)
    {
        return ngx_http_axion_limits_share(amcf, old->shared);
    }

    rc = axion_balances_open(&balances, (char *) amcf->limit_state.data,
                             &repaired, why, sizeof(why));

    if (rc != AXION_OK) {
        ngx_log_error(NGX_LOG_EMERG, log, 0,
                      "axion: the tenants' balances in \"%V\" cannot be "
                      "used: %s", &amcf->limit_state, why);
        return NGX_ERROR;
    }

    if (repaired != 0) {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "axion: %ui balances in \"%V\" were torn and begin at "
                      "nothing", (ngx_uint_t) repaired, &amcf->limit_state);
    }

    shared = ngx_alloc(sizeof(ngx_http_axion_shared_t), log);
    if (shared == NULL) {
        axion_balances_close(balances);
        return NGX_ERROR;
    }

    shared->balances = balances;
    shared->users = 0;

    if (ngx_http_axion_limits_share(amcf, shared) != NGX_OK) {
        axion_balances_close(balances);
        ngx_free(shared);
        return NGX_ERROR;
    }

    return NGX_OK;
}


void
ngx_http_axion_limits_start(ngx_http_axion_main_conf_t *amcf)
{
    ngx_uint_t                 i;
    ngx_http_axion_engine_t  **engine;

    if (amcf->balances == NULL) {
        return;
    }

    amcf->limits_closed = 1;

    engine = amcf->engines.elts;

    for (i = 0; i < amcf->engines.nelts; i++) {
        if (ngx_http_axion_limits_table(amcf, engine[i]) != NGX_OK) {
            return;
        }
    }

    if (axion_balances_join(amcf->balances) != AXION_OK) {
        ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, 0,
                      "axion: too many processes use \"%V\": every tenant is "
                      "refused", &amcf->limit_state);
        return;
    }

    amcf->limits_closed = 0;

    amcf->burial.handler = ngx_http_axion_limits_timer;
    amcf->burial.data = amcf;
    amcf->burial.log = ngx_cycle->log;
    amcf->burial.cancelable = 1;

    ngx_add_timer(&amcf->burial, NGX_HTTP_AXION_BURY);

    ngx_http_axion_quota_start(amcf);
}


/* The engine's streams without a request; it may have a table already. */
ngx_int_t
ngx_http_axion_limits_table(ngx_http_axion_main_conf_t *amcf,
    ngx_http_axion_engine_t *engine)
{
    if (amcf->balances == NULL || engine->left != NULL) {
        return NGX_OK;
    }

    engine->left = ngx_pcalloc(amcf->cycle->pool,
                               NGX_HTTP_AXION_STREAMS
                               * sizeof(ngx_http_axion_left_t));

    return (engine->left != NULL) ? NGX_OK : NGX_ERROR;
}


static void
ngx_http_axion_limits_timer(ngx_event_t *ev)
{
    ngx_http_axion_main_conf_t  *amcf = ev->data;

    ngx_http_axion_lease_bury(amcf);

    if (!amcf->burial.timer_set) {
        ngx_add_timer(&amcf->burial, NGX_HTTP_AXION_BURY);
    }
}


/* Looks for the dead without waiting for the next time. */
void
ngx_http_axion_limits_soon(ngx_http_axion_main_conf_t *amcf)
{
    if (amcf->burial.timer_set) {
        ngx_del_timer(&amcf->burial);
    }

    ngx_add_timer(&amcf->burial, NGX_HTTP_AXION_BURY_SOON);
}


/* Before the engines' channels are closed: what they do not say any more is
 * their journals' to say to others. */
void
ngx_http_axion_limits_stop(ngx_http_axion_main_conf_t *amcf)
{
    if (amcf->balances != NULL) {
        axion_balances_part(amcf->balances);
        amcf->balances = NULL;
    }
}
