/*
 * Between loop.c and the two backends.  A watch has a place and a
 * generation; events carry both, so one of a watch that is gone is known.
 */
#ifndef AX_SERVER_LOOP_PRIVATE_H
#define AX_SERVER_LOOP_PRIVATE_H

#include "engine/server/loop.h"

struct ax_watch {
    int fd; /* -1: free */
    uint32_t generation;
    void *tag;
};

struct ax_loop_backend {
    const char *name;
    int (*open)(void **state, struct ax_error *err);
    void (*close)(void *state);
    int (*add)(void *state, int fd, uint64_t key);
    void (*remove)(void *state, int fd, uint64_t key);
    /* Fills keys[], returns their number. */
    uint32_t (*wait)(void *state, int64_t timeout_us, uint64_t *keys,
                     uint32_t max);
};

/* A key whose poll has ended is told by this bit: add it again. */
#define AX_LOOP_REARM (1ull << 63)

extern const struct ax_loop_backend ax_loop_uring, ax_loop_epoll;

#endif
