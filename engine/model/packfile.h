/*
 * Pack files: a model's weights as the kernels read them, made ahead of time by
 * `axion pack`, mapped read-only and used in place, so that start-up packs
 * nothing and several engines share one copy in the page cache.
 *
 * What lies where, all numbers little-endian:
 *
 *     0                      struct ax_pack_header
 *     AX_PACK_GGUF           the GGUF file's own header, gguf_bytes of it
 *     64-byte boundary       tags: 16 bytes for each MiB of the weights
 *     2 MiB boundary         the weights, payload_bytes, the end of the file
 *
 * There is no directory of tensors: the weights lie as weights.c places them
 * for the plan that the GGUF header describes, and plan_hash names that order,
 * every tensor's format and shape.  A program that places them otherwise has
 * another hash and refuses the file.  So nothing in the file is an offset that
 * could lead astray, and all that is parsed is the GGUF header, by its parser.
 *
 * Checked at every load, each with an error of its own: the header's hash, the
 * versions of file and of the kernels' layout, the file's length, the GGUF
 * header's hash, every tag (a few tens of milliseconds per GB, since the pages
 * have to come in anyway), and that the source, where it still lies beside the
 * pack or where it was packed from, is the one that was packed: by size and
 * time of change, by its content where only the time differs.
 *
 * Hashes are libsodium's BLAKE2b; tags are Poly1305 under a fixed key, four
 * times as fast, which no accident gets past.  They are no signature: who may
 * write the file may serve what he likes.
 *
 * The file is not to be changed in place while it is in use (`axion pack`
 * replaces it by rename): cut short under a running engine it is a SIGBUS.
 */
#ifndef AX_PACKFILE_H
#define AX_PACKFILE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/error.h"
#include "engine/gguf/gguf.h"
#include "engine/model/plan.h"
#include "engine/pool/arena.h"


#define AX_PACK_MAGIC         "AXPACK\r\n" /* 8 bytes, no terminator */
#define AX_PACK_VERSION       1u
#define AX_PACK_GGUF          4096u
#define AX_PACK_PIECE         (1u << 20)
#define AX_PACK_TAG           16u
#define AX_PACK_HASH          32u
#define AX_PACK_PAYLOAD_MAX   (1ull << 42)
#define AX_PACK_SOURCE_BYTES  1024u
#define AX_PACK_PAYLOAD_ALIGN (2ull << 20)


struct ax_pack_header {
    char magic[8];
    uint32_t version;
    uint32_t layout_version; /* AXK_LAYOUT_VERSION */
    char layout[16];         /* AXK_LAYOUT_CLASS, padded with zeros */
    char made_by[32];        /* "axion 0.1.0", likewise */
    uint64_t gguf_bytes;
    uint64_t payload_bytes;
    uint64_t source_bytes; /* of the GGUF file */
    int64_t source_mtime_ns;
    uint8_t source_hash[AX_PACK_HASH]; /* over the tags of its MiBs */
    uint8_t plan_hash[AX_PACK_HASH];
    uint8_t gguf_hash[AX_PACK_HASH];
    uint8_t tags_hash[AX_PACK_HASH];
    char source[AX_PACK_SOURCE_BYTES]; /* absolute path, padded with zeros */
    uint8_t header_hash[AX_PACK_HASH]; /* of all before */
};


/* An open pack file whose header is good. */
struct ax_pack {
    int fd;
    char label[96];
    struct ax_pack_header header;
    uint64_t tags_offset;
    uint64_t payload_offset;
    uint64_t n_pieces;
};


/*
 * Opens path and checks its header and its source.  AXION_AGAIN: it is no pack
 * file, or cannot be opened; err untouched.  AXION_ERR_MODEL_FILE (damaged, cut
 * short, stale), AXION_ERR_MODEL_UNSUPPORTED (of another version or layout),
 * AXION_ERR_SYSTEM, AXION_ERR_NO_MEMORY.
 */
int ax_pack_open(struct ax_pack *pack, const char *path, struct ax_error *err);
void ax_pack_close(struct ax_pack *pack);

/* The GGUF header inside; path is what error lines call it. */
int ax_pack_gguf(const struct ax_pack *pack, struct ax_gguf **out,
                 const char *path, struct ax_error *err);

/* The GGUF header of a pack file or of a GGUF file, whichever path is: for who
 * looks at metadata alone. */
int ax_pack_or_gguf_open(struct ax_gguf **out, const char *path,
                         struct ax_error *err);

/*
 * What a pack file has for so many bytes of weights: whole pages, with room for
 * what kernels may read, not use, behind the last matrix.
 */
uint64_t ax_pack_payload_bytes(uint64_t weight_bytes);

/*
 * Checks the plan and all weights, of which it places weight_bytes, then maps
 * them.  n_threads read; progress (may be NULL) is told 0 .. 1000.  The arena
 * must be zeroed.
 */
int ax_pack_map(const struct ax_pack *pack, const struct ax_plan *plan,
                uint64_t weight_bytes, uint32_t n_threads,
                void (*progress)(void *context, uint32_t permille),
                void *context, struct ax_arena *arena, struct ax_error *err);

/*
 * Writes path from a loaded model: beside it first, then renamed over it.
 * AXION_ERR_MODEL_FILE when the source has changed since it was opened,
 * AXION_ERR_BAD_OPTION when path is the source, AXION_ERR_SYSTEM.
 */
int ax_pack_write(const char *path, const struct ax_gguf *gguf,
                  const struct ax_plan *plan, const struct ax_arena *arena,
                  struct ax_error *err);

/* Puts the hash of all before it into header_hash. */
void ax_pack_seal(struct ax_pack_header *header);

#endif /* AX_PACKFILE_H */
