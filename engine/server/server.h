/*
 * axiond without its main(): the engine behind one unix socket.
 *
 * ax_server_run() is the process's thread 0: it sleeps in the event loop
 * while nothing is to be done, and between events it composes steps, computes
 * them with its compute threads, samples, and sends tokens.  Text work and
 * loading have threads of their own.
 *
 *   LOADING   the socket answers; requests are refused with ENGINE_LOADING
 *   READY     requests are computed, at first behind the last weights that
 *             are still being packed; if those are no good, FAILED
 *   DRAINING  after SIGTERM or SIGINT: the socket is gone, new requests are
 *             refused, running ones end; then, or at the deadline, or at a
 *             second signal, run() returns
 *
 * Nothing a peer sends ends the process.  A channel that breaks the protocol
 * is closed with one log line; its sequences are freed.
 */
#ifndef AX_SERVER_SERVER_H
#define AX_SERVER_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include "engine/error.h"
#include "engine/server/log.h"
#include "engine/server/options.h"
#include "engine/spec/spec.h"

/* Whether weights of this layer may be packed yet; NULL: all may. */
struct ax_server_pace {
    bool (*may_pack)(void *context, uint32_t layer);
    void *context;
};

struct ax_server_options {
    const char *model;
    const char *listen; /* as axion_listen() takes it */
    const char *alias;
    const char *isa;
    const char *kv_type;
    const char *kv_prefault; /* off, eighth, all */
    const char *profile;     /* FILE.csv at the end; NULL: none */
    const char *event_loop;
    const char *log_level;
    const char *speculate; /* NULL: draft with a model for it, else suffix */
    const char *draft;
    const char *notify; /* $NOTIFY_SOCKET, or NULL */
    int listen_fd; /* passed by the service manager, before listen; or -1 */
    uint32_t threads;
    uint32_t ctx;
    uint32_t max_batch;
    uint32_t max_sequences;
    uint32_t max_queue;
    uint32_t draft_max;
    uint32_t pin, realtime;
    uint32_t huge_pages;
    uint32_t help, version;
    uint64_t max_queue_tokens;
    uint64_t kv_memory;
    uint64_t grammar_memory;
    uint64_t tpot_target_ms;
    const char *shared_prefix;
    uint64_t drain_timeout_ms;
    struct ax_option_uids allow_uid;
    struct ax_spec_proposer proposer; /* in place of speculate's: the tests' */
    struct ax_server_pace pace;       /* the tests' */
};

/* The table behind axiond's command line; defaults of ax_server_defaults(). */
extern const struct ax_option ax_server_option_table[];
void ax_server_defaults(struct ax_server_options *options);

struct ax_server;

/* Signals SIGTERM and SIGINT must be blocked in the whole process before.  What
 * the options point to and `log` are used until the server is closed. */
int ax_server_open(struct ax_server **out,
                   const struct ax_server_options *options,
                   const struct ax_log *log, struct ax_error *err);
/* Until the end: AXION_OK after a drain, or the error that loading ended
 * with, before READY or behind it (already logged). */
int ax_server_run(struct ax_server *server);
/* NULL is fine.  False: a thread is left in the middle of something long, with
 * what it works on; the process has to end by _exit(). */
bool ax_server_close(struct ax_server *server);

#endif
