/* See helper.h.  One mutex guards both lists: it is held for a few
 * instructions, and never by the token path unless something is done. */
#include "engine/server/helper.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "shm/errors.h"

#define LANES         64u /* bits of `waiting` */
#define CLOSE_GRACE_S 1

struct list {
    struct ax_job *first;
    struct ax_job **end;
};

struct ax_helper {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t work;
    struct list lanes[LANES];
    uint64_t waiting; /* a bit for each lane that is not empty */
    unsigned turn;    /* the lane that had the last one */
    struct list done;
    bool closing;
    atomic_bool any_done; /* a hint: the list is read under the mutex */
    int fd;
};


static void
append(struct list *list, struct ax_job *job)
{
    job->next = NULL;
    *list->end = job;
    list->end = &job->next;
}


/* Neighbouring keys get different lanes. */
static unsigned
lane_of(uint64_t key)
{
    return (unsigned)(key * 0x9e3779b97f4a7c15u >> 58);
}


/* The first job of the next lane that has one; there is one. */
static struct ax_job *
next_job(struct ax_helper *h)
{
    do {
        h->turn = (h->turn + 1) % LANES;
    } while ((h->waiting >> h->turn & 1) == 0);
    struct list *lane = &h->lanes[h->turn];
    struct ax_job *job = lane->first;
    lane->first = job->next;
    if (lane->first == NULL) {
        lane->end = &lane->first;
        h->waiting &= ~((uint64_t)1 << h->turn);
    }
    return job;
}


static void *
helper_main(void *context)
{
    struct ax_helper *h = context;
    pthread_mutex_lock(&h->mutex);
    for (;;) {
        while (h->waiting == 0 && !h->closing) {
            pthread_cond_wait(&h->work, &h->mutex);
        }
        if (h->closing) {
            break;
        }
        struct ax_job *job = next_job(h);
        pthread_mutex_unlock(&h->mutex);
        if (!atomic_load_explicit(&job->dropped, memory_order_relaxed)) {
            job->run(job);
        }
        pthread_mutex_lock(&h->mutex);
        append(&h->done, job);
        atomic_store(&h->any_done, true);
        uint64_t one = 1;
        if (write(h->fd, &one, sizeof(one)) < 0) {
            continue; /* the counter is full: it is readable already */
        }
    }
    pthread_mutex_unlock(&h->mutex);
    return NULL;
}


int
ax_helper_open(struct ax_helper **out)
{
    *out = NULL;
    struct ax_helper *h = calloc(1, sizeof(*h));
    if (h == NULL) {
        return AXION_ERR_NO_MEMORY;
    }
    for (unsigned i = 0; i < LANES; i++) {
        h->lanes[i].end = &h->lanes[i].first;
    }
    h->done.end = &h->done.first;
    h->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (h->fd < 0) {
        free(h);
        return AXION_ERR_SYSTEM;
    }
    pthread_mutex_init(&h->mutex, NULL);
    pthread_cond_init(&h->work, NULL);
    if (pthread_create(&h->thread, NULL, helper_main, h) != 0) {
        pthread_cond_destroy(&h->work);
        pthread_mutex_destroy(&h->mutex);
        close(h->fd);
        free(h);
        return AXION_ERR_SYSTEM;
    }
    *out = h;
    return AXION_OK;
}


bool
ax_join_within_grace(pthread_t thread)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += CLOSE_GRACE_S;
    if (pthread_timedjoin_np(thread, NULL, &until) != 0) {
        pthread_detach(thread);
        return false;
    }
    return true;
}


bool
ax_helper_close(struct ax_helper *h)
{
    if (h == NULL) {
        return true;
    }
    pthread_mutex_lock(&h->mutex);
    h->closing = true;
    pthread_cond_signal(&h->work);
    pthread_mutex_unlock(&h->mutex);
    if (!ax_join_within_grace(h->thread)) {
        return false;
    }
    pthread_cond_destroy(&h->work);
    pthread_mutex_destroy(&h->mutex);
    close(h->fd);
    free(h);
    return true;
}


int
ax_helper_fd(const struct ax_helper *h)
{
    return h->fd;
}


void
ax_helper_submit(struct ax_helper *h, struct ax_job *job)
{
    unsigned lane = lane_of(job->key);
    atomic_store_explicit(&job->dropped, false, memory_order_relaxed);
    pthread_mutex_lock(&h->mutex);
    append(&h->lanes[lane], job);
    h->waiting |= (uint64_t)1 << lane;
    pthread_cond_signal(&h->work);
    pthread_mutex_unlock(&h->mutex);
}


void
ax_helper_drop(struct ax_job *job)
{
    atomic_store_explicit(&job->dropped, true, memory_order_relaxed);
}


struct ax_job *
ax_helper_take(struct ax_helper *h)
{
    if (!atomic_load_explicit(&h->any_done, memory_order_relaxed)) {
        return NULL;
    }
    uint64_t count;
    if (read(h->fd, &count, sizeof(count)) < 0) {
        count = 0; /* taken before: the list is the truth */
    }
    pthread_mutex_lock(&h->mutex);
    struct ax_job *first = h->done.first;
    h->done.first = NULL;
    h->done.end = &h->done.first;
    atomic_store(&h->any_done, false);
    pthread_mutex_unlock(&h->mutex);
    return first;
}
