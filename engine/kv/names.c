/* See names.h. */
#include "engine/kv/names.h"

#include <assert.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>


/* What is hashed; without padding, so that its bytes are its value. */
struct block_text {
    struct ax_kv_name parent;
    struct ax_kv_realm realm;
    int32_t tokens[AX_KV_BLOCK_TOKENS];
};

_Static_assert(sizeof(struct block_text) ==
                   16 + 32 + AX_KV_BLOCK_TOKENS * sizeof(int32_t),
               "no padding");
_Static_assert(AX_KV_KEY_BYTES == crypto_shorthash_KEYBYTES &&
                   sizeof(uint64_t) == crypto_shorthash_BYTES,
               "SipHash-2-4");
_Static_assert(AX_KV_KEY_BYTES == crypto_shorthash_siphashx24_KEYBYTES &&
                   sizeof(struct ax_kv_name) ==
                       crypto_shorthash_siphashx24_BYTES,
               "SipHash-2-4-128");


int
ax_kv_key_draw(struct ax_kv_key *key)
{
    if (sodium_init() < 0) {
        return AXION_ERR_SYSTEM;
    }
    randombytes_buf(key->bytes, sizeof(key->bytes));
    key->kind = 0;
    return AXION_OK;
}


void
ax_kv_key_name_kind(struct ax_kv_key *key, enum axk_kv_type type,
                    const char *numerics)
{
    char text[64];

    assert(type < AXK_KV_TYPE_END);
    int n = snprintf(text, sizeof(text), "%s %s", axk_kv_type_name(type),
                     numerics != NULL ? numerics : "common");
    assert(n > 0 && (size_t)n < sizeof(text));
    (void)crypto_shorthash((unsigned char *)&key->kind,
                           (const unsigned char *)text, (size_t)n, key->bytes);
}


void
ax_kv_chain_begin(struct ax_kv_chain *chain, const struct ax_kv_key *key,
                  const uint8_t salt[16], uint64_t owner, uint32_t n_shared)
{
    chain->n = 0;
    chain->n_shared = n_shared;
    chain->realm = (struct ax_kv_realm){.kind = key->kind};
    memcpy(chain->realm.word, salt, sizeof(chain->realm.word));
    chain->owner = owner;
    chain->key = key;
}


void
ax_kv_chain_extend(struct ax_kv_chain *chain, const int32_t *tokens,
                   uint32_t n_tokens)
{
    while (chain->n < n_tokens / AX_KV_BLOCK_TOKENS) {
        uint32_t i = chain->n;
        struct block_text text = {
            .parent = ax_kv_parent(chain, i),
            .realm = ax_kv_realm_of(chain, i),
        };
        memcpy(text.tokens, tokens + (size_t)i * AX_KV_BLOCK_TOKENS,
               sizeof(text.tokens));
        (void)crypto_shorthash_siphashx24((unsigned char *)&chain->names[i],
                                          (const unsigned char *)&text,
                                          sizeof(text), chain->key->bytes);
        chain->n++;
    }
}
