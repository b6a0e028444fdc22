/*
 * The tokens of a vocabulary by their bytes: a trie laid out flat.
 *
 * Nodes stand in the order of a walk from the root, children by their byte;
 * a node knows where the walk goes on when it leaves out what is below.  The
 * tokens are listed in the same order, so that those below a node are a run.
 * Each node also knows which kinds of bytes occur below it: where the
 * automaton stays in one state on all of them, the whole run is allowed
 * without a walk.
 *
 * Tokens that are no text (control, unknown, unused ones without bytes) are
 * not in it.  Those that end a generation are listed apart.
 *
 * Made once per model, on the helper thread; immutable after that.
 */
#ifndef AX_GRAMMAR_VOCABULARY_H
#define AX_GRAMMAR_VOCABULARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "engine/error.h"

#define AX_VOCABULARY_DEPTH_MAX 4096u /* bytes of a token */

struct ax_vocabulary_node {
    uint32_t skip;  /* the next node that is not below this one */
    uint32_t first; /* tokens[first] is the first that ends here or below */
    uint16_t depth; /* 1: one byte */
    uint8_t byte;
    uint64_t below; /* kinds of bytes: ax_vocabulary_kind() */
};

struct ax_vocabulary {
    uint32_t n_vocab;
    uint32_t n_nodes;
    struct ax_vocabulary_node *nodes; /* [n_nodes + 1], the last is a border */
    uint32_t n_tokens;
    int32_t *tokens; /* [n_tokens] */
    uint32_t n_ends;
    int32_t *ends; /* [n_ends] */
    uint32_t depth_max;
};

/* What the room needs of a tokenizer. */
struct ax_vocabulary_source {
    const void *context;
    uint32_t n_vocab;
    /* Bytes of a token, 0: it is no text; as much as fits into cap is
     * written. */
    size_t (*bytes_of)(const void *context, int32_t token, char *out,
                       size_t cap);
    bool (*ends)(const void *context, int32_t token);
};

/* NO_MEMORY.  A token of more than DEPTH_MAX bytes is left out. */
int ax_vocabulary_open(struct ax_vocabulary **out,
                       const struct ax_vocabulary_source *source);
void ax_vocabulary_close(struct ax_vocabulary *vocabulary); /* NULL is fine */
/* Memory that it takes. */
size_t ax_vocabulary_bytes(const struct ax_vocabulary *vocabulary);

/* One of 64 kinds: letters, digits and lead bytes are one kind each. */
uint32_t ax_vocabulary_kind(uint8_t byte);

#endif
