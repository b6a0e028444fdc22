/*
 * The vocabulary behind the tokenizer: strings, pieces, merges, specials.
 *
 * A symbol is a string with a number.  Symbols below n_tokens are the
 * model's tokens; above it are strings that only occur inside merges (a
 * pruned vocabulary keeps merges whose results it dropped).  Built once at
 * open from the file's metadata, immutable afterwards, private to
 * engine/text.
 */
#ifndef AX_TEXT_SYMBOLS_H
#define AX_TEXT_SYMBOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/text/tokenizer.h"


#define AX_SYMBOL_NONE UINT32_MAX


struct ax_blob {
    char *p;
    size_t n;
    size_t cap;
};


struct ax_symbol_text {
    uint64_t offset; /* into texts */
    uint32_t n;
};


struct ax_merge {
    uint32_t left; /* AX_SYMBOL_NONE marks a free slot */
    uint32_t right;
    uint32_t rank;
    uint32_t result;
};


/* A node of the trie of special tokens; children are a sibling list. */
struct ax_special_node {
    uint32_t child;   /* 0: none */
    uint32_t sibling; /* 0: none */
    int32_t id;       /* AX_TOKEN_NONE: no token ends here */
    uint8_t byte;
};


struct ax_symbols {
    uint32_t n_tokens;
    uint32_t n_symbols;
    uint32_t symbols_cap;
    struct ax_symbol_text *symbols; /* [n_symbols] */
    struct ax_blob texts;

    uint32_t *map; /* hash of text -> symbol, power of two */
    uint32_t map_size;
    uint32_t text_bytes_max;

    uint8_t *types; /* [n_tokens] enum ax_token_type */
    float *scores;  /* [n_tokens], or NULL */

    uint64_t *piece_offsets; /* [n_tokens + 1] into pieces */
    struct ax_blob pieces;
    size_t piece_bytes_max;

    struct ax_merge *merges; /* hash of (left, right), power of two */
    uint32_t merges_size;

    struct ax_special_node *specials; /* [0] is the root */
    uint32_t n_specials;
    uint32_t specials_cap;
    bool special_first[256]; /* some special starts so */
};


/* Copies tokens, types and scores; no merges, pieces or specials yet. */
int ax_symbols_open(struct ax_symbols *v, const struct ax_tokenizer_params *p,
                    char *err, size_t err_size);
void ax_symbols_close(struct ax_symbols *v);

uint32_t ax_symbols_lookup(const struct ax_symbols *v, const char *text,
                           size_t n);
struct ax_tokenizer_str ax_symbols_text(const struct ax_symbols *v,
                                        uint32_t sym);

int ax_symbols_add_merges(struct ax_symbols *v,
                          const struct ax_tokenizer_params *p, char *err,
                          size_t err_size);
const struct ax_merge *ax_symbols_merge(const struct ax_symbols *v,
                                        uint32_t left, uint32_t right);

/* Appends the bytes of token id; call for 0 .. n_tokens-1 in order. */
int ax_symbols_add_piece(struct ax_symbols *v, uint32_t id, const char *p,
                         size_t n);

/* Builds the trie from the types; call when they are final. */
int ax_symbols_build_specials(struct ax_symbols *v);

/*
 * The longest special token at p: user-defined ones anywhere in n bytes,
 * control and unknown ones only within the first n_trusted.
 */
int32_t ax_symbols_match_special(const struct ax_symbols *v, const char *p,
                                 size_t n, size_t n_trusted, size_t *len);

#endif /* AX_TEXT_SYMBOLS_H */
