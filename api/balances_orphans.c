/*
 * Processes that hold their mutex while they live, and the leases of those
 * that do not any more.  A process that dies while it buries another leaves
 * the other's mutex locked and dead again: the next one goes on.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "api/balances_private.h"
#include "shm/errors.h"

static const struct axion_limits no_limits;


int
axion_balances_join(struct axion_balances *b)
{
    struct axion_limit_time now = axion_limit_now();
    uint32_t i;

    assert(b->process == 0);
    (void)axion_balances_sweep(b, &now);
    for (i = 0; i < PROCESSES_MAX; i++) {
        struct process_record *process = &b->file->processes[i];

        /* One that died since the sweep is left to the next. */
        if (pthread_mutex_trylock(&process->mutex) == 0) {
            process->pid = (uint64_t)getpid();
            b->process = i + 1;
            b->next_lease = i * (LEASES_MAX / PROCESSES_MAX);
            return AXION_OK;
        }
    }
    return AXION_ERR_NO_MEMORY;
}


static void
give_back(struct lease_record *record)
{
    atomic_store(&record->engine, 0);
    atomic_store_explicit(&record->owner, OWNER_NONE, memory_order_release);
}


/* Whatever the dead had decided and not yet written is written. */
static void
redo_all(struct axion_balances *b)
{
    struct transaction t;
    uint32_t i;

    for (i = 0; i < b->file->header.n_places; i++) {
        (void)balances_begin(b, &t, i, 0);
        balances_rollback(&t);
    }
}


/* A dead process's lease.  1: it is an orphan now. */
static unsigned
bury_lease(struct axion_balances *b, uint32_t index,
           const struct axion_limit_time *now)
{
    struct lease_record *record = &b->file->leases[index];
    struct transaction t;

    (void)balances_begin(b, &t, record->body.tenant % b->file->header.n_places,
                         0);
    if (!balances_take_lease(b, &t, index, record->body.id)) {
        balances_rollback(&t);
        give_back(record);
        return 0;
    }
    if (t.copy.body.state == LEASE_OPEN && record->engine != 0) {
        balances_rollback(&t);
        atomic_fetch_add(&b->file->header.orphans, 1);
        atomic_store(&record->orphan_ns, now->ns);
        atomic_store(&record->owner, OWNER_ORPHAN);
        return 1;
    }
    if (t.copy.body.state == LEASE_WAITING)
        t.copy.balance.waiting--;
    else
        (void)axion_limits_settle(&t.copy.balance, &no_limits, now, 0, 0, 0,
                                  &t.copy.body.hold);
    t.copy.body.state = LEASE_FREE;
    balances_commit(b, &t);
    give_back(record);
    return 0;
}


unsigned
axion_balances_sweep(struct axion_balances *b,
                     const struct axion_limit_time *now)
{
    unsigned orphans = 0;
    uint32_t i, k;

    for (i = 0; i < PROCESSES_MAX; i++) {
        struct process_record *process = &b->file->processes[i];
        int error;

        if (i + 1 == b->process)
            continue;
        error = pthread_mutex_trylock(&process->mutex);
        if (error == EBUSY)
            continue;
        if (error == EOWNERDEAD) {
            redo_all(b);
            for (k = 0; k < LEASES_MAX; k++) {
                if (b->file->leases[k].owner == i + 1)
                    orphans += bury_lease(b, k, now);
            }
            error = pthread_mutex_consistent(&process->mutex);
        }
        assert(error == 0);
        process->pid = 0;
        pthread_mutex_unlock(&process->mutex);
    }
    return orphans;
}


void
axion_balances_part(struct axion_balances *b)
{
    struct axion_limit_time now = axion_limit_now();
    uint32_t i;

    if (b->process == 0)
        return;
    for (i = 0; i < LEASES_MAX; i++) {
        if (b->file->leases[i].owner == b->process)
            (void)bury_lease(b, i, &now);
    }
    b->file->processes[b->process - 1].pid = 0;
    pthread_mutex_unlock(&b->file->processes[b->process - 1].mutex);
    b->process = 0;
}


/* Closes an orphan with what was spent, in full if `spent` is NULL. */
static int
close_orphan(struct axion_balances *b, uint32_t index, uint64_t id,
             const struct axion_limit_time *now, const uint32_t spent[3])
{
    struct lease_record *record = &b->file->leases[index];
    struct axion_hold *hold;
    struct transaction t;
    uint32_t full[3] = {record->seen_prompt, record->seen_cached,
                        record->seen_completion};

    if (record->owner != OWNER_ORPHAN ||
        record->body.tenant >= b->file->header.n_places)
        return 0;
    (void)balances_begin(b, &t, record->body.tenant, 0);
    if (record->owner != OWNER_ORPHAN ||
        !balances_take_lease(b, &t, index, id)) {
        balances_rollback(&t);
        return 0;
    }
    hold = &t.copy.body.hold;
    if (hold->granted != AXION_NEVER) {
        uint64_t prompt = hold->prompt_tokens;

        if (prompt == 0)
            prompt = hold->granted - 1;
        full[0] = (uint32_t)prompt;
        full[1] = 0;
        full[2] = (uint32_t)(hold->granted - prompt);
    }
    if (spent == NULL)
        spent = full;
    (void)axion_limits_settle(&t.copy.balance, &no_limits, now, spent[0],
                              spent[1], spent[2], hold);
    t.copy.body.state = LEASE_FREE;
    balances_commit(b, &t);
    give_back(record);
    atomic_fetch_sub(&b->file->header.orphans, 1);
    return 1;
}


int
axion_balances_journal(struct axion_balances *b, uint64_t id,
                       const struct axion_limit_time *now,
                       uint32_t prompt_tokens, uint32_t cached_tokens,
                       uint32_t completion_tokens)
{
    const uint32_t spent[3] = {prompt_tokens, cached_tokens, completion_tokens};
    uint32_t index = (uint32_t)(id & (LEASES_MAX - 1));
    struct lease_record *record = &b->file->leases[index];

    if (close_orphan(b, index, id, now, spent)) {
        atomic_fetch_add(&b->file->header.recovered, 1);
        return AXION_OK;
    }
    return record->owner != OWNER_NONE && record->owner != b->process &&
                   record->body.id == id && record->body.state == LEASE_OPEN
               ? AXION_AGAIN
               : AXION_ERR_NOT_FOUND;
}


unsigned
axion_balances_forfeit(struct axion_balances *b, uint64_t engine,
                       uint64_t before_ns, const struct axion_limit_time *now)
{
    unsigned n = 0;
    uint32_t i;

    if (b->file->header.orphans == 0)
        return 0;
    for (i = 0; i < LEASES_MAX; i++) {
        struct lease_record *record = &b->file->leases[i];

        if (record->owner == OWNER_ORPHAN &&
            (engine == 0 || record->engine == engine) &&
            record->orphan_ns < before_ns)
            n += (unsigned)close_orphan(b, i, record->body.id, now, NULL);
    }
    atomic_fetch_add(&b->file->header.forfeited, n);
    return n;
}


void
axion_balances_figures(struct axion_balances *b,
                       struct axion_balances_figures *figures)
{
    uint32_t i;

    memset(figures, 0, sizeof(*figures));
    figures->tenants = b->file->header.n_tenants;
    figures->places = b->file->header.n_places;
    for (i = 0; i < LEASES_MAX; i++) {
        figures->leases += b->file->leases[i].owner != OWNER_NONE;
        figures->orphans += b->file->leases[i].owner == OWNER_ORPHAN;
    }
    for (i = 0; i < PROCESSES_MAX; i++)
        figures->processes += b->file->processes[i].pid != 0;
    figures->recovered = b->file->header.recovered;
    figures->forfeited = b->file->header.forfeited;
}
