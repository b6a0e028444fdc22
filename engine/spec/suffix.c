/* See suffix.h. */
#include "engine/spec/suffix.h"

#include <assert.h>
#include <string.h>

#define ROOT 0u
#define NONE UINT32_MAX

struct ax_suffix_state {
    uint32_t len;   /* of its longest string */
    uint32_t link;  /* suffix link; NONE of the root */
    uint32_t end;   /* index of the last token of a late occurrence */
    uint32_t edges; /* its first edge, 0: none */
};

struct ax_suffix_edge {
    uint32_t state;
    int32_t token;
    uint32_t target;
    uint32_t next;    /* of the state */
    uint32_t chained; /* in the hash */
};


static uint32_t
hash_size(uint32_t tokens_max)
{
    uint32_t n = 64;
    while (n < 2 * tokens_max) {
        n *= 2;
    }
    return n;
}


static size_t
round_up(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}


size_t
ax_suffix_bytes(uint32_t tokens_max)
{
    assert(tokens_max > 0 && tokens_max <= AX_SUFFIX_TOKENS_MAX);
    return round_up(hash_size(tokens_max) * sizeof(uint32_t)) +
           round_up(2 * (size_t)tokens_max * sizeof(struct ax_suffix_state)) +
           round_up((3 * (size_t)tokens_max + 1) *
                    sizeof(struct ax_suffix_edge));
}


void
ax_suffix_init(struct ax_suffix *a, void *memory, uint32_t tokens_max,
               uint64_t key)
{
    char *at = memory;
    a->hash_factor = key | 1;
    a->tokens_max = tokens_max;
    a->hash_mask = hash_size(tokens_max) - 1;
    a->heads = (uint32_t *)at;
    at += round_up(hash_size(tokens_max) * sizeof(uint32_t));
    a->states = (struct ax_suffix_state *)at;
    at += round_up(2 * (size_t)tokens_max * sizeof(struct ax_suffix_state));
    a->edges = (struct ax_suffix_edge *)at;
    a->n_edges = 1;
    ax_suffix_reset(a);
}


void
ax_suffix_reset(struct ax_suffix *a)
{
    if (a->n_edges > 1) {
        memset(a->heads, 0, ((size_t)a->hash_mask + 1) * sizeof(uint32_t));
    }
    a->n_tokens = 0;
    a->n_states = 1;
    a->n_edges = 1;
    a->last = ROOT;
    a->match = a->match_end = 0;
    a->states[ROOT] = (struct ax_suffix_state){.link = NONE};
}


bool
ax_suffix_full(const struct ax_suffix *a)
{
    return a->n_tokens == a->tokens_max;
}


static uint32_t *
head_of(const struct ax_suffix *a, uint32_t state, int32_t token)
{
    uint64_t key = (uint64_t)state << 32 | (uint32_t)token;
    uint64_t hash = key * a->hash_factor;
    return &a->heads[(hash >> 32 ^ hash >> 48) & a->hash_mask];
}


static uint32_t
find(const struct ax_suffix *a, uint32_t state, int32_t token)
{
    uint32_t e = *head_of(a, state, token);
    while (e != 0 &&
           (a->edges[e].state != state || a->edges[e].token != token)) {
        e = a->edges[e].chained;
    }
    return e;
}


static void
join(struct ax_suffix *a, uint32_t state, int32_t token, uint32_t target)
{
    uint32_t *head = head_of(a, state, token);
    uint32_t e = a->n_edges++;
    assert(e <= 3 * a->tokens_max);
    a->edges[e] = (struct ax_suffix_edge){
        .state = state,
        .token = token,
        .target = target,
        .next = a->states[state].edges,
        .chained = *head,
    };
    *head = e;
    a->states[state].edges = e;
}


/* q's strings of up to len(p) + 1 tokens become a state of their own. */
static uint32_t
split(struct ax_suffix *a, uint32_t p, int32_t token, uint32_t q)
{
    uint32_t clone = a->n_states++;
    assert(clone < 2 * a->tokens_max);
    a->states[clone] = (struct ax_suffix_state){
        .len = a->states[p].len + 1,
        .link = a->states[q].link,
        .end = a->states[q].end,
    };
    for (uint32_t e = a->states[q].edges; e != 0; e = a->edges[e].next) {
        join(a, clone, a->edges[e].token, a->edges[e].target);
    }
    for (; p != NONE; p = a->states[p].link) {
        uint32_t e = find(a, p, token);
        if (a->edges[e].target != q) {
            break;
        }
        a->edges[e].target = clone;
    }
    a->states[q].link = clone;
    return clone;
}


static uint32_t
link_of_new(struct ax_suffix *a, uint32_t cur, int32_t token)
{
    uint32_t p = a->last, e = 0;
    while (p != NONE && (e = find(a, p, token)) == 0) {
        join(a, p, token, cur);
        p = a->states[p].link;
    }
    if (p == NONE) {
        return ROOT;
    }
    uint32_t q = a->edges[e].target;
    if (a->states[q].len == a->states[p].len + 1) {
        return q;
    }
    return split(a, p, token, q);
}


void
ax_suffix_add(struct ax_suffix *a, int32_t token)
{
    assert(!ax_suffix_full(a));
    uint32_t index = a->n_tokens++, cur = a->n_states++;
    a->states[cur] = (struct ax_suffix_state){
        .len = a->states[a->last].len + 1,
        .end = index,
    };
    uint32_t link = link_of_new(a, cur, token);
    a->states[cur].link = link;
    a->last = cur;
    a->match = a->states[link].len;
    a->match_end = a->states[link].end;
    a->states[link].end = index; /* the next one finds the latest */
}


uint32_t
ax_suffix_propose(const struct ax_suffix *a, const int32_t *text, int32_t *out,
                  uint32_t max)
{
    if (a->match == 0) {
        return 0;
    }
    for (uint32_t j = 0; j < max; j++) {
        uint32_t from = a->match_end + 1 + j;
        out[j] = from < a->n_tokens ? text[from] : out[from - a->n_tokens];
    }
    return max;
}
