/*
 * What must hold of a program before anything walks it.
 *
 * Two properties of nodes are the least solutions of rules with "and" and
 * "or" over their successors, found by propagation along reversed edges, in
 * time linear in the program:
 *   empty     the end of the rule can be reached without a byte
 *   fruitful  it can be reached at all
 * Then the edges that can be passed without a byte must have no cycle through
 * the start of a called rule, or a walk would call without end (Tarjan's
 * strongly connected components, SIAM J. Comput. 1 (1972), without recursion).
 */
#include "engine/grammar/program.h"

#include <stdlib.h>
#include <string.h>

/* The nodes that a node leads to; a BYTES node takes a byte on its way. */
static uint32_t
successors(const struct ax_grammar_node *node, uint32_t to[2])
{
    to[0] = node->next;
    to[1] = node->arg;
    switch ((enum ax_grammar_kind)node->kind) {
    case AX_NODE_END:
        return 0;
    case AX_NODE_BYTES:
        return 1;
    case AX_NODE_SPLIT:
    case AX_NODE_CALL:
        break;
    }
    return 2;
}


struct solver {
    const struct ax_grammar *g;
    bool bytes_pass; /* fruitful; else empty */
    uint8_t *holds;  /* [n_nodes] */
    uint32_t *first; /* [n_nodes + 1] of the predecessors in from[] */
    uint32_t *from;
    uint32_t *work;
};


static bool
follows(const struct solver *s, const struct ax_grammar_node *node)
{
    static const struct ax_byte_set none;
    const uint8_t *holds = s->holds;
    switch ((enum ax_grammar_kind)node->kind) {
    case AX_NODE_END:
        return true;
    case AX_NODE_SPLIT:
        return holds[node->next] || holds[node->arg];
    case AX_NODE_CALL:
        return holds[node->next] && holds[node->arg];
    case AX_NODE_BYTES:
        break;
    }
    return s->bytes_pass && holds[node->next] &&
           memcmp(&s->g->sets[node->arg], &none, sizeof(none)) != 0;
}


static void
reverse_edges(struct solver *s)
{
    const struct ax_grammar *g = s->g;
    uint32_t to[2];
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        uint32_t n = successors(&g->nodes[i], to);
        for (uint32_t k = 0; k < n; k++) {
            s->first[to[k] + 1]++;
        }
    }
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        s->first[i + 1] += s->first[i];
    }
    memcpy(s->work, s->first, g->n_nodes * sizeof(*s->work));
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        uint32_t n = successors(&g->nodes[i], to);
        for (uint32_t k = 0; k < n; k++) {
            s->from[s->work[to[k]]++] = i;
        }
    }
}


static void
solve(struct solver *s, bool bytes_pass)
{
    uint32_t n = 0;
    s->bytes_pass = bytes_pass;
    memset(s->holds, 0, s->g->n_nodes);
    for (uint32_t i = 0; i < s->g->n_nodes; i++) {
        if (s->g->nodes[i].kind == AX_NODE_END) {
            s->holds[i] = 1;
            s->work[n++] = i;
        }
    }
    while (n > 0) {
        uint32_t node = s->work[--n];
        for (uint32_t k = s->first[node]; k < s->first[node + 1]; k++) {
            uint32_t i = s->from[k];
            if (!s->holds[i] && follows(s, &s->g->nodes[i])) {
                s->holds[i] = 1;
                s->work[n++] = i;
            }
        }
    }
}


/* ---- rules that begin with themselves ---- */

struct walk {
    const struct ax_grammar *g;
    const uint8_t *empty;
    uint32_t *index; /* 0: not seen */
    uint32_t *low;   /* of its component, UINT32_MAX: that is closed */
    uint32_t *component;
    uint32_t *open; /* nodes of components that are not closed */
    struct {
        uint32_t node, edge;
    } * path;
    uint32_t n_open, n_path, n_seen, n_components;
};


/* The k-th node that can be reached without a byte; false: no more. */
static bool
silent_edge(const struct walk *w, uint32_t node, uint32_t k, uint32_t *to)
{
    const struct ax_grammar_node *n = &w->g->nodes[node];
    if (n->kind == AX_NODE_SPLIT) {
        *to = k == 0 ? n->next : n->arg;
        return k < 2;
    }
    if (n->kind == AX_NODE_CALL) {
        *to = k == 0 ? n->arg : n->next;
        return k == 0 || (k == 1 && w->empty[n->arg]);
    }
    return false;
}


static void
enter(struct walk *w, uint32_t node)
{
    w->index[node] = w->low[node] = ++w->n_seen;
    w->open[w->n_open++] = node;
    w->path[w->n_path].node = node;
    w->path[w->n_path++].edge = 0;
}


static void
close_component(struct walk *w, uint32_t node)
{
    uint32_t member;
    do {
        member = w->open[--w->n_open];
        w->low[member] = UINT32_MAX;
        w->component[member] = w->n_components;
    } while (member != node);
    w->n_components++;
}


static void
leave(struct walk *w, uint32_t node)
{
    uint32_t low = w->low[node];
    w->n_path--;
    if (low == w->index[node]) {
        close_component(w, node);
    } else {
        uint32_t *above = &w->low[w->path[w->n_path - 1].node];
        *above = low < *above ? low : *above;
    }
}


static void
find_components(struct walk *w)
{
    for (uint32_t i = 0; i < w->g->n_nodes; i++) {
        if (w->index[i] == 0) {
            enter(w, i);
        }
        while (w->n_path > 0) {
            uint32_t node = w->path[w->n_path - 1].node, to;
            if (!silent_edge(w, node, w->path[w->n_path - 1].edge++, &to)) {
                leave(w, node);
            } else if (w->index[to] == 0) {
                enter(w, to);
            } else if (w->low[to] != UINT32_MAX &&
                       w->index[to] < w->low[node]) {
                w->low[node] = w->index[to];
            }
        }
    }
}


static int
refuse_rule(const struct ax_grammar_rule_name *rules, uint32_t n_rules,
            uint32_t start, struct ax_error *err)
{
    char name[64] = "";
    for (uint32_t i = 0; i < n_rules && name[0] == '\0'; i++) {
        if (rules[i].start == start) {
            ax_error_escape(name, sizeof(name), rules[i].data, rules[i].bytes);
        }
    }
    return ax_error_set(err, AXION_ERR_GRAMMAR_INVALID,
                        "grammar: the rule \"%s\" begins with itself (left "
                        "recursion)",
                        name[0] != '\0' ? name : "(...)");
}


static int
check_recursion(const struct ax_grammar *g, const uint8_t *empty,
                const struct ax_grammar_rule_name *rules, uint32_t n_rules,
                struct ax_error *err)
{
    struct walk w = {.g = g, .empty = empty};
    size_t n = g->n_nodes;
    uint32_t *memory = calloc(4 * n, sizeof(*memory));
    w.path = calloc(n, sizeof(*w.path));
    int rc = AXION_OK;
    if (memory == NULL || w.path == NULL) {
        rc = ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory for a grammar");
    } else {
        w.index = memory;
        w.low = memory + n;
        w.component = memory + 2 * n;
        w.open = memory + 3 * n;
        find_components(&w);
    }
    for (uint32_t i = 0; rc == AXION_OK && i < g->n_nodes; i++) {
        const struct ax_grammar_node *node = &g->nodes[i];
        if (node->kind == AX_NODE_CALL &&
            w.component[i] == w.component[node->arg]) {
            rc = refuse_rule(rules, n_rules, node->arg, err);
        }
    }
    free(memory);
    free(w.path);
    return rc;
}


static int
check_all(struct solver *s, const struct ax_grammar_rule_name *rules,
          uint32_t n_rules, struct ax_error *err)
{
    const struct ax_grammar *g = s->g;
    reverse_edges(s);
    solve(s, false);
    int rc = check_recursion(g, s->holds, rules, n_rules, err);
    if (rc != AXION_OK) {
        return rc;
    }
    solve(s, true);
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        g->nodes[i].fruitful = s->holds[i];
    }
    return g->nodes[g->start].fruitful
               ? AXION_OK
               : ax_error_set(err, AXION_ERR_GRAMMAR_INVALID,
                              "grammar: no text satisfies the rule \"root\"");
}


int
ax_grammar_check(struct ax_grammar *g, const struct ax_grammar_rule_name *rules,
                 uint32_t n_rules, struct ax_error *err)
{
    struct solver s = {.g = g};
    size_t n = g->n_nodes;
    s.holds = calloc(n, 1);
    s.first = calloc(n + 1, sizeof(*s.first));
    s.from = calloc(2 * n, sizeof(*s.from));
    s.work = calloc(n, sizeof(*s.work));
    int rc = AXION_OK;
    if (s.holds == NULL || s.first == NULL || s.from == NULL ||
        s.work == NULL) {
        rc = ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory for a grammar");
    } else {
        rc = check_all(&s, rules, n_rules, err);
    }
    free(s.holds);
    free(s.first);
    free(s.from);
    free(s.work);
    return rc;
}
