/*
 * The store's address.  Percent signs stand for bytes in user, password and
 * path, as in any URL; a reason never repeats what it refuses, since that may
 * be a password.
 */
#include <stdio.h>
#include <string.h>
#include "api/quota.h"
#include "shm/errors.h"

#define REDIS_PORT 6379
#define DB_MAX     16383


static int
bad(char *why, size_t bytes, const char *what)
{
    snprintf(why, bytes, "%s", what);
    return AXION_ERR_BAD_OPTION;
}


static int
begins(struct axion_text *text, const char *with)
{
    size_t n = strlen(with);

    if (text->bytes < n || memcmp(text->data, with, n) != 0)
        return 0;
    text->data += n;
    text->bytes -= (uint32_t)n;
    return 1;
}


/* Cuts off what stands before `at`; 0: there is no such byte. */
static int
cut(struct axion_text *text, char at, struct axion_text *before)
{
    const char *p = memchr(text->data, at, text->bytes);

    if (p == NULL)
        return 0;
    before->data = text->data;
    before->bytes = (uint32_t)(p - text->data);
    text->data = p + 1;
    text->bytes -= before->bytes + 1;
    return 1;
}


static int
hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}


/* 0: too long, or not decodable. */
static int
decode(char *out, size_t room, const struct axion_text *text)
{
    size_t n = 0;
    uint32_t i;

    for (i = 0; i < text->bytes; i++) {
        int c = (unsigned char)text->data[i];

        if (c == '%') {
            if (text->bytes - i < 3 || hex(text->data[i + 1]) < 0 ||
                hex(text->data[i + 2]) < 0)
                return 0;
            c = hex(text->data[i + 1]) << 4 | hex(text->data[i + 2]);
            i += 2;
        }
        if (c == 0 || n + 1 >= room)
            return 0;
        out[n++] = (char)c;
    }
    out[n] = '\0';
    return 1;
}


static int
number(const struct axion_text *text, unsigned max, uint16_t *out)
{
    unsigned value = 0;
    uint32_t i;

    if (text->bytes == 0 || text->bytes > 5)
        return 0;
    for (i = 0; i < text->bytes; i++) {
        if (text->data[i] < '0' || text->data[i] > '9')
            return 0;
        value = value * 10 + (unsigned)(text->data[i] - '0');
    }
    if (value > max)
        return 0;
    *out = (uint16_t)value;
    return 1;
}


/* [USER]:PASSWORD@ ; the last @ ends it. */
static int
parse_user(struct axion_quota_url *url, struct axion_text *rest)
{
    struct axion_text who = {rest->data, 0}, user;
    const char *at = memrchr(rest->data, '@', rest->bytes);

    if (at == NULL)
        return 1;
    who.bytes = (uint32_t)(at - rest->data);
    rest->bytes -= who.bytes + 1;
    rest->data = at + 1;
    return cut(&who, ':', &user) &&
           decode(url->user, sizeof(url->user), &user) && who.bytes > 0 &&
           decode(url->password, sizeof(url->password), &who);
}


static int
is_host(const struct axion_text *host)
{
    static const char other[] = ".-_:";
    uint32_t i;

    for (i = 0; i < host->bytes; i++) {
        char c = host->data[i];

        if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z') &&
            !(c >= 'A' && c <= 'Z') && (c == 0 || strchr(other, c) == NULL))
            return 0;
    }
    return host->bytes > 0 && host->bytes < AXION_QUOTA_HOST_BYTES;
}


/* HOST[:PORT], or an IPv6 address in brackets. */
static int
parse_host(struct axion_quota_url *url, struct axion_text *rest)
{
    struct axion_text host;

    if (begins(rest, "[")) {
        if (!cut(rest, ']', &host) || (rest->bytes > 0 && !begins(rest, ":")) ||
            memchr(host.data, ':', host.bytes) == NULL)
            return 0;
    } else if (!cut(rest, ':', &host)) {
        host = *rest;
        rest->bytes = 0;
    } else if (rest->bytes == 0) {
        return 0;
    }
    if (!is_host(&host))
        return 0;
    memcpy(url->host, host.data, host.bytes);
    url->host[host.bytes] = '\0';
    url->port = REDIS_PORT;
    return rest->bytes == 0 ||
           (number(rest, 65535, &url->port) && url->port != 0);
}


static int
parse_local(struct axion_quota_url *url, struct axion_text *rest, char *why,
            size_t why_bytes)
{
    struct axion_text path;

    url->local = 1;
    if (cut(rest, '?', &path)) {
        if (!begins(rest, "db=") || !number(rest, DB_MAX, &url->db))
            return bad(why, why_bytes, "its database is no number");
    } else {
        path = *rest;
    }
    /* sun_path has 108 bytes */
    if (path.bytes == 0 || path.data[0] != '/' || path.bytes > 107 ||
        !decode(url->host, sizeof(url->host), &path))
        return bad(why, why_bytes, "its path is none");
    return AXION_OK;
}


int
axion_quota_url_parse(struct axion_quota_url *url,
                      const struct axion_text *text, char *why,
                      size_t why_bytes)
{
    struct axion_text rest = *text, host;
    int local = 0;

    memset(url, 0, sizeof(*url));
    if (begins(&rest, "redis+unix://"))
        local = 1;
    else if (begins(&rest, "rediss://"))
        url->tls = 1;
    else if (!begins(&rest, "redis://"))
        return bad(why, why_bytes,
                   "it must begin with redis://, rediss:// or redis+unix://");
    if (!parse_user(url, &rest))
        return bad(why, why_bytes,
                   "what stands before @ must be [USER]:PASSWORD");
    if (local)
        return parse_local(url, &rest, why, why_bytes);
    if (!cut(&rest, '/', &host)) {
        host = rest;
        rest.bytes = 0;
    }
    if (!parse_host(url, &host))
        return bad(why, why_bytes, "its host or port is none");
    if (rest.bytes > 0 && !number(&rest, DB_MAX, &url->db))
        return bad(why, why_bytes, "its database is no number");
    return AXION_OK;
}
