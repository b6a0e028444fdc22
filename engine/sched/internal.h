/*
 * The scheduler's insides, shared by its three files: sched.c (life of a
 * sequence, leases, events), compose.c (admission, preemption, the next
 * step) and tenants.c (virtual token counters).
 *
 * Lists are doubly linked by slot number.  `waiting` is in order of arrival;
 * `running` is in order of rank, the best first, so that victims of
 * preemption are found from its end and have no entry in the step yet.
 */
#ifndef AX_SCHED_INTERNAL_H
#define AX_SCHED_INTERNAL_H

#include "engine/sched/sched.h"

#define NONE        UINT32_MAX
#define CLASSES     3u /* low, normal, high */
#define CLASS_ABOVE CLASSES

enum state {
    FREE = 0,
    WAITING,
    RUNNING,
};

enum lease_state {
    LEASE_FINE = 0,
    LEASE_ASKED,
    LEASE_REFUSED,
};

struct list {
    uint32_t first, last, n;
};

struct link {
    uint32_t prev, next;
};

struct sequence {
    enum state state;
    struct link link;       /* in waiting or running */
    struct link event_link; /* in events while events != 0 */
    uint32_t events;        /* 1 << enum ax_sched_event_kind */
    uint64_t arrival;       /* serial number */
    uint64_t arrived_us;
    uint64_t deadline_us;
    uint32_t tenant; /* index */
    uint32_t priority;
    uint32_t preemptions;
    uint32_t n_prompt;
    uint32_t n_tokens;   /* prompt and answer so far */
    uint32_t tokens_max; /* n_tokens at which it ends */
    uint32_t n_computed; /* positions whose KV is there */
    uint32_t in_step;    /* tokens of it in the running step */
    uint32_t holds;
    bool started;
    bool cancelled;
    bool to_sample; /* its entry of the last step sampled */
    enum lease_state lease_state;
    uint64_t lease_tokens;
};

struct tenant {
    uint64_t id;
    uint64_t served; /* virtual tokens */
    uint32_t live;   /* sequences */
    bool known;
};

struct ax_sched {
    struct ax_sched_options options;
    struct sequence *sequences; /* [slots_max] */
    struct list waiting, running, events;
    uint64_t next_arrival;
    uint64_t waiting_tokens; /* not started yet: prompt tokens */
    uint32_t waiting_new;    /* not started yet */
    struct tenant *tenants;  /* [slots_max + 1] */
    uint32_t n_tenants;
    struct ax_sched_entry *entries; /* [running_max] */
    struct ax_sched_step step;
    bool stepping;
    uint64_t preemptions;
    double token_us;  /* of a step with prefill, per token; 0: unknown */
    double finish_us; /* between two ends of requests; 0: unknown */
    uint64_t finished_at_us;
};

void sched_list_append(struct ax_sched *s, struct list *l, uint32_t slot);
void sched_list_insert(struct ax_sched *s, struct list *l, uint32_t slot,
                       uint32_t before);
void sched_list_remove(struct ax_sched *s, struct list *l, uint32_t slot);
void sched_raise(struct ax_sched *s, uint32_t slot,
                 enum ax_sched_event_kind kind);

/* From WAITING or RUNNING to nowhere: lists, KV, tenant; not its events. */
void sched_drop(struct ax_sched *s, uint32_t slot);
void sched_lease_check(struct ax_sched *s, uint32_t slot);
static inline uint32_t
sched_blocks(const struct ax_sched *s, uint32_t n_tokens)
{
    uint32_t size = s->options.kv_block_tokens;
    return n_tokens / size + (n_tokens % size != 0);
}

/* Index of a tenant, with one more live sequence. */
uint32_t sched_tenant_join(struct ax_sched *s, uint64_t id);
void sched_tenant_leave(struct ax_sched *s, uint32_t tenant);
void sched_tenant_charge(struct ax_sched *s, uint32_t tenant,
                         uint64_t virtual_tokens);

#endif
