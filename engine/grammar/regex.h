/*
 * Regular expressions and lists of choices to GBNF.
 *
 * The dialect is what JSON schemas (ECMA-262) and Python have in common:
 * characters, `.`, classes, \d \w \s and their opposites, \xNN \uNNNN \u{…},
 * groups (captured or not, named or not), `|`, * + ? {m} {m,} {m,n} with or
 * without a lazy `?`, and ^ $ at the ends of the outermost alternatives.
 * Refused by name: look-around, back references, \b, \p, flags, anchors
 * elsewhere.  \d, \w, \s are those of ASCII, and \W, \D leave out what some
 * dialect counts as a letter or digit, so that a match is one in all of them.
 *
 * Nesting, nodes and repetitions are bounded; time and memory are linear in
 * the text.  Nothing is searched with a regex here: it is only rewritten.
 */
#ifndef AX_GRAMMAR_REGEX_H
#define AX_GRAMMAR_REGEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "engine/error.h"
#include "engine/grammar/gbnf_text.h"

#define AX_REGEX_DEPTH_MAX  60u
#define AX_REGEX_NODES_MAX  65536u
#define AX_REGEX_REPEAT_MAX 65535u
#define AX_REGEX_FOREVER    UINT32_MAX

enum ax_regex_kind {
    AX_REGEX_SET = 0, /* one character of ranges[first .. first + n) */
    AX_REGEX_CAT,     /* children one behind the other; none: empty */
    AX_REGEX_ALT,     /* one of the children */
    AX_REGEX_REPEAT,  /* the child, from first to n times */
};

struct ax_regex_node {
    uint8_t kind;
    bool from_start, to_end; /* ^ and $ of an outermost alternative */
    uint32_t first, n;
    uint32_t child, sibling; /* UINT32_MAX: none */
    uint32_t min, max;       /* characters of a match; FOREVER: no bound */
};

struct ax_regex_range { /* of code points, sorted, without surrogates */
    uint32_t first, last;
};

struct ax_regex {
    struct ax_regex_node *nodes;
    uint32_t n_nodes, nodes_cap;
    struct ax_regex_range *ranges;
    uint32_t n_ranges, ranges_cap;
    uint32_t root; /* an ALT */
};

/* How a match is written, and what stands around it. */
enum ax_regex_use {
    AX_REGEX_WHOLE,       /* the text is the match */
    AX_REGEX_JSON_SEARCH, /* within a JSON string that has a match in it */
};

/* GRAMMAR_INVALID with the place, GRAMMAR_LIMIT, NO_MEMORY; after an error
 * there is nothing to be freed. */
int ax_regex_parse(struct ax_regex *re, const char *text, size_t bytes,
                   struct ax_error *err);
void ax_regex_free(struct ax_regex *re);

/*
 * Narrows matches to min .. max characters of the whole text, if that can be
 * said by a bound of one repetition; false: it cannot, or nothing is left.
 */
bool ax_regex_clamp(struct ax_regex *re, uint32_t min, uint32_t max);

/* The right side of a rule.  JSON_SEARCH refers to the rule `char`, which is
 * to be one character of a JSON string: *wants_char says so. */
void ax_regex_write(const struct ax_regex *re, enum ax_regex_use use,
                    struct ax_gbnf_text *out, bool *wants_char);

/* Whole grammars; GRAMMAR_INVALID, GRAMMAR_LIMIT, NO_MEMORY. */
int ax_regex_to_gbnf(struct ax_gbnf_text *out, const char *regex, size_t bytes,
                     struct ax_error *err);
/* `json` is an array of strings; the answer is one of them. */
int ax_choice_to_gbnf(struct ax_gbnf_text *out, const char *json, size_t bytes,
                      struct ax_error *err);

#endif
