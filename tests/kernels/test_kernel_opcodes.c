/*
 * Shows that the objects of each instruction set hold the instructions that
 * they are for (a wrong flag would leave slow but right code), and that the
 * other kernel objects hold none that a plain x86-64 lacks.
 *
 * Reads `objdump -d` of the objects in $BUILD/kernels; skipped without it.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char objects[4096]; /* the folder */

struct counts {
    size_t lines;
    size_t vpdpbusd_zmm;
    size_t vpdpbusd_ymm;
    size_t vpdpwssd_zmm;
    size_t evex; /* mask registers and vectors from 16 on */
    size_t vpmaddubsw;
    size_t dpbf16_zmm;
    size_t tile_dots; /* tdpbsud */
    size_t tile_bf16; /* tdpbf16ps */
    size_t tiles;     /* any tile register or configuration */
    size_t zmm;
    size_t ymm;
    size_t fma;
};


static struct counts
count(const char *object)
{
    char command[8192];
    char line[1024];
    struct counts c = { 0 };

    snprintf(command, sizeof(command), "objdump -d --no-show-raw-insn '%s/%s'",
             objects, object);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f) != NULL) {
        int zmm = strstr(line, "%zmm") != NULL;

        c.lines++;
        c.zmm += (size_t)zmm;
        c.ymm += strstr(line, "%ymm") != NULL;
        c.fma += strstr(line, "vfmadd") != NULL;
        c.dpbf16_zmm += zmm && strstr(line, "vdpbf16ps") != NULL;
        c.tile_dots += strstr(line, "tdpbsud") != NULL;
        c.tile_bf16 += strstr(line, "tdpbf16ps") != NULL;
        c.tiles += strstr(line, "tmm") != NULL || strstr(line, "tilecfg") != NULL
                   || strstr(line, "tilerelease") != NULL;
        c.vpmaddubsw += strstr(line, "vpmaddubsw") != NULL;
        c.vpdpwssd_zmm += zmm && strstr(line, "vpdpwssd") != NULL;
        c.vpdpbusd_ymm +=
            strstr(line, "%ymm") != NULL && strstr(line, "vpdpbusd") != NULL;
        c.evex += strstr(line, "%k") != NULL || strstr(line, "mm16") != NULL
                  || strstr(line, "mm17") != NULL;
        c.vpdpbusd_zmm += zmm && strstr(line, "vpdpbusd") != NULL;
    }
    assert_int_equal(pclose(f), 0);
    assert_true(c.lines > 10);
    return c;
}


static void
test_avx512_matmul_uses_vnni(void **state)
{
    struct counts c = count("matmul_avx512.o");

    (void)state;
    /* 2 row vectors x (1 + 2 + 3 + 4 tokens), three integer formats */
    assert_true(c.vpdpbusd_zmm >= 60);
    assert_true(c.fma > 0);
}


/* 2 row vectors x (1 + 2 + 3 + 4 tokens) */
static void
test_bf16_matmul_uses_its_dot(void **state)
{
    (void)state;
    assert_true(count("matmul_avx512_bf16.o").dpbf16_zmm >= 20);
    assert_int_equal(count("matmul_avx512.o").dpbf16_zmm, 0);
}


/* Two halves of a panel for each of the 13 integer formats. */
static void
test_amx_matmul_uses_tiles(void **state)
{
    struct counts c = count("matmul_amx.o");

    (void)state;
    assert_true(c.tile_dots >= 26);
    assert_true(c.tiles >= 4 * c.tile_dots);
    assert_int_equal(count("matmul_avx512.o").tiles, 0);
    assert_int_equal(count("avx512.o").tiles, 0);
}


/* Two tiles of tokens times two halves of a panel. */
static void
test_amx_bf16_matmul_uses_tiles(void **state)
{
    struct counts c = count("matmul_amx_bf16.o");

    (void)state;
    assert_true(c.tile_bf16 >= 4);
    assert_true(c.tiles >= 2 * c.tile_bf16);
    assert_int_equal(c.tile_dots, 0);
    assert_int_equal(count("matmul_amx.o").tile_bf16, 0);
    assert_int_equal(count("matmul_avx512_bf16.o").tiles, 0);
}


static void
test_avx2_matmul_uses_maddubs(void **state)
{
    struct counts c = count("matmul_avx2.o");

    (void)state;
    assert_true(c.vpmaddubsw >= 30 && c.ymm > 0 && c.fma > 0);
    assert_int_equal(c.zmm + c.evex + c.vpdpbusd_ymm, 0);
}


/* In VEX encoding: nothing of AVX-512 may be in there. */
static void
test_avxvnni_matmul_uses_vnni(void **state)
{
    struct counts c = count("matmul_avxvnni.o");

    (void)state;
    assert_true(c.vpdpbusd_ymm >= 60 && c.fma > 0);
    assert_int_equal(c.zmm + c.evex + c.vpmaddubsw, 0);
}


static void
test_vector_ops_are_vectors(void **state)
{
    struct counts c = count("avx512.o");

    (void)state;
    assert_true(c.zmm > 500);
    /* attention over KV as q8_0 */
    assert_true(c.vpdpbusd_zmm > 40 && c.vpdpwssd_zmm > 40);
    c = count("avx2.o");
    assert_true(c.ymm > 500 && c.fma > 100);
    assert_int_equal(c.zmm, 0);
}


static void
test_common_objects_are_plain(void **state)
{
    static const char *const plain[] = {
        "format.o", "pack.o",          "math.o",             "select.o",
        "scalar.o", "scalar_matmul.o", "scalar_attention.o", "kv_q8.o",
        "scalar_bf16.o"
    };

    (void)state;
    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
        struct counts c = count(plain[i]);

        assert_int_equal(c.zmm + c.ymm + c.fma, 0);
    }
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_avx512_matmul_uses_vnni),
        cmocka_unit_test(test_bf16_matmul_uses_its_dot),
        cmocka_unit_test(test_amx_matmul_uses_tiles),
        cmocka_unit_test(test_amx_bf16_matmul_uses_tiles),
        cmocka_unit_test(test_avx2_matmul_uses_maddubs),
        cmocka_unit_test(test_avxvnni_matmul_uses_vnni),
        cmocka_unit_test(test_vector_ops_are_vectors),
        cmocka_unit_test(test_common_objects_are_plain),
    };
    const char *build = getenv("BUILD");

    snprintf(objects, sizeof(objects), "%s/kernels",
             build != NULL ? build : "build");
    char one[4200];
    snprintf(one, sizeof(one), "%s/matmul_avx512.o", objects);
    if (access(one, R_OK) != 0 || system("objdump -v >/dev/null 2>&1") != 0) {
        printf("skipped: needs objdump and x86-64 objects in %s\n", objects);
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
