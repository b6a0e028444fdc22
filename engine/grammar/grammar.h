/*
 * A grammar: GBNF text, compiled to a program over bytes.
 *
 * GBNF is llama.cpp's dialect of BNF (its grammars/README.md is the manual):
 *   name ::= alternatives          a rule; the text starts with `root`
 *   "text"  [a-z]  [^"\\]  .       characters; `.` is any one of them
 *   (...)  |  * + ?  {m} {m,} {m,n}
 *   \n \r \t \\ \" \[ \] \- \^ \xNN \uNNNN \UNNNNNNNN    escapes, of characters
 *   # to the end of the line
 * Characters are Unicode scalar values; what is compiled are the bytes of
 * their UTF-8, so that a token may end within a character.
 *
 * The compiled program is a graph of nodes (program.h has them), one entry
 * for each rule; it is checked once and never changes after that: any number
 * of threads may read it.
 *
 * Everything is bounded (AX_GRAMMAR_*): time and memory of a compilation are
 * linear in the bounds, whatever the text.  What cannot be matched from left
 * to right without end is refused: rules that begin with themselves, and a
 * root that no text can satisfy.  Alternatives that nothing can satisfy are
 * never entered, so a text that has been allowed so far has an end.
 *
 * Runs on the helper thread and in tests; keeps no state between calls.
 */
#ifndef AX_GRAMMAR_GRAMMAR_H
#define AX_GRAMMAR_GRAMMAR_H

#include <stddef.h>
#include <stdint.h>
#include "engine/error.h"

#define AX_GRAMMAR_BYTES_MAX (1u << 20) /* of GBNF text */
#define AX_GRAMMAR_RULES_MAX 16384u
#define AX_GRAMMAR_NODES_MAX (1u << 18) /* of the program */
#define AX_GRAMMAR_DEPTH_MAX 200u       /* groups and repetitions, nested */

struct ax_grammar;

/*
 * GRAMMAR_INVALID with line and column of the fault, GRAMMAR_LIMIT where a
 * bound is passed, NO_MEMORY.
 */
int ax_grammar_compile(struct ax_grammar **out, const char *gbnf, size_t bytes,
                       struct ax_error *err);
void ax_grammar_close(struct ax_grammar *grammar); /* NULL is fine */
/* Memory that it takes. */
size_t ax_grammar_bytes(const struct ax_grammar *grammar);

#endif
