/*
 * libFuzzer: any bytes as a GGUF file, through the reader, every getter, and
 * the model's own checks up to the packed weights.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/gguf/gguf.h"
#include "engine/model/model.h"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static void
read_key(const struct ax_gguf *g, const struct ax_gguf_key *key)
{
    char name[AX_GGUF_KEY_MAX + 1];
    uint32_t u32;
    float f32;
    struct ax_gguf_str s;
    struct ax_gguf_str strings[4];
    uint64_t n = 4;

    snprintf(name, sizeof(name), "%.*s", (int) key->name.n, key->name.p);
    (void) ax_gguf_u32(g, name, &u32, NULL);
    (void) ax_gguf_f32(g, name, &f32, NULL);
    (void) ax_gguf_str(g, name, &s, NULL);
    (void) ax_gguf_strings(g, name, strings, &n, NULL);
}


static void
read_all(const struct ax_gguf *g)
{
    char buffer[64];

    for (uint32_t i = 0; i < ax_gguf_n_keys(g); i++) {
        read_key(g, ax_gguf_key_at(g, i));
    }
    for (uint32_t i = 0; i < ax_gguf_n_tensors(g); i++) {
        const struct ax_gguf_tensor *t = ax_gguf_tensor_at(g, i);
        size_t n = t->bytes < sizeof(buffer) ? t->bytes : sizeof(buffer);
        if (ax_gguf_tensor(g, t->name) != t
            || ax_gguf_read(g, t, t->bytes - n, buffer, n, NULL)
                   != AXION_OK) {
            abort();
        }
    }
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    char path[64];
    struct ax_gguf *g;
    struct ax_model *m;

    if (fd < 0 || write(fd, data, size) != (ssize_t) size) {
        abort();
    }
    if (ax_gguf_open_fd(&g, dup(fd), "fuzz", NULL) == AXION_OK) {
        read_all(g);
        ax_gguf_close(g);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        struct ax_model_options options = { .path = path, .n_threads = 1 };
        (void) ax_model_open(&m, &options, NULL);
        ax_model_close(m);
    }
    close(fd);
    return 0;
}
