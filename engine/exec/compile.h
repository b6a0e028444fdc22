/*
 * State of the compiler, shared by compile.c, join.c (ops that become the end
 * of a matmul) and memory.c; gone after open.
 */
#ifndef AX_COMPILE_H
#define AX_COMPILE_H

#include "engine/exec/program.h"
#include "engine/pool/pool.h"


/* Stages between which a value must keep its memory. */
struct ax_lifetime {
    uint32_t first;
    uint32_t last;
    bool used;
};


struct ax_compile {
    struct ax_program *program;
    struct ax_error *err;
    uint32_t n_threads;
    uint32_t current;          /* the last stage */
    uint32_t layer;            /* of the op at hand */
    uint32_t layer_begun;      /* of the last stage */
    uint32_t group;            /* the last GROUP stage */
    uint32_t *version;         /* [n_values] writes so far */
    uint32_t *written;         /* [n_values] stage of the last */
    struct ax_lifetime *lives; /* [n_values] */
};


/* Whether the last stage is such a one. */
bool ax_compile_current_is(const struct ax_compile *c, enum ax_stage_kind kind,
                           bool selected);

/* The op of the stage reads v, or writes it. */
void ax_compile_touch(struct ax_compile *c, ax_value v, uint32_t stage);
void ax_compile_wrote(struct ax_compile *c, ax_value v, uint32_t stage);

/* True if the op has joined the matmuls whose results it reads: GATED, RMSNORM
 * of heads, ROPE; the KV write of an ATTENTION. */
bool ax_join_gated(struct ax_compile *c, const struct ax_plan_op *op);
bool ax_join_heads(struct ax_compile *c, const struct ax_plan_op *op);
bool ax_join_kv_write(struct ax_compile *c, const struct ax_plan_op *op);

/* True if the product of the last stage's gate and up is x, and is quantized
 * there: as the activation that is added next. */
bool ax_join_quantize(struct ax_compile *c, ax_value x, enum axk_act kind);

/* Behind all ops: units of the stages.  AXION_ERR_NO_MEMORY. */
int ax_join_units(struct ax_compile *c);

/* Gives every value, activation and table its memory. */
int ax_program_place(struct ax_compile *c);

#endif /* AX_COMPILE_H */
