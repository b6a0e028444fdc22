/*
 * What the ring says of a lease, and the leases of those who are gone.
 *
 * The engine debits a lease token by token and asks for more before it runs
 * out (LEASE_LOW).  A top-up comes from the tenant's balance; a refusal ends
 * the stream at its last token; where the tenant's `queue` allows a wait, no
 * answer leaves the stream parked, and its timer asks again.
 *
 * A lease ends with the engine's last event of its stream, whether its
 * request is still there or not: a client that leaves hands its lease to the
 * engine's table of streams without a request, where DONE finds it.  A
 * channel that is lost ends all of its leases with what the ring has brought.
 *
 * Leases of processes that died are found by axion_balances_sweep(); the
 * engine's journal says what they spent, and those that it does not know
 * after a grace, or that nobody speaks for, are charged in full.
 */


#include "ngx_module/ngx_http_axion_quota.h"


#define NGX_HTTP_AXION_GRACE_NS    (5 * 1000000000ull)
#define NGX_HTTP_AXION_FORFEIT_NS  (60 * 1000000000ull)

#define NGX_HTTP_AXION_JOURNAL_NS  (30 * 1000000000ull)

#define NGX_HTTP_AXION_ALONE_TRIES  3


static ngx_int_t ngx_http_axion_lease_more(ngx_http_axion_ctx_t *ctx,
    const struct axion_limits *limits, uint64_t *n);
static void ngx_http_axion_lease_settle(ngx_http_axion_main_conf_t *amcf,
    ngx_http_axion_left_t *left);
static int ngx_http_axion_lease_recover(
    ngx_http_axion_main_conf_t *amcf, const struct axion_limit_time *now,
    const struct axion_journal_record *record);
static ngx_http_axion_left_t *ngx_http_axion_lease_find(
    ngx_http_axion_engine_t *engine, axion_stream_id stream);


static const struct axion_limits  ngx_http_axion_no_limits;


/* Before every SUBMIT: the tokens that the engine may spend; the lease is
 * that engine's from now on (NULL: nobody's again). */
uint64_t
ngx_http_axion_lease_send(ngx_http_axion_ctx_t *ctx,
    ngx_http_axion_engine_t *engine)
{
    if (ctx->lease.id == 0) {
        return AXION_LEASE_UNLIMITED;
    }

    axion_balances_send(ctx->main->balances, &ctx->lease,
                        engine != NULL ? engine->number : 0);

    return ctx->granted == AXION_NEVER ? AXION_LEASE_UNLIMITED : ctx->granted;
}


void
ngx_http_axion_lease_accepted(ngx_http_axion_ctx_t *ctx)
{
    struct axion_limit_time  now;

    if (ctx->lease.id == 0) {
        return;
    }

    if (ctx->granted != AXION_NEVER) {
        now = axion_limit_now();
        axion_balances_know(ctx->main->balances,
                            ngx_http_axion_limits_of(ctx), &now, &ctx->lease,
                            ctx->usage.prompt_tokens);
    }

    ngx_http_axion_lease_tokens(ctx);
}


void
ngx_http_axion_lease_tokens(ngx_http_axion_ctx_t *ctx)
{
    if (ctx->lease.id != 0) {
        axion_balances_seen(ctx->main->balances, &ctx->lease,
                            ctx->usage.prompt_tokens,
                            ctx->usage.cached_tokens, ctx->tokens);
    }
}


/* Tokens from the balance, that nodes may share: NGX_AGAIN while the store
 * is asked; else *n, 0 with ctx->verdict or since the store is away. */
static ngx_int_t
ngx_http_axion_lease_more(ngx_http_axion_ctx_t *ctx,
    const struct axion_limits *limits, uint64_t *n)
{
    ngx_int_t                rc;
    ngx_uint_t               tries;
    struct axion_failure     failure;
    struct axion_limit_time  now;

    tries = 0;

    do {
        now = axion_limit_now();

        *n = axion_balances_more(ctx->main->balances, limits, &now,
                                 &ctx->lease, ctx->wanted, &ctx->verdict);

        if (*n != 0 || !ctx->verdict.lack) {
            break;
        }

        /* a stream that must end here ends well: this is not its failure */

        failure = ctx->failure;
        rc = ngx_http_axion_quota_lack(ctx, 0, ctx->wanted);
        ctx->failure = failure;

        if (rc == NGX_AGAIN) {
            return NGX_AGAIN;
        }

        ctx->quota_away = (rc == NGX_DECLINED);

    } while (rc == NGX_OK && tries++ < NGX_HTTP_AXION_ALONE_TRIES);

    ngx_http_axion_quota_forget(ctx);

    if (ctx->verdict.low) {
        ngx_http_axion_quota_low(ctx);
    }

    return NGX_OK;
}


/* The engine asks for `wanted` more, or the timer does for a parked stream:
 * then it is 0. */
void
ngx_http_axion_lease_low(ngx_http_axion_ctx_t *ctx, uint64_t wanted)
{
    uint64_t                    n;
    const struct axion_limits  *limits;

    if (ctx->lease.id == 0 || ctx->granted == AXION_NEVER) {

        /* a lease without a limit: unanswered, it would be parked */

        axion_client_topup(ctx->engine->client, ctx->stream,
                           AXION_LEASE_UNLIMITED);
        return;
    }

    if (wanted != 0) {
        ctx->wanted = wanted;
    }

    limits = ngx_http_axion_limits_of(ctx);

    if (!ctx->parked) {
        ctx->parked = 1;
        ctx->limit_deadline = ngx_current_msec + limits->wait_ms;
    }

    if (ngx_http_axion_lease_more(ctx, limits, &n) == NGX_AGAIN) {
        ngx_http_axion_set_timer(ctx);
        return;
    }

    if (n == 0 && !ctx->quota_away
        && axion_limits_may_wait(limits, &ctx->verdict)
        && ngx_http_axion_limits_patient(ctx))
    {
        ngx_http_axion_set_timer(ctx);
        return;
    }

    ctx->parked = 0;
    ctx->granted += n;
    ctx->cut = (n == 0) ? ctx->verdict.kind : AXION_LIMIT_NONE;

    axion_client_topup(ctx->engine->client, ctx->stream, n);
}


/* An engine's ERROR: 1 when the request is to ask for a larger lease. */
ngx_uint_t
ngx_http_axion_lease_too_small(ngx_http_axion_ctx_t *ctx,
    const struct axion_event *event)
{
    if (event->error.error != AXION_ERR_LEASE_TOO_SMALL
        || event->error.prompt_tokens == 0
        || ctx->state != NGX_HTTP_AXION_SUBMITTED || ctx->lease.id == 0)
    {
        return 0;
    }

    ctx->need_prompt = event->error.prompt_tokens;
    ctx->regrow = 1;
    ctx->state = NGX_HTTP_AXION_READING;
    ctx->stream = 0;
    ctx->tries--;

    (void) ngx_http_axion_lease_send(ctx, NULL);

    return 1;
}


/* The engine's last event; without DONE the ring has brought all there is. */
void
ngx_http_axion_lease_end(ngx_http_axion_ctx_t *ctx)
{
    uint32_t                 completion;
    struct axion_limit_time  now;

    ctx->parked = 0;
    ngx_http_axion_quota_forget(ctx);

    if (ctx->lease.id == 0) {
        return;
    }

    now = axion_limit_now();
    completion = ctx->finished ? ctx->usage.completion_tokens : ctx->tokens;

    if (ctx->usage.reason != AXION_FINISH_LEASE) {
        ctx->cut = AXION_LIMIT_NONE;
    }

    ctx->cost = axion_balances_settle(ctx->main->balances,
                                      ngx_http_axion_limits_of(ctx), &now,
                                      &ctx->lease, ctx->usage.prompt_tokens,
                                      ctx->usage.cached_tokens, completion,
                                      ctx->cut);
    ctx->settled = 1;
}


/* The request ends.  What an engine still works on is settled by DONE. */
void
ngx_http_axion_lease_detach(ngx_http_axion_ctx_t *ctx)
{
    ngx_uint_t              slot;
    ngx_http_axion_left_t  *left;

    ngx_http_axion_quota_forget(ctx);

    if (ctx->lease.id == 0) {
        return;
    }

    if (ctx->state == NGX_HTTP_AXION_QUEUED && ctx->need_prompt == 0) {
        axion_balances_leave(ctx->main->balances, &ctx->lease,
                             AXION_LIMIT_NONE);
        return;
    }

    slot = (uint32_t) ctx->stream;

    if (ctx->engine == NULL || ctx->stream == 0
        || slot >= NGX_HTTP_AXION_STREAMS)
    {
        ngx_http_axion_lease_end(ctx);
        return;
    }

    left = &ctx->engine->left[slot];

    left->stream = ctx->stream;
    left->lease = ctx->lease;
    left->prompt_tokens = ctx->usage.prompt_tokens;
    left->cached_tokens = ctx->usage.cached_tokens;
    left->completion_tokens = ctx->tokens;

    ngx_memzero(&ctx->lease, sizeof(struct axion_lease));
}


static ngx_http_axion_left_t *
ngx_http_axion_lease_find(ngx_http_axion_engine_t *engine,
    axion_stream_id stream)
{
    ngx_uint_t              slot;
    ngx_http_axion_left_t  *left;

    slot = (uint32_t) stream;

    if (engine->left == NULL || slot >= NGX_HTTP_AXION_STREAMS) {
        return NULL;
    }

    left = &engine->left[slot];

    return (left->stream == stream) ? left : NULL;
}


static void
ngx_http_axion_lease_settle(ngx_http_axion_main_conf_t *amcf,
    ngx_http_axion_left_t *left)
{
    struct axion_limit_time  now;

    now = axion_limit_now();

    (void) axion_balances_settle(amcf->balances, &ngx_http_axion_no_limits,
                                 &now, &left->lease, left->prompt_tokens,
                                 left->cached_tokens, left->completion_tokens,
                                 AXION_LIMIT_NONE);
    left->stream = 0;
}


/* An event of a stream whose request is gone. */
void
ngx_http_axion_lease_late(ngx_http_axion_engine_t *engine,
    const struct axion_event *event)
{
    ngx_http_axion_left_t  *left;

    left = ngx_http_axion_lease_find(engine, event->id);
    if (left == NULL) {
        return;
    }

    switch (event->op) {

    case AXION_CQ_ACCEPTED:
        left->prompt_tokens = event->accepted.prompt_tokens;
        left->cached_tokens = event->accepted.cached_tokens;
        return;

    case AXION_CQ_TOKENS:
        left->completion_tokens += event->tokens.n_tokens;
        return;

    case AXION_CQ_DONE:
        left->prompt_tokens = event->done.prompt_tokens;
        left->cached_tokens = event->done.cached_tokens;
        left->completion_tokens = event->done.completion_tokens;
        ngx_http_axion_lease_settle(engine->main, left);
        return;

    case AXION_CQ_ERROR:
        ngx_http_axion_lease_settle(engine->main, left);
        return;

    default:
        return;
    }
}


/* The channel is closed: nothing more will be said. */
void
ngx_http_axion_lease_lost(ngx_http_axion_engine_t *engine)
{
    ngx_uint_t  i;

    if (engine->left == NULL || engine->main->balances == NULL) {
        return;
    }

    for (i = 0; i < NGX_HTTP_AXION_STREAMS; i++) {
        if (engine->left[i].stream != 0) {
            ngx_http_axion_lease_settle(engine->main, &engine->left[i]);
        }
    }
}


/*
 * What the engine knows of processes that died.  It may know of a death
 * before anybody here has looked for it, or while another process does: then
 * the record waits.  Looks are no measure of that: there is one with every
 * event of the ring, and the other process may be stopped meanwhile.  The
 * bound is for an engine that names a lease of one who lives.
 */
void
ngx_http_axion_lease_journal(ngx_http_axion_engine_t *engine)
{
    int                          rc;
    struct axion_limit_time      now;
    struct axion_journal_record  record;

    if (engine->main->balances == NULL || engine->client == NULL) {
        return;
    }

    now = axion_limit_now();

    while (axion_client_journal(engine->client, &record) == AXION_OK) {

        rc = ngx_http_axion_lease_recover(engine->main, &now, &record);

        if (rc == AXION_AGAIN
            && axion_balances_sweep(engine->main->balances, &now) != 0)
        {
            rc = ngx_http_axion_lease_recover(engine->main, &now, &record);
        }

        if (rc == AXION_AGAIN) {
            if (engine->journal_ns == 0) {
                engine->journal_ns = now.ns;
            }

            if (now.ns - engine->journal_ns < NGX_HTTP_AXION_JOURNAL_NS) {
                ngx_http_axion_limits_soon(engine->main);
                return;
            }
        }

        if (rc == AXION_OK) {
            ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                          "axion: lease %uL of a process that died is "
                          "settled by \"%V\": %uD+%uD tokens",
                          record.lease_id, &engine->name,
                          record.done.prompt_tokens,
                          record.done.completion_tokens);
        }

        engine->journal_ns = 0;
        axion_client_journal_settled(engine->client);
    }
}


static int
ngx_http_axion_lease_recover(ngx_http_axion_main_conf_t *amcf,
    const struct axion_limit_time *now,
    const struct axion_journal_record *record)
{
    return axion_balances_journal(amcf->balances, record->lease_id, now,
                                  record->done.prompt_tokens,
                                  record->done.cached_tokens,
                                  record->done.completion_tokens);
}


/* Now and then: who died, and whom nobody speaks for any more. */
void
ngx_http_axion_lease_bury(ngx_http_axion_main_conf_t *amcf)
{
    uint64_t                   before;
    ngx_uint_t                 i, n;
    struct axion_limit_time    now;
    ngx_http_axion_engine_t  **engine;

    now = axion_limit_now();

    n = axion_balances_sweep(amcf->balances, &now);

    if (n != 0) {
        ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                      "axion: a process died and left %ui leases", n);
    }

    n = 0;
    engine = amcf->engines.elts;

    for (i = 0; i < amcf->engines.nelts; i++) {

        if (engine[i]->link == NGX_HTTP_AXION_UP) {
            ngx_http_axion_lease_journal(engine[i]);
        }

        if (engine[i]->link != NGX_HTTP_AXION_UP
            || !axion_client_journal_complete(engine[i]->client)
            || now.ns < NGX_HTTP_AXION_GRACE_NS)
        {
            continue;
        }

        /* its journal was told on this channel, so before it was up */

        before = ngx_min(now.ns - NGX_HTTP_AXION_GRACE_NS, engine[i]->up_ns);

        n += axion_balances_forfeit(amcf->balances, engine[i]->number, before,
                                    &now);
    }

    if (now.ns > NGX_HTTP_AXION_FORFEIT_NS) {
        n += axion_balances_forfeit(amcf->balances, 0,
                                    now.ns - NGX_HTTP_AXION_FORFEIT_NS, &now);
    }

    if (n != 0) {
        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                      "axion: %ui leases of processes that died are charged "
                      "in full: no engine knows them", n);
    }
}
