/*
 * SentencePiece BPE: merge neighbours by the score of what they would form.
 *
 * Takes a whole run of text between special tokens, spaces already written as
 * U+2581.  Any two neighbours whose joined text is a token may merge, the
 * highest score first, leftmost among equals.  Characters that end up in no
 * token become byte tokens <0xXX>, else the unknown token.
 *
 * A look-up hashes the joined text, at most the longest token's length, so a
 * hostile run costs O(n log n) with that constant.
 */
#include "engine/text/encoder.h"

#include <math.h>
#include <string.h>

#include "engine/text/utf8.h"


/* The highest score has the smallest key, and scores are equal where their
 * keys are.  A NaN from the file would have no place in that order. */
static uint32_t
key_of(float score)
{
    uint32_t bits;

    score = isnan(score) || score == 0 ? 0 : -score;
    memcpy(&bits, &score, sizeof(bits));
    return bits & 0x80000000 ? ~bits : bits | 0x80000000;
}


static int
offer(struct ax_encoder *e, const char *p, uint32_t left, uint32_t right)
{
    if (left == AX_SYMBOL_NONE || right == AX_SYMBOL_NONE) {
        return 0;
    }

    const struct ax_symbols *v = &e->t->vocab;
    uint32_t n = e->pieces[left].n + e->pieces[right].n;
    uint32_t sym = ax_symbols_lookup(v, p + e->pieces[left].at, n);

    if (sym >= v->n_tokens || v->types[sym] == AX_TOKEN_TYPE_CONTROL) {
        return 0;
    }

    return ax_encoder_push(e, key_of(v->scores != NULL ? v->scores[sym] : 0),
                           left, n, sym);
}


static uint32_t
cut(struct ax_encoder *e, const char *p, size_t n)
{
    uint32_t count = 0;
    size_t at = 0;

    while (at < n) {
        uint32_t cp;
        size_t len = ax_utf8_next(p + at, n - at, &cp);

        e->pieces[count] = (struct ax_piece){
            .sym = ax_symbols_lookup(&e->t->vocab, p + at, len),
            .n = (uint32_t)len,
            .at = (uint32_t)at,
            .prev = count - 1,
            .next = count + 1};
        count++;
        at += len;
    }
    e->pieces[count - 1].next = AX_SYMBOL_NONE;
    return count;
}


int
ax_spm_run(struct ax_encoder *e, const char *p, size_t n)
{
    if (n == 0) {
        return 0;
    }

    int rc = ax_encoder_reserve((void **)&e->pieces, &e->pieces_cap, n,
                                sizeof(*e->pieces));
    if (rc != 0) {
        return rc;
    }

    uint32_t count = cut(e, p, n);
    struct ax_pair pair;

    e->heap_n = 0;
    for (uint32_t i = 1; rc == 0 && i < count; i++) {
        rc = offer(e, p, i - 1, i);
    }
    while (rc == 0 && ax_encoder_pop(e, &pair)) {
        if (ax_encoder_stale(e, &pair)) {
            continue;
        }
        ax_encoder_join(e, &pair);

        uint32_t left = ax_encoder_left(&pair);

        rc = offer(e, p, e->pieces[left].prev, left);
        if (rc == 0) {
            rc = offer(e, p, left, e->pieces[left].next);
        }
    }
    for (uint32_t i = 0; rc == 0 && i != AX_SYMBOL_NONE;
         i = e->pieces[i].next) {
        ax_encoder_emit_piece(e, &e->pieces[i], p, e->t->unk_id);
    }
    return rc;
}
