/*
 * How few tokens a text can have, told without tokenizing it.
 *
 * For every two bytes that a token can start with, the table has the bytes
 * of the longest such token.  Walking a text with the longest step that is
 * possible at each byte gives a lower bound of its tokens in O(n), hundreds
 * of times faster than merging: a megabyte of blanks is refused for what it
 * is before any work goes into it.  The bound is never above the true count,
 * so no text that fits is refused by it.
 *
 * Built with the tokenizer and immutable afterwards.  Private to engine/text.
 */
#ifndef AX_TEXT_SPANS_H
#define AX_TEXT_SPANS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>


struct ax_spans {
    uint16_t *longest; /* [65536] by first byte * 256 + second byte */
    bool dropped[256]; /* this byte may become no token at all */
};


/* Every byte is a token of its own at first.  AX_TEXT_NO_MEMORY. */
int ax_spans_open(struct ax_spans *s);
void ax_spans_close(struct ax_spans *s);

/* A token that stands for these bytes of text, at most UINT16_MAX. */
void ax_spans_add(struct ax_spans *s, const char *p, size_t n);

/* A count that the text's tokens do not fall below; it stops counting above
 * max. */
size_t ax_spans_least(const struct ax_spans *s, const char *p, size_t n,
                      size_t max);

#endif /* AX_TEXT_SPANS_H */
