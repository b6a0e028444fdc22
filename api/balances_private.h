/*
 * The mapped file's layout, shared by balances.c (transactions), _file.c
 * (open and repair) and _orphans.c (the dead).  Everything in it outlives
 * processes: sizes are fixed, nothing is a pointer.
 */
#ifndef AXION_API_BALANCES_PRIVATE_H
#define AXION_API_BALANCES_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include "api/balances.h"

#define BALANCES_MAGIC   0x3178656c6178612eull
#define BALANCES_VERSION 3u

#define PROCESSES_MAX 256u
#define TENANTS_MIN   4096u   /* places in a file that is made */
#define TENANTS_MAX   131072u /* doubled as often as need be, up to this */
#define LEASES_MAX    32768u
#define PAYER_LEASES  (LEASES_MAX / 4) /* that one tenant may have */
#define RECENT_MAX    64u
#define PROBES_MAX    64u
#define INDEX_BITS    16u

#define OWNER_NONE   0u
#define OWNER_ORPHAN UINT32_MAX /* else a process's index, plus 1 */

#define NO_LEASE UINT32_MAX

enum lease_state {
    LEASE_FREE,
    LEASE_WAITING, /* a place in the tenant's queue */
    LEASE_OPEN,
};

/* The part of a lease that transactions write. */
struct lease_body {
    uint64_t id;
    uint32_t tenant;
    uint32_t state;
    struct axion_hold hold;
};

struct lease_record {
    _Alignas(64) _Atomic uint32_t owner;
    _Atomic uint32_t seen_prompt;
    _Atomic uint32_t seen_cached;
    _Atomic uint32_t seen_completion;
    _Atomic uint64_t engine; /* 0: none has it */
    _Atomic uint64_t orphan_ns;
    struct lease_body body;
};

struct tenant_copy {
    _Atomic uint64_t sequence; /* the higher one is in force */
    struct axion_balance balance;
    uint32_t lease; /* whose body this transaction wrote, or NO_LEASE */
    uint32_t reserved;
    struct lease_body body;
    uint64_t sum; /* of everything before, but the sequence */
};

struct tenant_record {
    _Alignas(64) pthread_mutex_t mutex;
    _Atomic uint64_t number; /* 0: free */
    uint64_t used_wall_s;
    _Atomic uint32_t name_bytes;
    char name[AXION_TENANT_NAME_MAX];
    struct tenant_copy copies[2];
};

struct process_record {
    _Alignas(64) pthread_mutex_t mutex;
    uint64_t pid; /* for people */
};

struct header {
    uint64_t magic;
    uint32_t version;
    uint32_t gateway;
    uint64_t layout_bytes;
    char boot[40];
    _Atomic uint64_t serial; /* of lease ids */
    _Atomic uint64_t recovered;
    _Atomic uint64_t forfeited;
    _Atomic uint64_t orphans;   /* no fewer than there are */
    _Atomic uint32_t n_places;  /* for tenants, that the file has */
    _Atomic uint32_t n_tenants; /* places that a tenant has, or had */
    pthread_mutex_t mutex;      /* of names in the table of tenants */
};

struct file {
    _Alignas(4096) struct header header;
    _Alignas(4096) struct process_record processes[PROCESSES_MAX];
    _Alignas(4096) struct lease_record leases[LEASES_MAX];
    _Alignas(4096) struct tenant_record tenants[TENANTS_MAX];
};

struct axion_balances {
    struct file *file;
    int fd;
    uint32_t process; /* index of ours plus 1; 0: not joined */
    uint32_t next_lease;
    uint32_t n_recent;
    uint32_t recent[RECENT_MAX]; /* leases that this process gave up */
    uint32_t permille;           /* axion_balances_share() */
    char *path;
};

/* One change of one tenant's balance and of at most one lease. */
struct transaction {
    struct tenant_record *tenant;
    struct tenant_copy copy;
};

/* Locks; 0 when the record is no longer that tenant's (number 0: any). */
int balances_begin(struct axion_balances *b, struct transaction *t,
                   uint32_t tenant, uint64_t number);
/* Takes the lease's body into the transaction; 0: it is not `id` any more. */
int balances_take_lease(struct axion_balances *b, struct transaction *t,
                        uint32_t index, uint64_t id);
void balances_commit(struct axion_balances *b, struct transaction *t);
/* Unlocks without a change. */
void balances_rollback(struct transaction *t);

/* A locked robust mutex; *died says that its last holder was killed. */
void balances_lock(pthread_mutex_t *mutex, int *died);
int balances_mutex_init(pthread_mutex_t *mutex);

/*
 * The table of tenants grows without moving anybody: it is a row of hash
 * tables, the first of TENANTS_MIN places and each later one as large as all
 * before it.  A new tenant goes to the first that has a place for it.
 */
struct segment {
    uint32_t first;
    uint32_t places;
};

static inline struct segment
balances_first_segment(void)
{
    return (struct segment){0, TENANTS_MIN};
}


static inline struct segment
balances_next_segment(struct segment s)
{
    return (struct segment){s.first + s.places, s.first + s.places};
}


/* Doubles the places, under the header's mutex; 0: it cannot. */
int balances_double_places(struct axion_balances *b);
/* Counts n_tenants anew: whoever held the header's mutex was killed. */
void balances_count_tenants(struct file *file);

/* The copy in force, and bringing its lease up to it. */
struct tenant_copy *balances_current(struct tenant_record *tenant);
void balances_redo(struct file *file, const struct tenant_copy *copy);
uint64_t balances_sum(const struct tenant_copy *copy);

#endif
