/* See harness.h. */
#include "tests/api/harness.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>


static void *
test_alloc(void *context, size_t bytes)
{
    struct test_memory *m = context;
    void *block;

    if (m->fail_at != 0 && m->n_blocks + 1 >= m->fail_at)
        return NULL;
    assert_true(m->n_blocks < sizeof(m->blocks) / sizeof(m->blocks[0]));
    block = malloc(bytes ? bytes : 1);
    assert_non_null(block);
    m->blocks[m->n_blocks++] = block;
    m->bytes += bytes;
    return block;
}


void
test_memory_init(struct test_memory *m)
{
    memset(m, 0, sizeof(*m));
    m->memory.alloc = test_alloc;
    m->memory.context = m;
}


void
test_memory_free(struct test_memory *m)
{
    size_t i;

    for (i = 0; i < m->n_blocks; i++)
        free(m->blocks[i]);
    test_memory_init(m);
}


int
test_parse(struct test_memory *m, enum axion_request_kind kind,
           const char *body, size_t bytes, struct axion_parsed *parsed,
           struct axion_failure *failure)
{
    static const uint8_t salt[16] = "0123456789abcde";
    struct axion_parse_options options = {
        .payload_bytes_max = 4u << 20,
        .tenant = 77,
        .cache_salt = salt,
        .priority = 2,
    };
    int error = axion_request_parse(parsed, kind, body,
                                    bytes ? bytes : strlen(body), &options,
                                    &m->memory, failure);

    assert_int_equal(error, failure->error);
    return error;
}


void
test_decode(const struct axion_parsed *parsed,
            struct axion_request_view *view)
{
    char why[128];
    int error = axion_request_decode(view, parsed->payload,
                                     parsed->payload_bytes, why,
                                     sizeof(why));

    if (error != AXION_OK)
        fail_msg("the engine refuses the payload: %s", why);
}
