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


static bool
pair_before(const struct ax_pair *a, const struct ax_pair *b)
{
    return a->key < b->key || (a->key == b->key && a->left < b->left);
}


int
ax_encoder_push(struct ax_encoder *e, struct ax_pair pair)
{
    int rc = ax_encoder_reserve((void **)&e->heap, &e->heap_cap, e->heap_n + 1,
                                sizeof(*e->heap));
    if (rc != 0) {
        return rc;
    }

    size_t i = e->heap_n++;

    while (i > 0) {
        size_t parent = (i - 1) / 2;

        if (!pair_before(&pair, &e->heap[parent])) {
            break;
        }
        e->heap[i] = e->heap[parent];
        i = parent;
    }
    e->heap[i] = pair;
    return 0;
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

    for (;;) {
        size_t child = 2 * i + 1;

        if (child >= e->heap_n) {
            break;
        }
        if (child + 1 < e->heap_n &&
            pair_before(&e->heap[child + 1], &e->heap[child])) {
            child++;
        }
        if (!pair_before(&e->heap[child], &last)) {
            break;
        }
        e->heap[i] = e->heap[child];
        i = child;
    }
    if (e->heap_n > 0) {
        e->heap[i] = last;
    }
    return true;
}


bool
ax_encoder_stale(const struct ax_encoder *e, const struct ax_pair *pair)
{
    uint32_t left = e->pieces[pair->left].n;
    uint32_t right = e->pieces[pair->right].n;

    return left == 0 || right == 0 || left + right != pair->n;
}


void
ax_encoder_join(struct ax_encoder *e, const struct ax_pair *pair)
{
    struct ax_piece *left = &e->pieces[pair->left];
    struct ax_piece *right = &e->pieces[pair->right];

    left->n += right->n;
    left->sym = pair->result;
    left->next = right->next;
    right->n = 0;
    if (right->next != AX_SYMBOL_NONE) {
        e->pieces[right->next].prev = pair->left;
    }
}
