/*
 * The clients of the simulator: gateways that ask, cancel, pause, read slowly,
 * refuse leases and die, and that know every token they must get.
 */
#include <string.h>
#include <sys/socket.h>
#include "tests/sim/sim.h"

#define PROMPT_MAX 300u
#define ANSWER_MAX 48u
#define TALK_MAX   160u /* of an answer that outgrows what was left for it */


/* ---- connecting ---- */

static void
connect_gateway(struct sim_world *w, uint32_t g)
{
    struct axion_client_options o = {.name = "sim",
                                     .streams = SIM_STREAMS,
                                     .credit = 2 + sim_any(&w->chance, 4),
                                     .cq_entries = 64,
                                     .sq_entries = 16,
                                     .arena_bytes = 1 << 16};
    int fds[2], flags = SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC;
    struct sim_gateway *gate = &w->gateways[g];
    memset(gate, 0, sizeof(*gate));
    gate->reading = true;
    assert_int_equal(socketpair(AF_UNIX, flags, 0, fds), 0);
    assert_int_equal(axion_client_open_fd(&gate->client, fds[0], &o), AXION_OK);
    sim_engine_connect(&w->engine, g, fds[1]);
    assert_int_equal(axion_client_service(gate->client), AXION_OK);
}


static void
act_between_layers(void *context)
{
    struct sim_world *w = context;
    if (sim_one_in(&w->chance, 4)) {
        sim_world_act(w);
    }
}


void
sim_world_open(struct sim_world *w, const struct sim_options *o, uint64_t seed)
{
    memset(w, 0, sizeof(*w));
    sim_engine_open(&w->engine, o, seed);
    w->engine.between_layers = act_between_layers;
    w->engine.context = w;
    w->chance.state = ~seed * 0xbf58476d1ce4e5b9u | 1;
    for (uint32_t g = 0; g < SIM_GATEWAYS; g++) {
        connect_gateway(w, g);
    }
}


void
sim_world_close(struct sim_world *w)
{
    for (uint32_t g = 0; g < SIM_GATEWAYS; g++) {
        axion_client_close(w->gateways[g].client);
    }
    sim_engine_close(&w->engine);
}


/* ---- asking ---- */

static uint32_t
some_length(struct sim_chance *c, uint32_t max)
{
    return 1 + sim_any(c, sim_one_in(c, 4) ? max : max / 6);
}


/* As long as one may be that has all KV for itself. */
static void
ask_for_everything(struct sim_world *w, struct sim_request *r)
{
    uint32_t most = ax_kv_tokens_max(w->engine.kv);
    most = most < SIM_CTX - 1 ? most : SIM_CTX - 1;
    if (most > r->max_tokens) {
        r->n_prompt = most - r->max_tokens + 1;
    }
}


/* Texts are few, so that prefixes come again; tenants ask the same ones. */
static void
make_prompt(struct sim_chance *c, struct sim_request *r)
{
    uint32_t text = sim_any(c, 4), common = sim_any(c, r->n_prompt + 1);
    r->shared = sim_one_in(c, 3);
    if (r->always_known) {
        text = 0;
        common = r->n_prompt;
        r->shared = false;
    }
    for (uint32_t i = 0; i < r->n_prompt; i++) {
        bool in_prefix = r->shared && i < SIM_SHARED * AX_KV_BLOCK_TOKENS;
        r->prompt[i] = in_prefix    ? (int32_t)i
                       : i < common ? (int32_t)(1000 * (text + 1) + i)
                                    : (int32_t)sim_any(c, SIM_VOCAB);
    }
    /* Declared is what is wholly there. */
    r->shared = r->shared && r->n_prompt >= SIM_SHARED * AX_KV_BLOCK_TOKENS;
}


static void
hurry(struct sim_world *w, uint32_t g, struct sim_request *r)
{
    r->n_prompt = 1 + sim_any(&w->chance, 40);
    r->max_tokens = 1 + sim_any(&w->chance, 12);
    r->deadline_us = 0;
    if (!w->engine.options.fair) {
        r->priority = g == 0 ? sim_any(&w->chance, 2) : 2;
    } else {
        r->n_prompt += 60;
        r->always_known = r->tenant == 1;
    }
}


static void
ask(struct sim_world *w, uint32_t g, struct sim_stream *s)
{
    struct sim_chance *c = &w->chance;
    *s = (struct sim_stream){
        .request = {.tenant = 1 + sim_any(c, SIM_TENANTS),
                    .priority = sim_any(c, 3),
                    .n_prompt = some_length(c, PROMPT_MAX),
                    .max_tokens = some_length(c, ANSWER_MAX),
                    .deadline_us = sim_one_in(c, 8) ? sim_any(c, 200000) : 0}};
    struct sim_request *r = &s->request;
    r->weight = (uint32_t)r->tenant;
    if (w->engine.options.fair) {
        r->priority = 1;
    }
    if (w->engine.options.rush) {
        hurry(w, g, r);
    }
    if (!w->engine.options.rush && sim_one_in(c, 6)) {
        r->max_tokens = 1 + sim_any(c, TALK_MAX);
    }
    if (!w->engine.options.rush && sim_one_in(c, 16)) {
        ask_for_everything(w, r);
    }
    make_prompt(c, r);
    s->lease =
        sim_one_in(c, 3) ? r->n_prompt + sim_any(c, 24) : AXION_LEASE_UNLIMITED;
    for (uint32_t p = 0; p < r->n_prompt; p++) {
        s->value = sim_value(s->value, r->prompt[p], sim_realm(r, p));
    }
    int rc = axion_client_submit(w->gateways[g].client, r, sizeof(*r), s->lease,
                                 s, &s->id);
    assert_true(rc == AXION_OK || rc == AXION_ERR_NO_STREAM_SLOT);
    s->open = rc == AXION_OK;
    w->asked += s->open;
}


static void
answer_lease(struct sim_world *w, uint32_t g, struct sim_stream *s)
{
    uint64_t more = sim_one_in(&w->chance, 3) ? 0 : 1 + sim_any(&w->chance, 10);
    s->asked = false;
    s->lease += more;
    axion_client_topup(w->gateways[g].client, s->id, more);
}


static void
die(struct sim_world *w, uint32_t g)
{
    w->deaths++;
    axion_client_close(w->gateways[g].client);
    w->gateways[g].client = NULL;
}


static void
disturb(struct sim_world *w, uint32_t g, struct sim_stream *s)
{
    struct axion_client *client = w->gateways[g].client;
    switch (sim_any(&w->chance, 6)) {
    case 0:
        axion_client_cancel(client, s->id);
        s->cancelled = true;
        break;
    case 1:
        axion_client_pause(client, s->id);
        s->paused = true;
        break;
    case 2:
    case 3:
        axion_client_resume(client, s->id);
        s->paused = false;
        break;
    default:
        if (s->asked) {
            answer_lease(w, g, s);
        }
    }
}


void
sim_world_rush(struct sim_world *w)
{
    for (uint32_t g = 0; g < SIM_GATEWAYS; g++) {
        for (uint32_t i = 0; i < SIM_STREAMS; i++) {
            struct sim_gateway *gate = &w->gateways[g];
            if (gate->client != NULL && !gate->streams[i].open) {
                ask(w, g, &gate->streams[i]);
            }
        }
    }
}


void
sim_world_act(struct sim_world *w)
{
    uint32_t g = sim_any(&w->chance, SIM_GATEWAYS);
    struct sim_gateway *gate = &w->gateways[g];
    struct sim_stream *s = &gate->streams[sim_any(&w->chance, SIM_STREAMS)];
    if (gate->client == NULL) {
        if (w->engine.channels[g] == NULL) {
            connect_gateway(w, g);
        }
    } else if (sim_one_in(&w->chance, 400) && !w->draining) {
        die(w, g);
    } else if (sim_one_in(&w->chance, 10)) {
        gate->reading = !gate->reading || w->draining;
    } else if (s->open && !s->cancelled) {
        disturb(w, g, s);
    } else if (!s->open && !w->draining) {
        ask(w, g, s);
    }
}


/* ---- reading ---- */

static void
take_tokens(struct sim_world *w, struct sim_stream *s,
            const struct axion_event *event)
{
    const struct sim_request *r = &s->request;
    assert_int_equal(event->tokens.position, s->n_got);
    for (uint32_t i = 0; i < event->tokens.n_tokens; i++) {
        int32_t token = sim_token(s->value);
        assert_int_equal(event->tokens.ids[i], token);
        s->value =
            sim_value(s->value, token, sim_realm(r, r->n_prompt + s->n_got));
        s->n_got++;
        w->tokens++;
    }
}


static void
take_done(struct sim_world *w, struct sim_stream *s,
          const struct axion_cq_done *done)
{
    const struct sim_request *r = &s->request;
    uint64_t spent = (uint64_t)done->prompt_tokens + done->completion_tokens;
    assert_int_equal(done->prompt_tokens, r->n_prompt);
    assert_int_equal(done->completion_tokens, s->n_got);
    assert_true(done->cached_tokens < r->n_prompt);
    assert_true(spent <= s->lease && s->n_got <= r->max_tokens);
    switch (done->reason) {
    case AXION_FINISH_LENGTH:
        assert_int_equal(s->n_got, r->max_tokens);
        break;
    case AXION_FINISH_LEASE:
        assert_int_equal(spent, s->lease);
        break;
    default:
        assert_int_equal(done->reason, AXION_FINISH_CANCELLED);
        assert_true(s->cancelled);
    }
    s->open = false;
    w->answered++;
}


static void
take_error(struct sim_world *w, struct sim_stream *s,
           const struct axion_event *event)
{
    switch (event->error.error) {
    case AXION_ERR_QUEUE_FULL:
        assert_true(event->error.retry_after_ms >= 100);
        break;
    case AXION_ERR_DEADLINE:
        assert_true(s->request.deadline_us != 0 || s->n_got == 0);
        break;
    case AXION_ERR_LEASE_TOO_SMALL:
        assert_true(s->lease <= s->request.n_prompt);
        break;
    default:
        assert_int_equal(event->error.error, AXION_ERR_KV_EXHAUSTED);
    }
    assert_int_equal(s->n_got, 0);
    s->open = false;
    w->answered++;
}


static void
take_event(struct sim_world *w, const struct axion_event *event)
{
    struct sim_stream *s = event->user;
    assert_true(s != NULL && s->open && s->id == event->id);
    switch (event->op) {
    case AXION_CQ_ACCEPTED:
        assert_int_equal(event->accepted.prompt_tokens, s->request.n_prompt);
        break;
    case AXION_CQ_TOKENS:
        take_tokens(w, s, event);
        break;
    case AXION_CQ_LEASE_LOW:
        s->asked = true;
        break;
    case AXION_CQ_DONE:
        take_done(w, s, &event->done);
        break;
    case AXION_CQ_ERROR:
        take_error(w, s, event);
        break;
    default:
        fail();
    }
}


static void
let_go(struct sim_world *w, uint32_t g)
{
    for (uint32_t i = 0; i < SIM_STREAMS; i++) {
        struct sim_stream *s = &w->gateways[g].streams[i];
        if (s->open && !s->cancelled) {
            axion_client_resume(w->gateways[g].client, s->id);
            s->paused = false;
            if (s->asked) {
                answer_lease(w, g, s);
            }
        }
    }
}


void
sim_world_drain(struct sim_world *w)
{
    for (uint32_t g = 0; g < SIM_GATEWAYS; g++) {
        struct sim_gateway *gate = &w->gateways[g];
        struct axion_event event;
        if (gate->client == NULL || (!gate->reading && !w->draining)) {
            continue;
        }
        if (w->draining) {
            let_go(w, g);
        }
        assert_int_equal(axion_client_service(gate->client), AXION_OK);
        while (axion_client_peek(gate->client, &event) == AXION_OK) {
            take_event(w, &event);
            axion_client_advance(gate->client);
        }
        (void)axion_client_arm(gate->client); /* sends what was pending */
    }
}


bool
sim_world_idle(const struct sim_world *w)
{
    for (uint32_t g = 0; g < SIM_GATEWAYS; g++) {
        for (uint32_t i = 0; i < SIM_STREAMS; i++) {
            if (w->gateways[g].client != NULL &&
                w->gateways[g].streams[i].open) {
                return false;
            }
        }
    }
    for (uint32_t i = 0; i < SIM_SLOTS; i++) {
        if (w->engine.slots[i].live) {
            return false;
        }
    }
    return true;
}
