/*
 * axion chat: a conversation in the terminal, or with --prompt one answer.
 *
 * Tokens are shown as they come.  Ctrl-C ends the answer under way, a second
 * one (or /quit, or end of input) the program; /reset forgets the
 * conversation.  Figures go to stderr, so that stdout is the answer alone.
 */
#include "engine/tool/chat.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>
#include "engine/tool/tool.h"

#define MESSAGES_MAX 1024u

#define AT(field) offsetof(struct chat_options, field)

static const struct ax_option options_table[] = {
    {"model", AX_OPTION_TEXT, AT(model), "FILE", NULL,
     "the model, as FILE behind the options", 0, 0, NULL, 'm'},
    {"prompt", AX_OPTION_TEXT, AT(prompt), "TEXT", NULL, "answer this and exit",
     0, 0, NULL, 0},
    {"system", AX_OPTION_TEXT, AT(system), "TEXT", NULL, "the system message",
     0, 0, NULL, 0},
    {"connect", AX_OPTION_TEXT, AT(connect), "unix:PATH", NULL,
     "ask a running axiond instead of loading FILE", 0, 0, NULL, 0},
    {"max-tokens", AX_OPTION_NUMBER, AT(max_tokens), "N", "512",
     "longest answer", 1, 1 << 24, NULL, 'n'},
    {"temp", AX_OPTION_REAL, AT(temperature), "X", "0.7",
     "temperature; 0 is greedy", 0, 100, NULL, 0},
    {"top-p", AX_OPTION_REAL, AT(top_p), "X", "0.95", "nucleus; 1 is off",
     0.001, 1, NULL, 0},
    {"min-p", AX_OPTION_REAL, AT(min_p), "X", "0",
     "least share of the likeliest; 0 is off", 0, 1, NULL, 0},
    {"top-k", AX_OPTION_NUMBER, AT(top_k), "N", "0",
     "the k likeliest; 0 is off", 0, 1 << 24, NULL, 0},
    {"seed", AX_OPTION_NUMBER, AT(seed), "N", "drawn",
     "the same seed gives the same answer", 0, 4294967294.0, NULL, 0},
    {"threads", AX_OPTION_NUMBER, AT(threads), "N", "one per CPU",
     "compute threads", 1, 512, NULL, 0},
    {"ctx", AX_OPTION_NUMBER, AT(ctx), "N", "the model's, as KV allows",
     "context in tokens", 16, 1 << 24, NULL, 0},
    {"kv-memory", AX_OPTION_SIZE, AT(kv_memory), "SIZE",
     "a quarter of memory, at most 1g", "memory for keys and values", 1 << 20,
     1e15, NULL, 0},
    {"isa", AX_OPTION_CHOICE, AT(isa), "NAME", "auto",
     "cap the instruction set", 0, 0,
     "auto|scalar|avx2|avxvnni|avx512|avx512-bf16|amx|amx-bf16|neon|neon-i8mm",
     0},
    {"help", AX_OPTION_FLAG, AT(help), NULL, NULL, "print this and exit", 0, 0,
     NULL, 0},
    {NULL, AX_OPTION_FLAG, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};

struct conversation {
    struct ax_prompt_message messages[MESSAGES_MAX];
    uint32_t n, n_system;
    char *answer; /* the one that is coming */
    size_t answer_bytes, answer_room;
};

volatile sig_atomic_t ax_chat_interrupted;


static void
on_interrupt(int signal)
{
    (void)signal;
    ax_chat_interrupted = 1;
}


double
ax_chat_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}


static bool
add_message(struct conversation *c, const char *role, const char *content)
{
    char *copy = strdup(content);
    if (copy == NULL || c->n == MESSAGES_MAX) {
        free(copy);
        return false;
    }
    c->messages[c->n++] = (struct ax_prompt_message){role, copy};
    return true;
}


static void
forget(struct conversation *c, uint32_t keep)
{
    while (c->n > keep) {
        free((char *)(uintptr_t)c->messages[--c->n].content);
    }
}


/* Prints and keeps, for the next turn's prompt. */
static void
show(void *context, const char *text, size_t bytes)
{
    struct conversation *c = context;
    fwrite(text, 1, bytes, stdout);
    fflush(stdout);
    if (c->answer_bytes + bytes + 1 > c->answer_room) {
        size_t room = 2 * (c->answer_bytes + bytes + 1);
        char *more = realloc(c->answer, room);
        if (more == NULL) {
            return;
        }
        c->answer = more;
        c->answer_room = room;
    }
    memcpy(c->answer + c->answer_bytes, text, bytes);
    c->answer_bytes += bytes;
    c->answer[c->answer_bytes] = '\0';
}


static void
print_usage(const struct chat_usage *u)
{
    double rate = u->answer_tokens > 1 && u->answer_s > 0
                      ? (u->answer_tokens - 1) / u->answer_s
                      : 0;
    fprintf(stderr,
            "[%u prompt tokens, %u of them known, first after %.0f "
            "ms; %u tokens, %.1f per second]\n",
            u->prompt_tokens, u->reused_tokens, u->first_token_s * 1000,
            u->answer_tokens, rate);
}


static int
one_turn(struct chat_backend *backend, const struct chat_options *o,
         struct conversation *c, uint64_t seed, const char *text,
         struct ax_error *err)
{
    struct chat_usage usage = {0};
    if (!add_message(c, "user", text)) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY,
                            "the conversation is too long");
    }
    struct chat_turn turn = {c->messages, c->n, seed, show, c};
    c->answer_bytes = 0;
    ax_chat_interrupted = 0;
    int rc = backend->answer(backend->state, o, &turn, &usage, err);
    ax_chat_interrupted = 0;
    putchar('\n');
    fflush(stdout);
    if (rc != AXION_OK) {
        forget(c, c->n - 1);
        return rc;
    }
    print_usage(&usage);
    add_message(c, "assistant", c->answer_bytes > 0 ? c->answer : "");
    return AXION_OK;
}


static void
converse(struct chat_backend *backend, const struct chat_options *o,
         struct conversation *c, uint64_t seed)
{
    char *line = NULL;
    size_t room = 0;
    bool terminal = isatty(STDIN_FILENO);
    if (terminal) {
        fprintf(stderr, "/quit ends, /reset forgets, Ctrl-C stops an "
                        "answer\n");
    }
    for (;;) {
        if (terminal) {
            fputs("> ", stdout);
            fflush(stdout);
        }
        ssize_t n = getline(&line, &room, stdin);
        if (n < 0 || strcmp(line, "/quit\n") == 0) {
            break;
        }
        if (n > 0 && line[n - 1] == '\n') {
            line[n - 1] = '\0';
        }
        if (strcmp(line, "/reset") == 0) {
            forget(c, c->n_system);
        } else if (line[0] != '\0') {
            struct ax_error err;
            if (one_turn(backend, o, c, seed, line, &err) != AXION_OK) {
                ax_tool_fail("chat", 0, err.text);
            }
        }
    }
    free(line);
}


static uint64_t
choose_seed(const struct chat_options *o)
{
    uint64_t seed = o->seed;
    if (o->seed == UINT32_MAX &&
        getrandom(&seed, sizeof(seed), 0) != sizeof(seed)) {
        seed = (uint64_t)time(NULL);
    }
    return seed;
}


static int
run(const struct chat_options *o)
{
    struct chat_backend backend = {0};
    struct conversation c = {0};
    struct ax_error err;
    int rc = o->connect != NULL ? ax_chat_remote(&backend, o, &err)
                                : ax_chat_local(&backend, o, &err);
    if (rc != AXION_OK) {
        return ax_tool_fail("chat", ax_tool_status(rc), err.text);
    }
    struct sigaction action = {.sa_handler = on_interrupt,
                               .sa_flags = (int)SA_RESETHAND};
    if (o->prompt == NULL) {
        action.sa_flags = 0;
    }
    sigaction(SIGINT, &action, NULL);
    if (o->system != NULL) {
        add_message(&c, "system", o->system);
        c.n_system = c.n;
    }
    if (o->prompt != NULL) {
        rc = one_turn(&backend, o, &c, choose_seed(o), o->prompt, &err);
        if (rc != AXION_OK) {
            ax_tool_fail("chat", ax_tool_status(rc), err.text);
        }
    } else {
        converse(&backend, o, &c, choose_seed(o));
    }
    forget(&c, 0);
    free(c.answer);
    backend.close(backend.state);
    return ax_tool_status(rc);
}


int
ax_tool_chat(int argc, char **argv)
{
    struct chat_options options = {.max_tokens = 512,
                                   .temperature = 0.7,
                                   .top_p = 0.95,
                                   .seed = UINT32_MAX,
                                   .isa = "auto"};
    int n_args;
    int status = ax_tool_options(options_table, &options, argc, argv, &n_args,
                                 &options.help, "chat [options] FILE",
                                 "Talks to a model in the terminal.");
    if (status >= 0) {
        return status;
    }
    if (options.model == NULL && n_args > 0) {
        options.model = argv[1];
        n_args--;
    }
    if (n_args > 0 || (options.model == NULL) == (options.connect == NULL)) {
        return ax_tool_fail(argv[0], TOOL_USAGE,
                            "one model FILE, or --connect unix:PATH");
    }
    return run(&options);
}
