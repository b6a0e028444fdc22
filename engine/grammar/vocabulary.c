/* See vocabulary.h.  The tokens are sorted by their bytes; what a token shares
 * with the one before it is a path that stands already. */
#include "engine/grammar/vocabulary.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct word {
    const char *text;
    uint32_t bytes;
    int32_t token;
};

struct maker {
    struct ax_vocabulary *v;
    struct word *words;
    uint32_t n_words;
    char *text; /* of all words */
    size_t text_bytes, text_cap;
    uint32_t path[AX_VOCABULARY_DEPTH_MAX + 1]; /* nodes, by depth */
};


uint32_t
ax_vocabulary_kind(uint8_t byte)
{
    static const char marks[] = " !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\t\n\r";
    const char *mark;
    if (byte >= '0' && byte <= '9') {
        return 0;
    }
    if (byte >= 'a' && byte <= 'z') {
        return 1;
    }
    if (byte >= 'A' && byte <= 'Z') {
        return 2;
    }
    if (byte >= 0x80) { /* within a character; a lead by its length */
        return byte < 0xc0 ? 3 : byte < 0xe0 ? 4 : byte < 0xf0 ? 5 : 6;
    }
    if (byte == 0 || (mark = strchr(marks, byte)) == NULL) {
        return 7;
    }
    return 8 + (uint32_t)(mark - marks);
}


static int
by_bytes(const void *a, const void *b)
{
    const struct word *x = a, *y = b;
    uint32_t n = x->bytes < y->bytes ? x->bytes : y->bytes;
    int order = memcmp(x->text, y->text, n);
    if (order != 0) {
        return order;
    }
    if (x->bytes != y->bytes) {
        return x->bytes < y->bytes ? -1 : 1;
    }
    return x->token < y->token ? -1 : 1;
}


static bool
keep_text(struct maker *m, const char *bytes, size_t n)
{
    if (m->text_bytes + n > m->text_cap) {
        size_t want = 2 * m->text_cap + (1u << 16) + n;
        char *more = realloc(m->text, want);
        if (more == NULL) {
            return false;
        }
        m->text = more;
        m->text_cap = want;
    }
    memcpy(m->text + m->text_bytes, bytes, n);
    m->text_bytes += n;
    return true;
}


static bool
read_words(struct maker *m, const struct ax_vocabulary_source *source)
{
    struct ax_vocabulary *v = m->v;
    char bytes[AX_VOCABULARY_DEPTH_MAX];
    for (uint32_t i = 0; i < source->n_vocab; i++) {
        int32_t token = (int32_t)i;
        if (source->ends(source->context, token)) {
            v->ends[v->n_ends++] = token;
            continue;
        }
        size_t n =
            source->bytes_of(source->context, token, bytes, sizeof(bytes));
        if (n == 0 || n > sizeof(bytes)) {
            continue;
        }
        if (!keep_text(m, bytes, n)) {
            return false;
        }
        m->words[m->n_words++] =
            (struct word){.bytes = (uint32_t)n, .token = token};
    }
    const char *at = m->text;
    for (uint32_t i = 0; i < m->n_words; i++) {
        m->words[i].text = at;
        at += m->words[i].bytes;
    }
    return true;
}


static uint32_t
shared_bytes(const struct word *a, const struct word *b)
{
    uint32_t n = 0;
    while (n < a->bytes && n < b->bytes && a->text[n] == b->text[n]) {
        n++;
    }
    return n;
}


static uint32_t
count_nodes(const struct maker *m)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->n_words; i++) {
        n += m->words[i].bytes;
        n -= i > 0 ? shared_bytes(&m->words[i - 1], &m->words[i]) : 0;
    }
    return n;
}


/* The nodes of `path` below depth are complete. */
static void
close_nodes(struct maker *m, uint32_t from, uint32_t depth)
{
    struct ax_vocabulary_node *nodes = m->v->nodes;
    for (uint32_t d = from; d > depth; d--) {
        struct ax_vocabulary_node *node = &nodes[m->path[d]];
        node->skip = m->v->n_nodes;
        if (d > 1) {
            nodes[m->path[d - 1]].below |=
                node->below | (uint64_t)1 << ax_vocabulary_kind(node->byte);
        }
    }
}


static void
lay_nodes(struct maker *m)
{
    struct ax_vocabulary *v = m->v;
    uint32_t open = 0; /* depth of the path */
    for (uint32_t i = 0; i < m->n_words; i++) {
        const struct word *w = &m->words[i];
        uint32_t shared = i > 0 ? shared_bytes(w - 1, w) : 0;
        close_nodes(m, open, shared);
        for (uint32_t d = shared + 1; d <= w->bytes; d++) {
            m->path[d] = v->n_nodes;
            v->nodes[v->n_nodes++] = (struct ax_vocabulary_node){
                .first = i,
                .depth = (uint16_t)d,
                .byte = (uint8_t)w->text[d - 1],
            };
        }
        open = w->bytes;
        v->depth_max = open > v->depth_max ? open : v->depth_max;
        v->tokens[v->n_tokens++] = w->token;
    }
    close_nodes(m, open, 0);
    v->nodes[v->n_nodes].first = v->n_tokens;
    v->nodes[v->n_nodes].skip = v->n_nodes;
}


static int
make(struct maker *m, const struct ax_vocabulary_source *source)
{
    struct ax_vocabulary *v = m->v;
    size_t n = source->n_vocab;
    v->n_vocab = source->n_vocab;
    m->words = calloc(n, sizeof(*m->words));
    v->tokens = calloc(n, sizeof(*v->tokens));
    v->ends = calloc(n, sizeof(*v->ends));
    if (m->words == NULL || v->tokens == NULL || v->ends == NULL ||
        !read_words(m, source)) {
        return AXION_ERR_NO_MEMORY;
    }
    qsort(m->words, m->n_words, sizeof(*m->words), by_bytes);
    uint32_t n_nodes = count_nodes(m);
    v->nodes = calloc((size_t)n_nodes + 1, sizeof(*v->nodes));
    if (v->nodes == NULL) {
        return AXION_ERR_NO_MEMORY;
    }
    lay_nodes(m);
    assert(v->n_nodes == n_nodes);
    return AXION_OK;
}


int
ax_vocabulary_open(struct ax_vocabulary **out,
                   const struct ax_vocabulary_source *source)
{
    *out = NULL;
    struct maker *m = calloc(1, sizeof(*m));
    struct ax_vocabulary *v = calloc(1, sizeof(*v));
    int rc = AXION_ERR_NO_MEMORY;
    if (m != NULL && v != NULL) {
        m->v = v;
        rc = make(m, source);
        free(m->words);
        free(m->text);
    }
    free(m);
    if (rc != AXION_OK) {
        ax_vocabulary_close(v);
        return rc;
    }
    *out = v;
    return AXION_OK;
}


size_t
ax_vocabulary_bytes(const struct ax_vocabulary *v)
{
    return sizeof(*v) + ((size_t)v->n_nodes + 1) * sizeof(*v->nodes) +
           ((size_t)v->n_tokens + v->n_ends) * sizeof(*v->tokens);
}


void
ax_vocabulary_close(struct ax_vocabulary *v)
{
    if (v != NULL) {
        free(v->nodes);
        free(v->tokens);
        free(v->ends);
        free(v);
    }
}
