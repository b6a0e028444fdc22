/*
 * Well-formed UTF-8, defined once for every room: table 3-7 of the Unicode
 * standard (RFC 3629), that is no overlong forms, no surrogates, nothing above
 * U+10FFFF.  Inline, so that rooms which link nothing of the ring share it:
 * api/ steps over well-formed characters, engine/text/ tells bad from
 * unfinished.  axion_utf8_valid() is request.h's.
 */
#ifndef AXION_SHM_UTF8_H
#define AXION_SHM_UTF8_H

#include <stddef.h>
#include <stdint.h>


/* Bytes of the character that starts with `lead`, 1 to 4, and the range of its
 * second byte, which is what rules out overlong forms and surrogates; those
 * behind are 80 to BF.  0: no character starts so. */
static inline unsigned
axion_utf8_lead(uint8_t lead, uint8_t *low, uint8_t *high)
{
    *low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    *high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (lead < 0x80) {
        return 1;
    }
    if (lead < 0xc2 || lead > 0xf4) {
        return 0;
    }
    return lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}


/* The length (1 to 4) of the well-formed character that starts at text, or 0
 * when the bytes there are none, or cut off.  `bytes` is at least 1. */
static inline unsigned
axion_utf8_step(const unsigned char *text, size_t bytes)
{
    uint8_t low, high;
    unsigned n = axion_utf8_lead(text[0], &low, &high);

    if (n <= 1) {
        return n;
    }
    if (bytes < n || text[1] < low || text[1] > high) {
        return 0;
    }
    for (unsigned i = 2; i < n; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return n;
}


/* The most bytes, at most `limit`, that well-formed text can be cut to
 * without cutting a sequence: at least limit - 3. */
size_t axion_utf8_cut(const char *text, size_t bytes, size_t limit);

#endif
