/*
 * Fuzzes the output stage: any bytes, any stop strings, any cuts.  The text
 * that comes out must not depend on the cuts, must be UTF-8, and must hold no
 * stop string.
 *
 * Input: number of stops, their lengths, their bytes, then the text.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/text/stream.h"
#include "engine/text/utf8.h"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


/* Runs the text through in pieces of `step` bytes; returns what came out. */
static char *
run(const struct ax_stream_stop *stops, size_t n_stops, const char *text,
    size_t len, size_t step, size_t *out_len, int *hit)
{
    size_t mem_size = ax_stream_size(stops, n_stops);
    void *mem = malloc(mem_size);
    struct ax_stream *s = ax_stream_init(mem, mem_size, stops, n_stops);
    char *all = malloc(3 * len + 4);

    *out_len = 0;
    for (size_t at = 0; at < len; at += step) {
        size_t n = step < len - at ? step : len - at;
        size_t room = ax_stream_out_max(s, n);
        char *out = malloc(room + 1);
        size_t k = ax_stream_push(s, text + at, n, out);

        if (k > room || !ax_utf8_valid(out, k)) {
            abort();
        }
        memcpy(all + *out_len, out, k);
        *out_len += k;
        free(out);
    }

    char *out = malloc(ax_stream_out_max(s, 0) + 1);
    size_t k = ax_stream_finish(s, out);

    memcpy(all + *out_len, out, k);
    *out_len += k;
    *hit = ax_stream_stop_index(s);
    free(out);
    free(mem);
    return all;
}


static void
compare(const struct ax_stream_stop *stops, size_t n_stops, const char *text,
        size_t len)
{
    size_t n_whole, n_cut;
    int hit_whole, hit_cut;
    char *whole = run(stops, n_stops, text, len, len + 1, &n_whole, &hit_whole);

    for (size_t step = 1; step < 6; step += 2) {
        char *cut = run(stops, n_stops, text, len, step, &n_cut, &hit_cut);

        if (n_cut != n_whole || hit_cut != hit_whole ||
            memcmp(cut, whole, n_cut) != 0) {
            abort();
        }
        free(cut);
    }
    for (size_t i = 0; i < n_stops; i++) {
        if (memmem(whole, n_whole, stops[i].p, stops[i].n) != NULL) {
            abort();
        }
    }
    free(whole);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ax_stream_stop stops[AX_STREAM_STOPS_MAX];
    size_t n_stops = size > 0 ? data[0] % (AX_STREAM_STOPS_MAX + 1) : 0;
    size_t at = 1 + n_stops;

    if (size < at) {
        return 0;
    }
    for (size_t i = 0; i < n_stops; i++) {
        stops[i].p = (const char *)data + at;
        stops[i].n = data[1 + i] % 16;
        if (stops[i].n > size - at) {
            return 0;
        }
        at += stops[i].n;
    }
    if (ax_stream_size(stops, n_stops) != 0) {
        compare(stops, n_stops, (const char *)data + at, size - at);
    }
    return 0;
}
