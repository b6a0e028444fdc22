/*
 * Where and how urgently compute threads run, for who asks for it (--pin,
 * --realtime): a CPU of its own for each, and SCHED_FIFO.
 *
 * Both take from the neighbours: a pinned thread waits for its CPU though
 * another one is free, and a thread of SCHED_FIFO runs before everything else
 * there, nginx included; the kernel keeps 5% for others by default.
 */
#ifndef AX_POOL_PLACE_H
#define AX_POOL_PLACE_H

#include <stdbool.h>
#include <sched.h>
#include <stdint.h>
#include "engine/pool/pool.h"

struct ax_placement {
    bool pin;          /* thread t on the t-th CPU that is allowed */
    uint32_t realtime; /* priority of SCHED_FIFO, 1 to 99; 0: no */
    cpu_set_t allowed; /* by ax_placement_init() */
};

/* Takes the CPUs that the caller may use now: before anything is placed. */
void ax_placement_init(struct ax_placement *placement, bool pin,
                       uint32_t realtime);

/* The pool's threads and the caller, its thread 0.  BAD_OPTION: more threads
 * than CPUs; SYSTEM: not allowed (CAP_SYS_NICE or LimitRTPRIO is needed). */
int ax_pool_place(struct ax_pool *pool, const struct ax_placement *placement,
                  struct ax_error *err);
/* The caller as it was, for its next pool. */
void ax_placement_end(const struct ax_placement *placement);

#endif
