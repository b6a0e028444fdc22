/*
 * A model in this process, one sequence.  The same modules as axiond's:
 * prompts, blocks, steps, sampler, output stage; no scheduler, since there is
 * nothing to choose.  What the last turn left in KV is used again as far as
 * the new prompt begins with the same tokens.
 */
#include <stdlib.h>
#include <string.h>
#include "engine/server/engine.h"
#include "engine/text/stream.h"
#include "engine/tool/chat.h"

#define CHUNK_TOKENS 256u

struct local {
    struct ax_engine *engine;
    struct ax_kv_sequence kv;
    int32_t *tokens; /* [ctx] of the prompt and the answer */
    int32_t *in_kv;  /* [ctx] what the first n_in_kv positions hold */
    uint32_t n_in_kv;
    struct ax_stream *stream;
    char *text_out;
};


static void
local_close(void *state)
{
    struct local *l = state;
    if (l->engine != NULL && l->kv.blocks != NULL) {
        ax_kv_release(l->engine->kv, &l->kv);
    }
    ax_engine_close(l->engine);
    free(l->kv.blocks);
    free(l->tokens);
    free(l->in_kv);
    free(l->stream);
    free(l->text_out);
    free(l);
}


static int
reserve(struct local *l, struct ax_error *err)
{
    uint32_t ctx = l->engine->ctx;
    l->kv.blocks_max = ax_kv_blocks_for(ctx);
    l->kv.blocks =
        calloc((size_t)l->kv.blocks_max * ax_kv_groups(l->engine->kv),
               sizeof(*l->kv.blocks));
    l->tokens = calloc(ctx, sizeof(*l->tokens));
    l->in_kv = calloc(ctx, sizeof(*l->in_kv));
    l->stream = malloc(ax_stream_size(NULL, 0));
    l->text_out = malloc(3 * ((size_t)l->engine->token_bytes_max + 64));
    if (l->kv.blocks == NULL || l->tokens == NULL || l->in_kv == NULL ||
        l->stream == NULL || l->text_out == NULL) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    return AXION_OK;
}


/* Computes positions [from, to); the logits of the last are in row 0. */
static int
compute(struct local *l, uint32_t from, uint32_t to)
{
    struct ax_step_token tokens[CHUNK_TOKENS];
    struct ax_kv_sequence *sequences[1] = {&l->kv};
    while (from < to) {
        uint32_t n = to - from < CHUNK_TOKENS ? to - from : CHUNK_TOKENS;
        for (uint32_t i = 0; i < n; i++) {
            tokens[i] = (struct ax_step_token){
                .token = l->tokens[from + i],
                .position = from + i,
                .logits_row = from + i + 1 == to ? 0 : AX_NO_LOGITS,
            };
        }
        struct ax_step step = {.tokens = tokens,
                               .n_tokens = n,
                               .n_sequences = 1,
                               .sequences = sequences,
                               .logits = l->engine->logits,
                               .n_logits = from + n == to};
        int rc = ax_kv_reserve(l->engine->kv, &l->kv, from + n);
        if (rc == AXION_OK) {
            rc = ax_exec_step(l->engine->exec, &step);
        }
        if (rc != AXION_OK) {
            return rc;
        }
        memcpy(l->in_kv + from, l->tokens + from, n * sizeof(*l->in_kv));
        from += n;
        l->n_in_kv = from;
    }
    return AXION_OK;
}


static int
prefill(struct local *l, uint32_t n_prompt, struct chat_usage *usage)
{
    uint32_t same = 0;
    while (same + 1 < n_prompt && same < l->n_in_kv &&
           l->tokens[same] == l->in_kv[same]) {
        same++;
    }
    /* From its beginning where a sliding window has moved on. */
    same = ax_kv_truncate(l->engine->kv, &l->kv, same);
    l->n_in_kv = same;
    usage->prompt_tokens = n_prompt;
    usage->reused_tokens = same;
    return compute(l, same, n_prompt);
}


static void
show_token(struct local *l, const struct chat_turn *turn, int32_t token)
{
    char bytes[AX_TOKENIZER_TOKEN_BYTES_MAX];
    size_t n = ax_tokenizer_decode_token(l->engine->tokenizer, token, false,
                                         bytes, sizeof(bytes));
    n = ax_stream_push(l->stream, bytes, n, l->text_out);
    if (n > 0) {
        turn->show(turn->context, l->text_out, n);
    }
}


static int
generate(struct local *l, const struct chat_options *o,
         const struct chat_turn *turn, uint32_t n_prompt,
         struct chat_usage *usage, double start)
{
    const struct ax_engine *e = l->engine;
    struct ax_sampling sampling;
    ax_sampling_defaults(&sampling);
    sampling.temperature = (float)o->temperature;
    sampling.top_p = (float)o->top_p;
    sampling.min_p = (float)o->min_p;
    sampling.top_k = o->top_k;
    sampling.seed = turn->seed;
    double first = 0;
    uint32_t n = n_prompt;
    while (n < e->ctx && n - n_prompt < o->max_tokens && !ax_chat_interrupted) {
        struct ax_draw draw = {.sampling = &sampling,
                               .history = {l->tokens, n_prompt, n},
                               .logits = e->logits};
        ax_drawer_run(e->drawer, &draw, 1);
        int rc = draw.error;
        if (rc != AXION_OK) {
            return rc;
        }
        int32_t token = draw.token;
        l->tokens[n++] = token;
        usage->answer_tokens++;
        first = first == 0 ? ax_chat_now() : first;
        usage->first_token_s = first - start;
        if (ax_tokenizer_is_eog(e->tokenizer, token)) {
            break;
        }
        show_token(l, turn, token);
        if (n < e->ctx && n - n_prompt < o->max_tokens &&
            (rc = compute(l, n - 1, n)) != AXION_OK) {
            return rc;
        }
    }
    size_t bytes = ax_stream_finish(l->stream, l->text_out);
    if (bytes > 0) {
        turn->show(turn->context, l->text_out, bytes);
    }
    usage->answer_s = first > 0 ? ax_chat_now() - first : 0;
    return AXION_OK;
}


static int
local_answer(void *state, const struct chat_options *o,
             const struct chat_turn *turn, struct chat_usage *usage,
             struct ax_error *err)
{
    struct local *l = state;
    uint32_t n_prompt;
    double start = ax_chat_now();
    int rc = ax_prompt_of_messages(&l->engine->prompts, turn->messages,
                                   turn->n_messages, l->tokens, l->engine->ctx,
                                   &n_prompt, err);
    if (rc != AXION_OK) {
        return rc;
    }
    if (n_prompt >= l->engine->ctx) {
        return ax_error_set(err, AXION_ERR_CONTEXT_LENGTH,
                            "the conversation fills the context of %u "
                            "tokens: /reset starts anew",
                            l->engine->ctx);
    }
    l->stream = ax_stream_init(l->stream, ax_stream_size(NULL, 0), NULL, 0);
    rc = prefill(l, n_prompt, usage);
    if (rc == AXION_OK) {
        rc = generate(l, o, turn, n_prompt, usage, start);
    }
    if (rc != AXION_OK) {
        return ax_error_set(err, rc, "%s", axion_error_info(rc)->text);
    }
    return AXION_OK;
}


int
ax_chat_local(struct chat_backend *out, const struct chat_options *o,
              struct ax_error *err)
{
    struct local *l = calloc(1, sizeof(*l));
    if (l == NULL) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    struct ax_engine_options options = {.path = o->model,
                                        .isa = o->isa,
                                        .threads = o->threads,
                                        .ctx = o->ctx,
                                        .kv_bytes = o->kv_memory,
                                        .batch_tokens = CHUNK_TOKENS,
                                        .sequences = 1};
    axk_thread_init();
    int rc = ax_engine_open(&l->engine, &options, err);
    if (rc == AXION_OK) {
        rc = reserve(l, err);
    }
    if (rc != AXION_OK) {
        local_close(l);
        return rc;
    }
    *out = (struct chat_backend){l, local_answer, local_close};
    return AXION_OK;
}
