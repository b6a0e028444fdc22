/*
 * The order, the pieces and who packs them; see packing.h.
 *
 * Everything that moves is under one lock, which is held for some tens of
 * nanoseconds per piece of a MiB; no step takes it once all is packed.
 */
#include "engine/model/packing.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "engine/pool/pool.h"


#define PIECE_BYTES ((uint64_t)1 << 20)
/* Pieces that the kernel is asked for ahead of the one that is read: a device
 * works while threads pack. */
#define AHEAD   32u
#define WAIT_MS 5 /* between two calls of `meanwhile` */
#define HELD_MS 1 /* between two of `may` */


struct piece {
    uint32_t place; /* in the order */
    uint32_t row0, row1;
};


/* A matrix in the order. */
struct place {
    ax_matrix matrix;
    uint32_t layer;
    uint32_t left; /* pieces that are not packed; under the lock */
};


struct thread {
    pthread_t id;
    struct ax_packing *packing;
    char *buffer; /* of a piece as it is in the file */
};


struct ax_packing {
    const struct ax_plan *plan;
    const struct ax_gguf *gguf;
    struct ax_packing_options options;
    uint32_t n_places;
    struct place *places;
    uint32_t *place_of; /* [plan->n_matrices] */
    uint32_t n_pieces;
    struct piece *pieces;
    size_t buffer_bytes;
    uint32_t n_threads;     /* that run */
    struct thread *threads; /* the last one's buffer is for who waits */
    pthread_mutex_t lock;
    pthread_cond_t moved; /* a piece is packed, or all is over */

    /* Under the lock. */
    uint32_t next; /* piece that nobody has */
    uint32_t n_done;
    bool stop;
    bool helped; /* who waits has a piece: its buffer is in use */
    bool told;   /* that it is over */
    struct ax_error err;

    /* Leading places that are packed.  Released under the lock by who packed
     * the last piece of one, which has seen the others' pieces through the
     * lock; acquired in ax_packing_reached(), before the weights are read. */
    atomic_uint n_ready;
    atomic_uint permille;
    atomic_uint_least64_t end_ns;
};


/* ---- the order ---- */

static void
add_place(struct ax_packing *p, ax_matrix m, uint32_t layer)
{
    if (m != AX_NONE && p->place_of[m] == AX_NONE) {
        p->place_of[m] = p->n_places;
        p->places[p->n_places++] = (struct place){.matrix = m, .layer = layer};
    }
}


static bool
has_matrix(const struct ax_plan_op *op)
{
    return op->kind == AX_OP_EMBED || op->kind == AX_OP_MATMUL ||
           op->kind == AX_OP_EXPERTS;
}


/* As the plan reads them first; every matrix is in some op. */
static int
make_order(struct ax_packing *p, struct ax_error *err)
{
    const struct ax_plan *plan = p->plan;

    p->places = calloc(plan->n_matrices + 1, sizeof(*p->places));
    p->place_of = calloc(plan->n_matrices + 1, sizeof(*p->place_of));
    if (p->places == NULL || p->place_of == NULL) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    for (uint32_t i = 0; i < plan->n_matrices; i++) {
        p->place_of[i] = AX_NONE;
    }
    for (uint32_t i = 0; i < plan->n_ops; i++) {
        const struct ax_plan_op *op = &plan->ops[i];
        if (has_matrix(op)) {
            add_place(p, op->matrix, op->layer);
        }
        if (op->kind == AX_OP_EXPERTS) {
            add_place(p, op->up, op->layer);
        }
    }
    for (uint32_t i = 0; i < plan->n_matrices; i++) {
        add_place(p, i, plan->n_layer);
    }
    assert(p->n_places == plan->n_matrices);
    return AXION_OK;
}


static const struct ax_plan_matrix *
matrix_of(const struct ax_packing *p, uint32_t place)
{
    return &p->plan->matrices[p->places[place].matrix];
}


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
cut_pieces(struct ax_packing *p, struct ax_error *err)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < p->n_places; i++) {
        const struct ax_plan_matrix *m = matrix_of(p, i);
        uint32_t rows = piece_rows(m);
        p->places[i].left = m->n_rows / rows + (m->n_rows % rows != 0);
        n += p->places[i].left;
        rows = rows < m->n_rows ? rows : m->n_rows;
        size_t bytes = rows * row_bytes(m);
        p->buffer_bytes = bytes > p->buffer_bytes ? bytes : p->buffer_bytes;
    }
    if (n > UINT32_MAX) {
        return ax_error_set(err, AXION_ERR_MODEL_UNSUPPORTED,
                            "the weights are too large");
    }
    p->pieces = calloc(n + 1, sizeof(*p->pieces));
    if (p->pieces == NULL) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    for (uint32_t i = 0; i < p->n_places; i++) {
        const struct ax_plan_matrix *m = matrix_of(p, i);
        uint32_t rows = piece_rows(m);
        for (uint32_t row = 0; row < m->n_rows; row += rows) {
            uint32_t left = m->n_rows - row;
            p->pieces[p->n_pieces++] = (struct piece){
                .place = i,
                .row0 = row,
                .row1 = row + (left < rows ? left : rows),
            };
        }
    }
    return AXION_OK;
}


/* ---- a piece ---- */

static void
read_ahead(const struct ax_packing *p, const struct piece *piece)
{
    const struct ax_plan_matrix *m = matrix_of(p, piece->place);
    size_t bytes = row_bytes(m);

    ax_gguf_read_ahead(p->gguf, m->tensor, piece->row0 * (uint64_t)bytes,
                       (piece->row1 - piece->row0) * bytes);
}


/* Who has a piece asks for the one that is AHEAD; who has the first, for all
 * until there.  So each is asked for once, but the first, which is read. */
static void
read_ahead_of(const struct ax_packing *p, const struct piece *piece)
{
    uint32_t i = (uint32_t)(piece - p->pieces);
    uint32_t from = i == 0 ? 1 : i + AHEAD;

    for (; from <= i + AHEAD && from < p->n_pieces; from++) {
        read_ahead(p, &p->pieces[from]);
    }
}


static int
pack_piece(const struct ax_packing *p, const struct piece *piece, char *buffer,
           struct ax_error *err)
{
    const struct ax_plan_matrix *m = matrix_of(p, piece->place);
    size_t bytes = row_bytes(m);
    uint32_t bad_row = piece->row0;

    read_ahead_of(p, piece);
    int rc = ax_gguf_read(p->gguf, m->tensor, piece->row0 * (uint64_t)bytes,
                          buffer, (piece->row1 - piece->row0) * bytes, err);

    if (rc != AXION_OK) {
        return rc;
    }
    /* axk_pack_rows counts from the matrix's first row: bias the buffer. */
    uintptr_t src = (uintptr_t)buffer - piece->row0 * bytes;
    enum axk_status status = axk_pack_rows(
        m->tensor->format, (const void *)src, m->n_rows, m->k, piece->row0,
        piece->row1, (void *)(uintptr_t)m->packed, &bad_row);
    if (status == AXK_OK) {
        return AXION_OK;
    }
    if (status == AXK_NONFINITE_WEIGHT) {
        return ax_error_set(err, AXION_ERR_MODEL_FILE,
                            "tensor %s: row %u has a weight that is NaN or "
                            "infinite",
                            m->tensor->name, bad_row);
    }
    return ax_error_set(err, AXION_ERR_MODEL_UNSUPPORTED, "tensor %s: %s",
                        m->tensor->name, axk_status_name(status));
}


/* ---- under the lock ---- */

enum taken { TAKEN, HELD, NONE };


static bool
finished(const struct ax_packing *p)
{
    return p->err.number != AXION_OK || p->n_done == p->n_pieces;
}


/* The next piece: nobody has it from now on but the caller. */
static enum taken
take(struct ax_packing *p, const struct piece **piece)
{
    if (p->stop || p->err.number != AXION_OK || p->next == p->n_pieces) {
        return NONE;
    }
    *piece = &p->pieces[p->next];
    if (p->options.may != NULL &&
        !p->options.may(p->options.context, p->places[(*piece)->place].layer)) {
        return HELD;
    }
    p->next++;
    return TAKEN;
}


static void
count(struct ax_packing *p, const struct piece *piece, int rc,
      const struct ax_error *err)
{
    uint32_t ready = atomic_load_explicit(&p->n_ready, memory_order_relaxed);

    if (rc != AXION_OK) {
        if (p->err.number == AXION_OK) {
            ax_error_set(&p->err, rc, "%s", err->text);
        }
        return;
    }
    p->n_done++;
    p->places[piece->place].left--;
    while (ready < p->n_places && p->places[ready].left == 0) {
        ready++;
    }
    /* n_ready last: who sees it may ask how far packing is. */
    atomic_store_explicit(&p->permille,
                          (uint32_t)(p->n_done * 1000ull / p->n_pieces),
                          memory_order_relaxed);
    if (p->n_done == p->n_pieces) {
        atomic_store_explicit(&p->end_ns, ax_pool_clock_ns(),
                              memory_order_relaxed);
    }
    atomic_store_explicit(&p->n_ready, ready, memory_order_release);
}


/* Packs with the lock let go; who ends it all tells so. */
static void
pack_unlocked(struct ax_packing *p, const struct piece *piece, char *buffer)
{
    struct ax_error err = {0};

    pthread_mutex_unlock(&p->lock);
    int rc = pack_piece(p, piece, buffer, &err);
    pthread_mutex_lock(&p->lock);
    count(p, piece, rc, &err);
    bool tell = finished(p) && !p->told;
    p->told |= tell;
    pthread_cond_broadcast(&p->moved);
    if (tell && p->options.over != NULL) {
        p->options.over(p->options.context);
    }
}


static void
wait_moved(struct ax_packing *p, uint32_t ms)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_nsec += ms * 1000000l;
    at.tv_sec += at.tv_nsec / 1000000000l;
    at.tv_nsec %= 1000000000l;
    (void)pthread_cond_timedwait(&p->moved, &p->lock, &at);
}


/* ---- threads ---- */

static void *
thread_main(void *context)
{
    const struct thread *t = context;
    struct ax_packing *p = t->packing;
    const struct piece *piece;
    enum taken taken;

    axk_thread_init();
    pthread_mutex_lock(&p->lock);
    while ((taken = take(p, &piece)) != NONE) {
        if (taken == TAKEN) {
            pack_unlocked(p, piece, t->buffer);
        } else {
            wait_moved(p, HELD_MS);
        }
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}


static int
start_threads(struct ax_packing *p, struct ax_error *err)
{
    while (p->n_threads < p->options.n_threads) {
        struct thread *t = &p->threads[p->n_threads];
        t->packing = p;
        if (pthread_create(&t->id, NULL, thread_main, t) != 0) {
            return ax_error_set(err, AXION_ERR_SYSTEM,
                                "cannot start a thread to pack weights");
        }
        p->n_threads++;
    }
    return AXION_OK;
}


static int
take_memory(struct ax_packing *p, struct ax_error *err)
{
    uint32_t n = p->options.n_threads + 1;

    p->threads = calloc(n, sizeof(*p->threads));
    if (p->threads == NULL) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    for (uint32_t t = 0; t < n; t++) {
        p->threads[t].buffer = malloc(p->buffer_bytes);
        if (p->threads[t].buffer == NULL) {
            return ax_error_set(err, AXION_ERR_NO_MEMORY,
                                "no memory for a buffer of %zu bytes",
                                p->buffer_bytes);
        }
    }
    return AXION_OK;
}


static void
init_lock(struct ax_packing *p)
{
    pthread_condattr_t monotonic;

    pthread_mutex_init(&p->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&p->moved, &monotonic);
    pthread_condattr_destroy(&monotonic);
}


int
ax_packing_start(struct ax_packing **out, const struct ax_plan *plan,
                 const struct ax_gguf *gguf,
                 const struct ax_packing_options *options, struct ax_error *err)
{
    struct ax_packing *p = calloc(1, sizeof(*p));

    *out = NULL;
    if (p == NULL) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    p->plan = plan;
    p->gguf = gguf;
    p->options = *options;
    init_lock(p);
    int rc = make_order(p, err);
    if (rc == AXION_OK) {
        rc = cut_pieces(p, err);
    }
    if (rc == AXION_OK) {
        rc = take_memory(p, err);
    }
    if (rc == AXION_OK) {
        rc = start_threads(p, err);
    }
    if (rc != AXION_OK) {
        ax_packing_close(p);
        return rc;
    }
    *out = p;
    return AXION_OK;
}


static void
join(struct ax_packing *p)
{
    for (uint32_t t = 0; t < p->n_threads; t++) {
        pthread_join(p->threads[t].id, NULL);
    }
    p->n_threads = 0;
    for (uint32_t t = 0; p->threads != NULL && t <= p->options.n_threads; t++) {
        free(p->threads[t].buffer);
    }
    free(p->threads);
    free(p->pieces);
    p->threads = NULL;
    p->pieces = NULL;
}


void
ax_packing_close(struct ax_packing *p)
{
    if (p == NULL) {
        return;
    }
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->moved);
    pthread_mutex_unlock(&p->lock);
    join(p);
    pthread_cond_destroy(&p->moved);
    pthread_mutex_destroy(&p->lock);
    free(p->place_of);
    free(p->places);
    free(p);
}


/* ---- who waits ---- */

ax_packed
ax_packing_needs(const struct ax_packing *p, ax_matrix m)
{
    return p->place_of[m] + 1;
}


ax_packed
ax_packing_all(const struct ax_packing *p)
{
    return p->n_places;
}


bool
ax_packing_reached(const struct ax_packing *p, ax_packed need)
{
    return atomic_load_explicit(&p->n_ready, memory_order_acquire) >= need;
}


/* Packs a piece if there is one, and waits for others' if there is none. */
static void
help(struct ax_packing *p)
{
    const struct piece *piece;

    if (!p->helped && take(p, &piece) == TAKEN) {
        p->helped = true;
        pack_unlocked(p, piece, p->threads[p->options.n_threads].buffer);
        p->helped = false;
    } else {
        wait_moved(p, WAIT_MS);
    }
}


int
ax_packing_wait(struct ax_packing *p, ax_packed need,
                int (*meanwhile)(void *context), void *context)
{
    int rc = AXION_OK;

    pthread_mutex_lock(&p->lock);
    while (rc == AXION_OK && !ax_packing_reached(p, need)) {
        if (p->err.number != AXION_OK) {
            rc = p->err.number;
            break;
        }
        help(p);
        if (meanwhile != NULL) {
            pthread_mutex_unlock(&p->lock);
            rc = meanwhile(context);
            pthread_mutex_lock(&p->lock);
        }
    }
    pthread_mutex_unlock(&p->lock);
    return rc;
}


bool
ax_packing_over(struct ax_packing *p)
{
    pthread_mutex_lock(&p->lock);
    bool over = finished(p);
    pthread_mutex_unlock(&p->lock);
    return over;
}


int
ax_packing_end(struct ax_packing *p, int (*meanwhile)(void *context),
               void *context, struct ax_error *err)
{
    int rc = ax_packing_wait(p, ax_packing_all(p), meanwhile, context);

    if (!ax_packing_over(p)) {
        return rc; /* meanwhile's */
    }
    join(p);
    return p->err.number == AXION_OK
               ? AXION_OK
               : ax_error_set(err, p->err.number, "%s", p->err.text);
}


/* ---- how far ---- */

uint32_t
ax_packing_permille(const struct ax_packing *p)
{
    return atomic_load_explicit(&p->permille, memory_order_relaxed);
}


uint32_t
ax_packing_layers(const struct ax_packing *p)
{
    uint32_t ready = atomic_load_explicit(&p->n_ready, memory_order_relaxed);

    return ready == p->n_places ? p->plan->n_layer : p->places[ready].layer;
}


uint64_t
ax_packing_end_ns(const struct ax_packing *p)
{
    return atomic_load_explicit(&p->end_ns, memory_order_relaxed);
}
