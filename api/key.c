/*
 * Keys out of headers and out of configurations.  Everything here is a pure
 * function of its arguments; hashing is libsodium's.
 */
#include "api/key.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "api/limits.h"
#include "api/tenant.h"
#include "shm/errors.h"

_Static_assert(AXION_KEY_HASH_BYTES == crypto_hash_sha256_BYTES, "SHA-256");


const char *
axion_key_fault(const struct axion_key *key, uint64_t now)
{
    if (key->disabled)
        return "the API key is disabled";
    if (key->expires != 0 && now >= key->expires)
        return "the API key has expired";
    return NULL;
}


static int
starts_with(const struct axion_text *text, const char *prefix)
{
    size_t n = strlen(prefix);

    return text->bytes >= n && memcmp(text->data, prefix, n) == 0;
}


static int
parse_sha256(struct axion_key *key, const char *hex, size_t digits, char *why,
             size_t why_bytes)
{
    size_t used;

    if (digits != 2 * AXION_KEY_HASH_BYTES) {
        snprintf(why, why_bytes, "sha256: needs 64 hex digits, there are %zu",
                 digits);
        return AXION_ERR_BAD_OPTION;
    }
    if (sodium_hex2bin(key->hash.bytes, sizeof(key->hash.bytes), hex, digits,
                       NULL, &used, NULL) != 0 ||
        used != sizeof(key->hash.bytes)) {
        snprintf(why, why_bytes,
                 "sha256: is followed by something that is not a hex digit");
        return AXION_ERR_BAD_OPTION;
    }
    return AXION_OK;
}


/* Whether libsodium can read it; it allocates to find out. */
static int
argon2id_valid(const char *text, int *no_memory)
{
    errno = 0;
    if (crypto_pwhash_str_needs_rehash(text, 1, crypto_pwhash_MEMLIMIT_MIN) >=
        0)
        return 1;
    *no_memory = errno == ENOMEM;
    return 0;
}


/*
 * "$argon2id$v=19$m=65536,t=2,p=1$..." as crypto_pwhash_str() writes it.  The
 * costs are bounded here, since a verification pays whatever they say;
 * libsodium itself checks the rest when it parses the string.
 */
static int
parse_argon2id(struct axion_key *key, const char *encoded, size_t bytes,
               const struct axion_memory *memory, char *why, size_t why_bytes)
{
    char text[crypto_pwhash_STRBYTES];
    unsigned memory_kib, passes, lanes;
    int end = 0, no_memory = 0;

    if (bytes >= sizeof(text)) {
        snprintf(why, why_bytes, "argon2id: is followed by too long a hash");
        return AXION_ERR_BAD_OPTION;
    }
    memset(text, 0, sizeof(text));
    memcpy(text, encoded, bytes);
    if (strlen(text) != bytes ||
        sscanf(text, "$argon2id$v=19$m=%9u,t=%9u,p=%9u$%n", &memory_kib,
               &passes, &lanes, &end) != 3 ||
        end == 0 || lanes != 1 || !argon2id_valid(text, &no_memory)) {
        snprintf(why, why_bytes,
                 "argon2id: needs a hash as `axion keygen --argon2id` writes "
                 "it ($argon2id$v=19$m=...,t=...,p=1$...)");
        return no_memory ? AXION_ERR_NO_MEMORY : AXION_ERR_BAD_OPTION;
    }
    if (memory_kib > AXION_ARGON2ID_MEMORY_KIB_MAX ||
        passes > AXION_ARGON2ID_PASSES_MAX) {
        snprintf(why, why_bytes,
                 "argon2id: costs more than m=%u,t=%u for each verification",
                 AXION_ARGON2ID_MEMORY_KIB_MAX, AXION_ARGON2ID_PASSES_MAX);
        return AXION_ERR_BAD_OPTION;
    }
    key->argon2id.data = axion_memory_copy(memory, text, bytes);
    key->argon2id.bytes = (uint32_t)bytes;
    return key->argon2id.data != NULL ? AXION_OK : AXION_ERR_NO_MEMORY;
}


static int
parse_digits(const char **p, unsigned digits, unsigned *value)
{
    *value = 0;
    for (; digits > 0; digits--, (*p)++) {
        if (**p < '0' || **p > '9')
            return 0;
        *value = *value * 10 + (unsigned)(**p - '0');
    }
    return 1;
}


static int
parse_literal(const char **p, char c)
{
    return **p == c ? (*p)++, 1 : 0;
}


/* YYYY-MM-DD, maybe with Thh:mm:ssZ behind it; 0: it is neither. */
static uint64_t
parse_time(const char *text, size_t bytes)
{
    char copy[sizeof("YYYY-MM-DDThh:mm:ssZ")] = "";
    unsigned year, month, day, hour = 0, minute = 0, second = 0;
    const char *p = copy;

    if (bytes >= sizeof(copy))
        return 0;
    memcpy(copy, text, bytes);
    if (!parse_digits(&p, 4, &year) || !parse_literal(&p, '-') ||
        !parse_digits(&p, 2, &month) || !parse_literal(&p, '-') ||
        !parse_digits(&p, 2, &day) || year < 1970 || month < 1 || month > 12 ||
        day < 1 || day > 31)
        return 0;
    if (parse_literal(&p, 'T') &&
        (!parse_digits(&p, 2, &hour) || !parse_literal(&p, ':') ||
         !parse_digits(&p, 2, &minute) || !parse_literal(&p, ':') ||
         !parse_digits(&p, 2, &second) || !parse_literal(&p, 'Z') ||
         hour > 23 || minute > 59 || second > 59))
        return 0;
    if (p != copy + bytes)
        return 0;
    return axion_month_start((year - 1970) * 12 + month - 1) +
           (day - 1) * 86400 + hour * 3600 + minute * 60 + second;
}


static int
parse_option(struct axion_key *key, const struct axion_text *word,
             const struct axion_memory *memory, char *why, size_t why_bytes)
{
    const char *value;
    size_t bytes;

    if (word->bytes == 8 && starts_with(word, "disabled") && !key->disabled) {
        key->disabled = 1;
        return AXION_OK;
    }
    if (starts_with(word, "name=") && key->name.data == NULL) {
        value = word->data + 5;
        bytes = word->bytes - 5;
        if (!axion_tenant_name_valid(value, bytes)) {
            snprintf(why, why_bytes, "name= needs 1 to %u of A-Z a-z 0-9 _ . -",
                     AXION_KEY_NAME_MAX);
            return AXION_ERR_BAD_OPTION;
        }
        key->name.data = axion_memory_copy(memory, value, bytes);
        key->name.bytes = (uint32_t)bytes;
        return key->name.data != NULL ? AXION_OK : AXION_ERR_NO_MEMORY;
    }
    if (starts_with(word, "expires=") && key->expires == 0) {
        key->expires = parse_time(word->data + 8, word->bytes - 8);
        if (key->expires != 0)
            return AXION_OK;
        snprintf(why, why_bytes,
                 "expires= needs YYYY-MM-DD or YYYY-MM-DDThh:mm:ssZ");
        return AXION_ERR_BAD_OPTION;
    }
    snprintf(why, why_bytes,
             "behind the hash there may be one each of name=, expires= and "
             "disabled");
    return AXION_ERR_BAD_OPTION;
}


int
axion_key_parse(struct axion_key *key, const struct axion_text *words,
                size_t n_words, const struct axion_memory *memory, char *why,
                size_t why_bytes)
{
    int error;
    size_t i;

    memset(key, 0, sizeof(*key));
    if (n_words >= 1 && starts_with(&words[0], "sha256:")) {
        error = parse_sha256(key, words[0].data + 7, words[0].bytes - 7, why,
                             why_bytes);
    } else if (n_words >= 1 && starts_with(&words[0], "argon2id:")) {
        error = parse_argon2id(key, words[0].data + 9, words[0].bytes - 9,
                               memory, why, why_bytes);
    } else {
        snprintf(why, why_bytes,
                 "a key is given as sha256: and the hash of the key in 64 hex "
                 "digits, or as argon2id: and a hash, never as the key "
                 "itself");
        error = AXION_ERR_BAD_OPTION;
    }
    for (i = 1; error == AXION_OK && i < n_words; i++)
        error = parse_option(key, &words[i], memory, why, why_bytes);
    return error;
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


int
axion_key_split(const struct axion_text *text, struct axion_text *tenant,
                struct axion_text *secret)
{
    const char *colon = memchr(text->data, ':', text->bytes);
    size_t n;

    if (colon == NULL)
        return 0;
    n = (size_t)(colon - text->data);
    if (!axion_tenant_name_valid(text->data, n) || n + 1 == text->bytes)
        return 0;
    tenant->data = text->data;
    tenant->bytes = (uint32_t)n;
    secret->data = colon + 1;
    secret->bytes = text->bytes - (uint32_t)n - 1;
    return 1;
}


int
axion_key_verify(const char *argon2id, const char *secret, size_t bytes)
{
    /* libsodium tells a mismatch from what went wrong by EINVAL alone. */
    errno = 0;
    if (crypto_pwhash_str_verify(argon2id, secret, bytes) == 0)
        return AXION_OK;
    return errno == EINVAL ? AXION_ERR_UNAUTHENTICATED : AXION_ERR_NO_MEMORY;
}
