/*
 * libFuzzer: two sizes, and any metadata behind them, as a pack file whose
 * weights are zeros.  What the hashes would stop is let through by making them
 * right, so that only bounds are left to hold.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/model/model.h"
#include "engine/model/packinternal.h"

#define PAYLOAD_MAX (8u << 20) /* of files that are whole; they are sparse */


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static void
put(int fd, const void *data, size_t n, uint64_t at)
{
    if (pwrite(fd, data, n, (off_t)at) != (ssize_t)n) {
        abort();
    }
}


/* Tags of zeros, and the length that the header asks for. */
static void
make_whole(int fd, struct ax_pack *pack)
{
    static const uint8_t zeros[AX_PACK_PIECE];
    struct ax_pack_header *h = &pack->header;
    uint8_t tags[PAYLOAD_MAX / AX_PACK_PIECE * AX_PACK_TAG];

    ax_pack_places(pack);
    for (uint64_t i = 0; i < pack->n_pieces; i++) {
        uint64_t left = h->payload_bytes - i * AX_PACK_PIECE;
        ax_pack_tag(tags + i * AX_PACK_TAG, zeros,
                    left < AX_PACK_PIECE ? (size_t)left : AX_PACK_PIECE);
    }
    ax_pack_hash(h->tags_hash, tags, (size_t)pack->n_pieces * AX_PACK_TAG);
    put(fd, tags, (size_t)pack->n_pieces * AX_PACK_TAG, pack->tags_offset);
    if (ftruncate(fd, (off_t)(pack->payload_offset + h->payload_bytes)) != 0) {
        abort();
    }
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ax_pack pack = {.header = {.magic = AX_PACK_MAGIC,
                                      .version = AX_PACK_VERSION,
                                      .layout_version = AXK_LAYOUT_VERSION,
                                      .layout = AXK_LAYOUT_CLASS,
                                      .source_bytes = 1ull << 40}};
    struct ax_pack_header *h = &pack.header;
    struct ax_model *m;
    char path[64];

    if (size <= 16) {
        return 0;
    }
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0) {
        abort();
    }
    memcpy(&h->gguf_bytes, data, 8);
    memcpy(&h->payload_bytes, data + 8, 8);
    data += 16;
    size -= 16;
    put(fd, data, size, AX_PACK_GGUF);
    if (h->gguf_bytes <= size) {
        ax_pack_hash(h->gguf_hash, data, (size_t)h->gguf_bytes);
    }
    if (h->gguf_bytes <= size && h->payload_bytes <= PAYLOAD_MAX) {
        make_whole(fd, &pack);
    }
    ax_pack_seal(h);
    put(fd, h, sizeof(*h), 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    struct ax_model_options options = {.path = path, .n_threads = 1};
    (void)ax_model_open(&m, &options, NULL);
    ax_model_close(m);
    close(fd);
    return 0;
}
