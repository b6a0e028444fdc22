/*
 * A model, its KV pool and one executor, opened together for tests: feeds
 * flat steps and gives logits back.  Everything that goes wrong fails the
 * running cmocka test with the engine's own error line.
 */

#ifndef TESTS_GOLDEN_RUNNER_H
#define TESTS_GOLDEN_RUNNER_H

#include <stdint.h>

#include "engine/exec/exec.h"
#include "engine/kv/kv.h"
#include "engine/model/model.h"

#define RUNNER_SEQUENCES_MAX 16
#define RUNNER_TOKENS_MAX    1280 /* of one sequence */
#define RUNNER_GROUPS_MAX    8 /* of layers */
#define RUNNER_BLOCKS_MAX    (RUNNER_TOKENS_MAX / AX_KV_BLOCK_TOKENS)

struct golden_prompt; /* golden.h */

struct runner_sequence {
    struct ax_kv_sequence kv;
    uint32_t blocks[RUNNER_GROUPS_MAX * RUNNER_BLOCKS_MAX];
};

struct runner {
    struct ax_model *model;
    struct ax_kv *kv;
    struct ax_exec *exec;
    uint32_t n_vocab;
    float *logits; /* [logits_max][n_vocab] of the last step */
    struct runner_sequence sequences[RUNNER_SEQUENCES_MAX];
};

/* How runners that are opened from here on keep keys and values: f16. */
extern enum axk_kv_type runner_kv_type;

/* isa NULL: the machine's best. */
void runner_open(struct runner *r, const char *path, const char *isa,
                 uint32_t n_threads, uint32_t logits_max);
void runner_close(struct runner *r);

/* Empties all sequences. */
void runner_reset(struct runner *r);

/* Gives the sequence room and runs the step; logits are in r->logits. */
void runner_reserve(struct runner *r, uint32_t sequence, uint32_t n_tokens);
void runner_step(struct runner *r, const struct ax_step_token *tokens,
                 uint32_t n_tokens, uint32_t n_logits);

/* All of a prompt in one step, with logits at the golden's positions, up to
 * rows_max of them; returns how many. */
uint32_t runner_prompt(struct runner *r, const struct golden_prompt *p,
                       uint32_t rows_max);

/* KL(p || q) in nat over the whole vocabulary, of two rows of logits. */
double runner_divergence(const float *p, const float *q, uint32_t n_vocab);

/* Index of the largest logit, the lowest of equals. */
uint32_t runner_argmax(const float *logits, uint32_t n_vocab);

/* Writes the tiny variant's file into the build folder; path is static. */
const char *runner_tiny_path(const char *variant);

#endif
