/*
 * The Llama family (Llama 1 to 3, Mistral, SmolLM, TinyLlama and their many
 * relatives): RMS norm, grouped-query attention, SiLU-gated feed-forward.
 *
 * RoPE rotates adjacent pairs: the converter to GGUF has permuted Q and K
 * for that.  Llama 3's frequency scaling comes as a tensor of divisors
 * (rope_freqs.weight), older linear scaling as a factor.  Embeddings are tied
 * where the file has no output.weight.  Biases are optional everywhere.
 */
#include "engine/model/family.h"

#include <math.h>


static ax_value
attention(struct ax_describe *d, uint32_t layer, ax_value h, ax_rope rope)
{
    const struct ax_hparams *hp = &d->hp;
    struct ax_plan *p = d->plan;
    uint32_t n_q = hp->n_head * hp->head_dim;
    uint32_t n_kv = hp->n_head_kv * hp->head_dim;
    struct ax_plan_attention a = {
        .n_head = hp->n_head,
        .n_head_kv = hp->n_head_kv,
        .head_dim = hp->head_dim,
        .scale = 1.0f / sqrtf((float) hp->head_dim),
    };

    ax_value q = ax_plan_matmul(
        p, h, ax_describe_matrix(d, layer, "attn_q.weight", n_q, hp->n_embd),
        ax_describe_vector_opt(d, layer, "attn_q.bias", n_q));
    ax_value k = ax_plan_matmul(
        p, h, ax_describe_matrix(d, layer, "attn_k.weight", n_kv, hp->n_embd),
        ax_describe_vector_opt(d, layer, "attn_k.bias", n_kv));
    ax_value v = ax_plan_matmul(
        p, h, ax_describe_matrix(d, layer, "attn_v.weight", n_kv, hp->n_embd),
        ax_describe_vector_opt(d, layer, "attn_v.bias", n_kv));
    ax_plan_rope(p, q, hp->head_dim, rope);
    ax_plan_rope(p, k, hp->head_dim, rope);
    return ax_plan_attention(p, q, k, v, &a);
}


static ax_value
feed_forward(struct ax_describe *d, uint32_t layer, ax_value h)
{
    const struct ax_hparams *hp = &d->hp;
    struct ax_plan *p = d->plan;

    ax_value gate = ax_plan_matmul(
        p, h,
        ax_describe_matrix(d, layer, "ffn_gate.weight", hp->n_ff, hp->n_embd),
        ax_describe_vector_opt(d, layer, "ffn_gate.bias", hp->n_ff));
    ax_value up = ax_plan_matmul(
        p, h,
        ax_describe_matrix(d, layer, "ffn_up.weight", hp->n_ff, hp->n_embd),
        ax_describe_vector_opt(d, layer, "ffn_up.bias", hp->n_ff));
    return ax_plan_gated(p, AX_SILU, gate, up);
}


static void
describe(struct ax_describe *d)
{
    const struct ax_hparams *hp = &d->hp;
    struct ax_plan *p = d->plan;
    uint32_t n_q = hp->n_head * hp->head_dim;

    ax_matrix embd = ax_describe_matrix(d, AX_NONE, "token_embd.weight",
                                        hp->n_vocab, hp->n_embd);
    ax_rope rope = ax_plan_rope_config(
        p, hp->n_rot, false, hp->rope_base, 1.0 / hp->rope_factor,
        ax_describe_vector_opt(d, AX_NONE, "rope_freqs.weight",
                               hp->n_rot / 2));
    ax_value x = ax_plan_embed(p, embd, 1.0f);

    for (uint32_t il = 0; il < hp->n_layer; il++) {
        ax_plan_layer(p, il);
        ax_value h = ax_plan_rmsnorm(
            p, x, ax_describe_vector(d, il, "attn_norm.weight", hp->n_embd),
            hp->rms_eps);
        ax_value a = attention(d, il, h, rope);
        if (il + 1 == hp->n_layer) {
            /* Only rows with logits are needed from here on. */
            a = ax_plan_select(p, a);
            x = ax_plan_select(p, x);
        }
        ax_plan_matmul_add(
            p, x, a,
            ax_describe_matrix(d, il, "attn_output.weight", hp->n_embd, n_q),
            ax_describe_vector_opt(d, il, "attn_output.bias", hp->n_embd));
        h = ax_plan_rmsnorm(
            p, x, ax_describe_vector(d, il, "ffn_norm.weight", hp->n_embd),
            hp->rms_eps);
        h = feed_forward(d, il, h);
        ax_plan_matmul_add(
            p, x, h,
            ax_describe_matrix(d, il, "ffn_down.weight", hp->n_embd,
                               hp->n_ff),
            ax_describe_vector_opt(d, il, "ffn_down.bias", hp->n_embd));
    }
    ax_value h = ax_plan_rmsnorm(
        p, x, ax_describe_vector(d, AX_NONE, "output_norm.weight", hp->n_embd),
        hp->rms_eps);
    ax_matrix output = ax_describe_matrix_opt(d, AX_NONE, "output.weight",
                                              hp->n_vocab, hp->n_embd);
    ax_plan_logits(p, ax_plan_matmul(p, h, output == AX_NONE ? embd : output,
                                     AX_NONE));
}


const struct ax_family  ax_family_llama = { "llama", describe };
