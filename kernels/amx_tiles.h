/*
 * The AMX tile operations that matmul_amx.c is written in, as instructions.
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

#endif
