/*
 * The tile operations of kernels/amx_tiles.h in plain C, for machines without
 * AMX: tiles with rows and bytes as configured, exact sums, and an assertion
 * where the processor would fault (an unconfigured tile, shapes that do not
 * fit each other) or where a release was forgotten.  After Intel's
 * Instruction Set Extensions Programming Reference, chapter 3 (TILELOADD,
 * TDPBSUD, ..).
 */

#ifndef AMX_EMULATED_H
#define AMX_EMULATED_H

/* In place of the instructions. */
#define AXK_AMX_TILES_H

#include <assert.h>
#include <stdint.h>
#include <string.h>

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

#endif
