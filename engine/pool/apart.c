/* See apart.h. */
#include "engine/pool/apart.h"


/* The kernel spreads threads by itself within some ms where CPUs idle; and
 * after a move, of some 30 us, it may have its reasons to undo it. */
#define SHARED_NS 2000000u
#define PERIOD_NS 20000000u


int
ax_apart_cpu(void)
{
    return sched_getcpu();
}


bool
ax_apart_ready(struct ax_apart *apart, uint64_t now_ns)
{
    if (apart->since_ns == 0) {
        apart->since_ns = now_ns;
    }
    if (now_ns < apart->since_ns + SHARED_NS || now_ns < apart->next_ns) {
        return false;
    }
    apart->since_ns = 0;
    apart->next_ns = now_ns + PERIOD_NS;
    return true;
}


bool
ax_apart_leave(const cpu_set_t *taken)
{
    cpu_set_t allowed, others, now;

    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) {
        return false;
    }
    CPU_ZERO(&others);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &allowed) && !CPU_ISSET(cpu, taken)) {
            CPU_SET(cpu, &others);
        }
    }
    if (CPU_COUNT(&others) == 0 ||
        sched_setaffinity(0, sizeof(others), &others) != 0) {
        return false;
    }
    /* The call returns on one of them.  Whoever has set the affinity from
     * outside meanwhile is left in the right. */
    return sched_getaffinity(0, sizeof(now), &now) == 0 &&
           CPU_EQUAL(&now, &others) &&
           sched_setaffinity(0, sizeof(allowed), &allowed) == 0;
}
