/*
 * Blocks of random quantized weights.  A format is its place in ggml's list,
 * the size of its block, and how a block's scale fields are written so that
 * its values lie in about [-a, a] around zero; all other bytes are random, so
 * that every level, every scale of a sub-block and every high bit occurs.
 * Layouts: ggml-common.h of llama.cpp.
 */

#ifndef TESTS_TINY_TINY_BLOCKS_H
#define TESTS_TINY_TINY_BLOCKS_H

#include <stdint.h>

#include "tests/tiny/tiny_model.h"

#define TINY_BLOCK_BYTES_MAX 256

struct tiny_block_format {
    const char *name;
    uint32_t ggml_type;
    uint32_t values; /* of one block; 1: no quantized format */
    uint32_t bytes;
    uint32_t lead;   /* bytes at the front that are not random */
    /* r: 64 random bits of which bits 0..57 are free */
    void (*finish)(uint8_t *block, float scale, uint64_t r);
};

/* Indexed by enum tiny_format. */
extern const struct tiny_block_format tiny_block_formats[TINY_FORMATS];

/* To binary16, round to nearest even; small values become subnormal. */
uint16_t tiny_half(float f);

#endif
