/*
 * Tables of methods, one per type: jinja_strings.c and jinja_methods.c.
 */
#ifndef AX_TEXT_JINJA_METHODS_H
#define AX_TEXT_JINJA_METHODS_H

#include "engine/text/jinja_run.h"


struct ax_method {
    const char *name; /* NULL ends a table */
    ax_function_fn fn;
};


extern const struct ax_method ax_string_methods[];

/* An optional integer argument; false after reporting that it is none. */
bool ax_arg_integer(struct ax_jinja *j, const struct ax_call *call, uint32_t i,
                    const char *name, int64_t otherwise, int64_t *out);

#endif /* AX_TEXT_JINJA_METHODS_H */
