/*
 * Life of a request, from SUBMIT to DONE or ERROR.
 *
 * The payload is copied out of the ring, decoded, rendered and tokenized on
 * the helper thread (text_run), which writes only the fields that the header
 * marks as its own.  Back on thread 0 the request meets the scheduler, which
 * takes or refuses it at once: ACCEPTED or ERROR never wait for the batch.
 */
#include "engine/server/server_private.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#define LOADING_RETRY_MS 1000u
/* Slots beyond the queue, for each place in a step: most of them for streams
 * that are parked behind slow readers, which must not use up the queue. */
#define PARKED_FACTOR 16u

/* The longest token of any model, each byte at worst a U+FFFD, behind held
 * text, fits an empty buffer (with ids and heads of segments): writable()
 * becomes true once a client reads, and a first token needs no asking. */
_Static_assert(3 * (AX_TOKENIZER_TOKEN_BYTES_MAX + 4) + AXION_STOP_BYTES_MAX +
                       64 <=
                   STREAM_BUFFER_BYTES,
               "a token and its text fit a stream's buffer");


/* ---- memory ---- */

static int
kv_reserve(void *context, uint32_t slot, uint32_t n_tokens)
{
    struct ax_server *s = context;
    return ax_kv_reserve(s->engine->kv, &s->requests[slot].kv, n_tokens);
}


/* Its names reach as far as its computed blocks do. */
static void
kv_release(void *context, uint32_t slot, uint32_t n_computed)
{
    struct ax_server *s = context;
    struct request *r = &s->requests[slot];
    ax_kv_chain_extend(&r->chain, r->tokens, n_computed);
    ax_kv_retire(s->engine->kv, &r->kv, &r->chain, r->tokens, n_computed);
}


static uint32_t
kv_attach(void *context, uint32_t slot, uint32_t n_computed, uint32_t n_max)
{
    struct ax_server *s = context;
    struct request *r = &s->requests[slot];
    ax_kv_chain_extend(&r->chain, r->tokens, n_max);
    return ax_kv_attach(s->engine->kv, &r->kv, &r->chain, r->tokens, n_computed,
                        n_max);
}


static uint32_t
kv_known(void *context, uint32_t slot, uint32_t n_max)
{
    struct ax_server *s = context;
    struct request *r = &s->requests[slot];
    return ax_kv_known(s->engine->kv, &r->chain, r->tokens, n_max);
}


/* Names are random: half of one, never 0, is enough to tell two apart in one
 * step, and a mistake would cost a step, not a wrong block. */
static uint64_t
kv_name(void *context, uint32_t slot, uint32_t position)
{
    struct ax_server *s = context;
    const struct ax_kv_chain *chain = &s->requests[slot].chain;
    uint32_t block = position / AX_KV_BLOCK_TOKENS;
    return block < chain->n ? chain->names[block].word[0] | 1 : 0;
}


static uint32_t
kv_alone(void *context, uint32_t slot)
{
    struct ax_server *s = context;
    return ax_kv_alone(s->engine->kv, &s->requests[slot].kv);
}


static uint32_t
kv_missing(void *context, uint32_t slot, uint32_t n_tokens)
{
    struct ax_server *s = context;
    return ax_kv_missing(s->engine->kv, &s->requests[slot].kv, n_tokens);
}


static uint32_t
kv_needed(void *context, uint32_t n_tokens)
{
    struct ax_server *s = context;
    return ax_kv_needed(s->engine->kv, n_tokens);
}


static uint32_t
kv_free(void *context)
{
    struct ax_server *s = context;
    return ax_kv_blocks_free(s->engine->kv);
}


static size_t
text_memory_bytes(void)
{
    static const char longest[AXION_STOP_BYTES_MAX] = {'x'};
    struct ax_stream_stop stops[AXION_STOP_MAX];
    for (uint32_t i = 0; i < AXION_STOP_MAX; i++) {
        stops[i] = (struct ax_stream_stop){longest, sizeof(longest)};
    }
    return ax_stream_size(stops, AXION_STOP_MAX);
}


static void *
cut(char **at, size_t bytes)
{
    void *memory = *at;
    *at += (bytes + 63) / 64 * 64;
    return memory;
}


/* Address space for every slot at once; pages come with their first use. */
static int
reserve_slots(struct ax_server *s)
{
    size_t tokens = (size_t)s->engine->ctx * sizeof(int32_t);
    uint32_t blocks_max = ax_kv_blocks_for(s->engine->ctx);
    size_t blocks =
        (size_t)blocks_max * ax_kv_groups(s->engine->kv) * sizeof(uint32_t);
    size_t bias = AXION_LOGIT_BIAS_MAX * sizeof(struct ax_sampling_bias);
    size_t text = text_memory_bytes();
    size_t names = (size_t)blocks_max * sizeof(struct ax_kv_name);
    size_t allowed = s->allowed_words * sizeof(uint64_t);
    size_t slot = tokens + blocks + names + bias + text + allowed + 6 * 64;
    s->slots_memory_bytes = slot * s->n_requests;
    char *at = mmap(NULL, s->slots_memory_bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    s->requests = calloc(s->n_requests, sizeof(*s->requests));
    s->slots_memory = at != MAP_FAILED ? at : NULL;
    if (s->slots_memory == NULL || s->requests == NULL) {
        return AXION_ERR_NO_MEMORY;
    }
    for (uint32_t i = s->n_requests; i-- > 0;) {
        struct request *r = &s->requests[i];
        r->slot = i;
        r->server = s;
        r->tokens = cut(&at, tokens);
        r->kv.blocks = cut(&at, blocks);
        r->kv.blocks_max = blocks_max;
        r->chain.names = cut(&at, names);
        r->bias = cut(&at, bias);
        r->text_memory = cut(&at, text);
        r->allowed = cut(&at, allowed);
        r->next_free = s->free_requests;
        s->free_requests = r;
    }
    return AXION_OK;
}


uint32_t
ax_server_slots(const struct ax_server *s, const struct ax_engine *engine)
{
    return s->options.max_queue + PARKED_FACTOR * engine->sequences;
}


int
ax_server_give_costs(struct ax_server *s)
{
    const struct ax_cost *cost = &s->engine->cost;
    struct ax_sched_cost costs[AX_COST_POINTS_MAX];
    for (uint32_t i = 0; i < cost->n_points; i++) {
        uint32_t n = cost->points[i].tokens;
        costs[i] = (struct ax_sched_cost){
            .n_tokens = n, .us = (uint32_t)ax_cost_of(cost, n) + 1};
    }
    int rc = ax_sched_set_costs(s->sched, costs, cost->n_points);
    return rc != AXION_OK ? rc
                          : ax_sched_set_key_costs(s->sched, cost->key_us,
                                                   cost->key_query_us);
}


int
ax_server_requests_open(struct ax_server *s, struct ax_error *err)
{
    const struct ax_engine *e = s->engine;
    s->n_requests = ax_server_slots(s, e);
    struct ax_sched_options options = {
        .slots_max = s->n_requests,
        .running_max = e->sequences,
        .batch_tokens_max = e->batch_tokens,
        .kv_blocks_total = ax_kv_blocks_total(e->kv),
        .kv_block_tokens = AX_KV_BLOCK_TOKENS,
        .queue_max = s->options.max_queue,
        .queue_tokens_max = s->options.max_queue_tokens,
        .tpot_us = s->options.tpot_target_ms * 1000,
        .kv = {.context = s,
               .reserve = kv_reserve,
               .release = kv_release,
               .blocks_free = kv_free,
               .attach = kv_attach,
               .known = kv_known,
               .name = kv_name,
               .alone = kv_alone,
               .missing = kv_missing,
               .needed = kv_needed},
    };
    int rc = ax_sched_open(&s->sched, &options);
    s->step_tokens = calloc(e->batch_tokens, sizeof(*s->step_tokens));
    s->step_sequences = calloc(e->sequences, sizeof(*s->step_sequences));
    s->step_entries = calloc(e->sequences, sizeof(*s->step_entries));
    s->step_draws = calloc(e->logits_rows, sizeof(*s->step_draws));
    /* The longest token, each byte at worst a U+FFFD, behind held text. */
    s->text_out_bytes =
        3 * ((size_t)e->token_bytes_max + 2 * AXION_STOP_BYTES_MAX);
    s->text_out = malloc(s->text_out_bytes);
    if (rc != AXION_OK || s->step_tokens == NULL || s->step_sequences == NULL ||
        s->step_entries == NULL || s->step_draws == NULL ||
        s->text_out == NULL || ax_server_constrain_open(s, err) != AXION_OK ||
        reserve_slots(s) != AXION_OK ||
        ax_kv_key_draw(&s->kv_key) != AXION_OK ||
        getrandom(&s->next_seed, sizeof(s->next_seed), 0) !=
            sizeof(s->next_seed)) {
        return ax_error_set(err, rc != AXION_OK ? rc : AXION_ERR_NO_MEMORY,
                            "cannot reserve %u request slots", s->n_requests);
    }
    ax_kv_key_name_kind(&s->kv_key, ax_kv_shape(e->kv).type,
                        ax_model_ops(e->model)->numerics);
    return ax_server_speculation_open(s, err);
}


void
ax_server_requests_close(struct ax_server *s)
{
    for (uint32_t i = 0; s->requests != NULL && i < s->n_requests; i++) {
        free(s->requests[i].payload);
    }
    ax_sched_close(s->sched);
    ax_spec_close(s->spec);
    free(s->draft_sequences);
    free(s->step_tokens);
    free(s->step_sequences);
    free(s->step_entries);
    free(s->step_draws);
    free(s->text_out);
    ax_server_constrain_close(s);
    free(s->requests);
    if (s->slots_memory != NULL) {
        munmap(s->slots_memory, s->slots_memory_bytes);
    }
}


void
ax_server_forget(struct ax_server *s, struct request *r)
{
    if (r->grammar != NULL) {
        ax_grammar_release(r->grammar);
        r->grammar = NULL;
    }
    r->state = REQUEST_FREE;
    r->next_free = s->free_requests;
    s->free_requests = r;
    s->n_live--;
    s->resident_stale = true;
    (void)ax_server_board_resident(s);
}


static void
free_request(struct ax_server *s, struct request *r)
{
    assert(r->state != REQUEST_FREE && r->state != REQUEST_ENDING &&
           r->payload == NULL && r->kv.n_blocks == 0);
    if (r->state == REQUEST_SCHED) {
        s->board.cached_tokens_total += ax_sched_cached(s->sched, r->slot);
    }
    for (struct request **at = &s->held; r->in_held_list && *at != NULL;
         at = &(*at)->next_held) {
        if (*at == r) {
            *at = r->next_held;
            break;
        }
    }
    r->in_held_list = false;
    ax_spec_forget(s->spec, r->slot);
    ax_draft_model_forget(s->draft, r->slot);
    r->conn = NULL;
    if (r->mask_out) {
        r->state = REQUEST_ENDING;
        ax_helper_drop(&r->job);
    } else {
        ax_server_forget(s, r);
    }
}


/* ---- text work, on the helper's thread ---- */

static int
check_model(const struct ax_engine *e, const struct axion_request_view *view,
            struct ax_error *err)
{
    const char *names[] = {e->id, e->file_id};
    if (view->model.data == NULL || view->model.bytes == 0) {
        return AXION_OK;
    }
    for (int i = 0; i < 2; i++) {
        if (strlen(names[i]) == view->model.bytes &&
            memcmp(names[i], view->model.data, view->model.bytes) == 0) {
            return AXION_OK;
        }
    }
    return ax_error_set(err, AXION_ERR_MODEL_NOT_FOUND,
                        "this engine serves \"%s\"", e->id);
}


static int
take_sampling(struct request *r, const struct axion_request_view *view,
              uint32_t n_vocab, struct ax_error *err)
{
    const struct axion_request_head *head = &view->head;
    uint64_t drawn = r->sampling.seed;
    r->sampling = (struct ax_sampling){
        .temperature = head->temperature,
        .top_p = head->top_p,
        .min_p = head->min_p,
        .repetition_penalty = head->repetition_penalty,
        .presence_penalty = head->presence_penalty,
        .frequency_penalty = head->frequency_penalty,
        .top_k = head->top_k,
        .n_bias = view->n_logit_bias,
        .bias = r->bias,
        .seed = head->flags & AXION_REQUEST_SEED ? head->seed : drawn,
    };
    if (view->n_logit_bias > AXION_LOGIT_BIAS_MAX) {
        return ax_error_set(err, AXION_ERR_INVALID_VALUE,
                            "more than %u logit_bias entries",
                            AXION_LOGIT_BIAS_MAX);
    }
    for (uint32_t i = 0; i < view->n_logit_bias; i++) {
        struct axion_logit_bias bias;
        memcpy(&bias, view->logit_bias + i * sizeof(bias), sizeof(bias));
        r->bias[i] = (struct ax_sampling_bias){bias.token, bias.bias};
    }
    const char *field;
    int rc = ax_sampling_check(&r->sampling, n_vocab, &field);
    if (rc != AXION_OK) {
        return ax_error_set(err, rc, "%s is out of range", field);
    }
    return AXION_OK;
}


static int
open_stream(struct request *r, const struct axion_request_view *view,
            struct ax_error *err)
{
    struct ax_stream_stop stops[AXION_STOP_MAX];
    for (uint32_t i = 0; i < view->n_stops; i++) {
        stops[i] =
            (struct ax_stream_stop){view->stops[i].data, view->stops[i].bytes};
    }
    r->text = ax_stream_init(r->text_memory, text_memory_bytes(), stops,
                             view->n_stops);
    if (r->text == NULL) {
        return ax_error_set(err, AXION_ERR_INVALID_VALUE,
                            "a stop string is empty or too long");
    }
    return AXION_OK;
}


/* Text is counted only as far as the context reaches. */
static int
check_room(struct request *r, bool counted)
{
    uint32_t ctx = r->max_context;
    if (r->n_prompt < ctx) {
        return AXION_OK;
    }
    if (r->n_prompt > ctx && !counted) {
        return ax_error_set(&r->error, AXION_ERR_CONTEXT_LENGTH,
                            "the prompt has more than %u tokens, which is the "
                            "context's size",
                            ctx);
    }
    return ax_error_set(&r->error, AXION_ERR_CONTEXT_LENGTH,
                        "the prompt has %u tokens and the context %u: "
                        "no room for an answer",
                        r->n_prompt, ctx);
}


static void
name_blocks(struct request *r)
{
    struct ax_server *s = r->server;
    uint32_t shared = ax_shared_prefix_match(s->engine->shared_prefix,
                                             r->tokens, r->n_prompt);
    ax_kv_chain_begin(&r->chain, &s->kv_key, r->head.cache_salt, r->head.tenant,
                      shared / AX_KV_BLOCK_TOKENS);
    ax_kv_chain_extend(&r->chain, r->tokens, r->n_prompt);
}


static int
prepare(struct request *r)
{
    const struct ax_engine *e = r->server->engine;
    struct axion_request_view view;
    char why[AX_ERROR_TEXT];
    int rc = axion_request_decode(&view, r->payload, r->payload_bytes, why,
                                  sizeof(why));
    if (rc != AXION_OK) {
        return ax_error_set(&r->error, AXION_ERR_INVALID_REQUEST, "%s", why);
    }
    r->head = view.head;
    r->weight = view.weight;
    r->max_context = view.max_context != 0 && view.max_context < e->ctx
                         ? view.max_context
                         : e->ctx;
    if ((rc = check_model(e, &view, &r->error)) != AXION_OK ||
        (rc = take_sampling(r, &view, e->info->n_vocab, &r->error)) !=
            AXION_OK ||
        (rc = open_stream(r, &view, &r->error)) != AXION_OK ||
        (rc = ax_prompt_of_request(&e->prompts, &view, r->tokens,
                                   r->max_context, &r->n_prompt, &r->error)) !=
            AXION_OK ||
        (rc = check_room(r, view.has_tokens)) != AXION_OK) {
        return rc;
    }
    name_blocks(r);
    return ax_server_take_grammar(r, &view);
}


static void
text_run(struct ax_job *job)
{
    struct request *r = (struct request *)job;
    r->error = (struct ax_error){0};
    r->error.number = prepare(r);
}


/* ---- SUBMIT ---- */

static int
submit_refusal(struct ax_server *s, size_t payload_bytes, uint32_t *retry_ms)
{
    *retry_ms = 0;
    if (s->state == AXION_ENGINE_LOADING) {
        *retry_ms = LOADING_RETRY_MS;
        return AXION_ERR_ENGINE_LOADING;
    }
    if (s->state != AXION_ENGINE_READY) {
        return AXION_ERR_ENGINE_DRAINING;
    }
    if (s->free_requests == NULL ||
        (s->text_bytes > 0 && s->text_bytes + payload_bytes > TEXT_BYTES_MAX)) {
        *retry_ms = ax_sched_retry_after_ms(s->sched, 0);
        return AXION_ERR_QUEUE_FULL;
    }
    return AXION_OK;
}


/* Tenants take turns, whichever workers they come through; what has no
 * tenant takes its channel's.  The payload is not checked yet: a worker that
 * lies moves only places that are its own to give. */
static uint64_t
turn_of(const struct conn *conn, const uint8_t *payload, size_t bytes)
{
    struct axion_request_head head = {0};
    if (bytes >= sizeof(head)) {
        memcpy(&head, payload, sizeof(head));
    }
    return head.tenant != 0 ? head.tenant
                            : (uint64_t)axion_channel_pid(conn->channel);
}


void
ax_server_submit(struct ax_server *s, struct conn *conn,
                 const struct axion_command *command)
{
    uint32_t retry_ms;
    s->board.requests_total++;
    int rc = submit_refusal(s, command->payload_bytes, &retry_ms);
    uint8_t *payload = NULL;
    if (rc == AXION_OK && (payload = malloc(command->payload_bytes)) == NULL) {
        rc = AXION_ERR_NO_MEMORY;
    }
    if (rc != AXION_OK) {
        s->board.requests_refused++;
        axion_channel_error(conn->channel, command->id, rc, retry_ms, NULL);
        ax_log(s->log, axion_error_info(rc)->level,
               "request %" PRIu64 " of %s refused: %s", command->id,
               axion_channel_name(conn->channel), axion_error_info(rc)->name);
        return;
    }
    memcpy(payload, command->payload, command->payload_bytes);
    struct request *r = s->free_requests;
    s->free_requests = r->next_free;
    s->n_live++;
    assert(r->state == REQUEST_FREE && r->kv.n_blocks == 0);
    r->state = REQUEST_TEXT;
    r->conn = conn;
    r->id = command->id;
    r->payload = payload;
    r->payload_bytes = command->payload_bytes;
    r->lease_tokens = command->lease_tokens;
    r->lease_id = command->lease_id;
    r->submitted_us = ax_server_now_us();
    r->started_us = r->first_us = r->last_us = 0;
    r->paused = r->lease_refused = r->output_held = false;
    r->n_prompt = r->n_tokens = 0;
    r->drafted = r->accepted = 0;
    r->grammar = NULL;
    r->mask_out = false;
    /* Steps of an odd constant: all seeds of one run differ. */
    r->sampling.seed = s->next_seed += 0x9e3779b97f4a7c15u;
    s->text_bytes += command->payload_bytes;
    axion_channel_set_user(conn->channel, command->id, r);
    r->job.run = text_run;
    r->job.key = turn_of(conn, payload, r->payload_bytes);
    ax_helper_submit(s->helper, &r->job);
}


/* ---- ends ---- */

static uint32_t
elapsed_us(uint64_t from, uint64_t to)
{
    if (from == 0 || to <= from) {
        return 0;
    }
    return to - from < UINT32_MAX ? (uint32_t)(to - from) : UINT32_MAX;
}


struct axion_cq_done
ax_server_done_of(const struct ax_server *s, const struct request *r,
                  unsigned reason)
{
    struct axion_cq_done done = {
        .reason = reason,
        .queue_us = elapsed_us(r->submitted_us, r->started_us),
        .prefill_us = elapsed_us(r->started_us, r->first_us),
        .decode_us = elapsed_us(r->first_us, r->last_us),
    };
    /* Before that the prompt's count is the helper's. */
    if (r->state == REQUEST_SCHED) {
        done.prompt_tokens = r->n_prompt;
        done.completion_tokens = r->n_tokens - r->n_prompt;
        done.cached_tokens = ax_sched_cached(s->sched, r->slot);
        done.drafted_tokens = r->drafted;
        done.accepted_tokens = r->accepted;
        done.preemptions = ax_sched_preemptions(s->sched, r->slot);
    }
    return done;
}


static void
log_end(const struct ax_server *s, const struct request *r, const char *how,
        const struct axion_cq_done *done)
{
    ax_log(s->log, AXION_LOG_info,
           "request %" PRIu64 " of %s: %s, %u+%u tokens, %u cached, queue %u "
           "us, prefill %u us, decode %u us, preempted %u times, %u of %u "
           "drafts held",
           r->id,
           r->conn != NULL ? axion_channel_name(r->conn->channel) : "nobody",
           how, done->prompt_tokens, done->completion_tokens,
           done->cached_tokens, done->queue_us, done->prefill_us,
           done->decode_us, done->preemptions, done->accepted_tokens,
           done->drafted_tokens);
}


/* Its last record is on the way: text work that has not begun is spared. */
static void
let_go(struct request *r)
{
    r->conn = NULL;
    if (r->state == REQUEST_TEXT) {
        ax_helper_drop(&r->job);
    }
}


static void
send_done(struct ax_server *s, struct request *r, unsigned reason)
{
    static const char *const names[] = {"", "stop", "length", "lease",
                                        "cancelled"};
    struct axion_cq_done done = ax_server_done_of(s, r, reason);
    log_end(s, r, names[reason], &done);
    if (r->conn != NULL && !r->conn->dead) {
        axion_channel_done(r->conn->channel, r->id, &done);
    }
    let_go(r);
}


/* The text that was held back for a stop string or an open character.  Its
 * room was kept with the last token's, by writable(), however long ago that
 * was and whatever the stream waits for since. */
static void
send_held_text(struct ax_server *s, struct request *r)
{
    if (ax_stream_stopped(r->text)) {
        return;
    }
    size_t n = ax_stream_finish(r->text, s->text_out);
    if (n > 0) {
        int rc = axion_channel_tokens(r->conn->channel, r->id, NULL, 0,
                                      s->text_out, (uint32_t)n, NULL, 0);
        assert(rc == AXION_OK);
    }
}


void
ax_server_done(struct ax_server *s, struct request *r, unsigned reason)
{
    assert(r->state == REQUEST_SCHED && r->conn != NULL);
    send_held_text(s, r);
    send_done(s, r, reason);
    s->board.requests_done++;
    ax_sched_finish(s->sched, r->slot, ax_server_now_us());
    free_request(s, r);
}


static void
send_error(struct ax_server *s, struct request *r, int error, uint32_t retry_ms,
           const char *detail)
{
    size_t shown = detail != NULL ? axion_error_log_bytes(error, detail) : 0;
    ax_log(s->log, axion_error_info(error)->level,
           "request %" PRIu64 " of %s: %s%s%.*s", r->id,
           r->conn != NULL ? axion_channel_name(r->conn->channel) : "nobody",
           axion_error_info(error)->name, shown > 0 ? ": " : "", (int)shown,
           shown > 0 ? detail : "");
    if (r->conn == NULL) {
        return;
    }
    if (error == AXION_ERR_LEASE_TOO_SMALL) {
        axion_channel_lease_too_small(r->conn->channel, r->id, r->n_prompt);
    } else {
        axion_channel_error(r->conn->channel, r->id, error, retry_ms, detail);
    }
    let_go(r);
}


void
ax_server_fail(struct ax_server *s, struct request *r, int error,
               uint32_t retry_ms, const char *detail)
{
    assert(r->state == REQUEST_SCHED);
    send_error(s, r, error, retry_ms, detail);
    s->board.requests_failed++;
    ax_sched_finish(s->sched, r->slot, ax_server_now_us());
    free_request(s, r);
}


void
ax_server_fail_all(struct ax_server *s, int error, const char *detail)
{
    for (uint32_t i = 0; i < s->n_requests; i++) {
        struct request *r = &s->requests[i];
        if (r->state == REQUEST_SCHED) {
            ax_server_fail(s, r, error, 0, detail);
        } else if (r->state == REQUEST_TEXT && r->conn != NULL) {
            send_error(s, r, error, 0, detail);
            s->board.requests_failed++;
        }
    }
}


void
ax_server_cancel(struct ax_server *s, struct request *r)
{
    send_done(s, r, AXION_FINISH_CANCELLED);
    s->board.requests_cancelled++;
    if (r->state == REQUEST_SCHED &&
        ax_sched_cancel(s->sched, r->slot) == AXION_OK) {
        free_request(s, r);
    }
}


/* ---- other commands ---- */

void
ax_server_pause(struct ax_server *s, struct request *r, bool pause)
{
    r->paused = pause;
    if (r->state != REQUEST_SCHED) {
        return;
    }
    if (pause) {
        ax_sched_hold(s->sched, r->slot, AX_HOLD_PAUSE);
    } else {
        ax_sched_unhold(s->sched, r->slot, AX_HOLD_PAUSE);
    }
}


void
ax_server_topup(struct ax_server *s, struct request *r, uint64_t tokens)
{
    if (r->state == REQUEST_SCHED) {
        ax_sched_topup(s->sched, r->slot, tokens);
    } else if (tokens == 0) {
        r->lease_refused = true;
    } else if (r->lease_tokens < UINT64_MAX - tokens) {
        r->lease_tokens += tokens;
    }
}


void
ax_server_hold_output(struct ax_server *s, struct request *r)
{
    ax_sched_hold(s->sched, r->slot, AX_HOLD_OUTPUT);
    r->output_held = true;
    if (!r->in_held_list) {
        r->in_held_list = true;
        r->next_held = s->held;
        s->held = r;
    }
}


void
ax_server_release_outputs(struct ax_server *s)
{
    for (struct request **at = &s->held; *at != NULL;) {
        struct request *r = *at;
        uint32_t bytes =
            (uint32_t)ax_stream_out_max(r->text, s->engine->token_bytes_max);
        /* Cancelled during a step: its place is given back soon. */
        if (r->conn != NULL &&
            !axion_channel_writable(r->conn->channel, r->id, bytes)) {
            at = &r->next_held;
            continue;
        }
        if (r->conn != NULL) {
            ax_sched_unhold(s->sched, r->slot, AX_HOLD_OUTPUT);
        }
        r->output_held = r->in_held_list = false;
        *at = r->next_held;
    }
}


/* ---- from the helper to the scheduler ---- */

static void
refuse(struct ax_server *s, struct request *r, int error, uint32_t retry_ms,
       const char *detail)
{
    send_error(s, r, error, retry_ms, detail);
    s->board.requests_refused++;
    free_request(s, r);
}


static void
arrive(struct ax_server *s, struct request *r)
{
    uint32_t room = r->max_context - r->n_prompt;
    r->max_tokens = r->head.max_tokens != 0 && r->head.max_tokens < room
                        ? r->head.max_tokens
                        : room;
    r->n_tokens = r->n_prompt;
    uint32_t cached =
        ax_kv_known(s->engine->kv, &r->chain, r->tokens, r->n_prompt - 1);
    struct ax_sched_request request = {
        .tenant = r->head.tenant,
        .priority = r->head.priority,
        .weight = r->weight,
        .prompt_tokens = r->n_prompt,
        .max_tokens = r->max_tokens,
        .cached_tokens = cached,
        .lease_tokens = r->lease_tokens,
        .deadline_us = r->head.deadline_ms != 0
                           ? r->submitted_us + r->head.deadline_ms * 1000ull
                           : 0,
    };
    struct ax_sched_arrival arrival;
    int rc = ax_sched_arrive(s->sched, r->slot, &request, ax_server_now_us(),
                             &arrival);
    if (rc != AXION_OK) {
        refuse(s, r, rc, arrival.retry_after_ms, NULL);
        return;
    }
    r->state = REQUEST_SCHED;
    struct axion_cq_accepted accepted = {
        .prompt_tokens = r->n_prompt,
        .cached_tokens = cached,
        .context_tokens = r->max_context,
        .queue_position = arrival.queue_position,
    };
    axion_channel_accepted(r->conn->channel, r->id, &accepted);
    if (r->paused) {
        ax_sched_hold(s->sched, r->slot, AX_HOLD_PAUSE);
    }
    if (r->lease_refused) {
        ax_sched_topup(s->sched, r->slot, 0);
    }
    if (r->grammar != NULL) {
        ax_server_constrain(s, r);
    }
}


/* Grammars in use leave no room for one more: as requests end, it comes. */
static uint32_t
retry_of(const struct ax_server *s, const struct request *r)
{
    return r->error.number == AXION_ERR_QUEUE_FULL
               ? ax_sched_retry_after_ms(s->sched, r->n_prompt)
               : 0;
}


void
ax_server_take_text(struct ax_server *s)
{
    struct ax_job *job = ax_helper_take(s->helper);
    while (job != NULL) {
        struct request *r = (struct request *)job;
        job = job->next;
        if (ax_server_constrained(s, r)) {
            continue;
        }
        s->text_bytes -= r->payload_bytes;
        free(r->payload);
        r->payload = NULL;
        if (r->conn == NULL) {
            free_request(s, r); /* cancelled meanwhile, and told so */
        } else if (r->error.number != AXION_OK) {
            refuse(s, r, r->error.number, retry_of(s, r), r->error.text);
        } else {
            arrive(s, r);
        }
    }
}


void
ax_server_on_helper(struct ax_server *s, struct source *source)
{
    (void)source;
    ax_server_take_text(s);
}


/* ---- what the scheduler says ---- */

void
ax_server_take_events(struct ax_server *s)
{
    struct ax_sched_event event;
    while (ax_sched_event(s->sched, &event) == AXION_OK) {
        struct request *r = &s->requests[event.slot];
        switch (event.kind) {
        case AX_SCHED_STARTED:
            r->started_us = ax_server_now_us();
            s->board.prompt_tokens_total += r->n_prompt;
            break;
        case AX_SCHED_PREEMPTED:
            ax_log(s->log, AXION_LOG_info,
                   "request %" PRIu64 " of %s preempted at %u tokens: KV is "
                   "full",
                   r->id, axion_channel_name(r->conn->channel), r->n_tokens);
            break;
        case AX_SCHED_LEASE_LOW: {
            struct axion_cq_lease_low low = {.spent_tokens = event.spent,
                                             .left_tokens = event.left,
                                             .wanted_tokens = event.wanted};
            axion_channel_lease_low(r->conn->channel, r->id, &low);
            break;
        }
        case AX_SCHED_LEASE_END:
            ax_server_done(s, r, AXION_FINISH_LEASE);
            break;
        case AX_SCHED_DEADLINE:
            send_error(s, r, AXION_ERR_DEADLINE,
                       ax_sched_retry_after_ms(s->sched, r->n_prompt), NULL);
            s->board.requests_failed++;
            free_request(s, r);
            break;
        case AX_SCHED_CANCELLED:
            free_request(s, r);
            break;
        }
    }
}
