/*
 * Vocabulary tables, see symbols.h.
 *
 * Both hash tables use open addressing at a load of at most one half and
 * never shrink.  A hostile model file can make its own look-ups slow, nobody
 * else's, so the hashes are not keyed.  Every count was bounded by
 * AX_TOKENIZER_*_MAX before it is multiplied.
 */
#include "engine/text/symbols.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>


static int
blob_append(struct ax_blob *b, const char *p, size_t n)
{
    if (n > b->cap - b->n) {
        size_t cap = b->cap * 2 + n + 4096;
        char *q = realloc(b->p, cap);

        if (q == NULL) {
            return AX_TEXT_NO_MEMORY;
        }
        b->p = q;
        b->cap = cap;
    }
    if (n > 0) {
        memcpy(b->p + b->n, p, n);
        b->n += n;
    }
    return 0;
}


/* FNV-1a, folded so that the low bits depend on all bytes. */
static uint32_t
text_hash(const char *p, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t i = 0; i < n; i++) {
        h = (h ^ (uint8_t)p[i]) * 0x100000001b3u;
    }
    return (uint32_t)(h ^ h >> 32);
}


static uint32_t
pair_hash(uint32_t left, uint32_t right)
{
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;

    return (uint32_t)(h >> 32);
}


struct ax_tokenizer_str
ax_symbols_text(const struct ax_symbols *v, uint32_t sym)
{
    struct ax_tokenizer_str s = {"", 0};

    if (sym < v->n_symbols && v->symbols[sym].n > 0) {
        s.p = v->texts.p + v->symbols[sym].offset;
        s.n = v->symbols[sym].n;
    }
    return s;
}


/* The slot that holds the text, or the free one where it belongs. */
static uint32_t *
map_slot(const struct ax_symbols *v, const char *text, size_t n)
{
    uint32_t mask = v->map_size - 1;
    uint32_t i = text_hash(text, n) & mask;

    for (;;) {
        uint32_t sym = v->map[i];

        if (sym == AX_SYMBOL_NONE ||
            (v->symbols[sym].n == n &&
             memcmp(v->texts.p + v->symbols[sym].offset, text, n) == 0)) {
            return &v->map[i];
        }
        i = (i + 1) & mask;
    }
}


uint32_t
ax_symbols_lookup(const struct ax_symbols *v, const char *text, size_t n)
{
    if (n == 0 || n > v->text_bytes_max) {
        return AX_SYMBOL_NONE;
    }
    return *map_slot(v, text, n);
}


static int
map_grow(struct ax_symbols *v, uint32_t size)
{
    uint32_t *map = malloc((size_t)size * sizeof(*map));

    if (map == NULL) {
        return AX_TEXT_NO_MEMORY;
    }
    memset(map, 0xff, (size_t)size * sizeof(*map));
    free(v->map);
    v->map = map;
    v->map_size = size;

    for (uint32_t sym = 0; sym < v->n_symbols; sym++) {
        if (v->symbols[sym].n > 0) {
            uint32_t *slot = map_slot(v, v->texts.p + v->symbols[sym].offset,
                                      v->symbols[sym].n);
            /* the first of two equal texts keeps the name */
            if (*slot == AX_SYMBOL_NONE) {
                *slot = sym;
            }
        }
    }
    return 0;
}


/* Appends a symbol, entering it in the map unless its text is there. */
static int
symbol_add(struct ax_symbols *v, const char *text, size_t n)
{
    if (v->n_symbols == v->symbols_cap) {
        uint32_t cap = v->symbols_cap + v->symbols_cap / 2 + 1024;
        void *q = realloc(v->symbols, (size_t)cap * sizeof(*v->symbols));

        if (q == NULL) {
            return AX_TEXT_NO_MEMORY;
        }
        v->symbols = q;
        v->symbols_cap = cap;
    }
    if (v->n_symbols >= v->map_size / 2) {
        int rc = map_grow(v, v->map_size * 2);

        if (rc != 0) {
            return rc;
        }
    }

    uint64_t offset = v->texts.n;
    int rc = blob_append(&v->texts, text, n);

    if (rc != 0) {
        return rc;
    }
    if (n > 0) {
        uint32_t *slot = map_slot(v, text, n);

        if (*slot == AX_SYMBOL_NONE) {
            *slot = v->n_symbols;
        }
        if (n > v->text_bytes_max) {
            v->text_bytes_max = (uint32_t)n;
        }
    }
    v->symbols[v->n_symbols].offset = offset;
    v->symbols[v->n_symbols].n = (uint32_t)n;
    v->n_symbols++;
    return 0;
}


static int
intern(struct ax_symbols *v, const char *text, size_t n, uint32_t *sym)
{
    *sym = ax_symbols_lookup(v, text, n);
    if (*sym != AX_SYMBOL_NONE) {
        return 0;
    }
    *sym = v->n_symbols;
    return symbol_add(v, text, n);
}


static void
load_types(struct ax_symbols *v, const void *types)
{
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        int32_t type = AX_TOKEN_TYPE_NORMAL;

        if (types != NULL) {
            memcpy(&type, (const char *)types + (size_t)i * sizeof(type),
                   sizeof(type));
        }
        if (type < AX_TOKEN_TYPE_UNDEFINED || type > AX_TOKEN_TYPE_BYTE) {
            type = AX_TOKEN_TYPE_UNDEFINED;
        }
        v->types[i] = (uint8_t)type;
    }
}


int
ax_symbols_open(struct ax_symbols *v, const struct ax_tokenizer_params *p,
                char *err, size_t err_size)
{
    memset(v, 0, sizeof(*v));

    if (p->n_tokens == 0 || p->n_tokens > AX_TOKENIZER_TOKENS_MAX ||
        p->n_merges > AX_TOKENIZER_MERGES_MAX || p->tokens == NULL) {
        snprintf(err, err_size,
                 "tokenizer: %u tokens and %u merges, "
                 "allowed are 1 to %u and up to %u",
                 p->n_tokens, p->n_merges, AX_TOKENIZER_TOKENS_MAX,
                 AX_TOKENIZER_MERGES_MAX);
        return AX_TEXT_BAD_VOCAB;
    }

    uint32_t map_size = 1024;

    while (map_size < p->n_tokens * 3) {
        map_size *= 2;
    }
    int rc = map_grow(v, map_size);

    for (uint32_t i = 0; rc == 0 && i < p->n_tokens; i++) {
        if (p->tokens[i].n > AX_TOKENIZER_TOKEN_BYTES_MAX) {
            snprintf(err, err_size,
                     "tokenizer: token %u has %u bytes, "
                     "allowed are %u",
                     i, p->tokens[i].n, AX_TOKENIZER_TOKEN_BYTES_MAX);
            return AX_TEXT_BAD_VOCAB;
        }
        rc = symbol_add(v, p->tokens[i].p, p->tokens[i].n);
    }
    if (rc != 0) {
        return rc;
    }
    v->n_tokens = p->n_tokens;

    v->types = malloc(v->n_tokens);
    v->piece_offsets =
        calloc((size_t)v->n_tokens + 1, sizeof(*v->piece_offsets));
    if (v->types == NULL || v->piece_offsets == NULL) {
        return AX_TEXT_NO_MEMORY;
    }
    load_types(v, p->types);

    if (p->scores != NULL) {
        v->scores = malloc((size_t)v->n_tokens * sizeof(*v->scores));
        if (v->scores == NULL) {
            return AX_TEXT_NO_MEMORY;
        }
        memcpy(v->scores, p->scores, (size_t)v->n_tokens * sizeof(*v->scores));
    }
    return 0;
}


void
ax_symbols_close(struct ax_symbols *v)
{
    free(v->symbols);
    free(v->texts.p);
    free(v->map);
    free(v->types);
    free(v->scores);
    free(v->piece_offsets);
    free(v->pieces.p);
    free(v->merges);
    free(v->specials);
    memset(v, 0, sizeof(*v));
}


static struct ax_merge *
merge_slot(const struct ax_symbols *v, uint32_t left, uint32_t right)
{
    uint32_t mask = v->merges_size - 1;
    uint32_t i = pair_hash(left, right) & mask;

    while (v->merges[i].left != AX_SYMBOL_NONE &&
           (v->merges[i].left != left || v->merges[i].right != right)) {
        i = (i + 1) & mask;
    }
    return &v->merges[i];
}


const struct ax_merge *
ax_symbols_merge(const struct ax_symbols *v, uint32_t left, uint32_t right)
{
    if (left == AX_SYMBOL_NONE || right == AX_SYMBOL_NONE ||
        v->merges_size == 0) {
        return NULL;
    }
    const struct ax_merge *m = merge_slot(v, left, right);

    return m->left == AX_SYMBOL_NONE ? NULL : m;
}


/* One line "left right"; the separator is the first space after a byte. */
static int
add_merge(struct ax_symbols *v, struct ax_tokenizer_str line, uint32_t rank)
{
    const char *space = line.n > 2 ? memchr(line.p + 1, ' ', line.n - 1) : NULL;
    if (space == NULL || line.n > 2 * AX_TOKENIZER_TOKEN_BYTES_MAX) {
        return AX_TEXT_BAD_VOCAB;
    }

    size_t n_left = (size_t)(space - line.p);
    size_t n_right = line.n - n_left - 1;
    char joined[2 * AX_TOKENIZER_TOKEN_BYTES_MAX];
    uint32_t left, right, result;

    memcpy(joined, line.p, n_left);
    memcpy(joined + n_left, space + 1, n_right);

    int rc =
        n_right == 0 ? AX_TEXT_BAD_VOCAB : intern(v, line.p, n_left, &left);
    if (rc == 0) {
        rc = intern(v, space + 1, n_right, &right);
    }
    if (rc == 0) {
        rc = intern(v, joined, n_left + n_right, &result);
    }
    if (rc != 0) {
        return rc;
    }

    struct ax_merge *m = merge_slot(v, left, right);

    if (m->left == AX_SYMBOL_NONE) {
        *m = (struct ax_merge){left, right, rank, result};
    }
    return 0;
}


int
ax_symbols_add_merges(struct ax_symbols *v, const struct ax_tokenizer_params *p,
                      char *err, size_t err_size)
{
    uint32_t size = 1024;

    while (size < p->n_merges * 2) {
        size *= 2;
    }
    v->merges = malloc((size_t)size * sizeof(*v->merges));
    if (v->merges == NULL) {
        return AX_TEXT_NO_MEMORY;
    }
    memset(v->merges, 0xff, (size_t)size * sizeof(*v->merges));
    v->merges_size = size;

    for (uint32_t i = 0; i < p->n_merges; i++) {
        int rc = add_merge(v, p->merges[i], i);

        if (rc != 0) {
            snprintf(err, err_size, "tokenizer: merge %u: %s", i,
                     rc == AX_TEXT_BAD_VOCAB ? "is not two strings"
                                             : "out of memory");
            return rc;
        }
    }
    return 0;
}


int
ax_symbols_add_piece(struct ax_symbols *v, uint32_t id, const char *p, size_t n)
{
    int rc = blob_append(&v->pieces, p, n);

    v->piece_offsets[id + 1] = v->pieces.n;
    if (n > v->piece_bytes_max) {
        v->piece_bytes_max = n;
    }
    return rc;
}


static int
node_add(struct ax_symbols *v, uint8_t byte, uint32_t *index)
{
    if (v->n_specials == v->specials_cap) {
        uint32_t cap = v->specials_cap * 2 + 256;
        void *q = realloc(v->specials, (size_t)cap * sizeof(*v->specials));

        if (q == NULL) {
            return AX_TEXT_NO_MEMORY;
        }
        v->specials = q;
        v->specials_cap = cap;
    }
    *index = v->n_specials++;
    v->specials[*index] = (struct ax_special_node){0, 0, AX_TOKEN_NONE, byte};
    return 0;
}


static uint32_t
node_child(const struct ax_symbols *v, uint32_t node, uint8_t byte)
{
    uint32_t i = v->specials[node].child;

    while (i != 0 && v->specials[i].byte != byte) {
        i = v->specials[i].sibling;
    }
    return i;
}


static int
special_add(struct ax_symbols *v, struct ax_tokenizer_str text, int32_t id)
{
    uint32_t node = 0;

    for (uint32_t i = 0; i < text.n; i++) {
        uint8_t byte = (uint8_t)text.p[i];
        uint32_t next = node_child(v, node, byte);

        if (next == 0) {
            int rc = v->n_specials == UINT32_MAX ? AX_TEXT_BAD_VOCAB
                                                 : node_add(v, byte, &next);
            if (rc != 0) {
                return rc;
            }
            v->specials[next].sibling = v->specials[node].child;
            v->specials[node].child = next;
        }
        node = next;
    }
    if (node != 0 && v->specials[node].id == AX_TOKEN_NONE) {
        v->specials[node].id = id;
        v->special_first[(uint8_t)text.p[0]] = true;
    }
    return 0;
}


int
ax_symbols_build_specials(struct ax_symbols *v)
{
    uint32_t root;
    int rc = node_add(v, 0, &root);

    for (uint32_t i = 0; rc == 0 && i < v->n_tokens; i++) {
        if (v->types[i] == AX_TOKEN_TYPE_CONTROL ||
            v->types[i] == AX_TOKEN_TYPE_USER_DEFINED ||
            v->types[i] == AX_TOKEN_TYPE_UNKNOWN) {
            rc = special_add(v, ax_symbols_text(v, i), (int32_t)i);
        }
    }
    return rc;
}


int32_t
ax_symbols_match_special(const struct ax_symbols *v, const char *p, size_t n,
                         size_t n_trusted, size_t *len)
{
    int32_t best = AX_TOKEN_NONE;
    uint32_t node = 0;

    for (size_t i = 0; i < n; i++) {
        node = node_child(v, node, (uint8_t)p[i]);
        if (node == 0) {
            break;
        }
        int32_t id = v->specials[node].id;

        if (id != AX_TOKEN_NONE &&
            (i < n_trusted || v->types[id] == AX_TOKEN_TYPE_USER_DEFINED)) {
            best = id;
            *len = i + 1;
        }
    }
    return best;
}
