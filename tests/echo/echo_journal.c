/*
 * The echo engine's journal of DONE: what axiond does (engine/server/
 * deliver.c), over its own journal (engine/server/journal.h), so that tests
 * of gateways that are killed can count to the token without a model.
 */
#include <inttypes.h>
#include <stdlib.h>
#include "engine/server/journal.h"
#include "shm/channel.h"
#include "shm/errors.h"
#include "tests/echo/echo.h"

#define RECORDS_MAX 16384u

static struct ax_journal *journal;
static int due; /* something changed since the last delivery */


static struct ax_journal_address
address_of(const struct axion_channel *channel)
{
    return (struct ax_journal_address){
        axion_channel_gateway(channel),
        (uint32_t) axion_channel_uid(channel),
    };
}


static void
write_down(void *context, const struct axion_journal_record *record)
{
    const struct axion_channel *channel = context;

    echo_log("journal prompt_tokens=%u tokens=%u id=%" PRIu64,
             record->done.prompt_tokens, record->done.completion_tokens,
             record->lease_id);
    (void) ax_journal_add(journal, address_of(channel), record);
}


static void
write_open(void *context, axion_stream_id id, void *user)
{
    struct axion_channel *channel = context;
    const struct echo_stream *s = user;
    struct axion_journal_record record = {0};

    if (s == NULL || s->lease_id == 0)
        return;
    record.lease_id = s->lease_id;
    record.done.reason = AXION_FINISH_CANCELLED;
    if (s->phase != ECHO_ARRIVED) {
        record.done.prompt_tokens = s->answer.prompt_tokens;
        record.done.completion_tokens = axion_channel_sent_tokens(channel, id);
    }
    write_down(channel, &record);
}


void
echo_journal_open(void)
{
    if (ax_journal_open(&journal, RECORDS_MAX) != AXION_OK)
        abort();
}


void
echo_journal_close(void)
{
    ax_journal_close(journal);
    journal = NULL;
}


void
echo_journal_bury(struct axion_channel *channel)
{
    if (axion_channel_gateway(channel) == 0)
        return;
    ax_journal_return(journal, channel);
    axion_channel_each(channel, write_open, channel);
    axion_channel_each_unpassed(channel, write_down, channel);
    due = 1;
}


void
echo_journal_settled(const struct axion_channel *channel)
{
    ax_journal_settle(journal, channel);
    due = 1;
}


void
echo_journal_due(void)
{
    due = 1;
}


int
echo_journal_is_due(void)
{
    int was = due;

    due = 0;
    return was;
}


void
echo_journal_deliver(struct axion_channel *channel, int *told)
{
    struct axion_journal_record records[AXION_JOURNAL_RECORDS_MAX];
    uint32_t others, n;
    int complete;

    if (axion_channel_gateway(channel) == 0 ||
        axion_channel_unsettled(channel) != 0)
        return;
    n = ax_journal_take(journal, address_of(channel), channel, records,
                        AXION_JOURNAL_RECORDS_MAX, &others);
    complete = others == 0 && !*told;
    if (n == 0 && !complete)
        return;
    if (axion_channel_journal(channel, records, n, complete) != AXION_OK) {
        ax_journal_return(journal, channel);
        due = 1; /* its socket is full: at the next turn */
        return;
    }
    *told |= complete;
}
