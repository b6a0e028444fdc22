/*
 * What the schema compiler's files share:
 *
 *   schema.c         views: which nodes a sub-schema is, its types; its rule
 *   schema_check.c   keywords: known, of the right type, enforceable
 *   schema_object.c  objects        schema_array.c  arrays
 *   schema_scalar.c  enum, const, strings, bounds of numbers
 *   schema_range.c   decimal digits from one number to another
 *
 * Functions return AXION_OK or the error that they put into c->err.
 */
#ifndef AX_GRAMMAR_SCHEMA_PRIVATE_H
#define AX_GRAMMAR_SCHEMA_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>
#include "engine/grammar/gbnf_text.h"
#include "engine/grammar/json.h"

#define VIEW_NODES_MAX 16u
#define VIEWS_MAX      8192u
#define STEPS_MAX      (16u << 20)
#define COUNT_MAX      100000u /* of lengths and items; above: no bound */
#define NONE           AX_JSON_NONE

enum schema_type {
    TYPE_NULL = 1,
    TYPE_BOOLEAN = 2,
    TYPE_INTEGER = 4,
    TYPE_FRACTION = 8, /* a number that is no integer */
    TYPE_STRING = 16,
    TYPE_ARRAY = 32,
    TYPE_OBJECT = 64,
    TYPE_ALL = 127,
};

/* A sub-schema: all of these nodes hold. */
struct view {
    uint32_t nodes[VIEW_NODES_MAX];
    uint32_t n;
    uint32_t chosen; /* bit i: a branch of nodes[i] has been taken */
    bool never;      /* `false` is among them */
};

struct compiler {
    struct ax_json json;
    struct ax_gbnf_text *out;
    struct view *views;
    uint32_t n_views, views_cap;
    uint32_t steps;
    uint64_t looked_at; /* of json */
    struct ax_error *err;
};

/* A decimal bound: number / 10^digits, digits <= 9, |number| < 10^18. */
struct bound {
    bool set, exclusive;
    int64_t number;
    uint32_t digits;
};

/* ---- schema.c ---- */

int refuse(struct compiler *c, uint32_t node, const char *why);
int refuse_keyword(struct compiler *c, uint32_t keyword, const char *why);
/* GRAMMAR_LIMIT once all the work together passes STEPS_MAX. */
int spend(struct compiler *c, uint32_t steps);
int spend_view(struct compiler *c, const struct view *view);
/* Adds a node with what it refers to. */
int view_add(struct compiler *c, struct view *view, uint32_t node);
/* The number of its rule, v<id>. */
int view_rule(struct compiler *c, const struct view *view, uint32_t *id);
/* Nothing can satisfy it, as far as types tell. */
bool view_is_never(struct compiler *c, const struct view *view);
unsigned view_types(const struct compiler *c, const struct view *view);
/* The keyword's value in nodes[i], or NONE. */
uint32_t view_get(const struct compiler *c, const struct view *view, uint32_t i,
                  const char *keyword);

/* ---- schema_check.c ---- */

int check_node(struct compiler *c, uint32_t node);
/* Types that the keywords of the node are about; 0: none of them. */
unsigned hinted_types(const struct compiler *c, uint32_t node);
/* Has it keywords that say something, beside annotations and those that
 * view_add() follows? */
bool has_assertions(const struct compiler *c, uint32_t node,
                    bool branches_count);
/* Does this one keyword say something about values? */
bool keyword_asserts(const struct compiler *c, uint32_t keyword);
unsigned named_types(const struct compiler *c, uint32_t node);
unsigned type_of_value(const struct compiler *c, uint32_t node);

/* ---- the kinds ---- */

/* Rules of their own behind the one at hand: v<id>-o, v<id>-a. */
int write_object(struct compiler *c, const struct view *view, uint32_t id);
int write_array(struct compiler *c, const struct view *view, uint32_t id);
/* Parts of the rule at hand. */
int write_string(struct compiler *c, const struct view *view);
int write_number(struct compiler *c, const struct view *view, bool fractions);
/* enum and const, if the view has one. */
int write_literals(struct compiler *c, const struct view *view, bool *some);
/* unevaluatedProperties or unevaluatedItems is false in it. */
bool view_closed(const struct compiler *c, const struct view *view);
/* A view of nodes from `sources` places: none of them may be closed. */
int check_merged(struct compiler *c, const struct view *view, uint32_t sources);
/* The least maximum and largest minimum among the nodes. */
int view_counts(struct compiler *c, const struct view *view, const char *least,
                const char *most, uint32_t *min, uint32_t *max);
bool literals_differ(struct compiler *c, const struct view *a,
                     const struct view *b);
void write_integers(struct ax_gbnf_text *out, int64_t low, int64_t high);
void write_decimals(struct ax_gbnf_text *out, const struct bound *low,
                    const struct bound *high);

#endif
