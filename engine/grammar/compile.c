/*
 * From the tree of a grammar's text to its program (program.h).
 *
 * Emitted backwards: emit(item, next) makes the nodes of an item that goes on
 * at `next` and gives the first of them, so no jump is ever needed and a call
 * that ends a rule has the rule's END behind it, which the automaton takes
 * for a tail call.
 *
 * What a repetition repeats becomes a rule of its own where it is more than
 * one byte: {1000} is then 1,000 calls, and nested repetitions add up, they
 * do not multiply.
 *
 * A class of characters becomes sequences of byte ranges, one for each stretch
 * of code points whose UTF-8 has the same length and the same lead; equal
 * tails are one node, and leads before the same tail one set.
 */
#include "engine/grammar/grammar.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "engine/grammar/parse.h"
#include "engine/grammar/program.h"
#include "engine/text/utf8.h"

#define SETS_MAX    8192u
#define SET_BUCKETS 4096u
#define NONE        UINT32_MAX

struct emitter {
    const struct ax_gbnf *tree;
    struct ax_grammar *g;
    uint32_t nodes_cap, sets_cap;
    uint32_t *starts;    /* [rules] */
    uint32_t *bodies;    /* [items] node of a repetition's rule, or NONE */
    uint32_t *set_chain; /* [sets] */
    uint32_t buckets[SET_BUCKETS]; /* 1 + index of a set */
    int error;
    struct ax_error *err;
};


/* ---- nodes and sets ---- */

static uint32_t
refuse(struct emitter *e, int error, const char *what)
{
    if (e->error == AXION_OK) {
        e->error = ax_error_set(e->err, error, "%s", what);
    }
    return 0;
}


/* After an error it is node 0, whatever that is. */
static uint32_t
add_node(struct emitter *e, enum ax_grammar_kind kind, uint32_t next,
         uint32_t arg)
{
    struct ax_grammar *g = e->g;
    if (e->error != AXION_OK) {
        return 0;
    }
    if (g->n_nodes == AX_GRAMMAR_NODES_MAX) {
        return refuse(e, AXION_ERR_GRAMMAR_LIMIT,
                      "the grammar is too large, or repeats too much");
    }
    if (g->n_nodes == e->nodes_cap) {
        uint32_t want = e->nodes_cap == 0 ? 256 : 2 * e->nodes_cap;
        void *more = realloc(g->nodes, want * sizeof(*g->nodes));
        if (more == NULL) {
            return refuse(e, AXION_ERR_NO_MEMORY, "no memory for a grammar");
        }
        g->nodes = more;
        e->nodes_cap = want;
    }
    g->nodes[g->n_nodes] = (struct ax_grammar_node){
        .kind = (uint8_t)kind, .next = next, .arg = arg};
    return g->n_nodes++;
}


static bool
grow_sets(struct emitter *e)
{
    struct ax_grammar *g = e->g;
    if (g->n_sets < e->sets_cap) {
        return true;
    }
    uint32_t want = e->sets_cap == 0 ? 64 : 2 * e->sets_cap;
    void *sets = realloc(g->sets, want * sizeof(*g->sets));
    if (sets == NULL) {
        return false;
    }
    g->sets = sets;
    void *chain = realloc(e->set_chain, want * sizeof(*e->set_chain));
    if (chain == NULL) {
        return false;
    }
    e->set_chain = chain;
    e->sets_cap = want;
    return true;
}


static uint32_t
add_set(struct emitter *e, const struct ax_byte_set *set)
{
    struct ax_grammar *g = e->g;
    uint64_t hash = 0;
    for (int i = 0; i < 4; i++) {
        hash = (hash ^ set->word[i]) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 29;
    }
    uint32_t *bucket = &e->buckets[hash % SET_BUCKETS];
    for (uint32_t i = *bucket; i != 0; i = e->set_chain[i - 1]) {
        if (memcmp(&g->sets[i - 1], set, sizeof(*set)) == 0) {
            return i - 1;
        }
    }
    if (g->n_sets == SETS_MAX) {
        return refuse(e, AXION_ERR_GRAMMAR_LIMIT,
                      "the grammar has too many different classes");
    }
    if (!grow_sets(e)) {
        return refuse(e, AXION_ERR_NO_MEMORY, "no memory for a grammar");
    }
    g->sets[g->n_sets] = *set;
    e->set_chain[g->n_sets] = *bucket;
    *bucket = ++g->n_sets;
    return g->n_sets - 1;
}


static uint32_t
add_bytes(struct emitter *e, const struct ax_byte_set *set, uint32_t next)
{
    return add_node(e, AX_NODE_BYTES, next, add_set(e, set));
}


/* ---- classes of characters ---- */

#define LEADS_MAX 64u
#define TAILS_MAX 256u

/* Nodes of one class: those that follow a lead byte, and the leads by what
 * follows them. */
struct class_nodes {
    struct {
        uint8_t first, last;
        uint32_t next, node;
    } tails[TAILS_MAX];
    uint32_t n_tails;
    struct {
        struct ax_byte_set set;
        uint32_t next;
    } leads[LEADS_MAX];
    uint32_t n_leads;
};


static uint32_t
add_tail(struct emitter *e, struct class_nodes *c, uint8_t first, uint8_t last,
         uint32_t next)
{
    for (uint32_t i = 0; i < c->n_tails; i++) {
        if (c->tails[i].first == first && c->tails[i].last == last &&
            c->tails[i].next == next) {
            return c->tails[i].node;
        }
    }
    struct ax_byte_set set = {{0}};
    ax_byte_set_add(&set, first, last);
    uint32_t node = add_bytes(e, &set, next);
    if (c->n_tails < TAILS_MAX) {
        c->tails[c->n_tails].first = first;
        c->tails[c->n_tails].last = last;
        c->tails[c->n_tails].next = next;
        c->tails[c->n_tails++].node = node;
    }
    return node;
}


static uint32_t
emit_leads(struct emitter *e, struct class_nodes *c)
{
    uint32_t node = NONE;
    for (uint32_t i = 0; i < c->n_leads; i++) {
        uint32_t one = add_bytes(e, &c->leads[i].set, c->leads[i].next);
        node = node == NONE ? one : add_node(e, AX_NODE_SPLIT, node, one);
    }
    c->n_leads = 0;
    return node;
}


/* *all: the leads that did not fit any more, or NONE. */
static void
add_lead(struct emitter *e, struct class_nodes *c, uint8_t first, uint8_t last,
         uint32_t next, uint32_t *all)
{
    for (uint32_t i = 0; i < c->n_leads; i++) {
        if (c->leads[i].next == next) {
            ax_byte_set_add(&c->leads[i].set, first, last);
            return;
        }
    }
    if (c->n_leads == LEADS_MAX) {
        uint32_t some = emit_leads(e, c);
        *all = *all == NONE ? some : add_node(e, AX_NODE_SPLIT, *all, some);
    }
    c->leads[c->n_leads].set = (struct ax_byte_set){{0}};
    ax_byte_set_add(&c->leads[c->n_leads].set, first, last);
    c->leads[c->n_leads++].next = next;
}


/* One stretch of code points whose bytes are the product of their ranges. */
static void
add_stretch(struct emitter *e, struct class_nodes *c, uint32_t first,
            uint32_t last, uint32_t next, uint32_t *all)
{
    char low[4], high[4];
    size_t n = ax_utf8_encode(first, low);
    size_t n_last = ax_utf8_encode(last, high);
    assert(n_last == n);
    for (size_t i = n - 1; i > 0; i--) {
        next = add_tail(e, c, (uint8_t)low[i], (uint8_t)high[i], next);
    }
    add_lead(e, c, (uint8_t)low[0], (uint8_t)high[0], next, all);
}


/* The end of the stretch that begins with `first`: the bytes of all code
 * points in it are the product of one range for each byte. */
static uint32_t
stretch_end(uint32_t first, uint32_t last)
{
    static const uint32_t length_end[] = {0x7f, 0x7ff, 0xffff, 0x10ffff};
    int n = 0;
    while (first > length_end[n]) {
        n++;
    }
    last = last < length_end[n] ? last : length_end[n];
    for (uint32_t bits = 6; bits < 6 + 6 * (uint32_t)n; bits += 6) {
        uint32_t low = (1u << bits) - 1;
        if ((first >> bits) == (last >> bits)) {
            continue; /* the bytes before are the same in both */
        }
        if ((first & low) != 0) {
            return first | low;
        }
        if ((last & low) != low) {
            last = (last & ~low) - 1;
        }
    }
    return last;
}


static uint32_t
emit_class(struct emitter *e, const struct ax_gbnf_item *item, uint32_t next)
{
    struct class_nodes c;
    uint32_t all = NONE;
    c.n_tails = c.n_leads = 0;
    for (uint32_t i = 0; i < item->n && e->error == AXION_OK; i++) {
        struct ax_gbnf_range r = e->tree->ranges[item->first + i];
        for (uint32_t end; r.first <= r.last; r.first = end + 1) {
            end = stretch_end(r.first, r.last);
            add_stretch(e, &c, r.first, end, next, &all);
        }
    }
    if (item->n == 0) { /* nothing satisfies it */
        struct ax_byte_set none = {{0}};
        return add_bytes(e, &none, next);
    }
    uint32_t some = emit_leads(e, &c);
    return all == NONE ? some : add_node(e, AX_NODE_SPLIT, all, some);
}


/* ---- items ---- */

static uint32_t emit(struct emitter *e, uint32_t index, uint32_t next);


/* The last first: what follows an item has to be known. */
static uint32_t
emit_sequence(struct emitter *e, const struct ax_gbnf_item *item, uint32_t next)
{
    const struct ax_gbnf_item *items = e->tree->items;
    uint32_t n = 0;
    for (uint32_t i = item->child; i != 0; i = items[i].sibling) {
        n++;
    }
    uint32_t *list = malloc(n * sizeof(*list));
    if (list == NULL) {
        return refuse(e, AXION_ERR_NO_MEMORY, "no memory for a grammar");
    }
    n = 0;
    for (uint32_t i = item->child; i != 0; i = items[i].sibling) {
        list[n++] = i;
    }
    while (n-- > 0 && e->error == AXION_OK) {
        next = emit(e, list[n], next);
    }
    free(list);
    return next;
}


static uint32_t
emit_alternatives(struct emitter *e, const struct ax_gbnf_item *item,
                  uint32_t next)
{
    const struct ax_gbnf_item *items = e->tree->items;
    uint32_t all = NONE;
    for (uint32_t i = item->child; i != 0 && e->error == AXION_OK;
         i = items[i].sibling) {
        uint32_t one = emit(e, i, next);
        all = all == NONE ? one : add_node(e, AX_NODE_SPLIT, all, one);
    }
    return all;
}


/* A class of ASCII alone is one node; the rest is called. */
static bool
is_one_byte(const struct emitter *e, const struct ax_gbnf_item *item)
{
    return item->kind == AX_GBNF_CLASS && item->n > 0 &&
           e->tree->ranges[item->first + item->n - 1].last < 0x80;
}


static uint32_t
emit_body(struct emitter *e, uint32_t child, uint32_t next)
{
    const struct ax_gbnf_item *item = &e->tree->items[child];
    if (is_one_byte(e, item)) {
        return emit(e, child, next);
    }
    if (item->kind == AX_GBNF_RULE) {
        return add_node(e, AX_NODE_CALL, next, item->first);
    }
    if (e->bodies[child] == NONE) {
        e->bodies[child] = emit(e, child, add_node(e, AX_NODE_END, 0, 0));
    }
    /* Not the number of a rule: see link_calls(). */
    return add_node(e, AX_NODE_CALL, next, e->tree->n_rules + e->bodies[child]);
}


static uint32_t
emit_repeat(struct emitter *e, const struct ax_gbnf_item *item, uint32_t next)
{
    uint32_t at = next;
    if (item->n == AX_GBNF_FOREVER) {
        at = add_node(e, AX_NODE_SPLIT, 0, next);
        uint32_t body = emit_body(e, item->child, at);
        if (e->error == AXION_OK) {
            e->g->nodes[at].next = body;
        }
    } else {
        for (uint32_t i = item->first; i < item->n && e->error == AXION_OK;
             i++) {
            uint32_t body = emit_body(e, item->child, at);
            at = add_node(e, AX_NODE_SPLIT, body, next);
        }
    }
    for (uint32_t i = 0; i < item->first && e->error == AXION_OK; i++) {
        at = emit_body(e, item->child, at);
    }
    return at;
}


static uint32_t
emit(struct emitter *e, uint32_t index, uint32_t next)
{
    const struct ax_gbnf_item *item = &e->tree->items[index];
    switch ((enum ax_gbnf_kind)item->kind) {
    case AX_GBNF_SEQUENCE:
        return emit_sequence(e, item, next);
    case AX_GBNF_ALTERNATIVES:
        return emit_alternatives(e, item, next);
    case AX_GBNF_CLASS:
        return emit_class(e, item, next);
    case AX_GBNF_RULE:
        return add_node(e, AX_NODE_CALL, next, item->first);
    case AX_GBNF_REPEAT:
        return emit_repeat(e, item, next);
    case AX_GBNF_EMPTY:
        break;
    }
    return next;
}


/* ---- the whole ---- */

/* Calls name rules until all of these have their nodes. */
static void
link_calls(struct emitter *e)
{
    for (uint32_t i = 0; i < e->g->n_nodes; i++) {
        struct ax_grammar_node *node = &e->g->nodes[i];
        if (node->kind == AX_NODE_CALL) {
            node->arg = node->arg < e->tree->n_rules
                            ? e->starts[node->arg]
                            : node->arg - e->tree->n_rules;
        }
    }
}


/* Splits the classes of bytes by each set. */
static void
classify(struct ax_grammar *g)
{
    memset(g->class_of, 0, sizeof(g->class_of));
    g->n_classes = 1;
    for (uint32_t s = 0; s < g->n_sets && g->n_classes < 256; s++) {
        int inside[256], members[256] = {0}, taken[256] = {0};
        memset(inside, -1, sizeof(inside));
        for (int b = 0; b < 256; b++) {
            members[g->class_of[b]]++;
            taken[g->class_of[b]] += ax_byte_set_has(&g->sets[s], (uint8_t)b);
        }
        for (int b = 0; b < 256; b++) {
            int c = g->class_of[b];
            if (taken[c] == 0 || taken[c] == members[c] ||
                !ax_byte_set_has(&g->sets[s], (uint8_t)b)) {
                continue;
            }
            if (inside[c] < 0) {
                inside[c] = (int)g->n_classes++;
            }
            g->class_of[b] = (uint8_t)inside[c];
        }
    }
    for (int b = 255; b >= 0; b--) {
        g->example_of[g->class_of[b]] = (uint8_t)b;
    }
}


static void
emit_rules(struct emitter *e)
{
    for (uint32_t i = 0; i < e->tree->n_rules && e->error == AXION_OK; i++) {
        uint32_t end = add_node(e, AX_NODE_END, 0, 0);
        e->starts[i] = emit(e, e->tree->rules[i].item, end);
    }
    if (e->error == AXION_OK) {
        link_calls(e);
        classify(e->g);
        e->g->start = e->starts[e->tree->root];
    }
}


static int
check(struct emitter *e)
{
    struct ax_grammar_rule_name *names =
        calloc(e->tree->n_rules, sizeof(*names));
    if (names == NULL) {
        return ax_error_set(e->err, AXION_ERR_NO_MEMORY,
                            "no memory for a grammar");
    }
    for (uint32_t i = 0; i < e->tree->n_rules; i++) {
        names[i] = (struct ax_grammar_rule_name){
            e->tree->rules[i].name, e->tree->rules[i].bytes, e->starts[i]};
    }
    int rc = ax_grammar_check(e->g, names, e->tree->n_rules, e->err);
    free(names);
    return rc;
}


static int
compile(struct emitter *e)
{
    e->starts = calloc(e->tree->n_rules, sizeof(*e->starts));
    e->bodies = malloc(e->tree->n_items * sizeof(*e->bodies));
    if (e->starts == NULL || e->bodies == NULL) {
        refuse(e, AXION_ERR_NO_MEMORY, "no memory for a grammar");
    } else {
        memset(e->bodies, 0xff, e->tree->n_items * sizeof(*e->bodies));
        emit_rules(e);
    }
    int rc = e->error == AXION_OK ? check(e) : e->error;
    free(e->starts);
    free(e->bodies);
    free(e->set_chain);
    return rc;
}


int
ax_grammar_compile(struct ax_grammar **out, const char *gbnf, size_t bytes,
                   struct ax_error *err)
{
    struct ax_gbnf tree;
    *out = NULL;
    int rc = ax_gbnf_parse(&tree, gbnf, bytes, err);
    if (rc != AXION_OK) {
        ax_gbnf_free(&tree);
        return rc;
    }
    struct ax_grammar *g = calloc(1, sizeof(*g));
    if (g == NULL) {
        ax_gbnf_free(&tree);
        return ax_error_set(err, AXION_ERR_NO_MEMORY,
                            "no memory for a grammar");
    }
    struct emitter e = {.tree = &tree, .g = g, .err = err};
    rc = compile(&e);
    ax_gbnf_free(&tree);
    if (rc != AXION_OK) {
        ax_grammar_close(g);
        return rc;
    }
    *out = g;
    return AXION_OK;
}


size_t
ax_grammar_bytes(const struct ax_grammar *g)
{
    return sizeof(*g) + (size_t)g->n_nodes * sizeof(*g->nodes) +
           (size_t)g->n_sets * sizeof(*g->sets);
}


void
ax_grammar_close(struct ax_grammar *g)
{
    if (g != NULL) {
        free(g->nodes);
        free(g->sets);
        free(g);
    }
}
