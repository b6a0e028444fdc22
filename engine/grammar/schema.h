/*
 * JSON schemas to GBNF.
 *
 * The language that comes out is a part of the schema's: every text of it is
 * JSON that the schema holds for.  It is smaller where a schema leaves open
 * what nobody wants: members come in the order of `properties`, others only
 * where additionalProperties asks for them, elements behind prefixItems only
 * where items does; white space is bounded; numbers have up to 16 digits.
 * What cannot be held (docs/structured-output.md has the list) is
 * GRAMMAR_INVALID with the keyword and where it stands, as a JSON Pointer;
 * annotations are left alone, and so is what begins with "x-".
 *
 * Works a list of sub-schemas off instead of recursing, so recursive schemas
 * need nothing special.  A sub-schema may be several nodes of the text at
 * once ($ref with keywords beside it, allOf, anyOf beside properties).
 * Nodes, sub-schemas, steps and the text that comes out are bounded.
 */
#ifndef AX_GRAMMAR_SCHEMA_H
#define AX_GRAMMAR_SCHEMA_H

#include <stddef.h>
#include "engine/error.h"
#include "engine/grammar/gbnf_text.h"

/* GRAMMAR_INVALID, GRAMMAR_LIMIT, NO_MEMORY; then there is nothing to free. */
int ax_schema_to_gbnf(struct ax_gbnf_text *out, const char *schema,
                      size_t bytes, struct ax_error *err);
/* Any JSON object. */
int ax_json_object_to_gbnf(struct ax_gbnf_text *out, struct ax_error *err);

#endif
