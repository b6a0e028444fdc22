/*
 * The compiled form of a grammar: internal to this folder.
 *
 * A recursive transition network in an array of nodes.  A path through it
 * spells a text:
 *   BYTES   takes one byte of sets[arg], goes on at next
 *   SPLIT   goes on at next and at arg
 *   CALL    goes through the rule that starts at arg, then on at next
 *   END     the end of a rule: back to the caller
 * Loops that take no byte run through a SPLIT (of a star): rules that begin
 * with themselves are refused.  So a walk that remembers the SPLITs it has
 * been at ends.
 *
 * Bytes that no set tells apart are one class: there are far fewer of them
 * than bytes, and transitions are kept by class.
 */
#ifndef AX_GRAMMAR_PROGRAM_H
#define AX_GRAMMAR_PROGRAM_H

#include <stdbool.h>
#include <stdint.h>
#include "engine/grammar/grammar.h"

enum ax_grammar_kind {
    AX_NODE_BYTES = 0,
    AX_NODE_SPLIT,
    AX_NODE_CALL,
    AX_NODE_END,
};

struct ax_grammar_node {
    uint8_t kind;
    uint8_t fruitful; /* a text leads from here to the end of the rule */
    uint32_t next;
    uint32_t arg;
};

struct ax_byte_set {
    uint64_t word[4];
};

struct ax_grammar {
    struct ax_grammar_node *nodes; /* [n_nodes] */
    uint32_t n_nodes;
    struct ax_byte_set *sets; /* [n_sets], all different */
    uint32_t n_sets;
    uint32_t start; /* node of root */
    uint32_t n_classes;
    uint8_t class_of[256];   /* of a byte */
    uint8_t example_of[256]; /* a byte of a class, [n_classes] */
};

static inline bool
ax_byte_set_has(const struct ax_byte_set *set, uint8_t byte)
{
    return set->word[byte >> 6] >> (byte & 63) & 1;
}


static inline void
ax_byte_set_add(struct ax_byte_set *set, uint32_t first, uint32_t last)
{
    for (uint32_t b = first; b <= last; b++) {
        set->word[b >> 6] |= (uint64_t)1 << (b & 63);
    }
}


/* check.c: marks fruitful nodes.  GRAMMAR_INVALID: a rule begins with itself,
 * or no text satisfies root; NO_MEMORY.  starts[] and names are those of the
 * rules, for the message. */
struct ax_grammar_rule_name {
    const char *data;
    uint32_t bytes;
    uint32_t start;
};
int ax_grammar_check(struct ax_grammar *grammar,
                     const struct ax_grammar_rule_name *rules, uint32_t n_rules,
                     struct ax_error *err);

#endif
