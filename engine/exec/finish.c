/*
 * The end of a matmul on the rows that a thread has just made: RMS norm of
 * heads, RoPE, the KV write.
 *
 * The first two change results where they are, in place or in private, and
 * may be done twice.  The KV write is part of what is done exactly once: of
 * the piece in place, or of its commit.
 */
#include "engine/exec/internal.h"

#include <assert.h>


static void
norm_heads(const struct ax_finish *f, const struct ax_plan_op *op)
{
    const struct ax_exec *e = f->e;
    const float *weight =
        op->vector == AX_NONE ? NULL : e->plan->vectors[op->vector].data;
    uint32_t heads = (f->row1 - f->row0) / op->head_dim;

    for (uint32_t r = 0; r < f->rows; r++) {
        float *y = f->y + r * f->stride;
        e->ops->rmsnorm(y, op->head_dim, y, op->head_dim, heads, op->head_dim,
                        weight, op->scale);
    }
}


static void
rotate(const struct ax_finish *f, const struct ax_plan_op *op)
{
    const struct ax_exec *e = f->e;
    const struct ax_plan_rope *config = &e->plan->ropes[op->rope];
    struct axk_rope a = {
        .x = f->y,
        .x_stride = f->stride,
        .first = f->row0,
        .n = f->row1 - f->row0,
        .head_dim = op->head_dim,
        .n_rot = config->n_rot,
        .neox = config->neox,
        .table = e->program.rope_tables[op->rope],
    };

    e->ops->rope(&a, 0, f->rows);
}


void
ax_finish_compute(const struct ax_finish *f, const struct ax_stage *stage,
                  uint32_t mat)
{
    const struct ax_program *p = &f->e->program;

    for (uint32_t i = 0; i < stage->n_finish; i++) {
        const struct ax_finish_op *finish = &p->finish_ops[stage->finish + i];
        if (finish->mat != mat) {
            continue;
        }
        if (finish->kind == AX_ROW_RMSNORM) {
            norm_heads(f, finish->op);
        } else if (finish->kind == AX_ROW_ROPE) {
            rotate(f, finish->op);
        }
    }
}


/* Lines of 64 bytes asked for at once, at most: a fourth of a small L2. */
#define FETCH_LINES 4096u


void
ax_finish_fetch(const struct ax_exec *e, const struct ax_stage *stage,
                uint32_t mat, uint32_t row0, uint32_t row1, uint32_t n_written)
{
    const struct ax_program *p = &e->program;
    size_t block_bytes = ax_kv_block_bytes(e->kv);
    uint32_t blocks_max = 2 * FETCH_LINES / (row1 - row0); /* keys: 2 a line */

    for (uint32_t i = 0; i < stage->n_finish; i++) {
        const struct ax_finish_op *finish = &p->finish_ops[stage->finish + i];
        if (finish->mat != mat || finish->kind != AX_ROW_KV_WRITE) {
            continue;
        }
        uint32_t layer = finish->op->layer;
        const char *blocks = ax_kv_layer(e->kv, layer);
        const struct ax_kv_written *w =
            e->written + ax_kv_group(e->kv, layer) * (size_t)e->written_max;
        for (uint32_t b = 0; b < n_written && b < blocks_max; b++) {
            struct axk_kv_part part = {
                .values = finish->op->b != p->mat_ops[mat].out,
                .slot0 = w[b].slot0,
                .slot1 = w[b].slot1,
                .first = row0,
                .n = row1 - row0,
            };
            axk_kv_fetch(e->kv_shape.type, blocks + w[b].block * block_bytes,
                         &part, e->kv_shape.head_dim);
        }
    }
}


void
ax_stage_kv_write(const struct ax_exec *e, const struct ax_plan_op *op,
                  uint32_t token, uint32_t first, uint32_t n, const float *k,
                  const float *v)
{
    const struct ax_step_token *t = &e->step->tokens[token];
    const struct ax_kv_sequence *seq = e->step->sequences[t->sequence];
    size_t group = ax_kv_group(e->kv, op->layer);
    uint32_t block =
        seq->blocks[group * seq->blocks_max + t->position / AX_KV_BLOCK_TOKENS];
    char *layer = ax_kv_layer(e->kv, op->layer);

    assert(ax_kv_block_refs(e->kv, block) == 1);
    e->ops->kv_write(e->kv_shape.type, layer + block * ax_kv_block_bytes(e->kv),
                     t->position % AX_KV_BLOCK_TOKENS, first, n, k, v,
                     e->kv_shape.head_dim);
}


void
ax_finish_commit(const struct ax_finish *f, const struct ax_stage *stage,
                 uint32_t mat)
{
    const struct ax_program *p = &f->e->program;
    ax_value out = p->mat_ops[mat].out;

    for (uint32_t i = 0; i < stage->n_finish; i++) {
        const struct ax_finish_op *finish = &p->finish_ops[stage->finish + i];
        if (finish->mat != mat || finish->kind != AX_ROW_KV_WRITE) {
            continue;
        }
        bool keys = finish->op->b == out;
        for (uint32_t r = 0; r < f->rows; r++) {
            const float *y = f->y + r * f->stride;
            ax_stage_kv_write(f->e, finish->op, r, f->row0, f->row1 - f->row0,
                              keys ? y : NULL, keys ? NULL : y);
        }
    }
}
