/*
 * Shows that a draft model with sliding windows goes on behind drafts that did
 * not hold: what its windows have given back meanwhile is not missed, so the
 * text is not computed again, and there are drafts in every step.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "engine/server/draft_model.h"
#include "engine/spec/control.h"
#include "tests/server/harness.h"
#include "tests/tiny/tiny_model.h"

#define TEXT 700u /* more than it catches up with in one step */
#define RUNS 96u  /* block boundaries are every 32 tokens */

static struct ax_engine *engine;
static struct ax_draft_model *draft;
static int32_t tokens[TEXT + RUNS + AX_SPEC_DRAFT_MAX + 1];


static void
open_both(void)
{
    char path[] = "/tmp/axion-draft-XXXXXX";
    struct ax_error err = {0};
    struct ax_model *model;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(tiny_model_write(path, tiny_variant_find("f16-gemma3")),
                     0);
    struct ax_model_options mo = {.path = path, .n_threads = 1};
    struct ax_engine_options eo = {.path = path,
                                   .threads = 1,
                                   .kv_bytes = 64u << 20,
                                   .batch_tokens = 64,
                                   .sequences = 4,
                                   .draft_rows = AX_SPEC_DRAFT_MAX};
    assert_int_equal(ax_model_open(&model, &mo, &err), AXION_OK);
    eo.draft = model;
    assert_int_equal(ax_engine_open(&engine, &eo, &err), AXION_OK);
    struct ax_draft_options o = {.model = model, .engine = engine, .slots = 1};
    assert_int_equal(ax_draft_model_open(&draft, &o, &err), AXION_OK);
    unlink(path);
}


/* Drafts that there are behind n tokens. */
static uint32_t
run(uint32_t n, uint32_t k)
{
    struct ax_sampling greedy;
    ax_sampling_defaults(&greedy);
    greedy.temperature = 0;
    struct ax_draft_sequence q = {.sampling = &greedy,
                                  .tokens = tokens,
                                  .n_prompt = TEXT,
                                  .n_tokens = n,
                                  .k = k};
    assert_int_equal(ax_draft_model_run(draft, &q, 1), AXION_OK);
    return q.k;
}


static void
drafts_that_do_not_hold_cost_no_text(void **state)
{
    static const uint32_t counts[] = {1, 5, AX_SPEC_DRAFT_MAX};
    (void)state;
    open_both();
    for (uint32_t c = 0; c < 3; c++) {
        uint32_t n = TEXT, k = counts[c];
        for (uint32_t i = 0; i < TEXT; i++) {
            tokens[i] = (int32_t)(i * 37 % TINY_N_VOCAB);
        }
        ax_draft_model_forget(draft, 0);
        for (uint32_t i = 0; i <= TEXT / 256 && run(n, k) < k; i++) {
        }
        for (uint32_t i = 0; i < RUNS; i++, n++) {
            assert_int_equal(run(n, k), k);
            tokens[n] = (tokens[n] + 1) % TINY_N_VOCAB; /* another one */
        }
    }
    ax_engine_close(engine);
    ax_draft_model_close(draft);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drafts_that_do_not_hold_cost_no_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
