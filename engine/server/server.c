/* The loop, signals and the end; see server.h. */
#include "engine/server/server_private.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>
#include "engine/server/notify.h"
#include "engine/server/passed_socket.h"

#define TAGS_MAX     64u
#define STATUS_BYTES 300u
#define LOAD_TICK_US 100000
#define RATE_TICK_US 1000000
#define GRACE_US     1000000u
#define LIVE_TICK_US 500000 /* the heartbeat while any stream is open */


uint64_t
ax_server_now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}


/* ---- the service manager ---- */

void
ax_server_tell_manager(struct ax_server *s, const char *state,
                       const char *format, ...)
{
    char status[STATUS_BYTES];
    struct ax_error err;
    va_list args;
    va_start(args, format);
    vsnprintf(status, sizeof(status), format, args);
    va_end(args);
    if (ax_notify(s->options.notify, state, status, &err) != AXION_OK) {
        ax_log(s->log, AXION_LOG_warn, "%s", err.text);
        s->options.notify = NULL; /* said once */
    }
}


/* ---- signals and drain ---- */

static void
stop_listening(struct ax_server *s)
{
    if (s->listen_fd >= 0) {
        ax_loop_unwatch(s->loop, s->listen_fd);
        close(s->listen_fd);
        s->listen_fd = -1;
        if (!s->listen_passed) {
            (void)unlink(s->listen_path);
        }
    }
}


/* Nothing new is taken: it drains, or has failed with requests under way. */
static bool
ending(const struct ax_server *s)
{
    return s->state == AXION_ENGINE_DRAINING || s->state == AXION_ENGINE_FAILED;
}


static void
begin_drain(struct ax_server *s)
{
    stop_listening(s);
    if (s->state == AXION_ENGINE_LOADING) {
        ax_log(s->log, AXION_LOG_notice, "ended while loading");
        ax_server_tell_manager(s, "STOPPING=1", "ended while loading");
        s->ended = true;
        return;
    }
    s->state = AXION_ENGINE_DRAINING;
    s->drain_deadline_us =
        ax_server_now_us() + s->options.drain_timeout_ms * 1000;
    ax_log(s->log, AXION_LOG_notice, "draining: %u requests, at most %llu ms",
           s->n_live, (unsigned long long)s->options.drain_timeout_ms);
    ax_server_tell_manager(s, "STOPPING=1", "draining %u requests", s->n_live);
    ax_server_announce(s);
}


void
ax_server_take_signals(struct ax_server *s)
{
    struct signalfd_siginfo info;
    while (read(s->signal_fd, &info, sizeof(info)) == sizeof(info)) {
        ax_log(s->log, AXION_LOG_notice, "signal %u from pid %u",
               info.ssi_signo, info.ssi_pid);
        if (ending(s)) {
            ax_log(s->log, AXION_LOG_warn,
                   "second signal: %u requests are cut off", s->n_live);
            s->ended = true;
        } else {
            begin_drain(s);
        }
    }
}


static void
on_signal(struct ax_server *s, struct source *source)
{
    (void)source;
    ax_server_take_signals(s);
}


static bool
output_is_out(const struct ax_server *s)
{
    for (const struct conn *c = s->conns; c != NULL; c = c->next) {
        if (!c->dead && axion_channel_streams(c->channel) > 0) {
            return false;
        }
    }
    return true;
}


void
ax_server_give_up(struct ax_server *s, const char *why)
{
    stop_listening(s);
    s->state = AXION_ENGINE_FAILED;
    ax_server_fail_all(s, AXION_ERR_ENGINE_UNAVAILABLE, why);
    s->cut_off = true;
    s->drain_deadline_us = ax_server_now_us() + GRACE_US;
    ax_server_announce(s);
}


/* At the deadline everyone is told, and has a moment to read it. */
static void
check_drain(struct ax_server *s)
{
    if (s->n_live == 0 && output_is_out(s)) {
        if (s->state == AXION_ENGINE_DRAINING) {
            ax_log(s->log, AXION_LOG_notice, "drained");
        }
        s->ended = true;
    } else if (ax_server_now_us() < s->drain_deadline_us) {
        return;
    } else if (s->cut_off) {
        s->ended = true;
    } else {
        ax_log(s->log, AXION_LOG_warn,
               "drain timed out: %u requests are cut off", s->n_live);
        ax_server_fail_all(s, AXION_ERR_ENGINE_DRAINING,
                           "the engine's drain timed out");
        ax_server_flush(s);
        s->cut_off = true;
        s->drain_deadline_us = ax_server_now_us() + GRACE_US;
    }
}


/* ---- the loop ---- */

static bool
step_if_due(struct ax_server *s)
{
    if (s->engine == NULL) {
        return false;
    }
    ax_server_release_outputs(s);
    ax_server_take_events(s);
    bool runnable = ax_sched_runnable(s->sched);
    if (s->load == LOAD_TIMING && ax_server_time_steps(s, runnable)) {
        return true;
    }
    if (!runnable && ax_server_now_us() < ax_sched_wakeup_us(s->sched)) {
        return false;
    }
    return ax_server_step(s);
}


/* How long there is nothing to do unless something happens; -1: for ever. */
static int64_t
idle_us(const struct ax_server *s)
{
    uint64_t now = ax_server_now_us(), wake = UINT64_MAX;
    if (s->state == AXION_ENGINE_LOADING) {
        return LOAD_TICK_US;
    }
    if (s->engine != NULL) {
        wake = ax_sched_wakeup_us(s->sched);
    }
    if (s->load == LOAD_PACKING && wake - now > LOAD_TICK_US) {
        return LOAD_TICK_US; /* the board tells how far it is */
    }
    if (ending(s) && s->drain_deadline_us < wake) {
        wake = s->drain_deadline_us;
    }
    if (s->n_live > 0 && wake - now > LIVE_TICK_US) {
        return LIVE_TICK_US;
    }
    /* The rates on the board go down to 0 once, and memory is told once. */
    if (((s->board.tokens_per_second_milli |
          s->board.prefill_per_second_milli) != 0 ||
         s->resident_stale) &&
        wake - now > RATE_TICK_US) {
        return RATE_TICK_US;
    }
    if (wake == UINT64_MAX) {
        return -1;
    }
    return wake > now ? (int64_t)(wake - now) : 0;
}


/*
 * Before a step of who has come, and before the sleep behind who has gone.
 * What is brought in changes what is resident, at last when its thread ends.
 */
static void
tell_prefault(struct ax_server *s)
{
    bool works = ax_prefault_works(s->prefault);
    s->resident_stale |= works || s->prefaults;
    s->prefaults = works;
    ax_prefault_tell(s->prefault, s->state == AXION_ENGINE_READY &&
                                      s->load == LOAD_DONE && s->n_live == 0);
}


/* Nobody reads it later than a second after the last thing that changed it. */
static void
tell_resident(struct ax_server *s)
{
    if (s->n_live == 0 && ax_server_board_resident(s)) {
        ax_server_publish(s);
    }
}


static void
turn(struct ax_server *s)
{
    void *tags[TAGS_MAX];
    int64_t timeout_us = 0;
    ax_server_take_commands(s);
    ax_server_take_text(s);
    tell_prefault(s);
    bool worked = step_if_due(s);
    /* Who reads an event and then the board finds its effect there. */
    ax_server_publish(s);
    ax_server_flush(s);
    if (ending(s)) {
        check_drain(s);
    }
    if (s->ended) {
        return;
    }
    if (!worked) {
        tell_resident(s);
        tell_prefault(s);
        timeout_us = ax_server_arm(s) ? idle_us(s) : 0;
    }
    int64_t due_us = ax_server_conns_due_us(s);
    if (due_us >= 0 && (timeout_us < 0 || timeout_us > due_us)) {
        timeout_us = due_us;
    }
    uint32_t n = ax_loop_wait(s->loop, timeout_us, tags, TAGS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        struct source *source = tags[i];
        source->ready(s, source);
    }
    ax_server_tend_conns(s);
    ax_server_bury_conns(s);
}


int
ax_server_run(struct ax_server *s)
{
    axk_thread_init();
    while (!s->ended) {
        turn(s);
    }
    ax_server_publish(s);
    stop_listening(s);
    ax_server_close_conns(s);
    return s->result;
}


/* ---- open and close ---- */

static int
watch(struct ax_server *s, int fd, struct source *source,
      void (*ready)(struct ax_server *, struct source *), struct ax_error *err)
{
    source->ready = ready;
    if (ax_loop_watch(s->loop, fd, source) != AXION_OK) {
        return ax_error_set(err, AXION_ERR_SYSTEM, "cannot watch a descriptor");
    }
    return AXION_OK;
}


static int
open_listen(struct ax_server *s, struct ax_error *err)
{
    char why[128];
    if (s->options.listen_fd >= 0) {
        int rc = ax_passed_socket_take(s->options.listen_fd, s->listen_path,
                                       sizeof(s->listen_path), err);
        if (rc == AXION_OK) {
            s->listen_fd = s->options.listen_fd;
            s->listen_passed = true;
            ax_log(s->log, AXION_LOG_notice,
                   "%s was passed by the service "
                   "manager",
                   s->listen_path);
        }
        return rc;
    }
    int rc = axion_listen(s->options.listen, &s->listen_fd, s->listen_path,
                          sizeof(s->listen_path), why, sizeof(why));
    if (rc != AXION_OK) {
        s->listen_fd = -1;
        return ax_error_set(err, rc, "--listen: %s", why);
    }
    return AXION_OK;
}


static int
open_descriptors(struct ax_server *s, struct ax_error *err)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    s->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    s->loaded_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->packed_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->signal_fd < 0 || s->loaded_fd < 0 || s->packed_fd < 0) {
        return ax_error_set(err, AXION_ERR_SYSTEM, "signalfd or eventfd: %s",
                            strerror(errno));
    }
    int rc = ax_helper_open(&s->helper);
    if (rc != AXION_OK) {
        return ax_error_set(err, rc, "cannot start the helper thread");
    }
    return open_listen(s, err);
}


static int
watch_all(struct ax_server *s, struct ax_error *err)
{
    int rc;
    if ((rc = watch(s, s->signal_fd, &s->signal_source, on_signal, err)) ||
        (rc = watch(s, s->loaded_fd, &s->loaded_source, ax_server_on_loaded,
                    err)) ||
        (rc = watch(s, s->packed_fd, &s->packed_source, ax_server_on_packed,
                    err)) ||
        (rc = watch(s, ax_helper_fd(s->helper), &s->helper_source,
                    ax_server_on_helper, err)) ||
        (rc = watch(s, s->listen_fd, &s->listen_source, ax_server_on_listen,
                    err))) {
        return rc;
    }
    return AXION_OK;
}


static int
resolve_speculation(struct ax_server_options *o, struct ax_error *err)
{
    if (o->speculate == NULL) {
        o->speculate = o->draft != NULL ? "draft" : "suffix";
    }
    bool drafts = ax_spec_kind(o->speculate) == AX_SPEC_DRAFT;
    if (o->draft != NULL && o->draft[strspn(o->draft, "0123456789")] == '\0') {
        return ax_error_set(err, AXION_ERR_BAD_OPTION,
                            "--draft \"%s\": the file of a smaller model "
                            "expected; how many drafts is --draft-max",
                            o->draft);
    }
    if (drafts && o->draft == NULL) {
        return ax_error_set(err, AXION_ERR_BAD_OPTION,
                            "--speculate draft needs --draft FILE");
    }
    if (!drafts && o->draft != NULL) {
        return ax_error_set(err, AXION_ERR_BAD_OPTION,
                            "--draft and --speculate %s contradict each other",
                            o->speculate);
    }
    return AXION_OK;
}


int
ax_server_open(struct ax_server **out, const struct ax_server_options *options,
               const struct ax_log *log, struct ax_error *err)
{
    *out = NULL;
    struct ax_server *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    s->options = *options;
    int rc = resolve_speculation(&s->options, err);
    if (rc != AXION_OK) {
        free(s);
        return rc;
    }
    s->log = log;
    s->state = AXION_ENGINE_LOADING;
    s->listen_fd = s->signal_fd = s->loaded_fd = s->packed_fd = -1;
    s->allow_uids = s->options.allow_uid.uid;
    ax_server_board_open(s);
    rc = ax_server_profile_open(s, err);
    if (rc != AXION_OK) {
        goto failed;
    }
    rc = ax_journal_open(&s->journal, JOURNAL_RECORDS);
    if (rc != AXION_OK) {
        ax_error_set(err, rc, "no memory for the journal");
        goto failed;
    }
    rc = ax_loop_open(&s->loop, options->event_loop, err);
    if (rc != AXION_OK) {
        goto failed;
    }
    ax_log(log, AXION_LOG_notice, "event loop: %s%s%s", ax_loop_name(s->loop),
           *ax_loop_note(s->loop) ? ", because of " : "",
           ax_loop_note(s->loop));
    rc = axion_board_open(&s->board_writer);
    if (rc != AXION_OK) {
        ax_error_set(err, rc, "cannot make the load board: %s",
                     strerror(errno));
        goto failed;
    }
    ax_server_publish(s); /* before a gateway can see it: LOADING, not zeros */
    if ((rc = open_descriptors(s, err)) != AXION_OK ||
        (rc = watch_all(s, err)) != AXION_OK ||
        (rc = ax_server_start_loading(s, err)) != AXION_OK) {
        goto failed;
    }
    *out = s;
    return AXION_OK;

failed:
    (void)ax_server_close(s); /* nothing long has begun */
    return rc;
}


bool
ax_server_close(struct ax_server *s)
{
    if (s == NULL) {
        return true;
    }
    if (s->loader_runs) {
        /* Ended while loading: the process is about to go, and waiting for
         * a large file would only delay it.  The loader keeps its memory. */
        if (!ax_join_within_grace(s->loader)) {
            return false;
        }
        ax_engine_close(s->loaded);
    }
    bool text_ended = ax_helper_close(s->helper); /* its jobs use the engine */
    if (s->loop != NULL) {
        stop_listening(s);
        ax_server_close_conns(s);
    }
    if (!text_ended) {
        return false; /* as above: it keeps what it works on */
    }
    ax_server_profile_close(s);
    ax_prefault_close(s->prefault); /* it works on both models' KV */
    ax_engine_close(s->engine);     /* its threads may still read masks */
    ax_draft_model_close(s->draft); /* it used the engine's threads */
    ax_server_requests_close(s);
    axion_board_close(s->board_writer);
    ax_journal_close(s->journal);
    if (s->signal_fd >= 0) {
        close(s->signal_fd);
    }
    if (s->loaded_fd >= 0) {
        close(s->loaded_fd);
    }
    if (s->packed_fd >= 0) {
        close(s->packed_fd); /* its writers went with the engine */
    }
    ax_loop_close(s->loop);
    free(s);
    return true;
}
