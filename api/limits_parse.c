/*
 * The words of a tenant's limits and of prices, as nginx.conf and a file of
 * tenants have them.  Numbers are decimal, with a suffix of thousands where
 * one is handy; whatever is not whole in its unit, or out of bounds, is
 * refused with the word that is wrong.
 */
#include <stdio.h>
#include <string.h>
#include "api/limits.h"
#include "shm/errors.h"

#define MS_NS     1000000ull
#define SECOND_NS (1000 * MS_NS)

typedef unsigned __int128 wide;

struct why {
    char *text;
    size_t bytes;
};


static int
bad(const struct why *why, const char *what, const struct axion_text *word)
{
    int n = word->bytes < 100 ? (int)word->bytes : 100;

    snprintf(why->text, why->bytes, "%s \"%.*s\"", what, n, word->data);
    return AXION_ERR_BAD_OPTION;
}


static int
is(const struct axion_text *word, const char *text)
{
    return strlen(text) == word->bytes &&
           memcmp(word->data, text, word->bytes) == 0;
}


/* What stands behind `prefix`, if the word starts with it. */
static int
after(const struct axion_text *word, const char *prefix,
      struct axion_text *rest)
{
    size_t n = strlen(prefix);

    if (word->bytes < n || memcmp(word->data, prefix, n) != 0)
        return 0;
    rest->data = word->data + n;
    rest->bytes = word->bytes - (uint32_t)n;
    return 1;
}


static uint64_t
suffix_of(char c)
{
    return c == 'k'   ? 1000ull
           : c == 'M' ? 1000000ull
           : c == 'G' ? 1000000000ull
                      : 0;
}


/* Digits, a point, digits, a suffix: times `scale`, from 1 to `max`, and
 * whole.  How many bytes it took; 0: it is none. */
static uint32_t
number(const struct axion_text *word, uint64_t scale, uint64_t max,
       uint64_t *out)
{
    wide value = 0, unit = 1, factor = scale;
    uint32_t i = 0, digits = 0;
    int point = 0;

    for (; i < word->bytes; i++) {
        char c = word->data[i];

        if (c == '.' && !point && digits > 0) {
            point = 1;
            continue;
        }
        if (c < '0' || c > '9')
            break;
        if (++digits > 19)
            return 0;
        value = value * 10 + (unsigned)(c - '0');
        if (point)
            unit *= 10;
    }
    if (digits == 0 || word->data[i - 1] == '.')
        return 0;
    if (i < word->bytes && suffix_of(word->data[i]) != 0)
        factor *= suffix_of(word->data[i++]);
    value *= factor;
    if (value % unit != 0 || value / unit < 1 || value / unit > max)
        return 0;
    *out = (uint64_t)(value / unit);
    return i;
}


static int
whole_number(const struct axion_text *word, uint64_t max, uint64_t *out)
{
    uint32_t n = number(word, 1, max, out);

    return n > 0 && n == word->bytes;
}


/* ---- rates ---- */

static uint64_t
period_of(const struct axion_text *word)
{
    return is(word, "s")   ? SECOND_NS
           : is(word, "m") ? 60 * SECOND_NS
           : is(word, "h") ? 3600 * SECOND_NS
           : is(word, "d") ? 86400 * SECOND_NS
                           : 0;
}


static int
set_rate(struct axion_rate *rate, const struct axion_text *words, size_t n,
         int requests, const struct why *why)
{
    struct axion_text rest;
    uint32_t used;

    if (n < 2 || n > 3)
        return bad(why, "invalid number of parameters of", &words[0]);
    used = number(&words[1], 1, AXION_LIMIT_MAX, &rate->count);
    rest.data = words[1].data + used;
    rest.bytes = words[1].bytes - used;
    if (used > 0 && requests)
        (void)after(&rest, "r", &rest);
    if (used == 0 || !after(&rest, "/", &rest) ||
        (rate->period_ns = period_of(&rest)) == 0)
        return bad(why, "invalid rate, it must be like 100k/m, of s m h d:",
                   &words[1]);
    rate->burst = rate->count;
    if (n == 3 && (!after(&words[2], "burst=", &rest) ||
                   !whole_number(&rest, AXION_LIMIT_MAX, &rate->burst)))
        return bad(why, "invalid parameter", &words[2]);
    return AXION_OK;
}


/* ---- budgets ---- */

static int
set_budget(uint64_t budget[AXION_WINDOWS], const struct axion_text *words,
           size_t n, uint64_t scale, uint64_t max, const struct why *why)
{
    size_t i;

    if (n < 2 || n > 3)
        return bad(why, "invalid number of parameters of", &words[0]);
    for (i = 1; i < n; i++) {
        uint64_t value;
        uint32_t used = number(&words[i], scale, max, &value);
        struct axion_text rest = {words[i].data + used, words[i].bytes - used};
        unsigned k = is(&rest, "/d")    ? AXION_WINDOW_DAY
                     : is(&rest, "/mo") ? AXION_WINDOW_MONTH
                                        : AXION_WINDOWS;

        if (used == 0 || k == AXION_WINDOWS || budget[k] != 0)
            return bad(why, "invalid budget, it must be like 10M/d 200M/mo:",
                       &words[i]);
        budget[k] = value;
    }
    return AXION_OK;
}


/* ---- concurrency and queue ---- */

static int
set_count(uint32_t *count, const struct axion_text *word, const struct why *why)
{
    uint64_t value;

    if (!whole_number(word, 1000000, &value))
        return bad(why, "invalid number, it must be 1 to 1000000:", word);
    *count = (uint32_t)value;
    return AXION_OK;
}


static int
set_time(uint32_t *ms, const struct axion_text *word)
{
    uint64_t value;
    uint32_t used = number(word, 1, AXION_LIMIT_WAIT_MAX, &value);
    struct axion_text rest = {word->data + used, word->bytes - used};

    if (used == 0)
        return 0;
    value *= is(&rest, "ms")                     ? 1
             : is(&rest, "s") || rest.bytes == 0 ? 1000
             : is(&rest, "m")                    ? 60000
                                                 : 0;
    if (value == 0 || value > AXION_LIMIT_WAIT_MAX)
        return 0;
    *ms = (uint32_t)value;
    return 1;
}


static int
set_queue(struct axion_limits *limits, const struct axion_text *words, size_t n,
          const struct why *why)
{
    struct axion_text rest;

    if (n != 3)
        return bad(why, "invalid number of parameters of", &words[0]);
    if (set_count(&limits->queue, &words[1], why) != AXION_OK)
        return AXION_ERR_BAD_OPTION;
    if (!after(&words[2], "wait=", &rest) || !set_time(&limits->wait_ms, &rest))
        return bad(why, "invalid wait, it must be like wait=5s, 10m at most:",
                   &words[2]);
    return AXION_OK;
}


/* ---- lines ---- */

enum {
    WORD_CONCURRENCY = AXION_RATES,
    WORD_QUEUE,
    WORD_BUDGET,
    WORD_COST,
    WORDS
};


static unsigned
word_of(const struct axion_text *word)
{
    static const char *const names[WORDS] = {
        "requests",    "tokens", "prompt_tokens", "completion_tokens",
        "concurrency", "queue",  "budget",        "cost_budget",
    };
    unsigned k = 0;

    while (k < WORDS && !is(word, names[k]))
        k++;
    return k;
}


int
axion_limits_set(struct axion_limits *limits, const struct axion_text *words,
                 size_t n, char *text, size_t bytes)
{
    struct why why = {text, bytes};
    unsigned k = n > 0 ? word_of(&words[0]) : WORDS;

    if (k == WORDS)
        return AXION_AGAIN;
    if (limits->given & (1u << k))
        return bad(&why, "duplicate", &words[0]);
    limits->given |= 1u << k;
    switch (k) {
    case WORD_CONCURRENCY:
        if (n != 2)
            return bad(&why, "invalid number of parameters of", &words[0]);
        return set_count(&limits->concurrency, &words[1], &why);
    case WORD_QUEUE:
        return set_queue(limits, words, n, &why);
    case WORD_BUDGET:
        return set_budget(limits->budget, words, n, 1, AXION_LIMIT_MAX, &why);
    case WORD_COST:
        return set_budget(limits->cost_budget, words, n, AXION_COST_UNIT,
                          AXION_COST_MAX, &why);
    default:
        return set_rate(&limits->rates[k], words, n, k == AXION_RATE_REQUESTS,
                        &why);
    }
}


int
axion_price_set(struct axion_price *price, const struct axion_text *word,
                char *text, size_t bytes)
{
    struct why why = {text, bytes};
    struct axion_text rest;
    uint64_t *at;

    if (after(word, "prompt=", &rest))
        at = &price->prompt;
    else if (after(word, "cached=", &rest))
        at = &price->cached;
    else if (after(word, "completion=", &rest))
        at = &price->completion;
    else
        return bad(&why, "unknown parameter", word);
    /* A cost unit for a million tokens is a thousand billionths for one. */
    if (is(&rest, "0")) {
        *at = 0;
        return AXION_OK;
    }
    if (number(&rest, 1000, AXION_PRICE_MAX, at) != rest.bytes ||
        rest.bytes == 0)
        return bad(&why,
                   "invalid price for a million tokens, 0 to 1000000 with "
                   "three decimals at most:",
                   word);
    return AXION_OK;
}
