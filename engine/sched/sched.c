/*
 * Life of a sequence: arrival and its refusals, holds, leases, cancellation,
 * end, and the events that tell the caller about it.  See sched.h.
 *
 * Events are bits of a sequence in a list, not a queue: there is room for
 * every event that can ever be pending, and a sequence that ends takes its
 * events with it.
 */
#include "engine/sched/internal.h"

#include <assert.h>
#include <stdlib.h>

#define PREEMPTIONS_MAX  3u
#define LEASE_LOW_TOKENS 32u
#define LEASE_ASK_TOKENS 256u
#define AGEING_US        10000000u
#define QUANTUM_TOKENS   2048u
#define RETRY_MS_MIN     100u
#define RETRY_MS_MAX     60000u


/* ---- lists ---- */

static struct link *
link_of(struct ax_sched *s, const struct list *l, uint32_t slot)
{
    struct sequence *q = &s->sequences[slot];
    return l == &s->events ? &q->event_link : &q->link;
}


void
sched_list_insert(struct ax_sched *s, struct list *l, uint32_t slot,
                  uint32_t before)
{
    struct link *link = link_of(s, l, slot);
    link->next = before;
    link->prev = before == NONE ? l->last : link_of(s, l, before)->prev;
    if (link->prev == NONE) {
        l->first = slot;
    } else {
        link_of(s, l, link->prev)->next = slot;
    }
    if (before == NONE) {
        l->last = slot;
    } else {
        link_of(s, l, before)->prev = slot;
    }
    l->n++;
}


void
sched_list_append(struct ax_sched *s, struct list *l, uint32_t slot)
{
    sched_list_insert(s, l, slot, NONE);
}


void
sched_list_remove(struct ax_sched *s, struct list *l, uint32_t slot)
{
    struct link *link = link_of(s, l, slot);
    assert(l->n > 0);
    if (link->prev == NONE) {
        l->first = link->next;
    } else {
        link_of(s, l, link->prev)->next = link->next;
    }
    if (link->next == NONE) {
        l->last = link->prev;
    } else {
        link_of(s, l, link->next)->prev = link->prev;
    }
    l->n--;
}


/* ---- open, close ---- */

static void
set_defaults(struct ax_sched_options *o)
{
    o->preemptions_max =
        o->preemptions_max ? o->preemptions_max : PREEMPTIONS_MAX;
    o->lease_low_tokens =
        o->lease_low_tokens ? o->lease_low_tokens : LEASE_LOW_TOKENS;
    o->lease_ask_tokens =
        o->lease_ask_tokens ? o->lease_ask_tokens : LEASE_ASK_TOKENS;
    o->ageing_us = o->ageing_us ? o->ageing_us : AGEING_US;
}


int
ax_sched_open(struct ax_sched **out, const struct ax_sched_options *options)
{
    *out = NULL;
    if (options->slots_max == 0 || options->slots_max >= NONE - 1 ||
        options->running_max == 0 ||
        options->running_max > options->batch_tokens_max ||
        options->kv_blocks_total == 0 || options->kv_block_tokens == 0 ||
        options->queue_max == 0) {
        return AXION_ERR_BAD_OPTION;
    }
    struct ax_sched *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return AXION_ERR_NO_MEMORY;
    }
    s->options = *options;
    set_defaults(&s->options);
    s->waiting = s->running = s->events = (struct list){NONE, NONE, 0};
    s->n_tenants = options->slots_max + 1;
    s->sequences = calloc(options->slots_max, sizeof(*s->sequences));
    s->tenants = calloc(s->n_tenants, sizeof(*s->tenants));
    s->entries = calloc(options->running_max, sizeof(*s->entries));
    s->picks = calloc(options->running_max, sizeof(*s->picks));
    s->slower = 1;
    s->look_up_next = NONE;
    s->turn = 1; /* nobody competed in turn 0 */
    uint32_t quantum = options->prefix_quantum_tokens;
    quantum = quantum == 0 ? QUANTUM_TOKENS : quantum;
    s->quantum = quantum == AX_SCHED_NO_QUANTUM
                     ? 0
                     : (uint64_t)quantum * AX_SCHED_SERVED_TOKEN;
    s->step.entries = s->entries;
    if (s->sequences == NULL || s->tenants == NULL || s->entries == NULL ||
        s->picks == NULL) {
        ax_sched_close(s);
        return AXION_ERR_NO_MEMORY;
    }
    *out = s;
    return AXION_OK;
}


void
ax_sched_close(struct ax_sched *s)
{
    if (s == NULL) {
        return;
    }
    free(s->sequences);
    free(s->tenants);
    free(s->entries);
    free(s->picks);
    free(s);
}


static struct sequence *
live(struct ax_sched *s, uint32_t slot)
{
    assert(slot < s->options.slots_max);
    struct sequence *q = &s->sequences[slot];
    assert(q->state != FREE);
    return q;
}


/* ---- events ---- */

void
sched_raise(struct ax_sched *s, uint32_t slot, enum ax_sched_event_kind kind)
{
    struct sequence *q = &s->sequences[slot];
    if (q->events == 0) {
        sched_list_append(s, &s->events, slot);
    }
    q->events |= 1u << kind;
}


static void
forget(struct ax_sched *s, uint32_t slot, uint32_t events)
{
    struct sequence *q = &s->sequences[slot];
    if (q->events != 0) {
        q->events &= ~events;
        if (q->events == 0) {
            sched_list_remove(s, &s->events, slot);
        }
    }
}


static void
forget_events(struct ax_sched *s, uint32_t slot)
{
    forget(s, slot, UINT32_MAX);
}


static void
lease_figures(const struct ax_sched *s, const struct sequence *q,
              struct ax_sched_event *event)
{
    event->spent = q->n_tokens;
    event->left = q->lease_tokens - q->n_tokens;
    uint64_t need = q->tokens_max - q->n_tokens;
    uint64_t more = need > event->left ? need - event->left : 0;
    event->wanted =
        more < s->options.lease_ask_tokens ? more : s->options.lease_ask_tokens;
}


int
ax_sched_event(struct ax_sched *s, struct ax_sched_event *event)
{
    if (s->events.n == 0) {
        return AXION_AGAIN;
    }
    uint32_t slot = s->events.first;
    struct sequence *q = &s->sequences[slot];
    unsigned kind = (unsigned)__builtin_ctz(q->events);
    *event = (struct ax_sched_event){.kind = (enum ax_sched_event_kind)kind,
                                     .slot = slot};
    if (kind == AX_SCHED_LEASE_LOW) {
        lease_figures(s, q, event);
    }
    q->events &= ~(1u << kind);
    if (q->events == 0) {
        sched_list_remove(s, &s->events, slot);
    }
    return AXION_OK;
}


/* ---- arrival ---- */

/* What is ahead of one more prompt of this tenant: at most the queue, and by
 * the tenants' turns no more than so many times its own part of it. */
static double
predicted_us(const struct ax_sched *s, const struct tenant *t,
             uint32_t prompt_tokens)
{
    double ahead = (double)s->waiting_tokens;
    if (t != NULL || s->tenants_live > 0) {
        double own = t != NULL ? (double)t->waiting_tokens : 0;
        double others = s->tenants_live + (t == NULL || t->live == 0);
        double turns = (own + prompt_tokens) * others - prompt_tokens;
        ahead = turns < ahead ? turns : ahead;
    }
    return sched_prompt_us(s, 1) * (ahead + prompt_tokens);
}


static const struct tenant *
find_tenant(const struct ax_sched *s, uint64_t id)
{
    for (uint32_t i = 0; i < s->n_tenants; i++) {
        if (s->tenants[i].known && s->tenants[i].id == id) {
            return &s->tenants[i];
        }
    }
    return NULL;
}


uint32_t
ax_sched_retry_after_ms(const struct ax_sched *s, uint32_t prompt_tokens)
{
    double us =
        sched_prompt_us(s, 1) * ((double)s->waiting_tokens + prompt_tokens);
    double ends = s->finish_us * s->waiting_new;
    double ms = (us > ends ? us : ends) / 1000;
    return ms < RETRY_MS_MIN   ? RETRY_MS_MIN
           : ms > RETRY_MS_MAX ? RETRY_MS_MAX
                               : (uint32_t)ms;
}


static int
refuse(const struct ax_sched *s, const struct ax_sched_request *r,
       uint64_t now_us, struct ax_sched_arrival *arrival)
{
    const struct ax_sched_options *o = &s->options;
    if (r->prompt_tokens == 0 || r->max_tokens == 0 ||
        r->max_tokens >= UINT32_MAX - r->prompt_tokens ||
        r->cached_tokens >= r->prompt_tokens) {
        return AXION_ERR_INVALID_REQUEST;
    }
    if (r->lease_tokens <= r->prompt_tokens) {
        return AXION_ERR_LEASE_TOO_SMALL;
    }
    /* The last token is given out and never computed. */
    uint32_t positions = r->prompt_tokens + r->max_tokens - 1;
    if (sched_blocks(s, positions) > o->kv_blocks_total) {
        return AXION_ERR_KV_EXHAUSTED;
    }
    arrival->retry_after_ms = ax_sched_retry_after_ms(s, r->prompt_tokens);
    if (s->waiting_new >= o->queue_max ||
        (s->waiting_new > 0 &&
         s->waiting_tokens + r->prompt_tokens > o->queue_tokens_max)) {
        return AXION_ERR_QUEUE_FULL;
    }
    uint32_t uncached = r->prompt_tokens - r->cached_tokens;
    double wait_us = predicted_us(s, find_tenant(s, r->tenant), uncached);
    if (r->deadline_us != 0 &&
        (double)now_us + wait_us >= (double)r->deadline_us) {
        return AXION_ERR_DEADLINE;
    }
    return AXION_OK;
}


int
ax_sched_arrive(struct ax_sched *s, uint32_t slot,
                const struct ax_sched_request *r, uint64_t now_us,
                struct ax_sched_arrival *arrival)
{
    assert(slot < s->options.slots_max);
    struct sequence *q = &s->sequences[slot];
    assert(q->state == FREE && q->events == 0);
    *arrival = (struct ax_sched_arrival){0};
    int error = refuse(s, r, now_us, arrival);
    if (error != AXION_OK) {
        return error;
    }
    *q = (struct sequence){
        .state = WAITING,
        .arrival = s->next_arrival++,
        .arrived_us = now_us,
        .deadline_us = r->deadline_us,
        .due_us = sched_due_us(s, now_us, r->prompt_tokens - r->cached_tokens),
        .n_known = r->cached_tokens,
        .tenant = sched_tenant_join(s, r->tenant, r->weight ? r->weight : 1),
        .priority = r->priority < CLASSES ? r->priority : CLASSES - 1,
        .n_prompt = r->prompt_tokens,
        .n_tokens = r->prompt_tokens,
        .tokens_max = r->prompt_tokens + r->max_tokens,
        .lease_tokens = r->lease_tokens,
    };
    arrival->retry_after_ms = 0;
    arrival->queue_position = s->waiting_new;
    sched_list_append(s, &s->waiting, slot);
    s->waiting_new++;
    s->waiting_tokens += r->prompt_tokens;
    s->tenants[q->tenant].waiting_tokens += r->prompt_tokens;
    sched_consider_yield(s, slot, now_us);
    return AXION_OK;
}


/* ---- end ---- */

void
sched_leave_queue(struct ax_sched *s, const struct sequence *q)
{
    s->waiting_new--;
    s->waiting_tokens -= q->n_prompt;
    s->tenants[q->tenant].waiting_tokens -= q->n_prompt;
}


void
sched_stop_running(struct ax_sched *s, uint32_t slot)
{
    struct sequence *q = &s->sequences[slot];
    struct tenant *t = &s->tenants[q->tenant];
    sched_list_remove(s, &s->running, slot);
    s->options.kv.release(s->options.kv.context, slot, q->n_computed);
    assert(t->running > 0 && t->kv_tokens >= q->n_tokens);
    t->running--;
    t->kv_tokens -= q->n_tokens;
}


void
sched_drop(struct ax_sched *s, uint32_t slot)
{
    struct sequence *q = &s->sequences[slot];
    if (q->state == RUNNING) {
        sched_stop_running(s, slot);
    } else {
        sched_list_remove(s, &s->waiting, slot);
        if (!q->started) {
            sched_leave_queue(s, q);
        }
    }
    sched_tenant_leave(s, q->tenant);
    q->state = FREE;
}


int
ax_sched_cancel(struct ax_sched *s, uint32_t slot)
{
    struct sequence *q = live(s, slot);
    if (q->in_step > 0) {
        q->cancelled = true;
        return AXION_AGAIN;
    }
    forget_events(s, slot);
    sched_drop(s, slot);
    return AXION_OK;
}


void
ax_sched_finish(struct ax_sched *s, uint32_t slot, uint64_t now_us)
{
    struct sequence *q = live(s, slot);
    assert(q->in_step == 0);
    forget_events(s, slot);
    sched_drop(s, slot);
    if (s->finished_at_us != 0 && now_us > s->finished_at_us) {
        double gap = (double)(now_us - s->finished_at_us);
        /* An idle engine's pauses say nothing about how fast places free. */
        if (s->waiting_new > 0) {
            s->finish_us += (gap - s->finish_us) * 0.2;
        }
    }
    s->finished_at_us = now_us;
}


bool
ax_sched_abandoned(const struct ax_sched *s)
{
    if (!s->stepping || s->yields) {
        return s->stepping;
    }
    for (uint32_t i = 0; i < s->step.n_entries; i++) {
        if (!s->sequences[s->entries[i].slot].cancelled) {
            return false;
        }
    }
    return true;
}


void
ax_sched_stepped(struct ax_sched *s, uint64_t cost_us, bool computed)
{
    assert(s->stepping);
    s->stepping = false;
    if (computed) {
        sched_learn_cost(s, cost_us);
    }
    sched_note_yield(s, cost_us, computed);
    for (uint32_t i = 0; i < s->step.n_entries; i++) {
        uint32_t slot = s->entries[i].slot;
        struct sequence *q = live(s, slot);
        if (computed) {
            q->n_computed += q->in_step - q->drafts;
            q->to_sample = s->entries[i].samples ? 1 + q->drafts : 0;
        }
        q->in_step = q->drafts = 0;
        if (q->cancelled) {
            forget_events(s, slot);
            sched_drop(s, slot);
            sched_raise(s, slot, AX_SCHED_CANCELLED);
        }
    }
}


/* ---- leases ---- */

/* Asks for more in time, and parks what has nothing left and no answer. */
void
sched_lease_check(struct ax_sched *s, uint32_t slot)
{
    struct sequence *q = &s->sequences[slot];
    if (q->lease_tokens == AXION_LEASE_UNLIMITED) {
        return;
    }
    assert(q->lease_tokens >= q->n_tokens);
    uint64_t left = q->lease_tokens - q->n_tokens;
    uint64_t need = q->tokens_max - q->n_tokens;
    if (need > left && left <= s->options.lease_low_tokens &&
        q->lease_state == LEASE_FINE) {
        q->lease_state = LEASE_ASKED;
        sched_raise(s, slot, AX_SCHED_LEASE_LOW);
    }
    if (left == 0 && need > 0 && q->lease_state == LEASE_ASKED) {
        q->holds |= AX_HOLD_LEASE;
    }
}


void
ax_sched_topup(struct ax_sched *s, uint32_t slot, uint64_t tokens)
{
    struct sequence *q = live(s, slot);
    if (q->lease_tokens == AXION_LEASE_UNLIMITED) {
        return;
    }
    if (tokens == 0) {
        q->lease_state = LEASE_REFUSED;
        if (q->holds & AX_HOLD_LEASE) {
            sched_raise(s, slot, AX_SCHED_LEASE_END);
        }
        return;
    }
    uint64_t room = AXION_LEASE_UNLIMITED - q->lease_tokens;
    q->lease_tokens += tokens < room ? tokens : room;
    q->lease_state = LEASE_FINE;
    q->holds &= ~(uint32_t)AX_HOLD_LEASE;
    forget(s, slot, 1u << AX_SCHED_LEASE_END);
    sched_lease_check(s, slot);
}


unsigned
ax_sched_sampled(struct ax_sched *s, uint32_t slot)
{
    struct sequence *q = live(s, slot);
    assert(!s->stepping && q->state == RUNNING && q->to_sample > 0);
    q->to_sample--;
    q->n_computed = q->n_tokens; /* it was this one, or a draft that held */
    q->n_tokens++;
    s->tenants[q->tenant].kv_tokens++;
    sched_charge_answer(s, slot, 1);
    if (q->n_tokens == q->tokens_max) {
        return AXION_FINISH_LENGTH;
    }
    if (q->n_tokens == q->lease_tokens && q->lease_state == LEASE_REFUSED) {
        return AXION_FINISH_LEASE;
    }
    sched_lease_check(s, slot);
    return 0;
}


/* ---- holds, figures ---- */

void
ax_sched_hold(struct ax_sched *s, uint32_t slot, enum ax_sched_hold why)
{
    assert(why != AX_HOLD_LEASE);
    live(s, slot)->holds |= why;
}


void
ax_sched_unhold(struct ax_sched *s, uint32_t slot, enum ax_sched_hold why)
{
    assert(why != AX_HOLD_LEASE);
    live(s, slot)->holds &= ~(uint32_t)why;
}


static uint32_t
count_unheld(const struct ax_sched *s, const struct list *l)
{
    uint32_t n = 0;
    for (uint32_t i = l->first; i != NONE; i = s->sequences[i].link.next) {
        n += s->sequences[i].holds == 0;
    }
    return n;
}


bool
ax_sched_runnable(const struct ax_sched *s)
{
    return count_unheld(s, &s->running) + count_unheld(s, &s->waiting) > 0;
}


void
ax_sched_counts(const struct ax_sched *s, struct ax_sched_counts *counts)
{
    counts->running = count_unheld(s, &s->running);
    counts->waiting = count_unheld(s, &s->waiting);
    counts->parked =
        s->running.n + s->waiting.n - counts->running - counts->waiting;
    counts->waiting_tokens = s->waiting_tokens;
    counts->preemptions = s->preemptions;
}


uint64_t
ax_sched_wakeup_us(const struct ax_sched *s)
{
    uint64_t first = UINT64_MAX;
    for (uint32_t i = s->waiting.first; i != NONE;
         i = s->sequences[i].link.next) {
        const struct sequence *q = &s->sequences[i];
        if (!q->started && q->deadline_us != 0 && q->deadline_us < first) {
            first = q->deadline_us;
        }
    }
    return first;
}


uint32_t
ax_sched_tokens(const struct ax_sched *s, uint32_t slot)
{
    assert(slot < s->options.slots_max);
    return s->sequences[slot].n_tokens;
}


uint32_t
ax_sched_preemptions(const struct ax_sched *s, uint32_t slot)
{
    assert(slot < s->options.slots_max);
    return s->sequences[slot].preemptions;
}


uint32_t
ax_sched_cached(const struct ax_sched *s, uint32_t slot)
{
    assert(slot < s->options.slots_max);
    return s->sequences[slot].n_cached;
}
