/*
 * The gaps between the tokens of one answer, for $axion_itl_p99: counted in
 * steps, four for each doubling of the time, so that a stream of any length
 * keeps a few hundred bytes.  Tokens that came joined have one gap.
 */


#include "ngx_module/ngx_http_axion_module.h"
#include "ngx_module/ngx_http_axion_limits.h"


static ngx_uint_t ngx_http_axion_gap_step(uint64_t us);
static uint64_t ngx_http_axion_gap_end(ngx_uint_t step);


/* The octave, and the two bits behind the leading one. */
static ngx_uint_t
ngx_http_axion_gap_step(uint64_t us)
{
    ngx_uint_t  octave, step;

    if (us < 4) {
        return us;
    }

    octave = 63 - __builtin_clzll(us);
    step = octave * 4 + ((us >> (octave - 2)) & 3) - 4;

    return ngx_min(step, NGX_HTTP_AXION_GAPS - 1);
}


/* The first time that is beyond the step. */
static uint64_t
ngx_http_axion_gap_end(ngx_uint_t step)
{
    ngx_uint_t  octave;

    if (step < 4) {
        return step + 1;
    }

    octave = (step + 4) / 4;

    return (uint64_t) (4 + (step & 3) + 1) << (octave - 2);
}


static void
ngx_http_axion_note_gap(ngx_http_axion_ctx_t *ctx, uint64_t us)
{
    uint16_t  *count;

    count = &ctx->gaps[ngx_http_axion_gap_step(us)];

    if (*count != 0xffff) {
        (*count)++;
    }
}


/* Tokens have come: times, metrics and the lease go by them. */
void
ngx_http_axion_note_tokens(ngx_http_axion_ctx_t *ctx, uint32_t n)
{
    uint64_t  previous_us;

    previous_us = ctx->last_us;
    ctx->last_us = ngx_http_axion_now_us();

    if (ctx->first_us == 0) {
        ctx->first_us = ctx->last_us;
    }

    if (previous_us != 0) {
        ngx_http_axion_note_gap(ctx, ctx->last_us - previous_us);
    }

    ctx->tokens += n;
    ngx_http_axion_observe_tokens(ctx, previous_us, n);
    ngx_http_axion_lease_tokens(ctx);
}


/* Microseconds that 99 of 100 gaps stayed below; 0: there were none. */
uint64_t
ngx_http_axion_gap_p99(ngx_http_axion_ctx_t *ctx)
{
    uint64_t    all, seen;
    ngx_uint_t  i;

    all = 0;

    for (i = 0; i < NGX_HTTP_AXION_GAPS; i++) {
        all += ctx->gaps[i];
    }

    seen = 0;

    for (i = 0; i < NGX_HTTP_AXION_GAPS; i++) {

        seen += ctx->gaps[i];

        if (all != 0 && seen * 100 >= all * 99) {
            return ngx_http_axion_gap_end(i);
        }
    }

    return 0;
}
