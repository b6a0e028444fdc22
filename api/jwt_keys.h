/*
 * Internal to jwt*.c: a set's keys and the table of algorithms.
 */
#ifndef AXION_API_JWT_KEYS_H
#define AXION_API_JWT_KEYS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include "api/json_tree.h"
#include "api/jwt.h"

#define JWT_ED25519_BYTES 32u

/* Threads that verify with one key take and drop references to it. */
#if !JSON_HAVE_ATOMIC_BUILTINS && !JSON_HAVE_SYNC_BUILTINS
#error "jansson without atomic reference counts"
#endif

enum jwt_type {
    JWT_OCT,
    JWT_RSA,
    JWT_EC,
    JWT_OKP,
};

struct jwt_algorithm {
    const char *name;
    enum jwt_type type;
    const char *curve; /* of EC and OKP */
    size_t secret_min; /* bytes, of OCT: RFC 7518 section 3.2 */
};

struct jwt_key {
    json_t *jwk;
    const char *kid; /* NULL: none */
    uint32_t algorithms;
    uint32_t cost_us;                   /* of one signature, roughly */
    uint8_t ed25519[JWT_ED25519_BYTES]; /* of OKP */
};

struct axion_jwt_keys {
    uint32_t holders;            /* besides the owner; the owner's thread's */
    struct axion_json_tree tree; /* the keys' jwk are in it */
    size_t n;
    struct jwt_key keys[AXION_JWT_KEYS_MAX];
};

extern const struct jwt_algorithm jwt_algorithms[];
extern const size_t jwt_n_algorithms;

/* NULL: there is none of that name. */
const struct jwt_algorithm *jwt_algorithm_find(const char *name, size_t bytes);

/* A string member, NULL where it is missing or of another type. */
const char *jwt_string(const json_t *object, const char *name);

#endif
