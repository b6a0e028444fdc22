/* One seed from its first request to its last answer; see sim.h. */
#include "tests/sim/sim.h"

#define TURNS       160u
#define RUSH_TURNS  800u
#define AGEING_US   50000u
#define DRAIN_TURNS 20000u


/* Worlds differ: little memory or much, one at a time or many. */
static struct sim_options
options_of(uint64_t seed)
{
    struct sim_chance c = {seed * 0xd6e8feb86659fd93u | 1};
    static const uint32_t blocks[] = {12, 16, 24, 48, 400};
    static const uint32_t running[] = {1, 2, 4, 8, 24};
    static const uint32_t batch[] = {24, 32, 64, 256};
    static const uint32_t windows[] = {5, 32, 50, 96, 200};
    static const uint32_t quanta[] = {AX_SCHED_NO_QUANTUM, 50, 400};
    (void)sim_any(&c, 2);
    uint32_t window = sim_one_in(&c, 3) ? windows[sim_any(&c, 5)] : 0;
    uint32_t part = window != 0 ? 3 : 1; /* of a block of 32 tokens */
    struct sim_options o = {.blocks = part * blocks[sim_any(&c, 5)],
                            .window = window,
                            .running = running[sim_any(&c, 5)],
                            .batch = batch[sim_any(&c, 4)],
                            .queue = 4 + sim_any(&c, 28),
                            .queue_tokens = 400 + sim_any(&c, 4000),
                            .tpot_us = sim_one_in(&c, 2) ? 2000 : 0,
                            .costs = !sim_one_in(&c, 4),
                            .rush = sim_one_in(&c, 16),
                            .fair = sim_one_in(&c, 3)};
    o.quantum = quanta[sim_any(&c, 3)];
    o.deep = sim_one_in(&c, 3);
    o.masks = sim_one_in(&c, 3);
    o.ageing_us = o.fair ? UINT64_MAX / 4 : AGEING_US;
    if (o.rush) {
        o.queue = SIM_SLOTS;
        o.queue_tokens = 1u << 20;
        o.running = o.running > 4 ? 4 : o.running;
    }
    return o;
}


static void
drain(struct sim_world *w)
{
    w->draining = true;
    for (uint32_t turn = 0; !sim_world_idle(w); turn++) {
        assert_true(turn < DRAIN_TURNS); /* somebody starved */
        sim_world_drain(w);
        sim_engine_turn(&w->engine);
        if (turn % 8 == 0) {
            sim_engine_check(&w->engine);
        }
    }
}


void
sim_run(uint64_t seed, struct sim_totals *totals)
{
    static struct sim_world w;
    struct sim_options o = options_of(seed);
    sim_world_open(&w, &o, seed);
    uint32_t turns = o.rush ? RUSH_TURNS : TURNS;
    for (uint32_t turn = 0; turn < turns; turn++) {
        if (o.rush) {
            sim_world_rush(&w);
        }
        for (uint32_t i = sim_any(&w.chance, 4); i > 0; i--) {
            sim_world_act(&w);
        }
        sim_engine_turn(&w.engine);
        sim_engine_check(&w.engine);
        sim_world_drain(&w);
    }
    drain(&w);
    sim_engine_check(&w.engine);
    assert_int_equal(ax_kv_blocks_used(w.engine.kv), 0);
    totals->steps += w.engine.steps;
    totals->preempted += w.engine.preempted;
    totals->gave_way += w.engine.gave_way;
    totals->deaths += w.deaths;
    totals->aged_steps += w.engine.aged_steps;
    totals->bound_drafts += w.engine.bound_drafts;
    totals->masks += w.engine.masks;
    if (w.engine.gap_part_max > totals->gap_part_max) {
        totals->gap_part_max = w.engine.gap_part_max;
    }
    totals->cached += w.engine.cached;
    totals->computed += w.engine.computed;
    if (w.engine.waited_max_us > totals->waited_max_us) {
        totals->waited_max_us = w.engine.waited_max_us;
    }
    sim_world_close(&w);
}
