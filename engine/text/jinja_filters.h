/*
 * Tables of filters: jinja_filters.c and jinja_sequences.c.
 */
#ifndef AX_TEXT_JINJA_FILTERS_H
#define AX_TEXT_JINJA_FILTERS_H

#include "engine/text/jinja_run.h"


struct ax_filter {
    const char *name;  /* NULL ends a table */
    ax_function_fn fn; /* self is the value filtered */
};


extern const struct ax_filter ax_sequence_filters[];

#endif /* AX_TEXT_JINJA_FILTERS_H */
