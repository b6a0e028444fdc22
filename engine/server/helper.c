/* See helper.h.  One mutex guards both lists: it is held for a few
 * instructions, and never by the token path unless something is done. */
#include "engine/server/helper.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "shm/errors.h"

struct list {
    struct ax_job *first;
    struct ax_job **end;
};

struct ax_helper {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t work;
    struct list todo, done;
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


static void *
helper_main(void *context)
{
    struct ax_helper *h = context;
    pthread_mutex_lock(&h->mutex);
    for (;;) {
        while (h->todo.first == NULL && !h->closing) {
            pthread_cond_wait(&h->work, &h->mutex);
        }
        struct ax_job *job = h->todo.first;
        if (job == NULL) {
            break;
        }
        h->todo.first = job->next;
        if (h->todo.first == NULL) {
            h->todo.end = &h->todo.first;
        }
        pthread_mutex_unlock(&h->mutex);
        job->run(job);
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
    h->todo.end = &h->todo.first;
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


void
ax_helper_close(struct ax_helper *h)
{
    if (h == NULL) {
        return;
    }
    pthread_mutex_lock(&h->mutex);
    h->closing = true;
    pthread_cond_signal(&h->work);
    pthread_mutex_unlock(&h->mutex);
    pthread_join(h->thread, NULL);
    pthread_cond_destroy(&h->work);
    pthread_mutex_destroy(&h->mutex);
    close(h->fd);
    free(h);
}


int
ax_helper_fd(const struct ax_helper *h)
{
    return h->fd;
}


void
ax_helper_submit(struct ax_helper *h, struct ax_job *job)
{
    pthread_mutex_lock(&h->mutex);
    append(&h->todo, job);
    pthread_cond_signal(&h->work);
    pthread_mutex_unlock(&h->mutex);
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
