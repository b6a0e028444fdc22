/*
 * Fields whose meaning is known and that Axion cannot honour: answering as
 * if they had not been sent would be a wrong answer, so the request is
 * refused by the field's name.  SDKs and chat programs send many of them
 * with values that ask for nothing; those are let through.  Every row says
 * which values are harmless besides null, false, 0, "", [] and {}.
 *
 * Fields that are hints (store, service_tier, prediction, prompt_cache_key,
 * safety_identifier, parallel_tool_calls) are not here: ignoring them changes
 * no answer.
 */
#include <stdio.h>
#include <string.h>
#include "api/parser.h"
#include "shm/errors.h"

struct unsupported {
    const char *name;
    unsigned kinds;
    const char *harmless_text[2];
    int has_harmless_number;
    double harmless_number;
    int true_is_harmless;
};

static const struct unsupported unsupported[] = {
    /* OpenAI */
    {"tools", FOR_CHAT, {0}, 0, 0, 0},
    {"tool_choice", FOR_CHAT, {"none", "auto"}, 0, 0, 0},
    {"functions", FOR_CHAT, {0}, 0, 0, 0},
    {"function_call", FOR_CHAT, {"none", "auto"}, 0, 0, 0},
    {"audio", FOR_CHAT, {0}, 0, 0, 0},
    {"web_search_options", FOR_CHAT, {0}, 0, 0, 0},
    {"reasoning_effort", FOR_CHAT, {"none"}, 0, 0, 0},
    {"verbosity", FOR_CHAT, {"medium"}, 0, 0, 0},
    {"top_logprobs", FOR_CHAT, {0}, 0, 0, 0},
    {"echo", FOR_COMPLETION, {0}, 0, 0, 0},
    {"suffix", FOR_COMPLETION, {0}, 0, 0, 0},
    /* vLLM, SGLang, llama-server */
    {"min_tokens", FOR_BOTH, {0}, 0, 0, 0},
    {"stop_token_ids", FOR_BOTH, {0}, 0, 0, 0},
    {"stop_regex", FOR_BOTH, {0}, 0, 0, 0},
    {"bad_words", FOR_BOTH, {0}, 0, 0, 0},
    {"allowed_token_ids", FOR_BOTH, {0}, 0, 0, 0},
    {"prompt_logprobs", FOR_BOTH, {0}, 0, 0, 0},
    {"ebnf", FOR_BOTH, {0}, 0, 0, 0},
    {"structural_tag", FOR_BOTH, {0}, 0, 0, 0},
    {"guided_whitespace_pattern", FOR_BOTH, {0}, 0, 0, 0},
    {"use_beam_search", FOR_BOTH, {0}, 0, 0, 0},
    {"length_penalty", FOR_BOTH, {0}, 1, 1, 0},
    {"typical_p", FOR_BOTH, {0}, 1, 1, 0},
    {"mirostat", FOR_BOTH, {0}, 0, 0, 0},
    {"dry_multiplier", FOR_BOTH, {0}, 0, 0, 0},
    {"xtc_probability", FOR_BOTH, {0}, 0, 0, 0},
    {"top_n_sigma", FOR_BOTH, {0}, 1, -1, 0},
    {"dynatemp_range", FOR_BOTH, {0}, 0, 0, 0},
    {"add_generation_prompt", FOR_CHAT, {0}, 0, 0, 1},
    {"continue_final_message", FOR_CHAT, {0}, 0, 0, 0},
    {"chat_template", FOR_CHAT, {0}, 0, 0, 0},
    {"chat_template_kwargs", FOR_CHAT, {0}, 0, 0, 0},
    {"documents", FOR_CHAT, {0}, 0, 0, 0},
    {"prompt_embeds", FOR_COMPLETION, {0}, 0, 0, 0},
    {"lora", FOR_BOTH, {0}, 0, 0, 0},
};

#define N_UNSUPPORTED (sizeof(unsupported) / sizeof(unsupported[0]))


/* add_generation_prompt: false is the one where false asks for something. */
static int
value_is_harmless(const struct unsupported *u, const json_t *value)
{
    size_t i;

    switch (json_typeof(value)) {
    case JSON_TRUE:
        return u->true_is_harmless;
    case JSON_FALSE:
        return !u->true_is_harmless;
    case JSON_OBJECT:
        return json_object_size(value) == 0;
    case JSON_ARRAY:
        return json_array_size(value) == 0;
    case JSON_INTEGER:
    case JSON_REAL:
        if (u->has_harmless_number)
            return json_number_value(value) == u->harmless_number;
        return json_number_value(value) == 0;
    case JSON_STRING:
        for (i = 0; i < 2 && u->harmless_text[i] != NULL; i++) {
            if (axion_parse_is(value, u->harmless_text[i]))
                return 1;
        }
        return json_string_length(value) == 0;
    default:
        return 1; /* null */
    }
}


static int
refuse(struct axion_parser *p, const char *param)
{
    return axion_parse_fail(p, AXION_ERR_UNSUPPORTED_FIELD, param,
                            "%s is not supported with this value", param);
}


/* Chat has a switch, completions a number, where 0 already asks for one. */
static int
check_logprobs(struct axion_parser *p, const json_t *root)
{
    static const char param[] = "logprobs";
    const json_t *value = axion_parse_get(root, param);

    if (value == NULL || json_is_false(value))
        return AXION_OK;
    if (p->kind == AXION_REQUEST_CHAT ? !json_is_true(value)
                                      : !json_is_number(value))
        return axion_parse_wrong_type(
            p, param,
            p->kind == AXION_REQUEST_CHAT ? "true or false" : "an integer",
            value);
    return refuse(p, param);
}


static int
check_modalities(struct axion_parser *p, const json_t *root)
{
    static const char param[] = "modalities";
    const json_t *value = axion_parse_get(root, param);
    json_t *entry;
    size_t i;

    if (value == NULL)
        return AXION_OK;
    if (!json_is_array(value))
        return axion_parse_wrong_type(p, param, "an array", value);
    json_array_foreach(value, i, entry)
    {
        char path[AXION_PARAM_BYTES];

        snprintf(path, sizeof(path), "%s[%zu]", param, i);
        if (!json_is_string(entry))
            return axion_parse_wrong_type(p, path, "a string", entry);
        if (!axion_parse_is(entry, "text"))
            return refuse(p, path);
    }
    return AXION_OK;
}


static size_t
find_unsupported(const char *name)
{
    size_t i;

    for (i = 0; i < N_UNSUPPORTED; i++) {
        if (unsupported[i].name[0] == name[0] &&
            strcmp(unsupported[i].name, name) == 0)
            break;
    }
    return i;
}


/* Goes through the body's few keys, not through the table's many rows; of
 * several the first row is named, so that the answer does not depend on the
 * keys' order. */
static int
check_table(struct axion_parser *p, json_t *root)
{
    size_t first = N_UNSUPPORTED, i;
    const char *key;
    json_t *value;

    json_object_foreach(root, key, value)
    {
        i = find_unsupported(key);
        if (i < first && (unsupported[i].kinds & (1u << p->kind)) &&
            !value_is_harmless(&unsupported[i], value))
            first = i;
    }
    return first < N_UNSUPPORTED ? refuse(p, unsupported[first].name)
                                 : AXION_OK;
}


int
axion_parse_unsupported(struct axion_parser *p, json_t *root)
{
    int error = check_table(p, root);

    if (error == AXION_OK)
        error = check_logprobs(p, root);
    if (error == AXION_OK)
        error = check_modalities(p, root);
    return error;
}
