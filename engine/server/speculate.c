/*
 * Drafts for the step that the scheduler composed: every decode is asked what
 * may come next, the control law says how much of it to compute, and the
 * scheduler lengthens the entries as far as leases, KV and the batch allow.
 * What is proposed stands behind the sequence's text in r->tokens, where the
 * verifier finds it (step.c).
 */
#include "engine/server/server_private.h"

#include <assert.h>
#include <stdlib.h>


int
ax_server_speculation_open(struct ax_server *s, struct ax_error *err)
{
    const struct ax_server_options *o = &s->options;
    struct ax_spec_options options = {
        .kind = o->proposer.propose != NULL ? AX_SPEC_CUSTOM
                                            : ax_spec_kind(o->speculate),
        .slots = s->n_requests,
        .sequences = s->engine->sequences,
        .ctx = s->engine->ctx,
        .draft_max = o->draft_max,
        .custom = o->proposer,
    };
    int rc = ax_spec_open(&s->spec, &options, err);
    if (rc == AXION_OK && s->draft != NULL) {
        s->draft_sequences =
            calloc(s->engine->sequences, sizeof(*s->draft_sequences));
        if (s->draft_sequences == NULL) {
            rc = ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
        }
    }
    return rc;
}


/* Its weights first: the engine then divides --kv-memory between the two. */
int
ax_server_load(struct ax_server *s, struct ax_error *err)
{
    struct ax_engine_options options = s->load_options;
    struct ax_model *draft = NULL;
    struct ax_model_options model = {
        .path = s->options.draft,
        .isa = options.isa,
        .n_threads = options.threads,
    };
    int rc = AXION_OK;
    if (model.path != NULL) {
        rc = ax_model_open(&draft, &model, err);
    }
    if (rc != AXION_OK) {
        return rc;
    }
    options.draft = draft;
    rc = ax_engine_open(&s->loaded, &options, err);
    if (rc != AXION_OK || draft == NULL) {
        ax_model_close(draft);
        return rc;
    }
    struct ax_draft_options drafts = {
        .model = draft,
        .engine = s->loaded,
        .slots = ax_server_slots(s, s->loaded),
    };
    rc = ax_draft_model_open(&s->draft, &drafts, err);
    if (rc != AXION_OK) {
        ax_engine_close(s->loaded);
        s->loaded = NULL;
    }
    return rc;
}


static bool
may_draft(const struct ax_sched_entry *entry)
{
    return entry->samples && entry->n_tokens == 1;
}


static float
keys_us(const struct ax_server *s, const struct ax_sched_entry *entry)
{
    return ax_cost_of_keys(&s->engine->cost, entry->n_tokens, entry->position);
}


/* Asks all of the step; what its decodes cost without drafts. */
static struct ax_spec_step
ask(struct ax_server *s, const struct ax_sched_step *plan)
{
    struct ax_spec_step step = {
        .n_tokens = plan->n_tokens,
        .drafts_max = s->engine->logits_rows - plan->n_samples,
        .n_rows = plan->n_samples,
        .n_drawn = s->engine->threads,
        .room_us = (float)ax_sched_draft_room_us(s->sched),
    };
    ax_spec_begin_step(s->spec);
    for (uint32_t i = 0; i < plan->n_entries; i++) {
        const struct ax_sched_entry *entry = &plan->entries[i];
        struct request *r = &s->requests[entry->slot];
        if (may_draft(entry)) {
            step.n_decodes++;
            step.other_us += keys_us(s, entry);
            (void)ax_spec_propose(s->spec, r->slot, r->tokens, r->n_prompt,
                                  r->n_tokens, s->engine->ctx - r->n_tokens);
        } else {
            ax_spec_follow(s->spec, r->slot, r->tokens,
                           entry->position + entry->n_tokens);
        }
    }
    return step;
}


static bool
take_draft(struct ax_draft_sequence *q, uint32_t n)
{
    struct ax_server *s = q->context;
    struct request *r = &s->requests[q->slot];
    bool good = ax_server_constrain_draft(s, r, n);
    q->allowed = good ? ax_server_allowed(r, n + 1) : NULL;
    return good;
}


static struct ax_draft_sequence
draft_sequence(struct ax_server *s, struct request *r, uint32_t k)
{
    struct ax_draft_sequence q = {.slot = r->slot,
                                  .sampling = &r->sampling,
                                  .tokens = r->tokens,
                                  .n_prompt = r->n_prompt,
                                  .n_tokens = r->n_tokens,
                                  .k = k,
                                  .context = s};
    if (r->grammar != NULL) {
        q.k = ax_server_constrain_drafts(r) ? k : 0;
        q.allowed = r->allowed;
        q.take = take_draft;
    }
    return q;
}


/* The draft model says what was chosen; a step of it that fails is a step
 * without drafts. */
static void
run_draft_model(struct ax_server *s, const struct ax_sched_step *plan)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < plan->n_entries; i++) {
        struct request *r = &s->requests[plan->entries[i].slot];
        uint32_t k =
            may_draft(&plan->entries[i]) ? ax_spec_chosen(s->spec, r->slot) : 0;
        if (k > 0) {
            s->draft_sequences[n++] = draft_sequence(s, r, k);
        }
    }
    if (n > 0) {
        (void)ax_draft_model_run(s->draft, s->draft_sequences, n);
    }
    for (uint32_t i = 0; i < n; i++) {
        const struct ax_draft_sequence *q = &s->draft_sequences[i];
        ax_spec_said(s->spec, q->slot, q->tokens + q->n_tokens, q->k);
    }
}


/* How many of k drafts that others than the draft model propose stand in the
 * request's grammar. */
static uint32_t
cut_drafts(struct ax_server *s, struct request *r, uint32_t k)
{
    uint32_t n = 0;
    if (r->grammar == NULL || s->draft != NULL) {
        return k;
    }
    if (k > 0 && ax_server_constrain_drafts(r)) {
        while (n < k && ax_server_constrain_draft(s, r, n)) {
            n++;
        }
    }
    return n;
}


void
ax_server_speculate(struct ax_server *s, const struct ax_sched_step *plan)
{
    struct ax_spec_step step = ask(s, plan);
    if (s->draft != NULL) {
        step.round_us = ax_draft_model_round_us(s->draft);
    }
    ax_sched_want_drafts(s->sched, (double)ax_spec_choose_step(
                                       s->spec, &s->engine->cost, &step));
    if (s->draft != NULL) {
        run_draft_model(s, plan);
    }
    for (uint32_t i = 0; i < plan->n_entries; i++) {
        const struct ax_sched_entry *entry = &plan->entries[i];
        struct request *r = &s->requests[entry->slot];
        uint32_t k = may_draft(entry) ? ax_spec_chosen(s->spec, r->slot) : 0;
        k = cut_drafts(s, r, k);
        if (k > 0) {
            k = ax_sched_extend(s->sched, i, k);
            r->drafted += k;
            s->board.drafted_tokens_total += k;
        }
    }
}


void
ax_server_learn_draws(struct ax_server *s, uint32_t n_rows, uint64_t us)
{
    uint32_t threads = s->engine->threads;
    ax_cost_learn_draws(&s->engine->cost, (n_rows + threads - 1) / threads,
                        (float)us);
}


void
ax_server_learn_cost(struct ax_server *s, const struct ax_sched_step *plan,
                     uint64_t us)
{
    float keys = 0;
    for (uint32_t i = 0; i < plan->n_entries; i++) {
        keys += keys_us(s, &plan->entries[i]);
    }
    ax_cost_learn(&s->engine->cost, plan->n_tokens, keys, (float)us);
}
