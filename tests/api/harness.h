/*
 * Memory for the tests of api/: a list of malloc'ed blocks, so that ASan sees
 * every overrun of a single block, and one that fails at the n-th call.
 */
#ifndef AXION_TESTS_API_HARNESS_H
#define AXION_TESTS_API_HARNESS_H

#include <stddef.h>
#include <stdint.h>
#include "api/request.h"

struct test_memory {
    struct axion_memory memory; /* what the library gets */
    void *blocks[4096];
    size_t n_blocks;
    size_t bytes;
    size_t fail_at; /* 0: never; n: the n-th call returns NULL */
};

void test_memory_init(struct test_memory *m);
void test_memory_free(struct test_memory *m);

/* Parses text (its length included when bytes is 0). */
int test_parse(struct test_memory *m, enum axion_request_kind kind,
               const char *body, size_t bytes, struct axion_parsed *parsed,
               struct axion_failure *failure);

/* Decodes what the parser made and asserts that the engine takes it. */
void test_decode(const struct axion_parsed *parsed,
                 struct axion_request_view *view);

#endif
