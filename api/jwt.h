/*
 * JSON Web Tokens (RFC 7519) as keys: compact, signed (RFC 7515), verified
 * with the keys of a JWK set (RFC 7517) and mapped to a tenant.
 *
 * Signatures are libjose's to check (HS, RS, PS, ES over OpenSSL), Ed25519's
 * libsodium's, since libjose has no EdDSA.  What may be checked with what is
 * decided here, before either sees a byte, by a table of algorithms:
 *
 *   - the algorithm must be in the table ("none" is not), among those that
 *     the rules allow, and fit the key's type, curve and size; a key that
 *     names an algorithm serves that one alone.  So a public key is never
 *     taken for an HMAC's secret.
 *   - keys come from the set alone: jwk, jku, x5u and x5c of a token are not
 *     looked at; `crit` and a `typ` that is another token's are refused
 *   - a set's key that is for encryption, of an unknown type, or too small
 *     or large is left out; one with a private part makes the set refused
 *
 * Bounds: 8 KiB of token, 64 keys, RSA of 2048 to 8192 bits with an exponent
 * of 32 bits, at most 4 signatures tried for one token.
 *
 * Refusals have a text for the client, which repeats nothing of the token.
 */
#ifndef AXION_API_JWT_H
#define AXION_API_JWT_H

#include <stddef.h>
#include <stdint.h>
#include "api/tenant.h"
#include "shm/request.h"

#define AXION_JWT_BYTES_MAX      8192u
#define AXION_JWT_SET_BYTES_MAX  (1024u * 1024u)
#define AXION_JWT_KEYS_MAX       64u
#define AXION_JWT_TRIES_MAX      4u
#define AXION_JWT_MODELS_MAX     32u
#define AXION_JWT_MODELS_BYTES   1024u
#define AXION_JWT_ALGORITHMS_ALL 0xffffffffu
#define AXION_JWT_SLOW_US        200u

struct axion_jwt_keys;

struct axion_jwt_rules {
    const struct axion_text *issuers; /* one of them; none: any */
    size_t n_issuers;
    const struct axion_text *audiences; /* one of them; none: any */
    size_t n_audiences;
    uint32_t algorithms; /* bits of axion_jwt_algorithm() */
    uint64_t leeway_s;   /* clocks may differ by so much */
    /* Names of claims; a dot leads into an object where there is no claim of
     * the whole name.  data NULL: not used. */
    struct axion_text tenant;
    struct axion_text models;
    struct axion_text priority;
};

/* What a good token says.  No pointers: it may be copied and kept. */
struct axion_jwt_claims {
    uint64_t expires_s; /* with the leeway */
    uint32_t priority;
    uint32_t has_priority;
    uint32_t has_models; /* then n_models may be 0: none at all */
    uint32_t n_models;
    uint32_t model_end[AXION_JWT_MODELS_MAX]; /* in `models` */
    char tenant[AXION_TENANT_NAME_MAX + 1];
    char models[AXION_JWT_MODELS_BYTES];
};

/* The algorithm's bit, 0: there is none of that name. */
uint32_t axion_jwt_algorithm(const char *name, size_t bytes);

/*
 * A JWK set, or one JWK.  AXION_OK, NO_MEMORY, or BAD_OPTION with the reason,
 * which repeats nothing of a key.  *skipped counts those left out.
 */
int axion_jwt_keys_open(struct axion_jwt_keys **keys, const char *text,
                        size_t bytes, size_t *skipped, char *why,
                        size_t why_bytes);
size_t axion_jwt_keys_count(const struct axion_jwt_keys *keys);
void axion_jwt_keys_close(struct axion_jwt_keys *keys);

/* The set stays until it is closed once more: for who verifies in a thread.
 * Holding and closing are one thread's, verifying may be any number's. */
void axion_jwt_keys_hold(struct axion_jwt_keys *keys);

/* 1 when the text has a token's form: three parts, the first one of an
 * object. */
int axion_jwt_looks_like(const char *text, size_t bytes);

/*
 * 1 when the signatures that axion_jwt_verify() would try may take more than
 * AXION_JWT_SLOW_US: too long for an event loop.  0 where it refuses at once.
 */
int axion_jwt_slow(const struct axion_jwt_keys *keys,
                   const struct axion_jwt_rules *rules, const char *token,
                   size_t bytes);

/*
 * AXION_OK with *claims, or UNAUTHENTICATED, NO_MEMORY with *why, a constant.
 * `now_s` is seconds since 1970.
 */
int axion_jwt_verify(struct axion_jwt_claims *claims,
                     const struct axion_jwt_keys *keys,
                     const struct axion_jwt_rules *rules, const char *token,
                     size_t bytes, uint64_t now_s, const char **why);

#endif
