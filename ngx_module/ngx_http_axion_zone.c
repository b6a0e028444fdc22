/*
 * The shared zone: made by the master, kept over reloads, counted in by all
 * workers.  See _zone.h for what lies in it.
 *
 * It also holds the secret that separates the tenants' prefix caches: random
 * at the first start and the same for all workers and after a reload, so
 * that a tenant finds its own cached prefixes again.
 */


#include "ngx_module/ngx_http_axion_remote.h"


#include <sodium.h>


static ngx_int_t ngx_http_axion_init_zone(ngx_shm_zone_t *shm_zone,
    void *data);
static void ngx_http_axion_zone_engines(ngx_http_axion_main_conf_t *amcf);
static ngx_http_axion_engine_stats_t *ngx_http_axion_zone_find(
    ngx_http_axion_main_conf_t *amcf, ngx_str_t *name);
static ngx_http_axion_engine_stats_t *ngx_http_axion_zone_take(
    ngx_http_axion_main_conf_t *amcf, ngx_str_t *name);
static ngx_uint_t ngx_http_axion_zone_used(ngx_http_axion_main_conf_t *amcf,
    ngx_http_axion_engine_stats_t *stats);


const uint64_t  ngx_http_axion_ttft_bounds_us[NGX_HTTP_AXION_TTFT_BOUNDS] = {
    1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000,
    2500000, 5000000, 10000000, 30000000
};


ngx_int_t
ngx_http_axion_add_zone(ngx_conf_t *cf, ngx_http_axion_main_conf_t *amcf)
{
    size_t     size;
    ngx_str_t  name = ngx_string("axion");

    /* a slab pool needs pages of its own beside our one allocation */

    size = ngx_align(sizeof(ngx_http_axion_zone_t), ngx_pagesize)
           + 8 * ngx_pagesize;

    amcf->shm_zone = ngx_shared_memory_add(cf, &name, size,
                                           &ngx_http_axion_module);
    if (amcf->shm_zone == NULL) {
        return NGX_ERROR;
    }

    amcf->shm_zone->init = ngx_http_axion_init_zone;
    amcf->shm_zone->data = amcf;

    return NGX_OK;
}


static ngx_int_t
ngx_http_axion_init_zone(ngx_shm_zone_t *shm_zone, void *data)
{
    ngx_http_axion_main_conf_t  *old = data;

    ngx_slab_pool_t             *shpool;
    ngx_http_axion_main_conf_t  *amcf;

    amcf = shm_zone->data;
    shpool = (ngx_slab_pool_t *) shm_zone->shm.addr;

    if (old != NULL) {
        amcf->zone = old->zone;

    } else if (shm_zone->shm.exists) {
        amcf->zone = shpool->data;

    } else {
        amcf->zone = ngx_slab_calloc(shpool, sizeof(ngx_http_axion_zone_t));
        if (amcf->zone == NULL) {
            return NGX_ERROR;
        }

        shpool->data = amcf->zone;
        randombytes_buf(amcf->zone->secret, sizeof(amcf->zone->secret));
    }

    ngx_http_axion_zone_engines(amcf);
    ngx_http_axion_zone_remotes(amcf);

    return ngx_http_axion_limits_open(amcf, old, shm_zone->shm.log);
}


/*
 * Finds or makes every engine's entry.  An entry is taken over only when no
 * engine of the new configuration has its name; there are as many entries
 * as engines allowed, so one is always left.
 */
static void
ngx_http_axion_zone_engines(ngx_http_axion_main_conf_t *amcf)
{
    ngx_uint_t                  i;
    ngx_http_axion_engine_t   **engine;

    engine = amcf->engines.elts;

    for (i = 0; i < amcf->engines.nelts; i++) {
        engine[i]->stats = ngx_http_axion_zone_find(amcf, &engine[i]->name);
    }

    for (i = 0; i < amcf->engines.nelts; i++) {

        if (engine[i]->stats == NULL) {
            engine[i]->stats = ngx_http_axion_zone_take(amcf,
                                                        &engine[i]->name);
        }
    }
}


/* An engine joins: its entry is the one that other workers have found. */
void
ngx_http_axion_zone_join(ngx_http_axion_main_conf_t *amcf,
    ngx_http_axion_engine_t *engine)
{
    ngx_slab_pool_t  *shpool;

    shpool = (ngx_slab_pool_t *) amcf->shm_zone->shm.addr;

    ngx_shmtx_lock(&shpool->mutex);

    engine->stats = ngx_http_axion_zone_find(amcf, &engine->name);

    if (engine->stats == NULL) {
        engine->stats = ngx_http_axion_zone_take(amcf, &engine->name);
    }

    ngx_http_axion_zone_touch(engine);

    ngx_shmtx_unlock(&shpool->mutex);
}


/* It is here, so that no other engine takes its entry. */
void
ngx_http_axion_zone_touch(ngx_http_axion_engine_t *engine)
{
    if (engine->joined) {
        engine->stats->seen = ngx_time();
    }
}


static ngx_http_axion_engine_stats_t *
ngx_http_axion_zone_find(ngx_http_axion_main_conf_t *amcf, ngx_str_t *name)
{
    ngx_uint_t                      k;
    ngx_http_axion_engine_stats_t  *stats;

    stats = amcf->zone->engines;

    for (k = 0; k < NGX_HTTP_AXION_ENGINES_MAX; k++) {
        if (ngx_strcmp(stats[k].name, name->data) == 0) {
            return &stats[k];
        }
    }

    return NULL;
}


/* Of those that are not ours the one that nobody has seen for longest. */
static ngx_http_axion_engine_stats_t *
ngx_http_axion_zone_take(ngx_http_axion_main_conf_t *amcf, ngx_str_t *name)
{
    ngx_uint_t                      k;
    ngx_http_axion_engine_stats_t  *stats, *oldest;

    stats = amcf->zone->engines;
    oldest = NULL;

    for (k = 0; k < NGX_HTTP_AXION_ENGINES_MAX; k++) {

        if (!ngx_http_axion_zone_used(amcf, &stats[k])
            && (oldest == NULL || stats[k].seen < oldest->seen))
        {
            oldest = &stats[k];
        }
    }

    ngx_memzero(oldest, sizeof(ngx_http_axion_engine_stats_t));
    ngx_cpystrn(oldest->name, name->data, sizeof(oldest->name));

    return oldest;
}


static ngx_uint_t
ngx_http_axion_zone_used(ngx_http_axion_main_conf_t *amcf,
    ngx_http_axion_engine_stats_t *stats)
{
    ngx_uint_t                 i;
    ngx_http_axion_engine_t  **engine;

    engine = amcf->engines.elts;

    for (i = 0; i < amcf->engines.nelts; i++) {
        if (engine[i]->stats == stats) {
            return 1;
        }
    }

    return 0;
}


void
ngx_http_axion_realm(ngx_http_axion_ctx_t *ctx, u_char *salt)
{
    struct axion_realm         *realm;
    const struct axion_tenant  *tenant;

    tenant = ctx->who.tenant;
    realm = tenant->realm;

    /* the secret is the zone's as long as the tenant's record lives */

    if (realm != NULL && realm->known) {
        ngx_memcpy(salt, realm->salt, AXION_CACHE_SALT_BYTES);
        return;
    }

    axion_cache_salt(salt, ctx->main->zone->secret, tenant, ctx->who.key);

    if (realm != NULL
        && (tenant->cache_scope == AXION_CACHE_TENANT
            || tenant->cache_scope == AXION_CACHE_GROUP))
    {
        ngx_memcpy(realm->salt, salt, AXION_CACHE_SALT_BYTES);
        realm->known = 1;
    }
}


void
ngx_http_axion_zone_start(ngx_http_axion_main_conf_t *amcf)
{
    amcf->zone->streams[ngx_process_slot] = 0;
}


ngx_http_axion_stats_t *
ngx_http_axion_stats(ngx_http_axion_main_conf_t *amcf)
{
    return &amcf->zone->stats;
}


void
ngx_http_axion_count_tenants(ngx_http_axion_main_conf_t *amcf,
    ngx_uint_t good)
{
    ngx_http_axion_stats_t  *stats;

    stats = &amcf->zone->stats;

    (void) ngx_atomic_fetch_add(good ? &stats->tenants_read
                                     : &stats->tenants_refused, 1);
}


void
ngx_http_axion_count_error(ngx_http_axion_main_conf_t *amcf, int error)
{
    unsigned                        i;
    const struct axion_error_info  *info;

    for (i = 0; i < NGX_HTTP_AXION_ERRORS_MAX; i++) {

        info = axion_error_at(i);

        if (info == NULL) {
            return;
        }

        if (info->number == error) {
            (void) ngx_atomic_fetch_add(&amcf->zone->stats.errors[i], 1);
            return;
        }
    }
}


void
ngx_http_axion_count_stream(ngx_http_axion_ctx_t *ctx, ngx_int_t by)
{
    (void) ngx_atomic_fetch_add(&ctx->main->zone->streams[ngx_process_slot],
                                by);
}
