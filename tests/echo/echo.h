/*
 * Parts of the echo engine (axion_echo.c has the manual).
 *
 *   axion_echo.c   options, signals, the epoll loop
 *   echo_answer.c  a prompt → what is answered: directives, tokens, stop
 *   echo_stream.c  streams over time: accept, pace, lease, faults, end
 *   echo_ring.c    streams over the ring
 *   echo_journal.c what dead gateways' leases had spent
 *   echo_http.c    the same streams over plain HTTP, for comparisons
 *
 * One thread, one loop.  Streams know neither ring nor HTTP: a sink of
 * function pointers takes their events.
 */
#ifndef AXION_TESTS_ECHO_H
#define AXION_TESTS_ECHO_H

#include <stddef.h>
#include <stdint.h>
#include "api/request.h"
#include "shm/channel.h"
#include "shm/wire.h"

#define ECHO_MODELS_MAX AXION_MODELS_MAX
#define ECHO_NEVER      UINT64_MAX

struct echo_options {
    const char *listen; /* "unix:PATH,…" */
    const char *http;   /* port or "unix:PATH" */
    const char *models[ECHO_MODELS_MAX];
    uint32_t n_models;
    uint32_t context_tokens;
    uint32_t batch_max;
    uint32_t queue_max;
    uint32_t stream_buffer_bytes;
    uint64_t gap_ns;    /* between tokens */
    uint64_t accept_ns;
    uint64_t drain_ns;
    int loading;
    int packing;
    int quiet;
    uid_t allow_uid;
    int has_allow_uid;
};

/* ---- answers ---- */

/* Faults and timings asked for inside the user's message; -1: not asked. */
struct echo_directives {
    int64_t tokens;
    int64_t bytes;
    int64_t delay_ms;
    int64_t accept_delay_ms;
    int64_t first_delay_ms;
    int64_t error;
    int64_t error_after;
    int64_t retry_after_ms;
    int64_t die_after;
    int64_t stall_after;
    int64_t hang_after;
    int64_t lease_low;
    int64_t cached;
    int64_t progress;
    int64_t grammar;
};

struct echo_answer {
    struct echo_directives directives;
    char *text; /* what is repeated until the end; malloc'ed */
    size_t text_bytes;
    size_t at;          /* of the next token in text */
    size_t token_bytes; /* at most this many bytes a token */
    uint64_t sent_bytes;
    uint64_t limit_bytes; /* a stop string begins here; ECHO_NEVER: none */
    uint64_t limit_tokens;
    int limit_is_length; /* the token limit is max_tokens or the context */
    uint32_t prompt_tokens;
    uint32_t sent_tokens;
};

struct echo_token {
    uint32_t id;
    const char *text;
    uint32_t bytes;
};

/* AXION_OK, CONTEXT_LENGTH, UNSUPPORTED_FIELD (a grammar, which echoes cannot
 * keep to, without !grammar), NO_MEMORY. */
int echo_answer_open(struct echo_answer *answer,
                     const struct axion_request_view *view,
                     uint32_t context_tokens);
void echo_answer_close(struct echo_answer *answer);
/* 1 with the next token, not yet taken; 0 at the end. */
int echo_answer_peek(const struct echo_answer *answer,
                     struct echo_token *token);
void echo_answer_advance(struct echo_answer *answer,
                         const struct echo_token *token);
/* STOP or LENGTH, once peek() said 0. */
uint32_t echo_answer_reason(const struct echo_answer *answer);

/* ---- streams ---- */

struct echo_stream;

struct echo_sink {
    void (*accepted)(struct echo_stream *s,
                     const struct axion_cq_accepted *accepted);
    void (*progress)(struct echo_stream *s,
                     const struct axion_cq_progress *progress);
    int (*writable)(struct echo_stream *s, uint32_t bytes);
    void (*token)(struct echo_stream *s, const struct echo_token *token);
    void (*lease_low)(struct echo_stream *s,
                      const struct axion_cq_lease_low *low);
    /* The last event: the owner's side is gone when these return. */
    void (*done)(struct echo_stream *s, const struct axion_cq_done *done);
    void (*error)(struct echo_stream *s, int error, uint32_t retry_after_ms,
                  const char *detail);
};

enum echo_phase {
    ECHO_ARRIVED, /* before ACCEPTED */
    ECHO_QUEUED,  /* waits for a place in the batch */
    ECHO_PREFILL,
    ECHO_DECODE,
};

struct echo_stream {
    struct echo_stream *next, *previous;
    const struct echo_sink *sink;
    void *owner; /* the sink's: channel or connection */
    uint64_t id; /* the sink's */
    struct echo_answer answer;
    enum echo_phase phase;
    unsigned paused : 1;
    unsigned stalled : 1;
    unsigned parked : 1; /* lease spent, waits for TOPUP */
    unsigned lease_asked : 1;
    unsigned lease_refused : 1;
    uint64_t lease_tokens;
    uint64_t lease_id;
    uint64_t due_ns;
    uint64_t arrived_ns;
    uint64_t scheduled_ns;
    uint64_t first_ns;
    uint64_t last_ns;
};

/* Everything that the loop, the streams and the sinks share. */
struct echo_engine {
    struct echo_options options;
    struct axion_board board;
    struct axion_board_writer *board_writer;
    struct echo_stream streams; /* head of the list */
    uint32_t n_streams;
    uint32_t n_running;
    int epoll;
    int draining;
    int board_dirty;
    uint64_t board_due_ns;
    uint64_t rate_from_ns;
    uint64_t rate_tokens;
};

extern struct echo_engine echo;

uint64_t echo_now_ns(void);
void echo_log(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* One line per stream's event, left out with --quiet. */
void echo_log_stream(const struct echo_stream *s, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Answers with the sink's error itself when the request is refused. */
void echo_stream_open(const struct echo_sink *sink, void *owner, uint64_t id,
                      uint64_t lease_tokens, uint64_t lease_id,
                      const struct axion_request_view *view,
                      struct echo_stream **out);
/* Without an event: the owner is gone. */
void echo_stream_close(struct echo_stream *s);
void echo_stream_cancel(struct echo_stream *s);
void echo_stream_pause(struct echo_stream *s, int paused);
void echo_stream_topup(struct echo_stream *s, uint64_t tokens);

/* One step of every stream that is due; when the next one is, ECHO_NEVER for
 * none.  Streams that wait for room count as not due. */
uint64_t echo_streams_run(uint64_t now);

/* ---- the loop's sources ---- */

struct echo_source {
    int fd;
    void (*ready)(struct echo_source *source, uint32_t events);
};

int echo_watch(struct echo_source *source, uint32_t events);
int echo_rewatch(struct echo_source *source, uint32_t events);
void echo_unwatch(struct echo_source *source);

/* 0, or -1 after a log line. */
int echo_ring_open(void);
/* Lets out what was queued; with `sleep` also arms the doorbells, and 1
 * means that more arrived and the loop must not sleep. */
int echo_ring_flush(int sleep);
void echo_ring_close(void);

/* ---- the journal of DONE ---- */

void echo_journal_open(void);
void echo_journal_close(void);
/* The channel ends: before its streams are closed. */
void echo_journal_bury(struct axion_channel *channel);
/* What was sent to the channel is settled. */
void echo_journal_settled(const struct axion_channel *channel);
/* Something may be there to deliver; and whether it was so. */
void echo_journal_due(void);
int echo_journal_is_due(void);
/* *told: COMPLETE was sent. */
void echo_journal_deliver(struct axion_channel *channel, int *told);

int echo_http_open(void);
void echo_http_flush(void);
void echo_http_close(void);

#endif
