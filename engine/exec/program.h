/*
 * A compiled plan: stages that the compute threads run one after the other.
 *
 * Three kinds of stage.  ROWS runs a list of row-local ops (norms, RoPE, KV
 * writes, gates, quantizing) over tiles of AXK_TILE rows, a tile through the
 * whole list while it is in cache.  MATMUL runs one or more matrices that
 * have their activations ready (Q, K, V; gate, up) as one range of units: a
 * panel of one of them, or a few that hold whole heads.  Gate and up are one
 * range of pairs, and activation(gate) * up the end of it.  Norms of heads,
 * RoPE and the KV write are done by who has computed the rows (finish.c), so
 * that nobody meets between Q, K, V and the attention.
 * ATTENTION runs items that attention.c cuts for each step.
 *
 * A mixture of experts has three more: GROUP, a gate where thread 0 sorts the
 * rows by expert; GATHER, which quantizes them in that order; EXPERTS, for
 * each expert that has rows the panels of its matrix.  experts.c has them.
 *
 * Between stages
 * all threads meet, so the compiler's aim is few of them: ops that can join
 * the stage before do, and an activation is quantized once for all matrices
 * that read it.
 *
 * A ROWS stage whose results only the MATMUL behind it reads (norm and
 * quantize, as a rule) can be a prologue: for a tile or less every thread does
 * it for itself, in its own memory, and they meet once less.
 *
 * Values and quantized activations get memory by lifetime: two share a slot
 * when one is last read in an earlier stage than the other is first written.
 *
 * Made at open from a plan and the batch's bounds; constant afterwards, but
 * for buffers[logits], which is the step's.
 */
#ifndef AX_PROGRAM_H
#define AX_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/model/plan.h"
#include "engine/pool/arena.h"


#define AX_PROGRAM_WINDOWS_MAX 8u
#define AX_COUNTER_NAME        64u


enum ax_stage_kind {
    AX_STAGE_ROWS,
    AX_STAGE_MATMUL,
    AX_STAGE_ATTENTION,
    AX_STAGE_GROUP,
    AX_STAGE_GATHER,
    AX_STAGE_EXPERTS
};


enum ax_row_kind {
    AX_ROW_ROPE_TABLE, /* rope: cosines and sines of the step's positions */
    AX_ROW_EMBED,
    AX_ROW_SELECT,
    AX_ROW_RMSNORM,
    AX_ROW_ROPE,
    AX_ROW_KV_WRITE, /* op is the attention whose K and V are stored */
    AX_ROW_GATED,
    AX_ROW_ADD,
    AX_ROW_SCALE,
    AX_ROW_SOFTCAP,
    AX_ROW_ROUTE,
    AX_ROW_COMBINE,
    AX_ROW_QUANTIZE /* act */
};


struct ax_row_op {
    enum ax_row_kind kind;
    uint32_t stage;
    const struct ax_plan_op *op; /* NULL for QUANTIZE, ROPE_TABLE */
    uint32_t act;
    ax_rope rope;
};


struct ax_mat_op {
    const struct ax_plan_op *op;
    uint32_t act;
    uint32_t unit0; /* of the stage's units */
    uint32_t units;
    /* Units of the matrix ahead of each of the stage's, and of its end, where
     * the matrices of a stage are mixed for more rows than a tile; or NULL. */
    const uint32_t *before;
    ax_value out; /* where results go: what finishing ops make of op's out */
    bool dropped; /* behind the KV write nobody reads out */
};


/* RMSNORM, ROPE or KV_WRITE on the rows that a matmul has just made. */
struct ax_finish_op {
    enum ax_row_kind kind;
    const struct ax_plan_op *op;
    uint32_t mat; /* whose rows: an index in mat_ops */
};


struct ax_stage {
    enum ax_stage_kind kind;
    uint32_t layer;
    bool layer_start; /* at_layer comes before it */
    bool selected;    /* rows are the wanted ones */
    uint32_t first;   /* in row_ops or mat_ops */
    uint32_t n;
    uint32_t units;       /* MATMUL: all together */
    uint32_t unit_panels; /* MATMUL: panels of one */
    uint32_t panels;      /* EXPERTS: of one expert */
    uint32_t finish;      /* MATMUL: in finish_ops */
    uint32_t n_finish;
    const struct ax_plan_op *attention;
    uint32_t window;   /* ATTENTION: index in windows */
    uint32_t prologue; /* MATMUL: its stage, or AX_NONE */
    /* MATMUL: its two matrices are gate and up, a piece has the same rows of
     * both, and ends with their product; or NULL. */
    const struct ax_plan_op *gated;
    /* MATMUL: the activation that the product is quantized into as well, or
     * AX_NONE; and whether somebody reads the floats. */
    uint32_t quantized;
    bool kept;
    /* GROUP: the ROUTE; GATHER, EXPERTS: the EXPERTS op */
    const struct ax_plan_op *experts;
    uint32_t act[2]; /* GATHER: [0]; EXPERTS: of its matrix and its up */
    uint32_t group;  /* GATHER, EXPERTS: the GROUP stage before it */
    uint32_t counter;
};


/* A quantized activation: one value at one time in one kind. */
struct ax_act {
    ax_value value;
    uint32_t version;
    bool routed; /* a row for each expert of a value's row */
    enum axk_act kind;
    uint32_t k;
    uint32_t ready; /* stage that quantizes it */
    uint32_t last;  /* stage that last reads it */
    void *data;
};


struct ax_program {
    const struct ax_plan *plan;
    uint32_t rows_max;     /* tokens of a step */
    uint32_t selected_max; /* rows with logits */
    uint32_t n_stages;
    struct ax_stage *stages;
    uint32_t n_row_ops;
    struct ax_row_op *row_ops;
    uint32_t n_mat_ops;
    struct ax_mat_op *mat_ops;
    uint32_t n_finish_ops;
    struct ax_finish_op *finish_ops;
    uint32_t *mixed; /* memory of before */
    uint32_t n_acts;
    struct ax_act *acts;
    float **buffers;     /* [plan->n_values] */
    size_t *strides;     /* floats, [plan->n_values] */
    float **rope_tables; /* [plan->n_ropes], [rows][n_rot] */
    uint32_t n_windows;
    uint32_t windows[AX_PROGRAM_WINDOWS_MAX];
    size_t prologue_bytes; /* results of the largest one, for a tile */
    uint32_t n_counters;
    char (*counters)[AX_COUNTER_NAME];
    struct ax_arena arena;
};


/*
 * Rows of a routed value for `rows` of the step, at most: sorted by expert,
 * those of each begin a tile.
 */
static inline uint32_t
ax_routed_rows(const struct ax_plan *plan, uint32_t rows)
{
    uint32_t pairs = rows * plan->n_expert_used;
    uint32_t groups = pairs < plan->n_expert ? pairs : plan->n_expert;

    return (pairs + groups * (AXK_TILE - 1)) / AXK_TILE * AXK_TILE;
}


/* AXION_ERR_NO_MEMORY, AXION_ERR_MODEL_UNSUPPORTED, AXION_ERR_INTERNAL. */
int ax_program_compile(struct ax_program *p, const struct ax_plan *plan,
                       uint32_t n_threads, uint32_t rows_max,
                       uint32_t selected_max, struct ax_error *err);
void ax_program_free(struct ax_program *p);

#endif /* AX_PROGRAM_H */
