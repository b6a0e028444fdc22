/*
 * The AMX tile operations that matmul_amx.c and matmul_amx_bf16.c are written
 * in, as instructions.
 * tests/kernels/amx_emulated.h has the same names in plain C, so that the very
 * same source is checked on machines without AMX (no machine of ours has it).
 *
 * A tile is up to 16 rows of up to 64 bytes, as configured; its number is a
 * literal.  The intrinsics do not say that a load reads memory, so a compiler
 * could move the stores that fill an operand behind it: the barrier forbids
 * that.
 */

#ifndef AXK_AMX_TILES_H
#define AXK_AMX_TILES_H

#include <immintrin.h>
#include <stdint.h>

/* What ldtilecfg reads. */
struct tile_config {
    uint8_t palette;
    uint8_t start_row;
    uint8_t reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

#ifndef AXK_AMX_EMULATED

/* The 64 bytes at p: palette, rows and bytes per row of all tiles. */
#define tile_configure(p)                                                      \
    do {                                                                       \
        __asm__ volatile("" ::: "memory");                                     \
        _tile_loadconfig(p);                                                   \
    } while (0)

/* Gives the tiles back: the thread's state is small again. */
#define tile_release() _tile_release()

#define tile_zero(tile) _tile_zero(tile)

/* Rows at p, stride bytes apart. */
#define tile_load(tile, p, stride)                                             \
    do {                                                                       \
        __asm__ volatile("" ::: "memory");                                     \
        _tile_loadd(tile, p, stride);                                          \
    } while (0)

#define tile_store(tile, p, stride)                                            \
    do {                                                                       \
        _tile_stored(tile, p, stride);                                         \
        __asm__ volatile("" ::: "memory");                                     \
    } while (0)

/* sum[m][n] += four products of signed bytes of a (row m) and unsigned bytes
 * of b (column n), for every four k.  tdpbsud */
#define tile_dot_bytes(sum, a, b) _tile_dpbsud(sum, a, b)

/* sum[m][n] += the products of pairs of BF16 of a (row m) and b (column n),
 * summed as scalar_bf16.c's "bf16-tile" says.  tdpbf16ps */
#define tile_dot_bf16(sum, a, b) _tile_dpbf16ps(sum, a, b)

#endif

#endif
