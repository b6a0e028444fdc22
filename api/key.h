/*
 * API keys: out of a request's headers, out of a line of the configuration,
 * and new ones.  A key itself is never stored; of two kinds of it there is a
 * hash:
 *
 *   sha256:HEX        for keys of high entropy (`axion keygen`).  Looked up
 *                     by the hash of what the client sent.
 *   argon2id:$argon2id$v=19$m=...,t=...,p=1$SALT$HASH
 *                     for keys that a person chose.  Too costly to try for
 *                     every tenant, so such a key is sent as TENANT:SECRET
 *                     and only this tenant's hashes are tried; off the event
 *                     loop, since one takes tens of milliseconds.
 *
 * Which header counts: `Authorization: Bearer KEY` if there is an
 * Authorization header at all, else `x-api-key: KEY`.  An Authorization of
 * another scheme, or an empty key, is no key; it does not fall back to
 * x-api-key, so that a proxy's check and ours cannot see different ones.
 */
#ifndef AXION_API_KEY_H
#define AXION_API_KEY_H

#include <stddef.h>
#include <stdint.h>
#include "api/memory.h"
#include "shm/request.h"

#define AXION_KEY_HASH_BYTES    32u
#define AXION_KEY_NAME_MAX      64u
#define AXION_API_KEY_BYTES_MAX 8192u /* a JWT is sent as a key is */

/* What one verification may cost: memory in KiB, passes over it. */
#define AXION_ARGON2ID_MEMORY_KIB_MAX (256u * 1024u)
#define AXION_ARGON2ID_PASSES_MAX     10u

struct axion_key_hash {
    uint8_t bytes[AXION_KEY_HASH_BYTES];
};

struct axion_key {
    struct axion_key_hash hash; /* of SHA-256 */
    struct axion_text argon2id; /* with a NUL behind it; else data NULL */
    struct axion_text name;     /* data NULL: it has none */
    uint64_t expires;           /* seconds since 1970; 0: never */
    uint32_t disabled;
};

/* Why the key is no good at `now` (seconds since 1970), for its owner to
 * read; NULL: it is good. */
const char *axion_key_fault(const struct axion_key *key, uint64_t now);

/*
 * The words behind `key` in a tenant's block:
 *
 *   sha256:HEX | argon2id:... [name=NAME] [expires=TIME] [disabled]
 *
 * TIME is YYYY-MM-DD or YYYY-MM-DDThh:mm:ssZ, UTC.  Texts are copied into
 * `memory`.  AXION_OK, NO_MEMORY, or BAD_OPTION with a reason that repeats
 * nothing of the first word: it may be a key in plain text.
 */
int axion_key_parse(struct axion_key *key, const struct axion_text *words,
                    size_t n_words, const struct axion_memory *memory,
                    char *why, size_t why_bytes);

/*
 * The key out of the two headers; a header that was not sent has data NULL.
 * AXION_OK, or UNAUTHENTICATED when there is none.
 */
int axion_key_from_headers(const struct axion_text *authorization,
                           const struct axion_text *x_api_key,
                           struct axion_text *key);

void axion_key_hash(struct axion_key_hash *hash, const char *key, size_t bytes);

/*
 * TENANT:SECRET of a key that may be a chosen one.  1 with both filled, or 0
 * where the text is none.
 */
int axion_key_split(const struct axion_text *text, struct axion_text *tenant,
                    struct axion_text *secret);

/* AXION_OK when `argon2id` (of a key, with its NUL) was made from `secret`,
 * UNAUTHENTICATED when not, NO_MEMORY when it could not be tried.  Takes as
 * long as the hash says: never on an event loop. */
int axion_key_verify(const char *argon2id, const char *secret, size_t bytes);

#endif
