/*
 * UTF-8 decoding and encoding.  Pure functions on caller's memory; used by
 * the tokenizer, the templates and the output stage.
 */
#include "engine/text/utf8.h"

#include <string.h>
#include "shm/utf8.h"


enum ax_utf8_status
ax_utf8_decode(const char *p, size_t n, uint32_t *cp, size_t *len)
{
    const uint8_t *b = (const uint8_t *)p;
    uint8_t low, high;
    size_t need = axion_utf8_lead(b[0], &low, &high);

    *len = 1;
    if (need == 0) {
        return AX_UTF8_BAD;
    }
    if (need == 1) {
        *cp = b[0];
        return AX_UTF8_GOOD;
    }

    uint32_t c = b[0] & (0x7fu >> need);

    for (size_t i = 1; i < need; i++) {
        if (i == n) {
            *len = n;
            return AX_UTF8_PARTIAL;
        }
        if (b[i] < low || b[i] > high) {
            *len = i;
            return AX_UTF8_BAD;
        }
        c = c << 6 | (b[i] & 0x3fu);
        low = 0x80;
        high = 0xbf;
    }

    *cp = c;
    *len = need;
    return AX_UTF8_GOOD;
}


size_t
ax_utf8_encode(uint32_t cp, char *out)
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xc0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xe0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3f));
        out[2] = (char)(0x80 | (cp & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3f));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3f));
    out[3] = (char)(0x80 | (cp & 0x3f));
    return 4;
}


size_t
ax_utf8_next(const char *p, size_t n, uint32_t *cp)
{
    size_t len;

    if (ax_utf8_decode(p, n, cp, &len) != AX_UTF8_GOOD) {
        *cp = AX_UTF8_REPLACEMENT;
    }
    return len;
}


bool
ax_utf8_valid(const char *p, size_t n)
{
    size_t i = 0;

    while (i < n) {
        uint64_t word;
        uint32_t cp;
        size_t len;

        if (n - i >= sizeof(word)) {
            memcpy(&word, p + i, sizeof(word));
            if ((word & 0x8080808080808080u) == 0) {
                i += sizeof(word);
                continue;
            }
        }
        if (ax_utf8_decode(p + i, n - i, &cp, &len) != AX_UTF8_GOOD) {
            return false;
        }
        i += len;
    }
    return true;
}


bool
ax_utf8_is_space(uint32_t cp)
{
    return cp == ' ' || (cp >= 9 && cp <= 13) || (cp >= 0x1c && cp <= 0x1f) ||
           cp == 0x85 || cp == 0xa0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x202f || cp == 0x205f || cp == 0x3000;
}


size_t
ax_utf8_count(const char *p, size_t n)
{
    size_t count = 0;

    for (size_t i = 0; i < n; i++) {
        count += ((uint8_t)p[i] & 0xc0) != 0x80;
    }
    return count;
}
