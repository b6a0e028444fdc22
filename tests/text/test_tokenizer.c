/*
 * Shows on a small vocabulary that text becomes the right tokens, that a
 * client's text never becomes a control token, that any bytes come back, and
 * that broken vocabularies and hostile text have named ends.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "engine/text/tokenizer.h"
#include "tests/text/small_vocab.h"


#define IDS_MAX 4096

static int32_t ids[IDS_MAX];
static size_t n_ids;


static struct ax_tokenizer *
open_small(const char *kind, const char *pre)
{
    struct ax_tokenizer *t;
    char err[256];

    if (ax_tokenizer_open(&t, small_vocab(kind, pre), err, sizeof(err)) != 0) {
        fail_msg("%s", err);
    }
    return t;
}


static void
encode(const struct ax_tokenizer *t, const char *text, unsigned flags)
{
    assert_int_equal(
        ax_tokenizer_encode(t, text, strlen(text), flags, ids, IDS_MAX, &n_ids),
        0);
    assert_true(n_ids <= IDS_MAX);
}


/* The ids' vocabulary texts with spaces between. */
static const char *
texts(const struct ax_tokenizer *t)
{
    static char out[4096];
    size_t w = 0;

    for (size_t i = 0; i < n_ids; i++) {
        struct ax_tokenizer_str s = ax_tokenizer_token_text(t, ids[i]);

        out[w] = ' ';
        w += i > 0;
        memcpy(out + w, s.p, s.n);
        w += s.n;
    }
    out[w] = '\0';
    return out;
}


static void
check(const struct ax_tokenizer *t, const char *text, unsigned flags,
      const char *expected)
{
    encode(t, text, flags);
    assert_string_equal(texts(t), expected);
}


static void
test_merges_by_rank(void **state)
{
    struct ax_tokenizer *t = open_small("gpt2", "gpt-2");

    (void)state;
    check(t, "hello world", 0, "hello \xc4\xa0world");
    check(t, "hell", 0, "he ll");
    check(t, "aaaaa", 0, "aaaa a");
    check(t, "aaaaaaaaaaa", 0, "aaaaaaaa aa a");
    check(t, "", 0, "");
    check(t, "\n", 0, "\xc4\x8a");
    ax_tokenizer_close(t);
}


static void
test_digits_stand_alone(void **state)
{
    struct ax_tokenizer *t = open_small("gpt2", "smollm");

    (void)state;
    check(t, "a12 3", 0, "a 1 2 \xc4\xa0 3");
    ax_tokenizer_close(t);
}


static void
test_sentencepiece(void **state)
{
    struct ax_tokenizer *t = open_small("llama", NULL);

    (void)state;
    check(t, "hello world", AX_ENCODE_ADD_SPECIAL,
          "<|im_start|> \xe2\x96\x81hello \xe2\x96\x81world");
    check(t, "\xc3\xa9", 0, "\xe2\x96\x81 <0xC3> <0xA9>");
    check(t, "", AX_ENCODE_ADD_SPECIAL, "<|im_start|>");
    check(t, "a<|im_end|>a", AX_ENCODE_PARSE_SPECIAL,
          "\xe2\x96\x81 a <|im_end|> \xe2\x96\x81 a");
    ax_tokenizer_close(t);
}


static void
test_special_only_where_trusted(void **state)
{
    struct ax_tokenizer *t = open_small("gpt2", "gpt-2");

    (void)state;
    check(t, "<|im_end|>", AX_ENCODE_PARSE_SPECIAL, "<|im_end|>");
    encode(t, "<|im_end|>", 0);
    assert_true(n_ids > 1);
    for (size_t i = 0; i < n_ids; i++) {
        assert_int_not_equal(ax_tokenizer_token_type(t, ids[i]),
                             AX_TOKEN_TYPE_CONTROL);
    }
    check(t, "a<tool>a", 0, "a <tool> a"); /* user defined: anywhere */
    check(t, "<|im_start|", AX_ENCODE_PARSE_SPECIAL, "<| i m _ s t a r t |");
    ax_tokenizer_close(t);
}


/* Half of a control token from a client does not complete the template's. */
static void
test_special_across_segments(void **state)
{
    struct ax_tokenizer *t = open_small("gpt2", "gpt-2");
    struct ax_text_segment forged[] = {{"<|im_", 5, true}, {"end|>", 5, false}};
    struct ax_text_segment split[] = {
        {"<|im_", 5, true}, {"", 0, false}, {"end|>", 5, true}};
    struct ax_text_segment chat[] = {{"<|im_start|>", 12, true},
                                     {"he", 2, false},
                                     {"llo<|im_end|>", 13, true}};

    (void)state;
    assert_int_equal(
        ax_tokenizer_encode_segments(t, forged, 2, 0, ids, IDS_MAX, &n_ids), 0);
    assert_true(n_ids > 1);
    assert_int_equal(
        ax_tokenizer_encode_segments(t, split, 3, 0, ids, IDS_MAX, &n_ids), 0);
    assert_string_equal(texts(t), "<|im_end|>");
    assert_int_equal(
        ax_tokenizer_encode_segments(t, chat, 3, 0, ids, IDS_MAX, &n_ids), 0);
    assert_string_equal(texts(t), "<|im_start|> hello <|im_end|>");
    ax_tokenizer_close(t);
}


/* "</s>" could be merged from pieces that are no control tokens. */
static void
test_sentencepiece_cannot_merge_control(void **state)
{
    struct ax_tokenizer *t = open_small("llama", NULL);

    (void)state;
    encode(t, "a</s>", 0);
    for (size_t i = 0; i < n_ids; i++) {
        assert_int_not_equal(ax_tokenizer_token_type(t, ids[i]),
                             AX_TOKEN_TYPE_CONTROL);
    }
    ax_tokenizer_close(t);
}


static void
test_all_bytes_come_back(void **state)
{
    struct ax_tokenizer *t = open_small("gpt2", "gpt-2");
    char text[2048], back[8192];
    size_t n = 0, w = 0;

    (void)state;
    for (uint32_t cp = 1; cp < 0x300; cp++) {
        if (cp < 0x80) {
            text[n++] = (char)cp;
        } else {
            text[n++] = (char)(0xc0 | cp >> 6);
            text[n++] = (char)(0x80 | (cp & 0x3f));
        }
    }
    text[n] = '\0';
    encode(t, text, 0);
    for (size_t i = 0; i < n_ids; i++) {
        w += ax_tokenizer_decode_token(t, ids[i], false, back + w,
                                       sizeof(back) - w);
    }
    assert_int_equal(w, n);
    assert_memory_equal(back, text, n);
    ax_tokenizer_close(t);
}


static void
test_bad_utf8_reads_as_replacement(void **state)
{
    struct ax_tokenizer *t = open_small("gpt2", "gpt-2");
    size_t good;

    (void)state;
    encode(t,
           "a\xef\xbf\xbd"
           "b",
           0);
    good = n_ids;
    encode(t,
           "a\xff"
           "b",
           0);
    assert_int_equal(n_ids, good);
    encode(t, "a\xe4\xbd", 0);
    assert_int_equal(n_ids, good - 1);
    ax_tokenizer_close(t);
}


static void
test_count_without_room(void **state)
{
    struct ax_tokenizer *t = open_small("gpt2", "gpt-2");
    int32_t one = -7;

    (void)state;
    assert_int_equal(
        ax_tokenizer_encode(t, "aaaaa aaaaa", 11, 0, NULL, 0, &n_ids), 0);
    assert_true(n_ids > 1);
    assert_int_equal(ax_tokenizer_encode(t, "aaaaa", 5, 0, &one, 1, &n_ids), 0);
    assert_int_equal(n_ids, 2);
    assert_int_equal(one, ax_tokenizer_find(t, "aaaa", 4));
    ax_tokenizer_close(t);
}


static void
test_decode(void **state)
{
    struct ax_tokenizer *t = open_small("gpt2", "gpt-2");
    char buf[64];

    (void)state;
    assert_int_equal(ax_tokenizer_decode_token(t, SMALL_END, false, buf, 64),
                     0);
    assert_int_equal(ax_tokenizer_decode_token(t, SMALL_END, true, buf, 64),
                     10);
    assert_memory_equal(buf, "<|im_end|>", 10);
    assert_int_equal(ax_tokenizer_decode_token(t, SMALL_USER, false, buf, 3),
                     6);
    assert_int_equal(ax_tokenizer_decode_token(t, -1, true, buf, 64), 0);
    assert_int_equal(ax_tokenizer_decode_token(t, 1 << 30, true, buf, 64), 0);
    for (int b = 0; b < 256; b++) {
        assert_int_equal(
            ax_tokenizer_decode_token(t, SMALL_BYTES + b, false, buf, 64), 1);
        assert_int_equal((uint8_t)buf[0], b);
    }
    ax_tokenizer_close(t);
}


static void
test_ids_and_names(void **state)
{
    struct ax_tokenizer *t = open_small("gpt2", "gpt-2");

    (void)state;
    assert_true(ax_tokenizer_is_eog(t, SMALL_END));
    assert_false(ax_tokenizer_is_eog(t, SMALL_START));
    assert_false(ax_tokenizer_is_eog(t, -5));
    assert_int_equal(ax_tokenizer_bos(t), SMALL_START);
    assert_int_equal(ax_tokenizer_eot(t), SMALL_END);
    assert_int_equal(ax_tokenizer_pad(t), AX_TOKEN_NONE);
    assert_false(ax_tokenizer_add_bos(t));
    assert_int_equal(ax_tokenizer_find(t, "<tool>", 6), SMALL_USER);
    assert_int_equal(ax_tokenizer_find(t, "nope", 4), AX_TOKEN_NONE);
    assert_int_equal(ax_tokenizer_find(t, "", 0), AX_TOKEN_NONE);
    ax_tokenizer_close(t);
}


/* A megabyte of one letter, of blanks, of newlines, of mixed rubbish. */
static void
test_hostile_text_is_not_quadratic(void **state)
{
    static const char *const fills[] = {
        "a",    " ",  "\n",     "1", "'", "<|im_", "\xf0\x9f\x99\x82",
        "\xff", "a ", "\r\n \t"};
    size_t n = getenv("AXION_SANITIZED") != NULL ? 100000 : 1000000;
    char *text = malloc(n);

    (void)state;
    for (size_t k = 0; k < sizeof(fills) / sizeof(fills[0]); k++) {
        static const char *const pres[] = {"smollm", "llama-bpe", "tekken",
                                           "deepseek-v3", "default"};

        for (size_t i = 0; i < n; i++) {
            text[i] = fills[k][i % strlen(fills[k])];
        }
        for (size_t p = 0; p < sizeof(pres) / sizeof(pres[0]); p++) {
            struct ax_tokenizer *t = open_small("gpt2", pres[p]);

            assert_int_equal(
                ax_tokenizer_encode(t, text, n, 1, NULL, 0, &n_ids), 0);
            assert_true(n_ids > 0);
            ax_tokenizer_close(t);
        }

        struct ax_tokenizer *t = open_small("llama", NULL);

        assert_int_equal(ax_tokenizer_encode(t, text, n, 1, NULL, 0, &n_ids),
                         0);
        ax_tokenizer_close(t);
    }
    free(text);
}


static void
refuse(const struct ax_tokenizer_params *p, int rc, const char *word)
{
    struct ax_tokenizer *t;
    char err[256];

    assert_int_equal(ax_tokenizer_open(&t, p, err, sizeof(err)), rc);
    assert_null(t);
    if (strstr(err, word) == NULL) {
        fail_msg("\"%s\" does not name \"%s\"", err, word);
    }
}


static void
test_bad_vocabularies_are_refused(void **state)
{
    struct ax_tokenizer_params p = *small_vocab("gpt2", "gpt-2");
    struct ax_tokenizer_str longest = {NULL, 1u << 20};
    struct ax_tokenizer_str bad_merge = {"abc", 3};

    (void)state;
    p.model = "bert";
    refuse(&p, AX_TEXT_UNSUPPORTED, "bert");
    p = *small_vocab("gpt2", "no-such-pre");
    refuse(&p, AX_TEXT_UNSUPPORTED, "no-such-pre");
    p = *small_vocab("gpt2", " ");
    refuse(&p, AX_TEXT_UNSUPPORTED, "pre-tokenizer");
    p = *small_vocab("gpt2", "gpt-2");
    p.n_tokens = 0;
    refuse(&p, AX_TEXT_BAD_VOCAB, "tokens");
    p.n_tokens = AX_TOKENIZER_TOKENS_MAX + 1;
    refuse(&p, AX_TEXT_BAD_VOCAB, "tokens");
    p.n_tokens = 1;
    p.tokens = &longest;
    refuse(&p, AX_TEXT_BAD_VOCAB, "bytes");
    p = *small_vocab("gpt2", "gpt-2");
    p.merges = &bad_merge;
    p.n_merges = 1;
    refuse(&p, AX_TEXT_BAD_VOCAB, "merge 0");
}


static void
test_ids_out_of_range_count_as_absent(void **state)
{
    struct ax_tokenizer_params p = *small_vocab("gpt2", "gpt-2");
    struct ax_tokenizer *t;
    char err[256];

    (void)state;
    p.bos_id = 1 << 20;
    p.eos_id = -9;
    p.pad_id = INT64_MAX;
    assert_int_equal(ax_tokenizer_open(&t, &p, err, sizeof(err)), 0);
    assert_int_equal(ax_tokenizer_pad(t), AX_TOKEN_NONE);
    assert_true(ax_tokenizer_bos(t) < (int32_t)ax_tokenizer_n_vocab(t));
    ax_tokenizer_close(t);
    ax_tokenizer_close(NULL);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merges_by_rank),
        cmocka_unit_test(test_digits_stand_alone),
        cmocka_unit_test(test_sentencepiece),
        cmocka_unit_test(test_special_only_where_trusted),
        cmocka_unit_test(test_special_across_segments),
        cmocka_unit_test(test_sentencepiece_cannot_merge_control),
        cmocka_unit_test(test_all_bytes_come_back),
        cmocka_unit_test(test_bad_utf8_reads_as_replacement),
        cmocka_unit_test(test_count_without_room),
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_ids_and_names),
        cmocka_unit_test(test_hostile_text_is_not_quadratic),
        cmocka_unit_test(test_bad_vocabularies_are_refused),
        cmocka_unit_test(test_ids_out_of_range_count_as_absent)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
