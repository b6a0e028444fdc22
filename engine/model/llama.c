/*
 * The Llama family (Llama 1 to 3, Mistral, Mixtral, SmolLM, TinyLlama and
 * their many relatives): RMS norm, grouped-query attention, SiLU-gated
 * feed-forward or, where the file has experts, a mixture of such.
 *
 * RoPE rotates adjacent pairs: the converter to GGUF has permuted Q and K
 * for that.  Llama 3's frequency scaling comes as a tensor of divisors
 * (rope_freqs.weight), older linear scaling as a factor.  Embeddings are tied
 * where the file has no output.weight.
 */
#include "engine/model/blocks.h"

#include <math.h>


static void
describe(struct ax_describe *d)
{
    const struct ax_hparams *hp = &d->hp;
    struct ax_block_attention a = {
        .rope = ax_plan_rope_config(
            d->plan, hp->n_rot, false, hp->rope_base, 1.0 / hp->rope_factor,
            ax_describe_vector_opt(d, AX_NONE, "rope_freqs.weight",
                                   hp->n_rot / 2)),
        .scale = 1.0f / sqrtf((float)hp->head_dim),
    };

    ax_block_decoder(d, &a);
}


const struct ax_family ax_family_llama = {"llama", describe, true};
