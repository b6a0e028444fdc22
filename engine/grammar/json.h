/*
 * A JSON text as an array of nodes, for schemas and lists of choices.
 *
 * What a schema's compiler needs and parsers of values lack: numbers keep the
 * spelling they came with (a const of 1.10 is that), a node knows the way to
 * it (for messages), and all of it is bounded: AX_JSON_NODES_MAX values,
 * AX_JSON_DEPTH_MAX containers deep, memory by the text's length.  The parser
 * keeps its place in the nodes and does not recurse.
 *
 * Looking for a member walks through its object, so work that a text can ask
 * for many times over is counted (looked_at).
 *
 * Strict RFC 8259; keys given twice in one object and lone surrogates are
 * refused.  Strings are decoded, and may have U+0000.
 */
#ifndef AX_GRAMMAR_JSON_H
#define AX_GRAMMAR_JSON_H

#include <stddef.h>
#include <stdint.h>
#include "engine/error.h"

#define AX_JSON_NODES_MAX 65536u
#define AX_JSON_DEPTH_MAX 64u
#define AX_JSON_NONE      UINT32_MAX
#define AX_JSON_LOOKS_MAX (64u << 20)

enum ax_json_kind {
    AX_JSON_NULL = 0,
    AX_JSON_FALSE,
    AX_JSON_TRUE,
    AX_JSON_NUMBER,
    AX_JSON_STRING,
    AX_JSON_ARRAY,
    AX_JSON_OBJECT,
};

struct ax_json_node {
    uint8_t kind;
    uint32_t parent; /* NONE: the root */
    uint32_t child;  /* the first one, or NONE */
    uint32_t last;   /* child */
    uint32_t next;   /* sibling, or NONE */
    uint32_t n;      /* children */
    uint32_t index;  /* among the siblings */
    uint32_t text;   /* string, decoded; number, as written */
    uint32_t bytes;
    uint32_t key; /* of a member, decoded */
    uint32_t key_bytes;
};

struct ax_json {
    struct ax_json_node *nodes; /* [0] is the root */
    uint32_t n_nodes, capacity;
    char *text; /* of strings, keys and numbers */
    size_t text_bytes;
    /* Nodes that find() and equal() have looked at: what they cost, for who
     * bounds it; NULL: nobody counts. */
    uint64_t *looked_at;
};

/* GRAMMAR_INVALID with line and column, GRAMMAR_LIMIT, NO_MEMORY; after an
 * error there is nothing to be freed. */
int ax_json_parse(struct ax_json *json, const char *text, size_t bytes,
                  struct ax_error *err);
void ax_json_free(struct ax_json *json);

/* The member of that name, or NONE; also for nodes that are no objects. */
uint32_t ax_json_find(const struct ax_json *json, uint32_t object,
                      const char *name, size_t bytes);
uint32_t ax_json_get(const struct ax_json *json, uint32_t object,
                     const char *name);
int ax_json_text_is(const struct ax_json *json, uint32_t node,
                    const char *text);
/* Equal as JSON values are: members in any order, numbers by value.  False as
 * well once AX_JSON_LOOKS_MAX nodes have been looked at, where they are
 * counted. */
int ax_json_equal(const struct ax_json *json, uint32_t a, uint32_t b);
/* As JSON Pointer, "#/properties/a", printable, cut where too long. */
const char *ax_json_pointer(const struct ax_json *json, uint32_t node,
                            char *pointer, size_t size);

#endif
