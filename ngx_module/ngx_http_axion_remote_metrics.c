/*
 * Counters of remotes, as Prometheus reads them.  Their requests are in the
 * gateway's own figures too; these tell which server they went to.
 */


#include "ngx_module/ngx_http_axion_remote.h"


void
ngx_http_axion_remotes_metrics(struct axion_out *out,
    ngx_http_axion_main_conf_t *amcf)
{
    ngx_uint_t                   i, j, k;
    struct axion_label           labels[2];
    ngx_http_axion_remote_t    **remote;
    ngx_http_axion_upstream_t  **upstream;

    static const struct {
        const char  *name;
        const char  *help;
        size_t       offset;
    } counters[] = {
        { "axion_remote_requests_total", "Requests sent to the remote.",
          offsetof(ngx_http_axion_remote_stats_t, requests) },
        { "axion_remote_failures_total",
          "Requests that the remote did not answer whole.",
          offsetof(ngx_http_axion_remote_stats_t, failures) },
        { "axion_remote_overflows_total",
          "Requests sent to a backup because no engine could take them.",
          offsetof(ngx_http_axion_remote_stats_t, overflows) },
        { "axion_remote_usage_bounded_total",
          "Answers whose usage was more than can be, and was cut down.",
          offsetof(ngx_http_axion_remote_stats_t, bounded) },
        { "axion_remote_usage_raised_total",
          "Answers whose usage was less than can be, and was raised.",
          offsetof(ngx_http_axion_remote_stats_t, raised) },
        { "axion_remote_context_passed_total",
          "Answers that went beyond max_context: the prompt's estimate was "
          "too low.",
          offsetof(ngx_http_axion_remote_stats_t, passed) },
    };

    upstream = amcf->upstreams.elts;
    labels[0].name = "upstream";
    labels[1].name = "remote";

    for (k = 0; amcf->n_remotes != 0
                && k < sizeof(counters) / sizeof(counters[0]); k++)
    {
        axion_metric_head(out, counters[k].name, AXION_COUNTER,
                          counters[k].help);

        for (i = 0; i < amcf->upstreams.nelts; i++) {
            remote = upstream[i]->remotes.elts;

            for (j = 0; j < upstream[i]->remotes.nelts; j++) {
                labels[0].value = ngx_http_axion_text(&upstream[i]->name);
                labels[1].value = ngx_http_axion_text(&remote[j]->name);
                axion_metric_u64(out, counters[k].name, labels, 2,
                                 *(ngx_atomic_t *)
                                     ((u_char *) remote[j]->stats
                                      + counters[k].offset));
            }
        }
    }
}
