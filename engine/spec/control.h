/*
 * The control law of speculation: how many drafts each sequence of a step
 * gets, none included.  Pure: what was accepted so far and what steps cost
 * come in, lengths come out.
 *
 * Acceptance.  A proposer that copies says how long a context it matched; a
 * draft that was accepted makes the match one longer.  For each sequence an
 * EMA per class of match length says how often the next token was right.
 * The chance that the first j drafts all hold ("survival") is the product of
 * the classes' rates along the way.  Proposals that were not computed count
 * too: whether their first token was right is known once it is sampled, at no
 * cost, so a sequence that drafts nothing recovers by itself.
 *
 * Length.  A step of m tokens takes T(m).  One draft more adds its survival
 * to the tokens that the step is expected to give, and to the step's cost
 * what one token and its attention cost.  Drafts are handed out in the order
 * of their survival; the number at which
 *
 *     (entries + sum of survivals) / (T(m + drafts) + keys + draws + rounds)
 *
 * is largest wins, if it beats no drafts by AX_SPEC_GAIN_MIN.  (After
 * SmartSpec / TurboSpec's goodput, arXiv 2406.14066.)  At large batch T grows
 * with every token, the quotient falls, and nobody drafts.
 *
 * Doubt.  What drafts add is known less well than what the step costs anyway:
 * it lies between points of T, or beyond them, and was measured on one
 * sequence.  So it counts AX_SPEC_DOUBT times.  Where a token costs nearly its
 * share of the step, dozens of drafts that all hold would else be computed for
 * a gain of some per cent that is not there.
 *
 * Beside prompts.  `entries` are the decodes alone, and so are the cost and
 * the keys without drafts: a prompt pays for its own tokens.  A draft still
 * costs what one more token does behind all of them, which is much more than
 * behind a few decodes.  And the prompts bound what all drafts may add,
 * room_us; what they would have added without that bound is told, so that the
 * next step has room for it (sched.h).
 */
#ifndef AX_SPEC_CONTROL_H
#define AX_SPEC_CONTROL_H

#include <stdbool.h>
#include <stdint.h>
#include "engine/spec/cost.h"

#define AX_SPEC_DRAFT_MAX 32u
#define AX_SPEC_CLASSES   8u
#define AX_SPEC_GAIN_MIN  1.03f
#define AX_SPEC_DOUBT     1.1f

/* Share of right tokens by class of match length. */
struct ax_spec_rates {
    float rate[AX_SPEC_CLASSES];
    float step[AX_SPEC_CLASSES]; /* of the EMA, falling to its last one */
};

/* 1, 2, 3, 4-5, 6-8, 9-15, 16-31, 32 and more tokens; length >= 1. */
uint32_t ax_spec_class(uint32_t match);

/* What copying text of each class is worth before anything is known. */
void ax_spec_rates_init(struct ax_spec_rates *rates);
/* The same for a copy (copy.h) that was found again so many tokens ago, the
 * first of them counted as well: match is its run + 1. */
void ax_spec_rates_init_copy(struct ax_spec_rates *rates);
void ax_spec_rates_learn(struct ax_spec_rates *rates, uint32_t match,
                         bool right);
/* survive[j]: the chance that drafts 0..j are right, for n drafts behind a
 * match of this length. */
void ax_spec_survival(const struct ax_spec_rates *rates, uint32_t match,
                      uint32_t n, float *survive);

/* A sequence that could draft. */
struct ax_spec_item {
    const float *survive; /* [n], falling */
    uint32_t n;
    uint32_t positions; /* in its context */
    uint32_t k;         /* out: drafts to compute, 0 .. n */
};

struct ax_spec_step {
    uint32_t n_tokens;   /* of the step without drafts, prompts counted */
    uint32_t n_decodes;  /* sequences that get their next token */
    uint32_t drafts_max; /* of the whole step */
    uint32_t n_rows;     /* tokens that it draws without drafts */
    uint32_t n_drawn; /* rows drawn at a time, 1 or more; 0: draws are free */
    float other_us;   /* the decodes' keys */
    float round_us;   /* what the proposer takes per draft of the longest */
    float room_us;    /* that drafts may add, draws aside; HUGE_VALF: any */
};

/* Sets every item's k.  What the best choice would add without room_us. */
float ax_spec_choose(const struct ax_cost *cost,
                     const struct ax_spec_step *step,
                     struct ax_spec_item *items, uint32_t n_items);

/* What the items' k add to the step. */
float ax_spec_added_us(const struct ax_cost *cost,
                       const struct ax_spec_step *step,
                       const struct ax_spec_item *items, uint32_t n_items);

#endif
