/*
 * Between requests and the store.  A request whose tenant's share is too
 * small for it, or a stream that wants more, waits here for the store's
 * answer; what they need is asked for at once, together.  A share that gets
 * low is asked for before anybody needs it.
 *
 * One question of a tenant is open per node.  Where another worker has asked,
 * those who wait look at the balance every few milliseconds instead.
 *
 * While the store is away nobody waits for it.  fail=closed: who lacks a
 * share is refused with an error of its own; fail=open: the node grants to
 * itself as if the others stood still.
 *
 * What requests do when they are woken may ask again, but never sends, and
 * so never loses the connection: sending is left to the event loop.
 */


#include "ngx_module/ngx_http_axion_quota.h"
#include "ngx_module/ngx_http_axion_zone.h"


#define NGX_HTTP_AXION_QUOTA_IDLE      1000
#define NGX_HTTP_AXION_QUOTA_UNUSED    3000
#define NGX_HTTP_AXION_QUOTA_PATIENCE  50


static ngx_http_axion_share_t *ngx_http_axion_quota_share(
    ngx_http_axion_ctx_t *ctx);
static ngx_http_axion_share_t *ngx_http_axion_quota_find(
    ngx_http_axion_quota_t *quota, const struct axion_tenant *tenant);
static ngx_http_axion_share_t *ngx_http_axion_quota_make(
    ngx_http_axion_quota_t *quota, const struct axion_text *name,
    uint64_t number);
static struct axion_payer ngx_http_axion_quota_payer(
    ngx_http_axion_share_t *share);
static void ngx_http_axion_quota_ask(ngx_http_axion_quota_t *quota,
    ngx_http_axion_share_t *share, ngx_uint_t give);
static void ngx_http_axion_quota_alone(ngx_http_axion_ctx_t *ctx,
    ngx_http_axion_share_t *share, ngx_uint_t requests, uint64_t tokens);
static void ngx_http_axion_quota_wake(ngx_http_axion_share_t *share);
static void ngx_http_axion_quota_left_visit(void *context,
    const struct axion_text *name, const struct axion_balance *balance);
static ngx_uint_t ngx_http_axion_quota_unused(ngx_http_axion_quota_t *quota,
    ngx_http_axion_share_t *share);


static ngx_http_axion_share_t *
ngx_http_axion_quota_find(ngx_http_axion_quota_t *quota,
    const struct axion_tenant *tenant)
{
    ngx_rbtree_key_t         key;
    ngx_rbtree_node_t       *node, *sentinel;
    ngx_http_axion_share_t  *share;

    key = (ngx_rbtree_key_t) tenant->number;
    node = quota->tree.root;
    sentinel = quota->tree.sentinel;

    while (node != sentinel) {

        if (key != node->key) {
            node = (key < node->key) ? node->left : node->right;
            continue;
        }

        share = ngx_rbtree_data(node, ngx_http_axion_share_t, node);

        if (share->name_bytes == tenant->name.bytes
            && ngx_memcmp(share->name, tenant->name.data, share->name_bytes)
               == 0)
        {
            return share;
        }

        /* equal keys are on the right */

        node = node->right;
    }

    return NULL;
}


/* NULL: no memory. */
static ngx_http_axion_share_t *
ngx_http_axion_quota_make(ngx_http_axion_quota_t *quota,
    const struct axion_text *name, uint64_t number)
{
    ngx_http_axion_share_t  *share;

    if (name->bytes > sizeof(share->name)) {
        return NULL;
    }

    share = ngx_calloc(sizeof(ngx_http_axion_share_t), ngx_cycle->log);
    if (share == NULL) {
        return NULL;
    }

    share->number = number;
    share->name_bytes = name->bytes;
    ngx_memcpy(share->name, name->data, name->bytes);
    share->used = ngx_current_msec;
    ngx_queue_init(&share->waiting);

    share->node.key = (ngx_rbtree_key_t) number;
    ngx_rbtree_insert(&quota->tree, &share->node);

    share->next = quota->shares;
    quota->shares = share;

    return share;
}


/* The request's tenant's; NULL: no memory. */
static ngx_http_axion_share_t *
ngx_http_axion_quota_share(ngx_http_axion_ctx_t *ctx)
{
    ngx_http_axion_quota_t     *quota;
    ngx_http_axion_share_t     *share;
    const struct axion_tenant  *tenant;

    quota = ctx->main->quota;
    tenant = ctx->who.tenant;

    share = ngx_http_axion_quota_find(quota, tenant);

    if (share == NULL) {
        share = ngx_http_axion_quota_make(quota, &tenant->name,
                                          tenant->number);
        if (share == NULL) {
            return NULL;
        }
    }

    share->limits = *ngx_http_axion_limits_of(ctx);
    share->used = ngx_current_msec;

    return share;
}


static struct axion_payer
ngx_http_axion_quota_payer(ngx_http_axion_share_t *share)
{
    struct axion_payer  payer;

    payer.number = share->number;
    payer.name.data = share->name;
    payer.name.bytes = share->name_bytes;
    payer.limits = &share->limits;

    return payer;
}


/*
 * ctx->verdict says that a share is too small for the request, which needs so
 * many tokens.  NGX_AGAIN: it is linked here, and its timer may look again;
 * NGX_OK: the node has granted to itself, ask the balance again;
 * NGX_DECLINED: nothing can be had, ctx->failure says why.
 */
ngx_int_t
ngx_http_axion_quota_lack(ngx_http_axion_ctx_t *ctx, ngx_uint_t requests,
    uint64_t tokens)
{
    ngx_http_axion_quota_t    *quota;
    ngx_http_axion_share_t    *share;
    const struct axion_price  *price;

    quota = ctx->main->quota;
    share = (quota != NULL) ? ngx_http_axion_quota_share(ctx) : NULL;

    if (share == NULL) {
        axion_failure_set(&ctx->failure, AXION_ERR_NO_MEMORY, NULL, NULL);
        return NGX_DECLINED;
    }

    if (quota->away && quota->fail_open) {
        ngx_http_axion_quota_alone(ctx, share, requests, tokens);
        return NGX_OK;
    }

    if (quota->away) {
        (void) ngx_atomic_fetch_add(&ctx->main->zone->stats.quota_refused, 1);
        axion_failure_set(&ctx->failure, AXION_ERR_QUOTA_UNAVAILABLE, NULL,
                          NULL);
        ctx->failure.retry_after_ms = (uint32_t) ngx_max(quota->backoff, 1000);
        return NGX_DECLINED;
    }

    if (ctx->share == NULL) {
        price = ngx_http_axion_find_price(ctx->main, &ctx->parsed.served);
        axion_demand_add(&share->demand, (unsigned) requests, tokens, price);

        ctx->share = share;
        ngx_queue_insert_tail(&share->waiting, &ctx->lacking);
    }

    ngx_http_axion_quota_ask(quota, share, 0);

    return NGX_AGAIN;
}


static void
ngx_http_axion_quota_alone(ngx_http_axion_ctx_t *ctx,
    ngx_http_axion_share_t *share, ngx_uint_t requests, uint64_t tokens)
{
    struct axion_payer        payer;
    struct axion_demand       demand;
    struct axion_limit_time   now;
    const struct axion_price  *price;

    ngx_memzero(&demand, sizeof(struct axion_demand));

    price = ngx_http_axion_find_price(ctx->main, &ctx->parsed.served);
    axion_demand_add(&demand, (unsigned) requests, tokens, price);

    payer = ngx_http_axion_quota_payer(share);
    now = axion_limit_now();

    axion_balances_alone(ctx->main->balances, &payer, &now, &demand);
    share->owing = 1;

    (void) ngx_atomic_fetch_add(&ctx->main->zone->stats.quota_alone, 1);
}


/* ctx->verdict.low: nobody waits for it yet. */
void
ngx_http_axion_quota_low(ngx_http_axion_ctx_t *ctx)
{
    ngx_http_axion_quota_t  *quota;
    ngx_http_axion_share_t  *share;

    quota = ctx->main->quota;

    if (quota == NULL || quota->state != NGX_HTTP_AXION_REDIS_READY) {
        return;
    }

    share = ngx_http_axion_quota_share(ctx);

    if (share != NULL) {
        ngx_http_axion_quota_ask(quota, share, 0);
    }
}


/* The request does not wait for a share any more. */
void
ngx_http_axion_quota_forget(ngx_http_axion_ctx_t *ctx)
{
    if (ctx->share != NULL) {
        ngx_queue_remove(&ctx->lacking);
        ctx->share = NULL;
    }
}


static void
ngx_http_axion_quota_ask(ngx_http_axion_quota_t *quota,
    ngx_http_axion_share_t *share, ngx_uint_t give)
{
    struct axion_payer       payer;
    struct axion_limit_time  now;

    if (share->asking || quota->state != NGX_HTTP_AXION_REDIS_READY) {
        return;
    }

    payer = ngx_http_axion_quota_payer(share);
    now = axion_limit_now();

    if (!axion_balances_ask(quota->main->balances, &payer, &now,
                            &share->demand,
                            (quota->timeout + NGX_HTTP_AXION_QUOTA_PATIENCE)
                            * 1000000ull,
                            (int) give, &share->ask))
    {
        return;
    }

    ngx_memzero(&share->demand, sizeof(struct axion_demand));

    if (ngx_http_axion_redis_send(quota, share) != NGX_OK) {
        axion_balances_unanswered(quota->main->balances, &payer, &share->ask);
        return;
    }

    share->asking = 1;
    share->deadline = ngx_current_msec + quota->timeout;
    ngx_queue_insert_tail(&quota->asked, &share->link);

    (void) ngx_atomic_fetch_add(&quota->main->zone->stats.quota_asks, 1);
}


void
ngx_http_axion_quota_answered(ngx_http_axion_quota_t *quota,
    ngx_http_axion_share_t *share, const struct axion_answer *answer)
{
    int                      stale;
    struct axion_payer       payer;
    struct axion_limit_time  now;

    share->asking = 0;
    share->owing = 0;
    ngx_queue_remove(&share->link);

    payer = ngx_http_axion_quota_payer(share);
    now = axion_limit_now();

    (void) axion_balances_answer(quota->main->balances, &payer, &now,
                                 &share->ask, answer, &stale);

    (void) ngx_atomic_fetch_add(&quota->main->zone->stats.quota_answers, 1);

    if (stale) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "axion: the quota store knows more of tenant \"%*s\" "
                      "than \"%V\": an old copy of the file, or another "
                      "node has one; what was granted counts as spent",
                      (size_t) share->name_bytes, share->name,
                      &quota->main->limit_state);
    }

    ngx_http_axion_quota_wake(share);
}


/* Those who wait try again; each may end its request. */
static void
ngx_http_axion_quota_wake(ngx_http_axion_share_t *share)
{
    ngx_queue_t            woken, *q;
    ngx_connection_t      *c;
    ngx_http_axion_ctx_t  *ctx;

    ngx_queue_init(&woken);

    if (!ngx_queue_empty(&share->waiting)) {
        ngx_queue_add(&woken, &share->waiting);
        ngx_queue_init(&share->waiting);
    }

    while (!ngx_queue_empty(&woken)) {

        q = ngx_queue_head(&woken);
        ctx = ngx_queue_data(q, ngx_http_axion_ctx_t, lacking);

        ngx_http_axion_quota_forget(ctx);

        c = ctx->request->connection;
        ngx_http_set_log_request(c->log, ctx->request);

        if (ctx->state == NGX_HTTP_AXION_QUEUED) {
            ngx_http_axion_limits_retry(ctx);

        } else if (ctx->parked && ctx->engine != NULL) {
            ngx_http_axion_lease_low(ctx, 0);
            ngx_http_axion_set_timer(ctx);
        }

        ngx_http_run_posted_requests(c);
    }
}


/* The connection is there: whoever waits is asked for, and what the node has
 * granted to itself is owned up to. */
void
ngx_http_axion_quota_ready(ngx_http_axion_quota_t *quota)
{
    ngx_http_axion_share_t  *share;

    for (share = quota->shares; share != NULL; share = share->next) {
        if (share->owing || !ngx_queue_empty(&share->waiting)) {
            ngx_http_axion_quota_ask(quota, share, 0);
        }
    }
}


/* It is gone, or never came about; quota->away is set. */
void
ngx_http_axion_quota_lost(ngx_http_axion_quota_t *quota)
{
    struct axion_payer       payer;
    ngx_http_axion_share_t  *share;

    for (share = quota->shares; share != NULL; share = share->next) {

        if (share->asking) {
            share->asking = 0;
            ngx_queue_remove(&share->link);

            payer = ngx_http_axion_quota_payer(share);
            axion_balances_unanswered(quota->main->balances, &payer,
                                      &share->ask);
        }
    }

    for (share = quota->shares; share != NULL; share = share->next) {
        ngx_http_axion_quota_wake(share);
    }
}


/* ---- what idles ---- */


/* When a worker starts: leases that workers before it have left. */
void
ngx_http_axion_quota_left(ngx_http_axion_quota_t *quota)
{
    axion_balances_each(quota->main->balances, ngx_http_axion_quota_left_visit,
                        quota);
}


/* Giving back needs to know which limits there are, not how much; the first
 * request brings that.  Where an answer is missing it is the first request's
 * to ask for. */
static void
ngx_http_axion_quota_left_visit(void *context, const struct axion_text *name,
    const struct axion_balance *balance)
{
    ngx_http_axion_quota_t  *quota = context;

    ngx_uint_t               k;
    struct axion_limits      limits;
    ngx_http_axion_share_t  *share;

    if (balance->shares.permille == 0
        || balance->shares.serial != balance->shares.acked)
    {
        return;
    }

    ngx_memzero(&limits, sizeof(struct axion_limits));

    for (k = 0; k < AXION_WINDOWS; k++) {

        if (balance->shares.of[AXION_RATES + k].allowed != 0) {
            limits.budget[k] = AXION_LIMIT_MAX;
        }

        if (balance->shares.of[AXION_RATES + AXION_WINDOWS + k].allowed != 0) {
            limits.cost_budget[k] = AXION_COST_MAX;
        }
    }

    if (!axion_limits_by_lease(&limits)) {
        return;
    }

    share = ngx_http_axion_quota_make(quota, name,
                                      axion_tenant_number(name->data,
                                                          name->bytes));
    if (share != NULL) {
        share->limits = limits;
        share->requests = balance->requests;
    }
}


/*
 * Gives back the leases of tenants that no worker of the node has had a
 * request of lately, and forgets who has nothing to give back.
 */
void
ngx_http_axion_quota_idle(ngx_event_t *ev)
{
    ngx_http_axion_quota_t  *quota = ev->data;

    ngx_http_axion_share_t  *share, **link;

    link = &quota->shares;

    while (quota->state == NGX_HTTP_AXION_REDIS_READY && *link != NULL) {

        share = *link;

        if (ngx_http_axion_quota_unused(quota, share)) {
            *link = share->next;
            ngx_rbtree_delete(&quota->tree, &share->node);
            ngx_free(share);
            continue;
        }

        link = &share->next;
    }

    if (!ngx_exiting) {
        ngx_add_timer(ev, NGX_HTTP_AXION_QUOTA_IDLE);
    }
}


/* 1: nothing is to be done for it until its tenant's next request. */
static ngx_uint_t
ngx_http_axion_quota_unused(ngx_http_axion_quota_t *quota,
    ngx_http_axion_share_t *share)
{
    struct axion_payer       payer;
    struct axion_balance     balance;
    struct axion_limit_time  now;

    if (ngx_current_msec - share->used < NGX_HTTP_AXION_QUOTA_UNUSED
        || share->asking || share->owing || !ngx_queue_empty(&share->waiting))
    {
        return 0;
    }

    payer = ngx_http_axion_quota_payer(share);

    if (!axion_balances_read(quota->main->balances, payer.number, &payer.name,
                             &balance))
    {
        return 1;
    }

    if (balance.active != 0 || balance.requests != share->requests) {
        share->requests = balance.requests;
        share->used = ngx_current_msec;
        return 0;
    }

    now = axion_limit_now();

    if (!axion_shares_spare(&balance, &share->limits, &now)) {
        return 1;
    }

    ngx_http_axion_quota_ask(quota, share, 1);

    return 0;
}
