/*
 * Loading: the matrices are cut into pieces of whole panels, about a MiB of
 * file each, in the order in which a step reads them; the pool's threads take
 * the pieces, read each through pread into a buffer of their own and pack it
 * from there into the arena.  So the file's pages are read once, in order,
 * by each thread in its own half, and the only memory besides the weights is
 * one piece per thread.
 *
 * One matrix is too small for several threads and the list of pieces spans
 * all of them, so a model of many small tensors loads as fast as one of few
 * large ones.  The first error stops all threads at their next piece.
 */
#include "engine/model/weights.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "engine/pool/pool.h"


#define PIECE_BYTES ((uint64_t)1 << 20)

/* Pieces between two reports of progress, all threads together. */
#define BATCH_PIECES 64u


struct piece {
    uint32_t matrix;
    uint32_t row0, row1;
};


struct load {
    struct ax_plan *plan;
    const struct ax_gguf *gguf;
    const struct ax_model_options *options;
    uint32_t n_pieces;
    struct piece *pieces;
    uint32_t first; /* of this batch */
    size_t buffer_bytes;
    char **buffers; /* one per thread */
    atomic_int failed;
    pthread_mutex_t lock; /* of err */
    struct ax_error *err;
};


static size_t
row_bytes(const struct ax_plan_matrix *m)
{
    return axk_file_bytes(m->tensor->format, 1, m->k);
}


/* Rows of one piece: whole panels, at least one. */
static uint32_t
piece_rows(const struct ax_plan_matrix *m)
{
    uint64_t panels = PIECE_BYTES / (AXK_PANEL_ROWS * row_bytes(m));

    panels = panels == 0 ? 1 : panels > 4096 ? 4096 : panels;
    return (uint32_t)panels * AXK_PANEL_ROWS;
}


static int
cut_pieces(struct load *l)
{
    const struct ax_plan *plan = l->plan;
    uint64_t n = 0;

    for (uint32_t i = 0; i < plan->n_matrices; i++) {
        const struct ax_plan_matrix *m = &plan->matrices[i];
        uint32_t rows = piece_rows(m);
        n += m->n_rows / rows + (m->n_rows % rows != 0);
        rows = rows < m->n_rows ? rows : m->n_rows;
        size_t bytes = rows * row_bytes(m);
        l->buffer_bytes = bytes > l->buffer_bytes ? bytes : l->buffer_bytes;
    }
    if (n > UINT32_MAX) {
        return ax_error_set(l->err, AXION_ERR_MODEL_UNSUPPORTED,
                            "the weights are too large");
    }
    l->pieces = calloc(n + 1, sizeof(*l->pieces));
    if (l->pieces == NULL) {
        return ax_error_set(l->err, AXION_ERR_NO_MEMORY, "no memory");
    }
    for (uint32_t i = 0; i < plan->n_matrices; i++) {
        const struct ax_plan_matrix *m = &plan->matrices[i];
        uint32_t rows = piece_rows(m);
        for (uint32_t row = 0; row < m->n_rows; row += rows) {
            uint32_t left = m->n_rows - row;
            l->pieces[l->n_pieces++] = (struct piece){
                .matrix = i,
                .row0 = row,
                .row1 = row + (left < rows ? left : rows),
            };
        }
    }
    return AXION_OK;
}


static int
bad_weights(const struct ax_plan_matrix *m, enum axk_status status,
            uint32_t row, struct ax_error *err)
{
    if (status == AXK_NONFINITE_WEIGHT) {
        return ax_error_set(err, AXION_ERR_MODEL_FILE,
                            "tensor %s: row %u has a weight that is NaN or "
                            "infinite",
                            m->tensor->name, row);
    }
    return ax_error_set(err, AXION_ERR_MODEL_UNSUPPORTED, "tensor %s: %s",
                        m->tensor->name, axk_status_name(status));
}


static int
load_piece(struct load *l, const struct piece *piece, char *buffer,
           struct ax_error *err)
{
    struct ax_plan_matrix *m = &l->plan->matrices[piece->matrix];
    size_t bytes = row_bytes(m);
    uint32_t bad_row = piece->row0;
    int rc = ax_gguf_read(l->gguf, m->tensor, piece->row0 * (uint64_t)bytes,
                          buffer, (piece->row1 - piece->row0) * bytes, err);

    if (rc != AXION_OK) {
        return rc;
    }
    /* axk_pack_rows counts from the matrix's first row: bias the buffer. */
    uintptr_t src = (uintptr_t)buffer - piece->row0 * bytes;
    enum axk_status status = axk_pack_rows(
        m->tensor->format, (const void *)src, m->n_rows, m->k, piece->row0,
        piece->row1, (void *)(uintptr_t)m->packed, &bad_row);
    return status == AXK_OK ? AXION_OK : bad_weights(m, status, bad_row, err);
}


static void
load_work(void *context, const struct ax_pool_piece *piece)
{
    struct load *l = context;

    for (uint32_t i = piece->begin; i < piece->end; i++) {
        struct ax_error err = {0};
        if (atomic_load_explicit(&l->failed, memory_order_relaxed) != 0) {
            return;
        }
        int rc = load_piece(l, &l->pieces[l->first + i],
                            l->buffers[piece->thread], &err);
        if (rc != AXION_OK) {
            pthread_mutex_lock(&l->lock);
            if (atomic_load(&l->failed) == 0) {
                atomic_store(&l->failed, rc);
                ax_error_set(l->err, rc, "%s", err.text);
            }
            pthread_mutex_unlock(&l->lock);
        }
    }
}


static void
report(const struct load *l, uint32_t done)
{
    if (l->options->progress != NULL) {
        l->options->progress(l->options->context,
                             (uint32_t)(done * 1000ull / l->n_pieces));
    }
}


static int
run_pieces(struct load *l, uint32_t n_threads)
{
    struct ax_pool *pool;
    int rc = ax_pool_start(&pool, n_threads, 1, l->err);

    if (rc != AXION_OK) {
        return rc;
    }
    for (l->first = 0; l->first < l->n_pieces && rc == AXION_OK;
         l->first += BATCH_PIECES) {
        uint32_t left = l->n_pieces - l->first;
        uint32_t units = left < BATCH_PIECES ? left : BATCH_PIECES;
        struct ax_pool_job job = {
            .n_phases = 1,
            .units = &units,
            .context = l,
            .work = load_work,
        };
        report(l, l->first);
        ax_pool_run(pool, &job);
        rc = atomic_load(&l->failed);
    }
    if (rc == AXION_OK) {
        report(l, l->n_pieces);
    }
    ax_pool_stop(pool);
    return rc;
}


static int
pack_all(struct load *l, uint32_t n_threads)
{
    int rc = cut_pieces(l);

    if (rc != AXION_OK) {
        return rc;
    }
    l->buffers = calloc(n_threads, sizeof(*l->buffers));
    if (l->buffers == NULL) {
        return ax_error_set(l->err, AXION_ERR_NO_MEMORY, "no memory");
    }
    for (uint32_t t = 0; t < n_threads; t++) {
        l->buffers[t] = malloc(l->buffer_bytes);
        if (l->buffers[t] == NULL) {
            return ax_error_set(l->err, AXION_ERR_NO_MEMORY,
                                "no memory for a buffer of %zu bytes",
                                l->buffer_bytes);
        }
    }
    return run_pieces(l, n_threads);
}


static void
free_load(struct load *l, uint32_t n_threads)
{
    for (uint32_t t = 0; l->buffers != NULL && t < n_threads; t++) {
        free(l->buffers[t]);
    }
    free(l->buffers);
    free(l->pieces);
    pthread_mutex_destroy(&l->lock);
}


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
            return bad_weights(m, status, 0, err);
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
        enum axk_status status;
        m->packed =
            ax_arena_take(arena, axk_packed_bytes(m->tensor->format, m->n_rows,
                                                  m->k, &status));
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


int
ax_weights_load(struct ax_plan *plan, const struct ax_gguf *gguf,
                const struct ax_pack *pack,
                const struct ax_model_options *options, uint32_t n_threads,
                struct ax_arena *arena, struct ax_error *err)
{
    struct load l = {
        .plan = plan, .gguf = gguf, .options = options, .err = err};
    int rc = pack != NULL ? map_pack(plan, pack, options, n_threads, arena, err)
                          : open_arena(plan, arena, err);

    for (uint32_t i = 0; i < plan->n_vectors && rc == AXION_OK && pack == NULL;
         i++) {
        rc = load_vector(gguf, &plan->vectors[i], err);
    }
    for (uint32_t i = 0; i < plan->n_ropes && rc == AXION_OK; i++) {
        rc = make_frequencies(plan, &plan->ropes[i], err);
    }
    if (rc != AXION_OK || pack != NULL) {
        return rc;
    }
    pthread_mutex_init(&l.lock, NULL);
    rc = pack_all(&l, n_threads);
    free_load(&l, n_threads);
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
