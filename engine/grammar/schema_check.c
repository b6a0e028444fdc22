/*
 * The keywords of one node: all are known, of the right type and can be
 * enforced, or the node is refused.  Done when a node becomes part of a view,
 * so what comes behind need not look again.
 */
#include <stdio.h>
#include <string.h>
#include "engine/grammar/schema_private.h"

#define KEYWORDS_MAX 256u /* of one node, x-... among them */
#define TYPES_MAX    16u

enum wanted {
    ANYTHING, /* an annotation, or looked at elsewhere */
    COUNT,    /* a whole number from 0 */
    NUMBER,
    STRING,
    BOOLEAN,
    SCHEMA,
    SCHEMAS, /* an array of schemas, not empty */
    MEMBERS, /* an object of schemas */
    STRINGS,
    VALUES, /* an array, not empty */
    TYPES,
    ITEMS, /* a schema, or an array of them */
    NEVER, /* cannot be enforced */
    EMPTY, /* can be only where it asks for nothing */
};

struct keyword {
    const char *name;
    uint8_t wanted;
    uint8_t types; /* that it is about; 0: an annotation or a combination */
};

static const struct keyword keywords[] = {
    {"type", TYPES, TYPE_ALL},
    {"enum", VALUES, TYPE_ALL},
    {"const", ANYTHING, TYPE_ALL},
    {"nullable", BOOLEAN, TYPE_NULL},
    {"anyOf", SCHEMAS, 0},
    {"oneOf", SCHEMAS, 0},
    {"allOf", SCHEMAS, 0},
    {"$ref", STRING, 0},
    {"properties", MEMBERS, TYPE_OBJECT},
    {"required", STRINGS, TYPE_OBJECT},
    {"additionalProperties", SCHEMA, TYPE_OBJECT},
    {"unevaluatedProperties", BOOLEAN, TYPE_OBJECT},
    {"minProperties", COUNT, TYPE_OBJECT},
    {"maxProperties", COUNT, TYPE_OBJECT},
    {"items", ITEMS, TYPE_ARRAY},
    {"prefixItems", SCHEMAS, TYPE_ARRAY},
    {"additionalItems", SCHEMA, TYPE_ARRAY},
    {"unevaluatedItems", BOOLEAN, TYPE_ARRAY},
    {"minItems", COUNT, TYPE_ARRAY},
    {"maxItems", COUNT, TYPE_ARRAY},
    {"minLength", COUNT, TYPE_STRING},
    {"maxLength", COUNT, TYPE_STRING},
    {"pattern", STRING, TYPE_STRING},
    {"format", STRING, 0}, /* of numbers, too */
    {"minimum", NUMBER, TYPE_INTEGER | TYPE_FRACTION},
    {"maximum", NUMBER, TYPE_INTEGER | TYPE_FRACTION},
    {"exclusiveMinimum", NUMBER, TYPE_INTEGER | TYPE_FRACTION},
    {"exclusiveMaximum", NUMBER, TYPE_INTEGER | TYPE_FRACTION},
    {"multipleOf", NUMBER, TYPE_INTEGER | TYPE_FRACTION},
    {"uniqueItems", EMPTY, 0},
    {"patternProperties", EMPTY, 0},
    {"dependencies", EMPTY, 0},
    {"dependentRequired", EMPTY, 0},
    {"dependentSchemas", EMPTY, 0},
    {"not", NEVER, 0},
    {"if", NEVER, 0},
    {"then", NEVER, 0},
    {"else", NEVER, 0},
    {"contains", NEVER, 0},
    {"minContains", NEVER, 0},
    {"maxContains", NEVER, 0},
    {"propertyNames", NEVER, 0},
    {"title", ANYTHING, 0},
    {"description", ANYTHING, 0},
    {"default", ANYTHING, 0},
    {"example", ANYTHING, 0},
    {"examples", ANYTHING, 0},
    {"readOnly", ANYTHING, 0},
    {"writeOnly", ANYTHING, 0},
    {"deprecated", ANYTHING, 0},
    {"discriminator", ANYTHING, 0},
    {"contentMediaType", ANYTHING, 0},
    {"contentEncoding", ANYTHING, 0},
    {"$comment", ANYTHING, 0},
    {"$schema", ANYTHING, 0},
    {"$defs", ANYTHING, 0},
    {"definitions", ANYTHING, 0},
    {"$id", ANYTHING, 0}, /* of the root: check_node() */
};


static bool
is_extension(const struct compiler *c, const struct ax_json_node *member)
{
    return member->key_bytes > 2 &&
           memcmp(c->json.text + member->key, "x-", 2) == 0;
}


static const struct keyword *
find_keyword(const struct compiler *c, const struct ax_json_node *member)
{
    if (is_extension(c, member)) { /* there may be any number of these */
        return NULL;
    }
    for (size_t i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++) {
        if (strlen(keywords[i].name) == member->key_bytes &&
            memcmp(keywords[i].name, c->json.text + member->key,
                   member->key_bytes) == 0) {
            return &keywords[i];
        }
    }
    return NULL;
}


static bool
is_schema(const struct ax_json_node *node)
{
    return node->kind == AX_JSON_OBJECT || node->kind == AX_JSON_TRUE ||
           node->kind == AX_JSON_FALSE;
}


static bool
all_of_kind(const struct compiler *c, const struct ax_json_node *node,
            bool (*fits)(const struct ax_json_node *))
{
    for (uint32_t i = node->child; i != NONE; i = c->json.nodes[i].next) {
        if (!fits(&c->json.nodes[i])) {
            return false;
        }
    }
    return true;
}


static bool
is_string(const struct ax_json_node *node)
{
    return node->kind == AX_JSON_STRING;
}


static unsigned
type_named(const struct compiler *c, uint32_t name)
{
    static const struct {
        const char *name;
        unsigned types;
    } types[] = {
        {"null", TYPE_NULL},       {"boolean", TYPE_BOOLEAN},
        {"integer", TYPE_INTEGER}, {"number", TYPE_INTEGER | TYPE_FRACTION},
        {"string", TYPE_STRING},   {"array", TYPE_ARRAY},
        {"object", TYPE_OBJECT},
    };

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (ax_json_text_is(&c->json, name, types[i].name)) {
            return types[i].types;
        }
    }
    return 0;
}


unsigned
named_types(const struct compiler *c, uint32_t node)
{
    uint32_t type = ax_json_get(&c->json, node, "type");
    uint32_t nullable = ax_json_get(&c->json, node, "nullable");
    unsigned types = 0;

    if (type == NONE) {
        return TYPE_ALL;
    }
    if (c->json.nodes[type].kind == AX_JSON_STRING) {
        types = type_named(c, type);
    }
    for (uint32_t i = c->json.nodes[type].child; i != NONE;
         i = c->json.nodes[i].next) {
        types |= type_named(c, i);
    }
    if (nullable != NONE && c->json.nodes[nullable].kind == AX_JSON_TRUE) {
        types |= TYPE_NULL;
    }
    return types;
}


static bool
are_types(const struct compiler *c, uint32_t value)
{
    const struct ax_json_node *node = &c->json.nodes[value];

    if (node->kind == AX_JSON_STRING) {
        return type_named(c, value) != 0;
    }
    for (uint32_t i = node->child; i != NONE; i = c->json.nodes[i].next) {
        if (type_named(c, i) == 0) {
            return false;
        }
    }
    return node->kind == AX_JSON_ARRAY && node->n > 0 && node->n <= TYPES_MAX;
}


static bool
is_count(const struct compiler *c, const struct ax_json_node *node)
{
    return node->kind == AX_JSON_NUMBER &&
           strspn(c->json.text + node->text, "0123456789") >= node->bytes;
}


/* NULL, or what the keyword's value should be. */
static const char *
fault_of(const struct compiler *c, const struct keyword *keyword,
         uint32_t value)
{
    const struct ax_json_node *node = &c->json.nodes[value];

    switch (keyword->wanted) {
    case COUNT:
        return is_count(c, node) ? NULL : "must be a whole number from 0";
    case NUMBER:
        return node->kind == AX_JSON_NUMBER ? NULL : "must be a number";
    case STRING:
        return is_string(node) ? NULL : "must be a string";
    case BOOLEAN:
        return node->kind == AX_JSON_TRUE || node->kind == AX_JSON_FALSE
                   ? NULL
                   : "can be enforced only if it is true or false";
    case SCHEMA:
        return is_schema(node) ? NULL : "must be a schema";
    case ITEMS:
        if (is_schema(node)) {
            return NULL;
        }
        /* fall through */
    case SCHEMAS:
        return node->kind == AX_JSON_ARRAY && node->n > 0 &&
                       all_of_kind(c, node, is_schema)
                   ? NULL
                   : "must be an array of schemas, not empty";
    case MEMBERS:
        return node->kind == AX_JSON_OBJECT && all_of_kind(c, node, is_schema)
                   ? NULL
                   : "must be an object of schemas";
    case STRINGS:
        return node->kind == AX_JSON_ARRAY && all_of_kind(c, node, is_string)
                   ? NULL
                   : "must be an array of strings";
    case VALUES:
        return node->kind == AX_JSON_ARRAY && node->n > 0
                   ? NULL
                   : "must be an array, not empty";
    case TYPES:
        return are_types(c, value) ? NULL : "must name types of JSON";
    case EMPTY:
        return node->kind == AX_JSON_FALSE ||
                       (node->kind >= AX_JSON_ARRAY && node->n == 0)
                   ? NULL
                   : "cannot be enforced";
    case NEVER:
        return "cannot be enforced";
    default:
        return NULL;
    }
}


int
check_node(struct compiler *c, uint32_t node)
{
    const struct ax_json *json = &c->json;

    /* Each of them is looked at again and again. */
    if (json->nodes[node].n > KEYWORDS_MAX) {
        return ax_error_set(c->err, AXION_ERR_GRAMMAR_LIMIT,
                            "a schema has more than %u keywords", KEYWORDS_MAX);
    }
    for (uint32_t i = json->nodes[node].child; i != NONE;
         i = json->nodes[i].next) {
        const struct ax_json_node *member = &json->nodes[i];
        const struct keyword *keyword = find_keyword(c, member);
        int rc = spend(c, 64 + member->n);
        if (rc != AXION_OK) {
            return rc;
        }
        if (keyword == NULL) {
            if (is_extension(c, member)) {
                continue;
            }
            return refuse_keyword(c, i, "is not known");
        }
        const char *fault = fault_of(c, keyword, i);
        if (fault != NULL) {
            return refuse_keyword(c, i, fault);
        }
        if (strcmp(keyword->name, "$id") == 0 && node != 0) {
            return refuse_keyword(c, i, "can be enforced only at the root");
        }
        if (strcmp(keyword->name, "nullable") == 0 &&
            member->kind == AX_JSON_TRUE &&
            ax_json_get(json, node, "type") == NONE) {
            return refuse_keyword(c, i, "needs a type beside it");
        }
    }
    return AXION_OK;
}


unsigned
hinted_types(const struct compiler *c, uint32_t node)
{
    unsigned types = 0;

    for (uint32_t i = c->json.nodes[node].child; i != NONE;
         i = c->json.nodes[i].next) {
        const struct keyword *keyword = find_keyword(c, &c->json.nodes[i]);
        if (keyword != NULL && keyword->types != TYPE_ALL &&
            strcmp(keyword->name, "nullable") != 0) {
            types |= keyword->types;
        }
        if (keyword != NULL && strcmp(keyword->name, "format") == 0) {
            types |= TYPE_STRING;
        }
    }
    return types;
}


bool
keyword_asserts(const struct compiler *c, uint32_t keyword)
{
    const struct keyword *k = find_keyword(c, &c->json.nodes[keyword]);

    return k != NULL && (k->types != 0 || strcmp(k->name, "format") == 0);
}


bool
has_assertions(const struct compiler *c, uint32_t node, bool branches_count)
{
    for (uint32_t i = c->json.nodes[node].child; i != NONE;
         i = c->json.nodes[i].next) {
        const struct keyword *keyword = find_keyword(c, &c->json.nodes[i]);
        if (keyword == NULL) {
            continue;
        }
        if (keyword_asserts(c, i) ||
            (branches_count && (strcmp(keyword->name, "anyOf") == 0 ||
                                strcmp(keyword->name, "oneOf") == 0))) {
            return true;
        }
    }
    return false;
}


unsigned
type_of_value(const struct compiler *c, uint32_t node)
{
    static const unsigned types[] = {
        [AX_JSON_NULL] = TYPE_NULL,      [AX_JSON_FALSE] = TYPE_BOOLEAN,
        [AX_JSON_TRUE] = TYPE_BOOLEAN,   [AX_JSON_STRING] = TYPE_STRING,
        [AX_JSON_ARRAY] = TYPE_ARRAY,    [AX_JSON_OBJECT] = TYPE_OBJECT,
        [AX_JSON_NUMBER] = TYPE_INTEGER,
    };
    const struct ax_json_node *n = &c->json.nodes[node];

    if (n->kind == AX_JSON_NUMBER &&
        strcspn(c->json.text + n->text, ".eE") < n->bytes) {
        return TYPE_FRACTION;
    }
    return types[n->kind];
}
