/*
 * Weights: from the file into one arena, in the kernels' packed layout, or from
 * a pack file that has them so.
 */
#ifndef AX_WEIGHTS_H
#define AX_WEIGHTS_H

#include "engine/model/model.h"
#include "engine/model/packfile.h"
#include "engine/model/plan.h"
#include "engine/pool/arena.h"


/*
 * Packs every matrix of the plan, converts its vectors to f32, fills in the
 * pointers and the RoPE frequencies.  n_threads read and pack; progress comes
 * on the calling thread.  With a pack (NULL: none) nothing is packed: what it
 * has is checked and mapped.  The arena must be zeroed; it is the caller's to
 * close, also on an error.
 */
int ax_weights_load(struct ax_plan *plan, const struct ax_gguf *gguf,
                    const struct ax_pack *pack,
                    const struct ax_model_options *options, uint32_t n_threads,
                    struct ax_arena *arena, struct ax_error *err);

/* AXION_ERR_MODEL_UNSUPPORTED when a tensor of the file is in no plan. */
int ax_weights_check_unused(const struct ax_plan *plan,
                            const struct ax_gguf *gguf, struct ax_error *err);

#endif /* AX_WEIGHTS_H */
