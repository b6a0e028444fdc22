/*
 * Building a plan; plan.h has the rules.  Every op checks the widths that it
 * joins, so that a family that wires a tensor wrongly, or a file whose shapes
 * do not fit together, is an error here and never an overrun later.
 */
#include "engine/model/plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


void
ax_plan_free(struct ax_plan *p)
{
    for (uint32_t i = 0; i < p->n_ropes; i++) {
        free(p->ropes[i].inv_freq);
    }
    free(p->ropes);
    free(p->vectors);
    free(p->matrices);
    free(p->values);
    free(p->ops);
    *p = (struct ax_plan){0};
}


size_t
ax_plan_matrix_bytes(const struct ax_plan_matrix *m)
{
    enum axk_status status;

    return axk_packed_bytes(m->tensor->format, m->n_rows, m->k, &status);
}


int
ax_plan_error(const struct ax_plan *p)
{
    return p->err.number;
}


void
ax_plan_fail(struct ax_plan *p, int number, const char *fmt, ...)
{
    if (p->err.number != AXION_OK) {
        return;
    }
    va_list args;
    va_start(args, fmt);
    vsnprintf(p->err.text, sizeof(p->err.text), fmt, args);
    va_end(args);
    p->err.number = number;
}


/* Room for one more in one of the tables; NULL after an error. */
static void *
grow(struct ax_plan *p, void *table, uint32_t n, uint32_t *room, size_t size)
{
    if (p->err.number != AXION_OK) {
        return NULL;
    }
    if (n < *room) {
        return table;
    }
    uint32_t more = *room == 0 ? 64 : *room * 2;
    void *bigger = realloc(table, more * size);
    if (bigger == NULL) {
        ax_plan_fail(p, AXION_ERR_NO_MEMORY, "no memory for the plan");
        return NULL;
    }
    *room = more;
    return bigger;
}


#define GROW(p, name)                                                          \
    grow(p, (p)->name, (p)->n_##name, &(p)->name##_room, sizeof(*(p)->name))


static ax_value
add_value(struct ax_plan *p, uint32_t width, bool selected)
{
    void *table = GROW(p, values);

    if (table == NULL) {
        return 0;
    }
    p->values = table;
    p->values[p->n_values] = (struct ax_plan_value){
        .width = width,
        .selected = selected,
    };
    return p->n_values++;
}


static void
add_op(struct ax_plan *p, const struct ax_plan_op *op)
{
    void *table = GROW(p, ops);

    if (table == NULL) {
        return;
    }
    p->ops = table;
    p->ops[p->n_ops] = *op;
    p->ops[p->n_ops++].layer = p->layer;
}


ax_matrix
ax_plan_matrix(struct ax_plan *p, const struct ax_gguf_tensor *t)
{
    for (uint32_t i = 0; i < p->n_matrices; i++) {
        if (p->matrices[i].tensor == t) {
            return i;
        }
    }
    void *table = GROW(p, matrices);
    if (table == NULL) {
        return AX_NONE;
    }
    p->matrices = table;
    p->matrices[p->n_matrices] = (struct ax_plan_matrix){
        .tensor = t,
        .n_rows = (uint32_t)(t->ne[1] * t->ne[2]),
        .k = (uint32_t)t->ne[0],
    };
    return p->n_matrices++;
}


ax_vector
ax_plan_vector(struct ax_plan *p, const struct ax_gguf_tensor *t)
{
    for (uint32_t i = 0; i < p->n_vectors; i++) {
        if (p->vectors[i].tensor == t) {
            return i;
        }
    }
    void *table = GROW(p, vectors);
    if (table == NULL) {
        return AX_NONE;
    }
    p->vectors = table;
    p->vectors[p->n_vectors] = (struct ax_plan_vector){
        .tensor = t,
        .n = (uint32_t)t->ne[0],
    };
    return p->n_vectors++;
}


ax_rope
ax_plan_rope_config(struct ax_plan *p, uint32_t n_rot, bool neox, double base,
                    double freq_scale, ax_vector factors)
{
    void *table = GROW(p, ropes);

    if (table == NULL) {
        return 0;
    }
    p->ropes = table;
    p->ropes[p->n_ropes] = (struct ax_plan_rope){
        .n_rot = n_rot,
        .neox = neox,
        .base = base,
        .freq_scale = freq_scale,
        .factors = factors,
    };
    return p->n_ropes++;
}


void
ax_plan_layer(struct ax_plan *p, uint32_t layer)
{
    p->layer = layer;
    p->n_layer = layer + 1;
}


/* False, with the error kept, when a width is not what an op needs. */
static bool
widths_equal(struct ax_plan *p, const char *op, uint64_t found,
             uint64_t expected)
{
    if (p->err.number != AXION_OK) {
        return false;
    }
    if (found != expected) {
        ax_plan_fail(p, AXION_ERR_MODEL_FILE,
                     "layer %u, %s: width %llu where %llu is expected",
                     p->layer, op, (unsigned long long)found,
                     (unsigned long long)expected);
        return false;
    }
    return true;
}


/* Width of a value, 0 after an error (values are then placeholders). */
static uint32_t
width(const struct ax_plan *p, ax_value v)
{
    return p->err.number == AXION_OK ? p->values[v].width : 0;
}


static bool
selected(const struct ax_plan *p, ax_value v)
{
    return p->err.number == AXION_OK && p->values[v].selected;
}


static bool
vector_fits(struct ax_plan *p, const char *op, ax_vector v, uint32_t n)
{
    return p->err.number == AXION_OK &&
           (v == AX_NONE || widths_equal(p, op, p->vectors[v].n, n));
}


ax_value
ax_plan_embed(struct ax_plan *p, ax_matrix m, float scale)
{
    if (p->err.number != AXION_OK) {
        return 0;
    }
    struct ax_plan_op op = {.kind = AX_OP_EMBED, .matrix = m, .scale = scale};
    op.out = add_value(p, p->matrices[m].k, false);
    add_op(p, &op);
    return op.out;
}


ax_value
ax_plan_rmsnorm_heads(struct ax_plan *p, ax_value x, uint32_t head_dim,
                      ax_vector weight, float eps)
{
    struct ax_plan_op op = {.kind = AX_OP_RMSNORM,
                            .a = x,
                            .vector = weight,
                            .head_dim = head_dim,
                            .scale = eps};

    if (!vector_fits(p, "norm", weight, head_dim) ||
        !widths_equal(p, "norm", width(p, x) % head_dim, 0)) {
        return 0;
    }
    op.out = add_value(p, width(p, x), selected(p, x));
    add_op(p, &op);
    return op.out;
}


ax_value
ax_plan_rmsnorm(struct ax_plan *p, ax_value x, ax_vector weight, float eps)
{
    return ax_plan_rmsnorm_heads(p, x, width(p, x), weight, eps);
}


static void
matmul(struct ax_plan *p, ax_value y, ax_value x, ax_matrix m, ax_vector bias,
       bool accumulate)
{
    struct ax_plan_op op = {.kind = AX_OP_MATMUL,
                            .out = y,
                            .a = x,
                            .matrix = m,
                            .vector = bias,
                            .accumulate = accumulate};

    if (widths_equal(p, "matmul", width(p, x), p->matrices[m].k) &&
        widths_equal(p, "matmul", width(p, y), p->matrices[m].n_rows) &&
        vector_fits(p, "bias", bias, p->matrices[m].n_rows)) {
        add_op(p, &op);
    }
}


ax_value
ax_plan_matmul(struct ax_plan *p, ax_value x, ax_matrix m, ax_vector bias)
{
    if (p->err.number != AXION_OK) {
        return 0;
    }
    ax_value y = add_value(p, p->matrices[m].n_rows, selected(p, x));
    if (p->err.number == AXION_OK) {
        matmul(p, y, x, m, bias, false);
    }
    return y;
}


void
ax_plan_matmul_add(struct ax_plan *p, ax_value y, ax_value x, ax_matrix m,
                   ax_vector bias)
{
    if (p->err.number == AXION_OK) {
        matmul(p, y, x, m, bias, true);
    }
}


void
ax_plan_rope(struct ax_plan *p, ax_value x, uint32_t head_dim, ax_rope rope)
{
    struct ax_plan_op op = {.kind = AX_OP_ROPE,
                            .out = x,
                            .a = x,
                            .rope = rope,
                            .head_dim = head_dim};

    if (widths_equal(p, "rope", width(p, x) % head_dim, 0)) {
        add_op(p, &op);
    }
}


ax_value
ax_plan_attention(struct ax_plan *p, ax_value q, ax_value k, ax_value v,
                  const struct ax_plan_attention *a)
{
    struct ax_plan_op op = {
        .kind = AX_OP_ATTENTION, .a = q, .b = k, .c = v, .attention = *a};
    uint64_t n_q = (uint64_t)a->n_head * a->head_dim;
    uint64_t n_kv = (uint64_t)a->n_head_kv * a->head_dim;

    if (!widths_equal(p, "attention", width(p, q), n_q) ||
        !widths_equal(p, "attention", width(p, k), n_kv) ||
        !widths_equal(p, "attention", width(p, v), n_kv)) {
        return 0;
    }
    op.out = add_value(p, (uint32_t)n_q, false);
    add_op(p, &op);
    return op.out;
}


ax_value
ax_plan_gated(struct ax_plan *p, enum ax_activation activation, ax_value gate,
              ax_value up)
{
    struct ax_plan_op op = {
        .kind = AX_OP_GATED, .a = gate, .b = up, .activation = activation};

    if (!widths_equal(p, "gate", width(p, gate), width(p, up))) {
        return 0;
    }
    op.out = add_value(p, width(p, gate), selected(p, gate));
    add_op(p, &op);
    return op.out;
}


void
ax_plan_add(struct ax_plan *p, ax_value y, ax_value x)
{
    struct ax_plan_op op = {.kind = AX_OP_ADD, .out = y, .a = x};

    if (widths_equal(p, "add", width(p, x), width(p, y))) {
        add_op(p, &op);
    }
}


void
ax_plan_scale(struct ax_plan *p, ax_value x, float scale)
{
    struct ax_plan_op op = {
        .kind = AX_OP_SCALE, .out = x, .a = x, .scale = scale};

    add_op(p, &op);
}


void
ax_plan_softcap(struct ax_plan *p, ax_value x, float cap)
{
    struct ax_plan_op op = {
        .kind = AX_OP_SOFTCAP, .out = x, .a = x, .scale = cap};

    add_op(p, &op);
}


ax_value
ax_plan_select(struct ax_plan *p, ax_value x)
{
    struct ax_plan_op op = {.kind = AX_OP_SELECT, .a = x};

    if (p->err.number != AXION_OK) {
        return 0;
    }
    op.out = add_value(p, width(p, x), true);
    add_op(p, &op);
    return op.out;
}


ax_value
ax_plan_route(struct ax_plan *p, ax_value logits, uint32_t n_used)
{
    struct ax_plan_op op = {.kind = AX_OP_ROUTE, .a = logits};
    uint32_t n = width(p, logits);

    if (p->err.number != AXION_OK) {
        return 0;
    }
    if (n > AX_PLAN_EXPERTS_MAX || n_used == 0 || n_used > n ||
        n_used > AX_PLAN_EXPERTS_USED_MAX ||
        (p->n_expert != 0 &&
         (p->n_expert != n || p->n_expert_used != n_used))) {
        ax_plan_fail(p, AXION_ERR_MODEL_UNSUPPORTED,
                     "layer %u: %u of %u experts; at most %u of %u, the same "
                     "in all layers, are supported",
                     p->layer, n_used, n, AX_PLAN_EXPERTS_USED_MAX,
                     AX_PLAN_EXPERTS_MAX);
        return 0;
    }
    p->n_expert = n;
    p->n_expert_used = n_used;
    op.out = add_value(p, 2 * n_used, selected(p, logits));
    add_op(p, &op);
    return op.out;
}


/* True if m is a bank for rows of x. */
static bool
bank_fits(struct ax_plan *p, ax_matrix m, ax_value x)
{
    return p->err.number == AXION_OK && p->n_expert != 0 &&
           widths_equal(p, "experts", p->matrices[m].k, width(p, x)) &&
           widths_equal(p, "experts",
                        p->matrices[m].n_rows % (p->n_expert * AXK_PANEL_ROWS),
                        0);
}


static ax_value
add_routed(struct ax_plan *p, ax_matrix m, bool selected)
{
    ax_value v = add_value(p, p->matrices[m].n_rows / p->n_expert, selected);

    if (p->err.number == AXION_OK) {
        p->values[v].routed = true;
    }
    return v;
}


ax_value
ax_plan_experts_gated(struct ax_plan *p, ax_value x,
                      enum ax_activation activation, ax_matrix gate,
                      ax_matrix up)
{
    struct ax_plan_op op = {.kind = AX_OP_EXPERTS,
                            .a = x,
                            .matrix = gate,
                            .up = up,
                            .activation = activation};

    if (!bank_fits(p, gate, x) || !bank_fits(p, up, x) ||
        !widths_equal(p, "experts", p->matrices[up].n_rows,
                      p->matrices[gate].n_rows)) {
        return 0;
    }
    op.out = add_routed(p, gate, selected(p, x));
    op.c = add_routed(p, gate, selected(p, x));
    add_op(p, &op);
    return op.out;
}


ax_value
ax_plan_experts(struct ax_plan *p, ax_value x, ax_matrix m)
{
    struct ax_plan_op op = {
        .kind = AX_OP_EXPERTS, .a = x, .matrix = m, .up = AX_NONE};

    if (!bank_fits(p, m, x)) {
        return 0;
    }
    op.out = add_routed(p, m, selected(p, x));
    add_op(p, &op);
    return op.out;
}


void
ax_plan_combine(struct ax_plan *p, ax_value y, ax_value x, ax_value route)
{
    struct ax_plan_op op = {
        .kind = AX_OP_COMBINE, .out = y, .a = x, .b = route};

    if (widths_equal(p, "experts", width(p, x), width(p, y))) {
        add_op(p, &op);
    }
}


void
ax_plan_logits(struct ax_plan *p, ax_value x)
{
    p->logits = x;
}
