/*
 * A stream's life over time, the same for ring and HTTP:
 *
 *   ARRIVED ─accept delay─▶ QUEUED ─place in the batch─▶ PREFILL
 *           ─first delay─▶ DECODE ─token, gap, token …─▶ done or error
 *
 * Faults asked for by directives happen at their token.  A lease is debited
 * as the real engine does it: the prompt first, then a token each; LEASE_LOW
 * before it runs out, then parked until TOPUP or its refusal.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include "shm/errors.h"
#include "tests/echo/echo.h"

#define LEASE_LOW_TOKENS 8u
#define LEASE_WANTED     64u
#define NS_PER_MS        1000000ull


static void
list_insert(struct echo_stream *s)
{
    struct echo_stream *head = &echo.streams;

    s->previous = head->previous;
    s->next = head;
    s->previous->next = s;
    head->previous = s;
    echo.n_streams++;
}


static int
is_running(const struct echo_stream *s)
{
    return s->phase == ECHO_PREFILL || s->phase == ECHO_DECODE;
}


void
echo_stream_close(struct echo_stream *s)
{
    if (is_running(s))
        echo.n_running--;
    s->previous->next = s->next;
    s->next->previous = s->previous;
    echo.n_streams--;
    echo.board_dirty = 1;
    echo_answer_close(&s->answer);
    free(s);
}


static void
end_with_error(struct echo_stream *s, int error, const char *detail)
{
    int64_t retry = s->answer.directives.retry_after_ms;

    echo_log_stream(s, "error error=%s tokens=%u",
                    axion_error_info(error)->name, s->answer.sent_tokens);
    echo.board.requests_failed++;
    s->sink->error(s, error, retry > 0 ? (uint32_t) retry : 0, detail);
    echo_stream_close(s);
}


static uint32_t
span_us(uint64_t from, uint64_t to)
{
    uint64_t us = to > from && from != 0 ? (to - from) / 1000 : 0;

    return us > UINT32_MAX ? UINT32_MAX : (uint32_t) us;
}


static void
end_with_done(struct echo_stream *s, uint32_t reason)
{
    static const char *const names[] = {"", "stop", "length", "lease",
                                        "cancelled"};
    int64_t cached = s->answer.directives.cached;
    /* As axiond: what was cancelled before ACCEPTED took no prompt. */
    int accepted = s->phase != ECHO_ARRIVED;
    struct axion_cq_done done = {
        .reason = reason,
        .prompt_tokens = accepted ? s->answer.prompt_tokens : 0,
        .cached_tokens = accepted && cached > 0 ? (uint32_t) cached : 0,
        .completion_tokens = s->answer.sent_tokens,
        .queue_us = span_us(s->arrived_ns, s->scheduled_ns),
        .prefill_us = span_us(s->scheduled_ns, s->first_ns),
        .decode_us = span_us(s->first_ns, s->last_ns),
    };

    echo_log_stream(s, "done reason=%s tokens=%u", names[reason],
                    s->answer.sent_tokens);
    if (reason == AXION_FINISH_CANCELLED)
        echo.board.requests_cancelled++;
    else
        echo.board.requests_done++;
    s->sink->done(s, &done);
    echo_stream_close(s);
}


static int
refusal_of(const struct axion_request_view *view)
{
    uint32_t i, waiting = echo.n_streams - echo.n_running;

    if (echo.draining)
        return AXION_ERR_ENGINE_DRAINING;
    if (echo.board.state == AXION_ENGINE_LOADING)
        return AXION_ERR_ENGINE_LOADING;
    if (echo.n_running + waiting >
        (uint64_t) echo.options.batch_max + echo.options.queue_max)
        return AXION_ERR_QUEUE_FULL;
    for (i = 0; i < echo.options.n_models; i++) {
        const char *model = echo.options.models[i];

        if (strlen(model) == view->model.bytes &&
            memcmp(model, view->model.data, view->model.bytes) == 0)
            return AXION_OK;
    }
    return AXION_ERR_MODEL_NOT_FOUND;
}


static uint64_t
delay_ns(int64_t directive_ms, uint64_t otherwise)
{
    return directive_ms < 0 ? otherwise : (uint64_t) directive_ms * NS_PER_MS;
}


void
echo_stream_open(const struct echo_sink *sink, void *owner, uint64_t id,
                 uint64_t lease_tokens, uint64_t lease_id,
                 const struct axion_request_view *view,
                 struct echo_stream **out)
{
    struct echo_stream *s = calloc(1, sizeof(*s));
    int error;

    *out = NULL;
    if (s == NULL)
        abort();
    s->sink = sink;
    s->owner = owner;
    s->id = id;
    s->lease_tokens = lease_tokens;
    s->lease_id = lease_id;
    s->arrived_ns = echo_now_ns();
    list_insert(s);
    echo.board.requests_total++;
    echo.board_dirty = 1;
    error = refusal_of(view);
    if (error == AXION_OK)
        error = echo_answer_open(&s->answer, view,
                                 echo.options.context_tokens);
    echo_log_stream(s,
                    "submit prompt_tokens=%u messages=%u lease=%" PRIu64
                    " tenant=%016" PRIx64 " priority=%u deadline_ms=%u",
                    s->answer.prompt_tokens, view->n_messages, lease_tokens,
                    view->head.tenant, view->head.priority,
                    view->head.deadline_ms);
    if (error != AXION_OK) {
        echo.board.requests_refused++;
        if (error == AXION_ERR_QUEUE_FULL)
            s->answer.directives.retry_after_ms = 1000;
        end_with_error(s, error, NULL);
        return;
    }
    s->due_ns = s->arrived_ns + delay_ns(s->answer.directives.accept_delay_ms,
                                         echo.options.accept_ns);
    *out = s;
}


void
echo_stream_cancel(struct echo_stream *s)
{
    echo_log_stream(s, "cancel tokens=%u", s->answer.sent_tokens);
    end_with_done(s, AXION_FINISH_CANCELLED);
}


void
echo_stream_pause(struct echo_stream *s, int paused)
{
    echo_log_stream(s, "%s tokens=%u", paused ? "pause" : "resume",
                    s->answer.sent_tokens);
    s->paused = paused != 0;
}


void
echo_stream_topup(struct echo_stream *s, uint64_t tokens)
{
    echo_log_stream(s, "topup tokens=%" PRIu64, tokens);
    s->lease_asked = 0;
    s->parked = 0;
    if (tokens == 0)
        s->lease_refused = 1;
    else if (s->lease_tokens != AXION_LEASE_UNLIMITED)
        s->lease_tokens += tokens;
}


static void
accept_stream(struct echo_stream *s)
{
    struct axion_cq_accepted accepted = {
        .prompt_tokens = s->answer.prompt_tokens,
        .cached_tokens = s->answer.directives.cached > 0
                             ? (uint32_t) s->answer.directives.cached
                             : 0,
        .context_tokens = echo.options.context_tokens,
        .queue_position = echo.n_running >= echo.options.batch_max
                              ? echo.n_streams - echo.n_running
                              : 0,
    };

    echo_log_stream(s, "accepted");
    echo.board.prompt_tokens_total += accepted.prompt_tokens;
    echo.board.cached_tokens_total += accepted.cached_tokens;
    s->sink->accepted(s, &accepted);
    s->phase = ECHO_QUEUED;
}


/* 0 when the stream has ended. */
static int
step_arrived(struct echo_stream *s)
{
    const struct echo_directives *d = &s->answer.directives;

    if (d->error >= 0 && d->error_after < 0) {
        end_with_error(s, axion_error_info((int) d->error)->number,
                       "asked for by the prompt");
        return 0;
    }
    if (s->answer.prompt_tokens >= s->lease_tokens) {
        end_with_error(s, AXION_ERR_LEASE_TOO_SMALL, NULL);
        return 0;
    }
    accept_stream(s);
    return 1;
}


static void
step_queued(struct echo_stream *s, uint64_t now)
{
    if (echo.n_running >= echo.options.batch_max)
        return;
    echo.n_running++;
    s->phase = ECHO_PREFILL;
    s->scheduled_ns = now;
    s->due_ns = now + delay_ns(s->answer.directives.first_delay_ms, 0);
}


static void
step_prefill(struct echo_stream *s)
{
    struct axion_cq_progress progress = {
        .prompt_tokens = s->answer.prompt_tokens,
    };
    int64_t i, n = s->answer.directives.progress;

    for (i = 1; i <= n; i++) {
        progress.prompt_done = (uint32_t) (progress.prompt_tokens * i / n);
        s->sink->progress(s, &progress);
    }
    s->phase = ECHO_DECODE;
}


/* Faults that come after a number of tokens; 0 when the stream has ended. */
static int
step_faults(struct echo_stream *s)
{
    struct echo_directives *d = &s->answer.directives;
    int64_t sent = s->answer.sent_tokens;

    if (sent == d->die_after) {
        echo_log_stream(s, "die tokens=%u", s->answer.sent_tokens);
        raise(SIGKILL);
    }
    if (sent == d->hang_after) {
        d->hang_after = -1;
        echo_log_stream(s, "hang tokens=%u", s->answer.sent_tokens);
        raise(SIGSTOP);
    }
    if (sent == d->stall_after) {
        echo_log_stream(s, "stall tokens=%u", s->answer.sent_tokens);
        s->stalled = 1;
    }
    if (sent == d->error_after) {
        int error = d->error >= 0 ? (int) d->error : AXION_ERR_INTERNAL;

        end_with_error(s, axion_error_info(error)->number,
                       "asked for by the prompt");
        return 0;
    }
    return 1;
}


/* 1 when a token may be spent; parks or ends the stream otherwise. */
static int
step_lease(struct echo_stream *s)
{
    uint64_t spent =
        (uint64_t) s->answer.prompt_tokens + s->answer.sent_tokens;
    uint64_t left = s->lease_tokens > spent ? s->lease_tokens - spent : 0;
    int64_t low = s->answer.directives.lease_low;
    struct axion_cq_lease_low event = {spent, left, LEASE_WANTED, {0}};

    if (s->lease_tokens == AXION_LEASE_UNLIMITED)
        return 1;
    if (left == 0 && s->lease_refused) {
        end_with_done(s, AXION_FINISH_LEASE);
        return 0;
    }
    if (left <= (low >= 0 ? (uint64_t) low : LEASE_LOW_TOKENS) &&
        !s->lease_asked && !s->lease_refused) {
        echo_log_stream(s, "lease_low left=%" PRIu64, left);
        s->lease_asked = 1;
        s->sink->lease_low(s, &event);
    }
    s->parked = left == 0;
    return left > 0;
}


static void
send_token(struct echo_stream *s, const struct echo_token *token,
           uint64_t now)
{
    uint64_t gap =
        delay_ns(s->answer.directives.delay_ms, echo.options.gap_ns);

    s->sink->token(s, token);
    echo_answer_advance(&s->answer, token);
    echo.board.completion_tokens_total++;
    echo.rate_tokens++;
    if (s->first_ns == 0)
        s->first_ns = now;
    s->last_ns = now;
    s->due_ns = gap == 0 ? now : s->due_ns + gap;
}


/* 1 when the stream can go on at once, 0 when it waits or has ended. */
static int
step_decode(struct echo_stream *s, uint64_t now)
{
    struct echo_token token;

    if (!step_faults(s) || s->stalled)
        return 0;
    if (!echo_answer_peek(&s->answer, &token)) {
        end_with_done(s, echo_answer_reason(&s->answer));
        return 0;
    }
    if (!s->sink->writable(s, token.bytes) || !step_lease(s))
        return 0;
    send_token(s, &token, now);
    return 1;
}


/* 1: due again at s->due_ns; 0: waits for somebody else, or is gone. */
static int
step_stream(struct echo_stream *s, uint64_t now)
{
    if (s->phase == ECHO_ARRIVED && !step_arrived(s))
        return 0;
    if (s->phase == ECHO_QUEUED)
        step_queued(s, now);
    if (s->phase == ECHO_QUEUED)
        return 0; /* a stream that ends makes room */
    if (s->due_ns > now)
        return 1;
    if (s->phase == ECHO_PREFILL)
        step_prefill(s);
    return step_decode(s, now);
}


uint64_t
echo_streams_run(uint64_t now)
{
    struct echo_stream *s, *next;
    uint64_t due = ECHO_NEVER;
    uint32_t n_before = echo.n_streams;

    for (s = echo.streams.next; s != &echo.streams; s = next) {
        next = s->next;
        if (s->stalled || s->parked || (s->paused && s->phase == ECHO_DECODE))
            continue;
        if (s->due_ns <= now && !step_stream(s, now))
            continue;
        if (s->due_ns < due)
            due = s->due_ns;
    }
    if (n_before > 0) {
        echo.board.steps++;
        echo.board_dirty = 1;
    }
    /* Somebody may have waited for the place of one that ended. */
    if (echo.n_streams != n_before && echo.n_streams > 0)
        due = now;
    return due;
}
