/*
 * Fields with one value: numbers, switches, and strings that are only
 * checked.  Each is a row of the table below; the row's function checks type
 * and range and stores into the payload's head or the result.  Rows are
 * taken in order, so the first fault reported does not depend on the order
 * of keys in the body.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "api/parser.h"
#include "shm/errors.h"

/* Doubles hold every integer up to here. */
#define EXACT_MAX 9007199254740992.0

struct scalar {
    const char *name;
    unsigned kinds;
    int (*take)(struct axion_parser *p, const struct scalar *s,
                const json_t *value);
    size_t offset; /* in the head, for take_float */
    double low;
    double high;
    int above_low; /* low itself is out of range */
};


int
axion_parse_integer(struct axion_parser *p, const char *param,
                    const json_t *value, int64_t low, int64_t high,
                    int64_t *result)
{
    if (json_is_integer(value)) {
        *result = json_integer_value(value);
    } else if (json_is_real(value) &&
               floor(json_real_value(value)) == json_real_value(value) &&
               fabs(json_real_value(value)) <= EXACT_MAX) {
        *result = (int64_t)json_real_value(value);
    } else {
        return axion_parse_wrong_type(p, param, "an integer", value);
    }
    if (*result < low || *result > high)
        return axion_parse_fail(p, AXION_ERR_INVALID_VALUE, param,
                                "%s must be from %lld to %lld", param,
                                (long long)low, (long long)high);
    return AXION_OK;
}


static int
take_float(struct axion_parser *p, const struct scalar *s, const json_t *value)
{
    double number;
    float narrow;

    if (!json_is_number(value))
        return axion_parse_wrong_type(p, s->name, "a number", value);
    number = json_number_value(value);
    narrow = (float)number;
    /* Compared as float as well: 1e-60 is above 0 only as a double. */
    if (number < s->low || number > s->high ||
        (s->above_low && narrow <= (float)s->low))
        return axion_parse_fail(p, AXION_ERR_INVALID_VALUE, s->name,
                                "%s must be %s %g and at most %g", s->name,
                                s->above_low ? "above" : "at least", s->low,
                                s->high);
    memcpy((char *)&p->head + s->offset, &narrow, sizeof(narrow));
    return AXION_OK;
}


static int
take_max_tokens(struct axion_parser *p, const struct scalar *s,
                const json_t *value)
{
    int64_t number;
    int error = axion_parse_integer(p, s->name, value, 1, INT32_MAX, &number);

    if (error == AXION_OK)
        p->head.max_tokens = (uint32_t)number;
    return error;
}


/* -1 is how vLLM's clients switch it off, 0 how llama.cpp's do. */
static int
take_top_k(struct axion_parser *p, const struct scalar *s, const json_t *value)
{
    int64_t number;
    int error = axion_parse_integer(p, s->name, value, -1, INT32_MAX, &number);

    if (error == AXION_OK)
        p->head.top_k = number < 0 ? 0 : (uint32_t)number;
    return error;
}


static int
take_seed(struct axion_parser *p, const struct scalar *s, const json_t *value)
{
    int64_t number;
    int error =
        axion_parse_integer(p, s->name, value, INT64_MIN, INT64_MAX, &number);

    if (error == AXION_OK) {
        p->head.seed = (uint64_t)number;
        p->head.flags |= AXION_REQUEST_SEED;
    }
    return error;
}


static int
take_stream(struct axion_parser *p, const struct scalar *s, const json_t *value)
{
    if (!json_is_boolean(value))
        return axion_parse_wrong_type(p, s->name, "true or false", value);
    if (json_is_true(value)) {
        p->head.flags |= AXION_REQUEST_STREAM;
        p->parsed->stream = 1;
    }
    return AXION_OK;
}


static int
take_ignore_eos(struct axion_parser *p, const struct scalar *s,
                const json_t *value)
{
    if (!json_is_boolean(value))
        return axion_parse_wrong_type(p, s->name, "true or false", value);
    if (json_is_true(value))
        p->head.flags |= AXION_REQUEST_IGNORE_EOS;
    return AXION_OK;
}


static int
take_stream_options(struct axion_parser *p, const struct scalar *s,
                    const json_t *value)
{
    static const char param[] = "stream_options.include_usage";
    const json_t *usage;

    if (!json_is_object(value))
        return axion_parse_wrong_type(p, s->name, "an object", value);
    usage = axion_parse_get(value, "include_usage");
    if (usage == NULL)
        return AXION_OK;
    if (!json_is_boolean(usage))
        return axion_parse_wrong_type(p, param, "true or false", usage);
    p->parsed->include_usage = json_is_true(usage);
    return AXION_OK;
}


/* One choice is what there is; more is a wish that a remote may meet.  With
 * best_of as many are made as the larger says. */
static int
take_choices(struct axion_parser *p, const struct scalar *s,
             const json_t *value)
{
    int64_t number;
    int error = axion_parse_integer(p, s->name, value, 1, INT64_MAX, &number);

    if (error != AXION_OK || number == 1)
        return error;
    error = axion_parse_fail(p, AXION_ERR_UNSUPPORTED_FIELD, s->name,
                             "%s above 1 is not supported", s->name);
    if (!p->options->remote || number > AXION_ANSWERS_MAX)
        return error;
    if (number > p->parsed->n_answers)
        p->parsed->n_answers = (uint32_t)number;
    p->parsed->remote_only = 1;
    return AXION_OK;
}


static int
take_user(struct axion_parser *p, const struct scalar *s, const json_t *value)
{
    size_t bytes;
    char *copy;

    if (!json_is_string(value))
        return axion_parse_wrong_type(p, s->name, "a string", value);
    bytes = json_string_length(value);
    if (bytes > AXION_USER_BYTES_MAX)
        return axion_parse_fail(p, AXION_ERR_INVALID_VALUE, s->name,
                                "%s is longer than %u bytes", s->name,
                                AXION_USER_BYTES_MAX);
    copy = axion_memory_copy(p->memory, json_string_value(value), bytes);
    if (copy == NULL)
        return axion_parse_fail(p, AXION_ERR_NO_MEMORY, NULL, NULL);
    p->parsed->user.data = copy;
    p->parsed->user.bytes = (uint32_t)bytes;
    return AXION_OK;
}


static int
take_metadata(struct axion_parser *p, const struct scalar *s,
              const json_t *value)
{
    char param[AXION_PARAM_BYTES];
    const char *key;
    json_t *entry;

    if (!json_is_object(value))
        return axion_parse_wrong_type(p, s->name, "an object", value);
    if (json_object_size(value) > AXION_METADATA_MAX)
        return axion_parse_fail(p, AXION_ERR_INVALID_VALUE, s->name,
                                "%s has more than %u entries", s->name,
                                AXION_METADATA_MAX);
    json_object_foreach((json_t *)value, key, entry)
    {
        snprintf(param, sizeof(param), "%s.%s", s->name, key);
        if (!json_is_string(entry))
            return axion_parse_fail(p, AXION_ERR_INVALID_TYPE, param,
                                    "the values of %s must be strings",
                                    s->name);
        if (json_string_length(entry) > AXION_USER_BYTES_MAX)
            return axion_parse_fail(p, AXION_ERR_INVALID_VALUE, param,
                                    "a value of %s is longer than %u bytes",
                                    s->name, AXION_USER_BYTES_MAX);
    }
    return AXION_OK;
}


#define HEAD(field) offsetof(struct axion_request_head, field)

static const struct scalar scalars[] = {
    {"stream", FOR_BOTH, take_stream, 0, 0, 0, 0},
    {"stream_options", FOR_BOTH, take_stream_options, 0, 0, 0, 0},
    {"n", FOR_BOTH, take_choices, 0, 0, 0, 0},
    {"best_of", FOR_BOTH, take_choices, 0, 0, 0, 0},
    {"max_tokens", FOR_BOTH, take_max_tokens, 0, 0, 0, 0},
    /* behind max_tokens: it wins */
    {"max_completion_tokens", FOR_BOTH, take_max_tokens, 0, 0, 0, 0},
    {"temperature", FOR_BOTH, take_float, HEAD(temperature), 0,
     AXION_TEMPERATURE_MAX, 0},
    {"top_p", FOR_BOTH, take_float, HEAD(top_p), 0, 1, 1},
    {"top_k", FOR_BOTH, take_top_k, 0, 0, 0, 0},
    {"min_p", FOR_BOTH, take_float, HEAD(min_p), 0, 1, 0},
    /* llama.cpp's name; behind it ours and vLLM's, which wins */
    {"repeat_penalty", FOR_BOTH, take_float, HEAD(repetition_penalty), 0,
     AXION_REPETITION_MAX, 1},
    {"repetition_penalty", FOR_BOTH, take_float, HEAD(repetition_penalty), 0,
     AXION_REPETITION_MAX, 1},
    {"presence_penalty", FOR_BOTH, take_float, HEAD(presence_penalty), -2, 2,
     0},
    {"frequency_penalty", FOR_BOTH, take_float, HEAD(frequency_penalty), -2, 2,
     0},
    {"seed", FOR_BOTH, take_seed, 0, 0, 0, 0},
    {"ignore_eos", FOR_BOTH, take_ignore_eos, 0, 0, 0, 0},
    {"user", FOR_BOTH, take_user, 0, 0, 0, 0},
    {"metadata", FOR_BOTH, take_metadata, 0, 0, 0, 0},
};


int
axion_parse_scalars(struct axion_parser *p, const json_t *root)
{
    size_t i;
    int error;

    p->head.kind = p->kind;
    p->head.temperature = 1;
    p->head.top_p = 1;
    p->head.repetition_penalty = 1;
    p->head.priority = 1;
    for (i = 0; i < sizeof(scalars) / sizeof(scalars[0]); i++) {
        const struct scalar *s = &scalars[i];
        const json_t *value = axion_parse_get(root, s->name);

        if (value == NULL || !(s->kinds & (1u << p->kind)))
            continue;
        error = s->take(p, s, value);
        if (error != AXION_OK)
            return error;
    }
    return AXION_OK;
}
