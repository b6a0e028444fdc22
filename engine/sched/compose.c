/*
 * The next step: expire, give decodes their KV, share the rest of the step
 * between prompts, then one entry per sequence.
 *
 * Prompts that wait and prompts that are half way are one queue (order.c):
 * the best one gets the next chunk, and one that waits is let in when its
 * turn has come, not before (admit.c).  So KV is not held by those who could
 * not be computed yet, and a short prompt need not wait for the long ones
 * that came before it.
 *
 * The chunk budget keeps a step with prompts, drafts counted, within the time
 * that decodes may wait for it (costs.c).  A backlog's decodes sit out the step
 * that ends the short prompt of a tenant without one, every second step at most
 * (yield.c).
 *
 * A prompt whose next block is just being computed for another one, which
 * happens when many arrive with one beginning, sits the step out and takes
 * that block over as soon as it is whole.
 */
#include "engine/sched/internal.h"

#include <assert.h>

/* Of the room, that a chunk may leave to end with a block. */
#define BLOCK_PART 4u


/* ---- decodes ---- */

static bool
decodes(const struct sequence *q)
{
    return q->holds == 0 && q->n_tokens - q->n_computed == 1;
}


/*
 * KV for their next position, from others if need be, before prompts take
 * any: the best sequence always gets on.  The order is that of ranks, and a
 * victim is further back in the list.
 */
static void
ready_decodes(struct ax_sched *s)
{
    s->n_ready = 0;
    for (uint32_t i = s->running.first;
         i != NONE && s->n_ready < s->options.running_max;
         i = s->sequences[i].link.next) {
        struct sequence *q = &s->sequences[i];
        q->ready = decodes(q) && sched_grow(s, i, q->n_tokens);
        s->n_ready += q->ready;
    }
}


/* ---- prompts ---- */

/* Whether the block that it goes on with is in this step already. */
static bool
computed_elsewhere(const struct ax_sched *s, uint32_t slot, uint32_t position)
{
    const struct ax_sched_kv *kv = &s->options.kv;
    if (s->n_picks == 0 || kv->name == NULL) {
        return false;
    }
    uint64_t name = kv->name(kv->context, slot, position);
    for (uint32_t i = 0; name != 0 && i < s->n_picks; i++) {
        if (s->picks[i].name == name) {
            return true;
        }
    }
    return false;
}


/* What the cache has learnt since: the rest need not be computed again, nor
 * that of the block that a chunk ended in. */
static void
catch_up(struct ax_sched *s, uint32_t slot)
{
    struct sequence *q = &s->sequences[slot];
    const struct ax_sched_kv *kv = &s->options.kv;
    if (kv->attach != NULL) {
        uint32_t begun = q->n_computed % s->options.kv_block_tokens;
        uint32_t n = kv->attach(kv->context, slot, q->n_computed - begun,
                                q->n_tokens - 1);
        if (n > q->n_computed || begun == 0) {
            sched_note_cached(s, slot, n);
        }
    }
}


/* A chunk ends with a block when it can, so that others find the block; not
 * where decodes sit out for it, nor where that left much of the room: small
 * chunks would end every block with a step that is nearly empty. */
static uint32_t
chunk_of(const struct ax_sched *s, const struct sequence *q, uint32_t room)
{
    uint32_t pending = q->n_tokens - q->n_computed;
    if (pending <= room || s->cleared) {
        return pending < room ? pending : room;
    }
    uint32_t over = (q->n_computed + room) % s->options.kv_block_tokens;
    return over <= room / BLOCK_PART ? room - over : room;
}


static void
pick(struct ax_sched *s, uint32_t slot, uint32_t room)
{
    struct sequence *q = &s->sequences[slot];
    const struct ax_sched_kv *kv = &s->options.kv;
    uint64_t name =
        kv->name == NULL ? 0 : kv->name(kv->context, slot, q->n_computed);
    q->in_step = chunk_of(s, q, room);
    sched_budget_take(s, q->in_step, q->n_computed);
    sched_charge_prompt(s, slot, q->n_computed + q->in_step);
    s->picks[s->n_picks++] = (struct pick){slot, name};
}


/* Takes a waiting one in, or says that it must wait on. */
static bool
let_in(struct ax_sched *s, uint32_t slot)
{
    const struct sequence *q = &s->sequences[slot];
    const struct ax_sched_kv *kv = &s->options.kv;
    if (s->n_picks > 0 && kv->known != NULL) {
        uint32_t n = kv->known(kv->context, slot, q->n_tokens - 1);
        if (computed_elsewhere(s, slot, n)) {
            return false;
        }
    }
    if (!sched_admit(s, slot)) {
        s->blocked = true; /* first come: those behind it wait as well */
        return false;
    }
    return true;
}


static void
pick_prompts(struct ax_sched *s, uint64_t now_us)
{
    uint32_t slot, room;
    s->n_picks = 0;
    s->blocked = false;
    s->others_ended = s->others_end;
    s->others_end = false;
    s->rested = s->cleared;
    s->cleared = false;
    s->turn++;
    sched_lift_tenants(s);
    sched_look_up_some(s);
    sched_budget_open(s);
    while (sched_chunk_budget(s, 0) > 0 &&
           (slot = sched_best_prompt(s, now_us)) != NONE) {
        struct sequence *q = &s->sequences[slot];
        q->looked_at = s->turn;
        if ((q->state == WAITING && !let_in(s, slot)) ||
            s->n_ready + s->n_picks >= s->options.running_max) {
            continue;
        }
        catch_up(s, slot);
        if (computed_elsewhere(s, slot, q->n_computed)) {
            continue;
        }
        if (s->n_picks == 0 && !s->others_ended) {
            sched_clear_step(s, q);
        }
        if ((room = sched_chunk_budget(s, q->n_computed)) > 0) {
            pick(s, slot, room);
            s->others_end |= !s->others_ended &&
                             q->n_computed + q->in_step == q->n_tokens &&
                             !sched_has_backlog(s, q);
        }
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
    q->drafts = 0;
}


static void
add_decodes(struct ax_sched *s)
{
    for (uint32_t i = s->running.first; i != NONE;
         i = s->sequences[i].link.next) {
        if (s->sequences[i].ready) {
            s->sequences[i].ready = false;
            /* The last token of a prompt may come alone as well. */
            sched_charge_prompt(s, i, s->sequences[i].n_computed + 1);
            add_entry(s, i, 1);
        }
    }
}


static void
add_prompts(struct ax_sched *s)
{
    for (uint32_t i = 0; i < s->n_picks; i++) {
        uint32_t slot = s->picks[i].slot;
        add_entry(s, slot, s->sequences[slot].in_step);
    }
}


const struct ax_sched_step *
ax_sched_next(struct ax_sched *s, uint64_t now_us)
{
    assert(!s->stepping);
    s->step.n_entries = 0;
    s->step.n_tokens = 0;
    s->step.n_samples = 0;
    s->step.n_drafts = 0;
    s->now_us = now_us;
    sched_expire(s, now_us);
    ready_decodes(s);
    pick_prompts(s, now_us);
    add_decodes(s);
    add_prompts(s);
    assert(s->step.n_entries <= s->options.running_max &&
           s->step.n_tokens <= s->options.batch_tokens_max);
    s->stepping = s->step.n_entries > 0;
    return &s->step;
}


/* ---- drafts ---- */

/* Tokens that the sequence may say behind the next one. */
static uint64_t
may_say_more(const struct sequence *q)
{
    uint64_t end =
        q->tokens_max < q->lease_tokens ? q->tokens_max : q->lease_tokens;
    return end > q->n_tokens + 1 ? end - q->n_tokens - 1 : 0;
}


uint32_t
ax_sched_extend(struct ax_sched *s, uint32_t index, uint32_t n)
{
    assert(s->stepping && index < s->step.n_entries);
    struct ax_sched_entry *entry = &s->entries[index];
    struct sequence *q = &s->sequences[entry->slot];
    const struct ax_sched_kv *kv = &s->options.kv;
    uint64_t more = may_say_more(q);
    uint32_t room = s->options.batch_tokens_max - s->step.n_tokens;
    assert(entry->samples && entry->n_drafts == 0);
    n = n < room ? n : room;
    n = n < more ? n : (uint32_t)more;
    if (n == 0 || (s->others_end && sched_has_backlog(s, q))) {
        return 0;
    }
    n = sched_draft_budget(s, n, entry->position);
    if (n == 0 ||
        kv->reserve(kv->context, entry->slot, q->n_tokens + n) != AXION_OK) {
        return 0;
    }
    sched_budget_take_drafts(s, n, entry->position);
    entry->n_drafts = n;
    entry->n_tokens += n;
    s->step.n_tokens += n;
    s->step.n_drafts += n;
    s->step.n_samples += n;
    q->in_step += n;
    q->drafts = n;
    return n;
}
