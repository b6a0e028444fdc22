/*
 * See spans.h.  The walk is the one for "fewest jumps to the end": all places
 * up to `end` can be reached with `count` tokens, all up to `far` with one
 * more.  It takes every place before `end` for the start of a token, which can
 * only make the count smaller.  A byte that may be dropped costs nothing.
 */
#include "engine/text/spans.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/text/text.h"


#define PAIRS 65536u


int
ax_spans_open(struct ax_spans *s)
{
    memset(s, 0, sizeof(*s));
    s->longest = malloc(PAIRS * sizeof(*s->longest));
    if (s->longest == NULL) {
        return AX_TEXT_NO_MEMORY;
    }
    for (size_t i = 0; i < PAIRS; i++) {
        s->longest[i] = 1;
    }
    return 0;
}


void
ax_spans_close(struct ax_spans *s)
{
    free(s->longest);
    s->longest = NULL;
}


static size_t
pair_at(const char *p)
{
    return (size_t)(uint8_t)p[0] << 8 | (uint8_t)p[1];
}


void
ax_spans_add(struct ax_spans *s, const char *p, size_t n)
{
    assert(n <= UINT16_MAX);
    if (n >= 2 && n > s->longest[pair_at(p)]) {
        s->longest[pair_at(p)] = (uint16_t)n;
    }
}


size_t
ax_spans_least(const struct ax_spans *s, const char *p, size_t n, size_t max)
{
    size_t count = 0, end = 0, far = 0;

    for (size_t i = 0; i < n && count <= max; i++) {
        size_t step = i + 1 < n ? s->longest[pair_at(p + i)] : 1;

        if (i + step > far) {
            far = i + step;
        }
        if (i < end) {
            continue;
        }
        if (s->dropped[(uint8_t)p[i]]) {
            end = i + 1;
        } else {
            count++;
            end = far;
        }
    }
    return count;
}
