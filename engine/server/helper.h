/*
 * The helper thread: long text work, one job after the other, so that it
 * never delays a step.
 *
 * Jobs wait in lanes, picked by the job's key, and the lanes take turns: who
 * hands in many or long jobs waits behind his own, the others behind one of
 * his at most.  Two keys may share a lane, and then share its turns; within
 * one the order is that of submit().
 *
 * A job lives in a record of the caller's.  Between submit() and take() it
 * belongs to the thread; all queues are lists through the jobs themselves,
 * so they are as long as there are records and cannot overflow.  When jobs
 * are done fd() becomes readable.
 */
#ifndef AX_SERVER_HELPER_H
#define AX_SERVER_HELPER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct ax_helper;

/* False: it did not end within a second, and is detached. */
bool ax_join_within_grace(pthread_t thread);

struct ax_job {
    struct ax_job *next;
    void (*run)(struct ax_job *job); /* on the helper's thread */
    uint64_t key;                    /* whose turn it takes */
    atomic_bool dropped;             /* see ax_helper_drop() */
};

/* NO_MEMORY, SYSTEM. */
int ax_helper_open(struct ax_helper **out);
/* Ends the thread after the job at hand; what waits is never run.  NULL is
 * fine.  False: that job did not end within a second.  The process is about
 * to go: thread and helper are left alone, and so must be what jobs use. */
bool ax_helper_close(struct ax_helper *helper);

int ax_helper_fd(const struct ax_helper *helper);
/* Takes job with run and key set. */
void ax_helper_submit(struct ax_helper *helper, struct ax_job *job);
/* Nobody wants it any more: it is done without being run, unless its turn has
 * come already.  For jobs submitted and not taken. */
void ax_helper_drop(struct ax_job *job);
/* The jobs done since the last call, in their order, as a list; NULL: none.
 * Cheap enough to be asked at every layer. */
struct ax_job *ax_helper_take(struct ax_helper *helper);

#endif
