/*
 * Packing: the matrices of a plan go from the file into their places, in the
 * order in which a step reads them, while steps already run behind.
 *
 * A matrix is cut into pieces of whole panels, about a MiB of file each.
 * Threads of its own take them in order, read each through pread into a buffer
 * and pack it from there; so the file is read once, in order, and the only
 * memory besides the weights is a piece per thread.  A matrix is packed when
 * its last piece is, and counts when all before it in the order are, too:
 * one number says how far packing is, and who needs a matrix waits for that.
 * Who waits packs the next piece that nobody has, and is asked between two
 * whether it still wants to wait.
 *
 * The first error (a short file, a weight that is NaN) ends it: no further
 * matrix ever counts, so what is wrong is never computed with, and all who
 * wait are told.
 *
 * Threads: any may ask and wait; start, end and close are the owner's.
 */
#ifndef AX_PACKING_H
#define AX_PACKING_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/error.h"
#include "engine/gguf/gguf.h"
#include "engine/model/plan.h"


struct ax_packing;


struct ax_packing_options {
    uint32_t n_threads; /* of its own; 0: all is done by who waits */
    /* Once, on the thread that packed the last piece or failed, which holds
     * the lock: from then on end() takes no longer than a piece.  May be
     * NULL. */
    void (*over)(void *context);
    /* For tests: whether pieces of this layer may be packed yet; asked again
     * and again until they may, under the lock.  May be NULL. */
    bool (*may)(void *context, uint32_t layer);
    void *context;
};


/* How far packing is, or has to be: matrices of the order. */
typedef uint32_t ax_packed;


/*
 * The plan's matrices have their memory (packed).  Plan and file must outlive
 * it.  AXION_ERR_MODEL_UNSUPPORTED, AXION_ERR_NO_MEMORY, AXION_ERR_SYSTEM
 * (threads).
 */
int ax_packing_start(struct ax_packing **out, const struct ax_plan *plan,
                     const struct ax_gguf *gguf,
                     const struct ax_packing_options *options,
                     struct ax_error *err);

/* Stops it where it is; NULL is fine. */
void ax_packing_close(struct ax_packing *p);

/* How far this matrix is in the order (not 0), and the last one is. */
ax_packed ax_packing_needs(const struct ax_packing *p, ax_matrix m);
ax_packed ax_packing_all(const struct ax_packing *p);

/* Whether all up to there is packed; then the caller may read it. */
bool ax_packing_reached(const struct ax_packing *p, ax_packed need);

/*
 * Waits until it is reached, and packs meanwhile.  `meanwhile` (may be NULL)
 * is called between pieces and at least each WAIT_MS; a nonzero return ends
 * the wait, which returns that.  Else AXION_OK, or the number of the error that
 * ended packing.  Allocates nothing.
 */
int ax_packing_wait(struct ax_packing *p, ax_packed need,
                    int (*meanwhile)(void *context), void *context);

/* Whether all is packed, or packing has failed. */
bool ax_packing_over(struct ax_packing *p);

/* All is packed or has failed: waits for that, ends the threads and gives
 * their memory back.  AXION_OK or the error; again: the same. */
int ax_packing_end(struct ax_packing *p, int (*meanwhile)(void *context),
                   void *context, struct ax_error *err);

/* 0 .. 1000 of the pieces; whole layers; when the last piece was packed, on
 * the pool's clock, 0 before. */
uint32_t ax_packing_permille(const struct ax_packing *p);
uint32_t ax_packing_layers(const struct ax_packing *p);
uint64_t ax_packing_end_ns(const struct ax_packing *p);

#endif /* AX_PACKING_H */
