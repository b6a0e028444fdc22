/*
 * Shows that a file of tenants is read as nginx reads its own, and that
 * whatever is wrong with one is said with the line where it is.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "api/tenants_file.h"
#include "tests/api/harness.h"

#define HASH(x)                                                              \
    "sha256:" x "a7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


static int
read_text(struct test_memory *m, struct axion_tenants *set, const char *text,
          size_t bytes, struct axion_tenants_fault *fault)
{
    /* Memory that ends with the text, so that ASan sees a byte too far. */
    char *copy = malloc(bytes + 1);
    int error;

    memcpy(copy, text, bytes);
    error = axion_tenants_read(set, copy, bytes, &m->memory, fault);
    memset(copy, 'x', bytes); /* nothing may point into it */
    free(copy);
    return error;
}


static void
test_blocks(void **state)
{
    static const char text[] =
        "# tenants\n"
        "axion_tenant acme {   # the first\n"
        "    key " HASH("b") " name=ci expires=2030-01-01;\n"
        "    key " HASH("c") "\n"
        "        disabled;\n"
        "    priority high; models \"a b\" 'c;d' e\\\"f g\\*h;\n"
        "    alias ${x} y;\n"
        "    max_context 32k; max_output 1000;\n"
        "    cache group \"team\";\n"
        "}\n"
        "axion_tenant other{disabled;}";
    struct axion_tenants_fault fault;
    const struct axion_tenant *acme;
    struct axion_tenants set;
    struct test_memory m;

    (void) state;
    test_memory_init(&m);
    assert_int_equal(read_text(&m, &set, text, sizeof(text) - 1, &fault),
                     AXION_OK);
    assert_int_equal(set.n_tenants, 2);
    assert_int_equal(set.n_keys, 2);
    acme = axion_tenants_find_name(&set, "acme", 4);
    assert_non_null(acme);
    assert_int_equal(acme->line, 2);
    assert_int_equal(acme->n_keys, 2);
    assert_string_equal(acme->keys[0].name.data, "ci");
    assert_true(acme->keys[1].disabled);
    assert_int_equal(acme->priority, AXION_PRIORITY_HIGH);
    assert_int_equal(acme->n_models, 4);
    assert_string_equal(acme->models[0].data, "a b");
    assert_string_equal(acme->models[1].data, "c;d");
    assert_string_equal(acme->models[2].data, "e\"f");
    assert_string_equal(acme->models[3].data, "g\\*h");
    assert_string_equal(acme->aliases[0].name.data, "${x}");
    assert_int_equal(acme->max_context, 32000);
    assert_int_equal(acme->max_output, 1000);
    assert_int_equal(acme->cache_scope, AXION_CACHE_GROUP);
    assert_string_equal(acme->cache_group.data, "team");
    assert_true(axion_tenants_find_name(&set, "other", 5)->disabled);
    test_memory_free(&m);
}


static void
test_nothing_is_a_file_too(void **state)
{
    struct axion_tenants_fault fault;
    struct axion_tenants set;
    struct test_memory m;

    (void) state;
    test_memory_init(&m);
    assert_int_equal(read_text(&m, &set, "", 0, &fault), AXION_OK);
    assert_int_equal(set.n_tenants, 0);
    assert_int_equal(read_text(&m, &set, " \n# none", 8, &fault), AXION_OK);
    assert_int_equal(set.n_tenants, 0);
    test_memory_free(&m);
}


static void
test_faults_have_lines(void **state)
{
    static const struct {
        const char *text;
        uint32_t line;
        const char *why;
    } cases[] = {
        {"axion_tenant", 1, "unexpected end of file, expecting \";\""},
        {"\n\naxion_tenant a;", 3, "blocks only"},
        {"axion_tenant a b { }", 1, "blocks only"},
        {"axion_tenant { }", 1, "blocks only"},
        {"server { }", 1, "blocks only"},
        {"include x;", 1, "blocks only"},
        {"\naxion_tenant a/b { }", 2, "invalid name \"a/b\""},
        {"axion_tenant a {\n\n", 1, "the block is not closed"},
        {"axion_tenant a { key", 1, "unexpected end of file"},
        {"axion_tenant a {\n;\n}", 2, "unexpected \";\""},
        {"axion_tenant a {\n{ }\n}", 2, "unexpected \"{\""},
        {"axion_tenant a {\n\nkey {\n} }", 3, "unexpected \"{\""},
        {"axion_tenant a { key\n}", 2, "unexpected \"}\""},
        {"}\n", 1, "unexpected \"}\""},
        {"axion_tenant a {\n models \"x\n\n; }", 2, "a quote is not closed"},
        {"axion_tenant a {\n models \"x\"y; }", 2, "behind a quote"},
        {"axion_tenant a {\n colour blue; }", 2, "unknown parameter"},
        {"axion_tenant a {\n\n\n priority\n urgent; }", 4,
         "invalid priority \"urgent\""},
        {"axion_tenant a {\n priority low;\n priority low; }", 3,
         "\"priority\" is duplicate"},
        {"axion_tenant a {\n key secret; }", 2, "never as the key itself"},
        {"\naxion_tenant a {\n max_context 1;\n max_output 2;\n}", 2,
         "is more than max_context"},
        {"axion_tenant a { }\naxion_tenant b { }\naxion_tenant a { }", 3,
         "duplicate axion_tenant \"a\""},
        {"axion_tenant a { key " HASH("b") "; }\n\naxion_tenant b {\n key "
         HASH("b") "; }",
         3, "a key of axion_tenant \"b\" is one of \"a\" too"},
    };
    struct axion_tenants_fault fault;
    struct axion_tenants set;
    struct test_memory m;
    size_t i;

    (void) state;
    test_memory_init(&m);
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(read_text(&m, &set, cases[i].text,
                                   strlen(cases[i].text), &fault),
                         AXION_ERR_BAD_OPTION);
        if (fault.line != cases[i].line ||
            strstr(fault.why, cases[i].why) == NULL)
            fail_msg("%s: line %u: %s", cases[i].text, fault.line, fault.why);
        assert_null(strstr(fault.why, "secret"));
    }
    assert_int_equal(read_text(&m, &set, "axion\0", 6, &fault),
                     AXION_ERR_BAD_OPTION);
    assert_non_null(strstr(fault.why, "NUL"));
    test_memory_free(&m);
}


static void
test_bounds(void **state)
{
    struct axion_tenants_fault fault;
    struct axion_tenants set;
    struct test_memory m;
    size_t bytes = 200000;
    char *text = malloc(bytes);

    (void) state;
    test_memory_init(&m);
    memset(text, 'a', bytes);
    memcpy(text, "axion_tenant a { models ", 24);
    assert_int_equal(read_text(&m, &set, text, bytes, &fault),
                     AXION_ERR_BAD_OPTION);
    assert_non_null(strstr(fault.why, "more than 65536 bytes"));
    for (size_t i = 25; i < bytes; i += 2)
        text[i] = ' ';
    assert_int_equal(read_text(&m, &set, text, bytes, &fault),
                     AXION_ERR_BAD_OPTION);
    assert_non_null(strstr(fault.why, "more than 256 words"));
    free(text);
    test_memory_free(&m);
}


/* Every allocation that fails is told, and leaves nothing half taken. */
static void
test_no_memory(void **state)
{
    static const char text[] =
        "axion_tenant a { key " HASH("b") " name=x; models y; alias p q; }";
    struct axion_tenants_fault fault;
    struct axion_tenants set;
    struct test_memory m;
    int error = AXION_ERR_NO_MEMORY;

    (void) state;
    for (size_t n = 1; error != AXION_OK; n++) {
        test_memory_init(&m);
        m.fail_at = n;
        error = read_text(&m, &set, text, sizeof(text) - 1, &fault);
        if (error != AXION_OK) {
            assert_int_equal(error, AXION_ERR_NO_MEMORY);
            assert_non_null(strstr(fault.why, "out of memory"));
        }
        test_memory_free(&m);
    }
}


static void
test_apart_from_others(void **state)
{
    static const char text[] =
        "axion_tenant a { key " HASH("b") "; }\naxion_tenant b { }";
    struct axion_key key = {.disabled = 0};
    struct axion_tenant other = {.name = {"b", 1}};
    const struct axion_tenant *others[] = {&other};
    struct axion_tenants_fault fault;
    struct axion_tenants set;
    struct test_memory m;

    (void) state;
    test_memory_init(&m);
    assert_int_equal(read_text(&m, &set, text, sizeof(text) - 1, &fault),
                     AXION_OK);
    assert_int_equal(axion_tenants_apart(&set, others, 1, &fault),
                     AXION_ERR_BAD_OPTION);
    assert_int_equal(fault.line, 2);
    assert_string_equal(fault.why, "axion_tenant \"b\" is in nginx.conf too");
    other.name.data = "c";
    assert_int_equal(axion_tenants_apart(&set, others, 1, &fault), AXION_OK);
    key = axion_tenants_find_name(&set, "a", 1)->keys[0];
    other.keys = &key;
    other.n_keys = 1;
    assert_int_equal(axion_tenants_apart(&set, others, 1, &fault),
                     AXION_ERR_BAD_OPTION);
    assert_int_equal(fault.line, 1);
    assert_string_equal(fault.why, "a key of axion_tenant \"a\" is one of "
                                   "\"c\" in nginx.conf too");
    test_memory_free(&m);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_nothing_is_a_file_too),
        cmocka_unit_test(test_faults_have_lines),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_apart_from_others),
    };

    if (axion_tenant_init() != AXION_OK)
        return 1;
    return cmocka_run_group_tests_name("api tenants file", tests, NULL, NULL);
}
