/*
 * A line is collected, then judged; the data of an event is collected from its
 * lines.  Both outputs keep their memory from event to event.
 */
#include "api/sse.h"

#include <string.h>
#include "shm/errors.h"

#define HINT_BYTES 1024u


void
axion_sse_open(struct axion_sse *sse, const struct axion_memory *memory,
               size_t bytes_max)
{
    memset(sse, 0, sizeof(*sse));
    sse->bytes_max = bytes_max;
    axion_out_grow(&sse->line, memory, HINT_BYTES, bytes_max);
    axion_out_grow(&sse->data, memory, HINT_BYTES, bytes_max);
}


static int
end_event(struct axion_sse *sse,
          int (*event)(void *context, const char *data, size_t bytes),
          void *context)
{
    int error = AXION_OK;

    if (sse->has_data)
        error = event(context, sse->data.data, sse->data.bytes);
    sse->data.bytes = 0;
    sse->has_data = 0;
    sse->event_bytes = 0;
    return error;
}


/* "data", "data:text", "data: text"; every other field is passed over. */
static void
take_field(struct axion_sse *sse, const char *line, size_t bytes)
{
    static const char name[] = "data";
    size_t n = sizeof(name) - 1;

    if (bytes < n || memcmp(line, name, n) != 0)
        return;
    if (bytes > n && line[n] != ':')
        return;
    if (sse->has_data)
        axion_out_bytes(&sse->data, "\n", 1);
    sse->has_data = 1;
    n += n < bytes;
    n += n < bytes && line[n] == ' ';
    axion_out_bytes(&sse->data, line + n, bytes - n);
}


static int
end_line(struct axion_sse *sse,
         int (*event)(void *context, const char *data, size_t bytes),
         void *context)
{
    static const char mark[] = "\xef\xbb\xbf";
    const char *line = sse->line.data;
    size_t bytes = sse->line.bytes;

    sse->line.bytes = 0;
    if (!sse->begun) {
        sse->begun = 1;
        if (bytes >= 3 && memcmp(line, mark, 3) == 0) {
            line += 3;
            bytes -= 3;
        }
    }
    if (bytes == 0)
        return end_event(sse, event, context);
    take_field(sse, line, bytes);
    return axion_out_status(&sse->data);
}


int
axion_sse_feed(struct axion_sse *sse, const char *text, size_t bytes,
               int (*event)(void *context, const char *data, size_t bytes),
               void *context)
{
    const char *end = text + bytes, *at = text;
    int error = AXION_OK;

    while (at < end && error == AXION_OK) {
        const char *start = at;

        if (sse->after_cr && *at == '\n') {
            sse->after_cr = 0;
            at++;
            continue;
        }
        sse->after_cr = 0;
        while (at < end && *at != '\n' && *at != '\r')
            at++;
        sse->event_bytes += (size_t)(at - start);
        if (sse->event_bytes > sse->bytes_max)
            return AXION_ERR_PAYLOAD_TOO_LARGE;
        axion_out_bytes(&sse->line, start, (size_t)(at - start));
        error = axion_out_status(&sse->line);
        if (at == end || error != AXION_OK)
            break;
        sse->after_cr = *at++ == '\r';
        error = end_line(sse, event, context);
    }
    return error;
}
