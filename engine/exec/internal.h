/*
 * The open executor, shared by exec.c (life, checks, the step), stages.c (the
 * work of a stage) and attention.c (cutting attention into items).
 */
#ifndef AX_EXEC_INTERNAL_H
#define AX_EXEC_INTERNAL_H

#include <stdatomic.h>

#include "engine/exec/exec.h"
#include "engine/exec/program.h"
#include "engine/pool/pool.h"


/* Consecutive tokens of one sequence. */
struct ax_segment {
    const struct ax_kv_sequence *sequence;
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


struct ax_exec {
    const struct ax_model *model;
    const struct ax_plan *plan;
    const struct axk_ops *ops;
    struct ax_kv *kv;
    struct ax_kv_shape kv_shape;
    struct ax_exec_options options;
    struct ax_program program;
    struct ax_pool *pool;

    /* The job's tables: a phase is a stage, or a gate before one. */
    uint32_t *units;
    uint32_t *phase_stage;
    uint64_t *end_ns; /* NULL without counters */
    struct ax_exec_counter *counters;

    /* The step. */
    const struct ax_step *step;
    uint32_t n_selected;
    uint32_t *positions; /* [tokens] */
    uint32_t *selected;  /* [logits]: token index */
    uint64_t *seen;      /* [sequences]: step number */
    uint64_t step_number;
    uint32_t n_segments;
    struct ax_segment *segments;

    /* Attention items, per window of the plan. */
    uint32_t n_items[AX_PROGRAM_WINDOWS_MAX];
    struct ax_attention_item *items[AX_PROGRAM_WINDOWS_MAX];
    uint32_t splits_max;
    uint32_t n_splits[AX_PROGRAM_WINDOWS_MAX];
    struct ax_attention_split *splits[AX_PROGRAM_WINDOWS_MAX];
    _Atomic uint32_t *left; /* [splits][n_head_kv] */
    struct ax_arena partials;
};


/* Units [begin, end) of a stage; the pool's work function. */
void ax_exec_work(void *context, uint32_t phase, uint32_t begin, uint32_t end,
                  uint32_t thread);

/* Tables for attention at open; they go with ax_attention_close(). */
int ax_attention_open(struct ax_exec *e, struct ax_error *err);
void ax_attention_close(struct ax_exec *e);

/* Cuts the step's segments into items, for every window. */
void ax_attention_cut(struct ax_exec *e);

void ax_attention_run(struct ax_exec *e, const struct ax_stage *stage,
                      uint32_t begin, uint32_t end);

#endif /* AX_EXEC_INTERNAL_H */
