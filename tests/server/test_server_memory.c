/*
 * Shows that --kv-memory is all that keys and values take, the draft model's
 * included, that the board names every kind of memory, that a sliding window
 * makes the same memory reach further, that an engine which finds no huge
 * pages set aside says so and answers as ever, and that an idle one brings in
 * the part of KV that --kv-prefault says, the draft model's too, and tells
 * what it holds then.
 */
#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "tests/server/harness.h"
#include "tests/tiny/tiny_model.h"

#define KV (8u << 20)

static struct engine engine;
static struct axion_client *client;
static struct axion_board board;


static void
start(const char *variant, const char *const *args)
{
    engine = (struct engine){0};
    engine_start(&engine, variant, args);
    client = client_open(&engine, "test_server_memory");
    read_board(client, &board);
}


static void
stop(void)
{
    axion_client_close(client);
    engine_stop(&engine);
}


/* A q4_0 model in a file of its own. */
static const char *
model_file(void)
{
    static char path[40];
    strcpy(path, "/tmp/axion-test-model-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(tiny_model_write(path, tiny_variant_find("q4_0")), 0);
    return path;
}


static void
all_kv_is_inside_the_reservation(void **state)
{
    const char *draft = model_file();
    (void)state;
    start("q4_0", (const char *[]){"--kv-memory", "8m", NULL});
    uint64_t block = board.kv_bytes / board.kv_blocks_total;
    assert_true(board.kv_bytes <= KV && board.kv_bytes + block > KV);
    assert_int_equal(board.draft_kv_bytes, 0);
    assert_int_equal(board.draft_weight_bytes, 0);
    assert_true(board.speculation_bytes > 0 && board.request_bytes > 0);
    uint64_t activations = board.activation_bytes;
    stop();
    start("q4_0",
          (const char *[]){"--kv-memory", "8m", "--draft", draft, NULL});
    uint64_t both = board.kv_bytes + board.draft_kv_bytes;
    assert_true(both <= KV && both + 2 * block > KV);
    /* The same model takes as much for a token: half of it. */
    assert_int_equal(board.kv_bytes, board.draft_kv_bytes);
    assert_int_equal(board.draft_weight_bytes, board.weight_bytes);
    assert_true(board.activation_bytes > activations);
    assert_true(board.logits_bytes >=
                board.batch_max * 4ull * board.models[0].vocabulary);
    stop();
    unlink(draft);
}


/* Three of 18 layers see everything, the others 40 positions: six groups. */
static void
windows_make_memory_reach_further(void **state)
{
    static struct stream s;
    struct request_options o;
    uint32_t ids[2000];
    const struct tiny_options gemma = {.format = TINY_F16,
                                       .family = TINY_GEMMA3,
                                       .n_layer = 18,
                                       .n_embd = 64,
                                       .n_ff = 96,
                                       .window = 40,
                                       .tied = true};
    (void)state;
    engine = (struct engine){0};
    engine_start_options(
        &engine, &gemma,
        (const char *[]){"--kv-memory", "1m", "--max-batch", "32", NULL});
    client = client_open(&engine, "test_server_memory");
    read_board(client, &board);
    /* As many blocks for each of the groups would end earlier. */
    uint32_t tokens = board.kv_blocks_total / 6 * board.kv_block_tokens;
    uint32_t n = board.models[0].context_tokens;
    assert_true(n > 2 * tokens && n <= 2000);
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = 5 + i % 50;
    }
    request_init(&o, NULL, 8);
    o.ids = ids;
    o.n_ids = n - 8;
    run_alone(client, &o, &s);
    assert_int_equal(s.done.prompt_tokens, n - 8);
    assert_int_equal(s.n_tokens, 8);
    read_board(client, &board);
    assert_int_equal(board.kv_blocks_used, 0);
    stop();
}


/* ---- pages ahead of their use ---- */

#define PREFAULT_KV  (64u << 20)
#define RESIDENT_PAD (4u << 20)

/* Linux 5.14 and later. */
static bool
can_populate(void)
{
    size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(at != MAP_FAILED);
    bool can = madvise(at, bytes, MADV_POPULATE_WRITE) == 0;
    munmap(at, bytes);
    return can;
}


static uint64_t
resident_bytes(void)
{
    char path[64];
    unsigned long pages;
    snprintf(path, sizeof(path), "/proc/%d/statm", (int)engine.pid);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%*u %lu", &pages), 1);
    fclose(f);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}


static uint32_t
threads(void)
{
    char path[64];
    uint32_t n = 0;
    snprintf(path, sizeof(path), "/proc/%d/task", (int)engine.pid);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        n += entry->d_name[0] != '.';
    }
    closedir(dir);
    return n;
}


/* All that requests touch is there then. */
static void
ask_some(void)
{
    static struct stream s;
    struct request_options o;
    for (uint32_t i = 0; i < 50; i++) {
        request_init(&o, "one two", 1);
        run_alone(client, &o, &s);
    }
}


/* --draft FILE, or nothing. */
static void
start_with(const char *part, const char *draft)
{
    start("q4_0",
          (const char *[]){"--kv-memory", "64m", "--kv-prefault", part,
                           draft != NULL ? "--draft" : NULL, draft, NULL});
}


/* Of the process, before any request and behind some, and its threads. */
struct held {
    uint64_t idle_bytes;
    uint64_t bytes;
    uint32_t threads;
};


static struct held
held_without(const char *draft)
{
    start_with("off", draft);
    struct held held = {.idle_bytes = resident_bytes()};
    ask_some();
    held.bytes = resident_bytes();
    held.threads = threads();
    stop();
    return held;
}


/* The thread that does it ends when it is done. */
static void
grows_by(const char *part, const char *draft, struct held off, uint64_t by)
{
    start_with(part, draft);
    ask_some();
    while (threads() > off.threads) {
        sched_yield();
    }
    uint64_t bytes = resident_bytes();
    assert_true(bytes >= off.bytes + by - RESIDENT_PAD);
    assert_true(bytes < off.bytes + by + 2 * RESIDENT_PAD);
    stop();
}


/* Nobody asks for anything. */
static void
grows_by_itself(const char *part, uint64_t to)
{
    start_with(part, NULL);
    do {
        read_board(client, &board);
        sched_yield();
    } while (board.resident_bytes < to);
    stop();
}


static void
an_idle_engine_brings_pages_in(void **state)
{
    (void)state;
    if (!can_populate()) {
        print_message("Linux before 5.14: pages come with their use\n");
        skip();
    }
    const char *draft = model_file();
    struct held off = held_without(NULL);
    grows_by("eighth", NULL, off, PREFAULT_KV / 8);
    grows_by("all", NULL, off, PREFAULT_KV);
    grows_by_itself("all", off.idle_bytes + PREFAULT_KV - RESIDENT_PAD);
    grows_by("all", draft, held_without(draft), PREFAULT_KV);
    unlink(draft);
}


static void
what_the_cache_gives_up_is_counted(void **state)
{
    static struct stream s;
    char prompt[300];
    (void)state;
    start("q4_0", (const char *[]){"--kv-memory", "1m", NULL});
    for (uint32_t i = 0; i < 30; i++) {
        struct request_options o;
        memset(prompt, 'a' + (int)(i % 26), sizeof(prompt) - 1);
        prompt[0] = (char)('0' + i % 10);
        prompt[sizeof(prompt) - 1] = '\0';
        request_init(&o, prompt, 1);
        run_alone(client, &o, &s);
    }
    read_board(client, &board);
    assert_true(board.kv_evicted_total > 0);
    assert_true(board.kv_blocks_cached > 0);
    stop();
}


static void
huge_pages_are_taken_or_missed_aloud(void **state)
{
    static struct stream s, reference;
    struct request_options o;
    (void)state;
    request_init(&o, "one two three", 12);
    start("q4_0", (const char *[]){"--kv-memory", "8m", NULL});
    run_alone(client, &o, &reference);
    stop();
    const char *path = model_file();
    engine = (struct engine){0};
    engine_start_on(
        &engine, path,
        (const char *[]){"--kv-memory", "8m", "--huge-pages", NULL});
    engine_wait_loaded(&engine);
    /* "MB on huge pages", or "--huge-pages: ... too few left". */
    engine_wait_log(&engine, "huge");
    client = client_open(&engine, "test_server_memory");
    run_alone(client, &o, &s);
    expect_same(&s, &reference);
    stop();
    unlink(path);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_kv_is_inside_the_reservation),
        cmocka_unit_test(windows_make_memory_reach_further),
        cmocka_unit_test(an_idle_engine_brings_pages_in),
        cmocka_unit_test(what_the_cache_gives_up_is_counted),
        cmocka_unit_test(huge_pages_are_taken_or_missed_aloud),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
