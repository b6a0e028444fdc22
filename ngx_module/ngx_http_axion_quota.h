/*
 * axion_quota: balances that this node shares with others through Redis.
 *
 *   _quota.c          what a tenant's share lacks is asked for; requests that
 *                     wait for the answer; leases that idle go back
 *   _quota_conf.c     the directive; a worker's start and end
 *   _quota_metrics.c  metrics and axion_status
 *   _redis.c          the worker's connection: nginx's event loop, TLS,
 *                     login, deadlines, back-off
 *
 * Each worker has a connection of its own; what they share is in the balance
 * (api/shares.h), the one open question of a tenant included.
 */
#ifndef _NGX_HTTP_AXION_QUOTA_H_INCLUDED_
#define _NGX_HTTP_AXION_QUOTA_H_INCLUDED_


#include "api/quota.h"
#include "ngx_module/ngx_http_axion_limits.h"


typedef struct ngx_http_axion_share_s  ngx_http_axion_share_t;


typedef enum {
    NGX_HTTP_AXION_REDIS_DOWN = 0,
    NGX_HTTP_AXION_REDIS_CONNECTING,
    NGX_HTTP_AXION_REDIS_LOGIN,      /* AUTH, SELECT, a probe are sent */
    NGX_HTTP_AXION_REDIS_READY
} ngx_http_axion_redis_e;


/* A tenant as one worker sees it. */
struct ngx_http_axion_share_s {
    ngx_rbtree_node_t            node;       /* key: of the number */
    ngx_http_axion_share_t      *next;       /* of all */
    uint64_t                     number;
    char                         name[AXION_TENANT_NAME_MAX];
    uint32_t                     name_bytes;
    struct axion_limits          limits;     /* of the last request */
    struct axion_demand          demand;     /* not asked for yet */
    struct axion_ask             ask;        /* if `asking` */
    ngx_msec_t                   deadline;
    ngx_msec_t                   used;       /* or seen to be */
    uint64_t                     requests;   /* of the node, so far */
    ngx_queue_t                  link;       /* in quota->asked */
    ngx_queue_t                  waiting;    /* ctx->lacking */
    unsigned                     asking:1;
    unsigned                     owing:1;    /* granted to itself */
};


struct ngx_http_axion_quota_s {
    struct axion_quota_url       url;
    ngx_str_t                    name;       /* the URL without secrets */
    ngx_str_t                    prefix;     /* NUL behind it */
    ngx_addr_t                  *addrs;
    ngx_uint_t                   n_addrs;
    ngx_uint_t                   permille;   /* a lease, of the limit */
    ngx_msec_t                   timeout;
#if (NGX_SSL)
    ngx_ssl_t                   *ssl;        /* NULL: none */
    ngx_str_t                    ssl_name;
    ngx_flag_t                   ssl_verify;
#endif
    unsigned                     fail_open:1;

    /* the worker's own */
    ngx_http_axion_main_conf_t  *main;
    ngx_http_axion_redis_e       state;
    ngx_connection_t            *connection;
    ngx_uint_t                   turn;       /* of addrs */
    ngx_log_t                    log;        /* quiet while it is away */
    ngx_event_t                  timer;      /* connect, deadline, again */
    ngx_event_t                  idle;       /* shares that nobody uses */
    ngx_msec_t                   backoff;
    ngx_msec_t                   since;      /* it is READY */
    struct axion_quota_reader   *reader;
    u_char                      *out;
    size_t                       out_room;
    size_t                       out_bytes;
    size_t                       out_sent;
    ngx_uint_t                   greetings;  /* replies to the login, left */
    char                         why[160];   /* it is away */
    ngx_queue_t                  asked;      /* share->link, in order */
    ngx_rbtree_t                 tree;
    ngx_rbtree_node_t            sentinel;
    ngx_http_axion_share_t      *shares;     /* all */
    unsigned                     away:1;     /* failed, and not back yet */
    unsigned                     erring:1;   /* it answered an error */
    unsigned                     started:1;
};


/* _quota_conf.c */
char *ngx_http_axion_quota(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
void ngx_http_axion_quota_start(ngx_http_axion_main_conf_t *amcf);
void ngx_http_axion_quota_stop(ngx_http_axion_main_conf_t *amcf);

/* _quota.c */
ngx_int_t ngx_http_axion_quota_lack(ngx_http_axion_ctx_t *ctx,
    ngx_uint_t requests, uint64_t tokens);
void ngx_http_axion_quota_low(ngx_http_axion_ctx_t *ctx);
void ngx_http_axion_quota_forget(ngx_http_axion_ctx_t *ctx);
void ngx_http_axion_quota_answered(ngx_http_axion_quota_t *quota,
    ngx_http_axion_share_t *share, const struct axion_answer *answer);
void ngx_http_axion_quota_ready(ngx_http_axion_quota_t *quota);
void ngx_http_axion_quota_lost(ngx_http_axion_quota_t *quota);
void ngx_http_axion_quota_left(ngx_http_axion_quota_t *quota);
void ngx_http_axion_quota_idle(ngx_event_t *ev);

/* _redis.c */
void ngx_http_axion_redis_connect(ngx_http_axion_quota_t *quota);
void ngx_http_axion_redis_close(ngx_http_axion_quota_t *quota);
ngx_int_t ngx_http_axion_redis_send(ngx_http_axion_quota_t *quota,
    ngx_http_axion_share_t *share);

/* _quota_metrics.c */
void ngx_http_axion_quota_metrics(struct axion_out *out,
    ngx_http_axion_main_conf_t *amcf);
void ngx_http_axion_quota_metrics_head(struct axion_out *out,
    ngx_uint_t granted);
void ngx_http_axion_quota_metrics_tenant(struct axion_out *out,
    const struct axion_text *name, const struct axion_balance *balance,
    ngx_uint_t granted);
void ngx_http_axion_quota_status(struct axion_json *json,
    ngx_http_axion_main_conf_t *amcf);


#endif /* _NGX_HTTP_AXION_QUOTA_H_INCLUDED_ */
