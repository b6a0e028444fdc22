/* See place.h. */
#include "engine/pool/place.h"

#include <pthread.h>
#include <string.h>


void
ax_placement_init(struct ax_placement *placement, bool pin, uint32_t realtime)
{
    placement->pin = pin;
    placement->realtime = realtime;
    CPU_ZERO(&placement->allowed);
    (void)sched_getaffinity(0, sizeof(placement->allowed), &placement->allowed);
}


static int
pin(pthread_t thread, const cpu_set_t *allowed, uint32_t nth)
{
    cpu_set_t one;

    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, allowed) && nth-- == 0) {
            CPU_SET(cpu, &one);
            break;
        }
    }
    return pthread_setaffinity_np(thread, sizeof(one), &one);
}


int
ax_pool_place(struct ax_pool *pool, const struct ax_placement *placement,
              struct ax_error *err)
{
    const struct sched_param param = {(int)placement->realtime};
    uint32_t n = ax_pool_threads(pool);
    int cpus = CPU_COUNT(&placement->allowed);

    if (placement->pin && n > (uint32_t)cpus) {
        return ax_error_set(err, AXION_ERR_BAD_OPTION,
                            "--pin: %u threads and %d CPUs for them", n, cpus);
    }
    if (placement->pin) {
        ax_pool_fix(pool);
    }
    for (uint32_t t = 0; t < n; t++) {
        pthread_t thread = t == 0 ? pthread_self() : ax_pool_thread(pool, t);
        int rc = placement->pin ? pin(thread, &placement->allowed, t) : 0;
        if (rc != 0) {
            return ax_error_set(err, AXION_ERR_SYSTEM, "--pin: %s",
                                strerror(rc));
        }
        rc = placement->realtime > 0
                 ? pthread_setschedparam(thread, SCHED_FIFO, &param)
                 : 0;
        if (rc != 0) {
            return ax_error_set(err, AXION_ERR_SYSTEM,
                                "--realtime %u: %s (it takes CAP_SYS_NICE or "
                                "LimitRTPRIO=)",
                                placement->realtime, strerror(rc));
        }
    }
    return AXION_OK;
}


void
ax_placement_end(const struct ax_placement *placement)
{
    const struct sched_param param = {0};

    if (placement->realtime > 0) {
        (void)pthread_setschedparam(pthread_self(), SCHED_OTHER, &param);
    }
    if (placement->pin) {
        (void)pthread_setaffinity_np(pthread_self(), sizeof(placement->allowed),
                                     &placement->allowed);
    }
}
