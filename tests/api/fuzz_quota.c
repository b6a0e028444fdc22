/*
 * Any bytes as the address of a store, and as what it says, in two pieces.
 * What must hold: a refusal has a reason, texts end, an answer that is taken
 * leaves a balance whose sums have not wrapped around.
 */
#include <stdlib.h>
#include <string.h>
#include "api/quota.h"
#include "shm/errors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);


static void
expect(int condition)
{
    if (!condition)
        abort();
}


static void
fuzz_url(const uint8_t *data, size_t bytes)
{
    struct axion_text text = {(const char *)data, (uint32_t)bytes};
    struct axion_quota_url url;
    char why[120] = "";

    if (axion_quota_url_parse(&url, &text, why, sizeof(why)) != AXION_OK) {
        expect(why[0] != '\0');
        return;
    }
    expect(url.host[0] != '\0' && strlen(url.host) < sizeof(url.host));
    expect(strlen(url.user) < sizeof(url.user));
    expect(strlen(url.password) < sizeof(url.password));
    expect(url.local || url.port != 0);
}


static void
take(const struct axion_quota_reply *reply)
{
    static const struct axion_demand demand = {{1, 100, 100, 100, 100, 100}};
    struct axion_limits limits = {
        .rates = {{600, 60000000000ull, 600}, {100, 1000000000ull, 1000}},
        .budget = {1000, AXION_LIMIT_MAX},
    };
    struct axion_limit_time now = {1000000000ull, 1766275200ull};
    struct axion_balance balance = {0};
    struct axion_answer answer;
    struct axion_ask ask;
    int stale;
    unsigned k;

    axion_shares_set(&balance, 50);
    expect(axion_shares_ask(&balance, &limits, &now, &demand, 1, 0, &ask));
    if (axion_quota_answer(reply, &ask, &answer) != AXION_OK)
        return;
    (void)axion_shares_answer(&balance, &limits, &now, &ask, &answer, &stale);
    for (k = 0; k < AXION_ACCOUNTS; k++) {
        struct axion_limit_view view;

        axion_share_view(&balance, &limits, &now, k, &view);
        expect(view.left <= view.limit);
        expect(balance.shares.of[k].allowed <= UINT64_MAX / 4);
    }
    now.ns += 10;
    expect(axion_shares_ask(&balance, &limits, &now, &demand, 1, 0, &ask));
}


static void
fuzz_replies(const uint8_t *data, size_t bytes)
{
    struct axion_quota_reader *reader;
    struct axion_quota_reply reply;
    size_t cut = bytes > 0 ? data[0] % bytes : 0;
    int i, rc = AXION_OK;

    expect(axion_quota_reader_open(&reader) == AXION_OK);
    for (i = 0; i < 2 && rc == AXION_OK; i++) {
        rc = axion_quota_feed(reader, data + (i ? cut : 0),
                              i ? bytes - cut : cut);
        while (rc == AXION_OK &&
               (rc = axion_quota_next(reader, &reply)) == AXION_OK) {
            expect(memchr(reply.text, 0, sizeof(reply.text)) != NULL);
            expect(reply.n <= AXION_QUOTA_VALUES);
            take(&reply);
        }
        if (rc == AXION_AGAIN)
            rc = AXION_OK;
    }
    axion_quota_reader_close(reader);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes > 2 * AXION_QUOTA_REPLY_BYTES)
        return 0;
    fuzz_url(data, bytes);
    fuzz_replies(data, bytes);
    return 0;
}
