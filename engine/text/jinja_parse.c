/*
 * Statements: from tokens to a tree.
 *
 * A body is parsed until a block tag that its owner waits for ("endif",
 * "else"), whose name is left as the next token.  Tags that need more than
 * the template itself (include, import, extends, block) are refused by name;
 * generation marks training data and is transparent.
 */
#include "engine/text/jinja_parse.h"

#include <stdarg.h>
#include <stdio.h>

#include "engine/text/template.h"


static struct ax_node *parse_body(struct ax_parser *ps,
                                  const char *const *until);


struct ax_node *
ax_parse_fail(struct ax_parser *ps, int rc, const char *format, ...)
{
    if (ps->error->rc == 0) {
        va_list args;

        ps->error->rc = rc;
        ps->error->line = ps->t->line;
        va_start(args, format);
        vsnprintf(ps->error->text, sizeof(ps->error->text), format, args);
        va_end(args);
    }
    return NULL;
}


struct ax_node *
ax_parse_node(struct ax_parser *ps, enum ax_node_kind kind)
{
    struct ax_node *node = ax_pool_alloc(ps->pool, sizeof(*node));

    if (node != NULL) {
        memset(node, 0, sizeof(*node));
        node->kind = kind;
        node->line = ps->t->line;
    }
    return node;
}


bool
ax_parse_push(struct ax_parser *ps, struct ax_nodes *list, struct ax_node *node)
{
    if (list->n == list->cap) {
        uint32_t cap = list->cap * 2 + 4;
        void *q = ax_pool_grow(ps->pool, list->p, list->n * sizeof(*list->p),
                               cap * sizeof(*list->p));
        if (q == NULL) {
            return false;
        }
        list->p = q;
        list->cap = cap;
    }
    list->p[list->n++] = node;
    return node != NULL;
}


const char *
ax_parse_intern(struct ax_parser *ps, const char *p, size_t n)
{
    struct ax_value *known = ax_dict_get(ps->pool, &ps->names, p, n);

    if (known == NULL) {
        known = ax_value_string(ps->pool, p, n, true);
        ax_dict_put(ps->pool, &ps->names, known, known);
    }
    if (known == NULL || memchr(known->u.s.p, '\0', known->u.s.n) != NULL) {
        ax_parse_fail(ps, AX_TEXT_BAD_SYNTAX, "bad name");
        return NULL;
    }
    if (known->u.s.buf != NULL) { /* was repaired: not a valid name */
        ax_parse_fail(ps, AX_TEXT_BAD_SYNTAX, "name is not UTF-8");
        return NULL;
    }
    return known->u.s.p;
}


bool
ax_parse_enter(struct ax_parser *ps)
{
    if (ps->depth == AX_TEMPLATE_NEST_MAX) {
        ax_parse_fail(ps, AX_TEXT_LIMIT_DEPTH, "nested deeper than %d",
                      AX_TEMPLATE_NEST_MAX);
        return false;
    }
    ps->depth++;
    return true;
}


void
ax_parse_leave(struct ax_parser *ps)
{
    ps->depth--;
}


static bool
is_token(const struct ax_parser *ps, enum ax_token_kind kind, const char *text)
{
    size_t n = strlen(text);

    return ps->t->kind == kind && ps->t->n == n &&
           memcmp(ps->t->p, text, n) == 0;
}


bool
ax_parse_is_op(const struct ax_parser *ps, const char *op)
{
    return is_token(ps, AX_T_OPERATOR, op);
}


bool
ax_parse_is_name(const struct ax_parser *ps, const char *name)
{
    return is_token(ps, AX_T_NAME, name);
}


bool
ax_parse_accept_op(struct ax_parser *ps, const char *op)
{
    bool is = ax_parse_is_op(ps, op);

    ps->t += is;
    return is;
}


bool
ax_parse_accept_name(struct ax_parser *ps, const char *name)
{
    bool is = ax_parse_is_name(ps, name);

    ps->t += is;
    return is;
}


bool
ax_parse_expect_op(struct ax_parser *ps, const char *op)
{
    if (ax_parse_accept_op(ps, op)) {
        return true;
    }
    ax_parse_fail(ps, AX_TEXT_BAD_SYNTAX, "expected '%s'", op);
    return false;
}


static bool
expect_end(struct ax_parser *ps)
{
    if (ps->t->kind == AX_T_BLOCK_END) {
        ps->t++;
        return true;
    }
    ax_parse_fail(ps, AX_TEXT_BAD_SYNTAX, "expected the end of the tag");
    return false;
}


/* A body, then one of its ends, then the end of that tag. */
static struct ax_node *
parse_body_to(struct ax_parser *ps, const char *end)
{
    const char *const until[] = {end, NULL};
    struct ax_node *body = parse_body(ps, until);

    if (body == NULL) {
        return NULL;
    }
    ps->t++;
    return expect_end(ps) ? body : NULL;
}


/* ---- if, for ----------------------------------------------------------- */

static struct ax_node *
parse_if(struct ax_parser *ps)
{
    static const char *const until[] = {"elif", "else", "endif", NULL};
    struct ax_node *node = ax_parse_node(ps, AX_N_IF);
    struct ax_nodes list = {0};

    if (node == NULL) {
        return NULL;
    }
    do {
        struct ax_node *condition = ax_parse_tuple(ps, false);

        if (condition == NULL || !expect_end(ps) ||
            !ax_parse_push(ps, &list, condition) ||
            !ax_parse_push(ps, &list, parse_body(ps, until))) {
            return NULL;
        }
    } while (ax_parse_accept_name(ps, "elif"));

    if (ax_parse_accept_name(ps, "else")) {
        if (!expect_end(ps)) {
            return NULL;
        }
        node->c = parse_body_to(ps, "endif");
        if (node->c == NULL) {
            return NULL;
        }
    } else {
        ps->t++;
        if (!expect_end(ps)) {
            return NULL;
        }
    }
    node->list = list.p;
    node->n = list.n;
    return node;
}


/* A name, an attribute of a namespace (set only), or a tuple of these. */
static struct ax_node *
parse_target(struct ax_parser *ps, bool attributes)
{
    struct ax_nodes list = {0};
    bool comma = false;
    bool parenthesis = ax_parse_accept_op(ps, "(");

    for (;;) {
        if (ps->t->kind != AX_T_NAME) {
            return ax_parse_fail(ps, AX_TEXT_BAD_SYNTAX,
                                 "expected a name to assign to");
        }

        struct ax_node *name = ax_parse_node(ps, AX_N_NAME);

        if (name == NULL) {
            return NULL;
        }
        name->name = ax_parse_intern(ps, ps->t->p, ps->t->n);
        name->name_len = ps->t->n;
        ps->t++;
        if (attributes && !comma && ax_parse_is_op(ps, ".")) {
            name = ax_parse_postfix(ps, name);
            if (name != NULL && name->kind != AX_N_ATTRIBUTE) {
                return ax_parse_fail(ps, AX_TEXT_BAD_SYNTAX,
                                     "cannot assign to this");
            }
        }
        if (name == NULL || name->name == NULL ||
            !ax_parse_push(ps, &list, name)) {
            return NULL;
        }
        if (!ax_parse_accept_op(ps, ",")) {
            break;
        }
        comma = true;
        if (ps->t->kind != AX_T_NAME || ax_parse_is_name(ps, "in")) {
            break;
        }
    }
    if (parenthesis && !ax_parse_expect_op(ps, ")")) {
        return NULL;
    }
    if (!comma) {
        return list.p[0];
    }

    struct ax_node *tuple = ax_parse_node(ps, AX_N_TUPLE);

    if (tuple != NULL) {
        tuple->list = list.p;
        tuple->n = list.n;
    }
    return tuple;
}


static struct ax_node *
parse_for(struct ax_parser *ps)
{
    static const char *const until[] = {"else", "endfor", NULL};
    struct ax_node *node = ax_parse_node(ps, AX_N_FOR);
    struct ax_nodes list = {0};

    if (node == NULL) {
        return NULL;
    }
    node->a = parse_target(ps, false);
    if (node->a == NULL) {
        return NULL;
    }
    if (!ax_parse_accept_name(ps, "in")) {
        return ax_parse_fail(ps, AX_TEXT_BAD_SYNTAX, "expected 'in'");
    }
    node->b = ax_parse_tuple(ps, true);
    if (node->b == NULL) {
        return NULL;
    }
    if (ax_parse_accept_name(ps, "if") &&
        !ax_parse_push(ps, &list, ax_parse_expression(ps))) {
        return NULL;
    }
    node->list = list.p;
    node->n = list.n;
    if (ax_parse_is_name(ps, "recursive")) {
        return ax_parse_fail(ps, AX_TEXT_UNSUPPORTED,
                             "recursive loops are not supported");
    }
    if (!expect_end(ps)) {
        return NULL;
    }

    ps->loops++;
    node->c = parse_body(ps, until);
    ps->loops--;
    if (node->c == NULL) {
        return NULL;
    }
    if (ax_parse_accept_name(ps, "else")) {
        if (!expect_end(ps)) {
            return NULL;
        }
        node->d = parse_body_to(ps, "endfor");
        return node->d != NULL ? node : NULL;
    }
    ps->t++;
    return expect_end(ps) ? node : NULL;
}


static struct ax_node *
parse_jump(struct ax_parser *ps, enum ax_node_kind kind)
{
    if (ps->loops == 0) {
        return ax_parse_fail(ps, AX_TEXT_BAD_SYNTAX,
                             "break or continue outside a loop");
    }

    struct ax_node *node = ax_parse_node(ps, kind);

    return expect_end(ps) ? node : NULL;
}


/* ---- set, with, filter ------------------------------------------------- */

static struct ax_node *
parse_set(struct ax_parser *ps)
{
    struct ax_node *node = ax_parse_node(ps, AX_N_SET);

    if (node == NULL) {
        return NULL;
    }
    node->a = parse_target(ps, true);
    if (node->a == NULL) {
        return NULL;
    }
    if (ax_parse_accept_op(ps, "=")) {
        node->b = ax_parse_tuple(ps, false);
        return node->b != NULL && expect_end(ps) ? node : NULL;
    }

    node->kind = AX_N_SET_BLOCK;
    node->b = ax_parse_filters(ps, ax_parse_node(ps, AX_N_CAPTURE));
    if (node->b == NULL || !expect_end(ps)) {
        return NULL;
    }
    node->c = parse_body_to(ps, "endset");
    return node->c != NULL ? node : NULL;
}


static struct ax_node *
parse_filter_block(struct ax_parser *ps)
{
    struct ax_node *node = ax_parse_node(ps, AX_N_FILTER_BLOCK);
    struct ax_node *filter = ax_parse_node(ps, AX_N_FILTER);

    if (node == NULL || filter == NULL) {
        return NULL;
    }
    if (ps->t->kind != AX_T_NAME) {
        return ax_parse_fail(ps, AX_TEXT_BAD_SYNTAX, "expected a filter");
    }
    filter->name = ax_parse_intern(ps, ps->t->p, ps->t->n);
    filter->a = ax_parse_node(ps, AX_N_CAPTURE);
    if (filter->name == NULL || filter->a == NULL) {
        return NULL;
    }
    filter->builtin = ax_jinja_filter(filter->name);
    ps->t++;
    if (ax_parse_accept_op(ps, "(") && !ax_parse_arguments(ps, filter)) {
        return NULL;
    }
    node->a = ax_parse_filters(ps, filter);
    if (node->a == NULL || !expect_end(ps)) {
        return NULL;
    }
    node->c = parse_body_to(ps, "endfilter");
    return node->c != NULL ? node : NULL;
}


static struct ax_node *
parse_with(struct ax_parser *ps)
{
    struct ax_node *node = ax_parse_node(ps, AX_N_WITH);
    struct ax_nodes list = {0};

    while (node != NULL && ps->t->kind != AX_T_BLOCK_END) {
        if (list.n > 0 && !ax_parse_expect_op(ps, ",")) {
            return NULL;
        }
        if (!ax_parse_push(ps, &list, parse_target(ps, false)) ||
            !ax_parse_expect_op(ps, "=") ||
            !ax_parse_push(ps, &list, ax_parse_expression(ps))) {
            return NULL;
        }
    }
    if (node == NULL || !expect_end(ps)) {
        return NULL;
    }
    node->list = list.p;
    node->n = list.n;
    node->c = parse_body_to(ps, "endwith");
    return node->c != NULL ? node : NULL;
}


/* ---- macros ------------------------------------------------------------ */

/* (a, b=1): params holds all names, list a default or NULL for each. */
static bool
parse_params(struct ax_parser *ps, struct ax_node *macro)
{
    struct ax_nodes names = {0}, defaults = {0};

    if (!ax_parse_expect_op(ps, "(")) {
        return false;
    }
    while (!ax_parse_accept_op(ps, ")")) {
        if (names.n > 0 && !ax_parse_expect_op(ps, ",")) {
            return false;
        }

        struct ax_node *name =
            ps->t->kind == AX_T_NAME ? ax_parse_node(ps, AX_N_NAME) : NULL;
        struct ax_node *value = NULL;

        if (name == NULL) {
            ax_parse_fail(ps, AX_TEXT_BAD_SYNTAX, "expected a parameter");
            return false;
        }
        name->name = ax_parse_intern(ps, ps->t->p, ps->t->n);
        ps->t++;
        if (ax_parse_accept_op(ps, "=")) {
            value = ax_parse_expression(ps);
            if (value == NULL) {
                return false;
            }
        }
        if (name->name == NULL || !ax_parse_push(ps, &names, name)) {
            return false;
        }
        ax_parse_push(ps, &defaults, value);
        if (ax_pool_error(ps->pool) != 0) {
            return false;
        }
    }

    macro->params =
        ax_pool_alloc(ps->pool, (names.n + 1) * sizeof(*macro->params));
    if (macro->params == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < names.n; i++) {
        macro->params[i] = names.p[i]->name;
    }
    macro->n_params = names.n;
    macro->list = defaults.p;
    macro->n = defaults.n;
    return true;
}


static bool
parse_macro_body(struct ax_parser *ps, struct ax_node *macro, const char *end)
{
    uint32_t loops = ps->loops;

    if (!expect_end(ps)) {
        return false;
    }
    ps->loops = 0;
    macro->c = parse_body_to(ps, end);
    ps->loops = loops;
    return macro->c != NULL;
}


static struct ax_node *
parse_macro(struct ax_parser *ps)
{
    struct ax_node *node = ax_parse_node(ps, AX_N_MACRO);

    if (node == NULL) {
        return NULL;
    }
    if (ps->t->kind != AX_T_NAME) {
        return ax_parse_fail(ps, AX_TEXT_BAD_SYNTAX,
                             "expected the name of a macro");
    }
    node->name = ax_parse_intern(ps, ps->t->p, ps->t->n);
    ps->t++;
    return node->name != NULL && parse_params(ps, node) &&
                   parse_macro_body(ps, node, "endmacro")
               ? node
               : NULL;
}


static struct ax_node *
parse_call_block(struct ax_parser *ps)
{
    struct ax_node *node = ax_parse_node(ps, AX_N_CALL_BLOCK);
    struct ax_node *body = ax_parse_node(ps, AX_N_MACRO);

    if (node == NULL || body == NULL) {
        return NULL;
    }
    body->name = "caller";
    if (ax_parse_is_op(ps, "(") && !parse_params(ps, body)) {
        return NULL;
    }
    node->a = ax_parse_expression(ps);
    if (node->a == NULL) {
        return NULL;
    }
    if (node->a->kind != AX_N_CALL) {
        return ax_parse_fail(ps, AX_TEXT_BAD_SYNTAX, "expected a call");
    }
    node->b = body;
    return parse_macro_body(ps, body, "endcall") ? node : NULL;
}


/* ---- tags and bodies --------------------------------------------------- */

static struct ax_node *
parse_statement(struct ax_parser *ps)
{
    if (ax_parse_accept_name(ps, "if")) {
        return parse_if(ps);
    }
    if (ax_parse_accept_name(ps, "for")) {
        return parse_for(ps);
    }
    if (ax_parse_accept_name(ps, "set")) {
        return parse_set(ps);
    }
    if (ax_parse_accept_name(ps, "macro")) {
        return parse_macro(ps);
    }
    if (ax_parse_accept_name(ps, "call")) {
        return parse_call_block(ps);
    }
    if (ax_parse_accept_name(ps, "filter")) {
        return parse_filter_block(ps);
    }
    if (ax_parse_accept_name(ps, "with")) {
        return parse_with(ps);
    }
    if (ax_parse_accept_name(ps, "break")) {
        return parse_jump(ps, AX_N_BREAK);
    }
    if (ax_parse_accept_name(ps, "continue")) {
        return parse_jump(ps, AX_N_CONTINUE);
    }
    if (ax_parse_accept_name(ps, "generation")) {
        return expect_end(ps) ? parse_body_to(ps, "endgeneration") : NULL;
    }
    return ax_parse_fail(
        ps, ps->t->kind == AX_T_NAME ? AX_TEXT_UNSUPPORTED : AX_TEXT_BAD_SYNTAX,
        "tag '%.*s' is not supported", (int)(ps->t->n < 32 ? ps->t->n : 32),
        ps->t->p);
}


static struct ax_node *
parse_output(struct ax_parser *ps)
{
    struct ax_node *node = ax_parse_node(ps, AX_N_OUTPUT);

    if (node == NULL) {
        return NULL;
    }
    node->a = ax_parse_tuple(ps, false);
    if (node->a == NULL) {
        return NULL;
    }
    if (ps->t->kind != AX_T_OUTPUT_END) {
        return ax_parse_fail(ps, AX_TEXT_BAD_SYNTAX, "expected '}}'");
    }
    ps->t++;
    return node;
}


static struct ax_node *
parse_text(struct ax_parser *ps)
{
    struct ax_node *node = ax_parse_node(ps, AX_N_TEXT);

    if (node == NULL) {
        return NULL;
    }
    node->value = ax_value_string(ps->pool, ps->t->p, ps->t->n, true);
    ps->t++;
    if (node->value == NULL) {
        return NULL;
    }
    node->value->u.s.buf = NULL; /* shared by renders */
    return node;
}


static bool
is_until(const struct ax_parser *ps, const char *const *until)
{
    for (; until != NULL && *until != NULL; until++) {
        if (ax_parse_is_name(ps, *until)) {
            return true;
        }
    }
    return false;
}


/* The next piece of a body.  *done: the body's end; NULL otherwise: error. */
static struct ax_node *
parse_piece(struct ax_parser *ps, const char *const *until, bool *done)
{
    switch (ps->t->kind) {
    case AX_T_TEXT:
        return parse_text(ps);

    case AX_T_OUTPUT_BEGIN:
        ps->t++;
        return parse_output(ps);

    case AX_T_BLOCK_BEGIN:
        ps->t++;
        if (is_until(ps, until)) {
            *done = true;
            return NULL;
        }
        return parse_statement(ps);

    case AX_T_END:
        if (until == NULL) {
            *done = true;
            return NULL;
        }
        return ax_parse_fail(ps, AX_TEXT_BAD_SYNTAX, "missing '%s'", until[0]);
    default:
        return ax_parse_fail(ps, AX_TEXT_BAD_SYNTAX, "unexpected token");
    }
}


static struct ax_node *
parse_body(struct ax_parser *ps, const char *const *until)
{
    struct ax_node *block = ax_parse_node(ps, AX_N_BLOCK);
    struct ax_nodes list = {0};
    bool done = false;

    if (block == NULL || !ax_parse_enter(ps)) {
        return NULL;
    }
    for (;;) {
        struct ax_node *piece = parse_piece(ps, until, &done);

        if (done) {
            break;
        }
        if (piece == NULL || !ax_parse_push(ps, &list, piece)) {
            return NULL;
        }
    }
    ax_parse_leave(ps);
    block->list = list.p;
    block->n = list.n;
    return block;
}


struct ax_node *
ax_jinja_parse(struct ax_pool *pool, const char *source, size_t n,
               struct ax_parse_error *error)
{
    size_t n_tokens;
    struct ax_parser ps = {.pool = pool, .error = error};

    memset(error, 0, sizeof(*error));
    ps.t = ax_jinja_lex(pool, source, n, &n_tokens, error);
    if (ps.t == NULL) {
        return NULL;
    }

    struct ax_node *root = parse_body(&ps, NULL);

    if (root == NULL && error->rc == 0) {
        error->rc = ax_pool_error(pool);
        snprintf(error->text, sizeof(error->text), "template is too large");
    }
    return error->rc == 0 ? root : NULL;
}
