/*
 * Output stage of one request: token bytes in, text out.
 *
 * Two promises: text never ends inside a UTF-8 sequence, and no byte of a
 * stop string (nor of what may still become one) is ever emitted.  Bytes
 * that are no UTF-8 become U+FFFD, one for each maximal invalid part, as the
 * Unicode standard advises and Rust, Python and browsers do.  Stop strings
 * are searched in the text so repaired, byte by byte, so borders of tokens
 * and characters do not matter: the earliest completed match wins, the
 * longest among those that complete at the same byte.  The result is the
 * same however the bytes are cut into pushes.
 *
 * Fixed memory: the caller gives ax_stream_size() bytes and frees them when
 * it likes; there is nothing to close and no allocation.  One thread at a
 * time.  After a stop hit further pushes are ignored.
 */
#ifndef AX_TEXT_STREAM_H
#define AX_TEXT_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>


#define AX_STREAM_STOPS_MAX      4
#define AX_STREAM_STOP_BYTES_MAX 4096


struct ax_stream_stop {
    const char *p;
    size_t n; /* 1 .. AX_STREAM_STOP_BYTES_MAX */
};


struct ax_stream;


/* Bytes that ax_stream_init needs (aligned as max_align_t); 0: bad stops. */
size_t ax_stream_size(const struct ax_stream_stop *stops, size_t n_stops);

/* Builds the stage in mem, copying the stops; NULL if they are bad. */
struct ax_stream *ax_stream_init(void *mem, size_t mem_size,
                                 const struct ax_stream_stop *stops,
                                 size_t n_stops);

/*
 * Most bytes that pushing n more bytes, or finishing (n = 0), can emit now:
 * what is held back and three for each new byte.
 */
size_t ax_stream_out_max(const struct ax_stream *s, size_t n);

/*
 * Takes the bytes of one token and writes what is safe to show to out, which
 * must have room for ax_stream_out_max(s, n).  Returns the bytes written.
 * Once ax_stream_stopped() is true all text before the stop is out.
 */
size_t ax_stream_push(struct ax_stream *s, const char *bytes, size_t n,
                      char *out);

/* The end without a stop: emits what is held, an unfinished character as
 * U+FFFD (that alone may still complete a stop string). */
size_t ax_stream_finish(struct ax_stream *s, char *out);

bool ax_stream_stopped(const struct ax_stream *s);

/* Index of the stop string that hit, or -1. */
int ax_stream_stop_index(const struct ax_stream *s);

/* Bytes emitted so far in all. */
uint64_t ax_stream_emitted(const struct ax_stream *s);

#endif /* AX_TEXT_STREAM_H */
