/*
 * Where a copy has come to in the text that it copies: the place goes on
 * through an edit, where the longest repeated suffix is broken.
 *
 * An automaton that has just seen a new word knows nothing: the longest
 * suffix that occurred before is empty, or short and anywhere.  But who
 * copies with changes goes on, as a rule, a few tokens behind the place where
 * the copy broke.  So the place is kept:
 *
 *   FOLLOWING  each token is the one that stands there; run counts them
 *   BROKEN     one was not.  The tokens since the break are looked for in the
 *              AX_COPY_REACH tokens behind it, the longest match wins and
 *              gives run; without one, as many tokens were replaced as came.
 *              CONFIRMED tokens in a row are FOLLOWING again; too many
 *              without, and the copy is over
 *
 * A repeated suffix that is longer than run moves the place: the automaton
 * tells it.  Positions are the caller's, in its text; pure, fixed memory, at
 * most AX_COPY_REACH short comparisons a token.
 */
#ifndef AX_SPEC_COPY_H
#define AX_SPEC_COPY_H

#include <stdbool.h>
#include <stdint.h>

#define AX_COPY_REACH 32u

struct ax_copy {
    bool active;
    bool following;
    uint32_t at;  /* the token that is expected next */
    uint32_t run; /* tokens in a row that were expected, since the last edit */
    uint32_t broke; /* where at was when the copy broke */
    uint32_t lost;  /* tokens since then */
};

void ax_copy_reset(struct ax_copy *copy);
/* text[n_tokens - 1] came. */
void ax_copy_add(struct ax_copy *copy, const int32_t *text, uint32_t n_tokens);
/* The last `match` tokens stand in front of text[at], too. */
void ax_copy_anchor(struct ax_copy *copy, uint32_t at, uint32_t match);
/* What may follow text[0 .. n_tokens): up to max tokens into out.  A place
 * that reaches the text's end goes on with what it proposed itself. */
uint32_t ax_copy_propose(const struct ax_copy *copy, const int32_t *text,
                         uint32_t n_tokens, int32_t *out, uint32_t max);

#endif
