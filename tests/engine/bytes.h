/*
 * GGUF files as bytes in memory, for tests that break them: a builder of
 * small files, patches of whole ones, and opening from a memfd.
 */
#ifndef TESTS_ENGINE_BYTES_H
#define TESTS_ENGINE_BYTES_H

#include <stddef.h>
#include <stdint.h>

#include "engine/gguf/gguf.h"
#include "engine/model/model.h"


struct bytes {
    uint8_t  *p;
    size_t    n;
    size_t    room;
};


void bytes_free(struct bytes *b);
void bytes_put(struct bytes *b, const void *data, size_t n);
void bytes_u32(struct bytes *b, uint32_t value);
void bytes_u64(struct bytes *b, uint64_t value);
void bytes_string(struct bytes *b, const char *text);

/* "GGUF", version 3, the two counts. */
void bytes_begin(struct bytes *b, uint64_t n_tensors, uint64_t n_keys);
void bytes_key_u32(struct bytes *b, const char *key, uint32_t value);
/* One dimension, format F32. */
void bytes_tensor(struct bytes *b, const char *name, uint64_t n,
    uint64_t offset);
void bytes_pad(struct bytes *b, size_t alignment);

/* A whole tiny model; the options of variant "f32" where NULL. */
void bytes_tiny(struct bytes *b, const char *variant);

/* Where the only occurrence of a length-prefixed name begins, or fails. */
size_t bytes_find(const struct bytes *b, const char *name);
/* Overwrites the u32 value of a key; of a tensor: dimension i. */
void bytes_set_u32(struct bytes *b, const char *key, uint32_t value);
void bytes_set_dim(struct bytes *b, const char *tensor, uint32_t i,
    uint64_t value);

/* The descriptor of a memfd with these bytes. */
int bytes_memfd(const struct bytes *b, size_t n);

/* Opens and closes them; the error's number, AXION_OK if it opened. */
int bytes_open_gguf(const struct bytes *b, size_t n, struct ax_error *err);
int bytes_open_model(const struct bytes *b, struct ax_model **out,
    struct ax_error *err);

#endif /* TESTS_ENGINE_BYTES_H */
