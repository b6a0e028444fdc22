/*
 * Output stage, see stream.h.
 *
 * Stop strings are matched by one Knuth-Morris-Pratt automaton each, advanced
 * a byte at a time.  What must be held back is the longest prefix of a stop
 * string that the text so far ends with, so the held bytes are the front of
 * that very stop string: nothing needs to be stored but the states.  Stop
 * strings are valid UTF-8 and the repaired text is too, so what is emitted
 * between calls always ends between two characters.
 *
 * Memory: the structure, then the stop strings' bytes, then their failure
 * tables, all in the caller's one block.
 */
#include "engine/text/stream.h"

#include <assert.h>
#include <string.h>

#include "engine/text/utf8.h"


struct stop {
    const char *p;
    const uint16_t *fail; /* [n] length of the border of p[0..i] */
    uint16_t n;
    uint16_t state; /* bytes of p that the text ends with */
};


struct ax_stream {
    struct stop stops[AX_STREAM_STOPS_MAX];
    uint32_t n_stops;
    int hit;          /* index, or -1 */
    uint32_t longest; /* the stop whose front is held, if any */
    uint32_t partial_n;
    char partial[4]; /* an unfinished character */
    uint64_t emitted;
};


size_t
ax_stream_size(const struct ax_stream_stop *stops, size_t n_stops)
{
    size_t size = sizeof(struct ax_stream);

    if (n_stops > AX_STREAM_STOPS_MAX) {
        return 0;
    }
    for (size_t i = 0; i < n_stops; i++) {
        if (stops[i].n == 0 || stops[i].n > AX_STREAM_STOP_BYTES_MAX ||
            !ax_utf8_valid(stops[i].p, stops[i].n)) {
            return 0;
        }
        size += stops[i].n * (1 + sizeof(uint16_t));
    }
    return size;
}


static void
build_failure(uint16_t *fail, const char *p, size_t n)
{
    uint16_t k = 0;

    fail[0] = 0;
    for (size_t i = 1; i < n; i++) {
        while (k > 0 && p[k] != p[i]) {
            k = fail[k - 1];
        }
        if (p[k] == p[i]) {
            k++;
        }
        fail[i] = k;
    }
}


struct ax_stream *
ax_stream_init(void *mem, size_t mem_size, const struct ax_stream_stop *stops,
               size_t n_stops)
{
    size_t size = ax_stream_size(stops, n_stops);

    if (size == 0 || size > mem_size) {
        return NULL;
    }

    struct ax_stream *s = mem;
    uint16_t *fail = (uint16_t *)(s + 1);

    memset(s, 0, sizeof(*s));
    s->n_stops = (uint32_t)n_stops;
    s->hit = -1;

    for (size_t i = 0; i < n_stops; i++) {
        s->stops[i].n = (uint16_t)stops[i].n;
        s->stops[i].fail = fail;
        build_failure(fail, stops[i].p, stops[i].n);
        fail += stops[i].n;
    }

    char *bytes = (char *)fail;

    for (size_t i = 0; i < n_stops; i++) {
        memcpy(bytes, stops[i].p, stops[i].n);
        s->stops[i].p = bytes;
        bytes += stops[i].n;
    }
    return s;
}


/* Bytes that are held back because they may begin a stop string. */
static size_t
held(const struct ax_stream *s)
{
    return s->n_stops > 0 ? s->stops[s->longest].state : 0;
}


size_t
ax_stream_out_max(const struct ax_stream *s, size_t n)
{
    return held(s) + 3 * ((size_t)s->partial_n + n);
}


static void
stop_advance(struct stop *stop, char c)
{
    uint16_t k = stop->state;

    while (k > 0 && stop->p[k] != c) {
        k = stop->fail[k - 1];
    }
    stop->state = stop->p[k] == c ? k + 1 : 0;
}


/* Advances all stops; the longest complete one becomes the hit. */
static void
stops_advance(struct ax_stream *s, char c)
{
    s->longest = 0;
    for (uint32_t i = 0; i < s->n_stops; i++) {
        struct stop *stop = &s->stops[i];

        stop_advance(stop, c);
        if (stop->state == stop->n &&
            (s->hit < 0 || stop->n > s->stops[s->hit].n)) {
            s->hit = (int)i;
        }
        if (stop->state > s->stops[s->longest].state) {
            s->longest = i;
        }
    }
}


/*
 * One byte of repaired text.  Before it the held bytes are the front of
 * stops[longest]; afterwards fewer or one more may be held, and what is
 * released from the front goes out.
 */
static size_t
feed_byte(struct ax_stream *s, char c, char *out)
{
    size_t before = held(s);
    const char *front = before > 0 ? s->stops[s->longest].p : NULL;

    stops_advance(s, c);

    size_t keep = s->hit >= 0 ? s->stops[s->hit].n : held(s);

    assert(keep <= before + 1);

    size_t release = before + 1 - keep;
    size_t old = release < before ? release : before;

    if (old > 0) {
        memcpy(out, front, old);
    }
    if (release > before) {
        out[old] = c;
    }
    return release;
}


static size_t
feed(struct ax_stream *s, const char *p, size_t n, char *out)
{
    size_t w = 0;

    for (size_t i = 0; i < n && s->hit < 0; i++) {
        w += feed_byte(s, p[i], out + w);
    }
    return w;
}


static size_t
feed_replacement(struct ax_stream *s, char *out)
{
    char bytes[4];
    size_t n = ax_utf8_encode(AX_UTF8_REPLACEMENT, bytes);

    return feed(s, bytes, n, out);
}


/*
 * Adds one byte to the unfinished character and passes on what is decided:
 * a whole character, or U+FFFD for what cannot become one.  A byte that
 * breaks a sequence starts the next one, so at most two rounds are needed.
 */
static size_t
take_byte(struct ax_stream *s, char byte, char *out)
{
    size_t w = 0;

    s->partial[s->partial_n++] = byte;
    while (s->partial_n > 0) {
        uint32_t cp;
        size_t len;
        enum ax_utf8_status status =
            ax_utf8_decode(s->partial, s->partial_n, &cp, &len);
        if (status == AX_UTF8_PARTIAL) {
            break;
        }
        w += status == AX_UTF8_GOOD ? feed(s, s->partial, len, out + w)
                                    : feed_replacement(s, out + w);
        s->partial_n -= (uint32_t)len;
        memmove(s->partial, s->partial + len, s->partial_n);
    }
    return w;
}


size_t
ax_stream_push(struct ax_stream *s, const char *bytes, size_t n, char *out)
{
    size_t w = 0;

    for (size_t i = 0; i < n && s->hit < 0; i++) {
        w += take_byte(s, bytes[i], out + w);
    }
    s->emitted += w;
    return w;
}


size_t
ax_stream_finish(struct ax_stream *s, char *out)
{
    size_t w = 0;

    if (s->hit >= 0) {
        return 0;
    }
    if (s->partial_n > 0) {
        s->partial_n = 0;
        w += feed_replacement(s, out);
    }
    if (s->hit < 0) {
        size_t n = held(s);

        if (n > 0) {
            memcpy(out + w, s->stops[s->longest].p, n);
            w += n;
        }
    }
    for (uint32_t i = 0; i < s->n_stops; i++) {
        s->stops[i].state = 0;
    }
    s->emitted += w;
    return w;
}


bool
ax_stream_stopped(const struct ax_stream *s)
{
    return s->hit >= 0;
}


int
ax_stream_stop_index(const struct ax_stream *s)
{
    return s->hit;
}


uint64_t
ax_stream_emitted(const struct ax_stream *s)
{
    return s->emitted;
}
