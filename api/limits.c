/*
 * Buckets, windows and holds.  Everything works on copies that the caller
 * owns; a call that says no has changed nothing but drained and rolled what
 * time drains and rolls anyway.
 *
 * Exactness.  Sums are integers and saturate nowhere in practice (bounds are
 * in limits_parse.c); a bucket that drains moves `at_ns` on by the time that
 * the drained millionths took, rounded up, so that many short intervals
 * drain no more than a long one.  What comes back to a bucket never makes
 * it emptier than empty: what drained meanwhile was given back by time.
 */
#include "api/limits_private.h"

#include <string.h>
#include "api/shares.h"

#define DAY_SECONDS 86400ull
#define NS_PER_S    1000000000ull

typedef unsigned __int128 wide;


static uint64_t
min64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}


/* ---- buckets ---- */

void
limits_drain(struct axion_bucket *b, const struct axion_rate *rate,
             uint64_t now_ns)
{
    uint64_t elapsed = now_ns - b->at_ns, gone;
    wide drained;

    if (now_ns <= b->at_ns || rate->count == 0)
        return;
    if (b->level == 0) {
        b->at_ns = now_ns;
        return;
    }
    drained = (wide)elapsed * rate->count * MILLION / rate->period_ns;
    if (drained >= b->level) {
        b->level = 0;
        b->at_ns = now_ns;
        return;
    }
    gone = (uint64_t)((drained * rate->period_ns + (wide)rate->count * MILLION -
                       1) /
                      ((wide)rate->count * MILLION));
    b->level -= (uint64_t)drained;
    b->at_ns += gone;
}


uint64_t
limits_bucket_left(const struct axion_bucket *b, const struct axion_rate *rate)
{
    uint64_t room = rate->burst * MILLION;

    return b->level >= room ? 0 : (room - b->level) / MILLION;
}


/* Until `n` fit. */
uint64_t
limits_bucket_wait_ns(const struct axion_bucket *b,
                      const struct axion_rate *rate, uint64_t n)
{
    uint64_t room;
    wide over;

    if (n > rate->burst)
        return AXION_NEVER;
    room = (rate->burst - n) * MILLION;
    if (b->level <= room)
        return 0;
    over = (wide)(b->level - room) * rate->period_ns;
    return (uint64_t)((over + (wide)rate->count * MILLION - 1) /
                      ((wide)rate->count * MILLION));
}


void
limits_bucket_take(struct axion_bucket *b, uint64_t n)
{
    n = min64(n, AXION_LIMIT_MAX) * MILLION;
    b->level = b->level > AXION_NEVER - n ? AXION_NEVER : b->level + n;
}


static void
bucket_give(struct axion_bucket *b, uint64_t n)
{
    b->level -= min64(b->level, min64(n, AXION_LIMIT_MAX) * MILLION);
}


/* ---- windows ---- */

/* Days since 1970 to year and month, after Howard Hinnant's civil_from_days
 * (chrono-Compatible Low-Level Date Algorithms). */
uint64_t
axion_month_of(uint64_t wall_s)
{
    uint64_t z = wall_s / DAY_SECONDS + 719468, era = z / 146097;
    uint64_t doe = z - era * 146097;
    uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    uint64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    uint64_t mp = (5 * doy + 2) / 153;
    uint64_t month = mp < 10 ? mp + 3 : mp - 9;
    uint64_t year = yoe + era * 400 + (month <= 2);

    return (year - 1970) * 12 + month - 1;
}


uint64_t
axion_month_start(uint64_t month)
{
    uint64_t m = month % 12 + 1, y = 1970 + month / 12 - (m <= 2);
    uint64_t era = y / 400, yoe = y - era * 400;
    uint64_t doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5;
    uint64_t doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;

    return (era * 146097 + doe - 719468) * DAY_SECONDS;
}


static uint64_t
window_of(unsigned kind, uint64_t wall_s)
{
    return kind == AXION_WINDOW_DAY ? wall_s / DAY_SECONDS
                                    : axion_month_of(wall_s);
}


uint64_t
limits_window_wait_ns(unsigned kind, uint64_t id, uint64_t wall_s)
{
    uint64_t end = kind == AXION_WINDOW_DAY ? (id + 1) * DAY_SECONDS
                                            : axion_month_start(id + 1);

    return end > wall_s ? (end - wall_s) * NS_PER_S : NS_PER_S;
}


static int
is_shared(const struct axion_balance *b)
{
    return b->shares.permille != 0;
}


/* What was granted of the old window is worth nothing in the new one. */
static void
new_window(struct axion_share *share)
{
    *share = (struct axion_share){.granted = share->granted};
}


void
limits_advance(struct axion_balance *b, const struct axion_limits *limits,
               const struct axion_limit_time *now)
{
    unsigned k;

    for (k = 0; k < AXION_RATES && !is_shared(b); k++)
        limits_drain(&b->buckets[k], &limits->rates[k], now->ns);
    for (k = 0; k < AXION_WINDOWS; k++) {
        uint64_t id = window_of(k, now->wall_s);

        if (id <= b->windows[k].id)
            continue;
        b->windows[k] = (struct axion_window){.id = id};
        new_window(&b->shares.of[AXION_RATES + k]);
        new_window(&b->shares.of[AXION_RATES + AXION_WINDOWS + k]);
    }
}


/* ---- how much ---- */

static uint64_t
left_of(uint64_t limit, uint64_t used)
{
    return limit > used ? limit - used : 0;
}


static void
no(struct axion_verdict *v, enum axion_limit_kind kind, uint64_t limit,
   uint64_t left, uint64_t wait_ns)
{
    if (v->kind != AXION_LIMIT_NONE && v->wait_ns >= wait_ns)
        return; /* the limit that lasts longest is the one to name */
    *v = (struct axion_verdict){
        .kind = kind, .wait_ns = wait_ns, .limit = limit, .left = left};
}


/* `n` of an account that nodes share: beyond this node's part of it the store
 * decides, unless it has just said that there is no more.  A limit that says
 * no by itself is the one to name. */
static void
check_share(const struct axion_balance *b, const struct axion_limits *limits,
            const struct axion_limit_time *now, unsigned account, uint64_t n,
            struct axion_verdict *v)
{
    struct axion_limit_view view;
    enum axion_limit_kind kind = axion_share_kind(account);
    uint64_t wait;

    if (n <= axion_share_left(b, account))
        return;
    axion_share_view(b, limits, now, account, &view);
    wait = axion_share_wait_ns(b, limits, now, account, n);
    if (wait == 0 && v->kind == AXION_LIMIT_NONE) {
        no(v, kind, view.limit, view.left, 0);
        v->lack = 1;
    } else if (wait != 0) {
        no(v, kind, view.limit, view.left, wait);
    }
}


/* What a grant needs: tokens of the prompt and of the answer that it adds,
 * and what they cost. */
struct need {
    uint64_t prompt;
    uint64_t completion;
    uint64_t tokens;
    uint64_t cost;
};


static void
check_rate(const struct axion_balance *b, const struct axion_limits *limits,
           const struct axion_limit_time *now, unsigned k, uint64_t n,
           struct axion_verdict *v)
{
    const struct axion_rate *rate = &limits->rates[k];
    uint64_t wait;

    if (rate->count == 0 || n == 0)
        return;
    if (is_shared(b)) {
        check_share(b, limits, now, k, n, v);
        return;
    }
    wait = limits_bucket_wait_ns(&b->buckets[k], rate, n);
    if (wait > 0)
        no(v, AXION_LIMIT_REQUESTS + k, rate->burst,
           limits_bucket_left(&b->buckets[k], rate), wait);
}


static void
check_windows(const struct axion_balance *b, const struct axion_limits *limits,
              const struct axion_limit_time *now, const struct need *need,
              struct axion_verdict *v)
{
    unsigned k;

    for (k = 0; k < AXION_WINDOWS; k++) {
        const struct axion_window *w = &b->windows[k];
        uint64_t tokens = limits->budget[k], cost = limits->cost_budget[k];
        uint64_t wait = limits_window_wait_ns(k, w->id, now->wall_s);

        if (is_shared(b)) {
            if (tokens != 0)
                check_share(b, limits, now, AXION_RATES + k, need->tokens, v);
            if (cost != 0)
                check_share(b, limits, now, AXION_RATES + AXION_WINDOWS + k,
                            need->cost > 0 ? need->cost : 1, v);
            continue;
        }
        if (tokens != 0 && need->tokens > left_of(tokens, w->tokens))
            no(v, AXION_LIMIT_BUDGET_DAY + k, tokens,
               left_of(tokens, w->tokens),
               need->tokens > tokens ? AXION_NEVER : wait);
        if (cost != 0 &&
            (need->cost > left_of(cost, w->cost) || w->cost >= cost))
            no(v, AXION_LIMIT_COST_DAY + k, cost, left_of(cost, w->cost),
               need->cost > cost ? AXION_NEVER : wait);
    }
}


static void
check(const struct axion_balance *b, const struct axion_limits *limits,
      const struct axion_limit_time *now, const struct need *need,
      struct axion_verdict *v)
{
    check_rate(b, limits, now, AXION_RATE_TOKENS, need->tokens, v);
    check_rate(b, limits, now, AXION_RATE_PROMPT, need->prompt, v);
    check_rate(b, limits, now, AXION_RATE_COMPLETION, need->completion, v);
    check_windows(b, limits, now, need, v);
}


static uint64_t
rate_left(const struct axion_balance *b, const struct axion_limits *limits,
          unsigned k)
{
    return is_shared(b) ? axion_share_left(b, k)
                        : limits_bucket_left(&b->buckets[k], &limits->rates[k]);
}


/* The most that may be granted at once, `each` being the worst price of a
 * token and `spare` what the prompt and the answer may each have beyond their
 * own rates. */
static uint64_t
room(const struct axion_balance *b, const struct axion_limits *limits,
     uint64_t each, uint64_t spare, int with_prompt)
{
    uint64_t n = AXION_NEVER;
    unsigned k;

    for (k = AXION_RATE_TOKENS; k < AXION_RATES; k++) {
        if (limits->rates[k].count == 0 ||
            (k == AXION_RATE_PROMPT && !with_prompt))
            continue;
        n = min64(n, rate_left(b, limits, k) +
                         (k == AXION_RATE_TOKENS ? 0 : spare));
    }
    for (k = 0; k < AXION_WINDOWS; k++) {
        const struct axion_window *w = &b->windows[k];

        if (limits->budget[k] != 0)
            n = min64(n, is_shared(b) ? axion_share_left(b, AXION_RATES + k)
                                      : left_of(limits->budget[k], w->tokens));
        if (limits->cost_budget[k] != 0 && each != 0)
            n = min64(
                n, (is_shared(b)
                        ? axion_share_left(b, AXION_RATES + AXION_WINDOWS + k)
                        : left_of(limits->cost_budget[k], w->cost)) /
                       each);
    }
    return n;
}


/* ---- holds ---- */

static void
hold_window(struct axion_hold *hold, unsigned k, uint64_t id)
{
    if (hold->windows[k].id != id)
        hold->windows[k] = (struct axion_window){.id = id};
}


static void
reserve(struct axion_balance *b, struct axion_hold *hold,
        const struct need *need)
{
    const uint64_t n[AXION_RATES] = {0, need->tokens, need->prompt,
                                     need->completion};
    unsigned k;

    for (k = AXION_RATE_TOKENS; k < AXION_RATES; k++) {
        hold->reserved[k] += n[k];
        if (hold->rates & (1u << k))
            limits_bucket_take(&b->buckets[k], n[k]);
    }
    hold->cost += need->cost;
    for (k = 0; k < AXION_WINDOWS; k++) {
        struct axion_window *w = &b->windows[k];

        hold_window(hold, k, w->id);
        w->tokens += need->tokens;
        w->cost += need->cost;
        hold->windows[k].tokens += need->tokens;
        hold->windows[k].cost += need->cost;
    }
}


static void
release_window(struct axion_window *w, struct axion_window *held,
               uint64_t tokens, uint64_t cost)
{
    if (held->id != w->id)
        return; /* what it was taken from is over */
    tokens = min64(tokens, held->tokens);
    cost = min64(cost, held->cost);
    held->tokens -= tokens;
    held->cost -= cost;
    w->tokens -= min64(w->tokens, tokens);
    w->cost -= min64(w->cost, cost);
}


static void
release(struct axion_balance *b, struct axion_hold *hold,
        const struct need *need)
{
    const uint64_t n[AXION_RATES] = {0, need->tokens, need->prompt,
                                     need->completion};
    unsigned k;

    for (k = AXION_RATE_TOKENS; k < AXION_RATES; k++) {
        hold->reserved[k] -= n[k];
        if (hold->rates & (1u << k))
            bucket_give(&b->buckets[k], n[k]);
    }
    hold->cost -= need->cost;
    for (k = 0; k < AXION_WINDOWS; k++)
        release_window(&b->windows[k], &hold->windows[k], need->tokens,
                       need->cost);
}


/* Makes the hold exactly that large, whichever way. */
static void
adjust(struct axion_balance *b, struct axion_hold *hold, const struct need *to)
{
    struct need more = {0}, less = {0};

#define SPLIT(field, now)                                                      \
    do {                                                                       \
        if (to->field > (now))                                                 \
            more.field = to->field - (now);                                    \
        else                                                                   \
            less.field = (now)-to->field;                                      \
    } while (0)
    SPLIT(tokens, hold->reserved[AXION_RATE_TOKENS]);
    SPLIT(prompt, hold->reserved[AXION_RATE_PROMPT]);
    SPLIT(completion, hold->reserved[AXION_RATE_COMPLETION]);
    SPLIT(cost, hold->cost);
#undef SPLIT
    release(b, hold, &less);
    reserve(b, hold, &more);
}


static uint64_t
worst_price(const struct axion_price *price)
{
    return price->prompt > price->completion ? price->prompt
                                             : price->completion;
}


static struct need
need_exact(const struct axion_price *price, uint64_t prompt,
           uint64_t completion)
{
    return (struct need){
        .prompt = prompt,
        .completion = completion,
        .tokens = prompt + completion,
        .cost = prompt * price->prompt + completion * price->completion,
    };
}


static struct need
need_unknown(const struct axion_price *price, uint64_t lease)
{
    return (struct need){
        .prompt = lease - 1,
        .completion = lease - 1,
        .tokens = lease,
        .cost = lease * worst_price(price),
    };
}


/* The lease of a prompt that nobody has counted; at least two tokens, which
 * fit at their own prices: the caller has checked that. */
static uint64_t
reserve_unknown(struct axion_balance *b, const struct axion_limits *limits,
                uint64_t wanted, struct axion_hold *hold)
{
    const struct axion_price *price = &hold->price;
    uint64_t lease = min64(min64(wanted, AXION_GRANT_MAX),
                           room(b, limits, worst_price(price), 1, 1));
    struct need need;

    if (lease < 2)
        lease = 2;
    need = lease == 2 ? need_exact(price, 1, 1) : need_unknown(price, lease);
    reserve(b, hold, &need);
    return lease;
}


void
axion_limits_admit(struct axion_balance *b, const struct axion_limits *limits,
                   const struct axion_price *price,
                   const struct axion_limit_time *now, uint64_t wanted,
                   int force, struct axion_hold *hold,
                   struct axion_verdict *verdict)
{
    /* A prompt of one token and one of the answer is the least of all. */
    struct need least = need_exact(price, 1, 1);
    uint64_t lease = AXION_NEVER;
    unsigned k;

    memset(hold, 0, sizeof(*hold));
    memset(verdict, 0, sizeof(*verdict));
    hold->price = *price;
    limits_advance(b, limits, now);
    check_rate(b, limits, now, AXION_RATE_REQUESTS, 1, verdict);
    check(b, limits, now, &least, verdict);
    if (limits->concurrency != 0 && b->active >= limits->concurrency)
        no(verdict, AXION_LIMIT_CONCURRENCY, limits->concurrency, 0, 0);
    if (verdict->kind != AXION_LIMIT_NONE && !force)
        return;
    b->active++;
    b->requests++;
    for (k = 0; k < AXION_RATES; k++) {
        if (limits->rates[k].count != 0)
            hold->rates |= 1u << k;
    }
    if (hold->rates & (1u << AXION_RATE_REQUESTS))
        limits_bucket_take(&b->buckets[AXION_RATE_REQUESTS], 1);
    if (axion_limits_by_lease(limits) && !force)
        lease = reserve_unknown(b, limits, wanted, hold);
    hold->granted = lease;
}


/* Takes back what the hold has if `least` has its place then; or says why not,
 * and the hold stays as it was. */
static int
empty_hold(struct axion_balance *b, const struct axion_limits *limits,
           const struct axion_limit_time *now, const struct need *least,
           struct axion_hold *hold, struct axion_verdict *verdict)
{
    static const struct need nothing;
    struct axion_balance before;
    struct axion_hold held = *hold;

    memset(verdict, 0, sizeof(*verdict));
    limits_advance(b, limits, now);
    before = *b;
    adjust(b, hold, &nothing);
    check(b, limits, now, least, verdict);
    if (verdict->kind == AXION_LIMIT_NONE)
        return 1;
    *b = before;
    *hold = held;
    return 0;
}


void
axion_limits_reprice(struct axion_balance *b, const struct axion_limits *limits,
                     const struct axion_price *price,
                     const struct axion_limit_time *now,
                     struct axion_hold *hold, struct axion_verdict *verdict)
{
    struct need least = need_exact(price, 1, 1);

    if (hold->granted == AXION_NEVER) {
        memset(verdict, 0, sizeof(*verdict));
        hold->price = *price;
        return;
    }
    if (!empty_hold(b, limits, now, &least, hold, verdict))
        return;
    hold->price = *price;
    hold->prompt_tokens = 0;
    hold->granted = reserve_unknown(b, limits, hold->granted, hold);
}


void
axion_limits_grow(struct axion_balance *b, const struct axion_limits *limits,
                  const struct axion_limit_time *now, uint32_t prompt_tokens,
                  uint64_t completion, struct axion_hold *hold,
                  struct axion_verdict *verdict)
{
    struct need least = need_exact(&hold->price, prompt_tokens, 1);

    if (!empty_hold(b, limits, now, &least, hold, verdict))
        return;
    reserve(b, hold, &least);
    hold->prompt_tokens = prompt_tokens;
    hold->granted = (uint64_t)prompt_tokens + 1;
    if (completion > 1)
        (void)axion_limits_more(b, limits, now, completion - 1, hold, verdict);
    memset(verdict, 0, sizeof(*verdict));
}


void
axion_limits_know(struct axion_balance *b, const struct axion_limits *limits,
                  const struct axion_limit_time *now, uint32_t prompt_tokens,
                  struct axion_hold *hold)
{
    struct need need;

    if (hold->granted == AXION_NEVER || hold->prompt_tokens != 0 ||
        prompt_tokens == 0 || prompt_tokens > hold->granted)
        return;
    limits_advance(b, limits, now);
    hold->prompt_tokens = prompt_tokens;
    need =
        need_exact(&hold->price, prompt_tokens, hold->granted - prompt_tokens);
    adjust(b, hold, &need);
}


uint64_t
axion_limits_more(struct axion_balance *b, const struct axion_limits *limits,
                  const struct axion_limit_time *now, uint64_t wanted,
                  struct axion_hold *hold, struct axion_verdict *verdict)
{
    struct need need = need_exact(&hold->price, 0, 1);
    uint64_t n;

    memset(verdict, 0, sizeof(*verdict));
    if (hold->granted == AXION_NEVER || wanted == 0)
        return 0;
    limits_advance(b, limits, now);
    check(b, limits, now, &need, verdict);
    if (verdict->kind != AXION_LIMIT_NONE)
        return 0;
    n = room(b, limits, hold->price.completion, 0, 0);
    n = min64(min64(n, wanted), AXION_GRANT_MAX);
    need = need_exact(&hold->price, 0, n);
    reserve(b, hold, &need);
    hold->granted += n;
    return n;
}


uint64_t
axion_limits_settle(struct axion_balance *b, const struct axion_limits *limits,
                    const struct axion_limit_time *now, uint32_t prompt_tokens,
                    uint32_t cached_tokens, uint32_t completion_tokens,
                    struct axion_hold *hold)
{
    struct need need =
        need_exact(&hold->price, prompt_tokens, completion_tokens);

    if (cached_tokens > prompt_tokens)
        cached_tokens = prompt_tokens;
    need.cost -= cached_tokens * (hold->price.prompt - hold->price.cached);
    limits_advance(b, limits, now);
    adjust(b, hold, &need);
    b->prompt_tokens += prompt_tokens;
    b->cached_tokens += cached_tokens;
    b->completion_tokens += completion_tokens;
    b->cost += need.cost;
    if (b->active > 0)
        b->active--;
    memset(hold, 0, sizeof(*hold));
    return need.cost;
}


/* ---- looking ---- */

static void
view_bucket(const struct axion_bucket *bucket, const struct axion_rate *rate,
            struct axion_limit_view *view)
{
    view->limit = rate->burst;
    view->left = limits_bucket_left(bucket, rate);
    view->reset_ms =
        (limits_bucket_wait_ns(bucket, rate, rate->burst) + MILLION - 1) /
        MILLION;
}


static void
view_kind(const struct axion_balance *b, const struct axion_limits *limits,
          const struct axion_limit_time *now, enum axion_limit_kind kind,
          struct axion_limit_view *view)
{
    unsigned k = 0;
    uint64_t limit = 0, used = 0;

    memset(view, 0, sizeof(*view));
    if (kind == AXION_LIMIT_CONCURRENCY) {
        view->limit = limits->concurrency;
        view->left = left_of(limits->concurrency, b->active);
        return;
    }
    if (is_shared(b)) {
        for (k = 0; k < AXION_ACCOUNTS; k++) {
            if (axion_share_kind(k) == kind)
                axion_share_view(b, limits, now, k, view);
        }
        return;
    }
    if (kind >= AXION_LIMIT_REQUESTS && kind <= AXION_LIMIT_COMPLETION) {
        k = kind - AXION_LIMIT_REQUESTS;
        if (limits->rates[k].count != 0)
            view_bucket(&b->buckets[k], &limits->rates[k], view);
        return;
    }
    if (kind == AXION_LIMIT_BUDGET_DAY || kind == AXION_LIMIT_BUDGET_MONTH) {
        k = kind - AXION_LIMIT_BUDGET_DAY;
        limit = limits->budget[k];
        used = b->windows[k].tokens;
    } else if (kind == AXION_LIMIT_COST_DAY || kind == AXION_LIMIT_COST_MONTH) {
        k = kind - AXION_LIMIT_COST_DAY;
        limit = limits->cost_budget[k];
        used = b->windows[k].cost;
    }
    if (limit == 0)
        return;
    view->limit = limit;
    view->left = left_of(limit, used);
    view->reset_ms =
        limits_window_wait_ns(k, b->windows[k].id, now->wall_s) / MILLION;
}


void
axion_limits_look(const struct axion_balance *balance,
                  const struct axion_limits *limits,
                  const struct axion_limit_time *now,
                  enum axion_limit_kind kind, struct axion_limit_view *view)
{
    struct axion_balance b = *balance;

    limits_advance(&b, limits, now);
    view_kind(&b, limits, now, kind, view);
}


void
axion_limits_view(const struct axion_balance *balance,
                  const struct axion_limits *limits,
                  const struct axion_limit_time *now,
                  struct axion_limit_view *requests,
                  struct axion_limit_view *tokens)
{
    static const enum axion_limit_kind kinds[] = {
        AXION_LIMIT_TOKENS,       AXION_LIMIT_PROMPT,
        AXION_LIMIT_COMPLETION,   AXION_LIMIT_BUDGET_DAY,
        AXION_LIMIT_BUDGET_MONTH,
    };
    struct axion_balance b = *balance;
    struct axion_limit_view view;
    size_t i;

    limits_advance(&b, limits, now);
    view_kind(&b, limits, now, AXION_LIMIT_REQUESTS, requests);
    memset(tokens, 0, sizeof(*tokens));
    for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        view_kind(&b, limits, now, kinds[i], &view);
        if (view.limit != 0 && (tokens->limit == 0 || view.left < tokens->left))
            *tokens = view;
    }
}


void
axion_balance_rebase(struct axion_balance *balance)
{
    struct axion_shares *shares = &balance->shares;
    unsigned k;

    memset(balance->buckets, 0, sizeof(balance->buckets));
    shares->until_ns = shares->low_ns = 0;
    for (k = 0; k < AXION_ACCOUNTS; k++) {
        shares->of[k].empty_ns = 0;
        if (k < AXION_RATES)
            new_window(&shares->of[k]);
    }
}


int
axion_limits_by_lease(const struct axion_limits *limits)
{
    unsigned k;

    for (k = AXION_RATE_TOKENS; k < AXION_RATES; k++) {
        if (limits->rates[k].count != 0)
            return 1;
    }
    for (k = 0; k < AXION_WINDOWS; k++) {
        if (limits->budget[k] != 0 || limits->cost_budget[k] != 0)
            return 1;
    }
    return 0;
}


int
axion_limits_may_wait(const struct axion_limits *limits,
                      const struct axion_verdict *verdict)
{
    return limits->wait_ms != 0 &&
           verdict->wait_ns <= limits->wait_ms * MILLION;
}


const char *
axion_limit_name(enum axion_limit_kind kind)
{
    static const char *const names[AXION_LIMITS] = {
        "none",          "requests",          "tokens",
        "prompt_tokens", "completion_tokens", "concurrency",
        "budget_day",    "budget_month",      "cost_day",
        "cost_month",
    };

    return (unsigned)kind < AXION_LIMITS ? names[kind] : names[0];
}
