/*
 * The helper thread: long text work, one job after the other, so that it
 * never delays a step.
 *
 * A job lives in a record of the caller's.  Between submit() and take() it
 * belongs to the thread; both queues are lists through the jobs themselves,
 * so they are as long as there are records and cannot overflow.  When jobs
 * are done fd() becomes readable.
 */
#ifndef AX_SERVER_HELPER_H
#define AX_SERVER_HELPER_H

struct ax_helper;

struct ax_job {
    struct ax_job *next;
    void (*run)(struct ax_job *job); /* on the helper's thread */
};

/* NO_MEMORY, SYSTEM. */
int ax_helper_open(struct ax_helper **out);
/* Runs what was submitted, then ends the thread; NULL is fine. */
void ax_helper_close(struct ax_helper *helper);

int ax_helper_fd(const struct ax_helper *helper);
void ax_helper_submit(struct ax_helper *helper, struct ax_job *job);
/* The jobs done since the last call, in their order, as a list; NULL: none.
 * Cheap enough to be asked at every layer. */
struct ax_job *ax_helper_take(struct ax_helper *helper);

#endif
