/*
 * Whose prompt is next, among those that wait and those that are half way:
 *
 *   1. the class, one more for every ageing_us that nobody of this tenant and
 *      class was let in while it waited; who has come above all classes so is
 *      served by arrival alone, so nobody starves.  (By its own waiting alone
 *      a flood would age above others' fresh requests: a queue is long
 *      because it is its tenant's.)
 *   2. the tenant that was served least (tenants.c); of two that were served
 *      the same, since one was lifted to the other, the one without a backlog.
 *      A short prompt that is its tenant's only one and was begun is not
 *      counted yet: charged with its first half it would wait for the second
 *   3. within a tenant, the earliest of arrival + STRETCH x the time that its
 *      own prompt takes: a short one goes before a long one, but only so far
 *      as the long one may be delayed in proportion to its length.  What the
 *      prefix cache holds costs nothing, so known prefixes go first by the
 *      same measure, and cold ones still come in time
 *   4. arrival
 */
#include "engine/sched/internal.h"


/* A prompt is late when it took this many times its own time. */
#define STRETCH 4.0


struct key {
    uint64_t class, served, crowd, due_us, arrival;
};


uint32_t
sched_class(const struct ax_sched *s, const struct sequence *q)
{
    return q->preemptions >= s->options.preemptions_max ? CLASS_ABOVE
                                                        : q->priority;
}


uint64_t
sched_due_us(const struct ax_sched *s, uint64_t now_us, uint32_t n_tokens)
{
    return now_us + (uint64_t)(STRETCH * sched_prompt_us(s, n_tokens));
}


uint32_t
sched_aged_class(const struct ax_sched *s, const struct sequence *q,
                 uint64_t now_us)
{
    uint64_t since = s->tenants[q->tenant].let_in_us[q->priority];
    since = since > q->arrived_us ? since : q->arrived_us;
    uint64_t waited = now_us > since ? now_us - since : 0;
    uint64_t class = sched_class(s, q) + waited / s->options.ageing_us;
    class = class > q->class_let_in ? class : q->class_let_in;
    return class < CLASS_ABOVE ? (uint32_t) class : CLASS_ABOVE;
}


uint64_t
sched_served_before(const struct ax_sched *s, const struct sequence *q)
{
    uint64_t served = s->tenants[q->tenant].served;
    return q->state == RUNNING && sched_is_light(s, q) ? served - q->charged
                                                       : served;
}


static struct key
key_of(const struct ax_sched *s, const struct sequence *q, uint64_t now_us)
{
    uint64_t class = sched_aged_class(s, q, now_us);
    if (class >= CLASS_ABOVE) {
        return (struct key){CLASS_ABOVE, 0, 0, 0, q->arrival};
    }
    return (struct key){class, sched_served_before(s, q),
                        sched_has_backlog(s, q), q->due_us, q->arrival};
}


static bool
before(const struct key *a, const struct key *b)
{
    if (a->class != b->class) {
        return a->class > b->class;
    }
    if (a->served != b->served) {
        return a->served < b->served;
    }
    if (a->crowd != b->crowd) {
        return a->crowd < b->crowd;
    }
    return a->due_us != b->due_us ? a->due_us < b->due_us
                                  : a->arrival < b->arrival;
}


static uint32_t
best_of(const struct ax_sched *s, const struct list *l, uint64_t now_us,
        uint32_t best, struct key *best_key)
{
    for (uint32_t i = l->first; i != NONE; i = s->sequences[i].link.next) {
        const struct sequence *q = &s->sequences[i];
        if (q->holds != 0 || q->looked_at == s->turn ||
            (l == &s->running && q->n_tokens - q->n_computed < 2)) {
            continue; /* held, had its turn, or a decode */
        }
        if (s->others_end && sched_has_backlog(s, q)) {
            continue; /* it would only make them wait */
        }
        struct key key = key_of(s, q, now_us);
        if (best == NONE || before(&key, best_key)) {
            best = i;
            *best_key = key;
        }
    }
    return best;
}


uint32_t
sched_best_prompt(struct ax_sched *s, uint64_t now_us)
{
    struct key key = {0};
    uint32_t best = best_of(s, &s->running, now_us, NONE, &key);
    if (s->blocked) {
        return best;
    }
    best = best_of(s, &s->waiting, now_us, best, &key);
    return best == NONE ? best : sched_prefer_known(s, best, now_us);
}


/* ---- deadlines ---- */

/* By its own prompt alone: what cannot be in time is not begun. */
static bool
too_late(const struct ax_sched *s, const struct sequence *q, uint64_t now_us)
{
    double own_us = sched_prompt_us(s, q->n_tokens - q->n_known);
    return q->deadline_us != 0 &&
           (double)now_us + own_us >= (double)q->deadline_us;
}


void
sched_expire(struct ax_sched *s, uint64_t now_us)
{
    uint32_t slot = s->waiting.first;
    while (slot != NONE) {
        struct sequence *q = &s->sequences[slot];
        uint32_t next = q->link.next;
        if (!q->started && too_late(s, q, now_us)) {
            sched_drop(s, slot);
            sched_raise(s, slot, AX_SCHED_DEADLINE);
        }
        slot = next;
    }
}
