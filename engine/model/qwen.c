/*
 * Qwen 2, 2.5 and 3, dense, and Qwen 3's mixtures of experts.  Like Llama but
 * for RoPE, which rotates halves of a head, and the attention's inputs: Qwen 2
 * has biases on Q, K and V, Qwen 3 has none and RMS-normalizes every head of Q
 * and K before RoPE.
 */
#include "engine/model/blocks.h"

#include <math.h>


static void
describe(struct ax_describe *d, bool qk_norm)
{
    const struct ax_hparams *hp = &d->hp;
    struct ax_block_attention a = {
        .rope = ax_plan_rope_config(d->plan, hp->n_rot, true, hp->rope_base,
                                    1.0 / hp->rope_factor, AX_NONE),
        .scale = 1.0f / sqrtf((float)hp->head_dim),
        .qk_norm = qk_norm,
    };

    ax_block_decoder(d, &a);
}


static void
describe_qwen2(struct ax_describe *d)
{
    describe(d, false);
}


static void
describe_qwen3(struct ax_describe *d)
{
    describe(d, true);
}


const struct ax_family ax_family_qwen2 = {"qwen2", describe_qwen2, false};
const struct ax_family ax_family_qwen3 = {"qwen3", describe_qwen3, false};
const struct ax_family ax_family_qwen3moe = {"qwen3moe", describe_qwen3, true};
