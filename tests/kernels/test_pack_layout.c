/*
 * Notices a change of the packed layout: what axk_pack_rows() makes of fixed
 * blocks has, for every format, the hash that is written here.  Files made by
 * `axion pack` hold those bytes, so whoever changes them raises
 * AXK_LAYOUT_VERSION (kernels/axk.h) and takes over the hashes printed.
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

#define ROWS 40u /* a whole panel and a tail */
#define K    512u

#define LAYOUT_VERSION 2u /* that the hashes belong to */

static const struct {
    uint32_t format;
    uint64_t hash;
} expected[] = {
    {AXK_F32, 0x0e3b3d24703343a1},
    {AXK_F16, 0xee1e86b207191e5d},
    {AXK_Q4_0, 0x89a50f6231640a57},
    {AXK_Q4_1, 0xe883a6b671d919cc},
    {AXK_Q5_0, 0x9eae4a4d6c501645},
    {AXK_Q5_1, 0x210d53e0c9c06b20},
    {AXK_Q8_0, 0x8e15dfe023fd435c},
    {AXK_Q2_K, 0x434079eafe9fb3de},
    {AXK_Q3_K, 0x61bad0a47828a231},
    {AXK_Q4_K, 0xcbe89edd7efe40db},
    {AXK_Q5_K, 0x5d9324dcabd148a0},
    {AXK_Q6_K, 0x0d0caa9d52795119},
    {AXK_IQ4_NL, 0x89a50f6231640a57},
    {AXK_IQ4_XS, 0x3c29be658061feab},
    {AXK_BF16, 0xee1e86b207191e5d},
    {AXK_MXFP4, 0xacf0fb6312c7179f},
};


/* FNV-1a. */
static uint64_t
hash_of(const uint8_t *p, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t i = 0; i < n; i++) {
        h = (h ^ p[i]) * 0x100000001b3u;
    }
    return h;
}


/* Any bytes are blocks, but for scales: no half of these is NaN or infinite,
 * since no byte has all the bits of an exponent. */
static void
fill(uint8_t *p, size_t n)
{
    uint32_t x = 12345;

    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        p[i] = (uint8_t)(x >> 24) & 0xbb;
    }
}


static uint64_t
hash_packed(uint32_t format)
{
    enum axk_status status;
    size_t n = axk_file_bytes(format, ROWS, K);
    size_t packed_bytes = axk_packed_bytes(format, ROWS, K, &status);
    uint8_t *file = malloc(n);
    uint8_t *packed = aligned_alloc(
        AXK_ALIGN, (packed_bytes + AXK_ALIGN - 1) / AXK_ALIGN * AXK_ALIGN);

    assert_true(n > 0 && packed_bytes > 0 && file != NULL && packed != NULL);
    fill(file, n);
    memset(packed, 0, packed_bytes);
    assert_int_equal(
        axk_pack_rows(format, file, ROWS, K, 0, ROWS, packed, NULL), AXK_OK);
    uint64_t hash = hash_of(packed, packed_bytes);
    free(packed);
    free(file);
    return hash;
}


static void
every_formats_bytes_are_those_of_the_version(void **state)
{
    uint32_t n_wrong = 0;

    (void)state;
    for (uint32_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        uint64_t hash = hash_packed(expected[i].format);
        if (hash != expected[i].hash) {
            printf("%s: {%u, 0x%016llx},\n",
                   axk_format_traits(expected[i].format)->name,
                   expected[i].format, (unsigned long long)hash);
            n_wrong++;
        }
    }
    if (n_wrong != 0) {
        fail_msg("the packed bytes of %u formats have changed: raise "
                 "AXK_LAYOUT_VERSION and take over these hashes",
                 n_wrong);
    }
    assert_int_equal(AXK_LAYOUT_VERSION, LAYOUT_VERSION);
}


static void
every_format_is_listed(void **state)
{
    (void)state;
    for (uint32_t format = 0; format < AXK_FORMAT_END; format++) {
        bool listed = false;
        for (uint32_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
            listed = listed || expected[i].format == format;
        }
        assert_int_equal(axk_format_traits(format)->act != AXK_ACT_NONE,
                         listed);
    }
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_formats_bytes_are_those_of_the_version),
        cmocka_unit_test(every_format_is_listed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
