/*
 * axion_quota URL [prefix=] [lease=] [timeout=] [fail=] [password_file=]
 *     [ssl_verify=] [ssl_trusted_certificate=] [ssl_name=];
 *
 * The URL's host is resolved here, and so is a password in a file read: a
 * change of either takes a reload.  No message repeats the URL or a password.
 */


#include "ngx_module/ngx_http_axion_quota.h"


#define NGX_HTTP_AXION_QUOTA_PERMILLE     50
#define NGX_HTTP_AXION_QUOTA_TIMEOUT      250
#define NGX_HTTP_AXION_QUOTA_TIMEOUT_MAX  60000
#define NGX_HTTP_AXION_QUOTA_BACKOFF      100


/* What the words say, before it is put to work. */
typedef struct {
    ngx_str_t   prefix;
    ngx_str_t   password_file;
    ngx_str_t   trusted;
    ngx_str_t   ssl_name;
    ngx_flag_t  ssl_verify;
    ngx_uint_t  permille;
    ngx_msec_t  timeout;
    ngx_uint_t  fail_open;
    unsigned    tls:1;                       /* some ssl_ word */
} ngx_http_axion_quota_words_t;


static char *ngx_http_axion_quota_word(ngx_conf_t *cf, ngx_str_t *word,
    ngx_http_axion_quota_words_t *words);
static ngx_uint_t ngx_http_axion_quota_value(ngx_str_t *word,
    const char *name, ngx_str_t *value);
static ngx_uint_t ngx_http_axion_quota_percent(ngx_str_t *value);
static char *ngx_http_axion_quota_password(ngx_conf_t *cf,
    ngx_http_axion_quota_t *quota, ngx_str_t *file);
static char *ngx_http_axion_quota_resolve(ngx_conf_t *cf,
    ngx_http_axion_quota_t *quota);
static char *ngx_http_axion_quota_tls(ngx_conf_t *cf,
    ngx_http_axion_quota_t *quota, ngx_http_axion_quota_words_t *words);


char *
ngx_http_axion_quota(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_axion_main_conf_t  *amcf = conf;

    char                          *rv, why[120];
    ngx_str_t                     *value;
    ngx_uint_t                     i;
    struct axion_text              url;
    ngx_http_axion_quota_t        *quota;
    ngx_http_axion_quota_words_t   words;

    if (amcf->quota != NULL) {
        return "is duplicate";
    }

    quota = ngx_pcalloc(cf->pool, sizeof(ngx_http_axion_quota_t));
    if (quota == NULL) {
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;
    url = ngx_http_axion_text(&value[1]);

    if (axion_quota_url_parse(&quota->url, &url, why, sizeof(why))
        != AXION_OK)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid URL in \"axion_quota\": %s", why);
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&words, sizeof(ngx_http_axion_quota_words_t));
    ngx_str_set(&words.prefix, "axion:");
    words.permille = NGX_HTTP_AXION_QUOTA_PERMILLE;
    words.timeout = NGX_HTTP_AXION_QUOTA_TIMEOUT;
    words.ssl_verify = 1;

    for (i = 2; i < cf->args->nelts; i++) {
        rv = ngx_http_axion_quota_word(cf, &value[i], &words);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    quota->prefix.len = words.prefix.len;
    quota->prefix.data = ngx_pnalloc(cf->pool, words.prefix.len + 1);
    if (quota->prefix.data == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_cpystrn(quota->prefix.data, words.prefix.data, words.prefix.len + 1);

    quota->permille = words.permille;
    quota->timeout = words.timeout;
    quota->fail_open = words.fail_open;

    rv = ngx_http_axion_quota_password(cf, quota, &words.password_file);

    if (rv == NGX_CONF_OK) {
        rv = ngx_http_axion_quota_resolve(cf, quota);
    }

    if (rv == NGX_CONF_OK) {
        rv = ngx_http_axion_quota_tls(cf, quota, &words);
    }

    amcf->quota = quota;

    return rv;
}


/* 1: the word is name=..., of which this is the rest. */
static ngx_uint_t
ngx_http_axion_quota_value(ngx_str_t *word, const char *name,
    ngx_str_t *value)
{
    size_t  len;

    len = ngx_strlen(name);

    if (word->len <= len || ngx_strncmp(word->data, name, len) != 0) {
        return 0;
    }

    value->data = word->data + len;
    value->len = word->len - len;

    return 1;
}


/* 0.1% to 50%, in thousandths; 0: it is none. */
static ngx_uint_t
ngx_http_axion_quota_percent(ngx_str_t *value)
{
    ngx_int_t  n;

    if (value->len < 2 || value->data[value->len - 1] != '%') {
        return 0;
    }

    n = ngx_atofp(value->data, value->len - 1, 1);

    return (n < 1 || n > (ngx_int_t) AXION_SHARE_PERMILLE_MAX) ? 0 : n;
}


static char *
ngx_http_axion_quota_word(ngx_conf_t *cf, ngx_str_t *word,
    ngx_http_axion_quota_words_t *words)
{
    size_t      i;
    ngx_str_t   value;

    if (ngx_http_axion_quota_value(word, "prefix=", &value)) {
        words->prefix = value;

        for (i = 0; i < value.len; i++) {
            if (value.data[i] <= ' ' || value.data[i] >= 0x7f
                || value.data[i] == '{' || value.data[i] == '}')
            {
                goto invalid;
            }
        }

        if (value.len <= AXION_QUOTA_PREFIX_MAX) {
            return NGX_CONF_OK;
        }

    } else if (ngx_http_axion_quota_value(word, "lease=", &value)) {
        words->permille = ngx_http_axion_quota_percent(&value);

        if (words->permille != 0) {
            return NGX_CONF_OK;
        }

    } else if (ngx_http_axion_quota_value(word, "timeout=", &value)) {
        words->timeout = ngx_parse_time(&value, 0);

        if (words->timeout >= 1
            && words->timeout <= NGX_HTTP_AXION_QUOTA_TIMEOUT_MAX)
        {
            return NGX_CONF_OK;
        }

    } else if (ngx_strcmp(word->data, "fail=open") == 0
               || ngx_strcmp(word->data, "fail=closed") == 0)
    {
        words->fail_open = (word->len == sizeof("fail=open") - 1);
        return NGX_CONF_OK;

    } else if (ngx_http_axion_quota_value(word, "password_file=",
                                          &words->password_file))
    {
        return NGX_CONF_OK;

    } else if (ngx_strcmp(word->data, "ssl_verify=on") == 0
               || ngx_strcmp(word->data, "ssl_verify=off") == 0)
    {
        words->tls = 1;
        words->ssl_verify = (word->len == sizeof("ssl_verify=on") - 1);
        return NGX_CONF_OK;

    } else if (ngx_http_axion_quota_value(word, "ssl_trusted_certificate=",
                                          &words->trusted)
               || ngx_http_axion_quota_value(word, "ssl_name=",
                                             &words->ssl_name))
    {
        words->tls = 1;
        return NGX_CONF_OK;
    }

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"", word);

    return NGX_CONF_ERROR;
}


static char *
ngx_http_axion_quota_password(ngx_conf_t *cf, ngx_http_axion_quota_t *quota,
    ngx_str_t *file)
{
    ngx_str_t  password;

    if (file->len == 0) {
        return NGX_CONF_OK;
    }

    if (quota->url.password[0] != '\0') {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"password_file\" and a password in the URL");
        return NGX_CONF_ERROR;
    }

    password.data = (u_char *) quota->url.password;
    password.len = AXION_QUOTA_PASSWORD_BYTES;

    return (ngx_http_axion_secret_file(cf, file, &password) == NGX_OK)
               ? NGX_CONF_OK : NGX_CONF_ERROR;
}


static char *
ngx_http_axion_quota_resolve(ngx_conf_t *cf, ngx_http_axion_quota_t *quota)
{
    u_char     *p;
    size_t      len;
    ngx_url_t   u;
    ngx_uint_t  v6;

    len = ngx_strlen(quota->url.host);
    v6 = ngx_strchr(quota->url.host, ':') != NULL && !quota->url.local;

    p = ngx_pnalloc(cf->pool, len + sizeof("rediss://[]:65535/65535"));
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&u, sizeof(ngx_url_t));
    u.url.data = p;
    u.url.len = ngx_sprintf(p, quota->url.local ? "unix:%s" : "%s%s%s",
                            quota->url.local ? quota->url.host
                                             : v6 ? "[" : "",
                            quota->url.host, v6 ? "]" : "")
                - p;
    u.default_port = quota->url.port;

    if (ngx_parse_url(cf->pool, &u) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "%s in the host of \"axion_quota\"",
                           u.err != NULL ? u.err : "no memory");
        return NGX_CONF_ERROR;
    }

    quota->addrs = u.addrs;
    quota->n_addrs = u.naddrs;

    p = ngx_pnalloc(cf->pool, len + sizeof("redis+unix://[]:65535/65535"));
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    quota->name.data = p;

    if (quota->url.local) {
        p = ngx_sprintf(p, "redis+unix://%s", quota->url.host);

    } else {
        p = ngx_sprintf(p, "%s://%V:%ud", quota->url.tls ? "rediss" : "redis",
                        &u.url, (unsigned) quota->url.port);
    }

    quota->name.len = p - quota->name.data;

    return NGX_CONF_OK;
}


#if (NGX_SSL)

static char *
ngx_http_axion_quota_tls(ngx_conf_t *cf, ngx_http_axion_quota_t *quota,
    ngx_http_axion_quota_words_t *words)
{
    ngx_pool_cleanup_t  *cln;

    if (!quota->url.tls) {

        if (words->tls) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"ssl_\" parameters need a rediss:// URL");
            return NGX_CONF_ERROR;
        }

        return NGX_CONF_OK;
    }

    if (words->ssl_verify && words->trusted.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no \"ssl_trusted_certificate\" to verify the "
                           "certificate of \"axion_quota\" by");
        return NGX_CONF_ERROR;
    }

    quota->ssl = ngx_pcalloc(cf->pool, sizeof(ngx_ssl_t));
    if (quota->ssl == NULL) {
        return NGX_CONF_ERROR;
    }

    quota->ssl->log = cf->log;

    if (ngx_ssl_create(quota->ssl, NGX_SSL_TLSv1_2|NGX_SSL_TLSv1_3, NULL)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        ngx_ssl_cleanup_ctx(quota->ssl);
        return NGX_CONF_ERROR;
    }

    cln->handler = ngx_ssl_cleanup_ctx;
    cln->data = quota->ssl;

    if (words->trusted.len != 0
        && ngx_ssl_trusted_certificate(cf, quota->ssl, &words->trusted, 5)
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    quota->ssl_verify = words->ssl_verify;
    quota->ssl_name = words->ssl_name;

    if (quota->ssl_name.len == 0) {
        quota->ssl_name.data = (u_char *) quota->url.host;
        quota->ssl_name.len = ngx_strlen(quota->url.host);
    }

    return NGX_CONF_OK;
}

#else

static char *
ngx_http_axion_quota_tls(ngx_conf_t *cf, ngx_http_axion_quota_t *quota,
    ngx_http_axion_quota_words_t *words)
{
    if (quota->url.tls || words->tls) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "rediss:// needs an nginx that is built with SSL");
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}

#endif


/* After the worker has joined the balances. */
void
ngx_http_axion_quota_start(ngx_http_axion_main_conf_t *amcf)
{
    ngx_http_axion_quota_t  *quota;

    quota = amcf->quota;

    if (quota == NULL) {
        return;
    }

    quota->main = amcf;
    quota->started = 1;
    quota->state = NGX_HTTP_AXION_REDIS_DOWN;
    quota->turn = ngx_random();
    quota->backoff = NGX_HTTP_AXION_QUOTA_BACKOFF;

    ngx_queue_init(&quota->asked);
    ngx_rbtree_init(&quota->tree, &quota->sentinel, ngx_rbtree_insert_value);

    axion_balances_share(amcf->balances, (uint32_t) quota->permille);

    quota->timer.data = quota;
    quota->timer.log = ngx_cycle->log;
    quota->timer.cancelable = 1;

    quota->idle.handler = ngx_http_axion_quota_idle;
    quota->idle.data = quota;
    quota->idle.log = ngx_cycle->log;
    quota->idle.cancelable = 1;

    ngx_add_timer(&quota->idle, 1000);

    ngx_http_axion_quota_left(quota);

    ngx_http_axion_redis_connect(quota);
}


void
ngx_http_axion_quota_stop(ngx_http_axion_main_conf_t *amcf)
{
    ngx_http_axion_quota_t  *quota;
    ngx_http_axion_share_t  *share;

    quota = amcf->quota;

    if (quota == NULL || !quota->started) {
        return;
    }

    quota->started = 0;

    ngx_http_axion_redis_close(quota);

    if (quota->out != NULL) {
        ngx_free(quota->out);
        quota->out = NULL;
    }

    while (quota->shares != NULL) {
        share = quota->shares;
        quota->shares = share->next;
        ngx_free(share);
    }
}
