/*
 * The work of a stage, on any thread: rows by tiles, matrices by panels,
 * attention by items.
 */
#include "engine/exec/internal.h"

#include <assert.h>


static inline float *
row(const struct ax_rows *s, ax_value v, uint32_t r)
{
    return s->buffers[v] + r * s->e->program.strides[v];
}


static void
run_embed(const struct ax_rows *s, const struct ax_plan_op *op)
{
    const struct ax_exec *e = s->e;
    const struct ax_plan_matrix *m = &e->plan->matrices[op->matrix];

    for (uint32_t r = s->r0; r < s->r1; r++) {
        float *out = row(s, op->out, r);
        axk_unpack_row(m->tensor->format, m->packed, m->n_rows, m->k,
                       (uint32_t)e->step->tokens[r].token, out);
        if (op->scale != 1.0f) {
            e->ops->scale(out, out, op->scale, m->k);
        }
    }
}


static void
run_select(const struct ax_rows *s, const struct ax_plan_op *op)
{
    const struct ax_exec *e = s->e;
    uint32_t width = e->plan->values[op->out].width;

    for (uint32_t r = s->r0; r < s->r1; r++) {
        e->ops->scale(row(s, op->out, r), row(s, op->a, e->selected[r]), 1.0f,
                      width);
    }
}


static void
run_rmsnorm(const struct ax_rows *s, const struct ax_plan_op *op)
{
    const struct ax_exec *e = s->e;
    const float *weight =
        op->vector == AX_NONE ? NULL : e->plan->vectors[op->vector].data;
    uint32_t heads = e->plan->values[op->out].width / op->head_dim;

    if (heads == 1) {
        e->ops->rmsnorm(row(s, op->out, s->r0), e->program.strides[op->out],
                        row(s, op->a, s->r0), e->program.strides[op->a],
                        s->r1 - s->r0, op->head_dim, weight, op->scale);
        return;
    }
    for (uint32_t r = s->r0; r < s->r1; r++) {
        e->ops->rmsnorm(row(s, op->out, r), op->head_dim, row(s, op->a, r),
                        op->head_dim, heads, op->head_dim, weight, op->scale);
    }
}


static void
run_rope(const struct ax_rows *s, const struct ax_plan_op *op)
{
    const struct ax_exec *e = s->e;
    const struct ax_plan_rope *config = &e->plan->ropes[op->rope];
    struct axk_rope a = {
        .x = s->buffers[op->out],
        .x_stride = e->program.strides[op->out],
        .n = e->plan->values[op->out].width,
        .head_dim = op->head_dim,
        .n_rot = config->n_rot,
        .neox = config->neox,
        .table = e->program.rope_tables[op->rope],
    };

    e->ops->rope(&a, s->r0, s->r1);
}


static void
run_rope_table(const struct ax_rows *s, ax_rope rope)
{
    const struct ax_exec *e = s->e;
    const struct ax_plan_rope *config = &e->plan->ropes[rope];

    axk_rope_table(config->inv_freq, config->n_rot, 1.0, e->positions + s->r0,
                   s->r1 - s->r0,
                   e->program.rope_tables[rope] +
                       (size_t)s->r0 * config->n_rot);
}


static void
run_kv_write(const struct ax_rows *s, const struct ax_plan_op *op)
{
    uint32_t n = s->e->plan->values[op->b].width;

    for (uint32_t r = s->r0; r < s->r1; r++) {
        ax_stage_kv_write(s->e, op, r, 0, n, row(s, op->b, r),
                          row(s, op->c, r));
    }
}


void
ax_stage_gated(const struct ax_exec *e, const struct ax_plan_op *op,
               uint32_t rows, uint32_t n, float *out, size_t out_stride,
               const float *gate, size_t gate_stride, const float *up,
               size_t up_stride)
{
    (op->activation == AX_SILU ? e->ops->silu_mul : e->ops->gelu_mul)(
        out, out_stride, gate, gate_stride, up, up_stride, rows, n);
}


static void
run_gated(const struct ax_rows *s, const struct ax_plan_op *op)
{
    const struct ax_exec *e = s->e;
    const size_t *strides = e->program.strides;

    ax_stage_gated(e, op, s->r1 - s->r0, e->plan->values[op->out].width,
                   row(s, op->out, s->r0), strides[op->out],
                   row(s, op->a, s->r0), strides[op->a], row(s, op->b, s->r0),
                   strides[op->b]);
}


static void
run_elementwise(const struct ax_rows *s, const struct ax_row_op *row_op)
{
    const struct ax_exec *e = s->e;
    const struct ax_plan_op *op = row_op->op;
    uint32_t n = e->plan->values[op->out].width;

    for (uint32_t r = s->r0; r < s->r1; r++) {
        float *out = row(s, op->out, r);
        const float *in = row(s, op->a, r);
        switch (row_op->kind) {
        case AX_ROW_ADD:
            e->ops->add(out, out, in, n);
            break;
        case AX_ROW_SCALE:
            e->ops->scale(out, in, op->scale, n);
            break;
        default:
            e->ops->softcap(out, in, op->scale, n);
            break;
        }
    }
}


static void
run_route(const struct ax_rows *s, const struct ax_plan_op *op)
{
    for (uint32_t r = s->r0; r < s->r1; r++) {
        ax_experts_route(s->e, row(s, op->a, r), row(s, op->out, r));
    }
}


static void
run_combine(const struct ax_rows *s, const struct ax_plan_op *op)
{
    for (uint32_t r = s->r0; r < s->r1; r++) {
        ax_experts_combine(s->e, op, r, row(s, op->b, r), row(s, op->out, r));
    }
}


static void
run_quantize(const struct ax_rows *s, uint32_t act)
{
    const struct ax_exec *e = s->e;
    const struct ax_act *a = &e->program.acts[act];

    e->ops->quantize(a->kind, s->buffers[a->value],
                     e->program.strides[a->value], s->n, a->k, s->r0 / AXK_TILE,
                     axk_act_tiles(s->r1),
                     s->acts != NULL ? s->acts[act] : a->data);
}


void
ax_stage_quantize(const struct ax_exec *e, const struct ax_stage *stage,
                  uint32_t rows, uint32_t row0, uint32_t row1, const float *x,
                  size_t x_stride)
{
    if (stage->quantized != AX_NONE) {
        const struct ax_act *a = &e->program.acts[stage->quantized];
        e->ops->quantize_part(x, x_stride, rows, a->k, row0, row1, a->data);
    }
}


static void
run_row_op(const struct ax_rows *s, const struct ax_row_op *op)
{
    switch (op->kind) {
    case AX_ROW_ROPE_TABLE:
        run_rope_table(s, op->rope);
        break;
    case AX_ROW_EMBED:
        run_embed(s, op->op);
        break;
    case AX_ROW_SELECT:
        run_select(s, op->op);
        break;
    case AX_ROW_RMSNORM:
        run_rmsnorm(s, op->op);
        break;
    case AX_ROW_ROPE:
        run_rope(s, op->op);
        break;
    case AX_ROW_KV_WRITE:
        run_kv_write(s, op->op);
        break;
    case AX_ROW_GATED:
        run_gated(s, op->op);
        break;
    case AX_ROW_ROUTE:
        run_route(s, op->op);
        break;
    case AX_ROW_COMBINE:
        run_combine(s, op->op);
        break;
    case AX_ROW_QUANTIZE:
        run_quantize(s, op->act);
        break;
    case AX_ROW_ADD:
    case AX_ROW_SCALE:
    case AX_ROW_SOFTCAP:
        run_elementwise(s, op);
        break;
    }
}


void
ax_stage_rows_run(const struct ax_rows *s, const struct ax_stage *stage)
{
    const struct ax_row_op *ops = &s->e->program.row_ops[stage->first];

    for (uint32_t i = 0; i < stage->n; i++) {
        run_row_op(s, &ops[i]);
    }
}


static void
run_rows(struct ax_exec *e, const struct ax_stage *stage, uint32_t begin,
         uint32_t end)
{
    struct ax_rows s = {
        .e = e,
        .n = ax_stage_rows(e, stage),
        .buffers = e->program.buffers,
    };

    for (uint32_t tile = begin; tile < end; tile++) {
        s.r0 = tile * AXK_TILE;
        s.r1 = s.n - s.r0 < AXK_TILE ? s.n : s.r0 + AXK_TILE;
        ax_stage_rows_run(&s, stage);
    }
}


struct axk_matmul
ax_stage_matmul(const struct ax_exec *e, const struct ax_mat_op *mat,
                uint32_t rows)
{
    const struct ax_plan_op *op = mat->op;
    const struct ax_plan_matrix *m = &e->plan->matrices[op->matrix];

    return (struct axk_matmul){
        .format = m->tensor->format,
        .n_rows = m->n_rows,
        .k = m->k,
        .n_tokens = rows,
        .w = m->packed,
        .act = e->program.acts[mat->act].data,
        .y = e->program.buffers[mat->out],
        .y_stride = e->program.strides[mat->out],
        .bias =
            op->vector == AX_NONE ? NULL : e->plan->vectors[op->vector].data,
        .accumulate = op->accumulate,
    };
}


bool
ax_stage_part(const struct ax_exec *e, const struct ax_stage *stage,
              const struct ax_mat_op *mat, uint32_t rows, uint32_t begin,
              uint32_t end, uint32_t *row0, uint32_t *row1)
{
    uint32_t n_rows = e->plan->matrices[mat->op->matrix].n_rows;
    uint32_t unit = stage->unit_panels * AXK_PANEL_ROWS;
    uint32_t lo = begin > mat->unit0 ? begin : mat->unit0;
    uint32_t hi = mat->unit0 + mat->units;

    hi = end < hi ? end : hi;
    /* Of a few rows K costs no more than Q, and what a piece reads should be
     * few long runs. */
    if (mat->before != NULL && rows > AXK_TILE) {
        lo = mat->unit0 + mat->before[begin];
        hi = mat->unit0 + mat->before[end < stage->units ? end : stage->units];
    }
    if (lo >= hi) {
        return false;
    }
    *row0 = (lo - mat->unit0) * unit;
    *row1 = (hi - mat->unit0) * unit;
    *row1 = *row1 < n_rows ? *row1 : n_rows;
    return true;
}


static void
run_matmul(struct ax_exec *e, const struct ax_stage *stage, uint32_t begin,
           uint32_t end)
{
    uint32_t rows = ax_stage_rows(e, stage);
    uint32_t row0 = 0, row1 = 0;

    for (uint32_t i = 0; i < stage->n; i++) {
        const struct ax_mat_op *mat = &e->program.mat_ops[stage->first + i];
        if (!ax_stage_part(e, stage, mat, rows, begin, end, &row0, &row1)) {
            continue;
        }
        struct axk_matmul a = ax_stage_matmul(e, mat, rows);
        ax_finish_fetch(e, stage, stage->first + i, row0, row1, e->n_written);
        e->ops->matmul(&a, row0, row1);
        struct ax_finish f = {e, rows, row0, row1, a.y + row0, a.y_stride};
        ax_finish_compute(&f, stage, stage->first + i);
        ax_finish_commit(&f, stage, stage->first + i);
    }
    if (stage->gated != NULL && rows > 0) {
        const struct ax_plan_op *op = stage->gated;
        float *const *buffers = e->program.buffers;
        const size_t *strides = e->program.strides;
        float *out = buffers[op->out] + row0;
        ax_stage_gated(e, op, rows, row1 - row0, out, strides[op->out],
                       buffers[op->a] + row0, strides[op->a],
                       buffers[op->b] + row0, strides[op->b]);
        ax_stage_quantize(e, stage, rows, row0, row1, out, strides[op->out]);
    }
}


/* Units of a piece. */
void
ax_exec_work(void *context, const struct ax_pool_piece *piece)
{
    struct ax_exec *e = context;
    const struct ax_stage *stage =
        &e->program.stages[e->phase_stage[piece->phase]];
    uint32_t scale = e->scale[piece->phase];
    uint32_t begin = piece->begin * scale;
    uint32_t end = piece->end * scale;

    switch (stage->kind) {
    case AX_STAGE_ROWS:
        run_rows(e, stage, begin, end);
        break;
    case AX_STAGE_MATMUL:
        run_matmul(e, stage, begin, end);
        break;
    case AX_STAGE_ATTENTION:
        ax_attention_run(e, stage, begin, end);
        break;
    case AX_STAGE_GATHER:
        ax_experts_gather(e, stage, begin, end, piece->thread);
        break;
    case AX_STAGE_EXPERTS:
        ax_experts_matmul(e, stage, begin, end);
        break;
    case AX_STAGE_GROUP:
        assert(!"a gate");
    }
}
