/*
 * Many tokens without VNNI: the codes of a panel are decoded to bytes once,
 * into a buffer that stays in L1, and every tile of tokens reads those.  For
 * the formats with high bits or of two bits, whose codes cost as much to put
 * together as the dots of four tokens.  With VNNI nothing was gained, nor by
 * bytes of Q8_0 as two nibbles, which need two multiplications where the sign
 * trick needs three: 4 % more at 512 tokens, less than nothing at 32.
 *
 * Included by matmul_ymm.inc.h.  The sums are the exact integers of
 * tiles_ymm.h and the f32 steps are its functions: the bits are the same.
 *
 * The codes of eight rows, four bytes each: per 8 k [k 0..3][k 4..7].
 */

#ifndef AXK_DECODED_YMM_H
#define AXK_DECODED_YMM_H

/* k in the buffer: no more than a block of 256, since struct expanded has the
 * scales of one.  Tiles whose results wait while the next k are decoded: 512
 * bytes each, on the stack. */
#define DECODED_K     256
#define DECODED_TILES 64


/* Whether so many tiles are worth it, as measured. */
INLINE bool
is_decoded_from(const uint32_t format, uint32_t n_tiles)
{
    if (AXK_YMM_VNNI || !(high_bits(format) || is_two_bit(format))) {
        return false;
    }
    return n_tiles >= (high_bits(format) == 2 ? 2 : 3);
}


/* k-steps of nibbles: 64 bytes each, at out for the first eight rows, stride
 * bytes further for each other eight. */
INLINE uint8_t *
decode_steps(const uint32_t format, const uint8_t *w, const uint8_t *high,
             const uint32_t n_steps, uint8_t *out, size_t stride)
{
    for (uint32_t r = 0; r < ROWS_MAX; r++) {
        __m256i h = load_32_bytes(high + 32 * r);

        for (uint32_t i = 0; i < n_steps; i++) {
            uint8_t *to = out + stride * r + 64 * i;
            __m256i lo;
            __m256i hi;

            read_step(format, w + 128 * i + 32 * r, h, &h, &lo, &hi);
            _mm256_store_si256((__m256i *)to, lo);
            _mm256_store_si256((__m256i *)(to + 32), hi);
        }
    }
    return out + 64 * n_steps;
}


/* A line of two bits, with Q3_K's third: 256 bytes, at the same places. */
INLINE uint8_t *
decode_line(const uint32_t format, const uint8_t *line, uint8_t *out,
            size_t stride)
{
    for (uint32_t r = 0; r < ROWS_MAX; r++) {
        const uint8_t *w = line + line_head(format) + 32 * r;

        for (int i = 0; i < 8; i++) {
            __m256i codes = load_32_bytes(w + i / 4 * 128);

            codes = _mm256_and_si256(_mm256_srli_epi16(codes, i % 4 * 2),
                                     _mm256_set1_epi8(3));
            if (format == AXK_Q3_K) {
                __m256i h = load_32_bytes(line + 32 * r);

                h = i < 2 ? _mm256_slli_epi16(h, 2 - i)
                          : _mm256_srli_epi16(h, i - 2);
                codes = _mm256_or_si256(
                    codes, _mm256_and_si256(h, _mm256_set1_epi8(4)));
            }
            _mm256_store_si256((__m256i *)(out + stride * r + 32 * i), codes);
        }
    }
    return out + 256;
}


INLINE uint8_t *
decode_block(const uint32_t format, const uint8_t *w, uint8_t *out,
             size_t stride)
{
    const uint8_t *steps = w + steps_offset(format);

    if (!is_k_format(format)) {
        return decode_steps(format, steps, steps - 128, 4, out, stride);
    }
    for (uint32_t i = 0; is_two_bit(format) && i < n_lines(format); i++) {
        out = decode_line(format, lines_of(format, w) + i * line_bytes(format),
                          out, stride);
    }
    if (is_two_bit(format)) {
        return out;
    }
    for (uint32_t part = 0; part < AXK_QK_K / part_elems(format); part++) {
        const uint8_t *p = part_at(format, w, part);

        out = decode_steps(format, p + 128, p, part_elems(format) / 8, out,
                           stride);
    }
    return out;
}


/* The lines of the next call come meanwhile. */
INLINE void
decode(const uint32_t format, const uint8_t *w, uint32_t n_blocks, uint8_t *out,
       size_t stride)
{
    const size_t bytes = panel_block_bytes(format);

    for (uint32_t b = 0; b < n_blocks; b++) {
        for (size_t i = 0; i < bytes; i += 64) {
            _mm_prefetch((const char *)w + n_blocks * bytes + i, _MM_HINT_T1);
        }
        out = decode_block(format, w, out, stride);
        w += bytes;
    }
}


/* The first n_tiles tiles of tokens, all full, times a panel. */
INLINE void
run_decoded_tiles(const uint32_t format, const struct axk_matmul *a,
                  uint32_t row, const uint8_t *panel, uint32_t tile0,
                  uint32_t n_tiles)
{
    const size_t tile_words = act_tile_words(act_kind(format), a->k);
    const uint32_t chunk = DECODED_K / block_elems(format);
    const uint32_t n_blocks = a->k / block_elems(format);
    const size_t stride = chunk * decoded_bytes(format);
    uint8_t codes[DECODED_K * AXK_PANEL_ROWS] __attribute__((aligned(64)));
    float sofar[DECODED_TILES][4 * AXK_TILE * 8] __attribute__((aligned(64)));
    struct expanded e;

    memset(sofar, 0, n_tiles * sizeof(sofar[0]));
    for (uint32_t b = 0; b < n_blocks; b += chunk) {
        uint32_t n = n_blocks - b < chunk ? n_blocks - b : chunk;
        const uint8_t *w = panel + b * panel_block_bytes(format);
        const uint32_t *act = (const uint32_t *)a->act + tile0 * tile_words +
                              (size_t)b * record_words(format) * AXK_TILE;

        decode(format, w, n, codes, stride);
        for (uint32_t i = 0; i < n_tiles; i++) {
            for (uint32_t r = 0; r < ROWS_MAX; r++) {
                struct shape s = {AXK_TILE, r, 1, true, codes + r * stride};

                run_chunk(format, w, w, act, n, s, &e, sofar[i]);
            }
            act += tile_words;
        }
    }
    for (uint32_t i = 0; i < n_tiles; i++) {
        store_sofar(a, row, tile0 + i, AXK_TILE, sofar[i]);
    }
}


INLINE void
run_decoded(const uint32_t format, const struct axk_matmul *a, uint32_t row,
            const uint8_t *panel, uint32_t n_tiles)
{
    for (uint32_t tile = 0; tile < n_tiles; tile += DECODED_TILES) {
        uint32_t left = n_tiles - tile;

        run_decoded_tiles(format, a, row, panel, tile,
                          left < DECODED_TILES ? left : DECODED_TILES);
    }
}

#endif
