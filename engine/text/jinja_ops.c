/*
 * Operators and access on values, as Python has them.
 *
 * Integers are 64 bits; what would need more is an error, not a wrap.
 * Strings are indexed and sliced by character.  Reading a missing attribute
 * or item gives undefined, which prints as nothing, is false and empty, and
 * fails when it is computed with.
 */
#include "engine/text/jinja_run.h"

#include <math.h>

#include "engine/text/utf8.h"


const char *
ax_jinja_type_name(const struct ax_value *v)
{
    switch (v->kind) {
    case AX_V_UNDEFINED:
        return "undefined";
    case AX_V_NONE:
        return "None";
    case AX_V_BOOL:
        return "bool";
    case AX_V_INT:
        return "int";
    case AX_V_FLOAT:
        return "float";
    case AX_V_STRING:
        return "str";
    case AX_V_LIST:
        return "list";
    case AX_V_TUPLE:
        return "tuple";
    case AX_V_DICT:
        return "dict";
    case AX_V_NAMESPACE:
        return "namespace";
    case AX_V_FUNCTION:
        return "function";
    case AX_V_LOOP:
        return "loop";
    }
    return "?";
}


bool
ax_jinja_truth(const struct ax_value *v)
{
    switch (v->kind) {
    case AX_V_UNDEFINED:
    case AX_V_NONE:
        return false;
    case AX_V_BOOL:
        return v->u.b;
    case AX_V_INT:
        return v->u.i != 0;
    case AX_V_FLOAT:
        return v->u.f != 0;
    case AX_V_STRING:
        return v->u.s.n > 0;
    case AX_V_LIST:
    case AX_V_TUPLE:
        return v->u.list.n > 0;
    case AX_V_DICT:
        return v->u.dict.n > 0;
    default:
        return true;
    }
}


/* Using undefined is the error that template authors need to read. */
static struct ax_value *
fail_operands(struct ax_jinja *j, const char *what, const struct ax_value *a,
              const struct ax_value *b)
{
    const struct ax_value *u = a->kind == AX_V_UNDEFINED ? a : b;

    if (u->kind == AX_V_UNDEFINED) {
        return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION, "'%s' is undefined",
                             u->u.name);
    }
    return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                         "unsupported operand types for %s: '%s' and '%s'",
                         what, ax_jinja_type_name(a), ax_jinja_type_name(b));
}


/* ---- numbers ----------------------------------------------------------- */

static bool
as_integer(const struct ax_value *v, int64_t *out)
{
    if (v->kind == AX_V_INT) {
        *out = v->u.i;
    } else if (v->kind == AX_V_BOOL) {
        *out = v->u.b;
    } else {
        return false;
    }
    return true;
}


static bool
as_double(const struct ax_value *v, double *out)
{
    int64_t i;

    if (v->kind == AX_V_FLOAT) {
        *out = v->u.f;
        return true;
    }
    if (as_integer(v, &i)) {
        *out = (double)i;
        return true;
    }
    return false;
}


bool
ax_jinja_integer(struct ax_jinja *j, const struct ax_value *v, int64_t *out)
{
    if (!as_integer(v, out)) {
        ax_jinja_fail(j, AX_TEXT_BAD_OPERATION, "expected an integer, got '%s'",
                      ax_jinja_type_name(v));
        return false;
    }
    return true;
}


static int64_t
floor_div(int64_t a, int64_t b)
{
    int64_t q = a / b;

    return a % b != 0 && (a % b < 0) != (b < 0) ? q - 1 : q;
}


static struct ax_value *
fail_division(struct ax_jinja *j)
{
    return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION, "division by zero");
}


static bool
integer_pow(int64_t base, int64_t exponent, int64_t *out)
{
    int64_t r = 1;

    while (exponent > 0) {
        if ((exponent & 1) && __builtin_mul_overflow(r, base, &r)) {
            return false;
        }
        exponent >>= 1;
        if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) {
            return false;
        }
    }
    *out = r;
    return true;
}


static struct ax_value *
integer_arithmetic(struct ax_jinja *j, int op, int64_t a, int64_t b)
{
    int64_t r = 0;
    bool overflow = false;

    switch (op) {
    case AX_OP_ADD:
        overflow = __builtin_add_overflow(a, b, &r);
        break;
    case AX_OP_SUB:
        overflow = __builtin_sub_overflow(a, b, &r);
        break;
    case AX_OP_MUL:
        overflow = __builtin_mul_overflow(a, b, &r);
        break;
    case AX_OP_POW:
        if (b < 0) {
            return ax_value_float(j->pool, pow((double)a, (double)b));
        }
        overflow = !integer_pow(a, b, &r);
        break;
    default: /* divisions */
        if (b == 0) {
            return fail_division(j);
        }
        if (op == AX_OP_DIV) {
            return ax_value_float(j->pool, (double)a / (double)b);
        }
        overflow = a == INT64_MIN && b == -1;
        if (!overflow) {
            r = op == AX_OP_FLOOR_DIV ? floor_div(a, b)
                                      : a - floor_div(a, b) * b;
        }
    }
    if (overflow) {
        return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                             "integer beyond 64 bits");
    }
    return ax_value_int(j->pool, r);
}


static struct ax_value *
float_arithmetic(struct ax_jinja *j, int op, double a, double b)
{
    double r;

    switch (op) {
    case AX_OP_ADD:
        r = a + b;
        break;
    case AX_OP_SUB:
        r = a - b;
        break;
    case AX_OP_MUL:
        r = a * b;
        break;
    case AX_OP_POW:
        r = pow(a, b);
        break;
    default:
        if (b == 0) {
            return fail_division(j);
        }
        r = op == AX_OP_DIV         ? a / b
            : op == AX_OP_FLOOR_DIV ? floor(a / b)
                                    : a - floor(a / b) * b;
    }
    return ax_value_float(j->pool, r);
}


struct ax_value *
ax_jinja_negate(struct ax_jinja *j, struct ax_value *a)
{
    int64_t i;

    if (a->kind == AX_V_FLOAT) {
        return ax_value_float(j->pool, -a->u.f);
    }
    return ax_jinja_integer(j, a, &i) ? integer_arithmetic(j, AX_OP_SUB, 0, i)
                                      : NULL;
}


/* ---- sequences --------------------------------------------------------- */

static bool
is_sequence(const struct ax_value *v)
{
    return v->kind == AX_V_LIST || v->kind == AX_V_TUPLE;
}


static struct ax_value *
repeat(struct ax_jinja *j, const struct ax_value *v, int64_t count)
{
    struct ax_value *list = ax_value_new(j->pool, v->kind);
    struct ax_buf *b = ax_buf_new(j->pool);

    for (int64_t i = 0; i < count; i++) {
        size_t n = v->kind == AX_V_STRING ? v->u.s.n / 16 : v->u.list.n;

        if (list == NULL || !ax_jinja_charge(j, 1 + n)) {
            return NULL;
        }
        if (v->kind == AX_V_STRING) {
            ax_buf_add(j->pool, b, &v->u.s);
            continue;
        }
        for (size_t k = 0; k < v->u.list.n; k++) {
            ax_list_push(j->pool, &list->u.list, v->u.list.items[k]);
        }
    }
    return v->kind == AX_V_STRING ? ax_buf_value(j->pool, b) : list;
}


static struct ax_value *
join_lists(struct ax_jinja *j, const struct ax_value *a,
           const struct ax_value *b)
{
    struct ax_value *list = ax_value_new(j->pool, a->kind);

    if (list == NULL || !ax_jinja_charge(j, 1 + a->u.list.n + b->u.list.n)) {
        return NULL;
    }
    for (size_t i = 0; i < a->u.list.n; i++) {
        ax_list_push(j->pool, &list->u.list, a->u.list.items[i]);
    }
    for (size_t i = 0; i < b->u.list.n; i++) {
        ax_list_push(j->pool, &list->u.list, b->u.list.items[i]);
    }
    return list;
}


static const char *
op_text(int op)
{
    static const char *const text[] = {"+",  "-",  "*",  "/",  "//",
                                       "%",  "**", "==", "!=", "<",
                                       "<=", ">",  ">=", "in", "not in"};

    return text[op];
}


struct ax_value *
ax_jinja_arithmetic(struct ax_jinja *j, int op, struct ax_value *a,
                    struct ax_value *b)
{
    int64_t x, y;
    double f, g;

    if (as_integer(a, &x) && as_integer(b, &y)) {
        return integer_arithmetic(j, op, x, y);
    }
    if (as_double(a, &f) && as_double(b, &g)) {
        return float_arithmetic(j, op, f, g);
    }
    if (op == AX_OP_ADD && a->kind == AX_V_STRING && b->kind == AX_V_STRING) {
        return ax_jinja_charge(j, 1 + b->u.s.n / 16)
                   ? ax_string_concat(j->pool, &a->u.s, &b->u.s)
                   : NULL;
    }
    if (op == AX_OP_ADD && is_sequence(a) && a->kind == b->kind) {
        return join_lists(j, a, b);
    }
    if (op == AX_OP_MOD && a->kind == AX_V_STRING) {
        return ax_jinja_percent(j, &a->u.s, b);
    }
    if (op == AX_OP_MUL && (a->kind == AX_V_STRING || is_sequence(a)) &&
        as_integer(b, &y)) {
        return repeat(j, a, y);
    }
    if (op == AX_OP_MUL && (b->kind == AX_V_STRING || is_sequence(b)) &&
        as_integer(a, &x)) {
        return repeat(j, b, x);
    }
    return fail_operands(j, op_text(op), a, b);
}


/* ---- comparison -------------------------------------------------------- */

bool
ax_jinja_less(struct ax_jinja *j, const struct ax_value *a,
              const struct ax_value *b, bool *less)
{
    int64_t x, y;
    double f, g;

    if (as_integer(a, &x) && as_integer(b, &y)) {
        *less = x < y;
        return true;
    }
    if (as_double(a, &f) && as_double(b, &g)) {
        *less = f < g;
        return true;
    }
    if (a->kind == AX_V_STRING && b->kind == AX_V_STRING) {
        *less = ax_string_compare(&a->u.s, &b->u.s) < 0;
        return true;
    }
    if (!is_sequence(a) || a->kind != b->kind) {
        fail_operands(j, "<", a, b);
        return false;
    }

    const struct ax_list *l = &a->u.list, *m = &b->u.list;

    for (size_t i = 0; i < l->n && i < m->n; i++) {
        if (!ax_value_equal(l->items[i], m->items[i])) {
            if (j->eval_left == 0) {
                ax_jinja_fail(j, AX_TEXT_LIMIT_DEPTH, "lists nest too deeply");
                return false;
            }
            j->eval_left--;
            bool ok = ax_jinja_charge(j, 1) &&
                      ax_jinja_less(j, l->items[i], m->items[i], less);
            j->eval_left++;
            return ok;
        }
    }
    *less = l->n < m->n;
    return true;
}


int
ax_jinja_contains(struct ax_jinja *j, struct ax_value *container,
                  struct ax_value *item)
{
    const struct ax_list *list = &container->u.list;

    switch (container->kind) {
    case AX_V_STRING:
        if (item->kind != AX_V_STRING) {
            fail_operands(j, "in", item, container);
            return -1;
        }
        if (!ax_jinja_charge(j, 1 + container->u.s.n / 16)) {
            return -1;
        }
        return ax_string_find(&container->u.s, item->u.s.p, item->u.s.n, 0) !=
               SIZE_MAX;
    case AX_V_DICT:
        return ax_dict_find(j->pool, &container->u.dict, item) != NULL;
    case AX_V_LIST:
    case AX_V_TUPLE:
        if (!ax_jinja_charge(j, 1 + list->n)) {
            return -1;
        }
        for (size_t i = 0; i < list->n; i++) {
            if (ax_value_equal(list->items[i], item)) {
                return 1;
            }
        }
        return 0;
    case AX_V_UNDEFINED:
        return 0;
    default:
        ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                      "argument of type '%s' is not iterable",
                      ax_jinja_type_name(container));
        return -1;
    }
}


int
ax_jinja_compare(struct ax_jinja *j, int op, struct ax_value *a,
                 struct ax_value *b)
{
    bool less;
    int rc;

    switch (op) {
    case AX_OP_EQ:
        return ax_value_equal(a, b);
    case AX_OP_NE:
        return !ax_value_equal(a, b);
    case AX_OP_LT:
        return ax_jinja_less(j, a, b, &less) ? less : -1;
    case AX_OP_GT:
        return ax_jinja_less(j, b, a, &less) ? less : -1;
    case AX_OP_LE:
        return !ax_jinja_less(j, a, b, &less) ? -1
                                              : less || ax_value_equal(a, b);
    case AX_OP_GE:
        return !ax_jinja_less(j, b, a, &less) ? -1
                                              : less || ax_value_equal(a, b);
    default:
        rc = ax_jinja_contains(j, b, a);
        return rc < 0 ? rc : (rc != 0) == (op == AX_OP_IN);
    }
}


/* ---- access ------------------------------------------------------------ */

static struct ax_value *
loop_cycle(struct ax_jinja *j, struct ax_value *self,
           const struct ax_call *call)
{
    if (call->n == 0) {
        return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                             "no items for cycling given");
    }
    return call->args[self->u.loop.at % call->n];
}


static struct ax_value *
loop_attribute(struct ax_jinja *j, struct ax_value *v, const char *name)
{
    const struct ax_loop *loop = &v->u.loop;
    struct ax_pool *pool = j->pool;
    int64_t at = (int64_t)loop->at, n = (int64_t)loop->n;

    if (strcmp(name, "index") == 0) {
        return ax_value_int(pool, at + 1);
    }
    if (strcmp(name, "index0") == 0) {
        return ax_value_int(pool, at);
    }
    if (strcmp(name, "first") == 0) {
        return ax_value_bool(pool, at == 0);
    }
    if (strcmp(name, "last") == 0) {
        return ax_value_bool(pool, at + 1 == n);
    }
    if (strcmp(name, "length") == 0) {
        return ax_value_int(pool, n);
    }
    if (strcmp(name, "revindex") == 0) {
        return ax_value_int(pool, n - at);
    }
    if (strcmp(name, "revindex0") == 0) {
        return ax_value_int(pool, n - at - 1);
    }
    if (strcmp(name, "previtem") == 0 && at > 0) {
        return loop->items[at - 1];
    }
    if (strcmp(name, "nextitem") == 0 && at + 1 < n) {
        return loop->items[at + 1];
    }
    if (strcmp(name, "depth") == 0 || strcmp(name, "depth0") == 0) {
        return ax_value_int(pool, name[5] == '\0');
    }
    if (strcmp(name, "cycle") == 0) {
        return ax_jinja_function(j, "cycle", loop_cycle, v);
    }
    return ax_value_undefined(pool, name);
}


static struct ax_value *
fail_undefined(struct ax_jinja *j, const struct ax_value *v)
{
    return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION, "'%s' is undefined",
                         v->u.name);
}


/* Methods win over keys here, and keys over methods in a[key]. */
struct ax_value *
ax_jinja_attribute(struct ax_jinja *j, struct ax_value *object,
                   const char *name, size_t n)
{
    struct ax_value *v = NULL;

    switch (object->kind) {
    case AX_V_UNDEFINED:
        return fail_undefined(j, object);
    case AX_V_LOOP:
        return loop_attribute(j, object, name);
    case AX_V_NAMESPACE:
        v = ax_dict_get(j->pool, &object->u.dict, name, n);
        break;
    case AX_V_DICT:
        v = ax_jinja_method(j, object, name, n);
        if (v == NULL) {
            v = ax_dict_get(j->pool, &object->u.dict, name, n);
        }
        break;
    default:
        v = ax_jinja_method(j, object, name, n);
    }
    return v != NULL || j->rc != 0 ? v : ax_value_undefined(j->pool, name);
}


/* The byte offset of character `at`, given that there are as many. */
static size_t
char_offset(const struct ax_string *s, size_t at)
{
    size_t i = 0;

    while (at > 0 && i < s->n) {
        i++;
        while (i < s->n && ((uint8_t)s->p[i] & 0xc0) == 0x80) {
            i++;
        }
        at--;
    }
    return i;
}


static struct ax_value *
sequence_item(struct ax_jinja *j, struct ax_value *object, int64_t at)
{
    bool text = object->kind == AX_V_STRING;
    int64_t n = (int64_t)(text ? ax_utf8_count(object->u.s.p, object->u.s.n)
                               : object->u.list.n);
    if (at < 0) {
        at += n;
    }
    if (at < 0 || at >= n) {
        return ax_value_undefined(j->pool, "list index out of range");
    }
    if (!text) {
        return object->u.list.items[at];
    }
    if (!ax_jinja_charge(j, 1 + object->u.s.n / 16)) {
        return NULL;
    }

    size_t from = char_offset(&object->u.s, (size_t)at);
    struct ax_string rest =
        ax_string_slice(&object->u.s, from, object->u.s.n - from);

    return ax_value_view(j->pool,
                         ax_string_slice(&rest, 0, char_offset(&rest, 1)));
}


struct ax_value *
ax_jinja_item(struct ax_jinja *j, struct ax_value *object, struct ax_value *key)
{
    struct ax_dict_entry *entry;
    int64_t at;

    if (object->kind == AX_V_UNDEFINED) {
        return fail_undefined(j, object);
    }
    if (object->kind == AX_V_DICT) {
        entry = ax_dict_find(j->pool, &object->u.dict, key);
        if (entry != NULL) {
            return entry->item;
        }
    }
    if ((object->kind == AX_V_STRING || is_sequence(object)) &&
        as_integer(key, &at)) {
        return sequence_item(j, object, at);
    }
    if (key->kind != AX_V_STRING) {
        return ax_value_undefined(j->pool, "item");
    }

    /* not terminated: make it so for messages and comparisons */
    struct ax_value *name =
        ax_value_string(j->pool, key->u.s.p, key->u.s.n, true);
    struct ax_value *v = NULL;

    if (name == NULL) {
        return NULL;
    }
    if (object->kind == AX_V_DICT) {
        v = ax_jinja_method(j, object, name->u.s.p, name->u.s.n);
        return v != NULL || j->rc != 0
                   ? v
                   : ax_value_undefined(j->pool, name->u.s.p);
    }
    return ax_jinja_attribute(j, object, name->u.s.p, name->u.s.n);
}


/* ---- slices and iteration ---------------------------------------------- */

/* Python's rules for a missing, negative or far bound. */
static bool
slice_bound(struct ax_jinja *j, const struct ax_value *v, int64_t n,
            int64_t otherwise, bool backward, int64_t *out)
{
    int64_t i;

    if (v == NULL || v->kind == AX_V_NONE) {
        *out = otherwise;
        return true;
    }
    if (!ax_jinja_integer(j, v, &i)) {
        return false;
    }
    if (i < 0) {
        i = i < -n ? -1 : i + n;
        i = i < 0 ? (backward ? -1 : 0) : i;
    } else if (i >= n) {
        i = backward ? n - 1 : n;
    }
    *out = i;
    return true;
}


static struct ax_value *
slice_list(struct ax_jinja *j, const struct ax_value *list, int64_t start,
           int64_t stop, int64_t step)
{
    struct ax_value *out = ax_value_new(j->pool, list->kind);

    for (int64_t i = start; step > 0 ? i < stop : i > stop; i += step) {
        if (out == NULL || !ax_jinja_charge(j, 1)) {
            return NULL;
        }
        ax_list_push(j->pool, &out->u.list, list->u.list.items[i]);
        if (step > 0 ? i > stop - step : i < stop - step) {
            break; /* the next i could overflow */
        }
    }
    return out;
}


static struct ax_value *
slice_string(struct ax_jinja *j, struct ax_value *object, int64_t start,
             int64_t stop, int64_t step)
{
    const struct ax_string *s = &object->u.s;

    if (step == 1) {
        if (stop < start) {
            stop = start;
        }
        size_t from = char_offset(s, (size_t)start);
        struct ax_string rest = ax_string_slice(s, from, s->n - from);

        return ax_value_view(
            j->pool, ax_string_slice(
                         &rest, 0, char_offset(&rest, (size_t)(stop - start))));
    }

    struct ax_value *chars = ax_jinja_to_list(j, object);
    struct ax_value *picked =
        chars != NULL ? slice_list(j, chars, start, stop, step) : NULL;
    struct ax_buf *b = ax_buf_new(j->pool);

    if (picked == NULL || b == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < picked->u.list.n; i++) {
        ax_buf_add(j->pool, b, &picked->u.list.items[i]->u.s);
    }
    return ax_buf_value(j->pool, b);
}


struct ax_value *
ax_jinja_slice(struct ax_jinja *j, struct ax_value *object,
               struct ax_value *start, struct ax_value *stop,
               struct ax_value *step)
{
    bool text = object->kind == AX_V_STRING;
    int64_t from, to, by = 1;

    if (object->kind == AX_V_UNDEFINED) {
        return fail_undefined(j, object);
    }
    if (!text && !is_sequence(object)) {
        return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                             "'%s' object cannot be sliced",
                             ax_jinja_type_name(object));
    }
    if (step != NULL && step->kind != AX_V_NONE &&
        !ax_jinja_integer(j, step, &by)) {
        return NULL;
    }
    if (by == 0) {
        return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                             "slice step cannot be zero");
    }

    int64_t n = (int64_t)(text ? ax_utf8_count(object->u.s.p, object->u.s.n)
                               : object->u.list.n);

    if (!slice_bound(j, start, n, by > 0 ? 0 : n - 1, by < 0, &from) ||
        !slice_bound(j, stop, n, by > 0 ? n : -1, by < 0, &to) ||
        !ax_jinja_charge(j, 1 + (text ? object->u.s.n / 8 : 0))) {
        return NULL;
    }
    return text ? slice_string(j, object, from, to, by)
                : slice_list(j, object, from, to, by);
}


struct ax_value *
ax_jinja_to_list(struct ax_jinja *j, struct ax_value *v)
{
    if (is_sequence(v)) {
        return v;
    }

    struct ax_value *list = ax_value_list(j->pool);

    if (list == NULL) {
        return NULL;
    }
    if (v->kind == AX_V_DICT) {
        if (!ax_jinja_charge(j, 1 + v->u.dict.n)) {
            return NULL;
        }
        for (size_t i = 0; i < v->u.dict.n; i++) {
            ax_value_append(j->pool, list, v->u.dict.entries[i].key);
        }
        return list;
    }
    if (v->kind == AX_V_STRING) {
        for (size_t at = 0; at < v->u.s.n;) {
            uint32_t cp;
            size_t len = ax_utf8_next(v->u.s.p + at, v->u.s.n - at, &cp);

            if (!ax_jinja_charge(j, 1)) {
                return NULL;
            }
            ax_value_append(
                j->pool, list,
                ax_value_view(j->pool, ax_string_slice(&v->u.s, at, len)));
            at += len;
        }
        return list;
    }
    if (v->kind == AX_V_UNDEFINED) {
        return list;
    }
    return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                         "'%s' object is not iterable", ax_jinja_type_name(v));
}
