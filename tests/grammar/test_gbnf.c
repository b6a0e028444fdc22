/* A grammar's text: what is read and how, what is refused, and by which name;
 * texts that were made to break compilers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "engine/grammar/automaton.h"

#define PLENTY (1u << 26)

/* Whether the grammar accepts a text; -1: not even its beginning. */
static int
match(const char *gbnf, const char *text, size_t n)
{
    struct ax_grammar *g;
    struct ax_automaton *a;
    struct ax_error err = {0};
    uint32_t state;
    if (ax_grammar_compile(&g, gbnf, strlen(gbnf), &err) != AXION_OK) {
        fail_msg("%s: %s", gbnf, err.text);
    }
    assert_int_equal(ax_automaton_open(&a, g), AXION_OK);
    ax_automaton_allow(a, PLENTY);
    assert_int_equal(ax_automaton_start(a, &state), AX_GRAMMAR_DONE);
    for (size_t i = 0; i < n && state != AX_GRAMMAR_DEAD; i++) {
        assert_int_equal(ax_automaton_step(a, state, (uint8_t)text[i], &state),
                         AX_GRAMMAR_DONE);
    }
    int result = state == AX_GRAMMAR_DEAD ? -1 : ax_automaton_accepts(a, state);
    ax_automaton_close(a);
    ax_grammar_close(g);
    return result;
}


struct example {
    const char *gbnf;
    const char *accepted[5];
    const char *begun[3];
    const char *refused[5];
};

static const struct example examples[] = {
    {"root ::= \"yes\" | \"no\"",
     {"yes", "no"},
     {"", "y", "ye"},
     {"yesno", "x"}},
    {"# first\nroot ::= a\n  # second\na ::= \"x\" |\n  \"y\"\n",
     {"x", "y"},
     {""},
     {"xy"}},
    {"root ::= (\n \"a\"\n |\n \"b\"\n)+\n", {"a", "ab"}, {""}, {"c"}},
    {"root ::= [a-c]{2,3} \"!\"?", {"ab", "abc", "ab!"}, {"a"}, {"abcd", "ad"}},
    {"root ::= \"ab\"{2}", {"abab"}, {"aba"}, {"abb", "ababa"}},
    {"root ::= \"ab\"{2,}", {"abab", "ababab"}, {"aba"}, {"abb"}},
    {"root ::= [^\"\\\\]*",
     {"", "a\xc3\xa9\xf0\x9f\x98\x80"},
     {"\xc3"},
     {"\"", "\\", "\xff", "\xc0\x80", "\xed\xa0\x80"}},
    {"root ::= [\\x41\\u00e9\\U0001F600-\\U0001F602]",
     {"A", "\xc3\xa9", "\xf0\x9f\x98\x81"},
     {"\xf0\x9f"},
     {"B", "\xc3\xaa", "\xf0\x9f\x98\x83"}},
    {"root ::= [a-] [\\]\\[] \"\\n\\r\\t\\\\\\\"\"",
     {"-]\n\r\t\\\"", "a[\n\r\t\\\""},
     {"-["},
     {"b"}},
    {"root ::= .", {"\n", "x", "\xe2\x82\xac"}, {"", "\xe2\x82"}, {"xx"}},
    {"root ::= \"(\" root \")\" | \"\"", {"", "()", "((()))"}, {"(("}, {")"}},
    {"root ::= \"a\" root | \"a\"", {"a", "aaaa"}, {""}, {"b"}},
    {"root ::= x y\nx ::= \"a\"?\ny ::= \"b\"*",
     {"", "a", "abb"},
     {NULL},
     {"ba"}},
    {"root ::= (\"a\"?)* \"b\"", {"b", "aab"}, {"aa"}, {"ba"}},
    {"root ::= \"a\" [] | \"b\"", {"b"}, {""}, {"a"}},
    {"root ::= a-b_1\na-b_1 ::= \"\"", {""}, {NULL}, {"a"}},
    {"root ::= \"a\"?+ \"b\"", {"b", "aaab"}, {NULL}, {"c"}},
    {"root ::= [\xc3\xa9-\xc3\xbf]+",
     {"\xc3\xa9\xc3\xb0"},
     {"\xc3"},
     {"\xc3\xa8"}},
    {"root ::= [^a-z\\x00-\\x1f]",
     {"A", "\xf4\x8f\xbf\xbf"},
     {"\xf4"},
     {"b", "\n", "\xf4\x90"}},
};


static void
test_what_it_accepts(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof(examples) / sizeof(*examples); i++) {
        const struct example *e = &examples[i];
        for (int k = 0; k < 5 && e->accepted[k] != NULL; k++) {
            if (match(e->gbnf, e->accepted[k], strlen(e->accepted[k])) != 1) {
                fail_msg("%s: not accepted: %s", e->gbnf, e->accepted[k]);
            }
        }
        for (int k = 0; k < 3 && e->begun[k] != NULL; k++) {
            if (match(e->gbnf, e->begun[k], strlen(e->begun[k])) != 0) {
                fail_msg("%s: not begun: %s", e->gbnf, e->begun[k]);
            }
        }
        for (int k = 0; k < 5 && e->refused[k] != NULL; k++) {
            if (match(e->gbnf, e->refused[k], strlen(e->refused[k])) != -1) {
                fail_msg("%s: not refused: %s", e->gbnf, e->refused[k]);
            }
        }
    }
}


/* Every code point through classes that cut the planes in odd places. */
static void
test_every_character(void **unused)
{
    static const uint32_t cuts[] = {0,       0x41,    0x7f,    0x80,    0x7ff,
                                    0x800,   0xfff,   0x1000,  0xcfff,  0xd7ff,
                                    0xe000,  0xfffd,  0x10000, 0x3ffff, 0x40001,
                                    0xfffff, 0x10ffff};
    (void)unused;
    uint32_t n = sizeof(cuts) / sizeof(*cuts);
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t k = i; k < n; k++) {
            char gbnf[64];
            struct ax_grammar *g;
            struct ax_automaton *a;
            snprintf(gbnf, sizeof(gbnf), "root ::= [\\U%08x-\\U%08x]",
                     (unsigned)cuts[i], (unsigned)cuts[k]);
            assert_int_equal(ax_grammar_compile(&g, gbnf, strlen(gbnf), NULL),
                             AXION_OK);
            assert_int_equal(ax_automaton_open(&a, g), AXION_OK);
            for (uint32_t c = 0; c <= 0x10ffff; c += c < 0x3000 ? 1 : 61) {
                uint8_t b[4];
                int m = 0;
                if (c < 0x80) {
                    b[m++] = (uint8_t)c;
                } else if (c < 0x800) {
                    b[m++] = (uint8_t)(0xc0 | c >> 6);
                } else if (c < 0x10000) {
                    b[m++] = (uint8_t)(0xe0 | c >> 12);
                } else {
                    b[m++] = (uint8_t)(0xf0 | c >> 18);
                }
                for (int left = c < 0x80      ? 0
                                : c < 0x800   ? 1
                                : c < 0x10000 ? 2
                                              : 3;
                     left > 0; left--) {
                    b[m++] = (uint8_t)(0x80 | (c >> (6 * (left - 1)) & 63));
                }
                uint32_t state;
                ax_automaton_allow(a, PLENTY);
                ax_automaton_start(a, &state);
                for (int j = 0; j < m && state != AX_GRAMMAR_DEAD; j++) {
                    ax_automaton_step(a, state, b[j], &state);
                }
                bool inside =
                    c >= cuts[i] && c <= cuts[k] && (c < 0xd800 || c > 0xdfff);
                if (inside != (state != AX_GRAMMAR_DEAD &&
                               ax_automaton_accepts(a, state))) {
                    fail_msg("%s: U+%04X", gbnf, (unsigned)c);
                }
            }
            ax_automaton_close(a);
            ax_grammar_close(g);
        }
    }
}


static const struct {
    const char *gbnf;
    int error;
    const char *says;
} faults[] = {
    {"", AXION_ERR_GRAMMAR_INVALID, "no rule \"root\""},
    {"a ::= \"x\"", AXION_ERR_GRAMMAR_INVALID, "no rule \"root\""},
    {"root ::= b", AXION_ERR_GRAMMAR_INVALID, "\"b\" is not defined"},
    {"root ::= \"a\"\nroot ::= \"b\"", AXION_ERR_GRAMMAR_INVALID,
     "line 2, column 1: the rule is defined twice"},
    {"root = \"a\"", AXION_ERR_GRAMMAR_INVALID, "::= is expected"},
    {"root ::= \"a", AXION_ERR_GRAMMAR_INVALID, "ends within a string"},
    {"root ::= [a", AXION_ERR_GRAMMAR_INVALID, "ends within a string"},
    {"root ::= (\"a\"", AXION_ERR_GRAMMAR_INVALID, "a ) is expected"},
    {"root ::= \"a\" )", AXION_ERR_GRAMMAR_INVALID, "is expected"},
    {"root ::= *", AXION_ERR_GRAMMAR_INVALID, "is expected"},
    {"root ::= [z-a]", AXION_ERR_GRAMMAR_INVALID, "ends before it begins"},
    {"root ::= \"a\"{3,2}", AXION_ERR_GRAMMAR_INVALID, "ends before it begins"},
    {"root ::= \"a\"{}", AXION_ERR_GRAMMAR_INVALID, "a number is expected"},
    {"root ::= \"a\"{1", AXION_ERR_GRAMMAR_INVALID, "a } is expected"},
    {"root ::= \"\\q\"", AXION_ERR_GRAMMAR_INVALID, "unknown escape"},
    {"root ::= \"\\x4\"", AXION_ERR_GRAMMAR_INVALID, "too few"},
    {"root ::= \"\\ud800\"", AXION_ERR_GRAMMAR_INVALID, "no Unicode"},
    {"root ::= \"\\U00110000\"", AXION_ERR_GRAMMAR_INVALID, "no Unicode"},
    {"root ::= \"\xff\"", AXION_ERR_GRAMMAR_INVALID, "not UTF-8"},
    {"root ::= root \"a\" | \"b\"", AXION_ERR_GRAMMAR_INVALID,
     "\"root\" begins with itself"},
    {"root ::= a\na ::= \"\"? b \"x\"\nb ::= a | \"y\"",
     AXION_ERR_GRAMMAR_INVALID, "begins with itself"},
    {"root ::= e root \"x\" | \"y\"\ne ::= \"z\"?", AXION_ERR_GRAMMAR_INVALID,
     "begins with itself"},
    {"root ::= (root)? \"x\"", AXION_ERR_GRAMMAR_INVALID, "begins with itself"},
    {"root ::= []", AXION_ERR_GRAMMAR_INVALID, "no text satisfies"},
    {"root ::= \"a\" root", AXION_ERR_GRAMMAR_INVALID, "no text satisfies"},
    {"root ::= \"a\" b\nb ::= \"x\" c\nc ::= \"y\" b",
     AXION_ERR_GRAMMAR_INVALID, "no text satisfies"},
    {"root ::= \"a\"{99999999999}", AXION_ERR_GRAMMAR_LIMIT, "too long"},
    {"root ::= \"a\"{262144}", AXION_ERR_GRAMMAR_LIMIT, "repeats too much"},
};


static void
test_what_it_refuses(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++) {
        struct ax_grammar *g;
        struct ax_error err = {0};
        int rc = ax_grammar_compile(&g, faults[i].gbnf, strlen(faults[i].gbnf),
                                    &err);
        if (rc != faults[i].error || g != NULL ||
            strstr(err.text, faults[i].says) == NULL) {
            fail_msg("%s: %d, %s", faults[i].gbnf, rc, err.text);
        }
    }
}


/* n times what, between a head and a tail. */
static char *
repeated(const char *head, const char *what, size_t n, const char *tail)
{
    size_t each = strlen(what);
    char *text = malloc(strlen(head) + n * each + strlen(tail) + 1);
    assert_non_null(text);
    char *at = stpcpy(text, head);
    for (size_t i = 0; i < n; i++) {
        at = stpcpy(at, what);
    }
    strcpy(at, tail);
    return text;
}


static void
expect_limit(char *gbnf)
{
    struct ax_grammar *g;
    struct ax_error err = {0};
    int rc = ax_grammar_compile(&g, gbnf, strlen(gbnf), &err);
    if (rc != AXION_ERR_GRAMMAR_LIMIT) {
        fail_msg("%.60s...: %d, %s", gbnf, rc, err.text);
    }
    free(gbnf);
}


static void
test_hostile_texts(void **unused)
{
    (void)unused;
    expect_limit(repeated("root ::= ", "(", 60000, ""));
    expect_limit(repeated("root ::= \"a\"", "*", 60000, ""));
    expect_limit(repeated("root ::= \"a\"", "{9}{9}", 60000, ""));
    expect_limit(repeated("root ::= ", "\"a\"", 400000, ""));
    expect_limit(repeated("root ::= [", "az", 5000, "]"));
    expect_limit(repeated("root ::= ", "(\"ab\"|\"cd\"){999} ", 1000, ""));
    /* Nested repetitions add up: they do not multiply. */
    assert_int_equal(
        match("root ::= ((([ab]{1000} \"c\"){1000}){1000}){1000}", "abab", 4),
        0);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_it_accepts),
        cmocka_unit_test(test_every_character),
        cmocka_unit_test(test_what_it_refuses),
        cmocka_unit_test(test_hostile_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
