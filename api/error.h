/*
 * A refusal on its way to the client: the number from shm/errors.def, which
 * field is at fault, and what a person reads.  One struct serves the parser,
 * the engine's ERROR events and the gateway's own refusals, and it needs no
 * memory, so "out of memory" can be told as well.
 *
 * Rendered in OpenAI's shape, always with all four keys, since SDKs take an
 * exception's code and type from there:
 *
 *   {"error":{"message":…,"type":…,"param":…|null,"code":…}}
 *
 * as a body with the table's HTTP status before the first byte, and as the
 * event `data: {"error":…}` after it.
 */
#ifndef AXION_API_ERROR_H
#define AXION_API_ERROR_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include "api/memory.h"

#define AXION_PARAM_BYTES   128u
#define AXION_MESSAGE_BYTES 512u

#define AXION_RETRY_NEVER UINT32_MAX

struct axion_failure {
    int error;                         /* enum axion_error; AXION_OK: none */
    uint32_t retry_after_ms;           /* 0: not known; AXION_RETRY_NEVER */
    char param[AXION_PARAM_BYTES];     /* "": null */
    char message[AXION_MESSAGE_BYTES]; /* "": the table's text */
};

/* `param` may be NULL, `format` too (then the table's text is used).  What
 * does not fit is cut between characters, with "..." in the message. */
void axion_failure_set(struct axion_failure *failure, int error,
                       const char *param, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void axion_failure_vset(struct axion_failure *failure, int error,
                        const char *param, const char *format, va_list args)
    __attribute__((format(printf, 4, 0)));

/* From an engine's ERROR event; `text` is not trusted to be UTF-8. */
void axion_failure_event(struct axion_failure *failure, int error,
                         uint32_t retry_after_ms, const char *text,
                         size_t text_bytes);

/* HTTP status of the failure. */
int axion_failure_status(const struct axion_failure *failure);

/* The JSON body, one line. */
void axion_failure_body(struct axion_out *out,
                        const struct axion_failure *failure);

/* The event, blank line included.  The stream ends after it. */
void axion_failure_sse(struct axion_out *out,
                       const struct axion_failure *failure);

/*
 * Seconds for Retry-After: 0 when a retry cannot succeed (send no header),
 * else retry_after_ms rounded up, at least 1.
 */
uint32_t axion_retry_after_seconds(const struct axion_failure *failure);

/* OpenAI's x-ratelimit-reset-* durations: "12ms", "1.5s", "6m0s". */
void axion_out_duration(struct axion_out *out, uint64_t ms);

#endif
