/*
 * What a request that only a remote can do has for its prompt, by its bytes.
 *
 * Images, audio and files are no text: counted as a prompt, a picture of a
 * megabyte would be some 400,000 tokens.  What each of them is worth nobody
 * here can know; they are counted, and their payloads left out.  But for
 * these everything is text, whatever it calls itself: servers read parts,
 * and members of parts, that OpenAI's API does not name, and who hides a
 * prompt there has it counted all the same.
 */
#include "api/parser.h"


/* Where a part of this type has its payload: a string, or the string of that
 * name in an object. */
struct media {
    const char *type;
    const char *member;
    const char *payload;
};

static const struct media media[] = {
    {"image_url", "image_url", "url"},
    {"input_image", "image_url", "url"},
    {"input_audio", "input_audio", "data"},
    {"audio_url", "audio_url", "url"},
    {"video_url", "video_url", "url"},
    {"file", "file", "file_data"},
    {"input_file", "file_data", "file_data"},
};


static int
is_text(const json_t *type)
{
    static const char *const names[] = {"text", "refusal", "input_text",
                                        "output_text", "thinking"};
    size_t i;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (axion_parse_is(type, names[i]))
            return 1;
    }
    return !json_is_string(type);
}


static size_t
payload_bytes(const json_t *part, const json_t *type)
{
    const json_t *value;
    size_t i;

    for (i = 0; i < sizeof(media) / sizeof(media[0]); i++) {
        if (!axion_parse_is(type, media[i].type))
            continue;
        value = axion_parse_get(part, media[i].member);
        if (json_is_object(value))
            value = axion_parse_get(value, media[i].payload);
        return json_string_length(value);
    }
    return 0;
}


static size_t
count_media(struct axion_parser *p, const json_t *messages)
{
    json_t *message, *part;
    size_t bytes = 0, i, j;

    json_array_foreach(messages, i, message)
    {
        json_array_foreach(axion_parse_get(message, "content"), j, part)
        {
            const json_t *type = axion_parse_get(part, "type");

            if (is_text(type))
                continue;
            bytes += payload_bytes(part, type);
            p->parsed->n_media++;
        }
    }
    return bytes;
}


/* A string, or those of an array. */
static size_t
text_of(const json_t *value)
{
    size_t bytes = json_string_length(value), i;
    json_t *entry;

    json_array_foreach(value, i, entry)
    {
        bytes += json_string_length(entry);
    }
    return bytes;
}


/* Of several prompts, all of them: no parser has looked at each.  0 where
 * there is more than ids and strings. */
static uint32_t
ids_of(const json_t *prompts)
{
    json_t *entry, *id;
    size_t n = 0, i, j;

    json_array_foreach(prompts, i, entry)
    {
        if (!json_is_array(entry) && !json_is_string(entry))
            return 0;
        json_array_foreach(entry, j, id)
        {
            if (!json_is_integer(id) && !json_is_string(id))
                return 0;
            n += json_is_integer(id);
        }
    }
    return (uint32_t)n;
}


/* Of what stands in prompts beside token ids. */
static size_t
beside_ids(const json_t *root)
{
    const json_t *prompts = axion_parse_get(root, "prompt");
    size_t bytes = text_of(prompts), i;
    json_t *entry;

    json_array_foreach(prompts, i, entry)
    {
        if (json_is_array(entry))
            bytes += text_of(entry);
    }
    return bytes + text_of(axion_parse_get(root, "suffix")) +
           text_of(axion_parse_get(root, "prompt_embeds"));
}


void
axion_parse_bytes(struct axion_parser *p, const json_t *root, size_t bytes)
{
    struct axion_parsed *parsed = p->parsed;
    size_t payloads = count_media(p, axion_parse_get(root, "messages"));

    if (parsed->n_tokens == 0 && parsed->kind == AXION_REQUEST_COMPLETION)
        parsed->n_tokens = ids_of(axion_parse_get(root, "prompt"));
    parsed->payload_bytes = bytes - (payloads < bytes ? payloads : bytes);
    parsed->text_bytes =
        parsed->n_tokens != 0 ? beside_ids(root) : parsed->payload_bytes;
}
