/*
 * One model of ours beside the golden of llama.cpp: every prompt in one step,
 * divergence and first token at the golden's positions, then the oracle's
 * greedy text as far as it was beyond doubt.
 */

#ifndef TESTS_GOLDEN_COMPARE_H
#define TESTS_GOLDEN_COMPARE_H

#include <stdbool.h>
#include <stdint.h>

struct compare_bounds {
    double mean_kl_max;   /* nat */
    uint32_t n_wrong_max; /* decided first tokens that may differ */
    bool greedy;          /* and whether greedy texts must be equal */
};

/* Mean KL 1e-3, and nothing else differs. */
extern const struct compare_bounds compare_strict;

/*
 * Runs the model at path, on at most isa (NULL: the machine's best), and
 * fails the test where it is farther from tests/golden/model/NAME.golden
 * than bounds; prints what was measured.
 */
void compare_model(const char *name, const char *path, const char *isa,
                   const struct compare_bounds *bounds);

#endif
