/*
 * Filters on one value: text, numbers, defaults.  Those that walk lists are
 * in jinja_sequences.c; both tables are searched by name when a template is
 * compiled.
 */
#include "engine/text/jinja_filters.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "engine/text/utf8.h"


static struct ax_value *
filter_default(struct ax_jinja *j, struct ax_value *v,
               const struct ax_call *call)
{
    struct ax_value *otherwise = ax_arg(call, 0, "default_value");
    struct ax_value *boolean = ax_arg(call, 1, "boolean");

    if (v->kind == AX_V_UNDEFINED ||
        (boolean != NULL && ax_jinja_truth(boolean) && !ax_jinja_truth(v))) {
        return otherwise != NULL ? otherwise : ax_value_literal(j->pool, "");
    }
    return v;
}


static struct ax_value *
filter_string(struct ax_jinja *j, struct ax_value *v,
              const struct ax_call *call)
{
    (void)call;
    return ax_jinja_string(j, v);
}


/* A method of str(v) under a filter's name. */
static struct ax_value *
as_method(struct ax_jinja *j, struct ax_value *v, const char *name,
          const struct ax_call *call)
{
    struct ax_value *text = ax_jinja_string(j, v);
    struct ax_value *fn =
        text != NULL ? ax_jinja_method(j, text, name, strlen(name)) : NULL;

    return fn != NULL ? ax_jinja_call(j, fn, call) : NULL;
}


static struct ax_value *
filter_trim(struct ax_jinja *j, struct ax_value *v, const struct ax_call *call)
{
    struct ax_value *chars = ax_arg(call, 0, "chars");
    struct ax_call inner = {.args = &chars, .n = chars != NULL};

    return as_method(j, v, "strip", &inner);
}


static struct ax_value *
filter_upper(struct ax_jinja *j, struct ax_value *v, const struct ax_call *call)
{
    return as_method(j, v, "upper", call);
}


static struct ax_value *
filter_lower(struct ax_jinja *j, struct ax_value *v, const struct ax_call *call)
{
    return as_method(j, v, "lower", call);
}


static struct ax_value *
filter_capitalize(struct ax_jinja *j, struct ax_value *v,
                  const struct ax_call *call)
{
    return as_method(j, v, "capitalize", call);
}


static bool
add_cased(struct ax_jinja *j, struct ax_buf *b, const struct ax_string *s,
          size_t from, size_t to, char how)
{
    struct ax_string part = ax_string_slice(s, from, to - from);
    struct ax_value *cased = ax_jinja_case(j, &part, how);

    if (cased != NULL) {
        ax_buf_add(j->pool, b, &cased->u.s);
    }
    return cased != NULL;
}


/* Jinja's title: a word starts behind white space, -, (, {, [ or <. */
static struct ax_value *
filter_title(struct ax_jinja *j, struct ax_value *v, const struct ax_call *call)
{
    static const char breaks[] = "-({[< \t\n\r\v\f";
    struct ax_value *text = ax_jinja_string(j, v);
    struct ax_buf *b = ax_buf_new(j->pool);
    size_t at = 0;

    (void)call;
    if (text == NULL || b == NULL) {
        return NULL;
    }

    const struct ax_string *s = &text->u.s;

    while (at < s->n) {
        uint32_t cp;
        size_t first = at + ax_utf8_next(s->p + at, s->n - at, &cp);
        size_t end = first;

        /* the rest of the word, with the break that ends it */
        while (cp > 0x7f ||
               memchr(breaks, (int)cp, sizeof(breaks) - 1) == NULL) {
            if (end == s->n) {
                break;
            }
            end += ax_utf8_next(s->p + end, s->n - end, &cp);
        }
        if (!add_cased(j, b, s, at, first, 'u') ||
            !add_cased(j, b, s, first, end, 'l')) {
            return NULL;
        }
        at = end;
    }
    return ax_buf_value(j->pool, b);
}


static struct ax_value *
filter_replace(struct ax_jinja *j, struct ax_value *v,
               const struct ax_call *call)
{
    struct ax_value *text = ax_jinja_string(j, v);
    struct ax_value *from = ax_arg(call, 0, "old");
    struct ax_value *to = ax_arg(call, 1, "new");
    struct ax_value *most = ax_arg(call, 2, "count");
    int64_t count = -1;

    from = from != NULL ? ax_jinja_string(j, from) : NULL;
    to = to != NULL ? ax_jinja_string(j, to) : NULL;
    if (text == NULL || from == NULL || to == NULL) {
        return NULL;
    }
    if (most != NULL && most->kind != AX_V_NONE &&
        !ax_jinja_integer(j, most, &count)) {
        return NULL;
    }
    return ax_jinja_replace(j, &text->u.s, &from->u.s, &to->u.s, count);
}


/* Marks text as safe HTML; without autoescape there is nothing to mark. */
static struct ax_value *
filter_safe(struct ax_jinja *j, struct ax_value *v, const struct ax_call *call)
{
    (void)call;
    return ax_jinja_string(j, v);
}


static struct ax_value *
filter_escape(struct ax_jinja *j, struct ax_value *v,
              const struct ax_call *call)
{
    static const char *const from[] = {"&", "<", ">", "'", "\""};
    static const char *const to[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    struct ax_value *text = ax_jinja_string(j, v);

    (void)call;
    for (size_t i = 0; text != NULL && i < 5; i++) {
        struct ax_string a = {from[i], 1, NULL, NULL, true};
        struct ax_string b = {to[i], strlen(to[i]), NULL, NULL, true};

        text = ax_jinja_replace(j, &text->u.s, &a, &b, -1);
    }
    return text;
}


/* What stands before an indented line: a string, or that many blanks. */
static struct ax_value *
indentation(struct ax_jinja *j, struct ax_value *width)
{
    struct ax_value *blank = ax_value_literal(j->pool, " ");

    if (width != NULL && width->kind == AX_V_STRING) {
        return width;
    }
    width = width != NULL ? width : ax_value_int(j->pool, 4);
    return blank != NULL && width != NULL
               ? ax_jinja_arithmetic(j, AX_OP_MUL, blank, width)
               : NULL;
}


/*
 * indent(width=4, first=False, blank=False).  An empty line counts even at
 * the end, which is why the text gets one more line feed before it is cut.
 */
static struct ax_value *
filter_indent(struct ax_jinja *j, struct ax_value *v,
              const struct ax_call *call)
{
    struct ax_value *first = ax_arg(call, 1, "first");
    struct ax_value *blank = ax_arg(call, 2, "blank");
    struct ax_value *space = indentation(j, ax_arg(call, 0, "width"));
    struct ax_value *newline = ax_value_literal(j->pool, "\n");
    struct ax_buf *b = ax_buf_new(j->pool);
    struct ax_call none = {0};

    if (space == NULL || newline == NULL) {
        return NULL;
    }

    struct ax_value *text = ax_jinja_arithmetic(j, AX_OP_ADD, v, newline);
    struct ax_value *lines =
        text != NULL ? as_method(j, text, "splitlines", &none) : NULL;
    bool blanks = blank != NULL && ax_jinja_truth(blank);

    for (size_t i = 0; lines != NULL && i < lines->u.list.n; i++) {
        const struct ax_string *line = &lines->u.list.items[i]->u.s;
        bool indent = i == 0 ? first != NULL && ax_jinja_truth(first)
                             : blanks || line->n > 0;

        if (!ax_jinja_charge(j, 1 + (line->n + space->u.s.n) / 16)) {
            return NULL;
        }
        if (i > 0) {
            ax_buf_add(j->pool, b, &newline->u.s);
        }
        if (indent) {
            ax_buf_add(j->pool, b, &space->u.s);
        }
        ax_buf_add(j->pool, b, line);
    }
    return lines != NULL ? ax_buf_value(j->pool, b) : NULL;
}


/* ---- numbers ----------------------------------------------------------- */

/* The number that text spells, white space around allowed. */
static bool
parse_number(const struct ax_string *s, int base, double *f, int64_t *i,
             bool *is_int)
{
    struct ax_string digits = ax_jinja_strip(s, 'b', NULL);
    char text[400], *end;

    if (digits.n == 0 || digits.n >= sizeof(text)) {
        return false;
    }
    memcpy(text, digits.p, digits.n);
    text[digits.n] = '\0';
    *i = strtoll(text, &end, base);
    *is_int = *end == '\0';
    if (*is_int) {
        *f = (double)*i;
        return true;
    }
    if (strpbrk(text, "xXpP") != NULL) {
        return false;
    }
    *f = strtod(text, &end);
    return *end == '\0';
}


static struct ax_value *
fail_undefined(struct ax_jinja *j, const struct ax_value *v)
{
    return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION, "'%s' is undefined",
                         v->u.name);
}


static struct ax_value *
filter_int(struct ax_jinja *j, struct ax_value *v, const struct ax_call *call)
{
    struct ax_value *otherwise = ax_arg(call, 0, "default");
    struct ax_value *base = ax_arg(call, 1, "base");
    int64_t radix = 10, i = 0;
    double f = 0;
    bool is_int = false, ok = false;

    if (base != NULL && !ax_jinja_integer(j, base, &radix)) {
        return NULL;
    }
    if (v->kind == AX_V_INT) {
        return v;
    }
    if (v->kind == AX_V_BOOL) {
        return ax_value_int(j->pool, v->u.b);
    }
    if (v->kind == AX_V_UNDEFINED) {
        return fail_undefined(j, v);
    }
    if (v->kind == AX_V_FLOAT) {
        f = v->u.f;
        ok = true;
    } else if (v->kind == AX_V_STRING && radix >= 2 && radix <= 36) {
        ok = parse_number(&v->u.s, (int)radix, &f, &i, &is_int);
    }
    if (ok && is_int) {
        return ax_value_int(j->pool, i);
    }
    if (ok && f > -9.2e18 && f < 9.2e18) {
        return ax_value_int(j->pool, (int64_t)f);
    }
    return otherwise != NULL ? otherwise : ax_value_int(j->pool, 0);
}


static struct ax_value *
filter_float(struct ax_jinja *j, struct ax_value *v, const struct ax_call *call)
{
    struct ax_value *otherwise = ax_arg(call, 0, "default");
    double f = 0;
    int64_t i;
    bool is_int;

    if (v->kind == AX_V_FLOAT) {
        return v;
    }
    if (v->kind == AX_V_INT || v->kind == AX_V_BOOL) {
        return ax_value_float(j->pool,
                              v->kind == AX_V_INT ? (double)v->u.i : v->u.b);
    }
    if (v->kind == AX_V_UNDEFINED) {
        return fail_undefined(j, v);
    }
    if (v->kind == AX_V_STRING && parse_number(&v->u.s, 10, &f, &i, &is_int)) {
        return ax_value_float(j->pool, f);
    }
    return otherwise != NULL ? otherwise : ax_value_float(j->pool, 0);
}


static struct ax_value *
filter_abs(struct ax_jinja *j, struct ax_value *v, const struct ax_call *call)
{
    struct ax_value *zero = ax_value_int(j->pool, 0);
    bool negative;

    (void)call;
    if (zero == NULL || !ax_jinja_less(j, v, zero, &negative)) {
        return NULL;
    }
    if (v->kind == AX_V_BOOL) {
        return ax_value_int(j->pool, v->u.b);
    }
    return negative ? ax_jinja_negate(j, v) : v;
}


/* f to that many decimals: correctly rounded, halves of a binary to even. */
static double
round_common(double f, int digits)
{
    char text[700];

    if (digits < 0) {
        double scale = pow(10, -digits);

        return nearbyint(f / scale) * scale;
    }
    snprintf(text, sizeof(text), "%.*f", digits, f);
    return strtod(text, NULL);
}


/* round(precision=0, method='common'); integers stay so when common. */
static struct ax_value *
filter_round(struct ax_jinja *j, struct ax_value *v, const struct ax_call *call)
{
    struct ax_value *precision = ax_arg(call, 0, "precision");
    struct ax_value *method = ax_arg(call, 1, "method");
    struct ax_call none = {0};
    int64_t digits = 0;
    bool up = method != NULL && method->kind == AX_V_STRING &&
              ax_string_is(&method->u.s, "ceil");
    bool down = method != NULL && method->kind == AX_V_STRING &&
                ax_string_is(&method->u.s, "floor");
    bool integer = v->kind == AX_V_INT || v->kind == AX_V_BOOL;

    if (precision != NULL && !ax_jinja_integer(j, precision, &digits)) {
        return NULL;
    }
    if (!integer && v->kind != AX_V_FLOAT) {
        return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                             "round needs a number, not '%s'",
                             ax_jinja_type_name(v));
    }
    if (integer && !up && !down && digits >= 0) {
        return filter_int(j, v, &none);
    }
    v = filter_float(j, v, &none);
    if (v == NULL || digits < -300 || digits > 300) {
        return v;
    }

    double scale = pow(10, (double)digits), f = v->u.f;

    f = up     ? ceil(f * scale) / scale
        : down ? floor(f * scale) / scale
               : round_common(f, (int)digits);
    return integer && !up && !down ? ax_value_int(j->pool, (int64_t)f)
                                   : ax_value_float(j->pool, f);
}


/* Runs of letters, digits and underscores, which \w+ finds in Python. */
static struct ax_value *
filter_wordcount(struct ax_jinja *j, struct ax_value *v,
                 const struct ax_call *call)
{
    struct ax_value *text = ax_jinja_string(j, v);
    int64_t count = 0;
    bool inside = false;

    (void)call;
    if (text == NULL || !ax_jinja_charge(j, 1 + text->u.s.n / 4)) {
        return NULL;
    }
    for (size_t at = 0; at < text->u.s.n;) {
        uint32_t cp;

        at += ax_utf8_next(text->u.s.p + at, text->u.s.n - at, &cp);
        int category = utf8proc_category((utf8proc_int32_t)cp);
        bool word = cp == '_' ||
                    (category >= UTF8PROC_CATEGORY_LU &&
                     category <= UTF8PROC_CATEGORY_LO) ||
                    (category >= UTF8PROC_CATEGORY_ND &&
                     category <= UTF8PROC_CATEGORY_NO);

        count += word && !inside;
        inside = word;
    }
    return ax_value_int(j->pool, count);
}


/* "%s %s"|format(a, b) */
static struct ax_value *
filter_format(struct ax_jinja *j, struct ax_value *v,
              const struct ax_call *call)
{
    struct ax_value *args = ax_value_new(j->pool, AX_V_TUPLE);
    struct ax_value *text = ax_jinja_string(j, v);

    for (uint32_t i = 0; args != NULL && i < call->n; i++) {
        ax_list_push(j->pool, &args->u.list, call->args[i]);
    }
    return args != NULL && text != NULL ? ax_jinja_percent(j, &text->u.s, args)
                                        : NULL;
}


static struct ax_value *
filter_attr(struct ax_jinja *j, struct ax_value *v, const struct ax_call *call)
{
    if (call->n == 0 || call->args[0]->kind != AX_V_STRING) {
        return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION, "attr needs a name");
    }

    struct ax_value *name = ax_value_string(j->pool, call->args[0]->u.s.p,
                                            call->args[0]->u.s.n, true);

    return name != NULL ? ax_jinja_attribute(j, v, name->u.s.p, name->u.s.n)
                        : NULL;
}


static const struct ax_filter value_filters[] = {
    {"default", filter_default},
    {"d", filter_default},
    {"string", filter_string},
    {"trim", filter_trim},
    {"upper", filter_upper},
    {"lower", filter_lower},
    {"capitalize", filter_capitalize},
    {"title", filter_title},
    {"replace", filter_replace},
    {"safe", filter_safe},
    {"escape", filter_escape},
    {"e", filter_escape},
    {"indent", filter_indent},
    {"tojson", ax_jinja_json},
    {"int", filter_int},
    {"float", filter_float},
    {"abs", filter_abs},
    {"round", filter_round},
    {"wordcount", filter_wordcount},
    {"format", filter_format},
    {"attr", filter_attr},
    {NULL, NULL}};


static const struct ax_filter *
find_filter(const struct ax_filter *filters, const char *name)
{
    for (; filters->name != NULL; filters++) {
        if (strcmp(filters->name, name) == 0) {
            return filters;
        }
    }
    return NULL;
}


const void *
ax_jinja_filter(const char *name)
{
    const struct ax_filter *filter = find_filter(value_filters, name);

    return filter != NULL ? filter : find_filter(ax_sequence_filters, name);
}


/* An unknown filter fails where it is used, not where it is written. */
struct ax_value *
ax_jinja_apply_filter(struct ax_jinja *j, const char *name, const void *builtin,
                      struct ax_value *value, const struct ax_call *call)
{
    const struct ax_filter *filter = builtin;

    if (filter == NULL) {
        return ax_jinja_fail(j, AX_TEXT_UNSUPPORTED, "no filter named '%s'",
                             name);
    }
    return filter->fn(j, value, call);
}
