/*
 * The io_uring backend of loop.h: a multishot poll for every descriptor.
 *
 * Completions arrive in shared memory, so a look between two steps costs no
 * system call.  A poll holds its file open: it is removed, and the removal
 * submitted, before the descriptor is closed.  At open the ring is tried on
 * an eventfd, since a kernel or a seccomp filter may allow the set-up and
 * refuse the use.
 */
#include "engine/server/loop_private.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ENTRIES     256u
#define KEY_IGNORED UINT64_MAX /* completions of removals */
#define TRIAL_MS    2000

struct uring {
    struct io_uring ring;
};


static struct io_uring_sqe *
get_sqe(struct uring *u)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    if (sqe == NULL) {
        io_uring_submit(&u->ring);
        sqe = io_uring_get_sqe(&u->ring);
    }
    return sqe;
}


static int
uring_add(void *state, int fd, uint64_t key)
{
    struct uring *u = state;
    struct io_uring_sqe *sqe = get_sqe(u);
    if (sqe == NULL) {
        return AXION_ERR_SYSTEM;
    }
    io_uring_prep_poll_multishot(sqe, fd, POLLIN | POLLRDHUP);
    io_uring_sqe_set_data64(sqe, key);
    return io_uring_submit(&u->ring) >= 0 ? AXION_OK : AXION_ERR_SYSTEM;
}


static void
uring_remove(void *state, int fd, uint64_t key)
{
    struct uring *u = state;
    (void)fd;
    struct io_uring_sqe *sqe = get_sqe(u);
    if (sqe != NULL) {
        io_uring_prep_poll_remove(sqe, key);
        io_uring_sqe_set_data64(sqe, KEY_IGNORED);
        (void)io_uring_submit(&u->ring);
    }
}


static uint32_t
take_completions(struct uring *u, uint64_t *keys, uint32_t max)
{
    struct io_uring_cqe *cqes[64];
    unsigned n = io_uring_peek_batch_cqe(&u->ring, cqes, max < 64 ? max : 64);
    uint32_t n_keys = 0;
    for (unsigned i = 0; i < n; i++) {
        uint64_t key = io_uring_cqe_get_data64(cqes[i]);
        if (key == KEY_IGNORED || cqes[i]->res == -ECANCELED) {
            continue;
        }
        bool ended = (cqes[i]->flags & IORING_CQE_F_MORE) == 0;
        keys[n_keys++] = key | (ended ? AX_LOOP_REARM : 0);
    }
    io_uring_cq_advance(&u->ring, n);
    return n_keys;
}


static uint32_t
uring_wait(void *state, int64_t timeout_us, uint64_t *keys, uint32_t max)
{
    struct uring *u = state;
    struct io_uring_cqe *cqe;
    if (timeout_us != 0 && io_uring_cq_ready(&u->ring) == 0) {
        struct __kernel_timespec ts = {.tv_sec = timeout_us / 1000000,
                                       .tv_nsec = timeout_us % 1000000 * 1000};
        (void)io_uring_submit_and_wait_timeout(
            &u->ring, &cqe, 1, timeout_us < 0 ? NULL : &ts, NULL);
    }
    return take_completions(u, keys, max);
}


static int
make_ring(struct uring *u, struct ax_error *err)
{
    int rc = io_uring_queue_init(ENTRIES, &u->ring, 0);
    if (rc < 0) {
        return ax_error_set(err, AXION_ERR_SYSTEM, "io_uring: %s",
                            strerror(-rc));
    }
    return AXION_OK;
}


/* One event through a ring, as the loop will use it; the ring goes with its
 * leftovers. */
static int
trial(struct ax_error *err)
{
    struct uring u;
    uint64_t key = 0;
    int rc = make_ring(&u, err);
    if (rc != AXION_OK) {
        return rc;
    }
    int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0 || uring_add(&u, fd, 1) != AXION_OK ||
        uring_wait(&u, TRIAL_MS * 1000, &key, 1) != 1 || key != 1) {
        rc = ax_error_set(err, AXION_ERR_SYSTEM,
                          "io_uring has no multishot poll here");
    }
    io_uring_queue_exit(&u.ring);
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}


static void
uring_close(void *state)
{
    struct uring *u = state;
    io_uring_queue_exit(&u->ring);
    free(u);
}


static int
uring_open(void **state, struct ax_error *err)
{
    int rc = trial(err);
    if (rc != AXION_OK) {
        return rc;
    }
    struct uring *u = calloc(1, sizeof(*u));
    if (u == NULL) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    rc = make_ring(u, err);
    if (rc != AXION_OK) {
        free(u);
        return rc;
    }
    *state = u;
    return AXION_OK;
}


const struct ax_loop_backend ax_loop_uring = {
    .name = "io_uring",
    .open = uring_open,
    .close = uring_close,
    .add = uring_add,
    .remove = uring_remove,
    .wait = uring_wait,
};
