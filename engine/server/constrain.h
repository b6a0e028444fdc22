/*
 * Grammars of requests: who computes masks, and when.  Which grammars there are
 * is grammars.h's.
 *
 * A constraint belongs to one thread at a time.  It is thread 0's, which
 * follows tokens and copies masks between steps, within a bound of work for
 * each step; what takes longer goes to the helper while the request sits out
 * (AX_HOLD_GRAMMAR), and the constraint is the helper's until the last job on
 * it has been taken back.  What is allowed never depends on who was asked.
 *
 * The mask of a request's next token is a copy in its slot, which stays as it
 * is while a step runs; those of drafted positions are copies of that step's.
 */
#ifndef AX_SERVER_CONSTRAIN_H
#define AX_SERVER_CONSTRAIN_H

/*
 * Units of work (automaton.h), some 20 ns each: of all requests in a step on
 * thread 0; of each of them however much the others took, so that a mask at
 * hand is taken without the helper; of one turn on the helper, behind which
 * others' text work comes first; turns for one mask.
 */
#define AX_GRAMMAR_STEP_UNITS  20000u
#define AX_GRAMMAR_TOKEN_UNITS 64u
#define AX_GRAMMAR_TURN_UNITS  4000000u
#define AX_GRAMMAR_TURNS_MAX   12u

#endif
