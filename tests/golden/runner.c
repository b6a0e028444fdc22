/*
 * The KV pool is sized for all sequences at their longest, so no test meets
 * its limits by accident.
 */

#include "tests/golden/runner.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/golden/golden.h"
#include "tests/tiny/tiny_model.h"

#define BATCH_TOKENS_MAX 1024

enum axk_kv_type runner_kv_type = AXK_KV_F16;


void
runner_open(struct runner *r, const char *path, const char *isa,
            uint32_t n_threads, uint32_t logits_max)
{
    struct ax_model_options model_options = {
        .path = path, .isa = isa, .n_threads = n_threads};
    struct ax_exec_options exec_options = {
        .n_threads = n_threads,
        .batch_tokens_max = BATCH_TOKENS_MAX,
        .logits_max = logits_max,
        .sequences_max = RUNNER_SEQUENCES_MAX};
    struct ax_error err = {0};
    struct ax_kv_shape shape;
    uint64_t bytes;

    memset(r, 0, sizeof(*r));
    if (ax_model_open(&r->model, &model_options, &err) != AXION_OK) {
        fail_msg("%s: %s", path, err.text);
    }
    r->n_vocab = ax_model_info(r->model)->n_vocab;
    shape = ax_model_kv_shape(r->model);
    shape.type = runner_kv_type;
    shape.step_tokens_max = BATCH_TOKENS_MAX;
    bytes = ax_kv_bytes_needed(&shape, RUNNER_TOKENS_MAX) *
            (RUNNER_SEQUENCES_MAX + 1);
    if (ax_kv_open(&r->kv, &shape, bytes, &err) != AXION_OK ||
        ax_exec_open(&r->exec, r->model, r->kv, &exec_options, &err) !=
            AXION_OK) {
        fail_msg("%s: %s", path, err.text);
    }
    assert_true(ax_kv_groups(r->kv) <= RUNNER_GROUPS_MAX);
    /* At a cache line, as the engine's are. */
    bytes = ((uint64_t)logits_max * r->n_vocab * sizeof(float) + 63) / 64 * 64;
    r->logits = aligned_alloc(64, bytes);
    assert_non_null(r->logits);
    memset(r->logits, 0, bytes);
    runner_reset(r);
}


void
runner_close(struct runner *r)
{
    runner_reset(r);
    assert_int_equal(ax_kv_blocks_used(r->kv), 0);
    ax_exec_close(r->exec);
    ax_kv_close(r->kv);
    ax_model_close(r->model);
    free(r->logits);
}


void
runner_reset(struct runner *r)
{
    uint32_t i;

    for (i = 0; i < RUNNER_SEQUENCES_MAX; i++) {
        struct runner_sequence *s = &r->sequences[i];

        ax_kv_release(r->kv, &s->kv);
        s->kv.blocks = s->blocks;
        s->kv.blocks_max = RUNNER_BLOCKS_MAX;
    }
}


void
runner_reserve(struct runner *r, uint32_t sequence, uint32_t n_tokens)
{
    assert_true(sequence < RUNNER_SEQUENCES_MAX);
    assert_int_equal(
        ax_kv_reserve(r->kv, &r->sequences[sequence].kv, n_tokens), AXION_OK);
}


void
runner_step(struct runner *r, const struct ax_step_token *tokens,
            uint32_t n_tokens, uint32_t n_logits)
{
    struct ax_kv_sequence *table[RUNNER_SEQUENCES_MAX];
    struct ax_step step = {.tokens = tokens,
                           .n_tokens = n_tokens,
                           .n_sequences = RUNNER_SEQUENCES_MAX,
                           .sequences = table,
                           .logits = r->logits,
                           .n_logits = n_logits};
    uint32_t i;

    for (i = 0; i < RUNNER_SEQUENCES_MAX; i++) {
        table[i] = &r->sequences[i].kv;
    }
    assert_int_equal(ax_exec_step(r->exec, &step), AXION_OK);
}


uint32_t
runner_prompt(struct runner *r, const struct golden_prompt *p,
              uint32_t rows_max)
{
    static struct ax_step_token tokens[RUNNER_TOKENS_MAX];
    uint32_t row = 0;

    runner_reset(r);
    runner_reserve(r, 0, p->n_tokens);
    for (uint32_t i = 0; i < p->n_tokens; i++) {
        bool wanted = row < rows_max && row < p->n_positions &&
                      p->positions[row].position == i;

        tokens[i] = (struct ax_step_token){
            .token = (int32_t)p->tokens[i],
            .position = i,
            .logits_row = wanted ? row++ : AX_NO_LOGITS};
    }
    runner_step(r, tokens, p->n_tokens, row);
    return row;
}


static double
log_sum(const float *x, uint32_t n, float max)
{
    double sum = 0;

    for (uint32_t i = 0; i < n; i++) {
        sum += exp((double)x[i] - (double)max);
    }
    return log(sum) + (double)max;
}


double
runner_divergence(const float *p, const float *q, uint32_t n_vocab)
{
    double log_p = log_sum(p, n_vocab, p[runner_argmax(p, n_vocab)]);
    double log_q = log_sum(q, n_vocab, q[runner_argmax(q, n_vocab)]);
    double kl = 0;

    for (uint32_t i = 0; i < n_vocab; i++) {
        double a = (double)p[i] - log_p;
        kl += exp(a) * (a - ((double)q[i] - log_q));
    }
    return kl;
}


uint32_t
runner_argmax(const float *logits, uint32_t n_vocab)
{
    uint32_t best = 0, i;

    for (i = 1; i < n_vocab; i++) {
        if (logits[i] > logits[best]) {
            best = i;
        }
    }
    return best;
}


const char *
runner_tiny_path(const char *variant)
{
    static char path[512];
    const char *build = getenv("AXION_BUILD");
    const struct tiny_options *options = tiny_variant_find(variant);

    assert_non_null(options);
    snprintf(path, sizeof(path), "%s/tiny-%s-%d.gguf",
             build == NULL ? "/tmp" : build, variant, (int)getpid());
    assert_int_equal(tiny_model_write(path, options), 0);
    return path;
}
