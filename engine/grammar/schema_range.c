/*
 * Decimal numbers from one to another as GBNF.
 *
 * Numbers of one length from `low` to `high` are: where both begin with the
 * same digit, that digit and what is between the rests; else the first digit
 * of low and what is not below its rest, any digit between and any rest, the
 * first digit of high and what is not above its rest.  Depth and text are
 * bounded by the digits.  A point may stand at one place within them.
 */
#include <stdio.h>
#include <string.h>
#include "engine/grammar/schema_private.h"

#define DIGITS_MAX 20u
/* Doubles tell numbers of so many digits apart. */
#define SURE_DIGITS 15u

struct digits {
    struct ax_gbnf_text *out;
    char low[DIGITS_MAX + 1], high[DIGITS_MAX + 1];
    unsigned n;
    unsigned point; /* digits in front of it; n: none */
};


static void
put_class(const struct digits *d, unsigned at, char first, char last)
{
    if (at == d->point && d->point < d->n) {
        ax_gbnf_put(d->out, "\".\" ", 4);
    }
    ax_gbnf_printf(d->out, first == last ? "[%c] " : "[%c-%c] ", first, last);
}


/* Any digits from `at` to the end. */
static void
put_any(const struct digits *d, unsigned at)
{
    for (; at < d->n; at++) {
        put_class(d, at, '0', '9');
    }
}


static bool
all_are(const char *digits, char digit)
{
    return strspn(digits, (char[]){digit, '\0'}) == strlen(digits);
}


static void
put_from(const struct digits *d, unsigned at)
{
    if (at == d->n || all_are(d->low + at, '0')) {
        put_any(d, at);
        return;
    }
    ax_gbnf_put(d->out, "(", 1);
    put_class(d, at, d->low[at], d->low[at]);
    put_from(d, at + 1);
    if (d->low[at] < '9') {
        ax_gbnf_put(d->out, "| ", 2);
        put_class(d, at, (char)(d->low[at] + 1), '9');
        put_any(d, at + 1);
    }
    ax_gbnf_put(d->out, ") ", 2);
}


static void
put_up_to(const struct digits *d, unsigned at)
{
    if (at == d->n || all_are(d->high + at, '9')) {
        put_any(d, at);
        return;
    }
    ax_gbnf_put(d->out, "(", 1);
    put_class(d, at, d->high[at], d->high[at]);
    put_up_to(d, at + 1);
    if (d->high[at] > '0') {
        ax_gbnf_put(d->out, "| ", 2);
        put_class(d, at, '0', (char)(d->high[at] - 1));
        put_any(d, at + 1);
    }
    ax_gbnf_put(d->out, ") ", 2);
}


static void
put_between(const struct digits *d)
{
    unsigned at = 0;

    while (at < d->n && d->low[at] == d->high[at]) {
        put_class(d, at, d->low[at], d->low[at]);
        at++;
    }
    if (at == d->n) {
        return;
    }
    ax_gbnf_put(d->out, "(", 1);
    put_class(d, at, d->low[at], d->low[at]);
    put_from(d, at + 1);
    if (d->high[at] - d->low[at] > 1) {
        ax_gbnf_put(d->out, "| ", 2);
        put_class(d, at, (char)(d->low[at] + 1), (char)(d->high[at] - 1));
        put_any(d, at + 1);
    }
    ax_gbnf_put(d->out, "| ", 2);
    put_class(d, at, d->high[at], d->high[at]);
    put_up_to(d, at + 1);
    ax_gbnf_put(d->out, ") ", 2);
}


static int64_t
power10(unsigned n)
{
    int64_t power = 1;

    while (n-- > 0) {
        power *= 10;
    }
    return power;
}


static void
put_bar(struct ax_gbnf_text *out, bool *first)
{
    ax_gbnf_put(out, "| ", *first ? 0 : 2);
    *first = false;
}


/* Magnitudes 0 <= low <= high, of which the last `scale` digits stand behind
 * the point; `more` digits at most may follow, the last of them not 0 where
 * `some`. */
static void
put_magnitudes(struct ax_gbnf_text *out, const char *sign, int64_t low,
               int64_t high, unsigned scale, bool more, bool some, bool *first)
{
    for (unsigned n = scale + 1; n <= 18; n++) {
        int64_t least = n == scale + 1 ? 0 : power10(n - 1);
        int64_t most = power10(n) - 1;
        least = least > low ? least : low;
        most = most < high ? most : high;
        if (least > most) {
            continue;
        }
        struct digits d = {.out = out, .n = n, .point = n - scale};
        snprintf(d.low, sizeof(d.low), "%0*lld", (int)n, (long long)least);
        snprintf(d.high, sizeof(d.high), "%0*lld", (int)n, (long long)most);
        put_bar(out, first);
        ax_gbnf_put(out, sign, strlen(sign));
        put_between(&d);
        unsigned left = n < SURE_DIGITS ? SURE_DIGITS - n : 0;
        if (more && some) {
            ax_gbnf_printf(out, "[0-9]{0,%u} [1-9] ", left > 0 ? left - 1 : 0);
        } else if (more && left > 0) {
            ax_gbnf_printf(out, "[0-9]{0,%u} ", left);
        }
    }
}


/* ---- integers ---- */

void
write_integers(struct ax_gbnf_text *out, int64_t low, int64_t high)
{
    static const char minus[] = "\"-\" ";
    bool first = true;

    ax_gbnf_put(out, "(", 1);
    if (low < 0) {
        put_magnitudes(out, minus, high < 0 ? -high : 1, -low, 0, false, false,
                       &first);
    }
    if (high >= 0) {
        put_magnitudes(out, "", low > 0 ? low : 0, high, 0, false, false,
                       &first);
    }
    ax_gbnf_put(out, ")", 1);
}


/* ---- decimals ---- */

/* From low to high, both in units of 10^-scale and not negative. */
static void
put_decimals(struct ax_gbnf_text *out, const char *sign, int64_t low,
             bool above, int64_t high, bool below, unsigned scale, bool *first)
{
    /* with fewer digits behind the point than the bounds have, or none */
    for (unsigned fewer = 0; fewer < scale; fewer++) {
        int64_t unit = power10(scale - fewer);
        int64_t from = (low + (above ? unit : unit - 1)) / unit;
        int64_t to = below && high % unit == 0 ? high / unit - 1 : high / unit;
        if (from <= to) {
            put_magnitudes(out, sign, from, to, fewer, false, false, first);
        }
    }
    /* with as many, and any digits behind what is below the upper bound */
    if (low + above <= high - 1) {
        put_magnitudes(out, sign, low + above, high - 1, scale, true, false,
                       first);
    }
    if (above && low < high) {
        put_magnitudes(out, sign, low, low, scale, true, true, first);
    }
    /* and the bound itself */
    if (!below && low + above <= high) {
        put_magnitudes(out, sign, high, high, scale, false, false, first);
    }
}


/* In units of 10^-scale; outside of 18 digits: the bound of these. */
static int64_t
scaled(const struct bound *b, unsigned scale, int64_t otherwise)
{
    int64_t most = power10(18) - 1;

    if (!b->set) {
        return otherwise;
    }
    __int128 number = (__int128)b->number * power10(scale - b->digits);
    return number > most ? most : number < -most ? -most : (int64_t)number;
}


void
write_decimals(struct ax_gbnf_text *out, const struct bound *low,
               const struct bound *high)
{
    static const char minus[] = "\"-\" ";
    unsigned scale = low->digits > high->digits ? low->digits : high->digits;
    bool first = true;

    scale = scale > 0 ? scale : 1;
    int64_t most = power10(18) - 1;
    int64_t from = scaled(low, scale, -most), to = scaled(high, scale, most);
    ax_gbnf_put(out, "(", 1);
    if (from < 0) {
        put_decimals(out, minus, to < 0 ? -to : 0, to < 0 ? high->exclusive : 1,
                     -from, low->exclusive, scale, &first);
    }
    if (to >= 0) {
        put_decimals(out, "", from > 0 ? from : 0,
                     from >= 0 && low->set ? low->exclusive : 0, to,
                     high->exclusive, scale, &first);
    }
    ax_gbnf_put(out, ")", 1);
}
