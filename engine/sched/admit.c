/*
 * Letting one in: a place among the running ones, and KV for its whole
 * prompt, from others if they have to give it.
 *
 * Who may take KV from whom
 *   to go on     a running sequence, from held ones and from any that ranks
 *                after it (class, then arrival)
 *   to come in   from held ones, from lower classes, and from a tenant that
 *                still has as much as this one afterwards
 * A place goes from a tenant with more than its equal part of them to one with
 * less.  After preemptions_max a sequence is
 * above all classes and gives nothing any more, so the best one always ends,
 * and everyone becomes it; what one tenant takes from another it cannot lose
 * to it by the same rule, so none goes back and forth.
 *
 * A victim's computed blocks stay in the prefix cache as long as nobody needs
 * their memory; then it is computed again.
 */
#include "engine/sched/internal.h"

#include <assert.h>


/* Rank among running sequences: who may take KV from whom. */
static bool
ranks_before(const struct ax_sched *s, const struct sequence *a,
             const struct sequence *b)
{
    uint32_t class_a = sched_class(s, a), class_b = sched_class(s, b);
    return class_a > class_b || (class_a == class_b && a->arrival < b->arrival);
}


/* Back among the waiting, at the place of its arrival. */
static void
preempt(struct ax_sched *s, uint32_t slot)
{
    struct sequence *q = &s->sequences[slot];
    assert(q->state == RUNNING && q->in_step == 0);
    sched_stop_running(s, slot);
    q->state = WAITING;
    s->n_ready -= q->ready;
    q->ready = false;
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


/* ---- who gives ---- */

static bool
may_give(const struct sequence *v, const struct sequence *q)
{
    return v != q && v->in_step == 0;
}


static uint32_t
held_victim(const struct ax_sched *s, const struct sequence *q)
{
    for (uint32_t i = s->running.last; i != NONE;
         i = s->sequences[i].link.prev) {
        if (sched_parked(&s->sequences[i]) && may_give(&s->sequences[i], q)) {
            return i;
        }
    }
    return NONE;
}


/* Whether v's tenant is still left with as much as q's then has. */
static bool
has_more(const struct ax_sched *s, const struct sequence *v,
         const struct sequence *q, bool places)
{
    const struct tenant *giver = &s->tenants[v->tenant];
    const struct tenant *taker = &s->tenants[q->tenant];
    if (v->tenant == q->tenant || sched_class(s, v) != sched_class(s, q) ||
        sched_class(s, v) == CLASS_ABOVE) {
        return false;
    }
    uint32_t share = s->options.running_max / s->tenants_live;
    return places ? giver->places > share && taker->places < share
                  : giver->kv_tokens - giver->promised >=
                        taker->kv_tokens + q->n_tokens + v->n_tokens;
}


static bool
gives_way(const struct ax_sched *s, const struct sequence *v,
          const struct sequence *q, bool places)
{
    return sched_class(s, v) < sched_class(s, q) || has_more(s, v, q, places);
}


/* A place is given by the one that was preempted least: the latest would give
 * it to everyone that comes, be above all classes soon, and before them. */
static uint32_t
victim_to_come_in(const struct ax_sched *s, const struct sequence *q,
                  bool places)
{
    uint32_t found = places ? NONE : held_victim(s, q);
    for (uint32_t i = s->running.last; (found == NONE || places) && i != NONE;
         i = s->sequences[i].link.prev) {
        const struct sequence *v = &s->sequences[i];
        const struct sequence *u = &s->sequences[found == NONE ? i : found];
        if (!sched_parked(v) && may_give(v, q) && gives_way(s, v, q, places) &&
            (found == NONE || (sched_class(s, v) == sched_class(s, u) &&
                               v->preemptions < u->preemptions))) {
            found = i;
        }
    }
    return found;
}


static uint32_t
victim_to_go_on(const struct ax_sched *s, const struct sequence *q)
{
    uint32_t held = held_victim(s, q);
    for (uint32_t i = s->running.last; held == NONE && i != NONE;
         i = s->sequences[i].link.prev) {
        const struct sequence *v = &s->sequences[i];
        if (!sched_parked(v) && may_give(v, q)) {
            return ranks_before(s, q, v) ? i : NONE;
        }
    }
    return held;
}


bool
sched_grow(struct ax_sched *s, uint32_t slot, uint32_t n_tokens)
{
    struct sequence *q = &s->sequences[slot];
    const struct ax_sched_kv *kv = &s->options.kv;
    while (kv->reserve(kv->context, slot, n_tokens) != AXION_OK) {
        uint32_t victim = victim_to_go_on(s, q);
        if (victim == NONE) {
            return false;
        }
        preempt(s, victim);
    }
    return true;
}


/* ---- coming in ---- */

/* Blocks that only this one holds.  Without a callback, at least as many: a
 * decode has not taken the block of its newest token yet. */
static uint32_t
blocks_of(const struct ax_sched *s, uint32_t slot)
{
    const struct ax_sched_kv *kv = &s->options.kv;
    return kv->alone != NULL ? kv->alone(kv->context, slot)
                             : sched_blocks(s, s->sequences[slot].n_tokens - 1);
}


/* Whether those that have to give have enough, or nobody is preempted.  In
 * the order in which they would be, so that the answer holds. */
static bool
could_fit(struct ax_sched *s, const struct sequence *q, uint32_t blocks)
{
    uint64_t could = s->options.kv.blocks_free(s->options.kv.context);
    for (uint32_t i = s->running.last; i != NONE && could < blocks;
         i = s->sequences[i].link.prev) {
        const struct sequence *v = &s->sequences[i];
        if (may_give(v, q) && (sched_parked(v) || gives_way(s, v, q, false))) {
            could += blocks_of(s, i);
            s->tenants[v->tenant].promised += v->n_tokens;
        }
    }
    for (uint32_t i = s->running.first; i != NONE;
         i = s->sequences[i].link.next) {
        s->tenants[s->sequences[i].tenant].promised = 0;
    }
    return could >= blocks;
}


/* Takes what the cache knows of it, up to n_max positions. */
static uint32_t
attach(struct ax_sched *s, uint32_t slot, uint32_t n_max)
{
    const struct ax_sched_kv *kv = &s->options.kv;
    return kv->attach != NULL ? kv->attach(kv->context, slot, 0, n_max) : 0;
}


/* Positions of the whole blocks that the cache knows of it. */
static uint32_t
known_blocks(const struct ax_sched *s, uint32_t slot)
{
    const struct ax_sched_kv *kv = &s->options.kv;
    return kv->known != NULL
               ? kv->known(kv->context, slot, s->sequences[slot].n_tokens - 1)
               : 0;
}


/* Blocks that the KV of everything pending takes, what is known of it left
 * out.  A block that is known in part is copied: it counts as missing. */
static uint32_t
missing_blocks(const struct ax_sched *s, uint32_t slot, uint32_t known)
{
    const struct ax_sched_kv *kv = &s->options.kv;
    uint32_t n = s->sequences[slot].n_tokens;
    return kv->missing != NULL
               ? kv->missing(kv->context, slot, n)
               : sched_blocks(s, n) - known / s->options.kv_block_tokens;
}


/* The KV of everything pending, and one block more for each running sequence
 * that will want one soon; or nothing. */
static bool
take_kv(struct ax_sched *s, uint32_t slot, uint32_t n_max, uint32_t n_running)
{
    struct sequence *q = &s->sequences[slot];
    const struct ax_sched_kv *kv = &s->options.kv;
    uint32_t known = attach(s, slot, n_max);
    uint32_t blocks =
        missing_blocks(s, slot, known) + n_running * sched_blocks(s, 1);
    bool fits = n_running == 0 || could_fit(s, q, blocks);
    while (fits && (kv->blocks_free(kv->context) < blocks ||
                    kv->reserve(kv->context, slot, q->n_tokens) != AXION_OK)) {
        uint32_t victim = victim_to_come_in(s, q, false);
        if (victim == NONE) {
            fits = false;
        } else {
            preempt(s, victim);
        }
    }
    if (fits) {
        sched_note_cached(s, slot, known);
    } else {
        kv->release(kv->context, slot, 0);
    }
    return fits;
}


/* Places taken, by each tenant that runs and by this one, and together; who
 * is held needs none. */
static uint32_t
count_places(struct ax_sched *s, uint32_t tenant)
{
    uint32_t n = 0;
    s->tenants[tenant].places = 0;
    for (uint32_t i = s->running.first; i != NONE;
         i = s->sequences[i].link.next) {
        s->tenants[s->sequences[i].tenant].places = 0;
    }
    for (uint32_t i = s->running.first; i != NONE;
         i = s->sequences[i].link.next) {
        const struct sequence *q = &s->sequences[i];
        s->tenants[q->tenant].places += !sched_parked(q);
        n += !sched_parked(q);
    }
    return n;
}


static void
start(struct ax_sched *s, uint32_t slot)
{
    struct sequence *q = &s->sequences[slot];
    struct tenant *t = &s->tenants[q->tenant];
    sched_list_remove(s, &s->waiting, slot);
    q->state = RUNNING;
    t->running++;
    t->kv_tokens += q->n_tokens;
    uint32_t before = s->running.first;
    while (before != NONE && ranks_before(s, &s->sequences[before], q)) {
        before = s->sequences[before].link.next;
    }
    sched_list_insert(s, &s->running, slot, before);
    if (!q->started) {
        q->class_let_in = sched_aged_class(s, q, s->now_us);
        t->let_in_us[q->priority] = s->now_us;
        q->started = true;
        sched_leave_queue(s, q);
        sched_note_shared(s, q);
        sched_raise(s, slot, AX_SCHED_STARTED);
        sched_lease_check(s, slot);
    }
}


bool
sched_admit(struct ax_sched *s, uint32_t slot)
{
    const struct sequence *q = &s->sequences[slot];
    uint32_t n_running = count_places(s, q->tenant);
    if (n_running > s->options.running_max) {
        return false; /* held ones came back: one place given would be none */
    }
    if (n_running == s->options.running_max) {
        uint32_t victim = victim_to_come_in(s, q, true);
        if (victim == NONE) {
            return false;
        }
        preempt(s, victim);
        n_running--;
    }
    /* Where it is the last that could help, a block is not copied: asked for
     * no more than the whole blocks that it knows, attach() finds no other. */
    if (!take_kv(s, slot, q->n_tokens - 1, n_running) &&
        !take_kv(s, slot, known_blocks(s, slot), n_running)) {
        return false;
    }
    start(s, slot);
    return true;
}
