/*
 * Refusals as text: one place that knows OpenAI's error shape, so that a
 * body, an event in a running stream and a limit's answer cannot differ.
 */
#include "api/error.h"

#include <stdio.h>
#include <string.h>
#include "api/json.h"
#include "shm/utf8.h"


/* Ends text[0..bytes) at a character's border, so that a cut never leaves
 * half of one. */
static void
cut_to_characters(char *text, size_t bytes)
{
    size_t i = bytes;

    while (i > 0 && bytes - i < 4) {
        i--;
        if (((unsigned char)text[i] & 0xc0) == 0x80)
            continue;
        if (axion_utf8_step((unsigned char *)text + i, bytes - i) == 0)
            text[i] = '\0';
        return;
    }
}


static void
cut_with_dots(char *text, size_t capacity)
{
    static const char dots[] = "...";
    size_t keep = capacity - sizeof(dots);

    text[keep] = '\0';
    cut_to_characters(text, keep);
    memcpy(text + strlen(text), dots, sizeof(dots));
}


void
axion_failure_vset(struct axion_failure *failure, int error, const char *param,
                   const char *format, va_list args)
{
    int n;

    memset(failure, 0, sizeof(*failure));
    failure->error = error;
    if (param != NULL) {
        n = snprintf(failure->param, sizeof(failure->param), "%s", param);
        if (n >= (int)sizeof(failure->param))
            cut_to_characters(failure->param, sizeof(failure->param) - 1);
    }
    if (format != NULL) {
        n = vsnprintf(failure->message, sizeof(failure->message), format, args);
        if (n < 0)
            failure->message[0] = '\0';
        if (n >= (int)sizeof(failure->message))
            cut_with_dots(failure->message, sizeof(failure->message));
    }
}


void
axion_failure_set(struct axion_failure *failure, int error, const char *param,
                  const char *format, ...)
{
    va_list args;

    va_start(args, format);
    axion_failure_vset(failure, error, param, format, args);
    va_end(args);
}


void
axion_failure_event(struct axion_failure *failure, int error,
                    uint32_t retry_after_ms, const char *text,
                    size_t text_bytes)
{
    size_t n = text_bytes;

    memset(failure, 0, sizeof(*failure));
    failure->error = error;
    failure->retry_after_ms = retry_after_ms;
    if (n > sizeof(failure->message) - 1)
        n = sizeof(failure->message) - 1;
    if (n > 0)
        memcpy(failure->message, text, n);
    if (n < text_bytes)
        cut_with_dots(failure->message, sizeof(failure->message));
}


int
axion_failure_status(const struct axion_failure *failure)
{
    return axion_error_info(failure->error)->status;
}


static void
failure_object(struct axion_out *out, const struct axion_failure *failure)
{
    const struct axion_error_info *info = axion_error_info(failure->error);
    const char *message = failure->message;

    if (message[0] == '\0')
        message = info->text;
    axion_out_text(out, "{\"error\":{\"message\":");
    axion_json_quote(out, message, strlen(message));
    axion_out_text(out, ",\"type\":");
    axion_json_quote(out, info->type, strlen(info->type));
    axion_out_text(out, ",\"param\":");
    if (failure->param[0] == '\0')
        axion_out_text(out, "null");
    else
        axion_json_quote(out, failure->param, strlen(failure->param));
    axion_out_text(out, ",\"code\":");
    axion_json_quote(out, info->code, strlen(info->code));
    axion_out_text(out, "}}");
}


void
axion_failure_body(struct axion_out *out, const struct axion_failure *failure)
{
    failure_object(out, failure);
    axion_out_bytes(out, "\n", 1);
}


void
axion_failure_sse(struct axion_out *out, const struct axion_failure *failure)
{
    axion_out_text(out, "data: ");
    failure_object(out, failure);
    axion_out_text(out, "\n\n");
}


uint32_t
axion_retry_after_seconds(const struct axion_failure *failure)
{
    uint32_t ms = failure->retry_after_ms;

    if (!axion_error_info(failure->error)->retry || ms == AXION_RETRY_NEVER)
        return 0;
    return ms == 0 ? 1 : ms / 1000 + (ms % 1000 != 0);
}


void
axion_out_duration(struct axion_out *out, uint64_t ms)
{
    uint64_t minutes = ms / 60000;

    if (ms < 1000) {
        axion_out_u64(out, ms);
        axion_out_text(out, "ms");
        return;
    }
    if (minutes >= 60) {
        axion_out_u64(out, minutes / 60);
        axion_out_text(out, "h");
    }
    if (minutes > 0) {
        axion_out_u64(out, minutes % 60);
        axion_out_text(out, "m");
    }
    ms %= 60000;
    axion_out_decimal(out, (double)ms / 1e3, ms % 1000 ? 3 : 0);
    axion_out_text(out, "s");
}
