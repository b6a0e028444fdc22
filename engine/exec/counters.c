/*
 * What each stage of each layer has cost so far: time, bytes, operations.
 *
 * Only an executor opened with counters has them: thread 0 then reads the
 * clock at the end of every phase, 25 ns each, and the sums are made here
 * behind the step.  Where the pool's threads do a stage's prologue themselves,
 * its time is the matmul's.
 */
#include "engine/exec/internal.h"


void
ax_counters_name(struct ax_exec *e)
{
    const struct ax_program *p = &e->program;

    for (uint32_t s = 0; s < p->n_stages; s++) {
        e->counters[s].name = p->counters[p->stages[s].counter];
        e->counters[s].layer = p->stages[s].layer;
        e->counters[s].floats = p->stages[s].kind == AX_STAGE_ATTENTION;
    }
}


static void
count_matmul(const struct ax_exec *e, const struct ax_stage *stage,
             struct ax_exec_counter *c)
{
    uint64_t rows = ax_stage_rows(e, stage);

    for (uint32_t i = 0; i < stage->n && rows > 0; i++) {
        const struct ax_plan_op *op = e->program.mat_ops[stage->first + i].op;
        const struct ax_plan_matrix *m = &e->plan->matrices[op->matrix];
        c->bytes += ax_plan_matrix_bytes(m);
        c->operations += 2 * rows * m->n_rows * m->k;
        c->floats |= axk_format_traits(m->tensor->format)->act == AXK_ACT_F32;
    }
}


/* Matrices of the experts that had rows. */
static void
count_experts(const struct ax_exec *e, const struct ax_stage *stage,
              struct ax_exec_counter *c)
{
    const struct ax_plan *plan = e->plan;
    uint64_t groups = e->routing.stage_groups[stage->group];
    uint64_t pairs = (uint64_t)ax_stage_rows(e, stage) * plan->n_expert_used;
    ax_matrix matrices[2] = {stage->experts->matrix, stage->experts->up};

    for (uint32_t i = 0; i < 2 && matrices[i] != AX_NONE; i++) {
        const struct ax_plan_matrix *m = &plan->matrices[matrices[i]];
        c->bytes += ax_plan_matrix_bytes(m) / plan->n_expert * groups;
        c->operations += 2 * pairs * (m->n_rows / plan->n_expert) * m->k;
        c->floats |= axk_format_traits(m->tensor->format)->act == AXK_ACT_F32;
    }
}


/* Keys from the first that any query sees to the last, once for a segment. */
static void
count_attention(const struct ax_exec *e, const struct ax_stage *stage,
                struct ax_exec_counter *c)
{
    const struct ax_plan_attention *a = &stage->attention->attention;
    uint64_t block = axk_kv_block_bytes(e->kv_shape.type, e->kv_shape.n_head_kv,
                                        e->kv_shape.head_dim);
    uint64_t keys = 0, pairs = 0;

    for (uint32_t i = 0; i < e->n_segments; i++) {
        const struct ax_segment *s = &e->segments[i];
        uint32_t end = s->pos0 + s->n;
        for (uint32_t pos = s->pos0; pos < end; pos++) {
            uint32_t seen = pos + 1;
            pairs += a->window != 0 && seen > a->window ? a->window : seen;
        }
        uint32_t hidden = a->window != 0 && s->pos0 + 1 > a->window
                              ? s->pos0 + 1 - a->window
                              : 0;
        keys += end - hidden;
    }
    c->bytes += keys * block / AXK_KV_TOKENS;
    c->operations += 4 * pairs * a->n_head * a->head_dim;
}


void
ax_counters_count(struct ax_exec *e, uint32_t n_phases, uint64_t start_ns)
{
    for (uint32_t i = 0; i < n_phases && !e->uncounted; i++) {
        uint32_t s = e->phase_stage[i];
        const struct ax_stage *stage = &e->program.stages[s];
        struct ax_exec_counter *c = &e->counters[s];
        if (e->units[i] != AX_POOL_GATE) {
            c->calls++;
            c->ns += e->end_ns[i] - start_ns;
            if (stage->kind == AX_STAGE_MATMUL) {
                count_matmul(e, stage, c);
            } else if (stage->kind == AX_STAGE_ATTENTION) {
                count_attention(e, stage, c);
            } else if (stage->kind == AX_STAGE_EXPERTS) {
                count_experts(e, stage, c);
            }
        }
        start_ns = e->end_ns[i];
    }
}


uint32_t
ax_exec_counters(const struct ax_exec *e)
{
    return e->end_ns != NULL ? e->program.n_stages : 0;
}


struct ax_exec_counter
ax_exec_counter(const struct ax_exec *e, uint32_t i)
{
    return e->counters[i];
}


void
ax_exec_counters_enable(struct ax_exec *e, bool enable)
{
    e->uncounted = !enable;
}


struct ax_exec_times
ax_exec_times(const struct ax_exec *e)
{
    struct ax_exec_times times = {0};

    for (uint32_t s = 0; s < e->program.n_stages; s++) {
        switch (e->program.stages[s].kind) {
        case AX_STAGE_MATMUL:
        case AX_STAGE_EXPERTS:
            times.matmul_ns += e->counters[s].ns;
            break;
        case AX_STAGE_ATTENTION:
            times.attention_ns += e->counters[s].ns;
            break;
        default:
            times.rows_ns += e->counters[s].ns;
            break;
        }
    }
    return times;
}
