/*
 * Shows that every weight format is read as gguf-py reads it, bit for bit:
 * 640 blocks of random bytes of each, so that all codes, sub-block scales,
 * high bits and exponents occur, denormal scales among them.  A block goes
 * the way of a model's weights, through packing and back.
 *
 * dequantize_goldens.inc.h has the hashes, make_dequantize_goldens.py drew the
 * same blocks to make them.  -0 counts as 0: a sum or product never tells.
 */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/axk.h"

#define ROWS   40
#define BLOCKS 16 /* in a row */

struct golden_hash {
    uint32_t format;
    uint64_t hash;
};

#include "tests/golden/dequantize_goldens.inc.h"

#define N_FORMATS (sizeof(golden_hashes) / sizeof(golden_hashes[0]))


static uint8_t
random_byte(uint64_t seed, uint64_t i)
{
    uint64_t z = seed + (i + 1) * 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint8_t)((z ^ (z >> 31)) >> 56);
}


/* Where the block's f16 numbers are, up to two. */
static uint32_t
offsets_of_halves(uint32_t format, uint32_t at[2])
{
    at[0] = 0;
    at[1] = 2;
    switch (format) {
    case AXK_Q4_1:
    case AXK_Q5_1:
    case AXK_Q4_K:
    case AXK_Q5_K:
        return 2;
    case AXK_Q2_K:
        at[0] = 80;
        at[1] = 82;
        return 2;
    case AXK_Q3_K:
        at[0] = 108;
        return 1;
    case AXK_Q6_K:
        at[0] = 208;
        return 1;
    case AXK_BF16:
    case AXK_MXFP4:
        return 0;
    default:
        return 1;
    }
}


static void
make_finite(uint32_t format, uint8_t *block)
{
    uint32_t at[2], n = offsets_of_halves(format, at), i;

    for (i = 0; i < n; i++) {
        if ((block[at[i] + 1] & 0x7c) == 0x7c) {
            block[at[i] + 1] &= 0xbf;
        }
    }
    if (format == AXK_BF16 && (block[1] & 0x7f) == 0x7f &&
        (block[0] & 0x80) != 0) {
        block[1] &= 0xbf;
    }
    if (format == AXK_MXFP4 && block[0] > 250) {
        block[0] = 250;
    }
}


static uint64_t
hash_of_row(uint64_t h, const float *row, uint32_t k)
{
    uint32_t i, bits;

    for (i = 0; i < k; i++) {
        memcpy(&bits, &row[i], sizeof(bits));
        bits = bits == 0x80000000 ? 0 : bits;
        h = (h ^ bits) * 0x100000001b3u;
        h ^= h >> 29;
    }
    return h;
}


static uint64_t
hash_of_format(uint32_t format)
{
    const struct axk_format_traits *t = axk_format_traits(format);
    uint32_t k = BLOCKS * t->block_elems, i;
    size_t bytes = axk_file_bytes(format, ROWS, k);
    enum axk_status status;
    size_t packed_bytes = axk_packed_bytes(format, ROWS, k, &status);
    uint8_t *file = malloc(bytes);
    void *packed = aligned_alloc(AXK_ALIGN, packed_bytes);
    float *row = malloc(k * sizeof(*row));
    uint64_t h = 0xcbf29ce484222325u;

    assert_int_equal(status, AXK_OK);
    assert_int_equal(bytes, (size_t)ROWS * BLOCKS * t->block_bytes);
    assert_true(file != NULL && packed != NULL && row != NULL);
    for (i = 0; i < bytes; i++) {
        file[i] = random_byte(format, i);
    }
    for (i = 0; i < ROWS * BLOCKS; i++) {
        make_finite(format, file + (size_t)i * t->block_bytes);
    }
    assert_int_equal(
        axk_pack_rows(format, file, ROWS, k, 0, ROWS, packed, NULL), AXK_OK);
    for (i = 0; i < ROWS; i++) {
        axk_unpack_row(format, packed, ROWS, k, i, row);
        h = hash_of_row(h, row, k);
    }
    free(row);
    free(packed);
    free(file);
    return h;
}


static void
formats_are_read_as_gguf_py_reads_them(void **state)
{
    uint32_t n_wrong = 0, i;

    (void)state;
    axk_thread_init();
    for (i = 0; i < N_FORMATS; i++) {
        uint32_t format = golden_hashes[i].format;
        uint64_t h = hash_of_format(format);

        if (h != golden_hashes[i].hash) {
            printf("%s: values differ (hash %016llx)\n",
                   axk_format_traits(format)->name, (unsigned long long)h);
            n_wrong++;
        }
    }
    assert_int_equal(n_wrong, 0);
}


/* A format that gets kernels gets a golden. */
static void
every_format_with_kernels_has_a_golden(void **state)
{
    uint32_t format, i;

    (void)state;
    for (format = 0; format < AXK_FORMAT_END; format++) {
        bool known = format == AXK_F32;

        for (i = 0; i < N_FORMATS; i++) {
            known = known || golden_hashes[i].format == format;
        }
        assert_true(known ==
                    (axk_format_traits(format)->act != AXK_ACT_NONE));
    }
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_are_read_as_gguf_py_reads_them),
        cmocka_unit_test(every_format_with_kernels_has_a_golden),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
