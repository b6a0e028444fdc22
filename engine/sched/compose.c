/*
 * The next step: expire, admit, then one entry per sequence.
 *
 * Every call walks the running list (at most a few times running_max, plus
 * what is parked) and, while there is a place for one more, the waiting list.
 * KV for a whole prompt is taken at admission, so a prefill never stops half
 * way; a decode takes a block when it crosses into one.
 */
#include "engine/sched/internal.h"

#include <assert.h>


static uint32_t
class_of(const struct ax_sched *s, const struct sequence *q)
{
    return q->preemptions >= s->options.preemptions_max ? CLASS_ABOVE
                                                        : q->priority;
}


/* Rank among running sequences: who may take KV from whom. */
static bool
ranks_before(const struct ax_sched *s, const struct sequence *a,
             const struct sequence *b)
{
    uint32_t class_a = class_of(s, a), class_b = class_of(s, b);
    return class_a > class_b || (class_a == class_b && a->arrival < b->arrival);
}


/* ---- waiting ---- */

static void
expire(struct ax_sched *s, uint64_t now_us)
{
    uint32_t slot = s->waiting.first;
    while (slot != NONE) {
        struct sequence *q = &s->sequences[slot];
        uint32_t next = q->link.next;
        if (!q->started && q->deadline_us != 0 && now_us >= q->deadline_us) {
            sched_drop(s, slot);
            sched_raise(s, slot, AX_SCHED_DEADLINE);
        }
        slot = next;
    }
}


static uint64_t
effective_class(const struct ax_sched *s, const struct sequence *q,
                uint64_t now_us)
{
    uint64_t waited = now_us > q->arrived_us ? now_us - q->arrived_us : 0;
    uint64_t raised = class_of(s, q) + waited / s->options.ageing_us;
    /* Who waited through all classes is ahead of every fresh request. */
    return raised < CLASS_ABOVE ? raised : CLASS_ABOVE;
}


static uint32_t
best_waiting(const struct ax_sched *s, uint64_t now_us)
{
    uint32_t best = NONE;
    uint64_t best_class = 0, best_served = 0;
    for (uint32_t i = s->waiting.first; i != NONE;
         i = s->sequences[i].link.next) {
        const struct sequence *q = &s->sequences[i];
        if (q->holds != 0) {
            continue;
        }
        uint64_t class = effective_class(s, q, now_us);
        /* At the top arrival alone counts, or tenants could starve it. */
        uint64_t served =
            class == CLASS_ABOVE ? 0 : s->tenants[q->tenant].served;
        if (best == NONE || class > best_class ||
            (class == best_class && served < best_served)) {
            best = i;
            best_class = class;
            best_served = served;
        }
    }
    return best;
}


/* ---- preemption ---- */

/* Back among the waiting, at the place of its arrival. */
static void
preempt(struct ax_sched *s, uint32_t slot)
{
    struct sequence *q = &s->sequences[slot];
    assert(q->state == RUNNING && q->in_step == 0);
    sched_list_remove(s, &s->running, slot);
    s->options.kv.release(s->options.kv.context, slot);
    q->state = WAITING;
    q->n_computed = 0;
    q->preemptions++;
    s->preemptions++;
    uint32_t before = s->waiting.first;
    while (before != NONE && s->sequences[before].arrival < q->arrival) {
        before = s->sequences[before].link.next;
    }
    sched_list_insert(s, &s->waiting, slot, before);
    sched_raise(s, slot, AX_SCHED_PREEMPTED);
}


/* The worst sequence that q may take KV from: a held one, whatever its rank,
 * else one that ranks after q; with classes, only of a lower class. */
static uint32_t
victim_for(const struct ax_sched *s, const struct sequence *q, bool classes)
{
    for (uint32_t i = s->running.last; i != NONE;
         i = s->sequences[i].link.prev) {
        const struct sequence *v = &s->sequences[i];
        if (v != q && v->holds != 0 && v->in_step == 0) {
            return i;
        }
    }
    uint32_t last = s->running.last;
    while (last != NONE && s->sequences[last].holds != 0) {
        last = s->sequences[last].link.prev; /* in_step or q itself */
    }
    if (last == NONE || &s->sequences[last] == q ||
        s->sequences[last].in_step > 0) {
        return NONE;
    }
    const struct sequence *v = &s->sequences[last];
    bool worse =
        classes ? class_of(s, v) < class_of(s, q) : ranks_before(s, q, v);
    return worse ? last : NONE;
}


/* KV for the next n positions of a running sequence, from others if need
 * be. */
static bool
grow(struct ax_sched *s, uint32_t slot, uint32_t n_tokens)
{
    struct sequence *q = &s->sequences[slot];
    const struct ax_sched_kv *kv = &s->options.kv;
    while (kv->reserve(kv->context, slot, n_tokens) != AXION_OK) {
        uint32_t victim = victim_for(s, q, false);
        if (victim == NONE) {
            return false;
        }
        preempt(s, victim);
    }
    return true;
}


/* ---- admission ---- */

static void
insert_running(struct ax_sched *s, uint32_t slot)
{
    struct sequence *q = &s->sequences[slot];
    uint32_t before = s->running.first;
    while (before != NONE && ranks_before(s, &s->sequences[before], q)) {
        before = s->sequences[before].link.next;
    }
    sched_list_insert(s, &s->running, slot, before);
}


/* What victims of a lower class and held ones could give, at least: a decode
 * has not taken the block of its newest token yet. */
static bool
could_fit(const struct ax_sched *s, const struct sequence *q, uint32_t blocks)
{
    uint64_t could = s->options.kv.blocks_free(s->options.kv.context);
    for (uint32_t i = s->running.first; i != NONE;
         i = s->sequences[i].link.next) {
        const struct sequence *v = &s->sequences[i];
        if (v->holds != 0 || class_of(s, v) < class_of(s, q)) {
            could += sched_blocks(s, v->n_tokens - 1);
        }
    }
    return could >= blocks;
}


/* Takes the KV of everything pending, and one block more for each running
 * sequence that will want one soon, or nothing. */
static bool
take_kv(struct ax_sched *s, uint32_t slot, uint32_t n_running)
{
    struct sequence *q = &s->sequences[slot];
    const struct ax_sched_kv *kv = &s->options.kv;
    uint32_t blocks = sched_blocks(s, q->n_tokens) + n_running;
    if (n_running > 0 && !could_fit(s, q, blocks)) {
        return false;
    }
    while (kv->blocks_free(kv->context) < blocks ||
           kv->reserve(kv->context, slot, q->n_tokens) != AXION_OK) {
        uint32_t victim = victim_for(s, q, true);
        if (victim == NONE) {
            return false;
        }
        preempt(s, victim);
    }
    return true;
}


static void
start(struct ax_sched *s, uint32_t slot)
{
    struct sequence *q = &s->sequences[slot];
    sched_list_remove(s, &s->waiting, slot);
    q->state = RUNNING;
    insert_running(s, slot);
    if (!q->started) {
        q->started = true;
        s->waiting_new--;
        s->waiting_tokens -= q->n_prompt;
        sched_tenant_charge(s, q->tenant, q->n_prompt);
        sched_raise(s, slot, AX_SCHED_STARTED);
        sched_lease_check(s, slot);
    }
}


/* Lets in the waiting while there is a place, and work of the step left for
 * them: who could not be computed yet had better keep waiting. */
static void
admit(struct ax_sched *s, uint64_t now_us)
{
    uint32_t n_running = 0;
    uint64_t pending = 0;
    for (uint32_t i = s->running.first; i != NONE;
         i = s->sequences[i].link.next) {
        const struct sequence *q = &s->sequences[i];
        if (q->holds == 0) {
            n_running++;
            pending += q->n_tokens - q->n_computed;
        }
    }
    while (n_running < s->options.running_max &&
           pending < s->options.batch_tokens_max) {
        uint32_t slot = best_waiting(s, now_us);
        if (slot == NONE || !take_kv(s, slot, n_running)) {
            return;
        }
        start(s, slot);
        n_running++;
        pending += s->sequences[slot].n_tokens;
    }
}


/* ---- entries ---- */

static void
add_entry(struct ax_sched *s, uint32_t slot, uint32_t n_tokens)
{
    struct sequence *q = &s->sequences[slot];
    struct ax_sched_step *step = &s->step;
    bool samples = q->n_computed + n_tokens == q->n_tokens;
    s->entries[step->n_entries++] = (struct ax_sched_entry){
        .slot = slot,
        .position = q->n_computed,
        .n_tokens = n_tokens,
        .samples = samples,
    };
    step->n_tokens += n_tokens;
    step->n_samples += samples;
    q->in_step = n_tokens;
}


static bool
step_has_room(const struct ax_sched *s)
{
    return s->step.n_entries < s->options.running_max &&
           s->step.n_tokens < s->options.batch_tokens_max;
}


/* A block for a decode may come from a sequence further back in the list, so
 * `next` is read after it was taken. */
static void
add_decodes(struct ax_sched *s)
{
    for (uint32_t i = s->running.first; i != NONE && step_has_room(s);
         i = s->sequences[i].link.next) {
        const struct sequence *q = &s->sequences[i];
        if (q->holds == 0 && q->n_tokens - q->n_computed == 1 &&
            grow(s, i, q->n_tokens)) {
            add_entry(s, i, 1);
        }
    }
}


static void
add_prefills(struct ax_sched *s)
{
    for (uint32_t i = s->running.first; i != NONE && step_has_room(s);
         i = s->sequences[i].link.next) {
        const struct sequence *q = &s->sequences[i];
        uint32_t pending = q->n_tokens - q->n_computed;
        uint32_t room = s->options.batch_tokens_max - s->step.n_tokens;
        if (q->holds == 0 && q->in_step == 0 && pending > 1) {
            add_entry(s, i, pending < room ? pending : room);
        }
    }
}


const struct ax_sched_step *
ax_sched_next(struct ax_sched *s, uint64_t now_us)
{
    assert(!s->stepping);
    s->step.n_entries = 0;
    s->step.n_tokens = 0;
    s->step.n_samples = 0;
    expire(s, now_us);
    admit(s, now_us);
    add_decodes(s);
    add_prefills(s);
    s->stepping = s->step.n_entries > 0;
    return &s->step;
}
