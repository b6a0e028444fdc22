/*
 * The client's end of the journal of DONE (wire.h): one message of records at
 * a time, kept here until the caller has settled each (client.h).
 *
 * The engine waits for SETTLED before it sends more, so one message's room is
 * enough; more, or anything else of more than a byte, breaks the channel.  A
 * SETTLED that finds the socket full is sent by a later service().
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include "shm/client_private.h"


static const char *
journal_fault(const struct axion_client *client, const void *data, size_t bytes)
{
    struct axion_journal head;

    memset(&head, 0, AXION_JOURNAL_HEAD_BYTES);
    memcpy(&head, data,
           bytes < AXION_JOURNAL_HEAD_BYTES ? bytes : AXION_JOURNAL_HEAD_BYTES);
    if (bytes < AXION_JOURNAL_HEAD_BYTES || client->gateway == 0 ||
        head.head.magic != AXION_WIRE_MAGIC ||
        head.head.version != AXION_WIRE_VERSION ||
        head.head.type != AXION_MSG_JOURNAL) {
        return "message that is no doorbell";
    }
    if (head.n_records > AXION_JOURNAL_RECORDS_MAX ||
        bytes != AXION_JOURNAL_HEAD_BYTES +
                     head.n_records * sizeof(struct axion_journal_record)) {
        return "JOURNAL of the wrong length";
    }
    /* It says something: without end, it would keep the reader reading. */
    if (head.n_records == 0 && ((head.flags & AXION_JOURNAL_COMPLETE) == 0 ||
                                client->journal_complete)) {
        return "JOURNAL without records";
    }
    if (client->journal.n_records > 0 || client->settled_due) {
        return "JOURNAL before the last one was settled";
    }
    return NULL;
}


int
axion_client_take_journal(struct axion_client *client, const void *data,
                          size_t bytes)
{
    const char *fault = journal_fault(client, data, bytes);

    if (fault != NULL) {
        return axion_client_break(client, AXION_ERR_PROTOCOL, fault);
    }
    memcpy(&client->journal, data, bytes);
    client->journal_at = 0;
    if ((client->journal.flags & AXION_JOURNAL_COMPLETE) != 0 &&
        client->journal.n_records == 0) {
        client->journal_complete = 1;
    }
    return AXION_OK;
}


int
axion_client_journal(const struct axion_client *client,
                     struct axion_journal_record *record)
{
    if (client->journal_at == client->journal.n_records ||
        client->state == AXION_CLIENT_BROKEN) {
        return AXION_AGAIN;
    }
    *record = client->journal.records[client->journal_at];
    return AXION_OK;
}


int
axion_client_journal_complete(const struct axion_client *client)
{
    return client->journal_complete;
}


void
axion_client_send_settled(struct axion_client *client)
{
    struct axion_settled settled = {
        .head = {AXION_WIRE_MAGIC, AXION_WIRE_VERSION, AXION_MSG_SETTLED},
        .n_records = client->journal.n_records,
    };
    ssize_t n;

    if (!client->settled_due) {
        return;
    }
    do {
        n = send(client->fd, &settled, sizeof(settled),
                 MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM)) {
        return;
    }
    /* A socket that fails otherwise ends the channel at its next reading. */
    client->settled_due = 0;
    client->journal.n_records = client->journal_at = 0;
}


void
axion_client_journal_settled(struct axion_client *client)
{
    assert(client->journal_at < client->journal.n_records);
    if (++client->journal_at < client->journal.n_records) {
        return;
    }
    if ((client->journal.flags & AXION_JOURNAL_COMPLETE) != 0) {
        client->journal_complete = 1;
    }
    client->settled_due = 1;
    axion_client_send_settled(client);
}
