/*
 * The scheduler: which tokens of which sequences make up the next step.
 *
 * A pure state machine.  It reads no clock, does no I/O, knows no model and
 * no channel: time comes in as arguments, KV blocks are taken through three
 * function pointers, and the same calls give the same answers.  The server
 * drives it between steps, a simulator drives it in tests/sched.
 *
 * A sequence lives in a slot that the caller names (the same number is its
 * KV table and its request).
 *
 *   arrive ─▶ WAITING ─▶ RUNNING ─▶ finish
 *                ▲  preempt  │
 *                └───────────┘
 *
 * WAITING sequences have no KV.  RUNNING ones have KV; their pending tokens
 * (prompt, or prompt and answer after a preemption, or the one token sampled
 * last) go into steps.  A hold keeps a sequence of either state out of steps:
 * PAUSE (the client asked), OUTPUT (its channel is full), LEASE (its tokens
 * are spent and more were asked for).  Held sequences keep their KV while
 * nobody needs it.  GRAMMAR (its mask is being computed) lasts some steps: KV
 * and place stay its own as if it were not held.
 *
 * Order
 *   steps     every decode, then prompt chunks, under batch_tokens_max and
 *             within what decodes may wait (costs.c)
 *   prompts   waiting and half way alike: effective class (priority, one more
 *             for every ageing_us without any of its tenant let in), then
 *             the tenant that was served least (virtual token counters,
 *             tenants.c; with a known prefix a little ahead, locality.c), then
 *             the one that is late first in proportion to its own length
 *             (order.c).
 *             The first waiting one that does not fit blocks those behind it:
 *             large ones do not starve
 *   KV        a running sequence that needs a block takes it from the worst
 *             one: held first, then lowest class, then latest arrival, never
 *             from a better one; one that comes in, from held ones, lower
 *             classes and tenants that have more.  The victim's KV is computed
 *             again later, what the prefix cache has lost of it.  After
 *             preemptions_max it is in a class above all, so the best sequence
 *             always ends and everyone becomes it (admit.c)
 *   lease     prompt and answer tokens are debited as they are made; more is
 *             asked for (LEASE_LOW) before it runs out; at the last token it
 *             waits for the answer, or ends (LEASE_END) if that was no
 *
 * Bounds, checked at every step by tests/sim (bounds.c)
 *   start     a request of class p that is not held starts within
 *                 (1 + a) ((3 - p) ageing_us + S T)
 *             after that time without one of its tenant and class let in it is
 *             above all classes and is served by arrival; a is how many of its
 *             tenant and class are due before it.  T is the longest step, S
 *             the steps that those then ahead need, one after the other: of
 *             each that has run or came before, the tokens left of its answer
 *             and, for its prompt and again for each time it is preempted, at
 *             most 2 ceil(tokens / 4) + 1 chunks.  Steps that failed or were
 *             dropped (yield.c: at most an eighth of the time) come on top, and
 *             those that somebody sits out for his mask
 *   tenants   counters of two that both have prompts waiting differ by at most
 *             max(L, 2 M) + quantum tokens of weight 1 (locality.c), among
 *             requests of one class that age does not raise; so what two get
 *             in any time differs by at most twice that
 *
 *   prompts   whose chunk is cut short while drafts are in the step gets three
 *             quarters of what the decodes alone leave of the step's target,
 *             up to a block: n tokens take at most a third longer beside
 *             streams that draft than beside the same that do not
 *
 * Step protocol: next() composes, extend() may add drafts; while the step runs
 * arrive, cancel, hold, unhold and topup may be called, and finish() of what is
 * not in it (a cancelled sequence of the step is freed at its end); stepped()
 * closes it; then sampled() for every entry that samples, once and once more
 * for each draft that held, or finish() to end one.  Asserts guard this
 * protocol; sizes from outside are checked by arrive().
 */
#ifndef AX_SCHED_SCHED_H
#define AX_SCHED_SCHED_H

#include <stdbool.h>
#include <stdint.h>
#include "shm/errors.h"
#include "shm/wire.h"

struct ax_sched;

enum ax_sched_hold {
    AX_HOLD_PAUSE = 1,
    AX_HOLD_OUTPUT = 2,
    AX_HOLD_LEASE = 4,   /* the scheduler's own */
    AX_HOLD_GRAMMAR = 8, /* what may come next is being computed */
};

struct ax_sched_kv {
    void *context;
    /* KV for the first n_tokens positions: AXION_OK, or KV_EXHAUSTED and
     * nothing was taken. */
    int (*reserve)(void *context, uint32_t slot, uint32_t n_tokens);
    /* Its first n_computed positions may be kept for others. */
    void (*release)(void *context, uint32_t slot, uint32_t n_computed);
    uint32_t (*blocks_free)(void *context);
    /*
     * A prefix cache, all four or none (NULL).  attach: extends the first
     * n_computed positions by what is known of the first n_max, returns how
     * many are computed then.  known: how many of the first n_max are, whole
     * blocks only.  name: of the block at this position of the prompt, 0 when
     * it has none; equal names have equal KV.  alone: blocks that releasing
     * the slot would free.
     */
    uint32_t (*attach)(void *context, uint32_t slot, uint32_t n_computed,
                       uint32_t n_max);
    uint32_t (*known)(void *context, uint32_t slot, uint32_t n_max);
    uint64_t (*name)(void *context, uint32_t slot, uint32_t position);
    uint32_t (*alone)(void *context, uint32_t slot);
    /*
     * Where blocks are not simply kv_block_tokens positions each (sliding
     * windows), both; else NULL.  missing: free blocks that reserve would
     * take.  needed: by a new sequence of so many tokens; of 1, what a running
     * one may want next.
     */
    uint32_t (*missing)(void *context, uint32_t slot, uint32_t n_tokens);
    uint32_t (*needed)(void *context, uint32_t n_tokens);
};

#define AX_SCHED_COSTS_MAX 32u
/* ax_sched_served() of one computed prompt token at weight 1. */
#define AX_SCHED_SERVED_TOKEN 1024u
#define AX_SCHED_NO_QUANTUM   UINT32_MAX

/* A point of T(m): a step of so many tokens takes so long. */
struct ax_sched_cost {
    uint32_t n_tokens;
    uint32_t us;
};

/* Every field must be set, but for those with a default. */
struct ax_sched_options {
    uint32_t slots_max;
    uint32_t running_max;      /* sequences in one step */
    uint32_t batch_tokens_max; /* tokens in one step, >= running_max */
    uint32_t kv_blocks_total;
    uint32_t kv_block_tokens;
    uint32_t queue_max;        /* waiting requests */
    uint64_t queue_tokens_max; /* their prompt tokens together */
    uint32_t preemptions_max;  /* 0: 3 */
    uint32_t lease_low_tokens; /* 0: 32 */
    uint32_t lease_ask_tokens; /* 0: 256, the most asked for at once */
    /* How far a tenant with a known prefix may be ahead; 0: 2048. */
    uint32_t prefix_quantum_tokens;
    uint64_t ageing_us; /* 0: 10 s */
    uint64_t tpot_us;   /* 0: 1.7 times a step of the decodes alone */
    struct ax_sched_kv kv;
};

struct ax_sched_request {
    uint64_t tenant;
    uint32_t priority;      /* 0 low, 1 normal, 2 high */
    uint32_t prompt_tokens; /* > 0 */
    uint32_t max_tokens;    /* > 0 */
    uint32_t cached_tokens; /* of the prompt, as far as is known; fewer */
    uint32_t weight;        /* of the tenant beside others; 0: 1 */
    uint64_t lease_tokens;  /* AXION_LEASE_UNLIMITED */
    uint64_t deadline_us;   /* for its first token; 0: none */
};

struct ax_sched_entry {
    uint32_t slot;
    uint32_t position; /* of the first token, 0-based in the sequence */
    uint32_t n_tokens; /* drafts included */
    uint32_t n_drafts; /* behind the sequence's last token */
    bool samples; /* the sequence's last token is in it: that one needs logits,
                   * and so does every draft */
};

struct ax_sched_step {
    const struct ax_sched_entry *entries;
    uint32_t n_entries;
    uint32_t n_tokens;
    uint32_t n_drafts;
    uint32_t n_samples; /* rows of logits: decodes, last chunks, drafts */
};

enum ax_sched_event_kind {
    AX_SCHED_STARTED = 1, /* first time in RUNNING */
    AX_SCHED_PREEMPTED = 2,
    AX_SCHED_LEASE_LOW = 3, /* spent, left, wanted */
    AX_SCHED_LEASE_END = 4, /* held for a lease, refused: finish() it */
    AX_SCHED_DEADLINE = 5,  /* was waiting too long: the slot is free */
    AX_SCHED_CANCELLED = 6, /* cancelled during a step: the slot is free */
};

struct ax_sched_event {
    enum ax_sched_event_kind kind;
    uint32_t slot;
    uint64_t spent, left, wanted;
};

struct ax_sched_counts {
    uint32_t running; /* have KV, not held */
    uint32_t waiting; /* not held */
    uint32_t parked;  /* held, in either state */
    uint64_t waiting_tokens;
    uint64_t preemptions;
};

/* BAD_OPTION when sizes contradict each other, NO_MEMORY. */
int ax_sched_open(struct ax_sched **out,
                  const struct ax_sched_options *options);
void ax_sched_close(struct ax_sched *sched);

/* T(m) as measured, in ascending order; none: no bound but batch_tokens_max.
 * BAD_OPTION: too many, or not in order. */
int ax_sched_set_costs(struct ax_sched *sched,
                       const struct ax_sched_cost *costs, uint32_t n);
/* us that an entry takes for each position before it, and each of its further
 * tokens as well; as T(m), without what is learnt later.  Without it: 0.
 * BAD_OPTION: not a time. */
int ax_sched_set_key_costs(struct ax_sched *sched, double key_us,
                           double key_query_us);
/* What a step of n tokens is expected to take, keys left out; 0: unknown. */
double ax_sched_step_us(const struct ax_sched *sched, uint32_t n_tokens);

struct ax_sched_arrival {
    uint32_t queue_position; /* 0: next */
    uint32_t retry_after_ms; /* on QUEUE_FULL and DEADLINE: an estimate */
};

/*
 * A request with a free slot.  AXION_OK: it waits.  Refused: INVALID_REQUEST
 * (a zero count), LEASE_TOO_SMALL, KV_EXHAUSTED (could never fit), QUEUE_FULL,
 * DEADLINE (by the estimate it cannot start in time).
 */
int ax_sched_arrive(struct ax_sched *sched, uint32_t slot,
                    const struct ax_sched_request *request, uint64_t now_us,
                    struct ax_sched_arrival *arrival);

/* AXION_OK: the slot and its KV are free.  AXION_AGAIN: it is in the running
 * step, CANCELLED comes with stepped(). */
int ax_sched_cancel(struct ax_sched *sched, uint32_t slot);

void ax_sched_hold(struct ax_sched *sched, uint32_t slot,
                   enum ax_sched_hold why);
void ax_sched_unhold(struct ax_sched *sched, uint32_t slot,
                     enum ax_sched_hold why);
/* The answer to LEASE_LOW, or a gift; 0: refused. */
void ax_sched_topup(struct ax_sched *sched, uint32_t slot, uint64_t tokens);

/* Valid until stepped(); no entries: nothing to do now. */
const struct ax_sched_step *ax_sched_next(struct ax_sched *sched,
                                          uint64_t now_us);
/*
 * Lengthens a decode of the step that next() composed, entry `index`, by up
 * to n drafts; returns how many it got.  They are bounded by the step's
 * tokens, by what the sequence may still say (so that all of them could be
 * accepted within its lease), by what prompts leave of the step's target, and
 * by KV blocks that are free: drafts preempt nobody, and those of a backlog do
 * not make a step longer that ends another tenant's prompt.  Once per entry.
 */
uint32_t ax_sched_extend(struct ax_sched *sched, uint32_t index, uint32_t n);
/* What drafts may add to that step, us as T(m); HUGE_VAL where no prompt is in
 * it: no bound but those above. */
double ax_sched_draft_room_us(const struct ax_sched *sched);
/* What the drafts that pay would have added, had there been room: steps with
 * prompts leave room for about what was wanted of late, a quarter of what the
 * decodes leave at most. */
void ax_sched_want_drafts(struct ax_sched *sched, double us);
/* Every sequence of the running step has been cancelled, or it gives way to
 * another tenant (yield.c): abort it. */
bool ax_sched_abandoned(const struct ax_sched *sched);
/* The step is over and took cost_us; computed false: aborted, its positions
 * are computed again. */
void ax_sched_stepped(struct ax_sched *sched, uint64_t cost_us, bool computed);

/* The sequence got its next token; the one before it was computed, as a
 * draft or not.  0: go on; or the reason to finish() it: AXION_FINISH_LENGTH,
 * AXION_FINISH_LEASE. */
unsigned ax_sched_sampled(struct ax_sched *sched, uint32_t slot);
/* It is over, whatever its state (not during its step); now_us feeds the
 * estimate of waiting times. */
void ax_sched_finish(struct ax_sched *sched, uint32_t slot, uint64_t now_us);

/* Pops the next event: AXION_OK, AXION_AGAIN when there is none. */
int ax_sched_event(struct ax_sched *sched, struct ax_sched_event *event);

/* Something can go into a step. */
bool ax_sched_runnable(const struct ax_sched *sched);
/* The next deadline among the waiting; UINT64_MAX: none. */
uint64_t ax_sched_wakeup_us(const struct ax_sched *sched);
void ax_sched_counts(const struct ax_sched *sched,
                     struct ax_sched_counts *counts);

/* Of one tenant: its virtual token counter. */
uint64_t ax_sched_served(const struct ax_sched *sched, uint64_t tenant);
/* Of one sequence: prompt and answer tokens so far, times preempted, prompt
 * tokens that were never computed for it. */
uint32_t ax_sched_tokens(const struct ax_sched *sched, uint32_t slot);
uint32_t ax_sched_preemptions(const struct ax_sched *sched, uint32_t slot);
uint32_t ax_sched_cached(const struct ax_sched *sched, uint32_t slot);
/* How long one more request of n prompt tokens would wait, by the rates seen
 * so far. */
uint32_t ax_sched_retry_after_ms(const struct ax_sched *sched,
                                 uint32_t prompt_tokens);

#endif
