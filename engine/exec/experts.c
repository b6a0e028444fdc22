/*
 * Mixtures of experts: which rows go to which expert, and the matrices of all
 * experts that have rows as one range of work.
 *
 * ROUTE gives each row its experts, on any thread.  GROUP, a gate, sorts the
 * pairs (row, expert) by expert, and within one by row: a group for each
 * expert that has rows, beginning a tile, so that its part of a quantized
 * activation is what quantize() would make of these rows alone.  GATHER
 * quantizes by tiles in that order, EXPERTS multiplies by panels of groups
 * and COMBINE adds a row's results in the order of its route.  So a row's
 * values do not depend on who else is in the step.
 *
 * How many groups there will be is not known when the step's phases are
 * listed; units beyond the last group are empty.
 */
#include "engine/exec/internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>


/* 2^-14, below which ggml does not let the sum of weights fall. */
#define WEIGHTS_SUM_MIN 6.103515625e-5f


/* The widest k of a bank: what a gathered tile may need. */
static uint32_t
widest(const struct ax_plan *plan)
{
    uint32_t k = 0;

    for (uint32_t i = 0; i < plan->n_ops; i++) {
        const struct ax_plan_op *op = &plan->ops[i];
        if (op->kind == AX_OP_EXPERTS && plan->matrices[op->matrix].k > k) {
            k = plan->matrices[op->matrix].k;
        }
    }
    return k;
}


static size_t
aligned(size_t bytes)
{
    return (bytes + AX_ARENA_ALIGN - 1) & ~(size_t)(AX_ARENA_ALIGN - 1);
}


int
ax_experts_open(struct ax_exec *e, struct ax_error *err)
{
    struct ax_routing *t = &e->routing;
    const struct ax_plan *plan = e->plan;
    uint32_t rows = e->program.rows_max;
    size_t n = plan->n_expert, routed = ax_routed_rows(plan, rows);

    if (n == 0) {
        return AXION_OK;
    }
    size_t groups = aligned(n * sizeof(*t->groups));
    size_t tiles = aligned(routed / AXK_TILE * sizeof(uint32_t));
    size_t sources = aligned(routed * sizeof(uint32_t));
    size_t places =
        aligned((size_t)rows * plan->n_expert_used * sizeof(uint32_t));
    size_t experts = aligned(n * sizeof(uint32_t));
    size_t stages = aligned(e->program.n_stages * sizeof(uint32_t));
    size_t gather = aligned(AXK_TILE * widest(plan) * sizeof(float));

    if (ax_arena_open(&t->arena, groups + tiles + sources + places + experts +
                                     stages + gather * e->options.n_threads) !=
        AXION_OK) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY,
                            "no memory for the tables of %zu experts", n);
    }
    t->groups = ax_arena_take(&t->arena, groups);
    t->tile_group = ax_arena_take(&t->arena, tiles);
    t->sources = ax_arena_take(&t->arena, sources);
    t->places = ax_arena_take(&t->arena, places);
    t->expert_group = ax_arena_take(&t->arena, experts);
    t->stage_groups = ax_arena_take(&t->arena, stages);
    t->gather_floats = gather / sizeof(float);
    t->gather = ax_arena_take(&t->arena, gather * e->options.n_threads);
    return AXION_OK;
}


void
ax_experts_close(struct ax_exec *e)
{
    ax_arena_close(&e->routing.arena);
}


/*
 * Softmax over all experts, the n_used largest of it over their sum.  A row
 * whose logits are not numbers goes to the first experts, with weights that
 * are no numbers either: nobody goes to one expert twice.
 */
void
ax_experts_route(const struct ax_exec *e, const float *logits, float *route)
{
    uint32_t n = e->plan->n_expert, n_used = e->plan->n_expert_used;
    float p[AX_PLAN_EXPERTS_MAX];
    float sum = 0.0f, used = 0.0f;

    e->ops->exp_sub(p, logits, logits[e->ops->argmax(logits, n)], n);
    for (uint32_t i = 0; i < n; i++) {
        sum += p[i];
    }
    bool numbers = sum - sum == 0.0f;
    for (uint32_t j = 0; j < n_used; j++) {
        uint32_t best = numbers ? e->ops->argmax(p, n) : j;
        route[j] = (float)best;
        route[n_used + j] = p[best] / sum;
        used += route[n_used + j];
        p[best] = -1.0f;
    }
    used = used < WEIGHTS_SUM_MIN ? WEIGHTS_SUM_MIN : used;
    for (uint32_t j = 0; j < n_used; j++) {
        route[n_used + j] /= used;
    }
}


static uint32_t
expert_of(const struct ax_exec *e, const float *route, uint32_t slot)
{
    uint32_t expert = (uint32_t)route[slot];

    assert(expert < e->plan->n_expert);
    return expert;
}


/* How many rows each expert has, in expert_group. */
static void
count_rows(struct ax_exec *e, const float *routes, size_t stride, uint32_t rows)
{
    struct ax_routing *t = &e->routing;

    memset(t->expert_group, 0, e->plan->n_expert * sizeof(*t->expert_group));
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t j = 0; j < e->plan->n_expert_used; j++) {
            t->expert_group[expert_of(e, routes + r * stride, j)]++;
        }
    }
}


/* Groups in the order of experts; expert_group is where each one's is. */
static void
place_groups(struct ax_exec *e)
{
    struct ax_routing *t = &e->routing;

    t->n_groups = 0;
    t->n_tiles = 0;
    for (uint32_t i = 0; i < e->plan->n_expert; i++) {
        uint32_t n = t->expert_group[i];
        if (n == 0) {
            continue;
        }
        t->expert_group[i] = t->n_groups;
        t->groups[t->n_groups] = (struct ax_expert_group){
            .expert = i,
            .row0 = t->n_tiles * AXK_TILE,
        };
        for (uint32_t tile = 0; tile < axk_act_tiles(n); tile++) {
            t->tile_group[t->n_tiles++] = t->n_groups;
        }
        t->n_groups++;
    }
}


void
ax_experts_group(struct ax_exec *e, const struct ax_stage *stage)
{
    struct ax_routing *t = &e->routing;
    uint32_t rows = ax_stage_rows(e, stage), n_used = e->plan->n_expert_used;
    const float *routes = e->program.buffers[stage->experts->out];
    size_t stride = e->program.strides[stage->experts->out];

    count_rows(e, routes, stride, rows);
    place_groups(e);
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t j = 0; j < n_used; j++) {
            uint32_t expert = expert_of(e, routes + r * stride, j);
            struct ax_expert_group *group = &t->groups[t->expert_group[expert]];
            uint32_t place = group->row0 + group->n++;
            t->sources[place] = r;
            t->places[r * n_used + j] = place;
        }
    }
    t->stage_groups[stage - e->program.stages] = t->n_groups;
}


uint32_t
ax_experts_units(const struct ax_exec *e, const struct ax_stage *stage)
{
    uint32_t rows = ax_stage_rows(e, stage);
    uint32_t pairs = rows * e->plan->n_expert_used;
    uint32_t groups = pairs < e->plan->n_expert ? pairs : e->plan->n_expert;

    return stage->kind == AX_STAGE_GATHER
               ? ax_routed_rows(e->plan, rows) / AXK_TILE
               : groups * stage->panels;
}


/* Where a group's quantized rows begin: behind those of the groups before,
 * at a cache line. */
static char *
group_act(const struct ax_exec *e, uint32_t act, uint32_t g, uint32_t row0)
{
    const struct ax_act *a = &e->program.acts[act];
    size_t before = row0 == 0 ? 0 : axk_act_bytes(a->kind, row0, a->k);

    return (char *)a->data + before + (size_t)AXK_ALIGN * g;
}


/* The rows of a tile one behind the other: a routed value has them so. */
static const float *
tile_rows(const struct ax_exec *e, ax_value v, uint32_t row0, uint32_t n,
          float *scratch, size_t *stride)
{
    const float *x = e->program.buffers[v];
    uint32_t width = e->plan->values[v].width;

    *stride = e->program.strides[v];
    if (e->plan->values[v].routed) {
        return x + row0 * *stride;
    }
    for (uint32_t i = 0; i < n; i++) {
        memcpy(scratch + (size_t)i * width,
               x + e->routing.sources[row0 + i] * *stride,
               width * sizeof(float));
    }
    *stride = width;
    return scratch;
}


void
ax_experts_gather(struct ax_exec *e, const struct ax_stage *stage,
                  uint32_t begin, uint32_t end, uint32_t thread)
{
    const struct ax_routing *t = &e->routing;
    const struct ax_act *a = &e->program.acts[stage->act[0]];
    float *scratch = t->gather + thread * t->gather_floats;

    for (uint32_t tile = begin; tile < end && tile < t->n_tiles; tile++) {
        uint32_t g = t->tile_group[tile];
        const struct ax_expert_group *group = &t->groups[g];
        uint32_t row0 = tile * AXK_TILE, done = row0 - group->row0;
        uint32_t n = group->n - done < AXK_TILE ? group->n - done : AXK_TILE;
        size_t stride;
        const float *x = tile_rows(e, a->value, row0, n, scratch, &stride);

        /* quantize() counts from the group's first row. */
        uintptr_t first = (uintptr_t)x - done * stride * sizeof(float);
        e->ops->quantize(a->kind, (const float *)first, stride, group->n, a->k,
                         done / AXK_TILE, done / AXK_TILE + 1,
                         group_act(e, stage->act[0], g, group->row0));
    }
}


/* Panels [p0, p1) of one expert for its rows. */
struct part {
    uint32_t g;
    uint32_t p0, p1;
    struct ax_expert_group group; /* a copy: a thread may be late */
};


/* The first part of units [*begin, end), which it takes off; false if no
 * group is left. */
static bool
next_part(const struct ax_exec *e, const struct ax_stage *stage,
          uint32_t *begin, uint32_t end, struct part *part)
{
    uint32_t g = *begin / stage->panels, p0 = *begin % stage->panels;
    uint32_t n = stage->panels - p0;

    if (*begin >= end || g >= e->routing.n_groups) {
        return false;
    }
    n = end - *begin < n ? end - *begin : n;
    *part = (struct part){g, p0, p0 + n, e->routing.groups[g]};
    *begin += n;
    return true;
}


static uint32_t
columns(const struct part *part)
{
    return (part->p1 - part->p0) * AXK_PANEL_ROWS;
}


/* A part of one bank into y [group's rows][stride]. */
static void
multiply(const struct ax_exec *e, ax_matrix matrix, uint32_t act,
         const struct part *part, float *y, size_t stride)
{
    const struct ax_plan_matrix *m = &e->plan->matrices[matrix];
    uint32_t first = part->group.expert * (m->n_rows / e->plan->n_expert) +
                     part->p0 * AXK_PANEL_ROWS;
    struct axk_matmul a = {
        .format = m->tensor->format,
        .n_rows = m->n_rows,
        .k = m->k,
        .n_tokens = part->group.n,
        .w = m->packed,
        .act = group_act(e, act, part->g, part->group.row0),
        .y = ax_private_at(y, first), /* a column is a row of the bank */
        .y_stride = stride,
    };

    e->ops->matmul(&a, first, first + columns(part));
}


/* A part into y, with room for the other half of a gate in up. */
static void
compute(const struct ax_exec *e, const struct ax_stage *stage,
        const struct part *part, float *y, size_t y_stride, float *up,
        size_t up_stride)
{
    const struct ax_plan_op *op = stage->experts;

    multiply(e, op->matrix, stage->act[0], part, y, y_stride);
    if (op->up != AX_NONE) {
        multiply(e, op->up, stage->act[1], part, up, up_stride);
        ax_stage_gated(e, op, part->group.n, columns(part), y, y_stride, y,
                       y_stride, up, up_stride);
    }
}


/* Where a part's results belong in a routed value. */
static float *
place_of(const struct ax_exec *e, ax_value v, const struct part *part)
{
    return e->program.buffers[v] + part->group.row0 * e->program.strides[v] +
           part->p0 * AXK_PANEL_ROWS;
}


void
ax_experts_matmul(struct ax_exec *e, const struct ax_stage *stage,
                  uint32_t begin, uint32_t end)
{
    const struct ax_plan_op *op = stage->experts;
    const size_t *strides = e->program.strides;
    struct part part;

    while (next_part(e, stage, &begin, end, &part)) {
        float *up = op->up != AX_NONE ? place_of(e, op->c, &part) : NULL;
        compute(e, stage, &part, place_of(e, op->out, &part), strides[op->out],
                up, up != NULL ? strides[op->c] : 0);
    }
}


bool
ax_experts_compute(struct ax_exec *e, const struct ax_stage *stage,
                   const struct ax_pool_piece *piece)
{
    uint32_t scale = e->scale[piece->phase];
    uint32_t begin = piece->begin * scale, end = piece->end * scale;
    float *out = e->privates[piece->thread].results;
    struct part part;

    while (next_part(e, stage, &begin, end, &part)) {
        size_t n = columns(&part);
        if (!ax_pool_holds(piece)) {
            return false;
        }
        /* The other half lies behind it, where the next part will be. */
        compute(e, stage, &part, out, n, out + part.group.n * n, n);
        out += part.group.n * n;
    }
    return true;
}


void
ax_experts_commit(struct ax_exec *e, const struct ax_stage *stage,
                  const struct ax_pool_piece *piece)
{
    uint32_t scale = e->scale[piece->phase];
    uint32_t begin = piece->begin * scale, end = piece->end * scale;
    size_t stride = e->program.strides[stage->experts->out];
    const float *from = e->privates[piece->thread].results;
    struct part part;

    while (next_part(e, stage, &begin, end, &part)) {
        float *y = place_of(e, stage->experts->out, &part);
        uint32_t n = columns(&part);
        for (uint32_t r = 0; r < part.group.n; r++, from += n) {
            memcpy(y + r * stride, from, n * sizeof(float));
        }
    }
}


void
ax_experts_combine(const struct ax_exec *e, const struct ax_plan_op *op,
                   uint32_t r, const float *route, float *y)
{
    uint32_t n_used = e->plan->n_expert_used;
    uint32_t width = e->plan->values[op->out].width;
    const uint32_t *places = e->routing.places + (size_t)r * n_used;
    size_t stride = e->program.strides[op->a];
    float *sum = e->program.buffers[op->a] + places[0] * stride;

    for (uint32_t j = 0; j < n_used; j++) {
        float *x = e->program.buffers[op->a] + places[j] * stride;
        e->ops->scale(x, x, route[n_used + j], width);
        if (j > 0) {
            e->ops->add(sum, sum, x, width);
        }
    }
    e->ops->add(y, y, sum, width);
}
