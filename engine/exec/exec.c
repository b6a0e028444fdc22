/*
 * Opening an executor, checking a step, running it; exec.h has the contract.
 */
#include "engine/exec/internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>


static int
check_options(const struct ax_exec *e, struct ax_error *err)
{
    const struct ax_exec_options *o = &e->options;
    struct ax_kv_shape shape = ax_model_kv_shape(e->model);

    if (o->n_threads == 0 || o->n_threads > AX_POOL_THREADS_MAX) {
        return ax_error_set(err, AXION_ERR_BAD_OPTION,
                            "%u threads; 1 to %u expected", o->n_threads,
                            AX_POOL_THREADS_MAX);
    }
    if (o->batch_tokens_max == 0 || o->batch_tokens_max > AX_EXEC_BATCH_MAX ||
        o->logits_max == 0 || o->logits_max > o->batch_tokens_max ||
        o->sequences_max > o->batch_tokens_max) {
        return ax_error_set(err, AXION_ERR_BAD_OPTION,
                            "a batch of %u tokens, %u rows of logits, %u "
                            "sequences; 1 to %u tokens expected, and no more "
                            "of the others",
                            o->batch_tokens_max, o->logits_max,
                            o->sequences_max, AX_EXEC_BATCH_MAX);
    }
    if (shape.n_layer != e->kv_shape.n_layer ||
        shape.n_head_kv != e->kv_shape.n_head_kv ||
        shape.head_dim != e->kv_shape.head_dim) {
        return ax_error_set(err, AXION_ERR_BAD_OPTION,
                            "the KV pool is of another model");
    }
    return AXION_OK;
}


static int
allocate(struct ax_exec *e, struct ax_error *err)
{
    const struct ax_exec_options *o = &e->options;
    size_t phases = 2 * (size_t)e->program.n_stages;

    e->units = calloc(phases, sizeof(*e->units));
    e->piece_max = calloc(phases, sizeof(*e->piece_max));
    e->phase_stage = calloc(phases, sizeof(*e->phase_stage));
    e->scale = calloc(phases, sizeof(*e->scale));
    e->prologue = calloc(phases, sizeof(*e->prologue));
    e->end_ns = o->counters ? calloc(phases, sizeof(*e->end_ns)) : NULL;
    e->counters = calloc(e->program.n_stages, sizeof(*e->counters));
    e->positions = calloc(o->batch_tokens_max, sizeof(*e->positions));
    e->selected = calloc(o->logits_max, sizeof(*e->selected));
    e->seen = calloc(o->sequences_max, sizeof(*e->seen));
    e->segments = calloc(o->sequences_max, sizeof(*e->segments));
    e->needs = calloc(e->program.n_stages, sizeof(*e->needs));
    e->written_max =
        2 * o->sequences_max + o->batch_tokens_max / AX_KV_BLOCK_TOKENS;
    e->written = calloc((size_t)e->written_max * ax_kv_groups(e->kv),
                        sizeof(*e->written));
    if (e->units == NULL || e->phase_stage == NULL ||
        (o->counters && e->end_ns == NULL) || e->counters == NULL ||
        e->positions == NULL || e->selected == NULL || e->seen == NULL ||
        e->segments == NULL || e->piece_max == NULL || e->scale == NULL ||
        e->prologue == NULL || e->needs == NULL || e->written == NULL) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    ax_counters_name(e);
    if (e->packing != NULL) {
        ax_follow_open(e);
    }
    size_t table = ax_kv_blocks_for(ax_model_info(e->model)->n_ctx);
    table = table * ax_kv_groups(e->kv) * sizeof(uint32_t) + AX_ARENA_ALIGN;
    if (ax_arena_open(&e->tables, table * o->sequences_max) != AXION_OK) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY,
                            "no memory for block tables");
    }
    return AXION_OK;
}


static int
take_pool(struct ax_exec *e, struct ax_error *err)
{
    uint32_t phases = 2 * e->program.n_stages;

    if (e->options.pool != NULL &&
        phases <= ax_pool_phases_max(e->options.pool)) {
        e->pool = e->options.pool;
        return AXION_OK;
    }
    e->own_pool = true;
    ax_crew_init(&e->crew, e->options.n_threads);
    return ax_pool_start(&e->pool, e->options.n_threads, phases, err);
}


int
ax_exec_open(struct ax_exec **out, const struct ax_model *model,
             struct ax_kv *kv, const struct ax_exec_options *options,
             struct ax_error *err)
{
    struct ax_exec *e = calloc(1, sizeof(*e));

    *out = NULL;
    if (e == NULL) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    e->model = model;
    e->plan = ax_model_plan(model);
    e->ops = ax_model_ops(model);
    e->packing = ax_model_packing(model);
    e->kv = kv;
    e->kv_shape = ax_kv_shape(kv);
    e->options = *options;
    if (e->options.sequences_max == 0) {
        e->options.sequences_max = e->options.batch_tokens_max;
    }
    int rc = check_options(e, err);
    if (rc == AXION_OK) {
        rc = ax_program_compile(&e->program, e->plan, e->options.n_threads,
                                e->options.batch_tokens_max,
                                e->options.logits_max, err);
    }
    if (rc == AXION_OK) {
        rc = allocate(e, err);
    }
    if (rc == AXION_OK) {
        rc = ax_attention_open(e, err);
    }
    if (rc == AXION_OK) {
        rc = ax_experts_open(e, err);
    }
    if (rc == AXION_OK) {
        rc = ax_private_open(e, err);
    }
    if (rc == AXION_OK) {
        rc = take_pool(e, err);
    }
    if (rc != AXION_OK) {
        ax_exec_close(e);
        return rc;
    }
    *out = e;
    return AXION_OK;
}


struct ax_pool *
ax_exec_pool(const struct ax_exec *e)
{
    return e->pool;
}


void
ax_exec_close(struct ax_exec *e)
{
    if (e == NULL) {
        return;
    }
    if (e->own_pool) {
        ax_pool_stop(e->pool);
    }
    ax_private_close(e);
    ax_attention_close(e);
    ax_experts_close(e);
    ax_arena_close(&e->tables);
    ax_program_free(&e->program);
    free(e->written);
    free(e->needs);
    free(e->segments);
    free(e->seen);
    free(e->selected);
    free(e->positions);
    free(e->counters);
    free(e->end_ns);
    free(e->prologue);
    free(e->scale);
    free(e->phase_stage);
    free(e->piece_max);
    free(e->units);
    free(e);
}


uint32_t
ax_exec_threads(const struct ax_exec *e)
{
    return e->n_threads;
}


uint64_t
ax_exec_cpu_ns(const struct ax_exec *e)
{
    return ax_pool_cpu_ns(e->pool);
}


uint64_t
ax_exec_bytes(const struct ax_exec *e)
{
    return e->program.arena.bytes + e->partials.bytes + e->private_arena.bytes +
           e->tables.bytes + e->routing.arena.bytes;
}


/*
 * The segment's tables, [groups][blocks], for threads that may come late; room
 * is for all.  What is behind a window keeps numbers of earlier steps: they
 * are blocks as well, so a late thread reads valid memory.
 */
static const uint32_t *
copy_tables(struct ax_exec *e, const struct ax_kv_sequence *seq)
{
    uint32_t groups = ax_kv_groups(e->kv);
    size_t row = seq->n_blocks;
    uint32_t *tables =
        ax_arena_take(&e->tables, groups * row * sizeof(*tables));

    assert(tables != NULL);
    for (uint32_t g = 0; g < groups; g++) {
        struct ax_kv_held held = ax_kv_held(e->kv, seq, g);
        memcpy(tables + g * row + held.first,
               seq->blocks + (size_t)g * seq->blocks_max + held.first,
               (held.end - held.first) * sizeof(*tables));
    }
    return tables;
}


/* The blocks that the segment's tokens go to, of every group. */
static void
list_written(struct ax_exec *e, const struct ax_segment *s)
{
    uint32_t end = s->pos0 + s->n;

    for (uint32_t pos = s->pos0; pos < end;) {
        uint32_t i = pos / AX_KV_BLOCK_TOKENS;
        uint32_t next = (i + 1) * AX_KV_BLOCK_TOKENS;
        struct ax_kv_written w = {
            .slot0 = pos % AX_KV_BLOCK_TOKENS,
            .slot1 = (next < end ? next - 1 : end - 1) % AX_KV_BLOCK_TOKENS + 1,
        };
        assert(e->n_written < e->written_max);
        for (uint32_t g = 0; g < ax_kv_groups(e->kv); g++) {
            w.block = s->blocks[g * (size_t)s->n_blocks + i];
            e->written[g * (size_t)e->written_max + e->n_written] = w;
        }
        e->n_written++;
        pos = next;
    }
}


/* The segments are whole: their windows move on, and what they hold stays as
 * it is until the step is over. */
static int
move_windows(struct ax_exec *e)
{
    e->n_written = 0;
    for (uint32_t i = 0; i < e->n_segments; i++) {
        struct ax_segment *s = &e->segments[i];
        int rc = ax_kv_window(e->kv, s->sequence, s->pos0, s->pos0 + s->n);
        if (rc != AXION_OK) {
            return rc;
        }
        s->blocks = copy_tables(e, s->sequence);
        s->n_blocks = s->sequence->n_blocks;
        list_written(e, s);
    }
    return AXION_OK;
}


/* A token goes on in the present segment or opens one. */
static int
place_token(struct ax_exec *e, uint32_t i)
{
    const struct ax_step *step = e->step;
    const struct ax_step_token *t = &step->tokens[i];

    if (t->sequence >= step->n_sequences) {
        return AXION_ERR_INTERNAL;
    }
    struct ax_kv_sequence *seq = step->sequences[t->sequence];
    if (t->position >= seq->n_tokens ||
        seq->n_blocks != ax_kv_blocks_for(seq->n_tokens) ||
        seq->n_tokens > ax_model_info(e->model)->n_ctx ||
        t->position >= ax_model_info(e->model)->n_ctx) {
        return AXION_ERR_INTERNAL;
    }
    e->positions[i] = t->position;
    if (e->n_segments > 0) {
        struct ax_segment *last = &e->segments[e->n_segments - 1];
        if (last->sequence == seq && t->position == last->pos0 + last->n) {
            last->n++;
            return AXION_OK;
        }
    }
    if (e->seen[t->sequence] == e->step_number) {
        return AXION_ERR_INTERNAL;
    }
    e->seen[t->sequence] = e->step_number;
    e->segments[e->n_segments++] = (struct ax_segment){
        .sequence = seq,
        .token0 = i,
        .n = 1,
        .pos0 = t->position,
    };
    return AXION_OK;
}


/* Everything that a step says is bounded here, before any thread runs. */
static int
check_step(struct ax_exec *e)
{
    const struct ax_step *step = e->step;
    uint32_t n_vocab = ax_model_info(e->model)->n_vocab;
    uint32_t rows = 0;

    if (step->n_tokens > e->options.batch_tokens_max ||
        step->n_logits > e->options.logits_max ||
        step->n_sequences > e->options.sequences_max ||
        (step->n_logits > 0 && step->logits == NULL)) {
        return AXION_ERR_INTERNAL;
    }
    for (uint32_t r = 0; r < step->n_logits; r++) {
        e->selected[r] = AX_NO_LOGITS;
    }
    for (uint32_t i = 0; i < step->n_tokens; i++) {
        const struct ax_step_token *t = &step->tokens[i];
        if (t->token < 0 || (uint32_t)t->token >= n_vocab) {
            return AXION_ERR_INVALID_TOKEN;
        }
        int rc = place_token(e, i);
        if (rc != AXION_OK) {
            return rc;
        }
        if (t->logits_row == AX_NO_LOGITS) {
            continue;
        }
        if (t->logits_row >= step->n_logits ||
            e->selected[t->logits_row] != AX_NO_LOGITS) {
            return AXION_ERR_INTERNAL;
        }
        e->selected[t->logits_row] = i;
        rows++;
    }
    return rows == step->n_logits ? move_windows(e) : AXION_ERR_INTERNAL;
}


static uint32_t
stage_units(const struct ax_exec *e, const struct ax_stage *stage)
{
    uint32_t rows = ax_stage_rows(e, stage);

    switch (stage->kind) {
    case AX_STAGE_ROWS:
        return axk_act_tiles(rows);
    case AX_STAGE_MATMUL:
        return rows == 0 ? 0 : stage->units;
    case AX_STAGE_ATTENTION:
        return e->n_items[stage->window];
    default:
        return ax_experts_units(e, stage);
    }
}


/* Whether the stage's prologue is done by every thread for itself. */
static bool
with_prologue(const struct ax_exec *e, const struct ax_stage *stage)
{
    return e->n_threads > 1 && stage->prologue != AX_NONE &&
           axk_act_tiles(ax_stage_rows(e, stage)) == 1;
}


static void
add_stage(struct ax_exec *e, uint32_t s, uint32_t phase)
{
    const struct ax_stage *stage = &e->program.stages[s];
    if (stage->kind == AX_STAGE_GROUP) {
        e->phase_stage[phase] = s;
        e->units[phase] = AX_POOL_GATE;
        return;
    }
    uint32_t n = stage_units(e, stage);
    uint32_t scale = n <= AX_POOL_UNITS_MAX ? 1 : n / AX_POOL_UNITS_MAX + 1;

    e->phase_stage[phase] = s;
    e->scale[phase] = scale;
    e->units[phase] = n / scale + (n % scale != 0);
    e->piece_max[phase] = n == 0 ? 0 : ax_private_piece_max(e, stage, scale);
    e->prologue[phase] = with_prologue(e, stage);
}


/* Whether a gate comes before the stage: someone is asked, or waited for. */
static bool
with_gate(const struct ax_exec *e, uint32_t s)
{
    return (e->program.stages[s].layer_start && e->step->at_layer != NULL) ||
           (e->packing != NULL && e->needs[s] > (s > 0 ? e->needs[s - 1] : 0) &&
            !ax_packing_reached(e->packing, e->needs[s]));
}


static uint32_t
list_phases(struct ax_exec *e)
{
    const struct ax_program *p = &e->program;
    uint32_t n = 0;

    for (uint32_t s = 0; s < p->n_stages; s++) {
        const struct ax_stage *stage = &p->stages[s];
        if (with_gate(e, s)) {
            e->phase_stage[n] = s;
            e->units[n++] = AX_POOL_GATE;
        }
        if (s + 1 == p->n_stages || stage[1].prologue != s ||
            !with_prologue(e, &stage[1])) {
            add_stage(e, s, n++);
        }
    }
    return n;
}


static int
gate(void *context, uint32_t phase)
{
    struct ax_exec *e = context;
    const struct ax_stage *stage = &e->program.stages[e->phase_stage[phase]];

    if (stage->kind == AX_STAGE_GROUP) {
        ax_experts_group(e, stage);
        return AXION_OK;
    }
    int rc = e->packing != NULL ? ax_follow(e, stage) : AXION_OK;
    return rc == AXION_OK && stage->layer_start && e->step->at_layer != NULL
               ? e->step->at_layer(e->step->context, stage->layer)
               : rc;
}


/* On another executor's threads: as many as that one finds good. */
static uint32_t
threads_of_step(const struct ax_exec *e)
{
    if (e->own_pool) {
        return ax_crew_threads(&e->crew, e->n_tokens);
    }
    return e->n_tokens > AX_CREW_TOKENS_MAX ? ax_pool_threads(e->pool)
                                            : ax_pool_crew(e->pool);
}


/* What each thread has done so far. */
static void
read_units(const struct ax_exec *e, uint64_t *units)
{
    for (uint32_t t = 0; t < e->n_threads; t++) {
        units[t] = ax_pool_units(e->pool, t);
    }
}


/* Runs the job; the crew learns how long it took, and whether threads had
 * done their shares. */
static int
run_and_learn(struct ax_exec *e, const struct ax_pool_job *job)
{
    uint64_t before[AX_POOL_THREADS_MAX], after[AX_POOL_THREADS_MAX];
    struct ax_crew_step s = {
        .n_tokens = e->n_tokens,
        .n_threads = e->n_threads,
    };

    read_units(e, before);
    s.start_ns = ax_pool_clock_ns();
    int rc = ax_pool_run(e->pool, job);
    s.end_ns = ax_pool_clock_ns();
    read_units(e, after);
    for (uint32_t t = 0; t < e->n_threads; t++) {
        s.units += after[t] - before[t];
    }
    for (uint32_t t = 0; t < e->n_threads; t++) {
        uint64_t share = s.units / e->n_threads, done = after[t] - before[t];
        s.missed += done < share ? share - done : 0;
    }
    /* A step that waited for weights says nothing. */
    if (rc == AXION_OK && e->own_pool && e->packing == NULL) {
        ax_crew_learn(&e->crew, &s);
    }
    if (rc == AXION_OK && e->end_ns != NULL) {
        ax_counters_count(e, job->n_phases, s.start_ns);
    }
    return rc;
}


int
ax_exec_step(struct ax_exec *e, const struct ax_step *step)
{
    e->step = step;
    e->n_tokens = step->n_tokens;
    e->tables.used = 0;
    e->n_selected = step->n_logits;
    e->n_segments = 0;
    e->step_number++;
    e->waited_ns = 0;
    if (e->packing != NULL &&
        ax_packing_reached(e->packing, ax_packing_all(e->packing))) {
        e->packing = NULL;
    }
    int rc = check_step(e);
    if (rc != AXION_OK || step->n_tokens == 0) {
        return rc;
    }
    e->n_threads = threads_of_step(e);
    ax_attention_cut(e);
    e->program.buffers[e->plan->logits] = step->logits;
    struct ax_pool_job job = {
        .n_threads = e->n_threads,
        .n_phases = list_phases(e),
        .units = e->units,
        .piece_max = e->piece_max,
        .context = e,
        .work = ax_exec_work,
        .compute = ax_exec_compute,
        .commit = ax_exec_commit,
        .gate = gate,
        .end_ns = e->end_ns,
    };
    return run_and_learn(e, &job);
}
