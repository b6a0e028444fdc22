/*
 * The compiled grammars of requests: which are kept, and in how much memory.
 *
 * A grammar is compiled on the helper thread, as text work of its request, and
 * kept with its automaton and masks under (tenant, source): requests of one
 * tenant share what was computed, tenants share nothing.  The cache is the
 * helper's; a request that has a grammar counts as its user and thread 0 takes
 * itself off the count, so only what nobody uses is thrown out.
 *
 * Memory is one account of bytes: the tokens' trie, and of each grammar its
 * source, program, automaton and masks, as much as they can ever take (pages
 * come with use, so that less is resident).  It is never passed.  Room for one
 * more comes from those that nobody uses: first of tenants that have more than
 * an equal share of all who keep some, and among these the one whose size
 * times age is largest, its age being the grammars asked for since it was.
 *
 * In use a tenant may have twice what is left free by all that is in use, and
 * always one that fits: two thirds of the memory alone, two fifths each of two
 * tenants, two sevenths of three, and what is left is there for who comes next
 * (dynamic thresholds, Choudhury and Hahne 1998).
 */
#ifndef AX_SERVER_GRAMMARS_H
#define AX_SERVER_GRAMMARS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "engine/error.h"
#include "engine/grammar/constraint.h"
#include "shm/request.h"

struct ax_grammars;
struct ax_grammar_tenant;

struct ax_grammars_options {
    struct ax_vocabulary_source tokens; /* its context outlives the cache */
    uint64_t memory_bytes;
};

struct ax_kept_grammar {
    struct ax_constraint *constraint;
    uint32_t jobs;     /* at the helper; thread 0's */
    atomic_uint users; /* raised by the helper, lowered by release() */
    /* the helper's */
    struct ax_kept_grammar *next;
    struct ax_grammar_tenant *tenant;
    uint64_t asked; /* the last time, by count */
    uint64_t bytes; /* in the account */
    uint32_t kind;
    size_t source_bytes;
    char *source; /* [source_bytes] */
};

struct ax_grammar_counts {
    uint64_t kept;
    uint64_t bytes;          /* of the account */
    uint64_t hits, compiles; /* requests */
    uint64_t masks, mask_ns; /* made, not found */
};

/* NO_MEMORY. */
int ax_grammars_open(struct ax_grammars **out,
                     const struct ax_grammars_options *options);
void ax_grammars_close(struct ax_grammars *grammars); /* NULL is fine */

/*
 * On the helper: the grammar of a request, compiled or found; to be released.
 * *is_new: nobody else has it yet, so the helper may use it.
 * GRAMMAR_INVALID; GRAMMAR_LIMIT, also of one that the memory cannot hold;
 * NO_MEMORY; QUEUE_FULL: those in use leave this tenant no room.
 */
int ax_grammars_get(struct ax_grammars *grammars, uint64_t tenant,
                    const struct axion_request_view *view,
                    struct ax_kept_grammar **out, bool *is_new,
                    struct ax_error *err);

/* By the request's last owner. */
void ax_grammar_release(struct ax_kept_grammar *grammar);

/* From any thread: so many masks were made in so long; what was counted. */
void ax_grammars_made(struct ax_grammars *grammars, uint64_t masks,
                      uint64_t ns);
void ax_grammars_counts(const struct ax_grammars *grammars,
                        struct ax_grammar_counts *counts);

#endif
