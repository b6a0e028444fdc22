/*
 * UTF-8 for the text rooms: one decoder that tells good, bad and unfinished
 * apart, and the repair that everybody shares.
 *
 * Bad bytes are cut as section 3.9 of the Unicode standard advises ("maximal
 * subpart"): the longest prefix of a well-formed sequence counts as one
 * error, any other byte as one each.  Overlong forms, surrogates and code
 * points over 10FFFF are bad.
 */
#ifndef AX_TEXT_UTF8_H
#define AX_TEXT_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>


#define AX_UTF8_REPLACEMENT 0xfffdu


enum ax_utf8_status {
    AX_UTF8_GOOD,
    AX_UTF8_BAD,    /* *len bytes are one error */
    AX_UTF8_PARTIAL /* all n bytes, but the end is missing */
};


/* n must be at least 1.  *cp is set when good; *len always, 1 .. 4. */
enum ax_utf8_status ax_utf8_decode(const char *p, size_t n, uint32_t *cp,
                                   size_t *len);

/* Writes 1 .. 4 bytes for a code point that is no surrogate. */
size_t ax_utf8_encode(uint32_t cp, char *out);

/* Decodes where bad or unfinished input reads as U+FFFD; returns bytes. */
size_t ax_utf8_next(const char *p, size_t n, uint32_t *cp);

bool ax_utf8_valid(const char *p, size_t n);

/* White space as Python's str.isspace() and its \s have it. */
bool ax_utf8_is_space(uint32_t cp);

/* Code points in valid text. */
size_t ax_utf8_count(const char *p, size_t n);

#endif /* AX_TEXT_UTF8_H */
