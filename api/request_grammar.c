/*
 * Fields that say what the answer's text must be → the payload's GRAMMAR
 * section: OpenAI's response_format, and those of vLLM, SGLang and
 * llama-server.  One of them at most.
 *
 * A schema goes on exactly as it stands in the body: the tree has lost how
 * numbers are spelled and may have changed them.  Whether it can be enforced
 * is the engine's to say, which compiles it.
 */
#include <stdio.h>
#include <string.h>
#include "api/json_walk.h"
#include "api/parser.h"
#include "shm/errors.h"

/* How a field's value becomes a source. */
enum source {
    SOURCE_TEXT,   /* a string's text */
    SOURCE_SCHEMA, /* an object as it stands, or a string with JSON in it */
    SOURCE_ARRAY,  /* of strings, as it stands */
    SOURCE_SWITCH, /* true, and nothing else to say */
};

struct field {
    const char *parent; /* NULL: the body */
    const char *name;
    enum axion_grammar_kind kind;
    enum source source;
};

/* The order in which they are looked at, and named. */
static const struct field fields[] = {
    {NULL, "guided_json", AXION_GRAMMAR_JSON_SCHEMA, SOURCE_SCHEMA},
    {NULL, "guided_regex", AXION_GRAMMAR_REGEX, SOURCE_TEXT},
    {NULL, "guided_choice", AXION_GRAMMAR_CHOICE, SOURCE_ARRAY},
    {NULL, "guided_grammar", AXION_GRAMMAR_GBNF, SOURCE_TEXT},
    {NULL, "json_schema", AXION_GRAMMAR_JSON_SCHEMA, SOURCE_SCHEMA},
    {NULL, "regex", AXION_GRAMMAR_REGEX, SOURCE_TEXT},
    {NULL, "grammar", AXION_GRAMMAR_GBNF, SOURCE_TEXT},
    {"structured_outputs", "json", AXION_GRAMMAR_JSON_SCHEMA, SOURCE_SCHEMA},
    {"structured_outputs", "regex", AXION_GRAMMAR_REGEX, SOURCE_TEXT},
    {"structured_outputs", "choice", AXION_GRAMMAR_CHOICE, SOURCE_ARRAY},
    {"structured_outputs", "grammar", AXION_GRAMMAR_GBNF, SOURCE_TEXT},
    {"structured_outputs", "json_object", AXION_GRAMMAR_JSON_OBJECT,
     SOURCE_SWITCH},
};

#define N_FIELDS (sizeof(fields) / sizeof(fields[0]))

/* What has been found so far. */
struct grammar {
    enum axion_grammar_kind kind; /* 0: nothing */
    char param[AXION_PARAM_BYTES];
    const char *source;
    size_t bytes;
};


/* The bytes of a value, by the names that lead to it. */
static int
find_span(struct axion_parser *p, const char *const *names, size_t n,
          struct axion_text *value)
{
    size_t i;
    int error = axion_walk_value(p->body, p->body_bytes, value);

    for (i = 0; error == AXION_OK && i < n; i++) {
        *value = axion_walk_find(value, names[i]);
        if (value->data == NULL)
            error = AXION_ERR_INVALID_JSON;
    }
    return error == AXION_OK
               ? AXION_OK
               : axion_parse_fail(p, error, NULL, "the body is not valid JSON");
}


static int
take(struct axion_parser *p, struct grammar *g, enum axion_grammar_kind kind,
     const char *param, const char *source, size_t bytes)
{
    if (g->kind != 0)
        return axion_parse_fail(p, AXION_ERR_INVALID_VALUE, param,
                                "%s and %s both say what the answer must be",
                                g->param, param);
    if (bytes > AXION_GRAMMAR_BYTES_MAX)
        return axion_parse_fail(p, AXION_ERR_INVALID_VALUE, param,
                                "%s is longer than %u bytes", param,
                                AXION_GRAMMAR_BYTES_MAX);
    g->kind = kind;
    g->source = source;
    g->bytes = bytes;
    snprintf(g->param, sizeof(g->param), "%s", param);
    return AXION_OK;
}


static int
take_span(struct axion_parser *p, struct grammar *g,
          enum axion_grammar_kind kind, const char *param,
          const char *const *names, size_t n)
{
    struct axion_text span;
    int error = find_span(p, names, n, &span);

    return error == AXION_OK ? take(p, g, kind, param, span.data, span.bytes)
                             : error;
}


/* ---- response_format ---- */

static int
check_name(struct axion_parser *p, const json_t *spec)
{
    static const char name[] = "response_format.json_schema.name";
    static const char strict[] = "response_format.json_schema.strict";
    const json_t *value = axion_parse_get(spec, "name");

    if (value != NULL && !json_is_string(value))
        return axion_parse_wrong_type(p, name, "a string", value);
    value = axion_parse_get(spec, "strict");
    if (value != NULL && !json_is_boolean(value))
        return axion_parse_wrong_type(p, strict, "true or false", value);
    return AXION_OK;
}


static int
take_json_schema(struct axion_parser *p, struct grammar *g,
                 const json_t *format)
{
    static const char *const names[] = {"response_format", "json_schema",
                                        "schema"};
    static const char outer[] = "response_format.json_schema";
    static const char param[] = "response_format.json_schema.schema";
    const json_t *spec = axion_parse_get(format, "json_schema"), *schema;
    int error;

    if (spec == NULL)
        return axion_parse_fail(p, AXION_ERR_MISSING_FIELD, outer,
                                "%s is missing", outer);
    if (!json_is_object(spec))
        return axion_parse_wrong_type(p, outer, "an object", spec);
    error = check_name(p, spec);
    if (error != AXION_OK)
        return error;
    schema = axion_parse_get(spec, "schema");
    if (schema == NULL)
        return axion_parse_fail(p, AXION_ERR_MISSING_FIELD, param,
                                "%s is missing", param);
    if (!json_is_object(schema))
        return axion_parse_wrong_type(p, param, "an object", schema);
    return take_span(p, g, AXION_GRAMMAR_JSON_SCHEMA, param, names, 3);
}


/* llama-server's json_object may have a schema beside it. */
static int
take_json_object(struct axion_parser *p, struct grammar *g,
                 const json_t *format)
{
    static const char *const names[] = {"response_format", "schema"};
    static const char param[] = "response_format.schema";
    const json_t *schema = axion_parse_get(format, "schema");

    if (schema == NULL)
        return take(p, g, AXION_GRAMMAR_JSON_OBJECT, "response_format", "", 0);
    if (!json_is_object(schema))
        return axion_parse_wrong_type(p, param, "an object", schema);
    return take_span(p, g, AXION_GRAMMAR_JSON_SCHEMA, param, names, 2);
}


static int
take_response_format(struct axion_parser *p, struct grammar *g,
                     const json_t *root)
{
    static const char param[] = "response_format.type";
    const json_t *value = axion_parse_get(root, "response_format");
    const json_t *type;

    if (value == NULL)
        return AXION_OK;
    if (!json_is_object(value))
        return axion_parse_wrong_type(p, "response_format", "an object", value);
    type = axion_parse_get(value, "type");
    if (type == NULL)
        return axion_parse_fail(p, AXION_ERR_MISSING_FIELD, param,
                                "%s is missing", param);
    if (!json_is_string(type))
        return axion_parse_wrong_type(p, param, "a string", type);
    if (axion_parse_is(type, "text"))
        return AXION_OK;
    if (axion_parse_is(type, "json_object"))
        return take_json_object(p, g, value);
    if (axion_parse_is(type, "json_schema"))
        return take_json_schema(p, g, value);
    return axion_parse_fail(p, AXION_ERR_UNSUPPORTED_FIELD, param,
                            "%s is not supported with this value", param);
}


/* ---- the others ---- */

/* Of structured_outputs: a name that is not in the table asks for something
 * that is not done, unless its value asks for nothing. */
static int
check_known(struct axion_parser *p, json_t *outputs)
{
    char param[2 * AXION_PARAM_BYTES]; /* cut between characters later */
    const char *key;
    json_t *value;
    size_t i;

    json_object_foreach(outputs, key, value)
    {
        for (i = 0; i < N_FIELDS; i++) {
            if (fields[i].parent != NULL && strcmp(fields[i].name, key) == 0)
                break;
        }
        if (i < N_FIELDS || json_is_null(value) || json_is_false(value))
            continue;
        snprintf(param, sizeof(param), "structured_outputs.%s", key);
        return axion_parse_fail(p, AXION_ERR_UNSUPPORTED_FIELD, param,
                                "structured_outputs has a member that is not "
                                "supported");
    }
    return AXION_OK;
}


static int
check_choice(struct axion_parser *p, const char *param, const json_t *value)
{
    char path[AXION_PARAM_BYTES];
    json_t *entry;
    size_t i;

    if (json_array_size(value) == 0)
        return axion_parse_fail(p, AXION_ERR_INVALID_VALUE, param,
                                "%s has nothing to choose from", param);
    json_array_foreach(value, i, entry)
    {
        snprintf(path, sizeof(path), "%.80s[%zu]", param, i);
        if (!json_is_string(entry))
            return axion_parse_wrong_type(p, path, "a string", entry);
    }
    return AXION_OK;
}


static int
take_field(struct axion_parser *p, struct grammar *g, const struct field *f,
           const char *param, const json_t *value)
{
    const char *names[] = {f->parent, f->name};
    size_t n = f->parent != NULL ? 2 : 1;
    int error;

    if (json_is_string(value) && f->source <= SOURCE_SCHEMA) {
        if (json_string_length(value) == 0)
            return AXION_OK; /* asks for nothing */
        return take(p, g, f->kind, param, json_string_value(value),
                    json_string_length(value));
    }
    switch (f->source) {
    case SOURCE_SCHEMA:
        if (json_is_object(value))
            return take_span(p, g, f->kind, param, names + 2 - n, n);
        return axion_parse_wrong_type(p, param, "a JSON schema", value);
    case SOURCE_ARRAY:
        if (!json_is_array(value))
            return axion_parse_wrong_type(p, param, "an array of strings",
                                          value);
        error = check_choice(p, param, value);
        if (error != AXION_OK)
            return error;
        return take_span(p, g, f->kind, param, names + 2 - n, n);
    case SOURCE_SWITCH:
        if (!json_is_boolean(value))
            return axion_parse_wrong_type(p, param, "true or false", value);
        return json_is_true(value) ? take(p, g, f->kind, param, "", 0)
                                   : AXION_OK;
    default:
        return axion_parse_wrong_type(p, param, "a string", value);
    }
}


int
axion_parse_grammar(struct axion_parser *p, const json_t *root)
{
    static const char outer[] = "structured_outputs";
    json_t *outputs = axion_parse_get(root, outer);
    struct grammar g = {0};
    size_t i;
    int error = take_response_format(p, &g, root);

    if (error == AXION_OK && outputs != NULL)
        error = json_is_object(outputs)
                    ? check_known(p, outputs)
                    : axion_parse_wrong_type(p, outer, "an object", outputs);
    for (i = 0; error == AXION_OK && i < N_FIELDS; i++) {
        const struct field *f = &fields[i];
        const json_t *value =
            axion_parse_get(f->parent != NULL ? outputs : root, f->name);
        char param[AXION_PARAM_BYTES];

        if (value == NULL)
            continue;
        snprintf(param, sizeof(param), "%s%s%s",
                 f->parent != NULL ? f->parent : "",
                 f->parent != NULL ? "." : "", f->name);
        error = take_field(p, &g, f, param, value);
    }
    if (error != AXION_OK || g.kind == 0)
        return error;
    error = axion_request_add_grammar(&p->writer, g.kind, g.source, g.bytes);
    return error == AXION_OK ? AXION_OK
                             : axion_parse_fail(p, error, NULL, NULL);
}
