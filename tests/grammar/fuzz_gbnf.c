/*
 * Fuzzes GBNF texts: whatever compiles is walked by bytes of the input, under
 * a bound of work.  A state that is alive either accepts or has a byte that
 * goes on, unless calls are nested as deeply as they may be.
 *
 * Input: the grammar's text, a NUL, the text to walk.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/grammar/automaton.h"

#define WORK       100000
#define WALK_BYTES 200 /* fewer than calls may be deep */


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


/* 0: no byte goes on. */
static int
some_byte(struct ax_automaton *a, uint32_t state, uint8_t *byte)
{
    for (int b = 0; b < 256; b++) {
        uint32_t next;
        if (ax_automaton_step(a, state, (uint8_t)b, &next) != AX_GRAMMAR_DONE) {
            return -1;
        }
        if (next != AX_GRAMMAR_DEAD) {
            *byte = (uint8_t)b;
            return 1;
        }
    }
    return 0;
}


static void
walk(struct ax_automaton *a, const uint8_t *text, size_t n)
{
    uint32_t state;
    ax_automaton_allow(a, WORK);
    if (ax_automaton_start(a, &state) != AX_GRAMMAR_DONE) {
        return;
    }
    for (size_t i = 0; i < n && i < WALK_BYTES; i++) {
        uint8_t byte;
        uint32_t next;
        int found = some_byte(a, state, &byte);
        if (found < 0) {
            return;
        }
        if (found == 0) {
            if (!ax_automaton_accepts(a, state) ||
                !ax_automaton_ends(a, state)) {
                abort();
            }
            return;
        }
        if (ax_automaton_step(a, state, text[i], &next) != AX_GRAMMAR_DONE) {
            return;
        }
        if (next == AX_GRAMMAR_DEAD &&
            ax_automaton_step(a, state, byte, &next) != AX_GRAMMAR_DONE) {
            return;
        }
        state = next;
        if (text[i] % 16 == 0) {
            ax_automaton_collect(a, &state);
        }
    }
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size > 0 ? memchr(data, 0, size) : NULL;
    size_t n = zero != NULL ? (size_t)(zero - data) : size;
    struct ax_grammar *g;
    struct ax_error err;
    if (ax_grammar_compile(&g, (const char *)data, n, &err) != AXION_OK) {
        if (g != NULL || err.text[0] == '\0') {
            abort();
        }
        return 0;
    }
    struct ax_automaton *a;
    if (ax_automaton_open(&a, g) == AXION_OK) {
        walk(a, data + n, size - n);
        ax_automaton_close(a);
    }
    ax_grammar_close(g);
    return 0;
}
