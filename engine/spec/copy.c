/* See copy.h. */
#include "engine/spec/copy.h"

#define ANCHOR    6u /* a shorter match is no copy yet */
#define CONFIRMED 4u
#define LOST_MAX  24u


void
ax_copy_reset(struct ax_copy *c)
{
    *c = (struct ax_copy){.active = false};
}


/* How many of the last tokens, up to max, end at text[end] as well. */
static uint32_t
match_at(const int32_t *text, uint32_t n_tokens, uint32_t end, uint32_t max)
{
    uint32_t n = 0;
    while (n < max && n <= end && text[end - n] == text[n_tokens - 1 - n]) {
        n++;
    }
    return n;
}


/* The nearest of the longest matches behind the break. */
static void
find_again(struct ax_copy *c, const int32_t *text, uint32_t n_tokens)
{
    uint32_t from = c->broke, best = 0;
    c->at = c->broke + c->lost;
    for (uint32_t end = from; end < from + AX_COPY_REACH && end + 1 < n_tokens;
         end++) {
        uint32_t n = match_at(text, n_tokens, end, c->lost);
        if (n > best) {
            best = n;
            c->at = end + 1;
        }
    }
    c->run = best;
}


void
ax_copy_add(struct ax_copy *c, const int32_t *text, uint32_t n_tokens)
{
    if (!c->active) {
        return;
    }
    bool expected = c->at + 1 < n_tokens && text[c->at] == text[n_tokens - 1];
    if (c->following && expected) {
        c->at++;
        c->run++;
        return;
    }
    if (c->following) {
        c->following = false;
        c->broke = c->at;
        c->lost = 0;
    }
    c->lost++;
    find_again(c, text, n_tokens);
    c->following = c->run >= CONFIRMED;
    c->active = c->following || (c->lost < LOST_MAX && c->at < n_tokens);
}


void
ax_copy_anchor(struct ax_copy *c, uint32_t at, uint32_t match)
{
    if (match >= ANCHOR && (!c->active || match > c->run)) {
        *c = (struct ax_copy){
            .active = true, .following = true, .at = at, .run = match};
    }
}


uint32_t
ax_copy_propose(const struct ax_copy *c, const int32_t *text, uint32_t n_tokens,
                int32_t *out, uint32_t max)
{
    if (!c->active || c->at >= n_tokens) {
        return 0;
    }
    for (uint32_t j = 0; j < max; j++) {
        uint32_t from = c->at + j;
        out[j] = from < n_tokens ? text[from] : out[from - n_tokens];
    }
    return max;
}
