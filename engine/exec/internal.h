/*
 * The open executor, shared by exec.c (life, checks, the step), stages.c (the
 * work of a stage in place), private.c (the same in private, for stages that
 * the pool may compute twice), finish.c (the end of a matmul), attention.c
 * (cutting attention into items), experts.c (rows by their experts) and
 * follow.c (weights that are not packed yet).
 *
 * What private work reads of the step lies here and not behind e->step: a
 * thread may come so late that the caller's memory is gone.
 */
#ifndef AX_EXEC_INTERNAL_H
#define AX_EXEC_INTERNAL_H

#include <stdatomic.h>

#include "engine/exec/exec.h"
#include "engine/exec/program.h"
#include "engine/model/packing.h"
#include "engine/pool/crew.h"
#include "engine/pool/pool.h"


/* Consecutive tokens of one sequence. */
struct ax_segment {
    struct ax_kv_sequence *sequence; /* while checking */
    const uint32_t *blocks; /* its tables, [groups][n_blocks], a copy */
    uint32_t n_blocks;
    uint32_t token0; /* index in the step */
    uint32_t n;
    uint32_t pos0;
};


/* A piece of attention: one KV head of some queries, or of some keys. */
struct ax_attention_item {
    uint32_t segment;
    uint32_t kv_head;
    uint32_t q0, q1;
    uint32_t tile0, tile1; /* of a split query; tile1 0: not split */
    uint32_t split;        /* index in splits */
};


/* A single query whose keys several threads share. */
struct ax_attention_split {
    float *partials;
    uint32_t pieces; /* per KV head */
    uint32_t left0;  /* its counters in left, one per KV head */
};


/* The rows of one expert, in routed values and activations. */
struct ax_expert_group {
    uint32_t expert;
    uint32_t row0; /* begins a tile */
    uint32_t n;
};


/* Which rows go where: of the last GROUP stage that was passed. */
struct ax_routing {
    uint32_t n_groups;
    struct ax_expert_group *groups; /* [n_expert] */
    uint32_t n_tiles;
    uint32_t *tile_group;   /* [routed rows / AXK_TILE] */
    uint32_t *sources;      /* [routed rows]: row of the step */
    uint32_t *places;       /* [rows][n_expert_used]: routed row */
    uint32_t *expert_group; /* [n_expert]: while grouping */
    uint32_t *stage_groups; /* [stages]: n_groups there, for counters */
    size_t gather_floats;   /* of one thread */
    float *gather;          /* [n_threads][AXK_TILE][widest k] */
    struct ax_arena arena;
};


/* Slots that a step writes of a block. */
struct ax_kv_written {
    uint32_t block;
    uint32_t slot0, slot1;
};


/* What a thread computes with, its own memory. */
struct ax_private {
    _Alignas(64) float *results; /* that are not committed yet */
    float **buffers; /* the program's, but for results of prologues */
    void **acts;     /* of prologues */
    uint64_t step;   /* of the last prologue that it did */
    uint32_t phase;
};


/* Row-local ops over rows [r0, r1) of n; see ax_stage_rows_run(). */
struct ax_rows {
    struct ax_exec *e;
    uint32_t r0, r1;
    uint32_t n;
    float *const *buffers;
    void *const *acts; /* NULL: the program's */
};


/* Rows [row0, row1) of a matrix for `rows` tokens, just made by a matmul. */
struct ax_finish {
    const struct ax_exec *e;
    uint32_t rows;
    uint32_t row0, row1;
    float *y; /* [rows][stride], column 0 is row0 */
    size_t stride;
};


struct ax_exec {
    const struct ax_model *model;
    const struct ax_plan *plan;
    const struct axk_ops *ops;
    struct ax_kv *kv;
    struct ax_kv_shape kv_shape;
    struct ax_exec_options options;
    struct ax_program program;
    struct ax_pool *pool;
    bool own_pool;
    struct ax_crew crew; /* of an own pool */
    uint32_t n_threads;  /* of this step; alone it works in place */

    /* The job's tables: a phase is a stage, or a gate before one. */
    uint32_t *units;
    uint32_t *piece_max;
    uint32_t *phase_stage;
    uint32_t *scale;  /* panels or items in a unit */
    bool *prologue;   /* the phase begins with its stage's prologue */
    uint64_t *end_ns; /* NULL without counters */
    struct ax_exec_counter *counters; /* [stages] */
    bool uncounted;                   /* the caller wants a pause */

    /* While weights are being packed; a step that finds all packed leaves it
     * NULL for ever. */
    struct ax_packing *packing;
    ax_packed *needs; /* [stages]: of this one and all before it */
    uint64_t waited_ns;

    /* The step. */
    const struct ax_step *step;
    uint32_t n_tokens;
    uint32_t n_selected;
    uint32_t *positions; /* [tokens] */
    uint32_t *selected;  /* [logits]: token index */
    uint64_t *seen;      /* [sequences]: step number */
    uint64_t step_number;
    uint32_t n_segments;
    struct ax_segment *segments;
    struct ax_arena tables; /* block tables of the segments */
    uint32_t n_written;     /* blocks of a group that the step writes */
    uint32_t written_max;
    struct ax_kv_written *written; /* [groups][written_max] */

    /* Attention items, per window of the plan. */
    uint32_t heads_max; /* of any layer */
    uint32_t n_items[AX_PROGRAM_WINDOWS_MAX];
    struct ax_attention_item *items[AX_PROGRAM_WINDOWS_MAX];
    uint32_t splits_max;
    uint32_t n_splits[AX_PROGRAM_WINDOWS_MAX];
    struct ax_attention_split *splits[AX_PROGRAM_WINDOWS_MAX];
    _Atomic uint32_t *left; /* [splits][n_head_kv] */
    struct ax_arena partials;

    struct ax_routing routing;

    struct ax_arena private_arena;
    struct ax_private *privates; /* [n_threads], NULL with one thread */
    size_t private_floats;       /* results of a thread, at most */
};


static inline uint32_t
ax_stage_rows(const struct ax_exec *e, const struct ax_stage *stage)
{
    return stage->selected ? e->n_selected : e->n_tokens;
}

/* Fills in needs. */
void ax_follow_open(struct ax_exec *e);

/* Before the stage's work, all before it done; AXION_OK when its weights may
 * be read, packing's error, or at_layer's number. */
int ax_follow(struct ax_exec *e, const struct ax_stage *stage);

/* A matmul over all rows of the stage, in place; and which rows of its matrix
 * are in units [begin, end) of the stage, false if none.  A piece asks always
 * with the same rows of the step. */
struct axk_matmul ax_stage_matmul(const struct ax_exec *e,
                                  const struct ax_mat_op *mat, uint32_t rows);
bool ax_stage_part(const struct ax_exec *e, const struct ax_stage *stage,
                   const struct ax_mat_op *mat, uint32_t rows, uint32_t begin,
                   uint32_t end, uint32_t *row0, uint32_t *row1);

/* K, V or both of one token of the step: elements [first, first + n). */
void ax_stage_kv_write(const struct ax_exec *e, const struct ax_plan_op *op,
                       uint32_t token, uint32_t first, uint32_t n,
                       const float *k, const float *v);

/* Ahead of the matmul: asks for the memory into which its rows [row0, row1)
 * will go, where that is KV.  n_written is the step's, as read while the piece
 * was held. */
void ax_finish_fetch(const struct ax_exec *e, const struct ax_stage *stage,
                     uint32_t mat, uint32_t row0, uint32_t row1,
                     uint32_t n_written);

/* What ends a matmul of the stage, by its index in mat_ops: any number of
 * times on fresh results, and what is done exactly once. */
void ax_finish_compute(const struct ax_finish *f, const struct ax_stage *stage,
                       uint32_t mat);
void ax_finish_commit(const struct ax_finish *f, const struct ax_stage *stage,
                      uint32_t mat);

/* out = activation(gate) * up for rows x n; out may be either. */
void ax_stage_gated(const struct ax_exec *e, const struct ax_plan_op *op,
                    uint32_t rows, uint32_t n, float *out, size_t out_stride,
                    const float *gate, size_t gate_stride, const float *up,
                    size_t up_stride);

/* Columns [row0, row1) of the stage's gated product, at x, into the activation
 * that it is quantized into, if there is one. */
void ax_stage_quantize(const struct ax_exec *e, const struct ax_stage *stage,
                       uint32_t rows, uint32_t row0, uint32_t row1,
                       const float *x, size_t x_stride);

/* All ops of a ROWS stage. */
void ax_stage_rows_run(const struct ax_rows *s, const struct ax_stage *stage);

/* An address so that index n of it is p[0]; only p's own part is touched. */
static inline float *
ax_private_at(float *p, size_t n)
{
    return (float *)((uintptr_t)p - n * sizeof(float));
}

/* The pool's functions: a piece of a stage in place, ... */
void ax_exec_work(void *context, const struct ax_pool_piece *piece);

/* ... or into the thread's private memory, and from there. */
bool ax_exec_compute(void *context, const struct ax_pool_piece *piece);
void ax_exec_commit(void *context, const struct ax_pool_piece *piece);

/* Memory for private work; it goes with ax_private_close(). */
int ax_private_open(struct ax_exec *e, struct ax_error *err);
void ax_private_close(struct ax_exec *e);

/* Units of a piece of this stage; 0: it is worked on in place. */
uint32_t ax_private_piece_max(const struct ax_exec *e,
                              const struct ax_stage *stage, uint32_t scale);

/* Tables for attention at open; they go with ax_attention_close(). */
int ax_attention_open(struct ax_exec *e, struct ax_error *err);
void ax_attention_close(struct ax_exec *e);

/* Cuts the step's segments into items, for every window. */
void ax_attention_cut(struct ax_exec *e);

/* Items [begin, end) in place. */
void ax_attention_run(struct ax_exec *e, const struct ax_stage *stage,
                      uint32_t begin, uint32_t end);

/* One item in private; floats it needs at most. */
size_t ax_attention_private_floats(const struct ax_exec *e);
bool ax_attention_compute(struct ax_exec *e, const struct ax_stage *stage,
                          const struct ax_pool_piece *piece);
void ax_attention_commit(struct ax_exec *e, const struct ax_stage *stage,
                         const struct ax_pool_piece *piece);

/* Tables for mixtures of experts at open; they go with ax_experts_close(). */
int ax_experts_open(struct ax_exec *e, struct ax_error *err);
void ax_experts_close(struct ax_exec *e);

/* Row r's experts by its logits: the ROUTE op. */
void ax_experts_route(const struct ax_exec *e, const float *logits,
                      float *route);

/* Row r of the COMBINE op: y += its experts' rows of x, weighted. */
void ax_experts_combine(const struct ax_exec *e, const struct ax_plan_op *op,
                        uint32_t r, const float *route, float *y);

/* A GROUP stage, on the caller's thread. */
void ax_experts_group(struct ax_exec *e, const struct ax_stage *stage);

/* Units of a GATHER (tiles) or EXPERTS stage (panels of groups), at most. */
uint32_t ax_experts_units(const struct ax_exec *e,
                          const struct ax_stage *stage);

/* Units [begin, end) of such, in place. */
void ax_experts_gather(struct ax_exec *e, const struct ax_stage *stage,
                       uint32_t begin, uint32_t end, uint32_t thread);
void ax_experts_matmul(struct ax_exec *e, const struct ax_stage *stage,
                       uint32_t begin, uint32_t end);

/* A piece of an EXPERTS stage in private. */
bool ax_experts_compute(struct ax_exec *e, const struct ax_stage *stage,
                        const struct ax_pool_piece *piece);
void ax_experts_commit(struct ax_exec *e, const struct ax_stage *stage,
                       const struct ax_pool_piece *piece);

/* Names at open; a step's times, from its phases' end_ns. */
void ax_counters_name(struct ax_exec *e);
void ax_counters_count(struct ax_exec *e, uint32_t n_phases, uint64_t start_ns);

#endif /* AX_EXEC_INTERNAL_H */
