/*
 * Any bytes as a token, and as a JWK set that a token is verified with: the
 * first line is the set, what is behind it the token; without a line feed all
 * is a token for a set of ours.  What must hold: nothing is let in that was
 * not signed, a refusal says why, and claims keep their bounds.
 */
#include <stdlib.h>
#include <string.h>
#include "api/jwt.h"
#include "shm/errors.h"

#define TEXT_MAX 16384

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static const struct axion_jwt_rules rules = {
    .algorithms = AXION_JWT_ALGORITHMS_ALL,
    .tenant = {"sub", 3},
    .models = {"a.b.c", 5},
    .priority = {"level", 5},
};

/* An Ed25519 key (RFC 8037, appendix A) and a secret of 64 bytes. */
static const char own_set[] =
    "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\","
    "\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"},"
    "{\"kty\":\"oct\",\"kid\":\"o\",\"k\":\"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"
    "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2Vj\"}]}";


static void
expect(int condition)
{
    if (!condition)
        abort();
}


static void
fuzz_token(const struct axion_jwt_keys *keys, const char *token, size_t bytes)
{
    struct axion_jwt_claims claims;
    const char *why;

    (void) axion_jwt_looks_like(token, bytes);
    if (axion_jwt_verify(&claims, keys, &rules, token, bytes, 1795282200,
                         &why) != AXION_OK) {
        expect(why != NULL);
        return;
    }
    expect(axion_tenant_name_valid(claims.tenant, strlen(claims.tenant)));
    expect(claims.n_models <= AXION_JWT_MODELS_MAX);
    for (uint32_t i = 0; i < claims.n_models; i++)
        expect(claims.model_end[i] <= sizeof(claims.models) &&
               claims.model_end[i] > (i == 0 ? 0 : claims.model_end[i - 1]));
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    const uint8_t *cut = bytes > 0 ? memchr(data, '\n', bytes) : NULL;
    size_t set_bytes = cut != NULL ? (size_t) (cut - data) : 0;
    size_t token_bytes = cut != NULL ? bytes - set_bytes - 1 : bytes;
    const char *set = cut != NULL ? (const char *) data : own_set;
    struct axion_jwt_keys *keys;
    size_t skipped;
    char why[256] = "";

    if (bytes > TEXT_MAX)
        return 0;
    expect(axion_tenant_init() == AXION_OK);
    if (axion_jwt_keys_open(&keys, set,
                            cut != NULL ? set_bytes : sizeof(own_set) - 1,
                            &skipped, why, sizeof(why)) != AXION_OK) {
        expect(why[0] != 0 && cut != NULL);
        return 0;
    }
    char *token = malloc(token_bytes + 1);
    expect(token != NULL);
    memcpy(token + 1, data + bytes - token_bytes, token_bytes);
    fuzz_token(keys, token + 1, token_bytes);
    free(token);
    axion_jwt_keys_close(keys);
    return 0;
}
