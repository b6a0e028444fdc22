/*
 * Drawing the tokens of a step: rows of logits are sampled on all compute
 * threads, a row each, with a sampler's scratch memory for each thread.
 *
 * ax_sample() is a pure function of a row's parameters, history and logits, so
 * what is drawn does not depend on who draws it nor on the other rows.  A few
 * rows are not worth waking anybody, and those with penalties or logit_bias
 * read what only thread 0 may: it draws those.
 *
 * Rows of one sequence (a token and the drafts behind it) may be drawn at the
 * same time: the history of each is what stands before it, drafts included.
 */
#ifndef AX_SERVER_DRAW_H
#define AX_SERVER_DRAW_H

#include "engine/error.h"
#include "engine/pool/pool.h"
#include "engine/sample/sample.h"

/* Fewer rows than this are drawn by the caller alone. */
#define AX_DRAW_SPREAD_MIN 4u

/* In: all but the last two, which outlive the call; logits and allowed stay
 * readable until the drawer is closed. */
struct ax_draw {
    const struct ax_sampling *sampling;
    struct ax_sample_history history;
    const float *logits;     /* [n_vocab] */
    const uint64_t *allowed; /* as of ax_sampling, instead of its own */
    int32_t token;
    int error; /* of ax_sample() */
};

struct ax_drawer;

/* For up to rows_max rows in one go (more are several).  NO_MEMORY. */
int ax_drawer_open(struct ax_drawer **out, struct ax_pool *pool,
                   uint32_t rows_max, uint32_t n_vocab,
                   const struct axk_ops *ops);
/* After the pool has stopped, as the logits are freed: a late thread of it may
 * still draw what nobody waits for. */
void ax_drawer_close(struct ax_drawer *drawer); /* NULL is fine */

/* Draws them all; on the pool's thread 0, between its jobs. */
void ax_drawer_run(struct ax_drawer *drawer, struct ax_draw *draws,
                   uint32_t n_draws);

#endif
