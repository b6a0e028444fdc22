/*
 * Ops that become the end of the matmuls whose results they read, so that the
 * threads need not meet between the two.
 *
 * Gate, up: activation(gate) * up, where both have the same rows, and its
 * quantization where blocks are no larger than a panel.  Q, K, V:
 * RMS norm of heads, RoPE, the KV write.  Those work on a head, or on a piece
 * of one: then the stage's units are as many panels as hold whole ones.  RoPE
 * of adjacent pairs and the KV write of heads of 32 n elements need no more
 * than a panel.
 *
 * Larger units can be shared out less evenly.  Where some thread would get
 * much more than its part, the op keeps a stage of its own.
 */
#include "engine/exec/compile.h"

#include <stdlib.h>


/* The largest share may be this much above the mean: 1/8. */
#define UNEVEN_PART 8u


/* How often ops of the plan behind `first` read the value. */
static uint32_t
reads(const struct ax_plan *plan, ax_value v, uint32_t first)
{
    uint32_t n = 0;

    for (uint32_t i = first; i < plan->n_ops; i++) {
        const struct ax_plan_op *op = &plan->ops[i];
        n += op->a == v || op->b == v || op->c == v;
    }
    return n;
}


bool
ax_join_gated(struct ax_compile *c, const struct ax_plan_op *op)
{
    struct ax_program *p = c->program;

    if (!ax_compile_current_is(c, AX_STAGE_MATMUL,
                               p->plan->values[op->out].selected)) {
        return false;
    }
    struct ax_stage *s = &p->stages[c->current];
    const struct ax_mat_op *gate = &p->mat_ops[s->first], *up = gate + 1;
    if (s->n != 2 || s->gated != NULL || s->n_finish > 0 ||
        gate->op->out != op->a || up->op->out != op->b ||
        p->plan->values[op->a].width != p->plan->values[op->b].width ||
        gate->op->accumulate || up->op->accumulate ||
        reads(p->plan, op->a, 0) != 1 || reads(p->plan, op->b, 0) != 1) {
        return false;
    }
    s->gated = op;
    ax_compile_wrote(c, op->out, c->current);
    return true;
}


bool
ax_join_quantize(struct ax_compile *c, ax_value x, enum axk_act kind)
{
    const struct ax_program *p = c->program;
    struct ax_stage *s = &p->stages[c->current];

    if (kind != AXK_ACT_Q8 ||
        !ax_compile_current_is(c, AX_STAGE_MATMUL,
                               p->plan->values[x].selected) ||
        s->gated == NULL || s->gated->out != x || s->quantized != AX_NONE) {
        return false;
    }
    s->quantized = p->n_acts;
    s->kept = reads(p->plan, x, 0) > 1;
    return true;
}


/* The matmul of the last stage whose rows are v; AX_NONE: there is none. */
static uint32_t
maker_of(const struct ax_compile *c, ax_value v)
{
    const struct ax_program *p = c->program;

    if (!ax_compile_current_is(c, AX_STAGE_MATMUL,
                               p->plan->values[v].selected)) {
        return AX_NONE;
    }
    const struct ax_stage *s = &p->stages[c->current];
    for (uint32_t i = s->first; i < s->first + s->n && s->gated == NULL; i++) {
        if (p->mat_ops[i].out == v && !p->mat_ops[i].op->accumulate) {
            return i;
        }
    }
    return AX_NONE;
}


static uint32_t
common_multiple(uint32_t a, uint32_t b)
{
    uint32_t m = a;

    while (m % b != 0) {
        m += a;
    }
    return m;
}


static uint32_t
units_of(const struct ax_program *p, const struct ax_mat_op *mat,
         uint32_t unit_panels)
{
    uint32_t rows = unit_panels * AXK_PANEL_ROWS;
    uint32_t n = p->plan->matrices[mat->op->matrix].n_rows;

    return n / rows + (n % rows != 0);
}


/* Panels of a unit if it also is to hold whole pieces of `rows` rows; 0: the
 * threads could not share them evenly. */
static uint32_t
unit_for(const struct ax_compile *c, uint32_t rows)
{
    const struct ax_program *p = c->program;
    const struct ax_stage *s = &p->stages[c->current];
    uint32_t unit =
        common_multiple(s->unit_panels * AXK_PANEL_ROWS, rows) / AXK_PANEL_ROWS;
    uint64_t n = 0, threads = c->n_threads;

    for (uint32_t i = s->first; i < s->first + s->n; i++) {
        n += units_of(p, &p->mat_ops[i], unit);
    }
    uint64_t largest = (n + threads - 1) / threads;
    bool even =
        (largest * threads - n) * UNEVEN_PART <= n || unit == s->unit_panels;
    return even ? unit : 0;
}


static void
add_finish_op(struct ax_compile *c, enum ax_row_kind kind,
              const struct ax_plan_op *op, uint32_t mat)
{
    struct ax_program *p = c->program;

    p->finish_ops[p->n_finish_ops++] = (struct ax_finish_op){
        .kind = kind,
        .op = op,
        .mat = mat,
    };
    p->stages[c->current].n_finish++;
}


bool
ax_join_heads(struct ax_compile *c, const struct ax_plan_op *op)
{
    struct ax_program *p = c->program;
    bool norm = op->kind == AX_OP_RMSNORM;
    uint32_t mat = maker_of(c, op->a);

    if (mat == AX_NONE || (norm && reads(p->plan, op->a, 0) != 1)) {
        return false;
    }
    /* Pairs never lie across panels: their rows are a multiple of two. */
    bool whole = norm || p->plan->ropes[op->rope].neox || op->head_dim % 2 != 0;
    uint32_t unit = unit_for(c, whole ? op->head_dim : AXK_PANEL_ROWS);
    if (unit == 0) {
        return false;
    }
    p->stages[c->current].unit_panels = unit;
    if (norm) {
        c->lives[op->a].used = false; /* never written: out is */
    }
    p->mat_ops[mat].out = op->out;
    add_finish_op(c, norm ? AX_ROW_RMSNORM : AX_ROW_ROPE, op, mat);
    ax_compile_wrote(c, op->out, c->current);
    return true;
}


bool
ax_join_kv_write(struct ax_compile *c, const struct ax_plan_op *op)
{
    struct ax_program *p = c->program;
    uint32_t k = maker_of(c, op->b), v = maker_of(c, op->c);
    uint32_t dim = op->attention.head_dim;

    if (k == AX_NONE || v == AX_NONE || k == v) {
        return false;
    }
    uint32_t unit =
        unit_for(c, dim % AXK_PANEL_ROWS == 0 ? AXK_PANEL_ROWS : dim);
    if (unit == 0) {
        return false;
    }
    uint32_t next = (uint32_t)(op - p->plan->ops) + 1;
    p->stages[c->current].unit_panels = unit;
    add_finish_op(c, AX_ROW_KV_WRITE, op, k);
    add_finish_op(c, AX_ROW_KV_WRITE, op, v);
    p->mat_ops[k].dropped = reads(p->plan, op->b, next) == 0;
    p->mat_ops[v].dropped = reads(p->plan, op->c, next) == 0;
    return true;
}


/*
 * Every share of the stage gets its part of each matrix: rows of K cost more
 * than rows of Q, as their way into the KV blocks is long.  The next unit is of
 * the matrix that is most behind its part.
 */
static uint32_t *
mix_units(struct ax_program *p, const struct ax_stage *s, uint32_t *before)
{
    struct ax_mat_op *mats = &p->mat_ops[s->first];
    size_t row = s->units + 1u;

    for (uint32_t m = 0; m < s->n; m++) {
        mats[m].before = before + m * row;
    }
    for (uint32_t x = 0; x < s->units; x++) {
        int64_t most = -1;
        uint32_t next = 0;
        for (uint32_t m = 0; m < s->n; m++) {
            uint32_t had = before[m * row + x];
            int64_t due =
                (int64_t)(x + 1) * mats[m].units - (int64_t)had * s->units;
            before[m * row + x + 1] = had;
            if (had < mats[m].units && due > most) {
                most = due;
                next = m;
            }
        }
        before[next * row + x + 1]++;
    }
    return before + s->n * row;
}


/* Of matrices behind one another; returns the room to mix them. */
static size_t
count_units(struct ax_program *p, struct ax_stage *s)
{
    for (uint32_t m = 0; m < s->n && s->kind == AX_STAGE_MATMUL; m++) {
        struct ax_mat_op *mat = &p->mat_ops[s->first + m];
        mat->units = units_of(p, mat, s->unit_panels);
        if (s->gated != NULL) {
            s->units = mat->units; /* pairs: both begin at 0 */
            continue;
        }
        mat->unit0 = s->units;
        s->units += mat->units;
    }
    return s->n_finish > 0 ? s->n * (s->units + (size_t)1) : 0;
}


int
ax_join_units(struct ax_compile *c)
{
    struct ax_program *p = c->program;
    size_t n = 0;

    for (uint32_t i = 0; i < p->n_stages; i++) {
        n += count_units(p, &p->stages[i]);
    }
    p->mixed = calloc(n + 1, sizeof(*p->mixed));
    if (p->mixed == NULL) {
        return ax_error_set(c->err, AXION_ERR_NO_MEMORY, "no memory");
    }
    uint32_t *room = p->mixed;
    for (uint32_t i = 0; i < p->n_stages; i++) {
        if (p->stages[i].n_finish > 0) {
            room = mix_units(p, &p->stages[i], room);
        }
    }
    return AXION_OK;
}
