/*
 * One pass with an explicit stack of brackets, so that nesting costs a byte
 * and hostile nesting nothing else.  Between brackets a small state says what
 * may come: a key, a colon, a value, a comma or the end.
 */
#include "api/json_walk.h"

#include <assert.h>
#include <string.h>
#include "shm/errors.h"
#include "shm/utf8.h"

struct judge {
    const char *at;
    const char *end;
    unsigned depth;
    char closers[AXION_WALK_DEPTH_MAX];
};


static const char *
skip_spaces(const char *at, const char *end)
{
    while (at < end &&
           (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t'))
        at++;
    return at;
}


static int
hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}


/* Four digits at `at`; -1: there are none. */
static int
read_hex4(const char *at, const char *end)
{
    int number = 0, i;

    if (end - at < 4)
        return -1;
    for (i = 0; i < 4; i++) {
        int digit = hex_value(at[i]);

        if (digit < 0)
            return -1;
        number = number * 16 + digit;
    }
    return number;
}


/* Behind the backslash; 0: no escape. */
static size_t
escape_bytes(const char *at, const char *end)
{
    int unit;

    if (at == end)
        return 0;
    if (*at != 'u')
        return memchr("\"\\/bfnrt", *at, 8) != NULL;
    unit = read_hex4(at + 1, end);
    if (unit < 0 || (unit >= 0xdc00 && unit <= 0xdfff))
        return 0;
    if (unit < 0xd800 || unit > 0xdbff)
        return 5;
    if (end - at < 11 || at[5] != '\\' || at[6] != 'u')
        return 0;
    unit = read_hex4(at + 7, end);
    return unit >= 0xdc00 && unit <= 0xdfff ? 11 : 0;
}


/* At the opening quote; NULL, or behind the closing one. */
static const char *
judge_string(const char *at, const char *end)
{
    size_t n;

    at++;
    while (at < end && *at != '"') {
        if ((unsigned char)*at < 0x20)
            return NULL;
        if (*at == '\\') {
            n = escape_bytes(at + 1, end);
            if (n == 0)
                return NULL;
            at += 1 + n;
            continue;
        }
        n = axion_utf8_step((const unsigned char *)at, (size_t)(end - at));
        if (n == 0)
            return NULL;
        at += n;
    }
    return at < end ? at + 1 : NULL;
}


static const char *
skip_digits(const char *at, const char *end)
{
    const char *start = at;

    while (at < end && *at >= '0' && *at <= '9')
        at++;
    return at > start ? at : NULL;
}


static const char *
judge_number(const char *at, const char *end)
{
    if (*at == '-')
        at++;
    if (at < end && *at == '0')
        at++;
    else
        at = skip_digits(at, end);
    if (at != NULL && at < end && *at == '.')
        at = skip_digits(at + 1, end);
    if (at != NULL && at < end && (*at == 'e' || *at == 'E')) {
        at++;
        if (at < end && (*at == '+' || *at == '-'))
            at++;
        at = skip_digits(at, end);
    }
    return at;
}


static const char *
judge_word(const char *at, const char *end)
{
    static const char *const words[] = {"true", "false", "null"};
    size_t i;

    for (i = 0; i < 3; i++) {
        size_t n = strlen(words[i]);

        if ((size_t)(end - at) >= n && memcmp(at, words[i], n) == 0)
            return at + n;
    }
    return NULL;
}


static const char *
judge_scalar(const char *at, const char *end)
{
    if (*at == '"')
        return judge_string(at, end);
    if (*at == '-' || (*at >= '0' && *at <= '9'))
        return judge_number(at, end);
    return judge_word(at, end);
}


/* A key and its colon, where an object has a member. */
static int
judge_key(struct judge *j)
{
    if (j->closers[j->depth - 1] != '}')
        return 1;
    if (j->at == j->end || *j->at != '"')
        return 0;
    j->at = judge_string(j->at, j->end);
    if (j->at == NULL)
        return 0;
    j->at = skip_spaces(j->at, j->end);
    if (j->at == j->end || *j->at != ':')
        return 0;
    j->at = skip_spaces(j->at + 1, j->end);
    return 1;
}


/* Behind a value: closes what ends here.  1: another value comes (or, at
 * depth 0, all is over). */
static int
judge_behind(struct judge *j)
{
    while (j->depth > 0) {
        j->at = skip_spaces(j->at, j->end);
        if (j->at == j->end)
            return 0;
        if (*j->at == ',') {
            j->at = skip_spaces(j->at + 1, j->end);
            return judge_key(j);
        }
        if (*j->at != j->closers[j->depth - 1])
            return 0;
        j->at++;
        j->depth--;
    }
    return 1;
}


/* At a bracket.  1: a value comes, or (closed at once) something behind. */
static int
judge_open(struct judge *j, int *closed)
{
    *closed = 0;
    if (j->depth == AXION_WALK_DEPTH_MAX)
        return 0;
    j->closers[j->depth++] = *j->at == '{' ? '}' : ']';
    j->at = skip_spaces(j->at + 1, j->end);
    if (j->at < j->end && *j->at == j->closers[j->depth - 1]) {
        j->at++;
        j->depth--;
        *closed = 1;
        return 1;
    }
    return judge_key(j);
}


int
axion_walk_value(const char *text, size_t bytes, struct axion_text *value)
{
    struct judge j = {.at = text, .end = text + bytes};
    const char *start;
    int closed = 1;

    if (bytes > UINT32_MAX)
        return AXION_ERR_INVALID_JSON;
    j.at = start = skip_spaces(j.at, j.end);
    do {
        if (j.at == j.end)
            return AXION_ERR_INVALID_JSON;
        closed = 1;
        if (*j.at == '{' || *j.at == '[') {
            if (!judge_open(&j, &closed))
                return AXION_ERR_INVALID_JSON;
        } else {
            j.at = judge_scalar(j.at, j.end);
            if (j.at == NULL)
                return AXION_ERR_INVALID_JSON;
        }
        if (closed && !judge_behind(&j))
            return AXION_ERR_INVALID_JSON;
    } while (j.depth > 0);
    value->data = start;
    value->bytes = (uint32_t)(j.at - start);
    return skip_spaces(j.at, j.end) == j.end ? AXION_OK
                                             : AXION_ERR_INVALID_JSON;
}


/* Behind a good value that starts at `at`. */
static const char *
skip_value(const char *at, const char *end)
{
    unsigned depth = 0;

    do {
        assert(at < end);
        switch (*at) {
        case '{':
        case '[':
            depth++;
            at++;
            break;
        case '}':
        case ']':
            depth--;
            at++;
            break;
        case '"':
            for (at++; *at != '"'; at++) {
                if (*at == '\\')
                    at++;
            }
            at++;
            break;
        default:
            at++;
            while (depth == 0 && at < end &&
                   memchr(",]} \n\r\t", *at, 7) == NULL)
                at++;
            break;
        }
    } while (depth > 0);
    return at;
}


int
axion_walk_enter(struct axion_walk *walk, const struct axion_text *value,
                 char kind)
{
    if (value->data == NULL || value->bytes == 0 || value->data[0] != kind)
        return 0;
    walk->at = value->data + 1;
    walk->end = value->data + value->bytes - 1; /* its closing bracket */
    return 1;
}


int
axion_walk_next(struct axion_walk *walk, struct axion_text *key,
                struct axion_text *value)
{
    const char *at = skip_spaces(walk->at, walk->end);

    if (at < walk->end && *at == ',')
        at = skip_spaces(at + 1, walk->end);
    if (at == walk->end)
        return 0;
    if (key != NULL) {
        key->data = at;
        at = skip_value(at, walk->end);
        key->bytes = (uint32_t)(at - key->data);
        at = skip_spaces(at, walk->end);
        assert(*at == ':');
        at = skip_spaces(at + 1, walk->end);
    }
    value->data = at;
    walk->at = skip_value(at, walk->end);
    value->bytes = (uint32_t)(walk->at - at);
    return 1;
}


struct axion_text
axion_walk_find(const struct axion_text *object, const char *name)
{
    struct axion_text found = {NULL, 0}, key, value;
    struct axion_walk walk;

    if (!axion_walk_enter(&walk, object, '{'))
        return found;
    while (axion_walk_next(&walk, &key, &value)) {
        if (axion_walk_is(&key, name))
            found = value;
    }
    return found;
}


/* One character of a good string, its UTF-8 in text[4]; moves *at. */
static unsigned
read_character(const char **at, char text[4])
{
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    const char *p = *at, *end = p + 12, *known;
    uint32_t c;

    if (*p != '\\') {
        *at = p + 1; /* of a sequence, the bytes come one by one */
        text[0] = *p;
        return 1;
    }
    if (p[1] != 'u') {
        known = strchr(from, p[1]);
        text[0] = known != NULL ? to[known - from] : p[1];
        *at = p + 2;
        return 1;
    }
    c = (uint32_t)read_hex4(p + 2, end);
    *at = p + 6;
    if (c >= 0xd800 && c <= 0xdbff) {
        c = 0x10000 + ((c - 0xd800) << 10) +
            ((uint32_t)read_hex4(p + 8, end) - 0xdc00);
        *at = p + 12;
        text[0] = (char)(0xf0 | c >> 18);
        text[1] = (char)(0x80 | (c >> 12 & 0x3f));
        text[2] = (char)(0x80 | (c >> 6 & 0x3f));
        text[3] = (char)(0x80 | (c & 0x3f));
        return 4;
    }
    if (c < 0x80) {
        text[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        text[0] = (char)(0xc0 | c >> 6);
        text[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    text[0] = (char)(0xe0 | c >> 12);
    text[1] = (char)(0x80 | (c >> 6 & 0x3f));
    text[2] = (char)(0x80 | (c & 0x3f));
    return 3;
}


int
axion_walk_is(const struct axion_text *string, const char *text)
{
    const char *at, *end;
    size_t left = strlen(text);
    char c[4];

    if (string->data == NULL || string->bytes < 2 || string->data[0] != '"')
        return 0;
    at = string->data + 1;
    end = string->data + string->bytes - 1;
    while (at < end) {
        unsigned n = read_character(&at, c);

        if (n > left || memcmp(text, c, n) != 0)
            return 0;
        text += n;
        left -= n;
    }
    return left == 0;
}


int
axion_walk_u32(const struct axion_text *value, uint32_t *number)
{
    uint64_t n = 0;
    uint32_t i;

    if (value->data == NULL || value->bytes == 0 || value->bytes > 10)
        return 0;
    for (i = 0; i < value->bytes; i++) {
        if (value->data[i] < '0' || value->data[i] > '9')
            return 0;
        n = n * 10 + (uint64_t)(value->data[i] - '0');
    }
    if (n > UINT32_MAX)
        return 0;
    *number = (uint32_t)n;
    return 1;
}


void
axion_walk_text(const struct axion_text *value, char *text, size_t capacity)
{
    const char *at, *end;
    size_t n = 0;

    assert(capacity > 0);
    if (value->data != NULL && value->bytes >= 2 && value->data[0] == '"') {
        at = value->data + 1;
        end = value->data + value->bytes - 1;
        while (at < end) {
            char c[4];
            unsigned bytes = read_character(&at, c);

            if (n + bytes >= capacity) {
                while (n > 0 && ((unsigned char)text[n - 1] & 0x80))
                    n--; /* perhaps half a character */
                break;
            }
            memcpy(text + n, c, bytes);
            n += bytes;
        }
    }
    text[n] = '\0';
}
