/*
 * Weights: from the file into one arena, in the kernels' packed layout, or from
 * a pack file that has them so.
 */
#ifndef AX_WEIGHTS_H
#define AX_WEIGHTS_H

#include "engine/model/model.h"
#include "engine/model/packfile.h"
#include "engine/model/packing.h"
#include "engine/model/plan.h"
#include "engine/pool/arena.h"


/*
 * Gives all of the plan its memory, fills in the pointers, the vectors as f32
 * and the RoPE frequencies, and starts packing the matrices, on n_threads with
 * who waits for them where options->behind is not set.  With a pack (NULL:
 * none) nothing is packed, *packing is NULL: what it has is checked and mapped,
 * progress comes on the calling thread.  The arena must be zeroed; it is the
 * caller's to close after the packing, also on an error.
 */
int ax_weights_load(struct ax_plan *plan, const struct ax_gguf *gguf,
                    const struct ax_pack *pack,
                    const struct ax_model_options *options, uint32_t n_threads,
                    struct ax_arena *arena, struct ax_packing **packing,
                    struct ax_error *err);

/* AXION_ERR_MODEL_UNSUPPORTED when a tensor of the file is in no plan. */
int ax_weights_check_unused(const struct ax_plan *plan,
                            const struct ax_gguf *gguf, struct ax_error *err);

#endif /* AX_WEIGHTS_H */
