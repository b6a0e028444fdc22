/*
 * The cache of compiled grammars: see constrain.h.  A table of a fixed number
 * of entries, looked through from one end to the other: compiling one costs
 * far more.  Who has not been asked for longest goes first, of the tenant's
 * own when it has its share.
 */
#include "engine/server/constrain.h"

#include <stdlib.h>
#include <string.h>
#include "engine/grammar/source.h"

struct ax_grammars {
    const struct ax_tokenizer *tokenizer;
    struct ax_vocabulary_source source;
    struct ax_vocabulary *vocabulary; /* NULL until the first grammar */
    uint64_t n_asked;
    struct ax_kept_grammar *kept[AX_GRAMMARS_MAX];
};


static size_t
bytes_of(const void *context, int32_t token, char *out, size_t cap)
{
    return ax_tokenizer_decode_token(context, token, false, out, cap);
}


static bool
ends(const void *context, int32_t token)
{
    return ax_tokenizer_is_eog(context, token);
}


int
ax_grammars_open(struct ax_grammars **out, const struct ax_tokenizer *tokenizer)
{
    struct ax_grammars *g = calloc(1, sizeof(*g));
    *out = g;
    if (g == NULL) {
        return AXION_ERR_NO_MEMORY;
    }
    g->tokenizer = tokenizer;
    g->source = (struct ax_vocabulary_source){
        tokenizer, ax_tokenizer_n_vocab(tokenizer), bytes_of, ends};
    return AXION_OK;
}


static void
close_kept(struct ax_kept_grammar *k)
{
    if (k != NULL) {
        ax_constraint_close(k->constraint);
        free(k->source);
        free(k);
    }
}


void
ax_grammars_close(struct ax_grammars *g)
{
    if (g == NULL) {
        return;
    }
    for (uint32_t i = 0; i < AX_GRAMMARS_MAX; i++) {
        close_kept(g->kept[i]);
    }
    ax_vocabulary_close(g->vocabulary);
    free(g);
}


static bool
is_same(const struct ax_kept_grammar *k, uint64_t tenant,
        const struct axion_request_view *view)
{
    return k->tenant == tenant && k->kind == view->grammar_kind &&
           k->bytes == view->grammar.bytes &&
           (k->bytes == 0 ||
            memcmp(k->source, view->grammar.data, k->bytes) == 0);
}


/* The place for one more of the tenant's; NULL: there is none.  What users of
 * others have left is seen whole: they are lowered with release. */
static struct ax_kept_grammar **
find_place(struct ax_grammars *g, uint64_t tenant)
{
    struct ax_kept_grammar **vacant = NULL, **own = NULL, **any = NULL;
    uint32_t n_own = 0;
    for (uint32_t i = 0; i < AX_GRAMMARS_MAX; i++) {
        struct ax_kept_grammar **at = &g->kept[i];
        if (*at == NULL) {
            vacant = at;
            continue;
        }
        bool mine = (*at)->tenant == tenant;
        n_own += mine;
        if (atomic_load_explicit(&(*at)->users, memory_order_acquire) != 0) {
            continue;
        }
        if (mine && (own == NULL || (*at)->asked < (*own)->asked)) {
            own = at;
        }
        if (any == NULL || (*at)->asked < (*any)->asked) {
            any = at;
        }
    }
    if (n_own >= AX_GRAMMARS_TENANT_MAX) {
        return own;
    }
    return vacant != NULL ? vacant : any;
}


static int
open_constraint(struct ax_grammars *g, const struct axion_request_view *view,
                struct ax_constraint **out, struct ax_error *err)
{
    struct ax_constraint_options o = {.source = &g->source};
    int rc = AXION_OK;
    if (g->vocabulary == NULL) {
        rc = ax_vocabulary_open(&g->vocabulary, &g->source);
    }
    if (rc != AXION_OK) {
        return ax_error_set(err, rc, "no memory for the tokens' trie");
    }
    o.vocabulary = g->vocabulary;
    struct ax_gbnf_text gbnf;
    rc =
        ax_grammar_source_to_gbnf(&gbnf, view->grammar_kind, view->grammar.data,
                                  view->grammar.bytes, err);
    if (rc != AXION_OK) {
        return rc;
    }
    rc = ax_grammar_compile(&o.grammar, gbnf.data, gbnf.bytes, err);
    ax_gbnf_text_free(&gbnf);
    if (rc != AXION_OK) {
        return rc;
    }
    rc = ax_constraint_open(out, &o);
    return rc == AXION_OK ? rc
                          : ax_error_set(err, rc, "no memory for a grammar");
}


static struct ax_kept_grammar *
keep(const struct axion_request_view *view, uint64_t tenant)
{
    struct ax_kept_grammar *k = calloc(1, sizeof(*k));
    size_t bytes = view->grammar.bytes;
    if (k == NULL || (k->source = malloc(bytes + 1)) == NULL) {
        free(k);
        return NULL;
    }
    if (bytes > 0) {
        memcpy(k->source, view->grammar.data, bytes);
    }
    k->bytes = bytes;
    k->kind = view->grammar_kind;
    k->tenant = tenant;
    return k;
}


static int
add(struct ax_grammars *g, uint64_t tenant,
    const struct axion_request_view *view, struct ax_kept_grammar **out,
    struct ax_error *err)
{
    struct ax_kept_grammar **place = find_place(g, tenant);
    if (place == NULL) {
        return ax_error_set(err, AXION_ERR_QUEUE_FULL,
                            "too many different grammars at once");
    }
    struct ax_kept_grammar *k = keep(view, tenant);
    if (k == NULL) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY,
                            "no memory for a grammar");
    }
    int rc = open_constraint(g, view, &k->constraint, err);
    if (rc != AXION_OK) {
        close_kept(k);
        return rc;
    }
    close_kept(*place);
    *place = k;
    *out = k;
    return AXION_OK;
}


int
ax_grammars_get(struct ax_grammars *g, uint64_t tenant,
                const struct axion_request_view *view,
                struct ax_kept_grammar **out, bool *is_new,
                struct ax_error *err)
{
    *out = NULL;
    *is_new = false;
    for (uint32_t i = 0; i < AX_GRAMMARS_MAX && *out == NULL; i++) {
        if (g->kept[i] != NULL && is_same(g->kept[i], tenant, view)) {
            *out = g->kept[i];
        }
    }
    if (*out == NULL) {
        int rc = add(g, tenant, view, out, err);
        if (rc != AXION_OK) {
            return rc;
        }
        *is_new = true;
    }
    (*out)->asked = ++g->n_asked;
    atomic_fetch_add_explicit(&(*out)->users, 1, memory_order_relaxed);
    return AXION_OK;
}


void
ax_grammar_release(struct ax_kept_grammar *k)
{
    /* Pairs with find_place(): thread 0 has done with the constraint. */
    atomic_fetch_sub_explicit(&k->users, 1, memory_order_release);
}
