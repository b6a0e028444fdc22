/*
 * The scheduler's insides, shared by its files: sched.c (life of a sequence,
 * leases, events), compose.c (the next step), order.c (whose prompt is next,
 * deadlines), yield.c (steps that are dropped for another tenant), admit.c
 * (places, KV, preemption), costs.c (what a step costs), tenants.c (virtual
 * token counters) and locality.c (known prefixes first, within a quantum).
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
    uint32_t drafts;     /* of these, behind its last token */
    uint32_t n_known;    /* of its tokens, in the cache when last looked */
    uint32_t n_cached;   /* of the prompt, never computed for it */
    uint32_t n_charged;  /* of the prompt, to its tenant */
    uint32_t n_wasted;   /* thrown away for it, to be charged with it */
    uint64_t charged;    /* its prompt, in the unit of its tenant's counter */
    uint64_t due_us;     /* order within its tenant */
    uint64_t looked_at;  /* the turn that has decided about it */
    uint32_t holds;
    uint32_t class_let_in; /* aged, when it was let in first */
    bool started;
    bool cancelled;
    bool ready;         /* a decode with KV for the step that is composed */
    bool rests;         /* one that sits it out */
    uint32_t to_sample; /* tokens that its entry of the last step may give */
    enum lease_state lease_state;
    uint64_t lease_tokens;
};

struct tenant {
    uint64_t id;
    uint64_t served; /* virtual tokens, see tenants.c for the unit */
    uint32_t weight; /* its share beside others' */
    uint32_t live;   /* sequences */
    uint32_t running;
    uint32_t places;             /* of these, not held; when last counted */
    uint64_t kv_tokens;          /* of its running sequences */
    uint64_t promised;           /* of these, while a fit is tried */
    uint64_t waiting_tokens;     /* not started yet: prompt tokens */
    uint64_t let_in_us[CLASSES]; /* the last time, by priority */
    uint64_t competes;           /* the last turn that saw a prompt of it */
    bool comes;                  /* the turn before did not */
    uint32_t first; /* of its prompts, while one is looked for; or NONE */
    bool known;
};

struct pick {
    uint32_t slot;
    uint64_t name; /* of the block that it begins or goes on with; 0: none */
};

/* Of the step that is composed. */
struct budget {
    uint32_t n_tokens; /* decodes, picks and drafts so far */
    double keys_us;    /* what their keys take, as measured */
    double target_us;  /* that the step may take; 0: no bound */
    double drafts_us;  /* of it, as measured, that prompts leave to drafts */
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
    uint32_t tenants_live; /* with a sequence */
    uint64_t left_served;  /* smallest counter when some competed */
    uint64_t quantum;      /* in the unit of counters, see locality.c */
    uint32_t look_up_next; /* slot, or NONE */
    struct ax_sched_entry *entries; /* [running_max] */
    struct ax_sched_step step;
    struct pick *picks; /* [running_max] prompts of the step */
    uint32_t n_picks;
    uint32_t n_ready; /* decodes of the step */
    struct budget budget;
    uint64_t turn;     /* counts next() */
    uint64_t now_us;   /* of next() */
    bool blocked;      /* the first of the waiting does not fit */
    bool others_end;   /* the step ends a prompt of one without a backlog and
                        * is kept free of backlogs' for it */
    bool others_ended; /* the one before was */
    bool stepping;
    bool cleared;          /* decodes sit the step out for a prompt */
    bool rested;           /* the one before */
    uint64_t shared_at_us; /* one was let in beside others' backlog; 0: never */
    bool yields;           /* the running step is to be dropped */
    bool yielded;          /* the last one was */
    uint32_t yields_to;
    uint64_t yield_credit_us;
    uint64_t preemptions;
    struct ax_sched_cost costs[AX_SCHED_COSTS_MAX];
    uint32_t n_costs;
    double key_us;       /* of an entry, per position before it */
    double key_query_us; /* of each further token of it */
    double slower;       /* than measured, of late */
    double drafts_us;    /* that drafts wanted to add to a step, of late */
    double token_us;     /* of a step with prefill, per token, keys left out;
                          * 0: unknown */
    double finish_us;    /* between two ends of requests; 0: unknown */
    uint64_t finished_at_us;
};

void sched_list_append(struct ax_sched *s, struct list *l, uint32_t slot);
void sched_list_insert(struct ax_sched *s, struct list *l, uint32_t slot,
                       uint32_t before);
void sched_list_remove(struct ax_sched *s, struct list *l, uint32_t slot);
void sched_raise(struct ax_sched *s, uint32_t slot,
                 enum ax_sched_event_kind kind);

/* ---- sched.c ---- */

/* From WAITING or RUNNING to nowhere: lists, KV, tenant; not its events. */
void sched_drop(struct ax_sched *s, uint32_t slot);
/* Held until somebody outside acts, so that its KV and its place are better
 * given away; one that waits for its mask alone is back within a few steps. */
static inline bool
sched_parked(const struct sequence *q)
{
    return (q->holds & ~(uint32_t)AX_HOLD_GRAMMAR) != 0;
}


/* Out of `running`: its KV and what its tenant holds. */
void sched_stop_running(struct ax_sched *s, uint32_t slot);
/* Out of the figures of the queue: it starts, or ends unstarted. */
void sched_leave_queue(struct ax_sched *s, const struct sequence *q);
void sched_lease_check(struct ax_sched *s, uint32_t slot);
/* Of a new sequence of n tokens. */
static inline uint32_t
sched_blocks(const struct ax_sched *s, uint32_t n_tokens)
{
    const struct ax_sched_kv *kv = &s->options.kv;
    uint32_t size = s->options.kv_block_tokens;
    if (kv->needed != NULL) {
        return kv->needed(kv->context, n_tokens);
    }
    return n_tokens / size + (n_tokens % size != 0);
}

/* ---- order.c ---- */

/* Its priority, or above all when it was preempted often enough. */
uint32_t sched_class(const struct ax_sched *s, const struct sequence *q);
/* The same, and one more for each ageing_us of standstill, up to above all. */
uint32_t sched_aged_class(const struct ax_sched *s, const struct sequence *q,
                          uint64_t now_us);
/* When a prompt of n tokens that have to be computed is late. */
uint64_t sched_due_us(const struct ax_sched *s, uint64_t now_us,
                      uint32_t n_tokens);
/* Its tenant's counter, without what a prompt has added that keeps its turn. */
uint64_t sched_served_before(const struct ax_sched *s,
                             const struct sequence *q);
/* The next to get a chunk, running or waiting, or NONE. */
uint32_t sched_best_prompt(struct ax_sched *s, uint64_t now_us);
void sched_expire(struct ax_sched *s, uint64_t now_us);

/* ---- locality.c ---- */

/* What the cache knows of some of the waiting, in turns. */
void sched_look_up_some(struct ax_sched *s);
/* The best one, or one that goes before it with a longer known prefix. */
uint32_t sched_prefer_known(struct ax_sched *s, uint32_t best, uint64_t now_us);

/* ---- yield.c ---- */

/* More prompts of its tenant wait, besides this one. */
bool sched_has_backlog(const struct ax_sched *s, const struct sequence *q);
/* A tenant's only prompt, and no longer than a step. */
bool sched_is_light(const struct ax_sched *s, const struct sequence *q);
/* The first prompt of a step: whether a backlog's decodes sit it out. */
void sched_clear_step(struct ax_sched *s, const struct sequence *q);
/* One is let in: beside others' backlog? */
void sched_note_shared(struct ax_sched *s, const struct sequence *q);
/* One has arrived: whether the running step is dropped for it. */
void sched_consider_yield(struct ax_sched *s, uint32_t slot, uint64_t now_us);
/* The step is over. */
void sched_note_yield(struct ax_sched *s, uint64_t cost_us, bool computed);

/* ---- admit.c ---- */

/* From waiting to running, with KV for all its tokens; false: it waits on. */
bool sched_admit(struct ax_sched *s, uint32_t slot);
/* KV for the first n positions of a running one, from others if need be. */
bool sched_grow(struct ax_sched *s, uint32_t slot, uint32_t n_tokens);

/* ---- costs.c ---- */

/* The step has its decodes, and no prompts yet. */
void sched_budget_open(struct ax_sched *s);
/* It gets n tokens of a prompt, behind so many positions. */
void sched_budget_take(struct ax_sched *s, uint32_t n_tokens,
                       uint32_t position);
/* Nor may it take longer than that. */
void sched_budget_limit(struct ax_sched *s, double target_us);
/* How many it may have. */
uint32_t sched_chunk_budget(const struct ax_sched *s, uint32_t position);
/* The same of up to n drafts, when prompts have theirs. */
uint32_t sched_draft_budget(const struct ax_sched *s, uint32_t n,
                            uint32_t position);
void sched_budget_take_drafts(struct ax_sched *s, uint32_t n,
                              uint32_t position);
/* How long so many decodes may sit out; 0: not at all. */
double sched_rest_us(const struct ax_sched *s, uint32_t n_decodes);
/* What n prompt tokens take, by what is known. */
double sched_prompt_us(const struct ax_sched *s, uint32_t n_tokens);
void sched_learn_cost(struct ax_sched *s, uint64_t cost_us);

/* ---- tenants.c ---- */

/* Index of a tenant, with one more live sequence. */
uint32_t sched_tenant_join(struct ax_sched *s, uint64_t id, uint32_t weight);
void sched_tenant_leave(struct ax_sched *s, uint32_t tenant);
/* Who has a prompt again, after a time without, is owed nothing. */
void sched_lift_tenants(struct ax_sched *s);
/* The prompt's first n positions are computed, or about to be. */
void sched_charge_prompt(struct ax_sched *s, uint32_t slot, uint32_t n);
/* The first n positions are there, thanks to the cache. */
void sched_note_cached(struct ax_sched *s, uint32_t slot, uint32_t n);
void sched_charge_answer(struct ax_sched *s, uint32_t slot, uint32_t n_tokens);

#endif
