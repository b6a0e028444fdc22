/*
 * Variables for access_log, map, limit_req and headers.  One getter reads
 * them all out of the request's context; one that has no value yet is "not
 * found" ("-" in a log), so that a log line tells zero from unknown.
 * $axion_tenant and $axion_key alone work before the content handler: they
 * look at the headers themselves.
 */


#include "ngx_module/ngx_http_axion_module.h"


enum {
    NGX_HTTP_AXION_VAR_TENANT = 0,
    NGX_HTTP_AXION_VAR_KEY,
    NGX_HTTP_AXION_VAR_AUTH,
    NGX_HTTP_AXION_VAR_MODEL,
    NGX_HTTP_AXION_VAR_SERVED_MODEL,
    NGX_HTTP_AXION_VAR_PROMPT_TOKENS,
    NGX_HTTP_AXION_VAR_CACHED_TOKENS,
    NGX_HTTP_AXION_VAR_COMPLETION_TOKENS,
    NGX_HTTP_AXION_VAR_TTFT,
    NGX_HTTP_AXION_VAR_TPOT,
    NGX_HTTP_AXION_VAR_FINISH_REASON,
    NGX_HTTP_AXION_VAR_ENGINE,
    NGX_HTTP_AXION_VAR_QUEUE_TIME,
    NGX_HTTP_AXION_VAR_PREFILL_TIME,
    NGX_HTTP_AXION_VAR_ITL_P99,
    NGX_HTTP_AXION_VAR_DRAFTED_TOKENS,
    NGX_HTTP_AXION_VAR_ACCEPTED_TOKENS,
    NGX_HTTP_AXION_VAR_PREEMPTIONS,
    NGX_HTTP_AXION_VAR_COST,
    NGX_HTTP_AXION_VAR_LIMIT_STATE
};


static ngx_int_t ngx_http_axion_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_axion_variable_who(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_axion_variable_number(ngx_http_axion_ctx_t *ctx,
    ngx_http_variable_value_t *v, uint64_t number);
static ngx_int_t ngx_http_axion_variable_count(ngx_http_axion_ctx_t *ctx,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_axion_variable_cost(ngx_http_axion_ctx_t *ctx,
    ngx_http_variable_value_t *v);
static ngx_int_t ngx_http_axion_variable_limit(ngx_http_axion_ctx_t *ctx,
    ngx_http_variable_value_t *v);
static ngx_int_t ngx_http_axion_variable_seconds(ngx_http_axion_ctx_t *ctx,
    ngx_http_variable_value_t *v, uint64_t us);
static ngx_int_t ngx_http_axion_variable_set(ngx_http_variable_value_t *v,
    const char *data, size_t len);


static ngx_http_variable_t  ngx_http_axion_variables[] = {

    { ngx_string("axion_tenant"), NULL, ngx_http_axion_variable,
      NGX_HTTP_AXION_VAR_TENANT, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("axion_key"), NULL, ngx_http_axion_variable,
      NGX_HTTP_AXION_VAR_KEY, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("axion_auth"), NULL, ngx_http_axion_variable,
      NGX_HTTP_AXION_VAR_AUTH, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("axion_model"), NULL, ngx_http_axion_variable,
      NGX_HTTP_AXION_VAR_MODEL, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("axion_served_model"), NULL, ngx_http_axion_variable,
      NGX_HTTP_AXION_VAR_SERVED_MODEL, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("axion_prompt_tokens"), NULL, ngx_http_axion_variable,
      NGX_HTTP_AXION_VAR_PROMPT_TOKENS, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("axion_cached_tokens"), NULL, ngx_http_axion_variable,
      NGX_HTTP_AXION_VAR_CACHED_TOKENS, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("axion_completion_tokens"), NULL, ngx_http_axion_variable,
      NGX_HTTP_AXION_VAR_COMPLETION_TOKENS, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("axion_ttft"), NULL, ngx_http_axion_variable,
      NGX_HTTP_AXION_VAR_TTFT, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("axion_tpot"), NULL, ngx_http_axion_variable,
      NGX_HTTP_AXION_VAR_TPOT, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("axion_finish_reason"), NULL, ngx_http_axion_variable,
      NGX_HTTP_AXION_VAR_FINISH_REASON, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("axion_engine"), NULL, ngx_http_axion_variable,
      NGX_HTTP_AXION_VAR_ENGINE, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("axion_queue_time"), NULL, ngx_http_axion_variable,
      NGX_HTTP_AXION_VAR_QUEUE_TIME, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("axion_prefill_time"), NULL, ngx_http_axion_variable,
      NGX_HTTP_AXION_VAR_PREFILL_TIME, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("axion_itl_p99"), NULL, ngx_http_axion_variable,
      NGX_HTTP_AXION_VAR_ITL_P99, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("axion_drafted_tokens"), NULL, ngx_http_axion_variable,
      NGX_HTTP_AXION_VAR_DRAFTED_TOKENS, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("axion_accepted_tokens"), NULL, ngx_http_axion_variable,
      NGX_HTTP_AXION_VAR_ACCEPTED_TOKENS, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("axion_preemptions"), NULL, ngx_http_axion_variable,
      NGX_HTTP_AXION_VAR_PREEMPTIONS, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("axion_cost"), NULL, ngx_http_axion_variable,
      NGX_HTTP_AXION_VAR_COST, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("axion_limit_state"), NULL, ngx_http_axion_variable,
      NGX_HTTP_AXION_VAR_LIMIT_STATE, NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


ngx_int_t
ngx_http_axion_add_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_axion_variables; v->name.len; v++) {

        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_axion_variable(ngx_http_request_t *r, ngx_http_variable_value_t *v,
    uintptr_t data)
{
    const char            *name;
    ngx_http_axion_ctx_t  *ctx;

    v->not_found = 1;

    if (data == NGX_HTTP_AXION_VAR_TENANT || data == NGX_HTTP_AXION_VAR_KEY
        || data == NGX_HTTP_AXION_VAR_AUTH)
    {
        return ngx_http_axion_variable_who(r, v, data);
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_axion_module);
    if (ctx == NULL) {
        return NGX_OK;
    }

    switch (data) {

    case NGX_HTTP_AXION_VAR_MODEL:

        /* it may go into a header: the parser refuses controls in names */

        if (ctx->parsed.model.bytes == 0) {
            return NGX_OK;
        }

        return ngx_http_axion_variable_set(v, ctx->parsed.model.data,
                                           ctx->parsed.model.bytes);

    case NGX_HTTP_AXION_VAR_SERVED_MODEL:
        return ctx->parsed.served.bytes
                   ? ngx_http_axion_variable_set(v, ctx->parsed.served.data,
                                                 ctx->parsed.served.bytes)
                   : NGX_OK;

    case NGX_HTTP_AXION_VAR_ENGINE:
        if (ctx->engine_name.len == 0) {
            return NGX_OK;
        }

        return ngx_http_axion_variable_set(v, (char *) ctx->engine_name.data,
                                           ctx->engine_name.len);

    case NGX_HTTP_AXION_VAR_PROMPT_TOKENS:
        return ctx->accepted
                   ? ngx_http_axion_variable_number(ctx, v,
                                                    ctx->usage.prompt_tokens)
                   : NGX_OK;

    case NGX_HTTP_AXION_VAR_CACHED_TOKENS:
        return ctx->accepted
                   ? ngx_http_axion_variable_number(ctx, v,
                                                    ctx->usage.cached_tokens)
                   : NGX_OK;

    case NGX_HTTP_AXION_VAR_COMPLETION_TOKENS:
        return ctx->accepted
                   ? ngx_http_axion_variable_number(ctx, v,
                                  ctx->finished ? ctx->usage.completion_tokens
                                                : ctx->tokens)
                   : NGX_OK;

    case NGX_HTTP_AXION_VAR_TTFT:
        return ctx->first_us
                   ? ngx_http_axion_variable_seconds(ctx, v,
                                             ctx->first_us - ctx->started_us)
                   : NGX_OK;

    case NGX_HTTP_AXION_VAR_TPOT:
        return (ctx->tokens > 1)
                   ? ngx_http_axion_variable_seconds(ctx, v,
                                             (ctx->last_us - ctx->first_us)
                                             / (ctx->tokens - 1))
                   : NGX_OK;

    case NGX_HTTP_AXION_VAR_ITL_P99:
        return (ctx->first_us != ctx->last_us)
                   ? ngx_http_axion_variable_seconds(ctx, v,
                                                 ngx_http_axion_gap_p99(ctx))
                   : NGX_OK;

    case NGX_HTTP_AXION_VAR_PREFILL_TIME:
        return ctx->finished
                   ? ngx_http_axion_variable_seconds(ctx, v,
                                                     ctx->usage.prefill_us)
                   : NGX_OK;

    case NGX_HTTP_AXION_VAR_DRAFTED_TOKENS:
    case NGX_HTTP_AXION_VAR_ACCEPTED_TOKENS:
    case NGX_HTTP_AXION_VAR_PREEMPTIONS:
        return ctx->finished
                   ? ngx_http_axion_variable_count(ctx, v, data)
                   : NGX_OK;

    case NGX_HTTP_AXION_VAR_COST:
        return ctx->settled
                   ? ngx_http_axion_variable_cost(ctx, v)
                   : NGX_OK;

    case NGX_HTTP_AXION_VAR_LIMIT_STATE:
        return ngx_http_axion_variable_limit(ctx, v);

    case NGX_HTTP_AXION_VAR_QUEUE_TIME:
        return ctx->finished
                   ? ngx_http_axion_variable_seconds(ctx, v,
                                                     ctx->usage.queue_us)
                   : NGX_OK;

    default: /* NGX_HTTP_AXION_VAR_FINISH_REASON */
        if (ctx->failure.error != AXION_OK) {
            name = "error";

        } else if (ctx->finished) {
            name = axion_finish_reason_name(ctx->usage.reason);

        } else if (ctx->accepted) {
            name = "cancelled";

        } else {
            return NGX_OK;
        }

        return ngx_http_axion_variable_set(v, name, ngx_strlen(name));
    }
}


static ngx_int_t
ngx_http_axion_variable_set(ngx_http_variable_value_t *v, const char *data,
    size_t len)
{
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->len = len;
    v->data = (u_char *) data;

    return NGX_OK;
}


static ngx_int_t
ngx_http_axion_variable_who(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_http_axion_ctx_t   *ctx;
    struct axion_identity  *who;

    who = ngx_http_axion_identify(r);

    if (who == NULL) {
        return NGX_OK;
    }

    if (data == NGX_HTTP_AXION_VAR_TENANT) {
        return ngx_http_axion_variable_set(v, who->tenant->name.data,
                                           who->tenant->name.bytes);
    }

    if (data == NGX_HTTP_AXION_VAR_AUTH) {
        ctx = ngx_http_get_module_ctx(r, ngx_http_axion_module);
        return ngx_http_axion_variable_set(v, ctx->via, ngx_strlen(ctx->via));
    }

    return (who->key != NULL && who->key->name.data != NULL)
               ? ngx_http_axion_variable_set(v, who->key->name.data,
                                             who->key->name.bytes)
               : NGX_OK;
}


static ngx_int_t
ngx_http_axion_variable_number(ngx_http_axion_ctx_t *ctx,
    ngx_http_variable_value_t *v, uint64_t number)
{
    u_char  *p;

    p = ngx_pnalloc(ctx->request->pool, NGX_INT64_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_axion_variable_set(v, (char *) p,
                                       ngx_sprintf(p, "%uL", number) - p);
}


/* Seconds with microseconds: TPOT is often well below a millisecond. */
static ngx_int_t
ngx_http_axion_variable_seconds(ngx_http_axion_ctx_t *ctx,
    ngx_http_variable_value_t *v, uint64_t us)
{
    u_char  *p;

    p = ngx_pnalloc(ctx->request->pool, NGX_INT64_LEN + 7);
    if (p == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_axion_variable_set(v, (char *) p,
                                       ngx_sprintf(p, "%uL.%06uL",
                                                   us / 1000000, us % 1000000)
                                       - p);
}


static ngx_int_t
ngx_http_axion_variable_count(ngx_http_axion_ctx_t *ctx,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    uint64_t  n;

    switch (data) {

    case NGX_HTTP_AXION_VAR_DRAFTED_TOKENS:
        n = ctx->usage.drafted_tokens;
        break;

    case NGX_HTTP_AXION_VAR_ACCEPTED_TOKENS:
        n = ctx->usage.accepted_tokens;
        break;

    default: /* NGX_HTTP_AXION_VAR_PREEMPTIONS */
        n = ctx->usage.preemptions;
    }

    return ngx_http_axion_variable_number(ctx, v, n);
}


static ngx_int_t
ngx_http_axion_variable_cost(ngx_http_axion_ctx_t *ctx,
    ngx_http_variable_value_t *v)
{
    u_char  *p;

    p = ngx_pnalloc(ctx->request->pool, NGX_INT64_LEN + 10);
    if (p == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_axion_variable_set(v, (char *) p,
                                       ngx_sprintf(p, "%uL.%09uL",
                                                   ctx->cost / AXION_COST_UNIT,
                                                   ctx->cost % AXION_COST_UNIT)
                                       - p);
}


/* What limits made of the request: "ok", "waited", and with the name of the
 * limit "refused:", "cut:", "dry_run:". */
static ngx_int_t
ngx_http_axion_variable_limit(ngx_http_axion_ctx_t *ctx,
    ngx_http_variable_value_t *v)
{
    u_char      *p;
    const char  *state, *name;

    if (ctx->who.tenant == NULL) {
        return NGX_OK;
    }

    name = axion_limit_name(ctx->verdict.kind);

    if (ctx->limit_refused) {
        state = "refused";

    } else if (ctx->cut != AXION_LIMIT_NONE) {
        state = "cut";
        name = axion_limit_name(ctx->cut);

    } else if (ctx->conf->limit_dry_run
               && ctx->verdict.kind != AXION_LIMIT_NONE)
    {
        state = "dry_run";

    } else if (ctx->limit_waited) {
        return ngx_http_axion_variable_set(v, "waited", 6);

    } else {
        return ngx_http_axion_variable_set(v, "ok", 2);
    }

    p = ngx_pnalloc(ctx->request->pool, 32);
    if (p == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_axion_variable_set(v, (char *) p,
                                       ngx_snprintf(p, 32, "%s:%s", state,
                                                    name)
                                       - p);
}
