/* See source.h. */
#include "engine/grammar/source.h"

#include "engine/grammar/regex.h"
#include "engine/grammar/schema.h"


int
ax_grammar_source_to_gbnf(struct ax_gbnf_text *out,
                          enum axion_grammar_kind kind, const char *source,
                          size_t bytes, struct ax_error *err)
{
    switch (kind) {
    case AXION_GRAMMAR_JSON_SCHEMA:
        return ax_schema_to_gbnf(out, source, bytes, err);
    case AXION_GRAMMAR_JSON_OBJECT:
        return ax_json_object_to_gbnf(out, err);
    case AXION_GRAMMAR_REGEX:
        return ax_regex_to_gbnf(out, source, bytes, err);
    case AXION_GRAMMAR_CHOICE:
        return ax_choice_to_gbnf(out, source, bytes, err);
    case AXION_GRAMMAR_GBNF:
        break;
    }
    *out = (struct ax_gbnf_text){0};
    ax_gbnf_put(out, source, bytes);
    return ax_gbnf_text_end(out, err);
}
