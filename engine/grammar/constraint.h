/*
 * A grammar over a vocabulary: which tokens may come next.
 *
 * A token is allowed where its bytes keep the text a beginning of one that the
 * grammar accepts; the tokens that end a generation where it accepts the text
 * as it is.  The mask of a state is found by walking the vocabulary's trie and
 * the automaton together, and is kept: masks by state, a fixed number of them,
 * in memory made at open.
 *
 * Where a sequence stands is a struct ax_place of the caller's, nothing more:
 * follow() takes it to the end of the answer's tokens, from where it was or,
 * when the automaton has forgotten that meanwhile, from the answer's start.
 * What is allowed is a function of the grammar and the tokens alone.
 *
 * All calls take from the units of work that allow() gives, and say AGAIN
 * when these are gone: AXION_AGAIN loses nothing but time.
 *
 * One thread at a time; no heap after open.
 */
#ifndef AX_GRAMMAR_CONSTRAINT_H
#define AX_GRAMMAR_CONSTRAINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "engine/error.h"
#include "engine/grammar/grammar.h"
#include "engine/grammar/vocabulary.h"

#define AX_CONSTRAINT_MASKS_MAX 64u

struct ax_constraint;

struct ax_place {
    uint32_t state; /* 0: at the start, whatever the generation */
    uint32_t generation;
    uint32_t n_tokens; /* of the answer, followed so far */
};

/* A token of the text: its bytes, as the vocabulary's source has them. */
struct ax_constraint_options {
    const struct ax_vocabulary *vocabulary;    /* outlives it */
    const struct ax_vocabulary_source *source; /* outlives it */
    struct ax_grammar *grammar;                /* is closed with it */
};

/* NO_MEMORY; the grammar is closed then, too. */
int ax_constraint_open(struct ax_constraint **out,
                       const struct ax_constraint_options *options);
void ax_constraint_close(struct ax_constraint *constraint); /* NULL is fine */
/* What one of these takes at most, its grammar included; with NULL for the
 * grammar: no grammar's takes less. */
size_t ax_constraint_bytes(const struct ax_vocabulary *vocabulary,
                           const struct ax_grammar *grammar);
/* Masks that were made since open, those that were forgotten included. */
uint64_t ax_constraint_masks_made(const struct ax_constraint *constraint);

/* 64-bit words of a mask: bit t % 64 of word t / 64 is token t. */
uint32_t ax_constraint_words(uint32_t n_vocab);

void ax_constraint_allow(struct ax_constraint *constraint, uint64_t units);
uint64_t ax_constraint_left(const struct ax_constraint *constraint);

/*
 * Takes the place to the end of answer[0 .. n).  AXION_AGAIN: no work is left,
 * the place is between two tokens.  GRAMMAR_LIMIT: the text can be read in too
 * many ways at once.  GRAMMAR_DEAD_END: a token is not allowed (one that ends
 * a generation stands at the end of the answer only).
 */
int ax_constraint_follow(struct ax_constraint *constraint,
                         struct ax_place *place, const int32_t *answer,
                         uint32_t n);

/* Where a followed place has come to: the text is complete, and nothing may
 * follow it. */
bool ax_constraint_complete(const struct ax_constraint *constraint,
                            const struct ax_place *place);

/*
 * The tokens that may follow a place that was followed and not forgotten since,
 * into mask[words].  AXION_AGAIN; GRAMMAR_LIMIT.  *any is false where no
 * token is allowed, not even one that ends a generation.
 */
int ax_constraint_mask(struct ax_constraint *constraint, struct ax_place *place,
                       uint64_t *mask, bool *any);

/* Takes the tokens that end a generation out of a mask; *any as above. */
void ax_constraint_without_ends(const struct ax_constraint *constraint,
                                uint64_t *mask, bool *any);

static inline bool
ax_mask_has(const uint64_t *mask, int32_t token)
{
    return mask[(uint32_t)token / 64] >> ((uint32_t)token % 64) & 1;
}

#endif
