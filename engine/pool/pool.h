/*
 * The compute threads: they run a job, a list of phases, each a number of
 * units of work; a phase starts when all units of the one before are done.
 *
 * Who does what.  In every phase thread t starts with its own contiguous share
 * of the units, the same from job to job, walks it upwards, and then takes
 * the upper half of what another thread has left.  A phase is over when its
 * units are done, not when threads arrive: a thread that the kernel has put
 * aside before it took any holds nobody up, the others do its share.
 *
 * How.  Thread t's range is one 64-bit word: (epoch, begin, end).  The epoch
 * numbers phases over the pool's life, so a word of an older epoch means "not
 * begun in this phase", and whoever comes first, owner or thief, begins it
 * with a compare-and-swap.  Units can only be taken by a successful swap, and
 * while they are held their phase cannot end; so a thread that slept through
 * phases or whole jobs fails its swap and harms nothing.  One counter of
 * units done, growing for ever, tells where all stand.
 *
 * Waiting: a bounded spin, then sched_yield, then a futex, within a job and
 * between jobs.  Thread 0 is the caller of ax_pool_run(); it alone passes
 * gates.  Nothing is allocated after open.
 */
#ifndef AX_POOL_H
#define AX_POOL_H

#include <stdint.h>

#include "engine/error.h"


#define AX_POOL_THREADS_MAX 256u
#define AX_POOL_UNITS_MAX   ((1u << 20) - 1) /* of one phase */


/* A phase of one unit that only the caller's thread may do. */
#define AX_POOL_GATE UINT32_MAX


struct ax_pool_job {
    uint32_t n_phases;
    const uint32_t *units; /* [n_phases], or AX_POOL_GATE */
    void *context;
    /* Units [begin, end) of a phase, on any thread. */
    void (*work)(void *context, uint32_t phase, uint32_t begin, uint32_t end,
                 uint32_t thread);
    /* At a gate, all earlier phases done, no later one begun; a nonzero
     * return ends the job.  May be NULL where there are no gates. */
    int (*gate)(void *context, uint32_t phase);
    uint64_t *end_ns; /* [n_phases], when each ended; or NULL */
};


struct ax_pool;


/* AXION_ERR_BAD_OPTION, AXION_ERR_NO_MEMORY, AXION_ERR_SYSTEM. */
int ax_pool_start(struct ax_pool **out, uint32_t n_threads, uint32_t phases_max,
                  struct ax_error *err);
void ax_pool_stop(struct ax_pool *pool); /* NULL is fine */

uint32_t ax_pool_threads(const struct ax_pool *pool);

/* Runs a job to its end; 0, or what the gate that ended it returned. */
int ax_pool_run(struct ax_pool *pool, const struct ax_pool_job *job);

/* CPUs that this process may run on, at least 1. */
uint32_t ax_pool_cpus(void);

/* CLOCK_MONOTONIC, for counters. */
uint64_t ax_pool_clock_ns(void);

#endif /* AX_POOL_H */
