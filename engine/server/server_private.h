/*
 * The server's insides, shared by its files:
 *
 *   server.c    open, close, the loop, signals, drain
 *   load.c      loading: READY, the weights packed behind it, steps timed
 *   channels.c  connections: accept, handshake, commands, death
 *   deliver.c   the journal of DONE: what goes in, who gets it
 *   requests.c  life of a request: text work, arrival, end
 *   step.c      compose, compute, sample, verify, send
 *   speculate.c drafts of a step
 *   constrain.c grammars: masks for the next token and for drafts
 *   board.c     the load board
 *   profile.c   what the steps have cost, into a file at the end
 *
 * All of it runs on thread 0, but for the loader thread (load_main) and the
 * text work of a request (text_run), which touch only what their comments
 * name.
 *
 * A request's place in `requests` is its slot in the scheduler and its KV
 * table.  FREE → TEXT (on the helper) → SCHED (the scheduler has it) → FREE.
 * A request whose channel died or that was cancelled has conn NULL: nothing
 * more is sent for it, and its place becomes free when helper and step let go
 * of it (ENDING: a mask is still being computed for it).
 */
#ifndef AX_SERVER_SERVER_PRIVATE_H
#define AX_SERVER_SERVER_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include "engine/kv/names.h"
#include "engine/sched/sched.h"
#include "engine/server/constrain.h"
#include "engine/server/draft_model.h"
#include "engine/server/engine.h"
#include "engine/server/grammars.h"
#include "engine/server/helper.h"
#include "engine/server/journal.h"
#include "engine/server/loop.h"
#include "engine/server/prefault.h"
#include "engine/server/server.h"
#include "engine/spec/spec.h"
#include "engine/text/stream.h"
#include "shm/channel.h"

#define CONNS_MAX 256u
/* Without HELLO: no more at a time, and none for longer. */
#define GREETING_MAX        32u
#define GREETING_US         5000000
#define REFUSALS_LOG_US     10000000 /* a line about refusals each so often */
#define COMMANDS_PER_TURN   256u     /* of one channel, then the next's turn */
#define ACCEPT_RETRY_US     100000
#define TEXT_BYTES_MAX      (64u << 20) /* payloads waiting for the helper */
#define STREAM_BUFFER_BYTES (16u << 10) /* what a slow reader may leave */
/* Rows of logits for drafts, beside one per sequence: a step that computes
 * more of them has long stopped to pay. */
#define DRAFT_ROWS       32u
#define CALIBRATE_US     250000u
#define JOURNAL_RECORDS  8192u
#define JOURNAL_RETRY_US 100000 /* to a channel whose socket was full */

struct ax_server;
struct conn;

/* What a tag of the event loop points to. */
struct source {
    void (*ready)(struct ax_server *server, struct source *source);
};

struct conn {
    struct source source; /* first: tags point here */
    struct conn *next;
    struct axion_channel *channel;
    bool dead;         /* not counted; freed at the end of the turn */
    bool greeted;      /* HELLO was good and is logged */
    bool journal_told; /* it has had a JOURNAL that is COMPLETE */
    uint64_t opened_us;
};

enum request_state {
    REQUEST_FREE = 0,
    REQUEST_TEXT,
    REQUEST_SCHED,
    REQUEST_ENDING,
};

struct request {
    struct ax_job job; /* first: jobs point here */
    enum request_state state;
    uint32_t slot;
    struct ax_server *server;
    struct conn *conn;
    axion_stream_id id;
    struct request *next_free;

    /* from SUBMIT */
    uint8_t *payload;
    size_t payload_bytes;
    uint64_t lease_tokens;
    uint64_t lease_id; /* 0: not for the journal */
    uint64_t submitted_us;
    bool paused;        /* PAUSE seen before the scheduler had it */
    bool lease_refused; /* TOPUP of 0 seen before */

    /* from the text work: the helper's until it is taken back */
    struct ax_error error;
    struct axion_request_head head;
    struct ax_sampling sampling;
    struct ax_stream *text;
    uint32_t n_prompt;
    uint32_t weight;      /* of the tenant beside others */
    uint32_t max_context; /* the engine's, or the tenant's if less */

    struct ax_kept_grammar *grammar; /* NULL: none */

    /* of the next token, within the grammar; the helper's also while a job
     * for them is out */
    struct ax_place place;
    uint64_t *allowed; /* [words] */
    bool any_allowed;
    bool complete;       /* nothing may follow */
    bool mask_out;       /* thread 0's: a job is out */
    uint32_t mask_turns; /* of the mask at hand, on the helper */
    int mask_error;
    struct ax_place draft_place; /* behind drafts of this step, and what */
    const uint64_t *draft_allowed[AX_SPEC_DRAFT_MAX]; /* each allows */

    /* from then on */
    int32_t *tokens; /* [ctx] prompt, then answer, then drafts */
    uint32_t n_tokens;
    uint32_t max_tokens;
    uint32_t drafted, accepted; /* tokens */
    struct ax_kv_sequence kv;
    struct ax_kv_chain chain; /* the helper's until it is taken back */
    bool output_held;
    bool in_held_list;
    struct request *next_held;
    uint64_t started_us, first_us, last_us;

    /* memory of the slot, reserved once */
    struct ax_sampling_bias *bias;
    void *text_memory;
};

enum load_state {
    LOAD_FILE = 0,
    LOAD_PACKING,
    LOAD_TIMING,
    LOAD_DONE,
};

struct ax_server {
    struct ax_server_options options;
    const struct ax_log *log;
    struct ax_loop *loop;
    struct axion_board_writer *board_writer;
    struct axion_board board;
    enum axion_engine_state state;
    int result;

    int listen_fd;
    bool listen_passed; /* its file is the service manager's */
    char listen_path[128];
    int signal_fd, loaded_fd, packed_fd;
    struct source listen_source, signal_source, loaded_source, packed_source;
    struct source helper_source;
    uid_t *allow_uids;
    struct conn *conns;
    uint32_t n_conns;    /* alive */
    uint32_t n_greeting; /* of these, not greeted */
    uint32_t n_refusals; /* since the last line about them */
    uint64_t refusals_logged_us;
    bool accept_held; /* no descriptor for the next connection: it waits */
    uint64_t accept_retry_us;
    struct ax_journal *journal;
    bool journal_due;          /* records, channels or SETTLED came */
    uint64_t journal_retry_us; /* a socket was full; 0: none */

    enum load_state load;
    bool time_when_idle; /* steps: KV is too full beside requests */
    pthread_t loader;
    bool loader_runs;
    struct ax_engine_options load_options;
    struct ax_engine *loaded; /* the loader's, until loaded_fd says so */
    struct ax_error load_error;
    atomic_uint load_permille;

    struct ax_engine *engine; /* NULL while loading */
    struct ax_helper *helper;
    struct ax_prefault *prefault; /* NULL: pages come with their use */
    struct ax_sched *sched;
    struct ax_kv_key kv_key;
    struct ax_spec *spec;
    struct ax_draft_model *draft;              /* NULL: none */
    struct ax_draft_sequence *draft_sequences; /* [sequences] */
    struct request *requests;
    uint32_t n_requests;
    struct request *free_requests;
    uint32_t n_live; /* not FREE */
    uint64_t text_bytes;
    struct request *held; /* waiting for room in their channel */
    void *slots_memory;
    size_t slots_memory_bytes;

    struct ax_grammars *grammars;
    uint32_t allowed_words;   /* of a mask */
    uint64_t *draft_allowed;  /* [logits_rows][allowed_words] of a step */
    uint32_t n_draft_allowed; /* masks */
    uint64_t grammar_units;   /* of work, left for this step */

    struct ax_step_token *step_tokens; /* [batch_tokens] */
    struct ax_kv_sequence **step_sequences;
    struct ax_sched_entry *step_entries; /* a copy for after the step */
    struct ax_draw *step_draws;          /* [logits_rows] */
    char *text_out;
    size_t text_out_bytes;

    uint64_t drain_deadline_us;
    bool cut_off; /* it has passed: everyone was told */
    bool ended;   /* leave the loop */
    uint64_t published_us;
    uint64_t rate_since_us, rate_prompt, rate_answer;
    uint64_t resident_since_us;
    bool resident_stale; /* something has changed it since */
    bool prefaults;      /* was at work when it was last looked at */
    uint64_t prefilled_total;
    uint64_t next_seed;
    FILE *profile;             /* NULL: none is asked for */
    struct axion_costs *costs; /* what it says so far, for the board */
    uint16_t *cost_of;         /* [counters of the executor] */
};

uint64_t ax_server_now_us(void);

/* server.c */
void ax_server_tell_manager(struct ax_server *s, const char *state,
                            const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* SIGTERM, SIGINT; the loop asks, and a step that waits for weights. */
void ax_server_take_signals(struct ax_server *s);
/* FAILED: all requests get ENGINE_UNAVAILABLE, and a moment to read it. */
void ax_server_give_up(struct ax_server *s, const char *why);

/* load.c */
int ax_server_start_loading(struct ax_server *s, struct ax_error *err);
void ax_server_on_loaded(struct ax_server *s, struct source *source);
void ax_server_on_packed(struct ax_server *s, struct source *source);
/* In a step behind the packing, which may wait for long, and in timed ones:
 * signals and new connections; true: it is too late for the step. */
bool ax_server_waits_in_vain(struct ax_server *s);
/* Whether weights could not be packed: then the engine has given up. */
bool ax_server_packing_failed(struct ax_server *s);
/* In LOAD_TIMING, between steps; false: not now. */
bool ax_server_time_steps(struct ax_server *s, bool runnable);

/* channels.c */
void ax_server_on_listen(struct ax_server *s, struct source *source);
/* New connections and their HELLO, where the loop does not come round. */
void ax_server_let_in(struct ax_server *s);
void ax_server_take_commands(struct ax_server *s);
/* What is due: tries again what failed for want of descriptors, and closes
 * what has not said HELLO in time. */
void ax_server_tend_conns(struct ax_server *s);
/* Microseconds until something will be; -1: nothing. */
int64_t ax_server_conns_due_us(const struct ax_server *s);
/* Sends what is queued. */
void ax_server_flush(struct ax_server *s);
/* Publishes the board and wakes every client: the state has changed. */
void ax_server_announce(struct ax_server *s);
/* True when every channel agrees to sleep. */
bool ax_server_arm(struct ax_server *s);
void ax_server_bury_conns(struct ax_server *s);
void ax_server_close_conns(struct ax_server *s);

/* deliver.c */
/* Writes down what the client of a dying connection did not take; before its
 * requests are freed. */
void ax_server_journal_conn(struct ax_server *s, struct conn *c);
/* Sends what is due to those that may have it. */
void ax_server_deliver(struct ax_server *s);

/* requests.c */
uint32_t ax_server_slots(const struct ax_server *s,
                         const struct ax_engine *engine);
int ax_server_requests_open(struct ax_server *s, struct ax_error *err);
void ax_server_requests_close(struct ax_server *s);
/* What the engine has timed, to the scheduler, for the length of chunks. */
int ax_server_give_costs(struct ax_server *s);
void ax_server_submit(struct ax_server *s, struct conn *conn,
                      const struct axion_command *command);
void ax_server_cancel(struct ax_server *s, struct request *r);
/* What DONE would say of it now. */
struct axion_cq_done ax_server_done_of(const struct ax_server *s,
                                       const struct request *r,
                                       unsigned reason);
void ax_server_pause(struct ax_server *s, struct request *r, bool pause);
void ax_server_topup(struct ax_server *s, struct request *r, uint64_t tokens);
void ax_server_on_helper(struct ax_server *s, struct source *source);
void ax_server_take_text(struct ax_server *s);
void ax_server_take_events(struct ax_server *s);
/* The two ways a request that the scheduler has ends by itself. */
void ax_server_done(struct ax_server *s, struct request *r, unsigned reason);
void ax_server_fail(struct ax_server *s, struct request *r, int error,
                    uint32_t retry_after_ms, const char *detail);
/* Gives an ENDING request's place back. */
void ax_server_forget(struct ax_server *s, struct request *r);
void ax_server_fail_all(struct ax_server *s, int error, const char *detail);
/* Holds a request whose channel is full, and lets go of those with room. */
void ax_server_hold_output(struct ax_server *s, struct request *r);
void ax_server_release_outputs(struct ax_server *s);

/* speculate.c */
/* Behind requests_open(): their slots are known. */
int ax_server_speculation_open(struct ax_server *s, struct ax_error *err);
/* On the loader's thread: `loaded`, and `draft` where there is one; both are
 * NULL when it fails. */
int ax_server_load(struct ax_server *s, struct ax_error *err);
/* Adds drafts to the step that was composed and not run yet. */
void ax_server_speculate(struct ax_server *s, const struct ax_sched_step *plan);
/* What the step that was composed took. */
void ax_server_learn_cost(struct ax_server *s, const struct ax_sched_step *plan,
                          uint64_t us);
/* So many rows of logits were drawn from in so long. */
void ax_server_learn_draws(struct ax_server *s, uint32_t n_rows, uint64_t us);

/* constrain.c */
int ax_server_constrain_open(struct ax_server *s, struct ax_error *err);
void ax_server_constrain_close(struct ax_server *s);
/* On the helper, with the request's head taken: its grammar, if it has one,
 * and the mask of its first token, if nobody else has that grammar yet. */
int ax_server_take_grammar(struct request *r,
                           const struct axion_request_view *view);
/* A step begins: thread 0 may work for masks again. */
void ax_server_constrain_step(struct ax_server *s);
/* The request has come to its next token: its mask is made, or it sits out
 * until the helper has made it; it may end here. */
void ax_server_constrain(struct ax_server *s, struct request *r);
/* Drafts of a request with a grammar begin; false: none in this step. */
bool ax_server_constrain_drafts(struct request *r);
/* Whether draft n behind its tokens may be computed, those before it being so:
 * it is allowed, and what may follow it is at hand. */
bool ax_server_constrain_draft(struct ax_server *s, struct request *r,
                               uint32_t n);
/* The tokens that may follow n drafts that may be computed; NULL: all. */
const uint64_t *ax_server_allowed(const struct request *r, uint32_t n);
/* A job of constrain()'s has come back.  False: it was none. */
bool ax_server_constrained(struct ax_server *s, struct request *r);

/* step.c */
/* One step; false: there was nothing to compute. */
bool ax_server_step(struct ax_server *s);
/* What is taken and sent between two layers of any step. */
void ax_server_between_layers(struct ax_server *s);

/* board.c */
void ax_server_board_open(struct ax_server *s);
void ax_server_board_model(struct ax_server *s);
/* What the process holds is asked for if it is stale, once a second at most:
 * at the end of a request and in idle, since it takes system calls and steps
 * make none.  True: it is on the board. */
bool ax_server_board_resident(struct ax_server *s);
void ax_server_publish(struct ax_server *s);

/* profile.c: FILE of --profile, checked at the start, written at the end. */
int ax_server_profile_open(struct ax_server *s, struct ax_error *err);
/* The engine is there: its layers and kinds of work are known. */
int ax_server_profile_begin(struct ax_server *s, struct ax_error *err);
/* Behind a step: what all of them have cost, beside the board. */
void ax_server_profile_publish(struct ax_server *s);
void ax_server_profile_close(struct ax_server *s);

#endif
