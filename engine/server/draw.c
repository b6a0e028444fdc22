/*
 * See draw.h.  A job of the pool has one phase, whose units are rows and are
 * computed in place: a row takes some ten microseconds to some hundred.
 */
#include "engine/server/draw.h"

#include <stdlib.h>

struct ax_drawer {
    struct ax_pool *pool;
    uint32_t n_samplers;
    struct ax_sampler **samplers; /* [threads of the pool] */
    struct ax_draw *draws;        /* of the job that runs */
};


int
ax_drawer_open(struct ax_drawer **out, struct ax_pool *pool, uint32_t n_vocab,
               const struct axk_ops *ops)
{
    *out = NULL;
    struct ax_drawer *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return AXION_ERR_NO_MEMORY;
    }
    d->pool = pool;
    d->n_samplers = ax_pool_threads(pool);
    d->samplers = calloc(d->n_samplers, sizeof(struct ax_sampler *));
    int rc = d->samplers != NULL ? AXION_OK : AXION_ERR_NO_MEMORY;
    for (uint32_t i = 0; rc == AXION_OK && i < d->n_samplers; i++) {
        rc = ax_sampler_open(&d->samplers[i], n_vocab, ops);
    }
    if (rc != AXION_OK) {
        ax_drawer_close(d);
        return rc;
    }
    *out = d;
    return AXION_OK;
}


void
ax_drawer_close(struct ax_drawer *d)
{
    if (d == NULL) {
        return;
    }
    for (uint32_t i = 0; d->samplers != NULL && i < d->n_samplers; i++) {
        ax_sampler_close(d->samplers[i]);
    }
    free(d->samplers);
    free(d);
}


static void
draw_rows(struct ax_drawer *d, uint32_t thread, uint32_t begin, uint32_t end)
{
    for (uint32_t i = begin; i < end; i++) {
        struct ax_draw *draw = &d->draws[i];
        draw->error = ax_sample(d->samplers[thread], draw->sampling,
                                &draw->history, draw->logits, &draw->token);
    }
}


static void
work(void *context, const struct ax_pool_piece *piece)
{
    draw_rows(context, piece->thread, piece->begin, piece->end);
}


void
ax_drawer_run(struct ax_drawer *d, struct ax_draw *draws, uint32_t n_draws)
{
    while (n_draws > 0) {
        uint32_t n = n_draws < AX_POOL_UNITS_MAX ? n_draws : AX_POOL_UNITS_MAX;
        struct ax_pool_job job = {
            .n_phases = 1, .units = &n, .context = d, .work = work};
        d->draws = draws;
        if (n < AX_DRAW_SPREAD_MIN) {
            draw_rows(d, 0, 0, n);
        } else {
            (void)ax_pool_run(d->pool, &job); /* fails at gates alone */
        }
        draws += n;
        n_draws -= n;
    }
}
