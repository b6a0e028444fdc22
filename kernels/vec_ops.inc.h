/*
 * The small ops over sixteen lanes, shared by the vector instruction sets:
 * avx2.c and avx512.c include their simd_*.h, then this file, then put the
 * functions into their table.  Each op must return the bits of its namesake
 * in scalar.c, which is where the definitions and their sources are written.
 *
 * A row's tail (n not a multiple of 16) goes through load_n and store_n: no
 * byte outside the row is read or written.
 */

/* Lanes left at column i of n, at most 16. */
INLINE uint32_t
lanes_left(size_t n, size_t i)
{
    return n - i < 16 ? (uint32_t)(n - i) : 16;
}


INLINE v16
load_some(const float *p, uint32_t n)
{
    return n == 16 ? v16_load(p) : v16_load_n(p, n);
}


INLINE void
store_some(float *p, v16 x, uint32_t n)
{
    if (n == 16) {
        v16_store(p, x);
    } else {
        v16_store_n(p, x, n);
    }
}


/* axk_exp32 of sixteen values, none of them above AXK_EXP_HIGH. */
INLINE v16
vec_exp_negative(v16 x)
{
    v16 t = v16_fma(x, v16_set1(AXK_LOG2E), v16_set1(AXK_EXP_MAGIC));
    v16 n = v16_sub(t, v16_set1(AXK_EXP_MAGIC));
    v16 r = v16_fma(n, v16_set1(-AXK_LN2_HI), x);
    v16 p = v16_set1(AXK_EXP_C7);

    r = v16_fma(n, v16_set1(-AXK_LN2_LO), r);
    p = v16_fma(p, r, v16_set1(AXK_EXP_C6));
    p = v16_fma(p, r, v16_set1(AXK_EXP_C5));
    p = v16_fma(p, r, v16_set1(AXK_EXP_C4));
    p = v16_fma(p, r, v16_set1(AXK_EXP_C3));
    p = v16_fma(p, r, v16_set1(0.5f));
    p = v16_fma(p, r, v16_set1(1.0f));
    p = v16_fma(p, r, v16_set1(1.0f));
    p = v16_mul(p, v16_power_of_two(t));
    return v16_select_lt(x, v16_set1(AXK_EXP_LOW), v16_set1(0), p);
}


/* axk_exp32 of sixteen values. */
INLINE v16
vec_exp(v16 x)
{
    return v16_select_lt(v16_set1(AXK_EXP_HIGH), x,
                         v16_set1(float_of(0x7f800000)), vec_exp_negative(x));
}


INLINE v16
vec_softcap_of(v16 x, float cap)
{
    v16 e = vec_exp(v16_mul(v16_set1(2.0f), v16_div(x, v16_set1(cap))));
    v16 q = v16_div(v16_set1(2.0f), v16_add(e, v16_set1(1.0f)));

    return v16_mul(v16_set1(cap), v16_sub(v16_set1(1.0f), q));
}


/* 32 values times inverse as integers.  A block that is all zero or not finite
 * has inverse 0 or NaN and quants 0. */
INLINE void
quantize_32(const float *x, float inverse, v16i q[2])
{
    v16 y = v16_set1(inverse);

    if (!(inverse > 0)) {
        q[0] = v16i_set1(0);
        q[1] = q[0];
        return;
    }
    q[0] = v16_round(v16_mul(v16_load(x), y), AXK_BELOW_HALF);
    q[1] = v16_round(v16_mul(v16_load(x + 16), y), AXK_BELOW_HALF);
}


/* Lanes whose largest is that of 32 magnitudes. */
INLINE v16i
magnitudes_32(const float *x)
{
    return v16i_max_u32(v16i_magnitude(v16_load(x)),
                        v16i_magnitude(v16_load(x + 16)));
}


INLINE v16
round_to_f16(v16 x)
{
    uint16_t halves[16];

    v16_store_f16(halves, x);
    return v16_load_f16(halves);
}


/* d of 16 blocks of these largest magnitudes, and what to multiply their
 * values with. */
INLINE v16
scales_of(v16i largest, float inverse[16])
{
    v16 d = v16_div(v16i_as_f32(largest), v16_set1(127.0f));

    d = v16_add(d, v16_sub(d, d)); /* infinity becomes NaN */
    v16_store(inverse, v16_select_lt(d, v16_set1(AXK_D_MIN), v16_set1(0),
                                     v16_div(v16_set1(1.0f), d)));
    return d;
}


/* The last four words of the records of 16 blocks: d and the sums. */
INLINE void
ends_of(v16 d, v16i sum, uint32_t ends[4][16])
{
    v16_store((float *)ends[0], round_to_f16(d));
    v16i_store(ends[1], v16i_mul_i32(sum, v16i_set1(-8)));
    v16i_store(ends[2], v16i_mul_i32(sum, v16i_set1(-128)));
    v16_store((float *)ends[3], round_to_f16(v16_mul(d, v16i_to_f32(sum))));
}


/* Up to 16 blocks of 32 of one token into records, all of them step by step:
 * maxima, scales, quants and sums are vectors over the blocks. */
static void
vec_quantize_blocks(const float *x, uint32_t n_blocks, uint32_t *record)
{
    v16i lanes[16];
    float inverse[16];
    uint32_t ends[4][16];

    for (uint32_t b = 0; b < 16; b++) {
        lanes[b] =
            b < n_blocks ? magnitudes_32(x + (size_t)b * AXK_QK) : v16i_set1(0);
    }
    v16 d = scales_of(v16i_fold_max_u32(lanes), inverse);

    for (uint32_t b = 0; b < n_blocks; b++) {
        int8_t *codes = (int8_t *)(record + b * AXK_ACT_WORDS);
        v16i q[2];

        quantize_32(x + (size_t)b * AXK_QK, inverse[b], q);
        v16i_store_i8(codes, q[0]);
        v16i_store_i8(codes + 16, q[1]);
        lanes[b] = v16i_add(q[0], q[1]);
    }
    ends_of(d, v16i_fold_sum(lanes), ends);
    uint32_t b = 0;

    for (; b + 4 <= n_blocks; b += 4) {
        transpose_4x4(&ends[0][b], 16, record + b * AXK_ACT_WORDS + AXK_ACT_D,
                      AXK_ACT_WORDS);
    }
    for (; b < n_blocks; b++) {
        for (uint32_t i = 0; i < 4; i++) {
            record[b * AXK_ACT_WORDS + AXK_ACT_D + i] = ends[i][b];
        }
    }
}


/* The codes of a block of four tokens as [8][4] words; returns lanes whose
 * sums, those of each 128 bits, are the tokens'. */
INLINE v16i
store_codes_of_four(v16i q[AXK_TILE][2], uint32_t *dst)
{
    /* In each 128 bits a word of the first half of the block and one of the
     * second, of two tokens. */
    v16i ab = v16i_pack_i16(v16i_pack_i32(q[0][0], q[0][1]),
                            v16i_pack_i32(q[1][0], q[1][1]));
    v16i cd = v16i_pack_i16(v16i_pack_i32(q[2][0], q[2][1]),
                            v16i_pack_i32(q[3][0], q[3][1]));
    v16i first = v16i_even_of_four(ab, cd);
    v16i second = v16i_odd_of_four(ab, cd);

    v16i_store(dst, first);
    v16i_store(dst + 16, second);
    return v16i_add(v16i_sum_bytes(first), v16i_sum_bytes(second));
}


/* Up to four blocks, each of the four tokens of a tile: where they begin, and
 * where they go. */
struct round_of_four {
    uint32_t n;
    const float *x[4];
    uint32_t *dst[4];
};


/* The sixteen of them step by step, tokens beside each other. */
static void
quantize_round(const struct round_of_four *r, size_t x_stride)
{
    v16i blocks[4];
    float inverse[16];
    uint32_t ends[4][16];

    for (uint32_t b = 0; b < 4; b++) {
        const float *x = r->x[b < r->n ? b : 0];
        v16i tokens[AXK_TILE];

        for (uint32_t t = 0; t < AXK_TILE; t++) {
            tokens[t] = magnitudes_32(x + t * x_stride);
        }
        blocks[b] = v16i_max_in_four(tokens);
    }
    v16 d = scales_of(v16i_max_of_quarters(blocks), inverse);

    for (uint32_t b = 0; b < r->n; b++) {
        v16i q[AXK_TILE][2];

        for (uint32_t t = 0; t < AXK_TILE; t++) {
            quantize_32(r->x[b] + t * x_stride, inverse[b * AXK_TILE + t],
                        q[t]);
        }
        blocks[b] = store_codes_of_four(q, r->dst[b]);
    }
    ends_of(d, v16i_sum_of_quarters(blocks), ends);
    for (uint32_t b = 0; b < r->n; b++) {
        uint32_t *end = r->dst[b] + AXK_TILE * AXK_ACT_D;

        for (uint32_t i = 0; i < 4; i++) {
            memcpy(end + i * AXK_TILE, &ends[i][b * AXK_TILE],
                   AXK_TILE * sizeof(*end));
        }
    }
}


/* One block of 256 of one token into a record. */
static void
vec_quantize_block_k(const float *x, uint32_t *record)
{
    v16i lanes[16];
    v16i top = v16i_set1(0);
    int32_t sums[16];
    int16_t sums16[16];
    int16_t sums32[8];
    float d = 0;

    for (int i = 0; i < 16; i++) {
        top = v16i_max_u32(top, v16i_magnitude(v16_load(x + 16 * i)));
        lanes[i] = v16i_set1(0);
    }
    uint32_t largest = v16i_largest_u32(top);

    memset(record, 0, AXK_QK_K);
    if (largest >= 0x7f800000) {
        d = float_of(0x7fc00000);
    } else if (float_of(largest) >= AXK_D_MIN) {
        float inverse = 127.0f / float_of(largest);

        for (int i = 0; i < 16; i++) {
            v16 v = v16_mul(v16_load(x + 16 * i), v16_set1(inverse));

            lanes[i] = v16_round_even(v);
            v16i_store_i8((int8_t *)(record + 4 * i), lanes[i]);
        }
        d = 1.0f / inverse;
    }
    v16i_store(sums, v16i_fold_sum(lanes));
    for (int i = 0; i < 16; i++) {
        record[AXK_ACT_K_SUMS + i] = (uint32_t)-sums[i];
        sums16[i] = (int16_t)sums[i];
        sums32[i / 2] = (int16_t)(sums[i / 2 * 2] + sums[i / 2 * 2 + 1]);
    }
    memcpy(&record[AXK_ACT_K_PAIRS16], sums16, sizeof(sums16));
    memcpy(&record[AXK_ACT_K_PAIRS32], sums32, sizeof(sums32));
    record[AXK_ACT_K_D] = bits_of(d);
}


/* Words of n tokens beside each other: dst[i][t] = src[t][i]. */
INLINE void
interleave(const uint32_t *src, size_t src_stride, uint32_t n, uint32_t n_words,
           uint32_t *dst)
{
    uint32_t i = 0;

    for (; n == 4 && i + 4 <= n_words; i += 4) {
        transpose_4x4(src + i, src_stride, dst + 4 * (size_t)i, 4);
    }
    for (; i < n_words; i++) {
        for (uint32_t t = 0; t < n; t++) {
            dst[(size_t)i * n + t] = src[t * src_stride + i];
        }
    }
}


/* The n tokens of a tile whose rows start at x. */
static void
quantize_tile(enum axk_act kind, const float *x, size_t x_stride, uint32_t n,
              uint32_t k, uint32_t *dst)
{
    enum { WORDS = 16 * AXK_ACT_WORDS };
    uint32_t records[AXK_TILE][WORDS] __attribute__((aligned(64)));
    const uint32_t step = kind == AXK_ACT_Q8_K ? AXK_QK_K : 16 * AXK_QK;

    for (uint32_t i = 0; i < k; i += step) {
        uint32_t n_words = AXK_ACT_K_WORDS;

        if (kind == AXK_ACT_Q8) {
            n_words = (k - i < step ? k - i : step) / AXK_QK * AXK_ACT_WORDS;
        }
        for (uint32_t t = 0; t < n; t++) {
            const float *row = x + t * x_stride + i;
            uint32_t *record = n == 1 ? dst : records[t];

            if (kind == AXK_ACT_Q8_K) {
                vec_quantize_block_k(row, record);
            } else {
                vec_quantize_blocks(row, n_words / AXK_ACT_WORDS, record);
            }
        }
        if (n > 1) {
            interleave(records[0], WORDS, n, n_words, dst);
        }
        dst += (size_t)n_words * n;
    }
}


/* n_blocks of 32 of n_tiles full tiles; the first row is at x, the first
 * record at dst, words from tile to tile. */
static void
quantize_full_tiles(const float *x, size_t x_stride, uint32_t n_blocks,
                    uint32_t n_tiles, uint32_t *dst, size_t words)
{
    struct round_of_four r = {0};

    for (uint32_t tile = 0; tile < n_tiles; tile++) {
        for (uint32_t b = 0; b < n_blocks; b++) {
            r.x[r.n] = x + tile * AXK_TILE * x_stride + (size_t)b * AXK_QK;
            r.dst[r.n] =
                dst + tile * words + (size_t)b * AXK_TILE * AXK_ACT_WORDS;
            if (++r.n == 4) {
                quantize_round(&r, x_stride);
                r.n = 0;
            }
        }
    }
    if (r.n > 0) {
        quantize_round(&r, x_stride);
    }
}


static void
vec_quantize_part(const float *x, size_t x_stride, uint32_t n_tokens,
                  uint32_t k, uint32_t k0, uint32_t k1, void *act)
{
    uint32_t full = n_tokens / AXK_TILE, rest = n_tokens % AXK_TILE;
    size_t words = act_tile_words(AXK_ACT_Q8, k);
    size_t first = k0 / AXK_QK * AXK_ACT_WORDS; /* words of a token before */
    uint32_t *dst = act;

    quantize_full_tiles(x, x_stride, (k1 - k0) / AXK_QK, full,
                        dst + first * AXK_TILE, words);
    if (rest > 0) {
        quantize_tile(AXK_ACT_Q8, x + full * AXK_TILE * x_stride, x_stride,
                      rest, k1 - k0, dst + full * words + first * rest);
    }
}


static void
vec_quantize(enum axk_act kind, const float *x, size_t x_stride,
             uint32_t n_tokens, uint32_t k, uint32_t tile0, uint32_t tile1,
             void *act)
{
    for (uint32_t tile = tile0; tile < tile1; tile++) {
        uint32_t n = tile_tokens(n_tokens, tile);
        const float *rows = x + (size_t)tile * AXK_TILE * x_stride;
        uint32_t *dst = (uint32_t *)act + tile * act_tile_words(kind, k);

        if (kind == AXK_ACT_Q8 && n == AXK_TILE) {
            quantize_full_tiles(rows, x_stride, k / AXK_QK, 1, dst, 0);
            continue;
        }
        if (kind != AXK_ACT_F32) {
            quantize_tile(kind, rows, x_stride, n, k, dst);
            continue;
        }
        for (uint32_t t = 0; t < n; t++) {
            axk_order_f32(rows + t * x_stride, k, n, dst + t);
        }
    }
}


static void
vec_rmsnorm(float *y, size_t y_stride, const float *x, size_t x_stride,
            uint32_t n_rows, uint32_t n, const float *weight, float eps)
{
    for (uint32_t r = 0; r < n_rows; r++) {
        const float *row = x + r * x_stride;
        float *out = y + r * y_stride;
        v16 sum = v16_set1(0);

        for (uint32_t i = 0; i < n; i += 16) {
            v16 v = load_some(row + i, lanes_left(n, i));
            sum = v16_fma(v, v, sum);
        }
        float mean = v16_fold(sum) / (float)n;
        v16 factor = v16_set1(1.0f / __builtin_sqrtf(mean + eps));

        for (uint32_t i = 0; i < n; i += 16) {
            uint32_t left = lanes_left(n, i);
            v16 v = v16_mul(load_some(row + i, left), factor);

            if (weight != NULL) {
                v = v16_mul(v, load_some(weight + i, left));
            }
            store_some(out + i, v, left);
        }
    }
}


/* Pairs (2i, 2i + 1): (u, v) -> (u c - v s, u s + v c) with factors laid out
 * once a token as a = c0 s0 c1 s1 .. and b = -s0 c0 -s1 c1 .. */
static void
vec_rope_pairs(const struct axk_rope *a, uint32_t t)
{
    float fa[AXK_HEAD_DIM_MAX];
    float fb[AXK_HEAD_DIM_MAX];
    uint32_t half = a->n_rot / 2;
    const float *c = a->table + (size_t)t * a->n_rot;
    const float *s = c + half;
    bool one = a->first % a->head_dim + a->n <= a->head_dim;
    uint32_t i0 = one ? a->first % a->head_dim / 2 : 0;
    uint32_t i1 = one ? (a->first % a->head_dim + a->n) / 2 : half;

    for (uint32_t i = i0; i < i1 && i < half; i++) {
        fa[2 * i] = c[i];
        fa[2 * i + 1] = s[i];
        fb[2 * i] = -s[i];
        fb[2 * i + 1] = c[i];
    }
    for (uint32_t h = a->first / a->head_dim; h * a->head_dim < a->first + a->n;
         h++) {
        struct head_part part = head_part_of(h, a->head_dim, a->first, a->n);
        float *x = a->x + t * a->x_stride + part.from;
        uint32_t end = part.hi < a->n_rot ? part.hi : a->n_rot;

        for (uint32_t i = part.lo; i < end; i += 16, x += 16) {
            uint32_t left = lanes_left(end, i);
            v16 v = load_some(x, left);
            v16 second = v16_mul(v16_dup_odd(v), load_some(fb + i, left));

            v = v16_fma(v16_dup_even(v), load_some(fa + i, left), second);
            store_some(x, v, left);
        }
    }
}


static void
vec_rope_halves(const struct axk_rope *a, uint32_t t)
{
    uint32_t half = a->n_rot / 2;
    const float *c = a->table + (size_t)t * a->n_rot;
    const float *s = c + half;

    for (uint32_t h = 0; h < a->n / a->head_dim; h++) {
        float *x = a->x + t * a->x_stride + (size_t)h * a->head_dim;

        for (uint32_t i = 0; i < half; i += 16) {
            uint32_t left = lanes_left(half, i);
            v16 u = load_some(x + i, left);
            v16 v = load_some(x + half + i, left);
            v16 vc = load_some(c + i, left);
            v16 vs = load_some(s + i, left);
            v16 minus_vs = v16_mul(v, v16_sub(v16_set1(-0.0f), vs));

            store_some(x + i, v16_fma(u, vc, minus_vs), left);
            store_some(x + half + i, v16_fma(u, vs, v16_mul(v, vc)), left);
        }
    }
}


static void
vec_rope(const struct axk_rope *a, uint32_t t0, uint32_t t1)
{
    for (uint32_t t = t0; t < t1; t++) {
        if (a->neox) {
            vec_rope_halves(a, t);
        } else {
            vec_rope_pairs(a, t);
        }
    }
}


static void
vec_silu_mul(float *y, size_t y_stride, const float *gate, size_t gate_stride,
             const float *up, size_t up_stride, uint32_t n_rows, uint32_t n)
{
    for (uint32_t r = 0; r < n_rows; r++) {
        for (uint32_t i = 0; i < n; i += 16) {
            uint32_t left = lanes_left(n, i);
            v16 g = load_some(gate + r * gate_stride + i, left);
            v16 u = load_some(up + r * up_stride + i, left);
            v16 e = vec_exp(v16_sub(v16_set1(-0.0f), g));

            g = v16_div(g, v16_add(v16_set1(1.0f), e));
            store_some(y + r * y_stride + i, v16_mul(g, u), left);
        }
    }
}


static void
vec_gelu_mul(float *y, size_t y_stride, const float *gate, size_t gate_stride,
             const float *up, size_t up_stride, uint32_t n_rows, uint32_t n)
{
    for (uint32_t r = 0; r < n_rows; r++) {
        for (uint32_t i = 0; i < n; i += 16) {
            uint32_t left = lanes_left(n, i);
            v16 g = load_some(gate + r * gate_stride + i, left);
            v16 u = load_some(up + r * up_stride + i, left);
            v16 poly =
                v16_fma(v16_mul(g, g), v16_set1(AXK_GELU_A), v16_set1(1.0f));
            v16 minus_2u = v16_mul(v16_mul(poly, g), v16_set1(AXK_GELU_B));

            g = v16_div(g, v16_add(v16_set1(1.0f), vec_exp(minus_2u)));
            store_some(y + r * y_stride + i, v16_mul(g, u), left);
        }
    }
}


static void
vec_add(float *y, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        uint32_t left = lanes_left(n, i);

        store_some(y + i,
                   v16_add(load_some(a + i, left), load_some(b + i, left)),
                   left);
    }
}


static void
vec_scale(float *y, const float *x, float s, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        uint32_t left = lanes_left(n, i);

        store_some(y + i, v16_mul(load_some(x + i, left), v16_set1(s)), left);
    }
}


static void
vec_softcap(float *y, const float *x, float cap, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        uint32_t left = lanes_left(n, i);

        store_some(y + i, vec_softcap_of(load_some(x + i, left), cap), left);
    }
}


INLINE void
store_halves(enum axk_kv_type type, uint16_t *to, v16 x)
{
    if (type == AXK_KV_BF16) {
        v16_store_bf16(to, x);
    } else {
        v16_store_f16(to, x);
    }
}


static void
vec_write_halves(enum axk_kv_type type, uint16_t *head, uint32_t slot,
                 uint32_t lo, uint32_t hi, const float *k, const float *v,
                 uint32_t head_dim)
{
    uint16_t *values = head + (size_t)head_dim * AXK_KV_TOKENS +
                       (size_t)slot * round_up_16(head_dim);
    uint16_t keys[AXK_HEAD_DIM_MAX];

    for (uint32_t i = lo; i < hi && v != NULL; i += 16) {
        store_halves(type, values + i,
                     load_some(v + i - lo, lanes_left(hi, i)));
    }
    for (uint32_t i = lo; i < hi && k != NULL; i += 16) {
        store_halves(type, keys + i, load_some(k + i - lo, lanes_left(hi, i)));
    }
    for (uint32_t i = lo; i < hi && k != NULL; i++) {
        head[kv_key_halves(slot, head_dim) + i * KV_RUN] = keys[i];
    }
}


static void
vec_kv_write(enum axk_kv_type type, void *block, uint32_t slot, uint32_t first,
             uint32_t n, const float *k, const float *v, uint32_t head_dim)
{
    kv_write_heads(vec_quantize_blocks, vec_write_halves, type, block, slot,
                   first, n, k, v, head_dim);
}


static uint32_t
vec_argmax(const float *x, uint32_t n)
{
    float values[16];
    uint32_t indexes[16];
    v16 best = v16_set1(-float_of(0x7f800000));
    v16i best_index = v16i_set1(-1);
    static const uint32_t lane_numbers[16] = {0, 1, 2,  3,  4,  5,  6,  7,
                                              8, 9, 10, 11, 12, 13, 14, 15};
    v16i index = v16i_load(lane_numbers);
    uint32_t i = 0;

    for (; i + 16 <= n; i += 16) {
        v16 v = v16_load(x + i);

        best_index = v16i_select_lt(best, v, index, best_index);
        best = v16_select_lt(best, v, v, best);
        index = v16i_add(index, v16i_set1(16));
    }
    v16_store(values, best);
    v16i_store(indexes, best_index);

    float top = -float_of(0x7f800000);
    uint32_t top_index = 0;

    for (int lane = 0; lane < 16; lane++) {
        if (indexes[lane] != UINT32_MAX &&
            (values[lane] > top ||
             (values[lane] == top && indexes[lane] < top_index))) {
            top = values[lane];
            top_index = indexes[lane];
        }
    }
    for (; i < n; i++) {
        if (x[i] > top) {
            top = x[i];
            top_index = i;
        }
    }
    return top_index;
}


static double
vec_logsumexp(const float *x, uint32_t n)
{
    float top = x[vec_argmax(x, n)];
    v16 largest = v16_set1(top);
    double total = 0;

    for (uint32_t i0 = 0; i0 < n; i0 += AXK_LSE_CHUNK) {
        uint32_t i1 = n - i0 < AXK_LSE_CHUNK ? n : i0 + AXK_LSE_CHUNK;
        v16 sum = v16_set1(0);

        for (uint32_t i = i0; i < i1; i += 16) {
            uint32_t left = lanes_left(i1, i);
            v16 e = vec_exp(v16_sub(load_some(x + i, left), largest));

            sum = v16_add(sum, left == 16 ? e : v16_first_n(e, left));
        }
        total += (double)v16_fold(sum);
    }
    return axk_log64(total) + (double)top;
}


static void
vec_exp_sub(float *y, const float *x, float sub, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        uint32_t left = lanes_left(n, i);
        v16 v = v16_sub(load_some(x + i, left), v16_set1(sub));

        store_some(y + i, vec_exp(v), left);
    }
}
