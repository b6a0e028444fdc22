/*
 * Lexer of templates: text between tags, and the tokens inside them.
 *
 * Does what Jinja2's lexer does with trim_blocks and lstrip_blocks on:
 * newlines become \n, one newline at the end of the source goes, "-" beside a
 * tag strips white space, "+" keeps it, a block tag swallows the newline
 * behind it and the blanks before it on its own line.
 */
#ifndef AX_TEXT_JINJA_LEX_H
#define AX_TEXT_JINJA_LEX_H

#include "engine/text/jinja_ast.h"


enum ax_token_kind {
    AX_T_TEXT,
    AX_T_OUTPUT_BEGIN, /* {{ */
    AX_T_OUTPUT_END,   /* }} */
    AX_T_BLOCK_BEGIN,  /* {% */
    AX_T_BLOCK_END,    /* %} */
    AX_T_NAME,
    AX_T_INTEGER,
    AX_T_FLOAT,
    AX_T_STRING,
    AX_T_OPERATOR,
    AX_T_END
};


struct ax_token {
    enum ax_token_kind kind;
    uint32_t line;
    const char *p; /* text, name, operator; decoded string */
    size_t n;
    int64_t integer;
    double number;
};


/* Tokens of the whole source, the last is AX_T_END; NULL with *error set. */
struct ax_token *ax_jinja_lex(struct ax_pool *pool, const char *source,
                              size_t n, size_t *n_tokens,
                              struct ax_parse_error *error);

#endif /* AX_TEXT_JINJA_LEX_H */
