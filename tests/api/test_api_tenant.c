/*
 * Shows who is let in and what they may use: keys from headers, hashes, key
 * specs of the configuration, globs, and that identities are stable.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "api/tenant.h"
#include "tests/api/harness.h"
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


/* One line's words; at most eight. */
static int
parse_key(struct test_memory *m, struct axion_key *key, const char *line,
          char *why, size_t why_bytes)
{
    struct axion_text words[8];
    size_t n = 0;

    while (*line != 0) {
        size_t bytes = strcspn(line, " ");

        words[n].data = line;
        words[n++].bytes = (uint32_t) bytes;
        line += bytes + (line[bytes] == ' ');
    }
    return axion_key_parse(key, words, n, &m->memory, why, why_bytes);
}


static void
test_key_line(void **state)
{
    struct test_memory m;
    struct axion_key key;
    struct axion_key_hash hash;
    char why[160];

    (void) state;
    test_memory_init(&m);
    assert_int_equal(parse_key(&m, &key, "sha256:" ABC_HASH, why, sizeof(why)),
                     AXION_OK);
    axion_key_hash(&hash, "abc", 3);
    assert_memory_equal(&key.hash, &hash, sizeof(hash));
    assert_null(key.name.data);
    assert_int_equal(key.expires, 0);
    assert_null(axion_key_fault(&key, UINT64_MAX));

    assert_int_equal(parse_key(&m, &key,
                               "sha256:" ABC_HASH
                               " expires=2026-11-21T17:30:00Z name=ci-1",
                               why, sizeof(why)),
                     AXION_OK);
    assert_string_equal(key.name.data, "ci-1");
    assert_int_equal(key.expires, 1795282200); /* date -u -d ... +%s */
    assert_null(axion_key_fault(&key, key.expires - 1));
    assert_non_null(strstr(axion_key_fault(&key, key.expires), "expired"));

    assert_int_equal(parse_key(&m, &key,
                               "sha256:" ABC_HASH " disabled "
                               "expires=2096-02-29",
                               why, sizeof(why)),
                     AXION_OK);
    assert_int_equal(key.expires, 3981312000u);
    assert_non_null(strstr(axion_key_fault(&key, 0), "disabled"));
    test_memory_free(&m);
}


/* printf chosen | argon2 saltsaltsaltsalt -id -t 1 -k 8 -p 1 -e
 * (Debian's argon2 0~20171227-0.3+deb12u1). */
#define CHOSEN                                                               \
    "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$"                         \
    "QAbvsGmIVF86xUdKejj/8v2Ee1FfDsXmSX3LBxYCpOQ"


static void
test_chosen_key(void **state)
{
    struct axion_text sent = text("acme:chosen:key"), tenant, secret;
    struct test_memory m;
    struct axion_key key;
    char why[160];

    (void) state;
    test_memory_init(&m);
    assert_int_equal(parse_key(&m, &key, "argon2id:" CHOSEN " name=boss", why,
                               sizeof(why)),
                     AXION_OK);
    assert_int_equal(axion_key_verify(key.argon2id.data, "chosen", 6),
                     AXION_OK);
    assert_int_equal(axion_key_verify(key.argon2id.data, "chosem", 6),
                     AXION_ERR_UNAUTHENTICATED);
    assert_int_equal(axion_key_verify(key.argon2id.data, "", 0),
                     AXION_ERR_UNAUTHENTICATED);

    assert_true(axion_key_split(&sent, &tenant, &secret));
    assert_int_equal(tenant.bytes, 4);
    assert_memory_equal(secret.data, "chosen:key", secret.bytes);
    sent = text("no-colon");
    assert_false(axion_key_split(&sent, &tenant, &secret));
    sent = text(":secret");
    assert_false(axion_key_split(&sent, &tenant, &secret));
    sent = text("acme:");
    assert_false(axion_key_split(&sent, &tenant, &secret));
    sent = text("a/b:secret");
    assert_false(axion_key_split(&sent, &tenant, &secret));
    test_memory_free(&m);
}


static void
test_bad_key_lines_say_why(void **state)
{
    static const struct {
        const char *line;
        const char *why;
    } cases[] = {
        {"", "never as the key itself"},
        {"secret", "never as the key itself"},
        {"sha256", "never as the key itself"},
        {"md5:00", "never as the key itself"},
        {"sha256:", "there are 0"},
        {"sha256:00", "there are 2"},
        {"sha256:" ABC_HASH "0", "there are 65"},
        {"sha256:ga7816bf8f01cfea414140de5dae2223"
         "b00361a396177a9cb410ff61f20015ad",
         "not a hex digit"},
        {"sha256:" ABC_HASH " secret", "there may be"},
        {"sha256:" ABC_HASH " disabled disabled", "there may be"},
        {"sha256:" ABC_HASH " name=a name=b", "there may be"},
        {"sha256:" ABC_HASH " name=", "name= needs"},
        {"sha256:" ABC_HASH " name=a/b", "name= needs"},
        {"sha256:" ABC_HASH " expires=", "expires= needs"},
        {"sha256:" ABC_HASH " expires=soon", "expires= needs"},
        {"sha256:" ABC_HASH " expires=2026-13-01", "expires= needs"},
        {"sha256:" ABC_HASH " expires=2026-01-01T00:00:00", "expires= needs"},
        {"sha256:" ABC_HASH " expires=2026-01-01T24:00:00Z",
         "expires= needs"},
        {"sha256:" ABC_HASH " expires=2026-01-01Z", "expires= needs"},
        {"sha256:" ABC_HASH " expires=1969-01-01", "expires= needs"},
        {"argon2id:", "needs a hash"},
        {"argon2id:secret", "needs a hash"},
        {"argon2id:$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA",
         "needs a hash"},
        {"argon2id:$argon2id$v=19$m=8,t=1,p=2$c2FsdHNhbHQ$aGFzaA",
         "needs a hash"},
        {"argon2id:$argon2id$v=19$m=4000000,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$"
         "QAbvsGmIVF86xUdKejj/8v2Ee1FfDsXmSX3LBxYCpOQ",
         "costs more"},
    };
    struct test_memory m;
    struct axion_key key;
    char why[160];
    size_t i;

    (void) state;
    test_memory_init(&m);
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(parse_key(&m, &key, cases[i].line, why, sizeof(why)),
                         AXION_ERR_BAD_OPTION);
        if (strstr(why, cases[i].why) == NULL)
            fail_msg("%s: %s", cases[i].line, why);
        assert_null(strstr(why, "secret"));
    }
    test_memory_free(&m);
}


static void
test_find_tenant(void **state)
{
    struct axion_key keys[3] = {{.expires = 0}};
    struct axion_tenant acme = {
        .name = text("acme"), .keys = keys, .n_keys = 2};
    struct axion_tenant globex = {
        .name = text("globex"), .keys = keys + 2, .n_keys = 1};
    const struct axion_tenant *tenants[] = {&acme, &globex}, *at;
    struct axion_tenants set;
    struct axion_key_hash hash;
    struct test_memory m;
    char why[256];

    (void) state;
    test_memory_init(&m);
    axion_key_hash(&keys[0].hash, "key-one", 7);
    axion_key_hash(&keys[1].hash, "key-two", 7);
    axion_key_hash(&keys[2].hash, "key-three", 9);
    assert_int_equal(axion_tenants_build(&set, tenants, 2, &m.memory, &at, why,
                                         sizeof(why)),
                     AXION_OK);
    axion_key_hash(&hash, "key-two", 7);
    assert_ptr_equal(axion_tenants_find_key(&set, &hash).tenant, &acme);
    assert_ptr_equal(axion_tenants_find_key(&set, &hash).key, &keys[1]);
    axion_key_hash(&hash, "key-three", 9);
    assert_ptr_equal(axion_tenants_find_key(&set, &hash).tenant, &globex);
    axion_key_hash(&hash, "key-thre", 8);
    assert_null(axion_tenants_find_key(&set, &hash).tenant);
    assert_null(axion_tenants_find_key(NULL, &hash).tenant);
    assert_ptr_equal(axion_tenants_find_name(&set, "globex", 6), &globex);
    assert_null(axion_tenants_find_name(&set, "globe", 5));
    assert_null(axion_tenants_find_name(NULL, "acme", 4));
    assert_int_equal(axion_tenants_build(&set, tenants, 0, &m.memory, &at, why,
                                         sizeof(why)),
                     AXION_OK);
    assert_null(axion_tenants_find_key(&set, &hash).tenant);
    test_memory_free(&m);
}


/* More tenants than a bucket's table begins with: each is found, nobody else
 * is. */
static void
test_thousands_of_tenants(void **state)
{
    enum { N = 5000 };
    static struct axion_tenant tenants[N];
    static struct axion_key keys[N];
    static char names[N][16];
    static const struct axion_tenant *list[N];
    const struct axion_tenant *at;
    struct axion_tenants set;
    struct axion_key_hash hash;
    struct test_memory m;
    char why[256];
    size_t i;

    (void) state;
    test_memory_init(&m);
    for (i = 0; i < N; i++) {
        snprintf(names[i], sizeof(names[i]), "tenant-%zu", i);
        axion_key_hash(&keys[i].hash, names[i], strlen(names[i]));
        tenants[i].name = text(names[i]);
        tenants[i].keys = &keys[i];
        tenants[i].n_keys = 1;
        list[i] = &tenants[i];
    }
    assert_int_equal(axion_tenants_build(&set, list, N, &m.memory, &at, why,
                                         sizeof(why)),
                     AXION_OK);
    for (i = 0; i < N; i++) {
        assert_ptr_equal(axion_tenants_find_key(&set, &keys[i].hash).tenant,
                         &tenants[i]);
        assert_ptr_equal(axion_tenants_find_name(&set, names[i],
                                                 strlen(names[i])),
                         &tenants[i]);
    }
    axion_key_hash(&hash, "tenant-5000", 11);
    assert_null(axion_tenants_find_key(&set, &hash).tenant);
    test_memory_free(&m);
}


static void
test_sets_refuse_doubles(void **state)
{
    struct axion_key keys[2] = {{.expires = 0}};
    struct axion_tenant acme = {
        .name = text("acme"), .keys = keys, .n_keys = 1};
    struct axion_tenant other = {
        .name = text("other"), .keys = keys + 1, .n_keys = 1};
    const struct axion_tenant *tenants[] = {&acme, &other}, *at;
    struct axion_tenants set;
    struct test_memory m;
    char why[256];

    (void) state;
    test_memory_init(&m);
    axion_key_hash(&keys[0].hash, "one", 3);
    axion_key_hash(&keys[1].hash, "one", 3);
    assert_int_equal(axion_tenants_build(&set, tenants, 2, &m.memory, &at, why,
                                         sizeof(why)),
                     AXION_ERR_BAD_OPTION);
    assert_ptr_equal(at, &other);
    assert_string_equal(why,
                        "a key of axion_tenant \"other\" is one of \"acme\" "
                        "too");
    axion_key_hash(&keys[1].hash, "two", 3);
    other.name = acme.name;
    assert_int_equal(axion_tenants_build(&set, tenants, 2, &m.memory, &at, why,
                                         sizeof(why)),
                     AXION_ERR_BAD_OPTION);
    assert_ptr_equal(at, &other);
    assert_string_equal(why, "duplicate axion_tenant \"acme\"");
    test_memory_free(&m);
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
    struct axion_identity who = axion_identity_of(&limited, NULL);

    (void) state;
    assert_true(axion_identity_may_use(&who, "gemma-2", 7));
    assert_false(axion_identity_may_use(&who, "llama", 5));
    who.models = globs; /* of a token, narrower */
    who.n_models = 1;
    assert_true(axion_identity_may_use(&who, "smollm2", 7));
    assert_false(axion_identity_may_use(&who, "gemma-2", 7));
    who.tenant = &free_one;
    assert_false(axion_identity_may_use(&who, "llama", 5));
    who.n_models = 0;
    assert_true(axion_identity_may_use(&who, "llama", 5));
}


static void
test_aliases(void **state)
{
    struct axion_alias aliases[] = {
        {text("gpt-4o"), text("smollm2")},
        {text("gpt-*"), text("gemma")},
        {text("gemma"), text("llama")}, /* not followed from the second */
    };
    struct axion_tenant tenant = {.aliases = aliases, .n_aliases = 3};
    static const char *const cases[][2] = {
        {"gpt-4o", "smollm2"}, {"gpt-5", "gemma"}, {"gemma", "llama"},
        {"llama", "llama"}, {"x", "x"},
    };
    size_t i;

    (void) state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct axion_text asked = text(cases[i][0]);
        struct axion_text served = axion_tenant_model(&tenant, &asked);

        assert_int_equal(served.bytes, strlen(cases[i][1]));
        assert_memory_equal(served.data, cases[i][1], served.bytes);
    }
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
realm(uint8_t *salt, const uint8_t *secret, const char *name, uint32_t scope,
      const char *group, const struct axion_key *key)
{
    struct axion_tenant tenant = {
        .name = text(name),
        .cache_scope = scope,
        .cache_group = text(group),
    };

    axion_cache_salt(salt, secret, &tenant, key);
}


/* Each of them another realm, but for those said to be the same. */
static void
test_realms(void **state)
{
    static const uint8_t secret[32] = {1}, other[32] = {2};
    struct axion_key one = {.disabled = 0}, two = {.disabled = 0};
    uint8_t salts[9][16], again[16];
    size_t i, k;

    (void) state;
    axion_key_hash(&one.hash, "one", 3);
    axion_key_hash(&two.hash, "two", 3);
    realm(salts[0], secret, "acme", AXION_CACHE_TENANT, NULL, &one);
    realm(salts[1], secret, "acmf", AXION_CACHE_TENANT, NULL, &one);
    realm(salts[2], other, "acme", AXION_CACHE_TENANT, NULL, &one);
    realm(salts[3], secret, "acme", AXION_CACHE_KEY, NULL, &one);
    realm(salts[4], secret, "acme", AXION_CACHE_KEY, NULL, &two);
    realm(salts[5], secret, "acme", AXION_CACHE_GROUP, "g", &one);
    realm(salts[6], secret, "acme", AXION_CACHE_GROUP, "acme", &one);
    realm(salts[7], secret, "acme", AXION_CACHE_NONE, NULL, &one);
    realm(salts[8], secret, "acme", AXION_CACHE_NONE, NULL, &one);
    for (i = 0; i < 9; i++) {
        for (k = 0; k < i; k++)
            assert_memory_not_equal(salts[i], salts[k], 16);
    }
    realm(again, secret, "acme", AXION_CACHE_TENANT, NULL, &two);
    assert_memory_equal(again, salts[0], 16);
    realm(again, secret, "acme", AXION_CACHE_KEY, NULL, &one);
    assert_memory_equal(again, salts[3], 16);
    realm(again, secret, "other", AXION_CACHE_GROUP, "g", &two);
    assert_memory_equal(again, salts[5], 16);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key_from_headers),
        cmocka_unit_test(test_key_of_a_megabyte_is_refused),
        cmocka_unit_test(test_key_line),
        cmocka_unit_test(test_chosen_key),
        cmocka_unit_test(test_bad_key_lines_say_why),
        cmocka_unit_test(test_find_tenant),
        cmocka_unit_test(test_thousands_of_tenants),
        cmocka_unit_test(test_sets_refuse_doubles),
        cmocka_unit_test(test_aliases),
        cmocka_unit_test(test_globs),
        cmocka_unit_test(test_may_use),
        cmocka_unit_test(test_names_and_priorities),
        cmocka_unit_test(test_realms),
    };

    if (axion_tenant_init() != AXION_OK)
        return 1;
    return cmocka_run_group_tests_name("api tenant", tests, NULL, NULL);
}
