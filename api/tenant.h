/*
 * Who asks, and what they may.  One record for a tenant, wherever it was
 * written down: a block of nginx.conf and a block of a tenants file are read
 * by the same table of parameters (tenant_params.h) and give the same
 * struct axion_tenant.
 *
 * Tenants are found through a set.  A set is immutable once built, so there
 * are no locks: a file that changes gives a new set with the next generation
 * number, requests in flight keep the set that they were let in by, and the
 * old one goes when the last of them ends.  Who counts for a tenant over
 * several generations (limits, metrics) goes by its `number`, which depends
 * on the name alone, never by the record's address.
 *
 * Looking a key up hashes what the client sent and goes through one bucket of
 * a table whose buckets depend on a secret of the process: neither the
 * position nor the length of a match shows, and the time does not grow with
 * the number of tenants.
 *
 * All memory is the caller's (nginx: a pool).
 */
#ifndef AXION_API_TENANT_H
#define AXION_API_TENANT_H

#include <stddef.h>
#include <stdint.h>
#include "api/key.h"
#include "api/limits.h"
#include "api/memory.h"
#include "shm/request.h"

#define AXION_CACHE_SALT_BYTES   16u
#define AXION_REALM_SECRET_BYTES 32u
#define AXION_SET_SECRET_BYTES   16u
#define AXION_TENANT_NAME_MAX    64u
#define AXION_TENANT_KEYS_MAX    64u /* of one tenant */
#define AXION_TENANT_CHOSEN_MAX  4u  /* of these by Argon2id */
#define AXION_TENANT_GLOBS_MAX   256u
#define AXION_TENANT_ALIASES_MAX 256u

enum axion_priority {
    AXION_PRIORITY_LOW = 0,
    AXION_PRIORITY_NORMAL = 1,
    AXION_PRIORITY_HIGH = 2,
};

/* Who may meet whose prefixes in the engine's cache. */
enum axion_cache_scope {
    AXION_CACHE_TENANT = 0, /* the tenant's requests each other's */
    AXION_CACHE_KEY = 1,    /* those of one key */
    AXION_CACHE_GROUP = 2,  /* those of all tenants that name the group */
    AXION_CACHE_NONE = 3,   /* nobody: each request has a realm of its own */
};

/* A request for `name` (a glob) becomes one for `model`. */
struct axion_alias {
    struct axion_text name;
    struct axion_text model;
};

/* The salt that a tenant's requests have in common, once it was asked for. */
struct axion_realm {
    uint8_t salt[AXION_CACHE_SALT_BYTES];
    int known;
};

struct axion_tenant {
    struct axion_text name;
    uint64_t number; /* axion_tenant_number(name) */
    struct axion_key *keys;
    size_t n_keys;
    struct axion_text *models; /* globs; none: every model */
    size_t n_models;
    struct axion_alias *aliases; /* the first that matches counts */
    size_t n_aliases;
    uint32_t priority;    /* enum axion_priority */
    uint32_t weight;      /* share beside other tenants; 0: 1 */
    uint32_t max_context; /* prompt and output, tokens; 0: the model's own */
    uint32_t max_output;  /* tokens; 0: no bound but the context */
    uint32_t cache_scope; /* enum axion_cache_scope */
    struct axion_text cache_group; /* of AXION_CACHE_GROUP */
    struct axion_limits limits;
    struct axion_realm *realm; /* for whoever serves; NULL: nobody does */
    uint32_t disabled;
    uint32_t line; /* where its block begins */
    struct axion_text file;
};

/*
 * Whom a request was let in as, and what it may: the tenant's own rights,
 * narrowed or (by those who are trusted to) changed for this one request.
 */
struct axion_identity {
    const struct axion_tenant *tenant;
    const struct axion_key *key;     /* NULL: identity came from elsewhere */
    const struct axion_text *models; /* globs that must match besides */
    size_t n_models;                 /* 0: no such */
    uint32_t priority;
    uint32_t max_context; /* 0: none */
    uint32_t max_output;  /* 0: none */
};

/* What a lookup by key found. */
struct axion_match {
    const struct axion_tenant *tenant; /* NULL: nobody */
    const struct axion_key *key;
};

struct axion_tenant_bucket;

struct axion_tenants {
    const struct axion_tenant *const *tenants;
    size_t n_tenants;
    uint64_t generation; /* of what it was read from; whoever reads counts */
    size_t n_keys;
    size_t n_chosen; /* of these by Argon2id */

    /* internal */
    size_t n_buckets;
    const struct axion_tenant_bucket *const *by_key;
    const struct axion_tenant_bucket *const *by_name;
    uint8_t secret[AXION_SET_SECRET_BYTES];
};

/* Once per process before anything else here; AXION_OK or SYSTEM. */
int axion_tenant_init(void);

/* 1 for 1..AXION_TENANT_NAME_MAX of [A-Za-z0-9_.-]: names go into logs,
 * metrics and file names as they are. */
int axion_tenant_name_valid(const char *name, size_t bytes);

/* "low", "normal", "high".  AXION_OK or BAD_OPTION. */
int axion_priority_parse(uint32_t *priority, const char *text, size_t bytes);
const char *axion_priority_name(uint32_t priority);

/*
 * A set of the tenants in `list`, which must live as long as it does.
 * AXION_OK, NO_MEMORY, or BAD_OPTION with the reason where two have one name
 * or one key; *at is the second of the two then.
 */
int axion_tenants_build(struct axion_tenants *set,
                        const struct axion_tenant *const *list, size_t n,
                        const struct axion_memory *memory,
                        const struct axion_tenant **at, char *why,
                        size_t why_bytes);

/* By a key's SHA-256; whether the key is still good is the caller's to ask
 * (axion_key_fault).  `set` may be NULL. */
struct axion_match axion_tenants_find_key(const struct axion_tenants *set,
                                          const struct axion_key_hash *hash);

/* NULL: there is none. */
const struct axion_tenant *
axion_tenants_find_name(const struct axion_tenants *set, const char *name,
                        size_t bytes);

/* The rights of a tenant as they are written down. */
struct axion_identity axion_identity_of(const struct axion_tenant *tenant,
                                        const struct axion_key *key);

/* 1 when the model passes the tenant's globs and those of the request; where
 * there are none, every model passes. */
int axion_identity_may_use(const struct axion_identity *who, const char *model,
                           size_t bytes);

/* The model that stands behind `model` for this tenant; itself where no
 * alias matches.  One step: an alias of an alias is not followed. */
struct axion_text axion_tenant_model(const struct axion_tenant *tenant,
                                     const struct axion_text *model);

/* `*` any run of bytes, `?` one character, `\` quotes the next one; the
 * whole text must match.  Time is bounded by pattern * text. */
int axion_glob_match(const struct axion_text *pattern, const char *text,
                     size_t bytes);

/* Never 0, which means nobody. */
uint64_t axion_tenant_number(const char *name, size_t bytes);

/*
 * The realm of a request in the engine's prefix cache, from a secret of the
 * installation.  `key` is the one that was used, NULL where identity came
 * from elsewhere; AXION_CACHE_NONE draws a random one at each call.
 */
void axion_cache_salt(uint8_t salt[AXION_CACHE_SALT_BYTES],
                      const uint8_t secret[AXION_REALM_SECRET_BYTES],
                      const struct axion_tenant *tenant,
                      const struct axion_key *key);

#endif
