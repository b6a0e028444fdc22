/*
 * axion_status [UPSTREAM]: JSON for people, load balancers and Kubernetes.
 *
 *   liveness    the location itself: 200 whenever the worker answers
 *   readiness   with the argument `ready` (/status?ready): 200 when at least
 *               one engine of the upstream is connected and READY, else 503
 *
 * Without UPSTREAM all upstreams are shown, and one that is not ready makes
 * the whole not ready.  The figures are those of the worker that answers.
 */


#include "ngx_module/ngx_http_axion_remote.h"


#define NGX_HTTP_AXION_STATUS_MAX  (4 * 1024 * 1024)


static ngx_uint_t ngx_http_axion_upstream_ready(
    ngx_http_axion_upstream_t *upstream);
static ngx_uint_t ngx_http_axion_shown(ngx_http_axion_loc_conf_t *alcf,
    ngx_http_axion_upstream_t *upstream);
static void ngx_http_axion_status_upstream(struct axion_json *json,
    ngx_http_axion_main_conf_t *amcf, ngx_http_axion_upstream_t *upstream);
static void ngx_http_axion_status_body(struct axion_out *out,
    ngx_http_axion_main_conf_t *amcf, ngx_http_axion_loc_conf_t *alcf,
    ngx_uint_t ready);


ngx_int_t
ngx_http_axion_status_handler(ngx_http_request_t *r)
{
    ngx_int_t                     rc;
    ngx_str_t                     value;
    ngx_uint_t                    i, ready, status;
    struct axion_out              out;
    struct axion_memory           memory;
    ngx_http_axion_loc_conf_t    *alcf;
    ngx_http_axion_upstream_t   **upstream;
    ngx_http_axion_main_conf_t   *amcf;

    if (r->method != NGX_HTTP_GET && r->method != NGX_HTTP_HEAD) {
        return NGX_HTTP_NOT_ALLOWED;
    }

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    amcf = ngx_http_get_module_main_conf(r, ngx_http_axion_module);
    alcf = ngx_http_get_module_loc_conf(r, ngx_http_axion_module);

    upstream = amcf->upstreams.elts;
    ready = 1;

    for (i = 0; i < amcf->upstreams.nelts; i++) {
        if (ngx_http_axion_shown(alcf, upstream[i])
            && !ngx_http_axion_upstream_ready(upstream[i]))
        {
            ready = 0;
        }
    }

    memory = ngx_http_axion_memory(r->pool);
    axion_out_grow(&out, &memory, 4096, NGX_HTTP_AXION_STATUS_MAX);

    ngx_http_axion_status_body(&out, amcf, alcf, ready);

    status = NGX_HTTP_OK;

    if (!ready
        && ((r->args.len == 5 && ngx_strncmp(r->args.data, "ready", 5) == 0)
            || ngx_http_arg(r, (u_char *) "ready", 5, &value) == NGX_OK))
    {
        status = NGX_HTTP_SERVICE_UNAVAILABLE;
    }

    return ngx_http_axion_send(r, status, "application/json", &out);
}


static ngx_uint_t
ngx_http_axion_shown(ngx_http_axion_loc_conf_t *alcf,
    ngx_http_axion_upstream_t *upstream)
{
    return (alcf->status != NULL) ? alcf->status == upstream : upstream->used;
}


static ngx_uint_t
ngx_http_axion_upstream_ready(ngx_http_axion_upstream_t *upstream)
{
    ngx_uint_t                 i;
    ngx_http_axion_engine_t  **engine;

    /* whether a remote answers is known when it is asked */

    if (upstream->remotes.nelts != 0) {
        return 1;
    }

    engine = upstream->engines.elts;

    for (i = 0; i < upstream->engines.nelts; i++) {
        if (ngx_http_axion_engine_board(engine[i]) == NGX_OK
            && engine[i]->board.state == AXION_ENGINE_READY)
        {
            return 1;
        }
    }

    return 0;
}


static void
ngx_http_axion_status_body(struct axion_out *out,
    ngx_http_axion_main_conf_t *amcf, ngx_http_axion_loc_conf_t *alcf,
    ngx_uint_t ready)
{
    ngx_uint_t                    i;
    struct axion_json             json;
    ngx_http_axion_upstream_t   **upstream;

    axion_json_init(&json, out);
    axion_json_object(&json, NULL);
    axion_json_string(&json, "status", "ok");
    axion_json_bool(&json, "ready", (int) ready);
    axion_json_u64(&json, "worker_pid", (uint64_t) ngx_pid);
    axion_json_array(&json, "upstreams");

    upstream = amcf->upstreams.elts;

    for (i = 0; i < amcf->upstreams.nelts; i++) {
        if (ngx_http_axion_shown(alcf, upstream[i])) {
            ngx_http_axion_status_upstream(&json, amcf, upstream[i]);
        }
    }

    axion_json_close(&json);
    ngx_http_axion_limits_status(&json, amcf);
    axion_json_close(&json);
    axion_out_text(out, "\n");
}


static void
ngx_http_axion_status_upstream(struct axion_json *json,
    ngx_http_axion_main_conf_t *amcf, ngx_http_axion_upstream_t *upstream)
{
    ngx_uint_t                  i;
    struct axion_engine_view    view;
    ngx_http_axion_remote_t   **remote;
    ngx_http_axion_engine_t   **engine;

    axion_json_object(json, NULL);
    axion_json_text(json, "name", (char *) upstream->name.data,
                    upstream->name.len);
    axion_json_bool(json, "ready",
                    (int) ngx_http_axion_upstream_ready(upstream));
    ngx_http_axion_patterns_status(json, amcf, upstream);
    axion_json_array(json, "engines");

    engine = upstream->engines.elts;

    for (i = 0; i < upstream->engines.nelts; i++) {
        view.upstream = ngx_http_axion_text(&upstream->name);
        view.engine = ngx_http_axion_text(&engine[i]->name);
        view.board = (ngx_http_axion_engine_board(engine[i]) == NGX_OK)
                         ? &engine[i]->board : NULL;
        view.costs = NULL;

        axion_json_engine(json, NULL, &view);
    }

    axion_json_close(json);
    axion_json_array(json, "remotes");

    remote = upstream->remotes.elts;

    for (i = 0; i < upstream->remotes.nelts; i++) {
        axion_json_object(json, NULL);
        axion_json_text(json, "name", (char *) remote[i]->name.data,
                        remote[i]->name.len);
        axion_json_bool(json, "backup", remote[i]->backup);
        axion_json_u64(json, "in_flight", remote[i]->in_flight);
        axion_json_u64(json, "requests", remote[i]->stats->requests);
        axion_json_u64(json, "failures", remote[i]->stats->failures);
        axion_json_close(json);
    }

    axion_json_close(json);
    axion_json_close(json);
}
