/*
 * replay [TRACE] [SCALE] [TENANTS]: goodput of the scheduler on arrivals and
 * lengths as public traces have them, on a virtual clock.
 *
 * A length is drawn by linear interpolation between quantiles of the trace,
 * divided by SCALE so that it fits the context of a small model; arrivals have
 * the trace's burstiness (gamma with its coefficient of variation) at a
 * multiple of the rate that the machine could just carry.  As many prompts as
 * in the trace begin like an earlier one: they go on with one of the last talks
 * of their tenant.  A step costs what SmolLM2-135M took on two
 * cores.  Goodput: requests a second whose first token came within 2 s and
 * whose others came at 100 ms or less on average (MLPerf's server limits).
 *
 * With several tenants, each with texts of its own, every row is played twice:
 * by counters alone, and with known prefixes first within the quantum
 * (engine/sched/locality.c); "apart" is how far the counters of two tenants
 * that both wait came, in tokens.
 *
 * Quantiles: AzureLLMInferenceTrace 2023, CC-BY Microsoft; Mooncake's traces
 * (kvcache-ai/Mooncake); burst: BurstGPT's shape, log-normal lengths and gamma
 * arrivals, its parameters are not published here.  "documents" is no trace:
 * questions about a few long texts (play it with SCALE 1).
 */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "engine/kv/names.h"
#include "engine/sched/sched.h"

#define LEVELS   14u
#define CTX      8192u
#define CHAIN    (CTX / AX_KV_BLOCK_TOKENS)
#define SLOTS    1024u
#define BLOCKS   4096u /* 3 GB of SmolLM2's; a part with several tenants */
#define PART     16u
#define RUNNING  64u
#define BATCH    256u
#define TTFT_US  2000000.0
#define TPOT_US  100000.0
#define REQUESTS 1500u
#define TALKS    4u  /* that a tenant's requests may go on with */
#define TENANTS  16u /* at most */

static const double levels[LEVELS] = {.01, .05, .1, .2, .3,  .4,  .5,
                                      .6,  .7,  .8, .9, .95, .99, .999};

struct trace {
    const char *name;
    double in[LEVELS], out[LEVELS];
    double cv;     /* of the time between two arrivals */
    double shared; /* requests that begin like an earlier one */
};

static const struct trace traces[] = {
    {"azure-code",
     {17, 75, 147, 385, 770, 1075, 1469, 1909, 2433, 3193, 5194, 7315, 7436,
      7437},
     {6, 6, 7, 8, 9, 11, 13, 16, 20, 29, 55, 90, 252, 831},
     6.4,
     .3},
    {"azure-conv",
     {29, 181, 207, 387, 403, 703, 1020, 1071, 1130, 1315, 2735, 4083, 4142,
      6212},
     {16, 41, 54, 77, 91, 103, 129, 177, 384, 400, 424, 451, 601, 954},
     1.09,
     .4},
    {"mooncake-conv",
     {894, 901, 964, 1662, 3263, 4993, 6909, 9570, 13196, 17869, 27367, 39552,
      85401, 121301},
     {3, 10, 24, 100, 213, 291, 350, 399, 447, 504, 597, 698, 1120, 2000},
     1.3,
     .6},
    {"mooncake-agent",
     {16, 22, 30, 88, 912, 4365, 11587, 16289, 19411, 28430, 38615, 49009,
      66458, 191374},
     {2, 2, 4, 8, 16, 32, 69, 126, 211, 289, 389, 519, 769, 825},
     1.3,
     .45},
    {"burst",
     {6, 14, 24, 45, 80, 140, 230, 380, 600, 950, 1700, 2700, 4800, 8000},
     {2, 6, 12, 28, 60, 110, 180, 240, 300, 370, 480, 600, 900, 1500},
     3.0,
     .3},
    {"documents",
     {1700, 1750, 1800, 1850, 1900, 1950, 2000, 2050, 2100, 2150, 2200, 2250,
      2300, 2400},
     {8, 16, 24, 36, 48, 60, 72, 84, 96, 112, 128, 150, 200, 256},
     1.5,
     .9},
};

struct request {
    uint64_t arrived_us, first_us, last_us;
    uint32_t n_prompt, n_answer, n_got, text, tenant;
    bool live;
    int32_t tokens[CTX];
    struct ax_kv_sequence kv;
    struct ax_kv_chain chain;
    struct ax_kv_name names[CHAIN];
    uint32_t blocks[CHAIN];
};

static struct {
    struct ax_kv *kv;
    struct ax_kv_key key;
    struct ax_sched *sched;
    struct request *slots;
    uint64_t now_us, chance;
    double *ttft, *tpot;
    uint32_t n_done, n_good, n_refused;
    uint64_t prompt, cached, apart;
    uint32_t tenants, n_texts;
    uint32_t talks[TENANTS + 1][TALKS]; /* texts; 0: none yet */
} w;


/* ---- chance ---- */

static double
uniform(void)
{
    w.chance ^= w.chance << 13;
    w.chance ^= w.chance >> 7;
    w.chance ^= w.chance << 17;
    return (double)(w.chance >> 11) / 9007199254740992.0;
}


static double
normal(void)
{
    double u = uniform(), v = uniform();
    return sqrt(-2 * log(u + 1e-300)) * cos(6.283185307179586 * v);
}


/* Marsaglia and Tsang's method, 2000; shape 1 / cv^2, mean 1. */
static double
gamma_of(double cv)
{
    double shape = 1 / (cv * cv), boost = 1, x, v;
    double a = shape < 1 ? shape + 1 : shape;
    if (shape < 1) {
        boost = pow(uniform() + 1e-300, 1 / shape);
    }
    double d = a - 1.0 / 3, c = 1 / sqrt(9 * d);
    do {
        x = normal();
        v = 1 + c * x;
        v = v * v * v;
    } while (v <= 0 ||
             log(uniform() + 1e-300) >= x * x / 2 + d - d * v + d * log(v));
    return boost * d * v / shape;
}


static uint32_t
length_of(const double *quantiles, double scale, uint32_t max)
{
    double u = uniform(), value = quantiles[LEVELS - 1];
    if (u < levels[0]) {
        value = quantiles[0];
    }
    for (uint32_t i = 1; i < LEVELS; i++) {
        if (u >= levels[i - 1] && u < levels[i]) {
            double part = (u - levels[i - 1]) / (levels[i] - levels[i - 1]);
            value = quantiles[i - 1] + part * (quantiles[i] - quantiles[i - 1]);
        }
    }
    value /= scale;
    return value < 1 ? 1 : value > max ? max : (uint32_t)value;
}


/* ---- KV ---- */

static int
reserve(void *context, uint32_t slot, uint32_t n)
{
    (void)context;
    return ax_kv_reserve(w.kv, &w.slots[slot].kv, n);
}


static void
release(void *context, uint32_t slot, uint32_t n)
{
    struct request *r = &w.slots[slot];
    (void)context;
    ax_kv_chain_extend(&r->chain, r->tokens, n);
    ax_kv_retire(w.kv, &r->kv, &r->chain, r->tokens, n);
}


static uint32_t
blocks_free(void *context)
{
    (void)context;
    return ax_kv_blocks_free(w.kv);
}


static uint32_t
attach(void *context, uint32_t slot, uint32_t n_computed, uint32_t n_max)
{
    struct request *r = &w.slots[slot];
    (void)context;
    ax_kv_chain_extend(&r->chain, r->tokens, n_max);
    return ax_kv_attach(w.kv, &r->kv, &r->chain, r->tokens, n_computed, n_max);
}


static uint32_t
known(void *context, uint32_t slot, uint32_t n_max)
{
    struct request *r = &w.slots[slot];
    (void)context;
    return ax_kv_known(w.kv, &r->chain, r->tokens, n_max);
}


static uint64_t
name(void *context, uint32_t slot, uint32_t position)
{
    const struct ax_kv_chain *chain = &w.slots[slot].chain;
    uint32_t block = position / AX_KV_BLOCK_TOKENS;
    (void)context;
    return block < chain->n ? chain->names[block].word[0] | 1 : 0;
}


static uint32_t
alone(void *context, uint32_t slot)
{
    (void)context;
    return ax_kv_alone(w.kv, &w.slots[slot].kv);
}


/* ---- steps ---- */

static uint64_t
cost_us(uint32_t n_tokens)
{
    return 5000 + 650ull * n_tokens;
}


static void
open_all(uint64_t seed, uint32_t tenants, uint32_t quantum)
{
    static const struct ax_kv_shape shape = {
        .n_layer = 1, .n_head_kv = 1, .head_dim = 32, .type = AXK_KV_F16};
    uint32_t blocks = tenants > 1 ? BLOCKS / PART : BLOCKS;
    struct ax_sched_options o = {.slots_max = SLOTS,
                                 .running_max = RUNNING,
                                 .batch_tokens_max = BATCH,
                                 .kv_blocks_total = blocks,
                                 .kv_block_tokens = AX_KV_BLOCK_TOKENS,
                                 .queue_max = 512,
                                 .queue_tokens_max = 256 << 10,
                                 .prefix_quantum_tokens = quantum,
                                 .kv = {NULL, reserve, release, blocks_free,
                                        attach, known, name, alone}};
    struct ax_sched_cost costs[9];
    struct ax_error err;
    for (uint32_t i = 0; i < 9; i++) {
        costs[i] = (struct ax_sched_cost){1u << i, (uint32_t)cost_us(1u << i)};
    }
    memset(&w, 0, sizeof(w));
    w.chance = seed;
    w.tenants = tenants;
    w.slots = calloc(SLOTS, sizeof(*w.slots));
    w.ttft = calloc(REQUESTS, sizeof(*w.ttft));
    w.tpot = calloc(REQUESTS, sizeof(*w.tpot));
    if (w.slots == NULL || w.ttft == NULL || w.tpot == NULL ||
        ax_kv_open(&w.kv, &shape,
                   blocks * axk_kv_block_bytes(AXK_KV_F16, 1, 32),
                   &err) != AXION_OK ||
        ax_sched_open(&w.sched, &o) != AXION_OK ||
        ax_sched_set_costs(w.sched, costs, 9) != AXION_OK) {
        fprintf(stderr, "replay: no memory\n");
        exit(1);
    }
    for (uint32_t i = 0; i < SLOTS; i++) {
        w.slots[i].kv.blocks = w.slots[i].blocks;
        w.slots[i].kv.blocks_max = CHAIN;
        w.slots[i].chain.names = w.slots[i].names;
    }
}


static void
close_all(void)
{
    ax_sched_close(w.sched);
    ax_kv_close(w.kv);
    free(w.slots);
    free(w.ttft);
    free(w.tpot);
}


/* A talk that is going on, or a new one in place of one of them. */
static uint32_t
text_of(const struct trace *t, uint32_t tenant)
{
    uint32_t *talk = &w.talks[tenant][(uint32_t)(uniform() * TALKS)];
    if (*talk == 0 || uniform() >= t->shared) {
        *talk = ++w.n_texts;
    }
    return *talk;
}


static void
ask(const struct trace *t, double scale, uint64_t at_us)
{
    uint8_t salt[16] = {0};
    struct request *r = w.slots;
    struct ax_sched_arrival arrival;
    while (r < w.slots + SLOTS && r->live) {
        r++;
    }
    if (r == w.slots + SLOTS) {
        w.n_refused++;
        return;
    }
    r->n_prompt = length_of(t->in, scale, CTX / 2);
    r->n_answer = length_of(t->out, scale > 4 ? 4 : scale, CTX / 2 - 1);
    r->tenant = 1 + (uint32_t)(uniform() * w.tenants);
    r->text = text_of(t, r->tenant);
    salt[0] = (uint8_t)r->tenant;
    for (uint32_t i = 0; i < r->n_prompt; i++) {
        r->tokens[i] = (int32_t)(r->text * CTX + i);
    }
    r->n_got = 0;
    r->first_us = 0;
    r->arrived_us = at_us;
    ax_kv_chain_begin(&r->chain, &w.key, salt, r->tenant, 0);
    ax_kv_chain_extend(&r->chain, r->tokens, r->n_prompt);
    struct ax_sched_request request = {
        .tenant = r->tenant,
        .priority = 1,
        .prompt_tokens = r->n_prompt,
        .max_tokens = r->n_answer,
        .cached_tokens =
            ax_kv_known(w.kv, &r->chain, r->tokens, r->n_prompt - 1),
        .lease_tokens = AXION_LEASE_UNLIMITED};
    r->live = ax_sched_arrive(w.sched, (uint32_t)(r - w.slots), &request, at_us,
                              &arrival) == AXION_OK;
    w.n_refused += !r->live;
}


static void
end(struct request *r, uint32_t slot)
{
    double ttft = (double)(r->first_us - r->arrived_us);
    double tpot =
        r->n_got > 1 ? (double)(r->last_us - r->first_us) / (r->n_got - 1) : 0;
    w.ttft[w.n_done] = ttft;
    w.tpot[w.n_done++] = tpot;
    w.n_good += ttft <= TTFT_US && tpot <= TPOT_US;
    w.prompt += r->n_prompt;
    w.cached += ax_sched_cached(w.sched, slot);
    ax_sched_finish(w.sched, slot, w.now_us);
    r->live = false;
}


/* Of tenants with a request that has not begun. */
static void
note_apart(void)
{
    bool waits[TENANTS + 1] = {false};
    uint64_t low = UINT64_MAX, high = 0;
    for (uint32_t i = 0; i < SLOTS; i++) {
        const struct request *r = &w.slots[i];
        if (r->live && r->kv.n_blocks == 0) {
            waits[r->tenant] = true;
        }
    }
    for (uint32_t t = 1; t <= w.tenants; t++) {
        uint64_t served = ax_sched_served(w.sched, t);
        low = waits[t] && served < low ? served : low;
        high = waits[t] && served > high ? served : high;
    }
    if (high > low && high - low > w.apart) {
        w.apart = high - low;
    }
}


static bool
step_once(void)
{
    struct ax_sched_entry entries[RUNNING];
    struct ax_sched_event event;
    const struct ax_sched_step *step = ax_sched_next(w.sched, w.now_us);
    uint32_t n = step->n_entries;
    while (ax_sched_event(w.sched, &event) == AXION_OK) {
    }
    if (n == 0) {
        return false;
    }
    if (w.tenants > 1) {
        note_apart();
    }
    memcpy(entries, step->entries, n * sizeof(*entries));
    uint64_t us = cost_us(step->n_tokens);
    w.now_us += us;
    ax_sched_stepped(w.sched, us, true);
    for (uint32_t i = 0; i < n; i++) {
        struct request *r = &w.slots[entries[i].slot];
        uint32_t upto = entries[i].position + entries[i].n_tokens;
        ax_kv_chain_extend(&r->chain, r->tokens, upto);
        ax_kv_publish(w.kv, &r->kv, &r->chain, r->tokens, upto);
        if (!entries[i].samples) {
            continue;
        }
        r->tokens[upto] = -1 - (int32_t)r->n_got; /* no prompt goes on so */
        r->n_got++;
        r->last_us = w.now_us;
        r->first_us = r->first_us != 0 ? r->first_us : w.now_us;
        if (ax_sched_sampled(w.sched, entries[i].slot) != 0) {
            end(r, entries[i].slot);
        }
    }
    return true;
}


/* ---- figures ---- */

static int
ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}


static double
quantile(double *values, uint32_t n, double q)
{
    qsort(values, n, sizeof(*values), ascending);
    return n > 0 ? values[(uint32_t)(q * (n - 1))] : 0;
}


/* Requests a second that the machine could compute, nothing shared. */
static double
capacity(const struct trace *t, double scale)
{
    double us = 0;
    for (uint32_t i = 0; i < 2000; i++) {
        us += 650.0 * length_of(t->in, scale, CTX / 2) +
              (650.0 + 5000.0 / 24) *
                  length_of(t->out, scale > 4 ? 4 : scale, CTX / 2 - 1);
    }
    return 2000 / us * 1e6;
}


static void
replay(const struct trace *t, double scale, double load, uint32_t tenants,
       uint32_t quantum)
{
    open_all(0x9e3779b97f4a7c15u, tenants, quantum);
    double rate = load * capacity(t, scale), next_us = 1;
    uint32_t asked = 0;
    struct ax_sched_counts counts;
    while (asked < REQUESTS || ax_sched_runnable(w.sched)) {
        while (asked < REQUESTS && next_us <= (double)w.now_us) {
            ask(t, scale, (uint64_t)next_us);
            next_us += gamma_of(t->cv) * 1e6 / rate;
            asked++;
        }
        if (!step_once() && asked < REQUESTS) {
            w.now_us = (uint64_t)next_us + 1;
        }
    }
    ax_sched_counts(w.sched, &counts);
    double seconds = (double)w.now_us / 1e6;
    printf("%-15s %-8s %4.1f %8.2f %8.2f %6.1f%% %8.0f %8.0f %7.0f %6.1f%% %6u "
           "%6u %7.0f\n",
           t->name, quantum == AX_SCHED_NO_QUANTUM ? "counters" : "prefixes",
           load, rate, w.n_good / seconds, 100.0 * w.n_good / REQUESTS,
           quantile(w.ttft, w.n_done, .5) / 1e3,
           quantile(w.ttft, w.n_done, .99) / 1e3,
           quantile(w.tpot, w.n_done, .99) / 1e3,
           100.0 * (double)w.cached / (double)(w.prompt + 1),
           (unsigned)counts.preemptions, w.n_refused,
           (double)w.apart / AX_SCHED_SERVED_TOKEN);
    close_all();
}


static void
replay_all(const struct trace *t, double scale, uint32_t tenants)
{
    static const double loads[] = {.3, .6, .9, 1.2};
    for (size_t k = 0; k < sizeof(loads) / sizeof(loads[0]); k++) {
        if (tenants > 1) {
            replay(t, scale, loads[k], tenants, AX_SCHED_NO_QUANTUM);
        }
        replay(t, scale, loads[k], tenants, 0);
    }
}


int
main(int argc, char **argv)
{
    double scale = argc > 2 ? atof(argv[2]) : 8;
    double tenants = argc > 3 ? atof(argv[3]) : 1;
    if (!(scale >= 1 && scale <= 1000) || !(tenants >= 1) ||
        tenants > TENANTS) {
        fprintf(stderr, "replay [TRACE|all] [SCALE of 1 to 1000] "
                        "[TENANTS of 1 to 16]\n");
        return 2;
    }
    printf("lengths / %g, %u requests of %.0f tenants each; ms\n%-15s %-8s %4s "
           "%8s %8s %7s %8s %8s %7s %7s %6s %6s %7s\n",
           scale, REQUESTS, tenants, "trace", "order", "load", "asked/s",
           "good/s", "good", "ttft p50", "p99", "tpot p99", "cached", "preem",
           "refus", "apart");
    for (size_t i = 0; i < sizeof(traces) / sizeof(traces[0]); i++) {
        if (argc < 2 || strcmp(argv[1], traces[i].name) == 0 ||
            strcmp(argv[1], "all") == 0) {
            replay_all(&traces[i], scale, (uint32_t)tenants);
        }
    }
    return 0;
}
