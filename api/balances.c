/*
 * Transactions on balances, and the life of a lease in the process that has
 * the request.  balances.h has the reasons.
 */
#include "api/balances.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <time.h>
#include "api/balances_private.h"
#include "shm/errors.h"

_Static_assert(sizeof(struct tenant_record) <= 2560, "a tenant's record");
_Static_assert(LEASES_MAX <= 1u << INDEX_BITS, "index within an id");


struct axion_limit_time
axion_limit_now(void)
{
    struct timespec mono, wall;

    clock_gettime(CLOCK_BOOTTIME, &mono);
    clock_gettime(CLOCK_REALTIME_COARSE, &wall); /* of days and months */
    return (struct axion_limit_time){
        .ns = (uint64_t)mono.tv_sec * 1000000000ull + (uint64_t)mono.tv_nsec,
        .wall_s = wall.tv_sec > 0 ? (uint64_t)wall.tv_sec : 0,
    };
}


/* ---- transactions ---- */

void
balances_lock(pthread_mutex_t *mutex, int *died)
{
    int error = pthread_mutex_lock(mutex);

    *died = error == EOWNERDEAD;
    if (error == EOWNERDEAD)
        error = pthread_mutex_consistent(mutex);
    assert(error == 0);
}


static uint64_t
mix(uint64_t sum, const char *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof(word));
    sum = (sum ^ word) * 0xff51afd7ed558ccdull;
    return sum ^ sum >> 32;
}


/* Four chains, which a processor works on at once: the
 * sum was the dearest part of a transaction. */
uint64_t
balances_sum(const struct tenant_copy *copy)
{
    uint64_t a = 0x9e3779b97f4a7c15ull, b = 1, c = 2, d = 3;
    const char *at = (const char *)&copy->balance;
    const char *end = (const char *)&copy->sum;

    for (; end - at >= 32; at += 32) {
        a = mix(a, at);
        b = mix(b, at + 8);
        c = mix(c, at + 16);
        d = mix(d, at + 24);
    }
    for (; at < end; at += 8)
        a = mix(a, at);
    a = mix(a, (const char *)&b);
    a = mix(a, (const char *)&c);
    return mix(a, (const char *)&d);
}


struct tenant_copy *
balances_current(struct tenant_record *tenant)
{
    uint64_t a =
        atomic_load_explicit(&tenant->copies[0].sequence, memory_order_relaxed);
    uint64_t b =
        atomic_load_explicit(&tenant->copies[1].sequence, memory_order_relaxed);

    return &tenant->copies[b > a];
}


void
balances_redo(struct file *file, const struct tenant_copy *copy)
{
    struct lease_body *body;

    if (copy->lease >= LEASES_MAX)
        return;
    body = &file->leases[copy->lease].body;
    /* The ids of a place grow: a later one is of a lease that got the place
     * when this one was over, maybe of another tenant. */
    if (body->id <= copy->body.id)
        *body = copy->body;
}


int
balances_begin(struct axion_balances *b, struct transaction *t, uint32_t tenant,
               uint64_t number)
{
    struct tenant_record *record = &b->file->tenants[tenant];
    struct tenant_copy *current;
    int died;

    balances_lock(&record->mutex, &died);
    current = balances_current(record);
    if (died)
        balances_redo(b->file, current);
    t->tenant = record;
    if (number != 0 && record->number != number) {
        balances_rollback(t);
        return 0;
    }
    memcpy(&t->copy.balance, &current->balance, sizeof(current->balance));
    t->copy.lease = NO_LEASE;
    t->copy.reserved = 0;
    memset(&t->copy.body, 0, sizeof(t->copy.body));
    return 1;
}


int
balances_take_lease(struct axion_balances *b, struct transaction *t,
                    uint32_t index, uint64_t id)
{
    const struct lease_body *body = &b->file->leases[index].body;

    if (body->id != id || body->state == LEASE_FREE)
        return 0;
    t->copy.lease = index;
    t->copy.body = *body;
    return 1;
}


void
balances_commit(struct axion_balances *b, struct transaction *t)
{
    struct tenant_copy *current = balances_current(t->tenant);
    struct tenant_copy *next = current == &t->tenant->copies[0]
                                   ? &t->tenant->copies[1]
                                   : &t->tenant->copies[0];
    uint64_t sequence = current->sequence + 1;

    next->balance = t->copy.balance;
    next->lease = t->copy.lease;
    next->reserved = 0;
    next->body = t->copy.body;
    next->sum = balances_sum(next);
    /* A killed process's stores are in program order for whoever looks
     * next; the release keeps the compiler to it. */
    atomic_store_explicit(&next->sequence, sequence, memory_order_release);
    atomic_signal_fence(memory_order_seq_cst);
    balances_redo(b->file, next);
    pthread_mutex_unlock(&t->tenant->mutex);
}


void
balances_rollback(struct transaction *t)
{
    pthread_mutex_unlock(&t->tenant->mutex);
}


/* ---- the table of tenants ---- */

static int
is_tenant(const struct tenant_record *record, uint64_t number,
          const struct axion_text *name)
{
    return record->number == number && record->name_bytes == name->bytes &&
           memcmp(record->name, name->data, name->bytes) == 0;
}


static uint32_t
probe(struct segment s, uint64_t number, uint32_t i)
{
    return s.first + (uint32_t)(number + i) % s.places;
}


static uint32_t
find_in(const struct file *file, struct segment s, uint64_t number,
        const struct axion_text *name)
{
    uint32_t i;

    for (i = 0; i < PROBES_MAX; i++) {
        uint32_t index = probe(s, number, i);

        if (is_tenant(&file->tenants[index], number, name))
            return index;
        if (file->tenants[index].number == 0)
            break;
    }
    return TENANTS_MAX;
}


/* TENANTS_MAX: it has no record. */
static uint32_t
find_tenant(const struct file *file, uint64_t number,
            const struct axion_text *name)
{
    uint32_t index = TENANTS_MAX, n_places = file->header.n_places;
    struct segment s = balances_first_segment();

    for (; s.first < n_places && index == TENANTS_MAX;
         s = balances_next_segment(s))
        index = find_in(file, s, number, name);
    return index;
}


#define FORGOTTEN_SECONDS (63 * 86400ull) /* no window of it is in force */


static int
is_forgotten(struct tenant_record *record, uint64_t wall_s)
{
    const struct axion_balance *balance = &balances_current(record)->balance;

    return record->used_wall_s + FORGOTTEN_SECONDS < wall_s &&
           balance->active == 0 && balance->waiting == 0;
}


/* Under the header's mutex: the first place that is free or forgotten. */
static uint32_t
make_in(struct axion_balances *b, struct segment s, uint64_t number,
        const struct axion_text *name, uint64_t wall_s)
{
    uint32_t i;

    for (i = 0; i < PROBES_MAX; i++) {
        uint32_t index = probe(s, number, i);
        struct tenant_record *record = &b->file->tenants[index];
        struct transaction t;

        if (record->number != 0 && !is_forgotten(record, wall_s))
            continue;
        (void)balances_begin(b, &t, index, 0);
        if (record->number != 0 && !is_forgotten(record, wall_s)) {
            balances_rollback(&t); /* its tenant came back */
            continue;
        }
        /* Killed in between, we leave a record without a name, which is
         * forgotten already and hides none of those behind it. */
        atomic_store(&record->name_bytes, 0);
        memcpy(record->name, name->data, name->bytes);
        memset(&t.copy.balance, 0, sizeof(t.copy.balance));
        balances_commit(b, &t);
        if (record->number == 0)
            atomic_fetch_add(&b->file->header.n_tenants, 1);
        atomic_store(&record->number, number);
        atomic_store(&record->name_bytes, name->bytes);
        record->used_wall_s = wall_s;
        return index;
    }
    return TENANTS_MAX;
}


/* Under the header's mutex. */
static uint32_t
make_tenant(struct axion_balances *b, uint64_t number,
            const struct axion_text *name, uint64_t wall_s)
{
    struct segment s = balances_first_segment();

    for (;; s = balances_next_segment(s)) {
        uint32_t index;

        if (s.first == b->file->header.n_places && !balances_double_places(b))
            return TENANTS_MAX;
        index = make_in(b, s, number, name, wall_s);
        if (index != TENANTS_MAX)
            return index;
    }
}


static void
lock_names(struct axion_balances *b)
{
    int died;

    balances_lock(&b->file->header.mutex, &died);
    if (died)
        balances_count_tenants(b->file);
}


static uint32_t
tenant_of(struct axion_balances *b, const struct axion_payer *payer,
          uint64_t wall_s)
{
    uint32_t index = find_tenant(b->file, payer->number, &payer->name);

    if (index != TENANTS_MAX || payer->name.bytes > AXION_TENANT_NAME_MAX)
        return index;
    lock_names(b);
    index = find_tenant(b->file, payer->number, &payer->name);
    if (index == TENANTS_MAX)
        index = make_tenant(b, payer->number, &payer->name, wall_s);
    pthread_mutex_unlock(&b->file->header.mutex);
    return index;
}


int
axion_balances_reserve(struct axion_balances *b, uint32_t n_tenants)
{
    uint64_t wanted = n_tenants + n_tenants / 4ull; /* chains stay short */
    int rc = AXION_OK;

    if (wanted > TENANTS_MAX)
        wanted = TENANTS_MAX;
    if (b->file->header.n_places >= wanted)
        return AXION_OK;
    lock_names(b);
    while (rc == AXION_OK && b->file->header.n_places < wanted) {
        if (!balances_double_places(b))
            rc = AXION_ERR_SYSTEM;
    }
    pthread_mutex_unlock(&b->file->header.mutex);
    return rc;
}


/* ---- leases ---- */

/* One that we had lately, which our caches and the file's pages in memory
 * have, or the next one. */
static uint32_t
next_lease(struct axion_balances *b)
{
    if (b->n_recent > 0)
        return b->recent[--b->n_recent];
    return b->next_lease++ % LEASES_MAX;
}


/* A record that is ours alone from now on; 0: all are taken. */
static int
claim(struct axion_balances *b, struct axion_lease *lease)
{
    uint32_t i;

    assert(b->process != 0);
    for (i = 0; i < LEASES_MAX + RECENT_MAX; i++) {
        uint32_t index = next_lease(b);
        struct lease_record *record = &b->file->leases[index];
        uint32_t none = OWNER_NONE;

        if (record->owner != OWNER_NONE ||
            !atomic_compare_exchange_strong(&record->owner, &none, b->process))
            continue;
        atomic_store(&record->engine, 0);
        atomic_store(&record->seen_prompt, 0);
        atomic_store(&record->seen_cached, 0);
        atomic_store(&record->seen_completion, 0);
        lease->index = index;
        lease->id = (atomic_fetch_add(&b->file->header.serial, 1) + 1)
                        << INDEX_BITS |
                    index;
        return 1;
    }
    return 0;
}


static void
unclaim(struct axion_balances *b, struct axion_lease *lease)
{
    atomic_store_explicit(&b->file->leases[lease->index].owner, OWNER_NONE,
                          memory_order_release);
    if (b->n_recent < RECENT_MAX)
        b->recent[b->n_recent++] = lease->index;
    memset(lease, 0, sizeof(*lease));
}


static void
write_body(struct transaction *t, const struct axion_lease *lease,
           enum lease_state state, const struct axion_hold *hold)
{
    t->copy.lease = lease->index;
    t->copy.body = (struct lease_body){
        .id = lease->id, .tenant = lease->tenant, .state = state};
    if (hold != NULL)
        t->copy.body.hold = *hold;
}


/* Not let in now: a place in the queue, or none. */
static void
stay_out(struct transaction *t, const struct axion_limits *limits,
         struct axion_lease *lease, int *keep,
         const struct axion_verdict *verdict)
{
    struct axion_balance *balance = &t->copy.balance;
    int waits = t->copy.lease != NO_LEASE;

    if (verdict->lack) {
        *keep = waits;
        write_body(t, lease, waits ? LEASE_WAITING : LEASE_FREE, NULL);
        return;
    }
    *keep = axion_limits_may_wait(limits, verdict) &&
            (waits || balance->waiting < limits->queue);
    if (*keep && !waits)
        balance->waiting++;
    if (*keep) {
        write_body(t, lease, LEASE_WAITING, NULL);
        return;
    }
    balance->waiting -= waits;
    balance->refused[verdict->kind]++;
    write_body(t, lease, LEASE_FREE, NULL);
}


static int
is_overtaking(const struct transaction *t, const struct axion_limits *limits)
{
    return limits->wait_ms != 0 && t->copy.lease == NO_LEASE &&
           t->copy.balance.waiting > 0;
}


/* So many are under way that the others' would suffer. */
static int
is_hoarding(const struct transaction *t)
{
    return t->copy.lease == NO_LEASE &&
           t->copy.balance.active + t->copy.balance.waiting >= PAYER_LEASES;
}


int
axion_balances_admit(struct axion_balances *b, const struct axion_payer *payer,
                     const struct axion_price *price,
                     const struct axion_limit_time *now, uint64_t wanted,
                     unsigned flags, struct axion_lease *lease,
                     uint64_t *granted, struct axion_verdict *verdict)
{
    int force = (flags & AXION_ADMIT_FORCE) != 0, keep = 1;
    struct axion_balance before;
    struct axion_hold hold;
    struct transaction t;

    if (lease->id == 0) {
        lease->tenant = tenant_of(b, payer, now->wall_s);
        if (lease->tenant == TENANTS_MAX || !claim(b, lease))
            return AXION_ERR_NO_MEMORY;
    }
    if (!balances_begin(b, &t, lease->tenant, payer->number)) {
        unclaim(b, lease);
        return AXION_ERR_NO_MEMORY;
    }
    (void)balances_take_lease(b, &t, lease->index, lease->id);
    t.tenant->used_wall_s = now->wall_s;
    if (is_hoarding(&t)) {
        *verdict = (struct axion_verdict){.kind = AXION_LIMIT_CONCURRENCY,
                                          .limit = PAYER_LEASES};
        t.copy.balance.refused[AXION_LIMIT_CONCURRENCY]++;
        balances_commit(b, &t);
        unclaim(b, lease);
        return AXION_OK;
    }
    axion_shares_set(&t.copy.balance, b->permille);
    before = t.copy.balance;
    axion_limits_admit(&t.copy.balance, payer->limits, price, now, wanted,
                       force, &hold, verdict);
    if (verdict->lack && force)
        verdict->kind = AXION_LIMIT_NONE;
    if (verdict->kind == AXION_LIMIT_NONE && !force &&
        is_overtaking(&t, payer->limits)) {
        t.copy.balance = before;
        *verdict = (struct axion_verdict){.kind = AXION_LIMIT_CONCURRENCY,
                                          .limit = payer->limits->concurrency};
    }
    if (verdict->kind != AXION_LIMIT_NONE && !force) {
        stay_out(&t, payer->limits, lease, &keep, verdict);
    } else {
        if (t.copy.lease != NO_LEASE)
            t.copy.balance.waiting--;
        if (verdict->kind != AXION_LIMIT_NONE)
            t.copy.balance.refused[verdict->kind]++;
        write_body(&t, lease, LEASE_OPEN, &hold);
        *granted = hold.granted;
        verdict->low = axion_shares_low(&t.copy.balance, payer->limits, now);
    }
    balances_commit(b, &t);
    if (!keep)
        unclaim(b, lease);
    return AXION_OK;
}


void
axion_balances_leave(struct axion_balances *b, struct axion_lease *lease,
                     enum axion_limit_kind kind)
{
    struct transaction t;

    (void)balances_begin(b, &t, lease->tenant, 0);
    if (balances_take_lease(b, &t, lease->index, lease->id)) {
        assert(t.copy.body.state == LEASE_WAITING);
        t.copy.balance.waiting--;
        t.copy.balance.refused[kind] += kind != AXION_LIMIT_NONE;
        t.copy.body.state = LEASE_FREE;
    }
    balances_commit(b, &t);
    unclaim(b, lease);
}


void
axion_balances_send(struct axion_balances *b, const struct axion_lease *lease,
                    uint64_t engine)
{
    atomic_store(&b->file->leases[lease->index].engine, engine);
}


void
axion_balances_seen(struct axion_balances *b, const struct axion_lease *lease,
                    uint32_t prompt_tokens, uint32_t cached_tokens,
                    uint32_t completion_tokens)
{
    struct lease_record *record = &b->file->leases[lease->index];

    atomic_store_explicit(&record->seen_prompt, prompt_tokens,
                          memory_order_relaxed);
    atomic_store_explicit(&record->seen_cached, cached_tokens,
                          memory_order_relaxed);
    atomic_store_explicit(&record->seen_completion, completion_tokens,
                          memory_order_relaxed);
}


/* Our own leases are open until we settle them. */
static void
begin_own(struct axion_balances *b, struct transaction *t,
          const struct axion_lease *lease)
{
    int found;

    (void)balances_begin(b, t, lease->tenant, 0);
    found = balances_take_lease(b, t, lease->index, lease->id);
    assert(found && t->copy.body.state == LEASE_OPEN);
}


void
axion_balances_reprice(struct axion_balances *b,
                       const struct axion_limits *limits,
                       const struct axion_price *price,
                       const struct axion_limit_time *now,
                       const struct axion_lease *lease, uint64_t *granted,
                       struct axion_verdict *verdict)
{
    struct transaction t;

    begin_own(b, &t, lease);
    axion_limits_reprice(&t.copy.balance, limits, price, now, &t.copy.body.hold,
                         verdict);
    *granted = t.copy.body.hold.granted;
    balances_commit(b, &t);
}


void
axion_balances_grow(struct axion_balances *b, const struct axion_limits *limits,
                    const struct axion_limit_time *now,
                    const struct axion_lease *lease, uint32_t prompt_tokens,
                    uint64_t completion, uint64_t *granted,
                    struct axion_verdict *verdict)
{
    struct transaction t;

    begin_own(b, &t, lease);
    axion_limits_grow(&t.copy.balance, limits, now, prompt_tokens, completion,
                      &t.copy.body.hold, verdict);
    *granted = t.copy.body.hold.granted;
    if (verdict->kind != AXION_LIMIT_NONE && !verdict->lack)
        t.copy.balance.refused[verdict->kind]++;
    verdict->low = axion_shares_low(&t.copy.balance, limits, now);
    balances_commit(b, &t);
}


void
axion_balances_know(struct axion_balances *b, const struct axion_limits *limits,
                    const struct axion_limit_time *now,
                    const struct axion_lease *lease, uint32_t prompt_tokens)
{
    struct transaction t;

    begin_own(b, &t, lease);
    axion_limits_know(&t.copy.balance, limits, now, prompt_tokens,
                      &t.copy.body.hold);
    balances_commit(b, &t);
}


uint64_t
axion_balances_more(struct axion_balances *b, const struct axion_limits *limits,
                    const struct axion_limit_time *now,
                    const struct axion_lease *lease, uint64_t wanted,
                    struct axion_verdict *verdict)
{
    struct transaction t;
    uint64_t n;

    begin_own(b, &t, lease);
    n = axion_limits_more(&t.copy.balance, limits, now, wanted,
                          &t.copy.body.hold, verdict);
    verdict->low = axion_shares_low(&t.copy.balance, limits, now);
    balances_commit(b, &t);
    return n;
}


uint64_t
axion_balances_settle(struct axion_balances *b,
                      const struct axion_limits *limits,
                      const struct axion_limit_time *now,
                      struct axion_lease *lease, uint32_t prompt_tokens,
                      uint32_t cached_tokens, uint32_t completion_tokens,
                      enum axion_limit_kind cut)
{
    struct transaction t;
    uint64_t cost;

    begin_own(b, &t, lease);
    cost = axion_limits_settle(&t.copy.balance, limits, now, prompt_tokens,
                               cached_tokens, completion_tokens,
                               &t.copy.body.hold);
    t.copy.balance.ended[cut] += cut != AXION_LIMIT_NONE;
    t.copy.body.state = LEASE_FREE;
    balances_commit(b, &t);
    unclaim(b, lease);
    return cost;
}


/* ---- shares ---- */

void
axion_balances_share(struct axion_balances *b, uint32_t permille)
{
    assert(permille <= AXION_SHARE_PERMILLE_MAX);
    b->permille = permille;
}


static int
begin_payer(struct axion_balances *b, struct transaction *t,
            const struct axion_payer *payer)
{
    uint32_t index = find_tenant(b->file, payer->number, &payer->name);

    return index != TENANTS_MAX && balances_begin(b, t, index, payer->number);
}


int
axion_balances_ask(struct axion_balances *b, const struct axion_payer *payer,
                   const struct axion_limit_time *now,
                   const struct axion_demand *demand, uint64_t patience_ns,
                   int give, struct axion_ask *ask)
{
    struct transaction t;
    int send;

    if (!begin_payer(b, &t, payer))
        return 0;
    send = axion_shares_ask(&t.copy.balance, payer->limits, now, demand,
                            patience_ns, give, ask);
    if (send)
        balances_commit(b, &t);
    else
        balances_rollback(&t);
    return send;
}


int
axion_balances_answer(struct axion_balances *b, const struct axion_payer *payer,
                      const struct axion_limit_time *now,
                      const struct axion_ask *ask,
                      const struct axion_answer *answer, int *stale)
{
    struct transaction t;
    int taken;

    *stale = 0;
    if (!begin_payer(b, &t, payer))
        return 0;
    taken = axion_shares_answer(&t.copy.balance, payer->limits, now, ask,
                                answer, stale);
    balances_commit(b, &t);
    return taken;
}


void
axion_balances_unanswered(struct axion_balances *b,
                          const struct axion_payer *payer,
                          const struct axion_ask *ask)
{
    struct transaction t;

    if (!begin_payer(b, &t, payer))
        return;
    axion_shares_failed(&t.copy.balance, ask);
    balances_commit(b, &t);
}


void
axion_balances_alone(struct axion_balances *b, const struct axion_payer *payer,
                     const struct axion_limit_time *now,
                     const struct axion_demand *demand)
{
    struct transaction t;

    if (!begin_payer(b, &t, payer))
        return;
    axion_shares_alone(&t.copy.balance, payer->limits, now, demand);
    balances_commit(b, &t);
}


/* ---- looking ---- */

int
axion_balances_read(struct axion_balances *b, uint64_t number,
                    const struct axion_text *name,
                    struct axion_balance *balance)
{
    uint32_t index = find_tenant(b->file, number, name);
    struct transaction t;

    if (index == TENANTS_MAX || !balances_begin(b, &t, index, number))
        return 0;
    *balance = t.copy.balance;
    balances_rollback(&t);
    return 1;
}


void
axion_balances_each(struct axion_balances *b,
                    void (*visit)(void *context, const struct axion_text *name,
                                  const struct axion_balance *balance),
                    void *context)
{
    char name[AXION_TENANT_NAME_MAX];
    struct axion_text text = {name, 0};
    struct transaction t;
    uint32_t i;

    for (i = 0; i < b->file->header.n_places; i++) {
        struct tenant_record *record = &b->file->tenants[i];

        if (record->number == 0)
            continue;
        (void)balances_begin(b, &t, i, 0);
        text.bytes = record->name_bytes;
        memcpy(name, record->name, sizeof(name));
        balances_rollback(&t);
        if (text.bytes > 0 && text.bytes <= sizeof(name))
            visit(context, &text, &t.copy.balance);
    }
}
