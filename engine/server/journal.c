/* See journal.h.  Entries lie in order of their age without gaps: there are
 * few of them, and only when somebody died. */
#include "engine/server/journal.h"

#include <stdlib.h>
#include <string.h>
#include "shm/errors.h"

struct entry {
    struct ax_journal_address address;
    const void *holder;
    struct axion_journal_record record;
};

struct ax_journal {
    struct entry *entries; /* [max], the oldest first */
    uint32_t n, max;
};


int
ax_journal_open(struct ax_journal **out, uint32_t records_max)
{
    struct ax_journal *j = calloc(1, sizeof(*j));
    *out = j;
    if (j == NULL) {
        return AXION_ERR_NO_MEMORY;
    }
    j->max = records_max;
    j->entries = calloc(records_max, sizeof(*j->entries));
    if (j->entries == NULL) {
        free(j);
        *out = NULL;
        return AXION_ERR_NO_MEMORY;
    }
    return AXION_OK;
}


void
ax_journal_close(struct ax_journal *j)
{
    if (j != NULL) {
        free(j->entries);
        free(j);
    }
}


static bool
same(struct ax_journal_address a, struct ax_journal_address b)
{
    return a.gateway == b.gateway && a.uid == b.uid;
}


/* A user who has half of it pays for itself, else the others do: nobody is
 * pushed out by one who has more. */
static void
drop_one(struct ax_journal *j, uint32_t uid)
{
    uint32_t own = 0, victim = 0;
    for (uint32_t i = 0; i < j->n; i++) {
        own += j->entries[i].address.uid == uid;
    }
    bool from_own = own >= j->n - own;
    while ((j->entries[victim].address.uid == uid) != from_own) {
        victim++;
    }
    j->n--;
    memmove(&j->entries[victim], &j->entries[victim + 1],
            (j->n - victim) * sizeof(*j->entries));
}


bool
ax_journal_add(struct ax_journal *j, struct ax_journal_address address,
               const struct axion_journal_record *record)
{
    bool full = j->n == j->max;
    if (full) {
        drop_one(j, address.uid);
    }
    j->entries[j->n++] = (struct entry){address, NULL, *record};
    return full;
}


uint32_t
ax_journal_take(struct ax_journal *j, struct ax_journal_address address,
                const void *holder, struct axion_journal_record *out,
                uint32_t max, uint32_t *others)
{
    uint32_t n = 0;
    *others = 0;
    for (uint32_t i = 0; i < j->n; i++) {
        struct entry *e = &j->entries[i];
        if (!same(e->address, address)) {
            continue;
        }
        if (e->holder == NULL && n < max) {
            e->holder = holder;
            out[n++] = e->record;
        } else {
            *others += 1;
        }
    }
    return n;
}


void
ax_journal_settle(struct ax_journal *j, const void *holder)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < j->n; i++) {
        if (j->entries[i].holder != holder) {
            j->entries[kept++] = j->entries[i];
        }
    }
    j->n = kept;
}


void
ax_journal_return(struct ax_journal *j, const void *holder)
{
    for (uint32_t i = 0; i < j->n; i++) {
        if (j->entries[i].holder == holder) {
            j->entries[i].holder = NULL;
        }
    }
}


uint32_t
ax_journal_records(const struct ax_journal *j)
{
    return j->n;
}
