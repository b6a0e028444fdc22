/*
 * GGUF v2 and v3 files, read as hostile input.
 *
 * Owns the file descriptor and a private copy of the header (metadata and
 * tensor table).  Everything is checked in ax_gguf_open(): when it returns
 * AXION_OK, every key, array and string lies inside the copy, every tensor
 * lies inside the file, aligned and apart from the others, and its shape fits
 * its format.  What the getters return is therefore safe to use as it is; its
 * meaning (is this head count sane?) is the model's to judge.
 *
 * The file is never mapped: the header comes through pread() and so do
 * tensors, piece by piece, straight into the packing buffers.  A file that is
 * cut short or replaced while it loads gives a short read and a named error,
 * never SIGBUS.  After load ax_gguf_close_file() drops the descriptor and the
 * file is not touched again; the header stays until ax_gguf_close().
 *
 * An open file is immutable: any number of threads may read it at once.
 * Refused by name: other versions, big-endian files, arrays of arrays, split
 * files, tensor formats that the kernels do not know.  Limits are below.
 */
#ifndef AX_GGUF_H
#define AX_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/error.h"
#include "kernels/axk.h"


#define AX_GGUF_HEADER_MAX    (512u << 20) /* bytes */
#define AX_GGUF_KEYS_MAX      65536u
#define AX_GGUF_TENSORS_MAX   65536u
#define AX_GGUF_NAME_MAX      127u /* bytes of a tensor's name */
#define AX_GGUF_KEY_MAX       255u
#define AX_GGUF_DIMS_MAX      4u
#define AX_GGUF_ALIGNMENT_MAX (1u << 20)


/* The type numbers of the file format. */
enum ax_gguf_type {
    AX_GGUF_U8 = 0,
    AX_GGUF_I8 = 1,
    AX_GGUF_U16 = 2,
    AX_GGUF_I16 = 3,
    AX_GGUF_U32 = 4,
    AX_GGUF_I32 = 5,
    AX_GGUF_F32 = 6,
    AX_GGUF_BOOL = 7,
    AX_GGUF_STRING = 8,
    AX_GGUF_ARRAY = 9,
    AX_GGUF_U64 = 10,
    AX_GGUF_I64 = 11,
    AX_GGUF_F64 = 12,
    AX_GGUF_TYPES = 13
};


/* Bytes inside the header copy: not terminated, may hold any byte. */
struct ax_gguf_str {
    const char *p;
    uint64_t n;
};


/* One key and its value, for listings. */
struct ax_gguf_key {
    struct ax_gguf_str name;
    enum ax_gguf_type type;
    enum ax_gguf_type element; /* of an array */
    uint64_t n;                /* elements of an array, else 1 */
    const void *data;          /* unaligned, little-endian */
};


struct ax_gguf_tensor {
    char name[AX_GGUF_NAME_MAX + 1]; /* printable ASCII */
    uint32_t format;                 /* enum axk_format */
    uint32_t n_dims;
    uint64_t ne[AX_GGUF_DIMS_MAX]; /* ne[0] is contiguous; unused 1 */
    uint64_t offset;               /* from the file's start */
    uint64_t bytes;
};


struct ax_gguf;


/*
 * Opens and checks a file.  AXION_ERR_MODEL_FILE (not valid),
 * AXION_ERR_MODEL_UNSUPPORTED (valid, beyond us), AXION_ERR_SYSTEM,
 * AXION_ERR_NO_MEMORY; then *out is NULL and err has one line naming the
 * file, the key or tensor, the offset, found and expected.
 */
int ax_gguf_open(struct ax_gguf **out, const char *path, struct ax_error *err);

/* The same from a descriptor, which is taken over also on an error. */
int ax_gguf_open_fd(struct ax_gguf **out, int fd, const char *name,
                    struct ax_error *err);

/*
 * The header alone, copied from a GGUF file of file_bytes into `bytes` at
 * `offset` of another file: everything but ax_gguf_read() works.
 */
struct ax_gguf_part {
    uint64_t offset;
    uint64_t bytes;
    uint64_t file_bytes;
};

int ax_gguf_open_part(struct ax_gguf **out, int fd, const char *name,
                      const struct ax_gguf_part *part, struct ax_error *err);

void ax_gguf_close_file(struct ax_gguf *g);
void ax_gguf_close(struct ax_gguf *g); /* NULL is fine */

const char *ax_gguf_path(const struct ax_gguf *g);
/* The path's end, escaped; what error lines begin with. */
const char *ax_gguf_label(const struct ax_gguf *g);
uint32_t ax_gguf_version(const struct ax_gguf *g);
uint64_t ax_gguf_file_bytes(const struct ax_gguf *g);
int64_t ax_gguf_mtime_ns(const struct ax_gguf *g);
/* The file's first bytes, to the end of the tensor table. */
const void *ax_gguf_header(const struct ax_gguf *g, uint64_t *bytes);

/* All keys and tensors in file order; NULL past the end. */
uint32_t ax_gguf_n_keys(const struct ax_gguf *g);
const struct ax_gguf_key *ax_gguf_key_at(const struct ax_gguf *g, uint32_t i);
uint32_t ax_gguf_n_tensors(const struct ax_gguf *g);
const struct ax_gguf_tensor *ax_gguf_tensor_at(const struct ax_gguf *g,
                                               uint32_t i);

/* By name, NULL if there is none. */
const struct ax_gguf_key *ax_gguf_find(const struct ax_gguf *g,
                                       const char *name);
const struct ax_gguf_tensor *ax_gguf_tensor(const struct ax_gguf *g,
                                            const char *name);

/*
 * Typed getters.  An integer key is taken from any integer type whose value
 * fits, f32 also from f64.  AXION_OK; AXION_AGAIN when the file has no such
 * key (*out and err untouched); AXION_ERR_MODEL_FILE with a line when its
 * type or value is wrong.
 */
int ax_gguf_u32(const struct ax_gguf *g, const char *name, uint32_t *out,
                struct ax_error *err);
int ax_gguf_u64(const struct ax_gguf *g, const char *name, uint64_t *out,
                struct ax_error *err);
int ax_gguf_f32(const struct ax_gguf *g, const char *name, float *out,
                struct ax_error *err);
int ax_gguf_bool(const struct ax_gguf *g, const char *name, bool *out,
                 struct ax_error *err);
int ax_gguf_str(const struct ax_gguf *g, const char *name,
                struct ax_gguf_str *out, struct ax_error *err);

/*
 * An array of fixed-size elements: *data is unaligned, *n its count.  element
 * must match the file's; U32 and I32 are taken for each other.
 */
int ax_gguf_array(const struct ax_gguf *g, const char *name,
                  enum ax_gguf_type element, const void **data, uint64_t *n,
                  struct ax_error *err);

/* An array of strings; out (NULL: count only) has room for *n of them. */
int ax_gguf_strings(const struct ax_gguf *g, const char *name,
                    struct ax_gguf_str *out, uint64_t *n, struct ax_error *err);

/*
 * Reads bytes [offset, offset + n) of a tensor's data into dst.  Any thread.
 * AXION_ERR_MODEL_FILE when the file has become shorter, AXION_ERR_SYSTEM.
 */
int ax_gguf_read(const struct ax_gguf *g, const struct ax_gguf_tensor *t,
                 uint64_t offset, void *dst, size_t n, struct ax_error *err);

/*
 * Has the kernel bring in, while the caller goes on, what will be read: a file
 * that is not in the page cache then comes at the device's rate.  A favour: it
 * cannot fail, and bytes past the tensor's end are left out.
 */
void ax_gguf_read_ahead(const struct ax_gguf *g, const struct ax_gguf_tensor *t,
                        uint64_t offset, size_t n);

#endif /* AX_GGUF_H */
