/*
 * Requests with one beginning run together, as far as fairness allows.
 *
 * A prompt whose prefix is cached costs little now and much later, when others
 * have taken the blocks.  The order by counters (tenants.c) goes from tenant
 * to tenant, and with little memory each finds its prefix gone when its turn
 * comes.  So of the tenants whose counter is within a quantum of the smallest,
 * the one goes first whose next prompt has the longest known prefix (Cao et
 * al., "Locality-aware Fair Scheduling in LLM Serving", 2025: longest prefix
 * within a deficit).  It is charged as ever, and so runs out of its quantum:
 *
 *     counters of tenants that both have prompts differ by at most
 *         max(L, 2 M) + quantum
 *
 * in tokens of weight 1, L the longest prompt, M the tokens that KV can hold;
 * without the quantum it is the bound of virtual token counters (theirs is in
 * terms of what is served between two moments: twice that).  Within a tenant
 * the order stays that of order.c, and nobody goes before a tenant's only
 * prompt, or before one that is above all classes.
 *
 * What is known of a prompt is looked up when it arrives and then in turns,
 * LOOKUPS of the waiting ones in each step: what others have left in the cache
 * meanwhile makes it due earlier.
 */
#include "engine/sched/internal.h"

#define LOOKUPS 8u


static void
look_up(struct ax_sched *s, uint32_t slot)
{
    struct sequence *q = &s->sequences[slot];
    const struct ax_sched_kv *kv = &s->options.kv;
    uint32_t n = kv->known(kv->context, slot, q->n_tokens - 1);
    if (n != q->n_known) {
        q->n_known = n;
        q->due_us = sched_due_us(s, q->arrived_us, q->n_tokens - n);
    }
}


void
sched_look_up_some(struct ax_sched *s)
{
    uint32_t most = s->waiting.n < LOOKUPS ? s->waiting.n : LOOKUPS;
    if (s->options.kv.known == NULL) {
        return;
    }
    for (uint32_t i = 0; i < most; i++) {
        uint32_t slot = s->look_up_next;
        if (slot == NONE || s->sequences[slot].state != WAITING) {
            slot = s->waiting.first;
        }
        look_up(s, slot);
        s->look_up_next = s->sequences[slot].link.next;
    }
}


/* Whether v is its tenant's first so far, among those of one class. */
static bool
is_first(const struct ax_sched *s, const struct sequence *v)
{
    uint32_t i = s->tenants[v->tenant].first;
    const struct sequence *u = &s->sequences[i == NONE ? 0 : i];
    return i == NONE || v->due_us < u->due_us ||
           (v->due_us == u->due_us && v->arrival < u->arrival);
}


static void
find_firsts(struct ax_sched *s, uint32_t class, uint64_t now_us)
{
    for (uint32_t i = 0; i < s->n_tenants; i++) {
        s->tenants[i].first = NONE;
    }
    for (uint32_t i = s->waiting.first; i != NONE;
         i = s->sequences[i].link.next) {
        const struct sequence *v = &s->sequences[i];
        if (v->holds == 0 && v->looked_at != s->turn &&
            sched_aged_class(s, v, now_us) == class && is_first(s, v)) {
            s->tenants[v->tenant].first = i;
        }
    }
}


/* Of the next prompts of tenants within the quantum the one with the longest
 * known prefix, longer than that of q; or NONE. */
static uint32_t
longest(const struct ax_sched *s, const struct sequence *q)
{
    uint64_t most = s->tenants[q->tenant].served + s->quantum;
    uint32_t n_known = q->n_known, found = NONE;
    for (uint32_t i = 0; i < s->n_tenants; i++) {
        const struct tenant *t = &s->tenants[i];
        if (i != q->tenant && t->first != NONE && t->served <= most &&
            s->sequences[t->first].n_known > n_known) {
            found = t->first;
            n_known = s->sequences[found].n_known;
        }
    }
    return found;
}


uint32_t
sched_prefer_known(struct ax_sched *s, uint32_t best, uint64_t now_us)
{
    const struct sequence *q = &s->sequences[best];
    uint32_t class = sched_aged_class(s, q, now_us);
    if (s->quantum == 0 || s->options.kv.known == NULL || q->state != WAITING ||
        !sched_has_backlog(s, q) ||
        sched_aged_class(s, q, now_us) >= CLASS_ABOVE) {
        return best;
    }
    find_firsts(s, class, now_us);
    uint32_t found = longest(s, q);
    if (found == NONE) {
        return best;
    }
    look_up(s, best);
    look_up(s, found);
    return s->sequences[found].n_known > q->n_known ? found : best;
}
