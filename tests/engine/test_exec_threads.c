/*
 * Threads meet in the executor on a whole tiny model: logits have the same
 * bits with 1, 2, 3 and 5 threads, for prompts, for mixed steps, and for
 * decodes so few and so deep that threads share one query's keys.  They have
 * these bits too when a thread stops in the middle of a piece and goes on,
 * over inputs that are no longer its own, steps later; and when every step has
 * another number of the executor's threads.  Under TSan this shows that the
 * stages of a step are ordered.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/pool/crew.h"
#include "engine/pool/pool.h"
#include "tests/golden/runner.h"
#include "tests/tiny/tiny_model.h"


#define DEEP     600u    /* ten attention tiles */
#define CHUNK    120u
#define DECODES  6u
#define PROMPT   37u
#define ROWS     (PROMPT + 1)


/*
 * A thread that stops.  Compute functions ask ax_pool_holds() before they
 * start; here a thread stops for a while ahead of the question, or behind the
 * answer that it still holds its piece, when it goes on to compute.
 */
static struct {
    atomic_uint  holder;       /* thread; 0: nobody stops */
    atomic_uint  countdown;    /* questions until then */
    atomic_bool  behind;
    atomic_uint  turn;         /* two later the stop ends */
    atomic_uint  stops;
} hold;

bool __real_ax_pool_holds(const struct ax_pool_piece *piece);
bool __wrap_ax_pool_holds(const struct ax_pool_piece *piece);


static void
stop(void)
{
    unsigned turn = atomic_load(&hold.turn);

    atomic_fetch_add(&hold.stops, 1);
    while (atomic_load(&hold.turn) - turn < 2
           && atomic_load(&hold.holder) != 0)
    {
        sched_yield();
    }
}


bool
__wrap_ax_pool_holds(const struct ax_pool_piece *piece)
{
    bool stops = piece->thread != 0
                 && piece->thread == atomic_load(&hold.holder)
                 && atomic_fetch_sub(&hold.countdown, 1) == 1;

    if (stops && !atomic_load(&hold.behind)) {
        stop();
    }
    bool holds = __real_ax_pool_holds(piece);
    if (stops && atomic_load(&hold.behind)) {
        stop();
    }
    return holds;
}


/*
 * How many threads a step has depends on what time steps took; here, where
 * asked for, it is another number from step to step, prompts with all threads
 * between them.
 */
static bool     changing;
static uint32_t changes;

uint32_t __wrap_ax_crew_threads(const struct ax_crew *crew, uint32_t n_tokens);


uint32_t
__wrap_ax_crew_threads(const struct ax_crew *crew, uint32_t n_tokens)
{
    return changing && n_tokens <= AX_CREW_TOKENS_MAX
               ? 1 + changes++ * 5 / 3 % crew->n_threads
               : crew->n_threads;
}


/* A step in which a thread may stop; it is let go one step later. */
static void
step(struct runner *r, const struct ax_step_token *tokens, uint32_t n_tokens,
     uint32_t n_logits)
{
    static uint32_t seed;

    seed = seed * 1664525u + 1013904223u;
    atomic_store(&hold.behind, seed >> 30 & 1);
    atomic_store(&hold.countdown, 1 + (seed >> 8) % 12);
    runner_step(r, tokens, n_tokens, n_logits);
    atomic_fetch_add(&hold.turn, 1);
}


static struct ax_step_token
token(uint32_t sequence, uint32_t position, uint32_t row)
{
    return (struct ax_step_token) {
        .token = (int32_t) (3 + (position * 11 + sequence) % 256),
        .position = position,
        .sequence = sequence,
        .logits_row = row,
    };
}


static void
keep(float **out, const struct runner *r, uint32_t rows)
{
    memcpy(*out, r->logits, rows * r->n_vocab * sizeof(float));
    *out += rows * r->n_vocab;
}


/* A deep prompt in chunks, lone decodes, then a decode beside a new prompt,
 * all of whose logits are wanted: more than a tile goes past the caches. */
static uint32_t
scenario(struct runner *r, float *out)
{
    struct ax_step_token t[CHUNK + 1];
    float *start = out;

    for (uint32_t at = 0; at < DEEP; at += CHUNK) {
        for (uint32_t i = 0; i < CHUNK; i++) {
            t[i] = token(0, at + i, i + 1 == CHUNK ? 0 : AX_NO_LOGITS);
        }
        runner_reserve(r, 0, at + CHUNK);
        step(r, t, CHUNK, 1);
        keep(&out, r, 1);
    }
    for (uint32_t i = 0; i < DECODES; i++) {
        t[0] = token(0, DEEP + i, 0);
        runner_reserve(r, 0, DEEP + i + 1);
        step(r, t, 1, 1);
        keep(&out, r, 1);
    }
    t[0] = token(0, DEEP + DECODES, PROMPT);
    for (uint32_t i = 0; i < PROMPT; i++) {
        t[i + 1] = token(1, i, i);
    }
    runner_reserve(r, 0, DEEP + DECODES + 1);
    runner_reserve(r, 1, PROMPT);
    step(r, t, ROWS, ROWS);
    keep(&out, r, ROWS);
    return (uint32_t) (out - start);
}


static void
compare_file(const char *name, const char *path)
{
    /* Four with a thread that stops now and then, the last of them and one
     * more with other threads from step to step. */
    static const uint32_t threads[] = { 1, 2, 3, 5, 2, 3, 3, 2, 3 };
    static const uint32_t holders[] = { 0, 0, 0, 0, 1, 2, 0, 1, 1 };
    static const bool     change[]  = { 0, 0, 0, 0, 0, 0, 1, 1, 1 };
    struct runner r;
    uint32_t rows = DEEP / CHUNK + DECODES + ROWS;
    float *expected = NULL, *found = NULL;

    for (uint32_t i = 0; i < sizeof(threads) / sizeof(threads[0]); i++) {
        runner_open(&r, path, NULL, threads[i], ROWS);
        if (expected == NULL) {
            expected = calloc(rows * r.n_vocab, sizeof(float));
            found = calloc(rows * r.n_vocab, sizeof(float));
            assert_non_null(expected);
            assert_non_null(found);
        }
        atomic_store(&hold.holder, holders[i]);
        changing = change[i];
        uint32_t n = scenario(&r, i == 0 ? expected : found);
        assert_int_equal(n, rows * r.n_vocab);
        if (i > 0) {
            assert_memory_equal(expected, found, n * sizeof(float));
        }
        atomic_store(&hold.holder, 0);   /* nobody stays stopped */
        runner_close(&r);
    }
    print_message("%s: %u stops\n", name, atomic_load(&hold.stops));
    free(expected);
    free(found);
}


static void
compare(const char *variant)
{
    compare_file(variant, runner_tiny_path(variant));
}


static void
quantized_models_answer_alike_with_any_threads(void **state)
{
    (void) state;
    compare("q4_1");
    compare("q4_0-deep");
}


static void
other_keys_and_values_give_the_same_with_any_threads(void **state)
{
    (void) state;
    static const enum axk_kv_type types[] = {AXK_KV_Q8_0, AXK_KV_BF16};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        runner_kv_type = types[i];
        compare("q4_1");
        compare("q4_0-deep");
    }
    runner_kv_type = AXK_KV_F16;
}


/* Heads that are no panels: where threads can share units of whole heads, these
 * end with RoPE and the KV write (engine/exec/join.c), elsewhere not, or with
 * RoPE alone. */
static void
heads_of_any_size_give_the_same_with_any_threads(void **state)
{
    static const struct tiny_variant shapes[] = {
        { "llama, 48", { .format = TINY_Q4_0, .n_embd = 192 } },
        { "qwen2, 80", { .family = TINY_QWEN2, .format = TINY_Q4_0,
                         .n_embd = 320 } },
        { "qwen3, 96", { .family = TINY_QWEN3, .format = TINY_Q4_0,
                         .n_embd = 384 } },
        { "gemma3, 128", { .family = TINY_GEMMA3, .format = TINY_Q4_0,
                           .n_embd = 256, .n_head = 2, .n_head_kv = 1 } },
    };
    char path[64];

    (void) state;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        strcpy(path, "/tmp/axion-heads-XXXXXX");
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        close(fd);
        assert_int_equal(tiny_model_write(path, &shapes[i].options), 0);
        runner_kv_type = (enum axk_kv_type) (i % AXK_KV_TYPE_END);
        compare_file(shapes[i].name, path);
        unlink(path);
    }
    runner_kv_type = AXK_KV_F16;
}


static void
float_models_answer_alike_with_any_threads(void **state)
{
    (void) state;
    compare("f16-rope");
    compare("f16-gemma3");
}


static void
mixtures_of_experts_answer_alike_with_any_threads(void **state)
{
    (void) state;
    compare("f32-mixtral");
    compare("q8_0-qwen3moe");
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantized_models_answer_alike_with_any_threads),
        cmocka_unit_test(
            other_keys_and_values_give_the_same_with_any_threads),
        cmocka_unit_test(heads_of_any_size_give_the_same_with_any_threads),
        cmocka_unit_test(float_models_answer_alike_with_any_threads),
        cmocka_unit_test(mixtures_of_experts_answer_alike_with_any_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
