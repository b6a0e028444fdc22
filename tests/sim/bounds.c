/*
 * How long one may wait and how far tenants may be apart, by a reckoning of
 * the simulator's own: what sched.h and locality.c promise, at every step.
 *
 * Starvation: a request that nobody held, of class p, is above all classes
 * (CLASSES - p) ageing_us after it came or after the last of its tenant and
 * class was let in.  From then on none that comes later goes before it, but
 * while its own next block is being computed for another.  So it starts within
 * as many computed steps as those ahead of it can need together: each step
 * takes at least one of them on by a token of its answer or a chunk of its
 * prompt, and a preemption gives its victim the chunks once more.  Steps that
 * somebody sits out, whose grammar's mask is being made, come on top.
 *
 * Fairness: in worlds of one class without ageing, counters of two tenants
 * that both have a request waiting differ by no more than 2 M and the quantum.
 *
 * Drafts beside prompts: in worlds where the scheduler knows costs and has a
 * target, no step is longer than that for its drafts, and while a prompt's
 * chunk is cut short they have a quarter of what the decodes leave at most, but
 * for the rest of a block.  So a prompt waits for other streams' drafts a third
 * of what it takes itself.
 */
#include "tests/sim/sim.h"

#define CHUNK_MIN 4u /* of the scheduler, where it knows costs */
#define CLASSES   3u


static uint64_t
prefill_steps(uint32_t n_tokens)
{
    /* A chunk may be cut at the end of a block: every second one is whole. */
    return 2 * ((n_tokens + CHUNK_MIN - 1) / CHUNK_MIN) + 1;
}


static uint64_t
steps_of(const struct sim_slot *s)
{
    return prefill_steps(s->n_tokens) + s->request.n_prompt +
           s->request.max_tokens - s->n_tokens;
}


static bool
waits(const struct sim_slot *s)
{
    return s->live && !s->started && !s->told;
}


/* ---- starvation ---- */

static bool
is_above(const struct sim_engine *e, const struct sim_slot *s)
{
    const struct sim_request *r = &s->request;
    uint64_t since = e->let_in_us[r->tenant - 1][r->priority];
    since = since > s->arrived_us ? since : s->arrived_us;
    return (e->now_us - since) / e->options.ageing_us + r->priority >= CLASSES;
}


/* All that has run, or came before it. */
static uint64_t
steps_ahead(const struct sim_engine *e, const struct sim_slot *s)
{
    uint64_t n = 1;
    for (uint32_t i = 0; i < SIM_SLOTS; i++) {
        const struct sim_slot *v = &e->slots[i];
        if (v->live && (v->started || v->arrival < s->arrival)) {
            n += steps_of(v);
        }
    }
    return n;
}


void
sim_bounds_started(struct sim_engine *e, struct sim_slot *s)
{
    for (uint32_t i = 0; i < SIM_SLOTS; i++) {
        struct sim_slot *q = &e->slots[i];
        if (waits(q) && q->above && is_above(e, q) && q->arrival < s->arrival) {
            q->steps_left += steps_of(s);
            q->passed++;
            assert_true(q->disturbed || q->passed <= q->request.n_prompt);
        }
    }
    e->let_in_us[s->request.tenant - 1][s->request.priority] = e->now_us;
}


void
sim_bounds_preempted(struct sim_engine *e, const struct sim_slot *s)
{
    for (uint32_t i = 0; i < SIM_SLOTS; i++) {
        e->slots[i].steps_left += prefill_steps(s->n_tokens);
    }
}


void
sim_bounds_composed(struct sim_engine *e)
{
    for (uint32_t i = 0; i < SIM_SLOTS; i++) {
        struct sim_slot *s = &e->slots[i];
        bool above = waits(s) && is_above(e, s);
        if (above && !s->above) {
            s->steps_left = steps_ahead(e, s);
        }
        s->above = above;
    }
}


void
sim_bounds_computed(struct sim_engine *e)
{
    for (uint32_t i = 0; i < SIM_SLOTS && !sim_engine_waits_for_mask(e); i++) {
        struct sim_slot *s = &e->slots[i];
        if (waits(s) && s->above && !s->disturbed) {
            assert_true(s->steps_left > 0); /* it starves */
            s->steps_left--;
            e->aged_steps++;
        }
    }
}


/* ---- fairness ---- */

static bool
competes(const struct sim_engine *e, uint64_t tenant)
{
    for (uint32_t i = 0; i < SIM_SLOTS; i++) {
        const struct sim_slot *s = &e->slots[i];
        if (waits(s) && !s->disturbed && s->request.tenant == tenant) {
            return true;
        }
    }
    return false;
}


void
sim_bounds_fair(struct sim_engine *e)
{
    uint64_t low = UINT64_MAX, high = 0;
    for (uint64_t t = 1; t <= SIM_TENANTS && e->options.fair; t++) {
        if (competes(e, t)) {
            uint64_t served = ax_sched_served(e->sched, t);
            low = served < low ? served : low;
            high = served > high ? served : high;
        }
    }
    if (high <= low) {
        return;
    }
    uint32_t quantum = e->options.quantum;
    uint64_t bound = 2 * ax_kv_blocks_total(e->kv) * AX_KV_BLOCK_TOKENS +
                     (quantum == AX_SCHED_NO_QUANTUM ? 0 : quantum);
    uint64_t gap = (high - low) / AX_SCHED_SERVED_TOKEN;
    assert_true(gap <= bound);
    e->gap_part_max = 100 * gap / bound > e->gap_part_max ? 100 * gap / bound
                                                          : e->gap_part_max;
}


/* ---- drafts ---- */

/* Its answer goes on; a prompt's last token may come alone as well. */
static bool
decodes(const struct sim_engine *e, const struct ax_sched_entry *entry)
{
    return e->slots[entry->slot].says && entry->n_tokens == 1 + entry->n_drafts;
}


void
sim_bounds_drafted(struct sim_engine *e, const struct ax_sched_step *step)
{
    uint64_t target_us = e->options.tpot_us, decodes_us = 0, keys_us = 0;
    uint64_t drafts_us = SIM_TOKEN_US * step->n_drafts, block_us = 0;
    uint32_t n_decodes = 0, n_prompts = 0;
    for (uint32_t i = 0; i < step->n_entries; i++) {
        const struct ax_sched_entry *v = &step->entries[i];
        keys_us += sim_keys_us(e, v->position, v->n_tokens);
        drafts_us += sim_keys_us(e, v->position, v->n_drafts);
        n_decodes += decodes(e, v);
        n_prompts += !v->samples || v->n_tokens > 1 + v->n_drafts;
        decodes_us += decodes(e, v) ? sim_keys_us(e, v->position, 1) : 0;
        if (!v->samples) {
            block_us += SIM_TOKEN_US * AX_KV_BLOCK_TOKENS +
                        sim_keys_us(e, v->position, AX_KV_BLOCK_TOKENS);
        }
    }
    if (!e->options.costs || target_us == 0 || step->n_drafts == 0 ||
        n_decodes == 0 || n_prompts == 0) {
        return;
    }
    /* Steps take as long as that or longer, and the scheduler learns it; what
     * is cut from halves of keys does not matter. */
    uint64_t slack_us = target_us / 100;
    decodes_us += sim_cost_us(n_decodes);
    assert_true(sim_cost_us(step->n_tokens) + keys_us <= target_us + slack_us);
    assert_true(decodes_us <= target_us);
    assert_true(block_us == 0 ||
                4 * drafts_us <=
                    target_us - decodes_us + 4 * (block_us + slack_us));
    e->bound_drafts += block_us != 0;
}
