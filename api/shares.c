/*
 * Questions, answers and what a share is worth.  shares.h has the reasons.
 *
 * Of a rate, `allowed` and the bucket's level both count up; what is left is
 * the difference.  Before they grow out of bounds the level, which is what
 * was spent long ago, is taken off both.
 */
#include "api/shares.h"

#include <string.h>
#include "api/limits_private.h"

#define SECOND_NS   1000000000ull
#define DAY_SECONDS 86400ull

#define EMPTY_NS     SECOND_NS       /* a budget that is spent */
#define EMPTY_MIN_NS (5 * MILLION)   /* a rate that is */
#define LOW_NS       (100 * MILLION) /* where leases are short */

#define STORE_MAX  (1ull << 52) /* Lua's numbers are exact up to here */
#define SPENT_MAX  (1ull << 40) /* tokens, before both sides are cut */
#define COST_SCALE 1000ull

#define ALLOWED_MAX (UINT64_MAX / 4) /* whatever a store says */


static uint64_t
min64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}


static uint64_t
max64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}


static uint64_t
above(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}


/* ---- accounts ---- */

static int
is_rate(unsigned account)
{
    return account < AXION_RATES;
}


static int
is_cost(unsigned account)
{
    return account >= AXION_RATES + AXION_WINDOWS;
}


static unsigned
window_of(unsigned account)
{
    return (account - AXION_RATES) % AXION_WINDOWS;
}


/* The store's unit in ours. */
static uint64_t
scale_of(unsigned account)
{
    return is_cost(account) ? COST_SCALE : 1;
}


enum axion_limit_kind
axion_share_kind(unsigned account)
{
    return is_rate(account)   ? AXION_LIMIT_REQUESTS + account
           : is_cost(account) ? AXION_LIMIT_COST_DAY + window_of(account)
                              : AXION_LIMIT_BUDGET_DAY + window_of(account);
}


/* 0: there is none. */
static uint64_t
limit_of(const struct axion_limits *limits, unsigned account)
{
    if (is_rate(account))
        return limits->rates[account].count != 0 ? limits->rates[account].burst
                                                 : 0;
    return is_cost(account) ? limits->cost_budget[window_of(account)]
                            : limits->budget[window_of(account)];
}


static uint64_t
used_of(const struct axion_balance *b, unsigned account)
{
    const struct axion_window *w = &b->windows[window_of(account)];

    if (is_rate(account))
        return (b->buckets[account].level + MILLION - 1) / MILLION;
    return is_cost(account) ? w->cost : w->tokens;
}


static uint64_t
lease_of(const struct axion_balance *b, uint64_t limit)
{
    return max64(limit / 1000 * b->shares.permille +
                     limit % 1000 * b->shares.permille / 1000,
                 1);
}


uint64_t
axion_share_left(const struct axion_balance *b, unsigned account)
{
    return above(b->shares.of[account].allowed, used_of(b, account));
}


/* What the store should have now, judged by its last answer. */
static uint64_t
common_left(const struct axion_balance *b, const struct axion_limits *limits,
            const struct axion_limit_time *now, unsigned account)
{
    struct axion_bucket all = b->shares.of[account].all;

    if (!is_rate(account))
        return above(limit_of(limits, account), all.level);
    limits_drain(&all, &limits->rates[account], now->ns);
    return limits_bucket_left(&all, &limits->rates[account]);
}


static uint64_t
refill_ns(const struct axion_balance *b, const struct axion_limits *limits,
          const struct axion_limit_time *now, unsigned account, uint64_t n)
{
    struct axion_bucket all = b->shares.of[account].all;
    unsigned k = window_of(account);

    if (!is_rate(account))
        return limits_window_wait_ns(k, b->windows[k].id, now->wall_s);
    limits_drain(&all, &limits->rates[account], now->ns);
    return limits_bucket_wait_ns(&all, &limits->rates[account], n);
}


void
axion_share_view(const struct axion_balance *b,
                 const struct axion_limits *limits,
                 const struct axion_limit_time *now, unsigned account,
                 struct axion_limit_view *view)
{
    memset(view, 0, sizeof(*view));
    view->limit = limit_of(limits, account);
    if (view->limit == 0)
        return;
    view->left = min64(common_left(b, limits, now, account) +
                           axion_share_left(b, account),
                       view->limit);
    view->reset_ms =
        (refill_ns(b, limits, now, account, view->limit) + MILLION - 1) /
        MILLION;
}


uint64_t
axion_share_wait_ns(const struct axion_balance *b,
                    const struct axion_limits *limits,
                    const struct axion_limit_time *now, unsigned account,
                    uint64_t n)
{
    const struct axion_share *share = &b->shares.of[account];
    uint64_t wait;

    if (n > limit_of(limits, account))
        return AXION_NEVER;
    if (now->ns >= share->empty_ns)
        return 0;
    wait = refill_ns(b, limits, now, account,
                     above(n, axion_share_left(b, account)));
    return max64(wait, share->empty_ns - now->ns);
}


/* ---- asking ---- */

void
axion_demand_add(struct axion_demand *demand, unsigned requests,
                 uint64_t tokens, const struct axion_price *price)
{
    uint64_t each = max64(price->prompt, price->completion);
    uint64_t cost;
    unsigned k;

    tokens = min64(tokens, AXION_GRANT_MAX);
    cost = max64(tokens * each, 1);
    demand->of[AXION_RATE_REQUESTS] += requests;
    for (k = AXION_RATE_TOKENS; k < AXION_RATES; k++)
        demand->of[k] = min64(demand->of[k] + tokens, AXION_LIMIT_MAX);
    for (k = 0; k < AXION_WINDOWS; k++) {
        uint64_t *n = &demand->of[AXION_RATES + k];

        *n = min64(*n + tokens, AXION_LIMIT_MAX);
        n = &demand->of[AXION_RATES + AXION_WINDOWS + k];
        *n = *n > AXION_COST_MAX - min64(cost, AXION_COST_MAX) ? AXION_COST_MAX
                                                               : *n + cost;
    }
}


void
axion_shares_set(struct axion_balance *b, uint32_t permille)
{
    struct axion_shares *s = &b->shares;
    unsigned k;

    if ((s->permille != 0) != (permille != 0)) {
        /* A level means another thing from here on. */
        memset(b->buckets, 0, sizeof(b->buckets));
        for (k = 0; k < AXION_ACCOUNTS; k++)
            s->of[k] = (struct axion_share){.granted = s->of[k].granted};
        s->until_ns = s->low_ns = 0;
    }
    s->permille = permille;
}


/* What was spent beyond all grants (a dry run, a limit that came later, an
 * outage) is owned up to as granted; in whole units of the store. */
static void
own_up(struct axion_balance *b, unsigned account)
{
    struct axion_share *share = &b->shares.of[account];
    uint64_t scale = scale_of(account);

    if (is_rate(account))
        share->owed += above(used_of(b, account), share->allowed);
    share->allowed = max64(share->allowed, used_of(b, account));
    share->allowed = (share->allowed + scale - 1) / scale * scale;
    if (!is_rate(account))
        share->all.level = max64(share->all.level, share->allowed);
}


static void
ask_rate(struct axion_balance *b, const struct axion_limits *limits,
         const struct axion_limit_time *now, struct axion_ask_account *a)
{
    const struct axion_rate *rate = &limits->rates[a->account];
    struct axion_share *share = &b->shares.of[a->account];

    limits_drain(&share->all, rate, now->ns);
    a->count = rate->count;
    a->period_us = rate->period_ns / 1000;
    a->owed = share->owed;
    a->all = share->all.level / 1000;
}


static void
ask_budget(const struct axion_balance *b, const struct axion_limit_time *now,
           struct axion_ask_account *a)
{
    const struct axion_share *share = &b->shares.of[a->account];
    unsigned k = window_of(a->account);

    a->window = b->windows[k].id;
    a->ttl_s = limits_window_wait_ns(k, a->window, now->wall_s) / SECOND_NS +
               DAY_SECONDS;
    a->known = share->allowed / scale_of(a->account);
    a->all = share->all.level / scale_of(a->account);
}


static void
ask_account(struct axion_balance *b, const struct axion_limits *limits,
            const struct axion_limit_time *now, uint64_t demand, int give,
            struct axion_ask_account *a)
{
    uint64_t scale = scale_of(a->account);
    uint64_t limit = limit_of(limits, a->account);
    uint64_t lease = lease_of(b, limit), left;
    struct axion_share *share = &b->shares.of[a->account];

    a->limit = limit / scale;
    if (give && !is_rate(a->account))
        share->allowed = min64(share->allowed, used_of(b, a->account));
    own_up(b, a->account);
    if (is_rate(a->account))
        ask_rate(b, limits, now, a);
    else
        ask_budget(b, now, a);
    if (give)
        return;
    left = axion_share_left(b, a->account);
    if (left < (lease + 1) / 2 || left < demand)
        a->want = above(max64(lease, demand), left);
    a->need = above(demand, left);
    a->want = (a->want + scale - 1) / scale;
    a->need = (a->need + scale - 1) / scale;
}


/* Unspent leases of budgets; the store's unit is what can be given. */
static int
may_give(const struct axion_balance *b, const struct axion_limits *limits)
{
    unsigned k;

    for (k = AXION_RATES; k < AXION_ACCOUNTS && b->active == 0; k++) {
        if (limit_of(limits, k) != 0 && axion_share_left(b, k) >= scale_of(k))
            return 1;
    }
    return 0;
}


int
axion_shares_spare(const struct axion_balance *balance,
                   const struct axion_limits *limits,
                   const struct axion_limit_time *now)
{
    struct axion_balance b = *balance;

    limits_advance(&b, limits, now);
    return b.shares.permille != 0 && may_give(&b, limits);
}


int
axion_shares_ask(struct axion_balance *b, const struct axion_limits *limits,
                 const struct axion_limit_time *now,
                 const struct axion_demand *demand, uint64_t patience_ns,
                 int give, struct axion_ask *ask)
{
    struct axion_shares *s = &b->shares;
    unsigned k;

    memset(ask, 0, sizeof(*ask));
    limits_advance(b, limits, now);
    if (s->permille == 0 || now->ns < s->until_ns ||
        (give && !may_give(b, limits)))
        return 0;
    for (k = 0; k < AXION_ACCOUNTS; k++) {
        if (limit_of(limits, k) == 0)
            continue;
        ask->of[ask->n].account = k;
        ask_account(b, limits, now, demand->of[k], give, &ask->of[ask->n++]);
    }
    if (ask->n == 0)
        return 0;
    s->serial = min64(s->serial + 1, STORE_MAX);
    s->until_ns = now->ns + patience_ns;
    ask->serial = s->serial;
    ask->acked = s->acked;
    ask->give = (unsigned)give;
    return 1;
}


void
axion_shares_failed(struct axion_balance *b, const struct axion_ask *ask)
{
    if (b->shares.serial == ask->serial)
        b->shares.until_ns = 0;
}


/* ---- answers ---- */

/* The file is older than the store's memory: what was granted since is not
 * known to be unspent. */
static void
catch_up(struct axion_balance *b, unsigned account,
         const struct axion_answer_account *answer)
{
    struct axion_window *w = &b->windows[window_of(account)];
    struct axion_share *share = &b->shares.of[account];
    uint64_t sum = min64(answer->all, STORE_MAX) * scale_of(account);
    uint64_t *used = is_cost(account) ? &w->cost : &w->tokens;

    b->shares.serial =
        max64(b->shares.serial, min64(answer->granted, STORE_MAX));
    if (is_rate(account))
        return;
    *used = max64(*used, sum);
    share->allowed = max64(share->allowed, sum);
}


static void
take_rate(struct axion_balance *b, const struct axion_limits *limits,
          const struct axion_limit_time *now,
          const struct axion_ask_account *asked,
          const struct axion_answer_account *answer)
{
    const struct axion_rate *rate = &limits->rates[asked->account];
    struct axion_share *share = &b->shares.of[asked->account];
    struct axion_bucket *spent = &b->buckets[asked->account];
    uint64_t whole = min64(spent->level / MILLION, share->allowed), wait;

    if (whole > SPENT_MAX) {
        spent->level -= whole * MILLION;
        share->allowed -= whole;
    }
    share->owed = above(share->owed, asked->owed);
    share->all.level = min64(answer->all, STORE_MAX) * 1000;
    share->all.at_ns = now->ns;
    if (limits_bucket_left(&share->all, rate) > 0)
        return;
    wait = limits_bucket_wait_ns(&share->all, rate, 1);
    share->empty_ns = now->ns + min64(max64(wait, EMPTY_MIN_NS), EMPTY_NS);
}


static void
take_account(struct axion_balance *b, const struct axion_limits *limits,
             const struct axion_limit_time *now,
             const struct axion_ask_account *asked,
             const struct axion_answer_account *answer)
{
    struct axion_share *share = &b->shares.of[asked->account];
    uint64_t granted = min64(answer->granted, asked->limit);
    uint64_t scale = scale_of(asked->account);

    share->allowed = min64(share->allowed + granted * scale, ALLOWED_MAX);
    share->granted += granted * scale;
    share->empty_ns = 0;
    if (granted < asked->want)
        b->shares.low_ns = now->ns + LOW_NS;
    if (is_rate(asked->account)) {
        take_rate(b, limits, now, asked, answer);
        return;
    }
    share->all.level = min64(answer->all, STORE_MAX) * scale;
    if (answer->all >= asked->limit)
        share->empty_ns = now->ns + EMPTY_NS;
}


int
axion_shares_answer(struct axion_balance *b, const struct axion_limits *limits,
                    const struct axion_limit_time *now,
                    const struct axion_ask *ask,
                    const struct axion_answer *answer, int *stale)
{
    struct axion_shares *s = &b->shares;
    unsigned i;

    *stale = 0;
    if (s->serial != ask->serial || s->permille == 0 || answer->n != ask->n)
        return 0;
    limits_advance(b, limits, now);
    s->until_ns = s->low_ns = 0;
    for (i = 0; i < ask->n; i++) {
        const struct axion_ask_account *asked = &ask->of[i];
        unsigned account = asked->account;

        if (!is_rate(account) &&
            b->windows[window_of(account)].id != asked->window)
            continue; /* of a window that is over meanwhile */
        if (answer->of[i].heard) {
            take_account(b, limits, now, asked, &answer->of[i]);
            continue;
        }
        *stale = 1;
        catch_up(b, account, &answer->of[i]);
    }
    s->acked = s->serial;
    return 1;
}


/* ---- alone ---- */

void
axion_shares_alone(struct axion_balance *b, const struct axion_limits *limits,
                   const struct axion_limit_time *now,
                   const struct axion_demand *demand)
{
    unsigned k;

    limits_advance(b, limits, now);
    for (k = 0; k < AXION_ACCOUNTS && b->shares.permille != 0; k++) {
        struct axion_share *share = &b->shares.of[k];
        uint64_t need, n;

        if (limit_of(limits, k) == 0)
            continue;
        own_up(b, k);
        need = above(demand->of[k], axion_share_left(b, k));
        n = min64(need, common_left(b, limits, now, k));
        share->allowed += n;
        share->granted += n;
        if (is_rate(k)) {
            limits_drain(&share->all, &limits->rates[k], now->ns);
            limits_bucket_take(&share->all, n);
            share->owed += n;
        } else {
            share->all.level += n;
        }
        if (n < need)
            share->empty_ns = now->ns + EMPTY_MIN_NS;
    }
}


unsigned
axion_shares_low(const struct axion_balance *b,
                 const struct axion_limits *limits,
                 const struct axion_limit_time *now)
{
    const struct axion_shares *s = &b->shares;
    unsigned k;

    if (s->permille == 0 || now->ns < s->until_ns || now->ns < s->low_ns)
        return 0;
    for (k = 0; k < AXION_ACCOUNTS; k++) {
        uint64_t limit = limit_of(limits, k);

        if (limit != 0 && now->ns >= s->of[k].empty_ns &&
            axion_share_left(b, k) < (lease_of(b, limit) + 1) / 2)
            return 1;
    }
    return 0;
}
