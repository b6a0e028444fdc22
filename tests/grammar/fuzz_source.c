/*
 * libFuzzer: schemas, regexes and choices.  The first byte is the kind.  What
 * is taken becomes GBNF that its compiler can read: at worst it passes a
 * limit, or is a grammar that no text satisfies.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "engine/grammar/grammar.h"
#include "engine/grammar/source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct ax_gbnf_text text;
    struct ax_grammar *grammar;
    struct ax_error err = {0};

    if (bytes == 0) {
        return 0;
    }
    enum axion_grammar_kind kind =
        AXION_GRAMMAR_JSON_SCHEMA + data[0] % 4; /* to CHOICE */
    int rc = ax_grammar_source_to_gbnf(&text, kind, (const char *)data + 1,
                                       bytes - 1, &err);
    if (rc != AXION_OK) {
        if (err.text[0] == '\0' || text.data != NULL) {
            abort();
        }
        return 0;
    }
    rc = ax_grammar_compile(&grammar, text.data, text.bytes, &err);
    if (rc == AXION_OK) {
        ax_grammar_close(grammar);
    } else if (rc == AXION_ERR_GRAMMAR_INVALID &&
               strstr(err.text, "expected") != NULL) {
        abort(); /* that is no GBNF */
    }
    ax_gbnf_text_free(&text);
    return 0;
}
