/*
 * Remotes: OpenAI-compatible servers behind an ordinary nginx upstream {}
 * that answer requests in the place of an engine.
 *
 *   _remote_conf.c   the line `remote`, TLS, the table of counters
 *   _remote.c        which remote, and what it means that one has failed
 *   _call.c          one request to one remote: nginx's upstream machinery
 *   _call_body.c     what comes back, byte by byte, and what the client gets
 *
 * A call is a background subrequest: nginx's own upstream code connects,
 * retries between the servers of the upstream {}, keeps connections and does
 * TLS, while the client's request stays what it is with an engine: it waits,
 * is accepted, has output under back-pressure, a lease and one timer.  The
 * subrequest writes nothing; its input filter hands on what it reads, and an
 * event of its own brings that to the client outside of nginx's upstream
 * functions, so that a request never ends below them.
 */
#ifndef _NGX_HTTP_AXION_REMOTE_H_INCLUDED_
#define _NGX_HTTP_AXION_REMOTE_H_INCLUDED_


#include "api/remote.h"
#include "api/remote_floor.h"
#include "api/sse.h"
#include "ngx_module/ngx_http_axion_limits.h"
#include "ngx_module/ngx_http_axion_zone.h"


#define NGX_HTTP_AXION_EVENT_MAX   (1024 * 1024)
#define NGX_HTTP_AXION_FAULT_MAX   (64 * 1024)

/* What the log has said of a remote's usage: more than can be, less than must
 * be, a context passed. */
#define NGX_HTTP_AXION_TOLD_BOUNDED  0x01
#define NGX_HTTP_AXION_TOLD_RAISED   0x02
#define NGX_HTTP_AXION_TOLD_PASSED   0x04


typedef enum {
    NGX_HTTP_AXION_TYPE_OTHER = 0,
    NGX_HTTP_AXION_TYPE_EVENTS,
    NGX_HTTP_AXION_TYPE_JSON
} ngx_http_axion_type_e;


/* What a call may use, if there are limits. */
typedef struct {
    uint32_t                          prompt_tokens; /* estimated */
    uint32_t                          max_tokens;    /* 0: nobody says */
    ngx_uint_t                        cut;           /* fewer than asked for */
} ngx_http_axion_reserved_t;


/* A line `remote`. */
struct ngx_http_axion_remote_s {
    ngx_str_t                         name;     /* of the upstream {} */
    ngx_str_t                         label;    /* "UPSTREAM/NAME" */
    ngx_str_t                         host;     /* Host, and TLS's name */
    ngx_str_t                         prefix;   /* "/v1" */
    ngx_str_t                         model;    /* there; len 0: as asked */
    ngx_array_t                      *models;   /* globs; NULL: all */
    ngx_http_complex_value_t         *key;
    ngx_uint_t                        queue;    /* of an engine that is full */
    uint32_t                          context;  /* of its model; 0: unknown */
    ngx_uint_t                        token_bytes; /* of text, at least */
    uint64_t                          number;   /* of its label */
    ngx_http_upstream_conf_t          conf;
    ngx_http_axion_remote_stats_t    *stats;
    struct axion_board                board;    /* names that it lists */
    ngx_uint_t                        in_flight; /* the worker's own */
    ngx_uint_t                        told;      /* by this worker */
    unsigned                          backup:1;
    unsigned                          tls:1;
    unsigned                          believed:1; /* usage_floor=off */
};


struct ngx_http_axion_call_s {
    ngx_http_axion_ctx_t             *ctx;
    ngx_http_axion_remote_t          *remote;
    ngx_http_request_t               *sr;
    ngx_http_upstream_conf_t          conf;
    ngx_http_post_subrequest_t        post;
    ngx_event_t                       event;
    ngx_int_t                         rc;       /* of the subrequest */
    int                               fault;    /* why its answer is none */

    /* the response's head */
    ngx_http_status_t                 status;
    ngx_http_axion_type_e             type;
    off_t                             length;   /* -1: none given */
    ngx_http_chunked_t                chunked;
    uint32_t                          retry_after_ms;

    /* its body */
    struct axion_memory               memory;
    struct axion_sse                  sse;
    struct axion_out                  body;     /* whole, or of an error */
    struct axion_remote_answer        answer;
    struct axion_failure              cut;      /* its tenant's last token */
    size_t                            turn;     /* bytes since the event */

    ngx_http_axion_reserved_t         reserved;
    uint64_t                          started_us;

    void                            (*reader)(ngx_http_request_t *r,
                                        ngx_http_upstream_t *u);

    unsigned                          is_chunked:1;
    unsigned                          close:1;
    unsigned                          bad_head:1;
    unsigned                          headed:1;   /* 200 is here */
    unsigned                          answered:1; /* some is rendered */
    unsigned                          sent:1;     /* some went out */
    unsigned                          done:1;     /* the answer is whole */
    unsigned                          over:1;     /* nothing more is read */
    unsigned                          ended:1;    /* the subrequest is */
    unsigned                          more:1;     /* reading was broken off */
    unsigned                          held:1;     /* the client is behind */
};


/* _remote_conf.c */
char *ngx_http_axion_upstream_remote(ngx_conf_t *cf,
    ngx_http_axion_upstream_t *upstream);
void ngx_http_axion_zone_remotes(ngx_http_axion_main_conf_t *amcf);

/* _remote.c */
ngx_http_axion_remote_t *ngx_http_axion_choose_remote(
    ngx_http_axion_ctx_t *ctx, ngx_http_axion_engine_t *engine,
    const struct axion_text *model);
ngx_uint_t ngx_http_axion_overflow(ngx_http_axion_ctx_t *ctx,
    ngx_http_axion_engine_t *engine);
ngx_uint_t ngx_http_axion_overflow_only(ngx_http_axion_ctx_t *ctx);
ngx_uint_t ngx_http_axion_spill(ngx_http_axion_ctx_t *ctx, int error);
void ngx_http_axion_remote_too_long(ngx_http_axion_ctx_t *ctx);
void ngx_http_axion_remote_failed(ngx_http_axion_ctx_t *ctx,
    struct axion_failure *failure);

/* _remote_metrics.c */
void ngx_http_axion_remotes_metrics(struct axion_out *out,
    ngx_http_axion_main_conf_t *amcf);

/* _call.c */
ngx_int_t ngx_http_axion_call(ngx_http_axion_ctx_t *ctx,
    ngx_http_axion_remote_t *remote,
    const ngx_http_axion_reserved_t *reserved);
void ngx_http_axion_call_stop(ngx_http_axion_ctx_t *ctx);
void ngx_http_axion_call_hold(ngx_http_axion_ctx_t *ctx, ngx_uint_t hold);

/* _call_body.c */
ngx_int_t ngx_http_axion_call_filter_init(void *data);
ngx_int_t ngx_http_axion_call_filter(void *data, ssize_t bytes);
void ngx_http_axion_call_event(ngx_event_t *ev);


#endif /* _NGX_HTTP_AXION_REMOTE_H_INCLUDED_ */
