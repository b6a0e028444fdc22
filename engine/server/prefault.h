/*
 * Pages of KV ahead of their use, so that steps need not wait for zeroed ones.
 *
 * The kernel takes 0.2 ms for 2 MiB of them, and some 5 ms where it is itself
 * a guest whose host has taken the memory away.  So a thread of its own asks
 * for them, one piece after the other, while nobody wants anything: who comes
 * meanwhile waits for none of it.  Requests in a row are nobody's pause: behind
 * one, a piece is begun when there has been none for QUIET_MS.
 */
#ifndef AX_SERVER_PREFAULT_H
#define AX_SERVER_PREFAULT_H

#include <stdbool.h>
#include <stdint.h>
#include "engine/kv/kv.h"
#include "engine/server/draft_model.h"

struct ax_prefault;

/* So many bytes of the model's KV, then of the draft model's.  Nobody else
 * populates them. */
struct ax_prefault_what {
    struct ax_kv *kv;
    uint64_t bytes;
    struct ax_draft_model *draft; /* NULL: none */
    uint64_t draft_bytes;
};

/*
 * Starts the thread, which ends when all is there.  It runs where its maker
 * does, as what that is: make it before pinning.  NO_MEMORY, SYSTEM.
 */
int ax_prefault_open(struct ax_prefault **out,
                     const struct ax_prefault_what *what);
/* Behind the piece at hand; before the models are closed.  NULL is fine. */
void ax_prefault_close(struct ax_prefault *p);

/* Whether there may be more to come.  NULL is fine. */
bool ax_prefault_works(const struct ax_prefault *p);

/* The loop's thread tells what there is: nobody wants anything, or somebody
 * does.  A system call when the former begins, none else.  NULL is fine. */
void ax_prefault_tell(struct ax_prefault *p, bool idle);

#endif
