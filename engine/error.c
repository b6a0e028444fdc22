/*
 * Error lines: formatting and escaping; see error.h.
 */
#include "engine/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>


int
ax_error_set(struct ax_error *err, int number, const char *fmt, ...)
{
    if (err != NULL) {
        err->number = number;
        va_list args;
        va_start(args, fmt);
        vsnprintf(err->text, sizeof(err->text), fmt, args);
        va_end(args);
    }
    return number;
}


char *
ax_error_escape(char *dst, size_t size, const char *bytes, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    size_t used = 0;

    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)bytes[i];
        /* Room for one escape, the dots and the end. */
        if (used + 4 + 3 + 1 > size) {
            if (size >= 4) {
                memcpy(dst + used, "...", 3);
                used += 3;
            }
            break;
        }
        if (c >= 0x20 && c < 0x7f && c != '\\') {
            dst[used++] = (char)c;
            continue;
        }
        dst[used++] = '\\';
        dst[used++] = 'x';
        dst[used++] = hex[c >> 4];
        dst[used++] = hex[c & 15];
    }
    if (size != 0) {
        dst[used] = '\0';
    }
    return dst;
}
