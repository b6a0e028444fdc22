/*
 * Opening a model: file, architecture, plan, weights, facts; model.h has the
 * contract.  The GGUF header stays in memory for the tokenizer's strings, the
 * file itself is closed when the last weight is packed.
 */
#include "engine/model/model.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/gguf/gguf.h"
#include "engine/model/family.h"
#include "engine/model/packfile.h"
#include "engine/model/packing.h"
#include "engine/model/vocab.h"
#include "engine/model/weights.h"
#include "engine/pool/pool.h"


struct ax_model {
    struct ax_model_info info;
    struct ax_gguf *gguf;
    struct ax_pack pack; /* while opening, where info.mapped */
    struct ax_plan plan;
    struct ax_arena arena;
    struct ax_packing *packing; /* NULL where info.mapped */
    uint64_t start_ns;
    const struct axk_ops *ops;
    char isa_reason[160];
    char *path;
    char *name;
    char *architecture;
    char *chat_template;
    struct ax_hparams hp;
    struct ax_vocab vocab;
    uint32_t *windows; /* [n_layer], 0: all */
};


/* Errors of plan and weights do not know the file; its name goes first. */
static void
name_file(const struct ax_gguf *g, struct ax_error *err)
{
    const char *label = ax_gguf_label(g);

    if (strncmp(err->text, label, strlen(label)) != 0) {
        char text[AX_ERROR_TEXT];
        memcpy(text, err->text, sizeof(text));
        ax_error_set(err, err->number, "%s: %s", label, text);
    }
}


static int
unknown_architecture(const char *found, struct ax_error *err)
{
    char known[120] = "";
    char escaped[64];

    for (uint32_t i = 0; ax_model_family(i) != NULL; i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof(known) - used, "%s%s", i == 0 ? "" : ", ",
                 ax_model_family(i));
    }
    return ax_error_set(
        err, AXION_ERR_MODEL_UNSUPPORTED,
        "architecture \"%s\" is not supported; known: %s",
        ax_error_escape(escaped, sizeof(escaped), found, strlen(found)), known);
}


/* Shards of a split model are refused: their tensors lie in other files. */
static int
check_split(const struct ax_gguf *g, struct ax_error *err)
{
    uint32_t n = 0;
    int rc = ax_gguf_u32(g, "split.count", &n, err);

    if (rc == AXION_OK && n > 1) {
        return ax_error_set(err, AXION_ERR_MODEL_UNSUPPORTED,
                            "one of %u files of a split model; join them "
                            "first",
                            n);
    }
    return rc == AXION_AGAIN ? AXION_OK : rc;
}


static int
describe(struct ax_model *m, struct ax_error *err)
{
    const char *architecture = m->architecture;

    if (architecture == NULL) {
        return ax_error_set(err, AXION_ERR_MODEL_FILE,
                            "key general.architecture is missing");
    }
    const struct ax_family *family =
        ax_family_find(architecture, strlen(architecture));
    if (family == NULL) {
        return unknown_architecture(architecture, err);
    }
    struct ax_describe d = {
        .gguf = m->gguf,
        .plan = &m->plan,
        .architecture = architecture,
    };
    int rc = ax_hparams_read(&d, err);
    if (rc != AXION_OK) {
        return rc;
    }
    family->describe(&d);
    if (ax_plan_error(&m->plan) != AXION_OK) {
        return ax_error_set(err, m->plan.err.number, "%s", m->plan.err.text);
    }
    m->hp = d.hp;
    return ax_weights_check_unused(&m->plan, m->gguf, err);
}


/* The format that most of the weights' bytes have. */
static const char *
main_format(const struct ax_plan *plan)
{
    uint64_t bytes[AXK_FORMAT_END] = {0};
    uint32_t best = 0;

    for (uint32_t i = 0; i < plan->n_matrices; i++) {
        const struct ax_gguf_tensor *t = plan->matrices[i].tensor;
        if (t->format < AXK_FORMAT_END) {
            bytes[t->format] += t->bytes;
            best = bytes[t->format] > bytes[best] ? t->format : best;
        }
    }
    return axk_format_traits(best)->name;
}


static int
fill_info(struct ax_model *m, const struct ax_model_options *options,
          struct ax_error *err)
{
    struct ax_model_info *info = &m->info;
    const struct ax_hparams *hp = &m->hp;
    const char *slash = strrchr(m->path, '/');

    if (options->ctx > hp->n_ctx_train) {
        return ax_error_set(err, AXION_ERR_BAD_OPTION,
                            "a context of %u tokens; the model was trained "
                            "with %u",
                            options->ctx, hp->n_ctx_train);
    }
    info->path = m->path;
    info->name = m->name != NULL ? m->name : slash ? slash + 1 : m->path;
    info->architecture = m->architecture;
    info->chat_template = m->chat_template;
    info->n_vocab = hp->n_vocab;
    info->n_ctx = options->ctx != 0 ? options->ctx : hp->n_ctx_train;
    info->n_ctx_train = hp->n_ctx_train;
    info->n_embd = hp->n_embd;
    info->n_layer = hp->n_layer;
    info->n_head = hp->n_head;
    info->n_head_kv = hp->n_head_kv;
    info->head_dim = hp->head_dim;
    info->n_ff = hp->n_ff;
    info->weight_format = main_format(&m->plan);
    info->file_bytes = ax_gguf_file_bytes(m->gguf);
    for (uint32_t i = 0; i < ax_gguf_n_tensors(m->gguf); i++) {
        const struct ax_gguf_tensor *t = ax_gguf_tensor_at(m->gguf, i);
        info->n_params += t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
    }
    info->file_type = UINT32_MAX;
    int rc = ax_gguf_u32(m->gguf, "general.file_type", &info->file_type, err);
    if (rc != AXION_OK && rc != AXION_AGAIN) {
        return rc;
    }
    info->bos_id = m->vocab.params.bos_id;
    info->eos_id = m->vocab.params.eos_id;
    info->eot_id = m->vocab.params.eot_id;
    return AXION_OK;
}


static int
read_strings(struct ax_model *m, struct ax_error *err)
{
    int rc = ax_vocab_copy_string(m->gguf, "general.architecture",
                                  &m->architecture, err);

    if (rc == AXION_OK) {
        rc = ax_vocab_copy_string(m->gguf, "general.name", &m->name, err);
    }
    if (rc == AXION_OK) {
        rc = ax_vocab_copy_string(m->gguf, "tokenizer.chat_template",
                                  &m->chat_template, err);
    }
    return rc;
}


static int
choose_isa(struct ax_model *m, const char *cap, struct ax_error *err)
{
    m->ops = axk_select(cap, m->isa_reason, sizeof(m->isa_reason));
    if (m->ops == NULL) {
        return ax_error_set(err, AXION_ERR_BAD_OPTION, "%s", m->isa_reason);
    }
    m->info.isa = axk_isa_name(m->ops);
    m->info.isa_reason = m->isa_reason;
    return AXION_OK;
}


/* What each layer sees, for the KV pool. */
static int
read_windows(struct ax_model *m, struct ax_error *err)
{
    m->windows = calloc(m->hp.n_layer, sizeof(*m->windows));
    if (m->windows == NULL) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    for (uint32_t i = 0; i < m->plan.n_ops; i++) {
        const struct ax_plan_op *op = &m->plan.ops[i];
        if (op->kind == AX_OP_ATTENTION) {
            assert(op->layer < m->hp.n_layer);
            m->windows[op->layer] = op->attention.window;
        }
    }
    return AXION_OK;
}


/* From an open file to a complete model. */
static int
load(struct ax_model *m, const struct ax_model_options *options,
     struct ax_error *err)
{
    int rc = check_split(m->gguf, err);

    if (rc == AXION_OK) {
        rc = read_strings(m, err);
    }
    if (rc == AXION_OK) {
        rc = describe(m, err);
    }
    if (rc == AXION_OK) {
        rc = read_windows(m, err);
    }
    if (rc == AXION_OK) {
        rc = ax_vocab_read(&m->vocab, m->gguf, m->hp.n_vocab, err);
    }
    if (rc == AXION_OK) {
        rc = fill_info(m, options, err);
    }
    if (rc == AXION_OK) {
        uint32_t n =
            options->n_threads != 0 ? options->n_threads : ax_pool_cpus();
        n = n > AX_POOL_THREADS_MAX ? AX_POOL_THREADS_MAX : n;
        rc =
            ax_weights_load(&m->plan, m->gguf, m->info.mapped ? &m->pack : NULL,
                            options, n, &m->arena, &m->packing, err);
    }
    m->info.weight_bytes = m->arena.bytes;
    return rc;
}


/* A pack file, known by its first bytes, or a GGUF file. */
static int
open_file(struct ax_model *m, struct ax_error *err)
{
    int rc = ax_pack_open(&m->pack, m->path, err);

    if (rc == AXION_AGAIN) {
        return ax_gguf_open(&m->gguf, m->path, err);
    }
    if (rc == AXION_OK) {
        m->info.mapped = true;
        rc = ax_pack_gguf(&m->pack, &m->gguf, m->path, err);
    }
    return rc;
}


struct report {
    const struct ax_model *model;
    const struct ax_model_options *options;
};


static int
report(void *context)
{
    const struct report *r = context;

    r->options->progress(r->options->context,
                         ax_packing_permille(r->model->packing));
    return AXION_OK;
}


/* options: NULL, or who wants to know how far it is. */
static int
wait_packed(struct ax_model *m, const struct ax_model_options *options,
            struct ax_error *err)
{
    struct report r = {m, options};
    bool reports = options != NULL && options->progress != NULL;
    uint64_t end_ns = ax_pool_clock_ns();

    if (m->packing != NULL) {
        int rc = ax_packing_end(m->packing, reports ? report : NULL, &r, err);
        if (rc != AXION_OK) {
            return rc;
        }
        end_ns = ax_packing_end_ns(m->packing);
        if (reports) {
            (void)report(&r);
        }
    }
    if (m->info.load_us == 0) {
        m->info.load_us = (end_ns - m->start_ns) / 1000;
    }
    ax_gguf_close_file(m->gguf);
    ax_pack_close(&m->pack);
    return AXION_OK;
}


int
ax_model_wait(struct ax_model *m, struct ax_error *err)
{
    struct ax_error local;

    err = err != NULL ? err : &local;
    int rc = wait_packed(m, NULL, err);
    if (rc != AXION_OK) {
        name_file(m->gguf, err);
    }
    return rc;
}


int
ax_model_open(struct ax_model **out, const struct ax_model_options *options,
              struct ax_error *err)
{
    struct ax_error local;
    struct ax_model *m = calloc(1, sizeof(*m));
    *out = NULL;
    err = err != NULL ? err : &local;
    if (m == NULL) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    m->pack.fd = -1;
    m->start_ns = ax_pool_clock_ns();
    int rc = choose_isa(m, options->isa, err);
    if (rc != AXION_OK) {
        goto failed;
    }
    m->path = strdup(options->path);
    if (m->path == NULL) {
        rc = ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
        goto failed;
    }
    rc = open_file(m, err);
    if (rc != AXION_OK) {
        goto failed;
    }
    rc = load(m, options, err);
    if (rc == AXION_OK && (m->packing == NULL || !options->behind)) {
        rc = wait_packed(m, options, err);
    }
    if (rc != AXION_OK) {
        name_file(m->gguf, err);
        goto failed;
    }
    *out = m;
    return AXION_OK;

failed:
    ax_model_close(m);
    return rc;
}


void
ax_model_close(struct ax_model *m)
{
    if (m == NULL) {
        return;
    }
    ax_packing_close(m->packing);
    ax_pack_close(&m->pack);
    ax_arena_close(&m->arena);
    ax_plan_free(&m->plan);
    ax_gguf_close(m->gguf);
    ax_vocab_free(&m->vocab);
    free(m->windows);
    free(m->chat_template);
    free(m->architecture);
    free(m->name);
    free(m->path);
    free(m);
}


int
ax_model_pack(const struct ax_model *m, const char *path, struct ax_error *err)
{
    if (m->info.mapped) {
        return ax_error_set(err, AXION_ERR_BAD_OPTION,
                            "%s is a pack file already",
                            ax_gguf_label(m->gguf));
    }
    return ax_pack_write(path, m->gguf, &m->plan, &m->arena, err);
}


const struct ax_model_info *
ax_model_info(const struct ax_model *m)
{
    return &m->info;
}


struct ax_kv_shape
ax_model_kv_shape(const struct ax_model *m)
{
    return (struct ax_kv_shape){
        .n_layer = m->hp.n_layer,
        .n_head_kv = m->hp.n_head_kv,
        .head_dim = m->hp.head_dim,
        .windows = m->windows,
    };
}


int
ax_model_tokenizer_params(const struct ax_model *m,
                          struct ax_tokenizer_params *params,
                          struct ax_error *err)
{
    if (m->vocab.model == NULL) {
        return ax_error_set(err, AXION_ERR_MODEL_FILE,
                            "%s: the file has no tokenizer",
                            ax_gguf_label(m->gguf));
    }
    *params = m->vocab.params;
    return AXION_OK;
}


struct ax_packing *
ax_model_packing(const struct ax_model *m)
{
    return m->packing;
}


const struct ax_plan *
ax_model_plan(const struct ax_model *m)
{
    return &m->plan;
}


const struct axk_ops *
ax_model_ops(const struct ax_model *m)
{
    return m->ops;
}
