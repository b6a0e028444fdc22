/*
 * Gemma 3 (text).  Embeddings are scaled by sqrt(n_embd); every head of Q and
 * K is RMS-normalized; attention and feed-forward are normalized before and
 * after; the gate is GELU (tanh form).  The converter has added the one of
 * Gemma's (1 + weight) norms already.
 *
 * Five of six layers see a sliding window and have a RoPE of their own (base
 * 10,000, no scaling); every sixth sees all.  The scores' scale is by head
 * size, in the largest model (62 layers) by n_embd / n_head.
 */
#include "engine/model/blocks.h"

#include <math.h>


#define PATTERN       6u
#define LAYERS_OF_27B 62u


struct attentions {
    struct ax_block_attention full;
    struct ax_block_attention window;
};


static struct attentions
attentions(struct ax_describe *d)
{
    const struct ax_hparams *hp = &d->hp;
    uint32_t n =
        hp->n_layer == LAYERS_OF_27B ? hp->n_embd / hp->n_head : hp->head_dim;
    float local_base = ax_describe_f32(d, "rope.freq_base_swa", 10000.0f);
    struct attentions a = {
        .full =
            {
                .rope =
                    ax_plan_rope_config(d->plan, hp->n_rot, true, hp->rope_base,
                                        1.0 / hp->rope_factor, AX_NONE),
                .scale = 1.0f / sqrtf((float)n),
                .qk_norm = true,
            },
    };

    if (hp->window == 0) {
        ax_plan_fail(d->plan, AXION_ERR_MODEL_FILE,
                     "key %s.attention.sliding_window is missing",
                     d->architecture);
    }
    if (!(local_base >= 1.0f && local_base <= 1e12f)) {
        ax_plan_fail(d->plan, AXION_ERR_MODEL_FILE,
                     "key %s.rope.freq_base_swa: found %g", d->architecture,
                     (double)local_base);
    }
    a.window = a.full;
    a.window.window = hp->window;
    a.window.rope =
        ax_plan_rope_config(d->plan, hp->n_rot, true, local_base, 1.0, AX_NONE);
    return a;
}


static void
describe(struct ax_describe *d)
{
    const struct ax_hparams *hp = &d->hp;
    struct ax_plan *p = d->plan;
    struct attentions a = attentions(d);
    float cap = ax_describe_f32(d, "final_logit_softcapping", 0.0f);
    ax_matrix embd = ax_block_embeddings(d);
    ax_value x = ax_plan_embed(p, embd, sqrtf((float)hp->n_embd));

    for (uint32_t il = 0; il < hp->n_layer; il++) {
        ax_plan_layer(p, il);
        ax_value h = ax_block_norm(d, il, "attn_norm.weight", x);
        h = ax_block_attention(
            d, il, h, il % PATTERN == PATTERN - 1 ? &a.full : &a.window);
        if (il + 1 == hp->n_layer) {
            h = ax_plan_select(p, h);
            x = ax_plan_select(p, x);
        }
        h = ax_block_attention_out(d, il, h);
        ax_plan_add(p, x,
                    ax_block_norm(d, il, "post_attention_norm.weight", h));
        h = ax_block_norm(d, il, "ffn_norm.weight", x);
        h = ax_block_down(d, il, ax_block_gate_up(d, il, h, AX_GELU_TANH));
        ax_plan_add(p, x, ax_block_norm(d, il, "post_ffw_norm.weight", h));
    }
    ax_value h = ax_block_norm(d, AX_NONE, "output_norm.weight", x);
    ax_value logits = ax_plan_matmul(p, h, ax_block_output(d, embd), AX_NONE);
    if (cap != 0.0f) {
        ax_plan_softcap(p, logits, cap);
    }
    ax_plan_logits(p, logits);
}


const struct ax_family ax_family_gemma3 = {"gemma3", describe, false};
