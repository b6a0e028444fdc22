/*
 * Which engine a request goes to, and under which model's name.
 *
 * Engines of the upstream that are connected and announce the model are
 * compared by their load boards: the least loaded gets the request, equals
 * take turns; who still packs its weights comes last.  A prompt that is long
 * enough to gain from a prefix cache goes to the engine whose name suits its
 * beginning best (api/route.h), among those that are not much fuller than the
 * least loaded one, have no queue where that one has none, and have room on
 * the channel.  All workers and all nodes come to the same choice, without a
 * table.
 *
 * A model that no engine can take just now (nobody announces it; whoever does
 * is away, loads or drains), and no remote may, is replaced by the first of
 * its `fallback` line that the client may use, its budget can pay and an
 * engine or a remote can take.  Each try starts with the model that was asked
 * for.
 */


#include "ngx_module/ngx_http_axion_remote.h"


typedef struct {
    ngx_http_axion_engine_t     *engine;
    uint64_t                     load;
    unsigned                     packing:1;
} ngx_http_axion_candidate_t;


static ngx_http_axion_engine_t *ngx_http_axion_choose(
    ngx_http_axion_ctx_t *ctx, const struct axion_text *model, int *error);
static ngx_uint_t ngx_http_axion_sooner(const ngx_http_axion_candidate_t *a,
    const ngx_http_axion_candidate_t *b);
static ngx_http_axion_engine_t *ngx_http_axion_prefer(
    ngx_http_axion_ctx_t *ctx, ngx_http_axion_candidate_t *fit, ngx_uint_t n,
    ngx_http_axion_candidate_t *best);
static int ngx_http_axion_fitness(ngx_http_axion_engine_t *engine,
    const struct axion_text *model);
static ngx_uint_t ngx_http_axion_nobody_there(
    ngx_http_axion_engine_t *engine);
static uint64_t ngx_http_axion_load(ngx_http_axion_engine_t *engine);
static ngx_http_axion_fallback_t *ngx_http_axion_find_fallback(
    ngx_http_axion_ctx_t *ctx);
static ngx_http_axion_engine_t *ngx_http_axion_fall_back(
    ngx_http_axion_ctx_t *ctx, ngx_http_axion_fallback_t *fallback,
    int *error);
static ngx_uint_t ngx_http_axion_may_fall_back(ngx_http_axion_ctx_t *ctx,
    const struct axion_text *model);
static ngx_int_t ngx_http_axion_serve_as(ngx_http_axion_ctx_t *ctx,
    const struct axion_text *model);
static ngx_uint_t ngx_http_axion_same(const struct axion_text *a,
    const struct axion_text *b);


/* NULL with *error: MODEL_NOT_FOUND, or what to wait for. */
ngx_http_axion_engine_t *
ngx_http_axion_route(ngx_http_axion_ctx_t *ctx, int *error)
{
    ngx_http_axion_engine_t    *engine;
    ngx_http_axion_fallback_t  *fallback;
    ngx_http_axion_upstream_t  *upstream;

    upstream = ctx->conf->upstream;

    if (!ctx->routed) {
        ctx->routed = 1;
        ctx->asked = ctx->parsed.served;
        ctx->payload_model = ctx->parsed.served;

        if (upstream->affinity != 0 && upstream->engines.nelts > 1) {
            ctx->prefix = axion_route_prefix(&ctx->parsed,
                                             upstream->affinity);
        }
    }

    ctx->undecided = 0;
    ctx->stand_in = ctx->asked;
    engine = ngx_http_axion_choose(ctx, &ctx->asked, error);

    if (engine != NULL
        && ngx_http_axion_serve_as(ctx, &ctx->asked) == NGX_OK)
    {
        return engine;
    }

    fallback = ngx_http_axion_find_fallback(ctx);

    if (fallback == NULL
        || ngx_http_axion_choose_remote(ctx, NULL, &ctx->asked) != NULL)
    {
        return NULL;
    }

    if (ngx_http_axion_undecided(upstream)) {
        ctx->undecided = 1;
        *error = AXION_ERR_ENGINE_UNAVAILABLE;
        return NULL;
    }

    return ngx_http_axion_fall_back(ctx, fallback, error);
}


static ngx_http_axion_engine_t *
ngx_http_axion_choose(ngx_http_axion_ctx_t *ctx,
    const struct axion_text *model, int *error)
{
    int                           rc;
    ngx_uint_t                    i, n, n_fit, n_known;
    ngx_http_axion_engine_t      *engine, **engines;
    ngx_http_axion_upstream_t    *upstream;
    ngx_http_axion_candidate_t   *best, fit[NGX_HTTP_AXION_ENGINES_MAX];

    upstream = ctx->conf->upstream;
    engines = upstream->engines.elts;
    n = upstream->engines.nelts;

    n_fit = 0;
    n_known = 0;
    best = NULL;
    *error = AXION_ERR_MODEL_NOT_FOUND;

    upstream->turn++;

    for (i = 0; i < n; i++) {
        engine = engines[(upstream->turn + i) % n];

        rc = ngx_http_axion_fitness(engine, model);
        n_known += engine->seen;

        switch (rc) {

        case AXION_OK:
            fit[n_fit].engine = engine;
            fit[n_fit].load = ngx_http_axion_load(engine);
            fit[n_fit].packing = (engine->board.load_permille < 1000);

            if (best == NULL || ngx_http_axion_sooner(&fit[n_fit], best)) {
                best = &fit[n_fit];
            }

            n_fit++;
            break;

        case AXION_ERR_MODEL_NOT_FOUND:
            break;

        case AXION_ERR_ENGINE_LOADING:
            *error = AXION_ERR_ENGINE_LOADING;
            break;

        default:
            if (*error == AXION_ERR_MODEL_NOT_FOUND) {
                *error = AXION_ERR_ENGINE_UNAVAILABLE;
            }

            break;
        }
    }

    if (n + upstream->n_patterns != 0 && n_known == 0
        && *error == AXION_ERR_MODEL_NOT_FOUND) {
        *error = AXION_ERR_ENGINE_UNAVAILABLE;
    }

    if (best == NULL) {
        return NULL;
    }

    return ngx_http_axion_prefer(ctx, fit, n_fit, best);
}


/* Who is ready but still packs its weights answers when that is done. */
static ngx_uint_t
ngx_http_axion_sooner(const ngx_http_axion_candidate_t *a,
    const ngx_http_axion_candidate_t *b)
{
    if (a->packing != b->packing) {
        return b->packing;
    }

    return a->load < b->load;
}


/*
 * A hit saves the prefill of what is cached, a fuller engine costs a share of
 * each step: worth it for a request or a quarter more, not for a queue.  One
 * that waits is none: every request does, until the next step.
 */
static ngx_http_axion_engine_t *
ngx_http_axion_prefer(ngx_http_axion_ctx_t *ctx,
    ngx_http_axion_candidate_t *fit, ngx_uint_t n,
    ngx_http_axion_candidate_t *best)
{
    uint64_t                  weight, heaviest;
    ngx_uint_t                i;
    ngx_http_axion_engine_t  *engine, *preferred;

    preferred = best->engine;

    if (ctx->prefix == 0) {
        return preferred;
    }

    heaviest = axion_route_weight(ctx->prefix, preferred->number);

    for (i = 0; i < n; i++) {
        engine = fit[i].engine;

        if (fit[i].packing != best->packing
            || fit[i].load > best->load + 1 + best->load / 4
            || engine->board.waiting > best->engine->board.waiting + 1
            || (!ngx_queue_empty(&engine->starving)
                && ctx->starves_for != engine))
        {
            continue;
        }

        weight = axion_route_weight(ctx->prefix, engine->number);

        if (weight > heaviest) {
            heaviest = weight;
            preferred = engine;
        }
    }

    return preferred;
}


/* AXION_OK, MODEL_NOT_FOUND, or why the engine may serve the model later. */
static int
ngx_http_axion_fitness(ngx_http_axion_engine_t *engine,
    const struct axion_text *model)
{
    ngx_int_t                        rc;
    const struct axion_board_model  *found;

    rc = ngx_http_axion_engine_board(engine);

    if (!engine->seen) {
        return ngx_http_axion_nobody_there(engine)
                   ? AXION_ERR_MODEL_NOT_FOUND : AXION_ERR_ENGINE_UNAVAILABLE;
    }

    if (rc == NGX_OK && engine->board.state == AXION_ENGINE_LOADING) {
        return AXION_ERR_ENGINE_LOADING;
    }

    found = axion_board_find_model(&engine->board, model->data, model->bytes);

    if (found == NULL) {
        return AXION_ERR_MODEL_NOT_FOUND;
    }

    if (rc != NGX_OK) {
        return AXION_ERR_ENGINE_UNAVAILABLE;
    }

    return (engine->board.state == AXION_ENGINE_READY)
               ? AXION_OK : AXION_ERR_ENGINE_DRAINING;
}


/* A socket that nobody answers on may lie there for ever. */
static ngx_uint_t
ngx_http_axion_nobody_there(ngx_http_axion_engine_t *engine)
{
    return engine->joined && engine->reported;
}


/* The board lags by a step: what this worker sent itself counts at least. */
static uint64_t
ngx_http_axion_load(ngx_http_axion_engine_t *engine)
{
    uint64_t  load, own;

    load = (uint64_t) engine->board.running + engine->board.waiting;
    own = axion_client_streams(engine->client);

    if (own > load) {
        load = own;
    }

    return load;
}


static ngx_http_axion_fallback_t *
ngx_http_axion_find_fallback(ngx_http_axion_ctx_t *ctx)
{
    ngx_uint_t                  i;
    ngx_http_axion_fallback_t  *fallback;

    fallback = ctx->conf->upstream->fallbacks.elts;

    for (i = 0; i < ctx->conf->upstream->fallbacks.nelts; i++) {
        if (ngx_http_axion_same(&fallback[i].models[0], &ctx->asked)) {
            return &fallback[i];
        }
    }

    return NULL;
}


static ngx_http_axion_engine_t *
ngx_http_axion_fall_back(ngx_http_axion_ctx_t *ctx,
    ngx_http_axion_fallback_t *fallback, int *error)
{
    int                       why;
    ngx_uint_t                i;
    struct axion_text        *model;
    ngx_http_axion_engine_t  *engine;

    for (i = 1; i < fallback->n_models; i++) {
        model = &fallback->models[i];

        if (!ngx_http_axion_may_fall_back(ctx, model)) {
            continue;
        }

        engine = ngx_http_axion_choose(ctx, model, &why);

        if (engine != NULL && ngx_http_axion_serve_as(ctx, model) == NGX_OK) {
            return engine;
        }

        if (ngx_http_axion_choose_remote(ctx, NULL, model) != NULL) {
            ctx->stand_in = *model;
            return NULL;
        }

        /* whichever of them comes up is waited for */

        if (engine == NULL && *error == AXION_ERR_MODEL_NOT_FOUND) {
            *error = why;
        }
    }

    return NULL;
}


/* For what no engine can do: 1 when a remote takes the request as one for
 * another model, which ctx->stand_in is then. */
ngx_uint_t
ngx_http_axion_stand_in(ngx_http_axion_ctx_t *ctx)
{
    ngx_uint_t                  i;
    struct axion_text          *model;
    ngx_http_axion_fallback_t  *fallback;

    fallback = ngx_http_axion_find_fallback(ctx);

    if (fallback == NULL) {
        return 0;
    }

    for (i = 1; i < fallback->n_models; i++) {
        model = &fallback->models[i];

        if (ngx_http_axion_may_fall_back(ctx, model)
            && ngx_http_axion_choose_remote(ctx, NULL, model) != NULL)
        {
            ctx->stand_in = *model;
            return 1;
        }
    }

    return 0;
}


static ngx_uint_t
ngx_http_axion_may_fall_back(ngx_http_axion_ctx_t *ctx,
    const struct axion_text *model)
{
    return ctx->who.tenant == NULL
           || axion_identity_may_use(&ctx->who, model->data, model->bytes);
}


/* Does an engine shake hands whose models nobody has seen yet? */
ngx_uint_t
ngx_http_axion_undecided(ngx_http_axion_upstream_t *upstream)
{
    ngx_uint_t                 i;
    ngx_http_axion_engine_t  **engine;

    engine = upstream->engines.elts;

    for (i = 0; i < upstream->engines.nelts; i++) {
        if (!engine[i]->seen && engine[i]->link == NGX_HTTP_AXION_CONNECTING
            && !ngx_http_axion_nobody_there(engine[i]))
        {
            return 1;
        }
    }

    return 0;
}


/* NGX_DECLINED: no memory, or the tenant's budget has no room for its price. */
static ngx_int_t
ngx_http_axion_serve_as(ngx_http_axion_ctx_t *ctx,
    const struct axion_text *model)
{
    struct axion_memory  memory;

    if (ngx_http_axion_same(&ctx->parsed.served, model)
        && ngx_http_axion_same(&ctx->payload_model, model))
    {
        return NGX_OK;
    }

    if (!ngx_http_axion_same(&ctx->parsed.served, model)
        && !ngx_http_axion_limits_reprice(ctx, model))
    {
        return NGX_DECLINED;
    }

    memory = ngx_http_axion_memory(ctx->scratch);

    if (!ngx_http_axion_same(&ctx->payload_model, model)
        && axion_route_rename(&ctx->parsed, model, &memory) != AXION_OK)
    {
        return NGX_DECLINED;
    }

    ctx->parsed.served = *model;
    ctx->payload_model = *model;

    if (ngx_http_axion_same(&ctx->asked, model)) {
        return NGX_OK;
    }

    ngx_http_axion_count_fallback(ctx);

    return NGX_OK;
}


/* Another model than that which was asked for has the request. */
void
ngx_http_axion_count_fallback(ngx_http_axion_ctx_t *ctx)
{
    (void) ngx_atomic_fetch_add(&ctx->main->zone->stats.fallbacks, 1);

    ngx_log_error(NGX_LOG_INFO, ctx->request->connection->log, 0,
                  "axion: model \"%*s\" stands in for \"%*s\"",
                  (size_t) ctx->parsed.served.bytes, ctx->parsed.served.data,
                  (size_t) ctx->asked.bytes, ctx->asked.data);
}


static ngx_uint_t
ngx_http_axion_same(const struct axion_text *a, const struct axion_text *b)
{
    return a->bytes == b->bytes && ngx_memcmp(a->data, b->data, a->bytes) == 0;
}
