/*
 * Compute threads that the kernel has put on one CPU go apart.
 *
 * Beside a busy process the kernel counts what runs on each CPU and finds two
 * compute threads on one and the neighbour on the other well shared out; and
 * at the start it may take some tenths of a second to spread threads.  But
 * threads that wait for each other do best on CPUs of their own, even next to
 * somebody: so one that waits, and sees that it has been for a while on the
 * CPU of another that it waits for, leaves it, for any that the process may
 * use and no compute thread is on.
 *
 * It does so by narrowing its own affinity for a moment and then asking for
 * what it had, so it stays in those CPUs if the process is given more later.
 * A thread that is pinned has nowhere to go.  Thread 0 is the caller's and is
 * never moved.
 */
#ifndef AX_POOL_APART_H
#define AX_POOL_APART_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>


/* A thread's own; all zero at first. */
struct ax_apart {
    uint64_t since_ns; /* on a CPU with another; 0: not known to be */
    uint64_t next_ns;  /* not before */
};


/* The CPU that the caller runs on, -1 if unknown; costs a few ns. */
int ax_apart_cpu(void);

/* The caller waits and shares its CPU; whether it is time to leave.  Where it
 * does not, forget with since_ns = 0. */
bool ax_apart_ready(struct ax_apart *apart, uint64_t now_ns);

/* Leaves the CPUs in taken; false, and stays, where it may use no other. */
bool ax_apart_leave(const cpu_set_t *taken);

#endif /* AX_POOL_APART_H */
