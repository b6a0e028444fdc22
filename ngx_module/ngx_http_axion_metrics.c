/*
 * axion_metrics: the gateway's counters out of the shared zone (all workers)
 * and every engine's figures from its load board, in Prometheus' format.
 * Labels are bounded by the configuration and by the error table; no key,
 * tenant name or client's text is among them.  docs/metrics.md lists all.
 */


#include "ngx_module/ngx_http_axion_remote.h"


#define NGX_HTTP_AXION_METRICS_MAX                                           \
    (4 * 1024 * 1024 + AXION_METRICS_COSTS_BYTES)
#define NGX_HTTP_AXION_VIEWS_MAX    256


static void ngx_http_axion_metrics_requests(struct axion_out *out,
    ngx_http_axion_stats_t *stats);
static void ngx_http_axion_metrics_errors(struct axion_out *out,
    ngx_http_axion_stats_t *stats);
static void ngx_http_axion_metrics_streams(struct axion_out *out,
    ngx_http_axion_zone_t *zone);
static void ngx_http_axion_metrics_ttft(struct axion_out *out,
    ngx_http_axion_stats_t *stats);
static void ngx_http_axion_metrics_links(struct axion_out *out,
    ngx_http_axion_main_conf_t *amcf);
static void ngx_http_axion_metrics_engines(struct axion_out *out,
    ngx_pool_t *pool, ngx_http_axion_main_conf_t *amcf);
static const struct axion_costs *ngx_http_axion_metrics_costs(
    ngx_http_axion_engine_t *engine, ngx_pool_t *pool,
    struct axion_costs **spare);
static struct axion_text ngx_http_axion_literal(const char *text);


ngx_int_t
ngx_http_axion_metrics_handler(ngx_http_request_t *r)
{
    ngx_int_t                    rc;
    struct axion_out             out;
    struct axion_memory          memory;
    ngx_http_axion_loc_conf_t   *alcf;
    ngx_http_axion_main_conf_t  *amcf;

    if (r->method != NGX_HTTP_GET && r->method != NGX_HTTP_HEAD) {
        return NGX_HTTP_NOT_ALLOWED;
    }

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    amcf = ngx_http_get_module_main_conf(r, ngx_http_axion_module);
    alcf = ngx_http_get_module_loc_conf(r, ngx_http_axion_module);

    memory = ngx_http_axion_memory(r->pool);
    axion_out_grow(&out, &memory, 8192, NGX_HTTP_AXION_METRICS_MAX);

    ngx_http_axion_metrics_requests(&out, &amcf->zone->stats);
    ngx_http_axion_metrics_errors(&out, &amcf->zone->stats);
    ngx_http_axion_metrics_streams(&out, amcf->zone);
    ngx_http_axion_metrics_ttft(&out, &amcf->zone->stats);
    ngx_http_axion_metrics_links(&out, amcf);
    ngx_http_axion_metrics_engines(&out, r->pool, amcf);
    ngx_http_axion_remotes_metrics(&out, amcf);
    ngx_http_axion_limits_metrics(&out, r->pool, amcf);

    if (alcf->vllm_compat) {
        ngx_http_axion_metrics_vllm(&out, amcf);
    }

    return ngx_http_axion_send(r, NGX_HTTP_OK, AXION_METRICS_TYPE, &out);
}


static struct axion_text
ngx_http_axion_literal(const char *text)
{
    struct axion_text  t;

    t.data = text;
    t.bytes = (uint32_t) ngx_strlen(text);

    return t;
}


static void
ngx_http_axion_metrics_requests(struct axion_out *out,
    ngx_http_axion_stats_t *stats)
{
    ngx_uint_t          i, k;
    struct axion_label  labels[2];

    static const char         name[] = "axion_requests_total";
    static const char *const  endpoints[NGX_HTTP_AXION_ENDPOINTS] = {
        "chat_completions", "completions", "models", "model", "other"
    };
    static const char *const  classes[6] = {
        "none", "1xx", "2xx", "3xx", "4xx", "5xx"
    };

    axion_metric_head(out, name, AXION_COUNTER,
                      "Requests under axion_pass, by the status they got.");

    labels[0].name = "endpoint";
    labels[1].name = "status";

    for (i = 0; i < NGX_HTTP_AXION_ENDPOINTS; i++) {
        labels[0].value = ngx_http_axion_literal(endpoints[i]);

        for (k = 0; k < 6; k++) {
            labels[1].value = ngx_http_axion_literal(classes[k]);
            axion_metric_u64(out, name, labels, 2, stats->requests[i][k]);
        }
    }
}


static void
ngx_http_axion_metrics_errors(struct axion_out *out,
    ngx_http_axion_stats_t *stats)
{
    unsigned                        i;
    struct axion_label              label;
    const struct axion_error_info  *info;

    static const char  name[] = "axion_errors_total";

    axion_metric_head(out, name, AXION_COUNTER,
                      "Refused and failed requests, by error.");

    label.name = "error";

    for (i = 0; i < NGX_HTTP_AXION_ERRORS_MAX; i++) {

        info = axion_error_at(i);

        if (info == NULL) {
            break;
        }

        label.value = ngx_http_axion_literal(info->name);
        axion_metric_u64(out, name, &label, 1, stats->errors[i]);
    }
}


static void
ngx_http_axion_metrics_streams(struct axion_out *out,
    ngx_http_axion_zone_t *zone)
{
    uint64_t    streams;
    ngx_uint_t  i;

    static const struct {
        const char  *name;
        const char  *help;
        size_t       offset;
    } counters[] = {
        { "axion_prompt_tokens_total", "Prompt tokens of accepted requests.",
          offsetof(ngx_http_axion_stats_t, prompt_tokens) },
        { "axion_cached_tokens_total",
          "Prompt tokens found in the prefix cache.",
          offsetof(ngx_http_axion_stats_t, cached_tokens) },
        { "axion_completion_tokens_total", "Tokens generated for clients.",
          offsetof(ngx_http_axion_stats_t, completion_tokens) },
        { "axion_cancels_total",
          "Requests whose client left before their end.",
          offsetof(ngx_http_axion_stats_t, cancels) },
        { "axion_pauses_total",
          "Times a stream was paused for a slow reader.",
          offsetof(ngx_http_axion_stats_t, pauses) },
        { "axion_tenants_read_total",
          "Tenants files that workers took over anew.",
          offsetof(ngx_http_axion_stats_t, tenants_read) },
        { "axion_tenants_refused_total",
          "Tenants files that workers found wrong, or not at all.",
          offsetof(ngx_http_axion_stats_t, tenants_refused) },
        { "axion_dispatches_total",
          "Tries to hand a request to an engine.",
          offsetof(ngx_http_axion_stats_t, dispatches) },
        { "axion_fallbacks_total",
          "Requests that another model's engine was found for.",
          offsetof(ngx_http_axion_stats_t, fallbacks) },
        { "axion_retries_total",
          "Requests sent to an engine again after it was lost.",
          offsetof(ngx_http_axion_stats_t, retries) },
        { "axion_engine_joins_total",
          "Engines that workers found by a pattern.",
          offsetof(ngx_http_axion_stats_t, joins) },
        { "axion_engine_leaves_total",
          "Engines whose socket and channel were gone.",
          offsetof(ngx_http_axion_stats_t, leaves) },
    };

    for (i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
        axion_metric_head(out, counters[i].name, AXION_COUNTER,
                          counters[i].help);
        axion_metric_u64(out, counters[i].name, NULL, 0,
                         *(ngx_atomic_t *) ((u_char *) &zone->stats
                                            + counters[i].offset));
    }

    streams = 0;

    for (i = 0; i < NGX_MAX_PROCESSES; i++) {
        streams += zone->streams[i];
    }

    axion_metric_head(out, "axion_streams_active", AXION_GAUGE,
                      "Requests that an engine works on now.");
    axion_metric_u64(out, "axion_streams_active", NULL, 0, streams);
}


static void
ngx_http_axion_metrics_ttft(struct axion_out *out,
    ngx_http_axion_stats_t *stats)
{
    uint64_t    counts[NGX_HTTP_AXION_TTFT_BOUNDS + 1];
    ngx_uint_t  i;

    static const char  name[] = "axion_ttft_seconds";

    for (i = 0; i <= NGX_HTTP_AXION_TTFT_BOUNDS; i++) {
        counts[i] = stats->ttft[i];
    }

    axion_metric_head(out, name, AXION_HISTOGRAM,
                      "Time from the body's arrival to the first token.");
    axion_metric_histogram_us(out, name, NULL, 0,
                              ngx_http_axion_ttft_bounds_us,
                              NGX_HTTP_AXION_TTFT_BOUNDS, counts,
                              stats->ttft_sum_us);
}


static void
ngx_http_axion_metrics_links(struct axion_out *out,
    ngx_http_axion_main_conf_t *amcf)
{
    ngx_uint_t                 i, k;
    struct axion_label         label;
    ngx_http_axion_engine_t  **engine;

    static const struct {
        const char  *name;
        const char  *help;
        size_t       offset;
    } counters[] = {
        { "axion_engine_connects_total", "Channels opened to the engine.",
          offsetof(ngx_http_axion_engine_stats_t, connects) },
        { "axion_engine_connect_failures_total",
          "Attempts to open a channel that failed.",
          offsetof(ngx_http_axion_engine_stats_t, connect_failures) },
        { "axion_engine_losses_total",
          "Channels that ended because the engine did.",
          offsetof(ngx_http_axion_engine_stats_t, losses) },
        { "axion_engine_stalls_total",
          "Channels closed because the engine made no progress.",
          offsetof(ngx_http_axion_engine_stats_t, stalls) },
        { "axion_engine_protocol_errors_total",
          "Channels closed because the engine broke the protocol.",
          offsetof(ngx_http_axion_engine_stats_t, protocol_errors) },
    };

    engine = amcf->engines.elts;
    label.name = "engine";

    for (k = 0; k < sizeof(counters) / sizeof(counters[0]); k++) {

        axion_metric_head(out, counters[k].name, AXION_COUNTER,
                          counters[k].help);

        for (i = 0; i < amcf->engines.nelts; i++) {
            label.value = ngx_http_axion_text(&engine[i]->name);
            axion_metric_u64(out, counters[k].name, &label, 1,
                             *(ngx_atomic_t *) ((u_char *) engine[i]->stats
                                                + counters[k].offset));
        }
    }
}


static void
ngx_http_axion_metrics_engines(struct axion_out *out, ngx_pool_t *pool,
    ngx_http_axion_main_conf_t *amcf)
{
    size_t                       n;
    ngx_uint_t                   i, k;
    struct axion_costs          *spare;
    ngx_http_axion_engine_t    **engine;
    struct axion_engine_view     views[NGX_HTTP_AXION_VIEWS_MAX];
    ngx_http_axion_upstream_t  **upstream;

    n = 0;
    spare = NULL;
    upstream = amcf->upstreams.elts;

    for (i = 0; i < amcf->upstreams.nelts; i++) {

        engine = upstream[i]->engines.elts;

        for (k = 0; k < upstream[i]->engines.nelts; k++) {

            if (n == NGX_HTTP_AXION_VIEWS_MAX) {
                break;
            }

            views[n].upstream = ngx_http_axion_text(&upstream[i]->name);
            views[n].engine = ngx_http_axion_text(&engine[k]->name);
            views[n].board = (ngx_http_axion_engine_board(engine[k]) == NGX_OK)
                                 ? &engine[k]->board : NULL;
            views[n].costs = (views[n].board != NULL)
                                 ? ngx_http_axion_metrics_costs(engine[k],
                                                                pool, &spare)
                                 : NULL;
            n++;
        }
    }

    axion_metrics_engines(out, views, n);
}


/* NULL unless the engine keeps a profile; 34 KB of the pool for each that
 * does, and for one more. */
static const struct axion_costs *
ngx_http_axion_metrics_costs(ngx_http_axion_engine_t *engine, ngx_pool_t *pool,
    struct axion_costs **spare)
{
    struct axion_costs  *costs;

    if (*spare == NULL) {
        *spare = ngx_palloc(pool, sizeof(struct axion_costs));
        if (*spare == NULL) {
            return NULL;
        }
    }

    costs = *spare;

    if (axion_client_costs(engine->client, costs) != AXION_OK
        || costs->n == 0)
    {
        return NULL;
    }

    *spare = NULL;

    return costs;
}
