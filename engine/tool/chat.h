/*
 * What `axion chat` needs of whoever answers: a model in this process
 * (chat_local.c) or a running axiond (chat_remote.c).
 */
#ifndef AX_TOOL_CHAT_H
#define AX_TOOL_CHAT_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include "engine/error.h"
#include "engine/sample/sample.h"
#include "engine/server/prompt.h"

struct chat_options {
    const char *model;
    const char *connect;
    const char *system;
    const char *prompt;
    const char *isa;
    uint32_t threads, ctx, max_tokens, top_k, help;
    uint32_t seed; /* UINT32_MAX: drawn */
    uint64_t kv_memory;
    double temperature, top_p, min_p;
};

struct chat_usage {
    uint32_t prompt_tokens;
    uint32_t reused_tokens; /* of them, still in KV from the last turn */
    uint32_t answer_tokens;
    double first_token_s;
    double answer_s; /* from the first token to the last */
};

struct chat_turn {
    const struct ax_prompt_message *messages;
    uint32_t n_messages;
    uint64_t seed;
    void (*show)(void *context, const char *text, size_t bytes);
    void *context;
};

struct chat_backend {
    void *state;
    int (*answer)(void *state, const struct chat_options *options,
                  const struct chat_turn *turn, struct chat_usage *usage,
                  struct ax_error *err);
    void (*close)(void *state);
};

int ax_chat_local(struct chat_backend *out, const struct chat_options *options,
                  struct ax_error *err);
int ax_chat_remote(struct chat_backend *out, const struct chat_options *options,
                   struct ax_error *err);

/* Seconds of the monotonic clock. */
double ax_chat_now(void);

/* Set by Ctrl-C: the answer under way ends. */
extern volatile sig_atomic_t ax_chat_interrupted;

#endif
