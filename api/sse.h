/*
 * A stream of server-sent events (WHATWG HTML, "event stream interpretation"),
 * bytes in as they come, the data of each event out.  Lines end with LF, CR LF
 * or CR; several data lines are joined by LF; comments and other fields are
 * passed over.  An event is bounded: a line that never ends is an error, not
 * memory.  What an end of file cuts off is no event.
 */
#ifndef AXION_API_SSE_H
#define AXION_API_SSE_H

#include <stddef.h>
#include "api/memory.h"

struct axion_sse {
    size_t bytes_max;      /* of an event, with its field names */
    struct axion_out line; /* so far */
    struct axion_out data; /* of the event so far */
    size_t event_bytes;
    unsigned begun : 1; /* behind a byte order mark */
    unsigned has_data : 1;
    unsigned after_cr : 1; /* a LF that comes now belongs to it */
};

void axion_sse_open(struct axion_sse *sse, const struct axion_memory *memory,
                    size_t bytes_max);

/*
 * Calls event() with the data of each event that ends within `bytes`.
 * AXION_OK; what event() returned if that is not AXION_OK; PAYLOAD_TOO_LARGE;
 * NO_MEMORY.  After an error the stream is of no more use.
 */
int axion_sse_feed(struct axion_sse *sse, const char *text, size_t bytes,
                   int (*event)(void *context, const char *data, size_t bytes),
                   void *context);

#endif
