/*
 * Shows that drafts never change an answer: greedy and sampled, with
 * penalties, biases, stop strings and a grammar, preempted, paused, with a
 * lease that ends in the middle of a draft, alone and in company, whether what
 * is proposed is copied, always right, always wrong or both by turns.  The
 * answer without drafts is the reference, token by token and byte by byte.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "engine/server/server.h"
#include "tests/server/in_child.h"
#include "tests/tiny/tiny_model.h"

#define CASES  8u
#define BIASES 8u

static struct engine engine;
static struct axion_client *client;
static struct request_options cases[CASES];
static struct stream reference[CASES], streams[4 * CASES];
static char stop_string[4];
static struct axion_logit_bias biases[BIASES];


static void
set_cases(void)
{
    static const char *const prompts[] = {"one two one two one two one",
                                          "The quick brown fox"};
    for (uint32_t i = 0; i < CASES; i++) {
        request_init(&cases[i], prompts[i % 2], 150);
        cases[i].head.seed = 1000 + i;
    }
    cases[1].head.temperature = 1;
    cases[2].head.temperature = 0.7f;
    cases[2].head.top_p = 0.9f;
    cases[2].head.top_k = 40;
    cases[3].head.repetition_penalty = 1.2f;
    cases[3].head.frequency_penalty = 0.5f;
    cases[3].head.presence_penalty = 0.3f;
    cases[4].head.temperature = 0.2f;
    cases[4].head.min_p = 0.05f;
    cases[7].head.temperature = 0.9f;
    cases[7].grammar_kind = AXION_GRAMMAR_GBNF;
    cases[7].grammar = "root ::= (\"one \" [a-z]{1,5} [,;] | [^a-z]{2,4})*";
}


/* Case 5 is case 3 up to two ASCII bytes out of its middle. */
static void
set_stop_string(void)
{
    const struct stream *s = &reference[3];
    cases[5] = cases[3];
    for (uint32_t at = s->text_bytes / 2; at + 2 <= s->text_bytes; at++) {
        if (((s->text[at] | s->text[at + 1]) & 0x80) == 0) {
            memcpy(stop_string, s->text + at, 2);
            cases[5].stop = stop_string;
            return;
        }
    }
}


/* Case 6 is case 1 without the tokens that it begins with. */
static void
set_biases(void)
{
    cases[6] = cases[1];
    cases[6].biases = biases;
    cases[6].n_biases = BIASES;
    for (uint32_t i = 0; i < BIASES; i++) {
        biases[i].token = reference[1].tokens[i];
        biases[i].bias = -100;
    }
}


static void
start(const char *kind, const char *const *more)
{
    const char *args[24] = {"--speculate", kind, "--max-batch", "64"};
    size_t n = 4;
    while (more != NULL && *more != NULL) {
        args[n++] = *more++;
    }
    engine_start(&engine, "q4_0", args);
    client = client_open(&engine, "test_spec_exact");
}


static void
stop(void)
{
    struct axion_board board;
    read_board(client, &board);
    assert_true(board.accepted_tokens_total <= board.drafted_tokens_total);
    stop_idle(&engine, client);
}


static void
take_references(void)
{
    set_cases();
    start("off", NULL);
    for (uint32_t i = 0; i < CASES; i++) {
        if (i == 5) {
            set_stop_string();
        } else if (i == 6) {
            set_biases();
        }
        run_alone(client, &cases[i], &reference[i]);
        assert_int_equal(reference[i].done.drafted_tokens, 0);
    }
    assert_int_not_equal(reference[6].tokens[0], reference[1].tokens[0]);
    stop();
}


static void
expect_case(uint32_t i, const struct stream *s)
{
    expect_same(&reference[i], s);
    assert_int_equal(s->done.completion_tokens,
                     reference[i].done.completion_tokens);
    assert_int_equal(s->done.reason, reference[i].done.reason);
    assert_true(s->done.accepted_tokens <= s->done.drafted_tokens);
}


static void
run_cases(void)
{
    for (uint32_t i = 0; i < CASES; i++) {
        run_alone(client, &cases[i], &streams[i]);
        expect_case(i, &streams[i]);
    }
    for (uint32_t i = 0; i < 4 * CASES; i++) {
        submit(client, &cases[i % CASES], &streams[i]);
    }
    for (uint32_t i = 0; i < 4 * CASES; i++) {
        wait_ended(client, &streams[i]);
        expect_case(i % CASES, &streams[i]);
    }
}


static void
test_proposers_by_name(void **state)
{
    static const char *const kinds[] = {"suffix", "bigram"};
    struct axion_board board;
    (void)state;
    take_references();
    for (int i = 0; i < 2; i++) {
        start(kinds[i], NULL);
        run_cases();
        read_board(client, &board);
        print_message("%s: %lu of %lu drafts held\n", kinds[i],
                      (unsigned long)board.accepted_tokens_total,
                      (unsigned long)board.drafted_tokens_total);
        stop();
    }
}


/* ---- proposers that know the answer ---- */

enum { RIGHT, WRONG, TURNS };

static int mode;


/* The case, by what was said so far. */
static const struct stream *
find_case(const int32_t *tokens, uint32_t n_prompt, uint32_t n_tokens)
{
    uint32_t said = n_tokens - n_prompt;
    for (uint32_t i = 0; i < CASES; i++) {
        if (said > 0 && said < reference[i].n_tokens &&
            reference[i].done.prompt_tokens == n_prompt &&
            memcmp(reference[i].tokens, tokens + n_prompt,
                   said * sizeof(int32_t)) == 0) {
            return &reference[i];
        }
    }
    return NULL;
}


static uint32_t
propose(void *context, uint32_t slot, const int32_t *tokens, uint32_t n_prompt,
        uint32_t n_tokens, int32_t *out, uint32_t max)
{
    const struct stream *s = find_case(tokens, n_prompt, n_tokens);
    uint32_t n = 0;
    (void)context;
    (void)slot;
    for (; s != NULL && n < max && n_tokens - n_prompt + n < s->n_tokens; n++) {
        bool lie = mode == WRONG || (mode == TURNS && (n_tokens + n) % 5 == 4);
        uint32_t token = s->tokens[n_tokens - n_prompt + n];
        out[n] = (int32_t)(lie ? (token + 1) % 300 : token);
    }
    return n;
}


/* In the child, in place of axiond: the same server with our proposer. */
static void
serve(void)
{
    char listen[128];
    struct ax_server_options options;
    in_child_options(&options, listen, &engine);
    options.max_batch = 64;
    options.draft_max = 7;
    options.proposer = (struct ax_spec_proposer){propose, NULL};
    in_child_serve(&options);
}


static void
start_with_proposer(int which)
{
    mode = which;
    engine_in_child = serve;
    start("off", NULL);
    engine_in_child = NULL;
}


static void
test_right_and_wrong_proposers(void **state)
{
    (void)state;
    take_references();
    for (int which = RIGHT; which <= TURNS; which++) {
        struct axion_board board;
        start_with_proposer(which);
        run_cases();
        read_board(client, &board);
        assert_true(board.drafted_tokens_total > 100);
        if (which == RIGHT) {
            assert_true(board.accepted_tokens_total >
                        board.drafted_tokens_total / 2);
            assert_true(board.steps < board.completion_tokens_total);
        } else if (which == TURNS) {
            assert_true(board.accepted_tokens_total > 0);
        }
        stop();
    }
}


/* ---- a draft model ---- */

static void
write_model(char path[64], const char *variant)
{
    strcpy(path, "/tmp/axion-draft-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(tiny_model_write(path, tiny_variant_find(variant)), 0);
}


/* The model itself, which is always right, and one with other weights. */
static void
test_draft_model(void **state)
{
    static const char *const variants[] = {"q4_0", "q8_0"};
    struct axion_board board;
    char path[64];
    (void)state;
    take_references();
    for (int i = 0; i < 2; i++) {
        write_model(path, variants[i]);
        start("draft", (const char *[]){"--draft", path, NULL});
        run_cases();
        read_board(client, &board);
        print_message("%s: %lu of %lu drafts held\n", variants[i],
                      (unsigned long)board.accepted_tokens_total,
                      (unsigned long)board.drafted_tokens_total);
        assert_true(board.drafted_tokens_total > 0);
        for (uint32_t k = 0; i == 0 && k < 4 * CASES; k++) {
            assert_int_equal(streams[k].done.accepted_tokens,
                             streams[k].done.drafted_tokens);
        }
        stop();
        (void)unlink(path);
    }
}


/* Two models that agree on nothing agree on what a grammar leaves no choice
 * of: drafts keep to it, and hold. */
static void
test_a_draft_model_keeps_to_the_grammar(void **state)
{
    enum { RUNS_MAX = 10 };
    struct axion_board board;
    struct request_options o;
    struct stream *s = &streams[0];
    uint32_t n = 0;
    char path[64];
    (void)state;
    write_model(path, "q4_0");
    engine_start_slow(&engine, (const char *[]){"--draft", path, NULL});
    client = client_open(&engine, "test_spec_exact");
    request_init(&o, "Count", 200);
    o.grammar_kind = AXION_GRAMMAR_GBNF;
    o.grammar = "root ::= \"0123456789\"{20}";
    do { /* no drafts until steps are timed, and few where they do not pay */
        run_alone(client, &o, s);
        assert_int_equal(s->n_tokens, 200);
        assert_memory_equal(s->text, "01234567890", 11);
        assert_int_equal(s->done.accepted_tokens, s->done.drafted_tokens);
        read_board(client, &board);
    } while (board.drafted_tokens_total < 20 && ++n < RUNS_MAX);
    print_message("%lu drafts held, all of %lu\n",
                  (unsigned long)board.accepted_tokens_total,
                  (unsigned long)board.drafted_tokens_total);
    stop();
    (void)unlink(path);
    if (board.drafted_tokens_total == 0) {
        print_message("skipped: no draft pays by what steps took here\n");
        skip();
    }
    assert_true(board.steps < board.completion_tokens_total);
}


/* Its first place in the file is the vocabulary. */
static void
rename_token(const char *path, const char *from, const char *to)
{
    size_t bytes;
    uint8_t *model = tiny_model_build(tiny_variant_find("q4_0"), &bytes);
    assert_non_null(model);
    uint8_t *at = memmem(model, bytes, from, strlen(from));
    assert_non_null(at);
    memcpy(at, to, strlen(to));
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(model, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
    free(model);
}


static void
expect_refused(const char *const *args, const char *words)
{
    const struct tiny_options *o = tiny_variant_find("q4_0");
    engine = (struct engine){0};
    strcpy(engine.directory, "/tmp/axion-test-XXXXXX");
    assert_non_null(mkdtemp(engine.directory));
    snprintf(engine.model, sizeof(engine.model), "%s/tiny.gguf",
             engine.directory);
    assert_int_equal(tiny_model_write(engine.model, o), 0);
    engine_start_on(&engine, engine.model, args);
    engine_wait_log(&engine, words);
    assert_int_equal(engine_wait(&engine), 2);
}


static void
test_draft_models_that_do_not_fit(void **state)
{
    char path[64];
    (void)state;
    write_model(path, "q4_0");
    rename_token(path, "<|im_start|>", "<|im_stark|>");
    expect_refused((const char *[]){"--draft", path, NULL},
                   "another tokenizer: token 1 is \"<|im_stark|>\"");
    (void)unlink(path);
    expect_refused((const char *[]){"--draft", "16", NULL}, "--draft-max");
    expect_refused((const char *[]){"--speculate", "draft", NULL},
                   "needs --draft FILE");
    expect_refused(
        (const char *[]){"--speculate", "suffix", "--draft", "x", NULL},
        "contradict");
}


/* ---- what ends or interrupts an answer in the middle of a draft ---- */

/* Each lease length once: spent to the token, never beyond. */
static void
test_lease_ends_within_a_draft(void **state)
{
    (void)state;
    take_references();
    start_with_proposer(RIGHT);
    for (uint32_t more = 1; more < 30; more++) {
        struct request_options o = cases[0];
        struct stream *s = &streams[0];
        o.lease = reference[0].done.prompt_tokens + more;
        submit(client, &o, s);
        while (!s->ended) {
            wait_some(client);
            if (s->lease_lows > 0 && !s->ended) {
                assert_true(s->lease_low.spent_tokens <= o.lease);
                axion_client_topup(client, s->id, 0);
                s->lease_lows = 0;
            }
        }
        assert_int_equal(s->done.reason, AXION_FINISH_LEASE);
        assert_int_equal(s->n_tokens, more);
        assert_int_equal(s->done.completion_tokens, more);
        assert_memory_equal(s->tokens, reference[0].tokens,
                            more * sizeof(uint32_t));
    }
    stop();
}


/* KV for a few sequences only: they preempt each other again and again. */
static void
test_preempted(void **state)
{
    struct axion_board board;
    (void)state;
    take_references();
    start("suffix", (const char *[]){"--kv-memory", "1m", NULL});
    for (uint32_t i = 0; i < CASES; i++) {
        cases[i].head.max_tokens = 500;
        cases[i].stop = NULL;
        run_alone(client, &cases[i], &reference[i]);
    }
    for (uint32_t i = 0; i < 2 * CASES; i++) {
        submit_short(client, &cases[i % CASES], &reference[i % CASES],
                     &streams[i]);
    }
    for (uint32_t i = 0; i < 2 * CASES; i++) {
        go_on(client, &reference[i % CASES], &streams[i]);
    }
    read_board(client, &board);
    assert_true(board.preemptions_total > 0);
    stop();
}


/* Paused after the first tokens and resumed: the rest is the same. */
static void
test_paused(void **state)
{
    (void)state;
    take_references();
    start_with_proposer(TURNS);
    for (uint32_t i = 0; i < CASES; i++) {
        submit(client, &cases[i], &streams[i]);
    }
    for (uint32_t i = 0; i < CASES; i++) {
        wait_tokens(client, &streams[i], 1);
        if (!streams[i].ended) {
            axion_client_pause(client, streams[i].id);
            axion_client_resume(client, streams[i].id);
        }
    }
    for (uint32_t i = 0; i < CASES; i++) {
        wait_ended(client, &streams[i]);
        expect_case(i, &streams[i]);
    }
    stop();
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_proposers_by_name),
        cmocka_unit_test(test_right_and_wrong_proposers),
        cmocka_unit_test(test_draft_model),
        cmocka_unit_test(test_a_draft_model_keeps_to_the_grammar),
        cmocka_unit_test(test_draft_models_that_do_not_fit),
        cmocka_unit_test(test_lease_ends_within_a_draft),
        cmocka_unit_test(test_preempted),
        cmocka_unit_test(test_paused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
