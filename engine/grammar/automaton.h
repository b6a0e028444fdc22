/*
 * The automaton of a grammar: what a text so far allows its next byte to be.
 *
 * A state is the set of all ways to read the text: each way (a thread) is the
 * node that takes the next byte and the chain of calls that it stands in.
 * Chains share their tails: a chain is one frame and the chain below it, and
 * equal frames are one (hash consing), so that a state is a sorted list of
 * small numbers and equal states are one number.  States and their
 * transitions, by class of bytes, are made when they are first asked for.
 *
 * Memory is one mapping of fixed size, made at open; its pages come with their
 * first use.  When it is full nothing is done and FULL is said; collect() then
 * keeps one state and forgets all others: their numbers are void, which
 * generation() tells.  Whoever holds one follows his text again.
 *
 * Time is bounded by units of work, one for about each node or transition
 * looked at: a call that runs out of what allow() gave says AGAIN, has changed
 * nothing that can be seen, and may be made again.
 *
 * One thread at a time.
 */
#ifndef AX_GRAMMAR_AUTOMATON_H
#define AX_GRAMMAR_AUTOMATON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "engine/grammar/grammar.h"

#define AX_GRAMMAR_STATES_MAX  4096u
#define AX_GRAMMAR_FRAMES_MAX  32768u
#define AX_GRAMMAR_THREADS_MAX 4096u /* of one state */
#define AX_GRAMMAR_CALLS_MAX   2000u /* deep: deeper alternatives are none */

/* Nothing can follow, not even the end. */
#define AX_GRAMMAR_DEAD 1u

enum ax_grammar_answer {
    AX_GRAMMAR_DONE = 0,
    AX_GRAMMAR_AGAIN,     /* no work is left */
    AX_GRAMMAR_FULL,      /* memory; after collect() it can be done */
    AX_GRAMMAR_AMBIGUOUS, /* more than THREADS_MAX ways to read the text */
};

struct ax_automaton;

/* Reads the grammar for as long as it is open.  NO_MEMORY. */
int ax_automaton_open(struct ax_automaton **out,
                      const struct ax_grammar *grammar);
void ax_automaton_close(struct ax_automaton *automaton); /* NULL is fine */
/* What the mapping of one with so many classes of bytes takes. */
size_t ax_automaton_bytes(uint32_t n_classes);

/* Units of work for all calls until the next allow(); what is left. */
void ax_automaton_allow(struct ax_automaton *automaton, uint64_t units);
uint64_t ax_automaton_left(const struct ax_automaton *automaton);
/* Takes units for work of the caller's; false: none are left. */
bool ax_automaton_spend(struct ax_automaton *automaton, uint32_t units);

/* The state of the empty text. */
enum ax_grammar_answer ax_automaton_start(struct ax_automaton *automaton,
                                          uint32_t *state);
/* The state behind one more byte; AX_GRAMMAR_DEAD: it is not allowed. */
enum ax_grammar_answer ax_automaton_step(struct ax_automaton *automaton,
                                         uint32_t state, uint8_t byte,
                                         uint32_t *next);
/* The text may end here. */
bool ax_automaton_accepts(const struct ax_automaton *automaton, uint32_t state);
/* It may not go on. */
bool ax_automaton_ends(const struct ax_automaton *automaton, uint32_t state);

/* Bytes behind which the state is the same again, as far as they make whole
 * classes: [n] is true for byte n. */
enum ax_grammar_answer ax_automaton_loops(struct ax_automaton *automaton,
                                          uint32_t state, bool loops[256]);

/* Forgets all but *state, which gets a new number. */
void ax_automaton_collect(struct ax_automaton *automaton, uint32_t *state);
uint32_t ax_automaton_generation(const struct ax_automaton *automaton);

#endif
