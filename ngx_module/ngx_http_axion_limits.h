/*
 * Limits of tenants in the module.  A request under a tenant has a lease in
 * the mapped balances (api/balances.h) from before it is sent to an engine
 * until the engine's last word on it:
 *
 *   _limits.c         asking for it, waiting for it, being refused
 *   _lease.c          what the ring says of it; streams whose client left;
 *                     those that other processes left behind
 *   _limits_conf.c    directives, the file, a process's start and end
 *   _limits_headers.c x-ratelimit-*, Retry-After, an overloaded engine's
 *   _limits_metrics.c counters by tenant, key and model; axion_status
 *
 * A lease outlives its request: when the client has left, the engine still
 * says what it spent, and the lease waits for that in the engine's table of
 * streams without a request.
 */
#ifndef _NGX_HTTP_AXION_LIMITS_H_INCLUDED_
#define _NGX_HTTP_AXION_LIMITS_H_INCLUDED_


#include "ngx_module/ngx_http_axion_module.h"


#define NGX_HTTP_AXION_PRICES_MAX    256
#define NGX_HTTP_AXION_LIMIT_REGROW  3


typedef struct {
    struct axion_text            model;      /* a glob */
    struct axion_price           price;
} ngx_http_axion_price_t;


/* A stream that goes on without a request. */
struct ngx_http_axion_left_s {
    axion_stream_id              stream;     /* 0: none */
    struct axion_lease           lease;
    uint32_t                     prompt_tokens;
    uint32_t                     cached_tokens;
    uint32_t                     completion_tokens;
};


/* of text, in a token: of most texts a token has more */
#define NGX_HTTP_AXION_TOKEN_BYTES     3
#define NGX_HTTP_AXION_MEDIA_TOKENS    1024
#define NGX_HTTP_AXION_MESSAGE_TOKENS  8


/* _limits.c: all of them may leave ctx->failure set */
ngx_int_t ngx_http_axion_limits_admit(ngx_http_axion_ctx_t *ctx);
ngx_msec_t ngx_http_axion_limits_until(ngx_http_axion_ctx_t *ctx,
    ngx_msec_t wait);
ngx_uint_t ngx_http_axion_limits_patient(ngx_http_axion_ctx_t *ctx);
ngx_uint_t ngx_http_axion_limits_reprice(ngx_http_axion_ctx_t *ctx,
    const struct axion_text *model);
void ngx_http_axion_limits_retry(ngx_http_axion_ctx_t *ctx);
void ngx_http_axion_limits_regrow(ngx_http_axion_ctx_t *ctx);
void ngx_http_axion_limits_explain(ngx_http_axion_ctx_t *ctx,
    struct axion_failure *failure);
const struct axion_limits *ngx_http_axion_limits_of(
    ngx_http_axion_ctx_t *ctx);

/* _lease.c */
uint64_t ngx_http_axion_lease_send(ngx_http_axion_ctx_t *ctx,
    ngx_http_axion_engine_t *engine);
void ngx_http_axion_lease_accepted(ngx_http_axion_ctx_t *ctx);
void ngx_http_axion_lease_tokens(ngx_http_axion_ctx_t *ctx);
void ngx_http_axion_lease_low(ngx_http_axion_ctx_t *ctx,
    uint64_t wanted);
ngx_uint_t ngx_http_axion_lease_too_small(ngx_http_axion_ctx_t *ctx,
    const struct axion_event *event);
void ngx_http_axion_lease_end(ngx_http_axion_ctx_t *ctx);
void ngx_http_axion_lease_detach(ngx_http_axion_ctx_t *ctx);
void ngx_http_axion_lease_late(ngx_http_axion_engine_t *engine,
    const struct axion_event *event);
void ngx_http_axion_lease_lost(ngx_http_axion_engine_t *engine);
void ngx_http_axion_lease_journal(ngx_http_axion_engine_t *engine);
void ngx_http_axion_lease_bury(ngx_http_axion_main_conf_t *amcf);

/* _limits_conf.c */
char *ngx_http_axion_limit_state(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_axion_price(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
ngx_int_t ngx_http_axion_limits_open(ngx_http_axion_main_conf_t *amcf,
    ngx_http_axion_main_conf_t *old, ngx_log_t *log);
void ngx_http_axion_limits_reserve(ngx_http_axion_main_conf_t *amcf,
    size_t n, ngx_log_t *log);
ngx_int_t ngx_http_axion_limits_table(ngx_http_axion_main_conf_t *amcf,
    ngx_http_axion_engine_t *engine);
void ngx_http_axion_limits_start(ngx_http_axion_main_conf_t *amcf);
void ngx_http_axion_limits_stop(ngx_http_axion_main_conf_t *amcf);
void ngx_http_axion_limits_soon(ngx_http_axion_main_conf_t *amcf);
const struct axion_price *ngx_http_axion_find_price(
    ngx_http_axion_main_conf_t *amcf, const struct axion_text *model);

/* _limits_headers.c */
ngx_int_t ngx_http_axion_limits_headers(ngx_http_request_t *r,
    ngx_http_axion_ctx_t *ctx);
ngx_int_t ngx_http_axion_retry_headers(ngx_http_axion_ctx_t *ctx);

/* _limits_metrics.c */
void ngx_http_axion_limits_log(ngx_http_axion_ctx_t *ctx);
void ngx_http_axion_limits_metrics(struct axion_out *out, ngx_pool_t *pool,
    ngx_http_axion_main_conf_t *amcf);
void ngx_http_axion_limits_status(struct axion_json *json,
    ngx_http_axion_main_conf_t *amcf);


#endif /* _NGX_HTTP_AXION_LIMITS_H_INCLUDED_ */
