/*
 * make fuzz's part of the simulator: runs seeds for as long as it is given
 * time.  A finding says its seed, which test_sim reproduces.
 */
#include <stdio.h>
#include <stdlib.h>
#include "tests/sim/sim.h"

static uint64_t current;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static void
say_seed(void)
{
    fprintf(stderr, "last seed: test_sim %llu 1\n",
            (unsigned long long)current);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct sim_totals totals;
    static bool registered;
    if (!registered) {
        registered = true;
        (void)atexit(say_seed); /* a failed check leaves by exit() */
    }
    current = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++) {
        current = (current ^ data[i]) * 0x100000001b3u;
    }
    sim_run(current, &totals);
    return 0;
}
