/*
 * Shows that an answer is its request's alone: the same prompts, sampled with
 * the same seeds, give the same bytes alone and among 64, in chunks of 16 to
 * 2048, on 1 and 2 threads, out of the prefix cache and computed, preempted
 * and not, with prompt chunks cut by time, with drafts (a draft model's as
 * well) and without, some of them within a grammar, all against one reference; KV as q8_0 and as bf16
 * against their own.
 *
 * On tiny models of three families, and on SmolLM2 where it is (AXION_MODEL).
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/server/harness.h"
#include "tests/tiny/tiny_model.h"

#define PROMPTS 8
#define COPIES  8
#define ANSWER  40
#define PARKED  16 /* whose KV is more than the little memory */

static struct engine engine;
static struct axion_client *client;
static struct stream reference[PROMPTS], streams[PROMPTS * COPIES];
static struct stream parked[PARKED];
static char texts[PROMPTS][1200];
static unsigned copies = COPIES; /* of each prompt at once */

struct way {
    const char *name;
    const char *args[12];
    bool preempts; /* so little memory that somebody has to give it back */
    bool drafts;   /* by the model itself, as its own draft model */
};

static const struct way ways[] = {
    {"chunks of 16, 1 thread",
     {"--max-batch", "16", "--threads", "1", "--speculate", "off", NULL},
     false,
     false},
    {"chunks of 2048, 2 threads, drafts by suffix",
     {"--max-batch", "2048", "--threads", "2", "--speculate", "suffix", NULL},
     false,
     false},
    {"chunks of 64 cut to 1 ms, 2 threads, drafts by bigram",
     {"--max-batch", "64", "--tpot-target", "1ms", "--threads", "2",
      "--speculate", "bigram", NULL},
     false,
     false},
    {"little memory, 2 threads",
     {"--max-batch", "256", "--threads", "2", "--kv-memory", NULL},
     true,
     false},
};

/* Other KV types give other answers: they have a reference of their own. */
static const struct way ways_of_types[] = {
    {"another KV type, chunks of 16, 2 threads, drafts by suffix",
     {"--max-batch", "16", "--threads", "2", "--speculate", "suffix", NULL},
     false,
     false},
    {"another KV type, little memory",
     {"--max-batch", "256", "--threads", "2", "--kv-memory", NULL},
     true,
     false},
};

/* Beside a real model it would take too long. */
static const struct way way_drafted = {
    "a draft model",
    {"--max-batch", "64", "--threads", "2", NULL},
    false,
    true};


/* Words, so that a real model has something to go on with; two begin alike,
 * and lengths are about those of blocks and not. */
static void
make_texts(void)
{
    static const char *const words[] = {"the ",  "river ", "was ",   "and ",
                                        "old ",  "in ",    "house ", "seven ",
                                        "went ", "light ", "of ",    "a "};
    for (unsigned i = 0; i < PROMPTS; i++) {
        unsigned x = i < 2 ? 5 : 5 + i;
        size_t n = 0, want = 20 + 75 * i;
        while (n < want) {
            x = x * 1664525u + 1013904223u;
            const char *word = words[(x >> 16) % 12];
            memcpy(texts[i] + n, word, strlen(word));
            n += strlen(word);
        }
        texts[i][n] = '\0';
    }
}


static struct request_options
request_of(unsigned prompt, uint8_t tenant)
{
    struct request_options o;
    request_init(&o, texts[prompt], ANSWER);
    o.head.tenant = tenant;
    o.head.priority = tenant % 3;
    memset(o.head.cache_salt, tenant, sizeof(o.head.cache_salt));
    o.head.seed = 100 + prompt;
    o.head.temperature = prompt % 2 ? 0.9f : 0;
    o.head.top_p = 0.95f;
    o.head.repetition_penalty = prompt % 4 == 3 ? 1.1f : 1;
    if (prompt % 4 == 1) {
        o.grammar_kind = AXION_GRAMMAR_GBNF;
        o.grammar = "root ::= ([A-Za-z]{1,6} [ ,.])*";
    }
    return o;
}


static void
start(const char *path, const char *const *args)
{
    engine = (struct engine){0};
    engine_start_on(&engine, path, args);
    engine_wait_loaded(&engine);
    client = client_open(&engine, "test_server_determinism");
}


static void
stop(void)
{
    axion_client_close(client);
    engine_stop(&engine);
}


static void
expect_reference(unsigned prompt, const struct stream *s, const char *how)
{
    const struct stream *r = &reference[prompt];
    if (s->error != AXION_OK || s->n_tokens != r->n_tokens ||
        memcmp(s->tokens, r->tokens, r->n_tokens * sizeof(*r->tokens)) != 0 ||
        s->text_bytes != r->text_bytes ||
        memcmp(s->text, r->text, r->text_bytes) != 0) {
        uint32_t n = 0;
        while (n < s->n_tokens && n < r->n_tokens &&
               s->tokens[n] == r->tokens[n]) {
            n++;
        }
        fail_msg("prompt %u differs at token %u of %u: %s (error %d, %u of %u "
                 "prompt tokens cached, preempted %u times)",
                 prompt, n, s->n_tokens, how, s->error, s->done.cached_tokens,
                 s->done.prompt_tokens, s->done.preemptions);
    }
}


/* Alone, whole prompts, one thread: then again, out of the cache. */
static void
make_reference(const char *path, const char *kv_type)
{
    const char *args[] = {"--max-batch", "2048",        "--threads",
                          "1",           "--speculate", "off",
                          "--kv-type",   kv_type,       NULL};
    start(path, args);
    for (unsigned i = 0; i < PROMPTS; i++) {
        struct request_options o = request_of(i, (uint8_t)(100 + i));
        run_alone(client, &o, &reference[i]);
        assert_int_equal(reference[i].done.cached_tokens, 0);
        assert_int_equal(reference[i].n_tokens, ANSWER);
        run_alone(client, &o, &streams[0]);
        assert_true(streams[0].done.cached_tokens > 0);
        expect_reference(i, &streams[0], "alone, found in the cache");
    }
    stop();
}


/* The longest prompt again and again, each until its lease is spent: however
 * fast the engine is, each has to take its KV from those that are parked. */
static void
park(void)
{
    const unsigned prompt = PROMPTS - 1;
    for (unsigned i = 0; i < PARKED; i++) {
        struct request_options o = request_of(prompt, (uint8_t)(20 + i));
        o.lease = reference[prompt].done.prompt_tokens + ANSWER / 4;
        submit(client, &o, &parked[i]);
        wait_tokens(client, &parked[i], ANSWER / 4);
    }
}


static void
let_go(const char *how)
{
    for (unsigned i = 0; i < PARKED; i++) {
        axion_client_topup(client, parked[i].id, ANSWER);
    }
    for (unsigned i = 0; i < PARKED; i++) {
        wait_ended(client, &parked[i]);
        expect_reference(PROMPTS - 1, &parked[i], how);
    }
}


/* All prompts of six tenants at once: the first has half of them cached, two
 * ask everything twice and share it, the others compute for themselves. */
static void
play(const char *path, const struct way *way, const char *kv_type,
     const char *little)
{
    const char *args[17] = {"--kv-type", kv_type};
    struct axion_board board;
    size_t n = 2;
    for (size_t i = 0; way->args[i] != NULL; i++) {
        args[n++] = way->args[i];
    }
    if (way->preempts) {
        args[n++] = little;
    } else if (way->drafts) {
        args[n++] = "--draft";
        args[n++] = path;
    }
    args[n] = NULL;
    start(path, args);
    for (unsigned i = 0; i < PROMPTS; i += 2) {
        struct request_options o = request_of(i, 1);
        run_alone(client, &o, &streams[i]);
        expect_reference(i, &streams[i], way->name);
    }
    if (way->preempts) {
        park();
    }
    for (unsigned i = 0; i < PROMPTS * copies; i++) {
        unsigned copy = i / PROMPTS;
        struct request_options o =
            request_of(i % PROMPTS, (uint8_t)(copy < 4 ? 1 + copy / 2 : copy));
        submit(client, &o, &streams[i]);
    }
    for (unsigned i = 0; i < PROMPTS * copies; i++) {
        wait_ended(client, &streams[i]);
        expect_reference(i % PROMPTS, &streams[i], way->name);
    }
    if (way->preempts) {
        let_go(way->name);
    }
    read_board(client, &board);
    assert_true(board.cached_tokens_total > 0);
    assert_true(!way->preempts || board.preemptions_total > 0);
    assert_true(!way->drafts || board.drafted_tokens_total > 0);
    stop();
}


static void
play_all(const char *path, const char *little)
{
    make_texts();
    make_reference(path, "f16");
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        play(path, &ways[i], "f16", little);
    }
}


static void
play_types(const char *path, size_t n_ways, const char *little)
{
    static const char *const types[] = {"q8_0", "bf16"};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        make_reference(path, types[i]);
        for (size_t w = 0; w < n_ways; w++) {
            play(path, &ways_of_types[w], types[i], little);
        }
    }
}


static void
tiny_models(void **state)
{
    static const char *const variants[] = {"q4_0", "q8_0-qwen3", "f16-gemma3",
                                           "f16-qwen3moe"};
    (void)state;
    /* One where sanitizers make it slow. */
    size_t n = getenv("AXION_SANITIZED") != NULL ? 1 : 4;
    for (size_t i = 0; i < n; i++) {
        char path[] = "/tmp/axion-test-model-XXXXXX";
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        close(fd);
        assert_int_equal(tiny_model_write(path, tiny_variant_find(variants[i])),
                         0);
        play_all(path, "1m");
        play(path, &way_drafted, "f16", NULL);
        if (i == 0) {
            play_types(path, sizeof(ways_of_types) / sizeof(ways_of_types[0]),
                       "1m");
        }
        unlink(path);
    }
}


static void
smollm2(void **state)
{
    const char *path = getenv("AXION_MODEL");
    (void)state;
    if (path == NULL) {
        printf("skipped: AXION_MODEL is not set (make model fetches it)\n");
        skip();
    }
    if (getenv("AXION_SANITIZED") != NULL) {
        printf("skipped: too slow under sanitizers\n");
        skip();
    }
    play_all(path, "12m");
    copies = COPIES / 2;
    play_types(path, 1, NULL);
    copies = COPIES;
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny_models),
        cmocka_unit_test(smollm2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
