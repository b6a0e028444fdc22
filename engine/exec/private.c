/*
 * The work of a stage in private, so that a piece which a preempted thread
 * holds can be computed by another (engine/pool/pool.h has the rules).
 *
 * A thread computes a piece of a matmul or an item of attention into memory
 * of its own and, when the piece is still to be had, copies it to where it
 * belongs.  The copy is small beside the work: a panel of 32 rows is 128 bytes
 * for a token and many kilobytes of weights.  K and V are not copied: they go
 * from there into their KV blocks.  Row-local stages work in place:
 * they are short, and many of them change what they read.
 *
 * A prologue (program.h) goes into the thread's memory as well, ahead of its
 * first piece of the matmul; nobody else ever sees it.
 *
 * Where a step has one thread there is nobody to wait for: all is in place.
 */
#include "engine/exec/internal.h"

#include <stdlib.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif


/* Results of a piece of a matmul: half of a small L2.  A unit of large heads
 * may be more, for up to this many tokens. */
#define MATMUL_FLOATS 32768u
#define UNIT_TOKENS   512u

#define CACHE_LINE 64u

/* Asked for ahead of a prologue: as many lines as a core can wait for. */
#define FIRST_BYTES 2048u


static size_t
aligned(size_t bytes)
{
    return (bytes + AX_ARENA_ALIGN - 1) & ~(size_t)(AX_ARENA_ALIGN - 1);
}


/* Results of all prologues go to the same place, one after the other. */
static void
place_prologues(const struct ax_exec *e, struct ax_private *private,
                char *memory)
{
    const struct ax_program *p = &e->program;

    for (uint32_t s = 0; s < p->n_stages; s++) {
        if (p->stages[s].prologue == AX_NONE) {
            continue;
        }
        const struct ax_stage *stage = &p->stages[p->stages[s].prologue];
        char *at = memory;
        for (uint32_t i = 0; i < stage->n; i++) {
            const struct ax_row_op *op = &p->row_ops[stage->first + i];
            if (op->kind == AX_ROW_QUANTIZE) {
                const struct ax_act *act = &p->acts[op->act];
                private->acts[op->act] = at;
                at += aligned(axk_act_bytes(act->kind, AXK_TILE, act->k));
            } else {
                private->buffers[op->op->out] = (float *)(void *)at;
                at +=
                    aligned(AXK_TILE * sizeof(float) * p->strides[op->op->out]);
            }
        }
    }
}


static int
open_thread(struct ax_exec *e, struct ax_private *private, size_t results)
{
    const struct ax_program *p = &e->program;
    uint32_t n_values = e->plan->n_values;

    private->results = ax_arena_take(&e->private_arena, results);
    char *memory = ax_arena_take(&e->private_arena, p->prologue_bytes);
    private->buffers = calloc(n_values + 1, sizeof(*private->buffers));
    private->acts = calloc(p->n_acts + 1, sizeof(*private->acts));
    if (private->buffers == NULL || private->acts == NULL) {
        return AXION_ERR_NO_MEMORY;
    }
    memcpy(private->buffers, p->buffers, n_values * sizeof(*p->buffers));
    place_prologues(e, private, memory);
    return AXION_OK;
}


/* Room for one unit of any stage. */
static size_t
unit_floats(const struct ax_exec *e)
{
    uint32_t tokens = e->options.batch_tokens_max;
    size_t floats = MATMUL_FLOATS;

    tokens = tokens < UNIT_TOKENS ? tokens : UNIT_TOKENS;
    for (uint32_t s = 0; s < e->program.n_stages; s++) {
        size_t unit =
            (size_t)e->program.stages[s].unit_panels * AXK_PANEL_ROWS * tokens;
        floats = unit > floats ? unit : floats;
    }
    return floats;
}


int
ax_private_open(struct ax_exec *e, struct ax_error *err)
{
    uint32_t n = e->options.n_threads;
    size_t floats = ax_attention_private_floats(e);
    size_t unit = unit_floats(e);
    int rc = AXION_OK;

    if (n == 1) {
        return AXION_OK;
    }
    floats = floats > unit ? floats : unit;
    e->private_floats = floats;
    size_t results = aligned(floats * sizeof(float));
    size_t bytes = results + aligned(e->program.prologue_bytes);
    e->privates = aligned_alloc(64, n * sizeof(*e->privates));
    if (e->privates != NULL) {
        memset(e->privates, 0, n * sizeof(*e->privates));
        rc = ax_arena_open(&e->private_arena, bytes * n);
    }
    for (uint32_t t = 0; t < n && e->privates != NULL && rc == AXION_OK; t++) {
        rc = open_thread(e, &e->privates[t], results);
    }
    return e->privates != NULL && rc == AXION_OK
               ? AXION_OK
               : ax_error_set(err, AXION_ERR_NO_MEMORY,
                              "no memory for the threads' results");
}


void
ax_private_close(struct ax_exec *e)
{
    for (uint32_t t = 0; t < e->options.n_threads && e->privates != NULL; t++) {
        free(e->privates[t].acts);
        free(e->privates[t].buffers);
    }
    free(e->privates);
    ax_arena_close(&e->private_arena);
}


uint32_t
ax_private_piece_max(const struct ax_exec *e, const struct ax_stage *stage,
                     uint32_t scale)
{
    if (e->n_threads > 1 && stage->kind == AX_STAGE_ATTENTION) {
        return scale == 1 ? 1 : 0;
    }
    if (e->n_threads == 1 ||
        (stage->kind != AX_STAGE_MATMUL && stage->kind != AX_STAGE_EXPERTS)) {
        return 0;
    }
    bool two = stage->gated != NULL ||
               (stage->experts != NULL && stage->experts->up != AX_NONE);
    uint32_t panels = (two ? 2 : 1) * /* of a unit */
                      (stage->unit_panels > 1 ? stage->unit_panels : 1);
    size_t floats =
        (size_t)AXK_PANEL_ROWS * scale * panels * ax_stage_rows(e, stage);
    return floats > MATMUL_FLOATS && floats <= e->private_floats
               ? 1
               : (uint32_t)(MATMUL_FLOATS / floats);
}


/* All threads are at their prologues at the same time, and nobody reads
 * weights: the first of the piece's come meanwhile. */
static void
fetch_first(const struct ax_exec *e, const struct ax_stage *stage,
            uint32_t rows, uint32_t begin, uint32_t end)
{
    uint32_t i = stage->first, row0, row1;
    enum axk_status status;

    while (i < stage->first + stage->n &&
           !ax_stage_part(e, stage, &e->program.mat_ops[i], rows, begin, end,
                          &row0, &row1)) {
        i++;
    }
    if (i == stage->first + stage->n) {
        return;
    }
    const struct ax_plan_matrix *m =
        &e->plan->matrices[e->program.mat_ops[i].op->matrix];
    size_t panel =
        axk_packed_bytes(m->tensor->format, AXK_PANEL_ROWS, m->k, &status);
    const char *at = (const char *)m->packed + row0 / AXK_PANEL_ROWS * panel;
    for (size_t b = 0; b < FIRST_BYTES && b < panel; b += CACHE_LINE) {
        __builtin_prefetch(at + b, 0, 2);
    }
}


/* Once per thread and phase, for all rows of the step: a tile at most. */
static void
run_prologue(struct ax_exec *e, const struct ax_stage *stage, uint32_t rows,
             struct ax_private *private)
{
    struct ax_rows s = {
        .e = e,
        .r1 = rows,
        .n = rows,
        .buffers = private->buffers,
        .acts = private->acts,
    };

    ax_stage_rows_run(&s, &e->program.stages[stage->prologue]);
}


static bool
compute_matmul(struct ax_exec *e, const struct ax_stage *stage,
               const struct ax_pool_piece *piece)
{
    struct ax_private *private = &e->privates[piece->thread];
    uint32_t scale = e->scale[piece->phase];
    uint32_t rows = ax_stage_rows(e, stage);
    bool prologue = e->prologue[piece->phase];
    uint64_t step = e->step_number;
    float *out = private->results;
    uint32_t n_written = e->n_written;
    uint32_t row0 = 0, row1 = 0;

    if (!ax_pool_holds(piece)) {
        return false;
    }
    for (uint32_t i = stage->first; i < stage->first + stage->n; i++) {
        if (ax_stage_part(e, stage, &e->program.mat_ops[i], rows,
                          piece->begin * scale, piece->end * scale, &row0,
                          &row1)) {
            ax_finish_fetch(e, stage, i, row0, row1, n_written);
        }
    }
    if (prologue && (private->step != step || private->phase != piece->phase)) {
        fetch_first(e, stage, rows, piece->begin * scale, piece->end * scale);
        run_prologue(e, stage, rows, private);
        private->step = step;
        private->phase = piece->phase;
    }
    for (uint32_t i = 0; i < stage->n; i++) {
        const struct ax_mat_op *mat = &e->program.mat_ops[stage->first + i];
        if (!ax_stage_part(e, stage, mat, rows, piece->begin * scale,
                           piece->end * scale, &row0, &row1)) {
            continue;
        }
        struct axk_matmul a = ax_stage_matmul(e, mat, rows);
        a.act = prologue ? private->acts[mat->act] : a.act;
        a.y = ax_private_at(out, row0);
        a.y_stride = row1 - row0;
        a.accumulate = false;
        e->ops->matmul(&a, row0, row1);
        struct ax_finish f = {e, rows, row0, row1, out, a.y_stride};
        ax_finish_compute(&f, stage, stage->first + i);
        out += rows * a.y_stride;
    }
    if (stage->gated != NULL) {
        float *gate = private->results;
        uint32_t n = row1 - row0;
        ax_stage_gated(e, stage->gated, rows, n, gate, n, gate, n,
                       gate + (size_t)rows * n, n);
    }
    return true;
}


/* A copy that goes to memory, past the caches, where whole lines are written;
 * ordered by copied_past_caches(). */
static void
copy_past_caches(float *y, const float *from, uint32_t n)
{
#if defined(__SSE2__)
    if (((uintptr_t)y | n * sizeof(float)) % CACHE_LINE == 0) {
        for (uint32_t i = 0; i < n; i += 4) {
            _mm_stream_ps(y + i, _mm_loadu_ps(from + i));
        }
        return;
    }
#endif
    memcpy(y, from, n * sizeof(float));
}


static void
copied_past_caches(void)
{
#if defined(__SSE2__)
    _mm_sfence();
#endif
}


/* Columns [row0, row1) of a value, [rows][row1 - row0] in from. */
static void
commit_columns(const struct ax_exec *e, ax_value v, bool add, uint32_t rows,
               uint32_t row0, uint32_t row1, const float *from)
{
    uint32_t n = row1 - row0;
    /* Logits of many sequences are megabytes that nobody reads in this step:
     * through the caches each line is read before it is written, and takes the
     * place of one that is needed. */
    bool past = v == e->plan->logits && rows > AXK_TILE && !add;

    for (uint32_t r = 0; r < rows; r++, from += n) {
        float *y = e->program.buffers[v] + r * e->program.strides[v] + row0;
        if (add) {
            e->ops->add(y, y, from, n);
        } else if (past) {
            copy_past_caches(y, from, n);
        } else {
            memcpy(y, from, n * sizeof(float));
        }
    }
    if (past) {
        copied_past_caches();
    }
}


static void
commit_matmul(struct ax_exec *e, const struct ax_stage *stage,
              const struct ax_pool_piece *piece)
{
    uint32_t scale = e->scale[piece->phase];
    uint32_t rows = ax_stage_rows(e, stage);
    float *from = e->privates[piece->thread].results;
    uint32_t n = stage->gated != NULL ? 1 : stage->n;
    uint32_t row0, row1;

    for (uint32_t i = 0; i < n; i++) {
        const struct ax_mat_op *mat = &e->program.mat_ops[stage->first + i];
        if (!ax_stage_part(e, stage, mat, rows, piece->begin * scale,
                           piece->end * scale, &row0, &row1)) {
            continue;
        }
        struct ax_finish f = {e, rows, row0, row1, from, row1 - row0};
        ax_finish_commit(&f, stage, stage->first + i);
        if (stage->gated != NULL) {
            ax_stage_quantize(e, stage, rows, row0, row1, from, row1 - row0);
        }
        if (!mat->dropped && (stage->quantized == AX_NONE || stage->kept)) {
            ax_value v = stage->gated != NULL ? stage->gated->out : mat->out;
            commit_columns(e, v, mat->op->accumulate, rows, row0, row1, from);
        }
        from += (size_t)rows * (row1 - row0);
    }
}


/* A late thread may find another stage here: then it does not hold on. */
static const struct ax_stage *
stage_of(const struct ax_exec *e, const struct ax_pool_piece *piece)
{
    return &e->program.stages[e->phase_stage[piece->phase]];
}


bool
ax_exec_compute(void *context, const struct ax_pool_piece *piece)
{
    struct ax_exec *e = context;
    const struct ax_stage *stage = stage_of(e, piece);

    if (!ax_pool_holds(piece)) {
        return false;
    }
    if (stage->kind == AX_STAGE_EXPERTS) {
        return ax_experts_compute(e, stage, piece);
    }
    return stage->kind == AX_STAGE_MATMUL
               ? compute_matmul(e, stage, piece)
               : ax_attention_compute(e, stage, piece);
}


void
ax_exec_commit(void *context, const struct ax_pool_piece *piece)
{
    struct ax_exec *e = context;
    const struct ax_stage *stage = stage_of(e, piece);

    if (stage->kind == AX_STAGE_MATMUL) {
        commit_matmul(e, stage, piece);
    } else if (stage->kind == AX_STAGE_EXPERTS) {
        ax_experts_commit(e, stage, piece);
    } else {
        ax_attention_commit(e, stage, piece);
    }
}
