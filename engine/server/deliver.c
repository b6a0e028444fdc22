/*
 * The journal of DONE between channels (journal.h has the records).
 *
 * A connection that dies leaves three kinds of leased streams: still open
 * (they are ended here and now, with what was put on the CQ), said but not
 * sent, and sent but not passed by the client.  All go into the journal under
 * the channel's gateway and uid.  At the end of a turn every channel of such
 * an address that has nothing to settle gets what nobody has: another worker
 * at once, or the next one at its handshake.
 *
 * COMPLETE is said once per channel, when nothing for its address is with
 * another: that one may still die and hand it back.
 */
#include "engine/server/server_private.h"

static struct ax_journal_address
address_of(const struct conn *c)
{
    return (struct ax_journal_address){axion_channel_gateway(c->channel),
                                       (uint32_t)axion_channel_uid(c->channel)};
}


/* ---- in ---- */

struct burial {
    struct ax_server *server;
    struct conn *conn;
    uint32_t n, n_dropped;
};


static void
write_down(void *context, const struct axion_journal_record *record)
{
    struct burial *burial = context;
    struct ax_server *s = burial->server;
    burial->n_dropped +=
        ax_journal_add(s->journal, address_of(burial->conn), record);
    burial->n++;
}


static void
write_open(void *context, axion_stream_id id, void *user)
{
    struct burial *burial = context;
    const struct request *r = user;
    if (r == NULL || r->lease_id == 0) {
        return;
    }
    struct axion_journal_record record = {
        .lease_id = r->lease_id,
        .done = ax_server_done_of(burial->server, r, AXION_FINISH_CANCELLED),
    };
    record.done.completion_tokens =
        axion_channel_sent_tokens(burial->conn->channel, id);
    write_down(burial, &record);
}


void
ax_server_journal_conn(struct ax_server *s, struct conn *c)
{
    struct burial burial = {.server = s, .conn = c};
    if (axion_channel_gateway(c->channel) == 0) {
        return;
    }
    ax_journal_return(s->journal, c);
    axion_channel_each(c->channel, write_open, &burial);
    axion_channel_each_unpassed(c->channel, write_down, &burial);
    s->journal_due = true;
    if (burial.n > 0) {
        ax_log(s->log, AXION_LOG_notice,
               "journal: %u leases of %s (pid %d) wait for gateway %08x",
               burial.n, axion_channel_name(c->channel),
               (int)axion_channel_pid(c->channel),
               axion_channel_gateway(c->channel));
    }
    if (burial.n_dropped > 0) {
        ax_log(s->log, AXION_LOG_warn,
               "journal: full, %u records were dropped; their leases will be "
               "charged in full",
               burial.n_dropped);
    }
}


/* ---- out ---- */

/* false: the socket is full. */
static bool
deliver_to(struct ax_server *s, struct conn *c)
{
    struct axion_journal_record records[AXION_JOURNAL_RECORDS_MAX];
    uint32_t others;
    uint32_t n = ax_journal_take(s->journal, address_of(c), c, records,
                                 AXION_JOURNAL_RECORDS_MAX, &others);
    bool complete = others == 0 && !c->journal_told;
    if (n == 0 && !complete) {
        return true;
    }
    if (axion_channel_journal(c->channel, records, n, complete) != AXION_OK) {
        ax_journal_return(s->journal, c);
        return false;
    }
    c->journal_told = c->journal_told || complete;
    return true;
}


void
ax_server_deliver(struct ax_server *s)
{
    uint64_t now;
    if (!s->journal_due && s->journal_retry_us == 0) {
        return;
    }
    now = ax_server_now_us();
    if (!s->journal_due && now < s->journal_retry_us) {
        return;
    }
    s->journal_due = false;
    s->journal_retry_us = 0;
    for (struct conn *c = s->conns; c != NULL; c = c->next) {
        if (!c->dead && c->greeted && axion_channel_gateway(c->channel) != 0 &&
            axion_channel_unsettled(c->channel) == 0 && !deliver_to(s, c)) {
            s->journal_retry_us = now + JOURNAL_RETRY_US;
        }
    }
}
