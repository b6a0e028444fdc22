/*
 * One quantized block of a ggml file, decoded to codes and scales.  Used by
 * pack.c only.
 */

#ifndef AXK_FILE_BLOCKS_H
#define AXK_FILE_BLOCKS_H

#include "kernels/axk.h"
#include "kernels/codes.h"

struct file_block {
    uint16_t d; /* f16; bf16 for MXFP4 */
    uint16_t m; /* f16: minimum, or scale of the minima */
    uint8_t code[AXK_QK_K];
    uint8_t scale[16]; /* of each part; signed bytes where the format says */
    uint8_t min[16];
};

/* False if a scale is NaN or infinite.  src may be unaligned. */
bool axk_read_block(uint32_t format, const uint8_t *src, struct file_block *b);

#endif
