/* Schemas of a few hundred kilobytes whose compilation would take minutes if
 * what is looked at again and again were not counted: refused by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "engine/grammar/schema.h"

#define TEXT_MAX (256u << 10)

static char text[TEXT_MAX];
static size_t n_text;


static void
put(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    n_text += (size_t)vsnprintf(text + n_text, TEXT_MAX - n_text, format, args);
    va_end(args);
    assert_true(n_text < TEXT_MAX);
}


static void
expect_limit(const char *says)
{
    struct ax_gbnf_text out;
    struct ax_error err = {0};
    size_t n = n_text;
    n_text = 0; /* for the next one, however this ends */
    assert_int_equal(ax_schema_to_gbnf(&out, text, n, &err),
                     AXION_ERR_GRAMMAR_LIMIT);
    if (strstr(err.text, says) == NULL) {
        fail_msg("%s", err.text);
    }
}


/* The members of b are those of a from the last to the first, so that each is
 * found at the far end. */
static void
test_values_compared_again_and_again(void **state)
{
    (void)state;
    put("{\"$defs\":{\"a\":{\"enum\":[1,{");
    for (int i = 0; i < 5000; i++) {
        put("\"k%04d\":0,", i);
    }
    put("\"y\":0}]},\"b\":{\"enum\":[1,{\"z\":0");
    for (int i = 4999; i >= 0; i--) {
        put(",\"k%04d\":0", i);
    }
    put("}]}},\"properties\":{\"p\":{}");
    for (int i = 0; i < 20; i++) {
        put(",\"p%d\":{\"type\":[\"integer\",\"object\"],\"allOf\":["
            "{\"$ref\":\"#/$defs/a\"},{\"$ref\":\"#/$defs/b\"}]}",
            i);
    }
    put("}}");
    expect_limit("too much work");
}


static void
test_branches_that_require_much(void **state)
{
    (void)state;
    put("{\"$defs\":{\"b\":{\"type\":\"object\",\"properties\":{\"k\":true");
    for (int i = 0; i < 5000; i++) {
        put(",\"k%04d\":true", i);
    }
    put("},\"required\":[\"r\"");
    for (int i = 0; i < 5000; i++) {
        put(",\"r%04d\"", i);
    }
    put("]}},\"oneOf\":[");
    for (int i = 0; i < 5; i++) {
        put("%s{\"allOf\":[{\"$ref\":\"#/$defs/b\"},{\"allOf\":[{\"allOf\":[{"
            "\"properties\":{\"kind\":{\"const\":%d}},\"required\":[\"kind\"]"
            "}]}]}]}",
            i > 0 ? "," : "", i);
    }
    put("]}");
    expect_limit("too much work");
}


static void
test_many_keywords(void **state)
{
    (void)state;
    put("{\"type\":\"object\"");
    for (int i = 0; i < 5000; i++) {
        put(",\"x-%d\":0", i);
    }
    put(",\"anyOf\":[{\"minItems\":1,\"type\":\"object\"}");
    for (int i = 0; i < 20; i++) {
        put(",{\"minItems\":1,\"type\":\"object\"}");
    }
    put("]}");
    expect_limit("keywords");
}


/* Repeated no time it is read, and leaves nothing behind. */
static void
test_patterns_that_are_not_written(void **state)
{
    (void)state;
    put("{\"$defs\":{\"p\":{\"type\":\"string\",\"pattern\":\"^(");
    for (int i = 0; i < 60000; i++) {
        put("a");
    }
    put("){0}$\"}},\"properties\":{\"p\":{}");
    for (int i = 0; i < 400; i++) {
        put(",\"p%d\":{\"$ref\":\"#/$defs/p\",\"type\":\"string\"}", i);
    }
    put("}}");
    expect_limit("too much work");
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_compared_again_and_again),
        cmocka_unit_test(test_branches_that_require_much),
        cmocka_unit_test(test_many_keywords),
        cmocka_unit_test(test_patterns_that_are_not_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
