/*
 * The LOG phase: every request under axion_pass is counted once, with the
 * status that its client got, nginx's own refusals included; and what the
 * engine did for it.  Tokens are counted as they were put on the ring, also
 * for a client that went away in the middle.
 */


#include "ngx_module/ngx_http_axion_limits.h"
#include "ngx_module/ngx_http_axion_zone.h"


static void ngx_http_axion_log_answer(ngx_http_axion_stats_t *stats,
    ngx_http_axion_ctx_t *ctx);


ngx_int_t
ngx_http_axion_log_handler(ngx_http_request_t *r)
{
    ngx_uint_t                   status, class;
    ngx_http_axion_ctx_t        *ctx;
    ngx_http_axion_stats_t      *stats;
    ngx_http_axion_endpoint_e    endpoint;
    ngx_http_axion_loc_conf_t   *alcf;
    ngx_http_axion_main_conf_t  *amcf;

    alcf = ngx_http_get_module_loc_conf(r, ngx_http_axion_module);

    if (alcf->upstream == NULL || r != r->main) {
        return NGX_OK;
    }

    amcf = ngx_http_get_module_main_conf(r, ngx_http_axion_module);
    stats = ngx_http_axion_stats(amcf);

    ctx = ngx_http_get_module_ctx(r, ngx_http_axion_module);
    endpoint = (ctx != NULL) ? ctx->endpoint : NGX_HTTP_AXION_OTHER;

    status = r->err_status ? r->err_status : r->headers_out.status;
    class = status / 100;

    if (class > 5) {
        class = 0;
    }

    (void) ngx_atomic_fetch_add(&stats->requests[endpoint][class], 1);

    if (ctx != NULL && ctx->accepted) {
        ngx_http_axion_log_answer(stats, ctx);
        ngx_http_axion_observe_left(ctx);
        ngx_http_axion_limits_log(ctx);
    }

    return NGX_OK;
}


static void
ngx_http_axion_log_answer(ngx_http_axion_stats_t *stats,
    ngx_http_axion_ctx_t *ctx)
{
    uint64_t    ttft;
    ngx_uint_t  i;

    (void) ngx_atomic_fetch_add(&stats->prompt_tokens,
                                ctx->usage.prompt_tokens);
    (void) ngx_atomic_fetch_add(&stats->cached_tokens,
                                ctx->usage.cached_tokens);
    (void) ngx_atomic_fetch_add(&stats->completion_tokens,
                                ctx->finished ? ctx->usage.completion_tokens
                                              : ctx->tokens);

    if (ctx->first_us == 0) {
        return;
    }

    ttft = ctx->first_us - ctx->started_us;

    for (i = 0; i < NGX_HTTP_AXION_TTFT_BOUNDS; i++) {
        if (ttft <= ngx_http_axion_ttft_bounds_us[i]) {
            break;
        }
    }

    (void) ngx_atomic_fetch_add(&stats->ttft[i], 1);
    (void) ngx_atomic_fetch_add(&stats->ttft_sum_us, ttft);
}
