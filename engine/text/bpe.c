/*
 * Byte pair encoding of one word.
 *
 * Works on raw bytes: a byte-level vocabulary writes each byte as one
 * printable character, so a symbol per byte is all that the printable form
 * would give.  The variant for vocabularies of plain UTF-8 starts from
 * characters instead.  Merges are taken lowest rank first, leftmost among
 * equals.  A piece that is no token falls back to its bytes' tokens, and
 * bytes that have none are dropped, as llama.cpp does.
 */
#include "engine/text/encoder.h"

#include <string.h>

#include "engine/text/utf8.h"


static int
offer(struct ax_encoder *e, uint32_t left, uint32_t right)
{
    if (left == AX_SYMBOL_NONE || right == AX_SYMBOL_NONE) {
        return 0;
    }

    const struct ax_merge *m = ax_symbols_merge(
        &e->t->vocab, e->pieces[left].sym, e->pieces[right].sym);
    if (m == NULL) {
        return 0;
    }
    return ax_encoder_push(e, m->rank, left,
                           e->pieces[left].n + e->pieces[right].n, m->result);
}


/* Cuts the word into bytes or characters; returns the number of pieces. */
static uint32_t
cut(struct ax_encoder *e, const char *p, size_t n)
{
    const struct ax_tokenizer *t = e->t;
    uint32_t count = 0;
    size_t at = 0;

    while (at < n) {
        struct ax_piece *piece = &e->pieces[count];
        uint32_t cp;
        size_t len = 1;

        if (t->kind == AX_TOKENIZER_BPE) {
            piece->sym = t->byte_symbols[(uint8_t)p[at]];
        } else {
            len = ax_utf8_next(p + at, n - at, &cp);
            piece->sym = ax_symbols_lookup(&t->vocab, p + at, len);
        }
        piece->n = (uint32_t)len;
        piece->at = (uint32_t)at;
        piece->prev = count - 1; /* AX_SYMBOL_NONE for the first */
        piece->next = count + 1;
        count++;
        at += len;
    }
    e->pieces[count - 1].next = AX_SYMBOL_NONE;
    return count;
}


/* The word as the vocabulary writes it, if that is itself a token. */
static bool
emit_whole(struct ax_encoder *e, const char *p, size_t n)
{
    const struct ax_symbols *v = &e->t->vocab;
    char buf[AX_TOKENIZER_TOKEN_BYTES_MAX];
    size_t len = 0;

    for (size_t i = 0; i < n; i++) {
        struct ax_tokenizer_str s = {p + i, 1};

        if (e->t->kind == AX_TOKENIZER_BPE) {
            s = ax_symbols_text(v, e->t->byte_symbols[(uint8_t)p[i]]);
        }
        if (s.n == 0 || len + s.n > sizeof(buf)) {
            return false;
        }
        memcpy(buf + len, s.p, s.n);
        len += s.n;
    }

    uint32_t sym = ax_symbols_lookup(v, buf, len);

    if (sym >= v->n_tokens || v->types[sym] == AX_TOKEN_TYPE_CONTROL) {
        return false;
    }
    ax_encoder_emit(e, (int32_t)sym);
    return true;
}


static int
merge_all(struct ax_encoder *e, uint32_t count)
{
    struct ax_pair pair;
    int rc = 0;

    e->heap_n = 0;
    for (uint32_t i = 1; rc == 0 && i < count; i++) {
        rc = offer(e, i - 1, i);
    }
    while (rc == 0 && ax_encoder_pop(e, &pair)) {
        if (ax_encoder_stale(e, &pair)) {
            continue;
        }
        ax_encoder_join(e, &pair);

        uint32_t left = ax_encoder_left(&pair);

        rc = offer(e, e->pieces[left].prev, left);
        if (rc == 0) {
            rc = offer(e, left, e->pieces[left].next);
        }
    }
    return rc;
}


static bool
all_newlines(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] != '\n') {
            return false;
        }
    }
    return true;
}


int
ax_bpe_word(void *arg, const char *p, size_t n)
{
    struct ax_encoder *e = arg;
    bool whole = ax_pretok_ignore_merges(&e->t->pretok) ||
                 (e->t->kind == AX_TOKENIZER_BPE_SPACE && all_newlines(p, n));

    if (whole && emit_whole(e, p, n)) {
        return 0;
    }

    int rc = ax_encoder_check_room(e, p, n);

    if (rc != 0) {
        return rc;
    }
    rc = ax_encoder_reserve((void **)&e->pieces, &e->pieces_cap, n,
                            sizeof(*e->pieces));
    if (rc != 0) {
        return rc;
    }

    uint32_t count = cut(e, p, n);

    rc = merge_all(e, count);
    for (uint32_t i = 0; rc == 0 && i != AX_SYMBOL_NONE;
         i = e->pieces[i].next) {
        ax_encoder_emit_piece(e, &e->pieces[i], p, AX_TOKEN_NONE);
    }
    return rc;
}
