/*
 * Times steps at load (engine.h): what m tokens cost at the start of a
 * context, and what cached positions add.  Time is CPU time of all compute
 * threads over how many the step had: on a quiet machine that is its time,
 * and beside busy neighbours it still says what the work is.  The numbers that
 * the control law lives on come first, the rest while the budget lasts; of
 * several tries the fastest counts, since whatever else ran then only ever
 * adds.  The budget follows what a step of one token takes, so that a small
 * model is ready as soon as its numbers are good.
 *
 * The steps write KV of a sequence that is given back at the end; what the
 * tokens are does not matter to their cost.  Who has better to do puts them off
 * between two layers: what is timed by then stays, and the next try begins
 * again.
 */
#include <stdlib.h>
#include "engine/pool/pool.h"
#include "engine/server/engine.h"

#define PASSES     5
#define ENOUGH     48 /* steps of one token: two passes and some, or more */
#define ENOUGH_US  50000
#define PATIENCE   4 /* times the budget, by the wall, on a busy machine */
#define TRIES      2
#define KEYS_DEPTH 1024u /* where the cost of keys is measured */
#define KEYS_ROWS  8u

struct bench {
    struct ax_engine *engine;
    struct ax_kv_sequence sequence;
    struct ax_kv_sequence *sequences[1];
    struct ax_step_token *tokens; /* [batch_tokens] */
    const struct ax_calibrate_options *options;
    float spent_us, budget_us;
    uint64_t deadline_ns; /* by the clock on the wall */
};


static void
set_budget(struct bench *b, float us)
{
    b->budget_us = us;
    b->deadline_ns = ax_pool_clock_ns() + (uint64_t)(us * 1000 * PATIENCE);
}


static int
run(struct bench *b, uint32_t position, uint32_t n, float *us)
{
    struct ax_engine *e = b->engine;
    uint32_t rows = n < e->logits_rows ? n : e->logits_rows;
    for (uint32_t i = 0; i < n; i++) {
        b->tokens[i] = (struct ax_step_token){
            .token = (int32_t)((uint64_t)i * 7919 % e->info->n_vocab),
            .position = position + i,
            .logits_row = i + rows >= n ? i + rows - n : AX_NO_LOGITS,
        };
    }
    struct ax_step step = {
        .tokens = b->tokens,
        .n_tokens = n,
        .n_sequences = 1,
        .sequences = b->sequences,
        .logits = e->logits,
        .n_logits = rows,
        .at_layer = b->options->at_layer,
        .context = b->options->context,
    };
    uint64_t start = ax_exec_cpu_ns(e->exec);
    int rc = ax_exec_step(e->exec, &step);
    uint64_t ns = ax_exec_cpu_ns(e->exec) - start;
    *us = (float)ns / 1000 / (float)ax_exec_threads(e->exec);
    b->spent_us += *us;
    return rc;
}


static bool
affordable(const struct bench *b, uint32_t n)
{
    return ax_pool_clock_ns() < b->deadline_ns &&
           b->spent_us + ax_cost_of(&b->engine->cost, n) < b->budget_us;
}


/* The fastest of up to TRIES; stops at the deadline. */
static int
time_step(struct bench *b, uint32_t position, uint32_t n, float *best)
{
    *best = 0;
    for (int i = 0; i < TRIES; i++) {
        float us;
        int rc = run(b, position, n, &us);
        if (rc != AXION_OK) {
            return rc;
        }
        *best = i == 0 || us < *best ? us : *best;
        if (!affordable(b, n)) {
            break;
        }
    }
    return AXION_OK;
}


/* One step of each size, as far as the budget goes; the faster one of this
 * and former passes is kept. */
static int
pass(struct bench *b, const uint32_t *tokens, uint32_t n_tokens)
{
    struct ax_engine *e = b->engine;
    for (uint32_t i = 0; i < n_tokens; i++) {
        uint32_t n = tokens[i];
        float us, known = ax_cost_at(&e->cost, n);
        if (n > e->batch_tokens || n > b->sequence.n_tokens ||
            !affordable(b, n)) {
            continue;
        }
        int rc = run(b, 0, n, &us);
        if (rc != AXION_OK) {
            return rc;
        }
        if (known == 0 || us < known) {
            ax_cost_add(&e->cost, n, us);
        }
    }
    return AXION_OK;
}


/* The first step finds everything cold; the second says what is enough, and is
 * the one number that there is on a machine with time for no more. */
static int
warm_up(struct bench *b)
{
    float us;
    int rc = run(b, 0, 1, &us);
    if (rc == AXION_OK) {
        rc = run(b, 0, 1, &us);
    }
    if (rc == AXION_OK) {
        ax_cost_add(&b->engine->cost, 1, us);
    }
    us = us * ENOUGH > ENOUGH_US ? us * ENOUGH : ENOUGH_US;
    if (us < b->budget_us) {
        set_budget(b, us);
    }
    return rc;
}


/* Passes rather than tries in a row: a neighbour's burst hits one of each. */
static int
time_tokens(struct bench *b)
{
    static const uint32_t first[] = {1, 2, 4, 8, 16, 32};
    static const uint32_t rest[] = {3,  6,  12, 24,  5,   10,
                                    20, 48, 64, 128, 256, 512};
    int rc = warm_up(b);
    for (int i = 0; rc == AXION_OK && i < PASSES; i++) {
        rc = pass(b, first, sizeof(first) / sizeof(first[0]));
    }
    for (int i = 0; rc == AXION_OK && i < TRIES; i++) {
        rc = pass(b, rest, sizeof(rest) / sizeof(rest[0]));
    }
    return rc;
}


/* Past positions that nobody computed are zeros: as quick to read. */
static int
time_keys(struct bench *b)
{
    struct ax_engine *e = b->engine;
    uint32_t rows = KEYS_ROWS < e->batch_tokens ? KEYS_ROWS : e->batch_tokens;
    float one, many;
    if (b->sequence.n_tokens < 4 * rows || rows < 2 || !affordable(b, rows)) {
        return AXION_OK;
    }
    uint32_t depth = b->sequence.n_tokens - rows;
    int rc = time_step(b, depth, 1, &one);
    if (rc == AXION_OK) {
        rc = time_step(b, depth, rows, &many);
    }
    if (rc != AXION_OK) {
        return rc;
    }
    one -= ax_cost_of(&e->cost, 1);
    many -= ax_cost_of(&e->cost, rows) + one;
    e->cost.key_us = one > 0 ? one / (float)depth : 0;
    e->cost.key_query_us = many > 0 ? many / (float)((rows - 1) * depth) : 0;
    return AXION_OK;
}


/* As many positions as there are, up to the largest step and depth. */
static int
open_bench(struct bench *b)
{
    struct ax_engine *e = b->engine;
    uint32_t n = e->batch_tokens > KEYS_DEPTH + KEYS_ROWS
                     ? e->batch_tokens
                     : KEYS_DEPTH + KEYS_ROWS;
    n = n < e->ctx ? n : e->ctx;
    b->sequences[0] = &b->sequence;
    b->sequence.blocks_max = ax_kv_blocks_for(n);
    b->sequence.blocks = calloc(
        (size_t)b->sequence.blocks_max * ax_kv_groups(e->kv), sizeof(uint32_t));
    b->tokens = calloc(e->batch_tokens, sizeof(*b->tokens));
    if (b->sequence.blocks == NULL || b->tokens == NULL) {
        return AXION_ERR_NO_MEMORY;
    }
    return ax_kv_reserve(e->kv, &b->sequence, n);
}


int
ax_engine_calibrate(struct ax_engine *e,
                    const struct ax_calibrate_options *options,
                    struct ax_error *err)
{
    struct bench b = {
        .engine = e,
        .options = options,
    };
    if (options->budget_us == 0) {
        return AXION_OK;
    }
    set_budget(&b, (float)options->budget_us);
    axk_thread_init();
    int rc = open_bench(&b);
    if (rc == AXION_OK) {
        rc = time_tokens(&b);
    }
    if (rc == AXION_OK) {
        b.budget_us += b.budget_us / 4;
        rc = time_keys(&b);
    }
    ax_kv_release(e->kv, &b.sequence);
    free(b.sequence.blocks);
    free(b.tokens);
    return rc == AXION_OK || rc == AXION_AGAIN
               ? rc
               : ax_error_set(err, rc, "the first steps failed");
}
