/*
 * Life cycle of an open GGUF file, look-ups, typed getters, data reads.
 * parse.c has made sure that everything here stays inside the header copy.
 */
#include "engine/gguf/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>


static void
set_label(struct ax_gguf *g)
{
    size_t n = strlen(g->path);
    size_t keep = 60;

    ax_error_escape(g->label, sizeof(g->label),
                    g->path + (n > keep ? n - keep : 0), n > keep ? keep : n);
}


static int
look_at_file(struct ax_gguf *g, struct ax_error *err)
{
    struct stat st;

    if (fstat(g->fd, &st) != 0) {
        return ax_error_set(err, AXION_ERR_SYSTEM, "%s: fstat: %s", g->label,
                            strerror(errno));
    }
    if (!S_ISREG(st.st_mode) || st.st_size <= 0) {
        return ax_error_set(err, AXION_ERR_MODEL_FILE,
                            "%s: not a regular file with content", g->label);
    }
    g->file_bytes = (uint64_t)st.st_size;
    g->mtime_ns = st.st_mtim.tv_sec * 1000000000ll + st.st_mtim.tv_nsec;
    g->header_room = g->file_bytes < AX_GGUF_HEADER_MAX ? (size_t)g->file_bytes
                                                        : AX_GGUF_HEADER_MAX;
    return AXION_OK;
}


/* The range is only address space until pread writes into it. */
static int
reserve_header(struct ax_gguf *g, struct ax_error *err)
{
    void *p = mmap(NULL, g->header_room, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY,
                            "%s: no memory for the header: %s", g->label,
                            strerror(errno));
    }
    g->header = p;
    return AXION_OK;
}


/* part NULL: the whole file is the GGUF. */
static int
open_part(struct ax_gguf **out, int fd, const char *name,
          const struct ax_gguf_part *part, struct ax_error *err)
{
    struct ax_gguf *g = calloc(1, sizeof(*g));
    int rc;

    *out = NULL;
    if (g == NULL) {
        close(fd);
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    g->fd = fd;
    g->path = strdup(name);
    if (g->path == NULL) {
        rc = ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
        goto failed;
    }
    set_label(g);
    rc = look_at_file(g, err);
    if (rc == AXION_OK && part != NULL) {
        g->base = part->offset;
        g->header_room = part->bytes;
        g->file_bytes = part->file_bytes;
    }
    if (rc == AXION_OK) {
        rc = reserve_header(g, err);
    }
    if (rc == AXION_OK) {
        rc = ax_gguf_parse(g, err);
    }
    if (rc != AXION_OK) {
        goto failed;
    }
    *out = g;
    return AXION_OK;

failed:
    ax_gguf_close(g);
    return rc;
}


int
ax_gguf_open_fd(struct ax_gguf **out, int fd, const char *name,
                struct ax_error *err)
{
    return open_part(out, fd, name, NULL, err);
}


int
ax_gguf_open_part(struct ax_gguf **out, int fd, const char *name,
                  const struct ax_gguf_part *part, struct ax_error *err)
{
    *out = NULL;
    if (part->bytes == 0 || part->bytes > AX_GGUF_HEADER_MAX ||
        part->bytes > part->file_bytes) {
        close(fd);
        return ax_error_set(err, AXION_ERR_MODEL_FILE,
                            "%llu bytes of metadata of a file of %llu",
                            (unsigned long long)part->bytes,
                            (unsigned long long)part->file_bytes);
    }
    return open_part(out, fd, name, part, err);
}


int
ax_gguf_open(struct ax_gguf **out, const char *path, struct ax_error *err)
{
    /* O_NONBLOCK: a FIFO of that name must not hang the loader. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    *out = NULL;
    if (fd < 0) {
        char label[AX_GGUF_LABEL];
        ax_error_escape(label, sizeof(label), path, strlen(path));
        return ax_error_set(err, AXION_ERR_SYSTEM, "%s: %s", label,
                            strerror(errno));
    }
    return ax_gguf_open_fd(out, fd, path, err);
}


void
ax_gguf_close_file(struct ax_gguf *g)
{
    if (g->fd >= 0) {
        close(g->fd);
        g->fd = -1;
    }
}


void
ax_gguf_close(struct ax_gguf *g)
{
    if (g == NULL) {
        return;
    }
    ax_gguf_close_file(g);
    if (g->header != NULL) {
        munmap(g->header, g->header_room);
    }
    free(g->tensors_sorted);
    free(g->tensors);
    free(g->keys_sorted);
    free(g->keys);
    free(g->path);
    free(g);
}


const char *
ax_gguf_path(const struct ax_gguf *g)
{
    return g->path;
}


const char *
ax_gguf_label(const struct ax_gguf *g)
{
    return g->label;
}


uint32_t
ax_gguf_version(const struct ax_gguf *g)
{
    return g->version;
}


uint64_t
ax_gguf_file_bytes(const struct ax_gguf *g)
{
    return g->file_bytes;
}


uint32_t
ax_gguf_n_keys(const struct ax_gguf *g)
{
    return g->n_keys;
}


const struct ax_gguf_key *
ax_gguf_key_at(const struct ax_gguf *g, uint32_t i)
{
    return i < g->n_keys ? &g->keys[i] : NULL;
}


uint32_t
ax_gguf_n_tensors(const struct ax_gguf *g)
{
    return g->n_tensors;
}


const struct ax_gguf_tensor *
ax_gguf_tensor_at(const struct ax_gguf *g, uint32_t i)
{
    return i < g->n_tensors ? &g->tensors[i] : NULL;
}


const struct ax_gguf_key *
ax_gguf_find(const struct ax_gguf *g, const char *name)
{
    uint64_t n = strlen(name);
    uint32_t low = 0, high = g->n_keys;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        const struct ax_gguf_key *key = &g->keys[g->keys_sorted[mid]];
        uint64_t shared = n < key->name.n ? n : key->name.n;
        int d = memcmp(name, key->name.p, shared);
        if (d == 0) {
            d = (n > key->name.n) - (n < key->name.n);
        }
        if (d == 0) {
            return key;
        }
        if (d < 0) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    return NULL;
}


const struct ax_gguf_tensor *
ax_gguf_tensor(const struct ax_gguf *g, const char *name)
{
    uint32_t low = 0, high = g->n_tensors;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        const struct ax_gguf_tensor *t = &g->tensors[g->tensors_sorted[mid]];
        int d = strcmp(name, t->name);
        if (d == 0) {
            return t;
        }
        if (d < 0) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    return NULL;
}


static int
wrong_type(const struct ax_gguf *g, const struct ax_gguf_key *key,
           const char *name, const char *expected, struct ax_error *err)
{
    bool array = key->type == AX_GGUF_ARRAY;

    return ax_error_set(
        err, AXION_ERR_MODEL_FILE, "%s: key %s: found %s%s, expected %s",
        g->label, name, array ? "an array of " : "",
        ax_gguf_type_name(array ? key->element : key->type), expected);
}


/* Any integer type, as magnitude and sign. */
static bool
read_integer(const struct ax_gguf_key *key, uint64_t *value, bool *negative)
{
    uint64_t u = 0;
    int64_t s = 0;
    int8_t s8;
    int16_t s16;
    int32_t s32;

    *negative = false;
    switch (key->type) {
    case AX_GGUF_U8:
    case AX_GGUF_U16:
    case AX_GGUF_U32:
    case AX_GGUF_U64:
        memcpy(&u, key->data, ax_gguf_type_bytes(key->type));
        *value = u;
        return true;
    case AX_GGUF_I8:
        memcpy(&s8, key->data, sizeof(s8));
        s = s8;
        break;
    case AX_GGUF_I16:
        memcpy(&s16, key->data, sizeof(s16));
        s = s16;
        break;
    case AX_GGUF_I32:
        memcpy(&s32, key->data, sizeof(s32));
        s = s32;
        break;
    case AX_GGUF_I64:
        memcpy(&s, key->data, sizeof(s));
        break;
    default:
        return false;
    }
    *negative = s < 0;
    *value = s < 0 ? 0 - (uint64_t)s : (uint64_t)s;
    return true;
}


static int
get_integer(const struct ax_gguf *g, const char *name, uint64_t max,
            uint64_t *out, struct ax_error *err)
{
    const struct ax_gguf_key *key = ax_gguf_find(g, name);
    bool negative;
    uint64_t value;

    if (key == NULL) {
        return AXION_AGAIN;
    }
    if (!read_integer(key, &value, &negative)) {
        return wrong_type(g, key, name, "an integer", err);
    }
    if (negative || value > max) {
        return ax_error_set(err, AXION_ERR_MODEL_FILE,
                            "%s: key %s: found %s%llu, expected 0 to %llu",
                            g->label, name, negative ? "-" : "",
                            (unsigned long long)value, (unsigned long long)max);
    }
    *out = value;
    return AXION_OK;
}


int
ax_gguf_u32(const struct ax_gguf *g, const char *name, uint32_t *out,
            struct ax_error *err)
{
    uint64_t value;
    int rc = get_integer(g, name, UINT32_MAX, &value, err);

    if (rc == AXION_OK) {
        *out = (uint32_t)value;
    }
    return rc;
}


int
ax_gguf_u64(const struct ax_gguf *g, const char *name, uint64_t *out,
            struct ax_error *err)
{
    return get_integer(g, name, UINT64_MAX, out, err);
}


int
ax_gguf_f32(const struct ax_gguf *g, const char *name, float *out,
            struct ax_error *err)
{
    const struct ax_gguf_key *key = ax_gguf_find(g, name);

    if (key == NULL) {
        return AXION_AGAIN;
    }
    if (key->type == AX_GGUF_F32) {
        memcpy(out, key->data, sizeof(*out));
        return AXION_OK;
    }
    if (key->type == AX_GGUF_F64) {
        double value;
        memcpy(&value, key->data, sizeof(value));
        if (!(value >= -3.4e38 && value <= 3.4e38)) {
            return ax_error_set(err, AXION_ERR_MODEL_FILE,
                                "%s: key %s: found %g, out of f32's range",
                                g->label, name, value);
        }
        *out = (float)value;
        return AXION_OK;
    }
    return wrong_type(g, key, name, "f32", err);
}


int
ax_gguf_bool(const struct ax_gguf *g, const char *name, bool *out,
             struct ax_error *err)
{
    const struct ax_gguf_key *key = ax_gguf_find(g, name);

    if (key == NULL) {
        return AXION_AGAIN;
    }
    if (key->type != AX_GGUF_BOOL) {
        return wrong_type(g, key, name, "bool", err);
    }
    *out = *(const unsigned char *)key->data != 0;
    return AXION_OK;
}


/* A string's bytes follow its 64-bit length, both inside the copy. */
static const unsigned char *
string_at(const unsigned char *p, struct ax_gguf_str *out)
{
    memcpy(&out->n, p, 8);
    out->p = (const char *)p + 8;
    return p + 8 + out->n;
}


int
ax_gguf_str(const struct ax_gguf *g, const char *name, struct ax_gguf_str *out,
            struct ax_error *err)
{
    const struct ax_gguf_key *key = ax_gguf_find(g, name);

    if (key == NULL) {
        return AXION_AGAIN;
    }
    if (key->type != AX_GGUF_STRING) {
        return wrong_type(g, key, name, "string", err);
    }
    string_at(key->data, out);
    return AXION_OK;
}


int
ax_gguf_array(const struct ax_gguf *g, const char *name,
              enum ax_gguf_type element, const void **data, uint64_t *n,
              struct ax_error *err)
{
    const struct ax_gguf_key *key = ax_gguf_find(g, name);

    if (key == NULL) {
        return AXION_AGAIN;
    }
    bool same = key->type == AX_GGUF_ARRAY && key->element == element;
    bool kin = key->type == AX_GGUF_ARRAY &&
               (element == AX_GGUF_I32 || element == AX_GGUF_U32) &&
               (key->element == AX_GGUF_I32 || key->element == AX_GGUF_U32);
    if (!same && !kin) {
        char expected[32] = "an array of ";
        strcat(expected, ax_gguf_type_name(element));
        return wrong_type(g, key, name, expected, err);
    }
    *data = key->data;
    *n = key->n;
    return AXION_OK;
}


int
ax_gguf_strings(const struct ax_gguf *g, const char *name,
                struct ax_gguf_str *out, uint64_t *n, struct ax_error *err)
{
    const void *data;
    uint64_t count;
    int rc = ax_gguf_array(g, name, AX_GGUF_STRING, &data, &count, err);

    if (rc != AXION_OK) {
        return rc;
    }
    if (out != NULL) {
        const unsigned char *p = data;
        for (uint64_t i = 0; i < count && i < *n; i++) {
            p = string_at(p, &out[i]);
        }
    }
    *n = count;
    return AXION_OK;
}


const void *
ax_gguf_header(const struct ax_gguf *g, uint64_t *bytes)
{
    *bytes = g->table_end;
    return g->header;
}


int64_t
ax_gguf_mtime_ns(const struct ax_gguf *g)
{
    return g->mtime_ns;
}


int
ax_gguf_read(const struct ax_gguf *g, const struct ax_gguf_tensor *t,
             uint64_t offset, void *dst, size_t n, struct ax_error *err)
{
    size_t done = 0;

    if (offset > t->bytes || n > t->bytes - offset) {
        return ax_error_set(err, AXION_ERR_INTERNAL,
                            "%s: tensor %s: a read past its end", g->label,
                            t->name);
    }
    while (done < n) {
        ssize_t got = pread(g->fd, (char *)dst + done, n - done,
                            (off_t)(t->offset + offset + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return ax_error_set(err, AXION_ERR_SYSTEM,
                                "%s: tensor %s: read failed: %s", g->label,
                                t->name, strerror(errno));
        }
        if (got == 0) {
            /* The end may lie well before what was to be read. */
            uint64_t end = t->offset + offset + done;
            struct stat now;
            if (fstat(g->fd, &now) == 0 && (uint64_t)now.st_size < end) {
                end = (uint64_t)now.st_size;
            }
            return ax_error_set(err, AXION_ERR_MODEL_FILE,
                                "%s: tensor %s: the file ends at byte %llu, "
                                "it had %llu when it was opened",
                                g->label, t->name, (unsigned long long)end,
                                (unsigned long long)g->file_bytes);
        }
        done += (size_t)got;
    }
    return AXION_OK;
}


void
ax_gguf_read_ahead(const struct ax_gguf *g, const struct ax_gguf_tensor *t,
                   uint64_t offset, size_t n)
{
    uint64_t left = offset < t->bytes ? t->bytes - offset : 0;

    n = n < left ? n : (size_t)left;
    if (n > 0) { /* 0 would mean: to the end of the file */
        (void)posix_fadvise(g->fd, (off_t)(t->offset + offset), (off_t)n,
                            POSIX_FADV_WILLNEED);
    }
}
