/*
 * AX Engine's proposer, for comparison (github.com/defai-digital/ax-engine):
 * tables of bigrams and trigrams, the most frequent continuation of late, a
 * chain of up to four drafts, behind an EMA gate (tau 0.1, threshold 0.5).
 * It knows no costs; a closed gate opens again because what it would have
 * said is compared with what came.  Its rule of accepting by probability is
 * not taken over: here as everywhere a draft must equal what is sampled.
 *
 * Two direct-mapped tables of fixed size per sequence; a slot that collides
 * loses a count, and its place at zero.
 */
#ifndef AX_SPEC_BIGRAM_H
#define AX_SPEC_BIGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AX_BIGRAM_SLOTS     4096u
#define AX_BIGRAM_DRAFTS    4u
#define AX_BIGRAM_TAU       0.1f
#define AX_BIGRAM_THRESHOLD 0.5f

struct ax_bigram_slot {
    int32_t context[2]; /* the older one -1: a bigram */
    int32_t next;
    uint32_t count; /* 0: empty */
};

struct ax_bigram {
    float ema;
    uint32_t n_tokens;
    int32_t recent[2]; /* the last two tokens; -1 before there are */
    struct ax_bigram_slot two[AX_BIGRAM_SLOTS], three[AX_BIGRAM_SLOTS];
};

void ax_bigram_reset(struct ax_bigram *b);
void ax_bigram_add(struct ax_bigram *b, int32_t token);
/* Up to max (at most AX_BIGRAM_DRAFTS) tokens that may follow. */
uint32_t ax_bigram_propose(const struct ax_bigram *b, int32_t *out,
                           uint32_t max);
bool ax_bigram_open(const struct ax_bigram *b);
void ax_bigram_learn(struct ax_bigram *b, bool right);

#endif
