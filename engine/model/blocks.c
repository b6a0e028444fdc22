/*
 * Pieces of a layer; blocks.h says which.  Biases are optional everywhere:
 * the file has them or not.
 */
#include "engine/model/blocks.h"


ax_matrix
ax_block_embeddings(struct ax_describe *d)
{
    return ax_describe_matrix(d, AX_NONE, "token_embd.weight", d->hp.n_vocab,
                              d->hp.n_embd);
}


ax_matrix
ax_block_output(struct ax_describe *d, ax_matrix embeddings)
{
    ax_matrix output = ax_describe_matrix_opt(d, AX_NONE, "output.weight",
                                              d->hp.n_vocab, d->hp.n_embd);

    return output == AX_NONE ? embeddings : output;
}


ax_value
ax_block_norm(struct ax_describe *d, uint32_t layer, const char *name,
              ax_value x)
{
    return ax_plan_rmsnorm(d->plan, x,
                           ax_describe_vector(d, layer, name, d->hp.n_embd),
                           d->hp.rms_eps);
}


static ax_value
norm_heads(struct ax_describe *d, uint32_t layer, const char *name, ax_value x)
{
    uint32_t n = d->hp.head_dim;

    return ax_plan_rmsnorm_heads(
        d->plan, x, n, ax_describe_vector(d, layer, name, n), d->hp.rms_eps);
}


ax_value
ax_block_attention(struct ax_describe *d, uint32_t layer, ax_value h,
                   const struct ax_block_attention *block)
{
    const struct ax_hparams *hp = &d->hp;
    struct ax_plan *p = d->plan;
    uint32_t n_q = hp->n_head * hp->head_dim;
    uint32_t n_kv = hp->n_head_kv * hp->head_dim;
    struct ax_plan_attention a = {
        .n_head = hp->n_head,
        .n_head_kv = hp->n_head_kv,
        .head_dim = hp->head_dim,
        .window = block->window,
        .scale = block->scale,
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
    if (block->qk_norm) {
        q = norm_heads(d, layer, "attn_q_norm.weight", q);
        k = norm_heads(d, layer, "attn_k_norm.weight", k);
    }
    ax_plan_rope(p, q, hp->head_dim, block->rope);
    ax_plan_rope(p, k, hp->head_dim, block->rope);
    return ax_plan_attention(p, q, k, v, &a);
}


ax_value
ax_block_gate_up(struct ax_describe *d, uint32_t layer, ax_value h,
                 enum ax_activation activation)
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
    return ax_plan_gated(p, activation, gate, up);
}


static ax_matrix
attention_matrix(struct ax_describe *d, uint32_t layer)
{
    return ax_describe_matrix(d, layer, "attn_output.weight", d->hp.n_embd,
                              d->hp.n_head * d->hp.head_dim);
}


static ax_matrix
down_matrix(struct ax_describe *d, uint32_t layer)
{
    return ax_describe_matrix(d, layer, "ffn_down.weight", d->hp.n_embd,
                              d->hp.n_ff);
}


static ax_vector
bias(struct ax_describe *d, uint32_t layer, const char *name)
{
    return ax_describe_vector_opt(d, layer, name, d->hp.n_embd);
}


void
ax_block_attention_add(struct ax_describe *d, uint32_t layer, ax_value x,
                       ax_value a)
{
    ax_plan_matmul_add(d->plan, x, a, attention_matrix(d, layer),
                       bias(d, layer, "attn_output.bias"));
}


void
ax_block_down_add(struct ax_describe *d, uint32_t layer, ax_value x, ax_value a)
{
    ax_plan_matmul_add(d->plan, x, a, down_matrix(d, layer),
                       bias(d, layer, "ffn_down.bias"));
}


ax_value
ax_block_attention_out(struct ax_describe *d, uint32_t layer, ax_value a)
{
    return ax_plan_matmul(d->plan, a, attention_matrix(d, layer),
                          bias(d, layer, "attn_output.bias"));
}


ax_value
ax_block_down(struct ax_describe *d, uint32_t layer, ax_value a)
{
    return ax_plan_matmul(d->plan, a, down_matrix(d, layer),
                          bias(d, layer, "ffn_down.bias"));
}


void
ax_block_experts_add(struct ax_describe *d, uint32_t layer, ax_value x,
                     ax_value h)
{
    const struct ax_hparams *hp = &d->hp;
    struct ax_plan *p = d->plan;
    uint32_t n_ff = hp->n_ff_expert;

    ax_value logits =
        ax_plan_matmul(p, h,
                       ax_describe_matrix(d, layer, "ffn_gate_inp.weight",
                                          hp->n_expert, hp->n_embd),
                       AX_NONE);
    ax_value route = ax_plan_route(p, logits, hp->n_expert_used);
    ax_matrix gate =
        ax_describe_experts(d, layer, "ffn_gate_exps.weight", n_ff, hp->n_embd);
    ax_matrix up =
        ax_describe_experts(d, layer, "ffn_up_exps.weight", n_ff, hp->n_embd);
    ax_matrix down =
        ax_describe_experts(d, layer, "ffn_down_exps.weight", hp->n_embd, n_ff);
    ax_value a = ax_plan_experts_gated(p, h, AX_SILU, gate, up);
    a = ax_plan_experts(p, a, down);
    ax_plan_combine(p, x, a, route);
}


void
ax_block_decoder(struct ax_describe *d, const struct ax_block_attention *block)
{
    struct ax_plan *p = d->plan;
    ax_matrix embd = ax_block_embeddings(d);
    ax_value x = ax_plan_embed(p, embd, 1.0f);

    for (uint32_t il = 0; il < d->hp.n_layer; il++) {
        ax_plan_layer(p, il);
        ax_value h = ax_block_norm(d, il, "attn_norm.weight", x);
        ax_value a = ax_block_attention(d, il, h, block);
        if (il + 1 == d->hp.n_layer) {
            /* Only rows with logits are needed from here on. */
            a = ax_plan_select(p, a);
            x = ax_plan_select(p, x);
        }
        ax_block_attention_add(d, il, x, a);
        h = ax_block_norm(d, il, "ffn_norm.weight", x);
        if (d->hp.n_expert != 0) {
            ax_block_experts_add(d, il, x, h);
            continue;
        }
        h = ax_block_gate_up(d, il, h, AX_SILU);
        ax_block_down_add(d, il, x, h);
    }
    ax_value h = ax_block_norm(d, AX_NONE, "output_norm.weight", x);
    ax_plan_logits(p, ax_plan_matmul(p, h, ax_block_output(d, embd), AX_NONE));
}
