/*
 * The vocabulary of the tiny models: 3 control tokens, 256 bytes in GPT-2's
 * printable alphabet, then one token for each merge.
 */

#ifndef TESTS_TINY_TINY_VOCAB_H
#define TESTS_TINY_TINY_VOCAB_H

#include <stdint.h>

#define TINY_N_MERGES 72

extern const char *const tiny_control_tokens[3];
extern const char tiny_chat_template[];

/* Longest token or merge, in UTF-8 and with its end. */
#define TINY_TOKEN_SIZE 64

/* The text of token id as the file writes it. */
void tiny_token_text(uint32_t id, char text[TINY_TOKEN_SIZE]);

/* Merge rank i, "left right". */
void tiny_merge_text(uint32_t rank, char text[TINY_TOKEN_SIZE]);

#endif
