/*
 * Steps that follow the packing of weights (engine/model/packing.h): what a
 * stage must wait for, and the wait.  Only until all is packed.
 */
#include "engine/exec/internal.h"


static void
need(struct ax_exec *e, uint32_t stage, ax_matrix m)
{
    ax_packed n = m == AX_NONE ? 0 : ax_packing_needs(e->packing, m);

    e->needs[stage] = n > e->needs[stage] ? n : e->needs[stage];
}


static void
need_all(struct ax_exec *e, uint32_t s)
{
    const struct ax_program *p = &e->program;
    const struct ax_stage *stage = &p->stages[s];

    if (stage->kind == AX_STAGE_ROWS) {
        for (uint32_t i = 0; i < stage->n; i++) {
            const struct ax_row_op *op = &p->row_ops[stage->first + i];
            if (op->kind == AX_ROW_EMBED) {
                need(e, s, op->op->matrix);
            }
        }
    } else if (stage->kind == AX_STAGE_MATMUL) {
        for (uint32_t i = 0; i < stage->n; i++) {
            need(e, s, p->mat_ops[stage->first + i].op->matrix);
        }
    } else if (stage->kind == AX_STAGE_EXPERTS) {
        need(e, s, stage->experts->matrix);
        need(e, s, stage->experts->up);
    }
}


/* Never falling: a thread may do the stage before as this one's prologue. */
void
ax_follow_open(struct ax_exec *e)
{
    for (uint32_t s = 0; s < e->program.n_stages; s++) {
        e->needs[s] = s > 0 ? e->needs[s - 1] : 0;
        need_all(e, s);
    }
}


struct asking {
    const struct ax_step *step;
    uint32_t layer;
};


static int
ask(void *context)
{
    const struct asking *a = context;

    return a->step->at_layer(a->step->context, a->layer);
}


int
ax_follow(struct ax_exec *e, const struct ax_stage *stage)
{
    struct asking a = {e->step, stage->layer};
    ax_packed needs = e->needs[stage - e->program.stages];

    if (ax_packing_reached(e->packing, needs)) {
        return AXION_OK;
    }
    uint64_t start_ns = ax_pool_clock_ns();
    int rc = ax_packing_wait(e->packing, needs,
                             e->step->at_layer != NULL ? ask : NULL, &a);
    e->waited_ns += ax_pool_clock_ns() - start_ns;
    return rc;
}


uint64_t
ax_exec_waited_ns(const struct ax_exec *e)
{
    return e->waited_ns;
}
