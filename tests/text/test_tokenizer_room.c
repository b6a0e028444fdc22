/*
 * Shows that a text which does not fit is given up early, that the bound by
 * which this is told is never too high, and that texts that fit have the same
 * ids with and without it: for all kinds of vocabularies, all caps around
 * the true count, and vocabularies that drop bytes.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "engine/text/spans.h"
#include "engine/text/tokenizer.h"
#include "tests/text/small_vocab.h"


#define IDS_MAX 4096
#define TRUSTED AX_ENCODE_PARSE_SPECIAL

static const struct {
    const char *kind, *pre;
} kinds[] = {{"gpt2", "smollm"},
             {"gpt2", "llama-bpe"},
             {"gemma4", NULL},
             {"llama", NULL}};

#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))


static struct ax_tokenizer *
open_with(const struct ax_tokenizer_params *params)
{
    struct ax_tokenizer *t;
    char err[256];

    if (ax_tokenizer_open(&t, params, err, sizeof(err)) != 0) {
        fail_msg("%s", err);
    }
    return t;
}


static void
same_with_cap(const struct ax_tokenizer *t, const char *text, size_t n,
              unsigned flags, size_t cap)
{
    static int32_t plain[IDS_MAX], stopped[IDS_MAX];
    size_t want, got;

    assert_true(cap <= IDS_MAX);
    assert_int_equal(
        ax_tokenizer_encode(t, text, n, flags, plain, IDS_MAX, &want), 0);
    assert_int_equal(ax_tokenizer_encode(t, text, n,
                                         flags | AX_ENCODE_STOP_AT_CAP, stopped,
                                         cap, &got),
                     0);
    if (want > cap) {
        assert_int_equal(got, cap + 1);
        return;
    }
    assert_int_equal(got, want);
    assert_memory_equal(stopped, plain, want * sizeof(*plain));
}


static void
all_caps(const struct ax_tokenizer *t, const char *text, size_t n,
         unsigned flags)
{
    size_t count;

    assert_int_equal(ax_tokenizer_encode(t, text, n, flags, NULL, 0, &count),
                     0);
    for (size_t cap = count > 3 ? count - 3 : 0; cap <= count + 1; cap++) {
        same_with_cap(t, text, n, flags, cap);
    }
    same_with_cap(t, text, n, flags, 0);
    same_with_cap(t, text, n, flags, count / 2);
}


/* Pieces of the vocabulary, parts of them and rubbish, at random. */
static size_t
random_text(char *text, size_t max)
{
    static const char *const parts[] = {
        "aaaa", "a",    "hello world",      " ",    "    ",         "<tool>",
        "</s>", "\n\n", "\xe2\x96\x81",     "\xff", "<|im_start|>", "<|",
        "ll",   "\xc4", "\xf0\x9f\x99\x82", "7",    "<0x0A>",       "world"};
    size_t n = 0;

    for (int i = rand() % 40; i > 0; i--) {
        const char *part = parts[(size_t)rand() % (sizeof(parts) / 8)];
        size_t len = strlen(part);

        if (n + len <= max) {
            memcpy(text + n, part, len);
            n += len;
        }
    }
    return n;
}


static void
test_texts_that_fit_are_the_same(void **state)
{
    char text[1024];

    (void)state;
    srand(11);
    for (size_t k = 0; k < N_KINDS; k++) {
        struct ax_tokenizer *t =
            open_with(small_vocab(kinds[k].kind, kinds[k].pre));

        for (int i = 0; i < 300; i++) {
            size_t n = random_text(text, sizeof(text));

            all_caps(t, text, n, 0);
            all_caps(t, text, n, TRUSTED | AX_ENCODE_ADD_SPECIAL);
        }
        ax_tokenizer_close(t);
    }
}


/* Bytes without a token are dropped and count for nothing: a text of many of
 * them and one letter fits where there is room for one. */
static void
test_dropped_bytes_do_not_count(void **state)
{
    struct ax_tokenizer_params p = *small_vocab("gpt2", "smollm");
    struct ax_tokenizer_str tokens[400];
    char text[600];

    (void)state;
    memcpy(tokens, p.tokens, p.n_tokens * sizeof(*tokens));
    tokens[SMALL_BYTES + ' '] = (struct ax_tokenizer_str){"gone", 4};
    p.tokens = tokens;
    p.n_merges = 0;

    struct ax_tokenizer *t = open_with(&p);

    memset(text, ' ', sizeof(text));
    text[300] = 'x';
    all_caps(t, text, sizeof(text), 0);
    same_with_cap(t, text, sizeof(text), 0, 1);
    ax_tokenizer_close(t);
}


/* A merge whose result is no token that may stand in text. */
static void
test_merges_into_nothing_do_not_count(void **state)
{
    struct ax_tokenizer_params p = *small_vocab("gpt2", "smollm");
    int32_t types[400];
    char text[512];

    (void)state;
    memcpy(types, p.types, p.n_tokens * sizeof(*types));
    for (uint32_t id = SMALL_MERGED; id < p.n_tokens; id++) {
        types[id] = AX_TOKEN_TYPE_CONTROL;
    }
    p.types = types;

    struct ax_tokenizer *t = open_with(&p);

    memset(text, ' ', sizeof(text));
    all_caps(t, text, sizeof(text), 0);
    ax_tokenizer_close(t);
}


static void
test_special_tokens_count(void **state)
{
    struct ax_tokenizer *t = open_with(small_vocab("gpt2", "smollm"));
    char text[10 * 200];

    (void)state;
    for (size_t i = 0; i < sizeof(text); i += 10) {
        memcpy(text + i, "<|im_end|>", 10);
    }
    all_caps(t, text, sizeof(text), TRUSTED);
    all_caps(t, text, sizeof(text), 0);
    ax_tokenizer_close(t);
}


/* The bound is close enough to refuse repetitions without merging them. */
static void
test_bound_of_repetitions_is_exact(void **state)
{
    struct ax_spans s;
    char text[1000];

    (void)state;
    assert_int_equal(ax_spans_open(&s), 0);
    memset(text, 'a', sizeof(text));
    assert_int_equal(ax_spans_least(&s, text, sizeof(text), 5000), 1000);
    assert_int_equal(ax_spans_least(&s, text, sizeof(text), 10), 11);
    ax_spans_add(&s, "aaaaaaaa", 8);
    ax_spans_add(&s, "bbbbbbbbbbbbbbbb", 16);
    ax_spans_add(&s, "c", 1);
    assert_int_equal(ax_spans_least(&s, text, sizeof(text), 5000), 125);
    text[0] = 'c';
    assert_int_equal(ax_spans_least(&s, text, sizeof(text), 5000), 126);
    s.dropped['a'] = true;
    assert_int_equal(ax_spans_least(&s, text, sizeof(text), 5000), 1);
    assert_int_equal(ax_spans_least(&s, text, 0, 5000), 0);
    ax_spans_close(&s);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts_that_fit_are_the_same),
        cmocka_unit_test(test_dropped_bytes_do_not_count),
        cmocka_unit_test(test_merges_into_nothing_do_not_count),
        cmocka_unit_test(test_special_tokens_count),
        cmocka_unit_test(test_bound_of_repetitions_is_exact)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
