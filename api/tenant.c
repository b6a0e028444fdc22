/*
 * Keys, tenants and what they may use.  Everything here is a pure function
 * of its arguments; hashing is libsodium's.
 */
#include "api/tenant.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "shm/errors.h"

_Static_assert(AXION_KEY_HASH_BYTES == crypto_hash_sha256_BYTES, "SHA-256");
_Static_assert(AXION_CACHE_SALT_BYTES >= crypto_generichash_BYTES_MIN &&
                   AXION_REALM_SECRET_BYTES >= crypto_generichash_KEYBYTES_MIN,
               "sizes that libsodium would abort on");


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


int
axion_key_spec_parse(struct axion_key_hash *hash, const char *spec,
                     size_t bytes, char *why, size_t why_bytes)
{
    static const char scheme[] = "sha256:";
    size_t n = sizeof(scheme) - 1, digits, used;

    if (bytes < n || memcmp(spec, scheme, n) != 0) {
        snprintf(why, why_bytes,
                 "a key is given as sha256: and the hash of the key in 64 hex "
                 "digits, never as the key itself");
        return AXION_ERR_BAD_OPTION;
    }
    digits = bytes - n;
    if (digits != 2 * AXION_KEY_HASH_BYTES) {
        snprintf(why, why_bytes, "sha256: needs 64 hex digits, there are %zu",
                 digits);
        return AXION_ERR_BAD_OPTION;
    }
    if (sodium_hex2bin(hash->bytes, sizeof(hash->bytes), spec + n, digits, NULL,
                       &used, NULL) != 0 ||
        used != sizeof(hash->bytes)) {
        snprintf(why, why_bytes,
                 "sha256: is followed by something that is not a hex digit");
        return AXION_ERR_BAD_OPTION;
    }
    return AXION_OK;
}


int
axion_priority_parse(uint32_t *priority, const char *text, size_t bytes)
{
    static const char *const names[] = {"low", "normal", "high"};
    uint32_t i;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strlen(names[i]) == bytes && memcmp(names[i], text, bytes) == 0) {
            *priority = i;
            return AXION_OK;
        }
    }
    return AXION_ERR_BAD_OPTION;
}


static int
is_blank(char c)
{
    return c == ' ' || c == '\t';
}


/* A key is one word of printable ASCII. */
static int
key_from_word(const char *data, size_t bytes, struct axion_text *key)
{
    size_t i;

    while (bytes > 0 && is_blank(data[0])) {
        data++;
        bytes--;
    }
    while (bytes > 0 && is_blank(data[bytes - 1]))
        bytes--;
    if (bytes == 0 || bytes > AXION_API_KEY_BYTES_MAX)
        return AXION_ERR_UNAUTHENTICATED;
    for (i = 0; i < bytes; i++) {
        if (data[i] <= 0x20 || data[i] >= 0x7f)
            return AXION_ERR_UNAUTHENTICATED;
    }
    key->data = data;
    key->bytes = (uint32_t)bytes;
    return AXION_OK;
}


int
axion_key_from_headers(const struct axion_text *authorization,
                       const struct axion_text *x_api_key,
                       struct axion_text *key)
{
    static const char scheme[] = "Bearer";
    size_t n = sizeof(scheme) - 1;

    if (authorization->data != NULL) {
        const char *data = authorization->data;
        size_t bytes = authorization->bytes;

        while (bytes > 0 && is_blank(data[0])) {
            data++;
            bytes--;
        }
        if (bytes <= n || strncasecmp(data, scheme, n) != 0 ||
            !is_blank(data[n]))
            return AXION_ERR_UNAUTHENTICATED;
        return key_from_word(data + n, bytes - n, key);
    }
    if (x_api_key->data != NULL)
        return key_from_word(x_api_key->data, x_api_key->bytes, key);
    return AXION_ERR_UNAUTHENTICATED;
}


void
axion_key_hash(struct axion_key_hash *hash, const char *key, size_t bytes)
{
    crypto_hash_sha256(hash->bytes, (const unsigned char *)key, bytes);
}


const struct axion_tenant *
axion_tenant_find(const struct axion_tenant *const *tenants, size_t n_tenants,
                  const struct axion_key_hash *hash)
{
    const struct axion_tenant *found = NULL;
    size_t i, k;

    /* No early exit: every key costs the same, match or not. */
    for (i = 0; i < n_tenants; i++) {
        for (k = 0; k < tenants[i]->n_keys; k++) {
            if (sodium_memcmp(tenants[i]->keys[k].bytes, hash->bytes,
                              sizeof(hash->bytes)) == 0)
                found = tenants[i];
        }
    }
    return found;
}


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


int
axion_tenant_may_use(const struct axion_tenant *tenant, const char *model,
                     size_t bytes)
{
    size_t i;

    if (tenant->n_models == 0)
        return 1;
    for (i = 0; i < tenant->n_models; i++) {
        if (axion_glob_match(&tenant->models[i], model, bytes))
            return 1;
    }
    return 0;
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
                 const char *name, size_t bytes)
{
    crypto_generichash(salt, AXION_CACHE_SALT_BYTES,
                       (const unsigned char *)name, bytes, secret,
                       AXION_REALM_SECRET_BYTES);
}
