/* The epoll backend of loop.h. */
#include "engine/server/loop_private.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS_MAX 64


/* The state is the descriptor itself, kept in the pointer's place. */
static int
fd_of(void *state)
{
    return (int)(intptr_t)state;
}


static int
epoll_open(void **state, struct ax_error *err)
{
    int fd = epoll_create1(EPOLL_CLOEXEC);
    if (fd < 0) {
        return ax_error_set(err, AXION_ERR_SYSTEM, "epoll_create1: %s",
                            strerror(errno));
    }
    *state = (void *)(intptr_t)fd;
    return AXION_OK;
}


static void
epoll_close(void *state)
{
    close(fd_of(state));
}


static int
epoll_add(void *state, int fd, uint64_t key)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET,
                                .data.u64 = key};
    return epoll_ctl(fd_of(state), EPOLL_CTL_ADD, fd, &event) == 0
               ? AXION_OK
               : AXION_ERR_SYSTEM;
}


static void
epoll_remove(void *state, int fd, uint64_t key)
{
    (void)key;
    (void)epoll_ctl(fd_of(state), EPOLL_CTL_DEL, fd, NULL);
}


static uint32_t
epoll_wait_keys(void *state, int64_t timeout_us, uint64_t *keys, uint32_t max)
{
    struct epoll_event events[EVENTS_MAX];
    /* Rounded up: a wait that ends too early would be tried again at once. */
    int64_t ms = timeout_us < 0 ? -1 : (timeout_us + 999) / 1000;
    int n = epoll_wait(fd_of(state), events,
                       max < EVENTS_MAX ? (int)max : EVENTS_MAX,
                       ms > INT32_MAX ? INT32_MAX : (int)ms);
    for (int i = 0; i < n; i++) {
        keys[i] = events[i].data.u64;
    }
    return n > 0 ? (uint32_t)n : 0;
}


const struct ax_loop_backend ax_loop_epoll = {
    .name = "epoll",
    .open = epoll_open,
    .close = epoll_close,
    .add = epoll_add,
    .remove = epoll_remove,
    .wait = epoll_wait_keys,
};
