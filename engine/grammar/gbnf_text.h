/*
 * GBNF text that is written by the compilers of schemas, regexes and choices.
 *
 * A text grows up to AX_GBNF_TEXT_BYTES_MAX; what passes that, or finds no
 * memory, is remembered, and nothing is written from then on, so writers need
 * not look at every call: ax_gbnf_text_end() says what became of it.
 */
#ifndef AX_GRAMMAR_GBNF_TEXT_H
#define AX_GRAMMAR_GBNF_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include "engine/error.h"

#define AX_GBNF_TEXT_BYTES_MAX (1u << 20)

struct ax_gbnf_text {
    char *data;
    size_t bytes, capacity;
    int error; /* AXION_OK, GRAMMAR_LIMIT, NO_MEMORY */
};

void ax_gbnf_put(struct ax_gbnf_text *out, const char *text, size_t bytes);
void ax_gbnf_printf(struct ax_gbnf_text *out, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Text as a literal in quotes; it is UTF-8. */
void ax_gbnf_literal(struct ax_gbnf_text *out, const char *text, size_t bytes);
/* The same without the quotes. */
void ax_gbnf_chars(struct ax_gbnf_text *out, const char *text, size_t bytes);
/* What JSON writes within a string's quotes, in its shortest spelling, without
 * the literal's own quotes; and a whole JSON string as a literal. */
void ax_gbnf_json_chars(struct ax_gbnf_text *out, const char *text,
                        size_t bytes);
void ax_gbnf_json_string(struct ax_gbnf_text *out, const char *text,
                         size_t bytes);
/* A code point as it may stand in a class. */
void ax_gbnf_class_char(struct ax_gbnf_text *out, uint32_t c);

/* AXION_OK, or what was remembered, with a line in err; then the text is
 * freed. */
int ax_gbnf_text_end(struct ax_gbnf_text *out, struct ax_error *err);
void ax_gbnf_text_free(struct ax_gbnf_text *out);

#endif
