/*
 * The engine of the simulator: what engine/server does between the ring, the
 * scheduler and the KV pool, with a function for a model.  See sim.h.
 */
#include <stdlib.h>
#include <string.h>
#include "tests/sim/sim.h"

/* Longer than this nobody waits who may go on: the classes' age, then all
 * that can be before him, computed as often as preemption allows. */
#define WAIT_MAX_US 3000000u


/* ---- the model ---- */

uint64_t
sim_value(uint64_t before, int32_t token, uint64_t realm)
{
    uint64_t x = before ^ (uint64_t)(uint32_t)token * 0x9e3779b97f4a7c15u ^
                 realm * 0xbf58476d1ce4e5b9u;
    x ^= x >> 29;
    x *= 0x94d049bb133111ebu;
    return x ^ x >> 32;
}


int32_t
sim_token(uint64_t value)
{
    return (int32_t)(value % SIM_VOCAB);
}


uint64_t
sim_realm(const struct sim_request *r, uint32_t position)
{
    return r->shared && position < SIM_SHARED * AX_KV_BLOCK_TOKENS ? 0
                                                                   : r->tenant;
}


uint64_t
sim_cost_us(uint32_t n_tokens)
{
    return 400 + SIM_TOKEN_US * n_tokens;
}


uint64_t
sim_keys_us(const struct sim_engine *e, uint32_t position, uint32_t n_tokens)
{
    return e->options.deep ? (uint64_t)(SIM_KEY_US * position * n_tokens) : 0;
}


/* ---- chance ---- */

uint32_t
sim_any(struct sim_chance *c, uint32_t below)
{
    c->state ^= c->state << 13;
    c->state ^= c->state >> 7;
    c->state ^= c->state << 17;
    return (uint32_t)((c->state >> 11) % below);
}


bool
sim_one_in(struct sim_chance *c, uint32_t n)
{
    return sim_any(c, n) == 0;
}


/* ---- KV ---- */

static uint64_t *
value_in(const struct sim_engine *e, const struct sim_slot *s, uint32_t layer,
         uint32_t p)
{
    uint32_t group = ax_kv_group(e->kv, layer);
    uint32_t block = s->blocks[group * SIM_CHAIN + p / AX_KV_BLOCK_TOKENS];
    char *at =
        (char *)ax_kv_layer(e->kv, layer) + block * ax_kv_block_bytes(e->kv);
    return (uint64_t *)(void *)at + p % AX_KV_BLOCK_TOKENS;
}


static uint64_t *
value_at(const struct sim_engine *e, const struct sim_slot *s, uint32_t p)
{
    return value_in(e, s, 0, p);
}


static int
kv_reserve(void *context, uint32_t slot, uint32_t n_tokens)
{
    struct sim_engine *e = context;
    if (e->gave == slot) { /* so this one needed the block */
        assert_true(e->gave_by_rank);
        e->gave_way++;
    }
    int rc = ax_kv_reserve(e->kv, &e->slots[slot].kv, n_tokens);
    e->lacks = rc == AXION_OK ? SIM_SLOTS : slot;
    e->gave = SIM_SLOTS;
    return rc;
}


static bool
ranks_before(const struct sim_engine *e, const struct sim_slot *a,
             const struct sim_slot *b)
{
    bool often_a = ax_sched_preemptions(e->sched, a->slot) >= SIM_OFTEN;
    bool often_b = ax_sched_preemptions(e->sched, b->slot) >= SIM_OFTEN;
    if (often_a != often_b) {
        return often_a;
    }
    return !often_a && a->request.priority != b->request.priority
               ? a->request.priority > b->request.priority
               : a->arrival < b->arrival;
}


/*
 * Who runs and needs a block takes it from nobody that ranks before it, but
 * from one that is held.  For whom this one gives way shows next: who needed a
 * block tries again, who comes in looks what is free.
 */
static void
note_victim(struct sim_engine *e, const struct sim_slot *victim)
{
    const struct sim_slot *taker = &e->slots[e->lacks];
    if (e->lacks < SIM_SLOTS && taker != victim && taker->goes_on &&
        !victim->disturbed) {
        e->gave = e->lacks;
        e->gave_by_rank = ranks_before(e, taker, victim);
    }
    e->lacks = SIM_SLOTS;
}


static void
kv_release(void *context, uint32_t slot, uint32_t n_computed)
{
    struct sim_engine *e = context;
    struct sim_slot *s = &e->slots[slot];
    note_victim(e, s);
    s->goes_on = s->says = false;
    ax_kv_chain_extend(&s->chain, s->tokens, n_computed);
    ax_kv_retire(e->kv, &s->kv, &s->chain, s->tokens, n_computed);
}


static uint32_t
kv_free(void *context)
{
    struct sim_engine *e = context;
    e->gave = SIM_SLOTS;
    return ax_kv_blocks_free(e->kv);
}


static uint32_t
kv_attach(void *context, uint32_t slot, uint32_t n_computed, uint32_t n_max)
{
    struct sim_engine *e = context;
    struct sim_slot *s = &e->slots[slot];
    ax_kv_chain_extend(&s->chain, s->tokens, n_max);
    return ax_kv_attach(e->kv, &s->kv, &s->chain, s->tokens, n_computed, n_max);
}


static uint32_t
kv_known(void *context, uint32_t slot, uint32_t n_max)
{
    struct sim_engine *e = context;
    struct sim_slot *s = &e->slots[slot];
    return ax_kv_known(e->kv, &s->chain, s->tokens, n_max);
}


static uint64_t
kv_name(void *context, uint32_t slot, uint32_t position)
{
    struct sim_engine *e = context;
    const struct ax_kv_chain *chain = &e->slots[slot].chain;
    uint32_t block = position / AX_KV_BLOCK_TOKENS;
    return block < chain->n ? chain->names[block].word[0] | 1 : 0;
}


static uint32_t
kv_alone(void *context, uint32_t slot)
{
    struct sim_engine *e = context;
    return ax_kv_alone(e->kv, &e->slots[slot].kv);
}


static uint32_t
kv_missing(void *context, uint32_t slot, uint32_t n_tokens)
{
    struct sim_engine *e = context;
    return ax_kv_missing(e->kv, &e->slots[slot].kv, n_tokens);
}


static uint32_t
kv_needed(void *context, uint32_t n_tokens)
{
    struct sim_engine *e = context;
    return ax_kv_needed(e->kv, n_tokens);
}


/* ---- open, close ---- */

void
sim_engine_open(struct sim_engine *e, const struct sim_options *o,
                uint64_t seed)
{
    uint32_t windows[3] = {0, o->window, o->window};
    struct ax_kv_shape shape = {.n_layer = o->window != 0 ? 3 : 1,
                                .n_head_kv = 1,
                                .head_dim = 32,
                                .type = AXK_KV_F16,
                                .windows = windows,
                                .step_tokens_max = o->batch};
    size_t bytes = axk_kv_block_bytes(AXK_KV_F16, 1, 32) * o->blocks;
    *e = (struct sim_engine){.options = *o,
                             .now_us = 1,
                             .n_layer = shape.n_layer,
                             .lacks = SIM_SLOTS,
                             .gave = SIM_SLOTS};
    e->chance.state = seed * 0x9e3779b97f4a7c15u + 1;
    memcpy(e->key.bytes, &seed, sizeof(seed)); /* a seed reproduces a run */
    assert_int_equal(ax_kv_open(&e->kv, &shape, bytes, NULL), AXION_OK);
    assert_true(ax_kv_block_bytes(e->kv) >= 8 * AX_KV_BLOCK_TOKENS);
    assert_int_equal(ax_kv_groups(e->kv), shape.n_layer);
    struct ax_sched_options options = {
        .slots_max = SIM_SLOTS,
        .running_max = o->running,
        .batch_tokens_max = o->batch,
        .kv_blocks_total = ax_kv_blocks_total(e->kv),
        .kv_block_tokens = AX_KV_BLOCK_TOKENS,
        .queue_max = o->queue,
        .queue_tokens_max = o->queue_tokens,
        .lease_low_tokens = 4,
        .lease_ask_tokens = 16,
        .ageing_us = o->ageing_us,
        .prefix_quantum_tokens = o->quantum,
        .preemptions_max = SIM_OFTEN,
        .tpot_us = o->tpot_us,
        .kv = {.context = e,
               .reserve = kv_reserve,
               .release = kv_release,
               .blocks_free = kv_free,
               .attach = kv_attach,
               .known = kv_known,
               .name = kv_name,
               .alone = kv_alone,
               .missing = kv_missing,
               .needed = kv_needed},
    };
    assert_int_equal(ax_sched_open(&e->sched, &options), AXION_OK);
    if (o->costs) {
        struct ax_sched_cost costs[10];
        for (uint32_t i = 0; i < 10; i++) {
            costs[i] =
                (struct ax_sched_cost){1u << i, (uint32_t)sim_cost_us(1u << i)};
        }
        assert_int_equal(ax_sched_set_costs(e->sched, costs, 10), AXION_OK);
        assert_int_equal(ax_sched_set_key_costs(e->sched, SIM_KEY_US * o->deep,
                                                SIM_KEY_US * o->deep),
                         AXION_OK);
    }
    for (uint32_t i = 0; i < SIM_SLOTS; i++) {
        e->slots[i].slot = i;
        e->slots[i].kv.blocks = e->slots[i].blocks;
        e->slots[i].kv.blocks_max = SIM_CHAIN;
        e->slots[i].chain.names = e->slots[i].names;
    }
}


void
sim_engine_close(struct sim_engine *e)
{
    for (uint32_t i = 0; i < SIM_GATEWAYS; i++) {
        axion_channel_close(e->channels[i]);
    }
    ax_sched_close(e->sched);
    ax_kv_close(e->kv);
}


void
sim_engine_connect(struct sim_engine *e, uint32_t gateway, int fd)
{
    struct axion_channel_options o = {.streams_max = SIM_STREAMS,
                                      .payload_bytes_max = 16384,
                                      .stream_buffer_bytes = 512};
    assert_null(e->channels[gateway]);
    assert_int_equal(axion_channel_open(&e->channels[gateway], fd, &o),
                     AXION_OK);
    assert_int_equal(axion_channel_service(e->channels[gateway]), AXION_OK);
}


/* ---- ends ---- */

static void
free_slot(struct sim_engine *e, struct sim_slot *s)
{
    assert_true(s->live && s->kv.n_blocks == 0);
    e->cached += ax_sched_cached(e->sched, s->slot);
    s->live = false;
}


static void
say_done(struct sim_engine *e, struct sim_slot *s, unsigned reason)
{
    struct axion_cq_done done = {
        .reason = reason,
        .prompt_tokens = s->request.n_prompt,
        .cached_tokens = ax_sched_cached(e->sched, s->slot),
        .completion_tokens = s->n_tokens - s->request.n_prompt,
        .preemptions = ax_sched_preemptions(e->sched, s->slot),
    };
    axion_channel_done(e->channels[s->gateway], s->id, &done);
    s->told = true;
}


static void
finish(struct sim_engine *e, struct sim_slot *s, unsigned reason)
{
    say_done(e, s, reason);
    ax_sched_finish(e->sched, s->slot, e->now_us);
    e->ended++;
    free_slot(e, s);
}


static void
cancel(struct sim_engine *e, struct sim_slot *s)
{
    s->told = true;
    e->cancelled++;
    if (ax_sched_cancel(e->sched, s->slot) == AXION_OK) {
        free_slot(e, s);
    }
}


static void
take_events(struct sim_engine *e)
{
    struct ax_sched_event event;
    while (ax_sched_event(e->sched, &event) == AXION_OK) {
        struct sim_slot *s = &e->slots[event.slot];
        assert_true(s->live);
        switch (event.kind) {
        case AX_SCHED_STARTED:
            sim_bounds_started(e, s);
            s->started = true;
            assert_true(s->request.deadline_us == 0 ||
                        e->now_us < s->arrived_us + s->request.deadline_us);
            break;
        case AX_SCHED_PREEMPTED:
            e->preempted++;
            sim_bounds_preempted(e, s);
            break;
        case AX_SCHED_LEASE_LOW: {
            struct axion_cq_lease_low low = {
                event.spent, event.left, event.wanted, {0}};
            assert_int_equal(event.spent, s->n_tokens);
            assert_int_equal(event.left, s->lease - s->n_tokens);
            axion_channel_lease_low(e->channels[s->gateway], s->id, &low);
            s->disturbed = true;
            break;
        }
        case AX_SCHED_LEASE_END:
            finish(e, s, AXION_FINISH_LEASE);
            break;
        case AX_SCHED_DEADLINE:
            axion_channel_error(e->channels[s->gateway], s->id,
                                AXION_ERR_DEADLINE, 0, NULL);
            s->told = true;
            e->expired++;
            free_slot(e, s);
            break;
        case AX_SCHED_CANCELLED:
            free_slot(e, s);
            break;
        }
    }
}


/* ---- commands ---- */

static void
refuse(struct sim_engine *e, uint32_t gateway, axion_stream_id id, int error,
       uint32_t retry_ms)
{
    e->refused++;
    axion_channel_error(e->channels[gateway], id, error, retry_ms, NULL);
}


/* Its next step waits for a grammar's mask, for some turns. */
static void
want_mask(struct sim_engine *e, struct sim_slot *s)
{
    if (e->options.masks && !s->masked && sim_one_in(&e->chance, 6)) {
        ax_sched_hold(e->sched, s->slot, AX_HOLD_GRAMMAR);
        s->masked = true;
        e->masks++;
    }
}


static void
submit(struct sim_engine *e, uint32_t gateway, const struct axion_command *c)
{
    struct sim_slot *s = e->slots;
    while (s < e->slots + SIM_SLOTS && s->live) {
        s++;
    }
    if (s == e->slots + SIM_SLOTS) {
        refuse(e, gateway, c->id, AXION_ERR_QUEUE_FULL, 1000);
        return;
    }
    assert_int_equal(c->payload_bytes, sizeof(s->request));
    memcpy(&s->request, c->payload, sizeof(s->request));
    const struct sim_request *r = &s->request;
    uint8_t salt[16] = {0};
    memcpy(salt, &r->tenant, sizeof(r->tenant));
    memcpy(s->tokens, r->prompt, r->n_prompt * sizeof(*s->tokens));
    s->n_tokens = r->n_prompt;
    ax_kv_chain_begin(&s->chain, &e->key, salt, r->tenant,
                      r->shared ? SIM_SHARED : 0);
    ax_kv_chain_extend(&s->chain, s->tokens, s->n_tokens);
    struct ax_sched_request request = {
        .tenant = r->tenant,
        .priority = r->priority,
        .weight = r->weight,
        .prompt_tokens = r->n_prompt,
        .max_tokens = r->max_tokens,
        .cached_tokens =
            ax_kv_known(e->kv, &s->chain, s->tokens, r->n_prompt - 1),
        .lease_tokens = c->lease_tokens,
        .deadline_us = r->deadline_us != 0 ? e->now_us + r->deadline_us : 0,
    };
    struct ax_sched_arrival arrival;
    int rc = ax_sched_arrive(e->sched, s->slot, &request, e->now_us, &arrival);
    if (rc != AXION_OK) {
        refuse(e, gateway, c->id, rc, arrival.retry_after_ms);
        return;
    }
    struct axion_cq_accepted accepted = {
        .prompt_tokens = r->n_prompt, .cached_tokens = request.cached_tokens};
    axion_channel_accepted(e->channels[gateway], c->id, &accepted);
    axion_channel_set_user(e->channels[gateway], c->id, s);
    s->live = true;
    s->told = s->held = s->disturbed = s->started = s->above = false;
    s->passed = 0;
    s->gateway = gateway;
    s->id = c->id;
    s->lease = c->lease_tokens;
    s->arrived_us = e->now_us;
    s->arrival = e->n_arrivals++;
    s->masked = false;
    want_mask(e, s);
    s->disturbed |= s->masked;
}


static void
obey(struct sim_engine *e, uint32_t gateway, const struct axion_command *c)
{
    if (c->op == AXION_SQ_SUBMIT) {
        submit(e, gateway, c);
        return;
    }
    struct sim_slot *s = axion_channel_user(e->channels[gateway], c->id);
    s->disturbed = true;
    switch (c->op) {
    case AXION_SQ_CANCEL:
        say_done(e, s, AXION_FINISH_CANCELLED);
        cancel(e, s);
        break;
    case AXION_SQ_PAUSE:
        ax_sched_hold(e->sched, s->slot, AX_HOLD_PAUSE);
        break;
    case AXION_SQ_RESUME:
        ax_sched_unhold(e->sched, s->slot, AX_HOLD_PAUSE);
        break;
    default:
        s->lease += c->lease_tokens;
        ax_sched_topup(e->sched, s->slot, c->lease_tokens);
    }
}


static void
lose(void *context, axion_stream_id id, void *user)
{
    (void)id;
    if (user != NULL) {
        cancel(context, user);
    }
}


static void
take_commands(struct sim_engine *e)
{
    for (uint32_t g = 0; g < SIM_GATEWAYS; g++) {
        if (e->channels[g] == NULL) {
            continue;
        }
        struct axion_command c;
        int rc = axion_channel_service(e->channels[g]);
        while (rc == AXION_OK &&
               axion_channel_next(e->channels[g], &c) == AXION_OK) {
            obey(e, g, &c);
        }
        if (rc == AXION_ERR_ENGINE_LOST) {
            axion_channel_each(e->channels[g], lose, e);
            axion_channel_close(e->channels[g]);
            e->channels[g] = NULL;
        } else {
            assert_int_equal(rc, AXION_OK);
        }
    }
}


static void
flush(struct sim_engine *e)
{
    for (uint32_t g = 0; g < SIM_GATEWAYS; g++) {
        if (e->channels[g] != NULL) {
            assert_true(axion_channel_flush(e->channels[g]) >= 0);
        }
    }
}


bool
sim_engine_waits_for_mask(const struct sim_engine *e)
{
    bool any = false;
    for (uint32_t i = 0; i < SIM_SLOTS; i++) {
        any |= e->slots[i].live && e->slots[i].masked;
    }
    return any;
}


/* The helper's work goes on beside steps. */
static void
take_masks(struct sim_engine *e)
{
    for (uint32_t i = 0; i < SIM_SLOTS; i++) {
        struct sim_slot *s = &e->slots[i];
        if (s->live && !s->told && s->masked && sim_one_in(&e->chance, 2)) {
            ax_sched_unhold(e->sched, s->slot, AX_HOLD_GRAMMAR);
            s->masked = false;
        }
    }
}


/* ---- a step ---- */

static void
hold_or_release(struct sim_engine *e, struct sim_slot *s)
{
    bool room = axion_channel_writable(e->channels[s->gateway], s->id, 4);
    if (s->held && room) {
        ax_sched_unhold(e->sched, s->slot, AX_HOLD_OUTPUT);
    } else if (!s->held && !room) {
        ax_sched_hold(e->sched, s->slot, AX_HOLD_OUTPUT);
        s->disturbed = true;
    }
    s->held = !room;
}


/* Drafts as a speculator would make them: some are right. */
static void
draft(struct sim_engine *e, const struct ax_sched_step *step)
{
    double wanted_us = 0;
    for (uint32_t i = 0; i < step->n_entries; i++) {
        const struct ax_sched_entry *entry = &step->entries[i];
        struct sim_slot *s = &e->slots[entry->slot];
        if (!entry->samples || entry->n_tokens != 1 || s->n_tokens < 2 ||
            sim_one_in(&e->chance, 2)) {
            continue;
        }
        wanted_us += 6.0 * SIM_TOKEN_US;
        uint32_t n = ax_sched_extend(e->sched, i, 1 + sim_any(&e->chance, 6));
        uint64_t value = *value_at(e, s, s->n_tokens - 2);
        for (uint32_t k = 0; k < n; k++) {
            uint32_t p = s->n_tokens + k;
            value = sim_value(value, s->tokens[p - 1],
                              sim_realm(&s->request, p - 1));
            s->tokens[p] = sim_one_in(&e->chance, 4)
                               ? (int32_t)sim_any(&e->chance, SIM_VOCAB)
                               : sim_token(value);
        }
    }
    ax_sched_want_drafts(e->sched, wanted_us);
}


/* What a layer shows position p is what was computed there. */
static void
check_window(const struct sim_engine *e, const struct sim_slot *s,
             uint32_t layer, uint32_t p)
{
    uint32_t seen = e->options.window;
    uint32_t first = layer > 0 && p >= seen ? p - seen + 1 : 0;
    for (uint32_t k = first; layer > 0 && k <= p; k++) {
        assert_int_equal(*value_in(e, s, layer, k), *value_at(e, s, k));
    }
}


static void
compute(struct sim_engine *e, const struct ax_sched_entry *entry)
{
    struct sim_slot *s = &e->slots[entry->slot];
    uint32_t end = entry->position + entry->n_tokens;
    assert_true(s->live && !s->told && !s->held && !s->masked);
    assert_true(end - entry->n_drafts <= s->n_tokens);
    assert_true(end <= s->kv.n_tokens);
    assert_int_equal(ax_kv_window(e->kv, &s->kv, entry->position, end),
                     AXION_OK);
    for (uint32_t p = entry->position; p < end; p++) {
        uint64_t before = p > 0 ? *value_at(e, s, p - 1) : 0;
        uint64_t value =
            sim_value(before, s->tokens[p], sim_realm(&s->request, p));
        for (uint32_t layer = 0; layer < e->n_layer; layer++) {
            uint32_t block = s->blocks[ax_kv_group(e->kv, layer) * SIM_CHAIN +
                                       p / AX_KV_BLOCK_TOKENS];
            assert_int_equal(ax_kv_block_refs(e->kv, block), 1);
            *value_in(e, s, layer, p) = value;
            check_window(e, s, layer, p);
        }
    }
    e->computed += entry->n_tokens;
}


/* One token to the client; false: that was the last. */
static bool
say(struct sim_engine *e, struct sim_slot *s, int32_t token)
{
    uint32_t id = (uint32_t)token;
    s->tokens[s->n_tokens++] = token;
    s->says = true;
    unsigned reason = ax_sched_sampled(e->sched, s->slot);
    assert_int_equal(ax_sched_tokens(e->sched, s->slot), s->n_tokens);
    assert_true(s->n_tokens <= s->lease);
    assert_int_equal(axion_channel_tokens(e->channels[s->gateway], s->id, &id,
                                          1, "t", 1, NULL, 0),
                     AXION_OK);
    if (reason != 0) {
        finish(e, s, reason);
        return false;
    }
    hold_or_release(e, s);
    return !s->held;
}


static void
answer(struct sim_engine *e, const struct ax_sched_entry *entry)
{
    struct sim_slot *s = &e->slots[entry->slot];
    uint32_t end = entry->position + entry->n_tokens - entry->n_drafts;
    bool held = true;
    if (!s->live || s->told) {
        return; /* cancelled meanwhile */
    }
    ax_kv_chain_extend(&s->chain, s->tokens, end);
    ax_kv_publish(e->kv, &s->kv, &s->chain, s->tokens, end);
    for (uint32_t i = 0; entry->samples && held && i <= entry->n_drafts; i++) {
        assert_int_equal(end + i, s->n_tokens);
        int32_t token = sim_token(*value_at(e, s, end - 1 + i));
        held = i < entry->n_drafts && token == s->tokens[s->n_tokens];
        held = say(e, s, token) && held;
    }
    if (s->live && entry->n_drafts > 0) {
        assert_int_equal(ax_kv_truncate(e->kv, &s->kv, s->n_tokens - 1),
                         s->n_tokens - 1);
    }
    if (s->live && entry->samples) {
        want_mask(e, s);
    }
}


static void
check_step(struct sim_engine *e, const struct ax_sched_step *step)
{
    uint32_t n_tokens = 0, n_samples = 0;
    assert_true(step->n_entries <= e->options.running);
    assert_true(step->n_tokens <= e->options.batch);
    for (uint32_t i = 0; i < step->n_entries; i++) {
        n_tokens += step->entries[i].n_tokens;
        n_samples += step->entries[i].samples + step->entries[i].n_drafts;
        for (uint32_t k = 0; k < i; k++) {
            assert_true(step->entries[i].slot != step->entries[k].slot);
        }
    }
    assert_int_equal(n_tokens, step->n_tokens);
    assert_int_equal(n_samples, step->n_samples);
}


static const struct ax_sched_step *
compose(struct sim_engine *e)
{
    for (uint32_t i = 0; i < SIM_SLOTS; i++) {
        e->slots[i].goes_on = e->slots[i].live && e->slots[i].kv.n_blocks > 0;
    }
    const struct ax_sched_step *step = ax_sched_next(e->sched, e->now_us);
    for (uint32_t i = 0; i < SIM_SLOTS; i++) {
        e->slots[i].goes_on = false;
    }
    return step;
}


static uint64_t
cost_of(struct sim_engine *e, const struct ax_sched_step *step)
{
    uint64_t cost = sim_cost_us(step->n_tokens);
    for (uint32_t i = 0; i < step->n_entries; i++) {
        const struct ax_sched_entry *entry = &step->entries[i];
        cost += sim_keys_us(e, entry->position, entry->n_tokens);
    }
    return cost + sim_any(&e->chance, (uint32_t)cost / 4 + 1);
}


static bool
step_once(struct sim_engine *e)
{
    const struct ax_sched_step *step = compose(e);
    struct ax_sched_entry entries[SIM_SLOTS];
    take_events(e);
    sim_bounds_composed(e);
    sim_bounds_fair(e);
    check_step(e, step);
    uint32_t n = step->n_entries;
    if (n == 0) {
        return false;
    }
    draft(e, step);
    check_step(e, step);
    sim_bounds_drafted(e, step);
    memcpy(entries, step->entries, n * sizeof(*entries));
    uint64_t cost = cost_of(e, step);
    e->step_max_us = cost > e->step_max_us ? cost : e->step_max_us;
    for (uint32_t i = 0; i < n; i++) {
        compute(e, &entries[i]);
    }
    e->between_layers(e->context);
    take_commands(e);
    take_masks(e);
    e->now_us += cost;
    /* A step fails now and then; what it wrote is written again. */
    bool computed =
        !ax_sched_abandoned(e->sched) && !sim_one_in(&e->chance, 64);
    e->steps++;
    ax_sched_stepped(e->sched, cost, computed);
    take_events(e);
    if (computed) {
        sim_bounds_computed(e);
    }
    for (uint32_t i = 0; computed && i < n; i++) {
        answer(e, &entries[i]);
    }
    take_events(e);
    return true;
}


bool
sim_engine_turn(struct sim_engine *e)
{
    take_commands(e);
    take_masks(e);
    for (uint32_t i = 0; i < SIM_SLOTS; i++) {
        if (e->slots[i].live && !e->slots[i].told && e->slots[i].held) {
            hold_or_release(e, &e->slots[i]);
        }
    }
    take_events(e);
    bool runnable = ax_sched_runnable(e->sched);
    bool worked = step_once(e);
    /* An expired deadline can have been all there was to run. */
    assert_true(worked || !runnable || !ax_sched_runnable(e->sched) ||
                sim_engine_waits_for_mask(e));
    flush(e);
    if (!worked) {
        uint64_t wakeup = ax_sched_wakeup_us(e->sched);
        e->now_us += 500;
        e->now_us =
            wakeup != UINT64_MAX && wakeup > e->now_us ? wakeup : e->now_us;
    }
    return worked;
}


/* ---- invariants ---- */

/* Blocks have the holders that tables say, and holders of one realm. */
static void
check_blocks(const struct sim_engine *e)
{
    static uint32_t holders[4096];
    static uint64_t realms[4096];
    uint32_t total = ax_kv_blocks_total(e->kv), used = 0, promised = 0;
    assert_true(total <= 4096);
    memset(holders, 0, total * sizeof(*holders));
    for (uint32_t i = 0; i < SIM_SLOTS * e->n_layer; i++) {
        const struct sim_slot *s = &e->slots[i / e->n_layer];
        uint32_t group = i % e->n_layer, n = 0;
        struct ax_kv_held held = ax_kv_held(e->kv, &s->kv, group);
        assert_true(s->live || s->kv.n_blocks == 0);
        for (uint32_t b = held.first; b < held.end; b++) {
            uint32_t block = s->blocks[group * SIM_CHAIN + b];
            uint64_t realm = sim_realm(&s->request, b * AX_KV_BLOCK_TOKENS);
            assert_true(holders[block] == 0 || realms[block] == realm);
            realms[block] = realm;
            n += holders[block]++ == 0;
        }
        used += group == 0 ? n : 0;
        promised += group == 0 ? s->kv.promised : 0;
    }
    assert_int_equal(used + promised, ax_kv_blocks_used(e->kv));
    for (uint32_t b = 0; b < total; b++) {
        assert_int_equal(holders[b], ax_kv_block_refs(e->kv, b));
    }
    ax_kv_check(e->kv);
}


void
sim_engine_check(struct sim_engine *e)
{
    struct ax_sched_counts counts;
    uint32_t live = 0, unstarted = 0;
    uint64_t unstarted_tokens = 0;
    ax_sched_counts(e->sched, &counts);
    for (uint32_t i = 0; i < SIM_SLOTS; i++) {
        const struct sim_slot *s = &e->slots[i];
        live += s->live;
        if (s->live && !s->started) {
            unstarted++;
            unstarted_tokens += s->request.n_prompt;
            uint64_t waited = e->now_us - s->arrived_us;
            assert_true(s->disturbed || waited < WAIT_MAX_US);
            if (!s->disturbed && waited > e->waited_max_us) {
                e->waited_max_us = waited;
            }
        }
    }
    assert_int_equal(counts.running + counts.waiting + counts.parked, live);
    assert_int_equal(counts.waiting_tokens, unstarted_tokens);
    assert_true(unstarted <= e->options.queue);
    assert_true(unstarted <= 1 || unstarted_tokens <= e->options.queue_tokens);
    check_blocks(e);
}
