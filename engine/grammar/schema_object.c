/*
 * Objects.  Members come in the order in which `properties` has them, those
 * that are not required may be left out, and others follow them, where
 * additionalProperties asks for them, under names that no declared one has.
 *
 * The commas make it more than a list: v<id>-f<i> is member i and what comes
 * behind where none has come yet, v<id>-r<i> where one has.  From the first
 * required member on there is nothing to be told apart any more, and one rule
 * has all the rest.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "engine/grammar/regex.h"
#include "engine/grammar/schema_private.h"
#include "engine/text/utf8.h"

#define MEMBERS_MAX 4096u

struct member {
    const char *name;
    uint32_t bytes;
    uint32_t rule;
    bool required;
};

struct object {
    uint32_t id;
    struct member *members;
    uint32_t n;
    bool others; /* may follow, under rule v<others_rule> */
    uint32_t others_rule;
    uint32_t others_max;
    bool not_empty;
};


/* ---- which members ---- */

static int
is_required(struct compiler *c, const struct view *view, const char *name,
            uint32_t bytes, bool *required)
{
    *required = false;
    for (uint32_t i = 0; i < view->n; i++) {
        uint32_t list = view_get(c, view, i, "required");
        if (list == NONE) {
            continue;
        }
        int rc = spend(c, c->json.nodes[list].n);
        if (rc != AXION_OK) {
            return rc;
        }
        for (uint32_t k = c->json.nodes[list].child; k != NONE;
             k = c->json.nodes[k].next) {
            *required |=
                c->json.nodes[k].bytes == bytes &&
                memcmp(c->json.text + c->json.nodes[k].text, name, bytes) == 0;
        }
    }
    return AXION_OK;
}


/* All that holds of the member of this name; NULL: of one that no node
 * declares. */
static int
member_view(struct compiler *c, const struct view *view, const char *name,
            uint32_t bytes, struct view *member)
{
    uint32_t sources = 0;
    int rc = AXION_OK;

    *member = (struct view){0};
    for (uint32_t i = 0; rc == AXION_OK && i < view->n; i++) {
        uint32_t properties = view_get(c, view, i, "properties"), own = NONE;
        uint32_t others = view_get(c, view, i, "additionalProperties");
        if (name != NULL && properties != NONE) {
            rc = spend(c, c->json.nodes[properties].n);
            own = ax_json_find(&c->json, properties, name, bytes);
        }
        if (rc == AXION_OK && (own != NONE || others != NONE)) {
            rc = view_add(c, member, own != NONE ? own : others);
            sources++;
        }
    }
    member->never |= sources == 0 && view_closed(c, view);
    return rc == AXION_OK ? check_merged(c, member, sources) : rc;
}


static int
add_member(struct compiler *c, const struct view *view, struct object *o,
           const char *name, uint32_t bytes, uint32_t where)
{
    struct view member;
    bool required;
    int rc = spend(c, o->n);

    rc = rc == AXION_OK ? spend_view(c, view) : rc;
    for (uint32_t i = 0; rc == AXION_OK && i < o->n; i++) {
        if (o->members[i].bytes == bytes &&
            memcmp(o->members[i].name, name, bytes) == 0) {
            return rc;
        }
    }
    if (rc != AXION_OK ||
        (rc = is_required(c, view, name, bytes, &required)) != AXION_OK ||
        (rc = member_view(c, view, name, bytes, &member)) != AXION_OK) {
        return rc;
    }
    if (view_is_never(c, &member)) {
        return required ? refuse(c, where, "a required member is forbidden")
                        : AXION_OK;
    }
    if (o->n == MEMBERS_MAX) {
        return ax_error_set(c->err, AXION_ERR_GRAMMAR_LIMIT,
                            "the schema has an object of more than %u members",
                            MEMBERS_MAX);
    }
    struct member *m = &o->members[o->n++];
    *m = (struct member){.name = name, .bytes = bytes, .required = required};
    return view_rule(c, &member, &m->rule);
}


/* Names that are the keyword's keys, or its elements. */
static int
collect_from(struct compiler *c, const struct view *view, struct object *o,
             const char *keyword)
{
    int rc = AXION_OK;

    for (uint32_t i = 0; i < view->n; i++) {
        uint32_t list = view_get(c, view, i, keyword);
        uint32_t k = list != NONE ? c->json.nodes[list].child : NONE;
        for (; rc == AXION_OK && k != NONE; k = c->json.nodes[k].next) {
            const struct ax_json_node *name = &c->json.nodes[k];
            bool keys = c->json.nodes[list].kind == AX_JSON_OBJECT;
            rc = add_member(c, view, o,
                            c->json.text + (keys ? name->key : name->text),
                            keys ? name->key_bytes : name->bytes, k);
        }
    }
    return rc;
}


static int
collect(struct compiler *c, const struct view *view, struct object *o)
{
    int rc = collect_from(c, view, o, "properties");

    return rc == AXION_OK ? collect_from(c, view, o, "required") : rc;
}


/* A node that forbids others settles it; else one has to ask for them, or
 * nothing at all is said about members. */
static int
find_others(struct compiler *c, const struct view *view, struct object *o)
{
    struct view others;
    bool asked = false, silent = o->n == 0 && !view_closed(c, view);

    for (uint32_t i = 0; i < view->n; i++) {
        asked |= view_get(c, view, i, "additionalProperties") != NONE;
        silent &= view_get(c, view, i, "properties") == NONE;
    }
    int rc = member_view(c, view, NULL, 0, &others);
    o->others =
        rc == AXION_OK && (asked || silent) && !view_is_never(c, &others);
    return o->others ? view_rule(c, &others, &o->others_rule) : rc;
}


/* How many members there are is known only if either all are declared or
 * none is. */
static int
check_counts(struct compiler *c, const struct view *view, struct object *o)
{
    uint32_t min, max, required = 0;
    int rc = view_counts(c, view, "minProperties", "maxProperties", &min, &max);

    if (rc != AXION_OK) {
        return rc;
    }
    for (uint32_t i = 0; i < o->n; i++) {
        required += o->members[i].required;
    }
    o->others_max = AX_REGEX_FOREVER;
    if (max != AX_REGEX_FOREVER && o->others && o->n == 0) {
        o->others_max = max;
        o->others = max > 0;
        max = AX_REGEX_FOREVER;
    }
    if (min == 1 && (o->others || o->n > 0)) {
        o->not_empty = true;
        min = 0;
    }
    if (min > required ||
        (max != AX_REGEX_FOREVER && (o->others || o->n > max))) {
        return refuse(c, view->nodes[0],
                      "minProperties or maxProperties cannot be enforced");
    }
    return AXION_OK;
}


/* ---- names of others ---- */

/* Declared names as a tree of characters. */
struct letter {
    uint32_t c;
    uint32_t child, sibling; /* 0: none; [0] is the root */
    bool ends;               /* a declared name */
};

struct letters {
    struct letter *all;
    uint32_t n, cap;
};


static int
add_name(struct compiler *c, struct letters *tree, const char *name,
         uint32_t bytes)
{
    const char *end = name + bytes;
    uint32_t at = 0;

    while (name < end) {
        uint32_t letter;
        name += ax_utf8_next(name, (size_t)(end - name), &letter);
        uint32_t child = tree->all[at].child;
        uint32_t steps = 1;
        for (; child != 0 && tree->all[child].c != letter; steps++) {
            child = tree->all[child].sibling;
        }
        int rc = spend(c, steps);
        if (rc != AXION_OK) {
            return rc;
        }
        if (child == 0) {
            child = tree->n++;
            tree->all[child] =
                (struct letter){.c = letter, .sibling = tree->all[at].child};
            tree->all[at].child = child;
        }
        at = child;
    }
    tree->all[at].ends = true;
    return AXION_OK;
}


/* Names are of plain characters, so that those with others need no care. */
static void
write_names(struct compiler *c, const struct letters *tree, uint32_t id)
{
    for (uint32_t i = 0; i < tree->n; i++) {
        const struct letter *l = &tree->all[i];
        ax_gbnf_printf(c->out, "v%u-n%u ::= %s[^\\x22\\x5c\\x00-\\x1f", id, i,
                       i == 0 || l->ends ? "" : "\"\" | ");
        for (uint32_t k = l->child; k != 0; k = tree->all[k].sibling) {
            if (tree->all[k].c > 0x1f && tree->all[k].c != '"' &&
                tree->all[k].c != '\\') {
                ax_gbnf_class_char(c->out, tree->all[k].c);
            }
        }
        ax_gbnf_printf(c->out, "] [^\\x22\\x5c\\x00-\\x1f]*");
        for (uint32_t k = l->child; k != 0; k = tree->all[k].sibling) {
            if (tree->all[k].c > 0x1f && tree->all[k].c != '"' &&
                tree->all[k].c != '\\') {
                ax_gbnf_put(c->out, " | [", 4);
                ax_gbnf_class_char(c->out, tree->all[k].c);
                ax_gbnf_printf(c->out, "] v%u-n%u", id, k);
            }
        }
        ax_gbnf_put(c->out, "\n", 1);
    }
}


static int
write_others(struct compiler *c, const struct object *o,
             const struct view *view)
{
    struct letters tree = {.n = 1};
    size_t most = 1;
    int rc = AXION_OK;

    /* Also the names that were forbidden: they are not to come as others. */
    for (uint32_t i = 0; i < view->n; i++) {
        uint32_t properties = view_get(c, view, i, "properties");
        for (uint32_t k = properties != NONE ? c->json.nodes[properties].child
                                             : NONE;
             k != NONE; k = c->json.nodes[k].next) {
            most += c->json.nodes[k].key_bytes;
        }
    }
    for (uint32_t i = 0; i < o->n; i++) {
        most += o->members[i].bytes;
    }
    tree.all = calloc(most, sizeof(*tree.all));
    if (tree.all == NULL) {
        return ax_error_set(c->err, AXION_ERR_NO_MEMORY, "no memory");
    }
    for (uint32_t i = 0; i < view->n; i++) {
        uint32_t properties = view_get(c, view, i, "properties");
        for (uint32_t k = properties != NONE ? c->json.nodes[properties].child
                                             : NONE;
             rc == AXION_OK && k != NONE; k = c->json.nodes[k].next) {
            rc = add_name(c, &tree, c->json.text + c->json.nodes[k].key,
                          c->json.nodes[k].key_bytes);
        }
    }
    for (uint32_t i = 0; rc == AXION_OK && i < o->n; i++) {
        rc = add_name(c, &tree, o->members[i].name, o->members[i].bytes);
    }
    if (rc == AXION_OK) {
        ax_gbnf_printf(c->out,
                       "v%u-x ::= \"\\\"\" v%u-n0 \"\\\"\" \":\" sp v%u\n",
                       o->id, o->id, o->others_rule);
        write_names(c, &tree, o->id);
    }
    free(tree.all);
    return rc;
}


/* ---- rules ---- */

static void
put_member(struct compiler *c, const struct member *m)
{
    ax_gbnf_json_string(c->out, m->name, m->bytes);
    ax_gbnf_printf(c->out, " \":\" sp v%u ", m->rule);
}


/* Behind all the declared ones, of which at least one has come. */
static void
put_tail(struct compiler *c, const struct object *o)
{
    if (o->others) {
        ax_gbnf_printf(c->out, "(\",\" ws v%u-x)* ", o->id);
    }
}


/* Member i with its comma; all of them from there on where `all`. */
static void
put_rest(struct compiler *c, const struct object *o, uint32_t i, bool all)
{
    for (; i < o->n; i++) {
        bool required = o->members[i].required;
        ax_gbnf_put(c->out, "(", required ? 0 : 1);
        ax_gbnf_put(c->out, "\",\" ws ", 7);
        put_member(c, &o->members[i]);
        ax_gbnf_put(c->out, ")? ", required ? 0 : 3);
        if (!all) {
            return;
        }
    }
    put_tail(c, o);
}


/* Where none is declared. */
static void
put_only_others(struct compiler *c, const struct object *o)
{
    if (!o->others) {
        ax_gbnf_put(c->out, "\"\"", 2);
        return;
    }
    ax_gbnf_printf(c->out, "(v%u-x ", o->id);
    if (o->others_max == AX_REGEX_FOREVER) {
        put_tail(c, o);
    } else if (o->others_max > 1) {
        ax_gbnf_printf(c->out, "(\",\" ws v%u-x){0,%u} ", o->id,
                       o->others_max - 1);
    }
    ax_gbnf_put(c->out, o->not_empty ? ")" : ")?", o->not_empty ? 1 : 2);
}


/* The rules up to the first required member, at `m`. */
static void
write_leading(struct compiler *c, const struct object *o, uint32_t m)
{
    for (uint32_t i = 0; i <= m; i++) {
        ax_gbnf_printf(c->out, "v%u-f%u ::= ", o->id, i);
        if (i == o->n) {
            put_only_others(c, o);
        } else {
            put_member(c, &o->members[i]);
            ax_gbnf_printf(c->out, "v%u-r%u", o->id, i + 1);
        }
        if (i < m && !(i + 1 == o->n && o->not_empty && !o->others)) {
            ax_gbnf_printf(c->out, " | v%u-f%u", o->id, i + 1);
        }
        ax_gbnf_put(c->out, "\n", 1);
    }
    for (uint32_t i = 1; i <= m + 1 && i <= o->n; i++) {
        bool last = i == m + 1 || i == o->n;
        ax_gbnf_printf(c->out, "v%u-r%u ::= \"\" ", o->id, i);
        put_rest(c, o, i, last);
        if (!last) {
            ax_gbnf_printf(c->out, "v%u-r%u", o->id, i + 1);
        }
        ax_gbnf_put(c->out, "\n", 1);
    }
}


static int
write_members(struct compiler *c, const struct object *o,
              const struct view *view)
{
    uint32_t m = 0;

    while (m < o->n && !o->members[m].required) {
        m++;
    }
    ax_gbnf_printf(c->out, "v%u-o ::= \"{\" ws ", o->id);
    if (m == 0 && o->n > 0) {
        put_member(c, &o->members[0]);
        put_rest(c, o, 1, true);
    } else {
        ax_gbnf_printf(c->out, "v%u-f0 ", o->id);
    }
    ax_gbnf_put(c->out, "ws \"}\"\n", 7);
    if (m > 0 || o->n == 0) {
        write_leading(c, o, m);
    }
    return o->others ? write_others(c, o, view) : AXION_OK;
}


int
write_object(struct compiler *c, const struct view *view, uint32_t id)
{
    struct object o = {.id = id};
    int rc;

    o.members = malloc(MEMBERS_MAX * sizeof(*o.members));
    if (o.members == NULL) {
        return ax_error_set(c->err, AXION_ERR_NO_MEMORY, "no memory");
    }
    if ((rc = collect(c, view, &o)) == AXION_OK &&
        (rc = find_others(c, view, &o)) == AXION_OK &&
        (rc = check_counts(c, view, &o)) == AXION_OK) {
        rc = write_members(c, &o, view);
    }
    free(o.members);
    return rc;
}
