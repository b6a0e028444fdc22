/*
 * What a grammar's source says, for scripts: `grammar_texts KIND SOURCE`
 * with KIND one of gbnf, json_schema, json_object, regex, choice.
 *
 *   … show            the GBNF
 *   … make N SEED     N random texts, each ended by a NUL
 *   … check           reads texts ended by NULs, prints 1 or 0 a line
 *
 * Exits with 1 and the error's name and text where the source is refused.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "engine/grammar/automaton.h"
#include "engine/grammar/source.h"

#define TEXT_MAX 20000u
#define WIND_UP  1500u /* bytes, from which on texts are to come to an end */
#define WORK     (1ull << 40)


static uint64_t
next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state >> 11;
}


static uint32_t
step(struct ax_automaton *automaton, uint32_t *state, uint8_t byte)
{
    uint32_t next;
    enum ax_grammar_answer answer;

    while ((answer = ax_automaton_step(automaton, *state, byte, &next)) ==
           AX_GRAMMAR_FULL) {
        ax_automaton_collect(automaton, state);
    }
    if (answer != AX_GRAMMAR_DONE) {
        fprintf(stderr, "the automaton says %d\n", (int)answer);
        exit(2);
    }
    return next;
}


static uint32_t
start(struct ax_automaton *automaton)
{
    uint32_t state;

    if (ax_automaton_start(automaton, &state) != AX_GRAMMAR_DONE) {
        exit(2);
    }
    return state;
}


/* Any byte that may follow; what closes things more often than by chance. */
static int
pick(struct ax_automaton *automaton, uint32_t *state, size_t n,
     uint64_t *random, uint32_t *next)
{
    static const char closing[] = "\"]},:0";
    uint8_t bytes[256];
    uint32_t left = 0;

    if (n > WIND_UP || next_random(random) % 8 == 0) {
        for (const char *p = closing; *p != 0; p++) {
            *next = step(automaton, state, (uint8_t)*p);
            if (*next != AX_GRAMMAR_DEAD) {
                return *p;
            }
        }
    }
    for (uint32_t b = 0; b < 256; b++) {
        /* Of bytes within characters one a kind is enough. */
        if (b >= 0x80 && next_random(random) % 32 != 0) {
            continue;
        }
        if (step(automaton, state, (uint8_t)b) != AX_GRAMMAR_DEAD) {
            bytes[left++] = (uint8_t)b;
        }
    }
    for (uint32_t b = 0x80; left == 0 && b < 256; b++) {
        if (step(automaton, state, (uint8_t)b) != AX_GRAMMAR_DEAD) {
            bytes[left++] = (uint8_t)b;
        }
    }
    if (left == 0) {
        return -1;
    }
    uint8_t byte = bytes[next_random(random) % left];
    *next = step(automaton, state, byte);
    return byte;
}


static int
make_text(struct ax_automaton *automaton, uint64_t *random)
{
    static char text[TEXT_MAX];
    uint32_t state = start(automaton), next;
    size_t n = 0;

    while (n < TEXT_MAX) {
        if (ax_automaton_accepts(automaton, state) &&
            (n > WIND_UP || ax_automaton_ends(automaton, state) ||
             next_random(random) % 4 == 0)) {
            fwrite(text, 1, n, stdout);
            putchar('\0');
            return 0;
        }
        int byte = pick(automaton, &state, n, random, &next);
        if (byte < 0) {
            fprintf(stderr, "dead end behind %.*s\n", (int)n, text);
            return 2;
        }
        text[n++] = (char)byte;
        state = next;
    }
    return 0; /* too long to be one of them */
}


static int
check_texts(struct ax_automaton *automaton)
{
    uint32_t state = start(automaton);

    for (int c; (c = getchar()) != EOF;) {
        if (c == 0) {
            printf("%d\n", state != AX_GRAMMAR_DEAD &&
                               ax_automaton_accepts(automaton, state));
            state = start(automaton);
        } else if (state != AX_GRAMMAR_DEAD) {
            state = step(automaton, &state, (uint8_t)c);
        }
    }
    return 0;
}


static int
kind_of(const char *name)
{
    static const char *const names[] = {
        "", "gbnf", "json_schema", "json_object", "regex", "choice"};
    for (int i = 1; i < 6; i++) {
        if (strcmp(name, names[i]) == 0) {
            return i;
        }
    }
    return 0;
}


static int
use(const struct ax_grammar *grammar, int argc, char **argv)
{
    struct ax_automaton *automaton;
    uint64_t random =
        argc > 5 ? strtoull(argv[5], NULL, 10) * 0x9e3779b97f4a7c15u | 1 : 1;
    int rc = 0;

    if (ax_automaton_open(&automaton, grammar) != AXION_OK) {
        return 2;
    }
    ax_automaton_allow(automaton, WORK);
    if (strcmp(argv[3], "check") == 0) {
        rc = check_texts(automaton);
    }
    for (int n = argc > 4 ? atoi(argv[4]) : 0; rc == 0 && n > 0; n--) {
        rc = make_text(automaton, &random);
    }
    ax_automaton_close(automaton);
    return rc;
}


int
main(int argc, char **argv)
{
    struct ax_gbnf_text text;
    struct ax_grammar *grammar;
    struct ax_error err = {0};

    if (argc < 4 || kind_of(argv[1]) == 0) {
        return 2;
    }
    int rc = ax_grammar_source_to_gbnf(&text, kind_of(argv[1]), argv[2],
                                       strlen(argv[2]), &err);
    if (rc == AXION_OK && strcmp(argv[3], "show") == 0) {
        fwrite(text.data, 1, text.bytes, stdout);
    }
    if (rc == AXION_OK) {
        rc = ax_grammar_compile(&grammar, text.data, text.bytes, &err);
        ax_gbnf_text_free(&text);
    }
    if (rc != AXION_OK) {
        printf("%s: %s\n", axion_error_info(rc)->name, err.text);
        return 1;
    }
    rc = use(grammar, argc, argv);
    ax_grammar_close(grammar);
    return rc;
}
