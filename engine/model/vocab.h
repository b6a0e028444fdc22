/*
 * The tokenizer's part of a model file, as engine/text wants it.
 */
#ifndef AX_VOCAB_H
#define AX_VOCAB_H

#include "engine/error.h"
#include "engine/gguf/gguf.h"
#include "engine/text/tokenizer.h"


/* The strings of params.tokens and merges lie in the GGUF header. */
struct ax_vocab {
    struct ax_tokenizer_params params; /* model NULL: the file has none */
    struct ax_tokenizer_str *tokens;
    struct ax_tokenizer_str *merges;
    char *model;
    char *pre;
};


/*
 * Reads tokenizer.ggml.*.  n_vocab is the number of embedding rows: a file
 * with another number of tokens is refused.  AXION_ERR_MODEL_FILE,
 * AXION_ERR_NO_MEMORY.
 */
int ax_vocab_read(struct ax_vocab *v, const struct ax_gguf *g, uint32_t n_vocab,
                  struct ax_error *err);
void ax_vocab_free(struct ax_vocab *v);

/* Terminated copy of a string key; NULL and AXION_OK where it is absent. */
int ax_vocab_copy_string(const struct ax_gguf *g, const char *key, char **out,
                         struct ax_error *err);

#endif /* AX_VOCAB_H */
