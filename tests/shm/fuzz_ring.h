/*
 * What the two ring fuzzers share: input read in small pieces, a region of
 * the smallest geometry, made once and wiped for each input.
 */
#ifndef AXION_TESTS_SHM_FUZZ_RING_H
#define AXION_TESTS_SHM_FUZZ_RING_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "shm/ring.h"

struct input {
    const uint8_t *data;
    size_t bytes;
};

static const struct axion_geometry fuzz_geometry = {
    .sq_entries = AXION_SQ_ENTRIES_MIN,
    .cq_entries = AXION_CQ_ENTRIES_MIN,
    .arena_bytes = AXION_ARENA_BYTES_MIN,
    .streams = 4,
    .credit = 4,
};


static inline void
require(int condition)
{
    if (!condition) {
        abort();
    }
}


/* The next n bytes, zeros where the input is at its end. */
static inline void
take(struct input *input, void *to, size_t n)
{
    size_t have = n < input->bytes ? n : input->bytes;

    memset(to, 0, n);
    if (have > 0) {
        memcpy(to, input->data, have);
    }
    input->data += have;
    input->bytes -= have;
}


static inline uint32_t
take_u32(struct input *input)
{
    uint32_t value;

    take(input, &value, sizeof(value));
    return value;
}


static inline uint8_t
take_u8(struct input *input)
{
    uint8_t value;

    take(input, &value, sizeof(value));
    return value;
}

#endif
