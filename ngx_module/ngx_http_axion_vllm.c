/*
 * axion_metrics vllm_compat: vLLM's names, which the Kubernetes endpoint
 * picker and stock dashboards look for, beside our own.
 *
 * The label model_name has the id that clients use.  Gauges are sums over
 * the connected engines that have the model, so that an endpoint with
 * several engines reads as one.  Counters and histograms are this gateway's,
 * of _observe.c; those that only an engine has are by engine, since a sum
 * over engines goes down when one of them restarts, and a rate would take
 * that for growth.  What we cannot fill truthfully is left out:
 * docs/metrics.md has the list.
 */


#include "ngx_module/ngx_http_axion_zone.h"


typedef struct {
    uint64_t     running;
    uint64_t     waiting;
    uint64_t     blocks;
    uint64_t     used;
    unsigned     there:1;
} ngx_http_axion_load_t;


typedef struct {
    const char  *name;
    const char  *help;
    size_t       offset;
} ngx_http_axion_figure_t;


static void ngx_http_axion_vllm_loads(ngx_http_axion_main_conf_t *amcf,
    ngx_http_axion_load_t *loads);
static void ngx_http_axion_vllm_gauges(struct axion_out *out,
    ngx_http_axion_zone_t *zone, const ngx_http_axion_load_t *loads);
static void ngx_http_axion_vllm_engines(struct axion_out *out,
    ngx_http_axion_main_conf_t *amcf);
static void ngx_http_axion_vllm_counters(struct axion_out *out,
    ngx_http_axion_zone_t *zone);
static void ngx_http_axion_vllm_finished(struct axion_out *out,
    ngx_http_axion_zone_t *zone);
static void ngx_http_axion_vllm_times(struct axion_out *out,
    ngx_http_axion_zone_t *zone);
static void ngx_http_axion_vllm_tokens(struct axion_out *out,
    ngx_http_axion_zone_t *zone);
static void ngx_http_axion_vllm_copy(uint64_t *counts,
    ngx_http_axion_histogram_t *histogram);
static struct axion_label ngx_http_axion_vllm_label(const char *name,
    const char *value);


static const char  ngx_http_axion_model_label[] = "model_name";


void
ngx_http_axion_metrics_vllm(struct axion_out *out,
    ngx_http_axion_main_conf_t *amcf)
{
    ngx_http_axion_load_t  loads[NGX_HTTP_AXION_MODELS_MAX];

    ngx_http_axion_vllm_loads(amcf, loads);
    ngx_http_axion_vllm_gauges(out, amcf->zone, loads);
    ngx_http_axion_vllm_engines(out, amcf);
    ngx_http_axion_vllm_counters(out, amcf->zone);
    ngx_http_axion_vllm_finished(out, amcf->zone);
    ngx_http_axion_vllm_times(out, amcf->zone);
    ngx_http_axion_vllm_tokens(out, amcf->zone);
}


/* Model ids of boards are written by the escaping writer of api/metrics.h. */
static struct axion_label
ngx_http_axion_vllm_label(const char *name, const char *value)
{
    struct axion_label  label;

    label.name = name;
    label.value.data = value;
    label.value.bytes = (uint32_t) ngx_strlen(value);

    return label;
}


static void
ngx_http_axion_vllm_loads(ngx_http_axion_main_conf_t *amcf,
    ngx_http_axion_load_t *loads)
{
    size_t                     len;
    ngx_uint_t                 i, m;
    const char                *id;
    ngx_http_axion_load_t     *load;
    ngx_http_axion_model_t    *model;
    const struct axion_board  *board;
    ngx_http_axion_engine_t  **engine;

    ngx_memzero(loads,
                NGX_HTTP_AXION_MODELS_MAX * sizeof(ngx_http_axion_load_t));

    engine = amcf->engines.elts;

    for (i = 0; i < amcf->engines.nelts; i++) {

        if (ngx_http_axion_engine_board(engine[i]) != NGX_OK) {
            continue;
        }

        board = &engine[i]->board;

        for (m = 0; m < board->n_models && m < AXION_MODELS_MAX; m++) {

            id = board->models[m].id;
            len = axion_board_model_bytes(&board->models[m]);

            /* one that a board names twice counts once */

            if (axion_board_find_model(board, id, len) != &board->models[m]) {
                continue;
            }

            model = ngx_http_axion_find_model(amcf, id, len);
            if (model == NULL) {
                continue;
            }

            load = &loads[model - amcf->zone->models];
            load->there = 1;
            load->running += board->running;
            load->waiting += board->waiting;
            load->blocks += board->kv_blocks_total;
            load->used += board->kv_blocks_used;
        }
    }
}


static void
ngx_http_axion_vllm_gauges(struct axion_out *out, ngx_http_axion_zone_t *zone,
    const ngx_http_axion_load_t *loads)
{
    ngx_uint_t          i, k;
    struct axion_label  label;

    static const char                     usage[] = "vllm:kv_cache_usage_perc";
    static const ngx_http_axion_figure_t  gauges[] = {
        { "vllm:num_requests_running", "Sequences in the batch.",
          offsetof(ngx_http_axion_load_t, running) },
        { "vllm:num_requests_waiting", "Requests in the engines' queues.",
          offsetof(ngx_http_axion_load_t, waiting) },
    };

    for (k = 0; k < sizeof(gauges) / sizeof(gauges[0]); k++) {

        axion_metric_head(out, gauges[k].name, AXION_GAUGE, gauges[k].help);

        for (i = 0; i < NGX_HTTP_AXION_MODELS_MAX; i++) {

            if (!loads[i].there) {
                continue;
            }

            label = ngx_http_axion_vllm_label(ngx_http_axion_model_label,
                                              (char *) zone->models[i].name);
            axion_metric_u64(out, gauges[k].name, &label, 1,
                             *(uint64_t *) ((u_char *) &loads[i]
                                            + gauges[k].offset));
        }
    }

    axion_metric_head(out, usage, AXION_GAUGE,
                      "Part of the KV blocks in use, 0 to 1.");

    for (i = 0; i < NGX_HTTP_AXION_MODELS_MAX; i++) {

        if (!loads[i].there || loads[i].blocks == 0) {
            continue;
        }

        label = ngx_http_axion_vllm_label(ngx_http_axion_model_label,
                                          (char *) zone->models[i].name);
        axion_metric_decimal(out, usage, &label, 1,
                             (double) loads[i].used / loads[i].blocks, 6);
    }
}


/* What only an engine knows: by engine, with the first model it names. */
static void
ngx_http_axion_vllm_engines(struct axion_out *out,
    ngx_http_axion_main_conf_t *amcf)
{
    u_char                     size[NGX_INT32_LEN + 1];
    u_char                     blocks[NGX_INT32_LEN + 1];
    ngx_uint_t                 i, k;
    struct axion_label         labels[4];
    const struct axion_board  *board;
    ngx_http_axion_engine_t  **engine;

    static const char  *const names[] = {
        "vllm:num_preemptions_total", "vllm:cache_config_info"
    };

    engine = amcf->engines.elts;
    labels[0].name = ngx_http_axion_model_label;
    labels[1].name = "engine";

    for (k = 0; k < 2; k++) {

        if (k == 0) {
            axion_metric_head(out, names[k], AXION_COUNTER,
                              "Sequences put back to be computed again.");
        } else {
            axion_metric_head(out, names[k], AXION_GAUGE,
                              "Tokens of a KV block, and KV blocks.");
        }

        for (i = 0; i < amcf->engines.nelts; i++) {

            board = &engine[i]->board;

            if (ngx_http_axion_engine_board(engine[i]) != NGX_OK
                || board->n_models == 0)
            {
                continue;
            }

            labels[0].value.data = board->models[0].id;
            labels[0].value.bytes =
                      (uint32_t) axion_board_model_bytes(&board->models[0]);
            labels[1].value = ngx_http_axion_text(&engine[i]->name);

            if (k == 0) {
                axion_metric_u64(out, names[k], labels, 2,
                                 board->preemptions_total);
                continue;
            }

            ngx_sprintf(size, "%uD%Z", board->kv_block_tokens);
            ngx_sprintf(blocks, "%uD%Z", board->kv_blocks_total);
            labels[2] = ngx_http_axion_vllm_label("block_size",
                                                  (char *) size);
            labels[3] = ngx_http_axion_vllm_label("num_gpu_blocks",
                                                  (char *) blocks);
            axion_metric_u64(out, names[k], labels, 4, 1);
        }
    }
}


static void
ngx_http_axion_vllm_counters(struct axion_out *out,
    ngx_http_axion_zone_t *zone)
{
    ngx_uint_t          i, k, n;
    struct axion_label  label;

    static const ngx_http_axion_figure_t  counters[] = {
        { "vllm:prompt_tokens_total", "Prompt tokens of accepted requests.",
          offsetof(ngx_http_axion_model_t, prompt_tokens) },
        { "vllm:generation_tokens_total", "Tokens generated for clients.",
          offsetof(ngx_http_axion_model_t, generation_tokens) },
    };

    n = zone->n_models;

    for (k = 0; k < sizeof(counters) / sizeof(counters[0]); k++) {

        axion_metric_head(out, counters[k].name, AXION_COUNTER,
                          counters[k].help);

        for (i = 0; i < n; i++) {
            label = ngx_http_axion_vllm_label(ngx_http_axion_model_label,
                                              (char *) zone->models[i].name);
            axion_metric_u64(out, counters[k].name, &label, 1,
                             *(ngx_atomic_t *) ((u_char *) &zone->models[i]
                                                + counters[k].offset));
        }
    }
}


static void
ngx_http_axion_vllm_finished(struct axion_out *out,
    ngx_http_axion_zone_t *zone)
{
    ngx_uint_t          i, k, n;
    struct axion_label  labels[2];

    static const char         name[] = "vllm:request_success_total";
    static const char *const  reasons[NGX_HTTP_AXION_FINISHED_REASONS] = {
        "stop", "length", "abort"
    };

    axion_metric_head(out, name, AXION_COUNTER,
                      "Requests that ended without an error.");

    n = zone->n_models;

    for (i = 0; i < n; i++) {
        labels[0] = ngx_http_axion_vllm_label(ngx_http_axion_model_label,
                                              (char *) zone->models[i].name);

        for (k = 0; k < NGX_HTTP_AXION_FINISHED_REASONS; k++) {
            labels[1] = ngx_http_axion_vllm_label("finished_reason",
                                                  reasons[k]);
            axion_metric_u64(out, name, labels, 2,
                             zone->models[i].finished[k]);
        }
    }
}


static void
ngx_http_axion_vllm_copy(uint64_t *counts,
    ngx_http_axion_histogram_t *histogram)
{
    ngx_uint_t  i;

    for (i = 0; i <= NGX_HTTP_AXION_BOUNDS_MAX; i++) {
        counts[i] = histogram->counts[i];
    }
}


static void
ngx_http_axion_vllm_times(struct axion_out *out, ngx_http_axion_zone_t *zone)
{
    uint64_t                     counts[NGX_HTTP_AXION_BOUNDS_MAX + 1];
    ngx_uint_t                   i, k, n;
    struct axion_label           label;
    ngx_http_axion_histogram_t  *histogram;

    static const ngx_http_axion_figure_t  times[] = {
        { "vllm:time_to_first_token_seconds",
          "From the body's arrival to the first token.",
          offsetof(ngx_http_axion_model_t, ttft) },
        { "vllm:inter_token_latency_seconds",
          "Between two events with tokens of one answer.",
          offsetof(ngx_http_axion_model_t, inter_token) },
        { "vllm:e2e_request_latency_seconds",
          "From the body's arrival to the answer's end.",
          offsetof(ngx_http_axion_model_t, e2e) },
        { "vllm:request_queue_time_seconds",
          "From the engine's first sight to the first scheduled step.",
          offsetof(ngx_http_axion_model_t, queue) },
        { "vllm:request_prefill_time_seconds",
          "From the first scheduled step to the first token.",
          offsetof(ngx_http_axion_model_t, prefill) },
        { "vllm:request_decode_time_seconds",
          "From the first token to the last one.",
          offsetof(ngx_http_axion_model_t, decode) },
        { "vllm:request_inference_time_seconds",
          "From the first scheduled step to the last token.",
          offsetof(ngx_http_axion_model_t, inference) },
    };

    n = zone->n_models;

    for (k = 0; k < sizeof(times) / sizeof(times[0]); k++) {

        axion_metric_head(out, times[k].name, AXION_HISTOGRAM,
                          times[k].help);

        for (i = 0; i < n; i++) {
            histogram = (ngx_http_axion_histogram_t *)
                            ((u_char *) &zone->models[i] + times[k].offset);
            ngx_http_axion_vllm_copy(counts, histogram);
            label = ngx_http_axion_vllm_label(ngx_http_axion_model_label,
                                              (char *) zone->models[i].name);
            axion_metric_histogram_us(out, times[k].name, &label, 1,
                                      ngx_http_axion_time_bounds_us,
                                      ngx_http_axion_time_bounds, counts,
                                      histogram->sum);
        }
    }
}


static void
ngx_http_axion_vllm_tokens(struct axion_out *out, ngx_http_axion_zone_t *zone)
{
    uint64_t                     counts[NGX_HTTP_AXION_BOUNDS_MAX + 1];
    ngx_uint_t                   i, k, n;
    struct axion_label           label;
    ngx_http_axion_histogram_t  *histogram;

    /* with one choice a request its longest answer is the only one */

    static const ngx_http_axion_figure_t  tokens[] = {
        { "vllm:request_prompt_tokens", "Prompt tokens of one request.",
          offsetof(ngx_http_axion_model_t, request_prompt) },
        { "vllm:request_generation_tokens", "Tokens of one answer.",
          offsetof(ngx_http_axion_model_t, request_generation) },
        { "vllm:request_max_num_generation_tokens",
          "Tokens of a request's longest answer.",
          offsetof(ngx_http_axion_model_t, request_generation) },
        { "vllm:request_params_max_tokens",
          "max_tokens of requests that give it.",
          offsetof(ngx_http_axion_model_t, request_max_tokens) },
    };

    n = zone->n_models;

    for (k = 0; k < sizeof(tokens) / sizeof(tokens[0]); k++) {

        axion_metric_head(out, tokens[k].name, AXION_HISTOGRAM,
                          tokens[k].help);

        for (i = 0; i < n; i++) {
            histogram = (ngx_http_axion_histogram_t *)
                            ((u_char *) &zone->models[i] + tokens[k].offset);
            ngx_http_axion_vllm_copy(counts, histogram);
            label = ngx_http_axion_vllm_label(ngx_http_axion_model_label,
                                              (char *) zone->models[i].name);
            axion_metric_histogram_u64(out, tokens[k].name, &label, 1,
                                       ngx_http_axion_token_bounds,
                                       ngx_http_axion_token_bounds_n, counts,
                                       histogram->sum);
        }
    }
}
