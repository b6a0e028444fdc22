/*
 * Tokenizer: text to token ids and token ids to bytes.
 *
 * Owns one model's vocabulary after load: byte-level BPE ("gpt2") with the
 * model's own pre-tokenizer, and SentencePiece BPE ("llama").  Everything
 * that it keeps is copied out of the parameters, so the model file may be
 * unmapped or cut short afterwards.
 *
 * Called by the engine's helper thread (encode), by the sampler's output
 * stage (decode, is_eog) and by the tools.  An open tokenizer is immutable:
 * any number of threads may use it at once, without locks.  encode takes its
 * scratch from malloc and gives it back before it returns; decode and the
 * look-ups allocate nothing.
 *
 * Trust.  Text comes in segments.  A control token ("<|im_end|>") is
 * recognised only where all its bytes lie in trusted segments, so a client's
 * message can never forge the end of its own turn.  Everything else runs
 * across segment borders as if the segments were one string: on text without
 * forged control tokens the ids equal llama.cpp's for the joined string.
 *
 * Refused: vocabularies and pre-tokenizers that it does not know, by name.
 */
#ifndef AX_TEXT_TOKENIZER_H
#define AX_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/text/text.h"


#define AX_TOKEN_NONE (-1)

/* Limits on what a model file may declare. */
#define AX_TOKENIZER_TOKENS_MAX      (1u << 21)
#define AX_TOKENIZER_MERGES_MAX      (1u << 22)
#define AX_TOKENIZER_TOKEN_BYTES_MAX 4096u


/* tokenizer.ggml.token_type, the numbers of the file format. */
enum ax_token_type {
    AX_TOKEN_TYPE_UNDEFINED = 0,
    AX_TOKEN_TYPE_NORMAL = 1,
    AX_TOKEN_TYPE_UNKNOWN = 2,
    AX_TOKEN_TYPE_CONTROL = 3,
    AX_TOKEN_TYPE_USER_DEFINED = 4,
    AX_TOKEN_TYPE_UNUSED = 5,
    AX_TOKEN_TYPE_BYTE = 6
};


/* A metadata flag that the file may leave out. */
enum ax_tristate { AX_UNSET = -1, AX_OFF = 0, AX_ON = 1 };


struct ax_tokenizer_str {
    const char *p; /* not terminated; may hold NUL bytes */
    uint32_t n;
};


/*
 * What tokenizer.ggml.* in the file says.  Start from ax_tokenizer_defaults()
 * and overwrite what the file has.  Pointers are read during open only.
 */
struct ax_tokenizer_params {
    const char *model; /* tokenizer.ggml.model, terminated */
    const char *pre;   /* tokenizer.ggml.pre, NULL if absent */

    uint32_t n_tokens;
    const struct ax_tokenizer_str *tokens; /* [n_tokens] */
    const void *scores; /* [n_tokens] f32, any alignment, or NULL */
    const void *types;  /* [n_tokens] i32, any alignment, or NULL */

    uint32_t n_merges;
    const struct ax_tokenizer_str *merges; /* [n_merges] "left right" */

    int64_t bos_id; /* *_token_id; AX_TOKEN_NONE if absent */
    int64_t eos_id;
    int64_t eot_id;
    int64_t eom_id;
    int64_t unk_id;
    int64_t pad_id;

    enum ax_tristate add_bos; /* add_bos_token */
    enum ax_tristate add_eos; /* add_eos_token */
    enum ax_tristate add_space_prefix;
    enum ax_tristate remove_extra_whitespaces;
};


enum ax_encode_flags {
    AX_ENCODE_PARSE_SPECIAL = 1, /* ax_tokenizer_encode: text is trusted */
    AX_ENCODE_ADD_SPECIAL = 2,   /* add BOS / EOS as the model says */
    AX_ENCODE_STOP_AT_CAP = 4    /* what needs more than cap is given up */
};


struct ax_tokenizer;


void ax_tokenizer_defaults(struct ax_tokenizer_params *params);

/*
 * 0, AX_TEXT_NO_MEMORY, AX_TEXT_UNSUPPORTED (model or pre by name) or
 * AX_TEXT_BAD_VOCAB; on an error *out is NULL and err holds one line.
 */
int ax_tokenizer_open(struct ax_tokenizer **out,
                      const struct ax_tokenizer_params *params, char *err,
                      size_t err_size);
void ax_tokenizer_close(struct ax_tokenizer *t);

/*
 * Encodes the segments as one text.  Writes at most cap ids and sets *n to
 * the count that the whole text needs; *n > cap tells that ids is cut short
 * (ids may be NULL with cap 0).  Bytes that are no UTF-8 are read as U+FFFD.
 * Time is O(n log n) in the worst case.
 *
 * With AX_ENCODE_STOP_AT_CAP a text that needs more than cap is left as soon
 * as that is certain, most often before any merge: *n is then cap + 1 and ids
 * is undefined.  A text that fits has the same ids with and without.
 *
 * 0, AX_TEXT_NO_MEMORY or AX_TEXT_TOO_LONG (over 1 GiB).
 */
int ax_tokenizer_encode_segments(const struct ax_tokenizer *t,
                                 const struct ax_text_segment *segs,
                                 size_t n_segs, unsigned flags, int32_t *ids,
                                 size_t cap, size_t *n);

/* One segment, trusted if flags has AX_ENCODE_PARSE_SPECIAL. */
int ax_tokenizer_encode(const struct ax_tokenizer *t, const char *text,
                        size_t len, unsigned flags, int32_t *ids, size_t cap,
                        size_t *n);

/*
 * Raw bytes of one token; they may be a part of a character.  Returns the
 * length the token has, of which at most cap bytes were written.  Control and
 * unknown tokens have no bytes unless `special`.  An id out of range has none.
 */
size_t ax_tokenizer_decode_token(const struct ax_tokenizer *t, int32_t id,
                                 bool special, char *buf, size_t cap);

/* Longest result that ax_tokenizer_decode_token can have. */
size_t ax_tokenizer_token_bytes_max(const struct ax_tokenizer *t);

/* Ends a generation: eos, eot, eom and the families' end-of-turn tokens. */
bool ax_tokenizer_is_eog(const struct ax_tokenizer *t, int32_t id);

uint32_t ax_tokenizer_n_vocab(const struct ax_tokenizer *t);
enum ax_token_type ax_tokenizer_token_type(const struct ax_tokenizer *t,
                                           int32_t id);

/* AX_TOKEN_NONE where the model has none. */
int32_t ax_tokenizer_bos(const struct ax_tokenizer *t);
int32_t ax_tokenizer_eos(const struct ax_tokenizer *t);
int32_t ax_tokenizer_eot(const struct ax_tokenizer *t);
int32_t ax_tokenizer_pad(const struct ax_tokenizer *t);
bool ax_tokenizer_add_bos(const struct ax_tokenizer *t);
bool ax_tokenizer_add_eos(const struct ax_tokenizer *t);

/* The id whose vocabulary text is exactly this, or AX_TOKEN_NONE. */
int32_t ax_tokenizer_find(const struct ax_tokenizer *t, const char *text,
                          size_t len);

/* The vocabulary text as in the file ("Ġthe", "<|im_end|>"); "" if none. */
struct ax_tokenizer_str ax_tokenizer_token_text(const struct ax_tokenizer *t,
                                                int32_t id);

#endif /* AX_TEXT_TOKENIZER_H */
