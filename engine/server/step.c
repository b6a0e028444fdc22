/*
 * One step: what the scheduler composed, with drafts (speculate.c), becomes
 * the executor's flat list of tokens; the rows of logits become tokens, text
 * and events.
 *
 * While it computes, the hook between layers takes commands and finished text
 * work, so that a refusal or ACCEPTED does not wait for the step, a cancel is
 * known before its end, and a step that nobody waits for any more is dropped.
 */
#include "engine/server/server_private.h"

#include <assert.h>
#include <string.h>

#define HEARTBEAT_US 100000u /* in a long step the board still moves */


void
ax_server_between_layers(struct ax_server *s)
{
    ax_server_take_commands(s);
    ax_server_take_text(s);
    ax_server_flush(s);
    if (ax_server_now_us() - s->published_us > HEARTBEAT_US) {
        ax_server_publish(s);
    }
}


static int
at_layer(void *context, uint32_t layer)
{
    struct ax_server *s = context;
    (void)layer;
    ax_server_between_layers(s);
    if (s->load == LOAD_PACKING && ax_server_waits_in_vain(s)) {
        return AXION_AGAIN;
    }
    return s->ended || ax_sched_abandoned(s->sched) ? AXION_AGAIN : 0;
}


static uint32_t
rows_of(const struct ax_sched_entry *entry)
{
    return entry->samples ? 1 + entry->n_drafts : 0;
}


static void
fill(struct ax_server *s, const struct ax_sched_step *plan,
     struct ax_step *step)
{
    uint32_t n = 0, row = 0;
    for (uint32_t i = 0; i < plan->n_entries; i++) {
        const struct ax_sched_entry *entry = &plan->entries[i];
        struct request *r = &s->requests[entry->slot];
        s->step_sequences[i] = &r->kv;
        uint32_t first_row = entry->n_tokens - rows_of(entry);
        for (uint32_t k = 0; k < entry->n_tokens; k++) {
            s->step_tokens[n++] = (struct ax_step_token){
                .token = r->tokens[entry->position + k],
                .position = entry->position + k,
                .sequence = i,
                .logits_row = k >= first_row ? row++ : AX_NO_LOGITS,
            };
        }
    }
    *step = (struct ax_step){
        .tokens = s->step_tokens,
        .n_tokens = n,
        .n_sequences = plan->n_entries,
        .sequences = s->step_sequences,
        .logits = s->engine->logits,
        .n_logits = row,
        .at_layer = at_layer,
        .context = s,
    };
}


/* Text of one token that may be shown now, into text_out. */
static uint32_t
text_of(struct ax_server *s, struct request *r, int32_t token)
{
    char bytes[AX_TOKENIZER_TOKEN_BYTES_MAX];
    size_t n = ax_tokenizer_decode_token(s->engine->tokenizer, token, false,
                                         bytes, sizeof(bytes));
    assert(n <= sizeof(bytes) &&
           ax_stream_out_max(r->text, n) <= s->text_out_bytes);
    return (uint32_t)ax_stream_push(r->text, bytes, n, s->text_out);
}


/* true: the sequence goes on, and its channel has room for one more. */
static bool
answer(struct ax_server *s, struct request *r, int32_t token, uint64_t now_us)
{
    uint32_t id = (uint32_t)token, text_bytes = 0;
    r->tokens[r->n_tokens++] = token;
    r->last_us = now_us;
    if (r->first_us == 0) {
        r->first_us = now_us;
    }
    s->board.completion_tokens_total++;
    unsigned reason = ax_sched_sampled(s->sched, r->slot);
    if (ax_tokenizer_is_eog(s->engine->tokenizer, token) &&
        (r->head.flags & AXION_REQUEST_IGNORE_EOS) == 0) {
        reason = AXION_FINISH_STOP;
    } else {
        text_bytes = text_of(s, r, token);
        if (ax_stream_stopped(r->text)) {
            reason = AXION_FINISH_STOP;
        }
    }
    int rc = axion_channel_tokens(r->conn->channel, r->id, &id, 1, s->text_out,
                                  text_bytes, NULL, 0);
    if (rc != AXION_OK) {
        ax_server_fail(s, r, AXION_ERR_INTERNAL, 0,
                       "a token's text does not fit its channel");
        return false;
    }
    if (reason != 0) {
        ax_server_done(s, r, reason);
        return false;
    }
    uint32_t next =
        (uint32_t)ax_stream_out_max(r->text, s->engine->token_bytes_max);
    if (!axion_channel_writable(r->conn->channel, r->id, next)) {
        ax_server_hold_output(s, r);
        return false;
    }
    return true;
}


/* A long prompt says how far it is; of several only the newest is sent. */
static void
report_progress(struct request *r, const struct ax_sched_entry *entry)
{
    struct axion_cq_progress progress = {
        .prompt_done = entry->position + entry->n_tokens,
        .prompt_tokens = r->n_prompt,
    };
    if (r->n_tokens == r->n_prompt) {
        axion_channel_progress(r->conn->channel, r->id, &progress);
    }
}


/* What others may take over from now on: nothing of the drafts yet. */
static void
publish(struct ax_server *s, uint32_t n_entries)
{
    for (uint32_t i = 0; i < n_entries; i++) {
        const struct ax_sched_entry *entry = &s->step_entries[i];
        struct request *r = &s->requests[entry->slot];
        uint32_t n = entry->position + entry->n_tokens - entry->n_drafts;
        if (r->state == REQUEST_SCHED) {
            ax_kv_chain_extend(&r->chain, r->tokens, n);
            ax_kv_publish(s->engine->kv, &r->kv, &r->chain, r->tokens, n);
        }
    }
}


/* All tokens of the step, on all compute threads; nothing else touches the
 * requests meanwhile.  Who was cancelled during the step gets none.  A row
 * behind drafts has them as its history: it only counts if they held. */
static void
draw_all(struct ax_server *s, uint32_t n_entries)
{
    uint32_t row = 0, n = 0;
    for (uint32_t i = 0; i < n_entries; i++) {
        const struct ax_sched_entry *entry = &s->step_entries[i];
        const struct request *r = &s->requests[entry->slot];
        const float *logits =
            s->engine->logits + (size_t)row * s->engine->info->n_vocab;
        row += rows_of(entry);
        if (r->state != REQUEST_SCHED) {
            continue;
        }
        for (uint32_t k = 0; k < rows_of(entry); k++) {
            s->step_draws[n++] = (struct ax_draw){
                .sampling = &r->sampling,
                .history = {r->tokens, r->n_prompt, r->n_tokens + k},
                .logits = logits + (size_t)k * s->engine->info->n_vocab,
                .allowed = ax_server_allowed(r, k),
            };
        }
    }
    uint64_t start_us = ax_server_now_us();
    ax_drawer_run(s->engine->drawer, s->step_draws, n);
    ax_server_learn_draws(s, n, ax_server_now_us() - start_us);
}


static void
fail_draw(struct ax_server *s, struct request *r, int error)
{
    const char *detail = NULL;
    if (error == AXION_ERR_INVALID_VALUE && r->grammar != NULL) {
        error = AXION_ERR_GRAMMAR_DEAD_END;
        detail = "logit_bias bans every token that the grammar allows";
    } else if (error == AXION_ERR_INVALID_VALUE) {
        detail = "logit_bias bans every token";
    }
    ax_server_fail(s, r, error, 0, detail);
}


/*
 * The verifier.  Each position was sampled as it would be without drafts; the
 * next one counts only if the token drawn is the draft that was computed
 * there.  So what is sent never depends on what was proposed.
 */
static void
verify(struct ax_server *s, struct request *r,
       const struct ax_sched_entry *entry, const struct ax_draw *draws,
       uint64_t now_us)
{
    for (uint32_t i = 0; i <= entry->n_drafts; i++) {
        const struct ax_draw *draw = &draws[i];
        int32_t draft = i < entry->n_drafts ? r->tokens[r->n_tokens] : -1;
        bool held = draw->error == AXION_OK && draw->token == draft;
        assert(draw->history.tokens == r->tokens &&
               draw->history.n_tokens == r->n_tokens);
        if (draw->error != AXION_OK) {
            fail_draw(s, r, draw->error);
            return;
        }
        r->accepted += held;
        s->board.accepted_tokens_total += held;
        ax_spec_sampled(s->spec, r->slot, draw->token);
        if (!answer(s, r, draw->token, now_us) || !held) {
            break;
        }
    }
    if (r->state == REQUEST_SCHED && entry->n_drafts > 0) {
        /* The rest is rolled back: the last token is not computed yet. */
        uint32_t left = ax_kv_truncate(s->engine->kv, &r->kv, r->n_tokens - 1);
        assert(left == r->n_tokens - 1);
    }
    if (r->state == REQUEST_SCHED && r->grammar != NULL) {
        ax_server_constrain(s, r);
    }
}


static void
sample_all(struct ax_server *s, uint32_t n_entries)
{
    const struct ax_draw *next = s->step_draws;
    uint64_t now_us = ax_server_now_us();
    draw_all(s, n_entries);
    for (uint32_t i = 0; i < n_entries; i++) {
        const struct ax_sched_entry *entry = &s->step_entries[i];
        struct request *r = &s->requests[entry->slot];
        if (r->state != REQUEST_SCHED) {
            continue; /* cancelled during the step */
        }
        if (entry->samples) {
            verify(s, r, entry, next, now_us);
            next += rows_of(entry);
        } else {
            report_progress(r, entry);
        }
    }
}


static void
fail_step(struct ax_server *s, uint32_t n_entries, int error)
{
    for (uint32_t i = 0; i < n_entries; i++) {
        struct request *r = &s->requests[s->step_entries[i].slot];
        if (r->state == REQUEST_SCHED) {
            ax_server_fail(s, r, error, 0, "the step failed");
        }
    }
}


bool
ax_server_step(struct ax_server *s)
{
    uint64_t start_us = ax_server_now_us();
    ax_server_constrain_step(s);
    const struct ax_sched_step *plan = ax_sched_next(s->sched, start_us);
    ax_server_take_events(s);
    if (plan->n_entries == 0) {
        return false;
    }
    ax_server_speculate(s, plan);
    struct ax_step step;
    fill(s, plan, &step);
    uint32_t n_entries = plan->n_entries;
    memcpy(s->step_entries, plan->entries,
           n_entries * sizeof(*s->step_entries));

    uint64_t exec_us = ax_server_now_us();
    int rc = ax_exec_step(s->engine->exec, &step);

    /* What a step waited for weights is no part of what steps cost. */
    uint64_t end_us =
        ax_server_now_us() - ax_exec_waited_ns(s->engine->exec) / 1000;
    uint64_t us = end_us - start_us;
    s->board.steps++;
    s->board.step_us_total += us;
    s->board.step_threads_total += ax_exec_threads(s->engine->exec);
    struct ax_exec_times times = ax_exec_times(s->engine->exec);
    s->board.matmul_us_total = times.matmul_ns / 1000;
    s->board.attention_us_total = times.attention_ns / 1000;
    s->board.rows_us_total = times.rows_ns / 1000;
    ax_server_profile_publish(s);
    if (rc == AXION_OK) {
        /* Without the draft model's rounds, which the law counts apart. */
        ax_server_learn_cost(s, plan, end_us - exec_us);
    }
    ax_sched_stepped(s->sched, us, rc == AXION_OK);
    ax_server_take_events(s);
    if (rc == AXION_OK) {
        s->prefilled_total += step.n_tokens - step.n_logits;
        publish(s, n_entries);
        sample_all(s, n_entries);
        ax_server_take_events(s);
    } else if (rc != AXION_AGAIN && !ax_server_packing_failed(s)) {
        fail_step(s, n_entries, rc);
    }
    return true;
}
