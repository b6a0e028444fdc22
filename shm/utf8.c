/*
 * UTF-8 as the ring needs it: is this text well-formed, and where may it be
 * cut.  Well-formed is RFC 3629: no overlong forms, no surrogates, nothing
 * above U+10FFFF.  NUL is a character like any other: texts carry lengths.
 */
#include <string.h>
#include "shm/request.h"
#include "shm/utf8.h"


/* Bytes of the sequence that starts at p, or 0 where it is not well-formed.
 * The second byte's range is what rules out overlong forms and surrogates. */
static size_t
sequence_bytes(const unsigned char *p, size_t left)
{
    unsigned char low = 0x80;
    unsigned char high = 0xbf;
    size_t n;

    if (p[0] < 0x80) {
        return 1;
    }
    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        n = 2;
    } else if (p[0] >= 0xe0 && p[0] <= 0xef) {
        n = 3;
        low = p[0] == 0xe0 ? 0xa0 : 0x80;
        high = p[0] == 0xed ? 0x9f : 0xbf;
    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        n = 4;
        low = p[0] == 0xf0 ? 0x90 : 0x80;
        high = p[0] == 0xf4 ? 0x8f : 0xbf;
    } else {
        return 0;
    }
    if (left < n || p[1] < low || p[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < n; i++) {
        if (p[i] < 0x80 || p[i] > 0xbf) {
            return 0;
        }
    }
    return n;
}


int
axion_utf8_valid(const void *data, size_t bytes)
{
    const unsigned char *p = data;

    while (bytes > 0) {
        uint64_t eight;

        if (bytes >= 8) {
            memcpy(&eight, p, 8);
            if ((eight & 0x8080808080808080u) == 0) {
                p += 8;
                bytes -= 8;
                continue;
            }
        }
        size_t n = sequence_bytes(p, bytes);
        if (n == 0) {
            return 0;
        }
        p += n;
        bytes -= n;
    }
    return 1;
}


size_t
axion_utf8_cut(const char *text, size_t bytes, size_t limit)
{
    if (bytes <= limit) {
        return bytes;
    }
    while (limit > 0 && ((unsigned char)text[limit] & 0xc0) == 0x80) {
        limit--;
    }
    return limit;
}
