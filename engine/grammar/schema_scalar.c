/*
 * Values that are no containers: enum and const, strings, bounds of numbers.
 *
 * Formats are patterns; a format is here if its pattern lets nothing through
 * that the format forbids (it may be narrower: years have four digits, months
 * their own number of days, host names letters and digits).
 */
#include <stdlib.h>
#include <string.h>
#include "engine/grammar/regex.h"
#include "engine/grammar/schema_private.h"

#define BOUND_DIGITS_MAX 9u
#define INTEGER_USUAL    9999999999999999ll /* as the rule `integer` */
#define INTEGER_MOST     999999999999999999ll

#define YEAR "[1-9][0-9]{3}"
#define LEAP                                                                   \
    "([1-9][0-9](0[48]|[2468][048]|[13579][26])|([2468][048]|[13579][26])00)"
#define DATE                                                                   \
    "(" YEAR "-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]" \
    "|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))|" LEAP "-02-29)"
#define TIME                                                                   \
    "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?"                 \
    "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define BYTE  "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
#define LABEL "[A-Za-z0-9]([A-Za-z0-9-]{0,28}[A-Za-z0-9])?"
#define HOST  LABEL "(\\." LABEL "){0,5}"
#define HEX4  "[0-9a-fA-F]{4}"

static const struct {
    const char *name;
    const char *pattern; /* NULL: it says nothing about strings */
} formats[] = {
    {"date", "^" DATE "$"},
    {"time", "^" TIME "$"},
    {"date-time", "^" DATE "T" TIME "$"},
    {"duration", "^P([0-9]{1,4}Y([0-9]{1,2}M([0-9]{1,2}D)?)?|[0-9]{1,2}M"
                 "([0-9]{1,2}D)?|[0-9]{1,4}D|[0-9]{1,4}W|T([0-9]{1,4}H("
                 "[0-9]{1,2}M([0-9]{1,2}S)?)?|[0-9]{1,4}M([0-9]{1,2}S)?|"
                 "[0-9]{1,4}S))$"},
    {"uuid", "^" HEX4 HEX4 "-" HEX4 "-" HEX4 "-" HEX4 "-" HEX4 HEX4 HEX4 "$"},
    {"email", "^[A-Za-z0-9_+-]{1,30}(\\.[A-Za-z0-9_+-]{1,30}){0,1}@" LABEL
              "(\\." LABEL "){0,2}\\.[A-Za-z]{2,10}$"},
    {"hostname", "^" HOST "$"},
    {"ipv4", "^" BYTE "(\\." BYTE "){3}$"},
    {"ipv6", "^([0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}$"},
    {"uri", "^https?://" HOST "(:[1-9][0-9]{0,3})?(/[A-Za-z0-9._~-]{0,60})"
            "{0,10}(\\?[A-Za-z0-9._~=&-]{0,100})?(#[A-Za-z0-9._~-]{0,60})?$"},
    {"int32", NULL},
    {"int64", NULL},
    {"float", NULL},
    {"double", NULL},
};


/* ---- enum, const ---- */

static uint32_t
next_literal(const struct compiler *c, uint32_t list, uint32_t at)
{
    bool is_enum = c->json.nodes[list].key_bytes == 4; /* and not const */

    if (at == NONE) {
        return is_enum ? c->json.nodes[list].child : list;
    }
    return is_enum ? c->json.nodes[at].next : NONE;
}


static uint32_t
literal_list(const struct compiler *c, const struct view *view, uint32_t i,
             int which)
{
    return view_get(c, view, i, which == 0 ? "const" : "enum");
}


static bool
list_has(const struct compiler *c, uint32_t list, uint32_t value)
{
    for (uint32_t i = next_literal(c, list, NONE); i != NONE;
         i = next_literal(c, list, i)) {
        if (ax_json_equal(&c->json, i, value)) {
            return true;
        }
    }
    return false;
}


/* Steps of comparing it with another: members are looked for one by one, so
 * an object of n costs n * n. */
static uint64_t
cost_of(const struct compiler *c, uint32_t value)
{
    const struct ax_json_node *n = &c->json.nodes[value];
    uint64_t cost =
        1 + (n->kind == AX_JSON_OBJECT ? (uint64_t)n->n * n->n / 4 : 0);

    for (uint32_t i = n->child; i != NONE; i = c->json.nodes[i].next) {
        cost += cost_of(c, i);
    }
    return cost;
}


static int
spend_comparing(struct compiler *c, uint32_t value, uint32_t list)
{
    bool is_enum = c->json.nodes[list].key_bytes == 4;
    uint64_t n = is_enum ? c->json.nodes[list].n : 1;
    uint64_t cost = cost_of(c, value) * n;

    return spend(c, cost < STEPS_MAX ? (uint32_t)cost : STEPS_MAX + 1);
}


/* Is a value of `own`, an enum or const, in all the others? */
static int
held_by_all(struct compiler *c, const struct view *view, uint32_t own,
            uint32_t value, bool *held)
{
    int rc = spend_view(c, view);

    if (rc != AXION_OK) {
        return rc;
    }
    *held = (type_of_value(c, value) & view_types(c, view)) != 0;
    for (uint32_t i = 0; *held && i < view->n; i++) {
        for (int which = 0; *held && which < 2; which++) {
            uint32_t list = literal_list(c, view, i, which);
            if (list == NONE || list == own) {
                continue;
            }
            if ((rc = spend_comparing(c, value, list)) != AXION_OK) {
                return rc;
            }
            *held = list_has(c, list, value);
        }
    }
    return AXION_OK;
}


/* As deep as the text is nested. */
static void
put_value(struct compiler *c, uint32_t node)
{
    static const char *const words[] = {"null", "false", "true"};
    const struct ax_json_node *n = &c->json.nodes[node];
    const char *text = c->json.text + n->text;

    switch (n->kind) {
    case AX_JSON_STRING:
        ax_gbnf_json_string(c->out, text, n->bytes);
        return;
    case AX_JSON_NUMBER:
        ax_gbnf_literal(c->out, text, n->bytes);
        return;
    case AX_JSON_ARRAY:
    case AX_JSON_OBJECT:
        break;
    default:
        ax_gbnf_literal(c->out, words[n->kind], strlen(words[n->kind]));
        return;
    }
    bool object = n->kind == AX_JSON_OBJECT;
    ax_gbnf_put(c->out, object ? "\"{\"" : "\"[\"", 3);
    for (uint32_t i = n->child; i != NONE; i = c->json.nodes[i].next) {
        const struct ax_json_node *m = &c->json.nodes[i];
        ax_gbnf_put(c->out, " \",\" sp ", i == n->child ? 1 : 8);
        if (object) {
            ax_gbnf_json_string(c->out, c->json.text + m->key, m->key_bytes);
            ax_gbnf_put(c->out, " \":\" sp ", 8);
        }
        put_value(c, i);
    }
    ax_gbnf_put(c->out, object ? " \"}\"" : " \"]\"", 4);
}


/* Beside values that are spelled out nothing else is looked at. */
static int
check_alone(struct compiler *c, const struct view *view)
{
    static const char *const fine[] = {"type", "enum", "const", "nullable"};

    for (uint32_t i = 0; i < view->n; i++) {
        for (uint32_t m = c->json.nodes[view->nodes[i]].child; m != NONE;
             m = c->json.nodes[m].next) {
            const struct ax_json_node *member = &c->json.nodes[m];
            bool alone = false;
            for (size_t k = 0; k < sizeof(fine) / sizeof(fine[0]); k++) {
                alone |= strlen(fine[k]) == member->key_bytes &&
                         memcmp(fine[k], c->json.text + member->key,
                                member->key_bytes) == 0;
            }
            if (!alone && keyword_asserts(c, m)) {
                return refuse_keyword(
                    c, m, "cannot be enforced beside enum or const");
            }
        }
    }
    return AXION_OK;
}


int
write_literals(struct compiler *c, const struct view *view, bool *some)
{
    uint32_t list = NONE;
    bool first = true, held;

    for (uint32_t i = 0; list == NONE && i < view->n; i++) {
        list = literal_list(c, view, i, 0);
        list = list != NONE ? list : literal_list(c, view, i, 1);
    }
    *some = list != NONE;
    if (list == NONE) {
        return AXION_OK;
    }
    int rc = check_alone(c, view);
    for (uint32_t i = next_literal(c, list, NONE); rc == AXION_OK && i != NONE;
         i = next_literal(c, list, i)) {
        rc = held_by_all(c, view, list, i, &held);
        if (rc == AXION_OK && held) {
            ax_gbnf_put(c->out, " | ", first ? 0 : 3);
            first = false;
            put_value(c, i);
        }
    }
    return rc == AXION_OK && first
               ? refuse_keyword(c, list, "has no value that the rest allows")
               : rc;
}


/* Both are told apart by values that are spelled out, and are scalars. */
bool
literals_differ(struct compiler *c, const struct view *a, const struct view *b)
{
    uint32_t lists[2] = {NONE, NONE};
    const struct view *views[2] = {a, b};

    for (int v = 0; v < 2; v++) {
        for (uint32_t i = 0; lists[v] == NONE && i < views[v]->n; i++) {
            lists[v] = literal_list(c, views[v], i, 0);
            lists[v] =
                lists[v] != NONE ? lists[v] : literal_list(c, views[v], i, 1);
        }
        if (lists[v] == NONE) {
            return false;
        }
    }
    for (uint32_t i = next_literal(c, lists[0], NONE); i != NONE;
         i = next_literal(c, lists[0], i)) {
        if (c->json.nodes[i].kind >= AX_JSON_ARRAY ||
            spend(c, 1 + c->json.nodes[lists[1]].n) != AXION_OK ||
            list_has(c, lists[1], i)) {
            return false;
        }
    }
    return true;
}


/* ---- counts ---- */

static uint32_t
count_of(const struct compiler *c, uint32_t keyword)
{
    const struct ax_json_node *n = &c->json.nodes[keyword];
    uint32_t count = 0;

    for (uint32_t i = 0; i < n->bytes && count <= COUNT_MAX; i++) {
        count = count * 10 + (uint32_t)(c->json.text[n->text + i] - '0');
    }
    return count;
}


int
view_counts(struct compiler *c, const struct view *view, const char *least,
            const char *most, uint32_t *min, uint32_t *max)
{
    *min = 0;
    *max = AX_REGEX_FOREVER;
    for (uint32_t i = 0; i < view->n; i++) {
        uint32_t low = view_get(c, view, i, least);
        uint32_t high = view_get(c, view, i, most);
        if (low != NONE && count_of(c, low) > *min) {
            *min = count_of(c, low);
        }
        if (low != NONE && *min > COUNT_MAX) {
            return refuse_keyword(c, low, "is too large to be enforced");
        }
        if (high != NONE && count_of(c, high) < *max) {
            *max = count_of(c, high);
        }
        if (high != NONE && *max > COUNT_MAX) {
            return refuse_keyword(c, high, "is too large to be enforced");
        }
    }
    return *min <= *max ? AXION_OK
                        : refuse(c, view->nodes[0],
                                 "a least number is above the largest");
}


/* ---- strings ---- */

static int
pattern_of(struct compiler *c, uint32_t keyword, const char **pattern,
           size_t *bytes)
{
    const struct ax_json_node *n = &c->json.nodes[keyword];

    *pattern = c->json.text + n->text;
    *bytes = n->bytes;
    if (c->json.text[n->key] == 'p') {
        return AXION_OK;
    }
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        if (ax_json_text_is(&c->json, keyword, formats[i].name)) {
            *pattern = formats[i].pattern;
            *bytes = *pattern != NULL ? strlen(*pattern) : 0;
            return AXION_OK;
        }
    }
    return refuse_keyword(c, keyword, "of this name cannot be enforced");
}


static int
write_pattern(struct compiler *c, uint32_t keyword, const char *pattern,
              size_t bytes, uint32_t min, uint32_t max)
{
    struct ax_error why = {0};
    struct ax_regex re;
    bool wants_char = false;
    int rc = spend(c, 8 * (uint32_t)bytes); /* also of what is not written */

    if (rc != AXION_OK) {
        return rc;
    }
    rc = ax_regex_parse(&re, pattern, bytes, &why);
    if (rc == AXION_ERR_GRAMMAR_INVALID) {
        return refuse_keyword(c, keyword, why.text);
    }
    if (rc != AXION_OK) {
        return ax_error_set(c->err, rc, "schema: %s", why.text);
    }
    if (ax_regex_clamp(&re, min, max)) {
        ax_gbnf_put(c->out, "\"\\\"\" (", 6);
        ax_regex_write(&re, AX_REGEX_JSON_SEARCH, c->out, &wants_char);
        ax_gbnf_put(c->out, ") \"\\\"\"", 6);
    } else {
        rc = refuse_keyword(c, keyword,
                            "cannot be enforced together with minLength or "
                            "maxLength");
    }
    ax_regex_free(&re);
    return rc;
}


int
write_string(struct compiler *c, const struct view *view)
{
    static const char *const names[] = {"pattern", "format"};
    uint32_t min, max, keyword = NONE;
    const char *pattern = NULL;
    size_t bytes = 0;
    int rc = view_counts(c, view, "minLength", "maxLength", &min, &max);

    for (uint32_t i = 0; rc == AXION_OK && i < view->n; i++) {
        for (int k = 0; rc == AXION_OK && k < 2; k++) {
            uint32_t found = view_get(c, view, i, names[k]);
            const char *text;
            size_t n;
            if (found == NONE ||
                (rc = pattern_of(c, found, &text, &n)) != AXION_OK ||
                text == NULL) {
                continue;
            }
            if (keyword != NONE) {
                return refuse_keyword(c, found,
                                      "cannot be enforced beside another "
                                      "pattern or format");
            }
            keyword = found;
            pattern = text;
            bytes = n;
        }
    }
    if (rc != AXION_OK) {
        return rc;
    }
    if (keyword != NONE) {
        return write_pattern(c, keyword, pattern, bytes, min, max);
    }
    if (min == 0 && max == AX_REGEX_FOREVER) {
        ax_gbnf_put(c->out, "string", 6);
    } else if (max == AX_REGEX_FOREVER) {
        ax_gbnf_printf(c->out, "\"\\\"\" char{%u,} \"\\\"\"", min);
    } else if (max == 0) {
        ax_gbnf_put(c->out, "\"\\\"\\\"\"", 6);
    } else {
        ax_gbnf_printf(c->out, "\"\\\"\" char{%u,%u} \"\\\"\"", min, max);
    }
    return AXION_OK;
}


/* ---- numbers ---- */

/* As it is written, exactly. */
static int
read_bound(struct compiler *c, uint32_t keyword, bool exclusive,
           struct bound *b)
{
    const struct ax_json_node *n = &c->json.nodes[keyword];
    const char *text = c->json.text + n->text, *end = text + n->bytes;
    bool negative = *text == '-', behind_point = false;
    long exponent = 0;
    int64_t number = 0;
    long digits = 0;
    bool fits = true;

    for (text += negative; text < end && *text != 'e' && *text != 'E'; text++) {
        if (*text == '.') {
            behind_point = true;
            continue;
        }
        fits &= number <= INTEGER_MOST / 10 - 1;
        number = fits ? number * 10 + (*text - '0') : number;
        digits += behind_point;
    }
    if (text < end) {
        exponent = strtol(text + 1, NULL, 10);
        fits &= exponent > -1000 && exponent < 1000;
    }
    for (digits -= exponent; fits && digits < 0; digits++) {
        fits = number <= INTEGER_MOST / 10 - 1;
        number *= 10;
    }
    for (; fits && digits > 0 && number % 10 == 0; digits--) {
        number /= 10;
    }
    if (!fits || digits > (long)BOUND_DIGITS_MAX) {
        return refuse_keyword(c, keyword, "has too many digits");
    }
    *b = (struct bound){.set = true,
                        .exclusive = exclusive,
                        .number = negative ? -number : number,
                        .digits = (uint32_t)digits};
    return AXION_OK;
}


static int
compare(const struct bound *a, const struct bound *b)
{
    __int128 x = a->number, y = b->number;

    for (uint32_t i = a->digits; i < b->digits; i++) {
        x *= 10;
    }
    for (uint32_t i = b->digits; i < a->digits; i++) {
        y *= 10;
    }
    return x < y ? -1 : x > y;
}


/* The bound that holds of all in the view. */
static int
view_bound(struct compiler *c, const struct view *view, bool low,
           struct bound *b)
{
    static const char *const names[2][2] = {{"maximum", "exclusiveMaximum"},
                                            {"minimum", "exclusiveMinimum"}};
    *b = (struct bound){0};
    for (uint32_t i = 0; i < view->n; i++) {
        for (int k = 0; k < 2; k++) {
            uint32_t keyword = view_get(c, view, i, names[low][k]);
            struct bound other;
            if (keyword == NONE) {
                continue;
            }
            int rc = read_bound(c, keyword, k == 1, &other);
            if (rc != AXION_OK) {
                return rc;
            }
            int order = b->set ? compare(&other, b) : 0;
            if (!b->set || (low ? order > 0 : order < 0) ||
                (order == 0 && other.exclusive)) {
                *b = other;
            }
        }
    }
    return AXION_OK;
}


/* The least integer that satisfies a lower bound; of an upper bound the
 * largest is minus that of its mirror image. */
static int64_t
integer_from(const struct bound *b, int64_t sign)
{
    int64_t number = b->number * sign, unit = 1;

    for (uint32_t i = 0; i < b->digits; i++) {
        unit *= 10;
    }
    int64_t whole = number / unit, rest = number % unit;
    if (rest > 0) {
        return whole + 1;
    }
    return whole + (rest == 0 && b->exclusive);
}


static int
check_multiples(struct compiler *c, const struct view *view, bool fractions)
{
    for (uint32_t i = 0; i < view->n; i++) {
        uint32_t keyword = view_get(c, view, i, "multipleOf");
        struct bound b;
        if (keyword == NONE) {
            continue;
        }
        int rc = read_bound(c, keyword, false, &b);
        if (rc != AXION_OK) {
            return rc;
        }
        if (fractions || b.number != 1 || b.digits != 0) {
            return refuse_keyword(c, keyword, "cannot be enforced");
        }
    }
    return AXION_OK;
}


/* Beyond the 18 digits, of which at least one stands behind the point, that
 * decimals are written with. */
static bool
too_far(const struct bound *b, int64_t sign)
{
    return b->set && b->digits == 0 &&
           b->number * sign > (INTEGER_MOST - 9) / 10;
}


int
write_number(struct compiler *c, const struct view *view, bool fractions)
{
    struct bound low, high;
    int rc = check_multiples(c, view, fractions);

    if (rc != AXION_OK || (rc = view_bound(c, view, true, &low)) != AXION_OK ||
        (rc = view_bound(c, view, false, &high)) != AXION_OK) {
        return rc;
    }
    if (!low.set && !high.set) {
        ax_gbnf_put(c->out, fractions ? "number" : "integer",
                    fractions ? 6 : 7);
        return AXION_OK;
    }
    if (low.set && high.set &&
        (compare(&low, &high) > 0 ||
         (compare(&low, &high) == 0 && (low.exclusive || high.exclusive)))) {
        return refuse(c, view->nodes[0], "no number is within the bounds");
    }
    if (fractions && (too_far(&low, 1) || too_far(&high, -1))) {
        return refuse(c, view->nodes[0],
                      "bounds of numbers from 10^17 on cannot be enforced");
    }
    if (fractions) {
        write_decimals(c->out, &low, &high);
        return AXION_OK;
    }
    int64_t from = low.set ? integer_from(&low, 1) : -INTEGER_USUAL;
    int64_t to = high.set ? -integer_from(&high, -1) : INTEGER_USUAL;
    if (!high.set && from > to) {
        to = INTEGER_MOST;
    }
    if (!low.set && to < from) {
        from = -INTEGER_MOST;
    }
    if (from > to) {
        return refuse(c, view->nodes[0], "no integer is within the bounds");
    }
    write_integers(c->out, from, to);
    return AXION_OK;
}
