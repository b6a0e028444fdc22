/* See gbnf_text.h. */
#include "engine/grammar/gbnf_text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY_MIN 4096u


/* Room for `more` bytes; false: none, which is remembered. */
static int
reserve(struct ax_gbnf_text *out, size_t more)
{
    if (out->error != AXION_OK) {
        return 0;
    }
    if (more > AX_GBNF_TEXT_BYTES_MAX - out->bytes) {
        out->error = AXION_ERR_GRAMMAR_LIMIT;
        return 0;
    }
    if (out->bytes + more <= out->capacity) {
        return 1;
    }
    size_t capacity = out->capacity * 2;
    capacity = capacity < CAPACITY_MIN ? CAPACITY_MIN : capacity;
    while (capacity < out->bytes + more) {
        capacity *= 2;
    }
    char *data = realloc(out->data, capacity);
    if (data == NULL) {
        out->error = AXION_ERR_NO_MEMORY;
        return 0;
    }
    out->data = data;
    out->capacity = capacity;
    return 1;
}


void
ax_gbnf_put(struct ax_gbnf_text *out, const char *text, size_t bytes)
{
    if (bytes > 0 && reserve(out, bytes)) {
        memcpy(out->data + out->bytes, text, bytes);
        out->bytes += bytes;
    }
}


void
ax_gbnf_printf(struct ax_gbnf_text *out, const char *format, ...)
{
    char line[256];
    va_list args;

    va_start(args, format);
    int n = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof(line)) {
        out->error = AXION_ERR_INTERNAL;
        return;
    }
    ax_gbnf_put(out, line, (size_t)n);
}


/* One byte within quotes. */
static void
put_quoted(struct ax_gbnf_text *out, unsigned char c)
{
    if (c == '"' || c == '\\') {
        ax_gbnf_printf(out, "\\%c", c);
    } else if (c < 0x20 || c == 0x7f) {
        ax_gbnf_printf(out, "\\x%02x", c);
    } else {
        ax_gbnf_put(out, (const char *)&c, 1);
    }
}


void
ax_gbnf_chars(struct ax_gbnf_text *out, const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        put_quoted(out, (unsigned char)text[i]);
    }
}


void
ax_gbnf_literal(struct ax_gbnf_text *out, const char *text, size_t bytes)
{
    ax_gbnf_put(out, "\"", 1);
    ax_gbnf_chars(out, text, bytes);
    ax_gbnf_put(out, "\"", 1);
}


/* What JSON writes for one byte of a string. */
static void
put_json_byte(struct ax_gbnf_text *out, unsigned char c)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char *known = c != 0 ? strchr(from, c) : NULL;

    if (known != NULL) {
        put_quoted(out, '\\');
        put_quoted(out, (unsigned char)to[known - from]);
    } else if (c < 0x20) {
        ax_gbnf_printf(out, "\\\\u%04x", c); /* a backslash, then u */
    } else {
        put_quoted(out, c);
    }
}


void
ax_gbnf_json_chars(struct ax_gbnf_text *out, const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        put_json_byte(out, (unsigned char)text[i]);
    }
}


void
ax_gbnf_json_string(struct ax_gbnf_text *out, const char *text, size_t bytes)
{
    ax_gbnf_put(out, "\"\\\"", 3);
    ax_gbnf_json_chars(out, text, bytes);
    ax_gbnf_put(out, "\\\"\"", 3);
}


void
ax_gbnf_class_char(struct ax_gbnf_text *out, uint32_t c)
{
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
        (c >= 'A' && c <= 'Z')) {
        ax_gbnf_printf(out, "%c", (char)c);
    } else if (c < 0x100) {
        ax_gbnf_printf(out, "\\x%02x", c);
    } else if (c < 0x10000) {
        ax_gbnf_printf(out, "\\u%04x", c);
    } else {
        ax_gbnf_printf(out, "\\U%08x", c);
    }
}


int
ax_gbnf_text_end(struct ax_gbnf_text *out, struct ax_error *err)
{
    int error = out->error;

    switch (error) {
    case AXION_OK:
        return error;
    case AXION_ERR_GRAMMAR_LIMIT:
        ax_error_set(err, error, "the grammar has more than %u bytes of GBNF",
                     AX_GBNF_TEXT_BYTES_MAX);
        break;
    default:
        ax_error_set(err, error, "cannot write the grammar");
        break;
    }
    ax_gbnf_text_free(out);
    return error;
}


void
ax_gbnf_text_free(struct ax_gbnf_text *out)
{
    free(out->data);
    *out = (struct ax_gbnf_text){0};
}
