/*
 * Drafts for the step that the scheduler composed: every decode is asked what
 * may come next, the control law says how much of it to compute, and the
 * scheduler lengthens the entries as far as leases, KV and the batch allow.
 * What is proposed stands behind the sequence's text in r->tokens, where the
 * verifier finds it (step.c).
 */
#include "engine/server/server_private.h"

#include <assert.h>


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
    return ax_spec_open(&s->spec, &options, err);
}


static bool
may_draft(const struct ax_sched_entry *entry)
{
    return entry->samples && entry->n_tokens == 1;
}


static float
keys_us(const struct ax_server *s, const struct ax_sched_step *plan)
{
    float us = 0;
    for (uint32_t i = 0; i < plan->n_entries; i++) {
        us += ax_cost_of_keys(&s->engine->cost, plan->entries[i].n_tokens,
                              plan->entries[i].position);
    }
    return us;
}


/* Asks all of the step; what the step costs without drafts. */
static struct ax_spec_step
ask(struct ax_server *s, const struct ax_sched_step *plan)
{
    struct ax_spec_step step = {
        .n_tokens = plan->n_tokens,
        .n_entries = plan->n_entries,
        .drafts_max = s->engine->logits_rows - plan->n_samples,
        .other_us = keys_us(s, plan),
    };
    ax_spec_begin_step(s->spec);
    for (uint32_t i = 0; i < plan->n_entries; i++) {
        const struct ax_sched_entry *entry = &plan->entries[i];
        struct request *r = &s->requests[entry->slot];
        if (may_draft(entry)) {
            (void)ax_spec_propose(s->spec, r->slot, r->tokens, r->n_prompt,
                                  r->n_tokens, s->engine->ctx - r->n_tokens);
        } else {
            ax_spec_follow(s->spec, r->slot, r->tokens,
                           entry->position + entry->n_tokens);
        }
    }
    return step;
}


void
ax_server_speculate(struct ax_server *s, const struct ax_sched_step *plan)
{
    struct ax_spec_step step = ask(s, plan);
    ax_spec_choose_step(s->spec, &s->engine->cost, &step);
    for (uint32_t i = 0; i < plan->n_entries; i++) {
        const struct ax_sched_entry *entry = &plan->entries[i];
        struct request *r = &s->requests[entry->slot];
        uint32_t k = may_draft(entry) ? ax_spec_chosen(s->spec, r->slot) : 0;
        if (k > 0) {
            k = ax_sched_extend(s->sched, i, k);
            r->drafted += k;
            s->board.drafted_tokens_total += k;
        }
    }
}


void
ax_server_learn_cost(struct ax_server *s, const struct ax_sched_step *plan,
                     uint64_t us)
{
    ax_cost_learn(&s->engine->cost, plan->n_tokens, keys_us(s, plan),
                  (float)us);
}
