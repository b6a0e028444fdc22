/*
 * A token: parted, its header judged, its signature checked, its claims
 * mapped.  Nothing of the payload is looked at before the signature is good.
 */
#include "api/jwt.h"

#include <jose/jws.h>
#include <math.h>
#include <sodium.h>
#include <string.h>
#include <strings.h>
#include "api/jwt_keys.h"
#include "shm/errors.h"

#define SIGNATURE_TEXT_MAX (1024u * 4 / 3 + 4) /* RSA of 8192 bits */
#define TIME_MAX           4e12 /* a NumericDate beyond it is nonsense */

struct token {
    struct axion_text header; /* base64url */
    struct axion_text payload;
    struct axion_text signature;
    struct axion_text signed_text; /* header.payload */
};

struct verifier {
    struct axion_jwt_claims *claims;
    const struct axion_jwt_rules *rules;
    uint64_t now_s;
    const char **why;
};


static int
refuse(struct verifier *v, const char *why)
{
    *v->why = why;
    return AXION_ERR_UNAUTHENTICATED;
}


static int
no_memory(struct verifier *v)
{
    *v->why = "there is no memory to verify the token";
    return AXION_ERR_NO_MEMORY;
}


int
axion_jwt_looks_like(const char *text, size_t bytes)
{
    size_t i, dots = 0;

    for (i = 0; i < bytes; i++)
        dots += text[i] == '.';
    /* {" in base64, as every header begins that a program wrote. */
    return dots == 2 && bytes > 3 && memcmp(text, "eyJ", 3) == 0;
}


static int
split(struct token *token, const char *text, size_t bytes)
{
    const char *first = memchr(text, '.', bytes), *second;

    if (first == NULL)
        return 0;
    second = memchr(first + 1, '.', bytes - (size_t)(first + 1 - text));
    if (second == NULL)
        return 0;
    token->header.data = text;
    token->header.bytes = (uint32_t)(first - text);
    token->payload.data = first + 1;
    token->payload.bytes = (uint32_t)(second - first - 1);
    token->signed_text.data = text;
    token->signed_text.bytes = (uint32_t)(second - text);
    token->signature.data = second + 1;
    token->signature.bytes = (uint32_t)(bytes - (size_t)(second + 1 - text));
    return memchr(second + 1, '.', token->signature.bytes) == NULL;
}


/* A part that is a JSON object, to be given back (after an error too). */
static int
part_object(struct verifier *v, const struct axion_text *part,
            struct axion_json_tree *tree)
{
    char json[AXION_JWT_BYTES_MAX];
    json_error_t fault;
    size_t bytes;
    int error;

    memset(tree, 0, sizeof(*tree));
    if (sodium_base642bin((uint8_t *)json, sizeof(json), part->data,
                          part->bytes, NULL, &bytes, NULL,
                          sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0)
        return refuse(v, "the token is malformed");
    error =
        axion_json_tree_load(tree, json, bytes, JSON_REJECT_DUPLICATES, &fault);
    if (error == AXION_ERR_NO_MEMORY)
        return no_memory(v);
    if (error == AXION_OK && json_is_object(tree->root))
        return AXION_OK;
    return refuse(v, "the token is malformed");
}


/* ---- signatures ---- */


/* libjose prints to stderr where nobody takes its errors. */
static void
ignore_error(void *misc, const char *file, int line, uint64_t error,
             const char *format, va_list args)
{
    (void)misc;
    (void)file;
    (void)line;
    (void)error;
    (void)format;
    (void)args;
}


static int
jose_verifies(const struct token *token, const struct jwt_key *key)
{
    jose_cfg_t *cfg = jose_cfg();
    json_t *jws =
        json_pack("{s:s%,s:s%,s:s%}", "protected", token->header.data,
                  (size_t)token->header.bytes, "payload", token->payload.data,
                  (size_t)token->payload.bytes, "signature",
                  token->signature.data, (size_t)token->signature.bytes);
    int good = -1;

    if (cfg != NULL && jws != NULL) {
        jose_cfg_set_err_func(cfg, ignore_error, NULL);
        good = jose_jws_ver(cfg, jws, NULL, key->jwk, false);
    }
    json_decref(jws);
    if (cfg != NULL) /* libjose would look into it */
        jose_cfg_decref(cfg);
    return good;
}


static int
ed25519_verifies(const struct token *token, const struct jwt_key *key)
{
    uint8_t signature[crypto_sign_BYTES];
    size_t bytes;

    return sodium_base642bin(signature, sizeof(signature),
                             token->signature.data, token->signature.bytes,
                             NULL, &bytes, NULL,
                             sodium_base64_VARIANT_URLSAFE_NO_PADDING) == 0 &&
           bytes == sizeof(signature) &&
           crypto_sign_verify_detached(
               signature, (const uint8_t *)token->signed_text.data,
               token->signed_text.bytes, key->ed25519) == 0;
}


/* May the key be tried for a token of this algorithm and kid? */
static int
is_candidate(const struct jwt_key *key, const struct jwt_algorithm *algorithm,
             const char *kid)
{
    return (key->algorithms & 1u << (algorithm - jwt_algorithms)) != 0 &&
           (kid == NULL || (key->kid != NULL && strcmp(key->kid, kid) == 0));
}


static int
check_signature(struct verifier *v, const struct token *token,
                const struct axion_jwt_keys *keys,
                const struct jwt_algorithm *algorithm, const char *kid)
{
    size_t i, tried = 0;
    int good;

    if (token->signature.bytes > SIGNATURE_TEXT_MAX)
        return refuse(v, "the token's signature is not valid");
    for (i = 0; i < keys->n && tried < AXION_JWT_TRIES_MAX; i++) {
        const struct jwt_key *key = &keys->keys[i];

        if (!is_candidate(key, algorithm, kid))
            continue;
        tried++;
        good = algorithm->type == JWT_OKP ? ed25519_verifies(token, key)
                                          : jose_verifies(token, key);
        if (good < 0)
            return no_memory(v);
        if (good)
            return AXION_OK;
    }
    return refuse(v, tried == 0 ? "the token was not signed by a known key"
                                : "the token's signature is not valid");
}


static int
check_header(struct verifier *v, const json_t *header,
             const struct jwt_algorithm **algorithm, const char **kid)
{
    const json_t *typ = json_object_get(header, "typ");
    const char *alg = jwt_string(header, "alg");
    const char *type = jwt_string(header, "typ");

    *algorithm = alg != NULL ? jwt_algorithm_find(alg, strlen(alg)) : NULL;
    *kid = jwt_string(header, "kid");
    if (*algorithm == NULL ||
        (v->rules->algorithms & 1u << (*algorithm - jwt_algorithms)) == 0)
        return refuse(v, "the token's algorithm is not allowed");
    if (json_object_get(header, "crit") != NULL ||
        json_object_get(header, "b64") != NULL)
        return refuse(v, "the token needs an extension that is not supported");
    if (typ != NULL &&
        (type == NULL ||
         (strcasecmp(type, "JWT") != 0 && strcasecmp(type, "at+jwt") != 0 &&
          strcasecmp(type, "application/at+jwt") != 0)))
        return refuse(v, "the token is of another type");
    if (*kid == NULL && json_object_get(header, "kid") != NULL)
        return refuse(v, "the token was not signed by a known key");
    return AXION_OK;
}


/* ---- claims ---- */


/* A time of the payload: 1 there is one, 0 none, -1 it is no time. */
static int
claim_time(const json_t *payload, const char *name, double *seconds)
{
    const json_t *value = json_object_get(payload, name);

    if (value == NULL)
        return 0;
    if (!json_is_number(value))
        return -1;
    *seconds = json_number_value(value);
    return isfinite(*seconds) && *seconds >= 0 && *seconds <= TIME_MAX ? 1 : -1;
}


static int
check_times(struct verifier *v, const json_t *payload)
{
    double now = (double)v->now_s, leeway = (double)v->rules->leeway_s, time;
    int has;

    if (claim_time(payload, "exp", &time) != 1)
        return refuse(v, "the token does not say when it expires");
    if (now >= time + leeway)
        return refuse(v, "the token has expired");
    v->claims->expires_s = (uint64_t)(time + leeway);
    has = claim_time(payload, "nbf", &time);
    if (has < 0 || (has > 0 && time > now + leeway))
        return refuse(v, "the token is not valid yet");
    has = claim_time(payload, "iat", &time);
    if (has < 0 || (has > 0 && time > now + leeway))
        return refuse(v, "the token was made in the future");
    return AXION_OK;
}


static int
is_one_of(const json_t *value, const struct axion_text *texts, size_t n)
{
    size_t i;

    for (i = 0; json_is_string(value) && i < n; i++) {
        if (json_string_length(value) == texts[i].bytes &&
            memcmp(json_string_value(value), texts[i].data, texts[i].bytes) ==
                0)
            return 1;
    }
    return 0;
}


static int
check_parties(struct verifier *v, const json_t *payload)
{
    const struct axion_jwt_rules *r = v->rules;
    const json_t *aud = json_object_get(payload, "aud"), *one;
    size_t i;

    if (r->n_issuers != 0 &&
        !is_one_of(json_object_get(payload, "iss"), r->issuers, r->n_issuers))
        return refuse(v, "the token is of another issuer");
    if (r->n_audiences == 0 || is_one_of(aud, r->audiences, r->n_audiences))
        return AXION_OK;
    json_array_foreach(aud, i, one)
    {
        if (is_one_of(one, r->audiences, r->n_audiences))
            return AXION_OK;
    }
    return refuse(v, "the token is for another audience");
}


/* The claim of that name, or, part by part, what its dots lead to. */
static const json_t *
find_claim(const json_t *object, const struct axion_text *name)
{
    const char *at = name->data, *end = at + name->bytes, *dot;
    const json_t *value = json_object_getn(object, at, name->bytes);

    while (value == NULL && object != NULL &&
           (dot = memchr(at, '.', (size_t)(end - at))) != NULL) {
        object = json_object_getn(object, at, (size_t)(dot - at));
        at = dot + 1;
        value = json_object_getn(object, at, (size_t)(end - at));
    }
    return value;
}


static int
add_model(struct axion_jwt_claims *c, const char *glob, size_t bytes)
{
    size_t at = c->n_models == 0 ? 0 : c->model_end[c->n_models - 1];

    if (bytes == 0 || c->n_models == AXION_JWT_MODELS_MAX ||
        bytes > sizeof(c->models) - at)
        return 0;
    memcpy(c->models + at, glob, bytes);
    c->model_end[c->n_models++] = (uint32_t)(at + bytes);
    return 1;
}


/* An array of strings, or words of one string. */
static int
take_models(struct axion_jwt_claims *c, const json_t *value)
{
    const json_t *one;
    size_t i;

    c->has_models = 1;
    if (json_is_string(value)) {
        const char *at = json_string_value(value);
        const char *end = at + json_string_length(value);

        while (at < end) {
            const char *space = memchr(at, ' ', (size_t)(end - at));
            size_t n = (size_t)((space != NULL ? space : end) - at);

            if (n != 0 && !add_model(c, at, n))
                return 0;
            at += n + (space != NULL);
        }
        return 1;
    }
    json_array_foreach(value, i, one)
    {
        if (!json_is_string(one) ||
            !add_model(c, json_string_value(one), json_string_length(one)))
            return 0;
    }
    return json_is_array(value);
}


static int
take_claims(struct verifier *v, const json_t *payload)
{
    const struct axion_jwt_rules *r = v->rules;
    struct axion_jwt_claims *c = v->claims;
    const json_t *value = find_claim(payload, &r->tenant);

    if (!json_is_string(value) ||
        !axion_tenant_name_valid(json_string_value(value),
                                 json_string_length(value)))
        return refuse(v, "the token names no tenant");
    memcpy(c->tenant, json_string_value(value), json_string_length(value));
    if (r->models.data != NULL &&
        (value = find_claim(payload, &r->models)) != NULL &&
        !take_models(c, value))
        return refuse(v, "the token's models are not a list of names");
    if (r->priority.data != NULL &&
        (value = find_claim(payload, &r->priority)) != NULL) {
        c->has_priority = 1;
        if (!json_is_string(value) ||
            axion_priority_parse(&c->priority, json_string_value(value),
                                 json_string_length(value)) != AXION_OK)
            return refuse(v, "the token's priority is not low, normal or high");
    }
    return AXION_OK;
}


static int
check_payload(struct verifier *v, const struct axion_text *part)
{
    struct axion_json_tree payload;
    int error = part_object(v, part, &payload);

    if (error == AXION_OK)
        error = check_times(v, payload.root);
    if (error == AXION_OK)
        error = check_parties(v, payload.root);
    if (error == AXION_OK)
        error = take_claims(v, payload.root);
    axion_json_tree_free(&payload);
    return error;
}


int
axion_jwt_slow(const struct axion_jwt_keys *keys,
               const struct axion_jwt_rules *rules, const char *text,
               size_t bytes)
{
    const char *why, *kid;
    struct verifier v = {NULL, rules, 0, &why};
    const struct jwt_algorithm *algorithm;
    struct token token;
    struct axion_json_tree header;
    size_t i, tried = 0;
    uint32_t us = 0;

    if (bytes > AXION_JWT_BYTES_MAX || !split(&token, text, bytes) ||
        token.signature.bytes > SIGNATURE_TEXT_MAX)
        return 0;
    if (part_object(&v, &token.header, &header) == AXION_OK &&
        check_header(&v, header.root, &algorithm, &kid) == AXION_OK) {
        for (i = 0; i < keys->n && tried < AXION_JWT_TRIES_MAX; i++) {
            if (is_candidate(&keys->keys[i], algorithm, kid)) {
                us += keys->keys[i].cost_us;
                tried++;
            }
        }
    }
    axion_json_tree_free(&header);
    return us > AXION_JWT_SLOW_US;
}


int
axion_jwt_verify(struct axion_jwt_claims *claims,
                 const struct axion_jwt_keys *keys,
                 const struct axion_jwt_rules *rules, const char *text,
                 size_t bytes, uint64_t now_s, const char **why)
{
    struct verifier v = {claims, rules, now_s, why};
    const struct jwt_algorithm *algorithm;
    struct token token;
    const char *kid;
    struct axion_json_tree header;
    int error;

    memset(claims, 0, sizeof(*claims));
    *why = NULL;
    if (bytes > AXION_JWT_BYTES_MAX || !split(&token, text, bytes))
        return refuse(&v, "the token is malformed");
    error = part_object(&v, &token.header, &header);
    if (error == AXION_OK)
        error = check_header(&v, header.root, &algorithm, &kid);
    if (error == AXION_OK)
        error = check_signature(&v, &token, keys, algorithm, kid);
    axion_json_tree_free(&header);
    return error == AXION_OK ? check_payload(&v, &token.payload) : error;
}
