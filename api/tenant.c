/*
 * Tenants: names, sets of them, and what one may use.  Everything here is a
 * function of its arguments; hashing is libsodium's.
 */
#include "api/tenant.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include "shm/errors.h"

_Static_assert(AXION_CACHE_SALT_BYTES >= crypto_generichash_BYTES_MIN &&
                   AXION_REALM_SECRET_BYTES >= crypto_generichash_KEYBYTES_MIN,
               "sizes that libsodium would abort on");
_Static_assert(AXION_SET_SECRET_BYTES == crypto_shorthash_KEYBYTES,
               "SipHash's key");


/* An entry of both tables: of a key, or of a name (`key` NULL). */
struct axion_tenant_bucket {
    const struct axion_tenant_bucket *next;
    const struct axion_tenant *tenant;
    const struct axion_key *key;
};


int
axion_tenant_init(void)
{
    return sodium_init() < 0 ? AXION_ERR_SYSTEM : AXION_OK;
}


int
axion_tenant_name_valid(const char *name, size_t bytes)
{
    size_t i;

    if (bytes == 0 || bytes > AXION_TENANT_NAME_MAX)
        return 0;
    for (i = 0; i < bytes; i++) {
        char c = name[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-'))
            return 0;
    }
    return 1;
}


static const char *const priority_names[] = {"low", "normal", "high"};


int
axion_priority_parse(uint32_t *priority, const char *text, size_t bytes)
{
    uint32_t i;

    for (i = 0; i <= AXION_PRIORITY_HIGH; i++) {
        if (strlen(priority_names[i]) == bytes &&
            memcmp(priority_names[i], text, bytes) == 0) {
            *priority = i;
            return AXION_OK;
        }
    }
    return AXION_ERR_BAD_OPTION;
}


const char *
axion_priority_name(uint32_t priority)
{
    return priority <= AXION_PRIORITY_HIGH ? priority_names[priority]
                                           : "unknown";
}


/* ---- sets ---- */


static int
texts_equal(const struct axion_text *a, const char *data, size_t bytes)
{
    return a->bytes == bytes && memcmp(a->data, data, bytes) == 0;
}


static size_t
bucket_of(const struct axion_tenants *set, const void *data, size_t bytes)
{
    uint8_t digest[crypto_shorthash_BYTES];
    uint64_t hash;

    crypto_shorthash(digest, data, bytes, set->secret);
    memcpy(&hash, digest, sizeof(hash));
    return (size_t)(hash & (set->n_buckets - 1));
}


/* The entries of a set while it is built. */
struct set_builder {
    struct axion_tenants *set;
    const struct axion_tenant_bucket **by_key;
    const struct axion_tenant_bucket **by_name;
    struct axion_tenant_bucket *next_entry;
    const struct axion_tenant **at;
    char *why;
    size_t why_bytes;
};


static int
add_name(struct set_builder *b, const struct axion_tenant *tenant)
{
    const struct axion_text *name = &tenant->name;
    struct axion_tenant_bucket *entry = b->next_entry++;
    size_t bucket = bucket_of(b->set, name->data, name->bytes);

    if (axion_tenants_find_name(b->set, name->data, name->bytes) != NULL) {
        *b->at = tenant;
        snprintf(b->why, b->why_bytes, "duplicate axion_tenant \"%.*s\"",
                 (int)name->bytes, name->data);
        return AXION_ERR_BAD_OPTION;
    }
    entry->next = b->by_name[bucket];
    entry->tenant = tenant;
    entry->key = NULL;
    b->by_name[bucket] = entry;
    return AXION_OK;
}


static int
add_key(struct set_builder *b, const struct axion_tenant *tenant,
        const struct axion_key *key)
{
    struct axion_tenant_bucket *entry = b->next_entry++;
    size_t bucket = bucket_of(b->set, key->hash.bytes, sizeof(key->hash.bytes));
    struct axion_match other = axion_tenants_find_key(b->set, &key->hash);

    if (other.tenant != NULL) {
        *b->at = tenant;
        snprintf(b->why, b->why_bytes,
                 "a key of axion_tenant \"%.*s\" is one of \"%.*s\" too",
                 (int)tenant->name.bytes, tenant->name.data,
                 (int)other.tenant->name.bytes, other.tenant->name.data);
        return AXION_ERR_BAD_OPTION;
    }
    entry->next = b->by_key[bucket];
    entry->tenant = tenant;
    entry->key = key;
    b->by_key[bucket] = entry;
    return AXION_OK;
}


static int
add_tenant(struct set_builder *b, const struct axion_tenant *tenant)
{
    int error = add_name(b, tenant);
    size_t k;

    for (k = 0; error == AXION_OK && k < tenant->n_keys; k++) {
        if (tenant->keys[k].argon2id.data != NULL)
            b->set->n_chosen++;
        else
            error = add_key(b, tenant, &tenant->keys[k]);
    }
    return error;
}


/* Two tables of the same size, a power of two with room for all entries. */
static int
make_tables(struct set_builder *b, const struct axion_memory *memory)
{
    struct axion_tenants *set = b->set;
    size_t n_entries = set->n_tenants + set->n_keys, bytes;

    set->n_buckets = 16;
    while (set->n_buckets < n_entries)
        set->n_buckets *= 2;
    bytes = set->n_buckets * sizeof(b->by_key[0]);
    b->by_key = memory->alloc(memory->context, bytes);
    b->by_name = memory->alloc(memory->context, bytes);
    b->next_entry = memory->alloc(memory->context,
                                  (n_entries + 1) * sizeof(*b->next_entry));
    if (b->by_key == NULL || b->by_name == NULL || b->next_entry == NULL)
        return AXION_ERR_NO_MEMORY;
    memset(b->by_key, 0, bytes);
    memset(b->by_name, 0, bytes);
    set->by_key = b->by_key;
    set->by_name = b->by_name;
    return AXION_OK;
}


int
axion_tenants_build(struct axion_tenants *set,
                    const struct axion_tenant *const *list, size_t n,
                    const struct axion_memory *memory,
                    const struct axion_tenant **at, char *why, size_t why_bytes)
{
    struct set_builder b = {
        .set = set,
        .at = at,
        .why = why,
        .why_bytes = why_bytes,
    };
    int error;
    size_t i;

    *at = NULL;
    memset(set, 0, sizeof(*set));
    set->tenants = list;
    set->n_tenants = n;
    for (i = 0; i < n; i++)
        set->n_keys += list[i]->n_keys;
    randombytes_buf(set->secret, sizeof(set->secret));
    error = make_tables(&b, memory);
    for (i = 0; error == AXION_OK && i < n; i++)
        error = add_tenant(&b, list[i]);
    if (error == AXION_ERR_NO_MEMORY)
        snprintf(why, why_bytes, "out of memory");
    return error;
}


struct axion_match
axion_tenants_find_key(const struct axion_tenants *set,
                       const struct axion_key_hash *hash)
{
    struct axion_match match = {NULL, NULL};
    const struct axion_tenant_bucket *entry;

    if (set == NULL)
        return match;
    /* No early exit: every key of the bucket costs the same. */
    entry = set->by_key[bucket_of(set, hash->bytes, sizeof(hash->bytes))];
    for (; entry != NULL; entry = entry->next) {
        if (sodium_memcmp(entry->key->hash.bytes, hash->bytes,
                          sizeof(hash->bytes)) == 0) {
            match.tenant = entry->tenant;
            match.key = entry->key;
        }
    }
    return match;
}


const struct axion_tenant *
axion_tenants_find_name(const struct axion_tenants *set, const char *name,
                        size_t bytes)
{
    const struct axion_tenant_bucket *entry;

    if (set == NULL)
        return NULL;
    entry = set->by_name[bucket_of(set, name, bytes)];
    for (; entry != NULL; entry = entry->next) {
        if (texts_equal(&entry->tenant->name, name, bytes))
            return entry->tenant;
    }
    return NULL;
}


/* ---- what one may use ---- */


/* Length of the character at text, taking stray continuation bytes as
 * characters of their own. */
static size_t
character_bytes(const char *text, size_t bytes)
{
    size_t n = 1;

    while (n < bytes && ((unsigned char)text[n] & 0xc0) == 0x80)
        n++;
    return n;
}


int
axion_glob_match(const struct axion_text *pattern, const char *text,
                 size_t bytes)
{
    const char *p = pattern->data;
    size_t n = pattern->bytes, i = 0, t = 0;
    size_t star = SIZE_MAX, star_text = 0;

    /* Only the last `*` can need another try, so one pair of positions is
     * enough and no recursion. */
    for (;;) {
        if (i < n && p[i] == '*') {
            star = i++;
            star_text = t;
            continue;
        }
        if (t == bytes && i == n)
            return 1;
        if (t < bytes && i < n) {
            if (p[i] == '?') {
                i++;
                t += character_bytes(text + t, bytes - t);
                continue;
            }
            size_t quoted = p[i] == '\\' && i + 1 < n;

            if (p[i + quoted] == text[t]) {
                i += 1 + quoted;
                t++;
                continue;
            }
        }
        if (star == SIZE_MAX || star_text == bytes)
            return 0;
        t = ++star_text;
        i = star + 1;
    }
}


struct axion_identity
axion_identity_of(const struct axion_tenant *tenant,
                  const struct axion_key *key)
{
    struct axion_identity who = {
        .tenant = tenant,
        .key = key,
        .priority = tenant->priority,
        .max_context = tenant->max_context,
        .max_output = tenant->max_output,
    };

    return who;
}


static int
globs_match(const struct axion_text *globs, size_t n, const char *model,
            size_t bytes)
{
    size_t i;

    for (i = 0; i < n; i++) {
        if (axion_glob_match(&globs[i], model, bytes))
            return 1;
    }
    return n == 0;
}


int
axion_identity_may_use(const struct axion_identity *who, const char *model,
                       size_t bytes)
{
    const struct axion_tenant *tenant = who->tenant;

    return globs_match(tenant->models, tenant->n_models, model, bytes) &&
           globs_match(who->models, who->n_models, model, bytes);
}


struct axion_text
axion_tenant_model(const struct axion_tenant *tenant,
                   const struct axion_text *model)
{
    size_t i;

    for (i = 0; i < tenant->n_aliases; i++) {
        if (axion_glob_match(&tenant->aliases[i].name, model->data,
                             model->bytes))
            return tenant->aliases[i].model;
    }
    return *model;
}


uint64_t
axion_tenant_number(const char *name, size_t bytes)
{
    uint8_t digest[crypto_generichash_BYTES_MIN];
    uint64_t number;

    crypto_generichash(digest, sizeof(digest), (const unsigned char *)name,
                       bytes, NULL, 0);
    memcpy(&number, digest, sizeof(number));
    return number == 0 ? 1 : number;
}


void
axion_cache_salt(uint8_t salt[AXION_CACHE_SALT_BYTES],
                 const uint8_t secret[AXION_REALM_SECRET_BYTES],
                 const struct axion_tenant *tenant, const struct axion_key *key)
{
    crypto_generichash_state state;
    const struct axion_text *name = &tenant->name;
    /* A group must not be the realm of a tenant that has its name. */
    uint8_t scope = (uint8_t)tenant->cache_scope;

    if (tenant->cache_scope == AXION_CACHE_NONE) {
        randombytes_buf(salt, AXION_CACHE_SALT_BYTES);
        return;
    }
    if (tenant->cache_scope == AXION_CACHE_GROUP)
        name = &tenant->cache_group;
    crypto_generichash_init(&state, secret, AXION_REALM_SECRET_BYTES,
                            AXION_CACHE_SALT_BYTES);
    crypto_generichash_update(&state, &scope, 1);
    crypto_generichash_update(&state, (const unsigned char *)name->data,
                              name->bytes);
    if (tenant->cache_scope == AXION_CACHE_KEY && key != NULL) {
        static const unsigned char end = 0; /* of the name, none has it */

        crypto_generichash_update(&state, &end, 1);
        crypto_generichash_update(&state, key->hash.bytes,
                                  sizeof(key->hash.bytes));
        crypto_generichash_update(&state,
                                  (const unsigned char *)key->argon2id.data,
                                  key->argon2id.bytes);
    }
    crypto_generichash_final(&state, salt, AXION_CACHE_SALT_BYTES);
}
