/*
 * Attention over the threads.
 *
 * An item is one KV head (with all query heads that share it) for up to
 * CHUNK queries of one segment.  When a step has fewer items than keep the
 * threads evenly busy, they get fewer queries; and where there is but one, a
 * few decodes on deep contexts, the keys of a query are cut into runs of tiles
 * instead: each item leaves the partial results of its tiles, and whoever
 * finishes the last item of a KV head merges them.  The kernels give the same
 * bits either way, so the choice is free and made anew for every step.
 *
 * An item of a decode is a microsecond of work on K and V from memory: each
 * has those of the item behind it fetched while it computes.
 */
#include "engine/exec/internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>


/* Queries of one item. */
#define CHUNK 32u

/* Items per thread below which queries are split, and how many a split is to
 * give: threads wait for each other's last. */
#define ITEMS_PER_THREAD 8u
#define SPLIT_PER_THREAD 16u

/* Tiles that are not worth a piece of their own. */
#define TILES_MIN 2u

#define PARTIALS_BYTES_MAX ((size_t)64 << 20)


/* Of any layer. */
static uint32_t
heads_max(const struct ax_plan *plan)
{
    uint32_t n = 1;

    for (uint32_t i = 0; i < plan->n_ops; i++) {
        if (plan->ops[i].kind == AX_OP_ATTENTION &&
            plan->ops[i].attention.n_head > n) {
            n = plan->ops[i].attention.n_head;
        }
    }
    return n;
}


/* Floats of one split query's partials, all tiles from 0 to its end. */
static size_t
partial_floats(const struct ax_exec *e, uint32_t n_tokens)
{
    size_t tiles = (n_tokens + AXK_ATTN_KEYS - 1) / AXK_ATTN_KEYS;
    size_t record = axk_attention_partial_floats(e->kv_shape.head_dim);

    return e->heads_max * tiles * record;
}


static uint64_t
items_max(const struct ax_exec *e)
{
    uint64_t chunks =
        e->options.sequences_max + e->options.batch_tokens_max / CHUNK;
    uint64_t pieces =
        (ITEMS_PER_THREAD + SPLIT_PER_THREAD) * e->options.n_threads;

    return (chunks + pieces) * e->kv_shape.n_head_kv;
}


int
ax_attention_open(struct ax_exec *e, struct ax_error *err)
{
    uint32_t n_windows = e->program.n_windows;
    uint32_t n_ctx = ax_model_info(e->model)->n_ctx;

    e->heads_max = heads_max(e->plan);
    size_t one = partial_floats(e, n_ctx) * sizeof(float);

    /* More single queries than this are enough items by themselves. */
    e->splits_max = ITEMS_PER_THREAD * e->options.n_threads;
    size_t bytes = one * e->splits_max;
    if (bytes > PARTIALS_BYTES_MAX) {
        bytes = one > PARTIALS_BYTES_MAX ? one : PARTIALS_BYTES_MAX;
    }
    e->left =
        calloc(e->splits_max * (size_t)e->kv_shape.n_head_kv, sizeof(*e->left));
    bool failed =
        e->left == NULL || ax_arena_open(&e->partials, bytes) != AXION_OK;
    for (uint32_t w = 0; w < n_windows && !failed; w++) {
        e->items[w] = calloc(items_max(e), sizeof(*e->items[w]));
        e->splits[w] = calloc(e->splits_max, sizeof(*e->splits[w]));
        failed = e->items[w] == NULL || e->splits[w] == NULL;
    }
    return failed ? ax_error_set(err, AXION_ERR_NO_MEMORY,
                                 "no memory for attention's tables")
                  : AXION_OK;
}


void
ax_attention_close(struct ax_exec *e)
{
    for (uint32_t w = 0; w < AX_PROGRAM_WINDOWS_MAX; w++) {
        free(e->splits[w]);
        free(e->items[w]);
    }
    free(e->left);
    ax_arena_close(&e->partials);
}


/* What the kernels need to know of a segment; q, out and the blocks are the
 * layer's. */
static struct axk_attention
describe(const struct ax_exec *e, const struct ax_segment *segment,
         uint32_t window)
{
    return (struct axk_attention){
        .n_q = segment->n,
        .pos0 = segment->pos0,
        .n_head_kv = e->kv_shape.n_head_kv,
        .head_dim = e->kv_shape.head_dim,
        .kv_type = e->kv_shape.type,
        .kv_block_stride = ax_kv_block_bytes(e->kv),
        .window = window,
    };
}


static void
add_item(struct ax_exec *e, uint32_t w, const struct ax_attention_item *item)
{
    assert(e->n_items[w] < items_max(e));
    e->items[w][e->n_items[w]++] = *item;
}


/*
 * Queries of an item where each chunk is to become so many pieces: not so few
 * that their rows do not fill a kernel's block, since every block converts K
 * and V anew.
 */
static uint32_t
chunk_queries(const struct ax_exec *e, uint32_t n, uint32_t pieces)
{
    uint32_t group = e->heads_max / e->kv_shape.n_head_kv;
    uint32_t unit = (AXK_ATTN_ROWS + group - 1) / group;
    uint32_t queries = ((n < CHUNK ? n : CHUNK) + pieces - 1) / pieces;

    queries = (queries + unit - 1) / unit * unit;
    return queries < CHUNK ? queries : CHUNK;
}


/* Head by head, so that a thread's own share is few heads: it finds their keys
 * in its cache, and early queries, which see less, are spread evenly. */
static void
cut_whole(struct ax_exec *e, uint32_t w, uint32_t segment, uint32_t pieces)
{
    uint32_t n = e->segments[segment].n;
    uint32_t chunk = chunk_queries(e, n, pieces);

    for (uint32_t h = 0; h < e->kv_shape.n_head_kv; h++) {
        for (uint32_t q = 0; q < n; q += chunk) {
            add_item(e, w,
                     &(struct ax_attention_item){
                         .segment = segment,
                         .kv_head = h,
                         .q0 = q,
                         .q1 = n - q < chunk ? n : q + chunk,
                     });
        }
    }
}


/* False when the query is too short or there is no room to split it. */
static bool
cut_split(struct ax_exec *e, uint32_t w, uint32_t segment, uint32_t pieces)
{
    const struct ax_segment *s = &e->segments[segment];
    struct axk_attention a = describe(e, s, e->program.windows[w]);
    uint32_t first, end;

    axk_attention_tiles(&a, 0, &first, &end);
    uint32_t run = (end - first + pieces - 1) / pieces;
    run = run < TILES_MIN ? TILES_MIN : run;
    pieces = (end - first + run - 1) / run;
    if (pieces < 2 || e->n_splits[w] == e->splits_max) {
        return false;
    }
    float *partials = ax_arena_take(
        &e->partials, partial_floats(e, s->pos0 + 1) * sizeof(float));
    if (partials == NULL) {
        return false;
    }
    uint32_t index = e->n_splits[w]++;
    struct ax_attention_split *split = &e->splits[w][index];
    *split = (struct ax_attention_split){
        .partials = partials,
        .pieces = pieces,
        .left0 = index * e->kv_shape.n_head_kv,
    };
    for (uint32_t h = 0; h < e->kv_shape.n_head_kv; h++) {
        for (uint32_t tile = first; tile < end; tile += run) {
            add_item(e, w,
                     &(struct ax_attention_item){
                         .segment = segment,
                         .kv_head = h,
                         .q0 = 0,
                         .q1 = 1,
                         .tile0 = tile,
                         .tile1 = end - tile < run ? end : tile + run,
                         .split = index,
                     });
        }
    }
    return true;
}


static void
cut_window(struct ax_exec *e, uint32_t w)
{
    uint32_t n_head_kv = e->kv_shape.n_head_kv;
    uint32_t threads = e->n_threads;
    uint32_t wanted = ITEMS_PER_THREAD * threads;
    uint64_t natural = 0;

    for (uint32_t s = 0; s < e->n_segments; s++) {
        natural +=
            (uint64_t)((e->segments[s].n + CHUNK - 1) / CHUNK) * n_head_kv;
    }
    bool few = threads > 1 && natural < wanted;
    uint32_t pieces = few ? (uint32_t)((wanted + natural - 1) / natural) : 1;
    uint64_t split = (uint64_t)SPLIT_PER_THREAD * threads;
    uint32_t runs = few ? (uint32_t)((split + natural - 1) / natural) : 1;
    e->n_items[w] = 0;
    e->n_splits[w] = 0;
    e->partials.used = 0;
    for (uint32_t s = 0; s < e->n_segments; s++) {
        if (!few || e->segments[s].n != 1 || !cut_split(e, w, s, runs)) {
            cut_whole(e, w, s, pieces);
        }
    }
}


void
ax_attention_cut(struct ax_exec *e)
{
    /* Windows are never at work at the same time: they share partials. */
    for (uint32_t w = 0; w < e->program.n_windows; w++) {
        cut_window(e, w);
    }
}


/* The piece of a split that comes last merges, and readies the counter. */
static void
finish_piece(struct ax_exec *e, const struct axk_attention *a,
             const struct ax_attention_item *item,
             const struct ax_attention_split *split)
{
    _Atomic uint32_t *left = &e->left[split->left0 + item->kv_head];

    /* Pairs with itself: the last one sees what the others left. */
    uint32_t done = atomic_fetch_add_explicit(left, 1, memory_order_acq_rel);
    if (done + 1 == split->pieces) {
        atomic_store_explicit(left, 0, memory_order_relaxed);
        e->ops->attention_merge(a, item->kv_head, 0, split->partials);
    }
}


/* All that the kernels need to know; out is where the step's goes. */
static struct axk_attention
describe_item(const struct ax_exec *e, const struct ax_stage *stage,
              const struct ax_segment *segment)
{
    const struct ax_plan_op *op = stage->attention;
    struct axk_attention a = describe(e, segment, op->attention.window);

    a.q_stride = e->program.strides[op->a];
    a.q = e->program.buffers[op->a] + segment->token0 * a.q_stride;
    a.out_stride = e->program.strides[op->out];
    a.out = e->program.buffers[op->out] + segment->token0 * a.out_stride;
    a.n_head = op->attention.n_head;
    a.kv_base = ax_kv_layer(e->kv, op->layer);
    a.block_table = segment->blocks +
                    (size_t)ax_kv_group(e->kv, op->layer) * segment->n_blocks;
    a.scale = op->attention.scale;
    a.softcap = op->attention.softcap;
    return a;
}


/* Has the work on a fetch what the thread reads behind it: item next. */
static void
look_ahead(struct axk_attention *a, const struct axk_attention *b,
           const struct ax_attention_item *next)
{
    uint32_t first, end;

    axk_attention_tiles(b, next->q0, &first, &end);
    axk_attention_ahead(a, b, next->kv_head, next->q0,
                        next->tile1 != 0 ? next->tile0 : first);
}


static void
run_item(struct ax_exec *e, const struct ax_stage *stage,
         const struct ax_attention_item *item, const struct axk_attention *a)
{
    if (item->tile1 == 0) {
        e->ops->attention(a, item->kv_head, item->kv_head + 1, item->q0,
                          item->q1);
        return;
    }
    const struct ax_attention_split *split =
        &e->splits[stage->window][item->split];
    e->ops->attention_partial(a, item->kv_head, item->q0, item->tile0,
                              item->tile1, split->partials);
    finish_piece(e, a, item, split);
}


void
ax_attention_run(struct ax_exec *e, const struct ax_stage *stage,
                 uint32_t begin, uint32_t end)
{
    const struct ax_attention_item *items = e->items[stage->window];
    uint32_t n = e->n_items[stage->window];
    struct axk_attention a, next;

    end = end < n ? end : n;
    for (uint32_t i = begin; i < end; i++) {
        a = i > begin ? next
                      : describe_item(e, stage, &e->segments[items[i].segment]);
        if (i + 1 < end) {
            next = describe_item(e, stage, &e->segments[items[i + 1].segment]);
            look_ahead(&a, &next, &items[i + 1]);
        }
        run_item(e, stage, &items[i], &a);
    }
}


size_t
ax_attention_private_floats(const struct ax_exec *e)
{
    size_t whole = (size_t)CHUNK * e->heads_max * e->kv_shape.head_dim;
    size_t split = partial_floats(e, ax_model_info(e->model)->n_ctx) /
                   e->kv_shape.n_head_kv;

    return whole > split ? whole : split;
}


/* Where the partial results of an item's tiles begin, and rows of heads. */
static size_t
partial_offset(const struct axk_attention *a,
               const struct ax_attention_item *item, size_t *head_stride)
{
    size_t record = axk_attention_partial_floats(a->head_dim);
    size_t tiles = a->pos0 / AXK_ATTN_KEYS + 1;
    uint32_t group = a->n_head / a->n_head_kv;

    *head_stride = tiles * record;
    return item->kv_head * group * *head_stride + item->tile0 * record;
}


/* What is read before ax_pool_holds() is of this phase; behind it, only
 * copies and memory that always holds valid numbers. */
bool
ax_attention_compute(struct ax_exec *e, const struct ax_stage *stage,
                     const struct ax_pool_piece *piece)
{
    const struct ax_attention_item *items = e->items[stage->window];
    bool more = piece->end < e->n_items[stage->window];
    struct ax_attention_item item = items[piece->begin];
    struct ax_attention_item next = items[more ? piece->end : piece->begin];
    struct ax_segment segment = e->segments[item.segment];
    struct ax_segment next_segment = e->segments[next.segment];
    struct axk_attention a = describe_item(e, stage, &segment);
    struct axk_attention b = describe_item(e, stage, &next_segment);
    float *out = e->privates[piece->thread].results;
    size_t head_stride;

    if (!ax_pool_holds(piece)) {
        return false;
    }
    if (more) {
        look_ahead(&a, &b, &next);
    }
    if (item.tile1 != 0) {
        size_t offset = partial_offset(&a, &item, &head_stride);
        e->ops->attention_partial(&a, item.kv_head, 0, item.tile0, item.tile1,
                                  ax_private_at(out, offset));
        return true;
    }
    /* The queries of the item as a segment of their own. */
    a.q += item.q0 * a.q_stride;
    a.n_q = item.q1 - item.q0;
    a.pos0 += item.q0;
    a.out = out;
    a.out_stride = a.n_head * a.head_dim;
    e->ops->attention(&a, item.kv_head, item.kv_head + 1, 0, a.n_q);
    return true;
}


void
ax_attention_commit(struct ax_exec *e, const struct ax_stage *stage,
                    const struct ax_pool_piece *piece)
{
    const struct ax_attention_item *item =
        &e->items[stage->window][piece->begin];
    struct axk_attention a =
        describe_item(e, stage, &e->segments[item->segment]);
    const float *from = e->privates[piece->thread].results;
    uint32_t group = a.n_head / a.n_head_kv;

    if (item->tile1 != 0) {
        const struct ax_attention_split *split =
            &e->splits[stage->window][item->split];
        size_t head_stride;
        size_t offset = partial_offset(&a, item, &head_stride);
        size_t n = (item->tile1 - item->tile0) *
                   axk_attention_partial_floats(a.head_dim);
        for (uint32_t g = 0; g < group; g++) {
            memcpy(split->partials + offset + g * head_stride,
                   from + g * head_stride, n * sizeof(float));
        }
        finish_piece(e, &a, item, split);
        return;
    }
    size_t first = (size_t)item->kv_head * group * a.head_dim;
    for (uint32_t q = item->q0; q < item->q1; q++) {
        memcpy(a.out + q * a.out_stride + first,
               from + (q - item->q0) * (size_t)a.n_head * a.head_dim + first,
               group * a.head_dim * sizeof(float));
    }
}
