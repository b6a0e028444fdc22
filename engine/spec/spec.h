/*
 * Speculation: for the sequences of a step, what may come next (proposers)
 * and how much of it is worth computing (control.h).  Verification is the
 * server's: it samples every position as it would without drafts and goes on
 * while the token drawn equals the draft, so text, distribution and bytes are
 * those of the undrafted run.
 *
 *   suffix   a suffix automaton over the request's own prompt and answer,
 *            and the place that a copy with edits has come to (copy.h)
 *   bigram   AX Engine's tables (bigram.h), with their own gate
 *   draft    a smaller model, which costs: how much it may say is chosen
 *            first, then the server runs it and tells what it said
 *   custom   the caller's function, always computed: tests, embedders
 *
 * A sequence that is in steps has one of `sequences` places, taken at its
 * first step and given up at its end, or to another one when it has not been
 * in a step for longest (parked streams keep KV, not a place).  Its text is
 * indexed as it comes, at most INDEX_TOKENS a step for all together, so that
 * a long prompt never makes a step late; until that has caught up there is no
 * proposal.
 *
 * Order within a step
 *   ax_spec_begin_step()
 *   ax_spec_follow()    for each entry that does not sample: index its text
 *   ax_spec_propose()   for each decode; then ax_spec_choose_step()
 *   ax_spec_sampled()   for each token sampled, drafted or not
 *
 * Memory is reserved at open; nothing is allocated after that.  Thread 0.
 */
#ifndef AX_SPEC_SPEC_H
#define AX_SPEC_SPEC_H

#include <stdbool.h>
#include <stdint.h>
#include "engine/error.h"
#include "engine/spec/control.h"

#define AX_SPEC_KINDS "off|suffix|bigram|draft"

enum ax_spec_kind {
    AX_SPEC_OFF = 0,
    AX_SPEC_SUFFIX,
    AX_SPEC_BIGRAM,
    AX_SPEC_DRAFT,
    AX_SPEC_CUSTOM,
};

/* Up to max tokens that may follow tokens[0 .. n_tokens), into out. */
struct ax_spec_proposer {
    uint32_t (*propose)(void *context, uint32_t slot, const int32_t *tokens,
                        uint32_t n_prompt, uint32_t n_tokens, int32_t *out,
                        uint32_t max);
    void *context;
};

struct ax_spec_options {
    enum ax_spec_kind kind;
    uint32_t slots;     /* of requests */
    uint32_t sequences; /* places: of one step */
    uint32_t ctx;
    uint32_t draft_max; /* of one sequence, 1 .. AX_SPEC_DRAFT_MAX */
    struct ax_spec_proposer custom; /* of CUSTOM */
};

struct ax_spec;

/* "suffix"; OFF for what is no name. */
enum ax_spec_kind ax_spec_kind(const char *name);

/* BAD_OPTION, NO_MEMORY.  With OFF all calls are fine and do nothing. */
int ax_spec_open(struct ax_spec **out, const struct ax_spec_options *options,
                 struct ax_error *err);
void ax_spec_close(struct ax_spec *spec); /* NULL is fine */
/* Address space that was reserved, for the log. */
uint64_t ax_spec_bytes(const struct ax_spec *spec);

/* A request ended, or a new one got its slot. */
void ax_spec_forget(struct ax_spec *spec, uint32_t slot);

void ax_spec_begin_step(struct ax_spec *spec);
void ax_spec_follow(struct ax_spec *spec, uint32_t slot, const int32_t *tokens,
                    uint32_t n_tokens);
/*
 * Up to max drafts behind tokens[0 .. n_tokens) into tokens[n_tokens ..],
 * which must have room for them (a draft model's come later, by said());
 * returns how many.  Fills a record of the
 * step for choose(): at most `sequences` calls a step.
 */
uint32_t ax_spec_propose(struct ax_spec *spec, uint32_t slot, int32_t *tokens,
                         uint32_t n_prompt, uint32_t n_tokens, uint32_t max);
/*
 * How many of them to compute: by the law, all where the proposer has its own
 * gate (custom, an open bigram).  `step` describes the step without drafts.
 * What they would add to it without its room_us.
 */
float ax_spec_choose_step(struct ax_spec *spec, const struct ax_cost *cost,
                          const struct ax_spec_step *step);
/* The choice for a slot that proposed in this step. */
uint32_t ax_spec_chosen(const struct ax_spec *spec, uint32_t slot);
/* What the draft model said, for a choice of `draft` alone. */
void ax_spec_said(struct ax_spec *spec, uint32_t slot, const int32_t *drafts,
                  uint32_t n);

/* The sequence got its next token. */
void ax_spec_sampled(struct ax_spec *spec, uint32_t slot, int32_t token);

#endif
