/*
 * Lexer, see jinja_lex.h.
 *
 * One pass over a copy of the source with newlines made one.  The lexer is in
 * text until it meets "{{", "{%" or "{#"; inside a tag the end is recognised
 * only while no bracket is open, so {{ {'a': {}} }} works.  Tokens point into
 * the copy, or into the pool where a string had escapes.
 */
#include "engine/text/jinja_lex.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/text/utf8.h"


#define BRACKETS_MAX 64


struct lexer {
    struct ax_pool *pool;
    struct ax_parse_error *error;
    const char *p;
    size_t n;
    size_t at;
    uint32_t line;
    bool line_start; /* the last tag ended a line */
    struct ax_token *tokens;
    size_t n_tokens;
    size_t cap;
};


static bool
fail(struct lexer *lx, int rc, const char *format, ...)
{
    if (lx->error->rc == 0) {
        va_list args;

        lx->error->rc = rc;
        lx->error->line = lx->line;
        va_start(args, format);
        vsnprintf(lx->error->text, sizeof(lx->error->text), format, args);
        va_end(args);
    }
    return false;
}


static struct ax_token *
token_add(struct lexer *lx, enum ax_token_kind kind, const char *p, size_t n)
{
    if (lx->n_tokens == lx->cap) {
        size_t cap = lx->cap * 2 + 256;
        void *q = ax_pool_grow(lx->pool, lx->tokens,
                               lx->n_tokens * sizeof(*lx->tokens),
                               cap * sizeof(*lx->tokens));
        if (q == NULL) {
            fail(lx, ax_pool_error(lx->pool), "template is too large");
            return NULL;
        }
        lx->tokens = q;
        lx->cap = cap;
    }

    struct ax_token *t = &lx->tokens[lx->n_tokens++];

    *t = (struct ax_token){.kind = kind, .line = lx->line, .p = p, .n = n};
    return t;
}


/* Bytes of the white space character at `at`, 0 if there is none. */
static size_t
space_at(const struct lexer *lx, size_t at)
{
    uint32_t cp;
    size_t len = at < lx->n ? ax_utf8_next(lx->p + at, lx->n - at, &cp) : 0;

    return len > 0 && ax_utf8_is_space(cp) ? len : 0;
}


/* Bytes of the one that ends at `at`, looking back no further than start. */
static size_t
space_before(const struct lexer *lx, size_t start, size_t at)
{
    for (size_t len = 1; len <= 3 && len <= at - start; len++) {
        if (((uint8_t)lx->p[at - len] & 0xc0) != 0x80) {
            return space_at(lx, at - len) == len ? len : 0;
        }
    }
    return 0;
}


static size_t
skip_space(const struct lexer *lx, size_t at)
{
    size_t len;

    while ((len = space_at(lx, at)) > 0) {
        at += len;
    }
    return at;
}


static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}


/* Identifiers may hold any character outside ASCII, as Python's roughly do. */
static bool
is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (uint8_t)c >= 0x80;
}


static void
advance(struct lexer *lx, size_t to)
{
    while (lx->at < to) {
        lx->line += lx->p[lx->at++] == '\n';
    }
}


static bool
starts(const struct lexer *lx, size_t at, const char *text)
{
    size_t n = strlen(text);

    return n <= lx->n - at && memcmp(lx->p + at, text, n) == 0;
}


/* \r\n and \r become \n; one newline at the very end goes. */
static bool
copy_source(struct lexer *lx, const char *source, size_t n)
{
    char *copy = ax_pool_alloc(lx->pool, n + 1);

    if (copy == NULL) {
        return fail(lx, ax_pool_error(lx->pool), "template is too large");
    }
    for (size_t i = 0; i < n; i++) {
        if (source[i] == '\r') {
            copy[lx->n++] = '\n';
            i += i + 1 < n && source[i + 1] == '\n';
        } else {
            copy[lx->n++] = source[i];
        }
    }
    if (lx->n > 0 && copy[lx->n - 1] == '\n') {
        lx->n--;
    }
    copy[lx->n] = '\0';
    lx->p = copy;
    return true;
}


/*
 * The text in front of a tag at `end`.  sign is the character after the tag's
 * opening; blocks and comments alone on their line lose the blanks before.
 */
static bool
text_token(struct lexer *lx, size_t end, char sign, bool is_output)
{
    size_t start = lx->at, stop = end, len;

    if (sign == '-') {
        while ((len = space_before(lx, start, stop)) > 0) {
            stop -= len;
        }
    } else if (sign != '+' && !is_output) {
        size_t line = end;

        while ((len = space_before(lx, start, line)) > 0 &&
               lx->p[line - 1] != '\n') {
            line -= len;
        }
        if (line > start ? lx->p[line - 1] == '\n' : lx->line_start) {
            stop = line;
        }
    }

    if (stop > start &&
        token_add(lx, AX_T_TEXT, lx->p + start, stop - start) == NULL) {
        return false;
    }
    advance(lx, end);
    return true;
}


/* Behind "%}" or "#}": the newline goes, behind "-" all white space. */
static void
trim_after(struct lexer *lx, char sign, bool is_output)
{
    size_t to = lx->at;

    if (sign == '-') {
        to = skip_space(lx, to);
    } else if (sign != '+' && !is_output && to < lx->n && lx->p[to] == '\n') {
        to++;
    }
    advance(lx, to);
    lx->line_start = to > 0 && lx->p[to - 1] == '\n';
}


static bool
comment(struct lexer *lx)
{
    size_t begin = lx->at + 2;

    begin += begin < lx->n && (lx->p[begin] == '-' || lx->p[begin] == '+');

    const char *end = memmem(lx->p + begin, lx->n - begin, "#}", 2);

    if (end == NULL) {
        return fail(lx, AX_TEXT_BAD_SYNTAX, "missing end of comment");
    }

    size_t at = (size_t)(end - lx->p);
    char sign = at > begin ? lx->p[at - 1] : 0;

    advance(lx, at + 2);
    trim_after(lx, sign, false);
    return true;
}


/* ---- inside tags ------------------------------------------------------- */

static int
hex_value(char c)
{
    if (is_digit(c)) {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}


/* \xhh, \uhhhh, \Uhhhhhhhh: digits digits of hex at p; -1 if they are not. */
static int64_t
hex_escape(const char *p, size_t n, size_t digits)
{
    int64_t value = 0;

    if (n < digits) {
        return -1;
    }
    for (size_t i = 0; i < digits; i++) {
        int h = hex_value(p[i]);

        if (h < 0) {
            return -1;
        }
        value = value << 4 | h;
    }
    return value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff) ? -1
                                                                    : value;
}


static int64_t
octal_escape(const char *p, size_t n, size_t *used)
{
    int64_t value = 0;

    *used = 0;
    while (*used < 3 && *used < n && p[*used] >= '0' && p[*used] <= '7') {
        value = value * 8 + (p[(*used)++] - '0');
    }
    return value;
}


/*
 * One escape at p (behind the backslash).  Returns bytes used, 0 on an error;
 * writes at most 4 bytes.  Unknown ones keep their backslash, as in Python.
 */
static size_t
escape(const char *p, size_t n, char *out, size_t *written)
{
    static const char from[] = "abfnrtv\\'\"";
    static const char to[] = "\a\b\f\n\r\t\v\\'\"";
    const char *simple = strchr(from, p[0]);
    size_t used = 1;
    int64_t cp;

    if (p[0] != '\0' && simple != NULL) {
        out[0] = to[simple - from];
        *written = 1;
        return 1;
    }
    switch (p[0]) {
    case '\n':
        *written = 0;
        return 1;
    case 'x':
        cp = hex_escape(p + 1, n - 1, 2);
        used = 3;
        break;
    case 'u':
        cp = hex_escape(p + 1, n - 1, 4);
        used = 5;
        break;
    case 'U':
        cp = hex_escape(p + 1, n - 1, 8);
        used = 9;
        break;
    default:
        if (p[0] >= '0' && p[0] <= '7') {
            cp = octal_escape(p, n, &used);
            break;
        }
        out[0] = '\\';
        *written = 1;
        return SIZE_MAX; /* the character itself is taken as it is */
    }
    if (cp < 0) {
        return 0;
    }
    *written = ax_utf8_encode((uint32_t)cp, out);
    return used;
}


static bool
string_token(struct lexer *lx)
{
    char quote = lx->p[lx->at];
    size_t start = lx->at + 1, end = start;

    while (end < lx->n && lx->p[end] != quote) {
        end += lx->p[end] == '\\' ? 2 : 1;
    }
    if (end >= lx->n) {
        return fail(lx, AX_TEXT_BAD_SYNTAX, "missing end of string");
    }

    char *out = ax_pool_alloc(lx->pool, end - start + 4);
    size_t n = 0;

    if (out == NULL) {
        return fail(lx, ax_pool_error(lx->pool), "template is too large");
    }
    for (size_t i = start; i < end;) {
        if (lx->p[i] != '\\') {
            out[n++] = lx->p[i++];
            continue;
        }

        size_t written;
        size_t used = escape(lx->p + i + 1, end - i - 1, out + n, &written);

        if (used == 0) {
            return fail(lx, AX_TEXT_BAD_SYNTAX, "bad escape in string");
        }
        n += written;
        i += used == SIZE_MAX ? 1 : used + 1;
    }

    bool ok = token_add(lx, AX_T_STRING, out, n) != NULL;

    advance(lx, end + 1);
    return ok;
}


/* 12, 1_000, 0x1f, 0b1, 0o7, 1.5, 1e3, 1.5e-3 */
static bool
number_token(struct lexer *lx)
{
    char digits[64];
    size_t n = 0, at = lx->at;
    bool is_float = false;
    int base = 10;

    if (lx->p[at] == '0' && at + 1 < lx->n) {
        char kind = lx->p[at + 1] | 0x20;

        base = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 10;
        at += base != 10 ? 2 : 0;
    }
    for (; at < lx->n; at++) {
        char c = lx->p[at];
        bool next_digit = at + 1 < lx->n && is_digit(lx->p[at + 1]);
        bool exponent =
            base == 10 && (c == 'e' || c == 'E') &&
            (next_digit || (at + 2 < lx->n && is_digit(lx->p[at + 2]) &&
                            (lx->p[at + 1] == '-' || lx->p[at + 1] == '+')));
        if (c == '_') {
            continue;
        }
        if ((c == '.' && base == 10 && !is_float && next_digit) || exponent) {
            is_float = true;
        } else if (hex_value(c) < 0 || hex_value(c) >= base) {
            break;
        }
        if (n + 2 >= sizeof(digits)) {
            return fail(lx, AX_TEXT_BAD_SYNTAX, "number is too long");
        }
        digits[n++] = c;
        if (exponent && !next_digit) {
            digits[n++] = lx->p[++at];
        }
    }
    digits[n] = '\0';

    struct ax_token *t = token_add(lx, is_float ? AX_T_FLOAT : AX_T_INTEGER,
                                   lx->p + lx->at, at - lx->at);
    char *end = digits;

    if (t == NULL) {
        return false;
    }
    errno = 0;
    if (is_float) {
        t->number = strtod(digits, &end);
    } else {
        t->integer = strtoll(digits, &end, base);
    }
    if (n == 0 || *end != '\0' || (errno == ERANGE && !is_float)) {
        return fail(lx, AX_TEXT_BAD_SYNTAX, "bad number");
    }
    lx->at = at;
    return true;
}


static bool
name_token(struct lexer *lx)
{
    size_t end = lx->at;

    while (end < lx->n && (is_name(lx->p[end]) || is_digit(lx->p[end]))) {
        end++;
    }

    bool ok = token_add(lx, AX_T_NAME, lx->p + lx->at, end - lx->at) != NULL;

    lx->at = end;
    return ok;
}


static bool
operator_token(struct lexer *lx, char *brackets, size_t *depth)
{
    static const char *const two[] = {"**", "//", "==", "!=", "<=", ">="};
    size_t n = 1;
    char c = lx->p[lx->at];

    for (size_t i = 0; i < sizeof(two) / sizeof(two[0]); i++) {
        if (starts(lx, lx->at, two[i])) {
            n = 2;
        }
    }
    if (n == 1 && strchr("+-*/%~<>=()[]{}.,:|", c) == NULL) {
        return fail(lx, AX_TEXT_BAD_SYNTAX, "unexpected character '%c'",
                    c >= ' ' && c <= '~' ? c : '?');
    }

    if (c == '(' || c == '[' || c == '{') {
        if (*depth == BRACKETS_MAX) {
            return fail(lx, AX_TEXT_LIMIT_DEPTH, "too many open brackets");
        }
        brackets[(*depth)++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
        if (*depth == 0 || brackets[--*depth] != c) {
            return fail(lx, AX_TEXT_BAD_SYNTAX, "unexpected '%c'", c);
        }
    }

    bool ok = token_add(lx, AX_T_OPERATOR, lx->p + lx->at, n) != NULL;

    lx->at += n;
    return ok;
}


static bool
one_token(struct lexer *lx, char *brackets, size_t *depth)
{
    char c = lx->p[lx->at];

    if (c == '\'' || c == '"') {
        return string_token(lx);
    }
    if (is_digit(c)) {
        return number_token(lx);
    }
    if (is_name(c)) {
        return name_token(lx);
    }
    return operator_token(lx, brackets, depth);
}


/* From behind "{{" or "{%" to behind its end. */
static bool
tag(struct lexer *lx, bool is_output)
{
    const char *close = is_output ? "}}" : "%}";
    char brackets[BRACKETS_MAX];
    size_t depth = 0;

    for (;;) {
        advance(lx, skip_space(lx, lx->at));
        if (lx->at == lx->n) {
            return fail(lx, AX_TEXT_BAD_SYNTAX, "missing '%s'", close);
        }

        char sign = lx->p[lx->at];
        bool has_sign = sign == '-' || (sign == '+' && !is_output);

        if (depth == 0 && starts(lx, lx->at + has_sign, close)) {
            if (token_add(lx, is_output ? AX_T_OUTPUT_END : AX_T_BLOCK_END,
                          close, 2) == NULL) {
                return false;
            }
            advance(lx, lx->at + has_sign + 2);
            trim_after(lx, has_sign ? sign : 0, is_output);
            return true;
        }
        if (!one_token(lx, brackets, &depth)) {
            return false;
        }
    }
}


/* If a tag at `at` reads {%- name -%}: its end, and the signs. */
static size_t
simple_tag(const struct lexer *lx, size_t at, const char *name, char *left,
           char *right)
{
    *left = *right = 0;
    if (!starts(lx, at, "{%")) {
        return 0;
    }
    at += 2;
    if (at < lx->n && (lx->p[at] == '-' || lx->p[at] == '+')) {
        *left = lx->p[at++];
    }
    at = skip_space(lx, at);
    if (!starts(lx, at, name)) {
        return 0;
    }
    at += strlen(name);
    at = skip_space(lx, at);
    if (at < lx->n && (lx->p[at] == '-' || lx->p[at] == '+')) {
        *right = lx->p[at++];
    }
    return starts(lx, at, "%}") ? at + 2 : 0;
}


/* Behind {% raw %}: text up to {% endraw %}. */
static bool
raw_text(struct lexer *lx)
{
    for (size_t at = lx->at; at < lx->n; at++) {
        char left, right;
        size_t end =
            lx->p[at] != '{' ? 0 : simple_tag(lx, at, "endraw", &left, &right);
        if (end != 0) {
            if (!text_token(lx, at, left, false)) {
                return false;
            }
            advance(lx, end);
            trim_after(lx, right, false);
            return true;
        }
    }
    return fail(lx, AX_TEXT_BAD_SYNTAX, "missing endraw");
}


static bool
block(struct lexer *lx)
{
    char left, right;
    size_t raw_end = simple_tag(lx, lx->at, "raw", &left, &right);

    /* unlike other blocks it keeps the newline behind it */
    if (raw_end != 0 && right != '+') {
        advance(lx, raw_end);
        trim_after(lx, right, true);
        return raw_text(lx);
    }
    if (token_add(lx, AX_T_BLOCK_BEGIN, "{%", 2) == NULL) {
        return false;
    }
    lx->at += 2;
    lx->at += lx->at < lx->n && (lx->p[lx->at] == '-' || lx->p[lx->at] == '+');
    return tag(lx, false);
}


static bool
output(struct lexer *lx)
{
    if (token_add(lx, AX_T_OUTPUT_BEGIN, "{{", 2) == NULL) {
        return false;
    }
    lx->at += 2;
    lx->at += lx->at < lx->n && (lx->p[lx->at] == '-' || lx->p[lx->at] == '+');
    return tag(lx, true);
}


static bool
lex_all(struct lexer *lx)
{
    while (lx->at < lx->n) {
        size_t open = lx->at;

        while (open < lx->n && !(lx->p[open] == '{' && open + 1 < lx->n &&
                                 strchr("{%#", lx->p[open + 1]) != NULL &&
                                 lx->p[open + 1] != '\0')) {
            open++;
        }
        if (open == lx->n) {
            return token_add(lx, AX_T_TEXT, lx->p + lx->at, lx->n - lx->at) !=
                   NULL;
        }

        char kind = lx->p[open + 1];
        char sign = open + 2 < lx->n ? lx->p[open + 2] : 0;

        if (!text_token(lx, open, sign, kind == '{')) {
            return false;
        }
        if (!(kind == '{'   ? output(lx)
              : kind == '%' ? block(lx)
                            : comment(lx))) {
            return false;
        }
    }
    return true;
}


struct ax_token *
ax_jinja_lex(struct ax_pool *pool, const char *source, size_t n,
             size_t *n_tokens, struct ax_parse_error *error)
{
    struct lexer lx = {
        .pool = pool, .error = error, .line = 1, .line_start = true};

    if (!copy_source(&lx, source, n) || !lex_all(&lx) ||
        token_add(&lx, AX_T_END, "", 0) == NULL) {
        return NULL;
    }
    *n_tokens = lx.n_tokens;
    return lx.tokens;
}
