/*
 * Counters by model, in the shared zone: what vLLM's names need beside the
 * figures of the load boards.  They are taken while the ring is drained, not
 * at the request's end, so that a rate over a scrape's interval sees long
 * answers as they come.
 *
 * Queue, prefill and decode are the engine's own times out of DONE; the time
 * to the first token, between events and in all are this gateway's, from the
 * arrival of the whole body.  A request whose table entry is missing (too
 * many models) is counted nowhere here; _log.c counts it in any case.
 */


#include "ngx_module/ngx_http_axion_zone.h"


static void ngx_http_axion_observe(ngx_http_axion_histogram_t *histogram,
    const uint64_t *bounds, ngx_uint_t n, uint64_t value);
static void ngx_http_axion_observe_time(ngx_http_axion_histogram_t *histogram,
    uint64_t us);
static void ngx_http_axion_observe_count(
    ngx_http_axion_histogram_t *histogram, uint64_t tokens);
static ngx_http_axion_model_t *ngx_http_axion_lookup_model(
    ngx_http_axion_zone_t *zone, const char *name, size_t len);


/* vLLM's bounds of the time to the first token, here of every time. */
const uint64_t  ngx_http_axion_time_bounds_us[] = {
    1000, 5000, 10000, 20000, 40000, 60000, 80000, 100000, 250000, 500000,
    750000, 1000000, 2500000, 5000000, 7500000, 10000000, 20000000, 40000000,
    80000000, 160000000, 640000000, 2560000000
};

const ngx_uint_t  ngx_http_axion_time_bounds =
    sizeof(ngx_http_axion_time_bounds_us) / sizeof(uint64_t);

const uint64_t  ngx_http_axion_token_bounds[] = {
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000,
    100000, 200000, 500000, 1000000
};

const ngx_uint_t  ngx_http_axion_token_bounds_n =
    sizeof(ngx_http_axion_token_bounds) / sizeof(uint64_t);

_Static_assert(sizeof(ngx_http_axion_time_bounds_us)
               <= NGX_HTTP_AXION_BOUNDS_MAX * sizeof(uint64_t), "times");
_Static_assert(sizeof(ngx_http_axion_token_bounds)
               <= NGX_HTTP_AXION_BOUNDS_MAX * sizeof(uint64_t), "tokens");


static ngx_http_axion_model_t *
ngx_http_axion_lookup_model(ngx_http_axion_zone_t *zone, const char *name,
    size_t len)
{
    ngx_uint_t               i, n;
    ngx_http_axion_model_t  *model;

    n = zone->n_models;
    ngx_memory_barrier();

    for (i = 0; i < n; i++) {

        model = &zone->models[i];

        if (ngx_strlen(model->name) == len
            && ngx_memcmp(model->name, name, len) == 0)
        {
            return model;
        }
    }

    return NULL;
}


/*
 * The entry of a model that an engine has, made at its first mention; NULL
 * when the table is full.  Entries are never changed or removed, and n_models
 * grows behind the name: so only making one needs the lock.
 */
ngx_http_axion_model_t *
ngx_http_axion_find_model(ngx_http_axion_main_conf_t *amcf, const char *name,
    size_t len)
{
    ngx_slab_pool_t         *shpool;
    ngx_http_axion_zone_t   *zone;
    ngx_http_axion_model_t  *model;

    zone = amcf->zone;

    if (len == 0 || len > AXION_NAME_BYTES) {
        return NULL;
    }

    model = ngx_http_axion_lookup_model(zone, name, len);
    if (model != NULL) {
        return model;
    }

    shpool = (ngx_slab_pool_t *) amcf->shm_zone->shm.addr;

    ngx_shmtx_lock(&shpool->mutex);

    model = ngx_http_axion_lookup_model(zone, name, len);

    if (model == NULL && zone->n_models < NGX_HTTP_AXION_MODELS_MAX) {
        model = &zone->models[zone->n_models];
        ngx_memcpy(model->name, name, len);
        ngx_memory_barrier();
        zone->n_models++;
    }

    ngx_shmtx_unlock(&shpool->mutex);

    return model;
}


ngx_uint_t
ngx_http_axion_knows_model(ngx_http_axion_main_conf_t *amcf,
    const struct axion_text *name)
{
    return ngx_http_axion_lookup_model(amcf->zone, name->data, name->bytes)
           != NULL;
}


void
ngx_http_axion_observe_accepted(ngx_http_axion_ctx_t *ctx)
{
    if (ctx->unlisted) {
        return;
    }

    ctx->model = ngx_http_axion_find_model(ctx->main, ctx->parsed.served.data,
                                           ctx->parsed.served.bytes);
    if (ctx->model == NULL) {
        return;
    }

    (void) ngx_atomic_fetch_add(&ctx->model->prompt_tokens,
                                ctx->usage.prompt_tokens);
}


/* `previous_us` is 0 at the first event. */
void
ngx_http_axion_observe_tokens(ngx_http_axion_ctx_t *ctx, uint64_t previous_us,
    uint32_t n_tokens)
{
    if (ctx->model == NULL) {
        return;
    }

    (void) ngx_atomic_fetch_add(&ctx->model->generation_tokens, n_tokens);

    if (previous_us == 0) {
        ngx_http_axion_observe_time(&ctx->model->ttft,
                                    ctx->first_us - ctx->started_us);

    } else {
        ngx_http_axion_observe_time(&ctx->model->inter_token,
                                    ctx->last_us - previous_us);
    }
}


void
ngx_http_axion_observe_done(ngx_http_axion_ctx_t *ctx)
{
    ngx_http_axion_model_t         *model;
    const struct axion_cq_done     *done;
    ngx_http_axion_finished_e       finished;

    model = ctx->model;
    done = &ctx->usage;

    if (model == NULL) {
        return;
    }

    switch (done->reason) {

    case AXION_FINISH_STOP:
        finished = NGX_HTTP_AXION_FINISHED_STOP;
        break;

    case AXION_FINISH_CANCELLED:
        finished = NGX_HTTP_AXION_FINISHED_ABORT;
        break;

    default: /* a length: max_tokens, the context, the lease */
        finished = NGX_HTTP_AXION_FINISHED_LENGTH;
    }

    (void) ngx_atomic_fetch_add(&model->finished[finished], 1);

    /* an end token has no text, and may have had no event */

    if (done->completion_tokens > ctx->tokens) {
        (void) ngx_atomic_fetch_add(&model->generation_tokens,
                                    done->completion_tokens - ctx->tokens);
    }

    ngx_http_axion_observe_time(&model->e2e, ngx_http_axion_now_us()
                                             - ctx->started_us);
    ngx_http_axion_observe_time(&model->queue, done->queue_us);
    ngx_http_axion_observe_time(&model->prefill, done->prefill_us);
    ngx_http_axion_observe_time(&model->decode, done->decode_us);
    ngx_http_axion_observe_time(&model->inference,
                                (uint64_t) done->prefill_us
                                + done->decode_us);

    ngx_http_axion_observe_count(&model->request_prompt,
                                 done->prompt_tokens);
    ngx_http_axion_observe_count(&model->request_generation,
                                 done->completion_tokens);

    if (ctx->parsed.max_tokens != 0) {
        ngx_http_axion_observe_count(&model->request_max_tokens,
                                     ctx->parsed.max_tokens);
    }
}


/* LOG phase: accepted, but neither done nor failed means the client left. */
void
ngx_http_axion_observe_left(ngx_http_axion_ctx_t *ctx)
{
    if (ctx->model == NULL || ctx->finished
        || ctx->failure.error != AXION_OK)
    {
        return;
    }

    (void) ngx_atomic_fetch_add(
                     &ctx->model->finished[NGX_HTTP_AXION_FINISHED_ABORT], 1);
}


static void
ngx_http_axion_observe_time(ngx_http_axion_histogram_t *histogram,
    uint64_t us)
{
    ngx_http_axion_observe(histogram, ngx_http_axion_time_bounds_us,
                           ngx_http_axion_time_bounds, us);
}


static void
ngx_http_axion_observe_count(ngx_http_axion_histogram_t *histogram,
    uint64_t tokens)
{
    ngx_http_axion_observe(histogram, ngx_http_axion_token_bounds,
                           ngx_http_axion_token_bounds_n, tokens);
}


static void
ngx_http_axion_observe(ngx_http_axion_histogram_t *histogram,
    const uint64_t *bounds, ngx_uint_t n, uint64_t value)
{
    ngx_uint_t  i;

    for (i = 0; i < n; i++) {
        if (value <= bounds[i]) {
            break;
        }
    }

    (void) ngx_atomic_fetch_add(&histogram->counts[i], 1);
    (void) ngx_atomic_fetch_add(&histogram->sum, value);
}
