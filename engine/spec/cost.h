/*
 * What a step costs: the time of m tokens, measured once on this machine for
 * this model, and the time that their keys add.
 *
 *   T(m)     us of a step of m tokens at the start of a context: points,
 *            linear between them and beyond the last one
 *   keys     us per cached position and entry: of one query, and of each
 *            further query of the same sequence, which reads the same keys
 *   draws    us of drawing tokens from logits: a round of one row a thread
 *   scale    how much slower or faster than measured steps are of late
 *
 * Points are corrected by comparing steps that followed each other: if one of
 * 8 tokens took longer than T(8) says, measured by the one of 1 token before
 * it, then T(8) rises and T(1) falls a little.  What slows both down, a
 * neighbour or a lower clock, moves the scale alone.
 *
 * Who chooses between steps (how many drafts, how long a chunk) compares
 * costs, so the curve counts and the scale does not; who wants microseconds
 * multiplies.  Pure arithmetic, fixed memory, one thread.
 */
#ifndef AX_SPEC_COST_H
#define AX_SPEC_COST_H

#include <stdint.h>

#define AX_COST_POINTS_MAX 24u

struct ax_cost_point {
    uint32_t tokens;
    float us;
};

struct ax_cost {
    uint32_t n_points;                               /* 0: unknown */
    struct ax_cost_point points[AX_COST_POINTS_MAX]; /* by tokens, rising */
    uint32_t last_tokens; /* of the step that was learned from last; 0: none */
    float last_ratio;     /* its time over what was expected */
    float key_us;         /* of an entry, per position before it */
    float key_query_us;   /* of each further query, per position */
    float draw_us;        /* of a round of draws; 0: not known yet */
    float scale;
};

/* Nothing known; scale 1. */
void ax_cost_init(struct ax_cost *cost);

/* Adds or replaces a point; one too many, or not positive, is ignored.  A
 * point that costs less than one of fewer tokens is noise: of() levels it. */
void ax_cost_add(struct ax_cost *cost, uint32_t tokens, float us);

/* us of a step of so many tokens, without keys and scale, never falling with
 * tokens; 0 while nothing is known. */
float ax_cost_of(const struct ax_cost *cost, uint32_t tokens);

/* The point of just so many tokens; 0: there is none. */
float ax_cost_at(const struct ax_cost *cost, uint32_t tokens);

/* us that `queries` tokens of one sequence add for n positions before them. */
float ax_cost_of_keys(const struct ax_cost *cost, uint32_t queries,
                      uint32_t positions);

/* A step of so many tokens, whose keys should have taken keys_us, took us. */
void ax_cost_learn(struct ax_cost *cost, uint32_t tokens, float keys_us,
                   float us);

/* So many rounds of draws took us: what sampling asks for changes with the
 * requests, so the average follows. */
void ax_cost_learn_draws(struct ax_cost *cost, uint32_t rounds, float us);

#endif
