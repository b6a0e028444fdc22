/*
 * GBNF text to a tree: internal to this folder.  One pass, recursion bounded
 * by AX_GRAMMAR_DEPTH_MAX, memory by the length of the text.
 */
#ifndef AX_GRAMMAR_PARSE_H
#define AX_GRAMMAR_PARSE_H

#include <stdint.h>
#include "engine/grammar/grammar.h"

#define AX_GBNF_FOREVER UINT32_MAX

enum ax_gbnf_kind {
    AX_GBNF_EMPTY = 0,
    AX_GBNF_SEQUENCE,     /* child, then its siblings */
    AX_GBNF_ALTERNATIVES, /* child, or one of its siblings */
    AX_GBNF_CLASS,        /* ranges[first .. first + n) of code points */
    AX_GBNF_RULE,         /* first: index of the rule */
    AX_GBNF_REPEAT,       /* child, from `first` to `n` times */
};

struct ax_gbnf_item {
    uint8_t kind;
    uint8_t depth; /* of the tree below, 1 and more */
    uint32_t child;
    uint32_t sibling; /* 0: the last one */
    uint32_t first, n;
};

/* Sorted, apart from each other, without surrogates. */
struct ax_gbnf_range {
    uint32_t first, last;
};

struct ax_gbnf_rule {
    const char *name; /* in the text */
    uint32_t bytes;
    uint32_t item;  /* 0: not defined */
    uint32_t chain; /* next of the same hash */
};

struct ax_gbnf {
    struct ax_gbnf_item *items; /* [0] is no item */
    uint32_t n_items, items_cap;
    struct ax_gbnf_range *ranges;
    uint32_t n_ranges, ranges_cap;
    struct ax_gbnf_rule *rules;
    uint32_t n_rules, rules_cap;
    uint32_t root; /* index of the rule */
};

/* As ax_grammar_compile(); to be freed also after an error. */
int ax_gbnf_parse(struct ax_gbnf *gbnf, const char *text, size_t bytes,
                  struct ax_error *err);
void ax_gbnf_free(struct ax_gbnf *gbnf);

#endif
