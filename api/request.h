/*
 * The body of POST /v1/chat/completions and /v1/completions → the payload of
 * a SUBMIT record (shm/request.h).  Strict where a mistake would change what
 * is generated, lenient where OpenAI's clients expect it:
 *
 *   - a wrong type or range is INVALID_TYPE or INVALID_VALUE with the path
 *     of the field in `param`, like messages[2].content[0].type
 *   - null stands for "not given" everywhere
 *   - a field that OpenAI knows and Axion does not do yet is
 *     UNSUPPORTED_FIELD, unless its value asks for nothing (tools: [],
 *     n: 1, logprobs: false)
 *   - a field that nobody knows is ignored, whatever it holds
 *   - INVALID_JSON: anything that RFC 8259 does not allow, a key given
 *     twice in one object, a byte order mark, text behind the value, invalid
 *     UTF-8, lone surrogates, a number out of double's or int64's range,
 *     nesting deeper than AXION_JSON_DEPTH_MAX; the message has the offset
 *   - U+0000 is allowed in texts (the tokenizer counts bytes), not in names:
 *     model, role, name, object keys
 *
 * Integers must be written as such or as 5.0; 1.5, "5" and true are wrong.
 * max_completion_tokens wins over max_tokens.  What identity decides
 * (tenant, cache realm, priority) comes from the options, a deadline from
 * axion_parsed_deadline(), and none of it from the body.
 */
#ifndef AXION_API_REQUEST_H
#define AXION_API_REQUEST_H

#include <stddef.h>
#include <stdint.h>
#include "api/error.h"
#include "api/memory.h"
#include "api/tenant.h"
#include "shm/request.h"

#define AXION_JSON_DEPTH_MAX  64u
#define AXION_PARTS_MAX       4096u /* content parts, all messages */
#define AXION_MODEL_BYTES_MAX 256u
#define AXION_USER_BYTES_MAX  512u
#define AXION_METADATA_MAX    16u
#define AXION_TEMPERATURE_MAX 100.0
#define AXION_REPETITION_MAX  100.0
#define AXION_ANSWERS_MAX     1024u /* of a remote: choices times prompts */

struct axion_parse_options {
    size_t payload_bytes_max;  /* of the ring: axion_client_payload_max() */
    uint64_t tenant;           /* axion_tenant.number, 0: nobody */
    const uint8_t *cache_salt; /* 16 bytes; NULL: zeros */
    uint32_t priority;         /* 0 low, 1 normal, 2 high */
    uint32_t weight;           /* of the tenant beside others; 0: 1 */
    uint32_t max_context;      /* prompt and output, tokens; 0: the model's */
    uint32_t max_output;       /* what max_tokens is cut down to; 0: none */
    const struct axion_tenant *aliases; /* whose they are; NULL: none */
    int remote; /* a remote may do what engines cannot */
};

struct axion_parsed {
    enum axion_request_kind kind;
    unsigned stream : 1;
    unsigned include_usage : 1;
    unsigned remote_only : 1; /* no engine can do it; see the parser */
    uint32_t max_tokens;      /* of each answer; 0: to the end of the context */
    uint32_t n_answers;       /* 1, or more if remote_only */
    uint32_t n_messages;
    struct axion_text model;  /* asked for; copied, NUL behind it */
    struct axion_text served; /* what stands behind it, for the engine */
    struct axion_text user;   /* copied; data NULL: not given */
    uint8_t *payload;         /* for axion_client_submit(); NULL: remote_only */
    size_t payload_bytes;     /* of the body's text, if there is no payload */
    size_t text_bytes;        /* of messages or the prompt (beside its ids),
                               * or as above */
    uint32_t n_media;         /* parts that are no text, if remote_only */
    uint32_t n_tokens;        /* of prompts that came as ids; 0: as text */
};

/*
 * AXION_OK with *parsed filled from `memory`, or the error, which is in
 * *failure as well, with param and message.  `body` may be anything.
 *
 * With options->remote what would be UNSUPPORTED_FIELD is AXION_OK with
 * parsed->remote_only, and *failure is what to say where no remote takes it.
 */
int axion_request_parse(struct axion_parsed *parsed,
                        enum axion_request_kind kind, const void *body,
                        size_t bytes, const struct axion_parse_options *options,
                        const struct axion_memory *memory,
                        struct axion_failure *failure);

/* How long the engine has for the first token, from the submit at hand on; 0:
 * as long as it takes.  Of a request with a payload. */
void axion_parsed_deadline(struct axion_parsed *parsed, uint32_t deadline_ms);

#endif
