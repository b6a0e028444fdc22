/*
 * One loaded model with everything that serves it: tokenizer, template, KV
 * blocks, executor, sampler, rows for logits.
 *
 * ax_engine_open() blocks for as long as loading takes; axiond calls it on a
 * thread of its own while the socket answers, the tool calls it directly.
 * The result belongs to one thread at a time, but for the tokenizer and the
 * template, which are immutable.
 *
 * Sizes are decided here, once, and can be printed: how much KV, how long a
 * context fits into it, how many sequences share a step.
 */
#ifndef AX_SERVER_ENGINE_H
#define AX_SERVER_ENGINE_H

#include <stdbool.h>
#include <stdint.h>
#include "engine/error.h"
#include "engine/exec/exec.h"
#include "engine/kv/kv.h"
#include "engine/model/model.h"
#include "engine/pool/arena.h"
#include "engine/server/draw.h"
#include "engine/server/prompt.h"
#include "engine/server/shared_prefix.h"
#include "engine/spec/cost.h"
#include "engine/text/template.h"
#include "engine/text/tokenizer.h"

#define AX_ENGINE_ID_BYTES 64u

struct ax_engine_options {
    const char *path;
    const char *isa;     /* NULL: the best */
    const char *alias;   /* NULL: the file's name */
    uint32_t threads;    /* 0: CPUs that this process may use */
    uint32_t ctx;        /* 0: the model's, as far as KV reaches */
    uint64_t kv_bytes;   /* 0: a quarter of memory, at most 1 GiB */
    const char *kv_type; /* NULL: f16 */
    /* A draft model is to have its part of kv_bytes, in proportion to what a
     * token takes of both; NULL: none. */
    const struct ax_model *draft;
    bool counters;             /* of the executor, for a profile */
    const char *shared_prefix; /* a file; NULL: none */
    uint32_t batch_tokens;     /* tokens of one step */
    uint32_t sequences;        /* of one step; cut to batch_tokens */
    uint32_t draft_rows;       /* logits for drafts, beside one per sequence */
    uint64_t calibrate_us; /* how long steps may be timed for; 0: not at all */
    /* Weights are packed while steps run already; see engine/model/model.h. */
    bool behind;
    void (*packed)(void *context);
    bool (*may_pack)(void *context, uint32_t layer);
    void (*progress)(void *context, uint32_t permille);
    void *context;
};

struct ax_engine {
    struct ax_model *model;
    const struct ax_model_info *info;
    struct ax_tokenizer *tokenizer;
    struct ax_template *chat_template; /* NULL: the model has none */
    struct ax_kv *kv;
    struct ax_shared_prefix *shared_prefix; /* NULL: none declared */
    struct ax_exec *exec;
    struct ax_drawer *drawer;
    uint64_t draft_kv_bytes; /* of the reservation, left for the draft model */
    float *logits;           /* [logits_rows][n_vocab] */
    uint64_t logits_bytes;
    struct ax_arena logits_arena;
    uint32_t logits_rows;
    struct ax_cost cost; /* of steps; without points if not calibrated */
    struct ax_prompt_maker prompts;
    uint32_t threads;
    uint32_t ctx;
    uint32_t batch_tokens;
    uint32_t sequences;
    uint32_t token_bytes_max;
    uint64_t created;                  /* of the file, seconds */
    char file_id[AX_ENGINE_ID_BYTES];  /* the file's name, no .gguf, .axpack */
    char id[AX_ENGINE_ID_BYTES];       /* the alias, else file_id */
    char template_note[AX_ERROR_TEXT]; /* why there is no chat template */
};

int ax_engine_open(struct ax_engine **out,
                   const struct ax_engine_options *options,
                   struct ax_error *err);
void ax_engine_close(struct ax_engine *engine); /* NULL is fine */

/* A name that a request can give and a log can show: 1 to 63 bytes of UTF-8
 * without controls. */
bool ax_engine_alias_valid(const char *alias);
/* The ids under which clients may ask for a model; known before it loads. */
void ax_engine_names(const char *path, const char *alias,
                     char file_id[AX_ENGINE_ID_BYTES],
                     char id[AX_ENGINE_ID_BYTES]);

struct ax_calibrate_options {
    uint64_t budget_us; /* 0: none are timed */
    /* As a step's (engine/exec/exec.h), AXION_AGAIN to put it off; or NULL. */
    int (*at_layer)(void *context, uint32_t layer);
    void *context;
};

/* Times steps of an engine that is open but for this, into engine->cost.
 * AXION_AGAIN: put off.  NO_MEMORY, or what a step failed with. */
int ax_engine_calibrate(struct ax_engine *engine,
                        const struct ax_calibrate_options *options,
                        struct ax_error *err);

#endif
