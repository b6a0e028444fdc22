#include "tests/engine/bytes.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/tiny/tiny_model.h"


void
bytes_free(struct bytes *b)
{
    free(b->p);
    *b = (struct bytes) { 0 };
}


void
bytes_put(struct bytes *b, const void *data, size_t n)
{
    if (n > b->room - b->n) {
        b->room = (b->n + n) * 2;
        b->p = realloc(b->p, b->room);
        assert_non_null(b->p);
    }
    memcpy(b->p + b->n, data, n);
    b->n += n;
}


void
bytes_u32(struct bytes *b, uint32_t value)
{
    bytes_put(b, &value, sizeof(value));
}


void
bytes_u64(struct bytes *b, uint64_t value)
{
    bytes_put(b, &value, sizeof(value));
}


void
bytes_string(struct bytes *b, const char *text)
{
    bytes_u64(b, strlen(text));
    bytes_put(b, text, strlen(text));
}


void
bytes_begin(struct bytes *b, uint64_t n_tensors, uint64_t n_keys)
{
    b->n = 0;
    bytes_put(b, "GGUF", 4);
    bytes_u32(b, 3);
    bytes_u64(b, n_tensors);
    bytes_u64(b, n_keys);
}


void
bytes_key_u32(struct bytes *b, const char *key, uint32_t value)
{
    bytes_string(b, key);
    bytes_u32(b, AX_GGUF_U32);
    bytes_u32(b, value);
}


void
bytes_tensor(struct bytes *b, const char *name, uint64_t n, uint64_t offset)
{
    bytes_string(b, name);
    bytes_u32(b, 1);
    bytes_u64(b, n);
    bytes_u32(b, AXK_F32);
    bytes_u64(b, offset);
}


void
bytes_pad(struct bytes *b, size_t alignment)
{
    while (b->n % alignment != 0) {
        bytes_put(b, "", 1);
    }
}


void
bytes_tiny(struct bytes *b, const char *variant)
{
    const struct tiny_options *options
        = tiny_variant_find(variant != NULL ? variant : "f32");

    assert_non_null(options);
    b->p = tiny_model_build(options, &b->n);
    assert_non_null(b->p);
    b->room = b->n;
}


size_t
bytes_find(const struct bytes *b, const char *name)
{
    uint64_t n = strlen(name);

    for (size_t i = 0; i + 8 + n <= b->n; i++) {
        if (memcmp(b->p + i, &n, 8) == 0
            && memcmp(b->p + i + 8, name, n) == 0) {
            return i;
        }
    }
    fail_msg("%s is not in the file", name);
    return 0;
}


void
bytes_set_u32(struct bytes *b, const char *key, uint32_t value)
{
    size_t at = bytes_find(b, key) + 8 + strlen(key) + 4;

    memcpy(b->p + at, &value, sizeof(value));
}


void
bytes_set_dim(struct bytes *b, const char *tensor, uint32_t i, uint64_t value)
{
    size_t at = bytes_find(b, tensor) + 8 + strlen(tensor) + 4 + 8 * i;

    memcpy(b->p + at, &value, sizeof(value));
}


int
bytes_memfd(const struct bytes *b, size_t n)
{
    int fd = memfd_create("gguf", MFD_CLOEXEC);

    assert_true(fd >= 0);
    for (size_t done = 0; done < n;) {
        ssize_t written = write(fd, b->p + done, n - done);
        assert_true(written > 0);
        done += (size_t) written;
    }
    return fd;
}


int
bytes_open_gguf(const struct bytes *b, size_t n, struct ax_error *err)
{
    struct ax_gguf *g;
    int rc = ax_gguf_open_fd(&g, bytes_memfd(b, n), "test.gguf", err);

    assert_true(rc == AXION_OK || g == NULL);
    ax_gguf_close(g);
    return rc;
}


int
bytes_open_model(const struct bytes *b, struct ax_model **out,
                 struct ax_error *err)
{
    char path[64];
    int fd = bytes_memfd(b, b->n);
    struct ax_model_options options = { .path = path, .n_threads = 2 };

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int rc = ax_model_open(out, &options, err);
    close(fd);
    return rc;
}
