/*
 * Balances that several nodes share.  A store that all of them reach (Redis)
 * holds for each of a tenant's accounts what is granted to nodes; a node
 * spends what it was granted and asks for more before it runs out, so that
 * the common request needs no round trip.  Pure functions of a balance, as
 * api/limits.h; api/quota.h puts questions and answers on the wire.
 *
 *   account   a rate (requests, all tokens, prompt tokens, completion
 *             tokens) or a budget (tokens or cost, of a day or a month)
 *   lease     what a node asks for at once: `permille` of the limit, less as
 *             less is left (half of a fair part), what a request needs at
 *             least
 *   question  all accounts of a tenant at once; one is open per node and
 *             tenant, workers see it in the balance
 *
 * Never double, never lost.  Questions are numbered, and say which answer was
 * the last that came.  The store keeps each node's last grant (of a budget
 * the sum), so that an answer that got lost is part of the next one.  It does
 * not hear a question that is older than the last: then the answer says how
 * far it is, and the node, whose file must be an old one, takes for spent
 * whatever was granted to it.
 *
 * Never more.  Grants to all nodes together stay within the limit; a node
 * spends no more than its grants.  A store that lost its memory learns again
 * what was granted: each node says what it holds and what the store said
 * last of all nodes together.
 *
 * A node that has been without traffic gives back what it has of budgets.
 * Leases of rates stay: the store's bucket drains without them.
 *
 * While the store is away a node may go on alone (axion_shares_alone): it
 * grants to itself, as if the other nodes stood still, and owns up to it when
 * the store is back.
 *
 * Units: as in limits.h; towards the store costs are millionths of a unit.
 */
#ifndef AXION_API_SHARES_H
#define AXION_API_SHARES_H

#include "api/limits.h"

#define AXION_SHARE_PERMILLE_MAX 500u

/* One account of a question. */
struct axion_ask_account {
    unsigned account;
    uint64_t limit; /* of a rate, its burst */
    uint64_t count; /* rates: per period */
    uint64_t period_us;
    uint64_t window; /* budgets: which, and for how long to remember it */
    uint64_t ttl_s;
    uint64_t known; /* budgets: granted to us so far */
    uint64_t owed;  /* rates: taken while the store was away */
    uint64_t all;   /* budgets: granted to all; rates: level, thousandths */
    uint64_t want;  /* more than known */
    uint64_t need;  /* of it, what somebody waits for */
};

struct axion_ask {
    uint64_t serial;
    uint64_t acked;
    unsigned give; /* 1: `known` is less than it was */
    unsigned n;
    struct axion_ask_account of[AXION_ACCOUNTS];
};

/* The store's answer, account by account as asked. */
struct axion_answer_account {
    unsigned heard;   /* 0: the question was older than the last one */
    uint64_t granted; /* heard: more than `known`; else the last serial */
    uint64_t all;     /* heard: as in the question; else our sum so far */
};

struct axion_answer {
    unsigned n;
    struct axion_answer_account of[AXION_ACCOUNTS];
};

/* What requests wait for, by account. */
struct axion_demand {
    uint64_t of[AXION_ACCOUNTS];
};

/* Adds a request (0: one that was let in before) and its tokens. */
void axion_demand_add(struct axion_demand *demand, unsigned requests,
                      uint64_t tokens, const struct axion_price *price);

/* Accounts are shared from now on, with leases of so many thousandths of a
 * limit; 0: they are not. */
void axion_shares_set(struct axion_balance *balance, uint32_t permille);

/*
 * The question to send, 1; or 0: one is open, or there is nothing to ask.
 * Until `patience_ns` are over nobody asks anew.  `give`: gives back what no
 * request has reserved, if none runs.
 */
int axion_shares_ask(struct axion_balance *balance,
                     const struct axion_limits *limits,
                     const struct axion_limit_time *now,
                     const struct axion_demand *demand, uint64_t patience_ns,
                     int give, struct axion_ask *ask);

/*
 * The answer to `ask`; 0 when another question has been sent since, and
 * nothing changes.  *stale is set when the store has heard of later questions
 * of ours than we know.
 */
int axion_shares_answer(struct axion_balance *balance,
                        const struct axion_limits *limits,
                        const struct axion_limit_time *now,
                        const struct axion_ask *ask,
                        const struct axion_answer *answer, int *stale);

/* No answer will come; somebody may ask anew. */
void axion_shares_failed(struct axion_balance *balance,
                         const struct axion_ask *ask);

/* Takes what is needed without the store. */
void axion_shares_alone(struct axion_balance *balance,
                        const struct axion_limits *limits,
                        const struct axion_limit_time *now,
                        const struct axion_demand *demand);

/* 1: an account has less than half a lease left, and it is time to ask. */
unsigned axion_shares_low(const struct axion_balance *balance,
                          const struct axion_limits *limits,
                          const struct axion_limit_time *now);

/* 1: no request runs, and leases of budgets have something to give back. */
int axion_shares_spare(const struct axion_balance *balance,
                       const struct axion_limits *limits,
                       const struct axion_limit_time *now);

/* ---- one account ---- */

enum axion_limit_kind axion_share_kind(unsigned account);

/* What this node may still spend without asking. */
uint64_t axion_share_left(const struct axion_balance *balance,
                          unsigned account);

/* The limit, what is left of it for this node, with what the store had when
 * it answered last, and until when all of it is there again. */
void axion_share_view(const struct axion_balance *balance,
                      const struct axion_limits *limits,
                      const struct axion_limit_time *now, unsigned account,
                      struct axion_limit_view *view);

/* Until `n` can be had, that this node does not have; 0: the store may be
 * asked; AXION_NEVER: it is more than the limit. */
uint64_t axion_share_wait_ns(const struct axion_balance *balance,
                             const struct axion_limits *limits,
                             const struct axion_limit_time *now,
                             unsigned account, uint64_t n);

#endif
