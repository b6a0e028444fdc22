/*
 * Shows that no traffic breaks the engine's promises: thousands of seeds of
 * arrivals, cancels, pauses, slow readers, refused leases, deaths and too
 * little memory, on the real scheduler, KV pool and ring (sim.h).  After every
 * turn blocks have the holders that tables say and holders of one realm,
 * queues are bounded and nobody waits beyond the bound; every token is the one
 * that its prompt makes, usage and leases are exact, and at the end everyone
 * was answered and every block is free.
 *
 *     test_sim [FIRST [N]]    N seeds from FIRST on; AXION_SIM_SEEDS as N
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/sim/sim.h"

#define SEEDS 2000u

static uint64_t first_seed = 1, n_seeds = SEEDS;
static struct sim_totals totals;


static uint64_t current;

/* cmocka leaves a failed test at once: the seed must have been said. */
static int
say_seed(void **state)
{
    (void)state;
    if (current < first_seed + n_seeds) {
        fprintf(stderr, "seed %llu failed: test_sim %llu 1\n",
                (unsigned long long)current, (unsigned long long)current);
    }
    return 0;
}


static void
no_traffic_breaks_a_promise(void **state)
{
    (void)state;
    for (current = first_seed; current < first_seed + n_seeds; current++) {
        sim_run(current, &totals);
    }
    printf(
        "%llu seeds: %llu steps, %llu preemptions (%llu by rank), %llu deaths, "
        "%llu tokens computed and %llu found, longest wait %.2f s, %llu steps "
        "waited above all classes, counters apart by %llu %% of the bound, "
        "%llu steps of drafts beside prompts that wanted more, %llu waits for "
        "masks\n",
        (unsigned long long)n_seeds, (unsigned long long)totals.steps,
        (unsigned long long)totals.preempted,
        (unsigned long long)totals.gave_way, (unsigned long long)totals.deaths,
        (unsigned long long)totals.computed, (unsigned long long)totals.cached,
        (double)totals.waited_max_us / 1e6,
        (unsigned long long)totals.aged_steps,
        (unsigned long long)totals.gap_part_max,
        (unsigned long long)totals.bound_drafts,
        (unsigned long long)totals.masks);
}


int
main(int argc, char **argv)
{
    const char *more = getenv("AXION_SIM_SEEDS");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_traffic_breaks_a_promise, NULL,
                                        say_seed),
    };
    if (getenv("AXION_SANITIZED") != NULL) {
        n_seeds = SEEDS / 20;
    }
    n_seeds = more != NULL ? strtoull(more, NULL, 10) : n_seeds;
    first_seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    n_seeds = argc > 2 ? strtoull(argv[2], NULL, 10) : n_seeds;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
