/* The source of a grammar as it came over the ring (shm/request.h): whatever
 * its kind, to GBNF. */
#ifndef AX_GRAMMAR_SOURCE_H
#define AX_GRAMMAR_SOURCE_H

#include <stddef.h>
#include "engine/error.h"
#include "engine/grammar/gbnf_text.h"
#include "shm/request.h"

/* GRAMMAR_INVALID, GRAMMAR_LIMIT, NO_MEMORY; then there is nothing to free. */
int ax_grammar_source_to_gbnf(struct ax_gbnf_text *out,
                              enum axion_grammar_kind kind, const char *source,
                              size_t bytes, struct ax_error *err);

#endif
