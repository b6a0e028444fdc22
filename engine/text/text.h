/*
 * What the text rooms share: their error numbers and text in segments.
 *
 * A segment says for a run of bytes whether the operator stands behind them
 * (the model's chat template, its own special tokens) or a client does
 * (message contents).  The template renderer makes segments, the tokenizer
 * reads them; nobody else needs to care.
 */
#ifndef AX_TEXT_TEXT_H
#define AX_TEXT_TEXT_H

#include <stdbool.h>
#include <stddef.h>


enum ax_text_error {
    AX_TEXT_OK = 0,
    AX_TEXT_NO_MEMORY = -1,   /* malloc failed */
    AX_TEXT_UNSUPPORTED = -2, /* model, pre-tokenizer, template tag */
    AX_TEXT_BAD_VOCAB = -3,
    AX_TEXT_TOO_LONG = -4,
    AX_TEXT_BAD_SYNTAX = -5,    /* template does not parse */
    AX_TEXT_RAISED = -6,        /* template called raise_exception() */
    AX_TEXT_BAD_OPERATION = -7, /* template: wrong type, undefined, ... */
    AX_TEXT_LIMIT_STEPS = -8,
    AX_TEXT_LIMIT_DEPTH = -9,
    AX_TEXT_LIMIT_OUTPUT = -10,
    AX_TEXT_LIMIT_MEMORY = -11 /* the arena's own bound */
};


struct ax_text_segment {
    const char *p;
    size_t n;
    bool trusted;
};


/* "limit_steps" and so on, for logs and error bodies; never NULL. */
const char *ax_text_error_name(int error);

#endif /* AX_TEXT_TEXT_H */
