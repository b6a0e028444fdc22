/*
 * Pre-tokenizers: how a model cuts text into words before BPE merges.
 *
 * tokenizer.ggml.pre names one.  It is a list of regular expressions, each
 * applied to the pieces that the one before left; matches and the gaps
 * between them are pieces of their own.  Compiled by PCRE2 (UTF, Unicode
 * properties, JIT where the machine allows it, match limits set) at open and
 * immutable afterwards.  Private to engine/text.
 */
#ifndef AX_TEXT_PRETOK_H
#define AX_TEXT_PRETOK_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/text/text.h"


#define AX_PRETOK_STAGES_MAX 6


struct ax_pretok_def;

struct ax_pretok {
    const struct ax_pretok_def *def;
    size_t n_stages;
    void *codes[AX_PRETOK_STAGES_MAX]; /* pcre2_code */
    void *match_context;               /* pcre2_match_context */
};


/* Scratch of one encode call. */
struct ax_pretok_scratch {
    void *match_data[AX_PRETOK_STAGES_MAX]; /* pcre2_match_data */
};


typedef int (*ax_pretok_word_fn)(void *arg, const char *p, size_t n);


/* name NULL means "default". */
int ax_pretok_open(struct ax_pretok *pt, const char *name, char *err,
                   size_t err_size);
void ax_pretok_close(struct ax_pretok *pt);

/* What the name says beside the expressions. */
bool ax_pretok_ignore_merges(const struct ax_pretok *pt);
bool ax_pretok_add_bos(const struct ax_pretok *pt);

int ax_pretok_scratch_open(struct ax_pretok_scratch *s,
                           const struct ax_pretok *pt);
void ax_pretok_scratch_close(struct ax_pretok_scratch *s);

/* text is valid UTF-8.  Stops at the first word that returns non-zero. */
int ax_pretok_split(const struct ax_pretok *pt, struct ax_pretok_scratch *s,
                    const char *text, size_t n, ax_pretok_word_fn word,
                    void *arg);

#endif /* AX_TEXT_PRETOK_H */
