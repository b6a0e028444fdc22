/*
 * See constraint.h.
 *
 * The walk: nodes of the trie in their order, with the automaton's state for
 * each depth.  A byte that is not allowed leaves out what is below it.  Below
 * a node with many tokens it is worth asking which bytes lead the state back
 * to itself (within a string nearly all do): where nothing else occurs below,
 * all these tokens are allowed.
 *
 * When the automaton is full it keeps the state at hand alone and the call is
 * made once more; what is full then with one state's successors is refused.
 */
#include "engine/grammar/constraint.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "engine/grammar/automaton.h"
#include "engine/grammar/program.h"

#define RUN_MIN 48u /* tokens below a node, to ask for loops */

struct kept {
    uint32_t state; /* 0: nothing */
    bool any;
};

struct ax_constraint {
    struct ax_constraint_options o;
    struct ax_automaton *automaton;
    uint32_t words;
    uint32_t generation; /* of what is kept */
    uint32_t next_kept;  /* the one to be overwritten next */
    struct kept kept[AX_CONSTRAINT_MASKS_MAX];
    uint64_t *masks;  /* [AX_CONSTRAINT_MASKS_MAX][words] */
    uint32_t *states; /* [depth_max + 1] of the walk */
    uint8_t slot_of[AX_GRAMMAR_STATES_MAX]; /* 1 + index in kept[] */
    uint64_t n_made;                        /* masks */
    uint64_t loops;                         /* kinds of bytes */
    uint32_t loops_of;                      /* a state; 0: of none */
};


uint32_t
ax_constraint_words(uint32_t n_vocab)
{
    return (n_vocab + 63) / 64;
}


int
ax_constraint_open(struct ax_constraint **out,
                   const struct ax_constraint_options *options)
{
    *out = NULL;
    struct ax_constraint *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        ax_grammar_close(options->grammar);
        return AXION_ERR_NO_MEMORY;
    }
    c->o = *options;
    c->words = ax_constraint_words(options->vocabulary->n_vocab);
    c->masks =
        calloc((size_t)AX_CONSTRAINT_MASKS_MAX * c->words, sizeof(uint64_t));
    c->states =
        calloc((size_t)options->vocabulary->depth_max + 1, sizeof(uint32_t));
    if (c->masks == NULL || c->states == NULL ||
        ax_automaton_open(&c->automaton, options->grammar) != AXION_OK) {
        ax_constraint_close(c);
        return AXION_ERR_NO_MEMORY;
    }
    *out = c;
    return AXION_OK;
}


void
ax_constraint_close(struct ax_constraint *c)
{
    if (c != NULL) {
        ax_automaton_close(c->automaton);
        ax_grammar_close(c->o.grammar);
        free(c->masks);
        free(c->states);
        free(c);
    }
}


size_t
ax_constraint_bytes(const struct ax_vocabulary *v, const struct ax_grammar *g)
{
    size_t words = ax_constraint_words(v->n_vocab);
    return sizeof(struct ax_constraint) +
           AX_CONSTRAINT_MASKS_MAX * words * sizeof(uint64_t) +
           ((size_t)v->depth_max + 1) * sizeof(uint32_t) +
           ax_automaton_bytes(g != NULL ? g->n_classes : 1) +
           (g != NULL ? ax_grammar_bytes(g) : 0);
}


uint64_t
ax_constraint_masks_made(const struct ax_constraint *c)
{
    return c->n_made;
}


void
ax_constraint_allow(struct ax_constraint *c, uint64_t units)
{
    ax_automaton_allow(c->automaton, units);
}


uint64_t
ax_constraint_left(const struct ax_constraint *c)
{
    return ax_automaton_left(c->automaton);
}


/* What a call made once more ends with. */
static int
error_of(enum ax_grammar_answer answer)
{
    switch (answer) {
    case AX_GRAMMAR_DONE:
        return AXION_OK;
    case AX_GRAMMAR_AGAIN:
        return AXION_AGAIN;
    case AX_GRAMMAR_FULL:
    case AX_GRAMMAR_AMBIGUOUS:
        break;
    }
    return AXION_ERR_GRAMMAR_LIMIT;
}


/* Makes room, keeping `state` alone. */
static void
forget(struct ax_constraint *c, uint32_t *state)
{
    ax_automaton_collect(c->automaton, state);
    c->generation = ax_automaton_generation(c->automaton);
    memset(c->kept, 0, sizeof(c->kept));
    memset(c->slot_of, 0, sizeof(c->slot_of));
    c->loops_of = 0;
}


/* ---- following a text ---- */

static enum ax_grammar_answer
step_bytes(struct ax_constraint *c, uint32_t *state, const char *bytes,
           size_t n)
{
    uint32_t at = *state;
    for (size_t i = 0; i < n && at != AX_GRAMMAR_DEAD; i++) {
        enum ax_grammar_answer answer =
            ax_automaton_step(c->automaton, at, (uint8_t)bytes[i], &at);
        if (answer != AX_GRAMMAR_DONE) {
            return answer;
        }
    }
    *state = at;
    return AX_GRAMMAR_DONE;
}


static int
follow_token(struct ax_constraint *c, struct ax_place *place, int32_t token)
{
    char bytes[AX_VOCABULARY_DEPTH_MAX];
    const struct ax_vocabulary_source *source = c->o.source;
    if (!ax_automaton_spend(c->automaton, 1)) {
        return AXION_AGAIN;
    }
    size_t n = source->bytes_of(source->context, token, bytes, sizeof(bytes));
    if (n == 0 || n > sizeof(bytes)) {
        return AXION_ERR_GRAMMAR_DEAD_END;
    }
    uint32_t state = place->state;
    enum ax_grammar_answer answer = step_bytes(c, &state, bytes, n);
    if (answer == AX_GRAMMAR_FULL) {
        forget(c, &place->state);
        place->generation = c->generation;
        state = place->state;
        answer = step_bytes(c, &state, bytes, n);
    }
    if (answer != AX_GRAMMAR_DONE) {
        return error_of(answer);
    }
    if (state == AX_GRAMMAR_DEAD) {
        return AXION_ERR_GRAMMAR_DEAD_END;
    }
    place->state = state;
    place->n_tokens++;
    return AXION_OK;
}


static int
go_to_start(struct ax_constraint *c, struct ax_place *place)
{
    uint32_t state;
    enum ax_grammar_answer answer = ax_automaton_start(c->automaton, &state);
    if (answer == AX_GRAMMAR_FULL) {
        uint32_t none = AX_GRAMMAR_DEAD;
        forget(c, &none);
        answer = ax_automaton_start(c->automaton, &state);
    }
    if (answer == AX_GRAMMAR_DONE) {
        *place = (struct ax_place){state, c->generation, 0};
    }
    return error_of(answer);
}


int
ax_constraint_follow(struct ax_constraint *c, struct ax_place *place,
                     const int32_t *answer, uint32_t n)
{
    int rc = AXION_OK;
    if (place->state == 0 || place->generation != c->generation) {
        rc = go_to_start(c, place);
    }
    while (rc == AXION_OK && place->n_tokens < n) {
        rc = follow_token(c, place, answer[place->n_tokens]);
    }
    return rc;
}


bool
ax_constraint_complete(const struct ax_constraint *c,
                       const struct ax_place *place)
{
    return ax_automaton_ends(c->automaton, place->state) &&
           ax_automaton_accepts(c->automaton, place->state);
}


/* ---- masks ---- */

static void
set_bit(uint64_t *mask, int32_t token)
{
    mask[(uint32_t)token / 64] |= (uint64_t)1 << ((uint32_t)token % 64);
}


/* Kinds of bytes of which every one leads `state` back to itself. */
static enum ax_grammar_answer
find_loops(struct ax_constraint *c, uint32_t state)
{
    bool loops[256];
    enum ax_grammar_answer answer =
        ax_automaton_loops(c->automaton, state, loops);
    if (answer != AX_GRAMMAR_DONE) {
        return answer;
    }
    c->loops = ~(uint64_t)0;
    for (uint32_t b = 0; b < 256; b++) {
        if (!loops[b]) {
            c->loops &= ~((uint64_t)1 << ax_vocabulary_kind((uint8_t)b));
        }
    }
    c->loops_of = state;
    return AX_GRAMMAR_DONE;
}


/* Allows the tokens that end at node, or all from there on until `end`;
 * returns the node to go on with. */
static uint32_t
allow_tokens(struct ax_constraint *c, uint32_t node, bool all, uint64_t *mask)
{
    const struct ax_vocabulary *v = c->o.vocabulary;
    uint32_t next = all ? v->nodes[node].skip : node + 1;
    for (uint32_t i = v->nodes[node].first; i < v->nodes[next].first; i++) {
        set_bit(mask, v->tokens[i]);
    }
    return next;
}


/* The state behind a node's byte, and what can be said of all below it. */
static enum ax_grammar_answer
enter_node(struct ax_constraint *c, uint32_t index, uint32_t *state, bool *all)
{
    const struct ax_vocabulary *v = c->o.vocabulary;
    const struct ax_vocabulary_node *node = &v->nodes[index];
    uint32_t before = c->states[node->depth - 1];
    enum ax_grammar_answer answer =
        ax_automaton_step(c->automaton, before, node->byte, state);
    *all = false;
    if (answer != AX_GRAMMAR_DONE || *state == AX_GRAMMAR_DEAD) {
        return answer;
    }
    if (c->loops_of != *state && *state == before &&
        v->nodes[node->skip].first - node->first >= RUN_MIN) {
        answer = find_loops(c, *state);
    }
    *all = c->loops_of == *state && (node->below & ~c->loops) == 0;
    return answer;
}


static enum ax_grammar_answer
walk(struct ax_constraint *c, uint32_t start, uint64_t *mask)
{
    const struct ax_vocabulary *v = c->o.vocabulary;
    c->states[0] = start;
    for (uint32_t i = 0; i < v->n_nodes;) {
        uint32_t state;
        bool all;
        if (!ax_automaton_spend(c->automaton, 1)) {
            return AX_GRAMMAR_AGAIN;
        }
        enum ax_grammar_answer answer = enter_node(c, i, &state, &all);
        if (answer != AX_GRAMMAR_DONE) {
            return answer;
        }
        if (state == AX_GRAMMAR_DEAD) {
            i = v->nodes[i].skip;
            continue;
        }
        c->states[v->nodes[i].depth] = state;
        i = allow_tokens(c, i, all, mask);
    }
    return AX_GRAMMAR_DONE;
}


static enum ax_grammar_answer
make_mask(struct ax_constraint *c, uint32_t state, uint64_t *mask)
{
    const struct ax_vocabulary *v = c->o.vocabulary;
    memset(mask, 0, c->words * sizeof(*mask));
    enum ax_grammar_answer answer = walk(c, state, mask);
    if (ax_automaton_accepts(c->automaton, state)) {
        for (uint32_t i = 0; i < v->n_ends; i++) {
            set_bit(mask, v->ends[i]);
        }
    }
    return answer;
}


/* A place in kept[] for a state, of which nothing is kept. */
static uint32_t
take_slot(struct ax_constraint *c)
{
    uint32_t slot = c->next_kept;
    c->next_kept = (slot + 1) % AX_CONSTRAINT_MASKS_MAX;
    if (c->kept[slot].state != 0) {
        c->slot_of[c->kept[slot].state] = 0;
        c->kept[slot].state = 0;
    }
    return slot;
}


static bool
has_any(const struct ax_constraint *c, const uint64_t *mask)
{
    uint64_t seen = 0;
    for (uint32_t i = 0; i < c->words; i++) {
        seen |= mask[i];
    }
    return seen != 0;
}


int
ax_constraint_mask(struct ax_constraint *c, struct ax_place *place,
                   uint64_t *mask, bool *any)
{
    assert(place->state != 0 && place->generation == c->generation);
    uint32_t slot = c->slot_of[place->state];
    if (slot-- == 0) {
        slot = take_slot(c);
        uint64_t *made = c->masks + (size_t)slot * c->words;
        enum ax_grammar_answer answer = make_mask(c, place->state, made);
        if (answer == AX_GRAMMAR_FULL) {
            forget(c, &place->state);
            place->generation = c->generation;
            answer = make_mask(c, place->state, made);
        }
        if (answer != AX_GRAMMAR_DONE) {
            c->next_kept = slot; /* still free: not one more is given up */
            return error_of(answer);
        }
        c->n_made++;
        c->kept[slot] = (struct kept){place->state, has_any(c, made)};
        c->slot_of[place->state] = (uint8_t)(slot + 1);
    }
    memcpy(mask, c->masks + (size_t)slot * c->words, c->words * sizeof(*mask));
    *any = c->kept[slot].any;
    return AXION_OK;
}


void
ax_constraint_without_ends(const struct ax_constraint *c, uint64_t *mask,
                           bool *any)
{
    const struct ax_vocabulary *v = c->o.vocabulary;
    for (uint32_t i = 0; i < v->n_ends; i++) {
        uint32_t token = (uint32_t)v->ends[i];
        mask[token / 64] &= ~((uint64_t)1 << (token % 64));
    }
    *any = has_any(c, mask);
}
