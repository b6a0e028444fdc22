/*
 * The line of an axion_upstream:
 *
 *   remote [http://|https://]NAME[/PREFIX] [backup] [models=GLOB,...]
 *          [model=NAME] [key=VALUE|key=file:PATH] [host=NAME]
 *          [verify=on|off] [ca=FILE] [timeout=TIME] [queue=NUMBER]
 *          [context=TOKENS] [bytes_per_token=NUMBER] [usage_floor=on|off]
 *
 * NAME is an upstream {} of nginx.conf, defined before or behind, or a host
 * with a port, as in proxy_pass.  What is between this worker and the server
 * is ngx_http_upstream_conf_t, filled here once; a call copies it, since
 * times come from the location.
 *
 * A key in a file is read when the configuration is, by the master, so the
 * file need not be readable for workers.
 */


#include "ngx_module/ngx_http_axion_remote.h"


#define NGX_HTTP_AXION_REMOTE_TIMEOUT  (300 * 1000)
#define NGX_HTTP_AXION_REMOTE_HEADER   (16 * 1024)
#define NGX_HTTP_AXION_REMOTE_KEY_MAX  4096
#define NGX_HTTP_AXION_REMOTE_BYTES_MAX  16
#define NGX_HTTP_AXION_REMOTE_CA       "/etc/ssl/certs/ca-certificates.crt"


typedef struct {
    ngx_str_t                  ca;
    ngx_flag_t                 verify;
} ngx_http_axion_remote_tls_t;


static char *ngx_http_axion_remote_url(ngx_conf_t *cf,
    ngx_http_axion_remote_t *remote, ngx_str_t url);
static char *ngx_http_axion_remote_param(ngx_conf_t *cf,
    ngx_http_axion_remote_t *remote, ngx_str_t *arg,
    ngx_http_axion_remote_tls_t *tls);
static char *ngx_http_axion_remote_models(ngx_conf_t *cf,
    ngx_http_axion_remote_t *remote, ngx_str_t list);
static char *ngx_http_axion_remote_key(ngx_conf_t *cf,
    ngx_http_axion_remote_t *remote, ngx_str_t value);
static char *ngx_http_axion_remote_key_file(ngx_conf_t *cf, ngx_str_t *path,
    ngx_str_t *key);
static char *ngx_http_axion_remote_tls(ngx_conf_t *cf,
    ngx_http_axion_remote_t *remote, ngx_http_axion_remote_tls_t *tls);
static ngx_uint_t ngx_http_axion_stats_used(ngx_http_axion_main_conf_t *amcf,
    ngx_http_axion_remote_stats_t *stats);


char *
ngx_http_axion_upstream_remote(ngx_conf_t *cf,
    ngx_http_axion_upstream_t *upstream)
{
    char                         *rv;
    u_char                       *p;
    ngx_str_t                    *value;
    ngx_uint_t                    i;
    ngx_http_axion_remote_t      *remote, **r;
    ngx_http_axion_main_conf_t   *amcf;
    ngx_http_axion_remote_tls_t   tls;

    value = cf->args->elts;

    if (cf->args->nelts < 2) {
        return "invalid number of parameters of \"remote\"";
    }

    remote = ngx_pcalloc(cf->pool, sizeof(ngx_http_axion_remote_t));
    if (remote == NULL) {
        return NGX_CONF_ERROR;
    }

    remote->token_bytes = NGX_HTTP_AXION_TOKEN_BYTES;

    remote->conf.connect_timeout = NGX_CONF_UNSET_MSEC;
    remote->conf.send_timeout = NGX_HTTP_AXION_REMOTE_TIMEOUT;
    remote->conf.read_timeout = NGX_HTTP_AXION_REMOTE_TIMEOUT;
    remote->conf.buffer_size = NGX_HTTP_AXION_REMOTE_HEADER;
    remote->conf.ignore_client_abort = 1;

    /* a completion changes nothing there, and before its first byte nobody
     * has seen any of it: it may be asked for again */

    remote->conf.next_upstream = NGX_HTTP_UPSTREAM_FT_ERROR
                                 |NGX_HTTP_UPSTREAM_FT_TIMEOUT
                                 |NGX_HTTP_UPSTREAM_FT_INVALID_HEADER
                                 |NGX_HTTP_UPSTREAM_FT_HTTP_500
                                 |NGX_HTTP_UPSTREAM_FT_HTTP_502
                                 |NGX_HTTP_UPSTREAM_FT_HTTP_503
                                 |NGX_HTTP_UPSTREAM_FT_HTTP_504
                                 |NGX_HTTP_UPSTREAM_FT_HTTP_429
                                 |NGX_HTTP_UPSTREAM_FT_NON_IDEMPOTENT;

    ngx_memzero(&tls, sizeof(ngx_http_axion_remote_tls_t));
    ngx_str_set(&tls.ca, NGX_HTTP_AXION_REMOTE_CA);
    tls.verify = NGX_CONF_UNSET;

    rv = ngx_http_axion_remote_url(cf, remote, value[1]);

    for (i = 2; rv == NGX_CONF_OK && i < cf->args->nelts; i++) {
        rv = ngx_http_axion_remote_param(cf, remote, &value[i], &tls);
    }

    if (rv == NGX_CONF_OK) {
        rv = ngx_http_axion_remote_tls(cf, remote, &tls);
    }

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_axion_module);

    if (amcf->n_remotes == NGX_HTTP_AXION_REMOTES_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "more than %d remotes",
                           (int) NGX_HTTP_AXION_REMOTES_MAX);
        return NGX_CONF_ERROR;
    }

    amcf->n_remotes++;

    remote->label.len = upstream->name.len + 1 + remote->name.len;
    remote->label.data = ngx_pnalloc(cf->pool, remote->label.len + 1);
    if (remote->label.data == NULL) {
        return NGX_CONF_ERROR;
    }

    p = ngx_sprintf(remote->label.data, "%V/%V", &upstream->name,
                    &remote->name);
    *p = '\0';

    remote->number = axion_tenant_number((char *) remote->label.data,
                                         remote->label.len);

    r = upstream->remotes.elts;

    for (i = 0; i < upstream->remotes.nelts; i++) {
        if (r[i]->label.len == remote->label.len
            && ngx_strcmp(r[i]->label.data, remote->label.data) == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate remote \"%V\"", &remote->name);
            return NGX_CONF_ERROR;
        }
    }

    r = ngx_array_push(&upstream->remotes);
    if (r == NULL) {
        return NGX_CONF_ERROR;
    }

    *r = remote;

    return NGX_CONF_OK;
}


static char *
ngx_http_axion_remote_url(ngx_conf_t *cf, ngx_http_axion_remote_t *remote,
    ngx_str_t url)
{
    ngx_url_t  u;

    ngx_memzero(&u, sizeof(ngx_url_t));
    u.default_port = 80;

    if (url.len > 7 && ngx_strncasecmp(url.data, (u_char *) "http://", 7) == 0)
    {
        url.data += 7;
        url.len -= 7;

    } else if (url.len > 8
               && ngx_strncasecmp(url.data, (u_char *) "https://", 8) == 0)
    {
        url.data += 8;
        url.len -= 8;
        remote->tls = 1;
        u.default_port = 443;
    }

    u.url = url;
    u.uri_part = 1;
    u.no_resolve = 1;

    remote->conf.upstream = ngx_http_upstream_add(cf, &u, 0);
    if (remote->conf.upstream == NULL) {
        return NGX_CONF_ERROR;
    }

    /* with its port, if it has one */

    remote->name.data = url.data;
    remote->name.len = url.len - u.uri.len;
    remote->host = remote->name;
    remote->prefix = u.uri;

    if (u.host.len == 0) {
        return "no name in \"remote\"";
    }

    while (remote->prefix.len != 0
           && remote->prefix.data[remote->prefix.len - 1] == '/')
    {
        remote->prefix.len--;
    }

    if (u.uri.len == 0) {
        ngx_str_set(&remote->prefix, "/v1");
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_axion_remote_param(ngx_conf_t *cf, ngx_http_axion_remote_t *remote,
    ngx_str_t *arg, ngx_http_axion_remote_tls_t *tls)
{
    ngx_int_t   n;
    ngx_str_t   value;
    ngx_uint_t  i;

    static const ngx_str_t  names[] = {
        ngx_string("models="), ngx_string("model="), ngx_string("key="),
        ngx_string("host="), ngx_string("verify="), ngx_string("ca="),
        ngx_string("timeout="), ngx_string("queue="),
        ngx_string("context="), ngx_string("bytes_per_token="),
        ngx_string("usage_floor=")
    };

    if (ngx_strcmp(arg->data, "backup") == 0) {
        remote->backup = 1;
        return NGX_CONF_OK;
    }

    for (i = 0; i < sizeof(names) / sizeof(ngx_str_t); i++) {
        if (arg->len > names[i].len
            && ngx_strncmp(arg->data, names[i].data, names[i].len) == 0)
        {
            break;
        }
    }

    if (i == sizeof(names) / sizeof(ngx_str_t)) {
        goto invalid;
    }

    value.data = arg->data + names[i].len;
    value.len = arg->len - names[i].len;

    switch (i) {

    case 0:
        return ngx_http_axion_remote_models(cf, remote, value);

    case 1:
        if (value.len > AXION_MODEL_BYTES_MAX) {
            goto invalid;
        }

        remote->model = value;
        return NGX_CONF_OK;

    case 2:
        return ngx_http_axion_remote_key(cf, remote, value);

    case 3:
        remote->host = value;
        return NGX_CONF_OK;

    case 4:
        if (ngx_strcmp(value.data, "on") != 0
            && ngx_strcmp(value.data, "off") != 0)
        {
            goto invalid;
        }

        tls->verify = (ngx_strcmp(value.data, "on") == 0);
        return NGX_CONF_OK;

    case 5:
        tls->ca = value;

        if (tls->verify == NGX_CONF_UNSET) {
            tls->verify = 1;
        }

        return NGX_CONF_OK;

    case 6:
        n = ngx_parse_time(&value, 0);

        if (n == NGX_ERROR || n == 0) {
            goto invalid;
        }

        remote->conf.read_timeout = n;
        remote->conf.send_timeout = n;
        return NGX_CONF_OK;

    case 7:
        n = ngx_atoi(value.data, value.len);

        if (n == NGX_ERROR || n == 0) {
            goto invalid;
        }

        remote->queue = n;
        return NGX_CONF_OK;

    case 8:
        if (axion_tokens_parse(&remote->context, (char *) value.data,
                               value.len)
            != AXION_OK)
        {
            goto invalid;
        }

        return NGX_CONF_OK;

    case 9:
        n = ngx_atoi(value.data, value.len);

        if (n < 1 || n > NGX_HTTP_AXION_REMOTE_BYTES_MAX) {
            goto invalid;
        }

        remote->token_bytes = n;
        return NGX_CONF_OK;

    default: /* usage_floor= */
        if (ngx_strcmp(value.data, "on") != 0
            && ngx_strcmp(value.data, "off") != 0)
        {
            goto invalid;
        }

        remote->believed = (ngx_strcmp(value.data, "off") == 0);
        return NGX_CONF_OK;
    }

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid parameter \"%V\" of \"remote\"", arg);

    return NGX_CONF_ERROR;
}


/* Names or globs with commas between. */
static char *
ngx_http_axion_remote_models(ngx_conf_t *cf, ngx_http_axion_remote_t *remote,
    ngx_str_t list)
{
    u_char                    *p, *last, *end;
    struct axion_text         *model;
    struct axion_board_model  *listed;

    if (remote->models == NULL) {
        remote->models = ngx_array_create(cf->pool, 4,
                                          sizeof(struct axion_text));
        if (remote->models == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    end = list.data + list.len;

    for (p = list.data; p <= end; p = last + 1) {

        last = ngx_strlchr(p, end, ',');

        if (last == NULL) {
            last = end;
        }

        if (last == p || last - p > (ssize_t) AXION_MODEL_BYTES_MAX) {
            return "invalid \"models\" of \"remote\"";
        }

        model = ngx_array_push(remote->models);
        if (model == NULL) {
            return NGX_CONF_ERROR;
        }

        model->data = (char *) p;
        model->bytes = (uint32_t) (last - p);

        /* a name that is none for many is listed at /v1/models */

        if (memchr(p, '*', last - p) == NULL
            && memchr(p, '?', last - p) == NULL
            && last - p < (ssize_t) AXION_NAME_BYTES
            && remote->board.n_models < AXION_MODELS_MAX)
        {
            listed = &remote->board.models[remote->board.n_models++];
            ngx_memcpy(listed->id, p, last - p);
            listed->created = (uint64_t) ngx_time();
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_axion_remote_key(ngx_conf_t *cf, ngx_http_axion_remote_t *remote,
    ngx_str_t value)
{
    ngx_str_t                          path;
    ngx_http_compile_complex_value_t   ccv;

    remote->key = ngx_pcalloc(cf->pool, sizeof(ngx_http_complex_value_t));
    if (remote->key == NULL) {
        return NGX_CONF_ERROR;
    }

    if (ngx_strncmp(value.data, "file:", 5) == 0) {
        path.data = value.data + 5;
        path.len = value.len - 5;

        return ngx_http_axion_remote_key_file(cf, &path,
                                              &remote->key->value);
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));
    ccv.cf = cf;
    ccv.value = &value;
    ccv.complex_value = remote->key;

    if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* A key is printable ASCII without spaces. */
static char *
ngx_http_axion_remote_key_file(ngx_conf_t *cf, ngx_str_t *path,
    ngx_str_t *key)
{
    size_t  i;

    key->data = ngx_pnalloc(cf->pool, NGX_HTTP_AXION_REMOTE_KEY_MAX);
    if (key->data == NULL) {
        return NGX_CONF_ERROR;
    }

    key->len = NGX_HTTP_AXION_REMOTE_KEY_MAX;

    if (ngx_http_axion_secret_file(cf, path, key) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    for (i = 0; i < key->len; i++) {
        if (key->data[i] <= 0x20 || key->data[i] >= 0x7f) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "the first line of \"%V\" has characters that "
                               "no key has", path);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


#if (NGX_HTTP_SSL)

static char *
ngx_http_axion_remote_tls(ngx_conf_t *cf, ngx_http_axion_remote_t *remote,
    ngx_http_axion_remote_tls_t *tls)
{
    ngx_ssl_t           *ssl;
    ngx_pool_cleanup_t  *cln;

    if (!remote->tls) {
        return (tls->verify == NGX_CONF_UNSET)
                   ? NGX_CONF_OK
                   : "\"verify\" and \"ca\" of \"remote\" need https://";
    }

    ssl = ngx_pcalloc(cf->pool, sizeof(ngx_ssl_t));
    cln = ngx_pool_cleanup_add(cf->pool, 0);

    if (ssl == NULL || cln == NULL) {
        return NGX_CONF_ERROR;
    }

    ssl->log = cf->log;

    if (ngx_ssl_create(ssl, NGX_SSL_TLSv1_2|NGX_SSL_TLSv1_3, NULL) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    cln->handler = ngx_ssl_cleanup_ctx;
    cln->data = ssl;

    if (tls->verify != 0) {
        if (ngx_ssl_trusted_certificate(cf, ssl, &tls->ca, 4) != NGX_OK) {
            return NGX_CONF_ERROR;
        }

        remote->conf.ssl_verify = 1;
    }

    remote->conf.ssl_session_reuse = 1;

    if (ngx_ssl_client_session_cache(cf, ssl, 1) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    remote->conf.ssl_name = ngx_pcalloc(cf->pool,
                                        sizeof(ngx_http_complex_value_t));
    if (remote->conf.ssl_name == NULL) {
        return NGX_CONF_ERROR;
    }

    remote->conf.ssl_name->value = remote->host;
    remote->conf.ssl_server_name = 1;
    remote->conf.ssl = ssl;

    return NGX_CONF_OK;
}

#else

static char *
ngx_http_axion_remote_tls(ngx_conf_t *cf, ngx_http_axion_remote_t *remote,
    ngx_http_axion_remote_tls_t *tls)
{
    return (remote->tls || tls->verify != NGX_CONF_UNSET)
               ? "https:// of \"remote\" needs nginx with SSL" : NGX_CONF_OK;
}

#endif


/* Every remote's entry in the zone, kept over a reload by its label. */
void
ngx_http_axion_zone_remotes(ngx_http_axion_main_conf_t *amcf)
{
    ngx_uint_t                       i, j, k, pass;
    ngx_http_axion_remote_t        **remote;
    ngx_http_axion_upstream_t      **upstream;
    ngx_http_axion_remote_stats_t   *stats;

    stats = amcf->zone->remotes;
    upstream = amcf->upstreams.elts;

    /* first those that are there, then what is left for the others */

    for (pass = 0; pass < 2; pass++) {

        for (i = 0; i < amcf->upstreams.nelts; i++) {
            remote = upstream[i]->remotes.elts;

            for (j = 0; j < upstream[i]->remotes.nelts; j++) {

                for (k = 0; remote[j]->stats == NULL
                            && k < NGX_HTTP_AXION_REMOTES_MAX; k++)
                {
                    if (pass == 0
                        && ngx_strncmp(stats[k].name, remote[j]->label.data,
                                       sizeof(stats[k].name) - 1) == 0)
                    {
                        remote[j]->stats = &stats[k];
                    }

                    if (pass == 1
                        && !ngx_http_axion_stats_used(amcf, &stats[k]))
                    {
                        ngx_memzero(&stats[k],
                                    sizeof(ngx_http_axion_remote_stats_t));
                        ngx_cpystrn(stats[k].name, remote[j]->label.data,
                                    sizeof(stats[k].name));
                        remote[j]->stats = &stats[k];
                    }
                }
            }
        }
    }
}


static ngx_uint_t
ngx_http_axion_stats_used(ngx_http_axion_main_conf_t *amcf,
    ngx_http_axion_remote_stats_t *stats)
{
    ngx_uint_t                   i, j;
    ngx_http_axion_remote_t    **remote;
    ngx_http_axion_upstream_t  **upstream;

    upstream = amcf->upstreams.elts;

    for (i = 0; i < amcf->upstreams.nelts; i++) {
        remote = upstream[i]->remotes.elts;

        for (j = 0; j < upstream[i]->remotes.nelts; j++) {
            if (remote[j]->stats == stats) {
                return 1;
            }
        }
    }

    return 0;
}
