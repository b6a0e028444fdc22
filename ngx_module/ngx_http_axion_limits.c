/*
 * May this request start?  Its tenant's balance says yes with a lease, no, or
 * not yet: then the request has a place in the tenant's queue and asks again
 * when the limit that stands in its way should have room, until the wait that
 * the tenant's `queue` allows is over.
 *
 * The lease is a guess: the bytes of the prompt say about how many tokens it
 * has.  The engine counts them before it does anything else; if the lease was
 * too small for them it says how many there are, and the request asks once
 * more, for exactly that.
 *
 * With axion_limit_dry_run the answer is always yes, and what it would have
 * been is counted.
 */


#include "ngx_module/ngx_http_axion_quota.h"


#define NGX_HTTP_AXION_LIMIT_POLL   20    /* ms, where nobody knows when */
#define NGX_HTTP_AXION_LIMIT_ALONE   3


static ngx_int_t ngx_http_axion_limits_ask(ngx_http_axion_ctx_t *ctx);
static ngx_int_t ngx_http_axion_limits_admitted(ngx_http_axion_ctx_t *ctx,
    uint64_t wanted);
static ngx_int_t ngx_http_axion_limits_lack(ngx_http_axion_ctx_t *ctx);
static ngx_int_t ngx_http_axion_limits_wait(ngx_http_axion_ctx_t *ctx);
static void ngx_http_axion_limits_refuse(ngx_http_axion_ctx_t *ctx);
static uint64_t ngx_http_axion_limits_answer(ngx_http_axion_ctx_t *ctx);


const struct axion_limits *
ngx_http_axion_limits_of(ngx_http_axion_ctx_t *ctx)
{
    static const struct axion_limits  none;

    return (ctx->who.tenant != NULL) ? &ctx->who.tenant->limits : &none;
}


/*
 * NGX_OK: go on, with a lease or without need of one; NGX_AGAIN: it waits, a
 * timer is set; NGX_DECLINED: refused, ctx->failure says why.
 */
ngx_int_t
ngx_http_axion_limits_admit(ngx_http_axion_ctx_t *ctx)
{
    if (ctx->who.tenant == NULL || ctx->main->balances == NULL) {
        return NGX_OK;
    }

    if (ctx->main->limits_closed) {
        axion_failure_set(&ctx->failure, AXION_ERR_QUEUE_FULL, NULL,
                          "the gateway cannot account for requests");
        return NGX_DECLINED;
    }

    return ngx_http_axion_limits_ask(ctx);
}


/* Tokens of the answer to ask for at first; more comes by top-ups. */
static uint64_t
ngx_http_axion_limits_answer(ngx_http_axion_ctx_t *ctx)
{
    uint64_t  n;

    n = ctx->parsed.max_tokens;

    return (n == 0 || n > 256) ? 256 : n;
}


static ngx_int_t
ngx_http_axion_limits_ask(ngx_http_axion_ctx_t *ctx)
{
    uint64_t    wanted;
    ngx_int_t   rc;
    ngx_uint_t  tries;

    wanted = ctx->parsed.payload_bytes / NGX_HTTP_AXION_TOKEN_BYTES + 32
             + ctx->parsed.n_media * NGX_HTTP_AXION_MEDIA_TOKENS
             + ngx_http_axion_limits_answer(ctx);

    tries = 0;

    do {
        rc = ngx_http_axion_limits_admitted(ctx, wanted);

        if (rc != NGX_OK || ctx->verdict.kind == AXION_LIMIT_NONE
            || !ctx->verdict.lack)
        {
            ngx_http_axion_quota_forget(ctx);
            break;
        }

        rc = ngx_http_axion_quota_lack(ctx, 1, wanted);

    } while (rc == NGX_OK && tries++ < NGX_HTTP_AXION_LIMIT_ALONE);

    if (rc == NGX_AGAIN) {
        return ngx_http_axion_limits_lack(ctx);
    }

    if (rc == NGX_DECLINED) {
        ngx_http_axion_quota_forget(ctx);

        if (ctx->lease.id != 0) {
            axion_balances_leave(ctx->main->balances, &ctx->lease,
                                 AXION_LIMIT_NONE);
        }

        return NGX_DECLINED;
    }

    if (ctx->lease.id == 0) {
        ngx_http_axion_limits_refuse(ctx);
        return NGX_DECLINED;
    }

    if (ctx->verdict.kind == AXION_LIMIT_NONE || ctx->conf->limit_dry_run) {

        if (ctx->verdict.low) {
            ngx_http_axion_quota_low(ctx);
        }

        return NGX_OK;
    }

    return ngx_http_axion_limits_wait(ctx);
}


/* Asks the balance; NGX_DECLINED only where it has no room. */
static ngx_int_t
ngx_http_axion_limits_admitted(ngx_http_axion_ctx_t *ctx, uint64_t wanted)
{
    int                        rc;
    struct axion_payer         payer;
    struct axion_limit_time    now;
    const struct axion_price  *price;

    payer.number = ctx->who.tenant->number;
    payer.name = ctx->who.tenant->name;
    payer.limits = ngx_http_axion_limits_of(ctx);

    price = ngx_http_axion_find_price(ctx->main, &ctx->parsed.served);
    now = axion_limit_now();

    rc = axion_balances_admit(ctx->main->balances, &payer, price, &now,
                              wanted,
                              ctx->conf->limit_dry_run ? AXION_ADMIT_FORCE : 0,
                              &ctx->lease, &ctx->granted, &ctx->verdict);

    if (rc != AXION_OK) {
        axion_failure_set(&ctx->failure, AXION_ERR_QUEUE_FULL, NULL,
                          "the gateway's tables of tenants and requests "
                          "have no room for this one");
        return NGX_DECLINED;
    }

    return NGX_OK;
}


/* It waits for the tenant's share to grow, linked to it. */
static ngx_int_t
ngx_http_axion_limits_lack(ngx_http_axion_ctx_t *ctx)
{
    ctx->state = NGX_HTTP_AXION_QUEUED;

    ngx_http_axion_set_timer(ctx);

    return NGX_AGAIN;
}


static ngx_int_t
ngx_http_axion_limits_wait(ngx_http_axion_ctx_t *ctx)
{
    if (!ctx->limit_waited) {
        ctx->limit_waited = 1;
        ctx->limit_deadline = ngx_current_msec
                              + ngx_http_axion_limits_of(ctx)->wait_ms;
    }

    ctx->state = NGX_HTTP_AXION_QUEUED;

    ngx_http_axion_set_timer(ctx);

    return NGX_AGAIN;
}


/* When a request that waits for a limit, or a stream that waits for more of
 * its lease, asks again. */
ngx_msec_t
ngx_http_axion_limits_until(ngx_http_axion_ctx_t *ctx, ngx_msec_t wait)
{
    uint64_t        ms;
    ngx_msec_int_t  left;

    ms = (ctx->verdict.wait_ns + 999999) / 1000000;

    if (ms < NGX_HTTP_AXION_LIMIT_POLL) {
        ms = NGX_HTTP_AXION_LIMIT_POLL;
    }

    if (ctx->share != NULL) {

        /* another worker may have asked: its answer wakes nobody here */

        return ngx_min(NGX_HTTP_AXION_LIMIT_POLL, wait);
    }

    left = (ngx_msec_int_t) (ctx->limit_deadline - ngx_current_msec);

    if (left < 1) {
        return 1;
    }

    return (ngx_msec_t) ngx_min(ngx_min(ms, (uint64_t) left), wait);
}


/* Its wait for a limit is not over. */
ngx_uint_t
ngx_http_axion_limits_patient(ngx_http_axion_ctx_t *ctx)
{
    return (ngx_msec_int_t) (ctx->limit_deadline - ngx_current_msec) > 0;
}


/* Another model's price is in force from here on; 0: the tenant's budget has
 * no room for it, and nothing has changed. */
ngx_uint_t
ngx_http_axion_limits_reprice(ngx_http_axion_ctx_t *ctx,
    const struct axion_text *model)
{
    uint64_t                 granted;
    struct axion_verdict     verdict;
    struct axion_limit_time  now;

    if (ctx->lease.id == 0) {
        return 1;
    }

    now = axion_limit_now();

    axion_balances_reprice(ctx->main->balances, ngx_http_axion_limits_of(ctx),
                           ngx_http_axion_find_price(ctx->main, model), &now,
                           &ctx->lease, &granted, &verdict);

    if (verdict.kind != AXION_LIMIT_NONE) {
        return 0;
    }

    ctx->granted = granted;

    return 1;
}


/* From the timer of a request that is QUEUED.  May end it. */
void
ngx_http_axion_limits_retry(ngx_http_axion_ctx_t *ctx)
{
    ngx_int_t  rc;

    if (ctx->need_prompt != 0) {
        ngx_http_axion_limits_regrow(ctx);
        return;
    }

    if (ctx->limit_waited && !ngx_http_axion_limits_patient(ctx)) {
        ngx_http_axion_quota_forget(ctx);

        if (ctx->lease.id != 0) {
            axion_balances_leave(ctx->main->balances, &ctx->lease,
                                 ctx->verdict.kind);
        }

        ngx_http_axion_limits_refuse(ctx);
        ngx_http_axion_fail(ctx);
        return;
    }

    rc = ngx_http_axion_limits_ask(ctx);

    if (rc == NGX_OK) {
        ctx->state = NGX_HTTP_AXION_READING;
        ngx_http_axion_dispatch(ctx);

    } else if (rc == NGX_DECLINED) {
        ngx_http_axion_fail(ctx);
    }
}


/* The engine has counted ctx->need_prompt tokens.  May end the request. */
void
ngx_http_axion_limits_regrow(ngx_http_axion_ctx_t *ctx)
{
    uint64_t                    answer;
    ngx_int_t                   rc;
    ngx_uint_t                  tries;
    struct axion_limit_time     now;
    const struct axion_limits  *limits;

    limits = ngx_http_axion_limits_of(ctx);
    answer = ngx_http_axion_limits_answer(ctx);
    rc = NGX_OK;
    tries = 0;

    if (ctx->regrown++ == NGX_HTTP_AXION_LIMIT_REGROW) {
        axion_failure_set(&ctx->failure, AXION_ERR_LEASE_TOO_SMALL, NULL,
                          NULL);
        ngx_http_axion_fail(ctx);
        return;
    }

    do {
        now = axion_limit_now();

        axion_balances_grow(ctx->main->balances, limits, &now, &ctx->lease,
                            ctx->need_prompt, answer, &ctx->granted,
                            &ctx->verdict);

        if (ctx->verdict.kind == AXION_LIMIT_NONE || !ctx->verdict.lack) {
            break;
        }

        rc = ngx_http_axion_quota_lack(ctx, 0, ctx->need_prompt + answer);

    } while (rc == NGX_OK && tries++ < NGX_HTTP_AXION_LIMIT_ALONE);

    if (rc == NGX_AGAIN) {
        ctx->regrown--;
        (void) ngx_http_axion_limits_lack(ctx);
        return;
    }

    ngx_http_axion_quota_forget(ctx);

    if (rc == NGX_DECLINED) {
        ngx_http_axion_lease_end(ctx);
        ngx_http_axion_fail(ctx);
        return;
    }

    if (ctx->verdict.low) {
        ngx_http_axion_quota_low(ctx);
    }

    if (ctx->verdict.kind == AXION_LIMIT_NONE) {
        ctx->need_prompt = 0;
        ctx->state = NGX_HTTP_AXION_READING;
        ngx_http_axion_dispatch(ctx);
        return;
    }

    if (axion_limits_may_wait(limits, &ctx->verdict)
        && (!ctx->limit_waited || ngx_http_axion_limits_patient(ctx)))
    {
        ctx->regrown--;
        (void) ngx_http_axion_limits_wait(ctx);
        return;
    }

    ngx_http_axion_limits_refuse(ctx);
    ngx_http_axion_fail(ctx);
}


static void
ngx_http_axion_limits_refuse(ngx_http_axion_ctx_t *ctx)
{
    /* what was reserved is back before the headers say what is left */

    ngx_http_axion_lease_end(ctx);

    ctx->limit_refused = 1;
    ngx_http_axion_limits_explain(ctx, &ctx->failure);
}


/* What ctx->verdict means to a client. */
void
ngx_http_axion_limits_explain(ngx_http_axion_ctx_t *ctx,
    struct axion_failure *failure)
{
    int                          error;
    uint64_t                     ms;
    const struct axion_verdict  *v;

    static const char *const  names[AXION_LIMITS] = {
        "", "requests per time", "tokens per time", "prompt tokens per time",
        "completion tokens per time", "requests at once",
        "tokens for the day", "tokens for the month", "cost for the day",
        "cost for the month"
    };

    v = &ctx->verdict;

    if (ctx->quota_away) {
        axion_failure_set(failure, AXION_ERR_QUOTA_UNAVAILABLE, NULL, NULL);
        return;
    }

    if (v->kind >= AXION_LIMIT_BUDGET_DAY) {
        error = AXION_ERR_QUOTA_EXCEEDED;

    } else if (v->kind == AXION_LIMIT_CONCURRENCY) {
        error = AXION_ERR_CONCURRENCY_LIMITED;

    } else {
        error = AXION_ERR_RATE_LIMITED;
    }

    if (v->wait_ns == AXION_NEVER) {
        axion_failure_set(failure, AXION_ERR_LEASE_TOO_SMALL, NULL,
                          "the prompt's %u tokens never fit into the limit "
                          "of %s", ctx->need_prompt, names[v->kind]);
        failure->retry_after_ms = AXION_RETRY_NEVER;
        return;
    }

    if (v->kind >= AXION_LIMIT_COST_DAY) {
        axion_failure_set(failure, error, NULL, "the limit of %s is reached",
                          names[v->kind]);

    } else {
        axion_failure_set(failure, error, NULL,
                          "the limit of %s is reached: %llu, %llu left",
                          names[v->kind], (unsigned long long) v->limit,
                          (unsigned long long) v->left);
    }

    ms = (v->wait_ns + 999999) / 1000000;

    failure->retry_after_ms = (uint32_t) ngx_min(ms, AXION_RETRY_NEVER - 1);
}
