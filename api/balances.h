/*
 * Where tenants' balances live: one file, mapped by every process of a
 * gateway, over reloads, binary upgrades and restarts.
 *
 *   header     magic, sizes, the gateway's number, the boot it ran in
 *   processes  one robust mutex each: held for the process's life
 *   tenants    name, robust mutex, two copies of the balance
 *   leases     one record per request: tenant, hold, engine, what was seen
 *
 * Transactions.  Whatever changes a balance changes at most one lease with
 * it, under the tenant's mutex: the new balance and the new lease record are
 * written into the copy that is not in force, with a checksum; one store of
 * its sequence number makes it the one in force; then the lease record is
 * brought up to it.  A process that is killed before the store has changed
 * nothing, one that is killed after it has changed everything: the mutex
 * tells the next one (EOWNERDEAD), which brings up the lease record again.
 * A tenant's mutex is held over arithmetic and copies of some hundred bytes,
 * never over a call that can wait; the one of the table's names, which is for
 * tenants that are new, over tenants' mutexes one by one.
 *
 * Processes.  Each holds its own mutex as long as it lives, so that a try on
 * it tells the living from the dead whatever became of the pid.  Leases of
 * the dead become orphans: those that no engine saw cost nothing; the others
 * wait for the engine's journal (settle by id), and are charged in full when
 * the journal is through without them or nobody came (forfeit).
 *
 * The file.  flock: shared by every user, exclusive while somebody finds that
 * nobody else has it.  Then nobody holds a mutex either, they are made anew,
 * copies are held against their checksums, every lease is an orphan but those
 * that no engine had got, and after a restart of the machine the rates start
 * afresh (their clock did).
 * Space is allocated ahead, when the file is opened and when the table of
 * tenants doubles: a full disk fails the open, or a tenant that is new, never
 * a store.
 * Whoever may write the file is trusted; it has mode 0600.
 *
 * Nothing here allocates after open or waits for anything but those mutexes.
 */
#ifndef AXION_API_BALANCES_H
#define AXION_API_BALANCES_H

#include <stddef.h>
#include <stdint.h>
#include "api/limits.h"
#include "api/shares.h"
#include "api/tenant.h"

struct axion_balances;

/* One request's, in the process that serves it; id 0: none. */
struct axion_lease {
    uint64_t id; /* unique as long as the file lives */
    uint32_t index;
    uint32_t tenant;
};

/* Who asks. */
struct axion_payer {
    uint64_t number; /* axion_tenant_number(name) */
    struct axion_text name;
    const struct axion_limits *limits;
};

/*
 * Opens the file, makes it if it is not there.  AXION_OK; SYSTEM, NO_MEMORY
 * or BAD_OPTION (it is something else) with the reason.  *repaired says how
 * many balances were lost to a torn write and begin at nothing.
 */
int axion_balances_open(struct axion_balances **out, const char *path,
                        unsigned *repaired, char *why, size_t why_bytes);
void axion_balances_close(struct axion_balances *balances);
const char *axion_balances_path(const struct axion_balances *balances);

/* The gateway's number for the ring's handshake, never 0. */
uint32_t axion_balances_gateway(const struct axion_balances *balances);

/*
 * Makes room for so many tenants ahead, so that none of them waits for the
 * disk; in any thread.  AXION_OK; SYSTEM when the disk has no room.
 */
int axion_balances_reserve(struct axion_balances *balances, uint32_t n_tenants);

/* This process serves requests from now on.  Not before a fork that does.
 * AXION_OK, or NO_MEMORY when there are too many. */
int axion_balances_join(struct axion_balances *balances);

/* It does not any more: what it left is treated like that of the dead. */
void axion_balances_part(struct axion_balances *balances);

/* Balances are shared with other nodes from now on (axion_shares_set): each
 * from its tenant's next request on.  Of this process alone; 0: they are not
 * any more. */
void axion_balances_share(struct axion_balances *balances, uint32_t permille);

/* ---- one request ---- */

enum axion_admit_flags {
    AXION_ADMIT_FORCE = 1, /* a dry run: whatever the limits say */
};

/*
 * Asks for a lease of `wanted` tokens (axion_limits_admit).  With
 * verdict->kind NONE it is there and *granted says how much it is; else
 * lease->id is 0: refused, or not 0: the request has a place in the tenant's
 * queue and asks again with the same lease until limits->wait_ms are over,
 * then axion_balances_leave().  Newcomers stand behind those who wait.  A
 * tenant that has a quarter of all leases is refused whatever the flags say.
 * Who lacks only a share (verdict->lack) is not refused: it keeps its place if
 * it has one, and asks again when the store has answered.
 * AXION_OK; NO_MEMORY when a table is full.
 */
int axion_balances_admit(struct axion_balances *balances,
                         const struct axion_payer *payer,
                         const struct axion_price *price,
                         const struct axion_limit_time *now, uint64_t wanted,
                         unsigned flags, struct axion_lease *lease,
                         uint64_t *granted, struct axion_verdict *verdict);

/* Gives up waiting; counts verdict->kind as what refused it. */
void axion_balances_leave(struct axion_balances *balances,
                          struct axion_lease *lease,
                          enum axion_limit_kind kind);

/* Which engine gets the lease: before it does. */
void axion_balances_send(struct axion_balances *balances,
                         const struct axion_lease *lease, uint64_t engine);

/* What the ring has brought so far; one store each, no lock. */
void axion_balances_seen(struct axion_balances *balances,
                         const struct axion_lease *lease,
                         uint32_t prompt_tokens, uint32_t cached_tokens,
                         uint32_t completion_tokens);

/* axion_limits_reprice(), _grow(), _know(), _more() and _settle().  settle()
 * ends the lease; `cut` is the limit that ended a stream, or NONE. */
void axion_balances_reprice(struct axion_balances *balances,
                            const struct axion_limits *limits,
                            const struct axion_price *price,
                            const struct axion_limit_time *now,
                            const struct axion_lease *lease, uint64_t *granted,
                            struct axion_verdict *verdict);
void axion_balances_grow(struct axion_balances *balances,
                         const struct axion_limits *limits,
                         const struct axion_limit_time *now,
                         const struct axion_lease *lease,
                         uint32_t prompt_tokens, uint64_t completion,
                         uint64_t *granted, struct axion_verdict *verdict);
void axion_balances_know(struct axion_balances *balances,
                         const struct axion_limits *limits,
                         const struct axion_limit_time *now,
                         const struct axion_lease *lease,
                         uint32_t prompt_tokens);
uint64_t axion_balances_more(struct axion_balances *balances,
                             const struct axion_limits *limits,
                             const struct axion_limit_time *now,
                             const struct axion_lease *lease, uint64_t wanted,
                             struct axion_verdict *verdict);
uint64_t axion_balances_settle(struct axion_balances *balances,
                               const struct axion_limits *limits,
                               const struct axion_limit_time *now,
                               struct axion_lease *lease,
                               uint32_t prompt_tokens, uint32_t cached_tokens,
                               uint32_t completion_tokens,
                               enum axion_limit_kind cut);

/* ---- shares: as in api/shares.h ---- */

/* 0 as well when the tenant has no balance yet. */
int axion_balances_ask(struct axion_balances *balances,
                       const struct axion_payer *payer,
                       const struct axion_limit_time *now,
                       const struct axion_demand *demand, uint64_t patience_ns,
                       int give, struct axion_ask *ask);
int axion_balances_answer(struct axion_balances *balances,
                          const struct axion_payer *payer,
                          const struct axion_limit_time *now,
                          const struct axion_ask *ask,
                          const struct axion_answer *answer, int *stale);
void axion_balances_unanswered(struct axion_balances *balances,
                               const struct axion_payer *payer,
                               const struct axion_ask *ask);
void axion_balances_alone(struct axion_balances *balances,
                          const struct axion_payer *payer,
                          const struct axion_limit_time *now,
                          const struct axion_demand *demand);

/* ---- those that died ---- */

/* Finds dead processes and makes their leases orphans; how many. */
unsigned axion_balances_sweep(struct axion_balances *balances,
                              const struct axion_limit_time *now);

/*
 * The engine's journal: AXION_OK when the lease was an orphan and is settled;
 * AXION_AGAIN when it is open and no orphan: its process lives, or somebody
 * is burying it just now; NOT_FOUND when it is over.
 */
int axion_balances_journal(struct axion_balances *balances, uint64_t id,
                           const struct axion_limit_time *now,
                           uint32_t prompt_tokens, uint32_t cached_tokens,
                           uint32_t completion_tokens);

/*
 * Charges orphans in full: those that `engine` has had (0: any engine), made
 * before `before_ns` (a monotonic time).  How many.
 */
unsigned axion_balances_forfeit(struct axion_balances *balances,
                                uint64_t engine, uint64_t before_ns,
                                const struct axion_limit_time *now);

/* ---- looking ---- */

/* A copy of the tenant's balance; 0: it has none yet. */
int axion_balances_read(struct axion_balances *balances, uint64_t number,
                        const struct axion_text *name,
                        struct axion_balance *balance);

/* Calls visit() with every tenant that there is a balance of. */
void axion_balances_each(struct axion_balances *balances,
                         void (*visit)(void *context,
                                       const struct axion_text *name,
                                       const struct axion_balance *balance),
                         void *context);

struct axion_balances_figures {
    uint32_t tenants; /* that have a balance */
    uint32_t places;  /* for tenants, that the file has now */
    uint32_t leases;
    uint32_t orphans;
    uint32_t processes;
    uint64_t recovered; /* orphans that a journal settled, ever */
    uint64_t forfeited; /* orphans that were charged in full, ever */
};

void axion_balances_figures(struct axion_balances *balances,
                            struct axion_balances_figures *figures);

/* Both clocks of this machine. */
struct axion_limit_time axion_limit_now(void);

#endif
