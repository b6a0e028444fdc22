/*
 * The work of a stage in private, so that a piece which a preempted thread
 * holds can be computed by another (engine/pool/pool.h has the rules).
 *
 * A thread computes a piece of a matmul or an item of attention into memory
 * of its own and, when the piece is still to be had, copies it to where it
 * belongs.  The copy is small beside the work: a panel of 32 rows is 128 bytes
 * for a token and many kilobytes of weights.  Row-local stages work in place:
 * they are short, and many of them change what they read.
 *
 * With one thread there is nobody to wait for, and all is in place.
 */
#include "engine/exec/internal.h"

#include <stdlib.h>
#include <string.h>


/* Results of a piece of a matmul at most: half of a small L2. */
#define MATMUL_FLOATS 16384u


int
ax_private_open(struct ax_exec *e, struct ax_error *err)
{
    uint32_t n_threads = e->options.n_threads;
    size_t floats = ax_attention_private_floats(e);

    if (n_threads == 1) {
        return AXION_OK;
    }
    floats = floats > MATMUL_FLOATS ? floats : MATMUL_FLOATS;
    size_t bytes = (floats * sizeof(float) + AX_ARENA_ALIGN - 1) &
                   ~(size_t)(AX_ARENA_ALIGN - 1);
    e->privates = calloc(n_threads, sizeof(*e->privates));
    if (e->privates == NULL ||
        ax_arena_open(&e->private_arena, bytes * n_threads) != AXION_OK) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY,
                            "no memory for the threads' results");
    }
    for (uint32_t t = 0; t < n_threads; t++) {
        e->privates[t] = ax_arena_take(&e->private_arena, bytes);
    }
    return AXION_OK;
}


void
ax_private_close(struct ax_exec *e)
{
    ax_arena_close(&e->private_arena);
    free(e->privates);
}


uint32_t
ax_private_piece_max(const struct ax_exec *e, const struct ax_stage *stage,
                     uint32_t scale)
{
    if (e->privates == NULL || stage->kind == AX_STAGE_ROWS) {
        return 0;
    }
    if (stage->kind == AX_STAGE_ATTENTION) {
        return scale == 1 ? 1 : 0;
    }
    return MATMUL_FLOATS / (AXK_PANEL_ROWS * scale * ax_stage_rows(e, stage));
}


static bool
compute_matmul(struct ax_exec *e, const struct ax_stage *stage,
               const struct ax_pool_piece *piece)
{
    uint32_t scale = e->scale[piece->phase];
    uint32_t rows = ax_stage_rows(e, stage);
    float *out = e->privates[piece->thread];
    uint32_t row0, row1;

    if (!ax_pool_holds(piece)) {
        return false;
    }
    for (uint32_t i = 0; i < stage->n; i++) {
        const struct ax_mat_op *mat = &e->program.mat_ops[stage->first + i];
        if (ax_stage_part(e, mat, piece->begin * scale, piece->end * scale,
                          &row0, &row1)) {
            struct axk_matmul a = ax_stage_matmul(e, mat, rows);
            a.y = ax_private_at(out, row0);
            a.y_stride = row1 - row0;
            a.accumulate = false;
            e->ops->matmul(&a, row0, row1);
            out += rows * a.y_stride;
        }
    }
    return true;
}


static void
commit_matmul(struct ax_exec *e, const struct ax_stage *stage,
              const struct ax_pool_piece *piece)
{
    uint32_t scale = e->scale[piece->phase];
    uint32_t rows = ax_stage_rows(e, stage);
    const float *from = e->privates[piece->thread];
    uint32_t row0, row1;

    for (uint32_t i = 0; i < stage->n; i++) {
        const struct ax_mat_op *mat = &e->program.mat_ops[stage->first + i];
        if (!ax_stage_part(e, mat, piece->begin * scale, piece->end * scale,
                           &row0, &row1)) {
            continue;
        }
        struct axk_matmul a = ax_stage_matmul(e, mat, rows);
        uint32_t n = row1 - row0;
        for (uint32_t r = 0; r < rows; r++, from += n) {
            float *y = a.y + r * a.y_stride + row0;
            if (a.accumulate) {
                e->ops->add(y, y, from, n);
            } else {
                memcpy(y, from, n * sizeof(float));
            }
        }
    }
}


/* A late thread may find another stage here: then it does not hold on. */
static const struct ax_stage *
stage_of(const struct ax_exec *e, const struct ax_pool_piece *piece)
{
    return &e->program.stages[e->phase_stage[piece->phase]];
}


bool
ax_exec_compute(void *context, const struct ax_pool_piece *piece)
{
    struct ax_exec *e = context;
    const struct ax_stage *stage = stage_of(e, piece);

    if (!ax_pool_holds(piece)) {
        return false;
    }
    return stage->kind == AX_STAGE_MATMUL
               ? compute_matmul(e, stage, piece)
               : ax_attention_compute(e, stage, piece);
}


void
ax_exec_commit(void *context, const struct ax_pool_piece *piece)
{
    struct ax_exec *e = context;
    const struct ax_stage *stage = stage_of(e, piece);

    if (stage->kind == AX_STAGE_MATMUL) {
        commit_matmul(e, stage, piece);
    } else {
        ax_attention_commit(e, stage, piece);
    }
}
