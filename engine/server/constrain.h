/*
 * Grammars of requests: which are kept, who computes masks, and when.
 *
 * A grammar is compiled on the helper thread, as text work of its request, and
 * kept with its automaton and masks under (tenant, source): requests of one
 * tenant share what was computed, tenants share nothing.  The cache is the
 * helper's; a request that has a grammar counts as its user and thread 0 takes
 * itself off the count, so only what nobody uses is thrown out.
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

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "engine/error.h"
#include "engine/grammar/constraint.h"
#include "engine/text/tokenizer.h"
#include "shm/request.h"

/* Grammars kept or in use, in all and of one tenant. */
#define AX_GRAMMARS_MAX        64u
#define AX_GRAMMARS_TENANT_MAX 24u

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

struct ax_grammars;

struct ax_kept_grammar {
    struct ax_constraint *constraint;
    uint32_t jobs;     /* at the helper; thread 0's */
    atomic_uint users; /* raised by the helper, lowered by release() */
    /* the helper's */
    uint64_t tenant;
    uint64_t asked; /* the last time, by count */
    uint32_t kind;
    size_t bytes;
    char *source; /* [bytes] */
};

/* NO_MEMORY.  Reads the tokenizer for as long as it is open. */
int ax_grammars_open(struct ax_grammars **out,
                     const struct ax_tokenizer *tokenizer);
void ax_grammars_close(struct ax_grammars *grammars); /* NULL is fine */

/*
 * On the helper: the grammar of a request, compiled or found; to be released.
 * *is_new: nobody else has it yet, so the helper may use it.
 * GRAMMAR_INVALID, GRAMMAR_LIMIT, NO_MEMORY; QUEUE_FULL: as many grammars as
 * may be are in use.
 */
int ax_grammars_get(struct ax_grammars *grammars, uint64_t tenant,
                    const struct axion_request_view *view,
                    struct ax_kept_grammar **out, bool *is_new,
                    struct ax_error *err);

/* By the request's last owner. */
void ax_grammar_release(struct ax_kept_grammar *grammar);

#endif
