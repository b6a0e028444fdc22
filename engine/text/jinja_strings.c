/*
 * Methods of strings, the ones of Python that templates use.
 *
 * Positions and lengths are in characters, the work is on bytes.  Views of
 * the string share its bytes; only what changes text copies it, with the
 * trust of each byte.
 */
#include "engine/text/jinja_methods.h"

#include <utf8proc.h>

#include "engine/text/utf8.h"


/* A string argument; NULL after reporting that it is none. */
static const struct ax_string *
string_arg(struct ax_jinja *j, const struct ax_call *call, uint32_t i,
           const char *name)
{
    struct ax_value *v = ax_arg(call, i, name);

    if (v == NULL || v->kind != AX_V_STRING) {
        ax_jinja_fail(j, AX_TEXT_BAD_OPERATION, "expected a string, got '%s'",
                      v == NULL ? "nothing" : ax_jinja_type_name(v));
        return NULL;
    }
    return &v->u.s;
}


/* ---- strings: strip, case, replace ------------------------------------- */

static bool
in_set(const struct ax_string *chars, const char *p, size_t len, uint32_t cp)
{
    return chars == NULL ? ax_utf8_is_space(cp)
                         : ax_string_find(chars, p, len, 0) != SIZE_MAX;
}


struct ax_string
ax_jinja_strip(const struct ax_string *s, char sides,
               const struct ax_string *chars)
{
    size_t from = 0, to = s->n;
    uint32_t cp;

    while (sides != 'r' && from < to) {
        size_t len = ax_utf8_next(s->p + from, to - from, &cp);

        if (!in_set(chars, s->p + from, len, cp)) {
            break;
        }
        from += len;
    }
    while (sides != 'l' && to > from) {
        size_t at = to - 1;

        while (at > from && ((uint8_t)s->p[at] & 0xc0) == 0x80) {
            at--;
        }
        ax_utf8_next(s->p + at, to - at, &cp);
        if (!in_set(chars, s->p + at, to - at, cp)) {
            break;
        }
        to = at;
    }
    return ax_string_slice(s, from, to - from);
}


static struct ax_value *
strip(struct ax_jinja *j, struct ax_value *self, const struct ax_call *call,
      char sides)
{
    const struct ax_string *chars = NULL;

    if (call->n > 0 && call->args[0]->kind != AX_V_NONE) {
        chars = string_arg(j, call, 0, NULL);
        if (chars == NULL) {
            return NULL;
        }
    }
    if (!ax_jinja_charge(j,
                         1 + self->u.s.n / 16 *
                                 (1 + (chars != NULL ? chars->n / 16 : 0)))) {
        return NULL;
    }
    return ax_value_view(j->pool, ax_jinja_strip(&self->u.s, sides, chars));
}


static struct ax_value *
string_strip(struct ax_jinja *j, struct ax_value *self,
             const struct ax_call *call)
{
    return strip(j, self, call, 'b');
}


static struct ax_value *
string_lstrip(struct ax_jinja *j, struct ax_value *self,
              const struct ax_call *call)
{
    return strip(j, self, call, 'l');
}


static struct ax_value *
string_rstrip(struct ax_jinja *j, struct ax_value *self,
              const struct ax_call *call)
{
    return strip(j, self, call, 'r');
}


static bool
is_letter(uint32_t cp)
{
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
        return true;
    default:
        return false;
    }
}


struct ax_value *
ax_jinja_case(struct ax_jinja *j, const struct ax_string *s, char how)
{
    struct ax_buf *b = ax_buf_new(j->pool);
    bool first = true, after_letter = false;

    if (b == NULL || !ax_jinja_charge(j, 1 + s->n / 4)) {
        return NULL;
    }
    for (size_t at = 0; at < s->n;) {
        uint32_t cp;
        char utf8[8];
        size_t len = ax_utf8_next(s->p + at, s->n - at, &cp);
        bool upper = how == 'u' || (how == 'c' && first) ||
                     (how == 't' && !after_letter);
        size_t n;

        after_letter = is_letter(cp);
        first = false;
        if (upper && cp == 0xdf) { /* the one common expansion */
            n = 2;
            memcpy(utf8, how == 'u' ? "SS" : "Ss", 2);
        } else {
            int32_t c = (int32_t)cp;

            c = !upper       ? utf8proc_tolower(c)
                : how == 'u' ? utf8proc_toupper(c)
                             : utf8proc_totitle(c);
            n = ax_utf8_encode((uint32_t)c, utf8);
        }
        ax_buf_bytes(j->pool, b, utf8, n,
                     s->mask != NULL ? s->mask[at] != 0 : s->trusted);
        at += len;
    }
    return ax_buf_value(j->pool, b);
}


static struct ax_value *
string_upper(struct ax_jinja *j, struct ax_value *self,
             const struct ax_call *call)
{
    (void)call;
    return ax_jinja_case(j, &self->u.s, 'u');
}


static struct ax_value *
string_lower(struct ax_jinja *j, struct ax_value *self,
             const struct ax_call *call)
{
    (void)call;
    return ax_jinja_case(j, &self->u.s, 'l');
}


static struct ax_value *
string_title(struct ax_jinja *j, struct ax_value *self,
             const struct ax_call *call)
{
    (void)call;
    return ax_jinja_case(j, &self->u.s, 't');
}


static struct ax_value *
string_capitalize(struct ax_jinja *j, struct ax_value *self,
                  const struct ax_call *call)
{
    (void)call;
    return ax_jinja_case(j, &self->u.s, 'c');
}


struct ax_value *
ax_jinja_replace(struct ax_jinja *j, const struct ax_string *s,
                 const struct ax_string *from, const struct ax_string *to,
                 int64_t count)
{
    struct ax_buf *b = ax_buf_new(j->pool);
    size_t at = 0;

    if (b == NULL || !ax_jinja_charge(j, 1 + s->n / 16)) {
        return NULL;
    }
    while (count != 0) {
        size_t hit = ax_string_find(s, from->p, from->n, at);

        if (hit == SIZE_MAX || !ax_jinja_charge(j, 1 + to->n / 16)) {
            break;
        }
        count--;
        if (from->n == 0) {
            /* between all characters, and at both ends */
            uint32_t cp;
            size_t len =
                at < s->n ? ax_utf8_next(s->p + at, s->n - at, &cp) : 0;
            struct ax_string one = ax_string_slice(s, at, len);

            ax_buf_add(j->pool, b, to);
            ax_buf_add(j->pool, b, &one);
            at += len;
            if (len == 0) {
                break;
            }
            continue;
        }

        struct ax_string run = ax_string_slice(s, at, hit - at);

        ax_buf_add(j->pool, b, &run);
        ax_buf_add(j->pool, b, to);
        at = hit + from->n;
    }

    struct ax_string rest = ax_string_slice(s, at, s->n - at);

    ax_buf_add(j->pool, b, &rest);
    return j->rc != 0 ? NULL : ax_buf_value(j->pool, b);
}


static struct ax_value *
string_replace(struct ax_jinja *j, struct ax_value *self,
               const struct ax_call *call)
{
    const struct ax_string *from = string_arg(j, call, 0, "old");
    const struct ax_string *to =
        from != NULL ? string_arg(j, call, 1, "new") : NULL;
    int64_t count;

    return to != NULL && ax_arg_integer(j, call, 2, "count", -1, &count)
               ? ax_jinja_replace(j, &self->u.s, from, to, count)
               : NULL;
}


/* ---- strings: splitting and joining ------------------------------------ */

static void
push_slice(struct ax_jinja *j, struct ax_value *list, const struct ax_string *s,
           size_t from, size_t to)
{
    ax_value_append(
        j->pool, list,
        ax_value_view(j->pool, ax_string_slice(s, from, to - from)));
}


/* Without a separator: at runs of white space, no empty parts. */
static struct ax_value *
split_space(struct ax_jinja *j, const struct ax_string *s, int64_t most)
{
    struct ax_value *list = ax_value_list(j->pool);
    size_t at = 0;

    while (list != NULL && ax_jinja_charge(j, 1)) {
        struct ax_string rest = ax_string_slice(s, at, s->n - at);
        struct ax_string left = ax_jinja_strip(&rest, 'l', NULL);
        size_t end = (size_t)(left.p - s->p);
        uint32_t cp;

        at = end;
        if (at == s->n) {
            return list;
        }
        if (most-- == 0) {
            push_slice(j, list, s, at, s->n);
            return list;
        }
        while (end < s->n) {
            size_t len = ax_utf8_next(s->p + end, s->n - end, &cp);

            if (ax_utf8_is_space(cp)) {
                break;
            }
            end += len;
        }
        push_slice(j, list, s, at, end);
        at = end;
    }
    return NULL;
}


static struct ax_value *
string_split(struct ax_jinja *j, struct ax_value *self,
             const struct ax_call *call)
{
    const struct ax_string *s = &self->u.s;
    struct ax_value *sep = ax_arg(call, 0, "sep");
    struct ax_value *list = ax_value_list(j->pool);
    size_t at = 0;
    int64_t most;

    if (list == NULL || !ax_arg_integer(j, call, 1, "maxsplit", -1, &most) ||
        !ax_jinja_charge(j, 1 + s->n / 16)) {
        return NULL;
    }
    if (sep == NULL || sep->kind == AX_V_NONE) {
        return split_space(j, s, most);
    }
    if (sep->kind != AX_V_STRING || sep->u.s.n == 0) {
        return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION, "bad separator");
    }
    while (most-- != 0) {
        size_t hit = ax_string_find(s, sep->u.s.p, sep->u.s.n, at);

        if (hit == SIZE_MAX) {
            break;
        }
        if (!ax_jinja_charge(j, 1)) {
            return NULL;
        }
        push_slice(j, list, s, at, hit);
        at = hit + sep->u.s.n;
    }
    push_slice(j, list, s, at, s->n);
    return list;
}


/* Last occurrence that ends at or before `to`, SIZE_MAX if none. */
static size_t
find_last(const struct ax_string *s, const struct ax_string *what, size_t to)
{
    for (size_t at = what->n <= to ? to - what->n + 1 : 0; at-- > 0;) {
        if (memcmp(s->p + at, what->p, what->n) == 0) {
            return at;
        }
    }
    return SIZE_MAX;
}


static struct ax_value *
string_rsplit(struct ax_jinja *j, struct ax_value *self,
              const struct ax_call *call)
{
    const struct ax_string *s = &self->u.s;
    int64_t most;

    if (!ax_arg_integer(j, call, 1, "maxsplit", -1, &most)) {
        return NULL;
    }
    if (most < 0) {
        return string_split(j, self, call);
    }

    const struct ax_string *sep = string_arg(j, call, 0, "sep");
    struct ax_value *list = ax_value_list(j->pool);
    size_t to = s->n;

    if (sep == NULL || sep->n == 0 || list == NULL ||
        !ax_jinja_charge(j, 1 + s->n / 4)) {
        return sep == NULL || list == NULL
                   ? NULL
                   : ax_jinja_fail(j, AX_TEXT_BAD_OPERATION, "bad separator");
    }
    while (most-- > 0) {
        size_t hit = find_last(s, sep, to);

        if (hit == SIZE_MAX || !ax_jinja_charge(j, 1)) {
            break;
        }
        push_slice(j, list, s, hit + sep->n, to);
        to = hit;
    }
    push_slice(j, list, s, 0, to);

    struct ax_list *l = &list->u.list;

    for (size_t i = 0; i < l->n / 2; i++) {
        struct ax_value *v = l->items[i];

        l->items[i] = l->items[l->n - 1 - i];
        l->items[l->n - 1 - i] = v;
    }
    return list;
}


static struct ax_value *
string_splitlines(struct ax_jinja *j, struct ax_value *self,
                  const struct ax_call *call)
{
    const struct ax_string *s = &self->u.s;
    struct ax_value *list = ax_value_list(j->pool);
    struct ax_value *keep = ax_arg(call, 0, "keepends");
    bool keepends = keep != NULL && ax_jinja_truth(keep);
    size_t from = 0;

    for (size_t at = 0; list != NULL && at < s->n;) {
        uint32_t cp;
        size_t len = ax_utf8_next(s->p + at, s->n - at, &cp);
        size_t end = at;

        at += len;
        if (!((cp >= 10 && cp <= 13) || (cp >= 0x1c && cp <= 0x1e) ||
              cp == 0x85 || cp == 0x2028 || cp == 0x2029)) {
            continue;
        }
        if (cp == '\r' && at < s->n && s->p[at] == '\n') {
            at++;
        }
        if (!ax_jinja_charge(j, 1)) {
            return NULL;
        }
        push_slice(j, list, s, from, keepends ? at : end);
        from = at;
    }
    if (from < s->n) {
        push_slice(j, list, s, from, s->n);
    }
    return list;
}


static struct ax_value *
string_partition(struct ax_jinja *j, struct ax_value *self,
                 const struct ax_call *call)
{
    const struct ax_string *sep = string_arg(j, call, 0, "sep");
    struct ax_value *tuple = ax_value_new(j->pool, AX_V_TUPLE);
    const struct ax_string *s = &self->u.s;

    if (sep == NULL || tuple == NULL || !ax_jinja_charge(j, 1 + s->n / 16)) {
        return NULL;
    }

    size_t hit = ax_string_find(s, sep->p, sep->n, 0);
    size_t end = hit == SIZE_MAX ? s->n : hit + sep->n;

    push_slice(j, tuple, s, 0, hit == SIZE_MAX ? s->n : hit);
    push_slice(j, tuple, s, hit == SIZE_MAX ? s->n : hit, end);
    push_slice(j, tuple, s, end, s->n);
    return tuple;
}


static struct ax_value *
string_join(struct ax_jinja *j, struct ax_value *self,
            const struct ax_call *call)
{
    struct ax_value *list =
        call->n > 0 ? ax_jinja_to_list(j, call->args[0]) : NULL;
    struct ax_buf *b = ax_buf_new(j->pool);

    for (size_t i = 0; list != NULL && i < list->u.list.n; i++) {
        struct ax_value *item = list->u.list.items[i];

        if (item->kind != AX_V_STRING ||
            !ax_jinja_charge(j, 1 + item->u.s.n / 16)) {
            return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                                 "join: expected strings");
        }
        if (i > 0) {
            ax_buf_add(j->pool, b, &self->u.s);
        }
        ax_buf_add(j->pool, b, &item->u.s);
    }
    return list != NULL ? ax_buf_value(j->pool, b) : NULL;
}


/* ---- strings: questions ------------------------------------------------ */

static bool
has_affix(const struct ax_string *s, const struct ax_string *affix, bool end)
{
    return affix->n <= s->n &&
           (affix->n == 0 || memcmp(s->p + (end ? s->n - affix->n : 0),
                                    affix->p, affix->n) == 0);
}


/* One string or a tuple of them. */
static struct ax_value *
affix(struct ax_jinja *j, struct ax_value *self, const struct ax_call *call,
      bool end)
{
    bool hit = false;

    if (call->n > 0 && call->args[0]->kind == AX_V_TUPLE) {
        const struct ax_list *list = &call->args[0]->u.list;

        for (size_t i = 0; i < list->n; i++) {
            hit |= list->items[i]->kind == AX_V_STRING &&
                   has_affix(&self->u.s, &list->items[i]->u.s, end);
        }
        return ax_value_bool(j->pool, hit);
    }

    const struct ax_string *s = string_arg(j, call, 0, NULL);

    return s != NULL ? ax_value_bool(j->pool, has_affix(&self->u.s, s, end))
                     : NULL;
}


static struct ax_value *
string_startswith(struct ax_jinja *j, struct ax_value *self,
                  const struct ax_call *call)
{
    return affix(j, self, call, false);
}


static struct ax_value *
string_endswith(struct ax_jinja *j, struct ax_value *self,
                const struct ax_call *call)
{
    return affix(j, self, call, true);
}


static struct ax_value *
string_removeprefix(struct ax_jinja *j, struct ax_value *self,
                    const struct ax_call *call)
{
    const struct ax_string *s = string_arg(j, call, 0, NULL);
    size_t n = s != NULL && has_affix(&self->u.s, s, false) ? s->n : 0;

    return s == NULL ? NULL
                     : ax_value_view(j->pool, ax_string_slice(&self->u.s, n,
                                                              self->u.s.n - n));
}


static struct ax_value *
string_removesuffix(struct ax_jinja *j, struct ax_value *self,
                    const struct ax_call *call)
{
    const struct ax_string *s = string_arg(j, call, 0, NULL);
    size_t n = s != NULL && has_affix(&self->u.s, s, true) ? s->n : 0;

    return s == NULL ? NULL
                     : ax_value_view(j->pool, ax_string_slice(&self->u.s, 0,
                                                              self->u.s.n - n));
}


static struct ax_value *
string_find(struct ax_jinja *j, struct ax_value *self,
            const struct ax_call *call)
{
    const struct ax_string *s = string_arg(j, call, 0, NULL);

    if (s == NULL || !ax_jinja_charge(j, 1 + self->u.s.n / 8)) {
        return NULL;
    }

    size_t hit = ax_string_find(&self->u.s, s->p, s->n, 0);

    return ax_value_int(
        j->pool,
        hit == SIZE_MAX ? -1 : (int64_t)ax_utf8_count(self->u.s.p, hit));
}


static struct ax_value *
string_rfind(struct ax_jinja *j, struct ax_value *self,
             const struct ax_call *call)
{
    const struct ax_string *s = string_arg(j, call, 0, NULL);

    if (s == NULL || !ax_jinja_charge(j, 1 + self->u.s.n / 4)) {
        return NULL;
    }

    size_t hit = find_last(&self->u.s, s, self->u.s.n);

    return ax_value_int(
        j->pool,
        hit == SIZE_MAX ? -1 : (int64_t)ax_utf8_count(self->u.s.p, hit));
}


static struct ax_value *
string_count(struct ax_jinja *j, struct ax_value *self,
             const struct ax_call *call)
{
    const struct ax_string *s = string_arg(j, call, 0, NULL);
    int64_t count = 0;
    size_t at = 0;

    if (s == NULL || !ax_jinja_charge(j, 1 + self->u.s.n / 4)) {
        return NULL;
    }
    if (s->n == 0) {
        return ax_value_int(
            j->pool, 1 + (int64_t)ax_utf8_count(self->u.s.p, self->u.s.n));
    }
    while ((at = ax_string_find(&self->u.s, s->p, s->n, at)) != SIZE_MAX) {
        count++;
        at += s->n;
    }
    return ax_value_int(j->pool, count);
}


/* All characters of a kind, and at least one. */
static struct ax_value *
all_are(struct ax_jinja *j, const struct ax_string *s, char kind)
{
    bool all = s->n > 0, cased = false;

    if (!ax_jinja_charge(j, 1 + s->n / 4)) {
        return NULL;
    }
    for (size_t at = 0; all && at < s->n;) {
        uint32_t cp;

        at += ax_utf8_next(s->p + at, s->n - at, &cp);
        int category = utf8proc_category((utf8proc_int32_t)cp);
        bool alpha = category >= UTF8PROC_CATEGORY_LU &&
                     category <= UTF8PROC_CATEGORY_LO;
        bool digit = category == UTF8PROC_CATEGORY_ND;

        cased |= category == UTF8PROC_CATEGORY_LU ||
                 category == UTF8PROC_CATEGORY_LL ||
                 category == UTF8PROC_CATEGORY_LT;
        switch (kind) {
        case 'd':
            all = digit;
            break;
        case 'a':
            all = alpha;
            break;
        case 'n':
            all = alpha || digit;
            break;
        case 's':
            all = ax_utf8_is_space(cp);
            break;
        case 'u':
            all = category != UTF8PROC_CATEGORY_LL;
            break;
        default:
            all = category != UTF8PROC_CATEGORY_LU;
        }
    }
    return ax_value_bool(j->pool,
                         all && (cased || (kind != 'u' && kind != 'l')));
}


static struct ax_value *
string_isdigit(struct ax_jinja *j, struct ax_value *self,
               const struct ax_call *call)
{
    (void)call;
    return all_are(j, &self->u.s, 'd');
}


static struct ax_value *
string_isalpha(struct ax_jinja *j, struct ax_value *self,
               const struct ax_call *call)
{
    (void)call;
    return all_are(j, &self->u.s, 'a');
}


static struct ax_value *
string_isalnum(struct ax_jinja *j, struct ax_value *self,
               const struct ax_call *call)
{
    (void)call;
    return all_are(j, &self->u.s, 'n');
}


static struct ax_value *
string_isspace(struct ax_jinja *j, struct ax_value *self,
               const struct ax_call *call)
{
    (void)call;
    return all_are(j, &self->u.s, 's');
}


static struct ax_value *
string_isupper(struct ax_jinja *j, struct ax_value *self,
               const struct ax_call *call)
{
    (void)call;
    return all_are(j, &self->u.s, 'u');
}


static struct ax_value *
string_islower(struct ax_jinja *j, struct ax_value *self,
               const struct ax_call *call)
{
    (void)call;
    return all_are(j, &self->u.s, 'l');
}


static struct ax_value *
string_format(struct ax_jinja *j, struct ax_value *self,
              const struct ax_call *call)
{
    return ax_jinja_format(j, &self->u.s, call);
}


const struct ax_method ax_string_methods[] = {
    {"strip", string_strip},
    {"lstrip", string_lstrip},
    {"rstrip", string_rstrip},
    {"split", string_split},
    {"rsplit", string_rsplit},
    {"splitlines", string_splitlines},
    {"startswith", string_startswith},
    {"endswith", string_endswith},
    {"upper", string_upper},
    {"lower", string_lower},
    {"title", string_title},
    {"capitalize", string_capitalize},
    {"replace", string_replace},
    {"join", string_join},
    {"find", string_find},
    {"rfind", string_rfind},
    {"count", string_count},
    {"partition", string_partition},
    {"removeprefix", string_removeprefix},
    {"removesuffix", string_removesuffix},
    {"isdigit", string_isdigit},
    {"isnumeric", string_isdigit},
    {"isalpha", string_isalpha},
    {"isalnum", string_isalnum},
    {"isspace", string_isspace},
    {"isupper", string_isupper},
    {"islower", string_islower},
    {"format", string_format},
    {NULL, NULL}};
