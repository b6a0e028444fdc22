/*
 * UTF-8 as the ring needs it: is this text well-formed, and where may it be
 * cut.  NUL is a character like any other: texts carry lengths.
 */
#include <string.h>
#include "shm/request.h"
#include "shm/utf8.h"


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
        size_t n = axion_utf8_step(p, bytes);
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
