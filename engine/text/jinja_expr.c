/*
 * Expressions, with Jinja2's precedence, loosest first:
 *
 *   a if b else c
 *   or, and, not
 *   == != < <= > >= in "not in"       (chained)
 *   + -
 *   ~
 *   * / // %
 *   **
 *   unary - +, then . [] () and | is
 *
 * The unusual ones are on purpose: ~ binds tighter than +, and a filter
 * belongs to the whole unary expression in front of it.
 */
#include "engine/text/jinja_parse.h"


static struct ax_node *parse_unary(struct ax_parser *ps, bool with_filters);


static struct ax_node *
const_node(struct ax_parser *ps, struct ax_value *value)
{
    struct ax_node *node = ax_parse_node(ps, AX_N_CONST);

    if (node == NULL || value == NULL) {
        return NULL;
    }
    node->value = value;
    return node;
}


static struct ax_node *
freeze(struct ax_node *node, const struct ax_nodes *list)
{
    if (node != NULL) {
        node->list = list->p;
        node->n = list->n;
    }
    return node;
}


/* ---- literals ---------------------------------------------------------- */

static struct ax_node *
parse_strings(struct ax_parser *ps)
{
    struct ax_buf *b = ax_buf_new(ps->pool);

    while (ps->t->kind == AX_T_STRING) {
        ax_buf_bytes(ps->pool, b, ps->t->p, ps->t->n, true);
        ps->t++;
    }

    struct ax_value *v = ax_buf_value(ps->pool, b);

    if (v != NULL) {
        v->u.s.buf = NULL; /* shared by renders: never appended to */
    }
    return const_node(ps, v);
}


/* Behind "[" or "(": items up to close; *comma tells of a comma seen. */
static bool
parse_items(struct ax_parser *ps, const char *close, struct ax_nodes *list,
            bool *comma)
{
    *comma = false;
    while (!ax_parse_accept_op(ps, close)) {
        struct ax_node *item = ax_parse_expression(ps);

        if (item == NULL || !ax_parse_push(ps, list, item)) {
            return false;
        }
        if (ax_parse_accept_op(ps, ",")) {
            *comma = true;
        } else if (!ax_parse_is_op(ps, close)) {
            return ax_parse_expect_op(ps, close);
        }
    }
    return true;
}


static struct ax_node *
parse_list(struct ax_parser *ps)
{
    struct ax_node *node = ax_parse_node(ps, AX_N_LIST);
    struct ax_nodes list = {0};
    bool comma;

    return parse_items(ps, "]", &list, &comma) ? freeze(node, &list) : NULL;
}


static struct ax_node *
parse_parenthesis(struct ax_parser *ps)
{
    struct ax_node *node = ax_parse_node(ps, AX_N_TUPLE);
    struct ax_nodes list = {0};
    bool comma;

    if (!parse_items(ps, ")", &list, &comma)) {
        return NULL;
    }
    return list.n == 1 && !comma ? list.p[0] : freeze(node, &list);
}


static struct ax_node *
parse_dict(struct ax_parser *ps)
{
    struct ax_node *node = ax_parse_node(ps, AX_N_DICT);
    struct ax_nodes list = {0};

    while (!ax_parse_accept_op(ps, "}")) {
        struct ax_node *key = ax_parse_expression(ps);

        if (key == NULL || !ax_parse_push(ps, &list, key) ||
            !ax_parse_expect_op(ps, ":")) {
            return NULL;
        }

        struct ax_node *item = ax_parse_expression(ps);

        if (item == NULL || !ax_parse_push(ps, &list, item)) {
            return NULL;
        }
        if (!ax_parse_accept_op(ps, ",") && !ax_parse_is_op(ps, "}")) {
            ax_parse_expect_op(ps, "}");
            return NULL;
        }
    }
    return freeze(node, &list);
}


static struct ax_node *
parse_name(struct ax_parser *ps)
{
    struct ax_pool *pool = ps->pool;

    if (ax_parse_accept_name(ps, "true") || ax_parse_accept_name(ps, "True")) {
        return const_node(ps, ax_value_bool(pool, true));
    }
    if (ax_parse_accept_name(ps, "false") ||
        ax_parse_accept_name(ps, "False")) {
        return const_node(ps, ax_value_bool(pool, false));
    }
    if (ax_parse_accept_name(ps, "none") || ax_parse_accept_name(ps, "None")) {
        return const_node(ps, ax_value_none(pool));
    }

    struct ax_node *node = ax_parse_node(ps, AX_N_NAME);

    if (node != NULL) {
        node->name = ax_parse_intern(ps, ps->t->p, ps->t->n);
        node->name_len = ps->t->n;
        ps->t++;
    }
    return node != NULL && node->name != NULL ? node : NULL;
}


static struct ax_node *
parse_primary(struct ax_parser *ps)
{
    const struct ax_token *t = ps->t;

    switch (t->kind) {
    case AX_T_NAME:
        return parse_name(ps);
    case AX_T_STRING:
        return parse_strings(ps);
    case AX_T_INTEGER:
        ps->t++;
        return const_node(ps, ax_value_int(ps->pool, t->integer));
    case AX_T_FLOAT:
        ps->t++;
        return const_node(ps, ax_value_float(ps->pool, t->number));
    default:
        break;
    }
    if (ax_parse_accept_op(ps, "(")) {
        return parse_parenthesis(ps);
    }
    if (ax_parse_accept_op(ps, "[")) {
        return parse_list(ps);
    }
    if (ax_parse_accept_op(ps, "{")) {
        return parse_dict(ps);
    }
    return ax_parse_fail(ps, AX_TEXT_BAD_SYNTAX, "unexpected '%.*s'",
                         (int)(t->n < 32 ? t->n : 32), t->p);
}


/* ---- behind a primary -------------------------------------------------- */

bool
ax_parse_arguments(struct ax_parser *ps, struct ax_node *node)
{
    struct ax_nodes list = {0}, values = {0};
    struct ax_nodes names = {0}; /* nodes only to carry the names */

    while (!ax_parse_accept_op(ps, ")")) {
        bool keyword = ps->t->kind == AX_T_NAME &&
                       ps->t[1].kind == AX_T_OPERATOR && ps->t[1].n == 1 &&
                       ps->t[1].p[0] == '=';
        if (keyword) {
            struct ax_node *name = ax_parse_node(ps, AX_N_NAME);

            if (name == NULL || !ax_parse_push(ps, &names, name)) {
                return false;
            }
            name->name = ax_parse_intern(ps, ps->t->p, ps->t->n);
            if (name->name == NULL) {
                return false;
            }
            ps->t += 2;
        } else if (ax_parse_is_op(ps, "*") || ax_parse_is_op(ps, "**")) {
            ax_parse_fail(ps, AX_TEXT_UNSUPPORTED,
                          "* in arguments is not supported");
            return false;
        } else if (names.n > 0) {
            ax_parse_fail(ps, AX_TEXT_BAD_SYNTAX,
                          "positional argument after a keyword");
            return false;
        }

        struct ax_node *value = ax_parse_expression(ps);

        if (value == NULL ||
            !ax_parse_push(ps, keyword ? &values : &list, value)) {
            return false;
        }
        if (!ax_parse_accept_op(ps, ",") && !ax_parse_is_op(ps, ")")) {
            return ax_parse_expect_op(ps, ")");
        }
    }

    freeze(node, &list);
    node->keyword_values = values.p;
    node->n_keywords = values.n;
    node->keywords =
        ax_pool_alloc(ps->pool, (values.n + 1) * sizeof(*node->keywords));
    if (node->keywords == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < values.n; i++) {
        node->keywords[i] = names.p[i]->name;
    }
    return true;
}


static struct ax_node *
parse_call(struct ax_parser *ps, struct ax_node *callee)
{
    struct ax_node *node = ax_parse_node(ps, AX_N_CALL);

    if (node == NULL || !ax_parse_arguments(ps, node)) {
        return NULL;
    }
    node->a = callee;
    return node;
}


/* Behind "[": an index or a slice; a missing bound is a NULL in the list. */
static struct ax_node *
parse_subscript(struct ax_parser *ps, struct ax_node *object)
{
    struct ax_node *node = ax_parse_node(ps, AX_N_SLICE);
    struct ax_node *parts[3] = {NULL, NULL, NULL};
    uint32_t n = 0;

    if (node == NULL) {
        return NULL;
    }
    for (;;) {
        if (!ax_parse_is_op(ps, ":") && !ax_parse_is_op(ps, "]")) {
            parts[n] = ax_parse_expression(ps);
            if (parts[n] == NULL) {
                return NULL;
            }
        }
        if (n == 2 || !ax_parse_accept_op(ps, ":")) {
            break;
        }
        n++;
    }
    if (!ax_parse_expect_op(ps, "]")) {
        return NULL;
    }
    if (n == 0 && parts[0] == NULL) {
        return ax_parse_fail(ps, AX_TEXT_BAD_SYNTAX, "empty subscript");
    }

    node->a = object;
    if (n == 0) {
        node->kind = AX_N_ITEM;
        node->b = parts[0];
        return node;
    }
    node->list = ax_pool_alloc(ps->pool, sizeof(parts));
    if (node->list == NULL) {
        return NULL;
    }
    memcpy(node->list, parts, sizeof(parts));
    node->n = 3;
    return node;
}


static struct ax_node *
parse_attribute(struct ax_parser *ps, struct ax_node *object)
{
    const struct ax_token *t = ps->t;
    struct ax_node *node =
        ax_parse_node(ps, t->kind == AX_T_INTEGER ? AX_N_ITEM : AX_N_ATTRIBUTE);
    if (node == NULL) {
        return NULL;
    }
    if (t->kind != AX_T_INTEGER && t->kind != AX_T_NAME) {
        return ax_parse_fail(ps, AX_TEXT_BAD_SYNTAX,
                             "expected a name behind '.'");
    }
    ps->t++;
    node->a = object;
    if (t->kind == AX_T_INTEGER) {
        node->b = const_node(ps, ax_value_int(ps->pool, t->integer));
        return node->b != NULL ? node : NULL;
    }
    node->name = ax_parse_intern(ps, t->p, t->n);
    node->name_len = t->n;
    return node->name != NULL ? node : NULL;
}


struct ax_node *
ax_parse_postfix(struct ax_parser *ps, struct ax_node *node)
{
    while (node != NULL) {
        if (ax_parse_accept_op(ps, ".")) {
            node = parse_attribute(ps, node);
        } else if (ax_parse_accept_op(ps, "[")) {
            node = parse_subscript(ps, node);
        } else if (ax_parse_accept_op(ps, "(")) {
            node = parse_call(ps, node);
        } else {
            break;
        }
    }
    return node;
}


static bool
name_of(struct ax_parser *ps, struct ax_node *node)
{
    if (ps->t->kind != AX_T_NAME) {
        ax_parse_fail(ps, AX_TEXT_BAD_SYNTAX,
                      "expected the name of a filter or test");
        return false;
    }
    node->name = ax_parse_intern(ps, ps->t->p, ps->t->n);
    node->name_len = ps->t->n;
    ps->t++;
    return node->name != NULL;
}


static struct ax_node *
parse_filter(struct ax_parser *ps, struct ax_node *object)
{
    struct ax_node *node = ax_parse_node(ps, AX_N_FILTER);

    if (node == NULL || !name_of(ps, node)) {
        return NULL;
    }
    node->a = object;
    node->builtin = ax_jinja_filter(node->name);
    if (ax_parse_accept_op(ps, "(") && !ax_parse_arguments(ps, node)) {
        return NULL;
    }
    return node;
}


/* A test may take one argument without parentheses: x is divisibleby 3. */
static bool
bare_argument(const struct ax_parser *ps)
{
    switch (ps->t->kind) {
    case AX_T_NAME:
        return !ax_parse_is_name(ps, "else") && !ax_parse_is_name(ps, "or") &&
               !ax_parse_is_name(ps, "and") && !ax_parse_is_name(ps, "is") &&
               !ax_parse_is_name(ps, "if") && !ax_parse_is_name(ps, "in") &&
               !ax_parse_is_name(ps, "not");
    case AX_T_STRING:
    case AX_T_INTEGER:
    case AX_T_FLOAT:
        return true;
    default:
        return ax_parse_is_op(ps, "[") || ax_parse_is_op(ps, "{");
    }
}


static struct ax_node *
parse_test(struct ax_parser *ps, struct ax_node *object)
{
    struct ax_node *node = ax_parse_node(ps, AX_N_TEST);

    if (node == NULL) {
        return NULL;
    }
    node->negated = ax_parse_accept_name(ps, "not");
    if (!name_of(ps, node)) {
        return NULL;
    }
    node->a = object;
    node->builtin = ax_jinja_test(node->name);

    if (ax_parse_accept_op(ps, "(")) {
        return ax_parse_arguments(ps, node) ? node : NULL;
    }
    if (bare_argument(ps)) {
        struct ax_node *arg = ax_parse_postfix(ps, parse_primary(ps));
        struct ax_nodes list = {0};

        if (arg == NULL || !ax_parse_push(ps, &list, arg)) {
            return NULL;
        }
        freeze(node, &list);
    }
    return node;
}


struct ax_node *
ax_parse_filters(struct ax_parser *ps, struct ax_node *node)
{
    while (node != NULL) {
        if (ax_parse_accept_op(ps, "|")) {
            node = parse_filter(ps, node);
        } else if (ax_parse_accept_name(ps, "is")) {
            node = parse_test(ps, node);
        } else if (ax_parse_accept_op(ps, "(")) {
            node = parse_call(ps, node);
        } else {
            break;
        }
    }
    return node;
}


/* ---- operators --------------------------------------------------------- */

static struct ax_node *
parse_unary(struct ax_parser *ps, bool with_filters)
{
    struct ax_node *node;

    if (!ax_parse_enter(ps)) {
        return NULL;
    }
    if (ax_parse_is_op(ps, "-") || ax_parse_is_op(ps, "+")) {
        bool minus = ax_parse_is_op(ps, "-");

        ps->t++;
        node = ax_parse_node(ps, minus ? AX_N_NEGATE : AX_N_PLUS);
        if (node != NULL) {
            node->a = parse_unary(ps, false);
            node = node->a != NULL ? node : NULL;
        }
    } else {
        node = ax_parse_postfix(ps, parse_primary(ps));
    }
    ax_parse_leave(ps);
    return with_filters ? ax_parse_filters(ps, node) : node;
}


struct op_name {
    const char *text;
    enum ax_operator op;
};

static const struct op_name pow_ops[] = {{"**", AX_OP_POW}, {NULL, 0}};
static const struct op_name mul_ops[] = {{"*", AX_OP_MUL},
                                         {"/", AX_OP_DIV},
                                         {"//", AX_OP_FLOOR_DIV},
                                         {"%", AX_OP_MOD},
                                         {NULL, 0}};
static const struct op_name add_ops[] = {
    {"+", AX_OP_ADD}, {"-", AX_OP_SUB}, {NULL, 0}};
static const struct op_name compare_ops[] = {
    {"==", AX_OP_EQ}, {"!=", AX_OP_NE}, {"<", AX_OP_LT}, {"<=", AX_OP_LE},
    {">", AX_OP_GT},  {">=", AX_OP_GE}, {NULL, 0}};


static bool
accept_operator(struct ax_parser *ps, const struct op_name *ops, uint8_t *op)
{
    for (; ops->text != NULL; ops++) {
        if (ax_parse_accept_op(ps, ops->text)) {
            *op = (uint8_t)ops->op;
            return true;
        }
    }
    return false;
}


static bool
accept_comparison(struct ax_parser *ps, const struct op_name *ops, uint8_t *op)
{
    if (accept_operator(ps, ops, op)) {
        return true;
    }
    if (ax_parse_accept_name(ps, "in")) {
        *op = AX_OP_IN;
        return true;
    }
    if (ax_parse_is_name(ps, "not") && ps->t[1].kind == AX_T_NAME &&
        ps->t[1].n == 2 && memcmp(ps->t[1].p, "in", 2) == 0) {
        ps->t += 2;
        *op = AX_OP_NOT_IN;
        return true;
    }
    return false;
}


typedef struct ax_node *(*operand_fn)(struct ax_parser *ps);
typedef bool (*accept_fn)(struct ax_parser *ps, const struct op_name *ops,
                          uint8_t *op);


/* operand (op operand)*: the operand alone, or one flat node. */
static struct ax_node *
parse_chain(struct ax_parser *ps, enum ax_node_kind kind, operand_fn operand,
            accept_fn accept, const struct op_name *ops)
{
    struct ax_node *first = operand(ps);
    struct ax_node *node = NULL;
    struct ax_nodes list = {0};
    struct ax_buf *codes = NULL;
    uint8_t op;

    while (first != NULL && accept(ps, ops, &op)) {
        struct ax_node *next = operand(ps);

        if (next == NULL || !ax_parse_push(ps, &list, next)) {
            return NULL;
        }
        if (node == NULL) {
            node = ax_parse_node(ps, kind);
            codes = ax_buf_new(ps->pool);
        }
        ax_buf_bytes(ps->pool, codes, (const char *)&op, 1, true);
    }
    if (node == NULL || ax_pool_error(ps->pool) != 0) {
        return list.n == 0 ? first : NULL;
    }
    node->a = first;
    node->ops = (uint8_t *)codes->p;
    return freeze(node, &list);
}


static struct ax_node *
parse_unary_filtered(struct ax_parser *ps)
{
    return parse_unary(ps, true);
}


static struct ax_node *
parse_pow(struct ax_parser *ps)
{
    return parse_chain(ps, AX_N_ARITHMETIC, parse_unary_filtered,
                       accept_operator, pow_ops);
}


static struct ax_node *
parse_mul(struct ax_parser *ps)
{
    return parse_chain(ps, AX_N_ARITHMETIC, parse_pow, accept_operator,
                       mul_ops);
}


/* first (word|op operand)*: a flat list of all operands. */
static struct ax_node *
parse_list_of(struct ax_parser *ps, enum ax_node_kind kind, operand_fn operand,
              const char *op, const char *word)
{
    struct ax_node *first = operand(ps);
    struct ax_nodes list = {0};

    if (first == NULL || !ax_parse_push(ps, &list, first)) {
        return NULL;
    }
    while (op != NULL ? ax_parse_accept_op(ps, op)
                      : ax_parse_accept_name(ps, word)) {
        struct ax_node *next = operand(ps);

        if (next == NULL || !ax_parse_push(ps, &list, next)) {
            return NULL;
        }
    }
    return list.n == 1 ? first : freeze(ax_parse_node(ps, kind), &list);
}


static struct ax_node *
parse_concat(struct ax_parser *ps)
{
    return parse_list_of(ps, AX_N_CONCAT, parse_mul, "~", NULL);
}


static struct ax_node *
parse_add(struct ax_parser *ps)
{
    return parse_chain(ps, AX_N_ARITHMETIC, parse_concat, accept_operator,
                       add_ops);
}


static struct ax_node *
parse_compare(struct ax_parser *ps)
{
    return parse_chain(ps, AX_N_COMPARE, parse_add, accept_comparison,
                       compare_ops);
}


static struct ax_node *
parse_not(struct ax_parser *ps)
{
    if (!ax_parse_is_name(ps, "not")) {
        return parse_compare(ps);
    }
    if (!ax_parse_enter(ps)) {
        return NULL;
    }
    ps->t++;

    struct ax_node *node = ax_parse_node(ps, AX_N_NOT);

    if (node != NULL) {
        node->a = parse_not(ps);
        node = node->a != NULL ? node : NULL;
    }
    ax_parse_leave(ps);
    return node;
}


static struct ax_node *
parse_and(struct ax_parser *ps)
{
    return parse_list_of(ps, AX_N_AND, parse_not, NULL, "and");
}


static struct ax_node *
parse_or(struct ax_parser *ps)
{
    return parse_list_of(ps, AX_N_OR, parse_and, NULL, "or");
}


struct ax_node *
ax_parse_expression(struct ax_parser *ps)
{
    if (!ax_parse_enter(ps)) {
        return NULL;
    }

    struct ax_node *node = parse_or(ps);

    while (node != NULL && ax_parse_accept_name(ps, "if")) {
        struct ax_node *whole = ax_parse_node(ps, AX_N_CONDITION);

        if (whole == NULL) {
            return NULL;
        }
        whole->a = node;
        whole->b = parse_or(ps);
        if (whole->b == NULL) {
            return NULL;
        }
        if (ax_parse_accept_name(ps, "else")) {
            whole->c = ax_parse_expression(ps);
            if (whole->c == NULL) {
                return NULL;
            }
        }
        node = whole;
    }
    ax_parse_leave(ps);
    return node;
}


static bool
tuple_ends(const struct ax_parser *ps)
{
    return ps->t->kind == AX_T_BLOCK_END || ps->t->kind == AX_T_OUTPUT_END ||
           ps->t->kind == AX_T_END || ax_parse_is_op(ps, ")") ||
           ax_parse_is_op(ps, "=") || ax_parse_is_name(ps, "in") ||
           ax_parse_is_name(ps, "recursive");
}


struct ax_node *
ax_parse_tuple(struct ax_parser *ps, bool without_if)
{
    struct ax_nodes list = {0};
    bool comma = false;

    for (;;) {
        struct ax_node *item =
            without_if ? parse_or(ps) : ax_parse_expression(ps);

        if (item == NULL || !ax_parse_push(ps, &list, item)) {
            return NULL;
        }
        if (!ax_parse_accept_op(ps, ",")) {
            break;
        }
        comma = true;
        if (tuple_ends(ps)) {
            break;
        }
    }
    return comma ? freeze(ax_parse_node(ps, AX_N_TUPLE), &list) : list.p[0];
}
