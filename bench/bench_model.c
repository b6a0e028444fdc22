/*
 * The speed of the executor alone, as llama-bench measures llama.cpp's:
 *
 *   bench-model MODEL [THREADS [PROMPT_TOKENS [ANSWER_TOKENS]]]
 *
 * pp: one step of PROMPT_TOKENS tokens into an empty sequence, with logits of
 * the last alone; tg: ANSWER_TOKENS steps of one token from an empty sequence.
 * A warm-up of each goes before.  Prints one line of JSON, tokens per second,
 * and with AXION_BENCH_COUNTERS=1 where the time went, to stderr.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "engine/exec/exec.h"
#include "engine/kv/kv.h"
#include "engine/model/model.h"

#define COUNTERS_MAX 32

struct bench {
    struct ax_model *model;
    struct ax_kv *kv;
    struct ax_exec *exec;
    struct ax_kv_sequence sequence;
    struct ax_step_token *tokens;
    float *logits;
    uint32_t n_vocab;
};


static double
now_s(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}


static int
fail(const char *what, const struct ax_error *err)
{
    fprintf(stderr, "bench-model: %s: %s\n", what, err->text);
    return -1;
}


static int
bench_open(struct bench *b, const char *path, uint32_t threads,
           uint32_t tokens_max)
{
    struct ax_model_options model = {.path = path, .n_threads = threads};
    struct ax_exec_options exec = {.n_threads = threads,
                                   .batch_tokens_max = tokens_max,
                                   .logits_max = 1,
                                   .sequences_max = 1};
    struct ax_error err = {0};
    struct ax_kv_shape shape;
    uint64_t bytes;

    exec.counters = getenv("AXION_BENCH_COUNTERS") != NULL;
    if (ax_model_open(&b->model, &model, &err) != AXION_OK) {
        return fail(path, &err);
    }
    shape = ax_model_kv_shape(b->model);
    bytes = (uint64_t)shape.n_layer * shape.n_head_kv * shape.head_dim *
            (2 * sizeof(uint16_t)) * (tokens_max + AX_KV_BLOCK_TOKENS);
    if (ax_kv_open(&b->kv, &shape, bytes, &err) != AXION_OK) {
        return fail("KV", &err);
    }
    if (ax_exec_open(&b->exec, b->model, b->kv, &exec, &err) != AXION_OK) {
        return fail("executor", &err);
    }
    b->n_vocab = ax_model_info(b->model)->n_vocab;
    b->sequence.blocks_max = ax_kv_blocks_for(tokens_max);
    b->sequence.blocks = calloc(b->sequence.blocks_max, sizeof(uint32_t));
    b->tokens = calloc(tokens_max, sizeof(*b->tokens));
    b->logits = calloc(b->n_vocab, sizeof(float));
    return b->sequence.blocks != NULL && b->tokens != NULL &&
                   b->logits != NULL
               ? 0
               : -1;
}


static void
bench_close(struct bench *b)
{
    if (b->kv != NULL) {
        ax_kv_release(b->kv, &b->sequence);
    }
    ax_exec_close(b->exec);
    ax_kv_close(b->kv);
    ax_model_close(b->model);
    free(b->sequence.blocks);
    free(b->tokens);
    free(b->logits);
}


/* n tokens in steps of `per_step`; tokens per second, or 0 on an error. */
static double
run(struct bench *b, uint32_t n, uint32_t per_step)
{
    double start = now_s();
    uint32_t done, i;

    ax_kv_release(b->kv, &b->sequence);
    for (done = 0; done < n; done += per_step) {
        struct ax_kv_sequence *sequences[1] = {&b->sequence};
        struct ax_step step = {.tokens = b->tokens,
                               .n_tokens = per_step,
                               .n_sequences = 1,
                               .sequences = sequences,
                               .logits = b->logits,
                               .n_logits = 1};

        for (i = 0; i < per_step; i++) {
            b->tokens[i] = (struct ax_step_token){
                .token = (int32_t)((uint64_t)(done + i) * 7919 % b->n_vocab),
                .position = done + i,
                .logits_row = i + 1 == per_step ? 0 : AX_NO_LOGITS};
        }
        if (ax_kv_reserve(b->kv, &b->sequence, done + per_step) != AXION_OK ||
            ax_exec_step(b->exec, &step) != AXION_OK) {
            return 0;
        }
    }
    return n / (now_s() - start);
}


static void
print_counters(const struct bench *b)
{
    struct ax_exec_counter counters[COUNTERS_MAX];
    uint32_t n = ax_exec_counters(b->exec, counters, COUNTERS_MAX), i;

    for (i = 0; i < n && i < COUNTERS_MAX; i++) {
        fprintf(stderr, "%-20s %10" PRIu64 " calls %10.3f ms\n",
                counters[i].name, counters[i].calls,
                (double)counters[i].ns / 1e6);
    }
}


static uint32_t
number(int argc, char **argv, int i, uint32_t fallback)
{
    return argc > i ? (uint32_t)strtoul(argv[i], NULL, 10) : fallback;
}


int
main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : getenv("AXION_MODEL");
    uint32_t threads = number(argc, argv, 2, 1);
    uint32_t n_prompt = number(argc, argv, 3, 512);
    uint32_t n_answer = number(argc, argv, 4, 128);
    struct bench bench = {0};
    double pp = 0, tg = 0;

    if (path == NULL || threads == 0 || n_prompt == 0 || n_answer == 0) {
        fprintf(stderr, "usage: bench-model MODEL [THREADS [PROMPT_TOKENS "
                        "[ANSWER_TOKENS]]]\n");
        return 2;
    }
    if (bench_open(&bench, path, threads,
                   n_prompt > n_answer ? n_prompt : n_answer) == 0 &&
        run(&bench, n_prompt, n_prompt) > 0 && run(&bench, 16, 1) > 0) {
        pp = run(&bench, n_prompt, n_prompt);
        tg = run(&bench, n_answer, 1);
    }
    if (pp > 0 && tg > 0) {
        printf("{\"pp\": %.2f, \"tg\": %.2f}\n", pp, tg);
        print_counters(&bench);
    }
    bench_close(&bench);
    return pp > 0 && tg > 0 ? 0 : 1;
}
