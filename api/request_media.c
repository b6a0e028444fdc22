/*
 * Images, audio and files in a request that goes to a remote.  Their bytes
 * are no text: counted as a prompt, a picture of a megabyte would be some
 * 400,000 tokens.  What each of them is worth nobody here can know; they are
 * counted, and their bytes left out.
 */
#include "api/parser.h"


/* The strings of a part and of the objects in it, where its payload is. */
static size_t
part_bytes(json_t *part, int depth)
{
    size_t bytes = 0;
    const char *key;
    json_t *value;

    json_object_foreach(part, key, value)
    {
        if (json_is_string(value))
            bytes += json_string_length(value);
        else if (json_is_object(value) && depth > 0)
            bytes += part_bytes(value, depth - 1);
    }
    return bytes;
}


static int
is_text(const json_t *part)
{
    const json_t *type = axion_parse_get(part, "type");

    return !json_is_string(type) || axion_parse_is(type, "text") ||
           axion_parse_is(type, "refusal");
}


size_t
axion_parse_media(struct axion_parser *p, const json_t *root)
{
    const json_t *messages = axion_parse_get(root, "messages");
    json_t *message, *part;
    size_t bytes = 0, i, j;

    json_array_foreach(messages, i, message)
    {
        json_array_foreach(axion_parse_get(message, "content"), j, part)
        {
            if (!json_is_object(part) || is_text(part))
                continue;
            bytes += part_bytes(part, 1);
            p->parsed->n_media++;
        }
    }
    return bytes;
}
