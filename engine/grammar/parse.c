/*
 * See parse.h.  The grammar of GBNF itself, as llama.cpp reads it: a rule
 * ends with its line unless a group is open; after ::= and | the line may
 * break.  Stricter than there: a rule has one definition, and the text is
 * UTF-8.
 */
#include "engine/grammar/parse.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "engine/text/utf8.h"

#define BUCKETS     1024u
#define RANGES_MAX  4096u /* of one class */
#define CODE_MAX    0x10ffffu
#define SURROGATE   0xd800u
#define BEYOND      0xe000u
#define REPEATS_MAX AX_GRAMMAR_NODES_MAX

struct parser {
    struct ax_gbnf *out;
    const char *text;
    size_t bytes;
    size_t at;
    uint32_t depth;
    uint32_t buckets[BUCKETS]; /* 1 + index of a rule */
    struct ax_error *err;
};


/* ---- errors and memory ---- */

static int
fail_at(struct parser *p, size_t at, int error, const char *what)
{
    uint32_t line = 1, column = 1;
    for (size_t i = 0; i < at; i++) {
        column++;
        if (p->text[i] == '\n') {
            line++;
            column = 1;
        }
    }
    return ax_error_set(p->err, error, "grammar, line %u, column %u: %s", line,
                        column, what);
}


static int
fail(struct parser *p, const char *what)
{
    return fail_at(p, p->at, AXION_ERR_GRAMMAR_INVALID, what);
}


static int
no_memory(struct parser *p)
{
    return ax_error_set(p->err, AXION_ERR_NO_MEMORY, "no memory for a grammar");
}


/* Room for one more of `size` bytes; the count is bounded by the text's. */
static bool
grow(void **array, uint32_t n, uint32_t *cap, size_t size)
{
    if (n < *cap) {
        return true;
    }
    uint32_t want = *cap < 64 ? 64 : 2 * *cap;
    void *more = realloc(*array, want * size);
    if (more == NULL) {
        return false;
    }
    *array = more;
    *cap = want;
    return true;
}


/* 0: no memory. */
static uint32_t
add_item(struct parser *p, struct ax_gbnf_item item)
{
    struct ax_gbnf *g = p->out;
    if (!grow((void **)&g->items, g->n_items, &g->items_cap,
              sizeof(*g->items))) {
        return 0;
    }
    g->items[g->n_items] = item;
    return g->n_items++;
}


static bool
add_range(struct ax_gbnf *g, uint32_t first, uint32_t last)
{
    if (!grow((void **)&g->ranges, g->n_ranges, &g->ranges_cap,
              sizeof(*g->ranges))) {
        return false;
    }
    g->ranges[g->n_ranges++] = (struct ax_gbnf_range){first, last};
    return true;
}


/* ---- characters ---- */

static int
peek(const struct parser *p)
{
    return p->at < p->bytes ? (unsigned char)p->text[p->at] : -1;
}


static bool
starts_with(const struct parser *p, const char *what)
{
    size_t n = strlen(what);
    return p->bytes - p->at >= n && memcmp(p->text + p->at, what, n) == 0;
}


static void
skip_space(struct parser *p, bool lines)
{
    for (;; p->at++) {
        int c = peek(p);
        if (c == '#') {
            while (peek(p) >= 0 && peek(p) != '\n' && peek(p) != '\r') {
                p->at++;
            }
            c = peek(p);
        }
        if (c != ' ' && c != '\t' && (!lines || (c != '\n' && c != '\r'))) {
            return;
        }
    }
}


static int
hex_value(int c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}


static int
parse_hex(struct parser *p, uint32_t n, uint32_t *code)
{
    *code = 0;
    for (uint32_t i = 0; i < n; i++, p->at++) {
        int digit = hex_value(peek(p));
        if (digit < 0) {
            return fail(p, "an escape has too few hexadecimal digits");
        }
        *code = *code << 4 | (uint32_t)digit;
    }
    if (*code > CODE_MAX || (*code >= SURROGATE && *code < BEYOND)) {
        return fail(p, "an escape is no Unicode character");
    }
    return AXION_OK;
}


static int
parse_escape(struct parser *p, uint32_t *code)
{
    static const char plain[] = "\\\"[]-^";
    int c = peek(p);
    p->at += c >= 0;
    switch (c) {
    case 'x':
        return parse_hex(p, 2, code);
    case 'u':
        return parse_hex(p, 4, code);
    case 'U':
        return parse_hex(p, 8, code);
    case 'n':
        *code = '\n';
        return AXION_OK;
    case 'r':
        *code = '\r';
        return AXION_OK;
    case 't':
        *code = '\t';
        return AXION_OK;
    default:
        if (c <= 0 || strchr(plain, c) == NULL) {
            return fail(p, "an unknown escape");
        }
        *code = (uint32_t)c;
        return AXION_OK;
    }
}


static int
parse_character(struct parser *p, uint32_t *code)
{
    if (p->at == p->bytes) {
        return fail(p, "the text ends within a string or a class");
    }
    if (peek(p) == '\\') {
        p->at++;
        return parse_escape(p, code);
    }
    p->at += ax_utf8_next(p->text + p->at, p->bytes - p->at, code);
    return AXION_OK;
}


/* ---- classes ---- */

static int
by_first(const void *a, const void *b)
{
    const struct ax_gbnf_range *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}


/* Sorts and joins ranges[first ..]. */
static void
tidy(struct ax_gbnf *g, uint32_t first)
{
    uint32_t n = g->n_ranges - first, m = 0;
    if (n == 0) {
        return;
    }
    struct ax_gbnf_range *r = g->ranges + first;
    qsort(r, n, sizeof(*r), by_first);
    for (uint32_t i = 1; i < n; i++) {
        if (r[i].first <= r[m].last + 1) {
            r[m].last = r[i].last > r[m].last ? r[i].last : r[m].last;
        } else {
            r[++m] = r[i];
        }
    }
    g->n_ranges = first + m + 1;
}


/* All but ranges[first ..], which are tidy. */
static bool
negate(struct ax_gbnf *g, uint32_t first)
{
    uint32_t end = g->n_ranges, from = 0;
    for (uint32_t i = first; i < end; i++) {
        struct ax_gbnf_range r = g->ranges[i];
        if (r.first > from && !add_range(g, from, r.first - 1)) {
            return false;
        }
        from = r.last + 1;
    }
    if (from <= CODE_MAX && !add_range(g, from, CODE_MAX)) {
        return false;
    }
    uint32_t n = g->n_ranges - end;
    if (n > 0) {
        memmove(g->ranges + first, g->ranges + end, n * sizeof(*g->ranges));
    }
    g->n_ranges = first + n;
    return true;
}


/* Takes the surrogates out of ranges[first ..], which are tidy. */
static bool
without_surrogates(struct ax_gbnf *g, uint32_t first)
{
    uint32_t end = g->n_ranges, m = first;
    for (uint32_t i = first; i < end; i++) {
        struct ax_gbnf_range r = g->ranges[i];
        if (r.first < SURROGATE && r.last >= BEYOND) {
            if (!add_range(g, BEYOND, r.last)) {
                return false;
            }
            r.last = SURROGATE - 1;
        } else if (r.first >= SURROGATE && r.first < BEYOND) {
            r.first = BEYOND;
        } else if (r.last >= SURROGATE && r.last < BEYOND) {
            r.last = SURROGATE - 1;
        }
        if (r.first <= r.last) {
            g->ranges[m++] = r;
        }
    }
    uint32_t n = g->n_ranges - end;
    if (n > 0) {
        memmove(g->ranges + m, g->ranges + end, n * sizeof(*g->ranges));
    }
    g->n_ranges = m + n;
    tidy(g, first);
    return true;
}


static uint32_t
add_class(struct parser *p, uint32_t first)
{
    return add_item(p, (struct ax_gbnf_item){.kind = AX_GBNF_CLASS,
                                             .depth = 1,
                                             .first = first,
                                             .n = p->out->n_ranges - first});
}


static int
parse_ranges(struct parser *p, uint32_t begin)
{
    int rc;
    while (peek(p) != ']') {
        uint32_t first, last;
        if ((rc = parse_character(p, &first)) != AXION_OK) {
            return rc;
        }
        last = first;
        if (starts_with(p, "-") && !starts_with(p, "-]")) {
            p->at++;
            if ((rc = parse_character(p, &last)) != AXION_OK) {
                return rc;
            }
        }
        if (last < first) {
            return fail(p, "a range ends before it begins");
        }
        if (p->out->n_ranges - begin >= RANGES_MAX) {
            return fail_at(p, p->at, AXION_ERR_GRAMMAR_LIMIT,
                           "a class has too many ranges");
        }
        if (!add_range(p->out, first, last)) {
            return no_memory(p);
        }
    }
    p->at++;
    return AXION_OK;
}


static int
parse_class(struct parser *p, uint32_t *item)
{
    uint32_t begin = p->out->n_ranges;
    p->at++;
    bool negated = peek(p) == '^';
    p->at += negated;
    int rc = parse_ranges(p, begin);
    if (rc != AXION_OK) {
        return rc;
    }
    tidy(p->out, begin);
    if ((negated && !negate(p->out, begin)) ||
        !without_surrogates(p->out, begin) ||
        (*item = add_class(p, begin)) == 0) {
        return no_memory(p);
    }
    return AXION_OK;
}


static int
parse_any(struct parser *p, uint32_t *item)
{
    uint32_t begin = p->out->n_ranges;
    p->at++;
    if (!add_range(p->out, 0, CODE_MAX) || !without_surrogates(p->out, begin) ||
        (*item = add_class(p, begin)) == 0) {
        return no_memory(p);
    }
    return AXION_OK;
}


/* ---- items ---- */

/* A list of siblings that grows at its end. */
struct list {
    uint32_t first, last, n, depth;
};


static void
append(struct parser *p, struct list *list, uint32_t item)
{
    struct ax_gbnf_item *items = p->out->items;
    if (list->n++ == 0) {
        list->first = item;
    } else {
        items[list->last].sibling = item;
    }
    list->last = item;
    if (items[item].depth > list->depth) {
        list->depth = items[item].depth;
    }
}


static int
close_list(struct parser *p, const struct list *list, enum ax_gbnf_kind kind,
           uint32_t *item)
{
    if (list->n == 1) {
        *item = list->first;
        return AXION_OK;
    }
    struct ax_gbnf_item all = {.kind = AX_GBNF_EMPTY, .depth = 1};
    if (list->n > 0) {
        all.kind = (uint8_t)kind;
        all.depth = (uint8_t)(list->depth + 1);
        all.child = list->first;
    }
    if (all.depth > AX_GRAMMAR_DEPTH_MAX) {
        return fail_at(p, p->at, AXION_ERR_GRAMMAR_LIMIT,
                       "groups are nested too deeply");
    }
    *item = add_item(p, all);
    return *item != 0 ? AXION_OK : no_memory(p);
}


static int
parse_string(struct parser *p, uint32_t *item)
{
    struct list list = {0};
    p->at++;
    while (peek(p) != '"') {
        uint32_t code, one, begin = p->out->n_ranges;
        int rc = parse_character(p, &code);
        if (rc != AXION_OK) {
            return rc;
        }
        if (!add_range(p->out, code, code) ||
            (one = add_class(p, begin)) == 0) {
            return no_memory(p);
        }
        append(p, &list, one);
    }
    p->at++;
    return close_list(p, &list, AX_GBNF_SEQUENCE, item);
}


static bool
is_word(int c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
           (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
}


static int
parse_name(struct parser *p, uint32_t *rule)
{
    struct ax_gbnf *g = p->out;
    const char *name = p->text + p->at;
    uint32_t n = 0, hash = 2166136261u;
    for (; is_word(peek(p)); p->at++, n++) {
        hash = (hash ^ (uint32_t)peek(p)) * 16777619u;
    }
    if (n == 0) {
        return fail(p, "a rule's name is expected");
    }
    uint32_t *bucket = &p->buckets[hash % BUCKETS];
    for (uint32_t i = *bucket; i != 0; i = g->rules[i - 1].chain) {
        if (g->rules[i - 1].bytes == n &&
            memcmp(g->rules[i - 1].name, name, n) == 0) {
            *rule = i - 1;
            return AXION_OK;
        }
    }
    if (g->n_rules >= AX_GRAMMAR_RULES_MAX) {
        return fail_at(p, p->at, AXION_ERR_GRAMMAR_LIMIT, "too many rules");
    }
    if (!grow((void **)&g->rules, g->n_rules, &g->rules_cap,
              sizeof(*g->rules))) {
        return no_memory(p);
    }
    *rule = g->n_rules++;
    g->rules[*rule] = (struct ax_gbnf_rule){name, n, 0, *bucket};
    *bucket = *rule + 1;
    return AXION_OK;
}


static int parse_alternatives(struct parser *p, bool nested, uint32_t *item);


static int
parse_group(struct parser *p, uint32_t *item)
{
    if (++p->depth > AX_GRAMMAR_DEPTH_MAX) {
        return fail_at(p, p->at, AXION_ERR_GRAMMAR_LIMIT,
                       "groups are nested too deeply");
    }
    p->at++;
    skip_space(p, true);
    int rc = parse_alternatives(p, true, item);
    if (rc == AXION_OK && peek(p) != ')') {
        rc = fail(p, "a ) is expected");
    }
    p->at++;
    p->depth--;
    return rc;
}


static int
parse_primary(struct parser *p, uint32_t *item)
{
    uint32_t rule;
    int rc;
    switch (peek(p)) {
    case '"':
        return parse_string(p, item);
    case '[':
        return parse_class(p, item);
    case '(':
        return parse_group(p, item);
    case '.':
        return parse_any(p, item);
    default:
        if ((rc = parse_name(p, &rule)) != AXION_OK) {
            return rc;
        }
        *item =
            add_item(p, (struct ax_gbnf_item){
                            .kind = AX_GBNF_RULE, .depth = 1, .first = rule});
        return *item != 0 ? AXION_OK : no_memory(p);
    }
}


/* ---- repetition ---- */

static int
parse_number(struct parser *p, uint32_t *value)
{
    uint32_t n = 0;
    for (*value = 0; peek(p) >= '0' && peek(p) <= '9'; p->at++, n++) {
        *value = *value * 10 + (uint32_t)(peek(p) - '0');
        if (*value > REPEATS_MAX) {
            return fail_at(p, p->at, AXION_ERR_GRAMMAR_LIMIT,
                           "a repetition is too long");
        }
    }
    return n > 0 ? AXION_OK : fail(p, "a number is expected");
}


/* Behind the {. */
static int
parse_bounds(struct parser *p, uint32_t *min, uint32_t *max)
{
    skip_space(p, true);
    int rc = parse_number(p, min);
    if (rc != AXION_OK) {
        return rc;
    }
    *max = *min;
    skip_space(p, true);
    if (peek(p) == ',') {
        p->at++;
        skip_space(p, true);
        *max = AX_GBNF_FOREVER;
        if (peek(p) != '}' && (rc = parse_number(p, max)) != AXION_OK) {
            return rc;
        }
        skip_space(p, true);
    }
    if (peek(p) != '}') {
        return fail(p, "a } is expected");
    }
    if (*max < *min) {
        return fail(p, "a repetition ends before it begins");
    }
    p->at++;
    return AXION_OK;
}


/* Any number of * + ? {} behind an item. */
static int
parse_repeats(struct parser *p, bool nested, uint32_t *item)
{
    for (;; skip_space(p, nested)) {
        uint32_t min = 0, max = AX_GBNF_FOREVER;
        int c = peek(p), rc;
        if (c != '*' && c != '+' && c != '?' && c != '{') {
            return AXION_OK;
        }
        p->at++;
        min = c == '+';
        max = c == '?' ? 1 : max;
        if (c == '{' && (rc = parse_bounds(p, &min, &max)) != AXION_OK) {
            return rc;
        }
        struct ax_gbnf_item repeat = {
            .kind = AX_GBNF_REPEAT,
            .depth = (uint8_t)(p->out->items[*item].depth + 1),
            .child = *item,
            .first = min,
            .n = max,
        };
        if (repeat.depth > AX_GRAMMAR_DEPTH_MAX) {
            return fail_at(p, p->at, AXION_ERR_GRAMMAR_LIMIT,
                           "repetitions are nested too deeply");
        }
        if ((*item = add_item(p, repeat)) == 0) {
            return no_memory(p);
        }
    }
}


/* ---- rules ---- */

static bool
begins_item(int c)
{
    return c == '"' || c == '[' || c == '(' || c == '.' || is_word(c);
}


static int
parse_sequence(struct parser *p, bool nested, uint32_t *item)
{
    struct list list = {0};
    while (begins_item(peek(p))) {
        uint32_t one;
        int rc = parse_primary(p, &one);
        if (rc != AXION_OK) {
            return rc;
        }
        skip_space(p, nested);
        if ((rc = parse_repeats(p, nested, &one)) != AXION_OK) {
            return rc;
        }
        append(p, &list, one);
    }
    return close_list(p, &list, AX_GBNF_SEQUENCE, item);
}


static int
parse_alternatives(struct parser *p, bool nested, uint32_t *item)
{
    struct list list = {0};
    for (;;) {
        uint32_t one;
        int rc = parse_sequence(p, nested, &one);
        if (rc != AXION_OK) {
            return rc;
        }
        append(p, &list, one);
        if (peek(p) != '|') {
            return close_list(p, &list, AX_GBNF_ALTERNATIVES, item);
        }
        p->at++;
        skip_space(p, true);
    }
}


static int
parse_rule(struct parser *p)
{
    size_t at = p->at;
    uint32_t rule, item;
    int rc = parse_name(p, &rule);
    if (rc != AXION_OK) {
        return rc;
    }
    skip_space(p, false);
    if (!starts_with(p, "::=")) {
        return fail(p, "::= is expected");
    }
    if (p->out->rules[rule].item != 0) {
        return fail_at(p, at, AXION_ERR_GRAMMAR_INVALID,
                       "the rule is defined twice");
    }
    p->at += 3;
    skip_space(p, true);
    if ((rc = parse_alternatives(p, false, &item)) != AXION_OK) {
        return rc;
    }
    p->out->rules[rule].item = item;
    if (p->at < p->bytes && peek(p) != '\n' && peek(p) != '\r') {
        return fail(p, "a string, class, group or rule is expected");
    }
    return AXION_OK;
}


/* Every rule that is used has to be there, and root. */
static int
find_rules(struct parser *p)
{
    struct ax_gbnf *g = p->out;
    char name[64];
    bool root = false;
    for (uint32_t i = 0; i < g->n_rules; i++) {
        const struct ax_gbnf_rule *rule = &g->rules[i];
        if (rule->item == 0) {
            ax_error_escape(name, sizeof(name), rule->name, rule->bytes);
            return ax_error_set(p->err, AXION_ERR_GRAMMAR_INVALID,
                                "grammar: the rule \"%s\" is not defined",
                                name);
        }
        if (rule->bytes == 4 && memcmp(rule->name, "root", 4) == 0) {
            g->root = i;
            root = true;
        }
    }
    return root ? AXION_OK
                : ax_error_set(p->err, AXION_ERR_GRAMMAR_INVALID,
                               "grammar: there is no rule \"root\"");
}


int
ax_gbnf_parse(struct ax_gbnf *gbnf, const char *text, size_t bytes,
              struct ax_error *err)
{
    struct parser p = {.out = gbnf, .text = text, .bytes = bytes, .err = err};
    *gbnf = (struct ax_gbnf){0};
    if (bytes > AX_GRAMMAR_BYTES_MAX) {
        return ax_error_set(err, AXION_ERR_GRAMMAR_LIMIT,
                            "the grammar has more than %u bytes",
                            AX_GRAMMAR_BYTES_MAX);
    }
    if (!ax_utf8_valid(text, bytes)) {
        return ax_error_set(err, AXION_ERR_GRAMMAR_INVALID,
                            "the grammar is not UTF-8");
    }
    add_item(&p, (struct ax_gbnf_item){0}); /* [0] */
    if (gbnf->n_items == 0) {
        return no_memory(&p);
    }
    for (skip_space(&p, true); p.at < bytes; skip_space(&p, true)) {
        int rc = parse_rule(&p);
        if (rc != AXION_OK) {
            return rc;
        }
    }
    return find_rules(&p);
}


void
ax_gbnf_free(struct ax_gbnf *gbnf)
{
    free(gbnf->items);
    free(gbnf->ranges);
    free(gbnf->rules);
    *gbnf = (struct ax_gbnf){0};
}
