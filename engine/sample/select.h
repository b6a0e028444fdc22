/*
 * Selection of the largest candidates without sorting: internal to sample.
 */
#ifndef AX_SAMPLE_SELECT_H
#define AX_SAMPLE_SELECT_H

#include <stdbool.h>
#include <stdint.h>

struct ax_candidate {
    float logit;
    float weight; /* exp(logit - largest logit); or 1 to count */
    uint32_t id;
};

/* The order of everything here: larger logit first, then lower id. */
static inline bool
ax_candidate_before(const struct ax_candidate *a, const struct ax_candidate *b)
{
    return a->logit > b->logit || (a->logit == b->logit && a->id < b->id);
}

/*
 * The last candidate, in order, of the shortest prefix whose weights reach
 * `target`; the very last one if rounding keeps all of them below it.  n > 0.
 * Expected linear time; c[] is left in another order.
 */
struct ax_candidate ax_select_boundary(struct ax_candidate *c, uint32_t n,
                                       double target);

/* The k-th largest of v[n], 1 <= k <= n; v[] is left in another order. */
float ax_select_kth(float *v, uint32_t n, uint32_t k);

#endif
