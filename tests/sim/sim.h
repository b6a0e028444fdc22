/*
 * The engine without a model: the real scheduler, the real KV pool with its
 * prefix cache and the real ring, driven by a virtual clock.
 *
 * The model is a function.  What it "computes" for a position is a number made
 * of the number before it, the token and whose block it is, and it reads the
 * number before it from the block, as attention reads keys.  In some worlds two
 * more layers see only a window: they hold the same numbers, and every one
 * that the window shows must be there.  The next token
 * follows from the last number.  So a client, which knows its own prompt, can
 * tell every token that it must get, and a block that was lost, written twice
 * or found by somebody else is a wrong answer.
 *
 * Time is a number too: a step costs what a table says, with some noise.  All
 * choices come from one seed, which reproduces a run.
 */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "engine/kv/names.h"
#include "engine/sched/sched.h"
#include "shm/channel.h"
#include "shm/client.h"

#define SIM_SLOTS    40u
#define SIM_GATEWAYS 3u
#define SIM_STREAMS  12u /* of one gateway */
#define SIM_CTX      512u
#define SIM_CHAIN    (SIM_CTX / AX_KV_BLOCK_TOKENS)
#define SIM_GROUPS   3u /* at most: full attention, and two for a window */
#define SIM_SHARED   2u /* blocks of the declared prefix */
#define SIM_TENANTS  4u
#define SIM_VOCAB    50000u
#define SIM_OFTEN    3u /* preemptions that put one above all */
#define SIM_TOKEN_US 40u
#define SIM_KEY_US   0.5 /* of a token, for each position before it */

/* The payload of a SUBMIT. */
struct sim_request {
    uint64_t tenant;
    uint64_t deadline_us; /* from arrival; 0: none */
    uint32_t weight, priority, max_tokens, n_prompt;
    uint32_t shared;       /* it begins with the declared prefix */
    uint32_t always_known; /* the same text again and again */
    int32_t prompt[SIM_CTX];
};

/* ---- the model ---- */

uint64_t sim_value(uint64_t before, int32_t token, uint64_t realm);
int32_t sim_token(uint64_t value);
/* Whose position p of a request is: 0, all tenants', in the prefix. */
uint64_t sim_realm(const struct sim_request *r, uint32_t position);

/* ---- chance ---- */

struct sim_chance {
    uint64_t state;
};

uint32_t sim_any(struct sim_chance *c, uint32_t below);
bool sim_one_in(struct sim_chance *c, uint32_t n);

/* ---- the engine ---- */

struct sim_slot {
    bool live, told; /* told: DONE or ERROR was said, nothing more is */
    bool held;       /* for output */
    bool masked;     /* what it may say next is being computed */
    uint32_t slot, gateway;
    axion_stream_id id;
    struct sim_request request;
    int32_t tokens[SIM_CTX];
    uint32_t n_tokens;
    uint64_t lease, arrived_us, arrival;
    bool says;      /* tokens, since it has KV */
    bool goes_on;   /* it has run since before the step was composed */
    bool disturbed; /* paused, or its output or lease was: it may wait */
    bool started;
    bool above;          /* all classes, by age */
    uint64_t steps_left; /* until it must have started, then */
    uint32_t passed;     /* how many went before it, then */
    struct ax_kv_sequence kv;
    struct ax_kv_chain chain;
    struct ax_kv_name names[SIM_CHAIN];
    uint32_t blocks[SIM_GROUPS * SIM_CHAIN];
};

struct sim_options {
    uint32_t blocks, running, batch, queue;
    uint32_t window; /* of two of three layers; 0: one layer that sees all */
    uint64_t queue_tokens, tpot_us, ageing_us;
    uint32_t quantum; /* as the scheduler's */
    bool costs;       /* T(m) is given to the scheduler */
    bool deep;        /* keys cost, too */
    bool rush;        /* everybody asks again at once, short things, and all
                       * but the first gateway with the highest class */
    bool fair;        /* one class and no ageing */
    bool masks;       /* some wait for their grammar now and then */
};

struct sim_engine {
    struct sim_options options;
    struct sim_chance chance;
    uint64_t now_us;
    uint64_t n_arrivals;
    uint32_t n_layer;
    uint32_t lacks;    /* slot that has just found no block, or SIM_SLOTS */
    uint32_t gave;     /* the one for which another has just given way */
    bool gave_by_rank; /* its rank is the better one */
    struct ax_sched *sched;
    struct ax_kv *kv;
    struct ax_kv_key key;
    struct axion_channel *channels[SIM_GATEWAYS];
    struct sim_slot slots[SIM_SLOTS];
    uint64_t let_in_us[SIM_TENANTS][3];    /* the last time, by class */
    void (*between_layers)(void *context); /* what clients do meanwhile */
    void *context;
    /* figures */
    uint64_t steps, computed, cached, preempted, ended, refused, cancelled,
        expired, waited_max_us, step_max_us, gave_way, aged_steps, gap_part_max,
        bound_drafts, masks;
};

void sim_engine_open(struct sim_engine *e, const struct sim_options *o,
                     uint64_t seed);
void sim_engine_close(struct sim_engine *e);
/* Commands, one step, what came out of it; false: nothing to compute. */
bool sim_engine_turn(struct sim_engine *e);
/* A gateway that was opened, or that died. */
void sim_engine_connect(struct sim_engine *e, uint32_t gateway, int fd);
void sim_engine_check(struct sim_engine *e);
/* Somebody sits out until his grammar's mask is there, and keeps KV and place:
 * others may have to wait for him. */
bool sim_engine_waits_for_mask(const struct sim_engine *e);
/* What a step of m tokens takes, without noise and keys. */
uint64_t sim_cost_us(uint32_t n_tokens);
/* What the keys before so many of its tokens add, in deep worlds. */
uint64_t sim_keys_us(const struct sim_engine *e, uint32_t position,
                     uint32_t n_tokens);

/* ---- bounds.c ---- */

void sim_bounds_started(struct sim_engine *e, struct sim_slot *s);
void sim_bounds_preempted(struct sim_engine *e, const struct sim_slot *s);
/* The next step is known; it was computed. */
void sim_bounds_composed(struct sim_engine *e);
void sim_bounds_computed(struct sim_engine *e);
void sim_bounds_fair(struct sim_engine *e);
/* The step has its drafts. */
void sim_bounds_drafted(struct sim_engine *e, const struct ax_sched_step *step);

/* ---- gateways ---- */

struct sim_stream {
    bool open, paused, cancelled, asked;
    axion_stream_id id;
    struct sim_request request;
    uint64_t lease;
    uint64_t value; /* of the last position that the client knows */
    uint32_t n_got;
};

struct sim_gateway {
    struct axion_client *client;
    bool reading;
    struct sim_stream streams[SIM_STREAMS];
};

struct sim_world {
    struct sim_engine engine;
    struct sim_gateway gateways[SIM_GATEWAYS];
    struct sim_chance chance;
    bool draining; /* nobody asks for more, everybody reads */
    uint64_t asked, answered, deaths, tokens;
};

void sim_world_open(struct sim_world *w, const struct sim_options *o,
                    uint64_t seed);
void sim_world_close(struct sim_world *w);
/* Something that a client does, or several. */
void sim_world_act(struct sim_world *w);
/* All that have nothing open ask. */
void sim_world_rush(struct sim_world *w);
/* Takes what has come and answers. */
void sim_world_drain(struct sim_world *w);
bool sim_world_idle(const struct sim_world *w);

/* ---- a whole run ---- */

struct sim_totals {
    uint64_t steps, preempted, gave_way, deaths, cached, computed;
    uint64_t aged_steps;   /* waited through above all classes */
    uint64_t gap_part_max; /* per cent of the bound */
    uint64_t bound_drafts; /* beside prompts that waited for more of a step */
    uint64_t masks;        /* waits for one */
    uint64_t waited_max_us;
};

/* All checks; the figures are added up. */
void sim_run(uint64_t seed, struct sim_totals *totals);

#endif
