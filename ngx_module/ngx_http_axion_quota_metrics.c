/*
 * What axion_metrics and axion_status say of the quota store.  Counters are
 * of all workers; whether it is there is what the answering worker knows.
 */


#include "ngx_module/ngx_http_axion_quota.h"
#include "ngx_module/ngx_http_axion_zone.h"


static const char *ngx_http_axion_quota_state(ngx_http_axion_quota_t *quota);


static const char *
ngx_http_axion_quota_state(ngx_http_axion_quota_t *quota)
{
    if (quota->state == NGX_HTTP_AXION_REDIS_READY) {
        return "up";
    }

    return quota->away ? "away" : "connecting";
}


void
ngx_http_axion_quota_metrics(struct axion_out *out,
    ngx_http_axion_main_conf_t *amcf)
{
    ngx_uint_t               i;
    ngx_http_axion_quota_t  *quota;

    static const struct {
        const char  *name;
        const char  *help;
        size_t       offset;
    } counters[] = {
        { "axion_quota_connects_total", "Logins to the quota store.",
          offsetof(ngx_http_axion_stats_t, quota_connects) },
        { "axion_quota_failures_total",
          "Connections to it that failed, or were lost.",
          offsetof(ngx_http_axion_stats_t, quota_failures) },
        { "axion_quota_asks_total", "Round trips begun, of one tenant each.",
          offsetof(ngx_http_axion_stats_t, quota_asks) },
        { "axion_quota_answers_total", "Of these, answered.",
          offsetof(ngx_http_axion_stats_t, quota_answers) },
        { "axion_quota_alone_total",
          "Times that this node granted to itself (fail=open).",
          offsetof(ngx_http_axion_stats_t, quota_alone) },
        { "axion_quota_refused_total",
          "Refusals because the store was away (fail=closed).",
          offsetof(ngx_http_axion_stats_t, quota_refused) },
    };

    quota = amcf->quota;

    if (quota == NULL) {
        return;
    }

    axion_metric_head(out, "axion_quota_up", AXION_GAUGE,
                      "1 when this worker reaches the quota store.");
    axion_metric_u64(out, "axion_quota_up", NULL, 0,
                     quota->state == NGX_HTTP_AXION_REDIS_READY);

    for (i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
        axion_metric_head(out, counters[i].name, AXION_COUNTER,
                          counters[i].help);
        axion_metric_u64(out, counters[i].name, NULL, 0,
                         *(ngx_atomic_t *) ((u_char *) &amcf->zone->stats
                                            + counters[i].offset));
    }
}


/* Before those of tenants: what the node was granted, or has of it. */
void
ngx_http_axion_quota_metrics_head(struct axion_out *out, ngx_uint_t granted)
{
    if (granted) {
        axion_metric_head(out, "axion_quota_granted_total", AXION_COUNTER,
                          "Granted to this node; costs in cost units.");
        return;
    }

    axion_metric_head(out, "axion_quota_leased", AXION_GAUGE,
                      "What this node may spend without asking.");
}


/* Accounts that never got a grant have no limit, or no request yet. */
void
ngx_http_axion_quota_metrics_tenant(struct axion_out *out,
    const struct axion_text *name, const struct axion_balance *balance,
    ngx_uint_t granted)
{
    double              value;
    ngx_uint_t          i, kind;
    struct axion_label  labels[2];

    labels[0].name = "tenant";
    labels[0].value = *name;
    labels[1].name = "limit";

    for (i = 0; i < AXION_ACCOUNTS && balance->shares.permille != 0; i++) {

        if (balance->shares.of[i].granted == 0) {
            continue;
        }

        kind = axion_share_kind(i);
        value = (double) (granted ? balance->shares.of[i].granted
                                  : axion_share_left(balance, i));

        if (kind >= AXION_LIMIT_COST_DAY) {
            value /= AXION_COST_UNIT;
        }

        labels[1].value.data = axion_limit_name(kind);
        labels[1].value.bytes = ngx_strlen(labels[1].value.data);

        axion_metric_decimal(out,
                             granted ? "axion_quota_granted_total"
                                     : "axion_quota_leased",
                             labels, 2, value,
                             kind >= AXION_LIMIT_COST_DAY ? 6 : 0);
    }
}


void
ngx_http_axion_quota_status(struct axion_json *json,
    ngx_http_axion_main_conf_t *amcf)
{
    ngx_http_axion_quota_t  *quota;

    quota = amcf->quota;

    if (quota == NULL) {
        return;
    }

    axion_json_object(json, "quota");
    axion_json_text(json, "store", (char *) quota->name.data,
                    quota->name.len);
    axion_json_string(json, "state", ngx_http_axion_quota_state(quota));

    if (quota->away) {
        axion_json_string(json, "why", quota->why);
    }

    axion_json_string(json, "fail", quota->fail_open ? "open" : "closed");
    axion_json_close(json);
}
