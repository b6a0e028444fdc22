/*
 * The sampler's source of randomness: a counter-based generator.
 *
 * A draw is a pure function of (seed, position): nothing is advanced, so it
 * does not matter in which batch, after which preemption or behind how many
 * rejected drafts a position is sampled.  The function is Philox4x32 with ten
 * rounds (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as
 * 1, 2, 3", SC 2011): the key is the seed, the counter is the position.
 */
#ifndef AX_SAMPLE_RANDOM_H
#define AX_SAMPLE_RANDOM_H

#include <stdint.h>

/* out[4] = Philox4x32-10(counter[4], key[2]). */
void ax_philox(const uint32_t counter[4], const uint32_t key[2],
               uint32_t out[4]);

/* Uniform in [0, 1), a multiple of 2^-53. */
double ax_random_unit(uint64_t seed, uint64_t position);

#endif
