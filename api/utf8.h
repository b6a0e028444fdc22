/* One step through UTF-8 of unknown quality; internal to this folder. */
#ifndef AXION_API_UTF8_H
#define AXION_API_UTF8_H

#include <stddef.h>

/*
 * The length (1 to 4) of the well-formed character that starts at text, or 0
 * when the bytes there are none: overlong, surrogate, above U+10FFFF, cut
 * off.  `bytes` is at least 1.  Table 3-7 of the Unicode standard.
 */
static inline unsigned
axion_utf8_step(const unsigned char *text, size_t bytes)
{
    unsigned lead = text[0], low = 0x80, high = 0xbf, n, i;

    if (lead < 0x80)
        return 1;
    if (lead < 0xc2 || lead > 0xf4)
        return 0;
    n = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (n > bytes)
        return 0;
    if (lead == 0xe0)
        low = 0xa0;
    if (lead == 0xed)
        high = 0x9f;
    if (lead == 0xf0)
        low = 0x90;
    if (lead == 0xf4)
        high = 0x8f;
    if (text[1] < low || text[1] > high)
        return 0;
    for (i = 2; i < n; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    }
    return n;
}

#endif
