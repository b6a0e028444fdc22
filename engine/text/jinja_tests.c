/*
 * Tests: what stands behind `is`, and in select() and reject().
 */
#include "engine/text/jinja_run.h"

#include "engine/text/utf8.h"


/* 0 or 1; -1 when the render is over.  arg is NULL if there is none. */
typedef int (*test_fn)(struct ax_jinja *j, struct ax_value *v,
                       struct ax_value *arg);

struct test {
    const char *name;
    test_fn fn;
    bool needs_arg;
};


static int
test_defined(struct ax_jinja *j, struct ax_value *v, struct ax_value *arg)
{
    (void)j, (void)arg;
    return v->kind != AX_V_UNDEFINED;
}


static int
test_undefined(struct ax_jinja *j, struct ax_value *v, struct ax_value *arg)
{
    (void)j, (void)arg;
    return v->kind == AX_V_UNDEFINED;
}


static int
test_none(struct ax_jinja *j, struct ax_value *v, struct ax_value *arg)
{
    (void)j, (void)arg;
    return v->kind == AX_V_NONE;
}


static int
test_boolean(struct ax_jinja *j, struct ax_value *v, struct ax_value *arg)
{
    (void)j, (void)arg;
    return v->kind == AX_V_BOOL;
}


static int
test_true(struct ax_jinja *j, struct ax_value *v, struct ax_value *arg)
{
    (void)j, (void)arg;
    return v->kind == AX_V_BOOL && v->u.b;
}


static int
test_false(struct ax_jinja *j, struct ax_value *v, struct ax_value *arg)
{
    (void)j, (void)arg;
    return v->kind == AX_V_BOOL && !v->u.b;
}


static int
test_integer(struct ax_jinja *j, struct ax_value *v, struct ax_value *arg)
{
    (void)j, (void)arg;
    return v->kind == AX_V_INT;
}


static int
test_float(struct ax_jinja *j, struct ax_value *v, struct ax_value *arg)
{
    (void)j, (void)arg;
    return v->kind == AX_V_FLOAT;
}


static int
test_number(struct ax_jinja *j, struct ax_value *v, struct ax_value *arg)
{
    (void)j, (void)arg;
    return v->kind == AX_V_INT || v->kind == AX_V_FLOAT || v->kind == AX_V_BOOL;
}


static int
test_string(struct ax_jinja *j, struct ax_value *v, struct ax_value *arg)
{
    (void)j, (void)arg;
    return v->kind == AX_V_STRING;
}


static int
test_mapping(struct ax_jinja *j, struct ax_value *v, struct ax_value *arg)
{
    (void)j, (void)arg;
    return v->kind == AX_V_DICT;
}


static int
test_iterable(struct ax_jinja *j, struct ax_value *v, struct ax_value *arg)
{
    (void)j, (void)arg;
    return v->kind == AX_V_STRING || v->kind == AX_V_LIST ||
           v->kind == AX_V_TUPLE || v->kind == AX_V_DICT ||
           v->kind == AX_V_UNDEFINED;
}


static int
test_callable(struct ax_jinja *j, struct ax_value *v, struct ax_value *arg)
{
    (void)j, (void)arg;
    return v->kind == AX_V_FUNCTION;
}


/* v % by == rest, with whatever % means for v. */
static int
leaves(struct ax_jinja *j, struct ax_value *v, struct ax_value *by,
       int64_t rest)
{
    struct ax_value *expected = ax_value_int(j->pool, rest);
    struct ax_value *got =
        by != NULL ? ax_jinja_arithmetic(j, AX_OP_MOD, v, by) : NULL;

    return got != NULL && expected != NULL ? ax_value_equal(got, expected) : -1;
}


static int
test_odd(struct ax_jinja *j, struct ax_value *v, struct ax_value *arg)
{
    (void)arg;
    return leaves(j, v, ax_value_int(j->pool, 2), 1);
}


static int
test_even(struct ax_jinja *j, struct ax_value *v, struct ax_value *arg)
{
    (void)arg;
    return leaves(j, v, ax_value_int(j->pool, 2), 0);
}


static int
test_divisibleby(struct ax_jinja *j, struct ax_value *v, struct ax_value *arg)
{
    return leaves(j, v, arg, 0);
}


/* Upper or lower case as str.isupper() and str.islower() see it. */
static int
is_case(struct ax_jinja *j, struct ax_value *v, const char *method)
{
    struct ax_call none = {0};
    struct ax_value *text = ax_jinja_string(j, v);
    struct ax_value *fn =
        text != NULL ? ax_jinja_method(j, text, method, strlen(method)) : NULL;
    struct ax_value *answer = fn != NULL ? ax_jinja_call(j, fn, &none) : NULL;

    return answer != NULL ? answer->u.b : -1;
}


static int
test_upper(struct ax_jinja *j, struct ax_value *v, struct ax_value *arg)
{
    (void)arg;
    return is_case(j, v, "isupper");
}


static int
test_lower(struct ax_jinja *j, struct ax_value *v, struct ax_value *arg)
{
    (void)arg;
    return is_case(j, v, "islower");
}


static int
test_eq(struct ax_jinja *j, struct ax_value *v, struct ax_value *arg)
{
    return ax_jinja_compare(j, AX_OP_EQ, v, arg);
}


static int
test_ne(struct ax_jinja *j, struct ax_value *v, struct ax_value *arg)
{
    return ax_jinja_compare(j, AX_OP_NE, v, arg);
}


static int
test_lt(struct ax_jinja *j, struct ax_value *v, struct ax_value *arg)
{
    return ax_jinja_compare(j, AX_OP_LT, v, arg);
}


static int
test_le(struct ax_jinja *j, struct ax_value *v, struct ax_value *arg)
{
    return ax_jinja_compare(j, AX_OP_LE, v, arg);
}


static int
test_gt(struct ax_jinja *j, struct ax_value *v, struct ax_value *arg)
{
    return ax_jinja_compare(j, AX_OP_GT, v, arg);
}


static int
test_ge(struct ax_jinja *j, struct ax_value *v, struct ax_value *arg)
{
    return ax_jinja_compare(j, AX_OP_GE, v, arg);
}


static int
test_in(struct ax_jinja *j, struct ax_value *v, struct ax_value *arg)
{
    return ax_jinja_contains(j, arg, v);
}


/* Python's `is`: identity of constants by value, of containers by place. */
static int
test_sameas(struct ax_jinja *j, struct ax_value *v, struct ax_value *arg)
{
    (void)j;
    return v == arg || (v->kind == arg->kind && v->kind < AX_V_LIST &&
                        ax_value_equal(v, arg));
}


static const struct test tests[] = {{"defined", test_defined, false},
                                    {"undefined", test_undefined, false},
                                    {"none", test_none, false},
                                    {"boolean", test_boolean, false},
                                    {"true", test_true, false},
                                    {"false", test_false, false},
                                    {"integer", test_integer, false},
                                    {"float", test_float, false},
                                    {"number", test_number, false},
                                    {"string", test_string, false},
                                    {"mapping", test_mapping, false},
                                    {"iterable", test_iterable, false},
                                    {"sequence", test_iterable, false},
                                    {"callable", test_callable, false},
                                    {"odd", test_odd, false},
                                    {"even", test_even, false},
                                    {"divisibleby", test_divisibleby, true},
                                    {"upper", test_upper, false},
                                    {"lower", test_lower, false},
                                    {"eq", test_eq, true},
                                    {"equalto", test_eq, true},
                                    {"==", test_eq, true},
                                    {"ne", test_ne, true},
                                    {"!=", test_ne, true},
                                    {"lt", test_lt, true},
                                    {"lessthan", test_lt, true},
                                    {"<", test_lt, true},
                                    {"le", test_le, true},
                                    {"<=", test_le, true},
                                    {"gt", test_gt, true},
                                    {"greaterthan", test_gt, true},
                                    {">", test_gt, true},
                                    {"ge", test_ge, true},
                                    {">=", test_ge, true},
                                    {"in", test_in, true},
                                    {"sameas", test_sameas, true}};


const void *
ax_jinja_test(const char *name)
{
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        if (strcmp(tests[i].name, name) == 0) {
            return &tests[i];
        }
    }
    return NULL;
}


int
ax_jinja_apply_test(struct ax_jinja *j, const char *name, const void *builtin,
                    struct ax_value *value, const struct ax_call *call)
{
    const struct test *test = builtin;

    if (test == NULL) {
        ax_jinja_fail(j, AX_TEXT_UNSUPPORTED, "no test named '%s'", name);
        return -1;
    }
    if (test->needs_arg && call->n == 0) {
        ax_jinja_fail(j, AX_TEXT_BAD_OPERATION, "test '%s' needs an argument",
                      name);
        return -1;
    }
    return test->fn(j, value, call->n > 0 ? call->args[0] : NULL);
}
