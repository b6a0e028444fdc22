/*
 * Values as text: str(), repr(), JSON, % and format().
 *
 * All of it is what Python prints, since templates were written against that:
 * True and None, 1.0, single quotes in the repr of a list.  JSON is
 * json.dumps() with ensure_ascii off by default, as transformers sets it.
 *
 * Trust: the bytes of a string keep theirs, escapes included; punctuation and
 * numbers are the template's own.
 */
#include "engine/text/jinja_run.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "engine/text/utf8.h"


#define INDENT_MAX 64


struct json_style {
    bool ensure_ascii;
    bool sort_keys;
    int64_t indent; /* -1: on one line */
    const struct ax_string *item_separator;
    const struct ax_string *key_separator;
};


/* The shortest digits that read back as the same number, as repr() has it. */
static void
format_double(double f, char *out, size_t size)
{
    char digits[40];
    int precision = 1;

    if (isnan(f) || isinf(f)) {
        snprintf(out, size, "%s", isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
        return;
    }
    do {
        snprintf(digits, sizeof(digits), "%.*e", precision - 1, f);
    } while (strtod(digits, NULL) != f && precision++ < 17);

    int exponent = atoi(strchr(digits, 'e') + 1);

    if (exponent >= -4 && exponent < 16) {
        int decimals = precision - 1 - exponent;

        snprintf(out, size, "%.*f", decimals < 1 ? 1 : decimals, f);
        return;
    }
    *strchr(digits, 'e') = '\0';
    snprintf(out, size, "%se%c%02d", digits, exponent < 0 ? '-' : '+',
             abs(exponent));
}


static void
print_double(struct ax_jinja *j, struct ax_buf *b, double f)
{
    char text[400];

    format_double(f, text, sizeof(text));
    ax_buf_text(j->pool, b, text);
}


static void
print_int(struct ax_jinja *j, struct ax_buf *b, int64_t i)
{
    char text[24];

    snprintf(text, sizeof(text), "%" PRId64, i);
    ax_buf_text(j->pool, b, text);
}


/* ---- repr -------------------------------------------------------------- */

/* What Python's repr() shows as it is. */
static bool
printable(uint32_t cp)
{
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    case UTF8PROC_CATEGORY_ZS:
        return cp == ' ';
    default:
        return true;
    }
}


/* Writes an escape for cp, or nothing if it stands for itself. */
static const char *
repr_escape(uint32_t cp, char quote, char *buf, size_t size)
{
    switch (cp) {
    case '\\':
        return "\\\\";
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    default:
        break;
    }
    if (cp == (uint32_t)quote) {
        snprintf(buf, size, "\\%c", quote);
    } else if (printable(cp)) {
        return NULL;
    } else {
        snprintf(buf, size,
                 cp < 0x100     ? "\\x%02x"
                 : cp < 0x10000 ? "\\u%04x"
                                : "\\U%08x",
                 cp);
    }
    return buf;
}


static const char *
json_escape(uint32_t cp, bool ensure_ascii, char *buf, size_t size)
{
    switch (cp) {
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    case '\f':
        return "\\f";
    case '\b':
        return "\\b";
    default:
        break;
    }
    if (cp >= 0x20 && (cp < 0x7f || !ensure_ascii || cp == 0x7f)) {
        return NULL;
    }
    if (cp < 0x10000) {
        snprintf(buf, size, "\\u%04x", cp);
    } else {
        cp -= 0x10000;
        snprintf(buf, size, "\\u%04x\\u%04x", 0xd800 | cp >> 10,
                 0xdc00 | (cp & 0x3ff));
    }
    return buf;
}


/* style NULL: Python's repr.  Runs without escapes are copied whole. */
static void
print_quoted(struct ax_jinja *j, struct ax_buf *b, const struct ax_string *s,
             const struct json_style *style)
{
    bool single = memchr(s->p, '\'', s->n) != NULL;
    bool both = single && memchr(s->p, '"', s->n) != NULL;
    char quote = style != NULL || (single && !both) ? '"' : '\'';
    size_t from = 0, at = 0;

    ax_buf_bytes(j->pool, b, &quote, 1, true);
    while (at < s->n) {
        uint32_t cp;
        char buf[16];
        size_t len = ax_utf8_next(s->p + at, s->n - at, &cp);
        const char *text =
            style != NULL
                ? json_escape(cp, style->ensure_ascii, buf, sizeof(buf))
                : repr_escape(cp, quote, buf, sizeof(buf));
        if (text != NULL) {
            struct ax_string run = ax_string_slice(s, from, at - from);

            ax_buf_add(j->pool, b, &run);
            ax_buf_bytes(j->pool, b, text, strlen(text), true);
            from = at + len;
        }
        at += len;
    }

    struct ax_string run = ax_string_slice(s, from, s->n - from);

    ax_buf_add(j->pool, b, &run);
    ax_buf_bytes(j->pool, b, &quote, 1, true);
}


static bool print_value(struct ax_jinja *j, struct ax_buf *b,
                        const struct ax_value *v, bool quoted);


static bool
print_list(struct ax_jinja *j, struct ax_buf *b, const struct ax_value *v)
{
    bool tuple = v->kind == AX_V_TUPLE;

    ax_buf_text(j->pool, b, tuple ? "(" : "[");
    for (size_t i = 0; i < v->u.list.n; i++) {
        if (i > 0) {
            ax_buf_text(j->pool, b, ", ");
        }
        if (!print_value(j, b, v->u.list.items[i], true)) {
            return false;
        }
    }
    ax_buf_text(j->pool, b, !tuple ? "]" : v->u.list.n == 1 ? ",)" : ")");
    return true;
}


static bool
print_dict(struct ax_jinja *j, struct ax_buf *b, const struct ax_dict *d)
{
    ax_buf_text(j->pool, b, "{");
    for (size_t i = 0; i < d->n; i++) {
        if (i > 0) {
            ax_buf_text(j->pool, b, ", ");
        }
        if (!print_value(j, b, d->entries[i].key, true)) {
            return false;
        }
        ax_buf_text(j->pool, b, ": ");
        if (!print_value(j, b, d->entries[i].item, true)) {
            return false;
        }
    }
    ax_buf_text(j->pool, b, "}");
    return true;
}


/* A container that holds itself is as deep as it gets: limit_depth. */
static bool
enter(struct ax_jinja *j, size_t steps)
{
    if (j->eval_left == 0) {
        ax_jinja_fail(j, AX_TEXT_LIMIT_DEPTH, "value nests too deeply");
        return false;
    }
    if (!ax_jinja_charge(j, 1 + steps)) {
        return false;
    }
    j->eval_left--;
    return true;
}


static bool
print_value(struct ax_jinja *j, struct ax_buf *b, const struct ax_value *v,
            bool quoted)
{
    bool ok = true;

    if (!enter(j, v->kind == AX_V_STRING ? v->u.s.n / 16 : 0)) {
        return false;
    }
    switch (v->kind) {
    case AX_V_UNDEFINED:
        ax_buf_text(j->pool, b, quoted ? "Undefined" : "");
        break;
    case AX_V_NONE:
        ax_buf_text(j->pool, b, "None");
        break;
    case AX_V_BOOL:
        ax_buf_text(j->pool, b, v->u.b ? "True" : "False");
        break;
    case AX_V_INT:
        print_int(j, b, v->u.i);
        break;
    case AX_V_FLOAT:
        print_double(j, b, v->u.f);
        break;
    case AX_V_STRING:
        if (quoted) {
            print_quoted(j, b, &v->u.s, NULL);
        } else {
            ax_buf_add(j->pool, b, &v->u.s);
        }
        break;
    case AX_V_LIST:
    case AX_V_TUPLE:
        ok = print_list(j, b, v);
        break;
    case AX_V_DICT:
        ok = print_dict(j, b, &v->u.dict);
        break;
    case AX_V_NAMESPACE:
        ax_buf_text(j->pool, b, "<Namespace ");
        ok = print_dict(j, b, &v->u.dict);
        ax_buf_text(j->pool, b, ">");
        break;
    case AX_V_FUNCTION:
        ax_buf_text(j->pool, b, "<function ");
        ax_buf_text(j->pool, b, v->u.fn.name);
        ax_buf_text(j->pool, b, ">");
        break;
    case AX_V_LOOP:
        ax_buf_text(j->pool, b, "<LoopContext ");
        print_int(j, b, (int64_t)v->u.loop.at + 1);
        ax_buf_text(j->pool, b, "/");
        print_int(j, b, (int64_t)v->u.loop.n);
        ax_buf_text(j->pool, b, ">");
        break;
    }
    j->eval_left++;
    return ok;
}


bool
ax_jinja_print(struct ax_jinja *j, struct ax_buf *b, const struct ax_value *v)
{
    return print_value(j, b, v, false);
}


struct ax_value *
ax_jinja_string(struct ax_jinja *j, struct ax_value *v)
{
    if (v->kind == AX_V_STRING) {
        return v;
    }

    struct ax_buf *b = ax_buf_new(j->pool);

    return b != NULL && print_value(j, b, v, false) ? ax_buf_value(j->pool, b)
                                                    : NULL;
}


/* ---- JSON -------------------------------------------------------------- */

static bool json_value(struct ax_jinja *j, struct ax_buf *b,
                       const struct ax_value *v, const struct json_style *style,
                       int64_t level);


static void
json_newline(struct ax_jinja *j, struct ax_buf *b,
             const struct json_style *style, int64_t level)
{
    if (style->indent < 0) {
        return;
    }
    ax_buf_text(j->pool, b, "\n");
    for (int64_t i = 0; i < level * style->indent; i++) {
        ax_buf_text(j->pool, b, " ");
    }
}


static bool
json_list(struct ax_jinja *j, struct ax_buf *b, const struct ax_list *list,
          const struct json_style *style, int64_t level)
{
    ax_buf_text(j->pool, b, "[");
    for (size_t i = 0; i < list->n; i++) {
        if (i > 0) {
            ax_buf_add(j->pool, b, style->item_separator);
        }
        json_newline(j, b, style, level + 1);
        if (!json_value(j, b, list->items[i], style, level + 1)) {
            return false;
        }
    }
    if (list->n > 0) {
        json_newline(j, b, style, level);
    }
    ax_buf_text(j->pool, b, "]");
    return true;
}


/* Keys are strings in JSON; Python converts the other simple kinds. */
static bool
json_key(struct ax_jinja *j, struct ax_buf *b, const struct ax_value *key,
         const struct json_style *style)
{
    if (key->kind == AX_V_STRING) {
        print_quoted(j, b, &key->u.s, style);
        return true;
    }
    if (key->kind == AX_V_UNDEFINED || key->kind > AX_V_STRING) {
        ax_jinja_fail(j, AX_TEXT_BAD_OPERATION, "'%s' cannot be a JSON key",
                      ax_jinja_type_name(key));
        return false;
    }
    ax_buf_text(j->pool, b, "\"");
    bool ok = json_value(j, b, key, style, 0);
    ax_buf_text(j->pool, b, "\"");
    return ok;
}


static int
compare_entries(const void *x, const void *y)
{
    const struct ax_dict_entry *a = x, *b = y;

    return a->key->kind == AX_V_STRING && b->key->kind == AX_V_STRING
               ? ax_string_compare(&a->key->u.s, &b->key->u.s)
               : 0;
}


static bool
json_dict(struct ax_jinja *j, struct ax_buf *b, const struct ax_dict *d,
          const struct json_style *style, int64_t level)
{
    const struct ax_dict_entry *entries = d->entries;

    if (style->sort_keys && d->n > 0) {
        struct ax_dict_entry *sorted =
            ax_pool_alloc(j->pool, d->n * sizeof(*sorted));
        if (sorted == NULL) {
            return false;
        }
        memcpy(sorted, d->entries, d->n * sizeof(*sorted));
        qsort(sorted, d->n, sizeof(*sorted), compare_entries);
        entries = sorted;
    }

    ax_buf_text(j->pool, b, "{");
    for (size_t i = 0; i < d->n; i++) {
        if (i > 0) {
            ax_buf_add(j->pool, b, style->item_separator);
        }
        json_newline(j, b, style, level + 1);
        if (!json_key(j, b, entries[i].key, style)) {
            return false;
        }
        ax_buf_add(j->pool, b, style->key_separator);
        if (!json_value(j, b, entries[i].item, style, level + 1)) {
            return false;
        }
    }
    if (d->n > 0) {
        json_newline(j, b, style, level);
    }
    ax_buf_text(j->pool, b, "}");
    return true;
}


static bool
json_value(struct ax_jinja *j, struct ax_buf *b, const struct ax_value *v,
           const struct json_style *style, int64_t level)
{
    bool ok = true;

    if (!enter(j, v->kind == AX_V_STRING ? v->u.s.n / 16 : (size_t)level)) {
        return false;
    }
    switch (v->kind) {
    case AX_V_NONE:
        ax_buf_text(j->pool, b, "null");
        break;
    case AX_V_BOOL:
        ax_buf_text(j->pool, b, v->u.b ? "true" : "false");
        break;
    case AX_V_INT:
        print_int(j, b, v->u.i);
        break;
    case AX_V_FLOAT:
        if (isnan(v->u.f) || isinf(v->u.f)) {
            ax_buf_text(j->pool, b,
                        isnan(v->u.f) ? "NaN"
                        : v->u.f < 0  ? "-Infinity"
                                      : "Infinity");
        } else {
            print_double(j, b, v->u.f);
        }
        break;
    case AX_V_STRING:
        print_quoted(j, b, &v->u.s, style);
        break;
    case AX_V_LIST:
    case AX_V_TUPLE:
        ok = json_list(j, b, &v->u.list, style, level);
        break;
    case AX_V_DICT:
        ok = json_dict(j, b, &v->u.dict, style, level);
        break;
    default:
        ax_jinja_fail(j, AX_TEXT_BAD_OPERATION, "'%s' is not JSON serializable",
                      ax_jinja_type_name(v));
        ok = false;
    }
    j->eval_left++;
    return ok;
}


/* tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False) */
struct ax_value *
ax_jinja_json(struct ax_jinja *j, struct ax_value *v,
              const struct ax_call *call)
{
    static const struct ax_string comma = {", ", 2, NULL, NULL, true};
    static const struct ax_string colon = {": ", 2, NULL, NULL, true};
    static const struct ax_string tight = {",", 1, NULL, NULL, true};
    struct ax_value *ascii = ax_arg(call, 0, "ensure_ascii");
    struct ax_value *indent = ax_arg(call, 1, "indent");
    struct ax_value *separators = ax_arg(call, 2, "separators");
    struct ax_value *sort = ax_arg(call, 3, "sort_keys");
    struct json_style style = {
        .indent = -1, .item_separator = &comma, .key_separator = &colon};

    style.ensure_ascii = ascii != NULL && ax_jinja_truth(ascii);
    style.sort_keys = sort != NULL && ax_jinja_truth(sort);
    if (indent != NULL && indent->kind != AX_V_NONE) {
        if (!ax_jinja_integer(j, indent, &style.indent)) {
            return NULL;
        }
        style.item_separator = &tight;
        style.indent = style.indent < 0            ? 0
                       : style.indent > INDENT_MAX ? INDENT_MAX
                                                   : style.indent;
    }
    if (separators != NULL && separators->kind == AX_V_TUPLE &&
        separators->u.list.n == 2 &&
        separators->u.list.items[0]->kind == AX_V_STRING &&
        separators->u.list.items[1]->kind == AX_V_STRING) {
        style.item_separator = &separators->u.list.items[0]->u.s;
        style.key_separator = &separators->u.list.items[1]->u.s;
    }

    struct ax_buf *b = ax_buf_new(j->pool);

    return b != NULL && json_value(j, b, v, &style, 0)
               ? ax_buf_value(j->pool, b)
               : NULL;
}
