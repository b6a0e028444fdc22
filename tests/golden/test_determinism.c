/*
 * Shows that an answer depends on its own prompt alone.  16 prompts are
 * answered greedily one by one (one thread, whole prompt: the reference), then
 * all at once, joining and leaving at different steps, with 1 and 2 threads,
 * prompts whole and in chunks of 16.  Tokens and the bits of all logits must
 * be those of the reference.
 */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/golden/runner.h"
#include "tests/tiny/tiny_model.h"

#define N_PROMPTS  16
#define PROMPT_MAX 100
#define N_ANSWER   24
#define N_ON_ISAS  4 /* prompts compared across instruction sets */

struct prompt {
    uint32_t n_tokens;
    int32_t tokens[PROMPT_MAX];
};

/* Fewer where sanitizers make it slow. */
static uint32_t n_answer = N_ANSWER;

/* What one prompt gave. */
struct answer {
    uint32_t n;
    uint32_t tokens[N_ANSWER];
    uint64_t bits[N_ANSWER]; /* hash of each step's logits */
};


/* FNV-1a over the bytes of the logits. */
static uint64_t
hash_logits(const float *logits, uint32_t n)
{
    const unsigned char *bytes = (const unsigned char *)logits;
    uint64_t hash = 0xcbf29ce484222325u;
    size_t i;

    for (i = 0; i < (size_t)n * sizeof(float); i++) {
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    }
    return hash;
}


/* Prompts of 1 to 91 tokens, some equal at the beginning. */
static void
make_prompts(struct prompt prompts[N_PROMPTS], uint32_t n_vocab)
{
    uint32_t i, j;

    for (i = 0; i < N_PROMPTS; i++) {
        uint32_t x = i < 4 ? 7 : 7 + i;

        prompts[i].n_tokens = 1 + i * 6;
        for (j = 0; j < prompts[i].n_tokens; j++) {
            x = x * 1664525u + 1013904223u;
            prompts[i].tokens[j] = (int32_t)((x >> 8) % n_vocab);
        }
    }
}


static void
take_logits(struct runner *r, struct answer *answer, uint32_t row)
{
    const float *logits = r->logits + (size_t)row * r->n_vocab;

    answer->tokens[answer->n] = runner_argmax(logits, r->n_vocab);
    answer->bits[answer->n] = hash_logits(logits, r->n_vocab);
    answer->n++;
}


/*
 * Appends one sequence's share of a step: a chunk of its prompt or the token
 * it answered last.  Returns how many tokens; *row counts the logits up.
 */
static uint32_t
append_tokens(struct runner *r, uint32_t sequence, const struct prompt *p,
              const struct answer *a, uint32_t chunk,
              struct ax_step_token *out, uint32_t *row)
{
    uint32_t done = r->sequences[sequence].kv.n_tokens;
    uint32_t i, n = 1;

    if (done < p->n_tokens) {
        n = p->n_tokens - done < chunk ? p->n_tokens - done : chunk;
    }
    for (i = 0; i < n; i++) {
        bool decode = done >= p->n_tokens;
        bool last = done + i + 1 >= p->n_tokens;

        out[i] = (struct ax_step_token){
            .token = decode ? (int32_t)a->tokens[a->n - 1]
                            : p->tokens[done + i],
            .position = done + i,
            .sequence = sequence,
            .logits_row = last ? (*row)++ : AX_NO_LOGITS};
    }
    runner_reserve(r, sequence, done + n);
    return n;
}


/* Answers prompts[first .. last) together; prompt i joins at step i / 3. */
static void
answer_together(struct runner *r, const struct prompt *prompts,
                struct answer *answers, uint32_t first, uint32_t last,
                uint32_t chunk)
{
    struct ax_step_token tokens[N_PROMPTS * PROMPT_MAX];
    uint32_t owner[N_PROMPTS];
    uint32_t step, i;

    runner_reset(r);
    for (i = first; i < last; i++) {
        answers[i].n = 0;
    }
    for (step = 0;; step++) {
        uint32_t n = 0, rows = 0, unfinished = 0;

        for (i = first; i < last; i++) {
            uint32_t before = rows;

            if (answers[i].n == n_answer) {
                continue;
            }
            unfinished++;
            if ((i - first) / 3 > step) {
                continue;
            }
            n += append_tokens(r, i, &prompts[i], &answers[i], chunk,
                               tokens + n, &rows);
            if (rows > before) {
                owner[before] = i;
            }
        }
        if (unfinished == 0) {
            return;
        }
        if (n == 0) {
            continue;
        }
        runner_step(r, tokens, n, rows);
        for (i = 0; i < rows; i++) {
            take_logits(r, &answers[owner[i]], i);
        }
    }
}


static void
assert_same(const struct answer *a, const struct answer *b, uint32_t n,
            const char *model, const char *how)
{
    uint32_t i, j;

    for (i = 0; i < n; i++) {
        for (j = 0; j < n_answer; j++) {
            if (a[i].tokens[j] != b[i].tokens[j] ||
                a[i].bits[j] != b[i].bits[j]) {
                fail_msg("%s, %s: prompt %u differs at token %u (%u and %u)",
                         model, how, (unsigned)i, (unsigned)j,
                         (unsigned)a[i].tokens[j], (unsigned)b[i].tokens[j]);
            }
        }
    }
}


static void
compare_ways(const char *name, const char *path, const char *isa)
{
    static struct prompt prompts[N_PROMPTS];
    static struct answer alone[N_PROMPTS], together[N_PROMPTS];
    static const uint32_t chunks[] = {PROMPT_MAX, 16};
    uint32_t threads, i;
    struct runner r;

    runner_open(&r, path, isa, 1, N_PROMPTS);
    make_prompts(prompts, r.n_vocab);
    for (i = 0; i < N_PROMPTS; i++) {
        answer_together(&r, prompts, alone, i, i + 1, PROMPT_MAX);
    }
    runner_close(&r);
    for (threads = 1; threads <= 2; threads++) {
        runner_open(&r, path, isa, threads, N_PROMPTS);
        for (i = 0; i < 2; i++) {
            char how[64];

            snprintf(how, sizeof(how), "%u threads, chunks of %u",
                     (unsigned)threads, (unsigned)chunks[i]);
            answer_together(&r, prompts, together, 0, N_PROMPTS, chunks[i]);
            assert_same(alone, together, N_PROMPTS, name, how);
        }
        runner_close(&r);
    }
}


static void
tiny_models_answer_alike(void **state)
{
    const struct tiny_variant *variant;

    (void)state;
    for (variant = tiny_variants; variant->name != NULL; variant++) {
        const char *path = runner_tiny_path(variant->name);

        compare_ways(variant->name, path, NULL);
        if (strcmp(variant->name, "q4_0-deep") == 0) {
            /* the reference is slow, and one model shows its threads */
            compare_ways(variant->name, path, "scalar");
        }
        unlink(path);
    }
}


/* What DESIGN section 6 promises: an ISA is no part of the answer. */
static void
integer_formats_have_one_answer_on_every_isa(void **state)
{
    static const char *const names[] = {
        "q4_0", "q4_1", "q8_0", "q5_0",   "q5_1",   "q2_k",  "q3_k",
        "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs", "mxfp4", NULL};
    static const char *const isas[] = {"avx2", "avx512"};
    static struct prompt prompts[N_PROMPTS];
    static struct answer scalar[N_PROMPTS], other[N_PROMPTS];
    struct runner r;
    uint32_t i, j;

    (void)state;
    for (i = 0; names[i] != NULL; i++) {
        const char *path = runner_tiny_path(names[i]);

        runner_open(&r, path, "scalar", 1, N_PROMPTS);
        make_prompts(prompts, r.n_vocab);
        answer_together(&r, prompts, scalar, 0, N_ON_ISAS, 16);
        runner_close(&r);
        for (j = 0; j < 2; j++) {
            runner_open(&r, path, isas[j], 1, N_PROMPTS);
            if (strcmp(ax_model_info(r.model)->isa, isas[j]) == 0) {
                answer_together(&r, prompts, other, 0, N_ON_ISAS, 16);
                assert_same(scalar, other, N_ON_ISAS, names[i], isas[j]);
            } else {
                printf("skipped: this machine has no %s\n", isas[j]);
            }
            runner_close(&r);
        }
        unlink(path);
    }
}


static void
smollm2_answers_alike(void **state)
{
    const char *path = getenv("AXION_MODEL");

    (void)state;
    if (path == NULL) {
        printf("skipped: AXION_MODEL is not set (make model fetches it)\n");
        skip();
    }
    compare_ways("smollm2", path, NULL);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny_models_answer_alike),
        cmocka_unit_test(integer_formats_have_one_answer_on_every_isa),
        cmocka_unit_test(smollm2_answers_alike),
    };

    if (getenv("AXION_SANITIZED") != NULL) {
        n_answer = N_ANSWER / 4;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
