/*
 * Writing pack files; packfile.h has the layout.  The file grows beside its
 * name and is renamed when it is whole and on disk, so that nobody ever maps
 * half of one, and an engine that has the old one mapped keeps it.
 */
#include "engine/model/packfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "engine/model/packinternal.h"


static int
write_at(int fd, uint64_t offset, const void *data, uint64_t n,
         struct ax_error *err)
{
    for (uint64_t done = 0; done < n;) {
        uint64_t left = n - done;
        ssize_t put = pwrite(fd, (const char *)data + done,
                             left < 1u << 30 ? (size_t)left : 1u << 30,
                             (off_t)(offset + done));
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0) {
            return ax_error_set(err, AXION_ERR_SYSTEM,
                                "cannot write the pack file: %s",
                                strerror(errno));
        }
        done += (uint64_t)put;
    }
    return AXION_OK;
}


static int
changed(const struct ax_gguf *gguf, struct ax_error *err)
{
    return ax_error_set(err, AXION_ERR_MODEL_FILE,
                        "%s: changed while it was packed", ax_gguf_label(gguf));
}


static bool
is_as_opened(const struct ax_gguf *gguf, int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 &&
           (uint64_t)st.st_size == ax_gguf_file_bytes(gguf) &&
           ax_pack_mtime_ns(&st) == ax_gguf_mtime_ns(gguf);
}


/* The pack would take the source's place, and be all that is left of it. */
static bool
is_source(const char *path, int fd)
{
    struct stat a, b;

    return stat(path, &a) == 0 && fstat(fd, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}


/* Who the source is; it must still be what was loaded. */
static int
describe_source(struct ax_pack_header *h, const struct ax_gguf *gguf,
                const char *out, struct ax_error *err)
{
    char *path = realpath(ax_gguf_path(gguf), NULL);
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;

    h->source_bytes = ax_gguf_file_bytes(gguf);
    h->source_mtime_ns = ax_gguf_mtime_ns(gguf);
    int rc = AXION_OK;
    if (fd < 0 || !is_as_opened(gguf, fd)) {
        rc = changed(gguf, err);
    } else if (is_source(out, fd)) {
        rc = ax_error_set(err, AXION_ERR_BAD_OPTION,
                          "%s: the pack file would replace it",
                          ax_gguf_label(gguf));
    } else if (strlen(path) >= sizeof(h->source)) {
        rc = ax_error_set(err, AXION_ERR_SYSTEM, "%s: its path is too long",
                          ax_gguf_label(gguf));
    } else {
        memcpy(h->source, path, strlen(path));
        rc = ax_pack_hash_source(fd, h->source_bytes, h->source_hash,
                                 ax_gguf_label(gguf), err);
    }
    if (rc == AXION_OK && !is_as_opened(gguf, fd)) {
        rc = changed(gguf, err);
    }
    if (fd >= 0) {
        close(fd);
    }
    free(path);
    return rc;
}


static uint8_t *
make_tags(const struct ax_pack *pack, const struct ax_arena *arena)
{
    uint64_t bytes = pack->header.payload_bytes;
    uint8_t *tags = malloc((size_t)pack->n_pieces * AX_PACK_TAG);

    for (uint64_t i = 0; tags != NULL && i < pack->n_pieces; i++) {
        uint64_t at = i * AX_PACK_PIECE, left = bytes - at;
        ax_pack_tag(tags + i * AX_PACK_TAG, (const char *)arena->base + at,
                    left < AX_PACK_PIECE ? (size_t)left : AX_PACK_PIECE);
    }
    return tags;
}


static int
write_all(int fd, const struct ax_pack *pack, const void *gguf,
          const uint8_t *tags, const struct ax_arena *arena,
          struct ax_error *err)
{
    const struct ax_pack_header *h = &pack->header;
    int rc = write_at(fd, 0, h, sizeof(*h), err);

    if (rc == AXION_OK) {
        rc = write_at(fd, AX_PACK_GGUF, gguf, h->gguf_bytes, err);
    }
    if (rc == AXION_OK) {
        rc = write_at(fd, pack->tags_offset, tags, pack->n_pieces * AX_PACK_TAG,
                      err);
    }
    if (rc == AXION_OK) {
        rc = write_at(fd, pack->payload_offset, arena->base, h->payload_bytes,
                      err);
    }
    if (rc == AXION_OK && fsync(fd) != 0) {
        rc = ax_error_set(err, AXION_ERR_SYSTEM,
                          "cannot write the pack file: %s", strerror(errno));
    }
    return rc;
}


/* To a file beside path, then over it. */
static int
replace(const char *path, const struct ax_pack *pack, const void *gguf,
        const uint8_t *tags, const struct ax_arena *arena, struct ax_error *err)
{
    char part[4096];
    int n = snprintf(part, sizeof(part), "%s.part", path);
    int fd = n > 0 && (size_t)n < sizeof(part)
                 ? open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)
                 : -1;

    if (fd < 0) {
        return ax_error_set(
            err, AXION_ERR_SYSTEM, "cannot write the pack file: %s",
            n >= (int)sizeof(part) ? "its path is too long" : strerror(errno));
    }
    int rc = write_all(fd, pack, gguf, tags, arena, err);
    if (close(fd) != 0 && rc == AXION_OK) {
        rc = ax_error_set(err, AXION_ERR_SYSTEM,
                          "cannot write the pack file: %s", strerror(errno));
    }
    if (rc == AXION_OK && rename(part, path) != 0) {
        rc = ax_error_set(err, AXION_ERR_SYSTEM,
                          "cannot put the pack file in its place: %s",
                          strerror(errno));
    }
    if (rc != AXION_OK) {
        (void)unlink(part);
    }
    return rc;
}


int
ax_pack_write(const char *path, const struct ax_gguf *gguf,
              const struct ax_plan *plan, const struct ax_arena *arena,
              struct ax_error *err)
{
    struct ax_pack pack = {
        .header = {.magic = AX_PACK_MAGIC,
                   .version = AX_PACK_VERSION,
                   .layout_version = AXK_LAYOUT_VERSION,
                   .layout = AXK_LAYOUT_CLASS,
                   .made_by = "axion " AXION_VERSION,
                   .payload_bytes = ax_pack_payload_bytes(arena->used)}};
    struct ax_pack_header *h = &pack.header;
    const void *header = ax_gguf_header(gguf, &h->gguf_bytes);

    if (h->payload_bytes > arena->bytes ||
        h->payload_bytes > AX_PACK_PAYLOAD_MAX) {
        return ax_error_set(err, AXION_ERR_MODEL_UNSUPPORTED,
                            "%llu bytes of weights are too many to pack",
                            (unsigned long long)arena->used);
    }
    if (sodium_init() < 0) {
        return ax_error_set(err, AXION_ERR_SYSTEM, "libsodium does not start");
    }
    int rc = describe_source(h, gguf, path, err);
    if (rc != AXION_OK) {
        return rc;
    }
    ax_pack_places(&pack);
    uint8_t *tags = make_tags(&pack, arena);
    if (tags == NULL) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    ax_pack_hash(h->tags_hash, tags, (size_t)pack.n_pieces * AX_PACK_TAG);
    ax_pack_hash(h->gguf_hash, header, (size_t)h->gguf_bytes);
    ax_pack_plan_hash(plan, h->plan_hash);
    ax_pack_seal(h);
    rc = replace(path, &pack, header, tags, arena, err);
    free(tags);
    return rc;
}
