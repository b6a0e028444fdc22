/*
 * What tenants used, for Prometheus and axion_status.
 *
 * By tenant: out of the balances, so over restarts.  By tenant, key and
 * model: rows of the zone, made by requests that an engine accepted (a client
 * cannot make one up), at most so many; what has no row any more is counted
 * in one that says "other".  Names are those of the configuration, never a
 * key.
 */


#include "ngx_module/ngx_http_axion_quota.h"
#include "ngx_module/ngx_http_axion_zone.h"


#define NGX_HTTP_AXION_TENANTS_SHOWN  1000


typedef struct {
    struct axion_text            name;
    struct axion_balance         balance;
    const struct axion_limits   *limits;     /* NULL: no tenant any more */
} ngx_http_axion_account_t;


typedef struct {
    ngx_http_axion_main_conf_t  *main;
    ngx_pool_t                  *pool;
    ngx_array_t                  accounts;   /* ngx_http_axion_account_t */
} ngx_http_axion_accounts_t;


/* The tenants that axion_status has written. */
typedef struct {
    struct axion_json           *json;
    ngx_http_axion_main_conf_t  *main;
    ngx_uint_t                   n;
} ngx_http_axion_shown_t;


static ngx_http_axion_usage_t *ngx_http_axion_usage_row(
    ngx_http_axion_main_conf_t *amcf, ngx_str_t *names);
static ngx_http_axion_usage_t *ngx_http_axion_usage_find(
    ngx_http_axion_zone_t *zone, uint32_t hash, ngx_str_t *names);
static void ngx_http_axion_account_visit(void *context,
    const struct axion_text *name, const struct axion_balance *balance);
static void ngx_http_axion_account_limits(ngx_http_axion_main_conf_t *amcf,
    ngx_http_axion_account_t *account);
static void ngx_http_axion_each_tenant(ngx_http_axion_main_conf_t *amcf,
    void (*visit)(void *context, const struct axion_tenant *tenant),
    void *context);
static void ngx_http_axion_metrics_tenants(struct axion_out *out,
    ngx_array_t *accounts);
static void ngx_http_axion_metrics_kinds(struct axion_out *out,
    ngx_array_t *accounts, ngx_uint_t cut);
static void ngx_http_axion_metrics_left(struct axion_out *out,
    ngx_array_t *accounts, ngx_uint_t left);
static void ngx_http_axion_metrics_leases(struct axion_out *out,
    struct axion_balances *balances);
static void ngx_http_axion_metrics_shares(struct axion_out *out,
    ngx_array_t *accounts, ngx_uint_t granted);
static void ngx_http_axion_metrics_usage(struct axion_out *out,
    ngx_http_axion_zone_t *zone);
static void ngx_http_axion_status_visit(void *context,
    const struct axion_tenant *tenant);
static void ngx_http_axion_status_tenant(struct axion_json *json,
    const struct axion_tenant *tenant, const struct axion_balance *balance);
static void ngx_http_axion_status_share(struct axion_json *json,
    const struct axion_balance *balance, ngx_uint_t kind);
static void ngx_http_axion_status_window(struct axion_json *json,
    const char *key, const struct axion_window *window);


static ngx_http_axion_usage_t *
ngx_http_axion_usage_find(ngx_http_axion_zone_t *zone, uint32_t hash,
    ngx_str_t *names)
{
    ngx_uint_t               i, k, n;
    ngx_http_axion_usage_t  *row;

    n = zone->n_usage;
    ngx_memory_barrier();

    for (i = 0; i < n; i++) {

        row = &zone->usage[i];

        for (k = 0; row->hash == hash && k < 3; k++) {
            if (ngx_strlen(row->names[k]) != names[k].len
                || ngx_memcmp(row->names[k], names[k].data, names[k].len)
                   != 0)
            {
                break;
            }

            if (k == 2) {
                return row;
            }
        }
    }

    return NULL;
}


/* Rows are never changed or removed, as those of models (_observe.c). */
static ngx_http_axion_usage_t *
ngx_http_axion_usage_row(ngx_http_axion_main_conf_t *amcf, ngx_str_t *names)
{
    uint32_t                 hash;
    ngx_uint_t               k;
    ngx_slab_pool_t         *shpool;
    ngx_http_axion_zone_t   *zone;
    ngx_http_axion_usage_t  *row;

    zone = amcf->zone;

    ngx_crc32_init(hash);

    for (k = 0; k < 3; k++) {
        names[k].len = ngx_min(names[k].len, AXION_NAME_BYTES);
        ngx_crc32_update(&hash, names[k].data, names[k].len);
    }

    ngx_crc32_final(hash);

    row = ngx_http_axion_usage_find(zone, hash, names);
    if (row != NULL) {
        return row;
    }

    shpool = (ngx_slab_pool_t *) amcf->shm_zone->shm.addr;

    ngx_shmtx_lock(&shpool->mutex);

    row = ngx_http_axion_usage_find(zone, hash, names);

    if (row == NULL && zone->n_usage < NGX_HTTP_AXION_USAGE_MAX) {
        row = &zone->usage[zone->n_usage];
        row->hash = hash;

        for (k = 0; k < 3; k++) {
            ngx_memcpy(row->names[k], names[k].data, names[k].len);
        }

        ngx_memory_barrier();
        zone->n_usage++;
    }

    ngx_shmtx_unlock(&shpool->mutex);

    return (row != NULL) ? row : &zone->other_usage;
}


/* The LOG phase of a request that an engine accepted. */
void
ngx_http_axion_limits_log(ngx_http_axion_ctx_t *ctx)
{
    ngx_str_t                names[3];
    ngx_http_axion_usage_t  *row;

    if (ctx->who.tenant == NULL) {
        return;
    }

    names[0].data = (u_char *) ctx->who.tenant->name.data;
    names[0].len = ctx->who.tenant->name.bytes;

    ngx_str_set(&names[1], "");

    if (ctx->who.key != NULL && ctx->who.key->name.data != NULL) {
        names[1].data = (u_char *) ctx->who.key->name.data;
        names[1].len = ctx->who.key->name.bytes;
    }

    ngx_str_set(&names[2], "");

    if (!ctx->unlisted) {
        names[2].data = (u_char *) ctx->parsed.served.data;
        names[2].len = ctx->parsed.served.bytes;
    }

    row = ngx_http_axion_usage_row(ctx->main, names);

    (void) ngx_atomic_fetch_add(&row->requests, 1);
    (void) ngx_atomic_fetch_add(&row->prompt_tokens,
                                ctx->usage.prompt_tokens);
    (void) ngx_atomic_fetch_add(&row->cached_tokens,
                                ctx->usage.cached_tokens);
    (void) ngx_atomic_fetch_add(&row->completion_tokens,
                                ctx->finished ? ctx->usage.completion_tokens
                                              : ctx->tokens);
    (void) ngx_atomic_fetch_add(&row->drafted_tokens,
                                ctx->usage.drafted_tokens);
    (void) ngx_atomic_fetch_add(&row->accepted_tokens,
                                ctx->usage.accepted_tokens);

    if (ctx->usage.drafted_tokens > ctx->usage.accepted_tokens) {
        (void) ngx_atomic_fetch_add(&row->wasted_tokens,
                                    ctx->usage.drafted_tokens
                                    - ctx->usage.accepted_tokens);
    }

    (void) ngx_atomic_fetch_add(&row->cost, ctx->cost);
}


/* ---- metrics ---- */


static void
ngx_http_axion_account_visit(void *context, const struct axion_text *name,
    const struct axion_balance *balance)
{
    ngx_http_axion_accounts_t  *all = context;

    ngx_http_axion_account_t   *account;

    if (all->accounts.nelts == NGX_HTTP_AXION_TENANTS_SHOWN) {
        return;
    }

    account = ngx_array_push(&all->accounts);
    if (account == NULL) {
        return;
    }

    account->balance = *balance;
    account->limits = NULL;
    account->name.bytes = name->bytes;
    account->name.data = (char *) ngx_pnalloc(all->pool, name->bytes);

    if (account->name.data == NULL) {
        all->accounts.nelts--;
        return;
    }

    ngx_memcpy((char *) account->name.data, name->data, name->bytes);

    ngx_http_axion_account_limits(all->main, account);
}


static void
ngx_http_axion_account_limits(ngx_http_axion_main_conf_t *amcf,
    ngx_http_axion_account_t *account)
{
    ngx_uint_t                       i;
    struct axion_tenant            **tenant;
    const struct axion_tenant       *found;
    ngx_http_axion_tenants_file_t  **file;

    tenant = amcf->tenants.elts;

    for (i = 0; i < amcf->tenants.nelts; i++) {
        if (tenant[i]->name.bytes == account->name.bytes
            && ngx_memcmp(tenant[i]->name.data, account->name.data,
                          account->name.bytes)
               == 0)
        {
            account->limits = &tenant[i]->limits;
        }
    }

    file = amcf->tenants_files.elts;

    for (i = 0; i < amcf->tenants_files.nelts; i++) {

        found = axion_tenants_find_name(ngx_http_axion_tenants_of(file[i]),
                                        account->name.data,
                                        account->name.bytes);
        if (found != NULL) {
            account->limits = &found->limits;
        }
    }
}


/* Those of nginx.conf, and those that the files have now. */
static void
ngx_http_axion_each_tenant(ngx_http_axion_main_conf_t *amcf,
    void (*visit)(void *context, const struct axion_tenant *tenant),
    void *context)
{
    size_t                           k;
    ngx_uint_t                       i;
    struct axion_tenant            **tenant;
    const struct axion_tenants      *set;
    ngx_http_axion_tenants_file_t  **file;

    tenant = amcf->tenants.elts;

    for (i = 0; i < amcf->tenants.nelts; i++) {
        visit(context, tenant[i]);
    }

    file = amcf->tenants_files.elts;

    for (i = 0; i < amcf->tenants_files.nelts; i++) {

        set = ngx_http_axion_tenants_of(file[i]);

        for (k = 0; set != NULL && k < set->n_tenants; k++) {
            visit(context, set->tenants[k]);
        }
    }
}


void
ngx_http_axion_limits_metrics(struct axion_out *out, ngx_pool_t *pool,
    ngx_http_axion_main_conf_t *amcf)
{
    ngx_http_axion_accounts_t  all;

    if (amcf->balances == NULL) {
        return;
    }

    all.main = amcf;
    all.pool = pool;

    if (ngx_array_init(&all.accounts, pool, 16,
                       sizeof(ngx_http_axion_account_t))
        != NGX_OK)
    {
        return;
    }

    axion_balances_each(amcf->balances, ngx_http_axion_account_visit, &all);

    ngx_http_axion_metrics_tenants(out, &all.accounts);
    ngx_http_axion_metrics_kinds(out, &all.accounts, 0);
    ngx_http_axion_metrics_kinds(out, &all.accounts, 1);
    ngx_http_axion_metrics_left(out, &all.accounts, 0);
    ngx_http_axion_metrics_left(out, &all.accounts, 1);
    ngx_http_axion_metrics_leases(out, amcf->balances);
    ngx_http_axion_metrics_usage(out, amcf->zone);
    ngx_http_axion_quota_metrics(out, amcf);

    if (amcf->quota != NULL) {
        ngx_http_axion_metrics_shares(out, &all.accounts, 0);
        ngx_http_axion_metrics_shares(out, &all.accounts, 1);
    }
}


static void
ngx_http_axion_metrics_shares(struct axion_out *out, ngx_array_t *accounts,
    ngx_uint_t granted)
{
    ngx_uint_t                 i;
    ngx_http_axion_account_t  *account;

    ngx_http_axion_quota_metrics_head(out, granted);

    account = accounts->elts;

    for (i = 0; i < accounts->nelts; i++) {
        ngx_http_axion_quota_metrics_tenant(out, &account[i].name,
                                            &account[i].balance, granted);
    }
}


static void
ngx_http_axion_metrics_tenants(struct axion_out *out, ngx_array_t *accounts)
{
    void                      *field;
    ngx_uint_t                 i, k;
    struct axion_label         label;
    ngx_http_axion_account_t  *account;

    static const struct {
        const char               *name;
        const char               *help;
        enum axion_metric_type    type;
        size_t                    offset;
        size_t                    size;
    } fields[] = {
        { "axion_tenant_requests_total", "Requests that were let in.",
          AXION_COUNTER, offsetof(struct axion_balance, requests), 8 },
        { "axion_tenant_prompt_tokens_total", "Prompt tokens charged.",
          AXION_COUNTER, offsetof(struct axion_balance, prompt_tokens), 8 },
        { "axion_tenant_cached_tokens_total",
          "Of these, found in the prefix cache.",
          AXION_COUNTER, offsetof(struct axion_balance, cached_tokens), 8 },
        { "axion_tenant_completion_tokens_total", "Answer tokens charged.",
          AXION_COUNTER, offsetof(struct axion_balance, completion_tokens),
          8 },
        { "axion_tenant_cost_total", "Cost units charged.",
          AXION_COUNTER, offsetof(struct axion_balance, cost), 0 },
        { "axion_tenant_requests_active", "Requests with a lease.",
          AXION_GAUGE, offsetof(struct axion_balance, active), 4 },
        { "axion_tenant_requests_queued", "Requests that wait for a limit.",
          AXION_GAUGE, offsetof(struct axion_balance, waiting), 4 },
    };

    label.name = "tenant";

    for (k = 0; k < sizeof(fields) / sizeof(fields[0]); k++) {

        axion_metric_head(out, fields[k].name, fields[k].type,
                          fields[k].help);

        account = accounts->elts;

        for (i = 0; i < accounts->nelts; i++) {
            label.value = account[i].name;
            field = (u_char *) &account[i].balance + fields[k].offset;

            if (fields[k].size == 0) {
                axion_metric_decimal(out, fields[k].name, &label, 1,
                                     (double) *(uint64_t *) field
                                     / AXION_COST_UNIT, 6);

            } else {
                axion_metric_u64(out, fields[k].name, &label, 1,
                                 fields[k].size == 4 ? *(uint32_t *) field
                                                     : *(uint64_t *) field);
            }
        }
    }
}


/* Refusals, and streams that were cut, by the limit that did it. */
static void
ngx_http_axion_metrics_kinds(struct axion_out *out, ngx_array_t *accounts,
    ngx_uint_t cut)
{
    uint64_t                   n;
    ngx_uint_t                 i, kind;
    const char                *name;
    struct axion_label         labels[2];
    ngx_http_axion_account_t  *account;

    name = cut ? "axion_tenant_cut_total" : "axion_tenant_refused_total";

    axion_metric_head(out, name, AXION_COUNTER,
                      cut ? "Streams ended at the tenant's last token."
                          : "Requests refused (dry run: that would be).");

    labels[0].name = "tenant";
    labels[1].name = "limit";

    account = accounts->elts;

    for (i = 0; i < accounts->nelts; i++) {
        labels[0].value = account[i].name;

        for (kind = AXION_LIMIT_REQUESTS; kind < AXION_LIMITS; kind++) {

            n = cut ? account[i].balance.ended[kind]
                    : account[i].balance.refused[kind];

            if (n != 0) {
                labels[1].value.data = axion_limit_name(kind);
                labels[1].value.bytes = ngx_strlen(labels[1].value.data);
                axion_metric_u64(out, name, labels, 2, n);
            }
        }
    }
}


static void
ngx_http_axion_metrics_left(struct axion_out *out, ngx_array_t *accounts,
    ngx_uint_t left)
{
    double                     value;
    ngx_uint_t                 i, kind;
    const char                *name;
    struct axion_label         labels[2];
    struct axion_limit_time    now;
    struct axion_limit_view    view;
    ngx_http_axion_account_t  *account;

    name = left ? "axion_tenant_limit_left" : "axion_tenant_limit";

    axion_metric_head(out, name, AXION_GAUGE,
                      left ? "What is left of a tenant's limit."
                           : "A tenant's limit; costs in cost units.");

    now = axion_limit_now();

    labels[0].name = "tenant";
    labels[1].name = "limit";

    account = accounts->elts;

    for (i = 0; i < accounts->nelts; i++) {
        labels[0].value = account[i].name;

        for (kind = AXION_LIMIT_REQUESTS;
             account[i].limits != NULL && kind < AXION_LIMITS;
             kind++)
        {
            axion_limits_look(&account[i].balance, account[i].limits, &now,
                              kind, &view);

            if (view.limit == 0) {
                continue;
            }

            value = (double) (left ? view.left : view.limit);

            if (kind >= AXION_LIMIT_COST_DAY) {
                value /= AXION_COST_UNIT;
            }

            labels[1].value.data = axion_limit_name(kind);
            labels[1].value.bytes = ngx_strlen(labels[1].value.data);
            axion_metric_decimal(out, name, labels, 2, value,
                                 kind >= AXION_LIMIT_COST_DAY ? 6 : 0);
        }
    }
}


static void
ngx_http_axion_metrics_leases(struct axion_out *out,
    struct axion_balances *balances)
{
    struct axion_balances_figures  figures;

    axion_balances_figures(balances, &figures);

    axion_metric_head(out, "axion_balances", AXION_GAUGE,
                      "Tenants that have a balance.");
    axion_metric_u64(out, "axion_balances", NULL, 0, figures.tenants);

    axion_metric_head(out, "axion_balance_places", AXION_GAUGE,
                      "Places for balances, doubled when they are needed.");
    axion_metric_u64(out, "axion_balance_places", NULL, 0, figures.places);

    axion_metric_head(out, "axion_leases", AXION_GAUGE,
                      "Leases of requests, those that wait included.");
    axion_metric_u64(out, "axion_leases", NULL, 0, figures.leases);

    axion_metric_head(out, "axion_leases_orphaned", AXION_GAUGE,
                      "Of these, left behind by processes that died.");
    axion_metric_u64(out, "axion_leases_orphaned", NULL, 0, figures.orphans);

    axion_metric_head(out, "axion_leases_recovered_total", AXION_COUNTER,
                      "Orphans that an engine's journal settled.");
    axion_metric_u64(out, "axion_leases_recovered_total", NULL, 0,
                     figures.recovered);

    axion_metric_head(out, "axion_leases_forfeited_total", AXION_COUNTER,
                      "Orphans that were charged in full.");
    axion_metric_u64(out, "axion_leases_forfeited_total", NULL, 0,
                     figures.forfeited);
}


static void
ngx_http_axion_metrics_usage(struct axion_out *out,
    ngx_http_axion_zone_t *zone)
{
    uint64_t                 n;
    ngx_uint_t               i, k, m, rows;
    struct axion_label       labels[3];
    ngx_http_axion_usage_t  *row;

    static const char *const  label_names[3] = { "tenant", "key", "model" };

    static const struct {
        const char  *name;
        const char  *help;
        size_t       offset;
    } fields[] = {
        { "axion_usage_requests_total", "Accepted requests.",
          offsetof(ngx_http_axion_usage_t, requests) },
        { "axion_usage_prompt_tokens_total", "Their prompt tokens.",
          offsetof(ngx_http_axion_usage_t, prompt_tokens) },
        { "axion_usage_cached_tokens_total",
          "Of these, found in the prefix cache.",
          offsetof(ngx_http_axion_usage_t, cached_tokens) },
        { "axion_usage_completion_tokens_total", "Their answers' tokens.",
          offsetof(ngx_http_axion_usage_t, completion_tokens) },
        { "axion_usage_drafted_tokens_total",
          "Tokens that speculation proposed for them.",
          offsetof(ngx_http_axion_usage_t, drafted_tokens) },
        { "axion_usage_accepted_tokens_total",
          "Of these, accepted; the answers' tokens include them.",
          offsetof(ngx_http_axion_usage_t, accepted_tokens) },
        { "axion_usage_wasted_tokens_total",
          "Of these, computed in vain; never charged.",
          offsetof(ngx_http_axion_usage_t, wasted_tokens) },
        { "axion_usage_cost_total", "Their cost.",
          offsetof(ngx_http_axion_usage_t, cost) },
    };

    rows = zone->n_usage;
    ngx_memory_barrier();

    for (k = 0; k < sizeof(fields) / sizeof(fields[0]); k++) {

        axion_metric_head(out, fields[k].name, AXION_COUNTER, fields[k].help);

        for (i = 0; i <= rows; i++) {

            row = (i < rows) ? &zone->usage[i] : &zone->other_usage;

            if (i == rows && row->requests == 0) {
                break;
            }

            for (m = 0; m < 3; m++) {
                labels[m].name = label_names[m];
                labels[m].value.data = (i < rows) ? (char *) row->names[m]
                                                  : "other";
                labels[m].value.bytes = ngx_strlen(labels[m].value.data);
            }

            n = *(ngx_atomic_t *) ((u_char *) row + fields[k].offset);

            if (fields[k].offset == offsetof(ngx_http_axion_usage_t, cost)) {
                axion_metric_decimal(out, fields[k].name, labels, 3,
                                     (double) n / AXION_COST_UNIT, 6);

            } else {
                axion_metric_u64(out, fields[k].name, labels, 3, n);
            }
        }
    }
}


/* ---- axion_status ---- */


void
ngx_http_axion_limits_status(struct axion_json *json,
    ngx_http_axion_main_conf_t *amcf)
{
    ngx_http_axion_shown_t  shown;

    ngx_http_axion_quota_status(json, amcf);

    axion_json_array(json, "tenants");

    shown.json = json;
    shown.main = amcf;
    shown.n = 0;

    ngx_http_axion_each_tenant(amcf, ngx_http_axion_status_visit, &shown);

    axion_json_close(json);
}


static void
ngx_http_axion_status_visit(void *context, const struct axion_tenant *tenant)
{
    ngx_http_axion_shown_t  *shown = context;

    struct axion_balance  balance;

    if (shown->n++ >= NGX_HTTP_AXION_TENANTS_SHOWN) {
        return;
    }

    if (shown->main->balances == NULL
        || !axion_balances_read(shown->main->balances, tenant->number,
                                &tenant->name, &balance))
    {
        ngx_memzero(&balance, sizeof(struct axion_balance));
    }

    ngx_http_axion_status_tenant(shown->json, tenant, &balance);
}


static void
ngx_http_axion_status_tenant(struct axion_json *json,
    const struct axion_tenant *tenant, const struct axion_balance *balance)
{
    ngx_uint_t               kind;
    struct axion_limit_time  now;
    struct axion_limit_view  view;

    now = axion_limit_now();

    axion_json_object(json, NULL);
    axion_json_text(json, "name", tenant->name.data, tenant->name.bytes);
    axion_json_u64(json, "active", balance->active);
    axion_json_u64(json, "queued", balance->waiting);
    axion_json_u64(json, "requests", balance->requests);
    axion_json_u64(json, "prompt_tokens", balance->prompt_tokens);
    axion_json_u64(json, "cached_tokens", balance->cached_tokens);
    axion_json_u64(json, "completion_tokens", balance->completion_tokens);
    axion_json_decimal(json, "cost", (double) balance->cost / AXION_COST_UNIT,
                       6);

    ngx_http_axion_status_window(json, "day",
                                 &balance->windows[AXION_WINDOW_DAY]);
    ngx_http_axion_status_window(json, "month",
                                 &balance->windows[AXION_WINDOW_MONTH]);

    axion_json_array(json, "limits");

    for (kind = AXION_LIMIT_REQUESTS; kind < AXION_LIMITS; kind++) {

        axion_limits_look(balance, &tenant->limits, &now, kind, &view);

        if (view.limit == 0) {
            continue;
        }

        axion_json_object(json, NULL);
        axion_json_string(json, "limit", axion_limit_name(kind));

        if (kind >= AXION_LIMIT_COST_DAY) {
            axion_json_decimal(json, "is", (double) view.limit
                                           / AXION_COST_UNIT, 6);
            axion_json_decimal(json, "left", (double) view.left
                                             / AXION_COST_UNIT, 6);

        } else {
            axion_json_u64(json, "is", view.limit);
            axion_json_u64(json, "left", view.left);
        }

        axion_json_u64(json, "reset_ms", view.reset_ms);
        ngx_http_axion_status_share(json, balance, kind);
        axion_json_close(json);
    }

    axion_json_close(json);
    axion_json_close(json);
}


/* Of what nodes share: what this node may spend without asking. */
static void
ngx_http_axion_status_share(struct axion_json *json,
    const struct axion_balance *balance, ngx_uint_t kind)
{
    uint64_t    left;
    ngx_uint_t  i;

    for (i = 0; i < AXION_ACCOUNTS && balance->shares.permille != 0; i++) {

        if (axion_share_kind(i) != kind) {
            continue;
        }

        left = axion_share_left(balance, i);

        if (kind >= AXION_LIMIT_COST_DAY) {
            axion_json_decimal(json, "leased", (double) left / AXION_COST_UNIT,
                               6);

        } else {
            axion_json_u64(json, "leased", left);
        }
    }
}


/* The window that the last request was in; it may be over. */
static void
ngx_http_axion_status_window(struct axion_json *json, const char *key,
    const struct axion_window *window)
{
    axion_json_object(json, key);
    axion_json_u64(json, "window", window->id);
    axion_json_u64(json, "tokens", window->tokens);
    axion_json_decimal(json, "cost", (double) window->cost / AXION_COST_UNIT,
                       6);
    axion_json_close(json);
}
