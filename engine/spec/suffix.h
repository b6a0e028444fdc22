/*
 * A suffix automaton over one sequence's tokens, built as they come: after
 * each token it knows the longest suffix of the text that occurred before,
 * and where it did last; what came after it there is the proposal.
 *
 * The automaton (Blumer et al. 1985) has at most 2n states and 3n edges for n
 * tokens; adding one costs amortised constant time.  n-gram look-up is the
 * special case of one fixed length.  Edges lie in one hash table keyed
 * (state, token), since the root has an edge for every token of the text, and
 * in a list per state, since a clone copies them.
 *
 * Memory is the caller's, cut once for `tokens_max`; a full automaton is told
 * by ax_suffix_full() and started again by its owner.  The text itself is the
 * caller's, too, and must stay where positions point.
 */
#ifndef AX_SPEC_SUFFIX_H
#define AX_SPEC_SUFFIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AX_SUFFIX_TOKENS_MAX (1u << 22)

struct ax_suffix_state;
struct ax_suffix_edge;

struct ax_suffix {
    uint32_t tokens_max;
    uint32_t n_tokens;
    uint32_t n_states, n_edges;
    uint32_t last;
    uint32_t hash_mask;
    uint64_t hash_factor; /* odd */
    uint32_t match;     /* length of the longest suffix seen before; 0: none */
    uint32_t match_end; /* index of its last token there */
    uint32_t *heads;    /* [hash_mask + 1] of edge chains, 0: empty */
    struct ax_suffix_state *states; /* [2 * tokens_max] */
    struct ax_suffix_edge *edges;   /* [3 * tokens_max], 0 is none */
};

/* Bytes of memory for so many tokens (1 .. AX_SUFFIX_TOKENS_MAX). */
size_t ax_suffix_bytes(uint32_t tokens_max);
/* memory is 64-aligned and zero; then the text is empty.  key: any number that
 * those who write texts cannot know, or they could make all edges collide. */
void ax_suffix_init(struct ax_suffix *a, void *memory, uint32_t tokens_max,
                    uint64_t key);
void ax_suffix_reset(struct ax_suffix *a);

bool ax_suffix_full(const struct ax_suffix *a);
void ax_suffix_add(struct ax_suffix *a, int32_t token);

/*
 * What may follow text[0 .. n_tokens), which is what was added: up to max
 * tokens into out; 0 without a match.  A match that reaches the text's end
 * goes on with what it proposed itself (a loop).
 */
uint32_t ax_suffix_propose(const struct ax_suffix *a, const int32_t *text,
                           int32_t *out, uint32_t max);

#endif
