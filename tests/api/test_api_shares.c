/*
 * Shows that a limit which nodes share by leases is never passed by what they
 * spend, whichever answers are lost, late or doubled, whoever gives back, and
 * that all of it can be spent; that a store which forgets learns what was
 * granted, that a day's grants end with the day, that an old file takes for
 * spent what it was granted, and what a node alone may do.
 *
 * The store here is a model of what the script in quota_wire.c does, written
 * for the test; tests/nginx/test_quota_redis.py has the real one.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "api/shares.h"

#define SECOND 1000000000ull
#define START  1766275200ull /* 2025-12-21 00:00:00 UTC */
#define NODES  3
#define DAY    (AXION_RATES + AXION_WINDOW_DAY) /* the account */

static const struct axion_price no_price;

struct store {
    uint64_t total, unheard;
    uint64_t mine[NODES], serial[NODES];
    int known[NODES]; /* it has a field of the node's */
    uint64_t window;
    /* a rate's */
    double level;
    uint64_t at_ns, last[NODES], serial_rate[NODES];
    int has_level;
};

struct node {
    struct axion_balance balance;
    struct axion_hold holds[8];
    unsigned n_holds;
};

static struct axion_limits limits;
static struct axion_limit_time now;
static struct store store;
static struct node nodes[NODES];


static uint64_t
min64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}


static uint64_t
fresh(const struct axion_ask_account *a, uint64_t had, uint64_t left)
{
    uint64_t fair = left / (2 * NODES);
    uint64_t need = a->need > had ? a->need - had : 0;

    if (a->want <= had)
        return 0;
    return min64(min64(a->want - had, need > fair ? need : fair), left);
}


static void
store_budget(unsigned node, const struct axion_ask *ask,
             const struct axion_ask_account *a,
             struct axion_answer_account *out)
{
    uint64_t had, n;

    if (a->window != store.window) {
        memset(&store, 0, sizeof(store));
        store.window = a->window;
    }
    if (store.serial[node] >= ask->serial) {
        *out = (struct axion_answer_account){0, store.serial[node],
                                             store.mine[node]};
        return;
    }
    if (a->known > store.mine[node]) {
        uint64_t more = a->known - store.mine[node];
        uint64_t heard = min64(more, store.unheard);

        store.unheard -= heard;
        store.total += more - heard;
        store.mine[node] = a->known;
    } else if (ask->give) {
        store.total -= store.mine[node] - a->known;
        store.mine[node] = a->known;
    }
    if (!store.known[node] && a->all > store.total) {
        store.unheard += a->all - store.total;
        store.total = a->all;
    }
    store.known[node] = 1;
    had = store.mine[node] - a->known;
    n = fresh(a, had, a->limit > store.total ? a->limit - store.total : 0);
    store.mine[node] += n;
    store.total += n;
    store.serial[node] = ask->serial;
    *out = (struct axion_answer_account){1, had + n, store.total};
}


static void
store_rate(unsigned node, const struct axion_ask *ask,
           const struct axion_ask_account *a, struct axion_answer_account *out)
{
    uint64_t had, n;

    if (store.serial_rate[node] >= ask->serial) {
        *out = (struct axion_answer_account){0, store.serial_rate[node], 0};
        return;
    }
    if (!store.has_level)
        store.level = (double)min64(a->all / 1000, a->limit);
    else
        store.level -= (double)(now.ns - store.at_ns) / 1000 *
                       (double)a->count / (double)a->period_us;
    if (store.level < 0)
        store.level = 0;
    store.has_level = 1;
    store.at_ns = now.ns;
    if (store.level < (double)a->limit) {
        store.level += (double)a->owed;
        if (store.level > (double)a->limit)
            store.level = (double)a->limit;
    }
    had = store.serial_rate[node] > ask->acked ? store.last[node] : 0;
    n = fresh(a, had,
              store.level < (double)a->limit
                  ? (uint64_t)((double)a->limit - store.level)
                  : 0);
    store.level += (double)n;
    store.last[node] = had + n;
    store.serial_rate[node] = ask->serial;
    *out = (struct axion_answer_account){1, had + n,
                                         (uint64_t)(store.level * 1000)};
}


static struct axion_answer
store_answer(unsigned node, const struct axion_ask *ask)
{
    struct axion_answer answer = {.n = ask->n};
    unsigned i;

    for (i = 0; i < ask->n; i++) {
        if (ask->of[i].account < AXION_RATES)
            store_rate(node, ask, &ask->of[i], &answer.of[i]);
        else
            store_budget(node, ask, &ask->of[i], &answer.of[i]);
    }
    return answer;
}


static void
begin(const char *line)
{
    struct axion_text words[3];
    char why[128];
    size_t n = 0;
    const char *p = line;
    unsigned i;

    while (*p != '\0') {
        size_t bytes = strcspn(p, " ");

        words[n++] = (struct axion_text){p, (uint32_t)bytes};
        p += bytes + (p[bytes] == ' ');
    }
    memset(&limits, 0, sizeof(limits));
    memset(&store, 0, sizeof(store));
    memset(nodes, 0, sizeof(nodes));
    assert_int_equal(axion_limits_set(&limits, words, n, why, sizeof(why)), 0);
    now = (struct axion_limit_time){SECOND, START};
    for (i = 0; i < NODES; i++)
        axion_shares_set(&nodes[i].balance, 50);
}


/* 1: asked, and answered. */
static int
refill(unsigned node, uint64_t tokens, int give)
{
    struct axion_demand demand = {0};
    struct axion_answer answer;
    struct axion_ask ask;
    int stale;

    if (tokens > 0)
        axion_demand_add(&demand, 1, tokens, &no_price);
    if (!axion_shares_ask(&nodes[node].balance, &limits, &now, &demand,
                          SECOND, give, &ask))
        return 0;
    answer = store_answer(node, &ask);
    assert_int_equal(axion_shares_answer(&nodes[node].balance, &limits, &now,
                                         &ask, &answer, &stale),
                     1);
    return 1;
}


/* A request that gets all the tokens that it asked for and spends `spent` of
 * them, having asked the store if it must; the verdict's kind. */
static enum axion_limit_kind
request(unsigned node, uint64_t tokens, uint32_t spent)
{
    struct axion_balance *b = &nodes[node].balance;
    struct axion_verdict verdict;
    struct axion_hold hold;
    unsigned tries = 0;

    do {
        axion_limits_admit(b, &limits, &no_price, &now, tokens, 0, &hold,
                           &verdict);
        if (verdict.lack)
            (void)refill(node, tokens, 0);
    } while (verdict.kind != AXION_LIMIT_NONE && verdict.lack && tries++ < 3);
    assert_false(verdict.lack);
    if (verdict.kind == AXION_LIMIT_NONE) {
        if (hold.granted != AXION_NEVER && spent > hold.granted)
            spent = (uint32_t)hold.granted;
        (void)axion_limits_settle(b, &limits, &now, 1, 0, spent - 1, &hold);
    }
    return verdict.kind;
}


static uint64_t
spent(void)
{
    uint64_t sum = 0;
    unsigned i;

    for (i = 0; i < NODES; i++)
        sum += nodes[i].balance.windows[AXION_WINDOW_DAY].tokens;
    return sum;
}


static uint64_t
left(unsigned node)
{
    return axion_share_left(&nodes[node].balance, DAY);
}


static void
test_all_can_be_spent(void **state)
{
    unsigned i, idle = 0;

    (void)state;
    begin("budget 10k/d");
    for (i = 0; idle < 2 * NODES; i++) {
        unsigned node = i % NODES;

        if (request(node, 100, 7) == AXION_LIMIT_NONE) {
            idle = 0;
            continue;
        }
        idle++;
        (void)refill(node, 0, 1);
        now.ns += 2 * SECOND;
    }
    assert_in_range(spent(), 10000 - 1, 10000);
    assert_true(store.total <= 10000);
}


static void
test_few_round_trips(void **state)
{
    unsigned i, asks = 0;

    (void)state;
    begin("budget 1M/d");
    assert_int_equal(request(0, 100, 10), AXION_LIMIT_NONE);
    assert_int_equal(left(0), 50000 - 10);
    for (i = 0; i < 10000; i++) {
        now.ns += SECOND / 1000;
        if (axion_shares_low(&nodes[0].balance, &limits, &now))
            asks += (unsigned)refill(0, 0, 0);
        assert_int_equal(request(0, 100, 10), AXION_LIMIT_NONE);
    }
    assert_in_range(asks, 2, 8);
}


static void
test_lost_answer(void **state)
{
    struct axion_demand demand = {0};
    struct axion_ask ask;
    struct axion_balance *b = &nodes[0].balance;

    (void)state;
    begin("budget 10k/d");
    axion_demand_add(&demand, 1, 100, &no_price);
    assert_int_equal(
        axion_shares_ask(b, &limits, &now, &demand, SECOND, 0, &ask), 1);
    (void)store_answer(0, &ask);
    assert_int_equal(store.total, 500);
    /* while it is open nobody asks, and nothing may be spent */
    assert_int_equal(
        axion_shares_ask(b, &limits, &now, &demand, SECOND, 0, &ask), 0);
    assert_int_equal(left(0), 0);
    now.ns += 2 * SECOND;
    assert_int_equal(refill(0, 100, 0), 1);
    assert_int_equal(store.total, 500);
    assert_int_equal(left(0), 500);
}


static void
test_late_answer(void **state)
{
    struct axion_demand demand = {0};
    struct axion_answer answer, late;
    struct axion_ask first, second;
    struct axion_balance *b = &nodes[0].balance;
    int stale;

    (void)state;
    begin("budget 10k/d");
    axion_demand_add(&demand, 1, 100, &no_price);
    assert_int_equal(
        axion_shares_ask(b, &limits, &now, &demand, SECOND, 0, &first), 1);
    now.ns += 2 * SECOND;
    assert_int_equal(
        axion_shares_ask(b, &limits, &now, &demand, SECOND, 0, &second), 1);
    /* the second overtakes the first on its way to the store */
    answer = store_answer(0, &second);
    late = store_answer(0, &first);
    assert_int_equal(late.of[0].heard, 0);
    assert_int_equal(
        axion_shares_answer(b, &limits, &now, &first, &late, &stale), 0);
    assert_int_equal(
        axion_shares_answer(b, &limits, &now, &second, &answer, &stale), 1);
    assert_int_equal(stale, 0);
    assert_int_equal(left(0), 500);
    assert_int_equal(store.total, 500);
}


static void
test_store_forgets(void **state)
{
    unsigned i;

    (void)state;
    begin("budget 10k/d");
    for (i = 0; i < 300; i++)
        assert_int_equal(request(i % NODES, 20, 10), AXION_LIMIT_NONE);
    assert_true(store.total >= 3000);
    for (i = 0; i < NODES; i++)
        (void)refill(i, 20, 0);
    memset(&store, 0, sizeof(store));
    /* the first that asks brings what it heard of all of them */
    (void)refill(1, left(1) + 1, 0);
    assert_true(store.total + store.unheard >= spent());
    for (i = 0; i < 3000; i++)
        (void)request(i % NODES, 20, 10);
    assert_true(spent() <= 10000);
    assert_true(store.total <= 10000);
}


static void
test_old_file(void **state)
{
    struct axion_balance old;
    struct axion_ask ask;
    struct axion_answer answer;
    struct axion_demand demand = {0};
    int stale;

    (void)state;
    begin("budget 10k/d");
    (void)request(0, 20, 10);
    old = nodes[0].balance;
    (void)refill(0, 2000, 0);
    (void)request(0, 2000, 1500);
    nodes[0].balance = old;
    axion_demand_add(&demand, 1, 600, &no_price);
    assert_int_equal(axion_shares_ask(&nodes[0].balance, &limits, &now,
                                      &demand, SECOND, 0, &ask),
                     1);
    answer = store_answer(0, &ask);
    (void)axion_shares_answer(&nodes[0].balance, &limits, &now, &ask, &answer,
                              &stale);
    assert_int_equal(stale, 1);
    assert_int_equal(spent(), store.mine[0]);
    assert_int_equal(left(0), 0);
    assert_int_equal(request(0, 20, 10), AXION_LIMIT_NONE);
}


static void
test_day_ends(void **state)
{
    struct axion_demand demand = {0};
    struct axion_answer answer;
    struct axion_ask ask;
    int stale;

    (void)state;
    begin("budget 1k/d");
    while (request(0, 20, 10) == AXION_LIMIT_NONE)
        ;
    assert_in_range(spent(), 990, 1000);
    axion_demand_add(&demand, 1, 20, &no_price);
    now.ns += 2 * SECOND;
    assert_int_equal(axion_shares_ask(&nodes[0].balance, &limits, &now,
                                      &demand, SECOND, 0, &ask),
                     1);
    answer = store_answer(0, &ask);
    answer.of[0].granted = 500; /* of the day that is over by now */
    now.wall_s += 86400;
    (void)axion_shares_answer(&nodes[0].balance, &limits, &now, &ask, &answer,
                              &stale);
    assert_int_equal(left(0), 0);
    assert_int_equal(request(0, 20, 10), AXION_LIMIT_NONE);
    assert_int_equal(spent(), 10);
    assert_int_equal(store.total, store.mine[0]);
}


static void
test_alone(void **state)
{
    struct axion_demand demand = {0};
    unsigned i;

    (void)state;
    begin("budget 10k/d");
    for (i = 0; i < NODES; i++)
        (void)request(i, 20, 10);
    axion_demand_add(&demand, 1, 4000, &no_price);
    axion_shares_alone(&nodes[0].balance, &limits, &now, &demand);
    assert_int_equal(left(0), 4000);
    axion_demand_add(&demand, 1, 9000, &no_price);
    axion_shares_alone(&nodes[0].balance, &limits, &now, &demand);
    /* the node heard of no other when it was granted its first lease */
    assert_int_equal(left(0), 10000 - 10);
    /* back: what it took is owned up to, and nobody gets more */
    (void)refill(0, 0, 0);
    assert_int_equal(store.mine[0], 10000);
    (void)refill(1, 1000, 0);
    assert_int_equal(left(1), 500 - 10);
}


static void
test_rate(void **state)
{
    uint64_t good = 0, asked = 0;
    unsigned i;

    (void)state;
    begin("requests 600r/m burst=100");
    for (i = 0; i < 60000; i++, asked++) {
        good += request(i % NODES, 1, 1) == AXION_LIMIT_NONE;
        now.ns += SECOND / 1000;
    }
    /* a minute's requests, the burst, and what leases hold at the end */
    assert_in_range(good, 600, 700);
    for (i = 0; i < NODES; i++)
        good += axion_share_left(&nodes[i].balance, AXION_RATE_REQUESTS);
    assert_in_range(good, 690, 701);
}


static void
test_rate_view(void **state)
{
    struct axion_limit_view requests, tokens;
    struct axion_verdict verdict;
    struct axion_hold hold;

    (void)state;
    begin("requests 60r/m burst=10");
    while (request(0, 1, 1) == AXION_LIMIT_NONE)
        ;
    axion_limits_view(&nodes[0].balance, &limits, &now, &requests, &tokens);
    assert_int_equal(requests.limit, 10);
    assert_int_equal(requests.left, 0);
    assert_in_range(requests.reset_ms, 9900, 10000);
    axion_limits_admit(&nodes[0].balance, &limits, &no_price, &now, 1, 0,
                       &hold, &verdict);
    assert_int_equal(verdict.kind, AXION_LIMIT_REQUESTS);
    assert_in_range(verdict.wait_ns, SECOND - 2000000, SECOND);
}


/* ---- at random ---- */

static uint64_t random_state;


static uint64_t
dice(uint64_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % n;
}


/* A request that runs for a while; one that ends; a question whose answer
 * comes, or is lost before or after the store has it; a gift. */
static void
step(void)
{
    unsigned i = (unsigned)dice(NODES), k;
    struct node *node = &nodes[i];
    struct axion_verdict verdict;
    struct axion_demand demand = {0};
    struct axion_ask ask;

    now.ns += dice(SECOND);
    switch (dice(5)) {
    case 0:
        if (node->n_holds == 8)
            return;
        axion_limits_admit(&node->balance, &limits, &no_price, &now,
                           2 + dice(300), 0, &node->holds[node->n_holds],
                           &verdict);
        node->n_holds += verdict.kind == AXION_LIMIT_NONE;
        return;
    case 1:
        if (node->n_holds == 0)
            return;
        k = --node->n_holds;
        (void)axion_limits_settle(
            &node->balance, &limits, &now, 1, 0,
            (uint32_t)dice(node->holds[k].granted), &node->holds[k]);
        return;
    case 2:
        axion_demand_add(&demand, 1, dice(300), &no_price);
        if (axion_shares_ask(&node->balance, &limits, &now, &demand,
                             dice(SECOND), 0, &ask) &&
            dice(2))
            (void)store_answer(i, &ask);
        return;
    case 3:
        (void)refill(i, 0, 1);
        return;
    default:
        (void)refill(i, dice(300), 0);
        return;
    }
}


static void
test_random(void **state)
{
    unsigned round, i, k;

    (void)state;
    for (round = 1; round <= 200; round++) {
        begin("budget 20k/d");
        random_state = round * 0x9e3779b97f4a7c15ull;
        for (i = 0; i < 1000; i++) {
            uint64_t allowed = 0;

            step();
            for (k = 0; k < NODES; k++)
                allowed += nodes[k].balance.shares.of[DAY].allowed;
            if (spent() > 20000 || allowed > store.total ||
                store.total > 20000)
                fail_msg("round %u, step %u: %llu spent, %llu allowed, %llu "
                         "granted",
                         round, i, (unsigned long long)spent(),
                         (unsigned long long)allowed,
                         (unsigned long long)store.total);
        }
    }
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_can_be_spent),
        cmocka_unit_test(test_few_round_trips),
        cmocka_unit_test(test_lost_answer),
        cmocka_unit_test(test_late_answer),
        cmocka_unit_test(test_store_forgets),
        cmocka_unit_test(test_old_file),
        cmocka_unit_test(test_day_ends),
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_rate_view),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
