/*
 * A model in memory: its facts, its packed weights and its plan.
 *
 * ax_model_open() reads a GGUF file, asks the family of its architecture to
 * describe the forward pass as a plan (plan.h), checks every tensor that the
 * plan names, and packs the weights in parallel into one arena on huge pages.
 * After that the file is closed; the model is immutable and any number of
 * executors, on any threads, may use it.  From a pack file (packfile.h) it
 * checks and maps weights that were packed before.
 *
 * Called by the engine's loader thread and by the tools; the KV pool and the
 * executor are opened on a model and must be closed before it.
 *
 * Refused, each with one line that names file, key or tensor, found and
 * expected: unknown architectures (with the list of known ones), tensors that
 * are missing, of another shape or used by nobody, hyper-parameters out of
 * range, weights that are NaN or infinite.
 */
#ifndef AX_MODEL_H
#define AX_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/error.h"
#include "engine/kv/kv.h"
#include "engine/text/tokenizer.h"


struct ax_model_options {
    const char *path;
    const char *isa;    /* axk_select's cap; NULL: the best */
    uint32_t n_threads; /* that read and pack, the caller's included;
                           0: as many as there are CPUs to run on */
    uint32_t ctx;       /* context to offer; 0: the model's own */
    /* Called on the opening thread, 0 .. 1000, ascending; may be NULL. */
    void (*progress)(void *context, uint32_t permille);
    /*
     * Opening ends when all is checked but the matrices, and their memory
     * taken: n_threads of the model's own pack them while steps already run
     * behind (packing.h); ax_model_wait() ends that.  `packed` and `may_pack`
     * are packing.h's `over` and `may`.
     */
    bool behind;
    void (*packed)(void *context);
    bool (*may_pack)(void *context, uint32_t layer);
    void *context;
};


/* Strings live as long as the model. */
struct ax_model_info {
    const char *path;
    const char *name; /* general.name, or the file's own name */
    const char *architecture;
    const char *chat_template; /* NULL if the file has none */
    const char *isa;           /* "avx512" */
    const char *isa_reason;    /* one line for the log */
    uint32_t n_vocab;
    uint32_t n_ctx; /* offered: options.ctx or n_ctx_train */
    uint32_t n_ctx_train;
    uint32_t n_embd;
    uint32_t n_layer;
    uint32_t n_head;
    uint32_t n_head_kv;
    uint32_t head_dim;
    uint32_t n_ff;
    uint32_t file_type;        /* general.file_type, UINT32_MAX if absent */
    const char *weight_format; /* of most weights: "Q4_1" */
    uint64_t n_params;         /* elements of all tensors of the file */
    uint64_t file_bytes;
    uint64_t weight_bytes; /* packed, in memory */
    uint64_t load_us;      /* from opening to the last piece; 0 before */
    bool mapped;           /* the weights are a pack file's */
    int64_t bos_id;        /* AX_TOKEN_NONE if absent */
    int64_t eos_id;
    int64_t eot_id;
};


struct ax_model;
struct ax_packing;
struct ax_plan;
struct axk_ops;


/*
 * Blocking.  AXION_ERR_MODEL_FILE, AXION_ERR_MODEL_UNSUPPORTED,
 * AXION_ERR_BAD_OPTION, AXION_ERR_NO_MEMORY or AXION_ERR_SYSTEM, then *out is
 * NULL and err (may be NULL) has one line.
 */
int ax_model_open(struct ax_model **out, const struct ax_model_options *options,
                  struct ax_error *err);
void ax_model_close(struct ax_model *m); /* NULL is fine */

/*
 * Until all weights are packed; with `behind`, info's load_us is right from
 * then on, and the file is closed.  Packs meanwhile.  AXION_OK, or the errors
 * of opening that come from weights: then the model is good for nothing.
 * On the thread that owns the model.
 */
int ax_model_wait(struct ax_model *m, struct ax_error *err);

/* What packs its weights; NULL: a pack file has them. */
struct ax_packing *ax_model_packing(const struct ax_model *m);

/*
 * Writes the model, all packed, as a pack file.  AXION_ERR_BAD_OPTION when it
 * comes from one or path is its own file, AXION_ERR_MODEL_FILE when its file
 * has changed, AXION_ERR_SYSTEM, AXION_ERR_NO_MEMORY.
 */
int ax_model_pack(const struct ax_model *m, const char *path,
                  struct ax_error *err);

const struct ax_model_info *ax_model_info(const struct ax_model *m);

/*
 * What tokenizer.ggml.* says.  The pointers live as long as the model.
 * AXION_ERR_MODEL_FILE (types, counts or ids out of range) with a line.
 */
int ax_model_tokenizer_params(const struct ax_model *m,
                              struct ax_tokenizer_params *params,
                              struct ax_error *err);

/* What the KV pool must hold for one token; its windows live as long as the
 * model. */
struct ax_kv_shape ax_model_kv_shape(const struct ax_model *m);

/* For the executor. */
const struct ax_plan *ax_model_plan(const struct ax_model *m);
const struct axk_ops *ax_model_ops(const struct ax_model *m);

/* Known architectures in order ("llama", ...), NULL past the last. */
const char *ax_model_family(uint32_t i);

#endif /* AX_MODEL_H */
