/*
 * Fields of any length: model, messages, prompt, stop, logit_bias.  Each is
 * checked and appended to the payload at once, text by text, so nothing is
 * copied twice.  Paths for `param` are only put together when something is
 * wrong.
 */
#include <stdio.h>
#include <string.h>
#include "api/parser.h"
#include "shm/errors.h"

#define LOGIT_BIAS_ABS_MAX 100.0
#define NAME_BYTES_MAX     256u


static int
add_section(struct axion_parser *p, enum axion_request_section tag,
            const void *data, size_t bytes)
{
    int error = axion_request_add(&p->writer, tag, data, bytes);

    if (error != AXION_OK)
        return axion_parse_fail(p, error, NULL, NULL);
    return AXION_OK;
}


static int
add_string(struct axion_parser *p, enum axion_request_section tag,
           const json_t *value)
{
    if (tag == AXION_SECTION_TEXT || tag == AXION_SECTION_PROMPT ||
        tag == AXION_SECTION_NAME)
        p->parsed->text_bytes += json_string_length(value);
    return add_section(p, tag, json_string_value(value),
                       json_string_length(value));
}


static int
fail_missing(struct axion_parser *p, const char *param)
{
    return axion_parse_fail(p, AXION_ERR_MISSING_FIELD, param, "%s is missing",
                            param);
}


/* Names end up in logs, metrics and paths: bounded, without controls. */
static int
check_name(struct axion_parser *p, const char *param, const json_t *value,
           size_t bytes_max)
{
    const char *text;
    size_t i, bytes;

    if (!json_is_string(value))
        return axion_parse_wrong_type(p, param, "a string", value);
    text = json_string_value(value);
    bytes = json_string_length(value);
    if (bytes == 0 || bytes > bytes_max)
        return axion_parse_fail(p, AXION_ERR_INVALID_VALUE, param,
                                "%s must have from 1 to %zu bytes", param,
                                bytes_max);
    for (i = 0; i < bytes; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return axion_parse_fail(p, AXION_ERR_INVALID_VALUE, param,
                                    "%s has a control character", param);
    }
    return AXION_OK;
}


static int
parse_model(struct axion_parser *p, const json_t *root)
{
    const json_t *value = axion_parse_get(root, "model");
    struct axion_text *model = &p->parsed->model;
    struct axion_text *served = &p->parsed->served;
    const struct axion_tenant *aliases = p->options->aliases;
    int error;

    if (value == NULL)
        return fail_missing(p, "model");
    error = check_name(p, "model", value, AXION_MODEL_BYTES_MAX);
    if (error != AXION_OK)
        return error;
    model->bytes = (uint32_t)json_string_length(value);
    model->data =
        axion_memory_copy(p->memory, json_string_value(value), model->bytes);
    if (model->data == NULL)
        return axion_parse_fail(p, AXION_ERR_NO_MEMORY, NULL, NULL);
    *served = *model;
    if (aliases != NULL)
        *served = axion_tenant_model(aliases, model);
    return add_section(p, AXION_SECTION_MODEL, served->data, served->bytes);
}


/* ---- messages ---- */

static const char *
message_path(struct axion_parser *p, const char *field)
{
    snprintf(p->path, sizeof(p->path), "messages[%zu].%s", p->message_index,
             field);
    return p->path;
}


/* `field` is "", ".type" or ".text". */
static const char *
part_path(struct axion_parser *p, const char *field)
{
    snprintf(p->path, sizeof(p->path), "messages[%zu].content[%zu]%s",
             p->message_index, p->part_index, field);
    return p->path;
}


static int
fail_role(struct axion_parser *p, const json_t *value)
{
    const char *param = message_path(p, "role");

    if (value == NULL)
        return fail_missing(p, param);
    if (!json_is_string(value))
        return axion_parse_wrong_type(p, param, "a string", value);
    if (axion_parse_is(value, "tool") || axion_parse_is(value, "function"))
        return axion_parse_fail(p, AXION_ERR_UNSUPPORTED_FIELD, param,
                                "messages of the role %s are not supported",
                                json_string_value(value));
    return axion_parse_fail(p, AXION_ERR_INVALID_VALUE, param,
                            "%s must be system, developer, user or assistant",
                            param);
}


static int
parse_role(struct axion_parser *p, const json_t *message)
{
    static const char *const roles[] = {"system", "user", "assistant"};
    const json_t *value = axion_parse_get(message, "role");
    size_t i;

    if (!json_is_string(value))
        return fail_role(p, value);
    if (axion_parse_is(value, "developer")) /* OpenAI's later name */
        return add_section(p, AXION_SECTION_ROLE, roles[0], strlen(roles[0]));
    for (i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
        if (axion_parse_is(value, roles[i]))
            return add_string(p, AXION_SECTION_ROLE, value);
    }
    return fail_role(p, value);
}


static int
parse_name(struct axion_parser *p, const json_t *message)
{
    const json_t *value = axion_parse_get(message, "name");
    int error;

    if (value == NULL)
        return AXION_OK;
    error = check_name(p, message_path(p, "name"), value, NAME_BYTES_MAX);
    if (error != AXION_OK)
        return error;
    return add_string(p, AXION_SECTION_NAME, value);
}


/* Members that engines ignore; servers' templates write some of them out
 * (reasoning_content), so they count as text for remotes. */
static void
count_unknown(struct axion_parser *p, json_t *message)
{
    const char *key;
    json_t *value;

    json_object_foreach(message, key, value)
    {
        if (strcmp(key, "role") != 0 && strcmp(key, "name") != 0 &&
            strcmp(key, "content") != 0)
            p->parsed->text_bytes += json_string_length(value);
    }
}


/* What a message can carry besides text: refused unless it is empty. */
static int
check_message_extras(struct axion_parser *p, json_t *message)
{
    static const char *const names[] = {"tool_calls", "function_call", "audio",
                                        "refusal", "tool_call_id"};
    size_t i;

    if (json_object_size(message) <= 2 &&
        axion_parse_get(message, "content") != NULL)
        return AXION_OK; /* role and content: nearly every message */
    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const json_t *value = axion_parse_get(message, names[i]);

        if (value == NULL ||
            (json_is_array(value) && json_array_size(value) == 0) ||
            (json_is_string(value) && json_string_length(value) == 0))
            continue;
        message_path(p, names[i]);
        return axion_parse_fail(p, AXION_ERR_UNSUPPORTED_FIELD, p->path,
                                "%s is not supported", p->path);
    }
    count_unknown(p, message);
    return AXION_OK;
}


static int
fail_part_type(struct axion_parser *p, const json_t *value)
{
    static const char *const known[] = {
        "image_url", "input_image", "input_audio", "audio_url",
        "video_url", "file",        "input_file",  "refusal"};
    const char *param = part_path(p, ".type");
    size_t i;

    if (value == NULL)
        return fail_missing(p, param);
    if (!json_is_string(value))
        return axion_parse_wrong_type(p, param, "a string", value);
    for (i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (axion_parse_is(value, known[i]))
            return axion_parse_fail(p, AXION_ERR_UNSUPPORTED_FIELD, param,
                                    "content parts of the type %s are not "
                                    "supported",
                                    known[i]);
    }
    return axion_parse_fail(p, AXION_ERR_INVALID_VALUE, param,
                            "%s must be text", param);
}


static int
parse_part(struct axion_parser *p, const json_t *part)
{
    const json_t *type, *text;

    if (!json_is_object(part))
        return axion_parse_wrong_type(p, part_path(p, ""), "an object", part);
    if (++p->n_parts > AXION_PARTS_MAX)
        return axion_parse_fail(p, AXION_ERR_INVALID_VALUE, part_path(p, ""),
                                "there are more than %u content parts",
                                AXION_PARTS_MAX);
    type = axion_parse_get(part, "type");
    if (!json_is_string(type) || !axion_parse_is(type, "text"))
        return fail_part_type(p, type);
    text = axion_parse_get(part, "text");
    if (text == NULL)
        return fail_missing(p, part_path(p, ".text"));
    if (!json_is_string(text))
        return axion_parse_wrong_type(p, part_path(p, ".text"), "a string",
                                      text);
    return add_string(p, AXION_SECTION_TEXT, text);
}


static int
parse_content(struct axion_parser *p, const json_t *message)
{
    const json_t *value = axion_parse_get(message, "content");
    json_t *part;
    int error;

    if (json_is_string(value))
        return add_string(p, AXION_SECTION_TEXT, value);
    message_path(p, "content");
    if (value == NULL)
        return fail_missing(p, p->path);
    if (!json_is_array(value))
        return axion_parse_wrong_type(
            p, p->path, "a string or an array of content parts", value);
    if (json_array_size(value) == 0)
        return axion_parse_fail(p, AXION_ERR_INVALID_VALUE, p->path,
                                "%s has no parts", p->path);
    json_array_foreach(value, p->part_index, part)
    {
        error = parse_part(p, part);
        if (error != AXION_OK)
            return error;
    }
    return AXION_OK;
}


static int
parse_message(struct axion_parser *p, json_t *message)
{
    int error;

    if (!json_is_object(message)) {
        snprintf(p->path, sizeof(p->path), "messages[%zu]", p->message_index);
        return axion_parse_wrong_type(p, p->path, "an object", message);
    }
    error = parse_role(p, message);
    if (error == AXION_OK)
        error = parse_name(p, message);
    if (error == AXION_OK)
        error = check_message_extras(p, message);
    if (error == AXION_OK)
        error = parse_content(p, message);
    return error;
}


static int
parse_messages(struct axion_parser *p, const json_t *root)
{
    static const char param[] = "messages";
    const json_t *value = axion_parse_get(root, param);
    json_t *message;
    int error;

    if (value == NULL)
        return fail_missing(p, param);
    if (!json_is_array(value))
        return axion_parse_wrong_type(p, param, "an array", value);
    if (json_array_size(value) == 0)
        return axion_parse_fail(p, AXION_ERR_INVALID_VALUE, param,
                                "%s is empty", param);
    if (json_array_size(value) > AXION_MESSAGES_MAX)
        return axion_parse_fail(p, AXION_ERR_INVALID_VALUE, param,
                                "there are more than %u messages",
                                AXION_MESSAGES_MAX);
    json_array_foreach(value, p->message_index, message)
    {
        error = parse_message(p, message);
        if (error != AXION_OK)
            return error;
    }
    p->parsed->n_messages = (uint32_t)json_array_size(value);
    return AXION_OK;
}


/* ---- prompt ---- */

static int
parse_prompt_text(struct axion_parser *p, const char *param,
                  const json_t *value)
{
    if (json_string_length(value) == 0)
        return axion_parse_fail(p, AXION_ERR_EMPTY_PROMPT, param, "%s is empty",
                                param);
    return add_string(p, AXION_SECTION_PROMPT, value);
}


static int
fail_token(struct axion_parser *p, const char *param, size_t index,
           const json_t *value)
{
    char path[AXION_PARAM_BYTES];

    snprintf(path, sizeof(path), "%.80s[%zu]", param, index);
    if (!json_is_integer(value))
        return axion_parse_wrong_type(p, path, "a token id", value);
    return axion_parse_fail(p, AXION_ERR_INVALID_TOKEN, path,
                            "%s is not a token id", path);
}


static int
parse_prompt_tokens(struct axion_parser *p, const char *param,
                    const json_t *value)
{
    size_t n = json_array_size(value), i;
    uint32_t *ids;

    if (n == 0)
        return axion_parse_fail(p, AXION_ERR_EMPTY_PROMPT, param, "%s is empty",
                                param);
    ids = p->memory->alloc(p->memory->context, n * sizeof(*ids));
    if (ids == NULL)
        return axion_parse_fail(p, AXION_ERR_NO_MEMORY, NULL, NULL);
    for (i = 0; i < n; i++) {
        const json_t *entry = json_array_get(value, i);
        json_int_t id = json_integer_value(entry);

        if (!json_is_integer(entry) || id < 0 || id > INT32_MAX)
            return fail_token(p, param, i, entry);
        ids[i] = (uint32_t)id;
    }
    p->parsed->n_tokens = (uint32_t)n;
    return add_section(p, AXION_SECTION_TOKENS, ids, n * sizeof(*ids));
}


/* A remote answers each, of a bounded number. */
static int
refuse_prompts(struct axion_parser *p, const char *param, size_t n)
{
    struct axion_parsed *parsed = p->parsed;

    if (p->options->remote && n > AXION_ANSWERS_MAX / parsed->n_answers)
        return axion_parse_fail(p, AXION_ERR_INVALID_VALUE, param,
                                "more than %u answers in a request",
                                AXION_ANSWERS_MAX);
    parsed->n_answers *= (uint32_t)n;
    return axion_parse_fail(
        p, AXION_ERR_UNSUPPORTED_FIELD, param,
        "more than one prompt in a request is not supported");
}


/* "text", ["text"], [ids], [[ids]]; more than one prompt is refused. */
static int
parse_prompt(struct axion_parser *p, const json_t *root)
{
    static const char param[] = "prompt", first[] = "prompt[0]";
    static const char wanted[] = "a string or an array of token ids";
    const json_t *value = axion_parse_get(root, param), *entry;

    if (value == NULL)
        return fail_missing(p, param);
    if (json_is_string(value))
        return parse_prompt_text(p, param, value);
    if (!json_is_array(value))
        return axion_parse_wrong_type(p, param, wanted, value);
    entry = json_array_get(value, 0);
    if (entry == NULL || json_is_number(entry))
        return parse_prompt_tokens(p, param, value);
    if (!json_is_string(entry) && !json_is_array(entry))
        return axion_parse_wrong_type(p, first, wanted, entry);
    if (json_array_size(value) > 1)
        return refuse_prompts(p, param, json_array_size(value));
    if (json_is_string(entry))
        return parse_prompt_text(p, first, entry);
    return parse_prompt_tokens(p, first, entry);
}


/* ---- stop, logit_bias ---- */

static int
add_stop(struct axion_parser *p, const char *param, const json_t *value)
{
    size_t bytes;

    if (!json_is_string(value))
        return axion_parse_wrong_type(p, param, "a string", value);
    bytes = json_string_length(value);
    if (bytes == 0 || bytes > AXION_STOP_BYTES_MAX)
        return axion_parse_fail(p, AXION_ERR_INVALID_VALUE, param,
                                "%s must have from 1 to %u bytes", param,
                                AXION_STOP_BYTES_MAX);
    return add_string(p, AXION_SECTION_STOP, value);
}


static int
parse_stop(struct axion_parser *p, const json_t *root)
{
    const json_t *value = axion_parse_get(root, "stop");
    char param[AXION_PARAM_BYTES];
    json_t *entry;
    size_t i;
    int error;

    if (value == NULL)
        return AXION_OK;
    if (json_is_string(value))
        return add_stop(p, "stop", value);
    if (!json_is_array(value))
        return axion_parse_wrong_type(p, "stop",
                                      "a string or an array of strings", value);
    if (json_array_size(value) > AXION_STOP_MAX)
        return axion_parse_fail(p, AXION_ERR_INVALID_VALUE, "stop",
                                "stop has more than %u strings",
                                AXION_STOP_MAX);
    json_array_foreach(value, i, entry)
    {
        snprintf(param, sizeof(param), "stop[%zu]", i);
        error = add_stop(p, param, entry);
        if (error != AXION_OK)
            return error;
    }
    return AXION_OK;
}


/* A key of logit_bias: decimal digits below 2^31 without leading zeros, so
 * that two keys never name the same token. */
static int
parse_token_key(const char *key, uint32_t *token)
{
    uint64_t number = 0;
    size_t i;

    for (i = 0; key[i] != '\0'; i++) {
        if (key[i] < '0' || key[i] > '9' || i > 10)
            return 0;
        number = number * 10 + (uint64_t)(key[i] - '0');
    }
    *token = (uint32_t)number;
    return i > 0 && number <= INT32_MAX && (i == 1 || key[0] != '0');
}


static int
take_bias(struct axion_parser *p, const char *key, const json_t *value,
          struct axion_logit_bias *bias)
{
    char param[AXION_PARAM_BYTES];
    double number;

    snprintf(param, sizeof(param), "logit_bias.%s", key);
    if (!parse_token_key(key, &bias->token))
        return axion_parse_fail(p, AXION_ERR_INVALID_TOKEN, param,
                                "logit_bias has a key that is not a token "
                                "id");
    if (!json_is_number(value))
        return axion_parse_wrong_type(p, param, "a number", value);
    number = json_number_value(value);
    if (number < -LOGIT_BIAS_ABS_MAX || number > LOGIT_BIAS_ABS_MAX)
        return axion_parse_fail(p, AXION_ERR_INVALID_VALUE, param,
                                "%s must be from -100 to 100", param);
    bias->bias = (float)number;
    return AXION_OK;
}


static int
parse_logit_bias(struct axion_parser *p, const json_t *root)
{
    json_t *value = axion_parse_get(root, "logit_bias"), *entry;
    struct axion_logit_bias *biases;
    const char *key;
    size_t n = 0;
    int error;

    if (value == NULL)
        return AXION_OK;
    if (!json_is_object(value))
        return axion_parse_wrong_type(p, "logit_bias", "an object", value);
    if (json_object_size(value) > AXION_LOGIT_BIAS_MAX)
        return axion_parse_fail(p, AXION_ERR_INVALID_VALUE, "logit_bias",
                                "logit_bias has more than %u entries",
                                AXION_LOGIT_BIAS_MAX);
    if (json_object_size(value) == 0)
        return AXION_OK;
    biases = p->memory->alloc(p->memory->context,
                              json_object_size(value) * sizeof(*biases));
    if (biases == NULL)
        return axion_parse_fail(p, AXION_ERR_NO_MEMORY, NULL, NULL);
    json_object_foreach(value, key, entry)
    {
        error = take_bias(p, key, entry, &biases[n++]);
        if (error != AXION_OK)
            return error;
    }
    return add_section(p, AXION_SECTION_LOGIT_BIAS, biases,
                       n * sizeof(*biases));
}


int
axion_parse_sections(struct axion_parser *p, const json_t *root)
{
    int error = parse_model(p, root);

    if (error == AXION_OK)
        error = p->kind == AXION_REQUEST_CHAT ? parse_messages(p, root)
                                              : parse_prompt(p, root);
    if (error == AXION_OK)
        error = parse_stop(p, root);
    if (error == AXION_OK)
        error = parse_logit_bias(p, root);
    if (error == AXION_OK && p->options->max_context != 0)
        error = add_section(p, AXION_SECTION_CONTEXT, &p->options->max_context,
                            sizeof(p->options->max_context));
    if (error == AXION_OK && p->options->weight > 1)
        error = add_section(p, AXION_SECTION_WEIGHT, &p->options->weight,
                            sizeof(p->options->weight));
    return error;
}
