/*
 * Texts to and from a remote, on top of json_walk.h: both are objects of
 * which some members are ours and the rest goes on as it stands.  Line feeds
 * between values become spaces on the way to the client, since an event's data
 * is one line.
 */
#include "api/remote.h"

#include <assert.h>
#include <string.h>
#include "api/json.h"
#include "api/json_walk.h"
#include "api/remote_floor.h"
#include "shm/errors.h"

/* Room for what write() puts around the remote's own bytes. */
#define FIXED_BYTES_MAX                                                        \
    (1024u + (AXION_MESSAGE_BYTES + 64u) * AXION_JSON_ESCAPE_MAX)

/* Members of a request that are the gateway's to say, or nobody's. */
static const char *const request_own[] = {
    "model",
    "stream",
    "stream_options",
    /* vLLM */
    "priority",
    "cache_salt",
    "request_id",
    "kv_transfer_params",
    "vllm_xargs",
    "data_parallel_rank",
    /* SGLang */
    "rid",
    "extra_key",
    "lora_path",
    "session_params",
    "bootstrap_host",
    "bootstrap_port",
    "bootstrap_room",
    "bootstrap_pair_key",
    "routed_dp_rank",
    "disagg_prefill_dp_rank",
    "custom_params",
    "custom_logit_processor", /* code */
    /* TensorRT-LLM */
    "lora_request",
    "disaggregated_params",
    "conversation_params",
    "agent_hierarchy",
    /* in the place of the prompt that was looked at here */
    "prompt_token_ids",
    "prompt_token_ids_b64",
    "input_ids",
    "input_embeds",
    /* llama-server; the last two have the places of max_tokens and n */
    "id_slot",
    "cache_prompt",
    "lora",
    "n_predict",
    "n_cmpl",
};

static const char *const request_bounds[] = {"max_tokens",
                                             "max_completion_tokens"};

/* Members of an answer that are not passed on as they stand. */
static const char *const answer_own[] = {
    "id",      "object", "created", "model",      "system_fingerprint",
    "choices", "usage",  "error",   "request_id", "kv_transfer_params",
};

/* What templates and what is no text add to a prompt, at the very most. */
#define TEMPLATE_TOKENS_MAX 4096u
#define MEDIA_TOKENS_MAX    65536u

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))


static int
is_one_of(const struct axion_text *key, const char *const *names, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        if (axion_walk_is(key, names[i]))
            return 1;
    }
    return 0;
}


/* A good value with spaces for line feeds: outside of strings there are no
 * other controls. */
static void
put_raw(struct axion_out *out, const struct axion_text *value)
{
    const char *at = value->data, *end = at + value->bytes, *p;

    for (p = at; p < end; p++) {
        if (*p == '\n' || *p == '\r') {
            axion_out_bytes(out, at, (size_t)(p - at));
            axion_out_bytes(out, " ", 1);
            at = p + 1;
        }
    }
    axion_out_bytes(out, at, (size_t)(end - at));
}


static void
put_member(struct axion_out *out, const struct axion_text *key,
           const struct axion_text *value)
{
    axion_out_bytes(out, ",", 1);
    put_raw(out, key);
    axion_out_bytes(out, ":", 1);
    put_raw(out, value);
}


static void
put_bound(struct axion_out *out, const char *name, uint32_t max_tokens)
{
    axion_out_text(out, ",\"");
    axion_out_text(out, name);
    axion_out_text(out, "\":");
    axion_out_u64(out, max_tokens);
}


void
axion_remote_request(struct axion_out *out, const void *body, size_t bytes,
                     const struct axion_remote_wish *wish)
{
    struct axion_text whole, key, value;
    struct axion_walk walk;
    unsigned bounds = 0;
    size_t i;

    if (axion_walk_value(body, bytes, &whole) != AXION_OK ||
        !axion_walk_enter(&walk, &whole, '{')) {
        out->error = AXION_ERR_INVALID_JSON;
        return;
    }
    axion_out_text(out, "{\"model\":");
    axion_json_quote(out, wish->model.data, wish->model.bytes);
    axion_out_text(out, wish->stream ? ",\"stream\":true,\"stream_options\":"
                                       "{\"include_usage\":true}"
                                     : ",\"stream\":false");
    while (axion_walk_next(&walk, &key, &value)) {
        if (is_one_of(&key, request_own, COUNT(request_own)))
            continue;
        for (i = 0; i < COUNT(request_bounds); i++) {
            if (axion_walk_is(&key, request_bounds[i]))
                break;
        }
        if (i == COUNT(request_bounds) || wish->max_tokens == 0)
            put_member(out, &key, &value);
        else
            bounds |= 1u << i;
    }
    if (wish->max_tokens != 0) {
        for (i = 0; i < COUNT(request_bounds); i++) {
            if ((bounds & (1u << i)) || (bounds == 0 && i == 0))
                put_bound(out, request_bounds[i], wish->max_tokens);
        }
    }
    axion_out_text(out, "}");
}


/* ---- what the remote says ---- */

static int
is_something(const struct axion_text *value)
{
    if (value->data == NULL)
        return 0;
    if (value->data[0] == '"' || value->data[0] == '[' || value->data[0] == '{')
        return value->bytes > 2;
    return 0;
}


/* Text of any kind in a delta, message or choice. */
static int
has_piece(const struct axion_text *object)
{
    static const char *const names[] = {
        "content",       "reasoning_content", "reasoning", "tool_calls",
        "function_call", "refusal",           "audio"};
    struct axion_text value;
    size_t i;

    for (i = 0; i < COUNT(names); i++) {
        value = axion_walk_find(object, names[i]);
        if (is_something(&value))
            return 1;
    }
    return 0;
}


/* What the tokens of an answer can be told by.  Reasoning goes by two names,
 * with some servers by both at once. */
static void
count_texts(struct axion_remote_answer *answer, const struct axion_text *text,
            const struct axion_text *object)
{
    struct axion_text content = axion_walk_find(object, "content");
    struct axion_text first = axion_walk_find(object, "reasoning_content");
    struct axion_text second = axion_walk_find(object, "reasoning");
    size_t said = axion_floor_bytes(text) + axion_floor_bytes(&content);
    size_t thought = axion_floor_bytes(&first), other;

    other = axion_floor_bytes(&second);
    if (thought < other)
        thought = other;
    answer->n_texts[0] += said != 0;
    answer->n_texts[1] += thought != 0;
    answer->text_bytes += said + thought;
}


static uint32_t
finish_of(const struct axion_text *reason)
{
    return axion_walk_is(reason, "length") ? AXION_FINISH_LENGTH
                                           : AXION_FINISH_STOP;
}


static int
read_choice(struct axion_remote_answer *answer,
            struct axion_remote_chunk *chunk, const struct axion_text *choice)
{
    struct axion_text delta, message, text, reason;

    if (choice->data[0] != '{')
        return AXION_ERR_REMOTE_PROTOCOL;
    delta = axion_walk_find(choice, "delta");
    message = axion_walk_find(choice, "message");
    text = axion_walk_find(choice, "text");
    reason = axion_walk_find(choice, "finish_reason");
    chunk->n_choices++;
    chunk->n_pieces +=
        is_something(&text) || has_piece(&delta) || has_piece(&message);
    count_texts(answer, &text, delta.data != NULL ? &delta : &message);
    if (reason.data != NULL && reason.data[0] == '"') {
        chunk->ended = 1;
        answer->ended = 1;
        answer->reason = finish_of(&reason);
    }
    return AXION_OK;
}


static int
read_choices(struct axion_remote_answer *answer,
             struct axion_remote_chunk *chunk)
{
    struct axion_text choice;
    struct axion_walk walk;
    int error = AXION_OK;

    if (!axion_walk_enter(&walk, &chunk->choices, '['))
        return AXION_ERR_REMOTE_PROTOCOL;
    while (error == AXION_OK && axion_walk_next(&walk, NULL, &choice))
        error = read_choice(answer, chunk, &choice);
    answer->n_pieces += chunk->n_pieces;
    return error;
}


static uint32_t
at_most(uint64_t n, uint32_t max)
{
    return n < max ? (uint32_t)n : max;
}


void
axion_remote_bound(struct axion_remote_answer *answer, size_t body_bytes,
                   uint32_t max_tokens, uint32_t context_tokens,
                   const struct axion_parsed *parsed)
{
    uint32_t all = AXION_REMOTE_TOKENS_MAX;
    uint64_t prompt = (uint64_t)body_bytes + TEMPLATE_TOKENS_MAX +
                      (uint64_t)parsed->n_media * MEDIA_TOKENS_MAX;

    if (context_tokens != 0)
        all = at_most((uint64_t)context_tokens * parsed->n_answers, all);
    answer->prompt_max = at_most(prompt, all);
    answer->completion_max =
        max_tokens != 0 ? at_most((uint64_t)max_tokens * parsed->n_answers, all)
                        : all;
}


/* One chunk of a stream may bring the end of the reasoning and the first text
 * by one token, as two events: so the sum would be too much. */
static uint32_t
completion_min(const struct axion_remote_answer *answer)
{
    uint64_t n = answer->text_bytes / AXION_FLOOR_TOKEN_BYTES;

    if (answer->echoed)
        return 0;
    if (n < answer->n_texts[0])
        n = answer->n_texts[0];
    if (n < answer->n_texts[1])
        n = answer->n_texts[1];
    return at_most(n, UINT32_MAX);
}


/* A number that a server made up must neither empty a tenant's budget nor
 * give away what was used. */
void
axion_remote_settle(struct axion_remote_answer *answer)
{
    uint32_t max[2] = {answer->prompt_max, answer->completion_max};
    uint32_t min[2] = {answer->prompt_min, completion_min(answer)}, n[2];
    int i;

    if (!answer->has_usage)
        return;
    answer->bounded = answer->raised = 0;
    for (i = 0; i < 2; i++) {
        if (max[i] == 0)
            max[i] = AXION_REMOTE_TOKENS_MAX;
        min[i] = answer->believed ? 0 : at_most(min[i], max[i]);
        n[i] = answer->told[i];
        answer->bounded |= n[i] > max[i];
        answer->raised |= n[i] < min[i];
        n[i] = n[i] < min[i] ? min[i] : at_most(n[i], max[i]);
    }
    answer->prompt_tokens = n[0];
    answer->completion_tokens = n[1];
    answer->cached_tokens = at_most(answer->told[2], n[0]);
}


/* An object for form's sake (empty, or of zeros) is none. */
static int
read_usage(struct axion_remote_answer *answer, struct axion_remote_chunk *chunk)
{
    const struct axion_text *usage = &chunk->usage;
    struct axion_text value, details;
    uint32_t n = 0;

    value = axion_walk_find(usage, "prompt_tokens");
    if (value.data != NULL && value.data[0] != 'n' &&
        !axion_walk_u32(&value, &n))
        return AXION_ERR_REMOTE_PROTOCOL;
    if (n == 0) {
        chunk->usage.data = NULL;
        return AXION_OK;
    }
    answer->told[0] = n;
    answer->told[1] = answer->told[2] = 0;
    value = axion_walk_find(usage, "completion_tokens");
    if (value.data != NULL && !axion_walk_u32(&value, &answer->told[1]))
        return AXION_ERR_REMOTE_PROTOCOL;
    details = axion_walk_find(usage, "prompt_tokens_details");
    value = axion_walk_find(&details, "cached_tokens");
    if (axion_walk_u32(&value, &n))
        answer->told[2] = n;
    answer->has_usage = 1;
    axion_remote_settle(answer);
    if (answer->bounded || answer->raised)
        chunk->usage.data = NULL; /* the client reads what is charged */
    return AXION_OK;
}


/* OpenAI's code; llama-server's type; vLLM and SGLang have but words. */
static int
is_too_long(const struct axion_text *error, const char *message)
{
    struct axion_text code = axion_walk_find(error, "code");
    struct axion_text type = axion_walk_find(error, "type");

    return axion_walk_is(&code, "context_length_exceeded") ||
           axion_walk_is(&type, "exceed_context_size_error") ||
           strstr(message, "context length") != NULL ||
           strstr(message, "context size") != NULL;
}


static void
take_error(struct axion_remote_answer *answer, const struct axion_text *whole)
{
    /* {"error":{…}} (OpenAI), {"error":"…"}, {"message":…} (vLLM's old form),
     * {"detail":…} (FastAPI) */
    struct axion_text error = axion_walk_find(whole, "error"), text, param;

    answer->error = 1;
    if (error.data == NULL || error.data[0] == 'n')
        error = *whole;
    text = error;
    if (error.data[0] == '{') {
        text = axion_walk_find(&error, "message");
        if (text.data == NULL)
            text = axion_walk_find(&error, "detail");
    }
    param = axion_walk_find(&error, "param");
    axion_walk_text(&text, answer->message, sizeof(answer->message));
    axion_walk_text(&param, answer->param, sizeof(answer->param));
    answer->too_long = is_too_long(&error, answer->message);
}


void
axion_remote_read_error(struct axion_remote_answer *answer, const char *text,
                        size_t bytes)
{
    struct axion_text whole;

    answer->error = 1;
    answer->message[0] = '\0';
    answer->param[0] = '\0';
    if (axion_walk_value(text, bytes, &whole) == AXION_OK &&
        whole.data[0] == '{')
        take_error(answer, &whole);
}


int
axion_remote_read(struct axion_remote_answer *answer,
                  struct axion_remote_chunk *chunk, const char *text,
                  size_t bytes)
{
    struct axion_text error;
    int rc;

    memset(chunk, 0, sizeof(*chunk));
    if (axion_walk_value(text, bytes, &chunk->whole) != AXION_OK ||
        chunk->whole.data[0] != '{')
        return AXION_ERR_REMOTE_PROTOCOL;
    chunk->choices = axion_walk_find(&chunk->whole, "choices");
    error = axion_walk_find(&chunk->whole, "error");
    if ((error.data != NULL && error.data[0] != 'n') ||
        (chunk->choices.data == NULL &&
         axion_walk_find(&chunk->whole, "message").data != NULL)) {
        take_error(answer, &chunk->whole);
        return AXION_ERR_REMOTE_FAILED;
    }
    chunk->object = axion_walk_find(&chunk->whole, "object");
    rc = read_choices(answer, chunk);
    if (rc != AXION_OK)
        return rc;
    chunk->usage = axion_walk_find(&chunk->whole, "usage");
    if (chunk->usage.data != NULL && chunk->usage.data[0] == 'n')
        chunk->usage.data = NULL;
    return chunk->usage.data == NULL ? AXION_OK : read_usage(answer, chunk);
}


/* ---- what the client gets ---- */

static void
done_of(struct axion_cq_done *done, const struct axion_remote_answer *answer)
{
    memset(done, 0, sizeof(*done));
    done->prompt_tokens = answer->prompt_tokens;
    done->cached_tokens = answer->cached_tokens;
    done->completion_tokens = answer->completion_tokens;
}


static void
put_usage(struct axion_out *out, const struct axion_response *response,
          const struct axion_remote_chunk *chunk,
          struct axion_remote_answer *answer)
{
    struct axion_cq_done done;

    if (!response->options.stream) {
        if (chunk->usage.data != NULL) {
            axion_out_text(out, ",\"usage\":");
            put_raw(out, &chunk->usage);
        } else {
            done_of(&done, answer);
            axion_response_usage(out, &done);
        }
        return;
    }
    if (!response->options.include_usage)
        return;
    axion_out_text(out, ",\"usage\":");
    if (chunk->usage.data != NULL && chunk->n_choices == 0) {
        put_raw(out, &chunk->usage);
        answer->usage_sent = 1;
    } else {
        axion_out_text(out, "null");
    }
}


void
axion_remote_write(struct axion_out *out, const struct axion_response *response,
                   const struct axion_remote_chunk *chunk,
                   struct axion_remote_answer *answer)
{
    struct axion_text key, value;
    struct axion_walk walk;
    int entered;

    if (chunk->n_choices == 0 && response->options.stream &&
        (chunk->usage.data == NULL || !response->options.include_usage))
        return;
    axion_out_bytes(out, response->prefix.data, response->prefix.bytes);
    put_raw(out, &chunk->choices);
    put_usage(out, response, chunk, answer);
    if (chunk->ended && response->incomplete != NULL)
        axion_response_incomplete(out, response->incomplete);
    entered = axion_walk_enter(&walk, &chunk->whole, '{');
    assert(entered);
    while (axion_walk_next(&walk, &key, &value)) {
        if (!is_one_of(&key, answer_own, COUNT(answer_own)))
            put_member(out, &key, &value);
    }
    axion_out_text(out, response->options.stream ? "}\n\n" : "}\n");
}


void
axion_remote_end(struct axion_out *out, const struct axion_response *response,
                 const struct axion_remote_answer *answer,
                 const struct axion_cq_done *done)
{
    if (response->options.include_usage && !answer->usage_sent) {
        axion_out_bytes(out, response->prefix.data, response->prefix.bytes);
        axion_out_text(out, "[]");
        axion_response_usage(out, done);
        axion_out_text(out, "}\n\n");
    }
    axion_out_text(out, "data: [DONE]\n\n");
}


size_t
axion_remote_bytes_max(const struct axion_response *response, size_t bytes)
{
    return response->prefix.bytes + FIXED_BYTES_MAX + bytes;
}
