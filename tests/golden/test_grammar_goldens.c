/*
 * Shows that a grammar allows the tokens that llama.cpp's own grammar allows,
 * token by token along the answers of text/grammars.json, on the vocabulary of
 * the tiny models and on SmolLM2's (skipped aloud where the model is not
 * there: make model); and that what llama.cpp refuses is refused.
 *
 * Left out, as in make_grammar_goldens.py, which says why: control tokens and
 * those that begin with a NUL byte.  (What it says of bytes that are no UTF-8
 * is not in the goldens.)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <jansson.h>
#include "engine/grammar/constraint.h"
#include "engine/model/vocab.h"
#include "engine/text/tokenizer.h"
#include "tests/tiny/tiny_model.h"

#define GOLDENS     "tests/golden/text/grammars.json"
#define MODEL       "models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define N_SMOLLM2   49152u
#define WORDS_MAX   (N_SMOLLM2 / 64)
#define ANSWER_MAX  64u
#define TOKEN_BYTES 512u
#define WORK        (1ull << 30)

static json_t *goldens;

/* One of the two vocabularies. */
static struct {
    const char *name;
    struct ax_tokenizer *tokenizer;
    struct ax_vocabulary_source source;
    struct ax_vocabulary *trie;
    uint64_t compared[WORDS_MAX];
} v;


static size_t
bytes_of(const void *context, int32_t token, char *out, size_t cap)
{
    return ax_tokenizer_decode_token(context, token, false, out, cap);
}


static bool
ends(const void *context, int32_t token)
{
    return ax_tokenizer_is_eog(context, token);
}


static bool
is_compared(int32_t token)
{
    char bytes[TOKEN_BYTES];
    size_t n = bytes_of(v.tokenizer, token, bytes, sizeof(bytes));
    return ends(v.tokenizer, token) || (n > 0 && bytes[0] != '\0');
}


static void
open_vocabulary(const char *name, const char *path, uint32_t n)
{
    struct ax_gguf *gguf = NULL;
    struct ax_vocab vocab = {0};
    struct ax_error error = {0};
    char why[256] = "";
    if (ax_gguf_open(&gguf, path, &error) != AXION_OK ||
        ax_vocab_read(&vocab, gguf, n, &error) != AXION_OK ||
        ax_tokenizer_open(&v.tokenizer, &vocab.params, why, sizeof(why)) != 0) {
        fail_msg("%s: %s%s", path, error.text, why);
    }
    ax_vocab_free(&vocab);
    ax_gguf_close(gguf);
    v.name = name;
    v.source = (struct ax_vocabulary_source){v.tokenizer, n, bytes_of, ends};
    assert_int_equal(ax_vocabulary_open(&v.trie, &v.source), AXION_OK);
    memset(v.compared, 0, sizeof(v.compared));
    for (uint32_t t = 0; t < n; t++) {
        v.compared[t / 64] |= (uint64_t)is_compared((int32_t)t) << (t % 64);
    }
}


static void
close_vocabulary(void)
{
    ax_vocabulary_close(v.trie);
    ax_tokenizer_close(v.tokenizer);
}


/* As the goldens have it: bits in hexadecimal digits, or a hash of them. */
static void
show(const uint64_t *mask, char *out, size_t size)
{
    uint32_t words = ax_constraint_words(v.source.n_vocab);
    uint64_t hash = 0xcbf29ce484222325u;
    size_t at = 0;
    for (uint32_t i = 0; i < words; i++) {
        hash = (hash ^ mask[i]) * 0x100000001b3u;
    }
    if (v.source.n_vocab == N_SMOLLM2) {
        snprintf(out, size, "%016llx", (unsigned long long)hash);
        return;
    }
    for (uint32_t i = words; i-- > 0;) {
        at += (size_t)snprintf(out + at, size - at, at > 0 ? "%016llx" : "%llx",
                               (unsigned long long)mask[i]);
        at = at == 1 && out[0] == '0' && i > 0 ? 0 : at;
    }
}


static void
compare_walk(struct ax_constraint *c, const json_t *walk, const char *gbnf)
{
    const json_t *tokens = json_object_get(walk, "tokens");
    const json_t *allowed = json_object_get(walk, "allowed");
    uint32_t words = ax_constraint_words(v.source.n_vocab);
    int32_t answer[ANSWER_MAX];
    struct ax_place place = {0};
    assert_true(json_array_size(tokens) <= ANSWER_MAX);
    for (uint32_t n = 0; n < json_array_size(allowed); n++) {
        static uint64_t mask[WORDS_MAX];
        char shown[TINY_N_VOCAB + 64];
        bool any;
        ax_constraint_allow(c, WORK);
        int rc = ax_constraint_follow(c, &place, answer, n);
        if (rc == AXION_OK) {
            rc = ax_constraint_mask(c, &place, mask, &any);
        }
        for (uint32_t i = 0; i < words; i++) {
            mask[i] &= v.compared[i];
        }
        show(mask, shown, sizeof(shown));
        const char *theirs = json_string_value(json_array_get(allowed, n));
        if (rc != AXION_OK || strcmp(shown, theirs) != 0) {
            fail_msg("%s, behind %u tokens: error %d, ours %s, theirs %s\n%s",
                     v.name, n, rc, shown, theirs, gbnf);
        }
        answer[n] = (int32_t)json_integer_value(json_array_get(tokens, n));
    }
}


static void
compare_all(void)
{
    size_t i, k, n_masks = 0;
    const json_t *row, *walk;
    json_array_foreach(json_object_get(goldens, "grammars"), i, row)
    {
        const json_t *text = json_object_get(row, "gbnf");
        const char *gbnf = json_string_value(text);
        struct ax_constraint_options o = {v.trie, &v.source, NULL};
        struct ax_constraint *c;
        struct ax_error err = {0};
        if (ax_grammar_compile(&o.grammar, gbnf, json_string_length(text),
                               &err) != AXION_OK) {
            fail_msg("%s\n%s", err.text, gbnf);
        }
        assert_int_equal(ax_constraint_open(&c, &o), AXION_OK);
        json_array_foreach(json_object_get(row, v.name), k, walk)
        {
            compare_walk(c, walk, gbnf);
            n_masks += json_array_size(json_object_get(walk, "allowed"));
        }
        ax_constraint_close(c);
    }
    print_message("%zu masks of %u tokens in %zu grammars\n", n_masks,
                  v.source.n_vocab, i);
    assert_true(n_masks > 3 * i);
}


static void
on_the_tiny_vocabulary(void **state)
{
    char path[] = "/tmp/axion-test-XXXXXX";
    int fd = mkstemp(path);
    (void)state;
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(tiny_model_write(path, tiny_variant_find("q4_0")), 0);
    open_vocabulary("tiny", path, TINY_N_VOCAB);
    (void)unlink(path);
    compare_all();
    close_vocabulary();
}


static void
on_smollm2s_vocabulary(void **state)
{
    (void)state;
    if (access(MODEL, R_OK) != 0) {
        print_message("no %s (make model)\n", MODEL);
        skip();
    }
    open_vocabulary("smollm2", MODEL, N_SMOLLM2);
    compare_all();
    close_vocabulary();
}


static void
what_it_refuses_is_refused(void **state)
{
    size_t i;
    const json_t *text;
    (void)state;
    json_array_foreach(json_object_get(goldens, "refused"), i, text)
    {
        struct ax_grammar *grammar;
        struct ax_error err = {0};
        if (ax_grammar_compile(&grammar, json_string_value(text),
                               json_string_length(text), &err) == AXION_OK) {
            fail_msg("%s", json_string_value(text));
        }
    }
    assert_true(i > 10);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(on_the_tiny_vocabulary),
        cmocka_unit_test(on_smollm2s_vocabulary),
        cmocka_unit_test(what_it_refuses_is_refused),
    };
    json_error_t error;
    goldens = json_load_file(GOLDENS, JSON_ALLOW_NUL, &error);
    if (goldens == NULL) {
        print_error("%s: %s\n", GOLDENS, error.text);
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    json_decref(goldens);
    return failed;
}
