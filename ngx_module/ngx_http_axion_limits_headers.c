/*
 * Limits in headers.  Every answer to a tenant with limits has OpenAI's
 * x-ratelimit-{limit,remaining,reset}-{requests,tokens}: of tokens the limit
 * with the least left.  A refusal that time can heal has Retry-After in
 * seconds and retry-after-ms; one that a client's patience cannot wait for
 * says x-should-retry: false, or its SDK would try again at once.
 */


#include "ngx_module/ngx_http_axion_limits.h"


/* SDKs take a longer Retry-After for no Retry-After. */
#define NGX_HTTP_AXION_RETRY_MAX     60000
#define NGX_HTTP_AXION_OVERLOAD_MIN  1000
#define NGX_HTTP_AXION_OVERLOAD_MAX  60000


static ngx_int_t ngx_http_axion_limit_header(ngx_http_request_t *r,
    const char *name, uint64_t value, ngx_uint_t duration);
static ngx_int_t ngx_http_axion_limit_view(ngx_http_request_t *r,
    const struct axion_limit_view *view, const char *const *names);
static uint64_t ngx_http_axion_overload_ms(const struct axion_board *board);
static void ngx_http_axion_overload(ngx_http_axion_ctx_t *ctx);


static ngx_int_t
ngx_http_axion_limit_header(ngx_http_request_t *r, const char *name,
    uint64_t value, ngx_uint_t duration)
{
    char              text[40];
    struct axion_out  out;

    axion_out_fixed(&out, text, sizeof(text));

    if (duration) {
        axion_out_duration(&out, value);

    } else {
        axion_out_u64(&out, value);
    }

    return ngx_http_axion_add_header(r, name, text, out.bytes);
}


static ngx_int_t
ngx_http_axion_limit_view(ngx_http_request_t *r,
    const struct axion_limit_view *view, const char *const *names)
{
    if (view->limit == 0) {
        return NGX_OK;
    }

    if (ngx_http_axion_limit_header(r, names[0], view->limit, 0) != NGX_OK
        || ngx_http_axion_limit_header(r, names[1], view->left, 0) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_axion_limit_header(r, names[2], view->reset_ms, 1);
}


ngx_int_t
ngx_http_axion_limits_headers(ngx_http_request_t *r,
    ngx_http_axion_ctx_t *ctx)
{
    struct axion_balance         balance;
    struct axion_limit_time      now;
    struct axion_limit_view      requests, tokens;
    const struct axion_tenant   *tenant;

    static const char *const  names[2][3] = {
        { "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests",
          "x-ratelimit-reset-requests" },
        { "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens",
          "x-ratelimit-reset-tokens" },
    };

    tenant = ctx->who.tenant;

    if (tenant == NULL || ctx->main->balances == NULL
        || tenant->limits.given == 0)
    {
        return NGX_OK;
    }

    if (!axion_balances_read(ctx->main->balances, tenant->number,
                             &tenant->name, &balance))
    {
        ngx_memzero(&balance, sizeof(struct axion_balance));
    }

    now = axion_limit_now();

    axion_limits_view(&balance, &tenant->limits, &now, &requests, &tokens);

    if (ngx_http_axion_limit_view(r, &requests, names[0]) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_axion_limit_view(r, &tokens, names[1]);
}


/*
 * How long until an engine has worked off its queue: tokens of an answer,
 * times answers that wait, over tokens a second.
 */
static uint64_t
ngx_http_axion_overload_ms(const struct axion_board *board)
{
    uint64_t  answer, rate, ms;

    rate = board->tokens_per_second_milli;

    if (rate == 0 || board->requests_done == 0) {
        return NGX_HTTP_AXION_OVERLOAD_MIN;
    }

    answer = board->completion_tokens_total / board->requests_done + 1;

    ms = answer * ((uint64_t) board->waiting + 1) * 1000000 / rate;

    return ngx_min(ngx_max(ms, NGX_HTTP_AXION_OVERLOAD_MIN),
                   NGX_HTTP_AXION_OVERLOAD_MAX);
}


/* A refusal that the engine did not put a time to. */
static void
ngx_http_axion_overload(ngx_http_axion_ctx_t *ctx)
{
    uint64_t                   ms, best;
    ngx_uint_t                 i;
    ngx_http_axion_engine_t  **engine;

    best = AXION_NEVER;
    engine = ctx->conf->upstream->engines.elts;

    for (i = 0; i < ctx->conf->upstream->engines.nelts; i++) {

        if (ngx_http_axion_engine_board(engine[i]) == NGX_OK) {
            ms = ngx_http_axion_overload_ms(&engine[i]->board);
            best = ngx_min(best, ms);
        }
    }

    if (best != AXION_NEVER) {
        ctx->failure.retry_after_ms = (uint32_t) best;
    }
}


/* Of ctx->failure. */
ngx_int_t
ngx_http_axion_retry_headers(ngx_http_axion_ctx_t *ctx)
{
    uint32_t               seconds;
    ngx_http_request_t    *r;
    struct axion_failure  *failure;

    r = ctx->request;
    failure = &ctx->failure;

    if (failure->retry_after_ms == 0 && ctx->conf->upstream != NULL
        && (failure->error == AXION_ERR_QUEUE_FULL
            || failure->error == AXION_ERR_NO_STREAM_SLOT
            || failure->error == AXION_ERR_KV_EXHAUSTED
            || failure->error == AXION_ERR_DEADLINE))
    {
        ngx_http_axion_overload(ctx);
    }

    if (ctx->limit_refused
        && failure->retry_after_ms > NGX_HTTP_AXION_RETRY_MAX
        && ngx_http_axion_add_header(r, "x-should-retry", "false", 5)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    seconds = axion_retry_after_seconds(failure);

    if (seconds == 0) {
        return NGX_OK;
    }

    if (failure->retry_after_ms != 0
        && ngx_http_axion_limit_header(r, "retry-after-ms",
                                       failure->retry_after_ms, 0)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_axion_limit_header(r, "Retry-After", seconds, 0);
}
