/*
 * The payload is our own (the parser has just made it), so its sections are
 * walked with asserts, not with errors.  The bytes that name a prefix are
 * gathered in one piece because libsodium's SipHash takes one piece.
 */
#include "api/route.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>
#include "shm/errors.h"

#define SECTION_HEAD 8u

_Static_assert(sizeof(((struct axion_request_head *)0)->cache_salt) ==
                   crypto_shorthash_KEYBYTES,
               "the cache's realm is SipHash's key");
_Static_assert(sizeof(uint64_t) == crypto_shorthash_BYTES, "a prefix's number");

struct section {
    uint32_t tag;
    uint32_t bytes;
    const uint8_t *data;
};

struct prefix {
    uint8_t text[AXION_PREFIX_BYTES_MAX];
    size_t n_text;
    size_t n_seen; /* of the whole prompt */
};


static int
next_section(const struct axion_parsed *parsed, size_t *at, struct section *s)
{
    uint32_t head[2];

    if (*at == parsed->payload_bytes)
        return 0;
    assert(parsed->payload_bytes - *at >= SECTION_HEAD);
    memcpy(head, parsed->payload + *at, SECTION_HEAD);
    s->tag = head[0];
    s->bytes = head[1];
    s->data = parsed->payload + *at + SECTION_HEAD;
    *at += SECTION_HEAD + (((size_t)s->bytes + 7) & ~(size_t)7);
    assert(*at <= parsed->payload_bytes);
    return 1;
}


static void
take(struct prefix *p, const struct section *s, size_t bytes_max)
{
    size_t n = bytes_max - p->n_text;

    if (n > s->bytes)
        n = s->bytes;
    memcpy(p->text + p->n_text, s->data, n);
    p->n_text += n;
}


/* The largest power of two that is not above n. */
static size_t
floor_power(size_t n)
{
    size_t power = 1;

    while (power <= n / 2)
        power *= 2;
    return power;
}


static void
gather(const struct axion_parsed *parsed, size_t bytes_max, struct prefix *p)
{
    static const char user[] = "user";
    size_t at = sizeof(struct axion_request_head);
    struct section s;
    int of_user = 0;
    int over = 0; /* the user's first message is */

    p->n_text = 0;
    p->n_seen = 0;
    while (next_section(parsed, &at, &s)) {
        switch (s.tag) {
        case AXION_SECTION_MODEL:
            break;
        case AXION_SECTION_ROLE:
            over |= of_user;
            of_user = s.bytes == sizeof(user) - 1 &&
                      memcmp(s.data, user, sizeof(user) - 1) == 0;
            if (!over)
                take(p, &s, bytes_max);
            break;
        case AXION_SECTION_NAME:
        case AXION_SECTION_TEXT:
        case AXION_SECTION_PROMPT:
        case AXION_SECTION_TOKENS:
            if (!over)
                take(p, &s, bytes_max);
            p->n_seen += s.bytes;
            break;
        default:
            return; /* the prompt is over */
        }
    }
}


uint64_t
axion_route_prefix(const struct axion_parsed *parsed, size_t bytes_max)
{
    const struct axion_request_head *head;
    struct prefix p;
    uint64_t number;

    assert(bytes_max >= AXION_PREFIX_BYTES_MIN);
    assert(bytes_max <= AXION_PREFIX_BYTES_MAX);
    gather(parsed, bytes_max, &p);
    if (p.n_seen < AXION_PREFIX_BYTES_MIN)
        return 0;
    if (parsed->kind == AXION_REQUEST_COMPLETION)
        p.n_text = floor_power(p.n_text);
    head = (const struct axion_request_head *)parsed->payload;
    crypto_shorthash((unsigned char *)&number, p.text, p.n_text,
                     head->cache_salt);
    return number != 0 ? number : 1;
}


/* splitmix64's finalizer over both. */
uint64_t
axion_route_weight(uint64_t prefix, uint64_t number)
{
    uint64_t x = prefix ^ number;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}


int
axion_route_rename(struct axion_parsed *parsed, const struct axion_text *model,
                   const struct axion_memory *memory)
{
    size_t at = sizeof(struct axion_request_head);
    size_t padded = ((size_t)model->bytes + 7) & ~(size_t)7;
    uint32_t words[2] = {AXION_SECTION_MODEL, model->bytes};
    struct axion_request_head head;
    struct section old;
    uint8_t *data, *p;
    size_t rest;
    int found = next_section(parsed, &at, &old);

    assert(found && old.tag == AXION_SECTION_MODEL);
    rest = parsed->payload_bytes - at;
    memcpy(&head, parsed->payload, sizeof(head));
    head.bytes = (uint32_t)(sizeof(head) + SECTION_HEAD + padded + rest);
    data = memory->alloc(memory->context, head.bytes);
    if (data == NULL)
        return AXION_ERR_NO_MEMORY;
    p = memcpy(data, &head, sizeof(head));
    p += sizeof(head);
    memcpy(p, words, SECTION_HEAD);
    p += SECTION_HEAD;
    memset(p, 0, padded);
    memcpy(p, model->data, model->bytes);
    memcpy(p + padded, parsed->payload + at, rest);
    parsed->payload = data;
    parsed->payload_bytes = head.bytes;
    parsed->served = *model;
    return AXION_OK;
}
