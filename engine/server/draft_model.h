/*
 * A draft model: a smaller model with the same tokenizer says what may come
 * next, and the model itself verifies (--draft FILE).
 *
 * It has its part of --kv-memory for as many sequences as fit, and computes on
 * the threads of the engine.  A sequence is taken up when it first drafts: its
 * text is computed a piece per step, CATCH_UP tokens for all together, so that
 * no step is late for it; until then it has no drafts.  Whose KV is needed and
 * was not in a step for longest loses it.
 *
 * Drafts are sampled as the answer is, with the request's own parameters, its
 * grammar and the same draws by (seed, position): two models that agree on the
 * distribution then agree on the token.  Where a grammar says no more, no more
 * rounds are computed.
 *
 * Thread 0 between steps.  Memory is taken at open.
 */
#ifndef AX_SERVER_DRAFT_MODEL_H
#define AX_SERVER_DRAFT_MODEL_H

#include <stdbool.h>
#include <stdint.h>
#include "engine/error.h"
#include "engine/server/engine.h"

struct ax_draft_model;

struct ax_draft_options {
    struct ax_model *model; /* becomes the draft model's, also if that fails */
    const struct ax_engine *engine; /* whose tokens are drafted */
    uint32_t slots;                 /* of requests */
};

/* A sequence that drafts in this step. */
struct ax_draft_sequence {
    uint32_t slot;
    const struct ax_sampling *sampling;
    int32_t *tokens; /* drafts are written behind n_tokens */
    uint32_t n_prompt;
    uint32_t n_tokens;
    uint32_t k; /* in: drafts wanted; out: drafts there are */
    /* What may be drafted next, NULL: anything.  With a grammar take() is told
     * of draft n, sets what may follow it, and says whether it is one. */
    const uint64_t *allowed;
    bool (*take)(struct ax_draft_sequence *sequence, uint32_t n);
    void *context; /* of take() */
};

/*
 * BAD_OPTION when the tokenizer is another one, with the first token that
 * differs, or when its part of the engine's KV memory holds no block; else what
 * opening an executor gives.  Close it after
 * the engine has stopped its threads (ax_engine_close()).
 */
int ax_draft_model_open(struct ax_draft_model **out,
                        const struct ax_draft_options *options,
                        struct ax_error *err);
void ax_draft_model_close(struct ax_draft_model *draft); /* NULL is fine */

/* The sequences of one step, at most the engine's; AXION_OK, or what a step
 * failed with: then nothing was drafted. */
int ax_draft_model_run(struct ax_draft_model *draft,
                       struct ax_draft_sequence *sequences, uint32_t n);
/* us that a round of drafts takes, of late. */
float ax_draft_model_round_us(const struct ax_draft_model *draft);

void ax_draft_model_forget(struct ax_draft_model *draft, uint32_t slot);
const struct ax_model_info *
ax_draft_model_info(const struct ax_draft_model *draft);
/* Memory of its KV (all of the engine's draft_kv_bytes that whole blocks
 * fill), and of everything else but its weights. */
uint64_t ax_draft_model_kv_bytes(const struct ax_draft_model *draft);
uint64_t ax_draft_model_scratch_bytes(const struct ax_draft_model *draft);
/* ax_kv_populate() of its KV, on one thread, beside any other call. */
bool ax_draft_model_populate(struct ax_draft_model *draft, uint64_t bytes_max);

#endif
