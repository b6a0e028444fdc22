/* Masks over a vocabulary: each token by itself through a slow matcher; the
 * same masks after memory was full, by places that took turns, in pieces of
 * work. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "engine/grammar/constraint.h"
#include "tests/grammar/naive.h"

#define PLENTY   (1u << 28)
#define N_VOCAB  700
#define N_WORDS  (N_VOCAB - 3)
#define END_ID   (N_VOCAB - 1) /* and the two before are no text */
#define GRAMMARS 60
#define TOKENS   6
#define LONG     2900 /* tokens, of more letters than there are states */

/* Words of up to 4 letters, and every byte of the letters alone. */
struct word {
    int letters[4], n;
    char bytes[17];
};
static struct word words[N_VOCAB];


static size_t
bytes_of(const void *context, int32_t token, char *out, size_t cap)
{
    const struct word *w = (const struct word *)context + token;
    size_t n = strlen(w->bytes);
    memcpy(out, w->bytes, n < cap ? n : cap);
    return n;
}


static bool
ends(const void *context, int32_t token)
{
    (void)context;
    return token == END_ID;
}


static const struct ax_vocabulary_source source = {words, N_VOCAB, bytes_of,
                                                   ends};


static struct ax_vocabulary *
make_vocabulary(void)
{
    struct ax_vocabulary *v;
    for (int i = 0; i < N_WORDS; i++) {
        struct word *w = &words[i];
        *w = (struct word){.n = i % 4 + 1};
        for (int k = 0; k < w->n; k++) {
            w->letters[k] = (int)naive_draw(NAIVE_LETTERS);
            strcat(w->bytes, naive_letters[w->letters[k]]);
        }
    }
    assert_int_equal(ax_vocabulary_open(&v, &source), AXION_OK);
    return v;
}


static struct ax_constraint *
open_constraint(const struct ax_vocabulary *v, const char *gbnf)
{
    struct ax_constraint_options o = {v, &source, NULL};
    struct ax_constraint *c;
    struct ax_error err = {0};
    if (ax_grammar_compile(&o.grammar, gbnf, strlen(gbnf), &err) != AXION_OK) {
        fail_msg("%s\n%s", gbnf, err.text);
    }
    assert_int_equal(ax_constraint_open(&c, &o), AXION_OK);
    ax_constraint_allow(c, PLENTY);
    return c;
}


static const struct naive *
after_word(const struct naive *rest, int token)
{
    for (int i = 0; i < words[token].n && rest != NULL; i++) {
        rest = naive_after(rest, words[token].letters[i]);
    }
    return rest;
}


static void
check_mask(const struct naive *rest, const uint64_t *mask, const char *gbnf)
{
    for (int token = 0; token < N_WORDS; token++) {
        size_t mark = naive_mark();
        bool expected = after_word(rest, token) != NULL;
        naive_release(mark);
        if (naive_gave_up()) {
            return;
        }
        if (ax_mask_has(mask, token) != expected) {
            fail_msg("\"%s\" is %sallowed:\n%s", words[token].bytes,
                     expected ? "not " : "", gbnf);
        }
    }
    assert_false(ax_mask_has(mask, N_WORDS));
    assert_false(ax_mask_has(mask, N_WORDS + 1));
    assert_int_equal(ax_mask_has(mask, END_ID), naive_accepts(rest));
}


static int32_t
draw_allowed(const uint64_t *mask)
{
    int32_t start = (int32_t)naive_draw(N_WORDS);
    for (int32_t i = 0; i < N_WORDS; i++) {
        int32_t token = (start + i) % N_WORDS;
        if (ax_mask_has(mask, token)) {
            return token;
        }
    }
    return -1;
}


/* The masks of one random answer; their number. */
static uint32_t
compare_answer(struct ax_constraint *c, const struct naive *rest,
               const char *gbnf)
{
    struct ax_place place = {0};
    int32_t answer[TOKENS];
    uint32_t n = 0;
    while (n < TOKENS) {
        uint64_t mask[(N_VOCAB + 63) / 64];
        bool any;
        int rc = ax_constraint_follow(c, &place, answer, n);
        if (rc == AXION_OK) {
            rc = ax_constraint_mask(c, &place, mask, &any);
        }
        if (rc == AXION_ERR_GRAMMAR_LIMIT || naive_gave_up()) {
            break; /* too many ways to read it */
        }
        assert_int_equal(rc, AXION_OK);
        check_mask(rest, mask, gbnf);
        answer[n] = draw_allowed(mask);
        if (answer[n] < 0) {
            break;
        }
        rest = after_word(rest, answer[n++]);
    }
    return n;
}


static void
test_beside_a_slow_matcher(void **unused)
{
    uint32_t n = 0;
    (void)unused;
    struct ax_vocabulary *v = make_vocabulary();
    for (uint64_t seed = 1; seed <= GRAMMARS; seed++) {
        const char *gbnf;
        const struct naive *root = naive_random(seed, &gbnf);
        struct ax_constraint *c = open_constraint(v, gbnf);
        n += compare_answer(c, root, gbnf);
        ax_constraint_close(c);
    }
    print_message("%u masks\n", n);
    assert_true(n > GRAMMARS * 2);
    ax_vocabulary_close(v);
}


/* Two places in one grammar whose states do not fit together: each forgets
 * what the other stands on, and both go on as they would alone. */
static void
test_places_that_forget_each_other(void **unused)
{
    static uint64_t mask[(N_VOCAB + 63) / 64], alone[(N_VOCAB + 63) / 64];
    static int32_t answer[2][LONG];
    (void)unused;
    struct ax_vocabulary *v = make_vocabulary();
    const char *gbnf = "root ::= ([abc]{30000} | [a\xc3\xa9]{30000}) \"a\"";
    struct ax_constraint *c = open_constraint(v, gbnf);
    struct ax_place place[2] = {{0}, {0}};
    uint32_t generation = 0, forgotten = 0;
    bool any;
    for (uint32_t n = 0; n < LONG; n++) {
        for (int i = 0; i < 2; i++) {
            ax_constraint_allow(c, PLENTY);
            assert_int_equal(ax_constraint_follow(c, &place[i], answer[i], n),
                             AXION_OK);
            assert_int_equal(ax_constraint_mask(c, &place[i], mask, &any),
                             AXION_OK);
            assert_true(any);
            answer[i][n] = draw_allowed(mask);
            forgotten += place[i].generation != generation;
            generation = place[i].generation;
        }
    }
    assert_true(forgotten > 2);
    for (int i = 0; i < 2; i++) {
        struct ax_constraint *other = open_constraint(v, gbnf);
        struct ax_place fresh = {0};
        assert_int_equal(ax_constraint_follow(other, &fresh, answer[i], LONG),
                         AXION_OK);
        assert_int_equal(ax_constraint_mask(other, &fresh, alone, &any),
                         AXION_OK);
        ax_constraint_allow(c, PLENTY);
        assert_int_equal(ax_constraint_follow(c, &place[i], answer[i], LONG),
                         AXION_OK);
        assert_int_equal(ax_constraint_mask(c, &place[i], mask, &any),
                         AXION_OK);
        assert_memory_equal(mask, alone, sizeof(mask));
        ax_constraint_close(other);
    }
    ax_constraint_close(c);
    ax_vocabulary_close(v);
}


static void
test_work_in_pieces(void **unused)
{
    uint64_t mask[(N_VOCAB + 63) / 64], whole[(N_VOCAB + 63) / 64];
    struct ax_place place = {0}, fresh = {0};
    bool any;
    int again = 0, rc;
    (void)unused;
    struct ax_vocabulary *v = make_vocabulary();
    struct ax_constraint *c =
        open_constraint(v, "root ::= [abc]* \"\xc3\xa9\"");
    struct ax_constraint *d =
        open_constraint(v, "root ::= [abc]* \"\xc3\xa9\"");
    assert_int_equal(ax_constraint_follow(c, &place, NULL, 0), AXION_OK);
    assert_int_equal(ax_constraint_mask(c, &place, whole, &any), AXION_OK);
    for (uint32_t work = 1;; work += 7, again++) {
        ax_constraint_allow(d, work);
        rc = ax_constraint_follow(d, &fresh, NULL, 0);
        if (rc == AXION_OK) {
            rc = ax_constraint_mask(d, &fresh, mask, &any);
        }
        if (rc != AXION_AGAIN) {
            break;
        }
    }
    assert_int_equal(rc, AXION_OK);
    assert_true(again > 5);
    assert_memory_equal(mask, whole, sizeof(mask));
    ax_constraint_close(c);
    ax_constraint_close(d);
    ax_vocabulary_close(v);
}


/* The end, a token that is not allowed, a vocabulary that cannot say it. */
static void
test_ends(void **unused)
{
    uint64_t mask[(N_VOCAB + 63) / 64];
    struct ax_place place = {0};
    bool any;
    (void)unused;
    struct ax_vocabulary *v = make_vocabulary();
    struct ax_constraint *c = open_constraint(v, "root ::= [abc]{1,4}");
    int32_t word = 3; /* of four letters */
    words[word] = (struct word){{0, 1, 2, 0}, 4, "abca"};
    assert_int_equal(ax_constraint_follow(c, &place, &word, 1), AXION_OK);
    assert_true(ax_constraint_complete(c, &place));
    assert_int_equal(ax_constraint_mask(c, &place, mask, &any), AXION_OK);
    assert_true(any && ax_mask_has(mask, END_ID));
    assert_int_equal(draw_allowed(mask), -1);
    int32_t twice[2] = {word, word};
    assert_int_equal(ax_constraint_follow(c, &place, twice, 2),
                     AXION_ERR_GRAMMAR_DEAD_END);
    ax_constraint_close(c);

    c = open_constraint(v, "root ::= \"x\"");
    place = (struct ax_place){0};
    assert_int_equal(ax_constraint_follow(c, &place, NULL, 0), AXION_OK);
    assert_false(ax_constraint_complete(c, &place));
    assert_int_equal(ax_constraint_mask(c, &place, mask, &any), AXION_OK);
    assert_false(any);
    ax_constraint_close(c);
    ax_vocabulary_close(v);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_beside_a_slow_matcher),
        cmocka_unit_test(test_places_that_forget_each_other),
        cmocka_unit_test(test_work_in_pieces),
        cmocka_unit_test(test_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
