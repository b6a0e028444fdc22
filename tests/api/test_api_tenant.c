/*
 * Shows who is let in and what they may use: keys from headers, hashes, key
 * specs of the configuration, globs, and that identities are stable.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "api/tenant.h"
#include "shm/errors.h"


static struct axion_text
text(const char *data)
{
    struct axion_text t = {data, data ? (uint32_t) strlen(data) : 0};

    return t;
}


static void
test_key_from_headers(void **state)
{
    static const struct {
        const char *authorization;
        const char *x_api_key;
        const char *key; /* NULL: refused */
    } cases[] = {
        {"Bearer abc", NULL, "abc"},
        {"bearer   abc  ", NULL, "abc"},
        {"  BEARER\tabc", NULL, "abc"},
        {NULL, "abc", "abc"},
        {NULL, " abc ", "abc"},
        {"Bearer abc", "xyz", "abc"},
        {"Basic abc", "xyz", NULL},
        {"", "xyz", NULL},
        {"Bearer", "xyz", NULL},
        {"Bearer ", NULL, NULL},
        {"Bearerabc", NULL, NULL},
        {"Bearer a b", NULL, NULL},
        {"Bearer \xc3\xa4", NULL, NULL},
        {"Bearer a\x01", NULL, NULL},
        {NULL, "", NULL},
        {NULL, NULL, NULL},
    };
    size_t i;

    (void) state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct axion_text authorization = text(cases[i].authorization);
        struct axion_text x_api_key = text(cases[i].x_api_key);
        struct axion_text key = {NULL, 0};
        int error = axion_key_from_headers(&authorization, &x_api_key, &key);

        if (cases[i].key == NULL) {
            assert_int_equal(error, AXION_ERR_UNAUTHENTICATED);
            continue;
        }
        assert_int_equal(error, AXION_OK);
        assert_int_equal(key.bytes, strlen(cases[i].key));
        assert_memory_equal(key.data, cases[i].key, key.bytes);
    }
}


static void
test_key_of_a_megabyte_is_refused(void **state)
{
    static char header[1 << 20];
    struct axion_text authorization = {header, sizeof(header)}, key;
    struct axion_text none = {NULL, 0};

    (void) state;
    memset(header, 'a', sizeof(header));
    memcpy(header, "Bearer ", 7);
    assert_int_equal(axion_key_from_headers(&authorization, &none, &key),
                     AXION_ERR_UNAUTHENTICATED);
    authorization.bytes = 7 + AXION_API_KEY_BYTES_MAX;
    assert_int_equal(axion_key_from_headers(&authorization, &none, &key),
                     AXION_OK);
}


/* FIPS 180-2's example: SHA-256 of "abc". */
#define ABC_HASH                                                             \
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


static void
test_key_spec(void **state)
{
    struct axion_key_hash spec, hash;
    char why[128];

    (void) state;
    assert_int_equal(axion_key_spec_parse(&spec, "sha256:" ABC_HASH, 71, why,
                                          sizeof(why)),
                     AXION_OK);
    axion_key_hash(&hash, "abc", 3);
    assert_memory_equal(&spec, &hash, sizeof(spec));
}


static void
test_bad_key_specs_say_why(void **state)
{
    static const struct {
        const char *spec;
        const char *why;
    } cases[] = {
        {"secret", "never as the key itself"},
        {"sha256", "never as the key itself"},
        {"md5:00", "never as the key itself"},
        {"sha256:", "there are 0"},
        {"sha256:00", "there are 2"},
        {"sha256:" ABC_HASH "0", "there are 65"},
        {"sha256:ga7816bf8f01cfea414140de5dae2223"
         "b00361a396177a9cb410ff61f20015ad",
         "not a hex digit"},
        {"sha256:ba7816bf8f01cfea414140de5dae2223"
         "b00361a396177a9cb410ff61f20015a ",
         "not a hex digit"},
    };
    struct axion_key_hash hash;
    char why[160];
    size_t i;

    (void) state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(axion_key_spec_parse(&hash, cases[i].spec,
                                              strlen(cases[i].spec), why,
                                              sizeof(why)),
                         AXION_ERR_BAD_OPTION);
        assert_non_null(strstr(why, cases[i].why));
    }
}


static void
test_find_tenant(void **state)
{
    struct axion_key_hash keys[3], hash;
    struct axion_tenant acme = {.keys = keys, .n_keys = 2};
    struct axion_tenant globex = {.keys = keys + 2, .n_keys = 1};
    const struct axion_tenant *tenants[] = {&acme, &globex};

    (void) state;
    axion_key_hash(&keys[0], "key-one", 7);
    axion_key_hash(&keys[1], "key-two", 7);
    axion_key_hash(&keys[2], "key-three", 9);
    axion_key_hash(&hash, "key-two", 7);
    assert_ptr_equal(axion_tenant_find(tenants, 2, &hash), &acme);
    axion_key_hash(&hash, "key-three", 9);
    assert_ptr_equal(axion_tenant_find(tenants, 2, &hash), &globex);
    axion_key_hash(&hash, "key-thre", 8);
    assert_null(axion_tenant_find(tenants, 2, &hash));
    axion_key_hash(&hash, "", 0);
    assert_null(axion_tenant_find(tenants, 2, &hash));
    assert_null(axion_tenant_find(tenants, 0, &hash));
}


static void
test_globs(void **state)
{
    static const struct {
        const char *pattern;
        const char *text;
        int match;
    } cases[] = {
        {"smollm2", "smollm2", 1},    {"smollm2", "smollm", 0},
        {"smollm2", "smollm22", 0},   {"gemma*", "gemma", 1},
        {"gemma*", "gemma-3-1b", 1},  {"*-1b", "gemma-3-1b", 1},
        {"g*m*1b", "gemma-3-1b", 1},  {"g*m*2b", "gemma-3-1b", 0},
        {"*", "", 1},                 {"", "", 1},
        {"", "x", 0},                 {"?", "", 0},
        {"?", "\xc3\xa4", 1},         {"a?c", "a\xe2\x82\xac" "c", 1},
        {"\\*", "*", 1},              {"\\*", "x", 0},
        {"a\\", "a\\", 1},            {"Gemma", "gemma", 0},
        {"**a**b", "xaxxb", 1},       {"*aab", "aaaaaab", 1},
    };
    size_t i;

    (void) state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct axion_text pattern = text(cases[i].pattern);

        if (axion_glob_match(&pattern, cases[i].text,
                             strlen(cases[i].text)) != cases[i].match)
            fail_msg("%s against %s", cases[i].pattern, cases[i].text);
    }
}


static void
test_may_use(void **state)
{
    struct axion_text globs[] = {text("smollm2"), text("gemma*")};
    struct axion_tenant limited = {.models = globs, .n_models = 2};
    struct axion_tenant free_one = {.n_models = 0};

    (void) state;
    assert_true(axion_tenant_may_use(&limited, "gemma-2", 7));
    assert_false(axion_tenant_may_use(&limited, "llama", 5));
    assert_true(axion_tenant_may_use(&free_one, "llama", 5));
}


static void
test_names_and_priorities(void **state)
{
    uint32_t priority;
    char longest[65];

    (void) state;
    memset(longest, 'a', sizeof(longest));
    assert_true(axion_tenant_name_valid("acme-2.eu_x", 11));
    assert_true(axion_tenant_name_valid(longest, 64));
    assert_false(axion_tenant_name_valid(longest, 65));
    assert_false(axion_tenant_name_valid("", 0));
    assert_false(axion_tenant_name_valid("a b", 3));
    assert_false(axion_tenant_name_valid("\xc3\xa4", 2));
    assert_int_equal(axion_priority_parse(&priority, "high", 4), AXION_OK);
    assert_int_equal(priority, AXION_PRIORITY_HIGH);
    assert_int_equal(axion_priority_parse(&priority, "low", 3), AXION_OK);
    assert_int_equal(priority, AXION_PRIORITY_LOW);
    assert_int_equal(axion_priority_parse(&priority, "higher", 6),
                     AXION_ERR_BAD_OPTION);
}


static void
test_realms_differ_by_name_and_secret(void **state)
{
    uint8_t secret[32] = {1}, other[32] = {2};
    uint8_t a[16], b[16], c[16], again[16];

    (void) state;
    axion_cache_salt(a, secret, "acme", 4);
    axion_cache_salt(again, secret, "acme", 4);
    axion_cache_salt(b, secret, "acmf", 4);
    axion_cache_salt(c, other, "acme", 4);
    assert_memory_equal(a, again, 16);
    assert_memory_not_equal(a, b, 16);
    assert_memory_not_equal(a, c, 16);
    assert_true(axion_tenant_number("acme", 4) ==
                axion_tenant_number("acme", 4));
    assert_true(axion_tenant_number("acme", 4) !=
                axion_tenant_number("acmf", 4));
    assert_true(axion_tenant_number("", 0) != 0);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key_from_headers),
        cmocka_unit_test(test_key_of_a_megabyte_is_refused),
        cmocka_unit_test(test_key_spec),
        cmocka_unit_test(test_bad_key_specs_say_why),
        cmocka_unit_test(test_find_tenant),
        cmocka_unit_test(test_globs),
        cmocka_unit_test(test_may_use),
        cmocka_unit_test(test_names_and_priorities),
        cmocka_unit_test(test_realms_differ_by_name_and_secret),
    };

    if (axion_tenant_init() != AXION_OK)
        return 1;
    return cmocka_run_group_tests_name("api tenant", tests, NULL, NULL);
}
