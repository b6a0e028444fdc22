/*
 * Chunks and whole answers in OpenAI's shape.  The two kinds (chat, text
 * completion) and the two forms (streamed, whole) differ in a handful of
 * fixed strings, kept in one table; everything else is common.
 */
#include "api/response.h"

#include <assert.h>
#include <string.h>
#include "api/json.h"

/* All fixed text of one call together stays below this. */
#define FIXED_BYTES_MAX 1536u

struct response_shape {
    const char *object; /* value of "object" */
    const char *open;   /* of a choice, up to the text's opening quote */
    const char *close;  /* from the closing quote to the finish reason */
    const char *last;   /* a choice without text, to the finish reason */
};

static const struct response_shape chat_chunk = {
    "chat.completion.chunk",
    "[{\"index\":0,\"delta\":{\"content\":\"",
    "\"},\"logprobs\":null,\"finish_reason\":",
    "[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":",
};

static const struct response_shape text_chunk = {
    "text_completion",
    "[{\"index\":0,\"text\":\"",
    "\",\"logprobs\":null,\"finish_reason\":",
    "[{\"index\":0,\"text\":\"\",\"logprobs\":null,\"finish_reason\":",
};

static const struct response_shape chat_whole = {
    "chat.completion",
    "[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"",
    "\",\"refusal\":null},\"logprobs\":null,\"finish_reason\":",
    NULL,
};

static const struct response_shape text_whole = {
    "text_completion",
    "[{\"index\":0,\"text\":\"",
    "\",\"logprobs\":null,\"finish_reason\":",
    NULL,
};


static const struct response_shape *
response_shape(const struct axion_response *response)
{
    int chat = response->options.kind == AXION_REQUEST_CHAT;

    if (response->options.stream)
        return chat ? &chat_chunk : &text_chunk;
    return chat ? &chat_whole : &text_whole;
}


static void
make_id(struct axion_response *response)
{
    static const char hex[] = "0123456789abcdef";
    const uint8_t *random = response->options.random;
    const char *prefix =
        response->options.kind == AXION_REQUEST_CHAT ? "chatcmpl-" : "cmpl-";
    size_t n = strlen(prefix), i;

    memcpy(response->id, prefix, n);
    for (i = 0; i < sizeof(response->options.random); i++) {
        response->id[n++] = hex[random[i] >> 4];
        response->id[n++] = hex[random[i] & 15];
    }
    assert(n < sizeof(response->id));
    response->id[n] = '\0';
}


int
axion_response_open(struct axion_response *response,
                    const struct axion_response_options *options,
                    const struct axion_memory *memory)
{
    const struct axion_text *model = &options->model;
    const struct axion_text *fingerprint = &options->fingerprint;
    struct axion_out out;

    memset(response, 0, sizeof(*response));
    response->options = *options;
    make_id(response);
    axion_out_grow(&out, memory, 256 + model->bytes, SIZE_MAX / 4);
    axion_out_text(&out, options->stream ? "data: {\"id\":" : "{\"id\":");
    axion_json_quote(&out, response->id, strlen(response->id));
    axion_out_text(&out, ",\"object\":\"");
    axion_out_text(&out, response_shape(response)->object);
    axion_out_text(&out, "\",\"created\":");
    axion_out_u64(&out, options->created);
    axion_out_text(&out, ",\"model\":");
    axion_json_quote(&out, model->data, model->bytes);
    axion_out_text(&out, ",\"system_fingerprint\":");
    if (fingerprint->data == NULL)
        axion_out_text(&out, "null");
    else
        axion_json_quote(&out, fingerprint->data, fingerprint->bytes);
    axion_out_text(&out, ",\"choices\":");
    if (axion_out_status(&out) != AXION_OK)
        return AXION_ERR_NO_MEMORY;
    response->prefix.data = out.data;
    response->prefix.bytes = (uint32_t)out.bytes;
    return AXION_OK;
}


static void
put_prefix(const struct axion_response *response, struct axion_out *out)
{
    axion_out_bytes(out, response->prefix.data, response->prefix.bytes);
}


/* Behind the choices of a chunk that is not the last one. */
static void
put_chunk_tail(const struct axion_response *response, struct axion_out *out)
{
    axion_out_text(out, response->options.include_usage ? ",\"usage\":null}\n\n"
                                                        : "}\n\n");
}


void
axion_response_begin(struct axion_response *response, struct axion_out *out)
{
    assert(!response->begun);
    response->begun = 1;
    if (!response->options.stream) {
        put_prefix(response, out);
        axion_out_text(out, response_shape(response)->open);
        return;
    }
    if (response->options.kind != AXION_REQUEST_CHAT)
        return;
    put_prefix(response, out);
    axion_out_text(out, "[{\"index\":0,\"delta\":{\"role\":\"assistant\","
                        "\"content\":\"\"},\"logprobs\":null,"
                        "\"finish_reason\":null}]");
    put_chunk_tail(response, out);
}


void
axion_response_text(struct axion_response *response, struct axion_out *out,
                    const char *text, size_t bytes)
{
    const struct response_shape *shape = response_shape(response);

    assert(response->begun);
    if (!response->options.stream) {
        axion_json_escape(out, text, bytes);
        return;
    }
    if (bytes == 0)
        return;
    put_prefix(response, out);
    axion_out_text(out, shape->open);
    axion_json_escape(out, text, bytes);
    axion_out_text(out, shape->close);
    axion_out_text(out, "null}]");
    put_chunk_tail(response, out);
}


static void
put_number(struct axion_out *out, const char *key, uint64_t value)
{
    axion_out_text(out, key);
    axion_out_u64(out, value);
}


void
axion_response_usage(struct axion_out *out, const struct axion_cq_done *done)
{
    put_number(out, ",\"usage\":{\"prompt_tokens\":", done->prompt_tokens);
    put_number(out, ",\"completion_tokens\":", done->completion_tokens);
    put_number(out, ",\"total_tokens\":",
               (uint64_t)done->prompt_tokens + done->completion_tokens);
    put_number(out, ",\"prompt_tokens_details\":{\"cached_tokens\":",
               done->cached_tokens);
    axion_out_text(out, "}}");
}


static double
per_second(uint32_t n, uint32_t us)
{
    return us == 0 ? 0 : n * 1e6 / us;
}


/* llama-server's extension, by its names, since its clients read it. */
static void
put_timings(struct axion_out *out, const struct axion_cq_done *done)
{
    uint32_t computed = done->prompt_tokens > done->cached_tokens
                            ? done->prompt_tokens - done->cached_tokens
                            : 0;
    /* The first token is the prefill's: decode_us spans the others. */
    uint32_t decoded =
        done->completion_tokens > 0 ? done->completion_tokens - 1 : 0;

    put_number(out, ",\"timings\":{\"cache_n\":", done->cached_tokens);
    put_number(out, ",\"prompt_n\":", computed);
    axion_out_text(out, ",\"prompt_ms\":");
    axion_out_decimal(out, done->prefill_us / 1e3, 3);
    axion_out_text(out, ",\"prompt_per_second\":");
    axion_out_decimal(out, per_second(computed, done->prefill_us), 3);
    put_number(out, ",\"predicted_n\":", done->completion_tokens);
    axion_out_text(out, ",\"predicted_ms\":");
    axion_out_decimal(out, done->decode_us / 1e3, 3);
    axion_out_text(out, ",\"predicted_per_second\":");
    axion_out_decimal(out, per_second(decoded, done->decode_us), 3);
    axion_out_text(out, ",\"queue_ms\":");
    axion_out_decimal(out, done->queue_us / 1e3, 3);
    if (done->drafted_tokens != 0) {
        put_number(out, ",\"draft_n\":", done->drafted_tokens);
        put_number(out, ",\"draft_n_accepted\":", done->accepted_tokens);
    }
    axion_out_text(out, "}");
}


void
axion_response_incomplete(struct axion_out *out,
                          const struct axion_failure *why)
{
    axion_out_text(out, ",\"incomplete_details\":{\"reason\":\"");
    axion_out_text(out, axion_error_info(why->error)->code);
    axion_out_text(out, "\",\"message\":");
    axion_json_quote(out, why->message, strlen(why->message));
    axion_out_text(out, "}");
}


static void
put_reason(const struct axion_response *response, struct axion_out *out,
           uint32_t reason)
{
    axion_out_text(out, "\"");
    axion_out_text(out, axion_finish_reason_text(reason));
    axion_out_text(out, "\"}]");
    if (response->incomplete != NULL)
        axion_response_incomplete(out, response->incomplete);
}


static void
end_stream(struct axion_response *response, struct axion_out *out,
           const struct axion_cq_done *done)
{
    put_prefix(response, out);
    axion_out_text(out, response_shape(response)->last);
    put_reason(response, out, done->reason);
    if (response->options.include_usage) {
        put_chunk_tail(response, out);
        put_prefix(response, out);
        axion_out_text(out, "[]");
        axion_response_usage(out, done);
    }
    put_timings(out, done);
    axion_out_text(out, "}\n\ndata: [DONE]\n\n");
}


void
axion_response_end(struct axion_response *response, struct axion_out *out,
                   const struct axion_cq_done *done)
{
    assert(response->begun);
    if (response->options.stream) {
        end_stream(response, out, done);
        return;
    }
    axion_out_text(out, response_shape(response)->close);
    put_reason(response, out, done->reason);
    axion_response_usage(out, done);
    put_timings(out, done);
    axion_out_text(out, "}\n");
}


size_t
axion_response_bytes_max(const struct axion_response *response, size_t bytes)
{
    size_t fixed = 2 * (size_t)response->prefix.bytes + FIXED_BYTES_MAX;

    if (response->incomplete != NULL)
        fixed += AXION_MESSAGE_BYTES * AXION_JSON_ESCAPE_MAX;
    if (bytes > (SIZE_MAX - fixed) / AXION_JSON_ESCAPE_MAX)
        return SIZE_MAX;
    return fixed + bytes * AXION_JSON_ESCAPE_MAX;
}


void
axion_response_ping(struct axion_out *out)
{
    axion_out_text(out, ": ping\n\n");
}


const char *
axion_finish_reason_text(uint32_t reason)
{
    return reason == AXION_FINISH_STOP ? "stop" : "length";
}


const char *
axion_finish_reason_name(uint32_t reason)
{
    switch (reason) {
    case AXION_FINISH_STOP:
        return "stop";
    case AXION_FINISH_LENGTH:
        return "length";
    case AXION_FINISH_LEASE:
        return "lease";
    case AXION_FINISH_CANCELLED:
        return "cancelled";
    default:
        return "unknown";
    }
}
