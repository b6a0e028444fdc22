/* The automaton beside a slow matcher on random grammars; memory that is
 * full, work that is out, ambiguity without bound; nothing is allocated. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "engine/grammar/automaton.h"
#include "tests/grammar/naive.h"

#define PLENTY   (1u << 26)
#define GRAMMARS 3000
#define TEXTS    12
#define LETTERS  7
#define WAYS     1000

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static unsigned allocations;

#if !SANITIZED

/* Also that of the C library's own functions, which calls it so. */
extern void *__libc_malloc(size_t bytes);


void *
malloc(size_t bytes)
{
    allocations++;
    return __libc_malloc(bytes);
}

#endif


static void
open_both(const char *gbnf, struct ax_grammar **g, struct ax_automaton **a)
{
    struct ax_error err = {0};
    if (ax_grammar_compile(g, gbnf, strlen(gbnf), &err) != AXION_OK) {
        fail_msg("%s\n%s", gbnf, err.text);
    }
    assert_int_equal(ax_automaton_open(a, *g), AXION_OK);
    ax_automaton_allow(*a, PLENTY);
}


static uint32_t
read_text(struct ax_automaton *a, uint32_t state, const char *text)
{
    for (; *text != '\0' && state != AX_GRAMMAR_DEAD; text++) {
        assert_int_equal(ax_automaton_step(a, state, (uint8_t)*text, &state),
                         AX_GRAMMAR_DONE);
    }
    return state;
}


/* false: the text can be read in too many ways. */
static bool
read_letter(struct ax_automaton *a, uint32_t *state, int letter)
{
    enum ax_grammar_answer answer = AX_GRAMMAR_DONE;
    const char *at = naive_letters[letter];
    for (; *at != '\0' && *state != AX_GRAMMAR_DEAD; at++) {
        answer = ax_automaton_step(a, *state, (uint8_t)*at, state);
        if (answer != AX_GRAMMAR_DONE) {
            assert_int_equal(answer, AX_GRAMMAR_AMBIGUOUS);
            return false;
        }
    }
    return true;
}


/* One random text; false: one of both gave up. */
static bool
compare_text(struct ax_automaton *a, const struct naive *rest, uint64_t seed,
             const char *gbnf)
{
    uint32_t state;
    ax_automaton_start(a, &state);
    for (int i = 0; i < LETTERS && rest != NULL; i++) {
        if (ax_automaton_accepts(a, state) != naive_accepts(rest)) {
            fail_msg("seed %d: its end differs\n%s", (int)seed, gbnf);
        }
        int letter = (int)naive_draw(NAIVE_LETTERS);
        rest = naive_after(rest, letter);
        if (!read_letter(a, &state, letter) || naive_gave_up()) {
            return false;
        }
        if ((state == AX_GRAMMAR_DEAD) != (rest == NULL)) {
            fail_msg("seed %d: %s differs\n%s", (int)seed,
                     naive_letters[letter], gbnf);
        }
    }
    return true;
}


static void
test_beside_a_slow_matcher(void **unused)
{
    uint32_t n = 0;
    (void)unused;
    for (uint64_t seed = 1; seed <= GRAMMARS; seed++) {
        const char *gbnf;
        const struct naive *root = naive_random(seed, &gbnf);
        size_t mark = naive_mark();
        struct ax_grammar *g;
        struct ax_automaton *a;
        open_both(gbnf, &g, &a);
        for (int t = 0; t < TEXTS; t++) {
            if (!compare_text(a, root, seed, gbnf)) {
                break;
            }
            naive_release(mark);
            n++;
        }
        ax_automaton_close(a);
        ax_grammar_close(g);
    }
    print_message("%u texts\n", n);
    assert_true(n > GRAMMARS * TEXTS / 10 * 9);
}


/* More states than there is room for: what is kept goes on as it would. */
static void
test_full_memory(void **unused)
{
    struct ax_grammar *g;
    struct ax_automaton *a;
    (void)unused;
    open_both("root ::= [ab]{20000} \"c\"", &g, &a);
    uint32_t state, collected = 0;
    ax_automaton_start(a, &state);
    for (int i = 0; i < 20000; i++) {
        uint32_t next;
        enum ax_grammar_answer answer =
            ax_automaton_step(a, state, i % 3 ? 'a' : 'b', &next);
        if (answer == AX_GRAMMAR_FULL) {
            ax_automaton_collect(a, &state);
            collected++;
            answer = ax_automaton_step(a, state, i % 3 ? 'a' : 'b', &next);
        }
        assert_int_equal(answer, AX_GRAMMAR_DONE);
        assert_int_not_equal(next, AX_GRAMMAR_DEAD);
        state = next;
    }
    assert_int_equal(collected, ax_automaton_generation(a));
    assert_true(collected > 0);
    assert_int_equal(read_text(a, state, "b"), AX_GRAMMAR_DEAD);
    assert_true(ax_automaton_accepts(a, read_text(a, state, "c")));
    ax_automaton_close(a);
    ax_grammar_close(g);
}


/* Chains of calls survive collection as well. */
static void
test_collected_chains(void **unused)
{
    struct ax_grammar *g;
    struct ax_automaton *a;
    uint32_t state;
    (void)unused;
    open_both("root ::= \"(\" root \")\" | \"[\" root \"]\" | [a-c]{1,9}", &g,
              &a);
    ax_automaton_start(a, &state);
    for (int i = 0; i < 700; i++) {
        state = read_text(a, state, i % 3 ? "(" : "[");
        ax_automaton_collect(a, &state);
    }
    state = read_text(a, state, "abc");
    for (int i = 699; i >= 0; i--) {
        assert_int_equal(read_text(a, state, i % 3 ? "]" : ")"),
                         AX_GRAMMAR_DEAD);
        state = read_text(a, state, i % 3 ? ")" : "]");
        ax_automaton_collect(a, &state);
    }
    assert_true(ax_automaton_accepts(a, state));
    assert_true(ax_automaton_ends(a, state));
    ax_automaton_close(a);
    ax_grammar_close(g);
}


/* Calls without end do not grow without end: too deep is not allowed. */
static void
test_deep_calls(void **unused)
{
    struct ax_grammar *g;
    struct ax_automaton *a;
    uint32_t state, depth = 0;
    (void)unused;
    open_both("root ::= \"(\" root \")\" | \"x\"", &g, &a);
    ax_automaton_start(a, &state);
    for (uint32_t next = state; next != AX_GRAMMAR_DEAD; depth++) {
        state = next;
        next = read_text(a, state, "(");
    }
    assert_in_range(depth, AX_GRAMMAR_CALLS_MAX / 2, AX_GRAMMAR_CALLS_MAX + 8);
    assert_int_not_equal(read_text(a, state, "x"), AX_GRAMMAR_DEAD);
    ax_automaton_close(a);
    ax_grammar_close(g);
}


static void
expect_ambiguous(const char *gbnf, const char *text, int times)
{
    struct ax_grammar *g;
    struct ax_automaton *a;
    uint32_t state;
    open_both(gbnf, &g, &a);
    enum ax_grammar_answer answer = ax_automaton_start(a, &state);
    for (int i = 0; i < times && answer == AX_GRAMMAR_DONE; i++) {
        answer = ax_automaton_step(a, state, (uint8_t)*text, &state);
    }
    assert_true(answer == AX_GRAMMAR_AMBIGUOUS || answer == AX_GRAMMAR_FULL);
    ax_automaton_close(a);
    ax_grammar_close(g);
}


static void
test_ambiguity_is_bounded(void **unused)
{
    (void)unused;
    /* 2^n ways to read n letters. */
    expect_ambiguous("root ::= \"a\" root \"b\" | \"a\" root \"c\" | \"d\"",
                     "a", 40);
    /* 2^40 chains of calls before the first letter. */
    char gbnf[4096];
    size_t n = 0;
    n += (size_t)snprintf(gbnf, sizeof(gbnf), "root ::= r0\n");
    for (int i = 0; i < 40; i++) {
        n += (size_t)snprintf(gbnf + n, sizeof(gbnf) - n,
                              "r%d ::= r%d \"x\" | r%d \"y\"\n", i, i + 1,
                              i + 1);
    }
    snprintf(gbnf + n, sizeof(gbnf) - n, "r40 ::= \"z\"\n");
    expect_ambiguous(gbnf, "z", 1);
    expect_ambiguous("root ::= (\"a\"?){5000}", "a", 5000);
}


/* What runs out of work has changed nothing: more work ends the same way. */
static void
test_work_in_pieces(void **unused)
{
    struct ax_grammar *g;
    struct ax_automaton *a, *b;
    const char *gbnf =
        "root ::= v\nv ::= \"[\" (v (\",\" v)*)? \"]\" | [0-9]+ | \"x\" v?\n";
    const char *text = "[1,[22,x3],xx[],4";
    uint32_t state, whole;
    (void)unused;
    open_both(gbnf, &g, &a);
    assert_int_equal(ax_automaton_open(&b, g), AXION_OK);
    ax_automaton_start(a, &whole);
    whole = read_text(a, whole, text);
    uint32_t again = 0;
    for (uint32_t work = 1;; work++, again++) {
        ax_automaton_allow(b, work);
        if (ax_automaton_start(b, &state) == AX_GRAMMAR_DONE) {
            break;
        }
    }
    for (const char *at = text; *at != '\0'; at++) {
        uint32_t work = 1;
        for (ax_automaton_allow(b, work);
             ax_automaton_step(b, state, (uint8_t)*at, &state) ==
             AX_GRAMMAR_AGAIN;
             ax_automaton_allow(b, ++work)) {
            again++;
        }
    }
    assert_true(again > 20);
    for (int byte = 0; byte < 256; byte++) {
        uint32_t x, y;
        ax_automaton_allow(b, PLENTY);
        ax_automaton_step(a, whole, (uint8_t)byte, &x);
        ax_automaton_step(b, state, (uint8_t)byte, &y);
        assert_int_equal(x == AX_GRAMMAR_DEAD, y == AX_GRAMMAR_DEAD);
    }
    ax_automaton_close(a);
    ax_automaton_close(b);
    ax_grammar_close(g);
}


/* A state of many ways, which are told apart by what comes next. */
static void
test_nothing_is_allocated(void **unused)
{
    static char gbnf[WAYS * 16];
    struct ax_grammar *g;
    struct ax_automaton *a;
    uint32_t state, after;
    size_t n = 0;
    (void)unused;
    if (SANITIZED) {
        print_message("skipped: a sanitizer has an allocator of its own\n");
        skip();
    }
    n += (size_t)sprintf(gbnf, "root ::= \"a\" (");
    for (int i = 0; i < WAYS; i++) {
        n += (size_t)sprintf(gbnf + n, "%s\"%03d!\"", i > 0 ? "|" : "", i);
    }
    (void)sprintf(gbnf + n, ")\n");
    open_both(gbnf, &g, &a);
    allocations = 0;
    ax_automaton_start(a, &state);
    state = read_text(a, state, "a");
    for (int i = 0; i < WAYS; i++) {
        char text[8];
        snprintf(text, sizeof(text), "%03d", i);
        after = read_text(a, state, text);
        assert_int_not_equal(after, AX_GRAMMAR_DEAD);
        assert_false(ax_automaton_accepts(a, after));
        assert_true(ax_automaton_accepts(a, read_text(a, after, "!")));
        assert_int_equal(read_text(a, after, "?"), AX_GRAMMAR_DEAD);
    }
    assert_int_equal(allocations, 0);
    ax_automaton_close(a);
    ax_grammar_close(g);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_beside_a_slow_matcher),
        cmocka_unit_test(test_full_memory),
        cmocka_unit_test(test_collected_chains),
        cmocka_unit_test(test_deep_calls),
        cmocka_unit_test(test_ambiguity_is_bounded),
        cmocka_unit_test(test_work_in_pieces),
        cmocka_unit_test(test_nothing_is_allocated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
