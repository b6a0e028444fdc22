/*
 * Segments to ids: joining, repair, special tokens, plain runs.
 *
 * The segments are joined into one text, repaired where it is no UTF-8, with
 * a list of runs that remembers which bytes are trusted.  One pass finds
 * special tokens, leftmost first and the longest at a place; what lies
 * between two of them is one plain run, whatever segments it came from.  So
 * words and merges cross segment borders just as they would in one string,
 * and only the recognition of control tokens looks at trust.
 */
#include "engine/text/encoder.h"

#include <stdlib.h>
#include <string.h>

#include "engine/text/utf8.h"


#define TEXT_BYTES_MAX ((size_t)1 << 30)
#define SPACE_MARK     "\xe2\x96\x81" /* U+2581 */


struct run {
    size_t end;
    bool trusted;
};


/* The joined text.  owned is NULL when one valid segment needed no copy. */
struct joined {
    const char *p;
    size_t n;
    char *owned;
    struct run *runs; /* adjacent runs differ in trust */
    size_t n_runs;
};


static void
run_extend(struct joined *j, size_t end, bool trusted)
{
    if (j->n_runs > 0 && j->runs[j->n_runs - 1].trusted == trusted) {
        j->runs[j->n_runs - 1].end = end;
    } else {
        j->runs[j->n_runs++] = (struct run){end, trusted};
    }
}


/*
 * Rewrites the text with U+FFFD for what is no UTF-8.  A character belongs
 * to the run of its first byte, and one bad byte makes at most three.
 */
static int
repair(struct joined *j)
{
    char *out = malloc(j->n * 3);
    struct run *runs = malloc(j->n_runs * sizeof(*runs));

    if (out == NULL || runs == NULL) {
        free(out);
        free(runs);
        return AX_TEXT_NO_MEMORY;
    }

    struct joined fixed = {out, 0, out, runs, 0};
    size_t at = 0;

    for (size_t i = 0; i < j->n_runs; i++) {
        while (at < j->runs[i].end) {
            uint32_t cp;

            at += ax_utf8_next(j->p + at, j->n - at, &cp);
            fixed.n += ax_utf8_encode(cp, out + fixed.n);
            run_extend(&fixed, fixed.n, j->runs[i].trusted);
        }
    }

    free(j->owned);
    free(j->runs);
    *j = fixed;
    return 0;
}


static int
join(struct joined *j, const struct ax_text_segment *segs, size_t n_segs)
{
    size_t total = 0;

    memset(j, 0, sizeof(*j));
    for (size_t i = 0; i < n_segs; i++) {
        if (segs[i].n > TEXT_BYTES_MAX - total) {
            return AX_TEXT_TOO_LONG;
        }
        total += segs[i].n;
    }
    if (total == 0) {
        return 0;
    }

    j->owned = malloc(total);
    j->runs = malloc(n_segs * sizeof(*j->runs));
    if (j->owned == NULL || j->runs == NULL) {
        return AX_TEXT_NO_MEMORY;
    }
    for (size_t i = 0; i < n_segs; i++) {
        if (segs[i].n > 0) {
            memcpy(j->owned + j->n, segs[i].p, segs[i].n);
            j->n += segs[i].n;
            run_extend(j, j->n, segs[i].trusted);
        }
    }
    j->p = j->owned;
    return ax_utf8_valid(j->p, j->n) ? 0 : repair(j);
}


/* Copies with U+2581 for spaces and, if asked, one more in front. */
static int
mark_spaces(struct ax_encoder *e, const char *p, size_t n, bool prefix,
            size_t *out_n)
{
    int rc =
        ax_encoder_reserve((void **)&e->text, &e->text_cap, (n + 1) * 3, 1);
    if (rc != 0) {
        return rc;
    }

    char *out = e->text;

    if (prefix) {
        memcpy(out, SPACE_MARK, 3);
        out += 3;
    }
    for (size_t i = 0; i < n; i++) {
        if (p[i] == ' ') {
            memcpy(out, SPACE_MARK, 3);
            out += 3;
        } else {
            *out++ = p[i];
        }
    }
    *out_n = (size_t)(out - e->text);
    return 0;
}


static int
plain_run(struct ax_encoder *e, const char *p, size_t n, bool after_special)
{
    const struct ax_tokenizer *t = e->t;
    size_t len;
    int rc;

    if (n == 0) {
        return 0;
    }

    switch (t->kind) {
    case AX_TOKENIZER_SPM:
        rc = mark_spaces(e, p, n, t->add_space_prefix && after_special, &len);
        if (rc == 0) {
            rc = ax_encoder_check_room(e, e->text, len);
        }
        return rc != 0 ? rc : ax_spm_run(e, e->text, len);

    case AX_TOKENIZER_BPE_SPACE:
        rc = mark_spaces(e, p, n, false, &len);
        if (rc == 0) {
            rc = ax_encoder_check_room(e, e->text, len);
        }
        if (rc != 0) {
            return rc;
        }
        return ax_pretok_split(&t->pretok, &e->pretok, e->text, len,
                               ax_bpe_word, e);

    case AX_TOKENIZER_BPE:
        break;
    }
    rc = ax_encoder_check_room(e, p, n);
    if (rc != 0) {
        return rc;
    }
    return ax_pretok_split(&t->pretok, &e->pretok, p, n, ax_bpe_word, e);
}


static int
encode_joined(struct ax_encoder *e, const struct joined *j)
{
    const struct ax_symbols *v = &e->t->vocab;
    size_t start = 0, at = 0, run = 0;
    bool after_special = true;
    int rc = 0;

    while (rc == 0 && at < j->n) {
        size_t len;
        int32_t id = AX_TOKEN_NONE;

        while (at >= j->runs[run].end) {
            run++;
        }
        if (v->special_first[(uint8_t)j->p[at]]) {
            size_t trusted = j->runs[run].trusted ? j->runs[run].end - at : 0;

            id = ax_symbols_match_special(v, j->p + at, j->n - at, trusted,
                                          &len);
        }
        if (id == AX_TOKEN_NONE) {
            at++;
            continue;
        }

        rc = plain_run(e, j->p + start, at - start, after_special);
        ax_encoder_emit(e, id);
        if (rc == 0 && e->stop_at_cap && e->n > e->cap) {
            rc = AX_ENCODER_FULL;
        }
        after_special = true;
        at += len;
        start = at;
    }
    if (rc != 0 || start == at) {
        return rc;
    }
    return plain_run(e, j->p + start, at - start, after_special);
}


int
ax_tokenizer_encode_segments(const struct ax_tokenizer *t,
                             const struct ax_text_segment *segs, size_t n_segs,
                             unsigned flags, int32_t *ids, size_t cap,
                             size_t *n)
{
    struct ax_encoder e = {.t = t,
                           .ids = ids,
                           .cap = cap,
                           .stop_at_cap = (flags & AX_ENCODE_STOP_AT_CAP) != 0};
    struct joined j;
    bool special = (flags & AX_ENCODE_ADD_SPECIAL) != 0;
    int rc = join(&j, segs, n_segs);

    if (rc == 0) {
        rc = ax_pretok_scratch_open(&e.pretok, &t->pretok);
    }
    if (rc == 0 && special && t->add_bos && t->bos_id != AX_TOKEN_NONE) {
        ax_encoder_emit(&e, t->bos_id);
    }
    if (rc == 0) {
        rc = encode_joined(&e, &j);
    }
    if (rc == 0 && special && t->add_eos && t->eos_id != AX_TOKEN_NONE) {
        ax_encoder_emit(&e, t->eos_id);
    }
    if (rc == AX_ENCODER_FULL || (rc == 0 && e.stop_at_cap && e.n > cap)) {
        e.n = cap + 1;
        rc = 0;
    }

    ax_pretok_scratch_close(&e.pretok);
    free(e.pieces);
    free(e.heap);
    free(e.text);
    free(j.owned);
    free(j.runs);
    *n = rc == 0 ? e.n : 0;
    return rc;
}


int
ax_tokenizer_encode(const struct ax_tokenizer *t, const char *text, size_t len,
                    unsigned flags, int32_t *ids, size_t cap, size_t *n)
{
    struct ax_text_segment seg = {text, len,
                                  (flags & AX_ENCODE_PARSE_SPECIAL) != 0};

    return ax_tokenizer_encode_segments(t, &seg, 1, flags, ids, cap, n);
}
