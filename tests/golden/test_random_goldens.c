/*
 * Shows that models of tools/random_gguf.py are models: our executor and
 * llama.cpp (make_random_goldens.py) agree on their next tokens, for shapes of
 * both families and every way in which the tool writes weights that the
 * benchmarks use.  The files are made when the tests are built.
 */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/golden/compare.h"


static void
compare(const char *shape, const char *kind)
{
    const char *build = getenv("AXION_BUILD");
    char path[512], name[64];

    snprintf(path, sizeof(path), "%s/random/%s/%s.gguf",
             build == NULL ? "build" : build, shape, kind);
    snprintf(name, sizeof(name), "random-%s-%s", shape, kind);
    if (getenv("AXION_MODEL") == NULL || access(path, R_OK) != 0) {
        printf("skipped: no %s (make model test-unit)\n", path);
        skip();
    }
    compare_model(name, path, NULL, &compare_strict);
}


static void
llama_as_q4_0_agrees(void **state)
{
    (void)state;
    compare("tiny-llama", "Q4_0");
}


static void
llama_as_q8_0_agrees(void **state)
{
    (void)state;
    compare("tiny-llama", "Q8_0");
}


static void
llama_as_q4_k_m_agrees(void **state)
{
    (void)state;
    compare("tiny-llama", "Q4_K_M");
}


static void
llama_as_bf16_agrees(void **state)
{
    (void)state;
    compare("tiny-llama", "BF16");
}


static void
qwen3_as_q8_0_agrees(void **state)
{
    (void)state;
    compare("tiny-qwen3", "Q8_0");
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_as_q4_0_agrees),
        cmocka_unit_test(llama_as_q8_0_agrees),
        cmocka_unit_test(llama_as_q4_k_m_agrees),
        cmocka_unit_test(llama_as_bf16_agrees),
        cmocka_unit_test(qwen3_as_q8_0_agrees),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
