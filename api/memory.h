/*
 * What this library needs from whoever uses it: memory, and somewhere to
 * write.  It calls no allocator of its own (jansson may, while a body is
 * parsed, and has given everything back when the call returns), so the same
 * code runs over nginx's request pools, a sidecar's arenas and malloc.
 *
 * Memory is pool-style: nothing is freed one by one; it lives as long as the
 * request.  Output goes into struct axion_out, which either grows in such
 * memory or is a fixed window into a buffer that the caller owns (an
 * ngx_buf_t on the token path, where nothing may be allocated per token).
 *
 * Errors of output are sticky: writers return nothing, the first failure is
 * kept, later writes do nothing, and axion_out_status() tells at the end.
 * An output that failed holds an incomplete text and must not be sent.
 */
#ifndef AXION_API_MEMORY_H
#define AXION_API_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "shm/errors.h"

struct axion_memory {
    /* Aligned for any object; NULL when there is none. */
    void *(*alloc)(void *context, size_t bytes);
    void *context;
};

struct axion_out {
    char *data;
    size_t bytes;
    size_t capacity;
    size_t bytes_max; /* growth beyond this is PAYLOAD_TOO_LARGE */
    const struct axion_memory *memory; /* NULL: a fixed window */
    int error;
};

/* A growing output, `hint` bytes to begin with.  Growing doubles, so a pool
 * holds at most twice the final size. */
void axion_out_grow(struct axion_out *out, const struct axion_memory *memory,
                    size_t hint, size_t bytes_max);

/* A window of exactly `capacity` bytes; more is PAYLOAD_TOO_LARGE. */
void axion_out_fixed(struct axion_out *out, void *data, size_t capacity);

/* AXION_OK, NO_MEMORY or PAYLOAD_TOO_LARGE. */
int axion_out_status(const struct axion_out *out);

/* Room for `bytes` more, to be filled by the caller who then adds to
 * out->bytes; NULL when there is none (the error is kept). */
char *axion_out_reserve(struct axion_out *out, size_t bytes);

/* Here, since an event is made of a dozen pieces whose length is known when
 * this is compiled. */
static inline void
axion_out_bytes(struct axion_out *out, const void *data, size_t bytes)
{
    char *room;

    if (bytes == 0)
        return;
    room = axion_out_reserve(out, bytes);
    if (room == NULL)
        return;
    memcpy(room, data, bytes);
    out->bytes += bytes;
}

static inline void
axion_out_text(struct axion_out *out, const char *text)
{
    axion_out_bytes(out, text, strlen(text));
}

void axion_out_u64(struct axion_out *out, uint64_t value);
/* "%.*f" with 0..6 decimals; not a number and infinities become 0. */
void axion_out_decimal(struct axion_out *out, double value, int decimals);

/* A copy in `memory` with a NUL behind it; NULL without memory. */
char *axion_memory_copy(const struct axion_memory *memory, const void *data,
                        size_t bytes);

#endif
