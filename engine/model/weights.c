/*
 * Where the weights lie: one arena, in the order in which the plan names them;
 * a pack file (packfile.h) has them in the same places.  The vectors, small as
 * they are, are read here; the matrices are packing.c's.
 */
#include "engine/model/weights.h"

#include <stdlib.h>
#include <string.h>

static size_t
align(size_t n)
{
    return (n + AX_ARENA_ALIGN - 1) & ~(size_t)(AX_ARENA_ALIGN - 1);
}


/* Bytes of all, and whether every matrix has kernels. */
static int
measure(const struct ax_plan *plan, uint64_t *all, struct ax_error *err)
{
    uint64_t total = 0;

    for (uint32_t i = 0; i < plan->n_matrices; i++) {
        const struct ax_plan_matrix *m = &plan->matrices[i];
        enum axk_status status = AXK_OK;
        size_t bytes =
            axk_packed_bytes(m->tensor->format, m->n_rows, m->k, &status);
        if (bytes == 0) {
            return ax_error_set(err, AXION_ERR_MODEL_UNSUPPORTED,
                                "tensor %s: %s", m->tensor->name,
                                axk_status_name(status));
        }
        total += align(bytes);
    }
    for (uint32_t i = 0; i < plan->n_vectors; i++) {
        total += align(plan->vectors[i].n * sizeof(float));
    }
    *all = total;
    return AXION_OK;
}


/* Cuts the arena up in the order of the plan, which has room for it. */
static void
place(struct ax_plan *plan, struct ax_arena *arena)
{
    for (uint32_t i = 0; i < plan->n_matrices; i++) {
        struct ax_plan_matrix *m = &plan->matrices[i];
        m->packed = ax_arena_take(arena, ax_plan_matrix_bytes(m));
    }
    for (uint32_t i = 0; i < plan->n_vectors; i++) {
        struct ax_plan_vector *v = &plan->vectors[i];
        v->data = ax_arena_take(arena, v->n * sizeof(float));
    }
}


static int
open_arena(struct ax_plan *plan, struct ax_arena *arena, struct ax_error *err)
{
    uint64_t bytes = 0;
    int rc = measure(plan, &bytes, err);

    if (rc != AXION_OK) {
        return rc;
    }
    /* One line more, so that a pack file can end in one. */
    if (ax_arena_open(arena, bytes + AX_ARENA_ALIGN) != AXION_OK) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY,
                            "no memory for %llu bytes of weights",
                            (unsigned long long)bytes);
    }
    place(plan, arena);
    return AXION_OK;
}


static int
map_pack(struct ax_plan *plan, const struct ax_pack *pack,
         const struct ax_model_options *options, uint32_t n_threads,
         struct ax_arena *arena, struct ax_error *err)
{
    uint64_t bytes = 0;
    int rc = measure(plan, &bytes, err);

    if (rc == AXION_OK) {
        rc = ax_pack_map(pack, plan, bytes, n_threads, options->progress,
                         options->context, arena, err);
    }
    if (rc == AXION_OK) {
        place(plan, arena);
    }
    return rc;
}


static int
load_vector(const struct ax_gguf *gguf, struct ax_plan_vector *v,
            struct ax_error *err)
{
    float *data = (float *)(uintptr_t)v->data;
    int rc = ax_gguf_read(gguf, v->tensor, 0, data, v->tensor->bytes, err);

    if (rc != AXION_OK) {
        return rc;
    }
    if (v->tensor->format == AXK_F16) {
        /* In place from the last value down: f16 is the narrower one. */
        for (uint32_t i = v->n; i-- > 0;) {
            uint16_t half;
            memcpy(&half, (const char *)data + 2 * (size_t)i, sizeof(half));
            data[i] = axk_f16_to_f32(half);
        }
    }
    for (uint32_t i = 0; i < v->n; i++) {
        if (data[i] - data[i] != 0.0f) {
            return ax_error_set(err, AXION_ERR_MODEL_FILE,
                                "tensor %s: value %u is NaN or infinite",
                                v->tensor->name, i);
        }
    }
    return AXION_OK;
}


static int
make_frequencies(struct ax_plan *plan, struct ax_plan_rope *rope,
                 struct ax_error *err)
{
    const float *factors = NULL;

    if (rope->factors != AX_NONE) {
        const struct ax_plan_vector *v = &plan->vectors[rope->factors];
        factors = v->data;
        for (uint32_t i = 0; i < v->n; i++) {
            if (!(factors[i] > 0.0f)) {
                return ax_error_set(err, AXION_ERR_MODEL_FILE,
                                    "tensor %s: factor %u is %g, expected "
                                    "more than 0",
                                    v->tensor->name, i, (double)factors[i]);
            }
        }
    }
    rope->inv_freq = calloc(rope->n_rot / 2, sizeof(*rope->inv_freq));
    if (rope->inv_freq == NULL) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    axk_rope_inv_freq(rope->base, rope->freq_scale, factors, rope->n_rot,
                      rope->inv_freq);
    return AXION_OK;
}


static int
start_packing(struct ax_plan *plan, const struct ax_gguf *gguf,
              const struct ax_model_options *options, uint32_t n_threads,
              struct ax_packing **packing, struct ax_error *err)
{
    struct ax_packing_options packs = {
        /* Who does not come back before all is packed is one of them. */
        .n_threads = n_threads - !options->behind,
        .over = options->packed,
        .may = options->may_pack,
        .context = options->context,
    };

    if (options->progress != NULL) {
        options->progress(options->context, 0);
    }
    return ax_packing_start(packing, plan, gguf, &packs, err);
}


int
ax_weights_load(struct ax_plan *plan, const struct ax_gguf *gguf,
                const struct ax_pack *pack,
                const struct ax_model_options *options, uint32_t n_threads,
                struct ax_arena *arena, struct ax_packing **packing,
                struct ax_error *err)
{
    int rc = pack != NULL ? map_pack(plan, pack, options, n_threads, arena, err)
                          : open_arena(plan, arena, err);

    *packing = NULL;
    for (uint32_t i = 0; i < plan->n_vectors && rc == AXION_OK && pack == NULL;
         i++) {
        rc = load_vector(gguf, &plan->vectors[i], err);
    }
    for (uint32_t i = 0; i < plan->n_ropes && rc == AXION_OK; i++) {
        rc = make_frequencies(plan, &plan->ropes[i], err);
    }
    if (rc == AXION_OK && pack == NULL) {
        rc = start_packing(plan, gguf, options, n_threads, packing, err);
    }
    return rc;
}


static int
compare_pointers(const void *a, const void *b)
{
    uintptr_t x = *(const uintptr_t *)a;
    uintptr_t y = *(const uintptr_t *)b;

    return (x > y) - (x < y);
}


int
ax_weights_check_unused(const struct ax_plan *plan, const struct ax_gguf *gguf,
                        struct ax_error *err)
{
    uint32_t n = plan->n_matrices + plan->n_vectors;
    uintptr_t *used = calloc(n + 1, sizeof(*used));

    if (used == NULL) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    for (uint32_t i = 0; i < plan->n_matrices; i++) {
        used[i] = (uintptr_t)plan->matrices[i].tensor;
    }
    for (uint32_t i = 0; i < plan->n_vectors; i++) {
        used[plan->n_matrices + i] = (uintptr_t)plan->vectors[i].tensor;
    }
    qsort(used, n, sizeof(*used), compare_pointers);
    int rc = AXION_OK;
    for (uint32_t i = 0; i < ax_gguf_n_tensors(gguf); i++) {
        const struct ax_gguf_tensor *t = ax_gguf_tensor_at(gguf, i);
        uintptr_t key = (uintptr_t)t;
        if (bsearch(&key, used, n, sizeof(*used), compare_pointers) == NULL) {
            rc = ax_error_set(err, AXION_ERR_MODEL_UNSUPPORTED,
                              "tensor %s: the architecture has no use for it",
                              t->name);
            break;
        }
    }
    free(used);
    return rc;
}
