/*
 * From a plan to a program; program.h says what comes out.
 *
 * One pass over the ops in order.  `version` counts the writes of a value, so
 * that a quantized activation is known to be of its present content;
 * `written` is the stage of the last write, which tells whether an op may
 * join a stage.  Lifetimes are collected on the way, memory is given out at
 * the end (memory.c).
 */
#include "engine/exec/compile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>


static struct ax_stage *
new_stage(struct ax_compile *c, enum ax_stage_kind kind, bool selected)
{
    struct ax_program *p = c->program;
    struct ax_stage *s = &p->stages[p->n_stages];

    *s = (struct ax_stage){
        .kind = kind,
        .layer = c->layer,
        .selected = selected,
        .prologue = AX_NONE,
        .quantized = AX_NONE,
        .layer_start = p->n_stages == 0 || c->layer > c->layer_begun,
    };
    c->layer_begun = c->layer;
    c->current = p->n_stages++;
    return s;
}


bool
ax_compile_current_is(const struct ax_compile *c, enum ax_stage_kind kind,
                      bool selected)
{
    const struct ax_program *p = c->program;

    return p->n_stages > 0 && p->stages[c->current].kind == kind &&
           p->stages[c->current].selected == selected;
}


void
ax_compile_touch(struct ax_compile *c, ax_value v, uint32_t stage)
{
    struct ax_lifetime *life = &c->lives[v];

    if (!life->used || stage < life->first) {
        life->first = stage;
    }
    if (!life->used || stage > life->last) {
        life->last = stage;
    }
    life->used = true;
}


void
ax_compile_wrote(struct ax_compile *c, ax_value v, uint32_t stage)
{
    ax_compile_touch(c, v, stage);
    c->version[v]++;
    c->written[v] = stage;
}


static void
add_row_op(struct ax_compile *c, uint32_t stage, enum ax_row_kind kind,
           const struct ax_plan_op *op, uint32_t act, ax_rope rope)
{
    struct ax_program *p = c->program;

    p->row_ops[p->n_row_ops++] = (struct ax_row_op){
        .kind = kind,
        .stage = stage,
        .op = op,
        .act = act,
        .rope = rope,
    };
}


/* The present stage if it is one of rows, else a new one. */
static uint32_t
rows_stage(struct ax_compile *c, bool selected)
{
    if (!ax_compile_current_is(c, AX_STAGE_ROWS, selected)) {
        new_stage(c, AX_STAGE_ROWS, selected);
    }
    return c->current;
}


static const enum ax_row_kind row_kinds[] = {
    [AX_OP_EMBED] = AX_ROW_EMBED,     [AX_OP_RMSNORM] = AX_ROW_RMSNORM,
    [AX_OP_ROPE] = AX_ROW_ROPE,       [AX_OP_GATED] = AX_ROW_GATED,
    [AX_OP_ADD] = AX_ROW_ADD,         [AX_OP_SCALE] = AX_ROW_SCALE,
    [AX_OP_SOFTCAP] = AX_ROW_SOFTCAP, [AX_OP_SELECT] = AX_ROW_SELECT,
    [AX_OP_ROUTE] = AX_ROW_ROUTE,     [AX_OP_COMBINE] = AX_ROW_COMBINE,
};


static void
compile_row_op(struct ax_compile *c, const struct ax_plan_op *op)
{
    if (op->kind == AX_OP_GATED && ax_join_gated(c, op)) {
        return;
    }
    if ((op->kind == AX_OP_RMSNORM || op->kind == AX_OP_ROPE) &&
        ax_join_heads(c, op)) {
        return;
    }
    const struct ax_plan *plan = c->program->plan;
    uint32_t stage = rows_stage(c, plan->values[op->out].selected);

    add_row_op(c, stage, row_kinds[op->kind], op, 0, op->rope);
    if (op->kind != AX_OP_EMBED) {
        ax_compile_touch(c, op->a, stage);
    }
    if (op->kind == AX_OP_GATED || op->kind == AX_OP_COMBINE) {
        ax_compile_touch(c, op->b, stage);
    }
    ax_compile_wrote(c, op->out, stage);
}


static void
compile_route(struct ax_compile *c, const struct ax_plan_op *op)
{
    bool selected = c->program->plan->values[op->out].selected;

    compile_row_op(c, op);
    new_stage(c, AX_STAGE_GROUP, selected)->experts = op;
    c->group = c->current;
    ax_compile_touch(c, op->out, c->current);
}


/* The quantized rows of x in the order of their experts. */
static uint32_t
find_routed_act(struct ax_compile *c, const struct ax_plan_op *op,
                ax_matrix matrix)
{
    struct ax_program *p = c->program;
    const struct ax_plan_matrix *m = &p->plan->matrices[matrix];
    enum axk_act kind = axk_format_traits(m->tensor->format)->act;

    for (uint32_t i = p->n_acts; i-- > 0;) {
        const struct ax_act *a = &p->acts[i];
        if (a->routed && a->value == op->a && a->kind == kind &&
            a->version == c->version[op->a] && a->ready > c->group) {
            return i;
        }
    }
    struct ax_stage *s =
        new_stage(c, AX_STAGE_GATHER, p->plan->values[op->a].selected);
    s->experts = op;
    s->group = c->group;
    s->act[0] = p->n_acts;
    ax_compile_touch(c, op->a, c->current);
    p->acts[p->n_acts] = (struct ax_act){
        .value = op->a,
        .version = c->version[op->a],
        .routed = true,
        .kind = kind,
        .k = m->k,
        .ready = c->current,
        .last = c->current,
    };
    return p->n_acts++;
}


static void
compile_experts(struct ax_compile *c, const struct ax_plan_op *op)
{
    struct ax_program *p = c->program;
    const struct ax_plan *plan = p->plan;
    uint32_t act = find_routed_act(c, op, op->matrix);
    uint32_t up_act = op->up == AX_NONE ? act : find_routed_act(c, op, op->up);
    struct ax_stage *s =
        new_stage(c, AX_STAGE_EXPERTS, plan->values[op->out].selected);

    s->experts = op;
    s->group = c->group;
    s->act[0] = act;
    s->act[1] = up_act;
    s->panels =
        plan->matrices[op->matrix].n_rows / plan->n_expert / AXK_PANEL_ROWS;
    p->acts[act].last = c->current;
    p->acts[up_act].last = c->current;
    if (op->up != AX_NONE) {
        ax_compile_wrote(c, op->c, c->current);
    }
    ax_compile_wrote(c, op->out, c->current);
}


/* The stage in which x can be quantized as early as it needs to be. */
static uint32_t
quantize_stage(struct ax_compile *c, ax_value x, bool selected)
{
    const struct ax_stage *stages = c->program->stages;

    if (ax_compile_current_is(c, AX_STAGE_MATMUL, selected) && c->current > 0 &&
        stages[c->current - 1].kind == AX_STAGE_ROWS &&
        stages[c->current - 1].selected == selected &&
        c->written[x] < c->current) {
        return c->current - 1;
    }
    return rows_stage(c, selected);
}


/* The quantized form of x, made now if there is none of its content. */
static uint32_t
find_act(struct ax_compile *c, ax_value x, enum axk_act kind)
{
    struct ax_program *p = c->program;

    for (uint32_t i = p->n_acts; i-- > 0;) {
        const struct ax_act *a = &p->acts[i];
        if (!a->routed && a->value == x && a->version == c->version[x] &&
            a->kind == kind) {
            return i;
        }
    }
    uint32_t stage = c->current;
    if (!ax_join_quantize(c, x, kind)) {
        stage = quantize_stage(c, x, p->plan->values[x].selected);
        add_row_op(c, stage, AX_ROW_QUANTIZE, NULL, p->n_acts, 0);
    }
    ax_compile_touch(c, x, stage);
    p->acts[p->n_acts] = (struct ax_act){
        .value = x,
        .version = c->version[x],
        .kind = kind,
        .k = p->plan->values[x].width,
        .ready = stage,
        .last = stage,
    };
    return p->n_acts++;
}


static void
compile_matmul(struct ax_compile *c, const struct ax_plan_op *op)
{
    struct ax_program *p = c->program;
    const struct ax_plan_matrix *m = &p->plan->matrices[op->matrix];
    bool selected = p->plan->values[op->out].selected;
    uint32_t act =
        find_act(c, op->a, axk_format_traits(m->tensor->format)->act);

    if (!ax_compile_current_is(c, AX_STAGE_MATMUL, selected) ||
        p->stages[c->current].gated != NULL ||
        p->acts[act].ready >= c->current ||
        (c->version[op->out] > 0 && c->written[op->out] == c->current)) {
        struct ax_stage *s = new_stage(c, AX_STAGE_MATMUL, selected);
        s->first = p->n_mat_ops;
        s->finish = p->n_finish_ops;
        s->unit_panels = 1;
    }
    p->mat_ops[p->n_mat_ops++] = (struct ax_mat_op){
        .op = op,
        .act = act,
        .out = op->out,
    };
    p->stages[c->current].n++;
    p->acts[act].last = c->current;
    ax_compile_wrote(c, op->out, c->current);
}


static int
window_index(struct ax_compile *c, uint32_t window, uint32_t *out)
{
    struct ax_program *p = c->program;

    for (*out = 0; *out < p->n_windows; (*out)++) {
        if (p->windows[*out] == window) {
            return AXION_OK;
        }
    }
    if (p->n_windows == AX_PROGRAM_WINDOWS_MAX) {
        return ax_error_set(c->err, AXION_ERR_MODEL_UNSUPPORTED,
                            "more than %u sizes of attention window",
                            AX_PROGRAM_WINDOWS_MAX);
    }
    p->windows[p->n_windows++] = window;
    return AXION_OK;
}


static int
compile_attention(struct ax_compile *c, const struct ax_plan_op *op)
{
    if (!ax_join_kv_write(c, op)) {
        uint32_t stage = rows_stage(c, false);
        add_row_op(c, stage, AX_ROW_KV_WRITE, op, 0, 0);
        ax_compile_touch(c, op->b, stage);
        ax_compile_touch(c, op->c, stage);
    }
    struct ax_stage *s = new_stage(c, AX_STAGE_ATTENTION, false);
    s->attention = op;
    ax_compile_touch(c, op->a, c->current);
    ax_compile_wrote(c, op->out, c->current);
    return window_index(c, op->attention.window, &s->window);
}


static int
compile_ops(struct ax_compile *c)
{
    const struct ax_plan *plan = c->program->plan;
    int rc = AXION_OK;

    uint32_t first = rows_stage(c, false);
    for (uint32_t i = 0; i < plan->n_ropes; i++) {
        add_row_op(c, first, AX_ROW_ROPE_TABLE, NULL, 0, i);
    }
    for (uint32_t i = 0; i < plan->n_ops && rc == AXION_OK; i++) {
        const struct ax_plan_op *op = &plan->ops[i];
        c->layer = op->layer;
        if (op->kind == AX_OP_MATMUL) {
            compile_matmul(c, op);
        } else if (op->kind == AX_OP_ATTENTION) {
            rc = compile_attention(c, op);
        } else if (op->kind == AX_OP_ROUTE) {
            compile_route(c, op);
        } else if (op->kind == AX_OP_EXPERTS) {
            compile_experts(c, op);
        } else {
            compile_row_op(c, op);
        }
    }
    return rc;
}


/* Row ops were added out of order where a quantization moved up. */
static int
sort_row_ops(struct ax_compile *c)
{
    struct ax_program *p = c->program;
    struct ax_row_op *sorted = calloc(p->n_row_ops + 1, sizeof(*sorted));
    uint32_t n = 0;

    if (sorted == NULL) {
        return ax_error_set(c->err, AXION_ERR_NO_MEMORY, "no memory");
    }
    for (uint32_t i = 0; i < p->n_row_ops; i++) {
        p->stages[p->row_ops[i].stage].n++;
    }
    for (uint32_t s = 0; s < p->n_stages; s++) {
        if (p->stages[s].kind == AX_STAGE_ROWS) {
            p->stages[s].first = n;
            n += p->stages[s].n;
            p->stages[s].n = 0;
        }
    }
    for (uint32_t i = 0; i < p->n_row_ops; i++) {
        struct ax_stage *s = &p->stages[p->row_ops[i].stage];
        sorted[s->first + s->n++] = p->row_ops[i];
    }
    free(p->row_ops);
    p->row_ops = sorted;
    return AXION_OK;
}


static size_t
aligned(size_t bytes)
{
    return (bytes + AX_ARENA_ALIGN - 1) & ~(size_t)(AX_ARENA_ALIGN - 1);
}


/* Bytes of a stage's results for a tile; 0: somebody else reads them. */
static size_t
prologue_bytes(const struct ax_compile *c, uint32_t s)
{
    const struct ax_program *p = c->program;
    const struct ax_stage *stage = &p->stages[s];
    size_t bytes = 0;

    for (uint32_t i = 0; i < stage->n; i++) {
        const struct ax_row_op *op = &p->row_ops[stage->first + i];
        if (op->kind == AX_ROW_QUANTIZE) {
            const struct ax_act *act = &p->acts[op->act];
            if (act->last != s + 1) {
                return 0;
            }
            bytes += aligned(axk_act_bytes(act->kind, AXK_TILE, act->k));
            continue;
        }
        if ((op->kind != AX_ROW_RMSNORM && op->kind != AX_ROW_GATED) ||
            c->lives[op->op->out].first != s ||
            c->lives[op->op->out].last != s) {
            return 0;
        }
        bytes += AXK_TILE *
                 aligned(p->plan->values[op->op->out].width * sizeof(float));
    }
    return bytes;
}


/* What a stage reads that was there before it lives one stage longer. */
static void
keep_input(struct ax_compile *c, ax_value v, uint32_t s)
{
    if (c->lives[v].first < s) {
        ax_compile_touch(c, v, s + 1);
    }
}


/*
 * Ahead of ax_program_place(): a prologue is done while other threads write
 * the results of the matmul behind it, so those must not go where it reads.
 */
static void
keep_prologue_inputs(struct ax_compile *c)
{
    const struct ax_program *p = c->program;

    for (uint32_t i = 0; i < p->n_row_ops; i++) {
        const struct ax_row_op *op = &p->row_ops[i];
        uint32_t s = op->stage;
        if (s + 1 == p->n_stages || p->stages[s + 1].kind != AX_STAGE_MATMUL) {
            continue;
        }
        if (op->kind == AX_ROW_QUANTIZE) {
            keep_input(c, p->acts[op->act].value, s);
        }
        if (op->kind == AX_ROW_RMSNORM || op->kind == AX_ROW_GATED) {
            keep_input(c, op->op->a, s);
        }
        if (op->kind == AX_ROW_GATED) {
            keep_input(c, op->op->b, s);
        }
    }
}


/* Behind ax_program_place(), which knows the strides. */
static void
find_prologues(struct ax_compile *c)
{
    struct ax_program *p = c->program;

    for (uint32_t s = 0; s + 1 < p->n_stages; s++) {
        struct ax_stage *next = &p->stages[s + 1];
        if (p->stages[s].kind != AX_STAGE_ROWS ||
            next->kind != AX_STAGE_MATMUL || next->layer_start ||
            next->selected != p->stages[s].selected) {
            continue;
        }
        size_t bytes = prologue_bytes(c, s);
        if (bytes > 0) {
            next->prologue = s;
        }
        if (bytes > p->prologue_bytes) {
            p->prologue_bytes = bytes;
        }
    }
}


static const char *const row_names[] = {
    [AX_ROW_ROPE_TABLE] = "rope_table",
    [AX_ROW_EMBED] = "embed",
    [AX_ROW_SELECT] = "select",
    [AX_ROW_RMSNORM] = "rmsnorm",
    [AX_ROW_ROPE] = "rope",
    [AX_ROW_KV_WRITE] = "kv_write",
    [AX_ROW_GATED] = "gated",
    [AX_ROW_ADD] = "add",
    [AX_ROW_SCALE] = "scale",
    [AX_ROW_SOFTCAP] = "softcap",
    [AX_ROW_ROUTE] = "route",
    [AX_ROW_COMBINE] = "combine",
    [AX_ROW_QUANTIZE] = "quantize",
};


/* "attn_q" from "blk.3.attn_q.weight" */
static void
append_tensor_name(char *out, const char *tensor)
{
    size_t used = strlen(out);

    if (strncmp(tensor, "blk.", 4) == 0) {
        const char *dot = strchr(tensor + 4, '.');
        tensor = dot != NULL ? dot + 1 : tensor;
    }
    const char *end = strchr(tensor, '.');
    int n = end != NULL ? (int)(end - tensor) : (int)strlen(tensor);
    snprintf(out + used, AX_COUNTER_NAME - used, "%s%.*s", used == 0 ? "" : "+",
             n, tensor);
}


static void
append_row_name(char *out, enum ax_row_kind kind)
{
    size_t used = strlen(out);

    snprintf(out + used, AX_COUNTER_NAME - used, "%s%s", used == 0 ? "" : "+",
             row_names[kind]);
}


static void
name_experts(const struct ax_plan *plan, const struct ax_plan_op *op, char *out)
{
    append_tensor_name(out, plan->matrices[op->matrix].tensor->name);
    if (op->up != AX_NONE) {
        append_tensor_name(out, plan->matrices[op->up].tensor->name);
        append_row_name(out, AX_ROW_GATED);
    }
}


static void
name_stage(const struct ax_program *p, const struct ax_stage *s, char *out)
{
    out[0] = '\0';
    if (s->kind == AX_STAGE_ATTENTION) {
        snprintf(out, AX_COUNTER_NAME, "attention");
    }
    for (uint32_t i = 0; i < s->n && s->kind == AX_STAGE_MATMUL; i++) {
        const struct ax_plan_op *op = p->mat_ops[s->first + i].op;
        append_tensor_name(out, p->plan->matrices[op->matrix].tensor->name);
    }
    if (s->kind == AX_STAGE_GROUP || s->kind == AX_STAGE_GATHER) {
        snprintf(out, AX_COUNTER_NAME,
                 s->kind == AX_STAGE_GROUP ? "group" : "gather+quantize");
    }
    if (s->kind == AX_STAGE_EXPERTS) {
        name_experts(p->plan, s->experts, out);
    }
    if (s->gated != NULL) {
        append_row_name(out, AX_ROW_GATED);
    }
    if (s->quantized != AX_NONE) {
        append_row_name(out, AX_ROW_QUANTIZE);
    }
    for (uint32_t i = 0; i < s->n && s->kind == AX_STAGE_ROWS; i++) {
        append_row_name(out, p->row_ops[s->first + i].kind);
    }
    /* The same op on Q and on K is one word. */
    const struct ax_finish_op *finish = &p->finish_ops[s->finish];
    for (uint32_t i = 0; i < s->n_finish; i++) {
        if (i == 0 || finish[i].kind != finish[i - 1].kind) {
            append_row_name(out, finish[i].kind);
        }
    }
}


/* Stages of the same name share a counter. */
static void
name_counters(struct ax_program *p)
{
    for (uint32_t s = 0; s < p->n_stages; s++) {
        char name[AX_COUNTER_NAME];
        uint32_t i = 0;
        name_stage(p, &p->stages[s], name);
        while (i < p->n_counters && strcmp(p->counters[i], name) != 0) {
            i++;
        }
        if (i == p->n_counters) {
            memcpy(p->counters[p->n_counters++], name, sizeof(name));
        }
        p->stages[s].counter = i;
    }
}


static int
allocate(struct ax_compile *c)
{
    struct ax_program *p = c->program;
    const struct ax_plan *plan = p->plan;
    size_t n = plan->n_ops + 4u;

    /* An op adds at most three stages, a row op, two quantizations. */
    p->stages = calloc(3 * n, sizeof(*p->stages));
    p->counters = calloc(3 * n, sizeof(*p->counters));
    p->row_ops = calloc(2 * n + plan->n_ropes, sizeof(*p->row_ops));
    p->mat_ops = calloc(n, sizeof(*p->mat_ops));
    p->finish_ops = calloc(2 * n, sizeof(*p->finish_ops));
    p->acts = calloc(2 * n, sizeof(*p->acts));
    p->buffers = calloc(plan->n_values + 1, sizeof(*p->buffers));
    p->strides = calloc(plan->n_values + 1, sizeof(*p->strides));
    p->rope_tables = calloc(plan->n_ropes + 1, sizeof(*p->rope_tables));
    c->version = calloc(plan->n_values + 1, sizeof(*c->version));
    c->written = calloc(plan->n_values + 1, sizeof(*c->written));
    c->lives = calloc(plan->n_values + 1, sizeof(*c->lives));
    if (p->stages == NULL || p->counters == NULL || p->row_ops == NULL ||
        p->mat_ops == NULL || p->finish_ops == NULL || p->acts == NULL ||
        p->buffers == NULL || p->strides == NULL || p->rope_tables == NULL ||
        c->version == NULL || c->written == NULL || c->lives == NULL) {
        return ax_error_set(c->err, AXION_ERR_NO_MEMORY, "no memory");
    }
    return AXION_OK;
}


int
ax_program_compile(struct ax_program *p, const struct ax_plan *plan,
                   uint32_t n_threads, uint32_t rows_max, uint32_t selected_max,
                   struct ax_error *err)
{
    struct ax_compile c = {.program = p, .err = err, .n_threads = n_threads};

    *p = (struct ax_program){
        .plan = plan,
        .rows_max = rows_max,
        .selected_max = selected_max,
    };
    int rc = allocate(&c);
    if (rc == AXION_OK) {
        rc = compile_ops(&c);
    }
    if (rc == AXION_OK) {
        rc = sort_row_ops(&c);
    }
    if (rc == AXION_OK) {
        rc = ax_join_units(&c);
    }
    if (rc == AXION_OK) {
        name_counters(p);
        keep_prologue_inputs(&c);
        rc = ax_program_place(&c);
    }
    if (rc == AXION_OK) {
        find_prologues(&c);
    }
    free(c.version);
    free(c.written);
    free(c.lives);
    if (rc != AXION_OK) {
        ax_program_free(p);
    }
    return rc;
}


void
ax_program_free(struct ax_program *p)
{
    ax_arena_close(&p->arena);
    free(p->rope_tables);
    free(p->strides);
    free(p->buffers);
    free(p->acts);
    free(p->mixed);
    free(p->finish_ops);
    free(p->mat_ops);
    free(p->row_ops);
    free(p->counters);
    free(p->stages);
    *p = (struct ax_program){0};
}
