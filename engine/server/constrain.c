/*
 * Requests with a grammar: see constrain.h for who owns what.
 *
 * Once a request has its next token it is followed to there and the mask of
 * the token after it is made, here if that is little work, else by a job of
 * the request's own on the helper, during which the request is on hold.  So a
 * request that is in a step has its mask, and a step never waits for one.
 *
 * A text that is complete ends the request as a stop, without the step that
 * would only have drawn the end.
 */
#include <stdlib.h>
#include "engine/server/server_private.h"


static size_t
bytes_of(const void *context, int32_t token, char *out, size_t cap)
{
    return ax_tokenizer_decode_token(context, token, false, out, cap);
}


static bool
ends(const void *context, int32_t token)
{
    return ax_tokenizer_is_eog(context, token);
}


int
ax_server_constrain_open(struct ax_server *s, struct ax_error *err)
{
    const struct ax_engine *e = s->engine;
    struct ax_grammars_options options = {
        .tokens = {e->tokenizer, ax_tokenizer_n_vocab(e->tokenizer), bytes_of,
                   ends},
        .memory_bytes = s->options.grammar_memory,
    };
    s->allowed_words = ax_constraint_words(e->info->n_vocab);
    s->draft_allowed = calloc((size_t)e->logits_rows * s->allowed_words,
                              sizeof(*s->draft_allowed));
    if (s->draft_allowed == NULL ||
        ax_grammars_open(&s->grammars, &options) != AXION_OK) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory for masks");
    }
    return AXION_OK;
}


void
ax_server_constrain_close(struct ax_server *s)
{
    ax_grammars_close(s->grammars);
    free(s->draft_allowed);
}


/* ---- one request, on whichever thread owns its constraint ---- */

static int
make_mask(struct request *r, struct ax_place *place, uint64_t *mask, bool *any)
{
    struct ax_constraint *c = r->grammar->constraint;
    uint64_t made = ax_constraint_masks_made(c);
    uint64_t start_ns = ax_pool_clock_ns();
    int rc = ax_constraint_mask(c, place, mask, any);
    made = ax_constraint_masks_made(c) - made;
    if (made > 0 || rc != AXION_OK) {
        ax_grammars_made(r->server->grammars, made,
                         ax_pool_clock_ns() - start_ns);
    }
    return rc;
}


/* To the end of its tokens, and the mask there. */
static int
find_allowed(struct request *r)
{
    struct ax_constraint *c = r->grammar->constraint;
    int rc = ax_constraint_follow(c, &r->place, r->tokens + r->n_prompt,
                                  r->n_tokens - r->n_prompt);
    if (rc != AXION_OK) {
        return rc;
    }
    r->complete = ax_constraint_complete(c, &r->place);
    if (r->complete) {
        return AXION_OK;
    }
    rc = make_mask(r, &r->place, r->allowed, &r->any_allowed);
    if (rc == AXION_OK && r->any_allowed &&
        (r->head.flags & AXION_REQUEST_IGNORE_EOS) != 0) {
        ax_constraint_without_ends(c, r->allowed, &r->any_allowed);
        r->complete = !r->any_allowed;
    }
    return rc;
}


/* On the helper, as much as a turn there is long. */
static int
find_allowed_in_a_turn(struct request *r)
{
    ax_constraint_allow(r->grammar->constraint, AX_GRAMMAR_TURN_UNITS);
    return find_allowed(r);
}


int
ax_server_take_grammar(struct request *r, const struct axion_request_view *view)
{
    struct ax_server *s = r->server;
    bool is_new;
    r->place = (struct ax_place){0};
    if (view->grammar_kind == 0) {
        return AXION_OK;
    }
    int rc = ax_grammars_get(s->grammars, r->head.tenant, view, &r->grammar,
                             &is_new, &r->error);
    if (rc == AXION_OK && is_new) {
        r->n_tokens = r->n_prompt;
        rc = find_allowed_in_a_turn(r);
        if (rc == AXION_AGAIN) {
            rc = AXION_OK; /* thread 0 asks for the rest */
        } else if (rc != AXION_OK) {
            return ax_error_set(&r->error, rc,
                                "too many ways to read the grammar");
        }
    }
    return rc;
}


static void
mask_run(struct ax_job *job)
{
    struct request *r = (struct request *)job;
    r->mask_error = find_allowed_in_a_turn(r);
}


/* ---- thread 0 ---- */

void
ax_server_constrain_step(struct ax_server *s)
{
    s->grammar_units = AX_GRAMMAR_STEP_UNITS;
    s->n_draft_allowed = 0;
}


/* What find_allowed() said, for a request that the scheduler has. */
static void
settle(struct ax_server *s, struct request *r, int rc)
{
    if (rc == AXION_OK && r->complete) {
        ax_server_done(s, r, AXION_FINISH_STOP);
    } else if (rc == AXION_OK && !r->any_allowed) {
        ax_server_fail(s, r, AXION_ERR_GRAMMAR_DEAD_END, 0, NULL);
    } else if (rc != AXION_OK) {
        ax_server_fail(s, r, rc, 0,
                       rc == AXION_ERR_GRAMMAR_LIMIT
                           ? "too many ways to read the answer"
                           : NULL);
    }
}


static void
ask_helper(struct ax_server *s, struct request *r)
{
    ax_sched_hold(s->sched, r->slot, AX_HOLD_GRAMMAR);
    r->grammar->jobs++;
    r->mask_out = true;
    r->mask_turns = 1;
    r->mask_error = AXION_OK;
    r->job.run = mask_run;
    ax_helper_submit(s->helper, &r->job);
}


void
ax_server_constrain(struct ax_server *s, struct request *r)
{
    struct ax_constraint *c = r->grammar->constraint;
    if (r->grammar->jobs > 0) {
        ask_helper(s, r);
        return;
    }
    uint64_t units = s->grammar_units > AX_GRAMMAR_TOKEN_UNITS
                         ? s->grammar_units
                         : AX_GRAMMAR_TOKEN_UNITS;
    ax_constraint_allow(c, units);
    int rc = find_allowed(r);
    units -= ax_constraint_left(c);
    s->grammar_units -= units < s->grammar_units ? units : s->grammar_units;
    if (rc == AXION_AGAIN) {
        ask_helper(s, r);
    } else {
        settle(s, r, rc);
    }
}


bool
ax_server_constrained(struct ax_server *s, struct request *r)
{
    if (!r->mask_out) {
        return false;
    }
    if (r->mask_error == AXION_AGAIN && r->state == REQUEST_SCHED &&
        r->conn != NULL && r->mask_turns++ < AX_GRAMMAR_TURNS_MAX) {
        ax_helper_submit(s->helper, &r->job); /* behind the others */
        return true;
    }
    r->mask_out = false;
    r->grammar->jobs--;
    if (r->state == REQUEST_ENDING) {
        ax_server_forget(s, r);
        return true;
    }
    if (r->conn == NULL) {
        return true; /* cancelled: the scheduler gives its place back */
    }
    ax_sched_unhold(s->sched, r->slot, AX_HOLD_GRAMMAR);
    settle(s, r,
           r->mask_error == AXION_AGAIN ? AXION_ERR_GRAMMAR_LIMIT
                                        : r->mask_error);
    return true;
}


bool
ax_server_constrain_drafts(struct request *r)
{
    if (r->grammar->jobs > 0) {
        return false;
    }
    r->draft_place = r->place;
    return true;
}


/* The mask behind n tokens, a row of the step's; NULL: there is none. */
static const uint64_t *
allow_behind(struct ax_server *s, struct request *r, uint32_t n_tokens)
{
    struct ax_constraint *c = r->grammar->constraint;
    struct ax_place *place = &r->draft_place;
    uint64_t *mask =
        s->draft_allowed + (size_t)s->n_draft_allowed * s->allowed_words;
    bool any;
    if (ax_constraint_follow(c, place, r->tokens + r->n_prompt,
                             n_tokens - r->n_prompt) != AXION_OK ||
        ax_constraint_complete(c, place) ||
        make_mask(r, place, mask, &any) != AXION_OK) {
        return NULL;
    }
    if ((r->head.flags & AXION_REQUEST_IGNORE_EOS) != 0) {
        ax_constraint_without_ends(c, mask, &any);
    }
    s->n_draft_allowed += any;
    return any ? mask : NULL;
}


const uint64_t *
ax_server_allowed(const struct request *r, uint32_t n)
{
    return r->grammar == NULL ? NULL
           : n == 0           ? r->allowed
                              : r->draft_allowed[n - 1];
}


bool
ax_server_constrain_draft(struct ax_server *s, struct request *r, uint32_t n)
{
    struct ax_constraint *c = r->grammar->constraint;
    int32_t token = r->tokens[r->n_tokens + n];
    if (s->n_draft_allowed == s->engine->logits_rows ||
        !ax_mask_has(ax_server_allowed(r, n), token) ||
        ax_tokenizer_is_eog(s->engine->tokenizer, token)) {
        return false;
    }
    ax_constraint_allow(c, s->grammar_units);
    r->draft_allowed[n] = allow_behind(s, r, r->n_tokens + n + 1);
    s->grammar_units = ax_constraint_left(c);
    return r->draft_allowed[n] != NULL;
}
