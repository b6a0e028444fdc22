/*
 * One walk over the body's members, and over the texts of its messages; see
 * remote_floor.h for what counts and why.
 */
#include "api/remote_floor.h"

#include <string.h>
#include "api/json_walk.h"
#include "shm/errors.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Members that let a server use less than the whole prompt: vLLM and SGLang,
 * OpenAI, text-generation-inference, OpenRouter. */
static const char *const cutting[] = {"truncate_prompt_tokens", "truncation",
                                      "truncate", "transforms"};


/* Bytes of the character at `at`; an escape is one, whatever it stands for. */
static size_t
char_bytes(const char *at, const char *end)
{
    size_t n = 1;

    while (at + n < end && ((unsigned char)at[n] & 0xc0) == 0x80)
        n++;
    return n;
}


size_t
axion_floor_bytes(const struct axion_text *string)
{
    const char *at, *end, *last = "";
    size_t n = 0, bytes, last_bytes = 0;

    if (string->data == NULL || string->bytes < 2 || string->data[0] != '"')
        return 0;
    at = string->data + 1;
    end = string->data + string->bytes - 1;
    while (at < end) {
        bytes = char_bytes(at, end);
        if (bytes != last_bytes || memcmp(at, last, bytes) != 0)
            n += bytes;
        last = at;
        last_bytes = bytes;
        if (*at != '\\')
            at += bytes;
        else
            at += at[1] == 'u' ? 6 : 2;
    }
    return n;
}


/* A string, or the texts of parts. */
static size_t
content_bytes(const struct axion_text *content)
{
    struct axion_text part, text;
    struct axion_walk walk;
    size_t n = axion_floor_bytes(content);

    if (!axion_walk_enter(&walk, content, '['))
        return n;
    while (axion_walk_next(&walk, NULL, &part)) {
        text = axion_walk_find(&part, "text");
        n += axion_floor_bytes(&text);
    }
    return n;
}


static size_t
message_bytes(const struct axion_text *messages)
{
    struct axion_text message, role, content;
    struct axion_walk walk;
    size_t n = 0;

    if (!axion_walk_enter(&walk, messages, '['))
        return 0;
    while (axion_walk_next(&walk, NULL, &message)) {
        role = axion_walk_find(&message, "role");
        if (!axion_walk_is(&role, "user") && !axion_walk_is(&role, "system"))
            continue;
        content = axion_walk_find(&message, "content");
        n += content_bytes(&content);
    }
    return n;
}


/* A string, or those of an array; ids are counted by the parser. */
static size_t
prompt_bytes(const struct axion_text *prompt)
{
    struct axion_text entry;
    struct axion_walk walk;
    size_t n = axion_floor_bytes(prompt);

    if (!axion_walk_enter(&walk, prompt, '['))
        return n;
    while (axion_walk_next(&walk, NULL, &entry))
        n += axion_floor_bytes(&entry);
    return n;
}


static int
is_given(const struct axion_text *body, const char *name)
{
    struct axion_text value = axion_walk_find(body, name);

    return value.data != NULL && value.data[0] != 'n' && value.data[0] != 'f';
}


uint32_t
axion_floor_prompt(const void *body, size_t bytes,
                   const struct axion_parsed *parsed, int *echoed)
{
    struct axion_text whole, texts;
    uint64_t n;
    size_t i;

    *echoed = 1;
    if (axion_walk_value(body, bytes, &whole) != AXION_OK)
        return 0;
    *echoed = is_given(&whole, "echo");
    for (i = 0; i < COUNT(cutting); i++) {
        if (is_given(&whole, cutting[i]))
            return 0;
    }
    if (parsed->kind == AXION_REQUEST_COMPLETION) {
        texts = axion_walk_find(&whole, "prompt");
        n = prompt_bytes(&texts);
    } else {
        texts = axion_walk_find(&whole, "messages");
        n = message_bytes(&texts);
    }
    n = n / AXION_FLOOR_TOKEN_BYTES + parsed->n_tokens;
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}
