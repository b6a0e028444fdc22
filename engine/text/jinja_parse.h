/*
 * Inside of the parser: its state and what its two halves call in each other.
 *
 * jinja_parse.c has statements, jinja_expr.c expressions, both by recursive
 * descent with a counted depth.  Errors are kept in the state; a function
 * that returns NULL has reported one.
 */
#ifndef AX_TEXT_JINJA_PARSE_H
#define AX_TEXT_JINJA_PARSE_H

#include "engine/text/jinja_lex.h"


struct ax_parser {
    struct ax_pool *pool;
    struct ax_parse_error *error;
    const struct ax_token *t; /* the next token */
    uint32_t depth;
    uint32_t loops;       /* open for loops, for break */
    struct ax_dict names; /* interned */
};


/* Growing list of nodes, frozen into a node by the caller. */
struct ax_nodes {
    struct ax_node **p;
    uint32_t n;
    uint32_t cap;
};


struct ax_node *ax_parse_fail(struct ax_parser *ps, int rc, const char *format,
                              ...) __attribute__((format(printf, 3, 4)));
struct ax_node *ax_parse_node(struct ax_parser *ps, enum ax_node_kind kind);
bool ax_parse_push(struct ax_parser *ps, struct ax_nodes *list,
                   struct ax_node *node);
const char *ax_parse_intern(struct ax_parser *ps, const char *p, size_t n);

/* Counted recursion; enter fails at AX_TEMPLATE_NEST_MAX. */
bool ax_parse_enter(struct ax_parser *ps);
void ax_parse_leave(struct ax_parser *ps);

bool ax_parse_is_op(const struct ax_parser *ps, const char *op);
bool ax_parse_is_name(const struct ax_parser *ps, const char *name);
bool ax_parse_accept_op(struct ax_parser *ps, const char *op);
bool ax_parse_accept_name(struct ax_parser *ps, const char *name);
bool ax_parse_expect_op(struct ax_parser *ps, const char *op);

struct ax_node *ax_parse_expression(struct ax_parser *ps);

/* Without a tuple in parentheses: a, b, c; without_if: no `x if y`. */
struct ax_node *ax_parse_tuple(struct ax_parser *ps, bool without_if);

/* |name(...) and is name(...) applied to a node already parsed. */
struct ax_node *ax_parse_filters(struct ax_parser *ps, struct ax_node *node);
struct ax_node *ax_parse_postfix(struct ax_parser *ps, struct ax_node *node);

/* (a, b=c): into node's list and keywords. */
bool ax_parse_arguments(struct ax_parser *ps, struct ax_node *node);

#endif /* AX_TEXT_JINJA_PARSE_H */
