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
 */
#include "engine/sched/internal.h"

#include <assert.h>


/* A step with a prompt has at least so many tokens: below it most of its time
 * goes into reading weights once more.  Where that many decode, a chunk. */
#define STEP_MIN  16u
#define CHUNK_MIN 4u

/* tpot_us of 0: a step with prompts takes at most so many times as long as
 * the decodes alone, and need not be shorter than the floor.  With every few
 * prompts that wait it may take so much longer, up to the ceiling: by then
 * waiting is what hurts.  Not while somebody asks beside a backlog: he waits
 * for whatever step runs. */
#define TPOT_STRETCH    2.0
#define TPOT_FLOOR_US   20000.0
#define TPOT_CROWD_US   30000.0
#define TPOT_CEILING_US 80000.0
#define TPOT_CROWD      4u
#define SHARED_FOR_US   5000000u

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
        b->target_us = target_us(
            s, s->slower * (measured_us(s, b->n_tokens) + b->keys_us));
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
    uint32_t low = 0, high = most;
    while (low < high) { /* the largest chunk within the target */
        uint32_t n = low + (high - low + 1) / 2;
        double us = measured_us(s, b->n_tokens + n) + b->keys_us +
                    keys_us(s, n, position);
        if (s->slower * us <= b->target_us) {
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
