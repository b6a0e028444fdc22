/*
 * Which remote, when, and what comes of one that has failed.
 *
 * A remote without `backup` stands beside the engines: of those that have the
 * model the least loaded takes the request, where a remote's load is what
 * this worker has in flight there, times the number of workers.  One with
 * `backup` takes what no engine can take now: nobody has the model, or who
 * has it is away, loads, drains, refuses for want of room, or has more
 * requests waiting than the line's `queue=`.
 *
 * A remote that fails before the client has read anything of its answer is
 * not asked again for this request; the next remote is, or an engine.  The
 * last failure is what the client reads if there is nobody left.
 *
 * The lease.  An engine is given more while it works; a remote cannot be.  So
 * the answer's tokens are reserved before, and max_tokens says to the remote
 * how many there are.  The prompt's are an estimate until the remote's usage
 * is there, which is what is charged.
 */


#include "ngx_module/ngx_http_axion_quota.h"
#include "ngx_module/ngx_http_axion_remote.h"


#define NGX_HTTP_AXION_REMOTE_ANSWER  8192
#define NGX_HTTP_AXION_REMOTE_ASKS    4


static ngx_uint_t ngx_http_axion_remote_serves(
    ngx_http_axion_remote_t *remote, const struct axion_text *model);
static ngx_uint_t ngx_http_axion_engine_is_full(
    ngx_http_axion_engine_t *engine, ngx_http_axion_remote_t *remote);
static ngx_uint_t ngx_http_axion_remote_lists(
    ngx_http_axion_remote_t *remote, ngx_http_axion_ctx_t *ctx);
static uint32_t ngx_http_axion_estimate(ngx_http_axion_ctx_t *ctx,
    ngx_uint_t token_bytes);
static uint32_t ngx_http_axion_remote_context(ngx_http_axion_ctx_t *ctx,
    ngx_http_axion_remote_t *remote);
static ngx_uint_t ngx_http_axion_remote_fits(ngx_http_axion_ctx_t *ctx,
    ngx_http_axion_remote_t *remote);
static uint64_t ngx_http_axion_remote_load(ngx_http_axion_remote_t *remote);
static ngx_int_t ngx_http_axion_reserve(ngx_http_axion_ctx_t *ctx,
    ngx_http_axion_remote_t *remote, ngx_http_axion_reserved_t *reserved);
static ngx_int_t ngx_http_axion_reserve_answer(ngx_http_axion_ctx_t *ctx,
    uint32_t prompt_tokens, uint64_t wanted);
static void ngx_http_axion_forget_call(ngx_http_axion_ctx_t *ctx);


static ngx_uint_t
ngx_http_axion_remote_serves(ngx_http_axion_remote_t *remote,
    const struct axion_text *model)
{
    ngx_uint_t          i;
    struct axion_text  *glob;

    if (remote->models == NULL) {
        return 1;
    }

    glob = remote->models->elts;

    for (i = 0; i < remote->models->nelts; i++) {
        if (axion_glob_match(&glob[i], model->data, model->bytes)) {
            return 1;
        }
    }

    return 0;
}


/* May the tables of models have this name for ever?  A server may answer
 * under any name that a client makes up. */
static ngx_uint_t
ngx_http_axion_remote_lists(ngx_http_axion_remote_t *remote,
    ngx_http_axion_ctx_t *ctx)
{
    uint32_t                         i;
    const struct axion_board_model  *model;

    for (i = 0; i < remote->board.n_models; i++) {
        model = &remote->board.models[i];

        if (ngx_strlen(model->id) == ctx->stand_in.bytes
            && ngx_memcmp(model->id, ctx->stand_in.data, ctx->stand_in.bytes)
               == 0)
        {
            return 1;
        }
    }

    return ngx_http_axion_knows_model(ctx->main, &ctx->stand_in);
}


/* About how many tokens the prompt has; of ids, exactly how many. */
static uint32_t
ngx_http_axion_estimate(ngx_http_axion_ctx_t *ctx, ngx_uint_t token_bytes)
{
    uint64_t  n;

    n = ctx->parsed.text_bytes / token_bytes;

    if (ctx->parsed.n_tokens != 0) {
        n += ctx->parsed.n_tokens;

    } else {
        n += 32
             + (uint64_t) ctx->parsed.n_messages * NGX_HTTP_AXION_MESSAGE_TOKENS
             + (uint64_t) ctx->parsed.n_media * NGX_HTTP_AXION_MEDIA_TOKENS;
    }

    return (uint32_t) ngx_min(n, UINT32_MAX);
}


/* Prompt and answer together, tokens; 0: nobody has said. */
static uint32_t
ngx_http_axion_remote_context(ngx_http_axion_ctx_t *ctx,
    ngx_http_axion_remote_t *remote)
{
    if (ctx->who.max_context == 0 || remote->context == 0) {
        return ngx_max(ctx->who.max_context, remote->context);
    }

    return ngx_min(ctx->who.max_context, remote->context);
}


/* Nobody here can count for it: the estimate is held to the bound. */
static ngx_uint_t
ngx_http_axion_remote_fits(ngx_http_axion_ctx_t *ctx,
    ngx_http_axion_remote_t *remote)
{
    uint32_t  context;

    context = ngx_http_axion_remote_context(ctx, remote);

    return context == 0
           || ngx_http_axion_estimate(ctx, remote->token_bytes) < context;
}


static uint64_t
ngx_http_axion_remote_load(ngx_http_axion_remote_t *remote)
{
    ngx_core_conf_t  *ccf;

    ccf = (ngx_core_conf_t *) ngx_get_conf(ngx_cycle->conf_ctx,
                                           ngx_core_module);

    return (uint64_t) remote->in_flight * ngx_max(ccf->worker_processes, 1);
}


static ngx_uint_t
ngx_http_axion_engine_is_full(ngx_http_axion_engine_t *engine,
    ngx_http_axion_remote_t *remote)
{
    return remote->queue != 0 && engine->board.waiting >= remote->queue;
}


/*
 * The remote that takes the request as one for `model` in the place of
 * `engine` (NULL: no engine can, or may, take it); NULL: none does.
 */
ngx_http_axion_remote_t *
ngx_http_axion_choose_remote(ngx_http_axion_ctx_t *ctx,
    ngx_http_axion_engine_t *engine, const struct axion_text *model)
{
    uint64_t                    load, least;
    ngx_uint_t                  i, k, n;
    ngx_http_axion_remote_t    *best, *spare, **remote;
    ngx_http_axion_upstream_t  *upstream;

    upstream = ctx->conf->upstream;
    remote = upstream->remotes.elts;
    n = upstream->remotes.nelts;

    best = NULL;
    spare = NULL;
    least = UINT64_MAX;

    if (engine != NULL) {
        least = (uint64_t) engine->board.running + engine->board.waiting;
    }

    for (i = 0; i < n; i++) {
        k = (upstream->turn + i) % n;

        if ((ctx->remotes_tried & ((uint64_t) 1 << k))
            || !ngx_http_axion_remote_serves(remote[k], model))
        {
            continue;
        }

        if (!ngx_http_axion_remote_fits(ctx, remote[k])) {
            ctx->too_long = 1;
            continue;
        }

        load = ngx_http_axion_remote_load(remote[k]);

        if (!remote[k]->backup) {
            if (load < least) {
                least = load;
                best = remote[k];
            }

            continue;
        }

        if ((engine == NULL
             || ngx_http_axion_engine_is_full(engine, remote[k]))
            && (spare == NULL || load < ngx_http_axion_remote_load(spare)))
        {
            spare = remote[k];
        }
    }

    return (best != NULL) ? best : spare;
}


/* Does the engine's model have more context than the tenant may use?  Then
 * a prompt that is too long for it is one for everybody. */
static ngx_uint_t
ngx_http_axion_tenant_bounds(ngx_http_axion_ctx_t *ctx)
{
    const struct axion_board_model  *model;

    if (ctx->who.max_context == 0) {
        return 0;
    }

    model = axion_board_find_model(&ctx->engine->board,
                                   ctx->parsed.served.data,
                                   ctx->parsed.served.bytes);

    return model == NULL || model->context_tokens == 0
           || ctx->who.max_context <= model->context_tokens;
}


/* The engine has refused the request before it accepted it: 1 when a remote
 * may take it, and the request is READING again. */
ngx_uint_t
ngx_http_axion_spill(ngx_http_axion_ctx_t *ctx, int error)
{
    if (ctx->state != NGX_HTTP_AXION_SUBMITTED
        || (error != AXION_ERR_QUEUE_FULL && error != AXION_ERR_KV_EXHAUSTED
            && error != AXION_ERR_DEADLINE && error != AXION_ERR_CONTEXT_LENGTH
            && error != AXION_ERR_ENGINE_LOADING
            && error != AXION_ERR_ENGINE_DRAINING)
        || (error == AXION_ERR_CONTEXT_LENGTH
            && ngx_http_axion_tenant_bounds(ctx))
        || ngx_http_axion_choose_remote(ctx, NULL, &ctx->asked) == NULL)
    {
        return 0;
    }

    ctx->state = NGX_HTTP_AXION_READING;
    ctx->stream = 0;
    ctx->spilled = 1;

    (void) ngx_http_axion_lease_send(ctx, NULL);

    return 1;
}


/* 1: a remote has the request (or it is over), 0: it stays with engines. */
ngx_uint_t
ngx_http_axion_overflow(ngx_http_axion_ctx_t *ctx,
    ngx_http_axion_engine_t *engine)
{
    uint64_t                    tried;
    ngx_http_axion_remote_t    *remote, **all;
    ngx_http_axion_reserved_t   reserved;
    ngx_http_axion_upstream_t  *upstream;

    upstream = ctx->conf->upstream;

    if (upstream->remotes.nelts == 0) {
        return 0;
    }

    if (ctx->asked.data == NULL) {
        ctx->asked = ctx->parsed.served;
        ctx->stand_in = ctx->asked;
        upstream->turn++;
    }

    /* wait for it a little, as a request without a remote does for long */

    if (engine == NULL && !ctx->spilled && !ctx->parsed.remote_only
        && ngx_http_axion_undecided(upstream))
    {
        ctx->undecided = 1;
        return 0;
    }

    for ( ;; ) {

        remote = ngx_http_axion_choose_remote(ctx, engine, &ctx->stand_in);

        if (remote == NULL) {
            return 0;
        }

        all = upstream->remotes.elts;

        while (*all != remote) {
            all++;
        }

        tried = (uint64_t) 1 << (all - (ngx_http_axion_remote_t **)
                                       upstream->remotes.elts);

        /* a lease that has grown for this prompt is not to begin anew */

        if (ctx->parsed.served.data == ctx->stand_in.data
            || ngx_http_axion_limits_reprice(ctx, &ctx->stand_in))
        {
            break;
        }

        ctx->remotes_tried |= tried;
    }

    /* not before: who gets none keeps its place in the engine's queue */

    ngx_http_axion_unlink(ctx);
    ngx_http_axion_starve(ctx, NULL);

    ctx->parsed.served = ctx->stand_in;

    if (ngx_http_axion_reserve(ctx, remote, &reserved) != NGX_OK) {
        return 1;
    }

    ctx->remotes_tried |= tried;

    if (ngx_http_axion_call(ctx, remote, &reserved) != NGX_OK) {
        axion_failure_set(&ctx->failure, AXION_ERR_NO_MEMORY, NULL, NULL);
        ngx_http_axion_fail(ctx);
        return 1;
    }

    ctx->state = NGX_HTTP_AXION_SUBMITTED;
    ctx->engine_name = remote->name;
    ctx->unlisted = !ngx_http_axion_remote_lists(remote, ctx);

    if (remote->backup) {
        (void) ngx_atomic_fetch_add(&remote->stats->overflows, 1);
    }

    if (ctx->stand_in.data != ctx->asked.data) {
        ngx_http_axion_count_fallback(ctx);
    }

    ngx_http_axion_count_stream(ctx, 1);
    ctx->active = 1;

    ngx_http_axion_set_timer(ctx);

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "axion: called remote \"%V\"", &remote->label);

    return 1;
}


/* The same for what engines cannot do: if not as it was asked for, as one for
 * the first of the models that stand in.  Each turn that finds a remote and
 * does not call it has found it too dear, and it is not found again. */
ngx_uint_t
ngx_http_axion_overflow_only(ngx_http_axion_ctx_t *ctx)
{
    do {
        if (ngx_http_axion_overflow(ctx, NULL)) {
            return 1;
        }

    } while (ngx_http_axion_stand_in(ctx));

    return 0;
}


/* The refusal where remotes have the model, and the prompt is too long for
 * each of them. */
void
ngx_http_axion_remote_too_long(ngx_http_axion_ctx_t *ctx)
{
    axion_failure_set(&ctx->failure, AXION_ERR_CONTEXT_LENGTH, NULL,
                      "the prompt has about %u tokens, more than the context "
                      "of any server that this model has here",
                      ngx_http_axion_estimate(ctx,
                                              NGX_HTTP_AXION_TOKEN_BYTES));
}


/*
 * Bounds what the remote may answer by what the tenant may use, before it is
 * asked.  NGX_OK; NGX_DONE: the request waits for its tenant's share, has
 * been sent on another way or is over, and is not to be touched.
 */
static ngx_int_t
ngx_http_axion_reserve(ngx_http_axion_ctx_t *ctx,
    ngx_http_axion_remote_t *remote, ngx_http_axion_reserved_t *reserved)
{
    uint32_t                 context;
    uint64_t                 wanted, each;
    struct axion_limit_time  now;

    context = ngx_http_axion_remote_context(ctx, remote);

    reserved->prompt_tokens = ngx_http_axion_estimate(ctx,
                                                      remote->token_bytes);
    reserved->max_tokens = ctx->parsed.max_tokens;
    reserved->cut = 0;

    if (context != 0) {
        context -= reserved->prompt_tokens;

        if (reserved->max_tokens == 0 || reserved->max_tokens > context) {
            reserved->max_tokens = context;
        }
    }

    if (ctx->lease.id == 0) {
        return NGX_OK;
    }

    (void) ngx_http_axion_lease_send(ctx, NULL);

    if (ctx->granted != AXION_NEVER) {

        if (ctx->granted <= reserved->prompt_tokens) {

            /* as if an engine had counted them: it comes back here */

            ctx->need_prompt = reserved->prompt_tokens;
            ngx_http_axion_limits_regrow(ctx);
            return NGX_DONE;
        }

        now = axion_limit_now();
        axion_balances_know(ctx->main->balances,
                            ngx_http_axion_limits_of(ctx), &now, &ctx->lease,
                            reserved->prompt_tokens);

        /* the bound that a remote has is that of each choice */

        wanted = (reserved->max_tokens != 0) ? reserved->max_tokens
                                             : NGX_HTTP_AXION_REMOTE_ANSWER;
        wanted *= ctx->parsed.n_answers;

        if (ngx_http_axion_reserve_answer(ctx, reserved->prompt_tokens,
                                          wanted)
            != NGX_OK)
        {
            return NGX_DONE;
        }

        each = (ctx->granted - reserved->prompt_tokens)
               / ctx->parsed.n_answers;

        if (each == 0) {
            ctx->need_prompt = reserved->prompt_tokens;
            ngx_http_axion_lease_end(ctx);
            ctx->limit_refused = 1;
            ngx_http_axion_limits_explain(ctx, &ctx->failure);
            ngx_http_axion_fail(ctx);
            return NGX_DONE;
        }

        if (reserved->max_tokens == 0 || each < reserved->max_tokens) {
            reserved->max_tokens = (uint32_t) ngx_min(each, UINT32_MAX);
            reserved->cut = 1;
        }
    }

    axion_balances_send(ctx->main->balances, &ctx->lease, remote->number);

    return NGX_OK;
}


/* NGX_AGAIN: it waits for the tenant's share, and comes back. */
static ngx_int_t
ngx_http_axion_reserve_answer(ngx_http_axion_ctx_t *ctx,
    uint32_t prompt_tokens, uint64_t wanted)
{
    uint64_t                 n;
    ngx_int_t                rc;
    ngx_uint_t               i;
    struct axion_failure     failure;
    struct axion_limit_time  now;

    ctx->quota_away = 0;
    wanted += prompt_tokens;

    /* less than was asked for is all there is; the last answer says why */

    for (i = 0; i < NGX_HTTP_AXION_REMOTE_ASKS && wanted > ctx->granted; i++) {

        now = axion_limit_now();
        n = axion_balances_more(ctx->main->balances,
                                ngx_http_axion_limits_of(ctx), &now,
                                &ctx->lease, wanted - ctx->granted,
                                &ctx->verdict);
        ctx->granted += n;

        if (n != 0) {
            continue;
        }

        if (!ctx->verdict.lack
            || ctx->regrown + 1 >= NGX_HTTP_AXION_LIMIT_REGROW)
        {
            break;
        }

        /* with what is there it would be answered, if not for so long */

        failure = ctx->failure;
        rc = ngx_http_axion_quota_lack(ctx, 0, wanted - ctx->granted);
        ctx->failure = failure;

        if (rc == NGX_AGAIN) {
            ctx->need_prompt = prompt_tokens;
            ctx->state = NGX_HTTP_AXION_QUEUED;
            ngx_http_axion_set_timer(ctx);
            return NGX_AGAIN;
        }

        if (rc == NGX_DECLINED) {
            ctx->quota_away = 1;
            break;
        }
    }

    ngx_http_axion_quota_forget(ctx);

    if (ctx->verdict.low) {
        ngx_http_axion_quota_low(ctx);
    }

    return NGX_OK;
}


/* As if it had not been asked. */
static void
ngx_http_axion_forget_call(ngx_http_axion_ctx_t *ctx)
{
    ngx_http_axion_unlink(ctx);

    /* rendered, but not sent */

    if (ctx->filled != NULL) {
        *ctx->last = ctx->free;
        ctx->free = ctx->filled;
        ctx->filled = NULL;
        ctx->last = &ctx->filled;
    }

    ctx->response.incomplete = NULL;

    ngx_memzero(&ctx->usage, sizeof(struct axion_cq_done));
    ctx->state = NGX_HTTP_AXION_READING;
    ctx->stand_in = ctx->asked;
    ctx->accepted = 0;
    ctx->model = NULL;
    ctx->unlisted = 0;
    ctx->tokens = 0;
    ctx->first_us = 0;
    ctx->last_us = 0;
    ctx->cut = AXION_LIMIT_NONE;

    (void) ngx_http_axion_lease_send(ctx, NULL);
}


/* The call is stopped and nothing of its answer was sent.  May end the
 * request. */
void
ngx_http_axion_remote_failed(ngx_http_axion_ctx_t *ctx,
    struct axion_failure *failure)
{
    int  error;

    ngx_http_axion_forget_call(ctx);

    /* what is wrong with the request is wrong everywhere */

    if (failure->error != AXION_ERR_REMOTE_REJECTED) {

        if (ctx->parsed.remote_only) {

            if (ngx_http_axion_overflow_only(ctx)) {
                return;
            }

        } else if (ngx_http_axion_overflow(ctx, NULL)) {
            return;
        }

        if (!ctx->parsed.remote_only && !ctx->spilled
            && (ngx_http_axion_route(ctx, &error) != NULL
                || ctx->stand_in.data != ctx->asked.data))
        {
            ngx_http_axion_dispatch(ctx);
            return;
        }
    }

    ngx_http_axion_lease_end(ctx);

    ctx->failure = *failure;
    ngx_http_axion_fail(ctx);
}
