/*
 * A JWK set → the keys that may verify, each with the algorithms that it may
 * be used with.  Everything that a token could choose later is decided here
 * once: a key's type, its size, its curve, its own `alg`.
 */
#include "api/jwt_keys.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "api/jwt.h"
#include "shm/errors.h"

#define RSA_BYTES_MIN      256u /* 2048 bits */
#define RSA_BYTES_MAX      1024u
#define RSA_EXPONENT_BYTES 4u
#define SECRET_BYTES_MAX   1024u
#define PARAMETER_MAX      2048u /* base64url of the largest */

const struct jwt_algorithm jwt_algorithms[] = {
    {"HS256", JWT_OCT, NULL, 32},     {"HS384", JWT_OCT, NULL, 48},
    {"HS512", JWT_OCT, NULL, 64},     {"RS256", JWT_RSA, NULL, 0},
    {"RS384", JWT_RSA, NULL, 0},      {"RS512", JWT_RSA, NULL, 0},
    {"PS256", JWT_RSA, NULL, 0},      {"PS384", JWT_RSA, NULL, 0},
    {"PS512", JWT_RSA, NULL, 0},      {"ES256", JWT_EC, "P-256", 0},
    {"ES384", JWT_EC, "P-384", 0},    {"ES512", JWT_EC, "P-521", 0},
    {"EdDSA", JWT_OKP, "Ed25519", 0},
};
const size_t jwt_n_algorithms =
    sizeof(jwt_algorithms) / sizeof(jwt_algorithms[0]);


const struct jwt_algorithm *
jwt_algorithm_find(const char *name, size_t bytes)
{
    size_t i;

    for (i = 0; i < jwt_n_algorithms; i++) {
        if (strlen(jwt_algorithms[i].name) == bytes &&
            memcmp(jwt_algorithms[i].name, name, bytes) == 0)
            return &jwt_algorithms[i];
    }
    return NULL;
}


uint32_t
axion_jwt_algorithm(const char *name, size_t bytes)
{
    const struct jwt_algorithm *a = jwt_algorithm_find(name, bytes);

    return a != NULL ? 1u << (a - jwt_algorithms) : 0;
}


const char *
jwt_string(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);

    /* A NUL inside would make it another string for C. */
    return json_is_string(value) &&
                   strlen(json_string_value(value)) == json_string_length(value)
               ? json_string_value(value)
               : NULL;
}


/* The bytes of a base64url parameter; 0: it is missing, wrong or too long. */
static size_t
parameter(const json_t *jwk, const char *name, uint8_t *data, size_t room)
{
    const char *text = jwt_string(jwk, name);
    size_t bytes;

    if (text == NULL || strlen(text) > PARAMETER_MAX ||
        sodium_base642bin(data, room, text, strlen(text), NULL, &bytes, NULL,
                          sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0)
        return 0;
    return bytes;
}


/* The bytes of the modulus; 0: such a key is not used. */
static size_t
rsa_bytes(const json_t *jwk)
{
    uint8_t n[RSA_BYTES_MAX], e[RSA_EXPONENT_BYTES];
    size_t n_bytes = parameter(jwk, "n", n, sizeof(n));
    size_t e_bytes = parameter(jwk, "e", e, sizeof(e));

    if (n_bytes < RSA_BYTES_MIN || n[0] < 0x80 || e_bytes == 0 ||
        (e[e_bytes - 1] & 1) == 0 || (e_bytes == 1 && e[0] == 1))
        return 0;
    return n_bytes;
}


/* Measured on one core of a Zen 4 with OpenSSL 3 (libsodium for Ed25519). */
static uint32_t
ec_cost_us(const char *curve)
{
    return strcmp(curve, "P-256") == 0   ? 131
           : strcmp(curve, "P-384") == 0 ? 1200
                                         : 800;
}


static uint32_t
rsa_cost_us(size_t bytes)
{
    return (uint32_t)(53 * bytes * bytes / (RSA_BYTES_MIN * RSA_BYTES_MIN));
}


/* The algorithms that the key's parameters allow. */
static uint32_t
algorithms_of(struct jwt_key *key, const char *kty)
{
    uint8_t secret[SECRET_BYTES_MAX];
    const char *curve = jwt_string(key->jwk, "crv");
    enum jwt_type type;
    size_t bytes = 0, rsa, i;
    uint32_t bits = 0;

    key->cost_us = 53;
    if (strcmp(kty, "oct") == 0) {
        type = JWT_OCT;
        bytes = parameter(key->jwk, "k", secret, sizeof(secret));
        sodium_memzero(secret, sizeof(secret));
    } else if (strcmp(kty, "RSA") == 0 && (rsa = rsa_bytes(key->jwk)) != 0) {
        type = JWT_RSA;
        key->cost_us = rsa_cost_us(rsa);
    } else if (strcmp(kty, "EC") == 0 && curve != NULL) {
        type = JWT_EC;
        key->cost_us = ec_cost_us(curve);
    } else if (strcmp(kty, "OKP") == 0 && curve != NULL &&
               parameter(key->jwk, "x", key->ed25519, sizeof(key->ed25519)) ==
                   sizeof(key->ed25519)) {
        type = JWT_OKP;
    } else {
        return 0;
    }
    for (i = 0; i < jwt_n_algorithms; i++) {
        const struct jwt_algorithm *a = &jwt_algorithms[i];

        if (a->type == type && bytes >= a->secret_min &&
            (a->curve == NULL || strcmp(a->curve, curve) == 0))
            bits |= 1u << i;
    }
    return bits;
}


static int
may_verify(const json_t *jwk)
{
    const json_t *use = json_object_get(jwk, "use");
    const json_t *ops = json_object_get(jwk, "key_ops"), *op;
    size_t i;

    if (use != NULL &&
        (!json_is_string(use) || strcmp(json_string_value(use), "sig") != 0))
        return 0;
    if (ops == NULL)
        return 1;
    json_array_foreach(ops, i, op)
    {
        if (json_is_string(op) && strcmp(json_string_value(op), "verify") == 0)
            return 1;
    }
    return 0;
}


static int
add_key(struct axion_jwt_keys *keys, json_t *jwk, size_t *skipped, char *why,
        size_t why_bytes)
{
    struct jwt_key *key = &keys->keys[keys->n];
    const char *kty = jwt_string(jwk, "kty"), *alg = jwt_string(jwk, "alg");

    if (json_object_get(jwk, "d") != NULL) {
        snprintf(why, why_bytes,
                 "a key of the set has its private part: a server needs the "
                 "public one only");
        return AXION_ERR_BAD_OPTION;
    }
    if (keys->n == AXION_JWT_KEYS_MAX) {
        snprintf(why, why_bytes, "the set has more than %u keys",
                 AXION_JWT_KEYS_MAX);
        return AXION_ERR_BAD_OPTION;
    }
    memset(key, 0, sizeof(*key));
    key->jwk = jwk;
    if (kty != NULL && may_verify(jwk))
        key->algorithms = algorithms_of(key, kty);
    if (json_object_get(jwk, "alg") != NULL)
        key->algorithms &=
            alg != NULL ? axion_jwt_algorithm(alg, strlen(alg)) : 0;
    if (key->algorithms == 0) {
        (*skipped)++;
        return AXION_OK;
    }
    key->kid = jwt_string(jwk, "kid");
    keys->n++;
    return AXION_OK;
}


static int
add_keys(struct axion_jwt_keys *keys, json_t *root, size_t *skipped, char *why,
         size_t why_bytes)
{
    json_t *list = json_object_get(root, "keys"), *jwk;
    int error = AXION_OK;
    size_t i;

    if (list == NULL && jwt_string(root, "kty") != NULL)
        return add_key(keys, root, skipped, why, why_bytes);
    if (!json_is_array(list)) {
        snprintf(why, why_bytes,
                 "it is no JWK set: an object with an array \"keys\"");
        return AXION_ERR_BAD_OPTION;
    }
    json_array_foreach(list, i, jwk)
    {
        error = add_key(keys, jwk, skipped, why, why_bytes);
        if (error != AXION_OK)
            break;
    }
    return error;
}


int
axion_jwt_keys_open(struct axion_jwt_keys **out, const char *text, size_t bytes,
                    size_t *skipped, char *why, size_t why_bytes)
{
    struct axion_jwt_keys *keys = calloc(1, sizeof(*keys));
    json_error_t fault;
    int error;

    *out = NULL;
    *skipped = 0;
    if (keys == NULL) {
        snprintf(why, why_bytes, "out of memory");
        return AXION_ERR_NO_MEMORY;
    }
    error = axion_json_tree_load(&keys->tree, text, bytes,
                                 JSON_REJECT_DUPLICATES, &fault);
    if (error == AXION_ERR_NO_MEMORY) {
        snprintf(why, why_bytes, "out of memory");
        axion_jwt_keys_close(keys);
        return AXION_ERR_NO_MEMORY;
    }
    if (error != AXION_OK) {
        /* jansson's text may quote the file, which has secrets. */
        snprintf(why, why_bytes, "it is no JSON (line %d, column %d)",
                 fault.line, fault.column);
        axion_jwt_keys_close(keys);
        return AXION_ERR_BAD_OPTION;
    }
    error = add_keys(keys, keys->tree.root, skipped, why, why_bytes);
    if (error == AXION_OK && keys->n == 0) {
        snprintf(why, why_bytes, "the set has no key that could verify");
        error = AXION_ERR_BAD_OPTION;
    }
    if (error == AXION_OK)
        *out = keys;
    else
        axion_jwt_keys_close(keys);
    return error;
}


size_t
axion_jwt_keys_count(const struct axion_jwt_keys *keys)
{
    return keys->n;
}


void
axion_jwt_keys_hold(struct axion_jwt_keys *keys)
{
    keys->holders++;
}


void
axion_jwt_keys_close(struct axion_jwt_keys *keys)
{
    if (keys == NULL)
        return;
    if (keys->holders > 0) {
        keys->holders--;
        return;
    }
    axion_json_tree_free(&keys->tree);
    free(keys);
}
