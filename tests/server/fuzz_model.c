/*
 * Any bytes as the model that axiond is given: everything that stands between
 * the file and the first logits is opened as the server does it (weights,
 * tokenizer, chat template, KV, plan), and what opens runs one step over a
 * prompt.  What must hold: a refusal has a number and a line, and what was
 * accepted computes.
 *
 * fuzz_gguf looks at the file format alone and is faster.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "engine/server/engine.h"

#define BATCH_TOKENS 64u
#define KV_BYTES     (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static void
expect(int condition)
{
    if (!condition) {
        abort();
    }
}


static uint32_t
make_prompt(const struct ax_engine *e, int32_t *ids)
{
    static const struct ax_prompt_message hello = {"user", "Hi 1 \xc3\xa9"};
    struct ax_error err = {0};
    uint32_t n = 0;
    if (ax_prompt_of_messages(&e->prompts, &hello, 1, ids, BATCH_TOKENS, &n,
                              &err) != AXION_OK) {
        expect(err.text[0] != 0);
        n = 0;
    }
    if (n == 0 || n > BATCH_TOKENS) { /* too long: the ids are no prompt */
        ids[0] = 0;
        n = 1;
    }
    return n;
}


static void
run_step(struct ax_engine *e)
{
    static uint32_t blocks[AX_KV_GROUPS_MAX * BATCH_TOKENS];
    struct ax_kv_sequence sequence = {.blocks = blocks,
                                      .blocks_max = BATCH_TOKENS};
    struct ax_kv_sequence *sequences[] = {&sequence};
    struct ax_step_token tokens[BATCH_TOKENS];
    int32_t ids[BATCH_TOKENS];
    uint32_t n = make_prompt(e, ids);
    if (n > e->ctx || ax_kv_reserve(e->kv, &sequence, n) != AXION_OK) {
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        expect(ids[i] >= 0 && (uint32_t)ids[i] < e->info->n_vocab);
        tokens[i] =
            (struct ax_step_token){.token = ids[i],
                                   .position = i,
                                   .logits_row = i + 1 == n ? 0 : AX_NO_LOGITS};
    }
    struct ax_step step = {
        .tokens = tokens,
        .n_tokens = n,
        .n_sequences = 1,
        .sequences = sequences,
        .logits = e->logits,
        .n_logits = 1,
    };
    (void)ax_exec_step(e->exec, &step);
    ax_kv_release(e->kv, &sequence);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    expect(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    struct ax_engine_options options = {
        .path = path,
        .threads = 1,
        .kv_bytes = KV_BYTES,
        .batch_tokens = BATCH_TOKENS,
        .sequences = 1,
    };
    struct ax_error err = {0};
    struct ax_engine *e;
    if (ax_engine_open(&e, &options, &err) == AXION_OK) {
        run_step(e);
        ax_engine_close(e);
    } else {
        expect(e == NULL && err.number != AXION_OK && err.text[0] != 0);
    }
    close(fd);
    return 0;
}
