/*
 * A vocabulary small enough to read, for tests and fuzzers: all bytes in
 * printable form, some merges, control and user-defined tokens.
 */
#ifndef AX_TESTS_TEXT_SMALL_VOCAB_H
#define AX_TESTS_TEXT_SMALL_VOCAB_H

#include "engine/text/tokenizer.h"


enum small_token {
    SMALL_UNK,   /* <unk> */
    SMALL_START, /* <|im_start|>, also BOS */
    SMALL_END,   /* <|im_end|>, also EOS */
    SMALL_USER,  /* <tool>, user defined */
    SMALL_BYTES, /* 256 of them, by byte value */
    SMALL_MERGED = SMALL_BYTES + 256
};


/* kind is "gpt2" (with pre) or "llama"; valid until the next call. */
const struct ax_tokenizer_params *small_vocab(const char *kind,
                                              const char *pre);

#endif /* AX_TESTS_TEXT_SMALL_VOCAB_H */
