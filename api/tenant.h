/*
 * Who asks, and what they may.  A tenant is known by the SHA-256 of its API
 * keys; keys themselves are never stored.  Looking one up hashes what the
 * client sent and compares it with every key of every tenant in constant
 * time, so that neither the position nor the length of a match shows.
 *
 * Which header counts: `Authorization: Bearer KEY` if there is an
 * Authorization header at all, else `x-api-key: KEY`.  An Authorization of
 * another scheme, or an empty key, is no key; it does not fall back to
 * x-api-key, so that a proxy's check and ours cannot see different ones.
 *
 * `number` and `cache_salt` travel with each request: the first names the
 * tenant to the engine's fair scheduler, the second its prefix cache's realm.
 * All memory is the caller's (nginx: the configuration's pool); tables are
 * immutable once built, so there are no locks.
 */
#ifndef AXION_API_TENANT_H
#define AXION_API_TENANT_H

#include <stddef.h>
#include <stdint.h>
#include "shm/request.h"

#define AXION_KEY_HASH_BYTES     32u
#define AXION_CACHE_SALT_BYTES   16u
#define AXION_REALM_SECRET_BYTES 32u
#define AXION_TENANT_NAME_MAX    64u
#define AXION_API_KEY_BYTES_MAX  512u

enum axion_priority {
    AXION_PRIORITY_LOW = 0,
    AXION_PRIORITY_NORMAL = 1,
    AXION_PRIORITY_HIGH = 2,
};

struct axion_key_hash {
    uint8_t bytes[AXION_KEY_HASH_BYTES];
};

struct axion_tenant {
    struct axion_text name;
    struct axion_key_hash *keys;
    size_t n_keys;
    struct axion_text *models; /* globs; none: every model */
    size_t n_models;
    uint32_t priority; /* enum axion_priority */
    uint64_t number;   /* axion_tenant_number(name) */
    uint8_t cache_salt[AXION_CACHE_SALT_BYTES];
};

/* Once per process before anything else here; AXION_OK or SYSTEM. */
int axion_tenant_init(void);

/* 1 for 1..AXION_TENANT_NAME_MAX of [A-Za-z0-9_.-]: names go into logs,
 * metrics and file names as they are. */
int axion_tenant_name_valid(const char *name, size_t bytes);

/* "sha256:" and 64 hex digits.  AXION_OK, or BAD_OPTION with the reason. */
int axion_key_spec_parse(struct axion_key_hash *hash, const char *spec,
                         size_t bytes, char *why, size_t why_bytes);

/* "low", "normal", "high".  AXION_OK or BAD_OPTION. */
int axion_priority_parse(uint32_t *priority, const char *text, size_t bytes);

/*
 * The key out of the two headers; a header that was not sent has data NULL.
 * AXION_OK, or UNAUTHENTICATED when there is none.
 */
int axion_key_from_headers(const struct axion_text *authorization,
                           const struct axion_text *x_api_key,
                           struct axion_text *key);

void axion_key_hash(struct axion_key_hash *hash, const char *key, size_t bytes);

/* The tenant that has the key, NULL: nobody.  Time depends on the table's
 * size only. */
const struct axion_tenant *
axion_tenant_find(const struct axion_tenant *const *tenants, size_t n_tenants,
                  const struct axion_key_hash *hash);

/* 1 when one of the tenant's globs matches, or it has none. */
int axion_tenant_may_use(const struct axion_tenant *tenant, const char *model,
                         size_t bytes);

/* `*` any run of bytes, `?` one character, `\` quotes the next one; the
 * whole text must match.  Time is bounded by pattern * text. */
int axion_glob_match(const struct axion_text *pattern, const char *text,
                     size_t bytes);

/* Never 0, which means nobody. */
uint64_t axion_tenant_number(const char *name, size_t bytes);

/* BLAKE2b of the name, keyed with a secret of the installation. */
void axion_cache_salt(uint8_t salt[AXION_CACHE_SALT_BYTES],
                      const uint8_t secret[AXION_REALM_SECRET_BYTES],
                      const char *name, size_t bytes);

#endif
