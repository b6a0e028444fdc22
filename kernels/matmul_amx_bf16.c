/*
 * Matmuls of BF16 weights with AMX BF16: the class "bf16-tile" of
 * scalar_bf16.c, for any number of tokens, one included.  Everything else is
 * amx's.  F16 weights stay with it too: as BF16 they would lose three bits.
 *
 * A tile is 16 tokens or 16 rows of 32 k.  256 k of BLOCK_PANELS panels become
 * pairs of k at a time, and so do those of GROUP tokens, once for these panels;
 * then two tiles of tokens times both halves of a panel are summed in four
 * tiles.  Their f32 wait in memory from one 256 k to the next, which changes no
 * bit.  Rows of a tile without a token, and k behind the last, are zeros.
 *
 * Never run on a machine with AMX, so nothing here is tuned.
 */

#include "kernels/bf16_pairs.h"
#include "kernels/amx_tiles.h"

#define STEP_K       32  /* of one tile operation */
#define CHUNK_K      256 /* 16 KiB of a panel */
#define BLOCK_PANELS 2
#define GROUP        32  /* tokens in two tiles */
#define BLOCK_TOKENS 128 /* for which a chunk of the panels is paired once */

#define STEPS (CHUNK_K / STEP_K)

/* Tiles by number: sums [token tile][half of a panel], operands. */
#define TILE_SUM00 0
#define TILE_SUM01 1
#define TILE_SUM10 2
#define TILE_SUM11 3
#define TILE_X0    4
#define TILE_X1    5
#define TILE_W0    6
#define TILE_W1    7

/* Sums of 32 tokens and a panel: [16 tokens][16 rows] for each sum tile. */
struct group_sums {
    float tile[2][2][16 * 16];
};

/* What a call keeps on the stack, 80 KiB. */
struct work {
    uint32_t w[BLOCK_PANELS][CHUNK_K / 2 * AXK_PANEL_ROWS];
    uint32_t x[2][STEPS][16][STEP_K / 2]; /* [token tile][step][token] */
    struct group_sums sums[BLOCK_TOKENS / GROUP][BLOCK_PANELS];
};

/* Some k of some panels. */
struct block {
    const uint8_t *panel; /* the first */
    uint32_t row;
    uint32_t n_panels;
    uint32_t k0;
    uint32_t k;
};


static void
configure(void)
{
    struct tile_config c = {.palette = 1};

    for (int i = TILE_SUM00; i <= TILE_W1; i++) {
        c.row_bytes[i] = 64;
        c.rows[i] = 16;
    }
    tile_configure(&c);
}


/* k floats of an activation tile's n tokens to rows [first, first + n) of the
 * steps' tiles; the rest of the last step is zero. */
INLINE void
turn_tokens(const float *x, uint32_t k, const uint32_t n, uint32_t first,
            uint32_t out[STEPS][16][STEP_K / 2])
{
    uint32_t pairs[CHUNK_K / 2 * AXK_TILE + 16] __attribute__((aligned(64)));
    const __m512i turn =
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);

    if (k % STEP_K != 0) {
        memset(pairs, 0, sizeof(pairs));
    }
    pair_activations(x, k, n, pairs);
    for (uint32_t i = 0; i < (k + STEP_K - 1) / STEP_K * STEP_K / 2; i += 4) {
        uint32_t(*rows)[STEP_K / 2] = out[i / (STEP_K / 2)] + first;
        uint32_t column = i % (STEP_K / 2);
        uint32_t words[16];

        if (n < AXK_TILE) {
            for (uint32_t t = 0; t < n; t++) {
                for (uint32_t j = 0; j < 4; j++) {
                    rows[t][column + j] = pairs[(i + j) * n + t];
                }
            }
            continue;
        }
        _mm512_storeu_si512(
            words, _mm512_permutexvar_epi32(
                       turn, _mm512_loadu_si512(pairs + i * AXK_TILE)));
        for (uint32_t t = 0; t < AXK_TILE; t++) {
            memcpy(&rows[t][column], words + 4 * t, 16);
        }
    }
}


/* The tokens of a group, from token m on, as operands. */
static void
turn_group(const struct axk_matmul *a, const struct block *b, uint32_t m,
           struct work *work)
{
    uint32_t left = a->n_tokens - m;

    if (left < GROUP) {
        memset(work->x, 0, sizeof(work->x)); /* rows without a token */
    }
    for (uint32_t i = 0; i < GROUP && i < left; i += AXK_TILE) {
        uint32_t tile = (m + i) / AXK_TILE;
        uint32_t n = tile_tokens(a->n_tokens, tile);
        const float *x = (const float *)a->act +
                         tile * act_tile_words(AXK_ACT_F32, a->k) +
                         (size_t)b->k0 * n;

        switch (n) {
        case 1:
            turn_tokens(x, b->k, 1, i % 16, work->x[i / 16]);
            break;
        case 2:
            turn_tokens(x, b->k, 2, i % 16, work->x[i / 16]);
            break;
        case 3:
            turn_tokens(x, b->k, 3, i % 16, work->x[i / 16]);
            break;
        default:
            turn_tokens(x, b->k, AXK_TILE, i % 16, work->x[i / 16]);
            break;
        }
    }
}


/* c (+)= 16 tokens, or with two 32, times a panel. */
static void
multiply(const struct work *work, const uint32_t *w, uint32_t n_steps, bool two,
         bool none_before, struct group_sums *c)
{
    if (none_before) {
        tile_zero(TILE_SUM00);
        tile_zero(TILE_SUM01);
        tile_zero(TILE_SUM10);
        tile_zero(TILE_SUM11);
    } else {
        tile_load(TILE_SUM00, c->tile[0][0], 64);
        tile_load(TILE_SUM01, c->tile[0][1], 64);
        tile_load(TILE_SUM10, c->tile[1][0], 64);
        tile_load(TILE_SUM11, c->tile[1][1], 64);
    }
    for (uint32_t i = 0; i < n_steps; i++) {
        tile_load(TILE_W0, w, 128);
        tile_load(TILE_W1, w + 16, 128);
        tile_load(TILE_X0, work->x[0][i], 64);
        tile_dot_bf16(TILE_SUM00, TILE_X0, TILE_W0);
        tile_dot_bf16(TILE_SUM01, TILE_X0, TILE_W1);
        if (two) {
            tile_load(TILE_X1, work->x[1][i], 64);
            tile_dot_bf16(TILE_SUM10, TILE_X1, TILE_W0);
            tile_dot_bf16(TILE_SUM11, TILE_X1, TILE_W1);
        }
        w += STEP_K / 2 * AXK_PANEL_ROWS;
    }
    tile_store(TILE_SUM00, c->tile[0][0], 64);
    tile_store(TILE_SUM01, c->tile[0][1], 64);
    tile_store(TILE_SUM10, c->tile[1][0], 64);
    tile_store(TILE_SUM11, c->tile[1][1], 64);
}


/* The finished sums of the tokens from m on. */
static void
store_group(const struct axk_matmul *a, uint32_t row, uint32_t m,
            const struct group_sums *c)
{
    uint32_t left = a->n_tokens - m;

    for (uint32_t t = 0; t < GROUP && t < left; t++) {
        const float(*half)[16 * 16] = c->tile[t / 16];
        __m512 acc[2][AXK_TILE];

        acc[0][0] = _mm512_loadu_ps(half[0] + t % 16 * 16);
        acc[1][0] = _mm512_loadu_ps(half[1] + t % 16 * 16);
        store_tile(a, row, m + t, 1, acc);
    }
}


/* A chunk of k of some panels times the tokens [m0, m1). */
static void
run_chunk(const struct axk_matmul *a, const struct block *b, uint32_t m0,
          uint32_t m1, struct work *work)
{
    uint32_t n_steps = (b->k + STEP_K - 1) / STEP_K;
    size_t panel_bytes = a->k * panel_block_bytes(AXK_BF16);

    for (uint32_t i = 0; i < b->n_panels; i++) {
        if (b->k % STEP_K != 0) {
            memset(work->w[i], 0, sizeof(work->w[i]));
        }
        pair_weights(b->panel + i * panel_bytes +
                         b->k0 * panel_block_bytes(AXK_BF16),
                     b->k, work->w[i]);
    }
    for (uint32_t m = m0; m < m1; m += GROUP) {
        struct group_sums *c = work->sums[(m - m0) / GROUP];

        turn_group(a, b, m, work);
        for (uint32_t i = 0; i < b->n_panels; i++) {
            multiply(work, work->w[i], n_steps, m1 - m > 16, b->k0 == 0, &c[i]);
            if (b->k0 + b->k == a->k) {
                store_group(a, b->row + i * AXK_PANEL_ROWS, m, &c[i]);
            }
        }
    }
}


static void
run_block(const struct axk_matmul *a, struct block *b)
{
    struct work work __attribute__((aligned(64)));

    for (uint32_t m = 0; m < a->n_tokens; m += BLOCK_TOKENS) {
        uint32_t left = a->n_tokens - m;
        uint32_t end = left < BLOCK_TOKENS ? a->n_tokens : m + BLOCK_TOKENS;

        for (b->k0 = 0; b->k0 < a->k; b->k0 += CHUNK_K) {
            b->k = a->k - b->k0 < CHUNK_K ? a->k - b->k0 : CHUNK_K;
            run_chunk(a, b, m, end, &work);
        }
    }
}


void
axk_matmul_amx_bf16(const struct axk_matmul *a, uint32_t row0, uint32_t row1)
{
    const uint32_t step = BLOCK_PANELS * AXK_PANEL_ROWS;
    size_t panel_bytes = a->k * panel_block_bytes(AXK_BF16);

    if (a->format != AXK_BF16) {
        axk_matmul_amx(a, row0, row1);
        return;
    }
    configure();
    for (uint32_t row = row0; row < row1; row += step) {
        uint32_t end = row1 - row < step ? row1 : row + step;
        struct block b = {
            .panel = (const uint8_t *)a->w + row / AXK_PANEL_ROWS * panel_bytes,
            .row = row,
            .n_panels = (end - row + AXK_PANEL_ROWS - 1) / AXK_PANEL_ROWS};

        run_block(a, &b);
    }
    tile_release();
}
