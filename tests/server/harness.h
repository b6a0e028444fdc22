/*
 * What the server's tests share: a real axiond as a child process with a tiny
 * model, and a client that speaks to it through shm/client.h.
 *
 * Nothing here sleeps or gives up after a time: the child is known to listen
 * when its log says "loading", and to serve when it says "ready"; streams are
 * waited for with poll() on the channel.  A test that waits for ever is ended
 * by the runner, and failed.
 */
#ifndef TESTS_SERVER_HARNESS_H
#define TESTS_SERVER_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <cmocka.h>
#include "shm/client.h"
#include "shm/request.h"
#include "tests/tiny/tiny_model.h"

#define TOKENS_MAX 2048u
#define TEXT_MAX   16384u

struct engine {
    pid_t pid;
    char directory[64];
    char model[96];
    char socket[96];
    FILE *log; /* its stderr */
};

/* The next engines are started under a seccomp filter that refuses
 * io_uring_setup, as containers do. */
extern bool engine_without_io_uring;
/* The next engines are this program of the build folder instead of axiond,
 * and run this before they become it. */
extern const char *engine_program;
extern void (*engine_in_child)(void);

/* Starts axiond on the tiny model of this variant; args end with NULL. */
void engine_start(struct engine *e, const char *variant,
                  const char *const *args);
/* The same on a model of some million weights, "big": milliseconds a token, so
 * that a test can do something to a stream before it ends. */
void engine_start_slow(struct engine *e, const char *const *args);
/* The same on a tiny model of these options, "tiny". */
void engine_start_options(struct engine *e, const struct tiny_options *o,
                          const char *const *args);
/* The same without making a model: `path` is given as it is. */
void engine_start_on(struct engine *e, const char *path,
                     const char *const *args);
/* Reads its log up to a line that has these words. */
void engine_wait_log(struct engine *e, const char *words);
/* Until it is ready, its weights are packed and its steps timed. */
void engine_wait_loaded(struct engine *e);
/* Reads its log to the end, reaps it, returns the exit status (or 128 +
 * signal); then remove what it left. */
int engine_wait(struct engine *e);
void engine_stop(struct engine *e); /* SIGTERM, wait, expect 0 */

struct stream {
    axion_stream_id id;
    bool accepted, ended;
    int error; /* AXION_OK while fine */
    uint32_t retry_after_ms;
    char detail[192];
    struct axion_cq_accepted acceptance;
    struct axion_cq_done done;
    uint32_t lease_lows;
    struct axion_cq_lease_low lease_low;
    uint32_t n_tokens;
    uint32_t tokens[TOKENS_MAX];
    uint32_t text_bytes;
    char text[TEXT_MAX];
};

/* A request; start from request_init(). */
struct request_options {
    struct axion_request_head head;
    const char *model;
    const char *prompt; /* or: */
    const uint32_t *ids;
    uint32_t n_ids;
    const char *user_message; /* or: a chat */
    const char *stop;
    const struct axion_logit_bias *biases;
    uint32_t n_biases;
    uint32_t grammar_kind; /* enum axion_grammar_kind; 0: none */
    const char *grammar;   /* its source */
    uint64_t lease;
};

void request_init(struct request_options *o, const char *prompt,
                  uint32_t max_tokens);

struct axion_client *client_open(const struct engine *e, const char *name);
/* The end of a test: nothing runs or waits, no KV is held; closes the client,
 * stops the engine. */
void stop_idle(struct engine *e, struct axion_client *c);
/* With so many records of credit for each stream: 2 is the least. */
struct axion_client *client_open_credit(const struct engine *e,
                                        const char *name, uint32_t credit);
void submit(struct axion_client *c, const struct request_options *o,
            struct stream *s);
/* With a number for the journal of DONE; the client has a gateway. */
void submit_leased(struct axion_client *c, const struct request_options *o,
                   uint64_t lease_id, struct stream *s);
/* Takes what has arrived; false: nothing had. */
bool pump(struct axion_client *c);
/* Waits until the channel has something, then takes it. */
void wait_some(struct axion_client *c);
void wait_ended(struct axion_client *c, const struct stream *s);
void wait_accepted(struct axion_client *c, const struct stream *s);
void wait_tokens(struct axion_client *c, const struct stream *s, uint32_t n);
/* The board; waits until it can be read. */
void read_board(struct axion_client *c, struct axion_board *board);
/* Submits, waits for the end, expects a good one. */
void run_alone(struct axion_client *c, const struct request_options *o,
               struct stream *s);
void expect_same(const struct stream *a, const struct stream *b);
/* So that many hold KV at once, however slowly they come: all but the last
 * token of what `alone` got, for which the lease does not suffice and it
 * waits; then that one, and it is expected to be the same. */
void submit_short(struct axion_client *c, const struct request_options *o,
                  const struct stream *alone, struct stream *s);
void go_on(struct axion_client *c, const struct stream *alone,
           struct stream *s);

#endif
