/*
 * A step that breaks the executor's rules is refused before anything runs; a
 * step that at_layer ends leaves nothing behind; truncating and computing
 * again gives the same bits, and so does a prompt whose blocks another
 * sequence shares.  The lines of KV that are asked for ahead are those that
 * the step writes.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/exec/internal.h"
#include "tests/golden/runner.h"
#include "tests/tiny/tiny_model.h"


#define PROMPT  70u


static void
setup(struct runner *r, uint32_t threads)
{
    runner_open(r, runner_tiny_path("q4_1"), NULL, threads, 4);
}


static struct ax_step_token
token(uint32_t sequence, uint32_t position, uint32_t row)
{
    return (struct ax_step_token) {
        .token = (int32_t) (3 + (position * 7 + 5) % 256),
        .position = position,
        .sequence = sequence,
        .logits_row = row,
    };
}


/* Tokens [from, to) of a sequence; logits of the last in row 0. */
static void
prefill(struct runner *r, uint32_t sequence, uint32_t from, uint32_t to)
{
    struct ax_step_token t[PROMPT];

    for (uint32_t i = from; i < to; i++) {
        t[i - from] = token(sequence, i, i + 1 == to ? 0 : AX_NO_LOGITS);
    }
    runner_reserve(r, sequence, to);
    runner_step(r, t, to - from, 1);
}


static int
raw_step(struct runner *r, const struct ax_step_token *tokens, uint32_t n,
         uint32_t n_logits)
{
    struct ax_kv_sequence *table[RUNNER_SEQUENCES_MAX];

    for (uint32_t i = 0; i < RUNNER_SEQUENCES_MAX; i++) {
        table[i] = &r->sequences[i].kv;
    }
    struct ax_step step = {
        .tokens = tokens,
        .n_tokens = n,
        .n_sequences = RUNNER_SEQUENCES_MAX,
        .sequences = table,
        .logits = r->logits,
        .n_logits = n_logits,
    };
    return ax_exec_step(r->exec, &step);
}


static void
steps_that_break_the_rules_are_refused(void **state)
{
    struct runner r;

    (void) state;
    setup(&r, 2);
    runner_reserve(&r, 0, 8);
    runner_reserve(&r, 1, 8);
    struct ax_step_token t[3] = { token(0, 0, AX_NO_LOGITS),
                                  token(0, 1, AX_NO_LOGITS),
                                  token(0, 2, 0) };
    struct ax_step_token bad[3];
#define BROKEN(field, value, number)                                          \
    do {                                                                      \
        memcpy(bad, t, sizeof(t));                                            \
        bad[1].field = value;                                                 \
        assert_int_equal(raw_step(&r, bad, 3, 1), number);                    \
    } while (0)
    BROKEN(token, -1, AXION_ERR_INVALID_TOKEN);
    BROKEN(token, 331, AXION_ERR_INVALID_TOKEN);
    BROKEN(position, 5, AXION_ERR_INTERNAL);         /* a gap */
    BROKEN(position, 8, AXION_ERR_INTERNAL);         /* no KV room */
    BROKEN(position, UINT32_MAX, AXION_ERR_INTERNAL);
    BROKEN(sequence, 1, AXION_ERR_INTERNAL);         /* not contiguous */
    BROKEN(sequence, 99, AXION_ERR_INTERNAL);
    BROKEN(logits_row, 0, AXION_ERR_INTERNAL);       /* asked twice */
    BROKEN(logits_row, 7, AXION_ERR_INTERNAL);
#undef BROKEN
    assert_int_equal(raw_step(&r, t, 3, 2), AXION_ERR_INTERNAL);
    assert_int_equal(raw_step(&r, t, 3, 5), AXION_ERR_INTERNAL);
    assert_int_equal(raw_step(&r, t, 1u << 20, 1), AXION_ERR_INTERNAL);
    assert_int_equal(raw_step(&r, t, 0, 0), AXION_OK);
    assert_int_equal(raw_step(&r, t, 3, 1), AXION_OK);
    runner_close(&r);
}


static int
stop_at_layer(void *context, uint32_t layer)
{
    uint32_t *seen = context;

    *seen |= 1u << layer;
    return layer == 1 ? 4321 : 0;
}


static void
at_layer_ends_a_step_and_the_next_one_is_right(void **state)
{
    struct runner r;
    struct ax_step_token t[PROMPT];
    uint32_t seen = 0;

    (void) state;
    setup(&r, 2);
    prefill(&r, 0, 0, PROMPT);
    size_t bytes = r.n_vocab * sizeof(float);
    float *expected = malloc(bytes);
    assert_non_null(expected);
    memcpy(expected, r.logits, bytes);
    for (uint32_t round = 0; round < 50; round++) {
        runner_reset(&r);
        runner_reserve(&r, 0, PROMPT);
        struct ax_kv_sequence *table[] = { &r.sequences[0].kv };
        for (uint32_t i = 0; i < PROMPT; i++) {
            t[i] = token(0, i, i + 1 == PROMPT ? 0 : AX_NO_LOGITS);
        }
        struct ax_step step = {
            .tokens = t, .n_tokens = PROMPT, .n_sequences = 1,
            .sequences = table, .logits = r.logits, .n_logits = 1,
            .at_layer = stop_at_layer, .context = &seen,
        };
        assert_int_equal(ax_exec_step(r.exec, &step), 4321);
        assert_int_equal(seen, 3);
        runner_reset(&r);
        prefill(&r, 0, 0, PROMPT);
        assert_memory_equal(expected, r.logits, bytes);
    }
    free(expected);
    runner_close(&r);
}


static void
truncated_tokens_come_back_with_the_same_bits(void **state)
{
    struct runner r;

    (void) state;
    setup(&r, 2);
    size_t bytes = r.n_vocab * sizeof(float);
    float *expected = malloc(bytes);
    assert_non_null(expected);
    prefill(&r, 0, 0, PROMPT);
    memcpy(expected, r.logits, bytes);
    for (uint32_t keep = 1; keep < PROMPT; keep += 3) {
        ax_kv_truncate(r.kv, &r.sequences[0].kv, keep);
        prefill(&r, 0, keep, PROMPT);
        assert_memory_equal(expected, r.logits, bytes);
    }
    free(expected);
    runner_close(&r);
}


/* The second sequence starts with the first one's blocks and goes on alone. */
static void
shared_prefixes_have_the_same_bits(void **state)
{
    struct runner r;
    uint32_t shared = 40;

    (void) state;
    setup(&r, 2);
    size_t bytes = r.n_vocab * sizeof(float);
    float *expected = malloc(bytes);
    assert_non_null(expected);
    prefill(&r, 0, 0, PROMPT);
    memcpy(expected, r.logits, bytes);
    struct ax_kv_sequence *a = &r.sequences[0].kv;
    struct ax_kv_sequence *b = &r.sequences[1].kv;
    b->n_tokens = shared;
    b->n_blocks = ax_kv_blocks_for(shared);
    for (uint32_t i = 0; i < b->n_blocks; i++) {
        b->blocks[i] = a->blocks[i];
        ax_kv_block_ref(r.kv, b->blocks[i]);
    }
    prefill(&r, 1, shared, PROMPT);
    assert_memory_equal(expected, r.logits, bytes);
    /* Nothing of that was written into the first one's blocks. */
    ax_kv_truncate(r.kv, a, PROMPT - 1);
    prefill(&r, 0, PROMPT - 1, PROMPT);
    assert_memory_equal(expected, r.logits, bytes);
    free(expected);
    runner_close(&r);
}


static void
counters_name_the_work(void **state)
{
    struct runner r;
    struct ax_exec *e;
    struct ax_exec_options options = {
        .n_threads = 2, .batch_tokens_max = 16, .logits_max = 1,
        .counters = true,
    };

    (void) state;
    setup(&r, 1);
    assert_int_equal(ax_exec_counters(r.exec), 0);
    assert_int_equal(ax_exec_open(&e, r.model, r.kv, &options, NULL),
                     AXION_OK);
    struct ax_exec *other = r.exec;
    r.exec = e;
    prefill(&r, 0, 0, 8);
    r.exec = other;
    uint32_t n = ax_exec_counters(e), found = 0;
    struct ax_exec_times times = ax_exec_times(e);
    for (uint32_t i = 0; i < n; i++) {
        struct ax_exec_counter c = ax_exec_counter(e, i);
        if (strcmp(c.name, "attn_q+attn_k+attn_v+rope+kv_write") == 0) {
            assert_int_equal(c.layer, found);
            assert_int_equal(c.calls, 1);
            assert_true(c.ns > 0 && c.bytes > 0 && c.operations > 0);
            found++;
        }
    }
    assert_int_equal(found, 2);
    assert_true(times.matmul_ns > 0 && times.attention_ns > 0);
    ax_exec_close(e);
    runner_close(&r);
}


static void
written_is(const struct runner *r, uint32_t i, uint32_t sequence,
           uint32_t block, uint32_t slot0, uint32_t slot1)
{
    const struct ax_kv_written *w = &r->exec->written[i];

    assert_true(i < r->exec->n_written);
    assert_int_equal(w->block, r->sequences[sequence].kv.blocks[block]);
    assert_int_equal(w->slot0, slot0);
    assert_int_equal(w->slot1, slot1);
}


static void
blocks_that_a_step_writes_are_listed(void **state)
{
    struct ax_step_token t[2];
    struct runner r;

    (void) state;
    setup(&r, 2);
    prefill(&r, 0, 0, PROMPT);
    assert_int_equal(r.exec->n_written, 3);
    written_is(&r, 0, 0, 0, 0, 32);
    written_is(&r, 1, 0, 1, 0, 32);
    written_is(&r, 2, 0, 2, 0, PROMPT - 64);
    prefill(&r, 1, 0, 31);
    assert_int_equal(r.exec->n_written, 1);
    written_is(&r, 0, 1, 0, 0, 31);

    t[0] = token(1, 31, 0);
    t[1] = token(0, PROMPT, 1);
    runner_reserve(&r, 1, 32);
    runner_reserve(&r, 0, PROMPT + 1);
    assert_int_equal(raw_step(&r, t, 2, 2), AXION_OK);
    assert_int_equal(r.exec->n_written, 2);
    written_is(&r, 0, 1, 0, 31, 32);
    written_is(&r, 1, 0, 2, PROMPT - 64, PROMPT - 63);

    prefill(&r, 1, 30, 66);
    assert_int_equal(r.exec->n_written, 3);
    written_is(&r, 0, 1, 0, 30, 32);
    written_is(&r, 2, 1, 2, 0, 2);
    runner_close(&r);
}


static void
options_are_checked(void **state)
{
    struct runner r;
    struct ax_exec *e;
    struct ax_error err = { 0 };
    struct ax_kv *kv;
    struct ax_kv_shape shape = {
        .n_layer = 1, .n_head_kv = 1, .head_dim = 32, .type = AXK_KV_F16,
    };
    struct ax_exec_options good = {
        .n_threads = 1, .batch_tokens_max = 8, .logits_max = 8,
    };

    (void) state;
    setup(&r, 1);
    struct ax_exec_options bad = good;
    bad.n_threads = 0;
    assert_int_equal(ax_exec_open(&e, r.model, r.kv, &bad, &err),
                     AXION_ERR_BAD_OPTION);
    bad = good;
    bad.batch_tokens_max = AX_EXEC_BATCH_MAX + 1;
    assert_int_equal(ax_exec_open(&e, r.model, r.kv, &bad, &err),
                     AXION_ERR_BAD_OPTION);
    bad = good;
    bad.logits_max = 9;
    assert_int_equal(ax_exec_open(&e, r.model, r.kv, &bad, &err),
                     AXION_ERR_BAD_OPTION);
    assert_int_equal(ax_kv_open(&kv, &shape, 1 << 20, &err), AXION_OK);
    assert_int_equal(ax_exec_open(&e, r.model, kv, &good, &err),
                     AXION_ERR_BAD_OPTION);
    assert_null(e);
    ax_kv_close(kv);
    runner_close(&r);
}


#define MANY 300u

/* A token of MANY sequences; rows of logits for the first and the last. */
static void
run_many(struct ax_exec *e, struct ax_kv *kv, uint32_t n, float *logits)
{
    static struct ax_kv_sequence sequences[MANY];
    static struct ax_kv_sequence *table[MANY];
    static struct ax_step_token tokens[MANY];
    static uint32_t blocks[MANY];
    struct ax_step step = {
        .tokens = tokens, .n_tokens = n, .n_sequences = n,
        .sequences = table, .logits = logits, .n_logits = n > 1 ? 2 : 1,
    };

    for (uint32_t i = 0; i < n; i++) {
        sequences[i] = (struct ax_kv_sequence) {
            .blocks_max = 1, .blocks = &blocks[i],
        };
        table[i] = &sequences[i];
        tokens[i] = (struct ax_step_token) {
            .token = 77, .sequence = i,
            .logits_row = i == 0 ? 0 : i + 1 == n ? 1 : AX_NO_LOGITS,
        };
        assert_int_equal(ax_kv_reserve(kv, &sequences[i], 1), AXION_OK);
    }
    assert_int_equal(ax_exec_step(e, &step), AXION_OK);
    for (uint32_t i = 0; i < n; i++) {
        ax_kv_release(kv, &sequences[i]);
    }
}


/* 64 KV heads for each of 300 sequences are more items than a phase of the
 * pool has units: several are one unit then. */
static void
more_items_of_attention_than_units_are_worked_on(void **state)
{
    const struct tiny_options wide = {
        .n_embd = 256, .n_head = 64, .n_head_kv = 64,
    };
    struct ax_exec_options options = {
        .n_threads = 2, .batch_tokens_max = MANY, .logits_max = 2,
    };
    struct ax_model_options model_options = { .n_threads = 1 };
    struct ax_model *model;
    struct ax_error err = { 0 };
    struct ax_exec *e;
    struct ax_kv *kv;
    char path[] = "/tmp/axion-wide-XXXXXX";

    (void) state;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(tiny_model_write(path, &wide), 0);
    model_options.path = path;
    assert_int_equal(ax_model_open(&model, &model_options, &err), AXION_OK);
    unlink(path);
    struct ax_kv_shape shape = ax_model_kv_shape(model);
    size_t block = axk_kv_block_bytes(shape.type, shape.n_head_kv,
                                      shape.head_dim);
    assert_int_equal(ax_kv_open(&kv, &shape, block * shape.n_layer * MANY,
                                &err), AXION_OK);
    assert_int_equal(ax_exec_open(&e, model, kv, &options, &err), AXION_OK);
    uint32_t n_vocab = ax_model_info(model)->n_vocab;
    float *logits = calloc(3 * n_vocab, sizeof(*logits));
    assert_non_null(logits);
    run_many(e, kv, 1, logits);
    run_many(e, kv, MANY, logits + n_vocab);
    for (uint32_t row = 1; row < 3; row++) {
        assert_memory_equal(logits, logits + row * n_vocab,
                            n_vocab * sizeof(float));
    }
    free(logits);
    ax_exec_close(e);
    ax_kv_close(kv);
    ax_model_close(model);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_that_break_the_rules_are_refused),
        cmocka_unit_test(at_layer_ends_a_step_and_the_next_one_is_right),
        cmocka_unit_test(truncated_tokens_come_back_with_the_same_bits),
        cmocka_unit_test(shared_prefixes_have_the_same_bits),
        cmocka_unit_test(counters_name_the_work),
        cmocka_unit_test(blocks_that_a_step_writes_are_listed),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(more_items_of_attention_than_units_are_worked_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
