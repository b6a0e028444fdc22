/*
 * The event loop: which descriptors became readable, and a time to wait.
 *
 * Two backends with one behaviour: io_uring (multishot polls, one ring) and
 * epoll, for kernels and containers that refuse io_uring.  "auto" tries
 * io_uring, tests it on a descriptor of its own, and falls back;
 * ax_loop_note() then says why, once, for the log.
 *
 * A watched descriptor is reported when it becomes readable or its peer goes
 * away.  Report is by edge: the owner reads until EAGAIN.  One thread.
 */
#ifndef AX_SERVER_LOOP_H
#define AX_SERVER_LOOP_H

#include <stdint.h>
#include "engine/error.h"

#define AX_LOOP_KINDS       "auto|io_uring|epoll"
#define AX_LOOP_WATCHES_MAX 1024u

struct ax_loop;

/* kind: one of AX_LOOP_KINDS.  SYSTEM, NO_MEMORY. */
int ax_loop_open(struct ax_loop **out, const char *kind, struct ax_error *err);
void ax_loop_close(struct ax_loop *loop); /* watched descriptors stay open */

const char *ax_loop_name(const struct ax_loop *loop); /* "io_uring" */
const char *ax_loop_note(const struct ax_loop *loop); /* "" or one line */

/* `tag` comes back from wait().  SYSTEM, NO_MEMORY (too many). */
int ax_loop_watch(struct ax_loop *loop, int fd, void *tag);
/* Before the descriptor is closed.  Tags taken before stay the caller's
 * care. */
void ax_loop_unwatch(struct ax_loop *loop, int fd);

/*
 * Waits up to timeout_us (0: only looks, -1: for ever) and writes at most
 * `max` tags; returns their number, 0 on time-out, on a signal, or early
 * after an unwatch.
 */
uint32_t ax_loop_wait(struct ax_loop *loop, int64_t timeout_us, void **tags,
                      uint32_t max);

#endif
