/*
 * Inside of an open tokenizer, and the scratch of one encode call.
 *
 * The tokenizer is built by tokenizer.c and immutable afterwards.  An encoder
 * lives on the stack of one call: output ids, growing work arrays, PCRE2
 * match data.  bpe.c and spm.c are the two ways from a run of plain text to
 * ids.  Private to engine/text.
 */
#ifndef AX_TEXT_ENCODER_H
#define AX_TEXT_ENCODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/text/pretok.h"
#include "engine/text/spans.h"
#include "engine/text/tokenizer.h"
#include "engine/text/symbols.h"


enum ax_tokenizer_kind {
    AX_TOKENIZER_BPE,       /* byte-level, "gpt2" */
    AX_TOKENIZER_BPE_SPACE, /* merges on UTF-8, U+2581 for spaces */
    AX_TOKENIZER_SPM        /* SentencePiece scores, "llama" */
};


struct ax_tokenizer {
    enum ax_tokenizer_kind kind;
    struct ax_symbols vocab;
    struct ax_pretok pretok;
    struct ax_spans spans;

    uint32_t byte_symbols[256]; /* BPE: symbol of one raw byte */
    int32_t byte_tokens[256];   /* fall-back of one byte, or NONE */

    int32_t bos_id;
    int32_t eos_id;
    int32_t eot_id;
    int32_t eom_id;
    int32_t unk_id;
    int32_t pad_id;
    bool add_bos;
    bool add_eos;
    bool add_space_prefix;
    uint8_t *eog; /* [n_tokens] 0 or 1 */
};


/* One character or merged run; a doubly linked list in text order. */
struct ax_piece {
    uint32_t sym;  /* AX_SYMBOL_NONE: not in the vocabulary */
    uint32_t n;    /* bytes; 0: merged into its left */
    uint32_t at;   /* offset in the word */
    uint32_t prev; /* AX_SYMBOL_NONE at the ends */
    uint32_t next;
};


/*
 * A pair that could merge: a piece and the next one.  Stale once either side
 * has changed.  16 bytes, since the heap's cost is its cache misses.
 */
struct ax_pair {
    uint64_t order; /* smallest first: key, then left */
    uint32_t n;     /* bytes of both, to see staleness */
    uint32_t result;
};


struct ax_encoder {
    const struct ax_tokenizer *t;

    int32_t *ids;
    size_t cap;
    size_t n;
    bool stop_at_cap;

    struct ax_piece *pieces;
    size_t pieces_cap;
    struct ax_pair *heap;
    size_t heap_n;
    size_t heap_cap;
    char *text; /* SPM and lookup scratch */
    size_t text_cap;

    struct ax_pretok_scratch pretok;
};


/* Not an error of text.h: more ids than cap, and the caller wants no more. */
#define AX_ENCODER_FULL 1


void ax_encoder_emit(struct ax_encoder *e, int32_t id);

/* A piece of `text` as its token, or byte by byte where there is none; `none`
 * stands for a byte without a token, AX_TOKEN_NONE leaves it out. */
void ax_encoder_emit_piece(struct ax_encoder *e, const struct ax_piece *piece,
                           const char *text, int32_t none);

/* AX_ENCODER_FULL if what is there and this text together exceed cap. */
int ax_encoder_check_room(const struct ax_encoder *e, const char *p, size_t n);

/* Grows to at least n elements of size bytes; contents kept. */
int ax_encoder_reserve(void **p, size_t *cap, size_t n, size_t size);

/* Adds the pair of left and its next that makes `result` of n bytes; the
 * smallest key comes first, then the leftmost. */
int ax_encoder_push(struct ax_encoder *e, uint32_t key, uint32_t left,
                    uint32_t n, uint32_t result);
bool ax_encoder_pop(struct ax_encoder *e, struct ax_pair *pair);

/* Joins right into left; the caller then offers the new neighbours. */
void ax_encoder_join(struct ax_encoder *e, const struct ax_pair *pair);
bool ax_encoder_stale(const struct ax_encoder *e, const struct ax_pair *pair);
uint32_t ax_encoder_left(const struct ax_pair *pair);

/* A word after pre-tokenization (an ax_pretok_word_fn; arg is the encoder). */
int ax_bpe_word(void *arg, const char *p, size_t n);

/* A whole run of text with U+2581 for spaces. */
int ax_spm_run(struct ax_encoder *e, const char *p, size_t n);

#endif /* AX_TEXT_ENCODER_H */
