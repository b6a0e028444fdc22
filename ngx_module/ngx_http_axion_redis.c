/*
 * A worker's connection to the quota store, in nginx's own event loop: its
 * connect, its TLS, its buffers; hiredis only writes and reads the protocol.
 *
 *   DOWN        the timer brings the next attempt, with back-off
 *   CONNECTING  TCP and TLS; the timer bounds them
 *   LOGIN       AUTH, SELECT and a script that writes are sent; a server that
 *               is stopped accepts connections too, and a replica answers, so
 *               that only the script's answer says it is there
 *   READY       questions go out, and their answers come in the same order;
 *               the timer is the deadline of the first
 *
 * Whatever goes wrong closes the connection: replies that are late cannot be
 * told from replies to what is asked next.  Once per outage a line says so,
 * and one that it is over.  Questions that are sent again are safe
 * (api/shares.h).
 *
 * Nothing here blocks: names are resolved when the configuration is read, as
 * proxy_pass does it.
 */


#include "ngx_module/ngx_http_axion_quota.h"
#include "ngx_module/ngx_http_axion_zone.h"


#define NGX_HTTP_AXION_REDIS_CONNECT      1000
#define NGX_HTTP_AXION_REDIS_BACKOFF_MIN  100
#define NGX_HTTP_AXION_REDIS_BACKOFF_MAX  5000
#define NGX_HTTP_AXION_REDIS_OUT          (64 * 1024)
#define NGX_HTTP_AXION_REDIS_OUT_MAX      (4 * 1024 * 1024)
#define NGX_HTTP_AXION_REDIS_IN           2048


static void ngx_http_axion_redis_timer(ngx_event_t *ev);
static void ngx_http_axion_redis_connected(ngx_event_t *ev);
static ngx_int_t ngx_http_axion_redis_test(ngx_connection_t *c);
static void ngx_http_axion_redis_login(ngx_http_axion_quota_t *quota);
static ngx_int_t ngx_http_axion_redis_greet(ngx_http_axion_quota_t *quota);
static ngx_int_t ngx_http_axion_redis_put(ngx_http_axion_quota_t *quota,
    const char *command, size_t bytes);
static void ngx_http_axion_redis_write(ngx_event_t *wev);
static void ngx_http_axion_redis_read(ngx_event_t *rev);
static void ngx_http_axion_redis_replies(ngx_http_axion_quota_t *quota);
static ngx_int_t ngx_http_axion_redis_greeting(ngx_http_axion_quota_t *quota,
    const struct axion_quota_reply *reply);
static ngx_int_t ngx_http_axion_redis_probed(ngx_http_axion_quota_t *quota,
    const struct axion_quota_reply *reply);
static ngx_int_t ngx_http_axion_redis_reply(ngx_http_axion_quota_t *quota,
    const struct axion_quota_reply *reply);
static void ngx_http_axion_redis_watch(ngx_http_axion_quota_t *quota);
static void ngx_http_axion_redis_fail(ngx_http_axion_quota_t *quota,
    const char *why);
#if (NGX_SSL)
static void ngx_http_axion_redis_tls(ngx_http_axion_quota_t *quota);
static void ngx_http_axion_redis_tls_done(ngx_connection_t *c);
#endif


void
ngx_http_axion_redis_connect(ngx_http_axion_quota_t *quota)
{
    ngx_int_t               rc;
    ngx_addr_t             *addr;
    ngx_connection_t       *c;
    ngx_peer_connection_t   pc;

    /* a refused connection is not worth a line at every attempt */

    quota->log = *ngx_cycle->log;

    if (quota->away) {
        quota->log.log_level = NGX_LOG_EMERG;
    }

    addr = &quota->addrs[quota->turn++ % quota->n_addrs];

    ngx_memzero(&pc, sizeof(ngx_peer_connection_t));
    pc.sockaddr = addr->sockaddr;
    pc.socklen = addr->socklen;
    pc.name = &addr->name;
    pc.get = ngx_event_get_peer;
    pc.log = &quota->log;
    pc.log_error = NGX_ERROR_INFO;

    quota->state = NGX_HTTP_AXION_REDIS_CONNECTING;
    quota->timer.handler = ngx_http_axion_redis_timer;

    if (axion_quota_reader_open(&quota->reader) != AXION_OK) {
        ngx_http_axion_redis_fail(quota, "no memory");
        return;
    }

    rc = ngx_event_connect_peer(&pc);
    c = pc.connection;

    if (rc == NGX_ERROR || rc == NGX_BUSY || rc == NGX_DECLINED) {

        if (c != NULL) {
            ngx_close_connection(c);
        }

        ngx_http_axion_redis_fail(quota, "it does not accept connections");
        return;
    }

    quota->connection = c;
    c->data = quota;
    c->log = &quota->log;
    c->read->log = c->log;
    c->write->log = c->log;
    c->read->handler = ngx_http_axion_redis_connected;
    c->write->handler = ngx_http_axion_redis_connected;

    c->pool = ngx_create_pool(512, c->log);
    if (c->pool == NULL) {
        ngx_http_axion_redis_fail(quota, "no memory");
        return;
    }

    ngx_add_timer(&quota->timer, NGX_HTTP_AXION_REDIS_CONNECT);

    if (rc == NGX_OK) {
        ngx_post_event(c->write, &ngx_posted_events);
    }
}


void
ngx_http_axion_redis_close(ngx_http_axion_quota_t *quota)
{
    ngx_pool_t        *pool;
    ngx_connection_t  *c;

    c = quota->connection;
    quota->connection = NULL;
    quota->state = NGX_HTTP_AXION_REDIS_DOWN;
    quota->greetings = 0;

    if (quota->out_bytes != 0) {
        ngx_explicit_memzero(quota->out, quota->out_bytes);
    }

    quota->out_bytes = 0;
    quota->out_sent = 0;

    axion_quota_reader_close(quota->reader);
    quota->reader = NULL;

    if (quota->timer.timer_set) {
        ngx_del_timer(&quota->timer);
    }

    if (c == NULL) {
        return;
    }

#if (NGX_SSL)
    if (c->ssl) {
        c->ssl->no_wait_shutdown = 1;
        c->ssl->no_send_shutdown = 1;
        (void) ngx_ssl_shutdown(c);
    }
#endif

    pool = c->pool;
    ngx_close_connection(c);

    if (pool != NULL) {
        ngx_destroy_pool(pool);
    }
}


static void
ngx_http_axion_redis_fail(ngx_http_axion_quota_t *quota, const char *why)
{
    ngx_uint_t  level;

    level = quota->away ? NGX_LOG_INFO : NGX_LOG_ERR;
    quota->away = 1;

    /* who errs at questions, of one slot in a cluster say, lets in at once */

    if (quota->state == NGX_HTTP_AXION_REDIS_READY
        && ngx_current_msec - quota->since > NGX_HTTP_AXION_REDIS_BACKOFF_MAX)
    {
        quota->erring = 0;
        quota->backoff = NGX_HTTP_AXION_REDIS_BACKOFF_MIN;
    }

    (void) ngx_cpystrn((u_char *) quota->why, (u_char *) why,
                       sizeof(quota->why));

    (void) ngx_atomic_fetch_add(&quota->main->zone->stats.quota_failures, 1);

    ngx_http_axion_redis_close(quota);

    ngx_log_error(level, ngx_cycle->log, 0,
                  "axion: quota store \"%V\" is away: %s; this node goes on "
                  "with what it was granted, then %s", &quota->name,
                  quota->why,
                  quota->fail_open ? "on its own (fail=open)"
                                   : "refuses (fail=closed)");

    ngx_add_timer(&quota->timer,
                  quota->backoff + ngx_random() % (quota->backoff / 4));

    quota->backoff = ngx_min(quota->backoff * 2,
                             NGX_HTTP_AXION_REDIS_BACKOFF_MAX);

    /* those who wait go by quota->away from here on */

    ngx_http_axion_quota_lost(quota);
}


static void
ngx_http_axion_redis_timer(ngx_event_t *ev)
{
    ngx_http_axion_quota_t  *quota = ev->data;

    switch (quota->state) {

    case NGX_HTTP_AXION_REDIS_DOWN:
        ngx_http_axion_redis_connect(quota);
        return;

    case NGX_HTTP_AXION_REDIS_CONNECTING:
        ngx_http_axion_redis_fail(quota, "no connection in time");
        return;

    case NGX_HTTP_AXION_REDIS_LOGIN:
        ngx_http_axion_redis_fail(quota, "no answer to the login in time");
        return;

    default: /* NGX_HTTP_AXION_REDIS_READY */
        ngx_http_axion_redis_watch(quota);
        return;
    }
}


/* The deadline of the first question: over, or to be waited for. */
static void
ngx_http_axion_redis_watch(ngx_http_axion_quota_t *quota)
{
    ngx_msec_int_t           left;
    ngx_http_axion_share_t  *share;

    if (quota->timer.timer_set) {
        ngx_del_timer(&quota->timer);
    }

    if (ngx_queue_empty(&quota->asked)) {
        return;
    }

    share = ngx_queue_data(ngx_queue_head(&quota->asked),
                           ngx_http_axion_share_t, link);
    left = (ngx_msec_int_t) (share->deadline - ngx_current_msec);

    if (left > 0) {
        ngx_add_timer(&quota->timer, (ngx_msec_t) left);
        return;
    }

    ngx_http_axion_redis_fail(quota, "no answer in time");
}


/* ---- connecting ---- */


static ngx_int_t
ngx_http_axion_redis_test(ngx_connection_t *c)
{
    int        err;
    socklen_t  len;

    err = 0;
    len = sizeof(int);

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, (void *) &err, &len) == -1) {
        err = ngx_socket_errno;
    }

    return (err == 0) ? NGX_OK : NGX_ERROR;
}


static void
ngx_http_axion_redis_connected(ngx_event_t *ev)
{
    ngx_connection_t        *c;
    ngx_http_axion_quota_t  *quota;

    c = ev->data;
    quota = c->data;

    if (ngx_http_axion_redis_test(c) != NGX_OK) {
        ngx_http_axion_redis_fail(quota, "it does not accept connections");
        return;
    }

    c->read->handler = ngx_http_axion_redis_read;
    c->write->handler = ngx_http_axion_redis_write;

#if (NGX_SSL)
    if (quota->ssl != NULL) {
        ngx_http_axion_redis_tls(quota);
        return;
    }
#endif

    ngx_http_axion_redis_login(quota);
}


#if (NGX_SSL)

static void
ngx_http_axion_redis_tls(ngx_http_axion_quota_t *quota)
{
    ngx_connection_t  *c;

    c = quota->connection;

    if (ngx_ssl_create_connection(quota->ssl, c, NGX_SSL_CLIENT) != NGX_OK) {
        ngx_http_axion_redis_fail(quota, "no TLS connection can be made");
        return;
    }

    /* not for an address, RFC 6066 */

    if (quota->ssl_name.len != 0
        && ngx_inet_addr(quota->ssl_name.data, quota->ssl_name.len)
           == INADDR_NONE
        && ngx_strlchr(quota->ssl_name.data, quota->ssl_name.data
                       + quota->ssl_name.len, ':') == NULL
        && SSL_set_tlsext_host_name(c->ssl->connection,
                                    (char *) quota->ssl_name.data)
           == 0)
    {
        ngx_http_axion_redis_fail(quota, "its name cannot be sent by TLS");
        return;
    }

    if (ngx_ssl_handshake(c) == NGX_AGAIN) {
        c->ssl->handler = ngx_http_axion_redis_tls_done;
        return;
    }

    ngx_http_axion_redis_tls_done(c);
}


static void
ngx_http_axion_redis_tls_done(ngx_connection_t *c)
{
    ngx_http_axion_quota_t  *quota;

    quota = c->data;

    if (!c->ssl->handshaked) {
        ngx_http_axion_redis_fail(quota, "the TLS handshake failed");
        return;
    }

    if (quota->ssl_verify
        && SSL_get_verify_result(c->ssl->connection) != X509_V_OK)
    {
        ngx_http_axion_redis_fail(quota, "its certificate is not trusted");
        return;
    }

    if (quota->ssl_verify
        && ngx_ssl_check_host(c, &quota->ssl_name) != NGX_OK)
    {
        ngx_http_axion_redis_fail(quota, "its certificate has another name");
        return;
    }

    c->read->handler = ngx_http_axion_redis_read;
    c->write->handler = ngx_http_axion_redis_write;

    ngx_http_axion_redis_login(quota);
}

#endif


static void
ngx_http_axion_redis_login(ngx_http_axion_quota_t *quota)
{
    quota->state = NGX_HTTP_AXION_REDIS_LOGIN;
    quota->greetings = 0;

    if (ngx_http_axion_redis_greet(quota) != NGX_OK) {
        ngx_http_axion_redis_fail(quota, "no memory");
        return;
    }

    ngx_http_axion_redis_write(quota->connection->write);
}


/* All at once: what is wrong with one makes the next ones fail as well. */
static ngx_int_t
ngx_http_axion_redis_greet(ngx_http_axion_quota_t *quota)
{
    int        rc;
    char      *command;
    size_t     bytes;
    ngx_int_t  put;

    enum { AUTH, SELECT, PROBE, DONE } step;

    step = (quota->url.password[0] != '\0') ? AUTH : SELECT;

    for ( /* void */ ; step != DONE; step++) {

        if (step == AUTH) {
            rc = axion_quota_auth(&command, &bytes, &quota->url);

        } else if (step == SELECT) {
            rc = axion_quota_select(&command, &bytes, quota->url.db);

        } else {
            rc = axion_quota_probe(&command, &bytes,
                                   (char *) quota->prefix.data);
        }

        if (rc != AXION_OK) {
            return NGX_ERROR;
        }

        put = ngx_http_axion_redis_put(quota, command, bytes);
        axion_quota_free(command, bytes);

        if (put != NGX_OK) {
            return NGX_ERROR;
        }

        quota->greetings++;
    }

    return NGX_OK;
}


/* ---- out ---- */


/* Into the buffer; it is sent from the event loop. */
static ngx_int_t
ngx_http_axion_redis_put(ngx_http_axion_quota_t *quota, const char *command,
    size_t bytes)
{
    size_t   room;
    u_char  *out;

    if (quota->out_bytes + bytes > quota->out_room) {

        room = ngx_max(quota->out_room * 2, NGX_HTTP_AXION_REDIS_OUT);

        while (room < quota->out_bytes + bytes) {
            room *= 2;
        }

        if (room > NGX_HTTP_AXION_REDIS_OUT_MAX) {
            return NGX_ERROR;
        }

        out = ngx_alloc(room, ngx_cycle->log);
        if (out == NULL) {
            return NGX_ERROR;
        }

        if (quota->out != NULL) {
            ngx_memcpy(out, quota->out, quota->out_bytes);
            ngx_explicit_memzero(quota->out, quota->out_bytes);
            ngx_free(quota->out);
        }

        quota->out = out;
        quota->out_room = room;
    }

    ngx_memcpy(quota->out + quota->out_bytes, command, bytes);
    quota->out_bytes += bytes;

    return NGX_OK;
}


/* share->ask; the connection is READY. */
ngx_int_t
ngx_http_axion_redis_send(ngx_http_axion_quota_t *quota,
    ngx_http_axion_share_t *share)
{
    char               *command;
    size_t              bytes;
    ngx_int_t           rc;
    struct axion_text   name;

    name.data = share->name;
    name.bytes = share->name_bytes;

    if (axion_quota_ask(&command, &bytes, (char *) quota->prefix.data, &name,
                        axion_balances_gateway(quota->main->balances),
                        &share->ask)
        != AXION_OK)
    {
        return NGX_ERROR;
    }

    rc = ngx_http_axion_redis_put(quota, command, bytes);
    axion_quota_free(command, bytes);

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    if (!quota->timer.timer_set) {
        ngx_add_timer(&quota->timer, quota->timeout);
    }

    ngx_post_event(quota->connection->write, &ngx_posted_events);

    return NGX_OK;
}


static void
ngx_http_axion_redis_write(ngx_event_t *wev)
{
    ssize_t                  n;
    ngx_connection_t        *c;
    ngx_http_axion_quota_t  *quota;

    c = wev->data;
    quota = c->data;

    while (quota->out_sent < quota->out_bytes) {

        n = c->send(c, quota->out + quota->out_sent,
                    quota->out_bytes - quota->out_sent);

        if (n == NGX_AGAIN) {
            break;
        }

        if (n == NGX_ERROR || n == 0) {
            ngx_http_axion_redis_fail(quota, "the connection is lost");
            return;
        }

        quota->out_sent += n;
    }

    if (quota->out_sent == quota->out_bytes) {

        /* it may hold a password */

        if (quota->out_bytes != 0) {
            ngx_explicit_memzero(quota->out, quota->out_bytes);
        }

        quota->out_sent = 0;
        quota->out_bytes = 0;
    }

    if (ngx_handle_write_event(wev, 0) != NGX_OK) {
        ngx_http_axion_redis_fail(quota, "its events cannot be watched");
    }
}


/* ---- in ---- */


static void
ngx_http_axion_redis_read(ngx_event_t *rev)
{
    u_char                   in[NGX_HTTP_AXION_REDIS_IN];
    ssize_t                  n;
    ngx_connection_t        *c;
    ngx_http_axion_quota_t  *quota;

    c = rev->data;
    quota = c->data;

    for ( ;; ) {

        n = c->recv(c, in, sizeof(in));

        if (n == NGX_AGAIN) {
            break;
        }

        if (n == NGX_ERROR || n == 0) {
            ngx_http_axion_redis_fail(quota, "the connection is lost");
            return;
        }

        if (axion_quota_feed(quota->reader, in, n) != AXION_OK) {
            ngx_http_axion_redis_fail(quota, "a reply is too long");
            return;
        }

        ngx_http_axion_redis_replies(quota);

        if (quota->connection != c) {
            return;
        }
    }

    if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        ngx_http_axion_redis_fail(quota, "its events cannot be watched");
    }
}


static void
ngx_http_axion_redis_replies(ngx_http_axion_quota_t *quota)
{
    int                        rc;
    ngx_int_t                  good;
    struct axion_quota_reply   reply;

    for ( ;; ) {

        rc = axion_quota_next(quota->reader, &reply);

        if (rc == AXION_AGAIN) {
            return;
        }

        if (rc != AXION_OK) {
            ngx_http_axion_redis_fail(quota, "it does not speak Redis's "
                                             "protocol");
            return;
        }

        good = (quota->state == NGX_HTTP_AXION_REDIS_LOGIN)
                   ? ngx_http_axion_redis_greeting(quota, &reply)
                   : ngx_http_axion_redis_reply(quota, &reply);

        if (good != NGX_OK) {
            return;
        }
    }
}


static ngx_int_t
ngx_http_axion_redis_greeting(ngx_http_axion_quota_t *quota,
    const struct axion_quota_reply *reply)
{
    size_t      word;
    u_char      why[160];
    ngx_uint_t  away;

    if (quota->greetings == 1) {

        if (ngx_http_axion_redis_probed(quota, reply) != NGX_OK) {
            return NGX_ERROR;
        }

    } else if (reply->kind != AXION_QUOTA_STATUS) {

        /* no more than its first word: an error may repeat what was sent */

        word = strcspn(reply->text, " ");
        (void) ngx_snprintf(why, sizeof(why), "the login is refused: %*s%Z",
                            ngx_min(word, 32), reply->text);
        ngx_http_axion_redis_fail(quota, (char *) why);
        return NGX_ERROR;
    }

    if (--quota->greetings != 0) {
        return NGX_OK;
    }

    away = quota->away;

    quota->state = NGX_HTTP_AXION_REDIS_READY;
    quota->since = ngx_current_msec;
    quota->away = 0;
    quota->log = *ngx_cycle->log;

    if (!quota->erring) {
        quota->backoff = NGX_HTTP_AXION_REDIS_BACKOFF_MIN;
    }

    if (quota->timer.timer_set) {
        ngx_del_timer(&quota->timer);
    }

    (void) ngx_atomic_fetch_add(&quota->main->zone->stats.quota_connects, 1);

    ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                  "axion: quota store \"%V\" is %s", &quota->name,
                  away ? "back" : "connected");

    ngx_http_axion_quota_ready(quota);

    return NGX_OK;
}


/* The last of the login: questions will be heard. */
static ngx_int_t
ngx_http_axion_redis_probed(ngx_http_axion_quota_t *quota,
    const struct axion_quota_reply *reply)
{
    u_char  why[160];

    if (reply->kind == AXION_QUOTA_INTEGERS && reply->n == 1
        && reply->n_expected == 1)
    {
        return NGX_OK;
    }

    if (reply->kind == AXION_QUOTA_ERROR) {
        (void) ngx_snprintf(why, sizeof(why), "it answers \"%s\"%Z",
                            reply->text);
        ngx_http_axion_redis_fail(quota, (char *) why);

    } else {
        ngx_http_axion_redis_fail(quota, "its answer to the login is none");
    }

    return NGX_ERROR;
}


static ngx_int_t
ngx_http_axion_redis_reply(ngx_http_axion_quota_t *quota,
    const struct axion_quota_reply *reply)
{
    u_char                   why[160];
    struct axion_answer      answer;
    ngx_http_axion_share_t  *share;

    if (ngx_queue_empty(&quota->asked)) {
        ngx_http_axion_redis_fail(quota, "it speaks without being asked");
        return NGX_ERROR;
    }

    if (reply->kind == AXION_QUOTA_ERROR) {
        (void) ngx_snprintf(why, sizeof(why), "it answers \"%s\"%Z",
                            reply->text);
        ngx_http_axion_redis_fail(quota, (char *) why);
        quota->erring = 1;
        return NGX_ERROR;
    }

    share = ngx_queue_data(ngx_queue_head(&quota->asked),
                           ngx_http_axion_share_t, link);

    if (axion_quota_answer(reply, &share->ask, &answer) != AXION_OK) {
        ngx_http_axion_redis_fail(quota, "its answer is none");
        return NGX_ERROR;
    }

    ngx_http_axion_quota_answered(quota, share, &answer);
    ngx_http_axion_redis_watch(quota);

    return quota->state == NGX_HTTP_AXION_REDIS_READY ? NGX_OK : NGX_ERROR;
}
