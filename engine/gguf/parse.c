/*
 * The GGUF header: magic, counts, keys, tensor table.
 *
 * A cursor walks the file once from byte 0.  need() is the only way to get at
 * bytes: it compares with what the file and our limit have left, in a form
 * that cannot overflow, and pulls the bytes in.  So nothing is ever read, or
 * allocated, on the word of a length in the file alone: the two tables are
 * bounded by the bytes that their entries take at least.
 *
 * After the walk the tables are sorted to find duplicates, and the tensors by
 * offset to find overlaps.  Format: the "GGUF" page of the ggml project's
 * documents; version 1 (32-bit counts) is refused.
 */
#include "engine/gguf/internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>


/* At least so much comes with one pread. */
#define READ_AHEAD (256u << 10)

/* Smallest entries: length 1 name, type, one byte; and one dimension. */
#define KEY_BYTES_MIN    (8u + 1u + 4u + 1u)
#define TENSOR_BYTES_MIN (8u + 1u + 4u + 8u + 4u + 8u)

#define DEFAULT_ALIGNMENT 32u

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "GGUF values are used as they lie in the file");


struct cursor {
    struct ax_gguf *g;
    uint64_t pos;
    struct ax_error *err;
    char where[AX_GGUF_KEY_MAX + 16]; /* "key general.name" */
};


struct type_info {
    const char *name;
    uint32_t bytes;
};


static const struct type_info type_table[AX_GGUF_TYPES] = {
    [AX_GGUF_U8] = {"u8", 1},         [AX_GGUF_I8] = {"i8", 1},
    [AX_GGUF_U16] = {"u16", 2},       [AX_GGUF_I16] = {"i16", 2},
    [AX_GGUF_U32] = {"u32", 4},       [AX_GGUF_I32] = {"i32", 4},
    [AX_GGUF_F32] = {"f32", 4},       [AX_GGUF_BOOL] = {"bool", 1},
    [AX_GGUF_STRING] = {"string", 0}, [AX_GGUF_ARRAY] = {"array", 0},
    [AX_GGUF_U64] = {"u64", 8},       [AX_GGUF_I64] = {"i64", 8},
    [AX_GGUF_F64] = {"f64", 8},
};


uint32_t
ax_gguf_type_bytes(uint32_t type)
{
    return type < AX_GGUF_TYPES ? type_table[type].bytes : 0;
}


const char *
ax_gguf_type_name(uint32_t type)
{
    return type < AX_GGUF_TYPES ? type_table[type].name : "unknown";
}


static int fail(const struct cursor *c, int number, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));


/* "FILE: WHERE at byte POS: text" */
static int
fail(const struct cursor *c, int number, const char *fmt, ...)
{
    char text[AX_ERROR_TEXT];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    return ax_error_set(c->err, number, "%s: %s at byte %llu: %s", c->g->label,
                        c->where, (unsigned long long)c->pos, text);
}


static void
set_where(struct cursor *c, const char *kind, const char *name, size_t n)
{
    char escaped[AX_GGUF_KEY_MAX + 1];
    int used = snprintf(c->where, sizeof(c->where), "%s ", kind);

    ax_error_escape(escaped, sizeof(escaped), name, n < 64 ? n : 64);
    snprintf(c->where + used, sizeof(c->where) - (size_t)used, "%s", escaped);
}


/* Extends the header copy to `upto` bytes; the caller has checked upto. */
static int
pull(struct cursor *c, size_t upto)
{
    struct ax_gguf *g = c->g;
    size_t want = g->header_have + READ_AHEAD;

    want = want < upto ? upto : want;
    want = want > g->header_room ? g->header_room : want;
    while (g->header_have < want) {
        ssize_t n =
            pread(g->fd, g->header + g->header_have, want - g->header_have,
                  (off_t)(g->base + g->header_have));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return fail(c, AXION_ERR_SYSTEM, "read failed: %s",
                        strerror(errno));
        }
        if (n == 0) {
            if (g->header_have >= upto) {
                break;
            }
            return fail(c, AXION_ERR_MODEL_FILE,
                        "the file became shorter while it was read");
        }
        g->header_have += (size_t)n;
    }
    return AXION_OK;
}


/* Makes n bytes at pos readable, or says what is missing. */
static int
need(struct cursor *c, uint64_t n, const char *what)
{
    uint64_t left = c->g->file_bytes - c->pos;

    if (n > left) {
        return fail(c, AXION_ERR_MODEL_FILE,
                    "%s needs %llu bytes, the file has %llu left", what,
                    (unsigned long long)n, (unsigned long long)left);
    }
    if (n > c->g->header_room - c->pos) {
        return fail(c, AXION_ERR_MODEL_FILE,
                    "%s needs %llu bytes, over the limit of %u for a header",
                    what, (unsigned long long)n, AX_GGUF_HEADER_MAX);
    }
    if (c->pos + n > c->g->header_have) {
        return pull(c, (size_t)(c->pos + n));
    }
    return AXION_OK;
}


static int
take(struct cursor *c, void *out, size_t n, const char *what)
{
    int rc = need(c, n, what);

    if (rc == AXION_OK) {
        memcpy(out, c->g->header + c->pos, n);
        c->pos += n;
    }
    return rc;
}


static int
take_string(struct cursor *c, struct ax_gguf_str *out, const char *what)
{
    uint64_t n;
    int rc = take(c, &n, sizeof(n), what);

    if (rc != AXION_OK || (rc = need(c, n, what)) != AXION_OK) {
        return rc;
    }
    out->p = (const char *)c->g->header + c->pos;
    out->n = n;
    c->pos += n;
    return AXION_OK;
}


static int
take_preamble(struct cursor *c)
{
    struct ax_gguf *g = c->g;
    unsigned char magic[4];
    int rc = take(c, magic, sizeof(magic), "the magic");

    if (rc != AXION_OK) {
        return rc;
    }
    c->pos = 0;
    if (memcmp(magic, "FUGG", 4) == 0) {
        return fail(c, AXION_ERR_MODEL_UNSUPPORTED,
                    "a big-endian GGUF file; only little-endian ones are read");
    }
    if (memcmp(magic, "GGUF", 4) != 0) {
        return fail(c, AXION_ERR_MODEL_FILE,
                    "not a GGUF file: found %02x %02x %02x %02x, expected "
                    "47 47 55 46",
                    magic[0], magic[1], magic[2], magic[3]);
    }
    c->pos = 4;
    rc = take(c, &g->version, 4, "the version");
    if (rc != AXION_OK) {
        return rc;
    }
    if (g->version != 2 && g->version != 3) {
        c->pos = 4;
        /* Byte-swapped small versions tell of a big-endian writer. */
        return fail(c, AXION_ERR_MODEL_UNSUPPORTED,
                    "found version %u%s, expected 2 or 3", g->version,
                    (g->version & 0xffff) == 0 && g->version != 0
                        ? " (a big-endian file?)"
                        : "");
    }
    return AXION_OK;
}


static int
take_count(struct cursor *c, const char *what, uint32_t max, uint32_t bytes_min,
           uint32_t *out)
{
    uint64_t n;
    int rc = take(c, &n, sizeof(n), what);

    if (rc != AXION_OK) {
        return rc;
    }
    if (n > max || n > (c->g->file_bytes - c->pos) / bytes_min) {
        c->pos -= sizeof(n);
        return fail(c, AXION_ERR_MODEL_FILE,
                    "%s is %llu, more than fit into the file or over %u", what,
                    (unsigned long long)n, max);
    }
    *out = (uint32_t)n;
    return AXION_OK;
}


/* Keys are made of lower-case ASCII, digits, '_', '-' and '.' in practice;
 * anything printable is taken. */
static bool
printable(const char *p, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        if (p[i] <= 0x20 || p[i] >= 0x7f) {
            return false;
        }
    }
    return true;
}


static int
take_name(struct cursor *c, const char *kind, uint64_t max,
          struct ax_gguf_str *out)
{
    uint64_t start = c->pos;
    int rc = take_string(c, out, "a name");

    if (rc != AXION_OK) {
        return rc;
    }
    if (out->n == 0 || out->n > max || !printable(out->p, out->n)) {
        c->pos = start;
        set_where(c, kind, out->p, out->n);
        return fail(c, AXION_ERR_MODEL_FILE,
                    "a name of %llu bytes; 1 to %llu printable ones expected",
                    (unsigned long long)out->n, (unsigned long long)max);
    }
    set_where(c, kind, out->p, out->n);
    return AXION_OK;
}


static int
check_bools(struct cursor *c, const void *data, uint64_t n)
{
    const unsigned char *p = data;

    for (uint64_t i = 0; i < n; i++) {
        if (p[i] > 1) {
            return fail(c, AXION_ERR_MODEL_FILE,
                        "found %u for a bool, expected 0 or 1", p[i]);
        }
    }
    return AXION_OK;
}


static int
take_array(struct cursor *c, struct ax_gguf_key *key)
{
    uint32_t element;
    int rc = take(c, &element, 4, "the element type");

    if (rc != AXION_OK || (rc = take(c, &key->n, 8, "the count")) != 0) {
        return rc;
    }
    if (element >= AX_GGUF_TYPES) {
        return fail(c, AXION_ERR_MODEL_FILE, "element type %u is unknown",
                    element);
    }
    if (element == AX_GGUF_ARRAY) {
        return fail(c, AXION_ERR_MODEL_UNSUPPORTED,
                    "an array of arrays is not supported");
    }
    key->element = (enum ax_gguf_type)element;
    key->data = c->g->header + c->pos;
    if (element == AX_GGUF_STRING) {
        for (uint64_t i = 0; i < key->n; i++) {
            struct ax_gguf_str s;
            rc = take_string(c, &s, "a string of the array");
            if (rc != AXION_OK) {
                return rc;
            }
        }
        return AXION_OK;
    }
    uint32_t size = ax_gguf_type_bytes(element);
    if (key->n > UINT64_MAX / size) {
        return fail(c, AXION_ERR_MODEL_FILE,
                    "%llu elements of %u bytes do not fit into any file",
                    (unsigned long long)key->n, size);
    }
    rc = need(c, key->n * size, "the array");
    if (rc == AXION_OK && element == AX_GGUF_BOOL) {
        rc = check_bools(c, key->data, key->n);
    }
    if (rc == AXION_OK) {
        c->pos += key->n * size;
    }
    return rc;
}


static int
take_key(struct cursor *c, struct ax_gguf_key *key)
{
    uint32_t type;
    int rc = take_name(c, "key", AX_GGUF_KEY_MAX, &key->name);

    if (rc != AXION_OK || (rc = take(c, &type, 4, "the type")) != AXION_OK) {
        return rc;
    }
    if (type >= AX_GGUF_TYPES) {
        return fail(c, AXION_ERR_MODEL_FILE, "value type %u is unknown", type);
    }
    key->type = (enum ax_gguf_type)type;
    key->n = 1;
    key->data = c->g->header + c->pos;
    if (type == AX_GGUF_ARRAY) {
        return take_array(c, key);
    }
    if (type == AX_GGUF_STRING) {
        struct ax_gguf_str s;
        return take_string(c, &s, "the string");
    }
    uint32_t size = ax_gguf_type_bytes(type);
    rc = need(c, size, "the value");
    if (rc == AXION_OK && type == AX_GGUF_BOOL) {
        rc = check_bools(c, key->data, 1);
    }
    if (rc == AXION_OK) {
        c->pos += size;
    }
    return rc;
}


/* Elements and bytes of a tensor, from dims that may be anything. */
static int
check_shape(struct cursor *c, struct ax_gguf_tensor *t)
{
    const struct axk_format_traits *f = axk_format_traits(t->format);
    uint64_t elements = 1;

    for (uint32_t i = 0; i < t->n_dims; i++) {
        if (t->ne[i] == 0 || t->ne[i] > (uint64_t)INT64_MAX / elements) {
            return fail(c, AXION_ERR_MODEL_FILE,
                        "dimension %u is %llu; the product must be 1 to 2^63",
                        i, (unsigned long long)t->ne[i]);
        }
        elements *= t->ne[i];
    }
    if (f->name == NULL) {
        return fail(c, AXION_ERR_MODEL_UNSUPPORTED,
                    "tensor format %u is not supported", t->format);
    }
    if (t->ne[0] % f->block_elems != 0) {
        return fail(c, AXION_ERR_MODEL_FILE,
                    "a row of %llu is no multiple of %s's block of %u",
                    (unsigned long long)t->ne[0], f->name, f->block_elems);
    }
    uint64_t blocks = elements / f->block_elems;
    if (blocks > UINT64_MAX / f->block_bytes) {
        return fail(c, AXION_ERR_MODEL_FILE, "the size overflows");
    }
    t->bytes = blocks * f->block_bytes;
    return AXION_OK;
}


/* t->offset is still relative to the data's start, which is not known yet. */
static int
take_tensor(struct cursor *c, struct ax_gguf_tensor *t)
{
    struct ax_gguf_str name;
    int rc = take_name(c, "tensor", AX_GGUF_NAME_MAX, &name);

    if (rc != AXION_OK) {
        return rc;
    }
    memcpy(t->name, name.p, name.n);
    t->name[name.n] = '\0';
    rc = take(c, &t->n_dims, 4, "the number of dimensions");
    if (rc != AXION_OK) {
        return rc;
    }
    if (t->n_dims == 0 || t->n_dims > AX_GGUF_DIMS_MAX) {
        return fail(c, AXION_ERR_MODEL_FILE,
                    "found %u dimensions, expected 1 to %u", t->n_dims,
                    AX_GGUF_DIMS_MAX);
    }
    for (uint32_t i = 0; i < AX_GGUF_DIMS_MAX; i++) {
        t->ne[i] = 1;
    }
    rc = take(c, t->ne, 8 * t->n_dims, "the dimensions");
    if (rc != AXION_OK || (rc = take(c, &t->format, 4, "the format")) != 0) {
        return rc;
    }
    rc = check_shape(c, t);
    return rc != AXION_OK ? rc : take(c, &t->offset, 8, "the offset");
}


static int
compare_keys(const void *a, const void *b, void *context)
{
    const struct ax_gguf *g = context;
    const struct ax_gguf_str *x = &g->keys[*(const uint32_t *)a].name;
    const struct ax_gguf_str *y = &g->keys[*(const uint32_t *)b].name;
    int d = memcmp(x->p, y->p, x->n < y->n ? x->n : y->n);

    return d != 0 ? d : (x->n > y->n) - (x->n < y->n);
}


static int
compare_names(const void *a, const void *b, void *context)
{
    const struct ax_gguf *g = context;

    return strcmp(g->tensors[*(const uint32_t *)a].name,
                  g->tensors[*(const uint32_t *)b].name);
}


static int
compare_offsets(const void *a, const void *b, void *context)
{
    const struct ax_gguf *g = context;
    uint64_t x = g->tensors[*(const uint32_t *)a].offset;
    uint64_t y = g->tensors[*(const uint32_t *)b].offset;

    return (x > y) - (x < y);
}


static void
sort(struct ax_gguf *g, uint32_t *index, uint32_t n,
     int (*compare)(const void *, const void *, void *))
{
    for (uint32_t i = 0; i < n; i++) {
        index[i] = i;
    }
    qsort_r(index, n, sizeof(*index), compare, g);
}


static int
check_duplicates(struct cursor *c)
{
    struct ax_gguf *g = c->g;

    sort(g, g->keys_sorted, g->n_keys, compare_keys);
    for (uint32_t i = 1; i < g->n_keys; i++) {
        if (compare_keys(&g->keys_sorted[i - 1], &g->keys_sorted[i], g) == 0) {
            const struct ax_gguf_key *key = &g->keys[g->keys_sorted[i]];
            set_where(c, "key", key->name.p, key->name.n);
            return fail(c, AXION_ERR_MODEL_FILE, "the key is there twice");
        }
    }
    sort(g, g->tensors_sorted, g->n_tensors, compare_names);
    for (uint32_t i = 1; i < g->n_tensors; i++) {
        const struct ax_gguf_tensor *t = &g->tensors[g->tensors_sorted[i]];
        if (strcmp(g->tensors[g->tensors_sorted[i - 1]].name, t->name) == 0) {
            set_where(c, "tensor", t->name, strlen(t->name));
            return fail(c, AXION_ERR_MODEL_FILE, "the tensor is there twice");
        }
    }
    return AXION_OK;
}


/* The key may stand anywhere, so it is looked up after all keys are read. */
static int
find_alignment(struct cursor *c)
{
    struct ax_gguf *g = c->g;
    uint32_t alignment = DEFAULT_ALIGNMENT;
    int rc = ax_gguf_u32(g, "general.alignment", &alignment, c->err);

    if (rc != AXION_OK && rc != AXION_AGAIN) {
        return rc;
    }
    if (alignment == 0 || (alignment & (alignment - 1)) != 0 ||
        alignment > AX_GGUF_ALIGNMENT_MAX) {
        set_where(c, "key", "general.alignment", 17);
        return fail(c, AXION_ERR_MODEL_FILE,
                    "found %u, expected a power of two up to %u", alignment,
                    AX_GGUF_ALIGNMENT_MAX);
    }
    g->alignment = alignment;
    return AXION_OK;
}


/* Makes offsets absolute; each tensor aligned, inside the file. */
static int
place_tensors(struct cursor *c)
{
    struct ax_gguf *g = c->g;

    g->table_end = c->pos;
    /* pos is at most AX_GGUF_HEADER_MAX: rounding up cannot overflow. */
    g->data_offset = (c->pos + g->alignment - 1) & ~(g->alignment - 1);
    for (uint32_t i = 0; i < g->n_tensors; i++) {
        struct ax_gguf_tensor *t = &g->tensors[i];
        set_where(c, "tensor", t->name, strlen(t->name));
        if (t->offset % g->alignment != 0) {
            return fail(c, AXION_ERR_MODEL_FILE,
                        "offset %llu is no multiple of the alignment %llu",
                        (unsigned long long)t->offset,
                        (unsigned long long)g->alignment);
        }
        if (g->data_offset > g->file_bytes ||
            t->offset > g->file_bytes - g->data_offset ||
            t->bytes > g->file_bytes - g->data_offset - t->offset) {
            return fail(c, AXION_ERR_MODEL_FILE,
                        "%llu bytes at data offset %llu pass the file's end "
                        "(%llu bytes, data from %llu)",
                        (unsigned long long)t->bytes,
                        (unsigned long long)t->offset,
                        (unsigned long long)g->file_bytes,
                        (unsigned long long)g->data_offset);
        }
        t->offset += g->data_offset;
    }
    return AXION_OK;
}


static int
check_overlaps(struct cursor *c, uint32_t *by_offset)
{
    struct ax_gguf *g = c->g;

    sort(g, by_offset, g->n_tensors, compare_offsets);
    for (uint32_t i = 1; i < g->n_tensors; i++) {
        const struct ax_gguf_tensor *a = &g->tensors[by_offset[i - 1]];
        const struct ax_gguf_tensor *b = &g->tensors[by_offset[i]];
        if (a->bytes > b->offset - a->offset) {
            set_where(c, "tensor", b->name, strlen(b->name));
            return fail(c, AXION_ERR_MODEL_FILE,
                        "its bytes from %llu overlap those of %.64s "
                        "(%llu at %llu)",
                        (unsigned long long)b->offset, a->name,
                        (unsigned long long)a->bytes,
                        (unsigned long long)a->offset);
        }
    }
    return AXION_OK;
}


static int
allocate(struct cursor *c)
{
    struct ax_gguf *g = c->g;

    g->keys = calloc(g->n_keys + 1, sizeof(*g->keys));
    g->keys_sorted = calloc(g->n_keys + 1, sizeof(*g->keys_sorted));
    g->tensors = calloc(g->n_tensors + 1, sizeof(*g->tensors));
    g->tensors_sorted = calloc(g->n_tensors + 1, sizeof(*g->tensors_sorted));
    if (g->keys == NULL || g->keys_sorted == NULL || g->tensors == NULL ||
        g->tensors_sorted == NULL) {
        return fail(c, AXION_ERR_NO_MEMORY,
                    "no memory for %u keys and %u "
                    "tensors",
                    g->n_keys, g->n_tensors);
    }
    return AXION_OK;
}


static int
take_tables(struct cursor *c)
{
    struct ax_gguf *g = c->g;
    int rc = AXION_OK;

    for (uint32_t i = 0; i < g->n_keys && rc == AXION_OK; i++) {
        snprintf(c->where, sizeof(c->where), "key %u of %u", i, g->n_keys);
        rc = take_key(c, &g->keys[i]);
    }
    for (uint32_t i = 0; i < g->n_tensors && rc == AXION_OK; i++) {
        snprintf(c->where, sizeof(c->where), "tensor %u of %u", i,
                 g->n_tensors);
        rc = take_tensor(c, &g->tensors[i]);
    }
    return rc;
}


int
ax_gguf_parse(struct ax_gguf *g, struct ax_error *err)
{
    struct cursor c = {.g = g, .err = err, .where = "header"};
    int rc = take_preamble(&c);

    if (rc == AXION_OK) {
        rc = take_count(&c, "the tensor count", AX_GGUF_TENSORS_MAX,
                        TENSOR_BYTES_MIN, &g->n_tensors);
    }
    if (rc == AXION_OK) {
        rc = take_count(&c, "the key count", AX_GGUF_KEYS_MAX, KEY_BYTES_MIN,
                        &g->n_keys);
    }
    if (rc != AXION_OK) {
        g->n_keys = g->n_tensors = 0;
        return rc;
    }
    rc = allocate(&c);
    if (rc == AXION_OK) {
        rc = take_tables(&c);
    }
    if (rc == AXION_OK) {
        rc = check_duplicates(&c);
    }
    if (rc == AXION_OK) {
        rc = find_alignment(&c);
    }
    if (rc == AXION_OK) {
        rc = place_tensors(&c);
    }
    if (rc == AXION_OK && g->n_tensors > 1) {
        uint32_t *by_offset = calloc(g->n_tensors, sizeof(*by_offset));
        if (by_offset == NULL) {
            return fail(&c, AXION_ERR_NO_MEMORY, "no memory");
        }
        rc = check_overlaps(&c, by_offset);
        free(by_offset);
    }
    return rc;
}
