/*
 * The least that a request to a remote can have used, whatever the remote
 * says of it: what a server tells too little of is paid by nobody else.
 *
 * Only what can be proved counts, since an honest server must never be
 * corrected.  A token of text stands for AXION_FLOOR_TOKEN_BYTES bytes at the
 * most, where a run of one character is one (the vocabularies of this world
 * have tokens of a hundred spaces, or of 32 lines of a table's border, but
 * their words have four to eight bytes and their longest some thirty); a chunk
 * of a stream that brings text has a token of its own; ids of a prompt are its
 * tokens.  Of a prompt only the texts of `user` and `system` count, since
 * templates leave out some of what an assistant has said; none does where the
 * body asks the server to cut it.
 */
#ifndef AXION_API_REMOTE_FLOOR_H
#define AXION_API_REMOTE_FLOOR_H

#include <stddef.h>
#include <stdint.h>
#include "api/request.h"

#define AXION_FLOOR_TOKEN_BYTES 16u

/* Bytes of a good string (with its quotes; anything else: 0), escapes as one,
 * and so is a run of the same character, or of escapes. */
size_t axion_floor_bytes(const struct axion_text *string);

/* Tokens of the prompt.  `body` is one that axion_request_parse() took;
 * *echoed tells whether the answer may have the prompt in front, so that its
 * text proves nothing. */
uint32_t axion_floor_prompt(const void *body, size_t bytes,
                            const struct axion_parsed *parsed, int *echoed);

#endif
