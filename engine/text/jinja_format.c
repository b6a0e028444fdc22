/*
 * String formatting: the % operator and str.format().
 *
 * Of Python's formats the part that templates use: %s %r %d %i %f %x %% with
 * flags, width and precision, and {} {0} {name} {0.key} {0[key]} with !s !r
 * and the specs [[fill]align][0][width][,][.precision][dfsx%].  Others are
 * refused by name.  Widths are bounded.
 */
#include "engine/text/jinja_run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/text/utf8.h"


#define WIDTH_MAX 1000


struct spec {
    char fill;
    char align; /* '<' '>' '^', 0: the type's default */
    bool comma;
    bool plus;
    int width;
    int precision; /* -1: none */
    char type;     /* 0: str() */
};


static struct ax_value *
fail_format(struct ax_jinja *j, const char *p, size_t n)
{
    return ax_jinja_fail(j, AX_TEXT_UNSUPPORTED,
                         "format '%.*s' is not supported",
                         (int)(n < 32 ? n : 32), p);
}


static size_t
read_number(const char *p, size_t n, int *out)
{
    size_t i = 0;

    *out = 0;
    while (i < n && p[i] >= '0' && p[i] <= '9') {
        *out = *out * 10 + (p[i] - '0');
        if (*out > WIDTH_MAX) {
            *out = WIDTH_MAX;
        }
        i++;
    }
    return i;
}


static void
pad(struct ax_jinja *j, struct ax_buf *b, size_t n, char fill)
{
    for (size_t i = 0; i < n; i++) {
        ax_buf_bytes(j->pool, b, &fill, 1, true);
    }
}


static void
add_padded(struct ax_jinja *j, struct ax_buf *b, const struct ax_string *s,
           const struct spec *sp, char align)
{
    size_t have = ax_utf8_count(s->p, s->n);
    size_t room = (size_t)sp->width > have ? (size_t)sp->width - have : 0;
    size_t left = align == '>' ? room : align == '^' ? room / 2 : 0;

    pad(j, b, left, sp->fill);
    ax_buf_add(j->pool, b, s);
    pad(j, b, room - left, sp->fill);
}


/* 1234567 to 1,234,567 in place; text has room. */
static void
add_commas(char *text, size_t size)
{
    size_t start = text[0] == '-' || text[0] == '+';
    size_t end = start;

    while (text[end] >= '0' && text[end] <= '9') {
        end++;
    }
    for (size_t at = end; at > start + 3 && strlen(text) + 2 < size;) {
        at -= 3;
        memmove(text + at + 1, text + at, strlen(text + at) + 1);
        text[at] = ',';
    }
}


/* A number by its type letter; false if the letter is not for numbers. */
static bool
number_text(struct ax_jinja *j, const struct ax_value *v, const struct spec *sp,
            char *text, size_t size)
{
    bool is_float = v->kind == AX_V_FLOAT;
    int64_t i = is_float ? 0 : v->kind == AX_V_BOOL ? v->u.b : v->u.i;
    double f = is_float ? v->u.f : (double)i;

    switch (sp->type) {
    case 'd':
    case 'i':
        if (is_float) {
            i = f > -9e18 && f < 9e18 ? (int64_t)f : 0;
        }
        snprintf(text, size, sp->plus ? "%+" PRId64 : "%" PRId64, i);
        break;
    case 'x':
        snprintf(text, size, i < 0 ? "-%" PRIx64 : "%" PRIx64,
                 i < 0 ? -(uint64_t)i : (uint64_t)i);
        break;
    case '%':
        f *= 100;
        /* fall through */
    case 'f':
    case 'F':
        snprintf(text, size, sp->plus ? "%+.*f%s" : "%.*f%s",
                 sp->precision < 0 ? 6 : sp->precision, f,
                 sp->type == '%' ? "%" : "");
        break;
    case 'e':
        snprintf(text, size, "%.*e", sp->precision < 0 ? 6 : sp->precision, f);
        break;
    case 'g':
        snprintf(text, size, "%.*g", sp->precision < 0 ? 6 : sp->precision, f);
        break;
    default:
        fail_format(j, &sp->type, 1);
        return false;
    }
    if (sp->comma) {
        add_commas(text, size);
    }
    return true;
}


static bool
add_number(struct ax_jinja *j, struct ax_buf *b, const struct ax_value *v,
           const struct spec *sp)
{
    char text[2048];

    if (v->kind != AX_V_INT && v->kind != AX_V_BOOL && v->kind != AX_V_FLOAT) {
        ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                      "format %c: a number is required, not %s", sp->type,
                      ax_jinja_type_name(v));
        return false;
    }
    if (!number_text(j, v, sp, text, sizeof(text))) {
        return false;
    }

    struct ax_string s = {text, strlen(text), NULL, NULL, true};
    bool zeros = sp->fill == '0' && sp->align == 0;

    if (zeros && (text[0] == '-' || text[0] == '+')) {
        struct spec rest = *sp;

        ax_buf_bytes(j->pool, b, text, 1, true);
        rest.width = sp->width > 0 ? sp->width - 1 : 0;
        s.p++;
        s.n--;
        add_padded(j, b, &s, &rest, '>');
        return true;
    }
    add_padded(j, b, &s, sp, sp->align != 0 ? sp->align : '>');
    return true;
}


static struct ax_value *
repr_value(struct ax_jinja *j, struct ax_value *v)
{
    struct ax_value *list = ax_value_list(j->pool);

    ax_value_append(j->pool, list, v);
    list = list != NULL ? ax_jinja_string(j, list) : NULL;
    if (list == NULL) {
        return NULL;
    }

    /* the repr of a list of one, without its brackets */
    return ax_value_view(j->pool,
                         ax_string_slice(&list->u.s, 1, list->u.s.n - 2));
}


static bool
add_value(struct ax_jinja *j, struct ax_buf *b, struct ax_value *v,
          const struct spec *sp)
{
    bool number = v->kind == AX_V_INT || v->kind == AX_V_FLOAT;

    if (sp->type != 0 && sp->type != 's') {
        return add_number(j, b, v, sp);
    }
    if (number && sp->type == 0 && (sp->comma || sp->precision >= 0)) {
        struct spec as = *sp;

        as.type = v->kind == AX_V_INT ? 'd' : 'g';
        return add_number(j, b, v, &as);
    }

    struct ax_value *text = ax_jinja_string(j, v);

    if (text == NULL) {
        return false;
    }
    if (sp->precision >= 0) {
        text = ax_jinja_slice(j, text, NULL,
                              ax_value_int(j->pool, sp->precision), NULL);
        if (text == NULL) {
            return false;
        }
    }
    add_padded(j, b, &text->u.s, sp,
               sp->align != 0 ? sp->align
               : number       ? '>'
                              : '<');
    return true;
}


/* ---- % ----------------------------------------------------------------- */

/* Behind '%': flags, width, precision, type.  Returns its length, 0 is bad. */
static size_t
percent_spec(const char *p, size_t n, struct spec *sp, bool *repr)
{
    size_t i = 0;
    bool left = false;

    *sp = (struct spec){.fill = ' ', .precision = -1};
    *repr = false;
    for (; i < n && strchr("-0+ #", p[i]) != NULL && p[i] != '\0'; i++) {
        left |= p[i] == '-';
        sp->fill = p[i] == '0' ? '0' : sp->fill;
        sp->plus |= p[i] == '+';
    }
    i += read_number(p + i, n - i, &sp->width);
    if (i < n && p[i] == '.') {
        i++;
        i += read_number(p + i, n - i, &sp->precision);
    }
    if (i == n) {
        return 0;
    }
    if (left) {
        sp->align = '<';
        sp->fill = ' ';
    }
    *repr = p[i] == 'r';
    sp->type = *repr ? 's' : p[i];
    if (sp->type == 's' && sp->align == 0) {
        sp->align = '>';
        sp->fill = ' ';
    }
    return i + 1;
}


struct ax_value *
ax_jinja_percent(struct ax_jinja *j, const struct ax_string *format,
                 struct ax_value *args)
{
    struct ax_buf *b = ax_buf_new(j->pool);
    size_t used = 0, at = 0;
    size_t n_args = args->kind == AX_V_TUPLE ? args->u.list.n : 1;

    while (b != NULL && at < format->n) {
        size_t next = ax_string_find(format, "%", 1, at);
        size_t run = (next == SIZE_MAX ? format->n : next) - at;
        struct ax_string text = ax_string_slice(format, at, run);
        struct spec sp;
        bool repr;

        ax_buf_add(j->pool, b, &text);
        if (next == SIZE_MAX || !ax_jinja_charge(j, 1 + run / 16)) {
            break;
        }

        size_t len = percent_spec(format->p + next + 1, format->n - next - 1,
                                  &sp, &repr);
        if (len == 0) {
            return fail_format(j, format->p + next, format->n - next);
        }
        at = next + 1 + len;
        if (sp.type == '%') {
            ax_buf_text(j->pool, b, "%");
            continue;
        }
        if (used == n_args) {
            return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                                 "not enough arguments for format string");
        }

        struct ax_value *v =
            args->kind == AX_V_TUPLE ? args->u.list.items[used] : args;
        used++;
        v = repr ? repr_value(j, v) : v;
        if (v == NULL || !add_value(j, b, v, &sp)) {
            return NULL;
        }
    }

    /* to Python all that can be subscribed may be a mapping of names */
    bool mapping = args->kind == AX_V_DICT || args->kind == AX_V_LIST ||
                   args->kind == AX_V_UNDEFINED;

    if (used < n_args && !mapping) {
        return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                             "not all arguments converted");
    }
    return ax_buf_value(j->pool, b);
}


/* ---- format() ---------------------------------------------------------- */

static bool
is_align(char c)
{
    return c == '<' || c == '>' || c == '^';
}


/* What stands behind ':' in a field. */
static bool
field_spec(struct ax_jinja *j, const char *p, size_t n, struct spec *sp)
{
    size_t i = 0;

    *sp = (struct spec){.fill = ' ', .precision = -1};
    if (n >= 2 && is_align(p[1])) {
        sp->fill = p[0];
        sp->align = p[1];
        i = 2;
    } else if (n >= 1 && is_align(p[0])) {
        sp->align = p[0];
        i = 1;
    }
    if (i < n && p[i] == '+') {
        sp->plus = true;
        i++;
    }
    if (i < n && p[i] == '0') {
        sp->fill = '0';
        i++;
    }
    i += read_number(p + i, n - i, &sp->width);
    if (i < n && p[i] == ',') {
        sp->comma = true;
        i++;
    }
    if (i < n && p[i] == '.') {
        i++;
        i += read_number(p + i, n - i, &sp->precision);
    }
    if (i < n) {
        sp->type = p[i++];
    }
    if (i < n) {
        fail_format(j, p, n);
        return false;
    }
    return true;
}


/* .name and [key] behind a field's first word. */
static struct ax_value *
field_path(struct ax_jinja *j, struct ax_value *v, const char *p, size_t n)
{
    size_t i = 0;

    while (v != NULL && i < n) {
        size_t start = i + 1, end = start;
        bool item = p[i] == '[';
        int index;

        while (end < n &&
               (item ? p[end] != ']' : p[end] != '.' && p[end] != '[')) {
            end++;
        }
        if (end == start || (item && end == n) || (!item && p[i] != '.') ||
            !ax_jinja_charge(j, 1)) {
            return j->rc != 0 ? NULL : fail_format(j, p, n);
        }

        struct ax_value *key =
            ax_value_string(j->pool, p + start, end - start, true);
        if (item &&
            read_number(p + start, end - start, &index) == end - start) {
            key = ax_value_int(j->pool, index);
        }
        if (key == NULL) {
            return NULL;
        }
        v = item ? ax_jinja_item(j, v, key)
                 : ax_jinja_attribute(j, v, key->u.s.p, key->u.s.n);
        i = end + item;
    }
    return v;
}


static struct ax_value *
field_value(struct ax_jinja *j, const char *p, size_t n,
            const struct ax_call *call, uint32_t *next)
{
    size_t word = 0;
    struct ax_value *v = NULL;
    int index;

    while (word < n && p[word] != '.' && p[word] != '[') {
        word++;
    }
    if (word == 0) {
        v = *next < call->n ? call->args[(*next)++] : NULL;
    } else if (read_number(p, word, &index) == word) {
        v = (uint32_t)index < call->n ? call->args[index] : NULL;
    } else {
        for (uint32_t i = 0; i < call->n_names; i++) {
            if (strlen(call->names[i]) == word &&
                memcmp(call->names[i], p, word) == 0) {
                v = call->values[i];
            }
        }
    }
    if (v == NULL) {
        return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                             "no argument for format field '%.*s'",
                             (int)(n < 32 ? n : 32), p);
    }
    return field_path(j, v, p + word, n - word);
}


/* The inside of { }. */
static bool
add_field(struct ax_jinja *j, struct ax_buf *b, const char *p, size_t n,
          const struct ax_call *call, uint32_t *next)
{
    const char *colon = n > 0 ? memchr(p, ':', n) : NULL;
    size_t path = colon != NULL ? (size_t)(colon - p) : n;
    bool repr = path >= 2 && p[path - 2] == '!' && p[path - 1] == 'r';
    bool text = path >= 2 && p[path - 2] == '!' && p[path - 1] == 's';
    struct spec sp;

    if (!field_spec(j, colon != NULL ? colon + 1 : p,
                    colon != NULL ? n - path - 1 : 0, &sp)) {
        return false;
    }

    struct ax_value *v =
        field_value(j, p, path - (repr || text ? 2 : 0), call, next);

    if (v != NULL && repr) {
        v = repr_value(j, v);
    } else if (v != NULL && text) {
        v = ax_jinja_string(j, v);
    }
    return v != NULL && add_value(j, b, v, &sp);
}


struct ax_value *
ax_jinja_format(struct ax_jinja *j, const struct ax_string *format,
                const struct ax_call *call)
{
    struct ax_buf *b = ax_buf_new(j->pool);
    uint32_t next = 0;
    size_t at = 0, from = 0;

    while (b != NULL && at < format->n) {
        char c = format->p[at];

        if (c != '{' && c != '}') {
            at++;
            continue;
        }

        struct ax_string run = ax_string_slice(format, from, at - from);

        ax_buf_add(j->pool, b, &run);
        if (at + 1 < format->n && format->p[at + 1] == c) {
            ax_buf_bytes(j->pool, b, &c, 1, true);
            at += 2;
            from = at;
            continue;
        }

        size_t end = ax_string_find(format, "}", 1, at);

        if (c == '}' || end == SIZE_MAX) {
            return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                                 "single '%c' in format string", c);
        }
        if (!ax_jinja_charge(j, 1) ||
            !add_field(j, b, format->p + at + 1, end - at - 1, call, &next)) {
            return NULL;
        }
        at = end + 1;
        from = at;
    }

    struct ax_string run = ax_string_slice(format, from, format->n - from);

    ax_buf_add(j->pool, b, &run);
    return ax_buf_value(j->pool, b);
}
