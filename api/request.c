/*
 * Entry of the request parser (request.h is the manual).  The order is fixed:
 * the text is scanned for its limits, parsed by jansson, refused for what we
 * cannot do, then the scalars fill the payload's head, then the sections are
 * appended.  The tree is given back on every path; what the caller keeps was
 * copied into its own memory.
 */
#include "api/request.h"

#include <stdarg.h>
#include <string.h>
#include "api/parser.h"

/* The payload is about as long as the body; this much more for its head. */
#define PAYLOAD_SLACK 1024u


int
axion_parse_fail(struct axion_parser *p, int error, const char *param,
                 const char *format, ...)
{
    va_list args;

    va_start(args, format);
    axion_failure_vset(p->failure, error, param, format, args);
    va_end(args);
    return error;
}


int
axion_parse_wrong_type(struct axion_parser *p, const char *param,
                       const char *wanted, const json_t *value)
{
    static const char *const names[] = {
        [JSON_OBJECT] = "an object", [JSON_ARRAY] = "an array",
        [JSON_STRING] = "a string",  [JSON_INTEGER] = "an integer",
        [JSON_REAL] = "a number",    [JSON_TRUE] = "true",
        [JSON_FALSE] = "false",      [JSON_NULL] = "null",
    };

    return axion_parse_fail(p, AXION_ERR_INVALID_TYPE, param,
                            "%s must be %s, not %s", param, wanted,
                            names[json_typeof(value)]);
}


json_t *
axion_parse_get(const json_t *object, const char *name)
{
    json_t *value = json_object_get(object, name);

    return json_is_null(value) ? NULL : value;
}


int
axion_parse_is(const json_t *string, const char *text)
{
    size_t bytes = strlen(text);

    return json_string_length(string) == bytes &&
           memcmp(json_string_value(string), text, bytes) == 0;
}


static void *
payload_grow(void *context, void *data, size_t old, size_t bytes)
{
    const struct axion_memory *memory = context;
    void *grown = memory->alloc(memory->context, bytes);

    if (grown != NULL && old != 0)
        memcpy(grown, data, old);
    return grown;
}


static int
payload_start(struct axion_parser *p, size_t body_bytes)
{
    struct axion_request_writer *w = &p->writer;
    size_t hint = p->options->payload_bytes_max;

    if (hint > PAYLOAD_SLACK && body_bytes < hint - PAYLOAD_SLACK)
        hint = body_bytes + PAYLOAD_SLACK;
    memset(w, 0, sizeof(*w));
    w->bytes_max = p->options->payload_bytes_max;
    w->grow = payload_grow;
    w->context = (void *)p->memory;
    w->data = p->memory->alloc(p->memory->context, hint);
    if (w->data == NULL)
        return AXION_ERR_NO_MEMORY;
    w->capacity = hint;
    return axion_request_begin(w, &p->head);
}


/* After the scalars: what the body asks for is bounded by who asks. */
static void
take_identity(struct axion_parser *p)
{
    const struct axion_parse_options *options = p->options;
    struct axion_request_head *head = &p->head;

    if (options->max_output != 0 &&
        (head->max_tokens == 0 || head->max_tokens > options->max_output))
        head->max_tokens = options->max_output;
    p->parsed->max_tokens = head->max_tokens;
    head->tenant = options->tenant;
    head->priority = options->priority;
    if (options->cache_salt != NULL)
        memcpy(head->cache_salt, options->cache_salt, sizeof(head->cache_salt));
}


/* What engines cannot do and a remote may: the failure is kept for those whom
 * no remote takes. */
static int
excuse(struct axion_parser *p, int error)
{
    if (error != AXION_ERR_UNSUPPORTED_FIELD || !p->options->remote)
        return error;
    p->parsed->remote_only = 1;
    return AXION_OK;
}


static int
parse_root(struct axion_parser *p, json_t *root, size_t body_bytes)
{
    int error;

    if (!json_is_object(root))
        return axion_parse_fail(p, AXION_ERR_INVALID_TYPE, NULL,
                                "the body must be a JSON object");
    error = excuse(p, axion_parse_unsupported(p, root));
    if (error != AXION_OK)
        return error;
    error = axion_parse_scalars(p, root);
    if (error != AXION_OK)
        return error;
    take_identity(p);
    error = payload_start(p, body_bytes);
    if (error != AXION_OK)
        return axion_parse_fail(p, error, NULL, NULL);
    error = excuse(p, axion_parse_sections(p, root));
    if (error != AXION_OK)
        return error;
    return excuse(p, axion_parse_grammar(p, root));
}


int
axion_request_parse(struct axion_parsed *parsed, enum axion_request_kind kind,
                    const void *body, size_t bytes,
                    const struct axion_parse_options *options,
                    const struct axion_memory *memory,
                    struct axion_failure *failure)
{
    struct axion_parser p;
    struct axion_json_tree tree;
    int error;

    memset(&p, 0, sizeof(p));
    memset(parsed, 0, sizeof(*parsed));
    memset(failure, 0, sizeof(*failure));
    p.kind = kind;
    p.memory = memory;
    p.options = options;
    p.parsed = parsed;
    p.failure = failure;
    p.body = body;
    p.body_bytes = bytes;
    parsed->kind = kind;
    parsed->n_answers = 1;

    error = axion_parse_json(&p, body, bytes, &tree);
    if (error != AXION_OK)
        return error;
    error = parse_root(&p, tree.root, bytes);
    if (error == AXION_OK && parsed->remote_only)
        axion_parse_bytes(&p, tree.root, bytes);
    axion_json_tree_free(&tree);
    if (error != AXION_OK)
        return error;
    if (parsed->remote_only)
        return AXION_OK;
    axion_request_end(&p.writer);
    parsed->payload = p.writer.data;
    parsed->payload_bytes = p.writer.bytes;
    return AXION_OK;
}


void
axion_parsed_deadline(struct axion_parsed *parsed, uint32_t deadline_ms)
{
    memcpy(parsed->payload + offsetof(struct axion_request_head, deadline_ms),
           &deadline_ms, sizeof(deadline_ms));
}
