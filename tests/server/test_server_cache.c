/*
 * Shows the prefix cache through the ring: a prompt that comes again is
 * computed but for its last token and gets the same answer, byte for byte;
 * tenants find nothing of each other's but what the operator has declared;
 * many that come at once with one beginning compute it once; what a tenant
 * left behind is memory for everyone.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/server/harness.h"
#include "tests/tiny/tiny_model.h"

#define MANY 24

static struct engine engine;
static struct axion_client *client;
static struct stream streams[MANY];
static char words[4096];
static const char *const none[] = {NULL};


static void
start(const char *const *args)
{
    engine_start(&engine, "q4_0", args);
    client = client_open(&engine, "test_server_cache");
}


static void
stop(void)
{
    struct axion_board board;
    read_board(client, &board);
    assert_int_equal(board.kv_blocks_used, 0);
    axion_client_close(client);
    engine_stop(&engine);
}


/* A text of about n tokens of the tiny vocabulary. */
static const char *
text_of(unsigned seed, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        seed = seed * 1664525u + 1013904223u;
        words[i] = i % 6 == 5 ? ' ' : (char)('a' + (seed >> 20) % 26);
    }
    words[bytes] = '\0';
    return words;
}


static struct request_options
request_of(const char *prompt, uint8_t tenant)
{
    struct request_options o;
    request_init(&o, prompt, 12);
    o.head.tenant = tenant;
    memset(o.head.cache_salt, tenant, sizeof(o.head.cache_salt));
    o.head.seed = 7;
    o.head.temperature = 0.8f;
    return o;
}


static void
hit_and_miss_give_the_same_bytes(void **state)
{
    (void)state;
    start(none);
    for (size_t bytes = 8; bytes < 700; bytes += 97) {
        struct request_options o =
            request_of(text_of((unsigned)bytes, bytes), 1);
        run_alone(client, &o, &streams[0]);
        run_alone(client, &o, &streams[1]);
        expect_same(&streams[0], &streams[1]);
        uint32_t n = streams[1].done.prompt_tokens;
        assert_int_equal(streams[0].done.cached_tokens, 0);
        /* Four tokens of a block are the least that is worth a copy. */
        uint32_t cached = (n - 1) % 32 < 4 ? (n - 1) / 32 * 32 : n - 1;
        assert_int_equal(streams[1].done.cached_tokens, cached);
        assert_true(streams[1].acceptance.cached_tokens <= n - 1);
        assert_int_equal(streams[1].acceptance.cached_tokens,
                         (n - 1) / 32 * 32);
    }
    struct axion_board board;
    read_board(client, &board);
    assert_true(board.kv_blocks_cached > 0);
    assert_true(board.cached_tokens_total > 0 &&
                board.cached_tokens_total < board.prompt_tokens_total);
    stop();
}


static void
tenants_find_nothing_of_each_other(void **state)
{
    (void)state;
    start(none);
    struct request_options o = request_of(text_of(1, 500), 1);
    run_alone(client, &o, &streams[0]);
    o = request_of(words, 2);
    run_alone(client, &o, &streams[1]);
    assert_int_equal(streams[1].done.cached_tokens, 0);
    expect_same(&streams[0], &streams[1]);
    stop();
}


static void
a_declared_prefix_is_found_by_all(void **state)
{
    char path[] = "/tmp/axion-test-prefix-XXXXXX", prompt[2 * sizeof(words)];
    int fd = mkstemp(path);
    (void)state;
    assert_true(fd >= 0);
    const char *shared = text_of(9, 600);
    assert_int_equal(write(fd, shared, strlen(shared)), strlen(shared));
    close(fd);
    const char *args[] = {"--shared-prefix", path, NULL};
    start(args);
    snprintf(prompt, sizeof(prompt), "%s and my own", shared);
    struct request_options o = request_of(prompt, 1);
    run_alone(client, &o, &streams[0]);
    snprintf(prompt, sizeof(prompt), "%s and another's", shared);
    o = request_of(prompt, 2);
    run_alone(client, &o, &streams[1]);
    assert_int_equal(streams[0].done.cached_tokens, 0);
    assert_true(streams[1].done.cached_tokens >= 64);
    assert_int_equal(streams[1].done.cached_tokens % 32, 0);
    /* The part behind it is everyone's own, the second time as well. */
    o = request_of(prompt, 3);
    run_alone(client, &o, &streams[2]);
    assert_int_equal(streams[2].done.cached_tokens,
                     streams[1].done.cached_tokens);
    expect_same(&streams[1], &streams[2]);
    stop();
    unlink(path);
}


static void
a_prefix_file_that_is_none_ends_the_engine_with_a_line(void **state)
{
    const char *args[] = {"--shared-prefix", "/nonexistent/prefix", NULL};
    char path[] = "/tmp/axion-test-model-XXXXXX";
    (void)state;
    close(mkstemp(path));
    assert_int_equal(tiny_model_write(path, tiny_variant_find("q4_0")), 0);
    engine = (struct engine){0};
    engine_start_on(&engine, path, args);
    engine_wait_log(&engine, "--shared-prefix /nonexistent/prefix: No such");
    assert_int_equal(engine_wait(&engine), 2);
    unlink(path);
}


/* Two chunks of 32 are a step's: without the cache it were MANY times. */
static void
one_beginning_is_computed_once(void **state)
{
    const char *args[] = {"--max-batch", "64", "--threads", "2", NULL};
    char prompt[2 * sizeof(words)];
    struct axion_board board;
    (void)state;
    start(args);
    const char *common = text_of(5, 600);
    for (uint32_t i = 0; i < MANY; i++) {
        snprintf(prompt, sizeof(prompt), "%s%u", common, i);
        struct request_options o = request_of(prompt, 1);
        submit(client, &o, &streams[i]);
    }
    uint32_t computed = 0, longest = 0;
    for (uint32_t i = 0; i < MANY; i++) {
        wait_ended(client, &streams[i]);
        assert_int_equal(streams[i].error, AXION_OK);
        const struct axion_cq_done *done = &streams[i].done;
        computed += done->prompt_tokens - done->cached_tokens;
        longest = longest < done->prompt_tokens ? done->prompt_tokens : longest;
    }
    assert_true(computed < longest + MANY * 64);
    read_board(client, &board);
    assert_int_equal(board.prompt_tokens_total - board.cached_tokens_total,
                     computed);
    stop();
}


static void
cached_blocks_are_memory_for_the_next(void **state)
{
    /* 64 blocks; every prompt takes some twenty. */
    const char *args[] = {"--kv-memory", "1m", NULL};
    struct axion_board board;
    (void)state;
    start(args);
    for (unsigned i = 0; i < 20; i++) {
        struct request_options o = request_of(text_of(i, 700), (uint8_t)i);
        run_alone(client, &o, &streams[0]);
        assert_int_equal(streams[0].done.cached_tokens, 0);
        assert_int_equal(streams[0].done.preemptions, 0);
    }
    read_board(client, &board);
    assert_true(board.kv_blocks_cached > board.kv_blocks_total / 2);
    stop();
}


/* A prompt that takes every block, beside a cached one that begins likewise:
 * there is no block left to copy the common tokens from. */
static void
a_prompt_that_needs_all_blocks_gives_up_the_copy(void **state)
{
    const struct tiny_options model = {
        .format = TINY_Q4_0, .n_layer = 4, .n_head_kv = 4};
    const char *args[] = {"--kv-memory", "1m", NULL};
    char prompt[2 * sizeof(words)];
    struct axion_board board;
    uint32_t blocks = 0;
    (void)state;
    engine_start_options(&engine, &model, args);
    client = client_open(&engine, "test_server_cache");
    read_board(client, &board);
    for (unsigned bytes = 300; streams[0].error == AXION_OK; bytes += 9) {
        snprintf(prompt, sizeof(prompt), "abc def ghi jkl %s",
                 text_of(bytes, bytes));
        struct request_options o = request_of(prompt, 1);
        submit(client, &o, &streams[0]);
        wait_ended(client, &streams[0]);
        if (streams[0].error == AXION_OK) {
            blocks = (streams[0].done.prompt_tokens + 31) / 32;
        }
    }
    assert_int_equal(streams[0].error, AXION_ERR_CONTEXT_LENGTH);
    assert_int_equal(blocks, board.kv_blocks_total);
    stop();
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hit_and_miss_give_the_same_bytes),
        cmocka_unit_test(tenants_find_nothing_of_each_other),
        cmocka_unit_test(a_declared_prefix_is_found_by_all),
        cmocka_unit_test(
            a_prefix_file_that_is_none_ends_the_engine_with_a_line),
        cmocka_unit_test(one_beginning_is_computed_once),
        cmocka_unit_test(cached_blocks_are_memory_for_the_next),
        cmocka_unit_test(a_prompt_that_needs_all_blocks_gives_up_the_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
