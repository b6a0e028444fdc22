/*
 * Reading pack files; packfile.h has the layout and what is checked.
 * packwrite.c writes them; both share packinternal.h.
 */
#include "engine/model/packfile.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#include "engine/model/packinternal.h"
#include "engine/pool/pool.h"


/* Kernels may read, not use, up to this much behind the last matrix. */
#define SLACK 64u
#define PAGE  4096u

/* Pieces between two reports of progress, all threads together. */
#define BATCH_PIECES 64u


void
ax_pack_hash(uint8_t hash[AX_PACK_HASH], const void *data, size_t n)
{
    /* Fails only for sizes that are not constants. */
    (void)crypto_generichash(hash, AX_PACK_HASH, data, n, NULL, 0);
}


void
ax_pack_tag(uint8_t tag[AX_PACK_TAG], const void *data, size_t n)
{
    static const uint8_t key[crypto_onetimeauth_KEYBYTES] =
        "axion pack: one key for all tags";

    (void)crypto_onetimeauth(tag, data, n, key);
}


void
ax_pack_seal(struct ax_pack_header *header)
{
    ax_pack_hash(header->header_hash, header,
                 offsetof(struct ax_pack_header, header_hash));
}


void
ax_pack_places(struct ax_pack *pack)
{
    const struct ax_pack_header *h = &pack->header;
    uint64_t align = AX_PACK_PAYLOAD_ALIGN;

    pack->n_pieces = (h->payload_bytes + AX_PACK_PIECE - 1) / AX_PACK_PIECE;
    pack->tags_offset = (AX_PACK_GGUF + h->gguf_bytes + 63) & ~63ull;
    pack->payload_offset =
        (pack->tags_offset + pack->n_pieces * AX_PACK_TAG + align - 1) &
        ~(align - 1);
}


/* AXION_OK, AXION_AGAIN at the file's end before n bytes, or SYSTEM. */
static int
read_at(int fd, uint64_t offset, void *dst, size_t n, const char *label,
        struct ax_error *err)
{
    size_t done = 0;

    while (done < n) {
        ssize_t got =
            pread(fd, (char *)dst + done, n - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return ax_error_set(err, AXION_ERR_SYSTEM, "%s: read failed: %s",
                                label, strerror(errno));
        }
        if (got == 0) {
            return AXION_AGAIN;
        }
        done += (size_t)got;
    }
    return AXION_OK;
}


static int
cut_short(const struct ax_pack *pack, struct ax_error *err)
{
    return ax_error_set(err, AXION_ERR_MODEL_FILE,
                        "%s: the pack file became shorter while it was read",
                        pack->label);
}


static int
read_pack(const struct ax_pack *pack, uint64_t offset, void *dst, size_t n,
          struct ax_error *err)
{
    int rc = read_at(pack->fd, offset, dst, n, pack->label, err);

    return rc == AXION_AGAIN ? cut_short(pack, err) : rc;
}


/* ---- the header ---- */

static int
check_versions(const struct ax_pack *pack, struct ax_error *err)
{
    const struct ax_pack_header *h = &pack->header;
    char layout[sizeof(h->layout) * 4 + 1];
    static const char ours[sizeof(h->layout)] = AXK_LAYOUT_CLASS;

    if (h->version != AX_PACK_VERSION) {
        return ax_error_set(err, AXION_ERR_MODEL_UNSUPPORTED,
                            "%s: a pack file of version %u, this axion reads "
                            "%u: pack the model again",
                            pack->label, h->version, AX_PACK_VERSION);
    }
    if (memcmp(h->layout, ours, sizeof(ours)) != 0 ||
        h->layout_version != AXK_LAYOUT_VERSION) {
        size_t n = strnlen(h->layout, sizeof(h->layout));
        return ax_error_set(
            err, AXION_ERR_MODEL_UNSUPPORTED,
            "%s: packed in layout \"%s\" %u, the kernels here read "
            "\"%s\" %u: pack the model again",
            pack->label, ax_error_escape(layout, sizeof(layout), h->layout, n),
            h->layout_version, AXK_LAYOUT_CLASS, AXK_LAYOUT_VERSION);
    }
    return AXION_OK;
}


static int
check_sizes(struct ax_pack *pack, struct ax_error *err)
{
    const struct ax_pack_header *h = &pack->header;
    struct stat st;

    if (h->gguf_bytes == 0 || h->gguf_bytes > AX_GGUF_HEADER_MAX ||
        h->payload_bytes == 0 || h->payload_bytes > AX_PACK_PAYLOAD_MAX ||
        memchr(h->source, '\0', sizeof(h->source)) == NULL) {
        return ax_error_set(err, AXION_ERR_MODEL_FILE,
                            "%s: sizes out of range: %llu bytes of metadata, "
                            "%llu of weights",
                            pack->label, (unsigned long long)h->gguf_bytes,
                            (unsigned long long)h->payload_bytes);
    }
    ax_pack_places(pack);
    uint64_t bytes = pack->payload_offset + h->payload_bytes;
    if (fstat(pack->fd, &st) != 0) {
        return ax_error_set(err, AXION_ERR_SYSTEM, "%s: fstat: %s", pack->label,
                            strerror(errno));
    }
    if ((uint64_t)st.st_size != bytes) {
        return ax_error_set(err, AXION_ERR_MODEL_FILE,
                            "%s: the pack file has %llu bytes, its header says "
                            "%llu: it is not whole",
                            pack->label, (unsigned long long)st.st_size,
                            (unsigned long long)bytes);
    }
    return AXION_OK;
}


static int
check_header(struct ax_pack *pack, struct ax_error *err)
{
    struct ax_pack_header sealed = pack->header;

    ax_pack_seal(&sealed);
    if (memcmp(sealed.header_hash, pack->header.header_hash, AX_PACK_HASH) !=
        0) {
        /* Another version may well hash another number of bytes. */
        return pack->header.version != AX_PACK_VERSION
                   ? check_versions(pack, err)
                   : ax_error_set(err, AXION_ERR_MODEL_FILE,
                                  "%s: the pack file's header is damaged",
                                  pack->label);
    }
    int rc = check_versions(pack, err);
    return rc == AXION_OK ? check_sizes(pack, err) : rc;
}


/* ---- the source ---- */

int
ax_pack_hash_source(int fd, uint64_t bytes, uint8_t hash[AX_PACK_HASH],
                    const char *label, struct ax_error *err)
{
    crypto_generichash_state state;
    char *buffer = malloc(AX_PACK_PIECE);
    int rc = AXION_OK;

    if (buffer == NULL) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    (void)crypto_generichash_init(&state, NULL, 0, AX_PACK_HASH);
    for (uint64_t at = 0; at < bytes && rc == AXION_OK; at += AX_PACK_PIECE) {
        uint8_t tag[AX_PACK_TAG];
        uint64_t left = bytes - at;
        size_t n = left < AX_PACK_PIECE ? (size_t)left : AX_PACK_PIECE;
        rc = read_at(fd, at, buffer, n, label, err);
        if (rc == AXION_OK) {
            ax_pack_tag(tag, buffer, n);
            (void)crypto_generichash_update(&state, tag, sizeof(tag));
        }
    }
    (void)crypto_generichash_final(&state, hash, AX_PACK_HASH);
    free(buffer);
    return rc == AXION_AGAIN ? ax_error_set(err, AXION_ERR_MODEL_FILE,
                                            "%s: became shorter while it was "
                                            "read",
                                            label)
                             : rc;
}


static int
stale(const struct ax_pack *pack, const char *path, struct ax_error *err)
{
    char label[96];
    size_t n = strlen(path), keep = 40;

    ax_error_escape(label, sizeof(label), path + (n > keep ? n - keep : 0),
                    n > keep ? keep : n);
    return ax_error_set(err, AXION_ERR_MODEL_FILE,
                        "%s: stale: %s is no longer the file that was packed; "
                        "pack it again",
                        pack->label, label);
}


/* AXION_AGAIN: there is no such file. */
static int
check_source_at(const struct ax_pack *pack, const char *path,
                struct ax_error *err)
{
    const struct ax_pack_header *h = &pack->header;
    uint8_t hash[AX_PACK_HASH];
    struct stat st;

    /* Looked at first: to open something else than a file may do something. */
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode)) {
        return AXION_AGAIN;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        if (fd >= 0) {
            close(fd);
        }
        return AXION_AGAIN;
    }
    int rc = AXION_OK;
    if ((uint64_t)st.st_size != h->source_bytes) {
        rc = stale(pack, path, err);
    } else if (ax_pack_mtime_ns(&st) != h->source_mtime_ns) {
        /* Copied or touched, perhaps: what is in it counts. */
        rc = ax_pack_hash_source(fd, h->source_bytes, hash, pack->label, err);
        if (rc == AXION_OK && memcmp(hash, h->source_hash, sizeof(hash)) != 0) {
            rc = stale(pack, path, err);
        }
    }
    close(fd);
    return rc;
}


/* Beside the pack file, then where it was packed from; a pack file whose
 * source is gone is complete without it. */
static int
check_source(const struct ax_pack *pack, const char *path, struct ax_error *err)
{
    const char *source = pack->header.source;
    const char *name = strrchr(source, '/');
    const char *slash = strrchr(path, '/');
    size_t n = slash != NULL ? (size_t)(slash - path) + 1 : 0;
    char beside[4096 + AX_PACK_SOURCE_BYTES];

    name = name != NULL ? name + 1 : source;
    if (n >= 4096 || source[0] == '\0') {
        return AXION_OK;
    }
    snprintf(beside, sizeof(beside), "%.*s%s", (int)n, path, name);
    int rc = check_source_at(pack, beside, err);
    if (rc == AXION_AGAIN) {
        rc = check_source_at(pack, source, err);
    }
    return rc == AXION_AGAIN ? AXION_OK : rc;
}


int
ax_pack_open(struct ax_pack *pack, const char *path, struct ax_error *err)
{
    struct ax_pack_header *h = &pack->header;
    size_t n = strlen(path), keep = 60;

    *pack =
        (struct ax_pack){.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    ax_error_escape(pack->label, sizeof(pack->label),
                    path + (n > keep ? n - keep : 0), n > keep ? keep : n);
    if (pack->fd < 0) {
        return AXION_AGAIN;
    }
    if (sodium_init() < 0) {
        ax_pack_close(pack);
        return ax_error_set(err, AXION_ERR_SYSTEM, "libsodium does not start");
    }
    struct stat st;
    int rc =
        fstat(pack->fd, &st) == 0 && S_ISREG(st.st_mode)
            ? read_at(pack->fd, 0, h->magic, sizeof(h->magic), pack->label, err)
            : AXION_AGAIN;
    if (rc == AXION_OK &&
        memcmp(h->magic, AX_PACK_MAGIC, sizeof(h->magic)) != 0) {
        rc = AXION_AGAIN;
    }
    if (rc == AXION_OK) {
        rc = read_pack(pack, 0, h, sizeof(*h), err);
    }
    if (rc == AXION_OK) {
        rc = check_header(pack, err);
    }
    if (rc == AXION_OK) {
        rc = check_source(pack, path, err);
    }
    if (rc != AXION_OK) {
        ax_pack_close(pack);
    }
    return rc;
}


void
ax_pack_close(struct ax_pack *pack)
{
    if (pack->fd >= 0) {
        close(pack->fd);
        pack->fd = -1;
    }
}


/* ---- metadata and plan ---- */

int
ax_pack_gguf(const struct ax_pack *pack, struct ax_gguf **out, const char *path,
             struct ax_error *err)
{
    const struct ax_pack_header *h = &pack->header;
    uint8_t hash[AX_PACK_HASH];
    uint64_t bytes;
    struct ax_gguf_part part = {AX_PACK_GGUF, h->gguf_bytes, h->source_bytes};
    int fd = fcntl(pack->fd, F_DUPFD_CLOEXEC, 0);

    *out = NULL;
    if (fd < 0) {
        return ax_error_set(err, AXION_ERR_SYSTEM, "%s: dup: %s", pack->label,
                            strerror(errno));
    }
    int rc = ax_gguf_open_part(out, fd, path, &part, err);
    if (rc != AXION_OK) {
        return rc;
    }
    const void *header = ax_gguf_header(*out, &bytes);
    ax_pack_hash(hash, header, (size_t)bytes);
    if (bytes != h->gguf_bytes ||
        memcmp(hash, h->gguf_hash, sizeof(hash)) != 0) {
        ax_gguf_close(*out);
        *out = NULL;
        return ax_error_set(err, AXION_ERR_MODEL_FILE,
                            "%s: the pack file's metadata is damaged",
                            pack->label);
    }
    return AXION_OK;
}


int
ax_pack_or_gguf_open(struct ax_gguf **out, const char *path,
                     struct ax_error *err)
{
    struct ax_pack pack;
    int rc = ax_pack_open(&pack, path, err);

    *out = NULL;
    if (rc == AXION_AGAIN) {
        return ax_gguf_open(out, path, err);
    }
    if (rc == AXION_OK) {
        rc = ax_pack_gguf(&pack, out, path, err);
        ax_pack_close(&pack);
    }
    return rc;
}


void
ax_pack_plan_hash(const struct ax_plan *plan, uint8_t hash[AX_PACK_HASH])
{
    crypto_generichash_state state;

    (void)crypto_generichash_init(&state, NULL, 0, AX_PACK_HASH);
    for (uint32_t i = 0; i < plan->n_matrices; i++) {
        const struct ax_plan_matrix *m = &plan->matrices[i];
        uint64_t facts[4] = {m->tensor->format, m->n_rows, m->k,
                             ax_plan_matrix_bytes(m)};
        (void)crypto_generichash_update(&state, (const void *)facts,
                                        sizeof(facts));
        (void)crypto_generichash_update(&state, (const void *)m->tensor->name,
                                        sizeof(m->tensor->name));
    }
    for (uint32_t i = 0; i < plan->n_vectors; i++) {
        const struct ax_plan_vector *v = &plan->vectors[i];
        uint64_t facts[2] = {UINT64_MAX, v->n};
        (void)crypto_generichash_update(&state, (const void *)facts,
                                        sizeof(facts));
        (void)crypto_generichash_update(&state, (const void *)v->tensor->name,
                                        sizeof(v->tensor->name));
    }
    (void)crypto_generichash_final(&state, hash, AX_PACK_HASH);
}


/* ---- the weights ---- */

struct check {
    const struct ax_pack *pack;
    uint8_t *tags;
    char *buffers; /* one piece per thread */
    uint64_t first;
    atomic_int failed;
    pthread_mutex_t lock; /* of err */
    struct ax_error *err;
};


static int
check_piece(const struct check *c, uint64_t i, char *buffer,
            struct ax_error *err)
{
    const struct ax_pack *pack = c->pack;
    uint64_t at = i * AX_PACK_PIECE;
    uint64_t left = pack->header.payload_bytes - at;
    size_t n = left < AX_PACK_PIECE ? (size_t)left : AX_PACK_PIECE;
    uint8_t tag[AX_PACK_TAG];

    int rc = read_pack(pack, pack->payload_offset + at, buffer, n, err);
    if (rc != AXION_OK) {
        return rc;
    }
    ax_pack_tag(tag, buffer, n);
    if (memcmp(tag, c->tags + i * AX_PACK_TAG, AX_PACK_TAG) != 0) {
        return ax_error_set(
            err, AXION_ERR_MODEL_FILE,
            "%s: the pack file's weights are damaged between "
            "bytes %llu and %llu",
            pack->label, (unsigned long long)(pack->payload_offset + at),
            (unsigned long long)(pack->payload_offset + at + n));
    }
    return AXION_OK;
}


static void
check_work(void *context, const struct ax_pool_piece *piece)
{
    struct check *c = context;
    char *buffer = c->buffers + (size_t)piece->thread * AX_PACK_PIECE;

    for (uint32_t i = piece->begin; i < piece->end; i++) {
        struct ax_error err = {0};
        if (atomic_load_explicit(&c->failed, memory_order_relaxed) != 0) {
            return;
        }
        int rc = check_piece(c, c->first + i, buffer, &err);
        if (rc != AXION_OK) {
            pthread_mutex_lock(&c->lock);
            if (atomic_load(&c->failed) == 0) {
                atomic_store(&c->failed, rc);
                ax_error_set(c->err, rc, "%s", err.text);
            }
            pthread_mutex_unlock(&c->lock);
        }
    }
}


/* Has the kernel bring these pieces in while others are checked.  One by one:
 * it cuts what is asked for at once to what a device takes at once. */
static void
read_ahead(const struct ax_pack *pack, uint64_t first, uint64_t n)
{
    for (uint64_t i = first; i < first + n && i < pack->n_pieces; i++) {
        uint64_t at = pack->payload_offset + i * AX_PACK_PIECE;
        (void)posix_fadvise(pack->fd, (off_t)at, AX_PACK_PIECE,
                            POSIX_FADV_WILLNEED);
    }
}


static int
check_pieces(struct check *c, uint32_t n_threads,
             void (*progress)(void *context, uint32_t permille), void *context)
{
    uint64_t n = c->pack->n_pieces;
    struct ax_pool *pool;
    int rc = ax_pool_start(&pool, n_threads, 1, c->err);

    if (rc != AXION_OK) {
        return rc;
    }
    read_ahead(c->pack, 0, BATCH_PIECES);
    for (c->first = 0; c->first < n && rc == AXION_OK;
         c->first += BATCH_PIECES) {
        read_ahead(c->pack, c->first + BATCH_PIECES, BATCH_PIECES);
        uint64_t left = n - c->first;
        uint32_t units = left < BATCH_PIECES ? (uint32_t)left : BATCH_PIECES;
        struct ax_pool_job job = {
            .n_phases = 1,
            .units = &units,
            .context = c,
            .work = check_work,
        };
        ax_pool_run(pool, &job);
        rc = atomic_load(&c->failed);
        if (rc == AXION_OK && progress != NULL) {
            progress(context, (uint32_t)((c->first + units) * 1000 / n));
        }
    }
    ax_pool_stop(pool);
    return rc;
}


static int
read_tags(struct check *c)
{
    const struct ax_pack *pack = c->pack;
    size_t bytes = (size_t)pack->n_pieces * AX_PACK_TAG;
    uint8_t hash[AX_PACK_HASH];
    int rc = read_pack(pack, pack->tags_offset, c->tags, bytes, c->err);

    if (rc != AXION_OK) {
        return rc;
    }
    ax_pack_hash(hash, c->tags, bytes);
    if (memcmp(hash, pack->header.tags_hash, sizeof(hash)) != 0) {
        return ax_error_set(c->err, AXION_ERR_MODEL_FILE,
                            "%s: the pack file's checksums are damaged",
                            pack->label);
    }
    return AXION_OK;
}


static int
check_weights(const struct ax_pack *pack, uint32_t n_threads,
              void (*progress)(void *context, uint32_t permille), void *context,
              struct ax_error *err)
{
    struct check c = {
        .pack = pack,
        .tags = malloc((size_t)pack->n_pieces * AX_PACK_TAG),
        .buffers = malloc((size_t)n_threads * AX_PACK_PIECE),
        .err = err,
    };
    int rc;

    pthread_mutex_init(&c.lock, NULL);
    if (c.tags == NULL || c.buffers == NULL) {
        rc = ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    } else {
        rc = read_tags(&c);
    }
    if (rc == AXION_OK) {
        rc = check_pieces(&c, n_threads, progress, context);
    }
    pthread_mutex_destroy(&c.lock);
    free(c.buffers);
    free(c.tags);
    return rc;
}


uint64_t
ax_pack_payload_bytes(uint64_t weight_bytes)
{
    return (weight_bytes + SLACK + PAGE - 1) & ~(PAGE - 1ull);
}


int
ax_pack_map(const struct ax_pack *pack, const struct ax_plan *plan,
            uint64_t weight_bytes, uint32_t n_threads,
            void (*progress)(void *context, uint32_t permille), void *context,
            struct ax_arena *arena, struct ax_error *err)
{
    uint8_t hash[AX_PACK_HASH];

    ax_pack_plan_hash(plan, hash);
    if (memcmp(hash, pack->header.plan_hash, sizeof(hash)) != 0) {
        return ax_error_set(err, AXION_ERR_MODEL_UNSUPPORTED,
                            "%s: packed for another version's order of "
                            "weights: pack the model again",
                            pack->label);
    }
    if (pack->header.payload_bytes != ax_pack_payload_bytes(weight_bytes)) {
        return ax_error_set(
            err, AXION_ERR_MODEL_FILE,
            "%s: %llu bytes of weights in the pack file, the "
            "plan needs %llu",
            pack->label, (unsigned long long)pack->header.payload_bytes,
            (unsigned long long)ax_pack_payload_bytes(weight_bytes));
    }
    int rc = check_weights(pack, n_threads, progress, context, err);
    if (rc != AXION_OK) {
        return rc;
    }
    if (ax_arena_map(arena, pack->fd, pack->payload_offset,
                     pack->header.payload_bytes) != AXION_OK) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY,
                            "%s: cannot map %llu bytes of weights", pack->label,
                            (unsigned long long)pack->header.payload_bytes);
    }
    return AXION_OK;
}
