/*
 * Regular expressions: text to nodes (regex.h).  A descent of three functions
 * for each group, AX_REGEX_DEPTH_MAX groups deep at most.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "engine/grammar/regex.h"
#include "engine/text/utf8.h"
#include "shm/request.h"

#define NONE      UINT32_MAX
#define LAST_CHAR 0x10ffffu

struct parser {
    struct ax_regex *re;
    const char *start, *at, *end;
    uint32_t depth;
    struct ax_error *err;
};

static int parse_alternatives(struct parser *p, uint32_t *out);


static int
fault(struct parser *p, const char *what)
{
    return ax_error_set(p->err, AXION_ERR_GRAMMAR_INVALID,
                        "regex, byte %zu: %s", (size_t)(p->at - p->start),
                        what);
}


static int
limit(struct parser *p, const char *what, unsigned bound)
{
    return ax_error_set(p->err, AXION_ERR_GRAMMAR_LIMIT,
                        "regex, byte %zu: %s, of %u",
                        (size_t)(p->at - p->start), what, bound);
}


static int
new_node(struct parser *p, enum ax_regex_kind kind, uint32_t *out)
{
    struct ax_regex *re = p->re;

    if (re->n_nodes == AX_REGEX_NODES_MAX) {
        return limit(p, "passes the limit of parts", AX_REGEX_NODES_MAX);
    }
    if (re->n_nodes == re->nodes_cap) {
        uint32_t cap = re->nodes_cap == 0 ? 32 : re->nodes_cap * 2;
        struct ax_regex_node *nodes = realloc(re->nodes, cap * sizeof(*nodes));
        if (nodes == NULL) {
            return ax_error_set(p->err, AXION_ERR_NO_MEMORY, "no memory");
        }
        re->nodes = nodes;
        re->nodes_cap = cap;
    }
    *out = re->n_nodes++;
    re->nodes[*out] = (struct ax_regex_node){
        .kind = (uint8_t)kind, .child = NONE, .sibling = NONE};
    return AXION_OK;
}


static int
add_range(struct parser *p, uint32_t first, uint32_t last)
{
    struct ax_regex *re = p->re;

    if (re->n_ranges == 4 * AX_REGEX_NODES_MAX) {
        return limit(p, "passes the limit of ranges", 4 * AX_REGEX_NODES_MAX);
    }
    if (re->n_ranges == re->ranges_cap) {
        uint32_t cap = re->ranges_cap == 0 ? 32 : re->ranges_cap * 2;
        struct ax_regex_range *r = realloc(re->ranges, cap * sizeof(*r));
        if (r == NULL) {
            return ax_error_set(p->err, AXION_ERR_NO_MEMORY, "no memory");
        }
        re->ranges = r;
        re->ranges_cap = cap;
    }
    re->ranges[re->n_ranges++] = (struct ax_regex_range){first, last};
    return AXION_OK;
}


/* ---- sets ---- */

static int
by_first(const void *a, const void *b)
{
    const struct ax_regex_range *x = a, *y = b;

    return x->first < y->first ? -1 : x->first > y->first;
}


/* The opposite of the sorted, joined ranges from `from` on, appended; they
 * are then moved to their place. */
static int
negate(struct parser *p, uint32_t from)
{
    struct ax_regex *re = p->re;
    uint32_t n = re->n_ranges - from, next = 0;

    for (uint32_t i = from; i < from + n; i++) {
        struct ax_regex_range r = re->ranges[i];
        if (r.first > next) {
            int rc = add_range(p, next, r.first - 1);
            if (rc != AXION_OK) {
                return rc;
            }
        }
        next = r.last + 1;
    }
    if (next <= LAST_CHAR) {
        int rc = add_range(p, next, LAST_CHAR);
        if (rc != AXION_OK) {
            return rc;
        }
    }
    uint32_t left = re->n_ranges - from - n;
    memmove(re->ranges + from, re->ranges + from + n,
            left * sizeof(*re->ranges));
    re->n_ranges = from + left;
    return AXION_OK;
}


static void
join(struct ax_regex *re, uint32_t from)
{
    uint32_t to = from;

    if (re->n_ranges == from) {
        return;
    }
    qsort(re->ranges + from, re->n_ranges - from, sizeof(*re->ranges),
          by_first);
    for (uint32_t i = from + 1; i < re->n_ranges; i++) {
        struct ax_regex_range r = re->ranges[i];
        if (r.first <= re->ranges[to].last + 1) {
            if (r.last > re->ranges[to].last) {
                re->ranges[to].last = r.last;
            }
        } else {
            re->ranges[++to] = r;
        }
    }
    re->n_ranges = to + 1;
}


/* Surrogates are no characters: a range around them becomes two. */
static int
drop_surrogates(struct parser *p, uint32_t from)
{
    struct ax_regex *re = p->re;

    for (uint32_t i = from; i < re->n_ranges; i++) {
        struct ax_regex_range r = re->ranges[i];
        if (r.last < 0xd800 || r.first > 0xdfff) {
            continue;
        }
        if (r.first < 0xd800 && r.last > 0xdfff) {
            re->ranges[i].last = 0xd7ff;
            int rc = add_range(p, 0xe000, r.last);
            if (rc != AXION_OK) {
                return rc;
            }
            join(re, from);
        } else if (r.first < 0xd800) {
            re->ranges[i].last = 0xd7ff;
        } else if (r.last > 0xdfff) {
            re->ranges[i].first = 0xe000;
        } else {
            memmove(re->ranges + i, re->ranges + i + 1,
                    (re->n_ranges - i - 1) * sizeof(*re->ranges));
            re->n_ranges--;
            i--;
        }
    }
    return AXION_OK;
}


static int
end_set(struct parser *p, uint32_t from, bool negated, uint32_t *out)
{
    struct ax_regex *re = p->re;

    join(re, from);
    int rc = negated ? negate(p, from) : AXION_OK;
    if (rc == AXION_OK) {
        rc = drop_surrogates(p, from);
    }
    if (rc != AXION_OK) {
        return rc;
    }
    if (re->n_ranges == from) {
        return fault(p, "a class that no character is in");
    }
    rc = new_node(p, AX_REGEX_SET, out);
    if (rc == AXION_OK) {
        struct ax_regex_node *node = &re->nodes[*out];
        node->first = from;
        node->n = re->n_ranges - from;
        node->min = node->max = 1;
    }
    return rc;
}


/* The well-known classes, in a negated one larger than all meanings of them:
 * what the opposite, which is smaller, leaves out. */
static int
add_named(struct parser *p, char name, bool negated, bool *known)
{
    static const struct {
        char name;
        uint8_t n;
        struct ax_regex_range ranges[14];
    } sets[] = {
        {'d', 1, {{'0', '9'}}},
        {'w', 4, {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}},
        {'s', 2, {{'\t', '\r'}, {' ', ' '}}},
        /* up to the first digit of another script */
        {'D', 2, {{0, '0' - 1}, {'9' + 1, 0x65f}}},
        {'W',
         5,
         {{0, '0' - 1}, {':', '@'}, {'[', '^'}, {'`', '`'}, {'{', 127}}},
        {'S',
         12,
         {{0, 8},
          {0xe, 0x1b},
          {'!', 0x84},
          {0x86, 0x9f},
          {0xa1, 0x167f},
          {0x1681, 0x1fff},
          {0x200b, 0x2027},
          {0x202a, 0x202e},
          {0x2030, 0x205e},
          {0x2060, 0x2fff},
          {0x3001, 0xfefe},
          {0xff00, LAST_CHAR}}},
    };

    uint32_t from = p->re->n_ranges;

    *known = false;
    if (negated && name != 0 && strchr("dwsDWS", name) != NULL) {
        name ^= 'a' ^ 'A';
    }
    for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
        if (sets[i].name != name) {
            continue;
        }
        *known = true;
        for (uint8_t k = 0; k < sets[i].n; k++) {
            int rc =
                add_range(p, sets[i].ranges[k].first, sets[i].ranges[k].last);
            if (rc != AXION_OK) {
                return rc;
            }
        }
        return negated ? negate(p, from) : AXION_OK;
    }
    return AXION_OK;
}


/* ---- characters ---- */

/* One character of the text, which is UTF-8. */
static uint32_t
take_char(struct parser *p)
{
    uint32_t c;

    p->at += ax_utf8_next(p->at, (size_t)(p->end - p->at), &c);
    return c;
}


static int
take_hex(struct parser *p, unsigned least, unsigned most, uint32_t *c)
{
    unsigned n = 0;

    for (*c = 0; n < most && p->at < p->end; n++, p->at++) {
        char d = *p->at;
        uint32_t v = d >= '0' && d <= '9'   ? (uint32_t)(d - '0')
                     : d >= 'a' && d <= 'f' ? (uint32_t)(d - 'a' + 10)
                     : d >= 'A' && d <= 'F' ? (uint32_t)(d - 'A' + 10)
                                            : 16;
        if (v == 16) {
            break;
        }
        *c = *c * 16 + v;
    }
    return n >= least ? AXION_OK : fault(p, "hexadecimal digits are expected");
}


/* Behind the backslash, for what is one character. */
static int
take_escape(struct parser *p, uint32_t *c)
{
    static const char from[] = "nrtfv", to[] = "\n\r\t\f\v";
    static const char plain[] = "^$\\.*+?()[]{}|/-\"' #&~,:;<>=!@%_`";
    const char *known;
    int rc;

    if (p->at == p->end) {
        return fault(p, "nothing behind the last backslash");
    }
    char d = *p->at;
    if (d != 0 && (known = strchr(from, d)) != NULL) {
        *c = (unsigned char)to[known - from];
    } else if (d != 0 && strchr(plain, d) != NULL) {
        *c = (unsigned char)d;
    } else if (d == '0' &&
               (p->end - p->at < 2 || p->at[1] < '0' || p->at[1] > '9')) {
        *c = 0;
    } else if (d == 'x') {
        p->at++;
        return take_hex(p, 2, 2, c);
    } else if (d == 'u' && p->end - p->at > 1 && p->at[1] == '{') {
        p->at += 2;
        rc = take_hex(p, 1, 6, c);
        if (rc == AXION_OK &&
            (p->at == p->end || *p->at++ != '}' || *c > LAST_CHAR)) {
            rc = fault(p, "no character");
        }
        return rc;
    } else if (d == 'u') {
        p->at++;
        return take_hex(p, 4, 4, c);
    } else if (d >= '1' && d <= '9') {
        return fault(p, "back references cannot be enforced");
    } else {
        return fault(p, "this escape cannot be enforced");
    }
    p->at++;
    return AXION_OK;
}


/* One member of a class; named: a class of its own was added. */
static int
take_member(struct parser *p, bool negated, uint32_t *c, bool *named)
{
    *named = false;
    if (*p->at != '\\') {
        *c = take_char(p);
        return AXION_OK;
    }
    p->at++;
    if (p->at < p->end && *p->at == 'b') { /* backspace, here */
        p->at++;
        *c = '\b';
        return AXION_OK;
    }
    int rc = p->at < p->end ? add_named(p, *p->at, negated, named) : AXION_OK;
    if (rc != AXION_OK || *named) {
        p->at += *named;
        return rc;
    }
    return take_escape(p, c);
}


/* Behind the opening bracket. */
static int
parse_class(struct parser *p, uint32_t *out)
{
    uint32_t from = p->re->n_ranges, first, last;
    bool negated = p->at < p->end && *p->at == '^', named;
    int rc;

    p->at += negated;
    if (p->at < p->end && *p->at == ']') {
        return fault(p, "\"]\" at the start of a class needs a backslash");
    }
    for (;;) {
        if (p->at == p->end) {
            return fault(p, "the class has no end");
        }
        if (*p->at == ']') {
            p->at++;
            return end_set(p, from, negated, out);
        }
        if (*p->at == '[') {
            return fault(p, "\"[\" within a class needs a backslash");
        }
        if ((rc = take_member(p, negated, &first, &named)) != AXION_OK) {
            return rc;
        }
        last = first;
        if (p->end - p->at > 1 && p->at[0] == '-' && p->at[1] != ']') {
            p->at++;
            if (named ||
                (rc = take_member(p, negated, &last, &named)) != AXION_OK) {
                return named || rc == AXION_OK
                           ? fault(p, "a range between classes")
                           : rc;
            }
            if (named || last < first) {
                return fault(p, "a range that is empty");
            }
        }
        if (!named && (rc = add_range(p, first, last)) != AXION_OK) {
            return rc;
        }
    }
}


/* ---- structure ---- */

static int
parse_group(struct parser *p, uint32_t *out)
{
    int rc;

    if (++p->depth > AX_REGEX_DEPTH_MAX) {
        return limit(p, "groups are nested deeper than the limit",
                     AX_REGEX_DEPTH_MAX);
    }
    if (p->at < p->end && *p->at == '?') {
        p->at++;
        if (p->at < p->end && *p->at == 'P') {
            p->at++;
        }
        if (p->end - p->at > 1 && *p->at == '<' && p->at[1] != '=' &&
            p->at[1] != '!') {
            while (p->at < p->end && *p->at != '>') {
                p->at++;
            }
        } else if (p->at == p->end || *p->at != ':') {
            return fault(p, "look-around, flags and the like cannot be "
                            "enforced");
        }
        p->at += p->at < p->end;
    }
    rc = parse_alternatives(p, out);
    if (rc != AXION_OK) {
        return rc;
    }
    if (p->at == p->end) {
        return fault(p, "the group has no end");
    }
    p->at++;
    p->depth--;
    return AXION_OK;
}


static int
single(struct parser *p, uint32_t c, uint32_t *out)
{
    uint32_t from = p->re->n_ranges;
    int rc = add_range(p, c, c);

    return rc == AXION_OK ? end_set(p, from, false, out) : rc;
}


static int
parse_atom(struct parser *p, uint32_t *out)
{
    uint32_t from = p->re->n_ranges, c;
    bool known = false;
    int rc;

    switch (*p->at) {
    case '(':
        p->at++;
        return parse_group(p, out);
    case '[':
        p->at++;
        return parse_class(p, out);
    case '.':
        p->at++;
        if ((rc = add_range(p, '\n', '\n')) != AXION_OK ||
            (rc = add_range(p, '\r', '\r')) != AXION_OK ||
            (rc = add_range(p, 0x2028, 0x2029)) != AXION_OK) {
            return rc;
        }
        return end_set(p, from, true, out);
    case '\\':
        p->at++;
        rc = p->at < p->end ? add_named(p, *p->at, false, &known) : AXION_OK;
        if (rc != AXION_OK) {
            return rc;
        }
        if (known) {
            p->at++;
            return end_set(p, from, false, out);
        }
        rc = take_escape(p, &c);
        return rc == AXION_OK ? single(p, c, out) : rc;
    case '*':
    case '+':
    case '?':
        return fault(p, "nothing to repeat");
    case '^':
    case '$':
        return fault(p, "anchors are enforced only at the ends of the "
                        "outermost alternatives");
    default:
        return single(p, take_char(p), out);
    }
}


static bool
take_count(struct parser *p, uint32_t *n)
{
    const char *from = p->at;

    for (*n = 0; p->at < p->end && *p->at >= '0' && *p->at <= '9'; p->at++) {
        *n = *n > AX_REGEX_REPEAT_MAX ? *n : *n * 10 + (uint32_t)(*p->at - '0');
    }
    return p->at > from;
}


/* A quantifier, if one stands here. */
static int
take_quantifier(struct parser *p, uint32_t *min, uint32_t *max, bool *some)
{
    *some = true;
    switch (p->at < p->end ? *p->at : 0) {
    case '*':
        *min = 0, *max = AX_REGEX_FOREVER;
        break;
    case '+':
        *min = 1, *max = AX_REGEX_FOREVER;
        break;
    case '?':
        *min = 0, *max = 1;
        break;
    case '{':
        p->at++;
        if (!take_count(p, min)) {
            return fault(p, "\"{\" needs a backslash, or a count");
        }
        *max = *min;
        if (p->at < p->end && *p->at == ',') {
            p->at++;
            if (!take_count(p, max)) {
                *max = AX_REGEX_FOREVER;
            }
        }
        if (p->at == p->end || *p->at != '}') {
            return fault(p, "the repetition has no end");
        }
        if (*min > *max) {
            return fault(p, "a repetition from more to fewer");
        }
        if (*min > AX_REGEX_REPEAT_MAX ||
            (*max > AX_REGEX_REPEAT_MAX && *max != AX_REGEX_FOREVER)) {
            return limit(p, "repeated more often than the limit",
                         AX_REGEX_REPEAT_MAX);
        }
        break;
    default:
        *some = false;
        return AXION_OK;
    }
    p->at++;
    if (p->at < p->end && *p->at == '?') {
        p->at++; /* lazy: the same language */
    }
    if (p->at < p->end && strchr("*+?{", *p->at) != NULL && *p->at != 0) {
        return fault(p, "a repetition of a repetition");
    }
    return AXION_OK;
}


static uint32_t
times(uint32_t length, uint32_t n)
{
    uint64_t product = (uint64_t)length * n;

    if (length == 0 || n == 0) {
        return 0;
    }
    return length == AX_REGEX_FOREVER || n == AX_REGEX_FOREVER ||
                   product >= AX_REGEX_FOREVER
               ? AX_REGEX_FOREVER
               : (uint32_t)product;
}


static uint32_t
plus(uint32_t a, uint32_t b)
{
    return b >= AX_REGEX_FOREVER - a ? AX_REGEX_FOREVER : a + b;
}


static int
parse_repeated(struct parser *p, uint32_t *out)
{
    uint32_t min = 1, max = 1, atom = 0;
    bool some;
    int rc = parse_atom(p, &atom);

    *out = atom;
    if (rc != AXION_OK ||
        (rc = take_quantifier(p, &min, &max, &some)) != AXION_OK || !some) {
        return rc;
    }
    rc = new_node(p, AX_REGEX_REPEAT, out);
    if (rc == AXION_OK) {
        struct ax_regex_node *node = &p->re->nodes[*out];
        node->child = atom;
        node->first = min;
        node->n = max;
        node->min = times(p->re->nodes[atom].min, min);
        node->max = times(p->re->nodes[atom].max, max);
    }
    return rc;
}


static bool
at_end(const struct parser *p)
{
    return p->at == p->end || *p->at == '|' || *p->at == ')';
}


static int
parse_cat(struct parser *p, uint32_t *out)
{
    bool outermost = p->depth == 0;
    uint32_t last = NONE, child;
    int rc = new_node(p, AX_REGEX_CAT, out);

    if (rc != AXION_OK) {
        return rc;
    }
    if (outermost && p->at < p->end && *p->at == '^') {
        p->at++;
        p->re->nodes[*out].from_start = true;
    }
    while (!at_end(p)) {
        if (outermost && *p->at == '$' &&
            (p->end - p->at == 1 || p->at[1] == '|')) {
            p->at++;
            p->re->nodes[*out].to_end = true;
            break;
        }
        if ((rc = parse_repeated(p, &child)) != AXION_OK) {
            return rc;
        }
        struct ax_regex_node *cat = &p->re->nodes[*out];
        if (last == NONE) {
            cat->child = child;
        } else {
            p->re->nodes[last].sibling = child;
        }
        last = child;
        cat->min = plus(cat->min, p->re->nodes[child].min);
        cat->max = plus(cat->max, p->re->nodes[child].max);
    }
    return AXION_OK;
}


static int
parse_alternatives(struct parser *p, uint32_t *out)
{
    uint32_t last = NONE, child;
    int rc = new_node(p, AX_REGEX_ALT, out);

    if (rc != AXION_OK) {
        return rc;
    }
    p->re->nodes[*out].min = AX_REGEX_FOREVER;
    for (;;) {
        if ((rc = parse_cat(p, &child)) != AXION_OK) {
            return rc;
        }
        struct ax_regex_node *alt = &p->re->nodes[*out];
        const struct ax_regex_node *cat = &p->re->nodes[child];
        if (last == NONE) {
            alt->child = child;
        } else {
            p->re->nodes[last].sibling = child;
        }
        last = child;
        alt->min = cat->min < alt->min ? cat->min : alt->min;
        alt->max = cat->max > alt->max ? cat->max : alt->max;
        if (p->at == p->end || *p->at != '|') {
            break;
        }
        p->at++;
    }
    return p->depth == 0 && p->at < p->end ? fault(p, "\")\" without \"(\"")
                                           : AXION_OK;
}


int
ax_regex_parse(struct ax_regex *re, const char *text, size_t bytes,
               struct ax_error *err)
{
    struct parser p = {
        .re = re, .start = text, .at = text, .end = text + bytes, .err = err};

    *re = (struct ax_regex){0};
    int rc = axion_utf8_valid(text, bytes) ? parse_alternatives(&p, &re->root)
                                           : fault(&p, "not UTF-8");
    if (rc != AXION_OK) {
        ax_regex_free(re);
    }
    return rc;
}


void
ax_regex_free(struct ax_regex *re)
{
    free(re->nodes);
    free(re->ranges);
    *re = (struct ax_regex){0};
}
