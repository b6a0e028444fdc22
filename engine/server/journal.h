/*
 * The engine's journal of DONE (DESIGN section 7): what was spent by leased
 * streams whose client died before it had passed their DONE or ERROR, kept
 * until a client of the same gateway has settled it (wire.h).
 *
 * An address is (gateway, uid): a gateway gives its own number, the kernel
 * says who it is, so nobody collects another user's records.  A record is
 * with nobody, or with the one channel (`holder`) that it was sent to; when
 * that one ends unsettled it is with nobody again.
 *
 * Memory is fixed at open.  A full journal drops the oldest record, of the
 * same user if half of all are his, else of another; that lease is then
 * charged in full, as it is when the engine dies too.  Thread 0 only; every
 * call is a pass over what is there.
 */
#ifndef AX_SERVER_JOURNAL_H
#define AX_SERVER_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>
#include "shm/wire.h"

struct ax_journal;

struct ax_journal_address {
    uint32_t gateway; /* not 0 */
    uint32_t uid;
};

/* AXION_OK, NO_MEMORY. */
int ax_journal_open(struct ax_journal **out, uint32_t records_max);
void ax_journal_close(struct ax_journal *journal); /* NULL is fine */

/* true: a record was dropped for it. */
bool ax_journal_add(struct ax_journal *journal,
                    struct ax_journal_address address,
                    const struct axion_journal_record *record);

/*
 * Copies the oldest records that nobody holds to out[0 .. max) and gives them
 * to `holder`; returns how many.  *others: records of this address that stay,
 * with nobody or with another holder.
 */
uint32_t ax_journal_take(struct ax_journal *journal,
                         struct ax_journal_address address, const void *holder,
                         struct axion_journal_record *out, uint32_t max,
                         uint32_t *others);
/* What holder has is settled and forgotten. */
void ax_journal_settle(struct ax_journal *journal, const void *holder);
/* What holder has is with nobody again: it died, or could not be sent to. */
void ax_journal_return(struct ax_journal *journal, const void *holder);

uint32_t ax_journal_records(const struct ax_journal *journal);

#endif
