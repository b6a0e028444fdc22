/*
 * What was found true of a secret, remembered for a while: that a chosen key
 * matches a hash, that a token's signature is good.  Bounded: a table of
 * fixed size, four places for each digest, the entry that ends first makes
 * room.  Secrets are not kept: an entry is found by a BLAKE2b of the question
 * with a key that the table drew for itself.
 *
 * A question is made of texts: all that the answer depends on, the stored
 * hash included.  So an entry can never be wrong, only old; clearing and
 * lifetimes are there so that nothing outlives its use.
 *
 * One thread.  Memory is the caller's, once, at open.
 */
#ifndef AXION_API_CACHE_H
#define AXION_API_CACHE_H

#include <stddef.h>
#include <stdint.h>
#include "api/memory.h"
#include "shm/request.h"

#define AXION_CACHE_DIGEST_BYTES 32u

struct axion_cache_digest {
    uint8_t bytes[AXION_CACHE_DIGEST_BYTES];
};

struct axion_cache {
    size_t n_sets; /* a power of two */
    size_t value_bytes;
    size_t entry_bytes;
    uint8_t *entries;
    uint8_t key[32];
};

/* Room for at least n_entries values of value_bytes.  AXION_OK, NO_MEMORY. */
int axion_cache_open(struct axion_cache *cache,
                     const struct axion_memory *memory, size_t n_entries,
                     size_t value_bytes);

/* Texts are told apart by their lengths: "a", "bc" is not "ab", "c". */
void axion_cache_ask(const struct axion_cache *cache,
                     const struct axion_text *texts, size_t n_texts,
                     struct axion_cache_digest *digest);

/* The value, or NULL: not known, or no longer.  Good until the next put. */
void *axion_cache_find(struct axion_cache *cache,
                       const struct axion_cache_digest *digest,
                       uint64_t now_ms);

/* The place for a value that ends at `until_ms`, to be filled at once. */
void *axion_cache_put(struct axion_cache *cache,
                      const struct axion_cache_digest *digest,
                      uint64_t until_ms);

void axion_cache_clear(struct axion_cache *cache);

#endif
