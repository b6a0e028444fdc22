/* What an answer must be: every spelling of it becomes the same section, with
 * a schema's bytes as they came; two at once and what is not there are refused
 * by name. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "shm/errors.h"
#include "tests/api/harness.h"

#define FIVE    "\u00e4\u00e4\u00e4\u00e4\u00e4"
#define UMLAUTS FIVE FIVE FIVE FIVE FIVE

static const char head[] =
    "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]";


static int
parse(struct test_memory *memory, const char *fields,
      struct axion_parsed *parsed, struct axion_failure *failure)
{
    char body[2048];

    snprintf(body, sizeof(body), "%s,%s}", head, fields);
    test_memory_init(memory);
    return test_parse(memory, AXION_REQUEST_CHAT, body, 0, parsed, failure);
}


static void
expect(const char *fields, uint32_t kind, const char *source)
{
    struct test_memory memory;
    struct axion_parsed parsed;
    struct axion_failure failure;
    struct axion_request_view view;

    if (parse(&memory, fields, &parsed, &failure) != AXION_OK)
        fail_msg("%s: %s", fields, failure.message);
    test_decode(&parsed, &view);
    assert_int_equal(view.grammar_kind, kind);
    assert_int_equal(view.grammar.bytes, strlen(source));
    assert_memory_equal(view.grammar.data, source, strlen(source));
    test_memory_free(&memory);
}


static void
test_every_spelling(void **state)
{
    (void) state;
    expect("\"response_format\":{\"type\":\"text\"}", 0, "");
    expect("\"response_format\":{\"type\":\"json_object\"}",
           AXION_GRAMMAR_JSON_OBJECT, "");
    expect("\"response_format\":{\"type\":\"json_object\",\"schema\":{}}",
           AXION_GRAMMAR_JSON_SCHEMA, "{}");
    expect("\"response_format\" : {\"type\":\"json_schema\",\"json_schema\":"
           "{\"name\":\"n\",\"strict\":true,\"schema\": {\"const\" : 1.10, "
           "\"title\":\"\\u00e4}\"} }}",
           AXION_GRAMMAR_JSON_SCHEMA,
           "{\"const\" : 1.10, \"title\":\"\\u00e4}\"}");
    expect("\"guided_json\":{\"type\":\"null\"}", AXION_GRAMMAR_JSON_SCHEMA,
           "{\"type\":\"null\"}");
    expect("\"guided_json\":\"{\\\"a\\\":1}\"", AXION_GRAMMAR_JSON_SCHEMA,
           "{\"a\":1}");
    expect("\"json_schema\":{}", AXION_GRAMMAR_JSON_SCHEMA, "{}");
    expect("\"guided_regex\":\"a+\\\\d\"", AXION_GRAMMAR_REGEX, "a+\\d");
    expect("\"regex\":\"a\"", AXION_GRAMMAR_REGEX, "a");
    expect("\"guided_choice\":[\"a\", \"b\\n\"]", AXION_GRAMMAR_CHOICE,
           "[\"a\", \"b\\n\"]");
    expect("\"guided_grammar\":\"root ::= \\\"x\\\"\"", AXION_GRAMMAR_GBNF,
           "root ::= \"x\"");
    expect("\"grammar\":\"root ::= [0-9]\\n\"", AXION_GRAMMAR_GBNF,
           "root ::= [0-9]\n");
    expect("\"structured_outputs\":{\"json\":{\"a\":[]}}",
           AXION_GRAMMAR_JSON_SCHEMA, "{\"a\":[]}");
    expect("\"structured_outputs\":{\"regex\":\"x\",\"disable_fallback\":false}",
           AXION_GRAMMAR_REGEX, "x");
    expect("\"structured_outputs\":{\"choice\":[\"x\"],\"json\":null}",
           AXION_GRAMMAR_CHOICE, "[\"x\"]");
    expect("\"structured_outputs\":{\"grammar\":\"root ::= .\"}",
           AXION_GRAMMAR_GBNF, "root ::= .");
    expect("\"structured_outputs\":{\"json_object\":true}",
           AXION_GRAMMAR_JSON_OBJECT, "");
    expect("\"structured_outputs\":{\"json_object\":false}", 0, "");
    expect("\"guided_json\":null,\"grammar\":\"\",\"structured_outputs\":{}",
           0, "");
}


static void
refused(const char *fields, int error, const char *param)
{
    struct test_memory memory;
    struct axion_parsed parsed;
    struct axion_failure failure;
    int rc = parse(&memory, fields, &parsed, &failure);

    if (rc != error || strcmp(failure.param, param) != 0)
        fail_msg("%s: %d, %s: %s", fields, rc, failure.param, failure.message);
    test_memory_free(&memory);
}


static void
test_refusals(void **state)
{
    (void) state;
    refused("\"guided_regex\":\"a\",\"grammar\":\"root ::= .\"",
            AXION_ERR_INVALID_VALUE, "grammar");
    refused("\"response_format\":{\"type\":\"json_object\"},"
            "\"structured_outputs\":{\"regex\":\"a\"}",
            AXION_ERR_INVALID_VALUE, "structured_outputs.regex");
    refused("\"structured_outputs\":{\"regex\":\"a\",\"choice\":[\"a\"]}",
            AXION_ERR_INVALID_VALUE, "structured_outputs.choice");
    refused("\"structured_outputs\":{\"structural_tag\":\"{}\"}",
            AXION_ERR_UNSUPPORTED_FIELD, "structured_outputs.structural_tag");
    /* what does not fit is cut between characters */
    refused("\"structured_outputs\":{\"x" UMLAUTS UMLAUTS UMLAUTS "\":true}",
            AXION_ERR_UNSUPPORTED_FIELD,
            "structured_outputs.x" UMLAUTS UMLAUTS "\u00e4\u00e4\u00e4");
    refused("\"structured_outputs\":[]", AXION_ERR_INVALID_TYPE,
            "structured_outputs");
    refused("\"response_format\":{}", AXION_ERR_MISSING_FIELD,
            "response_format.type");
    refused("\"response_format\":{\"type\":\"structural_tag\"}",
            AXION_ERR_UNSUPPORTED_FIELD, "response_format.type");
    refused("\"response_format\":{\"type\":\"json_schema\"}",
            AXION_ERR_MISSING_FIELD, "response_format.json_schema");
    refused("\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{}}",
            AXION_ERR_MISSING_FIELD, "response_format.json_schema.schema");
    refused("\"response_format\":{\"type\":\"json_schema\",\"json_schema\":"
            "{\"schema\":\"{}\"}}",
            AXION_ERR_INVALID_TYPE, "response_format.json_schema.schema");
    refused("\"response_format\":{\"type\":\"json_schema\",\"json_schema\":"
            "{\"schema\":{},\"strict\":1}}",
            AXION_ERR_INVALID_TYPE, "response_format.json_schema.strict");
    refused("\"guided_choice\":[]", AXION_ERR_INVALID_VALUE, "guided_choice");
    refused("\"guided_choice\":[\"a\",1]", AXION_ERR_INVALID_TYPE,
            "guided_choice[1]");
    refused("\"guided_json\":[]", AXION_ERR_INVALID_TYPE, "guided_json");
    refused("\"guided_regex\":1", AXION_ERR_INVALID_TYPE, "guided_regex");
    refused("\"ebnf\":\"a\"", AXION_ERR_UNSUPPORTED_FIELD, "ebnf");
    refused("\"guided_whitespace_pattern\":\" \"", AXION_ERR_UNSUPPORTED_FIELD,
            "guided_whitespace_pattern");
}


static void
test_too_long(void **state)
{
    size_t bytes = AXION_GRAMMAR_BYTES_MAX + 1, n;
    char *body = malloc(bytes + 200);
    struct test_memory memory;
    struct axion_parsed parsed;
    struct axion_failure failure;

    (void) state;
    n = (size_t) sprintf(body, "%s,\"guided_regex\":\"", head);
    memset(body + n, 'a', bytes);
    strcpy(body + n + bytes, "\"}");
    test_memory_init(&memory);
    assert_int_equal(test_parse(&memory, AXION_REQUEST_CHAT, body, 0, &parsed,
                                &failure),
                     AXION_ERR_INVALID_VALUE);
    assert_string_equal(failure.param, "guided_regex");
    test_memory_free(&memory);
    free(body);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_spelling),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_too_long),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
