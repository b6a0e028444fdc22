/*
 * Evaluation of expressions.
 *
 * Walks the tree.  Every node costs a step, so loops end; C recursion is
 * counted in eval_left, so a deep tree or a macro that calls itself ends with
 * limit_depth long before the stack does.
 */
#include "engine/text/jinja_run.h"

#include <stdarg.h>
#include <stdio.h>


struct ax_value *
ax_jinja_fail(struct ax_jinja *j, int rc, const char *format, ...)
{
    if (j->rc == 0) {
        va_list args;

        j->rc = rc;
        j->error_line = j->line;
        va_start(args, format);
        vsnprintf(j->error, sizeof(j->error), format, args);
        va_end(args);
    }
    return NULL;
}


bool
ax_jinja_charge(struct ax_jinja *j, size_t steps)
{
    if (ax_pool_error(j->pool) != 0) {
        return false;
    }
    if (steps >= j->steps_left) {
        ax_jinja_fail(j, AX_TEXT_LIMIT_STEPS,
                      "the template takes too many steps");
        return false;
    }
    j->steps_left -= steps;
    return j->rc == 0;
}


struct ax_value *
ax_arg(const struct ax_call *call, uint32_t i, const char *name)
{
    if (i < call->n) {
        return call->args[i];
    }
    for (uint32_t k = 0; name != NULL && k < call->n_names; k++) {
        if (strcmp(call->names[k], name) == 0) {
            return call->values[k];
        }
    }
    return NULL;
}


/* ---- names ------------------------------------------------------------- */

static struct ax_variable *
find_variable(struct ax_scope *scope, const char *name)
{
    for (uint32_t i = 0; i < scope->n; i++) {
        if (scope->vars[i].name == name ||
            strcmp(scope->vars[i].name, name) == 0) {
            return &scope->vars[i];
        }
    }
    return NULL;
}


struct ax_scope *
ax_scope_push(struct ax_jinja *j, struct ax_scope *parent)
{
    struct ax_scope *scope = ax_pool_alloc(j->pool, sizeof(*scope));

    if (scope != NULL) {
        memset(scope, 0, sizeof(*scope));
        scope->parent = parent;
    }
    return scope;
}


void
ax_scope_set(struct ax_jinja *j, const char *name, struct ax_value *value)
{
    struct ax_scope *scope = j->scope;
    struct ax_variable *var = find_variable(scope, name);

    if (var != NULL) {
        var->value = value;
        return;
    }
    if (scope->n == scope->cap) {
        uint32_t cap = scope->cap * 2 + 8;
        void *q =
            ax_pool_grow(j->pool, scope->vars, scope->n * sizeof(*scope->vars),
                         cap * sizeof(*scope->vars));
        if (q == NULL) {
            return;
        }
        scope->vars = q;
        scope->cap = cap;
    }
    scope->vars[scope->n++] = (struct ax_variable){name, value};
}


static struct ax_value *
eval_name(struct ax_jinja *j, const struct ax_node *node)
{
    for (struct ax_scope *s = j->scope; s != NULL; s = s->parent) {
        struct ax_variable *var = find_variable(s, node->name);

        if (var != NULL) {
            return var->value;
        }
        if (!ax_jinja_charge(j, 1 + s->n / 8)) {
            return NULL;
        }
    }

    struct ax_value *v =
        ax_dict_get(j->pool, &j->vars->u.dict, node->name, strlen(node->name));
    if (v == NULL) {
        v = ax_jinja_global(j, node->name);
    }
    return v != NULL ? v : ax_value_undefined(j->pool, node->name);
}


/* ---- lists and calls --------------------------------------------------- */

static bool
eval_all(struct ax_jinja *j, struct ax_node *const *list, uint32_t n,
         struct ax_value ***out)
{
    *out = ax_pool_alloc(j->pool, (n + 1) * sizeof(**out));
    if (*out == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        (*out)[i] = ax_jinja_eval(j, list[i]);
        if ((*out)[i] == NULL) {
            return false;
        }
    }
    return true;
}


static bool
eval_arguments(struct ax_jinja *j, const struct ax_node *node,
               struct ax_call *call)
{
    call->n = node->n;
    call->n_names = node->n_keywords;
    call->names = node->keywords;
    return eval_all(j, node->list, node->n, &call->args) &&
           eval_all(j, node->keyword_values, node->n_keywords, &call->values);
}


struct ax_value *
ax_jinja_call(struct ax_jinja *j, struct ax_value *callee,
              const struct ax_call *call)
{
    if (callee->kind == AX_V_UNDEFINED) {
        return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION, "'%s' is undefined",
                             callee->u.name);
    }
    if (callee->kind != AX_V_FUNCTION) {
        return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                             "'%s' object is not callable",
                             ax_jinja_type_name(callee));
    }

    const struct ax_function *fn = &callee->u.fn;

    return fn->macro != NULL ? ax_jinja_call_macro(j, fn, call)
                             : fn->fn(j, fn->self, call);
}


static struct ax_value *
eval_call(struct ax_jinja *j, const struct ax_node *node)
{
    struct ax_value *callee = ax_jinja_eval(j, node->a);
    struct ax_call call;

    if (callee == NULL || !eval_arguments(j, node, &call)) {
        return NULL;
    }
    j->line = node->line;
    return ax_jinja_call(j, callee, &call);
}


static struct ax_value *
eval_filter(struct ax_jinja *j, const struct ax_node *node)
{
    struct ax_value *value = ax_jinja_eval(j, node->a);
    struct ax_call call;

    if (value == NULL || !eval_arguments(j, node, &call)) {
        return NULL;
    }
    j->line = node->line;
    return ax_jinja_apply_filter(j, node->name, node->builtin, value, &call);
}


static struct ax_value *
eval_test(struct ax_jinja *j, const struct ax_node *node)
{
    struct ax_value *value = ax_jinja_eval(j, node->a);
    struct ax_call call;

    if (value == NULL || !eval_arguments(j, node, &call)) {
        return NULL;
    }
    j->line = node->line;

    int rc = ax_jinja_apply_test(j, node->name, node->builtin, value, &call);

    return rc < 0 ? NULL : ax_value_bool(j->pool, (rc != 0) != node->negated);
}


static struct ax_value *
eval_sequence(struct ax_jinja *j, const struct ax_node *node,
              enum ax_value_kind kind)
{
    struct ax_value *list = ax_value_new(j->pool, kind);

    for (uint32_t i = 0; i < node->n; i++) {
        struct ax_value *item = ax_jinja_eval(j, node->list[i]);

        if (item == NULL || list == NULL) {
            return NULL;
        }
        ax_list_push(j->pool, &list->u.list, item);
    }
    return list;
}


static struct ax_value *
eval_dict(struct ax_jinja *j, const struct ax_node *node)
{
    struct ax_value *dict = ax_value_dict(j->pool);

    for (uint32_t i = 0; i + 1 < node->n; i += 2) {
        struct ax_value *key = ax_jinja_eval(j, node->list[i]);
        struct ax_value *item =
            key != NULL ? ax_jinja_eval(j, node->list[i + 1]) : NULL;

        if (item == NULL || dict == NULL) {
            return NULL;
        }
        ax_dict_put(j->pool, &dict->u.dict, key, item);
    }
    return dict;
}


/* ---- operators --------------------------------------------------------- */

static struct ax_value *
eval_arithmetic(struct ax_jinja *j, const struct ax_node *node)
{
    struct ax_value *v = ax_jinja_eval(j, node->a);

    for (uint32_t i = 0; v != NULL && i < node->n; i++) {
        struct ax_value *b = ax_jinja_eval(j, node->list[i]);

        j->line = node->line;
        v = b != NULL ? ax_jinja_arithmetic(j, node->ops[i], v, b) : NULL;
    }
    return v;
}


static struct ax_value *
eval_concat(struct ax_jinja *j, const struct ax_node *node)
{
    struct ax_value *v = ax_jinja_eval(j, node->list[0]);

    v = v != NULL ? ax_jinja_string(j, v) : NULL;
    for (uint32_t i = 1; v != NULL && i < node->n; i++) {
        struct ax_value *b = ax_jinja_eval(j, node->list[i]);

        b = b != NULL ? ax_jinja_string(j, b) : NULL;
        if (b == NULL || !ax_jinja_charge(j, 1 + b->u.s.n / 16)) {
            return NULL;
        }
        v = ax_string_concat(j->pool, &v->u.s, &b->u.s);
    }
    return v;
}


/* `and` and `or` give the operand that decided, as in Python. */
static struct ax_value *
eval_logic(struct ax_jinja *j, const struct ax_node *node, bool stop_at)
{
    struct ax_value *v = NULL;

    for (uint32_t i = 0; i < node->n; i++) {
        v = ax_jinja_eval(j, node->list[i]);
        if (v == NULL || ax_jinja_truth(v) == stop_at) {
            break;
        }
    }
    return v;
}


static struct ax_value *
eval_compare(struct ax_jinja *j, const struct ax_node *node)
{
    struct ax_value *a = ax_jinja_eval(j, node->a);
    int rc = 1;

    for (uint32_t i = 0; a != NULL && rc == 1 && i < node->n; i++) {
        struct ax_value *b = ax_jinja_eval(j, node->list[i]);

        if (b == NULL) {
            return NULL;
        }
        j->line = node->line;
        rc = ax_jinja_compare(j, node->ops[i], a, b);
        a = b;
    }
    return a == NULL || rc < 0 ? NULL : ax_value_bool(j->pool, rc != 0);
}


static struct ax_value *
eval_condition(struct ax_jinja *j, const struct ax_node *node)
{
    struct ax_value *condition = ax_jinja_eval(j, node->b);

    if (condition == NULL) {
        return NULL;
    }
    if (ax_jinja_truth(condition)) {
        return ax_jinja_eval(j, node->a);
    }
    return node->c != NULL ? ax_jinja_eval(j, node->c)
                           : ax_value_undefined(j->pool, "else");
}


static struct ax_value *
eval_slice(struct ax_jinja *j, const struct ax_node *node)
{
    struct ax_value *object = ax_jinja_eval(j, node->a);
    struct ax_value *parts[3] = {NULL, NULL, NULL};

    if (object == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < 3; i++) {
        if (node->list[i] != NULL) {
            parts[i] = ax_jinja_eval(j, node->list[i]);
            if (parts[i] == NULL) {
                return NULL;
            }
        }
    }
    j->line = node->line;
    return ax_jinja_slice(j, object, parts[0], parts[1], parts[2]);
}


static struct ax_value *
eval_item(struct ax_jinja *j, const struct ax_node *node)
{
    struct ax_value *object = ax_jinja_eval(j, node->a);
    struct ax_value *key = object != NULL ? ax_jinja_eval(j, node->b) : NULL;

    j->line = node->line;
    return key != NULL ? ax_jinja_item(j, object, key) : NULL;
}


static struct ax_value *
eval_attribute(struct ax_jinja *j, const struct ax_node *node)
{
    struct ax_value *object = ax_jinja_eval(j, node->a);

    j->line = node->line;
    return object != NULL
               ? ax_jinja_attribute(j, object, node->name, node->name_len)
               : NULL;
}


static struct ax_value *
eval_not(struct ax_jinja *j, const struct ax_node *node)
{
    struct ax_value *v = ax_jinja_eval(j, node->a);

    return v != NULL ? ax_value_bool(j->pool, !ax_jinja_truth(v)) : NULL;
}


static struct ax_value *
eval_sign(struct ax_jinja *j, const struct ax_node *node)
{
    struct ax_value *v = ax_jinja_eval(j, node->a);

    j->line = node->line;
    if (v == NULL) {
        return NULL;
    }
    if (node->kind == AX_N_NEGATE) {
        return ax_jinja_negate(j, v);
    }

    int64_t i;

    return v->kind == AX_V_FLOAT || ax_jinja_integer(j, v, &i) ? v : NULL;
}


static struct ax_value *
eval_node(struct ax_jinja *j, const struct ax_node *node)
{
    switch (node->kind) {
    case AX_N_CONST:
        return node->value;
    case AX_N_NAME:
        return eval_name(j, node);
    case AX_N_ATTRIBUTE:
        return eval_attribute(j, node);
    case AX_N_ITEM:
        return eval_item(j, node);
    case AX_N_SLICE:
        return eval_slice(j, node);
    case AX_N_CALL:
        return eval_call(j, node);
    case AX_N_FILTER:
        return eval_filter(j, node);
    case AX_N_TEST:
        return eval_test(j, node);
    case AX_N_NOT:
        return eval_not(j, node);
    case AX_N_NEGATE:
    case AX_N_PLUS:
        return eval_sign(j, node);
    case AX_N_ARITHMETIC:
        return eval_arithmetic(j, node);
    case AX_N_CONCAT:
        return eval_concat(j, node);
    case AX_N_AND:
        return eval_logic(j, node, false);
    case AX_N_OR:
        return eval_logic(j, node, true);
    case AX_N_COMPARE:
        return eval_compare(j, node);
    case AX_N_CONDITION:
        return eval_condition(j, node);
    case AX_N_LIST:
        return eval_sequence(j, node, AX_V_LIST);
    case AX_N_TUPLE:
        return eval_sequence(j, node, AX_V_TUPLE);
    case AX_N_DICT:
        return eval_dict(j, node);
    case AX_N_CAPTURE:
        return j->captured;
    default:
        return ax_jinja_fail(j, AX_TEXT_BAD_SYNTAX, "not an expression");
    }
}


struct ax_value *
ax_jinja_eval(struct ax_jinja *j, const struct ax_node *node)
{
    if (!ax_jinja_charge(j, 1)) {
        return NULL;
    }
    if (j->eval_left == 0) {
        return ax_jinja_fail(j, AX_TEXT_LIMIT_DEPTH,
                             "the template nests too deeply");
    }
    j->eval_left--;

    struct ax_value *v = eval_node(j, node);

    j->eval_left++;
    return v;
}
