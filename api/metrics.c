/*
 * Prometheus text.  Each engine figure is one row of a table: name, type,
 * help, and how to read it from a board; a family writes its head once and
 * then one sample per connected engine.
 */
#include "api/metrics.h"

#include <assert.h>
#include <string.h>
#include "api/json.h"
#include "api/models.h"
#include "shm/utf8.h"

#define LABELS_MAX 8u


void
axion_metric_head(struct axion_out *out, const char *name,
                  enum axion_metric_type type, const char *help)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};

    axion_out_text(out, "# HELP ");
    axion_out_text(out, name);
    axion_out_text(out, " ");
    axion_out_text(out, help);
    axion_out_text(out, "\n# TYPE ");
    axion_out_text(out, name);
    axion_out_text(out, " ");
    axion_out_text(out, types[type]);
    axion_out_text(out, "\n");
}


static void
put_label_value(struct axion_out *out, const struct axion_text *value)
{
    size_t i = 0;

    while (i < value->bytes) {
        const unsigned char *at = (const unsigned char *)value->data + i;
        unsigned n = axion_utf8_step(at, value->bytes - i);

        if (n == 0) {
            axion_out_text(out, "\xef\xbf\xbd");
            n = 1;
        } else if (at[0] == '\n') {
            axion_out_text(out, "\\n");
        } else {
            if (at[0] == '"' || at[0] == '\\')
                axion_out_text(out, "\\");
            axion_out_bytes(out, at, n);
        }
        i += n;
    }
}


static void
put_labels(struct axion_out *out, const struct axion_label *labels, size_t n)
{
    size_t i;

    if (n == 0)
        return;
    for (i = 0; i < n; i++) {
        axion_out_text(out, i == 0 ? "{" : ",");
        axion_out_text(out, labels[i].name);
        axion_out_text(out, "=\"");
        put_label_value(out, &labels[i].value);
        axion_out_text(out, "\"");
    }
    axion_out_text(out, "}");
}


void
axion_metric_u64(struct axion_out *out, const char *name,
                 const struct axion_label *labels, size_t n_labels,
                 uint64_t value)
{
    axion_out_text(out, name);
    put_labels(out, labels, n_labels);
    axion_out_text(out, " ");
    axion_out_u64(out, value);
    axion_out_text(out, "\n");
}


void
axion_metric_decimal(struct axion_out *out, const char *name,
                     const struct axion_label *labels, size_t n_labels,
                     double value, int decimals)
{
    axion_out_text(out, name);
    put_labels(out, labels, n_labels);
    axion_out_text(out, " ");
    axion_out_decimal(out, value, decimals);
    axion_out_text(out, "\n");
}


static void
put_bucket(struct axion_out *out, const char *name,
           const struct axion_label *labels, size_t n_labels, const char *bound,
           size_t bound_bytes, uint64_t count)
{
    struct axion_label all[LABELS_MAX + 1];

    assert(n_labels <= LABELS_MAX);
    if (n_labels > 0)
        memcpy(all, labels, n_labels * sizeof(all[0]));
    all[n_labels].name = "le";
    all[n_labels].value.data = bound;
    all[n_labels].value.bytes = (uint32_t)bound_bytes;
    axion_out_text(out, name);
    axion_out_text(out, "_bucket");
    put_labels(out, all, n_labels + 1);
    axion_out_text(out, " ");
    axion_out_u64(out, count);
    axion_out_text(out, "\n");
}


/* Microseconds as seconds, or whole numbers as they are. */
static void
put_number(struct axion_out *out, uint64_t value, int is_us)
{
    if (is_us)
        axion_out_decimal(out, (double)value / 1e6, 6);
    else
        axion_out_u64(out, value);
}


static void
put_histogram(struct axion_out *out, const char *name,
              const struct axion_label *labels, size_t n_labels,
              const uint64_t *bounds, size_t n_bounds, const uint64_t *counts,
              uint64_t sum, int is_us)
{
    uint64_t total = 0;
    size_t i;

    for (i = 0; i < n_bounds; i++) {
        char text[32];
        struct axion_out bound;

        axion_out_fixed(&bound, text, sizeof(text));
        put_number(&bound, bounds[i], is_us);
        total += counts[i];
        put_bucket(out, name, labels, n_labels, text, bound.bytes, total);
    }
    total += counts[n_bounds];
    put_bucket(out, name, labels, n_labels, "+Inf", 4, total);
    axion_out_text(out, name);
    axion_out_text(out, "_sum");
    put_labels(out, labels, n_labels);
    axion_out_text(out, " ");
    put_number(out, sum, is_us);
    axion_out_text(out, "\n");
    axion_out_text(out, name);
    axion_out_text(out, "_count");
    put_labels(out, labels, n_labels);
    axion_out_text(out, " ");
    axion_out_u64(out, total);
    axion_out_text(out, "\n");
}


void
axion_metric_histogram_us(struct axion_out *out, const char *name,
                          const struct axion_label *labels, size_t n_labels,
                          const uint64_t *bounds_us, size_t n_bounds,
                          const uint64_t *counts, uint64_t sum_us)
{
    put_histogram(out, name, labels, n_labels, bounds_us, n_bounds, counts,
                  sum_us, 1);
}


void
axion_metric_histogram_u64(struct axion_out *out, const char *name,
                           const struct axion_label *labels, size_t n_labels,
                           const uint64_t *bounds, size_t n_bounds,
                           const uint64_t *counts, uint64_t sum)
{
    put_histogram(out, name, labels, n_labels, bounds, n_bounds, counts, sum,
                  0);
}


/* How a figure lies in struct axion_board. */
enum board_field_type {
    FIELD_U32,
    FIELD_U64,
    FIELD_U32_MILLI, /* thousandths, written as units */
    FIELD_U64_US,    /* microseconds, written as seconds */
};

struct board_field {
    const char *name;
    const char *help;
    size_t offset;
    enum axion_metric_type metric;
    enum board_field_type type;
};

#define AT(field) offsetof(struct axion_board, field)

static const struct board_field board_fields[] = {
    {"axion_engine_requests_running", "Sequences in the batch.", AT(running),
     AXION_GAUGE, FIELD_U32},
    {"axion_engine_requests_waiting", "Requests in the engine's queue.",
     AT(waiting), AXION_GAUGE, FIELD_U32},
    {"axion_engine_requests_parked", "Sequences paused by slow readers.",
     AT(parked), AXION_GAUGE, FIELD_U32},
    {"axion_engine_batch_max", "Sequences that fit into one batch.",
     AT(batch_max), AXION_GAUGE, FIELD_U32},
    {"axion_engine_kv_blocks", "KV blocks there are.", AT(kv_blocks_total),
     AXION_GAUGE, FIELD_U32},
    {"axion_engine_kv_blocks_used", "KV blocks held by sequences.",
     AT(kv_blocks_used), AXION_GAUGE, FIELD_U32},
    {"axion_engine_kv_blocks_cached", "KV blocks kept for shared prefixes.",
     AT(kv_blocks_cached), AXION_GAUGE, FIELD_U32},
    {"axion_engine_kv_bytes", "Memory of the KV blocks.", AT(kv_bytes),
     AXION_GAUGE, FIELD_U64},
    {"axion_engine_kv_evicted_blocks_total",
     "Cached KV blocks that gave way to others.", AT(kv_evicted_total),
     AXION_COUNTER, FIELD_U64},
    {"axion_engine_draft_kv_bytes", "Memory of the draft model's KV blocks.",
     AT(draft_kv_bytes), AXION_GAUGE, FIELD_U64},
    {"axion_engine_draft_weight_bytes", "Memory of the draft model's weights.",
     AT(draft_weight_bytes), AXION_GAUGE, FIELD_U64},
    {"axion_engine_activation_bytes", "Memory that steps compute with.",
     AT(activation_bytes), AXION_GAUGE, FIELD_U64},
    {"axion_engine_logits_bytes", "Memory of a step's logits.",
     AT(logits_bytes), AXION_GAUGE, FIELD_U64},
    {"axion_engine_speculation_bytes",
     "Memory of what was seen, for proposing drafts.", AT(speculation_bytes),
     AXION_GAUGE, FIELD_U64},
    {"axion_engine_request_bytes",
     "Address space for prompts and answers, filled as they grow.",
     AT(request_bytes), AXION_GAUGE, FIELD_U64},
    {"axion_engine_weight_bytes", "Memory of the model's weights.",
     AT(weight_bytes), AXION_GAUGE, FIELD_U64},
    {"axion_engine_resident_bytes", "Memory of the process.",
     AT(resident_bytes), AXION_GAUGE, FIELD_U64},
    {"axion_engine_load_seconds", "What loading the model took.", AT(load_us),
     AXION_GAUGE, FIELD_U64_US},
    {"axion_engine_decode_tokens_per_second",
     "Tokens decoded over the last second.", AT(tokens_per_second_milli),
     AXION_GAUGE, FIELD_U32_MILLI},
    {"axion_engine_prefill_tokens_per_second",
     "Prompt tokens computed over the last second.",
     AT(prefill_per_second_milli), AXION_GAUGE, FIELD_U32_MILLI},
    {"axion_engine_channels", "Gateways connected.", AT(channels_open),
     AXION_GAUGE, FIELD_U64},
    {"axion_engine_steps_total", "Steps of the engine.", AT(steps),
     AXION_COUNTER, FIELD_U64},
    {"axion_engine_step_threads_total", "Threads that steps ran with, summed.",
     AT(step_threads_total), AXION_COUNTER, FIELD_U64},
    {"axion_engine_step_seconds_total", "Time spent in steps.",
     AT(step_us_total), AXION_COUNTER, FIELD_U64_US},
    {"axion_engine_matmul_seconds_total",
     "Time spent in matrices, with --profile.", AT(matmul_us_total),
     AXION_COUNTER, FIELD_U64_US},
    {"axion_engine_attention_seconds_total",
     "Time spent in attention, with --profile.", AT(attention_us_total),
     AXION_COUNTER, FIELD_U64_US},
    {"axion_engine_rows_seconds_total",
     "Time spent in norms and the like, with --profile.", AT(rows_us_total),
     AXION_COUNTER, FIELD_U64_US},
    {"axion_engine_requests_total", "Requests received.", AT(requests_total),
     AXION_COUNTER, FIELD_U64},
    {"axion_engine_requests_refused_total", "Requests refused.",
     AT(requests_refused), AXION_COUNTER, FIELD_U64},
    {"axion_engine_requests_done_total", "Requests answered to the end.",
     AT(requests_done), AXION_COUNTER, FIELD_U64},
    {"axion_engine_requests_cancelled_total", "Requests cancelled.",
     AT(requests_cancelled), AXION_COUNTER, FIELD_U64},
    {"axion_engine_requests_failed_total", "Requests that failed.",
     AT(requests_failed), AXION_COUNTER, FIELD_U64},
    {"axion_engine_prompt_tokens_total", "Tokens of accepted prompts.",
     AT(prompt_tokens_total), AXION_COUNTER, FIELD_U64},
    {"axion_engine_cached_tokens_total",
     "Prompt tokens found in the prefix cache.", AT(cached_tokens_total),
     AXION_COUNTER, FIELD_U64},
    {"axion_engine_completion_tokens_total", "Tokens generated.",
     AT(completion_tokens_total), AXION_COUNTER, FIELD_U64},
    {"axion_engine_drafted_tokens_total", "Tokens proposed by speculation.",
     AT(drafted_tokens_total), AXION_COUNTER, FIELD_U64},
    {"axion_engine_accepted_tokens_total",
     "Proposed tokens that were accepted.", AT(accepted_tokens_total),
     AXION_COUNTER, FIELD_U64},
    {"axion_engine_grammars", "Compiled grammars kept.", AT(grammars_kept),
     AXION_GAUGE, FIELD_U64},
    {"axion_engine_grammar_bytes", "Memory reserved for them.",
     AT(grammar_bytes), AXION_GAUGE, FIELD_U64},
    {"axion_engine_grammar_hits_total",
     "Requests whose grammar was found compiled.", AT(grammar_hits_total),
     AXION_COUNTER, FIELD_U64},
    {"axion_engine_grammar_compiles_total",
     "Requests whose grammar was compiled.", AT(grammar_compiles_total),
     AXION_COUNTER, FIELD_U64},
    {"axion_engine_grammar_masks_total", "Masks of tokens made for grammars.",
     AT(grammar_masks_total), AXION_COUNTER, FIELD_U64},
    {"axion_engine_grammar_mask_seconds_total", "Time spent making masks.",
     AT(grammar_mask_us_total), AXION_COUNTER, FIELD_U64_US},
    {"axion_engine_preemptions_total",
     "Sequences put back to be computed again.", AT(preemptions_total),
     AXION_COUNTER, FIELD_U64},
    {"axion_engine_channels_lost_protocol_total",
     "Gateways cut off for breaking the protocol.", AT(channels_lost_protocol),
     AXION_COUNTER, FIELD_U64},
};


static void
engine_labels(const struct axion_engine_view *engine,
              struct axion_label labels[2])
{
    labels[0].name = "upstream";
    labels[0].value = engine->upstream;
    labels[1].name = "engine";
    labels[1].value = engine->engine;
}


static void
put_board_field(struct axion_out *out, const struct board_field *field,
                const struct axion_engine_view *engine)
{
    const char *at = (const char *)engine->board + field->offset;
    struct axion_label labels[2];
    uint32_t u32;
    uint64_t u64;

    engine_labels(engine, labels);
    if (field->type == FIELD_U32 || field->type == FIELD_U32_MILLI) {
        memcpy(&u32, at, sizeof(u32));
        u64 = u32;
    } else {
        memcpy(&u64, at, sizeof(u64));
    }
    if (field->type == FIELD_U32_MILLI)
        axion_metric_decimal(out, field->name, labels, 2, (double)u64 / 1e3, 3);
    else if (field->type == FIELD_U64_US)
        axion_metric_decimal(out, field->name, labels, 2, (double)u64 / 1e6, 6);
    else
        axion_metric_u64(out, field->name, labels, 2, u64);
}


static void
put_engines_up(struct axion_out *out, const struct axion_engine_view *engines,
               size_t n_engines)
{
    static const char name[] = "axion_engine_up";
    struct axion_label labels[2];
    size_t i;

    axion_metric_head(out, name, AXION_GAUGE,
                      "1 when the engine is connected and ready.");
    for (i = 0; i < n_engines; i++) {
        const struct axion_board *board = engines[i].board;

        engine_labels(&engines[i], labels);
        axion_metric_u64(out, name, labels, 2,
                         board != NULL && board->state == AXION_ENGINE_READY);
    }
}


static void
put_models(struct axion_out *out, const struct axion_engine_view *engines,
           size_t n_engines)
{
    static const char name[] = "axion_engine_model_context_tokens";
    struct axion_label labels[3];
    size_t i, m;

    axion_metric_head(out, name, AXION_GAUGE,
                      "Context length of each model served.");
    for (i = 0; i < n_engines; i++) {
        const struct axion_board *board = engines[i].board;

        for (m = 0;
             board != NULL && m < board->n_models && m < AXION_MODELS_MAX;
             m++) {
            const struct axion_board_model *model = &board->models[m];

            engine_labels(&engines[i], labels);
            labels[2].name = "model";
            labels[2].value.data = model->id;
            labels[2].value.bytes = (uint32_t)axion_board_model_bytes(model);
            axion_metric_u64(out, name, labels, 3, model->context_tokens);
        }
    }
}


/* One figure of struct axion_cost by layer and kind of work. */
struct cost_field {
    const char *name;
    const char *help;
    size_t offset;
    int is_ns; /* written as seconds */
};

static const struct cost_field cost_fields[] = {
    {"axion_engine_op_seconds_total",
     "Time spent in a kind of work of a layer, with --profile.",
     offsetof(struct axion_cost, ns), 1},
    {"axion_engine_op_bytes_total",
     "Weights, keys and values that it read, with --profile.",
     offsetof(struct axion_cost, bytes), 0},
    {"axion_engine_op_operations_total",
     "Multiplications and additions of it, with --profile.",
     offsetof(struct axion_cost, operations), 0},
};


#define COST_FIELDS     (sizeof(cost_fields) / sizeof(cost_fields[0]))
#define COST_LINE_BYTES 128u /* of a line, beside its names */
#define ESCAPED_MAX     3u   /* bytes that one of a name's may become */


/* What its costs take at most. */
static size_t
costs_bytes(const struct axion_engine_view *engine)
{
    const struct axion_costs *costs = engine->costs;
    size_t names = engine->upstream.bytes + engine->engine.bytes, bytes = 0;
    uint32_t i;

    for (i = 0; i < costs->n; i++) {
        const char *op = costs->ops[costs->costs[i].op];

        bytes += COST_LINE_BYTES + ESCAPED_MAX * (names + strlen(op));
    }
    return bytes * COST_FIELDS;
}


static void
put_costs(struct axion_out *out, const struct cost_field *field,
          const struct axion_engine_view *engine)
{
    const struct axion_costs *costs = engine->costs;
    struct axion_label labels[4];
    char text[16];
    uint32_t i;

    engine_labels(engine, labels);
    labels[2].name = "layer";
    labels[3].name = "op";
    for (i = 0; i < costs->n; i++) {
        const struct axion_cost *cost = &costs->costs[i];
        struct axion_out layer;
        uint64_t value;

        memcpy(&value, (const char *)cost + field->offset, sizeof(value));
        axion_out_fixed(&layer, text, sizeof(text));
        axion_out_u64(&layer, cost->layer);
        labels[2].value.data = text;
        labels[2].value.bytes = (uint32_t)layer.bytes;
        labels[3].value.data = costs->ops[cost->op];
        labels[3].value.bytes = (uint32_t)strlen(costs->ops[cost->op]);
        if (field->is_ns)
            axion_metric_decimal(out, field->name, labels, 4,
                                 (double)value / 1e9, 6);
        else
            axion_metric_u64(out, field->name, labels, 4, value);
    }
}


void
axion_metrics_engines(struct axion_out *out,
                      const struct axion_engine_view *engines, size_t n_engines)
{
    size_t f, i;

    put_engines_up(out, engines, n_engines);
    put_models(out, engines, n_engines);
    for (f = 0; f < sizeof(board_fields) / sizeof(board_fields[0]); f++) {
        const struct board_field *field = &board_fields[f];

        axion_metric_head(out, field->name, field->metric, field->help);
        for (i = 0; i < n_engines; i++) {
            if (engines[i].board != NULL)
                put_board_field(out, field, &engines[i]);
        }
    }
    for (f = 0; f < COST_FIELDS; f++) {
        const struct cost_field *field = &cost_fields[f];
        size_t room = AXION_METRICS_COSTS_BYTES;

        axion_metric_head(out, field->name, AXION_COUNTER, field->help);
        for (i = 0; i < n_engines; i++) {
            if (engines[i].costs == NULL || costs_bytes(&engines[i]) > room)
                continue;
            room -= costs_bytes(&engines[i]);
            put_costs(out, field, &engines[i]);
        }
    }
}
