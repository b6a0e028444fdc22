/*
 * A table of sets of four entries.  An entry is its digest, the time it ends
 * (0: it is free) and the value behind them.
 */
#include "api/cache.h"

#include <sodium.h>
#include <string.h>

#define WAYS 4u

struct entry {
    uint8_t digest[AXION_CACHE_DIGEST_BYTES];
    uint64_t until_ms;
};

_Static_assert(AXION_CACHE_DIGEST_BYTES >= crypto_generichash_BYTES_MIN &&
                   AXION_CACHE_DIGEST_BYTES <= crypto_generichash_BYTES_MAX,
               "sizes that libsodium would abort on");


int
axion_cache_open(struct axion_cache *cache, const struct axion_memory *memory,
                 size_t n_entries, size_t value_bytes)
{
    memset(cache, 0, sizeof(*cache));
    cache->n_sets = 1;
    while (cache->n_sets * WAYS < n_entries)
        cache->n_sets *= 2;
    cache->value_bytes = value_bytes;
    cache->entry_bytes = sizeof(struct entry) + (value_bytes + 7) / 8 * 8;
    cache->entries = memory->alloc(memory->context,
                                   cache->n_sets * WAYS * cache->entry_bytes);
    if (cache->entries == NULL)
        return AXION_ERR_NO_MEMORY;
    randombytes_buf(cache->key, sizeof(cache->key));
    axion_cache_clear(cache);
    return AXION_OK;
}


void
axion_cache_ask(const struct axion_cache *cache, const struct axion_text *texts,
                size_t n_texts, struct axion_cache_digest *digest)
{
    crypto_generichash_state state;
    size_t i;

    crypto_generichash_init(&state, cache->key, sizeof(cache->key),
                            sizeof(digest->bytes));
    for (i = 0; i < n_texts; i++) {
        uint32_t bytes = texts[i].bytes;

        crypto_generichash_update(&state, (const uint8_t *)&bytes,
                                  sizeof(bytes));
        crypto_generichash_update(&state, (const uint8_t *)texts[i].data,
                                  bytes);
    }
    crypto_generichash_final(&state, digest->bytes, sizeof(digest->bytes));
}


static struct entry *
entry_at(const struct axion_cache *cache,
         const struct axion_cache_digest *digest, size_t way)
{
    uint64_t set;

    memcpy(&set, digest->bytes, sizeof(set));
    set &= cache->n_sets - 1;
    return (struct entry *)(cache->entries +
                            (set * WAYS + way) * cache->entry_bytes);
}


void *
axion_cache_find(struct axion_cache *cache,
                 const struct axion_cache_digest *digest, uint64_t now_ms)
{
    size_t way;

    for (way = 0; way < WAYS; way++) {
        struct entry *e = entry_at(cache, digest, way);

        if (e->until_ms > now_ms &&
            sodium_memcmp(e->digest, digest->bytes, sizeof(e->digest)) == 0)
            return e + 1;
    }
    return NULL;
}


void *
axion_cache_put(struct axion_cache *cache,
                const struct axion_cache_digest *digest, uint64_t until_ms)
{
    struct entry *place = entry_at(cache, digest, 0);
    size_t way;

    for (way = 0; way < WAYS; way++) {
        struct entry *e = entry_at(cache, digest, way);

        if (memcmp(e->digest, digest->bytes, sizeof(e->digest)) == 0) {
            place = e;
            break;
        }
        if (e->until_ms < place->until_ms)
            place = e;
    }
    memcpy(place->digest, digest->bytes, sizeof(place->digest));
    place->until_ms = until_ms;
    memset(place + 1, 0, cache->value_bytes);
    return place + 1;
}


void
axion_cache_clear(struct axion_cache *cache)
{
    sodium_memzero(cache->entries, cache->n_sets * WAYS * cache->entry_bytes);
}
