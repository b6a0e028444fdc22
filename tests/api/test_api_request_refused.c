/*
 * Shows that every faulty body gets the error that names its fault: broken
 * JSON, each field with each wrong type (a generated matrix), values out of
 * range, fields that are known and not supported.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/api/harness.h"


static void
refuse(enum axion_request_kind kind, const char *body, size_t bytes,
       int error, const char *param)
{
    struct test_memory memory;
    struct axion_parsed parsed;
    struct axion_failure failure;

    test_memory_init(&memory);
    if (test_parse(&memory, kind, body, bytes, &parsed, &failure) != error)
        fail_msg("%.200s: got %s (%s: %s)", body,
                 axion_error_info(failure.error)->name, failure.param,
                 failure.message);
    if (strcmp(failure.param, param) != 0)
        fail_msg("%.200s: param is %s, not %s", body, failure.param, param);
    if (error != AXION_ERR_PAYLOAD_TOO_LARGE)
        assert_true(strlen(failure.message) > 10);
    test_memory_free(&memory);
}


static void
refuse_chat(const char *fields, int error, const char *param)
{
    char body[4096];

    snprintf(body, sizeof(body),
             "{\"model\":\"m\",\"messages\":[{\"role\":\"user\","
             "\"content\":\"hi\"}],%s}",
             fields);
    refuse(AXION_REQUEST_CHAT, body, 0, error, param);
}


static void
refuse_messages(const char *messages, int error, const char *param)
{
    char body[4096];

    snprintf(body, sizeof(body), "{\"model\":\"m\",\"messages\":%s}",
             messages);
    refuse(AXION_REQUEST_CHAT, body, 0, error, param);
}


static void
refuse_completion(const char *fields, int error, const char *param)
{
    char body[4096];

    snprintf(body, sizeof(body), "{\"model\":\"m\",%s}", fields);
    refuse(AXION_REQUEST_COMPLETION, body, 0, error, param);
}


static void
test_broken_json(void **state)
{
    static const struct {
        const char *body;
        const char *param;
    } cases[] = {
        {"{", ""},
        {"{\"model\":\"m\"", ""},
        {"{\"model\":\"m\"}}", ""},
        {"{\"model\":\"m\"} x", ""},
        {"{\"model\":\"m\",}", ""},
        {"{model:\"m\"}", ""},
        {"{\"model\":'m'}", ""},
        {"\xef\xbb\xbf{\"model\":\"m\"}", ""},
        {"{\"model\":\"\\ud800\"}", ""},
        {"{\"model\":\"\\udc00\\ud800\"}", ""},
        {"{\"model\":\"\xc0\xaf\"}", ""},
        {"{\"model\":\"\xed\xa0\x80\"}", ""},
        {"{\"model\":\"\xff\"}", ""},
        {"{\"model\":\"a\nb\"}", ""},
        {"{\"temperature\":1e999}", ""},
        {"{\"temperature\":NaN}", ""},
        {"{\"temperature\":Infinity}", ""},
        {"{\"temperature\":01}", ""},
        {"{\"temperature\":.5}", ""},
        {"{\"temperature\":+1}", ""},
        {"{\"seed\":99999999999999999999}", ""},
        {"{\"a\\u0000b\":1}", ""},
        {"{\"max_tokens\":1,\"max_tokens\":2}", "max_tokens"},
        {"{\"x\":{\"a\":1,\"b\":2,\"a\":3}}", "a"},
        {"{\"long_enough_to_be_cut_by_jansson\":1,"
         "\"long_enough_to_be_cut_by_jansson\":2}",
         "long_enough_to_be_cut_by_jansson"},
        {"\"", ""},
        {"\\", ""},
        {"{\"a\":\"\\", ""},
        {"]", ""},
        {" ", ""},
    };
    size_t i;

    (void) state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        refuse(AXION_REQUEST_CHAT, cases[i].body, 0, AXION_ERR_INVALID_JSON,
               cases[i].param);
    refuse(AXION_REQUEST_CHAT, "{\0}", 3, AXION_ERR_INVALID_JSON, "");
}


static void
test_empty_body(void **state)
{
    struct axion_parse_options options = {.payload_bytes_max = 4096};
    struct test_memory memory;
    struct axion_parsed parsed;
    struct axion_failure failure;

    (void) state;
    test_memory_init(&memory);
    assert_int_equal(axion_request_parse(&parsed, AXION_REQUEST_CHAT, "", 0,
                                         &options, &memory.memory, &failure),
                     AXION_ERR_INVALID_JSON);
    test_memory_free(&memory);
}


static void
test_root_is_no_object(void **state)
{
    static const char *const bodies[] = {"[]", "null", "true", "5", "\"x\""};
    size_t i;

    (void) state;
    for (i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
        refuse(AXION_REQUEST_CHAT, bodies[i], 0, AXION_ERR_INVALID_TYPE, "");
}


static char *
repeated(const char *head, const char *unit, size_t n, const char *tail)
{
    size_t unit_bytes = strlen(unit), i, at = strlen(head);
    char *body = malloc(at + n * unit_bytes + strlen(tail) + 1);

    assert_non_null(body);
    strcpy(body, head);
    for (i = 0; i < n; i++, at += unit_bytes)
        memcpy(body + at, unit, unit_bytes);
    strcpy(body + at, tail);
    return body;
}


static void
refuse_repeated(const char *head, const char *unit, size_t n,
                const char *tail, int error, const char *param)
{
    char *body = repeated(head, unit, n, tail);

    refuse(AXION_REQUEST_CHAT, body, 0, error, param);
    free(body);
}


static void
test_limits_of_the_text(void **state)
{
    static const char head[] = "{\"model\":\"m\",\"messages\":";

    (void) state;
    refuse_repeated("", "[", 100000, "", AXION_ERR_INVALID_JSON, "");
    refuse_repeated("{\"x\":", "[", 65, "", AXION_ERR_INVALID_JSON, "");
    refuse_repeated("{\"x\":[0", ",[]", 70000, "]}", AXION_ERR_INVALID_JSON,
                    "");
    refuse_repeated("{\"x\":[0", ",0", 1100000, "]}", AXION_ERR_INVALID_JSON,
                    "");
    refuse_repeated("{\"x\":[0", ",\"]\"", 1000, "", AXION_ERR_INVALID_JSON,
                    "");
    refuse_repeated("{\"x\":[0", ",{\"k\":1}", 33000, "]}",
                    AXION_ERR_INVALID_JSON, "");
    refuse_repeated(head, "", 0, "[]}", AXION_ERR_INVALID_VALUE, "messages");
    refuse_repeated("{\"model\":\"m\",\"messages\":[0", ",0", 5000, "]}",
                    AXION_ERR_INVALID_VALUE, "messages");
    refuse_repeated("{\"model\":\"m\",\"messages\":[{\"role\":\"user\","
                    "\"content\":[{\"type\":\"text\",\"text\":\"\"}",
                    ",{\"type\":\"text\",\"text\":\"\"}", 4096, "]}]}",
                    AXION_ERR_INVALID_VALUE, "messages[0].content[4096]");
    refuse_repeated("{\"model\":\"", "m", 257, "\",\"messages\":[]}",
                    AXION_ERR_INVALID_VALUE, "model");
    refuse_repeated("{\"model\":\"m\",\"messages\":[{\"role\":\"user\","
                    "\"content\":\"",
                    "x", 5u << 20, "\"}]}", AXION_ERR_PAYLOAD_TOO_LARGE, "");
}


/* Were they counted after parsing, a body of keys would hold up the worker:
 * these are the same key, which the parser itself would name first. */
static void
test_keys_are_counted_before_parsing(void **state)
{
    struct test_memory memory;
    struct axion_parsed parsed;
    struct axion_failure failure;
    char *body = repeated("{\"k\":1", ",\"k\":1", 40000, "}");

    (void) state;
    test_memory_init(&memory);
    assert_int_equal(test_parse(&memory, AXION_REQUEST_CHAT, body, 0, &parsed,
                                &failure),
                     AXION_ERR_INVALID_JSON);
    assert_non_null(strstr(failure.message, "keys"));
    test_memory_free(&memory);
    free(body);

    body = repeated("{\"model\":\"m\",\"prompt\":\"", ":", 40000, "\"}");
    test_memory_init(&memory);
    assert_int_equal(test_parse(&memory, AXION_REQUEST_COMPLETION, body, 0,
                                &parsed, &failure),
                     AXION_OK);
    test_memory_free(&memory);
    free(body);
}


static void
test_strings_hide_brackets_from_the_limits(void **state)
{
    struct test_memory memory;
    struct axion_parsed parsed;
    struct axion_failure failure;
    char *body = repeated("{\"model\":\"m\",\"prompt\":\"\\\"", "[{", 5000,
                          "\\\\\"}");

    (void) state;
    test_memory_init(&memory);
    assert_int_equal(test_parse(&memory, AXION_REQUEST_COMPLETION, body, 0,
                                &parsed, &failure),
                     AXION_OK);
    test_memory_free(&memory);
    free(body);
}


/*
 * The matrix.  Each value has a letter; a field lists the letters that it
 * takes.  Everything else must be refused with a 400 that names the field.
 */
static const struct {
    char letter;
    const char *json;
} matrix_values[] = {
    {'n', "null"},  {'t', "true"},    {'f', "false"},    {'i', "1"},
    {'r', "1.5"},   {'s', "\"x\""},   {'a', "[]"},       {'A', "[\"x\"]"},
    {'I', "[1]"},   {'N', "[null]"},  {'O', "[{}]"},     {'L', "[[1]]"},
    {'o', "{}"},    {'p', "{\"1\":1}"}, {'q', "{\"k\":\"v\"}"},
    {'B', "[true]"}, {'P', "{\"k\":[]}"},
};

static const struct {
    const char *field;
    const char *takes;
} matrix_fields[] = {
    {"model", "s"},
    {"messages", ""},
    {"max_tokens", "ni"},
    {"max_completion_tokens", "ni"},
    {"temperature", "nir"},
    {"top_p", "ni"},
    {"top_k", "ni"},
    {"min_p", "ni"},
    {"repetition_penalty", "nir"},
    {"repeat_penalty", "nir"},
    {"presence_penalty", "nir"},
    {"frequency_penalty", "nir"},
    {"stop", "nsaA"},
    {"seed", "ni"},
    {"stream", "ntf"},
    {"stream_options", "nopqP"},
    {"n", "ni"},
    {"best_of", "ni"},
    {"ignore_eos", "ntf"},
    {"logit_bias", "nop"},
    {"user", "ns"},
    {"metadata", "noq"},
    {"logprobs", "nf"},
    {"top_logprobs", "nfao"},
    {"tools", "nfao"},
    {"functions", "nfao"},
    {"audio", "nfao"},
    {"modalities", "na"},
    {"response_format", "n"},
    {"grammar", "ns"},
    {"ebnf", "nfao"},
};


/* 1 when `param` is the field, or begins with it and goes into it. */
static int
names_field(const char *param, const char *field)
{
    size_t n = strlen(field);

    return strncmp(param, field, n) == 0 &&
           (param[n] == '\0' || param[n] == '.' || param[n] == '[');
}


static void
check_pair(const char *field, char letter, const char *json, int takes)
{
    struct test_memory memory;
    struct axion_parsed parsed;
    struct axion_failure failure;
    struct axion_request_view view;
    char body[1024];
    int error;

    snprintf(body, sizeof(body), "{%s%s\"%s\":%s}",
             strcmp(field, "model") ? "\"model\":\"m\"," : "",
             strcmp(field, "messages")
                 ? "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],"
                 : "",
             field, json);
    test_memory_init(&memory);
    error = test_parse(&memory, AXION_REQUEST_CHAT, body, 0, &parsed,
                       &failure);
    if (takes) {
        if (error != AXION_OK)
            fail_msg("%s with value %c: %s", field, letter, failure.message);
        test_decode(&parsed, &view);
    } else {
        if (error == AXION_OK || axion_failure_status(&failure) != 400)
            fail_msg("%s with value %c is not refused", field, letter);
        if (!names_field(failure.param, field))
            fail_msg("%s with value %c: param is '%s'", field, letter,
                     failure.param);
    }
    test_memory_free(&memory);
}


static void
test_each_field_with_each_type(void **state)
{
    size_t f, v;

    (void) state;
    for (f = 0; f < sizeof(matrix_fields) / sizeof(matrix_fields[0]); f++) {
        for (v = 0; v < sizeof(matrix_values) / sizeof(matrix_values[0]);
             v++) {
            char letter = matrix_values[v].letter;

            check_pair(matrix_fields[f].field, letter, matrix_values[v].json,
                       strchr(matrix_fields[f].takes, letter) != NULL);
        }
    }
}


static void
test_values_out_of_range(void **state)
{
    static const struct {
        const char *fields;
        const char *param;
    } cases[] = {
        {"\"max_tokens\":0", "max_tokens"},
        {"\"max_tokens\":-1", "max_tokens"},
        {"\"max_tokens\":2147483648", "max_tokens"},
        {"\"max_tokens\":-0", "max_tokens"},
        {"\"temperature\":-0.1", "temperature"},
        {"\"temperature\":1e9", "temperature"},
        {"\"top_p\":0", "top_p"},
        {"\"top_p\":1e-60", "top_p"},
        {"\"top_p\":2", "top_p"},
        {"\"top_k\":-2", "top_k"},
        {"\"top_k\":4294967296", "top_k"},
        {"\"min_p\":-1e-9", "min_p"},
        {"\"min_p\":1.0001", "min_p"},
        {"\"repetition_penalty\":0", "repetition_penalty"},
        {"\"repetition_penalty\":1e-60", "repetition_penalty"},
        {"\"repetition_penalty\":101", "repetition_penalty"},
        {"\"presence_penalty\":2.1", "presence_penalty"},
        {"\"frequency_penalty\":-2.1", "frequency_penalty"},
        {"\"n\":0", "n"},
        {"\"stop\":\"\"", "stop"},
        {"\"stop\":[\"a\",\"\"]", "stop[1]"},
        {"\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\"]", "stop"},
        {"\"logit_bias\":{\"1\":100.5}", "logit_bias.1"},
        {"\"model2\":1,\"metadata\":{\"1\":\"\",\"2\":\"\",\"3\":\"\","
         "\"4\":\"\",\"5\":\"\",\"6\":\"\",\"7\":\"\",\"8\":\"\",\"9\":\"\","
         "\"a\":\"\",\"b\":\"\",\"c\":\"\",\"d\":\"\",\"e\":\"\",\"f\":\"\","
         "\"g\":\"\",\"h\":\"\"}",
         "metadata"},
    };
    size_t i;

    (void) state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        refuse_chat(cases[i].fields, AXION_ERR_INVALID_VALUE, cases[i].param);
    refuse_repeated("{\"model\":\"m\",\"messages\":[{\"role\":\"user\","
                    "\"content\":\"\"}],\"stop\":\"",
                    "x", 257, "\"}", AXION_ERR_INVALID_VALUE, "stop");
    refuse_repeated("{\"model\":\"m\",\"messages\":[{\"role\":\"user\","
                    "\"content\":\"\"}],\"user\":\"",
                    "x", 513, "\"}", AXION_ERR_INVALID_VALUE, "user");
}


static void
test_logit_bias_keys(void **state)
{
    static const char *const keys[] = {"-1", "x", "", "1.5", "01",
                                       "2147483648", "99999999999999999999"};
    char fields[128], param[64];
    size_t i;

    (void) state;
    for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        snprintf(fields, sizeof(fields), "\"logit_bias\":{\"%s\":1}",
                 keys[i]);
        snprintf(param, sizeof(param), "logit_bias.%s", keys[i]);
        refuse_chat(fields, AXION_ERR_INVALID_TOKEN, param);
    }
}


static void
test_too_many_logit_biases(void **state)
{
    char *body = malloc(64u << 10);
    size_t n, i;

    (void) state;
    assert_non_null(body);
    n = (size_t) sprintf(body,
                         "{\"model\":\"m\",\"messages\":[{\"role\":\"user\","
                         "\"content\":\"\"}],\"logit_bias\":{\"9\":0");
    for (i = 0; i < 1024; i++)
        n += (size_t) sprintf(body + n, ",\"%zu\":1", i + 10);
    strcpy(body + n, "}}");
    refuse(AXION_REQUEST_CHAT, body, 0, AXION_ERR_INVALID_VALUE,
           "logit_bias");
    free(body);
}


static void
test_unsupported_fields(void **state)
{
    static const struct {
        const char *fields;
        const char *param;
    } cases[] = {
        {"\"tools\":[{\"type\":\"function\"}]", "tools"},
        {"\"tool_choice\":\"required\"", "tool_choice"},
        {"\"tool_choice\":{\"type\":\"function\"}", "tool_choice"},
        {"\"functions\":[{}]", "functions"},
        {"\"response_format\":{\"type\":\"text\\u0000\"}",
         "response_format.type"},
        {"\"logprobs\":true", "logprobs"},
        {"\"top_logprobs\":5", "top_logprobs"},
        {"\"n\":2", "n"},
        {"\"best_of\":2", "best_of"},
        {"\"n\":1000000", "n"},
        {"\"audio\":{\"voice\":\"x\"}", "audio"},
        {"\"modalities\":[\"text\",\"audio\"]", "modalities[1]"},
        {"\"reasoning_effort\":\"high\"", "reasoning_effort"},
        {"\"min_tokens\":5", "min_tokens"},
        {"\"ebnf\":\"a\"", "ebnf"},
        {"\"typical_p\":0.9", "typical_p"},
        {"\"add_generation_prompt\":false", "add_generation_prompt"},
        {"\"chat_template\":\"{{ x }}\"", "chat_template"},
        {"\"chat_template_kwargs\":{\"a\":1}", "chat_template_kwargs"},
    };
    size_t i;

    (void) state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        refuse_chat(cases[i].fields, AXION_ERR_UNSUPPORTED_FIELD,
                    cases[i].param);
}


static void
test_messages(void **state)
{
    static const struct {
        const char *messages;
        int error;
        const char *param;
    } cases[] = {
        {"[5]", AXION_ERR_INVALID_TYPE, "messages[0]"},
        {"[{}]", AXION_ERR_MISSING_FIELD, "messages[0].role"},
        {"[{\"role\":5}]", AXION_ERR_INVALID_TYPE, "messages[0].role"},
        {"[{\"role\":\"\"}]", AXION_ERR_INVALID_VALUE, "messages[0].role"},
        {"[{\"role\":\"user\\u0000\",\"content\":\"\"}]",
         AXION_ERR_INVALID_VALUE, "messages[0].role"},
        {"[{\"role\":\"tool\",\"content\":\"\"}]",
         AXION_ERR_UNSUPPORTED_FIELD, "messages[0].role"},
        {"[{\"role\":\"user\"}]", AXION_ERR_MISSING_FIELD,
         "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":null}]", AXION_ERR_MISSING_FIELD,
         "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":5}]", AXION_ERR_INVALID_TYPE,
         "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":{}}]", AXION_ERR_INVALID_TYPE,
         "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":[]}]", AXION_ERR_INVALID_VALUE,
         "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":\"\",\"name\":5}]",
         AXION_ERR_INVALID_TYPE, "messages[0].name"},
        {"[{\"role\":\"user\",\"content\":\"\",\"name\":\"a\\u0000\"}]",
         AXION_ERR_INVALID_VALUE, "messages[0].name"},
        {"[{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{}]}]",
         AXION_ERR_UNSUPPORTED_FIELD, "messages[0].tool_calls"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{}]}]",
         AXION_ERR_UNSUPPORTED_FIELD, "messages[0].tool_calls"},
        {"[{\"role\":\"user\",\"content\":\"\"},"
         "{\"role\":\"user\",\"content\":[\"x\"]}]",
         AXION_ERR_INVALID_TYPE, "messages[1].content[0]"},
        {"[{\"role\":\"user\",\"content\":[{\"text\":\"x\"}]}]",
         AXION_ERR_MISSING_FIELD, "messages[0].content[0].type"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]",
         AXION_ERR_MISSING_FIELD, "messages[0].content[0].text"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"text\","
         "\"text\":[]}]}]",
         AXION_ERR_INVALID_TYPE, "messages[0].content[0].text"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"text\","
         "\"text\":\"\"},{\"type\":\"image_url\"}]}]",
         AXION_ERR_UNSUPPORTED_FIELD, "messages[0].content[1].type"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"poem\"}]}]",
         AXION_ERR_INVALID_VALUE, "messages[0].content[0].type"},
    };
    size_t i;

    (void) state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        refuse_messages(cases[i].messages, cases[i].error, cases[i].param);
}


static void
test_prompts(void **state)
{
    static const struct {
        const char *fields;
        int error;
        const char *param;
    } cases[] = {
        {"\"x\":1", AXION_ERR_MISSING_FIELD, "prompt"},
        {"\"prompt\":null", AXION_ERR_MISSING_FIELD, "prompt"},
        {"\"prompt\":\"\"", AXION_ERR_EMPTY_PROMPT, "prompt"},
        {"\"prompt\":[]", AXION_ERR_EMPTY_PROMPT, "prompt"},
        {"\"prompt\":[[]]", AXION_ERR_EMPTY_PROMPT, "prompt[0]"},
        {"\"prompt\":[\"\"]", AXION_ERR_EMPTY_PROMPT, "prompt[0]"},
        {"\"prompt\":5", AXION_ERR_INVALID_TYPE, "prompt"},
        {"\"prompt\":true", AXION_ERR_INVALID_TYPE, "prompt"},
        {"\"prompt\":{}", AXION_ERR_INVALID_TYPE, "prompt"},
        {"\"prompt\":[null]", AXION_ERR_INVALID_TYPE, "prompt[0]"},
        {"\"prompt\":[{}]", AXION_ERR_INVALID_TYPE, "prompt[0]"},
        {"\"prompt\":[1,\"x\"]", AXION_ERR_INVALID_TYPE, "prompt[1]"},
        {"\"prompt\":[1,2.5]", AXION_ERR_INVALID_TYPE, "prompt[1]"},
        {"\"prompt\":[1,-1]", AXION_ERR_INVALID_TOKEN, "prompt[1]"},
        {"\"prompt\":[[1,4294967296]]", AXION_ERR_INVALID_TOKEN,
         "prompt[0][1]"},
        {"\"prompt\":[\"a\",\"b\"]", AXION_ERR_UNSUPPORTED_FIELD, "prompt"},
        {"\"prompt\":[[1],[2]]", AXION_ERR_UNSUPPORTED_FIELD, "prompt"},
        {"\"prompt\":\"x\",\"echo\":true", AXION_ERR_UNSUPPORTED_FIELD,
         "echo"},
        {"\"prompt\":\"x\",\"suffix\":\"y\"", AXION_ERR_UNSUPPORTED_FIELD,
         "suffix"},
        {"\"prompt\":\"x\",\"best_of\":2", AXION_ERR_UNSUPPORTED_FIELD,
         "best_of"},
        {"\"prompt\":\"x\",\"logprobs\":0", AXION_ERR_UNSUPPORTED_FIELD,
         "logprobs"},
        {"\"prompt\":\"x\",\"logprobs\":true", AXION_ERR_INVALID_TYPE,
         "logprobs"},
    };
    size_t i;

    (void) state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        refuse_completion(cases[i].fields, cases[i].error, cases[i].param);
}


static void
test_model(void **state)
{
    (void) state;
    refuse(AXION_REQUEST_CHAT, "{}", 0, AXION_ERR_MISSING_FIELD, "model");
    refuse(AXION_REQUEST_CHAT, "{\"model\":null}", 0,
           AXION_ERR_MISSING_FIELD, "model");
    refuse(AXION_REQUEST_CHAT, "{\"model\":\"\"}", 0,
           AXION_ERR_INVALID_VALUE, "model");
    refuse(AXION_REQUEST_CHAT, "{\"model\":\"a\\r\\nb\"}", 0,
           AXION_ERR_INVALID_VALUE, "model");
    refuse(AXION_REQUEST_CHAT, "{\"model\":\"a\\u0000b\"}", 0,
           AXION_ERR_INVALID_VALUE, "model");
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_broken_json),
        cmocka_unit_test(test_empty_body),
        cmocka_unit_test(test_root_is_no_object),
        cmocka_unit_test(test_limits_of_the_text),
        cmocka_unit_test(test_keys_are_counted_before_parsing),
        cmocka_unit_test(test_strings_hide_brackets_from_the_limits),
        cmocka_unit_test(test_each_field_with_each_type),
        cmocka_unit_test(test_values_out_of_range),
        cmocka_unit_test(test_logit_bias_keys),
        cmocka_unit_test(test_too_many_logit_biases),
        cmocka_unit_test(test_unsupported_fields),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_model),
    };

    return cmocka_run_group_tests_name("api request refused", tests, NULL,
                                       NULL);
}
