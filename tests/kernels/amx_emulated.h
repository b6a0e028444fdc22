/*
 * The tile operations of kernels/amx_tiles.h in plain C, for machines without
 * AMX: tiles with rows and bytes as configured, exact sums, and an assertion
 * where the processor would fault (an unconfigured tile, shapes that do not
 * fit each other) or where a release was forgotten.  After the
 * instructions' pages in Intel's Software Developer's Manual, volume 2
 * (TILELOADD, TDPBSUD, TDPBF16PS, ..).
 */

#ifndef AMX_EMULATED_H
#define AMX_EMULATED_H

/* In place of the instructions. */
#define AXK_AMX_EMULATED

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "kernels/amx_tiles.h"

struct emulated_tile {
    uint16_t row_bytes;
    uint8_t rows;
    uint8_t data[16][64];
};

static _Thread_local struct emulated_tile emulated_tiles[8];


static inline struct emulated_tile *
emulated_tile_at(int i)
{
    struct emulated_tile *t = &emulated_tiles[i];

    assert(t->rows >= 1 && t->rows <= 16);
    assert(t->row_bytes >= 4 && t->row_bytes <= 64 && t->row_bytes % 4 == 0);
    return t;
}


static inline void
tile_release(void)
{
    memset(emulated_tiles, 0, sizeof(emulated_tiles));
}


static inline void
tile_configure(const void *p)
{
    uint8_t c[64];

    memcpy(c, p, sizeof(c));
    assert(c[0] == 1 && c[1] == 0);
    for (int i = 0; i < 8; i++) {
        assert(emulated_tiles[i].rows == 0); /* released before */
        memcpy(&emulated_tiles[i].row_bytes, c + 16 + 2 * i, 2);
        emulated_tiles[i].rows = c[48 + i];
        memset(emulated_tiles[i].data, 0, sizeof(emulated_tiles[i].data));
    }
}


static inline void
tile_zero(int i)
{
    memset(emulated_tile_at(i)->data, 0, sizeof(emulated_tiles[i].data));
}


/* What a load does not write is zero. */
static inline void
tile_load(int i, const void *p, size_t stride)
{
    struct emulated_tile *t = emulated_tile_at(i);

    tile_zero(i);
    for (size_t r = 0; r < t->rows; r++) {
        memcpy(t->data[r], (const uint8_t *)p + r * stride, t->row_bytes);
    }
}


static inline void
tile_store(int i, void *p, size_t stride)
{
    const struct emulated_tile *t = emulated_tile_at(i);

    for (size_t r = 0; r < t->rows; r++) {
        memcpy((uint8_t *)p + r * stride, t->data[r], t->row_bytes);
    }
}


/* Rows of sum are rows of a, its columns those of b, k what a's columns and
 * b's rows have in common. */
static inline void
emulated_shapes_fit(const struct emulated_tile *sum,
                    const struct emulated_tile *a,
                    const struct emulated_tile *b)
{
    assert(sum->rows == a->rows && sum->row_bytes == b->row_bytes);
    assert(a->row_bytes == 4 * b->rows);
}


static inline void
tile_dot_bytes(int sum, int a, int b)
{
    struct emulated_tile *c = emulated_tile_at(sum);
    const struct emulated_tile *x = emulated_tile_at(a);
    const struct emulated_tile *w = emulated_tile_at(b);

    emulated_shapes_fit(c, x, w);
    for (size_t m = 0; m < c->rows; m++) {
        for (size_t n = 0; n < c->row_bytes / 4u; n++) {
            int32_t s;

            memcpy(&s, &c->data[m][4 * n], 4);
            for (size_t k = 0; k < x->row_bytes; k++) {
                s += (int8_t)x->data[m][k] * w->data[k / 4][4 * n + k % 4];
            }
            memcpy(&c->data[m][4 * n], &s, 4);
        }
    }
}

/* Even and odd k apart, from zero, then together, then to the sum.  To be
 * called where denormals are zeros, going in and coming out. */
static __attribute__((noinline)) void
emulated_dot_bf16(struct emulated_tile *c, const struct emulated_tile *x,
                  const struct emulated_tile *w)
{
    const __m512i high = _mm512_set1_epi32((int32_t)0xffff0000u);
    __mmask16 columns = (__mmask16)((1u << c->row_bytes / 4) - 1);

    for (size_t m = 0; m < c->rows; m++) {
        __m512 even = _mm512_setzero_ps();
        __m512 odd = _mm512_setzero_ps();
        __m512 sum = _mm512_loadu_ps(c->data[m]);

        for (size_t k = 0; k < x->row_bytes / 4u; k++) {
            __m512i b = _mm512_loadu_si512(w->data[k]);
            int32_t pair;

            memcpy(&pair, &x->data[m][4 * k], 4);
            __m512i a = _mm512_set1_epi32(pair);

            even = _mm512_fmadd_ps(
                _mm512_castsi512_ps(_mm512_slli_epi32(a, 16)),
                _mm512_castsi512_ps(_mm512_slli_epi32(b, 16)), even);
            odd = _mm512_fmadd_ps(
                _mm512_castsi512_ps(_mm512_and_si512(a, high)),
                _mm512_castsi512_ps(_mm512_and_si512(b, high)), odd);
        }
        _mm512_mask_storeu_ps(c->data[m], columns,
                              _mm512_add_ps(sum, _mm512_add_ps(even, odd)));
    }
}


/* The processor's own fma does it, with MXCSR as the tiles always have it. */
static inline void
tile_dot_bf16(int sum, int a, int b)
{
    struct emulated_tile *c = emulated_tile_at(sum);
    const struct emulated_tile *x = emulated_tile_at(a);
    const struct emulated_tile *w = emulated_tile_at(b);
    unsigned int csr = _mm_getcsr();

    emulated_shapes_fit(c, x, w);
    _mm_setcsr(csr | 0x8040); /* FTZ, DAZ */
    emulated_dot_bf16(c, x, w);
    _mm_setcsr(csr);
}

#endif
