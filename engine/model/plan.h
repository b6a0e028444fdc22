/*
 * The plan: a model's forward pass as a list of ops over named-by-number
 * values, and the tensors that it needs.
 *
 * A family (family.h) appends ops while the model opens; the executor
 * compiles the list once for its batch size and runs it for every step.  The
 * list says what is computed, in order, and nothing about threads, buffers,
 * quantized activations or KV blocks: those are the compiler's.
 *
 * A value is a matrix [rows][width] f32.  Its rows are the step's tokens, or,
 * behind ax_plan_select(), the rows that logits are wanted for.  A routed
 * value has a row for each expert of each of these.  Ops return the value
 * they write.  rope, add, matmul_add and combine change a value in place.
 *
 * Errors are sticky: the first one is kept in plan->err, every later call
 * does nothing, so a family reads as a straight list.  After describing the
 * plan never changes.  Tensors are named here and filled in by weights.c.
 */
#ifndef AX_PLAN_H
#define AX_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/error.h"
#include "engine/gguf/gguf.h"
#include "kernels/axk.h"


#define AX_NONE            UINT32_MAX
#define AX_PLAN_WIDTH_MAX  AXK_DIM_MAX
#define AX_PLAN_LAYERS_MAX 1024u

/* A mixture: experts of a layer, and those that a token goes to. */
#define AX_PLAN_EXPERTS_MAX      1024u
#define AX_PLAN_EXPERTS_USED_MAX 64u


typedef uint32_t ax_value;  /* index into plan->values */
typedef uint32_t ax_matrix; /* index into plan->matrices, or AX_NONE */
typedef uint32_t ax_vector; /* index into plan->vectors, or AX_NONE */
typedef uint32_t ax_rope;   /* index into plan->ropes */


enum ax_plan_kind {
    AX_OP_EMBED,     /* out = row `token` of matrix, times scale */
    AX_OP_RMSNORM,   /* out = rmsnorm(a) * vector, over the whole row or
                        each head_dim of it */
    AX_OP_MATMUL,    /* out (+)= matrix * a + vector */
    AX_OP_ROPE,      /* out = a, rotated in place */
    AX_OP_ATTENTION, /* out = attention of a over the cache; b, c are K, V
                        of this step's tokens */
    AX_OP_GATED,     /* out = activation(a) * b */
    AX_OP_ADD,       /* out += a */
    AX_OP_SCALE,     /* out = a * scale, in place */
    AX_OP_SOFTCAP,   /* out = scale * tanh(a / scale), in place */
    AX_OP_SELECT,    /* out = the rows of a that logits are wanted for */
    AX_OP_ROUTE,     /* out = the experts of each row of logits a, the most
                        probable first, behind them their weights */
    AX_OP_EXPERTS,   /* out = for each row of a and each of its experts:
                        activation(matrix * a) * (up * a), or matrix * a
                        where there is no up; c is room for up * a */
    AX_OP_COMBINE    /* out += a row's experts' rows of a, weighted by b */
};


enum ax_activation { AX_SILU, AX_GELU_TANH };


struct ax_plan_value {
    uint32_t width;
    bool selected; /* rows are the wanted ones */
    bool routed;   /* a row for each expert of each of them */
};


struct ax_plan_matrix {
    const struct ax_gguf_tensor *tensor;
    uint32_t n_rows; /* of all experts together */
    uint32_t k;
    const void *packed; /* by weights.c */
};


struct ax_plan_vector {
    const struct ax_gguf_tensor *tensor;
    uint32_t n;
    const float *data; /* by weights.c */
};


struct ax_plan_rope {
    uint32_t n_rot;
    bool neox;
    double base;
    double freq_scale;
    ax_vector factors; /* [n_rot / 2], divide the frequencies */
    double *inv_freq;  /* [n_rot / 2], by weights.c */
};


struct ax_plan_attention {
    uint32_t n_head;
    uint32_t n_head_kv;
    uint32_t head_dim;
    uint32_t window; /* 0: none */
    float scale;
    float softcap; /* 0: none */
};


struct ax_plan_op {
    enum ax_plan_kind kind;
    uint32_t layer;
    ax_value out, a, b, c;
    ax_matrix matrix;
    ax_matrix up; /* EXPERTS, or AX_NONE */
    ax_vector vector;
    ax_rope rope;
    enum ax_activation activation;
    bool accumulate;
    uint32_t head_dim; /* RMSNORM, ROPE: of one head */
    float scale;       /* or eps, or the soft cap */
    struct ax_plan_attention attention;
};


struct ax_plan {
    struct ax_error err; /* the first one */
    uint32_t n_layer;
    uint32_t layer; /* being described */
    ax_value logits;
    uint32_t n_expert; /* of every mixture; 0: there is none */
    uint32_t n_expert_used;
    uint32_t n_ops, ops_room;
    struct ax_plan_op *ops;
    uint32_t n_values, values_room;
    struct ax_plan_value *values;
    uint32_t n_matrices, matrices_room;
    struct ax_plan_matrix *matrices;
    uint32_t n_vectors, vectors_room;
    struct ax_plan_vector *vectors;
    uint32_t n_ropes, ropes_room;
    struct ax_plan_rope *ropes;
};


void ax_plan_free(struct ax_plan *p); /* the tables, not *p */

/* As it is packed; 0: no kernel takes its format or k. */
size_t ax_plan_matrix_bytes(const struct ax_plan_matrix *m);

/* The first error's number, AXION_OK if there is none. */
int ax_plan_error(const struct ax_plan *p);
void ax_plan_fail(struct ax_plan *p, int number, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Tensors; the same one twice (tied embeddings) is one entry. */
ax_matrix ax_plan_matrix(struct ax_plan *p, const struct ax_gguf_tensor *t);
ax_vector ax_plan_vector(struct ax_plan *p, const struct ax_gguf_tensor *t);
ax_rope ax_plan_rope_config(struct ax_plan *p, uint32_t n_rot, bool neox,
                            double base, double freq_scale, ax_vector factors);

/* Following ops belong to this layer; ascending from 0. */
void ax_plan_layer(struct ax_plan *p, uint32_t layer);

ax_value ax_plan_embed(struct ax_plan *p, ax_matrix m, float scale);
ax_value ax_plan_rmsnorm(struct ax_plan *p, ax_value x, ax_vector weight,
                         float eps);
/* Each head of head_dim by itself; weight [head_dim]. */
ax_value ax_plan_rmsnorm_heads(struct ax_plan *p, ax_value x, uint32_t head_dim,
                               ax_vector weight, float eps);
/* m [n_rows][k], x [..][k] -> [..][n_rows]; bias [n_rows] or AX_NONE. */
ax_value ax_plan_matmul(struct ax_plan *p, ax_value x, ax_matrix m,
                        ax_vector bias);
/* y += m * x + bias */
void ax_plan_matmul_add(struct ax_plan *p, ax_value y, ax_value x, ax_matrix m,
                        ax_vector bias);
void ax_plan_rope(struct ax_plan *p, ax_value x, uint32_t head_dim,
                  ax_rope rope);
ax_value ax_plan_attention(struct ax_plan *p, ax_value q, ax_value k,
                           ax_value v, const struct ax_plan_attention *a);
ax_value ax_plan_gated(struct ax_plan *p, enum ax_activation activation,
                       ax_value gate, ax_value up);
void ax_plan_add(struct ax_plan *p, ax_value y, ax_value x);
void ax_plan_scale(struct ax_plan *p, ax_value x, float scale);
void ax_plan_softcap(struct ax_plan *p, ax_value x, float cap);
ax_value ax_plan_select(struct ax_plan *p, ax_value x);

/*
 * A mixture of experts.  logits [..][n_expert] -> [..][2 * n_used]: a softmax
 * over all experts, the n_used largest of it divided by their sum (clamped to
 * 2^-14, as llama.cpp has it); equal ones in the order of their numbers.
 */
ax_value ax_plan_route(struct ax_plan *p, ax_value logits, uint32_t n_used);
/* Banks of n_expert matrices [n_rows / n_expert][k] behind one another; x by
 * the row, or routed as a result of this.  -> routed [..][n_rows / n_expert] */
ax_value ax_plan_experts_gated(struct ax_plan *p, ax_value x,
                               enum ax_activation activation, ax_matrix gate,
                               ax_matrix up);
ax_value ax_plan_experts(struct ax_plan *p, ax_value x, ax_matrix m);
/* y += the weighted rows of x, in the route's order. */
void ax_plan_combine(struct ax_plan *p, ax_value y, ax_value x, ax_value route);

/* The end: x holds the logits. */
void ax_plan_logits(struct ax_plan *p, ax_value x);

#endif /* AX_PLAN_H */
