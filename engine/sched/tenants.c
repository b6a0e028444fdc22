/*
 * Fairness between tenants by a virtual token counter (Sheng et al.,
 * "Fairness in Serving Large Language Models", OSDI 2024).
 *
 * Each tenant's counter grows by what it was served, divided by its weight;
 * the next prompt chunk goes to the smallest.  A prompt's token counts when it
 * is computed, a cached one a quarter of that, an answer's token double; what
 * is computed again after a preemption was paid for.  A tenant that has a
 * prompt again, after a time without one that waits, is lifted to the smallest
 * counter of those that compete: it may not spend a credit that it saved up
 * while it asked for nothing, be it away or busy with one long answer.  Where
 * nobody competes, to what was the smallest when somebody did.  So counters of
 * competing tenants differ by no more than the theorem's bound, which
 * locality.c states and tests/sim checks at every step.  The table has one
 * place more than there can be live sequences, so there is always one to give
 * away; a tenant forgotten so starts at the smallest counter again.
 */
#include "engine/sched/internal.h"

#include <assert.h>


static uint64_t
smallest_live(const struct ax_sched *s)
{
    uint64_t smallest = UINT64_MAX;
    for (uint32_t i = 0; i < s->n_tenants; i++) {
        const struct tenant *t = &s->tenants[i];
        if (t->live > 0 && t->served < smallest) {
            smallest = t->served;
        }
    }
    return smallest == UINT64_MAX ? 0 : smallest;
}


/* The place of a known tenant, else a free one, else of the one away that
 * was served least: lifting would give it the same counter anyway. */
static uint32_t
place_of(const struct ax_sched *s, uint64_t id)
{
    uint32_t place = NONE;
    for (uint32_t i = 0; i < s->n_tenants; i++) {
        const struct tenant *t = &s->tenants[i];
        if (t->known && t->id == id) {
            return i;
        }
        if (t->live > 0) {
            continue;
        }
        if (place == NONE ||
            (s->tenants[place].known &&
             (!t->known || t->served < s->tenants[place].served))) {
            place = i;
        }
    }
    assert(place != NONE);
    return place;
}


uint32_t
sched_tenant_join(struct ax_sched *s, uint64_t id, uint32_t weight)
{
    uint32_t i = place_of(s, id);
    struct tenant *t = &s->tenants[i];
    if (!t->known || t->id != id) {
        *t = (struct tenant){.id = id, .known = true};
    }
    t->weight = weight;
    if (t->live == 0) {
        uint64_t floor = smallest_live(s);
        t->served = t->served < floor ? floor : t->served;
        s->tenants_live++;
    }
    t->live++;
    return i;
}


static void
mark(struct ax_sched *s, const struct list *l)
{
    for (uint32_t i = l->first; i != NONE; i = s->sequences[i].link.next) {
        const struct sequence *q = &s->sequences[i];
        struct tenant *t = &s->tenants[q->tenant];
        if (q->holds == 0 && t->competes != s->turn &&
            (q->state == WAITING || q->n_tokens - q->n_computed > 1)) {
            t->comes = t->competes != s->turn - 1;
            t->competes = s->turn;
        }
    }
}


static uint64_t
smallest_competing(const struct ax_sched *s, bool all)
{
    uint64_t smallest = UINT64_MAX;
    for (uint32_t i = 0; i < s->n_tenants; i++) {
        const struct tenant *t = &s->tenants[i];
        if (t->competes == s->turn && (all || !t->comes) &&
            t->served < smallest) {
            smallest = t->served;
        }
    }
    return smallest == UINT64_MAX ? s->left_served : smallest;
}


void
sched_lift_tenants(struct ax_sched *s)
{
    mark(s, &s->waiting);
    mark(s, &s->running);
    uint64_t floor = smallest_competing(s, false);
    for (uint32_t i = 0; i < s->n_tenants; i++) {
        struct tenant *t = &s->tenants[i];
        if (t->competes == s->turn && t->comes && t->served < floor) {
            t->served = floor;
        }
    }
    s->left_served = smallest_competing(s, true);
}


void
sched_tenant_leave(struct ax_sched *s, uint32_t tenant)
{
    assert(s->tenants[tenant].live > 0);
    if (--s->tenants[tenant].live == 0) {
        s->tenants_live--;
    }
}


/* ---- charges ---- */

#define CACHED_TOKEN 1u
#define PROMPT_TOKEN 4u
#define ANSWER_TOKEN 8u


static uint64_t
charge(struct ax_sched *s, uint32_t tenant, uint64_t units)
{
    struct tenant *t = &s->tenants[tenant];
    uint64_t more = units * AX_SCHED_SERVED_TOKEN / PROMPT_TOKEN / t->weight;
    t->served += more;
    return more;
}


static uint32_t
newly_charged(struct sequence *q, uint32_t n)
{
    uint32_t end = n < q->n_prompt ? n : q->n_prompt;
    uint32_t more = end > q->n_charged ? end - q->n_charged : 0;
    q->n_charged += more;
    return more;
}


void
sched_charge_prompt(struct ax_sched *s, uint32_t slot, uint32_t n)
{
    struct sequence *q = &s->sequences[slot];
    uint64_t tokens = newly_charged(q, n) + (uint64_t)q->n_wasted;
    q->n_wasted = 0;
    q->charged += charge(s, q->tenant, PROMPT_TOKEN * tokens);
}


void
sched_note_cached(struct ax_sched *s, uint32_t slot, uint32_t n)
{
    struct sequence *q = &s->sequences[slot];
    assert(n >= q->n_computed && n < q->n_tokens);
    uint32_t more = newly_charged(q, n);
    q->n_computed = n;
    q->n_cached += more;
    q->charged += charge(s, q->tenant, (uint64_t)CACHED_TOKEN * more);
}


void
sched_charge_answer(struct ax_sched *s, uint32_t slot, uint32_t n_tokens)
{
    (void)charge(s, s->sequences[slot].tenant,
                 (uint64_t)ANSWER_TOKEN * n_tokens);
}


uint64_t
ax_sched_served(const struct ax_sched *s, uint64_t tenant)
{
    for (uint32_t i = 0; i < s->n_tenants; i++) {
        if (s->tenants[i].known && s->tenants[i].id == tenant) {
            return s->tenants[i].served;
        }
    }
    return 0;
}
