/*
 * What a step costs, and how many prompt tokens one may have.
 *
 * T(m), the time of a step of m tokens, is measured by the server at load and
 * given in as points; between them it is a line.  Real steps are dearer, deep
 * contexts and a shared machine see to that, so the ratio is learnt from
 * every step.  Without points, or while none decode, a step is as long as
 * batch_tokens_max makes it.
 */
#include "engine/sched/internal.h"

#include <assert.h>


/* While others decode a chunk has at least this many tokens: below it most
 * of a step's time goes into reading weights once more. */
#define CHUNK_MIN 16u

/* tpot_us of 0: a step with prompts takes at most so many times as long as
 * the decodes alone, and need not be shorter than the floor.  With every few
 * prompts that wait it may take a floor longer, up to the ceiling: small
 * chunks cost throughput, and by then waiting is what hurts. */
#define TPOT_STRETCH    2.0
#define TPOT_FLOOR_US   30000.0
#define TPOT_CEILING_US 80000.0
#define TPOT_CROWD      4u

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
    double token_us = s->token_us;
    if (token_us == 0) {
        uint32_t most = s->options.batch_tokens_max;
        token_us =
            s->n_costs > 0 ? ax_sched_step_us(s, most) / most : TOKEN_US_GUESS;
    }
    return token_us * n_tokens;
}


void
sched_learn_cost(struct ax_sched *s, uint64_t cost_us)
{
    uint32_t n = s->step.n_tokens;
    double expected = measured_us(s, n);
    if (expected > 0) {
        double slower = (double)cost_us / expected;
        slower = slower < SLOWER_MIN   ? SLOWER_MIN
                 : slower > SLOWER_MAX ? SLOWER_MAX
                                       : slower;
        s->slower += (slower - s->slower) / 8;
    }
    if (s->n_picks == 0 || n <= s->step.n_entries) {
        return; /* decodes alone: a token costs much more there */
    }
    double token_us = (double)cost_us / n;
    s->token_us = s->token_us == 0 ? token_us
                                   : s->token_us + (token_us - s->token_us) / 4;
}


uint32_t
sched_chunk_budget(const struct ax_sched *s, uint32_t n_decodes)
{
    uint32_t most = s->options.batch_tokens_max - n_decodes;
    if (n_decodes == 0 || s->n_costs == 0) {
        return most;
    }
    double target = (double)s->options.tpot_us;
    if (target == 0) {
        target = TPOT_STRETCH * ax_sched_step_us(s, n_decodes);
        double floor = TPOT_FLOOR_US * (1 + s->waiting.n / TPOT_CROWD);
        floor = floor < TPOT_CEILING_US ? floor : TPOT_CEILING_US;
        target = target < floor ? floor : target;
    }
    uint32_t low = 0, high = most;
    while (low < high) { /* the largest chunk within the target */
        uint32_t middle = low + (high - low + 1) / 2;
        if (ax_sched_step_us(s, n_decodes + middle) <= target) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    uint32_t least = most < CHUNK_MIN ? most : CHUNK_MIN;
    return low < least ? least : low;
}
