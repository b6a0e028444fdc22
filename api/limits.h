/*
 * The arithmetic of a tenant's limits: what may be spent, what is reserved,
 * what comes back.  Pure functions of a balance, the limits in force and the
 * time; api/balances.h keeps balances in shared memory and calls these under
 * its locks.
 *
 * Four rates (requests, all tokens, prompt tokens, completion tokens) are
 * leaky buckets: `level` is what was spent and has not drained yet, so a
 * balance knows nothing of the limit and a changed limit takes effect at
 * once, on the same consumption.  Budgets are sums over the calendar day and
 * month, UTC, in tokens and in cost units; they are kept for every tenant, so
 * that a budget that comes later knows what the day has cost already.
 *
 * Tokens are spent by leases.  A hold is what one request has reserved: the
 * engine may spend hold.granted tokens and not one more, and every account
 * has been debited for the worst that can come of them.  The prompt's length
 * is known only when the engine has counted it:
 *
 *   admit   unknown prompt: P + C <= L, P >= 1, so P and C are L - 1 at most,
 *           and that much is reserved in the accounts of their own
 *   grow    the engine refused L and said P: P and C >= 1 tokens, exactly
 *   know    ACCEPTED said P: what the worst case took too much comes back
 *   more    a top-up of completion tokens
 *   settle  DONE: charged is what was put on the ring, the rest comes back
 *
 * What comes back goes to where it was taken: tokens that were granted
 * before midnight belong to the day that is over.
 *
 * A balance whose accounts are shared between nodes may spend what the store
 * has granted to this node: `shares` then takes the place of the limits (a
 * shared rate does not drain by time, it is granted anew).
 *
 * Times: rates run on a monotonic clock, windows on the wall clock.  A wall
 * clock that is set back leaves the later window in force.  Units: levels are
 * millionths of a request or token, costs are billionths of a cost unit.
 */
#ifndef AXION_API_LIMITS_H
#define AXION_API_LIMITS_H

#include <stddef.h>
#include <stdint.h>
#include "shm/request.h"

#define AXION_COST_UNIT      1000000000ull /* billionths */
#define AXION_LIMIT_MAX      1000000000000ull
#define AXION_COST_MAX       (1000000000ull * AXION_COST_UNIT)
#define AXION_PRICE_MAX      1000000000ull /* a cost unit for one token */
#define AXION_LIMIT_WAIT_MAX 600000u       /* ms */
#define AXION_GRANT_MAX      0x7fffffffull /* tokens at once */
#define AXION_NEVER          UINT64_MAX

enum axion_rate_kind {
    AXION_RATE_REQUESTS,
    AXION_RATE_TOKENS,
    AXION_RATE_PROMPT,
    AXION_RATE_COMPLETION,
    AXION_RATES
};

enum axion_window_kind { AXION_WINDOW_DAY, AXION_WINDOW_MONTH, AXION_WINDOWS };

/* Which limit said no; names by axion_limit_name(). */
enum axion_limit_kind {
    AXION_LIMIT_NONE,
    AXION_LIMIT_REQUESTS, /* the four rates, in their order */
    AXION_LIMIT_TOKENS,
    AXION_LIMIT_PROMPT,
    AXION_LIMIT_COMPLETION,
    AXION_LIMIT_CONCURRENCY,
    AXION_LIMIT_BUDGET_DAY,
    AXION_LIMIT_BUDGET_MONTH,
    AXION_LIMIT_COST_DAY,
    AXION_LIMIT_COST_MONTH,
    AXION_LIMITS
};

struct axion_rate {
    uint64_t count; /* per period; 0: no limit */
    uint64_t period_ns;
    uint64_t burst; /* what may be spent at once */
};

/* All zero: nothing is limited. */
struct axion_limits {
    struct axion_rate rates[AXION_RATES];
    uint64_t budget[AXION_WINDOWS];      /* tokens; 0: no limit */
    uint64_t cost_budget[AXION_WINDOWS]; /* billionths; 0: no limit */
    uint32_t concurrency;                /* 0: no limit */
    uint32_t queue;                      /* requests that may wait */
    uint32_t wait_ms;                    /* how long; 0: nobody waits */
    uint32_t given;                      /* which words were read */
};

/* Billionths of a cost unit for one token; cached <= prompt. */
struct axion_price {
    uint64_t prompt;
    uint64_t cached;
    uint64_t completion;
};

struct axion_limit_time {
    uint64_t ns;     /* monotonic */
    uint64_t wall_s; /* since the epoch */
};

struct axion_bucket {
    uint64_t level; /* millionths */
    uint64_t at_ns;
};

struct axion_window {
    uint64_t id; /* days or months since 1970 */
    uint64_t tokens;
    uint64_t cost;
};

/* What nodes share (api/shares.h): the four rates, both budgets of tokens,
 * both of cost. */
#define AXION_ACCOUNTS (AXION_RATES + 2 * AXION_WINDOWS)

/* This node's share of one account, in the account's units. */
struct axion_share {
    uint64_t allowed; /* may be spent: in all since the window began; of a
                         rate as the bucket's level counts it */
    struct axion_bucket all; /* of all nodes, as the store said last: the
                                rate's bucket; .level alone, what is granted
                                of a budget */
    uint64_t owed;           /* of a rate, granted while the store was away */
    uint64_t empty_ns;       /* until then the store has no more */
    uint64_t granted;        /* a counter */
};

struct axion_shares {
    uint32_t permille; /* a lease, of the limit; 0: nothing is shared */
    uint32_t reserved;
    uint64_t serial;   /* of the last question to the store */
    uint64_t acked;    /* of the last one that was answered */
    uint64_t until_ns; /* nobody else asks until then */
    uint64_t low_ns;   /* nobody asks ahead of need until then */
    struct axion_share of[AXION_ACCOUNTS];
};

/* One tenant's. */
struct axion_balance {
    struct axion_bucket buckets[AXION_RATES];
    struct axion_window windows[AXION_WINDOWS];
    struct axion_shares shares;
    uint32_t active;  /* holds */
    uint32_t waiting; /* requests in the tenant's queue */
    /* counters, for metrics; they only grow */
    uint64_t requests;
    uint64_t prompt_tokens;
    uint64_t cached_tokens;
    uint64_t completion_tokens;
    uint64_t cost;
    uint64_t refused[AXION_LIMITS];
    uint64_t ended[AXION_LIMITS]; /* streams cut at the last token */
};

/* One request's reservation. */
struct axion_hold {
    uint64_t granted; /* of the engine's lease; AXION_NEVER: not limited */
    uint64_t reserved[AXION_RATES]; /* [REQUESTS] is not used */
    uint64_t cost;
    struct axion_window windows[AXION_WINDOWS]; /* of these, in this window */
    struct axion_price price;
    uint32_t prompt_tokens; /* 0: not known yet */
    uint32_t rates;         /* bit k: rates[k] was in force and was debited */
};

struct axion_verdict {
    enum axion_limit_kind kind; /* NONE: yes */
    uint64_t wait_ns;           /* until it can be yes; 0: nobody knows */
    uint64_t limit;             /* of that kind, and how much is left */
    uint64_t left;
    unsigned lack; /* 1: only this node's share is too small, ask for more */
    unsigned low;  /* 1: it is time to ask, nobody waits for it yet */
};

/* ---- configuration ---- */

/*
 * One line of a tenant; words[0] is the parameter's name:
 *
 *   requests N[r]/s|m|h|d [burst=N]        concurrency N
 *   tokens | prompt_tokens | completion_tokens  N/s|m|h|d [burst=N]
 *   queue N wait=TIME                      budget N/d N/mo
 *   cost_budget X/d X/mo
 *
 * Numbers may end with k, M or G and have decimals where the result is whole.
 * Without burst= it is one period's count.  AXION_OK; AXION_AGAIN: the name
 * is not a limit's; BAD_OPTION with the reason.
 */
int axion_limits_set(struct axion_limits *limits,
                     const struct axion_text *words, size_t n_words, char *why,
                     size_t why_bytes);

/* "prompt=X", "cached=X" or "completion=X", cost units for a million tokens,
 * three decimals at most.  AXION_OK, or BAD_OPTION with the reason. */
int axion_price_set(struct axion_price *price, const struct axion_text *word,
                    char *why, size_t why_bytes);

/* 1 when tokens or cost are limited, so that requests need leases. */
int axion_limits_by_lease(const struct axion_limits *limits);

/* 1 when who was told `verdict` may wait: the tenant has a queue, and its wait
 * is no shorter than the verdict's. */
int axion_limits_may_wait(const struct axion_limits *limits,
                          const struct axion_verdict *verdict);

const char *axion_limit_name(enum axion_limit_kind kind);

/* ---- spending ---- */

/*
 * Lets a request in and opens its hold, or says why not; then nothing has
 * changed but what time changes.  `wanted` is the lease to ask for, the whole
 * of what is left may be less; a tenant without limits of tokens gets
 * AXION_NEVER.  `force` lets it in whatever the limits say, the verdict still
 * tells (dry runs).
 */
void axion_limits_admit(struct axion_balance *balance,
                        const struct axion_limits *limits,
                        const struct axion_price *price,
                        const struct axion_limit_time *now, uint64_t wanted,
                        int force, struct axion_hold *hold,
                        struct axion_verdict *verdict);

/*
 * Another model is to answer, at another price: the hold's tokens are
 * reserved anew (fewer where a budget of cost has no room for all of them),
 * or verdict says why not, and the hold stays as it was.  Before any engine
 * has accepted the request.
 */
void axion_limits_reprice(struct axion_balance *balance,
                          const struct axion_limits *limits,
                          const struct axion_price *price,
                          const struct axion_limit_time *now,
                          struct axion_hold *hold,
                          struct axion_verdict *verdict);

/*
 * The prompt has prompt_tokens and the lease was too small for it: grants it
 * and at least one token of the answer, up to `completion`; or says why not,
 * and the hold stays as it was.
 */
void axion_limits_grow(struct axion_balance *balance,
                       const struct axion_limits *limits,
                       const struct axion_limit_time *now,
                       uint32_t prompt_tokens, uint64_t completion,
                       struct axion_hold *hold, struct axion_verdict *verdict);

/* The prompt was accepted with so many tokens. */
void axion_limits_know(struct axion_balance *balance,
                       const struct axion_limits *limits,
                       const struct axion_limit_time *now,
                       uint32_t prompt_tokens, struct axion_hold *hold);

/* Grants 1 to `wanted` more tokens of the answer and says how many; 0 with
 * the reason.  The prompt must be known. */
uint64_t axion_limits_more(struct axion_balance *balance,
                           const struct axion_limits *limits,
                           const struct axion_limit_time *now, uint64_t wanted,
                           struct axion_hold *hold,
                           struct axion_verdict *verdict);

/* Charges what was answered, gives the rest back and closes the hold.
 * Returns the request's cost. */
uint64_t axion_limits_settle(struct axion_balance *balance,
                             const struct axion_limits *limits,
                             const struct axion_limit_time *now,
                             uint32_t prompt_tokens, uint32_t cached_tokens,
                             uint32_t completion_tokens,
                             struct axion_hold *hold);

/* ---- looking ---- */

struct axion_limit_view {
    uint64_t limit; /* 0: there is none */
    uint64_t left;
    uint64_t reset_ms; /* until all of it is there again */
};

/* For x-ratelimit-*: requests, and the tightest limit of tokens. */
void axion_limits_view(const struct axion_balance *balance,
                       const struct axion_limits *limits,
                       const struct axion_limit_time *now,
                       struct axion_limit_view *requests,
                       struct axion_limit_view *tokens);

/* What is left of one limit, in its own units. */
void axion_limits_look(const struct axion_balance *balance,
                       const struct axion_limits *limits,
                       const struct axion_limit_time *now,
                       enum axion_limit_kind kind,
                       struct axion_limit_view *view);

/* After a restart of the machine, whose monotonic clock began anew; of
 * shared rates nothing is left. */
void axion_balance_rebase(struct axion_balance *balance);

uint64_t axion_month_of(uint64_t wall_s);
uint64_t axion_month_start(uint64_t month);

#endif
