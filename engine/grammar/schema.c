/*
 * Views and their rules (schema.h, schema_private.h).
 *
 * Rule v<id> is that of views[id]; writing it may add views, which are written
 * in turn until none is left.  The same nodes are the same view, so a schema
 * that refers to itself ends.
 */
#include "engine/grammar/schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "engine/grammar/schema_private.h"

#define POINTER_BYTES 128u
#define SEGMENT_BYTES 1024u

/* Shared by all schemas.  White space is what models write, and ends: at most
 * a line feed and twenty blanks. */
static const char common[] =
    "ws ::= (\" \" | \"\\n\" [ \\t]{0,20})?\n"
    "sp ::= \" \"?\n"
    "char ::= [^\"\\\\\\x00-\\x1f] | \"\\\\\" ([\"\\\\/bfnrt] | \"u\" "
    "([0-9a-cA-Ce-fE-F] [0-9a-fA-F]{3} | [dD] ([0-7] [0-9a-fA-F]{2} | "
    "[89abAB] [0-9a-fA-F]{2} \"\\\\u\" [dD] [c-fC-F] [0-9a-fA-F]{2})))\n"
    "string ::= \"\\\"\" char* \"\\\"\"\n"
    "integer ::= \"-\"? (\"0\" | [1-9] [0-9]{0,15})\n"
    "number ::= integer (\".\" [0-9]{1,16})? ([eE] [+-]? [0-9]{1,2})?\n"
    "value ::= object | array | string | number | \"true\" | \"false\" | "
    "\"null\"\n"
    "array ::= \"[\" ws (value (\",\" ws value)* ws)? \"]\"\n"
    "object ::= \"{\" ws (string \":\" sp value (\",\" ws string \":\" sp "
    "value)* ws)? \"}\"\n";


/* ---- errors and work ---- */

int
refuse(struct compiler *c, uint32_t node, const char *why)
{
    char pointer[POINTER_BYTES];

    return ax_error_set(
        c->err, AXION_ERR_GRAMMAR_INVALID, "schema: %s, at \"%s\"", why,
        ax_json_pointer(&c->json, node, pointer, sizeof(pointer)));
}


int
refuse_keyword(struct compiler *c, uint32_t keyword, const char *why)
{
    const struct ax_json_node *member = &c->json.nodes[keyword];
    char pointer[POINTER_BYTES], name[48];

    ax_error_escape(name, sizeof(name), c->json.text + member->key,
                    member->key_bytes);
    return ax_error_set(
        c->err, AXION_ERR_GRAMMAR_INVALID, "schema: \"%s\" %s, at \"%s\"", name,
        why, ax_json_pointer(&c->json, keyword, pointer, sizeof(pointer)));
}


int
spend(struct compiler *c, uint32_t steps)
{
    c->steps += steps;
    return c->steps <= STEPS_MAX && c->looked_at <= AX_JSON_LOOKS_MAX
               ? AXION_OK
               : ax_error_set(c->err, AXION_ERR_GRAMMAR_LIMIT,
                              "the schema takes too much work to compile");
}


/* ---- references ---- */

/* One segment of a pointer with its escapes undone; its length, or -1. */
static int
segment(const char **at, const char *end, char name[SEGMENT_BYTES])
{
    int n = 0;

    for (; *at < end && **at != '/'; (*at)++) {
        char d = **at;
        if (n == (int)SEGMENT_BYTES) {
            return -1;
        }
        if (d == '~') {
            if (end - *at < 2 || ((*at)[1] != '0' && (*at)[1] != '1')) {
                return -1;
            }
            d = *++*at == '0' ? '~' : '/';
        } else if (d == '%') {
            char hex[3] = {0}, *stop;
            if (end - *at < 3) {
                return -1;
            }
            memcpy(hex, *at + 1, 2);
            d = (char)strtoul(hex, &stop, 16);
            if (stop != hex + 2) {
                return -1;
            }
            *at += 2;
        }
        name[n++] = d;
    }
    return n;
}


static uint32_t
child_named(const struct ax_json *json, uint32_t node, const char *name,
            int bytes)
{
    if (json->nodes[node].kind != AX_JSON_ARRAY) {
        return ax_json_find(json, node, name, (size_t)bytes);
    }
    uint32_t index = 0, i = json->nodes[node].child;
    for (int k = 0; k < bytes; k++) {
        if (name[k] < '0' || name[k] > '9' || index > AX_JSON_NODES_MAX) {
            return NONE;
        }
        index = index * 10 + (uint32_t)(name[k] - '0');
    }
    while (bytes > 0 && i != NONE && json->nodes[i].index != index) {
        i = json->nodes[i].next;
    }
    *json->looked_at += json->nodes[node].n;
    return bytes > 0 ? i : NONE;
}


static int
follow(struct compiler *c, uint32_t ref, uint32_t *target)
{
    const struct ax_json *json = &c->json;
    const char *at = json->text + json->nodes[ref].text;
    const char *end = at + json->nodes[ref].bytes;
    char name[SEGMENT_BYTES];

    *target = 0;
    if (at == end || *at++ != '#' || (at < end && *at != '/')) {
        return refuse_keyword(c, ref, "must lead to a place in this schema");
    }
    while (at < end) {
        at++; /* the slash */
        int n = segment(&at, end, name);
        *target = n < 0 ? NONE : child_named(json, *target, name, n);
        if (*target == NONE) {
            return refuse_keyword(c, ref, "leads nowhere");
        }
        int rc = spend(c, 64);
        if (rc != AXION_OK) {
            return rc;
        }
    }
    return AXION_OK;
}


/* ---- views ---- */

uint32_t
view_get(const struct compiler *c, const struct view *view, uint32_t i,
         const char *keyword)
{
    return ax_json_get(&c->json, view->nodes[i], keyword);
}


/* The keyword unevaluatedProperties or unevaluatedItems that is false. */
static uint32_t
closing_keyword(const struct compiler *c, uint32_t node)
{
    static const char *const names[] = {"unevaluatedProperties",
                                        "unevaluatedItems"};

    for (int k = 0; k < 2; k++) {
        uint32_t found = ax_json_get(&c->json, node, names[k]);
        if (found != NONE && c->json.nodes[found].kind == AX_JSON_FALSE) {
            return found;
        }
    }
    return NONE;
}


/* Says nothing but where another schema is. */
static bool
leads_on(const struct compiler *c, uint32_t node)
{
    uint32_t ref = ax_json_get(&c->json, node, "$ref");
    uint32_t all = ax_json_get(&c->json, node, "allOf");

    return !has_assertions(c, node, true) &&
           (ref != NONE) + (all != NONE ? c->json.nodes[all].n : 0) == 1;
}


/* unevaluated… does not see what schemas around its own allow, which a view
 * does not tell apart: it has to stand in the outermost. */
static int
check_closing(struct compiler *c, const struct view *view, uint32_t node)
{
    uint32_t keyword = closing_keyword(c, node);

    for (uint32_t i = 0; keyword != NONE && i < view->n; i++) {
        if (!leads_on(c, view->nodes[i])) {
            return refuse_keyword(c, keyword,
                                  "cannot be enforced in a part of a schema");
        }
    }
    return AXION_OK;
}


int
check_merged(struct compiler *c, const struct view *view, uint32_t sources)
{
    for (uint32_t i = 0; sources > 1 && i < view->n; i++) {
        uint32_t keyword = closing_keyword(c, view->nodes[i]);
        if (keyword != NONE) {
            return refuse_keyword(c, keyword,
                                  "cannot be enforced in a part of a schema");
        }
    }
    return AXION_OK;
}


bool
view_closed(const struct compiler *c, const struct view *view)
{
    bool closed = false;

    for (uint32_t i = 0; i < view->n; i++) {
        closed |= closing_keyword(c, view->nodes[i]) != NONE;
    }
    return closed;
}


/* The nodes of a view that led to each of its nodes, as bits: $ref and allOf
 * lead from one to the next, in circles as well. */
struct lineage {
    uint32_t above[VIEW_NODES_MAX];
};


/* nodes[from], or the caller, names nodes[index], which is there already: it
 * holds already, unless that is a circle, or it is open to one of its own
 * branches. */
static int
meet_again(struct compiler *c, const struct view *view, struct lineage *lineage,
           uint32_t index, uint32_t from)
{
    uint32_t bit = 1u << index;
    uint32_t above = from != NONE ? lineage->above[from] | 1u << from : 0;

    if ((above | view->chosen) & bit) {
        return refuse(c, view->nodes[index],
                      "$ref or allOf comes back to the same schema");
    }
    for (uint32_t i = 0; i < view->n; i++) {
        if (i == index || lineage->above[i] & bit) {
            lineage->above[i] |= above;
        }
    }
    return AXION_OK;
}


/* Adds what node nodes[from] names; NONE: what the caller does. */
static int
view_append(struct compiler *c, struct view *view, struct lineage *lineage,
            uint32_t node, uint32_t from)
{
    int rc;

    switch (c->json.nodes[node].kind) {
    case AX_JSON_TRUE:
        return AXION_OK;
    case AX_JSON_FALSE:
        view->never = true;
        return AXION_OK;
    case AX_JSON_OBJECT:
        break;
    default:
        return refuse(c, node, "a schema must be an object, true or false");
    }
    for (uint32_t i = 0; i < view->n; i++) {
        if (view->nodes[i] == node) {
            return meet_again(c, view, lineage, i, from);
        }
    }
    if (view->n == VIEW_NODES_MAX) {
        return refuse(c, node, "too many schemas hold at once");
    }
    if ((rc = check_node(c, node)) != AXION_OK ||
        (rc = check_closing(c, view, node)) != AXION_OK) {
        return rc;
    }
    lineage->above[view->n] =
        from != NONE ? lineage->above[from] | 1u << from : 0;
    view->nodes[view->n++] = node;
    return AXION_OK;
}


int
view_add(struct compiler *c, struct view *view, uint32_t node)
{
    struct lineage lineage = {{0}};
    uint32_t at = view->n;
    int rc = view_append(c, view, &lineage, node, NONE);

    for (; rc == AXION_OK && at < view->n; at++) {
        uint32_t ref = view_get(c, view, at, "$ref"), target;
        if (ref != NONE) {
            rc = follow(c, ref, &target);
            if (rc == AXION_OK) {
                rc = view_append(c, view, &lineage, target, at);
            }
        }
        uint32_t all = view_get(c, view, at, "allOf");
        for (uint32_t i = all != NONE ? c->json.nodes[all].child : NONE;
             rc == AXION_OK && i != NONE; i = c->json.nodes[i].next) {
            rc = view_append(c, view, &lineage, i, at);
        }
    }
    return rc;
}


/* Looking a few times through the keywords of all its nodes. */
int
spend_view(struct compiler *c, const struct view *view)
{
    uint32_t keywords = 1;

    for (uint32_t i = 0; i < view->n; i++) {
        keywords += c->json.nodes[view->nodes[i]].n;
    }
    return spend(c, 16 * keywords);
}


/* Nodes that say nothing any more are left out, so that equal views look
 * equal. */
static void
simplify(const struct compiler *c, struct view *view)
{
    uint32_t n = 0, chosen = 0;

    for (uint32_t i = 0; i < view->n; i++) {
        bool was = view->chosen >> i & 1;
        if (!has_assertions(c, view->nodes[i], !was)) {
            continue;
        }
        chosen |= (uint32_t)was << n;
        view->nodes[n++] = view->nodes[i];
    }
    memset(view->nodes + n, 0, (VIEW_NODES_MAX - n) * sizeof(view->nodes[0]));
    view->n = n;
    view->chosen = chosen;
}


int
view_rule(struct compiler *c, const struct view *view, uint32_t *id)
{
    struct view plain = *view;
    int rc = spend_view(c, view);

    if (rc != AXION_OK || (rc = spend(c, c->n_views / 8 + 16)) != AXION_OK) {
        return rc;
    }
    simplify(c, &plain);
    for (*id = 0; *id < c->n_views; (*id)++) {
        const struct view *v = &c->views[*id];
        if (v->n == plain.n && v->chosen == plain.chosen &&
            v->never == plain.never &&
            memcmp(v->nodes, plain.nodes, sizeof(v->nodes)) == 0) {
            return AXION_OK;
        }
    }
    if (c->n_views == VIEWS_MAX) {
        return ax_error_set(c->err, AXION_ERR_GRAMMAR_LIMIT,
                            "the schema has more than %u parts", VIEWS_MAX);
    }
    if (c->n_views == c->views_cap) {
        uint32_t cap = c->views_cap == 0 ? 64 : c->views_cap * 2;
        struct view *views = realloc(c->views, cap * sizeof(*views));
        if (views == NULL) {
            return ax_error_set(c->err, AXION_ERR_NO_MEMORY, "no memory");
        }
        c->views = views;
        c->views_cap = cap;
    }
    c->views[c->n_views++] = plain;
    return AXION_OK;
}


unsigned
view_types(const struct compiler *c, const struct view *view)
{
    unsigned types = TYPE_ALL, hints = 0;
    bool named = false;

    for (uint32_t i = 0; i < view->n; i++) {
        types &= named_types(c, view->nodes[i]);
        hints |= hinted_types(c, view->nodes[i]);
        named |= view_get(c, view, i, "type") != NONE;
    }
    return named || hints == 0 ? types : hints;
}


bool
view_is_never(struct compiler *c, const struct view *view)
{
    return view->never || view_types(c, view) == 0;
}


/* ---- anyOf, oneOf ---- */

/* The one keyword with branches that is still open, NONE, or a refusal. */
static int
find_branches(struct compiler *c, const struct view *view, uint32_t *branches,
              uint32_t *owner)
{
    static const char *const names[] = {"anyOf", "oneOf"};

    *branches = NONE;
    for (uint32_t i = 0; i < view->n; i++) {
        for (int k = 0; k < 2 && !(view->chosen >> i & 1); k++) {
            uint32_t found = view_get(c, view, i, names[k]);
            if (found == NONE) {
                continue;
            }
            if (*branches != NONE) {
                return refuse_keyword(
                    c, found, "cannot be enforced beside another of its kind");
            }
            *branches = found;
            *owner = i;
        }
    }
    return AXION_OK;
}


static int
branch_view(struct compiler *c, const struct view *view, uint32_t owner,
            uint32_t branch, struct view *out)
{
    int rc = spend_view(c, view);

    *out = *view;
    out->chosen |= 1u << owner;
    if (rc != AXION_OK) {
        return rc;
    }
    simplify(c, out);
    return view_add(c, out, branch);
}


/* A member that both must have, with values that differ. */
static int
members_differ(struct compiler *c, const struct view *a, const struct view *b,
               bool *differ)
{
    for (uint32_t i = 0; i < a->n; i++) {
        uint32_t properties = view_get(c, a, i, "properties");
        uint32_t required = view_get(c, a, i, "required");
        if (properties == NONE || required == NONE) {
            continue;
        }
        for (uint32_t r = c->json.nodes[required].child; r != NONE;
             r = c->json.nodes[r].next) {
            const char *name = c->json.text + c->json.nodes[r].text;
            uint32_t bytes = c->json.nodes[r].bytes;
            int rc = spend(c, c->json.nodes[properties].n);
            if (rc != AXION_OK || (rc = spend_view(c, b)) != AXION_OK) {
                return rc;
            }
            uint32_t mine = ax_json_find(&c->json, properties, name, bytes);
            for (uint32_t k = 0; mine != NONE && k < b->n; k++) {
                uint32_t others = view_get(c, b, k, "properties");
                uint32_t its = others != NONE
                                   ? ax_json_find(&c->json, others, name, bytes)
                                   : NONE;
                struct view x = {0}, y = {0};
                rc = spend(c, others != NONE ? c->json.nodes[others].n : 1);
                if (rc != AXION_OK || its == NONE) {
                    *differ = false;
                    if (rc != AXION_OK) {
                        return rc;
                    }
                    continue;
                }
                if ((rc = view_add(c, &x, mine)) != AXION_OK ||
                    (rc = view_add(c, &y, its)) != AXION_OK) {
                    return rc;
                }
                if (literals_differ(c, &x, &y)) {
                    *differ = true;
                    return AXION_OK;
                }
            }
        }
    }
    *differ = false;
    return AXION_OK;
}


/* Types that a value of it may have, whatever its other keywords are about. */
static unsigned
possible_types(const struct compiler *c, const struct view *view)
{
    unsigned types = TYPE_ALL;

    for (uint32_t i = 0; i < view->n; i++) {
        types &= named_types(c, view->nodes[i]);
    }
    return types;
}


/* No text that is written for one may satisfy the other.  Keywords that say
 * nothing about a value's type hold for it: where neither branch names its
 * types, strings that one was meant for satisfy the other. */
static int
views_differ(struct compiler *c, const struct view *view, uint32_t owner,
             uint32_t first, uint32_t second, bool *differ)
{
    struct view a = {0}, b = {0}, x, y;
    int rc = view_add(c, &a, first);

    if (rc != AXION_OK || (rc = view_add(c, &b, second)) != AXION_OK ||
        (rc = branch_view(c, view, owner, first, &x)) != AXION_OK ||
        (rc = branch_view(c, view, owner, second, &y)) != AXION_OK) {
        return rc;
    }
    unsigned both = (view_types(c, &x) & possible_types(c, &y)) |
                    (view_types(c, &y) & possible_types(c, &x));

    *differ = a.never || b.never || both == 0 || literals_differ(c, &a, &b);
    if (*differ || both != TYPE_OBJECT) {
        return AXION_OK;
    }
    return members_differ(c, &a, &b, differ);
}


/* oneOf is anyOf where no value can satisfy two branches. */
static int
check_one_of(struct compiler *c, const struct view *view, uint32_t branches,
             uint32_t owner)
{
    for (uint32_t i = c->json.nodes[branches].child; i != NONE;
         i = c->json.nodes[i].next) {
        for (uint32_t k = c->json.nodes[i].next; k != NONE;
             k = c->json.nodes[k].next) {
            bool differ = false;
            int rc = spend(c, 64);
            if (rc != AXION_OK || (rc = views_differ(c, view, owner, i, k,
                                                     &differ)) != AXION_OK) {
                return rc;
            }
            if (!differ) {
                return refuse_keyword(c, branches,
                                      "cannot be enforced where two branches "
                                      "may hold at once (anyOf can)");
            }
        }
    }
    return AXION_OK;
}


static int
write_branches(struct compiler *c, const struct view *view, uint32_t branches,
               uint32_t owner)
{
    bool first = true;
    int rc = AXION_OK;

    if (c->json.nodes[branches].key_bytes == 5 &&
        c->json.text[c->json.nodes[branches].key] == 'o') {
        rc = check_one_of(c, view, branches, owner);
    }
    for (uint32_t i = c->json.nodes[branches].child;
         rc == AXION_OK && i != NONE; i = c->json.nodes[i].next) {
        struct view branch;
        uint32_t id;
        rc = branch_view(c, view, owner, i, &branch);
        if (rc != AXION_OK || view_is_never(c, &branch)) {
            continue;
        }
        rc = view_rule(c, &branch, &id);
        if (rc == AXION_OK) {
            ax_gbnf_printf(c->out, first ? "v%u" : " | v%u", id);
            first = false;
        }
    }
    if (rc == AXION_OK && first) {
        return refuse_keyword(c, branches, "holds for no value");
    }
    ax_gbnf_put(c->out, "\n", 1);
    return rc;
}


/* ---- rules ---- */

/* Alternatives, one for each type. */
static int
write_types(struct compiler *c, const struct view *view, uint32_t id)
{
    unsigned types = view_types(c, view);
    bool numbers = types & (TYPE_INTEGER | TYPE_FRACTION), first = true;
    int rc = AXION_OK;

    for (unsigned type = 1; rc == AXION_OK && type <= TYPE_OBJECT; type <<= 1) {
        if (!(types & type) ||
            (type == TYPE_FRACTION && numbers && types & TYPE_INTEGER)) {
            continue;
        }
        ax_gbnf_put(c->out, " | ", first ? 0 : 3);
        first = false;
        switch (type) {
        case TYPE_NULL:
            ax_gbnf_put(c->out, "\"null\"", 6);
            break;
        case TYPE_BOOLEAN:
            ax_gbnf_put(c->out, "\"true\" | \"false\"", 16);
            break;
        case TYPE_INTEGER:
        case TYPE_FRACTION:
            rc = write_number(c, view, types & TYPE_FRACTION);
            break;
        case TYPE_STRING:
            rc = write_string(c, view);
            break;
        case TYPE_ARRAY:
            ax_gbnf_printf(c->out, "v%u-a", id);
            break;
        default:
            ax_gbnf_printf(c->out, "v%u-o", id);
            break;
        }
    }
    ax_gbnf_put(c->out, "\n", 1);
    if (rc == AXION_OK && types & TYPE_ARRAY) {
        rc = write_array(c, view, id);
    }
    if (rc == AXION_OK && types & TYPE_OBJECT) {
        rc = write_object(c, view, id);
    }
    return rc;
}


static int
write_view(struct compiler *c, uint32_t id)
{
    struct view view = c->views[id]; /* the array may move */
    uint32_t branches, owner = 0;
    bool literals = false;
    int rc = find_branches(c, &view, &branches, &owner);

    ax_gbnf_printf(c->out, "v%u ::= ", id);
    if (rc != AXION_OK) {
        return rc;
    }
    if (view.n == 0) {
        ax_gbnf_put(c->out, "value\n", 6);
        return AXION_OK;
    }
    if (branches != NONE) {
        return write_branches(c, &view, branches, owner);
    }
    if (view_is_never(c, &view)) {
        return refuse(c, view.nodes[0], "no value has all of the types");
    }
    rc = write_literals(c, &view, &literals);
    if (rc != AXION_OK || literals) {
        ax_gbnf_put(c->out, "\n", 1);
        return rc;
    }
    return write_types(c, &view, id);
}


static int
compile(struct compiler *c)
{
    struct view root = {0};
    uint32_t id;
    int rc = view_add(c, &root, 0);

    if (rc == AXION_OK && root.never) {
        rc = refuse(c, 0, "no value satisfies false");
    }
    if (rc == AXION_OK) {
        rc = view_rule(c, &root, &id);
    }
    ax_gbnf_printf(c->out, "root ::= v0\n");
    for (id = 0; rc == AXION_OK && id < c->n_views; id++) {
        rc = c->out->error == AXION_OK ? write_view(c, id) : AXION_OK;
    }
    ax_gbnf_put(c->out, common, sizeof(common) - 1);
    return rc;
}


int
ax_schema_to_gbnf(struct ax_gbnf_text *out, const char *schema, size_t bytes,
                  struct ax_error *err)
{
    struct compiler c = {.out = out, .err = err};
    int rc = ax_json_parse(&c.json, schema, bytes, err);

    *out = (struct ax_gbnf_text){0};
    if (rc != AXION_OK) {
        return rc;
    }
    c.json.looked_at = &c.looked_at;
    rc = compile(&c);
    ax_json_free(&c.json);
    free(c.views);
    if (rc != AXION_OK) {
        ax_gbnf_text_free(out);
        return rc;
    }
    return ax_gbnf_text_end(out, err);
}


int
ax_json_object_to_gbnf(struct ax_gbnf_text *out, struct ax_error *err)
{
    *out = (struct ax_gbnf_text){0};
    ax_gbnf_printf(out, "root ::= object\n");
    ax_gbnf_put(out, common, sizeof(common) - 1);
    return ax_gbnf_text_end(out, err);
}
