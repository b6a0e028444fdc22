/* See draft_model.h.  A run is a loop of the draft model's steps: round r
 * computes what is pending of every sequence that wants more than r drafts
 * (one token after the first round) and samples its next one. */
#include "engine/server/draft_model.h"

#include <stdlib.h>
#include <string.h>
#include "engine/pool/pool.h"
#include "engine/spec/control.h"

#define CATCH_UP   256u /* tokens of a step, beside one per sequence */
#define ROUND_RATE 0.1f

struct sequence {
    struct ax_kv_sequence kv;
    uint32_t n_computed; /* of its tokens, drafts included */
    uint32_t n_text;     /* tokens that were no drafts in its last run */
    int32_t drafts[AX_SPEC_DRAFT_MAX]; /* behind them, as computed */
    uint64_t used;                     /* run */
};

struct ax_draft_model {
    struct ax_draft_options options;
    struct ax_model *model;
    struct ax_kv *kv;
    struct ax_exec *exec;
    struct ax_sampler *sampler;
    uint32_t ctx, batch_tokens;
    struct sequence *sequences; /* [slots] */
    uint32_t *blocks;           /* [slots][groups][blocks of ctx] */
    float *logits;              /* [sequences of a step][n_vocab] */
    struct ax_step_token *tokens;
    struct ax_kv_sequence **step_sequences;
    uint64_t run;
    float round_us;
};


/* ---- open and close ---- */

static int
same_tokens(const struct ax_tokenizer *a, const struct ax_tokenizer *b,
            struct ax_error *err)
{
    uint32_t n = ax_tokenizer_n_vocab(a), m = ax_tokenizer_n_vocab(b);
    if (n != m) {
        return ax_error_set(err, AXION_ERR_BAD_OPTION,
                            "the draft model has %u tokens, the model %u", m,
                            n);
    }
    for (int32_t id = 0; id < (int32_t)n; id++) {
        struct ax_tokenizer_str s = ax_tokenizer_token_text(a, id);
        struct ax_tokenizer_str t = ax_tokenizer_token_text(b, id);
        if (s.n != t.n || memcmp(s.p, t.p, s.n) != 0 ||
            ax_tokenizer_is_eog(a, id) != ax_tokenizer_is_eog(b, id)) {
            char own[64], its[64];
            ax_error_escape(own, sizeof(own), s.p, s.n);
            ax_error_escape(its, sizeof(its), t.p, t.n);
            return ax_error_set(err, AXION_ERR_BAD_OPTION,
                                "the draft model has another tokenizer: token "
                                "%d is \"%s\" there and \"%s\" in the model",
                                (int)id, its, own);
        }
    }
    return AXION_OK;
}


static int
check_tokenizer(struct ax_draft_model *d, struct ax_error *err)
{
    struct ax_tokenizer_params params;
    struct ax_tokenizer *tokenizer;
    char why[AX_ERROR_TEXT];
    int rc = ax_model_tokenizer_params(d->model, &params, err);
    if (rc != AXION_OK) {
        return rc;
    }
    if (ax_tokenizer_open(&tokenizer, &params, why, sizeof(why)) !=
        AX_TEXT_OK) {
        return ax_error_set(err, AXION_ERR_MODEL_UNSUPPORTED,
                            "the draft model's tokenizer: %.200s", why);
    }
    rc = same_tokens(d->options.engine->tokenizer, tokenizer, err);
    ax_tokenizer_close(tokenizer);
    uint32_t n_vocab = ax_model_info(d->model)->n_vocab;
    if (rc == AXION_OK && n_vocab != d->options.engine->info->n_vocab) {
        rc = ax_error_set(err, AXION_ERR_BAD_OPTION,
                          "the draft model gives %u logits, the model %u",
                          n_vocab, d->options.engine->info->n_vocab);
    }
    return rc;
}


static int
open_kv(struct ax_draft_model *d, struct ax_error *err)
{
    const struct ax_engine *e = d->options.engine;
    struct ax_kv_shape shape = ax_model_kv_shape(d->model);
    shape.type = ax_kv_shape(e->kv).type;
    d->batch_tokens = e->sequences + CATCH_UP;
    shape.step_tokens_max = d->batch_tokens;
    shape.back_tokens_max = AX_SPEC_DRAFT_MAX; /* of a run: several steps */
    int rc = ax_kv_open(&d->kv, &shape, e->draft_kv_bytes, err);
    if (rc != AXION_OK) {
        return rc;
    }
    uint32_t tokens = ax_kv_tokens_max(d->kv);
    d->ctx = ax_model_info(d->model)->n_ctx;
    d->ctx = d->ctx < tokens ? d->ctx : tokens;
    uint32_t blocks = ax_kv_blocks_for(d->ctx);
    size_t table = (size_t)blocks * ax_kv_groups(d->kv);
    d->sequences = calloc(d->options.slots, sizeof(*d->sequences));
    d->blocks = calloc(d->options.slots * table, sizeof(*d->blocks));
    if (d->sequences == NULL || d->blocks == NULL) {
        return AXION_ERR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < d->options.slots; i++) {
        d->sequences[i].kv.blocks = d->blocks + i * table;
        d->sequences[i].kv.blocks_max = blocks;
    }
    return AXION_OK;
}


static int
open_exec(struct ax_draft_model *d, struct ax_error *err)
{
    const struct ax_engine *e = d->options.engine;
    struct ax_exec_options options = {.n_threads = e->threads,
                                      .batch_tokens_max = d->batch_tokens,
                                      .logits_max = e->sequences,
                                      .sequences_max = e->sequences,
                                      .pool = ax_exec_pool(e->exec)};
    int rc = ax_exec_open(&d->exec, d->model, d->kv, &options, err);
    if (rc != AXION_OK) {
        return rc;
    }
    size_t row = (size_t)e->info->n_vocab * sizeof(float);
    d->logits = aligned_alloc(64, (e->sequences * row + 63) / 64 * 64);
    d->tokens = calloc(d->batch_tokens, sizeof(*d->tokens));
    d->step_sequences = calloc(e->sequences, sizeof(struct ax_kv_sequence *));
    rc = ax_sampler_open(&d->sampler, e->info->n_vocab, ax_model_ops(d->model));
    return d->logits == NULL || d->tokens == NULL || d->step_sequences == NULL
               ? AXION_ERR_NO_MEMORY
               : rc;
}


int
ax_draft_model_open(struct ax_draft_model **out,
                    const struct ax_draft_options *options,
                    struct ax_error *err)
{
    *out = NULL;
    struct ax_draft_model *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        ax_model_close(options->model);
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    d->options = *options;
    d->model = options->model;
    err->number = AXION_OK;
    int rc;
    if ((rc = check_tokenizer(d, err)) != AXION_OK ||
        (rc = open_kv(d, err)) != AXION_OK ||
        (rc = open_exec(d, err)) != AXION_OK) {
        ax_draft_model_close(d);
        return err->number != AXION_OK
                   ? rc
                   : ax_error_set(err, rc, "no memory for the draft model");
    }
    /* A guess for the first time: in proportion to the weights. */
    d->round_us = ax_cost_of(&options->engine->cost, 1) *
                  (float)ax_model_info(d->model)->weight_bytes /
                  (float)options->engine->info->weight_bytes;
    *out = d;
    return AXION_OK;
}


void
ax_draft_model_close(struct ax_draft_model *d)
{
    if (d == NULL) {
        return;
    }
    ax_sampler_close(d->sampler);
    free(d->step_sequences);
    free(d->tokens);
    free(d->logits);
    ax_exec_close(d->exec);
    free(d->blocks);
    free(d->sequences);
    ax_kv_close(d->kv);
    ax_model_close(d->model);
    free(d);
}


/* ---- KV ---- */

void
ax_draft_model_forget(struct ax_draft_model *d, uint32_t slot)
{
    if (d != NULL) {
        ax_kv_release(d->kv, &d->sequences[slot].kv);
        d->sequences[slot].n_computed = 0;
    }
}


/* Who was longest in no run gives its KV; false: all are in this one. */
static bool
evict(struct ax_draft_model *d)
{
    uint32_t oldest = d->options.slots;
    for (uint32_t i = 0; i < d->options.slots; i++) {
        const struct sequence *s = &d->sequences[i];
        if (s->kv.n_blocks > 0 && s->used < d->run &&
            (oldest == d->options.slots ||
             s->used < d->sequences[oldest].used)) {
            oldest = i;
        }
    }
    if (oldest == d->options.slots) {
        return false;
    }
    ax_draft_model_forget(d, oldest);
    return true;
}


/* How far what was computed is this text.  It may have gone on without us
 * since the last run, so its length does not tell which drafts held. */
static uint32_t
still_right(const struct sequence *s, const struct ax_draft_sequence *q)
{
    uint32_t end =
        s->n_computed < q->n_tokens ? s->n_computed : q->n_tokens - 1;
    uint32_t n = s->n_text < end ? s->n_text : end;
    while (n < end && s->drafts[n - s->n_text] == q->tokens[n]) {
        n++;
    }
    return n;
}


/* What was drafted and did not hold is cut off; room for k more. */
static bool
prepare(struct ax_draft_model *d, const struct ax_draft_sequence *q)
{
    struct sequence *s = &d->sequences[q->slot];
    uint32_t positions = q->n_tokens + q->k - 1;
    s->used = d->run;
    s->n_computed = still_right(s, q);
    s->n_text = q->n_tokens;
    uint32_t left = ax_kv_truncate(d->kv, &s->kv, s->n_computed);
    s->n_computed = s->n_computed < left ? s->n_computed : left;
    if (positions > d->ctx) {
        return false;
    }
    while (ax_kv_reserve(d->kv, &s->kv, positions) != AXION_OK) {
        if (!evict(d)) {
            return false;
        }
    }
    return true;
}


/* ---- rounds ---- */

struct round {
    uint32_t number;
    uint32_t n_tokens, n_rows, n_sequences;
    uint32_t room; /* tokens that may still catch up */
};


/* Adds what is pending of q; it gets a row if that reaches its end. */
static void
add(struct ax_draft_model *d, const struct ax_draft_sequence *q,
    struct round *round)
{
    struct sequence *s = &d->sequences[q->slot];
    uint32_t end = q->n_tokens + round->number;
    uint32_t n = end - s->n_computed;
    if (n > 1) {
        n = n - 1 < round->room ? n : round->room;
        round->room -= n > 0 ? n - 1 : 0;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t position = s->n_computed + i;
        if (position >= q->n_tokens) {
            s->drafts[position - q->n_tokens] = q->tokens[position];
        }
        d->tokens[round->n_tokens++] = (struct ax_step_token){
            .token = q->tokens[position],
            .position = position,
            .sequence = round->n_sequences,
            .logits_row = position + 1 == end ? round->n_rows++ : AX_NO_LOGITS,
        };
    }
    d->step_sequences[round->n_sequences] = &s->kv;
    round->n_sequences += n > 0;
    s->n_computed += n;
}


static bool
wants(const struct ax_draft_sequence *q, uint32_t round)
{
    return q->k > round;
}


/* Draft n of a sequence, from its logits; false: there is none. */
static bool
take_draft(struct ax_draft_model *d, struct ax_draft_sequence *q, uint32_t n,
           const float *logits)
{
    uint32_t end = q->n_tokens + n;
    const struct ax_sample_history history = {q->tokens, q->n_prompt, end};
    struct ax_sampling sampling = *q->sampling;
    int32_t token;
    sampling.allowed = q->allowed;
    if (ax_sample(d->sampler, &sampling, &history, logits, &token) !=
        AXION_OK) {
        return false;
    }
    q->tokens[end] = token;
    return q->take == NULL || q->take(q, n);
}


/* The next draft of each that reached its end; others are behind. */
static void
take_drafts(struct ax_draft_model *d, struct ax_draft_sequence *sequences,
            uint32_t n, uint32_t round)
{
    uint32_t n_vocab = d->options.engine->info->n_vocab, row = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct ax_draft_sequence *q = &sequences[i];
        uint32_t end = q->n_tokens + round;
        if (!wants(q, round)) {
            continue;
        }
        if (d->sequences[q->slot].n_computed < end ||
            !take_draft(d, q, round, d->logits + (size_t)row++ * n_vocab)) {
            q->k = round;
        }
    }
}


static int
run_round(struct ax_draft_model *d, struct ax_draft_sequence *sequences,
          uint32_t n, uint32_t number)
{
    struct round round = {.number = number, .room = CATCH_UP};
    for (uint32_t i = 0; i < n; i++) {
        if (wants(&sequences[i], number)) {
            add(d, &sequences[i], &round);
        }
    }
    if (round.n_tokens == 0) {
        return AXION_OK; /* who is behind wants no more: nothing to time */
    }
    struct ax_step step = {
        .tokens = d->tokens,
        .n_tokens = round.n_tokens,
        .n_sequences = round.n_sequences,
        .sequences = d->step_sequences,
        .logits = d->logits,
        .n_logits = round.n_rows,
    };
    uint64_t start = ax_pool_clock_ns();
    int rc = ax_exec_step(d->exec, &step);
    if (rc != AXION_OK) {
        return rc;
    }
    take_drafts(d, sequences, n, number);
    if (round.n_tokens == round.n_sequences) {
        float us = (float)(ax_pool_clock_ns() - start) / 1000;
        d->round_us += (us - d->round_us) * ROUND_RATE;
    }
    return AXION_OK;
}


int
ax_draft_model_run(struct ax_draft_model *d,
                   struct ax_draft_sequence *sequences, uint32_t n)
{
    uint32_t rounds = 0;
    d->run++;
    for (uint32_t i = 0; i < n; i++) {
        struct ax_draft_sequence *q = &sequences[i];
        if (q->k > 0 && !prepare(d, q)) {
            q->k = 0;
        }
        rounds = q->k > rounds ? q->k : rounds;
    }
    for (uint32_t r = 0; r < rounds; r++) {
        int rc = run_round(d, sequences, n, r);
        if (rc != AXION_OK) {
            for (uint32_t i = 0; i < n; i++) {
                ax_draft_model_forget(d, sequences[i].slot);
                sequences[i].k = 0;
            }
            return rc;
        }
    }
    return AXION_OK;
}


float
ax_draft_model_round_us(const struct ax_draft_model *d)
{
    return d->round_us;
}


const struct ax_model_info *
ax_draft_model_info(const struct ax_draft_model *d)
{
    return ax_model_info(d->model);
}


uint64_t
ax_draft_model_kv_bytes(const struct ax_draft_model *d)
{
    return ax_kv_block_bytes(d->kv) * ax_kv_blocks_total(d->kv);
}


uint64_t
ax_draft_model_scratch_bytes(const struct ax_draft_model *d)
{
    const struct ax_engine *e = d->options.engine;
    return ax_exec_bytes(d->exec) +
           (uint64_t)e->sequences * e->info->n_vocab * sizeof(float);
}


bool
ax_draft_model_populate(struct ax_draft_model *d, uint64_t bytes_max)
{
    return ax_kv_populate(d->kv, bytes_max);
}
