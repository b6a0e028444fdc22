/*
 * The compute threads: they run a job, a list of phases, each a number of
 * units of work; a phase starts when all units of the one before are done.
 *
 * Who does what.  In every phase thread t starts with its own contiguous share
 * of the units, the same from job to job, walks it upwards in pieces, and then
 * takes from others: the upper half of what a thread has left, or the whole
 * share of one that has not begun, because the kernel has put it aside.
 *
 * Two kinds of phase.  Where pieces are computed in place, a thread that is
 * put aside while it holds one makes all wait.  Where the job can compute a
 * piece in private and commit it afterwards (piece_max), it does not: one that
 * has nothing left to take computes a piece that another holds for too long
 * again, and whoever is first commits.  The result has the same bits, so it
 * does not matter who.
 *
 * A thread that was put aside may wake up at any later time, phases or jobs
 * later, inside compute().  What it reads then may have changed under it; what
 * it writes is its own and is dropped.  So compute() must
 *  - read only memory that outlives the pool, and weigh every number that
 *    bounds memory as it was before a successful ax_pool_holds();
 *  - write only memory of its thread.
 *
 * Waiting: a bounded spin, yielding to own threads alone, then a futex, within
 * a job and between jobs.  Thread 0 is the caller of ax_pool_run(); it alone
 * passes gates.  A job may do with fewer threads; the others sleep until one
 * wants them again.  Nothing is allocated after open.
 */
#ifndef AX_POOL_H
#define AX_POOL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <pthread.h>
#include <stdint.h>

#include "engine/error.h"


#define AX_POOL_THREADS_MAX 256u
#define AX_POOL_UNITS_MAX   ((1u << 14) - 1) /* of one phase */


/* A phase of one unit that only the caller's thread may do. */
#define AX_POOL_GATE UINT32_MAX


/* Units [begin, end) of a phase in the hands of a thread. */
struct ax_pool_piece {
    uint32_t phase;
    uint32_t begin;
    uint32_t end;
    uint32_t thread;               /* who computes: 0 .. n_threads - 1 */
    const _Atomic uint64_t *range; /* the pool's: where it is held */
    uint64_t held;
};


struct ax_pool_job {
    uint32_t n_threads; /* 0 .. n_threads - 1 take part; 0: all there are */
    uint32_t n_phases;
    const uint32_t *units; /* [n_phases], or AX_POOL_GATE */
    /* [n_phases]: units of a piece at most; 0: in place.  NULL: all in place */
    const uint32_t *piece_max;
    void *context;
    /* A piece of a phase in place, on any thread, exactly once. */
    void (*work)(void *context, const struct ax_pool_piece *piece);
    /* A piece into memory of piece->thread, any number of times; false when
     * it has seen that nobody holds the piece any more. */
    bool (*compute)(void *context, const struct ax_pool_piece *piece);
    /* What compute() left goes where it belongs; exactly once per piece, on
     * the thread that computed it, before anything else computes there. */
    void (*commit)(void *context, const struct ax_pool_piece *piece);
    /* At a gate, all earlier phases done, no later one begun; a nonzero
     * return ends the job.  May be NULL where there are no gates. */
    int (*gate)(void *context, uint32_t phase);
    uint64_t *end_ns; /* [n_phases], when each ended; or NULL */
};


/*
 * For compute(): true if the piece is not committed yet, and then all that
 * was read of the job's memory before this call belongs to its phase.
 */
bool ax_pool_holds(const struct ax_pool_piece *piece);


struct ax_pool;


/* AXION_ERR_BAD_OPTION, AXION_ERR_NO_MEMORY, AXION_ERR_SYSTEM. */
int ax_pool_start(struct ax_pool **out, uint32_t n_threads, uint32_t phases_max,
                  struct ax_error *err);
void ax_pool_stop(struct ax_pool *pool); /* NULL is fine */

uint32_t ax_pool_threads(const struct ax_pool *pool);

/* How many take part in the last job; all before the first. */
uint32_t ax_pool_crew(const struct ax_pool *pool);

/* Units that thread t has done so far, over all jobs. */
uint64_t ax_pool_units(const struct ax_pool *pool, uint32_t t);

/* Runs a job to its end; 0, or what the gate that ended it returned. */
int ax_pool_run(struct ax_pool *pool, const struct ax_pool_job *job);

/* From now on no thread moves itself away from another's CPU (apart.h), nor is
 * it about to: its affinity is the caller's to set. */
void ax_pool_fix(struct ax_pool *pool);

/* CPUs that this process may run on, at least 1. */
uint32_t ax_pool_cpus(void);

/* Thread t of 1 .. threads - 1. */
pthread_t ax_pool_thread(const struct ax_pool *pool, uint32_t t);

/* Phases that a job may have. */
uint32_t ax_pool_phases_max(const struct ax_pool *pool);

/* CPU time of the pool's threads and the caller's, ns: what work costs on a
 * machine that is busy with other things, too.  A call per thread. */
uint64_t ax_pool_cpu_ns(const struct ax_pool *pool);

/* CLOCK_MONOTONIC, for counters. */
uint64_t ax_pool_clock_ns(void);

#endif /* AX_POOL_H */
