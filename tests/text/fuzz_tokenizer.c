/*
 * Fuzzes the tokenizer twice over: any text on small vocabularies, and any
 * bytes as a vocabulary.
 *
 * The first byte picks a kind.  Text is cut into segments, trusted or not, by
 * a second byte.  What must hold: control tokens only where trusted bytes
 * spell them, the count does not depend on the room, and byte-level text
 * decodes to itself.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/text/tokenizer.h"
#include "engine/text/utf8.h"
#include "tests/text/small_vocab.h"


#define IDS_MAX    8192
#define TOKENS_MAX 512

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const pres[] = {
    "gpt-2",          "smollm",      "llama-bpe", "qwen2",
    "qwen35",         "tekken",      "gpt-4o",    "deepseek-llm",
    "deepseek-coder", "deepseek-v3", "falcon",    "default"};

#define N_PRES (sizeof(pres) / sizeof(pres[0]))


static struct ax_tokenizer *
open_params(const struct ax_tokenizer_params *p)
{
    struct ax_tokenizer *t;
    char err[256];

    if (ax_tokenizer_open(&t, p, err, sizeof(err)) != 0) {
        if (t != NULL || err[0] == '\0') {
            abort();
        }
    }
    return t;
}


/* Tokenizers of small vocabularies are opened once. */
static struct ax_tokenizer *
small(size_t k)
{
    static struct ax_tokenizer *open[N_PRES + 1];

    if (open[k] == NULL) {
        open[k] = open_params(k == N_PRES ? small_vocab("llama", NULL)
                                          : small_vocab("gpt2", pres[k]));
    }
    return open[k];
}


static bool
contains_control(const struct ax_tokenizer *t, const int32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (ax_tokenizer_token_type(t, ids[i]) == AX_TOKEN_TYPE_CONTROL) {
            return true;
        }
    }
    return false;
}


static void
check_round_trip(const struct ax_tokenizer *t, const int32_t *ids, size_t n,
                 const char *text, size_t len)
{
    size_t at = 0;

    for (size_t i = 0; i < n; i++) {
        char buf[64];
        size_t k = ax_tokenizer_decode_token(t, ids[i], true, buf, sizeof(buf));

        if (k > sizeof(buf) || k > len - at || memcmp(buf, text + at, k) != 0) {
            abort();
        }
        at += k;
    }
    if (at != len) {
        abort();
    }
}


static void
fuzz_text(const struct ax_tokenizer *t, bool bytes, unsigned cut,
          const char *text, size_t len)
{
    static int32_t ids[IDS_MAX], few[64];
    struct ax_text_segment segs[8];
    size_t n_segs = 0, n, count, room = cut % 64;
    bool any_trusted = false;

    for (size_t at = 0; n_segs < 8; n_segs++) {
        size_t part = n_segs == 7 ? len - at : (len - at) / 2;

        segs[n_segs] =
            (struct ax_text_segment){text + at, part, (cut >> n_segs & 1) != 0};
        any_trusted |= segs[n_segs].trusted;
        at += part;
    }
    if (ax_tokenizer_encode_segments(t, segs, n_segs, 0, ids, IDS_MAX, &n) !=
            0 ||
        ax_tokenizer_encode_segments(t, segs, n_segs, 0, NULL, 0, &count) !=
            0 ||
        n != count) {
        abort();
    }
    if (ax_tokenizer_encode_segments(t, segs, n_segs, AX_ENCODE_STOP_AT_CAP,
                                     NULL, 0, &count) != 0 ||
        count != (n > 0) ||
        ax_tokenizer_encode_segments(t, segs, n_segs, AX_ENCODE_STOP_AT_CAP,
                                     few, room, &count) != 0 ||
        count != (n < room + 1 ? n : room + 1) ||
        (n <= room && memcmp(few, ids, n * sizeof(*ids)) != 0)) {
        abort();
    }
    if (n > IDS_MAX) {
        return;
    }
    if (!any_trusted && contains_control(t, ids, n)) {
        abort();
    }
    if (bytes && ax_utf8_valid(text, len)) {
        check_round_trip(t, ids, n, text, len);
    }
}


/* The input's lines as tokens, their types by the first byte, and merges. */
static void
fuzz_vocab(const char *text, size_t len, const char *kind)
{
    struct ax_tokenizer_str tokens[TOKENS_MAX];
    int32_t types[TOKENS_MAX];
    float scores[TOKENS_MAX];
    struct ax_tokenizer_params p;
    size_t n = 0, at = 0;

    while (at < len && n < TOKENS_MAX) {
        const char *end = memchr(text + at, '\n', len - at);
        size_t stop = end != NULL ? (size_t)(end - text) : len;

        tokens[n].p = text + at;
        tokens[n].n = (uint32_t)(stop - at);
        types[n] = stop > at ? text[at] % 8 : 0;
        scores[n] = (float)tokens[n].n;
        n++;
        at = stop + 1;
    }
    ax_tokenizer_defaults(&p);
    p.model = kind;
    p.pre = "gpt-2";
    p.n_tokens = (uint32_t)n;
    p.tokens = tokens;
    p.types = types;
    p.scores = scores;
    p.n_merges = (uint32_t)(n / 2);
    p.merges = tokens;
    p.eos_id = (int64_t)n - 3;
    p.bos_id = (int64_t)len;

    struct ax_tokenizer *t = open_params(&p);

    if (t != NULL) {
        fuzz_text(t, false, 0x55, text, len);
        ax_tokenizer_close(t);
    }
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const kinds[] = {"gpt2", "llama", "gemma4"};
    const char *text = (const char *)data + 2;

    if (size < 2) {
        return 0;
    }

    size_t k = data[0] % (N_PRES + 1 + 3);

    if (k <= N_PRES) {
        fuzz_text(small(k), k < N_PRES, data[1], text, size - 2);
    } else {
        fuzz_vocab(text, size - 2, kinds[k - N_PRES - 1]);
    }
    return 0;
}
