/*
 * A step of somebody's backlog gives way.
 *
 * A tenant with more prompts than are computed at a time fills every step, and
 * who asks beside it waits for the one that runs: as long as its own prompt
 * takes, or longer.  So such a step is dropped at its next layer for the first
 * request of a tenant that was not served more; its positions are computed
 * again.
 *
 *   who gives way    steps in which all that is computed belongs to tenants
 *                    with prompts in the queue, of no higher class
 *   for whom         a tenant without another sequence
 *   when             what is left is worth it, the step before was not
 *                    dropped, and what was thrown away of late is less than a
 *                    part of what was computed
 *   who pays         the one that came: the tokens thrown away are charged
 *                    with its prompt
 *
 * Nor is the step of such a prompt made longer by a backlog: neither by its
 * prompts and drafts where it ends there nor, if it is no longer than a step,
 * by its decodes, which sit it out.  Neither two steps in a row, however many
 * such prompts come: a backlog's decodes go on in every second one at worst,
 * and its prompts with what the others leave of it; what a decode waits is
 * bounded by costs.c.  A prompt that was begun so keeps its turn (order.c). And
 * while such requests come, a crowd of prompts makes no step longer than
 * decodes want it: who comes waits for the step that runs.
 */
#include "engine/sched/internal.h"


#define LEFT_MIN_US   10000.0 /* else the step may end */
#define CREDIT_PART   8u      /* of the time of computed steps */
#define CREDIT_MAX_US 400000u


bool
sched_has_backlog(const struct ax_sched *s, const struct sequence *q)
{
    uint64_t own = q->state == WAITING && !q->started ? q->n_prompt : 0;
    return s->tenants[q->tenant].waiting_tokens > own;
}


bool
sched_is_light(const struct ax_sched *s, const struct sequence *q)
{
    return q->n_tokens - q->n_cached <= s->options.batch_tokens_max &&
           !sched_has_backlog(s, q);
}


/* It goes on alone while q has its step. */
static bool
sits_out(const struct ax_sched *s, const struct sequence *v,
         const struct sequence *q)
{
    return v->ready && v->tenant != q->tenant && sched_has_backlog(s, v) &&
           s->tenants[v->tenant].served >= sched_served_before(s, q) &&
           sched_aged_class(s, v, s->now_us) <= q->priority;
}


/* Those that rest have KV for their next position and keep it. */
static uint32_t
let_rest(struct ax_sched *s, const struct sequence *q)
{
    uint32_t n = 0;
    for (uint32_t i = s->running.first; i != NONE;
         i = s->sequences[i].link.next) {
        struct sequence *v = &s->sequences[i];
        v->rests = sits_out(s, v, q);
        v->ready = v->ready && !v->rests;
        n += v->rests;
    }
    return n;
}


static void
wake(struct ax_sched *s)
{
    for (uint32_t i = s->running.first; i != NONE;
         i = s->sequences[i].link.next) {
        struct sequence *v = &s->sequences[i];
        v->ready = v->ready || v->rests;
    }
}


void
sched_clear_step(struct ax_sched *s, const struct sequence *q)
{
    uint32_t n_ready = s->n_ready;
    double rest_us = sched_rest_us(s, n_ready);
    if (s->rested || rest_us == 0 || s->tenants_live < 2 ||
        !sched_is_light(s, q)) {
        return;
    }
    sched_budget_open(s);
    uint32_t usual = sched_chunk_budget(s, q->n_computed);
    s->n_ready -= let_rest(s, q);
    sched_budget_open(s);
    sched_budget_limit(s, rest_us);
    s->cleared =
        s->n_ready < n_ready && sched_chunk_budget(s, q->n_computed) > usual;
    if (!s->cleared) {
        wake(s);
        s->n_ready = n_ready;
        sched_budget_open(s);
    }
}


static bool
others_have_backlog(const struct ax_sched *s, const struct sequence *q)
{
    for (uint32_t i = s->waiting.first; i != NONE;
         i = s->sequences[i].link.next) {
        const struct sequence *v = &s->sequences[i];
        if (v->tenant != q->tenant && sched_has_backlog(s, v)) {
            return true;
        }
    }
    return false;
}


/* One prompt each is a crowd like any other. */
void
sched_note_shared(struct ax_sched *s, const struct sequence *q)
{
    if (!sched_has_backlog(s, q) && others_have_backlog(s, q)) {
        s->shared_at_us = s->now_us;
    }
}


static bool
all_give_way(const struct ax_sched *s, const struct sequence *q)
{
    uint64_t served = s->tenants[q->tenant].served;
    for (uint32_t i = 0; i < s->step.n_entries; i++) {
        const struct sequence *v = &s->sequences[s->entries[i].slot];
        if (v->tenant == q->tenant || !sched_has_backlog(s, v) ||
            served > s->tenants[v->tenant].served ||
            sched_aged_class(s, v, s->now_us) > q->priority) {
            return false;
        }
    }
    return true;
}


void
sched_consider_yield(struct ax_sched *s, uint32_t slot, uint64_t now_us)
{
    struct sequence *q = &s->sequences[slot];
    if (!s->stepping || s->yields || s->yielded || s->n_picks == 0 ||
        s->tenants[q->tenant].live > 1) {
        return;
    }
    double step_us = ax_sched_step_us(s, s->step.n_tokens);
    double gone_us = now_us > s->now_us ? (double)(now_us - s->now_us) : 0;
    if (step_us - gone_us < LEFT_MIN_US || gone_us > s->yield_credit_us ||
        !all_give_way(s, q)) {
        return;
    }
    s->yields = true;
    s->yields_to = slot;
    q->n_wasted = (uint32_t)(s->step.n_tokens * (gone_us / step_us));
}


void
sched_note_yield(struct ax_sched *s, uint64_t cost_us, bool computed)
{
    uint64_t credit = s->yield_credit_us;
    if (computed) {
        credit += cost_us / CREDIT_PART;
        s->yield_credit_us = credit < CREDIT_MAX_US ? credit : CREDIT_MAX_US;
        if (s->yields) { /* it was in its last layer */
            s->sequences[s->yields_to].n_wasted = 0;
        }
    } else if (s->yields) {
        s->yield_credit_us = credit > cost_us ? credit - cost_us : 0;
    }
    s->yielded = s->yields && !computed;
    s->yields = false;
}
