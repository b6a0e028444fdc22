/*
 * Arrays.  Elements 0 .. prefix-1 have schemas of their own, the ones behind
 * share one; where a node has prefixItems and no items there are none behind.
 *
 * With a prefix there is a rule for each element, v<id>-a<i>: it and what
 * follows, or nothing where the array may end.
 */
#include <stdio.h>
#include "engine/grammar/regex.h"
#include "engine/grammar/schema_private.h"

#define PREFIX_MAX 1024u

struct array {
    uint32_t id, min, max;
    uint32_t prefix; /* elements with a schema of their own */
    bool open;       /* others may follow */
    uint32_t rest;   /* their rule */
};


/* draft 7 wrote prefixItems as an array of items, with additionalItems. */
static uint32_t
prefix_of(const struct compiler *c, const struct view *view, uint32_t i)
{
    uint32_t items = view_get(c, view, i, "items");

    return items != NONE && c->json.nodes[items].kind == AX_JSON_ARRAY
               ? items
               : view_get(c, view, i, "prefixItems");
}


static uint32_t
rest_of(const struct compiler *c, const struct view *view, uint32_t i)
{
    uint32_t items = view_get(c, view, i, "items");

    return items != NONE && c->json.nodes[items].kind == AX_JSON_ARRAY
               ? view_get(c, view, i, "additionalItems")
               : items;
}


/* All that holds of element k; k == prefix: of those behind. */
static int
element_view(struct compiler *c, const struct view *view, uint32_t k,
             struct view *element)
{
    uint32_t sources = 0;
    int rc = AXION_OK;

    *element = (struct view){0};
    for (uint32_t i = 0; rc == AXION_OK && i < view->n; i++) {
        uint32_t prefix = prefix_of(c, view, i), rest = rest_of(c, view, i);
        uint32_t own = NONE;
        if (prefix != NONE && k < c->json.nodes[prefix].n) {
            for (own = c->json.nodes[prefix].child;
                 c->json.nodes[own].index != k;) {
                own = c->json.nodes[own].next;
            }
        }
        if ((rc = spend(c, k + 8)) != AXION_OK ||
            (rc = spend_view(c, view)) != AXION_OK) {
            return rc;
        }
        if (own == NONE && prefix != NONE && rest == NONE) {
            element->never = true; /* closed behind its prefix */
        } else if (own != NONE || rest != NONE) {
            rc = view_add(c, element, own != NONE ? own : rest);
            sources++;
        }
    }
    element->never |= sources == 0 && view_closed(c, view);
    return rc == AXION_OK ? check_merged(c, element, sources) : rc;
}


/* Elements from `n` on, with a comma in front of each. */
static void
write_rest(struct compiler *c, const struct array *a, uint32_t n)
{
    uint32_t least = a->min > n ? a->min - n : 0;

    if (!a->open || a->max <= n) {
        ax_gbnf_put(c->out, "\"\"", 2);
    } else if (a->max == AX_REGEX_FOREVER) {
        ax_gbnf_printf(c->out, "(\",\" ws v%u){%u,}", a->rest, least);
    } else {
        ax_gbnf_printf(c->out, "(\",\" ws v%u){%u,%u}", a->rest, least,
                       a->max - n);
    }
}


static int
write_prefix(struct compiler *c, const struct view *view, const struct array *a)
{
    uint32_t n = a->prefix < a->max ? a->prefix : a->max;

    for (uint32_t k = 0; k < n; k++) {
        struct view element;
        uint32_t rule;
        int rc = element_view(c, view, k, &element);
        if (rc != AXION_OK ||
            (rc = view_rule(c, &element, &rule)) != AXION_OK) {
            return rc;
        }
        ax_gbnf_printf(c->out, "v%u-a%u ::= %s%sv%u v%u-a%u%s\n", a->id, k,
                       k >= a->min ? "(" : "", k > 0 ? "\",\" ws " : "", rule,
                       a->id, k + 1, k >= a->min ? ")?" : "");
    }
    ax_gbnf_printf(c->out, "v%u-a%u ::= ", a->id, n);
    write_rest(c, a, n);
    ax_gbnf_put(c->out, "\n", 1);
    return AXION_OK;
}


/* What the prefix and the counts leave of each other. */
static int
shape(struct compiler *c, const struct view *view, struct array *a)
{
    struct view element;
    int rc = view_counts(c, view, "minItems", "maxItems", &a->min, &a->max);

    for (uint32_t i = 0; rc == AXION_OK && i < view->n; i++) {
        uint32_t prefix = prefix_of(c, view, i);
        if (prefix != NONE && c->json.nodes[prefix].n > a->prefix) {
            a->prefix = c->json.nodes[prefix].n;
        }
    }
    if (rc == AXION_OK && a->prefix > PREFIX_MAX) {
        rc = refuse(c, view->nodes[0], "too many elements of their own");
    }
    for (uint32_t k = 0; rc == AXION_OK && k < a->prefix && k < a->max; k++) {
        rc = element_view(c, view, k, &element);
        if (rc == AXION_OK && view_is_never(c, &element)) {
            a->max = k;
        }
    }
    if (rc != AXION_OK ||
        (rc = element_view(c, view, a->prefix, &element)) != AXION_OK) {
        return rc;
    }
    a->open = a->max > a->prefix && !view_is_never(c, &element);
    if (!a->open && a->max > a->prefix) {
        a->max = a->prefix;
    }
    if (a->min > a->max) {
        return refuse(c, view->nodes[0], "no array has so many elements");
    }
    return a->open ? view_rule(c, &element, &a->rest) : AXION_OK;
}


int
write_array(struct compiler *c, const struct view *view, uint32_t id)
{
    struct array a = {.id = id};
    int rc = shape(c, view, &a);

    if (rc != AXION_OK) {
        return rc;
    }
    if (a.max == 0) {
        ax_gbnf_printf(c->out, "v%u-a ::= \"[]\"\n", id);
        return AXION_OK;
    }
    if (a.prefix > 0) {
        ax_gbnf_printf(c->out, "v%u-a ::= \"[\" ws v%u-a0 ws \"]\"\n", id, id);
        return write_prefix(c, view, &a);
    }
    ax_gbnf_printf(c->out, "v%u-a ::= \"[\" ws (v%u ", id, a.rest);
    write_rest(c, &a, 1);
    ax_gbnf_printf(c->out, " ws)%s \"]\"\n", a.min == 0 ? "?" : "");
    return AXION_OK;
}
