/*
 * Execution of statements: output, branches, loops, assignments, macros.
 *
 * Scopes follow Jinja: `if` has none of its own; each turn of a loop, each
 * macro call, `with` and captured block has one, and what is set there is gone
 * behind it.  A macro sees the scope it was defined in as it is when called.
 *
 * break and continue set j->flow; a block that sees it returns at once, up to
 * the loop that owns it.
 */
#include "engine/text/jinja_run.h"


static bool exec_block(struct ax_jinja *j, const struct ax_node *node);
static bool assign_value(struct ax_jinja *j, const struct ax_node *target,
                         struct ax_value *value);


static bool
emit(struct ax_jinja *j, const struct ax_value *v)
{
    if (!ax_jinja_print(j, j->out, v)) {
        return false;
    }
    if (j->out->n > j->output_max) {
        ax_jinja_fail(j, AX_TEXT_LIMIT_OUTPUT, "the template writes too much");
        return false;
    }
    return ax_jinja_charge(j, 1);
}


/* Runs a body with its output going to a buffer of its own. */
static struct ax_value *
capture(struct ax_jinja *j, const struct ax_node *body)
{
    struct ax_buf *out = j->out;

    j->out = ax_buf_new(j->pool);
    bool ok = j->out != NULL && exec_block(j, body);
    struct ax_value *v = ok ? ax_buf_value(j->pool, j->out) : NULL;

    j->out = out;
    return v;
}


/* Loops and macro calls are counted together: both nest and recurse. */
static bool
enter(struct ax_jinja *j)
{
    if (j->calls_left == 0) {
        ax_jinja_fail(j, AX_TEXT_LIMIT_DEPTH,
                      "loops and macros nest too deeply");
        return false;
    }
    j->calls_left--;
    return true;
}


/* ---- assignment -------------------------------------------------------- */

static bool
unpack(struct ax_jinja *j, const struct ax_node *target, struct ax_value *value)
{
    struct ax_value *items = ax_jinja_to_list(j, value);

    if (items == NULL) {
        return false;
    }
    if (items->u.list.n != target->n) {
        ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                      "cannot unpack %zu values into %u names", items->u.list.n,
                      target->n);
        return false;
    }
    for (uint32_t i = 0; i < target->n; i++) {
        if (!assign_value(j, target->list[i], items->u.list.items[i])) {
            return false;
        }
    }
    return true;
}


static bool
assign_value(struct ax_jinja *j, const struct ax_node *target,
             struct ax_value *value)
{
    if (value == NULL || !ax_jinja_charge(j, 1)) {
        return false;
    }
    if (target->kind == AX_N_NAME) {
        ax_scope_set(j, target->name, value);
        return true;
    }
    if (target->kind == AX_N_TUPLE) {
        return unpack(j, target, value);
    }

    struct ax_value *object = ax_jinja_eval(j, target->a);

    if (object == NULL) {
        return false;
    }
    if (object->kind != AX_V_NAMESPACE) {
        ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                      "cannot assign attribute on non-namespace object");
        return false;
    }
    ax_dict_put(j->pool, &object->u.dict,
                ax_value_view(j->pool,
                              (struct ax_string){target->name, target->name_len,
                                                 NULL, NULL, true}),
                value);
    return true;
}


/* ---- loops ------------------------------------------------------------- */

/* One list of those items for which the loop's `if` holds. */
static struct ax_value *
filter_items(struct ax_jinja *j, const struct ax_node *node,
             struct ax_value *items)
{
    struct ax_value *kept = ax_value_list(j->pool);
    struct ax_scope *outer = j->scope;

    for (size_t i = 0; kept != NULL && i < items->u.list.n; i++) {
        j->scope = ax_scope_push(j, outer);
        if (j->scope == NULL ||
            !assign_value(j, node->a, items->u.list.items[i])) {
            kept = NULL;
            break;
        }

        struct ax_value *condition = ax_jinja_eval(j, node->list[0]);

        if (condition == NULL) {
            kept = NULL;
        } else if (ax_jinja_truth(condition)) {
            ax_value_append(j->pool, kept, items->u.list.items[i]);
        }
    }
    j->scope = outer;
    return kept;
}


static bool
run_turns(struct ax_jinja *j, const struct ax_node *node,
          const struct ax_list *items)
{
    struct ax_scope *outer = j->scope;
    struct ax_value *loop = ax_value_new(j->pool, AX_V_LOOP);
    bool ok = loop != NULL;

    if (ok) {
        loop->u.loop = (struct ax_loop){items->items, items->n, 0};
    }
    j->scope = NULL;
    for (size_t i = 0; ok && i < items->n; i++) {
        if (j->scope == NULL || j->scope->kept) {
            j->scope = ax_scope_push(j, outer);
        }
        if (j->scope == NULL) {
            ok = false;
            break;
        }
        j->scope->n = 0;
        ok = assign_value(j, node->a, items->items[i]);
        if (ok) {
            loop->u.loop.at = i;
            ax_scope_set(j, "loop", loop);
            ok = exec_block(j, node->c);
        }
        if (j->flow == AX_FLOW_BREAK) {
            j->flow = AX_FLOW_NEXT;
            break;
        }
        j->flow = AX_FLOW_NEXT;
    }
    j->scope = outer;
    return ok;
}


static bool
exec_scoped(struct ax_jinja *j, const struct ax_node *body)
{
    struct ax_scope *outer = j->scope;

    j->scope = ax_scope_push(j, outer);
    bool ok = j->scope != NULL && exec_block(j, body);

    j->scope = outer;
    return ok;
}


static bool
exec_for(struct ax_jinja *j, const struct ax_node *node)
{
    struct ax_value *over = ax_jinja_eval(j, node->b);

    j->line = node->line;
    over = over != NULL ? ax_jinja_to_list(j, over) : NULL;
    if (over != NULL && node->n > 0) {
        over = filter_items(j, node, over);
    }
    if (over == NULL || !enter(j)) {
        return false;
    }

    /* a copy of the list's head: the body may append to the list itself */
    struct ax_list items = over->u.list;
    bool ok = items.n == 0 && node->d != NULL ? exec_scoped(j, node->d)
                                              : run_turns(j, node, &items);
    j->calls_left++;
    return ok;
}


/* ---- macros ------------------------------------------------------------ */

static struct ax_value *
macro_value(struct ax_jinja *j, const struct ax_node *node)
{
    struct ax_value *v = ax_value_new(j->pool, AX_V_FUNCTION);

    if (v != NULL) {
        v->u.fn.macro = node;
        v->u.fn.scope = j->scope;
        v->u.fn.name = node->name;
    }
    for (struct ax_scope *s = j->scope; s != NULL; s = s->parent) {
        s->kept = true;
    }
    return v;
}


/* Keywords that are no parameter: kwargs, or `caller` of a call block. */
static bool
bind_keywords(struct ax_jinja *j, const struct ax_node *macro,
              const struct ax_call *call)
{
    struct ax_value *rest = ax_value_dict(j->pool);

    for (uint32_t i = 0; i < call->n_names; i++) {
        uint32_t k = 0;

        while (k < macro->n_params &&
               strcmp(macro->params[k], call->names[i]) != 0) {
            k++;
        }
        if (k < macro->n_params || strcmp(call->names[i], "caller") == 0) {
            ax_scope_set(j, call->names[i], call->values[i]);
        } else {
            ax_value_put(j->pool, rest, call->names[i], call->values[i]);
        }
    }
    ax_scope_set(j, "kwargs", rest);
    return ax_jinja_charge(j, 1 + call->n_names);
}


static bool
bind_arguments(struct ax_jinja *j, const struct ax_node *macro,
               const struct ax_call *call)
{
    struct ax_value *rest = ax_value_new(j->pool, AX_V_TUPLE);

    for (uint32_t i = 0; rest != NULL && i < call->n; i++) {
        if (i < macro->n_params) {
            ax_scope_set(j, macro->params[i], call->args[i]);
        } else {
            ax_list_push(j->pool, &rest->u.list, call->args[i]);
        }
    }
    ax_scope_set(j, "varargs", rest);
    if (!bind_keywords(j, macro, call)) {
        return false;
    }

    for (uint32_t i = call->n; i < macro->n_params; i++) {
        if (ax_arg(call, i, macro->params[i]) != NULL) {
            continue;
        }

        struct ax_value *v =
            macro->list[i] != NULL
                ? ax_jinja_eval(j, macro->list[i])
                : ax_value_undefined(j->pool, macro->params[i]);
        if (v == NULL) {
            return false;
        }
        ax_scope_set(j, macro->params[i], v);
    }
    return true;
}


struct ax_value *
ax_jinja_call_macro(struct ax_jinja *j, const struct ax_function *macro,
                    const struct ax_call *call)
{
    struct ax_scope *caller = j->scope;
    struct ax_value *v = NULL;

    if (!enter(j)) {
        return NULL;
    }
    j->scope = ax_scope_push(j, macro->scope);
    if (j->scope != NULL && bind_arguments(j, macro->macro, call)) {
        v = capture(j, macro->macro->c);
    }
    j->scope = caller;
    j->calls_left++;
    return v;
}


/* {% call(x) macro(y) %}body{% endcall %}: body becomes `caller`. */
static bool
exec_call_block(struct ax_jinja *j, const struct ax_node *node)
{
    struct ax_node call = *node->a;
    struct ax_value *body = macro_value(j, node->b);
    struct ax_node value = {.kind = AX_N_CONST, .value = body};
    uint32_t n = call.n_keywords;

    call.keywords = ax_pool_alloc(j->pool, (n + 1) * sizeof(*call.keywords));
    call.keyword_values =
        ax_pool_alloc(j->pool, (n + 1) * sizeof(*call.keyword_values));
    if (body == NULL || call.keywords == NULL || call.keyword_values == NULL) {
        return false;
    }
    if (n > 0) {
        memcpy(call.keywords, node->a->keywords, n * sizeof(*call.keywords));
        memcpy(call.keyword_values, node->a->keyword_values,
               n * sizeof(*call.keyword_values));
    }
    call.keywords[n] = "caller";
    call.keyword_values[n] = &value;
    call.n_keywords = n + 1;

    struct ax_value *v = ax_jinja_eval(j, &call);

    return v != NULL && emit(j, v);
}


/* ---- the rest ---------------------------------------------------------- */

static bool
exec_if(struct ax_jinja *j, const struct ax_node *node)
{
    for (uint32_t i = 0; i + 1 < node->n; i += 2) {
        struct ax_value *condition = ax_jinja_eval(j, node->list[i]);

        if (condition == NULL) {
            return false;
        }
        if (ax_jinja_truth(condition)) {
            return exec_block(j, node->list[i + 1]);
        }
    }
    return node->c == NULL || exec_block(j, node->c);
}


/* The body's text, names set in it being its own, through the filters. */
static struct ax_value *
exec_filtered(struct ax_jinja *j, const struct ax_node *filters,
              const struct ax_node *body)
{
    struct ax_value *outer = j->captured;
    struct ax_scope *scope = j->scope;

    j->scope = ax_scope_push(j, scope);

    struct ax_value *text = j->scope != NULL ? capture(j, body) : NULL;

    j->scope = scope;
    if (text == NULL) {
        return NULL;
    }
    j->captured = text;

    struct ax_value *v = ax_jinja_eval(j, filters);

    j->captured = outer;
    return v;
}


static bool
exec_with(struct ax_jinja *j, const struct ax_node *node)
{
    struct ax_scope *outer = j->scope;
    struct ax_scope *inner = ax_scope_push(j, outer);
    bool ok = inner != NULL;

    for (uint32_t i = 0; ok && i + 1 < node->n; i += 2) {
        struct ax_value *v = ax_jinja_eval(j, node->list[i + 1]);

        j->scope = inner;
        ok = v != NULL && assign_value(j, node->list[i], v);
        j->scope = outer;
    }
    if (ok) {
        j->scope = inner;
        ok = exec_block(j, node->c);
    }
    j->scope = outer;
    return ok;
}


static bool
exec_statement(struct ax_jinja *j, const struct ax_node *node)
{
    struct ax_value *v;

    switch (node->kind) {
    case AX_N_TEXT:
        return emit(j, node->value);
    case AX_N_OUTPUT:
        v = ax_jinja_eval(j, node->a);
        return v != NULL && emit(j, v);
    case AX_N_BLOCK:
        return exec_block(j, node);
    case AX_N_IF:
        return exec_if(j, node);
    case AX_N_FOR:
        return exec_for(j, node);
    case AX_N_SET:
        v = ax_jinja_eval(j, node->b);
        return v != NULL && assign_value(j, node->a, v);
    case AX_N_SET_BLOCK:
        v = exec_filtered(j, node->b, node->c);
        return v != NULL && assign_value(j, node->a, v);
    case AX_N_FILTER_BLOCK:
        v = exec_filtered(j, node->a, node->c);
        return v != NULL && emit(j, v);
    case AX_N_MACRO:
        v = macro_value(j, node);
        ax_scope_set(j, node->name, v);
        return v != NULL;
    case AX_N_CALL_BLOCK:
        return exec_call_block(j, node);
    case AX_N_WITH:
        return exec_with(j, node);
    case AX_N_BREAK:
        j->flow = AX_FLOW_BREAK;
        return true;
    case AX_N_CONTINUE:
        j->flow = AX_FLOW_CONTINUE;
        return true;
    default:
        ax_jinja_fail(j, AX_TEXT_BAD_SYNTAX, "not a statement");
        return false;
    }
}


static bool
exec_block(struct ax_jinja *j, const struct ax_node *node)
{
    bool ok = j->eval_left > 0;

    if (!ok) {
        ax_jinja_fail(j, AX_TEXT_LIMIT_DEPTH, "the template nests too deeply");
        return false;
    }
    j->eval_left--;
    for (uint32_t i = 0; ok && i < node->n && j->flow == AX_FLOW_NEXT; i++) {
        j->line = node->list[i]->line;
        ok = ax_jinja_charge(j, 1) && exec_statement(j, node->list[i]);
    }
    j->eval_left++;
    return ok;
}


bool
ax_jinja_exec(struct ax_jinja *j, const struct ax_node *node)
{
    return exec_block(j, node);
}
