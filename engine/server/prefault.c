/*
 * See prefault.h.  `changes` is counted up by the loop's thread alone, when an
 * idle time begins or ends: odd within one.  A thread that has seen the same
 * odd number before and after a pause knows that nobody came.  The semaphore
 * is posted when an idle time begins and at the end.
 */
#include "engine/server/prefault.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include "shm/errors.h"

#define QUIET_MS 5

struct ax_prefault {
    pthread_t thread;
    struct ax_prefault_what what;
    sem_t told;
    _Atomic uint64_t changes;
    atomic_bool ended; /* by either side */
};


/* Whether something was told meanwhile. */
static bool
told_within_quiet(struct ax_prefault *p)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += QUIET_MS * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    return sem_timedwait(&p->told, &until) == 0;
}


/* False: that was the last piece. */
static bool
bring_in(const struct ax_prefault_what *what)
{
    return ax_kv_populate(what->kv, what->bytes) ||
           (what->draft != NULL &&
            ax_draft_model_populate(what->draft, what->draft_bytes));
}


static void *
prefault_main(void *context)
{
    struct ax_prefault *p = context;
    /* The idle time that has lasted for long enough; the first one has, with
     * nobody gone who may come again. */
    uint64_t quiet = 1;
    while (!atomic_load(&p->ended)) {
        uint64_t now = atomic_load(&p->changes);
        if (now % 2 == 0) {
            (void)sem_wait(&p->told);
        } else if (now != quiet) {
            quiet = told_within_quiet(p) ? 0 : now;
        } else if (!bring_in(&p->what)) {
            atomic_store(&p->ended, true);
        }
    }
    return NULL;
}


int
ax_prefault_open(struct ax_prefault **out, const struct ax_prefault_what *what)
{
    *out = NULL;
    struct ax_prefault *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return AXION_ERR_NO_MEMORY;
    }
    p->what = *what;
    if (sem_init(&p->told, 0, 0) != 0) {
        free(p);
        return AXION_ERR_SYSTEM;
    }
    if (pthread_create(&p->thread, NULL, prefault_main, p) != 0) {
        sem_destroy(&p->told);
        free(p);
        return AXION_ERR_SYSTEM;
    }
    *out = p;
    return AXION_OK;
}


void
ax_prefault_close(struct ax_prefault *p)
{
    if (p == NULL) {
        return;
    }
    atomic_store(&p->ended, true);
    sem_post(&p->told);
    pthread_join(p->thread, NULL);
    sem_destroy(&p->told);
    free(p);
}


bool
ax_prefault_works(const struct ax_prefault *p)
{
    return p != NULL && !atomic_load(&p->ended);
}


void
ax_prefault_tell(struct ax_prefault *p, bool idle)
{
    if (!ax_prefault_works(p)) {
        return;
    }
    uint64_t changes = atomic_load_explicit(&p->changes, memory_order_relaxed);
    if (changes % 2 == idle) {
        return;
    }
    atomic_store(&p->changes, changes + 1);
    if (idle) {
        sem_post(&p->told);
    }
}
