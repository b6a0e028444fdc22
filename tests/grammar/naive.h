/*
 * A slow matcher that knows nothing of the engine's: random grammars as trees
 * of its own, read by Brzozowski's derivatives (J. ACM 11, 1964), a character
 * at a time.
 */
#ifndef TESTS_GRAMMAR_NAIVE_H
#define TESTS_GRAMMAR_NAIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NAIVE_RULES 4

/* What a grammar's texts are made of: a b c, U+00E9, U+20AC, U+1F600. */
#define NAIVE_LETTERS 6
extern const char *const naive_letters[NAIVE_LETTERS];

struct naive;

/* A random grammar without left recursion, each rule of which has a text.  Its
 * GBNF is in *gbnf until the next call. */
const struct naive *naive_random(uint64_t seed, const char **gbnf);
/* Its texts, as sets of continuations: NULL: there is none. */
const struct naive *naive_after(const struct naive *language, int letter);
bool naive_accepts(const struct naive *language);

/* Memory that is used; release() gives back what came after. */
size_t naive_mark(void);
void naive_release(size_t mark);
/* Memory ran out since naive_random(): its answers count no more. */
bool naive_gave_up(void);

uint32_t naive_draw(uint32_t below);

#endif
