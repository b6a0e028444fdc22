/*
 * Shows which tokens are let in: those of an independent implementation for
 * every algorithm (jwt_vectors.json, see make_jwt_vectors.py), and none of
 * those that are forged, confused, stale, for others, or malformed.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "api/jwt.h"
#include "shm/errors.h"

#define NOW 1795282200u /* 2026-11-21 */

static const struct axion_text issuers[] = {{"https://other.example", 21},
                                            {"https://id.example", 18}};
static const struct axion_text audiences[] = {{"axion", 5}};
static const struct axion_jwt_rules rules = {
    .issuers = issuers,
    .n_issuers = 2,
    .audiences = audiences,
    .n_audiences = 1,
    .algorithms = AXION_JWT_ALGORITHMS_ALL,
    .leeway_s = 60,
    .tenant = {"sub", 3},
    .models = {"axion.models", 12},
    .priority = {"level", 5},
};
static json_t *vectors;
static struct axion_jwt_keys *keys;


static int
open_text(struct axion_jwt_keys **out, const char *text, size_t *skipped,
          char *why, size_t why_bytes)
{
    return axion_jwt_keys_open(out, text, strlen(text), skipped, why,
                               why_bytes);
}


static int
start(void **state)
{
    const char *source = getenv("AXION_SOURCE");
    char path[4096], why[256];
    size_t skipped;
    char *text;
    int error;

    (void) state;
    snprintf(path, sizeof(path), "%s/tests/api/jwt_vectors.json",
             source != NULL ? source : ".");
    vectors = json_load_file(path, 0, NULL);
    if (vectors == NULL)
        return -1;
    text = json_dumps(json_object_get(vectors, "jwks"), 0);
    error = open_text(&keys, text, &skipped, why, sizeof(why));
    free(text);
    assert_int_equal(error, AXION_OK);
    assert_int_equal(skipped,
                     json_integer_value(json_object_get(vectors, "skipped")));
    return 0;
}


static int
stop(void **state)
{
    (void) state;
    axion_jwt_keys_close(keys);
    json_decref(vectors);
    return 0;
}


/* Over a copy that ends with its memory. */
static int
verify(struct axion_jwt_claims *claims, const struct axion_jwt_rules *r,
       const char *token, uint64_t now_s, const char **why)
{
    size_t bytes = strlen(token);
    char *copy = malloc(bytes + 1);
    int error;

    memcpy(copy + 1, token, bytes);
    error = axion_jwt_verify(claims, keys, r, copy + 1, bytes, now_s, why);
    free(copy);
    return error;
}


static const char *
good(const char *name)
{
    const json_t *token = json_object_get(json_object_get(vectors, "good"),
                                          name);

    assert_non_null(token);
    return json_string_value(token);
}


static void
test_good_tokens(void **state)
{
    struct axion_jwt_claims claims;
    const char *name, *why;
    json_t *token;

    (void) state;
    json_object_foreach(json_object_get(vectors, "good"), name, token)
    {
        assert_true(axion_jwt_looks_like(json_string_value(token),
                                         json_string_length(token)));
        if (verify(&claims, &rules, json_string_value(token), NOW, &why) !=
            AXION_OK)
            fail_msg("%s: %s", name, why);
        assert_null(why);
        assert_string_equal(claims.tenant,
                            strcmp(name, "tenant other") == 0 ? "other"
                                                              : "acme");
        assert_true(claims.expires_s > NOW);
    }
}


/* Those for a thread; a held set is there until it is closed once more. */
static void
test_slow_algorithms(void **state)
{
    static const char *const slow[] = {"ES384", "ES512"};
    static const char *const quick[] = {"HS512", "RS256", "PS512", "ES256",
                                        "EdDSA", "no kid"};
    struct axion_jwt_rules r = rules;
    const char *token = good("ES384");
    size_t i;

    (void) state;
    for (i = 0; i < 2; i++)
        assert_true(axion_jwt_slow(keys, &rules, good(slow[i]),
                                   strlen(good(slow[i]))));
    for (i = 0; i < 6; i++)
        assert_false(axion_jwt_slow(keys, &rules, good(quick[i]),
                                    strlen(good(quick[i]))));
    /* What is refused before any signature is tried. */
    r.algorithms = axion_jwt_algorithm("ES256", 5);
    assert_false(axion_jwt_slow(keys, &r, token, strlen(token)));
    assert_false(axion_jwt_slow(keys, &rules, token, 20));
    assert_false(axion_jwt_slow(keys, &rules, "a.b.c", 5));
    axion_jwt_keys_hold(keys);
    axion_jwt_keys_close(keys);
    assert_true(axion_jwt_keys_count(keys) > 0);
}


static void
test_bad_tokens_say_why(void **state)
{
    struct axion_jwt_claims claims;
    const char *name, *why;
    json_t *token;

    (void) state;
    json_object_foreach(json_object_get(vectors, "bad"), name, token)
    {
        const char *text = json_string_value(json_array_get(token, 0));
        const char *wanted = json_string_value(json_array_get(token, 1));

        if (verify(&claims, &rules, text, NOW, &why) !=
                AXION_ERR_UNAUTHENTICATED ||
            strstr(why, wanted) == NULL)
            fail_msg("%s: %s", name, why != NULL ? why : "let in");
    }
}


static void
assert_models(const char *name, size_t n, const char *text)
{
    struct axion_jwt_claims claims;
    const char *why;

    assert_int_equal(verify(&claims, &rules, good(name), NOW, &why), AXION_OK);
    assert_true(claims.has_models);
    assert_int_equal(claims.n_models, n);
    if (n != 0)
        assert_int_equal(claims.model_end[n - 1], strlen(text));
    assert_memory_equal(claims.models, text, strlen(text));
}


static void
test_claims(void **state)
{
    struct axion_jwt_claims claims;
    const char *why;

    (void) state;
    assert_models("models", 2, "echogem*");
    assert_models("models as words", 2, "echogem*");
    assert_models("claim with dots", 1, "echo");
    assert_models("no models", 0, "");
    assert_int_equal(verify(&claims, &rules, good("models"), NOW, &why),
                     AXION_OK);
    assert_true(claims.has_priority);
    assert_int_equal(claims.priority, AXION_PRIORITY_HIGH);
    assert_int_equal(verify(&claims, &rules, good("ES256"), NOW, &why),
                     AXION_OK);
    assert_false(claims.has_priority);
    assert_false(claims.has_models);
}


static void
test_clocks(void **state)
{
    static const uint64_t from = 1577836800, until = 3976214400;
    struct axion_jwt_claims claims;
    const char *why;

    (void) state;
    assert_int_equal(verify(&claims, &rules, good("ES256"), from - 61, &why),
                     AXION_ERR_UNAUTHENTICATED);
    assert_int_equal(verify(&claims, &rules, good("ES256"), from - 60, &why),
                     AXION_OK);
    assert_int_equal(verify(&claims, &rules, good("ES256"), until + 59, &why),
                     AXION_OK);
    assert_int_equal(claims.expires_s, until + 60);
    assert_int_equal(verify(&claims, &rules, good("ES256"), until + 60, &why),
                     AXION_ERR_UNAUTHENTICATED);
}


static void
test_rules(void **state)
{
    struct axion_jwt_claims claims;
    struct axion_jwt_rules r = rules;
    const char *why;

    (void) state;
    r.algorithms = axion_jwt_algorithm("RS256", 5);
    assert_int_equal(verify(&claims, &r, good("RS256"), NOW, &why), AXION_OK);
    assert_int_equal(verify(&claims, &r, good("PS256"), NOW, &why),
                     AXION_ERR_UNAUTHENTICATED);
    assert_non_null(strstr(why, "algorithm"));
    r = rules;
    r.n_issuers = 0;
    r.n_audiences = 0;
    assert_int_equal(
        verify(&claims, &r,
               json_string_value(json_array_get(
                   json_object_get(json_object_get(vectors, "bad"),
                                   "another issuer"),
                   0)),
               NOW, &why),
        AXION_OK);
    assert_int_equal(axion_jwt_algorithm("none", 4), 0);
    assert_int_equal(axion_jwt_algorithm("HS2567", 6), 0);
}


/* Whatever one changes of a token, it is no longer good. */
static void
test_every_changed_byte_is_refused(void **state)
{
    struct axion_jwt_claims claims;
    size_t bytes = strlen(good("EdDSA"));
    char *token = strdup(good("EdDSA"));
    const char *why;
    size_t i;

    (void) state;
    for (i = 0; i < bytes; i++) {
        char was = token[i];

        token[i] = was == 'A' ? 'B' : 'A';
        assert_int_equal(verify(&claims, &rules, token, NOW, &why),
                         AXION_ERR_UNAUTHENTICATED);
        token[i] = was;
    }
    for (i = 0; i < bytes; i++) {
        token[bytes - 1 - i] = 0;
        assert_int_equal(verify(&claims, &rules, token, NOW, &why),
                         AXION_ERR_UNAUTHENTICATED);
    }
    free(token);
}


static void
test_too_long(void **state)
{
    struct axion_jwt_claims claims;
    char token[AXION_JWT_BYTES_MAX + 2];
    const char *why;

    (void) state;
    memset(token, 'A', sizeof(token));
    token[10] = token[20] = '.';
    token[sizeof(token) - 1] = 0;
    assert_int_equal(verify(&claims, &rules, token, NOW, &why),
                     AXION_ERR_UNAUTHENTICATED);
    assert_string_equal(why, "the token is malformed");
    assert_false(axion_jwt_looks_like("sk-a.b.c", 8));
    assert_false(axion_jwt_looks_like("eyJ", 3));
}


static void
test_sets_that_are_refused(void **state)
{
    static const struct {
        const char *text;
        const char *why;
    } cases[] = {
        {"", "no JSON"},
        {"[]", "no JWK set"},
        {"{}", "no JWK set"},
        {"{\"keys\":{}}", "no JWK set"},
        {"{\"keys\":[]}", "no key that could verify"},
        {"{\"keys\":[5,{},{\"kty\":\"RSA\"},{\"kty\":\"oct\",\"k\":\"?\"}]}",
         "no key that could verify"},
        {"{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AAAA\"}]}",
         "no key that could verify"},
        {"{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}",
         "no key that could verify"},
        {"{\"keys\":[{\"kty\":\"oct\",\"k\":\"secret\"},\n\"secret]}",
         "no JSON (line 2"},
    };
    char *private = json_dumps(json_object_get(vectors, "with a private part"),
                               0);
    struct axion_jwt_keys *none;
    size_t skipped, i;
    char why[256];

    (void) state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(open_text(&none, cases[i].text, &skipped, why,
                                   sizeof(why)),
                         AXION_ERR_BAD_OPTION);
        assert_null(none);
        if (strstr(why, cases[i].why) == NULL)
            fail_msg("%s: %s", cases[i].text, why);
        assert_null(strstr(why, "secret"));
    }
    assert_int_equal(open_text(&none, private, &skipped, why, sizeof(why)),
                     AXION_ERR_BAD_OPTION);
    assert_non_null(strstr(why, "private part"));
    free(private);
    axion_jwt_keys_close(NULL);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_tokens),
        cmocka_unit_test(test_slow_algorithms),
        cmocka_unit_test(test_bad_tokens_say_why),
        cmocka_unit_test(test_claims),
        cmocka_unit_test(test_clocks),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_every_changed_byte_is_refused),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_sets_that_are_refused),
    };

    if (axion_tenant_init() != AXION_OK)
        return 1;
    return cmocka_run_group_tests_name("api jwt", tests, start, stop);
}
