/*
 * A model family: one short file that describes a forward pass.
 *
 * ax_model_open() reads the hyper-parameters that all transformer families
 * share, finds the family by general.architecture, and calls its describe
 * function, which looks tensors up by name and appends ops to the plan.  How
 * to add one: docs/adding-a-family.md.
 *
 * Look-ups check the shape and keep the first error in the plan, so that
 * describe functions need no error handling of their own.
 */
#ifndef AX_FAMILY_H
#define AX_FAMILY_H

#include "engine/model/plan.h"


enum ax_rope_scaling { AX_ROPE_SCALING_NONE, AX_ROPE_SCALING_LINEAR };


/* `{architecture}.` keys, checked for range. */
struct ax_hparams {
    uint32_t n_layer;
    uint32_t n_ctx_train;
    uint32_t n_embd;
    uint32_t n_ff;
    uint32_t n_head;
    uint32_t n_head_kv;
    uint32_t head_dim; /* of K and V alike */
    uint32_t n_rot;
    uint32_t n_vocab; /* rows of token_embd */
    float rms_eps;
    float rope_base;
    enum ax_rope_scaling rope_scaling;
    float rope_factor; /* 1 without scaling */
    uint32_t window;   /* attention.sliding_window or 0 */
    uint32_t n_expert; /* 0: no mixture */
    uint32_t n_expert_used;
    uint32_t n_ff_expert;
};


struct ax_describe {
    const struct ax_gguf *gguf;
    struct ax_hparams hp;
    struct ax_plan *plan;
    const char *architecture;
};


struct ax_family {
    const char *architecture;
    void (*describe)(struct ax_describe *d);
    bool experts; /* has mixtures */
};


extern const struct ax_family ax_family_gemma3;
extern const struct ax_family ax_family_llama;
extern const struct ax_family ax_family_qwen2;
extern const struct ax_family ax_family_qwen3;
extern const struct ax_family ax_family_qwen3moe;

/* NULL: unknown. */
const struct ax_family *ax_family_find(const char *architecture, uint64_t n);

/* Fills d->hp from d->gguf. */
int ax_hparams_read(struct ax_describe *d, struct ax_error *err);

/* "{architecture}.{key}", u32 or f32; def where the file has none. */
uint32_t ax_describe_u32(struct ax_describe *d, const char *key, uint32_t def);
float ax_describe_f32(struct ax_describe *d, const char *key, float def);

/*
 * Tensors by name; `layer` AX_NONE or the N of "blk.N.name".  A matrix has
 * n_rows rows of k, a vector n values.  The _opt forms return AX_NONE where
 * the file has no such tensor.
 */
ax_matrix ax_describe_matrix(struct ax_describe *d, uint32_t layer,
                             const char *name, uint32_t n_rows, uint32_t k);
ax_matrix ax_describe_matrix_opt(struct ax_describe *d, uint32_t layer,
                                 const char *name, uint32_t n_rows, uint32_t k);
/* n_expert matrices of n_rows each behind one another, n_rows a multiple of
 * AXK_PANEL_ROWS. */
ax_matrix ax_describe_experts(struct ax_describe *d, uint32_t layer,
                              const char *name, uint32_t n_rows, uint32_t k);
ax_vector ax_describe_vector(struct ax_describe *d, uint32_t layer,
                             const char *name, uint32_t n);
ax_vector ax_describe_vector_opt(struct ax_describe *d, uint32_t layer,
                                 const char *name, uint32_t n);

#endif /* AX_FAMILY_H */
