/*
 * A position is decided where the oracle's margin between the first and the
 * second token is over 0.1 nat; elsewhere either may come first.
 */

#include "tests/golden/compare.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "tests/golden/golden.h"
#include "tests/golden/runner.h"

#define MARGIN         0.1f
#define POSITIONS_MAX  64
#define PROMPT_MAX     1024

struct score {
    double kl_sum, kl_max;
    uint32_t n_positions, n_decided, n_wrong, n_greedy;
};

const struct compare_bounds compare_strict = {1e-3, 0, true};


/* The whole prompt in one step, logits at the golden's positions. */
static void
run_prompt(struct runner *r, const struct golden_prompt *p)
{
    static struct ax_step_token tokens[PROMPT_MAX];
    uint32_t i, row = 0;

    assert_true(p->n_tokens <= PROMPT_MAX);
    assert_true(p->n_positions <= POSITIONS_MAX);
    runner_reserve(r, 0, p->n_tokens);
    for (i = 0; i < p->n_tokens; i++) {
        bool wanted = row < p->n_positions && p->positions[row].position == i;

        tokens[i] = (struct ax_step_token){
            .token = (int32_t)p->tokens[i],
            .position = i,
            .logits_row = wanted ? row : AX_NO_LOGITS};
        row += wanted;
    }
    assert_int_equal(row, p->n_positions);
    runner_step(r, tokens, p->n_tokens, row);
}


static void
compare_positions(const struct runner *r, const struct golden_prompt *p,
                  uint32_t prompt, struct score *score)
{
    uint32_t i, j;

    for (i = 0; i < p->n_positions; i++) {
        const struct golden_position *g = &p->positions[i];
        const float *logits = r->logits + (size_t)i * r->n_vocab;
        double kl;

        for (j = 0; j < g->n_top; j++) {
            assert_true(g->top[j] < r->n_vocab);
        }
        kl = golden_kl(g, logits, r->n_vocab);
        score->kl_sum += kl;
        score->kl_max = kl > score->kl_max ? kl : score->kl_max;
        score->n_positions++;
        if (golden_margin(g) > MARGIN) {
            uint32_t ours = runner_argmax(logits, r->n_vocab);

            score->n_decided++;
            if (ours != g->top[0]) {
                score->n_wrong++;
                printf("prompt %u, position %u: token %u instead of %u, "
                       "margin %.3f nat\n",
                       (unsigned)prompt, (unsigned)g->position,
                       (unsigned)ours, (unsigned)g->top[0],
                       (double)golden_margin(g));
            }
        }
    }
}


/* The last position's logits are the row of the prompt's last token. */
static void
compare_greedy(struct runner *r, const struct golden_prompt *p,
               uint32_t prompt, struct score *score)
{
    const float *logits =
        r->logits + (size_t)(p->n_positions - 1) * r->n_vocab;
    uint32_t i;

    for (i = 0; i < p->n_greedy; i++) {
        uint32_t ours = runner_argmax(logits, r->n_vocab);
        struct ax_step_token next = {.token = (int32_t)ours,
                                     .position = p->n_tokens + i,
                                     .logits_row = 0};

        if (ours != p->greedy[i]) {
            fail_msg("prompt %u, greedy token %u: %u instead of %u",
                     (unsigned)prompt, (unsigned)i, (unsigned)ours,
                     (unsigned)p->greedy[i]);
        }
        runner_reserve(r, 0, next.position + 1);
        runner_step(r, &next, 1, 1);
        logits = r->logits;
        score->n_greedy++;
    }
}


void
compare_model(const char *name, const char *path, const char *isa,
              const struct compare_bounds *bounds)
{
    const char *source = getenv("AXION_SOURCE");
    struct score score = {0};
    struct golden golden;
    struct runner r;
    char golden_path[512];
    /* Under sanitizers, which are slow: one token, and a prompt of many key
     * tiles, wider than any window. */
    uint32_t i, stride = getenv("AXION_SANITIZED") != NULL ? 3 : 1;

    snprintf(golden_path, sizeof(golden_path), "%s/tests/golden/model/%s.golden",
             source == NULL ? "." : source, name);
    if (golden_open(&golden, golden_path) != 0) {
        fail_msg("%s is not a golden", golden_path);
    }
    runner_open(&r, path, isa, 2, POSITIONS_MAX);
    for (i = 0; i < golden.n_prompts; i += stride) {
        const struct golden_prompt *p = &golden.prompts[i];

        assert_int_equal(p->positions[p->n_positions - 1].position,
                         p->n_tokens - 1);
        runner_reset(&r);
        run_prompt(&r, p);
        compare_positions(&r, p, i, &score);
        if (bounds->greedy) {
            compare_greedy(&r, p, i, &score);
        }
    }
    printf("%s, %s: mean KL %.2e, max %.2e nat over %u positions; "
           "same first token at %u of %u decided, %u greedy (%s)\n",
           name, ax_model_info(r.model)->isa,
           score.kl_sum / score.n_positions, score.kl_max,
           (unsigned)score.n_positions,
           (unsigned)(score.n_decided - score.n_wrong),
           (unsigned)score.n_decided, (unsigned)score.n_greedy,
           golden.oracle);
    assert_true(score.kl_sum / score.n_positions < bounds->mean_kl_max);
    assert_true(score.n_wrong <= bounds->n_wrong_max);
    runner_close(&r);
    golden_close(&golden);
}
