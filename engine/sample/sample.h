/*
 * Sampling: one row of logits in, one token out.
 *
 * ax_sample() is a pure function of the request's parameters, the tokens of
 * the sequence so far and the logits.  It keeps no state between calls, the
 * struct ax_sampler is scratch memory alone: so the answer does not depend
 * on the batch, on threads, on preemption or on rejected drafts.
 *
 * Order of the stages, that of llama.cpp's default chain:
 *   grammar, logit bias, penalties, top_k, top_p, min_p, temperature, draw.
 * top_p and min_p therefore see the probabilities at temperature 1.  (vLLM
 * and OpenAI divide by the temperature first; at temperature 1 both orders
 * are the same.)
 *
 *   grammar      tokens that are not in `allowed` are banned; nothing that
 *                comes after can bring one back
 *   logit bias   added to the logit; -100 or less bans the token
 *   repetition   as Hugging Face: every token of prompt and answer once; a
 *                positive logit is divided by the penalty, another multiplied
 *   frequency,   as OpenAI: over the answer alone; the logit loses
 *   presence       frequency * count + presence * (count > 0)
 *   top_k        keeps the k largest; 0 or >= n_vocab is off
 *   top_p        keeps the shortest prefix, largest first, whose mass is at
 *                least top_p of what top_k left
 *   min_p        keeps what is at least min_p as probable as the largest
 *   temperature  0 is greedy: the largest logit after bias and penalties
 * Equal logits are ordered by id, the lowest first.  The draw walks the kept
 * tokens by ascending id.  exp and log are the kernels' own, sums are double
 * in a fixed order: the same token on every machine of one ISA family.
 *
 * Cost: one pass over the logits for a check and the maxima of groups of 64;
 * selection then looks only into groups that can hold a kept token.  Nothing
 * is ever sorted.  No heap after open.
 *
 * Errors: NUMERICAL when a logit is NaN or infinite, INVALID_VALUE when
 * grammar and biases ban every token.  Both end that one request.
 */
#ifndef AX_SAMPLE_SAMPLE_H
#define AX_SAMPLE_SAMPLE_H

#include <stdint.h>
#include "kernels/axk.h"
#include "shm/errors.h"

#define AX_SAMPLING_BIAS_BANNED (-100.0f)

struct ax_sampling_bias {
    uint32_t token; /* < n_vocab */
    float bias;     /* finite */
};

struct ax_sampling {
    float temperature;        /* >= 0 */
    float top_p;              /* (0, 1] */
    float min_p;              /* [0, 1] */
    float repetition_penalty; /* > 0 */
    float presence_penalty;
    float frequency_penalty;
    uint32_t top_k;
    uint32_t n_bias;
    const struct ax_sampling_bias *bias;
    uint64_t seed;
    /* A bit for each token, t % 64 of word t / 64; NULL: all are allowed. */
    const uint64_t *allowed;
};

/* Temperature 1, everything else off, seed 0. */
void ax_sampling_defaults(struct ax_sampling *sampling);

/* AXION_OK, or INVALID_VALUE / INVALID_TOKEN with the name of the field at
 * fault in *field (may be NULL). */
int ax_sampling_check(const struct ax_sampling *sampling, uint32_t n_vocab,
                      const char **field);

/* What a sequence holds so far: the prompt, then the answer. */
struct ax_sample_history {
    const int32_t *tokens; /* [n_tokens], each < n_vocab */
    uint32_t n_prompt;
    uint32_t n_tokens;
};

struct ax_sampler;

/* NO_MEMORY.  `ops` gives exp and argmax. */
int ax_sampler_open(struct ax_sampler **out, uint32_t n_vocab,
                    const struct axk_ops *ops);
void ax_sampler_close(struct ax_sampler *sampler);

/*
 * The token for position history->n_tokens.  logits is [n_vocab] f32 and
 * stays as it is.  One thread per sampler, which has run axk_thread_init().
 */
int ax_sample(struct ax_sampler *sampler, const struct ax_sampling *sampling,
              const struct ax_sample_history *history, const float *logits,
              int32_t *token);

#endif
