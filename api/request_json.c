/*
 * From bytes to jansson's tree, with the limits that jansson lacks.  A body
 * of one megabyte can ask a JSON parser for a hundred: `[[],[],…` or a
 * million keys.  One pass over the bytes counts nesting, containers, keys
 * and values before anything is allocated; it knows just enough JSON for that
 * (strings and brackets) and leaves every other judgement to jansson.
 */
#include <string.h>
#include "api/parser.h"
#include "shm/errors.h"

#define CONTAINERS_MAX 65536u
#define VALUES_MAX     (1u << 20) /* a prompt of token ids is a long array */
#define KEYS_MAX       32768u     /* each is hashed and compared */


/* The index of the quote that ends the string starting behind `i`, or
 * `bytes`. */
static size_t
skip_string(const char *body, size_t bytes, size_t i)
{
    while (i < bytes && body[i] != '"')
        i += body[i] == '\\' ? 2 : 1;
    return i < bytes ? i : bytes;
}


static int
scan_limits(struct axion_parser *p, const char *body, size_t bytes)
{
    size_t i, depth = 0, containers = 0, values = 1, keys = 0;

    for (i = 0; i < bytes; i++) {
        switch (body[i]) {
        case '"':
            i = skip_string(body, bytes, i + 1);
            break;
        case '[':
        case '{':
            containers++;
            if (++depth > AXION_JSON_DEPTH_MAX)
                return axion_parse_fail(
                    p, AXION_ERR_INVALID_JSON, NULL,
                    "the JSON is nested deeper than %u levels (byte %zu)",
                    AXION_JSON_DEPTH_MAX, i);
            break;
        case ']':
        case '}':
            depth -= depth > 0;
            break;
        case ',':
            values++;
            break;
        case ':':
            keys++;
            break;
        default:
            break;
        }
    }
    if (containers > CONTAINERS_MAX || values + containers > VALUES_MAX)
        return axion_parse_fail(
            p, AXION_ERR_INVALID_JSON, NULL,
            "the JSON has more than %u arrays and objects or %u values",
            CONTAINERS_MAX, VALUES_MAX);
    if (keys > KEYS_MAX)
        return axion_parse_fail(p, AXION_ERR_INVALID_JSON, NULL,
                                "the JSON has more than %u keys", KEYS_MAX);
    return AXION_OK;
}


/* The key that ends at `end` as it is written there, for the message. */
static void
key_before(const char *body, size_t end, char *key, size_t key_bytes)
{
    size_t start, n;

    key[0] = '\0';
    if (end < 2 || body[end - 1] != '"')
        return;
    for (start = end - 1; start > 0 && body[start - 1] != '"'; start--)
        ;
    n = end - 1 - start;
    if (n >= key_bytes)
        n = key_bytes - 1;
    memcpy(key, body + start, n);
    key[n] = '\0';
}


static int
fail_syntax(struct axion_parser *p, const char *body, size_t bytes,
            const json_error_t *e)
{
    char key[AXION_PARAM_BYTES];
    size_t at = e->position > 0 ? (size_t)e->position : 0;

    if (at > bytes)
        at = bytes;
    switch (json_error_code(e)) {
    case json_error_duplicate_key:
        key_before(body, at, key, sizeof(key));
        return axion_parse_fail(
            p, AXION_ERR_INVALID_JSON, key,
            "byte %zu: the key \"%s\" is given twice in one object", at, key);
    default:
        return axion_parse_fail(
            p, AXION_ERR_INVALID_JSON, NULL,
            "the body is not valid JSON, line %d, byte %zu: %s", e->line, at,
            e->text);
    }
}


int
axion_parse_json(struct axion_parser *p, const char *body, size_t bytes,
                 struct axion_json_tree *tree)
{
    json_error_t json_error;
    int error;

    if (bytes == 0)
        return axion_parse_fail(p, AXION_ERR_INVALID_JSON, NULL,
                                "the body is empty");
    if (bytes >= 3 && memcmp(body, "\xef\xbb\xbf", 3) == 0)
        return axion_parse_fail(p, AXION_ERR_INVALID_JSON, NULL,
                                "the body starts with a byte order mark, "
                                "which JSON does not allow");
    error = scan_limits(p, body, bytes);
    if (error != AXION_OK)
        return error;
    error = axion_json_tree_load(
        tree, body, bytes,
        JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &json_error);
    if (error == AXION_ERR_NO_MEMORY)
        return axion_parse_fail(p, error, NULL, NULL);
    if (error != AXION_OK)
        return fail_syntax(p, body, bytes, &json_error);
    return AXION_OK;
}
