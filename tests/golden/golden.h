/*
 * Reads tests/golden/model/NAME.golden, what llama.cpp said about a model
 * (make_model_goldens.py writes them).  Little endian, nothing padded:
 *
 *   8     magic "AXGOLD\0\1"
 *   32    the oracle and its version, padded with zeros
 *   32    sha256 of the model file
 *   u32   n_prompts, and for each
 *     u32   n_tokens, u32 tokens[n_tokens]
 *     u32   n_greedy, u32 greedy[n_greedy]: the oracle's greedy continuation
 *           up to the first step whose margin was 0.1 nat or less
 *     u32   n_positions, and for each
 *       u32   position: the row of the last of tokens[0..position]
 *       u32   n_top
 *       f32   mass of all tokens that are not in top[]
 *       u32   top[n_top], descending
 *       f32   log_probs[n_top], natural
 *
 * Everything a golden returns points into one allocation and lives until
 * golden_close().
 */

#ifndef TESTS_GOLDEN_GOLDEN_H
#define TESTS_GOLDEN_GOLDEN_H

#include <stdint.h>

struct golden_position {
    uint32_t position;
    uint32_t n_top;
    float tail_mass;
    const uint32_t *top;
    const float *log_probs;
};

struct golden_prompt {
    uint32_t n_tokens, n_greedy, n_positions;
    const uint32_t *tokens;
    const uint32_t *greedy;
    struct golden_position *positions;
};

struct golden {
    char oracle[33];
    uint8_t model_sha256[32];
    uint32_t n_prompts;
    struct golden_prompt *prompts;
    uint8_t *data;
};

/* 0, or -1 where the file is missing or not a golden. */
int golden_open(struct golden *golden, const char *path);
void golden_close(struct golden *golden);

/* log p(first) - log p(second), in nat. */
float golden_margin(const struct golden_position *position);

/*
 * Kullback-Leibler divergence of our distribution from the oracle's, in nat:
 * the tokens that the golden names one by one, all others as one.
 * logits: [n_vocab] f32, ours.
 */
double golden_kl(const struct golden_position *position, const float *logits,
                 uint32_t n_vocab);

#endif
