/*
 * Pieces of a layer that families share, built from plan ops.
 */
#ifndef AX_BLOCKS_H
#define AX_BLOCKS_H

#include "engine/model/family.h"


struct ax_block_attention {
    ax_rope rope;
    float scale;     /* of the scores */
    uint32_t window; /* 0: none */
    bool qk_norm;    /* attn_q_norm, attn_k_norm on every head */
};


/* token_embd.weight, and output.weight or, tied, the same. */
ax_matrix ax_block_embeddings(struct ax_describe *d);
ax_matrix ax_block_output(struct ax_describe *d, ax_matrix embeddings);

/* blk.N.`name`, or `name` itself where layer is AX_NONE: RMS norm of x. */
ax_value ax_block_norm(struct ax_describe *d, uint32_t layer, const char *name,
                       ax_value x);

/* The heads' outputs for h, before attn_output. */
ax_value ax_block_attention(struct ax_describe *d, uint32_t layer, ax_value h,
                            const struct ax_block_attention *a);

/* activation(gate h) * up h, before ffn_down. */
ax_value ax_block_gate_up(struct ax_describe *d, uint32_t layer, ax_value h,
                          enum ax_activation activation);

/* A mixture of SiLU-gated experts of h, added into x. */
void ax_block_experts_add(struct ax_describe *d, uint32_t layer, ax_value x,
                          ax_value h);

/* The projection attn_output or ffn_down of a: added into x, or by itself. */
void ax_block_attention_add(struct ax_describe *d, uint32_t layer, ax_value x,
                            ax_value a);
void ax_block_down_add(struct ax_describe *d, uint32_t layer, ax_value x,
                       ax_value a);
ax_value ax_block_attention_out(struct ax_describe *d, uint32_t layer,
                                ax_value a);
ax_value ax_block_down(struct ax_describe *d, uint32_t layer, ax_value a);

/*
 * The whole of a decoder whose layers are x += attention(norm(x)),
 * x += gated(norm(x)): Llama and Qwen.  Where the file has experts, gated is
 * their mixture.
 */
void ax_block_decoder(struct ax_describe *d,
                      const struct ax_block_attention *a);

#endif /* AX_BLOCKS_H */
