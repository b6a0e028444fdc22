/*
 * GET /v1/models and /v1/models/{id} out of the load boards of the
 * upstream's engines.  An engine that is away for the moment is listed by
 * its last board: its requests are retried, so its models exist.  Remotes
 * have those that their line names.
 */


#include "ngx_module/ngx_http_axion_remote.h"


#define NGX_HTTP_AXION_MODELS_BODY_MAX  (1024 * 1024)


/*
 * NGX_AGAIN when no engine's board was ever seen by this worker: the caller
 * waits for one.  Else what goes to ngx_http_finalize_request().
 */
ngx_int_t
ngx_http_axion_send_models(ngx_http_axion_ctx_t *ctx)
{
    size_t                        n;
    ngx_uint_t                    i;
    struct axion_out              out;
    ngx_http_axion_engine_t     **engine;
    ngx_http_axion_remote_t     **remote;
    const struct axion_board     *boards[NGX_HTTP_AXION_ENGINES_MAX
                                         + NGX_HTTP_AXION_REMOTES_MAX];
    const struct axion_identity  *who;

    engine = ctx->conf->upstream->engines.elts;

    for (i = 0, n = 0; i < ctx->conf->upstream->engines.nelts; i++) {

        (void) ngx_http_axion_engine_board(engine[i]);

        if (engine[i]->seen) {
            boards[n++] = &engine[i]->board;
        }
    }

    if (n == 0 && ctx->conf->upstream->remotes.nelts == 0) {
        return NGX_AGAIN;
    }

    remote = ctx->conf->upstream->remotes.elts;

    for (i = 0; i < ctx->conf->upstream->remotes.nelts; i++) {
        boards[n++] = &remote[i]->board;
    }

    who = (ctx->who.tenant != NULL) ? &ctx->who : NULL;

    axion_out_grow(&out, &ctx->memory, 1024, NGX_HTTP_AXION_MODELS_BODY_MAX);

    if (ctx->endpoint == NGX_HTTP_AXION_MODELS) {
        axion_models_list(&out, boards, n, who);

    } else if (axion_models_one(&out, boards, n, who,
                                (char *) ctx->id.data, ctx->id.len)
               != AXION_OK)
    {
        return ngx_http_axion_refuse(ctx, AXION_ERR_MODEL_NOT_FOUND, NULL);
    }

    return ngx_http_axion_send(ctx->request, NGX_HTTP_OK, "application/json",
                               &out);
}
