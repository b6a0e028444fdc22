/*
 * What BPE and SentencePiece share: output, work arrays and the heap of
 * candidate pairs.
 *
 * The heap makes the worst case O(n log n) in the length of a word: a
 * megabyte of one letter is one word.  A merge leaves its neighbours' old
 * pairs in the heap; they are recognised as stale when they come up, by their
 * length, since the start of either side never moves.
 */
#include "engine/text/encoder.h"

#include <stdlib.h>


void
ax_encoder_emit(struct ax_encoder *e, int32_t id)
{
    if (e->n < e->cap) {
        e->ids[e->n] = id;
    }
    e->n++;
}


void
ax_encoder_emit_piece(struct ax_encoder *e, const struct ax_piece *piece,
                      const char *text, int32_t none)
{
    const struct ax_tokenizer *t = e->t;

    if (piece->sym < t->vocab.n_tokens &&
        t->vocab.types[piece->sym] != AX_TOKEN_TYPE_CONTROL) {
        ax_encoder_emit(e, (int32_t)piece->sym);
        return;
    }
    for (uint32_t i = 0; i < piece->n; i++) {
        int32_t id = t->byte_tokens[(uint8_t)text[piece->at + i]];

        id = id != AX_TOKEN_NONE ? id : none;
        if (id != AX_TOKEN_NONE) {
            ax_encoder_emit(e, id);
        }
    }
}


int
ax_encoder_check_room(const struct ax_encoder *e, const char *p, size_t n)
{
    if (!e->stop_at_cap) {
        return 0;
    }
    if (e->n > e->cap) {
        return AX_ENCODER_FULL;
    }

    size_t room = e->cap - e->n;

    return ax_spans_least(&e->t->spans, p, n, room) > room ? AX_ENCODER_FULL
                                                           : 0;
}


int
ax_encoder_reserve(void **p, size_t *cap, size_t n, size_t size)
{
    if (n <= *cap) {
        return 0;
    }

    size_t want = n + n / 2 + 64;
    void *q = realloc(*p, want * size);

    if (q == NULL) {
        return AX_TEXT_NO_MEMORY;
    }
    *p = q;
    *cap = want;
    return 0;
}


/* Four children a node: half the levels of a binary heap, and the four lie
 * in one or two cache lines. */
#define HEAP_WAYS 4


int
ax_encoder_push(struct ax_encoder *e, uint32_t key, uint32_t left, uint32_t n,
                uint32_t result)
{
    int rc = ax_encoder_reserve((void **)&e->heap, &e->heap_cap, e->heap_n + 1,
                                sizeof(*e->heap));
    if (rc != 0) {
        return rc;
    }

    struct ax_pair pair = {(uint64_t)key << 32 | left, n, result};
    size_t i = e->heap_n++;

    while (i > 0) {
        size_t parent = (i - 1) / HEAP_WAYS;

        if (pair.order >= e->heap[parent].order) {
            break;
        }
        e->heap[i] = e->heap[parent];
        i = parent;
    }
    e->heap[i] = pair;
    return 0;
}


static size_t
least_child(const struct ax_encoder *e, size_t first)
{
    size_t last = first + HEAP_WAYS < e->heap_n ? first + HEAP_WAYS : e->heap_n;
    size_t least = first;

    for (size_t i = first + 1; i < last; i++) {
        if (e->heap[i].order < e->heap[least].order) {
            least = i;
        }
    }
    return least;
}


bool
ax_encoder_pop(struct ax_encoder *e, struct ax_pair *pair)
{
    if (e->heap_n == 0) {
        return false;
    }
    *pair = e->heap[0];

    struct ax_pair last = e->heap[--e->heap_n];
    size_t i = 0;

    while (HEAP_WAYS * i + 1 < e->heap_n) {
        size_t child = least_child(e, HEAP_WAYS * i + 1);

        if (e->heap[child].order >= last.order) {
            break;
        }
        e->heap[i] = e->heap[child];
        i = child;
    }
    e->heap[i] = last;
    return true;
}


uint32_t
ax_encoder_left(const struct ax_pair *pair)
{
    return (uint32_t)pair->order;
}


/* While left is as it was, its next starts where the pair's right did and has
 * grown if it has changed; once left has grown, it has all of the pair. */
bool
ax_encoder_stale(const struct ax_encoder *e, const struct ax_pair *pair)
{
    const struct ax_piece *left = &e->pieces[ax_encoder_left(pair)];

    return left->n == 0 || left->next == AX_SYMBOL_NONE ||
           left->n + e->pieces[left->next].n != pair->n;
}


void
ax_encoder_join(struct ax_encoder *e, const struct ax_pair *pair)
{
    uint32_t at = ax_encoder_left(pair);
    struct ax_piece *left = &e->pieces[at];
    struct ax_piece *right = &e->pieces[left->next];

    left->n += right->n;
    left->sym = pair->result;
    left->next = right->next;
    right->n = 0;
    if (right->next != AX_SYMBOL_NONE) {
        e->pieces[right->next].prev = at;
    }
}
