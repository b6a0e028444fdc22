/* See engine.h.  Everything is opened in the order of its dependencies and
 * closed in the reverse one, half-open engines included. */
#include "engine/server/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "shm/request.h"

#define KV_BYTES_MAX_DEFAULT (1ull << 30)
#define DRAFT_KV_BYTES_MAX   (256ull << 20)


static uint64_t
kv_bytes_default(void)
{
    uint64_t quarter = (uint64_t)sysconf(_SC_PHYS_PAGES) *
                       (uint64_t)sysconf(_SC_PAGE_SIZE) / 4;
    return quarter < KV_BYTES_MAX_DEFAULT ? quarter : KV_BYTES_MAX_DEFAULT;
}


bool
ax_engine_alias_valid(const char *alias)
{
    size_t n = strlen(alias);
    if (n == 0 || n >= AX_ENGINE_ID_BYTES || !axion_utf8_valid(alias, n)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)alias[i] < ' ' || alias[i] == 0x7f) {
            return false;
        }
    }
    return true;
}


void
ax_engine_names(const char *path, const char *alias,
                char file_id[AX_ENGINE_ID_BYTES], char id[AX_ENGINE_ID_BYTES])
{
    const char *slash = strrchr(path, '/');
    const char *base = slash != NULL ? slash + 1 : path;
    size_t n = strlen(base);
    if (n > 7 && strcmp(base + n - 7, ".axpack") == 0) {
        n -= 7;
    }
    if (n > 5 && strncmp(base + n - 5, ".gguf", 5) == 0) {
        n -= 5;
    }
    ax_error_escape(file_id, AX_ENGINE_ID_BYTES, base, n);
    snprintf(id, AX_ENGINE_ID_BYTES, "%s", alias != NULL ? alias : file_id);
}


static uint64_t
created_at(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && st.st_mtime > 0 ? (uint64_t)st.st_mtime : 0;
}


static int
open_text(struct ax_engine *e, struct ax_error *err)
{
    struct ax_tokenizer_params params;
    int rc = ax_model_tokenizer_params(e->model, &params, err);
    if (rc != AXION_OK) {
        return rc;
    }
    char why[AX_ERROR_TEXT];
    rc = ax_tokenizer_open(&e->tokenizer, &params, why, sizeof(why));
    if (rc != AX_TEXT_OK) {
        return ax_error_set(err,
                            rc == AX_TEXT_NO_MEMORY
                                ? AXION_ERR_NO_MEMORY
                                : AXION_ERR_MODEL_UNSUPPORTED,
                            "%s", why);
    }
    if (ax_tokenizer_n_vocab(e->tokenizer) > e->info->n_vocab) {
        return ax_error_set(err, AXION_ERR_MODEL_FILE,
                            "the tokenizer has %u tokens, the model %u",
                            ax_tokenizer_n_vocab(e->tokenizer),
                            e->info->n_vocab);
    }
    e->prompts = (struct ax_prompt_maker){
        .tokenizer = e->tokenizer,
        .template_note = e->template_note,
    };
    e->token_bytes_max = (uint32_t)ax_tokenizer_token_bytes_max(e->tokenizer);
    const char *source = e->info->chat_template;
    if (source == NULL) {
        snprintf(e->template_note, sizeof(e->template_note),
                 "the model file has no chat template");
        return AXION_OK;
    }
    rc = ax_template_open(&e->chat_template, source, strlen(source), why,
                          sizeof(why));
    if (rc == AX_TEXT_NO_MEMORY) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "chat template: %s", why);
    }
    if (rc != AX_TEXT_OK) {
        /* Completions work without; chat requests are told this line. */
        snprintf(e->template_note, sizeof(e->template_note),
                 "the chat template does not compile: %.200s", why);
    }
    e->prompts.chat_template = e->chat_template;
    return AXION_OK;
}


/* What of the reservation is the draft model's: both have KV for as many
 * tokens then, up to what drafts can use. */
static uint64_t
draft_share(const struct ax_model *draft, const struct ax_kv_shape *shape,
            uint64_t bytes)
{
    if (draft == NULL) {
        return 0;
    }
    struct ax_kv_shape its = ax_model_kv_shape(draft);
    its.type = shape->type;
    double one = (double)ax_kv_bytes_needed(&its, AX_KV_BLOCK_TOKENS);
    double own = (double)ax_kv_bytes_needed(shape, AX_KV_BLOCK_TOKENS);
    uint64_t share = (uint64_t)((double)bytes * (one / (one + own)));
    return share < DRAFT_KV_BYTES_MAX ? share : DRAFT_KV_BYTES_MAX;
}


static int
open_compute(struct ax_engine *e, const struct ax_engine_options *options,
             struct ax_error *err)
{
    struct ax_kv_shape shape = ax_model_kv_shape(e->model);
    shape.step_tokens_max = e->batch_tokens;
    if (options->kv_type != NULL) {
        shape.type = (enum axk_kv_type)axk_kv_type_of(options->kv_type);
    }
    uint64_t bytes =
        options->kv_bytes != 0 ? options->kv_bytes : kv_bytes_default();
    e->draft_kv_bytes = draft_share(options->draft, &shape, bytes);
    int rc = ax_kv_open(&e->kv, &shape, bytes - e->draft_kv_bytes, err);
    if (rc != AXION_OK) {
        return rc;
    }
    e->ctx = ax_kv_tokens_max(e->kv);
    e->ctx = e->ctx < e->info->n_ctx ? e->ctx : e->info->n_ctx;
    struct ax_exec_options exec = {.n_threads = e->threads,
                                   .batch_tokens_max = e->batch_tokens,
                                   .logits_max = e->logits_rows,
                                   .sequences_max = e->sequences,
                                   .counters = options->counters};
    rc = ax_exec_open(&e->exec, e->model, e->kv, &exec, err);
    if (rc != AXION_OK) {
        return rc;
    }
    rc = ax_drawer_open(&e->drawer, ax_exec_pool(e->exec), e->logits_rows,
                        e->info->n_vocab, ax_model_ops(e->model));
    e->logits_bytes =
        ((uint64_t)e->logits_rows * e->info->n_vocab * sizeof(float) + 63) /
        64 * 64;
    if (rc == AXION_OK) {
        rc = ax_arena_open(&e->logits_arena, e->logits_bytes);
    }
    if (rc != AXION_OK) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY,
                            "no memory for %u rows of logits", e->logits_rows);
    }
    e->logits = ax_arena_take(&e->logits_arena, e->logits_bytes);
    return AXION_OK;
}


int
ax_engine_open(struct ax_engine **out, const struct ax_engine_options *options,
               struct ax_error *err)
{
    *out = NULL;
    struct ax_engine *e = calloc(1, sizeof(*e));
    if (e == NULL) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    e->threads = options->threads != 0 ? options->threads : ax_pool_cpus();
    e->batch_tokens = options->batch_tokens;
    e->sequences = options->sequences < options->batch_tokens
                       ? options->sequences
                       : options->batch_tokens;
    e->logits_rows = e->batch_tokens - e->sequences < options->draft_rows
                         ? e->batch_tokens
                         : e->sequences + options->draft_rows;
    ax_cost_init(&e->cost);
    ax_engine_names(options->path, options->alias, e->file_id, e->id);
    e->created = created_at(options->path);
    struct ax_model_options model = {
        .path = options->path,
        .isa = options->isa,
        .n_threads = e->threads,
        .ctx = options->ctx,
        .behind = options->behind,
        .packed = options->packed,
        .may_pack = options->may_pack,
        .progress = options->progress,
        .context = options->context,
    };
    struct ax_calibrate_options times = {.budget_us = options->calibrate_us};
    int rc = ax_model_open(&e->model, &model, err);
    if (rc != AXION_OK) {
        goto failed;
    }
    e->info = ax_model_info(e->model);
    if ((rc = open_text(e, err)) != AXION_OK ||
        (rc = open_compute(e, options, err)) != AXION_OK ||
        (options->shared_prefix != NULL &&
         (rc = ax_shared_prefix_open(&e->shared_prefix, options->shared_prefix,
                                     &e->prompts, e->ctx, err)) != AXION_OK) ||
        (rc = ax_engine_calibrate(e, &times, err)) != AXION_OK) {
        goto failed;
    }
    *out = e;
    return AXION_OK;

failed:
    ax_engine_close(e);
    return rc;
}


void
ax_engine_close(struct ax_engine *e)
{
    if (e == NULL) {
        return;
    }
    ax_shared_prefix_close(e->shared_prefix);
    ax_exec_close(e->exec); /* its threads first, they read the next two */
    ax_drawer_close(e->drawer);
    ax_arena_close(&e->logits_arena);
    ax_kv_close(e->kv);
    ax_template_close(e->chat_template);
    ax_tokenizer_close(e->tokenizer);
    ax_model_close(e->model);
    free(e);
}
