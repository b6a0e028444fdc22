/* The cache of compiled grammars: see grammars.h.  Lists that are looked
 * through from one end to the other: compiling a grammar costs far more. */
#include "engine/server/grammars.h"

#include <stdlib.h>
#include <string.h>
#include "engine/grammar/source.h"

#define IN_USE_OF_FREE 2u /* what a tenant may use beside what is free */

struct ax_grammar_tenant {
    struct ax_grammar_tenant *next;
    uint64_t id;
    uint32_t n_kept;
    uint64_t bytes;
    uint64_t used_bytes; /* of those in use, by survey() */
};

struct counters {
    atomic_uint_fast64_t kept, bytes, hits, compiles, masks, mask_ns;
};

struct ax_grammars {
    struct ax_grammars_options o;
    struct ax_vocabulary *vocabulary; /* NULL until the first grammar */
    uint64_t bytes;                   /* of the account */
    uint64_t used_bytes;              /* of it in use, by survey() */
    uint64_t n_asked;
    uint32_t n_tenants;
    struct ax_grammar_tenant *tenants;
    struct ax_kept_grammar *kept;
    struct counters counters;
};


int
ax_grammars_open(struct ax_grammars **out,
                 const struct ax_grammars_options *options)
{
    struct ax_grammars *g = calloc(1, sizeof(*g));
    *out = g;
    if (g == NULL) {
        return AXION_ERR_NO_MEMORY;
    }
    g->o = *options;
    return AXION_OK;
}


/* ---- the account ---- */

static void
set_account(struct ax_grammars *g, uint64_t bytes)
{
    g->bytes = bytes;
    atomic_store_explicit(&g->counters.bytes, bytes, memory_order_relaxed);
}


static struct ax_grammar_tenant *
find_tenant(const struct ax_grammars *g, uint64_t id)
{
    struct ax_grammar_tenant *t = g->tenants;
    while (t != NULL && t->id != id) {
        t = t->next;
    }
    return t;
}


static bool
in_use(const struct ax_kept_grammar *k)
{
    /* Pairs with release(): what its users have left is seen whole. */
    return atomic_load_explicit(&k->users, memory_order_acquire) != 0;
}


static void
survey(struct ax_grammars *g)
{
    g->used_bytes =
        g->vocabulary != NULL ? ax_vocabulary_bytes(g->vocabulary) : 0;
    for (struct ax_grammar_tenant *t = g->tenants; t != NULL; t = t->next) {
        t->used_bytes = 0;
    }
    for (struct ax_kept_grammar *k = g->kept; k != NULL; k = k->next) {
        if (in_use(k)) {
            g->used_bytes += k->bytes;
            k->tenant->used_bytes += k->bytes;
        }
    }
}


/* Whether the tenant (NULL: it keeps none) may have so many bytes more in
 * use. */
static bool
may_use(struct ax_grammars *g, const struct ax_grammar_tenant *t,
        uint64_t bytes)
{
    survey(g);
    uint64_t own = t != NULL ? t->used_bytes : 0;
    if (g->used_bytes + bytes > g->o.memory_bytes) {
        return false;
    }
    uint64_t left = g->o.memory_bytes - g->used_bytes - bytes;
    return own == 0 || (own + bytes) / IN_USE_OF_FREE <= left;
}


static void
close_kept(struct ax_kept_grammar *k)
{
    ax_constraint_close(k->constraint);
    free(k->source);
    free(k);
}


static void
leave_tenant(struct ax_grammars *g, struct ax_grammar_tenant *t)
{
    struct ax_grammar_tenant **at = &g->tenants;
    if (--t->n_kept > 0) {
        return;
    }
    while (*at != t) {
        at = &(*at)->next;
    }
    *at = t->next;
    g->n_tenants--;
    free(t);
}


static void
throw_out(struct ax_grammars *g, struct ax_kept_grammar **at)
{
    struct ax_kept_grammar *k = *at;
    *at = k->next;
    k->tenant->bytes -= k->bytes;
    set_account(g, g->bytes - k->bytes);
    atomic_fetch_sub_explicit(&g->counters.kept, 1, memory_order_relaxed);
    leave_tenant(g, k->tenant);
    close_kept(k);
}


/* The idle one to go first, of tenants with more than `share`; NULL: none. */
static struct ax_kept_grammar **
find_idle(struct ax_grammars *g, uint64_t share)
{
    struct ax_kept_grammar **found = NULL;
    double most = -1;
    for (struct ax_kept_grammar **at = &g->kept; *at != NULL;
         at = &(*at)->next) {
        const struct ax_kept_grammar *k = *at;
        double worth = (double)k->bytes * (double)(g->n_asked - k->asked);
        if (worth > most && k->tenant->bytes > share && !in_use(k)) {
            found = at;
            most = worth;
        }
    }
    return found;
}


/* False: what is in use leaves no room. */
static bool
make_room(struct ax_grammars *g, uint64_t bytes)
{
    while (g->bytes + bytes > g->o.memory_bytes) {
        uint64_t share = g->o.memory_bytes / (g->n_tenants + 1);
        struct ax_kept_grammar **at = find_idle(g, share);
        if (at == NULL && (at = find_idle(g, 0)) == NULL) {
            return false;
        }
        throw_out(g, at);
    }
    return true;
}


void
ax_grammars_close(struct ax_grammars *g)
{
    if (g == NULL) {
        return;
    }
    while (g->kept != NULL) {
        throw_out(g, &g->kept);
    }
    ax_vocabulary_close(g->vocabulary);
    free(g);
}


/* ---- one more ---- */

static int
too_many(struct ax_error *err)
{
    return ax_error_set(err, AXION_ERR_QUEUE_FULL,
                        "too many different grammars at once");
}


static int
open_vocabulary(struct ax_grammars *g, struct ax_error *err)
{
    if (g->vocabulary != NULL) {
        return AXION_OK;
    }
    int rc = ax_vocabulary_open(&g->vocabulary, &g->o.tokens);
    if (rc != AXION_OK) {
        return ax_error_set(err, rc, "no memory for the tokens' trie");
    }
    set_account(g, ax_vocabulary_bytes(g->vocabulary));
    return AXION_OK;
}


static int
compile(struct ax_grammar **out, const struct axion_request_view *view,
        struct ax_error *err)
{
    struct ax_gbnf_text gbnf;
    int rc =
        ax_grammar_source_to_gbnf(&gbnf, view->grammar_kind, view->grammar.data,
                                  view->grammar.bytes, err);
    if (rc == AXION_OK) {
        rc = ax_grammar_compile(out, gbnf.data, gbnf.bytes, err);
        ax_gbnf_text_free(&gbnf);
    }
    return rc;
}


static struct ax_grammar_tenant *
join_tenant(struct ax_grammars *g, uint64_t id)
{
    struct ax_grammar_tenant *t = find_tenant(g, id);
    if (t == NULL) {
        if ((t = calloc(1, sizeof(*t))) == NULL) {
            return NULL;
        }
        t->id = id;
        t->next = g->tenants;
        g->tenants = t;
        g->n_tenants++;
    }
    t->n_kept++;
    return t;
}


/* Takes the grammar, whatever comes of it. */
static struct ax_kept_grammar *
keep(struct ax_grammars *g, uint64_t tenant,
     const struct axion_request_view *view, struct ax_grammar *grammar)
{
    struct ax_constraint_options o = {g->vocabulary, &g->o.tokens, grammar};
    struct ax_kept_grammar *k = calloc(1, sizeof(*k));
    size_t n = view->grammar.bytes;
    if (k == NULL || (k->source = malloc(n + 1)) == NULL) {
        free(k);
        ax_grammar_close(grammar);
        return NULL;
    }
    if (ax_constraint_open(&k->constraint, &o) != AXION_OK ||
        (k->tenant = join_tenant(g, tenant)) == NULL) {
        close_kept(k);
        return NULL;
    }
    if (n > 0) {
        memcpy(k->source, view->grammar.data, n);
    }
    k->source_bytes = n;
    k->kind = view->grammar_kind;
    return k;
}


/* Whether it could be alone. */
static int
check_fits(const struct ax_grammars *g, uint64_t bytes, struct ax_error *err)
{
    uint64_t trie = ax_vocabulary_bytes(g->vocabulary);
    if (bytes + trie > g->o.memory_bytes) {
        return ax_error_set(err, AXION_ERR_GRAMMAR_LIMIT,
                            "with the tokens' trie the grammar takes %.1f MiB "
                            "of memory, more than the %.1f of all grammars",
                            (double)(bytes + trie) / 1048576,
                            (double)g->o.memory_bytes / 1048576);
    }
    return AXION_OK;
}


/* Room in the account for a grammar that was compiled. */
static int
reserve(struct ax_grammars *g, uint64_t tenant, uint64_t bytes,
        struct ax_error *err)
{
    int rc = check_fits(g, bytes, err);
    if (rc != AXION_OK) {
        return rc;
    }
    if (!may_use(g, find_tenant(g, tenant), bytes) || !make_room(g, bytes)) {
        return too_many(err);
    }
    return AXION_OK;
}


static int
add(struct ax_grammars *g, uint64_t tenant,
    const struct axion_request_view *view, struct ax_kept_grammar **out,
    struct ax_error *err)
{
    struct ax_grammar *grammar;
    int rc = open_vocabulary(g, err);
    if (rc != AXION_OK) {
        return rc;
    }
    uint64_t least = ax_constraint_bytes(g->vocabulary, NULL);
    uint64_t beside = view->grammar.bytes + 1 + sizeof(struct ax_kept_grammar);
    if ((rc = check_fits(g, least + beside, err)) != AXION_OK) {
        return rc;
    }
    if (!may_use(g, find_tenant(g, tenant), least + beside)) {
        return too_many(err); /* and nothing was compiled for it */
    }
    rc = compile(&grammar, view, err);
    if (rc != AXION_OK) {
        return rc;
    }
    uint64_t bytes = ax_constraint_bytes(g->vocabulary, grammar) + beside;
    rc = reserve(g, tenant, bytes, err);
    if (rc != AXION_OK) {
        ax_grammar_close(grammar);
        return rc;
    }
    struct ax_kept_grammar *k = keep(g, tenant, view, grammar);
    if (k == NULL) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY,
                            "no memory for a grammar");
    }
    k->bytes = bytes;
    k->tenant->bytes += bytes;
    set_account(g, g->bytes + bytes);
    atomic_fetch_add_explicit(&g->counters.kept, 1, memory_order_relaxed);
    k->next = g->kept;
    g->kept = *out = k;
    return AXION_OK;
}


/* ---- what requests ask ---- */

static struct ax_kept_grammar *
find(const struct ax_grammars *g, uint64_t tenant,
     const struct axion_request_view *view)
{
    struct ax_kept_grammar *k = g->kept;
    size_t n = view->grammar.bytes;
    while (k != NULL &&
           (k->tenant->id != tenant || k->kind != view->grammar_kind ||
            k->source_bytes != n ||
            (n > 0 && memcmp(k->source, view->grammar.data, n)))) {
        k = k->next;
    }
    return k;
}


int
ax_grammars_get(struct ax_grammars *g, uint64_t tenant,
                const struct axion_request_view *view,
                struct ax_kept_grammar **out, bool *is_new,
                struct ax_error *err)
{
    struct ax_kept_grammar *k = find(g, tenant, view);
    *out = NULL;
    *is_new = k == NULL;
    if (k == NULL) {
        int rc = add(g, tenant, view, &k, err);
        if (rc != AXION_OK) {
            return rc;
        }
    } else if (!in_use(k) && !may_use(g, k->tenant, k->bytes)) {
        return too_many(err);
    }
    atomic_fetch_add_explicit(*is_new ? &g->counters.compiles
                                      : &g->counters.hits,
                              1, memory_order_relaxed);
    k->asked = ++g->n_asked;
    atomic_fetch_add_explicit(&k->users, 1, memory_order_relaxed);
    *out = k;
    return AXION_OK;
}


void
ax_grammar_release(struct ax_kept_grammar *k)
{
    /* Pairs with in_use(): thread 0 has done with the constraint. */
    atomic_fetch_sub_explicit(&k->users, 1, memory_order_release);
}


/* ---- counts ---- */

void
ax_grammars_made(struct ax_grammars *g, uint64_t masks, uint64_t ns)
{
    atomic_fetch_add_explicit(&g->counters.masks, masks, memory_order_relaxed);
    atomic_fetch_add_explicit(&g->counters.mask_ns, ns, memory_order_relaxed);
}


void
ax_grammars_counts(const struct ax_grammars *g,
                   struct ax_grammar_counts *counts)
{
    const struct counters *c = &g->counters;
    *counts = (struct ax_grammar_counts){
        .kept = atomic_load_explicit(&c->kept, memory_order_relaxed),
        .bytes = atomic_load_explicit(&c->bytes, memory_order_relaxed),
        .hits = atomic_load_explicit(&c->hits, memory_order_relaxed),
        .compiles = atomic_load_explicit(&c->compiles, memory_order_relaxed),
        .masks = atomic_load_explicit(&c->masks, memory_order_relaxed),
        .mask_ns = atomic_load_explicit(&c->mask_ns, memory_order_relaxed),
    };
}
