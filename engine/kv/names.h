/*
 * Names of KV blocks: a chain of SipHash-2-4 with 128 bits (libsodium) under
 * a key that is drawn at start and never leaves the process, so that nobody
 * can compute a block with another one's name (CVE-2025-25183 was a
 * predictable hash).  A block's name covers the name before it, the realm and
 * its tokens; the realm says of which kind the KV is.
 *
 * Immutable key, no shared state: the text helper names a prompt's blocks,
 * thread 0 those of the answer.
 */
#ifndef AX_KV_NAMES_H
#define AX_KV_NAMES_H

#include "engine/kv/cache.h"


#define AX_KV_KEY_BYTES 16u


struct ax_kv_key {
    uint8_t bytes[AX_KV_KEY_BYTES];
    uint64_t kind; /* part of every realm; 0 until it is named */
};


/* AXION_ERR_SYSTEM when libsodium cannot start. */
int ax_kv_key_draw(struct ax_kv_key *key);

/*
 * Of which kind the KV is that this key names: how it is stored and the class
 * of numerics that computes it (struct axk_ops; NULL: the common definition).
 * Blocks of two kinds never have one name or one realm.  Once, behind draw.
 */
void ax_kv_key_name_kind(struct ax_kv_key *key, enum axk_kv_type type,
                         const char *numerics);

/* Starts a chain; salt is a tenant's 16 bytes. */
void ax_kv_chain_begin(struct ax_kv_chain *chain, const struct ax_kv_key *key,
                       const uint8_t salt[16], uint64_t owner,
                       uint32_t n_shared);

/* Names all full blocks of tokens[0 .. n_tokens) that have none yet. */
void ax_kv_chain_extend(struct ax_kv_chain *chain, const int32_t *tokens,
                        uint32_t n_tokens);

#endif /* AX_KV_NAMES_H */
