/*
 * Shows that limits are exact: what their words mean and which are refused,
 * that a bucket drains alike however often it is looked at, that windows end
 * when the calendar says so, that a lease never lets an account pass its
 * limit whatever the prompt turns out to be, and, with random traffic, that
 * what was charged is what was answered, to the token and to the billionth.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "api/limits.h"
#include "shm/errors.h"

#define SECOND 1000000000ull
#define MINUTE (60 * SECOND)
#define DAY_S  86400ull
#define START  1766275200ull /* 2025-12-21 00:00:00 UTC */

static const struct axion_price no_price;


static int
set(struct axion_limits *limits, const char *line, char *why)
{
    struct axion_text words[8];
    size_t n = 0;
    const char *p = line;

    while (*p != '\0' && n < 8) {
        size_t bytes = strcspn(p, " ");

        words[n++] = (struct axion_text){p, (uint32_t)bytes};
        p += bytes + (p[bytes] == ' ');
    }
    return axion_limits_set(limits, words, n, why, 128);
}


static struct axion_limits
limits_of(const char *first, const char *second)
{
    struct axion_limits limits = {0};
    char why[128] = "";

    assert_int_equal(set(&limits, first, why), AXION_OK);
    if (second != NULL)
        assert_int_equal(set(&limits, second, why), AXION_OK);
    return limits;
}


static void
test_words(void **state)
{
    struct axion_limits l = limits_of("requests 600r/m", "tokens 100k/h burst=1.5M");
    char why[128];

    (void)state;
    assert_int_equal(l.rates[AXION_RATE_REQUESTS].count, 600);
    assert_int_equal(l.rates[AXION_RATE_REQUESTS].burst, 600);
    assert_int_equal(l.rates[AXION_RATE_REQUESTS].period_ns, MINUTE);
    assert_int_equal(l.rates[AXION_RATE_TOKENS].count, 100000);
    assert_int_equal(l.rates[AXION_RATE_TOKENS].burst, 1500000);
    assert_int_equal(l.rates[AXION_RATE_TOKENS].period_ns, 60 * MINUTE);
    assert_int_equal(set(&l, "tokens 1/s", why), AXION_ERR_BAD_OPTION);
    assert_string_equal(why, "duplicate \"tokens\"");
    assert_int_equal(set(&l, "models a", why), AXION_AGAIN);

    l = limits_of("budget 10M/d 200M/mo", "cost_budget 12.5/mo");
    assert_int_equal(l.budget[AXION_WINDOW_DAY], 10000000);
    assert_int_equal(l.budget[AXION_WINDOW_MONTH], 200000000);
    assert_int_equal(l.cost_budget[AXION_WINDOW_DAY], 0);
    assert_int_equal(l.cost_budget[AXION_WINDOW_MONTH], 12500000000ull);
    assert_true(axion_limits_by_lease(&l));

    l = limits_of("concurrency 32", "queue 8 wait=1500ms");
    assert_int_equal(l.concurrency, 32);
    assert_int_equal(l.queue, 8);
    assert_int_equal(l.wait_ms, 1500);
    assert_false(axion_limits_by_lease(&l));
}


static void
test_words_refused(void **state)
{
    static const char *const lines[] = {
        "requests",
        "requests 600",
        "requests 600r",
        "requests 600/w",
        "requests /m",
        "requests 0/m",
        "requests -1/m",
        "requests 1.5/m",
        "requests 1e3/m",
        "requests 600r/m burst=0",
        "requests 600r/m burst",
        "requests 600r/m 5",
        "requests 600r/m burst=5 burst=6",
        "tokens 100r/m",
        "tokens 2000G/m",
        "tokens 99999999999999999999/m",
        "tokens 1./m",
        "tokens .5k/m",
        "concurrency",
        "concurrency 0",
        "concurrency 1000001",
        "concurrency 5 6",
        "queue 5",
        "queue 5 wait=",
        "queue 5 wait=0s",
        "queue 5 wait=11m",
        "queue 5 wait=1h",
        "budget 10M",
        "budget 10M/h",
        "budget 10M/d 20M/d",
        "budget 0.0000001/d",
        "cost_budget 0.0000000001/d",
        "cost_budget 2G/d",
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct axion_limits l = {0};
        char why[128] = "";

        if (set(&l, lines[i], why) != AXION_ERR_BAD_OPTION || why[0] == '\0')
            fail_msg("\"%s\" was taken", lines[i]);
    }
}


static void
test_prices(void **state)
{
    struct axion_price price = {0};
    struct axion_text word = {"prompt=0.15", 11};
    char why[128];

    (void)state;
    assert_int_equal(axion_price_set(&price, &word, why, sizeof(why)), 0);
    assert_int_equal(price.prompt, 150);
    word = (struct axion_text){"cached=0", 8};
    assert_int_equal(axion_price_set(&price, &word, why, sizeof(why)), 0);
    word = (struct axion_text){"completion=1M", 13};
    assert_int_equal(axion_price_set(&price, &word, why, sizeof(why)), 0);
    assert_int_equal(price.completion, AXION_PRICE_MAX);
    word = (struct axion_text){"completion=0.0001", 17};
    assert_int_equal(axion_price_set(&price, &word, why, sizeof(why)),
                     AXION_ERR_BAD_OPTION);
    word = (struct axion_text){"completion=", 11};
    assert_int_equal(axion_price_set(&price, &word, why, sizeof(why)),
                     AXION_ERR_BAD_OPTION);
    word = (struct axion_text){"image=1", 7};
    assert_int_equal(axion_price_set(&price, &word, why, sizeof(why)),
                     AXION_ERR_BAD_OPTION);
}


/* ---- rates ---- */

/* Opens and settles one request, 1: it was let in. */
static int
request(struct axion_balance *b, const struct axion_limits *l,
        struct axion_limit_time now, struct axion_verdict *v)
{
    struct axion_hold hold;

    axion_limits_admit(b, l, &no_price, &now, 100, 0, &hold, v);
    if (v->kind != AXION_LIMIT_NONE)
        return 0;
    axion_limits_settle(b, l, &now, 0, 0, 0, &hold);
    return 1;
}


static void
test_requests_refill(void **state)
{
    struct axion_limits l = limits_of("requests 60r/m burst=3", NULL);
    struct axion_balance b = {0};
    struct axion_limit_time now = {5 * SECOND, START};
    struct axion_verdict v;
    struct axion_limit_view requests, tokens;
    int i;

    (void)state;
    for (i = 0; i < 3; i++)
        assert_true(request(&b, &l, now, &v));
    assert_false(request(&b, &l, now, &v));
    assert_int_equal(v.kind, AXION_LIMIT_REQUESTS);
    assert_int_equal(v.wait_ns, SECOND);
    assert_int_equal(v.limit, 3);
    axion_limits_view(&b, &l, &now, &requests, &tokens);
    assert_int_equal(requests.limit, 3);
    assert_int_equal(requests.left, 0);
    assert_int_equal(requests.reset_ms, 3000);
    assert_int_equal(tokens.limit, 0);

    /* the wait that was told is exactly enough */
    now.ns += v.wait_ns - 1;
    assert_false(request(&b, &l, now, &v));
    now.ns += 1;
    assert_true(request(&b, &l, now, &v));
    assert_false(request(&b, &l, now, &v));
    assert_int_equal(b.refused[AXION_LIMIT_REQUESTS], 0);
}


/* Looked at every microsecond or once, the same comes out, but for what one
 * nanosecond a look drains. */
static void
test_drain_is_even(void **state)
{
    struct axion_limits l = limits_of("tokens 7/s burst=1000", NULL);
    struct axion_balance often = {0}, once;
    struct axion_limit_time now = {0, START};
    struct axion_limit_view view;
    uint64_t gap;
    int i;

    (void)state;
    often.buckets[AXION_RATE_TOKENS].level = 1000 * 1000000ull;
    once = often;
    for (i = 0; i < 200000; i++) {
        struct axion_hold hold;
        struct axion_verdict v;

        now.ns += 1000 + (uint64_t)i % 7;
        axion_limits_admit(&often, &l, &no_price, &now, 2, 0, &hold, &v);
        if (v.kind == AXION_LIMIT_NONE)
            axion_limits_settle(&often, &l, &now, 0, 0, 0, &hold);
    }
    axion_limits_look(&once, &l, &now, AXION_LIMIT_TOKENS, &view);
    assert_int_equal(view.left, 1);
    once.buckets[AXION_RATE_TOKENS].level -= 7 * now.ns / 1000;
    gap = often.buckets[AXION_RATE_TOKENS].level -
          once.buckets[AXION_RATE_TOKENS].level;
    assert_true(gap < 20); /* millionths of a token */
}


/* A clock that stands, jumps far, or meets the ends of its range. */
static void
test_odd_clocks(void **state)
{
    struct axion_limits l = limits_of("requests 1r/d", "tokens 1000G/s");
    struct axion_balance b = {0};
    struct axion_limit_time now = {0, 0};
    struct axion_verdict v;

    (void)state;
    assert_true(request(&b, &l, now, &v));
    assert_false(request(&b, &l, now, &v));
    assert_int_equal(v.wait_ns, DAY_S * SECOND);
    now.ns = UINT64_MAX;
    assert_true(request(&b, &l, now, &v));
    now.ns = 1;
    assert_false(request(&b, &l, now, &v));
}


/* ---- windows ---- */

static void
test_months(void **state)
{
    uint64_t m = axion_month_of(START);

    (void)state;
    assert_int_equal(m, 55 * 12 + 11);
    assert_int_equal(axion_month_start(m), 1764547200);     /* 2025-12-01 */
    assert_int_equal(axion_month_start(m + 1), 1767225600); /* 2026-01-01 */
    for (m = 0; m < 12 * 500; m++) {
        uint64_t at = axion_month_start(m);

        assert_int_equal(axion_month_of(at), m);
        assert_int_equal(axion_month_of(at - (m > 0)), m - (m > 0));
        assert_int_equal(at % DAY_S, 0);
    }
}


static void
test_budget_ends_with_the_day(void **state)
{
    struct axion_limits l = limits_of("budget 10/d 15/mo", NULL);
    struct axion_balance b = {0};
    struct axion_limit_time now = {SECOND, START + DAY_S - 100};
    struct axion_hold hold, late;
    struct axion_verdict v;

    (void)state;
    axion_limits_admit(&b, &l, &no_price, &now, 4, 0, &late, &v);
    assert_int_equal(late.granted, 4);
    axion_limits_admit(&b, &l, &no_price, &now, 100, 0, &hold, &v);
    assert_int_equal(hold.granted, 6);
    axion_limits_settle(&b, &l, &now, 3, 0, 3, &hold);
    axion_limits_admit(&b, &l, &no_price, &now, 100, 0, &hold, &v);
    assert_int_equal(v.kind, AXION_LIMIT_BUDGET_DAY);
    assert_int_equal(v.wait_ns, 100 * SECOND);

    /* a new day; what yesterday lent does not come back to today */
    now.wall_s += 100;
    axion_limits_admit(&b, &l, &no_price, &now, 100, 0, &hold, &v);
    assert_int_equal(hold.granted, 5); /* of the month */
    axion_limits_settle(&b, &l, &now, 1, 0, 0, &late);
    assert_int_equal(b.windows[AXION_WINDOW_DAY].tokens, 5);
    assert_int_equal(b.windows[AXION_WINDOW_MONTH].tokens, 12);
    axion_limits_settle(&b, &l, &now, 1, 0, 1, &hold);
    assert_int_equal(b.windows[AXION_WINDOW_DAY].tokens, 2);
    assert_int_equal(b.windows[AXION_WINDOW_MONTH].tokens, 9);

    /* set back, the later day stays in force */
    now.wall_s -= 200;
    axion_limits_admit(&b, &l, &no_price, &now, 100, 0, &hold, &v);
    assert_int_equal(hold.granted, 6);
    assert_int_equal(b.windows[AXION_WINDOW_DAY].tokens, 8);
}


/* ---- leases ---- */

/* Whatever the prompt is, no account passes its limit. */
static void
test_lease_bounds_every_account(void **state)
{
    struct axion_limits l = limits_of("prompt_tokens 50/d", "completion_tokens 20/d");
    struct axion_balance b = {0};
    struct axion_limit_time now = {SECOND, START};
    struct axion_hold hold;
    struct axion_verdict v;

    (void)state;
    axion_limits_admit(&b, &l, &no_price, &now, 1000, 0, &hold, &v);
    assert_int_equal(hold.granted, 21); /* a prompt of 1, an answer of 20 */

    /* the engine says 40: granted exactly, the answer has its own */
    axion_limits_grow(&b, &l, &now, 40, 1000, &hold, &v);
    assert_int_equal(v.kind, AXION_LIMIT_NONE);
    assert_int_equal(hold.granted, 60);
    assert_int_equal(axion_limits_more(&b, &l, &now, 1, &hold, &v), 0);
    assert_int_equal(v.kind, AXION_LIMIT_COMPLETION);
    axion_limits_settle(&b, &l, &now, 40, 0, 5, &hold);

    /* 10 are left of the prompts', and 11 can never be had today */
    axion_limits_admit(&b, &l, &no_price, &now, 1000, 0, &hold, &v);
    assert_int_equal(hold.granted, 11);
    axion_limits_grow(&b, &l, &now, 11, 1000, &hold, &v);
    assert_int_equal(v.kind, AXION_LIMIT_PROMPT);
    assert_true(v.wait_ns > 0 && v.wait_ns < DAY_S * SECOND);
    assert_int_equal(hold.granted, 11);
    axion_limits_grow(&b, &l, &now, 51, 1000, &hold, &v);
    assert_int_equal(v.kind, AXION_LIMIT_PROMPT);
    assert_int_equal(v.wait_ns, AXION_NEVER);
    axion_limits_know(&b, &l, &now, 2, &hold);
    assert_int_equal(hold.reserved[AXION_RATE_COMPLETION], 9);
    assert_int_equal(axion_limits_more(&b, &l, &now, 100, &hold, &v), 6);
    axion_limits_settle(&b, &l, &now, 2, 0, 15, &hold);
    assert_int_equal(b.active, 0);
    assert_int_equal(b.windows[AXION_WINDOW_DAY].tokens, 62);
}


static void
test_cost(void **state)
{
    struct axion_limits l = limits_of("cost_budget 0.001/d", NULL);
    struct axion_price price = {.prompt = 1000, .cached = 100,
                                .completion = 4000};
    struct axion_balance b = {0};
    struct axion_limit_time now = {SECOND, START};
    struct axion_hold hold;
    struct axion_verdict v;

    (void)state;
    axion_limits_admit(&b, &l, &price, &now, 100000, 0, &hold, &v);
    assert_int_equal(hold.granted, 250); /* each might be of the answer */
    axion_limits_know(&b, &l, &now, 200, &hold);
    assert_int_equal(axion_limits_more(&b, &l, &now, 1000, &hold, &v), 150);
    assert_int_equal(axion_limits_more(&b, &l, &now, 1, &hold, &v), 0);
    assert_int_equal(v.kind, AXION_LIMIT_COST_DAY);
    assert_int_equal(axion_limits_settle(&b, &l, &now, 200, 150, 100, &hold),
                     50 * 1000 + 150 * 100 + 100 * 4000);
    assert_int_equal(b.windows[AXION_WINDOW_DAY].cost, 465000);
    assert_int_equal(b.cost, 465000);
}


/* Another model stands in: as if it had been asked for from the start. */
static void
test_repriced(void **state)
{
    const struct axion_price cheap = {10, 1, 20}, dear = {100, 10, 400},
                             beyond = {1000000000, 1, 1000000000};
    struct axion_limits l = limits_of("cost_budget 0.00001/d", "tokens 100/d");
    struct axion_balance b = {0}, before;
    struct axion_limit_time now = {SECOND, START};
    struct axion_hold hold, held;
    struct axion_verdict v;

    (void)state;
    axion_limits_admit(&b, &l, &cheap, &now, 50, 0, &hold, &v);
    assert_int_equal(hold.granted, 50);
    assert_int_equal(hold.cost, 50 * 20);

    axion_limits_reprice(&b, &l, &dear, &now, &hold, &v);
    assert_int_equal(v.kind, AXION_LIMIT_NONE);
    assert_int_equal(hold.granted, 25); /* of 10000 at 400 */
    assert_int_equal(b.windows[AXION_WINDOW_DAY].cost, 10000);
    assert_int_equal(hold.reserved[AXION_RATE_TOKENS], 25);
    assert_int_equal(b.requests, 1);

    before = b;
    held = hold;
    axion_limits_reprice(&b, &l, &beyond, &now, &hold, &v);
    assert_int_equal(v.kind, AXION_LIMIT_COST_DAY);
    assert_memory_equal(&b, &before, sizeof(b));
    assert_memory_equal(&hold, &held, sizeof(hold));

    assert_int_equal(axion_limits_settle(&b, &l, &now, 7, 2, 3, &hold),
                     5 * 100 + 2 * 10 + 3 * 400);
    assert_int_equal(b.windows[AXION_WINDOW_DAY].cost, b.cost);
    assert_int_equal(b.active, 0);
}



static void
test_concurrency(void **state)
{
    struct axion_limits l = limits_of("concurrency 2", NULL);
    struct axion_balance b = {0};
    struct axion_limit_time now = {SECOND, START};
    struct axion_hold hold[3];
    struct axion_verdict v;

    (void)state;
    axion_limits_admit(&b, &l, &no_price, &now, 10, 0, &hold[0], &v);
    axion_limits_admit(&b, &l, &no_price, &now, 10, 0, &hold[1], &v);
    assert_int_equal(hold[1].granted, AXION_NEVER);
    axion_limits_admit(&b, &l, &no_price, &now, 10, 0, &hold[2], &v);
    assert_int_equal(v.kind, AXION_LIMIT_CONCURRENCY);
    axion_limits_settle(&b, &l, &now, 5, 0, 7, &hold[0]);
    axion_limits_admit(&b, &l, &no_price, &now, 10, 0, &hold[2], &v);
    assert_int_equal(v.kind, AXION_LIMIT_NONE);
    assert_int_equal(b.windows[AXION_WINDOW_DAY].tokens, 12);
}


/* A dry run lets everything in, says what it would not have, and counts. */
static void
test_forced(void **state)
{
    struct axion_limits l = limits_of("tokens 10/d", NULL);
    struct axion_balance b = {0};
    struct axion_limit_time now = {SECOND, START};
    struct axion_hold hold;
    struct axion_verdict v;

    (void)state;
    axion_limits_admit(&b, &l, &no_price, &now, 10, 1, &hold, &v);
    assert_int_equal(v.kind, AXION_LIMIT_NONE);
    assert_int_equal(hold.granted, AXION_NEVER);
    axion_limits_settle(&b, &l, &now, 10, 0, 20, &hold);
    axion_limits_admit(&b, &l, &no_price, &now, 10, 1, &hold, &v);
    assert_int_equal(v.kind, AXION_LIMIT_TOKENS);
    assert_int_equal(b.active, 1);
}


/* ---- random traffic ---- */

#define HOLDS 12

struct flight {
    int open;
    struct axion_hold hold;
    uint32_t prompt; /* what the engine will count */
    uint32_t cached;
    uint32_t answered;
};


static uint64_t
below(uint64_t n)
{
    return (uint64_t)(((unsigned)rand() << 16) ^ (unsigned)rand()) % n;
}


static void
assert_within(const struct axion_balance *b, const struct axion_limits *l)
{
    unsigned k;

    for (k = 0; k < AXION_RATES; k++)
        assert_true(l->rates[k].count == 0 ||
                    b->buckets[k].level <= l->rates[k].burst * 1000000);
    for (k = 0; k < AXION_WINDOWS; k++) {
        assert_true(b->windows[k].tokens <= l->budget[k]);
        assert_true(b->windows[k].cost <= l->cost_budget[k]);
    }
}


/* One thing that can happen to a request. */
static uint64_t
happen(struct flight *f, struct axion_balance *b,
       const struct axion_limits *l, const struct axion_price *price,
       const struct axion_limit_time *now)
{
    struct axion_verdict v;
    uint64_t tokens;

    if (!f->open) {
        axion_limits_admit(b, l, price, now, 2 + below(300), 0, &f->hold, &v);
        f->open = v.kind == AXION_LIMIT_NONE;
        f->prompt = 1 + (uint32_t)below(200);
        f->cached = (uint32_t)below(f->prompt + 1);
        f->answered = 0;
        return 0;
    }
    if (f->hold.prompt_tokens == 0) {
        if (f->prompt < f->hold.granted)
            axion_limits_know(b, l, now, f->prompt, &f->hold);
        else
            axion_limits_grow(b, l, now, f->prompt, below(300), &f->hold, &v);
        if (f->hold.prompt_tokens != 0)
            return 0;
        f->open = 0; /* refused: nothing is charged */
        axion_limits_settle(b, l, now, 0, 0, 0, &f->hold);
        return 0;
    }
    if (below(4) != 0) {
        tokens = f->hold.granted - f->prompt - f->answered;
        f->answered += (uint32_t)below(tokens + 1);
        (void)axion_limits_more(b, l, now, below(100), &f->hold, &v);
        return 0;
    }
    f->open = 0;
    axion_limits_settle(b, l, now, f->prompt, f->cached, f->answered,
                        &f->hold);
    return (uint64_t)f->prompt + f->answered;
}


static void
test_random_traffic(void **state)
{
    static const struct axion_price price = {1500, 300, 6000};
    struct axion_limits l = limits_of("tokens 5k/s burst=20k",
                                      "budget 100k/d 300k/mo");
    int round, i;

    (void)state;
    assert_int_equal(set(&l, "prompt_tokens 3k/s burst=2k", (char[128]){0}), 0);
    assert_int_equal(set(&l, "completion_tokens 4k/s", (char[128]){0}), 0);
    assert_int_equal(set(&l, "cost_budget 0.5/d 1/mo", (char[128]){0}), 0);
    for (round = 0; round < 30; round++) {
        struct axion_balance b = {0};
        struct flight flights[HOLDS] = {0};
        struct axion_limit_time now = {SECOND, START};
        uint64_t charged = 0;

        srand((unsigned)round);
        for (i = 0; i < 3000; i++) {
            now.ns += below(SECOND / 50);
            charged += happen(&flights[below(HOLDS)], &b, &l, &price, &now);
            assert_within(&b, &l);
        }
        for (i = 0; i < HOLDS; i++) {
            while (flights[i].open)
                charged += happen(&flights[i], &b, &l, &price, &now);
        }
        assert_int_equal(b.active, 0);
        assert_int_equal(b.windows[AXION_WINDOW_DAY].tokens, charged);
        assert_int_equal(b.windows[AXION_WINDOW_MONTH].tokens, charged);
        assert_int_equal(b.prompt_tokens + b.completion_tokens, charged);
        assert_int_equal(b.windows[AXION_WINDOW_DAY].cost, b.cost);
        assert_int_equal(b.cost,
                         (b.prompt_tokens - b.cached_tokens) * price.prompt +
                             b.cached_tokens * price.cached +
                             b.completion_tokens * price.completion);
        assert_true(charged > 0);
    }
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_words_refused),
        cmocka_unit_test(test_prices),
        cmocka_unit_test(test_requests_refill),
        cmocka_unit_test(test_drain_is_even),
        cmocka_unit_test(test_odd_clocks),
        cmocka_unit_test(test_months),
        cmocka_unit_test(test_budget_ends_with_the_day),
        cmocka_unit_test(test_lease_bounds_every_account),
        cmocka_unit_test(test_cost),
        cmocka_unit_test(test_repriced),
        cmocka_unit_test(test_concurrency),
        cmocka_unit_test(test_forced),
        cmocka_unit_test(test_random_traffic),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
