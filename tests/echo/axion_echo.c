/*
 * axion-echo: an engine without a model, for tests and benchmarks.  It speaks
 * the ring as axiond does (shm/channel.h) and answers every request with the
 * request's own text.  README.md beside this file is its manual: options,
 * directives, log lines.
 *
 * The loop: take what arrived, one step of every stream that is due, let it
 * out, sleep until the next is due.  It sleeps in epoll and nowhere else, and
 * an idle echo engine makes no system calls.  The load board is published
 * when something changed, at most every millisecond, and its heartbeat counts
 * at least every 100 ms while streams are open, as a working engine's would.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include "shm/errors.h"
#include "tests/echo/echo.h"

#define EVENTS_MAX    64
#define NS_PER_MS     1000000ull
#define NS_PER_SECOND 1000000000ull
#define HEARTBEAT_NS  (100 * NS_PER_MS)

struct echo_engine echo = {
    .options =
        {
            .context_tokens = 1u << 20,
            .batch_max = 1024,
            .queue_max = 4096,
            .drain_ns = 10 * NS_PER_SECOND,
        },
    .streams = {.next = &echo.streams, .previous = &echo.streams},
};

static struct echo_source timer = {.fd = -1};
static uint64_t timer_at = ECHO_NEVER; /* what it is armed for */
static struct echo_source signals = {.fd = -1};
static FILE *log_file;
static uint64_t drain_deadline_ns = ECHO_NEVER;
static int stopped;


uint64_t
echo_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * NS_PER_SECOND + (uint64_t) now.tv_nsec;
}


static void
log_line(FILE *file, const char *prefix, const char *format, va_list args)
{
    va_list copy;

    va_copy(copy, args);
    fprintf(file, "echo: %s", prefix);
    vfprintf(file, format, copy);
    fputc('\n', file);
    fflush(file);
    va_end(copy);
}


static void
log_everywhere(const char *prefix, const char *format, va_list args)
{
    log_line(stderr, prefix, format, args);
    if (log_file != NULL)
        log_line(log_file, prefix, format, args);
}


void
echo_log(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    log_everywhere("", format, args);
    va_end(args);
}


void
echo_log_stream(const struct echo_stream *s, const char *format, ...)
{
    char prefix[80];
    va_list args;

    if (echo.options.quiet)
        return;
    snprintf(prefix, sizeof(prefix), "stream=%u.%u id=%" PRIu64 " ",
             (unsigned) s->id, (unsigned) (s->id >> 32), s->lease_id);
    va_start(args, format);
    log_everywhere(prefix, format, args);
    va_end(args);
}


/* ---- epoll ---- */

static int
control(int operation, struct echo_source *source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};

    return epoll_ctl(echo.epoll, operation, source->fd, &event);
}


int
echo_watch(struct echo_source *source, uint32_t events)
{
    return control(EPOLL_CTL_ADD, source, events);
}


int
echo_rewatch(struct echo_source *source, uint32_t events)
{
    return control(EPOLL_CTL_MOD, source, events);
}


void
echo_unwatch(struct echo_source *source)
{
    control(EPOLL_CTL_DEL, source, 0);
}


/* ---- board ---- */

static void
board_init(void)
{
    struct axion_board *board = &echo.board;
    uint32_t i;

    board->magic = AXION_WIRE_MAGIC;
    board->version = AXION_WIRE_VERSION;
    board->state =
        echo.options.loading ? AXION_ENGINE_LOADING : AXION_ENGINE_READY;
    board->load_permille = 1000;
    if (echo.options.loading)
        board->load_permille = 0;
    else if (echo.options.packing)
        board->load_permille = 999;
    board->engine_pid = (uint64_t) getpid();
    board->started = (uint64_t) time(NULL);
    board->batch_max = echo.options.batch_max;
    board->kv_block_tokens = 32;
    board->kv_blocks_total = 4096;
    board->n_models = echo.options.n_models;
    for (i = 0; i < board->n_models; i++) {
        struct axion_board_model *model = &board->models[i];

        snprintf(model->id, sizeof(model->id), "%s", echo.options.models[i]);
        model->context_tokens = echo.options.context_tokens;
        model->vocabulary = 32768;
        model->created = board->started;
    }
    echo.board_dirty = 1;
}


static void
board_publish(uint64_t now)
{
    struct axion_board *board = &echo.board;
    struct echo_stream *s;

    if (echo.n_streams > 0 && now >= echo.board_due_ns + HEARTBEAT_NS)
        echo.board_dirty = 1;
    if (!echo.board_dirty || now < echo.board_due_ns)
        return;
    board->heartbeat++;
    board->running = echo.n_running;
    board->waiting = echo.n_streams - echo.n_running;
    board->parked = 0;
    for (s = echo.streams.next; s != &echo.streams; s = s->next)
        board->parked += s->paused || s->parked;
    if (now - echo.rate_from_ns >= NS_PER_SECOND) {
        board->tokens_per_second_milli =
            (uint32_t) ((double) echo.rate_tokens * 1e12 /
                        (double) (now - echo.rate_from_ns));
        echo.rate_tokens = 0;
        echo.rate_from_ns = now;
    }
    axion_board_publish(echo.board_writer, board);
    echo.board_due_ns = now + NS_PER_MS;
    echo.board_dirty = 0;
}


/* ---- signals ---- */

static void
start_draining(void)
{
    if (echo.draining) {
        stopped = 1;
        return;
    }
    echo_log("draining streams=%u", echo.n_streams);
    echo.draining = 1;
    echo.board.state = AXION_ENGINE_DRAINING;
    echo.board_dirty = 1;
    drain_deadline_ns = echo_now_ns() + echo.options.drain_ns;
}


static void
signals_ready(struct echo_source *source, uint32_t events)
{
    struct signalfd_siginfo info;

    (void) events;
    while (read(source->fd, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo == SIGUSR1) {
            echo_log("ready");
            echo.board.state = AXION_ENGINE_READY;
            echo.board.load_permille = 1000;
            echo.board_dirty = 1;
        } else {
            start_draining();
        }
    }
}


static int
signals_open(void)
{
    sigset_t set;

    signal(SIGPIPE, SIG_IGN); /* nobody reads our stderr any more */
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGQUIT);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signals.fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    signals.ready = signals_ready;
    return signals.fd < 0 ? -1 : echo_watch(&signals, EPOLLIN);
}


/* ---- time ---- */

static void
timer_ready(struct echo_source *source, uint32_t events)
{
    uint64_t expirations;

    (void) events;
    /* Fewer bytes: it was set anew meanwhile.  Once it has rung it is set for
     * nothing, also when our clock, read on another core, has yet to reach
     * the very nanosecond that it was set for. */
    if (read(source->fd, &expirations, sizeof(expirations)) > 0)
        timer_at = ECHO_NEVER;
}


static int
timer_open(void)
{
    timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    timer.ready = timer_ready;
    return timer.fd < 0 ? -1 : echo_watch(&timer, EPOLLIN);
}


static void
timer_set(uint64_t at)
{
    struct itimerspec spec = {{0, 0}, {0, 0}};

    if (at == timer_at)
        return;
    timer_at = at;
    if (at != ECHO_NEVER) {
        spec.it_value.tv_sec = (time_t) (at / NS_PER_SECOND);
        spec.it_value.tv_nsec = (long) (at % NS_PER_SECOND);
    }
    timerfd_settime(timer.fd, TFD_TIMER_ABSTIME, &spec, NULL);
}


/* ---- the loop ---- */

static void
wait_for_events(int milliseconds)
{
    struct epoll_event events[EVENTS_MAX];
    int n = epoll_wait(echo.epoll, events, EVENTS_MAX, milliseconds), i;

    for (i = 0; i < n; i++) {
        struct echo_source *source = events[i].data.ptr;

        source->ready(source, events[i].events);
    }
}


/* When the loop has something to do besides the streams' tokens. */
static uint64_t
housekeeping_due(void)
{
    uint64_t due = echo.draining ? drain_deadline_ns : ECHO_NEVER;

    if (echo.board_dirty && echo.board_due_ns < due)
        due = echo.board_due_ns;
    if (echo.n_streams > 0 && echo.board_due_ns + HEARTBEAT_NS < due)
        due = echo.board_due_ns + HEARTBEAT_NS;
    return due;
}


static void
run(void)
{
    while (!stopped) {
        uint64_t now = echo_now_ns();
        uint64_t due = echo_streams_run(now), other;
        int sleep = due > now;

        sleep &= !echo_ring_flush(sleep);
        echo_http_flush();
        board_publish(now);
        if (echo.draining &&
            (echo.n_streams == 0 || now >= drain_deadline_ns))
            break;
        other = housekeeping_due();
        if (sleep)
            timer_set(due < other ? due : other);
        wait_for_events(sleep ? -1 : 0);
    }
}


/* ---- options ---- */

static void
usage(void)
{
    fputs("usage: axion-echo --listen unix:PATH[,mode=][,group=] [options]\n"
          "  --model NAME             served; may be repeated (echo)\n"
          "  --context N              tokens (1048576)\n"
          "  --batch N                sequences at once (1024)\n"
          "  --queue N                waiting ones, then QUEUE_FULL (4096)\n"
          "  --tokens-per-second N    of each stream (unlimited)\n"
          "  --accept-delay-ms N      before ACCEPTED (0)\n"
          "  --stream-buffer N        bytes of a stream's buffer (16384)\n"
          "  --allow-uid UID          nobody else may connect\n"
          "  --loading                until SIGUSR1\n"
          "  --packing                likewise, and ready\n"
          "  --drain-ms N             after SIGTERM (10000)\n"
          "  --http PORT|unix:PATH    the same over HTTP/1.1\n"
          "  --log FILE               log lines, besides stderr\n"
          "  --quiet                  no line per stream\n",
          stderr);
}


static int
number(const char *text, uint64_t max, uint64_t *value)
{
    char *end;

    errno = 0;
    *value = strtoull(text, &end, 10);
    if (errno == 0 && end != text && *end == '\0' && text[0] != '-' &&
        *value <= max)
        return 1;
    fprintf(stderr, "axion-echo: %s is not a number up to %" PRIu64 "\n",
            text, max);
    return 0;
}


enum echo_option {
    OPTION_LISTEN = 256,
    OPTION_MODEL,
    OPTION_CONTEXT,
    OPTION_BATCH,
    OPTION_QUEUE,
    OPTION_RATE,
    OPTION_ACCEPT,
    OPTION_BUFFER,
    OPTION_UID,
    OPTION_LOADING,
    OPTION_PACKING,
    OPTION_DRAIN,
    OPTION_HTTP,
    OPTION_LOG,
    OPTION_QUIET,
};

static const struct option long_options[] = {
    {"listen", required_argument, NULL, OPTION_LISTEN},
    {"model", required_argument, NULL, OPTION_MODEL},
    {"context", required_argument, NULL, OPTION_CONTEXT},
    {"batch", required_argument, NULL, OPTION_BATCH},
    {"queue", required_argument, NULL, OPTION_QUEUE},
    {"tokens-per-second", required_argument, NULL, OPTION_RATE},
    {"accept-delay-ms", required_argument, NULL, OPTION_ACCEPT},
    {"stream-buffer", required_argument, NULL, OPTION_BUFFER},
    {"allow-uid", required_argument, NULL, OPTION_UID},
    {"loading", no_argument, NULL, OPTION_LOADING},
    {"packing", no_argument, NULL, OPTION_PACKING},
    {"drain-ms", required_argument, NULL, OPTION_DRAIN},
    {"http", required_argument, NULL, OPTION_HTTP},
    {"log", required_argument, NULL, OPTION_LOG},
    {"quiet", no_argument, NULL, OPTION_QUIET},
    {NULL, 0, NULL, 0},
};


static int
take_number(int option, const char *text)
{
    struct echo_options *o = &echo.options;
    uint64_t value;

    if (!number(text, UINT32_MAX, &value))
        return -1;
    switch (option) {
    case OPTION_CONTEXT:
        o->context_tokens = (uint32_t) value;
        break;
    case OPTION_BATCH:
        o->batch_max = (uint32_t) value;
        break;
    case OPTION_QUEUE:
        o->queue_max = (uint32_t) value;
        break;
    case OPTION_RATE:
        o->gap_ns = value ? NS_PER_SECOND / value : 0;
        break;
    case OPTION_ACCEPT:
        o->accept_ns = value * NS_PER_MS;
        break;
    case OPTION_BUFFER:
        o->stream_buffer_bytes = (uint32_t) value;
        break;
    case OPTION_UID:
        o->allow_uid = (uid_t) value;
        o->has_allow_uid = 1;
        break;
    default:
        o->drain_ns = value * NS_PER_MS;
        break;
    }
    return 0;
}


static int
take_option(int option, const char *text)
{
    struct echo_options *o = &echo.options;

    switch (option) {
    case OPTION_LISTEN:
        o->listen = text;
        return 0;
    case OPTION_MODEL:
        if (o->n_models == ECHO_MODELS_MAX)
            return -1;
        o->models[o->n_models++] = text;
        return 0;
    case OPTION_LOADING:
        o->loading = 1;
        return 0;
    case OPTION_PACKING:
        o->packing = 1;
        return 0;
    case OPTION_HTTP:
        o->http = text;
        return 0;
    case OPTION_LOG:
        log_file = fopen(text, "ae");
        return log_file == NULL ? -1 : 0;
    case OPTION_QUIET:
        o->quiet = 1;
        return 0;
    case '?':
        return -1;
    default:
        return take_number(option, text);
    }
}


static int
take_options(int argc, char **argv)
{
    int option;

    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (take_option(option, optarg) != 0)
            return -1;
    }
    if (echo.options.n_models == 0)
        echo.options.models[echo.options.n_models++] = "echo";
    if (optind != argc ||
        (echo.options.listen == NULL && echo.options.http == NULL))
        return -1;
    return 0;
}


int
main(int argc, char **argv)
{
    if (take_options(argc, argv) != 0) {
        usage();
        return 2;
    }
    echo.epoll = epoll_create1(EPOLL_CLOEXEC);
    board_init();
    if (echo.epoll < 0 || signals_open() != 0 || timer_open() != 0 ||
        axion_board_open(&echo.board_writer) != AXION_OK) {
        perror("axion-echo");
        return 1;
    }
    board_publish(echo_now_ns());
    echo_journal_open();
    if (echo_ring_open() != 0 || echo_http_open() != 0)
        return 1;
    run();
    echo_ring_close();
    echo_journal_close();
    echo_http_close();
    axion_board_close(echo.board_writer);
    echo_log("exit");
    return 0;
}
