/*
 * The compiled form of a template: a tree of nodes in one pool.
 *
 * Chains that a person writes long are flat: a + b + c is one node with a
 * list, so are and/or, comparisons and elif.  Everything is written once by
 * the parser and only read afterwards, by any number of threads.
 */
#ifndef AX_TEXT_JINJA_AST_H
#define AX_TEXT_JINJA_AST_H

#include "engine/text/jinja_value.h"


enum ax_node_kind {
    /* expressions */
    AX_N_CONST,      /* value */
    AX_N_NAME,       /* name */
    AX_N_ATTRIBUTE,  /* a.name */
    AX_N_ITEM,       /* a[b] */
    AX_N_SLICE,      /* a[list[0]:list[1]:list[2]], NULLs */
    AX_N_CALL,       /* a(list, keywords) */
    AX_N_FILTER,     /* a|name(list, keywords); op: builtin */
    AX_N_TEST,       /* a is name(list); op: builtin */
    AX_N_NOT,        /* not a */
    AX_N_NEGATE,     /* -a */
    AX_N_PLUS,       /* +a */
    AX_N_ARITHMETIC, /* a, then ops[i] list[i] from the left */
    AX_N_CONCAT,     /* list ~ */
    AX_N_AND,        /* list and */
    AX_N_OR,         /* list or */
    AX_N_COMPARE,    /* a, then ops[i] list[i] chained */
    AX_N_CONDITION,  /* a if b else c; c may be NULL */
    AX_N_LIST,       /* [list] */
    AX_N_TUPLE,      /* (list) */
    AX_N_DICT,       /* list: key, item, key, item */

    /* statements */
    AX_N_TEXT,         /* value */
    AX_N_OUTPUT,       /* {{ a }} */
    AX_N_BLOCK,        /* list */
    AX_N_IF,           /* list: condition, block, ...; c: else */
    AX_N_FOR,          /* for a in b if list[0]; c: body, d: else */
    AX_N_SET,          /* target a = b */
    AX_N_SET_BLOCK,    /* target a = captured b through list filters */
    AX_N_MACRO,        /* name, params, list: defaults, c: body */
    AX_N_CALL_BLOCK,   /* a: call, b: macro node of the body */
    AX_N_FILTER_BLOCK, /* a: filter chain over AX_N_CAPTURE, c: body */
    AX_N_CAPTURE,      /* the text of SET_BLOCK or FILTER_BLOCK */
    AX_N_WITH,         /* list: target, value, ...; c: body */
    AX_N_BREAK,
    AX_N_CONTINUE
};


enum ax_operator {
    AX_OP_ADD,
    AX_OP_SUB,
    AX_OP_MUL,
    AX_OP_DIV,
    AX_OP_FLOOR_DIV,
    AX_OP_MOD,
    AX_OP_POW,
    AX_OP_EQ,
    AX_OP_NE,
    AX_OP_LT,
    AX_OP_LE,
    AX_OP_GT,
    AX_OP_GE,
    AX_OP_IN,
    AX_OP_NOT_IN
};


struct ax_node {
    enum ax_node_kind kind;
    uint32_t line;
    bool negated;     /* is not */
    const char *name; /* interned in the template */
    size_t name_len;
    const void *builtin; /* filter or test, NULL: unknown */
    struct ax_value *value;
    struct ax_node *a;
    struct ax_node *b;
    struct ax_node *c;
    struct ax_node *d;
    struct ax_node **list; /* [n] */
    uint32_t n;
    uint8_t *ops;          /* [n] enum ax_operator */
    const char **keywords; /* [n_keywords], interned */
    struct ax_node **keyword_values;
    uint32_t n_keywords;
    const char **params; /* macro: [n_params], interned */
    uint32_t n_params;
};


/* What node->builtin holds, by name; NULL if there is no such thing. */
const void *ax_jinja_filter(const char *name);
const void *ax_jinja_test(const char *name);


/* What the parser and the lexer share. */
struct ax_parse_error {
    int rc;
    uint32_t line;
    char text[200];
};


/* Parses source into a block; NULL with *error set. */
struct ax_node *ax_jinja_parse(struct ax_pool *pool, const char *source,
                               size_t n, struct ax_parse_error *error);

#endif /* AX_TEXT_JINJA_AST_H */
