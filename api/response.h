/*
 * Events of the ring → what OpenAI's clients read.  One answer is the same
 * three calls whether it is streamed or not:
 *
 *   begin   streamed: the first chunk, with the role (chat)
 *           else:     the object up to the opening quote of the text
 *   text    streamed: one `data: {…}` event with a delta
 *           else:     the escaped text alone
 *   end     streamed: the chunk with finish_reason, the usage chunk if it
 *                     was asked for, `data: [DONE]`
 *           else:     the rest of the object, with usage
 *
 * so an answer that is not streamed grows in its output already escaped.
 * After an error in a stream use axion_failure_sse() instead of end.
 *
 * What is constant in a stream (id, created, model, fingerprint) is rendered
 * once by open(); a delta is then two copies and the escaping of its text.
 * Text from the engine is checked on the way: what is not UTF-8 becomes
 * U+FFFD, so that a broken engine cannot break a client's parser.
 */
#ifndef AXION_API_RESPONSE_H
#define AXION_API_RESPONSE_H

#include <stddef.h>
#include <stdint.h>
#include "api/error.h"
#include "api/memory.h"
#include "shm/request.h"
#include "shm/wire.h"

#define AXION_RESPONSE_ID_BYTES 48u /* "chatcmpl-" and 32 hex digits, NUL */

struct axion_response_options {
    enum axion_request_kind kind;
    int stream;
    int include_usage;
    uint64_t created; /* seconds since the epoch */
    struct axion_text model;
    struct axion_text fingerprint; /* data NULL: null */
    uint8_t random[16];            /* the id's; ids cannot be guessed */
};

struct axion_response {
    struct axion_response_options options;
    char id[AXION_RESPONSE_ID_BYTES];
    struct axion_text prefix; /* of every event, up to "choices": */
    /* Why end() ends it early, told as "incomplete_details"; NULL: it does
     * not.  ("error" in a chunk would make SDKs throw the answer away.) */
    const struct axion_failure *incomplete;
    unsigned begun : 1;
};

/* Renders the constant part into `memory`.  AXION_OK or NO_MEMORY. */
int axion_response_open(struct axion_response *response,
                        const struct axion_response_options *options,
                        const struct axion_memory *memory);

void axion_response_begin(struct axion_response *response,
                          struct axion_out *out);
void axion_response_text(struct axion_response *response, struct axion_out *out,
                         const char *text, size_t bytes);
void axion_response_end(struct axion_response *response, struct axion_out *out,
                        const struct axion_cq_done *done);

/* The member `,"usage":{…}` of a chunk or answer. */
void axion_response_usage(struct axion_out *out,
                          const struct axion_cq_done *done);

/* The member `,"incomplete_details":{…}` of a chunk or answer. */
void axion_response_incomplete(struct axion_out *out,
                               const struct axion_failure *why);

/* No call writes more than this for `bytes` of text: for fixed windows. */
size_t axion_response_bytes_max(const struct axion_response *response,
                                size_t bytes);

/* The comment that keeps an idle stream open: ": ping\n\n". */
void axion_response_ping(struct axion_out *out);

/* "stop" or "length"; a lease that ran out and a cancel are "length": the
 * answer is cut. */
const char *axion_finish_reason_text(uint32_t reason);
/* The exact one, for logs and variables: stop, length, lease, cancelled. */
const char *axion_finish_reason_name(uint32_t reason);

#endif
