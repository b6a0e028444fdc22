/*
 * What a step costs, and how many prompt tokens one may have.
 *
 * T(m), the time of a step of m tokens, is measured by the server at load and
 * given in as points; between them it is a line.  What lies before a token in
 * its sequence is read for it, so an entry of n tokens behind p positions adds
 * p (key_us + (n - 1) key_query_us): at a depth of some thousand that is more
 * than its matrices take, and a chunk gets shorter as its prompt gets longer.
 * Real steps are dearer, a shared machine sees to that, so the ratio is learnt
 * from every step.  Without points, or while none decode, a step is as long as
 * batch_tokens_max makes it.
 *
 * Drafts are part of that time.  In a step with prompts they get what those
 * leave of the target, and prompts leave what drafts wanted of late, up to a
 * part of the room behind the decodes.  So speculation goes on beside a steady
 * flow of prompts, where a few likely drafts are cheap; and however well many
 * streams draft, a prompt has the rest of every step.
 */
#include "engine/sched/internal.h"

#include <assert.h>
#include <math.h>


/* A step with a prompt has at least so many tokens: below it most of its time
 * goes into reading weights once more.  Where that many decode, a chunk. */
#define STEP_MIN  16u
#define CHUNK_MIN 4u

/* tpot_us of 0: a step with prompts takes at most so many times as long as
 * the decodes alone, and need not be shorter than the floor.  It is twice at
 * the 99th percentile: steps scatter, and answers get longer meanwhile.  With
 * every few prompts that wait it may take so much longer, up to the ceiling: by
 * then waiting is what hurts.  Not while somebody asks beside a backlog: he
 * waits for whatever step runs. */
#define TPOT_STRETCH    1.7
#define TPOT_FLOOR_US   20000.0
#define TPOT_CROWD_US   30000.0
#define TPOT_CEILING_US 80000.0
#define TPOT_CROWD      4u
#define SHARED_FOR_US   5000000u

/* Of the room behind the decodes, for drafts, before prompts get theirs; what
 * they want is a mean of some steps. */
#define DRAFTS_PART 0.25
#define WANTED_RATE 0.25

/* So long, or so many times their own step, a backlog's decodes may sit a step
 * out (yield.c). */
#define REST_US      100000.0
#define REST_STRETCH 16.0

#define SLOWER_MIN 0.25
#define SLOWER_MAX 16.0

/* Before anything was measured. */
#define TOKEN_US_GUESS 200.0


int
ax_sched_set_costs(struct ax_sched *s, const struct ax_sched_cost *costs,
                   uint32_t n)
{
    if (n > AX_SCHED_COSTS_MAX) {
        return AXION_ERR_BAD_OPTION;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (costs[i].us == 0 || costs[i].n_tokens == 0 ||
            (i > 0 && costs[i].n_tokens <= costs[i - 1].n_tokens)) {
            return AXION_ERR_BAD_OPTION;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        s->costs[i] = costs[i];
        /* A longer step does not cost less: the rest is noise. */
        if (i > 0 && s->costs[i].us < s->costs[i - 1].us) {
            s->costs[i].us = s->costs[i - 1].us;
        }
    }
    s->n_costs = n;
    s->slower = 1;
    return AXION_OK;
}


int
ax_sched_set_key_costs(struct ax_sched *s, double key_us, double key_query_us)
{
    if (!(key_us >= 0 && key_us < 1e6) ||
        !(key_query_us >= 0 && key_query_us < 1e6)) {
        return AXION_ERR_BAD_OPTION;
    }
    s->key_us = key_us;
    s->key_query_us = key_query_us;
    return AXION_OK;
}


static double
keys_us(const struct ax_sched *s, uint32_t n_tokens, uint32_t position)
{
    return (s->key_us + s->key_query_us * (n_tokens - 1.0)) * position;
}


/* As measured, without the ratio; 0: unknown. */
static double
measured_us(const struct ax_sched *s, uint32_t n_tokens)
{
    const struct ax_sched_cost *c = s->costs;
    uint32_t n = s->n_costs;
    if (n == 0) {
        return 0;
    }
    if (n == 1 || n_tokens <= c[0].n_tokens) {
        return n_tokens <= c[0].n_tokens
                   ? (double)c[0].us
                   : (double)c[0].us * n_tokens / c[0].n_tokens;
    }
    uint32_t i = 1;
    while (i + 1 < n && c[i].n_tokens < n_tokens) {
        i++;
    }
    double slope =
        (double)(c[i].us - c[i - 1].us) / (c[i].n_tokens - c[i - 1].n_tokens);
    return (double)c[i].us + slope * ((double)n_tokens - c[i].n_tokens);
}


double
ax_sched_step_us(const struct ax_sched *s, uint32_t n_tokens)
{
    return s->slower * measured_us(s, n_tokens);
}


double
sched_prompt_us(const struct ax_sched *s, uint32_t n_tokens)
{
    double token_us = s->token_us, n = n_tokens;
    if (token_us == 0) {
        uint32_t most = s->options.batch_tokens_max;
        token_us =
            s->n_costs > 0 ? ax_sched_step_us(s, most) / most : TOKEN_US_GUESS;
    }
    return token_us * n + s->slower * s->key_query_us * n * n / 2;
}


void
sched_learn_cost(struct ax_sched *s, uint64_t cost_us)
{
    uint32_t n = s->step.n_tokens;
    double keys = 0, tokens = measured_us(s, n);
    for (uint32_t i = 0; i < s->step.n_entries; i++) {
        keys += keys_us(s, s->entries[i].n_tokens, s->entries[i].position);
    }
    if (tokens > 0) {
        double slower = (double)cost_us / (tokens + keys);
        slower = slower < SLOWER_MIN   ? SLOWER_MIN
                 : slower > SLOWER_MAX ? SLOWER_MAX
                                       : slower;
        s->slower += (slower - s->slower) / 8;
    }
    if (s->n_picks == 0 || n <= s->step.n_entries) {
        return; /* decodes alone: a token costs much more there */
    }
    double part = tokens > 0 ? tokens / (tokens + keys) : 1;
    double token_us = part * (double)cost_us / n;
    s->token_us = s->token_us == 0 ? token_us
                                   : s->token_us + (token_us - s->token_us) / 4;
}


/* ---- the budget of a step ---- */

/* What a step may take; 0: no bound. */
static double
target_us(const struct ax_sched *s, double decodes_us)
{
    double target = (double)s->options.tpot_us;
    if (target == 0) {
        bool shared =
            s->shared_at_us != 0 && s->now_us - s->shared_at_us < SHARED_FOR_US;
        double crowd = shared ? 0 : TPOT_CROWD_US;
        crowd *= s->waiting.n / TPOT_CROWD;
        crowd = crowd < TPOT_CEILING_US ? crowd : TPOT_CEILING_US;
        crowd = crowd > TPOT_FLOOR_US ? crowd : TPOT_FLOOR_US;
        target = TPOT_STRETCH * decodes_us;
        target = target > crowd ? target : crowd;
    }
    return target;
}


/* By the step so far and n tokens more whose keys take so long, as measured. */
static double
spent_with(const struct ax_sched *s, uint32_t n, double more_keys_us)
{
    const struct budget *b = &s->budget;
    return measured_us(s, b->n_tokens + n) + b->keys_us + more_keys_us;
}


static double
spent_us(const struct ax_sched *s)
{
    return spent_with(s, 0, 0);
}


/* The step has its decodes alone. */
static void
leave_to_drafts(struct ax_sched *s)
{
    struct budget *b = &s->budget;
    double room_us = b->target_us / s->slower - spent_us(s);
    double most_us = room_us > 0 ? DRAFTS_PART * room_us : 0;
    b->drafts_us = s->n_ready == 0          ? 0
                   : s->drafts_us < most_us ? s->drafts_us
                                            : most_us;
}


void
sched_budget_open(struct ax_sched *s)
{
    struct budget *b = &s->budget;
    *b = (struct budget){.n_tokens = s->n_ready};
    for (uint32_t i = s->running.first; i != NONE;
         i = s->sequences[i].link.next) {
        const struct sequence *q = &s->sequences[i];
        b->keys_us += q->ready ? keys_us(s, 1, q->n_computed) : 0;
    }
    if (s->n_ready > 0 && s->n_costs > 0) {
        b->target_us = target_us(s, s->slower * spent_us(s));
        leave_to_drafts(s);
    }
}


void
sched_budget_limit(struct ax_sched *s, double target_us)
{
    struct budget *b = &s->budget;
    if (b->target_us == 0 || b->target_us > target_us) {
        b->target_us = target_us;
        leave_to_drafts(s);
    }
}


void
sched_budget_take(struct ax_sched *s, uint32_t n_tokens, uint32_t position)
{
    s->budget.n_tokens += n_tokens;
    s->budget.keys_us += keys_us(s, n_tokens, position);
}


uint32_t
sched_chunk_budget(const struct ax_sched *s, uint32_t position)
{
    const struct budget *b = &s->budget;
    uint32_t most = s->options.batch_tokens_max - b->n_tokens;
    if (b->target_us == 0) {
        return most;
    }
    double bound_us = b->target_us / s->slower - b->drafts_us;
    uint32_t low = 0, high = most;
    while (low < high) { /* the largest chunk within the target */
        uint32_t n = low + (high - low + 1) / 2;
        if (spent_with(s, n, keys_us(s, n, position)) <= bound_us) {
            low = n;
        } else {
            high = n - 1;
        }
    }
    if (s->n_picks > 0) {
        return low;
    }
    uint32_t least =
        b->n_tokens + CHUNK_MIN < STEP_MIN ? STEP_MIN - b->n_tokens : CHUNK_MIN;
    least = least < most ? least : most;
    return low < least ? least : low;
}


/* ---- drafts ---- */

static bool
drafts_are_bound(const struct ax_sched *s)
{
    return s->n_picks > 0 && s->budget.target_us > 0;
}


double
ax_sched_draft_room_us(const struct ax_sched *s)
{
    if (!drafts_are_bound(s)) {
        return HUGE_VAL;
    }
    double room_us = s->budget.target_us / s->slower - spent_us(s);
    return room_us > 0 ? room_us : 0;
}


uint32_t
sched_draft_budget(const struct ax_sched *s, uint32_t n, uint32_t position)
{
    double draft_us = s->key_query_us * position;
    double bound_us = s->budget.target_us / s->slower;
    while (drafts_are_bound(s) && n > 0 &&
           spent_with(s, n, draft_us * n) > bound_us) {
        n--;
    }
    return n;
}


void
sched_budget_take_drafts(struct ax_sched *s, uint32_t n, uint32_t position)
{
    s->budget.n_tokens += n;
    s->budget.keys_us += s->key_query_us * position * n;
}


void
ax_sched_want_drafts(struct ax_sched *s, double us)
{
    assert(us >= 0);
    s->drafts_us += (us - s->drafts_us) * WANTED_RATE;
}


double
sched_rest_us(const struct ax_sched *s, uint32_t n_decodes)
{
    double own_us = ax_sched_step_us(s, n_decodes);
    double wait_us = REST_STRETCH * own_us;
    wait_us = wait_us > REST_US ? wait_us : REST_US;
    if (s->options.tpot_us != 0) {
        wait_us = (double)s->options.tpot_us;
    }
    return own_us > 0 && wait_us > own_us ? wait_us - own_us : 0;
}
