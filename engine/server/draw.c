/*
 * See draw.h.  A job of the pool has one phase, whose units are rows, computed
 * in private and committed (pool.h): a thread that is put aside with a row
 * makes nobody wait.  It may wake up much later, when the logits are those of
 * another step.  The sampler walks them several times and bounds one walk by
 * what another found, so it must not see them change: a thread samples from
 * copies of the row's parameters and logits, made while the row was its to
 * draw.  Thread 0 waits for the job's end, so it needs none of the logits.
 *
 * Rows that edit logits by their history (penalties) or by a list (logit_bias)
 * read the request's memory, which changes; thread 0 draws them.
 */
#include "engine/server/draw.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct row {
    struct ax_sampling sampling; /* without bias, with the row's allowed */
    const float *logits;
    uint32_t n_tokens;
    uint32_t draw; /* index of the caller's */
};

struct result {
    int32_t token;
    int error;
    char apart[56]; /* cache lines of their own */
};

struct ax_drawer {
    struct ax_pool *pool;
    uint32_t n_samplers;
    uint32_t rows_max;
    uint32_t n_vocab;
    size_t copy_stride;           /* floats, of whole cache lines */
    float *copies;                /* [threads but 0]: logits, then allowed */
    struct ax_sampler **samplers; /* [threads of the pool] */
    struct result *results;       /* [threads of the pool] */
    struct row *rows;             /* [rows_max] */
    struct ax_draw *draws;        /* of the job that runs */
};


static size_t
allowed_bytes(const struct ax_drawer *d)
{
    return ((size_t)d->n_vocab + 63) / 64 * sizeof(uint64_t);
}


static int
open_copies(struct ax_drawer *d)
{
    size_t late = d->n_samplers - 1;
    if (late == 0) {
        return AXION_OK;
    }
    d->copy_stride =
        ((size_t)d->n_vocab + 15) / 16 * 16 + (allowed_bytes(d) + 63) / 64 * 16;
    d->copies = aligned_alloc(64, late * d->copy_stride * sizeof(float));
    return d->copies != NULL ? AXION_OK : AXION_ERR_NO_MEMORY;
}


int
ax_drawer_open(struct ax_drawer **out, struct ax_pool *pool, uint32_t rows_max,
               uint32_t n_vocab, const struct axk_ops *ops)
{
    *out = NULL;
    struct ax_drawer *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return AXION_ERR_NO_MEMORY;
    }
    d->pool = pool;
    d->n_vocab = n_vocab;
    d->n_samplers = ax_pool_threads(pool);
    d->rows_max = rows_max < AX_POOL_UNITS_MAX ? rows_max : AX_POOL_UNITS_MAX;
    d->samplers = calloc(d->n_samplers, sizeof(struct ax_sampler *));
    d->results = calloc(d->n_samplers, sizeof(*d->results));
    d->rows = calloc(d->rows_max, sizeof(*d->rows));
    int rc = d->samplers != NULL && d->results != NULL && d->rows != NULL
                 ? open_copies(d)
                 : AXION_ERR_NO_MEMORY;
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
    free(d->copies);
    free(d->results);
    free(d->rows);
    free(d);
}


static bool
edits_logits(const struct ax_sampling *p)
{
    return p->n_bias > 0 || p->repetition_penalty != 1 ||
           p->presence_penalty != 0 || p->frequency_penalty != 0;
}


/* What a thread may read however late it is. */
static void
copy_row(const struct ax_drawer *d, uint32_t thread, struct row *row)
{
    float *copy = d->copies + (thread - 1) * d->copy_stride;
    memcpy(copy, row->logits, d->n_vocab * sizeof(*copy));
    row->logits = copy;
    if (row->sampling.allowed != NULL) {
        void *bits = copy + ((size_t)d->n_vocab + 15) / 16 * 16;
        memcpy(bits, row->sampling.allowed, allowed_bytes(d));
        row->sampling.allowed = bits;
    }
}


static bool
compute(void *context, const struct ax_pool_piece *piece)
{
    struct ax_drawer *d = context;
    struct result *result = &d->results[piece->thread];
    struct row row = d->rows[piece->begin];
    if (!ax_pool_holds(piece)) {
        return false;
    }
    if (piece->thread != 0) {
        copy_row(d, piece->thread, &row);
        if (!ax_pool_holds(piece)) {
            return false;
        }
    }
    struct ax_sample_history history = {NULL, 0, row.n_tokens};
    result->error = ax_sample(d->samplers[piece->thread], &row.sampling,
                              &history, row.logits, &result->token);
    return true;
}


static void
commit(void *context, const struct ax_pool_piece *piece)
{
    struct ax_drawer *d = context;
    struct ax_draw *draw = &d->draws[d->rows[piece->begin].draw];
    draw->token = d->results[piece->thread].token;
    draw->error = d->results[piece->thread].error;
}


static void
draw_alone(struct ax_drawer *d, struct ax_draw *draw)
{
    struct ax_sampling sampling = *draw->sampling;
    sampling.allowed = draw->allowed;
    draw->error = ax_sample(d->samplers[0], &sampling, &draw->history,
                            draw->logits, &draw->token);
}


static void
draw_together(struct ax_drawer *d, uint32_t n)
{
    static const uint32_t one = 1;
    struct ax_pool_job job = {
        .n_threads = ax_pool_crew(d->pool), /* those of the step */
        .n_phases = 1,
        .units = &n,
        .piece_max = &one,
        .context = d,
        .compute = compute,
        .commit = commit,
    };
    if (n >= AX_DRAW_SPREAD_MIN && job.n_threads > 1) {
        (void)ax_pool_run(d->pool, &job); /* fails at gates alone */
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        draw_alone(d, &d->draws[d->rows[i].draw]);
    }
}


void
ax_drawer_run(struct ax_drawer *d, struct ax_draw *draws, uint32_t n_draws)
{
    uint32_t n = 0;
    d->draws = draws;
    for (uint32_t i = 0; i < n_draws; i++) {
        if (edits_logits(draws[i].sampling)) {
            draw_alone(d, &draws[i]);
            continue;
        }
        d->rows[n] = (struct row){*draws[i].sampling, draws[i].logits,
                                  draws[i].history.n_tokens, i};
        d->rows[n++].sampling.allowed = draws[i].allowed;
        if (n == d->rows_max) {
            draw_together(d, n);
            n = 0;
        }
    }
    draw_together(d, n);
}
