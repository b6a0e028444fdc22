/*
 * The registry of families, the hyper-parameters that they share, and tensor
 * look-ups for their describe functions.
 *
 * Ranges here are what the kernels and the KV pool can hold and what no sane
 * model leaves; they also keep every product of two of these numbers inside
 * 64 bits.
 */
#include "engine/model/family.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/model/model.h"


#define CTX_MAX    (1u << 23) /* positions that axk_rope_table can take */
#define WIDTH_MAX  (1u << 20)
#define HEADS_MAX  4096u
#define NAME_BYTES 160u


static const struct ax_family *const families[] = {
    &ax_family_llama,    &ax_family_qwen2,  &ax_family_qwen3,
    &ax_family_qwen3moe, &ax_family_gemma3,
};

#define N_FAMILIES (sizeof(families) / sizeof(families[0]))


const struct ax_family *
ax_family_find(const char *architecture, uint64_t n)
{
    for (size_t i = 0; i < N_FAMILIES; i++) {
        const char *name = families[i]->architecture;
        if (strlen(name) == n && memcmp(name, architecture, n) == 0) {
            return families[i];
        }
    }
    return NULL;
}


const char *
ax_model_family(uint32_t i)
{
    return i < N_FAMILIES ? families[i]->architecture : NULL;
}


static bool
key_name(struct ax_describe *d, const char *key, char *out, size_t size)
{
    int n = snprintf(out, size, "%s.%s", d->architecture, key);

    return n > 0 && (size_t)n < size;
}


uint32_t
ax_describe_u32(struct ax_describe *d, const char *key, uint32_t def)
{
    char name[NAME_BYTES];
    struct ax_error err = {0};
    uint32_t value = def;

    if (!key_name(d, key, name, sizeof(name))) {
        return def;
    }
    int rc = ax_gguf_u32(d->gguf, name, &value, &err);
    if (rc != AXION_OK && rc != AXION_AGAIN) {
        ax_plan_fail(d->plan, rc, "%s", err.text);
    }
    return value;
}


float
ax_describe_f32(struct ax_describe *d, const char *key, float def)
{
    char name[NAME_BYTES];
    struct ax_error err = {0};
    float value = def;

    if (!key_name(d, key, name, sizeof(name))) {
        return def;
    }
    int rc = ax_gguf_f32(d->gguf, name, &value, &err);
    if (rc != AXION_OK && rc != AXION_AGAIN) {
        ax_plan_fail(d->plan, rc, "%s", err.text);
    }
    return value;
}


/* A count that must be there and lie in 1 .. max. */
static uint32_t
count(struct ax_describe *d, const char *key, uint32_t def, uint32_t max)
{
    uint32_t value = ax_describe_u32(d, key, def);

    if (value == 0 || value > max) {
        ax_plan_fail(d->plan, AXION_ERR_MODEL_FILE,
                     "key %s.%s: found %u%s, expected 1 to %u", d->architecture,
                     key, value, value == 0 ? " or nothing" : "", max);
        return 1;
    }
    return value;
}


/*
 * Some writers give head_count_kv and feed_forward_length as an array with
 * one value per layer; it is taken where all values are the same.
 */
static uint32_t
count_of_layers(struct ax_describe *d, const char *key, uint32_t def,
                uint32_t max)
{
    char name[NAME_BYTES];
    const void *data;
    uint64_t n;
    uint32_t first, value;

    if (!key_name(d, key, name, sizeof(name))) {
        return count(d, key, def, max);
    }
    const struct ax_gguf_key *found = ax_gguf_find(d->gguf, name);
    if (found == NULL || found->type != AX_GGUF_ARRAY) {
        return count(d, key, def, max);
    }
    struct ax_error err = {0};
    int rc = ax_gguf_array(d->gguf, name, AX_GGUF_I32, &data, &n, &err);
    if (rc != AXION_OK) {
        ax_plan_fail(d->plan, rc, "%s", err.text);
        return 1;
    }
    if (n != d->hp.n_layer) {
        ax_plan_fail(d->plan, AXION_ERR_MODEL_FILE,
                     "key %s: %llu values for %u layers", name,
                     (unsigned long long)n, d->hp.n_layer);
        return 1;
    }
    memcpy(&first, data, sizeof(first));
    for (uint64_t i = 0; i < n; i++) {
        memcpy(&value, (const char *)data + 4 * i, sizeof(value));
        if (value != first || value == 0 || value > max) {
            ax_plan_fail(d->plan, AXION_ERR_MODEL_UNSUPPORTED,
                         "key %s: layer %u has %u, layer 0 has %u; one value "
                         "of 1 to %u for all is supported",
                         name, (uint32_t)i, value, first, max);
            return 1;
        }
    }
    return first;
}


static float
positive(struct ax_describe *d, const char *key, float def, float min,
         float max)
{
    float value = ax_describe_f32(d, key, def);

    if (!(value >= min && value <= max)) {
        ax_plan_fail(d->plan, AXION_ERR_MODEL_FILE,
                     "key %s.%s: found %g, expected %g to %g", d->architecture,
                     key, (double)value, (double)min, (double)max);
        return min;
    }
    return value;
}


static void
read_heads(struct ax_describe *d)
{
    struct ax_hparams *hp = &d->hp;

    hp->n_head = count(d, "attention.head_count", 0, HEADS_MAX);
    hp->n_head_kv =
        count_of_layers(d, "attention.head_count_kv", hp->n_head, HEADS_MAX);
    if (hp->n_head % hp->n_head_kv != 0) {
        ax_plan_fail(d->plan, AXION_ERR_MODEL_FILE,
                     "key %s.attention.head_count_kv: %u does not divide the "
                     "%u heads",
                     d->architecture, hp->n_head_kv, hp->n_head);
    }
    hp->head_dim = count(d, "attention.key_length", hp->n_embd / hp->n_head,
                         AXK_HEAD_DIM_MAX);
    if (ax_describe_u32(d, "attention.value_length", hp->head_dim) !=
        hp->head_dim) {
        ax_plan_fail(d->plan, AXION_ERR_MODEL_UNSUPPORTED,
                     "key %s.attention.value_length differs from the key "
                     "length %u",
                     d->architecture, hp->head_dim);
    }
    hp->n_rot = count(d, "rope.dimension_count", hp->head_dim, hp->head_dim);
    if (hp->n_rot % 2 != 0) {
        ax_plan_fail(d->plan, AXION_ERR_MODEL_FILE,
                     "key %s.rope.dimension_count: %u is odd", d->architecture,
                     hp->n_rot);
    }
}


static void
read_rope(struct ax_describe *d)
{
    struct ax_hparams *hp = &d->hp;
    struct ax_gguf_str type = {0};
    struct ax_error err = {0};
    char name[NAME_BYTES];
    char found[48];

    hp->rope_base = positive(d, "rope.freq_base", 10000.0f, 1.0f, 1e12f);
    /* Older files have the factor alone, and it means linear scaling. */
    hp->rope_factor = positive(d, "rope.scale_linear", 1.0f, 1e-3f, 1e6f);
    hp->rope_scaling =
        hp->rope_factor == 1.0f ? AX_ROPE_SCALING_NONE : AX_ROPE_SCALING_LINEAR;
    if (!key_name(d, "rope.scaling.type", name, sizeof(name))) {
        return;
    }
    int rc = ax_gguf_str(d->gguf, name, &type, &err);
    if (rc == AXION_AGAIN) {
        return;
    }
    if (rc != AXION_OK) {
        ax_plan_fail(d->plan, rc, "%s", err.text);
        return;
    }
    if (type.n == 4 && memcmp(type.p, "none", 4) == 0) {
        return;
    }
    if (type.n != 6 || memcmp(type.p, "linear", 6) != 0) {
        ax_plan_fail(d->plan, AXION_ERR_MODEL_UNSUPPORTED,
                     "key %s: found \"%s\", none and linear are supported",
                     name,
                     ax_error_escape(found, sizeof(found), type.p, type.n));
        return;
    }
    hp->rope_scaling = AX_ROPE_SCALING_LINEAR;
    hp->rope_factor = positive(d, "rope.scaling.factor", 1.0f, 1e-3f, 1e6f);
}


static void
read_experts(struct ax_describe *d)
{
    struct ax_hparams *hp = &d->hp;
    const struct ax_family *family =
        ax_family_find(d->architecture, strlen(d->architecture));

    if (ax_describe_u32(d, "expert_count", 0) == 0) {
        return;
    }
    if (family == NULL || !family->experts) {
        ax_plan_fail(d->plan, AXION_ERR_MODEL_UNSUPPORTED,
                     "key %s.expert_count: no mixture of experts is known of "
                     "this architecture",
                     d->architecture);
        return;
    }
    hp->n_expert = count(d, "expert_count", 0, AX_PLAN_EXPERTS_MAX);
    hp->n_expert_used = count(d, "expert_used_count", 0,
                              hp->n_expert < AX_PLAN_EXPERTS_USED_MAX
                                  ? hp->n_expert
                                  : AX_PLAN_EXPERTS_USED_MAX);
    hp->n_ff_expert =
        count(d, "expert_feed_forward_length", hp->n_ff, WIDTH_MAX);
    if (ax_describe_u32(d, "expert_shared_count", 0) != 0 ||
        ax_describe_u32(d, "leading_dense_block_count", 0) != 0 ||
        ax_describe_u32(d, "expert_gating_func", 1) > 1) {
        ax_plan_fail(d->plan, AXION_ERR_MODEL_UNSUPPORTED,
                     "%s: shared experts, dense first layers and gates other "
                     "than softmax are not supported",
                     d->architecture);
    }
}


/* Keys that change the forward pass and that no family here knows. */
static void
refuse_unknown(struct ax_describe *d)
{
    if (ax_describe_f32(d, "attention.clamp_kqv", 0.0f) != 0.0f ||
        ax_describe_f32(d, "attention.max_alibi_bias", 0.0f) != 0.0f) {
        ax_plan_fail(d->plan, AXION_ERR_MODEL_UNSUPPORTED,
                     "clamped attention and ALiBi are not supported");
    }
}


int
ax_hparams_read(struct ax_describe *d, struct ax_error *err)
{
    struct ax_hparams *hp = &d->hp;
    const struct ax_gguf_tensor *embd =
        ax_gguf_tensor(d->gguf, "token_embd.weight");

    hp->n_layer = count(d, "block_count", 0, AX_PLAN_LAYERS_MAX);
    hp->n_ctx_train = count(d, "context_length", 0, CTX_MAX);
    hp->n_embd = count(d, "embedding_length", 0, WIDTH_MAX);
    hp->n_ff = count_of_layers(d, "feed_forward_length", 0, WIDTH_MAX);
    read_heads(d);
    read_rope(d);
    hp->rms_eps =
        positive(d, "attention.layer_norm_rms_epsilon", 0.0f, 1e-12f, 0.1f);
    hp->window = ax_describe_u32(d, "attention.sliding_window", 0);
    read_experts(d);
    refuse_unknown(d);
    if (embd == NULL) {
        ax_plan_fail(d->plan, AXION_ERR_MODEL_FILE,
                     "tensor token_embd.weight is missing");
    } else if (embd->ne[1] > WIDTH_MAX * 4u) {
        ax_plan_fail(d->plan, AXION_ERR_MODEL_FILE,
                     "tensor token_embd.weight: %llu rows, at most %u",
                     (unsigned long long)embd->ne[1], WIDTH_MAX * 4u);
    } else {
        hp->n_vocab = (uint32_t)embd->ne[1];
    }
    if (ax_plan_error(d->plan) != AXION_OK) {
        return ax_error_set(err, d->plan->err.number, "%s", d->plan->err.text);
    }
    return AXION_OK;
}


static const struct ax_gguf_tensor *
find_tensor(struct ax_describe *d, uint32_t layer, const char *name, char *full,
            size_t size)
{
    if (ax_plan_error(d->plan) != AXION_OK) {
        return NULL;
    }
    if (layer == AX_NONE) {
        snprintf(full, size, "%s", name);
    } else {
        snprintf(full, size, "blk.%u.%s", layer, name);
    }
    return ax_gguf_tensor(d->gguf, full);
}


/* ne[0] = k, ne[1] = n_rows, ne[2] = n; a vector has n_rows and n 1. */
static bool
shape_fits(struct ax_describe *d, const struct ax_gguf_tensor *t,
           uint32_t n_rows, uint32_t k, uint32_t n)
{
    char experts[16] = "";

    if (t->ne[0] == k && t->ne[1] == n_rows && t->ne[2] == n && t->ne[3] == 1) {
        return true;
    }
    if (n > 1) {
        snprintf(experts, sizeof(experts), ", %u", n);
    }
    ax_plan_fail(d->plan, AXION_ERR_MODEL_FILE,
                 "tensor %s: found [%llu, %llu, %llu, %llu], expected "
                 "[%u, %u%s]",
                 t->name, (unsigned long long)t->ne[0],
                 (unsigned long long)t->ne[1], (unsigned long long)t->ne[2],
                 (unsigned long long)t->ne[3], k, n_rows, experts);
    return false;
}


static ax_matrix
matrices(struct ax_describe *d, uint32_t layer, const char *name,
         uint32_t n_rows, uint32_t k, uint32_t n)
{
    char full[NAME_BYTES];
    const struct ax_gguf_tensor *t =
        find_tensor(d, layer, name, full, sizeof(full));

    if (t == NULL || !shape_fits(d, t, n_rows, k, n)) {
        return AX_NONE;
    }
    if (axk_format_traits(t->format)->act == AXK_ACT_NONE) {
        ax_plan_fail(d->plan, AXION_ERR_MODEL_UNSUPPORTED,
                     "tensor %s: no kernels for format %s", t->name,
                     axk_format_traits(t->format)->name);
        return AX_NONE;
    }
    return ax_plan_matrix(d->plan, t);
}


ax_matrix
ax_describe_matrix_opt(struct ax_describe *d, uint32_t layer, const char *name,
                       uint32_t n_rows, uint32_t k)
{
    return matrices(d, layer, name, n_rows, k, 1);
}


ax_vector
ax_describe_vector_opt(struct ax_describe *d, uint32_t layer, const char *name,
                       uint32_t n)
{
    char full[NAME_BYTES];
    const struct ax_gguf_tensor *t =
        find_tensor(d, layer, name, full, sizeof(full));

    if (t == NULL || !shape_fits(d, t, 1, n, 1)) {
        return AX_NONE;
    }
    if (t->format != AXK_F32 && t->format != AXK_F16) {
        ax_plan_fail(d->plan, AXION_ERR_MODEL_UNSUPPORTED,
                     "tensor %s: a vector in format %s; F32 and F16 are "
                     "supported",
                     t->name, axk_format_traits(t->format)->name);
        return AX_NONE;
    }
    return ax_plan_vector(d->plan, t);
}


static void
missing(struct ax_describe *d, uint32_t layer, const char *name)
{
    char full[NAME_BYTES];

    if (find_tensor(d, layer, name, full, sizeof(full)) == NULL) {
        ax_plan_fail(d->plan, AXION_ERR_MODEL_FILE, "tensor %s is missing",
                     full);
    }
}


ax_matrix
ax_describe_matrix(struct ax_describe *d, uint32_t layer, const char *name,
                   uint32_t n_rows, uint32_t k)
{
    ax_matrix m = ax_describe_matrix_opt(d, layer, name, n_rows, k);

    if (m == AX_NONE) {
        missing(d, layer, name);
    }
    return m;
}


ax_matrix
ax_describe_experts(struct ax_describe *d, uint32_t layer, const char *name,
                    uint32_t n_rows, uint32_t k)
{
    uint32_t n = d->hp.n_expert;

    if (n_rows % AXK_PANEL_ROWS != 0 || n_rows > AXK_DIM_MAX / n) {
        ax_plan_fail(d->plan, AXION_ERR_MODEL_UNSUPPORTED,
                     "blk.%u.%s: experts of %u rows; a multiple of %u, at most "
                     "%u for %u experts, is supported",
                     layer, name, n_rows, AXK_PANEL_ROWS, AXK_DIM_MAX / n, n);
        return AX_NONE;
    }
    ax_matrix m = matrices(d, layer, name, n_rows, k, n);
    if (m == AX_NONE) {
        missing(d, layer, name);
    }
    return m;
}


ax_vector
ax_describe_vector(struct ax_describe *d, uint32_t layer, const char *name,
                   uint32_t n)
{
    ax_vector v = ax_describe_vector_opt(d, layer, name, n);

    if (v == AX_NONE) {
        missing(d, layer, name);
    }
    return v;
}
