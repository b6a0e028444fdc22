/*
 * Memory of a program: values and quantized activations share slots by
 * lifetime, first come first served in order of their first stage.
 *
 * A transformer has a handful of lifetimes that repeat in every layer, so the
 * greedy choice (the smallest free slot that is large enough, else the
 * largest free one made larger) finds the minimum within a few per cent.
 */
#include "engine/exec/compile.h"

#include <stdlib.h>


struct item {
    uint32_t first;
    uint32_t last;
    size_t bytes;
    uint32_t slot;
    float **value; /* where the address goes: one of the two */
    void **act;
};


struct slot {
    size_t bytes;
    uint32_t busy_until; /* last stage that uses it */
    void *data;
};


static size_t
align(size_t n)
{
    return (n + AX_ARENA_ALIGN - 1) & ~(size_t)(AX_ARENA_ALIGN - 1);
}


static uint32_t
rows_of(const struct ax_program *p, ax_value v)
{
    return p->plan->values[v].selected ? p->selected_max : p->rows_max;
}


/* Each expert's rows begin at a cache line: a line for each besides. */
static size_t
act_bytes(const struct ax_program *p, const struct ax_act *a)
{
    uint32_t rows = rows_of(p, a->value);

    if (!a->routed) {
        return align(axk_act_bytes(a->kind, rows, a->k));
    }
    return align(axk_act_bytes(a->kind, ax_routed_rows(p->plan, rows), a->k)) +
           (size_t)AX_ARENA_ALIGN * p->plan->n_expert;
}


static uint32_t
value_rows(const struct ax_program *p, ax_value v)
{
    uint32_t rows = rows_of(p, v);

    return p->plan->values[v].routed ? ax_routed_rows(p->plan, rows) : rows;
}


static uint32_t
collect(struct ax_compile *c, struct item *items)
{
    struct ax_program *p = c->program;
    uint32_t n = 0;

    for (uint32_t v = 0; v < p->plan->n_values; v++) {
        uint32_t width = p->plan->values[v].width;
        if (v == p->plan->logits) {
            p->strides[v] = width; /* the caller's memory, without gaps */
            continue;
        }
        /* Rows begin at cache lines. */
        p->strides[v] = align(width * sizeof(float)) / sizeof(float);
        if (c->lives[v].used) {
            items[n++] = (struct item){
                .first = c->lives[v].first,
                .last = c->lives[v].last,
                .bytes = p->strides[v] * sizeof(float) * value_rows(p, v),
                .value = &p->buffers[v],
            };
        }
    }
    for (uint32_t i = 0; i < p->n_acts; i++) {
        struct ax_act *a = &p->acts[i];
        items[n++] = (struct item){
            .first = a->ready,
            .last = a->last,
            .bytes = act_bytes(p, a),
            .act = &a->data,
        };
    }
    return n;
}


static int
compare_first(const void *a, const void *b)
{
    const struct item *x = a;
    const struct item *y = b;

    if (x->first != y->first) {
        return x->first < y->first ? -1 : 1;
    }
    return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}


static uint32_t
choose_slot(const struct slot *slots, uint32_t n_slots, const struct item *item)
{
    uint32_t best = n_slots;

    for (uint32_t i = 0; i < n_slots; i++) {
        if (slots[i].busy_until >= item->first) {
            continue;
        }
        if (best == n_slots) {
            best = i;
            continue;
        }
        bool fits = slots[i].bytes >= item->bytes;
        bool best_fits = slots[best].bytes >= item->bytes;
        bool smaller = slots[i].bytes < slots[best].bytes;
        if (fits ? (!best_fits || smaller) : (!best_fits && !smaller)) {
            best = i;
        }
    }
    return best;
}


static uint32_t
assign(struct item *items, uint32_t n, struct slot *slots)
{
    uint32_t n_slots = 0;

    qsort(items, n, sizeof(*items), compare_first);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t s = choose_slot(slots, n_slots, &items[i]);
        if (s == n_slots) {
            slots[n_slots++] = (struct slot){0};
        }
        if (slots[s].bytes < items[i].bytes) {
            slots[s].bytes = items[i].bytes;
        }
        slots[s].busy_until = items[i].last;
        items[i].slot = s;
    }
    return n_slots;
}


static size_t
rope_bytes(const struct ax_program *p, ax_rope r)
{
    return (size_t)p->rows_max * p->plan->ropes[r].n_rot * sizeof(float);
}


static int
take_memory(struct ax_compile *c, struct slot *slots, uint32_t n_slots)
{
    struct ax_program *p = c->program;
    uint64_t total = 0;

    for (uint32_t i = 0; i < n_slots; i++) {
        total += align(slots[i].bytes);
    }
    for (uint32_t r = 0; r < p->plan->n_ropes; r++) {
        total += align(rope_bytes(p, r));
    }
    if (ax_arena_open(&p->arena, total) != AXION_OK) {
        return ax_error_set(c->err, AXION_ERR_NO_MEMORY,
                            "no memory for %llu bytes of activations",
                            (unsigned long long)total);
    }
    for (uint32_t i = 0; i < n_slots; i++) {
        slots[i].data = ax_arena_take(&p->arena, slots[i].bytes);
    }
    for (uint32_t r = 0; r < p->plan->n_ropes; r++) {
        p->rope_tables[r] = ax_arena_take(&p->arena, rope_bytes(p, r));
    }
    return AXION_OK;
}


int
ax_program_place(struct ax_compile *c)
{
    struct ax_program *p = c->program;
    uint32_t n = p->plan->n_values + p->n_acts;
    struct item *items = calloc(n + 1, sizeof(*items));
    struct slot *slots = calloc(n + 1, sizeof(*slots));
    int rc;

    if (items == NULL || slots == NULL) {
        rc = ax_error_set(c->err, AXION_ERR_NO_MEMORY, "no memory");
    } else {
        n = collect(c, items);
        uint32_t n_slots = assign(items, n, slots);
        rc = take_memory(c, slots, n_slots);
        for (uint32_t i = 0; i < n && rc == AXION_OK; i++) {
            if (items[i].value != NULL) {
                *items[i].value = slots[items[i].slot].data;
            } else {
                *items[i].act = slots[items[i].slot].data;
            }
        }
    }
    free(slots);
    free(items);
    return rc;
}
